//! Temporary files for what is too much for memory.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file without a name, to whose end bytes are added, and which is read at any place. It is gone with the process.
pub struct Spool {
    folder: PathBuf,
    file: File,
    length: u64,
}

impl Spool {
    /// An empty one on the disk of `folder`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder, "create a file in"))?;
        Ok(Self { folder: folder.into(), file, length: 0 })
    }

    /// Adds bytes; returns their place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        let place = self.length;
        // On Windows, reading moves the place where is written.
        let written = self.file.seek(SeekFrom::Start(place)).and_then(|_| self.file.write_all(bytes));
        written.map_err(Error::io(&self.folder, "write a temporary file in"))?;
        self.length += bytes.len() as u64;
        Ok(place)
    }

    /// Fills `bytes` from a place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn get(&self, place: u64, bytes: &mut [u8]) -> Result<()> {
        read_at(&self.file, bytes, place).map_err(Error::io(&self.folder, "read a temporary file in"))
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut place: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, place)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, place) = (&mut bytes[n..], place + n as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path()).unwrap();
        let mut bytes = [0; 5];
        let mut places = Vec::new();
        for part in [&b"one"[..], b"", b"three"] {
            places.push(spool.put(part).unwrap());
            spool.get(0, &mut bytes[..1]).unwrap();
        }
        assert_eq!(places, [0, 3, 3]);
        spool.get(places[2], &mut bytes).unwrap();
        assert_eq!(&bytes, b"three");
        assert!(spool.get(places[2] + 1, &mut bytes).is_err(), "beyond its end");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "no name");
    }
}
