//! The registration of a model: its name, its defaults, and how to build and export it.

use super::grad_cam::ClassMaps;
use super::model::Model;
use super::onnx::Graph;
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::nn::optim::Optimiser;
use crate::nn::{Precision, Vector};

/// A model that can be trained; [`MODELS`](super::MODELS) lists them.
pub struct Entry {
    /// Name in pipelines and checkpoints: lower case.
    pub name: &'static str,
    /// Name in tables and messages.
    pub title: &'static str,
    /// Side of the images in the model's paper, px.
    pub size_px: usize,
    /// Name of the last layer, which has one output per class.
    pub(crate) last: &'static str,
    pub(super) dropout: f32,
    pub(super) optimiser: fn() -> Optimiser,
    pub(super) validate: fn(&Spec) -> Result<()>,
    /// Builds the model on our own CPU kernels.
    pub(super) build_cpu: fn(&Spec) -> Result<Box<dyn Model>>,
    /// Builds the model on the CUDA device of that number; none in a program without CUDA.
    pub(super) build_cuda: Option<fn(&Spec, usize) -> Result<Box<dyn Model>>>,
    pub(crate) grad_cam: fn(&dyn Model) -> Result<Box<dyn ClassMaps>>,
    /// The weight of the linear layer that reads a flattened image `[h, w, channels]`, and its number of channels.
    pub(super) flattened: Option<(&'static str, usize)>,
    /// Adds the layers to an ONNX graph; takes the name of the normalised images and returns that of the logits.
    pub(crate) onnx: fn(&mut Graph, &str) -> String,
}

impl Entry {
    /// The usual settings of this model: the image size of its paper, its optimiser and dropout, the five classes of
    /// Jung et al. (2019), seed 0, fold 0.
    ///
    /// ```
    /// use wbc::models::{self, Spec};
    /// use wbc::nn::device::Device;
    ///
    /// let wnet = models::find("wnet")?;
    /// let model = wnet.build(&Spec { size_px: 32, seed: 1, ..wnet.default_spec() }, Device::Cpu)?;
    /// let images = vec![0.0; 2 * 32 * 32 * 3];
    /// assert_eq!(model.predict(&images, 2)?.len(), 2);
    /// # Ok::<(), wbc::error::Error>(())
    /// ```
    pub fn default_spec(&self) -> Spec {
        Spec {
            size_px: self.size_px,
            classes: 5,
            seed: 0,
            fold: 0,
            dropout: self.dropout,
            optimiser: (self.optimiser)(),
            zero_init_residual: false,
            precision: Precision::F32,
            vector: Vector::detect(),
        }
    }

    /// Checks that the model can be built from `spec`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::error::Error::Setting) for an image size, optimiser or dropout that the model does not
    /// support.
    pub fn validate(&self, spec: &Spec) -> Result<()> {
        (self.validate)(spec)
    }

    /// Builds the model on `device`, with new random weights.
    ///
    /// # Errors
    /// As [`Entry::validate`]; also where the device is not available.
    pub fn build(&self, spec: &Spec, device: Device) -> Result<Box<dyn Model>> {
        match (device, self.build_cuda) {
            (Device::Cpu, _) => (self.build_cpu)(spec),
            (Device::Cuda(ordinal), Some(build)) => build(spec, ordinal),
            (Device::Cuda(_), None) => {
                let expected =
                    "cpu (wbc was built without CUDA; install it with `cargo install --path . --features cuda`)";
                Err(Error::setting("device", expected, device))
            }
        }
    }
}
