//! CPU kernels on plain slices: the 3x3 convolution block and the large linear layer, forward and backward.
//!
//! One source for every vector width: `pulp` picks AVX-512, AVX2 + FMA, NEON or portable code at run time. Layouts are
//! NHWC; work is cut into pieces that depend on the shapes alone and sums are taken in a fixed order, so that results
//! are the same bytes on any number of threads.
//!
//! Where the speed comes from:
//! - Forward, the nine taps of a row of pixels are read as one contiguous run of `3 * c_in` floats, so that the
//!   convolution is a matrix product without im2col's copy; pooling, ReLU and dropout happen in registers.
//! - Backward, only the pixel that won its 2x2 pool, was positive and survived dropout has a gradient: about one in
//!   ten. Those are listed a channel, and weight and input gradients are sums over the list.
//! - The linear layer's weight, 67 MB in W-Net, is walked once backward: each tile makes its share of the input's
//!   gradient, then its own gradient in registers, then Adam's update, while it is in the cache.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Output channels a panel of packed weights.
pub const PANEL: usize = 16;
/// Rows a tile of the linear layer's weight.
pub const ROWS: usize = 64;
/// `codes` entry of a pooled value without gradient: not positive, or dropped. Else 0 to 3: which pixel won.
pub const DEAD: u8 = 4;

/// Which code path the kernels take.
#[derive(Clone, Copy, Debug)]
pub enum Vector {
    /// The widest vectors that this machine has.
    Best(Arch),
    /// Plain Rust, any machine: what the other path is tested against.
    Portable,
}

impl Vector {
    /// The widest vectors that this machine has.
    pub fn detect() -> Self {
        Vector::Best(Arch::new())
    }

    fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self {
            Vector::Best(arch) => arch.dispatch(op),
            Vector::Portable => op.with_simd(pulp::Scalar),
        }
    }
}

/// Dropout whose choice is a function of (key, position), so that no state runs along.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share dropped, 0 to below 1.
    pub p: f32,
}

impl Dropout {
    /// What a kept value is multiplied by.
    pub fn scale(self) -> f32 {
        1.0 / (1.0 - self.p)
    }

    fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }

    /// Whether position `i` (0 to 2^32) is kept under `key`.
    pub fn keeps(self, key: u64, i: usize) -> bool {
        mix(key, i as u32) >= self.threshold()
    }
}

/// A 32-bit hash of a position: murmur3's finaliser over a Weyl sequence, keyed at both ends.
#[inline(always)]
fn mix(key: u64, i: u32) -> u32 {
    let mut z = i.wrapping_mul(0x9E37_79B1) ^ key as u32;
    z ^= z >> 16;
    z = z.wrapping_mul(0x85EB_CA6B);
    z ^= (key >> 32) as u32;
    z ^= z >> 13;
    z = z.wrapping_mul(0xC2B2_AE35);
    z ^ (z >> 16)
}

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
    fn run(&self) -> usize {
        3 * self.c_in
    }
    /// Floats a row of the zero-framed picture.
    fn stride(&self) -> usize {
        (self.w + 2) * self.c_in
    }
}

thread_local! {
    static SCRATCH: RefCell<[Vec<f32>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Slack behind framed pictures, so that whole vectors can be read at their end.
const SLACK: usize = 16;

/// Copies rows `first .. first + rows` of the zero-framed picture of `x` into `framed` (row 0 is the frame's top).
fn frame(shape: ConvShape, x: &[f32], first: usize, rows: usize, framed: &mut Vec<f32>) {
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

/// Weights `[3, 3, c_in, c_out]` → panels of 16 output channels, each `[3, 3 * c_in, 16]`.
fn pack(shape: ConvShape, weight: &[f32]) -> Vec<f32> {
    let taps = 9 * shape.c_in;
    let mut packed = Vec::with_capacity(weight.len());
    for panel in 0..shape.c_out / PANEL {
        for tap in 0..taps {
            packed.extend_from_slice(&weight[tap * shape.c_out + panel * PANEL..][..PANEL]);
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
    let packed = pack(shape, weight);
    // Bands of whole pooled rows: enough pieces for many threads, few enough that their frames cost little.
    let band = (1..=8).rev().find(|b| shape.out_h().is_multiple_of(*b)).unwrap_or(1);
    let bands = shape.out_h() / band;
    let piece = band * shape.out_w() * shape.c_out;
    y.par_chunks_mut(piece).zip(codes.par_chunks_mut(piece)).enumerate().for_each(|(i, (y, codes))| {
        let (image, first) = (i / bands, i % bands * band);
        SCRATCH.with_borrow_mut(|[framed, ..]| {
            frame(shape, &x[image * shape.x_len()..][..shape.x_len()], 2 * first, 2 * band + 2, framed);
            let base = first * shape.out_w() * shape.c_out;
            let dropout = dropout.map(|(d, keys)| (d, keys[image], base));
            vector.run(ConvForward { shape, framed, packed: &packed, bias, dropout, y, codes });
        });
    });
}

struct ConvForward<'a> {
    shape: ConvShape,
    framed: &'a [f32],
    packed: &'a [f32],
    bias: &'a [f32],
    dropout: Option<(Dropout, u64, usize)>,
    y: &'a mut [f32],
    codes: &'a mut [u8],
}

impl WithSimd for ConvForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.band::<S, 1, 4>(simd),
            8 => self.band::<S, 2, 2>(simd),
            4 => self.band::<S, 4, 2>(simd),
            _ => self.band::<S, 16, 2>(simd),
        }
    }
}

impl ConvForward<'_> {
    /// `V` vectors make a panel; a tile is 2 x `P` pixels, that is `P / 2` pooled ones.
    #[inline(always)]
    fn band<S: Simd, const V: usize, const P: usize>(mut self, simd: S) {
        let out_w = self.shape.out_w();
        let rows = self.y.len() / (out_w * self.shape.c_out);
        for panel in 0..self.shape.c_out / PANEL {
            for row in 0..rows {
                let mut column = 0;
                while column + P / 2 <= out_w {
                    self.tile::<S, V, P>(simd, panel, row, column);
                    column += P / 2;
                }
                while column < out_w {
                    self.tile::<S, V, 2>(simd, panel, row, column);
                    column += 1;
                }
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize, const P: usize>(&mut self, simd: S, panel: usize, row: usize, column: usize) {
        let ConvShape { c_in, c_out, .. } = self.shape;
        let (run, stride) = (self.shape.run(), self.shape.stride());
        let (weights, _) = S::as_simd_f32s(&self.packed[panel * 3 * run * PANEL..][..3 * run * PANEL]);
        let mut sums = [[[simd.splat_f32s(0.0); V]; P]; 2];
        for ky in 0..3 {
            let taps = &weights[ky * run * V..][..run * V];
            let at =
                |dy: usize, dx: usize| &self.framed[(2 * row + ky + dy) * stride + (2 * column + dx) * c_in..][..run];
            let pixels: [[&[f32]; P]; 2] = std::array::from_fn(|dy| std::array::from_fn(|dx| at(dy, dx)));
            for (i, w) in taps.chunks_exact(V).enumerate() {
                for dy in 0..2 {
                    for dx in 0..P {
                        let x = simd.splat_f32s(pixels[dy][dx][i]);
                        for v in 0..V {
                            sums[dy][dx][v] = simd.mul_add_e_f32s(x, w[v], sums[dy][dx][v]);
                        }
                    }
                }
            }
        }
        for pooled in 0..P / 2 {
            let mut window = [[0f32; PANEL]; 4];
            for (k, lanes) in window.iter_mut().enumerate() {
                S::as_mut_simd_f32s(lanes).0.copy_from_slice(&sums[k / 2][2 * pooled + k % 2]);
            }
            let out = (row * self.shape.out_w() + column + pooled) * c_out + panel * PANEL;
            let y = &mut self.y[out..][..PANEL];
            let codes = &mut self.codes[out..][..PANEL];
            let bias = &self.bias[panel * PANEL..][..PANEL];
            let mut best = window[0];
            let mut code = [0u32; PANEL];
            for (k, lanes) in window.iter().enumerate().skip(1) {
                for l in 0..PANEL {
                    let wins = lanes[l] > best[l];
                    best[l] = if wins { lanes[l] } else { best[l] };
                    code[l] = if wins { k as u32 } else { code[l] };
                }
            }
            let (threshold, key, base, scale) = match self.dropout {
                Some((d, key, base)) => (d.threshold(), key, base, d.scale()),
                None => (0, 0, 0, 1.0),
            };
            for l in 0..PANEL {
                let value = best[l] + bias[l];
                let kept = mix(key, (base + out + l) as u32) >= threshold;
                let alive = (value > 0.0) & kept;
                y[l] = if alive { value * scale } else { 0.0 };
                codes[l] = if alive { code[l] as u8 } else { DEAD };
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
            SCRATCH.with_borrow_mut(|[framed, gradient, values]| {
                frame(shape, &x[image * shape.x_len()..][..shape.x_len()], 0, shape.h + 2, framed);
                if dx.is_some() {
                    gradient.clear();
                    gradient.resize(framed.len(), 0.0);
                }
                let span = image * shape.y_len()..(image + 1) * shape.y_len();
                let lists = List::collect(shape, &codes[span.clone()], &dy[span], scale, values);
                let gradient_in = dx.is_some().then_some(gradient.as_mut_slice());
                vector.run(ConvBackward {
                    shape,
                    row,
                    framed,
                    filters: &filters,
                    lists: &lists,
                    values,
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

/// Where one output channel has a gradient: offsets of the filter's top left corner in the framed picture. The values
/// stand beside, in a vector of their own, at `first ..`.
struct List {
    first: usize,
    offsets: Vec<u32>,
}

impl List {
    /// One list a channel; `values` takes the gradients, `out_h * out_w` places a channel.
    fn collect(shape: ConvShape, codes: &[u8], dy: &[f32], scale: f32, values: &mut Vec<f32>) -> Vec<List> {
        let (places, c_out) = (shape.out_h() * shape.out_w(), shape.c_out);
        values.clear();
        values.resize(places * c_out, 0.0);
        let mut offsets = vec![vec![0u32; places]; c_out];
        let mut counts = vec![0usize; c_out];
        for place in 0..places {
            let (oy, ox) = (place / shape.out_w(), place % shape.out_w());
            let corner =
                [0, 1, 2, 3, 0].map(|k| ((2 * oy + k / 2) * shape.stride() + (2 * ox + k % 2) * shape.c_in) as u32);
            let codes = &codes[place * c_out..][..c_out];
            let dy = &dy[place * c_out..][..c_out];
            for c in 0..c_out {
                // Written always, counted only if alive: no branch to mispredict.
                let at = counts[c];
                offsets[c][at] = corner[usize::from(codes[c].min(DEAD))];
                values[c * places + at] = dy[c] * scale;
                counts[c] = at + usize::from(codes[c] < DEAD);
            }
        }
        offsets
            .into_iter()
            .zip(counts)
            .enumerate()
            .map(|(c, (mut offsets, count))| {
                offsets.truncate(count);
                List { first: c * places, offsets }
            })
            .collect()
    }
}

struct ConvBackward<'a> {
    shape: ConvShape,
    row: usize,
    framed: &'a [f32],
    filters: &'a [f32],
    lists: &'a [List],
    values: &'a [f32],
    /// `[c_out, 3, row]` then `[c_out]`: added onto.
    part: &'a mut [f32],
    gradient: Option<&'a mut [f32]>,
}

impl WithSimd for ConvBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = size_of::<S::f32s>() / 4;
        let run = self.shape.run();
        for c in 0..self.shape.c_out {
            let list = &self.lists[c];
            let values = &self.values[list.first..][..list.offsets.len()];
            self.part[self.shape.c_out * 3 * self.row + c] += values.iter().sum::<f32>();
            for ky in 0..3 {
                let mut at = 0;
                while at < run {
                    let span = Span { start: (c * 3 + ky) * self.row + at, shift: ky * self.shape.stride() + at };
                    let vectors = (run - at).div_ceil(lanes);
                    at += lanes
                        * if vectors >= 6 {
                            self.pass::<S, 6>(simd, list, values, span)
                        } else if vectors >= 3 {
                            self.pass::<S, 3>(simd, list, values, span)
                        } else if vectors == 2 {
                            self.pass::<S, 2>(simd, list, values, span)
                        } else {
                            self.pass::<S, 1>(simd, list, values, span)
                        };
                }
            }
        }
    }
}

/// A stretch of `V` vectors in a filter's row: where it starts in the filters, and from the corner in the picture.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    shift: usize,
}

impl ConvBackward<'_> {
    #[inline(always)]
    fn pass<S: Simd, const V: usize>(&mut self, simd: S, list: &List, values: &[f32], span: Span) -> usize {
        let floats = V * (size_of::<S::f32s>() / 4);
        let (part, _) = S::as_mut_simd_f32s(&mut self.part[span.start..][..floats]);
        let mut sums: [S::f32s; V] = std::array::from_fn(|v| part[v]);
        let framed = &self.framed[span.shift..];
        for (offset, value) in list.offsets.iter().zip(values) {
            let g = simd.splat_f32s(*value);
            let (x, _) = S::as_simd_f32s(&framed[*offset as usize..][..floats]);
            for v in 0..V {
                sums[v] = simd.mul_add_e_f32s(g, x[v], sums[v]);
            }
        }
        part.copy_from_slice(&sums);
        if let Some(gradient) = self.gradient.as_deref_mut() {
            let gradient = &mut gradient[span.shift..];
            let (filter, _) = S::as_simd_f32s(&self.filters[span.start..][..floats]);
            let filter: [S::f32s; V] = std::array::from_fn(|v| filter[v]);
            for (offset, value) in list.offsets.iter().zip(values) {
                let g = simd.splat_f32s(*value);
                let (d, _) = S::as_mut_simd_f32s(&mut gradient[*offset as usize..][..floats]);
                for v in 0..V {
                    d[v] = simd.mul_add_e_f32s(g, filter[v], d[v]);
                }
            }
        }
        V
    }
}

/// Adam's numbers for one step (Kingma and Ba 2015); `rate` already holds the bias correction of the first moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate / (1 - beta1^t)
    pub rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    /// 1 / (1 - beta2^t)
    pub second: f32,
    pub epsilon: f32,
}

impl AdamStep {
    /// One parameter's update.
    #[inline(always)]
    pub fn apply(&self, value: &mut f32, m: &mut f32, v: &mut f32, gradient: f32) {
        *m = self.beta1 * *m + (1.0 - self.beta1) * gradient;
        *v = self.beta2 * *v + (1.0 - self.beta2) * gradient * gradient;
        *value -= self.rate * *m / ((*v * self.second).sqrt() + self.epsilon);
    }
}

/// A linear layer's weight and what Adam keeps for it, `[inputs, outputs]` cut into tiles of
/// [`ROWS`] x [`PANEL`]: `[inputs / ROWS, outputs / PANEL, ROWS, PANEL]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiled {
    pub inputs: usize,
    pub outputs: usize,
    pub value: Vec<f32>,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
}

impl Tiled {
    /// Zero everywhere. `inputs` and `outputs` are multiples of [`ROWS`] and [`PANEL`].
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        assert!(inputs.is_multiple_of(ROWS) && outputs.is_multiple_of(PANEL));
        let zeros = || vec![0.0; inputs * outputs];
        Self { inputs, outputs, value: zeros(), m: zeros(), v: zeros() }
    }

    /// Tiles → row-major `[inputs, outputs]`.
    pub fn to_rows(&self, tiles: &[f32]) -> Vec<f32> {
        let mut rows = vec![0.0; tiles.len()];
        rows.par_chunks_mut(ROWS * self.outputs).zip(tiles.par_chunks(ROWS * self.outputs)).for_each(|(rows, slab)| {
            for (p, tile) in slab.chunks_exact(ROWS * PANEL).enumerate() {
                for (r, values) in tile.chunks_exact(PANEL).enumerate() {
                    rows[r * self.outputs + p * PANEL..][..PANEL].copy_from_slice(values);
                }
            }
        });
        rows
    }

    /// Row-major `[inputs, outputs]` → tiles.
    pub fn from_rows(&self, rows: &[f32]) -> Vec<f32> {
        let mut tiles = vec![0.0; rows.len()];
        tiles.par_chunks_mut(ROWS * self.outputs).zip(rows.par_chunks(ROWS * self.outputs)).for_each(|(slab, rows)| {
            for (p, tile) in slab.chunks_exact_mut(ROWS * PANEL).enumerate() {
                for (r, values) in tile.chunks_exact_mut(PANEL).enumerate() {
                    values.copy_from_slice(&rows[r * self.outputs + p * PANEL..][..PANEL]);
                }
            }
        });
        tiles
    }
}

/// `[rows, columns]` → `[columns, padded]`, zero where `padded` is more than `rows`.
pub fn transpose(rows: usize, columns: usize, padded: usize, source: &[f32]) -> Vec<f32> {
    let mut target = vec![0.0; columns * padded];
    target.par_chunks_mut(ROWS * padded).enumerate().for_each(|(chunk, target)| {
        for r in 0..rows {
            let source = &source[r * columns..][..columns][chunk * ROWS..];
            for (t, s) in target.chunks_exact_mut(padded).zip(source) {
                t[r] = *s;
            }
        }
    });
    target
}

/// Images a tile of the linear layer's gradient takes at once: batches are padded to it.
pub const LANES: usize = 16;

/// `y = dropout(relu(x W + bias))`.
///
/// `xt` is the input transposed, `[inputs, n.next_multiple_of(LANES)]`; `y` is `[n, outputs]`. Without gradient is
/// where `y` is 0.
pub fn linear_forward(
    vector: Vector,
    weight: &Tiled,
    xt: &[f32],
    n: usize,
    bias: &[f32],
    dropout: Option<(Dropout, &[u64])>,
    y: &mut [f32],
) {
    let panels = weight.outputs / PANEL;
    // Four panels a piece: tiles that lie behind one another are read as one stretch.
    let per = if panels.is_multiple_of(4) { 4 } else { 1 };
    let sums: Vec<Vec<f32>> = (0..panels / per)
        .into_par_iter()
        .map(|piece| {
            let mut sums = vec![0f32; per * n * PANEL];
            vector.run(LinearForward { weight, xt, n, first: piece * per, sums: &mut sums });
            sums
        })
        .collect();
    for (p, sums) in sums.iter().flat_map(|s| s.chunks_exact(n * PANEL)).enumerate() {
        for (image, sums) in sums.chunks_exact(PANEL).enumerate() {
            for (l, sum) in sums.iter().enumerate() {
                let out = p * PANEL + l;
                let value = sum + bias[out];
                let (kept, scale) = match dropout {
                    Some((d, keys)) => (d.keeps(keys[image], out), d.scale()),
                    None => (true, 1.0),
                };
                y[image * weight.outputs + out] = if value > 0.0 && kept { value * scale } else { 0.0 };
            }
        }
    }
}

struct LinearForward<'a> {
    weight: &'a Tiled,
    xt: &'a [f32],
    n: usize,
    /// First panel; `sums` is `[panels, n, PANEL]`.
    first: usize,
    sums: &'a mut [f32],
}

impl WithSimd for LinearForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.panels::<S, 1>(simd),
            8 => self.panels::<S, 2>(simd),
            4 => self.panels::<S, 4>(simd),
            _ => self.panels::<S, 16>(simd),
        }
    }
}

impl LinearForward<'_> {
    #[inline(always)]
    fn panels<S: Simd, const V: usize>(self, simd: S) {
        let padded = self.n.next_multiple_of(LANES);
        let slab = ROWS * self.weight.outputs;
        for (slab, xt) in self.weight.value.chunks_exact(slab).zip(self.xt.chunks_exact(ROWS * padded)) {
            for (k, sums) in self.sums.chunks_exact_mut(self.n * PANEL).enumerate() {
                let (tile, _) = S::as_simd_f32s(&slab[(self.first + k) * ROWS * PANEL..][..ROWS * PANEL]);
                let (sums, _) = S::as_mut_simd_f32s(sums);
                let mut image = 0;
                while image < self.n {
                    image += match self.n - image {
                        1 => images::<S, V, 1>(simd, tile, xt, padded, image, sums),
                        2 => images::<S, V, 2>(simd, tile, xt, padded, image, sums),
                        3 => images::<S, V, 3>(simd, tile, xt, padded, image, sums),
                        5 => images::<S, V, 5>(simd, tile, xt, padded, image, sums),
                        _ => images::<S, V, 4>(simd, tile, xt, padded, image, sums),
                    };
                }
            }
        }
    }
}

/// `I` images through one tile of the weight; returns `I`.
#[inline(always)]
fn images<S: Simd, const V: usize, const I: usize>(
    simd: S,
    tile: &[S::f32s],
    xt: &[f32],
    padded: usize,
    first: usize,
    sums: &mut [S::f32s],
) -> usize {
    let sums = &mut sums[first * V..][..I * V];
    let mut acc: [[S::f32s; V]; I] = std::array::from_fn(|i| std::array::from_fn(|v| sums[i * V + v]));
    for (w, x) in tile.chunks_exact(V).zip(xt.chunks_exact(padded)) {
        let x = &x[first..][..I];
        for i in 0..I {
            let x = simd.splat_f32s(x[i]);
            for v in 0..V {
                acc[i][v] = simd.mul_add_e_f32s(x, w[v], acc[i][v]);
            }
        }
    }
    for i in 0..I {
        sums[i * V..][..V].copy_from_slice(&acc[i]);
    }
    I
}

/// Backward of [`linear_forward`] from `dz` (`[n, outputs]`: the gradient before ReLU and dropout, 0 where `y` was 0):
/// returns the input's gradient transposed, `[inputs, n.next_multiple_of(LANES)]`.
///
/// With `adam`, every tile of the weight is updated as soon as its gradient is known, which then is nowhere written;
/// without, the weight stays and the gradient goes to `gradient` (tiled like the weight).
pub fn linear_backward(
    vector: Vector,
    weight: &mut Tiled,
    xt: &[f32],
    n: usize,
    dz: &[f32],
    adam: Option<AdamStep>,
    gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    let (outputs, padded) = (weight.outputs, n.next_multiple_of(LANES));
    // The gradient a panel, twice: [panels, n, PANEL] and [panels, PANEL, padded].
    let panels = outputs / PANEL;
    let mut by_image = vec![0f32; panels * n * PANEL];
    let mut by_output = vec![0f32; panels * PANEL * padded];
    for (image, dz) in dz.chunks_exact(outputs).enumerate() {
        for (out, d) in dz.iter().enumerate() {
            by_image[(out / PANEL * n + image) * PANEL + out % PANEL] = *d;
            by_output[out * padded + image] = *d;
        }
    }
    let mut dxt = vec![0f32; weight.inputs * padded];
    let slab = ROWS * outputs;
    let work = |w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &mut [f32], xt: &[f32], dxt: &mut [f32]| {
        let (by_image, by_output) = (by_image.as_slice(), by_output.as_slice());
        vector.run(LinearBackward { n, w, m, v, g, xt, dxt, by_image, by_output, adam });
    };
    let Tiled { value, m, v, .. } = weight;
    let slabs = value
        .par_chunks_mut(slab)
        .zip(m.par_chunks_mut(slab))
        .zip(v.par_chunks_mut(slab))
        .zip(xt.par_chunks(ROWS * padded))
        .zip(dxt.par_chunks_mut(ROWS * padded));
    match gradient {
        Some(gradient) => {
            slabs.zip(gradient.par_chunks_mut(slab)).for_each(|(((((w, m), v), xt), dxt), g)| work(w, m, v, g, xt, dxt))
        }
        None => slabs.for_each(|((((w, m), v), xt), dxt)| work(w, m, v, &mut [], xt, dxt)),
    }
    dxt
}

struct LinearBackward<'a> {
    n: usize,
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a mut [f32],
    xt: &'a [f32],
    dxt: &'a mut [f32],
    by_image: &'a [f32],
    by_output: &'a [f32],
    adam: Option<AdamStep>,
}

impl WithSimd for LinearBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.slab::<S, 1, 1, 8>(simd),
            8 => self.slab::<S, 2, 2, 4>(simd),
            4 => self.slab::<S, 4, 4, 2>(simd),
            _ => self.slab::<S, 16, 16, 1>(simd),
        }
    }
}

impl LinearBackward<'_> {
    /// `V` vectors a panel, `L` vectors a block of [`LANES`] images, `R` rows of the weight at once.
    #[inline(always)]
    fn slab<S: Simd, const V: usize, const L: usize, const R: usize>(self, simd: S) {
        let (n, padded, tile) = (self.n, self.n.next_multiple_of(LANES), ROWS * PANEL);
        for panel in 0..self.w.len() / tile {
            let w = &mut self.w[panel * tile..][..tile];
            // The input's gradient: dxt[row, images] += sum over the panel's outputs of w[row, out] * dz[out, images].
            let dz = &self.by_output[panel * PANEL * padded..][..PANEL * padded];
            for (w, dxt) in w.chunks_exact(R * PANEL).zip(self.dxt.chunks_exact_mut(R * padded)) {
                for block in 0..padded / LANES {
                    let mut acc: [[S::f32s; L]; R] = std::array::from_fn(|r| {
                        let (row, _) = S::as_simd_f32s(&dxt[r * padded + block * LANES..][..LANES]);
                        std::array::from_fn(|l| row[l])
                    });
                    for out in 0..PANEL {
                        let (d, _) = S::as_simd_f32s(&dz[out * padded + block * LANES..][..LANES]);
                        for r in 0..R {
                            let w = simd.splat_f32s(w[r * PANEL + out]);
                            for l in 0..L {
                                acc[r][l] = simd.mul_add_e_f32s(w, d[l], acc[r][l]);
                            }
                        }
                    }
                    for r in 0..R {
                        let (row, _) = S::as_mut_simd_f32s(&mut dxt[r * padded + block * LANES..][..LANES]);
                        row.copy_from_slice(&acc[r]);
                    }
                }
            }
            // The weight's own gradient, R rows at a time: sum over images of x[row, image] * dz[image, outs].
            let (dz, _) = S::as_simd_f32s(&self.by_image[panel * n * PANEL..][..n * PANEL]);
            for row in (0..ROWS).step_by(R) {
                let mut acc = [[simd.splat_f32s(0.0); V]; R];
                let x: [&[f32]; R] = std::array::from_fn(|r| &self.xt[(row + r) * padded..][..n]);
                for (image, d) in dz.chunks_exact(V).enumerate() {
                    for r in 0..R {
                        let x = simd.splat_f32s(x[r][image]);
                        for v in 0..V {
                            acc[r][v] = simd.mul_add_e_f32s(x, d[v], acc[r][v]);
                        }
                    }
                }
                let span = panel * tile + row * PANEL..panel * tile + (row + R) * PANEL;
                match self.adam {
                    Some(adam) => {
                        let (w, _) = S::as_mut_simd_f32s(&mut self.w[span.clone()]);
                        let (m, _) = S::as_mut_simd_f32s(&mut self.m[span.clone()]);
                        let (v, _) = S::as_mut_simd_f32s(&mut self.v[span]);
                        let acc = acc.as_flattened();
                        for k in 0..R * V {
                            adam_vector(simd, adam, &mut w[k], &mut m[k], &mut v[k], acc[k]);
                        }
                    }
                    None => {
                        let (g, _) = S::as_mut_simd_f32s(&mut self.g[span]);
                        g.copy_from_slice(acc.as_flattened());
                    }
                }
            }
        }
    }
}

/// [`AdamStep::apply`] on a vector.
#[inline(always)]
fn adam_vector<S: Simd>(simd: S, adam: AdamStep, w: &mut S::f32s, m: &mut S::f32s, v: &mut S::f32s, g: S::f32s) {
    let splat = |x| simd.splat_f32s(x);
    *m = simd.mul_add_e_f32s(splat(1.0 - adam.beta1), g, simd.mul_f32s(splat(adam.beta1), *m));
    let g2 = simd.mul_f32s(g, g);
    *v = simd.mul_add_e_f32s(splat(1.0 - adam.beta2), g2, simd.mul_f32s(splat(adam.beta2), *v));
    let root = simd.add_f32s(simd.sqrt_f32s(simd.mul_f32s(*v, splat(adam.second))), splat(adam.epsilon));
    *w = simd.sub_f32s(*w, simd.div_f32s(simd.mul_f32s(splat(adam.rate), *m), root));
}
