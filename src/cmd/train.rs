//! `wbc train`: preprocesses images or measures features where needed, trains every fold, predicts its test images, and
//! evaluates.

use super::globals::warn_of_changes;
use super::terminal::say;
use super::{Globals, Outcome};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::nn::Precision;
use crate::pipeline::Pipeline;
use crate::run::{Recipe, Sampling};
use crate::train::{InitSource, Log, Target};
use crate::workspace::Workspace;
use crate::{check, evaluate, features, ingest, join, preprocess, split, train};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  wbc train                                   # the recipe quick on every fold
  wbc train --dataset pbc --pipeline svm      # a classifier on measured features
  wbc train --fold 0 --epochs 2 --run try     # a short trial under a name of its own
  wbc train --log tensorboard                 # to view: tensorboard --logdir data/runs
  wbc train --datasets jtsc,pbc               # two data sets together: jtsc+pbc
  wbc train --dataset pbc --all               # one model of all images; to start from it:
  wbc train --dataset lisc-cells --pipeline lisc --init pbc-wnet-quick";

/// Trains a model on every fold of a data set, predicts the fold's test images and evaluates the predictions.
///
/// The pipeline (--pipeline) sets the model and the recipe. Networks are trained on preprocessed images, classical
/// classifiers are fitted on measured features; both are computed first where needed. Everything is written to
/// data/runs/<RUN>/.
///
/// Ctrl-C stops after the current step. The same command resumes after the last saved epoch (each is saved, on a GPU
/// one in ten seconds; a classical classifier resumes after the last finished fold) and gives the same results as
/// without the interruption. Several processes, also on other machines that share the workspace, may train one run:
/// each trains folds that no other does.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Train on several data sets together: every fold has images of each, and training draws equally many from each
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', conflicts_with = "dataset")]
    datasets: Vec<String>,
    /// Train only this fold, from 0 (can be repeated)
    #[arg(long, value_name = "N")]
    fold: Vec<u32>,
    /// Train one model on all images, to start other trainings from (--init) or to predict new images with
    #[arg(long, conflicts_with = "fold")]
    all: bool,
    /// Train nothing: put together the results of the folds that are finished, and evaluate them
    #[arg(long, conflicts_with_all = ["fold", "all"])]
    gather: bool,
    /// Start from the weights of another run (its model of all images), of one of its folds (RUN:0), or of a
    /// safetensors file (also PyTorch's and timm's ResNet50); refused if they were trained on an image that is tested
    /// here
    #[arg(long, value_name = "RUN[:MODEL]|FILE", env = "WBC_INIT")]
    init: Option<InitSource>,
    /// Name of the run [default: <DATASET>-<MODEL>-<PIPELINE>, then -s<SEED> if --seed differs, -from-<RUN> with
    /// --init]
    #[arg(long, value_name = "NAME", env = "WBC_RUN")]
    run: Option<String>,
    /// Also write learning curves with every checkpoint (can be repeated; works on a finished run too)
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',', env = "WBC_LOG")]
    log: Vec<LogFormat>,
    /// Delete an existing run of the same name that has other settings or data
    #[arg(long)]
    restart: bool,
    /// Passes over the training images [default: from the pipeline]
    #[arg(long, value_name = "N", env = "WBC_EPOCHS")]
    epochs: Option<u32>,
    /// Images per step [default: from the pipeline]
    #[arg(long, value_name = "N", env = "WBC_BATCH")]
    batch: Option<usize>,
    /// Learning rate, the peak where the schedule has one [default: from the pipeline]
    #[arg(long, value_name = "RATE", env = "WBC_LEARNING_RATE")]
    learning_rate: Option<f64>,
    /// What products round their operands to: f32 (not at all), bf16 (faster on many machines), tf32 (on a GPU)
    /// [default: from the pipeline]
    #[arg(long, value_name = "PRECISION", env = "WBC_PRECISION")]
    precision: Option<Precision>,
}

/// A format of learning curves.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// Event files for TensorBoard: tensorboard --logdir data/runs
    Tensorboard,
    /// One table of all folds: curves.csv
    Csv,
}

impl From<LogFormat> for Log {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Tensorboard => Self::Tensorboard,
            LogFormat::Csv => Self::Csv,
        }
    }
}

/// What was trained, and its results.
#[derive(Serialize)]
pub(super) struct Report {
    pub train: train::Summary,
    /// None for a model of all images, which has no test images.
    evaluate: Option<evaluate::Summary>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut pipeline = globals.pipeline()?;
    if let Recipe::Network(settings) = &mut pipeline.train {
        settings.epochs = args.epochs.unwrap_or(settings.epochs);
        settings.batch = args.batch.unwrap_or(settings.batch);
        settings.learning_rate = args.learning_rate.unwrap_or(settings.learning_rate);
        settings.precision = args.precision.unwrap_or(settings.precision);
    }
    pipeline.train.network_only(&[
        ("epochs", args.epochs.is_some()),
        ("batch", args.batch.is_some()),
        ("learning_rate", args.learning_rate.is_some()),
        ("precision", args.precision.is_some()),
    ])?;
    pipeline.validate()?;
    let ws = globals.workspace();
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let dataset = match args.datasets.as_slice() {
        [] => globals.one_dataset(&pipeline)?,
        members => joint(&ws, members, &mut pipeline, &ctx)?,
    };
    // Jobs that train single folds need not all look.
    if args.fold.is_empty() && !args.gather {
        warn_of_changes(&ws, &dataset, &ctx)?;
    }
    let chosen = Chosen {
        run: args.run,
        target: match (args.all, args.gather) {
            (true, _) => Target::AllImages,
            (_, true) => Target::NoModel,
            _ if args.fold.is_empty() => Target::EveryFold,
            _ => Target::Folds(args.fold),
        },
        init: args.init,
        logs: args.log.into_iter().map(Log::from).collect(),
        restart: args.restart,
    };
    let report = train_dataset(globals, &dataset, pipeline, chosen, &ctx)?;
    globals.print(&report, &report)?;
    Ok(if report.train.elsewhere.is_empty() { Outcome::Done } else { Outcome::Findings })
}

/// What to train of a run, as the user chose it.
#[derive(Clone, Default)]
pub(super) struct Chosen {
    /// Name of the run; none for the usual one.
    pub run: Option<String>,
    pub target: Target,
    pub init: Option<InitSource>,
    pub logs: Vec<Log>,
    pub restart: bool,
}

/// Trains on a data set that is split: preprocesses it first where needed, and evaluates.
pub(super) fn train_dataset(
    globals: &Globals,
    dataset: &str,
    mut pipeline: Pipeline,
    chosen: Chosen,
    ctx: &Context,
) -> Result<Report> {
    let ws = globals.workspace();
    // Read the split first: if it is missing or stale, the user must make it before anything is computed. The run
    // records the folds that the split has, whatever the pipeline says.
    let splits = split::read(&ws, dataset)?;
    let split_of_pipeline = std::mem::replace(&mut pipeline.split, splits.settings);
    // So does the pipeline file beside the run with how the images were read.
    if let Some(settings) = ingest::settings_of(&ws, dataset) {
        pipeline.set_ingest(settings);
    }
    let plan = train::Plan {
        run: match chosen.run {
            Some(name) => name,
            None => globals.run_name(dataset, &pipeline)? + &init_suffix(chosen.init.as_ref()),
        },
        pipeline: pipeline.name.clone(),
        preprocess: pipeline.preprocess.clone(),
        target: chosen.target,
        init: chosen.init,
        device: globals.device,
        logs: chosen.logs,
        restart: chosen.restart,
        pipeline_file: Some(pipeline.to_toml()?),
    };
    plan.suits(&pipeline.train)?;
    if pipeline.split != split_of_pipeline {
        say(format_args!(
            "wbc: the split has {}, the pipeline {}: the split is used as it is (wbc split makes a new one)",
            pipeline.split, split_of_pipeline
        ));
    }
    match &pipeline.train {
        Recipe::Network(_) => {
            let tensors = preprocess::run(&ws, dataset, &pipeline.preprocess, ctx)?;
            if !tensors.up_to_date {
                say(format_args!("{tensors}"));
            }
        }
        Recipe::Classical(_) => {
            let features = features::run(&ws, dataset, &pipeline.features, ctx)?;
            if !features.up_to_date {
                say(format_args!("{features}"));
            }
        }
    }
    train_and_evaluate(&ws, dataset, &pipeline.train, &plan, ctx)
}

/// Joins data sets and splits the joint one, where that has not been done; returns its name. Training then draws
/// equally many images of each, unless the pipeline says otherwise.
pub(super) fn joint(ws: &Workspace, members: &[String], pipeline: &mut Pipeline, ctx: &Context) -> Result<String> {
    joint_part(ws, members, None, pipeline, ctx)
}

/// [`joint`] with some cells of one of the data sets.
pub(super) fn joint_part(
    ws: &Workspace,
    members: &[String],
    part: Option<&join::Part>,
    pipeline: &mut Pipeline,
    ctx: &Context,
) -> Result<String> {
    let present = ws.ingested_datasets()?;
    members.iter().try_for_each(|member| ws.choose(Some(member), &present).map(|_| ()))?;
    let name = join::name_of_part(members, part)?;
    for member in members {
        let check = check::run(ws, member, &pipeline.check, ctx)?;
        if !check.up_to_date {
            say(format_args!("{check}"));
        }
    }
    let joined = join::run_part(ws, members, part, pipeline.check.copy_correlation, ctx)?;
    if !joined.up_to_date || joined.has_findings() {
        say(format_args!("{joined}"));
    }
    let usable = match split::read(ws, &name) {
        Err(Error::Missing { .. } | Error::Stale { .. }) => false,
        read => read.map(|_| true)?,
    };
    if !usable {
        say(format_args!("{}", split::run(ws, &name, &pipeline.split, ctx)?));
    }
    if let Recipe::Network(settings) = &mut pipeline.train
        && settings.sampling == Sampling::Shuffled
    {
        settings.sampling = Sampling::Laboratory;
        say(format_args!("training draws equally many images from each data set (train.sampling = \"laboratory\")"));
    }
    Ok(name)
}

/// The end of a run's name with `--init`.
fn init_suffix(init: Option<&InitSource>) -> String {
    match init {
        None => String::new(),
        Some(InitSource::Run(model)) => format!("-from-{model}").replace(':', "-"),
        Some(InitSource::File(path)) => format!("-from-{}", path.file_stem().unwrap_or_default().display()),
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.train)?;
        self.evaluate.as_ref().map_or(Ok(()), |e| write!(f, "\n{e}"))
    }
}

/// Trains, and evaluates the finished folds: after each of them, at the end, and also when the user stops the training.
pub(super) fn train_and_evaluate(
    ws: &Workspace,
    dataset: &str,
    recipe: &Recipe,
    plan: &train::Plan,
    ctx: &Context,
) -> Result<Report> {
    let so_far = || match evaluate::run(ws, &plan.run) {
        Ok(summary) => ctx.progress.log(&format!("so far: {summary}")),
        // Training goes on: the finished folds can be evaluated later.
        Err(error) => ctx.progress.log(&format!("could not evaluate the finished folds: {error}")),
    };
    match train::run_with(ws, dataset, recipe, plan, ctx, &so_far) {
        Err(error @ Error::Interrupted) => {
            // Fails where no fold is finished, but then there is nothing to evaluate.
            let _ = evaluate::run(ws, &plan.run);
            Err(error)
        }
        trained => {
            let train = trained?;
            let evaluate = if plan.target == Target::AllImages { None } else { Some(evaluate::run(ws, &plan.run)?) };
            Ok(Report { train, evaluate })
        }
    }
}
