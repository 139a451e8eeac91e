//! This machine: each task is a process of its own.

use super::job::{Arguments, Job, last_line};
use super::plan::{Engine, Plan, Task, reported, reporting};
use super::rounds::{Chain, Sharded};
use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{self, ModelId, RunDir, claim};
use crate::text;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// This machine.
pub struct Local;

/// Starts wbc with a log of its own.
fn spawn(plan: &Plan, arguments: &Arguments, log: &Path) -> Result<Child> {
    let failed = |source| Error::io(log, "write")(source);
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    }
    let file = File::options().create(true).append(true).open(log).map_err(failed)?;
    let mut command = Command::new(&plan.program);
    // Variables such as WBC_SEED are in the arguments already.
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("WBC_")).for_each(
        |name| {
            command.env_remove(name);
        },
    );
    command.args(arguments).current_dir(&plan.folder).stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(failed)?).stderr(file);
    // Ctrl-C reaches this process alone, which then stops the others.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(Error::io(&plan.program, "start"))
}

/// Asks a process to stop after its current step, as Ctrl-C does.
///
/// # Errors
/// [`Error::Compute`].
pub fn stop(process: u32) -> Result<()> {
    let failed = |message: String| Error::Compute { what: format!("kill {process}"), message };
    let output = Command::new("kill").args(["-TERM", &process.to_string()]).output();
    match output.map_err(|error| failed(error.to_string()))? {
        output if output.status.success() => Ok(()),
        output => Err(failed(String::from_utf8_lossy(&output.stderr).trim().into())),
    }
}

/// Waits for a process; stops it where the user wants to.
fn wait(child: &mut Child, ctx: &Context) -> Result<bool> {
    loop {
        if let Some(status) = child.try_wait().map_err(Error::io(Path::new("wbc"), "wait for"))? {
            return Ok(status.success());
        }
        if ctx.check_stop().is_err() {
            let _ = stop(child.id());
            let _ = child.wait();
            return Err(Error::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Local {
    fn log(&self, plan: &Plan, task: &Task) -> PathBuf {
        plan.jobs(&task.run, self).join(format!("{}.log", task.model.folder_name()))
    }

    /// Trains the models, some at a time; returns the logs of those that failed.
    fn train(&self, plan: &Plan, ctx: &Context) -> Result<Vec<PathBuf>> {
        let mut left: VecDeque<&Task> = plan.tasks.iter().collect();
        let mut running: Vec<(&Task, Child)> = Vec::new();
        let mut failed = Vec::new();
        let task = ctx.progress.task("training", Some(plan.tasks.len() as u64), "models");
        loop {
            while running.len() < plan.parallel
                && let Some(next) = left.pop_front()
            {
                let mut arguments = next.arguments.clone();
                arguments.extend(plan.threads.iter().flat_map(|n| ["--threads".into(), n.to_string()]));
                running.push((next, spawn(plan, &arguments, &self.log(plan, next))?));
            }
            if running.is_empty() {
                return Ok(failed);
            }
            if ctx.check_stop().is_err() {
                running.iter().for_each(|(_, child)| {
                    let _ = stop(child.id());
                });
                running.iter_mut().for_each(|(_, child)| {
                    let _ = child.wait();
                });
                return Err(Error::Interrupted);
            }
            let mut i = 0;
            while i < running.len() {
                let (done, child) = &mut running[i];
                match child.try_wait().map_err(Error::io(&plan.program, "wait for"))? {
                    None => i += 1,
                    Some(status) => {
                        let what = format!("{} of {}", done.model.title(), done.run);
                        let log = self.log(plan, done);
                        task.advance(1);
                        // A process that was killed could not say why.
                        let line = match status.code() {
                            Some(_) => last_line(&log).unwrap_or_default(),
                            None => format!("killed ({status}), perhaps as memory was short"),
                        };
                        ctx.progress.log(&match status.success() {
                            true => format!("{what}: done"),
                            false => format!("{what}: failed: {line} ({})", log.display()),
                        });
                        if !status.success() {
                            failed.push(log);
                        }
                        running.remove(i);
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs calls one after the other; returns whether all succeeded.
    fn calls(&self, plan: &Plan, calls: &[Arguments], log: &Path, ctx: &Context) -> Result<bool> {
        let mut succeeded = true;
        for arguments in calls {
            succeeded &= wait(&mut spawn(plan, arguments, log)?, ctx)?;
        }
        Ok(succeeded)
    }
}

impl Engine for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn scripts(&self, _: &Plan) -> Result<Vec<(PathBuf, String)>> {
        Ok(Vec::new())
    }

    fn sharded_scripts(&self, _: &Plan, work: &Sharded) -> Result<Vec<(PathBuf, String)>> {
        let expected = "slurm: a single machine needs no shards, and uses all of its cores without";
        Err(Error::setting("engine", expected, format!("local, with {} shards", work.shards)))
    }

    fn start_sharded(&self, plan: &Plan, work: &Sharded) -> Result<(Chain, Vec<String>)> {
        self.sharded_scripts(plan, work).map(|_| (Chain::default(), Vec::new()))
    }

    fn queued(&self, _: &Chain) -> Result<BTreeMap<String, Job>> {
        Ok(BTreeMap::new())
    }

    fn cancel_sharded(&self, _: &Chain) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn start(&self, plan: &Plan, ctx: &Context) -> Result<Vec<String>> {
        let failure = |what: &str, log: &Path| {
            let message = format!("{} ({})", last_line(log).unwrap_or_default(), log.display());
            Error::Compute { what: what.into(), message }
        };
        let folder = plan.jobs(&plan.runs[0], self);
        let log = folder.join("prepare.log");
        if !plan.tasks.is_empty() && !self.calls(plan, &plan.prepare, &log, ctx)? {
            return Err(failure("preparing", &log));
        }
        let failed = self.train(plan, ctx)?;
        let log = folder.join("report.log");
        let jobs: Vec<PathBuf> = plan.runs.iter().map(|run| plan.jobs(run, self)).collect();
        for path in jobs.iter().map(|jobs| reporting(jobs)) {
            File::create(&path).map_err(Error::io(&path, "write"))?;
        }
        let reported_all = self.calls(plan, &plan.report, &log, ctx)?;
        if let Some(first) = failed.first() {
            let what = format!("training {}", text::of(failed.len() as u64, "model"));
            return Err(failure(&what, first));
        }
        if !reported_all {
            return Err(failure("reporting", &log));
        }
        jobs.iter().try_for_each(|jobs| atomic::rename(&reporting(jobs), &reported(jobs)))?;
        Ok(vec![format!("report: {}", log.display())])
    }

    fn is_soon_over(&self) -> bool {
        false
    }

    fn jobs(&self, _: &Workspace, _: &str) -> Result<BTreeMap<ModelId, Job>> {
        // Those that run hold claims.
        Ok(BTreeMap::new())
    }

    fn is_reporting(&self, _: &Workspace, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn sent(&self, ws: &Workspace, run: &str) -> Result<Vec<ModelId>> {
        let names = run::visible(&RunDir::new(ws, run).jobs(self.name()))?;
        Ok(names.iter().filter_map(|name| ModelId::from_folder_name(name.strip_suffix(".log")?)).collect())
    }

    fn last(&self, ws: &Workspace, run: &str, id: ModelId) -> Option<(String, PathBuf)> {
        let log = RunDir::new(ws, run).jobs(self.name()).join(format!("{}.log", id.folder_name()));
        log.exists().then(|| ("on this machine".into(), log))
    }

    fn ended(&self, _: &Workspace, _: &str) -> BTreeMap<ModelId, String> {
        BTreeMap::new()
    }

    fn cancel(&self, ws: &Workspace, run: &str) -> Result<Vec<String>> {
        let dir = RunDir::new(ws, run);
        let mut stopped = Vec::new();
        // The process that starts the others comes first: it would go on with the next model, and stops them itself.
        if let Some(holder) = claim::living(&dir.submitting(self.name()))?.filter(claim::Holder::is_here) {
            stop(holder.process)?;
            return Ok(vec![format!("process {} (wbc submit, with all that it runs)", holder.process)]);
        }
        for (id, holder) in claim::holders(&dir)? {
            if holder.is_here() && holder.job.is_none() {
                stop(holder.process)?;
                stopped.push(format!("process {} ({})", holder.process, id.title()));
            }
        }
        Ok(stopped)
    }
}
