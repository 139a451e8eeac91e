//! Slices of `f32` as vectors, and the multiply-add that all matrix products are made of.

use pulp::Simd;

/// The first `V` vectors of `values`.
#[inline(always)]
pub fn vectors<S: Simd, const V: usize>(values: &[f32]) -> &[S::f32s; V] {
    S::as_simd_f32s(&values[..V * S::F32_LANES]).0.first_chunk().expect("V vectors were taken")
}

/// The first `V` vectors of `values`, to be written.
#[inline(always)]
pub fn vectors_mut<S: Simd, const V: usize>(values: &mut [f32]) -> &mut [S::f32s; V] {
    S::as_mut_simd_f32s(&mut values[..V * S::F32_LANES]).0.first_chunk_mut().expect("V vectors were taken")
}

/// `sums[v] += a * b[v]`, with one rounding where the processor has such an instruction.
#[inline(always)]
pub fn multiply_add<S: Simd, const V: usize>(simd: S, a: f32, b: &[S::f32s; V], sums: &mut [S::f32s; V]) {
    let a = simd.splat_f32s(a);
    for v in 0..V {
        sums[v] = simd.mul_add_e_f32s(a, b[v], sums[v]);
    }
}

/// The `N x N` vectors of `values` that start at `start + r * row + c * column`.
#[inline(always)]
pub fn load_square<S: Simd, const N: usize>(
    simd: S,
    values: &[f32],
    start: usize,
    row: usize,
    column: usize,
) -> [[S::f32s; N]; N] {
    let mut square = [[simd.splat_f32s(0.0); N]; N];
    for r in 0..N {
        for c in 0..N {
            square[r][c] = vectors::<S, 1>(&values[start + r * row + c * column..])[0];
        }
    }
    square
}

/// Writes what [`load_square`] reads.
#[inline(always)]
pub fn store_square<S: Simd, const N: usize>(
    values: &mut [f32],
    start: usize,
    row: usize,
    column: usize,
    square: [[S::f32s; N]; N],
) {
    for r in 0..N {
        for c in 0..N {
            vectors_mut::<S, 1>(&mut values[start + r * row + c * column..])[0] = square[r][c];
        }
    }
}
