//! The arrays of a network on a CUDA device, and its last layer.

use crate::error::{Error, Result};
use crate::models::model::{Objective, StateArray};
use crate::nn::cuda::{self, Activations, Coming, Floats, Gpu, Sent, Stored, driver, offset};
use crate::nn::optim::Optimiser;
use dfdx::tensor::CudaError;
use std::collections::HashMap;

/// A trainable array and its gradient: where they start on the device. `stored` are the values as activations are
/// stored, for matrix products with them.
#[derive(Clone, Copy, Debug)]
pub struct Trained {
    pub value: u64,
    pub stored: u64,
    pub gradient: u64,
    pub len: usize,
}

/// Where an array is.
struct Place {
    name: String,
    shape: Vec<usize>,
    start: u64,
    len: usize,
}

/// All arrays of a network. Those that are trained lie one after the other, and so do their gradients and each of the
/// optimiser's moments, so that one kernel updates them all.
pub struct Arrays {
    optimiser: Optimiser,
    /// In the order of the checkpoint.
    places: Vec<Place>,
    index: HashMap<String, usize>,
    /// Values, then moments.
    trained: Vec<Floats>,
    gradients: Floats,
    /// The values as activations are stored, where that is not how the values are.
    stored: Option<Activations>,
    /// Running means and variances.
    _running: Floats,
    /// Number of trained values.
    len: usize,
}

impl Arrays {
    /// Copies the state of a network, with its moments, to the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: &Gpu, optimiser: Optimiser, state: &[StateArray]) -> cuda::Result<Self> {
        let prefixes = optimiser.moments();
        // The trained arrays are those that have moments.
        let trained: Vec<&str> = state.iter().filter_map(|array| array.name.strip_prefix(prefixes[0])).collect();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        let (mut len, mut running) = (0, 0);
        let size = |array: &StateArray| array.shape.iter().product::<usize>();
        for array in state {
            let name = array.name.as_str();
            if trained.contains(&name) {
                positions.insert(name, len);
                len += size(array);
            } else if !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                positions.insert(name, running);
                running += size(array);
            }
        }
        let buffers = (0..=prefixes.len()).map(|_| gpu.zeros(len)).collect::<cuda::Result<Vec<Floats>>>()?;
        let (gradients, running) = (gpu.zeros(len)?, gpu.zeros(running.max(1))?);
        let mut places = Vec::with_capacity(state.len());
        for array in state {
            let moment = prefixes.iter().position(|prefix| array.name.starts_with(prefix));
            let name = moment.map_or(array.name.as_str(), |moment| &array.name[prefixes[moment].len()..]);
            let buffer = match moment {
                Some(moment) => &buffers[moment + 1],
                None if trained.contains(&name) => &buffers[0],
                None => &running,
            };
            let start = offset(buffer.at(), positions[name]);
            gpu.upload(&array.values(), start)?;
            places.push(Place { name: array.name.clone(), shape: array.shape.clone(), start, len: size(array) });
        }
        let index = places.iter().enumerate().map(|(i, place)| (place.name.clone(), i)).collect();
        let stored = (gpu.stored() != Stored::F32).then(|| gpu.activations(len)).transpose()?;
        Ok(Self { optimiser, places, index, trained: buffers, gradients, stored, _running: running, len })
    }

    fn place(&self, name: &str) -> &Place {
        let index = self.index.get(name).unwrap_or_else(|| panic!("the network has no array {name}"));
        &self.places[*index]
    }

    /// A trained array.
    pub fn trained(&self, name: &str) -> Trained {
        let place = self.place(name);
        let bytes = place.start - self.trained[0].at();
        let stored = self.stored.as_ref().map_or(place.start, |stored| stored.at() + bytes / 2);
        Trained { value: place.start, stored, gradient: self.gradients.at() + bytes, len: place.len }
    }

    /// Writes [`Trained::stored`] from the values. To be called before a pass.
    ///
    /// # Errors
    /// The driver's.
    pub fn store(&self, gpu: &Gpu) -> cuda::Result<()> {
        let Some(stored) = &self.stored else { return Ok(()) };
        gpu.store(self.len, self.trained[0].at(), stored)
    }

    /// Where a running mean or variance starts.
    pub fn running(&self, name: &str) -> u64 {
        self.place(name).start
    }

    /// Makes step `t` of the optimiser, from 1, with the gradients.
    ///
    /// # Errors
    /// The driver's.
    pub fn update(&self, gpu: &Gpu, t: u64, learning_rate: f64) -> cuda::Result<()> {
        let start = |i: usize| self.trained[i].at();
        match self.optimiser {
            Optimiser::Adam(adam) => {
                let arrays = [start(0), start(1), start(2), self.gradients.at()];
                gpu.adam(self.len, arrays, adam.step(t, learning_rate))
            }
            Optimiser::Sgd(sgd) => {
                gpu.sgd(self.len, [start(0), start(1), self.gradients.at()], learning_rate as f32, sgd)
            }
        }
    }

    /// See [`Model::state`](crate::models::Model::state).
    pub fn state<'a>(&'a self, gpu: &'a Gpu, with_moments: bool) -> Vec<StateArray<'a>> {
        let values = |place: &Place| -> Vec<u8> {
            let values = gpu.download(place.start, place.len).expect("the device that trained the network answers");
            bytemuck::cast_slice(&values).to_vec()
        };
        let array = |place: &'a Place| StateArray {
            name: place.name.clone(),
            shape: place.shape.clone(),
            bytes: Box::new(move || values(place)),
        };
        self.places.iter().filter(|place| with_moments || !self.is_moment(place)).map(array).collect()
    }

    /// See [`Model::load`](crate::models::Model::load).
    pub fn load(
        &mut self,
        gpu: &Gpu,
        with_moments: bool,
        take: &mut dyn FnMut(&str, &[usize]) -> Result<Vec<f32>>,
    ) -> Result<()> {
        for place in self.places.iter().filter(|place| with_moments || !self.is_moment(place)) {
            let values = take(&place.name, &place.shape)?;
            gpu.upload(&values, place.start).map_err(|error| fault(&place.name, Work::Build, error))?;
        }
        Ok(())
    }

    fn is_moment(&self, place: &Place) -> bool {
        self.optimiser.moments().iter().any(|prefix| place.name.starts_with(prefix))
    }

    /// Number of trained values.
    pub fn parameters(&self) -> usize {
        self.len
    }
}

/// What a batch should be, on the device.
pub struct Targets {
    pub n: usize,
    labels: Sent<u32>,
    /// None where all images weigh the same.
    weights: Option<Sent<f32>>,
    gamma: f32,
}

impl Targets {
    /// Copies labels and weights to the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: &Gpu, labels: &[usize], objective: Objective) -> cuda::Result<Self> {
        let weights = (!objective.weights.is_empty()).then(|| gpu.send(objective.weights.to_vec())).transpose()?;
        let (n, gamma) = (labels.len(), objective.focal_gamma.unwrap_or(0.0));
        Ok(Self { n, labels: gpu.send(labels.iter().map(|label| *label as u32).collect())?, weights, gamma })
    }
}

/// The last layer's results.
pub struct Head {
    /// `[n, classes]`, to come.
    pub logits: Coming,
    /// The gradient of the features, `[n, width]`.
    pub features: Floats,
}

/// The last layer and the loss, forward and backward, from features `[n, width]`, all stored as `f32`. Writes the
/// gradients of the weight, `[width, classes]`, and of the bias.
///
/// # Errors
/// The driver's.
pub fn head(gpu: &Gpu, features: u64, [weight, bias]: [Trained; 2], targets: &Targets) -> cuda::Result<Head> {
    let (n, classes) = (targets.n, bias.len);
    let width = weight.len / classes;
    let logits = gpu.floats(n * classes)?;
    gpu.multiply([Stored::F32; 2], [n, width, classes], (features, width), weight.value, logits.at())?;
    gpu.add_bias([n, classes], bias.value, logits.at())?;
    let weights = targets.weights.as_ref().map_or(0, |weights| weights.array.at());
    let gradient = gpu.loss([n, classes], logits.at(), targets.labels.array.at(), weights, targets.gamma)?;
    let (logits, d) = (gpu.fetch(logits.at(), n * classes)?, gradient.at());
    gpu.multiply_transpose(Stored::F32, [width, n, classes], (features, width), d, weight.gradient)?;
    gpu.sum_rows(Stored::F32, [n, classes], d, bias.gradient)?;
    let features = gpu.floats(n * width)?;
    gpu.multiply_by_transpose(Stored::F32, [n, classes, width], d, weight.value, features.at(), false)?;
    Ok(Head { logits, features })
}

/// What was computed when the device failed.
#[derive(Clone, Copy)]
pub enum Work {
    /// The network was made or loaded.
    Build,
    /// A training step with so many images.
    Step(usize),
    /// A prediction.
    Predict,
}

/// The error of a device's work.
pub fn fault(network: &str, work: Work, error: CudaError) -> Error {
    use cudarc::cublas::{result::CublasError, sys::cublasStatus_t};
    use cudarc::driver::sys::CUresult;
    let memory = match &error {
        CudaError::Driver(error) => error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY,
        CudaError::Blas(CublasError(status)) => *status == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED,
        CudaError::Cpu(_) => false,
    };
    let what = match (memory, work) {
        (false, _) => format!("the CUDA device failed: {}", driver::text(&error)),
        (true, Work::Step(n)) => {
            format!("the CUDA device has too little memory for {n} images a step: give a smaller --batch")
        }
        (true, _) => "the CUDA device has too little memory for the network".into(),
    };
    Error::compute(network, what)
}
