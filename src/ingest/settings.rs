//! Settings of the ingest stage.

use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name of the layout; none to recognise it from the files.
    pub layout: Option<String>,
    /// Whose masks to use where two experts drew them (LISC): 1 or 2.
    pub expert: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: None, expert: 1 }
    }
}
