//! The networks that can be trained. A model's file holds its architecture and what its paper prescribes, nothing else.

use crate::classical;
use crate::error::{Error, Result};

// Grad-CAM only predicts; tests also train.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) mod composed;
#[cfg(feature = "cuda")]
mod cuda;
mod entry;
pub mod grad_cam;
mod model;
pub(crate) mod onnx;
mod output;
pub(crate) mod pytorch;
mod resnet50;
mod resnet50_bf16;
mod spec;
pub(crate) mod wnet;

pub use entry::Entry;
pub use model::{Batch, Inference, Model, Objective, Pixels, StateArray, Step};
pub use spec::Spec;

/// Every model.
#[cfg(not(feature = "cuda"))]
pub const MODELS: [Entry; 2] = [wnet::ENTRY, resnet50::ENTRY];
/// Every model.
#[cfg(feature = "cuda")]
pub const MODELS: [Entry; 2] = [
    Entry { build_cuda: Some(cuda::wnet::build), ..wnet::ENTRY },
    Entry { build_cuda: Some(cuda::resnet50::build), ..resnet50::ENTRY },
];

/// The model of that name.
///
/// # Errors
/// [`Error::Setting`] where there is none; it lists the names of models and classifiers.
pub fn find(name: &str) -> Result<&'static Entry> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| {
        let names = MODELS.iter().map(|model| model.name).chain(classical::CLASSIFIERS.iter().map(|c| c.name));
        Error::setting("train.model", format!("one of: {}", names.collect::<Vec<_>>().join(", ")), name)
    })
}

#[cfg(test)]
mod tests;
