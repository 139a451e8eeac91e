//! Whether the weights of a run were trained on images that they are to be tested on, or on copies of these images.

use super::dir::RunDir;
use super::model_id::ModelId;
use super::record::Record;
use crate::context::Context;
use crate::copies::{self, Features, store};
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result, if_readable};
use crate::ingest;
use crate::rows::ManifestRow;
use crate::split;
use crate::table;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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
    /// The `image_id` of every cell in their files, also of those that were not trained on.
    in_files: HashSet<String>,
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
    let weights_now = match init.model {
        Some(model) => if_readable(table::file_hash(&RunDir::new(ws, &init.from).checkpoint(model)))?,
        None => None,
    };
    let earlier = if_readable(Record::read(ws, &init.from))?.filter(|_| weights_now.as_ref() == Some(&init.hash));
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
    for (input, path) in [(Input::Manifest, ws.manifest(dataset)), (Input::Splits, ws.splits(dataset))] {
        if if_readable(table::file_hash(&path))?.as_deref() != record.input(input) {
            return Ok(None);
        }
    }
    let splits = match split::read(ws, dataset) {
        Err(Error::Stale { .. }) => return Ok(None),
        read => read?,
    };
    let trained: BTreeSet<&str> = model.unwrap_or(ModelId::All).training_images(&splits).collect();
    let all = Dataset::read(ws, dataset)?.cells;
    let is_trained = |cell: &&ManifestRow| trained.contains(cell.image_id.as_str());
    let files: HashSet<&str> = all.iter().filter(is_trained).map(|cell| cell.path.as_str()).collect();
    let in_files = all.iter().filter(|cell| files.contains(cell.path.as_str())).map(|cell| cell.image_id.clone());
    let in_files = in_files.collect();
    let cells = all.into_iter().filter(|cell| is_trained(&cell)).collect();
    Ok(Some(Trained { from: from.into(), dataset: dataset.clone(), cells, in_files }))
}

/// An image file that may show what a training image shows.
pub struct Image<'a> {
    /// Hash of its content.
    pub content_hash: &'a str,
    /// What copies are found by; none where it is not known.
    pub features: Option<&'a Features>,
}

impl Trained {
    /// The images that are training images or show the same as one, by their positions, each with the `image_id` of
    /// that training image; and whether copies could be looked for, which they cannot where the training images have
    /// not been checked since they were ingested.
    ///
    /// # Errors
    /// As [`store::of_dataset`], and [`Error::Interrupted`].
    pub fn seen(&self, ws: &Workspace, images: &[Image], ctx: &Context) -> Result<(BTreeMap<usize, String>, bool)> {
        let by_hash: HashMap<&str, &str> =
            self.cells.iter().map(|cell| (cell.content_hash.as_str(), cell.image_id.as_str())).collect();
        let equal = |(i, image): (usize, &Image)| Some((i, by_hash.get(image.content_hash)?.to_string()));
        let mut seen: BTreeMap<usize, String> = images.iter().enumerate().filter_map(equal).collect();
        let Some(mut known) = store::of_dataset(ws, &self.dataset)? else { return Ok((seen, false)) };
        known.retain(|(id, _)| self.in_files.contains(id));
        let trained: Vec<Option<&Features>> = known.iter().map(|(_, features)| Some(features)).collect();
        let new: Vec<Option<&Features>> = images.iter().map(|image| image.features).collect();
        for pair in copies::find_between(&trained, &new, copies::CORRELATION, ctx)? {
            seen.entry(pair.b).or_insert_with(|| known[pair.a].0.clone());
        }
        Ok((seen, true))
    }
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
    let features = store::of_dataset(ws, dataset)?;
    let is_checked = features.is_some();
    let features: HashMap<String, Features> = features.unwrap_or_default().into_iter().collect();
    // The cells of a file; check keeps what its copies are found by under the first of all of them.
    let mut cells: BTreeMap<&str, Vec<&ManifestRow>> = BTreeMap::new();
    images.iter().for_each(|cell| cells.entry(&cell.path).or_default().push(cell));
    let all = Dataset::read(ws, dataset)?.cells;
    let by_path: HashMap<&str, &Features> =
        all.iter().filter_map(|cell| Some((cell.path.as_str(), features.get(&cell.image_id)?))).collect();
    let mut files = Vec::new();
    for (path, cells) in &cells {
        files.push(Image { content_hash: &cells[0].content_hash, features: by_path.get(path).copied() });
    }
    let mut found = BTreeMap::new();
    for trained in &known {
        // A run that was adapted to some cells of this data set: those of the same people are not tested.
        let (of_it, others): (Vec<&ManifestRow>, Vec<&ManifestRow>) =
            trained.cells.iter().partition(|cell| cell.dataset == dataset);
        found.extend(of_same_people(&of_it, images));
        if let Some((what, names)) = people_in_common(&others, images) {
            let got = format!("{what} in both {} and {dataset}: {}", trained.from, names.join(", "));
            let expected = format!(
                "weights that were trained on other people than those of {dataset} (if these are other people of the \
                 same name, name them differently and ingest again)"
            );
            return Err(Error::setting(weights.key, expected, got));
        }
        let (seen, is_known) = trained.seen(ws, &files, ctx)?;
        for (file, cells) in cells.values().enumerate() {
            let Some(training_image) = seen.get(&file) else { continue };
            for cell in cells {
                found.entry(cell.image_id.clone()).or_insert_with(|| training_image.clone());
            }
        }
        if !is_known || !is_checked {
            let unchecked = if is_checked { &trained.dataset } else { dataset };
            notes.push(format!(
                "{unchecked} has not been checked, so images of {dataset} that show the same as a training image of \
                 {}, in another file, are not known",
                trained.from
            ));
        }
    }
    Ok(Leak { copies: found, note: notes.into_iter().reduce(|a, b| format!("{a}; {b}")) })
}

type Name = fn(&ManifestRow) -> Option<&str>;
const SUBJECT: Name = |row| row.subject_id.as_deref();
const SLIDE: Name = |row| row.slide_id.as_deref();

/// The images of subjects (slides, where no subject is known) of which one of the cells `trained` is, each with such a
/// cell.
fn of_same_people<'a>(
    trained: &'a [&ManifestRow],
    images: &'a [ManifestRow],
) -> impl Iterator<Item = (String, String)> + 'a {
    let name = if images.iter().any(|row| row.subject_id.is_some()) { SUBJECT } else { SLIDE };
    let known: HashMap<&str, &str> =
        trained.iter().filter_map(|cell| Some((name(cell)?, cell.image_id.as_str()))).collect();
    images.iter().filter_map(move |row| Some((row.image_id.clone(), known.get(name(row)?)?.to_string())))
}

/// The subjects of the training images that are also among the subjects of `images`, or the slides where no subject is
/// known on either side; with their images on both sides.
fn people_in_common(trained: &[&ManifestRow], images: &[ManifestRow]) -> Option<(&'static str, Vec<String>)> {
    let images: Vec<&ManifestRow> = images.iter().collect();
    // Names that differ in letter case, separators or leading zeros only may be of one person.
    let common = |name: Name| {
        let mut counts: BTreeMap<String, [(u64, BTreeSet<&str>); 2]> = BTreeMap::new();
        for (side, rows) in [trained, images.as_slice()].into_iter().enumerate() {
            for name in rows.iter().copied().filter_map(name) {
                let (n, names) = &mut counts.entry(ingest::plain_name(name)).or_default()[side];
                *n += 1;
                names.insert(name);
            }
        }
        let both = counts.into_values().filter(|[(a, _), (b, _)]| *a > 0 && *b > 0);
        let described = both.map(|[(a, there), (b, here)]| {
            let names = there.union(&here).copied().collect::<Vec<_>>().join(" or ");
            format!("{names} ({a} training images, {b} here)")
        });
        described.collect::<Vec<_>>()
    };
    let any_subject = trained.iter().chain(&images).any(|row| row.subject_id.is_some());
    let (what, names) = if any_subject { ("subjects", common(SUBJECT)) } else { ("slides", common(SLIDE)) };
    (!names.is_empty()).then_some((what, names))
}
