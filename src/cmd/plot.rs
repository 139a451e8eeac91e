//! `wbc plot`: a run's figures as files, SVG or PNG.

use super::{Globals, Outcome};
use crate::page::run;
use serde::Serialize;
use std::path::PathBuf;

/// Writes a run's figures as files: learning curves, confusion matrix, recall with intervals, reliability diagram and
/// precision-recall curves. `wbc report --html` puts all of them on one page.
#[derive(clap::Args)]
pub struct Args {
    /// The run
    #[arg(value_name = "RUN")]
    run: String,
    /// File format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Folder to write the figures to
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

/// The file format of the figures.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    /// Vector graphics, sharp at any size
    #[default]
    Svg,
    /// Pixels, for slides and text processors
    Png,
}

#[derive(Serialize)]
struct Written {
    files: Vec<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let format = match args.format {
        Format::Svg => run::Format::Svg,
        Format::Png => run::Format::Png,
    };
    let files = run::write_figures(&globals.workspace(), &args.run, format, &args.reports)?;
    let text: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    globals.print(&Written { files }, text.join("\n"))?;
    Ok(Outcome::Done)
}
