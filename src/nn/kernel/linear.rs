//! The large linear layer of W-Net, whose weight has 67 MB. The backward pass reads it once: while a tile is in the
//! cache, it adds to the gradient of the input, its own gradient is computed in registers, and Adam updates it.

use super::adam::AdamStep;
use super::dropout::BatchDropout;
use super::prefetch::prefetch;
use super::simd::{multiply_add, vectors, vectors_mut};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Rows of a tile of the weight.
pub(super) const ROWS: usize = 64;

/// Columns of a tile of the weight.
pub(super) const PANEL: usize = 16;

/// Batches are padded to a multiple of this many images.
pub const IMAGES: usize = 16;

/// How many tiles ahead of the current one the forward pass prefetches.
const AHEAD: usize = 4;

/// The weight `[inputs, outputs]` of a linear layer and Adam's moments, in tiles of 64 x 16:
/// `[inputs / 64, outputs / 16, 64, 16]`.
#[derive(Clone, Debug, PartialEq)]
pub struct TiledWeight {
    /// Number of inputs, a multiple of 64.
    pub inputs: usize,
    /// Number of outputs, a multiple of 16.
    pub outputs: usize,
    /// The weight.
    pub value: Vec<f32>,
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
}

impl TiledWeight {
    /// A weight of zeros.
    ///
    /// # Panics
    /// Where `inputs` is not a multiple of 64 or `outputs` not a multiple of 16.
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        assert!(inputs.is_multiple_of(ROWS) && outputs.is_multiple_of(PANEL));
        let zeros = || vec![0.0; inputs * outputs];
        Self { inputs, outputs, value: zeros(), m: zeros(), v: zeros() }
    }

    /// `tiles`, an array in this weight's order, as the bytes of a row-major `[inputs, outputs]`.
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

    /// Writes a row-major `[inputs, outputs]` to `tiles`, an array of the same length in a weight's order.
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

/// `[rows, columns]` → `[columns, padded]`, with zeros from column `rows`.
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

/// `y = dropout(relu(x W + bias))`.
///
/// `xt` is the transposed input, `[inputs, n.next_multiple_of(IMAGES)]`; `y` is `[n, outputs]`, and where it is 0, it
/// has no gradient.
pub fn linear(
    vector: Vector,
    weight: &TiledWeight,
    xt: &[f32],
    n: usize,
    bias: &[f32],
    dropout: Option<BatchDropout>,
    y: &mut [f32],
) {
    // Each piece reads consecutive slabs of the weight; the number of pieces depends on the weight's shape alone.
    let (slabs, panels) = (weight.inputs / ROWS, weight.outputs / PANEL);
    let per = slabs.div_ceil(16);
    let padded = n.next_multiple_of(IMAGES);
    // [pieces, panels, n, PANEL]
    let sums: Vec<Vec<f32>> = weight
        .value
        .par_chunks(per * ROWS * weight.outputs)
        .zip(xt.par_chunks(per * ROWS * padded))
        .map(|(tiles, xt)| {
            let mut sums = vec![0f32; panels * n * PANEL];
            vector.run(Forward { tiles, outputs: weight.outputs, xt, n, sums: &mut sums });
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
                *y = activate(sum + bias[out], dropout, image, out);
            }
        }
    });
}

/// `dropout(relu(value))`, where `value` is output `out` of an image.
#[inline(always)]
pub(super) fn activate(value: f32, dropout: Option<BatchDropout>, image: usize, out: usize) -> f32 {
    let (kept, scale) = match dropout {
        Some(d) => (d.dropout.keeps(d.keys[image], out), d.dropout.scale()),
        None => (true, 1.0),
    };
    if value > 0.0 && kept { value * scale } else { 0.0 }
}

struct Forward<'a> {
    /// Slabs of the weight: `[slabs, outputs / PANEL, ROWS, PANEL]`.
    tiles: &'a [f32],
    outputs: usize,
    /// The inputs of the slabs: `[slabs, ROWS, padded]`.
    xt: &'a [f32],
    n: usize,
    /// `[outputs / PANEL, n, PANEL]`: the products are added to it.
    sums: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.panels::<S, 1>(simd),
            8 => self.panels::<S, 2>(simd),
            4 => self.panels::<S, 4>(simd),
            _ => self.panels::<S, 16>(simd),
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn panels<S: Simd, const V: usize>(self, simd: S) {
        let padded = self.n.next_multiple_of(IMAGES);
        let mut ahead = self.tiles.chunks_exact(ROWS * PANEL).skip(AHEAD);
        for (slab, xt) in self.tiles.chunks_exact(ROWS * self.outputs).zip(self.xt.chunks_exact(ROWS * padded)) {
            for (tile, sums) in slab.chunks_exact(ROWS * PANEL).zip(self.sums.chunks_exact_mut(self.n * PANEL)) {
                // The first images prefetch the whole tile.
                let mut ahead = ahead.next().unwrap_or_default();
                let (tile, _) = S::as_simd_f32s(tile);
                let (sums, _) = S::as_mut_simd_f32s(sums);
                let mut image = 0;
                while image < self.n {
                    image += match self.n - image {
                        // Enough sums to hide the latency of the arithmetic, but no more than fit in registers.
                        16.. if V == 1 => images::<S, V, 16>(simd, tile, xt, padded, image, sums, ahead),
                        8.. if V == 1 => images::<S, V, 8>(simd, tile, xt, padded, image, sums, ahead),
                        1 => images::<S, V, 1>(simd, tile, xt, padded, image, sums, ahead),
                        2 => images::<S, V, 2>(simd, tile, xt, padded, image, sums, ahead),
                        3 => images::<S, V, 3>(simd, tile, xt, padded, image, sums, ahead),
                        5 => images::<S, V, 5>(simd, tile, xt, padded, image, sums, ahead),
                        _ => images::<S, V, 4>(simd, tile, xt, padded, image, sums, ahead),
                    };
                    ahead = &[];
                }
            }
        }
    }
}

/// Multiplies `I` images from `first` by one tile of the weight and prefetches the tile `ahead` row by row; returns
/// `I`.
#[inline(always)]
fn images<S: Simd, const V: usize, const I: usize>(
    simd: S,
    tile: &[S::f32s],
    xt: &[f32],
    padded: usize,
    first: usize,
    sums: &mut [S::f32s],
    ahead: &[f32],
) -> usize {
    let sums = &mut sums[first * V..][..I * V];
    let mut acc = [[simd.splat_f32s(0.0); V]; I];
    acc.as_flattened_mut().copy_from_slice(sums);
    for (row, (w, x)) in tile.as_chunks::<V>().0.iter().zip(xt.chunks_exact(padded)).enumerate() {
        ahead.get(row * PANEL..(row + 1) * PANEL).into_iter().for_each(prefetch);
        let x: &[f32; I] = x[first..].first_chunk().expect("I images are left");
        for i in 0..I {
            multiply_add(simd, x[i], w, &mut acc[i]);
        }
    }
    sums.copy_from_slice(acc.as_flattened());
    I
}

/// Backward pass of [`linear`], from the gradient `dz` before ReLU and dropout (`[n, outputs]`, 0 where `y` is 0).
/// Returns the gradient of the input, transposed: `[inputs, n.next_multiple_of(IMAGES)]`.
///
/// With `adam`, each tile of the weight is updated as soon as its gradient is known, and the gradient is not stored.
/// Without, the weight stays as it is and `gradient` receives the gradient, in the order of the weight.
pub fn linear_backward(
    vector: Vector,
    weight: &mut TiledWeight,
    xt: &[f32],
    n: usize,
    dz: &[f32],
    adam: Option<AdamStep>,
    gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    let (outputs, padded) = (weight.outputs, n.next_multiple_of(IMAGES));
    // dz in two orders: [panels, n, PANEL] and [panels, padded / IMAGES, PANEL, IMAGES].
    let panels = outputs / PANEL;
    let mut by_image = vec![0f32; panels * n * PANEL];
    let mut by_output = vec![0f32; panels * PANEL * padded];
    for (image, dz) in dz.chunks_exact(outputs).enumerate() {
        for (out, d) in dz.iter().enumerate() {
            by_image[(out / PANEL * n + image) * PANEL + out % PANEL] = *d;
            by_output[((out / PANEL * padded + image) / IMAGES * PANEL + out % PANEL) * IMAGES + image % IMAGES] = *d;
        }
    }
    let mut dxt = vec![0f32; weight.inputs * padded];
    let slab = ROWS * outputs;
    let work = |w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &mut [f32], xt: &[f32], dxt: &mut [f32]| {
        let (by_image, by_output) = (by_image.as_slice(), by_output.as_slice());
        vector.run(Backward { n, w, m, v, g, xt, dxt, by_image, by_output, adam });
    };
    let TiledWeight { value, m, v, .. } = weight;
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

/// Backward pass of one slab of the weight.
struct Backward<'a> {
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

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.slab::<S, 1, 1, 8>(simd),
            8 => self.slab::<S, 2, 2, 4>(simd),
            4 => self.slab::<S, 4, 4, 2>(simd),
            _ => self.slab::<S, 16, 16, 1>(simd),
        }
    }
}

impl Backward<'_> {
    /// `V` vectors make a panel, `L` vectors a block of [`IMAGES`] images; `R` rows of the weight at a time.
    #[inline(always)]
    fn slab<S: Simd, const V: usize, const L: usize, const R: usize>(mut self, simd: S) {
        for panel in 0..self.w.len() / (ROWS * PANEL) {
            self.input_gradient::<S, L, R>(simd, panel);
            for row in (0..ROWS).step_by(R) {
                self.weight_gradient::<S, V, R>(simd, panel, row);
            }
        }
    }

    /// `dxt[row, images] += sum over the outputs of w[row, output] * dz[output, images]` for one tile.
    #[inline(always)]
    fn input_gradient<S: Simd, const L: usize, const R: usize>(&mut self, simd: S, panel: usize) {
        let padded = self.n.next_multiple_of(IMAGES);
        let w = &self.w[panel * ROWS * PANEL..][..ROWS * PANEL];
        let dz = &self.by_output[panel * PANEL * padded..][..PANEL * padded];
        for (w, dxt) in w.chunks_exact(R * PANEL).zip(self.dxt.chunks_exact_mut(R * padded)) {
            let mut rows = [&w[..0]; R];
            for r in 0..R {
                rows[r] = &w[r * PANEL..][..PANEL];
            }
            for (block, dz) in dz.chunks_exact(PANEL * IMAGES).enumerate() {
                let mut sums = [[simd.splat_f32s(0.0); L]; R];
                for r in 0..R {
                    sums[r] = *vectors::<S, L>(&dxt[r * padded + block * IMAGES..]);
                }
                multiply_short_rows(simd, &rows, S::as_simd_f32s(dz).0, &mut sums);
                for r in 0..R {
                    *vectors_mut::<S, L>(&mut dxt[r * padded + block * IMAGES..]) = sums[r];
                }
            }
        }
    }

    /// The gradient of rows `row..row + R` of a tile, the sum over the images of `x[row, image] * dz[image, outputs]`,
    /// and their update.
    #[inline(always)]
    fn weight_gradient<S: Simd, const V: usize, const R: usize>(&mut self, simd: S, panel: usize, row: usize) {
        let (n, padded, tile) = (self.n, self.n.next_multiple_of(IMAGES), ROWS * PANEL);
        // The same rows of the next tile.
        let next = (panel + 1) * tile + row * PANEL..(panel + 1) * tile + (row + R) * PANEL;
        for values in [&self.w, &self.m, &self.v] {
            values.get(next.clone()).into_iter().for_each(prefetch);
        }
        let mut rows = [&self.xt[..0]; R];
        for r in 0..R {
            rows[r] = &self.xt[(row + r) * padded..][..n];
        }
        let (dz, _) = S::as_simd_f32s(&self.by_image[panel * n * PANEL..][..n * PANEL]);
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        multiply_short_rows(simd, &rows, dz, &mut sums);
        let span = panel * tile + row * PANEL..panel * tile + (row + R) * PANEL;
        match self.adam {
            Some(adam) => {
                let (w, _) = S::as_mut_simd_f32s(&mut self.w[span.clone()]);
                let (m, _) = S::as_mut_simd_f32s(&mut self.m[span.clone()]);
                let (v, _) = S::as_mut_simd_f32s(&mut self.v[span]);
                let gradients = sums.as_flattened();
                for k in 0..R * V {
                    adam.apply_simd(simd, &mut w[k], &mut m[k], &mut v[k], gradients[k]);
                }
            }
            None => S::as_mut_simd_f32s(&mut self.g[span]).0.copy_from_slice(sums.as_flattened()),
        }
    }
}

/// `sums[r] += rows[r] b`, as [`multiply_rows`](super::gemm::multiply_rows), but not unrolled: for rows of few values.
#[inline(always)]
fn multiply_short_rows<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[&[f32]; R],
    b: &[S::f32s],
    sums: &mut [[S::f32s; V]; R],
) {
    for (k, b) in b.as_chunks::<V>().0.iter().enumerate() {
        for r in 0..R {
            multiply_add(simd, rows[r][k], b, &mut sums[r]);
        }
    }
}
