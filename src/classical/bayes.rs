//! Gaussian naive Bayes: within a class, each feature is normally distributed and independent of the others. The
//! probabilities are the posteriors, with the class frequencies of the training cells as priors.
//!
//! Written here because smartcore's has no posteriors, and linfa's needs another matrix library.

use super::arrays::{Arrays, same_length};
use super::entry::{Choice, Classifier, Entry, Parameter, Probabilities, Samples, Weighting, softmax};
use crate::error::Result;

pub const ENTRY: Entry = Entry {
    name: "bayes",
    title: "naive Bayes",
    parameters: &[Parameter {
        name: "smoothing",
        default: &[1e-9],
        expected: "above 0 (added to all variances, as a share of the largest)",
        valid: |v| v > 0.0 && v.is_finite(),
    }],
    class_weights: Weighting::Priors,
    fit,
    restore,
};

/// The distributions of the classes.
struct Posterior {
    /// For each class that occurs: the class, the logarithm of its prior, and the mean and variance of each feature.
    of_class: Vec<(usize, f64, Vec<(f64, f64)>)>,
    /// Number of classes.
    count: usize,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
    // The largest variance is 1, because features are standardised.
    let smoothing = choice["smoothing"];
    let fit_class = |class: usize| {
        let rows: Vec<&[f64]> =
            samples.x.iter().zip(samples.classes).filter(|(_, c)| **c == class).map(|(x, _)| *x).collect();
        let n = rows.len() as f64;
        let normal = |k: usize| {
            let mean = rows.iter().map(|row| row[k]).sum::<f64>() / n;
            let variance = rows.iter().map(|row| (row[k] - mean).powi(2)).sum::<f64>() / n;
            (mean, variance + smoothing)
        };
        (class, (n / samples.classes.len() as f64).ln(), (0..rows[0].len()).map(normal).collect())
    };
    let of_class = samples.present().into_iter().map(fit_class).collect();
    Ok(Box::new(Posterior { of_class, count: samples.count }))
}

fn restore(arrays: &Arrays, count: usize) -> std::result::Result<Box<dyn Classifier>, String> {
    let classes = arrays.get_numbers("classes", count)?;
    let (priors, means, variances) =
        (arrays.get("log_priors")?, arrays.get_rows("means")?, arrays.get_rows("variances")?);
    for (what, length) in [("log_priors", priors.len()), ("means", means.len()), ("variances", variances.len())] {
        same_length(what, length, classes.len())?;
    }
    let normals = |i: usize| means[i].iter().copied().zip(variances[i].iter().copied()).collect();
    let of_class = classes.iter().enumerate().map(|(i, class)| (*class, priors[i], normals(i))).collect();
    Ok(Box::new(Posterior { of_class, count }))
}

impl Classifier for Posterior {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut logarithms = vec![f64::NEG_INFINITY; self.count];
        for (class, prior, normals) in &self.of_class {
            let density = |(v, (mean, variance)): (&f64, &(f64, f64))| {
                -((v - mean).powi(2) / variance + (2.0 * std::f64::consts::PI * variance).ln()) / 2.0
            };
            logarithms[*class] = prior + x.iter().zip(normals).map(density).sum::<f64>();
        }
        Ok(softmax(&logarithms))
    }

    fn arrays(&self) -> Arrays {
        let rows = |value: fn(&(f64, f64)) -> f64| -> Vec<Vec<f64>> {
            self.of_class.iter().map(|(_, _, normals)| normals.iter().map(value).collect()).collect()
        };
        let (means, variances) = (rows(|normal| normal.0), rows(|normal| normal.1));
        Arrays::default()
            .numbers("classes", self.of_class.iter().map(|(class, _, _)| *class))
            .list("log_priors", self.of_class.iter().map(|(_, prior, _)| *prior).collect())
            .rows("means", means.iter().map(Vec::as_slice))
            .rows("variances", variances.iter().map(Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::fitted;
    use super::*;

    #[test]
    fn posterior_matches_hand_calculation() {
        const BA: usize = 2;
        const NE: usize = 0;
        // Neutrophils with mean 0 and variance 1, twice as many as basophils with mean 3 and variance 4.
        let x: Vec<Vec<f64>> = [-1.0, 1.0, -1.0, 1.0, 1.0, 5.0].map(|v| vec![v]).into();
        let got = fitted(&ENTRY, &[], &x, &[NE, NE, NE, NE, BA, BA]).probabilities(&[1.0]).unwrap();
        let ne = 2.0 / 3.0 * (-0.5f64).exp();
        let ba = 1.0 / 3.0 / 2.0 * (-0.5f64).exp();
        assert!((got[NE] - ne / (ne + ba)).abs() < 1e-6, "{got:?}");
    }
}
