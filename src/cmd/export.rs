//! `wbc export`: trained networks for other programs.

use super::{Globals, Outcome};
use crate::export::{self, Format};
use crate::run::ModelRef;
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
    /// The run, or one of its models: RUN:0 for that of fold 0, RUN:all for that of all images
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// What to write
    #[arg(long, value_enum)]
    to: Format,
    /// Folder to write to [default: exports/<RUN>]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let ModelRef { run, model } = args.run;
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let folder = args.output.unwrap_or_else(|| PathBuf::from("exports").join(&run));
    let summary = export::run(&ws, &run, model, args.to, &folder, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(Outcome::Done)
}
