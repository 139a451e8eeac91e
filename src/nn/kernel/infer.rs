//! Convolution blocks without gradient: an image at a time through all of them, so that what one block writes is still
//! in the cache when the next reads it.
//!
//! Where the channels fill vectors, the convolution is Winograd's ([`winograd`]): its tile of 2 x 2 outputs is also one
//! pooling window.

use super::conv::{ConvForward, ConvShape, SLACK, frame, pack, panel_width};
use super::{PANEL, Vector, winograd};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// One convolution block's shape and parameters, ready for [`blocks_forward`].
pub struct Block<'a> {
    shape: ConvShape,
    filters: Filters,
    bias: &'a [f32],
}

enum Filters {
    /// As [`ConvForward`] takes them, and the width of its panels.
    Direct(Vec<f32>, usize),
    /// Winograd's transform of them: `[16, c_in, c_out]`.
    Winograd(Vec<f32>),
}

impl<'a> Block<'a> {
    /// `weight` is `[3, 3, c_in, c_out]`, `bias` `[c_out]`; `c_out` is a multiple of [`PANEL`].
    pub fn new(vector: Vector, shape: ConvShape, weight: &[f32], bias: &'a [f32]) -> Self {
        assert_eq!((weight.len(), bias.len()), (shape.weight_len(), shape.c_out));
        let filters = if shape.c_in.is_multiple_of(PANEL) {
            Filters::Winograd(winograd::filters(vector, weight))
        } else {
            let width = panel_width(vector, shape);
            Filters::Direct(pack(shape, weight, width), width)
        };
        Self { shape, filters, bias }
    }
}

/// Tiles in a strip, and filters that it meets at once: what is transformed and multiplied stays in the first cache.
const STRIP: usize = 8;
const COLUMNS: usize = 32;

/// Working memory of a thread.
#[derive(Default)]
struct Scratch {
    /// The zero-framed input of the block in hand, and of the next.
    framed: [Vec<f32>; 2],
    /// A strip of tiles, transformed: `[16, tiles, c_in]`.
    inputs: Vec<f32>,
    /// Its products with [`COLUMNS`] filters: `[16, tiles, COLUMNS]`.
    products: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `max_pool_2x2(relu(conv_3x3(x) + bias))` of every block, one after the other: `x` is `[n, h, w, c_in]` of the first,
/// the result `[n, h/2, w/2, c_out]` of the last.
pub fn blocks_forward(vector: Vector, blocks: &[Block], x: &[f32]) -> Vec<f32> {
    let (first, last) = (blocks[0].shape, blocks[blocks.len() - 1].shape);
    let n = x.len() / first.x_len();
    let mut y = vec![0.0; n * last.y_len()];
    y.par_chunks_mut(last.y_len()).zip(x.par_chunks(first.x_len())).for_each(|(y, x)| {
        SCRATCH.with_borrow_mut(|scratch| {
            frame(first, x, 0, first.h + 2, &mut scratch.framed[0]);
            for (i, block) in blocks.iter().enumerate() {
                let shape = block.shape;
                let Scratch { framed: [input, output], inputs, products } = scratch;
                let y_stride = shape.out_w() * shape.c_out;
                match blocks.get(i + 1).map(|next| next.shape) {
                    Some(next) => {
                        output.clear();
                        output.resize((next.h + 2) * next.stride() + SLACK, 0.0);
                        let inner = &mut output[next.stride() + next.c_in..];
                        block.run(vector, input, inner, next.stride(), inputs, products);
                    }
                    None => block.run(vector, input, y, y_stride, inputs, products),
                }
                scratch.framed.swap(0, 1);
            }
        });
    });
    y
}

impl Block<'_> {
    /// One picture. `y`'s pooled rows begin `y_stride` floats apart.
    fn run(
        &self,
        vector: Vector,
        framed: &[f32],
        y: &mut [f32],
        y_stride: usize,
        inputs: &mut Vec<f32>,
        products: &mut Vec<f32>,
    ) {
        let Block { shape, bias, .. } = *self;
        match &self.filters {
            Filters::Direct(packed, width) => {
                let (rows, width, dropout, codes) = (shape.out_h(), *width, None, None);
                vector.run(ConvForward { shape, width, rows, framed, packed, bias, dropout, y, y_stride, codes });
            }
            Filters::Winograd(filters) => {
                // Old values are overwritten: each has its own place.
                inputs.resize(16 * STRIP * shape.c_in, 0.0);
                products.resize(16 * STRIP * COLUMNS, 0.0);
                vector.run(Winograd { shape, framed, filters, bias, inputs, products, y, y_stride });
            }
        }
    }
}

/// One picture.
struct Winograd<'a> {
    shape: ConvShape,
    framed: &'a [f32],
    filters: &'a [f32],
    bias: &'a [f32],
    inputs: &'a mut [f32],
    products: &'a mut [f32],
    y: &'a mut [f32],
    y_stride: usize,
}

impl WithSimd for Winograd<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for row in 0..self.shape.out_h() {
            for first in (0..self.shape.out_w()).step_by(STRIP) {
                let tiles = STRIP.min(self.shape.out_w() - first);
                self.transform(simd, row, first, tiles);
                let mut column = 0;
                while column < self.shape.c_out {
                    let columns = COLUMNS.min(self.shape.c_out - column);
                    match (size_of::<S::f32s>() / 4, columns) {
                        (16, COLUMNS) => self.multiply::<S, STRIP, 2>(simd, tiles, column, columns),
                        (16, _) => self.multiply::<S, STRIP, 1>(simd, tiles, column, columns),
                        (8, _) => self.multiply::<S, 4, 2>(simd, tiles, column, columns),
                        _ => self.multiply::<S, 2, 4>(simd, tiles, column, columns),
                    }
                    self.pool(simd, row, first, tiles, column, columns);
                    column += columns;
                }
            }
        }
    }
}

impl Winograd<'_> {
    /// `B^T d B` of a strip's tiles.
    #[inline(always)]
    fn transform<S: Simd>(&mut self, simd: S, row: usize, first: usize, tiles: usize) {
        let (stride, c_in) = (self.shape.stride(), self.shape.c_in);
        let lanes = size_of::<S::f32s>() / 4;
        for tile in 0..tiles {
            for channel in (0..c_in).step_by(lanes) {
                let mut d = [[simd.splat_f32s(0.0); 4]; 4];
                for r in 0..4 {
                    for c in 0..4 {
                        let at = (2 * row + r) * stride + (2 * (first + tile) + c) * c_in + channel;
                        d[r][c] = S::as_simd_f32s(&self.framed[at..][..lanes]).0[0];
                    }
                }
                let transformed = winograd::input(simd, d);
                for r in 0..4 {
                    for c in 0..4 {
                        let at = ((r * 4 + c) * STRIP + tile) * c_in + channel;
                        S::as_mut_simd_f32s(&mut self.inputs[at..][..lanes]).0[0] = transformed[r][c];
                    }
                }
            }
        }
    }

    /// The strip's products with `columns` filters from `column` on, `R` tiles and `V` vectors at a time.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        tiles: usize,
        column: usize,
        columns: usize,
    ) {
        let ConvShape { c_in, c_out, .. } = self.shape;
        for at in 0..16 {
            let inputs = &self.inputs[at * STRIP * c_in..][..tiles * c_in];
            let filters = &self.filters[at * c_in * c_out + column..][..(c_in - 1) * c_out + columns];
            let products = &mut self.products[at * STRIP * COLUMNS..][..STRIP * COLUMNS];
            for first in (0..columns).step_by(V * size_of::<S::f32s>() / 4) {
                let filters = &filters[first..];
                let mut tile = 0;
                while tile + R <= tiles {
                    let (inputs, products) = (&inputs[tile * c_in..], &mut products[tile * COLUMNS + first..]);
                    product::<S, R, V>(simd, inputs, c_in, filters, c_out, products);
                    tile += R;
                }
                while tile < tiles {
                    let (inputs, products) = (&inputs[tile * c_in..], &mut products[tile * COLUMNS + first..]);
                    product::<S, 1, V>(simd, inputs, c_in, filters, c_out, products);
                    tile += 1;
                }
            }
        }
    }

    /// `A^T m A` of every tile: its four outputs, of which the largest goes on.
    #[inline(always)]
    fn pool<S: Simd>(&mut self, simd: S, row: usize, first: usize, tiles: usize, column: usize, columns: usize) {
        let lanes = size_of::<S::f32s>() / 4;
        let zero = simd.splat_f32s(0.0);
        for tile in 0..tiles {
            for channel in (0..columns).step_by(lanes) {
                let mut m = [[zero; 4]; 4];
                for r in 0..4 {
                    for c in 0..4 {
                        let at = ((r * 4 + c) * STRIP + tile) * COLUMNS + channel;
                        m[r][c] = S::as_simd_f32s(&self.products[at..][..lanes]).0[0];
                    }
                }
                let [[a, b], [c, d]] = winograd::output(simd, m);
                let largest = simd.max_f32s(simd.max_f32s(a, b), simd.max_f32s(c, d));
                let bias = S::as_simd_f32s(&self.bias[column + channel..][..lanes]).0[0];
                let y = simd.max_f32s(simd.add_f32s(largest, bias), zero);
                let at = row * self.y_stride + (first + tile) * self.shape.c_out + column + channel;
                S::as_mut_simd_f32s(&mut self.y[at..][..lanes]).0[0] = y;
            }
        }
    }
}

/// `c = a b` for `R` rows of `a` (`[R, depth]`) and `V` vectors of `b` (whose rows are `b_stride` floats apart); `c`'s
/// rows are [`COLUMNS`] apart.
#[inline(always)]
fn product<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: &[f32],
    depth: usize,
    b: &[f32],
    b_stride: usize,
    c: &mut [f32],
) {
    let floats = V * size_of::<S::f32s>() / 4;
    let mut rows = [&a[..0]; R];
    for r in 0..R {
        rows[r] = &a[r * depth..][..depth];
    }
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for k in 0..depth {
        let (b, _) = S::as_simd_f32s(&b[k * b_stride..][..floats]);
        for r in 0..R {
            let a = simd.splat_f32s(rows[r][k]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(a, b[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        let (c, _) = S::as_mut_simd_f32s(&mut c[r * COLUMNS..][..floats]);
        c.copy_from_slice(&sums[r]);
    }
}
