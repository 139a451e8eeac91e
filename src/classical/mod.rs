//! The classical classifiers of the paper's Table 1, on measured features instead of pictures. A file each: what it is
//! fitted by, and the hyper-parameters it can choose from. Probabilities are the shares or posteriors that each file
//! names; no class is weighted, as none is for the networks: what is frequent in training is expected in testing.

use crate::class::Class;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod bayes;
mod forest;
mod knn;
mod lda;
mod scale;
mod svm;

pub use scale::Scale;

/// Probabilities of the five classes, summing to 1.
pub type Probabilities = [f64; Class::COUNT];

/// Hyper-parameters by name.
pub type Choice = BTreeMap<String, f64>;

/// Cells to fit on.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// A row a cell, standardised and without gaps; at least one.
    pub x: &'a [&'a [f64]],
    /// The cells' classes; at least two different ones.
    pub classes: &'a [Class],
    /// The inner fold that holds each cell out, and how many there are; no group is in two.
    pub held_out_by: &'a [u32],
    pub inner_folds: u32,
    /// For randomness: see [`crate::seed::key`].
    pub key: u64,
    /// Whether the probabilities matter, or only which is the largest.
    pub calibrate: bool,
}

/// What was fitted.
pub trait Fitted: Sync {
    /// A cell's probabilities; `x` is as [`Samples::x`]'s rows.
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities>;
}

type Fit = fn(&Choice, &Samples) -> Result<Box<dyn Fitted>>;

/// A hyper-parameter.
pub struct Parameter {
    pub name: &'static str,
    /// The values that are tried where the pipeline names none.
    pub default: &'static [f64],
    /// What it may be.
    pub expected: &'static str,
    pub valid: fn(f64) -> bool,
}

/// A classifier's registration.
pub struct Entry {
    pub name: &'static str,
    pub title: &'static str,
    pub parameters: &'static [Parameter],
    pub fit: Fit,
}

/// Every classifier, by name.
pub const CLASSIFIERS: [Entry; 5] = [knn::ENTRY, svm::ENTRY, lda::ENTRY, bayes::ENTRY, forest::ENTRY];

/// The classifier named `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    CLASSIFIERS.iter().find(|entry| entry.name == name)
}

/// Settings of a classifier's training: `[train]` of a pipeline whose `model` is one of [`CLASSIFIERS`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    pub model: String,
    /// Folds that a fold's training cells are dealt to, group by group, to choose hyper-parameters and to calibrate.
    pub inner_folds: u32,
    /// The values of each hyper-parameter to choose from.
    #[serde(flatten)]
    pub grid: BTreeMap<String, Vec<f64>>,
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error;
        #[derive(Deserialize)]
        struct Given {
            model: String,
            #[serde(default = "Settings::usual_inner_folds")]
            inner_folds: u32,
            #[serde(flatten)]
            rest: BTreeMap<String, serde_json::Value>,
        }
        let Given { model, inner_folds, mut rest } = Given::deserialize(deserializer)?;
        let entry = find(&model).ok_or_else(|| D::Error::custom(format!("no classifier is named `{model}`")))?;
        let mut grid = BTreeMap::new();
        for parameter in entry.parameters {
            let values = match rest.remove(parameter.name) {
                Some(given) => Vec::<f64>::deserialize(&given)
                    .map_err(|_| D::Error::custom(format!("{}: expected a list of numbers", parameter.name)))?,
                None => parameter.default.to_vec(),
            };
            grid.insert(parameter.name.to_string(), values);
        }
        match rest.keys().next() {
            Some(unknown) => {
                let known: Vec<&str> = entry.parameters.iter().map(|p| p.name).collect();
                let known = [&["model", "inner_folds"], &known[..]].concat().join("`, `");
                Err(D::Error::custom(format!("unknown field `{unknown}`, `{model}` has `{known}`")))
            }
            None => Ok(Self { model, inner_folds, grid }),
        }
    }
}

impl Settings {
    fn usual_inner_folds() -> u32 {
        3
    }

    /// A classifier's settings with its usual grid.
    pub fn usual(entry: &Entry) -> Self {
        let grid = entry.parameters.iter().map(|p| (p.name.to_string(), p.default.to_vec())).collect();
        Self { model: entry.name.into(), inner_folds: Self::usual_inner_folds(), grid }
    }

    /// Its classifier.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is none of that name.
    pub fn entry(&self) -> Result<&'static Entry> {
        find(&self.model).ok_or_else(|| Error::Setting {
            key: "train.model".into(),
            expected: format!("one of: {}", CLASSIFIERS.map(|c| c.name).join(", ")),
            got: self.model.clone(),
        })
    }

    /// # Errors
    /// [`Error::Setting`] that names the key, what it may be and what it is.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, expected: &str, got: String| {
            Err(Error::Setting { key: format!("train.{key}"), expected: expected.into(), got })
        };
        if !(2..=100).contains(&self.inner_folds) {
            return wrong("inner_folds", "2 to 100", self.inner_folds.to_string());
        }
        for parameter in self.entry()?.parameters {
            let values = self.grid.get(parameter.name).map_or(&[][..], Vec::as_slice);
            if values.is_empty() {
                return wrong(parameter.name, "at least one value", "an empty list".into());
            }
            if let Some(bad) = values.iter().find(|v| !(parameter.valid)(**v)) {
                return wrong(parameter.name, parameter.expected, bad.to_string());
            }
        }
        Ok(())
    }

    /// Every combination of the grid's values, the last parameter's changing fastest.
    pub fn choices(&self) -> Vec<Choice> {
        let mut choices = vec![Choice::new()];
        for (name, values) in &self.grid {
            let with = |choice: &Choice, value: f64| {
                let mut choice = choice.clone();
                choice.insert(name.clone(), value);
                choice
            };
            choices = choices.iter().flat_map(|choice| values.iter().map(|v| with(choice, *v))).collect();
        }
        choices
    }

    /// Fits on `samples`; where all are of one class, what is fitted expects that class.
    ///
    /// # Errors
    /// [`Error::Compute`] where the library refuses.
    pub fn fit(&self, choice: &Choice, samples: &Samples) -> Result<Box<dyn Fitted>> {
        let first = samples.classes[0];
        match samples.classes.iter().all(|class| *class == first) {
            true => Ok(Box::new(Always(first))),
            false => (self.entry()?.fit)(choice, samples),
        }
    }
}

/// Knows one class only.
struct Always(Class);

impl Fitted for Always {
    fn probabilities(&self, _: &[f64]) -> Result<Probabilities> {
        Ok(std::array::from_fn(|class| f64::from(u8::from(class == self.0.index()))))
    }
}

/// How the log says it.
pub fn describe(choice: &Choice) -> String {
    let value = |v: f64| if v.abs() < 1e-3 { format!("{v:e}") } else { v.to_string() };
    let each: Vec<String> = choice.iter().map(|(name, v)| format!("{name} {}", value(*v))).collect();
    each.join(", ")
}

/// The classes that occur, in order.
fn present(classes: &[Class]) -> Vec<Class> {
    Class::ALL.into_iter().filter(|class| classes.contains(class)).collect()
}

/// Probabilities from the logarithms of what they are proportional to; minus infinity is never.
fn normalised(logarithms: [f64; Class::COUNT]) -> Probabilities {
    let largest = logarithms.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let each = logarithms.map(|l| (l - largest).exp());
    let sum: f64 = each.iter().sum();
    each.map(|e| e / sum)
}

/// A library's refusal.
fn refused(what: &str) -> impl Fn(smartcore::error::Failed) -> Error {
    let what = what.to_string();
    move |error| Error::Compute { what: what.clone(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use rand::Rng;

    /// Three heaps around (0, 0), (6, 0) and (0, 6), `n` cells each, spread over `width` each way.
    pub(super) fn heaps(n: usize, width: f64) -> (Vec<Vec<f64>>, Vec<Class>) {
        let mut rng = seed::rng(1, "heaps", 0, 0, 0);
        let mut unit = || f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5;
        let centres = [(Class::Neutrophil, 0.0, 0.0), (Class::Basophil, 6.0, 0.0), (Class::Monocyte, 0.0, 6.0)];
        let mut cells = Vec::new();
        for _ in 0..n {
            for (class, x, y) in centres {
                cells.push((vec![x + width * unit(), y + width * unit()], class));
            }
        }
        cells.into_iter().unzip()
    }

    pub(super) fn fitted(name: &str, choice: &[(&str, f64)], x: &[Vec<f64>], classes: &[Class]) -> Box<dyn Fitted> {
        let rows: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
        let held_out_by: Vec<u32> = (0..x.len() as u32).map(|i| i / 3 % 3).collect();
        let samples = Samples { x: &rows, classes, held_out_by: &held_out_by, inner_folds: 3, key: 5, calibrate: true };
        let settings = Settings::usual(find(name).unwrap());
        let mut full = settings.choices().swap_remove(0);
        full.extend(choice.iter().map(|(name, value)| (name.to_string(), *value)));
        settings.fit(&full, &samples).unwrap()
    }

    #[test]
    fn every_classifier_parts_heaps_and_its_probabilities_sum_to_one() {
        let (x, classes) = heaps(20, 4.0);
        for entry in &CLASSIFIERS {
            let fitted = fitted(entry.name, &[], &x, &classes);
            for (class, at) in
                [(Class::Neutrophil, [0.1, 0.2]), (Class::Basophil, [6.2, -0.3]), (Class::Monocyte, [0.3, 6.4])]
            {
                let p = fitted.probabilities(&at).unwrap();
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}: {p:?}", entry.name);
                assert!(p[class.index()] > 0.8, "{}: {p:?}", entry.name);
                assert!(p[Class::Eosinophil.index()] < 1e-6, "{}: a class it never met", entry.name);
            }
            let one = vec![Class::Lymphocyte; 6];
            let always = super::tests::fitted(entry.name, &[], &x[..6], &one);
            assert_eq!(always.probabilities(&[3.0, 3.0]).unwrap()[Class::Lymphocyte.index()], 1.0);
        }
    }

    #[test]
    fn a_choice_is_every_combination_and_wrong_settings_say_what_is_right() {
        let settings: Settings = toml::from_str("model = \"svm\"\nc = [1, 10]\ngamma = [0.5, 1.0, 2]").unwrap();
        assert_eq!(settings.choices().len(), 6);
        assert_eq!(settings.choices()[1], Choice::from([("c".into(), 1.0), ("gamma".into(), 1.0)]));
        settings.validate().unwrap();
        for (text, wanted) in [
            ("model = \"svm\"\nepochs = 3", "unknown field `epochs`"),
            ("model = \"svm\"\nc = 3", "c: expected a list of numbers"),
            ("model = \"tree\"", "no classifier is named `tree`"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        for (text, key) in [
            ("model = \"knn\"\nk = [0]", "train.k"),
            ("model = \"knn\"\nk = []", "train.k"),
            ("model = \"forest\"\ntrees = [1.5]", "train.trees"),
            ("model = \"lda\"\ninner_folds = 1", "train.inner_folds"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
