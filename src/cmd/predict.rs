//! `wbc predict`: new images through a run's networks.

use super::{Globals, Outcome};
use crate::error::Error;
use crate::predict::{self, Format, Shows};
use crate::run::ModelRef;
use clap::ValueEnum;
use std::path::{Path, PathBuf};

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
    /// The run, or one of its models: RUN:0 for that of fold 0, RUN:all for that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// Images, folders of images, or lists of them (.txt: a path a line; .csv: a column path)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// What an image shows
    #[arg(long, value_enum, default_value = "auto")]
    shows: Shows,
    /// How the rows are written [default: as FILE ends, else parquet]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File for the rows, one a cell [default: cells.<FORMAT>]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let ModelRef { run, model } = args.run;
    let images = predict::find(&args.paths)?;
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let (output, format) = match args.output {
        Some(output) => {
            let format = format_of(&output, args.format)?;
            (output, format)
        }
        None => {
            let format = args.format.unwrap_or_default();
            (PathBuf::from(format!("cells.{}", format.extension())), format)
        }
    };
    let summary = predict::run(&ws, &run, model, &images, args.shows, (&output, format), globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings })
}

/// The format that a file's name and `--format` ask for.
fn format_of(output: &Path, asked: Option<Format>) -> Result<Format, Error> {
    let extension = output.extension().map(|e| e.to_string_lossy().to_lowercase());
    let named = Format::value_variants().iter().copied().find(|f| extension.as_deref() == Some(f.extension()));
    match (named, asked) {
        (Some(named), Some(asked)) if named != asked => Err(Error::Setting {
            key: "format".into(),
            expected: format!("{}, as {} ends", named.extension(), output.display()),
            got: asked.extension().into(),
        }),
        (named, asked) => Ok(asked.or(named).unwrap_or_default()),
    }
}
