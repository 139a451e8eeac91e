//! Settings of the check stage.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Number of bits (of 64) in which the perceptual hashes of near copies may differ, 0 to 32. Pairs of images within
    /// it are then compared by their pixels.
    pub near_copy_bits: u32,
    /// Correlation of the aligned thumbnails above which two images are near copies, 0.5 to 1. It is raised for data
    /// sets whose unrelated images come close to it.
    pub near_copy_correlation: f32,
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
            near_copy_bits: 14,
            near_copy_correlation: 0.9,
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
        check(self.near_copy_bits <= 32, "near_copy_bits", "0 to 32", &self.near_copy_bits)?;
        let correlation = self.near_copy_correlation;
        check((0.5..=1.0).contains(&correlation), "near_copy_correlation", "0.5 to 1", &correlation)?;
        check(self.blur_deviations > 0.0, "blur_deviations", "above 0", &self.blur_deviations)
    }
}
