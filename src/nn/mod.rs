//! Layers as operations on dfdx's tape. dfdx 0.13 has no convolution or pooling on stable Rust, so both are ours, twice:
//! [`composed`] from dfdx's public operations, for any device, and [`fused`] on the CPU kernels of [`kernel`].
//! Tests hold the two equal, forward and backward.

pub mod composed;
pub mod fused;
pub mod kernel;
pub mod optim;

/// Activations: images, rows, columns, channels.
pub type Shape4 = (usize, usize, usize, usize);

#[cfg(test)]
mod tests;
