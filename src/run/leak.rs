//! Whether the weights of a run were trained on images that they are to be tested on.

use super::dir::RunDir;
use super::model_id::ModelId;
use super::record::Record;
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result};
use crate::rows::ManifestRow;
use crate::split;
use crate::table;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// Bits (of 64) by which the perceptual hashes of two images may differ for the images to count as similar.
const SIMILAR_BITS: u32 = 4;

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

/// Refuses weights that were trained on an image of `images` or on another image of the same subject, or that started
/// from weights which were. Returns a note where that cannot be known, or where an image looks similar to a training
/// image.
///
/// # Errors
/// [`Error::Setting`] that names the first such image, or the subjects (slides) in common.
pub fn check(ws: &Workspace, weights: Weights, images: &[ManifestRow], dataset: &str) -> Result<Option<String>> {
    let own = check_own(ws, weights, images, dataset)?;
    let Some(init) = &weights.record.init else { return Ok(own) };
    // The weights that the run started from were trained on images, too.
    let earlier = Record::read(ws, &init.from).ok().filter(|_| {
        init.model.is_some_and(|model| {
            let bytes = std::fs::read(RunDir::new(ws, &init.from).checkpoint(model));
            bytes.is_ok_and(|bytes| *blake3::hash(&bytes).to_hex() == *init.hash)
        })
    });
    let earlier = match &earlier {
        Some(record) => check(ws, Weights { from: &init.from, record, model: init.model, ..weights }, images, dataset)?,
        None => Some(format!(
            "{} started from {}, whose training images are not known: check that none of them is in {dataset}",
            weights.from, init.from
        )),
    };
    Ok(own.into_iter().chain(earlier).reduce(|a, b| format!("{a}; {b}")))
}

/// The subjects of the training images that are also among the subjects of `images`, or the slides where no subject is
/// known on either side; with their images on both sides.
fn people_in_common(trained: &[&ManifestRow], images: &[ManifestRow]) -> Option<(&'static str, Vec<String>)> {
    type Name = fn(&ManifestRow) -> Option<&str>;
    let common = |name: Name| {
        let mut counts: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        trained.iter().filter_map(|row| name(row)).for_each(|n| counts.entry(n).or_default()[0] += 1);
        images.iter().filter_map(name).for_each(|n| counts.entry(n).or_default()[1] += 1);
        let both = counts.into_iter().filter(|(_, [a, b])| *a > 0 && *b > 0);
        both.map(|(name, [a, b])| format!("{name} ({a} training images, {b} here)")).collect::<Vec<_>>()
    };
    let subject: Name = |row| row.subject_id.as_deref();
    let any_subject = trained.iter().copied().chain(images).any(|row| row.subject_id.is_some());
    let (what, names) =
        if any_subject { ("subjects", common(subject)) } else { ("slides", common(|row| row.slide_id.as_deref())) };
    (!names.is_empty()).then_some((what, names))
}

/// [`check`] for the run's own training images alone.
fn check_own(ws: &Workspace, weights: Weights, images: &[ManifestRow], dataset: &str) -> Result<Option<String>> {
    let Weights { key, from, record, model } = weights;
    let same = |input, path: PathBuf| table::file_hash(&path).is_ok_and(|hash| record.input(input) == Some(&hash));
    let unchanged =
        same(Input::Manifest, ws.manifest(&record.dataset)) && same(Input::Splits, ws.splits(&record.dataset));
    let splits = match unchanged.then(|| split::read(ws, &record.dataset)) {
        Some(Err(Error::Stale { .. })) | None => {
            return Ok(Some(format!(
                "{from}: the images or folds of {} have changed since, so its training images are not known: \
                 check that none of them is in {dataset}",
                record.dataset
            )));
        }
        Some(read) => read?,
    };
    let trained: BTreeSet<&str> = model.unwrap_or(ModelId::All).training_images(&splits).collect();
    let Dataset { cells, checks, .. } = Dataset::read(ws, &record.dataset)?;
    let seen_cells: Vec<&ManifestRow> = cells.iter().filter(|cell| trained.contains(cell.image_id.as_str())).collect();
    let by_hash: HashMap<&str, &ManifestRow> =
        seen_cells.iter().map(|cell| (cell.content_hash.as_str(), *cell)).collect();
    let shared: Vec<(&ManifestRow, &ManifestRow)> =
        images.iter().filter_map(|t| Some((t, *by_hash.get(t.content_hash.as_str())?))).collect();
    if let Some((image, seen)) = shared.first() {
        let got = format!(
            "{} of them among the training images of {from}, such as {} (there {})",
            shared.len(),
            image.image_id,
            seen.image_id
        );
        return Err(Error::setting(key, format!("weights that were not trained on images of {dataset}"), got));
    }
    if let Some((what, names)) = people_in_common(&seen_cells, images) {
        let got = format!("{what} in both {from} and {dataset}: {}", names.join(", "));
        let expected = format!(
            "weights that were trained on other people than those of {dataset} (if these are other people of the same \
             name, name them differently and ingest again)"
        );
        return Err(Error::setting(key, expected, got));
    }
    let trained_checks = checks.iter().filter(|check| trained.contains(check.image_id.as_str()));
    let trained_hashes: Vec<u64> = trained_checks.filter_map(|check| check.perceptual_hash).collect();
    let image_checks = Dataset::read(ws, dataset)?.checks;
    let hash_of: HashMap<&str, u64> =
        image_checks.iter().filter_map(|check| Some((check.image_id.as_str(), check.perceptual_hash?))).collect();
    let similar = |image: &&ManifestRow| {
        let hash = hash_of.get(image.image_id.as_str());
        hash.is_some_and(|a| trained_hashes.iter().any(|b| (a ^ b).count_ones() <= SIMILAR_BITS))
    };
    let similar: Vec<&ManifestRow> = images.iter().filter(similar).collect();
    Ok(similar.first().map(|first| {
        format!(
            "{} images of {dataset} look similar to training images of {from}, such as {}: inspect them",
            similar.len(),
            first.image_id
        )
    }))
}
