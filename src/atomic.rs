//! Atomic writes: write a temporary file in the same folder, sync it, rename it. All output files are written this way,
//! so that a reader sees either the old content or the new, even after a power failure.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Creates or replaces `path` with the bytes that `write` writes. Missing parent folders are created.
///
/// # Errors
/// Those of `write`, and [`Error::Io`]. An existing file is then unchanged.
pub fn write<T>(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> Result<T>) -> Result<T> {
    write_temp(path, |temp| {
        let mut out = BufWriter::with_capacity(1 << 20, temp.as_file());
        let value = write(&mut out)?;
        out.flush().map_err(Error::io(path, "write"))?;
        Ok(value)
    })
}

/// As [`write()`], for libraries that need a path: `write` fills the temporary file at the given path.
///
/// # Errors
/// As [`write()`].
pub fn write_path<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    write_temp(path, |temp| write(temp.path()))
}

fn write_temp<T>(path: &Path, write: impl FnOnce(&tempfile::NamedTempFile) -> Result<T>) -> Result<T> {
    let parent = create_parent(path)?;
    let temp = temporary().tempfile_in(parent).map_err(Error::io(path, "create a temporary file beside it"))?;
    let value = write(&temp)?;
    make_readable(temp.as_file()).map_err(Error::io(path, "set permissions"))?;
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

/// Creates or replaces the folder `path` with the files that `fill` writes into the temporary folder it is given.
///
/// # Errors
/// Those of `fill`, and [`Error::Io`]. An existing folder is kept until the new one is complete.
pub fn write_dir<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let parent = create_parent(path)?;
    let temp = temporary().tempdir_in(parent).map_err(Error::io(path, "create a temporary folder beside it"))?;
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

/// Renames a complete file in the same folder to its final name, and replaces any file of that name.
///
/// # Errors
/// [`Error::Io`].
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(to, "rename into place"))?;
    sync_dir(parent_of(to));
    Ok(())
}

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wbc-").suffix(".part");
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

/// Temporary files are private by default, but other users of a shared workspace must be able to read results.
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
