//! Kernels for CUDA devices, on dfdx's device: what [`super::kernel`] is for the CPU.
//!
//! dfdx provides the device; the layers are kernels in `kernels.cu` and cuBLAS's matrix products. dfdx's operations
//! would ask for so many launches and copies that the device waits for the host. The driver keeps memory that is freed,
//! so that a step takes what the last one left. A step asks for all of its work before it waits for the logits, so that
//! the device never waits. All work but the copy
//! of images is in one stream, and no kernel adds with atomic operations: the same device gives the same bytes again.

pub mod driver;
mod gpu;
mod ops;

pub use gpu::{Activations, Coming, DropoutArgument, Floats, Gpu, Pinned, Result, Sent, Stored, offset};
pub use ops::{Codes, NormArrays};
