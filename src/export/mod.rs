//! Writes trained models for other programs: networks as arrays for PyTorch (safetensors) or as an ONNX graph that
//! takes images, classical classifiers as an ONNX graph that takes features; with a model card and a Python example.

use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::models::{self, onnx, pytorch};
use crate::nn::device::Device;
use crate::preprocess::Cut;
use crate::rows::CutRule;
use crate::run::{self, FittedModel, ModelId, ModelRef, Recipe, Record, Results, TrainedModel, model_title};
use crate::workspace::Workspace;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

mod card;
mod classifier;
mod config;

pub use config::{ClassifierConfig, Config, Format};

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// The output folder.
    pub folder: PathBuf,
    /// The files written.
    pub files: Vec<PathBuf>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |p: &PathBuf| p.file_name().map_or(String::new(), |n| n.to_string_lossy().into());
        let files: Vec<String> = self.files.iter().map(name).collect();
        write!(f, "run {}: {}\nin {}", self.run, files.join(", "), self.folder.display())
    }
}

/// Writes the finished models of a run, or one of them, into `folder`, with a model card and an example.
///
/// # Errors
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] for a classical classifier as
/// safetensors.
pub fn run(ws: &Workspace, source: &ModelRef, format: Format, folder: &Path, ctx: &Context) -> Result<Summary> {
    let run = &source.run;
    let record = Record::read(ws, run)?;
    let ids = match source.model {
        Some(id) => vec![id],
        None => run::finished(ws, run)?,
    };
    let results = match Results::load(ws, run) {
        Err(Error::Missing { .. }) => None,
        results => Some(results?),
    };
    let results = results.as_ref();
    let (mut files, example, card) = match (&record.recipe, format) {
        (Recipe::Network(_), _) => networks(ws, run, &record, &ids, results, (format, folder), ctx)?,
        (Recipe::Classical(_), Format::Onnx) => classifiers(ws, run, &record, &ids, results, folder, ctx)?,
        (Recipe::Classical(_), Format::Safetensors) => {
            let got = format!("safetensors, arrays for PyTorch, for {}", model_title(&record.model));
            return Err(Error::setting("to", "onnx for a classical classifier", got));
        }
    };
    for (name, text) in [example, ("README.md", card)] {
        let path = folder.join(name);
        atomic::write_bytes(&path, text.as_bytes())?;
        files.push(path);
    }
    Ok(Summary { run: run.into(), folder: folder.into(), files })
}

/// The files written, the name and text of the example, and the card.
type Written = (Vec<PathBuf>, (&'static str, String), String);

/// Writes fitted classifiers.
fn classifiers(
    ws: &Workspace,
    run: &str,
    record: &Record,
    ids: &[ModelId],
    results: Option<&Results>,
    folder: &Path,
    ctx: &Context,
) -> Result<Written> {
    let mut files = Vec::new();
    let task = ctx.progress.task("export", Some(ids.len() as u64), "models");
    for id in ids {
        ctx.check_stop()?;
        let fitted = FittedModel::open(ws, run, *id)?;
        let config = ClassifierConfig::new(&fitted, run);
        let text = serde_json::to_string(&config).expect("plain data");
        let path = folder.join(format!("{}.onnx", id.folder_name()));
        let bytes = classifier::encode(&fitted, config.features.len(), model_title(&record.model), text)
            .map_err(|found| Error::compute(format!("the ONNX graph of {run}"), found))?;
        atomic::write_bytes(&path, &bytes)?;
        files.push(path);
        task.advance(1);
    }
    let example = ("onnx_example.py", include_str!("onnx_classifier_example.py").to_string());
    let card = card::of_classifiers(record, run, ids, results, example.0);
    Ok((files, example, card))
}

/// Writes networks.
fn networks(
    ws: &Workspace,
    run: &str,
    record: &Record,
    ids: &[ModelId],
    results: Option<&Results>,
    (format, folder): (Format, &Path),
    ctx: &Context,
) -> Result<Written> {
    let mut preprocess = record.network_preprocess(run)?.clone();
    // Other programs cannot ask ingest what was cut.
    if let (Cut::Auto, Some(images)) = (preprocess.cut, &record.images) {
        preprocess.cut = match images.rule {
            CutRule::Centre => Cut::Centre,
            CutRule::Whole => Cut::Whole,
            CutRule::Box => Cut::Box,
        };
    }
    let (mut files, mut configs) = (Vec::new(), Vec::new());
    let task = ctx.progress.task("export", Some(ids.len() as u64), "models");
    for id in ids {
        ctx.check_stop()?;
        let model = run::open(ws, run, *id, Device::Cpu)?;
        let config = Config {
            model: record.model.clone(),
            run: run.into(),
            dataset: record.dataset.clone(),
            fold: id.fold(),
            classes: record.classes.iter().collect(),
            preprocess: preprocess.clone(),
            normalise: model.meta.normalise,
            version: env!("CARGO_PKG_VERSION"),
        };
        let path = folder.join(format!("{}.{}", id.folder_name(), format.extension()));
        write(&path, format, &model, &config)?;
        files.push(path);
        configs.push((*id, config));
        task.advance(1);
    }
    drop(task);
    let (example, text) = format.example();
    let card = card::text(record, &configs, results, format, example);
    Ok((files, (example, text.to_string()), card))
}

fn write(path: &Path, format: Format, trained: &TrainedModel, config: &Config) -> Result<()> {
    let entry = models::find(&config.model)?;
    let arrays = pytorch::state(entry, trained.model.as_ref());
    let text = serde_json::to_string(config).expect("plain data");
    match format {
        Format::Onnx => {
            let (size, normalise) = (trained.meta.size_px, &config.normalise);
            let bytes = onnx::encode(
                arrays,
                size,
                trained.classes().len(),
                normalise,
                entry.onnx,
                entry.title,
                &[("config", text)],
            );
            atomic::write_bytes(path, &bytes)
        }
        Format::Safetensors => {
            let views = arrays.iter().map(|(name, (shape, values))| {
                let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
                (name.clone(), view.expect("as long as its shape says"))
            });
            let metadata = HashMap::from([("config".to_string(), text)]);
            let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::Io {
                path: path.into(),
                action: "write",
                source: std::io::Error::other(e),
            })?;
            atomic::write_bytes(path, &bytes)
        }
    }
}
