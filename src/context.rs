//! What every stage receives besides its settings: the seed, where to report progress, when to stop, and which images
//! to work on.

use crate::error::{Error, Result};
use crate::part::Part;
use crate::progress::{Progress, Silent};
use std::sync::atomic::{AtomicBool, Ordering};

/// Passed by reference through a stage.
pub struct Context<'a> {
    /// Seed of all random numbers: see [`crate::seed`].
    pub seed: u64,
    /// Where to report progress.
    pub progress: &'a dyn Progress,
    /// Set to `true`, from any thread, to stop the work: stages then return [`Error::Interrupted`].
    pub stop: &'a AtomicBool,
    /// Which images to work on, in ingest, check, preprocess and features; other stages take all.
    pub part: Part,
}

impl Context<'static> {
    /// A context that reports nothing and is never stopped.
    pub fn silent(seed: u64) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Context { seed, progress: &Silent, stop: &NEVER, part: Part::All }
    }
}

impl Context<'_> {
    /// Returns [`Error::Interrupted`] once [`Context::stop`] is set. Call it between pieces of work that may be lost.
    pub fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
