//! Transposes matrices of bf16 values.

use crate::nn::Vector;

/// Rows and columns that are transposed at a time.
const ROWS: usize = 32;
const COLUMNS: usize = 16;

/// `[rows, columns]` → `[columns, stride]`, of which the first `rows` values of each row are written. `columns` is a
/// multiple of 16.
pub fn transpose(vector: Vector, source: &[u16], columns: usize, stride: usize, target: &mut [u16]) {
    for (block, source) in source.chunks(ROWS * columns).enumerate() {
        for first in (0..columns).step_by(COLUMNS) {
            let target = &mut target[first * stride + block * ROWS..];
            #[cfg(target_arch = "x86_64")]
            if let (Vector::Best(pulp::Arch::V4(v4)), true) = (vector, source.len() == ROWS * columns) {
                pulp::Simd::vectorize(v4, wide::Part { v4, source: &source[first..], columns, stride, target });
                continue;
            }
            for (r, source) in source.chunks_exact(columns).enumerate() {
                for (c, value) in source[first..][..COLUMNS].iter().enumerate() {
                    target[c * stride + r] = *value;
                }
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = vector;
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{COLUMNS, ROWS};
    use pulp::cast;
    use pulp::x86::V4;
    use std::arch::x86_64::{__m256i, __m512i};

    /// 32 rows of 16 values: two neighbours in a column are one number of 32 bits, so that 16 x 16 numbers remain.
    pub struct Part<'a> {
        pub v4: V4,
        /// Rows start `columns` apart.
        pub source: &'a [u16],
        pub columns: usize,
        /// Rows start `stride` apart.
        pub target: &'a mut [u16],
        pub stride: usize,
    }

    impl pulp::NullaryFnOnce for Part<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { v4, source, columns, target, stride } = self;
            transpose(v4, source, columns, target, stride);
        }
    }

    #[inline(always)]
    fn transpose(v4: V4, source: &[u16], columns: usize, target: &mut [u16], stride: usize) {
        let f = v4.avx512f;
        let load = |row: usize| -> __m512i {
            let values: &[u16; COLUMNS] = source[row * columns..].first_chunk().expect("16 values are left in the row");
            f._mm512_cvtepu16_epi32(cast::<[u16; COLUMNS], __m256i>(*values))
        };
        let mut a = [f._mm512_setzero_si512(); COLUMNS];
        for i in 0..COLUMNS {
            a[i] = f._mm512_or_si512(load(2 * i), f._mm512_slli_epi32::<16>(load(2 * i + 1)));
        }
        // Within each part of 128 bits, transpose 4 x 4 numbers of rows 4k to 4k + 3.
        let mut b = a;
        for k in (0..COLUMNS).step_by(4) {
            let [p, q] = [f._mm512_unpacklo_epi32(a[k], a[k + 1]), f._mm512_unpackhi_epi32(a[k], a[k + 1])];
            let [r, s] = [f._mm512_unpacklo_epi32(a[k + 2], a[k + 3]), f._mm512_unpackhi_epi32(a[k + 2], a[k + 3])];
            b[k] = f._mm512_unpacklo_epi64(p, r);
            b[k + 1] = f._mm512_unpackhi_epi64(p, r);
            b[k + 2] = f._mm512_unpacklo_epi64(q, s);
            b[k + 3] = f._mm512_unpackhi_epi64(q, s);
        }
        // b[4k + i] has, in part j, rows 4k to 4k + 3 of column 4j + i. Exchange parts and rows.
        for i in 0..4 {
            let [p, q] =
                [f._mm512_shuffle_i32x4::<0x44>(b[i], b[4 + i]), f._mm512_shuffle_i32x4::<0xee>(b[i], b[4 + i])];
            let [r, s] = [
                f._mm512_shuffle_i32x4::<0x44>(b[8 + i], b[12 + i]),
                f._mm512_shuffle_i32x4::<0xee>(b[8 + i], b[12 + i]),
            ];
            let parts = [
                f._mm512_shuffle_i32x4::<0x88>(p, r),
                f._mm512_shuffle_i32x4::<0xdd>(p, r),
                f._mm512_shuffle_i32x4::<0x88>(q, s),
                f._mm512_shuffle_i32x4::<0xdd>(q, s),
            ];
            for (j, part) in parts.into_iter().enumerate() {
                target[(4 * j + i) * stride..][..ROWS].copy_from_slice(&cast::<__m512i, [u16; ROWS]>(part));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_its_place() {
        let (rows, columns, stride) = (70, 48, 96);
        let source: Vec<u16> = (0..rows * columns).map(|i| i as u16).collect();
        for vector in Vector::available() {
            let mut target = vec![9; columns * stride];
            transpose(vector, &source, columns, stride, &mut target);
            for (at, value) in target.iter().enumerate() {
                let (c, r) = (at / stride, at % stride);
                let expected = if r < rows { source[r * columns + c] } else { 9 };
                assert_eq!(*value, expected, "row {r}, column {c}, {vector:?}");
            }
        }
    }
}
