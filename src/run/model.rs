//! The finished networks of a run, opened to predict with.

use super::cell_size::Scale;
use super::checkpoint::{self, Meta};
use super::dir::RunDir;
use super::fitted::FittedModel;
use super::model_id::ModelId;
use super::recipe::{NetworkSettings, Recipe};
use super::record::Record;
use crate::batch::{Normalise, Tensors, View};
use crate::class::{Class, Classes};
use crate::error::{Error, Input, Result};
use crate::models::grad_cam::ClassMap;
use crate::models::{self, Inference, Model};
use crate::nn::device::Device;
use crate::workspace::Workspace;
use std::collections::BTreeMap;

/// A finished network of a run, with the run's record and the checkpoint's metadata.
pub struct TrainedModel {
    /// The run's record.
    pub record: Record,
    /// The settings of training.
    pub settings: NetworkSettings,
    /// The checkpoint's metadata.
    pub meta: Meta,
    /// The network with its weights.
    pub model: Box<dyn Model>,
}

impl TrainedModel {
    /// The classes that it tells apart, in the order of its outputs.
    pub fn classes(&self) -> &Classes {
        &self.record.classes
    }

    /// Which model of the run it is.
    pub fn id(&self) -> ModelId {
        self.meta.id
    }

    /// Probabilities of the classes for the tensors at `rows`, as means over the views that the recipe averages, and
    /// the features of the unturned tensors.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device is out of memory.
    pub fn infer(&self, tensors: &Tensors, rows: &[usize]) -> Result<Inference> {
        infer(self.model.as_ref(), &self.meta.normalise, self.settings.test_views, tensors, rows)
    }

    /// Has the sizes of cells count as the recipe says, and returns how large those of each folder appear; nothing
    /// where they do not count. See [`CellSizes::weigh`](super::CellSizes::weigh).
    pub fn weigh_sizes(
        &self,
        probabilities: &mut [Vec<f32>],
        diameters_px: &[Option<[f32; 2]>],
        folders: &[&str],
    ) -> BTreeMap<String, Scale> {
        let Some(sizes) = &self.meta.cell_sizes else { return BTreeMap::new() };
        sizes.weigh(self.settings.cell_size, probabilities, diameters_px, folders, true)
    }

    /// [`TrainedModel::infer`] on the unturned tensors alone.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device is out of memory.
    pub fn infer_once(&self, tensors: &Tensors, rows: &[usize]) -> Result<Inference> {
        infer(self.model.as_ref(), &self.meta.normalise, 1, tensors, rows)
    }

    /// Grad-CAM of the unturned tensors at `rows`: a map for the class of each.
    ///
    /// # Errors
    /// [`Error::Setting`] for a class that the run does not have, [`Error::Compute`] where the device is out of memory.
    pub fn class_maps(&self, tensors: &Tensors, rows: &[usize], classes: &[Class]) -> Result<Vec<ClassMap>> {
        let known = self.classes();
        let output = |class: &Class| {
            known.index(*class).ok_or_else(|| Error::setting("class", format!("a class of the run: {known}"), class))
        };
        let outputs: Vec<usize> = classes.iter().map(output).collect::<Result<_>>()?;
        let mut x = vec![0.0; rows.len() * tensors.size_px * tensors.size_px * 3];
        tensors.fill(rows, |_| View::default(), &self.meta.normalise, &mut x);
        (models::find(&self.record.model)?.grad_cam)(self.model.as_ref())?.class_maps(&x, &outputs)
    }
}

/// Mean probabilities over the first `views` views of the tensors at `rows`; the features are those of the first view.
pub(crate) fn infer(
    model: &dyn Model,
    normalise: &Normalise,
    views: usize,
    tensors: &Tensors,
    rows: &[usize],
) -> Result<Inference> {
    let len = tensors.size_px * tensors.size_px * 3;
    let mut mean = Inference { probabilities: vec![Vec::new(); rows.len()], ..Default::default() };
    for view in 0..views {
        let mut x = vec![0.0; rows.len() * len];
        tensors.fill(rows, |_| View::turned(view), normalise, &mut x);
        let inferred = model.infer(&x, rows.len())?;
        if view == 0 {
            (mean.features, mean.width) = (inferred.features, inferred.width);
        }
        for (means, p) in mean.probabilities.iter_mut().zip(inferred.probabilities) {
            means.resize(p.len(), 0.0);
            means.iter_mut().zip(p).for_each(|(sum, p)| *sum += p / views as f32);
        }
    }
    Ok(mean)
}

/// The finished models of a run: those of the folds, in order, then that of all images.
///
/// # Errors
/// [`Error::Missing`] where there is no such run or none of its models is finished.
pub fn finished(ws: &Workspace, run: &str) -> Result<Vec<ModelId>> {
    let record = Record::read(ws, run)?;
    let (hash, dir) = (record.hash(), RunDir::new(ws, run));
    let mut finished = Vec::new();
    for id in (0..record.folds).map(ModelId::Fold).chain([ModelId::All]) {
        if is_finished(&dir, &record, id, &hash)? {
            finished.push(id);
        }
    }
    if finished.is_empty() {
        return Err(Error::missing(Input::Checkpoint, dir.path()).with_hint("No model of this run is finished"));
    }
    Ok(finished)
}

/// Whether a model of a run is finished; `hash` is the record's.
///
/// # Errors
/// [`Error::Format`] where its file is not one that wbc wrote.
pub fn is_finished(dir: &RunDir, record: &Record, id: ModelId, hash: &str) -> Result<bool> {
    match &record.recipe {
        Recipe::Network(_) => Ok(checkpoint::finished(dir, id, hash)?.is_some()),
        Recipe::Classical(_) => FittedModel::is_finished(dir, id, hash),
    }
}

/// Opens a finished network.
///
/// # Errors
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is a run of a classical
/// classifier.
pub fn open(ws: &Workspace, run: &str, id: ModelId, device: Device) -> Result<TrainedModel> {
    let record = Record::read(ws, run)?;
    let settings = record.network(run)?.clone();
    let dir = RunDir::new(ws, run);
    let path = dir.checkpoint(id);
    let Some(meta) = checkpoint::finished(&dir, id, &record.hash())? else {
        if id.fold().is_some_and(|fold| fold >= record.folds) {
            return Err(Error::setting("fold", format!("0 to {}, a fold of {run}", record.folds - 1), id));
        }
        return Err(Error::missing(Input::Checkpoint, path).with_hint("This model is not finished"));
    };
    if record.size_px().is_some_and(|size_px| size_px as usize != meta.size_px) {
        return Err(Error::format(&path, "size_px", format!("that of {run}"), meta.size_px));
    }
    let mut model =
        settings.build(meta.size_px, record.classes.len(), record.seed, id.seed_key(record.folds), device)?;
    checkpoint::load(&path, model.as_mut(), &meta)?;
    Ok(TrainedModel { record, settings, meta, model })
}
