//! `wbc split`: assigns the images of every ingested data set, or of that of `--dataset`, to folds.

use super::{Globals, Outcome, each_dataset};
use crate::split;

const EXAMPLES: &str = "\
Examples:
  wbc split --stratified                      # every ingested data set, ten folds
  wbc split --stratified --dataset pbc --folds 5 --seed 1";

/// Assigns images to folds. Every class is spread evenly over the folds; copies and cells of one frame stay in one
/// fold. Each fold is the test set of one model, which is trained on the other folds.
///
/// Images without a class, unreadable images and images with two different labels are left out. Writes
/// data/<DATASET>/splits.parquet.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Spread every class evenly over the folds (always the case)
    #[arg(long)]
    stratified: bool,
    /// Number of folds [default: from the pipeline, usually 10]
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
