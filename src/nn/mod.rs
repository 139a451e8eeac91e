//! Layers, devices and optimisers of the networks in [`models`](crate::models).
//!
//! dfdx 0.13 has no convolution or pooling on stable Rust, so this module adds them: `fused`, operations on dfdx's tape
//! by the CPU kernels in `kernel`; `cuda`, kernels for CUDA devices; and `composed`, from dfdx's public operations, for
//! any device. Tests check that all give the same outputs and gradients.

pub(crate) mod composed;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod device;
pub(crate) mod fused;
pub(crate) mod kernel;
pub mod optim;
mod precision;
mod shape;
mod vector;

pub use precision::Precision;
pub(crate) use shape::Nhwc;
pub use vector::Vector;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
