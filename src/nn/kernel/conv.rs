//! The 3x3 convolution block: convolution, bias, ReLU, 2x2 max-pool and dropout in one pass, and its backward pass.
//!
//! Forward, the nine taps of a row of pixels are read as one contiguous run of `3 * c_in` floats, so that the
//! convolution is a matrix product without im2col's copy; pooling, ReLU and dropout happen in registers. Backward, only
//! the pixel that won its 2x2 pool, was positive and survived dropout has a gradient: about one in ten. Those are listed
//! a channel, and weight and input gradients are sums over the list.

use super::{Dropout, PANEL, Vector, mix};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// `codes` entry of a pooled value without gradient: not positive, or dropped. Else 0 to 3: which pixel won.
pub const DEAD: u8 = 4;

/// Shape of a convolution block's input and output: `x` is `[n, h, w, c_in]`, `y` is `[n, h/2, w/2, c_out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub h: usize,
    pub w: usize,
    pub c_in: usize,
    /// A multiple of [`PANEL`].
    pub c_out: usize,
}

impl ConvShape {
    pub fn x_len(&self) -> usize {
        self.h * self.w * self.c_in
    }
    pub fn out_h(&self) -> usize {
        self.h / 2
    }
    pub fn out_w(&self) -> usize {
        self.w / 2
    }
    pub fn y_len(&self) -> usize {
        self.out_h() * self.out_w() * self.c_out
    }
    pub fn weight_len(&self) -> usize {
        9 * self.c_in * self.c_out
    }
    /// Floats under the filter in one row of the picture.
    pub(super) fn run(&self) -> usize {
        3 * self.c_in
    }
    /// Floats a row of the zero-framed picture.
    pub(super) fn stride(&self) -> usize {
        (self.w + 2) * self.c_in
    }
}

thread_local! {
    /// The framed picture, its gradient, and the places with a gradient.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>, Vec<Place>)> = const { RefCell::new((Vec::new(), Vec::new(), Vec::new())) };
}

/// Slack behind framed pictures, so that whole vectors can be read at their end.
pub(super) const SLACK: usize = 16;

/// Copies rows `first .. first + rows` of the zero-framed picture of `x` into `framed` (row 0 is the frame's top).
pub(super) fn frame(shape: ConvShape, x: &[f32], first: usize, rows: usize, framed: &mut Vec<f32>) {
    let (stride, c) = (shape.stride(), shape.c_in);
    framed.clear();
    framed.resize(rows * stride + SLACK, 0.0);
    for r in 0..rows {
        let y = first + r;
        if (1..=shape.h).contains(&y) {
            let source = &x[(y - 1) * shape.w * c..][..shape.w * c];
            framed[r * stride + c..][..shape.w * c].copy_from_slice(source);
        }
    }
}

/// Weights `[3, 3, c_in, c_out]` → panels of `width` output channels, each `[3, 3 * c_in, width]`.
pub(super) fn pack(shape: ConvShape, weight: &[f32], width: usize) -> Vec<f32> {
    let taps = 9 * shape.c_in;
    let mut packed = Vec::with_capacity(weight.len());
    for panel in 0..shape.c_out / width {
        for tap in 0..taps {
            packed.extend_from_slice(&weight[tap * shape.c_out + panel * width..][..width]);
        }
    }
    packed
}

/// `y = dropout(max_pool_2x2(relu(conv_3x3(x) + bias)))`, zero-padded, stride 1.
///
/// `keys`: one an image, for [`Dropout`]; position `i` is the index in the image's `y`. `codes`, as long as `y`, takes
/// what [`conv_backward`] needs.
pub fn conv_forward(
    vector: Vector,
    shape: ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    dropout: Option<(Dropout, &[u64])>,
    y: &mut [f32],
    codes: &mut [u8],
) {
    assert_eq!(shape.c_out % PANEL, 0, "output channels come in panels of {PANEL}");
    assert_eq!((weight.len(), bias.len()), (shape.weight_len(), shape.c_out));
    let width = panel_width(vector, shape);
    let packed = pack(shape, weight, width);
    // Bands of whole pooled rows: enough pieces for many threads, few enough that their frames cost little.
    let band = (1..=8).rev().find(|b| shape.out_h().is_multiple_of(*b)).unwrap_or(1);
    let bands = shape.out_h() / band;
    let piece = band * shape.out_w() * shape.c_out;
    y.par_chunks_mut(piece).zip(codes.par_chunks_mut(piece)).enumerate().for_each(|(i, (y, codes))| {
        let (image, first) = (i / bands, i % bands * band);
        SCRATCH.with_borrow_mut(|(framed, ..)| {
            frame(shape, &x[image * shape.x_len()..][..shape.x_len()], 2 * first, 2 * band + 2, framed);
            let base = first * shape.out_w() * shape.c_out;
            let dropout = dropout.map(|(d, keys)| (d, keys[image], base));
            let y_stride = shape.out_w() * shape.c_out;
            let (rows, codes, packed) = (band, Some(codes), packed.as_slice());
            vector.run(ConvForward { shape, width, rows, framed, packed, bias, dropout, y, y_stride, codes });
        });
    });
}

/// Output channels a panel of packed weights. Wide vectors take two [`PANEL`]s at a time: a pixel's value, once spread
/// over a vector, serves both.
pub(super) fn panel_width(vector: Vector, shape: ConvShape) -> usize {
    if vector.lanes() == 16 && shape.c_out.is_multiple_of(2 * PANEL) { 2 * PANEL } else { PANEL }
}

/// One band of pooled rows.
pub(super) struct ConvForward<'a> {
    pub shape: ConvShape,
    /// Output channels a panel of `packed`.
    pub width: usize,
    /// Pooled rows.
    pub rows: usize,
    pub framed: &'a [f32],
    pub packed: &'a [f32],
    pub bias: &'a [f32],
    /// With the image's key, and the band's first position in its `y`.
    pub dropout: Option<(Dropout, u64, usize)>,
    pub y: &'a mut [f32],
    /// Floats from one pooled row in `y` to the next.
    pub y_stride: usize,
    /// `None`: no gradient is wanted, and there is no dropout.
    pub codes: Option<&'a mut [u8]>,
}

impl WithSimd for ConvForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (size_of::<S::f32s>() / 4, self.width) {
            (16, PANEL) => self.band::<S, PANEL, 1, 4>(simd),
            (16, _) => self.band::<S, { 2 * PANEL }, 2, 4>(simd),
            (8, _) => self.band::<S, PANEL, 2, 2>(simd),
            (4, _) => self.band::<S, PANEL, 4, 2>(simd),
            _ => self.band::<S, PANEL, 16, 2>(simd),
        }
    }
}

impl ConvForward<'_> {
    /// `V` vectors make a panel of `W` channels; a tile is 2 x `P` pixels, that is `P / 2` pooled ones.
    #[inline(always)]
    fn band<S: Simd, const W: usize, const V: usize, const P: usize>(mut self, simd: S) {
        let out_w = self.shape.out_w();
        for panel in 0..self.shape.c_out / W {
            for row in 0..self.rows {
                let mut column = 0;
                while column + P / 2 <= out_w {
                    self.tile::<S, W, V, P>(simd, panel, row, column);
                    column += P / 2;
                }
                while column < out_w {
                    self.tile::<S, W, V, 2>(simd, panel, row, column);
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
        let ConvShape { c_in, c_out, .. } = self.shape;
        let (run, stride) = (self.shape.run(), self.shape.stride());
        let (weights, _) = S::as_simd_f32s(&self.packed[panel * 3 * run * W..][..3 * run * W]);
        let mut sums = [[[simd.splat_f32s(0.0); V]; P]; 2];
        for ky in 0..3 {
            let taps = &weights[ky * run * V..][..run * V];
            let length = (P - 1) * c_in + run;
            let start = (2 * row + ky) * stride + 2 * column * c_in;
            let rows = [&self.framed[start..][..length], &self.framed[start + stride..][..length]];
            let whole = run / TAPS * TAPS;
            for i in (0..whole).step_by(TAPS) {
                taps_of::<S, V, P, TAPS>(simd, rows, c_in, i, &taps[i * V..], &mut sums);
            }
            for i in whole..run {
                taps_of::<S, V, P, 1>(simd, rows, c_in, i, &taps[i * V..], &mut sums);
            }
        }
        let Some(all_codes) = self.codes.as_deref_mut() else {
            let (bias, _) = S::as_simd_f32s(&self.bias[panel * W..][..W]);
            let zero = simd.splat_f32s(0.0);
            for pooled in 0..P / 2 {
                let out = row * self.y_stride + (column + pooled) * c_out + panel * W;
                let (y, _) = S::as_mut_simd_f32s(&mut self.y[out..][..W]);
                for v in 0..V {
                    let upper = simd.max_f32s(sums[0][2 * pooled][v], sums[0][2 * pooled + 1][v]);
                    let lower = simd.max_f32s(sums[1][2 * pooled][v], sums[1][2 * pooled + 1][v]);
                    y[v] = simd.max_f32s(simd.add_f32s(simd.max_f32s(upper, lower), bias[v]), zero);
                }
            }
            return;
        };
        let bias: &[f32; W] = self.bias[panel * W..].first_chunk().expect("a bias a channel");
        let (threshold, key, base, scale) = match self.dropout {
            Some((d, key, base)) => (d.threshold(), key, base, d.scale()),
            None => (0, 0, 0, 1.0),
        };
        for pooled in 0..P / 2 {
            let mut window = [[0f32; W]; 4];
            for (k, lanes) in window.iter_mut().enumerate() {
                S::as_mut_simd_f32s(lanes).0.copy_from_slice(&sums[k / 2][2 * pooled + k % 2]);
            }
            let mut best = window[0];
            let mut code = [0u32; W];
            for (k, lanes) in window.iter().enumerate().skip(1) {
                for l in 0..W {
                    let wins = lanes[l] > best[l];
                    best[l] = if wins { lanes[l] } else { best[l] };
                    code[l] = if wins { k as u32 } else { code[l] };
                }
            }
            let out = row * self.y_stride + (column + pooled) * c_out + panel * W;
            let (mut values, mut codes) = ([0f32; W], [0u8; W]);
            for l in 0..W {
                let value = best[l] + bias[l];
                let kept = mix(key, (base + out + l) as u32) >= threshold;
                let alive = (value > 0.0) & kept;
                values[l] = if alive { value * scale } else { 0.0 };
                codes[l] = if alive { code[l] as u8 } else { DEAD };
            }
            self.y[out..][..W].copy_from_slice(&values);
            all_codes[out..][..W].copy_from_slice(&codes);
        }
    }
}

/// Taps that are taken at once: of W-Net's rows of 9, 48 and 96, one is left over.
const TAPS: usize = 8;

/// Adds `T` taps, from `first`, of `P` pixels in each of two rows. Slices become arrays here, so that their lengths are
/// checked once and not at every tap. (Loops, not closures: those are not always compiled for the wide vectors.)
#[inline(always)]
fn taps_of<S: Simd, const V: usize, const P: usize, const T: usize>(
    simd: S,
    rows: [&[f32]; 2],
    c_in: usize,
    first: usize,
    weights: &[S::f32s],
    sums: &mut [[[S::f32s; V]; P]; 2],
) {
    let (weights, _) = weights[..T * V].as_chunks::<V>();
    let mut pixels = [[&[0f32; T]; P]; 2];
    for dy in 0..2 {
        for dx in 0..P {
            pixels[dy][dx] = rows[dy][dx * c_in + first..].first_chunk().expect("T taps are left");
        }
    }
    for t in 0..T {
        for dy in 0..2 {
            for dx in 0..P {
                let x = simd.splat_f32s(pixels[dy][dx][t]);
                for v in 0..V {
                    sums[dy][dx][v] = simd.mul_add_e_f32s(x, weights[t][v], sums[dy][dx][v]);
                }
            }
        }
    }
}

/// Gradients of [`conv_forward`].
pub struct ConvGradients {
    /// `[3, 3, c_in, c_out]`
    pub weight: Vec<f32>,
    /// `[c_out]`
    pub bias: Vec<f32>,
}

/// Backward of [`conv_forward`]: from `dy` (`scale`: dropout's, 1 without) the gradients of weight and bias, and, added
/// onto `dx` where it is given, of the input.
pub fn conv_backward(
    vector: Vector,
    shape: ConvShape,
    x: &[f32],
    weight: &[f32],
    codes: &[u8],
    scale: f32,
    dy: &[f32],
    dx: Option<&mut [f32]>,
) -> ConvGradients {
    let n = x.len() / shape.x_len();
    let row = shape.run().next_multiple_of(SLACK);
    // [c_out, 3, row]: the filter as the backward pass reads it, zero behind each run.
    let mut filters = vec![0f32; shape.c_out * 3 * row];
    for (tap, channels) in weight.chunks_exact(shape.c_out).enumerate() {
        for (c, w) in channels.iter().enumerate() {
            filters[(c * 3 + tap / shape.run()) * row + tap % shape.run()] = *w;
        }
    }
    // One partial sum a group of images; groups depend on the batch alone.
    let group = n.div_ceil(16).max(1);
    let work = |i: usize, dx: Option<&mut [f32]>| {
        let images = i * group..n.min((i + 1) * group);
        let mut part = vec![0f32; shape.c_out * 3 * row + shape.c_out];
        let mut dx = dx;
        for (k, image) in images.enumerate() {
            let dx = dx.as_deref_mut().map(|dx| &mut dx[k * shape.x_len()..][..shape.x_len()]);
            SCRATCH.with_borrow_mut(|(framed, gradient, places)| {
                frame(shape, &x[image * shape.x_len()..][..shape.x_len()], 0, shape.h + 2, framed);
                if dx.is_some() {
                    gradient.clear();
                    gradient.resize(framed.len(), 0.0);
                }
                let span = image * shape.y_len()..(image + 1) * shape.y_len();
                let counts = list(shape, &codes[span.clone()], &dy[span], scale, places);
                let gradient_in = dx.is_some().then_some(gradient.as_mut_slice());
                vector.run(ConvBackward {
                    shape,
                    row,
                    framed,
                    filters: &filters,
                    counts: &counts,
                    places,
                    part: &mut part,
                    gradient: gradient_in,
                });
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
    let mut gradients = ConvGradients { weight: vec![0.0; shape.weight_len()], bias: vec![0.0; shape.c_out] };
    for part in &parts {
        let (filters, bias) = part.split_at(shape.c_out * 3 * row);
        for (sum, b) in gradients.bias.iter_mut().zip(bias) {
            *sum += b;
        }
        for (tap, channels) in gradients.weight.chunks_exact_mut(shape.c_out).enumerate() {
            for (c, sum) in channels.iter_mut().enumerate() {
                *sum += filters[(c * 3 + tap / shape.run()) * row + tap % shape.run()];
            }
        }
    }
    gradients
}

/// A place with a gradient: the offset of the filter's top left corner in the framed picture, and the gradient.
#[derive(Clone, Copy, Default)]
struct Place {
    offset: u32,
    value: f32,
}

/// Lists the places with a gradient, a channel behind the other in `places`, each from `channel * out_h * out_w` on.
/// Returns how many there are in each.
fn list(shape: ConvShape, codes: &[u8], dy: &[f32], scale: f32, places: &mut Vec<Place>) -> Vec<usize> {
    let (all, c_out) = (shape.out_h() * shape.out_w(), shape.c_out);
    // What an earlier picture left behind is overwritten or not counted.
    places.resize(all * c_out, Place::default());
    let mut ends: Vec<usize> = (0..c_out).map(|c| c * all).collect();
    for (place, (codes, dy)) in codes.chunks_exact(c_out).zip(dy.chunks_exact(c_out)).enumerate() {
        let (oy, ox) = (place / shape.out_w(), place % shape.out_w());
        let corner = [0, 1, 2, 3, 0, 0, 0, 0]
            .map(|k| ((2 * oy + k / 2) * shape.stride() + (2 * ox + k % 2) * shape.c_in) as u32);
        for ((code, d), end) in codes.iter().zip(dy).zip(&mut ends) {
            // Written always, counted only if alive: no branch to mispredict.
            places[*end] = Place { offset: corner[usize::from(code & 7)], value: d * scale };
            *end += usize::from(*code < DEAD);
        }
    }
    ends.iter().enumerate().map(|(c, end)| end - c * all).collect()
}

struct ConvBackward<'a> {
    shape: ConvShape,
    row: usize,
    framed: &'a [f32],
    filters: &'a [f32],
    /// Places of each channel, which begin at `channel * out_h * out_w`.
    counts: &'a [usize],
    places: &'a [Place],
    /// `[c_out, 3, row]` then `[c_out]`: added onto.
    part: &'a mut [f32],
    gradient: Option<&'a mut [f32]>,
}

impl WithSimd for ConvBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = size_of::<S::f32s>() / 4;
        let (run, all) = (self.shape.run(), self.shape.out_h() * self.shape.out_w());
        for c in 0..self.shape.c_out {
            let places = &self.places[c * all..][..self.counts[c]];
            self.part[self.shape.c_out * 3 * self.row + c] += places.iter().map(|p| p.value).sum::<f32>();
            let mut at = 0;
            while at < run {
                // As many vectors of the three rows at once as registers hold sums and filters for.
                let vectors = (run - at).div_ceil(lanes);
                at += lanes
                    * match vectors {
                        1 => self.rows::<S, 3, 1>(simd, c, at, places),
                        2 => self.rows::<S, 3, 2>(simd, c, at, places),
                        3..=5 if lanes == 16 => self.rows::<S, 3, 3>(simd, c, at, places),
                        3..=5 => self.rows::<S, 1, 3>(simd, c, at, places),
                        _ => self.rows::<S, 1, 6>(simd, c, at, places),
                    };
            }
        }
    }
}

impl ConvBackward<'_> {
    /// `V` vectors, from float `at`, of the filter's three rows, `K` rows at once. Returns `V`.
    #[inline(always)]
    fn rows<S: Simd, const K: usize, const V: usize>(
        &mut self,
        simd: S,
        c: usize,
        at: usize,
        places: &[Place],
    ) -> usize {
        for ky in (0..3).step_by(K) {
            self.pass::<S, K, V>(simd, (c * 3 + ky) * self.row + at, ky * self.shape.stride() + at, places);
        }
        V
    }

    /// `start`: where the first row stands in the filters; `shift`: where it lies in the picture, from the corner on.
    #[inline(always)]
    fn pass<S: Simd, const K: usize, const V: usize>(&mut self, simd: S, start: usize, shift: usize, places: &[Place]) {
        let floats = V * (size_of::<S::f32s>() / 4);
        let stride = self.shape.stride();
        let mut filter = [[simd.splat_f32s(0.0); V]; K];
        let mut sums = filter;
        for k in 0..K {
            filter[k].copy_from_slice(S::as_simd_f32s(&self.filters[start + k * self.row..][..floats]).0);
            sums[k].copy_from_slice(S::as_simd_f32s(&self.part[start + k * self.row..][..floats]).0);
        }
        let length = (K - 1) * stride + floats;
        let framed = &self.framed[shift..];
        match self.gradient.as_deref_mut() {
            Some(gradient) => {
                let gradient = &mut gradient[shift..];
                for place in places {
                    let g = simd.splat_f32s(place.value);
                    let x = &framed[place.offset as usize..][..length];
                    let d = &mut gradient[place.offset as usize..][..length];
                    for k in 0..K {
                        let (x, _) = S::as_simd_f32s(&x[k * stride..][..floats]);
                        let (d, _) = S::as_mut_simd_f32s(&mut d[k * stride..][..floats]);
                        for v in 0..V {
                            sums[k][v] = simd.mul_add_e_f32s(g, x[v], sums[k][v]);
                            d[v] = simd.mul_add_e_f32s(g, filter[k][v], d[v]);
                        }
                    }
                }
            }
            None => {
                for place in places {
                    let g = simd.splat_f32s(place.value);
                    let x = &framed[place.offset as usize..][..length];
                    for k in 0..K {
                        let (x, _) = S::as_simd_f32s(&x[k * stride..][..floats]);
                        for v in 0..V {
                            sums[k][v] = simd.mul_add_e_f32s(g, x[v], sums[k][v]);
                        }
                    }
                }
            }
        }
        for (k, sums) in sums.iter().enumerate() {
            S::as_mut_simd_f32s(&mut self.part[start + k * self.row..][..floats]).0.copy_from_slice(sums);
        }
    }
}
