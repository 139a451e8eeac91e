//! Numbers of 16 bits (bf16), and matrices of them as operands of products ([`bf16_product`](super::bf16_product)).
//!
//! A bf16 is the upper half of an `f32`: 8 bits of the number instead of 24.

use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Rows and columns of a block of sums.
pub const BLOCK: usize = 32;
/// Products that one step adds to each sum.
pub const STEP: usize = 32;
/// Values of a packed matrix that one step reads.
pub const PACKED_STEP: usize = STEP * BLOCK;
/// Columns of a tile of the matrix unit.
pub const TILE: usize = 16;

/// `value` as a bf16: the nearest, of two equally near ones the even. Values below the smallest normal `f32` become 0.
#[inline(always)]
pub fn to_bf16(value: f32) -> u16 {
    (upper_half(value) >> 16) as u16
}

/// The bits of `value`, rounded to a bf16, in the upper half.
#[inline(always)]
fn upper_half(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    let rounded = if bits & 0x7f80_0000 == 0 { 0 } else { rounded };
    if value.is_nan() { 0x7fc0_0000 } else { rounded }
}

/// Rounds `from`. (A loop of unknown length: one of few values would not be compiled for the wide vectors.)
#[inline(always)]
pub fn round(from: &[f32], to: &mut [u16]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = to_bf16(*from);
    }
}

/// Rounds 16 columns of two rows and writes them as pairs; see [`packed_position`].
#[inline(always)]
pub fn pack_pairs(even: &[f32; TILE], odd: &[f32; TILE], to: &mut [u16]) {
    let mut pairs = [0u32; TILE];
    for i in 0..TILE {
        pairs[i] = upper_half(even[i]) >> 16 | upper_half(odd[i]);
    }
    to[..2 * TILE].copy_from_slice(bytemuck::cast_slice(&pairs.map(u32::to_le)));
}

/// A bf16 as an `f32`.
#[inline(always)]
pub fn from_bf16(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

/// Rows of a left operand: the block's first 16 rows start `row` apart, and so do its last 16, which start `lower`
/// behind them.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub values: &'a [u16],
    pub row: usize,
    pub lower: usize,
}

impl<'a> Rows<'a> {
    /// 32 rows that start `row` apart.
    pub fn new(values: &'a [u16], row: usize) -> Self {
        Self { values, row, lower: BLOCK / 2 * row }
    }

    /// Where a row starts.
    #[inline(always)]
    pub fn start(&self, row: usize) -> usize {
        row / (BLOCK / 2) * self.lower + row % (BLOCK / 2) * self.row
    }
}

/// A part of a sum's depth: where its rows and its packed values start.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub a: usize,
    pub b: usize,
}

/// A block of sums, `[32, 32]`, where a cache line starts.
#[derive(Clone, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Sums(pub [f32; BLOCK * BLOCK]);

impl Sums {
    pub const ZERO: Self = Self([0.0; BLOCK * BLOCK]);
}

/// The first `len` values of `buffer` from where a cache line starts: the matrix unit reads lines, and takes twice as
/// long for parts of two. They have the values of an earlier use, or 0.
pub fn aligned(buffer: &mut Vec<u16>, len: usize) -> &mut [u16] {
    if buffer.len() < len + STEP {
        buffer.resize(len + STEP, 0);
    }
    let start = aligned_start(buffer);
    &mut buffer[start..][..len]
}

/// Where the first cache line starts in `values`.
pub fn aligned_start(values: &[u16]) -> usize {
    values.as_ptr().align_offset(2 * STEP)
}

/// Where the value at depth `k`, column `column` of a panel of 32 columns is packed: in steps of `[2, 16, 16, 2]`, that
/// is tiles of 16 columns, pairs of values of the depth, columns of the tile, and the two values of a pair.
#[inline(always)]
pub fn packed_position(k: usize, column: usize) -> usize {
    k / STEP * PACKED_STEP + column / TILE * (STEP * TILE) + k % STEP / 2 * (2 * TILE) + column % TILE * 2 + k % 2
}

/// A matrix as the right operand of products, in panels of 32 columns; its depth consists of segments, each of which is
/// filled up with zeros to whole steps.
pub struct Packed {
    /// `[panels, segments, steps, 2, 16, 16, 2]`
    values: Vec<u16>,
    /// Columns, without those that fill the last panel.
    pub columns: usize,
    /// Steps of a segment.
    pub steps: usize,
    segments: usize,
}

impl Packed {
    /// Packs a matrix that is stored by rows: `row(segment, k)` has the columns' values at place `k` of a segment.
    pub fn from_rows<'a>(
        vector: Vector,
        [segments, depth, columns]: [usize; 3],
        row: impl Fn(usize, usize) -> &'a [f32] + Sync,
    ) -> Self {
        Self::fill([segments, depth, columns], |segment, first, out| {
            let own = |k: usize| &row(segment, k)[first..columns.min(first + BLOCK)];
            vector.run(PackRows { depth, row: own, out });
        })
    }

    /// Packs a matrix that is stored by columns: `column(segment, c)` has the values of column `c` along a segment.
    pub fn from_columns<'a>(
        vector: Vector,
        [segments, depth, columns]: [usize; 3],
        column: impl Fn(usize, usize) -> &'a [f32] + Sync,
    ) -> Self {
        Self::fill([segments, depth, columns], |segment, first, out| {
            for c in first..columns.min(first + BLOCK) {
                vector.run(PackColumn { values: &column(segment, c)[..depth], column: c - first, out });
            }
        })
    }

    /// `fill(segment, first column, values)` fills the steps of a segment, which are 0.
    fn fill([segments, depth, columns]: [usize; 3], fill: impl Fn(usize, usize, &mut [u16]) + Sync) -> Self {
        let steps = depth.div_ceil(STEP);
        let len = columns.div_ceil(BLOCK) * segments * steps * PACKED_STEP;
        let mut values = Vec::new();
        let parts = aligned(&mut values, len).par_chunks_mut(steps * PACKED_STEP).enumerate();
        parts.for_each(|(i, out)| fill(i % segments, i / segments * BLOCK, out));
        Self { values, columns, steps, segments }
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }

    /// The values of a panel.
    pub fn panel(&self, panel: usize) -> &[u16] {
        let len = self.segments * self.steps * PACKED_STEP;
        &self.values[aligned_start(&self.values)..][panel * len..][..len]
    }

    /// The segments of a panel, of which segment `s` starts at `starts[s]` in the left operand.
    pub fn segments(&self, starts: &[usize]) -> Vec<Segment> {
        assert_eq!(starts.len(), self.segments);
        starts.iter().enumerate().map(|(s, a)| Segment { a: *a, b: s * self.steps * PACKED_STEP }).collect()
    }
}

/// Packs rows of up to 32 columns.
struct PackRows<'a, Row> {
    depth: usize,
    row: Row,
    out: &'a mut [u16],
}

impl<'a, Row: Fn(usize) -> &'a [f32]> WithSimd for PackRows<'_, Row> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { depth, row, out } = self;
        let zeros = [0f32; TILE];
        for k in (0..depth).step_by(2) {
            let (even, odd) = (row(k), if k + 1 < depth { row(k + 1) } else { &[] });
            for column in (0..even.len()).step_by(TILE) {
                let at = packed_position(k, column);
                let part = |row: &'a [f32]| row.get(column..).and_then(|row| row.first_chunk::<TILE>());
                match (part(even), part(odd)) {
                    (Some(even), Some(odd)) => pack_pairs(even, odd, &mut out[at..]),
                    (Some(even), None) if odd.is_empty() => pack_pairs(even, &zeros, &mut out[at..]),
                    _ => {
                        for (i, row) in [even, odd].into_iter().enumerate() {
                            for (c, value) in row.iter().enumerate().skip(column).take(TILE) {
                                out[packed_position(k + i, c)] = to_bf16(*value);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Packs a column.
struct PackColumn<'a> {
    values: &'a [f32],
    column: usize,
    out: &'a mut [u16],
}

impl WithSimd for PackColumn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (step, values) in self.values.chunks(STEP).enumerate() {
            let mut rounded = [0u16; STEP];
            round(values, &mut rounded);
            let out = &mut self.out[step * PACKED_STEP + packed_position(0, self.column)..];
            for (pair, values) in rounded.as_chunks::<2>().0.iter().enumerate() {
                out[pair * 2 * TILE..][..2].copy_from_slice(values);
            }
        }
    }
}

/// What the tests of the kernels for bf16 share.
#[cfg(test)]
pub mod testing {
    use super::{from_bf16, to_bf16};
    use crate::nn::testing::random;

    /// Values that rounding does not change.
    pub fn rounded(len: usize, item: u64) -> Vec<f32> {
        random(len, item).into_iter().map(|v| from_bf16(to_bf16(v))).collect()
    }

    /// Each value is within a hundred-thousandth of the largest expected one.
    pub fn assert_close(what: &str, expected: &[f32], actual: &[f32]) {
        assert_eq!(expected.len(), actual.len(), "{what}");
        let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(scale > 0.0, "{what}: all values are 0");
        for (i, (e, a)) in expected.iter().zip(actual).enumerate() {
            assert!((e - a).abs() < 1e-5 * scale, "{what}[{i}]: {e} and {a} (scale {scale})");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_to_even() {
        let rounded = |v: f32| from_bf16(to_bf16(v));
        assert_eq!(rounded(1.0), 1.0);
        // Half-way between 1 and 1 + 2^-7, and between that and the next.
        assert_eq!(rounded(1.0 + 2f32.powi(-8)), 1.0);
        assert_eq!(rounded(1.0 + 3.0 * 2f32.powi(-8)), 1.0 + 2.0 * 2f32.powi(-7));
        assert_eq!(rounded(-1.0 - 2f32.powi(-8) - 2f32.powi(-20)), -1.0 - 2f32.powi(-7));
        assert_eq!(rounded(f32::MIN_POSITIVE / 2.0), 0.0);
        assert_eq!(rounded(f32::INFINITY), f32::INFINITY);
        assert!(rounded(f32::from_bits(0x7fff_ffff)).is_nan() && rounded(f32::from_bits(0xff80_0001)).is_nan());
    }
}
