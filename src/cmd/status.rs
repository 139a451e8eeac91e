//! `wbc status`: where the runs of the workspace stand.

use super::{Globals, Outcome};
use crate::jobs::rounds::Standing;
use crate::jobs::status::{self, Status};
use serde::Serialize;

/// Shows where runs stand: which folds are finished, how many epochs of the others, which process or job trains them,
/// which jobs wait or failed (with the last line of their logs), and about how long it will take. Reads the folders of
/// the runs and, where jobs were sent to Slurm, its queue. Also shows where jobs of `wbc submit --ingest` stand.
#[derive(clap::Args)]
pub struct Args {
    /// Names of runs [default: all, and the jobs that ingest]
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    runs: Vec<Status>,
    /// Jobs that ingest data sets.
    ingest: Vec<Standing>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let ingest = if args.runs.is_empty() { status::of_images(&ws)? } else { Vec::new() };
    let names = if args.runs.is_empty() { status::names(&ws)? } else { args.runs };
    let runs: Vec<Status> = names.iter().map(|name| status::of_run(&ws, name)).collect::<crate::error::Result<_>>()?;
    let lines: Vec<String> =
        ingest.iter().map(ToString::to_string).chain(runs.iter().map(ToString::to_string)).collect();
    let text = match lines.is_empty() {
        true => format!("no runs in {}", ws.runs().display()),
        false => lines.join("\n"),
    };
    globals.print(&Report { runs, ingest }, text)?;
    Ok(Outcome::Done)
}
