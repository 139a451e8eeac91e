//! `wbc doctor`: what there is, and what is wrong.

use super::{Globals, Outcome};
use crate::fetch::bytes_text;
use crate::nn::kernel::Vector;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use sysinfo::System;

/// Shows the machine (processor, vectors, memory, GPU), how wbc was built, the workspace and the variables that are set,
/// and says what would keep it from working. Changes nothing; needs no workspace. Exit status 1 where something is wrong.
#[derive(clap::Args)]
pub struct Args {}

/// What training the default recipe needs, with room for the system: W-Net on 6,000 images takes 0.75 GB.
const MEMORY_BYTES: u64 = 1_000_000_000;
/// What a data set's pictures, a run and its checkpoints take, with room to write beside.
const DISK_BYTES: u64 = 2_000_000_000;

#[derive(Serialize)]
struct Report {
    build: Build,
    machine: Machine,
    gpu: Gpu,
    workspace: Place,
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
    /// Of the processor; none where the system does not say.
    cores: Option<usize>,
    /// That wbc works with.
    threads: usize,
    /// Vector instructions that the kernels take.
    vectors: &'static str,
    memory_bytes: u64,
    memory_available_bytes: u64,
}

#[derive(Serialize)]
struct Gpu {
    /// A line a device: name, memory, driver.
    devices: Vec<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct Place {
    path: PathBuf,
    exists: bool,
    writable: bool,
    /// None where the system does not say.
    free_bytes: Option<u64>,
    datasets: Vec<Dataset>,
    runs: Vec<String>,
}

#[derive(Serialize)]
struct Dataset {
    name: String,
    /// What there is of it: raw, ingested, split, preprocessed, measured.
    has: Vec<&'static str>,
}

#[derive(Serialize)]
struct Finding {
    what: String,
    hint: String,
}

pub fn run(_: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut findings = Vec::new();
    let mut found = |what: String, hint: &str| findings.push(Finding { what, hint: hint.into() });
    let machine = machine();
    if machine.memory_available_bytes < MEMORY_BYTES {
        let what = format!("{} of memory are available", bytes_text(machine.memory_available_bytes));
        found(what, "Training wants 1 GB for W-Net, more for ResNet50: end other programs");
    }
    let gpu = gpu();
    if let (true, Some(message)) = (cfg!(feature = "cuda"), &gpu.message) {
        found(format!("wbc was built for CUDA, and {message}"), "Install NVIDIA's driver, or train with --device cpu");
    }
    let (workspace, error) = place(&globals.workspace());
    if let Some(error) = error {
        found(format!("{}: {error}", workspace.path.display()), "Name a folder that you may write to: --workspace DIR");
    }
    if let Some(free) = workspace.free_bytes.filter(|free| workspace.writable && *free < DISK_BYTES) {
        let what = format!("{}: {} of disk are free", workspace.path.display(), bytes_text(free));
        found(what, "Tensors, checkpoints and downloads want 2 GB and more: make room, or use another disk");
    }
    let known = variables_read();
    let is_ours = |name: &str| name.starts_with("WBC_");
    let set = std::env::vars_os().map(|(n, v)| (n.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()));
    let variables: BTreeMap<String, String> = set.filter(|(name, _)| is_ours(name)).collect();
    for name in variables.keys().filter(|name| !known.contains(*name)) {
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        found(format!("the variable {name} is set, and nothing reads it"), &format!("Known: {}", names.join(", ")));
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

/// Every variable that a flag of any command reads.
fn variables_read() -> BTreeSet<String> {
    let cli = super::cli();
    let commands = std::iter::once(&cli).chain(cli.get_subcommands());
    let variables = commands.flat_map(|c| c.get_arguments()).filter_map(|a| a.get_env());
    variables.map(|v| v.to_string_lossy().into_owned()).collect()
}

fn machine() -> Machine {
    let mut system = System::new();
    system.refresh_memory();
    system.refresh_cpu_all();
    // In a container, its limit counts.
    let limits = system.cgroup_limits();
    let (total, available) = (system.total_memory(), system.available_memory());
    Machine {
        system: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.into()),
        architecture: std::env::consts::ARCH,
        processor: system.cpus().first().map_or(String::new(), |cpu| cpu.brand().trim().into()),
        cores: System::physical_core_count(),
        threads: rayon::current_num_threads(),
        vectors: Vector::detect().name(),
        memory_bytes: limits.as_ref().map_or(total, |l| l.total_memory.min(total)),
        memory_available_bytes: limits.as_ref().map_or(available, |l| l.free_memory.min(available)),
    }
}

/// What `nvidia-smi` says, within five seconds.
fn gpu() -> Gpu {
    let none = |message: String| Gpu { devices: Vec::new(), message: Some(message) };
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]);
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return none("there is no nvidia-smi".into()),
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

/// The workspace, and why it cannot be written to.
fn place(ws: &Workspace) -> (Place, Option<String>) {
    let root = &ws.root;
    // Where it would be made, if it is not there.
    let there = root.ancestors().map(|a| if a == Path::new("") { Path::new(".") } else { a }).find(|a| a.exists());
    let there = there.unwrap_or(Path::new("."));
    let error = match there {
        there if !there.is_dir() => Some(format!("expected a folder, found a file ({})", there.display())),
        // A file that has no name, or goes at once.
        there => tempfile::tempfile_in(there).err().map(|e| format!("cannot be written to: {e}")),
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
    let runs = subfolders(&ws.runs()).into_iter().filter(|run| ws.run(run).join("run.json").is_file());
    let place = Place {
        path: root.clone(),
        exists: root.is_dir(),
        writable: error.is_none(),
        free_bytes: free_bytes(there),
        datasets: datasets.collect(),
        runs: runs.collect(),
    };
    (place, error)
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
        let (total, available) = (bytes_text(m.memory_bytes), bytes_text(m.memory_available_bytes));
        writeln!(f, "memory     {total}, {available} available")?;
        match &gpu.message {
            Some(message) => writeln!(f, "GPU        none: {message}")?,
            None => writeln!(f, "GPU        {}", gpu.devices.join("\n           "))?,
        }
        let state = match (w.exists, w.writable) {
            (true, true) => "writable",
            (false, true) => "not there yet, can be made",
            (_, false) => "not writable",
        };
        let free = w.free_bytes.map_or(String::new(), |free| format!(", {} free", bytes_text(free)));
        writeln!(f, "workspace  {} ({state}{free})", w.path.display())?;
        for d in &w.datasets {
            writeln!(f, "           {}: {}", d.name, d.has.join(", "))?;
        }
        if !w.runs.is_empty() {
            writeln!(f, "           {} runs: {}", w.runs.len(), w.runs.join(", "))?;
        }
        for (name, value) in &self.variables {
            writeln!(f, "variable   {name}={value}")?;
        }
        match &self.findings[..] {
            [] => write!(f, "Nothing is wrong."),
            findings => {
                for (i, Finding { what, hint }) in findings.iter().enumerate() {
                    write!(f, "{}{what}. {hint}", if i == 0 { "Wrong: " } else { "\n       " })?;
                }
                Ok(())
            }
        }
    }
}
