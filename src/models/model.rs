//! What every model can do, and the values that go in and come out.

use crate::error::Result;
#[cfg(feature = "cuda")]
use crate::nn::cuda::Pinned;
use std::ops::{Deref, DerefMut};

/// The pixels of a batch, in memory that the model reads directly; see [`Model::pixels`].
#[derive(Debug)]
pub struct Pixels(Place);

#[derive(Debug)]
enum Place {
    Heap(Vec<f32>),
    #[cfg(feature = "cuda")]
    Pinned(Pinned),
}

impl From<Vec<f32>> for Pixels {
    fn from(values: Vec<f32>) -> Self {
        Self(Place::Heap(values))
    }
}

#[cfg(feature = "cuda")]
impl From<Pinned> for Pixels {
    fn from(values: Pinned) -> Self {
        Self(Place::Pinned(values))
    }
}

impl Pixels {
    /// The numbers as a vector.
    pub(crate) fn into_vec(self) -> Vec<f32> {
        match self.0 {
            Place::Heap(values) => values,
            #[cfg(feature = "cuda")]
            Place::Pinned(values) => values.to_vec(),
        }
    }
}

impl Deref for Pixels {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Place::Heap(values) => values,
            #[cfg(feature = "cuda")]
            Place::Pinned(values) => values,
        }
    }
}

impl DerefMut for Pixels {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Place::Heap(values) => values,
            #[cfg(feature = "cuda")]
            Place::Pinned(values) => values,
        }
    }
}

/// A batch of `n` images for training.
pub struct Batch<'a> {
    /// Normalised RGB pixels, `[n, size, size, 3]`.
    pub x: Pixels,
    /// Index of each image's class among the run's classes, `n` values.
    pub labels: &'a [usize],
    /// Key of each image's dropout pattern, `n` values: the same key drops the same activations.
    pub keys: &'a [u64],
    /// What the loss weighs.
    pub objective: Objective<'a>,
}

/// What the loss of a batch weighs besides its images; by default nothing, which gives the mean cross-entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objective<'a> {
    /// Weight of each image in the mean, `n` values; empty for equal weights.
    pub weights: &'a [f32],
    /// The focal loss with this exponent, 0 or above, instead of cross-entropy (Lin et al. 2017, "Focal loss for dense
    /// object detection").
    pub focal_gamma: Option<f32>,
}

/// Result of one training step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Loss of the batch before the update, in nats: the mean cross-entropy, or what [`Objective`] makes of it.
    pub loss: f32,
    /// Number of images whose class the model predicted correctly before the update.
    pub correct: usize,
}

/// Output of a model for `n` images.
#[derive(Clone, Debug, Default)]
pub struct Inference {
    /// Probability of each class for each image, in the order of the run's classes; each row sums to 1.
    pub probabilities: Vec<Vec<f32>>,
    /// Input of the last layer, `[n, width]`.
    pub features: Vec<f32>,
    /// Number of features per image.
    pub width: usize,
}

/// A named array of a model's state.
pub struct StateArray<'a> {
    /// Name in checkpoints, such as `conv1.weight`.
    pub name: String,
    /// Axes in row-major order.
    pub shape: Vec<usize>,
    /// Returns the values as little-endian `f32`. A function, because all arrays at once would double the memory used.
    pub bytes: Box<dyn Fn() -> Vec<u8> + 'a>,
}

impl StateArray<'_> {
    /// The values as numbers.
    pub(crate) fn values(&self) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&(self.bytes)())
    }
}

/// Shape and values of an array, in row-major order.
pub(crate) type Array = (Vec<usize>, Vec<f32>);

/// A network that can be trained and used for prediction.
pub trait Model {
    /// Side of the square images that the model takes, px.
    fn size_px(&self) -> usize;

    /// Room for the `len` numbers of a batch, where the model reads them directly. Their values are unspecified.
    ///
    /// # Errors
    /// [`Error::Compute`](crate::error::Error::Compute) where there is no such memory.
    fn pixels(&self, len: usize) -> Result<Pixels> {
        Ok(vec![0.0; len].into())
    }

    /// Makes one step of the optimiser. `t` is the number of the step, from 1; optimisers such as Adam need it.
    ///
    /// # Errors
    /// [`Error::Compute`](crate::error::Error::Compute) where the loss is not finite or the computation fails.
    fn train(&mut self, batch: Batch, t: u64, learning_rate: f64) -> Result<Step>;

    /// Predicts the classes of `n` images; `x` is as in [`Batch`].
    ///
    /// # Errors
    /// [`Error::Compute`](crate::error::Error::Compute) where the computation fails.
    fn infer(&self, x: &[f32], n: usize) -> Result<Inference>;

    /// The probabilities of [`Model::infer`].
    ///
    /// # Errors
    /// As [`Model::infer`].
    fn predict(&self, x: &[f32], n: usize) -> Result<Vec<Vec<f32>>> {
        Ok(self.infer(x, n)?.probabilities)
    }

    /// Whether the device with the arrays still works.
    ///
    /// # Errors
    /// [`Error::Compute`](crate::error::Error::Compute) where it has failed.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The weights, in a fixed order; with `moments` also the state of the optimiser.
    fn state(&self, moments: bool) -> Vec<StateArray<'_>>;

    /// Replaces the arrays that [`Model::state`] lists. `take` returns the values of an array by its name and shape.
    ///
    /// # Errors
    /// The first error of `take`.
    fn load(&mut self, moments: bool, take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<()>;

    /// Number of trainable parameters.
    fn parameters(&self) -> usize;
}
