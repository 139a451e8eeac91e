//! The results of a run's finished folds: predictions, metrics, intervals, epochs.

use super::dir::RunDir;
use super::record::Record;
use crate::class::{Class, Classes};
use crate::error::{Error, Input, Result};
use crate::rows::{EpochRow, IntervalRow, MetricRow, PredictionRow};
use crate::schema::{EPOCHS, INTERVALS, METRICS, PREDICTIONS, Schema};
use crate::scores::{Method, Metric};
use crate::table;
use crate::text;
use crate::workspace::Workspace;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Prediction rows of a run's finished folds.
///
/// # Errors
/// [`Error::Missing`] where there is no such run or no fold of it is finished.
pub fn predictions(ws: &Workspace, run: &str) -> Result<Vec<PredictionRow>> {
    let record = Record::read(ws, run)?;
    let path = RunDir::new(ws, run).predictions();
    let none = || Error::missing(Input::Predictions, &path).with_hint(format!("No fold of {run} is finished"));
    match table::read_class_rows::<PredictionRow>(&path, &PREDICTIONS, &record.classes) {
        Err(Error::Missing { .. }) => Err(none()),
        Ok((rows, _)) if rows.is_empty() => Err(none()),
        rows => Ok(rows?.0),
    }
}

/// Epoch rows of a run's finished folds; a classical classifier has none.
///
/// # Errors
/// [`Error::Missing`] where there is no such table.
pub fn epochs(ws: &Workspace, run: &str) -> Result<Vec<EpochRow>> {
    Ok(table::read_rows(&RunDir::new(ws, run).epochs(), &EPOCHS)?.0)
}

/// The metrics and intervals of a run, as evaluated.
pub struct Results {
    /// Name of the run.
    pub name: String,
    /// The run's record.
    pub record: Record,
    /// See `schemas/metrics.toml`.
    pub metrics: Vec<MetricRow>,
    /// See `schemas/intervals.toml`.
    pub intervals: Vec<IntervalRow>,
    /// The result on the held-out test set, where the split has one.
    pub held_out: Option<HeldOut>,
}

/// The metrics and intervals of the models of the finished folds together (their mean probabilities) on the held-out
/// test set, on which none of them was trained.
pub struct HeldOut {
    /// Metrics of the models together (`fold` null) and of each model alone.
    pub metrics: Vec<MetricRow>,
    /// Intervals of the models together.
    pub intervals: Vec<IntervalRow>,
}

impl HeldOut {
    /// A metric of the models together, and its interval for other test images.
    pub fn value(&self, metric: Metric, class: Option<Class>) -> (Option<f64>, Option<&IntervalRow>) {
        let row = self.metrics.iter().find(|r| r.fold.is_none() && r.metric == metric && r.class == class);
        (row.and_then(|r| r.value), over_images(&self.intervals, metric, class))
    }

    /// Number of images of a class, or of all.
    pub fn images(&self, class: Option<Class>) -> u64 {
        let metric = if class.is_some() { Metric::Recall } else { Metric::Accuracy };
        let row = self.metrics.iter().find(|r| r.fold.is_none() && r.metric == metric && r.class == class);
        row.map_or(0, |r| r.images)
    }

    /// Number of models together.
    pub fn models(&self) -> usize {
        self.metrics.iter().filter(|r| r.fold.is_some() && r.metric == Metric::Accuracy).count()
    }
}

impl Results {
    /// Reads the metrics and intervals of a run.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no such run or no fold of it is finished, [`Error::Stale`] where the
    /// predictions have changed since they were evaluated.
    pub fn load(ws: &Workspace, run: &str) -> Result<Self> {
        let record = Record::read(ws, run)?;
        let dir = RunDir::new(ws, run);
        let predictions = dir.predictions();
        let none = |error: Error| match table::exists(&predictions) {
            Ok(true) => error.with_hint(format!("The folds of {run} that are finished have not been evaluated")),
            _ => error.with_hint(format!("No fold of {run} is finished")),
        };
        let metrics = evaluated(&predictions, dir.metrics(), &METRICS).map_err(none)?;
        let intervals = evaluated(&predictions, dir.intervals(), &INTERVALS)?;
        let folder = dir.held_out();
        let predictions = folder.predictions();
        let held_out = match table::exists(&predictions)? {
            true => Some(HeldOut {
                metrics: evaluated(&predictions, folder.metrics(), &METRICS)?,
                intervals: evaluated(&predictions, folder.intervals(), &INTERVALS)?,
            }),
            false => None,
        };
        Ok(Self { name: run.into(), record, metrics, intervals, held_out })
    }

    /// A metric's value, 0 to 1; `fold` none: the mean over folds.
    pub fn value(&self, fold: Option<u32>, metric: Metric, class: Option<Class>) -> Option<f64> {
        self.metrics.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class)?.value
    }

    /// The mean of a metric of all classes over those of `folds` that have it, 0 to 1.
    pub fn mean(&self, metric: Metric, folds: &[u32]) -> Option<f64> {
        let values: Vec<f64> = folds.iter().filter_map(|fold| self.value(Some(*fold), metric, None)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// An interval: see `schemas/intervals.toml`.
    pub fn interval(&self, metric: Metric, class: Option<Class>, method: Method) -> Option<&IntervalRow> {
        self.intervals.iter().find(|r| r.metric == metric && r.class == class && r.method == method)
    }

    /// The interval of a metric for other test images: over subjects or slides where they are known, else over images
    /// (of a recall: Wilson's).
    pub fn over_images(&self, metric: Metric, class: Option<Class>) -> Option<&IntervalRow> {
        over_images(&self.intervals, metric, class)
    }

    /// A metric of all classes, 0 to 1, with the images of all finished folds pooled.
    pub fn pooled(&self, metric: Metric) -> Option<f64> {
        Some(self.over_images(metric, None)?.value)
    }

    /// What is to be said of classes with very few test images: see [`rare_classes`]. All folds are pooled.
    pub fn rare_classes(&self) -> Option<String> {
        let recall = |class| self.over_images(Metric::Recall, Some(class)).map(|row| row.value);
        let recalls = self.classes().iter().zip(self.images()).map(|(class, images)| (class, images, recall(class)));
        rare_classes(&recalls.collect::<Vec<_>>())
    }

    /// What the intervals resample with all its images, and how many there are: ("patient", 8); `None` for images.
    pub fn clusters(&self) -> Option<(&'static str, u64)> {
        self.intervals.iter().find_map(|row| Some((row.method.cluster()?, row.units)))
    }

    /// The classes that the run's models tell apart, in order.
    pub fn classes(&self) -> &Classes {
        &self.record.classes
    }

    /// Test images of each class, in class order, over the finished folds.
    pub fn images(&self) -> Vec<u64> {
        let recalls = || self.metrics.iter().filter(|r| r.fold.is_none() && r.metric == Metric::Recall);
        let images = |class| recalls().filter(|r| r.class == Some(class)).map(|r| r.images).sum();
        self.classes().iter().map(images).collect()
    }

    /// Classes of which at least one finished fold has no test image.
    pub fn untested(&self) -> Vec<Class> {
        let empty = |class: &Class| {
            let mut rows = self.metrics.iter().filter(|r| r.fold.is_some() && r.metric == Metric::Recall);
            rows.any(|r| r.class == Some(*class) && r.images == 0)
        };
        self.classes().iter().filter(empty).collect()
    }

    /// The smallest number, above 0, of test images of one class in one fold.
    pub fn fewest(&self) -> Option<u64> {
        let recalls = self.metrics.iter().filter(|r| r.fold.is_some() && r.metric == Metric::Recall);
        recalls.map(|r| r.images).filter(|n| *n > 0).min()
    }

    /// Folds whose test images are of several classes, and all predicted as one class.
    pub fn constant(&self) -> Vec<u32> {
        let is_constant = |fold: &u32| {
            let confusion = || {
                let rows = self.metrics.iter().filter(|r| r.fold == Some(*fold) && r.metric == Metric::Confusion);
                rows.filter(|r| r.value.is_some_and(|n| n > 0.0))
            };
            let truths: BTreeSet<_> = confusion().map(|r| r.class).collect();
            let predicted: BTreeSet<_> = confusion().map(|r| r.predicted).collect();
            truths.len() > 1 && predicted.len() == 1
        };
        (0..self.record.folds).filter(is_constant).collect()
    }

    /// Folds that are not trained yet.
    pub fn missing(&self) -> Vec<u32> {
        (0..self.record.folds).filter(|f| !self.metrics.iter().any(|r| r.fold == Some(*f))).collect()
    }
}

/// With fewer images of a class in all folds, its recall is hardly known, and nor is a mean over classes.
pub const FEW_OF_CLASS: u64 = 5;

/// What is to be said of a mean over classes that counts classes of very few images as much as all others; none where
/// there is no such class. `recalls` has the class, its images and its recall.
pub fn rare_classes(recalls: &[(Class, u64, Option<f64>)]) -> Option<String> {
    let is_rare = |images: u64| (1..FEW_OF_CLASS).contains(&images);
    let rare: Vec<String> = recalls
        .iter()
        .filter(|(_, images, _)| is_rare(*images))
        .map(|(class, images, _)| format!("{class} ({})", text::of(*images, "image")))
        .collect();
    if rare.is_empty() {
        return None;
    }
    let others: Vec<f64> =
        recalls.iter().filter(|(_, images, _)| *images >= FEW_OF_CLASS).filter_map(|(_, _, recall)| *recall).collect();
    let without = match others.len() {
        0 => "there is no other class".to_string(),
        n => format!("without, it is {:.1} %", 100.0 * others.iter().sum::<f64>() / n as f64),
    };
    let count = if rare.len() == 1 { "counts" } else { "count" };
    Some(format!(
        "{} {count} in the balanced accuracy as much as every other class, with fewer than {FEW_OF_CLASS} images: \
         {without}",
        rare.join(", ")
    ))
}

/// The row for other test images: see [`Results::over_images`].
pub fn over_images(rows: &[IntervalRow], metric: Metric, class: Option<Class>) -> Option<&IntervalRow> {
    let clusters = [Method::SubjectBootstrap, Method::SlideBootstrap, Method::CopyGroupBootstrap];
    let methods = clusters.into_iter().chain([Method::Melded, Method::Wilson]);
    let find = |method| rows.iter().find(|r| r.metric == metric && r.class == class && r.method == method);
    methods.into_iter().find_map(find)
}

/// The rows of a table that evaluate wrote, which must belong to the present predictions.
fn evaluated<T: DeserializeOwned>(predictions: &Path, path: PathBuf, schema: &Schema) -> Result<Vec<T>> {
    let (rows, provenance) = table::read_rows(&path, schema)?;
    provenance.require(Input::Predictions, &table::file_hash(predictions)?, Input::Metrics, &path)?;
    Ok(rows)
}
