//! Layers as operations on dfdx's tape. dfdx 0.13 has no convolution or pooling on stable Rust, so both are ours, twice:
//! [`composed`] from dfdx's public operations, for any device, and [`fused`] on the CPU kernels of [`kernel`].
//! Tests hold the two equal, forward and backward.

pub mod composed;
pub mod device;
pub mod fused;
pub mod kernel;
pub mod optim;

/// Activations: images, rows, columns, channels.
pub type Shape4 = (usize, usize, usize, usize);

/// Numbers of -1 to 1 for tests; another `item`, others.
#[cfg(test)]
pub(crate) fn drawn(len: usize, item: u64) -> Vec<f32> {
    use rand::Rng;
    let mut rng = crate::seed::rng(7, "test", 0, 0, item);
    (0..len).map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

#[cfg(test)]
mod tests;
