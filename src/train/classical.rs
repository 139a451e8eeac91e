//! Fits a classical classifier for one model of a run: gaps are filled and features standardised from the training
//! cells, hyper-parameters are chosen by cross-validation within them, and the test cells are predicted. `fit.json` in
//! the fold's folder records the choice; it is written last, so a fold that has it is finished.

use super::folder::{is_predicted, write_predictions};
use super::plan::Plan;
use crate::atomic;
use crate::class::Class;
use crate::classical::{Choice, Samples, Scale, Settings, describe};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result};
use crate::features::{self, Features};
use crate::integrity;
use crate::nn::device::Device;
use crate::rows::PredictionRow;
use crate::run::claim::Claim;
use crate::run::{FittedModel, ModelId, OwnSplit, Recipe, Record, RunDir, TrainedImages, timings};
use crate::scores::Scores;
use crate::seed;
use crate::split;
use crate::table;
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Everything that the models of a run are fitted with.
pub(super) struct Data {
    settings: Settings,
    features: Features,
    /// The row of the features, class and group of every cell, by image_id.
    cells: HashMap<String, (usize, Class, String)>,
    pub splits: split::Splits,
    pub record: Record,
    hash: String,
}

/// A training or test cell.
struct Cell<'a> {
    id: &'a str,
    features: &'a [Option<f64>],
    class: Class,
    group: &'a str,
}

/// The content of `fit.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Hash of the run's record.
    run: String,
    fold: ModelId,
    /// Training cells.
    images: u64,
    /// Features used: those that are not constant.
    features: u64,
    /// The chosen hyper-parameters.
    chosen: Choice,
    /// The candidates, by cross-validation within the training cells; empty where there was nothing to choose.
    tried: Vec<Tried>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    choice: Choice,
    /// Balanced accuracy over the held-out cells of all inner folds, 0 to 1.
    balanced_accuracy: f64,
}

impl Data {
    pub fn load(ws: &Workspace, dataset: &str, settings: &Settings, seed: u64, plan: &Plan) -> Result<Self> {
        let splits = split::read(ws, dataset)?;
        let Dataset { classes, cells, .. } = Dataset::read(ws, dataset)?;
        let features = features::read(ws, dataset)?;
        let row_of: HashMap<&str, usize> =
            features.image_ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let known = cells
            .iter()
            .filter_map(|m| {
                let (row, group) = (*row_of.get(m.image_id.as_str())?, splits.group(&m.image_id)?.to_string());
                Some((m.image_id.clone(), (row, m.class?, group)))
            })
            .collect();
        let inputs = BTreeMap::from([
            (Input::Manifest.name().into(), table::file_hash(&ws.manifest(dataset))?),
            (Input::Splits.name().into(), table::file_hash(&ws.splits(dataset))?),
            (Input::Features.name().into(), table::file_hash(&ws.features(dataset))?),
        ]);
        let record = Record {
            version: Record::VERSION,
            dataset: dataset.into(),
            classes,
            model: settings.model.clone(),
            pipeline: plan.pipeline.clone(),
            seed,
            folds: splits.folds,
            preprocess: None,
            images: TrainedImages::of(&cells, &features.settings.window(features::MAX_WINDOW_PX)),
            features: Some(features.settings.clone()),
            recipe: Recipe::Classical(settings.clone()),
            inputs,
            init: None,
            own_split: OwnSplit::of(&splits),
        };
        let hash = record.hash();
        Ok(Self { settings: settings.clone(), features, cells: known, splits, record, hash })
    }

    /// The class of every image that a model may be trained on.
    pub fn classes(&self) -> impl Iterator<Item = Class> + '_ {
        ModelId::All.training_images(&self.splits).filter_map(|id| self.cells.get(id).map(|cell| cell.1))
    }

    /// Whether a model is there with its predictions, and they are of this run. The model of all images has none.
    ///
    /// # Errors
    /// As [`FittedModel::is_finished`].
    pub fn finished(&self, dir: &RunDir, id: ModelId) -> Result<bool> {
        let path = dir.fit(id);
        let report = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            report => Some(report.map_err(Error::io(&path, "read"))?),
        };
        let report = report.and_then(|text| integrity::from_json::<Report>(&text).ok());
        let is_fitted =
            report.is_some_and(|report| report.run == self.hash) && FittedModel::is_finished(dir, id, &self.hash)?;
        Ok(is_fitted && (id == ModelId::All || is_predicted(dir, id, &self.record, &self.splits)?))
    }

    /// Logs how much there is to fit.
    pub fn announce(&self, folds: &[ModelId], ctx: &Context) {
        let (choices, images) = (self.settings.choices().len(), folds[0].training_images(&self.splits).count());
        let choose = match choices {
            1 => String::new(),
            n => format!(", {n} choices in {} inner folds", self.settings.inner_folds),
        };
        let what = match folds {
            [ModelId::All] => format!("the model of all {images} images"),
            _ => format!("{} of {} folds of about {images} images", folds.len(), self.record.folds),
        };
        ctx.progress.log(&format!("{}: {what}, {} features{choose}", self.record.model, self.features.names.len()));
    }

    /// Fits one model, and predicts the test cells of its fold.
    ///
    /// # Errors
    /// [`Error::Data`] where the split has images that were not measured, or none to train on.
    pub fn train(&self, dir: &RunDir, id: ModelId, claim: &Claim, ctx: &Context) -> Result<()> {
        let start = Instant::now();
        let train = self.cells(id.training_images(&self.splits))?;
        let test = self.cells(id.test_images(&self.splits))?;
        if train.is_empty() {
            return Err(Error::data(&self.record.dataset, format!("training images in fold {id}"), "none")
                .with_hint("Split the data set and measure it again"));
        }
        let scale = Scale::fit(&train.iter().map(|cell| cell.features).collect::<Vec<_>>());
        let x: Vec<Vec<f64>> = train.iter().map(|cell| scale.apply(cell.features)).collect();
        let x: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
        let classes: Vec<usize> = train.iter().map(|cell| self.record.position(cell.class)).collect();
        let groups: Vec<String> = train.iter().map(|cell| cell.group.into()).collect();
        let key = seed::key(self.record.seed, "classical", id.seed_key(self.record.folds), 0, 0);
        let inner = split::assign(&classes, &groups, self.settings.inner_folds, key);
        let inner_folds = self.settings.inner_folds;
        let (classes, count, held_out_by, calibrate) = (&classes[..], self.record.classes.len(), &inner[..], true);
        let class_weights = match &self.settings.class_weight {
            Some(class_weight) => {
                let images = |class: usize| classes.iter().filter(|c| **c == class).count() as u64;
                class_weight.weights(&self.record.classes, &(0..count).map(images).collect::<Vec<_>>())?
            }
            None => Vec::new(),
        };
        let class_weights = &class_weights[..];
        let samples = Samples { x: &x, classes, count, held_out_by, inner_folds, key, calibrate, class_weights };

        let what = match id {
            ModelId::Fold(fold) => format!("fold {fold} of {}", self.record.folds),
            ModelId::All => "the model of all images".into(),
        };
        let choices = self.settings.choices();
        let tries = if choices.len() > 1 { choices.len() as u64 * u64::from(inner_folds) } else { 0 };
        let _task = ctx.progress.task(&what, Some(tries + 1), "fits");
        let tried = if tries > 0 { self.try_all(&choices, &samples, ctx)? } else { Vec::new() };
        // The first of equally good choices: grids go from simple to complex models.
        let best = (0..tried.len()).rev().max_by(|a, b| tried[*a].total_cmp(&tried[*b])).unwrap_or(0);
        ctx.check_stop()?;
        let fitted = self.settings.fit(&choices[best], &samples)?;
        let fitted = FittedModel { record: self.record.clone(), id, scale, classifier: fitted };
        claim.require()?;
        fitted.save(dir)?;
        if let ModelId::Fold(fold) = id {
            let predict = |cell: &Cell| {
                Ok(PredictionRow::new(cell.id.into(), fold, cell.class, fitted.probabilities(cell.features)?))
            };
            let rows: Vec<PredictionRow> = test.par_iter().map(predict).collect::<Result<_>>()?;
            let held_out = self.cells(self.splits.held_out())?;
            let held_out: Vec<PredictionRow> = held_out.par_iter().map(predict).collect::<Result<_>>()?;
            write_predictions(dir, &self.record, fold, &rows, &held_out)?;
        }
        let report = Report {
            run: self.hash.clone(),
            fold: id,
            images: train.len() as u64,
            features: fitted.scale.width() as u64,
            chosen: choices[best].clone(),
            tried: choices
                .iter()
                .zip(&tried)
                .map(|(choice, balanced)| Tried { choice: choice.clone(), balanced_accuracy: *balanced })
                .collect(),
        };
        atomic::write_bytes(&dir.fit(id), integrity::json(&report).as_bytes())?;
        let elapsed = start.elapsed().as_secs_f64();
        timings::append(dir, id, 0, train.len(), elapsed, Device::Cpu)?;
        let chose = match (describe(&choices[best]), tried.get(best)) {
            (chosen, Some(balanced)) => {
                format!(", chose {chosen} (balanced accuracy {:.2} % within the training images)", 100.0 * balanced)
            }
            (given, None) if !given.is_empty() => format!(", {given}"),
            _ => String::new(),
        };
        ctx.progress.log(&format!("{what}: {} images{chose}, {elapsed:.1} s", train.len()));
        Ok(())
    }

    /// Balanced accuracy of every choice over the inner folds.
    fn try_all(&self, choices: &[Choice], samples: &Samples, ctx: &Context) -> Result<Vec<f64>> {
        let folds = samples.inner_folds as usize;
        let counts: Vec<Vec<(u64, u64)>> = (0..choices.len() * folds)
            .into_par_iter()
            .map(|task| {
                ctx.check_stop()?;
                let counted = self.held_out(&choices[task / folds], samples, (task % folds) as u32);
                ctx.progress.advance(1);
                counted
            })
            .collect::<Result<_>>()?;
        let balanced = |folds: &[Vec<(u64, u64)>]| {
            let of_class = |class: usize| folds.iter().map(move |counts| counts[class]);
            let sum = |class| of_class(class).fold((0, 0), |sum, fold| (sum.0 + fold.0, sum.1 + fold.1));
            let scores = Scores::from_counts(&(0..samples.count).map(sum).collect::<Vec<_>>());
            scores.balanced_accuracy.unwrap_or(0.0)
        };
        Ok(counts.chunks(folds).map(balanced).collect())
    }

    /// For each class, the held-out cells that a choice predicts correctly, and all held-out cells.
    fn held_out(&self, choice: &Choice, samples: &Samples, fold: u32) -> Result<Vec<(u64, u64)>> {
        let mut counts = vec![(0, 0); samples.count];
        let (out, kept): (Vec<usize>, Vec<usize>) = (0..samples.x.len()).partition(|i| samples.held_out_by[*i] == fold);
        if kept.is_empty() {
            return Ok(counts);
        }
        let x: Vec<&[f64]> = kept.iter().map(|i| samples.x[*i]).collect();
        let classes: Vec<usize> = kept.iter().map(|i| samples.classes[*i]).collect();
        let held_out_by: Vec<u32> = kept.iter().map(|i| samples.held_out_by[*i]).collect();
        let part = Samples { x: &x, classes: &classes, held_out_by: &held_out_by, calibrate: false, ..*samples };
        let fitted = self.settings.fit(choice, &part)?;
        for i in out {
            let p = fitted.probabilities(samples.x[i])?;
            let predicted = (0..samples.count).rev().max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap_or(0);
            let own = samples.classes[i];
            counts[own].0 += u64::from(predicted == own);
            counts[own].1 += 1;
        }
        Ok(counts)
    }

    /// # Errors
    /// [`Error::Data`] where the split has an image without features: none may be left out unnoticed.
    fn cells<'a>(&'a self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<Cell<'a>>> {
        ids.map(|id| match self.cells.get(id) {
            Some((row, class, group)) => Ok(Cell { id, features: &self.features.values[*row], class: *class, group }),
            None => {
                Err(Error::data(&self.record.dataset, "features of every image of the split", format!("none of {id}"))
                    .with_hint("Check and split the data set, then measure it again"))
            }
        })
        .collect()
    }
}
