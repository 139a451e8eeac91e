//! External validation: a run's models on the labelled cells of another data set, none of which they were trained on. What a
//! model reaches at home says little about another laboratory's stain, light and camera; this says it.

use super::{BATCH, Found, Panel};
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::evaluate;
use crate::nn::device::Device;
use crate::prep::{self, Usable};
use crate::rows::{CellRow, IntervalRow, ManifestRow, MetricRow, PredictionRow};
use crate::schema::{CELLS, INTERVALS, METRICS, PREDICTIONS};
use crate::statistics;
use crate::table::{self, Provenance};
use crate::train::{self, Record};
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an external validation came out as.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: String,
    /// The data set that the models were validated on.
    pub dataset: String,
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
    /// The run's balanced accuracy on its own test images, mean over folds.
    pub home: Option<f64>,
    /// Lowest and highest balanced accuracy of a model alone.
    pub alone: Option<[f64; 2]>,
    /// Recall of each class.
    pub recalls: Vec<Option<f64>>,
    /// Cells that are marked as in doubt, and the accuracy on the others.
    pub doubtful: u64,
    pub accuracy_without_doubtful: Option<f64>,
    pub folder: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        writeln!(f, "run {} on {}: {} models together, {} images", self.run, self.dataset, self.models, self.images)?;
        write!(f, "balanced accuracy {}", percent(self.balanced_accuracy))?;
        if let Some([low, high]) = self.interval {
            write!(f, " (95 % over images {:.1} to {:.1})", 100.0 * low, 100.0 * high)?;
        }
        writeln!(f, ", accuracy {}", percent(self.accuracy))?;
        let recalls = Class::ALL.iter().zip(&self.recalls).map(|(class, v)| format!("{class} {}", percent(*v)));
        writeln!(f, "recall: {}", recalls.collect::<Vec<_>>().join(", "))?;
        if let (Some([low, high]), true) = (self.alone, self.models > 1) {
            writeln!(f, "a model alone: balanced accuracy {:.1} to {:.1} %", 100.0 * low, 100.0 * high)?;
        }
        if let (Some(home), Some(here)) = (self.home, self.balanced_accuracy) {
            let points = 100.0 * (here - home);
            writeln!(f, "on its own test images: {} ({points:+.1} points here)", percent(Some(home)))?;
        }
        writeln!(
            f,
            "in doubt: {} of {}; accuracy on the others {}",
            self.doubtful,
            self.images,
            percent(self.accuracy_without_doubtful)
        )?;
        write!(f, "{}", self.folder.display())
    }
}

/// Asks all models of `run` (or that of `fold` alone) about every usable image of `dataset`, cut as the run's own were, and
/// writes cells, predictions (calibrated, of the models together), metrics (`fold` null: of the models together; a fold's
/// number: of its model alone) and intervals to `runs/<run>/external/<dataset>/`.
///
/// # Errors
/// [`Error::Setting`] where `dataset` is the run's own or holds an image that the models were trained on;
/// [`Error::Missing`] where the run has no finished model or `dataset` no manifest; [`Error::Image`] or [`Error::Stale`] of
/// an image that is not as it was ingested.
pub fn run(
    ws: &Workspace,
    run: &str,
    fold: Option<u32>,
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
    let settings = train::prep_settings(ws, run)?;
    let Usable { rows, left_out, manifest } = Usable::read(ws, dataset)?;
    let note = train::trained_on(ws, ("run", run), &record, fold, &rows, dataset)?;
    let panel = Panel::open(ws, run, fold, device, ctx)?;
    note.iter().for_each(|note| ctx.progress.log(note));
    let raw = ws.raw_dataset(dataset);
    let (mut cells, mut together, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    ctx.progress.begin("validate", Some(rows.len() as u64), "images");
    let asked = (|| {
        for rows in rows.chunks(BATCH) {
            let read = |row: &ManifestRow| {
                ctx.check_stop()?;
                let picture = prep::one(&raw, row, &settings)?;
                let (row, cut) = (row.clone(), settings.clone());
                Ok(Found { path: row.path.clone().into(), cell: 0, cell_box: None, picture, row, cut })
            };
            let found: Vec<Found> = rows.par_iter().map(read).collect::<Result<_>>()?;
            for (row, told) in rows.iter().zip(panel.classify(&found)?) {
                let truth = row.class.expect("usable rows have one");
                let prediction = |fold, p| PredictionRow::new(row.image_id.clone(), fold, truth, p);
                together.push(prediction(0, told.row.probabilities()));
                alone.extend(panel.folds().zip(told.by_model).map(|(fold, p)| prediction(fold, p)));
                cells.push(told.row);
            }
            ctx.progress.advance(rows.len() as u64);
        }
        Ok(())
    })();
    ctx.progress.end();
    asked?;
    let (metrics, intervals) = evaluate::panel(&together, &alone, record.seed)?;
    let found = Validation { dataset: dataset.into(), cells, predictions: together, metrics, intervals };
    let folder = folder(ws, run, dataset);
    let mut made = panel.provenance(run);
    made.inputs.insert("manifest".into(), manifest);
    found.write(&folder, &made)?;
    let of_models = found.metrics.iter().filter(|r| r.fold.is_some() && r.metric == "balanced_accuracy");
    let of_models: Vec<f64> = of_models.filter_map(|r| r.value).collect();
    let interval = found.intervals.iter().find(|r| r.metric == "balanced_accuracy" && r.method == "bootstrap");
    Ok(Summary {
        run: run.into(),
        dataset: dataset.into(),
        models: panel.models.len(),
        images: rows.len() as u64,
        left_out,
        balanced_accuracy: found.value("balanced_accuracy", None),
        accuracy: found.value("accuracy", None),
        interval: interval.map(|r| [r.low, r.high]),
        home: evaluate::home(ws, run)?,
        alone: (!of_models.is_empty())
            .then(|| [of_models.iter().copied().fold(1.0, f64::min), of_models.iter().copied().fold(0.0, f64::max)]),
        recalls: Class::ALL.map(|class| found.value("recall", Some(class))).into(),
        doubtful: found.cells.iter().filter(|c| c.doubt.is_some()).count() as u64,
        accuracy_without_doubtful: found.accuracy_without_doubtful(),
        folder,
    })
}

/// `runs/<run>/external/<dataset>/`.
fn folder(ws: &Workspace, run: &str, dataset: &str) -> PathBuf {
    ws.run(run).join("external").join(dataset)
}

/// An external validation that was done.
pub struct Validation {
    pub dataset: String,
    pub cells: Vec<CellRow>,
    pub predictions: Vec<PredictionRow>,
    pub metrics: Vec<MetricRow>,
    pub intervals: Vec<IntervalRow>,
}

impl Validation {
    fn write(&self, folder: &Path, made: &Provenance) -> Result<()> {
        table::write_rows(&folder.join("cells.parquet"), &CELLS, made, &self.cells)?;
        let path = folder.join("predictions.parquet");
        table::write_rows(&path, &PREDICTIONS, made, &self.predictions)?;
        let inputs = BTreeMap::from([("predictions".into(), table::file_hash(&path)?)]);
        let made = Provenance { stage: "evaluate".into(), inputs, ..made.clone() };
        table::write_rows(&folder.join("metrics.parquet"), &METRICS, &made, &self.metrics)?;
        table::write_rows(&folder.join("intervals.parquet"), &INTERVALS, &made, &self.intervals)
    }

    /// A metric of the models together, 0 to 1.
    pub fn value(&self, metric: &str, class: Option<Class>) -> Option<f64> {
        self.metrics.iter().find(|r| r.fold.is_none() && r.metric == metric && r.class == class)?.value
    }

    /// Share that is classified right of the cells that are not in doubt.
    pub fn accuracy_without_doubtful(&self) -> Option<f64> {
        let sure = self.cells.iter().zip(&self.predictions).filter(|(cell, _)| cell.doubt.is_none());
        let right: Vec<f64> = sure.map(|(cell, p)| f64::from(cell.class == p.truth)).collect();
        statistics::mean(&right)
    }
}

/// Those of a run, by the data sets' names.
///
/// # Errors
/// [`Error::Format`] where a table is not what the schema says.
pub fn of_run(ws: &Workspace, run: &str) -> Result<Vec<Validation>> {
    let entries = std::fs::read_dir(ws.run(run).join("external")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let read = |dataset: String| {
        let folder = folder(ws, run, &dataset);
        Ok(Validation {
            cells: table::read_rows(&folder.join("cells.parquet"), &CELLS)?.0,
            predictions: table::read_rows(&folder.join("predictions.parquet"), &PREDICTIONS)?.0,
            metrics: table::read_rows(&folder.join("metrics.parquet"), &METRICS)?.0,
            intervals: table::read_rows(&folder.join("intervals.parquet"), &INTERVALS)?.0,
            dataset,
        })
    };
    names.into_iter().filter(|n| folder(ws, run, n).join("intervals.parquet").is_file()).map(read).collect()
}
