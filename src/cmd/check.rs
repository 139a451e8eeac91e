//! `wbc check`: decodes every image of every ingested data set, or of the one that `--dataset` names.

use super::{Globals, Outcome, each_dataset};
use crate::check;

/// Decodes every image once and reports what would spoil an experiment: unreadable files, exact and near copies, the
/// same picture under two labels, odd sizes, dark, bright and blurred pictures, small classes. Writes
/// data/<DATASET>/issues.parquet and the groups of copies in manifest.parquet. Deletes nothing. Exit status 1 where
/// it finds something.
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
