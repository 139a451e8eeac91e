//! Convolutions with operands that are rounded to bf16 ([`bf16`](super::bf16)): the products, forward and backward.
//! [`windows`](super::windows) describes how they find their operands.

use super::bf16::{
    BLOCK, PACKED_STEP, Packed, Rows, STEP, Segment, Sums, TILE, aligned, aligned_start, pack_pairs, packed_position,
    to_bf16,
};
use super::bf16_product::Blocks;
use super::conv2d_shape::Conv2d;
use super::frame::Input;
use super::simd::{vectors, vectors_mut};
use super::transpose::transpose;
use super::windows::{BEHIND, Band, Layout, NONE, Source};
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
    places: Vec<usize>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The products of a frame's windows with packed filters, written to (or added to) the output.
struct Products<'a> {
    data: &'a [u16],
    /// Distance between the windows of neighbours in `places`.
    row: usize,
    /// Where each tap starts in `data`, for the first place.
    taps: &'a [usize],
    packed: &'a Packed,
    /// Where the channels of each place start in `out`, or [`NONE`].
    places: &'a [usize],
    out: &'a mut [f32],
    add: bool,
    /// `[2, columns]`: the sum and the sum of squares of each column are added to it.
    moments: Option<&'a mut [f32]>,
}

impl Products<'_> {
    fn run(mut self, vector: Vector, unit: &Blocks) {
        let segments = self.packed.segments(self.taps);
        let mut sums = Sums::ZERO;
        for panel in 0..self.packed.panels() {
            for (block, places) in self.places.chunks(BLOCK).enumerate() {
                let a = &self.data[block * BLOCK * self.row..];
                unit.multiply(
                    Rows::new(a, self.row),
                    self.packed.panel(panel),
                    &segments,
                    self.packed.steps,
                    &mut sums,
                    false,
                );
                let columns = BLOCK.min(self.packed.columns - panel * BLOCK);
                let (out, moments, first) = (&mut *self.out, self.moments.as_deref_mut(), panel * BLOCK);
                vector.run(Store { sums: &sums.0, places, first, columns, out, add: self.add, moments });
            }
        }
    }
}

/// Writes a block of sums to the output.
struct Store<'a> {
    sums: &'a [f32; BLOCK * BLOCK],
    places: &'a [usize],
    first: usize,
    columns: usize,
    out: &'a mut [f32],
    add: bool,
    moments: Option<&'a mut [f32]>,
}

impl WithSimd for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.store::<S, 2>(simd),
            8 => self.store::<S, 4>(simd),
            4 => self.store::<S, 8>(simd),
            _ => self.store::<S, 32>(simd),
        }
    }
}

impl Store<'_> {
    #[inline(always)]
    fn store<S: Simd, const V: usize>(self, simd: S) {
        let Self { sums, places, first, columns, out, add, moments } = self;
        let zero = [simd.splat_f32s(0.0); V];
        let (mut total, mut squares) = (zero, zero);
        for (place, sums) in places.iter().zip(sums.chunks_exact(BLOCK)).filter(|(place, _)| **place != NONE) {
            let values = vectors::<S, V>(sums);
            let out = &mut out[place + first..][..columns];
            if columns == BLOCK {
                let out = vectors_mut::<S, V>(out);
                for v in 0..V {
                    out[v] = if add { simd.add_f32s(out[v], values[v]) } else { values[v] };
                }
            } else {
                for (out, value) in out.iter_mut().zip(sums) {
                    *out = if add { *out + value } else { *value };
                }
            }
            for v in 0..V {
                total[v] = simd.add_f32s(total[v], values[v]);
                squares[v] = simd.mul_add_e_f32s(values[v], values[v], squares[v]);
            }
        }
        if let Some(moments) = moments {
            let all = moments.len() / 2;
            for (half, sums) in moments.chunks_exact_mut(all).zip([total, squares]) {
                let mut lanes = [0f32; BLOCK];
                *vectors_mut::<S, V>(&mut lanes) = sums;
                half[first..][..columns].iter_mut().zip(lanes).for_each(|(m, s)| *m += s);
            }
        }
    }
}

/// Filters `[kernel, kernel, c_in, c_out]` for products with the windows of `layout`.
pub fn pack(vector: Vector, layout: &Layout, weight: &[f32]) -> Packed {
    let Conv2d { c_in, c_out, .. } = layout.conv;
    // Rows of filters lie one behind the other, in the order of the taps.
    let (segments, depth) = if layout.copies_windows() { (1, layout.conv.depth()) } else { (layout.taps.len(), c_in) };
    Packed::from_rows(vector, [segments, depth, c_out], |segment, k| &weight[(segment * depth + k) * c_out..][..c_out])
}

/// The convolution of a band, `[images, rows, out_w, c_out]` at the start of `out`.
pub fn convolve(
    vector: Vector,
    unit: &Blocks,
    layout: &Layout,
    band: Band,
    input: Input,
    packed: &Packed,
    out: &mut [f32],
    moments: Option<&mut [f32]>,
) {
    let Conv2d { c_out, .. } = layout.conv;
    let (out_w, out_h) = (layout.conv.out_w(), band.rows);
    SCRATCH.with_borrow_mut(|Scratch { framed, image, places }| {
        let data = layout.frame(vector, band, input.into(), image, framed);
        let taps = layout.tap_starts(band);
        layout.starts(band, places, |image, y, x| ((image * out_h + y) * out_w + x) * c_out);
        Products { data, row: layout.c, taps: &taps, packed, places, out, add: false, moments }.run(vector, unit);
    });
}

/// See [`conv2d::forward`](super::conv2d::forward).
pub fn forward(vector: Vector, conv: Conv2d, input: Input, weight: &[f32], y: &mut [f32], moments: Option<&mut [f32]>) {
    let (layout, c_out) = (Layout::new(conv), conv.c_out);
    let (packed, group) = (pack(vector, &layout, weight), layout.group());
    let work = |task: usize, y: &mut [f32], mut moments: Option<&mut [f32]>| {
        let unit = Blocks::new(vector);
        if let Some(moments) = moments.as_deref_mut() {
            moments.fill(0.0);
        }
        let mut moments = moments.map(|m| &mut m[..2 * c_out]);
        let images = y.len() / conv.y_len();
        for band in layout.bands(task * group, images) {
            let start = (band.image - task * group) * conv.y_len() + band.first * conv.out_w() * c_out;
            let moments = moments.as_deref_mut();
            convolve(vector, &unit, &layout, band, input, &packed, &mut y[start..], moments);
        }
    };
    let tasks = y.par_chunks_mut(group * conv.y_len()).enumerate();
    match moments {
        Some(moments) => tasks
            .zip(moments.par_chunks_mut(group * 2 * c_out))
            .for_each(|((task, y), moments)| work(task, y, Some(moments))),
        None => tasks.for_each(|(task, y)| work(task, y, None)),
    }
}

/// A convolution with the normalisation behind it folded into its filters, for prediction.
pub struct Folded {
    layout: Layout,
    packed: Packed,
    shift: Vec<f32>,
}

/// Where the output of a [`Folded`] convolution goes.
pub enum Output<'a> {
    /// After ReLU, rounded: as the next convolution reads it.
    Rounded(&'a mut Vec<u16>),
    /// Plus the shortcut and with ReLU, or as it is.
    Values(&'a mut Vec<f32>, Option<&'a [f32]>),
}

impl Folded {
    /// `scale * conv(x) + shift`.
    pub fn new(vector: Vector, conv: Conv2d, weight: &[f32], scale: &[f32], shift: &[f32]) -> Self {
        let weight: Vec<f32> = weight.iter().zip(scale.iter().cycle()).map(|(w, s)| w * s).collect();
        let layout = Layout::new(conv);
        Self { packed: pack(vector, &layout, &weight), layout, shift: shift.to_vec() }
    }

    /// Computes the output of `n` images, `[n, out_h, out_w, c_out]`.
    pub fn apply(&self, vector: Vector, unit: &Blocks, input: Source, n: usize, mut output: Output) {
        let Self { layout, packed, shift } = self;
        let conv = layout.conv;
        match &mut output {
            Output::Rounded(out) => out.resize(n * conv.y_len(), 0),
            Output::Values(out, _) => out.resize(n * conv.y_len(), 0.0),
        }
        let mut sums = Sums::ZERO;
        for band in layout.bands(0, n) {
            SCRATCH.with_borrow_mut(|Scratch { framed, image, places }| {
                let data = layout.frame(vector, band, input, image, framed);
                let segments = packed.segments(&layout.tap_starts(band));
                layout.starts(band, places, |i, y, x| {
                    (((band.image + i) * conv.out_h() + band.first + y) * conv.out_w() + x) * conv.c_out
                });
                for panel in 0..packed.panels() {
                    for (block, places) in places.chunks(BLOCK).enumerate() {
                        let a = Rows::new(&data[block * BLOCK * layout.c..], layout.c);
                        unit.multiply(a, packed.panel(panel), &segments, packed.steps, &mut sums, false);
                        let shift = &shift[panel * BLOCK..];
                        vector.run(Finish { sums: &sums, places, first: panel * BLOCK, shift, output: &mut output });
                    }
                }
            });
        }
    }
}

/// Writes a block of a [`Folded`] convolution's sums.
struct Finish<'a, 'b> {
    sums: &'a Sums,
    places: &'a [usize],
    first: usize,
    shift: &'a [f32],
    output: &'a mut Output<'b>,
}

impl WithSimd for Finish<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, places, first, shift, output } = self;
        let shift = &shift[..BLOCK.min(shift.len())];
        for (place, sums) in places.iter().zip(sums.0.chunks_exact(BLOCK)).filter(|(place, _)| **place != NONE) {
            let start = place + first;
            match output {
                Output::Rounded(out) => {
                    for ((out, sum), shift) in out[start..].iter_mut().zip(sums).zip(shift) {
                        *out = to_bf16((sum + shift).max(0.0));
                    }
                }
                Output::Values(out, Some(shortcut)) => {
                    let terms = sums.iter().zip(shift).zip(&shortcut[start..]);
                    for (out, ((sum, shift), shortcut)) in out[start..].iter_mut().zip(terms) {
                        *out = (sum + shift + shortcut).max(0.0);
                    }
                }
                Output::Values(out, None) => {
                    for ((out, sum), shift) in out[start..].iter_mut().zip(sums).zip(shift) {
                        *out = sum + shift;
                    }
                }
            }
        }
    }
}

/// The gradient of a convolution's input, as convolutions of the gradient of its output.
pub struct InputGradient {
    conv: Conv2d,
    /// Of the output's gradient.
    layout: Layout,
    parities: Vec<Parity>,
}

/// The input pixels of one parity of row and column: the filter's taps that reach them, turned by half a turn.
struct Parity {
    y: usize,
    x: usize,
    packed: Packed,
    places: Vec<usize>,
}

impl InputGradient {
    pub fn new(vector: Vector, conv: Conv2d, weight: &[f32]) -> Self {
        let Conv2d { c_in, c_out, kernel, stride, pad, .. } = conv;
        // For a parity of rows (or columns): the rows of the filter that reach such a row, last first, and how far from
        // it, divided by the stride, the row of the output lies.
        let reach = |parity: usize| -> Vec<(usize, isize)> {
            let taps = (0..kernel).rev().filter(|k| (parity + pad + stride - k % stride).is_multiple_of(stride));
            taps.map(|k| (k, (parity as isize + pad as isize - k as isize) / stride as isize)).collect()
        };
        let frame = if stride == 1 { pad } else { usize::from(kernel > 1) };
        let (h, w) = (conv.out_h(), conv.out_w());
        let turned = Conv2d { h, w, c_in: c_out, c_out: c_in, kernel: 2 * frame + 1, stride: 1, pad: frame, ..conv };
        let layout = Layout::new(turned);
        let mut parities = Vec::new();
        for (y, x) in (0..stride).flat_map(|y| (0..stride).map(move |x| (y, x))) {
            let (rows, columns) = (reach(y), reach(x));
            let taps: Vec<_> = rows.iter().flat_map(|r| columns.iter().map(move |c| (*r, *c))).collect();
            if taps.is_empty() {
                continue;
            }
            let packed = Packed::from_columns(vector, [taps.len(), c_out, c_in], |tap, column| {
                let ((ky, _), (kx, _)) = taps[tap];
                &weight[((ky * kernel + kx) * c_in + column) * c_out..][..c_out]
            });
            let place = |shift: isize| (frame as isize + shift) as usize;
            let places = taps.iter().map(|((_, sy), (_, sx))| place(*sy) * layout.columns + place(*sx)).collect();
            parities.push(Parity { y, x, packed, places });
        }
        Self { conv, layout, parities }
    }

    /// Adds the gradient of the input of some images to `dx`; `dy` is the gradient of the output, of which those images
    /// start at `image`.
    pub fn add(&self, vector: Vector, unit: &Blocks, dy: Source, image: usize, dx: &mut [f32]) {
        let Self { conv, layout, parities } = self;
        let Conv2d { h, w, c_in, stride, .. } = *conv;
        for band in layout.bands(image, dx.len() / conv.x_len()) {
            SCRATCH.with_borrow_mut(|Scratch { framed, image: windows, places }| {
                let data = layout.frame(vector, band, dy, windows, framed);
                for Parity { y: py, x: px, packed, places: taps } in parities {
                    let taps: Vec<usize> = taps.iter().map(|place| place * layout.c).collect();
                    layout.starts(band, places, |i, y, x| {
                        let (y, x) = ((band.first + y) * stride + py, x * stride + px);
                        let i = band.image - image + i;
                        if y < h && x < w { i * conv.x_len() + (y * w + x) * c_in } else { NONE }
                    });
                    let (row, out) = (layout.c, &mut *dx);
                    let products = Products { data, row, taps: &taps, packed, places, out, add: true, moments: None };
                    products.run(vector, unit);
                }
            });
        }
    }
}

/// See [`conv2d::backward_input`](super::conv2d::backward_input).
pub fn backward_input(vector: Vector, conv: Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    let gradient = InputGradient::new(vector, conv, weight);
    let group = gradient.layout.group();
    dx.par_chunks_mut(group * conv.x_len()).enumerate().for_each(|(task, dx)| {
        gradient.add(vector, &Blocks::new(vector), Input::Plain(dy).into(), task * group, dx);
    });
}

/// The gradient of a convolution's filters, from groups of images.
pub struct WeightGradient {
    layout: Layout,
    /// Steps of the products along the places of a group.
    steps: usize,
    /// Distance between the rows of [`Operands::x`].
    row: usize,
}

/// A group of images as operands of the gradient's products.
#[derive(Default)]
pub struct Operands {
    /// The input: `[parities, c, row]`, rows along the places.
    x: Vec<u16>,
    /// The gradient of the output, packed: `[panels, steps, 2, 16, 16, 2]`, with zeros where there is no pixel.
    dy: Vec<u16>,
}

impl WeightGradient {
    /// For groups of `images`.
    pub fn new(conv: Conv2d, images: usize) -> Self {
        let layout = Layout::new(conv);
        let whole = Band { image: 0, images, first: 0, rows: conv.out_h() };
        let steps = layout.places(whole).div_ceil(STEP);
        // An odd number of cache lines, so that the rows of a block do not all fall on the same ones.
        let lines = layout.plane(whole).max(steps * STEP + BEHIND).div_ceil(STEP);
        Self { layout, steps, row: (lines / 2 * 2 + 1) * STEP }
    }

    fn panels(&self) -> usize {
        self.layout.conv.c_out.div_ceil(BLOCK)
    }

    /// Blocks of 32 input channels (of 32 values of a window where windows are copied).
    pub fn blocks(&self) -> usize {
        self.layout.c.div_ceil(BLOCK)
    }

    /// The sums of some blocks, all 0.
    pub fn sums(&self, blocks: &Range<usize>) -> Vec<Sums> {
        vec![Sums::ZERO; blocks.len() * self.panels() * self.layout.taps.len()]
    }

    /// Prepares `images` images from `image` on.
    pub fn prepare(
        &self,
        vector: Vector,
        image: usize,
        images: usize,
        input: Source,
        dy: Source,
        operands: &mut Operands,
    ) {
        let Self { layout, steps, row } = self;
        let (conv, panels) = (layout.conv, self.panels());
        let band = Band { image, images, first: 0, rows: conv.out_h() };
        let plane = self.blocks() * BLOCK * row;
        SCRATCH.with_borrow_mut(|Scratch { framed, image: windows, places: starts }| {
            let frames = layout.frame(vector, band, input, windows, framed);
            let frames = frames.chunks_exact(layout.plane(band) * layout.c);
            let planes = aligned(&mut operands.x, layout.parities * plane);
            for (frame, out) in frames.zip(planes.chunks_exact_mut(plane)) {
                transpose(vector, frame, layout.c, *row, out);
            }
            layout.starts(band, starts, |i, y, x| (image + i) * conv.y_len() + (y * conv.out_w() + x) * conv.c_out);
            let packed = aligned(&mut operands.dy, panels * steps * PACKED_STEP);
            starts.resize(steps * STEP, NONE);
            vector.run(PackPairs { starts, dy, c: conv.c_out, steps: *steps, packed });
        });
    }

    /// Adds a group's products to the sums of some blocks.
    pub fn add(&self, unit: &Blocks, blocks: &Range<usize>, operands: &Operands, sums: &mut [Sums]) {
        let (x, dy) = (&operands.x[aligned_start(&operands.x)..], &operands.dy[aligned_start(&operands.dy)..]);
        for ((block, panel, tap), sums) in self.order(blocks).zip(sums) {
            let (parity, place) = self.layout.taps[tap];
            let a = (parity * self.blocks() + block) * BLOCK * self.row + place;
            let segment = [Segment { a, b: panel * self.steps * PACKED_STEP }];
            unit.multiply(Rows::new(x, self.row), dy, &segment, self.steps, sums, true);
        }
    }

    /// Block, panel and tap of each of the sums.
    fn order(&self, blocks: &Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
        let (panels, taps) = (self.panels(), self.layout.taps.len());
        blocks
            .clone()
            .flat_map(move |block| (0..panels).flat_map(move |panel| (0..taps).map(move |tap| (block, panel, tap))))
    }

    /// Adds the sums of some blocks to the gradient, `[kernel, kernel, c_in, c_out]`.
    pub fn write(&self, blocks: &Range<usize>, sums: &[Sums], gradient: &mut [f32]) {
        let c_out = self.layout.conv.c_out;
        let per_tap = gradient.len() / self.layout.taps.len();
        for ((block, panel, tap), sums) in self.order(blocks).zip(sums) {
            let columns = BLOCK.min(c_out - panel * BLOCK);
            for (r, sums) in sums.0.chunks_exact(BLOCK).enumerate() {
                let channel = block * BLOCK + r;
                if channel * c_out < per_tap {
                    let out = &mut gradient[tap * per_tap + channel * c_out + panel * BLOCK..][..columns];
                    out.iter_mut().zip(sums).for_each(|(g, s)| *g += s);
                }
            }
        }
    }
}

/// See [`conv2d::backward_weight`](super::conv2d::backward_weight).
pub fn backward_weight(vector: Vector, conv: Conv2d, input: Input, dy: &[f32]) -> Vec<f32> {
    let n = dy.len() / conv.y_len();
    let group = Layout::new(conv).group();
    let products = WeightGradient::new(conv, group);
    let operands: Vec<Operands> = (0..n.div_ceil(group))
        .into_par_iter()
        .map(|task| {
            let (mut operands, image) = (Operands::default(), task * group);
            let images = group.min(n - image);
            products.prepare(vector, image, images, input.into(), Input::Plain(dy).into(), &mut operands);
            operands
        })
        .collect();
    // Tasks depend on the shape alone: groups of images, and slices of the input's channels.
    let (parts, slices) = conv.gradient_tasks();
    let per_part = operands.len().div_ceil(parts).max(1);
    let blocks = products.blocks();
    let per_slice = blocks.div_ceil(slices);
    let slices = || (0..blocks).step_by(per_slice).map(|first| first..blocks.min(first + per_slice));
    let tasks: Vec<_> = operands.chunks(per_part).flat_map(|part| slices().map(move |slice| (part, slice))).collect();
    let sums: Vec<Vec<Sums>> = tasks
        .par_iter()
        .map(|(part, slice)| {
            let (unit, mut sums) = (Blocks::new(vector), products.sums(slice));
            part.iter().for_each(|operands| products.add(&unit, slice, operands, &mut sums));
            sums
        })
        .collect();
    let mut gradient = vec![0f32; conv.weight_len()];
    for ((_, slice), sums) in tasks.iter().zip(&sums) {
        products.write(slice, sums, &mut gradient);
    }
    gradient
}

/// Rounds pairs of places' values and writes them where [`packed_position`] has them.
struct PackPairs<'a> {
    /// Where each place's values start in `dy`, or [`NONE`]: whole steps.
    starts: &'a [usize],
    dy: Source<'a>,
    /// Values of a place, a multiple of 16.
    c: usize,
    steps: usize,
    packed: &'a mut [u16],
}

impl WithSimd for PackPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { starts, dy, c, steps, packed } = self;
        let (none, no_values) = ([0u16; TILE], [0f32; TILE]);
        for (pair, starts) in starts.as_chunks::<2>().0.iter().enumerate() {
            for first in (0..c.next_multiple_of(BLOCK)).step_by(TILE) {
                let at = first / BLOCK * steps * PACKED_STEP + packed_position(2 * pair, first % BLOCK);
                let places = starts.map(|start| (start != NONE && first < c).then(|| start + first));
                let packed = &mut packed[at..];
                match dy {
                    Source::Values(input) => {
                        let [even, odd] = places.map(|start| channels(input.values(), start, &no_values));
                        pack_pairs(even, odd, packed);
                    }
                    Source::Rounded(values) => {
                        let [even, odd] = places.map(|start| channels(values, start, &none));
                        let mut pairs = [0u32; TILE];
                        for i in 0..TILE {
                            pairs[i] = u32::from(even[i]) | u32::from(odd[i]) << 16;
                        }
                        packed[..2 * TILE].copy_from_slice(bytemuck::cast_slice(&pairs.map(u32::to_le)));
                    }
                }
            }
        }
    }
}

/// 16 channels of a place, or `zeros` where there is none.
#[inline(always)]
fn channels<'a, T>(values: &'a [T], start: Option<usize>, zeros: &'a [T; TILE]) -> &'a [T; TILE] {
    start.map_or(zeros, |start| values[start..].first_chunk().expect("16 channels"))
}
