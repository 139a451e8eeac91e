//! `wbc split`: deals every ingested data set, or the one that `--dataset` names, to folds.

use super::{Globals, Outcome};
use crate::split;

/// Deals images to folds: every class even over the folds, copies and cells of one frame in one fold. Images without
/// a class, unreadable ones and label conflicts are left out. Writes data/<DATASET>/splits.parquet.
#[derive(clap::Args)]
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
    let mut settings = pipeline.split;
    settings.stratified |= args.stratified;
    settings.folds = args.folds.unwrap_or(settings.folds);
    settings.validate()?;

    let ws = globals.workspace();
    let present = ws.ingested_datasets()?;
    let chosen = match globals.dataset.as_deref().or(pipeline.dataset.as_deref()) {
        Some(name) => vec![ws.choose(Some(name), &present)?],
        None => present,
    };
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let (mut summaries, mut failed) = (Vec::new(), Vec::new());
    for dataset in &chosen {
        match split::run(&ws, dataset, &settings, &ctx) {
            Ok(summary) => summaries.push(summary),
            Err(error @ crate::error::Error::Interrupted { .. }) => return Err(error.into()),
            // One data set that cannot be dealt does not keep the others from it.
            Err(error) if chosen.len() > 1 => {
                eprintln!("wbc: {error}");
                failed.push(dataset.as_str());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let text: Vec<String> = summaries.iter().map(ToString::to_string).collect();
    globals.print(&summaries, text.join("\n\n"))?;
    if !failed.is_empty() {
        anyhow::bail!("not split: {}", failed.join(", "));
    }
    Ok(Outcome::Done)
}
