//! A network on a CUDA device.

use super::arrays::{Arrays, Trained, Work, fault};
use crate::error::{Error, Result};
use crate::models::model::{Batch, Inference, Model, Objective, Pixels, StateArray, Step};
use crate::models::output::{logits, softmax, step};
use crate::nn::cuda::{self, Floats, Gpu};
use dfdx::tensor::CudaError;

/// A batch without its images.
pub struct Targets<'a> {
    pub labels: &'a [usize],
    pub keys: &'a [u64],
    pub objective: Objective<'a>,
}

/// An architecture on a CUDA device.
pub trait Network {
    /// Name in messages.
    const NAME: &'static str;
    /// Inputs of the last layer.
    const WIDTH: usize;
    /// Images that are predicted at once.
    const PREDICTED: usize;

    /// Weight and bias of the last layer.
    fn last(&self) -> [Trained; 2];

    /// Loss and logits of a batch whose images are on the device; writes the gradients of all arrays.
    ///
    /// # Errors
    /// The driver's.
    fn pass(&self, gpu: &Gpu, images: u64, targets: &Targets) -> cuda::Result<(f32, Vec<f32>)>;

    /// The inputs of the last layer, `[n, WIDTH]`, in a prediction of `n` images.
    ///
    /// # Errors
    /// The driver's.
    fn features(&self, gpu: &Gpu, images: u64, n: usize) -> cuda::Result<Floats>;
}

/// A network with its arrays and its device.
pub struct OnCuda<N> {
    pub network: N,
    pub size: usize,
    pub arrays: Arrays,
    pub gpu: Gpu,
}

impl<N: Network> OnCuda<N> {
    /// The features of images in a prediction.
    fn features(&self, x: &[f32], n: usize) -> cuda::Result<Vec<f32>> {
        let images = self.gpu.upload_images(Box::new(x.to_vec()))?;
        let features = self.network.features(&self.gpu, images, n)?;
        self.gpu.download(features.at(), n * N::WIDTH)
    }

    /// The error of work that failed; waits for what the device still does with the images.
    fn fault(&self, work: Work, error: CudaError) -> Error {
        let _ = self.gpu.wait();
        fault(N::NAME, work, error)
    }
}

impl<N: Network> Model for OnCuda<N> {
    fn size_px(&self) -> usize {
        self.size
    }

    fn pixels(&self, len: usize) -> Result<Pixels> {
        // Where the system locks no memory, the driver copies from any.
        Ok(self.gpu.pinned(len).map_or_else(|_| vec![0.0; len].into(), Pixels::from))
    }

    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step> {
        let Batch { x, labels, keys, objective } = batch;
        let failed = |error| self.fault(Work::Step(labels.len()), error);
        let images = self.gpu.upload_images(Box::new(x)).map_err(failed)?;
        let targets = Targets { labels, keys, objective };
        let (loss, logits) = self.network.pass(&self.gpu, images, &targets).map_err(failed)?;
        let step = step(N::NAME, t, learning_rate, loss, &logits, labels)?;
        self.arrays.update(&self.gpu, t, learning_rate).map_err(failed)?;
        Ok(step)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inference> {
        let failed = |error| self.fault(Work::Predict, error);
        let [weight, bias] = self.network.last().map(|array| self.gpu.download(array.value, array.len));
        let (weight, bias) = (weight.map_err(failed)?, bias.map_err(failed)?);
        let each = self.size * self.size * 3;
        let mut features = Vec::with_capacity(n * N::WIDTH);
        for x in x.chunks(N::PREDICTED * each) {
            features.extend(self.features(x, x.len() / each).map_err(failed)?);
        }
        let probabilities = logits(&features, N::WIDTH, &weight, &bias).iter().map(|l| softmax(l)).collect();
        Ok(Inference { probabilities, features, width: N::WIDTH })
    }

    fn check(&self) -> Result<()> {
        self.gpu.wait().map_err(|error| fault(N::NAME, Work::Build, error))
    }

    fn state(&self, moments: bool) -> Vec<StateArray<'_>> {
        self.arrays.state(&self.gpu, moments)
    }

    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()> {
        self.arrays.load(&self.gpu, moments, take)
    }

    fn parameters(&self) -> usize {
        self.arrays.parameters()
    }
}
