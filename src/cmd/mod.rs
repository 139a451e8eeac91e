//! The command line: one file per subcommand with its help, its arguments and `run`. Results go to stdout, progress and
//! log lines to stderr. Exit status: 0 success, 1 findings, 2 error.

mod adapt;
mod advice;
mod bench;
mod cancel;
mod check;
mod compare;
mod completions;
mod datasets;
mod demo;
mod doctor;
mod explain;
mod export;
mod features;
mod fetch;
mod globals;
mod ingest;
mod inspect;
mod laboratories;
mod link;
mod man;
mod plot;
mod predict;
mod preprocess;
mod report;
mod run;
mod shards;
mod split;
mod status;
mod submit;
mod synth;
mod terminal;
mod train;
mod validate;
mod verify;

pub(crate) use globals::{Globals, Outcome, each_dataset};
use terminal::say;

use crate::error::Error;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use globals::STOP;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

/// From folders of white-blood-cell images to publishable results.
#[derive(Parser)]
#[command(name = "wbc", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const OPTIONS_OF_EVERY_COMMAND: &str = "\
Options of every command (or set WBC_WORKSPACE, WBC_DATASET, ...):
      --workspace <DIR>       Folder with raw/DATASET/ and the results [default: data]
      --dataset <NAME>        Data set to work on [default: all, or the only one]
      --pipeline <NAME|FILE>  Built-in pipeline or pipeline file [default: quick]
      --seed <N>              Seed of all random numbers [default: from the pipeline]
      --threads <N>           Number of threads; does not change the results [default: all]
      --device <DEVICE>       Where networks run: cpu or cuda:N [default: cpu]
      --json                  Print the result as JSON
      --ok-findings           Exit with 0 instead of 1 for findings, in scripts";

#[derive(Subcommand)]
enum Command {
    Adapt(adapt::Args),
    Bench(bench::Args),
    Cancel(cancel::Args),
    Check(check::Args),
    Compare(compare::Args),
    Completions(completions::Args),
    Datasets(datasets::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Explain(explain::Args),
    Export(export::Args),
    Features(features::Args),
    Fetch(fetch::Args),
    Ingest(ingest::Args),
    Inspect(inspect::Args),
    Laboratories(laboratories::Args),
    Link(link::Args),
    Man(man::Args),
    Plot(plot::Args),
    Predict(predict::Args),
    Preprocess(preprocess::Args),
    Report(report::Args),
    Run(run::Args),
    Split(split::Args),
    Status(status::Args),
    Submit(submit::Args),
    Synth(synth::Args),
    Train(train::Args),
    Validate(validate::Args),
    Verify(verify::Args),
}

impl Command {
    fn run(self, globals: &Globals) -> anyhow::Result<Outcome> {
        match self {
            Command::Adapt(args) => adapt::run(args, globals),
            Command::Bench(args) => bench::run(args, globals),
            Command::Cancel(args) => cancel::run(args, globals),
            Command::Check(args) => check::run(args, globals),
            Command::Compare(args) => compare::run(args, globals),
            Command::Completions(args) => completions::run(args, globals, cli()),
            Command::Datasets(args) => datasets::run(args, globals),
            Command::Demo(args) => demo::run(args, globals),
            Command::Doctor(args) => doctor::run(args, globals, &cli()),
            Command::Explain(args) => explain::run(args, globals),
            Command::Export(args) => export::run(args, globals),
            Command::Features(args) => features::run(args, globals),
            Command::Fetch(args) => fetch::run(args, globals),
            Command::Ingest(args) => ingest::run(args, globals),
            Command::Inspect(args) => inspect::run(args, globals),
            Command::Laboratories(args) => laboratories::run(args, globals),
            Command::Link(args) => link::run(args, globals),
            Command::Man(args) => man::run(args, globals, cli()),
            Command::Plot(args) => plot::run(args, globals),
            Command::Predict(args) => predict::run(args, globals),
            Command::Preprocess(args) => preprocess::run(args, globals),
            Command::Report(args) => report::run(args, globals),
            Command::Run(args) => run::run(args, globals),
            Command::Split(args) => split::run(args, globals),
            Command::Status(args) => status::run(args, globals),
            Command::Submit(args) => submit::run(args, globals),
            Command::Synth(args) => synth::run(args, globals),
            Command::Train(args) => train::run(args, globals),
            Command::Validate(args) => validate::run(args, globals),
            Command::Verify(args) => verify::run(args, globals),
        }
    }
}

/// The commands as `wbc --help` lists them: group, name, summary. The first paragraph of a command's own help is the
/// documentation of its arguments.
const GROUPS: [(&str, &[(&str, &str)]); 4] = [
    (
        "Data",
        &[
            ("datasets", "List public data sets of white blood cells, with licences"),
            ("fetch", "Download and unpack a public data set"),
            ("link", "Use images in object storage (S3) as a data set"),
            ("synth", "Generate a data set of synthetic cells"),
            ("ingest", "Read the data sets in raw/ into manifests, and check them"),
            ("check", "Find unreadable images, copies, conflicting labels and outliers"),
            ("inspect", "Write an HTML page about a data set and its problems"),
            ("split", "Assign images to folds, with patients and copies in one fold"),
        ],
    ),
    (
        "Training",
        &[
            ("run", "Run a full pipeline, from images to tables"),
            ("preprocess", "Crop and resize the images for training"),
            ("features", "Segment the cells and measure features for classical models"),
            ("train", "Train a model on every fold and predict its test images"),
            ("submit", "Train as jobs of a Slurm cluster, or as processes here"),
            ("status", "Show which folds and epochs are done, and which jobs run"),
            ("cancel", "End the jobs of a run"),
        ],
    ),
    (
        "Results",
        &[
            ("report", "Print the paper's tables with your results"),
            ("plot", "Write the figures of a run as SVG or PNG"),
            ("compare", "Compare two runs on the same test images"),
            ("predict", "Classify and count the cells of new images"),
            ("validate", "Evaluate a run on another, labelled data set"),
            ("laboratories", "Train on some data sets and test on others, each with each"),
            ("adapt", "Fit a run to another laboratory with a few labelled cells"),
            ("explain", "Show which parts of a cell a network relies on"),
            ("export", "Export trained models for PyTorch or ONNX"),
        ],
    ),
    (
        "Tools",
        &[
            ("demo", "Run everything on synthetic cells, in about two minutes"),
            ("bench", "Measure the speed of training, prediction and preprocessing"),
            ("doctor", "Report on this machine, the workspace and the settings"),
            ("verify", "Find files that were damaged or changed after they were written"),
            ("completions", "Print completions for a shell"),
            ("man", "Print or write the manual pages"),
        ],
    ),
];

/// The command line with its help: clap has no groups of subcommands, so that the list is part of the template.
fn cli() -> clap::Command {
    let mut cli = Cli::command();
    let mut list = String::new();
    for (group, commands) in GROUPS {
        let blank = if list.is_empty() { "" } else { "\n" };
        writeln!(list, "{blank}{group}:").expect("writing to a string succeeds");
        for (name, summary) in commands {
            writeln!(list, "  {name:12}  {summary}").expect("writing to a string succeeds");
            cli = cli.mut_subcommand(name, |command| {
                let description = command.get_long_about().or(command.get_about()).cloned().unwrap_or_default();
                command.about(*summary).long_about(description).help_template(format!(
                    "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}\n\n\
                     {OPTIONS_OF_EVERY_COMMAND}{{after-help}}"
                ))
            });
        }
    }
    cli.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}\n\
         Start with `wbc demo`. With your images in data/raw/: wbc ingest,\n\
         wbc split --stratified, wbc train, wbc report --table 3.\n\
         Every command: --workspace, --dataset, --pipeline, --seed, --threads, --device,\n\
         --json, --ok-findings. `wbc COMMAND --help` explains them."
    ))
}

/// Parses the command line, runs the command and returns the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&cli().get_matches()).unwrap_or_else(|error| error.exit());
    match start(&cli.globals).and_then(|()| cli.command.run(&cli.globals)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) if cli.globals.ok_findings => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(error) => {
            // The library's errors name their causes themselves.
            match error.downcast_ref::<Error>() {
                Some(error) => say(format_args!("wbc: {}", advice::message(error, &cli.globals.workspace()))),
                None => say(format_args!("wbc: {error:#}")),
            }
            ExitCode::from(2)
        }
    }
}

/// Sets up threads and Ctrl-C: the first press stops after the current step, the second aborts.
fn start(globals: &Globals) -> anyhow::Result<()> {
    /// More than any machine has cores; each thread takes memory of its own.
    const MAX_THREADS: usize = 1024;
    if let Some(threads) = globals.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads)) {
        return Err(Error::setting("threads", format!("1 to {MAX_THREADS}"), threads).into());
    }
    rayon::ThreadPoolBuilder::new().num_threads(globals.threads.unwrap_or(0)).build_global()?;
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        say(format_args!("wbc: stopping after this step; press Ctrl-C again to abort"));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    #[test]
    fn every_command_and_every_argument_has_help() {
        let mut cli = cli();
        cli.build();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|c| c.get_name() != "help") {
            let name = command.get_name();
            assert!(command.get_about().is_some_and(|about| about.to_string().len() > 20), "{name}");
            assert!(command.get_long_about().is_some_and(|about| about.to_string().len() > 60), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some_and(|help| !help.to_string().is_empty()), "{name}: {argument}");
            }
        }
    }

    #[test]
    fn the_list_of_commands_is_complete_and_fits_a_screen() {
        let listed = GROUPS.iter().flat_map(|(_, commands)| commands.iter().map(|(name, _)| name.to_string()));
        let names = Cli::command().get_subcommands().map(|command| command.get_name().to_string()).collect();
        let mut listed: Vec<String> = listed.collect();
        listed.sort();
        assert_eq!(listed, Vec::from_iter::<std::collections::BTreeSet<String>>(names));
        let help = cli().render_long_help().to_string();
        assert!(help.lines().count() <= 46 && help.lines().all(|line| line.len() <= 80), "{help}");
        for argument in Globals::augment_args(clap::Command::new("")).get_arguments() {
            let long = format!("--{}", argument.get_long().unwrap());
            assert!(help.contains(&long) && OPTIONS_OF_EVERY_COMMAND.contains(&long), "{long}");
        }
    }

    #[test]
    fn every_example_in_the_help_is_a_command() {
        for command in cli().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let mut examples = 0;
            for line in help.lines().filter_map(|line| line.strip_prefix("  wbc ")) {
                examples += 1;
                let words = line.split('#').next().unwrap().split_whitespace();
                let parsed = cli().try_get_matches_from(["wbc"].into_iter().chain(words));
                assert!(line.starts_with(name) && parsed.is_ok(), "wbc {line}: {}", parsed.err().unwrap());
                assert!(line.len() <= 84, "{line}");
            }
            let main = [
                "fetch",
                "ingest",
                "split",
                "train",
                "report",
                "compare",
                "predict",
                "export",
                "run",
                "laboratories",
                "adapt",
                "submit",
                "link",
            ]
            .contains(&name);
            assert_eq!(examples > 1, main, "{name}:\n{help}");
        }
    }
}
