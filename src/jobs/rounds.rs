//! Work on the images of data sets that is shared by the tasks of a cluster, in rounds: what is to be done, which jobs
//! were sent for it, and where they stand.

use super::job::{Arguments, Job, has_line, last_line};
use crate::atomic;
use crate::error::{Error, Result};
use crate::text;
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Work on the images of data sets that is shared by many tasks and then merged, in some rounds: each round is an array
/// with a task for each shard, or a single task that merges.
#[derive(Clone, Debug)]
pub struct Sharded {
    /// What it is for, in the names of jobs and scripts, such as `ingest`.
    pub name: String,
    /// Folder of the scripts and logs.
    pub folder: PathBuf,
    /// Number of shards.
    pub shards: u32,
    /// Calls of wbc, but for `--shard` and `--merge`.
    pub calls: Vec<Arguments>,
    /// What is done one after the other.
    pub rounds: Vec<Round>,
}

/// A round of [`Sharded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Every shard makes the calls.
    Shards,
    /// One task makes the calls to merge.
    Merge,
}

/// A line in the log of a task that did its work.
pub const DONE: &str = "wbc: this task is done";

/// Jobs that were sent together, of which each waits until the one before has done its work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Folder of the logs, from the workspace.
    pub logs: PathBuf,
    /// The jobs.
    pub jobs: Vec<Link>,
}

/// A job of a [`Chain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// As the engine calls it.
    pub job: String,
    /// Name of its log; of an array, what comes before the number of the task.
    pub log: String,
    /// Tasks of an array, numbered from 1; none for a job that is not an array.
    pub tasks: Option<u32>,
}

/// Where jobs that share images stand.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The data set.
    pub dataset: String,
    /// What the jobs do, such as `ingest`.
    pub work: &'static str,
    /// The rounds, in their order.
    pub rounds: Vec<RoundStanding>,
    /// What is not known, and why.
    pub problem: Option<String>,
}

/// Where a round stands.
#[derive(Clone, Debug, Serialize)]
pub struct RoundStanding {
    /// Its job.
    pub job: String,
    /// Its tasks, of which one does a shard; 1 where a single task merges.
    pub tasks: u32,
    /// Tasks that have done their work.
    pub done: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks that wait.
    pub queued: u32,
    /// Why, in the engine's words.
    pub reason: Option<String>,
    /// Tasks that began and are not running, as far as the queue is known.
    pub ended: Vec<Ended>,
}

/// A task that ended without having done its work.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// As the engine calls it.
    pub job: String,
    /// The last line of its log, if it says anything.
    pub last_line: Option<String>,
    /// Its log.
    pub log: PathBuf,
}

/// Whether `queued` is `job` or one of its tasks.
pub fn is_of(queued: &str, job: &str) -> bool {
    queued.strip_prefix(job).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

impl Link {
    /// Its tasks, as the engine calls them, and their logs.
    fn tasks(&self, logs: &Path) -> Vec<(String, PathBuf)> {
        match self.tasks {
            None => vec![(self.job.clone(), logs.join(format!("{}.log", self.log)))],
            Some(tasks) => {
                (1..=tasks).map(|i| (format!("{}_{i}", self.job), logs.join(format!("{}_{i}.log", self.log)))).collect()
            }
        }
    }

    /// Whether `queued`, as the engine calls it, is this job or one of its tasks.
    pub fn is(&self, queued: &str) -> bool {
        is_of(queued, &self.job)
    }

    fn standing(&self, logs: &Path, queue: &BTreeMap<String, Job>) -> RoundStanding {
        let tasks = self.tasks(logs);
        let (mut done, mut running, mut queued, mut reason) = (0, 0, 0, None);
        let mut ended = Vec::new();
        for (job, log) in &tasks {
            match queue.get(job) {
                Some(job) if job.is_running => running += 1,
                Some(job) => {
                    queued += 1;
                    reason = reason.or_else(|| job.reason.clone());
                }
                None if has_line(log, DONE) => done += 1,
                None if log.exists() => {
                    ended.push(Ended { job: job.clone(), last_line: last_line(log), log: log.clone() });
                }
                None => {}
            }
        }
        RoundStanding { job: self.job.clone(), tasks: tasks.len() as u32, done, running, queued, reason, ended }
    }
}

impl Chain {
    /// The file that says which jobs an engine was sent to ingest a data set.
    fn path(ws: &Workspace, dataset: &str, engine: &str) -> PathBuf {
        ingest_folder(ws, dataset, engine).join("ingest.json")
    }

    /// The jobs that an engine was sent to ingest a data set; none where there are none.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`].
    pub fn read(ws: &Workspace, dataset: &str, engine: &str) -> Result<Option<Self>> {
        let path = Self::path(ws, dataset, engine);
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match std::fs::read(&path) {
            Err(error) if [NotFound, NotADirectory].contains(&error.kind()) => Ok(None),
            Err(error) => Err(Error::io(&path, "read")(error)),
            Ok(text) => {
                let expected = "those that wbc submit --ingest wrote";
                serde_json::from_slice(&text).map(Some).map_err(|e| Error::format(&path, "jobs", expected, e))
            }
        }
    }

    /// Whether the data set was checked after they were sent.
    pub fn is_superseded(ws: &Workspace, dataset: &str, engine: &str) -> bool {
        let time = |path: PathBuf| std::fs::metadata(path).and_then(|about| about.modified()).ok();
        let sent = time(Self::path(ws, dataset, engine));
        sent.is_some_and(|sent| time(ws.checks(dataset)).is_some_and(|checked| checked > sent))
    }

    /// Keeps them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, ws: &Workspace, dataset: &str, engine: &str) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain data") + "\n";
        atomic::write_bytes(&Self::path(ws, dataset, engine), text.as_bytes())
    }

    /// The rounds, in their order. Of those before one that has begun nothing is left to do.
    fn rounds(&self, ws: &Workspace, queue: &BTreeMap<String, Job>) -> Vec<RoundStanding> {
        let logs = ws.root.join(&self.logs);
        let mut rounds: Vec<RoundStanding> = self.jobs.iter().map(|link| link.standing(&logs, queue)).collect();
        let has_begun = |round: &RoundStanding| round.done + round.running > 0 || !round.ended.is_empty();
        let last = rounds.iter().rposition(has_begun).unwrap_or(0);
        for round in &mut rounds[..last] {
            (round.done, round.ended) = (round.tasks, Vec::new());
        }
        rounds
    }

    /// The first task that ended without having done its work, if it is known by its log. `queue` holds those of the
    /// engine that are not over.
    pub fn first_ended(&self, ws: &Workspace, queue: &BTreeMap<String, Job>) -> Option<Ended> {
        let rounds = self.rounds(ws, queue);
        rounds.into_iter().find(|round| round.done < round.tasks)?.ended.into_iter().next()
    }

    /// Where they stand; `queue` holds those of the engine that are not over, or why that is not known.
    pub fn standing(
        &self,
        ws: &Workspace,
        dataset: &str,
        work: &'static str,
        queue: Result<BTreeMap<String, Job>>,
    ) -> Standing {
        let (queue, problem) = match queue {
            Ok(queue) => (queue, None),
            Err(error) => (BTreeMap::new(), Some(format!("the queue is not known: {error}"))),
        };
        Standing { dataset: dataset.into(), work, rounds: self.rounds(ws, &queue), problem }
    }
}

/// The folder of the scripts and logs of jobs that ingest a data set.
pub fn ingest_folder(ws: &Workspace, dataset: &str, engine: &str) -> PathBuf {
    ws.root.join(dataset).join(engine)
}

impl Standing {
    /// Whether all tasks have done their work.
    pub fn is_done(&self) -> bool {
        self.rounds.iter().all(|round| round.done == round.tasks)
    }

    /// Whether tasks run or wait.
    pub fn is_active(&self) -> bool {
        self.rounds.iter().any(|round| round.running + round.queued > 0)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let Self { dataset, work, rounds, problem } = self;
        write!(f, "{dataset}: {work}")?;
        let unfinished = rounds.iter().enumerate().find(|(_, round)| round.done < round.tasks);
        let Some((number, round)) = unfinished else {
            return match problem {
                Some(problem) if rounds.is_empty() => write!(f, ": {problem}"),
                _ => f.write_str(", done"),
            };
        };
        write!(f, ", step {} of {} (job {})", number + 1, rounds.len(), round.job)?;
        let mut parts = vec![format!("{} of {} done", round.done, text::of(round.tasks.into(), "task"))];
        let counts = [(round.running, "running"), (round.queued, "queued")];
        parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        if let (Some(reason), Some(queued)) = (&round.reason, parts.last_mut()) {
            *queued += &format!(" ({reason})");
        }
        let begun = round.done + round.running + round.queued + round.ended.len() as u32;
        let counts = match problem {
            Some(_) => [(round.tasks - round.done, "sent"), (0, "")],
            None => [(round.ended.len() as u32, "ended unfinished"), (round.tasks - begun, "not begun")],
        };
        parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        write!(f, ": {}", parts.join(", "))?;
        for Ended { job, last_line, log } in round.ended.iter().take(SHOWN).filter(|_| problem.is_none()) {
            let line = last_line.as_deref().unwrap_or("an empty log");
            write!(f, "\n  job {job} ended unfinished: {line}\n    {}", log.display())?;
        }
        if round.ended.len() > SHOWN && problem.is_none() {
            write!(f, "\n  and {} more", round.ended.len() - SHOWN)?;
        }
        problem.as_ref().map_or(Ok(()), |problem| write!(f, "\n  {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_rounds_stand_is_known_by_logs_and_queue() {
        let folder = tempfile::tempdir().unwrap();
        let log = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let job = |id: &str, is_running, reason: Option<&str>| {
            (id.to_string(), Job { id: id.into(), is_running, reason: reason.map(String::from) })
        };
        let ws = Workspace::new(folder.path());
        let chain = Chain {
            logs: PathBuf::new(),
            jobs: vec![
                Link { job: "7".into(), log: "a-7".into(), tasks: Some(3) },
                Link { job: "70".into(), log: "b-70".into(), tasks: None },
            ],
        };
        assert!(chain.jobs[0].is("7_2") && chain.jobs[0].is("7") && !chain.jobs[0].is("70"));
        let text = |queue: &[(String, Job)]| {
            chain.standing(&ws, "large", "ingest", Ok(queue.iter().cloned().collect())).to_string()
        };
        log("a-7_1.log", "shard 1/3\nwbc: this task is done\n### Job 7_1 used 3 GB\n");
        let queue = [job("7_2", true, None), job("7_3", false, Some("Priority")), job("70", false, Some("Dependency"))];
        assert_eq!(
            text(&queue),
            "large: ingest, step 1 of 2 (job 7): 1 of 3 tasks done, 1 running, 1 queued (Priority)"
        );
        log("a-7_2.log", "reading\nKilled\n");
        let ended = text(&[]);
        assert!(
            ended.contains("1 of 3 tasks done, 1 ended unfinished, 1 not begun") && ended.contains("7_2 "),
            "{ended}"
        );
        assert!(ended.contains(": Killed\n") && ended.contains("a-7_2.log"), "{ended}");
        assert_eq!(chain.first_ended(&ws, &BTreeMap::new()).unwrap().job, "7_2");
        let running = BTreeMap::from([job("7_2", true, None)]);
        assert!(chain.first_ended(&ws, &running).is_none(), "it still runs");
        let unknown = chain.standing(&ws, "large", "ingest", Err(Error::compute("squeue", "not found"))).to_string();
        assert!(unknown.contains("1 of 3 tasks done, 2 sent\n  the queue is not known"), "{unknown}");
        log("a-7_2.log", "wbc: this task is done\n");
        log("a-7_3.log", "wbc: this task is done\n");
        assert!(text(&[]).contains("step 2 of 2 (job 70): 0 of 1 task done, 1 not begun"), "{}", text(&[]));
        // Logs of rounds that are over may have been deleted.
        std::fs::remove_file(folder.path().join("a-7_3.log")).unwrap();
        log("b-70.log", "wbc: this task is done\n");
        assert_eq!(text(&[]), "large: ingest, done");
    }
}
