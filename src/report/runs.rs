//! A run with its metrics, as tables show it, and the choice of the run that a table shows.

use super::Wanted;
use crate::class::Class;
use crate::error::{Error, Input, Result};
use crate::rows::{IntervalRow, MetricRow};
use crate::schema::{INTERVALS, METRICS, Schema};
use crate::table;
use crate::train::{self, Record};
use crate::workspace::Workspace;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Which runs a table is for.
pub struct Fits {
    /// The model, a name of [`models::MODELS`].
    pub model: &'static str,
    /// Whether training started from the weights of an earlier one.
    pub init: bool,
    /// Whether the paper's is on LISC: the data set to prefer where several have such runs.
    pub lisc: bool,
}

impl Fits {
    pub fn fits(&self, record: &Record) -> bool {
        record.model == self.model && record.init.is_some() == self.init
    }

    /// "W-Net from scratch".
    fn kind(&self) -> String {
        kind(self.model, self.init)
    }

    /// What to run to get one.
    fn hint(&self, dataset: Option<&str>) -> String {
        let on = dataset.map(|d| format!(" --dataset {d}")).unwrap_or_default();
        let usual = train::Settings::default().model;
        match self.init {
            true => {
                format!("Run: wbc train --dataset SOURCE --all, then wbc train{on} --init RUN with that run's name")
            }
            false if self.model == usual => format!("Run: wbc train{on}"),
            false => format!("Run: wbc train{on} --pipeline {}", self.model),
        }
    }
}

fn kind(model: &str, init: bool) -> String {
    let start = if init { "from earlier weights" } else { "from scratch" };
    format!("{} {start}", train::title(model))
}

/// Whether a data set is LISC, by its name.
pub fn is_lisc(dataset: &str) -> bool {
    dataset.to_lowercase().starts_with("lisc")
}

/// A run, with its metrics.
pub struct Run {
    pub name: String,
    pub record: Record,
    pub metrics: Vec<MetricRow>,
    /// None where an earlier version evaluated it.
    pub intervals: Vec<IntervalRow>,
}

impl Run {
    /// The run that the user names; else, of the data set that they name or that is the usual one, the run with the
    /// pipeline's usual name, or its only one. `own` says of a run whether it may be chosen without being named.
    ///
    /// # Errors
    /// [`Error::Missing`] that says what to run first, [`Error::Setting`] where the choice is open.
    pub fn choose(ws: &Workspace, wanted: &Wanted, fits: &Fits, own: impl Fn(&Record) -> bool) -> Result<Run> {
        if let Some(name) = &wanted.run {
            let record = Record::read(ws, name)?;
            if !fits.fits(&record) || !own(&record) {
                return Err(Error::Setting {
                    key: "run".into(),
                    expected: format!("a run of {}", fits.kind()),
                    got: format!(
                        "{name}, a run of {} on {}",
                        kind(&record.model, record.init.is_some()),
                        record.dataset
                    ),
                });
            }
            return Run::load(ws, name, record);
        }
        let mut runs: Vec<(String, Record)> = train::runs(ws);
        runs.retain(|(_, record)| fits.fits(record) && own(record));
        let dataset = choose_dataset(ws, wanted, fits, &runs)?;
        runs.retain(|(_, record)| record.dataset == dataset);
        let usual = format!("{dataset}-{}-{}", fits.model, wanted.pipeline);
        let at = match runs.len() {
            1 => Some(0),
            _ => runs.iter().position(|(name, _)| *name == usual),
        };
        if let Some(at) = at {
            let (name, record) = runs.swap_remove(at);
            return Run::load(ws, &name, record);
        }
        if runs.is_empty() {
            return Err(missing(ws, fits, Some(&dataset)));
        }
        let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
        Err(Error::Setting {
            key: "run".into(),
            expected: format!("--run with one of: {}", names.join(", ")),
            got: format!("{} runs of {} on {dataset} and no choice", runs.len(), fits.kind()),
        })
    }

    /// Reads a run's tables.
    ///
    /// # Errors
    /// [`Error::Missing`] where no fold is finished, [`Error::Stale`] where the predictions are newer.
    pub fn load(ws: &Workspace, name: &str, record: Record) -> Result<Run> {
        let metrics = match read(ws, name, "metrics.parquet", &METRICS) {
            Err(Error::Missing { path, .. }) => {
                let hint = format!("No fold of {name} is finished");
                return Err(Error::missing(Input::Metrics, path).with_hint(hint));
            }
            other => other?,
        };
        let intervals = match read(ws, name, "intervals.parquet", &INTERVALS) {
            Err(Error::Missing { .. }) => Vec::new(),
            other => other?,
        };
        Ok(Run { name: name.into(), record, metrics, intervals })
    }

    /// A metric's value, 0 to 1; `fold` none: over folds.
    pub fn value(&self, fold: Option<u32>, metric: &str, class: Option<Class>) -> Option<f64> {
        self.metrics.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class)?.value
    }

    /// An interval: see `schemas/intervals.toml`.
    pub fn interval(&self, metric: &str, class: Option<Class>, method: &str) -> Option<&IntervalRow> {
        self.intervals.iter().find(|r| r.metric == metric && r.class == class && r.method == method)
    }

    /// Test images of each class, over the finished folds.
    pub fn images(&self) -> [u64; Class::COUNT] {
        let recalls = || self.metrics.iter().filter(|r| r.fold.is_none() && r.metric == "recall");
        Class::ALL.map(|class| recalls().filter(|r| r.class == Some(class)).map(|r| r.images).sum())
    }

    /// Classes that a finished fold has no test image of.
    pub fn untested(&self) -> Vec<Class> {
        let empty = |class: &Class| {
            let mut rows = self.metrics.iter().filter(|r| r.fold.is_some() && r.metric == "recall");
            rows.any(|r| r.class == Some(*class) && r.images == 0)
        };
        Class::ALL.into_iter().filter(empty).collect()
    }

    /// The fewest test images that a class which a fold has, has there.
    pub fn fewest(&self) -> Option<u64> {
        let recalls = self.metrics.iter().filter(|r| r.fold.is_some() && r.metric == "recall");
        recalls.map(|r| r.images).filter(|n| *n > 0).min()
    }

    /// Folds that are not trained yet.
    pub fn missing(&self) -> Vec<u32> {
        (0..self.record.folds).filter(|f| !self.metrics.iter().any(|r| r.fold == Some(*f))).collect()
    }
}

/// The rows of one of the tables that evaluate makes.
fn read<T: DeserializeOwned>(ws: &Workspace, name: &str, file: &str, schema: &Schema) -> Result<Vec<T>> {
    let path = ws.run(name).join(file);
    let (rows, made) = table::read_rows(&path, schema)?;
    if made.inputs.get("predictions") != Some(&table::file_hash(&ws.run(name).join("predictions.parquet"))?) {
        return Err(Error::stale(Input::Metrics, path, "the predictions have changed since"));
    }
    Ok(rows)
}

/// The data set that the user names; else the only one that has such a run; else LISC where the paper's table is of
/// LISC, and elsewhere the one that every command would work on.
fn choose_dataset(ws: &Workspace, wanted: &Wanted, fits: &Fits, runs: &[(String, Record)]) -> Result<String> {
    let with_run: BTreeSet<&str> = runs.iter().map(|(_, record)| record.dataset.as_str()).collect();
    if let Some(name) = wanted.dataset.as_deref() {
        return match with_run.contains(name) {
            true => Ok(name.into()),
            false => ws.choose(Some(name), &ws.ingested_datasets()?),
        };
    }
    if let (Some(only), 1) = (with_run.first(), with_run.len()) {
        return Ok((*only).into());
    }
    let ingested = ws.ingested_datasets();
    let usual = match fits.lisc {
        true => with_run.iter().find(|d| is_lisc(d)).map(|d| d.to_string()),
        false => ingested.as_ref().ok().and_then(|names| ws.choose(None, names).ok()),
    };
    match usual {
        Some(usual) if with_run.contains(usual.as_str()) => Ok(usual),
        other if with_run.is_empty() => ingested.and(Err(missing(ws, fits, other.as_deref()))),
        _ => Err(Error::Setting {
            key: "dataset".into(),
            expected: format!("--dataset with one of: {}", with_run.into_iter().collect::<Vec<_>>().join(", ")),
            got: format!("several data sets with a run of {} and no choice", fits.kind()),
        }),
    }
}

fn missing(ws: &Workspace, fits: &Fits, dataset: Option<&str>) -> Error {
    let hint = format!("It shows {}. {}", fits.kind(), fits.hint(dataset));
    Error::missing(Input::Run, ws.runs()).with_hint(hint)
}
