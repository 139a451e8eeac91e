//! `wbc validate`: a run's networks on another data set.

use super::{Globals, Outcome, run_and_fold};
use crate::predict::external;

/// Asks a run's networks (all its folds' models, averaged) about the labelled cells of another data set, cut and normalised
/// as the run's own, and says how much is lost on the way to another laboratory. Refused where an image was among those
/// that the models were trained on. Writes data/runs/<RUN>/external/<DATASET>/; the run's page shows it.
#[derive(clap::Args)]
pub struct Args {
    /// The run, or the model of one of its folds
    #[arg(value_name = "RUN|RUN:FOLD")]
    run: String,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let (run, fold) = run_and_fold(&ws, &args.run)?;
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let dataset = ws.choose(globals.dataset.as_deref(), &ws.ingested_datasets()?)?;
    let summary = external::run(&ws, run, fold, &dataset, globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
