//! A contact sheet of the images as a model receives them, for inspection before training: one row per class.

use super::settings::Settings;
use crate::atomic;
use crate::class::Classes;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::rows::ManifestRow;
use crate::schema::TENSORS;
use crate::table;
use crate::workspace::Workspace;
use arrow_array::cast::AsArray;
use image::RgbImage;
use std::collections::HashMap;
use std::path::Path;

/// Tensors a class.
const COLUMNS: usize = 10;
/// Between images, px.
const GAP: u32 = 4;

/// Where an image stands on a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    row: usize,
    column: usize,
}

/// Up to ten rows a class, evenly drawn from the data set, and their places: `classes` from the top.
pub fn choose<'a>(rows: &'a [ManifestRow], classes: &Classes) -> Vec<(&'a ManifestRow, Place)> {
    let mut chosen = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let of_class: Vec<&ManifestRow> = rows.iter().filter(|r| r.class == Some(class)).collect();
        let shown = of_class.len().min(COLUMNS);
        let place = |column| Place { row: number, column };
        chosen.extend((0..shown).map(|column| (of_class[column * of_class.len() / shown], place(column))));
    }
    chosen
}

/// A sheet of square tiles.
pub struct Sheet {
    tile_px: u32,
    sheet: RgbImage,
    shown: usize,
}

impl Sheet {
    /// An empty sheet for tiles of `tile_px` x `tile_px` and a number of classes.
    pub fn new(tile_px: u32, classes: usize) -> Self {
        let side = |n: usize| n as u32 * (tile_px + GAP) + GAP;
        Self { tile_px, sheet: RgbImage::from_pixel(side(COLUMNS), side(classes), image::Rgb([255; 3])), shown: 0 }
    }

    /// Puts an image in its place.
    pub fn put(&mut self, place: Place, picture: &RgbImage) {
        let at = |n: usize| i64::from(GAP + n as u32 * (self.tile_px + GAP));
        image::imageops::replace(&mut self.sheet, picture, at(place.column), at(place.row));
        self.shown += 1;
    }

    /// Writes a PNG; returns how many images are on it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<usize> {
        atomic::write(path, |out| {
            let encoder = image::codecs::png::PngEncoder::new(out);
            self.sheet.write_with_encoder(encoder).map_err(|e| Error::Io {
                path: path.into(),
                action: "write",
                source: std::io::Error::other(e),
            })
        })?;
        Ok(self.shown)
    }
}

/// Writes a PNG of up to ten preprocessed images per class. Returns how many images are on it.
///
/// # Errors
/// [`Error::Missing`] where nothing was preprocessed; [`Error::Io`].
pub fn write(ws: &Workspace, dataset: &str, settings: &Settings, path: &Path) -> Result<usize> {
    let size_px = settings.size_px;
    let Dataset { classes, cells, .. } = Dataset::read(ws, dataset)?;
    let places: HashMap<&str, Place> =
        choose(&cells, &classes).into_iter().map(|(row, at)| (row.image_id.as_str(), at)).collect();
    let mut sheet = Sheet::new(size_px, classes.len());
    let dir = ws.tensors(dataset, &settings.folder());
    for number in 0.. {
        let shard = dir.join(format!("part-{number:05}.parquet"));
        if number > 0 && !shard.is_file() {
            break;
        }
        table::read_batches(&shard, &TENSORS, |batch| {
            let (ids, pixels) = (batch.column(0).as_string::<i32>(), batch.column(3).as_binary::<i32>());
            for i in 0..batch.num_rows() {
                let Some(place) = places.get(ids.value(i)) else { continue };
                if let Some(picture) = RgbImage::from_raw(size_px, size_px, pixels.value(i).to_vec()) {
                    sheet.put(*place, &picture);
                }
            }
            Ok(())
        })?;
    }
    sheet.write(path)
}
