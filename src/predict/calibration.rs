//! Probabilities that mean what they say: temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural
//! Networks"), fitted on predictions for images that the models never trained on.

use crate::class::Class;
use crate::rows::PredictionRow;

/// Probabilities below this count as this: a network's may be 0 in f32.
const LEAST: f64 = 1e-12;

/// `p` to the power of `1 / temperature`, summing to 1.
pub fn scale(p: [f32; Class::COUNT], temperature: f64) -> [f32; Class::COUNT] {
    let logs = p.map(|p| f64::from(p).max(LEAST).ln() / temperature);
    let top = logs.iter().copied().fold(f64::MIN, f64::max);
    let exps = logs.map(|l| (l - top).exp());
    let sum: f64 = exps.iter().sum();
    exps.map(|e| (e / sum) as f32)
}

/// The temperature at which the true classes of `rows` are likeliest, 0.1 to 10; 1 of no rows.
pub fn temperature(rows: &[PredictionRow]) -> f64 {
    let loss = |log: f64| -> f64 {
        rows.iter()
            .map(|row| {
                let p = scale(row.probabilities(), log.exp())[row.truth.index()];
                -f64::from(p).max(LEAST).ln()
            })
            .sum()
    };
    if rows.is_empty() {
        return 1.0;
    }
    // Golden-section search (Kiefer 1953): the loss has one minimum in the inverse of the temperature.
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.1f64.ln(), 10f64.ln());
    for _ in 0..40 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    ((low + high) / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predictions that say `p` and are right `right` times of 100.
    fn said(p: f32, right: usize) -> Vec<PredictionRow> {
        let rest = (1.0 - p) / 4.0;
        let row = |i: usize| {
            let truth = if i < right { Class::ALL[0] } else { Class::ALL[1 + i % 4] };
            PredictionRow::new(i.to_string(), 0, truth, [p, rest, rest, rest, rest])
        };
        (0..100).map(row).collect()
    }

    #[test]
    fn what_is_said_becomes_what_is_true() {
        for (p, right) in [(0.99, 80), (0.6, 90), (0.8, 80)] {
            let rows = said(p, right);
            let t = temperature(&rows);
            let calibrated = scale(rows[0].probabilities(), t);
            assert!(
                (f64::from(calibrated[0]) - right as f64 / 100.0).abs() < 1e-3,
                "{p}, {right}: {t}, {calibrated:?}"
            );
            assert!((calibrated.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(temperature(&[]), 1.0);
        let sure = scale([1.0, 0.0, 0.0, 0.0, 0.0], 2.0);
        assert!(sure.iter().all(|p| p.is_finite()) && sure[0] > 0.99);
    }
}
