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

    /// The code path's name, by the floats that it takes at once.
    pub fn name(self) -> &'static str {
        match self.lanes() {
            16 => "AVX-512",
            8 => "AVX2",
            4 => "128-bit",
            _ => "portable",
        }
    }

    /// Floats a vector.
    fn lanes(self) -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            fn with_simd<S: Simd>(self, _: S) -> usize {
                size_of::<S::f32s>() / 4
            }
        }
        self.run(Lanes)
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
    /// The framed picture, its gradient, and the places with a gradient.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>, Vec<Place>)> = const { RefCell::new((Vec::new(), Vec::new(), Vec::new())) };
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

/// Weights `[3, 3, c_in, c_out]` → panels of `width` output channels, each `[3, 3 * c_in, width]`.
fn pack(shape: ConvShape, weight: &[f32], width: usize) -> Vec<f32> {
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
    // Wide vectors take two panels at a time: a pixel's value, once spread over a vector, serves both.
    let width = if vector.lanes() == 16 && shape.c_out.is_multiple_of(2 * PANEL) { 2 * PANEL } else { PANEL };
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
            vector.run(ConvForward { shape, width, framed, packed: &packed, bias, dropout, y, codes });
        });
    });
}

struct ConvForward<'a> {
    shape: ConvShape,
    /// Output channels a panel of `packed`.
    width: usize,
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
        let rows = self.y.len() / (out_w * self.shape.c_out);
        for panel in 0..self.shape.c_out / W {
            for row in 0..rows {
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
            let out = (row * self.shape.out_w() + column + pooled) * c_out + panel * W;
            let (mut values, mut codes) = ([0f32; W], [0u8; W]);
            for l in 0..W {
                let value = best[l] + bias[l];
                let kept = mix(key, (base + out + l) as u32) >= threshold;
                let alive = (value > 0.0) & kept;
                values[l] = if alive { value * scale } else { 0.0 };
                codes[l] = if alive { code[l] as u8 } else { DEAD };
            }
            self.y[out..][..W].copy_from_slice(&values);
            self.codes[out..][..W].copy_from_slice(&codes);
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

/// Asks for the cache lines of `values`, which will be wanted soon. The weight's tiles are a page each, and processors
/// do not read ahead from one page into the next.
#[inline(always)]
fn read_ahead(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction; it reads nothing, writes nothing and cannot fault, and
        // the address is that of a live slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
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

    /// Tiles → row-major `[inputs, outputs]`, as bytes.
    pub fn row_bytes(&self, tiles: &[f32]) -> Vec<u8> {
        let mut rows = vec![0u8; tiles.len() * 4];
        let slab = ROWS * self.outputs;
        rows.par_chunks_mut(slab * 4).zip(tiles.par_chunks(slab)).for_each(|(rows, slab)| {
            for (p, tile) in slab.chunks_exact(ROWS * PANEL).enumerate() {
                for (r, values) in tile.chunks_exact(PANEL).enumerate() {
                    let at = (r * self.outputs + p * PANEL) * 4;
                    rows[at..][..PANEL * 4].copy_from_slice(bytemuck::cast_slice(values));
                }
            }
        });
        rows
    }

    /// Row-major `[inputs, outputs]` → `tiles`, which are of this weight's length.
    pub fn set_rows(outputs: usize, tiles: &mut [f32], rows: &[f32]) {
        assert_eq!(tiles.len(), rows.len());
        let slab = ROWS * outputs;
        tiles.par_chunks_mut(slab).zip(rows.par_chunks(slab)).for_each(|(slab, rows)| {
            for (p, tile) in slab.chunks_exact_mut(ROWS * PANEL).enumerate() {
                for (r, values) in tile.chunks_exact_mut(PANEL).enumerate() {
                    values.copy_from_slice(&rows[r * outputs + p * PANEL..][..PANEL]);
                }
            }
        });
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

/// Tiles between the one in hand and the one that is asked for.
const AHEAD: usize = 4;

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
    // Each piece reads one stretch of the weight; the number of pieces depends on its shape alone.
    let (slabs, panels) = (weight.inputs / ROWS, weight.outputs / PANEL);
    let per = slabs.div_ceil(16);
    let padded = n.next_multiple_of(LANES);
    // [pieces, panels, n, PANEL]
    let sums: Vec<Vec<f32>> = weight
        .value
        .par_chunks(per * ROWS * weight.outputs)
        .zip(xt.par_chunks(per * ROWS * padded))
        .map(|(tiles, xt)| {
            let mut sums = vec![0f32; panels * n * PANEL];
            vector.run(LinearForward { tiles, outputs: weight.outputs, xt, n, sums: &mut sums });
            sums
        })
        .collect();
    y.par_chunks_mut(weight.outputs).enumerate().for_each(|(image, y)| {
        for (p, y) in y.chunks_exact_mut(PANEL).enumerate() {
            let mut total = [0f32; PANEL];
            for piece in &sums {
                for (t, s) in total.iter_mut().zip(&piece[(p * n + image) * PANEL..][..PANEL]) {
                    *t += s;
                }
            }
            for (l, (y, sum)) in y.iter_mut().zip(total).enumerate() {
                let out = p * PANEL + l;
                let value = sum + bias[out];
                let (kept, scale) = match dropout {
                    Some((d, keys)) => (d.keeps(keys[image], out), d.scale()),
                    None => (true, 1.0),
                };
                *y = if value > 0.0 && kept { value * scale } else { 0.0 };
            }
        }
    });
}

struct LinearForward<'a> {
    /// Whole slabs of the weight: `[slabs, outputs / PANEL, ROWS, PANEL]`.
    tiles: &'a [f32],
    outputs: usize,
    /// The slabs' inputs.
    xt: &'a [f32],
    n: usize,
    /// `[outputs / PANEL, n, PANEL]`: added onto.
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
        let mut ahead = self.tiles.chunks_exact(ROWS * PANEL).skip(AHEAD);
        for (slab, xt) in self.tiles.chunks_exact(ROWS * self.outputs).zip(self.xt.chunks_exact(ROWS * padded)) {
            for (tile, sums) in slab.chunks_exact(ROWS * PANEL).zip(self.sums.chunks_exact_mut(self.n * PANEL)) {
                ahead.next().into_iter().for_each(read_ahead);
                let (tile, _) = S::as_simd_f32s(tile);
                let (sums, _) = S::as_mut_simd_f32s(sums);
                let mut image = 0;
                while image < self.n {
                    image += match self.n - image {
                        // As many sums as hide the arithmetic's latency, and still fit into registers.
                        16.. if V == 1 => images::<S, V, 16>(simd, tile, xt, padded, image, sums),
                        8.. if V == 1 => images::<S, V, 8>(simd, tile, xt, padded, image, sums),
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
    let mut acc = [[simd.splat_f32s(0.0); V]; I];
    acc.as_flattened_mut().copy_from_slice(sums);
    for (w, x) in tile.chunks_exact(V).zip(xt.chunks_exact(padded)) {
        let x: &[f32; I] = x[first..].first_chunk().expect("images first to first + I");
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
    // The gradient a panel, twice: [panels, n, PANEL] and [panels, padded / LANES, PANEL, LANES].
    let panels = outputs / PANEL;
    let mut by_image = vec![0f32; panels * n * PANEL];
    let mut by_output = vec![0f32; panels * PANEL * padded];
    for (image, dz) in dz.chunks_exact(outputs).enumerate() {
        for (out, d) in dz.iter().enumerate() {
            by_image[(out / PANEL * n + image) * PANEL + out % PANEL] = *d;
            by_output[((out / PANEL * padded + image) / LANES * PANEL + out % PANEL) * LANES + image % LANES] = *d;
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
            for (w, dxt) in w.as_chunks::<PANEL>().0.chunks_exact(R).zip(self.dxt.chunks_exact_mut(R * padded)) {
                for (block, dz) in dz.chunks_exact(PANEL * LANES).enumerate() {
                    let mut acc = [[simd.splat_f32s(0.0); L]; R];
                    for r in 0..R {
                        acc[r].copy_from_slice(S::as_simd_f32s(&dxt[r * padded + block * LANES..][..LANES]).0);
                    }
                    let (dz, _) = S::as_simd_f32s(dz);
                    let rows: &[[f32; PANEL]; R] = w.first_chunk().expect("R rows");
                    for (out, d) in dz.as_chunks::<L>().0[..PANEL].iter().enumerate() {
                        for r in 0..R {
                            let w = simd.splat_f32s(rows[r][out]);
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
                // These rows of the next tile.
                let next = (panel + 1) * tile + row * PANEL..(panel + 1) * tile + (row + R) * PANEL;
                for values in [&self.w, &self.m, &self.v] {
                    values.get(next.clone()).into_iter().for_each(read_ahead);
                }
                let mut acc = [[simd.splat_f32s(0.0); V]; R];
                let mut x = [&self.xt[..0]; R];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = &self.xt[(row + r) * padded..][..n];
                }
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
