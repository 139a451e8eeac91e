//! The same blocks as [`super::fused`], from dfdx's public operations alone: for any device (the CUDA path), and the
//! oracle that the CPU kernels are held against.

use super::Shape4;
use super::fused::Drop;
use dfdx::prelude::*;

type Flat = (usize, usize);

/// See [`super::fused::conv_block`].
pub fn conv_block<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Shape4, f32, D, T>,
    weight: Tensor<(usize,), f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
    dropout: Option<Drop>,
) -> Result<Tensor<Shape4, f32, D, T>, D::Err> {
    let dev = x.device().clone();
    let (n, h, w, c_in) = *x.shape();
    let c_out = bias.shape().0;
    // Zero frame: rows above and below, then columns left and right.
    let row = || dev.try_zeros_like(&(n, 1, w, c_in)).map(|t| t.retaped::<T>());
    let column = || dev.try_zeros_like(&(n, h + 2, 1, c_in)).map(|t| t.retaped::<T>());
    let x = (row()?, x).try_concat_along(Axis::<1>)?;
    let x = (x, row()?).try_concat_along(Axis::<1>)?;
    let x = (column()?, x).try_concat_along(Axis::<2>)?;
    let x = (x, column()?).try_concat_along(Axis::<2>)?;
    // Nine shifted copies side by side: [n, h, w, 9 * c_in].
    let (x, mut tape) = x.split_tape();
    let tap = |k: usize| {
        let (ky, kx) = (k / 3, k % 3);
        // dfdx's slice writes its gradient where it should add it, so that each tap slices a tensor of its own.
        x.retaped::<T>()
            .try_mul(1.0)?
            .try_slice((0..n, ky..ky + h, kx..kx + w, 0..c_in))
            .and_then(|t| t.try_reshape_like(&(n, h, w, c_in)))
    };
    let mut columns = tap(0)?;
    for k in 1..9 {
        columns = (columns, tap(k)?).try_concat_along(Axis::<3>)?;
    }
    let columns: Tensor<Flat, f32, D, T> = columns.try_reshape_like(&(n * h * w, 9 * c_in))?;
    let weight: Tensor<Flat, f32, D, T> = weight.try_reshape_like(&(9 * c_in, c_out))?;
    let z = columns.try_matmul(weight)?;
    let bias: Tensor<Flat, f32, D, T> = bias.try_broadcast_like::<_, Axis<0>>(&(n * h * w, c_out))?;
    let z = z.try_add(bias)?.try_relu()?;
    // 2x2 windows; an odd last row or column stands in none.
    let (oh, ow) = (h / 2, w / 2);
    let z: Tensor<Shape4, f32, D, T> = z.try_reshape_like(&(n, h, w, c_out))?;
    let z = z.try_slice((0..n, 0..2 * oh, 0..2 * ow, 0..c_out))?;
    let z: Tensor<(usize, usize, usize, usize, usize, usize), f32, D, T> =
        z.try_reshape_like(&(n, oh, 2, ow, 2, c_out))?;
    let y: Tensor<Shape4, f32, D, T> = z.try_max::<Shape4, Axes2<2, 4>>()?;
    let y = match dropout {
        Some(d) => {
            let mask = dev.try_tensor_from_vec(mask(d, oh * ow * c_out), (n, oh, ow, c_out))?;
            y.try_mul(mask.retaped::<T>())?
        }
        None => y,
    };
    let (y, own) = y.split_tape();
    tape = tape.merge(own);
    Ok(y.put_tape(tape))
}

/// See [`super::fused::linear_block`]; `weight` is `[inputs, outputs]`.
pub fn linear_block<D: Device<f32>, T: Tape<f32, D>>(
    x: Tensor<Flat, f32, D, T>,
    weight: Tensor<Flat, f32, D, T>,
    bias: Tensor<(usize,), f32, D, T>,
    dropout: Option<Drop>,
) -> Result<Tensor<Flat, f32, D, T>, D::Err> {
    let dev = x.device().clone();
    let shape = (x.shape().0, bias.shape().0);
    let y = x.try_matmul(weight)?;
    let bias: Tensor<Flat, f32, D, T> = bias.try_broadcast_like::<_, Axis<0>>(&shape)?;
    let y = y.try_add(bias)?.try_relu()?;
    match dropout {
        Some(d) => y.try_mul(dev.try_tensor_from_vec(mask(d, shape.1), shape)?.retaped::<T>()),
        None => Ok(y),
    }
}

/// What each value of a batch is multiplied by: 0, or dropout's scale.
fn mask(drop: Drop, len: usize) -> Vec<f32> {
    let Drop { dropout, keys } = drop;
    let one = |key: u64, i: usize| if dropout.keeps(key, i) { dropout.scale() } else { 0.0 };
    keys.iter().flat_map(|key| (0..len).map(move |i| one(*key, i))).collect()
}
