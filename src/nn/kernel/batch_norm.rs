//! Batch normalisation (Ioffe and Szegedy 2015) with the ReLU and the shortcut after it.
//!
//! Activations are `[n, pixels, c]`. Sums over a batch are taken image by image and then in the order of the images, in
//! double precision.

use super::frame::Input;
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// A batch normalisation, as `scale * z + shift`: by the moments of one batch, or by the running moments.
#[derive(Clone, Debug, Default)]
pub struct BatchNorm {
    /// Factor of each channel.
    pub scale: Vec<f32>,
    /// Summand of each channel.
    pub shift: Vec<f32>,
    /// Mean of each channel.
    pub mean: Vec<f32>,
    /// 1 / standard deviation of each channel.
    pub inverse: Vec<f32>,
}

impl BatchNorm {
    /// `gamma * (z - mean) / sqrt(variance + epsilon) + beta`.
    pub fn new(gamma: &[f32], beta: &[f32], mean: Vec<f32>, variance: &[f32], epsilon: f32) -> Self {
        let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let scale: Vec<f32> = gamma.iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift = beta.iter().zip(&scale).zip(&mean).map(|((b, s), m)| b - s * m).collect();
        Self { scale, shift, mean, inverse }
    }

    /// `relu(scale * z + shift)`, as the input of a convolution.
    pub fn relu<'a>(&'a self, z: &'a [f32]) -> Input<'a> {
        Input::Normalised { z, scale: &self.scale, shift: &self.shift }
    }

    /// Scales and shifts, as slices of the same known length.
    #[inline(always)]
    pub(super) fn affine(&self) -> (&[f32], &[f32]) {
        let c = self.scale.len();
        (&self.scale[..c], &self.shift[..c])
    }
}

/// Sums of the images' values in double precision: `parts` is `[n, width]`, the result `[width]`.
fn totals<'a>(parts: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f64> {
    let mut totals = vec![0f64; width];
    for part in parts {
        for (total, value) in totals.iter_mut().zip(part) {
            *total += f64::from(*value);
        }
    }
    totals
}

/// Mean and (biased) variance of each of `c` channels over `count` values, from each image's sums and sums of squares,
/// `[n, 2, c]`.
pub fn mean_and_variance(moments: &[f32], c: usize, count: usize) -> (Vec<f32>, Vec<f32>) {
    let totals = totals(moments.chunks_exact(2 * c), 2 * c);
    let means: Vec<f64> = totals[..c].iter().map(|s| s / count as f64).collect();
    let variance = |(square, mean): (&f64, &f64)| ((square / count as f64 - mean * mean).max(0.0)) as f32;
    let variances = totals[c..].iter().zip(&means).map(variance).collect();
    (means.iter().map(|m| *m as f32).collect(), variances)
}

/// Backward pass of a normalisation, and with `relu` of the ReLU after it.
///
/// `dy`, the gradient of the output, is replaced by the gradient of `z`. Returns the gradients of gamma and beta.
pub fn backward(
    vector: Vector,
    norm: &BatchNorm,
    relu: bool,
    z: &[f32],
    dy: &mut [f32],
    pixels: usize,
) -> [Vec<f32>; 2] {
    let c = norm.scale.len();
    let count = (z.len() / c) as f64;
    let parts: Vec<Vec<f32>> = dy
        .par_chunks_mut(pixels * c)
        .zip(z.par_chunks(pixels * c))
        .map(|(dy, z)| {
            let mut sums = vec![0f32; 2 * c];
            vector.run(Reduce { norm, relu, z, dy, sums: &mut sums });
            sums
        })
        .collect();
    let totals = totals(parts.iter().map(Vec::as_slice), 2 * c);
    let (mut gamma, mut beta, mut slope, mut offset) = (vec![0f32; c], vec![0f32; c], vec![0f32; c], vec![0f32; c]);
    for k in 0..c {
        let (mean, inverse, scale) = (f64::from(norm.mean[k]), f64::from(norm.inverse[k]), f64::from(norm.scale[k]));
        let (sum, dot) = (totals[k], totals[c + k]);
        let to_gamma = inverse * (dot - mean * sum);
        // With the normalised value x: dz = scale * (dy - mean of dy - x * mean of (dy * x)).
        slope[k] = (-scale * inverse * to_gamma / count) as f32;
        offset[k] = (scale * (mean * inverse * to_gamma - sum) / count) as f32;
        (gamma[k], beta[k]) = (to_gamma as f32, sum as f32);
    }
    dy.par_chunks_mut(pixels * c).zip(z.par_chunks(pixels * c)).for_each(|(dy, z)| {
        vector.run(Apply { scale: &norm.scale, slope: &slope, offset: &offset, z, dy });
    });
    [gamma, beta]
}

/// Sums of `dy` and of `dy * z` of each channel of one image; with `relu`, sets `dy` to 0 where ReLU returned 0.
struct Reduce<'a> {
    norm: &'a BatchNorm,
    relu: bool,
    z: &'a [f32],
    dy: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (scale, shift) = self.norm.affine();
        let c = scale.len();
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

/// The shortcut of a residual block.
#[derive(Clone, Copy)]
pub enum Shortcut<'a> {
    /// The block's input.
    Identity(&'a [f32]),
    /// The result of a convolution of the input, and its normalisation.
    Projection(&'a [f32], &'a BatchNorm),
}

/// `relu(norm(z) + shortcut)`.
pub fn add_shortcut(vector: Vector, z: &[f32], norm: &BatchNorm, shortcut: Shortcut) -> Vec<f32> {
    let mut out = vec![0.0; z.len()];
    let piece = norm.scale.len() * 64;
    out.par_chunks_mut(piece).enumerate().for_each(|(i, out)| {
        let part = i * piece..i * piece + out.len();
        let z = &z[part.clone()];
        let (other, other_norm) = match shortcut {
            Shortcut::Identity(x) => (&x[part], None),
            Shortcut::Projection(z, norm) => (&z[part], Some(norm)),
        };
        vector.run(AddShortcut { z, norm, other, other_norm, out });
    });
    out
}

struct AddShortcut<'a> {
    z: &'a [f32],
    norm: &'a BatchNorm,
    other: &'a [f32],
    other_norm: Option<&'a BatchNorm>,
    out: &'a mut [f32],
}

impl WithSimd for AddShortcut<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (scale, shift) = self.norm.affine();
        let c = scale.len();
        let rows = self.out.chunks_exact_mut(c).zip(self.z.chunks_exact(c)).zip(self.other.chunks_exact(c));
        match self.other_norm {
            None => {
                for ((out, z), x) in rows {
                    for k in 0..c {
                        out[k] = (scale[k] * z[k] + shift[k] + x[k]).max(0.0);
                    }
                }
            }
            Some(norm) => {
                let (other_scale, other_shift) = (&norm.scale[..c], &norm.shift[..c]);
                for ((out, z), x) in rows {
                    for k in 0..c {
                        out[k] = (scale[k] * z[k] + shift[k] + other_scale[k] * x[k] + other_shift[k]).max(0.0);
                    }
                }
            }
        }
    }
}

/// Backward pass of ReLU: sets the gradient `d` to 0 where the output `out` is 0.
pub fn relu_backward(d: &mut [f32], out: &[f32]) {
    d.par_chunks_mut(1 << 14).zip(out.par_chunks(1 << 14)).for_each(|(d, out)| {
        for (d, out) in d.iter_mut().zip(out) {
            *d = if *out > 0.0 { *d } else { 0.0 };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::random;

    /// `sum(weights * relu(batch_norm(z)))` in double precision.
    fn loss(z: &[f64], gamma: &[f64], beta: &[f64], weights: &[f32], relu: bool) -> f64 {
        let c = gamma.len();
        let rows = (z.len() / c) as f64;
        let mut total = 0.0;
        for k in 0..c {
            let column: Vec<f64> = z.iter().skip(k).step_by(c).copied().collect();
            let mean = column.iter().sum::<f64>() / rows;
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / rows;
            for (i, v) in column.iter().enumerate() {
                let y = gamma[k] * (v - mean) / (variance + 1e-5).sqrt() + beta[k];
                total += f64::from(weights[i * c + k]) * if relu { y.max(0.0) } else { y };
            }
        }
        total
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (n, pixels, c) = (3, 5, 4);
        let (z, gamma, beta, weights) =
            (random(n * pixels * c, 1), random(c, 2), random(c, 3), random(n * pixels * c, 4));
        let double = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let inputs = [double(&z), double(&gamma), double(&beta)];
        for vector in Vector::available() {
            for relu in [false, true] {
                let moments: Vec<f32> = (z.chunks_exact(pixels * c))
                    .flat_map(|z| {
                        let sum =
                            |f: fn(f32) -> f32| (0..c).map(move |k| z.iter().skip(k).step_by(c).map(|v| f(*v)).sum());
                        sum(|v| v).chain(sum(|v| v * v)).collect::<Vec<f32>>()
                    })
                    .collect();
                let (mean, variance) = mean_and_variance(&moments, c, n * pixels);
                let norm = BatchNorm::new(&gamma, &beta, mean, &variance, 1e-5);
                let mut dz = weights.clone();
                let [dgamma, dbeta] = backward(vector, &norm, relu, &z, &mut dz, pixels);
                for (input, gradient) in [dz, dgamma, dbeta].iter().enumerate() {
                    for (i, gradient) in gradient.iter().enumerate() {
                        let shifted = |by: f64| {
                            let mut inputs = inputs.clone();
                            inputs[input][i] += by;
                            loss(&inputs[0], &inputs[1], &inputs[2], &weights, relu)
                        };
                        let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                        assert!(
                            (numeric - f64::from(*gradient)).abs() < 1e-3,
                            "input {input}[{i}], relu {relu}: {numeric} and {gradient}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_shortcut_is_normalised_added_and_cut_off_at_0() {
        let (pixels, c) = (60, 3);
        let (x, z) = (random(pixels * c, 5), random(pixels * c, 1));
        let norm = BatchNorm { scale: random(c, 2), shift: random(c, 3), ..Default::default() };
        let other = BatchNorm { scale: random(c, 6), shift: random(c, 7), ..Default::default() };
        for vector in Vector::available() {
            let projection = Shortcut::Projection(&x, &other);
            for (i, out) in add_shortcut(vector, &z, &norm, projection).iter().enumerate() {
                let k = i % c;
                let sum = norm.scale[k] * z[i] + norm.shift[k] + other.scale[k] * x[i] + other.shift[k];
                assert!((out - sum.max(0.0)).abs() < 1e-5);
            }
        }
    }
}
