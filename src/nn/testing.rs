//! Values for the tests of kernels and models.

use crate::seed;
use rand::Rng;

/// `len` pseudo-random values from -1 to 1; each `item` gives other values.
pub fn random(len: usize, item: u64) -> Vec<f32> {
    let mut rng = seed::rng(7, "test", 0, 0, item);
    (0..len).map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

/// Images whose upper half is of one colour and whose lower half has few grey levels, so that pooling meets equal
/// values: `[n, h, w, c]`.
pub fn half_flat(n: usize, h: usize, w: usize, c: usize) -> Vec<f32> {
    let noise = random(n * h * w * c, 1);
    let value = |(i, v): (usize, &f32)| if i / (w * c) % h < h / 2 { 0.7 } else { (v * 2.0).round() / 2.0 };
    noise.iter().enumerate().map(value).collect()
}
