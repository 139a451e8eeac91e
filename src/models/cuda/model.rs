//! A network on a CUDA device.

use super::arrays::{Arrays, Targets, Trained, Work, fault};
use crate::error::{Error, Result};
use crate::models::model::{Batch, Inference, Model, Objective, Pixels, StateArray, Step};
use crate::models::output::{logits, softmax, step, weighted};
use crate::nn::cuda::{self, Coming, Floats, Gpu, Sent};
use dfdx::tensor::CudaError;

/// An architecture on a CUDA device.
pub trait Network {
    /// Name in messages.
    const NAME: &'static str;
    /// Inputs of the last layer.
    const WIDTH: usize;
    /// Weight and bias of the last layer.
    fn last(&self) -> [Trained; 2];

    /// The logits of a batch whose images are on the device, to come; writes the gradients of all arrays. `keys` are
    /// those of the images for dropout.
    ///
    /// # Errors
    /// The driver's.
    fn pass(&self, gpu: &Gpu, images: u64, targets: &Targets, keys: &[u64]) -> cuda::Result<Logits>;

    /// The inputs of the last layer, `[n, WIDTH]`, in a prediction of `n` images.
    ///
    /// # Errors
    /// The driver's.
    fn features(&self, gpu: &Gpu, images: u64, n: usize) -> cuda::Result<Floats>;
}

/// The logits of a batch, to come.
pub struct Logits {
    pub values: Coming,
    /// What the device may still read until then.
    pub keys: Option<Sent<u64>>,
}

/// Images that are predicted at once.
const PREDICTED: usize = 32;

/// A network with its arrays and its device.
pub struct OnCuda<N> {
    pub network: N,
    pub size: usize,
    pub arrays: Arrays,
    pub gpu: Gpu,
}

impl<N: Network> OnCuda<N> {
    /// The features of `n` images in a prediction. While the device computes some, the next are copied to it.
    fn features(&self, x: &[f32], n: usize) -> cuda::Result<Vec<f32>> {
        let (gpu, each) = (&self.gpu, self.size * self.size * 3);
        self.arrays.store(gpu)?;
        let upload = |x: &[f32]| Ok::<_, CudaError>((gpu.upload_images(gpu.staged(x))?, x.len() / each));
        let mut features = Vec::with_capacity(n * N::WIDTH);
        let mut chunks = x.chunks(PREDICTED * each);
        let mut next = chunks.next().map(upload).transpose()?;
        while let Some((images, n)) = next {
            let some = self.network.features(gpu, images, n)?;
            let coming = gpu.fetch(some.at(), n * N::WIDTH)?;
            next = chunks.next().map(upload).transpose()?;
            features.extend(coming.wait()?);
        }
        Ok(features)
    }

    /// Asks for all work of a step.
    fn enqueue(
        &self,
        images: u64,
        labels: &[usize],
        keys: &[u64],
        objective: Objective,
        t: u64,
        learning_rate: f64,
    ) -> cuda::Result<Logits> {
        let targets = Targets::new(&self.gpu, labels, objective)?;
        self.arrays.store(&self.gpu)?;
        let logits = self.network.pass(&self.gpu, images, &targets, keys)?;
        self.arrays.update(&self.gpu, t, learning_rate)?;
        Ok(logits)
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
        // All work is asked for before the logits are waited for. So the weights are updated also where the loss is not
        // finite, which ends the training.
        let logits = self.enqueue(images, labels, keys, objective, t, learning_rate).map_err(failed)?;
        let Logits { values, keys: _keys } = logits;
        let logits = values.wait().map_err(failed)?;
        let (loss, _) = weighted(&logits, logits.len() / labels.len(), labels, objective);
        step(N::NAME, t, learning_rate, loss, &logits, labels)
    }

    fn infer(&self, x: &[f32], n: usize) -> Result<Inference> {
        let failed = |error| self.fault(Work::Predict, error);
        let [weight, bias] = self.network.last().map(|array| self.gpu.download(array.value, array.len));
        let (weight, bias) = (weight.map_err(failed)?, bias.map_err(failed)?);
        let features = self.features(x, n).map_err(failed)?;
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
