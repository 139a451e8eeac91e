//! `wbc demo`

use super::{Globals, Outcome};

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _globals: &Globals) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}
