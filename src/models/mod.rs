//! The models that can be trained. A model file holds an architecture and what its paper fixes, nothing else.

use crate::class::Class;
use crate::classical;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::nn::kernel::{Dropout, Vector};
use crate::nn::optim::Optimiser;

pub mod composed;
pub mod grad_cam;
pub mod onnx;
pub mod pytorch;
pub mod resnet50;
pub mod wnet;

/// A batch as models take it.
pub struct Batch<'a> {
    /// `[n, size, size, 3]`, normalised.
    pub x: Vec<f32>,
    /// Classes' indices, `n` of them.
    pub labels: &'a [usize],
    /// A key an image for dropout.
    pub keys: &'a [u64],
}

/// What a training step tells.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Mean cross-entropy of the batch (nats).
    pub loss: f32,
    /// Images classified right.
    pub correct: usize,
}

/// What a model says of pictures.
#[derive(Clone, Debug, Default)]
pub struct Inferred {
    /// Of the five classes, a picture after the other.
    pub probabilities: Vec<[f32; Class::COUNT]>,
    /// What the last layer reads: `[n, width]`.
    pub features: Vec<f32>,
    pub width: usize,
}

/// One named array of a model's state.
pub struct StateArray<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    /// Its numbers, f32 and little-endian, made when they are asked for: all of them at once would double the memory.
    pub bytes: Box<dyn Fn() -> Vec<u8> + 'a>,
}

/// A model in training or use.
pub trait Model {
    /// Tensors are `size x size` pixels.
    fn size_px(&self) -> usize;
    /// One step of the optimiser; `t` counts from 1.
    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step>;
    /// What it says of `n` pictures, `x` as in [`Batch`].
    fn infer(&self, x: &[f32], n: usize) -> Result<Inferred>;
    /// Probabilities alone.
    fn predict(&self, x: &[f32], n: usize) -> Result<Vec<[f32; Class::COUNT]>> {
        Ok(self.infer(x, n)?.probabilities)
    }
    /// The weights (and, with `moments`, what the optimiser keeps), in a fixed order.
    fn state(&self, moments: bool) -> Vec<StateArray<'_>>;
    /// Takes over what [`Model::state`] gave; `take` yields an array by name and shape, or an error that says why not.
    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()>;
    /// Number of trainable parameters.
    fn parameters(&self) -> usize;
}

/// What a model is to be.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Tensors are `size_px x size_px`.
    pub size_px: usize,
    /// Weights are drawn from (seed, fold).
    pub seed: u64,
    pub fold: u64,
    pub dropout: Dropout,
    pub optimiser: Optimiser,
    /// Each residual block begins as its shortcut.
    pub zero_init_residual: bool,
    pub vector: Vector,
}

/// A model's registration.
pub struct Entry {
    pub name: &'static str,
    pub title: &'static str,
    /// The size that its paper takes, px.
    pub size_px: usize,
    /// Refuses a size, optimiser or dropout that it has not.
    suits: fn(&Spec) -> Result<()>,
    /// With our own kernels.
    on_cpu: fn(&Spec) -> Result<Box<dyn Model>>,
    /// With dfdx's operations, on the CUDA device of a number.
    on_cuda: fn(&Spec, usize) -> Result<Box<dyn Model>>,
    /// What makes its class maps.
    pub grad_cam: fn(&dyn Model) -> Result<Box<dyn grad_cam::ClassMaps>>,
    /// The linear weight that reads a whole picture, and how many channels that has.
    pub flattened: Option<(&'static str, usize)>,
    /// Its layers as an ONNX graph, from the normalised picture of that name to the logits' name.
    pub onnx: fn(&mut onnx::Graph, &str) -> String,
}

impl Entry {
    /// # Errors
    /// [`Error::Setting`] where it has no such size, optimiser or dropout.
    pub fn suits(&self, spec: &Spec) -> Result<()> {
        (self.suits)(spec)
    }

    /// The model with fresh weights.
    ///
    /// # Errors
    /// [`Error::Setting`] where it has no such size, optimiser or dropout, or the device is not there.
    pub fn build(&self, spec: &Spec, device: Device) -> Result<Box<dyn Model>> {
        match device {
            Device::Cpu => (self.on_cpu)(spec),
            Device::Cuda(ordinal) => (self.on_cuda)(spec, ordinal),
        }
    }
}

/// Every model, by name.
pub const MODELS: [Entry; 2] = [wnet::ENTRY, resnet50::ENTRY];

/// The model named `name`.
pub fn find(name: &str) -> Result<&'static Entry> {
    MODELS.iter().find(|m| m.name == name).ok_or_else(|| Error::Setting {
        key: "train.model".into(),
        expected: {
            let names = MODELS.iter().map(|m| m.name).chain(classical::CLASSIFIERS.iter().map(|c| c.name));
            format!("one of: {}", names.collect::<Vec<_>>().join(", "))
        },
        got: name.into(),
    })
}

/// Index of the largest; the first of equals.
fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

fn softmax(logits: &[f32]) -> [f32; Class::COUNT] {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let exps: [f32; Class::COUNT] = std::array::from_fn(|i| (logits[i] - top).exp());
    let sum: f32 = exps.iter().sum();
    exps.map(|e| e / sum)
}

/// `[n, 5]`: 1 at each image's class.
fn one_hot(labels: &[usize]) -> Vec<f32> {
    let mut targets = vec![0.0; labels.len() * Class::COUNT];
    for (targets, label) in targets.chunks_exact_mut(Class::COUNT).zip(labels) {
        targets[*label] = 1.0;
    }
    targets
}

/// What a batch's loss and logits (`[n, 5]`) say.
///
/// # Errors
/// [`Error::Compute`] for a loss that is no number.
fn step_of(model: &str, t: u64, learning_rate: f64, loss: f32, logits: &[f32], labels: &[usize]) -> Result<Step> {
    if !loss.is_finite() {
        return Err(Error::Compute {
            what: format!("{model}, step {t}"),
            message: format!("the loss is {loss}: the learning rate {learning_rate} is too high for this data"),
        });
    }
    let correct = logits.chunks_exact(Class::COUNT).zip(labels).filter(|(l, y)| argmax(l) == **y).count();
    Ok(Step { loss, correct })
}
