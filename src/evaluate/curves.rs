//! Quality of the predicted probabilities: reliability diagram and precision-recall curves.

use crate::class::{Class, Classes};
use crate::rows::PredictionRow;
use serde::Serialize;

/// Bins of a reliability diagram, of equal width.
const BINS: usize = 15;

/// Images whose largest probability lies in the same bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Number of images, at least 1.
    pub images: u64,
    /// Mean of the largest probability, 0 to 1.
    pub confidence: f64,
    /// Share that is predicted correctly, 0 to 1.
    pub accuracy: f64,
}

/// Accuracy by confidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// Bins with images, by increasing confidence.
    pub bins: Vec<Bin>,
    /// Expected calibration error (Naeini et al. 2015, 15 bins): mean difference of confidence and accuracy, 0 to 1.
    pub error: f64,
}

/// Largest probability, and whether the prediction is correct.
fn confidence(classes: &Classes, row: &PredictionRow) -> (f64, bool) {
    let largest = row.probabilities.iter().copied().fold(0.0, f32::max);
    (f64::from(largest), classes.likeliest(&row.probabilities) == row.truth)
}

/// The reliability of all rows together; `classes` are those of the run.
pub fn reliability(classes: &Classes, rows: &[PredictionRow]) -> Reliability {
    let mut sums = [(0u64, 0.0, 0u64); BINS];
    for (confidence, correct) in rows.iter().map(|row| confidence(classes, row)) {
        // A bin includes its upper edge, as in the definition.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        sums[bin].0 += 1;
        sums[bin].1 += confidence;
        sums[bin].2 += u64::from(correct);
    }
    let bin = |&(images, sum, correct): &(u64, f64, u64)| {
        let n = images as f64;
        Bin { images, confidence: sum / n, accuracy: correct as f64 / n }
    };
    let bins: Vec<Bin> = sums.iter().filter(|s| s.0 > 0).map(bin).collect();
    let gaps = bins.iter().map(|b| b.images as f64 * (b.confidence - b.accuracy).abs());
    let error = gaps.sum::<f64>() / (rows.len().max(1)) as f64;
    Reliability { bins, error }
}

/// Accuracy of the most confident predictions, 0 to 1, where all others are left to a person.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Covered {
    /// Share of the images that are not left to a person, 0 to 1.
    pub coverage: f64,
    /// Share of these that is predicted correctly, 0 to 1.
    pub accuracy: f64,
}

/// Risk against coverage (El-Yaniv & Wiener 2010): the accuracy of the most confident predictions, for every number of
/// them. Equally confident ones are taken together. `classes` are those of the run.
pub fn coverage(classes: &Classes, rows: &[PredictionRow]) -> Vec<Covered> {
    let mut rows: Vec<(f64, bool)> = rows.iter().map(|row| confidence(classes, row)).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut points, mut correct, mut taken) = (Vec::new(), 0, 0);
    for equal in rows.chunk_by(|a, b| a.0 == b.0) {
        correct += equal.iter().filter(|(_, correct)| *correct).count();
        taken += equal.len();
        let accuracy = correct as f64 / taken as f64;
        points.push(Covered { coverage: taken as f64 / rows.len() as f64, accuracy });
    }
    points
}

/// The accuracy of the most confident quarter, half, three quarters and all of the predictions: the first points of
/// [`coverage`] that cover as much, each once.
pub fn quarters(coverage: &[Covered]) -> Vec<Covered> {
    let at = |share: f64| coverage.iter().find(|point| point.coverage >= share - 1e-9).copied();
    let mut points: Vec<Covered> = [0.25, 0.5, 0.75, 1.0].into_iter().filter_map(at).collect();
    points.dedup();
    points
}

/// Precision-recall curve of one class against all others.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// (recall, precision) at each threshold on the probability, from the highest.
    pub points: Vec<(f64, f64)>,
    /// Sum over thresholds of precision times the gain in recall: scikit-learn's `average_precision_score`.
    pub average_precision: f64,
}

/// The curve of one of the run's `classes`; `None` where it has no image.
pub fn precision_recall(classes: &Classes, rows: &[PredictionRow], class: Class) -> Option<PrecisionRecall> {
    let at = classes.index(class)?;
    let mut scored: Vec<(f32, bool)> = rows.iter().map(|r| (r.probabilities[at], r.truth == class)).collect();
    let positives = scored.iter().filter(|s| s.1).count();
    if positives == 0 {
        return None;
    }
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut points, mut hits, mut selected, mut previous, mut average) = (Vec::new(), 0, 0, 0.0, 0.0);
    for equal in scored.chunk_by(|a, b| a.0 == b.0) {
        hits += equal.iter().filter(|s| s.1).count();
        selected += equal.len();
        let (recall, precision) = (hits as f64 / positives as f64, hits as f64 / selected as f64);
        average += (recall - previous) * precision;
        previous = recall;
        points.push((recall, precision));
    }
    Some(PrecisionRecall { points, average_precision: average })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(p: f32, truth: usize) -> PredictionRow {
        let rest = (1.0 - p) / 4.0;
        PredictionRow::new("i".into(), 0, Classes::wbc5().at(truth), [p, rest, rest, rest, rest])
    }

    #[test]
    fn reliability_follows_its_definition() {
        // A bin with two confident, correct predictions; a bin with two less confident ones, of which one is wrong.
        let rows = [row(0.99, 0), row(0.97, 0), row(0.62, 0), row(0.65, 1)];
        let classes = Classes::wbc5();
        let diagram = reliability(&classes, &rows);
        let bins: Vec<_> = diagram.bins.iter().map(|b| (b.images, b.accuracy)).collect();
        assert_eq!(bins, [(2, 0.5), (2, 1.0)]);
        assert!((diagram.error - (0.5 * (0.635 - 0.5) + 0.5 * (1.0 - 0.98))).abs() < 1e-6, "{diagram:?}");
        assert_eq!(reliability(&classes, &[]).error, 0.0);
    }

    #[test]
    fn the_most_confident_predictions_come_first() {
        let rows = [row(0.6, 1), row(0.99, 0), row(0.7, 0), row(0.7, 1)];
        let points = coverage(&Classes::wbc5(), &rows);
        let points: Vec<_> = points.iter().map(|point| (point.coverage, point.accuracy)).collect();
        assert_eq!(points, [(0.25, 1.0), (0.75, 2.0 / 3.0), (1.0, 0.5)]);
        let quarters = quarters(&coverage(&Classes::wbc5(), &rows));
        assert_eq!(quarters.iter().map(|point| point.coverage).collect::<Vec<_>>(), [0.25, 0.75, 1.0]);
        assert!(coverage(&Classes::wbc5(), &[]).is_empty());
    }

    #[test]
    fn average_precision_equals_that_of_scikit_learn() {
        // average_precision_score([1, 0, 1, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.6, 0.1]) = 0.7555555...
        let rows: Vec<PredictionRow> =
            [(0.9, 0), (0.8, 1), (0.7, 0), (0.6, 0), (0.6, 2), (0.1, 3)].map(|(p, t)| row(p, t)).into();
        let curve = precision_recall(&Classes::wbc5(), &rows, Class::NEUTROPHIL).unwrap();
        assert!((curve.average_precision - (1.0 + 2.0 / 3.0 + 3.0 / 5.0) / 3.0).abs() < 1e-9, "{curve:?}");
        assert_eq!(curve.points.len(), 5);
        assert_eq!(precision_recall(&Classes::wbc5(), &rows, Class::MONOCYTE), None);
    }
}
