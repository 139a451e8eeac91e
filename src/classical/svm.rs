//! Support vector machine: C-SVC with a Gaussian kernel, one against one, by a port of LIBSVM (Chang and Lin, ACM TIST
//! 2:27, 2011).
//!
//! Probabilities are computed as in LIBSVM: a sigmoid for each pair of classes, fitted on the decisions for held-out
//! cells (Platt 1999; Lin, Lin and Weng 2007), and coupling of the pairs (Wu, Lin and Weng 2004). Cells are held out by
//! our inner folds. LIBSVM's own folds would separate cells of one group and use a random generator that threads share.

use super::arrays::{Arrays, same_length};
use super::entry::{Choice, Classifier, Entry, Parameter, Probabilities, Samples, Weighting};
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
            expected: "above 0 (in units of 1 / number of features)",
            valid: |v| v > 0.0 && v.is_finite(),
        },
    ],
    class_weights: Weighting::Fit,
    fit,
    restore,
};

/// A trained machine. `calibrated` tells whether the sigmoids are fitted.
struct Machine {
    model: SvmModel,
    calibrated: bool,
    /// Number of classes.
    count: usize,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
    libsvm_rs::set_quiet(true);
    let mut model = train(choice, samples, |_| true);
    if samples.calibrate {
        let pairs = held_out_decisions(choice, samples);
        (model.prob_a, model.prob_b) = pairs.iter().map(|(decisions, signs)| sigmoid_train(decisions, signs)).unzip();
    }
    Ok(Box::new(Machine { model, calibrated: samples.calibrate, count: samples.count }))
}

/// Trains on the cells for whose number `include` is true. They are sorted by class, so that the library numbers
/// classes and pairs in our order.
fn train(choice: &Choice, samples: &Samples, include: impl Fn(usize) -> bool) -> SvmModel {
    let mut order: Vec<usize> = (0..samples.x.len()).filter(|i| include(*i)).collect();
    order.sort_by_key(|i| samples.classes[*i]);
    let problem = SvmProblem {
        labels: order.iter().map(|i| samples.classes[*i] as f64).collect(),
        instances: order.iter().map(|i| nodes(samples.x[*i])).collect(),
    };
    let gamma = choice["gamma"] / samples.x[0].len() as f64;
    let weight = samples.class_weights.iter().enumerate().map(|(class, weight)| (class as i32, *weight)).collect();
    svm_train(&problem, &SvmParameter { c: choice["c"], gamma, weight, ..SvmParameter::default() })
}

/// For each pair of classes, the decision values of the held-out cells of both, and +1 for cells of the first class or
/// -1 for cells of the second.
fn held_out_decisions(choice: &Choice, samples: &Samples) -> Vec<(Vec<f64>, Vec<f64>)> {
    let classes = samples.present();
    let pairs: Vec<(usize, usize)> =
        classes.iter().enumerate().flat_map(|(i, a)| classes[i + 1..].iter().map(|b| (*a, *b))).collect();
    let decide_fold = |fold: u32| {
        let model = train(choice, samples, |i| samples.held_out_by[i] != fold);
        let learned: Vec<usize> = model.label.iter().map(|label| *label as usize).collect();
        let position = |class: &usize| learned.iter().position(|c| c == class);
        let mut by_pair = vec![(Vec::new(), Vec::new()); pairs.len()];
        let mut decisions = vec![0.0; learned.len() * learned.len().saturating_sub(1) / 2];
        for i in (0..samples.x.len()).filter(|i| samples.held_out_by[*i] == fold) {
            predict_values(&model, &nodes(samples.x[i]), &mut decisions);
            for ((a, b), (values, signs)) in pairs.iter().zip(&mut by_pair) {
                let own = samples.classes[i];
                // Classes that only occur in this fold were not learned.
                let (Some(p), Some(q)) = (position(a), position(b)) else { continue };
                if own == *a || own == *b {
                    // Pairs are numbered (0, 1), (0, 2), ..., (1, 2), ...
                    values.push(decisions[p * (2 * learned.len() - p - 1) / 2 + q - p - 1]);
                    signs.push(if own == *a { 1.0 } else { -1.0 });
                }
            }
        }
        by_pair
    };
    let by_fold: Vec<_> = (0..samples.inner_folds).into_par_iter().map(decide_fold).collect();
    let mut all = vec![(Vec::new(), Vec::new()); pairs.len()];
    for by_pair in by_fold {
        for ((values, signs), (fold_values, fold_signs)) in all.iter_mut().zip(by_pair) {
            values.extend(fold_values);
            signs.extend(fold_signs);
        }
    }
    all
}

/// The features as the library's nodes, which are numbered from 1.
fn nodes(x: &[f64]) -> Vec<SvmNode> {
    x.iter().enumerate().map(|(k, value)| SvmNode { index: k as i32 + 1, value: *value }).collect()
}

fn restore(arrays: &Arrays, count: usize) -> std::result::Result<Box<dyn Classifier>, String> {
    let (label, vectors) = (arrays.get_numbers("classes", count)?, arrays.get_rows("vectors")?);
    let (n_sv, coefficients) = (arrays.get_numbers("vectors_of_class", usize::MAX)?, arrays.get_rows("coefficients")?);
    same_length("numbers of vectors", n_sv.len(), label.len())?;
    same_length("vectors", vectors.len(), n_sv.iter().sum())?;
    same_length("rows of coefficients", coefficients.len(), label.len().saturating_sub(1))?;
    same_length("coefficients", coefficients.first().map_or(0, |row| row.len()), vectors.len())?;
    let pairs = label.len() * label.len().saturating_sub(1) / 2;
    let of_pairs = |name: &str| {
        let values = arrays.get(name)?.to_vec();
        same_length(name, values.len(), pairs).map(|()| values)
    };
    let gamma = match arrays.get("gamma")? {
        [gamma] => *gamma,
        other => return Err(format!("{} values in the array gamma, where one is expected", other.len())),
    };
    let model = SvmModel {
        param: SvmParameter { gamma, ..SvmParameter::default() },
        nr_class: label.len(),
        sv: vectors.into_iter().map(nodes).collect(),
        sv_coef: coefficients.into_iter().map(<[f64]>::to_vec).collect(),
        rho: of_pairs("rho")?,
        prob_a: of_pairs("sigmoid_a")?,
        prob_b: of_pairs("sigmoid_b")?,
        prob_density_marks: Vec::new(),
        sv_indices: Vec::new(),
        label: label.iter().map(|class| *class as i32).collect(),
        n_sv,
    };
    Ok(Box::new(Machine { model, calibrated: true, count }))
}

impl Classifier for Machine {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut probabilities = vec![0.0; self.count];
        if !self.calibrated {
            probabilities[predict(&self.model, &nodes(x)) as usize] = 1.0;
            return Ok(probabilities);
        }
        let (_, coupled) = predict_probability(&self.model, &nodes(x))
            .ok_or_else(|| Error::compute(ENTRY.title, "the model is not calibrated"))?;
        let sum: f64 = coupled.iter().sum();
        for (label, p) in self.model.label.iter().zip(coupled) {
            probabilities[*label as usize] = p / sum;
        }
        Ok(probabilities)
    }

    /// As LIBSVM keeps a model. A vector has all features, also those that are 0.
    fn arrays(&self) -> Arrays {
        let SvmModel { param, sv, sv_coef, rho, prob_a, prob_b, label, n_sv, .. } = &self.model;
        let vectors: Vec<Vec<f64>> = sv.iter().map(|nodes| nodes.iter().map(|node| node.value).collect()).collect();
        Arrays::default()
            .list("gamma", vec![param.gamma])
            .numbers("classes", label.iter().map(|class| *class as usize))
            .numbers("vectors_of_class", n_sv.iter().copied())
            .rows("vectors", vectors.iter().map(Vec::as_slice))
            .rows("coefficients", sv_coef.iter().map(Vec::as_slice))
            .list("rho", rho.clone())
            .list("sigmoid_a", prob_a.clone())
            .list("sigmoid_b", prob_b.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{clusters, fitted};
    use super::*;

    #[test]
    fn a_cell_between_two_classes_is_about_equally_probable_for_both() {
        let (x, classes) = clusters(40, 9.0);
        let machine = fitted(&ENTRY, &[], &x, &classes);
        let between = machine.probabilities(&[3.0, 0.0]).unwrap();
        let shared = between[0].min(between[2]);
        assert!(shared > 0.15, "{between:?}");
        let inside = machine.probabilities(&[9.0, 0.0]).unwrap();
        assert!(inside[2] > between[2] + 0.2, "{inside:?}");
    }
}
