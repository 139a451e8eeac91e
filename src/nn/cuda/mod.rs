//! Kernels for CUDA devices, on dfdx's device: what [`super::kernel`] is for the CPU.
//!
//! dfdx provides the device; the layers are kernels in `kernels.cu` and cuBLAS's matrix products. dfdx's operations
//! would ask for so many launches and copies that the device waits for the host. The driver keeps memory that is freed,
//! so that a step takes what the last one left; a step waits for the device once, for the logits. All work but the copy
//! of images is in one stream, and no kernel adds with atomic operations: the same device gives the same bytes again.

pub mod driver;
mod gpu;
mod ops;

pub use gpu::{DropoutArgument, Floats, Gpu, Pinned, Result, Sent, offset};
pub use ops::{Codes, NormArrays};
