//! Which features a classical classifier uses for a cell: how much more it believes in a class because of the cell's
//! value of one feature, beside the usual value (the median of the training cells), with all other features as they
//! are. That is the difference of the logarithms of the two odds of the class: 0.7 means twice the odds.
//!
//! It shows what the classifier does. Features that say the same hide each other: taking one away changes little.

use super::request::{Cells, Which};
use crate::atomic;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::features;
use crate::figure::gallery;
use crate::nn::device::Device;
use crate::predict::{BATCH, Cutter, Ensemble, Models, Prepare, Reader};
use crate::rows::PredictionRow;
use crate::run::{self, FittedModel, ModelId, ModelRef, Record};
use crate::schema::FEATURES;
use crate::table;
use crate::text;
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Features listed of each cell, and of all cells together.
const LISTED: usize = 10;
/// The least probability of a classifier whose probabilities are shares of votes, which may be 0.
const LEAST_SHARE: f64 = 1e-3;

/// A feature of a cell, and what it adds: a row of `contributions.csv`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The image's path, or its `image_id` in the run's data set.
    pub path: String,
    /// Number of the cell in its image, from 0.
    pub cell: u32,
    /// The fold that tested the cell.
    pub fold: Option<u32>,
    /// The labelled class.
    pub truth: Option<Class>,
    /// The predicted class.
    pub class: Class,
    /// The class that is explained.
    pub explained: Class,
    /// Its probability.
    pub probability: f32,
    /// Name of the feature, as in `schemas/features.toml`.
    pub feature: &'static str,
    /// The cell's value; none where it is not defined.
    pub value: Option<f64>,
    /// The usual value.
    pub usual: f64,
    /// Logarithm of the class's odds, minus that with the usual value.
    pub contribution: f64,
}

/// What a feature adds over all cells.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// Name of the feature.
    pub feature: &'static str,
    /// Mean of the absolute contributions over cells.
    pub mean: f64,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// Models used.
    pub models: usize,
    /// Cells explained.
    pub cells: u64,
    /// The features that add most, over all cells.
    pub features: Vec<Total>,
    /// Cells without a nucleus, which have no features; they are left out.
    pub unmeasured: Vec<String>,
    /// Images in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Why files could not be read.
    pub unreadable: Vec<String>,
    /// The table.
    pub file: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let models = text::of(self.models as u64, "model");
        writeln!(f, "run {}: {} explained by {models}", self.run, text::of(self.cells, "cell"))?;
        match self.features.len() {
            0 => writeln!(f, "no feature alone changes the probability of the class")?,
            _ => writeln!(f, "features that add most to the class, as mean change of the logarithm of its odds:")?,
        }
        for total in &self.features {
            writeln!(f, "  {:<40} {:.3}", total.feature, total.mean)?;
        }
        for (what, names) in [("left out, no nucleus found", &self.unmeasured), ("not read", &self.unreadable)] {
            if !names.is_empty() {
                writeln!(f, "{what}: {}", text::some(names.iter().map(String::as_str)))?;
            }
        }
        write!(f, "{}", self.file.display())
    }
}

/// A measured cell.
struct Cell {
    path: String,
    number: u32,
    fold: Option<u32>,
    truth: Option<Class>,
    features: Vec<Option<f64>>,
}

/// Explains `cells` by the fitted classifiers of a run (or by one of them): writes `contributions.csv` into `folder`,
/// with the ten features of each cell that add most. `class` names the class to explain, in upper or lower case;
/// otherwise it is the predicted class of each cell.
///
/// # Errors
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is a network or has no such
/// class, [`Error::Data`] where no image could be read or the features have changed.
pub fn run(
    ws: &Workspace,
    source: &ModelRef,
    cells: &Cells,
    class: Option<&str>,
    folder: &Path,
    ctx: &Context,
) -> Result<Summary> {
    let record = Record::read(ws, &source.run)?;
    let class = class.map(|name| super::class(&record.classes, name)).transpose()?;
    let mut reader = Reader::default();
    let (models, cells) = match cells {
        Cells::New(images, kind) => {
            let ensemble = Ensemble::open_without_distances(ws, source, Device::Cpu)?;
            let Models::Classifiers(models) = ensemble.models else {
                return Err(Error::setting("run", "a run of a classical classifier", &source.run));
            };
            let prepare = Prepare::of(&record, &source.run)?;
            let cutter = Cutter::new(*kind, &prepare, &record);
            reader.unreadable.clone_from(&images.problems);
            let mut found = Vec::new();
            for images in images.files.chunks(BATCH) {
                ctx.check_stop()?;
                found.extend(reader.read(images, &cutter, ctx)?.into_iter().map(|cell| Cell {
                    path: cell.path.display().to_string(),
                    number: cell.cell,
                    fold: None,
                    truth: None,
                    features: cell.input.features().to_vec(),
                }));
            }
            reader.require_any()?;
            (models, found)
        }
        Cells::Gallery(which) => of_gallery(ws, source, &record, *which)?,
    };
    let (cells, unmeasured): (Vec<Cell>, Vec<Cell>) =
        cells.into_iter().partition(|cell| cell.features.iter().any(Option::is_some));
    let task = ctx.progress.task("explain", Some(cells.len() as u64), "cells");
    let explained = |cell: &Cell| {
        ctx.check_stop()?;
        let of_fold = |model: &&FittedModel| cell.fold.is_none_or(|fold| model.id == ModelId::Fold(fold));
        let models: Vec<&FittedModel> = models.iter().filter(of_fold).collect();
        let rows = rows(cell, &models, &record.classes, class);
        task.advance(1);
        rows
    };
    let by_cell: Vec<Vec<Row>> = cells.par_iter().map(explained).collect::<Result<_>>()?;
    drop(task);
    let mut sums: BTreeMap<&'static str, f64> = BTreeMap::new();
    by_cell.iter().flatten().for_each(|row| *sums.entry(row.feature).or_default() += row.contribution.abs());
    let n = by_cell.len().max(1) as f64;
    let mut features: Vec<Total> = sums.into_iter().map(|(feature, sum)| Total { feature, mean: sum / n }).collect();
    features.retain(|total| total.mean > 0.0);
    features.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    features.truncate(LISTED);
    let file = folder.join("contributions.csv");
    atomic::write(&file, |out| {
        let mut writer = csv::Writer::from_writer(out);
        let failed = |e: csv::Error| Error::Io { path: file.clone(), action: "write", source: e.into() };
        by_cell
            .iter()
            .flat_map(|rows| rows.iter().take(LISTED))
            .try_for_each(|row| writer.serialize(row))
            .map_err(failed)?;
        writer.flush().map_err(Error::io(&file, "write"))
    })?;
    Ok(Summary {
        run: source.run.clone(),
        models: models.len(),
        cells: by_cell.len() as u64,
        features,
        unmeasured: unmeasured.into_iter().map(|cell| cell.path).collect(),
        empty: reader.empty,
        unreadable: reader.unreadable,
        file,
    })
}

/// What every feature of a cell adds, the most first.
fn rows(cell: &Cell, models: &[&FittedModel], classes: &Classes, class: Option<Class>) -> Result<Vec<Row>> {
    let mean = |features: &[Option<f64>]| -> Result<Vec<f64>> {
        let mut mean = vec![0.0; classes.len()];
        for model in models {
            let p = model.classifier.probabilities(&model.scale.apply(features))?;
            mean.iter_mut().zip(p).for_each(|(mean, p)| *mean += p / models.len() as f64);
        }
        Ok(mean)
    };
    let p = mean(&cell.features)?;
    let predicted = classes.likeliest(&p.iter().map(|p| *p as f32).collect::<Vec<_>>());
    let explained = class.unwrap_or(predicted);
    let at = classes.index(explained).expect("a class of the run");
    let [medians, ..] = models[0].scale.statistics();
    let least = match models[0].record.model.as_str() {
        "knn" | "forest" => LEAST_SHARE,
        _ => f64::MIN_POSITIVE,
    };
    let row = |(column, usual): (usize, f64)| {
        let mut without = cell.features.clone();
        // A feature that is not defined has the usual value.
        without[column] = None;
        Ok(Row {
            path: cell.path.clone(),
            cell: cell.number,
            fold: cell.fold,
            truth: cell.truth,
            class: predicted,
            explained,
            probability: p[at] as f32,
            feature: &FEATURES.columns[1 + column].name,
            value: cell.features[column],
            usual,
            contribution: log_odds(&p, at, least) - log_odds(&mean(&without)?, at, least),
        })
    };
    let mut rows: Vec<Row> = models[0].scale.columns().zip(medians).map(row).collect::<Result<_>>()?;
    rows.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()).then(a.feature.cmp(b.feature)));
    Ok(rows)
}

/// The logarithm of a class's odds; smaller probabilities count as `least`.
fn log_odds(p: &[f64], class: usize, least: f64) -> f64 {
    // The others are added up, because 1 - p has few digits where p is nearly 1.
    let others: f64 = p.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, p)| p).sum();
    p[class].max(least).ln() - others.max(least).ln()
}

/// Test cells of a run, with the models of their folds.
fn of_gallery(
    ws: &Workspace,
    source: &ModelRef,
    record: &Record,
    which: Which,
) -> Result<(Vec<FittedModel>, Vec<Cell>)> {
    let run = &source.run;
    let path = ws.features(&record.dataset);
    if table::exists(&path)? && record.input(Input::Features) != Some(&table::file_hash(&path)?) {
        return Err(Error::data(&record.dataset, format!("the features that {run} was fitted on"), "others")
            .with_hint("Give images instead of --gallery"));
    }
    let features = features::read(ws, &record.dataset)?;
    let row_of: HashMap<&str, usize> =
        features.image_ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
    let ids: Vec<ModelId> = run::finished(ws, run)?.into_iter().filter(|id| id.fold().is_some()).collect();
    let ids: Vec<ModelId> = match source.model {
        Some(id) => ids.into_iter().filter(|other| *other == id).collect(),
        None => ids,
    };
    if ids.is_empty() {
        let expected = format!("a run or one of its folds, 0 to {}, because it has test cells", record.folds - 1);
        return Err(Error::setting("gallery", expected, source));
    }
    let mut predictions = run::predictions(ws, run)?;
    predictions.retain(|row| ids.contains(&ModelId::Fold(row.fold)));
    let mut chosen: Vec<&PredictionRow> = Vec::new();
    if which != Which::Examples {
        chosen.extend(gallery::mistakes(&record.classes, &predictions));
    }
    if which != Which::Mistakes {
        let examples = |class| gallery::examples(&predictions, class, record.classes.len());
        chosen.extend(record.classes.iter().flat_map(examples));
    }
    let cell = |row: &&PredictionRow| {
        Some(Cell {
            path: row.image_id.clone(),
            number: 0,
            fold: Some(row.fold),
            truth: Some(row.truth),
            features: features.values[*row_of.get(row.image_id.as_str())?].clone(),
        })
    };
    let cells = chosen.iter().filter_map(cell).collect();
    Ok((ids.into_iter().map(|id| FittedModel::open(ws, run, id)).collect::<Result<_>>()?, cells))
}
