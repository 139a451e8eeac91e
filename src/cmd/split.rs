//! `wbc split`: assigns the images of every ingested data set, or of that of `--dataset`, to folds.

use super::globals::warn_of_changes;
use super::{Globals, Outcome, each_dataset};
use crate::split;

const EXAMPLES: &str = "\
Examples:
  wbc split --stratified                      # every ingested data set, ten folds
  wbc split --stratified --dataset pbc --folds 5 --seed 1
  wbc split --test subject=P7,P9              # hold out two patients
  wbc split --test 0.2                        # hold out a fifth of every class
  wbc split --given                           # the data set's own train and test images";

/// Assigns images to folds. Every class is spread over the folds as evenly as possible; copies, cells of one frame and
/// images of one patient (or slide) stay in one fold. Each fold is the test set of one model, which is trained on the
/// other folds.
///
/// Images without a class, unreadable images and images with two different labels are left out. Writes
/// data/<DATASET>/splits.parquet. The exit status is 1 if something was left out, leaks or needs attention.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Spread every class evenly over the folds (always the case)
    #[arg(long)]
    stratified: bool,
    /// Number of folds [default: from the pipeline, usually 10]
    #[arg(long, value_name = "K", env = "WBC_FOLDS")]
    folds: Option<u32>,
    /// Use the data set's own training and test images instead of folds, and name every copy and patient in both
    #[arg(long)]
    given: bool,
    /// Hold out a test set that no fold trains on or tests: subject=NAME,NAME, slide=NAME, role=test, or a share such
    /// as 0.2 of every class; patients and copies stay whole
    #[arg(long, value_name = "WHICH", conflicts_with = "given", env = "WBC_TEST")]
    test: Option<String>,
    /// Assign copies to folds at random, as if they were different images: only to measure how much higher the
    /// accuracies are then
    #[arg(long, conflicts_with = "given")]
    ignore_copies: bool,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let mut settings = pipeline.split.clone();
    settings.stratified |= args.stratified;
    settings.folds = args.folds.unwrap_or(settings.folds);
    settings.given |= args.given;
    settings.ignore_copies |= args.ignore_copies;
    settings.test = args.test.or(settings.test);
    settings.validate()?;

    let ws = globals.workspace();
    let present = ws.ingested_datasets()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let work = |dataset: &str| {
        warn_of_changes(&ws, dataset, &ctx)?;
        split::run(&ws, dataset, &settings, &ctx)
    };
    let (summaries, failed) = each_dataset(globals, &pipeline, &present, work)?;
    let text: Vec<String> = summaries.iter().map(ToString::to_string).collect();
    globals.print(&summaries, text.join("\n\n"))?;
    failed.into_result("split")?;
    let findings = summaries.iter().any(split::Summary::has_findings);
    Ok(if findings { Outcome::Findings } else { Outcome::Done })
}
