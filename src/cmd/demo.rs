//! `wbc demo`: draws cells, runs the whole line on them, shows Table 3.

use super::{Globals, Outcome, run};
use crate::synth;
use std::path::PathBuf;

/// Draws a data set of cells, ingests, checks, splits and preprocesses it, trains W-Net on ten folds and prints
/// Table 3: a first try, on no data but its own. Takes a minute or two on two cores.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for everything the demo makes
    #[arg(long, value_name = "DIR", default_value = "demo")]
    into: PathBuf,
    /// Tensors to draw: in all, or of each class: NE,EO,BA,LY,MO
    #[arg(long, value_name = "N", default_value = "90,80,60,90,80")]
    images: synth::Images,
}

const DATASET: &str = "synthetic";

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut globals = globals.clone();
    globals.workspace = args.into.join("data");
    globals.pipeline = "demo".into();
    let pipeline = globals.pipeline()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let settings = synth::Settings { images: args.images, ..Default::default() };
    let drawn = synth::run(&globals.workspace(), DATASET, &settings, &ctx)?;
    eprintln!("{drawn}\n");
    let line = run::whole_line(&globals, &pipeline, DATASET, Vec::new(), true, &args.into.join("reports"))?;
    globals.print(&line, &line)?;
    eprintln!("\nYour own images: one folder a data set under data/raw/, such as data/raw/mine/neutrophil/*.jpg; then");
    eprintln!("wbc ingest; wbc split --stratified; wbc train; wbc report --table 3");
    Ok(Outcome::Done)
}
