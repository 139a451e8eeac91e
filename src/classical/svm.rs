//! Support vector machine: C-SVC with a Gaussian kernel, one against one (a port of LIBSVM: Chang and Lin, ACM TIST
//! 2:27, 2011). Probabilities as LIBSVM's: a sigmoid a pair of classes, fitted on decisions about cells that the
//! machine was not fitted on (Platt 1999; Lin, Lin and Weng 2007), coupled over the pairs (Wu, Lin and Weng 2004). Held
//! out are our inner folds, which keep groups together, and not LIBSVM's own, which do not and draw from a generator
//! that all threads share.

use super::{Choice, Entry, Fitted, Parameter, Probabilities, Samples, present};
use crate::class::Class;
use crate::error::{Error, Result};
use libsvm_rs::predict::{predict, predict_probability, predict_values};
use libsvm_rs::probability::sigmoid_train;
use libsvm_rs::train::svm_train;
use libsvm_rs::{SvmModel, SvmNode, SvmParameter, SvmProblem};
use rayon::prelude::*;

pub const ENTRY: Entry = Entry {
    name: "svm",
    title: "support vector machine",
    parameters: &[
        Parameter { name: "c", default: &[1.0, 10.0, 100.0], expected: "above 0", valid: |v| v > 0.0 && v.is_finite() },
        Parameter {
            name: "gamma",
            default: &[0.25, 1.0],
            expected: "above 0 (1 is one by the number of features)",
            valid: |v| v > 0.0 && v.is_finite(),
        },
    ],
    fit,
};

struct Machine {
    model: SvmModel,
    calibrated: bool,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Fitted>> {
    libsvm_rs::set_quiet(true);
    let mut model = train(choice, samples, |_| true);
    if samples.calibrate {
        let pairs = held_out(choice, samples);
        (model.prob_a, model.prob_b) = pairs.iter().map(|(decisions, signs)| sigmoid_train(decisions, signs)).unzip();
    }
    Ok(Box::new(Machine { model, calibrated: samples.calibrate }))
}

/// A machine on the cells whose number `take` holds for. Cells go in by class, so that the library's order of classes
/// and pairs is ours.
fn train(choice: &Choice, samples: &Samples, take: impl Fn(usize) -> bool) -> SvmModel {
    let mut order: Vec<usize> = (0..samples.x.len()).filter(|i| take(*i)).collect();
    order.sort_by_key(|i| samples.classes[*i].index());
    let problem = SvmProblem {
        labels: order.iter().map(|i| samples.classes[*i].index() as f64).collect(),
        instances: order.iter().map(|i| nodes(samples.x[*i])).collect(),
    };
    let gamma = choice["gamma"] / samples.x[0].len() as f64;
    svm_train(&problem, &SvmParameter { c: choice["c"], gamma, ..SvmParameter::default() })
}

/// For every pair of classes: the decisions about held-out cells of either, and +1 for cells of the first, -1 for those
/// of the second.
fn held_out(choice: &Choice, samples: &Samples) -> Vec<(Vec<f64>, Vec<f64>)> {
    let classes = present(samples.classes);
    let pairs: Vec<(Class, Class)> =
        classes.iter().enumerate().flat_map(|(i, a)| classes[i + 1..].iter().map(|b| (*a, *b))).collect();
    let of_fold = |fold: u32| {
        let model = train(choice, samples, |i| samples.held_out_by[i] != fold);
        let there: Vec<Class> = model.label.iter().map(|label| Class::ALL[*label as usize]).collect();
        let place = |class: &Class| there.iter().position(|c| c == class);
        let mut found = vec![(Vec::new(), Vec::new()); pairs.len()];
        let mut decisions = vec![0.0; there.len() * there.len().saturating_sub(1) / 2];
        for i in (0..samples.x.len()).filter(|i| samples.held_out_by[*i] == fold) {
            predict_values(&model, &nodes(samples.x[i]), &mut decisions);
            for ((a, b), (values, signs)) in pairs.iter().zip(&mut found) {
                let own = samples.classes[i];
                // A class that only this fold has was not learned.
                let (Some(p), Some(q)) = (place(a), place(b)) else { continue };
                if own == *a || own == *b {
                    // Pairs are numbered (0, 1), (0, 2), ..., (1, 2), ...
                    values.push(decisions[p * (2 * there.len() - p - 1) / 2 + q - p - 1]);
                    signs.push(if own == *a { 1.0 } else { -1.0 });
                }
            }
        }
        found
    };
    let by_fold: Vec<_> = (0..samples.inner_folds).into_par_iter().map(of_fold).collect();
    let mut all = vec![(Vec::new(), Vec::new()); pairs.len()];
    for found in by_fold {
        for ((values, signs), (more, their)) in all.iter_mut().zip(found) {
            values.extend(more);
            signs.extend(their);
        }
    }
    all
}

/// The library counts features from 1.
fn nodes(x: &[f64]) -> Vec<SvmNode> {
    x.iter().enumerate().map(|(k, value)| SvmNode { index: k as i32 + 1, value: *value }).collect()
}

impl Fitted for Machine {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut probabilities = [0.0; Class::COUNT];
        if !self.calibrated {
            probabilities[predict(&self.model, &nodes(x)) as usize] = 1.0;
            return Ok(probabilities);
        }
        let (_, coupled) = predict_probability(&self.model, &nodes(x)).ok_or_else(|| Error::Compute {
            what: "support vector machine".into(),
            message: "expected a calibrated machine".into(),
        })?;
        let sum: f64 = coupled.iter().sum();
        for (label, p) in self.model.label.iter().zip(coupled) {
            probabilities[*label as usize] = p / sum;
        }
        Ok(probabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{fitted, heaps};
    use super::*;

    #[test]
    fn a_cell_between_two_classes_has_shared_probability() {
        let (x, classes) = heaps(40, 9.0);
        let machine = fitted("svm", &[], &x, &classes);
        let between = machine.probabilities(&[3.0, 0.0]).unwrap();
        let shared = between[Class::Neutrophil.index()].min(between[Class::Basophil.index()]);
        assert!(shared > 0.15, "{between:?}");
        let deep = machine.probabilities(&[9.0, 0.0]).unwrap();
        assert!(deep[Class::Basophil.index()] > between[Class::Basophil.index()] + 0.2, "{deep:?}");
    }
}
