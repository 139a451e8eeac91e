//! Where the files of a run lie: `runs/<run>/` of the workspace.

use super::model_id::ModelId;
use crate::error::{Error, Result};
use crate::guard;
use crate::workspace::Workspace;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of a run.
///
/// ```text
/// run.json              what identifies the run (`Record`)
/// pipeline.toml         the settings of every stage, where the caller gave them
/// epochs.parquet        one row per epoch of the finished folds
/// predictions.parquet   one row per test image of the finished folds
/// metrics.parquet       written by evaluate
/// intervals.parquet     written by evaluate
/// curves.csv            with --log csv
/// tensorboard/          with --log tensorboard
/// fold-00/ ... all/     one folder per model
///   checkpoint.safetensors   a network's weights
///   classifier.safetensors   a fitted classical classifier
///   fit.json                 what it chose
///   predictions.parquet      the fold's test images
///   held_out.parquet         the held-out test set, predicted by the fold's model
///   timings.csv              one line per epoch: times differ from run to run
///   claim.json               the process that trains the model, while it does
/// held_out/             results on the held-out test set, where the split has one
/// external/DATASET/     results on another data set
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The folder of `run`, whether it exists or not.
    pub fn new(ws: &Workspace, run: &str) -> Self {
        Self { path: ws.run(run) }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The record of what identifies the run.
    pub fn record(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// The settings of every stage, for people to read and to run again. Not every run has it.
    pub fn pipeline(&self) -> PathBuf {
        self.path.join("pipeline.toml")
    }

    /// Epoch rows of the finished folds.
    pub fn epochs(&self) -> PathBuf {
        self.path.join("epochs.parquet")
    }

    /// Prediction rows of the finished folds.
    pub fn predictions(&self) -> PathBuf {
        self.path.join("predictions.parquet")
    }

    /// Metric rows of the finished folds.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.parquet")
    }

    /// Interval rows of the finished folds.
    pub fn intervals(&self) -> PathBuf {
        self.path.join("intervals.parquet")
    }

    /// How long each epoch of a model took.
    pub fn timings(&self, id: ModelId) -> PathBuf {
        self.model(id).join("timings.csv")
    }

    /// Learning curves as a table: of the folds together, or of the model of all images.
    pub fn curves(&self, all: bool) -> PathBuf {
        if all { self.model(ModelId::All).join("curves.csv") } else { self.path.join("curves.csv") }
    }

    /// Learning curves as event files, one folder per model.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// The folder of one model.
    pub fn model(&self, id: ModelId) -> PathBuf {
        self.path.join(id.folder_name())
    }

    /// The models that have a folder, sorted; none for a run that does not exist.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn models(&self) -> Result<Vec<ModelId>> {
        let names = visible(&self.path)?;
        let mut models: Vec<ModelId> = names.iter().filter_map(|name| ModelId::from_folder_name(name)).collect();
        models.sort();
        Ok(models)
    }

    /// A network's weights and the state of its training.
    pub fn checkpoint(&self, id: ModelId) -> PathBuf {
        self.model(id).join("checkpoint.safetensors")
    }

    /// A fitted classical classifier.
    pub fn classifier(&self, id: ModelId) -> PathBuf {
        self.model(id).join("classifier.safetensors")
    }

    /// What a classical classifier chose.
    pub fn fit(&self, id: ModelId) -> PathBuf {
        self.model(id).join("fit.json")
    }

    /// Prediction rows of one fold's test images.
    pub fn model_predictions(&self, id: ModelId) -> PathBuf {
        self.model(id).join("predictions.parquet")
    }

    /// Prediction rows of the held-out test set by one fold's model.
    pub fn model_held_out(&self, id: ModelId) -> PathBuf {
        self.model(id).join("held_out.parquet")
    }

    /// Results on the held-out test set: mean probabilities of the models of the finished folds, and their metrics.
    pub fn held_out(&self) -> ExternalDir {
        ExternalDir::new(self.path.join("held_out"))
    }

    /// Results on other data sets, one folder per validation.
    pub fn external(&self) -> PathBuf {
        self.path.join("external")
    }

    /// Results on `dataset`: of the models of all folds together, or of one model alone.
    pub fn external_dataset(&self, dataset: &str, model: Option<ModelId>) -> ExternalDir {
        ExternalDir::new(self.external().join(match model {
            None => dataset.to_string(),
            Some(ModelId::Fold(fold)) => format!("{dataset}-fold-{fold}"),
            Some(ModelId::All) => format!("{dataset}-all"),
        }))
    }

    /// Held by the process that trains a model: see [`super::claim`].
    pub fn claim(&self, id: ModelId) -> PathBuf {
        self.model(id).join("claim.json")
    }

    /// Held while the results of the finished folds are put together.
    pub fn gathering(&self) -> PathBuf {
        self.path.join("gathering.json")
    }

    /// Held by a process that sends jobs to an engine, or runs them.
    pub fn submitting(&self, engine: &str) -> PathBuf {
        self.jobs(engine).join("claim.json")
    }

    /// Folder of the scripts and logs of the jobs that an engine, such as `slurm`, runs for the run.
    pub fn jobs(&self, engine: &str) -> PathBuf {
        self.path.join(engine)
    }
}

/// The folder of one external validation, or of the held-out test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalDir {
    path: PathBuf,
}

impl ExternalDir {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was validated, and on what.
    pub fn about(&self) -> PathBuf {
        self.path.join("about.json")
    }

    /// One row per classified image.
    pub fn cells(&self) -> PathBuf {
        self.path.join("cells.parquet")
    }

    /// Predictions of the averaged models.
    pub fn predictions(&self) -> PathBuf {
        self.path.join("predictions.parquet")
    }

    /// Metrics of the averaged models and of single models.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.parquet")
    }

    /// Intervals of the averaged models' metrics.
    pub fn intervals(&self) -> PathBuf {
        self.path.join("intervals.parquet")
    }
}

/// Names of the runs of a workspace, sorted; also of those that another version of wbc wrote, or that cannot be read.
///
/// # Errors
/// [`Error::Io`] if the folder of the runs cannot be listed.
pub fn names(ws: &Workspace) -> Result<Vec<String>> {
    let mut names = visible(&ws.runs())?;
    names.retain(|name| guard::is_file(&RunDir::new(ws, name).record()).unwrap_or(true));
    Ok(names)
}

/// The names in a folder that do not start with a dot, sorted; none where there is no such folder.
///
/// # Errors
/// [`Error::Io`] if it cannot be listed.
pub(crate) fn visible(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io(folder, "list"))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io(folder, "list"))?.file_name().into_string().ok();
        names.extend(name.filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}
