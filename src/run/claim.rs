//! Which process trains a model: a file in the model's folder that the process holds, and writes again every few
//! seconds for as long as it lives. Several processes, also on other machines, can so train the models of one run.
//!
//! On the machine of the process, a lock on the file says whether it still lives. Elsewhere, its heartbeat does: not
//! every network file system has locks that other machines see.

use super::dir::RunDir;
use super::model_id::ModelId;
use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the file is written again.
const BEAT: Duration = Duration::from_secs(10);
/// A process of another machine whose heartbeat is older is dead. Network file systems show a change after up to a
/// minute.
pub const SILENCE: Duration = Duration::from_secs(120);
/// A larger file is no claim.
const MAX_BYTES: u64 = 10_000;

/// The process that a claim belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of the machine.
    pub machine: String,
    /// Tells apart machines of one name, and the times before and after a restart.
    pub boot: String,
    /// Number of the process on that machine.
    pub process: u32,
    /// The Slurm job that it belongs to, as Slurm writes it: `123_4` for a task of an array.
    pub job: Option<String>,
    /// Tells apart two claims of one process.
    pub token: String,
    /// Counts the heartbeats.
    pub beat: u64,
}

impl Holder {
    fn this(token: String) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let array = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
        Self {
            machine: sysinfo::System::host_name().unwrap_or_default(),
            boot: boot(),
            process: std::process::id(),
            job: array.map(|(job, task)| format!("{job}_{task}")).or_else(|| variable("SLURM_JOB_ID")),
            token,
            beat: 0,
        }
    }

    /// Whether the process runs, or ran, on this machine since it was started.
    pub fn is_here(&self) -> bool {
        self.boot == boot() && sysinfo::System::host_name().unwrap_or_default() == self.machine
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.process, self.machine)?;
        self.job.as_ref().map_or(Ok(()), |job| write!(f, ", job {job}"))
    }
}

/// Identifies the running system.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_string());
    id.unwrap_or_else(|_| sysinfo::System::boot_time().to_string())
}

/// A claim that this process holds; given up when it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    token: String,
    /// Ends the heartbeat when it is dropped.
    stop: Option<Sender<()>>,
    heartbeat: Option<JoinHandle<()>>,
}

/// What became of an attempt to take a claim.
#[derive(Debug)]
pub enum Taken {
    /// This process has it now.
    Here(Claim),
    /// Another process has it; none where its file does not say which.
    Elsewhere(Option<Holder>),
}

impl Claim {
    /// Takes the claim at `path`, also from a process that is dead.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn take(path: &Path) -> Result<Taken> {
        // A process that only asks who has a claim locks the file for a moment.
        let mut attempts = 3;
        loop {
            if let Some(claim) = place(path)? {
                return Ok(Taken::Here(claim));
            }
            if remove_dead(path)? {
                continue;
            }
            attempts -= 1;
            if attempts == 0 {
                return Ok(Taken::Elsewhere(holder(path)?));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes the claim at `path`; if a process of another machine has it, waits until that has shown no sign of life
    /// for [`SILENCE`]. For a job that was sent again and has nothing else to do: it must not give up because of the
    /// node that died.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Interrupted`].
    pub fn take_from_the_silent(path: &Path, ctx: &Context) -> Result<Taken> {
        let started = Instant::now();
        let mut first: Option<Holder> = None;
        loop {
            let holder = match Self::take(path)? {
                Taken::Elsewhere(Some(holder)) if !holder.is_here() => holder,
                settled => return Ok(settled),
            };
            match &first {
                Some(first) if *first != holder => return Ok(Taken::Elsewhere(Some(holder))),
                Some(_) if started.elapsed() > SILENCE + 2 * BEAT => return Ok(Taken::Elsewhere(Some(holder))),
                Some(_) => {}
                None => {
                    ctx.progress.log(&format!("waiting for a sign of life of {holder}"));
                    first = Some(holder);
                }
            }
            ctx.check_stop()?;
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Takes the claim at `path` as soon as no other process has it, for work that is soon done.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Interrupted`].
    pub fn wait(path: &Path, ctx: &Context) -> Result<Claim> {
        loop {
            if let Taken::Here(claim) = Self::take(path)? {
                return Ok(claim);
            }
            ctx.check_stop()?;
        }
    }

    /// Checks that the claim is still this process's, before it writes what it made.
    ///
    /// # Errors
    /// [`Error::Setting`] where another process has taken it since, because this one showed no sign of life.
    pub fn require(&self) -> Result<()> {
        let is_ours = || Ok(holder(&self.path)?.is_some_and(|holder| holder.token == self.token));
        if is_ours()? {
            return Ok(());
        }
        // For a moment there may be none: see `remove_dead`.
        std::thread::sleep(Duration::from_millis(200));
        match is_ours()? {
            true => Ok(()),
            false => {
                let expected = format!("{} to stay with one process", self.path.display());
                Err(Error::setting("run", expected, "that another process took it, as this one had long been silent"))
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(heartbeat) = self.heartbeat.take() {
            let _ = heartbeat.join();
        }
    }
}

/// The process that has the claim at `path`, if one is alive.
///
/// # Errors
/// [`Error::Io`].
pub fn living(path: &Path) -> Result<Option<Holder>> {
    let Some((file, holder)) = open(path)? else { return Ok(None) };
    Ok(if is_dead(&file, holder.as_ref(), path)? { None } else { holder })
}

/// Removes the claim at `path` if its process is dead: its work was done, or nobody goes on with it.
///
/// # Errors
/// [`Error::Io`].
pub fn clear(path: &Path) -> Result<()> {
    remove_dead(path).map(|_| ())
}

/// The living processes that train models of a run.
///
/// # Errors
/// [`Error::Io`].
pub fn holders(dir: &RunDir) -> Result<Vec<(ModelId, Holder)>> {
    let mut holders = Vec::new();
    for id in dir.models()? {
        holders.extend(living(&dir.claim(id))?.map(|holder| (id, holder)));
    }
    Ok(holders)
}

/// Puts a claim at `path`; `None` where there is one.
fn place(path: &Path) -> Result<Option<Claim>> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    let failed = |source| Error::io(path, "write")(source);
    let temporary = atomic::temporary(0o666).tempfile_in(parent).map_err(failed)?;
    // Some file systems have no locks: there, the heartbeat alone says who lives.
    let _ = temporary.as_file().try_lock();
    let name = temporary.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut holder = Holder::this(format!("{}{name}", std::process::id()));
    write(temporary.as_file(), &holder).map_err(failed)?;
    let file = match temporary.persist_noclobber(path) {
        Ok(file) => file,
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(failed(error.error)),
    };
    let (stop, stopped) = channel();
    let (token, path) = (holder.token.clone(), path.to_path_buf());
    let place = path.clone();
    let heartbeat = std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(BEAT) {
            holder.beat += 1;
            let _ = write(&file, &holder);
        }
        // Once more after an error; if that fails too, the next command removes it.
        let present = self::holder(&place).or_else(|_| self::holder(&place));
        if present.is_ok_and(|present| present.is_some_and(|p| p.token == holder.token)) {
            let _ = fs::remove_file(&place).or_else(|_| fs::remove_file(&place));
        }
        drop(file);
    });
    Ok(Some(Claim { path, token, stop: Some(stop), heartbeat: Some(heartbeat) }))
}

fn write(mut file: &File, holder: &Holder) -> std::io::Result<()> {
    let text = serde_json::to_vec(holder).expect("plain data");
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)?;
    file.sync_data()
}

/// The claim at `path`, and what it says.
fn open(path: &Path) -> Result<Option<(File, Option<Holder>)>> {
    let failed = |source| Error::io(path, "read")(source);
    match File::options().read(true).write(true).open(path) {
        Ok(file) => {
            let mut text = Vec::new();
            (&file).take(MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
            Ok(Some((file, serde_json::from_slice(&text).ok())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// What the claim at `path` says; `None` where there is none, or none that can be read.
fn holder(path: &Path) -> Result<Option<Holder>> {
    Ok(open(path)?.and_then(|(_, holder)| holder))
}

/// Whether the process that wrote the claim `file` is dead. Locks it if it can.
fn is_dead(file: &File, holder: Option<&Holder>, path: &Path) -> Result<bool> {
    let here = holder.is_some_and(Holder::is_here);
    match file.try_lock() {
        Err(TryLockError::WouldBlock) if here => Ok(false),
        Ok(()) if here => Ok(true),
        // A lock says nothing about other machines.
        _ => Ok(age(file, path)? >= SILENCE),
    }
}

/// How long ago `file` was written, by the clock of the file system: those of two machines may differ.
fn age(file: &File, path: &Path) -> Result<Duration> {
    let failed = |source| Error::io(path, "read")(source);
    let mut now = tempfile::tempfile_in(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    now.write_all(b"now").map_err(failed)?;
    let time = |file: &File| file.metadata().and_then(|metadata| metadata.modified()).map_err(failed);
    Ok(time(&now)?.duration_since(time(file)?).unwrap_or_default())
}

/// Removes the claim at `path` if its process is dead. False where that lives; true also where there is no claim.
fn remove_dead(path: &Path) -> Result<bool> {
    let Some((file, dead)) = open(path)? else { return Ok(true) };
    if !is_dead(&file, dead.as_ref(), path)? {
        return Ok(false);
    }
    // Another process may have come first and have put its own claim there: that one must stay.
    let is_same = |holder: Option<Holder>| {
        holder.as_ref().map(|holder| &holder.token) == dead.as_ref().map(|holder| &holder.token)
    };
    if !is_same(holder(path)?) {
        return Ok(true);
    }
    let aside = path.with_extension(format!("dead-{}", std::process::id()));
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        renamed => renamed.map_err(Error::io(path, "rename"))?,
    }
    if !is_same(holder(&aside)?) {
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside).map_err(Error::io(&aside, "remove"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(path: &Path) -> Option<Claim> {
        match Claim::take(path).unwrap() {
            Taken::Here(claim) => Some(claim),
            Taken::Elsewhere(_) => None,
        }
    }

    /// A claim that a process of another machine wrote `ago`.
    fn foreign(path: &Path, ago: Duration) {
        let mut other = Holder::this("other".into());
        (other.boot, other.machine) = ("another".into(), "node7".into());
        fs::write(path, serde_json::to_vec(&other).unwrap()).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - ago).unwrap();
    }

    #[test]
    fn one_process_at_a_time_has_a_claim() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fold-00/claim.json");
        let claim = taken(&path).unwrap();
        let Taken::Elsewhere(Some(holder)) = Claim::take(&path).unwrap() else { panic!("taken twice") };
        assert_eq!((holder.process, holder.is_here()), (std::process::id(), true));
        assert_eq!(living(&path).unwrap(), Some(holder));
        claim.require().unwrap();
        drop(claim);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0, "nothing is left");
        assert!(living(&path).unwrap().is_none() && taken(&path).is_some());
    }

    #[test]
    fn of_many_that_find_a_dead_claim_one_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..200 {
            let path = dir.path().join(format!("{round}.json"));
            // A dead process of this machine: nobody holds the lock.
            fs::write(&path, serde_json::to_vec(&Holder::this("dead".into())).unwrap()).unwrap();
            let claims: Vec<Option<Claim>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&path))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let held: Vec<&Claim> = claims.iter().flatten().collect();
            assert_eq!(held.len(), 1, "round {round}");
            held[0].require().unwrap();
        }
    }

    #[test]
    fn a_process_of_another_machine_is_dead_when_it_has_long_been_silent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claim.json");
        foreign(&path, Duration::from_secs(30));
        let Taken::Elsewhere(Some(holder)) = Claim::take(&path).unwrap() else { panic!("it lives") };
        assert_eq!(holder.machine, "node7");
        assert_eq!(living(&path).unwrap(), Some(holder));
        foreign(&path, SILENCE + BEAT);
        assert_eq!(living(&path).unwrap(), None);
        let claim = taken(&path).unwrap();
        // A process that had been stopped, and goes on, sees that the claim is no longer its own.
        foreign(&path, Duration::ZERO);
        assert!(claim.require().unwrap_err().to_string().contains("another process took it"));
        drop(claim);
        assert!(living(&path).unwrap().is_some(), "it leaves the claim of the other");
        fs::write(&path, "{}").unwrap();
        assert!(taken(&path).is_none(), "a claim that cannot be read is as good as any while it is new");
    }
}
