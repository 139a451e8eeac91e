//! The fitted classical classifiers of a run: one safetensors file per model, with all that it takes to classify the
//! features of a new cell.

use super::checkpoint::{self, broken};
use super::dir::RunDir;
use super::model_id::ModelId;
use super::record::Record;
use crate::classical::{self, Arrays, Classifier, Scale};
use crate::error::{Error, Input, Result};
use crate::features;
use crate::schema::FEATURES;
use crate::workspace::Workspace;
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A fitted classifier of a run, with the run's record.
pub struct FittedModel {
    /// The run's record.
    pub record: Record,
    /// Which model of the run it is.
    pub id: ModelId,
    /// How features are standardised, fitted on the training cells.
    pub scale: Scale,
    /// The classifier of standardised features.
    pub classifier: Box<dyn Classifier>,
}

/// The metadata of the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Meta {
    /// [`Record::hash`] of the run.
    run: String,
    /// Name of the classifier.
    model: String,
    /// Which model of the run it is.
    id: ModelId,
    /// Names of the features of a cell, in order.
    features: Vec<String>,
}

impl FittedModel {
    /// Probabilities of the classes of the run for a cell with these features, in the order of the schema.
    ///
    /// # Errors
    /// [`Error::Compute`] where the library fails.
    pub fn probabilities(&self, features: &[Option<f64>]) -> Result<Vec<f32>> {
        let p = self.classifier.probabilities(&self.scale.apply(features))?;
        Ok(p.into_iter().map(|p| p as f32).collect())
    }

    /// The names of the features that it uses, in the order of [`Scale::apply`].
    pub fn features(&self) -> Vec<&'static str> {
        self.scale.columns().map(|k| FEATURES.columns[1 + k].name.as_str()).collect()
    }

    /// Writes it to its place in the run's folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, dir: &RunDir) -> Result<()> {
        let meta = Meta {
            run: self.record.hash(),
            model: self.record.model.clone(),
            id: self.id,
            features: features::names(),
        };
        let path = dir.classifier(self.id);
        let mut arrays = self.scale.arrays();
        arrays.0.extend(self.classifier.arrays().0);
        let bytes = |values: Vec<f64>| -> Box<dyn Fn() -> Vec<u8>> {
            Box::new(move || values.iter().flat_map(|v| v.to_le_bytes()).collect())
        };
        let arrays = arrays.0.into_iter().map(|(name, (shape, values))| (name, (shape, bytes(values))));
        checkpoint::write(&path, &meta, ("F64", 8), arrays.collect())
    }

    /// Whether the file of a model, where there is one, is as it was written.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read.
    pub fn is_intact(dir: &RunDir, id: ModelId) -> Result<bool> {
        checkpoint::is_sound::<Meta>(&dir.classifier(id))
    }

    /// Whether a model of a run is there; `run` is the record's hash.
    ///
    /// # Errors
    /// [`Error::Format`] where the file is not one that wbc wrote.
    pub fn is_finished(dir: &RunDir, id: ModelId, run: &str) -> Result<bool> {
        Ok(meta(&dir.classifier(id))?.is_some_and(|meta| meta.run == run))
    }

    /// Opens a fitted classifier of a run.
    ///
    /// # Errors
    /// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is a run of a network
    /// or has no such fold, [`Error::Format`] for a damaged file, [`Error::Stale`] where its features are others than
    /// this version measures.
    pub fn open(ws: &Workspace, run: &str, id: ModelId) -> Result<Self> {
        let record = Record::read(ws, run)?;
        let Some(entry) = classical::find(&record.model) else {
            return Err(Error::setting("run", "a run of a classical classifier", format!("{run}, a network")));
        };
        let dir = RunDir::new(ws, run);
        let path = dir.classifier(id);
        let Some(meta) = meta(&path)?.filter(|meta| meta.run == record.hash()) else {
            if id.fold().is_some_and(|fold| fold >= record.folds) {
                return Err(Error::setting("fold", format!("0 to {}, a fold of {run}", record.folds - 1), id));
            }
            return Err(Error::missing(Input::Checkpoint, path).with_hint("This model is not finished"));
        };
        if meta.features != features::names() {
            return Err(Error::stale(Input::Checkpoint, path, "this version of wbc measures other features"));
        }
        let arrays = read(&path)?;
        let of = || {
            let scale = Scale::restore(&arrays, meta.features.len())?;
            Ok((scale, classical::restore(entry, &arrays, record.classes.len())?))
        };
        let (scale, classifier) = of().map_err(|why: String| broken(&path, why))?;
        Ok(Self { record, id, scale, classifier })
    }
}

fn meta(path: &Path) -> Result<Option<Meta>> {
    checkpoint::metadata(path)
}

fn read(path: &Path) -> Result<Arrays> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    checkpoint::require_intact(path, &bytes)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| broken(path, e))?;
    let mut arrays = Arrays::default();
    for (name, view) in tensors.iter() {
        if view.dtype() != Dtype::F64 {
            return Err(Error::format(path, name, "F64", format!("{:?}", view.dtype())));
        }
        let (values, _) = view.data().as_chunks::<8>();
        let values = values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
        arrays.0.insert(name.into(), (view.shape().to_vec(), values));
    }
    Ok(arrays)
}
