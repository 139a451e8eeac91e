//! Write beside, sync, rename: the only way a file or folder of ours comes to be.
//! A reader sees the old content or the new, never a part of it, also after a power cut.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Creates or replaces `path` with what `write` puts into the writer. Missing parent folders are made.
///
/// # Errors
/// What `write` returns, or [`Error::Io`]; in both cases what was at `path` stays as it was.
pub fn write<T>(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<T>) -> Result<T> {
    write_temp(path, |temp| {
        let mut out = BufWriter::with_capacity(1 << 20, temp.as_file());
        let value = write(&mut out)?;
        out.flush().map_err(Error::io(path, "write"))?;
        Ok(value)
    })
}

/// [`write()`] for libraries that want a path: `write` fills the file at the path it is given.
pub fn write_path<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    write_temp(path, |temp| write(temp.path()))
}

fn write_temp<T>(path: &Path, write: impl FnOnce(&tempfile::NamedTempFile) -> Result<T>) -> Result<T> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))?;
    let temp = tempfile::Builder::new()
        .prefix(".wbc-")
        .suffix(".part")
        .tempfile_in(parent)
        .map_err(Error::io(path, "create a file beside it"))?;
    let value = write(&temp)?;
    make_readable(temp.as_file()).map_err(Error::io(path, "set permissions"))?;
    temp.as_file().sync_all().map_err(Error::io(path, "sync"))?;
    temp.persist(path).map_err(|e| Error::Io { path: path.into(), action: "rename into place", source: e.error })?;
    sync_dir(parent);
    Ok(value)
}

/// [`write()`] for bytes that are already there.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, |out| out.write_all(bytes).map_err(Error::io(path, "write")))
}

/// Makes `path` hold `bytes`. Where it holds their beginning already, the rest is added in place, so that a program which
/// follows the file sees it grow; a part that a power cut left is made whole by the next call. Anything else that is there
/// is replaced as by [`write_bytes`].
pub fn extend(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::read(path).ok().and_then(|found| bytes.strip_prefix(found.as_slice())) {
        Some([]) => Ok(()),
        Some(rest) => {
            let mut file = File::options().append(true).open(path).map_err(Error::io(path, "open"))?;
            file.write_all(rest).and_then(|()| file.sync_all()).map_err(Error::io(path, "write"))
        }
        None => write_bytes(path, bytes),
    }
}

/// Creates or replaces the folder `path` with the files that `fill` writes into the folder it is given.
///
/// # Errors
/// What `fill` returns, or [`Error::Io`]; what was at `path` stays as it was until the new folder is whole.
pub fn write_dir<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))?;
    let temp = tempfile::Builder::new()
        .prefix(".wbc-")
        .suffix(".part")
        .tempdir_in(parent)
        .map_err(Error::io(path, "create a folder beside it"))?;
    let value = fill(temp.path())?;
    sync_dir(temp.path());
    let old = temp.path().with_extension("old");
    let had_old = path.exists();
    if had_old {
        fs::rename(path, &old).map_err(Error::io(path, "move the old folder aside"))?;
    }
    let new = temp.keep();
    make_dir_readable(&new);
    if let Err(source) = fs::rename(&new, path) {
        if had_old {
            let _ = fs::rename(&old, path);
        }
        return Err(Error::Io { path: path.into(), action: "rename into place", source });
    }
    sync_dir(parent);
    if had_old {
        fs::remove_dir_all(&old).map_err(Error::io(&old, "remove the old folder"))?;
    }
    Ok(value)
}

/// Gives a file that is whole, and lies beside, its name; what was there is replaced.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(to, "rename into place"))?;
    sync_dir(parent_of(to));
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if p != Path::new("") => p,
        _ => Path::new("."),
    }
}

/// Makes a rename in `dir` last through a power cut. Not every file system can; that is no error.
fn sync_dir(dir: &Path) {
    if let Ok(d) = File::open(dir) {
        let _ = d.sync_all();
    }
}

/// Temporary files are private; results are for the whole lab.
#[cfg(unix)]
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
#[cfg(not(unix))]
fn make_readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn make_dir_readable(dir: &PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
}
#[cfg(not(unix))]
fn make_dir_readable(_: &PathBuf) {}
