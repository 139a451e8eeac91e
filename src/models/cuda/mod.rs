//! The networks on CUDA devices: W-Net and ResNet50 on the kernels of [`crate::nn::cuda`]. Initial weights, names of
//! arrays and dropout are those of the same networks on the CPU, so that both can load each other's checkpoints.

mod arrays;
mod model;
pub mod resnet50;
pub mod wnet;

use super::spec::Spec;
use crate::error::{Error, Result};
use crate::nn::Precision;
use crate::nn::cuda::{Gpu, driver};

/// Starts CUDA device `ordinal`.
///
/// # Errors
/// [`Error::Setting`] where the machine has no such device, or its driver or cuBLAS cannot be loaded.
fn start(spec: &Spec, ordinal: usize) -> Result<Gpu> {
    let refuse = |why: String| {
        Error::setting("device", "cpu, or a CUDA device that can be used", format!("cuda:{ordinal} ({why})"))
    };
    driver::check(ordinal).map_err(refuse)?;
    // An old driver, or a program for another GPU, cannot load the kernels.
    let help = "update the NVIDIA driver, or build wbc for this GPU (CUDA_COMPUTE_CAP)";
    let gpu = Gpu::new(ordinal, spec.precision).map_err(|error| refuse(format!("{}: {help}", driver::text(&error))))?;
    if spec.precision != Precision::F32 && !gpu.rounds() {
        let name = spec.precision.name();
        return Err(Error::setting("train.precision", "f32, or a GPU of compute capability 8.0 or more", name));
    }
    Ok(gpu)
}
