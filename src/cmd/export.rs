//! `wbc export`: trained networks for other programs.

use super::{Globals, Outcome, run_and_fold};
use crate::export::{self, Format};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc export pbc-wnet-quick --to onnx         # every fold's model
  wbc export pbc-wnet-quick:0 --to safetensors --output fold-0";

/// Writes a run's trained networks as other programs load them: PyTorch's arrays in safetensors, or ONNX graphs that take
/// pictures and give probabilities; with a model card, and a Python example that loads them.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A run, or one of its folds: every finished model of the run, that of all images too, or the fold's
    #[arg(value_name = "RUN|RUN:FOLD")]
    run: String,
    /// What to write
    #[arg(long, value_enum)]
    to: Format,
    /// Folder to write to [default: exports/<RUN>]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let (run, fold) = run_and_fold(&ws, &args.run)?;
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let folder = args.output.unwrap_or_else(|| PathBuf::from("exports").join(run));
    let summary = export::run(&ws, run, fold, args.to, &folder, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
