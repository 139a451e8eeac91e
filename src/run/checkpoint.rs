//! A network's checkpoint: one safetensors file, replaced atomically after every epoch (on a GPU every ten seconds).
//! Its metadata hold all that a resumed run needs besides the weights, so that the two can never disagree.

use super::cell_size::CellSizes;
use super::dir::RunDir;
use super::model_id::ModelId;
use crate::atomic;
use crate::batch::Normalise;
use crate::class::Classes;
use crate::error::{Error, Input, Result};
use crate::integrity::{self, State};
use crate::models::Model;
use crate::rows::EpochRow;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
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
    /// The sizes of the training cells, where they count beside the pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell_sizes: Option<CellSizes>,
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

/// The metadata as text, and the checksum of the file after it.
#[derive(Serialize, Deserialize)]
struct Sealed<M> {
    #[serde(flatten)]
    meta: M,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

/// Writes the model's state and `meta` to `path`.
///
/// # Errors
/// [`Error::Io`] where the file cannot be written, [`Error::Compute`] where the model's device has failed.
pub fn save(path: &Path, model: &dyn Model, meta: &Meta) -> Result<()> {
    model.check()?;
    let arrays = model.state(!meta.finished).into_iter();
    write(path, meta, ("F32", 4), arrays.map(|array| (array.name, (array.shape, array.bytes))).collect())
}

/// Arrays by name: the shape of each, and its bytes when they are asked for.
pub(super) type Arrays<'a> = BTreeMap<String, (Vec<usize>, Box<dyn Fn() -> Vec<u8> + 'a>)>;

/// Writes arrays and `meta` to `path`, with a checksum, in the format of safetensors: the length of a JSON header, the
/// header, and the arrays in the order of their names. The library itself would write another file and replace ours.
/// `kind` is the type of the numbers, and how many bytes each has.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn write(path: &Path, meta: &impl Serialize, kind: (&str, usize), arrays: Arrays) -> Result<()> {
    let sealed = Sealed { meta, checksum: Some(integrity::BLANK.into()) };
    let text = serde_json::to_string(&sealed).expect("plain data");
    let mut header = serde_json::Map::from_iter([("__metadata__".to_string(), json!({ KEY: text }))]);
    let mut end = 0;
    for (name, (shape, _)) in &arrays {
        let start = end;
        end += shape.iter().product::<usize>() * kind.1;
        header.insert(name.clone(), json!({ "dtype": kind.0, "shape": shape, "data_offsets": [start, end] }));
    }
    let mut header = serde_json::to_vec(&header).expect("plain data");
    header.resize(header.len().next_multiple_of(8), b' ');
    let failed = || Error::io(path, "write");
    atomic::write(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| out.write_all(&header)).map_err(failed())?;
        for (_, bytes) in arrays.values() {
            out.write_all(&bytes()).map_err(failed())?;
        }
        out.flush().map_err(failed())?;
        integrity::seal(out.get_mut(), 0..8 + header.len() as u64).map_err(failed())
    })
}

/// Reads only the metadata: `None` where there is no checkpoint.
///
/// # Errors
/// [`Error::Format`] where the file is not a checkpoint of wbc.
pub fn meta(path: &Path) -> Result<Option<Meta>> {
    metadata(path)
}

/// The metadata of a safetensors file that [`write`] wrote: `None` where there is no file.
///
/// # Errors
/// [`Error::Format`] where the file is another.
pub(super) fn metadata<M: DeserializeOwned>(path: &Path) -> Result<Option<M>> {
    use std::io::Read;
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "open")(e)),
    };
    let mut length = [0u8; 8];
    file.read_exact(&mut length).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => broken(path, "the file ends too early"),
        _ => Error::io(path, "read")(error),
    })?;
    let mut header = Vec::new();
    let wanted = u64::from_le_bytes(length).min(1 << 24);
    file.take(wanted).read_to_end(&mut header).map_err(Error::io(path, "read"))?;
    let json: serde_json::Value = serde_json::from_slice(&header).map_err(|e| broken(path, e))?;
    let text = json["__metadata__"][KEY].as_str().ok_or_else(|| broken(path, "no wbc metadata"))?;
    serde_json::from_str::<Sealed<M>>(text).map(|sealed| Some(sealed.meta)).map_err(|e| broken(path, e))
}

/// Whether a checkpoint, where there is one, is as it was written.
///
/// # Errors
/// [`Error::Io`] where it cannot be read.
pub fn is_intact(path: &Path) -> Result<bool> {
    is_sound::<Meta>(path)
}

/// Whether a file that [`write`] wrote with metadata `M`, where there is one, is as it was written.
///
/// # Errors
/// [`Error::Io`] where it cannot be read.
pub(super) fn is_sound<M: DeserializeOwned>(path: &Path) -> Result<bool> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(Error::io(path, "open")(e)),
    };
    match integrity::safetensors_header(&mut file).and_then(|header| integrity::state(&mut file, header)) {
        Ok(state) => match metadata::<M>(path) {
            Ok(_) => Ok(state != State::Damaged),
            Err(Error::Format { .. }) => Ok(false),
            Err(other) => Err(other),
        },
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(Error::io(path, "read")(e)),
    }
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
/// [`Error::Stale`] where the file was damaged, [`Error::Format`] where it is not safetensors, or an array is missing
/// or of another shape.
pub fn load(path: &Path, model: &mut dyn Model, meta: &Meta) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    require_intact(path, &bytes)?;
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

/// Compares the bytes of a checkpoint with its checksum.
///
/// # Errors
/// [`Error::Stale`] where they differ, [`Error::Format`] where the file is cut off.
pub fn require_intact(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::io::Cursor::new(bytes);
    match integrity::safetensors_header(&mut file).and_then(|header| integrity::state(&mut file, header)) {
        Ok(State::Intact | State::Unknown) => Ok(()),
        Ok(State::Damaged) => Err(Error::stale(Input::Checkpoint, path, integrity::DAMAGED)),
        Err(error) => Err(broken(path, error)),
    }
}

pub(super) fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::format(path, "checkpoint", "a safetensors file that wbc wrote", why)
}
