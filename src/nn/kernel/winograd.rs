//! Winograd's minimal filtering F(2x2, 3x3): a tile of 2 x 2 outputs takes 16 products a channel instead of 36 (Lavin and
//! Gray 2016, "Fast Algorithms for Convolutional Neural Networks", equations 7 and 8). It differs from the direct sum
//! by rounding alone.
//!
//! `y = A^T ((G g G^T) * (B^T d B)) A` of a tile's 4 x 4 inputs `d` and a filter `g`: 16 matrix products, a place of the
//! tile each, over the channels. Its transpose is the filters' gradient, `G^T ((B^T d B) * (A dy A^T)) G`, by as
//! many products; the input's is the convolution of `dy` with the filters turned.

use super::Vector;
use super::convolution::{Convolution, Frame, Input, LARGE, Outer, Packed, Product};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Places of a transformed tile.
const PLACES: usize = 16;

/// `G g G^T` of every filter: `[3, 3, c_in, c_out]` → `[16, c_in, c_out]`.
pub fn filters(vector: Vector, weight: &[f32]) -> Vec<f32> {
    let plane = weight.len() / 9;
    let mut out = vec![0.0; PLACES * plane];
    vector.run(Filters { weight, tap: plane, row: 0, rows: 1, width: plane, out: &mut out });
    out
}

/// `G g G^T` of rows of `width` filters each: tap `t` of row `r` begins at `weight[t * tap + r * row]`, place `p` of it
/// goes to `out`, `[16, rows, width]`.
struct Filters<'a> {
    weight: &'a [f32],
    tap: usize,
    row: usize,
    rows: usize,
    width: usize,
    out: &'a mut [f32],
}

impl WithSimd for Filters<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Filters { weight, tap, row, rows, width, out } = self;
        let (lanes, zero) = (size_of::<S::f32s>() / 4, simd.splat_f32s(0.0));
        for r in 0..rows {
            for column in (0..width).step_by(lanes) {
                let mut g = [[zero; 3]; 3];
                for t in 0..9 {
                    let at = t * tap + r * row + column;
                    g[t / 3][t % 3] = S::as_simd_f32s(&weight[at..][..lanes]).0[0];
                }
                let mut t = [[zero; 4]; 3];
                for c in 0..3 {
                    t[c] = widen(simd, [g[0][c], g[1][c], g[2][c]]);
                }
                for i in 0..4 {
                    let wide = widen(simd, [t[0][i], t[1][i], t[2][i]]);
                    for j in 0..4 {
                        let at = ((4 * i + j) * rows + r) * width + column;
                        S::as_mut_simd_f32s(&mut out[at..][..lanes]).0[0] = wide[j];
                    }
                }
            }
        }
    }
}

/// `G g`.
#[inline(always)]
fn widen<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let (ends, middle) = (simd.mul_f32s(half, simd.add_f32s(g[0], g[2])), simd.mul_f32s(half, g[1]));
    [g[0], simd.add_f32s(ends, middle), simd.sub_f32s(ends, middle), g[2]]
}

/// `G^T u G`: `[16, plane]` → `[9, plane]`.
struct FilterGradient<'a> {
    places: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for FilterGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FilterGradient { places, out } = self;
        let (lanes, plane, zero) = (size_of::<S::f32s>() / 4, places.len() / PLACES, simd.splat_f32s(0.0));
        for at in (0..plane).step_by(lanes) {
            let mut t = [[zero; 3]; 4];
            for c in 0..4 {
                let mut u = [zero; 4];
                for r in 0..4 {
                    u[r] = S::as_simd_f32s(&places[(4 * r + c) * plane + at..][..lanes]).0[0];
                }
                t[c] = narrow(simd, u);
            }
            for r in 0..3 {
                let narrow = narrow(simd, [t[0][r], t[1][r], t[2][r], t[3][r]]);
                for c in 0..3 {
                    S::as_mut_simd_f32s(&mut out[(3 * r + c) * plane + at..][..lanes]).0[0] = narrow[c];
                }
            }
        }
    }
}

/// `G^T u`.
#[inline(always)]
fn narrow<S: Simd>(simd: S, u: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(u[1], u[2]));
    let difference = simd.mul_f32s(half, simd.sub_f32s(u[1], u[2]));
    [simd.add_f32s(u[0], sum), difference, simd.add_f32s(sum, u[3])]
}

/// Filters as [`Product`] reads them: of each panel of columns the 16 places.
fn packed(vector: Vector, weight: &[f32], c_in: usize, c_out: usize) -> Packed {
    Packed::by_panels(vector, c_in, c_out, PLACES, |first, width, out| {
        vector.run(Filters { weight: &weight[first..], tap: c_in * c_out, row: c_out, rows: c_in, width, out });
    })
}

/// The same of filters turned about, `c_in` and `c_out` swapped: `[3, 3, c_out, c_in]` as they are read.
fn turned(vector: Vector, weight: &[f32], c_in: usize, c_out: usize) -> Packed {
    Packed::by_panels(vector, c_in, c_out, PLACES, |first, width, out| {
        let mut panel = vec![0.0; 9 * c_in * width];
        let taps = weight.chunks_exact(c_in * c_out).rev();
        for (panel, filters) in panel.chunks_exact_mut(c_in * width).zip(taps) {
            for (i, filter) in filters[first * c_in..][..width * c_in].chunks_exact(c_in).enumerate() {
                panel[i..].iter_mut().step_by(width).zip(filter).for_each(|(p, f)| *p = *f);
            }
        }
        vector.run(Filters { weight: &panel, tap: c_in * width, row: width, rows: c_in, width, out });
    })
}

/// `B^T d B`, of a vector of channels.
#[inline(always)]
pub fn input<S: Simd>(simd: S, d: [[S::f32s; 4]; 4]) -> [[S::f32s; 4]; 4] {
    let mut t = d;
    for c in 0..4 {
        t[0][c] = simd.sub_f32s(d[0][c], d[2][c]);
        t[1][c] = simd.add_f32s(d[1][c], d[2][c]);
        t[2][c] = simd.sub_f32s(d[2][c], d[1][c]);
        t[3][c] = simd.sub_f32s(d[1][c], d[3][c]);
    }
    let mut transformed = t;
    for r in 0..4 {
        transformed[r] = [
            simd.sub_f32s(t[r][0], t[r][2]),
            simd.add_f32s(t[r][1], t[r][2]),
            simd.sub_f32s(t[r][2], t[r][1]),
            simd.sub_f32s(t[r][1], t[r][3]),
        ];
    }
    transformed
}

/// `A^T m A`, of a vector of channels.
#[inline(always)]
pub fn output<S: Simd>(simd: S, m: [[S::f32s; 4]; 4]) -> [[S::f32s; 2]; 2] {
    let mut t = [m[0]; 2];
    for c in 0..4 {
        t[0][c] = simd.add_f32s(m[0][c], simd.add_f32s(m[1][c], m[2][c]));
        t[1][c] = simd.sub_f32s(simd.sub_f32s(m[1][c], m[2][c]), m[3][c]);
    }
    let mut y = [[t[0][0]; 2]; 2];
    for r in 0..2 {
        y[r][0] = simd.add_f32s(t[r][0], simd.add_f32s(t[r][1], t[r][2]));
        y[r][1] = simd.sub_f32s(simd.sub_f32s(t[r][1], t[r][2]), t[r][3]);
    }
    y
}

/// `A d A^T` of the gradient of a tile's outputs, of a vector of channels.
#[inline(always)]
fn gradient<S: Simd>(simd: S, d: [[S::f32s; 2]; 2]) -> [[S::f32s; 4]; 4] {
    let (left, right) = (spread(simd, d[0][0], d[1][0]), spread(simd, d[0][1], d[1][1]));
    let mut transformed = [left; 4];
    for r in 0..4 {
        transformed[r] = spread(simd, left[r], right[r]);
    }
    transformed
}

#[inline(always)]
fn spread<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> [S::f32s; 4] {
    [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)]
}

/// Whether a convolution is one for this module.
pub fn suits(conv: Convolution) -> bool {
    (conv.kernel, conv.stride, conv.pad) == (3, 1, 1) && conv.c_in.is_multiple_of(LINE)
}

/// Floats of a band's tiles.
const BAND: usize = 1 << 18;

/// Floats of a line of the cache, and of the widest vector.
const LINE: usize = 16;

/// The tiles of a picture.
#[derive(Clone, Copy)]
struct Grid {
    conv: Convolution,
    rows: usize,
    columns: usize,
}

impl Grid {
    fn new(conv: Convolution) -> Self {
        Self { conv, rows: conv.h.div_ceil(2), columns: conv.w.div_ceil(2) }
    }

    /// A picture's rows of tiles, cut so that a band, of `floats` a tile, stays in a near cache.
    fn bands(self, picture: usize, floats: usize) -> impl Iterator<Item = Band> {
        let rows = (BAND / (floats * self.columns)).clamp(1, self.rows);
        (0..self.rows).step_by(rows).map(move |first| Band {
            grid: self,
            picture,
            first,
            rows: rows.min(self.rows - first),
        })
    }
}

/// Rows `first .. first + rows` of a picture's tiles.
#[derive(Clone, Copy)]
struct Band {
    grid: Grid,
    picture: usize,
    first: usize,
    rows: usize,
}

impl Band {
    fn tiles(self) -> usize {
        self.rows * self.grid.columns
    }

    /// Floats from a place's plane, `[tiles, c]`, to the next.
    fn plane(self, c: usize) -> usize {
        // One line more, or all planes would begin in the same set of the cache.
        self.tiles() * c + LINE
    }

    /// Where the tiles lie in a plane.
    fn places(self, c: usize) -> Vec<usize> {
        (0..self.tiles()).map(|tile| tile * c).collect()
    }

    /// Frames the band's part of `input`, `[n, h, w, c]`, whose tiles reach `pad` pixels over their 2 x 2.
    fn frame(self, vector: Vector, input: Input, c: usize, pad: usize, framed: &mut Vec<f32>) {
        let Convolution { h, w, .. } = self.grid.conv;
        let (rows, columns) = (2 * self.rows + 2 * pad, 2 * self.grid.columns + 2 * pad);
        framed.resize(rows * columns * c, 0.0);
        let (start, first) = (self.picture * h * w * c, 2 * self.first);
        vector.run(Frame { input, start, h, w, c, pad, first, columns, framed });
    }
}

/// Channels `from .. from + channels` of a band's framed tiles of `SIDE x SIDE` pixels to `[16, tiles, channels]`:
/// inputs (4) by `B^T d B`, the outputs' gradient (2) by `A d A^T`.
struct Transform<'a, const SIDE: usize> {
    band: Band,
    framed: &'a [f32],
    /// Channels in the frame.
    c: usize,
    from: usize,
    channels: usize,
    out: &'a mut Vec<f32>,
}

impl<const SIDE: usize> WithSimd for Transform<'_, SIDE> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Transform { band, framed, c: all, from, channels, out } = self;
        let lanes = size_of::<S::f32s>() / 4;
        let (plane, line) = (band.plane(channels), 2 * band.grid.columns + SIDE - 2);
        out.resize(PLACES * plane, 0.0);
        for tile in 0..band.tiles() {
            let (row, column) = (2 * (tile / band.grid.columns), 2 * (tile % band.grid.columns));
            let mut pixels = [[&framed[..0]; SIDE]; SIDE];
            for r in 0..SIDE {
                for c in 0..SIDE {
                    let at = ((row + r) * line + column + c) * all + from;
                    pixels[r][c] = &framed[at..][..channels];
                }
            }
            for channel in (0..channels).step_by(lanes) {
                let mut d = [[simd.splat_f32s(0.0); SIDE]; SIDE];
                for r in 0..SIDE {
                    for c in 0..SIDE {
                        d[r][c] = S::as_simd_f32s(&pixels[r][c][channel..][..lanes]).0[0];
                    }
                }
                let transformed = if SIDE == 4 {
                    let mut all = [[simd.splat_f32s(0.0); 4]; 4];
                    for r in 0..SIDE {
                        all[r][..SIDE].copy_from_slice(&d[r]);
                    }
                    input(simd, all)
                } else {
                    gradient(simd, [[d[0][0], d[0][1]], [d[1][0], d[1][1]]])
                };
                for r in 0..4 {
                    for c in 0..4 {
                        let at = (4 * r + c) * plane + tile * channels + channel;
                        S::as_mut_simd_f32s(&mut out[at..][..lanes]).0[0] = transformed[r][c];
                    }
                }
            }
        }
    }
}

/// A band's products, `[16, tiles, c_out]`, to its part of a picture's `y`, `[h, w, c_out]`.
struct Untransform<'a> {
    band: Band,
    products: &'a [f32],
    y: &'a mut [f32],
    /// Add to what is there.
    add: bool,
    /// Sums and sums of squares a channel are added to these.
    sums: Option<&'a mut [f32]>,
}

impl WithSimd for Untransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Untransform { band, products, y, add, mut sums } = self;
        let Convolution { h, w, c_out, .. } = band.grid.conv;
        let (lanes, plane) = (size_of::<S::f32s>() / 4, band.plane(c_out));
        let zero = simd.splat_f32s(0.0);
        for tile in 0..band.tiles() {
            let (row, column) = (2 * (band.first + tile / band.grid.columns), 2 * (tile % band.grid.columns));
            let (tall, wide) = (2.min(h - row), 2.min(w - column));
            let y = &mut y[(row * w + column) * c_out..];
            for channel in (0..c_out).step_by(lanes) {
                let mut m = [[zero; 4]; 4];
                for r in 0..4 {
                    for c in 0..4 {
                        let at = (4 * r + c) * plane + tile * c_out + channel;
                        m[r][c] = S::as_simd_f32s(&products[at..][..lanes]).0[0];
                    }
                }
                let outputs = output(simd, m);
                let (mut sum, mut squares) = (zero, zero);
                for r in 0..tall {
                    for c in 0..wide {
                        let out = outputs[r][c];
                        let at = (r * w + c) * c_out + channel;
                        let y = &mut S::as_mut_simd_f32s(&mut y[at..][..lanes]).0[0];
                        *y = if add { simd.add_f32s(*y, out) } else { out };
                        sum = simd.add_f32s(sum, out);
                        squares = simd.mul_add_e_f32s(out, out, squares);
                    }
                }
                if let Some(sums) = sums.as_deref_mut() {
                    for (i, sum) in [sum, squares].into_iter().enumerate() {
                        let at = i * c_out + channel;
                        let total = &mut S::as_mut_simd_f32s(&mut sums[at..][..lanes]).0[0];
                        *total = simd.add_f32s(*total, sum);
                    }
                }
            }
        }
    }
}

/// Working memory of a thread; each value is written before it is read.
#[derive(Default)]
struct Scratch {
    framed: Vec<f32>,
    /// A band's inputs, transformed: `[16, tiles, c_in]`.
    inputs: Vec<f32>,
    /// Its products, or its outputs' gradient, transformed: `[16, tiles, c_out]`.
    outputs: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `y = conv(input)`; see [`super::convolution::forward`].
pub fn forward(
    vector: Vector,
    conv: Convolution,
    input: Input,
    weight: &[f32],
    y: &mut [f32],
    sums: Option<&mut [f32]>,
) {
    let packed = packed(vector, weight, conv.c_in, conv.c_out);
    convolve(vector, conv, input, &packed, y, sums, false);
}

/// The input's gradient, added to `dx`; see [`super::convolution::backward_input`].
pub fn backward_input(vector: Vector, conv: Convolution, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let conv = Convolution { c_in: conv.c_out, c_out: conv.c_in, ..conv };
    let packed = turned(vector, weight, conv.c_in, conv.c_out);
    convolve(vector, conv, Input::Plain(dy), &packed, dx, None, true);
}

/// `y = conv(input)`, or that added to `y`.
fn convolve(
    vector: Vector,
    conv: Convolution,
    input: Input,
    packed: &Packed,
    y: &mut [f32],
    sums: Option<&mut [f32]>,
    add: bool,
) {
    let (grid, Convolution { c_in, c_out, .. }) = (Grid::new(conv), conv);
    let one = |(picture, y): (usize, &mut [f32]), mut sums: Option<&mut [f32]>| {
        if let Some(sums) = sums.as_deref_mut() {
            sums.fill(0.0);
        }
        for band in grid.bands(picture, PLACES * (c_in + c_out)) {
            SCRATCH.with_borrow_mut(|Scratch { framed, inputs, outputs }| {
                band.frame(vector, input, c_in, 1, framed);
                vector.run(Transform::<4> { band, framed, c: c_in, from: 0, channels: c_in, out: inputs });
                outputs.resize(PLACES * band.plane(c_out), 0.0);
                let (starts, outs) = (band.places(c_in), band.places(c_out));
                let planes = inputs.chunks_exact(band.plane(c_in));
                let products = outputs.chunks_exact_mut(band.plane(c_out)).zip(planes);
                for (place, (out, data)) in products.enumerate() {
                    let (starts, outs, add, sums) = (&starts, &outs, false, None);
                    let (segments, run, stride) = (1, c_in, 0);
                    vector.run(Product { data, starts, segments, run, stride, packed, place, out, outs, add, sums });
                }
                let (products, y, sums) = (outputs.as_slice(), &mut *y, sums.as_deref_mut());
                vector.run(Untransform { band, products, y, add, sums });
            });
        }
    };
    let images = y.par_chunks_mut(conv.y_len()).enumerate();
    match sums {
        Some(sums) => images.zip(sums.par_chunks_mut(2 * c_out)).for_each(|(y, sums)| one(y, Some(sums))),
        None => images.for_each(|y| one(y, None)),
    }
}

/// The filters' gradient, `[3, 3, c_in, c_out]`; see [`super::convolution::backward_weight`].
pub fn backward_weight(vector: Vector, conv: Convolution, input: Input, dy: &[f32]) -> Vec<f32> {
    let (grid, Convolution { c_in, c_out, .. }) = (Grid::new(conv), conv);
    let n = dy.len() / conv.y_len();
    // Groups of pictures and slices of the input's channels depend on the shapes alone.
    let (groups, slices) = if conv.weight_len() > LARGE { (2, 8) } else { (16, 1) };
    let per = n.div_ceil(groups).max(1);
    let slice = c_in.div_ceil(slices).next_multiple_of(LINE);
    let tasks: Vec<(usize, usize)> =
        (0..c_in).step_by(slice).flat_map(|from| (0..n).step_by(per).map(move |first| (from, first))).collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(from, first)| {
            let channels = slice.min(c_in - from);
            let mut part = vec![0.0; PLACES * channels * c_out];
            for picture in first..n.min(first + per) {
                for band in grid.bands(picture, PLACES * (channels + c_out)) {
                    SCRATCH.with_borrow_mut(|Scratch { framed, inputs, outputs }| {
                        band.frame(vector, input, c_in, 1, framed);
                        vector.run(Transform::<4> { band, framed, c: c_in, from, channels, out: inputs });
                        band.frame(vector, Input::Plain(dy), c_out, 0, framed);
                        vector.run(Transform::<2> { band, framed, c: c_out, from: 0, channels: c_out, out: outputs });
                        let (starts, outs) = (band.places(channels), band.places(c_out));
                        let planes = inputs.chunks_exact(band.plane(channels));
                        let planes = planes.zip(outputs.chunks_exact(band.plane(c_out)));
                        for ((data, dy), part) in planes.zip(part.chunks_exact_mut(channels * c_out)) {
                            let (starts, outs, run, stride) = (&starts, &outs, channels, 0);
                            let (from, to) = (0, channels);
                            vector.run(Outer { data, starts, outs, run, stride, dy, c_out, from, to, part });
                        }
                    });
                }
            }
            let mut gradient = vec![0.0; 9 * channels * c_out];
            vector.run(FilterGradient { places: &part, out: &mut gradient });
            gradient
        })
        .collect();
    let groups = n.div_ceil(per);
    let mut gradient = vec![0.0; conv.weight_len()];
    gradient.par_chunks_mut(c_in * c_out).enumerate().for_each(|(tap, gradient)| {
        for (gradient, parts) in gradient.chunks_mut(slice * c_out).zip(parts.chunks(groups)) {
            for part in parts {
                let part = &part[tap * gradient.len()..][..gradient.len()];
                gradient.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
    });
    gradient
}
