//! The large linear layer, whose weight (67 MB in W-Net) is walked once backward: each tile makes its share of the
//! input's gradient, then its own gradient in registers, then Adam's update, while it is in the cache.

use super::{Dropout, PANEL, Vector, read_ahead};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Rows a tile of the linear layer's weight.
pub const ROWS: usize = 64;

/// Adam's numbers for one step (Kingma and Ba 2015); `rate` already holds the bias correction of the first moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate / (1 - beta1^t)
    pub rate: f32,
    pub beta1: f32,
    pub beta2: f32,
    /// 1 / (1 - beta2^t)
    pub second: f32,
    pub epsilon: f32,
}

impl AdamStep {
    /// One parameter's update.
    #[inline(always)]
    pub fn apply(&self, value: &mut f32, m: &mut f32, v: &mut f32, gradient: f32) {
        *m = self.beta1 * *m + (1.0 - self.beta1) * gradient;
        *v = self.beta2 * *v + (1.0 - self.beta2) * gradient * gradient;
        *value -= self.rate * *m / ((*v * self.second).sqrt() + self.epsilon);
    }
}

/// A linear layer's weight and what Adam keeps for it, `[inputs, outputs]` cut into tiles of
/// [`ROWS`] x [`PANEL`]: `[inputs / ROWS, outputs / PANEL, ROWS, PANEL]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiled {
    pub inputs: usize,
    pub outputs: usize,
    pub value: Vec<f32>,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
}

impl Tiled {
    /// Zero everywhere. `inputs` and `outputs` are multiples of [`ROWS`] and [`PANEL`].
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        assert!(inputs.is_multiple_of(ROWS) && outputs.is_multiple_of(PANEL));
        let zeros = || vec![0.0; inputs * outputs];
        Self { inputs, outputs, value: zeros(), m: zeros(), v: zeros() }
    }

    /// Tiles → row-major `[inputs, outputs]`, as bytes.
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

    /// Row-major `[inputs, outputs]` → `tiles`, which are of this weight's length.
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

/// `[rows, columns]` → `[columns, padded]`, zero where `padded` is more than `rows`.
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

/// Tiles between the one in hand and the one that is asked for.
const AHEAD: usize = 4;

/// Images a tile of the linear layer's gradient takes at once: batches are padded to it.
pub const LANES: usize = 16;

/// `y = dropout(relu(x W + bias))`.
///
/// `xt` is the input transposed, `[inputs, n.next_multiple_of(LANES)]`; `y` is `[n, outputs]`. Without gradient is
/// where `y` is 0.
pub fn linear_forward(
    vector: Vector,
    weight: &Tiled,
    xt: &[f32],
    n: usize,
    bias: &[f32],
    dropout: Option<(Dropout, &[u64])>,
    y: &mut [f32],
) {
    // Each piece reads one stretch of the weight; the number of pieces depends on its shape alone.
    let (slabs, panels) = (weight.inputs / ROWS, weight.outputs / PANEL);
    let per = slabs.div_ceil(16);
    let padded = n.next_multiple_of(LANES);
    // [pieces, panels, n, PANEL]
    let sums: Vec<Vec<f32>> = weight
        .value
        .par_chunks(per * ROWS * weight.outputs)
        .zip(xt.par_chunks(per * ROWS * padded))
        .map(|(tiles, xt)| {
            let mut sums = vec![0f32; panels * n * PANEL];
            vector.run(LinearForward { tiles, outputs: weight.outputs, xt, n, sums: &mut sums });
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
                let value = sum + bias[out];
                let (kept, scale) = match dropout {
                    Some((d, keys)) => (d.keeps(keys[image], out), d.scale()),
                    None => (true, 1.0),
                };
                *y = if value > 0.0 && kept { value * scale } else { 0.0 };
            }
        }
    });
}

struct LinearForward<'a> {
    /// Whole slabs of the weight: `[slabs, outputs / PANEL, ROWS, PANEL]`.
    tiles: &'a [f32],
    outputs: usize,
    /// The slabs' inputs.
    xt: &'a [f32],
    n: usize,
    /// `[outputs / PANEL, n, PANEL]`: added onto.
    sums: &'a mut [f32],
}

impl WithSimd for LinearForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.panels::<S, 1>(simd),
            8 => self.panels::<S, 2>(simd),
            4 => self.panels::<S, 4>(simd),
            _ => self.panels::<S, 16>(simd),
        }
    }
}

impl LinearForward<'_> {
    #[inline(always)]
    fn panels<S: Simd, const V: usize>(self, simd: S) {
        let padded = self.n.next_multiple_of(LANES);
        let mut ahead = self.tiles.chunks_exact(ROWS * PANEL).skip(AHEAD);
        for (slab, xt) in self.tiles.chunks_exact(ROWS * self.outputs).zip(self.xt.chunks_exact(ROWS * padded)) {
            for (tile, sums) in slab.chunks_exact(ROWS * PANEL).zip(self.sums.chunks_exact_mut(self.n * PANEL)) {
                // What the first images do not ask for, nobody needs to ask for again.
                let mut ahead = ahead.next().unwrap_or_default();
                let (tile, _) = S::as_simd_f32s(tile);
                let (sums, _) = S::as_mut_simd_f32s(sums);
                let mut image = 0;
                while image < self.n {
                    image += match self.n - image {
                        // As many sums as hide the arithmetic's latency, and still fit into registers.
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

/// `I` images through one tile of the weight, asking for the tile `ahead` row by row; returns `I`.
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
    for (row, (w, x)) in tile.chunks_exact(V).zip(xt.chunks_exact(padded)).enumerate() {
        ahead.get(row * PANEL..(row + 1) * PANEL).into_iter().for_each(read_ahead);
        let x: &[f32; I] = x[first..].first_chunk().expect("images first to first + I");
        for i in 0..I {
            let x = simd.splat_f32s(x[i]);
            for v in 0..V {
                acc[i][v] = simd.mul_add_e_f32s(x, w[v], acc[i][v]);
            }
        }
    }
    for i in 0..I {
        sums[i * V..][..V].copy_from_slice(&acc[i]);
    }
    I
}

/// Backward of [`linear_forward`] from `dz` (`[n, outputs]`: the gradient before ReLU and dropout, 0 where `y` was 0):
/// returns the input's gradient transposed, `[inputs, n.next_multiple_of(LANES)]`.
///
/// With `adam`, every tile of the weight is updated as soon as its gradient is known, which then is nowhere written;
/// without, the weight stays and the gradient goes to `gradient` (tiled like the weight).
pub fn linear_backward(
    vector: Vector,
    weight: &mut Tiled,
    xt: &[f32],
    n: usize,
    dz: &[f32],
    adam: Option<AdamStep>,
    gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    let (outputs, padded) = (weight.outputs, n.next_multiple_of(LANES));
    // The gradient a panel, twice: [panels, n, PANEL] and [panels, padded / LANES, PANEL, LANES].
    let panels = outputs / PANEL;
    let mut by_image = vec![0f32; panels * n * PANEL];
    let mut by_output = vec![0f32; panels * PANEL * padded];
    for (image, dz) in dz.chunks_exact(outputs).enumerate() {
        for (out, d) in dz.iter().enumerate() {
            by_image[(out / PANEL * n + image) * PANEL + out % PANEL] = *d;
            by_output[((out / PANEL * padded + image) / LANES * PANEL + out % PANEL) * LANES + image % LANES] = *d;
        }
    }
    let mut dxt = vec![0f32; weight.inputs * padded];
    let slab = ROWS * outputs;
    let work = |w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &mut [f32], xt: &[f32], dxt: &mut [f32]| {
        let (by_image, by_output) = (by_image.as_slice(), by_output.as_slice());
        vector.run(LinearBackward { n, w, m, v, g, xt, dxt, by_image, by_output, adam });
    };
    let Tiled { value, m, v, .. } = weight;
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

struct LinearBackward<'a> {
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

impl WithSimd for LinearBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match size_of::<S::f32s>() / 4 {
            16 => self.slab::<S, 1, 1, 8>(simd),
            8 => self.slab::<S, 2, 2, 4>(simd),
            4 => self.slab::<S, 4, 4, 2>(simd),
            _ => self.slab::<S, 16, 16, 1>(simd),
        }
    }
}

impl LinearBackward<'_> {
    /// `V` vectors a panel, `L` vectors a block of [`LANES`] images, `R` rows of the weight at once.
    #[inline(always)]
    fn slab<S: Simd, const V: usize, const L: usize, const R: usize>(self, simd: S) {
        let (n, padded, tile) = (self.n, self.n.next_multiple_of(LANES), ROWS * PANEL);
        for panel in 0..self.w.len() / tile {
            let w = &mut self.w[panel * tile..][..tile];
            // The input's gradient: dxt[row, images] += sum over the panel's outputs of w[row, out] * dz[out, images].
            let dz = &self.by_output[panel * PANEL * padded..][..PANEL * padded];
            for (w, dxt) in w.as_chunks::<PANEL>().0.chunks_exact(R).zip(self.dxt.chunks_exact_mut(R * padded)) {
                for (block, dz) in dz.chunks_exact(PANEL * LANES).enumerate() {
                    let mut acc = [[simd.splat_f32s(0.0); L]; R];
                    for r in 0..R {
                        acc[r].copy_from_slice(S::as_simd_f32s(&dxt[r * padded + block * LANES..][..LANES]).0);
                    }
                    let (dz, _) = S::as_simd_f32s(dz);
                    let rows: &[[f32; PANEL]; R] = w.first_chunk().expect("R rows");
                    for (out, d) in dz.as_chunks::<L>().0[..PANEL].iter().enumerate() {
                        for r in 0..R {
                            let w = simd.splat_f32s(rows[r][out]);
                            for l in 0..L {
                                acc[r][l] = simd.mul_add_e_f32s(w, d[l], acc[r][l]);
                            }
                        }
                    }
                    for r in 0..R {
                        let (row, _) = S::as_mut_simd_f32s(&mut dxt[r * padded + block * LANES..][..LANES]);
                        row.copy_from_slice(&acc[r]);
                    }
                }
            }
            // The weight's own gradient, R rows at a time: sum over images of x[row, image] * dz[image, outs].
            let (dz, _) = S::as_simd_f32s(&self.by_image[panel * n * PANEL..][..n * PANEL]);
            for row in (0..ROWS).step_by(R) {
                // These rows of the next tile.
                let next = (panel + 1) * tile + row * PANEL..(panel + 1) * tile + (row + R) * PANEL;
                for values in [&self.w, &self.m, &self.v] {
                    values.get(next.clone()).into_iter().for_each(read_ahead);
                }
                let mut acc = [[simd.splat_f32s(0.0); V]; R];
                let mut x = [&self.xt[..0]; R];
                for (r, x) in x.iter_mut().enumerate() {
                    *x = &self.xt[(row + r) * padded..][..n];
                }
                for (image, d) in dz.chunks_exact(V).enumerate() {
                    for r in 0..R {
                        let x = simd.splat_f32s(x[r][image]);
                        for v in 0..V {
                            acc[r][v] = simd.mul_add_e_f32s(x, d[v], acc[r][v]);
                        }
                    }
                }
                let span = panel * tile + row * PANEL..panel * tile + (row + R) * PANEL;
                match self.adam {
                    Some(adam) => {
                        let (w, _) = S::as_mut_simd_f32s(&mut self.w[span.clone()]);
                        let (m, _) = S::as_mut_simd_f32s(&mut self.m[span.clone()]);
                        let (v, _) = S::as_mut_simd_f32s(&mut self.v[span]);
                        let acc = acc.as_flattened();
                        for k in 0..R * V {
                            adam_vector(simd, adam, &mut w[k], &mut m[k], &mut v[k], acc[k]);
                        }
                    }
                    None => {
                        let (g, _) = S::as_mut_simd_f32s(&mut self.g[span]);
                        g.copy_from_slice(acc.as_flattened());
                    }
                }
            }
        }
    }
}

/// [`AdamStep::apply`] on a vector.
#[inline(always)]
fn adam_vector<S: Simd>(simd: S, adam: AdamStep, w: &mut S::f32s, m: &mut S::f32s, v: &mut S::f32s, g: S::f32s) {
    let splat = |x| simd.splat_f32s(x);
    *m = simd.mul_add_e_f32s(splat(1.0 - adam.beta1), g, simd.mul_f32s(splat(adam.beta1), *m));
    let g2 = simd.mul_f32s(g, g);
    *v = simd.mul_add_e_f32s(splat(1.0 - adam.beta2), g2, simd.mul_f32s(splat(adam.beta2), *v));
    let root = simd.add_f32s(simd.sqrt_f32s(simd.mul_f32s(*v, splat(adam.second))), splat(adam.epsilon));
    *w = simd.sub_f32s(*w, simd.div_f32s(simd.mul_f32s(splat(adam.rate), *m), root));
}
