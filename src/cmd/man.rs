//! `wbc man`: manual pages.

use super::{Globals, Outcome};
use crate::atomic;
use clap::Command;
use clap_mangen::Man;
use serde::Serialize;
use std::path::PathBuf;

/// Prints the manual page of wbc, or writes wbc.1 and one page per command (wbc-ingest.1, ...) to a folder: after
/// `wbc man ~/.local/share/man/man1`, `man wbc-train` shows the page of `wbc train`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder to write the pages to
    #[arg(value_name = "DIR")]
    #[arg(value_parser = super::globals::local_path())]
    folder: Option<PathBuf>,
}

#[derive(Serialize)]
struct Written {
    files: Vec<PathBuf>,
}

pub fn run(args: Args, globals: &Globals, cli: Command) -> anyhow::Result<Outcome> {
    let mut cli = cli.disable_help_subcommand(true);
    // Completes the names of the subcommands and adds the options of every command to them.
    cli.build();
    let Some(folder) = args.folder else {
        globals.print_bytes(&page(&cli)?.1)?;
        return Ok(Outcome::Done);
    };
    let mut files = Vec::new();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        let (name, text) = page(command)?;
        let path = folder.join(name);
        atomic::write_bytes(&path, &text)?;
        files.push(path);
    }
    let text: Vec<String> = files.iter().map(|p| p.display().to_string()).collect();
    globals.print(&Written { files }, text.join("\n"))?;
    Ok(Outcome::Done)
}

/// The manual page of a command: file name and text.
fn page(command: &Command) -> anyhow::Result<(String, Vec<u8>)> {
    let man = Man::new(command.clone()).source(concat!("wbc ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text)?;
    Ok((man.get_filename(), text))
}
