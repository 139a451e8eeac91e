//! ResNet50 (He et al. 2015, "Deep Residual Learning for Image Recognition"), which Jung et al. 2019 compare with
//! W-Net.
//!
//! Bottleneck blocks of three convolutions, each with a batch normalisation, in four stages of 3, 4, 6 and 3 blocks.
//! The stride of a stage is in the 3x3 convolution of its first block, as in PyTorch's `torchvision`; He et al. have it
//! in the 1x1 convolution before. The convolutions have biases: this gives the 23,544,837 trainable parameters that
//! Jung et al. report for five classes. Before a batch normalisation, a bias has no effect on training and no gradient;
//! it only changes the running mean.
//!
//! Names are torchvision's; filters are `[kernel, kernel, c_in, c_out]`, activations `[n, h, w, c]`. Training runs on
//! our kernels, without a tape up to the last layer: the forward pass keeps the results of the convolutions and the
//! outputs of the blocks, and the backward pass updates the weights of each layer as soon as it has their gradient, so
//! that gradients are not kept.

use super::composed::{Forward, Pass, Weights};
use super::entry::Entry;
use super::grad_cam::GradCam;
use super::model::{Batch, Inference, Model, Objective, StateArray, Step};
use super::onnx::Graph;
use super::output::{logits, loss, softmax, step};
use super::resnet50_bf16::{FoldedLayer, FoldedNetwork};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::nn::kernel::batch_norm::{self, BatchNorm, Shortcut};
use crate::nn::kernel::{Conv2d, Input, conv2d, pool};
use crate::nn::optim::{Optimiser, Sgd};
use crate::nn::{Nhwc, Precision, Vector, composed};
use crate::seed;
use dfdx::prelude::{Axis, Cpu, Device, HasShape, Tape, Tensor, TensorFromVec, Trace};
use dfdx::tensor_ops::*;
use rand::Rng;
use std::sync::OnceLock;

/// ResNet50's registration.
pub const ENTRY: Entry = Entry {
    name: "resnet50",
    title: "ResNet50",
    size_px: 224,
    last: "fc",
    dropout: 0.0,
    optimiser: || Optimiser::Sgd(Sgd::default()),
    validate: |spec| sgd(spec).map(drop),
    build_cpu: |spec| Ok(Box::new(ResNet50::new(spec)?)),
    build_cuda: None,
    grad_cam: |model| GradCam::boxed(model, Layers),
    flattened: None,
    onnx: |graph, images| {
        let layer = |graph: &mut Graph, x: &str, conv: &str, norm: &str, stride: usize| {
            let z = graph.convolution(x, conv, stride);
            graph.batch_norm(&z, norm, EPSILON)
        };
        let mut x = layer(graph, images, "conv1", "bn1", 2);
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

/// Blocks of each stage.
const BLOCKS: [usize; 4] = [3, 4, 6, 3];
/// Channels of the inner convolutions of each stage; its output has [`EXPANSION`] times as many.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];
const EXPANSION: usize = 4;
/// Channels after the last stage.
pub(super) const FEATURES: usize = WIDTHS[3] * EXPANSION;
/// Added to a variance, as in PyTorch.
pub(super) const EPSILON: f32 = 1e-5;
/// Share of a batch in the running mean and variance, as in PyTorch.
pub(super) const MOMENTUM: f32 = 0.1;

/// Name, number in its stage, and stride of each block.
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
    conv: Conv2d,
    weight: Parameter,
    bias: Parameter,
    gamma: Parameter,
    beta: Parameter,
    /// Names and values of the running mean and variance.
    running: [(String, Vec<f32>); 2],
}

impl Layer {
    /// A layer with He's initialisation (normal, by the number of outputs, as in torchvision).
    fn new(names: (&str, &str), conv: Conv2d, rng: &mut seed::Pcg64) -> Self {
        let Conv2d { kernel, c_in, c_out, .. } = conv;
        let deviation = (2.0 / (kernel * kernel * c_out) as f32).sqrt();
        let weight = (0..conv.weight_len()).map(|_| normal(rng) * deviation).collect();
        let (name, norm) = names;
        Self {
            conv,
            weight: Parameter::new(format!("{name}.weight"), vec![kernel, kernel, c_in, c_out], weight),
            bias: Parameter::new(format!("{name}.bias"), vec![c_out], vec![0.0; c_out]),
            gamma: Parameter::new(format!("{norm}.weight"), vec![c_out], vec![1.0; c_out]),
            beta: Parameter::new(format!("{norm}.bias"), vec![c_out], vec![0.0; c_out]),
            running: [
                (format!("{norm}.running_mean"), vec![0.0; c_out]),
                (format!("{norm}.running_var"), vec![1.0; c_out]),
            ],
        }
    }

    fn parameters(&self) -> [&Parameter; 4] {
        [&self.weight, &self.bias, &self.gamma, &self.beta]
    }

    fn parameters_mut(&mut self) -> [&mut Parameter; 4] {
        [&mut self.weight, &mut self.bias, &mut self.gamma, &mut self.beta]
    }

    /// The result of the convolution (without the bias) and its normalisation by the mean and variance of the batch,
    /// with which the running ones are updated.
    fn train(&mut self, vector: Vector, input: Input, n: usize) -> LayerOutput {
        let (c, count) = (self.conv.c_out, n * self.conv.out_h() * self.conv.out_w());
        let mut z = vec![0.0; n * self.conv.y_len()];
        let mut moments = vec![0.0; n * 2 * c];
        conv2d::forward(vector, self.conv, input, &self.weight.value, &mut z, Some(&mut moments));
        let (mean, variance) = batch_norm::mean_and_variance(&moments, c, count);
        let [(_, running_mean), (_, running_variance)] = &mut self.running;
        let running = [std::mem::take(running_mean), std::mem::take(running_variance)];
        let batch = [mean.clone(), variance.clone()];
        [*running_mean, *running_variance] = updated(running, batch, &self.bias.value, count);
        let norm = BatchNorm::new(&self.gamma.value, &self.beta.value, mean, &variance, EPSILON);
        LayerOutput { z, norm }
    }

    /// The result of the convolution (without the bias) and its normalisation by the running mean and variance.
    fn predict(&self, vector: Vector, input: Input, n: usize) -> LayerOutput {
        let mut z = vec![0.0; n * self.conv.y_len()];
        conv2d::forward(vector, self.conv, input, &self.weight.value, &mut z, None);
        LayerOutput { z, norm: self.running_norm() }
    }

    /// The normalisation by the running mean and variance of the convolution without its bias.
    fn running_norm(&self) -> BatchNorm {
        let [(_, mean), (_, variance)] = &self.running;
        let mean = mean.iter().zip(&self.bias.value).map(|(m, b)| m - b).collect();
        BatchNorm::new(&self.gamma.value, &self.beta.value, mean, variance, EPSILON)
    }

    /// The layer with its running normalisation folded into its filters.
    fn fold(&self, vector: Vector) -> FoldedLayer {
        FoldedLayer::new(vector, self.conv, &self.weight.value, &self.running_norm())
    }

    /// Backward pass, from the gradient `d` of the normalised output (with `relu`, of its ReLU). Adds the gradient of
    /// the input to `dx` and updates the parameters.
    fn backward(
        &mut self,
        vector: Vector,
        output: &LayerOutput,
        relu: bool,
        input: Input,
        mut d: Vec<f32>,
        dx: Option<&mut [f32]>,
        step: (Sgd, f32),
    ) {
        let pixels = self.conv.out_h() * self.conv.out_w();
        let [gamma, beta] = batch_norm::backward(vector, &output.norm, relu, &output.z, &mut d, pixels);
        let weight = conv2d::backward_weight(vector, self.conv, input, &d);
        if let Some(dx) = dx {
            conv2d::backward_input(vector, self.conv, &d, &self.weight.value, dx);
        }
        self.weight.step(step, Some(&weight));
        self.bias.step(step, None);
        self.gamma.step(step, Some(&gamma));
        self.beta.step(step, Some(&beta));
    }
}

/// The result of a layer's convolution, and its normalisation.
struct LayerOutput {
    z: Vec<f32>,
    norm: BatchNorm,
}

impl LayerOutput {
    /// The normalised output after ReLU, as the input of the next convolution.
    fn relu(&self) -> Input<'_> {
        self.norm.relu(&self.z)
    }
}

/// A bottleneck block.
struct Bottleneck {
    /// Convolutions of 1x1, 3x3 and 1x1.
    layers: [Layer; 3],
    /// The 1x1 convolution of the shortcut, where the block changes the shape.
    downsample: Option<Layer>,
}

/// The output of a block, and those of its layers.
struct BlockOutput {
    layers: [LayerOutput; 3],
    downsample: Option<LayerOutput>,
    out: Vec<f32>,
}

impl Bottleneck {
    fn train(&mut self, vector: Vector, x: &[f32], n: usize) -> BlockOutput {
        let [first, second, third] = &mut self.layers;
        let a = first.train(vector, Input::Plain(x), n);
        let b = second.train(vector, a.relu(), n);
        let c = third.train(vector, b.relu(), n);
        let downsample = self.downsample.as_mut().map(|layer| layer.train(vector, Input::Plain(x), n));
        Self::add_shortcut(vector, x, [a, b, c], downsample)
    }

    fn predict(&self, vector: Vector, x: &[f32], n: usize) -> Vec<f32> {
        let [first, second, third] = &self.layers;
        let a = first.predict(vector, Input::Plain(x), n);
        let b = second.predict(vector, a.relu(), n);
        let c = third.predict(vector, b.relu(), n);
        let downsample = self.downsample.as_ref().map(|layer| layer.predict(vector, Input::Plain(x), n));
        Self::add_shortcut(vector, x, [a, b, c], downsample).out
    }

    fn add_shortcut(
        vector: Vector,
        x: &[f32],
        layers: [LayerOutput; 3],
        downsample: Option<LayerOutput>,
    ) -> BlockOutput {
        let shortcut = match &downsample {
            Some(output) => Shortcut::Projection(&output.z, &output.norm),
            None => Shortcut::Identity(x),
        };
        let out = batch_norm::add_shortcut(vector, &layers[2].z, &layers[2].norm, shortcut);
        BlockOutput { layers, downsample, out }
    }

    /// The gradient of the block's input `x`, from the gradient `d` of its output; updates the parameters.
    fn backward(
        &mut self,
        vector: Vector,
        output: BlockOutput,
        x: &[f32],
        mut d: Vec<f32>,
        step: (Sgd, f32),
    ) -> Vec<f32> {
        let BlockOutput { layers: [a, b, c], downsample, out } = output;
        batch_norm::relu_backward(&mut d, &out);
        drop(out);
        let [first, second, third] = &mut self.layers;
        let mut db = vec![0.0; b.z.len()];
        third.backward(vector, &c, false, b.relu(), d.clone(), Some(&mut db), step);
        drop(c);
        let mut da = vec![0.0; a.z.len()];
        second.backward(vector, &b, true, a.relu(), db, Some(&mut da), step);
        drop(b);
        // First the gradient of the shortcut; that of the three layers is added to it.
        let mut dx = match (&mut self.downsample, downsample) {
            (Some(layer), Some(output)) => {
                let mut dx = vec![0.0; x.len()];
                layer.backward(vector, &output, false, Input::Plain(x), d, Some(&mut dx), step);
                dx
            }
            _ => d,
        };
        first.backward(vector, &a, true, Input::Plain(x), da, Some(&mut dx), step);
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
    /// `[2048, classes]`
    output: Parameter,
    output_bias: Parameter,
    /// What predictions of bf16 read; made by the first of them after the weights have changed.
    folded: OnceLock<FoldedNetwork>,
}

/// Checks `spec` and returns the settings of its optimiser.
fn sgd(spec: &Spec) -> Result<Sgd> {
    let refuse =
        |key: &str, expected: &str, got: String| Err(Error::setting(key, format!("{expected} for ResNet50"), got));
    if spec.size_px < 32 || !spec.size_px.is_multiple_of(32) {
        return refuse("preprocess.size_px", "a multiple of 32", spec.size_px.to_string());
    }
    if spec.dropout != 0.0 {
        return refuse("train.dropout", "0", spec.dropout.to_string());
    }
    match spec.optimiser {
        Optimiser::Sgd(sgd) => Ok(sgd),
        other => refuse("train.optimiser", "sgd", other.name().into()),
    }
}

impl ResNet50 {
    /// ResNet50 with new weights.
    ///
    /// # Errors
    /// [`Error::Setting`] where the size is not a multiple of 32, the optimiser is not SGD, or there is dropout.
    pub fn new(spec: &Spec) -> Result<Self> {
        let Spec { size_px: size, classes, seed, fold, precision, vector, .. } = *spec;
        let sgd = sgd(spec)?;
        let mut layers = 0;
        let mut layer = |name: &str, norm: &str, conv: Conv2d| {
            layers += 1;
            Layer::new((name, norm), conv, &mut seed::rng(seed, "weights", fold, 0, layers))
        };
        let stem = Conv2d { h: size, w: size, c_in: 3, c_out: 64, kernel: 7, stride: 2, pad: 3, precision };
        let stem = layer("conv1", "bn1", stem);
        let mut blocks = Vec::new();
        let (mut side, mut c_in) = (size / 4, 64);
        for (stage, (count, width)) in BLOCKS.into_iter().zip(WIDTHS).enumerate() {
            for number in 0..count {
                let stride = if stage > 0 && number == 0 { 2 } else { 1 };
                let c_out = width * EXPANSION;
                let shape = |side, c_in, c_out, kernel: usize, stride| Conv2d {
                    h: side,
                    w: side,
                    c_in,
                    c_out,
                    kernel,
                    stride,
                    pad: kernel / 2,
                    precision,
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
        // As in PyTorch: uniform, up to the inverse root of the number of inputs.
        let mut rng = seed::rng(seed, "weights", fold, 0, 0);
        let limit = (1.0 / FEATURES as f32).sqrt();
        let mut uniform = |len: usize| (0..len).map(|_| (unit(&mut rng) * 2.0 - 1.0) * limit).collect();
        let output = Parameter::new("fc.weight".into(), vec![FEATURES, classes], uniform(FEATURES * classes));
        let output_bias = Parameter::new("fc.bias".into(), vec![classes], uniform(classes));
        let dev = Cpu::seed_from_u64(seed::key(seed, "dfdx", fold, 0, 0));
        Ok(Self { size, vector, dev, sgd, stem, blocks, output, output_bias, folded: OnceLock::new() })
    }

    /// Side of the images after the first convolution, px.
    fn stem_side(&self) -> usize {
        self.stem.conv.out_h()
    }

    /// Pixels after the last stage.
    fn last_pixels(&self) -> usize {
        (self.size / 32) * (self.size / 32)
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.stem).chain(self.blocks.iter().flat_map(Bottleneck::layers))
    }

    /// Names of the convolution and of the normalisation of every layer, and the convolution's shape.
    #[cfg(feature = "cuda")]
    pub(super) fn shapes(&self) -> impl Iterator<Item = (&str, &str, Conv2d)> {
        let stem = |parameter: &'_ Parameter| parameter.name.len() - ".weight".len();
        self.layers().map(move |layer| {
            let (conv, norm) = (&layer.weight, &layer.gamma);
            (&conv.name[..stem(conv)], &norm.name[..stem(norm)], layer.conv)
        })
    }

    /// Whether each block has a convolution in its shortcut.
    #[cfg(feature = "cuda")]
    pub(super) fn downsamples(&self) -> impl Iterator<Item = bool> {
        self.blocks.iter().map(|block| block.downsample.is_some())
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut Layer> {
        std::iter::once(&mut self.stem).chain(self.blocks.iter_mut().flat_map(Bottleneck::layers_mut))
    }

    /// Logits and features of `n` images, by the running means and variances.
    fn logits(&self, x: &[f32], n: usize) -> (Vec<Vec<f32>>, Vec<f32>) {
        let (vector, side) = (self.vector, self.stem_side());
        if self.stem.conv.precision == Precision::Bf16 {
            let features = self.folded.get_or_init(|| self.fold()).features(vector, x, n, FEATURES);
            return (logits(&features, FEATURES, &self.output.value, &self.output_bias.value), features);
        }
        let stem = self.stem.predict(vector, Input::Plain(x), n);
        let (mut out, _) = pool::max_pool(vector, &stem.z, &stem.norm, side, side);
        drop(stem);
        for block in &self.blocks {
            out = block.predict(vector, &out, n);
        }
        let features = pool::mean_pool(&out, self.last_pixels(), FEATURES);
        (logits(&features, FEATURES, &self.output.value, &self.output_bias.value), features)
    }

    fn fold(&self) -> FoldedNetwork {
        let fold = |layer: &Layer| layer.fold(self.vector);
        let block = |block: &Bottleneck| (block.layers.each_ref().map(fold), block.downsample.as_ref().map(fold));
        FoldedNetwork { stem: fold(&self.stem), blocks: self.blocks.iter().map(block).collect() }
    }

    /// The last layer and the loss, from the features (`[n, 2048]`).
    fn head(
        &self,
        features: Vec<f32>,
        labels: &[usize],
        objective: Objective,
    ) -> std::result::Result<Head, dfdx::tensor::CpuError> {
        let (n, classes) = (labels.len(), self.output_bias.value.len());
        let features = self.dev.try_tensor_from_vec(features, (n, FEATURES))?;
        let weight = self.dev.try_tensor_from_vec(self.output.value.clone(), (FEATURES, classes))?;
        let bias: Tensor<(usize,), f32, Cpu> =
            self.dev.try_tensor_from_vec(self.output_bias.value.clone(), (classes,))?;
        let broadcast = bias.leaky_trace().try_broadcast_like::<_, Axis<0>>(&(n, classes))?;
        let logits = features.leaky_trace().try_matmul(weight.leaky_trace())?.try_add(broadcast)?;
        let loss = loss(logits, labels, objective)?;
        Ok(Head {
            loss: loss.value,
            features: loss.gradients.get(&features).as_vec(),
            weight: loss.gradients.get(&weight).as_vec(),
            bias: loss.gradients.get(&bias).as_vec(),
            logits: loss.logits,
        })
    }
}

/// Loss and logits (`[n, classes]`), and the gradients of features, weight and bias.
struct Head {
    loss: f32,
    logits: Vec<f32>,
    features: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Model for ResNet50 {
    fn size_px(&self) -> usize {
        self.size
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        self.folded.take();
        let (vector, n, side) = (self.vector, batch.labels.len(), self.stem_side());
        let stem = self.stem.train(vector, Input::Plain(&batch.x), n); // [n, 112, 112, 64]
        let (pooled, codes) = pool::max_pool(vector, &stem.z, &stem.norm, side, side); // [n, 56, 56, 64]
        let mut outputs: Vec<BlockOutput> = Vec::with_capacity(self.blocks.len());
        for block in &mut self.blocks {
            let x = outputs.last().map_or(&pooled, |output| &output.out);
            let output = block.train(vector, x, n); // [n, 56, 56, 256] to [n, 7, 7, 2048]
            outputs.push(output);
        }
        let pixels = self.last_pixels();
        let out = &outputs.last().expect("there are blocks").out;
        let features = pool::mean_pool(out, pixels, FEATURES); // [n, 2048]
        let head = self.head(features, batch.labels, batch.objective).map_err(|e| Error::compute("ResNet50", e))?;
        let result = step("ResNet50", t, learning_rate, head.loss, &head.logits, batch.labels)?;

        let sgd = (self.sgd, learning_rate as f32);
        self.output.step(sgd, Some(&head.weight));
        self.output_bias.step(sgd, Some(&head.bias));
        let mut d = pool::mean_pool_backward(&head.features, pixels, FEATURES);
        for block in self.blocks.iter_mut().rev() {
            let output = outputs.pop().expect("every block has an output");
            let x = outputs.last().map_or(&pooled, |output| &output.out);
            d = block.backward(vector, output, x, d, sgd);
        }
        let d = pool::max_pool_backward(&d, &codes, WIDTHS[0], side, side);
        // `relu` is false because the backward pass of the pooling includes that of ReLU.
        self.stem.backward(vector, &stem, false, Input::Plain(&batch.x), d, None, sgd);
        Ok(result)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inference> {
        let (logits, features) = self.logits(x, n);
        Ok(Inference { probabilities: logits.iter().map(|l| softmax(l)).collect(), features, width: FEATURES })
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
        self.folded.take();
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
        x: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<Nhwc, f32, D, T>, D::Err> {
        let stem = composed_layer(weights, "conv1", "bn1", 2, x, pass)?.try_relu()?;
        let mut x = composed::max_pool_3x3(stem)?;
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
        pooled: Tensor<Nhwc, f32, D, T>,
        pass: &mut Pass,
    ) -> std::result::Result<Tensor<(usize, usize), f32, D, T>, D::Err> {
        let x = composed::mean_pool(pooled)?;
        pass.set_features(&x);
        composed::linear(x, weights.matrix("fc.weight")?, weights.get("fc.bias"))
    }
}

/// A convolution and its batch normalisation in dfdx's operations; see [`Layer`].
fn composed_layer<D: Device<f32>, T: Tape<f32, D>>(
    weights: &Weights<D>,
    conv: &str,
    norm: &str,
    stride: usize,
    x: Tensor<Nhwc, f32, D, T>,
    pass: &mut Pass,
) -> std::result::Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    let filters = format!("{conv}.weight");
    let (kernel, c_out) = (weights.shape(&filters)[0], weights.shape(&filters)[3]);
    let z = composed::conv2d(x, weights.get(&filters), kernel, stride, c_out)?;
    let name = |array: &str| format!("{norm}.{array}");
    let moments = ["running_mean", "running_var"].map(|array| weights.values(&name(array)));
    let bias = weights.values(&format!("{conv}.bias"));
    match pass {
        Pass::Train { running, .. } => {
            let (n, h, w, _) = *z.shape();
            let (gamma, beta) = (weights.get(&name("weight")), weights.get(&name("bias")));
            let (y, batch) = composed::batch_norm(z, gamma, beta, EPSILON)?;
            let [mean, variance] = updated(moments, batch, &bias, n * h * w);
            running.extend([(name("running_mean"), mean), (name("running_var"), variance)]);
            Ok(y)
        }
        Pass::Predict { .. } => {
            let [mean, variance] = moments;
            let mean = mean.iter().zip(&bias).map(|(m, b)| m - b).collect();
            let (gamma, beta) = (weights.values(&name("weight")), weights.values(&name("bias")));
            let norm = BatchNorm::new(&gamma, &beta, mean, &variance, EPSILON);
            composed::scale_shift(z, norm.scale, norm.shift)
        }
    }
}

/// The running means and variances after a batch with the means and variances `batch` over `count` values, which are
/// the results of a convolution without its bias.
fn updated(
    [mut means, mut variances]: [Vec<f32>; 2],
    batch: [Vec<f32>; 2],
    bias: &[f32],
    count: usize,
) -> [Vec<f32>; 2] {
    let unbiased = count as f32 / (count.max(2) - 1) as f32;
    let [mean, variance] = batch;
    for k in 0..bias.len() {
        means[k] += MOMENTUM * (mean[k] + bias[k] - means[k]);
        variances[k] += MOMENTUM * (variance[k] * unbiased - variances[k]);
    }
    [means, variances]
}

fn array<'a>(name: String, shape: &[usize], values: &'a [f32]) -> StateArray<'a> {
    StateArray { name, shape: shape.to_vec(), bytes: Box::new(move || bytemuck::cast_slice(values).to_vec()) }
}

/// A uniform random number from 0 to 1.
fn unit(rng: &mut seed::Pcg64) -> f32 {
    rng.next_u32() as f32 / u32::MAX as f32
}

/// A standard normal random number (Box and Muller 1958).
fn normal(rng: &mut seed::Pcg64) -> f32 {
    let (a, b) = (unit(rng).max(1e-9), unit(rng));
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn resnet50(size_px: usize, sgd: Sgd) -> ResNet50 {
        let spec = Spec { size_px, seed: 1, optimiser: Optimiser::Sgd(sgd), ..ENTRY.default_spec() };
        ResNet50::new(&spec).unwrap()
    }

    /// The same values as `random` in tests/fixtures/resnet50/make.py.
    fn random(item: u32, count: usize) -> Vec<f32> {
        let value = |position: u32| {
            let mut z = position.wrapping_mul(2_654_435_761).wrapping_add(item.wrapping_mul(40503));
            for (shift, factor) in [(15, 2_246_822_519), (13, 3_266_489_917)] {
                z = (z ^ (z >> shift)).wrapping_mul(factor);
            }
            z ^= z >> 16;
            z as f32 / 4_294_967_296.0 * 2.0 - 1.0
        };
        (0..count as u32).map(value).collect()
    }

    #[test]
    fn the_number_of_parameters_is_the_papers() {
        assert_eq!(resnet50(64, Sgd::default()).parameters(), 23_544_837);
    }

    /// Weights and images are those of tests/fixtures/resnet50/make.py.
    #[test]
    fn logits_equal_torchvisions() {
        let expected: BTreeMap<String, Vec<[f32; 5]>> =
            serde_json::from_str(include_str!("../../tests/fixtures/resnet50/logits.json")).unwrap();
        for (size, expected) in expected {
            let size: usize = size.parse().unwrap();
            let mut model = resnet50(size, Sgd::default());
            let mut names: Vec<String> = model.state(false).into_iter().map(|a| a.name).collect();
            names.sort();
            let item = |name: &str| names.iter().position(|n| n == name).unwrap() as u32 + 1;
            model
                .load(false, &mut |name, shape| {
                    let mut values = random(item(name), shape.iter().product());
                    if let [kernel, _, c_in, c_out] = *shape {
                        let limit = (6.0 / (kernel * kernel * c_in) as f32).sqrt();
                        // PyTorch's order is [c_out, c_in, kernel, kernel].
                        let position = |i: usize| {
                            let (o, i) = (i % c_out, i / c_out);
                            (o * c_in + i % c_in) * kernel * kernel + i / c_in
                        };
                        values = (0..values.len()).map(|i| values[position(i)] * limit).collect();
                    } else if name.ends_with("running_var") {
                        values.iter_mut().for_each(|v| *v = 1.0 + 0.5 * *v);
                    } else if name == "fc.weight" {
                        let transposed = |i: usize| values[i % 5 * FEATURES + i / 5] * 0.02;
                        values = (0..values.len()).map(transposed).collect();
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
            let images = random(0, 2 * 3 * plane);
            let channels_last = |i: usize| images[i / (3 * plane) * 3 * plane + i % 3 * plane + i / 3 % plane];
            let x: Vec<f32> = (0..images.len()).map(channels_last).collect();
            let (logits, _) = model.logits(&x, 2);
            let scale = expected.as_flattened().iter().fold(0f32, |m, v| m.max(v.abs()));
            for (a, e) in logits.iter().flatten().zip(expected.as_flattened()) {
                assert!((a - e).abs() < 1e-4 * scale.max(1.0), "{size} px: {logits:?} and {expected:?}");
            }
        }
    }

    /// The gradient of an array is what one step of SGD at rate 1 subtracts from it. A shift along that gradient must
    /// change the loss by the product of both.
    #[test]
    fn gradients_equal_finite_differences() {
        let plain = Sgd { momentum: 0.0, weight_decay: 0.0 };
        let (size, n) = (64, 4);
        let x = random(0, n * size * size * 3);
        let (labels, keys) = ([0, 1, 2, 3], [0; 4]);
        let batch = || Batch { x: x.clone().into(), labels: &labels, keys: &keys, objective: Objective::default() };
        let weights = |model: &ResNet50| -> BTreeMap<String, Vec<f32>> {
            let arrays = model.state(false).into_iter().filter(|a| !a.name.contains("running"));
            arrays.map(|a| (a.name.clone(), a.values())).collect()
        };
        let mut model = resnet50(size, plain);
        let before = weights(&model);
        model.train(batch(), 1, 1.0).unwrap();
        let after = weights(&model);
        // Arrays of layers near to the loss and far from it.
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
            // The shift changes the loss by about 0.002: more than rounding, and little enough for curvature.
            let expected = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
            let by = 2e-3 / expected;
            let loss = |by: f64| {
                let mut model = resnet50(size, plain);
                if let Some(p) = model.layers_mut().flat_map(Layer::parameters_mut).find(|p| p.name == name) {
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
