//! `wbc export`: writes trained networks for other programs.

use super::{Globals, Outcome};
use crate::export;
use crate::run::ModelRef;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc export pbc-wnet-quick --to onnx         # the models of all folds
  wbc export pbc-wnet-quick:0 --to safetensors --output fold-0";

/// Writes the trained networks of a run as ONNX graphs, which take images and return probabilities, or as safetensors
/// files for PyTorch. Adds a model card and a Python example that loads the files.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The run (all its finished models), or one of its models: RUN:0 is that of fold 0, RUN:all that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// Format of the files
    #[arg(long, value_enum)]
    to: Format,
    /// Output folder [default: exports/<RUN>]
    #[arg(long, value_name = "DIR")]
    #[arg(value_parser = super::globals::local_path())]
    output: Option<PathBuf>,
}

/// Formats of the files.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// Arrays with PyTorch's names and order
    Safetensors,
    /// A graph with its weights
    Onnx,
}

impl From<Format> for export::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Safetensors => Self::Safetensors,
            Format::Onnx => Self::Onnx,
        }
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let folder = args.output.unwrap_or_else(|| PathBuf::from("exports").join(&args.run.run));
    let summary = export::run(&ws, &args.run, args.to.into(), &folder, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
