//! The command line: one file per subcommand with its help, its arguments and `run`. Results go to stdout, progress and
//! log lines to stderr. Exit status: 0 success, 1 findings, 2 error.

mod advice;
mod bench;
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
mod ingest;
mod inspect;
mod man;
mod plot;
mod predict;
mod preprocess;
mod report;
mod run;
mod split;
mod synth;
mod terminal;
mod train;
mod validate;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// How a command ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1: the command succeeded, and reports problems in the data.
    Findings,
}

/// From folders of white-blood-cell images to publishable results.
#[derive(Parser)]
#[command(name = "wbc", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command. They are hidden from clap's help, where `OPTIONS_OF_EVERY_COMMAND` stands for them; the
/// manual pages show them in full.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Workspace folder: images in raw/DATASET/, results beside raw/
    #[arg(long, global = true, value_name = "DIR", default_value = "data", env = "WBC_WORKSPACE")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub workspace: PathBuf,
    /// Data set to work on: a folder in raw/ [default: every data set, or the only one]
    #[arg(long, global = true, value_name = "NAME", env = "WBC_DATASET")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub dataset: Option<String>,
    /// Settings: a built-in pipeline (quick, paper, knn, svm, ...) or a pipeline file
    #[arg(long, global = true, value_name = "NAME|FILE", default_value = "quick", env = "WBC_PIPELINE")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub pipeline: String,
    /// Seed of all random numbers [default: from the pipeline]
    #[arg(long, global = true, value_name = "N", env = "WBC_SEED")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub seed: Option<u64>,
    /// Number of threads, which does not change the results [default: all]
    #[arg(long, global = true, value_name = "N", env = "WBC_THREADS")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub threads: Option<usize>,
    /// Where networks run: cpu, or cuda:N if wbc was built with --features cuda
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu", env = "WBC_DEVICE")]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub device: Device,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    #[arg(hide_short_help = true, hide_long_help = true)]
    pub json: bool,
}

const OPTIONS_OF_EVERY_COMMAND: &str = "\
Options of every command (or set WBC_WORKSPACE, WBC_DATASET, ...):
      --workspace <DIR>       Folder with raw/DATASET/ and the results [default: data]
      --dataset <NAME>        Data set to work on [default: all, or the only one]
      --pipeline <NAME|FILE>  Built-in pipeline or pipeline file [default: quick]
      --seed <N>              Seed of all random numbers [default: from the pipeline]
      --threads <N>           Number of threads; does not change the results [default: all]
      --device <DEVICE>       Where networks run: cpu or cuda:N [default: cpu]
      --json                  Print the result as JSON";

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
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
    Man(man::Args),
    Plot(plot::Args),
    Predict(predict::Args),
    Preprocess(preprocess::Args),
    Report(report::Args),
    Run(run::Args),
    Split(split::Args),
    Synth(synth::Args),
    Train(train::Args),
    Validate(validate::Args),
}

impl Command {
    fn run(self, globals: &Globals) -> anyhow::Result<Outcome> {
        match self {
            Command::Bench(args) => bench::run(args, globals),
            Command::Check(args) => check::run(args, globals),
            Command::Compare(args) => compare::run(args, globals),
            Command::Completions(args) => completions::run(args, globals),
            Command::Datasets(args) => datasets::run(args, globals),
            Command::Demo(args) => demo::run(args, globals),
            Command::Doctor(args) => doctor::run(args, globals),
            Command::Explain(args) => explain::run(args, globals),
            Command::Export(args) => export::run(args, globals),
            Command::Features(args) => features::run(args, globals),
            Command::Fetch(args) => fetch::run(args, globals),
            Command::Ingest(args) => ingest::run(args, globals),
            Command::Inspect(args) => inspect::run(args, globals),
            Command::Man(args) => man::run(args, globals),
            Command::Plot(args) => plot::run(args, globals),
            Command::Predict(args) => predict::run(args, globals),
            Command::Preprocess(args) => preprocess::run(args, globals),
            Command::Report(args) => report::run(args, globals),
            Command::Run(args) => run::run(args, globals),
            Command::Split(args) => split::run(args, globals),
            Command::Synth(args) => synth::run(args, globals),
            Command::Train(args) => train::run(args, globals),
            Command::Validate(args) => validate::run(args, globals),
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
            ("synth", "Generate a data set of synthetic cells"),
            ("ingest", "Read the data sets in raw/ into manifests, and check them"),
            ("check", "Find unreadable images, copies, conflicting labels and outliers"),
            ("inspect", "Write an HTML page about a data set and its problems"),
            ("split", "Assign images to stratified folds, with copies in one fold"),
        ],
    ),
    (
        "Training",
        &[
            ("run", "Run a full pipeline, from images to tables"),
            ("preprocess", "Crop and resize the images for training"),
            ("features", "Segment the cells and measure features for classical models"),
            ("train", "Train a model on every fold and predict its test images"),
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
            ("explain", "Show which parts of a cell a network relies on"),
            ("export", "Export trained networks for PyTorch or ONNX"),
        ],
    ),
    (
        "Tools",
        &[
            ("demo", "Run everything on synthetic cells, in about two minutes"),
            ("bench", "Measure the speed of training, prediction and preprocessing"),
            ("doctor", "Report on this machine, the workspace and the settings"),
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
        writeln!(list, "{group}:").expect("writing to a string succeeds");
        for (name, summary) in commands {
            writeln!(list, "  {name:11}  {summary}").expect("writing to a string succeeds");
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
         Options: --workspace, --dataset, --pipeline, --seed, --threads, --device, --json, --version\n\
         `wbc COMMAND --help` explains a command and its options. Try `wbc demo` first."
    ))
}

impl Globals {
    /// The workspace of `--workspace`.
    pub fn workspace(&self) -> Workspace {
        Workspace::new(&self.workspace)
    }

    /// The pipeline that `--pipeline` names, with `--seed` applied.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let mut pipeline = Pipeline::load(&self.pipeline)?;
        if let Some(seed) = self.seed {
            pipeline.seed = seed;
        }
        Ok(pipeline)
    }

    /// The ingested data set that the user or the pipeline names, or the only one, or `cuk`.
    pub fn one_dataset(&self, pipeline: &Pipeline) -> Result<String> {
        let ws = self.workspace();
        ws.choose(self.dataset.as_deref().or(pipeline.dataset.as_deref()), &ws.ingested_datasets()?)
    }

    /// The usual name of a run: data set, model, pipeline, and the seed where `--seed` says another than the pipeline.
    pub fn run_name(&self, dataset: &str, pipeline: &Pipeline) -> Result<String> {
        let name = format!("{dataset}-{}-{}", pipeline.train.model(), pipeline.name);
        Ok(match self.seed {
            Some(seed) if seed != Pipeline::load(&self.pipeline)?.seed => format!("{name}-s{seed}"),
            _ => name,
        })
    }

    /// A stage's context. `progress` is from [`Globals::progress`].
    pub fn context<'a>(&self, seed: u64, progress: &'a dyn Progress) -> Context<'a> {
        Context { seed, progress, stop: &STOP }
    }

    /// Bars on a terminal, plain lines elsewhere; always on stderr.
    pub fn progress(&self) -> terminal::Terminal {
        terminal::Terminal::new()
    }

    /// Prints the result: `json` as one document where the user asked for it, else `text`.
    pub fn print(&self, json: &impl serde::Serialize, text: impl std::fmt::Display) -> anyhow::Result<()> {
        let mut text = if self.json { serde_json::to_string_pretty(json)? } else { text.to_string() };
        text.push('\n');
        self.print_bytes(text.as_bytes())
    }

    /// Prints what is text already.
    fn print_bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // `wbc report | head`: the reader has seen enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Data sets that a command failed on, while it could do others.
struct Failed(Vec<String>);

impl Failed {
    /// An error that names them, where there are any; what is wrong with each has been said.
    fn into_result(self, done: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.is_empty(), "not {done}: {}", self.0.join(", "));
        Ok(())
    }
}

/// Does `work` for the data set that the user or the pipeline names, else for every one of `present`. One that fails
/// does not keep the others from it.
fn each_dataset<T>(
    globals: &Globals,
    pipeline: &Pipeline,
    present: &[String],
    mut work: impl FnMut(&str) -> Result<T>,
) -> anyhow::Result<(Vec<T>, Failed)> {
    let chosen = match globals.dataset.as_deref().or(pipeline.dataset.as_deref()) {
        Some(name) => vec![globals.workspace().choose(Some(name), present)?],
        None => present.to_vec(),
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for dataset in &chosen {
        match work(dataset) {
            Ok(summary) => done.push(summary),
            Err(error) if chosen.len() == 1 || matches!(error, Error::Interrupted) => return Err(error.into()),
            Err(error) => {
                eprintln!("wbc: {}", advice::message(&error, globals));
                failed.push(dataset.clone());
            }
        }
    }
    Ok((done, Failed(failed)))
}

/// Parses the command line, runs the command, and turns its end into the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&cli().get_matches()).unwrap_or_else(|error| error.exit());
    match start(&cli.globals).and_then(|()| cli.command.run(&cli.globals)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(error) => {
            // The library's errors name their causes themselves.
            match error.downcast_ref::<Error>() {
                Some(error) => eprintln!("wbc: {}", advice::message(error, &cli.globals)),
                None => eprintln!("wbc: {error:#}"),
            }
            ExitCode::from(2)
        }
    }
}

/// Sets up threads and Ctrl-C: the first one asks for a clean stop, the second ends the program at once.
fn start(globals: &Globals) -> anyhow::Result<()> {
    if globals.threads == Some(0) {
        anyhow::bail!("setting `threads`: expected at least 1, found 0");
    }
    rayon::ThreadPoolBuilder::new().num_threads(globals.threads.unwrap_or(0)).build_global()?;
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("wbc: stopping after this step; press Ctrl-C again to abort");
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_whole_and_says_what_each_part_is_for() {
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
        assert!(help.lines().count() <= 40 && help.lines().all(|line| line.len() <= 80), "{help}");
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
            let main =
                ["fetch", "ingest", "split", "train", "report", "compare", "predict", "export", "run"].contains(&name);
            assert_eq!(examples > 1, main, "{name}:\n{help}");
        }
    }
}
