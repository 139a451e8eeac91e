//! A pipeline: the settings of every stage in one file (`pipelines/*.toml`). Some are built in.

use crate::error::{Error, Input, Result};
use crate::guard;
use crate::run::{Recipe, Record};
use crate::{check, features, ingest, jobs, preprocess, split};
use serde::{Deserialize, Serialize};

/// The settings of one experiment. Every key but the name is optional; an unknown key is an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Short name: part of the run's name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub doc: String,
    /// The data set, where the file names one.
    #[serde(default)]
    pub dataset: Option<String>,
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Which classes there are, and which of them each label of a data set stands for.
    #[serde(default)]
    pub classes: ingest::ClassSettings,
    /// How images are read into manifests.
    #[serde(default)]
    pub ingest: ingest::Settings,
    /// How images are checked.
    #[serde(default)]
    pub check: check::Settings,
    /// How images are assigned to folds.
    #[serde(default)]
    pub split: split::Settings,
    /// How images become tensors, for networks.
    #[serde(default)]
    pub preprocess: preprocess::Settings,
    /// How cells are measured, for classical classifiers.
    #[serde(default)]
    pub features: features::Settings,
    /// The model and how it is trained.
    #[serde(default)]
    pub train: Recipe,
    /// What jobs of a Slurm cluster ask for; it does not change results.
    #[serde(default, skip_serializing_if = "jobs::Settings::is_default")]
    pub slurm: jobs::Settings,
}

/// Larger files are no pipeline.
const MAX_BYTES: u64 = 10_000_000;

/// Names and texts of the built-in pipelines.
pub const BUILT_IN: [(&str, &str); 13] = [
    ("quick", include_str!("../pipelines/quick.toml")),
    ("paper", include_str!("../pipelines/paper.toml")),
    ("resnet50", include_str!("../pipelines/resnet50.toml")),
    ("resnet50-paper", include_str!("../pipelines/resnet50-paper.toml")),
    ("robust", include_str!("../pipelines/robust.toml")),
    ("lisc", include_str!("../pipelines/lisc.toml")),
    ("lisc-paper", include_str!("../pipelines/lisc-paper.toml")),
    ("demo", include_str!("../pipelines/demo.toml")),
    ("knn", include_str!("../pipelines/knn.toml")),
    ("svm", include_str!("../pipelines/svm.toml")),
    ("lda", include_str!("../pipelines/lda.toml")),
    ("bayes", include_str!("../pipelines/bayes.toml")),
    ("forest", include_str!("../pipelines/forest.toml")),
];

impl Pipeline {
    /// The model, recipe and preprocessing of a run, as its record has them; the usual settings for other stages.
    pub fn of_run(record: &Record) -> Self {
        Self {
            name: record.pipeline.clone(),
            doc: String::new(),
            dataset: None,
            seed: record.seed,
            classes: Default::default(),
            ingest: Default::default(),
            check: Default::default(),
            split: Default::default(),
            preprocess: record.preprocess.clone().unwrap_or_default(),
            features: record.features.clone().unwrap_or_default(),
            train: record.recipe.clone(),
            slurm: Default::default(),
        }
    }

    /// A built-in pipeline by name, or the file at the path `name`.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is neither, [`Error::Format`] with line and key where the file is invalid.
    pub fn load(name: &str) -> Result<Pipeline> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(name, text);
        }
        let path = std::path::Path::new(name);
        let bytes = guard::read(path, MAX_BYTES).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let names = BUILT_IN.map(|(name, _)| name).join(", ");
                Error::missing(Input::Pipeline, path).with_hint(format!("Built-in pipelines: {names}"))
            }
            _ => Error::Io { path: path.into(), action: "read", source },
        })?;
        let text = String::from_utf8(bytes).map_err(|e| Error::format(name, "pipeline", "text in UTF-8", e))?;
        Self::parse(name, &text)
    }

    /// The settings of ingest, with the classes.
    pub fn ingest(&self) -> ingest::Settings {
        ingest::Settings { classes: self.classes.clone(), ..self.ingest.clone() }
    }

    /// Replaces the settings of ingest and the classes.
    pub fn set_ingest(&mut self, settings: ingest::Settings) {
        self.classes = settings.classes.clone();
        self.ingest = ingest::Settings { classes: ingest::ClassSettings::default(), ..settings };
    }

    /// All settings as a pipeline file.
    ///
    /// # Errors
    /// [`Error::Setting`] for a seed that TOML cannot represent.
    pub fn to_toml(&self) -> Result<String> {
        let wrong = |e| Error::setting("seed", format!("0 to {}", i64::MAX), format!("{} ({e})", self.seed));
        toml::to_string(self).map_err(wrong)
    }

    /// Checks the settings of every stage.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first value that is not allowed.
    pub fn validate(&self) -> Result<()> {
        self.ingest().validate()?;
        self.check.validate()?;
        self.split.validate()?;
        self.preprocess.validate()?;
        self.features.validate()?;
        self.train.validate()?;
        self.slurm.validate()?;
        match &self.train {
            Recipe::Network(settings) => settings.suits(&self.preprocess),
            Recipe::Classical(_) => Ok(()),
        }
    }

    fn parse(origin: &str, text: &str) -> Result<Pipeline> {
        let wrong = |e: toml::de::Error| {
            Error::format(origin, "pipeline", "keys as in pipelines/quick.toml", e.to_string().trim_end())
        };
        toml::from_str(text).map_err(wrong)
    }
}
