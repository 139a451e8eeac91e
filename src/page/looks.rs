//! What a data set's page sees of its images: each file is decoded once, for its colours and for the pictures that
//! are shown.

use super::dataset::{Colour, Tables};
use super::picture;
use crate::batch;
use crate::class::Class;
use crate::context::Context;
use crate::decode::{self, Rgb};
use crate::error::{Error, Result};
use crate::preprocess::{self, Cut, Square};
use crate::rows::ManifestRow;
use crate::segment;
use image::RgbImage;
use minijinja::{Value, context};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Longer side of a whole image on the page, px.
const WHOLE_PX: u32 = 160;
/// Side at which the background's colour is measured, px.
const GROUND_PX: u32 = 96;
const BOX: image::Rgb<u8> = image::Rgb([0, 200, 0]);

/// The pictures that the page shows.
pub struct Wanted {
    /// Rows, cut as preprocessing cuts them.
    pub cells: BTreeSet<usize>,
    /// Files.
    pub whole: BTreeSet<String>,
}

/// What is seen of a cell.
pub struct Measured {
    /// Sum and sum of squares of each channel over its picture.
    moments: [[u64; 2]; 3],
    /// The plasma's colour in its image.
    background: Option<[f32; 3]>,
}

/// What is seen of one image file: the measures and pictures of its rows, and itself.
type Seen = (Vec<(Measured, Option<Value>)>, Option<Value>);

/// What is kept of all images.
pub struct Looks {
    /// By row; `None` where its file cannot be read.
    measured: Vec<Option<Measured>>,
    cells: BTreeMap<usize, Value>,
    pub whole: BTreeMap<String, std::result::Result<Value, String>>,
    /// Files that cannot be read, and why.
    pub failed: BTreeMap<String, String>,
}

impl Looks {
    /// Decodes every file of the manifest once.
    pub fn at(raw: &Path, rows: &[ManifestRow], wanted: &Wanted, ctx: &Context) -> Result<Self> {
        let files: Vec<&[ManifestRow]> = rows.chunk_by(|a, b| a.path == b.path).collect();
        let starts = files.iter().scan(0, |next, file| {
            let start = *next;
            *next += file.len();
            Some(start)
        });
        let files: Vec<(usize, &[ManifestRow])> = starts.zip(files.iter().copied()).collect();
        ctx.progress.begin("looking at images", Some(files.len() as u64), "images");
        let seen: Result<Vec<std::result::Result<Seen, String>>> = files
            .par_iter()
            .map(|(start, file)| {
                ctx.check_stop()?;
                let seen =
                    see(raw, file, wanted.whole.contains(&file[0].path), |i| wanted.cells.contains(&(start + i)));
                ctx.progress.advance(1);
                Ok(seen)
            })
            .collect();
        ctx.progress.end();
        let mut looks =
            Self { measured: Vec::new(), cells: BTreeMap::new(), whole: BTreeMap::new(), failed: BTreeMap::new() };
        for ((start, file), seen) in files.into_iter().zip(seen?) {
            match seen {
                Ok((of_rows, whole)) => {
                    for (i, (measured, cell)) in of_rows.into_iter().enumerate() {
                        looks.measured.push(Some(measured));
                        looks.cells.extend(cell.map(|cell| (start + i, cell)));
                    }
                    looks.whole.extend(whole.map(|whole| (file[0].path.clone(), Ok(whole))));
                }
                Err(why) => {
                    looks.measured.extend(file.iter().map(|_| None));
                    looks.failed.insert(file[0].path.clone(), why);
                }
            }
        }
        Ok(looks)
    }

    /// Adds whole pictures of files that are not there yet: those that no row names, and those chosen by what was seen.
    pub fn look_again(&mut self, raw: &Path, rows: &[ManifestRow], paths: BTreeSet<String>) {
        for path in paths {
            if self.whole.contains_key(&path) || self.failed.contains_key(&path) {
                continue;
            }
            let own: Vec<&ManifestRow> = rows.iter().filter(|r| r.path == path).collect();
            let full = raw.join(&path);
            let decoded = match std::fs::read(&full) {
                Ok(bytes) if bytes.is_empty() => Err("found an empty file".to_string()),
                Ok(bytes) => decode::rgb(&bytes, &full).map_err(why),
                Err(e) => Err(format!("cannot be read: {e}")),
            };
            match decoded {
                Ok(image) => drop(self.whole.insert(path, Ok(whole(&image, &own)))),
                Err(why) => drop(self.failed.insert(path, why)),
            }
        }
    }

    /// A file's picture with its name, and the class of its row where one is meant.
    pub fn tile(&self, tables: &Tables, path: &str, row: Option<usize>) -> Value {
        let row = row.or_else(|| tables.files.get(path).map(|rows| rows.start));
        let class = row.and_then(|row| tables.rows[row].class).map_or("", Class::title);
        let picture = self.whole.get(path).and_then(|picture| picture.as_ref().ok()).cloned();
        let gone = self.failed.get(path).cloned().unwrap_or_else(|| "no picture".into());
        context! { picture => picture, gone => gone, class => class, name => path, alt => format!("{class} {path}") }
    }

    pub fn cell_tile(&self, rows: &[ManifestRow], row: usize) -> Value {
        let of = &rows[row];
        let name = of.image_id.rsplit('/').next().unwrap_or_default();
        let gone = self.failed.get(&of.path).cloned().unwrap_or_default();
        let alt = of.class.map_or("", Class::title);
        context! { picture => self.cells.get(&row).cloned(), gone => gone, class => "", name => name, alt => alt }
    }

    /// Class, row and background colour, once an image file and class.
    pub fn backgrounds<'a>(&'a self, rows: &'a [ManifestRow]) -> impl Iterator<Item = (Class, usize, [f32; 3])> + 'a {
        let mut seen: BTreeSet<(&str, Class)> = BTreeSet::new();
        self.measured.iter().enumerate().filter_map(move |(i, measured)| {
            let class = rows[i].class?;
            let background = measured.as_ref()?.background?;
            seen.insert((rows[i].path.as_str(), class)).then_some((class, i, background))
        })
    }

    pub fn by_class(&self, rows: &[ManifestRow]) -> Vec<Option<Colour>> {
        let of_class = |class: Class| {
            let pixels = f64::from(preprocess::Settings::default().size_px).powi(2);
            let (mut sums, mut n) = ([[0u64; 2]; 3], 0.0);
            let own = self.measured.iter().zip(rows).filter(|(_, row)| row.class == Some(class));
            for measured in own.filter_map(|(measured, _)| measured.as_ref()) {
                sums = std::array::from_fn(|c| [0, 1].map(|k| sums[c][k] + measured.moments[c][k]));
                n += pixels;
            }
            let grounds: Vec<[f64; 3]> =
                self.backgrounds(rows).filter(|(of, ..)| *of == class).map(|(.., rgb)| rgb.map(f64::from)).collect();
            let (background, background_deviation) = spread(&grounds)?;
            let mean = sums.map(|[sum, _]| sum as f64 / n);
            let deviation = std::array::from_fn(|c| (sums[c][1] as f64 / n - mean[c] * mean[c]).max(0.0).sqrt());
            Some(Colour { mean, deviation, background, background_deviation })
        };
        Class::ALL.into_iter().map(of_class).collect()
    }
}

/// Reads, verifies and decodes one file; `rows` are its own, `whole` and `cell` say which pictures are wanted.
fn see(
    raw: &Path,
    rows: &[ManifestRow],
    want_whole: bool,
    cell: impl Fn(usize) -> bool,
) -> std::result::Result<Seen, String> {
    let settings = preprocess::Settings::default();
    let first = &rows[0];
    // A square over all of the image is all of the image.
    let all = Square { x: 0, y: 0, side: i64::from(first.width_px.max(first.height_px)) };
    let (image, _) = preprocess::part(raw, first, all).map_err(why)?;
    let ground = preprocess::Settings { size_px: GROUND_PX, cut: Cut::Whole, ..settings.clone() };
    let cut = |row: &ManifestRow, settings: &preprocess::Settings| {
        let (square, _) = preprocess::square(row, settings).map_err(why)?;
        Ok::<_, String>(preprocess::picture(&image, square, settings))
    };
    let background = segment::plasma(&Rgb { width_px: GROUND_PX, height_px: GROUND_PX, pixels: cut(first, &ground)? });
    let mut of_rows = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let pixels = cut(row, &settings)?;
        let shown = cell(i).then(|| picture(&pixels, settings.size_px, settings.size_px));
        of_rows.push((Measured { moments: batch::moments(&pixels), background }, shown));
    }
    let own: Vec<&ManifestRow> = rows.iter().collect();
    Ok((of_rows, want_whole.then(|| whole(&image, &own))))
}

/// What is wrong, without the path.
fn why(error: Error) -> String {
    match error {
        Error::Image { message, .. } => message,
        Error::Io { source, .. } => format!("cannot be read: {source}"),
        Error::Stale { reason, .. } => reason,
        other => other.to_string(),
    }
}

/// A whole image made small, with the boxes of its cells.
fn whole(image: &Rgb, rows: &[&ManifestRow]) -> Value {
    let (width, height) = (image.width_px, image.height_px);
    let share = (f64::from(WHOLE_PX) / f64::from(width.max(height))).min(1.0);
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
    picture(small.as_raw(), small_width, small_height)
}
/// Mean and standard deviation of each channel; `None` of nothing.
pub fn spread(colours: &[[f64; 3]]) -> Option<([f64; 3], [f64; 3])> {
    let n = (!colours.is_empty()).then_some(colours.len() as f64)?;
    let mean: [f64; 3] = std::array::from_fn(|c| colours.iter().map(|v| v[c]).sum::<f64>() / n);
    let variance = |c: usize| colours.iter().map(|v| (v[c] - mean[c]).powi(2)).sum::<f64>() / n;
    Some((mean, std::array::from_fn(|c| variance(c).sqrt())))
}
