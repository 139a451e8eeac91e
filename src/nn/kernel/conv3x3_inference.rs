//! Convolution blocks without gradient: each image passes through all blocks, so that the output of one block is still
//! in the cache when the next reads it.
//!
//! Where the channels fill vectors, the convolution is computed by Winograd's filtering ([`winograd`]): its tile of 2 x
//! 2 outputs is also one pooling window.

use super::conv2d_winograd;
use super::conv3x3_block::{self, Forward};
use super::conv3x3_block_shape::{BlockShape, PANEL};
use super::gemm::{Packed, multiply_rows, panel_width};
use super::simd::{load_square, store_square, vectors, vectors_mut};
use super::winograd::{self, ELEMENTS};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Shape and parameters of a convolution block, prepared for [`conv3x3_blocks`].
pub struct Block<'a> {
    shape: BlockShape,
    filters: Filters,
    bias: &'a [f32],
}

enum Filters {
    /// Packed for [`Forward`], with the width of the panels.
    Direct(Vec<f32>, usize),
    /// Transformed: 16 matrices `[c_in, c_out]`.
    Winograd(Packed),
}

impl<'a> Block<'a> {
    /// `weight` is `[3, 3, c_in, c_out]`, `bias` `[c_out]`.
    pub fn new(vector: Vector, shape: BlockShape, weight: &[f32], bias: &'a [f32]) -> Self {
        assert_eq!((weight.len(), bias.len()), (shape.weight_len(), shape.c_out));
        let filters = if shape.c_in.is_multiple_of(PANEL) && shape.c_out.is_multiple_of(panel_width(vector)) {
            Filters::Winograd(conv2d_winograd::pack(vector, weight, shape.c_in, shape.c_out))
        } else {
            let width = conv3x3_block::panel_width(vector, shape);
            Filters::Direct(conv3x3_block::pack(shape, weight, width), width)
        };
        Self { shape, filters, bias }
    }
}

/// Tiles that are transformed and multiplied at a time, so that they stay in the first-level cache.
const STRIP: usize = 8;

/// Working memory of a thread.
#[derive(Default)]
struct Scratch {
    /// The framed input of the current block and of the next one.
    framed: [Vec<f32>; 2],
    /// A strip of transformed tiles: `[16, STRIP, c_in]`.
    inputs: Vec<f32>,
    /// Its products with a panel of filters: `[16, STRIP, width]`.
    products: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `max_pool_2x2(relu(conv_3x3(x) + bias))` of each block in turn: `x` is the input of the first block, `[n, h, w,
/// c_in]`, the result the output of the last, `[n, h / 2, w / 2, c_out]`.
pub fn conv3x3_blocks(vector: Vector, blocks: &[Block], x: &[f32]) -> Vec<f32> {
    let (first, last) = (blocks[0].shape, blocks[blocks.len() - 1].shape);
    let n = x.len() / first.x_len();
    let mut y = vec![0.0; n * last.y_len()];
    y.par_chunks_mut(last.y_len()).zip(x.par_chunks(first.x_len())).for_each(|(y, x)| {
        SCRATCH.with_borrow_mut(|scratch| {
            first.frame(vector, x, 0, first.h + 2, &mut scratch.framed[0]);
            for (i, block) in blocks.iter().enumerate() {
                let shape = block.shape;
                let Scratch { framed: [input, output], inputs, products } = scratch;
                match blocks.get(i + 1).map(|next| next.shape) {
                    Some(next) => {
                        output.clear();
                        output.resize(next.framed_len(next.h + 2), 0.0);
                        let inner = &mut output[next.stride() + next.c_in..];
                        block.run(vector, input, inner, next.stride(), inputs, products);
                    }
                    None => block.run(vector, input, y, shape.out_w() * shape.c_out, inputs, products),
                }
                scratch.framed.swap(0, 1);
            }
        });
    });
    y
}

impl Block<'_> {
    /// Computes the block for one image; `y_stride` is the distance between pooled rows in `y`.
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
                vector.run(Forward { shape, width, rows, framed, packed, bias, dropout, y, y_stride, codes });
            }
            Filters::Winograd(filters) => {
                // Values of an earlier strip are overwritten.
                inputs.resize(ELEMENTS * STRIP * shape.c_in, 0.0);
                products.resize(ELEMENTS * STRIP * filters.width(), 0.0);
                vector.run(Winograd { shape, framed, filters, bias, inputs, products, y, y_stride });
            }
        }
    }
}

/// A block by Winograd's filtering, for one image.
struct Winograd<'a> {
    shape: BlockShape,
    framed: &'a [f32],
    filters: &'a Packed,
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
                for panel in 0..self.filters.columns() / self.filters.width() {
                    match S::F32_LANES {
                        16 => self.multiply::<S, STRIP, 2>(simd, tiles, panel),
                        8 => self.multiply::<S, 4, 2>(simd, tiles, panel),
                        4 => self.multiply::<S, 4, 2>(simd, tiles, panel),
                        _ => self.multiply::<S, 1, 8>(simd, tiles, panel),
                    }
                    self.pool(simd, row, first, tiles, panel);
                }
            }
        }
    }
}

impl Winograd<'_> {
    /// Transforms the inputs of a strip's tiles.
    #[inline(always)]
    fn transform<S: Simd>(&mut self, simd: S, row: usize, first: usize, tiles: usize) {
        let (stride, c_in) = (self.shape.stride(), self.shape.c_in);
        let plane = STRIP * c_in;
        for tile in 0..tiles {
            for channel in (0..c_in).step_by(S::F32_LANES) {
                let start = 2 * row * stride + 2 * (first + tile) * c_in + channel;
                let elements = winograd::input(simd, load_square(simd, self.framed, start, stride, c_in));
                store_square::<S, 4>(self.inputs, tile * c_in + channel, 4 * plane, plane, elements);
            }
        }
    }

    /// Multiplies the strip by a panel of `V` vectors of filters, `R` tiles at a time.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, tiles: usize, panel: usize) {
        for element in 0..ELEMENTS {
            let (filters, _) = S::as_simd_f32s(self.filters.panel(panel, element));
            let mut tile = 0;
            while tile + R <= tiles {
                self.tiles::<S, R, V>(simd, element, tile, filters);
                tile += R;
            }
            while tile < tiles {
                self.tiles::<S, 1, V>(simd, element, tile, filters);
                tile += 1;
            }
        }
    }

    /// The products of one element of `R` tiles.
    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        element: usize,
        tile: usize,
        filters: &[S::f32s],
    ) {
        let (c_in, width) = (self.shape.c_in, V * S::F32_LANES);
        let inputs = &self.inputs[(element * STRIP + tile) * c_in..][..R * c_in];
        let mut rows = [&inputs[..0]; R];
        for r in 0..R {
            rows[r] = &inputs[r * c_in..][..c_in];
        }
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        multiply_rows(simd, &rows, filters, &mut sums);
        let products = &mut self.products[(element * STRIP + tile) * width..][..R * width];
        for r in 0..R {
            *vectors_mut::<S, V>(&mut products[r * width..]) = sums[r];
        }
    }

    /// Computes the outputs of each tile of the strip, and from them the pooled values.
    #[inline(always)]
    fn pool<S: Simd>(&mut self, simd: S, row: usize, first: usize, tiles: usize, panel: usize) {
        let (width, c_out) = (self.filters.width(), self.shape.c_out);
        let (plane, zero) = (STRIP * width, simd.splat_f32s(0.0));
        for tile in 0..tiles {
            for channel in (0..width).step_by(S::F32_LANES) {
                let elements = load_square(simd, self.products, tile * width + channel, 4 * plane, plane);
                let [[a, b], [c, d]] = winograd::output(simd, elements);
                let largest = simd.max_f32s(simd.max_f32s(a, b), simd.max_f32s(c, d));
                let channel = panel * width + channel;
                let bias = vectors::<S, 1>(&self.bias[channel..])[0];
                let y = simd.max_f32s(simd.add_f32s(largest, bias), zero);
                vectors_mut::<S, 1>(&mut self.y[row * self.y_stride + (first + tile) * c_out + channel..])[0] = y;
            }
        }
    }
}
