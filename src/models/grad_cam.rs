//! Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
//! Localization"): the weighted sum of the last convolutional maps, where it is above 0. The weight of a map is the
//! mean gradient of the class's logit with respect to it. Computed by dfdx's operations on the CPU, for networks
//! trained on any device.
//!
//! W-Net pools its last maps. The gradients are taken after the pooling and the maps before it, where they are finer
//! (32 x 32 for images of 128 px): max-pooling passes each gradient to one pixel of its window, so that the sums are
//! the same.

use super::composed::{Forward, Pass, Weights, compute};
use super::model::Model;
use super::output::one_hot;
use crate::error::Result;
use dfdx::prelude::*;

/// Images per pass.
const BATCH: usize = 8;

/// How much each part of an image contributes to a class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    /// Height and width of the map.
    pub side: usize,
    /// Contributions to the logit of the class, `[side, side]`, at least 0.
    pub values: Vec<f32>,
}

/// A network that computes class maps.
pub(crate) trait ClassMaps {
    /// One map per image (`x` as in [`super::Batch`]), each for the output of that index.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where the computation fails.
    fn class_maps(&self, x: &[f32], outputs: &[usize]) -> Result<Vec<ClassMap>>;
}

/// The layers of a network with its weights.
pub(crate) struct GradCam<F> {
    pub(super) forward: F,
    pub(super) weights: Weights<Cpu>,
    size: usize,
}

impl<F: Forward + 'static> GradCam<F> {
    /// Copies the weights of `model`.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where there is too little memory.
    pub fn new(model: &dyn Model, forward: F) -> Result<Self> {
        let weights = Weights::new(Cpu::default(), &model.state(false)).map_err(compute::<F, _>)?;
        Ok(Self { forward, weights, size: model.size_px() })
    }

    /// As [`GradCam::new`].
    pub fn boxed(model: &dyn Model, forward: F) -> Result<Box<dyn ClassMaps>> {
        Ok(Box::new(Self::new(model, forward)?))
    }
}

impl<F: Forward> ClassMaps for GradCam<F> {
    fn class_maps(&self, x: &[f32], outputs: &[usize]) -> Result<Vec<ClassMap>> {
        let mut maps = Vec::with_capacity(outputs.len());
        let images = x.chunks(BATCH * self.size * self.size * 3);
        for (x, outputs) in images.zip(outputs.chunks(BATCH)) {
            maps.extend(self.batch(x.to_vec(), outputs).map_err(compute::<F, _>)?);
        }
        Ok(maps)
    }
}

impl<F: Forward> GradCam<F> {
    fn batch(&self, x: Vec<f32>, outputs: &[usize]) -> std::result::Result<Vec<ClassMap>, CpuError> {
        let n = outputs.len();
        let mut pass = Pass::predict();
        let x = self.weights.tensor(x, (n, self.size, self.size, 3))?;
        let maps = self.forward.maps(&self.weights, x, &mut pass)?; // [n, 32, 32, 64]
        let pooled = self.forward.pool(maps.clone())?; // [n, 16, 16, 64]
        let logits = self.forward.head(&self.weights, pooled.leaky_trace(), &mut pass)?; // [n, classes]
        // The logits of an image depend on no other image, so that the gradient of their sum is that of each logit.
        let chosen = self.weights.tensor(one_hot(outputs, logits.shape().1), *logits.shape())?;
        let gradients = logits.try_mul(chosen)?.try_sum::<Rank0, _>()?.try_backward()?;
        let gradients = gradients.get(&pooled).as_vec();
        let (_, side, _, c) = *maps.shape();
        let maps = maps.as_vec();
        let class_map = |(maps, gradients): (&[f32], &[f32])| {
            let mut weights = vec![0.0; c];
            for gradient in gradients.chunks_exact(c) {
                weights.iter_mut().zip(gradient).for_each(|(w, g)| *w += g / (side * side) as f32);
            }
            let dot = |maps: &[f32]| maps.iter().zip(&weights).map(|(m, w)| m * w).sum::<f32>().max(0.0);
            ClassMap { side, values: maps.chunks_exact(c).map(dot).collect() }
        };
        Ok(maps.chunks_exact(maps.len() / n).zip(gradients.chunks_exact(gradients.len() / n)).map(class_map).collect())
    }
}
