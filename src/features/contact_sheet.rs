//! A contact sheet of segmented cells with their outlines, for checking the segmentation: one row per class,
//! with its name and number of cells above.

use super::settings::Settings;
use super::window::Window;
use crate::dataset::Usable;
use crate::error::{Error, Result};
use crate::preprocess::contact_sheet::{Sheet, choose};
use crate::segment::{self, Mask};
use crate::workspace::Workspace;
use image::RgbImage;
use rayon::prelude::*;
use std::path::Path;

/// Small windows are enlarged to about this side, px.
const TILE_PX: u32 = 240;
/// Colour of cell outlines.
const CELL: image::Rgb<u8> = image::Rgb([0, 200, 0]);
/// Colour of nucleus outlines.
const NUCLEUS: image::Rgb<u8> = image::Rgb([255, 0, 0]);

/// Writes a PNG of up to ten windows per class, with cells outlined in green and nuclei in red. Images that cannot be
/// read are skipped. Returns the number of cells shown.
///
/// # Errors
/// As [`super::run`].
pub fn write(ws: &Workspace, dataset: &str, settings: &Settings, path: &Path) -> Result<usize> {
    let usable = Usable::read(ws, dataset)?;
    let raw = ws.raw_dataset(dataset);
    let tiles: Vec<_> = choose(&usable.cells, &usable.classes)
        .into_par_iter()
        .map(|(row, place)| match Window::read(&raw, row, settings) {
            Ok(window) => Ok(Some((place, outlined(&window)))),
            Err(Error::Io { .. } | Error::Image { .. }) => Ok(None),
            Err(other) => Err(other),
        })
        .collect::<Result<_>>()?;
    let tile_px = tiles.iter().flatten().map(|(_, tile)| tile.width().max(tile.height())).max().unwrap_or(1);
    let mut sheet = Sheet::new(tile_px, &usable.cells, &usable.classes)?;
    tiles.iter().flatten().for_each(|(place, tile)| sheet.put(*place, tile));
    sheet.write(path)
}

/// A window with outlines, enlarged if it is small.
fn outlined(window: &Window) -> RgbImage {
    let image = &window.image;
    let factor = (TILE_PX / image.width_px.max(image.height_px)).max(1);
    let colour = |x: u32, y: u32| {
        let i = ((y / factor * image.width_px + x / factor) * 3) as usize;
        image::Rgb([image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]])
    };
    let mut tile = RgbImage::from_fn(image.width_px * factor, image.height_px * factor, colour);
    if let Some(cell) = segment::cell(image) {
        outline(&mut tile, &cell.whole, factor as usize, CELL);
        outline(&mut tile, &cell.nucleus, factor as usize, NUCLEUS);
    }
    tile
}

/// Colours the pixels of the mask, enlarged by `factor`, that have a neighbour outside it.
fn outline(tile: &mut RgbImage, mask: &Mask, factor: usize, colour: image::Rgb<u8>) {
    let (width, height) = (mask.width_px * factor, mask.height_px * factor);
    let on = |x: usize, y: usize| mask.on[y / factor * mask.width_px + x / factor];
    for y in 0..height {
        for x in (0..width).filter(|x| on(*x, y)) {
            let inner = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
            if !(inner && on(x - 1, y) && on(x + 1, y) && on(x, y - 1) && on(x, y + 1)) {
                tile.put_pixel(x as u32, y as u32, colour);
            }
        }
    }
}
