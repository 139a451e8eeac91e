//! Atomic writes: write a temporary file in the same folder, sync it, rename it. All output files are written this way,
//! so that a reader sees either the old content or the new, even after a power failure.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

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

/// As [`write()`], for libraries that need a path: `write` fills the temporary file at the given path, or replaces it.
///
/// # Errors
/// As [`write()`].
pub fn write_path<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    write_temp(path, |temp| write(temp.path()))
}

fn write_temp<T>(path: &Path, write: impl FnOnce(&tempfile::NamedTempFile) -> Result<T>) -> Result<T> {
    let parent = create_parent(path)?;
    let temp = temporary(0o666).tempfile_in(parent).map_err(Error::io(path, "create a temporary file beside it"))?;
    let permissions = temp.as_file().metadata().map_err(Error::io(path, "read the permissions of"))?.permissions();
    let value = write(&temp)?;
    // A library may have replaced the file at the temporary path: it is the file there now that must reach the disk.
    let written = File::options().write(true).open(temp.path()).map_err(Error::io(path, "open"))?;
    written.set_permissions(permissions).map_err(Error::io(path, "set the permissions of"))?;
    written.sync_all().map_err(Error::io(path, "sync"))?;
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
/// Those of `fill`, and [`Error::Io`]. An existing folder is kept until the new one is complete and on the disk.
pub fn write_dir<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let parent = create_parent(path)?;
    let temp = temporary(0o777).tempdir_in(parent).map_err(Error::io(path, "create a temporary folder beside it"))?;
    let value = fill(temp.path())?;
    sync_tree(temp.path()).map_err(Error::io(path, "sync"))?;
    // Where the two can be exchanged, there is no moment without a folder at `path`.
    if path.exists() && exchange(temp.path(), path) {
        sync_dir(parent);
        return temp.close().map(|()| value).map_err(Error::io(path, "remove the old folder of"));
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
        fs::remove_dir_all(&old).map_err(Error::io(&old, "remove the old folder"))?;
    }
    Ok(value)
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

/// Builder of temporary files and folders. They get the permissions `mode` without those that the umask removes, as
/// files of other programs do, so that other users of a shared workspace can read results.
fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wbc-").suffix(".part");
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
    fn a_library_may_replace_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        write_path(&path, |temp| {
            let own = temp.with_extension("own");
            fs::write(&own, "weights").unwrap();
            fs::rename(own, temp).map_err(Error::io(temp, "rename"))
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "weights");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        #[cfg(unix)]
        {
            fs::write(dir.path().join("other"), "").unwrap();
            assert_eq!(mode(&path), mode(&dir.path().join("other")), "as the umask says");
        }
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
