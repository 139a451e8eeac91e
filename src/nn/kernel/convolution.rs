//! Convolutions of any size and stride as matrix products over what lies in place: ResNet's.
//!
//! A picture is copied into a zero frame once, and on the way what stands in front of the convolution (batch
//! normalisation and ReLU) is done to it, so that an activation is kept once, before its normalisation. Each output pixel
//! is then a row of a matrix whose floats lie in the frame already: `kernel` runs of `kernel * c_in`. The same product,
//! with the filters turned, is the input's gradient; strides are undone by taking the pixels of each parity on their own.
//! Those of 3x3 and stride 1 take fewer products: `winograd`.
//!
//! Activations are `[n, h, w, c]`, filters `[kernel, kernel, c_in, c_out]`.

use super::{Vector, winograd};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Shape of a convolution; zero-padded by `pad` on every side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    pub h: usize,
    pub w: usize,
    pub c_in: usize,
    pub c_out: usize,
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    pub pad: usize,
}

impl Convolution {
    pub fn out_h(&self) -> usize {
        (self.h + 2 * self.pad - self.kernel) / self.stride + 1
    }
    pub fn out_w(&self) -> usize {
        (self.w + 2 * self.pad - self.kernel) / self.stride + 1
    }
    pub fn x_len(&self) -> usize {
        self.h * self.w * self.c_in
    }
    pub fn y_len(&self) -> usize {
        self.out_h() * self.out_w() * self.c_out
    }
    pub fn weight_len(&self) -> usize {
        self.depth() * self.c_out
    }
    /// Floats under a filter.
    fn depth(&self) -> usize {
        self.kernel * self.kernel * self.c_in
    }
}

/// What a convolution reads: `[n, h, w, c]`.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Plain(&'a [f32]),
    /// `relu(scale * z + shift)`, a scale and a shift a channel.
    Normed {
        z: &'a [f32],
        scale: &'a [f32],
        shift: &'a [f32],
    },
}

impl Input<'_> {
    fn values(&self) -> &[f32] {
        match self {
            Input::Plain(x) => x,
            Input::Normed { z, .. } => z,
        }
    }
}

thread_local! {
    static FRAME: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Rows `first ..` of the picture in a zero frame of `pad` pixels above and to the left (row 0 is the frame's top).
pub(super) struct Frame<'a> {
    pub input: Input<'a>,
    /// The picture's first float in `input`.
    pub start: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub pad: usize,
    pub first: usize,
    /// Pixels a row.
    pub columns: usize,
    pub framed: &'a mut [f32],
}

impl WithSimd for Frame<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Frame { input, start, h, w, c, pad, first, columns, framed } = self;
        for (r, out) in framed.chunks_exact_mut(columns * c).enumerate() {
            let y = (first + r).wrapping_sub(pad);
            if y >= h {
                out.fill(0.0);
                continue;
            }
            out[..pad * c].fill(0.0);
            out[(pad + w) * c..].fill(0.0);
            let out = &mut out[pad * c..][..w * c];
            let source = &input.values()[start + y * w * c..][..w * c];
            match input {
                Input::Plain(_) => out.copy_from_slice(source),
                Input::Normed { scale, shift, .. } => {
                    for (out, z) in out.chunks_exact_mut(c).zip(source.chunks_exact(c)) {
                        for (((out, z), scale), shift) in out.iter_mut().zip(z).zip(scale).zip(shift) {
                            *out = (scale * z + shift).max(0.0);
                        }
                    }
                }
            }
        }
    }
}

/// Columns a panel of a packed matrix: what the widest tile takes.
fn panel(vector: Vector) -> usize {
    match vector.lanes() {
        16 => 32,
        8 => 16,
        _ => 8,
    }
}

/// Filters as the product reads them: panels of columns, of each a matrix a place: `[columns / width, places, depth,
/// width]`.
pub(super) struct Packed {
    values: Vec<f32>,
    width: usize,
    columns: usize,
    places: usize,
    depth: usize,
}

impl Packed {
    /// `fill` writes a panel, `[places, depth, width]`, from its first column and its width.
    pub fn by_panels(
        vector: Vector,
        depth: usize,
        columns: usize,
        places: usize,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let width = panel(vector);
        assert_eq!(columns % width, 0, "channels come in panels of {width}");
        let mut values = vec![0.0; places * depth * columns];
        values.par_chunks_mut(places * depth * width).enumerate().for_each(|(p, panel)| fill(p * width, width, panel));
        Self { values, width, columns, places, depth }
    }

    /// `[depth, columns]`, a place.
    fn new(vector: Vector, weight: &[f32], columns: usize) -> Self {
        Self::by_panels(vector, weight.len() / columns, columns, 1, |first, width, panel| {
            for (out, row) in panel.chunks_exact_mut(width).zip(weight.chunks_exact(columns)) {
                out.copy_from_slice(&row[first..][..width]);
            }
        })
    }

    /// The filters' rows `rows` and columns `columns` (in this order), `c_in` and `c_out` swapped: `[.., c_out, c_in]`.
    fn turned(vector: Vector, conv: Convolution, weight: &[f32], rows: &[usize], columns: &[usize]) -> Self {
        let Convolution { c_in, c_out, kernel, .. } = conv;
        let depth = rows.len() * columns.len() * c_out;
        Self::by_panels(vector, depth, c_in, 1, |first, width, panel| {
            let taps = rows.iter().flat_map(|ky| columns.iter().map(move |kx| ky * kernel + kx));
            for (tap, out) in taps.zip(panel.chunks_exact_mut(c_out * width)) {
                let filters = &weight[(tap * c_in + first) * c_out..][..width * c_out];
                for (i, filter) in filters.chunks_exact(c_out).enumerate() {
                    for (out, w) in out[i..].iter_mut().step_by(width).zip(filter) {
                        *out = *w;
                    }
                }
            }
        })
    }
}

/// A product whose left matrix lies in `data`: row `r` is `segments` runs of `run` floats, `stride` apart, from
/// `starts[r]` on; it goes to `out[outs[r]..]`.
pub(super) struct Product<'a> {
    pub data: &'a [f32],
    pub starts: &'a [usize],
    pub segments: usize,
    pub run: usize,
    pub stride: usize,
    pub packed: &'a Packed,
    pub place: usize,
    pub out: &'a mut [f32],
    pub outs: &'a [usize],
    /// Add to what is there.
    pub add: bool,
    /// Sums and sums of squares a column are added to these.
    pub sums: Option<&'a mut [f32]>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.all::<S, 14, 7, 2>(simd),
            8 => self.all::<S, 6, 2, 2>(simd),
            4 => self.all::<S, 6, 2, 2>(simd),
            _ => self.all::<S, 2, 1, 8>(simd),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn all<S: Simd, const R: usize, const H: usize, const V: usize>(mut self, simd: S) {
        for panel in 0..self.packed.columns / self.packed.width {
            let mut row = 0;
            while row < self.starts.len() {
                row += match self.starts.len() - row {
                    left if left >= R => self.tile::<S, R, V>(simd, panel, row),
                    left if left >= H => self.tile::<S, H, V>(simd, panel, row),
                    _ => self.tile::<S, 1, V>(simd, panel, row),
                };
            }
        }
    }

    /// `R` rows by one panel; returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, panel: usize, row: usize) -> usize {
        let Packed { width, places, depth, .. } = *self.packed;
        let values = &self.packed.values[(panel * places + self.place) * depth * width..][..depth * width];
        let (weights, _) = S::as_simd_f32s(values);
        let starts: &[usize; R] = self.starts[row..].first_chunk().expect("R rows are left");
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let whole = self.run / DEPTH * DEPTH;
        for segment in 0..self.segments {
            let weights = &weights[segment * self.run * V..][..self.run * V];
            let mut rows = [self.data; R];
            for r in 0..R {
                rows[r] = &self.data[starts[r] + segment * self.stride..][..self.run];
            }
            let mut k = 0;
            while k < whole {
                steps::<S, R, V, DEPTH>(simd, &rows, k, &weights[k * V..], &mut sums);
                k += DEPTH;
            }
            while k < self.run {
                steps::<S, R, V, 1>(simd, &rows, k, &weights[k * V..], &mut sums);
                k += 1;
            }
        }
        let outs: &[usize; R] = self.outs[row..].first_chunk().expect("a place a row");
        for r in 0..R {
            let (out, _) = S::as_mut_simd_f32s(&mut self.out[outs[r] + panel * width..][..width]);
            for v in 0..V {
                out[v] = if self.add { simd.add_f32s(out[v], sums[r][v]) } else { sums[r][v] };
            }
        }
        if let Some(totals) = self.sums.as_deref_mut() {
            let (first, second) = totals.split_at_mut(self.packed.columns);
            let (first, _) = S::as_mut_simd_f32s(&mut first[panel * width..][..width]);
            let (second, _) = S::as_mut_simd_f32s(&mut second[panel * width..][..width]);
            for v in 0..V {
                let (mut sum, mut squares) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
                for r in 0..R {
                    sum = simd.add_f32s(sum, sums[r][v]);
                    squares = simd.mul_add_e_f32s(sums[r][v], sums[r][v], squares);
                }
                first[v] = simd.add_f32s(first[v], sum);
                second[v] = simd.add_f32s(second[v], squares);
            }
        }
        R
    }
}

/// Steps along the depth that are taken at once: lengths are checked once for all of them.
const DEPTH: usize = 8;

#[inline(always)]
fn steps<S: Simd, const R: usize, const V: usize, const T: usize>(
    simd: S,
    rows: &[&[f32]; R],
    k: usize,
    weights: &[S::f32s],
    sums: &mut [[S::f32s; V]; R],
) {
    let (weights, _) = weights[..T * V].as_chunks::<V>();
    let mut values = [&[0f32; T]; R];
    for r in 0..R {
        values[r] = rows[r][k..].first_chunk().expect("T steps are left");
    }
    for t in 0..T {
        for r in 0..R {
            let x = simd.splat_f32s(values[r][t]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(x, weights[t][v], sums[r][v]);
            }
        }
    }
}

/// Floats of a framed band: it is to stay in the second cache beside a panel of filters.
const BAND: usize = 1 << 16;

/// `y = conv(input)`, `[n, out_h, out_w, c_out]`. `sums`, `[n, 2, c_out]` where it is given, takes each picture's sum
/// and sum of squares a channel.
pub fn forward(
    vector: Vector,
    conv: Convolution,
    input: Input,
    weight: &[f32],
    y: &mut [f32],
    sums: Option<&mut [f32]>,
) {
    if winograd::suits(conv) {
        return winograd::forward(vector, conv, input, weight, y, sums);
    }
    let packed = Packed::new(vector, weight, conv.c_out);
    let one = |(image, y): (usize, &mut [f32]), mut sums: Option<&mut [f32]>| {
        if let Some(sums) = sums.as_deref_mut() {
            sums.fill(0.0);
        }
        bands(conv, |first, rows| {
            FRAME.with_borrow_mut(|framed| {
                let (stride, starts, outs) = places(conv, first, rows);
                let (data, starts) = in_frame(vector, conv, input, image, first, rows, framed, starts);
                let (segments, run, out) = (conv.kernel, conv.kernel * conv.c_in, &mut *y);
                let (packed, sums) = (&packed, sums.as_deref_mut());
                let (starts, outs) = (&starts, &outs);
                vector.run(Product {
                    data,
                    starts,
                    segments,
                    run,
                    stride,
                    packed,
                    place: 0,
                    out,
                    outs,
                    add: false,
                    sums,
                });
            });
        });
    };
    let images = y.par_chunks_mut(conv.y_len()).enumerate();
    match sums {
        Some(sums) => images.zip(sums.par_chunks_mut(2 * conv.c_out)).for_each(|(image, sums)| one(image, Some(sums))),
        None => images.for_each(|image| one(image, None)),
    }
}

/// Calls with first and number of the output rows of each band.
fn bands(conv: Convolution, mut each: impl FnMut(usize, usize)) {
    let row = (conv.w + 2 * conv.pad) * conv.c_in * conv.stride;
    let rows = (BAND / row).clamp(1, conv.out_h());
    for first in (0..conv.out_h()).step_by(rows) {
        each(first, rows.min(conv.out_h() - first));
    }
}

/// Floats from a frame's row to the next, where each output pixel's window begins in the band's frame, and where its
/// channels go in the picture's output.
fn places(conv: Convolution, first: usize, rows: usize) -> (usize, Vec<usize>, Vec<usize>) {
    let Convolution { c_in, c_out, stride, .. } = conv;
    let (line, out_w) = ((conv.w + 2 * conv.pad) * c_in, conv.out_w());
    let pixels = (0..rows).flat_map(|y| (0..out_w).map(move |x| (y, x)));
    let starts = pixels.clone().map(|(y, x)| y * stride * line + x * stride * c_in).collect();
    let outs = pixels.map(|(y, x)| ((first + y) * out_w + x) * c_out).collect();
    (line, starts, outs)
}

/// The band's frame; where there is nothing to frame, the input itself, with `starts` moved to it.
fn in_frame<'a>(
    vector: Vector,
    conv: Convolution,
    input: Input<'a>,
    image: usize,
    first: usize,
    rows: usize,
    framed: &'a mut Vec<f32>,
    mut starts: Vec<usize>,
) -> (&'a [f32], Vec<usize>) {
    let Convolution { h, w, c_in: c, pad, stride, kernel, .. } = conv;
    let start = image * conv.x_len();
    match input {
        Input::Plain(x) if pad == 0 => {
            starts.iter_mut().for_each(|s| *s += start + first * stride * w * c);
            (x, starts)
        }
        _ => {
            let (first, rows, columns) = (first * stride, (rows - 1) * stride + kernel, w + 2 * pad);
            framed.resize(rows * columns * c, 0.0);
            vector.run(Frame { input, start, h, w, c, pad, first, columns, framed });
            (framed, starts)
        }
    }
}

/// The input's gradient, `[n, h, w, c_in]`, from the output's: added onto `dx`.
pub fn backward_input(vector: Vector, conv: Convolution, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    if winograd::suits(conv) {
        return winograd::backward_input(vector, conv, dy, weight, dx);
    }
    let Convolution { h, w, c_in, c_out, kernel, stride, pad } = conv;
    // For each parity of a row (column): the filter's rows that meet it, last first, and how far the first of the
    // output's rows lies from the pixel's half.
    let taps = |parity: usize| -> (Vec<usize>, isize) {
        let taps: Vec<usize> =
            (0..kernel).rev().filter(|k| (parity + pad + stride - k % stride).is_multiple_of(stride)).collect();
        let shift = taps.first().map_or(0, |k| (parity as isize + pad as isize - *k as isize) / stride as isize);
        (taps, shift)
    };
    // As far as windows reach over the output's edge.
    let frame = kernel - 1 - pad;
    let (line, height) = ((conv.out_w() + 2 * frame) * c_out, conv.out_h() + 2 * frame);
    struct Parity {
        packed: Packed,
        segments: usize,
        run: usize,
        starts: Vec<usize>,
        outs: Vec<usize>,
    }
    let mut parities = Vec::new();
    for py in 0..stride {
        for px in 0..stride {
            let ((rows, sy), (columns, sx)) = (taps(py), taps(px));
            if rows.is_empty() || columns.is_empty() {
                continue;
            }
            let pixels = (py..h).step_by(stride).flat_map(|y| (px..w).step_by(stride).map(move |x| (y, x)));
            let at = |i: usize, shift: isize| ((i / stride + frame) as isize + shift) as usize;
            parities.push(Parity {
                packed: Packed::turned(vector, conv, weight, &rows, &columns),
                segments: rows.len(),
                run: columns.len() * c_out,
                starts: pixels.clone().map(|(y, x)| at(y, sy) * line + at(x, sx) * c_out).collect(),
                outs: pixels.map(|(y, x)| (y * w + x) * c_in).collect(),
            });
        }
    }
    dx.par_chunks_mut(conv.x_len()).enumerate().for_each(|(image, out)| {
        FRAME.with_borrow_mut(|framed| {
            let (h, w, c, start) = (conv.out_h(), conv.out_w(), c_out, image * conv.y_len());
            let data = if frame == 0 {
                &dy[start..][..conv.y_len()]
            } else {
                let (input, columns) = (Input::Plain(dy), w + 2 * frame);
                framed.resize(height * line, 0.0);
                vector.run(Frame { input, start, h, w, c, pad: frame, first: 0, columns, framed });
                framed.as_slice()
            };
            for Parity { packed, segments, run, starts, outs } in &parities {
                let (segments, run, out) = (*segments, *run, &mut *out);
                vector.run(Product {
                    data,
                    starts,
                    segments,
                    run,
                    stride: line,
                    packed,
                    place: 0,
                    out,
                    outs,
                    add: true,
                    sums: None,
                });
            }
        });
    });
}

/// Weights above this are summed by slices of the filter instead of by many groups of pictures.
pub(super) const LARGE: usize = 1 << 18;

/// The filters' gradient, `[kernel, kernel, c_in, c_out]`, from input and the output's gradient.
pub fn backward_weight(vector: Vector, conv: Convolution, input: Input, dy: &[f32]) -> Vec<f32> {
    if winograd::suits(conv) {
        return winograd::backward_weight(vector, conv, input, dy);
    }
    let n = dy.len() / conv.y_len();
    let (depth, c_out) = (conv.depth(), conv.c_out);
    // Groups of pictures and slices of the depth depend on the shapes alone.
    let (groups, slices) = if conv.weight_len() > LARGE { (2, 8) } else { (16, 1) };
    let per = n.div_ceil(groups).max(1);
    let groups = n.div_ceil(per);
    let blocks = depth.div_ceil(BLOCK);
    let slice = blocks.div_ceil(slices) * BLOCK;
    let tasks: Vec<(usize, usize)> =
        (0..groups).flat_map(|g| (0..depth).step_by(slice).map(move |first| (g, first))).collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|(group, from)| {
            let to = (from + slice).min(depth);
            let mut part = vec![0.0; (to - from) * c_out];
            for image in group * per..n.min((group + 1) * per) {
                bands(conv, |first, rows| {
                    FRAME.with_borrow_mut(|framed| {
                        let (stride, starts, outs) = places(conv, first, rows);
                        let (data, starts) = in_frame(vector, conv, input, image, first, rows, framed, starts);
                        let dy = &dy[image * conv.y_len()..][..conv.y_len()];
                        let (run, part) = (conv.kernel * conv.c_in, &mut part);
                        for (starts, outs) in starts.chunks(PIXELS).zip(outs.chunks(PIXELS)) {
                            let (from, to, part) = (*from, to, &mut *part);
                            vector.run(Outer { data, starts, outs, run, stride, dy, c_out, from, to, part });
                        }
                    });
                });
            }
            part
        })
        .collect();
    let mut gradient = vec![0.0; depth * c_out];
    let per_group = tasks.len() / groups;
    gradient.par_chunks_mut(slice * c_out).enumerate().for_each(|(s, sum)| {
        for group in 0..groups {
            for (sum, part) in sum.iter_mut().zip(&parts[group * per_group + s]) {
                *sum += part;
            }
        }
    });
    gradient
}

/// Rows of a tile of the filters' gradient.
const BLOCK: usize = 8;
/// Pixels whose products are summed before the next tile.
const PIXELS: usize = 128;

/// Rows `from .. to` of `sum over pixels of window * dy^T`.
pub(super) struct Outer<'a> {
    pub data: &'a [f32],
    pub starts: &'a [usize],
    pub outs: &'a [usize],
    pub run: usize,
    pub stride: usize,
    pub dy: &'a [f32],
    pub c_out: usize,
    pub from: usize,
    pub to: usize,
    pub part: &'a mut [f32],
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.all::<S, BLOCK, 2>(simd),
            8 => self.all::<S, 4, 2>(simd),
            4 => self.all::<S, 4, 2>(simd),
            _ => self.all::<S, 2, 8>(simd),
        }
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn all<S: Simd, const R: usize, const V: usize>(mut self, simd: S) {
        let width = V * size_of::<S::f32s>() / 4;
        let mut row = self.from;
        while row < self.to {
            // A tile's rows lie side by side in one run.
            let left = (self.run - row % self.run).min(self.to - row);
            for column in (0..self.c_out).step_by(width) {
                if left >= R {
                    self.tile::<S, R, V>(simd, row, column);
                } else {
                    self.tile::<S, 1, V>(simd, row, column);
                }
            }
            row += if left >= R { R } else { 1 };
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, row: usize, column: usize) {
        let width = V * size_of::<S::f32s>() / 4;
        let data = &self.data[row / self.run * self.stride + row % self.run..];
        let dy = &self.dy[column..];
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (start, out) in self.starts.iter().zip(self.outs) {
            let x: &[f32; R] = data[*start..].first_chunk().expect("a window lies in its frame");
            let (d, _) = S::as_simd_f32s(&dy[*out..][..width]);
            for r in 0..R {
                let x = simd.splat_f32s(x[r]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(x, d[v], sums[r][v]);
                }
            }
        }
        for r in 0..R {
            let at = (row - self.from + r) * self.c_out + column;
            let (part, _) = S::as_mut_simd_f32s(&mut self.part[at..][..width]);
            for v in 0..V {
                part[v] = simd.add_f32s(part[v], sums[r][v]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::drawn;

    /// Calls with (image, input offset, weight offset of the filters' row, output offset) of every tap of every pixel.
    fn taps(conv: Convolution, n: usize, mut each: impl FnMut(usize, usize, usize)) {
        let Convolution { h, w, c_in, c_out, kernel, stride, pad } = conv;
        for image in 0..n {
            for (oy, ox) in (0..conv.out_h()).flat_map(|y| (0..conv.out_w()).map(move |x| (y, x))) {
                for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    let (y, x) = ((oy * stride + ky).wrapping_sub(pad), (ox * stride + kx).wrapping_sub(pad));
                    if y < h && x < w {
                        each(
                            image * conv.x_len() + (y * w + x) * c_in,
                            (ky * kernel + kx) * c_in * c_out,
                            image * conv.y_len() + (oy * conv.out_w() + ox) * c_out,
                        );
                    }
                }
            }
        }
    }

    fn assert_close(what: &str, expected: &[f64], found: &[f32]) {
        assert_eq!(expected.len(), found.len(), "{what}");
        let scale = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(scale > 0.0, "{what}: all zero proves nothing");
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            assert!((e - f64::from(*f)).abs() < 1e-5 * scale, "{what}[{i}]: {e} and {f} (scale {scale})");
        }
    }

    /// Forward, both gradients and the sums against plain loops in double precision: every kind of convolution that
    /// ResNet50 has, at sizes odd and even.
    #[test]
    fn convolutions_are_their_definition() {
        let cases = [
            // h, w, c_in, c_out, kernel, stride, pad, n
            (9, 7, 32, 64, 1, 1, 0, 3),
            (8, 10, 32, 32, 1, 2, 0, 2),
            (7, 7, 64, 32, 1, 2, 0, 1),
            (9, 8, 32, 32, 3, 1, 1, 2),
            (8, 12, 32, 64, 3, 2, 1, 3),
            (7, 9, 32, 32, 3, 2, 1, 33),
            (1, 1, 64, 32, 3, 1, 1, 4),
            (7, 7, 32, 64, 3, 1, 1, 6),
            (5, 3, 192, 160, 3, 1, 1, 40),
            (50, 60, 64, 32, 3, 1, 1, 1),
            (20, 22, 3, 64, 7, 2, 3, 2),
        ];
        for (h, w, c_in, c_out, kernel, stride, pad, n) in cases {
            let conv = Convolution { h, w, c_in, c_out, kernel, stride, pad };
            let (x, weight, dy) = (drawn(n * conv.x_len(), 1), drawn(conv.weight_len(), 2), drawn(n * conv.y_len(), 3));
            let (scale, shift) = (drawn(c_in, 4), drawn(c_in, 5));
            for normed in [false, true] {
                let acted: Vec<f64> = (x.iter().enumerate())
                    .map(|(i, x)| match normed {
                        true => f64::from((scale[i % c_in] * x + shift[i % c_in]).max(0.0)),
                        false => f64::from(*x),
                    })
                    .collect();
                let (mut y, mut dw) = (vec![0f64; dy.len()], vec![0f64; weight.len()]);
                let mut dx = vec![1f64; x.len()];
                taps(conv, n, |xi, wi, yi| {
                    for i in 0..c_in {
                        for o in 0..c_out {
                            let w = f64::from(weight[wi + i * c_out + o]);
                            y[yi + o] += acted[xi + i] * w;
                            dx[xi + i] += f64::from(dy[yi + o]) * w;
                            dw[wi + i * c_out + o] += f64::from(dy[yi + o]) * acted[xi + i];
                        }
                    }
                });
                let mut sums = vec![0f64; n * 2 * c_out];
                for (i, v) in y.iter().enumerate() {
                    let at = i / conv.y_len() * 2 * c_out + i % c_out;
                    sums[at] += v;
                    sums[at + c_out] += v * v;
                }
                for vector in Vector::every() {
                    let what = format!("{conv:?} of {n}, {normed}, {vector:?}");
                    let input = match normed {
                        true => Input::Normed { z: &x, scale: &scale, shift: &shift },
                        false => Input::Plain(&x),
                    };
                    let mut found = vec![0.0; dy.len()];
                    let mut found_sums = vec![9.0; n * 2 * c_out];
                    forward(vector, conv, input, &weight, &mut found, Some(&mut found_sums));
                    assert_close(&format!("y of {what}"), &y, &found);
                    assert_close(&format!("sums of {what}"), &sums, &found_sums);
                    assert_close(&format!("dw of {what}"), &dw, &backward_weight(vector, conv, input, &dy));
                    if c_in % 32 == 0 {
                        // Added onto what is there.
                        let mut found = vec![1.0; x.len()];
                        backward_input(vector, conv, &dy, &weight, &mut found);
                        assert_close(&format!("dx of {what}"), &dx, &found);
                    }
                }
            }
        }
    }
}
