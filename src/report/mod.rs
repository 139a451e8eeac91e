//! Reports: metric and interval rows → the paper's tables, with the paper's value beside ours, and lines that say which
//! data it is and what it cannot claim. Nothing here computes a metric: see [`crate::evaluate`].

use crate::atomic;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

mod counts;
pub(crate) mod notes;
pub mod paper;
mod recall;
pub(crate) mod runs;
mod sheet;
mod studies;

pub use sheet::Sheet;

/// The tables, by number. A file each (or one for several of a kind), and a line here.
pub static TABLES: [&dyn Table; 6] =
    [&studies::Studies, &counts::Counts, &recall::WNET, &recall::RESNET50, &recall::LISC, &recall::FURTHER];

/// A table of the paper.
pub trait Table: Sync {
    /// Its number there.
    fn number(&self) -> u32;
    /// What it shows, for the list.
    fn doc(&self) -> &'static str;
    /// Builds it from what is in the workspace.
    ///
    /// # Errors
    /// [`Error::Missing`] that says what to run first.
    fn build(&self, ws: &Workspace, wanted: &Wanted) -> Result<Sheet>;
}

/// What the user asked to see.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub dataset: Option<String>,
    pub run: Option<String>,
    /// Name of the pipeline, for the run's usual name.
    pub pipeline: String,
    /// A run that the user did not ask for by table stands in the table that is its own, and in no other.
    pub own: bool,
}

/// The table with a number.
///
/// # Errors
/// [`Error::Setting`] that lists the numbers there are.
pub fn find(number: u32) -> Result<&'static dyn Table> {
    TABLES.into_iter().find(|t| t.number() == number).ok_or_else(|| Error::Setting {
        key: "table".into(),
        expected: format!("one of: {}", TABLES.map(|t| t.number().to_string()).join(", ")),
        got: number.to_string(),
    })
}

/// Writes `<name>.md`, `.csv` and `.tex` into `dir` and returns their paths. Several sheets share the first and the last,
/// and have a `<name>-<label>.csv` each.
pub fn write(dir: &Path, name: &str, sheets: &[Sheet]) -> Result<Vec<PathBuf>> {
    let joined = |text: fn(&Sheet) -> String| sheets.iter().map(text).collect::<Vec<_>>().join("\n");
    let mut files = vec![(format!("{name}.md"), joined(Sheet::markdown))];
    files.extend(sheets.iter().map(|sheet| match sheets.len() {
        1 => (format!("{name}.csv"), sheet.csv()),
        _ => (format!("{name}-{}.csv", sheet.label), sheet.csv()),
    }));
    files.push((format!("{name}.tex"), joined(Sheet::latex)));
    files
        .into_iter()
        .map(|(file, text)| {
            let path = dir.join(file);
            atomic::write_bytes(&path, text.as_bytes())?;
            Ok(path)
        })
        .collect()
}

/// 5986 → "5,986".
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
