//! `wbc validate`: a run's networks on another data set.

use super::{Globals, Outcome};
use crate::predict::external;
use crate::run::ModelRef;

/// Asks a run's networks (all its folds' models, averaged) about the labelled cells of another data set, cut and normalised
/// as the run's own, and says how much is lost on the way to another laboratory. Refused where an image was among those
/// that the models were trained on. Writes data/runs/<RUN>/external/<DATASET>/; the run's page shows it.
#[derive(clap::Args)]
pub struct Args {
    /// The run, or one of its models: RUN:0 for that of fold 0, RUN:all for that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let ModelRef { run, model } = args.run;
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let dataset = ws.choose(globals.dataset.as_deref(), &ws.ingested_datasets()?)?;
    let summary = external::run(&ws, &run, model, &dataset, globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
