//! `wbc explain`: shows which parts of a cell the networks of a run use, or which features its classical classifiers.

use super::predict::Shows;
use super::{Globals, Outcome};
use crate::error::Error;
use crate::explain::{self, Cells, Settings, contributions};
use crate::predict;
use crate::run::{ModelRef, Recipe, Record};
use std::path::PathBuf;

/// Shows which parts or features of a cell the models of a run use to classify it.
///
/// Of networks, writes one PNG per cell: the cell as the model sees it, its Grad-CAM map and its occlusion map, and the
/// share of each map that lies within the segmented cell. New images are explained by the mean over the models of all
/// folds; the cells of the gallery are those of the run's page, each explained by the model that was not trained on it.
///
/// Of classical classifiers, writes contributions.csv: the ten features of each cell that add most to its class, as the
/// change of the logarithm of the class's odds beside the usual value of the feature.
#[derive(clap::Args)]
pub struct Args {
    /// The run, or one of its models: RUN:0 is that of fold 0, RUN:all that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// Images, folders of images, or lists of images (.txt: one path per line; .csv, .tsv or .parquet: a column path)
    #[arg(value_name = "PATH", required_unless_present = "gallery")]
    paths: Vec<PathBuf>,
    /// Explain test cells of the run instead of new images
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true, conflicts_with = "paths",
        default_missing_value = "mistakes")]
    gallery: Option<Gallery>,
    /// Explain this class [default: the predicted class of each cell]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// What the images show
    #[arg(long, value_enum, value_name = "WHAT", default_value = "auto")]
    shows: Shows,
    /// Side of the square that covers a part of the tensor for the occlusion map, px [default: an eighth of its side]
    #[arg(long, value_name = "PX")]
    patch: Option<u32>,
    /// Step from one such square to the next, px [default: half the square]
    #[arg(long, value_name = "PX")]
    stride: Option<u32>,
    /// Output folder [default: explanations/<RUN>]
    #[arg(long, value_name = "DIR")]
    #[arg(value_parser = super::globals::local_path())]
    output: Option<PathBuf>,
}

/// Test cells of a run.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Gallery {
    /// The wrong predictions with the highest confidence
    Mistakes,
    /// Test cells of each class
    Examples,
    /// Both
    All,
}

impl From<Gallery> for explain::Which {
    fn from(gallery: Gallery) -> Self {
        match gallery {
            Gallery::Mistakes => Self::Mistakes,
            Gallery::Examples => Self::Examples,
            Gallery::All => Self::All,
        }
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let cells = match args.gallery {
        Some(which) => Cells::Gallery(which.into()),
        None => Cells::New(predict::find(&args.paths, &ctx)?, args.shows.into()),
    };
    let output = args.output.unwrap_or_else(|| PathBuf::from("explanations").join(&args.run.run));
    if let Recipe::Classical(_) = Record::read(&ws, &args.run.run)?.recipe {
        for (key, given) in [("patch", args.patch), ("stride", args.stride)] {
            if let Some(given) = given {
                return Err(Error::setting(key, "a run of a network, which has occlusion maps", given).into());
            }
        }
        let summary = contributions::run(&ws, &args.run, &cells, args.class.as_deref(), &output, &ctx)?;
        globals.print(&summary, &summary)?;
        return Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings });
    }
    let settings = Settings { class: args.class, patch_px: args.patch, stride_px: args.stride };
    let summary = explain::run(&ws, &args.run, &cells, &settings, &output, globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings })
}
