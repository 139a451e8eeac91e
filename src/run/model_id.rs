//! Which model of a run is meant.

use crate::error::{Error, Result};
use crate::split::Splits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// One model of a run: that of a fold, or the one trained on all images.
///
/// Written as the fold's number or `all`, on the command line and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelId {
    /// Trained on all folds but this one, from 0, whose images test it.
    Fold(u32),
    /// Trained on all images; nothing is left to test it on.
    All,
}

impl ModelId {
    /// The fold that tests the model.
    pub fn fold(self) -> Option<u32> {
        match self {
            Self::Fold(fold) => Some(fold),
            Self::All => None,
        }
    }

    /// Name of the model's folder in a run, and of its exported files: `fold-03` or `all`.
    pub fn folder_name(self) -> String {
        match self {
            Self::Fold(fold) => format!("fold-{fold:02}"),
            Self::All => "all".into(),
        }
    }

    /// The model whose folder has that name.
    pub fn from_folder_name(name: &str) -> Option<Self> {
        let id = match name.strip_prefix("fold-") {
            Some(fold) => Self::Fold(fold.parse().ok()?),
            None => Self::All,
        };
        (id.folder_name() == name).then_some(id)
    }

    /// "fold 3" or "all images", for messages.
    pub fn title(self) -> String {
        match self {
            Self::Fold(fold) => format!("fold {fold}"),
            Self::All => "all images".into(),
        }
    }

    /// The `fold` of [`crate::seed::key`]. The model of all images takes the first number that is no fold.
    pub fn seed_key(self, folds: u32) -> u64 {
        self.fold().unwrap_or(folds).into()
    }

    /// The images that the model is trained on, sorted by `image_id`.
    pub fn training_images(self, splits: &Splits) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Fold(fold) => Box::new(splits.train(fold)),
            Self::All => Box::new(splits.train_any()),
        }
    }

    /// The images that test the model, sorted by `image_id`; none for the model of all images.
    pub fn test_images(self, splits: &Splits) -> impl Iterator<Item = &str> {
        self.fold().into_iter().flat_map(|fold| splits.test(fold))
    }
}

impl Display for ModelId {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fold(fold) => fold.fmt(f),
            Self::All => "all".fmt(f),
        }
    }
}

impl FromStr for ModelId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(fold)) => Ok(Self::Fold(fold)),
            _ => Err(Error::setting("model", "the number of a fold, or all", text)),
        }
    }
}

impl Serialize for ModelId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Fold(fold) => serializer.serialize_u32(*fold),
            Self::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for ModelId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Fold(u32),
            Name(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Fold(fold) => Ok(Self::Fold(fold)),
            Text::Name(name) => name.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A run, or one of its models: `RUN`, `RUN:FOLD` or `RUN:all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// Name of the run.
    pub run: String,
    /// The model, where one is named.
    pub model: Option<ModelId>,
}

impl FromStr for ModelRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.rsplit_once(':') {
            None => Ok(Self { run: text.into(), model: None }),
            Some((run, model)) => match model.parse() {
                Ok(model) => Ok(Self { run: run.into(), model: Some(model) }),
                Err(_) => Err(Error::setting("run", "RUN, RUN:FOLD with the number of a fold, or RUN:all", text)),
            },
        }
    }
}

impl Display for ModelRef {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self.model {
            Some(model) => write!(f, "{}:{model}", self.run),
            None => self.run.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_written_as_they_are_read() {
        for (text, id, json) in [("3", ModelId::Fold(3), "3"), ("all", ModelId::All, "\"all\"")] {
            assert_eq!((text.parse::<ModelId>().unwrap(), id.to_string()), (id, text.to_string()));
            assert_eq!(ModelId::from_folder_name(&id.folder_name()), Some(id));
            assert_eq!(serde_json::to_string(&id).unwrap(), json);
            assert_eq!(serde_json::from_str::<ModelId>(json).unwrap(), id);
            let reference: ModelRef = format!("pbc:{text}").parse().unwrap();
            assert_eq!(reference, ModelRef { run: "pbc".into(), model: Some(id) });
            assert_eq!(reference.to_string(), format!("pbc:{text}"));
        }
        assert_eq!("pbc".parse::<ModelRef>().unwrap(), ModelRef { run: "pbc".into(), model: None });
        for name in ["fold-3", "fold-x", "external"] {
            assert_eq!(ModelId::from_folder_name(name), None);
        }
        for wrong in ["pbc:", "pbc:x", "pbc:-1"] {
            assert!(wrong.parse::<ModelRef>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_depend_on_the_model_alone_and_never_coincide() {
        let keys: Vec<u64> = [ModelId::Fold(0), ModelId::Fold(9), ModelId::All].map(|id| id.seed_key(10)).into();
        assert_eq!(keys, [0, 9, 10]);
    }
}
