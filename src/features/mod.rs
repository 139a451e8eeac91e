//! Features: what the studies of the paper's Table 1 measured of a cell, from its segmentation: shape, colour and
//! texture of nucleus and cytoplasm, a row a cell. `schemas/features.toml` says what each is and whose formula.
//!
//! A cell is measured in its window: the square around it that is cut as preprocessing cuts, but wider (the plasma
//! around the cell is needed to see the cell), and not resized: sizes are in the image's own pixels.

use crate::context::Context;
use crate::dataset::{self, Usable};
use crate::decode::Rgb;
use crate::error::{Error, Input, Result};
use crate::preprocess::{self, Cut, Square};
use crate::rows::ManifestRow;
use crate::schema::FEATURES;
use crate::segment::{self, Cell};
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod colour;
pub mod contact_sheet;
mod shape;
mod texture;

/// Cells that are measured at once, before they are written.
const BATCH: usize = 2048;
/// Windows larger than this are made smaller for measuring, px; sizes are still those of the image.
const LARGEST_WINDOW_PX: u32 = 512;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub cut: Cut,
    /// Side of the central window, px: more than the 200 that preprocessing keeps, for the plasma around the cell.
    pub centre_px: u32,
    /// Margin around a cell's box on each side, as a share of the box's longer side.
    pub margin: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cut: Cut::Auto, centre_px: 260, margin: 0.3 }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn validate(&self) -> Result<()> {
        self.window().validate().map_err(|error| match error {
            Error::Setting { key, expected, got } => {
                Error::Setting { key: key.replace("preprocess.", "features."), expected, got }
            }
            other => other,
        })
    }

    /// The window as preprocessing would cut it.
    fn window(&self) -> preprocess::Settings {
        preprocess::Settings {
            size_px: LARGEST_WINDOW_PX,
            cut: self.cut,
            centre_px: self.centre_px,
            margin: self.margin,
            ..Default::default()
        }
    }
}

/// What the stage did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub dataset: String,
    /// The table there was made from the same images with the same settings, and was kept.
    pub up_to_date: bool,
    /// Cells measured.
    pub cells: u64,
    /// Features a cell.
    pub features: u64,
    /// Cells in which no nucleus was found: all their features are null.
    pub without_nucleus: u64,
    /// Cells that show a nucleus and no cytoplasm: the features of the cytoplasm are null.
    pub without_cytoplasm: u64,
    /// Images that could not be read, and why; they have no row.
    pub unreadable: Vec<String>,
    /// Rows without a class, or with an issue of severity error.
    pub left_out: u64,
    pub file: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} features of {} cells", self.dataset, self.features, self.cells)?;
        for (n, what) in [
            (self.without_nucleus, "without a nucleus"),
            (self.without_cytoplasm, "without cytoplasm"),
            (self.unreadable.len() as u64, "unreadable"),
            (self.left_out, "left out"),
        ] {
            if n > 0 {
                write!(f, ", {n} {what}")?;
            }
        }
        let up_to_date = if self.up_to_date { " (up to date)" } else { "" };
        write!(f, "\n{}{up_to_date}", self.file.display())
    }
}

/// What [`run`] would write now, if every image can be read.
///
/// # Errors
/// [`Error::Missing`] where there is no manifest.
fn provenance(inputs: BTreeMap<String, String>, settings: &Settings) -> Provenance {
    Provenance {
        stage: "features".into(),
        settings: serde_json::to_value(settings).expect("settings are plain JSON"),
        seed: None,
        inputs,
    }
}

/// Segments and measures the cell of every usable row of `dataset`, in manifest order, and writes `features.parquet`.
/// An image that cannot be read is reported and has no row; the stage tries it again next time.
///
/// # Errors
/// [`Error::Setting`], [`Error::Missing`] or [`Error::Format`] for the tables, [`Error::Stale`] where an image is not
/// the one that was ingested, [`Error::Data`] where no image can be read, [`Error::Interrupted`]. In each case the
/// table there was before stays.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let Usable { cells: rows, left_out, inputs } = Usable::read(ws, dataset)?;
    let path = ws.features(dataset);
    let mut made = provenance(inputs, settings);
    let mut summary = Summary {
        dataset: dataset.into(),
        up_to_date: table::is_current(&path, &FEATURES, &made),
        cells: 0,
        features: FEATURES.columns.len() as u64 - 1,
        without_nucleus: 0,
        without_cytoplasm: 0,
        unreadable: Vec::new(),
        left_out,
        file: path.clone(),
    };
    if !summary.up_to_date {
        let raw = ws.raw_dataset(dataset);
        ctx.progress.begin("measuring cells", Some(rows.len() as u64), "cells");
        let measured = rows.chunks(BATCH).map(|rows| batch(&raw, rows, settings, ctx)).collect::<Result<Vec<_>>>();
        ctx.progress.end();
        let mut batches = Vec::new();
        for (batch, unreadable) in measured? {
            batches.push(batch);
            summary.unreadable.extend(unreadable);
        }
        summary.unreadable.iter().for_each(|message| ctx.progress.log(message));
        if summary.unreadable.len() == rows.len() {
            return Err(Error::Data {
                dataset: dataset.into(),
                expected: "images that can be read".into(),
                got: format!("none among {}, such as {}", rows.len(), summary.unreadable[0]),
                hint: "Run: wbc check".into(),
            });
        }
        if !summary.unreadable.is_empty() {
            // Unlike what a whole table says: it is made again next time.
            made.inputs.insert("unreadable".into(), summary.unreadable.len().to_string());
        }
        table::write_stream(&path, &FEATURES, &made, |put| batches.iter().try_for_each(put))?;
    }
    let missing =
        |batch: &RecordBatch, column: &str| batch.column_by_name(column).map_or(0, |column| column.null_count()) as u64;
    table::read_batches(&path, &FEATURES, |batch| {
        summary.cells += batch.num_rows() as u64;
        summary.without_nucleus += missing(&batch, "nucleus_area");
        summary.without_cytoplasm += missing(&batch, "cytoplasm_red_mean");
        Ok(())
    })?;
    summary.without_cytoplasm -= summary.without_nucleus;
    Ok(summary)
}

/// The features of `rows`, on all cores, and what is wrong with the images that cannot be read.
fn batch(raw: &Path, rows: &[ManifestRow], settings: &Settings, ctx: &Context) -> Result<(RecordBatch, Vec<String>)> {
    let measured: Vec<_> = rows
        .par_iter()
        .map(|row| {
            ctx.check_stop()?;
            let measured = match Window::read(raw, row, settings) {
                Ok(window) => Ok(window.features()),
                Err(error @ (Error::Io { .. } | Error::Image { .. })) => Err(error.to_string()),
                Err(other) => return Err(other),
            };
            ctx.progress.advance(1);
            Ok(measured)
        })
        .collect::<Result<_>>()?;
    let ids = rows.iter().zip(&measured).filter(|(_, m)| m.is_ok()).map(|(row, _)| &row.image_id);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(ids))];
    for k in 0..FEATURES.columns.len() - 1 {
        columns.push(Arc::new(measured.iter().flatten().map(|values| values[k]).collect::<Float64Array>()));
    }
    let batch = RecordBatch::try_new(FEATURES.arrow(), columns).expect("the columns are the schema's");
    Ok((batch, measured.into_iter().filter_map(std::result::Result::err).collect()))
}

/// The part of an image that a cell is measured in.
pub struct Window {
    pub picture: Rgb,
    /// Its left and top edge in the image, px.
    origin: [f64; 2],
    /// Pixels of the image a pixel of the window along a side: 1, or more where the window was made smaller.
    scale: f64,
}

impl Window {
    /// # Errors
    /// As [`preprocess::part`] and [`preprocess::square`].
    pub fn read(raw: &Path, row: &ManifestRow, settings: &Settings) -> Result<Self> {
        let cut = settings.window();
        let (asked, _) = preprocess::square(row, &cut)?;
        let (picture, seen) = preprocess::part(raw, row, asked)?;
        let origin = [(asked.x - seen.x) as f64, (asked.y - seen.y) as f64];
        let longer = picture.width_px.max(picture.height_px);
        if longer <= LARGEST_WINDOW_PX {
            return Ok(Self { picture, origin, scale: 1.0 });
        }
        let square = Square { x: 0, y: 0, side: longer.into() };
        let pixels = preprocess::picture(&picture, square, &cut);
        let picture = Rgb { width_px: LARGEST_WINDOW_PX, height_px: LARGEST_WINDOW_PX, pixels };
        Ok(Self { picture, origin, scale: f64::from(longer) / f64::from(LARGEST_WINDOW_PX) })
    }

    /// The window's pixel at a place of the image (px from its top left corner), by its number; `None` outside.
    pub fn at(&self, x: f64, y: f64) -> Option<usize> {
        let [x, y] = [(x - self.origin[0]) / self.scale, (y - self.origin[1]) / self.scale];
        let (width, height) = (self.picture.width_px, self.picture.height_px);
        let inside = x >= 0.0 && y >= 0.0 && x < width.into() && y < height.into();
        inside.then(|| y as usize * width as usize + x as usize)
    }

    /// The features in the schema's order; all null where no nucleus is found.
    pub fn features(&self) -> Vec<Option<f64>> {
        let found = segment::cell(&self.picture).map(|cell| measure(&self.picture, &cell, self.scale));
        found.unwrap_or_else(|| vec![None; FEATURES.columns.len() - 1])
    }
}

/// Measured values by name, in the order in which they are put.
#[derive(Default)]
struct Values(Vec<(String, Option<f64>)>);

impl Values {
    /// A value that is no number is none.
    fn put(&mut self, part: &str, feature: &str, value: Option<f64>) {
        self.0.push((format!("{part}_{feature}"), value.filter(|v| v.is_finite())));
    }
}

/// The features of a segmented cell in the schema's order; lengths are multiplied by `scale`.
pub fn measure(picture: &Rgb, cell: &Cell, scale: f64) -> Vec<Option<f64>> {
    let mut values = Values::default();
    shape::measure(cell, scale, &mut values);
    for (part, name) in [(&cell.nucleus, "nucleus"), (&cell.cytoplasm(), "cytoplasm")] {
        colour::measure(picture, part, cell.plasma, name, &mut values);
        texture::measure(picture, part, name, &mut values);
    }
    debug_assert!(values.0.iter().map(|(name, _)| name).eq(FEATURES.columns[1..].iter().map(|c| &c.name)));
    values.0.into_iter().map(|(_, value)| value).collect()
}

/// A data set's features.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Names of the features.
    pub names: Vec<String>,
    /// The cells, in manifest order.
    pub image_ids: Vec<String>,
    /// A row a cell, a value a feature.
    pub values: Vec<Vec<Option<f64>>>,
}

/// Reads `features.parquet`.
///
/// # Errors
/// [`Error::Missing`] where there is none, [`Error::Stale`] where the manifest has changed since.
pub fn read(ws: &Workspace, dataset: &str) -> Result<Features> {
    let path = ws.features(dataset);
    let names = FEATURES.columns[1..].iter().map(|c| c.name.clone()).collect();
    let mut features = Features { names, image_ids: Vec::new(), values: Vec::new() };
    let made = table::read_batches(&path, &FEATURES, |batch| {
        let columns: Vec<_> = batch.columns()[1..].iter().map(|c| c.as_primitive::<Float64Type>()).collect();
        features.image_ids.extend(batch.column(0).as_string::<i32>().iter().flatten().map(String::from));
        features
            .values
            .extend((0..batch.num_rows()).map(|i| columns.iter().map(|c| c.is_valid(i).then(|| c.value(i))).collect()));
        Ok(())
    })?;
    dataset::require_current(ws, dataset, &made, Input::Features, &path)?;
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Mask;

    #[test]
    fn the_schema_names_what_is_measured_in_its_order() {
        let disc = |radius: f64| Mask::new(40, 40, |i| ((i % 40) as f64 - 20.0).hypot((i / 40) as f64 - 20.0) < radius);
        let cell = Cell { nucleus: disc(8.0), whole: disc(14.0), plasma: [250.0; 3] };
        let pixels = (0..40 * 40).flat_map(|i| [(i % 251) as u8, (i % 83) as u8, (i % 19) as u8]).collect();
        let picture = Rgb { width_px: 40, height_px: 40, pixels };
        let mut values = Values::default();
        shape::measure(&cell, 1.0, &mut values);
        for (part, name) in [(&cell.nucleus, "nucleus"), (&cell.cytoplasm(), "cytoplasm")] {
            colour::measure(&picture, part, cell.plasma, name, &mut values);
            texture::measure(&picture, part, name, &mut values);
        }
        let names: Vec<&String> = values.0.iter().map(|(name, _)| name).collect();
        let columns: Vec<&String> = FEATURES.columns[1..].iter().map(|c| &c.name).collect();
        assert_eq!(names, columns);
        assert!(values.0.iter().all(|(_, value)| value.is_some()));
        // Twice the pixels a side: lengths double, areas are four times as large, the rest stays.
        let (once, twice) = (measure(&picture, &cell, 1.0), measure(&picture, &cell, 2.0));
        for ((name, once), twice) in names.iter().zip(once).zip(twice) {
            let by = match name.rsplit('_').next() {
                Some("area") => 4.0,
                Some("perimeter") => 2.0,
                _ => 1.0,
            };
            assert_eq!(once.map(|v| v * by), twice, "{name}");
        }
    }

    #[test]
    fn a_cell_without_cytoplasm_has_nulls_there_and_no_nan() {
        let disc = Mask::new(40, 40, |i| ((i % 40) as f64 - 20.0).hypot((i / 40) as f64 - 20.0) < 12.0);
        let cell = Cell { nucleus: disc.clone(), whole: disc, plasma: [250.0; 3] };
        let picture = Rgb { width_px: 40, height_px: 40, pixels: vec![80; 40 * 40 * 3] };
        let values = measure(&picture, &cell, 1.0);
        for (column, value) in FEATURES.columns[1..].iter().zip(values) {
            let defined = !column.name.starts_with("cytoplasm")
                && !["skewness", "correlation", "1"].iter().any(|end| column.name.ends_with(&format!("_{end}")))
                || column.name.ends_with("lbp_1") && column.name.starts_with("nucleus");
            assert_eq!(value.is_some(), defined, "{}", column.name);
            assert!(value.is_none_or(f64::is_finite));
        }
    }
}
