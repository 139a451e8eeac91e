//! Settings of the stage.

use crate::error::{Error, Result};
use crate::preprocess::{self, Cut};
use serde::{Deserialize, Serialize};

/// Larger windows are reduced to this side before measuring, px.
pub(crate) const MAX_WINDOW_PX: u32 = 512;

/// How a cell's window is cut out of its image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which part of an image is used.
    pub cut: Cut,
    /// Side of the central square, px. By default larger than that of preprocessing, to include plasma around the cell.
    pub centre_px: u32,
    /// Margin on each side of a cell's box, as a share of the box's longer side.
    pub margin: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cut: Cut::Auto, centre_px: 260, margin: 0.3 }
    }
}

impl Settings {
    /// Checks all values.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first value outside its range.
    pub fn validate(&self) -> Result<()> {
        if !(8..=8192).contains(&self.centre_px) {
            return Err(Error::setting("features.centre_px", "8 to 8192", self.centre_px));
        }
        if !(0.0..=2.0).contains(&self.margin) {
            return Err(Error::setting("features.margin", "0 to 2", self.margin));
        }
        Ok(())
    }

    /// The same settings for preprocessing, which cuts the window.
    pub(crate) fn window(&self, size_px: u32) -> preprocess::Settings {
        preprocess::Settings {
            size_px,
            cut: self.cut,
            centre_px: self.centre_px,
            margin: self.margin,
            ..Default::default()
        }
    }
}
