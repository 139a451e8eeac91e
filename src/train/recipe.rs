//! `[train]` of a pipeline: a network's settings or a classical classifier's, by the name under `model`. What does not
//! apply to a model is neither taken nor recorded.

use super::Settings;
use crate::classical;
use crate::error::{Error, Result};
use crate::models::MODELS;
use serde::{Deserialize, Serialize};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Recipe {
    /// A network of [`crate::models::MODELS`], on pictures.
    Network(Settings),
    /// A classifier of [`classical::CLASSIFIERS`], on features.
    Classical(classical::Settings),
}

impl Default for Recipe {
    fn default() -> Self {
        Self::Network(Settings::default())
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        let classical = value.get("model").and_then(|m| m.as_str()).is_some_and(|m| classical::find(m).is_some());
        match classical {
            true => classical::Settings::deserialize(value).map(Self::Classical),
            false => Settings::deserialize(value).map(Self::Network),
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

    /// # Errors
    /// [`Error::Setting`] of the first of `asked` that is asked for, where the model is a classical one, which has no
    /// such thing. Say so before cells are measured, which takes minutes.
    pub fn network_only(&self, asked: &[(&str, bool)]) -> Result<()> {
        match (self, asked.iter().find(|(_, asked)| *asked)) {
            (Self::Classical(settings), Some((key, _))) => Err(Error::Setting {
                key: (*key).into(),
                expected: "a network, which learns weights in steps".into(),
                got: settings.model.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Error::Setting`] that names the key, what it may be and what it is.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Network(settings) => settings.validate(),
            Self::Classical(settings) => settings.validate(),
        }
    }
}

/// A model's name in print; of another version's model, its name.
pub fn title(model: &str) -> &str {
    let network = MODELS.iter().find(|m| m.name == model).map(|m| m.title);
    network.or(classical::find(model).map(|c| c.title)).unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_name_says_which_keys_there_are() {
        let parse = toml::from_str::<Recipe>;
        assert_eq!(parse("").unwrap(), Recipe::default());
        assert!(matches!(parse("model = \"wnet\"\nepochs = 3").unwrap(), Recipe::Network(s) if s.epochs == 3));
        assert!(matches!(parse("model = \"knn\"\nk = [7]").unwrap(), Recipe::Classical(s) if s.grid["k"] == [7.0]));
        assert!(parse("model = \"wnet\"\nk = [7]").unwrap_err().to_string().contains("unknown field `k`"));
        assert!(parse("model = \"knn\"\nbatch = 7").unwrap_err().to_string().contains("unknown field `batch`"));
        // What a record says is what made it, to the last bit.
        for text in ["learning_rate = 0.0123\ndropout = 0.3", "model = \"svm\"\nc = [0.1, 3]"] {
            let recipe = parse(text).unwrap();
            let json = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
            assert_eq!(json.contains("epochs"), !text.contains("svm"), "{json}");
        }
    }
}
