//! `wbc report`: the paper's tables with our figures.

use super::{Globals, Outcome};
use crate::error::{Error, Result};
use crate::page::run as page;
use crate::report::{self, Sheet, TABLES, Table, Wanted};
use crate::run;
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc report                                  # which tables there are
  wbc report --table 3                        # recall by fold, beside the paper's
  wbc report --table 3 --run pbc-wnet-robust  # of this run
  wbc report --all --html                     # all that there is data for, and a page";

/// Prints tables of the paper with our figures beside the paper's, and writes them to reports/ as Markdown, CSV and
/// LaTeX. Below each table stands what it does not say: intervals, and what the figures cannot claim. Without --table or
/// --all: lists the tables there are.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
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
    /// Also write a page of the run: tables, figures, mistakes, data and settings in one HTML file
    #[arg(long)]
    html: bool,
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
    if args.table.is_empty() && !args.all && !args.html {
        let list: Vec<_> = TABLES.iter().map(|t| serde_json::json!({"table": t.number(), "shows": t.doc()})).collect();
        let lines: Vec<String> =
            TABLES.iter().map(|t| format!("wbc report --table {}   {}", t.number(), t.doc())).collect();
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
        let sheets = entries.iter().filter_map(|entry| match entry {
            Entry::Written(written) => Some(&written.sheet),
            Entry::Left { .. } => None,
        });
        let page = args.html.then(|| page_of_asked(globals, &wanted, sheets, &args.reports)).transpose()?;
        let text: Vec<String> = entries.iter().map(ToString::to_string).collect();
        globals.print(&Printed { tables: &entries, page: &page }, text.join("\n\n") + &told(&page))?;
        return Ok(Outcome::Done);
    }
    let tables: Vec<_> = args.table.iter().map(|n| report::find(*n)).collect::<Result<_>>()?;
    let mut written = Vec::new();
    for table in tables {
        written.push(make(table, globals, &wanted, &args.reports)?);
    }
    let sheets = written.iter().map(|written| &written.sheet);
    let page = args.html.then(|| page_of_asked(globals, &wanted, sheets, &args.reports)).transpose()?;
    let text: Vec<String> = written.iter().map(ToString::to_string).collect();
    globals.print(&Printed { tables: &written, page: &page }, (text.join("\n\n") + &told(&page)).trim_start())?;
    Ok(Outcome::Done)
}

/// Tables and, where it was asked for, the page; as JSON a list of tables where there is no page.
struct Printed<'a, T> {
    tables: &'a [T],
    page: &'a Option<PathBuf>,
}

impl<T: Serialize> Serialize for Printed<'_, T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let Some(page) = self.page else { return self.tables.serialize(serializer) };
        let mut object = serializer.serialize_struct("report", 2)?;
        object.serialize_field("tables", self.tables)?;
        object.serialize_field("page", page)?;
        object.end()
    }
}

fn told(page: &Option<PathBuf>) -> String {
    page.as_ref().map_or(String::new(), |page| format!("\n\npage: {}", page.display()))
}

/// The page of the run that the user names, or that a table shows, or that is the usual or the only one.
fn page_of_asked<'a>(
    globals: &Globals,
    wanted: &Wanted,
    sheets: impl Iterator<Item = &'a Sheet>,
    dir: &Path,
) -> Result<PathBuf> {
    let ws = globals.workspace();
    let sheets: Vec<Sheet> = sheets.cloned().collect();
    let shown = sheets.iter().find_map(|sheet| sheet.run.clone());
    let run = match wanted.run.clone().or(shown) {
        Some(run) => run,
        None => {
            let pipeline = globals.pipeline()?;
            let usual = globals.run_name(&globals.one_dataset(&pipeline)?, &pipeline)?;
            let names: Vec<String> = run::list(&ws).into_iter().map(|(name, _)| name).collect();
            match names.as_slice() {
                [only] => only.clone(),
                _ => usual,
            }
        }
    };
    if sheets.iter().all(|sheet| sheet.run.is_none()) {
        // The tables that are the run's own.
        let wanted = Wanted { run: Some(run.clone()), own: true, ..wanted.clone() };
        let own: Vec<Sheet> = TABLES.iter().filter_map(|table| table.build(&ws, &wanted).ok()).collect();
        return page_of(globals, &run, &own, dir);
    }
    page_of(globals, &run, &sheets, dir)
}

/// Writes the page of a run, with those of `sheets` that show it.
pub(super) fn page_of(globals: &Globals, run: &str, sheets: &[Sheet], dir: &Path) -> Result<PathBuf> {
    let path = dir.join(format!("{run}.html"));
    let shown: Vec<Sheet> = sheets.iter().filter(|sheet| sheet.run.as_deref() == Some(run)).cloned().collect();
    page::write(&globals.workspace(), run, &shown, &path)?;
    Ok(path)
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
        Err(e) => {
            Ok(Entry::Left { table: table.number(), shows: table.doc(), missing: super::advice::message(&e, &ws) })
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
