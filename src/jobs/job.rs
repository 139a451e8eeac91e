//! A job of an engine, and what its log says.

use serde::Serialize;
use std::path::Path;

/// Arguments of a call of wbc.
pub type Arguments = Vec<String>;

/// A job that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// As the engine calls it.
    pub id: String,
    /// Whether it has started.
    pub is_running: bool,
    /// Why it has not, in the engine's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The last line of a log that says something.
pub fn last_line(log: &Path) -> Option<String> {
    end(log)?.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(String::from)
}

/// Whether the end of a log has this line.
pub fn has_line(log: &Path, sought: &str) -> bool {
    end(log).is_some_and(|end| end.lines().any(|line| line.trim() == sought))
}

/// The end of a log.
fn end(log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    const BYTES: u64 = 10_000;
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES))).ok()?;
    let mut end = Vec::new();
    file.take(BYTES).read_to_end(&mut end).ok()?;
    Some(String::from_utf8_lossy(&end).into_owned())
}
