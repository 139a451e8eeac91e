//! The part of an image in which a cell is segmented and measured.

use super::measure::measure;
use super::settings::{MAX_WINDOW_PX, Settings};
use crate::decode::Rgb;
use crate::error::Result;
use crate::preprocess::{self, Square};
use crate::rows::ManifestRow;
use crate::schema::FEATURES;
use crate::segment;
use std::path::Path;

/// The square around a cell, without the parts of it outside the image.
pub struct Window {
    /// Its pixels.
    pub image: Rgb,
    /// Its left and top edge in the full image, px.
    origin: [f64; 2],
    /// Side of a window pixel in pixels of the full image: above 1 if the window was reduced.
    scale: f64,
}

impl Window {
    /// Reads the window of a manifest row from the data set's folder `raw`.
    ///
    /// # Errors
    /// As [`preprocess::read_part`] and [`preprocess::square`].
    pub fn read(raw: &Path, row: &ManifestRow, settings: &Settings) -> Result<Self> {
        let (requested, _) = preprocess::square(row, &settings.window(MAX_WINDOW_PX))?;
        let (image, in_image) = preprocess::read_part(raw, row, requested)?;
        Ok(Self::of_part(image, requested, in_image, settings))
    }

    /// The window of the cell in `square` of an image.
    pub fn of(image: &Rgb, square: Square, settings: &Settings) -> Self {
        let (part, in_part) = preprocess::part(image, square);
        Self::of_part(part, square, in_part, settings)
    }

    fn of_part(image: Rgb, requested: Square, in_image: Square, settings: &Settings) -> Self {
        let origin = [(requested.x - in_image.x) as f64, (requested.y - in_image.y) as f64];
        let longer = image.width_px.max(image.height_px);
        if longer <= MAX_WINDOW_PX {
            return Self { image, origin, scale: 1.0 };
        }
        let square = Square { x: 0, y: 0, side: longer.into() };
        let pixels = preprocess::tensor(&image, square, &settings.window(MAX_WINDOW_PX)).pixels;
        let image = Rgb { width_px: MAX_WINDOW_PX, height_px: MAX_WINDOW_PX, pixels };
        Self { image, origin, scale: f64::from(longer) / f64::from(MAX_WINDOW_PX) }
    }

    /// The number (row by row) of the window's pixel at a position in the full image (px); `None` outside the window.
    pub(crate) fn pixel_at(&self, x: f64, y: f64) -> Option<usize> {
        let [x, y] = [(x - self.origin[0]) / self.scale, (y - self.origin[1]) / self.scale];
        let (width, height) = (self.image.width_px, self.image.height_px);
        let inside = x >= 0.0 && y >= 0.0 && x < width.into() && y < height.into();
        inside.then(|| y as usize * width as usize + x as usize)
    }

    /// The features of the cell in the order of the schema; all `None` if no nucleus is found.
    pub fn features(&self) -> Vec<Option<f64>> {
        let features = segment::cell(&self.image).map(|cell| measure(&self.image, &cell, self.scale));
        features.unwrap_or_else(|| vec![None; FEATURES.columns.len() - 1])
    }
}
