//! What to train besides the recipe, and the summary of what was trained.

use super::curves::Log;
use super::init::InitSource;
use crate::class::Class;
use crate::error::Result;
use crate::nn::device::Device;
use crate::preprocess;
use crate::run::claim::Holder;
use crate::run::{ModelId, Recipe};
use crate::workspace::Workspace;
use serde::Serialize;
use std::path::PathBuf;

/// Which models of a run to train.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// One model per fold.
    #[default]
    EveryFold,
    /// The models of these folds, from 0.
    Folds(Vec<u32>),
    /// One model on all images: to start other trainings from, or to predict new images with.
    AllImages,
    /// None: the results of the finished folds are only put together.
    NoModel,
}

/// What to train and where, besides the recipe.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the run: a folder under `runs/`.
    pub run: String,
    /// Name of the pipeline, for the record.
    pub pipeline: String,
    /// How the images were preprocessed; a classical classifier ignores it.
    pub preprocess: preprocess::Settings,
    /// Which models to train.
    pub target: Target,
    /// Weights to start from; random ones where none are named.
    pub init: Option<InitSource>,
    /// Where a network is trained. It does not identify a run: a fold may be resumed on another device, with the same
    /// results but for rounding.
    pub device: Device,
    /// Learning curves to write for other programs. They do not identify a run, and can be added to a finished one.
    pub logs: Vec<Log>,
    /// Deletes a run of that name that has other settings or inputs.
    pub restart: bool,
    /// The settings of every stage as text for `pipeline.toml` in the run's folder: to read, and to run again.
    pub pipeline_file: Option<String>,
}

impl Plan {
    /// Trains every fold on the CPU, from random weights.
    pub fn new(run: impl Into<String>, preprocess: preprocess::Settings) -> Self {
        Self {
            run: run.into(),
            pipeline: "custom".into(),
            preprocess,
            target: Target::EveryFold,
            init: None,
            device: Device::Cpu,
            logs: Vec::new(),
            restart: false,
            pipeline_file: None,
        }
    }

    /// Checks the run's name, and the plan against the recipe, before any data are read.
    ///
    /// # Errors
    /// [`crate::error::Error::Setting`] for a name that cannot be a folder's, or an option that a classical classifier
    /// does not have.
    pub fn suits(&self, recipe: &Recipe) -> Result<()> {
        Workspace::check_name("run", &self.run)?;
        recipe.network_only(&[
            ("init", self.init.is_some()),
            ("device", self.device != Device::Cpu),
            ("log", !self.logs.is_empty()),
        ])
    }
}

/// A model that another process is training.
#[derive(Clone, Debug, Serialize)]
pub struct Elsewhere {
    /// The model.
    pub model: ModelId,
    /// The process; none where its claim does not say.
    pub holder: Option<Holder>,
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.model.title())?;
        self.holder.as_ref().map_or(Ok(()), |holder| write!(f, " ({holder})"))
    }
}

/// What was trained.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// The run's folder.
    pub folder: PathBuf,
    /// Name of the data set.
    pub dataset: String,
    /// Name of the network or classifier.
    pub model: String,
    /// Trainable parameters of a network.
    pub parameters: Option<usize>,
    /// Number of folds in the split.
    pub folds: u32,
    /// Models that were finished before.
    pub up_to_date: Vec<ModelId>,
    /// Models that were finished now.
    pub trained: Vec<ModelId>,
    /// Models that other processes are training.
    pub elsewhere: Vec<Elsewhere>,
    /// Folds that are not trained yet.
    pub missing: Vec<u32>,
    /// Images in the split.
    pub images: u64,
    /// Classes of the data set without an image to train on: no model can predict them.
    pub without_images: Vec<Class>,
    /// Files and folders with the learning curves.
    pub curves: Vec<PathBuf>,
    /// Seconds that it took.
    pub elapsed_s: f64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let folds = |folds: &[u32]| format!("fold {}", list(folds));
        let models = |models: &[ModelId]| match models {
            [ModelId::All] => "the model of all images".into(),
            folds => format!("fold {}", list(folds)),
        };
        let parameters = self.parameters.map_or(String::new(), |n| format!(" ({n} parameters)"));
        writeln!(f, "run {}: {}{parameters} on {}, {} images", self.run, self.model, self.dataset, self.images)?;
        if !self.without_images.is_empty() {
            writeln!(f, "no image to train on: {}; no model will predict such a class", list(&self.without_images))?;
        }
        if !self.trained.is_empty() {
            writeln!(f, "trained: {} in {:.0} s", models(&self.trained), self.elapsed_s)?;
        }
        if !self.up_to_date.is_empty() {
            writeln!(f, "up to date: {}", models(&self.up_to_date))?;
        }
        if !self.elsewhere.is_empty() {
            writeln!(f, "being trained by another process: {}", list(&self.elsewhere))?;
        }
        if !self.missing.is_empty() {
            writeln!(f, "still to train: {}", folds(&self.missing))?;
        }
        for path in &self.curves {
            writeln!(f, "curves: {}", path.display())?;
        }
        write!(f, "results: {}", self.folder.display())
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
