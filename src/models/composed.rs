//! Networks in dfdx's operations, for Grad-CAM, and for the tests that compare our kernels with them. Initial weights,
//! names of arrays and dropout are those of the same network on our kernels, so that both can load each other's
//! checkpoints.

use super::model::{Batch, Inference, Model, StateArray, Step};
use super::output::{Loss, loss, softmax, step};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::nn::Nhwc;
use crate::nn::optim::Optimiser;
use dfdx::prelude::*;
use std::collections::BTreeMap;

type Matrix<D, T> = std::result::Result<Tensor<(usize, usize), f32, D, T>, <D as HasErr>::Err>;
type Maps<D, T> = std::result::Result<Tensor<Nhwc, f32, D, T>, <D as HasErr>::Err>;

/// An architecture in the operations of [`crate::nn::composed`].
pub trait Forward {
    /// Name in messages.
    const NAME: &'static str;

    /// The last convolutional maps `[n, h, w, c]` of images `[n, size, size, 3]`: after ReLU, before pooling.
    fn maps<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        x: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> Maps<D, T>;

    /// Pools the maps, as [`Forward::head`] takes them.
    fn pool<D: Device<f32>, T: Tape<f32, D>>(&self, maps: Tensor<Nhwc, f32, D, T>) -> Maps<D, T> {
        Ok(maps)
    }

    /// The logits `[n, classes]` of pooled maps.
    fn head<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        pooled: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> Matrix<D, T>;

    /// The logits `[n, classes]` of images `[n, size, size, 3]`.
    fn logits<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        x: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> Matrix<D, T> {
        let maps = self.maps(weights, x, pass)?;
        self.head(weights, self.pool(maps)?, pass)
    }
}

/// The purpose of a forward pass, and what it computes besides the logits.
pub enum Pass<'a> {
    /// For training.
    Train {
        /// Dropout key of each image.
        keys: &'a [u64],
        /// The new running means and variances, by name.
        running: Vec<(String, Vec<f32>)>,
    },
    /// For prediction.
    Predict {
        /// Input of the last layer, `[n, width]`.
        features: Vec<f32>,
        width: usize,
    },
}

impl Pass<'_> {
    /// A pass for prediction.
    pub fn predict() -> Self {
        Pass::Predict { features: Vec::new(), width: 0 }
    }

    /// Stores the input of the last layer, in a prediction.
    pub fn set_features<D: Device<f32>, T>(&mut self, x: &Tensor<(usize, usize), f32, D, T>) {
        if let Pass::Predict { features, width } = self {
            (*features, *width) = (x.as_vec(), x.shape().1);
        }
    }
}

/// The arrays of a network on a device.
pub struct Weights<D: Device<f32>> {
    dev: D,
    /// Names and shapes in the order of the checkpoint.
    order: Vec<(String, Vec<usize>)>,
    arrays: BTreeMap<String, Tensor<(usize,), f32, D>>,
}

impl<D: Device<f32>> Weights<D> {
    /// Copies the arrays of a model to `dev`.
    pub fn new(dev: D, state: &[StateArray]) -> std::result::Result<Self, D::Err> {
        let order = state.iter().map(|a| (a.name.clone(), a.shape.clone())).collect();
        let mut weights = Self { dev, order, arrays: BTreeMap::new() };
        for array in state {
            weights.set(&array.name, array.values())?;
        }
        Ok(weights)
    }

    /// A tensor on the same device.
    pub fn tensor<S: Shape>(&self, values: Vec<f32>, shape: S) -> std::result::Result<Tensor<S, f32, D>, D::Err> {
        self.dev.try_tensor_from_vec(values, shape)
    }

    fn array(&self, name: &str) -> &Tensor<(usize,), f32, D> {
        self.arrays.get(name).unwrap_or_else(|| panic!("the network has no array {name}"))
    }

    /// An array, flattened.
    pub fn get<T: Tape<f32, D>>(&self, name: &str) -> Tensor<(usize,), f32, D, T> {
        self.array(name).retaped::<T>()
    }

    /// A matrix.
    pub fn matrix<T: Tape<f32, D>>(&self, name: &str) -> Matrix<D, T> {
        let shape = self.shape(name);
        self.get::<T>(name).try_reshape_like(&(shape[0], shape[1]))
    }

    /// An array's shape.
    pub fn shape(&self, name: &str) -> &[usize] {
        let array = self.order.iter().find(|(n, _)| n == name);
        &array.unwrap_or_else(|| panic!("the network has no array {name}")).1
    }

    /// An array's values.
    pub fn values(&self, name: &str) -> Vec<f32> {
        self.array(name).as_vec()
    }

    fn set(&mut self, name: &str, values: Vec<f32>) -> std::result::Result<(), D::Err> {
        let len = values.len();
        let array = self.dev.try_tensor_from_vec(values, (len,))?;
        self.arrays.insert(name.into(), array);
        Ok(())
    }
}

/// A network on a dfdx device.
pub struct Composed<D: Device<f32>, F> {
    forward: F,
    size: usize,
    optimiser: Optimiser,
    weights: Weights<D>,
    /// Names of the trainable arrays.
    parameters: Vec<String>,
}

impl<D: Device<f32>, F: Forward> Composed<D, F> {
    /// Copies the weights of `cpu` to `dev`.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device has too little memory.
    pub fn new(dev: D, spec: &Spec, cpu: &dyn Model, forward: F) -> Result<Self> {
        let weights = Weights::new(dev, &cpu.state(true)).map_err(compute::<F, _>)?;
        // The trainable arrays are those that have moments.
        let prefix = spec.optimiser.moments()[0];
        let parameters =
            weights.order.iter().filter_map(|(name, _)| name.strip_prefix(prefix)).map(Into::into).collect();
        Ok(Self { forward, size: spec.size_px, optimiser: spec.optimiser, weights, parameters })
    }

    fn images(&self, x: Vec<f32>, n: usize) -> std::result::Result<Tensor<Nhwc, f32, D>, D::Err> {
        self.weights.tensor(x, (n, self.size, self.size, 3))
    }

    /// The loss of a batch, and the new running means and variances.
    fn backward(&self, batch: Batch) -> std::result::Result<(Loss<D>, Vec<(String, Vec<f32>)>), D::Err> {
        let x = self.images(batch.x.into_vec(), batch.labels.len())?.retaped::<OwnedTape<f32, D>>();
        let mut pass = Pass::Train { keys: batch.keys, running: Vec::new() };
        let logits = self.forward.logits(&self.weights, x, &mut pass)?;
        let loss = loss(logits, batch.labels, batch.objective)?;
        match pass {
            Pass::Train { running, .. } => Ok((loss, running)),
            Pass::Predict { .. } => unreachable!("the pass is for training"),
        }
    }

    /// Makes one step of the optimiser with every parameter.
    fn update(
        &mut self,
        t: u64,
        learning_rate: f64,
        mut gradients: Gradients<f32, D>,
    ) -> std::result::Result<(), D::Err> {
        for name in &self.parameters {
            let array = |prefix: &str| self.weights.array(&format!("{prefix}{name}")).clone();
            let value = array("");
            // A parameter that no operation used has a gradient of zeros.
            gradients.get_or_alloc_mut(&value)?;
            let g = gradients.get(&value);
            let updated: Vec<(&str, Tensor<(usize,), f32, D>)> = match self.optimiser {
                Optimiser::Adam(adam) => {
                    let s = adam.step(t, learning_rate);
                    let m = array("adam.m.").try_mul(s.beta1)?.try_add(g.clone().try_mul(1.0 - s.beta1)?)?;
                    let v = array("adam.v.").try_mul(s.beta2)?.try_add(g.try_square()?.try_mul(1.0 - s.beta2)?)?;
                    let root = v.clone().try_mul(s.second)?.try_sqrt()?.try_add(s.epsilon)?;
                    let value = value.try_sub(m.clone().try_mul(s.rate)?.try_div(root)?)?;
                    vec![("adam.m.", m), ("adam.v.", v), ("", value)]
                }
                Optimiser::Sgd(sgd) => {
                    let pull = g.try_add(value.clone().try_mul(sgd.weight_decay)?)?;
                    let velocity = array("momentum.").try_mul(sgd.momentum)?.try_add(pull)?;
                    let value = value.try_sub(velocity.clone().try_mul(learning_rate as f32)?)?;
                    vec![("momentum.", velocity), ("", value)]
                }
            };
            for (prefix, array) in updated {
                self.weights.arrays.insert(format!("{prefix}{name}"), array);
            }
        }
        Ok(())
    }
}

impl<D: Device<f32>, F: Forward> Model for Composed<D, F> {
    fn size_px(&self) -> usize {
        self.size
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        let labels = batch.labels;
        let (loss, running) = self.backward(batch).map_err(compute::<F, _>)?;
        let step = step(F::NAME, t, learning_rate, loss.value, &loss.logits, labels)?;
        self.update(t, learning_rate, loss.gradients).map_err(compute::<F, _>)?;
        for (name, values) in running {
            self.weights.set(&name, values).map_err(compute::<F, _>)?;
        }
        Ok(step)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inference> {
        let x = self.images(x.to_vec(), n).map_err(compute::<F, _>)?;
        let mut pass = Pass::predict();
        let logits = self.forward.logits(&self.weights, x, &mut pass).map_err(compute::<F, _>)?;
        let probabilities = logits.as_vec().chunks_exact(logits.shape().1).map(softmax).collect();
        let Pass::Predict { features, width } = pass else { unreachable!("the pass is for prediction") };
        Ok(Inference { probabilities, features, width })
    }

    fn state(&self, with_moments: bool) -> Vec<StateArray<'_>> {
        let prefixes = self.optimiser.moments();
        let is_moment = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let arrays = self.weights.order.iter().filter(|(name, _)| with_moments || !is_moment(name));
        arrays
            .map(|(name, shape)| StateArray {
                name: name.clone(),
                shape: shape.clone(),
                bytes: Box::new(|| bytemuck::cast_slice(&self.weights.values(name)).to_vec()),
            })
            .collect()
    }

    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        let arrays: Vec<(String, Vec<usize>)> =
            self.state(moments).into_iter().map(|array| (array.name, array.shape)).collect();
        for (name, shape) in arrays {
            let values = take(&name, &shape)?;
            self.weights.set(&name, values).map_err(compute::<F, _>)?;
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.parameters.iter().map(|name| self.weights.shape(name).iter().product::<usize>()).sum()
    }
}

/// The error of a computation.
pub(super) fn compute<F: Forward, E: std::fmt::Display>(e: E) -> Error {
    Error::compute(F::NAME, e)
}
