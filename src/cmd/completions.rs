//! `wbc completions`: completions of the commands for a shell.

use super::{Globals, Outcome};

/// Prints the completions of a shell on stdout. For bash: `wbc completions bash >
/// ~/.local/share/bash-completion/completions/wbc`; for zsh: `wbc completions zsh > _wbc` in a folder of $fpath; for
/// fish: `wbc completions fish > ~/.config/fish/completions/wbc.fish`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: clap_complete::Shell,
}

pub fn run(args: Args, globals: &Globals, mut cli: clap::Command) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "wbc", &mut script);
    globals.print_bytes(&script)?;
    Ok(Outcome::Done)
}
