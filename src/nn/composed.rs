//! Layers from dfdx's public operations alone: for any device (the CUDA path), and the oracle that the CPU kernels are
//! held against. Activations are `[n, h, w, c]`, filters the flattened `[kernel, kernel, c_in, c_out]`.

use super::Shape4;
use super::fused::Drop;
use dfdx::prelude::*;

type Flat = (usize, usize);

/// See [`super::fused::conv_block`].
pub fn conv_block<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
    drop: Option<Drop>,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    dropout(halve(conv_relu(x, weight, bias)?)?, drop)
}

/// `relu(conv_3x3(x) + bias)`, zero-padded, stride 1.
pub fn conv_relu<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let (n, h, w, _) = *x.shape();
    let c_out = bias.shape().0;
    let z = convolution(x, weight, 3, 1, c_out)?;
    let bias: Tensor<Shape4, f32, D, T> = bias.try_broadcast_like::<_, Axes3<0, 1, 2>>(&(n, h, w, c_out))?;
    z.try_add(bias)?.try_relu()
}

/// The largest of 2x2 windows; an odd last row or column stands in none.
pub fn halve<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<Shape4, f32, D, T>,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let (n, h, w, c) = *z.shape();
    let (oh, ow) = (h / 2, w / 2);
    let z = z.try_slice((0..n, 0..2 * oh, 0..2 * ow, 0..c))?;
    let z: Tensor<(usize, usize, usize, usize, usize, usize), f32, D, T> = z.try_reshape_like(&(n, oh, 2, ow, 2, c))?;
    z.try_max::<Shape4, Axes2<2, 4>>()
}

/// Dropout of a batch, where there is one; the first of `S`'s axes counts the images.
pub fn dropout<S: Shape, D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<S, f32, D, T>,
    drop: Option<Drop>,
) -> Result<Tensor<S, f32, D, T>, D::Err> {
    let Some(drop) = drop else { return Ok(x) };
    let (dev, shape) = (x.device().clone(), *x.shape());
    let mask = mask(drop, shape.num_elements() / drop.keys.len());
    x.try_mul(dev.try_tensor_from_vec(mask, shape)?.retaped::<T>())
}

/// See [`super::fused::linear_block`]; `weight` is `[inputs, outputs]`.
pub fn linear_block<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Flat, f32, D, T>,
    weight: Tensor<Flat, f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
    drop: Option<Drop>,
) -> Result<Tensor<Flat, f32, D, T>, D::Err> {
    dropout(linear(x, weight, bias)?.try_relu()?, drop)
}

/// `x W + bias`.
pub fn linear<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Flat, f32, D, T>,
    weight: Tensor<Flat, f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
) -> Result<Tensor<Flat, f32, D, T>, D::Err> {
    let shape = (x.shape().0, bias.shape().0);
    x.try_matmul(weight)?.try_add(bias.try_broadcast_like::<_, Axis<0>>(&shape)?)
}

/// Convolution without a bias, zero-padded by half the kernel: `[n, h, w, c_in]` → `[n, oh, ow, c_out]`.
pub fn convolution<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    kernel: usize,
    stride: usize,
    c_out: usize,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let (n, _, _, c_in) = *x.shape();
    let (columns, oh, ow) = windows(x, kernel, stride)?;
    let depth = kernel * kernel * c_in;
    let columns: Tensor<Flat, f32, D, T> = columns.try_reshape_like(&(n * oh * ow, depth))?;
    let weight: Tensor<Flat, f32, D, T> = weight.try_reshape_like(&(depth, c_out))?;
    columns.try_matmul(weight)?.try_reshape_like(&(n, oh, ow, c_out))
}

/// `max_pool_3x3` of stride 2, padded by 1, of what is nowhere below 0.
pub fn max_pool<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let (n, _, _, c) = *x.shape();
    let (columns, oh, ow) = windows(x, 3, 2)?;
    let columns: Tensor<(usize, usize, usize, usize, usize), f32, D, T> =
        columns.try_reshape_like(&(n, oh, ow, 9, c))?;
    columns.try_max::<Shape4, Axis<3>>()
}

/// Mean over a picture's pixels: `[n, h, w, c]` → `[n, c]`.
pub fn mean_pool<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
) -> Result<Tensor<Flat, f32, D, T>, D::Err> {
    x.try_mean::<Flat, Axes2<1, 2>>()
}

/// Batch normalisation by the batch's own mean and (biased) variance, which come back with it.
pub fn batch_norm<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<Shape4, f32, D, T>,
    gamma: Tensor<(usize,), f32, D, T>,
    beta: Tensor<(usize,), f32, D, T>,
    epsilon: f32,
) -> Result<(Tensor<Shape4, f32, D, T>, [Vec<f32>; 2]), D::Err> {
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

/// `scale * z + shift`, a number a channel.
pub fn scale_shift<D: Device<f32>, T: Tape<f32, D>>(
    z: Tensor<Shape4, f32, D, T>,
    scale: Vec<f32>,
    shift: Vec<f32>,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let (dev, shape) = (z.device().clone(), *z.shape());
    let wide = |values: Vec<f32>| {
        let c = values.len();
        dev.try_tensor_from_vec(values, (c,))?.retaped::<T>().try_broadcast_like::<_, Axes3<0, 1, 2>>(&shape)
    };
    z.try_mul(wide(scale)?)?.try_add(wide(shift)?)
}

/// The `kernel x kernel` inputs of every output pixel, zero-padded by half the kernel: `[n, h, w, c]` →
/// `[n, oh * ow * kernel * kernel, c]`, and `oh` and `ow`.
fn windows<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
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
    // One pixel more, of zeros, stands for all that lie outside.
    let zero = dev.try_zeros_like(&(n, 1, c))?.retaped::<T>();
    let x = (x, zero).try_concat_along(Axis::<1>)?;
    let mut places = Vec::with_capacity(n * oh * ow * kernel * kernel);
    for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y * stride, x * stride))) {
        for (y, x) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (y + ky, x + kx))) {
            let inside = (pad..pad + h).contains(&y) && (pad..pad + w).contains(&x);
            places.push(if inside { (y - pad) * w + x - pad } else { h * w });
        }
    }
    let count = places.len();
    let places: Tensor<Flat, usize, D> = dev.try_tensor_from_vec(places.repeat(n), (n, count))?;
    Ok((x.try_gather(places)?, oh, ow))
}

/// What each value of a batch is multiplied by: 0, or dropout's scale.
fn mask(drop: Drop, len: usize) -> Vec<f32> {
    let Drop { dropout, keys } = drop;
    let one = |key: u64, i: usize| if dropout.keeps(key, i) { dropout.scale() } else { 0.0 };
    keys.iter().flat_map(|key| (0..len).map(move |i| one(*key, i))).collect()
}
