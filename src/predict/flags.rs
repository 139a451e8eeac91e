//! Why a class should not be trusted.

use crate::rows::CellRow;

/// A cell is flagged below this calibrated confidence: about one in ten such cells, or more, is classified wrongly.
pub const CONFIDENT: f32 = 0.9;

/// A flag of [`CellRow`]: the calibrated confidence is below [`CONFIDENT`].
pub const LOW_CONFIDENCE: &str = "low confidence";
/// A flag of [`CellRow`]: the cell is unlike the training cells.
pub const UNLIKE_TRAINING: &str = "unlike training";
/// A flag of [`CellRow`]: no nucleus was found, so that a classical classifier has nothing to go by, and a network that
/// sees cells cut out along their segmentation sees something else.
pub const NO_NUCLEUS: &str = "no nucleus";
/// A flag of [`CellRow`]: the images of its folder are unlike the training images.
pub const UNFAMILIAR: &str = "unfamiliar images";

/// Adds a flag to a cell.
pub(super) fn add_flag(row: &mut CellRow, flag: &str) {
    row.flag = Some(match row.flag.take() {
        Some(flags) => format!("{flags}, {flag}"),
        None => flag.into(),
    });
}
