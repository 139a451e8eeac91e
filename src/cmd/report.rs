//! `wbc report`: the paper's tables with our figures.

use super::{Globals, Outcome};
use crate::report::{self, Sheet, TABLES, Wanted};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Prints tables of the paper with our figures beside the paper's, and writes them to reports/ as Markdown, CSV and
/// LaTeX. Without --table: lists the tables there are.
#[derive(clap::Args)]
pub struct Args {
    /// Number of the table in the paper (may be given several times)
    #[arg(long, value_name = "N")]
    table: Vec<u32>,
    /// The run to report [default: the data set's run of the pipeline, or its only one]
    #[arg(long, value_name = "NAME", env = "WBC_RUN")]
    run: Option<String>,
    /// Where the tables are written
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    reports: PathBuf,
}

/// A table, and the files it was written to.
#[derive(Serialize)]
pub(super) struct Written {
    #[serde(flatten)]
    sheet: Sheet,
    files: Vec<PathBuf>,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<String> = self.files.iter().map(|p| p.display().to_string()).collect();
        write!(f, "{}\nwritten: {}", self.sheet.text(), files.join(", "))
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    if args.table.is_empty() {
        let list: Vec<_> = TABLES.iter().map(|t| serde_json::json!({"table": t.number(), "shows": t.doc()})).collect();
        let lines: Vec<String> = TABLES.iter().map(|t| format!("wbc report --table {}   {}", t.number(), t.doc())).collect();
        globals.print(&list, lines.join("\n"))?;
        return Ok(Outcome::Done);
    }
    let pipeline = globals.pipeline()?;
    let wanted = Wanted { dataset: globals.dataset.clone().or(pipeline.dataset), run: args.run, pipeline: pipeline.name };
    let tables: Vec<_> = args.table.iter().map(|n| report::find(*n)).collect::<Result<_, _>>()?;
    let mut written = Vec::new();
    for table in tables {
        written.push(make(table, globals, &wanted, &args.reports)?);
    }
    let text: Vec<String> = written.iter().map(ToString::to_string).collect();
    globals.print(&written, text.join("\n\n"))?;
    Ok(Outcome::Done)
}

/// Builds one table and writes its files.
pub(super) fn make(
    table: &dyn report::Table,
    globals: &Globals,
    wanted: &Wanted,
    dir: &Path,
) -> crate::error::Result<Written> {
    let sheet = table.build(&globals.workspace(), wanted)?;
    let name = match &sheet.run {
        Some(run) => format!("table-{}-{run}", sheet.table),
        None => format!("table-{}", sheet.table),
    };
    let files = report::write(dir, &name, &sheet)?;
    Ok(Written { sheet, files })
}
