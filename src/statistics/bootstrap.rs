//! The percentile bootstrap over images (Efron & Tibshirani 1993, chapter 13), stratified by fold and class.
//!
//! Sampling n images of a stratum with replacement and counting their outcomes is the same as one multinomial sample
//! of the counts, so that the cost does not depend on the number of images. Strata keep their sizes, so that every
//! resample has each class in each fold that had it, and the mean over classes stays defined.

use super::interval::{Interval, LEVEL};
use crate::seed::{self, Pcg64};
use rand_distr::{Binomial, Distribution};
use rayon::prelude::*;

/// Number of bootstrap resamples.
pub const RESAMPLES: usize = 10_000;

/// Intervals of the values of `statistic`, which always has as many.
///
/// `strata` has the counts of the `K` outcomes in each stratum, and `statistic` computes its values from such counts.
/// Whether a value is defined may depend only on the sizes of the strata; the interval of an undefined value is `None`.
/// The same seed gives the same intervals on any number of threads.
pub fn bootstrap<const K: usize>(
    strata: &[[u64; K]],
    seed: u64,
    statistic: impl Fn(&[[u64; K]]) -> Vec<Option<f64>> + Sync,
) -> Vec<Option<Interval>> {
    let resamples: Vec<Vec<Option<f64>>> = (0..RESAMPLES as u64)
        .into_par_iter()
        .map(|item| {
            let mut rng = seed::rng(seed, "bootstrap", 0, 0, item);
            statistic(&strata.iter().map(|counts| resample(*counts, &mut rng)).collect::<Vec<_>>())
        })
        .collect();
    let interval = |m: usize| {
        let mut values: Vec<f64> = resamples.iter().filter_map(|r| r[m]).collect();
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - LEVEL) / 2.0;
        Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? })
    };
    (0..resamples[0].len()).map(interval).collect()
}

/// Samples as many outcomes as `counts` sums to, with replacement: a multinomial sample as a chain of binomial ones.
fn resample<const K: usize>(counts: [u64; K], rng: &mut Pcg64) -> [u64; K] {
    let mut remaining: u64 = counts.iter().sum();
    let mut weight = remaining;
    counts.map(|count| {
        let sampled = match count {
            0 => 0,
            _ if count == weight => remaining,
            _ => Binomial::new(remaining, count as f64 / weight as f64).expect("a share of 0 to 1").sample(rng),
        };
        remaining -= sampled;
        weight -= count;
        sampled
    })
}

/// Interpolates linearly between order statistics, as numpy does by default.
pub(super) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let rank = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    Some(below + (above - below) * rank.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::interval::mean;

    #[test]
    fn resamples_have_multinomial_size_mean_and_variance() {
        let counts = [300u64, 0, 60, 40];
        let mut rng = seed::rng(0, "test", 0, 0, 0);
        let samples: Vec<[u64; 4]> = (0..20_000).map(|_| resample(counts, &mut rng)).collect();
        assert!(samples.iter().all(|s| s.iter().sum::<u64>() == 400 && s[1] == 0));
        for (k, count) in counts.iter().enumerate() {
            let values: Vec<f64> = samples.iter().map(|s| s[k] as f64).collect();
            let m = mean(&values).unwrap();
            let variance = mean(&values.iter().map(|v| (v - m) * (v - m)).collect::<Vec<_>>()).unwrap();
            let p = *count as f64 / 400.0;
            let expected = 400.0 * p * (1.0 - p);
            // The mean within five standard errors, the variance within 5 %.
            assert!((m - *count as f64).abs() <= 5.0 * (expected / 20_000.0).sqrt(), "{k}: {m}");
            assert!((variance - expected).abs() <= 0.05 * expected, "{k}: {variance}");
        }
    }

    #[test]
    fn quantiles_match_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (q, expected) in [(0.025, 1.075), (0.5, 3.0), (0.975, 7.7)] {
            assert!((quantile(&sorted, q).unwrap() - expected).abs() < 1e-12);
        }
        assert_eq!(quantile(&[], 0.5), None);
    }

    /// Resampling single images instead of counts gives the same interval up to sampling error.
    #[test]
    fn resampling_counts_and_images_agree() {
        use rand::Rng;
        let strata = [[45u64, 5], [18, 2], [30, 10]];
        let statistic = |strata: &[[u64; 2]]| {
            let share = |[correct, wrong]: &[u64; 2]| *correct as f64 / (correct + wrong) as f64;
            vec![mean(&strata.iter().map(share).collect::<Vec<f64>>())]
        };
        let by_counts = bootstrap(&strata, 7, statistic)[0];
        let mut rng = seed::rng(1, "test", 0, 0, 0);
        let mut by_image: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let sampled = strata.map(|[correct, wrong]| {
                    let n = correct + wrong;
                    let hits = (0..n).filter(|_| rng.next_u64() % n < correct).count() as u64;
                    [hits, n - hits]
                });
                statistic(&sampled)[0].unwrap()
            })
            .collect();
        by_image.sort_by(f64::total_cmp);
        let interval = by_counts.unwrap();
        assert!((interval.low - quantile(&by_image, 0.025).unwrap()).abs() < 0.005, "{interval:?}");
        assert!((interval.high - quantile(&by_image, 0.975).unwrap()).abs() < 0.005, "{interval:?}");
        assert_eq!(bootstrap(&strata, 7, statistic), [Some(interval)]);
        let large = strata.map(|counts| counts.map(|n| 1000 * n));
        assert_ne!(bootstrap(&large, 7, statistic), bootstrap(&large, 8, statistic), "the seed has no effect");
    }
}
