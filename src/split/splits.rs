//! `splits.parquet`: written by the stage, read by the stages that come after.

use super::settings::Settings;
use crate::context::Context;
use crate::dataset;
use crate::error::{Error, Input, Result};
use crate::schema::SPLITS;
use crate::table::{self, Provenance, text};
use crate::workspace::Workspace;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The role of an image over all folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Tested by this fold, and trained on by all others.
    Fold(u32),
    /// Trained on by every fold and tested by none: only in a data set's own split.
    Train,
    /// Neither trained on nor tested by any fold: the held-out test set.
    HeldOut,
}

/// Writes one row per image and fold. `images` has the `image_id` and the group of each image.
pub(super) fn write(
    path: &Path,
    provenance: &Provenance,
    images: [&StringArray; 2],
    places: &[Place],
    folds: u32,
    ctx: &Context,
) -> Result<()> {
    const SLICE_ROWS: usize = 65_536;
    let schema = SPLITS.arrow();
    table::write_stream(path, &SPLITS, provenance, |put| {
        for fold in 0..folds {
            for start in (0..places.len()).step_by(SLICE_ROWS) {
                ctx.check_stop()?;
                let n = SLICE_ROWS.min(places.len() - start);
                let role = |place: &Place| match place {
                    Place::Fold(tested_by) if *tested_by == fold => "test",
                    Place::Fold(_) | Place::Train => "train",
                    Place::HeldOut => "held_out",
                };
                let role: StringArray = places[start..start + n].iter().map(|place| Some(role(place))).collect();
                let [id, group] = images.map(|column| Arc::new(column.slice(start, n)));
                let columns: Vec<ArrayRef> =
                    vec![id, Arc::new(UInt32Array::from_value(fold, n)), Arc::new(role), group];
                let batch = RecordBatch::try_new(schema.clone(), columns)
                    .map_err(|e| Error::format(path, "rows", format!("rows of schema {}", SPLITS.tag()), e))?;
                put(&batch)?;
            }
            ctx.progress.advance(1);
        }
        Ok(())
    })
}

/// A data set's folds, for the stages that come after.
#[derive(Clone, Debug, PartialEq)]
pub struct Splits {
    /// How many folds there are.
    pub folds: u32,
    /// The settings of the split.
    pub settings: Settings,
    /// Role and group of each image, by `image_id`.
    images: BTreeMap<String, (Place, u32)>,
    /// Names of the groups.
    groups: Vec<String>,
}

impl Splits {
    /// All images with their roles, sorted by `image_id`.
    pub fn images(&self) -> impl Iterator<Item = (&str, Place)> {
        self.images.iter().map(|(id, (place, _))| (id.as_str(), *place))
    }

    /// The role of an image; `None` for an image that is not in the split.
    pub fn place(&self, image_id: &str) -> Option<Place> {
        self.images.get(image_id).map(|(place, _)| *place)
    }

    /// The group that an image was kept together with.
    pub fn group(&self, image_id: &str) -> Option<&str> {
        self.images.get(image_id).map(|(_, group)| self.groups[*group as usize].as_str())
    }

    /// The images that `fold` tests, sorted.
    pub fn test(&self, fold: u32) -> impl Iterator<Item = &str> {
        self.images().filter(move |(_, place)| *place == Place::Fold(fold)).map(|(id, _)| id)
    }

    /// The images that `fold` trains on, sorted.
    pub fn train(&self, fold: u32) -> impl Iterator<Item = &str> {
        let trains = move |place: Place| match place {
            Place::Fold(tested_by) => tested_by != fold,
            Place::Train => true,
            Place::HeldOut => false,
        };
        self.images().filter(move |(_, place)| trains(*place)).map(|(id, _)| id)
    }

    /// The images that any fold trains on, sorted: the training images of a model of all images.
    pub fn train_any(&self) -> impl Iterator<Item = &str> {
        let trains = |place: Place| match place {
            Place::Fold(_) => self.folds > 1,
            Place::Train => true,
            Place::HeldOut => false,
        };
        self.images().filter(move |(_, place)| trains(*place)).map(|(id, _)| id)
    }

    /// The images of the held-out test set, sorted; none without one.
    pub fn held_out(&self) -> impl Iterator<Item = &str> {
        self.images().filter(|(_, place)| *place == Place::HeldOut).map(|(id, _)| id)
    }

    /// Test images whose group has images that the same model is trained on: of the data set's own split, or of folds
    /// that ignore copies.
    pub fn leaking(&self) -> impl Iterator<Item = &str> {
        // The first two different places of each group, without the held-out test set, which trains nothing.
        let mut places: BTreeMap<u32, (Place, Option<Place>)> = BTreeMap::new();
        for (place, group) in self.images.values().filter(|(place, _)| *place != Place::HeldOut) {
            let (first, second) = places.entry(*group).or_insert((*place, None));
            if first != place {
                second.get_or_insert(*place);
            }
        }
        let leaks = move |place: Place, group: u32| {
            let of_group = places.get(&group);
            place != Place::Train && of_group.is_some_and(|(first, second)| *first != place || second.is_some())
        };
        self.images.iter().filter(move |(_, (place, group))| leaks(*place, *group)).map(|(id, _)| id.as_str())
    }

    /// Whether a model is tested on the image: by a fold, or as part of the held-out test set.
    pub fn is_tested(&self, image_id: &str) -> bool {
        self.place(image_id).is_some_and(|place| place != Place::Train)
    }
}

/// Reads `splits.parquet`.
///
/// # Errors
/// [`Error::Missing`] where there is none, [`Error::Stale`] where the manifest has changed since, [`Error::Format`]
/// where a role is unknown or the rows of an image contradict each other.
pub fn read(ws: &Workspace, dataset: &str) -> Result<Splits> {
    let path = ws.splits(dataset);
    let wrong = |item: String, expected: &str, got: String| Error::format(&path, item, expected, got);
    let provenance = table::provenance(&path, &SPLITS)?;
    dataset::require_current(ws, dataset, &provenance, Input::Splits, &path)?;
    let settings = serde_json::from_value(provenance.settings)
        .map_err(|e| wrong("settings".into(), "the settings of wbc split", e.to_string()))?;
    let mut images: BTreeMap<String, (Place, u32)> = BTreeMap::new();
    let (mut groups, mut number_of) = (Vec::new(), BTreeMap::new());
    let (mut folds, mut rows, mut held_out_rows) = (0, 0, 0);
    table::read_batches(&path, &SPLITS, |batch| {
        let fold = batch.column_by_name("fold").expect("the schema has the column");
        let fold: &UInt32Array = fold.as_any().downcast_ref().expect("the schema says u32");
        let (id, role, group) = (text(&batch, "image_id"), text(&batch, "role"), text(&batch, "group_id"));
        rows += batch.num_rows() as u64;
        for row in 0..batch.num_rows() {
            let (id, fold) = (id.value(row), fold.value(row));
            folds = folds.max(fold.saturating_add(1));
            let place = match role.value(row) {
                "train" => Place::Train,
                "test" => Place::Fold(fold),
                "held_out" => Place::HeldOut,
                other => return Err(wrong(format!("role of {id}"), "train, test or held_out", other.into())),
            };
            held_out_rows += u64::from(place == Place::HeldOut);
            let Some((known, _)) = images.get_mut(id) else {
                let number = *number_of.entry(group.value(row).to_string()).or_insert_with_key(|name| {
                    groups.push(name.clone());
                    groups.len() as u32 - 1
                });
                images.insert(id.to_string(), (place, number));
                continue;
            };
            match (*known, place) {
                (Place::Train, Place::Fold(_)) => *known = place,
                (_, Place::Train) | (Place::HeldOut, Place::HeldOut) => {}
                (Place::Fold(other), Place::Fold(fold)) => {
                    let got = format!("folds {other} and {fold}");
                    return Err(wrong(format!("image {id}"), "one fold that tests it", got));
                }
                _ => {
                    let expected = "held out of all folds or of none";
                    return Err(wrong(format!("image {id}"), expected, "held out of some folds".into()));
                }
            }
        }
        Ok(())
    })?;
    let held_out = images.values().filter(|(place, _)| *place == Place::HeldOut).count() as u64;
    let untested = images.values().filter(|(place, _)| *place == Place::Train).count();
    let expected = images.len() as u64 * u64::from(folds);
    if rows != expected || held_out_rows != held_out * u64::from(folds) || (folds > 1 && untested > 0) {
        let got = format!("{rows} rows of {} images and {folds} folds, {untested} images never tested", images.len());
        return Err(wrong("rows".into(), "a row for every image and fold, and a fold that tests it", got));
    }
    Ok(Splits { folds, settings, images, groups })
}
