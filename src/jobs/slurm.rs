//! Slurm: scripts for `sbatch`. What is queued is asked of `squeue`, and how jobs ended of `sacct`; which job trains
//! which model is kept in the runs' folders.

use super::job::Job;
use super::plan::{Engine, Plan};
use super::rounds::{self, Chain, Link, Round, Sharded};
use super::script;
use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{ModelId, RunDir};
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Slurm.
pub struct Slurm;

/// The jobs that were sent for a run: `jobs.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    /// The last job of each model, as Slurm writes it: `123_4`.
    models: BTreeMap<String, String>,
    /// The last jobs that prepare.
    prepare: Option<Chain>,
    /// The jobs that make reports.
    #[serde(default)]
    reports: Vec<String>,
}

fn sent_path(ws: &Workspace, run: &str) -> PathBuf {
    RunDir::new(ws, run).jobs(Slurm.name()).join("jobs.json")
}

impl Sent {
    /// The jobs that prepare and report.
    fn shared(&self) -> impl Iterator<Item = &String> {
        self.prepare.iter().flat_map(|chain| &chain.jobs).map(|link| &link.job).chain(&self.reports)
    }

    /// Those of a run; none where nothing was sent.
    fn read(ws: &Workspace, run: &str) -> Result<Self> {
        let path = sent_path(ws, run);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io(&path, "read")(error)),
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|e| Error::format(&path, "jobs", "those that wbc submit wrote", e)),
        }
    }

    fn write(&self, ws: &Workspace, run: &str) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain data") + "\n";
        atomic::write_bytes(&sent_path(ws, run), text.as_bytes())
    }
}

/// Runs a command of Slurm; returns what it printed.
fn call(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |message: String| Error::Compute { what: name.clone(), message };
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            failed("not found: Slurm is not installed here. --engine local trains on this machine".into())
        }
        _ => failed(error.to_string()),
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(failed(text(&output.stderr))),
    }
}

/// The jobs of this user that are not over, by what Slurm calls them.
fn queue() -> Result<BTreeMap<String, Job>> {
    let text = call(Command::new("squeue").args(["--me", "--noheader", "--array", "--format", "%i|%T|%r"]))?;
    Ok(text.lines().filter_map(queued).map(|job| (job.id.clone(), job)).collect())
}

/// A line of `squeue`: job, state, reason.
fn queued(line: &str) -> Option<Job> {
    let mut parts = line.trim().splitn(3, '|');
    let (id, state, reason) = (parts.next()?, parts.next()?, parts.next()?);
    let is_running = ["RUNNING", "COMPLETING", "SUSPENDED", "STOPPED"].contains(&state);
    let reason = (!is_running && reason != "None").then(|| reason.to_string());
    Some(Job { id: id.into(), is_running, reason })
}

/// A line of `sacct`: job, and the state in which it ended, without who cancelled it; none for one that did not fail.
fn accounted(line: &str) -> Option<(&str, &str)> {
    let (id, state) = line.trim().split_once('|')?;
    let state = state.split(' ').next()?;
    (!["", "COMPLETED", "RUNNING", "PENDING"].contains(&state)).then_some((id, state))
}

/// A folder, from the workspace: that may be moved.
fn in_workspace(plan: &Plan, folder: &Path) -> PathBuf {
    folder.strip_prefix(&plan.workspace.root).unwrap_or(folder).into()
}

/// The options of a job that starts only if another has done its work.
fn after_success(before: &Link) -> Vec<String> {
    vec![format!("--dependency=afterok:{}", before.job), "--kill-on-invalid-dep=yes".into()]
}

/// A value of an `#SBATCH` line.
fn value(text: &str) -> String {
    let is_plain = !text.contains(|c: char| c.is_whitespace() || "\"'#".contains(c));
    if is_plain { text.into() } else { format!("\"{}\"", text.replace('"', "\\\"")) }
}

/// A path as the pattern of a log; `name` is one.
fn pattern(folder: &Path, name: &str) -> String {
    value(&format!("{}/{name}", folder.to_string_lossy().replace('%', "%%")))
}

impl Slurm {
    fn folder(&self, plan: &Plan) -> PathBuf {
        plan.jobs(&plan.runs[0], self)
    }

    /// The lines of a script's head that all jobs of a run have.
    fn lines(&self, plan: &Plan, job: &str, log: &str) -> Vec<String> {
        self.lines_in(plan, &format!("{job}-{}", plan.runs[0]), &self.folder(plan), log)
    }

    /// The lines of a script's head that all jobs have. Logs are in `folder`.
    fn lines_in(&self, plan: &Plan, job: &str, folder: &Path, log: &str) -> Vec<String> {
        let settings = &plan.settings;
        let mut lines = vec![
            format!("--job-name={}", value(&format!("wbc-{job}"))),
            format!("--output={}", pattern(folder, log)),
            format!("--chdir={}", value(&plan.folder.to_string_lossy())),
        ];
        let named = [("partition", &settings.partition), ("account", &settings.account)];
        lines.extend(named.iter().filter_map(|(key, word)| Some(format!("--{key}={}", word.as_ref()?))));
        lines
    }

    /// The scripts that prepare, train and report, where there is something to do.
    fn texts(&self, plan: &Plan) -> [Option<(PathBuf, String)>; 3] {
        let settings = &plan.settings;
        let folder = self.folder(plan);
        let place = |name: &str, text: String| Some((folder.join(name), text));
        let cpus = settings.cpus.map(|n| format!("--cpus-per-task={n}"));
        let memory = settings.memory.as_ref().map(|memory| format!("--mem={memory}"));
        let is_whole = plan.prepared_in_shards(self).is_none();
        let prepare = (is_whole && !plan.prepare.is_empty() && !plan.tasks.is_empty()).then(|| {
            let mut lines = self.lines(plan, "prepare", "prepare-%j.log");
            lines.extend(cpus.clone());
            lines.extend(memory.clone());
            script::prepare(plan, &lines)
        });
        let train = (!plan.tasks.is_empty()).then(|| {
            let mut lines = self.lines(plan, "train", "%A_%a.log");
            let at_once = settings.max_parallel.map_or(String::new(), |most| format!("%{most}"));
            lines.push(format!("--array=0-{}{at_once}", plan.tasks.len() - 1));
            lines.extend(["--open-mode=append", "--requeue", "--signal=B:TERM@120"].map(String::from));
            lines.extend(cpus.clone());
            lines.extend(memory.clone());
            lines.extend(settings.gpus.filter(|n| *n > 0).map(|n| format!("--gpus={n}")));
            lines.extend(settings.time.as_ref().map(|time| format!("--time={time}")));
            script::train(plan, self, &lines)
        });
        let report = script::report(plan, self, &self.lines(plan, "report", "report-%j.log"));
        [
            prepare.and_then(|text| place("prepare.sh", text)),
            train.and_then(|text| place("train.sh", text)),
            place("report.sh", report),
        ]
    }

    /// The scripts of work in shards: that of the shards, and the one that merges.
    fn rounds(&self, plan: &Plan, work: &Sharded) -> [(Round, PathBuf, String); 2] {
        let Sharded { name, folder, shards, .. } = work;
        let settings = &plan.settings;
        [(Round::Shards, "shards", "%A_%a"), (Round::Merge, "merge", "%j")].map(|(round, what, number)| {
            let mut lines =
                self.lines_in(plan, &format!("{name}-{what}"), folder, &format!("{name}-{what}-{number}.log"));
            if round == Round::Shards {
                let at_once = settings.max_parallel.map_or(String::new(), |most| format!("%{most}"));
                lines.push(format!("--array=1-{shards}{at_once}"));
            }
            lines.extend(settings.cpus.map(|n| format!("--cpus-per-task={n}")));
            lines.extend(settings.memory.as_ref().map(|memory| format!("--mem={memory}")));
            (round, folder.join(format!("{name}-{what}.sh")), script::round(plan, work, round, &lines))
        })
    }

    /// Hands the rounds of work in shards to Slurm, each after the one before; returns the jobs, and what was done.
    fn send_rounds(&self, plan: &Plan, work: &Sharded) -> Result<(Chain, Vec<String>)> {
        let scripts = self.rounds(&without_memory(plan), work);
        for (_, path, text) in &scripts {
            atomic::write_bytes(path, text.as_bytes())?;
        }
        let (mut chain, mut done) = (Chain { logs: in_workspace(plan, &work.folder), jobs: Vec::new() }, Vec::new());
        for round in &work.rounds {
            let (_, path, _) = scripts.iter().find(|(of, ..)| of == round).expect("there is a script of each kind");
            let own: Vec<String> = chain.jobs.last().map_or(Vec::new(), after_success);
            let job = match self.send(plan, path, &own) {
                Ok(job) => job,
                Err(error) => {
                    // What was sent of it is of no use alone, and nobody would know of it.
                    self.cancel_sharded(&chain)?;
                    return Err(error);
                }
            };
            let (what, tasks) = match round {
                Round::Shards => ("shards", Some(work.shards)),
                Round::Merge => ("merge", None),
            };
            done.push(match round {
                Round::Shards => format!("job {job}: {} shards, {}", work.shards, path.display()),
                Round::Merge => format!("job {job}: merges them, {}", path.display()),
            });
            chain.jobs.push(Link { log: format!("{}-{what}-{job}", work.name), job, tasks });
        }
        Ok((chain, done))
    }

    /// Hands a script to Slurm; returns the number of the job.
    fn send(&self, plan: &Plan, script: &Path, own: &[String]) -> Result<String> {
        let mut command = Command::new("sbatch");
        command.arg("--parsable").args(&plan.options).args(own).arg(script).current_dir(&plan.folder);
        // `123` or `123;cluster`.
        let text = call(&mut command)?;
        Ok(text.lines().last().unwrap_or_default().split(';').next().unwrap_or_default().to_string())
    }

    fn jobs_of(&self, sent: &Sent) -> Result<BTreeMap<ModelId, Job>> {
        if sent.models.is_empty() {
            return Ok(BTreeMap::new());
        }
        let queue = queue()?;
        let job = |(model, id): (&String, &String)| Some((model.parse().ok()?, queue.get(id)?.clone()));
        Ok(sent.models.iter().filter_map(job).collect())
    }
}

/// The plan as a cluster takes it: one that does not manage memory refuses jobs that ask for any.
fn without_memory(plan: &Plan) -> Plan {
    let mut settings = plan.settings.clone();
    if !manages_memory() {
        settings.memory = None;
    }
    Plan { settings, ..plan.clone() }
}

impl Engine for Slurm {
    fn name(&self) -> &'static str {
        "slurm"
    }

    fn scripts(&self, plan: &Plan) -> Result<Vec<(PathBuf, String)>> {
        let plan = without_memory(plan);
        let sharded = plan.prepared_in_shards(self).map(|work| self.rounds(&plan, &work));
        let sharded = sharded.into_iter().flatten().map(|(_, path, text)| (path, text));
        Ok(sharded.chain(self.texts(&plan).into_iter().flatten()).collect())
    }

    fn sharded_scripts(&self, plan: &Plan, work: &Sharded) -> Result<Vec<(PathBuf, String)>> {
        Ok(self.rounds(&without_memory(plan), work).map(|(_, path, text)| (path, text)).into())
    }

    fn start_sharded(&self, plan: &Plan, work: &Sharded) -> Result<(Chain, Vec<String>)> {
        queue()?;
        std::fs::create_dir_all(&work.folder).map_err(Error::io(&work.folder, "create"))?;
        let (chain, mut done) = self.send_rounds(plan, work)?;
        done.push(format!("logs: {}", work.folder.display()));
        Ok((chain, done))
    }

    fn queued(&self, chain: &Chain) -> Result<BTreeMap<String, Job>> {
        let mut queue = queue()?;
        queue.retain(|id, _| chain.jobs.iter().any(|link| link.is(id)));
        Ok(queue)
    }

    fn cancel_sharded(&self, chain: &Chain) -> Result<Vec<String>> {
        let queued = self.queued(chain)?;
        let is_queued = |link: &&Link| queued.keys().any(|id| link.is(id));
        let jobs: Vec<String> = chain.jobs.iter().filter(is_queued).map(|link| link.job.clone()).collect();
        if !jobs.is_empty() {
            call(Command::new("scancel").args(&jobs))?;
        }
        Ok(jobs.into_iter().map(|id| format!("job {id}")).collect())
    }

    fn start(&self, plan: &Plan, _: &Context) -> Result<Vec<String>> {
        // Before anything is written: is there a Slurm?
        let queue = queue()?;
        let mut known: Vec<Sent> =
            plan.runs.iter().map(|run| Sent::read(&plan.workspace, run)).collect::<Result<_>>()?;
        for run in &plan.runs {
            let folder = plan.jobs(run, self);
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        }
        let scripts = self.scripts(plan)?;
        for (path, text) in &scripts {
            atomic::write_bytes(path, text.as_bytes())?;
        }
        let script = |name: &str| scripts.iter().map(|(path, _)| path).find(|path| path.ends_with(name));
        let mut done = Vec::new();
        let prepare = match (plan.prepared_in_shards(self), script("prepare.sh")) {
            (Some(work), _) => {
                let (chain, what) = self.send_rounds(plan, &work)?;
                done.extend(what);
                Some(chain)
            }
            (None, None) => None,
            (None, Some(path)) => {
                let job = self.send(plan, path, &[])?;
                done.push(format!("job {job}: prepares, {}", path.display()));
                let link = Link { log: format!("prepare-{job}"), job, tasks: None };
                Some(Chain { logs: in_workspace(plan, &self.folder(plan)), jobs: vec![link] })
            }
        };
        let mut before = BTreeSet::new();
        if let Some(path) = script("train.sh") {
            let own = prepare.as_ref().and_then(|chain| chain.jobs.last()).map_or(Vec::new(), after_success);
            let array = self.send(plan, path, &own)?;
            done.push(format!("job {array}: trains {}, {}", models(plan.tasks.len()), path.display()));
            for (sent, run) in known.iter_mut().zip(&plan.runs) {
                sent.prepare = prepare.clone();
                for (i, task) in plan.tasks.iter().enumerate().filter(|(_, task)| task.run == *run) {
                    sent.models.insert(task.model.to_string(), format!("{array}_{i}"));
                }
                sent.write(&plan.workspace, run)?;
            }
            before.insert(array);
        }
        // Models that were sent before and are still queued.
        before.extend(known.iter().flat_map(|sent| sent.models.values()).filter(|id| queue.contains_key(*id)).cloned());
        let own = match before.is_empty() {
            true => Vec::new(),
            false => {
                let before: Vec<String> = before.into_iter().collect();
                vec![format!("--dependency=afterany:{}", before.join(":"))]
            }
        };
        let path = script("report.sh").expect("there is always a report");
        let id = self.send(plan, path, &own)?;
        let when = if own.is_empty() { "reports" } else { "reports when these are over" };
        done.push(format!("job {id}: {when}, {}", path.display()));
        if plan.settings.memory.is_some() && !manages_memory() {
            done.push("this cluster does not manage memory: the jobs ask for none".into());
        }
        for (sent, run) in known.iter_mut().zip(&plan.runs) {
            sent.reports.retain(|id| queue.contains_key(id));
            sent.reports.push(id.clone());
            sent.write(&plan.workspace, run)?;
        }
        done.push(format!("logs: {}", plan.jobs(&plan.runs[0], self).join("JOB_TASK.log").display()));
        Ok(done)
    }

    fn is_soon_over(&self) -> bool {
        true
    }

    fn jobs(&self, ws: &Workspace, run: &str) -> Result<BTreeMap<ModelId, Job>> {
        self.jobs_of(&Sent::read(ws, run)?)
    }

    fn is_reporting(&self, ws: &Workspace, run: &str) -> Result<bool> {
        let reports = Sent::read(ws, run)?.reports;
        if reports.is_empty() {
            return Ok(false);
        }
        let queue = queue()?;
        Ok(reports.iter().any(|id| queue.contains_key(id)))
    }

    fn sent(&self, ws: &Workspace, run: &str) -> Result<Vec<ModelId>> {
        Ok(Sent::read(ws, run)?.models.keys().filter_map(|model| model.parse().ok()).collect())
    }

    fn last(&self, ws: &Workspace, run: &str, id: ModelId) -> Option<(String, PathBuf)> {
        let sent = Sent::read(ws, run).ok()?;
        let job = sent.models.get(&id.to_string())?;
        let folder = RunDir::new(ws, run).jobs(self.name());
        let log = folder.join(format!("{job}.log"));
        // Where the preparation failed, no task began.
        let prepare = sent.prepare.filter(|_| !log.exists());
        let prepare = prepare.and_then(|chain| chain.first_ended(ws, &self.queued(&chain).unwrap_or_default()));
        Some((format!("job {job}"), prepare.map_or(log, |ended| ended.log)))
    }

    fn ended(&self, ws: &Workspace, run: &str) -> BTreeMap<ModelId, String> {
        let sent = Sent::read(ws, run).unwrap_or_default();
        let ids = sent.models.values().cloned().collect::<Vec<_>>().join(",");
        let mut command = Command::new("sacct");
        command.args(["--noheader", "--parsable2", "--allocations", "--format", "JobID,State", "--jobs", &ids]);
        // Many clusters keep no account.
        let text = if ids.is_empty() { String::new() } else { call(&mut command).unwrap_or_default() };
        let states: BTreeMap<&str, &str> = text.lines().filter_map(accounted).collect();
        let of_model = |(model, id): (&String, &String)| Some((model.parse().ok()?, states.get(&**id)?.to_string()));
        sent.models.iter().filter_map(of_model).collect()
    }

    fn cancel(&self, ws: &Workspace, run: &str) -> Result<Vec<String>> {
        let mut sent = Sent::read(ws, run)?;
        if sent == Sent::default() {
            return Ok(Vec::new());
        }
        let queue = queue()?;
        // Those that prepare and report may do so for other runs, too, that are not cancelled.
        let mut needed = BTreeSet::new();
        let entries = std::fs::read_dir(ws.runs()).map_err(Error::io(&ws.runs(), "list"))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        for other in names.filter(|other| other != run) {
            let other = Sent::read(ws, &other)?;
            if other.models.values().any(|id| queue.contains_key(id)) {
                needed.extend(other.shared().cloned());
            }
        }
        let is_queued = |id: &&String| queue.keys().any(|job| rounds::is_of(job, id));
        let shared = sent.shared().filter(|id| !needed.contains(*id));
        let jobs: Vec<String> = sent.models.values().chain(shared).filter(is_queued).cloned().collect();
        if !jobs.is_empty() {
            call(Command::new("scancel").args(&jobs))?;
            // They did not fail.
            sent.models.retain(|_, id| !jobs.contains(id));
            sent.write(ws, run)?;
        }
        Ok(jobs.into_iter().map(|id| format!("job {id}")).collect())
    }
}

/// Whether the cluster's nodes have memory to ask for; true where that is not known.
fn manages_memory() -> bool {
    let text = call(Command::new("sinfo").args(["--noheader", "--format", "%m"])).unwrap_or_default();
    let sizes: Vec<u64> = text.lines().filter_map(|line| line.trim().trim_end_matches('+').parse().ok()).collect();
    sizes.is_empty() || sizes.iter().any(|size| *size > 1)
}

fn models(n: usize) -> String {
    crate::text::of(n as u64, "model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_and_sacct_are_read() {
        let job = queued("123_4|PENDING|Priority").unwrap();
        assert_eq!((job.id.as_str(), job.is_running, job.reason.as_deref()), ("123_4", false, Some("Priority")));
        let job = queued("99|RUNNING|None").unwrap();
        assert_eq!((job.is_running, job.reason), (true, None));
        assert!(queued("").is_none() && queued("error").is_none());
        assert_eq!(accounted("812_9|OUT_OF_MEMORY"), Some(("812_9", "OUT_OF_MEMORY")));
        assert_eq!(accounted("812_8|CANCELLED by 1000"), Some(("812_8", "CANCELLED")));
        assert!(accounted("812_7|COMPLETED").is_none() && accounted("").is_none());
    }

    #[test]
    fn paths_are_patterns_without_fields_of_their_own() {
        assert_eq!(pattern(Path::new("/a/100%/b"), "%A_%a.log"), "/a/100%%/b/%A_%a.log");
        assert_eq!(pattern(Path::new("/my data"), "%j.log"), "\"/my data/%j.log\"");
    }
}
