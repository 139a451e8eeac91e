//! `wbc features`: segments the cells of a data set and measures them.

use super::terminal::say;
use super::{Globals, Outcome, shards};
use crate::context::Context;
use crate::features::{self, contact_sheet};
use std::path::PathBuf;

/// Segments nucleus and cytoplasm of every usable cell by their stain, and measures shape, colour and texture. Writes
/// data/<DATASET>/features.parquet.
///
/// `wbc train` does this where needed: for the classical models knn, svm, lda, bayes and forest. Check the outlines on
/// a contact sheet before trusting the features.
#[derive(clap::Args)]
pub struct Args {
    /// Also write a PNG of some of the cells with their outlines, one row per class
    #[arg(long, value_name = "FILE")]
    #[arg(value_parser = super::globals::local_path())]
    contact_sheet: Option<PathBuf>,
    #[command(flatten)]
    shards: shards::Args,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let ws = globals.workspace();
    let dataset = globals.one_dataset(&pipeline)?;
    let progress = globals.progress();
    let part = args.shards.part();
    let ctx = Context { part, ..globals.context(pipeline.seed, &progress) };
    let run = features::run(&ws, &dataset, &pipeline.features, &ctx);
    let summary = match shards::finished(run, "features", &dataset, part)? {
        Ok(summary) => summary,
        Err(progress) => {
            globals.print(&progress, &progress)?;
            return Ok(Outcome::Done);
        }
    };
    if let Some(path) = &args.contact_sheet {
        let shown = contact_sheet::write(&ws, &dataset, &pipeline.features, path)?;
        say(format_args!("contact sheet of {shown} cells: {}", path.display()));
    }
    globals.print(&summary, &summary)?;
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings })
}
