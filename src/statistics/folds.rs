//! Tests over the folds of a cross-validation, with one value per fold. Folds share most of their training images, so
//! that their values are not independent.

use super::interval::{Interval, LEVEL, mean};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Up to this number of folds, the distribution of Wilcoxon's statistic is enumerated.
const MAX_EXACT_FOLDS: usize = 500;
/// Differences below this are rounding errors: proportions of images differ by more.
const TOLERANCE: f64 = 1e-12;

/// The corrected resampled t-test of a mean difference against 0 (Nadeau & Bengio 2003, "Inference for the
/// generalization error"). The variance of the mean is s² (1/k + n_test/n_train) instead of s²/k, because folds share
/// training images. In k-fold cross-validation n_test/n_train is 1/(k-1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CorrectedT {
    /// The test statistic.
    pub t: f64,
    /// Folds - 1.
    pub degrees_of_freedom: u64,
    /// Two-sided p-value.
    pub p: f64,
    /// Cohen's d_z: mean difference / standard deviation of the differences.
    pub cohens_dz: f64,
}

/// Performs the corrected resampled t-test on one difference per fold; `test_to_train` is n_test/n_train.
///
/// `None` for fewer than two folds, or if all differences are equal.
pub fn corrected_t(differences: &[f64], test_to_train: f64) -> Option<CorrectedT> {
    let (m, error, distribution) = corrected_error(differences, test_to_train)?;
    let t = m / error;
    Some(CorrectedT {
        t,
        degrees_of_freedom: differences.len() as u64 - 1,
        p: 2.0 * distribution.sf(t.abs()),
        cohens_dz: m / deviation(differences)?,
    })
}

/// The interval of a mean over folds with the correction of [`CorrectedT`]; `test_to_train` is n_test/n_train.
///
/// `None` for fewer than two folds, or if all values are equal.
pub fn corrected_interval(values: &[f64], test_to_train: f64) -> Option<Interval> {
    let (m, error, distribution) = corrected_error(values, test_to_train)?;
    let half = distribution.inverse_cdf(0.5 + LEVEL / 2.0) * error;
    Some(Interval { low: m - half, high: m + half })
}

/// Mean, its corrected standard error, and the t distribution with k-1 degrees of freedom; `None` if all values are
/// equal.
fn corrected_error(values: &[f64], test_to_train: f64) -> Option<(f64, f64, StudentsT)> {
    let error = deviation(values).filter(|d| *d >= TOLERANCE)? * (1.0 / values.len() as f64 + test_to_train).sqrt();
    let distribution = StudentsT::new(0.0, 1.0, values.len() as f64 - 1.0).ok()?;
    Some((mean(values)?, error, distribution))
}

/// Sample standard deviation (divisor k-1).
fn deviation(values: &[f64]) -> Option<f64> {
    let m = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - m) * (v - m)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Wilcoxon's signed-rank test of paired differences (Wilcoxon 1945). Zeros are dropped (as by scipy's
/// `zero_method="wilcox"`), ties have their mean rank, and p is exact also with ties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wilcoxon {
    /// Folds whose difference is not 0.
    pub n: u64,
    /// Folds whose difference is 0; they are dropped.
    pub zeros: u64,
    /// The smaller of the rank sums of positive and negative differences.
    pub w: f64,
    /// Exact two-sided p-value; `None` if all folds are dropped or more than 500 are left.
    pub p: Option<f64>,
    /// Matched-pairs rank-biserial correlation (Kerby 2014), -1 to 1; `None` if all folds are dropped.
    pub rank_biserial: Option<f64>,
}

/// Performs Wilcoxon's signed-rank test on one difference per fold.
pub fn wilcoxon(differences: &[f64]) -> Wilcoxon {
    let mut ordered: Vec<f64> = differences.iter().copied().filter(|d| d.abs() > TOLERANCE).collect();
    ordered.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Ranks are doubled to stay integers, because the mean rank of ties can be a half.
    let mut ranks: Vec<usize> = Vec::with_capacity(ordered.len());
    while ranks.len() < ordered.len() {
        let first = ranks.len();
        let tied = 1 + ordered[first..].windows(2).take_while(|w| w[1].abs() - w[0].abs() <= TOLERANCE).count();
        ranks.extend(std::iter::repeat_n(2 * first + tied + 1, tied));
    }
    let total: usize = ranks.iter().sum();
    let plus: usize = ranks.iter().zip(&ordered).filter(|(_, d)| **d > 0.0).map(|(r, _)| r).sum();
    let smaller = plus.min(total - plus);
    let any = !ranks.is_empty();
    Wilcoxon {
        n: ranks.len() as u64,
        zeros: (differences.len() - ranks.len()) as u64,
        w: smaller as f64 / 2.0,
        p: (any && ranks.len() <= MAX_EXACT_FOLDS).then(|| (2.0 * lower_tail(&ranks, smaller)).min(1.0)),
        rank_biserial: any.then(|| (2.0 * plus as f64 - total as f64) / total as f64),
    }
}

/// The probability that the positive ranks sum to at most `limit` if each sign is random.
fn lower_tail(ranks: &[usize], limit: usize) -> f64 {
    let mut probability = vec![0.0; limit + 1];
    probability[0] = 1.0;
    for rank in ranks {
        for sum in (0..=limit).rev() {
            let positive = sum.checked_sub(*rank).map_or(0.0, |rest| probability[rest]);
            probability[sum] = 0.5 * (probability[sum] + positive);
        }
    }
    probability.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 10] = [0.021, -0.004, 0.013, 0.030, 0.008, -0.011, 0.017, 0.025, 0.002, 0.019];
    /// Zeros, and ties that are not exactly equal because of rounding.
    const B: [f64; 5] = [0.3 - 0.2, 0.0, 0.1 - 0.15, 0.05, 0.35 - 0.3];
    const C: [f64; 10] = [0.1, 0.1, -0.1, 0.2, 0.0, 0.0, 0.3, -0.2, 0.1, 0.4];
    const D: [f64; 3] = [0.3, 0.1, 0.2];

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn corrected_t_matches_its_formula_in_scipy() {
        // import numpy as np; from scipy import stats  # 1.17
        // for d in [A, B, C, D]:
        //     k, mean, deviation = len(d), np.mean(d), np.std(d, ddof=1)
        //     error = deviation * np.sqrt(1 / k + 1 / (k - 1)); t = mean / error
        //     half = stats.t.ppf(0.975, k - 1) * error
        //     print(t, 2 * stats.t.sf(abs(t), k - 1), mean / deviation, mean - half, mean + half)
        let expected = [
            (1.9901284394312186, 0.07778049558183892, 0.9144009144013716, -0.0016402683443571056, 0.025640268344357106),
            (0.7844645405527363, 0.4766206672728409, 0.5262348115842176, -0.0761786082736704, 0.13617860827367043),
            (1.0930984966773825, 0.30274391660649613, 0.502244098967919, -0.09625416215527674, 0.27625416215527676),
            (2.190890230020665, 0.15983194958319402, 2.0000000000000004, -0.19277665953249315, 0.5927766595324933),
        ];
        for (d, (t, p, dz, low, high)) in [&A[..], &B, &C, &D].into_iter().zip(expected) {
            let ratio = 1.0 / (d.len() as f64 - 1.0);
            let got = corrected_t(d, ratio).unwrap();
            assert!(near(got.t, t) && near(got.p, p) && near(got.cohens_dz, dz), "{got:?}");
            let got = corrected_interval(d, ratio).unwrap();
            assert!(near(got.low, low) && near(got.high, high), "{got:?}");
        }
        assert_eq!(corrected_t(&[0.1], 0.1), None);
        assert_eq!(corrected_t(&[0.1, 0.1], 0.1), None);
        assert_eq!(corrected_interval(&[0.5, 0.5], 1.0), None);
    }

    #[test]
    fn wilcoxon_matches_scipys_exact_test() {
        // import numpy as np; from scipy import stats  # 1.17
        // for d in [A, B, C, D]:
        //     exact = "exact" if d is A else stats.PermutationMethod(n_resamples=np.inf)  # because of ties
        //     print(stats.wilcoxon(np.round(d, 9), zero_method="wilcox", method=exact))
        let expected = [
            (10, 6.0, 0.02734375, 0.7818181818181819),
            (4, 2.0, 0.5, 0.6),
            (8, 8.0, 0.2109375, 0.5555555555555556),
            (3, 0.0, 0.25, 1.0),
        ];
        for (d, (n, w, p, r)) in [&A[..], &B, &C, &D].into_iter().zip(expected) {
            let got = wilcoxon(d);
            assert_eq!((got.n, got.zeros, got.w), (n, d.len() as u64 - n, w));
            assert!(near(got.p.unwrap(), p) && near(got.rank_biserial.unwrap(), r), "{got:?}");
        }
        let mirrored = wilcoxon(&A.map(|d| -d));
        assert!(near(mirrored.p.unwrap(), 0.02734375) && near(mirrored.rank_biserial.unwrap(), -0.7818181818181819));
        let none = wilcoxon(&[0.0, 0.0]);
        assert_eq!((none.n, none.zeros, none.p, none.rank_biserial), (0, 2, None, None));
    }
}
