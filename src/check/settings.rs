//! Settings of the check stage.

use crate::copies;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Least correlation of two images, aligned with each other, that are copies, 0.5 to 1. More is required where few
    /// keypoints match, or where there is little to see.
    pub copy_correlation: f32,
    /// An image whose 95th percentile of grey (0 to 255) is below this is too dark.
    pub dark_below: u8,
    /// An image whose 5th percentile of grey (0 to 255) is above this is too bright.
    pub bright_above: u8,
    /// An image is blurred if its sharpness is more than this many robust standard deviations below the median.
    pub blur_deviations: f64,
    /// A class with fewer images than this is reported.
    pub min_class_images: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            copy_correlation: copies::CORRELATION,
            dark_below: 80,
            bright_above: 225,
            blur_deviations: 4.0,
            min_class_images: 10,
        }
    }
}

impl Settings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn validate(&self) -> Result<()> {
        let check = |valid: bool, key: &str, expected: &str, got: &dyn Display| match valid {
            true => Ok(()),
            false => Err(Error::setting(format!("check.{key}"), expected, got)),
        };
        let correlation = self.copy_correlation;
        check((0.5..=1.0).contains(&correlation), "copy_correlation", "0.5 to 1", &correlation)?;
        check(self.blur_deviations > 0.0, "blur_deviations", "above 0", &self.blur_deviations)
    }
}
