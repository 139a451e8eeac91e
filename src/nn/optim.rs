//! Adam, SGD with momentum, and the learning rate's course over a run.

use super::kernel::AdamStep;
use dfdx::prelude::*;
use serde::{Deserialize, Serialize};

/// A small parameter: a flat dfdx tensor, and what Adam keeps for it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in checkpoints.
    pub name: &'static str,
    /// Shape in checkpoints; the tensor itself is flat.
    pub shape: Vec<usize>,
    pub value: Tensor<(usize,), f32, Cpu>,
    pub m: Vec<f32>,
    pub v: Vec<f32>,
}

impl Parameter {
    pub fn new(dev: &Cpu, name: &'static str, shape: Vec<usize>, values: Vec<f32>) -> Self {
        let len = values.len();
        assert_eq!(len, shape.iter().product::<usize>());
        Self { name, shape, value: dev.tensor_from_vec(values, (len,)), m: vec![0.0; len], v: vec![0.0; len] }
    }

    /// One step of Adam with the gradient that the backward pass left.
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

/// Adam's constants (Kingma and Ba 2015, their defaults and TensorFlow's).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl Adam {
    /// The numbers of step `t` (from 1) at a learning rate.
    pub fn step(&self, t: u64, learning_rate: f64) -> AdamStep {
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

/// Stochastic gradient descent with momentum (Sutskever et al. 2013, as in PyTorch: the decay is added to the gradient).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    pub momentum: f32,
    /// L2: this times the parameter is added to its gradient.
    pub weight_decay: f32,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, weight_decay: 1e-4 }
    }
}

impl Sgd {
    /// One step of `values`. No gradient: one of zeros.
    pub fn step(&self, learning_rate: f32, values: &mut [f32], velocity: &mut [f32], gradient: Option<&[f32]>) {
        use rayon::prelude::*;
        const PIECE: usize = 1 << 16;
        let one = |value: &mut f32, velocity: &mut f32, g: f32| {
            *velocity = self.momentum * *velocity + (g + self.weight_decay * *value);
            *value -= learning_rate * *velocity;
        };
        let pieces = values.par_chunks_mut(PIECE).zip(velocity.par_chunks_mut(PIECE)).enumerate();
        pieces.for_each(|(i, (values, velocity))| match gradient {
            Some(g) => {
                for ((value, velocity), g) in values.iter_mut().zip(velocity).zip(&g[i * PIECE..]) {
                    one(value, velocity, *g);
                }
            }
            None => values.iter_mut().zip(velocity).for_each(|(value, velocity)| one(value, velocity, 0.0)),
        });
    }
}

/// How weights are moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Optimiser {
    Adam(Adam),
    Sgd(Sgd),
}

impl Default for Optimiser {
    fn default() -> Self {
        Optimiser::Adam(Adam::default())
    }
}

impl Optimiser {
    /// Name in pipeline files.
    pub fn name(&self) -> &'static str {
        match self {
            Optimiser::Adam(_) => "adam",
            Optimiser::Sgd(_) => "sgd",
        }
    }
}

/// The learning rate's course.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same from first to last.
    #[default]
    Constant,
    /// Up from 1/25 over the first 30 % of the steps, then down to 1/250,000, both along a cosine (Smith and Topin
    /// 2019, as in PyTorch's `OneCycleLR`).
    OneCycle,
}

impl Schedule {
    /// The rate of step `t` (from 0) of `total`, where `peak` is the recipe's learning rate.
    pub fn rate(self, peak: f64, t: u64, total: u64) -> f64 {
        match self {
            Schedule::Constant => peak,
            Schedule::OneCycle => {
                let last = (total.max(2) - 1) as f64;
                let turn = (0.3 * total as f64 - 1.0).max(1.0).min(last);
                let (start, end) = (peak / 25.0, peak / 250_000.0);
                let t = t as f64;
                let cosine = |from: f64, to: f64, share: f64| {
                    to + (from - to) / 2.0 * (1.0 + (std::f64::consts::PI * share.clamp(0.0, 1.0)).cos())
                };
                if t <= turn { cosine(start, peak, t / turn) } else { cosine(peak, end, (t - turn) / (last - turn)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch.optim.lr_scheduler.OneCycleLR(max_lr=1e-3, total_steps=100), steps 0, 10, 29, 64, 99.
    #[test]
    fn one_cycle_is_pytorchs() {
        let rate = |t| Schedule::OneCycle.rate(1e-3, t, 100);
        assert!((rate(0) - 4.0e-5).abs() < 1e-12);
        assert!((rate(29) - 1.0e-3).abs() < 1e-12);
        assert!((rate(64) - 5.00002e-4).abs() < 1e-8, "{}", rate(64));
        assert!((rate(99) - 4.0e-9).abs() < 1e-12);
        let ups: Vec<f64> = (0..30).map(rate).collect();
        assert!(ups.is_sorted());
    }
}
