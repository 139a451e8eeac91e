//! Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
//! Localization"): where the last convolutional maps speak for a class. A map's weight is the mean gradient of the
//! class's logit with respect to it; what the weighted maps come to is kept where it is above 0. By dfdx's operations
//! on the CPU, whatever device the network learned on.
//!
//! W-Net pools its last maps. The weights are taken behind that pooling, where each window has one gradient, and the
//! maps before it, where they are finer (32 x 32 of 128 px): max-pooling hands a gradient on to one pixel of its
//! window, so that both places have the same sums.

use super::composed::{Forward, Pass, Weights, compute};
use super::{Model, one_hot};
use crate::class::Class;
use crate::error::Result;
use dfdx::prelude::*;

/// Tensors at once.
const BATCH: usize = 8;

/// Where a class's evidence lies in a picture: `[side, side]`, in logits, nowhere below 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap {
    pub side: usize,
    pub values: Vec<f32>,
}

/// A network that tells where.
pub trait ClassMaps {
    /// Of each picture (`x` as in [`super::Batch`]) for its class.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where dfdx refuses.
    fn class_maps(&self, x: &[f32], classes: &[Class]) -> Result<Vec<ClassMap>>;
}

/// A network's layers with its weights.
pub struct GradCam<F> {
    forward: F,
    weights: Weights<Cpu>,
    size: usize,
}

impl<F: Forward + 'static> GradCam<F> {
    /// # Errors
    /// [`crate::error::Error::Compute`] where there is no room for another copy of the weights.
    pub fn of(model: &dyn Model, forward: F) -> Result<Box<dyn ClassMaps>> {
        let weights = Weights::new(Cpu::default(), &model.state(false)).map_err(compute::<F, _>)?;
        Ok(Box::new(Self { forward, weights, size: model.size_px() }))
    }
}

impl<F: Forward> ClassMaps for GradCam<F> {
    fn class_maps(&self, x: &[f32], classes: &[Class]) -> Result<Vec<ClassMap>> {
        let mut maps = Vec::with_capacity(classes.len());
        let images = x.chunks(BATCH * self.size * self.size * 3);
        for (x, classes) in images.zip(classes.chunks(BATCH)) {
            maps.extend(self.batch(x.to_vec(), classes).map_err(compute::<F, _>)?);
        }
        Ok(maps)
    }
}

impl<F: Forward> GradCam<F> {
    fn batch(&self, x: Vec<f32>, classes: &[Class]) -> std::result::Result<Vec<ClassMap>, CpuError> {
        let n = classes.len();
        let labels: Vec<usize> = classes.iter().map(|c| c.index()).collect();
        let mut pass = Pass::Predict { features: Vec::new(), width: 0 };
        let x = self.weights.tensor(x, (n, self.size, self.size, 3))?;
        let maps = self.forward.maps(&self.weights, x, &mut pass)?; // [n, 32, 32, 64]
        let pooled = self.forward.pooled(maps.clone())?; // [n, 16, 16, 64]
        let logits = self.forward.head(&self.weights, pooled.leaky_trace(), &mut pass)?; // [n, 5]
        // A picture's logit depends on no other picture: the sum's gradient is each one's own.
        let chosen = self.weights.tensor(one_hot(&labels), (n, Class::COUNT))?;
        let gradients = logits.try_mul(chosen)?.try_sum::<Rank0, _>()?.try_backward()?;
        let gradients = gradients.get(&pooled).as_vec();
        let (_, side, _, c) = *maps.shape();
        let maps = maps.as_vec();
        let of_one = |(maps, gradients): (&[f32], &[f32])| {
            let mut weights = vec![0.0; c];
            for gradient in gradients.chunks_exact(c) {
                weights.iter_mut().zip(gradient).for_each(|(w, g)| *w += g / (side * side) as f32);
            }
            let dot = |maps: &[f32]| maps.iter().zip(&weights).map(|(m, w)| m * w).sum::<f32>().max(0.0);
            ClassMap { side, values: maps.chunks_exact(c).map(dot).collect() }
        };
        Ok(maps.chunks_exact(maps.len() / n).zip(gradients.chunks_exact(gradients.len() / n)).map(of_one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Spec, resnet50, wnet};
    use super::*;
    use crate::nn::drawn;
    use crate::nn::kernel::{Dropout, Vector};
    use crate::nn::optim::{Optimiser, Sgd};

    fn spec(size_px: usize, optimiser: Optimiser) -> Spec {
        let (dropout, vector) = (Dropout { p: 0.0 }, Vector::detect());
        Spec { size_px, seed: 1, fold: 0, dropout, optimiser, zero_init_residual: false, vector }
    }

    fn ready<F: Forward>(model: &dyn Model, forward: F) -> GradCam<F> {
        let weights = Weights::new(Cpu::default(), &model.state(false)).unwrap();
        GradCam { forward, weights, size: model.size_px() }
    }

    /// Maps of all five classes: some of them are not empty.
    fn close(found: &[ClassMap], expected: &[Vec<f32>], share: f32) {
        let found: Vec<f32> = found.iter().flat_map(|m| m.values.clone()).collect();
        let expected = expected.concat();
        let top = expected.iter().copied().fold(0f32, f32::max);
        assert!(top > 0.0 && found.len() == expected.len());
        for (f, e) in found.iter().zip(&expected) {
            assert!((f - e).abs() < share * top, "{f} and {e}, of at most {top}");
        }
    }

    /// A channel that is raised everywhere raises the logit by all its gradients.
    #[test]
    fn wnets_weights_are_those_of_finite_differences() {
        let size = 32;
        let model = wnet::WNet::new(&spec(size, Optimiser::default())).unwrap();
        let cam = ready(&model, wnet::Layers::new(&spec(size, Optimiser::default())));
        let n = Class::COUNT;
        let x = drawn(n * size * size * 3, 4);
        let found = cam.class_maps(&x, &Class::ALL).unwrap();
        let mut pass = Pass::Predict { features: Vec::new(), width: 0 };
        let images = cam.weights.tensor(x, (n, size, size, 3)).unwrap();
        let maps = cam.forward.maps(&cam.weights, images, &mut pass).unwrap();
        let pooled = cam.forward.pooled(maps.clone()).unwrap();
        let ((_, h, w, c), pooled) = (*pooled.shape(), pooled.as_vec());
        assert_eq!((maps.shape().1, h, found[0].side), (8, 4, 8));
        let mut expected = Vec::new();
        for i in 0..n {
            let mut logit = |channel: usize, by: f32| -> f64 {
                let mut pooled = pooled.clone();
                pooled.iter_mut().skip(channel).step_by(c).for_each(|v| *v += by);
                let pooled = cam.weights.tensor(pooled, (n, h, w, c)).unwrap();
                let logits = cam.forward.head(&cam.weights, pooled, &mut pass).unwrap().as_vec();
                f64::from(logits[i * Class::COUNT + i])
            };
            let by = 1e-3;
            let weight = |channel| ((logit(channel, by) - logit(channel, -by)) / f64::from(2.0 * by)) as f32 / 64.0;
            let weights: Vec<f32> = (0..c).map(weight).collect();
            let maps = maps.as_vec();
            let of_one = maps[i * 64 * c..][..64 * c].chunks_exact(c);
            let dot = |m: &[f32]| m.iter().zip(&weights).map(|(m, w)| m * w).sum::<f32>().max(0.0);
            expected.push(of_one.map(dot).collect());
        }
        close(&found, &expected, 0.02);
    }

    /// Behind a mean pooling and one linear layer Grad-CAM is CAM (Zhou et al. 2016), by the number of pixels.
    #[test]
    fn resnet50s_maps_are_cams_closed_form() {
        let size = 64;
        let model = resnet50::ResNet50::new(&spec(size, Optimiser::Sgd(Sgd::default()))).unwrap();
        let cam = ready(&model, resnet50::Layers);
        let n = Class::COUNT;
        let x = drawn(n * size * size * 3, 4);
        let found = cam.class_maps(&x, &Class::ALL).unwrap();
        let mut pass = Pass::Predict { features: Vec::new(), width: 0 };
        let images = cam.weights.tensor(x, (n, size, size, 3)).unwrap();
        let maps = cam.forward.maps(&cam.weights, images, &mut pass).unwrap();
        let (_, h, w, c) = *maps.shape();
        assert_eq!((h, w, c), (2, 2, 2048));
        let (maps, linear) = (maps.as_vec(), cam.weights.values("fc.weight"));
        let of_class = |i: usize| -> Vec<f32> {
            let weight = |k: usize| linear[k * Class::COUNT + i] / 4.0;
            let one = |m: &[f32]| m.iter().enumerate().map(|(k, m)| m * weight(k)).sum::<f32>().max(0.0);
            maps[i * 4 * c..][..4 * c].chunks_exact(c).map(one).collect()
        };
        close(&found, &(0..n).map(of_class).collect::<Vec<_>>(), 1e-4);
    }
}
