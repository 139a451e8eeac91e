//! The arithmetic between logits and results that all models share.

use super::model::Step;
use crate::error::{Error, Result};
use dfdx::losses::cross_entropy_with_logits_loss;
use dfdx::prelude::*;

/// Index of the largest value; of equal ones the first.
fn argmax(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Probabilities of the classes from their logits.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let exps: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let sum: f32 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

/// The logits of each image by a linear layer: `features` is `[n, width]`, `weight` `[width, classes]`, `bias`
/// `[classes]`.
pub fn logits(features: &[f32], width: usize, weight: &[f32], bias: &[f32]) -> Vec<Vec<f32>> {
    use rayon::prelude::*;
    let image = |features: &[f32]| {
        let mut logits = bias.to_vec();
        for (feature, weights) in features.iter().zip(weight.chunks_exact(bias.len())) {
            logits.iter_mut().zip(weights).for_each(|(logit, w)| *logit += feature * w);
        }
        logits
    };
    features.par_chunks(width).map(image).collect()
}

/// `[n, classes]`: 1 at the class of each image, 0 elsewhere.
pub fn one_hot(labels: &[usize], classes: usize) -> Vec<f32> {
    let mut targets = vec![0.0; labels.len() * classes];
    for (targets, label) in targets.chunks_exact_mut(classes).zip(labels) {
        targets[*label] = 1.0;
    }
    targets
}

/// The result of a step from the batch's loss and logits (`[n, classes]`).
///
/// # Errors
/// [`Error::Compute`] where the loss is not finite.
pub fn step(model: &str, t: u64, learning_rate: f64, loss: f32, logits: &[f32], labels: &[usize]) -> Result<Step> {
    if !loss.is_finite() {
        let message = format!("the loss is {loss}: the learning rate {learning_rate} is too high for this data");
        return Err(Error::compute(format!("{model}, step {t}"), message));
    }
    let classes = logits.len() / labels.len();
    let correct = logits.chunks_exact(classes).zip(labels).filter(|(l, label)| argmax(l) == **label).count();
    Ok(Step { loss, correct })
}

/// Loss, logits and gradients of a batch.
pub struct Loss<D: Device<f32>> {
    /// Mean cross-entropy, in nats.
    pub value: f32,
    /// `[n, classes]`
    pub logits: Vec<f32>,
    /// Gradients of everything on the tape.
    pub gradients: Gradients<f32, D>,
}

/// The mean cross-entropy of logits (`[n, classes]`), and its backward pass.
pub fn cross_entropy<D: Device<f32>>(
    logits: Tensor<(usize, usize), f32, D, OwnedTape<f32, D>>,
    labels: &[usize],
) -> std::result::Result<Loss<D>, D::Err> {
    let shape = *logits.shape();
    let targets = logits.device().clone().try_tensor_from_vec(one_hot(labels, shape.1), shape)?;
    let (logits, tape) = logits.split_tape();
    let values = logits.as_vec();
    let loss = cross_entropy_with_logits_loss(logits.put_tape(tape), targets);
    Ok(Loss { value: loss.as_vec()[0], logits: values, gradients: loss.try_backward()? })
}
