//! Reports: the paper's tables, with the paper's figures beside those of the workspace, and notes that say what they
//! are based on and where they are limited. Nothing here computes a metric: see [`crate::evaluate`].

use crate::atomic;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

mod counts;
pub(crate) mod notes;
mod paper;
mod recall;
mod runs;
mod sheet;
mod studies;
mod table;

pub(crate) use crate::text::thousands;
pub use sheet::Sheet;
pub use table::{Request, Table};

/// The tables, by number.
pub static TABLES: [&dyn Table; 6] =
    [&studies::Studies, &counts::Counts, &recall::WNET, &recall::RESNET50, &recall::LISC, &recall::FURTHER];

/// The table with a number.
///
/// # Errors
/// [`Error::Setting`] that lists the numbers there are.
pub fn find(number: u32) -> Result<&'static dyn Table> {
    let numbers = || TABLES.map(|t| t.number().to_string()).join(", ");
    let table = TABLES.into_iter().find(|t| t.number() == number);
    table.ok_or_else(|| Error::setting("table", format!("one of: {}", numbers()), number))
}

/// Writes `<name>.md`, `.csv` and `.tex` into `dir` and returns their paths. Several sheets share the Markdown and
/// LaTeX files, and have one `<name>-<label>.csv` each.
///
/// # Errors
/// [`Error::Io`].
pub fn write(dir: &Path, name: &str, sheets: &[Sheet]) -> Result<Vec<PathBuf>> {
    let joined = |text: fn(&Sheet) -> String| sheets.iter().map(text).collect::<Vec<_>>().join("\n");
    let mut files = vec![(format!("{name}.md"), joined(Sheet::markdown))];
    files.extend(sheets.iter().map(|sheet| match sheets.len() {
        1 => (format!("{name}.csv"), sheet.csv()),
        _ => (format!("{name}-{}.csv", sheet.label), sheet.csv()),
    }));
    files.push((format!("{name}.tex"), joined(Sheet::latex)));
    let write = |(file, text): (String, String)| {
        let path = dir.join(file);
        atomic::write_bytes(&path, text.as_bytes())?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}
