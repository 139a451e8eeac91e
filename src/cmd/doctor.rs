//! `wbc doctor`: a report on the machine, the workspace and the settings.

use super::{Globals, Outcome};
use crate::atomic;
use crate::fetch::bytes_text;
use crate::nn::{Precision, Vector};
use crate::run::RunDir;
use crate::text;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use sysinfo::System;

/// Reports the machine (processor, vector instructions, memory, GPU), the build, the workspace and the environment
/// variables, and lists problems that would keep wbc from working. It changes nothing and needs no workspace. Exit
/// status 1 if there are problems.
#[derive(clap::Args)]
pub struct Args {}

/// Memory that training needs: W-Net on 6,000 images takes 0.75 GB.
const MEMORY_BYTES: u64 = 1_000_000_000;
/// Disk space for the tensors of a data set, a run and its checkpoints.
const DISK_BYTES: u64 = 2_000_000_000;

#[derive(Serialize)]
struct Report {
    build: Build,
    machine: Machine,
    gpu: Gpu,
    workspace: WorkspaceReport,
    /// The `WBC_*` variables that are set.
    variables: BTreeMap<String, String>,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Build {
    wbc: &'static str,
    rustc: &'static str,
    dfdx: &'static str,
    polars: &'static str,
    /// Built with `--features cuda`.
    cuda: bool,
}

#[derive(Serialize)]
struct Machine {
    system: String,
    architecture: &'static str,
    processor: String,
    /// Physical cores, where known.
    cores: Option<usize>,
    /// Threads that wbc uses.
    threads: usize,
    /// Vector instructions that the kernels use.
    vectors: &'static str,
    /// Its instructions for bf16, if it has any.
    bf16: Option<&'static str>,
    memory_bytes: u64,
    memory_available_bytes: u64,
}

#[derive(Serialize)]
struct Gpu {
    /// One line per device: name, memory, driver.
    devices: Vec<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct WorkspaceReport {
    path: PathBuf,
    exists: bool,
    writable: bool,
    /// Where known.
    free_bytes: Option<u64>,
    datasets: Vec<Dataset>,
    runs: Vec<String>,
}

#[derive(Serialize)]
struct Dataset {
    name: String,
    /// Its stages that are done: raw, ingested, split, preprocessed, measured.
    has: Vec<&'static str>,
}

#[derive(Serialize)]
struct Finding {
    what: String,
    hint: String,
}

pub fn run(_: Args, globals: &Globals, cli: &clap::Command) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    let mut add = |what: String, hint: &str| findings.push(Finding { what, hint: hint.into() });
    let machine = machine();
    if machine.memory_available_bytes < MEMORY_BYTES {
        let what = format!("only {} of memory are available", bytes_text(machine.memory_available_bytes));
        add(what, "Training needs 1 GB for W-Net and more for ResNet50: close other programs");
    }
    let gpu = gpu();
    #[cfg(feature = "cuda")]
    if let Err(why) = crate::nn::cuda::driver::check(globals.device.ordinal().unwrap_or(0)) {
        let hint = "Install the NVIDIA driver and the CUDA toolkit's cuBLAS, or train with --device cpu";
        add(format!("wbc was built for CUDA, but cannot use a GPU: {why}"), hint);
    }
    let (workspace, error) = inspect(&globals.workspace());
    if let Some(error) = error {
        add(format!("{}: {error}", workspace.path.display()), "Choose a writable folder: --workspace DIR");
    }
    let (temporary, damaged) = leftovers(&globals.workspace());
    if let [first, ..] = &temporary[..] {
        let number = text::of(temporary.len() as u64, "temporary file");
        let what = format!("{number} of stopped commands, such as {}", first.display());
        add(what, "The next command that writes there removes them; they can also be deleted now");
    }
    if let [first, ..] = &damaged[..] {
        let number = text::of(damaged.len() as u64, "file");
        let what = format!("{number} set aside because of damage, such as {}", first.display());
        add(what, "Check the disk. What they held was computed again: they can be deleted");
    }
    if let Some(free) = workspace.free_bytes.filter(|free| workspace.writable && *free < DISK_BYTES) {
        let what = format!("{}: only {} of disk space are free", workspace.path.display(), bytes_text(free));
        add(what, "Tensors, checkpoints and downloads need 2 GB or more: free some space, or use another disk");
    }
    let known = known_variables(cli);
    let is_ours = |name: &str| name.starts_with("WBC_");
    let set = std::env::vars_os().map(|(n, v)| (n.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()));
    let variables: BTreeMap<String, String> = set.filter(|(name, _)| is_ours(name)).collect();
    for name in variables.keys().filter(|name| !known.contains(*name)) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        add(format!("the variable {name} is set, but wbc does not read it"), &format!("Known: {}", names.join(", ")));
    }
    let build = Build {
        wbc: env!("CARGO_PKG_VERSION"),
        rustc: env!("BUILT_BY"),
        dfdx: env!("VERSION_OF_DFDX"),
        polars: env!("VERSION_OF_POLARS"),
        cuda: cfg!(feature = "cuda"),
    };
    let report = Report { build, machine, gpu, workspace, variables, findings };
    globals.print(&report, &report)?;
    Ok(if report.findings.is_empty() { Outcome::Done } else { Outcome::Findings })
}

/// The environment variables of all options of all commands.
fn known_variables(cli: &clap::Command) -> BTreeSet<String> {
    let commands = std::iter::once(cli).chain(cli.get_subcommands());
    let variables = commands.flat_map(|c| c.get_arguments()).filter_map(|a| a.get_env());
    variables.map(|v| v.to_string_lossy().into_owned()).collect()
}

fn machine() -> Machine {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_all();
    // A container has limits of its own.
    let limits = system.cgroup_limits();
    let (total, available) = (system.total_memory(), system.available_memory());
    Machine {
        system: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into()),
        architecture: std::env::consts::ARCH,
        processor: system.cpus().first().map_or(String::new(), |cpu| cpu.brand().trim().into()),
        cores: System::physical_core_count(),
        threads: rayon::current_num_threads(),
        vectors: Vector::detect().name(),
        bf16: Precision::bf16_instructions(),
        memory_bytes: limits.as_ref().map_or(total, |l| l.total_memory.min(total)),
        memory_available_bytes: limits.as_ref().map_or(available, |l| l.free_memory.min(available)),
    }
}

/// The devices that `nvidia-smi` lists within five seconds.
fn gpu() -> Gpu {
    let none = |message: String| Gpu { devices: Vec::new(), message: Some(message) };
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return none("nvidia-smi is not installed".into());
        }
        Err(error) => return none(format!("nvidia-smi cannot be run: {error}")),
    };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        match child.try_wait() {
            Ok(Some(_)) => {
                let output = match child.wait_with_output() {
                    Ok(output) => output,
                    Err(error) => return none(format!("nvidia-smi cannot be read: {error}")),
                };
                let text = String::from_utf8_lossy(&output.stdout);
                let lines: Vec<String> =
                    text.lines().map(|l| l.trim().into()).filter(|l: &String| !l.is_empty()).collect();
                return match output.status.success() {
                    true if lines.is_empty() => none("nvidia-smi finds no device".into()),
                    true => Gpu { devices: lines, message: None },
                    false => none(format!("nvidia-smi fails: {}", lines.first().map_or("no reason given", |l| l))),
                };
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return none(format!("nvidia-smi cannot be waited for: {error}")),
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    none("nvidia-smi does not answer".into())
}

/// The state of the workspace, and why it cannot be written to.
fn inspect(ws: &Workspace) -> (WorkspaceReport, Option<String>) {
    let root = &ws.root;
    // The folder itself, or the existing one that it would be created in.
    let existing = root.ancestors().map(|a| if a == Path::new("") { Path::new(".") } else { a }).find(|a| a.exists());
    let existing = existing.unwrap_or(Path::new("."));
    let error = match existing.is_dir() {
        false => Some(format!("expected a folder, found a file ({})", existing.display())),
        true => tempfile::tempfile_in(existing).err().map(|e| format!("not writable: {e}")),
    };
    let names = |listed: crate::error::Result<Vec<String>>| listed.unwrap_or_default();
    let (raw, ingested) = (names(ws.raw_datasets()), names(ws.ingested_datasets()));
    let all: BTreeSet<&String> = raw.iter().chain(&ingested).collect();
    let datasets = all.into_iter().map(|name| {
        let preprocessed = subfolders(&root.join(name)).iter().any(|f| f.starts_with("tensors-"));
        let has = [
            ("raw", raw.contains(name)),
            ("ingested", ingested.contains(name)),
            ("split", ws.splits(name).is_file()),
            ("preprocessed", preprocessed),
            ("measured", ws.features(name).is_file()),
        ];
        Dataset { name: name.clone(), has: has.into_iter().filter(|(_, has)| *has).map(|(what, _)| what).collect() }
    });
    let runs = subfolders(&ws.runs()).into_iter().filter(|run| RunDir::new(ws, run).record().is_file());
    let report = WorkspaceReport {
        path: root.clone(),
        exists: root.is_dir(),
        writable: error.is_none(),
        free_bytes: free_bytes(existing),
        datasets: datasets.collect(),
        runs: runs.collect(),
    };
    (report, error)
}

/// The temporary files and folders that stopped commands left, and the files that were set aside because of damage.
fn leftovers(ws: &Workspace) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut temporary, mut damaged) = (Vec::new(), Vec::new());
    // The files of a data set are not wbc's.
    let is_raw = |entry: &walkdir::DirEntry| entry.depth() == 2 && entry.path().starts_with(ws.raw());
    let is_temporary =
        |entry: &walkdir::DirEntry| entry.depth() > 0 && entry.file_name().to_string_lossy().starts_with(".");
    let folders = walkdir::WalkDir::new(&ws.root).sort_by_file_name().into_iter();
    for entry in folders.filter_entry(|entry| !is_raw(entry) && !is_temporary(entry)).flatten() {
        if entry.file_type().is_dir() {
            temporary.extend(atomic::abandoned(entry.path()));
        } else if entry.path().extension().is_some_and(|extension| extension == "damaged") {
            damaged.push(entry.into_path());
        }
    }
    (temporary, damaged)
}

/// Names of the folders in a folder, sorted.
fn subfolders(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    rustix::fs::statvfs(dir).ok().map(|disk| disk.f_bavail * disk.f_frsize)
}
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { build: b, machine: m, gpu, workspace: w, .. } = self;
        let cuda = if b.cuda { "with CUDA" } else { "without CUDA" };
        writeln!(f, "wbc        {}, {cuda}; {}; dfdx {}, polars {}", b.wbc, b.rustc, b.dfdx, b.polars)?;
        writeln!(f, "system     {}, {}", m.system, m.architecture)?;
        let cores = m.cores.map_or(String::new(), |n| format!("{n} cores, "));
        writeln!(f, "processor  {}; {cores}{} threads used, {} vectors", m.processor, m.threads, m.vectors)?;
        match m.bf16 {
            Some(unit) => writeln!(f, "bf16       by {unit}: train.precision = \"bf16\" is faster than f32")?,
            None => writeln!(f, "bf16       this processor has no instructions for it: f32 is faster")?,
        }
        let (total, available) = (bytes_text(m.memory_bytes), bytes_text(m.memory_available_bytes));
        writeln!(f, "memory     {total}, {available} available")?;
        match &gpu.message {
            Some(message) => writeln!(f, "GPU        none: {message}")?,
            None => writeln!(f, "GPU        {}", gpu.devices.join("\n           "))?,
        }
        let state = match (w.exists, w.writable) {
            (true, true) => "writable",
            (false, true) => "does not exist yet, can be created",
            (_, false) => "not writable",
        };
        let free = w.free_bytes.map_or(String::new(), |free| format!(", {} free", bytes_text(free)));
        writeln!(f, "workspace  {} ({state}{free})", w.path.display())?;
        for d in &w.datasets {
            writeln!(f, "           {}: {}", d.name, d.has.join(", "))?;
        }
        if !w.runs.is_empty() {
            writeln!(f, "           runs: {}", w.runs.join(", "))?;
        }
        for (name, value) in &self.variables {
            writeln!(f, "variable   {name}={value}")?;
        }
        match &self.findings[..] {
            [] => write!(f, "No problems found."),
            findings => {
                for (i, Finding { what, hint }) in findings.iter().enumerate() {
                    write!(f, "{}{what}. {hint}", if i == 0 { "Problems: " } else { "\n          " })?;
                }
                Ok(())
            }
        }
    }
}
