//! `wbc cancel`: ends the jobs of a run, or those that ingest a data set.

use super::{Globals, Outcome};
use crate::error::Error;
use crate::jobs::ENGINES;
use crate::jobs::rounds::Chain;
use crate::jobs::status;
use crate::run::{RunDir, claim};
use crate::workspace::Workspace;
use serde::Serialize;

/// Ends the jobs of a run: those queued or running on Slurm, and the processes of this machine that train it (also a
/// `wbc train` in another window). Epochs that are done stay; `wbc submit` or `wbc train` resumes from them.
///
/// With --ingest, ends the jobs of `wbc submit --ingest` instead. What shards have done stays, too.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the run
    #[arg(value_name = "RUN", required_unless_present = "ingest", conflicts_with = "ingest")]
    run: Option<String>,
    /// The jobs that ingest the data set, instead of those of a run
    #[arg(long)]
    ingest: bool,
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
    let Some(run) = args.run else { return ingest(globals, &ws) };
    // Is there such a run?
    status::of_run(&ws, &run)?;
    let holders = claim::holders(&RunDir::new(&ws, &run))?;
    let mut cancelled = Vec::new();
    for engine in ENGINES {
        cancelled.extend(engine.cancel(&ws, &run)?);
    }
    let elsewhere: Vec<String> = holders
        .iter()
        .filter(|(_, holder)| holder.job.is_none() && !holder.is_here())
        .map(|(id, holder)| format!("{} ({holder})", id.title()))
        .collect();
    let mut text = summary(&run, &cancelled);
    if !elsewhere.is_empty() {
        text += &format!("\non other machines, to be stopped there: {}", elsewhere.join(", "));
    }
    let failed = cancelled.is_empty() && !elsewhere.is_empty();
    globals.print(&Report { run, cancelled, elsewhere: elsewhere.clone() }, text)?;
    if failed {
        let got = elsewhere.join(", ");
        return Err(Error::setting("run", "jobs or processes that can be ended from this machine", got).into());
    }
    Ok(Outcome::Done)
}

fn summary(name: &str, cancelled: &[String]) -> String {
    match cancelled.is_empty() {
        true => format!("{name}: nothing is queued or running"),
        false => format!("{name}: cancelled {}", cancelled.join(", ")),
    }
}

#[derive(Serialize)]
struct OfDataset {
    dataset: String,
    /// Jobs that were told to end.
    cancelled: Vec<String>,
}

/// Ends the jobs that ingest a data set.
fn ingest(globals: &Globals, ws: &Workspace) -> anyhow::Result<Outcome> {
    let dataset = ws.choose(globals.dataset.as_deref(), &ws.raw_datasets()?)?;
    let mut cancelled = Vec::new();
    for engine in ENGINES {
        if let Some(chain) = Chain::read(ws, &dataset, engine.name())? {
            cancelled.extend(engine.cancel_sharded(&chain)?);
        }
    }
    let text = summary(&dataset, &cancelled);
    globals.print(&OfDataset { dataset, cancelled }, text)?;
    Ok(Outcome::Done)
}
