//! External validation: a run's models on the labelled cells of another data set, none of which they were trained on. What a
//! model reaches at home says little about another laboratory's stain, light and camera; this says it.

use super::{BATCH, Found, Panel, number};
use crate::atomic;
use crate::class::Class;
use crate::context::Context;
use crate::dataset::Usable;
use crate::error::{Error, Input, Result};
use crate::evaluate;
use crate::nn::device::Device;
use crate::preprocess;
use crate::rows::{CellRow, IntervalRow, ManifestRow, MetricRow, PredictionRow};
use crate::run::{ModelId, Record, Results, RunDir, leak};
use crate::schema::{CELLS, INTERVALS, METRICS, PREDICTIONS};
use crate::scores::{Method, Metric};
use crate::statistics;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an external validation came out as.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: String,
    /// The data set that the models were validated on.
    pub dataset: String,
    /// The run's own data set.
    pub home_dataset: String,
    /// How many models were averaged.
    pub models: usize,
    pub images: u64,
    /// Rows without a class, or with an issue of severity error.
    pub left_out: u64,
    /// Of the models together, 0 to 1.
    pub balanced_accuracy: Option<f64>,
    pub accuracy: Option<f64>,
    /// 95 % interval of the balanced accuracy over images.
    pub interval: Option<[f64; 2]>,
    /// Balanced accuracy of the same models, each alone, on the test images of its own fold: their mean.
    pub home: Option<f64>,
    /// Balanced accuracy of a model alone: lowest, mean, highest.
    pub alone: Option<[f64; 3]>,
    /// Recall of each class.
    pub recalls: Vec<Option<f64>>,
    /// Cells that are marked as in doubt, and the accuracy on the others.
    pub doubtful: u64,
    pub accuracy_without_doubtful: Option<f64>,
    /// What is to be known of whether the models saw an image.
    pub note: Option<String>,
    pub folder: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let (models, images) = (number(self.models as u64, "model"), number(self.images, "image"));
        writeln!(f, "run {} on {}: {models} together, {images}", self.run, self.dataset)?;
        write!(f, "balanced accuracy {}", percent(self.balanced_accuracy))?;
        if let Some([low, high]) = self.interval {
            write!(f, " (95 % over images {:.1} to {:.1})", 100.0 * low, 100.0 * high)?;
        }
        writeln!(f, ", accuracy {}", percent(self.accuracy))?;
        let recalls = Class::ALL.iter().zip(&self.recalls).map(|(class, v)| format!("{class} {}", percent(*v)));
        writeln!(f, "recall: {}", recalls.collect::<Vec<_>>().join(", "))?;
        if let Some([low, mean, high]) = self.alone {
            write!(
                f,
                "a model alone: balanced accuracy {} ({:.1} to {:.1} %)",
                percent(Some(mean)),
                100.0 * low,
                100.0 * high
            )?;
            if let Some(home) = self.home {
                let points = 100.0 * (mean - home);
                write!(f, ", on test images of {} {}: {points:+.1} points", self.home_dataset, percent(Some(home)))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "in doubt: {} of {}; accuracy on the others {}",
            self.doubtful,
            self.images,
            percent(self.accuracy_without_doubtful)
        )?;
        if let Some(note) = &self.note {
            writeln!(f, "{note}")?;
        }
        write!(f, "{}", self.folder.display())
    }
}

/// Asks all models of `run` (or that of `fold` alone) about every usable image of `dataset`, cut as the run's own were, and
/// writes cells, predictions (calibrated, of the models together), metrics (`fold` null: of the models together; a fold's
/// number: of its model alone) and intervals to `runs/<run>/external/<dataset>/` (of one fold's model: `<dataset>-fold-<n>/`).
///
/// # Errors
/// [`Error::Setting`] where `dataset` is the run's own or holds an image that the models were trained on;
/// [`Error::Missing`] where the run has no finished model or `dataset` no manifest; [`Error::Image`] or [`Error::Stale`] of
/// an image that is not as it was ingested.
pub fn run(
    ws: &Workspace,
    run: &str,
    model: Option<ModelId>,
    dataset: &str,
    device: Device,
    ctx: &Context,
) -> Result<Summary> {
    let record = Record::read(ws, run)?;
    if record.dataset == dataset {
        return Err(Error::Setting {
            key: "dataset".into(),
            expected: "another data set than the run's own, whose test images wbc train reports on".into(),
            got: dataset.into(),
        });
    }
    let settings = record.network_preprocess(run)?.clone();
    let Usable { cells: rows, left_out, inputs } = Usable::read(ws, dataset)?;
    let manifest = inputs[Input::Manifest.name()].clone();
    let weights = leak::Weights { key: "run", from: run, record: &record, model };
    let note = leak::check(ws, weights, &rows, dataset)?;
    let panel = Panel::open(ws, run, model, device, ctx)?;
    let raw = ws.raw_dataset(dataset);
    let (mut cells, mut together, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    ctx.progress.begin("validate", Some(rows.len() as u64), "images");
    let asked = (|| {
        for rows in rows.chunks(BATCH) {
            let read = |row: &ManifestRow| {
                ctx.check_stop()?;
                let picture = preprocess::one(&raw, row, &settings)?;
                let (row, cut) = (row.clone(), settings.clone());
                Ok(Found { path: row.path.clone().into(), cell: 0, cell_box: None, picture, row, cut })
            };
            let found: Vec<Found> = rows.par_iter().map(read).collect::<Result<_>>()?;
            for (row, told) in rows.iter().zip(panel.classify(&found)?) {
                let truth = row.class.expect("usable rows have one");
                let prediction = |fold, p| PredictionRow::new(row.image_id.clone(), fold, truth, p);
                together.push(prediction(0, told.row.probabilities()));
                let by_model = panel.ids().zip(told.by_model);
                alone.extend(by_model.filter_map(|(id, p)| Some(prediction(id.fold()?, p))));
                cells.push(told.row);
            }
            ctx.progress.advance(rows.len() as u64);
        }
        Ok(())
    })();
    ctx.progress.end();
    asked?;
    let (metrics, intervals) = evaluate::panel(&together, &alone, record.seed)?;
    let about = About { dataset: dataset.into(), models: panel.ids().collect(), note: note.clone(), manifest };
    let found = Validation { about, cells, predictions: together, metrics, intervals };
    let folder = RunDir::new(ws, run).external_dataset(dataset, model);
    found.write(&folder, &panel.provenance(run))?;
    let interval = found.interval(Metric::BalancedAccuracy, Method::Bootstrap);
    Ok(Summary {
        run: run.into(),
        dataset: dataset.into(),
        home_dataset: record.dataset.clone(),
        models: panel.models.len(),
        images: rows.len() as u64,
        left_out,
        balanced_accuracy: found.value(Metric::BalancedAccuracy, None),
        accuracy: found.value(Metric::Accuracy, None),
        interval: interval.map(|r| [r.low, r.high]),
        home: own_balanced_accuracy(ws, run, &found.about.models)?,
        alone: found.alone(),
        recalls: Class::ALL.map(|class| found.value(Metric::Recall, Some(class))).into(),
        doubtful: found.cells.iter().filter(|c| c.doubt.is_some()).count() as u64,
        accuracy_without_doubtful: found.accuracy_without_doubtful(),
        note,
        folder,
    })
}

/// Mean balanced accuracy of `models` on the run's own test images, 0 to 1; none where they are not evaluated.
fn own_balanced_accuracy(ws: &Workspace, run: &str, models: &[ModelId]) -> Result<Option<f64>> {
    let folds: Vec<u32> = models.iter().filter_map(|id| id.fold()).collect();
    match Results::load(ws, run) {
        Err(Error::Missing { .. }) => Ok(None),
        results => Ok(results?.mean(Metric::BalancedAccuracy, &folds)),
    }
}

/// What was asked about, and of whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    pub dataset: String,
    /// The models that were averaged.
    pub models: Vec<ModelId>,
    /// What is to be known of whether the models saw an image.
    pub note: Option<String>,
    /// Hash of the data set's manifest.
    pub manifest: String,
}

/// An external validation that was done.
pub struct Validation {
    pub about: About,
    pub cells: Vec<CellRow>,
    pub predictions: Vec<PredictionRow>,
    pub metrics: Vec<MetricRow>,
    pub intervals: Vec<IntervalRow>,
}

impl Validation {
    /// All of it or nothing: the tables are read together.
    fn write(&self, folder: &Path, made: &Provenance) -> Result<()> {
        atomic::write_dir(folder, |folder| {
            table::write_rows(&folder.join("cells.parquet"), &CELLS, made, &self.cells)?;
            let path = folder.join("predictions.parquet");
            table::write_rows(&path, &PREDICTIONS, made, &self.predictions)?;
            let inputs = BTreeMap::from([("predictions".into(), table::file_hash(&path)?)]);
            let made = Provenance { stage: "evaluate".into(), inputs, ..made.clone() };
            table::write_rows(&folder.join("metrics.parquet"), &METRICS, &made, &self.metrics)?;
            table::write_rows(&folder.join("intervals.parquet"), &INTERVALS, &made, &self.intervals)?;
            let about = serde_json::to_vec_pretty(&self.about).expect("plain data");
            atomic::write_bytes(&folder.join("about.json"), &about)
        })
    }

    /// Balanced accuracy of a model alone, 0 to 1: lowest, mean, highest.
    pub fn alone(&self) -> Option<[f64; 3]> {
        let of = self.metrics.iter().filter(|r| r.fold.is_some() && r.metric == Metric::BalancedAccuracy);
        let mut of: Vec<f64> = of.filter_map(|r| r.value).collect();
        if self.about.models == [ModelId::All] {
            of.extend(self.value(Metric::BalancedAccuracy, None));
        }
        let mean = statistics::mean(&of)?;
        Some([of.iter().copied().fold(1.0, f64::min), mean, of.iter().copied().fold(0.0, f64::max)])
    }

    /// A metric of the models together, 0 to 1.
    pub fn value(&self, metric: Metric, class: Option<Class>) -> Option<f64> {
        self.metrics.iter().find(|r| r.fold.is_none() && r.metric == metric && r.class == class)?.value
    }

    /// An interval of a metric over all classes, of the models together.
    pub fn interval(&self, metric: Metric, method: Method) -> Option<&IntervalRow> {
        self.intervals.iter().find(|r| r.metric == metric && r.class.is_none() && r.method == method)
    }

    /// Share that is classified right of the cells that are not in doubt.
    pub fn accuracy_without_doubtful(&self) -> Option<f64> {
        let sure = self.cells.iter().zip(&self.predictions).filter(|(cell, _)| cell.doubt.is_none());
        let right: Vec<f64> = sure.map(|(cell, p)| f64::from(cell.class == p.truth)).collect();
        statistics::mean(&right)
    }
}

/// Those of a run, by their folders' names.
///
/// # Errors
/// [`Error::Format`] where a table is not what the schema says.
pub fn of_run(ws: &Workspace, run: &str) -> Result<Vec<Validation>> {
    let entries = std::fs::read_dir(RunDir::new(ws, run).external()).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.join("about.json").is_file()).collect();
    folders.sort();
    let read = |folder: PathBuf| {
        let path = folder.join("about.json");
        let text = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        let about = serde_json::from_slice(&text).map_err(|e| Error::Format {
            path,
            item: "validation".into(),
            expected: "what wbc validate wrote".into(),
            got: e.to_string(),
        })?;
        Ok(Validation {
            about,
            cells: table::read_rows(&folder.join("cells.parquet"), &CELLS)?.0,
            predictions: table::read_rows(&folder.join("predictions.parquet"), &PREDICTIONS)?.0,
            metrics: table::read_rows(&folder.join("metrics.parquet"), &METRICS)?.0,
            intervals: table::read_rows(&folder.join("intervals.parquet"), &INTERVALS)?.0,
        })
    };
    folders.into_iter().map(read).collect()
}
