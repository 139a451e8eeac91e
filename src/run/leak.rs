//! Whether the weights of a run were trained on images that they are to be tested on, or on copies of these images.

use super::dir::RunDir;
use super::model_id::ModelId;
use super::record::Record;
use crate::context::Context;
use crate::copies::{self, Features, store};
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result};
use crate::rows::ManifestRow;
use crate::split;
use crate::table;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// The weights in question.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The setting that named them, for messages.
    pub key: &'static str,
    /// The run as the user calls it.
    pub from: &'a str,
    /// The record of the run.
    pub record: &'a Record,
    /// The model; none stands for all models of the run.
    pub model: Option<ModelId>,
}

/// The images that weights were trained on.
pub struct Trained {
    /// The run that was trained on them.
    pub from: String,
    /// Their data set.
    pub dataset: String,
    /// Their cells.
    pub cells: Vec<ManifestRow>,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default)]
pub struct Leak {
    /// The images that are training images or show the same as one, by `image_id`, each with that training image.
    pub copies: BTreeMap<String, String>,
    /// What is not known of the training images.
    pub note: Option<String>,
}

/// The training images of weights, and of the weights that these started from, as far as they are known; and for each
/// run whose training images are not known why, in a sentence without its full stop.
///
/// # Errors
/// As [`Dataset::read`] and [`split::read`].
pub fn trained(ws: &Workspace, weights: Weights) -> Result<(Vec<Trained>, Vec<String>)> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    match own(ws, weights)? {
        Some(trained) => known.push(trained),
        None => unknown.push(format!(
            "{}: the images or folds of {} have changed since, so its training images are not known",
            weights.from, weights.record.dataset
        )),
    }
    let Some(init) = &weights.record.init else { return Ok((known, unknown)) };
    let earlier = Record::read(ws, &init.from).ok().filter(|_| {
        init.model.is_some_and(|model| {
            let bytes = std::fs::read(RunDir::new(ws, &init.from).checkpoint(model));
            bytes.is_ok_and(|bytes| *blake3::hash(&bytes).to_hex() == *init.hash)
        })
    });
    match &earlier {
        Some(record) => {
            let earlier = trained(ws, Weights { from: &init.from, record, model: init.model, ..weights })?;
            known.extend(earlier.0);
            unknown.extend(earlier.1);
        }
        None => {
            unknown.push(format!("{} started from {}, whose training images are not known", weights.from, init.from))
        }
    }
    Ok((known, unknown))
}

/// The images that the weights themselves were trained on; none where the data set has changed since.
fn own(ws: &Workspace, weights: Weights) -> Result<Option<Trained>> {
    let Weights { from, record, model, .. } = weights;
    let dataset = &record.dataset;
    let same = |input, path: PathBuf| table::file_hash(&path).is_ok_and(|hash| record.input(input) == Some(&hash));
    if !same(Input::Manifest, ws.manifest(dataset)) || !same(Input::Splits, ws.splits(dataset)) {
        return Ok(None);
    }
    let splits = match split::read(ws, dataset) {
        Err(Error::Stale { .. }) => return Ok(None),
        read => read?,
    };
    let trained: BTreeSet<&str> = model.unwrap_or(ModelId::All).training_images(&splits).collect();
    let mut cells = Dataset::read(ws, dataset)?.cells;
    cells.retain(|cell| trained.contains(cell.image_id.as_str()));
    Ok(Some(Trained { from: from.into(), dataset: dataset.clone(), cells }))
}

/// Finds those of `images`, which are of `dataset`, that the weights were trained on, or of which they were trained on
/// a copy. Refuses weights that were trained on another image of the same subject.
///
/// # Errors
/// [`Error::Setting`] that names the subjects (slides) in common, [`Error::Interrupted`], and as [`trained`].
pub fn check(ws: &Workspace, weights: Weights, images: &[ManifestRow], dataset: &str, ctx: &Context) -> Result<Leak> {
    let (known, unknown) = trained(ws, weights)?;
    let mut notes: Vec<String> =
        unknown.into_iter().map(|why| format!("{why}: check that none of them is in {dataset}")).collect();
    let mut found = BTreeMap::new();
    let new = store::of_dataset(ws, dataset)?;
    let new_known = new.is_some();
    let mut new = new.unwrap_or_default();
    let paths = files(ws, dataset)?;
    let tested: BTreeSet<&str> = images.iter().map(|row| row.path.as_str()).collect();
    new.retain(|(id, _)| paths.get(id).is_some_and(|path| tested.contains(path.as_str())));
    for trained in &known {
        let by_hash: HashMap<&str, &ManifestRow> =
            trained.cells.iter().map(|cell| (cell.content_hash.as_str(), cell)).collect();
        for image in images {
            if let Some(seen) = by_hash.get(image.content_hash.as_str()) {
                found.entry(image.image_id.clone()).or_insert_with(|| seen.image_id.clone());
            }
        }
        if let Some((what, names)) = people_in_common(&trained.cells, images) {
            let got = format!("{what} in both {} and {dataset}: {}", trained.from, names.join(", "));
            let expected = format!(
                "weights that were trained on other people than those of {dataset} (if these are other people of the \
                 same name, name them differently and ingest again)"
            );
            return Err(Error::setting(weights.key, expected, got));
        }
        let seen = features(ws, trained)?;
        let (Some(seen), true) = (seen, new_known) else {
            let unchecked = if new_known { &trained.dataset } else { dataset };
            notes.push(format!(
                "{unchecked} has not been checked, so images of {dataset} that show the same as a training image of \
                 {}, in another file, are not known",
                trained.from
            ));
            continue;
        };
        for pair in between(&seen, &new, ctx)? {
            let path = &paths[&new[pair.b].0];
            for image in images.iter().filter(|image| image.path == *path) {
                found.entry(image.image_id.clone()).or_insert_with(|| seen[pair.a].0.clone());
            }
        }
    }
    Ok(Leak { copies: found, note: notes.into_iter().reduce(|a, b| format!("{a}; {b}")) })
}

/// Pairs of a known image and a new one that show the same.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn between(known: &[(String, Features)], new: &[(String, Features)], ctx: &Context) -> Result<Vec<copies::Pair>> {
    let [known, new] = [known, new].map(|all| all.iter().map(|(_, f)| Some(f)).collect::<Vec<_>>());
    copies::find_between(&known, &new, copies::CORRELATION, ctx)
}

/// What copies of the training images are found by, with the `image_id` of the first cell of each; none where their
/// data set has not been checked since it was ingested.
///
/// # Errors
/// As [`store::of_dataset`].
pub fn features(ws: &Workspace, trained: &Trained) -> Result<Option<Vec<(String, Features)>>> {
    let Some(mut all) = store::of_dataset(ws, &trained.dataset)? else { return Ok(None) };
    let paths = files(ws, &trained.dataset)?;
    let seen: BTreeSet<&str> = trained.cells.iter().map(|cell| cell.path.as_str()).collect();
    all.retain(|(id, _)| paths.get(id).is_some_and(|path| seen.contains(path.as_str())));
    Ok(Some(all))
}

/// The image file of each cell of a data set, by `image_id`.
fn files(ws: &Workspace, dataset: &str) -> Result<HashMap<String, String>> {
    Ok(Dataset::read(ws, dataset)?.cells.into_iter().map(|cell| (cell.image_id, cell.path)).collect())
}

/// The subjects of the training images that are also among the subjects of `images`, or the slides where no subject is
/// known on either side; with their images on both sides.
fn people_in_common(trained: &[ManifestRow], images: &[ManifestRow]) -> Option<(&'static str, Vec<String>)> {
    type Name = fn(&ManifestRow) -> Option<&str>;
    let common = |name: Name| {
        let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        trained.iter().filter_map(name).for_each(|n| counts.entry(n).or_default()[0] += 1);
        images.iter().filter_map(name).for_each(|n| counts.entry(n).or_default()[1] += 1);
        let both = counts.into_iter().filter(|(_, [a, b])| *a > 0 && *b > 0);
        both.map(|(name, [a, b])| format!("{name} ({a} training images, {b} here)")).collect::<Vec<_>>()
    };
    let subject: Name = |row| row.subject_id.as_deref();
    let any_subject = trained.iter().chain(images).any(|row| row.subject_id.is_some());
    let (what, names) =
        if any_subject { ("subjects", common(subject)) } else { ("slides", common(|row| row.slide_id.as_deref())) };
    (!names.is_empty()).then_some((what, names))
}
