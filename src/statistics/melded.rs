//! The interval of a mean of proportions.

use super::bootstrap::{RESAMPLES, quantile};
use super::interval::{Interval, LEVEL};
use crate::seed::{self, Pcg64};
use rand_distr::{Beta, Distribution};
use rayon::prelude::*;

/// The interval of the mean of several proportions of independent samples, each (part, total), such as the recalls of
/// several classes: the exact confidence distributions of the proportions, melded into that of their mean (Fay,
/// Proschan & Brittain 2015, "Combining one-sample confidence procedures", Biometrics 71:146), by 10,000 draws. Also
/// with five images of a class, or where all proportions are 0 or 1, it has a width that covers. Proportions of nothing
/// do not count; `None` if there is no other.
pub fn mean_of_shares(shares: &[(u64, u64)]) -> Option<Interval> {
    melded(shares, RESAMPLES as u64)
}

fn melded(shares: &[(u64, u64)], count: u64) -> Option<Interval> {
    let known: Vec<(f64, f64)> = shares
        .iter()
        .filter(|(_, total)| *total > 0)
        .map(|(part, total)| (*part as f64, (total - part) as f64))
        .collect();
    if known.is_empty() {
        return None;
    }
    // The lower limit of a proportion is a quantile of Beta(part, rest + 1), the upper one of Beta(part + 1, rest).
    let draw = |a: f64, b: f64, rng: &mut Pcg64| match (a, b) {
        (0.0, _) => 0.0,
        (_, 0.0) => 1.0,
        (a, b) => Beta::new(a, b).expect("both above 0").sample(rng),
    };
    let draws = |at: &(dyn Fn((f64, f64)) -> (f64, f64) + Sync), end: u64| -> Vec<f64> {
        let mean = |item: u64| {
            let mut rng = seed::rng(0, "melded", end, 0, item);
            let sum: f64 = known.iter().map(|counts| at(*counts)).map(|(a, b)| draw(a, b, &mut rng)).sum();
            sum / known.len() as f64
        };
        let mut draws: Vec<f64> = (0..count).into_par_iter().map(mean).collect();
        draws.sort_by(f64::total_cmp);
        draws
    };
    let tail = (1.0 - LEVEL) / 2.0;
    Some(Interval {
        low: quantile(&draws(&|(part, rest)| (part, rest + 1.0), 0), tail)?,
        high: quantile(&draws(&|(part, rest)| (part + 1.0, rest), 1), 1.0 - tail)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{bootstrap, mean};
    use rand_distr::Binomial;

    #[test]
    fn the_mean_of_shares_is_covered_with_few_images_and_perfect_recalls() {
        const TRIALS: u64 = 400;
        // Images and true recall of each class.
        let cases: [(&str, &[(u64, f64)]); 7] = [
            ("five of each, nearly perfect", &[(5, 0.98); 5]),
            ("five of each, perfect", &[(5, 1.0); 5]),
            ("few of some", &[(5, 0.9), (5, 0.7), (40, 0.95), (200, 0.98), (9, 0.85)]),
            ("49 images", &[(12, 0.9), (10, 0.6), (5, 0.8), (12, 0.75), (10, 0.7)]),
            ("many", &[(1300, 0.98), (370, 0.97), (2000, 0.99), (1100, 0.99), (1190, 0.98)]),
            ("one image of a class", &[(1, 0.9), (20, 0.9), (20, 0.9)]),
            ("useless", &[(10, 0.2); 5]),
        ];
        for (name, classes) in cases {
            let truth = classes.iter().map(|(_, recall)| recall).sum::<f64>() / classes.len() as f64;
            let (mut covered, mut resampled) = (0, 0);
            for trial in 0..TRIALS {
                let mut rng = seed::rng(trial, "coverage", 0, 0, 0);
                let mut draw = |(n, recall): &(u64, f64)| (Binomial::new(*n, *recall).unwrap().sample(&mut rng), *n);
                let shares: Vec<(u64, u64)> = classes.iter().map(&mut draw).collect();
                let interval = melded(&shares, 1000).unwrap();
                covered += u64::from((interval.low - 1e-9..=interval.high + 1e-9).contains(&truth));
                if trial < 20 {
                    let strata: Vec<[u64; 2]> = shares.iter().map(|(part, n)| [*part, n - part]).collect();
                    let statistic = |strata: &[[u64; 2]]| {
                        let shares = strata.iter().map(|[part, rest]| *part as f64 / (part + rest) as f64);
                        vec![mean(&shares.collect::<Vec<_>>())]
                    };
                    let interval = bootstrap(&strata, trial, statistic)[0].unwrap();
                    resampled += u64::from(interval.low <= truth && truth <= interval.high);
                }
            }
            let share = covered as f64 / TRIALS as f64;
            // 95 %, less a standard error of 400 trials. With few images it is more, because counts are whole numbers.
            assert!(share >= 0.939, "{name}: {share}");
            assert!(name != "many" || share <= 0.985, "{name}: {share}");
            // The bootstrap does not cover what it has never seen: a mistake where all images are right.
            assert!(!name.ends_with("nearly perfect") || resampled < 18, "{name}: {resampled} of 20");
        }
    }

    #[test]
    fn the_mean_of_one_share_has_the_exact_interval() {
        // scipy.stats.binomtest(7, 9).proportion_ci(method="exact"): 0.39991, 0.97185
        let got = mean_of_shares(&[(7, 9), (0, 0)]).unwrap();
        assert!((got.low - 0.39991).abs() < 0.01 && (got.high - 0.97185).abs() < 0.005, "{got:?}");
        assert_eq!(mean_of_shares(&[(0, 0)]), None);
        // All correct: the lower limit of ten of ten is 0.025 ** (1 / 10).
        let got = mean_of_shares(&[(10, 10)]).unwrap();
        assert!((got.low - 0.025f64.powf(0.1)).abs() < 0.01 && got.high == 1.0, "{got:?}");
        assert!(mean_of_shares(&[(10, 10); 5]).unwrap().low > got.low, "five classes are known better than one");
    }
}
