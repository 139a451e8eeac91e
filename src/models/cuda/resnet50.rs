//! ResNet50 on a CUDA device.

use super::arrays::{Arrays, Targets, Trained, Work, fault, head};
use super::model::{Logits, Network, OnCuda};
use crate::error::Result;
use crate::models::model::Model;
use crate::models::resnet50::{EPSILON, FEATURES, MOMENTUM, ResNet50};
use crate::models::spec::Spec;
use crate::nn::cuda::{self, Activations, Codes, Floats, Gpu, NormArrays};
use crate::nn::kernel::Conv2d;

struct ResNet50OnCuda {
    size: usize,
    stem: Layer,
    blocks: Vec<Block>,
    /// Weight and bias of the last layer.
    last: [Trained; 2],
}

/// A convolution and its batch normalisation.
struct Layer {
    shape: Conv2d,
    weight: Trained,
    gamma: Trained,
    beta: Trained,
    norm: NormArrays,
}

struct Block {
    layers: [Layer; 3],
    downsample: Option<Layer>,
}

/// A layer's results: the windows of its input (none where the input itself is enough), the convolution without its
/// bias, and the normalisation, `[4, c]`.
struct LayerOutput {
    windows: Option<Activations>,
    /// How far apart their rows are.
    width: usize,
    z: Activations,
    norm: Floats,
}

/// A block's results; `inner` are the first two layers' outputs after ReLU.
struct BlockOutput {
    layers: [LayerOutput; 3],
    inner: [Activations; 2],
    downsample: Option<LayerOutput>,
    out: Activations,
}

/// What the backward pass needs. The features are `[n, 2048]`.
struct Pass {
    stem: LayerOutput,
    pooled: Activations,
    codes: Codes,
    blocks: Vec<BlockOutput>,
    features: Floats,
}

/// ResNet50 on CUDA device `ordinal`, with new weights.
///
/// # Errors
/// As [`ResNet50::new`]; also where the device cannot be used or has too little memory.
pub fn build(spec: &Spec, ordinal: usize) -> Result<Box<dyn Model>> {
    let cpu = ResNet50::new(spec)?;
    let gpu = super::start(spec, ordinal)?;
    let arrays = Arrays::new(&gpu, spec.optimiser, &cpu.state(true))
        .map_err(|error| fault(ResNet50OnCuda::NAME, Work::Build, error))?;
    let mut layers = cpu.shapes().map(|(conv, norm, shape)| {
        let array = |layer: &str, which: &str| arrays.trained(&format!("{layer}.{which}"));
        let running = |which: &str| arrays.running(&format!("{norm}.running_{which}"));
        let (gamma, beta) = (array(norm, "weight"), array(norm, "bias"));
        let norm = NormArrays {
            gamma: gamma.value,
            beta: beta.value,
            bias: array(conv, "bias").value,
            running_mean: running("mean"),
            running_variance: running("var"),
        };
        Layer { shape, weight: array(conv, "weight"), gamma, beta, norm }
    });
    let mut next = || layers.next().expect("every block has its layers");
    let stem = next();
    let mut blocks: Vec<Block> = Vec::new();
    for has_downsample in cpu.downsamples() {
        let layers = [next(), next(), next()];
        blocks.push(Block { layers, downsample: has_downsample.then(&mut next) });
    }
    drop(layers);
    let last = ["weight", "bias"].map(|which| arrays.trained(&format!("fc.{which}")));
    let network = ResNet50OnCuda { size: spec.size_px, stem, blocks, last };
    Ok(Box::new(OnCuda { network, size: spec.size_px, arrays, gpu }))
}

impl Layer {
    /// Rows and channels of the output of `n` images.
    fn rows(&self, n: usize) -> [usize; 2] {
        [n * self.shape.out_h() * self.shape.out_w(), self.shape.c_out]
    }

    /// Whether the rows of the input are the windows.
    fn is_plain(&self) -> bool {
        (self.shape.kernel, self.shape.stride) == (1, 1)
    }

    /// The layer's results, in training by the moments of the batch and otherwise by the running ones. The input of the
    /// first layer is images.
    fn forward(&self, gpu: &Gpu, x: u64, n: usize, training: bool) -> cuda::Result<LayerOutput> {
        let ([rows, c], shape) = (self.rows(n), &self.shape);
        let (windows, width) = match shape.c_in {
            3 => gpu.image_windows(n, shape, x).map(|(windows, width)| (Some(windows), width))?,
            _ if self.is_plain() => (None, shape.depth()),
            _ => (Some(gpu.windows(n, shape, x)?), shape.depth()),
        };
        let (z, from) = (gpu.activations(rows * c)?, windows.as_ref().map_or(x, Activations::at));
        gpu.multiply([gpu.stored(); 2], [rows, shape.depth(), c], (from, width), self.weight.stored, z.at())?;
        let norm = match training {
            true => gpu.norm([rows, c], z.at(), self.norm, MOMENTUM, EPSILON)?,
            false => gpu.running_norm(c, self.norm, EPSILON)?,
        };
        Ok(LayerOutput { windows: windows.filter(|_| training), width, z, norm })
    }

    /// Writes the gradient of the convolution to `to`, from the gradient `d` of the normalised output (with `relu`, of
    /// its ReLU); they may be the same array. Writes the gradients of the arrays, and adds the gradient of the input to
    /// `dx`; without `more`, it is set.
    #[allow(clippy::too_many_arguments)]
    fn backward(
        &self,
        gpu: &Gpu,
        output: &LayerOutput,
        relu: bool,
        x: u64,
        n: usize,
        (d, to): (u64, u64),
        dx: Option<(u64, bool)>,
    ) -> cuda::Result<()> {
        let ([rows, c], depth, stored) = (self.rows(n), self.shape.depth(), gpu.stored());
        let gradients = [self.gamma.gradient, self.beta.gradient];
        gpu.norm_backward([rows, c], output.z.at(), output.norm.at(), relu, (d, to), gradients)?;
        let windows = output.windows.as_ref().map_or(x, Activations::at);
        gpu.multiply_transpose(stored, [depth, rows, c], (windows, output.width), to, self.weight.gradient)?;
        match dx {
            Some((dx, more)) if self.is_plain() => {
                gpu.multiply_by_transpose(stored, [rows, c, depth], to, self.weight.stored, dx, more)
            }
            Some((dx, more)) => {
                let columns = gpu.activations(rows * depth)?;
                gpu.multiply_by_transpose(stored, [rows, c, depth], to, self.weight.stored, columns.at(), false)?;
                gpu.windows_backward(n, &self.shape, columns.at(), dx, more)
            }
            None => Ok(()),
        }
    }
}

impl Block {
    fn forward(&self, gpu: &Gpu, x: u64, n: usize, training: bool) -> cuda::Result<BlockOutput> {
        let [first, second, third] = &self.layers;
        let layer = |layer: &Layer, x| layer.forward(gpu, x, n, training);
        let relu = |layer: &Layer, output: &LayerOutput| gpu.norm_relu(layer.rows(n), output.z.at(), output.norm.at());
        let a = layer(first, x)?;
        let inner_a = relu(first, &a)?;
        let b = layer(second, inner_a.at())?;
        let inner_b = relu(second, &b)?;
        let c = layer(third, inner_b.at())?;
        let downsample = self.downsample.as_ref().map(|downsample| layer(downsample, x)).transpose()?;
        let (shortcut, norm) = match &downsample {
            Some(output) => (output.z.at(), Some(output.norm.at())),
            None => (x, None),
        };
        let out = gpu.shortcut(third.rows(n), c.z.at(), c.norm.at(), shortcut, norm)?;
        Ok(BlockOutput { layers: [a, b, c], inner: [inner_a, inner_b], downsample, out })
    }

    /// The gradient of the block's input `x`, from the gradient `d` of its output.
    fn backward(&self, gpu: &Gpu, output: BlockOutput, x: u64, n: usize, d: Activations) -> cuda::Result<Activations> {
        let BlockOutput { layers: [a, b, c], inner: [inner_a, inner_b], downsample, out } = output;
        let [first, second, third] = &self.layers;
        let len = third.rows(n).iter().product();
        gpu.relu_backward(len, out.at(), d.at())?;
        drop(out);
        let dc = gpu.activations(len)?;
        let db = gpu.activations(n * third.shape.x_len())?;
        third.backward(gpu, &c, false, inner_b.at(), n, (d.at(), dc.at()), Some((db.at(), false)))?;
        drop((c, inner_b, dc));
        let da = gpu.activations(n * second.shape.x_len())?;
        second.backward(gpu, &b, true, inner_a.at(), n, (db.at(), db.at()), Some((da.at(), false)))?;
        drop((b, inner_a, db));
        // First the gradient of the shortcut; that of the three layers is added to it.
        let dx = match (&self.downsample, downsample) {
            (Some(layer), Some(output)) => {
                let dx = gpu.activations(n * layer.shape.x_len())?;
                layer.backward(gpu, &output, false, x, n, (d.at(), d.at()), Some((dx.at(), false)))?;
                dx
            }
            _ => d,
        };
        first.backward(gpu, &a, true, x, n, (da.at(), da.at()), Some((dx.at(), true)))?;
        Ok(dx)
    }
}

impl ResNet50OnCuda {
    /// Side of the images after the first convolution, and pixels after the last block.
    fn sides(&self) -> (usize, usize) {
        (self.stem.shape.out_h(), (self.size / 32) * (self.size / 32))
    }

    /// All layers but the last, of images `[n, size, size, 3]`. Without `training`, only the last block is kept.
    fn forward(&self, gpu: &Gpu, images: u64, n: usize, training: bool) -> cuda::Result<Pass> {
        let (side, pixels) = self.sides();
        let stem = self.stem.forward(gpu, images, n, training)?;
        let (pooled, codes) = gpu.pool3([n, side, side, self.stem.shape.c_out], stem.z.at(), stem.norm.at())?;
        let mut blocks: Vec<BlockOutput> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            let output = block.forward(gpu, x.at(), n, training)?;
            if !training {
                blocks.clear();
            }
            blocks.push(output);
        }
        let out = &blocks.last().expect("there are blocks").out;
        let features = gpu.mean_pool([n, pixels, FEATURES], out.at())?;
        Ok(Pass { stem, pooled, codes, blocks, features })
    }

    /// Writes the gradients of all layers but the last, from that of the features.
    fn backward(&self, gpu: &Gpu, pass: Pass, images: u64, features: Floats, n: usize) -> cuda::Result<()> {
        let (side, pixels) = self.sides();
        let Pass { stem, pooled, codes, blocks: mut outputs, .. } = pass;
        let mut d = gpu.mean_pool_backward([n, pixels, FEATURES], features.at())?;
        for block in self.blocks.iter().rev() {
            let output = outputs.pop().expect("every block has an output");
            let x = outputs.last().map_or(&pooled, |output| &output.out);
            d = block.backward(gpu, output, x.at(), n, d)?;
        }
        let d = gpu.pool3_backward([n, side, side, self.stem.shape.c_out], d.at(), &codes)?;
        // `relu` is false because the backward pass of the pooling includes that of ReLU.
        self.stem.backward(gpu, &stem, false, images, n, (d.at(), d.at()), None)
    }
}

impl Network for ResNet50OnCuda {
    const NAME: &'static str = "ResNet50";
    const WIDTH: usize = FEATURES;

    fn last(&self) -> [Trained; 2] {
        self.last
    }

    fn pass(&self, gpu: &Gpu, images: u64, targets: &Targets, _keys: &[u64]) -> cuda::Result<Logits> {
        let pass = self.forward(gpu, images, targets.n, true)?;
        let head = head(gpu, pass.features.at(), self.last, targets)?;
        self.backward(gpu, pass, images, head.features, targets.n)?;
        Ok(Logits { values: head.logits, keys: None })
    }

    fn features(&self, gpu: &Gpu, images: u64, n: usize) -> cuda::Result<Floats> {
        Ok(self.forward(gpu, images, n, false)?.features)
    }
}
