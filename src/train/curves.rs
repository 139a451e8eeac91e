//! Learning curves for other programs: TensorBoard's event files, one folder per model below `tensorboard/`, or a plain
//! `curves.csv`.
//!
//! They are written with every checkpoint, from its epochs, so a resumed run has no point twice and a
//! finished run can be given curves later. Event files only ever grow, in place, because TensorBoard keeps them open;
//! so does `curves.csv` while folds are trained in order. They hold no times: equal runs have equal curves.

use super::curve::Curve;
use super::tensorboard;
use crate::atomic;
use crate::error::Result;
use crate::run::checkpoint::Epoch;
use crate::run::{ModelId, Record, RunDir};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// A format of learning curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// TensorBoard's event files.
    Tensorboard,
    /// One table of all folds, `curves.csv`.
    Csv,
}

/// Brings the curves of `models` up to date.
pub(super) fn write(dir: &RunDir, record: &Record, models: &[ModelId], logs: &[Log]) -> Result<()> {
    for log in logs {
        match log {
            Log::Tensorboard => {
                for id in models {
                    let curve = Curve::read(dir, *id, record)?;
                    if !curve.epochs.is_empty() {
                        let path = dir.tensorboard().join(id.folder_name()).join(tensorboard::FILE);
                        atomic::extend(&path, &tensorboard::encode(&curve))?;
                    }
                }
            }
            Log::Csv => {
                if models.contains(&ModelId::All) {
                    write_csv(dir.curves(true), dir, [ModelId::All], record)?;
                }
                if models.iter().any(|id| *id != ModelId::All) {
                    write_csv(dir.curves(false), dir, (0..record.folds).map(ModelId::Fold), record)?;
                }
            }
        }
    }
    Ok(())
}

/// Where [`write()`] puts the curves: of the folds, or of the model of all images.
pub(super) fn paths(dir: &RunDir, all: bool, logs: &[Log]) -> Vec<PathBuf> {
    let path = |log: &Log| match log {
        Log::Tensorboard => dir.tensorboard(),
        Log::Csv => dir.curves(all),
    };
    logs.iter().map(path).collect()
}

/// The columns have the names of `epochs.parquet`; `fold` is empty for the model of all images.
fn write_csv(path: PathBuf, dir: &RunDir, models: impl IntoIterator<Item = ModelId>, record: &Record) -> Result<()> {
    let mut text = String::from("fold,epoch,train_loss,train_accuracy,learning_rate,test_balanced_accuracy\n");
    let header = text.len();
    for id in models {
        let fold = id.fold().map_or(String::new(), |fold| fold.to_string());
        for (row, tested) in Curve::read(dir, id, record)?.points() {
            let Epoch { epoch, train_loss, train_accuracy, learning_rate, .. } = row;
            let tested = tested.map_or(String::new(), |v| v.to_string());
            writeln!(text, "{fold},{epoch},{train_loss},{train_accuracy},{learning_rate},{tested}").expect("a string");
        }
    }
    if text.len() == header { Ok(()) } else { atomic::extend(&path, text.as_bytes()) }
}
