//! Trains a model on every fold and predicts the fold's test images: a network on tensors (`network`), or a classical
//! classifier on features (`classical`). [`crate::run::RunDir`] lists the files that it writes.
//!
//! An interrupted run resumes after the last saved epoch (a classical one after the last finished fold), with the
//! same results to the last bit.
//!
//! No choice is made on a test fold: the number of epochs is fixed, and the weights of the last epoch are the result.

use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::rows::{EpochRow, PredictionRow};
use crate::run::claim::{self, Claim, Taken};
use crate::run::{FittedModel, ModelId, Recipe, Record, RunDir, checkpoint};
use crate::schema::{EPOCHS, PREDICTIONS};
use crate::table;
use crate::workspace::Workspace;
use std::collections::BTreeSet;
use std::time::Instant;

mod classical;
mod curve;
mod curves;
mod folder;
mod init;
mod network;
mod plan;
mod tensorboard;

pub use curves::Log;
pub use folder::{differing, remove};
pub use init::InitSource;
pub use plan::{Elsewhere, Plan, Summary, Target};

/// What a run trains, and on what.
enum Work {
    Network(Box<network::Data>),
    Classical(Box<classical::Data>),
}

impl Work {
    fn load(ws: &Workspace, dataset: &str, recipe: &Recipe, seed: u64, plan: &Plan, ctx: &Context) -> Result<Self> {
        Ok(match recipe {
            Recipe::Network(settings) => {
                Self::Network(Box::new(network::Data::load(ws, dataset, settings, seed, plan, ctx)?))
            }
            Recipe::Classical(settings) => {
                Self::Classical(Box::new(classical::Data::load(ws, dataset, settings, seed, plan)?))
            }
        })
    }

    fn record(&self) -> &Record {
        match self {
            Self::Network(data) => &data.record,
            Self::Classical(data) => &data.record,
        }
    }

    fn images(&self) -> usize {
        match self {
            Self::Network(data) => data.splits.images().count(),
            Self::Classical(data) => data.splits.images().count(),
        }
    }

    /// The classes of the run that have no image to train on.
    ///
    /// # Errors
    /// [`Error::Data`] where fewer than two classes have images.
    fn without_images(&self) -> Result<Vec<Class>> {
        let classes: BTreeSet<Class> = match self {
            Self::Network(data) => data.classes().collect(),
            Self::Classical(data) => data.classes().collect(),
        };
        let record = self.record();
        if classes.len() < 2 {
            let only = classes.first().map_or(String::new(), |class| format!(", all {class}"));
            let got = format!("{} images{only}", self.images());
            return Err(Error::data(&record.dataset, "images of at least two classes in the split", got));
        }
        Ok(record.classes.iter().filter(|class| !classes.contains(class)).collect())
    }

    /// Whether the file of a model, where there is one, is as it was written.
    fn is_intact(&self, dir: &RunDir, id: ModelId) -> Result<bool> {
        match self {
            Self::Network(_) => checkpoint::is_intact(&dir.checkpoint(id)),
            Self::Classical(_) => FittedModel::is_intact(dir, id),
        }
    }

    /// Whether a model is finished, and its file is as it was written.
    fn is_whole(&self, dir: &RunDir, id: ModelId) -> Result<bool> {
        Ok(self.is_intact(dir, id)? && self.finished(dir, id)?.is_some())
    }

    /// Sets the file of a model aside where it is damaged.
    fn set_damaged_aside(&self, dir: &RunDir, id: ModelId, ctx: &Context) -> Result<()> {
        let path = match self {
            Self::Network(_) => dir.checkpoint(id),
            Self::Classical(_) => dir.classifier(id),
        };
        if self.is_intact(dir, id)? { Ok(()) } else { folder::set_aside(&path, ctx) }
    }

    /// The epochs of a model where it is finished; a classical classifier has none. A model whose file cannot be
    /// understood is not finished: when its turn comes, the file is set aside.
    fn finished(&self, dir: &RunDir, id: ModelId) -> Result<Option<Vec<EpochRow>>> {
        let finished = match self {
            Self::Network(data) => data.finished(dir, id),
            Self::Classical(data) => data.finished(dir, id).map(|finished| finished.then(Vec::new)),
        };
        match finished {
            Err(Error::Format { .. }) => Ok(None),
            finished => finished,
        }
    }
}

/// Trains the models of `plan` that are not finished yet, and predicts their test images. The seed is the context's.
///
/// # Errors
/// [`Error::Setting`] where a run of that name has other settings or inputs and the plan does not restart it;
/// [`Error::Interrupted`] when the user stops it; any error of reading and writing.
pub fn run(ws: &Workspace, dataset: &str, recipe: &Recipe, plan: &Plan, ctx: &Context) -> Result<Summary> {
    run_with(ws, dataset, recipe, plan, ctx, &|| {})
}

/// [`run()`], which calls `between` whenever a model is finished and another is still to be trained.
///
/// # Errors
/// As [`run()`].
pub fn run_with(
    ws: &Workspace,
    dataset: &str,
    recipe: &Recipe,
    plan: &Plan,
    ctx: &Context,
    between: &dyn Fn(),
) -> Result<Summary> {
    recipe.validate()?;
    plan.suits(recipe)?;
    let started = Instant::now();
    let work = Work::load(ws, dataset, recipe, ctx.seed, plan, ctx)?;
    let without_images = work.without_images()?;
    let folds = work.record().folds;
    let dir = RunDir::new(ws, &plan.run);
    let models: Vec<ModelId> = match &plan.target {
        Target::AllImages => vec![ModelId::All],
        Target::EveryFold => (0..folds).map(ModelId::Fold).collect(),
        Target::Folds(named) => named.iter().copied().map(ModelId::Fold).collect(),
        Target::NoModel => Vec::new(),
    };
    let all = models.len();
    if let Some(wrong) = models.iter().filter_map(|id| id.fold()).find(|fold| *fold >= folds) {
        return Err(Error::setting("fold", format!("0 to {}", folds - 1), wrong));
    }
    // Before the folder is claimed: a model that cannot be built must not take the run's name.
    let parameters = match &work {
        Work::Network(data) => Some(data.check()?),
        Work::Classical(_) => None,
    };
    folder::claim(&dir, work.record(), plan)?;
    if let Work::Network(data) = &work {
        data.note.iter().for_each(|note| ctx.progress.log(note));
    }
    let (mut up_to_date, mut left) = (Vec::new(), Vec::new());
    for id in models {
        if work.is_whole(&dir, id)? {
            claim::clear(&dir.claim(id))?;
            up_to_date.push(id);
        } else {
            left.push(id);
        }
    }
    // Curves of models that are finished already; each epoch adds its own.
    curves::write(&dir, work.record(), &up_to_date, &plan.logs)?;
    match &work {
        _ if left.is_empty() => {}
        Work::Network(data) => data.announce(&left, ctx)?,
        Work::Classical(data) => data.announce(&left, ctx),
    }
    let (mut trained, mut elsewhere) = (Vec::new(), Vec::new());
    // Those that another process trains come last: by then it may have finished or stopped.
    for attempt in 0.. {
        let before = left.len();
        elsewhere.clear();
        for id in std::mem::take(&mut left) {
            let path = dir.claim(id);
            let named = matches!(plan.target, Target::Folds(_) | Target::AllImages);
            let taken = if named { Claim::take_from_the_silent(&path, ctx)? } else { Claim::take(&path)? };
            let claim = match taken {
                Taken::Here(claim) => claim,
                Taken::Elsewhere(holder) => {
                    left.push(id);
                    elsewhere.push(Elsewhere { model: id, holder });
                    continue;
                }
            };
            if work.is_whole(&dir, id)? {
                up_to_date.push(id);
                continue;
            }
            work.set_damaged_aside(&dir, id, ctx)?;
            match &work {
                Work::Network(data) => data.train(&dir, id, &claim, &plan.logs, ctx)?,
                Work::Classical(data) => data.train(&dir, id, &claim, ctx)?,
            }
            drop(claim);
            trained.push(id);
            gather(&dir, &work, ctx)?;
            if up_to_date.len() + trained.len() < all {
                between();
            }
        }
        if left.is_empty() || (left.len() == before && attempt > 0) {
            break;
        }
    }
    if let (Some(Elsewhere { model, holder }), true) = (elsewhere.first(), plan.target != Target::EveryFold) {
        let holder = holder.as_ref().map_or("one that is still running".into(), ToString::to_string);
        return Err(Error::setting(
            "run",
            format!("no other process training {} of {}", model.title(), plan.run),
            holder,
        ));
    }
    gather(&dir, &work, ctx)?;
    let mut missing = Vec::new();
    for fold in 0..folds {
        if work.finished(&dir, ModelId::Fold(fold))?.is_none() {
            missing.push(fold);
        }
    }
    if missing.len() == folds as usize && plan.target == Target::NoModel {
        return Err(Error::missing(Input::Predictions, dir.predictions()).with_hint("No fold is trained yet"));
    }
    let curves = curves::paths(&dir, plan.target == Target::AllImages, &plan.logs);
    Ok(Summary {
        run: plan.run.clone(),
        folder: dir.path().into(),
        dataset: dataset.into(),
        model: recipe.model().into(),
        parameters,
        folds,
        up_to_date,
        trained,
        elsewhere,
        missing,
        images: work.images() as u64,
        without_images,
        curves,
        elapsed_s: started.elapsed().as_secs_f64(),
    })
}

/// Writes the mean probabilities of the models of the finished folds for the held-out test set. `by_model` has the rows
/// of each model, all of the same images in the same order.
fn gather_held_out(dir: &RunDir, work: &Work, by_model: &[Vec<PredictionRow>]) -> Result<()> {
    let Some(first) = by_model.first() else { return Ok(()) };
    let mut mean = first.clone();
    for (i, row) in mean.iter_mut().enumerate() {
        row.fold = 0;
        for (class, p) in row.probabilities.iter_mut().enumerate() {
            *p = by_model.iter().map(|rows| rows[i].probabilities[class]).sum::<f32>() / by_model.len() as f32;
        }
    }
    let (record, path) = (work.record(), dir.held_out().predictions());
    table::write_class_rows(&path, &PREDICTIONS, &record.classes, &folder::provenance(record), &mean)
}

/// Writes `epochs.parquet` and `predictions.parquet` of the finished folds: one process after the other, so that none
/// leaves out the fold that another has just finished.
fn gather(dir: &RunDir, work: &Work, ctx: &Context) -> Result<()> {
    let _turn = Claim::wait(&dir.gathering(), ctx)?;
    // Network file systems look for new files in a folder when it is opened.
    for id in dir.models()? {
        let _ = std::fs::read_dir(dir.model(id));
    }
    let record = work.record();
    let (mut epochs, mut predictions, mut held_out) = (Vec::new(), Vec::new(), Vec::new());
    for id in (0..record.folds).map(ModelId::Fold) {
        if let Some(rows) = work.finished(dir, id)? {
            epochs.extend(rows);
            let path = dir.model_predictions(id);
            predictions.extend(table::read_class_rows::<PredictionRow>(&path, &PREDICTIONS, &record.classes)?.0);
            let path = dir.model_held_out(id);
            if table::exists(&path)? {
                held_out.push(table::read_class_rows::<PredictionRow>(&path, &PREDICTIONS, &record.classes)?.0);
            }
        }
    }
    gather_held_out(dir, work, &held_out)?;
    let provenance = folder::provenance(record);
    table::write_rows(&dir.epochs(), &EPOCHS, &provenance, &epochs)?;
    table::write_class_rows(&dir.predictions(), &PREDICTIONS, &record.classes, &provenance, &predictions)
}
