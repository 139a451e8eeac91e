//! `wbc submit`: trains the models of one or several runs as jobs of a cluster, or as processes of this machine.

use super::globals::run_name;
use super::terminal::say;
use super::train::joint;
use super::{Globals, Outcome};
use crate::bench;
use crate::context::Context;
use crate::error::{Error, Result, if_readable};
use crate::jobs::rounds::{self, Chain, Round, Sharded, Standing};
use crate::jobs::{self, Arguments, Engine, Job, Plan, Task};
use crate::join;
use crate::nn::device::Device;
use crate::pipeline::Pipeline;
use crate::run::claim::{self, Claim, Taken};
use crate::run::{self, ModelId, NetworkSettings, Recipe, Record, RunDir};
use crate::split::{self, Splits};
use crate::text;
use crate::workspace::Workspace;
use crate::{atomic, features, ingest, preprocess, train};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc submit --dry-run                        # the scripts, without sending anything
  wbc submit --pipeline quick --pipeline svm --seeds 0,1,2
  wbc submit -- --partition=gpu --qos=long    # further options of sbatch
  wbc submit --ingest --dataset large --shards 100
  wbc submit --engine local --jobs 2          # processes of this machine instead";

/// Trains every fold of one or several runs as jobs of a Slurm cluster (or, with --engine local, as processes of this
/// machine), with the results of `wbc train`, byte for byte. A job trains one model; when all are over, another puts
/// the results together and writes the tables and pages. The data set must be split.
///
/// The scripts lie in data/runs/<RUN>/slurm/, with the logs of the jobs. What jobs ask for is in [slurm] of the
/// pipeline (partition, account, time, memory, cpus, gpus, max_parallel); time and memory that are not given are
/// estimated. A job that reaches its time limit is requeued and resumes from its last epoch.
///
/// With --ingest, reads and checks the images of a large data set instead of training: --shards jobs share them, others
/// put together what they found. With --shards alone, so many jobs preprocess the images before the training.
///
/// The same command again sends what is missing or failed, and nothing that is queued, running or finished.
/// `wbc status` shows where all stand, `wbc cancel RUN` ends the jobs of a run.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// What runs the jobs: slurm, or local for processes of this machine
    #[arg(long, value_name = "ENGINE", default_value = "slurm", env = "WBC_ENGINE")]
    engine: String,
    /// A run for each of these seeds [default: the pipeline's seed]
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "seed")]
    seeds: Vec<u64>,
    /// Train on several data sets together, as `wbc train --datasets`
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', conflicts_with = "dataset")]
    datasets: Vec<String>,
    /// Train only this fold, from 0 (can be repeated)
    #[arg(long, value_name = "N")]
    fold: Vec<u32>,
    /// Train one model on all images instead
    #[arg(long, conflicts_with = "fold")]
    all: bool,
    /// Ingest and check the data set instead, whose images are shared by --shards jobs
    #[arg(long, conflicts_with_all = ["seeds", "datasets", "fold", "all", "restart"])]
    ingest: bool,
    /// Jobs that share the images of a large data set where they are ingested, preprocessed or measured
    #[arg(long, value_name = "N", default_value = "1", value_parser = super::shards::count())]
    shards: u32,
    /// Models trained at the same time, for --engine local; each takes its share of the threads
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: usize,
    /// Delete existing runs of the same names that have other settings or data
    #[arg(long)]
    restart: bool,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Folder for the tables and pages: those of each run are in a folder of its name
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
    /// Options for sbatch, after --
    #[arg(last = true, value_name = "SBATCH OPTION")]
    options: Vec<String>,
}

/// What was sent, and what was not.
#[derive(Serialize)]
struct Report {
    engine: &'static str,
    runs: Vec<String>,
    sent: Vec<Model>,
    /// Models that were not sent, and why.
    left_out: Vec<LeftOut>,
    /// With --dry-run: the scripts, or the calls of wbc.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scripts: Vec<Script>,
    /// What the engine did.
    done: Vec<String>,
}

#[derive(Clone, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    run: String,
    model: ModelId,
}

#[derive(Serialize)]
struct LeftOut {
    #[serde(flatten)]
    model: Model,
    why: Why,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Why {
    Finished,
    Running,
    Queued,
}

#[derive(Serialize)]
struct Script {
    path: PathBuf,
    text: String,
}

/// A run to be trained.
struct Run {
    name: String,
    dataset: String,
    pipeline: Pipeline,
    splits: Splits,
    /// Its settings as a file, which the jobs read: a pipeline file may be changed while they wait.
    file: PathBuf,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let engine = jobs::engine(&args.engine)?;
    check_options(&args, engine)?;
    let given = globals.workspace();
    let ws = Workspace::new(std::path::absolute(&given.root).map_err(Error::io(&given.root, "find"))?);
    let progress = globals.progress();
    let seed = globals.seed.or(args.seeds.first().copied()).unwrap_or(0);
    let ctx = globals.context(seed, &progress);
    if args.ingest {
        return ingest_in_shards(&args, globals, &ws, engine, &ctx);
    }
    let runs = runs(&args, globals, &ws, engine, &ctx)?;
    // One submit after the other, so that nothing is sent twice.
    let mut claims = Vec::new();
    if !args.dry_run {
        // In one order, so that no two wait for each other.
        let paths: BTreeSet<PathBuf> =
            runs.iter().map(|run| RunDir::new(&ws, &run.name).submitting(engine.name())).collect();
        for path in paths {
            claims.push(claim(&path, engine, &ctx)?);
        }
    }
    let are_new: Vec<bool> = runs.iter().map(|run| run.is_new(&ws, engine, &args)).collect::<Result<_>>()?;
    let (mut sent, mut left_out, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
    for (run, is_new) in runs.iter().zip(are_new) {
        let record = if is_new { None } else { if_readable(Record::read(&ws, &run.name))? };
        // Without a queue to ask, the engine says so when it is to start.
        let jobs = engine.jobs(&ws, &run.name).unwrap_or_default();
        for id in models(&args, run)? {
            let model = Model { run: run.name.clone(), model: id };
            match standing(&RunDir::new(&ws, &run.name), record.as_ref(), &jobs, id)? {
                Some(why) => left_out.push(LeftOut { model, why }),
                None => {
                    tasks.push(Task { run: run.name.clone(), model: id, arguments: run.train(&ws, id, globals) });
                    sent.push(model);
                }
            }
        }
    }
    let mut report = Report {
        engine: engine.name(),
        runs: runs.iter().map(|run| run.name.clone()).collect(),
        sent,
        left_out,
        scripts: Vec::new(),
        done: Vec::new(),
    };
    let due: Vec<&Run> = due(&ws, engine, &runs, &tasks)?;
    if due.is_empty() {
        globals.print(&report, &report)?;
        return Ok(Outcome::Done);
    }
    let plan = plan(&args, globals, &ws, engine, &due, tasks, &ctx)?;
    if args.dry_run {
        report.scripts = scripts(engine, &plan)?;
    } else {
        for run in &due {
            atomic::write_bytes(&run.file, run.pipeline.to_toml()?.as_bytes())?;
        }
        report.done = engine.start(&plan, &ctx)?;
    }
    globals.print(&report, &report)?;
    Ok(Outcome::Done)
}

/// Options that wbc itself gives to sbatch, and variables of the shell that would be lost.
fn check_options(args: &Args, engine: &dyn Engine) -> Result<()> {
    if engine.name() == "local" && !args.options.is_empty() {
        return Err(Error::setting("--", "no options of sbatch with --engine local", args.options.join(" ")));
    }
    if engine.name() == "local" && args.shards > 1 {
        return Err(Error::setting("shards", "1 with --engine local: one machine needs no shards", args.shards));
    }
    if args.jobs == 0 {
        return Err(Error::setting("jobs", "at least 1", 0));
    }
    let own = ["--array", "-a", "--dependency", "-d", "--parsable", "--wrap", "--output", "-o"];
    let is_own = |option: &&String| own.iter().any(|own| *option == own || option.starts_with(&format!("{own}=")));
    if let Some(option) = args.options.iter().find(is_own) {
        return Err(Error::setting("--", "options of sbatch that wbc does not set itself", option));
    }
    let lost = ["WBC_EPOCHS", "WBC_BATCH", "WBC_LEARNING_RATE", "WBC_PRECISION", "WBC_INIT", "WBC_LOG", "WBC_RUN"];
    let lost: Vec<&str> = lost.into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
    match lost.is_empty() {
        true => Ok(()),
        false => {
            let expected = "settings of training from pipeline files alone";
            Err(Error::setting("submit", expected, format!("the variables {}", lost.join(", "))))
        }
    }
}

/// What was sent to ingest a data set.
#[derive(Serialize)]
struct Ingesting {
    dataset: String,
    shards: u32,
    /// Jobs that were sent before and are not over: nothing is sent beside them.
    queued: Option<Standing>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scripts: Vec<Script>,
    done: Vec<String>,
}

/// Sends the jobs that ingest and check a data set. Its findings are to be read before it is split, so that nothing
/// else follows.
fn ingest_in_shards(
    args: &Args,
    globals: &Globals,
    ws: &Workspace,
    engine: &dyn Engine,
    ctx: &Context,
) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    let dataset = ws.choose(globals.dataset.as_deref().or(pipeline.dataset.as_deref()), &ws.raw_datasets()?)?;
    let folder = rounds::ingest_folder(ws, &dataset, engine.name());
    // A copy: a pipeline file may be changed while jobs wait.
    let file = folder.join("pipeline.toml");
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let words = ["ingest", "--workspace", &path(&ws.root), "--dataset", &dataset, "--pipeline", &path(&file)];
    let shards = [Round::Shards; ingest::STEPS];
    let work = Sharded {
        name: "ingest".into(),
        folder,
        shards: args.shards,
        calls: vec![words.map(String::from).into()],
        rounds: [&shards[..], &[Round::Merge, Round::Shards, Round::Merge]].concat(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut settings = pipeline.slurm.clone();
    settings.cpus = settings.cpus.or(Some(globals.threads.unwrap_or(cores.min(4)) as u32));
    let plan = Plan {
        workspace: ws.clone(),
        folder: std::env::current_dir().map_err(Error::io(Path::new("."), "find"))?,
        program: std::env::current_exe().map_err(Error::io(Path::new("wbc"), "find"))?,
        runs: Vec::new(),
        prepare: Vec::new(),
        shards: args.shards,
        tasks: Vec::new(),
        report: Vec::new(),
        settings,
        parallel: args.jobs,
        threads: globals.threads,
        options: args.options.clone(),
    };
    let scripts = engine.sharded_scripts(&plan, &work)?;
    let mut report = Ingesting { dataset, shards: args.shards, queued: None, scripts: Vec::new(), done: Vec::new() };
    // One submit after the other, so that nothing is sent twice.
    let _claim = if args.dry_run { None } else { Some(claim(&work.folder.join("claim.json"), engine, ctx)?) };
    if let Some(chain) = Chain::read(ws, &report.dataset, engine.name())? {
        // Without a queue to ask, the engine says so when it is to start.
        let queue = engine.queued(&chain).unwrap_or_default();
        report.queued = Some(chain.standing(ws, &report.dataset, "ingest", Ok(queue))).filter(Standing::is_active);
    }
    if args.dry_run {
        report.scripts = scripts.into_iter().map(|(path, text)| Script { path, text }).collect();
    } else if report.queued.is_none() {
        atomic::write_bytes(&file, pipeline.to_toml()?.as_bytes())?;
        let (chain, done) = engine.start_sharded(&plan, &work)?;
        chain.write(ws, &report.dataset, engine.name())?;
        report.done = done;
    }
    globals.print(&report, &report)?;
    Ok(Outcome::Done)
}

impl fmt::Display for Ingesting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Script { path, text } in &self.scripts {
            writeln!(f, "# {}\n{text}", path.display())?;
        }
        self.done.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        if let Some(standing) = &self.queued {
            writeln!(f, "{standing}")?;
        }
        match (self.scripts.is_empty(), &self.queued) {
            (false, _) => f.write_str("nothing was sent (--dry-run)"),
            (true, None) => {
                write!(f, "When these jobs are over, read what they found: wbc check --dataset {}", self.dataset)
            }
            (true, Some(_)) => write!(
                f,
                "nothing was sent: these jobs are not over (wbc cancel --ingest --dataset {} ends them)",
                self.dataset
            ),
        }
    }
}

/// Takes the claim of a run's submission. Another process that hands jobs to a scheduler is soon done; one that runs
/// them itself is not.
fn claim(path: &Path, engine: &dyn Engine, ctx: &Context) -> Result<Claim> {
    if engine.is_soon_over() {
        return Claim::wait(path, ctx);
    }
    match Claim::take(path)? {
        Taken::Here(claim) => Ok(claim),
        Taken::Elsewhere(holder) => {
            let holder = holder.map_or("one that still runs".into(), |holder| holder.to_string());
            Err(Error::setting("run", "no other wbc submit that runs the same models", holder))
        }
    }
}

/// The runs: each pipeline with each seed.
fn runs(args: &Args, globals: &Globals, ws: &Workspace, engine: &dyn Engine, ctx: &Context) -> Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for name in &globals.pipeline {
        let of_file = Pipeline::load(name)?;
        let given: Vec<u64> = args.seeds.iter().copied().chain(globals.seed).collect();
        let seeds = if given.is_empty() { vec![of_file.seed] } else { given };
        for seed in seeds {
            let mut pipeline = Pipeline { seed, ..of_file.clone() };
            pipeline.validate()?;
            let dataset = match args.datasets.as_slice() {
                [] => globals.one_dataset(&pipeline)?,
                members => joint(ws, members, &mut pipeline, ctx)?,
            };
            let splits = split::read(ws, &dataset)?;
            if pipeline.split != splits.settings {
                say(format_args!(
                    "wbc: the split has {}, the pipeline {name} {}: the split is used as it is",
                    splits.settings, pipeline.split
                ));
                pipeline.split = splits.settings.clone();
            }
            let name = run_name(&dataset, &pipeline, of_file.seed);
            if runs.iter().any(|run| run.name == name) {
                return Err(Error::setting("pipeline", "pipelines and seeds that make different runs", name));
            }
            let dir = RunDir::new(ws, &name);
            let file = dir.jobs(engine.name()).join("pipeline.toml");
            runs.push(Run { name, dataset, pipeline, splits, file });
        }
    }
    Ok(runs)
}

impl Run {
    /// Whether nothing is kept of an existing run of the name. Checks that it is this one, and that its jobs are;
    /// deletes another run, if the user wants that (with --dry-run, says that nothing would be kept).
    fn is_new(&self, ws: &Workspace, engine: &dyn Engine, args: &Args) -> Result<bool> {
        let dir = RunDir::new(ws, &self.name);
        let json = |pipeline: &Pipeline| {
            serde_json::json!({ "train": pipeline.train, "preprocess": pipeline.preprocess, "split": pipeline.split,
                                "features": pipeline.features, "seed": pipeline.seed })
        };
        if let Ok(sent) = Pipeline::load(&self.file.to_string_lossy())
            && json(&sent) != json(&self.pipeline)
            && !engine.jobs(ws, &self.name).unwrap_or_default().is_empty()
        {
            let differing = train::differing(&json(&sent), &json(&self.pipeline)).join(", ");
            let expected = format!("the settings of the jobs that wait (or wbc cancel {} first)", self.name);
            return Err(Error::setting("pipeline", expected, format!("others: {differing}")));
        }
        if !dir.record().exists() {
            return Ok(true);
        }
        let pipeline = &self.pipeline;
        let is_same = |record: &Record| {
            let read = match &pipeline.train {
                Recipe::Network(_) => record.preprocess.as_ref() == Some(&pipeline.preprocess),
                Recipe::Classical(_) => record.features.as_ref() == Some(&pipeline.features),
            };
            read && record.recipe == pipeline.train && record.seed == pipeline.seed && record.dataset == self.dataset
        };
        let record = if_readable(Record::read(ws, &self.name))?;
        if record.as_ref().is_some_and(is_same) {
            return Ok(false);
        }
        if args.restart {
            if !args.dry_run {
                self.remove(&dir, engine)?;
            }
            return Ok(true);
        }
        let expected = format!("{} to hold the same experiment (or --restart, to delete it)", dir.path().display());
        let old = record.map(|record| json(&Pipeline { split: pipeline.split.clone(), ..Pipeline::of_run(&record) }));
        let differing = old.map_or(Vec::new(), |old| train::differing(&old, &json(pipeline)));
        Err(Error::setting("run", expected, format!("a run with other settings: {}", differing.join(", "))))
    }

    /// Deletes the run, but for the claim of this process.
    fn remove(&self, dir: &RunDir, engine: &dyn Engine) -> Result<()> {
        let (claim, kept) =
            (dir.submitting(engine.name()), dir.path().with_file_name(format!(".{}.submitting", self.name)));
        std::fs::rename(&claim, &kept).map_err(Error::io(&claim, "rename"))?;
        let removed = train::remove(dir);
        let folder = dir.jobs(engine.name());
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        std::fs::rename(&kept, &claim).map_err(Error::io(&kept, "rename"))?;
        removed
    }

    fn of_dataset(&self, command: &str, ws: &Workspace) -> Arguments {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let words = ["--workspace", &path(&ws.root), "--dataset", &self.dataset, "--pipeline", &path(&self.file)];
        std::iter::once(command).chain(words).map(String::from).collect()
    }

    /// The call that trains a model.
    fn train(&self, ws: &Workspace, id: ModelId, globals: &Globals) -> Arguments {
        let mut words = self.of_dataset("train", ws);
        words.extend(["--run".into(), self.name.clone()]);
        match id {
            ModelId::Fold(fold) => words.extend(["--fold".into(), fold.to_string()]),
            ModelId::All => words.push("--all".into()),
        }
        if globals.device != Device::Cpu {
            words.extend(["--device".into(), globals.device.to_string()]);
        }
        words
    }
}

/// The models of a run that are to be trained.
fn models(args: &Args, run: &Run) -> Result<Vec<ModelId>> {
    let folds = run.splits.folds;
    if let Some(wrong) = args.fold.iter().find(|fold| **fold >= folds) {
        return Err(Error::setting("fold", format!("0 to {}", folds - 1), wrong));
    }
    Ok(match (args.all, args.fold.is_empty()) {
        (true, _) => vec![ModelId::All],
        (_, true) => (0..folds).map(ModelId::Fold).collect(),
        _ => args.fold.iter().copied().collect::<BTreeSet<u32>>().into_iter().map(ModelId::Fold).collect(),
    })
}

/// Why a model of the run in `dir` need not be sent; `jobs` are those of the run that are not over.
fn standing(dir: &RunDir, record: Option<&Record>, jobs: &BTreeMap<ModelId, Job>, id: ModelId) -> Result<Option<Why>> {
    if let Some(record) = record
        && let Some(true) = if_readable(run::is_finished(dir, record, id, &record.hash()))?
    {
        return Ok(Some(Why::Finished));
    }
    // A claim that cannot be read does not keep the others from being sent; its own job will say so.
    if claim::living(&dir.claim(id)).is_ok_and(|holder| holder.is_some()) {
        return Ok(Some(Why::Running));
    }
    Ok(jobs.get(&id).map(|job| if job.is_running { Why::Running } else { Why::Queued }))
}

/// The runs that have models to train, or that are finished and have no report yet.
fn due<'a>(ws: &Workspace, engine: &dyn Engine, runs: &'a [Run], tasks: &[Task]) -> Result<Vec<&'a Run>> {
    let mut due = Vec::new();
    for run in runs {
        let has_tasks = tasks.iter().any(|task| task.run == run.name);
        let is_reported =
            || -> Result<bool> { Ok(jobs::is_reported(ws, &run.name, engine) || engine.is_reporting(ws, &run.name)?) };
        if has_tasks || !is_reported()? {
            due.push(run);
        }
    }
    Ok(due)
}

fn plan(
    args: &Args,
    globals: &Globals,
    ws: &Workspace,
    engine: &dyn Engine,
    runs: &[&Run],
    tasks: Vec<Task>,
    ctx: &Context,
) -> Result<Plan> {
    let folder = std::env::current_dir().map_err(Error::io(Path::new("."), "find"))?;
    let program = std::env::current_exe().map_err(Error::io(Path::new("wbc"), "find"))?;
    let (mut prepare, mut report) = (Vec::new(), Vec::new());
    for run in runs {
        let Run { dataset, pipeline, .. } = run;
        let members = join::members(ws, dataset);
        if args.shards > 1 && !members.is_empty() {
            let expected = format!("1 with a joint data set, or {} preprocessed in shards before", members.join(", "));
            return Err(Error::setting("shards", expected, args.shards));
        }
        let (command, is_current) = match &pipeline.train {
            Recipe::Network(_) => ("preprocess", preprocess::is_current(ws, dataset, &pipeline.preprocess)?),
            Recipe::Classical(_) => ("features", features::is_current(ws, dataset, &pipeline.features)?),
        };
        if !is_current && tasks.iter().any(|task| task.run == run.name) {
            prepare.push(run.of_dataset(command, ws));
        }
        if args.all {
            continue;
        }
        let mut gather = run.of_dataset("train", ws);
        gather.extend(["--run".into(), run.name.clone(), "--gather".into()]);
        let mut tables = run.of_dataset("report", ws);
        let reports = args.reports.join(&run.name).to_string_lossy().into_owned();
        tables.extend(["--run".into(), run.name.clone(), "--reports".into(), reports]);
        tables.extend(["--all".into(), "--html".into()]);
        report.extend([gather, tables]);
    }
    let mut settings =
        runs.iter().try_fold(jobs::Settings::default(), |settings, run| settings.merged(&run.pipeline.slurm))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if engine.name() == "slurm" {
        settings.cpus = settings.cpus.or(Some(globals.threads.unwrap_or(cores.min(4)) as u32));
        settings.gpus = settings.gpus.or(globals.device.ordinal().map(|_| 1));
        let gives = |names: [&str; 2]| {
            args.options.iter().any(|option| names.iter().any(|n| option == n || option.starts_with(&format!("{n}="))))
        };
        let needs_time = settings.time.is_none() && !gives(["--time", "-t"]) && !tasks.is_empty();
        let needs_memory = settings.memory.is_none() && !gives(["--mem", "--mem-per-cpu"]) && !tasks.is_empty();
        if needs_time {
            let minutes = minutes(runs, globals.device, ctx)?;
            say(format_args!(
                "time limit of a job: {minutes} minutes, three times what this machine would take, and at least \
                     30 (slurm.time of the pipeline sets it)"
            ));
            settings.time = Some(minutes.to_string());
        }
        settings.memory = settings.memory.or(needs_memory.then(|| format!("{}M", megabytes(runs))));
    }
    let threads = globals.threads.or((args.jobs > 1).then(|| (cores / args.jobs).max(1)));
    Ok(Plan {
        workspace: ws.clone(),
        folder,
        program,
        runs: runs.iter().map(|run| run.name.clone()).collect(),
        prepare,
        shards: args.shards,
        tasks,
        report,
        settings,
        parallel: args.jobs,
        threads,
        options: args.options.clone(),
    })
}

/// Time limit of the longest task, minutes: three times what this machine would take, as the nodes may be slower, and
/// at least half an hour.
fn minutes(runs: &[&Run], device: Device, ctx: &Context) -> Result<u64> {
    /// Of a classical classifier, which cannot be measured without fitting it.
    const CLASSICAL_MINUTES: f64 = 240.0;
    let mut minutes = 30.0_f64;
    let mut measured: Vec<(&NetworkSettings, u32, f64)> = Vec::new();
    for run in runs {
        let (size, images) = (run.pipeline.preprocess.size_px, run.splits.images().count() as u64);
        let Recipe::Network(settings) = &run.pipeline.train else {
            minutes = minutes.max(CLASSICAL_MINUTES);
            continue;
        };
        let known = measured.iter().find(|(known, px, _)| {
            let of = |s: &NetworkSettings| (s.model.clone(), s.batch, s.optimiser, s.precision);
            *px == size && of(known) == of(settings)
        });
        let step = match known {
            Some((_, _, step)) => *step,
            None => {
                ctx.progress.log(&format!("measuring a training step of {}, for the time limit", run.pipeline.name));
                let step = bench::step_seconds(settings, size as usize, 5, device, ctx)?;
                measured.push((settings, size, step));
                step
            }
        };
        let steps = (images * u64::from(settings.epochs)) as f64 / settings.batch as f64;
        minutes = minutes.max(3.0 * steps * step / 60.0);
    }
    Ok(minutes.ceil() as u64)
}

/// Memory of the largest task, megabytes.
fn megabytes(runs: &[&Run]) -> u64 {
    let of_run = |run: &&Run| {
        let Recipe::Network(settings) = &run.pipeline.train else { return 2000 };
        let pixels = u64::from(run.pipeline.preprocess.size_px).pow(2);
        let tensors = run.splits.images().count() as u64 * pixels * 3;
        // Of every pixel of a batch, a network keeps up to 2 kB until the backward pass.
        1500 + (tensors + 2000 * settings.batch as u64 * pixels) / 1_000_000
    };
    runs.iter().map(of_run).max().unwrap_or(0).max(2000)
}

/// What would be sent: the scripts of the engine, or else the calls of wbc.
fn scripts(engine: &dyn Engine, plan: &Plan) -> Result<Vec<Script>> {
    let scripts = engine.scripts(plan)?;
    if !scripts.is_empty() {
        return Ok(scripts.into_iter().map(|(path, text)| Script { path, text }).collect());
    }
    let calls = plan.prepare.iter().chain(plan.tasks.iter().map(|task| &task.arguments)).chain(&plan.report);
    let text: String = calls.map(|words| format!("wbc {}\n", words.join(" "))).collect();
    Ok(vec![Script { path: plan.program.clone(), text }])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Script { path, text } in &self.scripts {
            writeln!(f, "# {}\n{text}", path.display())?;
        }
        for line in &self.done {
            writeln!(f, "{line}")?;
        }
        for run in &self.runs {
            write!(f, "{run}:")?;
            let sent: Vec<String> =
                self.sent.iter().filter(|model| model.run == *run).map(|model| model.model.to_string()).collect();
            let mut parts = Vec::new();
            if !sent.is_empty() {
                let verb = match (self.scripts.is_empty(), self.engine) {
                    (false, _) => "would be sent",
                    (_, "local") => "trained",
                    _ => "sent",
                };
                parts.push(format!("{verb}: {}", text::listed(sent.iter().map(String::as_str))));
            }
            for (why, name) in [(Why::Finished, "finished"), (Why::Running, "running"), (Why::Queued, "queued")] {
                let of = self.left_out.iter().filter(|out| out.model.run == *run && out.why == why);
                let of: Vec<String> = of.map(|out| out.model.model.to_string()).collect();
                if !of.is_empty() {
                    parts.push(format!("{name}: {}", text::listed(of.iter().map(String::as_str))));
                }
            }
            writeln!(f, " {}", parts.join("; "))?;
        }
        f.write_str(match (self.done.is_empty(), self.scripts.is_empty()) {
            (false, _) if self.engine == "local" => "reports are in a folder for each run",
            (false, _) => "wbc status shows where they stand",
            (_, false) => "nothing was sent (--dry-run)",
            _ => "nothing to send",
        })
    }
}
