//! W-Net (Jung et al. 2019, "W-Net: A CNN-based Architecture for White Blood Cells Image Classification").
//!
//! Three blocks of convolution 3x3, ReLU, max-pool 2x2 and dropout with 16, 32 and 64 filters; a linear layer of 1,024
//! with ReLU and dropout; a linear layer with one output per class. 16,806,949 parameters
//! at 128 x 128 with five classes. Initial weights are Xavier's
//! (uniform, as in TensorFlow), biases are zero. Activations are `[n, h, w, c]`, filters `[3, 3, c_in, c_out]`, as in
//! TensorFlow.

use super::composed::{Forward, Pass, Weights};
use super::entry::Entry;
use super::grad_cam::GradCam;
use super::model::{Batch, Inference, Model, StateArray, Step};
use super::output::{Loss, logits, loss, softmax, step};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::nn::fused::{self, SharedWeight, values};
use crate::nn::kernel::linear_bf16::PackedWeight;
use crate::nn::kernel::{self, BatchDropout, Block, BlockShape, Dropout, TiledWeight, conv3x3_block_bf16};
use crate::nn::optim::{Adam, Optimiser, Parameter};
use crate::nn::{Nhwc, Precision, Vector, composed};
use crate::seed;
use dfdx::prelude::{Axis, Cpu, Device, HasShape, OwnedTape, Tape, Tensor, TensorFromVec};
use dfdx::tensor_ops::*;
use rand::Rng;
use std::sync::OnceLock;

/// W-Net's registration.
pub const ENTRY: Entry = Entry {
    name: "wnet",
    title: "W-Net",
    size_px: 128,
    last: "fc2",
    dropout: 0.4,
    optimiser: || Optimiser::Adam(Adam::default()),
    validate: |spec| adam(spec).map(drop),
    build_cpu: |spec| Ok(Box::new(WNet::new(spec)?)),
    build_cuda: None,
    grad_cam: |model| GradCam::boxed(model, Layers { dropout: Dropout { p: 0.0 } }),
    flattened: Some(("fc1.weight", FILTERS[2])),
    onnx: |graph, images| {
        let mut x = images.to_string();
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
pub(super) const FILTERS: [usize; 3] = [16, 32, 64];
/// Width of the hidden linear layer.
pub(super) const HIDDEN: usize = 1024;

/// W-Net on the CPU.
pub struct WNet {
    size: usize,
    dropout: Dropout,
    adam: Adam,
    vector: Vector,
    precision: Precision,
    dev: Cpu,
    /// Weight and bias of each convolution.
    convolutions: [(Parameter, Parameter); 3],
    hidden: SharedWeight,
    hidden_bias: Parameter,
    output: Parameter,
    output_bias: Parameter,
    /// What predictions of bf16 read; made by the first of them after the weights have changed.
    packed: OnceLock<PackedWeights>,
}

/// The weights, rounded to bf16 and packed.
struct PackedWeights {
    blocks: Vec<conv3x3_block_bf16::Block>,
    hidden: PackedWeight,
}

/// Checks `spec` and returns the settings of its optimiser.
fn adam(spec: &Spec) -> Result<Adam> {
    if spec.size_px < 8 || !spec.size_px.is_multiple_of(8) {
        let expected = "a multiple of 8 for W-Net, which halves the image three times";
        return Err(Error::setting("preprocess.size_px", expected, spec.size_px));
    }
    match spec.optimiser {
        Optimiser::Adam(adam) => Ok(adam),
        other => Err(Error::setting("train.optimiser", "adam for W-Net", other.name())),
    }
}

impl WNet {
    /// W-Net with new weights.
    ///
    /// # Errors
    /// [`Error::Setting`] where the size is not a multiple of 8 or the optimiser is not Adam.
    pub fn new(spec: &Spec) -> Result<Self> {
        let Spec { size_px: size, classes, seed, fold, dropout, precision, vector, .. } = *spec;
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
        let mut hidden = TiledWeight::zeros(inputs, HIDDEN);
        TiledWeight::set_rows(HIDDEN, &mut hidden.value, &xavier(3, inputs, HIDDEN, inputs * HIDDEN));
        let output = xavier(4, HIDDEN, classes, HIDDEN * classes);
        Ok(Self {
            size,
            dropout: Dropout { p: dropout },
            adam,
            vector,
            precision,
            convolutions,
            hidden: SharedWeight::new(hidden),
            hidden_bias: parameter("fc1.bias", vec![HIDDEN], vec![0.0; HIDDEN]),
            output: parameter("fc2.weight", vec![HIDDEN, classes], output),
            output_bias: parameter("fc2.bias", vec![classes], vec![0.0; classes]),
            packed: OnceLock::new(),
            dev,
        })
    }

    /// `[n, size, size, 3]` → logits `[n, classes]`, on a tape, with dropout by `keys` (one per image).
    fn logits(
        &self,
        x: Vec<f32>,
        keys: &[u64],
    ) -> std::result::Result<Tensor<(usize, usize), f32, Cpu, OwnedTape<f32, Cpu>>, dfdx::tensor::CpuError> {
        let (s, n) = (self.size, keys.len());
        let keys = layer_keys(keys);
        let drop = |layer: usize| batch_dropout(self.dropout, &keys, layer);
        let arithmetic = (self.vector, self.precision);
        let mut x = self.dev.try_tensor_from_vec(x, (n, s, s, 3))?.retaped::<OwnedTape<f32, Cpu>>();
        for (i, (weight, bias)) in self.convolutions.iter().enumerate() {
            // [n, s, s, 3] → [n, s/2, s/2, 16] → [n, s/4, s/4, 32] → [n, s/8, s/8, 64]
            x = fused::conv3x3_block(arithmetic, x, &weight.value, &bias.value, drop(i), i > 0)?;
        }
        let x = x.try_reshape_like(&(n, self.inputs()))?; // [n, 16384]
        let h = fused::linear_block(arithmetic, x, &self.hidden, &self.hidden_bias.value, drop(3))?; // [n, 1024]
        let classes = self.output.shape[1];
        let weight = self.output.value.retaped::<OwnedTape<f32, Cpu>>().try_reshape_like(&(HIDDEN, classes))?;
        let bias = self.output_bias.value.retaped::<OwnedTape<f32, Cpu>>();
        h.try_matmul(weight)?.try_add(bias.try_broadcast_like::<_, Axis<0>>(&(n, classes))?) // [n, classes]
    }

    /// Inputs of the hidden linear layer.
    fn inputs(&self) -> usize {
        (self.size / 8) * (self.size / 8) * FILTERS[2]
    }

    /// Shape, weight and bias of each block.
    fn block_parameters(&self) -> impl Iterator<Item = (BlockShape, [Vec<f32>; 2])> {
        self.convolutions.iter().enumerate().map(|(i, (weight, bias))| {
            let (side, c_out) = (self.size >> i, bias.shape[0]);
            let shape = BlockShape { h: side, w: side, c_in: weight.shape[2], c_out, precision: self.precision };
            (shape, [values(&weight.value), values(&bias.value)])
        })
    }

    fn pack(&self) -> PackedWeights {
        let block = |(shape, [weight, bias]): (BlockShape, [Vec<f32>; 2])| {
            conv3x3_block_bf16::Block::new(self.vector, shape, &weight, bias)
        };
        PackedWeights {
            blocks: self.block_parameters().map(block).collect(),
            hidden: PackedWeight::new(self.vector, &self.hidden.lock()),
        }
    }

    /// All parameters but the hidden layer's weight.
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

    /// Loss, logits and gradients of a batch. Where `hidden.step` is set, the hidden layer's weight is updated.
    pub(super) fn backward(&self, batch: Batch) -> std::result::Result<Loss<Cpu>, dfdx::tensor::CpuError> {
        loss(self.logits(batch.x.into_vec(), batch.keys)?, batch.labels, batch.objective)
    }
}

impl Model for WNet {
    fn size_px(&self) -> usize {
        self.size
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        self.packed.take();
        let labels = batch.labels;
        let adam = self.adam.step(t, learning_rate);
        self.hidden.step = Some(adam);
        let mut loss = self.backward(batch).map_err(compute)?;
        let step = step("W-Net", t, learning_rate, loss.value, &loss.logits, labels)?;
        for parameter in self.small_mut() {
            parameter.update(adam, &mut loss.gradients).map_err(compute)?;
        }
        Ok(step)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inference> {
        // Without gradients no tape is needed: this calls the kernels alone.
        let bias = values(&self.hidden_bias.value);
        let hidden = if self.precision == Precision::Bf16 {
            let packed = self.packed.get_or_init(|| self.pack());
            let features = conv3x3_block_bf16::predict(self.vector, &packed.blocks, x); // [n, 16384]
            packed.hidden.linear(self.vector, &features, n, &bias)
        } else {
            let parameters: Vec<_> = self.block_parameters().collect();
            let blocks: Vec<Block> =
                parameters.iter().map(|(shape, [w, b])| Block::new(self.vector, *shape, w, b)).collect();
            let features = kernel::conv3x3_blocks(self.vector, &blocks, x); // [n, 16384]
            let xt = kernel::transpose(n, self.inputs(), n.next_multiple_of(kernel::IMAGES), &features);
            let mut hidden = vec![0.0; n * HIDDEN];
            kernel::linear(self.vector, &self.hidden.lock(), &xt, n, &bias, None, &mut hidden);
            hidden
        };
        let logits = logits(&hidden, HIDDEN, &values(&self.output.value), &values(&self.output_bias.value));
        let probabilities = logits.iter().map(|l| softmax(l)).collect();
        Ok(Inference { probabilities, features: hidden, width: HIDDEN })
    }

    fn state(&self, moments: bool) -> Vec<StateArray<'_>> {
        let mut arrays = Vec::new();
        let (inputs, outputs) = self.hidden.shape();
        let prefixes: &[&str] = if moments { &["", "adam.m.", "adam.v."] } else { &[""] };
        for (which, prefix) in prefixes.iter().enumerate() {
            let bytes = move || {
                let hidden = self.hidden.lock();
                hidden.row_bytes([&hidden.value, &hidden.m, &hidden.v][which])
            };
            let name = format!("{prefix}fc1.weight");
            arrays.push(StateArray { name, shape: vec![inputs, outputs], bytes: Box::new(bytes) });
        }
        for p in self.small() {
            for (which, prefix) in prefixes.iter().enumerate() {
                let bytes = move || match which {
                    0 => bytemuck::cast_slice(&p.value.as_vec()).to_vec(),
                    1 => bytemuck::cast_slice(&p.m).to_vec(),
                    _ => bytemuck::cast_slice(&p.v).to_vec(),
                };
                let name = format!("{prefix}{}", p.name);
                arrays.push(StateArray { name, shape: p.shape.clone(), bytes: Box::new(bytes) });
            }
        }
        arrays
    }

    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        self.packed.take();
        {
            let (inputs, outputs) = self.hidden.shape();
            let shape = [inputs, outputs];
            let mut hidden = self.hidden.lock();
            TiledWeight::set_rows(outputs, &mut hidden.value, &take("fc1.weight", &shape)?);
            if moments {
                TiledWeight::set_rows(outputs, &mut hidden.m, &take("adam.m.fc1.weight", &shape)?);
                TiledWeight::set_rows(outputs, &mut hidden.v, &take("adam.v.fc1.weight", &shape)?);
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

/// Dropout keys of each layer, derived from the images' keys.
pub(super) fn layer_keys(keys: &[u64]) -> [Vec<u64>; 4] {
    std::array::from_fn(|layer| {
        let mask = (layer as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        keys.iter().map(|k| (k ^ mask).rotate_left(16 * layer as u32)).collect()
    })
}

/// Dropout of a layer, unless no value is dropped.
fn batch_dropout(dropout: Dropout, keys: &[Vec<u64>; 4], layer: usize) -> Option<BatchDropout<'_>> {
    (dropout.p > 0.0).then(|| BatchDropout { dropout, keys: &keys[layer] })
}

/// W-Net in dfdx's operations.
pub struct Layers {
    dropout: Dropout,
}

impl Layers {
    /// The layers, with the dropout of `spec`.
    #[cfg(test)]
    pub fn new(spec: &Spec) -> Self {
        Self { dropout: Dropout { p: spec.dropout } }
    }

    /// The dropout keys of each layer in a training pass.
    fn keys(&self, pass: &Pass) -> Option<[Vec<u64>; 4]> {
        match pass {
            Pass::Train { keys, .. } => Some(layer_keys(keys)),
            Pass::Predict { .. } => None,
        }
    }

    fn drop<'a>(&self, keys: &'a Option<[Vec<u64>; 4]>, layer: usize) -> Option<BatchDropout<'a>> {
        batch_dropout(self.dropout, keys.as_ref()?, layer)
    }
}

impl Forward for Layers {
    const NAME: &'static str = "W-Net";

    fn maps<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        mut x: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<Nhwc, f32, D, T>, D::Err> {
        let keys = self.keys(pass);
        let parameters = |i: usize| ["weight", "bias"].map(|name| weights.get(&format!("conv{}.{name}", i + 1)));
        let last = FILTERS.len() - 1;
        for i in 0..last {
            let [weight, bias] = parameters(i);
            x = composed::conv3x3_block(x, weight, bias, self.drop(&keys, i))?;
        }
        let [weight, bias] = parameters(last);
        composed::conv3x3_relu(x, weight, bias) // [n, 32, 32, 64]
    }

    fn pool<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        maps: Tensor<Nhwc, f32, D, T>,
    ) -> std::result::Result<Tensor<Nhwc, f32, D, T>, D::Err> {
        composed::max_pool_2x2(maps) // [n, 16, 16, 64]
    }

    fn head<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        pooled: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<(usize, usize), f32, D, T>, D::Err> {
        let keys = self.keys(pass);
        let x = composed::dropout(pooled, self.drop(&keys, 2))?;
        let (n, h, w, c) = *x.shape();
        let x = x.try_reshape_like(&(n, h * w * c))?; // [n, 16384]
        let drop = self.drop(&keys, 3);
        let x = composed::linear_block(x, weights.matrix("fc1.weight")?, weights.get("fc1.bias"), drop)?;
        pass.set_features(&x);
        composed::linear(x, weights.matrix("fc2.weight")?, weights.get("fc2.bias")) // [n, classes]
    }
}

fn compute(e: dfdx::tensor::CpuError) -> Error {
    Error::compute("W-Net", e)
}
