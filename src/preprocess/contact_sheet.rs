//! A contact sheet of the images as a model receives them, for inspection before training: one row per class, with its
//! name and number of cells above.

use super::settings::Settings;
use crate::atomic;
use crate::class::{Class, Classes};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::png;
use crate::rows::ManifestRow;
use crate::schema::TENSORS;
use crate::table;
use crate::text;
use crate::workspace::Workspace;
use arrow_array::cast::AsArray;
use image::RgbImage;
use std::collections::HashMap;
use std::path::Path;

/// Images per class.
const COLUMNS: usize = 10;
/// Between images, px.
const GAP: u32 = 4;
/// Height of the classes' names, and of the lines that hold them, px.
const NAME_PX: u32 = 16;
const LINE_PX: u32 = NAME_PX + NAME_PX / 2;

/// Where an image stands on a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    row: usize,
    column: usize,
}

/// The classes that have cells.
fn with_cells(rows: &[ManifestRow], classes: &Classes) -> Vec<Class> {
    classes.iter().filter(|class| rows.iter().any(|row| row.class == Some(*class))).collect()
}

/// Up to ten rows of each class with cells, at even intervals, and their places, in the order of the classes.
pub fn choose<'a>(rows: &'a [ManifestRow], classes: &Classes) -> Vec<(&'a ManifestRow, Place)> {
    let mut chosen = Vec::new();
    for (number, class) in with_cells(rows, classes).into_iter().enumerate() {
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
    /// An empty sheet for tiles of `tile_px` x `tile_px`, with the names of the classes, which `rows` are of.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where the sheet is too large.
    pub fn new(tile_px: u32, rows: &[ManifestRow], classes: &Classes) -> Result<Self> {
        let width = COLUMNS as u32 * (tile_px + GAP) + GAP;
        let shown = with_cells(rows, classes);
        let height = shown.len() as u32 * (LINE_PX + tile_px + GAP) + GAP;
        let mut sheet = Self { tile_px, sheet: RgbImage::from_pixel(width, height, image::Rgb([255; 3])), shown: 0 };
        for (row, class) in shown.into_iter().enumerate() {
            let cells = rows.iter().filter(|cell| cell.class == Some(class)).count() as u64;
            let name = format!("{} ({})", classes.title(class), text::of(cells, "cell"));
            let line = png::line(&name, NAME_PX, width - 2 * GAP)?;
            let top = sheet.top(row) - i64::from(LINE_PX);
            image::imageops::replace(&mut sheet.sheet, &line, GAP.into(), top);
        }
        Ok(sheet)
    }

    /// Top of the images of a class, px.
    fn top(&self, row: usize) -> i64 {
        i64::from(GAP + LINE_PX) + row as i64 * i64::from(LINE_PX + self.tile_px + GAP)
    }

    /// Puts an image in its place.
    pub fn put(&mut self, place: Place, image: &RgbImage) {
        let left = i64::from(GAP + place.column as u32 * (self.tile_px + GAP));
        let top = self.top(place.row);
        image::imageops::replace(&mut self.sheet, image, left, top);
        self.shown += 1;
    }

    /// Writes a PNG; returns how many images are on it.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    pub fn write(&self, path: &Path) -> Result<usize> {
        atomic::write_bytes(path, &png::encode(&self.sheet)?)?;
        Ok(self.shown)
    }
}

/// Writes a PNG of up to ten preprocessed images per class. Returns how many images are on it.
///
/// # Errors
/// [`crate::error::Error::Missing`] where nothing was preprocessed; as [`Sheet::new`] and [`Sheet::write`].
pub fn write(ws: &Workspace, dataset: &str, settings: &Settings, path: &Path) -> Result<usize> {
    let size_px = settings.size_px;
    let Dataset { classes, cells, .. } = Dataset::read(ws, dataset)?;
    let places: HashMap<&str, Place> =
        choose(&cells, &classes).into_iter().map(|(row, at)| (row.image_id.as_str(), at)).collect();
    let mut sheet = Sheet::new(size_px, &cells, &classes)?;
    let dir = ws.tensors(dataset, &settings.folder());
    for number in 0.. {
        let file = dir.join(format!("part-{number:05}.parquet"));
        if number > 0 && !file.is_file() {
            break;
        }
        table::read_batches(&file, &TENSORS, |batch| {
            let (ids, pixels) = (batch.column(0).as_string::<i32>(), batch.column(3).as_binary::<i32>());
            for i in 0..batch.num_rows() {
                let Some(place) = places.get(ids.value(i)) else { continue };
                if let Some(image) = RgbImage::from_raw(size_px, size_px, pixels.value(i).to_vec()) {
                    sheet.put(*place, &image);
                }
            }
            Ok(())
        })?;
    }
    sheet.write(path)
}
