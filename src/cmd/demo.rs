//! `wbc demo`: the full pipeline on synthetic cells.

use super::terminal::say;
use super::{Globals, Outcome, run};
use crate::synth;
use std::path::PathBuf;

/// Generates a data set of synthetic cells, runs every stage on it, trains W-Net on ten folds and prints Table 3. It
/// needs no data and takes about two minutes on two cores.
#[derive(clap::Args)]
pub struct Args {
    /// Folder for the data, the run and the reports
    #[arg(long, value_name = "DIR", default_value = "demo")]
    #[arg(value_parser = super::globals::local_path())]
    into: PathBuf,
    /// Number of images: in total, or per class as NE,EO,BA,LY,MO
    #[arg(long, value_name = "N", default_value = "90,80,60,90,80")]
    images: synth::Images,
}

const DATASET: &str = "synthetic";

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut globals = globals.clone();
    globals.workspace = args.into.join("data");
    globals.pipeline = vec!["demo".into()];
    let pipeline = globals.pipeline()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let settings = synth::Settings { images: args.images, ..Default::default() };
    let summary = synth::run(&globals.workspace(), DATASET, &settings, &ctx)?;
    say(format_args!("{summary}\n"));
    let report = run::full_pipeline(&globals, &pipeline, DATASET, None, Vec::new(), true, &args.into.join("reports"))?;
    globals.print(&report, &report)?;
    say(format_args!(
        "\nFor your own images, put each data set in a folder such as data/raw/mine/neutrophil/*.jpg, then run"
    ));
    say(format_args!("wbc ingest; wbc split --stratified; wbc train; wbc report --table 3"));
    Ok(Outcome::Done)
}
