//! The large linear layer of W-Net with operands that are rounded to bf16: [`linear`](super::linear()) and its
//! backward pass on the weight of `f32` values, and a weight that is packed once, for prediction.

use super::adam::AdamStep;
use super::bf16::{
    BLOCK, PACKED_STEP, Packed, Rows, STEP, Segment, Sums, aligned, aligned_start, pack_pairs, packed_position, round,
};
use super::bf16_product::Blocks;
use super::dropout::BatchDropout;
use super::linear::{PANEL, ROWS, TiledWeight, activate};
use super::prefetch::prefetch;
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::cell::RefCell;

/// Steps of the products along a slab's rows.
const STEPS: usize = ROWS / STEP;
/// Values of a slab by 32 columns.
const PAIR: usize = ROWS * BLOCK;

thread_local! {
    /// Rounded parts of the weight.
    static ROUNDED: RefCell<Vec<u16>> = const { RefCell::new(Vec::new()) };
}

/// Rounded values, of which the first stands where a cache line starts.
struct Rounded {
    values: Vec<u16>,
}

impl Rounded {
    fn new(len: usize) -> Self {
        let mut values = Vec::new();
        aligned(&mut values, len);
        Self { values }
    }

    fn values(&self) -> &[u16] {
        &self.values[aligned_start(&self.values)..]
    }

    fn values_mut(&mut self, len: usize) -> &mut [u16] {
        aligned(&mut self.values, len)
    }
}

/// `x`, `[n, inputs]`, in slabs of 64 inputs: `[inputs / 64, n.next_multiple_of(32), 64]`, with zeros below.
fn slabs(vector: Vector, x: &[f32], n: usize, inputs: usize) -> Rounded {
    let padded = n.next_multiple_of(BLOCK);
    let mut rows = Rounded::new(padded * inputs);
    rows.values_mut(padded * inputs).par_chunks_mut(padded * ROWS).enumerate().for_each(|(slab, out)| {
        for (image, out) in out.chunks_exact_mut(ROWS).take(n).enumerate() {
            vector.run(Round { from: &x[image * inputs + slab * ROWS..][..ROWS], to: out });
        }
    });
    rows
}

struct Round<'a> {
    from: &'a [f32],
    to: &'a mut [u16],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        round(self.from, self.to);
    }
}

/// `y = dropout(relu(x W + bias))`: `x` is `[n, inputs]`, `y` `[n, outputs]`, and where it is 0, it has no gradient.
pub fn forward(
    vector: Vector,
    weight: &TiledWeight,
    x: &[f32],
    n: usize,
    bias: &[f32],
    dropout: Option<BatchDropout>,
    y: &mut [f32],
) {
    let pieces = products(vector, weight, x, n);
    let blocks = n.div_ceil(BLOCK);
    y.par_chunks_mut(weight.outputs).enumerate().for_each(|(image, y)| {
        for (pair, y) in y.chunks_exact_mut(BLOCK).enumerate() {
            let mut total = [0f32; BLOCK];
            for piece in &pieces {
                let sums = &piece[pair * blocks + image / BLOCK].0[image % BLOCK * BLOCK..][..BLOCK];
                total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
            }
            for (l, (y, sum)) in y.iter_mut().zip(total).enumerate() {
                let out = pair * BLOCK + l;
                *y = activate(sum + bias[out], dropout, image, out);
            }
        }
    });
}

/// `x W` in pieces of the inputs, whose sums are apart: of each, `[outputs / 32, n / 32]` blocks.
fn products(vector: Vector, weight: &TiledWeight, x: &[f32], n: usize) -> Vec<Vec<Sums>> {
    // Each piece reads consecutive slabs of the weight; the number of pieces depends on the weight's shape alone.
    let per = (weight.inputs / ROWS).div_ceil(16);
    let (pairs, blocks) = (weight.outputs / BLOCK, n.div_ceil(BLOCK));
    let rows = slabs(vector, x, n, weight.inputs);
    let slab = blocks * BLOCK * ROWS;
    weight
        .value
        .par_chunks(per * ROWS * weight.outputs)
        .enumerate()
        .map(|(piece, tiles)| {
            let unit = Blocks::new(vector);
            let x = &rows.values()[piece * per * slab..];
            let own = tiles.len() / (ROWS * weight.outputs);
            let mut sums = vec![Sums::ZERO; pairs * blocks];
            let segments: Vec<Segment> = (0..own).map(|s| Segment { a: s * slab, b: s * PAIR }).collect();
            ROUNDED.with_borrow_mut(|packed| {
                let packed = aligned(packed, own * PAIR);
                for (pair, sums) in sums.chunks_exact_mut(blocks).enumerate() {
                    for (s, packed) in packed.chunks_exact_mut(PAIR).enumerate() {
                        let at = s * ROWS * weight.outputs + pair * PAIR;
                        // The same columns of the next slab, or the next columns of the first.
                        let next = if s + 1 < own { at + ROWS * weight.outputs } else { (pair + 1) * PAIR };
                        let ahead = tiles.get(next..next + PAIR).unwrap_or_default();
                        vector.run(PackTiles { tiles: &tiles[at..][..PAIR], ahead, packed });
                    }
                    for (block, sums) in sums.iter_mut().enumerate() {
                        unit.multiply(
                            Rows::new(&x[block * BLOCK * ROWS..], ROWS),
                            packed,
                            &segments,
                            STEPS,
                            sums,
                            false,
                        );
                    }
                }
            });
            sums
        })
        .collect()
}

/// Two neighbouring tiles of the weight, packed.
struct PackTiles<'a> {
    /// `[2, 64, 16]`
    tiles: &'a [f32],
    /// What will be read next.
    ahead: &'a [f32],
    packed: &'a mut [u16],
}

impl WithSimd for PackTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { tiles, ahead, packed } = self;
        let mut ahead = ahead.chunks_exact(PANEL);
        for (tile, values) in tiles.chunks_exact(ROWS * PANEL).enumerate() {
            for (pair, rows) in values.as_chunks::<{ 2 * PANEL }>().0.iter().enumerate() {
                ahead.by_ref().take(2).for_each(prefetch);
                let (even, odd) = rows.split_at(PANEL);
                let rows = [even, odd].map(|row| row.first_chunk().expect("rows of 16"));
                pack_pairs(rows[0], rows[1], &mut packed[packed_position(2 * pair, tile * PANEL)..]);
            }
        }
    }
}

/// See [`linear_backward`](super::linear_backward); here `x` is `[n, inputs]`, and the result `[n, inputs]`.
pub fn backward(
    vector: Vector,
    weight: &mut TiledWeight,
    x: &[f32],
    n: usize,
    dz: &[f32],
    adam: Option<AdamStep>,
    gradient: Option<&mut [f32]>,
) -> Vec<f32> {
    let TiledWeight { inputs, outputs, value, m, v } = weight;
    let (inputs, outputs) = (*inputs, *outputs);
    let blocks = n.div_ceil(BLOCK);
    // dz for both products: its columns by 32 outputs over the images, and its transpose by 32 images over the outputs.
    let over_images = Packed::from_rows(vector, [1, n, outputs], |_, image| &dz[image * outputs..][..outputs]);
    let over_outputs = Packed::from_columns(vector, [1, outputs, n], |_, image| &dz[image * outputs..][..outputs]);
    let mut dx = vec![0f32; n * inputs];
    let slab = ROWS * outputs;
    // [slabs] of [blocks of images, 2 blocks of rows]
    let work = |i: usize, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &mut [f32]| -> Vec<Sums> {
        let unit = Blocks::new(vector);
        let mut dx = vec![Sums::ZERO; 2 * blocks];
        let mut sums = Sums::ZERO;
        ROUNDED.with_borrow_mut(|rounded| {
            let images = over_images.steps * STEP;
            let (rows, xt) = aligned(rounded, PAIR + ROWS * images).split_at_mut(PAIR);
            xt.fill(0);
            for image in 0..n {
                let mut own = [0u16; ROWS];
                vector.run(Round { from: &x[image * inputs + i * ROWS..][..ROWS], to: &mut own });
                for (xt, x) in xt[image..].iter_mut().step_by(images).zip(own) {
                    *xt = x;
                }
            }
            let segment = [Segment { a: 0, b: 0 }];
            for pair in 0..outputs / BLOCK {
                vector.run(RowsOfTiles { tiles: &w[pair * PAIR..][..PAIR], rows });
                for (block, dx) in dx.chunks_exact_mut(2).enumerate() {
                    for (half, dx) in dx.iter_mut().enumerate() {
                        let (rows, dz) =
                            (&rows[half * BLOCK * BLOCK..], &over_outputs.panel(block)[pair * PACKED_STEP..]);
                        unit.multiply(Rows::new(rows, BLOCK), dz, &segment, 1, dx, true);
                    }
                }
                for half in 0..2 {
                    let xt = Rows::new(&xt[half * BLOCK * images..], images);
                    unit.multiply(xt, over_images.panel(pair), &segment, over_images.steps, &mut sums, false);
                    let span = pair * PAIR..(pair + 1) * PAIR;
                    let sums = &sums.0;
                    match adam {
                        Some(adam) => {
                            let [w, m, v] = [&mut *w, &mut *m, &mut *v].map(|values| &mut values[span.start..]);
                            vector.run(Update { adam, half, sums, w, m, v });
                        }
                        None => {
                            for (r, sums) in sums.chunks_exact(BLOCK).enumerate() {
                                for (tile, sums) in sums.chunks_exact(PANEL).enumerate() {
                                    let at = span.start + (tile * ROWS + half * BLOCK + r) * PANEL;
                                    g[at..][..PANEL].copy_from_slice(sums);
                                }
                            }
                        }
                    }
                }
            }
        });
        dx
    };
    let all = value.par_chunks_mut(slab).zip(m.par_chunks_mut(slab)).zip(v.par_chunks_mut(slab)).enumerate();
    let parts: Vec<Vec<Sums>> = match gradient {
        Some(gradient) => {
            all.zip(gradient.par_chunks_mut(slab)).map(|((i, ((w, m), v)), g)| work(i, w, m, v, g)).collect()
        }
        None => all.map(|(i, ((w, m), v))| work(i, w, m, v, &mut [])).collect(),
    };
    // Some images at a time, so that a slab's part is read while it is in the cache.
    dx.par_chunks_mut(8 * inputs).enumerate().for_each(|(group, dx)| {
        for (slab, part) in parts.iter().enumerate() {
            for (k, dx) in dx.chunks_exact_mut(inputs).enumerate() {
                let image = 8 * group + k;
                for (r, dx) in dx[slab * ROWS..][..ROWS].iter_mut().enumerate() {
                    *dx = part[image / BLOCK * 2 + r / BLOCK].0[r % BLOCK * BLOCK + image % BLOCK];
                }
            }
        }
    });
    dx
}

/// The rows of two neighbouring tiles, rounded: `[2, 64, 16]` → `[64, 32]`.
struct RowsOfTiles<'a> {
    tiles: &'a [f32],
    rows: &'a mut [u16],
}

impl WithSimd for RowsOfTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut rounded = [0u16; ROWS * PANEL];
        for (tile, values) in self.tiles.chunks_exact(ROWS * PANEL).enumerate() {
            round(values, &mut rounded);
            for (r, values) in rounded.chunks_exact(PANEL).enumerate() {
                self.rows[r * BLOCK + tile * PANEL..][..PANEL].copy_from_slice(values);
            }
        }
    }
}

/// Updates half of the rows of two neighbouring tiles.
struct Update<'a> {
    adam: AdamStep,
    half: usize,
    /// The gradient: `[32, 32]`.
    sums: &'a [f32; BLOCK * BLOCK],
    /// The tiles, and the rest of their slab.
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { adam, half, sums, w, m, v } = self;
        for tile in 0..2 {
            for r in 0..BLOCK {
                let at = (tile * ROWS + half * BLOCK + r) * PANEL;
                // The same row of the next tiles.
                for values in [&w, &m, &v] {
                    values.get(at + PAIR..at + PAIR + PANEL).into_iter().for_each(prefetch);
                }
                let (g, _) = S::as_simd_f32s(&sums[r * BLOCK + tile * PANEL..][..PANEL]);
                let (w, _) = S::as_mut_simd_f32s(&mut w[at..][..PANEL]);
                let (m, _) = S::as_mut_simd_f32s(&mut m[at..][..PANEL]);
                let (v, _) = S::as_mut_simd_f32s(&mut v[at..][..PANEL]);
                for k in 0..g.len() {
                    adam.apply_simd(simd, &mut w[k], &mut m[k], &mut v[k], g[k]);
                }
            }
        }
    }
}

/// The weight rounded and packed once, for prediction.
pub struct PackedWeight {
    /// `[outputs / 32, inputs / 64, 64 * 32]`
    values: Rounded,
    inputs: usize,
    outputs: usize,
}

impl PackedWeight {
    pub fn new(vector: Vector, weight: &TiledWeight) -> Self {
        let (inputs, outputs) = (weight.inputs, weight.outputs);
        let mut values = Rounded::new(inputs * outputs);
        values.values_mut(inputs * outputs).par_chunks_mut(PAIR).enumerate().for_each(|(i, packed)| {
            let (pair, slab) = (i / (inputs / ROWS), i % (inputs / ROWS));
            let tiles = &weight.value[slab * ROWS * outputs + pair * PAIR..][..PAIR];
            vector.run(PackTiles { tiles, ahead: &[], packed });
        });
        Self { values, inputs, outputs }
    }

    /// `relu(x W + bias)`, `[n, outputs]`; `x` is `[n, inputs]`.
    pub fn linear(&self, vector: Vector, x: &[f32], n: usize, bias: &[f32]) -> Vec<f32> {
        let rows = slabs(vector, x, n, self.inputs);
        let (blocks, count) = (n.div_ceil(BLOCK), self.inputs / ROWS);
        let slab = blocks * BLOCK * ROWS;
        let segments: Vec<Segment> = (0..count).map(|s| Segment { a: s * slab, b: s * PAIR }).collect();
        let pairs: Vec<Vec<Sums>> = (0..self.outputs / BLOCK)
            .into_par_iter()
            .map(|pair| {
                let (unit, mut sums) = (Blocks::new(vector), vec![Sums::ZERO; blocks]);
                let packed = &self.values.values()[pair * count * PAIR..][..count * PAIR];
                for (block, sums) in sums.iter_mut().enumerate() {
                    unit.multiply(
                        Rows::new(&rows.values()[block * BLOCK * ROWS..], ROWS),
                        packed,
                        &segments,
                        STEPS,
                        sums,
                        false,
                    );
                }
                sums
            })
            .collect();
        let mut y = vec![0.0; n * self.outputs];
        for (image, y) in y.chunks_exact_mut(self.outputs).enumerate() {
            for ((y, bias), sums) in y.chunks_exact_mut(BLOCK).zip(bias.chunks_exact(BLOCK)).zip(&pairs) {
                let sums = &sums[image / BLOCK].0[image % BLOCK * BLOCK..][..BLOCK];
                for ((y, bias), sum) in y.iter_mut().zip(bias).zip(sums) {
                    *y = (sum + bias).max(0.0);
                }
            }
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernel::bf16::testing::{assert_close, rounded};
    use crate::nn::kernel::{IMAGES, linear, linear_backward, transpose};
    use crate::nn::testing::random;

    /// With operands that rounding does not change, all results are those of the layer in `f32`.
    #[test]
    fn results_equal_those_of_rounded_operands_in_f32() {
        for n in [1, 5, 33, 40] {
            let (inputs, outputs) = (192, 64);
            let mut weight = TiledWeight::zeros(inputs, outputs);
            TiledWeight::set_rows(outputs, &mut weight.value, &rounded(inputs * outputs, 1));
            let (x, dz) = (rounded(n * inputs, 2), rounded(n * outputs, 3));
            let bias = random(outputs, 4);
            let keys: Vec<u64> = (0..n as u64).collect();
            let dropout = BatchDropout { dropout: super::super::Dropout { p: 0.3 }, keys: &keys };
            let (padded, vector) = (n.next_multiple_of(IMAGES), Vector::detect());
            let xt = transpose(n, inputs, padded, &x);
            let mut expected = vec![0.0; n * outputs];
            linear(vector, &weight, &xt, n, &bias, Some(dropout), &mut expected);
            let (mut expected_gradient, mut updated) = (vec![0.0; inputs * outputs], weight.clone());
            let dxt = linear_backward(vector, &mut updated, &xt, n, &dz, None, Some(&mut expected_gradient));
            let expected_dx: Vec<f32> = (0..n * inputs).map(|i| dxt[i % inputs * padded + i / inputs]).collect();
            let adam = AdamStep { rate: 0.01, beta1: 0.9, beta2: 0.999, second: 1.0, epsilon: 1e-3 };
            linear_backward(vector, &mut updated, &xt, n, &dz, Some(adam), None);
            let mut bytes: Option<Vec<f32>> = None;
            for vector in Vector::available() {
                let what = |name: &str| format!("{name} of {n} images, {vector:?}");
                let mut y = vec![0.0; n * outputs];
                forward(vector, &weight, &x, n, &bias, Some(dropout), &mut y);
                assert_close(&what("y"), &expected, &y);
                assert_eq!(*bytes.get_or_insert_with(|| y.clone()), y, "{}", what("the bytes of y"));
                let mut gradient = vec![0.0; inputs * outputs];
                let mut own = weight.clone();
                let dx = backward(vector, &mut own, &x, n, &dz, None, Some(&mut gradient));
                assert_close(&what("dx"), &expected_dx, &dx);
                assert_close(&what("dw"), &expected_gradient, &gradient);
                assert_eq!(backward(vector, &mut own, &x, n, &dz, Some(adam), None), dx, "{}", what("dx"));
                assert_close(&what("w"), &updated.value, &own.value);
                assert_close(&what("v"), &updated.v, &own.v);
                let mut plain = vec![0.0; n * outputs];
                forward(vector, &weight, &x, n, &bias, None, &mut plain);
                let packed = PackedWeight::new(vector, &weight).linear(vector, &x, n, &bias);
                assert_close(&what("y by the packed weight"), &plain, &packed);
            }
        }
    }
}
