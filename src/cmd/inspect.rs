//! `wbc inspect`: a page of every ingested data set, or of the one that `--dataset` names.

use super::{Globals, Outcome, advice, each_dataset};
use crate::error::{Error, Input};
use crate::page::dataset;
use std::path::PathBuf;

/// Writes reports/<DATASET>-data.html, to open before anyone trains: the classes, whether colours differ between
/// classes or batches, examples, everything that ingest and check found with its pictures (copies side by side), the
/// folds, and what the images cannot tell. One file, no network. Exit status 1 where tables are out of date or images
/// unreadable.
#[derive(clap::Args)]
pub struct Args {
    /// Where the pages are written
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    reports: PathBuf,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let ws = globals.workspace();
    if let Some(name) = globals.dataset.as_ref().or(pipeline.dataset.as_ref())
        && ws.raw_dataset(name).is_dir()
        && !ws.manifest(name).is_file()
    {
        return Err(Error::missing(Input::Manifest, ws.manifest(name)).into());
    }
    let present = ws.ingested_datasets()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let work = |name: &str| {
        let help = |input: Input| advice::sentence(&Error::missing(input, ws.manifest(name)), &ws);
        dataset::write(&ws, name, &args.reports.join(format!("{name}-data.html")), &help, &ctx)
    };
    let (summaries, failed) = each_dataset(globals, &pipeline, &present, work)?;
    let text: Vec<String> = summaries.iter().map(ToString::to_string).collect();
    globals.print(&summaries, text.join("\n\n"))?;
    failed.into_result("shown")?;
    let sound = summaries.iter().all(|s| s.warnings.is_empty() && s.unreadable.is_empty());
    Ok(if sound { Outcome::Done } else { Outcome::Findings })
}
