//! Evaluate: a run's prediction rows → metric rows, with Polars. Never runs a model; the report never computes.
//!
//! The paper's "accuracy" of a class (Tables 3 to 6) is the share of its test images that were classified right:
//! recall. Its "Aver. Accuracy" of a fold is the plain mean over the classes: balanced accuracy. An image goes to the
//! class of its largest probability (the first of equal ones).

use crate::class::Class;
use crate::error::{Error, Result};
use crate::rows::{MetricRow, PredictionRow};
use crate::schema::{METRICS, PREDICTIONS};
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use polars::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

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

/// Reads a run's `predictions.parquet` and writes its `metrics.parquet`.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Format`] for the predictions.
pub fn run(ws: &Workspace, run: &str) -> Result<Summary> {
    let path = ws.run(run).join("predictions.parquet");
    let (predictions, _) = table::read_rows::<PredictionRow>(&path, &PREDICTIONS)?;
    let rows = metrics(&predictions)?;
    let made = Provenance {
        stage: "evaluate".into(),
        settings: serde_json::Value::Null,
        seed: None,
        inputs: BTreeMap::from([("predictions".into(), table::file_hash(&path)?)]),
    };
    table::write_rows(&ws.run(run).join("metrics.parquet"), &METRICS, &made, &rows)?;
    let over_folds = |metric: &str| rows.iter().find(|r| r.fold.is_none() && r.metric == metric).and_then(|r| r.value);
    Ok(Summary {
        run: run.into(),
        folds: rows.iter().filter(|r| r.fold.is_some() && r.metric == "accuracy").count() as u32,
        images: predictions.len() as u64,
        balanced_accuracy: over_folds("balanced_accuracy"),
        accuracy: over_folds("accuracy"),
    })
}

/// The metric rows of predictions: for each fold, and over folds (`fold` null: the mean of the folds' values where
/// they are defined; confusion: the sum), recall, precision and F1 a class, balanced accuracy (the mean of the defined
/// recalls), accuracy, and confusion counts.
///
/// # Errors
/// [`Error::Compute`] where Polars refuses.
pub fn metrics(predictions: &[PredictionRow]) -> Result<Vec<MetricRow>> {
    let failed = |e: PolarsError| Error::Compute { what: "evaluate".into(), message: e.to_string() };
    let counts = confusion(predictions).map_err(failed)?;
    let mut folds: Vec<u32> = counts.keys().map(|(fold, ..)| *fold).collect();
    folds.dedup();

    let mut rows = Vec::new();
    // For the last rows: by metric and class, the folds' defined values, and how many images they rest on.
    let mut over: BTreeMap<(usize, &str, Option<Class>), (Vec<f64>, u64)> = BTreeMap::new();
    for fold in &folds {
        let n = |truth: Class, predicted: Class| counts.get(&(*fold, truth, predicted)).copied().unwrap_or(0);
        let all: u64 = pairs().map(|(t, p)| n(t, p)).sum();
        let right: u64 = Class::ALL.map(|c| n(c, c)).iter().sum();
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let mut add = |order, metric: &'static str, class: Option<Class>, value: Option<f64>, images: u64| {
            rows.push(MetricRow { fold: Some(*fold), metric: metric.into(), class, predicted: None, value, images });
            let (values, sum) = over.entry((order, metric, class)).or_default();
            values.extend(value);
            *sum += images;
        };
        let mut recalls = Vec::new();
        for class in Class::ALL {
            let truly: u64 = Class::ALL.map(|p| n(class, p)).iter().sum();
            let called: u64 = Class::ALL.map(|t| n(t, class)).iter().sum();
            let (recall, precision) = (share(n(class, class), truly), share(n(class, class), called));
            recalls.extend(recall);
            add(0, "recall", Some(class), recall, truly);
            add(1, "precision", Some(class), precision, called);
            // 2 TP / (2 TP + FP + FN): defined where the class occurs at all.
            add(2, "f1", Some(class), share(2 * n(class, class), truly + called), truly);
        }
        add(3, "balanced_accuracy", None, mean(&recalls), all);
        add(4, "accuracy", None, share(right, all), all);
        for (truth, predicted) in pairs() {
            rows.push(confusion_row(Some(*fold), truth, predicted, n(truth, predicted)));
        }
    }
    for ((_, metric, class), (values, images)) in over {
        rows.push(MetricRow {
            fold: None,
            metric: metric.into(),
            class,
            predicted: None,
            value: mean(&values),
            images,
        });
    }
    for (truth, predicted) in pairs() {
        let sum = folds.iter().filter_map(|fold| counts.get(&(*fold, truth, predicted))).sum();
        rows.push(confusion_row(None, truth, predicted, sum));
    }
    Ok(rows)
}

fn pairs() -> impl Iterator<Item = (Class, Class)> {
    Class::ALL.into_iter().flat_map(|t| Class::ALL.into_iter().map(move |p| (t, p)))
}

fn confusion_row(fold: Option<u32>, truth: Class, predicted: Class, n: u64) -> MetricRow {
    let (class, predicted) = (Some(truth), Some(predicted));
    MetricRow { fold, metric: "confusion".into(), class, predicted, value: Some(n as f64), images: n }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Images by fold, true class and predicted class.
fn confusion(predictions: &[PredictionRow]) -> PolarsResult<BTreeMap<(u32, Class, Class), u64>> {
    let index = |class: Class| class.index() as u32;
    let predicted =
        |p: [f32; Class::COUNT]| (0..Class::COUNT).rev().max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap_or(0);
    let frame = df!(
        "fold" => predictions.iter().map(|r| r.fold).collect::<Vec<u32>>(),
        "truth" => predictions.iter().map(|r| index(r.truth)).collect::<Vec<u32>>(),
        "predicted" => predictions.iter().map(|r| predicted(r.probabilities()) as u32).collect::<Vec<u32>>(),
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

    fn value(rows: &[MetricRow], fold: Option<u32>, metric: &str, class: Option<Class>) -> Option<f64> {
        rows.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class).unwrap().value
    }

    /// Numbers by hand: fold 0 has NE NE→EO EO EO, fold 1 has NE NE NE LY→NE.
    #[test]
    fn metrics_are_those_of_a_hand_count() {
        use Class::{Eosinophil as EO, Lymphocyte as LY, Monocyte as MO, Neutrophil as NE};
        let got = metrics(&rows(&[
            (0, NE, NE),
            (0, NE, EO),
            (0, EO, EO),
            (0, EO, EO),
            (1, NE, NE),
            (1, NE, NE),
            (1, NE, NE),
            (1, LY, NE),
        ]))
        .unwrap();
        let v = |fold, metric, class| value(&got, fold, metric, class);
        assert_eq!(v(Some(0), "recall", Some(NE)), Some(0.5));
        assert_eq!(v(Some(0), "precision", Some(EO)), Some(2.0 / 3.0));
        assert_eq!(v(Some(0), "f1", Some(EO)), Some(0.8));
        assert_eq!(v(Some(0), "balanced_accuracy", None), Some(0.75));
        assert_eq!(v(Some(0), "accuracy", None), Some(0.75));
        assert_eq!(v(Some(0), "recall", Some(MO)), None, "no image of the class: not defined");
        assert_eq!(v(Some(1), "recall", Some(LY)), Some(0.0));
        assert_eq!(v(Some(1), "precision", Some(NE)), Some(0.75));
        assert_eq!(v(Some(1), "balanced_accuracy", None), Some(0.5));
        // Over folds: means of the folds that define the metric.
        assert_eq!(v(None, "recall", Some(NE)), Some(0.75));
        assert_eq!(v(None, "recall", Some(EO)), Some(1.0));
        assert_eq!(v(None, "balanced_accuracy", None), Some(0.625));
        let confused = got.iter().find(|r| r.fold.is_none() && r.class == Some(LY) && r.predicted == Some(NE)).unwrap();
        assert_eq!((confused.value, confused.images), (Some(1.0), 1));
    }

    #[test]
    fn equal_probabilities_go_to_the_first_class() {
        let rows = [PredictionRow::new("d/1".into(), 0, Class::Neutrophil, [0.2; 5])];
        assert_eq!(value(&metrics(&rows).unwrap(), None, "accuracy", None), Some(1.0));
    }
}
