//! Convolutions of 3 x 3 pixels, stride 1 and padding 1 by Winograd's minimal filtering; see [`winograd`].

use super::conv2d_shape::Conv2d;
use super::frame::{Frame, Input};
use super::gemm::{Gemm, GemmTransposed, Packed, Rows};
use super::simd::{load_square, store_square, vectors_mut};
use super::winograd::{self, ELEMENTS, FilterGradient, FilterTransform};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Whether this module can compute a convolution.
pub fn supports(conv: Conv2d) -> bool {
    (conv.kernel, conv.stride, conv.pad) == (3, 1, 1) && conv.c_in.is_multiple_of(LINE)
}

/// Filters `[3, 3, c_in, c_out]`, transformed and packed: 16 matrices `[c_in, c_out]`.
pub fn pack(vector: Vector, weight: &[f32], c_in: usize, c_out: usize) -> Packed {
    Packed::from_panels(vector, c_in, c_out, ELEMENTS, |first, width, out| {
        let (tap, weight) = (c_in * c_out, &weight[first..]);
        vector.run(FilterTransform { weight, tap, row: c_out, rows: c_in, width, out });
    })
}

/// The same for filters `[3, 3, c_out, c_in]` of the backward pass, turned by half a turn.
fn pack_turned(vector: Vector, weight: &[f32], c_in: usize, c_out: usize) -> Packed {
    Packed::from_panels(vector, c_in, c_out, ELEMENTS, |first, width, out| {
        let mut panel = vec![0.0; 9 * c_in * width];
        let taps = weight.chunks_exact(c_in * c_out).rev();
        for (panel, filters) in panel.chunks_exact_mut(c_in * width).zip(taps) {
            for (i, filter) in filters[first * c_in..][..width * c_in].chunks_exact(c_in).enumerate() {
                panel[i..].iter_mut().step_by(width).zip(filter).for_each(|(p, f)| *p = *f);
            }
        }
        vector.run(FilterTransform { weight: &panel, tap: c_in * width, row: width, rows: c_in, width, out });
    })
}

/// Values in the transformed tiles of a band.
const BAND: usize = 1 << 18;

/// Values in a line of the cache, and in the widest vector.
const LINE: usize = 16;

/// The tiles of 2 x 2 outputs of an image.
#[derive(Clone, Copy)]
struct Grid {
    conv: Conv2d,
    rows: usize,
    columns: usize,
}

impl Grid {
    fn new(conv: Conv2d) -> Self {
        Self { conv, rows: conv.h.div_ceil(2), columns: conv.w.div_ceil(2) }
    }

    /// Bands of tile rows, so small that a band stays in the cache; `floats` is the number of values per tile.
    fn bands(self, image: usize, floats: usize) -> impl Iterator<Item = Band> {
        let rows = (BAND / (floats * self.columns)).clamp(1, self.rows);
        (0..self.rows).step_by(rows).map(move |first| Band {
            grid: self,
            image,
            first,
            rows: rows.min(self.rows - first),
        })
    }
}

/// Rows `first..first + rows` of an image's tiles.
#[derive(Clone, Copy)]
struct Band {
    grid: Grid,
    image: usize,
    first: usize,
    rows: usize,
}

impl Band {
    fn tiles(self) -> usize {
        self.rows * self.grid.columns
    }

    /// Distance between the planes `[tiles, c]` of two elements.
    fn plane(self, c: usize) -> usize {
        // One line more than needed: otherwise all planes would start in the same set of the cache.
        self.tiles() * c + LINE
    }

    /// Where each tile starts in a plane.
    fn starts(self, c: usize) -> Vec<usize> {
        (0..self.tiles()).map(|tile| tile * c).collect()
    }

    /// Frames the pixels that the band's tiles read from `input`, `[n, h, w, c]`: `pad` pixels around their outputs.
    fn frame(self, vector: Vector, input: Input, c: usize, pad: usize, framed: &mut Vec<f32>) {
        let Conv2d { h, w, .. } = self.grid.conv;
        let (rows, columns) = (2 * self.rows + 2 * pad, 2 * self.grid.columns + 2 * pad);
        framed.resize(rows * columns * c, 0.0);
        let (start, first) = (self.image * h * w * c, 2 * self.first);
        vector.run(Frame { input, start, h, w, c, pad, first, columns, framed });
    }
}

/// The transform of `SIDE x SIDE` pixels to the 16 elements of a tile.
trait Tile: Copy {
    const SIDE: usize;

    /// Transforms one vector of channels of the pixels that start at `start`; `row` and `column` are the distances
    /// between pixels.
    fn transform<S: Simd>(self, simd: S, framed: &[f32], start: usize, row: usize, column: usize) -> [[S::f32s; 4]; 4];
}

#[derive(Clone, Copy)]
struct InputTile;

impl Tile for InputTile {
    const SIDE: usize = 4;

    #[inline(always)]
    fn transform<S: Simd>(self, simd: S, framed: &[f32], start: usize, row: usize, column: usize) -> [[S::f32s; 4]; 4] {
        winograd::input(simd, load_square(simd, framed, start, row, column))
    }
}

#[derive(Clone, Copy)]
struct OutputGradientTile;

impl Tile for OutputGradientTile {
    const SIDE: usize = 2;

    #[inline(always)]
    fn transform<S: Simd>(self, simd: S, framed: &[f32], start: usize, row: usize, column: usize) -> [[S::f32s; 4]; 4] {
        winograd::output_gradient(simd, load_square(simd, framed, start, row, column))
    }
}

/// Transforms channels `from..from + channels` of a band's framed pixels to `[16, tiles, channels]`.
struct Transform<'a, T> {
    tile: T,
    band: Band,
    framed: &'a [f32],
    /// Channels in the frame.
    c: usize,
    from: usize,
    channels: usize,
    out: &'a mut Vec<f32>,
}

impl<T: Tile> WithSimd for Transform<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Transform { tile: pixels, band, framed, c, from, channels, out } = self;
        let (plane, line) = (band.plane(channels), (2 * band.grid.columns + T::SIDE - 2) * c);
        out.resize(ELEMENTS * plane, 0.0);
        for tile in 0..band.tiles() {
            let (row, column) = (2 * (tile / band.grid.columns), 2 * (tile % band.grid.columns));
            for channel in (0..channels).step_by(S::F32_LANES) {
                let start = row * line + column * c + from + channel;
                let elements = pixels.transform(simd, framed, start, line, c);
                store_square::<S, 4>(out, tile * channels + channel, 4 * plane, plane, elements);
            }
        }
    }
}

/// Transforms a band's products, `[16, tiles, c_out]`, to its part of an image's `y`, `[h, w, c_out]`.
struct OutputTransform<'a> {
    band: Band,
    products: &'a [f32],
    y: &'a mut [f32],
    /// Add to the values of `y`.
    add: bool,
    /// `[2, c_out]`: the sum and the sum of squares of each channel are added to it.
    moments: Option<&'a mut [f32]>,
}

impl WithSimd for OutputTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let OutputTransform { band, products, y, add, mut moments } = self;
        let Conv2d { h, w, c_out, .. } = band.grid.conv;
        let (plane, zero) = (band.plane(c_out), simd.splat_f32s(0.0));
        for tile in 0..band.tiles() {
            let (row, column) = (2 * (band.first + tile / band.grid.columns), 2 * (tile % band.grid.columns));
            let (height, width) = (2.min(h - row), 2.min(w - column));
            let y = &mut y[(row * w + column) * c_out..];
            for channel in (0..c_out).step_by(S::F32_LANES) {
                let elements = load_square::<S, 4>(simd, products, tile * c_out + channel, 4 * plane, plane);
                let outputs = winograd::output(simd, elements);
                let (mut sum, mut squares) = (zero, zero);
                for r in 0..height {
                    for c in 0..width {
                        let out = outputs[r][c];
                        let y = &mut vectors_mut::<S, 1>(&mut y[(r * w + c) * c_out + channel..])[0];
                        *y = if add { simd.add_f32s(*y, out) } else { out };
                        sum = simd.add_f32s(sum, out);
                        squares = simd.mul_add_e_f32s(out, out, squares);
                    }
                }
                if let Some(moments) = moments.as_deref_mut() {
                    for (i, sum) in [sum, squares].into_iter().enumerate() {
                        let total = &mut vectors_mut::<S, 1>(&mut moments[i * c_out + channel..])[0];
                        *total = simd.add_f32s(*total, sum);
                    }
                }
            }
        }
    }
}

/// Working memory of a thread; every value is written before it is read.
#[derive(Default)]
struct Scratch {
    framed: Vec<f32>,
    /// The transformed inputs of a band: `[16, tiles, c_in]`.
    inputs: Vec<f32>,
    /// Its products, or the transformed gradient of its outputs: `[16, tiles, c_out]`.
    outputs: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// See [`conv2d::forward`](super::conv2d::forward).
pub fn forward(vector: Vector, conv: Conv2d, input: Input, weight: &[f32], y: &mut [f32], moments: Option<&mut [f32]>) {
    let packed = pack(vector, weight, conv.c_in, conv.c_out);
    convolve(vector, conv, input, &packed, y, moments, false);
}

/// See [`conv2d::backward_input`](super::conv2d::backward_input).
pub fn backward_input(vector: Vector, conv: Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let conv = Conv2d { c_in: conv.c_out, c_out: conv.c_in, ..conv };
    let packed = pack_turned(vector, weight, conv.c_in, conv.c_out);
    convolve(vector, conv, Input::Plain(dy), &packed, dx, None, true);
}

/// `y = conv(input)`, or `y += conv(input)`.
fn convolve(
    vector: Vector,
    conv: Conv2d,
    input: Input,
    packed: &Packed,
    y: &mut [f32],
    moments: Option<&mut [f32]>,
    add: bool,
) {
    let (grid, Conv2d { c_in, c_out, .. }) = (Grid::new(conv), conv);
    conv.for_each_image(y, moments, |image, y, mut moments| {
        for band in grid.bands(image, ELEMENTS * (c_in + c_out)) {
            SCRATCH.with_borrow_mut(|Scratch { framed, inputs, outputs }| {
                band.frame(vector, input, c_in, 1, framed);
                vector.run(Transform { tile: InputTile, band, framed, c: c_in, from: 0, channels: c_in, out: inputs });
                outputs.resize(ELEMENTS * band.plane(c_out), 0.0);
                let (starts, c_starts) = (band.starts(c_in), band.starts(c_out));
                let planes = inputs.chunks_exact(band.plane(c_in));
                let products = outputs.chunks_exact_mut(band.plane(c_out)).zip(planes);
                for (matrix, (c, data)) in products.enumerate() {
                    let a = Rows { data, starts: &starts, run: c_in, stride: 0 };
                    let (b, c_starts) = (packed, &c_starts);
                    vector.run(Gemm { a, b, matrix, c, c_starts, add: false, moments: None });
                }
                let (products, y, moments) = (outputs.as_slice(), &mut *y, moments.as_deref_mut());
                vector.run(OutputTransform { band, products, y, add, moments });
            });
        }
    });
}

/// See [`conv2d::backward_weight`](super::conv2d::backward_weight).
pub fn backward_weight(vector: Vector, conv: Conv2d, input: Input, dy: &[f32]) -> Vec<f32> {
    let (grid, Conv2d { c_in, c_out, .. }) = (Grid::new(conv), conv);
    let n = dy.len() / conv.y_len();
    let (groups, slices) = conv.gradient_tasks();
    let per_group = n.div_ceil(groups).max(1);
    let slice = c_in.div_ceil(slices).next_multiple_of(LINE);
    let tasks: Vec<(usize, usize)> =
        (0..c_in).step_by(slice).flat_map(|from| (0..n).step_by(per_group).map(move |first| (from, first))).collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(from, first)| {
            let channels = slice.min(c_in - from);
            let mut part = vec![0.0; ELEMENTS * channels * c_out];
            for image in first..n.min(first + per_group) {
                for band in grid.bands(image, ELEMENTS * (channels + c_out)) {
                    SCRATCH.with_borrow_mut(|Scratch { framed, inputs, outputs }| {
                        band.frame(vector, input, c_in, 1, framed);
                        vector.run(Transform { tile: InputTile, band, framed, c: c_in, from, channels, out: inputs });
                        band.frame(vector, Input::Plain(dy), c_out, 0, framed);
                        let tile = OutputGradientTile;
                        vector.run(Transform { tile, band, framed, c: c_out, from: 0, channels: c_out, out: outputs });
                        let (starts, d_starts) = (band.starts(channels), band.starts(c_out));
                        let planes = inputs.chunks_exact(band.plane(channels));
                        let planes = planes.zip(outputs.chunks_exact(band.plane(c_out)));
                        for ((data, d), c) in planes.zip(part.chunks_exact_mut(channels * c_out)) {
                            let a = Rows { data, starts: &starts, run: channels, stride: 0 };
                            let (d_starts, columns, from, to) = (&d_starts, c_out, 0, channels);
                            vector.run(GemmTransposed { a, d, d_starts, columns, from, to, c });
                        }
                    });
                }
            }
            let mut gradient = vec![0.0; 9 * channels * c_out];
            vector.run(FilterGradient { products: &part, out: &mut gradient });
            gradient
        })
        .collect();
    let groups = n.div_ceil(per_group);
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
