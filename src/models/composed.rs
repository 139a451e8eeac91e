//! A network by dfdx's own operations, on any of its devices: the CUDA path. Weights, names and dropout's choices are
//! those of the same network on the CPU, so that a checkpoint of the one is a checkpoint of the other.

use super::{Batch, Inferred, Model, Spec, StateArray, Step, one_hot, softmax, step_of};
use crate::class::Class;
use crate::error::{Error, Result};
use crate::nn::Shape4;
use crate::nn::optim::Optimiser;
use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::prelude::*;
use std::collections::BTreeMap;

type Logits<D, T> = std::result::Result<Tensor<(usize, usize), f32, D, T>, <D as HasErr>::Err>;
type Maps<D, T> = std::result::Result<Tensor<Shape4, f32, D, T>, <D as HasErr>::Err>;

/// An architecture in operations of [`crate::nn::composed`].
pub trait Forward {
    /// Its name in errors.
    const NAME: &'static str;

    /// The last convolutional maps `[n, h, w, c]` of pictures `[n, size, size, 3]`: behind their ReLU, before pooling.
    fn maps<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        x: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> Maps<D, T>;

    /// The maps as [`Forward::head`] reads them.
    fn pooled<D: Device<f32>, T: Tape<f32, D>>(&self, maps: Tensor<Shape4, f32, D, T>) -> Maps<D, T> {
        Ok(maps)
    }

    /// Logits `[n, 5]` of pooled maps.
    fn head<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        pooled: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> Logits<D, T>;

    /// Logits `[n, 5]` of pictures `[n, size, size, 3]`.
    fn logits<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        x: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> Logits<D, T> {
        let maps = self.maps(weights, x, pass)?;
        self.head(weights, self.pooled(maps)?, pass)
    }
}

/// Which pass through a network it is.
pub enum Pass<'a> {
    Train {
        /// A key an image for dropout.
        keys: &'a [u64],
        /// What the pass changes besides the weights, by name: running means and variances.
        learned: Vec<(String, Vec<f32>)>,
    },
    Predict {
        /// What the last layer reads, and how much of it a picture has.
        features: Vec<f32>,
        width: usize,
    },
}

impl Pass<'_> {
    /// Keeps what the last layer reads, in a prediction.
    pub fn keep<D: Device<f32>, T>(&mut self, x: &Tensor<(usize, usize), f32, D, T>) {
        if let Pass::Predict { features, width } = self {
            (*features, *width) = (x.as_vec(), x.shape().1);
        }
    }
}

/// A network's arrays on a device.
pub struct Weights<D: Device<f32>> {
    dev: D,
    /// Name and shape, in the checkpoint's order.
    order: Vec<(String, Vec<usize>)>,
    arrays: BTreeMap<String, Tensor<(usize,), f32, D>>,
}

impl<D: Device<f32>> Weights<D> {
    /// A model's arrays on `dev`.
    pub fn new(dev: D, state: &[StateArray]) -> std::result::Result<Self, D::Err> {
        let order = state.iter().map(|a| (a.name.clone(), a.shape.clone())).collect();
        let mut weights = Self { dev, order, arrays: BTreeMap::new() };
        for array in state {
            weights.set(&array.name, bytemuck::pod_collect_to_vec(&(array.bytes)()))?;
        }
        Ok(weights)
    }

    /// Numbers on the same device.
    pub fn tensor<S: Shape>(&self, values: Vec<f32>, shape: S) -> std::result::Result<Tensor<S, f32, D>, D::Err> {
        self.dev.try_tensor_from_vec(values, shape)
    }

    fn array(&self, name: &str) -> &Tensor<(usize,), f32, D> {
        self.arrays.get(name).unwrap_or_else(|| panic!("the network has no array {name}"))
    }

    /// An array, flat.
    pub fn get<T: Tape<f32, D>>(&self, name: &str) -> Tensor<(usize,), f32, D, T> {
        self.array(name).retaped::<T>()
    }

    /// A matrix.
    pub fn matrix<T: Tape<f32, D>>(&self, name: &str) -> Logits<D, T> {
        let shape = self.shape(name);
        self.get::<T>(name).try_reshape_like(&(shape[0], shape[1]))
    }

    /// An array's shape.
    pub fn shape(&self, name: &str) -> &[usize] {
        let found = self.order.iter().find(|(n, _)| n == name);
        &found.unwrap_or_else(|| panic!("the network has no array {name}")).1
    }

    /// An array's numbers.
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

/// See the module.
pub struct Composed<D: Device<f32>, F> {
    forward: F,
    size: usize,
    optimiser: Optimiser,
    weights: Weights<D>,
    parameters: Vec<String>,
}

/// What an optimiser keeps for a parameter: the prefixes of its names.
fn kept(optimiser: &Optimiser) -> &'static [&'static str] {
    match optimiser {
        Optimiser::Adam(_) => &["adam.m.", "adam.v."],
        Optimiser::Sgd(_) => &["momentum."],
    }
}

impl<D: Device<f32>, F: Forward> Composed<D, F> {
    /// `cpu`'s weights on `dev`.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device has no room for them.
    pub fn new(dev: D, spec: &Spec, cpu: &dyn Model, forward: F) -> Result<Self> {
        let weights = Weights::new(dev, &cpu.state(true)).map_err(compute::<F, _>)?;
        let moment = format!("{}{{}}", kept(&spec.optimiser)[0]);
        let has = |name: &str| weights.order.iter().any(|(n, _)| *n == moment.replace("{}", name));
        let parameters = weights.order.iter().map(|(n, _)| n.clone()).filter(|n| has(n)).collect();
        Ok(Self { forward, size: spec.size_px, optimiser: spec.optimiser, weights, parameters })
    }

    fn pictures(&self, x: Vec<f32>, n: usize) -> std::result::Result<Tensor<Shape4, f32, D>, D::Err> {
        self.weights.tensor(x, (n, self.size, self.size, 3))
    }

    /// Loss, logits, gradients, and what the pass changed besides.
    fn backward(&self, batch: Batch) -> std::result::Result<Told<D>, D::Err> {
        let n = batch.labels.len();
        let targets = self.weights.tensor(one_hot(batch.labels), (n, Class::COUNT))?;
        let x = self.pictures(batch.x, n)?.retaped::<OwnedTape<f32, D>>();
        let mut pass = Pass::Train { keys: batch.keys, learned: Vec::new() };
        let logits = self.forward.logits(&self.weights, x, &mut pass)?;
        let (plain, tape) = logits.split_tape();
        let values = plain.as_vec();
        let loss = cross_entropy_with_logits_loss(plain.put_tape(tape), targets);
        let value = loss.as_vec()[0];
        let learned = match pass {
            Pass::Train { learned, .. } => learned,
            Pass::Predict { .. } => Vec::new(),
        };
        Ok(Told { loss: value, logits: values, gradients: loss.try_backward()?, learned })
    }

    /// One step of the optimiser on every parameter.
    fn update(
        &mut self,
        t: u64,
        learning_rate: f64,
        mut gradients: Gradients<f32, D>,
    ) -> std::result::Result<(), D::Err> {
        for name in &self.parameters {
            let array = |prefix: &str| self.weights.array(&format!("{prefix}{name}")).clone();
            let value = array("");
            // What no operation used has a gradient of zeros.
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

/// What a pass there and back found.
struct Told<D: Device<f32>> {
    loss: f32,
    logits: Vec<f32>,
    gradients: Gradients<f32, D>,
    learned: Vec<(String, Vec<f32>)>,
}

impl<D: Device<f32>, F: Forward> Model for Composed<D, F> {
    fn size_px(&self) -> usize {
        self.size
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        let labels = batch.labels;
        let told = self.backward(batch).map_err(compute::<F, _>)?;
        let step = step_of(F::NAME, t, learning_rate, told.loss, &told.logits, labels)?;
        self.update(t, learning_rate, told.gradients).map_err(compute::<F, _>)?;
        for (name, values) in told.learned {
            self.weights.set(&name, values).map_err(compute::<F, _>)?;
        }
        Ok(step)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inferred> {
        let x = self.pictures(x.to_vec(), n).map_err(compute::<F, _>)?;
        let mut pass = Pass::Predict { features: Vec::new(), width: 0 };
        let logits = self.forward.logits(&self.weights, x, &mut pass).map_err(compute::<F, _>)?;
        let probabilities = logits.as_vec().chunks_exact(Class::COUNT).map(softmax).collect();
        let Pass::Predict { features, width } = pass else { unreachable!("it was made above") };
        Ok(Inferred { probabilities, features, width })
    }

    fn state(&self, moments: bool) -> Vec<StateArray<'_>> {
        let kept = kept(&self.optimiser);
        let wanted = self.weights.order.iter().filter(|(name, _)| moments || !kept.iter().any(|k| name.starts_with(k)));
        wanted
            .map(|(name, shape)| StateArray {
                name: name.clone(),
                shape: shape.clone(),
                bytes: Box::new(|| bytemuck::cast_slice(&self.weights.values(name)).to_vec()),
            })
            .collect()
    }

    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        let wanted: Vec<(String, Vec<usize>)> =
            self.state(moments).into_iter().map(|array| (array.name, array.shape)).collect();
        for (name, shape) in wanted {
            let values = take(&name, &shape)?;
            self.weights.set(&name, values).map_err(compute::<F, _>)?;
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        self.parameters.iter().map(|name| self.weights.shape(name).iter().product::<usize>()).sum()
    }
}

/// The network on CUDA device `ordinal`.
///
/// # Errors
/// [`Error::Setting`] where this `wbc` was built without CUDA, or the machine has no such device.
pub fn on_cuda<F: Forward + 'static>(
    ordinal: usize,
    spec: &Spec,
    cpu: &dyn Model,
    forward: F,
) -> Result<Box<dyn Model>> {
    let refuse =
        |expected: &str, got: String| Err(Error::Setting { key: "device".into(), expected: expected.into(), got });
    #[cfg(feature = "cuda")]
    return match dfdx::tensor::Cuda::try_build(ordinal, spec.seed) {
        Ok(dev) => Ok(Box::new(Composed::new(dev, spec, cpu, forward)?)),
        Err(error) => {
            refuse("a CUDA device that this machine has (see nvidia-smi), or cpu", format!("cuda:{ordinal} ({error})"))
        }
    };
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (spec, cpu, forward);
        let expected = "cpu: this wbc was built without CUDA (cargo install --path . --features cuda)";
        refuse(expected, format!("cuda:{ordinal}"))
    }
}

pub(super) fn compute<F: Forward, E: std::fmt::Display>(e: E) -> Error {
    Error::Compute { what: F::NAME.into(), message: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::{resnet50, wnet};
    use super::*;
    use crate::nn::drawn;
    use crate::nn::kernel::{Dropout, Vector};
    use crate::nn::optim::{Adam, Sgd};

    fn numbers(model: &dyn Model) -> Vec<(String, Vec<f32>)> {
        let array = |a: StateArray| (a.name, bytemuck::pod_collect_to_vec(&(a.bytes)()));
        model.state(true).into_iter().map(array).collect()
    }

    /// Both ways from the same weights: the same loss, the same step, the same prediction; and each loads what the other
    /// saved.
    fn assert_twins(spec: &Spec, n: usize, cpu: &mut dyn Model, twin: &mut dyn Model, close: f32) {
        let x = drawn(n * spec.size_px * spec.size_px * 3, 5);
        let labels: Vec<usize> = (0..n).map(|i| i % Class::COUNT).collect();
        let keys: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        assert_eq!(cpu.parameters(), twin.parameters());
        let batch = Batch { x: x.clone(), labels: &labels, keys: &keys };
        let again = Batch { x: x.clone(), labels: &labels, keys: &keys };
        let (a, b) = (cpu.train(batch, 1, 1e-3).unwrap(), twin.train(again, 1, 1e-3).unwrap());
        assert!((a.loss - b.loss).abs() < close * a.loss, "{} and {}", a.loss, b.loss);
        for ((name, a), (other, b)) in numbers(cpu).into_iter().zip(numbers(twin)) {
            assert_eq!((&name, a.len()), (&other, b.len()));
            let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let apart = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
            let size = norm(&mut a.iter().copied()).max(1e-6);
            assert!(apart < 3.0 * f64::from(close) * size, "{name}: {apart} of {size} apart");
        }
        let saved: BTreeMap<String, Vec<f32>> = numbers(cpu).into_iter().collect();
        twin.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
        assert_eq!(numbers(twin), numbers(cpu), "bit for bit");
        let (a, b) = (cpu.infer(&x, n).unwrap(), twin.infer(&x, n).unwrap());
        assert_eq!((a.width, a.features.len()), (b.width, b.features.len()));
        let pairs = a.probabilities.as_flattened().iter().zip(b.probabilities.as_flattened());
        for (a, b) in pairs.chain(a.features.iter().zip(&b.features)) {
            assert!((a - b).abs() < 10.0 * close, "{a} and {b}");
        }
    }

    fn spec(size_px: usize, dropout: f32, optimiser: Optimiser) -> Spec {
        let (dropout, vector) = (Dropout { p: dropout }, Vector::detect());
        Spec { size_px, seed: 1, fold: 0, dropout, optimiser, zero_init_residual: false, vector }
    }

    #[test]
    fn wnet_is_the_same_by_both_ways() {
        let spec = spec(32, 0.4, Optimiser::Adam(Adam::default()));
        let mut cpu = wnet::WNet::new(&spec).unwrap();
        let mut twin = Composed::new(Cpu::seed_from_u64(0), &spec, &cpu, wnet::Layers::new(&spec)).unwrap();
        assert_twins(&spec, 3, &mut cpu, &mut twin, 1e-4);
    }

    #[test]
    fn resnet50_is_the_same_by_both_ways() {
        for vector in Vector::every() {
            let spec = Spec { vector, ..spec(64, 0.0, Optimiser::Sgd(Sgd::default())) };
            let mut cpu = resnet50::ResNet50::new(&spec).unwrap();
            // Blocks near their shortcuts: behind fifty layers of fresh weights a gradient is mostly amplified rounding,
            // and where a value is 0 but for rounding, ReLU may cut it on one side alone (of these pictures, none).
            let mut saved: BTreeMap<String, Vec<f32>> = numbers(&cpu).into_iter().collect();
            let last = |name: &str| name.ends_with("bn3.weight") && !name.starts_with("momentum.");
            saved.iter_mut().filter(|(name, _)| last(name)).for_each(|(_, scale)| scale.fill(0.02));
            cpu.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
            let mut twin = Composed::new(Cpu::seed_from_u64(0), &spec, &cpu, resnet50::Layers).unwrap();
            assert_twins(&spec, 4, &mut cpu, &mut twin, 1e-3);
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_there_is_refused() {
        for entry in &super::super::MODELS {
            let optimiser = if entry.name == "wnet" { Optimiser::default() } else { Optimiser::Sgd(Sgd::default()) };
            let refused = entry.build(&spec(32, 0.0, optimiser), crate::nn::device::Device::Cuda(0)).err().unwrap();
            let text = refused.to_string();
            assert!(text.contains("device") && text.contains("--features cuda") && text.contains("cuda:0"), "{text}");
        }
    }
}
