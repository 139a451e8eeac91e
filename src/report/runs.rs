//! The choice of the run that a table shows.

use super::Request;
use crate::error::{Error, Input, Result};
use crate::run::{self, NetworkSettings, Recipe, Record, Results, model_title};
use crate::workspace::Workspace;
use std::collections::BTreeSet;

/// The kind of run that a table shows.
pub(super) struct RunKind {
    /// Name of the model, one of [`crate::models::MODELS`].
    pub model: &'static str,
    /// Whether training started from the weights of an earlier run.
    pub init: bool,
    /// Whether the paper's table is on LISC, which is then preferred among several data sets.
    pub lisc: bool,
}

impl RunKind {
    /// Whether a run is of this kind. Any data set fits.
    pub fn fits(&self, record: &Record) -> bool {
        record.model == self.model && record.init.is_some() == self.init
    }

    /// Whether the table may show a run that is named: also one of a classical classifier, in the layout of Table 3.
    fn may_show(&self, record: &Record) -> bool {
        let is_table_3 = self.model == NetworkSettings::default().model && !self.init && !self.lisc;
        self.fits(record) || is_table_3 && matches!(record.recipe, Recipe::Classical(_))
    }

    /// "W-Net from scratch".
    fn name(&self) -> String {
        name(self.model, self.init)
    }

    /// No such run exists.
    fn missing(&self, ws: &Workspace) -> Error {
        let how = match self.init {
            true => ": train with --all on one data set, then with --init on another".into(),
            false if self.model == NetworkSettings::default().model => String::new(),
            false => format!(", as of the pipeline {}", self.model),
        };
        Error::missing(Input::Run, ws.runs()).with_hint(format!("The table shows a run of {}{how}", self.name()))
    }
}

fn name(model: &str, init: bool) -> String {
    let start = if init { "from earlier weights" } else { "from scratch" };
    format!("{} {start}", model_title(model))
}

/// Whether a data set is LISC, by its name.
pub(super) fn is_lisc(dataset: &str) -> bool {
    dataset.to_lowercase().starts_with("lisc")
}

/// The requested run. By default, of the requested or usual data set, the run that is named after the pipeline, or the
/// only one. `eligible` says whether the table may show a run.
///
/// # Errors
/// [`Error::Missing`] where there is no such run, [`Error::Setting`] where several fit.
pub(super) fn choose(
    ws: &Workspace,
    request: &Request,
    kind: &RunKind,
    eligible: impl Fn(&Record) -> bool,
) -> Result<Results> {
    if let Some(run) = &request.run {
        let record = Record::read(ws, run)?;
        if !kind.may_show(&record) || !eligible(&record) {
            let got = name(&record.model, record.init.is_some());
            let got = format!("{run}, a run of {got} on {}", record.dataset);
            return Err(Error::setting("run", format!("a run of {}", kind.name()), got));
        }
        return Results::load(ws, run);
    }
    let (mut runs, _) = run::list(ws)?;
    runs.retain(|(_, record)| kind.fits(record) && eligible(record));
    let dataset = choose_dataset(ws, request, kind, &runs)?;
    let names = runs.into_iter().filter(|(_, record)| record.dataset == dataset);
    let names: Vec<String> = names.map(|(name, _)| name).collect();
    let usual = format!("{dataset}-{}-{}", kind.model, request.pipeline);
    match names.as_slice() {
        [] => Err(kind.missing(ws)),
        [only] => Results::load(ws, only),
        names if names.contains(&usual) => Results::load(ws, &usual),
        names => {
            let got = format!("{} runs of {} on {dataset}", names.len(), kind.name());
            Err(Error::setting("run", format!("--run with one of: {}", names.join(", ")), got))
        }
    }
}

/// The requested data set. By default the only one with such a run; else LISC where the paper's table is on LISC, and
/// otherwise the one that commands use by default.
fn choose_dataset(ws: &Workspace, request: &Request, kind: &RunKind, runs: &[(String, Record)]) -> Result<String> {
    let with_run: BTreeSet<&str> = runs.iter().map(|(_, record)| record.dataset.as_str()).collect();
    if let Some(name) = request.dataset.as_deref() {
        return match with_run.contains(name) {
            true => Ok(name.into()),
            false => ws.choose(Some(name), &ws.ingested_datasets()?),
        };
    }
    if let (Some(only), 1) = (with_run.first(), with_run.len()) {
        return Ok((*only).into());
    }
    let ingested = ws.ingested_datasets();
    let usual = match kind.lisc {
        true => with_run.iter().find(|d| is_lisc(d)).map(|d| d.to_string()),
        false => ingested.as_ref().ok().and_then(|names| ws.choose(None, names).ok()),
    };
    match usual {
        Some(usual) if with_run.contains(usual.as_str()) => Ok(usual),
        _ if with_run.is_empty() => ingested.and(Err(kind.missing(ws))),
        _ => {
            let names = with_run.into_iter().collect::<Vec<_>>().join(", ");
            let got = format!("several data sets with a run of {}", kind.name());
            Err(Error::setting("dataset", format!("--dataset with one of: {names}"), got))
        }
    }
}
