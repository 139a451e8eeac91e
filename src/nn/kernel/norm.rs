//! What stands between ResNet's convolutions: batch normalisation (Ioffe and Szegedy 2015), ReLU, shortcuts, pooling.
//!
//! Activations are `[n, pixels, c]`. A normalisation is two numbers a channel, `scale * z + shift`; sums over a batch are
//! taken picture by picture and then in the pictures' order, in double precision.

use super::Vector;
use super::convolution::Input;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// A batch normalisation, as it acts on one batch (or, in prediction, on all).
#[derive(Clone, Debug, Default)]
pub struct Normal {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// The batch's mean and 1 / deviation a channel.
    pub mean: Vec<f32>,
    pub inverse: Vec<f32>,
}

impl Normal {
    /// `gamma * (z - mean) / sqrt(variance + epsilon) + beta`.
    pub fn new(gamma: &[f32], beta: &[f32], mean: Vec<f32>, variance: &[f32], epsilon: f32) -> Self {
        let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift = beta.iter().zip(&scale).zip(&mean).map(|((b, s), m)| b - s * m).collect();
        Self { scale, shift, mean, inverse }
    }

    /// `z`, normalised, and what is negative cut off.
    pub fn relu<'a>(&'a self, z: &'a [f32]) -> Input<'a> {
        Input::Normed { z, scale: &self.scale, shift: &self.shift }
    }
}

/// Mean and (biased) variance a channel from each picture's sums and sums of squares (`[n, 2, c]`) over `count` values.
pub fn moments(sums: &[f32], c: usize, count: usize) -> (Vec<f32>, Vec<f32>) {
    let mut totals = vec![0f64; 2 * c];
    for picture in sums.chunks_exact(2 * c) {
        for (total, sum) in totals.iter_mut().zip(picture) {
            *total += f64::from(*sum);
        }
    }
    let means: Vec<f64> = totals[..c].iter().map(|s| s / count as f64).collect();
    let variance = |(square, mean): (&f64, &f64)| ((square / count as f64 - mean * mean).max(0.0)) as f32;
    let variances = totals[c..].iter().zip(&means).map(variance).collect();
    (means.iter().map(|m| *m as f32).collect(), variances)
}

/// Backward of a normalisation, and of the ReLU behind it where there is one.
///
/// `dy` (the gradient of what comes out) becomes the gradient of `z`; returns those of gamma and beta.
pub fn backward(
    vector: Vector,
    normal: &Normal,
    relu: bool,
    z: &[f32],
    dy: &mut [f32],
    pixels: usize,
) -> [Vec<f32>; 2] {
    let c = normal.scale.len();
    let count = (z.len() / c) as f64;
    let parts: Vec<Vec<f32>> = dy
        .par_chunks_mut(pixels * c)
        .zip(z.par_chunks(pixels * c))
        .map(|(dy, z)| {
            let mut sums = vec![0f32; 2 * c];
            vector.run(Reduce { normal, relu, z, dy, sums: &mut sums });
            sums
        })
        .collect();
    let mut totals = vec![0f64; 2 * c];
    for part in &parts {
        for (total, sum) in totals.iter_mut().zip(part) {
            *total += f64::from(*sum);
        }
    }
    let (mut gamma, mut beta, mut slope, mut offset) = (vec![0f32; c], vec![0f32; c], vec![0f32; c], vec![0f32; c]);
    for k in 0..c {
        let (mean, inverse, scale) =
            (f64::from(normal.mean[k]), f64::from(normal.inverse[k]), f64::from(normal.scale[k]));
        let (sum, dot) = (totals[k], totals[c + k]);
        let to_gamma = inverse * (dot - mean * sum);
        // dz = scale * (dy - mean of dy - z's normalised value * mean of (dy * it)).
        slope[k] = (-scale * inverse * to_gamma / count) as f32;
        offset[k] = (scale * (mean * inverse * to_gamma - sum) / count) as f32;
        (gamma[k], beta[k]) = (to_gamma as f32, sum as f32);
    }
    dy.par_chunks_mut(pixels * c).zip(z.par_chunks(pixels * c)).for_each(|(dy, z)| {
        vector.run(Apply { scale: &normal.scale, slope: &slope, offset: &offset, z, dy });
    });
    [gamma, beta]
}

/// Sums of `dy` and of `dy * z` a channel of one picture; with `relu`, `dy` loses what ReLU cut off.
struct Reduce<'a> {
    normal: &'a Normal,
    relu: bool,
    z: &'a [f32],
    dy: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let c = self.normal.scale.len();
        let (scale, shift) = (&self.normal.scale[..c], &self.normal.shift[..c]);
        let (sum, dot) = self.sums.split_at_mut(c);
        for (dy, z) in self.dy.chunks_exact_mut(c).zip(self.z.chunks_exact(c)) {
            if self.relu {
                for k in 0..c {
                    dy[k] = if scale[k] * z[k] + shift[k] > 0.0 { dy[k] } else { 0.0 };
                }
            }
            for k in 0..c {
                sum[k] += dy[k];
                dot[k] += dy[k] * z[k];
            }
        }
    }
}

/// `dy = scale * dy + slope * z + offset`.
struct Apply<'a> {
    scale: &'a [f32],
    slope: &'a [f32],
    offset: &'a [f32],
    z: &'a [f32],
    dy: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let c = self.scale.len();
        let (scale, slope, offset) = (&self.scale[..c], &self.slope[..c], &self.offset[..c]);
        for (dy, z) in self.dy.chunks_exact_mut(c).zip(self.z.chunks_exact(c)) {
            for k in 0..c {
                dy[k] = scale[k] * dy[k] + slope[k] * z[k] + offset[k];
            }
        }
    }
}

/// The other way round a block.
#[derive(Clone, Copy)]
pub enum Shortcut<'a> {
    /// The block's input.
    Same(&'a [f32]),
    /// The input, convolved, and here normalised.
    Normed(&'a [f32], &'a Normal),
}

/// `relu(normal(z) + shortcut)`.
pub fn join(vector: Vector, z: &[f32], normal: &Normal, shortcut: Shortcut) -> Vec<f32> {
    let c = normal.scale.len();
    let mut out = vec![0.0; z.len()];
    let piece = c * 64;
    out.par_chunks_mut(piece).enumerate().for_each(|(i, out)| {
        let part =
            |values: &'_ [f32]| -> std::ops::Range<usize> { i * piece..(i * piece + out.len()).min(values.len()) };
        let z = &z[part(z)];
        let (other, other_normal) = match shortcut {
            Shortcut::Same(x) => (&x[part(x)], None),
            Shortcut::Normed(z, normal) => (&z[part(z)], Some(normal)),
        };
        vector.run(Join { z, normal, other, other_normal, out });
    });
    out
}

struct Join<'a> {
    z: &'a [f32],
    normal: &'a Normal,
    other: &'a [f32],
    other_normal: Option<&'a Normal>,
    out: &'a mut [f32],
}

impl WithSimd for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let c = self.normal.scale.len();
        let (scale, shift) = (&self.normal.scale[..c], &self.normal.shift[..c]);
        let rows = self.out.chunks_exact_mut(c).zip(self.z.chunks_exact(c)).zip(self.other.chunks_exact(c));
        match self.other_normal {
            None => {
                for ((out, z), x) in rows {
                    for k in 0..c {
                        out[k] = (scale[k] * z[k] + shift[k] + x[k]).max(0.0);
                    }
                }
            }
            Some(normal) => {
                let (other_scale, other_shift) = (&normal.scale[..c], &normal.shift[..c]);
                for ((out, z), x) in rows {
                    for k in 0..c {
                        out[k] = (scale[k] * z[k] + shift[k] + other_scale[k] * x[k] + other_shift[k]).max(0.0);
                    }
                }
            }
        }
    }
}

/// Takes away the gradient where ReLU's result was 0.
pub fn mask(d: &mut [f32], out: &[f32]) {
    d.par_chunks_mut(1 << 14).zip(out.par_chunks(1 << 14)).for_each(|(d, out)| {
        for (d, out) in d.iter_mut().zip(out) {
            *d = if *out > 0.0 { *d } else { 0.0 };
        }
    });
}

/// `max_pool_3x3(relu(normal(z)))` of stride 2, padded by 1: `[n, h, w, c]` → `[n, (h+1)/2, (w+1)/2, c]`; and for each value,
/// which of the nine it was.
pub fn max_pool(vector: Vector, z: &[f32], normal: &Normal, h: usize, w: usize) -> (Vec<f32>, Vec<u8>) {
    let c = normal.scale.len();
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    let n = z.len() / (h * w * c);
    let (mut y, mut codes) = (vec![0f32; n * oh * ow * c], vec![0u8; n * oh * ow * c]);
    y.par_chunks_mut(ow * c).zip(codes.par_chunks_mut(ow * c)).enumerate().for_each(|(row, (y, codes))| {
        let (image, row) = (row / oh, row % oh);
        let z = &z[image * h * w * c..][..h * w * c];
        vector.run(MaxPool { z, normal, h, w, row, y, codes });
    });
    (y, codes)
}

/// One row.
struct MaxPool<'a> {
    z: &'a [f32],
    normal: &'a Normal,
    h: usize,
    w: usize,
    row: usize,
    y: &'a mut [f32],
    codes: &'a mut [u8],
}

impl WithSimd for MaxPool<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let c = self.normal.scale.len();
        let (scale, shift) = (&self.normal.scale[..c], &self.normal.shift[..c]);
        for (column, (y, codes)) in self.y.chunks_exact_mut(c).zip(self.codes.chunks_exact_mut(c)).enumerate() {
            // Nothing is below 0 behind ReLU; 9 says that none was above.
            y.fill(0.0);
            codes.fill(9);
            for tap in 0..9u8 {
                let at = (2 * self.row + usize::from(tap) / 3, 2 * column + usize::from(tap) % 3);
                if !(1..=self.h).contains(&at.0) || !(1..=self.w).contains(&at.1) {
                    continue;
                }
                let z = &self.z[((at.0 - 1) * self.w + at.1 - 1) * c..][..c];
                for k in 0..c {
                    let value = scale[k] * z[k] + shift[k];
                    let wins = value > y[k];
                    y[k] = if wins { value } else { y[k] };
                    codes[k] = if wins { tap } else { codes[k] };
                }
            }
        }
    }
}

/// Backward of [`max_pool`] (to its input, before normalisation and ReLU): `[n, h, w, c]`.
pub fn max_pool_backward(dy: &[f32], codes: &[u8], c: usize, h: usize, w: usize) -> Vec<f32> {
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    let n = dy.len() / (oh * ow * c);
    let mut dx = vec![0f32; n * h * w * c];
    let images = dx.par_chunks_mut(h * w * c).zip(dy.par_chunks(oh * ow * c)).zip(codes.par_chunks(oh * ow * c));
    images.for_each(|((dx, dy), codes)| {
        for (pixel, (dy, codes)) in dy.chunks_exact(c).zip(codes.chunks_exact(c)).enumerate() {
            for (k, (dy, code)) in dy.iter().zip(codes).enumerate() {
                if *code < 9 {
                    let y = 2 * (pixel / ow) + usize::from(*code) / 3 - 1;
                    let x = 2 * (pixel % ow) + usize::from(*code) % 3 - 1;
                    dx[(y * w + x) * c + k] += dy;
                }
            }
        }
    });
    dx
}

/// Mean over a picture's pixels: `[n, pixels, c]` → `[n, c]`.
pub fn mean_pool(x: &[f32], pixels: usize, c: usize) -> Vec<f32> {
    let mut means = vec![0f32; x.len() / pixels];
    means.par_chunks_mut(c).zip(x.par_chunks(pixels * c)).for_each(|(means, x)| {
        for x in x.chunks_exact(c) {
            for (mean, x) in means.iter_mut().zip(x) {
                *mean += x;
            }
        }
        means.iter_mut().for_each(|m| *m /= pixels as f32);
    });
    means
}

/// Backward of [`mean_pool`].
pub fn mean_pool_backward(dy: &[f32], pixels: usize, c: usize) -> Vec<f32> {
    let mut dx = vec![0f32; dy.len() * pixels];
    dx.par_chunks_mut(pixels * c).zip(dy.par_chunks(c)).for_each(|(dx, dy)| {
        for dx in dx.chunks_exact_mut(c) {
            for (dx, dy) in dx.iter_mut().zip(dy) {
                *dx = dy / pixels as f32;
            }
        }
    });
    dx
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::drawn;

    /// `sum(weigh * relu(batch_norm(z)))` in double precision.
    fn loss(z: &[f64], gamma: &[f64], beta: &[f64], weigh: &[f32], relu: bool) -> f64 {
        let c = gamma.len();
        let rows = (z.len() / c) as f64;
        let mut total = 0.0;
        for k in 0..c {
            let column: Vec<f64> = z.iter().skip(k).step_by(c).copied().collect();
            let mean = column.iter().sum::<f64>() / rows;
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / rows;
            for (i, v) in column.iter().enumerate() {
                let y = gamma[k] * (v - mean) / (variance + 1e-5).sqrt() + beta[k];
                total += f64::from(weigh[i * c + k]) * if relu { y.max(0.0) } else { y };
            }
        }
        total
    }

    #[test]
    fn a_normalisations_gradients_are_those_of_finite_differences() {
        let (n, pixels, c) = (3, 5, 4);
        let (z, gamma, beta, weigh) = (drawn(n * pixels * c, 1), drawn(c, 2), drawn(c, 3), drawn(n * pixels * c, 4));
        let double = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let leaves = [double(&z), double(&gamma), double(&beta)];
        for vector in Vector::every() {
            for relu in [false, true] {
                let sums: Vec<f32> = (z.chunks_exact(pixels * c))
                    .flat_map(|z| {
                        let sum =
                            |f: fn(f32) -> f32| (0..c).map(move |k| z.iter().skip(k).step_by(c).map(|v| f(*v)).sum());
                        sum(|v| v).chain(sum(|v| v * v)).collect::<Vec<f32>>()
                    })
                    .collect();
                let (mean, variance) = moments(&sums, c, n * pixels);
                let normal = Normal::new(&gamma, &beta, mean, &variance, 1e-5);
                let mut dz = weigh.clone();
                let [dgamma, dbeta] = backward(vector, &normal, relu, &z, &mut dz, pixels);
                for (leaf, found) in [dz, dgamma, dbeta].iter().enumerate() {
                    for (i, found) in found.iter().enumerate() {
                        let moved = |by: f64| {
                            let mut leaves = leaves.clone();
                            leaves[leaf][i] += by;
                            loss(&leaves[0], &leaves[1], &leaves[2], &weigh, relu)
                        };
                        let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                        assert!(
                            (numeric - f64::from(*found)).abs() < 1e-3,
                            "{leaf}[{i}], {relu}: {numeric} and {found}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn pools_and_joins_are_their_definition() {
        let (n, h, w, c) = (2, 5, 6, 3);
        let z = drawn(n * h * w * c, 1);
        let normal = Normal { scale: drawn(c, 2), shift: drawn(c, 3), ..Default::default() };
        let act = |i: usize| (normal.scale[i % c] * z[i] + normal.shift[i % c]).max(0.0);
        for vector in Vector::every() {
            let (y, codes) = max_pool(vector, &z, &normal, h, w);
            let (oh, ow) = (3, 3);
            let dy = drawn(y.len(), 4);
            let dx = max_pool_backward(&dy, &codes, c, h, w);
            let mut expected = vec![0.0; z.len()];
            for at in 0..y.len() {
                let (image, pixel, k) = (at / (oh * ow * c), at / c % (oh * ow), at % c);
                let (oy, ox) = (pixel / ow, pixel % ow);
                let (mut best, mut place) = (0.0, None);
                for (ty, tx) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
                    let (sy, sx) = ((2 * oy + ty).wrapping_sub(1), (2 * ox + tx).wrapping_sub(1));
                    if sy < h && sx < w {
                        let i = ((image * h + sy) * w + sx) * c + k;
                        if act(i) > best {
                            (best, place) = (act(i), Some(i));
                        }
                    }
                }
                assert!((y[at] - best).abs() < 1e-6);
                if let Some(i) = place {
                    expected[i] += dy[at];
                }
            }
            assert!(dx.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
            let x = drawn(z.len(), 5);
            let other = Normal { scale: drawn(c, 6), shift: drawn(c, 7), ..Default::default() };
            for (i, out) in join(vector, &z, &normal, Shortcut::Normed(&x, &other)).iter().enumerate() {
                let k = i % c;
                let sum = normal.scale[k] * z[i] + normal.shift[k] + other.scale[k] * x[i] + other.shift[k];
                assert!((out - sum.max(0.0)).abs() < 1e-5);
            }
            let means = mean_pool(&z, h * w, c);
            let mean = (0..h * w).map(|p| z[p * c + 1]).sum::<f32>() / (h * w) as f32;
            assert!((means[1] - mean).abs() < 1e-5);
            assert!((mean_pool_backward(&means, h * w, c)[4] - means[1] / (h * w) as f32).abs() < 1e-7);
        }
    }
}
