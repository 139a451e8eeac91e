//! Kernels for CUDA devices, on dfdx's device: what [`super::kernel`] is for the CPU.
//!
//! dfdx provides the device, its memory and the tape of a network's last layer. The rest of a network runs on the
//! kernels in `kernels.cu` and on cuBLAS's matrix products. The driver keeps memory that is freed, so that a step takes
//! what the last one left; a step waits for the device once, for the logits.

pub mod driver;
mod gpu;
mod ops;

pub use gpu::{DropoutArgument, Floats, Gpu, Pinned, Result, at, offset};
pub use ops::NormArrays;
