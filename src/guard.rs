//! What protects the program from the files that it reads: a panic in a decoder becomes a result, and no file is read
//! that is larger than expected, or is a device or a pipe, which may have no end.

use crate::storage;
use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;

/// Runs a decoder; `None` if it panics, which is then not printed.
pub fn catch<T>(decoder: impl FnOnce() -> T) -> Option<T> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decoder));
    QUIET.set(before);
    result.ok()
}

/// Reads a whole file of at most `most_bytes`, or an object: see [`storage`].
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] for a larger one, [`ErrorKind::InvalidInput`] for what is no regular file, and those of
/// reading.
pub fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>> {
    let about = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return storage::read(path, most_bytes)?.ok_or(error);
        }
        about => about?,
    };
    regular(&about)?;
    let too_large = |bytes: u64| {
        let message =
            format!("expected at most {} MB, found a file of {} MB", most_bytes / 1_000_000, bytes / 1_000_000);
        Error::new(ErrorKind::FileTooLarge, message)
    };
    if about.len() > most_bytes {
        return Err(too_large(about.len()));
    }
    let mut bytes = Vec::with_capacity(about.len() as usize + 1);
    // The file may grow while it is read.
    File::open(path)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Whether there is a regular file at `path`.
///
/// # Errors
/// Where that is not known, because a folder above it may not be searched.
pub fn is_file(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(about) => Ok(about.is_file()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotADirectory => match storage::find(path)? {
            None => Ok(false),
            Some((link, name)) => match link.about(&name) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                found => found.map(|_| true),
            },
        },
        Err(error) => Err(error),
    }
}

/// Refuses devices, pipes and sockets.
///
/// # Errors
/// [`ErrorKind::InvalidInput`].
pub fn regular(about: &Metadata) -> Result<()> {
    let what = if about.is_dir() { "a folder" } else { "a device, pipe or socket" };
    match about.is_file() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::InvalidInput, format!("expected a regular file, found {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_result() {
        assert_eq!(catch::<()>(|| panic!("not printed")), None);
        assert_eq!(catch(|| catch(|| 1)), Some(Some(1)));
    }

    #[test]
    fn files_are_read_up_to_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap(), [7; 10]);
        assert_eq!(read(&path, 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(dir.path(), 9).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&dir.path().join("none"), 9).unwrap_err().kind(), ErrorKind::NotFound);
        // Its size is given as 0.
        #[cfg(unix)]
        assert_eq!(read(Path::new("/dev/zero"), 9).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
