//! The command line: one file a subcommand (its help, its arguments, `run`). Results go to stdout, progress and log
//! to stderr. Exit status: 0 done, 1 findings, 2 error.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::workspace::Workspace;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

mod advice;
mod terminal;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// How a command ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Done,
    /// Exit status 1: the work is done, and there is something to look at.
    Findings,
}

/// White-blood-cell images to publishable results.
///
/// A first try: `wbc demo`. Your own images: put each data set into a folder under data/raw/, then
/// `wbc ingest`, `wbc split --stratified`, `wbc train`, `wbc report --table 3`.
#[derive(Parser)]
#[command(name = "wbc", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten, next_help_heading = "Options of every command")]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Workspace folder: images under raw/DATASET/, results beside it
    #[arg(long, global = true, value_name = "DIR", default_value = "data", env = "WBC_WORKSPACE")]
    pub workspace: PathBuf,
    /// Data set (folder under raw/) to work on
    #[arg(long, global = true, value_name = "NAME", env = "WBC_DATASET")]
    pub dataset: Option<String>,
    /// Settings: a built-in pipeline (quick, paper, knn, svm, ...) or a file like pipelines/quick.toml
    #[arg(long, global = true, value_name = "NAME|FILE", default_value = "quick", env = "WBC_PIPELINE")]
    pub pipeline: String,
    /// Seed of every random choice [default: the pipeline's]
    #[arg(long, global = true, value_name = "N", env = "WBC_SEED")]
    pub seed: Option<u64>,
    /// Threads [default: all]; results do not depend on it
    #[arg(long, global = true, value_name = "N", env = "WBC_THREADS")]
    pub threads: Option<usize>,
    /// Where networks are trained: cpu, or cuda:N where wbc was built with --features cuda
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu", env = "WBC_DEVICE")]
    pub device: Device,
    /// Print one JSON document on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// The subcommands: a file each, and a line in the list below, which the list of commands and `-h` show. `--help` shows
/// what the file says.
macro_rules! commands {
    ($(#[doc = $about:literal] $variant:ident = $module:ident),* $(,)?) => {
        $(mod $module;)*
        #[derive(Subcommand)]
        enum Command {
            $(#[command(about = $about.trim(), long_about = described::<$module::Args>())] $variant($module::Args)),*
        }
        impl Command {
            fn run(self, globals: &Globals) -> anyhow::Result<Outcome> {
                match self { $(Command::$variant(args) => $module::run(args, globals)),* }
            }
        }
    };
}

commands! {
    /// Draw a data set of cells, the whole line on it, Table 3: a first try
    Demo = demo,
    /// List public data sets of white blood cells: classes, terms, how to get them
    Datasets = datasets,
    /// Download and unpack a data set into raw/; goes on where it was stopped
    Fetch = fetch,
    /// Read the data sets under raw/ into manifests, and check them
    Ingest = ingest,
    /// Decode every image once: unreadable, copies, label conflicts, odd pictures
    Check = check,
    /// Show a data set on a page: classes, colour, examples, every finding with its picture
    Inspect = inspect,
    /// Deal images to folds: stratified, copies kept together
    Split = split,
    /// Cut, resize and store the pictures for training
    Preprocess = preprocess,
    /// Find nuclei and cytoplasm, and measure the cells for the classical models
    Features = features,
    /// Train on every fold and predict its test images
    Train = train,
    /// Print the paper's tables with our figures
    Report = report,
    /// Write a run's figures as SVG or PNG files
    Plot = plot,
    /// Compare two runs on the same test images
    Compare = compare,
    /// Classify the cells of new images, and count them
    Predict = predict,
    /// Ask a run's networks about another data set: what is left of its figures there
    Validate = validate,
    /// Show where in a cell a run's networks look
    Explain = explain,
    /// Write trained networks for PyTorch or ONNX, with a model card
    Export = export,
    /// Run a whole pipeline file; skips what is up to date
    Run = run,
    /// Draw data sets of cells in the CUK and LISC layouts
    Synth = synth,
    /// Time this machine: training, inference, the data path; how long the recipes would take
    Bench = bench,
    /// Look at this machine and the workspace: what there is, and what is wrong
    Doctor = doctor,
    /// Print a shell's completions
    Completions = completions,
    /// Print the manual page, or write one a command
    Man = man,
}

/// The doc comment of a command's arguments.
fn described<A: Args>() -> clap::builder::StyledStr {
    A::augment_args(clap::Command::new("")).get_about().cloned().unwrap_or_default()
}

impl Globals {
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
    let cli = Cli::parse();
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
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_whole_and_says_what_each_part_is_for() {
        let mut cli = Cli::command();
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
    fn every_example_in_the_help_is_a_command() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            let mut examples = 0;
            for line in help.lines().filter_map(|line| line.strip_prefix("  wbc ")) {
                examples += 1;
                let words = line.split('#').next().unwrap().split_whitespace();
                let parsed = Cli::try_parse_from(["wbc"].into_iter().chain(words));
                assert!(line.starts_with(name) && parsed.is_ok(), "wbc {line}: {}", parsed.err().unwrap());
                assert!(line.len() <= 84, "{line}");
            }
            let main =
                ["fetch", "ingest", "split", "train", "report", "compare", "predict", "export", "run"].contains(&name);
            assert_eq!(examples > 1, main, "{name}:\n{help}");
        }
    }
}
