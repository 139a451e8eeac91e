//! The networks of a run as one classifier: mean probabilities, calibrated, with a flag on cells that should not be
//! trusted.

use super::calibration;
use super::differential::Confusion;
use super::distance::Reference;
use super::images::CellImage;
use crate::batch::Tensors;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::error::{Error, Input, Result, if_readable};
use crate::nn::device::Device;
use crate::rows::{CellRow, ManifestRow, PredictionRow};
use crate::run::{self, ModelId, ModelRef, TrainedModel};
use crate::schema::MANIFEST;
use crate::split;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use std::collections::{BTreeMap, HashMap};

/// A cell is flagged below this calibrated confidence: about one in ten such cells, or more, is classified wrongly.
pub const CONFIDENT: f32 = 0.9;

/// A flag of [`CellRow`]: the calibrated confidence is below [`CONFIDENT`].
pub const LOW_CONFIDENCE: &str = "low confidence";
/// A flag of [`CellRow`]: the cell is unlike the training cells.
pub const UNLIKE_TRAINING: &str = "unlike training";

/// Networks of a run that classify together.
pub(crate) struct Ensemble {
    pub models: Vec<TrainedModel>,
    /// See [`calibration`].
    pub temperature: f64,
    /// How often the run confuses its classes.
    pub confusion: Confusion,
    /// Training cells of each model, to measure distances from.
    references: Option<Vec<Reference>>,
}

/// A classified cell.
pub(crate) struct Classified {
    pub row: CellRow,
    /// Probabilities by each model alone, not calibrated.
    pub by_model: Vec<Vec<f32>>,
}

impl Ensemble {
    /// Opens the model that `source` names, or the models of all finished folds. Where no fold is finished, the model
    /// of all images is opened. With distances from the training cells where the run's tensors still exist.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no such finished model, [`Error::Setting`] where the run is not of a network.
    pub fn open(ws: &Workspace, source: &ModelRef, device: Device, ctx: &Context) -> Result<Self> {
        let mut ensemble = Self::open_without_distances(ws, source, device)?;
        ensemble.references = references(ws, &ensemble.models, ctx)?;
        Ok(ensemble)
    }

    /// [`Ensemble::open`] without distances from the training cells.
    ///
    /// # Errors
    /// As [`Ensemble::open`].
    pub fn open_without_distances(ws: &Workspace, source: &ModelRef, device: Device) -> Result<Self> {
        let run = &source.run;
        let mut ids = match source.model {
            Some(id) => vec![id],
            None => run::finished(ws, run)?,
        };
        if ids.len() > 1 {
            ids.retain(|id| *id != ModelId::All);
        }
        let models: Vec<TrainedModel> = ids.iter().map(|id| run::open(ws, run, *id, device)).collect::<Result<_>>()?;
        let (classes, predictions) = (models[0].classes(), own_predictions(ws, run)?);
        let temperature = calibration::temperature(classes, &predictions);
        let confusion = Confusion::new(classes, &predictions, models[0].record.seed);
        Ok(Self { models, temperature, confusion, references: None })
    }

    /// Which models of the run they are.
    pub fn ids(&self) -> impl Iterator<Item = ModelId> + '_ {
        self.models.iter().map(TrainedModel::id)
    }

    /// The classes that they tell apart.
    pub fn classes(&self) -> &Classes {
        self.models[0].classes()
    }

    /// Whether distances from the training cells can be measured.
    pub fn has_distances(&self) -> bool {
        self.references.is_some()
    }

    /// The provenance of tables with the ensemble's results.
    pub fn provenance(&self, run: &str) -> Provenance {
        let ids: Vec<ModelId> = self.ids().collect();
        let settings = serde_json::json!({
            "run": run, "models": ids, "temperature": self.temperature, "confident": CONFIDENT,
        });
        Provenance {
            stage: "predict".into(),
            settings,
            seed: Some(self.models[0].record.seed),
            inputs: BTreeMap::from([(Input::Run.name().into(), self.models[0].meta.run.clone())]),
        }
    }

    /// Classifies cells, in order.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device is out of memory.
    pub fn classify(&self, cells: &[CellImage]) -> Result<Vec<Classified>> {
        let size_px = self.models[0].meta.size_px;
        let tensors = Tensors::from_pixels(size_px, cells.iter().flat_map(|c| c.pixels.iter().copied()).collect());
        let rows: Vec<usize> = (0..cells.len()).collect();
        let share = 1.0 / self.models.len() as f32;
        let mut by_model = vec![Vec::new(); cells.len()];
        let mut distances = vec![0f32; cells.len()];
        for (i, model) in self.models.iter().enumerate() {
            let inferred = model.infer(&tensors, &rows)?;
            by_model.iter_mut().zip(inferred.probabilities).for_each(|(all, p)| all.push(p));
            if let Some(references) = &self.references {
                let model_distances = references[i].distances(&inferred.features);
                distances.iter_mut().zip(model_distances).for_each(|(sum, d)| *sum += share * d);
            }
        }
        let results = cells.iter().zip(by_model).zip(distances);
        Ok(results.map(|((cell, by_model), distance)| self.classified(cell, by_model, distance)).collect())
    }

    fn classified(&self, cell: &CellImage, by_model: Vec<Vec<f32>>, distance: f32) -> Classified {
        let share = 1.0 / by_model.len() as f32;
        let classes = self.classes();
        let mut mean = vec![0f32; classes.len()];
        by_model.iter().for_each(|p| mean.iter_mut().zip(p).for_each(|(mean, p)| *mean += share * p));
        let p = calibration::scale(&mean, self.temperature);
        let class = classes.likeliest(&p);
        let votes = by_model.iter().filter(|p| classes.likeliest(p) == class).count();
        let confidence = p.iter().copied().fold(0.0, f32::max);
        let distance = self.references.as_ref().map(|_| distance);
        let flags = [(LOW_CONFIDENCE, confidence < CONFIDENT), (UNLIKE_TRAINING, distance.is_some_and(|d| d > 1.0))];
        let flags: Vec<&str> = flags.into_iter().filter_map(|(flag, holds)| holds.then_some(flag)).collect();
        let row = CellRow {
            path: cell.path.display().to_string(),
            cell: cell.cell,
            x_px: cell.rect.map(|r| r.x),
            y_px: cell.rect.map(|r| r.y),
            width_px: cell.rect.map(|r| r.width),
            height_px: cell.rect.map(|r| r.height),
            class,
            confidence,
            agreement: share * votes as f32,
            distance,
            flag: (!flags.is_empty()).then(|| flags.join(", ")),
            training_image: None,
            probabilities: p,
        };
        Classified { row, by_model }
    }
}

/// Predictions on the run's own test images; none where no fold is finished.
fn own_predictions(ws: &Workspace, run: &str) -> Result<Vec<PredictionRow>> {
    match run::predictions(ws, run) {
        Err(Error::Missing { .. }) => Ok(Vec::new()),
        rows => rows,
    }
}

/// Each model's training cells; none where the tensors or the split of the training have changed or are gone.
fn references(ws: &Workspace, models: &[TrainedModel], ctx: &Context) -> Result<Option<Vec<Reference>>> {
    let record = &models[0].record;
    let Some(settings) = &record.preprocess else { return Ok(None) };
    let Some(tensors) = if_readable(Tensors::load(ws, &record.dataset, settings))? else { return Ok(None) };
    let splits = match if_readable(split::read(ws, &record.dataset))? {
        Some(splits) if record.input(Input::Tensors) == Some(&tensors.hash) => splits,
        _ => return Ok(None),
    };
    if record.input(Input::Splits) != Some(&table::file_hash(&ws.splits(&record.dataset))?) {
        return Ok(None);
    }
    let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(&record.dataset), &MANIFEST)?;
    let class_of: HashMap<String, Class> = manifest.into_iter().filter_map(|r| Some((r.image_id, r.class?))).collect();
    let task = ctx.progress.task("reading training cells", Some(models.len() as u64), "models");
    let reference = |model: &TrainedModel| {
        ctx.check_stop()?;
        let reference = Reference::new(model, &tensors, &splits, &class_of);
        task.advance(1);
        reference
    };
    models.iter().map(reference).collect::<Result<_>>().map(Some)
}
