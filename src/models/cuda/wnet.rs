//! W-Net on a CUDA device.

use super::arrays::{Arrays, Targets, Trained, Work, fault, head};
use super::model::{Logits, Network, OnCuda};
use crate::error::Result;
use crate::models::model::Model;
use crate::models::spec::Spec;
use crate::models::wnet::{FILTERS, HIDDEN, WNet, layer_keys};
use crate::nn::cuda::{self, Activations, Codes, DropoutArgument, Floats, Gpu, Stored};
use crate::nn::kernel::{Conv2d, Dropout};

struct WNetOnCuda {
    size: usize,
    dropout: Dropout,
    convolutions: [Convolution; 3],
    /// Weight and bias of the hidden linear layer, and of the last layer.
    hidden: [Trained; 2],
    last: [Trained; 2],
}

struct Convolution {
    shape: Conv2d,
    weight: Trained,
    bias: Trained,
}

/// What the backward pass needs: of each block the windows of its input (of the first, none), its output and the codes
/// of that; and the output of the hidden layer, `[n, 1024]`, stored as `f32`.
struct Pass {
    windows: Vec<Option<Activations>>,
    outputs: Vec<Activations>,
    codes: Vec<Codes>,
    hidden: Floats,
}

/// W-Net on CUDA device `ordinal`, with new weights.
///
/// # Errors
/// As [`WNet::new`]; also where the device cannot be used or has too little memory.
pub fn build(spec: &Spec, ordinal: usize) -> Result<Box<dyn Model>> {
    let cpu = WNet::new(spec)?;
    let gpu = super::start(spec, ordinal)?;
    let arrays = Arrays::new(&gpu, spec.optimiser, &cpu.state(true))
        .map_err(|error| fault(WNetOnCuda::NAME, Work::Build, error))?;
    let pair = |layer: &str| ["weight", "bias"].map(|which| arrays.trained(&format!("{layer}.{which}")));
    let convolutions = std::array::from_fn(|i| {
        let (side, c_in) = (spec.size_px >> i, if i == 0 { 3 } else { FILTERS[i - 1] });
        let shape = Conv2d {
            h: side,
            w: side,
            c_in,
            c_out: FILTERS[i],
            kernel: 3,
            stride: 1,
            pad: 1,
            precision: spec.precision,
        };
        let [weight, bias] = pair(&format!("conv{}", i + 1));
        Convolution { shape, weight, bias }
    });
    let (hidden, last) = (pair("fc1"), pair("fc2"));
    let dropout = Dropout { p: spec.dropout };
    let network = WNetOnCuda { size: spec.size_px, dropout, convolutions, hidden, last };
    Ok(Box::new(OnCuda { network, size: spec.size_px, arrays, gpu }))
}

impl WNetOnCuda {
    /// Inputs of the hidden linear layer.
    fn inputs(&self) -> usize {
        (self.size / 8) * (self.size / 8) * FILTERS[2]
    }

    /// All layers but the last, of images `[n, size, size, 3]`.
    fn forward(&self, gpu: &Gpu, images: u64, n: usize, drop: &[DropoutArgument; 4]) -> cuda::Result<Pass> {
        let (mut windows, mut outputs, mut codes): (Vec<Option<Activations>>, Vec<Activations>, Vec<_>) =
            Default::default();
        let stored = gpu.stored();
        for (Convolution { shape, weight, bias }, drop) in self.convolutions.iter().zip(drop) {
            let output = [n, shape.h, shape.w, shape.c_out];
            let (y, code) = match outputs.last() {
                None => {
                    windows.push(None);
                    gpu.first_block(output, images, [weight.value, bias.value], *drop)?
                }
                Some(x) => {
                    let rows = n * shape.h * shape.w;
                    let columns = gpu.windows(n, shape, x.at())?;
                    let (z, dims) = (gpu.activations(rows * shape.c_out)?, [rows, shape.depth(), shape.c_out]);
                    gpu.multiply([stored; 2], dims, (columns.at(), shape.depth()), weight.stored, z.at())?;
                    windows.push(Some(columns));
                    gpu.pool2(output, z.at(), bias.value, *drop)?
                }
            };
            outputs.push(y);
            codes.push(code);
        }
        let hidden = gpu.floats(n * HIDDEN)?;
        let [weight, bias] = self.hidden;
        let dims = [n, self.inputs(), HIDDEN];
        gpu.multiply([stored, Stored::F32], dims, (outputs[2].at(), dims[1]), weight.stored, hidden.at())?;
        gpu.hidden([n, HIDDEN], bias.value, drop[3], hidden.at())?;
        Ok(Pass { windows, outputs, codes, hidden })
    }

    /// Writes the gradients of all layers but the last, from that of the hidden layer's output.
    fn backward(
        &self,
        gpu: &Gpu,
        pass: Pass,
        images: u64,
        d: Floats,
        n: usize,
        drop: &[DropoutArgument; 4],
    ) -> cuda::Result<()> {
        let (inputs, stored) = (self.inputs(), gpu.stored());
        let [weight, bias] = self.hidden;
        let d = gpu.hidden_backward(n * HIDDEN, pass.hidden.at(), drop[3].scale(), d.at())?;
        gpu.sum_rows(stored, [n, HIDDEN], d.at(), bias.gradient)?;
        let from = (pass.outputs[2].at(), inputs);
        gpu.multiply_transpose(stored, [inputs, n, HIDDEN], from, d.at(), weight.gradient)?;
        let mut dy = gpu.activations(n * inputs)?;
        gpu.multiply_by_transpose(stored, [n, HIDDEN, inputs], d.at(), weight.stored, dy.at(), false)?;
        for (i, Convolution { shape, weight, bias }) in self.convolutions.iter().enumerate().rev() {
            let (rows, depth, c_out) = (n * shape.h * shape.w, shape.depth(), shape.c_out);
            let (output, codes, scale) = ([n, shape.h, shape.w, c_out], &pass.codes[i], drop[i].scale());
            let Some(windows) = &pass.windows[i] else {
                let gradients = [weight.gradient, bias.gradient];
                gpu.first_block_backward(output, images, dy.at(), codes, scale, gradients)?;
                continue;
            };
            let dz = gpu.pool2_backward(output, dy.at(), codes, scale)?;
            gpu.sum_rows(stored, [rows, c_out], dz.at(), bias.gradient)?;
            gpu.multiply_transpose(stored, [depth, rows, c_out], (windows.at(), depth), dz.at(), weight.gradient)?;
            let columns = gpu.activations(rows * depth)?;
            gpu.multiply_by_transpose(stored, [rows, c_out, depth], dz.at(), weight.stored, columns.at(), false)?;
            dy = gpu.activations(n * shape.x_len())?;
            gpu.windows_backward(n, shape, columns.at(), dy.at(), false)?;
        }
        Ok(())
    }
}

impl Network for WNetOnCuda {
    const NAME: &'static str = "W-Net";
    const WIDTH: usize = HIDDEN;

    fn last(&self) -> [Trained; 2] {
        self.last
    }

    fn pass(&self, gpu: &Gpu, images: u64, targets: &Targets, keys: &[u64]) -> cuda::Result<Logits> {
        let (keys, drop) = gpu.dropout(self.dropout, &layer_keys(keys))?;
        let pass = self.forward(gpu, images, targets.n, &drop)?;
        let head = head(gpu, pass.hidden.at(), self.last, targets)?;
        self.backward(gpu, pass, images, head.features, targets.n, &drop)?;
        Ok(Logits { values: head.logits, keys: Some(keys) })
    }

    fn features(&self, gpu: &Gpu, images: u64, n: usize) -> cuda::Result<Floats> {
        Ok(self.forward(gpu, images, n, &[DropoutArgument::NONE; 4])?.hidden)
    }
}
