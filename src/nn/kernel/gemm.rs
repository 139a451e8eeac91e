//! Matrix products whose left matrix is read where it lies in memory, such as the windows of a convolution.

use super::simd::{multiply_add, vectors, vectors_mut};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Rows of a matrix inside `data`: row `r` consists of runs of `run` values, of which the first starts at `starts[r]`
/// and each next one `stride` later.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub starts: &'a [usize],
    pub run: usize,
    pub stride: usize,
}

/// Matrices `[depth, columns]` in the order in which products read them: in panels of `width` columns,
/// `[columns / width, matrices, depth, width]`.
pub struct Packed {
    values: Vec<f32>,
    width: usize,
    columns: usize,
    matrices: usize,
    depth: usize,
}

impl Packed {
    /// `fill` writes one panel, `[matrices, depth, width]`, given its first column and its width.
    ///
    /// # Panics
    /// Where `columns` is not a multiple of the panels' width.
    pub fn from_panels(
        vector: Vector,
        depth: usize,
        columns: usize,
        matrices: usize,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let width = panel_width(vector);
        assert_eq!(columns % width, 0, "the number of columns must be a multiple of {width}");
        let mut values = vec![0.0; matrices * depth * columns];
        values
            .par_chunks_mut(matrices * depth * width)
            .enumerate()
            .for_each(|(p, panel)| fill(p * width, width, panel));
        Self { values, width, columns, matrices, depth }
    }

    /// Packs one matrix, `[depth, columns]`.
    pub fn new(vector: Vector, matrix: &[f32], columns: usize) -> Self {
        Self::from_panels(vector, matrix.len() / columns, columns, 1, |first, width, panel| {
            for (out, row) in panel.chunks_exact_mut(width).zip(matrix.chunks_exact(columns)) {
                out.copy_from_slice(&row[first..][..width]);
            }
        })
    }

    /// Columns in a panel.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Columns in all panels.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A panel of a matrix: `[depth, width]`.
    #[inline(always)]
    pub fn panel(&self, panel: usize, matrix: usize) -> &[f32] {
        let len = self.depth * self.width;
        &self.values[(panel * self.matrices + matrix) * len..][..len]
    }
}

/// Columns in a panel of a [`Packed`] matrix: as many as the largest tile of [`Gemm`] has.
pub fn panel_width(vector: Vector) -> usize {
    match vector.lanes() {
        16 => 32,
        8 => 16,
        _ => 8,
    }
}

/// `c = a b`, or `c += a b`.
pub struct Gemm<'a> {
    pub a: Rows<'a>,
    pub b: &'a Packed,
    /// Which of the packed matrices to take.
    pub matrix: usize,
    pub c: &'a mut [f32],
    /// Where each row of `c` starts.
    pub c_starts: &'a [usize],
    /// Add to the values of `c`.
    pub add: bool,
    /// `[2, columns]`: the sum and the sum of squares of each column of the product are added to it.
    pub moments: Option<&'a mut [f32]>,
}

impl WithSimd for Gemm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.multiply::<S, 8, 4, 2>(simd),
            8 => self.multiply::<S, 6, 2, 2>(simd),
            4 => self.multiply::<S, 6, 2, 2>(simd),
            _ => self.multiply::<S, 2, 1, 8>(simd),
        }
    }
}

impl Gemm<'_> {
    /// Tiles of `R`, `H` or 1 rows by `V` vectors, which make one panel.
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const H: usize, const V: usize>(mut self, simd: S) {
        let rows = self.a.starts.len();
        for panel in 0..self.b.columns / self.b.width {
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    left if left >= R => self.tile::<S, R, V>(simd, panel, row),
                    left if left >= H => self.tile::<S, H, V>(simd, panel, row),
                    _ => self.tile::<S, 1, V>(simd, panel, row),
                };
            }
        }
    }

    /// `R` rows from `row` by one panel; returns `R`.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, panel: usize, row: usize) -> usize {
        let Rows { data, starts, run, stride } = self.a;
        let width = self.b.width;
        let (b, _) = S::as_simd_f32s(self.b.panel(panel, self.matrix));
        let starts: &[usize; R] = starts[row..].first_chunk().expect("R rows are left");
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for segment in 0..self.b.depth / run {
            let mut rows = [data; R];
            for r in 0..R {
                rows[r] = &data[starts[r] + segment * stride..][..run];
            }
            multiply_rows(simd, &rows, &b[segment * run * V..][..run * V], &mut sums);
        }
        let c_starts: &[usize; R] = self.c_starts[row..].first_chunk().expect("each row has its place in c");
        for r in 0..R {
            let c = vectors_mut::<S, V>(&mut self.c[c_starts[r] + panel * width..]);
            for v in 0..V {
                c[v] = if self.add { simd.add_f32s(c[v], sums[r][v]) } else { sums[r][v] };
            }
        }
        if let Some(moments) = self.moments.as_deref_mut() {
            let (first, second) = moments.split_at_mut(self.b.columns);
            let first = vectors_mut::<S, V>(&mut first[panel * width..]);
            let second = vectors_mut::<S, V>(&mut second[panel * width..]);
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

/// Steps along the depth that [`multiply_rows`] unrolls, so that it checks lengths once for all of them.
const STEPS: usize = 8;

/// `sums[r] += rows[r] b`: `rows` are `R` rows of the same length, `b` has `V` vectors for each of their values.
#[inline(always)]
pub fn multiply_rows<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[&[f32]; R],
    b: &[S::f32s],
    sums: &mut [[S::f32s; V]; R],
) {
    let depth = rows[0].len();
    let whole = depth / STEPS * STEPS;
    let mut k = 0;
    while k < whole {
        multiply_steps::<S, R, V, STEPS>(simd, rows, k, &b[k * V..], sums);
        k += STEPS;
    }
    while k < depth {
        multiply_steps::<S, R, V, 1>(simd, rows, k, &b[k * V..], sums);
        k += 1;
    }
}

/// `T` steps of [`multiply_rows`], from step `k`.
#[inline(always)]
fn multiply_steps<S: Simd, const R: usize, const V: usize, const T: usize>(
    simd: S,
    rows: &[&[f32]; R],
    k: usize,
    b: &[S::f32s],
    sums: &mut [[S::f32s; V]; R],
) {
    let (b, _) = b[..T * V].as_chunks::<V>();
    let mut values = [&[0f32; T]; R];
    for r in 0..R {
        values[r] = rows[r][k..].first_chunk().expect("T steps are left");
    }
    for t in 0..T {
        for r in 0..R {
            multiply_add(simd, values[r][t], &b[t], &mut sums[r]);
        }
    }
}

/// Rows of a tile of [`GemmTransposed`].
pub const TILE_ROWS: usize = 8;

/// Rows `from..to` of `c += a^T d`, `[to - from, columns]`.
pub struct GemmTransposed<'a> {
    pub a: Rows<'a>,
    pub d: &'a [f32],
    /// Where each row of `d` starts.
    pub d_starts: &'a [usize],
    pub columns: usize,
    pub from: usize,
    pub to: usize,
    pub c: &'a mut [f32],
}

impl WithSimd for GemmTransposed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.multiply::<S, TILE_ROWS, 2>(simd),
            8 => self.multiply::<S, 4, 2>(simd),
            4 => self.multiply::<S, 4, 2>(simd),
            _ => self.multiply::<S, 2, 8>(simd),
        }
    }
}

impl GemmTransposed<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const R: usize, const V: usize>(mut self, simd: S) {
        let (run, width) = (self.a.run, V * S::F32_LANES);
        let mut row = self.from;
        while row < self.to {
            // The rows of a tile are neighbours in one run.
            let left = (run - row % run).min(self.to - row);
            for column in (0..self.columns).step_by(width) {
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
        let Rows { data, starts, run, stride } = self.a;
        let data = &data[row / run * stride + row % run..];
        let d = &self.d[column..];
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (start, d_start) in starts.iter().zip(self.d_starts) {
            let a: &[f32; R] = data[*start..].first_chunk().expect("a row lies within the data");
            let d = vectors::<S, V>(&d[*d_start..]);
            for r in 0..R {
                multiply_add(simd, a[r], d, &mut sums[r]);
            }
        }
        for r in 0..R {
            let c = vectors_mut::<S, V>(&mut self.c[(row - self.from + r) * self.columns + column..]);
            for v in 0..V {
                c[v] = simd.add_f32s(c[v], sums[r][v]);
            }
        }
    }
}
