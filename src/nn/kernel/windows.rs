//! How convolutions with bf16 operands find the windows of their output pixels.
//!
//! Images are rounded and framed by zeros, and then every product reads them where they lie. Frames are laid out so
//! that the windows of all output pixels have the same distance: of a convolution of stride 1, the zeros behind a row
//! are also those before the next, and those below an image those above the next; of one of stride 2, pixels of each
//! parity of row and column lie together. The places of this layout that are no output pixel are computed and left out.

use super::bf16::{self, BLOCK, STEP, aligned, to_bf16};
use super::conv2d_shape::Conv2d;
use super::frame::Input;
use super::rgb_windows::{self, rgb_windows};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};

/// Values in a frame, which is to stay in the second-level cache together with a panel of filters.
const BAND: usize = 1 << 18;
/// Output pixels that a task has at least, by taking several small images.
const PIXELS: usize = 196;
/// Start of a place that is no output pixel.
pub const NONE: usize = usize::MAX;
/// Zeros behind a frame, in pixels: a block of products reads beyond the last window.
pub const BEHIND: usize = 2 * BLOCK;

/// The input of a convolution, `[n, h, w, c]`.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// To be rounded.
    Values(Input<'a>),
    /// Rounded before.
    Rounded(&'a [u16]),
}

impl<'a> From<Input<'a>> for Source<'a> {
    fn from(input: Input<'a>) -> Self {
        Source::Values(input)
    }
}

/// Where a convolution finds the windows of its output pixels in the frame of a band.
#[derive(Clone, Debug)]
pub struct Layout {
    pub conv: Conv2d,
    /// Values of a pixel in the frame; those of a whole window where the input has too few channels for that.
    pub c: usize,
    /// Places in a row of the frame.
    pub columns: usize,
    /// Rows of the frame between an image and the next.
    image_rows: usize,
    /// Rows and columns of pixels of other parities that are used: those of a parity lie together.
    pub parities: usize,
    /// Rows of the frame beyond the band's own.
    more_rows: usize,
    /// How far windows reach beyond the first row and column.
    pad: usize,
    /// Parity (row, then column) and place of each tap of the filter, relative to an output pixel's place.
    pub taps: Vec<(usize, usize)>,
}

/// Consecutive rows of one image's output, or whole images.
#[derive(Clone, Copy, Debug)]
pub struct Band {
    /// The (first) image.
    pub image: usize,
    /// Images; one where `rows` are not all.
    pub images: usize,
    /// The first row of the output.
    pub first: usize,
    /// Rows of the output.
    pub rows: usize,
}

impl Layout {
    pub fn new(conv: Conv2d) -> Self {
        let Conv2d { h, w, c_in, kernel, stride, pad, .. } = conv;
        if !c_in.is_multiple_of(STEP / 2) {
            // Windows are copied out, one after the other.
            let c = (kernel * kernel * c_in).next_multiple_of(STEP);
            let (columns, image_rows) = (conv.out_w(), conv.out_h());
            return Self { conv, c, columns, image_rows, parities: 1, more_rows: 0, pad: 0, taps: vec![(0, 0)] };
        }
        let reach = (kernel - 1) / stride;
        let (columns, image_rows) = match stride {
            1 => (w + pad, h + pad),
            _ => (conv.out_w() + reach, conv.out_h() + reach),
        };
        assert!(stride > 1 || 2 * pad + 1 == kernel, "the output has the size of the input");
        let tap = |k: usize| {
            let (y, x) = (k / kernel, k % kernel);
            (y % stride * stride + x % stride, y / stride * columns + x / stride)
        };
        let parities = if kernel == 1 { 1 } else { stride * stride };
        let pad = if stride == 1 { pad } else { 0 };
        let taps = (0..kernel * kernel).map(tap).collect();
        Self { conv, c: c_in, columns, image_rows, parities, more_rows: reach, pad, taps }
    }

    /// Whether windows are copied out.
    pub fn copies_windows(&self) -> bool {
        self.c != self.conv.c_in
    }

    /// Images of a task.
    pub fn group(&self) -> usize {
        PIXELS.div_ceil(self.conv.out_h() * self.conv.out_w())
    }

    /// The bands of the images `image..image + images`.
    pub fn bands(&self, image: usize, images: usize) -> Vec<Band> {
        let (row, out_h) = (self.columns * self.c * self.parities, self.conv.out_h());
        if images * self.image_rows * row <= BAND {
            return vec![Band { image, images, first: 0, rows: out_h }];
        }
        let rows = (BAND / row).saturating_sub(self.more_rows).clamp(1, out_h);
        let bands = (image..image + images).flat_map(|image| (0..out_h).step_by(rows).map(move |first| (image, first)));
        bands.map(|(image, first)| Band { image, images: 1, first, rows: rows.min(out_h - first) }).collect()
    }

    /// Places of a band, among which are its output pixels.
    pub fn places(&self, band: Band) -> usize {
        ((band.images - 1) * self.image_rows + band.rows) * self.columns
    }

    /// Rows of a band's frame.
    fn rows(&self, band: Band) -> usize {
        (band.images - 1) * self.image_rows + band.rows + self.more_rows
    }

    /// Pixels in the frame of one parity, with the zeros behind it.
    pub fn plane(&self, band: Band) -> usize {
        self.rows(band) * self.columns + self.pad + BEHIND
    }

    /// Where each tap starts in the frame of a band, for the first place.
    pub fn tap_starts(&self, band: Band) -> Vec<usize> {
        let plane = self.plane(band) * self.c;
        self.taps.iter().map(|(parity, place)| parity * plane + place * self.c).collect()
    }

    /// For each place of a band, what `start` says of its output pixel (image and row, within the band, and column),
    /// or [`NONE`] where there is none.
    pub fn starts(&self, band: Band, starts: &mut Vec<usize>, start: impl Fn(usize, usize, usize) -> usize) {
        starts.clear();
        starts.resize(self.places(band), NONE);
        for (image, starts) in starts.chunks_mut(self.image_rows.max(band.rows) * self.columns).enumerate() {
            for (y, starts) in starts.chunks_exact_mut(self.columns).take(band.rows).enumerate() {
                for (x, s) in starts[..self.conv.out_w()].iter_mut().enumerate() {
                    *s = start(image, y, x);
                }
            }
        }
    }

    /// The frame of a band, `[parities, plane, c]`, in `framed`.
    pub fn frame<'a>(
        &self,
        vector: Vector,
        band: Band,
        source: Source,
        image: &mut Vec<u16>,
        framed: &'a mut Vec<u16>,
    ) -> &'a [u16] {
        let framed = aligned(framed, self.parities * self.plane(band) * self.c);
        if self.copies_windows() {
            self.copy_windows(vector, band, source, image, framed);
        } else {
            vector.run(FrameRows { layout: self, band, source, framed });
        }
        framed
    }

    /// Writes the window of every output pixel of a band: `[places, c]`.
    fn copy_windows(&self, vector: Vector, band: Band, source: Source, image: &mut Vec<u16>, framed: &mut [u16]) {
        let Conv2d { h, w, c_in, kernel, stride, pad, .. } = self.conv;
        let (line, run) = ((w + 2 * pad) * c_in, kernel * c_in);
        let (windows, behind) = framed.split_at_mut(band.images * band.rows * self.conv.out_w() * self.c);
        behind.fill(0);
        let mut rows_of_windows = windows.chunks_exact_mut(self.conv.out_w() * self.c);
        for number in band.image..band.image + band.images {
            let (first, rows) = (band.first * stride, (band.rows - 1) * stride + kernel);
            image.clear();
            image.resize(rows * line + rgb_windows::BEHIND, 0);
            for r in 0..rows {
                let y = (first + r).wrapping_sub(pad);
                if y < h {
                    let start = number * self.conv.x_len() + y * w * c_in;
                    let to = &mut image[r * line + pad * c_in..][..w * c_in];
                    vector.run(Round { source, start, c: c_in, to });
                }
            }
            for y in 0..band.rows {
                let out = rows_of_windows.next().expect("a place for every pixel");
                let from = &image[y * stride * line..];
                if (c_in, kernel, stride) == (3, 3, 1) {
                    rgb_windows(vector, from, line, out);
                    continue;
                }
                for (x, window) in out.chunks_exact_mut(self.c).enumerate() {
                    let from = &from[x * stride * c_in..];
                    for (ky, to) in window.chunks_exact_mut(run).take(kernel).enumerate() {
                        // Of a length that the compiler knows: that of ResNet50's first convolution.
                        match (<&mut [u16; 21]>::try_from(&mut *to), from[ky * line..].first_chunk()) {
                            (Ok(to), Some(from)) => *to = *from,
                            _ => to.copy_from_slice(&from[ky * line..][..run]),
                        }
                    }
                    window[kernel * run..].fill(0);
                }
            }
        }
    }
}

/// Rounds values of `source` from `start` on, which are whole pixels of `c` channels.
struct Round<'a> {
    source: Source<'a>,
    start: usize,
    c: usize,
    to: &'a mut [u16],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        round(self.source, self.start, self.c, self.to);
    }
}

#[inline(always)]
fn round(source: Source, start: usize, c: usize, to: &mut [u16]) {
    match source {
        Source::Rounded(x) => to.copy_from_slice(&x[start..][..to.len()]),
        Source::Values(Input::Plain(x)) => bf16::round(&x[start..], to),
        Source::Values(Input::Normalised { z, scale, shift }) => {
            for (to, z) in to.chunks_exact_mut(c).zip(z[start..].chunks_exact(c)) {
                for (((to, z), scale), shift) in to.iter_mut().zip(z).zip(scale).zip(shift) {
                    *to = to_bf16((scale * z + shift).max(0.0));
                }
            }
        }
    }
}

/// Writes the frame of a band where windows are not copied.
struct FrameRows<'a> {
    layout: &'a Layout,
    band: Band,
    source: Source<'a>,
    framed: &'a mut [u16],
}

impl WithSimd for FrameRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { layout, band, source, framed } = self;
        let Conv2d { h, w, stride, pad, .. } = layout.conv;
        let (c, line) = (layout.c, layout.columns * layout.c);
        let used = layout.rows(band) * line;
        for (parity, plane) in framed.chunks_exact_mut(layout.plane(band) * c).enumerate() {
            let (plane, behind) = plane.split_at_mut(used);
            behind.fill(0);
            for (row, out) in plane.chunks_exact_mut(line).enumerate() {
                let (image, row) = if band.images == 1 {
                    (0, Some(row))
                } else {
                    // The rows above the first image belong to none.
                    let below = row.checked_sub(layout.pad);
                    let image = below.map_or(0, |b| b / layout.image_rows);
                    (image, below.map(|b| b % layout.image_rows + layout.pad))
                };
                let y = row.map_or(h, |row| ((band.first + row) * stride + parity / stride % stride).wrapping_sub(pad));
                if y >= h || image >= band.images {
                    out.fill(0);
                    continue;
                }
                let start = (band.image + image) * layout.conv.x_len() + y * w * c;
                if stride == 1 {
                    out[..pad * c].fill(0);
                    round(source, start, c, &mut out[pad * c..][..w * c]);
                } else {
                    for (column, out) in out.chunks_exact_mut(c).enumerate() {
                        let x = (column * stride + parity % stride).wrapping_sub(pad);
                        if x < w {
                            round(source, start + x * c, c, out);
                        } else {
                            out.fill(0);
                        }
                    }
                }
            }
        }
    }
}
