//! ResNet50 (He et al. 2015, "Deep Residual Learning for Image Recognition"), as Jung et al. 2019 set it beside W-Net.
//!
//! Bottleneck blocks of three convolutions, each with a batch normalisation, in four stages of 3, 4, 6 and 3; the stride
//! of a stage is in the 3x3 convolution of its first block, as in PyTorch's `torchvision` (the paper of 2015 had it in the 1x1
//! before). The convolutions have biases, as the paper's 23,544,837 trainable parameters say. Under a batch
//! normalisation a bias has no effect on training and no gradient; it only moves the running mean.
//!
//! Names are torchvision's; filters are `[kernel, kernel, c_in, c_out]`, activations `[n, h, w, c]`. The body is one
//! operation on dfdx's tape, whose forward pass keeps each convolution's result and nothing else that can be made again
//! from it; its backward pass moves the weights as soon as it has their gradient, so that gradients take no memory.

use super::composed::{Forward, Pass, Weights, on_cuda};
use super::grad_cam::GradCam;
use super::onnx::Graph;
use super::{Batch, Entry, Inferred, Model, Spec, StateArray, Step, one_hot, softmax, step_of};
use crate::class::Class;
use crate::error::{Error, Result};
use crate::nn::kernel::Vector;
use crate::nn::kernel::convolution::{self, Convolution, Input};
use crate::nn::kernel::norm::{self, Normal, Shortcut};
use crate::nn::optim::{Optimiser, Sgd};
use crate::nn::{Shape4, composed};
use crate::seed;
use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::prelude::{Axis, Cpu, Device, HasShape, SplitTape, Tape, Tensor, TensorFromVec, Trace};
use dfdx::tensor::PutTape;
use dfdx::tensor_ops::*;
use rand::Rng;
use rayon::prelude::*;

/// ResNet50's registration.
pub const ENTRY: Entry = Entry {
    name: "resnet50",
    title: "ResNet50",
    size_px: 224,
    suits: |spec| sgd(spec).map(drop),
    on_cpu: |spec| Ok(Box::new(ResNet50::new(spec)?)),
    on_cuda: |spec, ordinal| on_cuda(ordinal, spec, &ResNet50::new(spec)?, Layers),
    grad_cam: |model| GradCam::of(model, Layers),
    flattened: None,
    onnx: |graph, x| {
        let layer = |graph: &mut Graph, x: &str, conv: &str, norm: &str, stride: usize| {
            let z = graph.convolution(x, conv, stride);
            graph.batch_norm(&z, norm, EPSILON)
        };
        let mut x = layer(graph, x, "conv1", "bn1", 2);
        x = graph.relu(&x);
        x = graph.max_pool(&x, 3, 2, 1);
        for (name, number, stride) in block_names() {
            let part = |graph: &mut Graph, x: &str, i: usize, stride: usize| {
                layer(graph, x, &format!("{name}.conv{i}"), &format!("{name}.bn{i}"), stride)
            };
            let mut y = part(graph, &x, 1, 1);
            y = graph.relu(&y);
            y = part(graph, &y, 2, stride);
            y = graph.relu(&y);
            y = part(graph, &y, 3, 1);
            if number == 0 {
                x = layer(graph, &x, &format!("{name}.downsample.0"), &format!("{name}.downsample.1"), stride);
            }
            y = graph.add(&y, &x);
            x = graph.relu(&y);
        }
        x = graph.mean_pool(&x);
        x = graph.flatten(&x);
        graph.linear(&x, "fc")
    },
};

/// Blocks a stage.
const BLOCKS: [usize; 4] = [3, 4, 6, 3];
/// Channels of a stage's inner convolutions; its output has four times as many.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];
const EXPANSION: usize = 4;
/// Channels behind the last stage.
const FEATURES: usize = WIDTHS[3] * EXPANSION;
/// Added to a variance (PyTorch's).
const EPSILON: f32 = 1e-5;
/// A batch's share in the running mean and variance (PyTorch's).
const RUNNING: f32 = 0.1;

/// Each block's name, its number in its stage, and its stride.
fn block_names() -> impl Iterator<Item = (String, usize, usize)> {
    let stages = BLOCKS.into_iter().enumerate();
    stages.flat_map(|(stage, count)| {
        (0..count).map(move |number| {
            let stride = if stage > 0 && number == 0 { 2 } else { 1 };
            (format!("layer{}.{number}", stage + 1), number, stride)
        })
    })
}

/// One trainable array.
struct Parameter {
    name: String,
    shape: Vec<usize>,
    value: Vec<f32>,
    velocity: Vec<f32>,
}

impl Parameter {
    fn new(name: String, shape: Vec<usize>, value: Vec<f32>) -> Self {
        assert_eq!(value.len(), shape.iter().product::<usize>());
        Self { name, shape, velocity: vec![0.0; value.len()], value }
    }

    fn step(&mut self, (sgd, rate): (Sgd, f32), gradient: Option<&[f32]>) {
        sgd.step(rate, &mut self.value, &mut self.velocity, gradient);
    }
}

/// A convolution and its batch normalisation.
struct Layer {
    conv: Convolution,
    weight: Parameter,
    bias: Parameter,
    gamma: Parameter,
    beta: Parameter,
    /// Name, value: mean and variance over all training so far.
    running: [(String, Vec<f32>); 2],
}

impl Layer {
    /// He's initialisation (normal, by the outputs, as torchvision's).
    fn new(names: (&str, &str), conv: Convolution, rng: &mut seed::Pcg64) -> Self {
        let Convolution { kernel, c_in, c_out, .. } = conv;
        let deviation = (2.0 / (kernel * kernel * c_out) as f32).sqrt();
        let weight = (0..conv.weight_len()).map(|_| normal(rng) * deviation).collect();
        let own = |of: &str, what: &str| format!("{of}.{what}");
        let (conv_name, norm) = names;
        Self {
            conv,
            weight: Parameter::new(own(conv_name, "weight"), vec![kernel, kernel, c_in, c_out], weight),
            bias: Parameter::new(own(conv_name, "bias"), vec![c_out], vec![0.0; c_out]),
            gamma: Parameter::new(own(norm, "weight"), vec![c_out], vec![1.0; c_out]),
            beta: Parameter::new(own(norm, "bias"), vec![c_out], vec![0.0; c_out]),
            running: [(own(norm, "running_mean"), vec![0.0; c_out]), (own(norm, "running_var"), vec![1.0; c_out])],
        }
    }

    fn parameters(&self) -> [&Parameter; 4] {
        [&self.weight, &self.bias, &self.gamma, &self.beta]
    }

    fn parameters_mut(&mut self) -> [&mut Parameter; 4] {
        [&mut self.weight, &mut self.bias, &mut self.gamma, &mut self.beta]
    }

    /// The convolution's result (without the bias) and the normalisation by the batch's own mean and variance, which go
    /// into the running ones.
    fn train(&mut self, vector: Vector, input: Input, n: usize) -> Done {
        let (c, count) = (self.conv.c_out, n * self.conv.out_h() * self.conv.out_w());
        let mut z = vec![0.0; n * self.conv.y_len()];
        let mut sums = vec![0.0; n * 2 * c];
        convolution::forward(vector, self.conv, input, &self.weight.value, &mut z, Some(&mut sums));
        let (mean, variance) = norm::moments(&sums, c, count);
        let [(_, running_mean), (_, running_variance)] = &mut self.running;
        let running = [std::mem::take(running_mean), std::mem::take(running_variance)];
        let batch = [mean.clone(), variance.clone()];
        [*running_mean, *running_variance] = moved(running, batch, &self.bias.value, count);
        let normal = Normal::new(&self.gamma.value, &self.beta.value, mean, &variance, EPSILON);
        Done { z, normal }
    }

    /// The same by the running mean and variance.
    fn predict(&self, vector: Vector, input: Input, n: usize) -> Done {
        let mut z = vec![0.0; n * self.conv.y_len()];
        convolution::forward(vector, self.conv, input, &self.weight.value, &mut z, None);
        let [(_, mean), (_, variance)] = &self.running;
        let mean = mean.iter().zip(&self.bias.value).map(|(m, b)| m - b).collect();
        Done { z, normal: Normal::new(&self.gamma.value, &self.beta.value, mean, variance, EPSILON) }
    }

    /// From the gradient `d` of what stands behind the normalisation (and ReLU) back through both and the convolution: adds
    /// the input's gradient to `dx` where it is wanted, then moves the layer's parameters.
    fn backward(
        &mut self,
        vector: Vector,
        done: &Done,
        relu: bool,
        input: Input,
        mut d: Vec<f32>,
        dx: Option<&mut [f32]>,
        step: (Sgd, f32),
    ) {
        let pixels = self.conv.out_h() * self.conv.out_w();
        let [gamma, beta] = norm::backward(vector, &done.normal, relu, &done.z, &mut d, pixels);
        let weight = convolution::backward_weight(vector, self.conv, input, &d);
        if let Some(dx) = dx {
            convolution::backward_input(vector, self.conv, &d, &self.weight.value, dx);
        }
        self.weight.step(step, Some(&weight));
        self.bias.step(step, None);
        self.gamma.step(step, Some(&gamma));
        self.beta.step(step, Some(&beta));
    }
}

/// What a layer's forward pass leaves: the convolution's result, and how it is normalised.
struct Done {
    z: Vec<f32>,
    normal: Normal,
}

impl Done {
    fn relu(&self) -> Input<'_> {
        self.normal.relu(&self.z)
    }
}

/// A bottleneck block.
struct Bottleneck {
    /// 1x1, 3x3, 1x1.
    layers: [Layer; 3],
    /// The shortcut's 1x1 convolution, where the shape changes.
    downsample: Option<Layer>,
}

/// What a block's forward pass leaves.
struct BlockDone {
    layers: [Done; 3],
    downsample: Option<Done>,
    out: Vec<f32>,
}

impl Bottleneck {
    fn train(&mut self, vector: Vector, x: &[f32], n: usize) -> BlockDone {
        let [first, second, third] = &mut self.layers;
        let one = first.train(vector, Input::Plain(x), n);
        let two = second.train(vector, one.relu(), n);
        let three = third.train(vector, two.relu(), n);
        let downsample = self.downsample.as_mut().map(|layer| layer.train(vector, Input::Plain(x), n));
        Self::joined(vector, x, [one, two, three], downsample)
    }

    fn predict(&self, vector: Vector, x: &[f32], n: usize) -> Vec<f32> {
        let [first, second, third] = &self.layers;
        let one = first.predict(vector, Input::Plain(x), n);
        let two = second.predict(vector, one.relu(), n);
        let three = third.predict(vector, two.relu(), n);
        let downsample = self.downsample.as_ref().map(|layer| layer.predict(vector, Input::Plain(x), n));
        Self::joined(vector, x, [one, two, three], downsample).out
    }

    fn joined(vector: Vector, x: &[f32], layers: [Done; 3], downsample: Option<Done>) -> BlockDone {
        let shortcut = match &downsample {
            Some(done) => Shortcut::Normed(&done.z, &done.normal),
            None => Shortcut::Same(x),
        };
        let out = norm::join(vector, &layers[2].z, &layers[2].normal, shortcut);
        BlockDone { layers, downsample, out }
    }

    /// From the gradient `d` of the block's result to that of its input `x`.
    fn backward(&mut self, vector: Vector, done: BlockDone, x: &[f32], mut d: Vec<f32>, step: (Sgd, f32)) -> Vec<f32> {
        let BlockDone { layers: [one, two, three], downsample, out } = done;
        norm::mask(&mut d, &out);
        drop(out);
        let [first, second, third] = &mut self.layers;
        let mut inner = vec![0.0; two.z.len()];
        third.backward(vector, &three, false, two.relu(), d.clone(), Some(&mut inner), step);
        drop(three);
        let mut outer = vec![0.0; one.z.len()];
        second.backward(vector, &two, true, one.relu(), inner, Some(&mut outer), step);
        drop(two);
        // The shortcut's gradient comes first, the block's own is added.
        let mut dx = match (&mut self.downsample, downsample) {
            (Some(layer), Some(done)) => {
                let mut dx = vec![0.0; x.len()];
                layer.backward(vector, &done, false, Input::Plain(x), d, Some(&mut dx), step);
                dx
            }
            _ => d,
        };
        first.backward(vector, &one, true, Input::Plain(x), outer, Some(&mut dx), step);
        dx
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().chain(&self.downsample)
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut Layer> {
        self.layers.iter_mut().chain(&mut self.downsample)
    }
}

/// ResNet50 on the CPU.
pub struct ResNet50 {
    size: usize,
    vector: Vector,
    dev: Cpu,
    sgd: Sgd,
    stem: Layer,
    blocks: Vec<Bottleneck>,
    /// `[2048, 5]`
    output: Parameter,
    output_bias: Parameter,
}

/// The settings of its optimiser, where `spec` suits it.
fn sgd(spec: &Spec) -> Result<Sgd> {
    let refuse = |key: &str, expected: &str, got: String| {
        Err(Error::Setting { key: key.into(), expected: format!("{expected} for ResNet50"), got })
    };
    if spec.size_px < 32 || !spec.size_px.is_multiple_of(32) {
        return refuse("preprocess.size_px", "a multiple of 32", spec.size_px.to_string());
    }
    if spec.dropout.p != 0.0 {
        return refuse("train.dropout", "0", spec.dropout.p.to_string());
    }
    match spec.optimiser {
        Optimiser::Sgd(sgd) => Ok(sgd),
        other => refuse("train.optimiser", "sgd", other.name().into()),
    }
}

impl ResNet50 {
    /// Fresh weights, drawn from (seed, fold).
    ///
    /// # Errors
    /// [`Error::Setting`] where the size is no multiple of 32, at least 32, the optimiser is not SGD, or there is dropout.
    pub fn new(spec: &Spec) -> Result<Self> {
        let Spec { size_px: size, seed, fold, vector, .. } = *spec;
        let sgd = sgd(spec)?;
        let mut drawn = 0;
        let mut layer = |conv_name: &str, norm_name: &str, conv: Convolution| {
            drawn += 1;
            Layer::new((conv_name, norm_name), conv, &mut seed::rng(seed, "weights", fold, 0, drawn))
        };
        let stem = Convolution { h: size, w: size, c_in: 3, c_out: 64, kernel: 7, stride: 2, pad: 3 };
        let stem = layer("conv1", "bn1", stem);
        let mut blocks = Vec::new();
        let (mut side, mut c_in) = (size / 4, 64);
        for (stage, (count, width)) in BLOCKS.into_iter().zip(WIDTHS).enumerate() {
            for number in 0..count {
                let stride = if stage > 0 && number == 0 { 2 } else { 1 };
                let c_out = width * EXPANSION;
                let shape = |side, c_in, c_out, kernel: usize, stride| Convolution {
                    h: side,
                    w: side,
                    c_in,
                    c_out,
                    kernel,
                    stride,
                    pad: kernel / 2,
                };
                let name = format!("layer{}.{number}", stage + 1);
                let mut part = |i: usize, conv| layer(&format!("{name}.conv{i}"), &format!("{name}.bn{i}"), conv);
                let layers = [
                    part(1, shape(side, c_in, width, 1, 1)),
                    part(2, shape(side, width, width, 3, stride)),
                    part(3, shape(side / stride, width, c_out, 1, 1)),
                ];
                let downsample = (c_in != c_out).then(|| {
                    let conv = shape(side, c_in, c_out, 1, stride);
                    layer(&format!("{name}.downsample.0"), &format!("{name}.downsample.1"), conv)
                });
                blocks.push(Bottleneck { layers, downsample });
                (side, c_in) = (side / stride, c_out);
            }
        }
        if spec.zero_init_residual {
            blocks.iter_mut().for_each(|b| b.layers[2].gamma.value.fill(0.0));
        }
        // PyTorch's: uniform up to the inverse root of the inputs.
        let mut rng = seed::rng(seed, "weights", fold, 0, 0);
        let limit = (1.0 / FEATURES as f32).sqrt();
        let mut uniform = |len: usize| (0..len).map(|_| (unit(&mut rng) * 2.0 - 1.0) * limit).collect();
        let output = Parameter::new("fc.weight".into(), vec![FEATURES, Class::COUNT], uniform(FEATURES * Class::COUNT));
        let output_bias = Parameter::new("fc.bias".into(), vec![Class::COUNT], uniform(Class::COUNT));
        let dev = Cpu::seed_from_u64(seed::key(seed, "dfdx", fold, 0, 0));
        Ok(Self { size, vector, dev, sgd, stem, blocks, output, output_bias })
    }

    /// Side of the pictures behind the stem's convolution, px.
    fn stem_side(&self) -> usize {
        self.stem.conv.out_h()
    }

    /// Pixels behind the last stage.
    fn last_pixels(&self) -> usize {
        (self.size / 32) * (self.size / 32)
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.stem).chain(self.blocks.iter().flat_map(Bottleneck::layers))
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut Layer> {
        std::iter::once(&mut self.stem).chain(self.blocks.iter_mut().flat_map(Bottleneck::layers_mut))
    }

    /// Logits and features of `n` pictures by the running means and variances.
    fn logits(&self, x: &[f32], n: usize) -> (Vec<[f32; Class::COUNT]>, Vec<f32>) {
        let (vector, side) = (self.vector, self.stem_side());
        let stem = self.stem.predict(vector, Input::Plain(x), n);
        let (mut out, _) = norm::max_pool(vector, &stem.z, &stem.normal, side, side);
        drop(stem);
        for block in &self.blocks {
            out = block.predict(vector, &out, n);
        }
        let features = norm::mean_pool(&out, self.last_pixels(), FEATURES);
        let logits = |features: &[f32]| {
            let mut logits: [f32; Class::COUNT] = std::array::from_fn(|class| self.output_bias.value[class]);
            for (f, w) in features.iter().zip(self.output.value.as_chunks::<{ Class::COUNT }>().0) {
                logits.iter_mut().zip(w).for_each(|(logit, w)| *logit += f * w);
            }
            logits
        };
        (features.par_chunks(FEATURES).map(logits).collect(), features)
    }

    /// Loss and logits (`[n, 5]`) of features (`[n, 2048]`), and the gradients of features, weight and bias.
    fn head(&self, features: Vec<f32>, labels: &[usize]) -> std::result::Result<Head, dfdx::tensor::CpuError> {
        let n = labels.len();
        let features = self.dev.try_tensor_from_vec(features, (n, FEATURES))?;
        let weight = self.dev.try_tensor_from_vec(self.output.value.clone(), (FEATURES, Class::COUNT))?;
        let bias: Tensor<(usize,), f32, Cpu> =
            self.dev.try_tensor_from_vec(self.output_bias.value.clone(), (Class::COUNT,))?;
        let targets = self.dev.try_tensor_from_vec(one_hot(labels), (n, Class::COUNT))?;
        let wide = bias.leaky_trace().try_broadcast_like::<_, Axis<0>>(&(n, Class::COUNT))?;
        let logits = features.leaky_trace().try_matmul(weight.leaky_trace())?.try_add(wide)?;
        let (plain, tape) = logits.split_tape();
        let values = plain.as_vec();
        let loss = cross_entropy_with_logits_loss(plain.put_tape(tape), targets);
        let value = loss.as_vec()[0];
        let gradients = loss.try_backward()?;
        let [d, weight, bias] =
            [gradients.get(&features).as_vec(), gradients.get(&weight).as_vec(), gradients.get(&bias).as_vec()];
        Ok(Head { loss: value, logits: values, d, weight, bias })
    }
}

struct Head {
    loss: f32,
    logits: Vec<f32>,
    d: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Model for ResNet50 {
    fn size_px(&self) -> usize {
        self.size
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        let (vector, n, side) = (self.vector, batch.labels.len(), self.stem_side());
        let stem = self.stem.train(vector, Input::Plain(&batch.x), n); // [n, 112, 112, 64]
        let (pooled, codes) = norm::max_pool(vector, &stem.z, &stem.normal, side, side); // [n, 56, 56, 64]
        let mut done: Vec<BlockDone> = Vec::with_capacity(self.blocks.len());
        for block in &mut self.blocks {
            let x = done.last().map_or(&pooled, |d| &d.out);
            let next = block.train(vector, x, n); // [n, 56, 56, 256] .. [n, 7, 7, 2048]
            done.push(next);
        }
        let pixels = self.last_pixels();
        let features = norm::mean_pool(&done.last().expect("there are blocks").out, pixels, FEATURES); // [n, 2048]
        let head = self
            .head(features, batch.labels)
            .map_err(|e| Error::Compute { what: "ResNet50".into(), message: e.to_string() })?;
        let told = step_of("ResNet50", t, learning_rate, head.loss, &head.logits, batch.labels)?;

        let step = (self.sgd, learning_rate as f32);
        self.output.step(step, Some(&head.weight));
        self.output_bias.step(step, Some(&head.bias));
        let mut d = norm::mean_pool_backward(&head.d, pixels, FEATURES);
        for block in self.blocks.iter_mut().rev() {
            let own = done.pop().expect("a block a pass");
            let x = done.last().map_or(&pooled, |d| &d.out);
            d = block.backward(vector, own, x, d, step);
        }
        let d = norm::max_pool_backward(&d, &codes, WIDTHS[0], side, side);
        // ReLU is undone with the pooling's choice: what it cut off was never chosen.
        self.stem.backward(vector, &stem, false, Input::Plain(&batch.x), d, None, step);
        Ok(told)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inferred> {
        let (logits, features) = self.logits(x, n);
        Ok(Inferred { probabilities: logits.iter().map(|l| softmax(l)).collect(), features, width: FEATURES })
    }

    fn state(&self, moments: bool) -> Vec<StateArray<'_>> {
        let mut arrays: Vec<StateArray> = Vec::new();
        let parameters = self.layers().flat_map(Layer::parameters).chain([&self.output, &self.output_bias]);
        for p in parameters {
            arrays.push(array(p.name.clone(), &p.shape, &p.value));
            if moments {
                arrays.push(array(format!("momentum.{}", p.name), &p.shape, &p.velocity));
            }
        }
        for (name, values) in self.layers().flat_map(|l| &l.running) {
            arrays.push(array(name.clone(), &[values.len()], values));
        }
        arrays
    }

    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        let mut load = |p: &mut Parameter| -> Result<()> {
            p.value = take(&p.name, &p.shape)?;
            if moments {
                p.velocity = take(&format!("momentum.{}", p.name), &p.shape)?;
            }
            Ok(())
        };
        for layer in self.layers_mut() {
            layer.parameters_mut().into_iter().try_for_each(&mut load)?;
        }
        load(&mut self.output)?;
        load(&mut self.output_bias)?;
        for (name, values) in self.layers_mut().flat_map(|l| &mut l.running) {
            *values = take(name, &[values.len()])?;
        }
        Ok(())
    }

    fn parameters(&self) -> usize {
        let parameters = self.layers().flat_map(Layer::parameters).chain([&self.output, &self.output_bias]);
        parameters.map(|p| p.value.len()).sum()
    }
}

/// ResNet50 in dfdx's operations.
pub struct Layers;

impl Forward for Layers {
    const NAME: &'static str = "ResNet50";

    fn maps<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        x: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<Shape4, f32, D, T>, D::Err> {
        let stem = composed_layer(weights, "conv1", "bn1", 2, x, pass)?.try_relu()?;
        let mut x = composed::max_pool(stem)?;
        for (name, number, stride) in block_names() {
            let mut layer = |i: usize, stride, x| {
                composed_layer(weights, &format!("{name}.conv{i}"), &format!("{name}.bn{i}"), stride, x, pass)
            };
            let y = layer(1, 1, x.retaped::<T>())?.try_relu()?;
            let y = layer(2, stride, y)?.try_relu()?;
            let y = layer(3, 1, y)?;
            let shortcut = if number == 0 {
                let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
                composed_layer(weights, &conv, &norm, stride, x, pass)?
            } else {
                x
            };
            x = y.try_add(shortcut)?.try_relu()?;
        }
        Ok(x) // [n, 7, 7, 2048]
    }

    fn head<D: Device<f32>, T: Tape<f32, D>>(
        &self,
        weights: &Weights<D>,
        pooled: Tensor<Shape4, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<(usize, usize), f32, D, T>, D::Err> {
        let x = composed::mean_pool(pooled)?;
        pass.keep(&x);
        composed::linear(x, weights.matrix("fc.weight")?, weights.get("fc.bias"))
    }
}

/// [`Layer::train`] or [`Layer::predict`], normalised, in dfdx's operations.
fn composed_layer<D: Device<f32>, T: Tape<f32, D>>(
    weights: &Weights<D>,
    conv: &str,
    norm: &str,
    stride: usize,
    x: Tensor<Shape4, f32, D, T>,
    pass: &mut Pass,
) -> std::result::Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let filters = format!("{conv}.weight");
    let (kernel, c_out) = (weights.shape(&filters)[0], weights.shape(&filters)[3]);
    let z = composed::convolution(x, weights.get(&filters), kernel, stride, c_out)?;
    let name = |what: &str| format!("{norm}.{what}");
    let running = ["running_mean", "running_var"].map(|what| weights.values(&name(what)));
    let bias = weights.values(&format!("{conv}.bias"));
    match pass {
        Pass::Train { learned, .. } => {
            let (n, h, w, _) = *z.shape();
            let (gamma, beta) = (weights.get(&name("weight")), weights.get(&name("bias")));
            let (y, batch) = composed::batch_norm(z, gamma, beta, EPSILON)?;
            let [mean, variance] = moved(running, batch, &bias, n * h * w);
            learned.extend([(name("running_mean"), mean), (name("running_var"), variance)]);
            Ok(y)
        }
        Pass::Predict { .. } => {
            let [mean, variance] = running;
            let mean = mean.iter().zip(&bias).map(|(m, b)| m - b).collect();
            let (gamma, beta) = (weights.values(&name("weight")), weights.values(&name("bias")));
            let normal = Normal::new(&gamma, &beta, mean, &variance, EPSILON);
            composed::scale_shift(z, normal.scale, normal.shift)
        }
    }
}

/// Running mean and variance after one more batch's own, over `count` values of a convolution without its bias.
fn moved([mut means, mut variances]: [Vec<f32>; 2], batch: [Vec<f32>; 2], bias: &[f32], count: usize) -> [Vec<f32>; 2] {
    let unbiased = count as f32 / (count.max(2) - 1) as f32;
    let [mean, variance] = batch;
    for k in 0..bias.len() {
        means[k] += RUNNING * (mean[k] + bias[k] - means[k]);
        variances[k] += RUNNING * (variance[k] * unbiased - variances[k]);
    }
    [means, variances]
}

fn array<'a>(name: String, shape: &[usize], values: &'a [f32]) -> StateArray<'a> {
    StateArray { name, shape: shape.to_vec(), bytes: Box::new(move || bytemuck::cast_slice(values).to_vec()) }
}

/// Uniform, 0 to 1.
fn unit(rng: &mut seed::Pcg64) -> f32 {
    rng.next_u32() as f32 / u32::MAX as f32
}

/// Standard normal (Box and Muller 1958).
fn normal(rng: &mut seed::Pcg64) -> f32 {
    let (a, b) = (unit(rng).max(1e-9), unit(rng));
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernel::Dropout;
    use std::collections::BTreeMap;

    fn fresh(size_px: usize, sgd: Sgd, vector: Vector) -> ResNet50 {
        let (optimiser, dropout) = (Optimiser::Sgd(sgd), Dropout { p: 0.0 });
        ResNet50::new(&Spec { size_px, seed: 1, fold: 0, dropout, optimiser, zero_init_residual: false, vector })
            .unwrap()
    }

    /// `drawn` of tests/fixtures/resnet50/make.py.
    fn drawn(item: u32, count: usize) -> Vec<f32> {
        let one = |place: u32| {
            let mut z = place.wrapping_mul(2_654_435_761).wrapping_add(item.wrapping_mul(40503));
            for (shift, factor) in [(15, 2_246_822_519), (13, 3_266_489_917)] {
                z = (z ^ (z >> shift)).wrapping_mul(factor);
            }
            z ^= z >> 16;
            z as f32 / 4_294_967_296.0 * 2.0 - 1.0
        };
        (0..count as u32).map(one).collect()
    }

    #[test]
    fn it_has_the_papers_number_of_parameters() {
        assert_eq!(fresh(64, Sgd::default(), Vector::detect()).parameters(), 23_544_837);
    }

    /// The same weights and pictures as in the fixture's script.
    #[test]
    fn its_forward_pass_is_torchvisions() {
        let expected: BTreeMap<String, Vec<[f32; 5]>> =
            serde_json::from_str(include_str!("../../tests/fixtures/resnet50/logits.json")).unwrap();
        for (size, expected) in expected {
            let size: usize = size.parse().unwrap();
            let mut model = fresh(size, Sgd::default(), Vector::detect());
            let mut names: Vec<String> = model.state(false).into_iter().map(|a| a.name).collect();
            names.sort();
            let item = |name: &str| names.iter().position(|n| n == name).unwrap() as u32 + 1;
            model
                .load(false, &mut |name, shape| {
                    let mut values = drawn(item(name), shape.iter().product());
                    if let [kernel, _, c_in, c_out] = *shape {
                        let limit = (6.0 / (kernel * kernel * c_in) as f32).sqrt();
                        // PyTorch's order is [c_out, c_in, kernel, kernel].
                        let at = |i: usize| {
                            let (o, i) = (i % c_out, i / c_out);
                            (o * c_in + i % c_in) * kernel * kernel + i / c_in
                        };
                        values = (0..values.len()).map(|i| values[at(i)] * limit).collect();
                    } else if name.ends_with("running_var") {
                        values.iter_mut().for_each(|v| *v = 1.0 + 0.5 * *v);
                    } else if name == "fc.weight" {
                        let turned = |i: usize| values[i % Class::COUNT * FEATURES + i / Class::COUNT] * 0.02;
                        values = (0..values.len()).map(turned).collect();
                    } else if name == "fc.bias" {
                        values.iter_mut().for_each(|v| *v *= 0.02);
                    } else if name.ends_with("weight") {
                        values.iter_mut().for_each(|v| *v = 0.6 + 0.2 * *v);
                    } else {
                        values.iter_mut().for_each(|v| *v *= 0.1);
                    }
                    Ok(values)
                })
                .unwrap();
            let plane = size * size;
            let picture = drawn(0, 2 * 3 * plane);
            let turned = |i: usize| picture[i / (3 * plane) * 3 * plane + i % 3 * plane + i / 3 % plane];
            let x: Vec<f32> = (0..picture.len()).map(turned).collect();
            let (found, _) = model.logits(&x, 2);
            let scale = expected.as_flattened().iter().fold(0f32, |m, v| m.max(v.abs()));
            for (f, e) in found.as_flattened().iter().zip(expected.as_flattened()) {
                assert!((f - e).abs() < 1e-4 * scale.max(1.0), "{size} px: {found:?} and {expected:?}");
            }
        }
    }

    /// Moving all weights along a direction changes the loss by the gradient's product with it; the gradient is what one
    /// step of plain SGD moves them by.
    #[test]
    fn its_gradient_is_that_of_finite_differences() {
        let plain = Sgd { momentum: 0.0, weight_decay: 0.0 };
        let (size, n) = (64, 4);
        let x = drawn(0, n * size * size * 3);
        let (labels, keys) = ([0, 1, 2, 3], [0; 4]);
        let batch = || Batch { x: x.clone(), labels: &labels, keys: &keys };
        let weights = |model: &ResNet50| -> BTreeMap<String, Vec<f32>> {
            let arrays = model.state(false).into_iter().filter(|a| !a.name.contains("running"));
            arrays.map(|a| (a.name, bytemuck::pod_collect_to_vec(&(a.bytes)()))).collect()
        };
        let mut model = fresh(size, plain, Vector::detect());
        let before = weights(&model);
        model.train(batch(), 1, 1.0).unwrap();
        let after = weights(&model);
        // Layers near and far from the loss, each along its own gradient.
        let names = [
            "conv1.weight",
            "layer1.0.conv2.weight",
            "layer2.0.bn2.bias",
            "layer3.0.downsample.0.weight",
            "layer4.0.conv2.weight",
            "fc.weight",
        ];
        for name in names {
            let gradient: Vec<f32> = before[name].iter().zip(&after[name]).map(|(b, a)| b - a).collect();
            // So far that the loss changes by about 0.002 each way: more than rounding, less than curvature shows.
            let expected = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
            let by = 2e-3 / expected;
            let loss = |by: f64| {
                let mut model = fresh(size, plain, Vector::detect());
                let parameters = model.layers_mut().flat_map(Layer::parameters_mut);
                let mut all: Vec<&mut Parameter> = parameters.collect();
                if let Some(p) = all.iter_mut().find(|p| p.name == name) {
                    p.value.iter_mut().zip(&gradient).for_each(|(w, g)| *w += (by * f64::from(*g)) as f32);
                } else {
                    assert_eq!(name, "fc.weight");
                    model.output.value.iter_mut().zip(&gradient).for_each(|(w, g)| *w += (by * f64::from(*g)) as f32);
                }
                f64::from(model.train(batch(), 1, 0.0).unwrap().loss)
            };
            let numeric = (loss(by) - loss(-by)) / (2.0 * by);
            assert!((numeric / expected - 1.0).abs() < 0.03, "{name}: {numeric} and {expected}");
        }
    }
}
