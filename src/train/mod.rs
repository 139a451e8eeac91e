//! Trains a model on every fold and predicts the fold's test images: a network on pictures, or a classical classifier
//! on features (`classical`; its fold has `fit.json` in place of a checkpoint, and no epochs).
//!
//! A run's folder, `runs/<run>/`: `run.json` (what identifies the run: its recipe and the inputs' hashes),
//! `pipeline.toml` (every stage's resolved settings), a folder a fold with its
//! checkpoint and predictions, `epochs.parquet` and `predictions.parquet` over the finished folds, `timings.csv`; and
//! curves for other programs where they were asked for (`curves`).
//! An epoch is the unit of work: a stopped run goes on after the last whole one, to the same bytes.
//!
//! No choice is made on a test fold: the number of epochs is fixed, and the last one's weights are the result.

use crate::atomic;
use crate::batch::{Augment, Normalisation, Normalise, Tensors, View};
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::models::grad_cam::ClassMap;
use crate::models::{self, Batch, Inferred, Model};
use crate::nn::device::Device;
use crate::nn::kernel::{Dropout, Vector};
use crate::nn::optim::{Optimiser, Schedule};
use crate::preprocess;
use crate::rows::{EpochRow, ManifestRow, PredictionRow};
use crate::schema::{EPOCHS, MANIFEST, PREDICTIONS};
use crate::seed;
use crate::split;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub mod checkpoint;
mod classical;
mod curves;
mod init;
mod recipe;
mod tensorboard;

use checkpoint::Meta;
pub use curves::Log;
use init::Start;
pub use init::{Init, trained_on};
pub use recipe::{Recipe, title};

/// Settings of training: a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A name of [`models::MODELS`].
    pub model: String,
    /// Times every training image is seen.
    pub epochs: u32,
    /// Images a step.
    pub batch: usize,
    /// Learning rate (the peak, where the schedule has one).
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub optimiser: Optimiser,
    /// Share of activations dropped, 0 to below 1. The paper's "p = 0.6" was TensorFlow's share to keep.
    pub dropout: f32,
    /// ResNet50: the last scale of each block starts at 0, so that the block begins as its shortcut (Goyal et al. 2017).
    pub zero_init_residual: bool,
    pub normalise: Normalisation,
    pub augment: Augment,
    /// Views of each test image whose probabilities are averaged: 1, or the 8 of turns and flips.
    pub test_views: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "wnet".into(),
            epochs: 12,
            batch: 64,
            learning_rate: 1e-3,
            schedule: Schedule::OneCycle,
            optimiser: Optimiser::default(),
            dropout: 0.4,
            zero_init_residual: false,
            normalise: Normalisation::Channel,
            augment: Augment::default(),
            test_views: 1,
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] that names the key, what it may be and what it is.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, key: &str, expected: &str, got: String| {
            if ok {
                Ok(())
            } else {
                Err(Error::Setting { key: format!("train.{key}"), expected: expected.into(), got })
            }
        };
        models::find(&self.model)?;
        check(self.epochs >= 1, "epochs", "at least 1", self.epochs.to_string())?;
        check((1..=4096).contains(&self.batch), "batch", "1 to 4096", self.batch.to_string())?;
        let rate = self.learning_rate;
        check(rate > 0.0 && rate.is_finite(), "learning_rate", "above 0", rate.to_string())?;
        check(
            (0.0..1.0).contains(&self.dropout),
            "dropout",
            "0 to below 1 (the share dropped)",
            self.dropout.to_string(),
        )?;
        check([1, 8].contains(&self.test_views), "test_views", "1 or 8", self.test_views.to_string())?;
        self.augment.validate()
    }

    /// Whether the model is one for pictures of that size and for this optimiser: say so before pictures are cut.
    ///
    /// # Errors
    /// [`Error::Setting`] that names the key, what it may be and what it is.
    pub fn suits(&self, size_px: u32) -> Result<()> {
        models::find(&self.model)?.suits(&self.spec(size_px as usize, 0, 0))
    }

    fn spec(&self, size_px: usize, seed: u64, fold: u32) -> models::Spec {
        models::Spec {
            size_px,
            seed,
            fold: fold.into(),
            dropout: Dropout { p: self.dropout },
            optimiser: self.optimiser,
            zero_init_residual: self.zero_init_residual,
            vector: Vector::detect(),
        }
    }
}

/// What identifies a run: equal records make equal results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub dataset: String,
    pub model: String,
    pub pipeline: String,
    pub seed: u64,
    pub folds: u32,
    /// Side of the pictures, px; a classical classifier has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_px: Option<u32>,
    pub settings: Recipe,
    /// Hashes of the manifest, the splits, and the preprocessed pictures or the features.
    pub inputs: BTreeMap<String, String>,
    /// The weights that training started from; none where they were drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl Record {
    /// Reads a run's `run.json`.
    ///
    /// # Errors
    /// [`Error::Missing`] that lists the runs there are, [`Error::Format`] where it is of another version.
    pub fn read(ws: &Workspace, run: &str) -> Result<Record> {
        Workspace::check_name("run", run)?;
        let path = ws.run(run).join("run.json");
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                let there = run_names(ws);
                let hint = if there.is_empty() { String::new() } else { format!("Runs: {}", there.join(", ")) };
                Error::missing(Input::Run, &path).with_hint(hint)
            }
            _ => Error::Io { path: path.clone(), action: "read", source },
        })?;
        serde_json::from_str(&text).map_err(|e| Error::Format {
            path,
            item: "run".into(),
            expected: "a run of this version of wbc".into(),
            got: e.to_string(),
        })
    }

    /// The settings of a network.
    fn network(&self, run: &str) -> Result<&Settings> {
        match &self.settings {
            Recipe::Network(settings) => Ok(settings),
            Recipe::Classical(_) => Err(Error::Setting {
                key: "run".into(),
                expected: "a run of a network".into(),
                got: format!("{run}, of {}", self.model),
            }),
        }
    }

    fn hash(&self) -> String {
        blake3::hash(serde_json::to_string(self).expect("plain data").as_bytes()).to_hex().to_string()
    }
}

/// A finished model of a run, with what its record and its checkpoint say.
pub struct Trained {
    pub record: Record,
    pub meta: Meta,
    /// None once it has been taken.
    pub model: Option<Box<dyn Model>>,
}

impl Trained {
    /// What the model says of the pictures at `rows`: probabilities over the views that the recipe averages, features of
    /// the pictures as they are.
    ///
    /// # Errors
    /// [`Error::Compute`] where the device has no room.
    pub fn infer(&self, tensors: &Tensors, rows: &[usize]) -> Result<Inferred> {
        self.views(self.record.network("")?.test_views, tensors, rows)
    }

    /// The same of the pictures as they are alone.
    pub fn infer_once(&self, tensors: &Tensors, rows: &[usize]) -> Result<Inferred> {
        self.views(1, tensors, rows)
    }

    /// Where the model sees each picture's class: Grad-CAM of the pictures at `rows` as they are.
    ///
    /// # Errors
    /// [`Error::Compute`] where there is no room.
    pub fn class_maps(&self, tensors: &Tensors, rows: &[usize], classes: &[Class]) -> Result<Vec<ClassMap>> {
        let mut x = vec![0.0; rows.len() * tensors.size_px * tensors.size_px * 3];
        tensors.fill(rows, |_| View::default(), &self.meta.normalise, &mut x);
        let model = self.model.as_deref().expect("a model");
        (models::find(&self.record.model)?.grad_cam)(model)?.class_maps(&x, classes)
    }

    fn views(&self, views: usize, tensors: &Tensors, rows: &[usize]) -> Result<Inferred> {
        infer(self.model.as_deref().expect("a model"), &self.meta.normalise, views, tensors, rows)
    }
}

/// The settings of preprocessing that a run's pictures were made with, from its `pipeline.toml`.
///
/// # Errors
/// [`Error::Missing`] where there is no such run, [`Error::Format`] where its settings cannot be read.
pub fn preprocess_settings(ws: &Workspace, run: &str) -> Result<preprocess::Settings> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        preprocess: preprocess::Settings,
    }
    Record::read(ws, run)?;
    let path = ws.run(run).join("pipeline.toml");
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let part: Part = toml::from_str(&text).map_err(|e| Error::Format {
        path,
        item: "preprocess".into(),
        expected: "the run's settings".into(),
        got: e.to_string(),
    })?;
    Ok(part.preprocess)
}

/// A run's finished models: the folds', and the number of folds where there is one of all images.
///
/// # Errors
/// [`Error::Missing`] where there is no such run or nothing in it is finished.
pub fn finished(ws: &Workspace, run: &str) -> Result<Vec<u32>> {
    let record = Record::read(ws, run)?;
    record.network(run)?;
    let (hash, files) = (record.hash(), Files { dir: ws.run(run), folds: record.folds });
    let mut finished = Vec::new();
    for fold in 0..=record.folds {
        if checkpoint::meta(&files.checkpoint(fold))?.is_some_and(|m| m.finished && m.run == hash) {
            finished.push(fold);
        }
    }
    if finished.is_empty() {
        return Err(Error::missing(Input::Checkpoint, files.dir).with_hint("No model of this run is finished"));
    }
    Ok(finished)
}

/// Opens a finished model; the number of folds stands for that of all images.
///
/// # Errors
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is no network.
pub fn open(ws: &Workspace, run: &str, fold: u32, device: Device) -> Result<Trained> {
    let record = Record::read(ws, run)?;
    let settings = record.network(run)?;
    let files = Files { dir: ws.run(run), folds: record.folds };
    let path = files.checkpoint(fold);
    let found = checkpoint::meta(&path)?.filter(|m| m.finished && m.run == record.hash());
    let Some(meta) = found else {
        if fold > record.folds {
            let expected = format!("0 to {}, a fold of {run}", record.folds - 1);
            return Err(Error::Setting { key: "fold".into(), expected, got: fold.to_string() });
        }
        return Err(Error::missing(Input::Checkpoint, path).with_hint("This model is not finished"));
    };
    let mut model = build(settings, meta.size_px, record.seed, fold, device)?;
    checkpoint::load(&path, model.as_mut(), &meta)?;
    Ok(Trained { record, meta, model: Some(model) })
}

/// The command that goes on with a run: its settings lie beside it.
pub fn again(ws: &Workspace, name: &str, record: &Record) -> String {
    let settings = ws.run(name).join("pipeline.toml");
    let init = record.init.as_ref().map_or(String::new(), |init| match init.fold {
        Some(fold) => format!(" --init {}:{fold}", init.from),
        None => format!(" --init {}", init.from),
    });
    format!("wbc train --dataset {} --run {name} --pipeline {}{init}", record.dataset, settings.display())
}

/// The runs of a workspace by name, in order; those of another version are left out.
pub fn runs(ws: &Workspace) -> Vec<(String, Record)> {
    run_names(ws).into_iter().filter_map(|name| Some((name.clone(), Record::read(ws, &name).ok()?))).collect()
}

fn run_names(ws: &Workspace) -> Vec<String> {
    let entries = std::fs::read_dir(ws.runs()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|e| e.path().join("run.json").is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// What a run is to be, besides its settings.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the run's folder.
    pub run: String,
    /// Name of the pipeline, for the record.
    pub pipeline: String,
    /// How the pictures were preprocessed.
    pub tensors: preprocess::Settings,
    /// Only these folds; all where empty.
    pub folds: Vec<u32>,
    /// Not the folds, but one model on all images: to start other trainings from, or to predict new images with.
    pub all: bool,
    /// Weights to start from: `RUN`, `RUN:FOLD`, or a safetensors file.
    pub init: Option<String>,
    /// Where a network is trained. Not part of what identifies a run: a fold may go on elsewhere, to the same figures but for
    /// rounding; `timings.csv` says where each epoch was.
    pub device: Device,
    /// Learning curves for other programs. Not part of what identifies a run either: they can be had later.
    pub logs: Vec<Log>,
    /// Throw away a run of that name that had other settings or inputs.
    pub restart: bool,
    /// Every stage's resolved settings, kept as `pipeline.toml` beside the results: to read, and to run again.
    pub resolved: String,
}

impl Plan {
    /// # Errors
    /// [`Error::Setting`] that names what a classical classifier has not.
    pub fn suits(&self, recipe: &Recipe) -> Result<()> {
        recipe.network_only(&[
            ("all", self.all),
            ("init", self.init.is_some()),
            ("device", self.device != Device::Cpu),
            ("log", !self.logs.is_empty()),
        ])
    }
}

/// What training did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: String,
    pub folder: PathBuf,
    pub dataset: String,
    pub model: String,
    /// Trainable parameters of a network.
    pub parameters: Option<usize>,
    /// How many there are. As a fold's number below, it stands for the model of all images.
    pub folds: u32,
    /// Folds that were finished already.
    pub up_to_date: Vec<u32>,
    /// Folds finished now.
    pub trained: Vec<u32>,
    /// Folds still to train.
    pub missing: Vec<u32>,
    pub images: u64,
    /// Files and folders with the learning curves that were asked for.
    pub curves: Vec<PathBuf>,
    pub elapsed_s: f64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |fold: &u32| if *fold == self.folds { "all images".into() } else { fold.to_string() };
        let list = |folds: &[u32]| folds.iter().map(name).collect::<Vec<_>>().join(", ");
        let parameters = self.parameters.map_or(String::new(), |n| format!(" ({n} parameters)"));
        writeln!(f, "run {}: {}{parameters} on {}, {} images", self.run, self.model, self.dataset, self.images)?;
        if !self.trained.is_empty() {
            writeln!(f, "trained: fold {} in {:.0} s", list(&self.trained), self.elapsed_s)?;
        }
        if !self.up_to_date.is_empty() {
            writeln!(f, "up to date: fold {}", list(&self.up_to_date))?;
        }
        if !self.missing.is_empty() {
            writeln!(f, "still to train: fold {}", list(&self.missing))?;
        }
        for path in &self.curves {
            writeln!(f, "curves: {}", path.display())?;
        }
        write!(f, "results: {}", self.folder.display())
    }
}

/// A run's folder, by fold; the number of folds stands for the model of all images.
struct Files {
    dir: PathBuf,
    folds: u32,
}

impl Files {
    fn record(&self) -> PathBuf {
        self.dir.join("run.json")
    }
    fn fold(&self, fold: u32) -> PathBuf {
        self.dir.join(self.name(fold))
    }
    fn checkpoint(&self, fold: u32) -> PathBuf {
        self.fold(fold).join("checkpoint.safetensors")
    }
    fn predictions(&self, fold: u32) -> PathBuf {
        self.fold(fold).join("predictions.parquet")
    }
    fn name(&self, fold: u32) -> String {
        if fold == self.folds { "all".into() } else { format!("fold-{fold:02}") }
    }
}

/// The run's data, ready for training a network.
struct Data {
    settings: Settings,
    tensors: Tensors,
    splits: split::Splits,
    class_of: HashMap<String, Class>,
    record: Record,
    /// Weights to start from, and what is to be said of them.
    start: Option<Start>,
    note: Option<String>,
    device: Device,
}

impl Data {
    fn load(ws: &Workspace, dataset: &str, settings: &Settings, seed: u64, plan: &Plan) -> Result<Self> {
        let splits = split::read(ws, dataset)?;
        let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(dataset), &MANIFEST)?;
        let tensors = Tensors::load(ws, dataset, &plan.tensors)?;
        let start = plan.init.as_deref().map(|asked| Start::find(ws, asked, &settings.model)).transpose()?;
        let note = match &start {
            Some(start) if !plan.all => {
                let tested = manifest.iter().filter(|r| splits.fold_of.contains_key(&r.image_id));
                start.check_leak(ws, &tested.cloned().collect::<Vec<_>>(), dataset)?
            }
            _ => None,
        };
        let class_of = manifest.into_iter().filter_map(|r| Some((r.image_id, r.class?))).collect();
        let inputs = BTreeMap::from([
            ("manifest".into(), table::file_hash(&ws.manifest(dataset))?),
            ("splits".into(), table::file_hash(&ws.splits(dataset))?),
            ("tensors".into(), tensors.hash.clone()),
        ]);
        let record = Record {
            dataset: dataset.into(),
            model: settings.model.clone(),
            pipeline: plan.pipeline.clone(),
            seed,
            folds: splits.folds,
            size_px: Some(plan.tensors.size_px),
            settings: Recipe::Network(settings.clone()),
            inputs,
            init: start.as_ref().map(|s| s.init.clone()),
        };
        let device = plan.device;
        Ok(Self { settings: settings.clone(), tensors, splits, class_of, record, start, note, device })
    }

    fn build(&self, fold: u32) -> Result<Box<dyn Model>> {
        build(&self.settings, self.tensors.size_px, self.record.seed, fold, self.device)
    }

    /// (image_id, row of the pictures, class) of a fold's images of one role; sorted by image_id.
    ///
    /// # Errors
    /// [`Error::Data`] where the split has an image that was not preprocessed: nothing is left out in silence.
    fn rows<'a>(&'a self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, usize, Class)>> {
        ids.map(|id| match (self.tensors.row(id), self.class_of.get(id)) {
            (Some(row), Some(class)) => Ok((id, row, *class)),
            _ => Err(Error::Data {
                dataset: self.record.dataset.clone(),
                expected: "a preprocessed picture of every image of the split".into(),
                got: format!("none of {id}"),
                hint: "Run: wbc check, then wbc split --stratified, then wbc preprocess".into(),
            }),
        })
        .collect()
    }
}

/// What a run trains, and on what.
enum Work {
    Network(Box<Data>),
    Classical(Box<classical::Data>),
}

impl Work {
    fn load(ws: &Workspace, dataset: &str, recipe: &Recipe, seed: u64, plan: &Plan) -> Result<Self> {
        Ok(match recipe {
            Recipe::Network(settings) => Self::Network(Box::new(Data::load(ws, dataset, settings, seed, plan)?)),
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
            Self::Network(data) => data.splits.fold_of.len(),
            Self::Classical(data) => data.splits.fold_of.len(),
        }
    }

    /// The epochs of a finished fold (a classifier has none); `None` where it is not finished.
    fn epochs(&self, files: &Files, fold: u32, hash: &str) -> Result<Option<Vec<EpochRow>>> {
        match self {
            Self::Network(_) => Ok(checkpoint::meta(&files.checkpoint(fold))?
                .filter(|m| m.run == hash && m.finished)
                .filter(|_| fold == files.folds || files.predictions(fold).is_file())
                .map(|m| m.epochs)),
            Self::Classical(data) => Ok(data.finished(files, fold, hash).then(Vec::new)),
        }
    }
}

/// Trains every fold that is not finished yet (or those that `plan` names), and predicts its test images; calls
/// `between` when a fold is finished and another is to come.
///
/// # Errors
/// [`Error::Setting`] where a run of that name had other settings or inputs and `restart` is off;
/// [`Error::Interrupted`] when the user stops it; whatever reading and writing says.
pub fn run(
    ws: &Workspace,
    dataset: &str,
    recipe: &Recipe,
    plan: &Plan,
    ctx: &Context,
    between: &dyn Fn(),
) -> Result<Summary> {
    recipe.validate()?;
    plan.suits(recipe)?;
    Workspace::check_name("run", &plan.run)?;
    let started = Instant::now();
    let work = Work::load(ws, dataset, recipe, ctx.seed, plan)?;
    let folds = work.record().folds;
    let files = Files { dir: ws.run(&plan.run), folds };
    if let Some(wrong) = plan.folds.iter().find(|f| **f >= folds) {
        return Err(Error::Setting {
            key: "fold".into(),
            expected: format!("0 to {}", folds - 1),
            got: wrong.to_string(),
        });
    }
    // What cannot be built does not claim the run's name.
    let parameters = match &work {
        Work::Network(data) => {
            let mut model = data.build(0)?;
            if let Some(start) = &data.start {
                start.apply(model.as_mut())?;
            }
            Some(model.parameters())
        }
        Work::Classical(_) => None,
    };
    let _alone = alone(&files)?;
    begin(&files, work.record(), plan)?;
    if let Work::Network(data) = &work {
        data.note.iter().for_each(|note| ctx.progress.log(note));
    }
    let hash = work.record().hash();
    let wanted: Vec<u32> = match plan {
        Plan { all: true, .. } => vec![folds],
        Plan { folds: named, .. } if named.is_empty() => (0..folds).collect(),
        Plan { folds: named, .. } => named.clone(),
    };
    // Those of what is trained already; each epoch adds its own.
    curves::write(&files, &wanted, &hash, &plan.logs)?;
    let finished = |fold: u32| -> Result<bool> { Ok(work.epochs(&files, fold, &hash)?.is_some()) };
    let mut up_to_date = Vec::new();
    let mut left = Vec::new();
    for fold in wanted {
        if finished(fold)? { up_to_date.push(fold) } else { left.push(fold) }
    }
    match &work {
        _ if left.is_empty() => {}
        Work::Network(data) => announce(data, &data.settings, &left, ctx)?,
        Work::Classical(data) => data.announce(&left, ctx),
    }
    let mut trained = Vec::new();
    for &fold in &left {
        match &work {
            Work::Network(data) => train_fold(data, &data.settings, &files, fold, &hash, &plan.logs, ctx)?,
            Work::Classical(data) => data.train_fold(&files, fold, &hash, ctx)?,
        }
        trained.push(fold);
        gather(&files, &work, &hash)?;
        if trained.len() < left.len() {
            between();
        }
    }
    gather(&files, &work, &hash)?;
    let mut missing = Vec::new();
    for fold in 0..folds {
        if !finished(fold)? {
            missing.push(fold);
        }
    }
    let curves = curves::paths(&files, plan.all, &plan.logs);
    Ok(Summary {
        run: plan.run.clone(),
        folder: files.dir,
        dataset: dataset.into(),
        model: recipe.model().into(),
        parameters,
        folds,
        up_to_date,
        trained,
        missing,
        images: work.images() as u64,
        curves,
        elapsed_s: started.elapsed().as_secs_f64(),
    })
}

/// Keeps others from training the same run at the same time, as long as the file is open.
///
/// # Errors
/// [`Error::Setting`] where another is at work on it.
fn alone(files: &Files) -> Result<std::fs::File> {
    let runs = files.dir.parent().expect("a run lies below runs/");
    std::fs::create_dir_all(runs).map_err(Error::io(runs, "create"))?;
    let name = files.dir.file_name().expect("a run has a name").to_string_lossy();
    // Beside the run's folder, which --restart throws away.
    let path = runs.join(format!(".{name}.lock"));
    let file = std::fs::File::create(&path).map_err(Error::io(&path, "create"))?;
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Setting {
            key: "run".into(),
            expected: format!("no other wbc train at work on {}", files.dir.display()),
            got: "one that has not ended".into(),
        }),
        // A file system without locks is no reason not to train.
        _ => Ok(file),
    }
}

/// Claims the run's folder for `record`.
fn begin(files: &Files, record: &Record, plan: &Plan) -> Result<()> {
    let path = files.record();
    let text = serde_json::to_string_pretty(record).expect("plain data") + "\n";
    match std::fs::read_to_string(&path) {
        Ok(found) if found == text => return Ok(()),
        Ok(found) if !plan.restart => {
            let got = match serde_json::from_str::<Record>(&found) {
                Ok(old) if old.inputs != record.inputs => {
                    "a run on other data (the images, the split or the preprocessing changed)"
                }
                Ok(old) if old.seed != record.seed => "a run with another seed",
                Ok(_) => "a run with other settings",
                Err(_) => "a run.json that this version of wbc did not write",
            };
            return Err(Error::Setting {
                key: "run".into(),
                expected: format!(
                    "{} to hold the same experiment (or give this one another name with --run NAME, \
                     or throw the old one away with --restart)",
                    files.dir.display()
                ),
                got: got.into(),
            });
        }
        Ok(_) => std::fs::remove_dir_all(&files.dir).map_err(Error::io(&files.dir, "remove"))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io(&path, "read")(e)),
    }
    atomic::write_bytes(&files.dir.join("pipeline.toml"), plan.resolved.as_bytes())?;
    atomic::write_bytes(&path, text.as_bytes())
}

fn build(settings: &Settings, size_px: usize, seed: u64, fold: u32, device: Device) -> Result<Box<dyn Model>> {
    models::find(&settings.model)?.build(&settings.spec(size_px, seed, fold), device)
}

/// Says what is ahead and how long it will take, from a few steps on a model that is thrown away.
fn announce(data: &Data, settings: &Settings, folds: &[u32], ctx: &Context) -> Result<()> {
    let mut model = data.build(0)?;
    let rows: Vec<usize> = data.rows(data.splits.train(folds[0]))?.iter().map(|r| r.1).take(settings.batch).collect();
    let labels = vec![0; rows.len()];
    let keys = vec![0; rows.len()];
    let normalise = Normalise { kind: Normalisation::Unit, mean: [0.0; 3], deviation: [255.0; 3] };
    let mut best = Duration::MAX;
    for t in 1..=4 {
        let start = Instant::now();
        let mut x = vec![0.0; rows.len() * data.tensors.size_px * data.tensors.size_px * 3];
        data.tensors.fill(&rows, |_| View::turned(5), &normalise, &mut x);
        model.train(Batch { x, labels: &labels, keys: &keys }, t, 1e-6)?;
        best = best.min(start.elapsed());
    }
    let images: usize = folds.iter().map(|f| data.splits.train(*f).count()).sum();
    let steps = (images * settings.epochs as usize) as f64 / rows.len().max(1) as f64;
    let seconds = steps * best.as_secs_f64();
    ctx.progress.log(&format!(
        "{}: {} of {} folds, {} epochs of about {} images, batch {}: about {} on {}",
        settings.model,
        folds.len(),
        data.record.folds,
        settings.epochs,
        images / folds.len(),
        settings.batch,
        crate::progress::human(seconds),
        match data.device {
            Device::Cpu => format!("{} threads", rayon::current_num_threads()),
            device => device.to_string(),
        },
    ));
    Ok(())
}

/// Trains one fold from its checkpoint (or from the start) to the end and predicts its test images.
fn train_fold(
    data: &Data,
    settings: &Settings,
    files: &Files,
    fold: u32,
    hash: &str,
    logs: &[Log],
    ctx: &Context,
) -> Result<()> {
    let record = &data.record;
    let train = data.rows(data.splits.train(fold))?;
    if train.is_empty() {
        return Err(Error::Data {
            dataset: record.dataset.clone(),
            expected: format!("training images in fold {fold}"),
            got: "none".into(),
            hint: "Run: wbc split --stratified, then wbc preprocess".into(),
        });
    }
    let mut model = data.build(fold)?;
    let path = files.checkpoint(fold);
    let mut meta = match checkpoint::meta(&path)? {
        Some(found) if found.run == hash && !found.finished => {
            checkpoint::load(&path, model.as_mut(), &found)?;
            ctx.progress.log(&format!("fold {fold}: goes on after epoch {} of {}", found.epoch, settings.epochs));
            found
        }
        _ => {
            let rows: Vec<usize> = train.iter().map(|r| r.1).collect();
            if let Some(start) = &data.start {
                for note in start.apply(model.as_mut())? {
                    ctx.progress.log(&format!("{}: {note}", start.init.from));
                }
            }
            Meta {
                run: hash.into(),
                model: settings.model.clone(),
                size_px: data.tensors.size_px,
                fold,
                epoch: 0,
                finished: false,
                normalise: Normalise::fit(settings.normalise, &data.tensors, &rows),
                epochs: Vec::new(),
            }
        }
    };
    let steps = train.len().div_ceil(settings.batch) as u64;
    let total = steps * u64::from(settings.epochs);
    let whole = fold == record.folds;
    let what = if whole { "all images".into() } else { format!("fold {fold} of {}", record.folds) };
    ctx.progress.begin(&what, Some(train.len() as u64 * u64::from(settings.epochs - meta.epoch)), "images");
    let ended = (|| {
        while meta.epoch < settings.epochs {
            let start = Instant::now();
            let row = train_epoch(data, settings, model.as_mut(), &meta, &train, steps, total, ctx)?;
            meta.epoch = row.epoch;
            let line = format!(
                "{what}, epoch {:>3}: loss {:.4}, right {:.1} %",
                row.epoch,
                row.train_loss,
                100.0 * row.train_accuracy
            );
            ctx.progress.note(&format!("epoch {} loss {:.3}", row.epoch, row.train_loss));
            meta.epochs.push(row);
            if meta.epoch == settings.epochs {
                if !whole {
                    let rows = predict_fold(data, settings, model.as_ref(), &meta)?;
                    let provenance = Provenance {
                        stage: "train".into(),
                        settings: serde_json::to_value(settings).expect("plain data"),
                        seed: Some(record.seed),
                        inputs: BTreeMap::from([("run".into(), hash.into())]),
                    };
                    table::write_rows(&files.predictions(fold), &PREDICTIONS, &provenance, &rows)?;
                }
                meta.finished = true;
            }
            checkpoint::save(&path, model.as_ref(), &meta)?;
            let elapsed = start.elapsed().as_secs_f64();
            log_time(&files.dir, fold, meta.epoch, train.len(), elapsed, data.device)?;
            curves::write(files, &[fold], hash, logs)?;
            ctx.progress.log(&format!("{line}, {:.0} images/s", train.len() as f64 / elapsed));
        }
        Ok(())
    })();
    ctx.progress.end();
    ended
}

fn train_epoch(
    data: &Data,
    settings: &Settings,
    model: &mut dyn Model,
    meta: &Meta,
    train: &[(&str, usize, Class)],
    steps: u64,
    total: u64,
    ctx: &Context,
) -> Result<EpochRow> {
    let (seed, fold, epoch) = (data.record.seed, u64::from(meta.fold), u64::from(meta.epoch) + 1);
    let mut order: Vec<usize> = (0..train.len()).collect();
    shuffle(&mut order, &mut seed::rng(seed, "shuffle", fold, epoch, 0));
    let (mut loss, mut correct, mut rate) = (0.0, 0, 0.0);
    let len = data.tensors.size_px * data.tensors.size_px * 3;
    for (step, chunk) in order.chunks(settings.batch).enumerate() {
        ctx.check_stop()?;
        let rows: Vec<usize> = chunk.iter().map(|i| train[*i].1).collect();
        let labels: Vec<usize> = chunk.iter().map(|i| train[*i].2.index()).collect();
        let key = |what: &str, i: usize| seed::key(seed, what, fold, epoch, i as u64);
        let keys: Vec<u64> = chunk.iter().map(|i| key("dropout", *i)).collect();
        let view = |k: usize| settings.augment.view(&mut seed::rng(seed, "augment", fold, epoch, chunk[k] as u64));
        let mut x = vec![0.0; rows.len() * len];
        data.tensors.fill(&rows, view, &meta.normalise, &mut x);
        let t = (epoch - 1) * steps + step as u64;
        rate = settings.schedule.rate(settings.learning_rate, t, total);
        let done = model.train(Batch { x, labels: &labels, keys: &keys }, t + 1, rate)?;
        loss += f64::from(done.loss) * rows.len() as f64;
        correct += done.correct;
        ctx.progress.advance(rows.len() as u64);
    }
    Ok(EpochRow {
        fold: meta.fold,
        epoch: epoch as u32,
        steps: epoch * steps,
        images: train.len() as u64,
        learning_rate: rate,
        train_loss: loss / train.len() as f64,
        train_accuracy: correct as f64 / train.len() as f64,
    })
}

/// Fisher and Yates, by our own generator: no library's change of mind changes our runs.
fn shuffle(order: &mut [usize], rng: &mut seed::Pcg64) {
    for i in (1..order.len()).rev() {
        let j = ((u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
}

fn predict_fold(data: &Data, settings: &Settings, model: &dyn Model, meta: &Meta) -> Result<Vec<PredictionRow>> {
    let test = data.rows(data.splits.test(meta.fold))?;
    let mut predictions = Vec::with_capacity(test.len());
    for chunk in test.chunks(64) {
        let rows: Vec<usize> = chunk.iter().map(|r| r.1).collect();
        let found = infer(model, &meta.normalise, settings.test_views, &data.tensors, &rows)?;
        let row =
            |((id, _, class), p): (&(&str, usize, Class), _)| PredictionRow::new((*id).into(), meta.fold, *class, p);
        predictions.extend(chunk.iter().zip(found.probabilities).map(row));
    }
    Ok(predictions)
}

/// The mean over `views` views of the pictures at `rows`; the features are those of the first.
fn infer(
    model: &dyn Model,
    normalise: &Normalise,
    views: usize,
    tensors: &Tensors,
    rows: &[usize],
) -> Result<Inferred> {
    let len = tensors.size_px * tensors.size_px * 3;
    let mut mean = Inferred { probabilities: vec![[0.0; Class::COUNT]; rows.len()], ..Default::default() };
    for which in 0..views {
        let mut x = vec![0.0; rows.len() * len];
        tensors.fill(rows, |_| View::turned(which), normalise, &mut x);
        let found = model.infer(&x, rows.len())?;
        if which == 0 {
            (mean.features, mean.width) = (found.features, found.width);
        }
        let sums = mean.probabilities.as_flattened_mut().iter_mut().zip(found.probabilities.as_flattened());
        sums.for_each(|(sum, p)| *sum += p / views as f32);
    }
    Ok(mean)
}

/// Writes `epochs.parquet` and `predictions.parquet` over the folds there are.
fn gather(files: &Files, work: &Work, hash: &str) -> Result<()> {
    let record = work.record();
    let (mut epochs, mut predictions) = (Vec::new(), Vec::new());
    for fold in 0..record.folds {
        if let Some(of_fold) = work.epochs(files, fold, hash)? {
            epochs.extend(of_fold);
            predictions.extend(table::read_rows::<PredictionRow>(&files.predictions(fold), &PREDICTIONS)?.0);
        }
    }
    let provenance = Provenance {
        stage: "train".into(),
        settings: serde_json::to_value(&record.settings).expect("plain data"),
        seed: Some(record.seed),
        inputs: BTreeMap::from([("run".into(), hash.into())]),
    };
    table::write_rows(&files.dir.join("epochs.parquet"), &EPOCHS, &provenance, &epochs)?;
    table::write_rows(&files.dir.join("predictions.parquet"), &PREDICTIONS, &provenance, &predictions)
}

/// Adds a line to `timings.csv`: times differ from run to run, so they stand apart from the results.
fn log_time(dir: &Path, fold: u32, epoch: u32, images: usize, elapsed_s: f64, device: Device) -> Result<()> {
    use std::io::Write;
    let path = dir.join("timings.csv");
    let new = !path.exists();
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path, "open"))?;
    let head = if new { "fold,epoch,images,elapsed_s,images_per_s,device\n" } else { "" };
    let rate = images as f64 / elapsed_s;
    writeln!(file, "{head}{fold},{epoch},{images},{elapsed_s:.3},{rate:.1},{device}").map_err(Error::io(&path, "write"))
}

#[cfg(test)]
mod tests {
    use super::{Recipe, Record, Settings};

    /// A run's hash is that of its record: one byte more and every finished fold would be trained again.
    #[test]
    fn a_networks_record_is_what_it_was_before_there_were_classifiers() {
        let settings = serde_json::to_string(&Settings::default()).unwrap();
        let text = format!(
            r#"{{"dataset":"pbc","model":"wnet","pipeline":"quick","seed":0,"folds":10,"size_px":128,"settings":{settings},"inputs":{{"manifest":"a"}}}}"#
        );
        let record: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(record.settings, Recipe::Network(Settings::default()));
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
}
