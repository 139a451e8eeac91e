//! Evaluate: a run's prediction rows → metric rows, with Polars, and interval rows. Never runs a model; the report never
//! computes.
//!
//! The paper's "accuracy" of a class (Tables 3 to 6) is the share of its test images that were classified right:
//! recall. Its "Aver. Accuracy" of a fold is the plain mean over the classes: balanced accuracy. An image goes to the
//! class of its largest probability (the first of equal ones).

use crate::class::Class;
use crate::error::{Error, Result};
use crate::rows::{IntervalRow, MetricRow, PredictionRow};
use crate::run::{Record, RunDir};
use crate::schema::{INTERVALS, METRICS, PREDICTIONS};
use crate::scores::{Method, Metric, Scores};
use crate::statistics::{self, Interval, LEVEL, RESAMPLES};
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use polars::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

pub mod curves;

/// What a run came out as, over the folds there are.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: String,
    pub folds: u32,
    pub images: u64,
    /// Means over folds, 0 to 1.
    pub balanced_accuracy: Option<f64>,
    pub accuracy: Option<f64>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        write!(
            f,
            "test: balanced accuracy {}, accuracy {} (mean over {} folds, {} images)",
            percent(self.balanced_accuracy),
            percent(self.accuracy),
            self.folds,
            self.images
        )
    }
}

/// Reads a run's `predictions.parquet` and writes its `metrics.parquet` and `intervals.parquet`.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Format`] for the run or its predictions.
pub fn run(ws: &Workspace, run: &str) -> Result<Summary> {
    let record = Record::read(ws, run)?;
    let dir = RunDir::new(ws, run);
    let path = dir.predictions();
    let (predictions, _) = table::read_rows::<PredictionRow>(&path, &PREDICTIONS)?;
    let counts = confusion(&predictions)?;
    let rows = metrics(&counts);
    let mut made = Provenance {
        stage: "evaluate".into(),
        settings: serde_json::Value::Null,
        seed: None,
        inputs: BTreeMap::from([("predictions".into(), table::file_hash(&path)?)]),
    };
    table::write_rows(&dir.metrics(), &METRICS, &made, &rows)?;
    made.settings = serde_json::json!({ "level": LEVEL, "resamples": RESAMPLES });
    made.seed = Some(record.seed);
    let intervals = intervals(&counts, record.folds, record.seed);
    table::write_rows(&dir.intervals(), &INTERVALS, &made, &intervals)?;
    let over_folds =
        |metric: Metric| rows.iter().find(|r| r.fold.is_none() && r.metric == metric).and_then(|r| r.value);
    Ok(Summary {
        run: run.into(),
        folds: rows.iter().filter(|r| r.fold.is_some() && r.metric == Metric::Accuracy).count() as u32,
        images: predictions.len() as u64,
        balanced_accuracy: over_folds(Metric::BalancedAccuracy),
        accuracy: over_folds(Metric::Accuracy),
    })
}

/// The metric and interval rows of models that were asked about the same images: with `fold` null of the models together,
/// with a number of the model of that fold alone; intervals of the models together.
///
/// # Errors
/// [`Error::Compute`] where Polars refuses.
pub fn panel(
    together: &[PredictionRow],
    alone: &[PredictionRow],
    seed: u64,
) -> Result<(Vec<MetricRow>, Vec<IntervalRow>)> {
    let counts = confusion(together)?;
    let mut rows = metrics(&confusion(alone)?);
    rows.retain(|r| r.fold.is_some());
    rows.extend(metrics(&counts).into_iter().filter(|r| r.fold.is_none()));
    Ok((rows, intervals(&counts, 1, seed)))
}

/// Images by fold, true class and predicted class.
type Confusion = BTreeMap<(u32, Class, Class), u64>;

/// The folds that there are, in order.
fn folds(counts: &Confusion) -> Vec<u32> {
    let mut folds: Vec<u32> = counts.keys().map(|(fold, ..)| *fold).collect();
    folds.dedup();
    folds
}

/// The metric rows: for each fold, and over folds (`fold` null: the mean of the folds' values where
/// they are defined; confusion: the sum), recall, precision and F1 a class, balanced accuracy (the mean of the defined
/// recalls), accuracy, and confusion counts.
fn metrics(counts: &Confusion) -> Vec<MetricRow> {
    let folds = folds(counts);
    let mut rows = Vec::new();
    // For the last rows: by metric and class, the folds' defined values, and how many images they rest on.
    let mut over: BTreeMap<(Metric, Option<Class>), (Vec<f64>, u64)> = BTreeMap::new();
    for fold in &folds {
        let n = |truth: Class, predicted: Class| counts.get(&(*fold, truth, predicted)).copied().unwrap_or(0);
        let truly = Class::ALL.map(|t| Class::ALL.map(|p| n(t, p)).iter().sum::<u64>());
        let all: u64 = truly.iter().sum();
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let scores = Scores::from_counts(Class::ALL.map(|c| (n(c, c), truly[c.index()])));
        let mut add = |metric: Metric, class: Option<Class>, value: Option<f64>, images: u64| {
            rows.push(MetricRow { fold: Some(*fold), metric, class, predicted: None, value, images });
            let (values, sum) = over.entry((metric, class)).or_default();
            values.extend(value);
            *sum += images;
        };
        for class in Class::ALL {
            let truly = truly[class.index()];
            let called: u64 = Class::ALL.map(|t| n(t, class)).iter().sum();
            add(Metric::Recall, Some(class), scores.recall[class.index()], truly);
            add(Metric::Precision, Some(class), share(n(class, class), called), called);
            // 2 TP / (2 TP + FP + FN): defined where the class occurs at all.
            add(Metric::F1, Some(class), share(2 * n(class, class), truly + called), truly);
        }
        add(Metric::BalancedAccuracy, None, scores.balanced_accuracy, all);
        add(Metric::Accuracy, None, scores.accuracy, all);
        for (truth, predicted) in pairs() {
            rows.push(confusion_row(Some(*fold), truth, predicted, n(truth, predicted)));
        }
    }
    for ((metric, class), (values, images)) in over {
        rows.push(MetricRow { fold: None, metric, class, predicted: None, value: statistics::mean(&values), images });
    }
    for (truth, predicted) in pairs() {
        let sum = folds.iter().filter_map(|fold| counts.get(&(*fold, truth, predicted))).sum();
        rows.push(confusion_row(None, truth, predicted, sum));
    }
    rows
}

/// The interval rows: of balanced accuracy and accuracy over images and over folds, of accuracy and each recall as shares
/// of images. `of_folds` is the number of folds of the split, finished or not.
fn intervals(counts: &Confusion, of_folds: u32, seed: u64) -> Vec<IntervalRow> {
    let folds = folds(counts);
    let n = |fold: u32, truth: Class, predicted: Class| counts.get(&(fold, truth, predicted)).copied().unwrap_or(0);
    let stratum = |fold: u32, truth: Class| {
        let all: u64 = Class::ALL.map(|p| n(fold, truth, p)).iter().sum();
        [n(fold, truth, truth), all - n(fold, truth, truth)]
    };
    let strata: Vec<[u64; 2]> = folds.iter().flat_map(|f| Class::ALL.map(|t| stratum(*f, t))).collect();
    let by_fold = |strata: &[[u64; 2]]| Scores::by_fold(strata, |[right, _]| *right);
    let found = by_fold(&strata);
    let over_folds = Scores::mean(&found).values();
    let over_images = statistics::bootstrap(&strata, seed, |strata| Scores::mean(&by_fold(strata)).values());
    // The images and those classified right, of the metric's class or of all.
    let images = |class: Option<Class>| {
        let of = strata.iter().enumerate().filter(|(i, _)| class.is_none_or(|c| c.index() == i % Class::COUNT));
        of.fold((0, 0), |sum, (_, [right, wrong])| (sum.0 + right, sum.1 + right + wrong))
    };
    let mut rows = Vec::new();
    for (i, (metric, class)) in Scores::keys().into_iter().enumerate() {
        let (right, all) = images(class);
        let mut add = |method: Method, value: Option<f64>, interval: Option<Interval>, units: u64| {
            if let (Some(value), Some(interval)) = (value, interval) {
                // A t interval does not know that nothing is better than all.
                let (low, high) = (interval.low.max(0.0), interval.high.min(1.0));
                rows.push(IntervalRow { metric, class, method, level: LEVEL, value, low, high, units });
            }
        };
        if class.is_none() {
            let values: Vec<f64> = found.iter().filter_map(|fold| fold.values()[i]).collect();
            let corrected = statistics::corrected_interval(&values, test_to_train(of_folds));
            add(Method::Bootstrap, over_folds[i], over_images[i], all);
            add(Method::CorrectedT, over_folds[i], corrected, values.len() as u64);
        }
        if metric != Metric::BalancedAccuracy {
            add(Method::Wilson, Some(right as f64 / all as f64), statistics::wilson(right, all), all);
        }
    }
    rows
}

/// Test images over training images in k-fold cross-validation: what folds share, for [`statistics::corrected_t`].
pub fn test_to_train(folds: u32) -> f64 {
    1.0 / f64::from(folds.max(2) - 1)
}

fn pairs() -> impl Iterator<Item = (Class, Class)> {
    Class::ALL.into_iter().flat_map(|t| Class::ALL.into_iter().map(move |p| (t, p)))
}

fn confusion_row(fold: Option<u32>, truth: Class, predicted: Class, n: u64) -> MetricRow {
    let (class, predicted) = (Some(truth), Some(predicted));
    MetricRow { fold, metric: Metric::Confusion, class, predicted, value: Some(n as f64), images: n }
}

/// Counts the images.
///
/// # Errors
/// [`Error::Compute`] where Polars refuses.
fn confusion(predictions: &[PredictionRow]) -> Result<Confusion> {
    let failed = |e: PolarsError| Error::Compute { what: "evaluate".into(), message: e.to_string() };
    grouped(predictions).map_err(failed)
}

fn grouped(predictions: &[PredictionRow]) -> PolarsResult<Confusion> {
    let index = |class: Class| class.index() as u32;
    let frame = df!(
        "fold" => predictions.iter().map(|r| r.fold).collect::<Vec<u32>>(),
        "truth" => predictions.iter().map(|r| index(r.truth)).collect::<Vec<u32>>(),
        "predicted" => predictions.iter().map(|r| index(r.predicted())).collect::<Vec<u32>>(),
    )?;
    let keys = ["fold", "truth", "predicted"];
    let counts = frame.lazy().group_by(keys.map(col)).agg([len().alias("images")]).collect()?;
    let [fold, truth, predicted, images] =
        ["fold", "truth", "predicted", "images"].map(|name| counts.column(name)?.u32().cloned());
    let (fold, truth, predicted, images) = (fold?, truth?, predicted?, images?);
    let class = |i: u32| Class::ALL[i as usize];
    Ok((0..counts.height())
        .filter_map(|i| {
            let key = (fold.get(i)?, class(truth.get(i)?), class(predicted.get(i)?));
            Some((key, u64::from(images.get(i)?)))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[(u32, Class, Class)]) -> Vec<PredictionRow> {
        of.iter()
            .enumerate()
            .map(|(i, (fold, truth, predicted))| {
                let mut p = [0.1; Class::COUNT];
                p[predicted.index()] = 0.6;
                PredictionRow::new(format!("d/{i}"), *fold, *truth, p)
            })
            .collect()
    }

    fn counted(of: &[(u32, Class, Class)]) -> Confusion {
        confusion(&rows(of)).unwrap()
    }

    fn value(rows: &[MetricRow], fold: Option<u32>, metric: Metric, class: Option<Class>) -> Option<f64> {
        rows.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class).unwrap().value
    }

    /// Numbers by hand: fold 0 has NE NE→EO EO EO, fold 1 has NE NE NE LY→NE.
    #[test]
    fn metrics_are_those_of_a_hand_count() {
        use Class::{Eosinophil as EO, Lymphocyte as LY, Monocyte as MO, Neutrophil as NE};
        let got = metrics(&counted(&[
            (0, NE, NE),
            (0, NE, EO),
            (0, EO, EO),
            (0, EO, EO),
            (1, NE, NE),
            (1, NE, NE),
            (1, NE, NE),
            (1, LY, NE),
        ]));
        let v = |fold, metric, class| value(&got, fold, metric, class);
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
        let confused = got.iter().find(|r| r.fold.is_none() && r.class == Some(LY) && r.predicted == Some(NE)).unwrap();
        assert_eq!((confused.value, confused.images), (Some(1.0), 1));
    }

    #[test]
    fn intervals_are_about_the_metrics_and_hold_them() {
        let mut of = Vec::new();
        for fold in 0..4 {
            for (truth, right, wrong) in [(0, 30 + fold, 4), (1, 12, fold), (2, 5, 1), (3, 20, 0), (4, 9, 2)] {
                let (truth, other) = (Class::ALL[truth], Class::ALL[(truth + 1) % Class::COUNT]);
                of.extend((0..right).map(|_| (fold, truth, truth)));
                of.extend((0..wrong).map(|_| (fold, truth, other)));
            }
        }
        let counts = counted(&of);
        let metrics = metrics(&counts);
        let got = intervals(&counts, 4, 0);
        let find = |metric: Metric, class: Option<Class>, method: Method| {
            got.iter().find(|r| r.metric == metric && r.class == class && r.method == method).unwrap()
        };
        for metric in [Metric::BalancedAccuracy, Metric::Accuracy] {
            for (method, units) in [(Method::Bootstrap, of.len() as u64), (Method::CorrectedT, 4)] {
                let row = find(metric, None, method);
                assert_eq!((Some(row.value), row.units), (value(&metrics, None, metric, None), units), "{method:?}");
            }
        }
        assert_eq!(got.len(), 4 + 1 + Class::COUNT);
        assert!(got.iter().all(|r| 0.0 <= r.low && r.low < r.value && r.value <= r.high && r.high <= 1.0), "{got:?}");
        let all_right = find(Metric::Recall, Some(Class::Lymphocyte), Method::Wilson);
        assert_eq!((all_right.value, all_right.high, all_right.units), (1.0, 1.0, 80));
        assert!(0.95 < all_right.low && all_right.low < 0.96, "80 of 80 is not all of them for ever: {all_right:?}");
        // Wilson's is for all images at once, the bootstrap keeps folds and classes: near, not equal.
        let (bootstrap, wilson) =
            (find(Metric::Accuracy, None, Method::Bootstrap), find(Metric::Accuracy, None, Method::Wilson));
        assert!((bootstrap.low - wilson.low).abs() < 0.02 && (bootstrap.high - wilson.high).abs() < 0.02);
        // One fold has no spread; fewer than five classes are no obstacle.
        let one = intervals(&counted(&[(0, Class::ALL[0], Class::ALL[0]), (0, Class::ALL[1], Class::ALL[0])]), 2, 0);
        assert!(one.iter().all(|r| r.method != Method::CorrectedT) && one.len() == 5, "{one:?}");
    }

    #[test]
    fn equal_probabilities_go_to_the_first_class() {
        let rows = [PredictionRow::new("d/1".into(), 0, Class::Neutrophil, [0.2; 5])];
        assert_eq!(value(&metrics(&confusion(&rows).unwrap()), None, Metric::Accuracy, None), Some(1.0));
    }
}
