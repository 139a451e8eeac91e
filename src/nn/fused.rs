//! The CPU kernels of [`kernel`] as operations on dfdx's tape.

use super::kernel::{self, AdamStep, BatchDropout, BlockShape, IMAGES, TiledWeight, linear_bf16};
use super::precision::Precision;
use super::shape::Nhwc;
use super::vector::Vector;
use dfdx::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard};

type Result<T> = std::result::Result<T, CpuError>;

/// `dropout(max_pool_2x2(relu(conv_3x3(x) + bias)))`, padded with zeros, stride 1.
///
/// `x` is `[n, h, w, c_in]`, `weight` the flattened `[3, 3, c_in, c_out]`, `bias` `[c_out]`; the result is
/// `[n, h / 2, w / 2, c_out]`. Without `needs_dx`, the gradient of `x` is not computed.
pub fn conv3x3_block<T: Tape<f32, Cpu>>(
    (vector, precision): (Vector, Precision),
    x: Tensor<Nhwc, f32, Cpu, T>,
    weight: &Tensor<(usize,), f32, Cpu>,
    bias: &Tensor<(usize,), f32, Cpu>,
    dropout: Option<BatchDropout>,
    needs_dx: bool,
) -> Result<Tensor<Nhwc, f32, Cpu, T>> {
    let (x, mut tape) = x.split_tape();
    let (n, h, w, c_in) = *x.shape();
    let shape = BlockShape { h, w, c_in, c_out: bias.shape().0, precision };
    let (pixels, filters) = (values(&x), values(weight));
    let mut y = vec![0.0; n * shape.y_len()];
    let mut codes = vec![0; n * shape.y_len()];
    kernel::conv3x3_block(vector, shape, &pixels, &filters, &values(bias), dropout, &mut y, &mut codes);
    let y = x.device().try_tensor_from_vec(y, (n, shape.out_h(), shape.out_w(), shape.c_out))?;
    if T::OWNS_TAPE {
        let (x, y, weight, bias) = (x.ghost(), y.ghost(), weight.ghost(), bias.ghost());
        let scale = dropout.map_or(1.0, |d| d.dropout.scale());
        tape.add_backward_op(move |grads| {
            let dy = take(grads.get_or_alloc_mut(&y)?);
            let dx = if needs_dx { Some(grads.get_or_alloc_mut(&x)?.as_mut_slice()) } else { None };
            let gradients = kernel::conv3x3_block_backward(vector, shape, &pixels, &filters, &codes, scale, &dy, dx);
            add(grads.get_or_alloc_mut(&weight)?, &gradients.weight);
            add(grads.get_or_alloc_mut(&bias)?, &gradients.bias);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

/// The weight of a linear layer, outside dfdx and shared by the layer and the optimiser. dfdx would copy its 67 MB to
/// read it, and store a gradient of the same size.
#[derive(Clone, Debug)]
pub struct SharedWeight {
    tiled: Arc<Mutex<TiledWeight>>,
    /// The update that the next backward pass makes. With `None`, it stores the gradient instead.
    pub step: Option<AdamStep>,
    /// The gradient of the last backward pass without a `step`, in the order of the weight.
    pub gradient: Arc<Mutex<Vec<f32>>>,
}

impl SharedWeight {
    pub fn new(tiled: TiledWeight) -> Self {
        Self { tiled: Arc::new(Mutex::new(tiled)), step: None, gradient: Arc::default() }
    }

    /// Locks the weight.
    pub fn lock(&self) -> MutexGuard<'_, TiledWeight> {
        lock(&self.tiled)
    }

    /// Numbers of inputs and outputs.
    pub fn shape(&self) -> (usize, usize) {
        let tiled = self.lock();
        (tiled.inputs, tiled.outputs)
    }
}

/// Locks a mutex. Whether a thread panicked while it held the lock does not matter: the panic ends the program anyway.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// `dropout(relu(x W + bias))`: `x` is `[n, inputs]`, the result `[n, outputs]`.
///
/// With a `step`, the backward pass updates the weight in place, so that a tape can run backward only once.
pub fn linear_block<T: Tape<f32, Cpu>>(
    (vector, precision): (Vector, Precision),
    x: Tensor<(usize, usize), f32, Cpu, T>,
    weight: &SharedWeight,
    bias: &Tensor<(usize,), f32, Cpu>,
    dropout: Option<BatchDropout>,
) -> Result<Tensor<(usize, usize), f32, Cpu, T>> {
    let (x, mut tape) = x.split_tape();
    let (n, inputs) = *x.shape();
    let outputs = bias.shape().0;
    let padded = n.next_multiple_of(IMAGES);
    // Of f32 operands, the kernels read the transpose.
    let rounds = precision == Precision::Bf16;
    let operand = if rounds { values(&x) } else { kernel::transpose(n, inputs, padded, &values(&x)) };
    let mut y = vec![0.0; n * outputs];
    let linear = if rounds { linear_bf16::forward } else { kernel::linear };
    linear(vector, &weight.lock(), &operand, n, &values(bias), dropout, &mut y);
    let saved = if T::OWNS_TAPE { y.clone() } else { Vec::new() };
    let y = x.device().try_tensor_from_vec(y, (n, outputs))?;
    if T::OWNS_TAPE {
        let (x, y, bias, weight) = (x.ghost(), y.ghost(), bias.ghost(), weight.clone());
        let scale = dropout.map_or(1.0, |d| d.dropout.scale());
        tape.add_backward_op(move |grads| {
            let mut dz = take(grads.get_or_alloc_mut(&y)?);
            for (d, y) in dz.iter_mut().zip(&saved) {
                *d = if *y > 0.0 { *d * scale } else { 0.0 };
            }
            let mut bias_gradient = vec![0.0; outputs];
            for dz in dz.chunks_exact(outputs) {
                add(&mut bias_gradient, dz);
            }
            add(grads.get_or_alloc_mut(&bias)?, &bias_gradient);
            let mut tiled = weight.lock();
            let mut gradient = lock(&weight.gradient);
            let stored = weight.step.is_none().then(|| {
                gradient.resize(tiled.value.len(), 0.0);
                gradient.as_mut_slice()
            });
            let dx = grads.get_or_alloc_mut(&x)?;
            if rounds {
                add(dx, &linear_bf16::backward(vector, &mut tiled, &operand, n, &dz, weight.step, stored));
            } else {
                let dxt = kernel::linear_backward(vector, &mut tiled, &operand, n, &dz, weight.step, stored);
                add_transposed(dx, n, inputs, padded, &dxt);
            }
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

/// The values of a tensor; faster than dfdx's `as_vec`, which computes the index of each.
pub fn values<S: Shape, T>(tensor: &Tensor<S, f32, Cpu, T>) -> Vec<f32> {
    let mut values = vec![0.0; tensor.shape().num_elements()];
    tensor.copy_into(&mut values);
    values
}

/// Takes the gradient of an activation, which is not needed again.
fn take(gradient: &mut Vec<f32>) -> Vec<f32> {
    std::mem::take(gradient)
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (s, v) in sum.iter_mut().zip(values) {
        *s += v;
    }
}

/// Adds the transpose of `values`, `[columns, padded]`, to `sum`, `[rows, columns]`.
fn add_transposed(sum: &mut [f32], rows: usize, columns: usize, padded: usize, values: &[f32]) {
    use rayon::prelude::*;
    debug_assert_eq!(sum.len(), rows * columns);
    // A few rows and columns at a time, so that values stay in the cache until all of them are used.
    sum.par_chunks_mut(columns * 4).enumerate().for_each(|(group, sum)| {
        for first in (0..columns).step_by(64) {
            for (r, sum) in sum.chunks_exact_mut(columns).enumerate() {
                let sum = &mut sum[first..columns.min(first + 64)];
                for (s, v) in sum.iter_mut().zip(values[first * padded..].chunks_exact(padded)) {
                    *s += v[group * 4 + r];
                }
            }
        }
    });
}
