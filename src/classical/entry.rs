//! What a classifier consists of: its name, its hyper-parameters and its fitting function.

use super::arrays::Arrays;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// Probabilities of the classes, in class order, summing to 1.
pub type Probabilities = Vec<f64>;

/// One value for each hyper-parameter, by name.
pub type Choice = BTreeMap<String, f64>;

/// The training cells.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// One row per cell and one column per feature, standardised by [`super::Scale`]; at least one row.
    pub x: &'a [&'a [f64]],
    /// The class of each cell, 0 to `count` - 1.
    pub classes: &'a [usize],
    /// Number of classes. Some may have no cell.
    pub count: usize,
    /// The inner fold that each cell belongs to, 0 to `inner_folds` - 1. Cells of one group are in the same fold.
    pub held_out_by: &'a [u32],
    /// Number of inner folds.
    pub inner_folds: u32,
    /// Key of random numbers: see [`crate::seed::key`].
    pub key: u64,
    /// Whether probabilities are needed, and not only the most probable class.
    pub calibrate: bool,
    /// Weight of each class, `count` values; empty for equal weights.
    pub class_weights: &'a [f64],
}

/// A fitted classifier.
pub trait Classifier: Send + Sync {
    /// The probabilities of a cell with the features `x`, standardised as in [`Samples::x`].
    ///
    /// # Errors
    /// [`Error::Compute`] if the library fails.
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities>;

    /// What was fitted, as numbers: [`Entry::restore`] makes the same classifier of them.
    fn arrays(&self) -> Arrays;
}

/// Fits a classifier with the given hyper-parameters. The samples are of at least two classes.
pub type Fit = fn(&Choice, &Samples) -> Result<Box<dyn Classifier>>;

/// Makes a fitted classifier of [`Classifier::arrays`], for the given number of classes.
///
/// # Errors
/// What is wrong with the arrays.
pub type Restore = fn(&Arrays, usize) -> std::result::Result<Box<dyn Classifier>, String>;

/// A hyper-parameter.
pub struct Parameter {
    /// Key in the pipeline file.
    pub name: &'static str,
    /// The values to choose from if the pipeline does not set any.
    pub default: &'static [f64],
    /// Description of the valid values.
    pub expected: &'static str,
    /// Whether a value is valid.
    pub valid: fn(f64) -> bool,
}

/// An entry of [`super::CLASSIFIERS`].
pub struct Entry {
    /// Value of `train.model` in the pipeline file.
    pub name: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// The hyper-parameters.
    pub parameters: &'static [Parameter],
    /// How the classifier takes class weights.
    pub class_weights: Weighting,
    /// The fitting function.
    pub fit: Fit,
    /// The inverse of [`Classifier::arrays`].
    pub restore: Restore,
}

/// How a classifier takes class weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// Not at all.
    None,
    /// The fitting function uses them.
    Fit,
    /// They multiply the priors of the classes (or the votes of their cells), and so the probabilities.
    Priors,
}

impl Samples<'_> {
    /// The classes that occur, in order.
    pub(super) fn present(&self) -> Vec<usize> {
        (0..self.count).filter(|class| self.classes.contains(class)).collect()
    }
}

/// Probabilities from their logarithms up to a common constant. Negative infinity gives 0.
pub(super) fn softmax(logarithms: &[f64]) -> Probabilities {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logarithms.iter().map(|l| (l - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

/// For `map_err`: a failure of the smartcore library while computing `what`.
pub(super) fn failed(what: &'static str) -> impl Fn(smartcore::error::Failed) -> Error {
    move |error| Error::compute(what, error)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::seed;
    use rand::Rng;

    /// Three clusters of `n` cells each around (0, 0), (6, 0) and (0, 6), `width` wide in each direction, of the
    /// classes 0, 2 and 4.
    pub fn clusters(n: usize, width: f64) -> (Vec<Vec<f64>>, Vec<usize>) {
        let mut rng = seed::rng(1, "heaps", 0, 0, 0);
        let mut unit = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        let centres = [(0, 0.0, 0.0), (2, 6.0, 0.0), (4, 0.0, 6.0)];
        let mut cells = Vec::new();
        for _ in 0..n {
            for (class, x, y) in centres {
                cells.push((vec![x + width * unit(), y + width * unit()], class));
            }
        }
        cells.into_iter().unzip()
    }

    /// Fits five classes with the given hyper-parameters, and with the first default value of all others.
    pub fn fitted(entry: &Entry, choice: &[(&str, f64)], x: &[Vec<f64>], classes: &[usize]) -> Box<dyn Classifier> {
        fitted_to(5, entry, choice, x, classes)
    }

    /// [`fitted`] for `count` classes.
    pub fn fitted_to(
        count: usize,
        entry: &Entry,
        choice: &[(&str, f64)],
        x: &[Vec<f64>],
        classes: &[usize],
    ) -> Box<dyn Classifier> {
        let rows: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
        let held_out_by: Vec<u32> = (0..x.len() as u32).map(|i| i / 3 % 3).collect();
        let (held_out_by, inner_folds, key, calibrate) = (&held_out_by[..], 3, 5, true);
        let class_weights = &[];
        let samples = Samples { x: &rows, classes, count, held_out_by, inner_folds, key, calibrate, class_weights };
        let mut full: Choice = entry.parameters.iter().map(|p| (p.name.to_string(), p.default[0])).collect();
        full.extend(choice.iter().map(|(name, value)| (name.to_string(), *value)));
        let fitted = (entry.fit)(&full, &samples).unwrap();
        let restored = (entry.restore)(&fitted.arrays(), count).unwrap();
        x.iter().for_each(|x| assert_eq!(restored.probabilities(x).unwrap(), fitted.probabilities(x).unwrap()));
        for name in fitted.arrays().0.keys() {
            let mut without = fitted.arrays();
            without.0.remove(name);
            let error = (entry.restore)(&without, count).err();
            assert!(error.is_some_and(|error| error.contains(name)), "{}: {name}", entry.name);
        }
        restored
    }
}
