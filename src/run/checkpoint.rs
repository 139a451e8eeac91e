//! A network's checkpoint: one safetensors file, replaced atomically after every epoch (on a GPU every ten seconds).
//! Its metadata hold all that a resumed run needs besides the weights, so that the two can never disagree.

use super::dir::RunDir;
use super::model_id::ModelId;
use crate::atomic;
use crate::batch::Normalise;
use crate::class::Classes;
use crate::error::{Error, Result};
use crate::models::{Model, StateArray};
use crate::rows::EpochRow;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// The metadata of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// [`super::Record::hash`] of the run: a checkpoint of another run is ignored.
    pub run: String,
    /// Name of the network.
    pub model: String,
    /// The classes of the run, in the order of the model's outputs.
    pub classes: Classes,
    /// Side of the tensors, px.
    pub size_px: usize,
    /// Which model of the run it is.
    pub id: ModelId,
    /// Epochs done.
    pub epoch: u32,
    /// Whether training is finished; then the optimiser's arrays are left out.
    pub finished: bool,
    /// How tensors are normalised, fitted on the training images.
    pub normalise: Normalise,
    /// One entry per epoch done.
    pub epochs: Vec<Epoch>,
}

/// One epoch of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Optimiser steps since the start of training.
    pub steps: u64,
    /// Training images.
    pub images: u64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean loss over the epoch's images.
    pub train_loss: f64,
    /// Share of the epoch's images that were classified correctly, 0 to 1.
    pub train_accuracy: f64,
}

impl Epoch {
    /// The row of `epochs.parquet`.
    pub fn row(&self, fold: u32) -> EpochRow {
        let Self { epoch, steps, images, learning_rate, train_loss, train_accuracy } = *self;
        EpochRow { fold, epoch, steps, images, learning_rate, train_loss, train_accuracy }
    }
}

/// safetensors' key of [`Meta`]. One key only: the order of several would differ from run to run.
const KEY: &str = "wbc";

struct Bytes<'a>(StateArray<'a>);

impl View for Bytes<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned((self.0.bytes)())
    }
    fn data_len(&self) -> usize {
        self.0.shape.iter().product::<usize>() * 4
    }
}

/// Writes the model's state and `meta` to `path`.
///
/// # Errors
/// [`Error::Io`] where the file cannot be written, [`Error::Compute`] where the model's device has failed.
pub fn save(path: &Path, model: &dyn Model, meta: &Meta) -> Result<()> {
    model.check()?;
    let text = serde_json::to_string(meta).expect("plain data");
    let arrays = model.state(!meta.finished).into_iter().map(|a| (a.name.clone(), Bytes(a)));
    atomic::write_path(path, |temp| {
        safetensors::serialize_to_file(arrays, Some(HashMap::from([(KEY.into(), text)])), temp).map_err(|e| Error::Io {
            path: path.into(),
            action: "write",
            source: std::io::Error::other(e),
        })
    })
}

/// Reads only the metadata: `None` where there is no checkpoint.
///
/// # Errors
/// [`Error::Format`] where the file is not a checkpoint of wbc.
pub fn meta(path: &Path) -> Result<Option<Meta>> {
    use std::io::Read;
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "open")(e)),
    };
    let mut length = [0u8; 8];
    file.read_exact(&mut length).map_err(Error::io(path, "read"))?;
    let mut header = Vec::new();
    let wanted = u64::from_le_bytes(length).min(1 << 24);
    file.take(wanted).read_to_end(&mut header).map_err(Error::io(path, "read"))?;
    let json: serde_json::Value = serde_json::from_slice(&header).map_err(|e| broken(path, e))?;
    let text = json["__metadata__"][KEY].as_str().ok_or_else(|| broken(path, "no wbc metadata"))?;
    serde_json::from_str(text).map(Some).map_err(|e| broken(path, e))
}

/// The metadata of a model of a run where it is finished; `run` is the record's hash.
///
/// # Errors
/// [`Error::Format`] where the file is not a checkpoint of wbc.
pub fn finished(dir: &RunDir, id: ModelId, run: &str) -> Result<Option<Meta>> {
    Ok(meta(&dir.checkpoint(id))?.filter(|meta| meta.finished && meta.run == run))
}

/// Reads the weights (and the optimiser's arrays, unless training is finished) into `model`.
///
/// # Errors
/// [`Error::Format`] where the file is not safetensors, or an array is missing or of another shape.
pub fn load(path: &Path, model: &mut dyn Model, meta: &Meta) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(path, e))?;
    model.load(!meta.finished, &mut |name, shape| {
        let view = tensors.tensor(name).map_err(|e| broken(path, e))?;
        if view.shape() != shape || view.dtype() != Dtype::F32 {
            let got = format!("{:?} {:?}", view.dtype(), view.shape());
            return Err(Error::format(path, name, format!("F32 {shape:?}"), got));
        }
        // The bytes in the file may not be aligned for f32.
        Ok(bytemuck::pod_collect_to_vec(view.data()))
    })
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::format(path, "checkpoint", "a safetensors file that wbc wrote", why)
}
