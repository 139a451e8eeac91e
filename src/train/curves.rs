//! Learning curves for other programs (`wbc train --log`): TensorBoard's event files, a folder a fold below
//! `tensorboard/`, or one plain `curves.csv`.
//!
//! They are made from the checkpoints' epoch rows, the ones that `epochs.parquet` has, after every epoch: a resumed run
//! has no point twice, and a finished one can be given them later. Event files only ever grow, in place, so that
//! TensorBoard follows; so does `curves.csv` while folds come in their order. Nothing in them is a time: equal runs have equal curves, and times are in `timings.csv`.

use super::{Files, checkpoint, tensorboard};
use crate::atomic;
use crate::class::Class;
use crate::error::Result;
use crate::rows::{EpochRow, PredictionRow};
use crate::schema::PREDICTIONS;
use crate::scores;
use crate::table;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// What curves are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// Event files: tensorboard --logdir data/runs
    Tensorboard,
    /// One table of all folds: curves.csv
    Csv,
}

/// What there is of one model's training.
pub(super) struct Curve {
    pub epochs: Vec<EpochRow>,
    /// Of the fold's test images after the last epoch, 0 to 1; none before it, and for the model of all images.
    pub balanced_accuracy: Option<f64>,
}

impl Curve {
    fn read(files: &Files, fold: u32, hash: &str) -> Result<Self> {
        let Some(meta) = checkpoint::meta(&files.checkpoint(fold))?.filter(|meta| meta.run == hash) else {
            return Ok(Self { epochs: Vec::new(), balanced_accuracy: None });
        };
        let predictions = files.predictions(fold);
        let balanced_accuracy = match meta.finished && predictions.is_file() {
            true => balanced_accuracy(&table::read_rows(&predictions, &PREDICTIONS)?.0),
            false => None,
        };
        Ok(Self { epochs: meta.epochs, balanced_accuracy })
    }

    /// The epochs with what was tested after each.
    pub fn points(&self) -> impl Iterator<Item = (&EpochRow, Option<f64>)> {
        let last = self.epochs.len();
        self.epochs.iter().enumerate().map(move |(i, row)| (row, self.balanced_accuracy.filter(|_| i + 1 == last)))
    }
}

fn balanced_accuracy(rows: &[PredictionRow]) -> Option<f64> {
    let mut counts = [(0, 0); Class::COUNT];
    for row in rows {
        let (right, all) = &mut counts[row.truth.index()];
        *right += u64::from(row.predicted() == row.truth);
        *all += 1;
    }
    scores::of_fold(counts)[0]
}

/// Brings the curves of `folds` up to date; the number of folds stands for the model of all images.
pub(super) fn write(files: &Files, folds: &[u32], hash: &str, logs: &[Log]) -> Result<()> {
    for log in logs {
        match log {
            Log::Tensorboard => {
                for fold in folds {
                    let curve = Curve::read(files, *fold, hash)?;
                    if !curve.epochs.is_empty() {
                        let path = tensorboard(files).join(files.name(*fold)).join(tensorboard::FILE);
                        atomic::extend(&path, &tensorboard::encode(&curve))?;
                    }
                }
            }
            // The folds stand in one file, the model of all images in one of its own.
            Log::Csv => {
                let (all, of_folds): (Vec<u32>, Vec<u32>) = folds.iter().partition(|fold| **fold == files.folds);
                if !all.is_empty() {
                    write_csv(files, files.folds..files.folds + 1, hash)?;
                }
                if !of_folds.is_empty() {
                    write_csv(files, 0..files.folds, hash)?;
                }
            }
        }
    }
    Ok(())
}

/// Where [`write()`] puts the curves of the folds, or of the model of all images.
pub(super) fn paths(files: &Files, all: bool, logs: &[Log]) -> Vec<PathBuf> {
    let path = |log: &Log| match log {
        Log::Tensorboard => tensorboard(files),
        Log::Csv => csv(files, all),
    };
    logs.iter().map(path).collect()
}

fn tensorboard(files: &Files) -> PathBuf {
    files.dir.join("tensorboard")
}

fn csv(files: &Files, all: bool) -> PathBuf {
    if all { files.fold(files.folds).join("curves.csv") } else { files.dir.join("curves.csv") }
}

/// The columns are named as in `epochs.parquet`; of the model of all images, the fold is empty.
fn write_csv(files: &Files, folds: std::ops::Range<u32>, hash: &str) -> Result<()> {
    let all = folds.start == files.folds;
    let mut text = String::from("fold,epoch,train_loss,train_accuracy,learning_rate,test_balanced_accuracy\n");
    let head = text.len();
    for fold in folds {
        let name = if all { String::new() } else { fold.to_string() };
        for (row, tested) in Curve::read(files, fold, hash)?.points() {
            let EpochRow { epoch, train_loss, train_accuracy, learning_rate, .. } = row;
            let tested = tested.map_or(String::new(), |v| v.to_string());
            writeln!(text, "{name},{epoch},{train_loss},{train_accuracy},{learning_rate},{tested}").expect("a string");
        }
    }
    if text.len() == head { Ok(()) } else { atomic::extend(&csv(files, all), text.as_bytes()) }
}
