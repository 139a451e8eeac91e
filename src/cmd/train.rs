//! `wbc train`: preprocesses where that is needed, trains every fold, predicts its test images, evaluates.

use super::{Globals, Outcome};
use crate::error::Error;
use crate::{evaluate, prep, train};
use serde::Serialize;

/// Trains the pipeline's model on every fold of a data set and predicts the fold's test images; preprocesses first
/// where that is needed. Writes data/runs/<RUN>/. Ctrl-C stops after the step in hand; the same command goes on
/// after the last whole epoch, to the same bytes.
#[derive(clap::Args)]
pub struct Args {
    /// Train only this fold, from 0 (may be given several times)
    #[arg(long, value_name = "N")]
    fold: Vec<u32>,
    /// Name of the run [default: <DATASET>-<MODEL>-<PIPELINE>, and -s<SEED> where --seed differs]
    #[arg(long, value_name = "NAME", env = "WBC_RUN")]
    run: Option<String>,
    /// Throw away a run of that name that had other settings or data
    #[arg(long)]
    restart: bool,
    /// Times every training image is seen [default: the pipeline's: 12]
    #[arg(long, value_name = "N", env = "WBC_EPOCHS")]
    epochs: Option<u32>,
    /// Images a step [default: the pipeline's: 32]
    #[arg(long, value_name = "N", env = "WBC_BATCH")]
    batch: Option<usize>,
    /// Learning rate, the peak where the schedule has one [default: the pipeline's: 1e-3]
    #[arg(long, value_name = "RATE", env = "WBC_LEARNING_RATE")]
    learning_rate: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    train: train::Summary,
    evaluate: evaluate::Summary,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut pipeline = globals.pipeline()?;
    let settings = &mut pipeline.train;
    settings.epochs = args.epochs.unwrap_or(settings.epochs);
    settings.batch = args.batch.unwrap_or(settings.batch);
    settings.learning_rate = args.learning_rate.unwrap_or(settings.learning_rate);
    settings.validate()?;
    pipeline.preprocess.validate()?;
    let ws = globals.workspace();
    let dataset = globals.one_dataset(&pipeline)?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    // A split that is missing or stale is the user's to make: say so before any work.
    crate::split::read(&ws, &dataset)?;
    let pictures = prep::run(&ws, &dataset, &pipeline.preprocess, &ctx)?;
    if !pictures.up_to_date {
        eprintln!("{pictures}");
    }
    let plan = train::Plan {
        run: match args.run {
            Some(name) => name,
            None => globals.run_name(&dataset, &pipeline)?,
        },
        pipeline: pipeline.name.clone(),
        size_px: pipeline.preprocess.size_px,
        folds: args.fold,
        restart: args.restart,
    };
    let trained = match train::run(&ws, &dataset, &pipeline.train, &plan, &ctx) {
        Err(error @ Error::Interrupted { .. }) => {
            // What is finished can be reported already; there may be no finished fold yet.
            let _ = evaluate::run(&ws, &plan.run);
            return Err(error.into());
        }
        other => other?,
    };
    let report = Report { evaluate: evaluate::run(&ws, &plan.run)?, train: trained };
    let text = format!("{}\n{}", report.train, report.evaluate);
    globals.print(&report, text)?;
    Ok(Outcome::Done)
}
