//! The arithmetic between logits and results that all models share.

use super::model::{Objective, Step};
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
    /// The loss, in nats.
    pub value: f32,
    /// `[n, classes]`
    pub logits: Vec<f32>,
    /// Gradients of everything on the tape.
    pub gradients: Gradients<f32, D>,
}

/// The loss of logits (`[n, classes]`), and its backward pass: the mean cross-entropy, or what `objective` makes of it.
pub fn loss<D: Device<f32>>(
    logits: Tensor<(usize, usize), f32, D, OwnedTape<f32, D>>,
    labels: &[usize],
    objective: Objective,
) -> std::result::Result<Loss<D>, D::Err> {
    let shape = *logits.shape();
    let device = logits.device().clone();
    let (logits, tape) = logits.split_tape();
    let values = logits.as_vec();
    if objective.weights.is_empty() && objective.focal_gamma.is_none() {
        let targets = device.try_tensor_from_vec(one_hot(labels, shape.1), shape)?;
        let loss = cross_entropy_with_logits_loss(logits.put_tape(tape), targets);
        return Ok(Loss { value: loss.as_vec()[0], logits: values, gradients: loss.try_backward()? });
    }
    let (value, gradient) = weighted(&values, shape.1, labels, objective);
    // A sum whose gradient is the one computed above.
    let gradient = device.try_tensor_from_vec(gradient, shape)?;
    let sum = logits.put_tape(tape).try_mul(gradient)?.try_sum::<Rank0, _>()?;
    Ok(Loss { value, logits: values, gradients: sum.try_backward()? })
}

/// The mean over images of w (1 - p)^gamma (-ln p), where p is the softmax probability of the image's class, and its
/// gradient with respect to the logits (`[n, classes]`).
pub fn weighted(logits: &[f32], classes: usize, labels: &[usize], objective: Objective) -> (f32, Vec<f32>) {
    let gamma = f64::from(objective.focal_gamma.unwrap_or(0.0));
    let n = labels.len() as f64;
    let (mut value, mut gradient) = (0.0, Vec::with_capacity(logits.len()));
    for (i, (logits, label)) in logits.chunks_exact(classes).zip(labels).enumerate() {
        let weight = objective.weights.get(i).map_or(1.0, |w| f64::from(*w)) / n;
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let exps: Vec<f64> = logits.iter().map(|logit| f64::from(logit - top).exp()).collect();
        let sum: f64 = exps.iter().sum();
        let log_p = f64::from(logits[*label] - top) - sum.ln();
        let p = log_p.exp();
        // Above 0, because the power below may be negative.
        let rest = (1.0 - p).max(1e-12);
        value -= weight * rest.powf(gamma) * log_p;
        let slope = gamma * p * rest.powf(gamma - 1.0) * log_p - rest.powf(gamma);
        gradient.extend(exps.iter().enumerate().map(|(class, e)| {
            let own = if class == *label { 1.0 } else { 0.0 };
            (weight * (own - e / sum) * slope) as f32
        }));
    }
    (value as f32, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 12] = [1.0, -0.5, 0.2, 0.1, 3.0, 0.0, -4.0, -1.0, 0.3, 2.0, -0.7, 1.1];
    const LABELS: [usize; 3] = [0, 0, 2];

    fn on_tape(objective: Objective) -> (f32, Vec<f32>) {
        let dev = Cpu::default();
        let logits = dev.tensor_from_vec(LOGITS.to_vec(), (3, 4));
        let loss = loss(logits.leaky_trace(), &LABELS, objective).unwrap();
        (loss.value, loss.gradients.get(&logits).as_vec())
    }

    #[test]
    fn gradients_of_weighted_and_focal_losses_equal_finite_differences() {
        for (weights, focal_gamma) in [
            (&[0.5, 2.0, 4.0][..], None),
            (&[], Some(2.0)),
            (&[3.0, 0.25, 1.0], Some(2.0)),
            (&[], Some(0.5)),
            (&[1.0, 1.0, 1.0], Some(0.0)),
        ] {
            let objective = Objective { weights, focal_gamma };
            let (value, gradient) = on_tape(objective);
            assert_eq!(value, weighted(&LOGITS, 4, &LABELS, objective).0);
            for i in 0..LOGITS.len() {
                let at = |shift: f32| {
                    let mut logits = LOGITS;
                    logits[i] += shift;
                    f64::from(weighted(&logits, 4, &LABELS, objective).0)
                };
                let slope = (at(0.01) - at(-0.01)) / 0.02;
                assert!((slope - f64::from(gradient[i])).abs() < 2e-4, "{objective:?}, {i}: {slope} {}", gradient[i]);
            }
        }
    }

    #[test]
    fn equal_weights_without_focus_are_the_mean_cross_entropy() {
        let (value, gradient) = on_tape(Objective::default());
        let (other, others) = on_tape(Objective { weights: &[1.0; 3], focal_gamma: Some(0.0) });
        assert!((value - other).abs() < 1e-6);
        assert!(gradient.iter().zip(&others).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    /// By hand: an image with p = 0.5 has a focal loss of 0.5^2 ln 2; a certain one has none, and no gradient.
    #[test]
    fn focal_loss_matches_hand_calculation() {
        let focal = |logits: &[f32]| weighted(logits, 2, &[0], Objective { weights: &[], focal_gamma: Some(2.0) });
        assert!((focal(&[1.0, 1.0]).0 - 0.25 * std::f32::consts::LN_2).abs() < 1e-6);
        let (value, gradient) = focal(&[90.0, -90.0]);
        assert!(value == 0.0 && gradient.iter().all(|g| g.abs() < 1e-6), "{value} {gradient:?}");
    }
}
