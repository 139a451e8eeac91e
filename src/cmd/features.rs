//! `wbc features`: segments one data set's cells and measures them.

use super::{Globals, Outcome};
use crate::features::{self, contact_sheet};
use std::path::PathBuf;

/// Finds nucleus and cytoplasm of every usable cell by their stain and measures shape, colour and texture, into
/// data/<DATASET>/features.parquet (schemas/features.toml says what each column is). `wbc train` runs this where a
/// pipeline's model is a classical one: knn, svm, lda, bayes, forest.
#[derive(clap::Args)]
pub struct Args {
    /// Also write a PNG of some of the cells with their outlines, a row a class, to look at
    #[arg(long, value_name = "FILE")]
    contact_sheet: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let ws = globals.workspace();
    let dataset = globals.one_dataset(&pipeline)?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let summary = features::run(&ws, &dataset, &pipeline.features, &ctx)?;
    if let Some(path) = &args.contact_sheet {
        let shown = contact_sheet::write(&ws, &dataset, &pipeline.features, path)?;
        eprintln!("{shown} of the cells: {}", path.display());
    }
    globals.print(&summary, &summary)?;
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings })
}
