//! `wbc status`: where the runs of the workspace stand.

use super::{Globals, Outcome};
use crate::jobs::status;

/// Shows where runs stand: which folds are finished, how many epochs of the others, which process or job trains them,
/// which jobs wait or failed (with the last line of their logs), and about how long it will take. Reads the folders of
/// the runs and, where jobs were sent to Slurm, its queue.
#[derive(clap::Args)]
pub struct Args {
    /// Names of runs [default: all]
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let names = if args.runs.is_empty() { status::names(&ws)? } else { args.runs };
    let mut runs = Vec::new();
    for name in names {
        runs.push(status::of_run(&ws, &name)?);
    }
    let text = match runs.is_empty() {
        true => format!("no runs in {}", ws.runs().display()),
        false => runs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    globals.print(&runs, text)?;
    Ok(Outcome::Done)
}
