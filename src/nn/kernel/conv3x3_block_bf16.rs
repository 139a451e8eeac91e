//! [`conv3x3_block`](super::conv3x3_block) with operands that are rounded to bf16.
//!
//! Blocks of sums are the pixels of eight pooling windows, and are pooled at once. Products of bf16 are so fast that
//! the backward pass computes all of them, with zeros for the pixels that have no gradient.

use super::bf16::{BLOCK, Packed, Rows, Sums, to_bf16};
use super::bf16_product::Blocks;
use super::conv2d_bf16::{self, InputGradient, Operands, WeightGradient};
use super::conv2d_shape::Conv2d;
use super::conv3x3_block_shape::{BlockShape, Gradients, NO_GRADIENT, PANEL, pool};
use super::dropout::{BatchDropout, Dropout};
use super::frame::Input;
use super::windows::{Band, Layout, Source};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Working memory of a thread.
#[derive(Default)]
struct Scratch {
    framed: Vec<u16>,
    /// An image in a frame, whose windows are then copied out.
    image: Vec<u16>,
    /// The rounded gradient of an image's convolution: `[h, w, c_out]`.
    z: Vec<u16>,
    operands: Operands,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn convolution(shape: BlockShape) -> Conv2d {
    let BlockShape { h, w, c_in, c_out, precision } = shape;
    Conv2d { h, w, c_in, c_out, kernel: 3, stride: 1, pad: 1, precision }
}

/// See [`conv3x3_block`](super::conv3x3_block()).
pub fn forward(
    vector: Vector,
    shape: BlockShape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    dropout: Option<BatchDropout>,
    y: &mut [f32],
    codes: &mut [u8],
) {
    let layout = Layout::new(convolution(shape));
    let packed = conv2d_bf16::pack(vector, &layout, weight);
    // Bands of pooled rows: enough for many threads, few enough that their frames cost little.
    let rows = (1..=16).rev().find(|rows| shape.out_h().is_multiple_of(*rows)).unwrap_or(1);
    let bands = shape.out_h() / rows;
    let band_len = rows * shape.out_w() * shape.c_out;
    y.par_chunks_mut(band_len).zip(codes.par_chunks_mut(band_len)).enumerate().for_each(|(i, (y, codes))| {
        let (image, first) = (i / bands, i % bands * rows);
        let band = Band { image, images: 1, first: 2 * first, rows: 2 * rows };
        let dropout = dropout.map(|d| (d.dropout, d.keys[image], first * shape.out_w() * shape.c_out));
        let unit = Blocks::new(vector);
        pooled(vector, &unit, &layout, band, x, &packed, Pool { shape, bias, dropout, y, codes: Some(codes) });
    });
}

/// Convolves a band and pools the result.
fn pooled(vector: Vector, unit: &Blocks, layout: &Layout, band: Band, x: &[f32], packed: &Packed, mut pool: Pool) {
    SCRATCH.with_borrow_mut(|Scratch { framed, image, .. }| {
        let data = layout.frame(vector, band, Input::Plain(x).into(), image, framed);
        let segments = packed.segments(&layout.tap_starts(band));
        let (row, lower) = (layout.c, layout.columns * layout.c);
        let mut sums = Sums::ZERO;
        for panel in 0..packed.panels() {
            for pooled_row in 0..band.rows / 2 {
                for column in (0..pool.shape.out_w()).step_by(WINDOWS) {
                    // 16 pixels of a row and, as the lower rows of the block, those below them: eight windows.
                    let start = (2 * pooled_row * layout.columns + 2 * column) * layout.c;
                    let a = Rows { values: &data[start..], row, lower };
                    unit.multiply(a, packed.panel(panel), &segments, packed.steps, &mut sums, false);
                    vector.run(PoolBlock { pool: &mut pool, sums: &sums, panel, row: pooled_row, column });
                }
            }
        }
    });
}

/// Windows in a block of sums.
const WINDOWS: usize = BLOCK / 4;

/// What becomes of pooled values.
struct Pool<'a> {
    shape: BlockShape,
    bias: &'a [f32],
    /// With the image's key, and the position of the first value of `y` in the image's output.
    dropout: Option<(Dropout, u64, usize)>,
    /// `[rows / 2, w / 2, c_out]`
    y: &'a mut [f32],
    /// `None` for prediction, without dropout.
    codes: Option<&'a mut [u8]>,
}

/// Pools a block of sums: rows 0 to 15 are pixels of a row, rows 16 to 31 those below them.
struct PoolBlock<'a, 'b> {
    pool: &'a mut Pool<'b>,
    sums: &'a Sums,
    panel: usize,
    row: usize,
    column: usize,
}

impl WithSimd for PoolBlock<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pool: Pool { shape, bias, dropout, y, codes }, sums, panel, row, column } = self;
        let (out_w, c_out) = (shape.out_w(), shape.c_out);
        for window in 0..WINDOWS.min(out_w - column) {
            for lane in (0..BLOCK.min(c_out - panel * BLOCK)).step_by(PANEL) {
                let channel = panel * BLOCK + lane;
                let out = (row * out_w + column + window) * c_out + channel;
                let mut values = [[0f32; PANEL]; 4];
                for (k, values) in values.iter_mut().enumerate() {
                    let pixel = k / 2 * (BLOCK / 2) + 2 * window + k % 2;
                    *values = *sums.0[pixel * BLOCK + lane..].first_chunk().expect("16 of a row's sums");
                }
                let bias: &[f32; PANEL] = bias[channel..].first_chunk().expect("each channel has a bias");
                let y: &mut [f32; PANEL] = y[out..].first_chunk_mut().expect("each window has an output");
                match codes {
                    Some(codes) => {
                        let (pooled, code) = pool(&values, bias, *dropout, out);
                        *y = pooled;
                        codes[out..][..PANEL].copy_from_slice(&code);
                    }
                    None => {
                        for l in 0..PANEL {
                            let largest = values[0][l].max(values[1][l]).max(values[2][l].max(values[3][l]));
                            y[l] = (largest + bias[l]).max(0.0);
                        }
                    }
                }
            }
        }
    }
}

/// See [`conv3x3_block_backward`](super::conv3x3_block_backward).
pub fn backward(
    vector: Vector,
    shape: BlockShape,
    x: &[f32],
    weight: &[f32],
    codes: &[u8],
    scale: f32,
    dy: &[f32],
    dx: Option<&mut [f32]>,
) -> Gradients {
    let conv = convolution(shape);
    let n = x.len() / shape.x_len();
    let products = WeightGradient::new(conv, 1);
    let blocks: Range<usize> = 0..products.blocks();
    let input = dx.is_some().then(|| InputGradient::new(vector, conv, weight));
    // One partial sum per group of images; the groups depend on the size of the batch alone.
    let group = n.div_ceil(16).max(1);
    let work = |i: usize, mut dx: Option<&mut [f32]>| {
        let (unit, mut sums, mut bias) = (Blocks::new(vector), products.sums(&blocks), vec![0f32; shape.c_out]);
        SCRATCH.with_borrow_mut(|Scratch { z, operands, .. }| {
            z.resize(conv.y_len(), 0);
            for (k, image) in (i * group..n.min((i + 1) * group)).enumerate() {
                let span = image * shape.y_len()..(image + 1) * shape.y_len();
                let (codes, dy) = (&codes[span.clone()], &dy[span]);
                vector.run(Unpool { shape, codes, dy, scale, z, bias: &mut bias });
                let x = &x[image * shape.x_len()..][..shape.x_len()];
                products.prepare(vector, 0, 1, Input::Plain(x).into(), Source::Rounded(z), operands);
                products.add(&unit, &blocks, operands, &mut sums);
                if let (Some(dx), Some(input)) = (dx.as_deref_mut(), &input) {
                    input.add(vector, &unit, Source::Rounded(z), 0, &mut dx[k * shape.x_len()..][..shape.x_len()]);
                }
            }
        });
        (sums, bias)
    };
    let parts: Vec<(Vec<Sums>, Vec<f32>)> = match dx {
        Some(dx) => dx.par_chunks_mut(group * shape.x_len()).enumerate().map(|(i, dx)| work(i, Some(dx))).collect(),
        None => (0..n.div_ceil(group)).into_par_iter().map(|i| work(i, None)).collect(),
    };
    let mut gradients = Gradients { weight: vec![0.0; shape.weight_len()], bias: vec![0.0; shape.c_out] };
    for (sums, bias) in &parts {
        products.write(&blocks, sums, &mut gradients.weight);
        gradients.bias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
    }
    gradients
}

/// The gradient of an image's convolution, from that of its pooled values.
struct Unpool<'a> {
    shape: BlockShape,
    codes: &'a [u8],
    dy: &'a [f32],
    scale: f32,
    /// `[h, w, c_out]`; an odd last row or column, which is not pooled, has none.
    z: &'a mut [u16],
    /// `[c_out]`: the sums of the gradient are added to it.
    bias: &'a mut [f32],
}

impl WithSimd for Unpool<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { shape, codes, dy, scale, z, bias } = self;
        let BlockShape { h, w, c_out, .. } = shape;
        if h % 2 + w % 2 > 0 {
            z.fill(0);
        }
        // Loops over all channels, whose number the compiler does not know: it would not vectorise shorter ones.
        let mut gradient = vec![0u16; c_out];
        for (pooled, (codes, dy)) in codes.chunks_exact(c_out).zip(dy.chunks_exact(c_out)).enumerate() {
            let (row, column) = (pooled / shape.out_w(), pooled % shape.out_w());
            for (((gradient, bias), code), dy) in gradient.iter_mut().zip(&mut *bias).zip(codes).zip(dy) {
                let d = if *code < NO_GRADIENT { dy * scale } else { 0.0 };
                *bias += d;
                *gradient = to_bf16(d);
            }
            for k in 0..4 {
                let z = &mut z[((2 * row + usize::from(k) / 2) * w + 2 * column + usize::from(k) % 2) * c_out..];
                for ((z, code), gradient) in z.iter_mut().zip(codes).zip(&gradient) {
                    *z = if *code == k { *gradient } else { 0 };
                }
            }
        }
    }
}

/// A block with its filters packed, for prediction.
pub struct Block {
    shape: BlockShape,
    layout: Layout,
    packed: Packed,
    bias: Vec<f32>,
}

impl Block {
    /// `weight` is `[3, 3, c_in, c_out]`, `bias` `[c_out]`.
    pub fn new(vector: Vector, shape: BlockShape, weight: &[f32], bias: Vec<f32>) -> Self {
        let layout = Layout::new(convolution(shape));
        Self { packed: conv2d_bf16::pack(vector, &layout, weight), shape, layout, bias }
    }
}

/// See [`conv3x3_blocks`](super::conv3x3_blocks).
pub fn predict(vector: Vector, blocks: &[Block], x: &[f32]) -> Vec<f32> {
    let (first, last) = (blocks[0].shape, blocks.len() - 1);
    let len = blocks[last].shape.y_len();
    let mut y = vec![0.0; x.len() / first.x_len() * len];
    y.par_chunks_mut(len).zip(x.par_chunks(first.x_len())).for_each(|(y, x)| {
        let unit = Blocks::new(vector);
        let [mut input, mut output] = [Vec::new(), Vec::new()];
        for (i, Block { shape, layout, packed, bias }) in blocks.iter().enumerate() {
            let band = Band { image: 0, images: 1, first: 0, rows: shape.h / 2 * 2 };
            let y = if i == last {
                &mut *y
            } else {
                output.resize(shape.y_len(), 0.0);
                output.as_mut_slice()
            };
            let pool = Pool { shape: *shape, bias, dropout: None, y, codes: None };
            pooled(vector, &unit, layout, band, if i == 0 { x } else { &input }, packed, pool);
            std::mem::swap(&mut input, &mut output);
        }
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Precision;
    use crate::nn::kernel::bf16::testing::{assert_close, rounded};
    use crate::nn::kernel::{conv3x3_block, conv3x3_block_backward};
    use crate::nn::testing::random;

    /// With operands that rounding does not change, all results are those of the block in `f32`.
    #[test]
    fn results_equal_those_of_rounded_operands_in_f32() {
        for (h, w, c_in, c_out, n) in [(16, 16, 3, 16, 3), (8, 12, 16, 32, 33), (10, 8, 32, 64, 2), (7, 9, 16, 32, 2)] {
            let exact = BlockShape { h, w, c_in, c_out, precision: Precision::F32 };
            let shape = BlockShape { precision: Precision::Bf16, ..exact };
            let (x, weight) = (rounded(n * shape.x_len(), 1), rounded(shape.weight_len(), 2));
            let (bias, dy) = (random(c_out, 3), rounded(n * shape.y_len(), 4));
            let keys: Vec<u64> = (0..n as u64).collect();
            // A scale of 2 keeps the gradients as they are.
            let dropout = Some(BatchDropout { dropout: Dropout { p: 0.5 }, keys: &keys });
            let run = |vector: Vector, shape: BlockShape| {
                let (mut y, mut codes) = (vec![0.0; dy.len()], vec![0; dy.len()]);
                conv3x3_block(vector, shape, &x, &weight, &bias, dropout, &mut y, &mut codes);
                (y, codes)
            };
            let (expected, codes) = run(Vector::detect(), exact);
            let mut expected_dx = vec![1.0; x.len()];
            let gradients =
                conv3x3_block_backward(Vector::detect(), exact, &x, &weight, &codes, 2.0, &dy, Some(&mut expected_dx));
            let mut bytes: Option<Vec<f32>> = None;
            for vector in Vector::available() {
                let what = |name: &str| format!("{name} of {shape:?}, {vector:?}");
                let (y, _) = run(vector, shape);
                assert_close(&what("y"), &expected, &y);
                assert_eq!(*bytes.get_or_insert_with(|| y.clone()), y, "{}", what("the bytes of y"));
                let mut dx = vec![1.0; x.len()];
                let actual = conv3x3_block_backward(vector, shape, &x, &weight, &codes, 2.0, &dy, Some(&mut dx));
                assert_close(&what("dx"), &expected_dx, &dx);
                assert_close(&what("dw"), &gradients.weight, &actual.weight);
                assert_close(&what("db"), &gradients.bias, &actual.bias);
                let predicted = predict(vector, &[Block::new(vector, shape, &weight, bias.clone())], &x);
                let (mut plain, mut codes) = (vec![0.0; dy.len()], vec![0; dy.len()]);
                conv3x3_block(vector, shape, &x, &weight, &bias, None, &mut plain, &mut codes);
                assert_eq!(plain, predicted, "{}", what("the prediction"));
            }
        }
    }
}
