//! `wbc preprocess`: cuts and resizes the images of a data set, and stores them as tensors.

use super::terminal::say;
use super::{Globals, Outcome, shards};
use crate::context::Context;
use crate::preprocess::{self, contact_sheet};
use std::path::PathBuf;

/// Cuts the cell out of every usable image as `wbc ingest` decided (the central 200 x 200 pixels as in the paper, the
/// whole image, or the cell's box with a margin), resizes it, and stores it as a tensor in
/// data/<DATASET>/tensors-<SIZE>/.
///
/// `wbc train` does this where needed. Look at a contact sheet first if your images are unlike the paper's (360 x 361).
#[derive(clap::Args)]
pub struct Args {
    /// Side of the tensors in pixels [default: from the pipeline, usually 128]
    #[arg(long, value_name = "PX", env = "WBC_SIZE")]
    size: Option<u32>,
    /// Part to cut out: auto, centre, box, whole or cell [default: from the pipeline, usually auto]
    #[arg(long, value_name = "RULE", value_parser = cut, env = "WBC_CUT")]
    cut: Option<preprocess::Cut>,
    /// Also write a PNG of some preprocessed images, one row per class
    #[arg(long, value_name = "FILE")]
    #[arg(value_parser = super::globals::local_path())]
    contact_sheet: Option<PathBuf>,
    #[command(flatten)]
    shards: shards::Args,
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
    let part = args.shards.part();
    let ctx = Context { part, ..globals.context(pipeline.seed, &progress) };
    let run = preprocess::run(&ws, &dataset, &settings, &ctx);
    let summary = match shards::finished(run, "preprocess", &dataset, part)? {
        Ok(summary) => summary,
        Err(progress) => {
            globals.print(&progress, &progress)?;
            return Ok(Outcome::Done);
        }
    };
    if let Some(path) = &args.contact_sheet {
        let shown = contact_sheet::write(&ws, &dataset, &settings, path)?;
        say(format_args!("contact sheet of {shown} preprocessed images: {}", path.display()));
    }
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
