//! `wbc inspect`: an HTML page about every ingested data set, or about that of `--dataset`.

use super::{Globals, Outcome, advice, each_dataset};
use crate::error::{Error, Input};
use crate::page::dataset;
use crate::table;
use std::path::PathBuf;

/// Writes reports/<DATASET>-data.html, a page to read before training: classes, differences in colour between classes
/// or batches, examples, every problem that ingest and check found with its images (copies side by side), folds, and
/// what the images cannot tell.
///
/// The page is one file that needs no network. The exit status is 1 if tables are out of date or images unreadable.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the pages
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let ws = globals.workspace();
    if let Some(name) = globals.dataset.as_ref().or(pipeline.dataset.as_ref())
        && ws.raw_dataset(name).try_exists().map_err(Error::io(&ws.raw_dataset(name), "look for"))?
        && !table::exists(&ws.manifest(name))?
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
