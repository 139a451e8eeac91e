//! The learning curve of one model, from its checkpoint.

use crate::class::Class;
use crate::error::Result;
use crate::rows::PredictionRow;
use crate::run::checkpoint::{self, Epoch};
use crate::run::{ModelId, RunDir};
use crate::schema::PREDICTIONS;
use crate::scores::Scores;
use crate::table;

/// The epochs of one model's training.
pub struct Curve {
    /// One entry per epoch done.
    pub epochs: Vec<Epoch>,
    /// Balanced accuracy on the fold's test images after the last epoch, 0 to 1; none before it, and none for the model
    /// of all images.
    pub balanced_accuracy: Option<f64>,
}

impl Curve {
    /// Reads what the checkpoint of a model has so far; `run` is the record's hash.
    pub fn read(dir: &RunDir, id: ModelId, run: &str) -> Result<Self> {
        let Some(meta) = checkpoint::meta(&dir.checkpoint(id))?.filter(|meta| meta.run == run) else {
            return Ok(Self { epochs: Vec::new(), balanced_accuracy: None });
        };
        let predictions = dir.model_predictions(id);
        let balanced_accuracy = match meta.finished && predictions.is_file() {
            true => balanced_accuracy(&table::read_rows(&predictions, &PREDICTIONS)?.0),
            false => None,
        };
        Ok(Self { epochs: meta.epochs, balanced_accuracy })
    }

    /// Each epoch with the balanced accuracy on the test images after it, where there is one.
    pub fn points(&self) -> impl Iterator<Item = (&Epoch, Option<f64>)> {
        let last = self.epochs.len();
        self.epochs.iter().enumerate().map(move |(i, row)| (row, self.balanced_accuracy.filter(|_| i + 1 == last)))
    }
}

fn balanced_accuracy(rows: &[PredictionRow]) -> Option<f64> {
    let mut counts = [(0, 0); Class::COUNT];
    for row in rows {
        let (correct, all) = &mut counts[row.truth.index()];
        *correct += u64::from(row.predicted() == row.truth);
        *all += 1;
    }
    Scores::from_counts(counts).balanced_accuracy
}
