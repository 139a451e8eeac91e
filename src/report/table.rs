//! What a table of the paper is, and what a user may request of it.

use super::Sheet;
use crate::error::Result;
use crate::workspace::Workspace;

/// A table of the paper.
pub trait Table: Sync {
    /// Its number in the paper.
    fn number(&self) -> u32;
    /// What it shows, in a few words.
    fn doc(&self) -> &'static str;
    /// Builds the table from the workspace.
    ///
    /// # Errors
    /// [`crate::error::Error::Missing`] where the workspace lacks the data, [`crate::error::Error::Setting`] where
    /// several data sets or runs fit and none was requested.
    fn build(&self, ws: &Workspace, request: &Request) -> Result<Sheet>;
}

/// What the user requested.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The data set; by default the one with fitting runs.
    pub dataset: Option<String>,
    /// The run; by default the one named after `pipeline`, or the only one.
    pub run: Option<String>,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Whether a run is shown only in the table that it belongs to, and not in others that it also fits.
    pub own_table_only: bool,
}
