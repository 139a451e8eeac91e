//! Values for the tests of kernels and models.

use crate::seed;
use rand::Rng;

/// `len` pseudo-random values from -1 to 1; each `item` gives other values.
pub fn random(len: usize, item: u64) -> Vec<f32> {
    let mut rng = seed::rng(7, "test", 0, 0, item);
    (0..len).map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}
