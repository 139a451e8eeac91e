//! Which test cells of a run are shown, on its page and by `wbc explain`.

use crate::class::{Class, Classes};
use crate::rows::PredictionRow;

/// Mistakes shown.
const MISTAKES: usize = 24;
/// Cells shown of each class, and of all classes together, but at least a few of each.
const EXAMPLES: usize = 8;
const ALL_EXAMPLES: usize = 160;
const LEAST_EXAMPLES: usize = 2;

/// Wrong predictions, the most confident first; `classes` are those of the run.
pub(crate) fn mistakes<'a>(classes: &Classes, rows: &'a [PredictionRow]) -> Vec<&'a PredictionRow> {
    let confidence = |row: &PredictionRow| row.probabilities.iter().copied().fold(0.0, f32::max);
    let wrong = |row: &&PredictionRow| classes.likeliest(&row.probabilities) != row.truth;
    let mut wrong: Vec<&PredictionRow> = rows.iter().filter(wrong).collect();
    wrong.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)));
    wrong.truncate(MISTAKES);
    wrong
}

/// Cells of one of `classes` classes at even intervals.
pub(crate) fn examples(rows: &[PredictionRow], class: Class, classes: usize) -> Vec<&PredictionRow> {
    let shown = EXAMPLES.min(ALL_EXAMPLES / classes.max(1)).max(LEAST_EXAMPLES);
    evenly_spaced(&rows.iter().filter(|r| r.truth == class).collect::<Vec<_>>(), shown)
}

/// Up to `most` of `items`, at even intervals.
pub(crate) fn evenly_spaced<T: Copy>(items: &[T], most: usize) -> Vec<T> {
    let shown = items.len().min(most);
    (0..shown).map(|i| items[i * items.len() / shown]).collect()
}
