//! Shards: the options of the commands whose images several machines may share, and what such a command says.

use crate::error::{Error, Result};
use crate::part::{MOST, Part, Shard, Waiting};
use serde::Serialize;
use std::fmt;

/// The options of every command that works on shards.
#[derive(clap::Args)]
pub struct Args {
    /// Work on one of N shares of the images, such as 3/100, and do the next step that can be done; other processes
    /// and machines do the other shares
    #[arg(long, value_name = "I/N", conflicts_with = "merge")]
    shard: Option<Shard>,
    /// Put together what N shards found
    #[arg(long, value_name = "N", value_parser = count())]
    merge: Option<u32>,
}

/// The parser of a number of shards.
pub fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MOST))
}

impl Args {
    pub fn part(&self) -> Part {
        match (self.shard, self.merge) {
            (Some(shard), _) => Part::Shard(shard),
            (None, Some(count)) => Part::Merged(count),
            (None, None) => Part::All,
        }
    }
}

/// What a shard has done of a data set, and what comes next.
#[derive(Serialize)]
pub struct Progress {
    dataset: String,
    #[serde(flatten)]
    waiting: Waiting,
    /// The command that goes on, once all shards have done the step.
    next: String,
}

/// The result of a stage, or how far the shards are, where the process works on one. `command` is the subcommand.
///
/// # Errors
/// Those of the stage; [`Error::Waiting`] unless the process works on a shard.
pub fn finished<T>(result: Result<T>, command: &str, dataset: &str, part: Part) -> Result<Result<T, Progress>> {
    match (result, part) {
        (Ok(result), _) => Ok(Ok(result)),
        (Err(Error::Waiting(waiting)), Part::Shard(_)) => Ok(Err(progress(waiting, command, dataset))),
        (Err(error), _) => Err(error),
    }
}

/// How far the shards are.
pub fn progress(waiting: Waiting, command: &str, dataset: &str) -> Progress {
    let count = waiting.shards;
    // Where only this stage is left, every shard has done all of it.
    let next = match waiting.missing.is_empty() {
        true => format!("wbc {command} --dataset {dataset} --merge {count}"),
        false => format!("wbc {command} --dataset {dataset} --shard I/{count}"),
    };
    Progress { dataset: dataset.into(), waiting, next }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { dataset, waiting, next } = self;
        writeln!(f, "{dataset}: {waiting}")?;
        match waiting.missing.is_empty() {
            true => write!(f, "Next: {next}"),
            false => write!(f, "Next: {next} for every I, until all have done all steps"),
        }
    }
}
