//! What the commands share: the options of every command, and work on each of several data sets.

use super::advice;
use super::terminal::{Terminal, say};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ingest;
use crate::join;
use crate::nn::device::Device;
use crate::part::Part;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::text;
use crate::workspace::Workspace;
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Set by Ctrl-C.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// How a command ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1: the command succeeded, and reports problems in the data.
    Findings,
}

/// Options of every command. They are hidden from clap's help, where `OPTIONS_OF_EVERY_COMMAND` stands for them; the
/// manual pages show them in full.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Workspace folder: images in raw/DATASET/, results beside raw/
    #[arg(long, global = true, value_name = "DIR", default_value = "data", env = "WBC_WORKSPACE")]
    #[arg(value_parser = local_path())]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub workspace: PathBuf,
    /// Data set to work on: a folder in raw/ [default: every data set, or the only one]
    #[arg(long, global = true, value_name = "NAME", env = "WBC_DATASET")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub dataset: Option<String>,
    /// Settings: a built-in pipeline (quick, paper, knn, svm, ...) or a pipeline file; `wbc submit` takes several
    #[arg(long, global = true, value_name = "NAME|FILE", default_value = "quick", env = "WBC_PIPELINE")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub pipeline: Vec<String>,
    /// Seed of all random numbers [default: from the pipeline]
    #[arg(long, global = true, value_name = "N", env = "WBC_SEED")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub seed: Option<u64>,
    /// Number of threads, which does not change the results [default: all]
    #[arg(long, global = true, value_name = "N", env = "WBC_THREADS")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub threads: Option<usize>,
    /// Where networks run: cpu, or cuda:N if wbc was built with --features cuda
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu", env = "WBC_DEVICE")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub device: Device,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub json: bool,
    /// Exit with 0 instead of 1 where a command succeeded and has findings, for scripts
    #[arg(long, global = true, env = "WBC_OK_FINDINGS")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub ok_findings: bool,
}

/// A path of this machine, of something that is written.
pub(super) fn local_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_string_lossy().contains("://") {
        true => Err("expected a path of this machine: results are not written to a bucket or a server"),
        false => Ok(path),
    })
}

impl Globals {
    /// The workspace of `--workspace`.
    pub fn workspace(&self) -> Workspace {
        Workspace::new(&self.workspace)
    }

    /// The pipeline that `--pipeline` names, with `--seed` applied.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let mut pipeline = Pipeline::load(self.one_pipeline()?)?;
        if let Some(seed) = self.seed {
            pipeline.seed = seed;
        }
        Ok(pipeline)
    }

    /// The name or file of the pipeline.
    fn one_pipeline(&self) -> Result<&str> {
        match self.pipeline.as_slice() {
            [pipeline] => Ok(pipeline),
            several => Err(Error::setting("pipeline", "one (wbc submit takes several)", several.join(", "))),
        }
    }

    /// The ingested data set that the user or the pipeline names; by default the only one, or `cuk`.
    pub fn one_dataset(&self, pipeline: &Pipeline) -> Result<String> {
        let ws = self.workspace();
        ws.choose(self.dataset.as_deref().or(pipeline.dataset.as_deref()), &ws.ingested_datasets()?)
    }

    /// The default name of a run: data set, model and pipeline, and the seed where `--seed` differs from the pipeline.
    pub fn run_name(&self, dataset: &str, pipeline: &Pipeline) -> Result<String> {
        Ok(run_name(dataset, pipeline, Pipeline::load(self.one_pipeline()?)?.seed))
    }

    /// The context of a stage; `progress` comes from [`Globals::progress`].
    pub fn context<'a>(&self, seed: u64, progress: &'a dyn Progress) -> Context<'a> {
        Context { seed, progress, stop: &STOP, part: Part::All }
    }

    /// Bars on a terminal, plain lines elsewhere; always on stderr.
    pub fn progress(&self) -> Terminal {
        Terminal::new()
    }

    /// Prints the result: `json` as one document with `--json`, else `text`.
    pub fn print(&self, json: &impl serde::Serialize, text: impl std::fmt::Display) -> anyhow::Result<()> {
        let mut text = match self.json {
            true => serde_json::to_string_pretty(json)?,
            false => text::printable(&text.to_string()),
        };
        text.push('\n');
        self.print_bytes(text.as_bytes())
    }

    /// Prints text as it is.
    pub(super) fn print_bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // As in `wbc report | head`.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

/// The default name of a run: data set, model and pipeline, and the seed where it is not that of the pipeline file.
pub(super) fn run_name(dataset: &str, pipeline: &Pipeline, seed_of_file: u64) -> String {
    let name = format!("{dataset}-{}-{}", pipeline.train.model(), pipeline.name);
    if pipeline.seed == seed_of_file { name } else { format!("{name}-s{}", pipeline.seed) }
}

/// Says where the files of a data set have changed since they were ingested, as nothing reads them again but ingest.
///
/// # Errors
/// [`Error::Interrupted`].
pub(super) fn warn_of_changes(ws: &Workspace, dataset: &str, ctx: &Context) -> Result<()> {
    let members = join::members(ws, dataset);
    let is_joint = !members.is_empty();
    for member in if is_joint { members } else { vec![dataset.into()] } {
        // The files are read only where there is a reason to.
        if !ingest::may_have_changed(ws, &member) {
            continue;
        }
        match ingest::has_changed(ws, &member, ctx) {
            Ok(true) => {
                let then = if is_joint { ", and join the data sets again" } else { "" };
                say(format_args!(
                    "wbc: warning: the files or labels of {member} have changed since they were ingested: what follows \
                     is of the old ones. Run: wbc ingest --dataset {member}{then}"
                ));
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            // Where they cannot be read, what was read before is used.
            _ => {}
        }
    }
    Ok(())
}

/// The data sets that a command failed on, after it reported each error.
pub(crate) struct Failed(Vec<String>);

impl Failed {
    /// An error that names them, where there are any.
    pub(crate) fn into_result(self, done: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.is_empty(), "not {done}: {}", self.0.join(", "));
        Ok(())
    }
}

/// Does `work` for the data set that the user or the pipeline names, else for every one of `present`. After a failure
/// it continues with the next.
pub(crate) fn each_dataset<T>(
    globals: &Globals,
    pipeline: &Pipeline,
    present: &[String],
    mut work: impl FnMut(&str) -> Result<T>,
) -> anyhow::Result<(Vec<T>, Failed)> {
    let chosen = match globals.dataset.as_deref().or(pipeline.dataset.as_deref()) {
        Some(name) => vec![globals.workspace().choose(Some(name), present)?],
        None => present.to_vec(),
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for dataset in &chosen {
        match work(dataset) {
            Ok(summary) => done.push(summary),
            Err(error) if chosen.len() == 1 || matches!(error, Error::Interrupted) => return Err(error.into()),
            Err(error) => {
                say(format_args!("wbc: {}", advice::message(&error, &globals.workspace())));
                failed.push(dataset.clone());
            }
        }
    }
    Ok((done, Failed(failed)))
}
