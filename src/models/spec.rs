//! The settings that a model is built from.

use crate::nn::optim::Optimiser;
use crate::nn::{Precision, Vector};

/// Settings of a new model. [`Entry::default_spec`](super::Entry::default_spec) has the usual ones for each model.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Side of the square images that the model takes, px: a multiple of 8 for W-Net, of 32 for ResNet50.
    pub size_px: usize,
    /// Number of classes: the outputs of the last layer.
    pub classes: usize,
    /// Seed of the initial weights; see [`crate::seed`].
    pub seed: u64,
    /// Fold that the model is for: with the same seed, each fold has other initial weights.
    pub fold: u64,
    /// Share of the activations that dropout sets to 0 in training, from 0 to below 1; 0 for ResNet50.
    pub dropout: f32,
    /// How training updates the weights: Adam for W-Net, SGD for ResNet50.
    pub optimiser: Optimiser,
    /// ResNet50 only: let every residual block start as the identity (the last scale of the block is 0).
    pub zero_init_residual: bool,
    /// What the operands of matrix products are rounded to.
    pub precision: Precision,
    /// Instructions that the CPU kernels use; without effect on other devices.
    pub vector: Vector,
}
