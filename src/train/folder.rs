//! The run's folder while it is trained: claimed for one experiment, filled fold by fold, perhaps by several processes.

use super::plan::Plan;
use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::integrity;
use crate::rows::PredictionRow;
use crate::run::{ModelId, Record, RunDir, claim};
use crate::schema::PREDICTIONS;
use crate::split::Splits;
use crate::table::{self, Provenance};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Claims the run's folder for `record`.
///
/// # Errors
/// [`Error::Setting`] where it holds another experiment and the plan does not say to restart.
pub fn claim(dir: &RunDir, record: &Record, plan: &Plan) -> Result<()> {
    let path = dir.record();
    match std::fs::read(&path).map(|text| integrity::from_json::<Record>(&text)) {
        Ok(Ok(present)) if present == *record => return Ok(()),
        Ok(present) if !plan.restart => {
            let got: String = match present {
                Ok(old) if old.inputs != record.inputs => {
                    "a run on other data (the images, the split or the preprocessing changed)".into()
                }
                Ok(old) if old.seed != record.seed => "a run with another seed".into(),
                Ok(old) => {
                    let settings = |record: &Record| serde_json::to_value(record).expect("plain data");
                    format!("a run with other settings: {}", differing(&settings(&old), &settings(record)).join(", "))
                }
                Err(why) => format!("a run.json that cannot be used ({why})"),
            };
            let expected = format!(
                "{} to hold the same experiment (choose another name with --run NAME, or delete the old run with \
                 --restart)",
                dir.path().display()
            );
            return Err(Error::setting("run", expected, got));
        }
        Ok(_) => remove(dir)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io(&path, "read")(e)),
    }
    if let Some(settings) = &plan.pipeline_file {
        atomic::write_bytes(&dir.pipeline(), settings.as_bytes())?;
    }
    atomic::write_bytes(&path, integrity::json(record).as_bytes())
}

/// Deletes a run.
///
/// # Errors
/// [`Error::Setting`] where a process is training it, [`Error::Io`].
pub fn remove(dir: &RunDir) -> Result<()> {
    if let Some((id, holder)) = claim::holders(dir)?.into_iter().next() {
        let expected = format!("no process training {} when it is deleted", dir.path().display());
        return Err(Error::setting("restart", expected, format!("{holder}, which trains {}", id.title())));
    }
    std::fs::remove_dir_all(dir.path()).map_err(Error::io(dir.path(), "remove"))
}

/// The keys of two JSON documents whose values differ, with both values: "epochs 14 instead of 12" has the second
/// document's first.
pub fn differing(old: &Value, new: &Value) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Vec::new() };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let difference = |key: &String| match (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null)) {
        (a, b) if a == b => Vec::new(),
        (a @ Value::Object(_), b @ Value::Object(_)) => differing(a, b),
        (a, b) => vec![format!("{key} {b} instead of {a}")],
    };
    keys.into_iter().flat_map(difference).collect()
}

/// The provenance of the tables that training writes.
pub fn provenance(record: &Record) -> Provenance {
    Provenance {
        stage: "train".into(),
        settings: serde_json::to_value(&record.recipe).expect("plain data"),
        seed: Some(record.seed),
        inputs: BTreeMap::from([(Input::Run.name().into(), record.hash())]),
    }
}

/// Writes the predictions of one fold's test images and, where there are any, of the held-out test set.
pub fn write_predictions(
    dir: &RunDir,
    record: &Record,
    fold: u32,
    test: &[PredictionRow],
    held_out: &[PredictionRow],
) -> Result<()> {
    let id = ModelId::Fold(fold);
    let write = |path: &Path, rows: &[PredictionRow]| {
        table::write_class_rows(path, &PREDICTIONS, &record.classes, &provenance(record), rows)
    };
    if !held_out.is_empty() {
        write(&dir.model_held_out(id), held_out)?;
    }
    write(&dir.model_predictions(id), test)
}

/// Whether the predictions of one fold's test images are there, and those of the held-out test set if there is one, as
/// they were written.
///
/// # Errors
/// [`Error::Io`] where they are there and cannot be read: a fold must not be left out for that.
pub fn is_predicted(dir: &RunDir, id: ModelId, record: &Record, splits: &Splits) -> Result<bool> {
    let schema = PREDICTIONS.with_classes(&record.classes);
    let is_current = |path: &Path| table::is_current_if_readable(path, &schema, &provenance(record));
    let held_out = splits.held_out().next().is_none() || is_current(&dir.model_held_out(id))?;
    Ok(held_out && is_current(&dir.model_predictions(id))?)
}

/// Sets a damaged file aside, so that what it holds is computed again.
///
/// # Errors
/// [`Error::Io`].
pub fn set_aside(path: &Path, ctx: &Context) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".damaged");
    let aside = path.with_file_name(name);
    atomic::rename(path, &aside)?;
    let (path, aside) = (path.display(), aside.display());
    ctx.progress.log(&format!("{path}: {}. It is now {aside}, and its model is trained again", integrity::DAMAGED));
    Ok(())
}
