//! Max-pooling and mean-pooling of activations `[n, h, w, c]`, as ResNet uses them.

use super::batch_norm::BatchNorm;
use crate::nn::Vector;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Code of a pooled value that is 0, as no value in its window is positive.
const NO_GRADIENT: u8 = 9;

/// `max_pool_3x3(relu(norm(z)))` with stride 2, padded by 1: `[n, h, w, c]` → `[n, (h + 1) / 2, (w + 1) / 2, c]`.
/// Also returns, for [`max_pool_backward`], which element of its window each value is.
pub fn max_pool(vector: Vector, z: &[f32], norm: &BatchNorm, h: usize, w: usize) -> (Vec<f32>, Vec<u8>) {
    let c = norm.scale.len();
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    let n = z.len() / (h * w * c);
    let (mut y, mut codes) = (vec![0f32; n * oh * ow * c], vec![0u8; n * oh * ow * c]);
    y.par_chunks_mut(ow * c).zip(codes.par_chunks_mut(ow * c)).enumerate().for_each(|(row, (y, codes))| {
        let (image, row) = (row / oh, row % oh);
        let z = &z[image * h * w * c..][..h * w * c];
        vector.run(MaxPool { z, norm, h, w, row, y, codes });
    });
    (y, codes)
}

/// One row of pooled values.
struct MaxPool<'a> {
    z: &'a [f32],
    norm: &'a BatchNorm,
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
        let (scale, shift) = self.norm.affine();
        let c = scale.len();
        for (column, (y, codes)) in self.y.chunks_exact_mut(c).zip(self.codes.chunks_exact_mut(c)).enumerate() {
            // ReLU's results are at least 0.
            y.fill(0.0);
            codes.fill(NO_GRADIENT);
            for code in 0..9u8 {
                let (row, column) = (2 * self.row + usize::from(code) / 3, 2 * column + usize::from(code) % 3);
                if !(1..=self.h).contains(&row) || !(1..=self.w).contains(&column) {
                    continue;
                }
                let z = &self.z[((row - 1) * self.w + column - 1) * c..][..c];
                for k in 0..c {
                    let value = scale[k] * z[k] + shift[k];
                    let larger = value > y[k];
                    y[k] = if larger { value } else { y[k] };
                    codes[k] = if larger { code } else { codes[k] };
                }
            }
        }
    }
}

/// Backward pass of [`max_pool`] and its ReLU: the gradient of the normalised values, `[n, h, w, c]`.
pub fn max_pool_backward(dy: &[f32], codes: &[u8], c: usize, h: usize, w: usize) -> Vec<f32> {
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    let n = dy.len() / (oh * ow * c);
    let mut dx = vec![0f32; n * h * w * c];
    let images = dx.par_chunks_mut(h * w * c).zip(dy.par_chunks(oh * ow * c)).zip(codes.par_chunks(oh * ow * c));
    images.for_each(|((dx, dy), codes)| {
        for (pixel, (dy, codes)) in dy.chunks_exact(c).zip(codes.chunks_exact(c)).enumerate() {
            for (k, (dy, code)) in dy.iter().zip(codes).enumerate() {
                if *code < NO_GRADIENT {
                    let y = 2 * (pixel / ow) + usize::from(*code) / 3 - 1;
                    let x = 2 * (pixel % ow) + usize::from(*code) % 3 - 1;
                    dx[(y * w + x) * c + k] += dy;
                }
            }
        }
    });
    dx
}

/// Mean over the pixels of each image: `[n, pixels, c]` → `[n, c]`.
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

/// Backward pass of [`mean_pool`]: `[n, c]` → `[n, pixels, c]`.
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
    use crate::nn::testing::random;

    #[test]
    fn pooling_equals_its_definition() {
        let (n, h, w, c) = (2, 5, 6, 3);
        let z = random(n * h * w * c, 1);
        let norm = BatchNorm { scale: random(c, 2), shift: random(c, 3), ..Default::default() };
        let activated = |i: usize| (norm.scale[i % c] * z[i] + norm.shift[i % c]).max(0.0);
        for vector in Vector::available() {
            let (y, codes) = max_pool(vector, &z, &norm, h, w);
            let (oh, ow) = (3, 3);
            let dy = random(y.len(), 4);
            let dx = max_pool_backward(&dy, &codes, c, h, w);
            let mut expected = vec![0.0; z.len()];
            for at in 0..y.len() {
                let (image, pixel, k) = (at / (oh * ow * c), at / c % (oh * ow), at % c);
                let (oy, ox) = (pixel / ow, pixel % ow);
                let (mut largest, mut position) = (0.0, None);
                for (ty, tx) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
                    let (sy, sx) = ((2 * oy + ty).wrapping_sub(1), (2 * ox + tx).wrapping_sub(1));
                    if sy < h && sx < w {
                        let i = ((image * h + sy) * w + sx) * c + k;
                        if activated(i) > largest {
                            (largest, position) = (activated(i), Some(i));
                        }
                    }
                }
                assert!((y[at] - largest).abs() < 1e-6);
                if let Some(i) = position {
                    expected[i] += dy[at];
                }
            }
            assert!(dx.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6));
            let means = mean_pool(&z, h * w, c);
            let mean = (0..h * w).map(|p| z[p * c + 1]).sum::<f32>() / (h * w) as f32;
            assert!((means[1] - mean).abs() < 1e-5);
            assert!((mean_pool_backward(&means, h * w, c)[4] - means[1] / (h * w) as f32).abs() < 1e-7);
        }
    }
}
