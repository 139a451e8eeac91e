//! Copies across data sets: images of one data set that show the same piece of a slide as an image of another one.

use super::copies;
use crate::context::Context;
use crate::copies::{Features, find_between, store};
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result};
use crate::rows::ManifestRow;
use crate::schema;
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The data set.
    pub dataset: String,
    /// The data set that it was compared with.
    pub other: String,
    /// Number of image files of the data set.
    pub images: u64,
    /// How many of them show the same as an image of the other data set.
    pub copies: u64,
    /// How many of these have another class there.
    pub other_class: u64,
    /// A pair, in words.
    pub example: Option<String>,
    /// Path of the table with all pairs.
    pub table: String,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dataset, other, images, .. } = self;
        let Some(example) = &self.example else {
            return write!(f, "{dataset}: no copy of an image of {other} found among {}", text::of(*images, "image"));
        };
        let copies = text::thousands(self.copies);
        write!(f, "{dataset}: {copies} of {} show the same as an image of {other}", text::of(*images, "image"))?;
        if self.other_class > 0 {
            write!(f, ", {} with another class there", text::thousands(self.other_class))?;
        }
        write!(f, "\nsuch as {example}\nAll pairs: {}", self.table)
    }
}

/// Compares the images of `dataset` with those of `other`, which have both been checked, and writes their pairs to
/// [`Workspace::copies_in`]. `correlation` is as in [`super::Settings::copy_correlation`].
///
/// # Errors
/// [`Error::Setting`] where both are the same, [`Error::Missing`] where one has not been checked since it was ingested,
/// [`Error::Interrupted`].
pub fn run(ws: &Workspace, dataset: &str, other: &str, correlation: f32, ctx: &Context) -> Result<Summary> {
    if dataset == other {
        return Err(Error::setting("against", format!("a data set other than {dataset}"), other));
    }
    let (own, other_images) = (Checked::read(ws, dataset)?, Checked::read(ws, other)?);
    let [known, new] = [&other_images, &own].map(|of| of.features.iter().map(|(_, f)| Some(f)).collect::<Vec<_>>());
    let mut pairs = find_between(&known, &new, correlation, ctx)?;
    for pair in &mut pairs {
        (pair.a, pair.b) = (other_images.features[pair.a].0, own.features[pair.b].0);
    }
    let rows = copies::rows(&pairs, &other_images.rows, &own.rows);
    let manifest = |name: &str| table::file_hash(&ws.manifest(name));
    let inputs = BTreeMap::from([
        (Input::Manifest.name().to_string(), manifest(dataset)?),
        (format!("{} of {other}", Input::Manifest.name()), manifest(other)?),
    ]);
    let settings = serde_json::json!({ "against": other, "copy_correlation": correlation });
    let provenance = Provenance { stage: "check".into(), settings, seed: None, inputs };
    let path = ws.copies_in(dataset, other);
    table::write_rows(&path, &schema::COPIES, &provenance, &rows)?;
    let files: BTreeSet<usize> = pairs.iter().map(|pair| pair.b).collect();
    let class = |pair: &crate::copies::Pair| (other_images.rows[pair.a].class, own.rows[pair.b].class);
    let differs = pairs.iter().filter(|pair| matches!(class(pair), (Some(a), Some(b)) if a != b));
    let example = pairs.first().zip(rows.first()).map(|(pair, row)| {
        format!("{}, which shows the same as {}: {}", own.rows[pair.b].path, row.image_id, copies::describe(row))
    });
    Ok(Summary {
        dataset: dataset.into(),
        other: other.into(),
        images: own.rows.iter().map(|row| &row.path).collect::<BTreeSet<_>>().len() as u64,
        copies: files.len() as u64,
        other_class: differs.map(|pair| pair.b).collect::<BTreeSet<_>>().len() as u64,
        example,
        table: path.display().to_string(),
    })
}

/// A data set that has been checked.
struct Checked {
    rows: Vec<ManifestRow>,
    /// The first row of each image, with what its copies are found by.
    features: Vec<(usize, Features)>,
}

impl Checked {
    fn read(ws: &Workspace, name: &str) -> Result<Self> {
        let rows = Dataset::read(ws, name)?.cells;
        let Some(features) = store::of_dataset(ws, name)? else {
            return Err(Error::missing(Input::CopyFeatures, ws.copy_features(name)));
        };
        let row_of: HashMap<&str, usize> = rows.iter().enumerate().map(|(i, row)| (row.image_id.as_str(), i)).collect();
        let features = features.into_iter().filter_map(|(id, f)| Some((*row_of.get(id.as_str())?, f))).collect();
        Ok(Self { rows, features })
    }
}
