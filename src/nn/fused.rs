//! The kernels of [`super::kernel`] as operations on dfdx's tape (CPU).

use super::Shape4;
use super::kernel::{self, AdamStep, ConvShape, Dropout, LANES, Tiled, Vector};
use dfdx::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard};

type Result<T> = std::result::Result<T, CpuError>;

/// Dropout of one pass over a batch: the share, and a key an image.
#[derive(Clone, Copy, Debug)]
pub struct Drop<'a> {
    pub dropout: Dropout,
    pub keys: &'a [u64],
}

/// `dropout(max_pool_2x2(relu(conv_3x3(x) + bias)))`, zero-padded, stride 1.
///
/// `x` is `[n, h, w, c_in]`, `weight` the flattened `[3, 3, c_in, c_out]`, `bias` `[c_out]`; the result is
/// `[n, h/2, w/2, c_out]`. `needs_dx` is false where `x` is the picture itself, whose gradient nobody wants.
pub fn conv_block<T: Tape<f32, Cpu>>(
    vector: Vector,
    x: Tensor<Shape4, f32, Cpu, T>,
    weight: &Tensor<(usize,), f32, Cpu>,
    bias: &Tensor<(usize,), f32, Cpu>,
    dropout: Option<Drop>,
    needs_dx: bool,
) -> Result<Tensor<Shape4, f32, Cpu, T>> {
    let (x, mut tape) = x.split_tape();
    let (n, h, w, c_in) = *x.shape();
    let shape = ConvShape { h, w, c_in, c_out: bias.shape().0 };
    let (pixels, filters) = (values(&x), values(weight));
    let mut y = vec![0.0; n * shape.y_len()];
    let mut codes = vec![0; n * shape.y_len()];
    let drop = dropout.map(|d| (d.dropout, d.keys));
    kernel::conv_forward(vector, shape, &pixels, &filters, &values(bias), drop, &mut y, &mut codes);
    let y = x.device().try_tensor_from_vec(y, (n, shape.out_h(), shape.out_w(), shape.c_out))?;
    if T::OWNS_TAPE {
        let (x, y, weight, bias) = (x.ghost(), y.ghost(), weight.ghost(), bias.ghost());
        let scale = dropout.map_or(1.0, |d| d.dropout.scale());
        tape.add_backward_op(move |grads| {
            let dy = take(grads.get_or_alloc_mut(&y)?);
            let dx = if needs_dx { Some(grads.get_or_alloc_mut(&x)?.as_mut_slice()) } else { None };
            let found = kernel::conv_backward(vector, shape, &pixels, &filters, &codes, scale, &dy, dx);
            add(grads.get_or_alloc_mut(&weight)?, &found.weight);
            add(grads.get_or_alloc_mut(&bias)?, &found.bias);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

/// A linear layer's weight in storage of our own, shared by the layer and the optimiser: dfdx would copy its 67 MB to
/// read it, and keep a gradient as large.
#[derive(Clone, Debug)]
pub struct SharedWeight {
    pub tiled: Arc<Mutex<Tiled>>,
    /// The update that the next backward pass makes; `None` writes the gradient to [`SharedWeight::gradient`].
    pub step: Option<AdamStep>,
    /// The last backward pass's gradient (tiled), where there was no `step`.
    pub gradient: Arc<Mutex<Vec<f32>>>,
}

impl SharedWeight {
    pub fn new(tiled: Tiled) -> Self {
        Self { tiled: Arc::new(Mutex::new(tiled)), step: None, gradient: Arc::default() }
    }

    /// The weight, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Tiled> {
        lock(&self.tiled)
    }

    /// Inputs and outputs.
    pub fn shape(&self) -> (usize, usize) {
        let tiled = self.lock();
        (tiled.inputs, tiled.outputs)
    }
}

/// A lock that a panicked thread left behind is of no concern: the program ends with that panic anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// `dropout(relu(x W + bias))`: `x` is `[n, inputs]`, the result `[n, outputs]`.
///
/// # Panics
/// In the backward pass, where a `step` is armed, the weight is updated in place: a tape runs backward once.
pub fn linear_block<T: Tape<f32, Cpu>>(
    vector: Vector,
    x: Tensor<(usize, usize), f32, Cpu, T>,
    weight: &SharedWeight,
    bias: &Tensor<(usize,), f32, Cpu>,
    dropout: Option<Drop>,
) -> Result<Tensor<(usize, usize), f32, Cpu, T>> {
    let (x, mut tape) = x.split_tape();
    let (n, inputs) = *x.shape();
    let outputs = bias.shape().0;
    let padded = n.next_multiple_of(LANES);
    let xt = kernel::transpose(n, inputs, padded, &values(&x));
    let mut y = vec![0.0; n * outputs];
    let drop = dropout.map(|d| (d.dropout, d.keys));
    kernel::linear_forward(vector, &weight.lock(), &xt, n, &values(bias), drop, &mut y);
    let outputs_kept = if T::OWNS_TAPE { y.clone() } else { Vec::new() };
    let y = x.device().try_tensor_from_vec(y, (n, outputs))?;
    if T::OWNS_TAPE {
        let (x, y, bias, weight) = (x.ghost(), y.ghost(), bias.ghost(), weight.clone());
        let scale = dropout.map_or(1.0, |d| d.dropout.scale());
        tape.add_backward_op(move |grads| {
            let mut dz = take(grads.get_or_alloc_mut(&y)?);
            for (d, y) in dz.iter_mut().zip(&outputs_kept) {
                *d = if *y > 0.0 { *d * scale } else { 0.0 };
            }
            let mut bias_gradient = vec![0.0; outputs];
            for dz in dz.chunks_exact(outputs) {
                add(&mut bias_gradient, dz);
            }
            add(grads.get_or_alloc_mut(&bias)?, &bias_gradient);
            let mut tiled = weight.lock();
            let mut gradient = lock(&weight.gradient);
            let wanted = weight.step.is_none().then(|| {
                gradient.resize(tiled.value.len(), 0.0);
                gradient.as_mut_slice()
            });
            let dxt = kernel::linear_backward(vector, &mut tiled, &xt, n, &dz, weight.step, wanted);
            add_transposed(grads.get_or_alloc_mut(&x)?, n, inputs, padded, &dxt);
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

/// A tensor's values; dfdx's own `as_vec` walks them index by index.
pub fn values<S: Shape, T>(tensor: &Tensor<S, f32, Cpu, T>) -> Vec<f32> {
    let mut values = vec![0.0; tensor.shape().num_elements()];
    tensor.copy_into(&mut values);
    values
}

/// An activation's gradient, which nobody asks for again.
fn take(gradient: &mut Vec<f32>) -> Vec<f32> {
    std::mem::take(gradient)
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (s, m) in sum.iter_mut().zip(more) {
        *s += m;
    }
}

/// Adds `[columns, padded]` onto `[rows, columns]`.
fn add_transposed(sum: &mut [f32], rows: usize, columns: usize, padded: usize, more: &[f32]) {
    use rayon::prelude::*;
    debug_assert_eq!(sum.len(), rows * columns);
    // A few rows and columns at a time, so that what is read stays in the cache until all of it is used.
    sum.par_chunks_mut(columns * 4).enumerate().for_each(|(group, sum)| {
        for first in (0..columns).step_by(64) {
            for (r, sum) in sum.chunks_exact_mut(columns).enumerate() {
                let sum = &mut sum[first..columns.min(first + 64)];
                for (s, m) in sum.iter_mut().zip(more[first * padded..].chunks_exact(padded)) {
                    *s += m[group * 4 + r];
                }
            }
        }
    });
}
