//! Settings of the stage, and the squares that it cuts.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Side of the tensors, 8 to 1024 px. The paper uses 128 for W-Net and 224 for ResNet50.
    pub size_px: u32,
    /// Which part of an image is kept.
    pub cut: Cut,
    /// Side of the central square, 8 to 8192 px; a smaller image is cut to its largest central square. The paper uses
    /// 200.
    pub centre_px: u32,
    /// Margin on each side of the cell's box, 0 to 2, as a share of its longer side.
    pub margin: f64,
    /// How pixels are resampled.
    pub filter: Filter,
    /// How colours are normalised; needs `cut = "cell"`.
    #[serde(skip_serializing_if = "is_default")]
    pub stain: Stain,
    /// What is shown around the cell; needs `cut = "cell"`.
    #[serde(skip_serializing_if = "is_default")]
    pub around: Around,
}

/// For serde: whether a value is the default and can be left out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Which part of an image is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// As ingest decided for the data set: the central square, the whole image, or the box of the cell.
    #[default]
    Auto,
    /// The central square.
    Centre,
    /// The box of the cell; an image without one is an error.
    Box,
    /// The whole image; where it is not square, its edges are continued.
    Whole,
    /// The segmented cell, in the window in which features are measured; without a nucleus, the same as `auto`.
    Cell,
}

/// How the colours of stain, light and camera are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stain {
    /// Not at all.
    #[default]
    Keep,
    /// The plasma becomes white.
    Plasma,
    /// The plasma becomes white, and the median optical density of the nucleus becomes the same in every image.
    Nucleus,
}

/// What is shown around the cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Around {
    /// The image.
    #[default]
    Keep,
    /// White.
    White,
}

/// How pixels are resampled. All filters average when reducing. The paper does not state its filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Bilinear.
    #[default]
    Bilinear,
    /// Mean of the pixels.
    Box,
    /// Lanczos with three lobes.
    Lanczos3,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            size_px: 128,
            cut: Cut::Auto,
            centre_px: 200,
            margin: 0.1,
            filter: Filter::Bilinear,
            stain: Stain::Keep,
            around: Around::Keep,
        }
    }
}

impl Settings {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range, or an option that needs `cut = "cell"`.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, key: &str, expected: &str, got: String| match ok {
            true => Ok(()),
            false => Err(Error::setting(format!("preprocess.{key}"), expected, got)),
        };
        check((8..=1024).contains(&self.size_px), "size_px", "8 to 1024", self.size_px.to_string())?;
        check((8..=8192).contains(&self.centre_px), "centre_px", "8 to 8192", self.centre_px.to_string())?;
        check((0.0..=2.0).contains(&self.margin), "margin", "0 to 2", self.margin.to_string())?;
        let close = self.cut == Cut::Cell;
        check(close || self.stain == Stain::Keep, "stain", "keep, unless cut = \"cell\"", format!("{:?}", self.stain))?;
        check(
            close || self.around == Around::Keep,
            "around",
            "keep, unless cut = \"cell\"",
            format!("{:?}", self.around),
        )
    }

    /// Name of the folder of the tensors: `tensors-<size>`, with a hash if another setting is not the default, so that
    /// recipes do not overwrite each other's tensors.
    pub fn folder(&self) -> String {
        let size = format!("tensors-{}", self.size_px);
        if *self == (Self { size_px: self.size_px, ..Self::default() }) {
            return size;
        }
        let hash = blake3::hash(serde_json::to_string(self).expect("settings are plain JSON").as_bytes());
        format!("{size}-{}", &hash.to_hex()[..8])
    }
}

/// A square of an image, px. It may extend beyond the edge, where the pixels of the edge are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    /// Left edge.
    pub x: i64,
    /// Top edge.
    pub y: i64,
    /// Side.
    pub side: i64,
}
