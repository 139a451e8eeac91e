//! The recipe: `[train]` of a pipeline. `model` names a network or a classical classifier and decides which other keys
//! there are.

use crate::batch::{self, Augment, Normalisation};
use crate::class::ClassWeight;
use crate::class::Classes;
use crate::classical;
use crate::error::{Error, Result};
use crate::models::{self, MODELS, Model};
use crate::nn::device::Device;
use crate::nn::optim::{Optimiser, Schedule};
use crate::nn::{Precision, Vector};
use crate::preprocess::{self, Cut};
use serde::{Deserialize, Serialize};

/// The exponent of the focal loss in its paper.
const USUAL_GAMMA: f32 = 2.0;

fn is_usual_gamma(gamma: &f32) -> bool {
    *gamma == USUAL_GAMMA
}

/// Which training images an epoch has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every image once, in random order.
    #[default]
    Shuffled,
    /// As many images, equally many of each class: those of rare classes several times, some of frequent ones not.
    Balanced,
    /// As many images, equally many of each data set of a joint one: those of small data sets several times, some of
    /// large ones not.
    Laboratory,
}

impl Sampling {
    fn is_usual(&self) -> bool {
        *self == Self::Shuffled
    }
}

/// The loss that training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// The mean cross-entropy.
    #[default]
    CrossEntropy,
    /// The focal loss (Lin et al. 2017): images that are already predicted well count less.
    Focal,
}

impl LossKind {
    fn is_usual(&self) -> bool {
        *self == Self::CrossEntropy
    }
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSettings {
    /// A name of [`models::MODELS`].
    pub model: String,
    /// Passes over the training images.
    pub epochs: u32,
    /// Images per step.
    pub batch: usize,
    /// Learning rate (the peak, where the schedule has one).
    pub learning_rate: f64,
    /// How the learning rate changes during training.
    pub schedule: Schedule,
    /// How the weights follow the gradient.
    pub optimiser: Optimiser,
    /// Share of activations dropped, 0 to below 1. The paper's "p = 0.6" was the share that TensorFlow kept.
    pub dropout: f32,
    /// ResNet50: the last scale of each block starts at 0, so that the block starts as the identity (Goyal et al.
    /// 2017).
    pub zero_init_residual: bool,
    /// How pixel values are normalised.
    pub normalise: Normalisation,
    /// Random changes of training images.
    pub augment: Augment,
    /// Weight of each class in the loss; none for equal weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weight: Option<ClassWeight>,
    /// Which training images an epoch has.
    #[serde(skip_serializing_if = "Sampling::is_usual")]
    pub sampling: Sampling,
    /// The loss that training minimises.
    #[serde(skip_serializing_if = "LossKind::is_usual")]
    pub loss: LossKind,
    /// Exponent of the focal loss, 0 (cross-entropy) to 10; other losses ignore it.
    #[serde(skip_serializing_if = "is_usual_gamma")]
    pub focal_gamma: f32,
    /// What the operands of matrix products are rounded to; `bf16`, and `tf32` on a CUDA device, can be several times
    /// as fast as `f32`.
    #[serde(skip_serializing_if = "Precision::is_usual")]
    pub precision: Precision,
    /// How much the size of a cell and its nucleus counts beside its pixels, 0 to 1; above 0 with `cut = "cell"`. See
    /// [`super::CellSizes`].
    #[serde(skip_serializing_if = "batch::is_zero")]
    pub cell_size: f32,
    /// Views of each test image whose probabilities are averaged: 1, or the 8 combinations of rotations and flips.
    pub test_views: usize,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            model: "wnet".into(),
            epochs: 12,
            batch: 64,
            learning_rate: 1e-3,
            schedule: Schedule::OneCycle,
            optimiser: Optimiser::default(),
            dropout: 0.4,
            zero_init_residual: false,
            normalise: Normalisation::Channel,
            augment: Augment::default(),
            class_weight: None,
            sampling: Sampling::Shuffled,
            loss: LossKind::CrossEntropy,
            focal_gamma: USUAL_GAMMA,
            precision: Precision::F32,
            cell_size: 0.0,
            test_views: 1,
        }
    }
}

impl NetworkSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Setting`] that names the key, the expected values and the value given.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, key: &str, expected: &str, got: String| {
            if ok { Ok(()) } else { Err(Error::setting(format!("train.{key}"), expected, got)) }
        };
        models::find(&self.model)?;
        check(self.epochs >= 1, "epochs", "at least 1", self.epochs.to_string())?;
        check((1..=4096).contains(&self.batch), "batch", "1 to 4096", self.batch.to_string())?;
        let rate = self.learning_rate;
        check(rate > 0.0 && rate.is_finite(), "learning_rate", "above 0", rate.to_string())?;
        check(
            (0.0..1.0).contains(&self.dropout),
            "dropout",
            "0 to below 1 (the share dropped)",
            self.dropout.to_string(),
        )?;
        let weight = self.cell_size;
        check((0.0..=1.0).contains(&weight), "cell_size", "0 to 1", weight.to_string())?;
        check([1, 8].contains(&self.test_views), "test_views", "1 or 8", self.test_views.to_string())?;
        let gamma = self.focal_gamma;
        check((0.0..=10.0).contains(&gamma), "focal_gamma", "0 to 10", gamma.to_string())?;
        check(
            gamma == USUAL_GAMMA || self.loss == LossKind::Focal,
            "focal_gamma",
            "a value only with loss = \"focal\"",
            gamma.to_string(),
        )?;
        check(
            self.sampling != Sampling::Balanced || self.class_weight != Some(ClassWeight::Balanced),
            "class_weight",
            "none beside sampling = \"balanced\", which has the same effect",
            "balanced".into(),
        )?;
        self.class_weight.as_ref().map_or(Ok(()), ClassWeight::validate)?;
        self.augment.validate()
    }

    /// Checks that the network takes tensors as `preprocess` makes them and has this optimiser, before any image is
    /// preprocessed.
    ///
    /// # Errors
    /// [`Error::Setting`] that names the key, the expected values and the value given.
    pub fn suits(&self, preprocess: &preprocess::Settings) -> Result<()> {
        if self.cell_size > 0.0 && preprocess.cut != Cut::Cell {
            let expected = "0 unless preprocess.cut = \"cell\", which finds out how large cells are";
            return Err(Error::setting("train.cell_size", expected, self.cell_size));
        }
        models::find(&self.model)?.validate(&self.spec(preprocess.size_px as usize, Classes::MIN, 0, 0))
    }

    /// A network for `classes` classes with random weights, keyed by `seed` and `fold`: see
    /// [`super::ModelId::seed_key`].
    pub(crate) fn build(
        &self,
        size_px: usize,
        classes: usize,
        seed: u64,
        fold: u64,
        device: Device,
    ) -> Result<Box<dyn Model>> {
        models::find(&self.model)?.build(&self.spec(size_px, classes, seed, fold), device)
    }

    fn spec(&self, size_px: usize, classes: usize, seed: u64, fold: u64) -> models::Spec {
        models::Spec {
            size_px,
            classes,
            seed,
            fold,
            dropout: self.dropout,
            optimiser: self.optimiser,
            zero_init_residual: self.zero_init_residual,
            precision: self.precision,
            vector: Vector::detect(),
        }
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Recipe {
    /// A network of [`crate::models::MODELS`], trained on tensors.
    Network(NetworkSettings),
    /// A classifier of [`classical::CLASSIFIERS`], fitted on features.
    Classical(classical::Settings),
}

impl Default for Recipe {
    fn default() -> Self {
        Self::Network(NetworkSettings::default())
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        let classical = value.get("model").and_then(|m| m.as_str()).is_some_and(|m| classical::find(m).is_some());
        match classical {
            true => classical::Settings::deserialize(value).map(Self::Classical),
            false => NetworkSettings::deserialize(value).map(Self::Network),
        }
        .map_err(D::Error::custom)
    }
}

impl Recipe {
    /// Name of the model.
    pub fn model(&self) -> &str {
        match self {
            Self::Network(settings) => &settings.model,
            Self::Classical(settings) => &settings.model,
        }
    }

    /// Refuses options that only a network has, given as (name, whether it was given). Called early, because
    /// measuring features takes minutes.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first such option, where the model is a classical classifier.
    pub fn network_only(&self, options: &[(&str, bool)]) -> Result<()> {
        match (self, options.iter().find(|(_, given)| *given)) {
            (Self::Classical(settings), Some((key, _))) => {
                Err(Error::setting(*key, "a network: classical classifiers have no such option", &settings.model))
            }
            _ => Ok(()),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Setting`] that names the key, the expected values and the value given.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Network(settings) => settings.validate(),
            Self::Classical(settings) => settings.validate(),
        }
    }
}

/// A model's name as the tables print it; an unknown model's name as it is.
pub fn model_title(model: &str) -> &str {
    let network = MODELS.iter().find(|m| m.name == model).map(|m| m.title);
    network.or(classical::find(model).map(|c| c.title)).unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_decides_which_keys_there_are() {
        let parse = toml::from_str::<Recipe>;
        assert_eq!(parse("").unwrap(), Recipe::default());
        assert!(matches!(parse("model = \"wnet\"\nepochs = 3").unwrap(), Recipe::Network(s) if s.epochs == 3));
        assert!(matches!(parse("model = \"knn\"\nk = [7]").unwrap(), Recipe::Classical(s) if s.grid["k"] == [7.0]));
        assert!(parse("model = \"wnet\"\nk = [7]").unwrap_err().to_string().contains("unknown field `k`"));
        assert!(parse("model = \"knn\"\nbatch = 7").unwrap_err().to_string().contains("unknown field `batch`"));
        // Writing and reading a recipe as JSON loses nothing.
        for text in [
            "learning_rate = 0.0123\ndropout = 0.3",
            "class_weight = { basophil = 5.0 }\nloss = \"focal\"\nfocal_gamma = 1.5",
            "sampling = \"balanced\"",
            "model = \"svm\"\nc = [0.1, 3]",
            "model = \"svm\"\nclass_weight = \"balanced\"",
        ] {
            let recipe = parse(text).unwrap();
            let json = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
            assert_eq!(json.contains("epochs"), !text.contains("svm"), "{json}");
            assert_eq!(toml::from_str::<Recipe>(&toml::to_string(&recipe).unwrap()).unwrap(), recipe);
            recipe.validate().unwrap();
            for setting in ["class_weight", "sampling", "loss", "focal_gamma"] {
                assert_eq!(json.contains(&format!("\"{setting}\"")), text.contains(setting), "{json}");
            }
        }
    }

    #[test]
    fn settings_against_imbalance_that_do_not_go_together_are_errors() {
        for (text, wanted) in [
            ("class_weight = \"balanced\"\nsampling = \"balanced\"", "train.class_weight"),
            ("focal_gamma = 3.0", "only with loss"),
            ("loss = \"focal\"\nfocal_gamma = -1.0", "0 to 10"),
            ("class_weight = { basophil = -1.0 }", "train.class_weight.basophil"),
            ("model = \"forest\"\nclass_weight = \"balanced\"", "none for forest; knn, svm, lda, bayes take it"),
        ] {
            let error = toml::from_str::<Recipe>(text).unwrap().validate().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let unknown = toml::from_str::<Recipe>("model = \"knn\"\nsampling = \"balanced\"").unwrap_err().to_string();
        assert!(unknown.contains("unknown field `sampling`"), "{unknown}");
    }
}
