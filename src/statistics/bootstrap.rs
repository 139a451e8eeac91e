//! The percentile bootstrap over images (Efron & Tibshirani 1993, chapter 13), stratified by fold and class.
//!
//! Drawing n images of a stratum with replacement and counting outcomes is a multinomial draw of the outcomes' counts,
//! so that the cost depends on folds, classes and resamples, not on images. Strata keep their sizes: every resample
//! has every class in every fold that had it, and the mean over classes stays defined.

use super::{Interval, LEVEL};
use crate::seed::{self, Pcg64};
use rand_distr::{Binomial, Distribution};
use rayon::prelude::*;

/// How often the images are drawn.
pub const RESAMPLES: usize = 10_000;

/// Intervals of `statistic`'s values. `strata` has the counts of each outcome in each stratum; `statistic` makes
/// values of such counts, and which of them are defined must depend on the strata's sizes alone. Equal seeds give equal intervals on any number of threads.
pub fn bootstrap<const K: usize, const M: usize>(
    strata: &[[u64; K]],
    seed: u64,
    statistic: impl Fn(&[[u64; K]]) -> [Option<f64>; M] + Sync,
) -> [Option<Interval>; M] {
    let resamples: Vec<[Option<f64>; M]> = (0..RESAMPLES as u64)
        .into_par_iter()
        .map(|item| {
            let mut rng = seed::rng(seed, "bootstrap", 0, 0, item);
            statistic(&strata.iter().map(|counts| draw(*counts, &mut rng)).collect::<Vec<_>>())
        })
        .collect();
    std::array::from_fn(|m| {
        let mut values: Vec<f64> = resamples.iter().filter_map(|r| r[m]).collect();
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - LEVEL) / 2.0;
        Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? })
    })
}

/// As many draws as there are counts, with replacement, counted by outcome: a multinomial as a chain of binomials.
fn draw<const K: usize>(counts: [u64; K], rng: &mut Pcg64) -> [u64; K] {
    let mut left: u64 = counts.iter().sum();
    let mut weight = left;
    counts.map(|count| {
        let drawn = match count {
            0 => 0,
            all if all == weight => left,
            some => Binomial::new(left, some as f64 / weight as f64).expect("a share of 0 to 1").sample(rng),
        };
        left -= drawn;
        weight -= count;
        drawn
    })
}

/// Linear between order statistics, as numpy's default.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let at = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::mean;

    #[test]
    fn a_draw_has_the_multinomials_size_mean_and_variance() {
        let counts = [300u64, 0, 60, 40];
        let mut rng = seed::rng(0, "test", 0, 0, 0);
        let draws: Vec<[u64; 4]> = (0..20_000).map(|_| draw(counts, &mut rng)).collect();
        assert!(draws.iter().all(|d| d.iter().sum::<u64>() == 400 && d[1] == 0));
        for (k, count) in counts.iter().enumerate() {
            let values: Vec<f64> = draws.iter().map(|d| d[k] as f64).collect();
            let m = mean(&values).unwrap();
            let variance = mean(&values.iter().map(|v| (v - m) * (v - m)).collect::<Vec<_>>()).unwrap();
            let p = *count as f64 / 400.0;
            let expected = 400.0 * p * (1.0 - p);
            // Five standard errors of a mean over 20,000; the variance to a twentieth.
            assert!((m - *count as f64).abs() <= 5.0 * (expected / 20_000.0).sqrt(), "{k}: {m}");
            assert!((variance - expected).abs() <= 0.05 * expected, "{k}: {variance}");
        }
    }

    #[test]
    fn quantiles_are_numpys() {
        // numpy.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (q, expected) in [(0.025, 1.075), (0.5, 3.0), (0.975, 7.7)] {
            assert!((quantile(&sorted, q).unwrap() - expected).abs() < 1e-12);
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    /// Drawing rows, the plain way, gives the same interval up to the noise of drawing.
    #[test]
    fn counts_and_rows_agree() {
        use rand::Rng;
        let strata = [[45u64, 5], [18, 2], [30, 10]];
        let statistic = |strata: &[[u64; 2]]| {
            let shares: Vec<f64> = strata.iter().map(|[right, wrong]| *right as f64 / (right + wrong) as f64).collect();
            [mean(&shares)]
        };
        let [fast] = bootstrap(&strata, 7, statistic);
        let mut rng = seed::rng(1, "test", 0, 0, 0);
        let mut plain: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn = strata.map(|[right, wrong]| {
                    let n = right + wrong;
                    let hits = (0..n).filter(|_| rng.next_u64() % n < right).count() as u64;
                    [hits, n - hits]
                });
                statistic(&drawn)[0].unwrap()
            })
            .collect();
        plain.sort_by(f64::total_cmp);
        let fast = fast.unwrap();
        assert!((fast.low - quantile(&plain, 0.025).unwrap()).abs() < 0.005, "{fast:?}");
        assert!((fast.high - quantile(&plain, 0.975).unwrap()).abs() < 0.005, "{fast:?}");
        assert_eq!(bootstrap(&strata, 7, statistic), [Some(fast)]);
        let many = strata.map(|counts| counts.map(|n| 1000 * n));
        assert_ne!(bootstrap(&many, 7, statistic), bootstrap(&many, 8, statistic), "the seed is used");
    }
}
