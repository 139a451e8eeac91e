//! `pipelines/*.toml`: every stage's settings in one file, no code. The built-in ones are compiled in.

use crate::error::{Error, Input, Result};
use crate::run::Recipe;
use crate::{check, features, ingest, preprocess, split};
use serde::{Deserialize, Serialize};

/// One experiment. Every key is optional; an unknown one is an error that names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Short name: part of the run's name.
    pub name: String,
    /// What it is for and where its numbers come from.
    #[serde(default)]
    pub doc: String,
    /// Data set, where the file fixes one.
    #[serde(default)]
    pub dataset: Option<String>,
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub ingest: ingest::Settings,
    #[serde(default)]
    pub check: check::Settings,
    #[serde(default)]
    pub split: split::Settings,
    #[serde(default)]
    pub preprocess: preprocess::Settings,
    #[serde(default)]
    pub features: features::Settings,
    #[serde(default)]
    pub train: Recipe,
}

/// The pipelines that are compiled in.
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
    /// A built-in pipeline by name, or the file at the path `name`.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is neither, [`Error::Format`] with line and key where the file is wrong.
    pub fn load(name: &str) -> Result<Pipeline> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(name, text);
        }
        let path = std::path::Path::new(name);
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let names = BUILT_IN.map(|(name, _)| name).join(", ");
                Error::missing(Input::Pipeline, path).with_hint(format!("Built-in pipelines: {names}"))
            }
            _ => Error::Io { path: path.into(), action: "read", source },
        })?;
        Self::parse(name, &text)
    }

    /// All settings as a pipeline file.
    ///
    /// # Errors
    /// [`Error::Setting`] for a seed that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Setting {
            key: "seed".into(),
            expected: format!("0 to {}", i64::MAX),
            got: format!("{} ({e})", self.seed),
        })
    }

    /// # Errors
    /// [`Error::Setting`] of the first stage whose settings cannot be.
    pub fn validate(&self) -> Result<()> {
        self.ingest.validate()?;
        self.check.validate()?;
        self.split.validate()?;
        self.preprocess.validate()?;
        self.features.validate()?;
        self.train.validate()?;
        match &self.train {
            Recipe::Network(settings) => settings.suits(self.preprocess.size_px),
            Recipe::Classical(_) => Ok(()),
        }
    }

    fn parse(origin: &str, text: &str) -> Result<Pipeline> {
        toml::from_str(text).map_err(|e| Error::Format {
            path: origin.into(),
            item: "pipeline".into(),
            expected: "the keys that pipelines/quick.toml shows".into(),
            got: e.to_string().trim_end().to_string(),
        })
    }
}
