//! Weights to start from: another run's, or a safetensors file's (ours, or PyTorch's and timm's).

use super::{Record, checkpoint};
use crate::error::{Error, Input, Result};
use crate::models::{self, Entry, Model, pytorch};
use crate::rows::ManifestRow;
use crate::schema::MANIFEST;
use crate::split;
use crate::table;
use crate::workspace::Workspace;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Bits (of 64) by which two pictures' perceptual hashes may differ for them to be called alike.
const ALIKE_BITS: u32 = 4;

/// Weights of an earlier training that a run starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Name of the run, or the file.
    pub from: String,
    /// The fold whose weights they are; none: of a model trained on all of the data set.
    pub fold: Option<u32>,
    /// The data set that they were trained on, where it is known.
    pub dataset: Option<String>,
    /// Hash of the weights' file.
    pub hash: String,
}

/// Weights that were found, with what is known of them.
pub(super) struct Start {
    pub init: Init,
    path: PathBuf,
    bytes: Vec<u8>,
    entry: &'static Entry,
    /// The run they are from.
    source: Option<Record>,
}

impl Start {
    /// `asked` is `RUN`, `RUN:FOLD` or a file.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no such run, fold or file, [`Error::Setting`] where the run's model is not
    /// `model`, or it has no model of all its images and no fold is named.
    pub fn find(ws: &Workspace, asked: &str, model: &str) -> Result<Start> {
        let entry = models::find(model)?;
        let path = Path::new(asked);
        if path.is_file() {
            let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
            let meta = checkpoint::meta(path).ok().flatten();
            if let Some(meta) = meta.filter(|m| m.model != model) {
                return Err(refuse(format!("weights of {model}"), format!("{asked}, weights of {}", meta.model)));
            }
            let hash = blake3::hash(&bytes).to_hex().to_string();
            let init = Init { from: asked.into(), fold: None, dataset: None, hash };
            return Ok(Start { init, path: path.into(), bytes, entry, source: None });
        }
        let (run, fold) = match asked.rsplit_once(':') {
            Some((run, fold)) => match fold.parse() {
                Ok(fold) => (run, Some(fold)),
                Err(_) => return Err(refuse("RUN, RUN:FOLD or a file".into(), asked.into())),
            },
            None => (asked, None),
        };
        let record = Record::read(ws, run)?;
        if record.model != model {
            return Err(refuse(format!("a run of {model}"), format!("{run}, a run of {}", record.model)));
        }
        let folds = record.folds;
        let path = super::Files { dir: ws.run(run), folds }.checkpoint(fold.unwrap_or(folds));
        let trained = checkpoint::meta(&path)?.is_some_and(|m| m.finished && m.run == record.hash());
        if !trained {
            let hint = match fold {
                Some(fold) => format!("Fold {fold} of {run} is not finished"),
                None => format!("Name a fold instead: --init {run}:0"),
            };
            return Err(Error::missing(Input::Checkpoint, path).with_hint(hint));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        let (from, dataset) = (run.to_string(), Some(record.dataset.clone()));
        let init = Init { from, fold, dataset, hash: blake3::hash(&bytes).to_hex().to_string() };
        Ok(Start { init, path, bytes, entry, source: Some(record) })
    }

    /// Puts the weights into `model`; returns what was not taken and why.
    ///
    /// # Errors
    /// [`Error::Format`] where the file is not safetensors, or an array is missing or of another shape.
    pub fn apply(&self, model: &mut dyn Model) -> Result<BTreeSet<String>> {
        let broken = |item: &str, expected: String, got: String| Error::Format {
            path: self.path.clone(),
            item: item.into(),
            expected,
            got,
        };
        let tensors = match SafeTensors::deserialize(&self.bytes) {
            Ok(tensors) => tensors,
            Err(e) => return Err(broken("weights", "a safetensors file".into(), e.to_string())),
        };
        let fresh: HashMap<String, Vec<f32>> =
            model.state(false).into_iter().map(|a| (a.name, bytemuck::pod_collect_to_vec(&(a.bytes)()))).collect();
        let entry = self.entry;
        let ours = checkpoint::meta(&self.path).is_ok_and(|m| m.is_some());
        let mut notes = BTreeSet::new();
        model.load(false, &mut |name, shape| {
            let view = match tensors.tensor(name) {
                Ok(view) => view,
                // PyTorch's convolutions in front of a batch normalisation have no bias.
                Err(_)
                    if !ours && name.ends_with(".bias") && (name.contains("conv") || name.contains("downsample.0")) =>
                {
                    notes.insert("the file has no biases of convolutions: they start at 0".into());
                    return Ok(fresh[name].clone());
                }
                Err(_) => return Err(broken(name, format!("F32 {shape:?}"), "no such array".into())),
            };
            let expected = if ours { shape.to_vec() } else { pytorch::shape(shape) };
            if view.shape() != expected && name.starts_with("fc.") {
                let (here, there) = (expected[0], view.shape().first().copied().unwrap_or(0));
                notes.insert(format!("the file's last layer has {there} classes, not {here}: ours starts afresh"));
                return Ok(fresh[name].clone());
            }
            if view.shape() != expected || view.dtype() != Dtype::F32 {
                let got = format!("{:?} {:?}", view.dtype(), view.shape());
                return Err(broken(name, format!("F32 {expected:?}"), got));
            }
            Ok(if ours { values(&view) } else { pytorch::to_ours(entry, name, shape, &values(&view)) })
        })?;
        Ok(notes)
    }

    /// Refuses where an image that the run would test was among those that the weights were trained on; says where it
    /// cannot be known, or where one looks like another.
    ///
    /// # Errors
    /// [`Error::Setting`] that names the first such image.
    pub fn check_leak(&self, ws: &Workspace, target: &[ManifestRow], target_dataset: &str) -> Result<Option<String>> {
        let Some(source) = &self.source else {
            let from = &self.init.from;
            return Ok(Some(format!(
                "{from} does not say what it was trained on: that no test image was among it is yours to know"
            )));
        };
        trained_on(ws, ("init", &self.init.from), source, self.init.fold, target, target_dataset)
    }
}

/// Refuses where an image of `target` was among those that the weights of `source`'s run were trained on (of one fold's
/// model, or of a model of all images), or those that it started from; says where it cannot be known, or where one looks like another. `from` is what the
/// user calls the weights, after the setting that gave them.
///
/// # Errors
/// [`Error::Setting`] that names the first such image.
pub fn trained_on(
    ws: &Workspace,
    (key, from): (&str, &str),
    source: &Record,
    fold: Option<u32>,
    target: &[ManifestRow],
    target_dataset: &str,
) -> Result<Option<String>> {
    let own = among_own(ws, (key, from), source, fold, target, target_dataset)?;
    let Some(init) = &source.init else { return Ok(own) };
    // What the weights started from has learned, too.
    let known = init.dataset.as_ref().and_then(|_| Record::read(ws, &init.from).ok()).filter(|record| {
        let files = super::Files { dir: ws.run(&init.from), folds: record.folds };
        let weights = std::fs::read(files.checkpoint(init.fold.unwrap_or(record.folds)));
        weights.is_ok_and(|bytes| *blake3::hash(&bytes).to_hex() == *init.hash)
    });
    let earlier = match known {
        Some(record) => trained_on(ws, (key, &init.from), &record, init.fold, target, target_dataset)?,
        None => Some(format!(
            "{from} started from {}, of which nothing here says what it was trained on: that no image of {target_dataset} was \
             among it is yours to know",
            init.from
        )),
    };
    Ok(own.into_iter().chain(earlier).reduce(|a, b| format!("{a}; {b}")))
}

/// The same of the source's own training images alone.
fn among_own(
    ws: &Workspace,
    (key, from): (&str, &str),
    source: &Record,
    fold: Option<u32>,
    target: &[ManifestRow],
    target_dataset: &str,
) -> Result<Option<String>> {
    let unknown = |why: &str| {
        Ok(Some(format!("{from}: {why}, so that nothing says whether a test image was among what it was trained on")))
    };
    let manifest = ws.manifest(&source.dataset);
    let same = |key: &str, path: &Path| table::file_hash(path).is_ok_and(|hash| source.inputs.get(key) == Some(&hash));
    if !same("manifest", &manifest) || !same("splits", &ws.splits(&source.dataset)) {
        return unknown(&format!("the images or folds of {} have changed since", source.dataset));
    }
    let splits = split::read(ws, &source.dataset)?;
    let trained: BTreeSet<&str> = splits.train(fold.unwrap_or(splits.folds)).collect();
    let (rows, _) = table::read_rows::<ManifestRow>(&manifest, &MANIFEST)?;
    let rows: Vec<&ManifestRow> = rows.iter().filter(|r| trained.contains(r.image_id.as_str())).collect();
    let by_hash: HashMap<&str, &ManifestRow> = rows.iter().map(|r| (r.content_hash.as_str(), *r)).collect();
    let shared: Vec<(&ManifestRow, &ManifestRow)> =
        target.iter().filter_map(|t| Some((t, *by_hash.get(t.content_hash.as_str())?))).collect();
    if let Some((test, seen)) = shared.first() {
        let (key, expected) = (key.into(), format!("weights that were not trained on images of {target_dataset}"));
        return Err(Error::Setting {
            key,
            expected,
            got: format!(
                "{} of them among what {from} was trained on, such as {} (there {})",
                shared.len(),
                test.image_id,
                seen.image_id
            ),
        });
    }
    let alike = |t: &&ManifestRow| {
        rows.iter().any(|r| match (r.perceptual_hash, t.perceptual_hash) {
            (Some(a), Some(b)) => (a ^ b).count_ones() <= ALIKE_BITS,
            _ => false,
        })
    };
    let alike: Vec<&ManifestRow> = target.iter().filter(alike).collect();
    Ok(alike.first().map(|first| {
        format!(
            "{} images of {target_dataset} look like ones that {from} was trained on, such as {}: look at them",
            alike.len(),
            first.image_id
        )
    }))
}

fn refuse(expected: String, got: String) -> Error {
    Error::Setting { key: "init".into(), expected, got }
}

fn values(view: &TensorView) -> Vec<f32> {
    // The file's bytes need not lie where floats may.
    bytemuck::pod_collect_to_vec(view.data())
}
