//! Measures shape, colour and texture of nucleus and cytoplasm, as the studies in the paper's Table 1 did: one row per
//! cell. `schemas/features.toml` describes each feature and gives the source of its formula.
//!
//! A cell is segmented and measured in a window around it, which preprocessing cuts, but with more of the plasma that
//! segmentation needs. It is not resized, so that sizes are in pixels of the original image.

use crate::context::Context;
use crate::dataset::{self, Usable};
use crate::error::{Error, Input, Result};
use crate::rows::ManifestRow;
use crate::schema::FEATURES;
use crate::shards::{self, Step};
use crate::spool::Spool;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod colour;
pub(crate) mod contact_sheet;
mod measure;
mod settings;
mod shape;
mod texture;
mod values;
mod window;

pub(crate) use settings::MAX_WINDOW_PX;
pub use settings::Settings;
pub use window::Window;

/// Result of [`run`].
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub dataset: String,
    /// Whether the existing table is up to date and was kept.
    pub up_to_date: bool,
    /// Number of cells measured.
    pub cells: u64,
    /// Number of features per cell.
    pub features: u64,
    /// Cells in which no nucleus was found; all their features are null.
    pub without_nucleus: u64,
    /// Cells with a nucleus but no visible cytoplasm; their cytoplasm features are null.
    pub without_cytoplasm: u64,
    /// Error messages of images that could not be read; they have no row.
    pub unreadable: Vec<String>,
    /// Manifest rows that are not usable: without a class, or with an issue of severity error.
    pub left_out: u64,
    /// The table.
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

/// The provenance of a complete table.
fn provenance(inputs: BTreeMap<String, String>, settings: &Settings) -> Provenance {
    Provenance {
        stage: "features".into(),
        settings: serde_json::to_value(settings).expect("settings are plain JSON"),
        seed: None,
        inputs,
    }
}

/// Segments and measures the cells of all usable manifest rows of `dataset`, in manifest order, and writes
/// `features.parquet`. Images that cannot be decoded are reported and have no row; the next run tries them again.
///
/// # Errors
/// [`Error::Setting`]; [`Error::Missing`] or [`Error::Format`] for the input tables; [`Error::Stale`] if an image has
/// changed since it was ingested; [`Error::Io`] if one cannot be read; [`Error::Data`] if none can be decoded;
/// [`Error::Waiting`] and [`Error::Interrupted`]. An existing table is then unchanged.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let Usable { cells: rows, left_out, inputs, .. } = Usable::read(ws, dataset)?;
    let path = ws.features(dataset);
    let mut provenance = provenance(inputs, settings);
    let mut summary = Summary {
        dataset: dataset.into(),
        up_to_date: table::is_current(&path, &FEATURES, &provenance),
        cells: 0,
        features: FEATURES.columns.len() as u64 - 1,
        without_nucleus: 0,
        without_cytoplasm: 0,
        unreadable: Vec::new(),
        left_out,
        file: path.clone(),
    };
    if !summary.up_to_date {
        let (raw, folder) = (ws.raw_dataset(dataset), ws.shards(dataset, "features"));
        let mut inputs = provenance.inputs.clone();
        inputs.insert("settings".into(), provenance.settings.to_string());
        let progress = ("measuring cells", "cells");
        let step = Step { raw: &raw, folder: &folder, name: "cells", progress, inputs: &inputs, is_last: true };
        let items: Vec<_> = rows.iter().map(|row| (row.image_id.as_str(), row)).collect();
        let measure = |(_, row): &(&str, &ManifestRow)| match Window::read(&raw, row, settings) {
            Ok(window) => Ok(Ok(window.features())),
            Err(error @ Error::Image { .. }) => Ok(Err(error.to_string())),
            Err(other) => Err(other),
        };
        let mut measured = Measured::new(rows.len(), &ws.root.join(dataset))?;
        let mut keep = |cell, features| measured.keep(cell, features);
        shards::each_into(&step, &items, measure, &mut keep, ctx)?;
        summary.unreadable = measured.unreadable.values().cloned().collect();
        summary.unreadable.iter().for_each(|message| ctx.progress.log(message));
        if summary.unreadable.len() == rows.len() {
            let found = format!("none among {}, such as {}", rows.len(), summary.unreadable[0]);
            return Err(
                Error::data(dataset, "readable images", found).with_hint("Check the data set for damaged images")
            );
        }
        if !summary.unreadable.is_empty() {
            // An additional input, so that the incomplete table is not up to date in the next run.
            provenance.inputs.insert("unreadable".into(), summary.unreadable.len().to_string());
        }
        table::write_stream(&path, &FEATURES, &provenance, |put| {
            let step = FEATURES.storage.row_group_rows;
            let groups = (0..rows.len()).step_by(step).map(|from| from..rows.len().min(from + step));
            groups.map(|cells| measured.batch(&rows, cells)).try_for_each(|batch| put(&batch?))
        })?;
        shards::remove(&folder)?;
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

/// Whether the features of a data set are there and up to date.
///
/// # Errors
/// As [`run`], for the tables.
pub fn is_current(ws: &Workspace, dataset: &str, settings: &Settings) -> Result<bool> {
    let inputs = Usable::read(ws, dataset)?.inputs;
    Ok(table::is_current(&ws.features(dataset), &FEATURES, &provenance(inputs, settings)))
}

/// The features of cells while they are measured, in a temporary file: a million cells have 900 MB of them.
struct Measured {
    spool: Spool,
    /// Where the features of each cell are; none of a cell that could not be measured.
    places: Vec<Option<u64>>,
    /// Of cells whose image cannot be decoded, why.
    unreadable: BTreeMap<usize, String>,
}

impl Measured {
    /// Bytes of a feature: whether it is defined, and its value.
    const BYTES: usize = 9;

    /// Of so many cells, with the file in `folder`.
    fn new(cells: usize, folder: &Path) -> Result<Self> {
        Ok(Self { spool: Spool::new(folder)?, places: vec![None; cells], unreadable: BTreeMap::new() })
    }

    fn keep(&mut self, cell: usize, features: Result<Vec<Option<f64>>, String>) -> Result<()> {
        match features {
            Ok(features) => {
                let mut bytes = Vec::with_capacity(Self::BYTES * features.len());
                for value in features {
                    bytes.push(u8::from(value.is_some()));
                    bytes.extend(value.unwrap_or_default().to_le_bytes());
                }
                self.places[cell] = Some(self.spool.put(&bytes)?);
            }
            Err(message) => {
                self.unreadable.insert(cell, message);
            }
        }
        Ok(())
    }

    /// The rows of those of some cells that could be measured.
    fn batch(&self, rows: &[ManifestRow], cells: Range<usize>) -> Result<RecordBatch> {
        let of_cell = FEATURES.columns.len() - 1;
        let mut ids = Vec::with_capacity(cells.len());
        let mut values: Vec<Vec<Option<f64>>> = (0..of_cell).map(|_| Vec::with_capacity(cells.len())).collect();
        let mut bytes = vec![0; Self::BYTES * of_cell];
        for cell in cells {
            let Some(place) = self.places[cell] else { continue };
            self.spool.get(place, &mut bytes)?;
            ids.push(rows[cell].image_id.as_str());
            for (column, bytes) in values.iter_mut().zip(bytes.as_chunks::<{ Self::BYTES }>().0) {
                let [is_defined, value @ ..] = *bytes;
                column.push((is_defined == 1).then(|| f64::from_le_bytes(value)));
            }
        }
        let numbers = values.into_iter().map(|values| Arc::new(Float64Array::from(values)) as ArrayRef);
        let columns = std::iter::once(Arc::new(StringArray::from(ids)) as ArrayRef).chain(numbers).collect();
        Ok(RecordBatch::try_new(FEATURES.arrow(), columns).expect("columns match the schema"))
    }
}

/// A data set's features.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// How the cells were measured.
    pub settings: Settings,
    /// Names of the features, in the order of the schema.
    pub names: Vec<String>,
    /// The `image_id` of each cell, in manifest order.
    pub image_ids: Vec<String>,
    /// One row per cell with one value per feature; `None` where a feature is not defined.
    pub values: Vec<Vec<Option<f64>>>,
}

/// The names of the features of a cell, in the order of the schema.
pub fn names() -> Vec<String> {
    FEATURES.columns[1..].iter().map(|column| column.name.clone()).collect()
}

/// Reads the features of a data set.
///
/// # Errors
/// [`Error::Missing`] if there are none, [`Error::Format`], [`Error::Stale`] if the manifest has changed since.
pub fn read(ws: &Workspace, dataset: &str) -> Result<Features> {
    let path = ws.features(dataset);
    let mut features =
        Features { settings: Settings::default(), names: names(), image_ids: Vec::new(), values: Vec::new() };
    let provenance = table::read_batches(&path, &FEATURES, |batch| {
        let columns: Vec<_> = batch.columns()[1..].iter().map(|c| c.as_primitive::<Float64Type>()).collect();
        features.image_ids.extend(batch.column(0).as_string::<i32>().iter().flatten().map(String::from));
        features
            .values
            .extend((0..batch.num_rows()).map(|i| columns.iter().map(|c| c.is_valid(i).then(|| c.value(i))).collect()));
        Ok(())
    })?;
    dataset::require_current(ws, dataset, &provenance, Input::Features, &path)?;
    features.settings = serde_json::from_value(provenance.settings)
        .map_err(|e| Error::format(&path, "settings", "those of wbc features", e))?;
    Ok(features)
}
