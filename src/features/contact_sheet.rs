//! A sheet of cells with the outlines that segmentation found, to look at before believing the features: a row a class.

use super::{Settings, Window};
use crate::dataset::Usable;
use crate::error::{Error, Result};
use crate::preprocess::contact_sheet::{Sheet, choose};
use crate::segment::{self, Mask};
use crate::workspace::Workspace;
use image::RgbImage;
use rayon::prelude::*;
use std::path::Path;

/// Windows are shown at about this size, px.
const TILE_PX: u32 = 240;
const CELL: image::Rgb<u8> = image::Rgb([0, 200, 0]);
const NUCLEUS: image::Rgb<u8> = image::Rgb([255, 0, 0]);

/// Writes a PNG of up to ten windows a class, the cell outlined in green and its nucleus in red; images that cannot be
/// read are left out. Returns how many there are.
///
/// # Errors
/// As [`super::run`].
pub fn write(ws: &Workspace, dataset: &str, settings: &Settings, path: &Path) -> Result<usize> {
    let usable = Usable::read(ws, dataset)?;
    let raw = ws.raw_dataset(dataset);
    let drawn: Vec<_> = choose(&usable.cells)
        .into_par_iter()
        .map(|(row, place)| match Window::read(&raw, row, settings) {
            Ok(window) => Ok(Some((place, outlined(&window)))),
            Err(Error::Io { .. } | Error::Image { .. }) => Ok(None),
            Err(other) => Err(other),
        })
        .collect::<Result<_>>()?;
    let tile = drawn.iter().flatten().map(|(_, picture)| picture.width().max(picture.height())).max().unwrap_or(1);
    let mut sheet = Sheet::new(tile);
    drawn.iter().flatten().for_each(|(place, picture)| sheet.put(*place, picture));
    sheet.write(path)
}

/// The window, small ones enlarged, with outlines.
fn outlined(window: &Window) -> RgbImage {
    let picture = &window.picture;
    let times = (TILE_PX / picture.width_px.max(picture.height_px)).max(1);
    let colour = |x: u32, y: u32| {
        let at = ((y / times * picture.width_px + x / times) * 3) as usize;
        image::Rgb([picture.pixels[at], picture.pixels[at + 1], picture.pixels[at + 2]])
    };
    let mut drawn = RgbImage::from_fn(picture.width_px * times, picture.height_px * times, colour);
    if let Some(cell) = segment::cell(picture) {
        outline(&mut drawn, &cell.whole, times as usize, CELL);
        outline(&mut drawn, &cell.nucleus, times as usize, NUCLEUS);
    }
    drawn
}

/// Colours the pixels of the mask, each `times` as large, that have a neighbour outside.
fn outline(drawn: &mut RgbImage, mask: &Mask, times: usize, colour: image::Rgb<u8>) {
    let (width, height) = (mask.width_px * times, mask.height_px * times);
    let on = |x: usize, y: usize| mask.on[y / times * mask.width_px + x / times];
    for y in 0..height {
        for x in (0..width).filter(|x| on(*x, y)) {
            let inner = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
            if !(inner && on(x - 1, y) && on(x + 1, y) && on(x, y - 1) && on(x, y + 1)) {
                drawn.put_pixel(x as u32, y as u32, colour);
            }
        }
    }
}
