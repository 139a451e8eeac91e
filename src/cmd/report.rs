//! `wbc report`: the paper's tables with our figures.

use super::{Globals, Outcome};
use crate::error::{Error, Result};
use crate::report::{self, Sheet, TABLES, Table, Wanted};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Prints tables of the paper with our figures beside the paper's, and writes them to reports/ as Markdown, CSV and
/// LaTeX. Below each table stands what it does not say: intervals, and what the figures cannot claim. Without --table or
/// --all: lists the tables there are.
#[derive(clap::Args)]
pub struct Args {
    /// Number of the table in the paper (may be given several times)
    #[arg(long, value_name = "N")]
    table: Vec<u32>,
    /// Every table that the workspace has the data for; the others are named, with what to run to get them
    #[arg(long, conflicts_with = "table")]
    all: bool,
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
    pub sheet: Sheet,
    files: Vec<PathBuf>,
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<String> = self.files.iter().map(|p| p.display().to_string()).collect();
        write!(f, "{}\nwritten: {}", self.sheet.text(), files.join(", "))
    }
}

/// What became of a table of --all.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Written(Written),
    /// It cannot be built, and why.
    Left {
        table: u32,
        shows: &'static str,
        missing: String,
    },
}

impl Entry {
    /// The table, where it could be built.
    pub(super) fn written(self) -> Option<Written> {
        match self {
            Entry::Written(written) => Some(written),
            Entry::Left { .. } => None,
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entry::Written(written) => written.fmt(f),
            Entry::Left { table, shows, missing } => write!(f, "No Table {table} ({shows}): {missing}"),
        }
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    if args.table.is_empty() && !args.all {
        let list: Vec<_> = TABLES.iter().map(|t| serde_json::json!({"table": t.number(), "shows": t.doc()})).collect();
        let lines: Vec<String> = TABLES.iter().map(|t| format!("wbc report --table {}   {}", t.number(), t.doc())).collect();
        globals.print(&list, lines.join("\n"))?;
        return Ok(Outcome::Done);
    }
    let pipeline = globals.pipeline()?;
    let wanted = Wanted {
        dataset: globals.dataset.clone().or(pipeline.dataset),
        run: args.run,
        pipeline: pipeline.name,
        own: args.all,
    };
    if args.all {
        let entries = make_all(TABLES, globals, &wanted, &args.reports)?;
        let text: Vec<String> = entries.iter().map(ToString::to_string).collect();
        globals.print(&entries, text.join("\n\n"))?;
        return Ok(Outcome::Done);
    }
    let tables: Vec<_> = args.table.iter().map(|n| report::find(*n)).collect::<Result<_>>()?;
    let mut written = Vec::new();
    for table in tables {
        written.push(make(table, globals, &wanted, &args.reports)?);
    }
    let text: Vec<String> = written.iter().map(ToString::to_string).collect();
    globals.print(&written, text.join("\n\n"))?;
    Ok(Outcome::Done)
}

/// Builds and writes one table.
pub(super) fn make(table: &dyn Table, globals: &Globals, wanted: &Wanted, dir: &Path) -> Result<Written> {
    write(table.build(&globals.workspace(), wanted)?, dir)
}

/// Builds and writes those that can be built; the others say why not.
pub(super) fn make_all(
    tables: impl IntoIterator<Item = &'static dyn Table>,
    globals: &Globals,
    wanted: &Wanted,
    dir: &Path,
) -> Result<Vec<Entry>> {
    let ws = globals.workspace();
    let entry = |table: &'static dyn Table| match table.build(&ws, wanted) {
        Ok(sheet) => write(sheet, dir).map(Entry::Written),
        Err(failed @ Error::Io { .. }) => Err(failed),
        Err(e) => Ok(Entry::Left { table: table.number(), shows: table.doc(), missing: e.to_string() }),
    };
    tables.into_iter().map(entry).collect()
}

fn write(sheet: Sheet, dir: &Path) -> Result<Written> {
    let mut name = format!("table-{}", sheet.label);
    if let Some(run) = &sheet.run {
        name += &format!("-{run}");
    }
    let files = report::write(dir, &name, std::slice::from_ref(&sheet))?;
    Ok(Written { sheet, files })
}
