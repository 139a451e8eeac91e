//! `wbc predict`: new images through a run's networks.

use super::{Globals, Outcome, run_and_fold};
use crate::predict::{self, Format, Shows};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc predict pbc-wnet-quick new              # a folder of images: cells.parquet
  wbc predict pbc-wnet-quick:0 a.jpg b.jpg    # by the model of fold 0 alone
  wbc predict pbc-wnet-quick smears --shows frame --format csv --output smears.csv";

/// Classifies the cells of new images with a run's networks (all its folds' models, averaged), and counts them: a
/// differential a folder. Probabilities are calibrated on the run's own test images; cells that the models are not sure of,
/// or that are unlike those of the training, are marked and not counted. Large images are frames, whose cells are found by
/// their nuclei's stain.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The run, or the model of one of its folds
    #[arg(value_name = "RUN|RUN:FOLD")]
    run: String,
    /// Images, folders of images, or lists of them (.txt: a path a line; .csv: a column path)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// What an image shows
    #[arg(long, value_enum, default_value = "auto")]
    shows: Shows,
    /// How the rows are written
    #[arg(long, value_enum, default_value = "parquet")]
    format: Format,
    /// File for the rows, one a cell [default: cells.<FORMAT>]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let (run, fold) = run_and_fold(&ws, &args.run)?;
    let images = predict::find(&args.paths)?;
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("cells.{}", args.format.extension())));
    let summary =
        predict::run(&ws, run, fold, &images, args.shows, (&output, args.format), globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings })
}
