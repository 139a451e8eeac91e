//! The cells of a run that its page shows.

use crate::class::Class;
use crate::page::evenly;
use crate::rows::PredictionRow;
use serde::Serialize;

/// Cells of the gallery of mistakes.
const MISTAKES: usize = 24;
/// Cells shown of each class.
const EXAMPLES: usize = 8;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The test cells that the run was most sure of, and wrong about
    Mistakes,
    /// Test cells of each class, evenly drawn
    Examples,
    /// Both
    All,
}

/// What was called another class than it is, the most confident first.
pub fn mistakes(rows: &[PredictionRow]) -> Vec<&PredictionRow> {
    let sure = |row: &PredictionRow| row.probabilities()[row.predicted().index()];
    let mut wrong: Vec<&PredictionRow> = rows.iter().filter(|r| r.predicted() != r.truth).collect();
    wrong.sort_by(|a, b| sure(b).total_cmp(&sure(a)));
    wrong.truncate(MISTAKES);
    wrong
}

/// Cells of a class, evenly drawn.
pub fn examples(rows: &[PredictionRow], class: Class) -> Vec<&PredictionRow> {
    evenly(&rows.iter().filter(|r| r.truth == class).collect::<Vec<_>>(), EXAMPLES)
}
