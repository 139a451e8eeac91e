//! `wbc compare`: two runs on the same test images.

use super::{Globals, Outcome};
use crate::compare::{self, Comparison};
use crate::report;
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc compare pbc-wnet-quick pbc-svm-svm      # two models
  wbc compare pbc-wnet-quick pbc-wnet-quick-s1 --json";

/// Compares two runs on the same test images: scores and their differences with intervals, tests over images (McNemar)
/// and over folds (corrected resampled t, Wilcoxon), and a conclusion. Both runs must have the same data set and split;
/// folds that one has not finished are left out. Writes the tables to reports/ as Markdown, CSV and LaTeX.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Name of a run (a folder in data/runs/)
    #[arg(value_name = "RUN")]
    first: String,
    /// Name of another run; differences are first minus second
    #[arg(value_name = "RUN")]
    second: String,
    /// Print all notes: methods and limitations
    #[arg(long)]
    notes: bool,
    /// Folder to write the tables to
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

#[derive(Serialize)]
struct Written {
    #[serde(flatten)]
    comparison: Comparison,
    files: Vec<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let progress = globals.progress();
    let ctx = globals.context(pipeline.seed, &progress);
    let comparison = compare::run(&globals.workspace(), &args.first, &args.second, &ctx)?;
    let sheets = comparison.sheets();
    let files = report::write(&args.reports, &format!("compare-{}-vs-{}", args.first, args.second), &sheets)?;
    let text: Vec<String> = sheets.iter().map(|sheet| sheet.text(args.notes)).collect();
    let names: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    let text = format!("{}\nwritten: {}", text.join("\n\n"), names.join(", "));
    globals.print(&Written { comparison, files }, text)?;
    Ok(Outcome::Done)
}
