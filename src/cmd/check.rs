//! `wbc check`: decodes every image of every ingested data set, or of the one that `--dataset` names.

use super::{Globals, Outcome, each_dataset};
use crate::check;

/// Decodes every image once and reports unreadable files, copies (also turned, mirrored or cropped ones), images with
/// two different labels, odd sizes, dark, bright and blurred images, and small classes.
///
/// Writes data/<DATASET>/issues.parquet, and copies.parquet with the pairs of copies and checks.parquet with their
/// groups. Changes no image. The exit status is 1 if it finds a problem.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    pipeline.check.validate()?;
    let ws = globals.workspace();
    let present = ws.ingested_datasets()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let work = |dataset: &str| check::run(&ws, dataset, &pipeline.check, &ctx);
    let (summaries, failed) = each_dataset(globals, &pipeline, &present, work)?;
    let text: Vec<String> = summaries.iter().map(ToString::to_string).collect();
    globals.print(&summaries, text.join("\n\n"))?;
    failed.into_result("checked")?;
    Ok(if summaries.iter().any(|s| s.findings > 0) { Outcome::Findings } else { Outcome::Done })
}
