//! The classical classifiers of the paper's Table 1, which use measured features instead of images. Each file has one
//! classifier with its hyper-parameters. As with the networks, classes are not weighted unless the recipe says so, so
//! that frequent classes of the training cells are more probable.

use crate::class::ClassWeight;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod arrays;
mod bayes;
mod entry;
mod forest;
mod knn;
mod lda;
mod scale;
mod svm;

pub use arrays::Arrays;
pub use entry::{Choice, Classifier, Entry, Fit, Parameter, Probabilities, Samples, Weighting};
pub use scale::Scale;

/// All classifiers.
pub const CLASSIFIERS: [Entry; 5] = [knn::ENTRY, svm::ENTRY, lda::ENTRY, bayes::ENTRY, forest::ENTRY];

/// The classifier with this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CLASSIFIERS.iter().find(|entry| entry.name == name)
}

/// Settings of a classifier: `[train]` of a pipeline whose `model` is one of [`CLASSIFIERS`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Name of the classifier.
    pub model: String,
    /// Number of folds (2 to 100) of the cross-validation within the training cells of each fold. It selects the
    /// hyper-parameters and calibrates the probabilities.
    pub inner_folds: u32,
    /// Weight of each class; none for equal weights. Not every classifier takes them: see [`Entry::class_weights`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weight: Option<ClassWeight>,
    /// The values of each hyper-parameter to choose from, by name.
    #[serde(flatten)]
    pub grid: BTreeMap<String, Vec<f64>>,
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error;
        #[derive(Deserialize)]
        struct Table {
            model: String,
            #[serde(default = "Settings::default_inner_folds")]
            inner_folds: u32,
            #[serde(default)]
            class_weight: Option<ClassWeight>,
            #[serde(flatten)]
            rest: BTreeMap<String, serde_json::Value>,
        }
        let Table { model, inner_folds, class_weight, mut rest } = Table::deserialize(deserializer)?;
        let entry = find(&model).ok_or_else(|| D::Error::custom(format!("unknown classifier `{model}`")))?;
        let mut grid = BTreeMap::new();
        for parameter in entry.parameters {
            let values = match rest.remove(parameter.name) {
                Some(values) => Vec::<f64>::deserialize(&values)
                    .map_err(|_| D::Error::custom(format!("{}: expected a list of numbers", parameter.name)))?,
                None => parameter.default.to_vec(),
            };
            grid.insert(parameter.name.to_string(), values);
        }
        match rest.keys().next() {
            Some(unknown) => {
                let known: Vec<&str> = entry.parameters.iter().map(|p| p.name).collect();
                let known = [&["model", "inner_folds", "class_weight"], &known[..]].concat().join("`, `");
                Err(D::Error::custom(format!("unknown field `{unknown}`, expected one of `{known}`")))
            }
            None => Ok(Self { model, inner_folds, class_weight, grid }),
        }
    }
}

impl Settings {
    fn default_inner_folds() -> u32 {
        3
    }

    /// The classifier of these settings.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is no classifier with this name.
    pub fn entry(&self) -> Result<&'static Entry> {
        let names = || format!("one of: {}", CLASSIFIERS.map(|c| c.name).join(", "));
        find(&self.model).ok_or_else(|| Error::setting("train.model", names(), &self.model))
    }

    /// Checks all values.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first invalid value.
    pub fn validate(&self) -> Result<()> {
        if !(2..=100).contains(&self.inner_folds) {
            return Err(Error::setting("train.inner_folds", "2 to 100", self.inner_folds));
        }
        if let Some(class_weight) = &self.class_weight {
            class_weight.validate()?;
            if self.entry()?.class_weights == Weighting::None {
                let able = CLASSIFIERS.iter().filter(|c| c.class_weights != Weighting::None).map(|c| c.name);
                let expected = format!("none for {}; {} take it", self.model, able.collect::<Vec<_>>().join(", "));
                return Err(Error::setting("train.class_weight", expected, "class weights"));
            }
        }
        for parameter in self.entry()?.parameters {
            let key = format!("train.{}", parameter.name);
            let values = self.grid.get(parameter.name).map_or(&[][..], Vec::as_slice);
            if values.is_empty() {
                return Err(Error::setting(key, "at least one value", "an empty list"));
            }
            if let Some(invalid) = values.iter().find(|v| !(parameter.valid)(**v)) {
                return Err(Error::setting(key, parameter.expected, invalid));
            }
        }
        Ok(())
    }

    /// All combinations of the grid's values, in which the last parameter by name changes fastest.
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

    /// Fits the classifier on `samples`. If they are all of one class, it always predicts this class.
    ///
    /// # Errors
    /// [`Error::Compute`] if the library fails.
    pub fn fit(&self, choice: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
        let first = samples.classes[0];
        match samples.classes.iter().all(|class| *class == first) {
            true => Ok(Box::new(Constant { class: first, count: samples.count })),
            false => {
                let entry = self.entry()?;
                let fitted = (entry.fit)(choice, samples)?;
                let weighted = entry.class_weights == Weighting::Priors && !samples.class_weights.is_empty();
                let weights = samples.class_weights.to_vec();
                Ok(if weighted { Box::new(Reweighted { fitted, weights }) } else { fitted })
            }
        }
    }
}

/// Makes a fitted classifier of its [`Classifier::arrays`]. `count` is the number of classes.
///
/// # Errors
/// What is wrong with the arrays.
pub fn restore(entry: &Entry, arrays: &Arrays, count: usize) -> std::result::Result<Box<dyn Classifier>, String> {
    if arrays.has(ALWAYS) {
        return match arrays.get_numbers(ALWAYS, count)?[..] {
            [class] => Ok(Box::new(Constant { class, count })),
            ref other => Err(format!("{} classes in the array {ALWAYS}, where one is expected", other.len())),
        };
    }
    let fitted = (entry.restore)(arrays, count)?;
    if !arrays.has(CLASS_WEIGHTS) {
        return Ok(fitted);
    }
    let weights = arrays.get(CLASS_WEIGHTS)?.to_vec();
    arrays::same_length("class weights", weights.len(), count)?;
    Ok(Box::new(Reweighted { fitted, weights }))
}

/// The array of a classifier that was fitted on one class.
const ALWAYS: &str = "always";
/// The array of weights by which priors are multiplied.
pub(crate) const CLASS_WEIGHTS: &str = "class_weights";

/// A classifier whose priors are multiplied by class weights.
struct Reweighted {
    fitted: Box<dyn Classifier>,
    weights: Vec<f64>,
}

impl Classifier for Reweighted {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let p = self.fitted.probabilities(x)?;
        let weighted: Vec<f64> = p.iter().zip(&self.weights).map(|(p, weight)| p * weight).collect();
        let sum: f64 = weighted.iter().sum();
        Ok(weighted.into_iter().map(|p| p / sum).collect())
    }

    fn arrays(&self) -> Arrays {
        self.fitted.arrays().list(CLASS_WEIGHTS, self.weights.clone())
    }
}

/// Always predicts the same class.
struct Constant {
    class: usize,
    /// Number of classes.
    count: usize,
}

impl Classifier for Constant {
    fn probabilities(&self, _: &[f64]) -> Result<Probabilities> {
        Ok((0..self.count).map(|class| f64::from(u8::from(class == self.class))).collect())
    }

    fn arrays(&self) -> Arrays {
        Arrays::default().numbers(ALWAYS, [self.class])
    }
}

/// A choice of hyper-parameters as text: "c 10, gamma 0.25".
pub(crate) fn describe(choice: &Choice) -> String {
    let value = |v: f64| if v.abs() < 1e-3 { format!("{v:e}") } else { v.to_string() };
    choice.iter().map(|(name, v)| format!("{name} {}", value(*v))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::entry::tests::{clusters, fitted, fitted_to};
    use super::*;

    #[test]
    fn all_classifiers_separate_clusters_and_their_probabilities_sum_to_one() {
        let (x, classes) = clusters(20, 4.0);
        for entry in &CLASSIFIERS {
            let fitted = fitted(entry, &[], &x, &classes);
            for (class, at) in [(0, [0.1, 0.2]), (2, [6.2, -0.3]), (4, [0.3, 6.4])] {
                let p = fitted.probabilities(&at).unwrap();
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{}: {p:?}", entry.name);
                assert!(p[class] > 0.8, "{}: {p:?}", entry.name);
                assert!(p.len() == 5 && p[1] < 1e-6, "{}: a class without training cells", entry.name);
            }
            let settings: Settings = toml::from_str(&format!("model = \"{}\"", entry.name)).unwrap();
            let rows: Vec<&[f64]> = x[..6].iter().map(Vec::as_slice).collect();
            let (classes, held_out_by) = (&[3; 6][..], &[0, 0, 1, 1, 2, 2][..]);
            let (count, inner_folds, key, calibrate) = (5, 3, 5, true);
            let class_weights = &[];
            let samples = Samples { x: &rows, classes, count, held_out_by, inner_folds, key, calibrate, class_weights };
            let constant = settings.fit(&settings.choices()[0], &samples).unwrap();
            assert_eq!(constant.probabilities(&[3.0, 3.0]).unwrap()[3], 1.0);
            let restored = restore(entry, &constant.arrays(), 5).unwrap();
            assert_eq!(restored.probabilities(&[3.0, 3.0]).unwrap()[3], 1.0);
        }
    }

    #[test]
    fn two_or_more_than_five_classes_are_told_apart() {
        let (x, classes) = clusters(20, 4.0);
        for entry in &CLASSIFIERS {
            let eight: Vec<usize> = classes.iter().map(|class| class + 3).collect();
            let p = fitted_to(8, entry, &[], &x, &eight).probabilities(&[6.2, -0.3]).unwrap();
            assert!(p.len() == 8 && p[5] > 0.8 && p[0] < 1e-6, "{}: {p:?}", entry.name);
            let two: Vec<usize> = classes.iter().map(|class| class / 2 % 2).collect();
            let p = fitted_to(2, entry, &[], &x, &two).probabilities(&[6.2, -0.3]).unwrap();
            assert!(p.len() == 2 && p[1] > 0.5 && (p[0] + p[1] - 1.0).abs() < 1e-9, "{}: {p:?}", entry.name);
        }
    }

    #[test]
    fn class_weights_make_a_class_more_probable() {
        let (x, classes) = clusters(30, 9.0);
        let rows: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
        let held_out_by: Vec<u32> = (0..x.len() as u32).map(|i| i / 3 % 3).collect();
        for entry in CLASSIFIERS.iter().filter(|entry| entry.class_weights != Weighting::None) {
            let settings: Settings = toml::from_str(&format!("model = \"{}\"", entry.name)).unwrap();
            let mut choice = settings.choices()[0].clone();
            choice.entry("k".into()).and_modify(|k| *k = 15.0);
            let probability = |class_weights: &[f64]| {
                let (count, inner_folds, key, calibrate) = (5, 3, 5, true);
                let (x, classes, held_out_by) = (&rows[..], &classes[..], &held_out_by[..]);
                let samples = Samples { x, classes, count, held_out_by, inner_folds, key, calibrate, class_weights };
                let fitted = settings.fit(&choice, &samples).unwrap();
                let p = fitted.probabilities(&[3.0, 0.0]).unwrap();
                let restored = restore(entry, &fitted.arrays(), 5).unwrap();
                assert_eq!(restored.probabilities(&[3.0, 0.0]).unwrap(), p, "{}", entry.name);
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                p[2]
            };
            let (equal, more) = (probability(&[]), probability(&[1.0, 1.0, 8.0, 1.0, 1.0]));
            assert!(more > equal, "{}: {equal} and {more}", entry.name);
            assert!((probability(&[1.0; 5]) - equal).abs() < 1e-9, "{}", entry.name);
        }
    }

    #[test]
    fn choices_are_all_combinations_and_invalid_settings_are_errors() {
        let settings: Settings = toml::from_str("model = \"svm\"\nc = [1, 10]\ngamma = [0.5, 1.0, 2]").unwrap();
        assert_eq!(settings.choices().len(), 6);
        assert_eq!(settings.choices()[1], Choice::from([("c".into(), 1.0), ("gamma".into(), 1.0)]));
        settings.validate().unwrap();
        for (text, wanted) in [
            ("model = \"svm\"\nepochs = 3", "unknown field `epochs`"),
            ("model = \"svm\"\nc = 3", "c: expected a list of numbers"),
            ("model = \"tree\"", "unknown classifier `tree`"),
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
