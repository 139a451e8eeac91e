//! W-Net (Jung et al. 2019, "W-Net: A CNN-based Architecture for White Blood Cells Image Classification").
//!
//! Three times convolution 3x3, ReLU, max-pool 2x2, dropout with 16, 32 and 64 filters; a linear layer of 1,024 with
//! ReLU and dropout; a linear layer of 5. 16,806,949 parameters at 128 x 128. Xavier's initialisation (uniform, as
//! TensorFlow's), zero biases. Activations are `[n, h, w, c]`, filters `[3, 3, c_in, c_out]`, as in TensorFlow.

use super::composed::{Forward, Pass, Weights, on_cuda};
use super::grad_cam::GradCam;
use super::{Batch, Entry, Inferred, Model, Spec, StateArray, Step, one_hot, softmax, step_of};
use crate::class::Class;
use crate::error::{Error, Result};
use crate::nn::fused::{Drop, SharedWeight, conv_block, linear_block, values};
use crate::nn::kernel::{self, Block, ConvShape, Dropout, Tiled, Vector};
use crate::nn::optim::{Adam, Optimiser, Parameter};
use crate::nn::{Shape4, composed};
use crate::seed;
use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::prelude::{Axis, Cpu, Device, Gradients, HasShape, OwnedTape, SplitTape, Tape, Tensor, TensorFromVec};
use dfdx::tensor_ops::*;
use rand::Rng;
use rayon::prelude::*;

/// W-Net's registration.
pub const ENTRY: Entry = Entry {
    name: "wnet",
    title: "W-Net",
    size_px: 128,
    suits: |spec| adam(spec).map(drop),
    on_cpu: |spec| Ok(Box::new(WNet::new(spec)?)),
    on_cuda: |spec, ordinal| on_cuda(ordinal, spec, &WNet::new(spec)?, Layers::new(spec)),
    grad_cam: |model| GradCam::of(model, Layers { dropout: Dropout { p: 0.0 } }),
    flattened: Some(("fc1.weight", FILTERS[2])),
    onnx: |graph, x| {
        let mut x = x.to_string();
        for i in 1..=FILTERS.len() {
            x = graph.convolution(&x, &format!("conv{i}"), 1);
            x = graph.relu(&x);
            x = graph.max_pool(&x, 2, 2, 0);
        }
        x = graph.flatten(&x);
        x = graph.linear(&x, "fc1");
        x = graph.relu(&x);
        graph.linear(&x, "fc2")
    },
};

/// Filters of the three convolutions.
pub const FILTERS: [usize; 3] = [16, 32, 64];
/// Width of the hidden linear layer.
pub const HIDDEN: usize = 1024;

/// W-Net on the CPU.
pub struct WNet {
    size: usize,
    dropout: Dropout,
    adam: Adam,
    vector: Vector,
    dev: Cpu,
    /// Weight and bias of each convolution.
    convolutions: [(Parameter, Parameter); 3],
    hidden: SharedWeight,
    hidden_bias: Parameter,
    output: Parameter,
    output_bias: Parameter,
}

/// The settings of its optimiser, where `spec` suits it.
fn adam(spec: &Spec) -> Result<Adam> {
    if spec.size_px < 8 || !spec.size_px.is_multiple_of(8) {
        return Err(Error::Setting {
            key: "preprocess.size_px".into(),
            expected: "a multiple of 8 for W-Net's three pools".into(),
            got: spec.size_px.to_string(),
        });
    }
    match spec.optimiser {
        Optimiser::Adam(adam) => Ok(adam),
        other => Err(Error::Setting {
            key: "train.optimiser".into(),
            expected: "adam: W-Net's update is a part of its backward pass".into(),
            got: other.name().into(),
        }),
    }
}

impl WNet {
    /// Fresh weights, drawn from (seed, fold).
    ///
    /// # Errors
    /// [`Error::Setting`] where the size is no multiple of 8, at least 8, or the optimiser is not Adam.
    pub fn new(spec: &Spec) -> Result<Self> {
        let Spec { size_px: size, seed, fold, dropout, vector, .. } = *spec;
        let adam = adam(spec)?;
        let dev = Cpu::seed_from_u64(seed::key(seed, "dfdx", fold, 0, 0));
        let xavier = |layer: u64, fan_in: usize, fan_out: usize, len: usize| -> Vec<f32> {
            let mut rng = seed::rng(seed, "weights", fold, 0, layer);
            let limit = (6.0 / (fan_in + fan_out) as f32).sqrt();
            (0..len).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * limit).collect()
        };
        let parameter = |name, shape: Vec<usize>, values| Parameter::new(&dev, name, shape, values);
        let names = [("conv1.weight", "conv1.bias"), ("conv2.weight", "conv2.bias"), ("conv3.weight", "conv3.bias")];
        let convolutions = std::array::from_fn(|i| {
            let (c_in, c_out) = (if i == 0 { 3 } else { FILTERS[i - 1] }, FILTERS[i]);
            let weight = xavier(i as u64, 9 * c_in, 9 * c_out, 9 * c_in * c_out);
            (
                parameter(names[i].0, vec![3, 3, c_in, c_out], weight),
                parameter(names[i].1, vec![c_out], vec![0.0; c_out]),
            )
        });
        let inputs = (size / 8) * (size / 8) * FILTERS[2];
        let mut tiled = Tiled::zeros(inputs, HIDDEN);
        Tiled::set_rows(HIDDEN, &mut tiled.value, &xavier(3, inputs, HIDDEN, inputs * HIDDEN));
        let output = xavier(4, HIDDEN, Class::COUNT, HIDDEN * Class::COUNT);
        Ok(Self {
            size,
            dropout,
            adam,
            vector,
            convolutions,
            hidden: SharedWeight::new(tiled),
            hidden_bias: parameter("fc1.bias", vec![HIDDEN], vec![0.0; HIDDEN]),
            output: parameter("fc2.weight", vec![HIDDEN, Class::COUNT], output),
            output_bias: parameter("fc2.bias", vec![Class::COUNT], vec![0.0; Class::COUNT]),
            dev,
        })
    }

    /// `[n, size, size, 3]` → logits `[n, 5]`, on a tape, with dropout by `keys` (one an image).
    fn logits(
        &self,
        x: Vec<f32>,
        keys: &[u64],
    ) -> std::result::Result<Tensor<(usize, usize), f32, Cpu, OwnedTape<f32, Cpu>>, dfdx::tensor::CpuError> {
        let (s, n) = (self.size, keys.len());
        let keys = layer_keys(keys);
        let drop = |layer: usize| (self.dropout.p > 0.0).then(|| Drop { dropout: self.dropout, keys: &keys[layer] });
        let mut x = self.dev.try_tensor_from_vec(x, (n, s, s, 3))?.retaped::<OwnedTape<f32, Cpu>>();
        for (i, (weight, bias)) in self.convolutions.iter().enumerate() {
            // [n, s, s, 3] → [n, s/2, s/2, 16] → [n, s/4, s/4, 32] → [n, s/8, s/8, 64]
            x = conv_block(self.vector, x, &weight.value, &bias.value, drop(i), i > 0)?;
        }
        let x = x.try_reshape_like(&(n, self.inputs()))?; // [n, 16384]
        let h = linear_block(self.vector, x, &self.hidden, &self.hidden_bias.value, drop(3))?; // [n, 1024]
        let weight = self.output.value.retaped::<OwnedTape<f32, Cpu>>().try_reshape_like(&(HIDDEN, Class::COUNT))?;
        let bias = self
            .output_bias
            .value
            .retaped::<OwnedTape<f32, Cpu>>()
            .try_broadcast_like::<_, Axis<0>>(&(n, Class::COUNT))?;
        h.try_matmul(weight)?.try_add(bias) // [n, 5]
    }

    /// Inputs of the hidden linear layer.
    fn inputs(&self) -> usize {
        (self.size / 8) * (self.size / 8) * FILTERS[2]
    }

    fn small(&self) -> impl Iterator<Item = &Parameter> {
        self.convolutions.iter().flat_map(|(w, b)| [w, b]).chain([&self.hidden_bias, &self.output, &self.output_bias])
    }

    fn small_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.convolutions.iter_mut().flat_map(|(w, b)| [w, b]).chain([
            &mut self.hidden_bias,
            &mut self.output,
            &mut self.output_bias,
        ])
    }

    /// Loss, logits and gradients of a batch; where `hidden.step` is armed, FC1 has been updated.
    fn backward(
        &self,
        batch: Batch,
    ) -> std::result::Result<(f32, Vec<f32>, Gradients<f32, Cpu>), dfdx::tensor::CpuError> {
        let n = batch.labels.len();
        let targets = self.dev.try_tensor_from_vec(one_hot(batch.labels), (n, Class::COUNT))?;
        let logits = self.logits(batch.x, batch.keys)?;
        let (plain, tape) = logits.split_tape();
        let values = plain.as_vec();
        let logits = dfdx::prelude::PutTape::put_tape(plain, tape);
        let loss = cross_entropy_with_logits_loss(logits, targets);
        let value = loss.as_vec()[0];
        Ok((value, values, loss.try_backward()?))
    }
}

impl Model for WNet {
    fn size_px(&self) -> usize {
        self.size
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        let labels = batch.labels;
        let step = self.adam.step(t, learning_rate);
        self.hidden.step = Some(step);
        let (loss, logits, mut gradients) = self.backward(batch).map_err(compute)?;
        let told = step_of("W-Net", t, learning_rate, loss, &logits, labels)?;
        for parameter in self.small_mut() {
            parameter.update(step, &mut gradients).map_err(compute)?;
        }
        Ok(told)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inferred> {
        // Without a gradient there is nothing for a tape: the kernels alone.
        let parameters: Vec<[Vec<f32>; 2]> =
            self.convolutions.iter().map(|(weight, bias)| [values(&weight.value), values(&bias.value)]).collect();
        let blocks: Vec<Block> = parameters
            .iter()
            .enumerate()
            .map(|(i, [weight, bias])| {
                let side = self.size >> i;
                let shape = ConvShape { h: side, w: side, c_in: weight.len() / 9 / bias.len(), c_out: bias.len() };
                Block::new(self.vector, shape, weight, bias)
            })
            .collect();
        let features = kernel::blocks_forward(self.vector, &blocks, x); // [n, 16384]
        let xt = kernel::transpose(n, self.inputs(), n.next_multiple_of(kernel::LANES), &features);
        let mut hidden = vec![0.0; n * HIDDEN];
        kernel::linear_forward(
            self.vector,
            &self.hidden.lock(),
            &xt,
            n,
            &values(&self.hidden_bias.value),
            None,
            &mut hidden,
        );
        let (weight, bias) = (values(&self.output.value), values(&self.output_bias.value));
        let probabilities = |h: &[f32]| {
            let mut logits: [f32; Class::COUNT] = std::array::from_fn(|class| bias[class]);
            for (h, w) in h.iter().zip(weight.as_chunks::<{ Class::COUNT }>().0) {
                logits.iter_mut().zip(w).for_each(|(logit, w)| *logit += h * w);
            }
            softmax(&logits)
        };
        let probabilities = hidden.par_chunks(HIDDEN).map(probabilities).collect();
        Ok(Inferred { probabilities, features: hidden, width: HIDDEN })
    }

    fn state(&self, moments: bool) -> Vec<StateArray<'_>> {
        let mut arrays = Vec::new();
        let (inputs, outputs) = self.hidden.shape();
        let kinds: &[&str] = if moments { &["", "adam.m.", "adam.v."] } else { &[""] };
        for (which, kind) in kinds.iter().enumerate() {
            let bytes = move || {
                let tiled = self.hidden.lock();
                tiled.row_bytes([&tiled.value, &tiled.m, &tiled.v][which])
            };
            let name = format!("{kind}fc1.weight");
            arrays.push(StateArray { name, shape: vec![inputs, outputs], bytes: Box::new(bytes) });
        }
        for p in self.small() {
            for (which, kind) in kinds.iter().enumerate() {
                let bytes = move || match which {
                    0 => bytemuck::cast_slice(&p.value.as_vec()).to_vec(),
                    1 => bytemuck::cast_slice(&p.m).to_vec(),
                    _ => bytemuck::cast_slice(&p.v).to_vec(),
                };
                let name = format!("{kind}{}", p.name);
                arrays.push(StateArray { name, shape: p.shape.clone(), bytes: Box::new(bytes) });
            }
        }
        arrays
    }

    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        {
            let (inputs, outputs) = self.hidden.shape();
            let shape = [inputs, outputs];
            let mut tiled = self.hidden.lock();
            Tiled::set_rows(outputs, &mut tiled.value, &take("fc1.weight", &shape)?);
            if moments {
                Tiled::set_rows(outputs, &mut tiled.m, &take("adam.m.fc1.weight", &shape)?);
                Tiled::set_rows(outputs, &mut tiled.v, &take("adam.v.fc1.weight", &shape)?);
            }
        }
        for p in self.small_mut() {
            p.value.copy_from(&take(p.name, &p.shape)?);
            if moments {
                p.m = take(&format!("adam.m.{}", p.name), &p.shape)?;
                p.v = take(&format!("adam.v.{}", p.name), &p.shape)?;
            }
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        let (inputs, outputs) = self.hidden.shape();
        inputs * outputs + self.small().map(|p| p.m.len()).sum::<usize>()
    }
}

/// Dropout's keys a layer: the image's, turned.
fn layer_keys(keys: &[u64]) -> [Vec<u64>; 4] {
    std::array::from_fn(|layer| {
        let turn = (layer as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        keys.iter().map(|k| (k ^ turn).rotate_left(16 * layer as u32)).collect()
    })
}

/// W-Net in dfdx's operations.
pub struct Layers {
    dropout: Dropout,
}

impl Layers {
    pub fn new(spec: &Spec) -> Self {
        Self { dropout: spec.dropout }
    }

    /// Keys of a training pass's dropout, a layer.
    fn keys(&self, pass: &Pass) -> Option<[Vec<u64>; 4]> {
        match pass {
            Pass::Train { keys, .. } if self.dropout.p > 0.0 => Some(layer_keys(keys)),
            _ => None,
        }
    }

    fn drop<'a>(&self, keys: &'a Option<[Vec<u64>; 4]>, layer: usize) -> Option<Drop<'a>> {
        keys.as_ref().map(|keys| Drop { dropout: self.dropout, keys: &keys[layer] })
    }
}

impl Forward for Layers {
    const NAME: &'static str = "W-Net";

    fn maps<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        mut x: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<Shape4, f32, D, T>, D::Err> {
        let keys = self.keys(pass);
        let parameters = |i: usize| ["weight", "bias"].map(|what| weights.get(&format!("conv{}.{what}", i + 1)));
        let last = FILTERS.len() - 1;
        for i in 0..last {
            let [weight, bias] = parameters(i);
            x = composed::conv_block(x, weight, bias, self.drop(&keys, i))?;
        }
        let [weight, bias] = parameters(last);
        composed::conv_relu(x, weight, bias) // [n, 32, 32, 64]
    }

    fn pooled<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        maps: Tensor<Shape4, f32, D, T>,
    ) -> std::result::Result<Tensor<Shape4, f32, D, T>, D::Err> {
        composed::halve(maps) // [n, 16, 16, 64]
    }

    fn head<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        pooled: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<(usize, usize), f32, D, T>, D::Err> {
        let keys = self.keys(pass);
        let x = composed::dropout(pooled, self.drop(&keys, 2))?;
        let (n, h, w, c) = *x.shape();
        let x = x.try_reshape_like(&(n, h * w * c))?; // [n, 16384]
        let drop = self.drop(&keys, 3);
        let x = composed::linear_block(x, weights.matrix("fc1.weight")?, weights.get("fc1.bias"), drop)?;
        pass.keep(&x);
        composed::linear(x, weights.matrix("fc2.weight")?, weights.get("fc2.bias")) // [n, 5]
    }
}

fn compute(e: dfdx::tensor::CpuError) -> Error {
    Error::Compute { what: "W-Net".into(), message: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prediction takes other kernels than training: without dropout the two are the same function.
    #[test]
    fn prediction_is_the_forward_pass_of_training() {
        for vector in Vector::every() {
            for (size, n) in [(32, 33), (40, 3), (224, 1)] {
                let model = WNet::new(&Spec {
                    size_px: size,
                    seed: 3,
                    fold: 0,
                    dropout: Dropout { p: 0.0 },
                    optimiser: Optimiser::default(),
                    zero_init_residual: false,
                    vector,
                })
                .unwrap();
                let mut rng = seed::rng(1, "test", 0, 0, 0);
                let draw = |_| rng.next_u32() as f32 / u32::MAX as f32 * 4.0 - 2.0;
                let x: Vec<f32> = (0..n * size * size * 3).map(draw).collect();
                let found = model.predict(&x, n).unwrap();
                let (labels, keys) = (vec![0; n], vec![0; n]);
                let (_, logits, _) = model.backward(Batch { x, labels: &labels, keys: &keys }).unwrap();
                for (found, logits) in found.iter().zip(logits.chunks_exact(Class::COUNT)) {
                    for (f, e) in found.iter().zip(softmax(logits)) {
                        assert!((f - e).abs() < 1e-5, "{size} px, {vector:?}: {found:?} and {:?}", softmax(logits));
                    }
                }
            }
        }
    }
}
