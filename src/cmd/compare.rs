//! `wbc compare`: two runs on the same test images.

use super::{Globals, Outcome};
use crate::compare::{self, Comparison};
use crate::report::{self, Sheet};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc compare pbc-wnet-quick pbc-svm-svm      # two models
  wbc compare pbc-wnet-quick pbc-wnet-quick-s1 --json";

/// Compares two runs on the same test images, pair by pair: scores and their differences with intervals, who was right
/// where the other was wrong (McNemar), what the folds say (corrected resampled t, Wilcoxon), and what it comes to in
/// words. Both runs must be on the same data set and split; folds that one has not finished are left out. Writes the
/// tables to reports/ as Markdown, CSV and LaTeX.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Name of a run (a folder under data/runs/)
    #[arg(value_name = "RUN")]
    first: String,
    /// Name of another; differences are first minus second
    #[arg(value_name = "RUN")]
    second: String,
    /// Where the tables are written
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
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
    let text: Vec<String> = sheets.iter().map(Sheet::text).collect();
    let names: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    let text = format!("{}\nwritten: {}", text.join("\n\n"), names.join(", "));
    globals.print(&Written { comparison, files }, text)?;
    Ok(Outcome::Done)
}
