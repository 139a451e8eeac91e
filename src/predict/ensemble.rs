//! The models of a run as one classifier: mean probabilities, calibrated, with a flag on cells that should not be
//! trusted.

use super::appearance::{self, Appearance, Unlike};
use super::calibration;
use super::differential::Confusion;
use super::distance::Reference;
use super::flags::{CONFIDENT, LOW_CONFIDENCE, NO_NUCLEUS, UNLIKE_TRAINING, add_flag};
use super::images::CellImage;
use crate::batch::Tensors;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result, if_readable};
use crate::features;
use crate::nn::device::Device;
use crate::rect::Rect;
use crate::rows::{CellRow, PredictionRow};
use crate::run::{self, FittedModel, ModelId, ModelRef, Recipe, Record, Scale, TrainedModel};
use crate::split::{self, Splits};
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Models of a run that classify together.
pub(crate) struct Ensemble {
    pub models: Models,
    /// See [`calibration`].
    pub temperature: f64,
    /// How often the run confuses its classes.
    pub confusion: Confusion,
    /// What is known of the training cells.
    home: Option<Home>,
}

/// The models of a run: at least one.
pub(crate) enum Models {
    Networks(Vec<TrainedModel>),
    Classifiers(Vec<FittedModel>),
}

impl Models {
    pub fn open(ws: &Workspace, source: &ModelRef, device: Device) -> Result<Self> {
        let run = &source.run;
        let mut ids = match source.model {
            Some(id) => vec![id],
            None => run::finished(ws, run)?,
        };
        if ids.len() > 1 {
            ids.retain(|id| *id != ModelId::All);
        }
        let ids = ids.into_iter();
        Ok(match Record::read(ws, run)?.recipe {
            Recipe::Network(_) => Self::Networks(ids.map(|id| run::open(ws, run, id, device)).collect::<Result<_>>()?),
            Recipe::Classical(_) => {
                Self::Classifiers(ids.map(|id| FittedModel::open(ws, run, id)).collect::<Result<_>>()?)
            }
        })
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.ids().len()
    }

    /// Which models of the run they are.
    pub fn ids(&self) -> Vec<ModelId> {
        match self {
            Self::Networks(models) => models.iter().map(TrainedModel::id).collect(),
            Self::Classifiers(models) => models.iter().map(|model| model.id).collect(),
        }
    }

    /// The record of their run.
    pub fn record(&self) -> &Record {
        match self {
            Self::Networks(models) => &models[0].record,
            Self::Classifiers(models) => &models[0].record,
        }
    }
}

/// What is known of the training cells, to measure distances from.
struct Home {
    /// Training cells of each model, by the features that its last layer reads, or that a classifier uses.
    references: Vec<Reference>,
    /// How the training images look; none where they are too few, and for classifiers, whose features show it.
    appearance: Option<Appearance>,
}

/// A cell that the models have looked at, without its pixels.
pub(crate) struct Looked {
    path: String,
    cell: u32,
    rect: Option<Rect>,
    without_nucleus: bool,
    diameters_px: Option<[f32; 2]>,
    found: Found,
}

/// How large the cells of a folder appear.
#[derive(Clone, Debug, Serialize)]
pub struct FolderScale {
    /// The folder, or the data set.
    pub folder: String,
    /// The factor, as the first model sees it.
    #[serde(flatten)]
    pub scale: Scale,
}

impl FolderScale {
    /// What is to be said of the scales of folders; nothing where sizes do not count.
    pub fn note(scales: &[Self]) -> Option<String> {
        let factors = || scales.iter().map(|of| of.scale.factor);
        let (least, most) = (factors().fold(f64::MAX, f64::min), factors().fold(0.0, f64::max));
        let beside = &scales.first()?.scale.beside;
        let factor = if least == most { format!("{least:.2}") } else { format!("{least:.2} to {most:.2}") };
        let cells = text::of(scales.iter().map(|of| of.scale.cells as u64).sum(), "cell");
        Some(format!(
            "cells appear {factor} times as large as those of {beside} (estimated from {cells}); among the cells of \
             one folder, size counts beside the pixels"
        ))
    }
}

/// What the models find of a cell.
struct Found {
    by_model: Vec<Vec<f32>>,
    distance: Option<f32>,
    appearance: Option<f32>,
    shifts: Vec<f64>,
}

/// A classified cell.
pub(crate) struct Classified {
    pub row: CellRow,
    /// Probabilities by each model alone, not calibrated.
    pub by_model: Vec<Vec<f32>>,
    /// How the cell's image looks beside the training images: see [`appearance::differing`]. Empty where this is not
    /// known.
    pub shifts: Vec<f64>,
}

impl Ensemble {
    /// Opens the model that `source` names, or the models of all finished folds. Where no fold is finished, the model
    /// of all images is opened. With distances from the training cells where the run's tensors still exist.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no such finished model.
    pub fn open(ws: &Workspace, source: &ModelRef, device: Device, ctx: &Context) -> Result<Self> {
        let mut ensemble = Self::open_without_distances(ws, source, device)?;
        ensemble.home = match &ensemble.models {
            Models::Networks(models) => of_networks(ws, models, ctx)?,
            Models::Classifiers(models) => of_classifiers(ws, models)?,
        };
        Ok(ensemble)
    }

    /// [`Ensemble::open`] without distances from the training cells.
    ///
    /// # Errors
    /// As [`Ensemble::open`].
    pub fn open_without_distances(ws: &Workspace, source: &ModelRef, device: Device) -> Result<Self> {
        let (run, models) = (&source.run, Models::open(ws, source, device)?);
        let (classes, predictions) = (&models.record().classes, own_predictions(ws, run)?);
        let temperature = calibration::temperature(classes, &predictions);
        let confusion = Confusion::new(classes, &predictions, models.record().seed);
        Ok(Self { models, temperature, confusion, home: None })
    }

    /// Which models of the run they are.
    pub fn ids(&self) -> Vec<ModelId> {
        self.models.ids()
    }

    /// The classes that they tell apart.
    pub fn classes(&self) -> &Classes {
        &self.models.record().classes
    }

    /// Whether distances from the training cells can be measured.
    pub fn has_distances(&self) -> bool {
        self.home.is_some()
    }

    /// Flags all cells of the folders whose images do not look like the training images, and names these folders:
    /// see [`appearance::doubt`]. `shifts` are those of the rows.
    pub fn doubt(&self, rows: &mut [CellRow], shifts: &[Vec<f64>], folder: impl Fn(&CellRow) -> String) -> Vec<Unlike> {
        let names = match &self.models {
            Models::Networks(_) => Vec::new(),
            Models::Classifiers(models) => models[0].features(),
        };
        let name = |k: usize| names.get(k).copied().unwrap_or_else(|| appearance::name(k));
        let of = |cells: &[usize]| cells.iter().map(|i| shifts[*i].as_slice()).collect::<Vec<_>>();
        appearance::doubt(rows, folder, |cells| appearance::differing(&of(cells), name))
    }

    /// The provenance of tables with the ensemble's results.
    pub fn provenance(&self, run: &str) -> Provenance {
        let settings = serde_json::json!({
            "run": run, "models": self.ids(), "temperature": self.temperature, "confident": CONFIDENT,
        });
        Provenance {
            stage: "predict".into(),
            settings,
            seed: Some(self.models.record().seed),
            inputs: BTreeMap::from([(Input::Run.name().into(), self.models.record().hash())]),
        }
    }

    /// Has the models look at cells, in order.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device is out of memory.
    pub fn look(&self, cells: &[CellImage]) -> Result<Vec<Looked>> {
        let found = match &self.models {
            Models::Networks(models) => self.by_networks(models, cells)?,
            Models::Classifiers(models) => by_classifiers(models, self.home.as_ref(), cells)?,
        };
        let looked = |(cell, found): (&CellImage, Found)| Looked {
            path: cell.path.display().to_string(),
            cell: cell.cell,
            rect: cell.rect,
            without_nucleus: cell.input.is_without_nucleus(),
            diameters_px: cell.input.diameters_px(),
            found,
        };
        Ok(cells.iter().zip(found).map(looked).collect())
    }

    /// Classifies all cells that were looked at, in order: the sizes of the cells of a folder count beside each other.
    /// `folder` names that of a path. Also returns how large cells appear, where this counts.
    pub fn classify(
        &self,
        mut cells: Vec<Looked>,
        folder: impl Fn(&str) -> String,
    ) -> (Vec<Classified>, Vec<FolderScale>) {
        let scales = match &self.models {
            Models::Networks(models) => weigh_sizes(models, &mut cells, folder),
            Models::Classifiers(_) => Vec::new(),
        };
        let classified = |cell: Looked| {
            let row = self.row(&cell);
            Classified { row, by_model: cell.found.by_model, shifts: cell.found.shifts }
        };
        (cells.into_iter().map(classified).collect(), scales)
    }

    fn by_networks(&self, models: &[TrainedModel], cells: &[CellImage]) -> Result<Vec<Found>> {
        let size_px = models[0].meta.size_px;
        let tensors = Tensors::from_pixels(size_px, cells.iter().flat_map(|c| c.input.pixels().to_vec()).collect());
        let rows: Vec<usize> = (0..cells.len()).collect();
        let share = 1.0 / models.len() as f32;
        let mut by_model = vec![Vec::new(); cells.len()];
        let mut distances = vec![0f32; cells.len()];
        for (i, model) in models.iter().enumerate() {
            let inferred = model.infer(&tensors, &rows)?;
            by_model.iter_mut().zip(inferred.probabilities).for_each(|(all, p)| all.push(p));
            if let Some(home) = &self.home {
                let model_distances = home.references[i].distances(&inferred.features);
                distances.iter_mut().zip(model_distances).for_each(|(sum, d)| *sum += share * d);
            }
        }
        let home = self.home.as_ref();
        let appearance = home.and_then(|home| home.appearance.as_ref());
        let look = |cell: &CellImage| {
            let Some(home) = appearance else { return (Vec::new(), None) };
            let properties = appearance::measure(cell.input.pixels(), size_px);
            (home.shifts(&properties), Some(home.distance(&properties)))
        };
        let looks: Vec<(Vec<f64>, Option<f32>)> = cells.par_iter().map(look).collect();
        let results = by_model.into_iter().zip(distances).zip(looks);
        let found = |((by_model, distance), (shifts, appearance))| {
            let distance = home.map(|_| distance);
            Found { by_model, distance, appearance, shifts }
        };
        Ok(results.map(found).collect())
    }

    /// The row of a cell.
    fn row(&self, cell: &Looked) -> CellRow {
        let found = &cell.found;
        let by_model = &found.by_model;
        let share = 1.0 / by_model.len() as f32;
        let classes = self.classes();
        let mut mean = vec![0f32; classes.len()];
        by_model.iter().for_each(|p| mean.iter_mut().zip(p).for_each(|(mean, p)| *mean += share * p));
        let p = calibration::scale(&mean, self.temperature);
        let class = classes.likeliest(&p);
        let votes = by_model.iter().filter(|p| classes.likeliest(p) == class).count();
        let mut row = CellRow {
            path: cell.path.clone(),
            cell: cell.cell,
            x_px: cell.rect.map(|r| r.x),
            y_px: cell.rect.map(|r| r.y),
            width_px: cell.rect.map(|r| r.width),
            height_px: cell.rect.map(|r| r.height),
            class,
            confidence: p.iter().copied().fold(0.0, f32::max),
            agreement: share * votes as f32,
            distance: found.distance,
            appearance: found.appearance,
            flag: None,
            training_image: None,
            probabilities: p,
        };
        if row.confidence < CONFIDENT {
            add_flag(&mut row, LOW_CONFIDENCE);
        }
        if row.is_unlike_training() {
            add_flag(&mut row, UNLIKE_TRAINING);
        }
        if cell.without_nucleus {
            add_flag(&mut row, NO_NUCLEUS);
        }
        row
    }
}

/// Has the sizes of cells count, as each model learned them, and returns how large the cells of each folder appear to
/// the first.
fn weigh_sizes(models: &[TrainedModel], cells: &mut [Looked], folder: impl Fn(&str) -> String) -> Vec<FolderScale> {
    let names: Vec<String> = cells.iter().map(|cell| folder(&cell.path)).collect();
    let folders: Vec<&str> = names.iter().map(String::as_str).collect();
    let diameters: Vec<Option<[f32; 2]>> = cells.iter().map(|cell| cell.diameters_px).collect();
    let mut scales = Vec::new();
    for (number, model) in models.iter().enumerate() {
        let take = |cell: &mut Looked| std::mem::take(&mut cell.found.by_model[number]);
        let mut probabilities: Vec<Vec<f32>> = cells.iter_mut().map(take).collect();
        let of_folders = model.weigh_sizes(&mut probabilities, &diameters, &folders);
        cells.iter_mut().zip(probabilities).for_each(|(cell, p)| cell.found.by_model[number] = p);
        if number == 0 {
            scales = of_folders.into_iter().map(|(folder, scale)| FolderScale { folder, scale }).collect();
        }
    }
    scales
}

/// What classifiers find of cells.
fn by_classifiers(models: &[FittedModel], home: Option<&Home>, cells: &[CellImage]) -> Result<Vec<Found>> {
    let found = |cell: &CellImage| {
        let features = cell.input.features();
        let by_model = models.iter().map(|model| model.probabilities(features)).collect::<Result<_>>()?;
        let standard = |model: &FittedModel| model.scale.apply(features);
        let distance = |home: &Home| {
            let pairs = models.iter().zip(&home.references);
            let own = |model| standard(model).iter().map(|v| *v as f32).collect::<Vec<f32>>();
            let distances = pairs.map(|(model, reference)| reference.distances(&own(model))[0]);
            distances.sum::<f32>() / models.len() as f32
        };
        let distance = home.map(distance);
        Ok(Found { by_model, distance, appearance: None, shifts: standard(&models[0]) })
    };
    cells.par_iter().map(found).collect()
}

/// Predictions on the run's own test images; none where no fold is finished.
fn own_predictions(ws: &Workspace, run: &str) -> Result<Vec<PredictionRow>> {
    match run::predictions(ws, run) {
        Err(Error::Missing { .. }) => Ok(Vec::new()),
        rows => rows,
    }
}

/// What is known of the training cells; none where the tensors or the split of the training have changed or are gone.
fn of_networks(ws: &Workspace, models: &[TrainedModel], ctx: &Context) -> Result<Option<Home>> {
    let record = &models[0].record;
    let Some(settings) = &record.preprocess else { return Ok(None) };
    let tensors = if_readable(Tensors::load(ws, &record.dataset, settings))?;
    let Some(tensors) = tensors.filter(|tensors| record.input(Input::Tensors) == Some(&tensors.hash)) else {
        return Ok(None);
    };
    let Some((splits, data)) = splits_and_cells(ws, record)? else { return Ok(None) };
    let class_of = classes_of(&data);
    let task = ctx.progress.task("reading training cells", Some(models.len() as u64), "models");
    let reference = |model: &TrainedModel| {
        ctx.check_stop()?;
        let reference = Reference::of_network(model, &tensors, &splits, &class_of);
        task.advance(1);
        reference
    };
    let references = models.iter().map(reference).collect::<Result<_>>()?;
    let units: HashMap<&str, &str> = data.cells.iter().map(|cell| cell.image_id.as_str()).zip(data.units()).collect();
    let row = |image| Some((tensors.row(image)?, *units.get(image)?));
    let rows = ModelId::All.training_images(&splits).filter_map(row).collect();
    Ok(Some(Home { references, appearance: Appearance::new(&tensors, rows, record.seed)? }))
}

/// As [`of_networks`], for classifiers.
fn of_classifiers(ws: &Workspace, models: &[FittedModel]) -> Result<Option<Home>> {
    let record = &models[0].record;
    let path = ws.features(&record.dataset);
    if !table::exists(&path)? || record.input(Input::Features) != Some(&table::file_hash(&path)?) {
        return Ok(None);
    }
    let Some(features) = if_readable(features::read(ws, &record.dataset))? else { return Ok(None) };
    let Some((splits, data)) = splits_and_cells(ws, record)? else { return Ok(None) };
    let class_of = classes_of(&data);
    let reference = |model| Reference::of_classifier(model, &features, &splits, &class_of);
    let references = models.par_iter().map(reference).collect::<Result<_>>()?;
    Ok(Some(Home { references, appearance: None }))
}

/// The split and the data set of a run, unless they have changed.
fn splits_and_cells(ws: &Workspace, record: &Record) -> Result<Option<(Splits, Dataset)>> {
    let Some(splits) = if_readable(split::read(ws, &record.dataset))? else { return Ok(None) };
    if record.input(Input::Splits) != Some(&table::file_hash(&ws.splits(&record.dataset))?) {
        return Ok(None);
    }
    Ok(Some((splits, Dataset::read(ws, &record.dataset)?)))
}

fn classes_of(data: &Dataset) -> HashMap<String, Class> {
    data.cells.iter().filter_map(|cell| Some((cell.image_id.clone(), cell.class?))).collect()
}
