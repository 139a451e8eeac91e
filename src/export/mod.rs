//! Writes trained networks for other programs: arrays for PyTorch as safetensors, or an ONNX graph that takes images
//! and returns probabilities; with a model card and a Python example.

use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::models::{self, onnx, pytorch};
use crate::nn::device::Device;
use crate::preprocess::Cut;
use crate::rows::CutRule;
use crate::run::{self, ModelRef, Record, Results, TrainedModel};
use crate::workspace::Workspace;
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

mod card;
mod config;

pub use config::{Config, Format};

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
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is not a network.
pub fn run(ws: &Workspace, source: &ModelRef, format: Format, folder: &Path, ctx: &Context) -> Result<Summary> {
    let run = &source.run;
    let record = Record::read(ws, run)?;
    let mut preprocess = record.network_preprocess(run)?.clone();
    // Other programs cannot ask ingest what was cut.
    if let (Cut::Auto, Some(images)) = (preprocess.cut, &record.images) {
        preprocess.cut = match images.rule {
            CutRule::Centre => Cut::Centre,
            CutRule::Whole => Cut::Whole,
            CutRule::Box => Cut::Box,
        };
    }
    let ids = match source.model {
        Some(id) => vec![id],
        None => run::finished(ws, run)?,
    };
    let (mut files, mut configs) = (Vec::new(), Vec::new());
    let task = ctx.progress.task("export", Some(ids.len() as u64), "models");
    for id in ids {
        ctx.check_stop()?;
        let model = run::open(ws, run, id, Device::Cpu)?;
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
        configs.push((id, config));
        task.advance(1);
    }
    drop(task);
    let results = match Results::load(ws, run) {
        Err(Error::Missing { .. }) => None,
        results => Some(results?),
    };
    let (example, text) = format.example();
    let card = card::text(&record, &configs, results.as_ref(), format, example);
    for (name, text) in [(example, text.to_string()), ("README.md", card)] {
        let path = folder.join(name);
        atomic::write_bytes(&path, text.as_bytes())?;
        files.push(path);
    }
    Ok(Summary { run: run.into(), folder: folder.into(), files })
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
