//! The images of a data set's page. Each file is decoded once, for its colours and for the images that are shown.

use super::summary::Colour;
use super::tables::Tables;
use crate::batch;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::decode::{self, Rgb};
use crate::error::{Error, Result};
use crate::page::parts;
use crate::preprocess::{self, Cut, Square};
use crate::rows::{CutRule, ManifestRow};
use crate::segment;
use image::RgbImage;
use minijinja::{Value, context};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Longer side of a whole image on the page, px.
const THUMBNAIL_PX: u32 = 160;
/// Side at which the background's colour is measured, px.
const BACKGROUND_PX: u32 = 96;
/// Colour of the boxes around cells.
const BOX: image::Rgb<u8> = image::Rgb([0, 200, 0]);

/// Which images the page shows.
pub(super) struct Selection {
    /// Rows, cut as preprocessing cuts them.
    pub cells: BTreeSet<usize>,
    /// Whole files.
    pub files: BTreeSet<String>,
}

/// Measurements of a cell.
struct Measurement {
    /// Sum and sum of squares of each channel over the cut cell.
    moments: [[u64; 2]; 3],
    /// Colour of the plasma in its image.
    background: Option<[f32; 3]>,
}

/// One decoded file: measurement and, where selected, image of each row; and the thumbnail, where selected.
type Decoded = (Vec<(Measurement, Option<Value>)>, Option<Value>);

/// Measurements of all cells, and the images to show.
pub(super) struct Images {
    /// By row; `None` where its file cannot be read.
    measurements: Vec<Option<Measurement>>,
    /// Cut cells by row.
    cells: BTreeMap<usize, Value>,
    /// Whole images by path.
    pub thumbnails: BTreeMap<String, Value>,
    /// Why a file cannot be read, by path.
    pub failed: BTreeMap<String, String>,
}

impl Images {
    /// Decodes every file of the manifest once.
    ///
    /// # Errors
    /// [`Error::Interrupted`]. Files that cannot be read are listed in [`Images::failed`].
    pub fn read(raw: &Path, rows: &[ManifestRow], selection: &Selection, ctx: &Context) -> Result<Self> {
        let files: Vec<&[ManifestRow]> = rows.chunk_by(|a, b| a.path == b.path).collect();
        let starts = files.iter().scan(0, |next, file| {
            let start = *next;
            *next += file.len();
            Some(start)
        });
        let files: Vec<(usize, &[ManifestRow])> = starts.zip(files.iter().copied()).collect();
        let task = ctx.progress.task("reading images", Some(files.len() as u64), "images");
        let decoded: Result<Vec<std::result::Result<Decoded, String>>> = files
            .par_iter()
            .map(|(start, file)| {
                ctx.check_stop()?;
                let whole = selection.files.contains(&file[0].path);
                let decoded = decode_file(raw, file, whole, |i| selection.cells.contains(&(start + i)));
                task.advance(1);
                Ok(decoded)
            })
            .collect();
        let mut images = Self {
            measurements: Vec::new(),
            cells: BTreeMap::new(),
            thumbnails: BTreeMap::new(),
            failed: BTreeMap::new(),
        };
        for ((start, file), decoded) in files.into_iter().zip(decoded?) {
            match decoded {
                Ok((cells, thumbnail)) => {
                    for (i, (measurement, cell)) in cells.into_iter().enumerate() {
                        images.measurements.push(Some(measurement));
                        images.cells.extend(cell.map(|cell| (start + i, cell)));
                    }
                    images.thumbnails.extend(thumbnail.map(|thumbnail| (file[0].path.clone(), thumbnail)));
                }
                Err(reason) => {
                    images.measurements.extend(file.iter().map(|_| None));
                    images.failed.insert(file[0].path.clone(), reason);
                }
            }
        }
        Ok(images)
    }

    /// Adds thumbnails of files that were not selected before, whether or not they are in the manifest.
    pub fn add_thumbnails(&mut self, raw: &Path, rows: &[ManifestRow], paths: BTreeSet<String>) {
        for path in paths {
            if self.thumbnails.contains_key(&path) || self.failed.contains_key(&path) {
                continue;
            }
            let own: Vec<&ManifestRow> = rows.iter().filter(|r| r.path == path).collect();
            let full = raw.join(&path);
            let decoded = match decode::read(&full) {
                Ok(bytes) if bytes.is_empty() => Err("the file is empty".to_string()),
                Ok(bytes) => decode::rgb(&bytes, &full).map_err(reason),
                Err(error) => Err(reason(error)),
            };
            match decoded {
                Ok(image) => drop(self.thumbnails.insert(path, thumbnail(&image, &own))),
                Err(reason) => drop(self.failed.insert(path, reason)),
            }
        }
    }

    /// A whole image with its path and the class of `row`, by default its first.
    pub fn tile(&self, tables: &Tables, path: &str, row: Option<usize>) -> Value {
        let row = row.or_else(|| tables.files.get(path).map(|rows| rows.start));
        let class =
            row.and_then(|row| tables.rows[row].class).map_or(String::new(), |class| tables.classes.title(class));
        let image = self.thumbnails.get(path).cloned();
        let reason = self.failed.get(path).cloned().unwrap_or_else(|| "no image".into());
        let alt = format!("{class} {path}");
        context! { image => image, reason => reason, class => class, name => path, alt => alt }
    }

    /// A cut cell with its name.
    pub fn cell_tile(&self, tables: &Tables, row: usize) -> Value {
        let cell = &tables.rows[row];
        let name = cell.image_id.rsplit('/').next().unwrap_or_default();
        let reason = self.failed.get(&cell.path).cloned().unwrap_or_default();
        let alt = cell.class.map_or(String::new(), |class| tables.classes.title(class));
        context! { image => self.cells.get(&row).cloned(), reason => reason, class => "", name => name, alt => alt }
    }

    /// Class, row and background colour: one item per image file and class.
    pub fn backgrounds<'a>(&'a self, rows: &'a [ManifestRow]) -> impl Iterator<Item = (Class, usize, [f32; 3])> + 'a {
        let mut seen: BTreeSet<(&str, Class)> = BTreeSet::new();
        self.measurements.iter().enumerate().filter_map(move |(i, measurement)| {
            let class = rows[i].class?;
            let background = measurement.as_ref()?.background?;
            seen.insert((rows[i].path.as_str(), class)).then_some((class, i, background))
        })
    }

    /// Colours of each class, in class order; `None` where no image of the class could be read.
    pub fn colours(&self, classes: &Classes, rows: &[ManifestRow]) -> Vec<Option<Colour>> {
        let colour = |class: Class| {
            let pixels = f64::from(preprocess::Settings::default().size_px).powi(2);
            let (mut sums, mut n) = ([[0u64; 2]; 3], 0.0);
            let own = self.measurements.iter().zip(rows).filter(|(_, row)| row.class == Some(class));
            for measurement in own.filter_map(|(measurement, _)| measurement.as_ref()) {
                sums = std::array::from_fn(|c| [0, 1].map(|k| sums[c][k] + measurement.moments[c][k]));
                n += pixels;
            }
            let backgrounds: Vec<[f64; 3]> =
                self.backgrounds(rows).filter(|(c, ..)| *c == class).map(|(.., rgb)| rgb.map(f64::from)).collect();
            let (background, background_deviation) = mean_and_deviation(&backgrounds)?;
            let mean = sums.map(|[sum, _]| sum as f64 / n);
            let deviation = std::array::from_fn(|c| (sums[c][1] as f64 / n - mean[c] * mean[c]).max(0.0).sqrt());
            Some(Colour { mean, deviation, background, background_deviation })
        };
        classes.iter().map(colour).collect()
    }
}

/// Reads, verifies and decodes one file. `rows` are its own; `whole` and `selected` say which images to keep.
fn decode_file(
    raw: &Path,
    rows: &[ManifestRow],
    whole: bool,
    selected: impl Fn(usize) -> bool,
) -> std::result::Result<Decoded, String> {
    let settings = preprocess::Settings::default();
    let first = &rows[0];
    // A square that covers the image reads all of it.
    let square = Square { x: 0, y: 0, side: i64::from(first.width_px.max(first.height_px)) };
    let (image, _) = preprocess::read_part(raw, first, square).map_err(reason)?;
    let background = preprocess::Settings { size_px: BACKGROUND_PX, cut: Cut::Whole, ..settings.clone() };
    let cut = |row: &ManifestRow, settings: &preprocess::Settings| {
        let (square, _) = preprocess::square(row, settings).map_err(reason)?;
        Ok::<_, String>(preprocess::tensor(&image, square, settings).pixels)
    };
    let background =
        segment::plasma(&Rgb { width_px: BACKGROUND_PX, height_px: BACKGROUND_PX, pixels: cut(first, &background)? });
    let whole_image = preprocess::Settings { cut: Cut::Whole, ..settings.clone() };
    let mut cells = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        // Of an image without a box around its only cell, all is shown.
        let is_boxed = row.cut != Some(CutRule::Box) || row.cell_box().is_some();
        let pixels = cut(row, if is_boxed { &settings } else { &whole_image })?;
        let shown = selected(i).then(|| parts::image(&pixels, settings.size_px, settings.size_px));
        cells.push((Measurement { moments: batch::moments(&pixels), background }, shown));
    }
    let own: Vec<&ManifestRow> = rows.iter().collect();
    Ok((cells, whole.then(|| thumbnail(&image, &own))))
}

/// The error's message without its path.
fn reason(error: Error) -> String {
    match error {
        Error::Image { message, .. } => message,
        Error::Io { source, .. } => format!("cannot be read: {source}"),
        Error::Stale { reason, .. } => reason,
        other => other.to_string(),
    }
}

/// A whole image, scaled down, with the boxes of its cells.
fn thumbnail(image: &Rgb, rows: &[&ManifestRow]) -> Value {
    let (width, height) = (image.width_px, image.height_px);
    let share = (f64::from(THUMBNAIL_PX) / f64::from(width.max(height))).min(1.0);
    let scale = |px: u32| (f64::from(px) * share).round() as u32;
    let full = RgbImage::from_raw(width, height, image.pixels.clone()).expect("width * height * 3 bytes");
    let (small_width, small_height) = (scale(width).max(1), scale(height).max(1));
    let mut small = image::imageops::resize(&full, small_width, small_height, image::imageops::FilterType::Triangle);
    for rect in rows.iter().filter_map(|row| row.cell_box()) {
        let (left, top) = (scale(rect.x).min(small_width - 1), scale(rect.y).min(small_height - 1));
        let (right, bottom) = (scale(rect.right()).min(small_width - 1), scale(rect.bottom()).min(small_height - 1));
        (left..=right).for_each(|x| [top, bottom].into_iter().for_each(|y| small.put_pixel(x, y, BOX)));
        (top..=bottom).for_each(|y| [left, right].into_iter().for_each(|x| small.put_pixel(x, y, BOX)));
    }
    parts::image(small.as_raw(), small_width, small_height)
}

/// Mean and standard deviation of each channel; `None` without colours.
fn mean_and_deviation(colours: &[[f64; 3]]) -> Option<([f64; 3], [f64; 3])> {
    let n = (!colours.is_empty()).then_some(colours.len() as f64)?;
    let mean: [f64; 3] = std::array::from_fn(|c| colours.iter().map(|v| v[c]).sum::<f64>() / n);
    let variance = |c: usize| colours.iter().map(|v| (v[c] - mean[c]).powi(2)).sum::<f64>() / n;
    Some((mean, std::array::from_fn(|c| variance(c).sqrt())))
}
