//! Weights to start from: those of another run, or of a safetensors file (written by wbc, PyTorch or timm).

use crate::class::Classes;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::models::{self, Entry, Model, pytorch};
use crate::rows::ManifestRow;
use crate::run::{Init, ModelId, ModelRef, Record, RunDir, checkpoint, leak};
use crate::workspace::Workspace;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where weights to start from are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitSource {
    /// A model of a run; that of all images where none is named.
    Run(ModelRef),
    /// A safetensors file.
    File(PathBuf),
}

impl FromStr for InitSource {
    type Err = Error;

    /// `RUN`, `RUN:FOLD`, `RUN:all`, or the path of a file that exists.
    fn from_str(text: &str) -> Result<Self> {
        if Path::new(text).is_file() {
            return Ok(Self::File(text.into()));
        }
        match text.parse() {
            Ok(reference) => Ok(Self::Run(reference)),
            Err(_) => Err(refuse("RUN, RUN:FOLD, RUN:all or a file".into(), text.into())),
        }
    }
}

/// Weights to start from, with what is known of them.
pub(super) struct Start {
    pub init: Init,
    path: PathBuf,
    bytes: Vec<u8>,
    entry: &'static Entry,
    /// The record of the run that they are from.
    source: Option<Record>,
    /// The note on the last layer where the weights are known to be for other classes.
    other_classes: Option<String>,
}

impl Start {
    /// Finds the weights for the network `model`, which is to tell `classes` apart.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no such run or no finished model, [`Error::Setting`] where the weights are of
    /// another network.
    pub fn find(ws: &Workspace, source: &InitSource, model: &str, classes: &Classes) -> Result<Self> {
        match source {
            InitSource::Run(reference) => Self::of_run(ws, reference, model, classes),
            InitSource::File(path) => Self::of_file(path, model, classes),
        }
    }

    fn of_file(path: &Path, model: &str, classes: &Classes) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let from = path.display().to_string();
        let meta = checkpoint::meta(path).ok().flatten();
        if let Some(meta) = meta.as_ref().filter(|m| m.model != model) {
            return Err(refuse(format!("weights of {model}"), format!("{from}, weights of {}", meta.model)));
        }
        let init = Init { from, model: None, dataset: None, hash: hash(&bytes) };
        let other_classes = meta.and_then(|meta| other_classes(&meta.classes, classes));
        Ok(Self { init, path: path.into(), bytes, entry: models::find(model)?, source: None, other_classes })
    }

    fn of_run(ws: &Workspace, reference: &ModelRef, model: &str, classes: &Classes) -> Result<Self> {
        let run = &reference.run;
        let record = Record::read(ws, run)?;
        if record.model != model {
            return Err(refuse(format!("a run of {model}"), format!("{run}, a run of {}", record.model)));
        }
        let (dir, id) = (RunDir::new(ws, run), reference.model.unwrap_or(ModelId::All));
        let path = dir.checkpoint(id);
        if checkpoint::finished(&dir, id, &record.hash())?.is_none() {
            let hint = match id {
                ModelId::Fold(fold) => format!("Fold {fold} of {run} is not finished"),
                ModelId::All => format!("{run} has no model of all images; name one of its folds, such as {run}:0"),
            };
            return Err(Error::missing(Input::Checkpoint, path).with_hint(hint));
        }
        let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        checkpoint::require_intact(&path, &bytes)?;
        let (from, dataset) = (run.clone(), Some(record.dataset.clone()));
        let init = Init { from, model: Some(id), dataset, hash: hash(&bytes) };
        let other_classes = other_classes(&record.classes, classes);
        Ok(Self { init, path, bytes, entry: models::find(model)?, source: Some(record), other_classes })
    }

    /// Loads the weights into `model`; returns a note for each part that keeps its fresh values.
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
        let is_last = |name: &str| name.strip_prefix(entry.last).is_some_and(|rest| rest.starts_with('.'));
        let by_wbc = checkpoint::meta(&self.path).is_ok_and(|m| m.is_some());
        let mut notes = BTreeSet::new();
        notes.extend(self.other_classes.clone());
        model.load(false, &mut |name, shape| {
            if self.other_classes.is_some() && is_last(name) {
                return Ok(fresh[name].clone());
            }
            let view = match tensors.tensor(name) {
                Ok(view) => view,
                // In PyTorch's models, a convolution that is followed by batch normalisation has no bias.
                Err(_)
                    if !by_wbc
                        && name.ends_with(".bias")
                        && (name.contains("conv") || name.contains("downsample.0")) =>
                {
                    notes.insert("the file has no biases for convolutions: they start at 0".into());
                    return Ok(fresh[name].clone());
                }
                Err(_) => return Err(broken(name, format!("F32 {shape:?}"), "no such array".into())),
            };
            let expected = if by_wbc { shape.to_vec() } else { pytorch::shape(shape) };
            if view.shape() != expected && is_last(name) {
                // Classes are PyTorch's first axis and our last one.
                let axis = |shape: &[usize]| if by_wbc { shape.last().copied() } else { shape.first().copied() };
                let (classes, in_file) = (axis(&expected).unwrap_or(0), axis(view.shape()).unwrap_or(0));
                notes.insert(format!(
                    "the file's last layer has {in_file} classes, not {classes}: it starts from random weights"
                ));
                return Ok(fresh[name].clone());
            }
            if view.shape() != expected || view.dtype() != Dtype::F32 {
                let got = format!("{:?} {:?}", view.dtype(), view.shape());
                return Err(broken(name, format!("F32 {expected:?}"), got));
            }
            Ok(if by_wbc { values(&view) } else { pytorch::from_pytorch(entry, name, shape, &values(&view)) })
        })?;
        Ok(notes)
    }

    /// Refuses weights that were trained on one of `images`, which the run will test, or on a copy of one; returns a
    /// note where that cannot be known.
    ///
    /// # Errors
    /// [`Error::Setting`] that names the first such image.
    pub fn check_leak(
        &self,
        ws: &Workspace,
        images: &[ManifestRow],
        dataset: &str,
        ctx: &Context,
    ) -> Result<Option<String>> {
        let Init { from, model, .. } = &self.init;
        match &self.source {
            Some(record) => {
                let weights = leak::Weights { key: "init", from, record, model: *model };
                let leak = leak::check(ws, weights, images, dataset, ctx)?;
                let Some((image, seen)) = leak.copies.first_key_value() else { return Ok(leak.note) };
                let expected = format!("weights that were not trained on images of {dataset} or on copies of them");
                let got = format!(
                    "{} of them among the training images of {from}, such as {image} (there {seen})",
                    leak.copies.len()
                );
                Err(Error::setting("init", expected, got))
            }
            None => {
                Ok(Some(format!("{from}: its training images are not known: check that none of them is in {dataset}")))
            }
        }
    }
}

/// The note on the last layer of weights for the classes `of`, where the new network is for others.
fn other_classes(of: &Classes, new: &Classes) -> Option<String> {
    (!of.iter().eq(new.iter())).then(|| {
        format!("its last layer is for other classes ({of}): the new one, for {new}, starts from random weights")
    })
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn refuse(expected: String, got: String) -> Error {
    Error::setting("init", expected, got)
}

fn values(view: &TensorView) -> Vec<f32> {
    // The bytes in the file may not be aligned for f32.
    bytemuck::pod_collect_to_vec(view.data())
}
