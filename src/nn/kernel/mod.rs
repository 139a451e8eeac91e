//! CPU kernels on slices of `f32`: convolutions, normalisation, pooling and linear layers, forward and backward.
//!
//! Each kernel is one generic function over [`pulp::Simd`], compiled for AVX-512, AVX2 with FMA, NEON and plain Rust;
//! [`Vector`](super::Vector) chooses one of them at run time. Activations are `[n, h, w, c]`. The work is cut into
//! pieces that depend on the shapes alone, and sums are taken in a fixed order, so that the results are the same bytes
//! with any number of threads.

// Inside kernels there are loops over indices: closures and iterator adaptors are not always compiled for the wide
// vectors.
#![allow(clippy::needless_range_loop)]

mod adam;
pub mod batch_norm;
mod bf16;
mod bf16_product;
mod bf16_units;
pub mod conv2d;
pub mod conv2d_bf16;
mod conv2d_shape;
mod conv2d_winograd;
mod conv3x3_block;
pub mod conv3x3_block_bf16;
mod conv3x3_block_shape;
mod conv3x3_inference;
mod dropout;
mod frame;
mod gemm;
mod linear;
pub mod linear_bf16;
pub mod pool;
mod prefetch;
mod rgb_windows;
mod simd;
mod transpose;
pub mod windows;
mod winograd;

pub use adam::AdamStep;
pub use bf16_product::Blocks;
pub use conv2d_shape::Conv2d;
pub use conv3x3_block::{conv3x3_block, conv3x3_block_backward};
pub use conv3x3_block_shape::BlockShape;
pub use conv3x3_inference::{Block, conv3x3_blocks};
pub use dropout::{BatchDropout, Dropout};
pub use frame::Input;
pub use linear::{IMAGES, TiledWeight, linear, linear_backward, transpose};
