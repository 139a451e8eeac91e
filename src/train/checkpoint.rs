//! A fold's checkpoint: one safetensors file, replaced atomically. Its metadata hold all that a resumed run needs
//! besides the weights, so that the two can never disagree.

use crate::atomic;
use crate::batch::Normalise;
use crate::error::{Error, Result};
use crate::models::{Model, StateArray};
use crate::rows::EpochRow;
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// What a checkpoint says besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Hash of the run's settings and inputs: a checkpoint of another run is refused.
    pub run: String,
    pub model: String,
    pub size_px: usize,
    pub fold: u32,
    /// Epochs done.
    pub epoch: u32,
    /// Whether the fold is finished; then the optimiser's arrays are left out.
    pub finished: bool,
    pub normalise: Normalise,
    /// One row an epoch done.
    pub epochs: Vec<EpochRow>,
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
pub fn save(path: &Path, model: &dyn Model, meta: &Meta) -> Result<()> {
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
/// [`Error::Format`] where the file is no checkpoint of ours.
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

/// Reads the weights (and the optimiser's arrays, unless the fold is finished) into `model`.
pub fn load(path: &Path, model: &mut dyn Model, meta: &Meta) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(path, e))?;
    model.load(!meta.finished, &mut |name, shape| {
        let view = tensors.tensor(name).map_err(|e| broken(path, e))?;
        if view.shape() != shape || view.dtype() != Dtype::F32 {
            return Err(Error::Format {
                path: path.into(),
                item: name.into(),
                expected: format!("F32 {shape:?}"),
                got: format!("{:?} {:?}", view.dtype(), view.shape()),
            });
        }
        // The file's bytes need not lie where floats may.
        Ok(bytemuck::pod_collect_to_vec(view.data()))
    })
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Format {
        path: path.into(),
        item: "checkpoint".into(),
        expected: "a safetensors file that wbc wrote".into(),
        got: why.to_string(),
    }
}
