//! `wbc split`: deals every ingested data set, or the one that `--dataset` names, to folds.

use super::{Globals, Outcome, each_dataset};
use crate::split;

const EXAMPLES: &str = "\
Examples:
  wbc split --stratified                      # every ingested data set, ten folds
  wbc split --stratified --dataset pbc --folds 5 --seed 1";

/// Deals images to folds: every class even over the folds, copies and cells of one frame in one fold. Images without
/// a class, unreadable ones and label conflicts are left out. Writes data/<DATASET>/splits.parquet.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Keep the classes even over the folds: the default, and the only kind there is
    #[arg(long)]
    stratified: bool,
    /// Number of folds [default: the pipeline's: 10]
    #[arg(long, value_name = "K", env = "WBC_FOLDS")]
    folds: Option<u32>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let mut settings = pipeline.split.clone();
    settings.stratified |= args.stratified;
    settings.folds = args.folds.unwrap_or(settings.folds);
    settings.validate()?;

    let ws = globals.workspace();
    let present = ws.ingested_datasets()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let work = |dataset: &str| split::run(&ws, dataset, &settings, &ctx);
    let (summaries, failed) = each_dataset(globals, &pipeline, &present, work)?;
    let text: Vec<String> = summaries.iter().map(ToString::to_string).collect();
    globals.print(&summaries, text.join("\n\n"))?;
    failed.into_result("split")?;
    Ok(Outcome::Done)
}
