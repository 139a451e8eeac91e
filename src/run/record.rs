//! `run.json`: what identifies a run.

use super::dir::{RunDir, names};
use super::model_id::{ModelId, ModelRef};
use super::recipe::{NetworkSettings, Recipe};
use crate::class::{Class, Classes};
use crate::error::{Error, Input, Result, if_readable};
use crate::features;
use crate::guard;
use crate::integrity;
use crate::preprocess::{self, Cut};
use crate::rows::{CutRule, ManifestRow};
use crate::split::{self, Splits};
use crate::text::thousands;
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What identifies a run: equal records make equal results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`Record::VERSION`] of the program that wrote it.
    pub version: u32,
    /// The data set whose images train and test the models.
    pub dataset: String,
    /// The classes that the models tell apart, in the order of their outputs.
    pub classes: Classes,
    /// Name of the network or the classifier, as in the recipe.
    pub model: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Number of folds in the split.
    pub folds: u32,
    /// How a network's images were preprocessed; a classical classifier has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<preprocess::Settings>,
    /// What the training images showed, so that new images are cut in the same way; none in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<TrainedImages>,
    /// How a classical classifier's cells were measured; a network has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<features::Settings>,
    /// The settings of training.
    pub recipe: Recipe,
    /// Hashes of the manifest, the splits, and the tensors or the features.
    pub inputs: BTreeMap<String, String>,
    /// The weights that training started from; none where they were random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Set where the data set's own split into training and test images is used instead of folds, or folds that ignore
    /// copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_split: Option<OwnSplit>,
}

/// What most images of a data set show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedImages {
    /// The part that was cut out.
    pub rule: CutRule,
    /// The largest shorter side of an image, px.
    pub shorter_px: u32,
}

impl TrainedImages {
    /// Those of the rows of a manifest, preprocessed with `settings`; `None` where the manifest has none with a rule.
    pub fn of(rows: &[ManifestRow], settings: &preprocess::Settings) -> Option<Self> {
        let rule_of = |row: &ManifestRow| match settings.cut {
            Cut::Centre => Some(CutRule::Centre),
            Cut::Whole => Some(CutRule::Whole),
            Cut::Box => Some(CutRule::Box),
            Cut::Auto | Cut::Cell => row.cut,
        };
        let mut counts: BTreeMap<CutRule, usize> = BTreeMap::new();
        rows.iter().filter_map(rule_of).for_each(|rule| *counts.entry(rule).or_default() += 1);
        let (rule, _) = counts.into_iter().max_by_key(|(_, n)| *n)?;
        let of_rule = rows.iter().filter(|row| rule_of(row) == Some(rule));
        Some(Self { rule, shorter_px: of_rule.map(|row| row.width_px.min(row.height_px)).max()? })
    }
}

/// What is known of a data set's own split into training and test images, or of folds that ignore copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnSplit {
    /// Test images with a copy, or another image of the same frame, subject or slide, among the training images.
    pub leaking_images: u64,
    /// Whether these are folds that ignore copies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignores_copies: bool,
}

impl OwnSplit {
    /// That of a split; `None` for folds that keep copies together.
    pub fn of(splits: &Splits) -> Option<OwnSplit> {
        let ignores_copies = splits.settings.ignore_copies;
        let of = || OwnSplit { leaking_images: splits.leaking().count() as u64, ignores_copies };
        (splits.settings.given || ignores_copies).then(of)
    }
}

impl std::fmt::Display for OwnSplit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let images = thousands(self.leaking_images);
        match self.leaking_images {
            _ if self.ignores_copies => write!(
                f,
                "LEAK: copies were not kept together (split.ignore_copies): {images} test images have a copy among the \
                 training images, so that these figures are too high"
            ),
            0 => write!(f, "The data set's own split into training and test images is used"),
            _ => write!(
                f,
                "LEAK: in the data set's own split, which is used, {images} test images have a copy or another image \
                 of their frame, patient or slide among the training images"
            ),
        }
    }
}

/// Weights of an earlier training that a run starts from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Name of the run, or the file.
    pub from: String,
    /// The model of that run; none for a file.
    pub model: Option<ModelId>,
    /// The data set that the weights were trained on, where it is known.
    pub dataset: Option<String>,
    /// BLAKE3 hash of the weights' file.
    pub hash: String,
}

impl Record {
    /// Version of `run.json` that this program reads and writes.
    pub const VERSION: u32 = 3;
    /// Larger files are no record.
    const MAX_BYTES: u64 = 10_000_000;

    /// Reads a run's `run.json`.
    ///
    /// # Errors
    /// [`Error::Missing`] that lists the runs of the workspace, [`Error::Format`] for a run of another version.
    pub fn read(ws: &Workspace, run: &str) -> Result<Record> {
        Workspace::check_name("run", run)?;
        let path = RunDir::new(ws, run).record();
        let text = guard::read(&path, Self::MAX_BYTES).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let runs = names(ws).unwrap_or_default();
                let hint = if runs.is_empty() { String::new() } else { format!("Runs: {}", runs.join(", ")) };
                Error::missing(Input::Run, &path).with_hint(hint)
            }
            _ => Error::io(&path, "read")(source),
        })?;
        let expected = || format!("a run of version {}", Self::VERSION);
        let record: Record = integrity::from_json(&text).map_err(|e| Error::format(&path, "run", expected(), e))?;
        if record.version != Self::VERSION {
            return Err(Error::format(&path, "version", expected(), record.version));
        }
        record.validate().map_err(|e| Error::format(&path, "settings", "those that wbc wrote", e))?;
        Ok(record)
    }

    /// Checks the numbers, before anything is allocated by them.
    fn validate(&self) -> Result<()> {
        if !(1..=split::MAX_FOLDS).contains(&self.folds) {
            return Err(Error::setting("folds", format!("1 to {}", split::MAX_FOLDS), self.folds));
        }
        self.preprocess.as_ref().map_or(Ok(()), preprocess::Settings::validate)?;
        self.recipe.validate()
    }

    /// Whether the data set's own split into training and test images is used.
    pub fn is_given_split(&self) -> bool {
        self.own_split.as_ref().is_some_and(|split| !split.ignores_copies)
    }

    /// Whether test images have a copy, frame, subject or slide in common with training images.
    pub fn has_leaking_split(&self) -> bool {
        self.own_split.as_ref().is_some_and(|split| split.leaking_images > 0)
    }

    /// Position of a class of the run in its models' outputs.
    ///
    /// # Panics
    /// Panics for another class; [`crate::dataset::Dataset::read`] makes sure that a data set has none.
    pub fn position(&self, class: Class) -> usize {
        self.classes.index(class).expect("a class of the run")
    }

    /// The settings of a network; `run` is its name for the message.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model is a classical classifier.
    pub fn network(&self, run: &str) -> Result<&NetworkSettings> {
        match &self.recipe {
            Recipe::Network(settings) => Ok(settings),
            Recipe::Classical(_) => Err(self.no_network(run)),
        }
    }

    /// How a network's images were preprocessed; `run` is its name for the message.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model is a classical classifier.
    pub fn network_preprocess(&self, run: &str) -> Result<&preprocess::Settings> {
        self.preprocess.as_ref().ok_or_else(|| self.no_network(run))
    }

    /// Hash of an input, where the run has it.
    pub fn input(&self, input: Input) -> Option<&str> {
        self.inputs.get(input.name()).map(String::as_str)
    }

    /// Side of the tensors, px; a classical classifier has none.
    pub fn size_px(&self) -> Option<u32> {
        self.preprocess.as_ref().map(|settings| settings.size_px)
    }

    /// BLAKE3 hash of the record, 64 hex digits: checkpoints and predictions carry it.
    pub fn hash(&self) -> String {
        blake3::hash(serde_json::to_string(self).expect("plain data").as_bytes()).to_hex().to_string()
    }

    fn no_network(&self, run: &str) -> Error {
        Error::setting("run", "a run of a network", format!("{run}, a run of {}", self.model))
    }
}

impl Init {
    /// The weights as the user names them: `RUN`, `RUN:FOLD`, or a file.
    pub fn source(&self) -> String {
        let model = self.model.filter(|model| *model != ModelId::All);
        ModelRef { run: self.from.clone(), model }.to_string()
    }
}

/// The runs of a workspace by name, sorted, and the names of those whose record is damaged or of another version.
///
/// # Errors
/// [`Error::Io`] where a record or the folder of the runs cannot be read.
pub fn list(ws: &Workspace) -> Result<(Vec<(String, Record)>, Vec<String>)> {
    let (mut runs, mut unusable) = (Vec::new(), Vec::new());
    for name in names(ws)? {
        match if_readable(Record::read(ws, &name))? {
            Some(record) => runs.push((name, record)),
            None => unusable.push(name),
        }
    }
    Ok((runs, unusable))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run's hash is that of its record: one byte more and every finished fold would be trained again.
    #[test]
    fn a_record_is_written_as_it_was_read() {
        let settings = serde_json::to_string(&NetworkSettings::default()).unwrap();
        let preprocess = serde_json::to_string(&preprocess::Settings::default()).unwrap();
        let classes = serde_json::to_string(&Classes::wbc5()).unwrap();
        let head = format!(r#"{{"version":3,"dataset":"pbc","classes":{classes},"model":"wnet","#);
        let text = head
            + r#""pipeline":"quick","seed":0,"folds":10,"#
            + &format!(r#""preprocess":{preprocess},"recipe":{settings},"inputs":{{"manifest":"a"}}}}"#);
        let record: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(record.recipe, Recipe::Network(NetworkSettings::default()));
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
}
