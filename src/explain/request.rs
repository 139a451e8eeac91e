//! What to explain.

use crate::predict::{ImageKind, Images};
use serde::Serialize;

/// What to explain about each cell.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of the class to explain, in upper or lower case; the predicted class of each cell where none is named.
    pub class: Option<String>,
    /// Side of the covering square, px of the tensor: by default an eighth of the tensor's side.
    pub patch_px: Option<u32>,
    /// Step from one square to the next, px: by default half the square.
    pub stride_px: Option<u32>,
}

/// Test cells of a run, as its page shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The wrong predictions with the highest confidence.
    Mistakes,
    /// Test cells of each class, at even intervals.
    Examples,
    /// Both.
    All,
}

/// Which cells to explain.
#[derive(Clone, Debug)]
pub enum Cells {
    /// Cells of new images, by the mean over the models of all folds, calibrated as in [`crate::predict`].
    New(Images, ImageKind),
    /// Test cells of the run, each by the model that was not trained on it.
    Gallery(Which),
}
