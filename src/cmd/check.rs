//! `wbc check`: decodes every image of every ingested data set, or of the one that `--dataset` names.

use super::{Globals, Outcome, each_dataset, shards};
use crate::check::{self, against};
use crate::context::Context;
use crate::error::Error;
use crate::join;
use std::collections::BTreeSet;

/// Decodes every image once and reports unreadable files, copies (also turned, mirrored or cropped ones), images with
/// two different labels, odd sizes, dark, bright and blurred images, and small classes.
///
/// Writes data/<DATASET>/issues.parquet, and copies.parquet with the pairs of copies and checks.parquet with their
/// groups. With --against, copies in other data sets are listed in copies-<NAME>.parquet. Changes no image. The exit
/// status is 1 if it finds a problem.
#[derive(clap::Args)]
pub struct Args {
    /// Also look for images that another data set of the workspace has as well; may be given more than once
    #[arg(long, value_name = "NAME", conflicts_with_all = ["shard", "merge"])]
    against: Vec<String>,
    #[command(flatten)]
    shards: shards::Args,
}

/// The results for one data set.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Report {
    Done(Findings),
    /// Shards are not all done.
    Shards(shards::Progress),
}

/// What was found in a data set, and in others.
#[derive(serde::Serialize)]
struct Findings {
    #[serde(flatten)]
    check: check::Summary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    against: Vec<against::Summary>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    pipeline.check.validate()?;
    let ws = globals.workspace();
    let is_joint = |name: &String| !join::members(&ws, name).is_empty();
    if let Some(joint) = globals.dataset.as_ref().filter(|name| is_joint(name)) {
        let expected = format!("a data set that was ingested; to check: {}", join::members(&ws, joint).join(", "));
        return Err(Error::setting("dataset", expected, format!("{joint}, which is made of these")).into());
    }
    // Joint data sets have the checks of their members.
    let present: Vec<String> = ws.ingested_datasets()?.into_iter().filter(|name| !is_joint(name)).collect();
    let progress = globals.progress();
    let part = args.shards.part();
    let ctx = Context { part, ..globals.context(pipeline.seed, &progress) };
    let others: BTreeSet<&String> = args.against.iter().collect();
    for &other in &others {
        if !present.contains(other) || globals.dataset.as_ref() == Some(other) {
            let names: Vec<&str> =
                present.iter().filter(|n| globals.dataset.as_ref() != Some(n)).map(|n| n.as_str()).collect();
            return Err(Error::setting("against", format!("another data set: {}", names.join(", ")), other).into());
        }
        // Copies can only be found in a data set that has been checked.
        check::run(&ws, other, &pipeline.check, &ctx)?;
    }
    let work = |dataset: &str| {
        let check = match shards::finished(check::run(&ws, dataset, &pipeline.check, &ctx), "check", dataset, part)? {
            Ok(summary) => summary,
            Err(progress) => return Ok(Report::Shards(progress)),
        };
        let compared = others.iter().filter(|other| other.as_str() != dataset);
        let compare = |other: &&String| against::run(&ws, dataset, other, pipeline.check.copy_correlation, &ctx);
        Ok(Report::Done(Findings { check, against: compared.map(compare).collect::<Result<_, _>>()? }))
    };
    let (reports, failed) = each_dataset(globals, &pipeline, &present, work)?;
    let text: Vec<String> = reports.iter().map(Report::to_string).collect();
    globals.print(&reports, text.join("\n\n"))?;
    failed.into_result("checked")?;
    let is_finding = |report: &Report| match report {
        Report::Done(found) => found.check.findings > 0 || found.against.iter().any(|other| other.copies > 0),
        Report::Shards(_) => false,
    };
    Ok(if reports.iter().any(is_finding) { Outcome::Findings } else { Outcome::Done })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Report::Done(found) => {
                write!(f, "{}", found.check)?;
                found.against.iter().try_for_each(|other| write!(f, "\n{other}"))
            }
            Report::Shards(progress) => write!(f, "{progress}"),
        }
    }
}
