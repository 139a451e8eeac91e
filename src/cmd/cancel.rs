//! `wbc cancel`: ends the jobs of a run.

use super::{Globals, Outcome};
use crate::error::Error;
use crate::jobs::ENGINES;
use crate::jobs::status;
use crate::run::{RunDir, claim};
use serde::Serialize;

/// Ends the jobs of a run: those queued or running on Slurm, and the processes of this machine that train it (also a
/// `wbc train` in another window). Epochs that are done stay; `wbc submit` or `wbc train` goes on from them.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the run
    #[arg(value_name = "RUN")]
    run: String,
}

#[derive(Serialize)]
struct Report {
    run: String,
    /// Jobs and processes that were told to end.
    cancelled: Vec<String>,
    /// Processes of other machines, which cannot be told from here.
    elsewhere: Vec<String>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    // Is there such a run?
    status::of_run(&ws, &args.run)?;
    let holders = claim::holders(&RunDir::new(&ws, &args.run))?;
    let mut cancelled = Vec::new();
    for engine in ENGINES {
        cancelled.extend(engine.cancel(&ws, &args.run)?);
    }
    let elsewhere: Vec<String> = holders
        .iter()
        .filter(|(_, holder)| holder.job.is_none() && !holder.is_here())
        .map(|(id, holder)| format!("{} ({holder})", id.title()))
        .collect();
    let mut text = match cancelled.is_empty() {
        true => format!("{}: nothing is queued or running", args.run),
        false => format!("{}: cancelled {}", args.run, cancelled.join(", ")),
    };
    if !elsewhere.is_empty() {
        text += &format!("\non other machines, to be stopped there: {}", elsewhere.join(", "));
    }
    let failed = cancelled.is_empty() && !elsewhere.is_empty();
    globals.print(&Report { run: args.run.clone(), cancelled, elsewhere: elsewhere.clone() }, text)?;
    if failed {
        let got = elsewhere.join(", ");
        return Err(Error::setting("run", "jobs or processes that can be ended from this machine", got).into());
    }
    Ok(Outcome::Done)
}
