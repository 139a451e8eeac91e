//! Optimisers (Adam, SGD with momentum) and schedules of the learning rate.

use super::kernel::AdamStep;
use dfdx::prelude::*;
use serde::{Deserialize, Serialize};

/// A parameter in a dfdx tensor, with Adam's moments.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// Name in checkpoints.
    pub name: &'static str,
    /// Shape in checkpoints; the tensor itself is flat.
    pub shape: Vec<usize>,
    pub value: Tensor<(usize,), f32, Cpu>,
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
}

impl Parameter {
    pub fn new(dev: &Cpu, name: &'static str, shape: Vec<usize>, values: Vec<f32>) -> Self {
        let len = values.len();
        assert_eq!(len, shape.iter().product::<usize>());
        Self { name, shape, value: dev.tensor_from_vec(values, (len,)), m: vec![0.0; len], v: vec![0.0; len] }
    }

    /// Makes one step of Adam with the gradient of a backward pass.
    pub fn update(&mut self, step: AdamStep, gradients: &mut Gradients<f32, Cpu>) -> Result<(), CpuError> {
        let gradient = gradients.get_or_alloc_mut(&self.value)?;
        let mut values = self.value.as_vec();
        for (((value, m), v), g) in values.iter_mut().zip(&mut self.m).zip(&mut self.v).zip(gradient.iter()) {
            step.apply(value, m, v, *g);
        }
        self.value.copy_from(&values);
        Ok(())
    }
}

/// Adam (Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization"); the defaults are the paper's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first moment, from 0 to below 1.
    pub beta1: f64,
    /// Decay of the second moment, from 0 to below 1.
    pub beta2: f64,
    /// Added to the root of the second moment; above 0.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// The coefficients of step `t`, counted from 1.
    pub(crate) fn step(&self, t: u64, learning_rate: f64) -> AdamStep {
        let t = t as f64;
        AdamStep {
            rate: (learning_rate / (1.0 - self.beta1.powf(t))) as f32,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            second: (1.0 / (1.0 - self.beta2.powf(t))) as f32,
            epsilon: self.epsilon as f32,
        }
    }
}

/// Stochastic gradient descent with momentum (Sutskever et al. 2013, "On the importance of initialization and momentum
/// in deep learning"), with PyTorch's update: the weight decay is a part of the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Share of the last update that the next one keeps, from 0 to below 1.
    pub momentum: f32,
    /// L2 penalty: this times the parameter is added to its gradient; 0 for none.
    pub weight_decay: f32,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, weight_decay: 1e-4 }
    }
}

impl Sgd {
    /// Makes one step. `None` stands for a gradient of zeros.
    pub(crate) fn step(&self, learning_rate: f32, values: &mut [f32], velocity: &mut [f32], gradient: Option<&[f32]>) {
        use rayon::prelude::*;
        const PIECE: usize = 1 << 16;
        let update = |value: &mut f32, velocity: &mut f32, g: f32| {
            *velocity = self.momentum * *velocity + (g + self.weight_decay * *value);
            *value -= learning_rate * *velocity;
        };
        let pieces = values.par_chunks_mut(PIECE).zip(velocity.par_chunks_mut(PIECE)).enumerate();
        pieces.for_each(|(i, (values, velocity))| match gradient {
            Some(g) => {
                for ((value, velocity), g) in values.iter_mut().zip(velocity).zip(&g[i * PIECE..]) {
                    update(value, velocity, *g);
                }
            }
            None => values.iter_mut().zip(velocity).for_each(|(value, velocity)| update(value, velocity, 0.0)),
        });
    }
}

/// How training updates the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Optimiser {
    /// Adam.
    Adam(Adam),
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
}

impl Default for Optimiser {
    fn default() -> Self {
        Optimiser::Adam(Adam::default())
    }
}

impl Optimiser {
    /// Name in pipelines.
    pub fn name(&self) -> &'static str {
        match self {
            Optimiser::Adam(_) => "adam",
            Optimiser::Sgd(_) => "sgd",
        }
    }

    /// Prefixes of the names of its moments in checkpoints.
    pub(crate) fn moments(&self) -> &'static [&'static str] {
        match self {
            Optimiser::Adam(_) => &["adam.m.", "adam.v."],
            Optimiser::Sgd(_) => &["momentum."],
        }
    }
}

/// How the learning rate changes in the course of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It does not change.
    #[default]
    Constant,
    /// It rises from 1/25 of the peak for 30 % of the steps, then falls to 1/250,000 of the peak, both along a cosine
    /// (Smith and Topin 2019, "Super-Convergence"; the same as PyTorch's `OneCycleLR`).
    OneCycle,
}

impl Schedule {
    /// The learning rate of step `t` (from 0) of `total`; `peak` is the highest rate.
    pub fn rate(self, peak: f64, t: u64, total: u64) -> f64 {
        match self {
            Schedule::Constant => peak,
            Schedule::OneCycle => {
                let last = (total.max(2) - 1) as f64;
                let top = (0.3 * total as f64 - 1.0).max(1.0).min(last);
                let (start, end) = (peak / 25.0, peak / 250_000.0);
                let t = t as f64;
                let cosine = |from: f64, to: f64, share: f64| {
                    to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * share.clamp(0.0, 1.0)).cos())
                };
                if t <= top { cosine(start, peak, t / top) } else { cosine(peak, end, (t - top) / (last - top)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected rates are those of torch.optim.lr_scheduler.OneCycleLR(max_lr=1e-3, total_steps=100).
    #[test]
    fn one_cycle_equals_pytorch() {
        let rate = |t| Schedule::OneCycle.rate(1e-3, t, 100);
        assert!((rate(0) - 4.0e-5).abs() < 1e-12);
        assert!((rate(29) - 1.0e-3).abs() < 1e-12);
        assert!((rate(64) - 5.00002e-4).abs() < 1e-8, "{}", rate(64));
        assert!((rate(99) - 4.0e-9).abs() < 1e-12);
        let rising: Vec<f64> = (0..30).map(rate).collect();
        assert!(rising.is_sorted());
    }
}
