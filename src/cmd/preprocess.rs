//! `wbc preprocess`: cuts, resizes and stores one data set's pictures.

use super::{Globals, Outcome};
use crate::preprocess::{self, contact_sheet};
use std::path::PathBuf;

/// Cuts the cell out of every usable image (the paper's central square of 200, or the cell's box with a margin),
/// resizes it and stores it in data/<DATASET>/tensors-<SIZE>/. `wbc train` runs this where it is needed.
#[derive(clap::Args)]
pub struct Args {
    /// Side of the pictures in pixels [default: the pipeline's: 128]
    #[arg(long, value_name = "PX", env = "WBC_SIZE")]
    size: Option<u32>,
    /// What to cut: auto, centre, box, whole or cell [default: the pipeline's: auto]
    #[arg(long, value_name = "RULE", value_parser = cut, env = "WBC_CUT")]
    cut: Option<preprocess::Cut>,
    /// Also write a PNG of some of the pictures, a row a class, to look at
    #[arg(long, value_name = "FILE")]
    contact_sheet: Option<PathBuf>,
}

fn cut(text: &str) -> Result<preprocess::Cut, String> {
    let value = serde_json::Value::String(text.into());
    serde_json::from_value(value).map_err(|_| "expected auto, centre, box, whole or cell".into())
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let mut settings = pipeline.preprocess.clone();
    settings.size_px = args.size.unwrap_or(settings.size_px);
    settings.cut = args.cut.unwrap_or(settings.cut);
    settings.validate()?;
    let ws = globals.workspace();
    let dataset = globals.one_dataset(&pipeline)?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let summary = preprocess::run(&ws, &dataset, &settings, &ctx)?;
    if let Some(path) = &args.contact_sheet {
        let shown = contact_sheet::write(&ws, &dataset, &settings, path)?;
        eprintln!("{shown} of the pictures: {}", path.display());
    }
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
