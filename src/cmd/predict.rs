//! `wbc predict`: classifies the cells of new images with the models of a run.

use super::{Globals, Outcome};
use crate::error::Error;
use crate::predict::{self, Format, ImageKind};
use crate::run::ModelRef;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc predict pbc-wnet-quick new              # a folder of images: cells.parquet
  wbc predict pbc-wnet-quick:0 a.jpg b.jpg    # with the model of fold 0 alone
  wbc predict pbc-wnet-quick smears --shows frame --format csv --output smears.csv";

/// Classifies the cells of new images with the models of a run, and prints a differential count for each folder.
///
/// The probabilities are the mean over the models of all folds, calibrated on the run's own test images. A cell with
/// low confidence, or unlike the training cells, is flagged as in doubt. Images are cut as the training images
/// were; larger ones are taken as frames, whose cells are found by the stain of their nuclei.
///
/// The exit status is 1 if a file could not be read, or if no cell was found in an image.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The run, or one of its models: RUN:0 is that of fold 0, RUN:all that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// Images, folders of images, or lists of images (.txt: one path per line; .csv, .tsv or
    /// .parquet: a column path)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// What the images show
    #[arg(long, value_enum, value_name = "WHAT", default_value = "auto")]
    shows: Shows,
    /// Format of the output [default: by the extension of FILE, else parquet]
    #[arg(long, value_enum)]
    format: Option<OutputFormat>,
    /// Output file, with one row per cell [default: cells.<FORMAT>]
    #[arg(long, value_name = "FILE")]
    #[arg(value_parser = super::globals::local_path())]
    output: Option<PathBuf>,
}

/// What an image shows.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Shows {
    /// As the training images; larger ones are frames
    Auto,
    /// One cell
    Cell,
    /// A frame with many cells, found by the stain of their nuclei
    Frame,
}

impl From<Shows> for ImageKind {
    fn from(shows: Shows) -> Self {
        match shows {
            Shows::Auto => Self::Auto,
            Shows::Cell => Self::Cell,
            Shows::Frame => Self::Frame,
        }
    }
}

/// Formats of the output.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OutputFormat {
    Parquet,
    Csv,
    Json,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Self {
        match format {
            OutputFormat::Parquet => Self::Parquet,
            OutputFormat::Csv => Self::Csv,
            OutputFormat::Json => Self::Json,
        }
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let images = predict::find(&args.paths, &ctx)?;
    let format = args.format.map(Format::from);
    let (output, format) = match args.output {
        Some(output) => {
            let format = output_format(&output, format)?;
            (output, format)
        }
        None => {
            let format = format.unwrap_or_default();
            (PathBuf::from(format!("cells.{}", format.extension())), format)
        }
    };
    let kind = args.shows.into();
    let summary = predict::run(&ws, &args.run, &images, kind, (&output, format), globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    let is_complete = summary.unreadable.is_empty()
        && summary.empty.is_empty()
        && summary.outside.is_empty()
        && summary.masks.is_empty();
    Ok(if is_complete { Outcome::Done } else { Outcome::Findings })
}

/// The format by the output file's extension and `--format`, which must agree.
fn output_format(output: &Path, requested: Option<Format>) -> Result<Format, Error> {
    let extension = output.extension().map(|e| e.to_string_lossy().to_lowercase());
    let by_name = Format::ALL.into_iter().find(|f| extension.as_deref() == Some(f.extension()));
    match (by_name, requested) {
        (Some(by_name), Some(requested)) if by_name != requested => {
            let expected = format!("{}, the extension of {}", by_name.extension(), output.display());
            Err(Error::setting("format", expected, requested.extension()))
        }
        (None, None) => {
            let expected = "a name that ends in .parquet, .csv or .json, or --format";
            Err(Error::setting("output", expected, output.display()))
        }
        (by_name, requested) => Ok(requested.or(by_name).unwrap_or_default()),
    }
}
