//! What folds tell. A fold's value is one observation; folds share most of their training images, so that they are less
//! independent than their number says.

use super::{Interval, LEVEL, mean};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Folds up to which Wilcoxon's distribution is enumerated.
const EXACT_FOLDS: usize = 500;
/// Values that differ by less are equal: shares of images differ by more, rounding by less.
const SAME: f64 = 1e-12;

/// The corrected resampled t-test of a mean difference against 0 (Nadeau & Bengio 2003, "Inference for the
/// generalization error"): the variance of the mean is taken as s² (1/k + n_test/n_train) instead of s²/k, because folds
/// share training images. With plain k-fold cross-validation n_test/n_train is 1/(k-1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CorrectedT {
    pub t: f64,
    pub degrees_of_freedom: u64,
    /// Two-sided.
    pub p: f64,
    /// Cohen's d_z: mean difference over the standard deviation of the differences.
    pub cohens_dz: f64,
}

/// See [`CorrectedT`]. `test_to_train` is n_test/n_train. None where there are fewer than two folds, or all differ by the
/// same and nothing can be said of the spread.
pub fn corrected_t(differences: &[f64], test_to_train: f64) -> Option<CorrectedT> {
    let (m, error, freedom) = corrected_error(differences, test_to_train)?;
    let t = m / error;
    Some(CorrectedT {
        t,
        degrees_of_freedom: differences.len() as u64 - 1,
        p: 2.0 * freedom.sf(t.abs()),
        cohens_dz: m / deviation(differences)?,
    })
}

/// The interval of a mean over folds with the same correction. None of fewer than two folds, or of equal values, whose
/// spread is not known.
pub fn corrected_interval(values: &[f64], test_to_train: f64) -> Option<Interval> {
    let (m, error, freedom) = corrected_error(values, test_to_train)?;
    let half = freedom.inverse_cdf(0.5 + LEVEL / 2.0) * error;
    Some(Interval { low: m - half, high: m + half })
}

/// Mean, its corrected standard error, and the t distribution with k-1 degrees of freedom; none where all values are the
/// same.
fn corrected_error(values: &[f64], test_to_train: f64) -> Option<(f64, f64, StudentsT)> {
    let error = deviation(values).filter(|d| *d >= SAME)? * (1.0 / values.len() as f64 + test_to_train).sqrt();
    let freedom = StudentsT::new(0.0, 1.0, values.len() as f64 - 1.0).ok()?;
    Some((mean(values)?, error, freedom))
}

/// Sample standard deviation (k-1).
fn deviation(values: &[f64]) -> Option<f64> {
    let m = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|v| (v - m) * (v - m)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Wilcoxon's signed-rank test of paired differences (Wilcoxon 1945). Zeros are dropped (scipy's `zero_method="wilcox"`),
/// ties get their mean rank, and the distribution is that of all 2^n signs, ties included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wilcoxon {
    /// Folds whose difference is not 0.
    pub n: u64,
    /// Folds that were dropped.
    pub zeros: u64,
    /// The smaller of the two sums of ranks.
    pub w: f64,
    /// Two-sided and exact; none where every fold was dropped, or there are more than 500.
    pub p: Option<f64>,
    /// Matched-pairs rank-biserial correlation (Kerby 2014): -1 to 1; none where every fold was dropped.
    pub rank_biserial: Option<f64>,
}

/// See [`Wilcoxon`].
pub fn wilcoxon(differences: &[f64]) -> Wilcoxon {
    let mut ordered: Vec<f64> = differences.iter().copied().filter(|d| d.abs() > SAME).collect();
    ordered.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the ranks: the mean rank of ties is a whole or a half.
    let mut ranks: Vec<usize> = Vec::with_capacity(ordered.len());
    while ranks.len() < ordered.len() {
        let first = ranks.len();
        let tied = 1 + ordered[first..].windows(2).take_while(|w| w[1].abs() - w[0].abs() <= SAME).count();
        ranks.extend(std::iter::repeat_n(2 * first + tied + 1, tied));
    }
    let total: usize = ranks.iter().sum();
    let plus: usize = ranks.iter().zip(&ordered).filter(|(_, d)| **d > 0.0).map(|(r, _)| r).sum();
    let smaller = plus.min(total - plus);
    let some = !ranks.is_empty();
    Wilcoxon {
        n: ranks.len() as u64,
        zeros: (differences.len() - ranks.len()) as u64,
        w: smaller as f64 / 2.0,
        p: (some && ranks.len() <= EXACT_FOLDS).then(|| (2.0 * lower_tail(&ranks, smaller)).min(1.0)),
        rank_biserial: some.then(|| (2.0 * plus as f64 - total as f64) / total as f64),
    }
}

/// The chance that the ranks of random signs that came out positive sum to `at_most` or less.
fn lower_tail(ranks: &[usize], at_most: usize) -> f64 {
    let mut chance = vec![0.0; at_most + 1];
    chance[0] = 1.0;
    for rank in ranks {
        for sum in (0..=at_most).rev() {
            let with = sum.checked_sub(*rank).map_or(0.0, |rest| chance[rest]);
            chance[sum] = 0.5 * (chance[sum] + with);
        }
    }
    chance.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 10] = [0.021, -0.004, 0.013, 0.030, 0.008, -0.011, 0.017, 0.025, 0.002, 0.019];
    /// With zeros and ties, and differences that rounding keeps from being equal.
    const B: [f64; 5] = [0.3 - 0.2, 0.0, 0.1 - 0.15, 0.05, 0.35 - 0.3];
    const C: [f64; 10] = [0.1, 0.1, -0.1, 0.2, 0.0, 0.0, 0.3, -0.2, 0.1, 0.4];
    const D: [f64; 3] = [0.3, 0.1, 0.2];

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_corrected_t_is_scipys_with_the_formula() {
        // import numpy as np; from scipy import stats  # 1.17
        // for d in [A, B, C, D]:
        //     k = len(d); error = np.std(d, ddof=1) * np.sqrt(1 / k + 1 / (k - 1)); t = np.mean(d) / error
        //     half = stats.t.ppf(0.975, k - 1) * error
        //     print(t, 2 * stats.t.sf(abs(t), k - 1), np.mean(d) / np.std(d, ddof=1), np.mean(d) - half, np.mean(d) + half)
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
    fn wilcoxons_p_is_scipys_exact_one() {
        // import numpy as np; from scipy import stats  # 1.17
        // for d in [A, B, C, D]:
        //     exact = "exact" if d is A else stats.PermutationMethod(n_resamples=np.inf)  # what has ties
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
