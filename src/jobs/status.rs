//! Where the runs of a workspace stand: from their folders, and from the engines' queues.

use super::ENGINES;
use super::job::{Job, last_line};
use super::rounds::{Chain, Standing};
use crate::error::{Error, Result};
use crate::progress;
use crate::run::claim::{self, Holder};
use crate::run::{self, ModelId, Recipe, Record, RunDir, checkpoint, timings};
use crate::text;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Where a run stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name of the run.
    pub run: String,
    /// The data set; none where no model has begun.
    pub dataset: Option<String>,
    /// Number of folds; none where no model has begun.
    pub folds: Option<u32>,
    /// Models that are finished.
    pub finished: Vec<ModelId>,
    /// The others.
    pub unfinished: Vec<Unfinished>,
    /// Seconds until those that are being trained or queued are finished, from the epochs so far and as many models at
    /// the same time as now; none before the first epoch.
    pub seconds_left: Option<f64>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// A model that is not finished.
#[derive(Clone, Debug, Serialize)]
pub struct Unfinished {
    /// The model.
    pub model: ModelId,
    /// Epochs that are done and saved; none for a classical classifier.
    pub epochs_done: Option<u32>,
    /// All epochs.
    pub epochs: Option<u32>,
    /// What happens to it.
    #[serde(flatten)]
    pub state: State,
}

/// What happens to a model that is not finished.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// A process trains it.
    Training {
        /// The process.
        process: Holder,
    },
    /// Its job has started, but not yet to train.
    Starting(Job),
    /// Its job waits.
    Queued(Job),
    /// Its job was sent, and the queue could not be asked.
    Unknown {
        /// The job.
        job: String,
    },
    /// Its job is over.
    Failed {
        /// The job.
        job: String,
        /// How it ended, where the engine keeps account of that, such as OUT_OF_MEMORY.
        ended: Option<String>,
        /// The last line of its log, where there is one.
        last_line: Option<String>,
        /// Its log.
        log: PathBuf,
    },
    /// Nothing.
    Idle,
}

impl State {
    fn is_active(&self) -> bool {
        matches!(self, Self::Training { .. } | Self::Starting(_) | Self::Queued(_))
    }
}

/// Names of the runs of a workspace, also of those for which jobs were sent and none has begun; sorted.
///
/// # Errors
/// [`Error::Io`].
pub fn names(ws: &Workspace) -> Result<Vec<String>> {
    let mut names: BTreeSet<String> = run::names(ws)?.into_iter().collect();
    // Where it cannot be known whether jobs were sent, the run's status says why.
    let is_folder = |name: &String| std::fs::metadata(ws.runs().join(name)).map_or(true, |about| about.is_dir());
    let sent =
        |name: &String| ENGINES.iter().any(|engine| !matches!(engine.sent(ws, name), Ok(none) if none.is_empty()));
    names.extend(run::visible(&ws.runs())?.into_iter().filter(is_folder).filter(sent));
    Ok(names.into_iter().collect())
}

/// Where the jobs stand that were sent to ingest data sets, sorted by data set.
///
/// # Errors
/// [`Error::Io`].
pub fn of_images(ws: &Workspace) -> Result<Vec<Standing>> {
    let mut standings = Vec::new();
    for dataset in run::visible(&ws.root)? {
        for engine in ENGINES {
            let standing = match Chain::read(ws, &dataset, engine.name()) {
                Ok(None) => continue,
                Ok(Some(chain)) => chain.standing(ws, &dataset, "ingest", engine.queued(&chain)),
                Err(error) => {
                    let problem = Some(error.to_string());
                    Standing { dataset: dataset.clone(), work: "ingest", rounds: Vec::new(), problem }
                }
            };
            // Where jobs failed, another command may have done the work since.
            let has_failed = standing.problem.is_none() && !standing.is_active() && !standing.is_done();
            if !(has_failed && Chain::is_superseded(ws, &dataset, engine.name())) {
                standings.push(standing);
            }
        }
    }
    Ok(standings)
}

/// Where a run stands.
///
/// # Errors
/// [`Error::Io`], and [`Error::Missing`] for a run that is not there.
pub fn of_run(ws: &Workspace, name: &str) -> Result<Status> {
    let dir = RunDir::new(ws, name);
    let was_sent = ENGINES.iter().any(|engine| dir.jobs(engine.name()).is_dir());
    let mut problems = Vec::new();
    let record = match Record::read(ws, name) {
        Ok(record) => Some(record),
        Err(Error::Missing { .. }) if was_sent => None,
        Err(error @ (Error::Missing { .. } | Error::Io { .. })) => return Err(error),
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    let mut jobs: BTreeMap<ModelId, Job> = BTreeMap::new();
    let mut silent = Vec::new();
    for engine in ENGINES {
        match engine.jobs(ws, name) {
            Ok(found) => jobs.extend(found),
            Err(error) => {
                problems.push(format!("the queue of {} is not known: {error}", engine.name()));
                silent.push(engine.name());
            }
        }
    }
    let (mut finished, mut unfinished, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    // The model of all images is one of them where it was begun or sent.
    let mut models: BTreeSet<ModelId> = dir.models()?.into_iter().collect();
    models.extend((0..record.as_ref().map_or(0, |record| record.folds)).map(ModelId::Fold));
    for engine in ENGINES {
        match engine.sent(ws, name) {
            Ok(sent) => models.extend(sent),
            Err(error) => problems.push(format!("which models were sent to {} is not known: {error}", engine.name())),
        }
    }
    for id in models {
        let is_finished =
            record.as_ref().map_or(Ok(false), |record| run::is_finished(&dir, record, id, &record.hash()));
        seconds.extend(timings::epochs(&dir, id).unwrap_or_default().into_iter().map(|(_, seconds)| seconds));
        match is_finished {
            Ok(true) => {
                finished.push(id);
                continue;
            }
            Ok(false) => {}
            Err(error) => problems.push(error.to_string()),
        }
        let epochs = match record.as_ref().map(|record| &record.recipe) {
            Some(Recipe::Network(settings)) => Some(settings.epochs),
            _ => None,
        };
        let meta = checkpoint::meta(&dir.checkpoint(id)).ok().flatten();
        let current = meta.filter(|meta| record.as_ref().is_some_and(|record| record.hash() == meta.run));
        let epochs_done = epochs.map(|_| current.map_or(0, |meta| meta.epoch));
        let process = claim::living(&dir.claim(id)).unwrap_or_else(|error| {
            problems.push(error.to_string());
            None
        });
        let state = match (process, jobs.get(&id)) {
            (Some(process), _) => State::Training { process },
            (None, Some(job)) if job.is_running => State::Starting(job.clone()),
            (None, Some(job)) => State::Queued(job.clone()),
            (None, None) => {
                let last = ENGINES.iter().find_map(|engine| Some((engine.name(), engine.last(ws, name, id)?)));
                match last {
                    Some((engine, (job, _))) if silent.contains(&engine) => State::Unknown { job },
                    Some((_, (job, log))) => State::Failed { job, ended: None, last_line: last_line(&log), log },
                    None => State::Idle,
                }
            }
        };
        unfinished.push(Unfinished { model: id, epochs_done, epochs, state });
    }
    if unfinished.iter().any(|model| matches!(model.state, State::Failed { .. })) {
        let states: BTreeMap<ModelId, String> = ENGINES.iter().flat_map(|engine| engine.ended(ws, name)).collect();
        for model in &mut unfinished {
            if let State::Failed { ended, .. } = &mut model.state {
                *ended = states.get(&model.model).cloned();
            }
        }
    }
    let seconds_left = seconds_left(&unfinished, &seconds);
    let (dataset, folds) = (record.as_ref().map(|r| r.dataset.clone()), record.as_ref().map(|r| r.folds));
    Ok(Status { run: name.into(), dataset, folds, finished, unfinished, seconds_left, problems })
}

fn seconds_left(unfinished: &[Unfinished], seconds: &[f64]) -> Option<f64> {
    let active = || unfinished.iter().filter(|model| model.state.is_active());
    let left: u32 = active().filter_map(|model| Some(model.epochs?.saturating_sub(model.epochs_done?))).sum();
    let at_once = active().filter(|model| matches!(model.state, State::Training { .. })).count().max(1);
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    (left > 0 && !seconds.is_empty()).then(|| f64::from(left) * mean / at_once as f64)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.run)?;
        self.dataset.as_ref().map_or(Ok(()), |dataset| write!(f, " ({dataset})"))?;
        let folds = self.finished.iter().filter(|id| **id != ModelId::All).count();
        match self.folds {
            Some(of) => write!(f, ": {folds} of {} done", text::of(of.into(), "fold"))?,
            None => write!(f, ": no model has begun")?,
        }
        if self.finished.contains(&ModelId::All) {
            write!(f, ", and the model of all images")?;
        }
        if let Some(seconds) = self.seconds_left {
            write!(f, ", about {} left", progress::human(seconds))?;
        }
        let mut idle = Vec::new();
        for model in &self.unfinished {
            let epoch = match (model.epochs_done, model.epochs) {
                (Some(done), Some(all)) if done > 0 => format!(", {done} of {} done", text::of(all.into(), "epoch")),
                _ => String::new(),
            };
            let title = model.model.title();
            match &model.state {
                State::Training { process } => write!(f, "\n  {title}: training{epoch} ({process})")?,
                State::Starting(job) => write!(f, "\n  {title}: starting{epoch} (job {})", job.id)?,
                State::Queued(job) => {
                    let reason = job.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
                    write!(f, "\n  {title}: queued{epoch} (job {}{reason})", job.id)?;
                }
                State::Unknown { job } => write!(f, "\n  {title}: sent{epoch} ({job})")?,
                State::Failed { job, ended, last_line, log } => {
                    let ended = ended.as_ref().map_or(String::new(), |state| format!(", {state}"));
                    write!(f, "\n  {title}: ended unfinished{epoch} ({job}{ended})")?;
                    match last_line {
                        Some(line) => write!(f, ": {line}\n    {}", log.display())?,
                        None => {
                            let folder = log.parent().unwrap_or(log).display();
                            write!(f, ", without a log: was {folder} there on the node?")?;
                        }
                    }
                }
                State::Idle if epoch.is_empty() => idle.push(title),
                State::Idle => write!(f, "\n  {title}: not running{epoch}")?,
            }
        }
        if !idle.is_empty() {
            write!(f, "\n  not begun: {}", text::listed(idle.iter().map(String::as_str)))?;
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
