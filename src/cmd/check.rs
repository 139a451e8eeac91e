//! `wbc check`: decodes every image of every ingested data set, or of the one that `--dataset` names.

use super::{Globals, Outcome, each_dataset};
use crate::check::{self, against};
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
    #[arg(long, value_name = "NAME")]
    against: Vec<String>,
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
    let ctx = globals.context(pipeline.seed, &progress);
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
        let check = check::run(&ws, dataset, &pipeline.check, &ctx)?;
        let compared = others.iter().filter(|other| other.as_str() != dataset);
        let compare = |other: &&String| against::run(&ws, dataset, other, pipeline.check.copy_correlation, &ctx);
        Ok(Findings { check, against: compared.map(compare).collect::<Result<_, _>>()? })
    };
    let (summaries, failed) = each_dataset(globals, &pipeline, &present, work)?;
    let text = |s: &Findings| {
        let parts = std::iter::once(s.check.to_string()).chain(s.against.iter().map(ToString::to_string));
        parts.collect::<Vec<_>>().join("\n")
    };
    let text: Vec<String> = summaries.iter().map(text).collect();
    globals.print(&summaries, text.join("\n\n"))?;
    failed.into_result("checked")?;
    Ok(if summaries.iter().any(|s| s.check.findings > 0 || s.against.iter().any(|other| other.copies > 0)) {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}
