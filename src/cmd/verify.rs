//! `wbc verify`: whether the files of a workspace are as they were written.

use super::{Globals, Outcome};
use crate::verify;

/// Compares every table, checkpoint and record of the workspace with the checksum in it, and names those that were
/// damaged or changed, and what was made from them. It changes nothing.
///
/// Every command compares the files that it reads; this one compares all. With --full, the images are compared with
/// the manifests of their data sets as well. The exit status is 1 if something differs.
#[derive(clap::Args)]
pub struct Args {
    /// Also compare every image with the manifest
    #[arg(long)]
    full: bool,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let progress = globals.progress();
    let ctx = globals.context(0, &progress);
    let summary = verify::run(&globals.workspace(), args.full, &ctx)?;
    globals.print(&summary, &summary)?;
    Ok(if summary.findings.is_empty() { Outcome::Done } else { Outcome::Findings })
}
