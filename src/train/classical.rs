//! A fold of a classical classifier: gaps filled and features standardised by the training cells, hyper-parameters
//! chosen by cross-validation within them, fit, and the test cells' predictions. `fit.json` in the fold's folder says
//! what was chosen among what; it is written last, and a fold that has it is finished.

use super::{Files, Plan, Record, log_time, recipe::Recipe};
use crate::atomic;
use crate::class::Class;
use crate::classical::{Choice, Samples, Scale, Settings, describe};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::features::{self, Features};
use crate::nn::device::Device;
use crate::rows::{ManifestRow, PredictionRow};
use crate::schema::{MANIFEST, PREDICTIONS};
use crate::scores;
use crate::seed;
use crate::split;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// The run's data, ready for fitting.
pub(super) struct Data {
    settings: Settings,
    features: Features,
    /// The row of the features, class and group of every cell, by image_id.
    cells: HashMap<String, (usize, Class, String)>,
    pub splits: split::Splits,
    pub record: Record,
}

/// A cell of a fold.
struct Cell<'a> {
    id: &'a str,
    features: &'a [Option<f64>],
    class: Class,
    group: &'a str,
}

/// What `fit.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// Hash of the run's settings and inputs.
    run: String,
    fold: u32,
    /// Training cells.
    images: u64,
    /// Features that were used: those that are not the same everywhere.
    features: u64,
    chosen: Choice,
    /// What was tried, by cross-validation within the training cells; empty where there was nothing to choose.
    tried: Vec<Tried>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tried {
    choice: Choice,
    /// Mean recall of the classes, 0 to 1, over the inner folds' held-out cells together.
    balanced_accuracy: f64,
}

impl Data {
    pub fn load(ws: &Workspace, dataset: &str, settings: &Settings, seed: u64, plan: &Plan) -> Result<Self> {
        let splits = split::read(ws, dataset)?;
        let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(dataset), &MANIFEST)?;
        let features = features::read(ws, dataset)?;
        let row_of: HashMap<&str, usize> =
            features.image_ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let cells = manifest
            .into_iter()
            .filter_map(|m| Some((*row_of.get(m.image_id.as_str())?, m.class?, m.group_id, m.image_id)))
            .map(|(row, class, group, id)| (id, (row, class, group)))
            .collect();
        let inputs = BTreeMap::from([
            ("manifest".into(), table::file_hash(&ws.manifest(dataset))?),
            ("splits".into(), table::file_hash(&ws.splits(dataset))?),
            ("features".into(), table::file_hash(&ws.features(dataset))?),
        ]);
        let record = Record {
            dataset: dataset.into(),
            model: settings.model.clone(),
            pipeline: plan.pipeline.clone(),
            seed,
            folds: splits.folds,
            size_px: None,
            settings: Recipe::Classical(settings.clone()),
            inputs,
            init: None,
        };
        Ok(Self { settings: settings.clone(), features, cells, splits, record })
    }

    /// Whether a fold's predictions are there and are this run's.
    pub fn finished(&self, files: &Files, fold: u32, run: &str) -> bool {
        let report = std::fs::read(report(files, fold)).ok();
        let report = report.and_then(|text| serde_json::from_slice::<Report>(&text).ok());
        report.is_some_and(|report| report.run == run) && files.predictions(fold).is_file()
    }

    /// Says what is ahead.
    pub fn announce(&self, folds: &[u32], ctx: &Context) {
        let (choices, images) = (self.settings.choices().len(), self.splits.train(folds[0]).count());
        let choose = match choices {
            1 => String::new(),
            n => format!(", {n} choices in {} inner folds", self.settings.inner_folds),
        };
        ctx.progress.log(&format!(
            "{}: {} of {} folds of about {images} images, {} features{choose}",
            self.record.model,
            folds.len(),
            self.record.folds,
            self.features.names.len(),
        ));
    }

    /// Fits one fold and predicts its test cells.
    pub fn train_fold(&self, files: &Files, fold: u32, run: &str, ctx: &Context) -> Result<()> {
        let start = Instant::now();
        let (train, test) = (self.cells(self.splits.train(fold))?, self.cells(self.splits.test(fold))?);
        if train.is_empty() {
            return Err(Error::Data {
                dataset: self.record.dataset.clone(),
                expected: format!("training images in fold {fold}"),
                got: "none".into(),
                hint: "Run: wbc split --stratified, then wbc features".into(),
            });
        }
        let scale = Scale::fit(&train.iter().map(|cell| cell.features).collect::<Vec<_>>());
        let x: Vec<Vec<f64>> = train.iter().map(|cell| scale.apply(cell.features)).collect();
        let x: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
        let classes: Vec<Class> = train.iter().map(|cell| cell.class).collect();
        let groups: Vec<String> = train.iter().map(|cell| cell.group.into()).collect();
        let key = seed::key(self.record.seed, "classical", u64::from(fold), 0, 0);
        let inner = split::deal(&classes, &groups, self.settings.inner_folds, key).fold_of;
        let inner_folds = self.settings.inner_folds;
        let samples = Samples { x: &x, classes: &classes, held_out_by: &inner, inner_folds, key, calibrate: true };

        let what = format!("fold {fold} of {}", self.record.folds);
        let choices = self.settings.choices();
        let tries = if choices.len() > 1 { choices.len() as u64 * u64::from(inner_folds) } else { 0 };
        ctx.progress.begin(&what, Some(tries + 1), "fits");
        let ended = (|| {
            let tried = if tries > 0 { self.try_all(&choices, &samples, ctx)? } else { Vec::new() };
            // The first of equally good ones: grids go from plain to wild.
            let best = (0..tried.len()).rev().max_by(|a, b| tried[*a].total_cmp(&tried[*b])).unwrap_or(0);
            ctx.check_stop()?;
            let fitted = self.settings.fit(&choices[best], &samples)?;
            let predict = |cell: &Cell| {
                let p = fitted.probabilities(&scale.apply(cell.features))?.map(|p| p as f32);
                Ok(PredictionRow::new(cell.id.into(), fold, cell.class, p))
            };
            let rows: Vec<PredictionRow> = test.par_iter().map(predict).collect::<Result<_>>()?;
            let provenance = Provenance {
                stage: "train".into(),
                settings: serde_json::to_value(&self.record.settings).expect("plain data"),
                seed: Some(self.record.seed),
                inputs: BTreeMap::from([("run".into(), run.into())]),
            };
            table::write_rows(&files.predictions(fold), &PREDICTIONS, &provenance, &rows)?;
            let made = Report {
                run: run.into(),
                fold,
                images: train.len() as u64,
                features: scale.width() as u64,
                chosen: choices[best].clone(),
                tried: choices
                    .iter()
                    .zip(&tried)
                    .map(|(choice, balanced)| Tried { choice: choice.clone(), balanced_accuracy: *balanced })
                    .collect(),
            };
            let text = serde_json::to_string_pretty(&made).expect("plain data") + "\n";
            atomic::write_bytes(&report(files, fold), text.as_bytes())?;
            let elapsed = start.elapsed().as_secs_f64();
            log_time(&files.dir, fold, 0, train.len(), elapsed, Device::Cpu)?;
            let chose = match (describe(&choices[best]), tried.get(best)) {
                (chosen, Some(balanced)) => {
                    format!(", chose {chosen} (balanced accuracy {:.2} % within the training images)", 100.0 * balanced)
                }
                (given, None) if !given.is_empty() => format!(", {given}"),
                _ => String::new(),
            };
            ctx.progress.log(&format!("{what}: {} images{chose}, {elapsed:.1} s", train.len()));
            Ok(())
        })();
        ctx.progress.end();
        ended
    }

    /// Balanced accuracy of every choice over the inner folds.
    fn try_all(&self, choices: &[Choice], samples: &Samples, ctx: &Context) -> Result<Vec<f64>> {
        let folds = samples.inner_folds as usize;
        let counts: Vec<[[u64; 2]; Class::COUNT]> = (0..choices.len() * folds)
            .into_par_iter()
            .map(|task| {
                ctx.check_stop()?;
                let counted = self.held_out(&choices[task / folds], samples, (task % folds) as u32);
                ctx.progress.advance(1);
                counted
            })
            .collect::<Result<_>>()?;
        let balanced = |counts: &[[[u64; 2]; Class::COUNT]]| {
            let of = |class: usize, k: usize| counts.iter().map(|c| c[class][k]).sum::<u64>();
            let [balanced, ..] = scores::of_fold(std::array::from_fn(|class| (of(class, 0), of(class, 1))));
            balanced.unwrap_or(0.0)
        };
        Ok(counts.chunks(folds).map(balanced).collect())
    }

    /// Held-out cells of each class that a choice gets right, and all of them.
    fn held_out(&self, choice: &Choice, samples: &Samples, fold: u32) -> Result<[[u64; 2]; Class::COUNT]> {
        let mut counts = [[0; 2]; Class::COUNT];
        let (out, kept): (Vec<usize>, Vec<usize>) = (0..samples.x.len()).partition(|i| samples.held_out_by[*i] == fold);
        if kept.is_empty() {
            return Ok(counts);
        }
        let x: Vec<&[f64]> = kept.iter().map(|i| samples.x[*i]).collect();
        let classes: Vec<Class> = kept.iter().map(|i| samples.classes[*i]).collect();
        let held_out_by: Vec<u32> = kept.iter().map(|i| samples.held_out_by[*i]).collect();
        let part = Samples { x: &x, classes: &classes, held_out_by: &held_out_by, calibrate: false, ..*samples };
        let fitted = self.settings.fit(choice, &part)?;
        for i in out {
            let p = fitted.probabilities(samples.x[i])?;
            let called = (0..Class::COUNT).rev().max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap_or(0);
            let own = samples.classes[i].index();
            counts[own][0] += u64::from(called == own);
            counts[own][1] += 1;
        }
        Ok(counts)
    }

    /// # Errors
    /// [`Error::Data`] where the split has an image without features: nothing is left out in silence.
    fn cells<'a>(&'a self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<Cell<'a>>> {
        ids.map(|id| match self.cells.get(id) {
            Some((row, class, group)) => Ok(Cell { id, features: &self.features.values[*row], class: *class, group }),
            None => Err(Error::Data {
                dataset: self.record.dataset.clone(),
                expected: "features of every image of the split".into(),
                got: format!("none of {id}"),
                hint: "Run: wbc check, then wbc split --stratified, then wbc features".into(),
            }),
        })
        .collect()
    }
}

fn report(files: &Files, fold: u32) -> std::path::PathBuf {
    files.fold(fold).join("fit.json")
}
