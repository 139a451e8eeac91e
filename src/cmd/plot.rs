//! `wbc plot`: a run's figures as files, SVG or PNG.

use super::{Globals, Outcome};
use crate::page::run::{self, Format};
use serde::Serialize;
use std::path::PathBuf;

/// Writes a run's figures, a file each: learning curves, confusion matrix, recall with intervals, reliability diagram,
/// precision-recall curves. `wbc report --html` has them all on a page.
#[derive(clap::Args)]
pub struct Args {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// What kind of file
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where the figures are written
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    reports: PathBuf,
}

#[derive(Serialize)]
struct Written {
    files: Vec<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let files = run::write_figures(&globals.workspace(), &args.run, args.format, &args.reports)?;
    let text: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    globals.print(&Written { files }, text.join("\n"))?;
    Ok(Outcome::Done)
}
