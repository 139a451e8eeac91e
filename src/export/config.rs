//! The formats of exported models, and the metadata of their files.

use crate::batch::Normalise;
use crate::class::Class;
use crate::features;
use crate::preprocess;
use crate::run::FittedModel;
use serde::Serialize;

/// A format of exported networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Arrays with PyTorch's names, order and shapes.
    Safetensors,
    /// A graph with its weights.
    Onnx,
}

impl Format {
    /// Extension of the files' names.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Safetensors => "safetensors",
            Format::Onnx => "onnx",
        }
    }

    /// Name and text of the Python example that loads it.
    pub(super) fn example(self) -> (&'static str, &'static str) {
        match self {
            Format::Safetensors => ("pytorch_example.py", include_str!("pytorch_example.py")),
            Format::Onnx => ("onnx_example.py", include_str!("onnx_example.py")),
        }
    }
}

/// The metadata of an exported file: JSON under the key `config`.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Name of the architecture: `wnet`, `resnet50`.
    pub model: String,
    /// Name of the run.
    pub run: String,
    /// The data set that it was trained on.
    pub dataset: String,
    /// The fold that was kept for testing; none for the model of all images.
    pub fold: Option<u32>,
    /// Classes, in the order of the outputs.
    pub classes: Vec<Class>,
    /// How a cell is cut out of an image and resized.
    pub preprocess: preprocess::Settings,
    /// The mean and deviation of each channel, grey levels of 0 to 255; for the kind `image` those of each image are
    /// used.
    pub normalise: Normalise,
    /// Version of wbc.
    pub version: &'static str,
}

/// The metadata of an exported classical classifier: JSON under the key `config`.
#[derive(Clone, Debug, Serialize)]
pub struct ClassifierConfig {
    /// Name of the classifier: `svm`, `lda`.
    pub model: String,
    /// Name of the run.
    pub run: String,
    /// The data set that it was fitted on.
    pub dataset: String,
    /// The fold that was kept for testing; none for the model of all images.
    pub fold: Option<u32>,
    /// Classes, in the order of the output.
    pub classes: Vec<Class>,
    /// Names of the features, in the order of the input: those of `schemas/features.toml`.
    pub features: Vec<String>,
    /// How the cells were cut out before they were measured.
    pub measured: Option<features::Settings>,
    /// Version of wbc.
    pub version: &'static str,
}

impl ClassifierConfig {
    /// That of a fitted classifier of a run.
    pub(super) fn new(fitted: &FittedModel, run: &str) -> Self {
        let record = &fitted.record;
        Self {
            model: record.model.clone(),
            run: run.into(),
            dataset: record.dataset.clone(),
            fold: fitted.id.fold(),
            classes: record.classes.iter().collect(),
            features: features::names(),
            measured: record.features.clone(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}
