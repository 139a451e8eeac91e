//! The learning curve of one model, from its checkpoint.

use crate::class::Classes;
use crate::error::Result;
use crate::rows::PredictionRow;
use crate::run::checkpoint::{self, Epoch};
use crate::run::{ModelId, Record, RunDir};
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
    /// Reads what the checkpoint of a model has so far.
    pub fn read(dir: &RunDir, id: ModelId, record: &Record) -> Result<Self> {
        let Some(meta) = checkpoint::meta(&dir.checkpoint(id))?.filter(|meta| meta.run == record.hash()) else {
            return Ok(Self { epochs: Vec::new(), balanced_accuracy: None });
        };
        let predictions = dir.model_predictions(id);
        let balanced_accuracy = match meta.finished && predictions.is_file() {
            true => {
                let (rows, _) = table::read_class_rows(&predictions, &PREDICTIONS, &record.classes)?;
                balanced_accuracy(&rows, &record.classes)
            }
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

fn balanced_accuracy(rows: &[PredictionRow], classes: &Classes) -> Option<f64> {
    let mut counts = vec![(0, 0); classes.len()];
    for row in rows {
        let (correct, all) = &mut counts[classes.index(row.truth)?];
        *correct += u64::from(classes.likeliest(&row.probabilities) == row.truth);
        *all += 1;
    }
    Scores::from_counts(&counts).balanced_accuracy
}
