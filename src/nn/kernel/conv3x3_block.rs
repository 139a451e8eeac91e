//! A block of convolution, bias, ReLU, max-pooling and dropout in one pass, and its backward pass.
//!
//! Forward, the window of a pixel consists of three runs of `3 * c_in` values in a frame of zeros, so that the
//! convolution is a matrix product without im2col's copy; pooling, ReLU and dropout are done in registers. Backward,
//! only the pixels that are positive, are the largest of their 2 x 2 window and are not dropped have a gradient: about
//! one in ten. They are listed for each channel, and the gradients of weight and input are sums over the list.

use super::conv3x3_block_bf16;
use super::conv3x3_block_shape::{BlockShape, Gradients, NO_GRADIENT, PANEL, pool};
use super::dropout::{BatchDropout, Dropout};
use super::frame::{Frame, Input};
use super::gemm::multiply_rows;
use super::simd::{vectors, vectors_mut};
use crate::nn::{Precision, Vector};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

impl BlockShape {
    /// Values in a row of a pixel's window.
    fn run(&self) -> usize {
        3 * self.c_in
    }

    /// Values in a row of the framed image.
    pub(super) fn stride(&self) -> usize {
        (self.w + 2) * self.c_in
    }

    /// Length of the buffer for `rows` rows of the framed image.
    pub(super) fn framed_len(&self, rows: usize) -> usize {
        rows * self.stride() + SLACK
    }

    /// Copies rows `first..first + rows` of the framed image to `framed`; row 0 is the top of the frame.
    pub(super) fn frame(&self, vector: Vector, x: &[f32], first: usize, rows: usize, framed: &mut Vec<f32>) {
        framed.resize(self.framed_len(rows), 0.0);
        let framed = &mut framed[..rows * self.stride()];
        let (input, columns) = (Input::Plain(x), self.w + 2);
        vector.run(Frame { input, start: 0, h: self.h, w: self.w, c: self.c_in, pad: 1, first, columns, framed });
    }
}

/// Unused values behind a framed image, so that whole vectors can be read at its end.
const SLACK: usize = 16;

/// Working memory of a thread.
#[derive(Default)]
struct Scratch {
    framed: Vec<f32>,
    /// The gradient of the framed image.
    gradient: Vec<f32>,
    pixels: Vec<Pixel>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Filters `[3, 3, c_in, c_out]` in panels of `width` output channels, each `[3, 3 * c_in, width]`.
pub(super) fn pack(shape: BlockShape, weight: &[f32], width: usize) -> Vec<f32> {
    let taps = 9 * shape.c_in;
    let mut packed = Vec::with_capacity(weight.len());
    for panel in 0..shape.c_out / width {
        for tap in 0..taps {
            packed.extend_from_slice(&weight[tap * shape.c_out + panel * width..][..width]);
        }
    }
    packed
}

/// `y = dropout(max_pool_2x2(relu(conv_3x3(x) + bias)))`, padded with zeros, stride 1.
///
/// `weight` is `[3, 3, c_in, c_out]`. `codes` is as long as `y` and receives what [`conv3x3_block_backward`] needs.
/// Dropout's positions are indices of an image's `y`.
pub fn conv3x3_block(
    vector: Vector,
    shape: BlockShape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    dropout: Option<BatchDropout>,
    y: &mut [f32],
    codes: &mut [u8],
) {
    assert_eq!(shape.c_out % PANEL, 0, "the number of output channels must be a multiple of {PANEL}");
    assert_eq!((weight.len(), bias.len()), (shape.weight_len(), shape.c_out));
    if shape.precision == Precision::Bf16 {
        return conv3x3_block_bf16::forward(vector, shape, x, weight, bias, dropout, y, codes);
    }
    let width = panel_width(vector, shape);
    let packed = pack(shape, weight, width);
    // Bands of pooled rows: enough for many threads, few enough that their frames cost little.
    let rows = (1..=8).rev().find(|rows| shape.out_h().is_multiple_of(*rows)).unwrap_or(1);
    let bands = shape.out_h() / rows;
    let y_stride = shape.out_w() * shape.c_out;
    let band_len = rows * y_stride;
    y.par_chunks_mut(band_len).zip(codes.par_chunks_mut(band_len)).enumerate().for_each(|(i, (y, codes))| {
        let (image, first) = (i / bands, i % bands * rows);
        SCRATCH.with_borrow_mut(|Scratch { framed, .. }| {
            let x = &x[image * shape.x_len()..][..shape.x_len()];
            shape.frame(vector, x, 2 * first, 2 * rows + 2, framed);
            let dropout = dropout.map(|d| (d.dropout, d.keys[image], first * y_stride));
            let (codes, packed) = (Some(codes), packed.as_slice());
            vector.run(Forward { shape, width, rows, framed, packed, bias, dropout, y, y_stride, codes });
        });
    });
}

/// Output channels in a panel of packed filters. Wide vectors take two [`PANEL`]s at a time, so that a pixel's value,
/// once broadcast to a vector, is used twice.
pub(super) fn panel_width(vector: Vector, shape: BlockShape) -> usize {
    if vector.lanes() == 16 && shape.c_out.is_multiple_of(2 * PANEL) { 2 * PANEL } else { PANEL }
}

/// Pooled rows of one image.
pub(super) struct Forward<'a> {
    pub shape: BlockShape,
    /// Output channels in a panel of `packed`.
    pub width: usize,
    /// Number of pooled rows.
    pub rows: usize,
    pub framed: &'a [f32],
    pub packed: &'a [f32],
    pub bias: &'a [f32],
    /// With the image's key, and the position of the first value in the image's `y`.
    pub dropout: Option<(Dropout, u64, usize)>,
    pub y: &'a mut [f32],
    /// Distance between pooled rows in `y`.
    pub y_stride: usize,
    /// `None` for prediction, without dropout.
    pub codes: Option<&'a mut [u8]>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::F32_LANES, self.width) {
            (16, PANEL) => self.rows::<S, PANEL, 1, 8>(simd),
            (16, _) => self.rows::<S, { 2 * PANEL }, 2, 8>(simd),
            (8, _) => self.rows::<S, PANEL, 2, 4>(simd),
            (4, _) => self.rows::<S, PANEL, 4, 4>(simd),
            _ => self.rows::<S, PANEL, 16, 4>(simd),
        }
    }
}

impl Forward<'_> {
    /// Panels of `W` channels, that is `V` vectors; tiles of `P` pixels in two rows, that is `P / 4` pooled ones.
    #[inline(always)]
    fn rows<S: Simd, const W: usize, const V: usize, const P: usize>(mut self, simd: S) {
        let out_w = self.shape.out_w();
        for panel in 0..self.shape.c_out / W {
            for row in 0..self.rows {
                let mut column = 0;
                while column + P / 4 <= out_w {
                    self.tile::<S, W, V, P>(simd, panel, row, column);
                    column += P / 4;
                }
                while column < out_w {
                    self.tile::<S, W, V, 4>(simd, panel, row, column);
                    column += 1;
                }
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const W: usize, const V: usize, const P: usize>(
        &mut self,
        simd: S,
        panel: usize,
        row: usize,
        column: usize,
    ) {
        let BlockShape { c_in, c_out, .. } = self.shape;
        let (run, stride) = (self.shape.run(), self.shape.stride());
        let (weights, _) = S::as_simd_f32s(&self.packed[panel * 3 * run * W..][..3 * run * W]);
        // The upper row of pixels, then the lower one.
        let mut sums = [[simd.splat_f32s(0.0); V]; P];
        for ky in 0..3 {
            let mut windows = [&self.framed[..0]; P];
            for p in 0..P {
                let (dy, dx) = (p / (P / 2), p % (P / 2));
                windows[p] = &self.framed[(2 * row + dy + ky) * stride + (2 * column + dx) * c_in..][..run];
            }
            multiply_rows(simd, &windows, &weights[ky * run * V..][..run * V], &mut sums);
        }
        let Some(all_codes) = self.codes.as_deref_mut() else {
            let (bias, _) = S::as_simd_f32s(&self.bias[panel * W..][..W]);
            let zero = simd.splat_f32s(0.0);
            for pooled in 0..P / 4 {
                let out = row * self.y_stride + (column + pooled) * c_out + panel * W;
                let (y, _) = S::as_mut_simd_f32s(&mut self.y[out..][..W]);
                for v in 0..V {
                    let upper = simd.max_f32s(sums[2 * pooled][v], sums[2 * pooled + 1][v]);
                    let lower = simd.max_f32s(sums[P / 2 + 2 * pooled][v], sums[P / 2 + 2 * pooled + 1][v]);
                    y[v] = simd.max_f32s(simd.add_f32s(simd.max_f32s(upper, lower), bias[v]), zero);
                }
            }
            return;
        };
        let bias: &[f32; W] = self.bias[panel * W..].first_chunk().expect("each channel has a bias");
        for pooled in 0..P / 4 {
            let mut window = [[0f32; W]; 4];
            for (k, lanes) in window.iter_mut().enumerate() {
                S::as_mut_simd_f32s(lanes).0.copy_from_slice(&sums[k / 2 * (P / 2) + 2 * pooled + k % 2]);
            }
            let out = row * self.y_stride + (column + pooled) * c_out + panel * W;
            let (values, codes) = pool(&window, bias, self.dropout, out);
            self.y[out..][..W].copy_from_slice(&values);
            all_codes[out..][..W].copy_from_slice(&codes);
        }
    }
}

/// The filters as the backward pass reads them, `[c_out, 3, row]`: each row of a filter, followed by zeros up to a
/// whole number of vectors.
struct FilterRows {
    shape: BlockShape,
    row: usize,
}

impl FilterRows {
    fn new(shape: BlockShape) -> Self {
        Self { shape, row: shape.run().next_multiple_of(SLACK) }
    }

    fn len(&self) -> usize {
        self.shape.c_out * 3 * self.row
    }

    /// Position of an element of a filter; `tap` is its index in `[3, 3, c_in]`.
    fn position(&self, channel: usize, tap: usize) -> usize {
        (channel * 3 + tap / self.shape.run()) * self.row + tap % self.shape.run()
    }
}

/// Backward pass of [`conv3x3_block`], from the gradient `dy` of the output and the factor of its dropout (1 without).
/// Returns the gradients of weight and bias; adds that of the input to `dx`.
pub fn conv3x3_block_backward(
    vector: Vector,
    shape: BlockShape,
    x: &[f32],
    weight: &[f32],
    codes: &[u8],
    scale: f32,
    dy: &[f32],
    dx: Option<&mut [f32]>,
) -> Gradients {
    if shape.precision == Precision::Bf16 {
        return conv3x3_block_bf16::backward(vector, shape, x, weight, codes, scale, dy, dx);
    }
    let n = x.len() / shape.x_len();
    let rows = FilterRows::new(shape);
    let mut filters = vec![0f32; rows.len()];
    for (tap, channels) in weight.chunks_exact(shape.c_out).enumerate() {
        for (c, w) in channels.iter().enumerate() {
            filters[rows.position(c, tap)] = *w;
        }
    }
    // One partial sum per group of images; the groups depend on the size of the batch alone.
    let group = n.div_ceil(16).max(1);
    let work = |i: usize, mut dx: Option<&mut [f32]>| {
        let mut part = vec![0f32; rows.len() + shape.c_out];
        for (k, image) in (i * group..n.min((i + 1) * group)).enumerate() {
            let dx = dx.as_deref_mut().map(|dx| &mut dx[k * shape.x_len()..][..shape.x_len()]);
            SCRATCH.with_borrow_mut(|Scratch { framed, gradient, pixels }| {
                shape.frame(vector, &x[image * shape.x_len()..][..shape.x_len()], 0, shape.h + 2, framed);
                if dx.is_some() {
                    gradient.clear();
                    gradient.resize(framed.len(), 0.0);
                }
                let span = image * shape.y_len()..(image + 1) * shape.y_len();
                let counts = list(shape, &codes[span.clone()], &dy[span], scale, pixels);
                let (filters, counts, part) = (filters.as_slice(), counts.as_slice(), part.as_mut_slice());
                let framed_gradient = dx.is_some().then_some(gradient.as_mut_slice());
                let row = rows.row;
                vector.run(Backward { shape, row, framed, filters, counts, pixels, part, gradient: framed_gradient });
                if let Some(dx) = dx {
                    let (stride, c) = (shape.stride(), shape.c_in);
                    for y in 0..shape.h {
                        let source = &gradient[(y + 1) * stride + c..][..shape.w * c];
                        for (d, s) in dx[y * shape.w * c..][..shape.w * c].iter_mut().zip(source) {
                            *d += *s;
                        }
                    }
                }
            });
        }
        part
    };
    let parts: Vec<Vec<f32>> = match dx {
        Some(dx) => dx.par_chunks_mut(group * shape.x_len()).enumerate().map(|(i, dx)| work(i, Some(dx))).collect(),
        None => (0..n.div_ceil(group)).into_par_iter().map(|i| work(i, None)).collect(),
    };
    let mut gradients = Gradients { weight: vec![0.0; shape.weight_len()], bias: vec![0.0; shape.c_out] };
    for part in &parts {
        let (filters, bias) = part.split_at(rows.len());
        for (sum, b) in gradients.bias.iter_mut().zip(bias) {
            *sum += b;
        }
        for (tap, channels) in gradients.weight.chunks_exact_mut(shape.c_out).enumerate() {
            for (c, sum) in channels.iter_mut().enumerate() {
                *sum += filters[rows.position(c, tap)];
            }
        }
    }
    gradients
}

/// A pixel of a channel that has a gradient.
#[derive(Clone, Copy, Default)]
struct Pixel {
    /// Where its window starts in the framed image.
    offset: u32,
    gradient: f32,
}

/// Lists the pixels with a gradient: those of channel `c` start at `c * out_h * out_w` in `pixels`. Returns the number
/// of pixels of each channel.
fn list(shape: BlockShape, codes: &[u8], dy: &[f32], scale: f32, pixels: &mut Vec<Pixel>) -> Vec<usize> {
    let (all, c_out) = (shape.out_h() * shape.out_w(), shape.c_out);
    // Entries of an earlier image are overwritten or not counted.
    pixels.resize(all * c_out, Pixel::default());
    let mut ends: Vec<usize> = (0..c_out).map(|c| c * all).collect();
    for (pooled, (codes, dy)) in codes.chunks_exact(c_out).zip(dy.chunks_exact(c_out)).enumerate() {
        let (oy, ox) = (pooled / shape.out_w(), pooled % shape.out_w());
        let offsets = [0, 1, 2, 3, 0, 0, 0, 0]
            .map(|k| ((2 * oy + k / 2) * shape.stride() + (2 * ox + k % 2) * shape.c_in) as u32);
        for ((code, d), end) in codes.iter().zip(dy).zip(&mut ends) {
            // Always written, but counted only if there is a gradient: this has no branch to mispredict.
            pixels[*end] = Pixel { offset: offsets[usize::from(code & 7)], gradient: d * scale };
            *end += usize::from(*code < NO_GRADIENT);
        }
    }
    ends.iter().enumerate().map(|(c, end)| end - c * all).collect()
}

/// Backward pass of one image.
struct Backward<'a> {
    shape: BlockShape,
    /// See [`FilterRows`].
    row: usize,
    framed: &'a [f32],
    filters: &'a [f32],
    /// Number of `pixels` of each channel; see [`list`].
    counts: &'a [usize],
    pixels: &'a [Pixel],
    /// `[c_out, 3, row]`, then `[c_out]`: the gradients of filters and bias are added to it.
    part: &'a mut [f32],
    /// The gradient of the framed image is added to it.
    gradient: Option<&'a mut [f32]>,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (run, all) = (self.shape.run(), self.shape.out_h() * self.shape.out_w());
        for c in 0..self.shape.c_out {
            let pixels = &self.pixels[c * all..][..self.counts[c]];
            self.part[self.shape.c_out * 3 * self.row + c] += pixels.iter().map(|p| p.gradient).sum::<f32>();
            let mut at = 0;
            while at < run {
                // As many vectors of the three rows as there are registers for their sums and filters.
                let vectors = (run - at).div_ceil(S::F32_LANES);
                at += S::F32_LANES
                    * match vectors {
                        1 => self.rows::<S, 3, 1>(simd, c, at, pixels),
                        2 => self.rows::<S, 3, 2>(simd, c, at, pixels),
                        3..=5 if S::F32_LANES == 16 => self.rows::<S, 3, 3>(simd, c, at, pixels),
                        3..=5 => self.rows::<S, 1, 3>(simd, c, at, pixels),
                        _ => self.rows::<S, 1, 6>(simd, c, at, pixels),
                    };
            }
        }
    }
}

impl Backward<'_> {
    /// `V` vectors, from position `at`, of each of the filter's three rows, `K` rows at a time. Returns `V`.
    #[inline(always)]
    fn rows<S: Simd, const K: usize, const V: usize>(
        &mut self,
        simd: S,
        c: usize,
        at: usize,
        pixels: &[Pixel],
    ) -> usize {
        for ky in (0..3).step_by(K) {
            self.pass::<S, K, V>(simd, (c * 3 + ky) * self.row + at, ky * self.shape.stride() + at, pixels);
        }
        V
    }

    /// `start`: where the first row starts in the filters; `shift`: where it lies in the window of a pixel.
    #[inline(always)]
    fn pass<S: Simd, const K: usize, const V: usize>(&mut self, simd: S, start: usize, shift: usize, pixels: &[Pixel]) {
        let stride = self.shape.stride();
        let mut filter = [[simd.splat_f32s(0.0); V]; K];
        let mut sums = filter;
        for k in 0..K {
            filter[k] = *vectors::<S, V>(&self.filters[start + k * self.row..]);
            sums[k] = *vectors::<S, V>(&self.part[start + k * self.row..]);
        }
        let length = (K - 1) * stride + V * S::F32_LANES;
        let framed = &self.framed[shift..];
        match self.gradient.as_deref_mut() {
            Some(gradient) => {
                let gradient = &mut gradient[shift..];
                for pixel in pixels {
                    let g = simd.splat_f32s(pixel.gradient);
                    let x = &framed[pixel.offset as usize..][..length];
                    let d = &mut gradient[pixel.offset as usize..][..length];
                    for k in 0..K {
                        let x = vectors::<S, V>(&x[k * stride..]);
                        let d = vectors_mut::<S, V>(&mut d[k * stride..]);
                        for v in 0..V {
                            sums[k][v] = simd.mul_add_e_f32s(g, x[v], sums[k][v]);
                            d[v] = simd.mul_add_e_f32s(g, filter[k][v], d[v]);
                        }
                    }
                }
            }
            None => {
                for pixel in pixels {
                    let g = simd.splat_f32s(pixel.gradient);
                    let x = &framed[pixel.offset as usize..][..length];
                    for k in 0..K {
                        let x = vectors::<S, V>(&x[k * stride..]);
                        for v in 0..V {
                            sums[k][v] = simd.mul_add_e_f32s(g, x[v], sums[k][v]);
                        }
                    }
                }
            }
        }
        for k in 0..K {
            *vectors_mut::<S, V>(&mut self.part[start + k * self.row..]) = sums[k];
        }
    }
}
