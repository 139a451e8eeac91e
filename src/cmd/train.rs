//! `wbc train`: preprocesses or measures where that is needed, trains every fold, predicts its test images, evaluates.

use super::{Globals, Outcome};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::Recipe;
use crate::train::{InitSource, Log, Target};
use crate::workspace::Workspace;
use crate::{evaluate, features, preprocess, split, train};
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  wbc train                                   # the recipe quick, every fold
  wbc train --dataset pbc --pipeline svm      # a classifier on measured features
  wbc train --fold 0 --epochs 2 --run look    # a first look, under a name of its own
  wbc train --log tensorboard                 # tensorboard --logdir data/runs shows it
  wbc train --dataset pbc --all               # one model of all images, and from it:
  wbc train --dataset lisc-cells --pipeline lisc --init pbc-wnet-quick";

/// Trains the pipeline's model on every fold of a data set and predicts the fold's test images; preprocesses first
/// where that is needed (for a classical model: measures features). Writes data/runs/<RUN>/. Ctrl-C stops after the
/// step in hand; the same command goes on after the last whole epoch (for a classical model: the last whole fold), to
/// the same bytes.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Train only this fold, from 0 (may be given several times)
    #[arg(long, value_name = "N")]
    fold: Vec<u32>,
    /// Train one model on all images instead: to start other trainings from (--init), or to predict new images with
    #[arg(long, conflicts_with = "fold")]
    all: bool,
    /// Start from the weights of a run's model of all images, of one of its folds, or of a safetensors file (PyTorch's
    /// and timm's ResNet50 too); refused where a run was trained on an image that is tested here
    #[arg(long, value_name = "RUN[:MODEL]|FILE", env = "WBC_INIT")]
    init: Option<InitSource>,
    /// Name of the run [default: <DATASET>-<MODEL>-<PIPELINE>, -s<SEED> where --seed differs, -from-<RUN> with --init]
    #[arg(long, value_name = "NAME", env = "WBC_RUN")]
    run: Option<String>,
    /// Also write learning curves, after every epoch, for another program (may be given several times); on a run that
    /// is up to date: writes its curves
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',', env = "WBC_LOG")]
    log: Vec<LogFormat>,
    /// Throw away a run of that name that had other settings or data
    #[arg(long)]
    restart: bool,
    /// Times every training image is seen [default: the pipeline's]
    #[arg(long, value_name = "N", env = "WBC_EPOCHS")]
    epochs: Option<u32>,
    /// Images a step [default: the pipeline's]
    #[arg(long, value_name = "N", env = "WBC_BATCH")]
    batch: Option<usize>,
    /// Learning rate, the peak where the schedule has one [default: the pipeline's]
    #[arg(long, value_name = "RATE", env = "WBC_LEARNING_RATE")]
    learning_rate: Option<f64>,
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

/// What was trained, and what it came out as.
#[derive(Serialize)]
pub(super) struct Report {
    pub train: train::Summary,
    /// None for a model of all images: nothing was tested.
    evaluate: Option<evaluate::Summary>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut pipeline = globals.pipeline()?;
    if let Recipe::Network(settings) = &mut pipeline.train {
        settings.epochs = args.epochs.unwrap_or(settings.epochs);
        settings.batch = args.batch.unwrap_or(settings.batch);
        settings.learning_rate = args.learning_rate.unwrap_or(settings.learning_rate);
    }
    pipeline.train.network_only(&[
        ("epochs", args.epochs.is_some()),
        ("batch", args.batch.is_some()),
        ("learning_rate", args.learning_rate.is_some()),
    ])?;
    pipeline.validate()?;
    let ws = globals.workspace();
    let dataset = globals.one_dataset(&pipeline)?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    // A split that is missing or stale is the user's to make: say so before any work. What it was dealt by is what the run is.
    let asked = std::mem::replace(&mut pipeline.split.folds, split::read(&ws, &dataset)?.folds);
    let plan = train::Plan {
        run: match args.run {
            Some(name) => name,
            None => globals.run_name(&dataset, &pipeline)? + &init_suffix(args.init.as_ref()),
        },
        pipeline: pipeline.name.clone(),
        preprocess: pipeline.preprocess.clone(),
        target: match args.all {
            true => Target::AllImages,
            false if args.fold.is_empty() => Target::EveryFold,
            false => Target::Folds(args.fold),
        },
        init: args.init,
        device: globals.device,
        logs: args.log.into_iter().map(Log::from).collect(),
        restart: args.restart,
        pipeline_file: Some(pipeline.to_toml()?),
    };
    plan.suits(&pipeline.train)?;
    let dealt = pipeline.split.folds;
    if dealt != asked {
        let what = format!("the split has {dealt} folds, the pipeline says {asked}");
        eprintln!("wbc: {what}: trained as it was dealt (to deal again: wbc split)");
    }
    match &pipeline.train {
        Recipe::Network(_) => {
            let tensors = preprocess::run(&ws, &dataset, &pipeline.preprocess, &ctx)?;
            if !tensors.up_to_date {
                eprintln!("{tensors}");
            }
        }
        Recipe::Classical(_) => {
            let measured = features::run(&ws, &dataset, &pipeline.features, &ctx)?;
            if !measured.up_to_date {
                eprintln!("{measured}");
            }
        }
    }
    let report = train_and_evaluate(&ws, &dataset, &pipeline.train, &plan, &ctx)?;
    globals.print(&report, &report)?;
    Ok(Outcome::Done)
}

/// What `--init` adds to a run's name.
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

/// Trains, and evaluates the folds that are finished, after each of them and also when the user stops the training.
pub(super) fn train_and_evaluate(
    ws: &Workspace,
    dataset: &str,
    recipe: &Recipe,
    plan: &train::Plan,
    ctx: &Context,
) -> Result<Report> {
    let so_far = || match evaluate::run(ws, &plan.run) {
        Ok(summary) => ctx.progress.log(&format!("so far: {summary}")),
        // What is trained can be evaluated later; the other folds need not wait for it.
        Err(error) => ctx.progress.log(&format!("not evaluated yet: {error}")),
    };
    match train::run_with(ws, dataset, recipe, plan, ctx, &so_far) {
        Err(error @ Error::Interrupted) => {
            // Without a finished fold there is nothing to evaluate; the stop is what matters.
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
