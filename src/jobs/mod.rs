//! Trains the models of runs as jobs, each a process of its own: on a cluster (`slurm`) or on this machine (`local`).
//! A plan says which commands are run, and in which order; an engine runs them. One file per engine, listed in
//! [`ENGINES`].
//!
//! wbc schedules nothing itself, and no job knows of the others: each claims the model that it trains
//! ([`crate::run::claim`]), and whichever finishes last has put the results of all together.

use crate::error::{Error, Result};

mod job;
mod local;
mod plan;
pub mod rounds;
mod script;
mod slurm;
pub mod status;

pub use job::{Arguments, Job};
pub use plan::{Engine, Plan, Settings, Task, is_reported};

/// The engines, by name.
pub static ENGINES: [&dyn Engine; 2] = [&slurm::Slurm, &local::Local];

/// The engine of that name.
///
/// # Errors
/// [`Error::Setting`] that lists the engines there are.
pub fn engine(name: &str) -> Result<&'static dyn Engine> {
    let names = || ENGINES.map(Engine::name).join(", ");
    let engine = ENGINES.into_iter().find(|engine| engine.name() == name);
    engine.ok_or_else(|| Error::setting("engine", format!("one of: {}", names()), name))
}
