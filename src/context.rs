//! What every stage is handed besides its settings: the seed, a place to report to, and the stop sign.

use crate::error::{Error, Result};
use crate::progress::Progress;
use std::sync::atomic::{AtomicBool, Ordering};

/// The stop sign that Ctrl-C raises.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Passed by reference through a stage.
pub struct Context<'a> {
    /// The run's seed: see [`crate::seed`].
    pub seed: u64,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    /// Raised when the user wants to stop.
    pub stop: &'a AtomicBool,
    /// The command that goes on with interrupted work.
    pub resume: String,
}

impl Context<'_> {
    /// Returns [`Error::Interrupted`] once the stop sign is up. Call it between pieces of work that may be lost.
    pub fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted { resume: self.resume.clone() });
        }
        Ok(())
    }
}
