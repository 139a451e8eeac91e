//! Confidence intervals, and Wilson's interval of a proportion.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

/// Nominal coverage of all intervals.
pub const LEVEL: f64 = 0.95;

/// A two-sided confidence interval of level [`LEVEL`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower limit.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
}

/// The mean; `None` for an empty slice.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Wilson's score interval of the proportion `part / total` (Wilson 1927; recommended by Brown, Cai & DasGupta 2001).
/// Unlike a bootstrap interval it has a width for proportions of 0 and 1. `None` if `total` is 0.
pub fn wilson(part: u64, total: u64) -> Option<Interval> {
    let z = Normal::standard().inverse_cdf(0.5 + LEVEL / 2.0);
    let (share, n) = (part as f64 / total as f64, total as f64);
    let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (total > 0).then_some(Interval {
        low: if part == 0 { 0.0 } else { centre - half },
        high: if part == total { 1.0 } else { centre + half },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_statsmodels() {
        // from statsmodels.stats.proportion import proportion_confint  # 0.15
        // for part, total in [(0, 10), ...]: print(proportion_confint(part, total, method="wilson"))
        for (part, total, low, high) in [
            (0, 10, 0.0, 0.27753279986288926),
            (10, 10, 0.7224672001371106, 1.0),
            (396, 400, 0.9745734353473804, 0.996104516205009),
            (37, 50, 0.6044684273515116, 0.841284725064476),
            (1, 3, 0.06149194472039626, 0.7923403991979523),
            (5913, 5986, 0.9846949688959611, 0.9902891004069024),
        ] {
            let got = wilson(part, total).unwrap();
            assert!((got.low - low).abs() < 1e-12 && (got.high - high).abs() < 1e-12, "{part}/{total}: {got:?}");
        }
        assert_eq!(wilson(0, 0), None);
    }
}
