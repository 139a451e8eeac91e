//! What is to be run, and what an engine does with it.

use super::job::{Arguments, Job};
use super::rounds::{Chain, Round, Sharded};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::run::{ModelId, RunDir};
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a job of a cluster asks for. It does not change results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Partition (queue) of the cluster.
    pub partition: Option<String>,
    /// Account that the time is charged to.
    pub account: Option<String>,
    /// Time limit of the training of one model, as Slurm writes it: `90` minutes, `2:00:00`, `1-12`.
    pub time: Option<String>,
    /// Memory, as Slurm writes it: `4G`.
    pub memory: Option<String>,
    /// Processor cores.
    pub cpus: Option<u32>,
    /// GPUs.
    pub gpus: Option<u32>,
    /// Models that are trained at the same time, at most.
    pub max_parallel: Option<u32>,
}

impl Settings {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The settings of two pipelines whose tasks are in one array.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first that has two values.
    pub fn merged(self, other: &Self) -> Result<Self> {
        fn one<T: PartialEq + Clone + std::fmt::Display>(key: &str, a: Option<T>, b: &Option<T>) -> Result<Option<T>> {
            match (&a, b) {
                (Some(a), Some(b)) if a != b => {
                    Err(Error::setting(key, "one value in all pipelines", format!("{a} and {b}")))
                }
                _ => Ok(a.or_else(|| b.clone())),
            }
        }
        Ok(Self {
            partition: one("slurm.partition", self.partition, &other.partition)?,
            account: one("slurm.account", self.account, &other.account)?,
            time: one("slurm.time", self.time, &other.time)?,
            memory: one("slurm.memory", self.memory, &other.memory)?,
            cpus: one("slurm.cpus", self.cpus, &other.cpus)?,
            gpus: one("slurm.gpus", self.gpus, &other.gpus)?,
            max_parallel: one("slurm.max_parallel", self.max_parallel, &other.max_parallel)?,
        })
    }

    /// # Errors
    /// [`Error::Setting`] for the first value that is not allowed.
    pub fn validate(&self) -> Result<()> {
        for (key, value) in [("slurm.cpus", self.cpus), ("slurm.max_parallel", self.max_parallel)] {
            if value == Some(0) {
                return Err(Error::setting(key, "at least 1", 0));
            }
        }
        let digits = |c: char| c.is_ascii_digit();
        if let Some(time) = self.time.as_ref().filter(|time| !is_time(time)) {
            return Err(Error::setting("slurm.time", "such as \"90\" (minutes), \"2:00:00\" or \"1-12\"", time));
        }
        let is_size = |text: &String| {
            let number = text.trim_end_matches(['K', 'M', 'G', 'T']);
            !number.is_empty() && number.chars().all(digits) && text.len() - number.len() < 2
        };
        if let Some(memory) = self.memory.as_ref().filter(|memory| !is_size(memory)) {
            return Err(Error::setting("slurm.memory", "a whole number with K, M, G or T", memory));
        }
        let words = [("slurm.partition", &self.partition), ("slurm.account", &self.account)];
        for (key, word) in words {
            let is_word = |word: &String| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '"');
            if let Some(word) = word.as_ref().filter(|word| !is_word(word)) {
                return Err(Error::setting(key, "one word", format!("{word:?}")));
            }
        }
        Ok(())
    }
}

/// Whether Slurm would read it as a time: minutes, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, ...
fn is_time(text: &str) -> bool {
    let parts: Vec<&str> = text.split(['-', ':']).collect();
    let is_number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    parts.len() <= 4 && parts.iter().all(is_number) && text.matches('-').count() <= 1
}

/// The training of one model.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name of the run.
    pub run: String,
    /// The model.
    pub model: ModelId,
    /// The call of wbc that trains it, but for the number of threads.
    pub arguments: Arguments,
}

/// What is to be run, and in which order: first `prepare`, then all tasks in any order, then `report`, also where tasks
/// failed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The workspace, by its absolute path.
    pub workspace: Workspace,
    /// The folder in which wbc was called.
    pub folder: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// The runs. The scripts lie in the folder of the first.
    pub runs: Vec<String>,
    /// Calls that write what the tasks read, one after the other.
    pub prepare: Vec<Arguments>,
    /// Shards by which they are shared.
    pub shards: u32,
    /// The models to train.
    pub tasks: Vec<Task>,
    /// Calls that put the results together, one after the other, also where one fails.
    pub report: Vec<Arguments>,
    /// What each task asks for.
    pub settings: Settings,
    /// Tasks of this machine at the same time.
    pub parallel: usize,
    /// Threads of each task, where given.
    pub threads: Option<usize>,
    /// Further options of the engine's own command.
    pub options: Vec<String>,
}

impl Plan {
    /// The folder of the scripts and of the logs of a run.
    pub fn jobs(&self, run: &str, engine: &dyn Engine) -> PathBuf {
        RunDir::new(&self.workspace, run).jobs(engine.name())
    }

    /// What the tasks read, prepared in shards.
    pub fn prepared_in_shards(&self, engine: &dyn Engine) -> Option<Sharded> {
        (self.shards > 1 && !self.prepare.is_empty() && !self.tasks.is_empty()).then(|| Sharded {
            name: "prepare".into(),
            folder: self.jobs(&self.runs[0], engine),
            shards: self.shards,
            calls: self.prepare.clone(),
            rounds: vec![Round::Shards, Round::Merge],
        })
    }
}

/// Something that runs jobs.
pub trait Engine: Sync {
    /// Name on the command line, and of the folder of its scripts and logs.
    fn name(&self) -> &'static str;

    /// The files that it would write for a plan, with their texts.
    fn scripts(&self, plan: &Plan) -> Result<Vec<(PathBuf, String)>>;

    /// Runs a plan, or hands it to the scheduler; returns what was done, in words.
    ///
    /// # Errors
    /// [`Error::Compute`] where the scheduler refuses, [`Error::Io`], [`Error::Interrupted`].
    fn start(&self, plan: &Plan, ctx: &Context) -> Result<Vec<String>>;

    /// The files that it would write for work in shards, with their texts.
    ///
    /// # Errors
    /// [`Error::Setting`] where the engine has no use for shards.
    fn sharded_scripts(&self, plan: &Plan, work: &Sharded) -> Result<Vec<(PathBuf, String)>>;

    /// Hands work in shards to the scheduler; returns the jobs, and what was done, in words.
    ///
    /// # Errors
    /// As [`Engine::sharded_scripts`] and [`Engine::start`].
    fn start_sharded(&self, plan: &Plan, work: &Sharded) -> Result<(Chain, Vec<String>)>;

    /// Which tasks of work in shards are queued or running, as the engine calls them.
    ///
    /// # Errors
    /// As [`Engine::jobs`].
    fn queued(&self, chain: &Chain) -> Result<BTreeMap<String, Job>>;

    /// Ends the jobs of work in shards; returns them.
    ///
    /// # Errors
    /// As [`Engine::cancel`].
    fn cancel_sharded(&self, chain: &Chain) -> Result<Vec<String>>;

    /// Whether a second `wbc submit` of a run may wait until this one is over, which is soon.
    fn is_soon_over(&self) -> bool;

    /// The jobs of a run that are queued or running.
    ///
    /// # Errors
    /// [`Error::Compute`] where the scheduler does not answer.
    fn jobs(&self, ws: &Workspace, run: &str) -> Result<BTreeMap<ModelId, Job>>;

    /// Whether a job that makes the report of a run is queued or running.
    ///
    /// # Errors
    /// As [`Engine::jobs`].
    fn is_reporting(&self, ws: &Workspace, run: &str) -> Result<bool>;

    /// The models of a run for which a job was ever sent.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io) or [`Error::Format`](crate::error::Error::Format) where this cannot be
    /// read.
    fn sent(&self, ws: &Workspace, run: &str) -> Result<Vec<ModelId>>;

    /// The last job that was sent for a model, by name and with its log, whatever became of it.
    fn last(&self, ws: &Workspace, run: &str, id: ModelId) -> Option<(String, PathBuf)>;

    /// How the last jobs of the models of a run ended, in the engine's words; none where it keeps no account of jobs.
    fn ended(&self, ws: &Workspace, run: &str) -> BTreeMap<ModelId, String>;

    /// Ends the jobs of a run; returns them.
    ///
    /// # Errors
    /// [`Error::Compute`] where the scheduler refuses.
    fn cancel(&self, ws: &Workspace, run: &str) -> Result<Vec<String>>;
}

/// The file that the job that made the report of a run leaves behind; its time is when the job began.
pub fn reported(jobs: &Path) -> PathBuf {
    jobs.join("reported")
}

/// The same while the job works.
pub fn reporting(jobs: &Path) -> PathBuf {
    jobs.join("reporting")
}

/// Whether an engine made the report of a run after the last of its folds was finished.
pub fn is_reported(ws: &Workspace, run: &str, engine: &dyn Engine) -> bool {
    let time = |path: PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let dir = RunDir::new(ws, run);
    let folds = dir.models().unwrap_or_default().into_iter().filter_map(|id| time(dir.model_predictions(id)));
    time(reported(&dir.jobs(engine.name()))).is_some_and(|reported| folds.max().is_none_or(|last| last <= reported))
}
