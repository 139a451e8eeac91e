//! Atomic writes: write a temporary file in the same folder, sync it, rename it. All output files are written this way,
//! so that a reader sees either the old content or the new, even after a power failure.

use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Creates or replaces `path` with the bytes that `write` writes. Missing parent folders are created.
///
/// # Errors
/// Those of `write`, and [`Error::Io`]. An existing file is then unchanged.
pub fn write<T>(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<T>) -> Result<T> {
    let parent = create_parent(path)?;
    sweep(parent);
    let temp = loop {
        let temp =
            temporary(0o666).tempfile_in(parent).map_err(Error::io(path, "create a temporary file beside it"))?;
        if is_kept(temp.as_file(), temp.path()) {
            break temp;
        }
    };
    let mut out = BufWriter::with_capacity(1 << 20, temp.as_file());
    let value = write(&mut out)?;
    out.flush().map_err(Error::io(path, "write"))?;
    drop(out);
    temp.as_file().sync_all().map_err(Error::io(path, "sync"))?;
    temp.persist(path).map_err(|e| Error::Io { path: path.into(), action: "rename into place", source: e.error })?;
    sync_dir(parent);
    Ok(value)
}

/// Creates or replaces `path` with `bytes`.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, |out| out.write_all(bytes).map_err(Error::io(path, "write")))
}

/// Makes `path` contain `bytes`. If it already contains a prefix of them, the rest is appended in place, so that a
/// program that follows the file sees it grow. This also repairs an append that was cut short. Any other content is
/// replaced as by [`write_bytes`].
///
/// # Errors
/// [`Error::Io`].
pub fn extend(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::read(path).ok().and_then(|existing| bytes.strip_prefix(existing.as_slice())) {
        Some([]) => Ok(()),
        Some(rest) => {
            let mut file = File::options().append(true).open(path).map_err(Error::io(path, "open"))?;
            file.write_all(rest).and_then(|()| file.sync_all()).map_err(Error::io(path, "write"))
        }
        None => write_bytes(path, bytes),
    }
}

/// Creates or replaces the folder `path` with the files that `fill` writes into the temporary folder it is given. If
/// two processes do so at once, the last to finish wins.
///
/// # Errors
/// Those of `fill`, and [`Error::Io`]. An existing folder is kept until the new one is complete and on the disk.
pub fn write_dir<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let parent = create_parent(path)?;
    sweep(parent);
    let (temp, _held) = loop {
        let temp =
            temporary(0o777).tempdir_in(parent).map_err(Error::io(path, "create a temporary folder beside it"))?;
        let held = File::open(temp.path()).ok();
        if held.as_ref().is_none_or(|held| is_kept(held, temp.path())) {
            break (temp, held);
        }
    };
    let value = fill(temp.path())?;
    sync_tree(temp.path()).map_err(Error::io(path, "sync"))?;
    // Another process must not put its folder there between the steps.
    let _turn = File::open(parent).ok().filter(|parent| parent.lock().is_ok());
    // Where the two can be exchanged, there is no moment without a folder at `path`.
    if path.exists() && exchange(temp.path(), path) {
        sync_dir(parent);
        // If it cannot be removed now, the next command does.
        let _ = temp.close();
        return Ok(value);
    }
    let old = temp.path().with_extension("old");
    let had_old = path.exists();
    if had_old {
        fs::rename(path, &old).map_err(Error::io(path, "move the old folder aside"))?;
    }
    let new = temp.keep();
    if let Err(source) = fs::rename(&new, path) {
        if had_old {
            let _ = fs::rename(&old, path);
        }
        let _ = fs::remove_dir_all(&new);
        return Err(Error::Io { path: path.into(), action: "rename into place", source });
    }
    sync_dir(parent);
    if had_old {
        let _ = fs::remove_dir_all(&old);
    }
    Ok(value)
}

/// Takes the lock on a temporary file or folder by which [`sweep`] sees that it is in use. False if it was swept before
/// it was locked.
fn is_kept(held: &File, path: &Path) -> bool {
    // Some file systems have no locks: nothing is swept there.
    !matches!(held.try_lock(), Err(TryLockError::WouldBlock)) && path.exists()
}

/// The temporary files and folders in `dir` that killed commands left.
pub fn abandoned(dir: &Path) -> Vec<PathBuf> {
    lock_abandoned(dir).into_iter().map(|(path, _)| path).collect()
}

/// The same, with the locks on them.
fn lock_abandoned(dir: &Path) -> Vec<(PathBuf, File)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let temporary = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(PREFIX) && [".part", ".old"].iter().any(|end| name.ends_with(end))
    });
    let lock = |path: PathBuf| {
        let file = File::open(&path).ok()?;
        file.try_lock().is_ok().then_some((path, file))
    };
    let mut abandoned: Vec<_> = temporary.filter_map(|entry| lock(entry.path())).collect();
    abandoned.sort_by(|a, b| a.0.cmp(&b.0));
    abandoned
}

/// Removes what killed commands left in `dir`: the first time that this process writes there.
fn sweep(dir: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !SWEPT.lock().unwrap_or_else(|e| e.into_inner()).insert(dir.into()) {
        return;
    }
    for (path, _held) in lock_abandoned(dir) {
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// Exchanges two folders in one step. False where the system cannot.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}
#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// Writes everything below `dir` to the disk: on Linux its whole file system, in one call instead of one per file.
#[cfg(target_os = "linux")]
fn sync_tree(dir: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}
#[cfg(not(target_os = "linux"))]
fn sync_tree(dir: &Path) -> std::io::Result<()> {
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        match entry.file_type().is_file() {
            true => File::options().write(true).open(entry.path())?.sync_all()?,
            false => sync_dir(entry.path()),
        }
    }
    Ok(())
}

/// Renames a complete file in the same folder to its final name, and replaces any file of that name.
///
/// # Errors
/// [`Error::Io`].
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(to, "rename into place"))?;
    sync_dir(parent_of(to));
    Ok(())
}

/// Start of the name of every temporary file and folder.
const PREFIX: &str = ".wbc-";

/// Builder of temporary files and folders. They get the permissions `mode` without those that the umask removes, as
/// files of other programs do, so that other users of a shared workspace can read results.
pub(crate) fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// Creates the folder that contains `path`, if necessary.
fn create_parent(path: &Path) -> Result<&Path> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))?;
    Ok(parent)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if p != Path::new("") => p,
        _ => Path::new("."),
    }
}

/// Makes a rename in `dir` survive a power failure. Errors are ignored, as some file systems cannot sync a folder.
fn sync_dir(dir: &Path) {
    if let Ok(d) = File::open(dir) {
        let _ = d.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The permissions of a file that another program would create.
    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        write_bytes(&path, b"old").unwrap();
        let failed = write(&path, |out| {
            out.write_all(b"new").unwrap();
            Err::<(), _>(Error::Interrupted)
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        #[cfg(unix)]
        {
            fs::write(dir.path().join("other"), "").unwrap();
            assert_eq!(mode(&path), mode(&dir.path().join("other")), "as the umask says");
        }
    }

    #[test]
    fn what_killed_commands_left_is_removed_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at(".wbc-a.part"), "").unwrap();
        fs::create_dir_all(at(".wbc-b.old").join("folder")).unwrap();
        fs::write(at(".wbc-b.old").join("folder/file"), "").unwrap();
        fs::write(at(".wbc-c.part"), "").unwrap();
        fs::write(at(".other.part"), "").unwrap();
        let in_use = File::open(at(".wbc-c.part")).unwrap();
        in_use.lock().unwrap();
        assert_eq!(abandoned(dir.path()), [at(".wbc-a.part"), at(".wbc-b.old")]);
        write_bytes(&at("file"), b"").unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".other.part", ".wbc-c.part", "file"]);
        let held = write_dir(&at("new"), |temp| Ok(abandoned(dir.path()).iter().any(|path| path == temp)));
        assert!(!held.unwrap(), "a folder that is being filled is in use");
    }

    #[test]
    fn a_folder_is_replaced_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        let put =
            |name: &'static str| move |temp: &Path| fs::write(temp.join(name), name).map_err(Error::io(temp, "write"));
        write_dir(&path, put("old")).unwrap();
        write_dir(&path, put("new")).unwrap();
        assert!(path.join("new").is_file() && !path.join("old").exists());
        let failed = write_dir(&path, |temp| {
            put("third")(temp)?;
            Err::<(), _>(Error::Interrupted)
        });
        assert!(failed.is_err() && path.join("new").is_file() && !path.join("third").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        #[cfg(unix)]
        {
            fs::create_dir(dir.path().join("other")).unwrap();
            assert_eq!(mode(&path), mode(&dir.path().join("other")), "as the umask says");
        }
    }
}
