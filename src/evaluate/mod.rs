//! Evaluate: prediction rows to metric and interval rows. No other module computes metrics of predictions, except for
//! the balanced accuracy by which training chooses hyper-parameters and draws curves ([`crate::scores`] is shared by
//! all).
//!
//! The paper's "accuracy" of a class (Tables 3 to 6) is the share of its test images that are predicted correctly,
//! which is recall; its "Aver. Accuracy" of a fold is the mean over classes, which is balanced accuracy. An image is
//! predicted as the class of its largest probability (the first of equal ones).

use crate::class::Classes;
use crate::error::{Input, Result};
use crate::rows::{IntervalRow, MetricRow, PredictionRow};
use crate::run::{ModelId, OwnSplit, Record, RunDir, over_images};
use crate::schema::{INTERVALS, METRICS, PREDICTIONS};
use crate::scores::Metric;
use crate::statistics::{Interval, LEVEL, RESAMPLES};
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

pub mod curves;
mod intervals;
mod metrics;
mod people;

pub use intervals::test_to_train;
pub use people::People;

/// The result of a run, over its finished folds.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// Finished folds.
    pub folds: u32,
    /// Test images of the finished folds.
    pub images: u64,
    /// Mean over folds, 0 to 1.
    pub balanced_accuracy: Option<f64>,
    /// Mean over folds, 0 to 1.
    pub accuracy: Option<f64>,
    /// With the images of all finished folds pooled, and its 95 % interval for other images or patients, 0 to 1.
    pub pooled: Option<Pooled>,
    /// The result on the held-out test set, where the split has one.
    pub held_out: Option<HeldOutSummary>,
    /// Set where the data set's own split is used, or folds that ignore copies.
    pub own_split: Option<OwnSplit>,
}

/// The result with the images of all finished folds pooled, 0 to 1.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pooled {
    /// Balanced accuracy: the mean over classes of the share of all images of the class that are predicted correctly.
    pub balanced_accuracy: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Share of all images that are predicted correctly.
    pub accuracy: f64,
}

/// The result of the models of the finished folds together (their mean probabilities) on the held-out test set, on
/// which none of them was trained.
#[derive(Clone, Debug, Serialize)]
pub struct HeldOutSummary {
    /// Models whose probabilities are averaged.
    pub models: u32,
    /// Images of the held-out test set.
    pub images: u64,
    /// Balanced accuracy, 0 to 1.
    pub balanced_accuracy: Option<f64>,
    /// Accuracy, 0 to 1.
    pub accuracy: Option<f64>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        write!(
            f,
            "test: balanced accuracy {}, accuracy {} (mean over {}, {})",
            percent(self.balanced_accuracy),
            percent(self.accuracy),
            text::of(self.folds.into(), "fold"),
            text::of(self.images, "image")
        )?;
        if let Some(pooled) = &self.pooled {
            write!(
                f,
                "\nall folds pooled: balanced accuracy {} (95 % interval {:.1} to {:.1}), accuracy {}",
                percent(Some(pooled.balanced_accuracy)),
                100.0 * pooled.interval.low,
                100.0 * pooled.interval.high,
                percent(Some(pooled.accuracy))
            )?;
        }
        self.held_out.as_ref().map_or(Ok(()), |held_out| {
            write!(
                f,
                "\nheld-out test set: balanced accuracy {}, accuracy {} ({}, mean probabilities of {})",
                percent(held_out.balanced_accuracy),
                percent(held_out.accuracy),
                text::of(held_out.images, "image"),
                text::of(held_out.models.into(), "model")
            )
        })?;
        self.own_split.as_ref().map_or(Ok(()), |split| write!(f, "\n{split}"))
    }
}

/// Reads a run's `predictions.parquet` and writes its `metrics.parquet` and `intervals.parquet`.
///
/// # Errors
/// [`crate::error::Error::Missing`] or [`crate::error::Error::Format`] for the run or its predictions,
/// [`crate::error::Error::Data`] where they have a class that is not the run's.
pub fn run(ws: &Workspace, run: &str) -> Result<Summary> {
    let path = RunDir::new(ws, run).predictions();
    loop {
        let hash = table::exists(&path)?.then(|| table::file_hash(&path)).transpose()?;
        let summary = once(ws, run)?;
        // Another process may have finished a fold meanwhile.
        if hash.is_none_or(|hash| table::file_hash(&path).is_ok_and(|now| now == hash)) {
            return Ok(summary);
        }
    }
}

fn once(ws: &Workspace, run: &str) -> Result<Summary> {
    let record = Record::read(ws, run)?;
    let dir = RunDir::new(ws, run);
    let path = dir.predictions();
    let (predictions, _) = table::read_class_rows::<PredictionRow>(&path, &PREDICTIONS, &record.classes)?;
    let metrics = metrics::metrics(&predictions, &record.classes)?;
    let mut provenance = Provenance {
        stage: "evaluate".into(),
        settings: serde_json::Value::Null,
        seed: None,
        inputs: BTreeMap::from([("predictions".into(), table::file_hash(&path)?)]),
    };
    table::write_rows(&dir.metrics(), &METRICS, &provenance, &metrics)?;
    provenance.settings = serde_json::json!({ "level": LEVEL, "resamples": RESAMPLES });
    provenance.seed = Some(record.seed);
    let intervals = intervals::intervals(&metrics, &record.classes, record.folds);
    let people = People::of_run(ws, &record)?;
    let intervals = people.applied(intervals, &predictions, &record.classes, record.seed);
    table::write_rows(&dir.intervals(), &INTERVALS, &provenance, &intervals)?;
    let mean = |metric: Metric| metrics.iter().find(|r| r.fold.is_none() && r.metric == metric)?.value;
    Ok(Summary {
        run: run.into(),
        folds: metrics.iter().filter(|r| r.fold.is_some() && r.metric == Metric::Accuracy).count() as u32,
        images: predictions.len() as u64,
        balanced_accuracy: mean(Metric::BalancedAccuracy),
        accuracy: mean(Metric::Accuracy),
        pooled: pooled(&intervals),
        held_out: held_out(&dir, &record, &people)?,
        own_split: record.own_split,
    })
}

fn pooled(intervals: &[IntervalRow]) -> Option<Pooled> {
    let balanced = over_images(intervals, Metric::BalancedAccuracy, None)?;
    let interval = Interval { low: balanced.low, high: balanced.high };
    let accuracy = over_images(intervals, Metric::Accuracy, None)?.value;
    Some(Pooled { balanced_accuracy: balanced.value, interval, accuracy })
}

/// Evaluates the predictions of the held-out test set, where there are any.
fn held_out(dir: &RunDir, record: &Record, people: &People) -> Result<Option<HeldOutSummary>> {
    let (folder, classes) = (dir.held_out(), &record.classes);
    let path = folder.predictions();
    if !table::exists(&path)? {
        return Ok(None);
    }
    let read = |path: &Path| table::read_class_rows::<PredictionRow>(path, &PREDICTIONS, classes).map(|(rows, _)| rows);
    let (together, mut alone) = (read(&path)?, Vec::new());
    for fold in 0..record.folds {
        let path = dir.model_held_out(ModelId::Fold(fold));
        if table::exists(&path)? {
            alone.extend(read(&path)?);
        }
    }
    let (metrics, intervals) = ensemble(&together, &alone, people, classes, record.seed)?;
    let provenance = Provenance {
        stage: "evaluate".into(),
        settings: serde_json::json!({ "level": LEVEL, "resamples": RESAMPLES }),
        seed: Some(record.seed),
        inputs: BTreeMap::from([(Input::Predictions.name().into(), table::file_hash(&path)?)]),
    };
    table::write_rows(&folder.metrics(), &METRICS, &provenance, &metrics)?;
    table::write_rows(&folder.intervals(), &INTERVALS, &provenance, &intervals)?;
    let value = |metric: Metric| metrics.iter().find(|r| r.fold.is_none() && r.metric == metric)?.value;
    Ok(Some(HeldOutSummary {
        models: alone.len().checked_div(together.len()).unwrap_or(0) as u32,
        images: together.len() as u64,
        balanced_accuracy: value(Metric::BalancedAccuracy),
        accuracy: value(Metric::Accuracy),
    }))
}

/// Metric and interval rows of several models that predicted the same images. In the metrics, `fold` is null for the
/// models together, and the model's fold for a model alone; the intervals are those of the models together. `classes`
/// are those of the run.
///
/// # Errors
/// As [`run`], for the predictions.
pub fn ensemble(
    together: &[PredictionRow],
    alone: &[PredictionRow],
    people: &People,
    classes: &Classes,
    seed: u64,
) -> Result<(Vec<MetricRow>, Vec<IntervalRow>)> {
    let ensemble = metrics::metrics(together, classes)?;
    let intervals = people.applied(intervals::intervals(&ensemble, classes, 1), together, classes, seed);
    let mut rows = if alone.is_empty() { Vec::new() } else { metrics::metrics(alone, classes)? };
    rows.retain(|r| r.fold.is_some());
    rows.extend(ensemble.into_iter().filter(|r| r.fold.is_none()));
    Ok((rows, intervals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use super::{intervals::intervals, metrics::metrics};
    use crate::class::Class;
    use crate::scores::{Method, Scores};
    use crate::seed;
    use crate::statistics;
    use rand::RngExt;
    use std::collections::BTreeSet;

    /// Prediction rows of (fold, true class, predicted class).
    fn predictions(classes: &Classes, cells: &[(u32, Class, Class)]) -> Vec<PredictionRow> {
        cells
            .iter()
            .enumerate()
            .map(|(i, (fold, truth, predicted))| {
                let mut p = vec![0.4 / classes.len() as f32; classes.len()];
                p[classes.index(*predicted).unwrap()] = 0.6;
                PredictionRow::new(format!("d/{i}"), *fold, *truth, p)
            })
            .collect()
    }

    fn wbc5(cells: &[(u32, Class, Class)]) -> Vec<MetricRow> {
        metrics(&predictions(&Classes::wbc5(), cells), &Classes::wbc5()).unwrap()
    }

    fn value(rows: &[MetricRow], fold: Option<u32>, metric: Metric, class: Option<Class>) -> Option<f64> {
        rows.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class).unwrap().value
    }

    /// Counted by hand: fold 0 has NE, NE predicted as EO, EO, EO; fold 1 has NE, NE, NE, LY predicted as NE.
    #[test]
    fn metrics_equal_those_counted_by_hand() {
        const EO: Class = Class::EOSINOPHIL;
        const LY: Class = Class::LYMPHOCYTE;
        const MO: Class = Class::MONOCYTE;
        const NE: Class = Class::NEUTROPHIL;
        let rows = wbc5(&[
            (0, NE, NE),
            (0, NE, EO),
            (0, EO, EO),
            (0, EO, EO),
            (1, NE, NE),
            (1, NE, NE),
            (1, NE, NE),
            (1, LY, NE),
        ]);
        let v = |fold, metric, class| value(&rows, fold, metric, class);
        assert_eq!(v(Some(0), Metric::Recall, Some(NE)), Some(0.5));
        assert_eq!(v(Some(0), Metric::Precision, Some(EO)), Some(2.0 / 3.0));
        assert_eq!(v(Some(0), Metric::F1, Some(EO)), Some(0.8));
        assert_eq!(v(Some(0), Metric::BalancedAccuracy, None), Some(0.75));
        assert_eq!(v(Some(0), Metric::Accuracy, None), Some(0.75));
        assert_eq!(v(Some(0), Metric::Recall, Some(MO)), None, "no image of the class: not defined");
        assert_eq!(v(Some(1), Metric::Recall, Some(LY)), Some(0.0));
        assert_eq!(v(Some(1), Metric::Precision, Some(NE)), Some(0.75));
        assert_eq!(v(Some(1), Metric::BalancedAccuracy, None), Some(0.5));
        // Over folds: means of the folds that define the metric.
        assert_eq!(v(None, Metric::Recall, Some(NE)), Some(0.75));
        assert_eq!(v(None, Metric::Recall, Some(EO)), Some(1.0));
        assert_eq!(v(None, Metric::BalancedAccuracy, None), Some(0.625));
        let confused =
            rows.iter().find(|r| r.fold.is_none() && r.class == Some(LY) && r.predicted == Some(NE)).unwrap();
        assert_eq!((confused.value, confused.images), (Some(1.0), 1));
    }

    /// The metrics in plain loops, to compare Polars' with: value and images by fold, metric, class and predicted
    /// class.
    fn expected(classes: &Classes, cells: &[(u32, Class, Class)]) -> Vec<MetricRow> {
        let folds: BTreeSet<u32> = cells.iter().map(|cell| cell.0).collect();
        let count = |fold: u32, truth: Option<Class>, predicted: Option<Class>| {
            let selected = cells.iter().filter(|c| c.0 == fold && truth.is_none_or(|t| c.1 == t));
            selected.filter(|c| predicted.is_none_or(|p| c.2 == p)).count() as u64
        };
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let mut rows = Vec::new();
        for fold in folds {
            let mut add = |metric, class, value, images| {
                rows.push(MetricRow { fold: Some(fold), metric, class, predicted: None, value, images });
            };
            let correct = |class: Class| count(fold, Some(class), Some(class));
            let counts: Vec<(u64, u64)> =
                classes.iter().map(|class| (correct(class), count(fold, Some(class), None))).collect();
            let scores = Scores::from_counts(&counts);
            for ((class, (correct, images)), recall) in classes.iter().zip(counts).zip(&scores.recall) {
                let predicted = count(fold, None, Some(class));
                add(Metric::Recall, Some(class), *recall, images);
                add(Metric::Precision, Some(class), share(correct, predicted), predicted);
                add(Metric::F1, Some(class), share(2 * correct, images + predicted), images);
            }
            add(Metric::BalancedAccuracy, None, scores.balanced_accuracy, count(fold, None, None));
            add(Metric::Accuracy, None, scores.accuracy, count(fold, None, None));
            for (truth, predicted) in classes.iter().flat_map(|t| classes.iter().map(move |p| (t, p))) {
                let (class, images) = (Some(truth), count(fold, Some(truth), Some(predicted)));
                let (metric, predicted, value) = (Metric::Confusion, Some(predicted), Some(images as f64));
                rows.push(MetricRow { fold: Some(fold), metric, class, predicted, value, images });
            }
        }
        let mut over_folds: BTreeMap<_, (Vec<f64>, u64)> = BTreeMap::new();
        for row in &rows {
            let (values, images) = over_folds.entry((row.metric, row.class, row.predicted)).or_default();
            values.extend(row.value);
            *images += row.images;
        }
        for ((metric, class, predicted), (values, images)) in over_folds {
            let value = match metric {
                Metric::Confusion => Some(images as f64),
                _ => statistics::mean(&values),
            };
            rows.push(MetricRow { fold: None, metric, class, predicted, value, images });
        }
        let last = |fold: Option<u32>| fold.unwrap_or(u32::MAX);
        rows.sort_by_key(|r| (last(r.fold), r.metric, r.class, r.predicted));
        rows
    }

    #[test]
    fn polars_computes_the_same_as_plain_loops() {
        let mut rng = seed::rng(0, "evaluate", 0, 0, 0);
        let numbered = |n: usize| Classes::named((0..n).map(|i| Class::new(&format!("evaluated-{i:02}"))));
        for classes in [numbered(2), Classes::wbc5(), numbered(8), numbered(23)] {
            for (folds, images) in [(1, 1), (1, 60), (3, 7), (3, 3000), (10, 60), (10, 3000)] {
                let cell = |rng: &mut seed::Pcg64| {
                    // The last classes are rare, so that they have no image in small folds.
                    let class = |rng: &mut seed::Pcg64| {
                        let below = rng.random_range(1..=classes.len());
                        classes.at(rng.random_range(0..below))
                    };
                    let truth = class(rng);
                    let predicted = if rng.random_range(0..4) == 0 { class(rng) } else { truth };
                    (2 * rng.random_range(0..folds), truth, predicted)
                };
                let cells: Vec<_> = (0..images).map(|_| cell(&mut rng)).collect();
                let rows = metrics(&predictions(&classes, &cells), &classes).unwrap();
                assert_eq!(rows, expected(&classes, &cells), "{classes}: {images} images, {folds} folds");
                let recalls = intervals(&rows, &classes, folds);
                let recalls = recalls.iter().filter(|row| row.metric == Metric::Recall);
                let tested: BTreeSet<Class> = cells.iter().map(|cell| cell.1).collect();
                assert_eq!(recalls.map(|row| row.class.unwrap()).collect::<BTreeSet<_>>(), tested);
            }
        }
    }

    #[test]
    fn a_class_that_is_not_the_runs_is_an_error() {
        let other = [PredictionRow::new("d/1".into(), 0, Class::new("blast"), [0.2; 5])];
        let error = metrics(&other, &Classes::wbc5()).unwrap_err().to_string();
        assert!(error.contains("blast for d/1") && error.contains("neutrophil, eosinophil"), "{error}");
    }

    #[test]
    fn intervals_contain_the_metrics() {
        let (classes, mut cells) = (Classes::wbc5(), Vec::new());
        for fold in 0..4 {
            for (truth, correct, wrong) in [(0, 30 + fold, 4), (1, 12, fold), (2, 5, 1), (3, 20, 0), (4, 9, 2)] {
                let (truth, other) = (classes.at(truth), classes.at((truth + 1) % classes.len()));
                cells.extend((0..correct).map(|_| (fold, truth, truth)));
                cells.extend((0..wrong).map(|_| (fold, truth, other)));
            }
        }
        let metrics = wbc5(&cells);
        let rows = intervals(&metrics, &classes, 4);
        let find = |metric: Metric, class: Option<Class>, method: Method| {
            rows.iter().find(|r| r.metric == metric && r.class == class && r.method == method).unwrap()
        };
        for metric in [Metric::BalancedAccuracy, Metric::Accuracy] {
            let row = find(metric, None, Method::CorrectedT);
            assert_eq!((Some(row.value), row.units), (value(&metrics, None, metric, None), 4));
        }
        assert_eq!(rows.len(), 4 + classes.len());
        // Pooled: 126 of 142, 48 of 54, 20 of 24, 80 of 80 and 36 of 44 images of the classes.
        let balanced = find(Metric::BalancedAccuracy, None, Method::Melded);
        let expected = (126.0 / 142.0 + 48.0 / 54.0 + 20.0 / 24.0 + 1.0 + 36.0 / 44.0) / 5.0;
        assert!((balanced.value - expected).abs() < 1e-12 && balanced.units == cells.len() as u64, "{balanced:?}");
        assert!(rows.iter().all(|r| 0.0 <= r.low && r.low < r.value && r.value <= r.high && r.high <= 1.0), "{rows:?}");
        let all_correct = find(Metric::Recall, Some(Class::LYMPHOCYTE), Method::Wilson);
        assert_eq!((all_correct.value, all_correct.high, all_correct.units), (1.0, 1.0, 80));
        assert!(0.95 < all_correct.low && all_correct.low < 0.96, "80 of 80 still has an interval: {all_correct:?}");
        // One fold has no spread between folds; two classes are enough.
        let cells = [(0, Class::NEUTROPHIL, Class::NEUTROPHIL), (0, Class::EOSINOPHIL, Class::NEUTROPHIL)];
        let rows = intervals(&wbc5(&cells), &classes, 2);
        assert!(rows.iter().all(|r| r.method != Method::CorrectedT) && rows.len() == 4, "{rows:?}");
    }

    #[test]
    fn equal_probabilities_predict_the_first_class() {
        let rows = [PredictionRow::new("d/1".into(), 0, Class::NEUTROPHIL, [0.2; 5])];
        assert_eq!(value(&metrics(&rows, &Classes::wbc5()).unwrap(), None, Metric::Accuracy, None), Some(1.0));
    }
}
