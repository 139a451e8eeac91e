//! The models that can be trained. A model file holds an architecture and what its paper fixes, nothing else.

use crate::class::Class;
use crate::error::{Error, Result};
use crate::nn::kernel::{Dropout, Vector};
use crate::nn::optim::Adam;

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

/// One named array of a model's state.
pub struct StateArray<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    /// Its numbers, f32 and little-endian, made when they are asked for: all of them at once would double the memory.
    pub bytes: Box<dyn Fn() -> Vec<u8> + 'a>,
}

/// A model in training or use.
pub trait Model: Send {
    /// Pictures are `size x size` pixels.
    fn size_px(&self) -> usize;
    /// One step of the optimiser; `t` counts from 1.
    fn train(&mut self, batch: Batch, adam: Adam, t: u64, learning_rate: f64) -> Result<Step>;
    /// Probabilities of `n` pictures, `x` as in [`Batch`].
    fn predict(&self, x: &[f32], n: usize) -> Result<Vec<[f32; Class::COUNT]>>;
    /// The weights (and, with `moments`, what the optimiser keeps), in a fixed order.
    fn state(&self, moments: bool) -> Vec<StateArray<'_>>;
    /// Takes over what [`Model::state`] gave; `take` yields an array by name and shape, or an error that says why not.
    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()>;
    /// Number of trainable parameters.
    fn parameters(&self) -> usize;
}

/// Makes a model with fresh weights: picture size (px), seed, fold, dropout.
type Build = fn(usize, u64, u64, Dropout, Vector) -> Result<Box<dyn Model>>;

/// A model's registration.
pub struct Entry {
    pub name: &'static str,
    pub title: &'static str,
    /// The size that its paper takes, px.
    pub size_px: usize,
    pub build: Build,
}

/// Every model, by name.
pub const MODELS: [Entry; 1] = [wnet::ENTRY];

/// A model's name in print; of another version's model, its name.
pub fn title(name: &str) -> &str {
    MODELS.iter().find(|m| m.name == name).map_or(name, |m| m.title)
}

/// The model named `name`.
pub fn find(name: &str) -> Result<&'static Entry> {
    MODELS.iter().find(|m| m.name == name).ok_or_else(|| Error::Setting {
        key: "train.model".into(),
        expected: format!("one of: {}", MODELS.map(|m| m.name).join(", ")),
        got: name.into(),
    })
}
