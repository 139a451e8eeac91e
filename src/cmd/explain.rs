//! `wbc explain`: where a run's networks look.

use super::{Globals, Outcome};
use crate::class::Class;
use crate::error::Error;
use crate::explain::{self, Cells, Settings, Which};
use crate::predict::{self, Shows};
use crate::run::ModelRef;
use std::path::PathBuf;

/// Shows where in a cell a run's networks find what they call it by: a picture a cell with the cell as the model sees
/// it, its Grad-CAM and its occlusion map, and how much of each lies within the segmented cell. New images go through
/// all folds' models, averaged; the gallery's cells are those of the run's page, each through the model that never saw
/// it.
#[derive(clap::Args)]
pub struct Args {
    /// The run, or one of its models: RUN:0 for that of fold 0, RUN:all for that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// Images, folders of images, or lists of them (.txt: a path a line; .csv: a column path)
    #[arg(value_name = "PATH", required_unless_present = "gallery")]
    paths: Vec<PathBuf>,
    /// The run's own test cells instead: the mistakes it was most sure of, examples of each class, or all of them
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, require_equals = true, conflicts_with = "paths",
        default_missing_value = "mistakes")]
    gallery: Option<Which>,
    /// Explain this class [default: what each cell is called]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// What an image shows
    #[arg(long, value_enum, default_value = "auto")]
    shows: Shows,
    /// Side of the square that covers the picture for the occlusion map, px of the model's picture [default: an eighth
    /// of its side]
    #[arg(long, value_name = "PX")]
    patch: Option<u32>,
    /// From one such square to the next, px [default: half a square]
    #[arg(long, value_name = "PX")]
    stride: Option<u32>,
    /// Folder for the pictures [default: explanations/<RUN>]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let ModelRef { run, model } = args.run;
    let cells = match args.gallery {
        Some(which) => Cells::Gallery(which),
        None => Cells::New(predict::find(&args.paths)?, args.shows),
    };
    let class = args.class.as_deref().map(class).transpose()?;
    let settings = Settings { class, patch_px: args.patch, stride_px: args.stride };
    let output = args.output.unwrap_or_else(|| PathBuf::from("explanations").join(&run));
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let summary = explain::run(&ws, &run, model, &cells, &settings, &output, globals.device, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings })
}

fn class(name: &str) -> Result<Class, Error> {
    Class::from_name(&name.to_lowercase()).ok_or_else(|| Error::Setting {
        key: "class".into(),
        expected: format!("one of: {}", Class::ALL.map(Class::name).join(", ")),
        got: name.into(),
    })
}
