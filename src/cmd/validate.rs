//! `wbc validate`: evaluates the models of a run on another data set.

use super::{Globals, Outcome};
use crate::predict::external;
use crate::run::ModelRef;

/// Evaluates the models of a run on the labelled cells of another data set (--dataset), preprocessed like the run's
/// own, and compares the result with the run's own test images.
///
/// Classes are matched by name. Images of classes that the run does not know are left out, and metrics are over the
/// classes that both have; then the exit status is 1.
///
/// Images that the models were trained on are left out, and so are copies of them. Refused where the data sets share a
/// patient. Writes data/runs/<RUN>/external/<DATASET>/; the run's page (wbc report --html) shows it.
#[derive(clap::Args)]
pub struct Args {
    /// The run, or one of its models: RUN:0 is that of fold 0, RUN:all that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let dataset = ws.choose(globals.dataset.as_deref(), &ws.ingested_datasets()?)?;
    let summary = external::run(&ws, &args.run, &dataset, globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(if summary.coverage.is_complete() { Outcome::Done } else { Outcome::Findings })
}
