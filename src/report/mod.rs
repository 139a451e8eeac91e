//! Reports: metric rows → the paper's tables, with the paper's value beside ours and a line that says which data it
//! is. Nothing here computes a metric: see [`crate::evaluate`].

use crate::atomic;
use crate::error::{Error, Result};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

mod counts;
pub mod paper;
mod recall;
mod sheet;

pub use sheet::Sheet;

/// The tables, by number. A file each (or one for several of a kind), and a line here.
pub static TABLES: [&dyn Table; 2] = [&counts::Counts, &recall::Wnet];

/// A table of the paper.
pub trait Table: Sync {
    /// Its number there.
    fn number(&self) -> u32;
    /// What it shows, for the list.
    fn doc(&self) -> &'static str;
    /// The model whose runs it shows, where it shows one model's.
    fn model(&self) -> Option<&'static str> {
        None
    }
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

/// Writes `<name>.md`, `.csv` and `.tex` into `dir` and returns their paths.
pub fn write(dir: &Path, name: &str, sheet: &Sheet) -> Result<Vec<PathBuf>> {
    let files = [("md", sheet.markdown()), ("csv", sheet.csv()), ("tex", sheet.latex())];
    files
        .into_iter()
        .map(|(extension, text)| {
            let path = dir.join(format!("{name}.{extension}"));
            atomic::write_bytes(&path, text.as_bytes())?;
            Ok(path)
        })
        .collect()
}

/// 5986 → "5,986".
fn thousands(n: u64) -> String {
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
