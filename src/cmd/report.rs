//! `wbc report`: the paper's tables, filled with the workspace's results.

use super::{Globals, Outcome, advice};
use crate::error::{Error, Result};
use crate::page::run as page;
use crate::report::{self, Request, Sheet, TABLES, Table};
use crate::run;
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc report                                  # list the tables
  wbc report --table 3                        # recall by fold, beside the paper's
  wbc report --table 3 --run pbc-wnet-robust  # of this run
  wbc report --all --html                     # every table, and a page of the run";

/// Prints tables of the paper with your results beside the paper's, and writes them to reports/ as Markdown, CSV and
/// LaTeX. Below each table: data, run, mean scores with intervals, and warnings. The Markdown file has all notes.
/// Without --table or --all, lists the tables.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Number of a table in the paper (may be repeated)
    #[arg(long, value_name = "N")]
    table: Vec<u32>,
    /// All tables that the workspace has data for; says what the others need
    #[arg(long, conflicts_with = "table")]
    all: bool,
    /// The run to report [default: the data set's run of the pipeline, or its only one]
    #[arg(long, value_name = "NAME", env = "WBC_RUN")]
    run: Option<String>,
    /// Also write a page of the run: tables, figures, mistakes, data and settings in one HTML file
    #[arg(long)]
    html: bool,
    /// Print all notes below a table: definitions, methods, limitations
    #[arg(long)]
    notes: bool,
    /// Folder to write the tables to
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

/// A table and the files it was written to.
#[derive(Serialize)]
pub(super) struct Written {
    #[serde(flatten)]
    pub sheet: Sheet,
    files: Vec<PathBuf>,
}

impl Written {
    fn text(&self, all_notes: bool) -> String {
        let files: Vec<String> = self.files.iter().map(|p| p.display().to_string()).collect();
        format!("{}\nwritten: {}", self.sheet.text(all_notes), files.join(", "))
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text(false))
    }
}

/// A table, or why it cannot be built.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Written(Written),
    Missing { table: u32, shows: &'static str, missing: String },
}

impl Entry {
    /// The table, where it could be built.
    fn written(&self) -> Option<&Written> {
        match self {
            Entry::Written(written) => Some(written),
            Entry::Missing { .. } => None,
        }
    }

    /// The same, without a copy.
    pub(super) fn into_written(self) -> Option<Written> {
        match self {
            Entry::Written(written) => Some(written),
            Entry::Missing { .. } => None,
        }
    }

    fn text(&self, all_notes: bool) -> String {
        match self {
            Entry::Written(written) => written.text(all_notes),
            Entry::Missing { table, shows, missing } => format!("No Table {table} ({shows}): {missing}"),
        }
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    if args.table.is_empty() && !args.all && !args.html {
        let list: Vec<_> = TABLES.iter().map(|t| serde_json::json!({"table": t.number(), "shows": t.doc()})).collect();
        let lines: Vec<String> =
            TABLES.iter().map(|t| format!("wbc report --table {}   {}", t.number(), t.doc())).collect();
        globals.print(&list, lines.join("\n"))?;
        return Ok(Outcome::Done);
    }
    let pipeline = globals.pipeline()?;
    let request = Request {
        dataset: globals.dataset.clone().or(pipeline.dataset),
        run: args.run,
        pipeline: pipeline.name,
        own_table_only: args.all,
    };
    let entries = match args.all {
        true => write_all(TABLES, globals, &request, &args.reports)?,
        false => {
            let tables: Vec<_> = args.table.iter().map(|n| report::find(*n)).collect::<Result<_>>()?;
            let build = |table: &dyn Table| write(table.build(&globals.workspace(), &request)?, &args.reports);
            tables.into_iter().map(|table| build(table).map(Entry::Written)).collect::<Result<_>>()?
        }
    };
    let page = match args.html {
        true => {
            let sheets = entries.iter().filter_map(Entry::written).map(|written| written.sheet.clone()).collect();
            Some(write_requested_page(globals, &request, sheets, &args.reports)?)
        }
        false => None,
    };
    let mut text: Vec<String> = entries.iter().map(|entry| entry.text(args.notes)).collect();
    text.extend(page.as_ref().map(|page| format!("page: {}", page.display())));
    match &page {
        Some(page) => {
            globals.print(&serde_json::json!({ "tables": &entries, "page": page }), text.join("\n\n"))?;
        }
        None => globals.print(&entries, text.join("\n\n"))?,
    }
    Ok(Outcome::Done)
}

/// Writes the page of the requested run; by default of the run that a table shows, of the usual run, or of the only
/// one.
fn write_requested_page(globals: &Globals, request: &Request, mut sheets: Vec<Sheet>, dir: &Path) -> Result<PathBuf> {
    let ws = globals.workspace();
    let shown = sheets.iter().find_map(|sheet| sheet.run.clone());
    let run = match request.run.clone().or(shown) {
        Some(run) => run,
        None => {
            let pipeline = globals.pipeline()?;
            let usual = globals.run_name(&globals.one_dataset(&pipeline)?, &pipeline)?;
            let names: Vec<String> = run::list(&ws)?.0.into_iter().map(|(name, _)| name).collect();
            match names.as_slice() {
                [only] => only.clone(),
                _ => usual,
            }
        }
    };
    if sheets.iter().all(|sheet| sheet.run.is_none()) {
        let request = Request { run: Some(run.clone()), own_table_only: true, ..request.clone() };
        sheets = TABLES.iter().filter_map(|table| table.build(&ws, &request).ok()).collect();
    }
    write_page(globals, &run, &sheets, dir)
}

/// Writes the page of a run, with those of `sheets` that show it.
pub(super) fn write_page(globals: &Globals, run: &str, sheets: &[Sheet], dir: &Path) -> Result<PathBuf> {
    let path = dir.join(format!("{run}.html"));
    let shown: Vec<Sheet> = sheets.iter().filter(|sheet| sheet.run.as_deref() == Some(run)).cloned().collect();
    page::write(&globals.workspace(), run, &shown, &path)?;
    Ok(path)
}

/// Builds and writes the tables that can be built; the others say what they need.
pub(super) fn write_all(
    tables: impl IntoIterator<Item = &'static dyn Table>,
    globals: &Globals,
    request: &Request,
    dir: &Path,
) -> Result<Vec<Entry>> {
    let ws = globals.workspace();
    let entry = |table: &'static dyn Table| match table.build(&ws, request) {
        Ok(sheet) => write(sheet, dir).map(Entry::Written),
        Err(failed @ Error::Io { .. }) => Err(failed),
        Err(e) => {
            let missing = advice::message(&e, &ws);
            Ok(Entry::Missing { table: table.number(), shows: table.doc(), missing })
        }
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
