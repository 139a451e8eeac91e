//! Layers from dfdx's public operations alone, for any device. Grad-CAM uses them, and tests compare our kernels with
//! them. Activations are `[n, h, w, c]`; filters are `[kernel, kernel, c_in, c_out]`, flattened.

use super::kernel::BatchDropout;
use super::shape::Nhwc;
use dfdx::prelude::*;

type Matrix = (usize, usize);

/// See [`super::fused::conv3x3_block`].
pub fn conv3x3_block<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Nhwc, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
    drop: Option<BatchDropout>,
) -> Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    dropout(max_pool_2x2(conv3x3_relu(x, weight, bias)?)?, drop)
}

/// `relu(conv_3x3(x) + bias)`, padded with zeros, stride 1.
pub fn conv3x3_relu<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Nhwc, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
) -> Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    let (n, h, w, _) = *x.shape();
    let c_out = bias.shape().0;
    let z = conv2d(x, weight, 3, 1, c_out)?;
    let bias: Tensor<Nhwc, f32, D, T> = bias.try_broadcast_like::<_, Axes3<0, 1, 2>>(&(n, h, w, c_out))?;
    z.try_add(bias)?.try_relu()
}

/// The largest value of each 2 x 2 window; an odd last row or column is left out.
pub fn max_pool_2x2<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<Nhwc, f32, D, T>,
) -> Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    let (n, h, w, c) = *z.shape();
    let (oh, ow) = (h / 2, w / 2);
    let z = z.try_slice((0..n, 0..2 * oh, 0..2 * ow, 0..c))?;
    // Pairs within a row first, so that the first of equal values is the first in row-major order.
    let z: Tensor<(usize, usize, usize), f32, D, T> = z.try_reshape_like(&(n * 2 * oh * ow, 2, c))?;
    let z: Tensor<(usize, usize, usize), f32, D, T> = largest(z)?.try_reshape_like(&(n * oh, 2, ow * c))?;
    largest(z)?.try_reshape_like(&(n, oh, ow, c))
}

/// The largest value along the second axis: `[a, k, c]` → `[a, c]`. Of equal values only the first has a gradient, as
/// in the CPU kernels; dfdx's own maximum gives each of them the whole gradient.
fn largest<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<(usize, usize, usize), f32, D, T>,
) -> Result<Tensor<Matrix, f32, D, T>, D::Err> {
    let (a, k, c) = *z.shape();
    let (z, tape) = z.split_tape();
    let mut largest: Tensor<Matrix, f32, D, T> =
        z.clone().put_tape(tape).try_slice((0..a, 0..1, 0..c))?.try_reshape_like(&(a, c))?;
    for i in 1..k {
        let other = z.retaped::<T>().try_slice((0..a, i..i + 1, 0..c))?.try_reshape_like(&(a, c))?;
        largest = largest.try_ge(&other)?.try_choose(largest, other)?;
    }
    Ok(largest)
}

/// Dropout, unless `drop` is `None`; the first axis of `x` is the images.
pub fn dropout<S: Shape, D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<S, f32, D, T>,
    drop: Option<BatchDropout>,
) -> Result<Tensor<S, f32, D, T>, D::Err> {
    let Some(drop) = drop else { return Ok(x) };
    let (dev, shape) = (x.device().clone(), *x.shape());
    let mask = dropout_mask(drop, shape.num_elements() / drop.keys.len());
    x.try_mul(dev.try_tensor_from_vec(mask, shape)?.retaped::<T>())
}

/// See [`super::fused::linear_block`]; `weight` is `[inputs, outputs]`.
pub fn linear_block<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Matrix, f32, D, T>,
    weight: Tensor<Matrix, f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
    drop: Option<BatchDropout>,
) -> Result<Tensor<Matrix, f32, D, T>, D::Err> {
    dropout(linear(x, weight, bias)?.try_relu()?, drop)
}

/// `x W + bias`.
pub fn linear<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Matrix, f32, D, T>,
    weight: Tensor<Matrix, f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
) -> Result<Tensor<Matrix, f32, D, T>, D::Err> {
    let shape = (x.shape().0, bias.shape().0);
    x.try_matmul(weight)?.try_add(bias.try_broadcast_like::<_, Axis<0>>(&shape)?)
}

/// Convolution without bias, padded by half the kernel with zeros: `[n, h, w, c_in]` → `[n, oh, ow, c_out]`.
pub fn conv2d<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Nhwc, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    kernel: usize,
    stride: usize,
    c_out: usize,
) -> Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    let (n, _, _, c_in) = *x.shape();
    let (columns, oh, ow) = windows(x, kernel, stride)?;
    let depth = kernel * kernel * c_in;
    let columns: Tensor<Matrix, f32, D, T> = columns.try_reshape_like(&(n * oh * ow, depth))?;
    let weight: Tensor<Matrix, f32, D, T> = weight.try_reshape_like(&(depth, c_out))?;
    columns.try_matmul(weight)?.try_reshape_like(&(n, oh, ow, c_out))
}

/// The largest value of each 3 x 3 window, with stride 2 and padding 1; no value of `x` may be below 0.
pub fn max_pool_3x3<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Nhwc, f32, D, T>,
) -> Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    let (n, _, _, c) = *x.shape();
    let (columns, oh, ow) = windows(x, 3, 2)?;
    let columns: Tensor<(usize, usize, usize), f32, D, T> = columns.try_reshape_like(&(n * oh * ow, 9, c))?;
    largest(columns)?.try_reshape_like(&(n, oh, ow, c))
}

/// Mean over the pixels of each image: `[n, h, w, c]` → `[n, c]`.
pub fn mean_pool<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Nhwc, f32, D, T>,
) -> Result<Tensor<Matrix, f32, D, T>, D::Err> {
    x.try_mean::<Matrix, Axes2<1, 2>>()
}

/// Batch normalisation by the mean and (biased) variance of the batch, which are returned as well.
pub fn batch_norm<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<Nhwc, f32, D, T>,
    gamma: Tensor<(usize,), f32, D, T>,
    beta: Tensor<(usize,), f32, D, T>,
    epsilon: f32,
) -> Result<(Tensor<Nhwc, f32, D, T>, [Vec<f32>; 2]), D::Err> {
    let shape = *z.shape();
    let (z, tape) = z.split_tape();
    let mean = z.retaped::<T>().try_mean::<(usize,), Axes3<0, 1, 2>>()?;
    let means = mean.as_vec();
    let centred = z.put_tape(tape).try_sub(mean.try_broadcast_like::<_, Axes3<0, 1, 2>>(&shape)?)?;
    let (centred, tape) = centred.split_tape();
    let variance = centred.retaped::<T>().try_square()?.try_mean::<(usize,), Axes3<0, 1, 2>>()?;
    let variances = variance.as_vec();
    let scale = variance.try_add(epsilon)?.try_sqrt()?.try_recip()?.try_mul(gamma)?;
    let scaled = centred.put_tape(tape).try_mul(scale.try_broadcast_like::<_, Axes3<0, 1, 2>>(&shape)?)?;
    Ok((scaled.try_add(beta.try_broadcast_like::<_, Axes3<0, 1, 2>>(&shape)?)?, [means, variances]))
}

/// `scale * z + shift`, with one scale and one shift per channel.
pub fn scale_shift<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<Nhwc, f32, D, T>,
    scale: Vec<f32>,
    shift: Vec<f32>,
) -> Result<Tensor<Nhwc, f32, D, T>, D::Err> {
    let (dev, shape) = (z.device().clone(), *z.shape());
    let broadcast = |values: Vec<f32>| {
        let c = values.len();
        dev.try_tensor_from_vec(values, (c,))?.retaped::<T>().try_broadcast_like::<_, Axes3<0, 1, 2>>(&shape)
    };
    z.try_mul(broadcast(scale)?)?.try_add(broadcast(shift)?)
}

/// The `kernel x kernel` window of every output pixel, padded by half the kernel with zeros: `[n, h, w, c]` →
/// `[n, oh * ow * kernel * kernel, c]`. Also returns `oh` and `ow`.
fn windows<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Nhwc, f32, D, T>,
    kernel: usize,
    stride: usize,
) -> Result<(Tensor<(usize, usize, usize), f32, D, T>, usize, usize), D::Err> {
    let dev = x.device().clone();
    let (n, h, w, c) = *x.shape();
    let pad = kernel / 2;
    let (oh, ow) = ((h + 2 * pad - kernel) / stride + 1, (w + 2 * pad - kernel) / stride + 1);
    let x: Tensor<(usize, usize, usize), f32, D, T> = x.try_reshape_like(&(n, h * w, c))?;
    if (kernel, stride) == (1, 1) {
        return Ok((x, oh, ow));
    }
    // One more pixel, of zeros, takes the place of all pixels outside the image.
    let zero = dev.try_zeros_like(&(n, 1, c))?.retaped::<T>();
    let x = (x, zero).try_concat_along(Axis::<1>)?;
    let mut positions = Vec::with_capacity(n * oh * ow * kernel * kernel);
    for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y * stride, x * stride))) {
        for (y, x) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (y + ky, x + kx))) {
            let inside = (pad..pad + h).contains(&y) && (pad..pad + w).contains(&x);
            positions.push(if inside { (y - pad) * w + x - pad } else { h * w });
        }
    }
    let count = positions.len();
    let positions: Tensor<Matrix, usize, D> = dev.try_tensor_from_vec(positions.repeat(n), (n, count))?;
    Ok((x.try_gather(positions)?, oh, ow))
}

/// The factor of each value of a batch: 0, or the scale of dropout.
fn dropout_mask(drop: BatchDropout, len: usize) -> Vec<f32> {
    let BatchDropout { dropout, keys } = drop;
    let factor = |key: u64, i: usize| if dropout.keeps(key, i) { dropout.scale() } else { 0.0 };
    keys.iter().flat_map(|key| (0..len).map(move |i| factor(*key, i))).collect()
}
