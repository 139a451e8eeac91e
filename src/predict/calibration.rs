//! Calibration of probabilities by temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"),
//! fitted on predictions for images that the models were not trained on.

use crate::class::Classes;
use crate::rows::PredictionRow;

/// Smaller probabilities are raised to this: a network's may be 0 in f32.
const LEAST: f64 = 1e-12;

/// `p` to the power of `1 / temperature`, normalised to a sum of 1.
pub fn scale(p: &[f32], temperature: f64) -> Vec<f32> {
    let logs: Vec<f64> = p.iter().map(|p| f64::from(*p).max(LEAST).ln() / temperature).collect();
    let top = logs.iter().copied().fold(f64::MIN, f64::max);
    let exps: Vec<f64> = logs.iter().map(|l| (l - top).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| (e / sum) as f32).collect()
}

/// The temperature, 0.1 to 10, at which the true classes of `rows` are most likely; 1 for no rows. `classes` are those
/// of the run.
pub fn temperature(classes: &Classes, rows: &[PredictionRow]) -> f64 {
    let rows: Vec<(&PredictionRow, usize)> =
        rows.iter().filter_map(|row| Some((row, classes.index(row.truth)?))).collect();
    let loss = |log: f64| -> f64 {
        rows.iter()
            .map(|(row, truth)| {
                let p = scale(&row.probabilities, log.exp())[*truth];
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

    /// 100 predictions with probability `p`, of which `correct` are correct.
    fn predictions(p: f32, correct: usize) -> Vec<PredictionRow> {
        let rest = (1.0 - p) / 4.0;
        let row = |i: usize| {
            let truth = Classes::wbc5().at(if i < correct { 0 } else { 1 + i % 4 });
            PredictionRow::new(i.to_string(), 0, truth, [p, rest, rest, rest, rest])
        };
        (0..100).map(row).collect()
    }

    #[test]
    fn calibrated_confidence_equals_accuracy() {
        for (p, correct) in [(0.99, 80), (0.6, 90), (0.8, 80)] {
            let rows = predictions(p, correct);
            let t = temperature(&Classes::wbc5(), &rows);
            let calibrated = scale(&rows[0].probabilities, t);
            assert!(
                (f64::from(calibrated[0]) - correct as f64 / 100.0).abs() < 1e-3,
                "{p}, {correct}: {t}, {calibrated:?}"
            );
            assert!((calibrated.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        assert_eq!(temperature(&Classes::wbc5(), &[]), 1.0);
        let certain = scale(&[1.0, 0.0, 0.0, 0.0, 0.0], 2.0);
        assert!(certain.iter().all(|p| p.is_finite()) && certain[0] > 0.99);
    }
}
