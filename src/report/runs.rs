//! A run with its metrics, as tables show it, and the choice of the run that a table shows.

use super::Wanted;
use crate::error::{Error, Input, Result};
use crate::run::{self, NetworkSettings, Record, Results, model_title};
use crate::workspace::Workspace;
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
        let usual = NetworkSettings::default().model;
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
    format!("{} {start}", model_title(model))
}

/// Whether a data set is LISC, by its name.
pub fn is_lisc(dataset: &str) -> bool {
    dataset.to_lowercase().starts_with("lisc")
}

/// The run that the user names; else, of the data set that they name or that is the usual one, the run with the
/// pipeline's usual name, or its only one. `own` says of a run whether it may be chosen without being named.
///
/// # Errors
/// [`Error::Missing`] that says what to run first, [`Error::Setting`] where the choice is open.
pub fn choose(ws: &Workspace, wanted: &Wanted, fits: &Fits, own: impl Fn(&Record) -> bool) -> Result<Results> {
    if let Some(name) = &wanted.run {
        let record = Record::read(ws, name)?;
        if !fits.fits(&record) || !own(&record) {
            return Err(Error::Setting {
                key: "run".into(),
                expected: format!("a run of {}", fits.kind()),
                got: format!("{name}, a run of {} on {}", kind(&record.model, record.init.is_some()), record.dataset),
            });
        }
        return Results::load(ws, name);
    }
    let mut runs: Vec<(String, Record)> = run::list(ws);
    runs.retain(|(_, record)| fits.fits(record) && own(record));
    let dataset = choose_dataset(ws, wanted, fits, &runs)?;
    runs.retain(|(_, record)| record.dataset == dataset);
    let usual = format!("{dataset}-{}-{}", fits.model, wanted.pipeline);
    let at = match runs.len() {
        1 => Some(0),
        _ => runs.iter().position(|(name, _)| *name == usual),
    };
    if let Some(at) = at {
        return Results::load(ws, &runs[at].0);
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
