//! Unpacks archives (zip, tar, tar.gz) safely: no path leaves the folder, links and devices are left out, names are
//! changed to be valid on every system, and the size, the number of files and the compression ratio are limited.

use super::download::{HEAD_BYTES, bytes_text, head};
use crate::class::ClassSet;
use crate::context::Context;
use crate::decode;
use crate::error::{Error, Result};
use crate::ingest::is_leftover;
use flate2::read::MultiGzDecoder;
use serde::Serialize;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Limits on the contents of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most files and folders.
    pub files: u64,
    /// Most unpacked bytes.
    pub bytes: u64,
    /// Most unpacked bytes per packed byte, over the whole archive.
    pub ratio: u64,
    /// The ratio is checked from this size on, bytes: masks compress to very small files.
    pub ratio_from_bytes: u64,
}

/// Longest name of a file or folder, bytes.
const NAME_BYTES: usize = 240;
/// Most folders above a file.
const DEPTH: usize = 32;

/// The type of an archive, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Zip.
    Zip,
    /// Tar, not compressed.
    Tar,
    /// Gzip, with a tar archive inside.
    Gzip,
}

impl Kind {
    /// The usual file extension.
    pub fn extension(self) -> &'static str {
        ["zip", "tar", "tar.gz"][self as usize]
    }

    /// The type of archive of a file that begins with `head`.
    ///
    /// # Errors
    /// For another file: what it is instead, and what to do.
    pub fn of(head: &[u8]) -> std::result::Result<Kind, String> {
        let starts = |magic: &[u8]| head.starts_with(magic);
        let by_hand = "unpack it by hand into a folder in data/raw/";
        let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
        Err(match () {
            () if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") => return Ok(Kind::Zip),
            () if starts(b"\x1f\x8b") => return Ok(Kind::Gzip),
            () if is_tar(head) => return Ok(Kind::Tar),
            () if starts(b"Rar!\x1a\x07") => format!("a RAR archive: {by_hand}"),
            () if starts(b"7z\xbc\xaf\x27\x1c") => format!("a 7z archive: {by_hand}"),
            () if starts(b"\xfd7zXZ\0") => format!("an xz archive: {by_hand}"),
            () if starts(b"BZh") => format!("a bzip2 archive: {by_hand}"),
            () if starts(b"\x28\xb5\x2f\xfd") => format!("a Zstandard archive: {by_hand}"),
            () if starts(b"\x93NUMPY") => "a NumPy array, but wbc reads image files".into(),
            () if decode::is_image(head) => {
                "a single image: put it into a folder named after its class, such as data/raw/mine/neutrophil/".into()
            }
            () if text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<?xml") => {
                "a web page: open it in a browser, and use the address of the file itself, or the downloaded file"
                    .into()
            }
            () if head.is_empty() => "an empty file".into(),
            () if !head.contains(&0) && std::str::from_utf8(&head[..head.len().saturating_sub(4)]).is_ok() => {
                "a text file: save a list of images as data/raw/<DATASET>/list.csv (columns path,class)".into()
            }
            () => "a file of an unknown type".into(),
        })
    }
}

fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// The result of unpacking.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Unpacked {
    /// Files that were unpacked.
    pub files: u64,
    /// Their size, bytes.
    pub bytes: u64,
    /// Number of entries that were left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Files whose names were changed.
    pub renamed: u64,
}

/// Unpacks `archive` into the empty folder `into`. A single folder around everything is dropped, unless its name means
/// something. `keep` selects and places files (see [`super::catalogue::destination`]). An archive that contains only
/// another archive is unpacked twice.
///
/// # Errors
/// [`Error::Format`] where it is not an archive, is broken, has an entry that would leave the folder, or exceeds
/// `limits`; [`Error::Io`]; [`Error::Interrupted`].
pub fn unpack(
    archive: &Path,
    into: &Path,
    keep: &[(String, String)],
    limits: &Limits,
    ctx: &Context,
) -> Result<Unpacked> {
    // Files are unpacked into a temporary folder first, so that their names cannot collide with others.
    let stage =
        tempfile::Builder::new().prefix(".unpack-").tempdir_in(into).map_err(Error::io(into, "create a folder"))?;
    let mut sink = Sink::new(archive, stage.path().join("1"), limits, ctx)?;
    sink.fill(archive)?;
    if let Some(inner) = sink.only_file()
        && Kind::of(&head(&inner)?).is_ok()
    {
        let mut second = Sink::new(archive, stage.path().join("2"), limits, ctx)?;
        (second.files, second.bytes, second.done) = (sink.files, sink.bytes, std::mem::take(&mut sink.done));
        second.done.files = 0;
        second.done.bytes = 0;
        second.fill(&inner)?;
        fs::remove_file(&inner).map_err(Error::io(&inner, "remove"))?;
        sink = second;
    }
    sink.place(into, keep)?;
    let done = sink.done;
    stage.close().map_err(Error::io(into, "tidy up"))?;
    Ok(done)
}

/// Writes the entries of an archive as files.
struct Sink<'a> {
    archive: &'a Path,
    root: PathBuf,
    limits: &'a Limits,
    packed_bytes: u64,
    /// Entries and bytes that count towards the limits.
    files: u64,
    bytes: u64,
    /// Names in `root`, by the name in lower case, because some systems ignore case.
    names: HashMap<String, String>,
    /// For names that occurred several times, the next number to try: the same name may come a million times.
    numbers: HashMap<String, u64>,
    done: Unpacked,
    ctx: &'a Context<'a>,
}

/// Bytes that the headers of a tar archive may take in addition.
const HEADERS_BYTES: u64 = 64 << 20;

/// Bytes of a block of a tar archive, which ends with two of zeros.
const BLOCK: u64 = 512;

/// A reader that fails after so many bytes, or when the user stops.
struct Bounded<'a, R> {
    reader: R,
    left: u64,
    /// Bytes read.
    read: &'a Cell<u64>,
    ctx: &'a Context<'a>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let failed = |message: &str| Err(std::io::Error::other(message));
        if self.ctx.check_stop().is_err() {
            return failed("stopped");
        }
        let n = self.reader.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                self.read.set(self.read.get() + n as u64);
            }
            None => return failed("it unpacks to far more than its files, to fill memory or disk"),
        }
        Ok(n)
    }
}

impl<'a> Sink<'a> {
    fn new(archive: &'a Path, root: PathBuf, limits: &'a Limits, ctx: &'a Context) -> Result<Self> {
        fs::create_dir(&root).map_err(Error::io(&root, "create the folder"))?;
        let packed_bytes = fs::metadata(archive).map_err(Error::io(archive, "read"))?.len();
        let (names, numbers, done) = (HashMap::new(), HashMap::new(), Unpacked::default());
        Ok(Self { archive, root, limits, packed_bytes, files: 0, bytes: 0, names, numbers, done, ctx })
    }

    /// Unpacks a whole archive file.
    fn fill(&mut self, file: &Path) -> Result<()> {
        let kind =
            Kind::of(&head(file)?).map_err(|found| self.error("contents", "a zip, tar or tar.gz archive", found))?;
        let open = File::open(file).map_err(Error::io(file, "open"))?;
        let unpacked = match kind {
            Kind::Zip => self.zip(open),
            Kind::Tar => self.tar(BufReader::new(open)),
            Kind::Gzip => {
                let mut reader = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(open)));
                let mut first = [0; HEAD_BYTES];
                let n = read_full(&mut reader, &mut first).map_err(|e| self.broken(&e))?;
                if is_tar(&first[..n]) {
                    self.tar(first[..n].chain(reader))
                } else {
                    let found = "another compressed file: unpack it by hand".to_string();
                    Err(self.error("contents", "a tar archive in the gzip file", found))
                }
            }
        };
        if unpacked.is_err() {
            self.ctx.check_stop()?;
        }
        unpacked
    }

    fn zip(&mut self, file: File) -> Result<()> {
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| self.broken(&e))?;
        let task = self.ctx.progress.task("unpacking", Some(archive.len() as u64), "files");
        for i in 0..archive.len() {
            task.advance(1);
            let mut entry = archive.by_index(i).map_err(|e| self.broken(&e))?;
            let name = entry.name().map_err(|e| self.broken(&e))?.into_owned();
            // The upper bits of a Unix mode are the type of the file.
            let kind = entry.unix_mode().map_or(0, |mode| mode & 0o170_000);
            if entry.is_symlink() {
                let mut target = String::new();
                let _ = entry.by_ref().take(4096).read_to_string(&mut target);
                self.link(&name, &target)?;
            } else if entry.is_dir() {
                self.folder(&name)?;
            } else if matches!(kind, 0 | 0o100_000) {
                self.file(&name, &mut entry)?;
            } else {
                self.leave_out("devices and pipes")?;
            }
        }
        Ok(())
    }

    fn tar(&mut self, reader: impl Read) -> Result<()> {
        // The tar crate reads long names and other extensions itself, so that only this reader can limit them.
        let contents = self
            .limits
            .bytes
            .min(self.limits.ratio_from_bytes.max(self.limits.ratio.saturating_mul(self.packed_bytes)));
        let (read, mut end) = (Cell::new(0), 0);
        let reader = Bounded {
            reader,
            left: contents.saturating_add(contents / 4).saturating_add(HEADERS_BYTES),
            read: &read,
            ctx: self.ctx,
        };
        let mut archive = tar::Archive::new(reader);
        let task = self.ctx.progress.task("unpacking", None, "files");
        for entry in archive.entries().map_err(|e| self.broken(&e))? {
            task.advance(1);
            let mut entry = entry.map_err(|e| self.broken(&e))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned());
                // The target of a hard link is relative to the top of the archive.
                let from = if kind.is_hard_link() { "" } else { name.as_str() };
                self.link(from, &target.unwrap_or_default())?;
            } else if kind.is_dir() {
                self.folder(&name)?;
            } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                self.file(&name, &mut entry)?;
            } else if kind.is_character_special() || kind.is_block_special() || kind.is_fifo() {
                self.leave_out("devices and pipes")?;
            } else {
                self.count()?;
            }
            // A sparse file is larger than what is stored of it.
            let stored = if kind.is_gnu_sparse() { entry.header().entry_size().unwrap_or(0) } else { entry.size() };
            end = entry.raw_file_position().saturating_add(stored);
        }
        if read.get() < end.saturating_add(BLOCK) {
            return Err(self.broken(&"it ends after a file, without the blocks that end an archive"));
        }
        // The checksum of a gzip file comes after everything.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(|e| self.broken(&e))?;
        Ok(())
    }

    /// Counts an entry. Fails if the user stops, or at the limit.
    fn count(&mut self) -> Result<()> {
        self.ctx.check_stop()?;
        self.files += 1;
        if self.files > self.limits.files {
            let got = format!("more (wbc fetch --max-files N for archives that you trust; now {})", self.limits.files);
            return Err(self.error("number of files", &format!("at most {}", self.limits.files), got));
        }
        Ok(())
    }

    fn leave_out(&mut self, reason: &str) -> Result<()> {
        *self.done.left_out.entry(reason.into()).or_default() += 1;
        self.count()
    }

    /// Leaves out a link. One that leads out of the folder is an attack, and an error.
    fn link(&mut self, name: &str, target: &str) -> Result<()> {
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        let outside = is_absolute(target) || {
            let mut depth = 0_i64;
            let path = format!("{parent}/{target}");
            path.split(['/', '\\']).any(|part| {
                depth += match part {
                    "" | "." => 0,
                    ".." => -1,
                    _ => 1,
                };
                depth < 0
            })
        };
        if outside {
            return Err(self.error(name, "a link to a file of the archive", format!("one that leads to {target}")));
        }
        self.leave_out("links")
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        self.count()?;
        if let Some(path) = self.path(name, true)? {
            fs::create_dir_all(&path).map_err(Error::io(&path, "create the folder"))?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, contents: &mut dyn Read) -> Result<()> {
        let Some(path) = self.path(name, false)? else { return self.leave_out("files of operating systems") };
        self.count()?;
        let parent = path.parent().expect("below the root");
        fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))?;
        let mut file = File::create_new(&path).map_err(Error::io(&path, "create"))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = contents.read(&mut buffer).map_err(|e| self.broken(&format!("{name}: {e}")))?;
            if n == 0 {
                break;
            }
            self.ctx.check_stop()?;
            self.bytes += n as u64;
            self.done.bytes += n as u64;
            if self.bytes > self.limits.bytes {
                let got = "more (wbc fetch --max-unpacked-gb N for archives that you trust)".to_string();
                return Err(self.error("unpacked size", &format!("at most {}", bytes_text(self.limits.bytes)), got));
            }
            let most = self.packed_bytes.saturating_mul(self.limits.ratio);
            if self.bytes > self.limits.ratio_from_bytes && self.bytes > most {
                let got = format!(
                    "{} from {}, and no end (wbc fetch --max-ratio N for archives that you trust)",
                    bytes_text(self.bytes),
                    bytes_text(self.packed_bytes)
                );
                return Err(self.error(
                    "unpacked size",
                    &format!("at most {} times the packed", self.limits.ratio),
                    got,
                ));
            }
            file.write_all(&buffer[..n]).map_err(Error::io(&path, "write"))?;
        }
        self.done.files += 1;
        Ok(())
    }

    /// The path to unpack an entry to, or `None` for files that operating systems add to archives. Names are changed to
    /// be valid on every system; a name that exists already (in any case) gets a number.
    fn path(&mut self, name: &str, is_folder: bool) -> Result<Option<PathBuf>> {
        if is_absolute(name) {
            return Err(self.error(name, "a relative path inside the archive", "an absolute one".into()));
        }
        let parts: Vec<&str> = name.split(['/', '\\']).filter(|p| !p.is_empty() && *p != ".").collect();
        if parts.contains(&"..") {
            return Err(self.error(name, "a relative path inside the archive", "one that leads outside".into()));
        }
        if parts.len() > DEPTH || parts.iter().any(|p| p.len() > NAME_BYTES) {
            let expected = format!("at most {DEPTH} folders and names of {NAME_BYTES} bytes");
            return Err(self.error(name, &expected, "a longer path".into()));
        }
        let Some(last) = parts.last() else { return Ok(is_folder.then(|| self.root.clone())) };
        if parts.iter().any(|part| is_leftover(part)) {
            return Ok(None);
        }
        let mut path = String::new();
        for (i, part) in parts.iter().enumerate() {
            let folder = is_folder || i + 1 < parts.len();
            let part = valid_name(part);
            if i > 0 {
                path.push('/');
            }
            path = self.name(path, &part, folder);
        }
        let renamed = path.rsplit('/').next() != Some(*last);
        self.done.renamed += u64::from(renamed && !is_folder);
        Ok(Some(self.root.join(path)))
    }

    /// The path of `part` in the folder `before`. An existing folder is reused; a file that exists gets a number. Files
    /// are marked with a bar in `names`, which no name contains.
    fn name(&mut self, before: String, part: &str, folder: bool) -> String {
        let (stem, extension) = match part.rsplit_once('.') {
            Some((stem, extension)) if !folder && !stem.is_empty() => (stem, format!(".{extension}")),
            _ => (part, String::new()),
        };
        let key = format!("{before}{part}{}", if folder { "/" } else { "" }).to_lowercase();
        for number in self.numbers.get(&key).copied().unwrap_or(1).. {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = format!("{before}{stem}{suffix}{extension}");
            let mark = if folder { "" } else { "|" };
            match self.names.get(&path.to_lowercase()) {
                None => {
                    self.names.insert(path.to_lowercase(), format!("{path}{mark}"));
                    if !folder {
                        self.numbers.insert(key, number + 1);
                    }
                    return path;
                }
                Some(there) if folder && !there.ends_with('|') => return there.clone(),
                Some(_) => {}
            }
        }
        unreachable!("there are more numbers than files")
    }

    /// The file that was unpacked, where it is the only one.
    fn only_file(&self) -> Option<PathBuf> {
        let mut files = self.names.values().filter_map(|n| n.strip_suffix('|'));
        let first = files.next()?;
        files.next().is_none().then(|| self.root.join(first))
    }

    /// Moves the unpacked files to their destination.
    fn place(&mut self, into: &Path, keep: &[(String, String)]) -> Result<()> {
        let top = top_of(&self.root)?;
        if keep.is_empty() {
            for entry in entries(&top)? {
                let to = into.join(entry.file_name());
                fs::rename(entry.path(), &to).map_err(Error::io(&to, "move into place"))?;
            }
            return Ok(());
        }
        let (mut files, mut kept_bytes) = (0, 0);
        for entry in walkdir::WalkDir::new(&top).sort_by_file_name() {
            let entry = entry.map_err(|e| Error::io(&top, "list")(e.into()))?;
            if !entry.file_type().is_file() {
                continue;
            }
            let below = entry.path().strip_prefix(&top).expect("walked from there");
            let below = below.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join("/");
            match super::catalogue::destination(keep, &below) {
                None => *self.done.left_out.entry("files that do not belong to the data set".into()).or_default() += 1,
                Some(to) => {
                    let to = into.join(to);
                    let parent = to.parent().expect("below the folder");
                    fs::create_dir_all(parent).map_err(Error::io(parent, "create the folder"))?;
                    kept_bytes += entry.metadata().map_or(0, |m| m.len());
                    fs::rename(entry.path(), &to).map_err(Error::io(&to, "move into place"))?;
                    files += 1;
                }
            }
        }
        (self.done.files, self.done.bytes) = (files, kept_bytes);
        Ok(())
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Error {
        self.error("contents", "a whole archive", format!("a broken one: {error}"))
    }

    fn error(&self, item: &str, expected: &str, got: String) -> Error {
        Error::format(self.archive, item, expected, got)
    }
}

/// The top folder of the data set: the only folder in `root`, unless its name is that of a class or part of a layout.
fn top_of(root: &Path) -> Result<PathBuf> {
    const OF_LAYOUTS: [&str; 4] = ["main dataset", "ground truth segmentation", "images", "masks"];
    let entries = entries(root)?;
    if let [only] = &entries[..]
        && only.path().is_dir()
    {
        let name = only.file_name().to_string_lossy().to_lowercase();
        if !OF_LAYOUTS.contains(&name.as_str()) && ClassSet::pbc8().find(&name).is_none() {
            return Ok(only.path());
        }
    }
    Ok(root.into())
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let entries: std::io::Result<Vec<_>> = fs::read_dir(dir).and_then(Iterator::collect);
    entries.map_err(Error::io(dir, "list"))
}

/// Whether a path is absolute on any system: `/a`, `\\a`, `C:\a`, `C:a`.
fn is_absolute(path: &str) -> bool {
    let mut chars = path.chars();
    let first = chars.next();
    matches!(first, Some('/' | '\\')) || (first.is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':'))
}

/// A name that is valid on every system.
fn valid_name(part: &str) -> String {
    const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];
    let odd = |c: char| c.is_control() || "<>:\"|?*".contains(c);
    let mut name: String = part.chars().map(|c| if odd(c) { '_' } else { c }).collect();
    let end = name.trim_end_matches(['.', ' ']).len();
    name.replace_range(end.., &"_".repeat(name.len() - end));
    let stem = name.split('.').next().unwrap_or("").to_lowercase();
    let device = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = stem.len() - device.len();
    if RESERVED.contains(&device) && numbered == usize::from(["com", "lpt"].contains(&device)) {
        name.insert(0, '_');
    }
    name
}

/// Reads until `buffer` is full or the end.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..])? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("bomb.zip");
        let mut writer = zip::ZipWriter::new(File::create(&archive).unwrap());
        for i in 0..20 {
            writer.start_file(format!("neutrophil/{i}.bmp"), zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(&[0; 1 << 20]).unwrap();
        }
        writer.finish().unwrap();
        let ctx = Context::silent(0);
        let unpacked = |ratio, ratio_from_bytes| {
            let into = tempfile::tempdir().unwrap();
            let limits = Limits { files: 100, bytes: 1 << 30, ratio, ratio_from_bytes };
            unpack(&archive, into.path(), &[], &limits, &ctx).map(|done| done.bytes).map_err(|e| e.to_string())
        };
        assert_eq!(unpacked(1 << 20, 0), Ok(20 << 20));
        assert_eq!(unpacked(100, 20 << 20), Ok(20 << 20), "small ones may");
        let error = unpacked(100, 1 << 20).unwrap_err();
        assert!(error.contains("at most 100 times") && error.contains("--max-ratio"), "{error}");
    }

    #[test]
    fn what_a_tar_holds_besides_files_is_bounded() {
        let ctx = Context::silent(0);
        // A long name, which the library reads whole, and a folder with contents, which it skips.
        for kind in [tar::EntryType::GNULongName, tar::EntryType::Directory] {
            let dir = tempfile::tempdir().unwrap();
            let archive = dir.path().join("bomb.tar.gz");
            let packed = flate2::write::GzEncoder::new(File::create(&archive).unwrap(), flate2::Compression::fast());
            let mut builder = tar::Builder::new(packed);
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_path("x").unwrap();
            header.set_size(3 * HEADERS_BYTES);
            header.set_cksum();
            builder.append(&header, std::io::repeat(b'a').take(3 * HEADERS_BYTES)).unwrap();
            builder.into_inner().unwrap().finish().unwrap();
            let limits = Limits { files: 100, bytes: 1 << 30, ratio: 10, ratio_from_bytes: 1 << 20 };
            let into = tempfile::tempdir().unwrap();
            let error =
                unpack(&archive, into.path(), &[], &limits, &ctx).map(|done| done.bytes).unwrap_err().to_string();
            assert!(error.contains("to fill memory or disk"), "{kind:?}: {error}");
        }
    }

    #[test]
    fn names_become_valid() {
        for (name, valid) in [
            ("1.bmp", "1.bmp"),
            ("a:b?.jpg", "a_b_.jpg"),
            ("NUL.txt", "_NUL.txt"),
            ("com1", "_com1"),
            ("com", "com"),
            ("nul2.png", "nul2.png"),
            ("end. ", "end__"),
            ("Zellen ü.png", "Zellen ü.png"),
        ] {
            assert_eq!(valid_name(name), valid);
        }
        for path in ["/etc/passwd", "\\\\host\\share", "C:\\x", "c:x"] {
            assert!(is_absolute(path), "{path}");
        }
        assert!(!is_absolute("neutrophil/1.jpg") && !is_absolute(""));
    }

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        assert_eq!(Kind::of(b"PK\x03\x04...."), Ok(Kind::Zip));
        assert_eq!(Kind::of(b"\x1f\x8b\x08...."), Ok(Kind::Gzip));
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Kind::of(&tar), Ok(Kind::Tar));
        for (bytes, said) in [
            (&b"Rar!\x1a\x07\x01\0"[..], "RAR"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "single image"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"path,class\n1.jpg,neutrophil\n", "list.csv"),
            (b"", "empty"),
            (b"\0\0\0\x01garbage", "unknown type"),
        ] {
            let found = Kind::of(bytes).unwrap_err();
            assert!(found.contains(said), "{found}");
        }
    }
}
