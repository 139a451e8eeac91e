//! Intervals and tests for results over images and over folds: numbers in, numbers out.
//!
//! Two questions, and a method for each. *Would other test images have given the same?* The bootstrap, Wilson's
//! interval and McNemar's test take the trained models as they are and the images as independent draws. *Would other
//! training images have given the same?* The corrected t and Wilcoxon's test look at the spread from fold to fold. None
//! of them knows of other laboratories, stains or seeds, nor that several cells may be of one patient.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

mod bootstrap;
mod folds;
mod mcnemar;

pub use bootstrap::{RESAMPLES, bootstrap};
pub use folds::{CorrectedT, Wilcoxon, corrected_interval, corrected_t, wilcoxon};
pub use mcnemar::{McNemar, mcnemar};

/// Nominal coverage of every interval.
pub const LEVEL: f64 = 0.95;

/// Both ends of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// The mean; none of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Wilson's score interval of a share `part / of` (Wilson 1927; recommended by Brown, Cai & DasGupta 2001): also where
/// all or none of the images count, where the bootstrap has no width. None of no images.
pub fn wilson(part: u64, of: u64) -> Option<Interval> {
    let z = Normal::standard().inverse_cdf(0.5 + LEVEL / 2.0);
    let (share, n) = (part as f64 / of as f64, of as f64);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (of > 0).then_some(Interval {
        low: if part == 0 { 0.0 } else { centre - half },
        high: if part == of { 1.0 } else { centre + half },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_statsmodels() {
        // from statsmodels.stats.proportion import proportion_confint  # 0.15
        // for part, of in [(0, 10), ...]: print(proportion_confint(part, of, method="wilson"))
        for (part, of, low, high) in [
            (0, 10, 0.0, 0.27753279986288926),
            (10, 10, 0.7224672001371106, 1.0),
            (396, 400, 0.9745734353473804, 0.996104516205009),
            (37, 50, 0.6044684273515116, 0.841284725064476),
            (1, 3, 0.06149194472039626, 0.7923403991979523),
            (5913, 5986, 0.9846949688959611, 0.9902891004069024),
        ] {
            let got = wilson(part, of).unwrap();
            assert!((got.low - low).abs() < 1e-12 && (got.high - high).abs() < 1e-12, "{part} of {of}: {got:?}");
        }
        assert_eq!(wilson(0, 0), None);
    }
}
