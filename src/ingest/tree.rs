//! The folder of a data set: every file with its hash and image header.

use super::checks;
use super::sheet::{self, Sheet};
use crate::context::Context;
use crate::decode::{self, Format, Header, Rgb};
use crate::error::{Error, Input, Result};
use crate::guard;
use crate::rows::Severity;
use crate::shards::{self, Item, Step};
use crate::storage::{self, Link};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

/// A file of a data set.
#[derive(Clone, Debug)]
pub struct ScannedFile {
    /// Relative to the folder of the data set, with forward slashes; absolute for a file outside it.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// BLAKE3 of the bytes, 64 hex digits.
    pub content_hash: String,
    /// The image header, or the name of the issue (one of [`checks`]) and a message.
    pub header: std::result::Result<Header, (&'static str, String)>,
    /// Whether the image holds from 2 to 5 grey levels and no colour, as masks do and no image of a cell does.
    pub few_greys: bool,
    /// Whether nearly all of the image is of a few colours: a mask with colours or smooth edges, or an empty one. A
    /// drawing may be so, too: it is a mask only if its name says so.
    pub few_colours: bool,
}

/// Most grey levels of a mask: background, cytoplasm, nucleus, and a few more.
pub const MASK_GREYS: usize = 5;
/// Most colours of a mask.
const MASK_COLOURS: usize = 8;

impl ScannedFile {
    /// Whether the file is an image with a valid header.
    pub fn is_image(&self) -> bool {
        self.header.is_ok()
    }

    /// Names of the folders that contain the file, the outermost first.
    pub fn folders(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.folder().split('/').filter(|name| !name.is_empty())
    }

    /// The folder that contains the file, relative like `path`; empty for the folder of the data set.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Name of the file.
    pub fn file_name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    /// Name of the file without its extension.
    pub fn stem(&self) -> &str {
        let name = self.file_name();
        name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or(name, |(stem, _)| stem)
    }

    /// A file of this path that was not read.
    #[cfg(test)]
    pub(super) fn unread(path: &str) -> ScannedFile {
        let header = Err((checks::UNREADABLE, String::new()));
        ScannedFile {
            path: path.into(),
            bytes: 0,
            content_hash: String::new(),
            header,
            few_greys: false,
            few_colours: false,
        }
    }

    /// Whether the name of the file ends like that of an image.
    pub fn has_image_extension(&self) -> bool {
        decode::has_image_extension(Path::new(self.file_name()))
    }
}

/// A file or folder that cannot be scanned.
pub struct Problem {
    /// Its path, like that of a [`ScannedFile`].
    pub path: String,
    /// Name of the issue, one of [`checks`].
    pub check: &'static str,
    /// How serious it is.
    pub severity: Severity,
    /// What was expected and found.
    pub message: String,
}

/// The folder of a data set.
pub struct Tree {
    /// The folder.
    pub root: PathBuf,
    /// Every file, sorted by path.
    pub files: Vec<ScannedFile>,
    /// Number of files that operating systems and programs left there: see [`is_leftover`].
    pub leftovers: u64,
    /// What cannot be scanned.
    pub problems: Vec<Problem>,
    /// The first file that could not be read when its contents were needed.
    failure: Mutex<Option<Error>>,
    /// Where shards keep what they find.
    shards: PathBuf,
    /// What the steps after the scan depend on; empty unless there are shards.
    basis: BTreeMap<String, String>,
}

/// The files below a folder.
pub struct Walk {
    /// Every regular file, sorted by path. Links are followed.
    pub files: Vec<PathBuf>,
    /// Number of files that operating systems and programs left there: see [`is_leftover`]. They are not in `files`.
    pub leftovers: u64,
    /// Dead links, devices and the like, and hidden folders, which are skipped. Paths are relative to the folder.
    pub problems: Vec<Problem>,
}

/// Whether a file or folder of this name was left by an operating system or a program, and is nobody's data.
pub fn is_leftover(name: &str) -> bool {
    const NAMES: [&str; 6] = ["__macosx", ".ds_store", "thumbs.db", "desktop.ini", ".ipynb_checkpoints", "@eadir"];
    name.starts_with("._") || NAMES.contains(&name.to_lowercase().as_str())
}

/// Lists the files below `root`, without leftovers and hidden folders. Training, `predict` and `validate` all find
/// their files by this function.
///
/// # Errors
/// [`Error::Io`] if `root` or a folder in it cannot be listed: what is in it is not known.
pub fn walk(root: &Path) -> Result<Walk> {
    if storage::is_link(root) {
        return objects(root);
    }
    std::fs::read_dir(root).map_err(Error::io(root, "list"))?;
    let mut walk = Walk { files: Vec::new(), leftovers: 0, problems: Vec::new() };
    let mut entries = walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let mut problem = |path: &Path, check, severity, message: String| {
            walk.problems.push(Problem { path: relative(root, path), check, severity, message });
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(root);
                match error.loop_ancestor().map(|ancestor| relative(root, ancestor)) {
                    Some(to) => {
                        let to = if to.is_empty() { "the folder of the data set".into() } else { to };
                        problem(path, checks::LINK_LOOP, Severity::Warning, format!("the link leads back to {to}"));
                    }
                    None if is_dead_link(&error) => {
                        let message = "expected a file or folder, found a link to none".into();
                        problem(path, checks::UNREADABLE, Severity::Error, message);
                    }
                    None => {
                        let path = path.to_path_buf();
                        let cause = error.into_io_error().unwrap_or_else(|| std::io::ErrorKind::Other.into());
                        return Err(Error::io(&path, "open")(cause));
                    }
                }
                continue;
            }
        };
        let name = entry.file_name().to_string_lossy();
        let is_folder = entry.file_type().is_dir();
        if entry.depth() > 0 && is_leftover(&name) {
            walk.leftovers += if is_folder { files_in(entry.path()) } else { 1 };
            if is_folder {
                entries.skip_current_dir();
            }
        } else if is_folder {
            if entry.depth() > 0 && name.starts_with('.') {
                problem(entry.path(), checks::HIDDEN_FOLDER, Severity::Note, "hidden folder, skipped".into());
                entries.skip_current_dir();
            }
        } else if entry.path().to_str().is_none() {
            let message = "expected a file name in UTF-8, found other bytes".into();
            problem(entry.path(), checks::UNREADABLE, Severity::Error, message);
        } else if !entry.file_type().is_file() {
            let message = "expected a regular file, found a device, socket or pipe".into();
            problem(entry.path(), checks::UNREADABLE, Severity::Error, message);
        } else {
            walk.files.push(entry.into_path());
        }
    }
    Ok(walk)
}

/// Lists the objects below a link, by the rules of [`walk`].
fn objects(root: &Path) -> Result<Walk> {
    let failed = |error| Error::io(root, "list")(error);
    let mut walk = Walk { files: Vec::new(), leftovers: 0, problems: Vec::new() };
    let mut hidden: BTreeSet<String> = BTreeSet::new();
    let Some(link) = storage::link(root).map_err(failed)? else { return Ok(walk) };
    for object in link.list().map_err(failed)? {
        let (folders, name) = object.name.rsplit_once('/').unwrap_or(("", &object.name));
        let is_hidden = |end: &usize| object.name[..*end].rsplit('/').next().is_some_and(|name| name.starts_with('.'));
        let ends = || object.name.match_indices('/').map(|(end, _)| end);
        if object.name.split('/').any(is_leftover) {
            walk.leftovers += 1;
        } else if object.name.split('/').any(|name| ["", ".", ".."].contains(&name)) {
            let message = "expected an object whose name is a path, found one with empty parts, . or ..".into();
            let path = format!("{folders}/{name}");
            walk.problems.push(Problem { path, check: checks::UNREADABLE, severity: Severity::Error, message });
        } else if let Some(end) = ends().find(is_hidden) {
            hidden.insert(object.name[..end].to_string());
        } else {
            walk.files.push(root.join(&object.name));
        }
    }
    walk.problems.extend(hidden.into_iter().map(|path| {
        let message = "hidden folder, skipped".into();
        Problem { path, check: checks::HIDDEN_FOLDER, severity: Severity::Note, message }
    }));
    walk.files.sort();
    Ok(walk)
}

/// Whether an error of a walk is about a link that leads to nothing or in a circle, so that there is nothing to read.
fn is_dead_link(error: &walkdir::Error) -> bool {
    let Some(path) = error.path() else { return false };
    let Ok(target) = std::fs::read_link(path) else { return false };
    match std::fs::symlink_metadata(path.parent().unwrap_or(Path::new("")).join(target)) {
        Ok(about) => about.is_symlink(),
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Number of files below a folder.
fn files_in(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder).into_iter().flatten().filter(|entry| !entry.file_type().is_dir()).count() as u64
}

impl Tree {
    /// Scans `root` and reads every file once. Links are followed; hidden folders are skipped. `shards` is where shards
    /// keep what they find: see [`crate::workspace::Workspace::shards`].
    ///
    /// # Errors
    /// [`Error::Missing`] if `root` is not a folder, [`Error::Io`] if a file or folder cannot be read,
    /// [`Error::Waiting`] and [`Error::Interrupted`].
    pub fn scan(root: &Path, shards: PathBuf, ctx: &Context) -> Result<Tree> {
        if !root.is_dir() && !storage::is_link(root) {
            let hint = "Put the images of the data set there, such as neutrophil/*.jpg";
            return Err(Error::missing(Input::Images, root).with_hint(hint));
        }
        let Walk { files, leftovers, problems } = walk(root)?;
        let mut tree = Tree { leftovers, problems, shards, ..Tree::empty(root) };
        tree.add("files", &files, ctx)?;
        Ok(tree)
    }

    /// A tree without files.
    pub(super) fn empty(root: &Path) -> Tree {
        Tree {
            root: root.into(),
            files: Vec::new(),
            leftovers: 0,
            problems: Vec::new(),
            failure: Mutex::new(None),
            shards: PathBuf::new(),
            basis: BTreeMap::new(),
        }
    }

    /// Reads a file of text or annotations. If it cannot be read, [`Tree::require_readable`] fails later.
    pub fn read(&self, file: &ScannedFile) -> std::result::Result<Vec<u8>, String> {
        let path = self.full_path(&file.path);
        guard::read(&path, sheet::MAX_BYTES).map_err(|error| {
            let message = format!("cannot be read: {error}");
            if !matches!(error.kind(), ErrorKind::FileTooLarge | ErrorKind::InvalidInput) {
                self.failed(&path, error);
            }
            message
        })
    }

    /// Reads the image of a file; errors as in [`Tree::read`].
    pub fn read_image(&self, path: &str) -> std::result::Result<Vec<u8>, String> {
        let path = self.full_path(path);
        decode::read(&path).map_err(|error| {
            let message = error.to_string();
            if let Error::Io { source, .. } = error {
                self.failed(&path, source);
            }
            message
        })
    }

    /// Reads a table; errors as in [`Tree::read`].
    pub fn sheet(&self, file: &ScannedFile) -> Result<Sheet> {
        let path = self.full_path(&file.path);
        sheet::read(&path).inspect_err(|error| {
            if let Error::Io { source, .. } = error {
                self.failed(&path, std::io::Error::new(source.kind(), source.to_string()));
            }
        })
    }

    fn failed(&self, path: &Path, source: std::io::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(|e| e.into_inner());
        failure.get_or_insert_with(|| Error::io(path, "read")(source));
    }

    /// Requires that everything could be read that was needed so far: what is in a file that could not is not known.
    ///
    /// # Errors
    /// [`Error::Io`] for the first file that could not be read.
    pub fn require_readable(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).take().map_or(Ok(()), Err)
    }

    /// The file at `path` (relative to the folder, or absolute).
    pub fn get(&self, path: &str) -> Option<&ScannedFile> {
        self.files.binary_search_by(|f| f.path.as_str().cmp(path)).ok().map(|i| &self.files[i])
    }

    /// The images with a valid header, sorted by path.
    pub fn images(&self) -> impl Iterator<Item = &ScannedFile> {
        self.files.iter().filter(|f| f.is_image())
    }

    /// The full path of a file.
    pub fn full_path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// BLAKE3 of the sorted lines `path<TAB>content_hash` of all files, 64 hex digits.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(format!("{}\t{}\n", file.path, file.content_hash).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Reads the files at `paths` and adds them. `step` is the name of the shards' tables.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Waiting`] and [`Error::Interrupted`].
    pub fn add(&mut self, step: &'static str, paths: &[PathBuf], ctx: &Context) -> Result<()> {
        let files: Vec<FilePath> =
            paths.iter().map(|path| FilePath { full: path, name: relative(&self.root, path) }).collect();
        let found = self.step(step, ("reading files", "files"), &files, |file| scan_file(file.full, ctx), ctx)?;
        let scanned = files.into_iter().zip(found).map(|(file, found)| found.of(file.name));
        self.files.extend(scanned);
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.files.dedup_by(|a, b| a.path == b.path);
        Ok(())
    }

    /// Says what the steps that follow depend on besides the files: the stage's settings.
    pub fn depends_on(&mut self, settings: &impl Serialize) {
        let settings = serde_json::to_string(settings).expect("settings are plain JSON");
        self.basis = BTreeMap::from([("files".into(), self.fingerprint()), ("settings".into(), settings)]);
    }

    /// The results of a step for items with names, which are the images' paths or the `image_id` of rows.
    ///
    /// # Errors
    /// As [`shards::each`].
    pub fn each<X: Sync, T: Send + Serialize + DeserializeOwned>(
        &self,
        step: &'static str,
        progress: (&'static str, &'static str),
        items: &[(&str, X)],
        compute: impl Fn(&X) -> T + Sync,
        ctx: &Context,
    ) -> Result<Vec<T>> {
        self.step(step, progress, items, |(_, item)| Ok(compute(item)), ctx)
    }

    fn step<I: Item, T: Send + Serialize + DeserializeOwned>(
        &self,
        name: &'static str,
        progress: (&'static str, &'static str),
        items: &[I],
        compute: impl Fn(&I) -> Result<T> + Sync,
        ctx: &Context,
    ) -> Result<Vec<T>> {
        let (raw, folder) = (&self.root, &self.shards);
        let step = Step { raw, folder, name, progress, inputs: &self.basis, is_last: false };
        shards::each(&step, items, compute, ctx)
    }
}

/// A file that is to be read, and its path as that of a [`ScannedFile`].
struct FilePath<'a> {
    full: &'a Path,
    name: String,
}

impl Item for FilePath<'_> {
    fn key(&self) -> &str {
        &self.name
    }

    /// Size and time of the last change.
    fn stamp(&self) -> Result<String> {
        let failed = |error| Error::io(self.full, "look at")(error);
        if let Some((link, name)) = storage::find(self.full).map_err(failed)? {
            return link.about(&name).map(|object| format!("{}\t{}", object.bytes, object.tag)).map_err(failed);
        }
        let metadata = self.full.metadata().map_err(failed)?;
        let modified = metadata.modified().map_err(failed)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(format!("{}\t{}", metadata.len(), modified.as_nanos()))
    }
}

/// A [`ScannedFile`] without its path, as shards keep it.
#[derive(Serialize, Deserialize)]
struct Found {
    bytes: u64,
    content_hash: String,
    header: std::result::Result<Header, (String, String)>,
    few_greys: bool,
    few_colours: bool,
}

impl Found {
    fn of(self, path: String) -> ScannedFile {
        let Found { bytes, content_hash, header, few_greys, few_colours } = self;
        let header = header.map_err(|(check, message)| match check == checks::BAD_HEADER {
            true => (checks::BAD_HEADER, message),
            false => (checks::NOT_AN_IMAGE, message),
        });
        ScannedFile { path, bytes, content_hash, header, few_greys, few_colours }
    }
}

/// `path` relative to `root` with forward slashes; unchanged if it is not below `root`.
pub fn relative(root: &Path, path: &Path) -> String {
    let Ok(below) = path.strip_prefix(root) else { return path.to_string_lossy().into_owned() };
    below.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Reads one file: an image as a whole, of others only the start and the hash.
fn scan_file(full_path: &Path, ctx: &Context) -> Result<Found> {
    let failed = |error| Error::io(full_path, "read")(error);
    if let Some((link, name)) = storage::find(full_path).map_err(failed)? {
        return scan_object(full_path, &link, &name);
    }
    let mut file = File::open(full_path).map_err(failed)?;
    let mut start = Vec::new();
    file.by_ref().take(START_BYTES).read_to_end(&mut start).map_err(failed)?;
    let whole = match decode::is_image(&start) {
        true => decode::read(full_path).map(Some),
        false => Ok(None),
    };
    let bytes = match whole {
        Ok(Some(bytes)) => bytes,
        Err(error @ Error::Io { .. }) => return Err(error),
        not_read => {
            let (check, message) = match not_read {
                Err(Error::Image { message, .. }) => (checks::BAD_HEADER, message),
                _ if start.is_empty() => (checks::NOT_AN_IMAGE, "expected an image, found an empty file".into()),
                _ => (checks::NOT_AN_IMAGE, header_problem(&start, full_path)),
            };
            let (bytes, content_hash) = hash(start, file, ctx, failed)?;
            let header = Err((check.into(), message));
            return Ok(Found { bytes, content_hash, header, few_greys: false, few_colours: false });
        }
    };
    Ok(found_in(&bytes, full_path))
}

/// Reads one object. Of one that is too large for an image or a list, only the server's tag is known.
fn scan_object(full_path: &Path, link: &Link, name: &str) -> Result<Found> {
    let failed = |error| Error::io(full_path, "read")(error);
    let none = |bytes: u64, hash: blake3::Hash, message: String| Found {
        bytes,
        content_hash: hash.to_hex().to_string(),
        header: Err((checks::NOT_AN_IMAGE.into(), message)),
        few_greys: false,
        few_colours: false,
    };
    let about = link.about(name).map_err(failed)?;
    if about.bytes > decode::MAX_BYTES {
        let (mb, most) = (about.bytes / 1_000_000, decode::MAX_BYTES / 1_000_000);
        let message = format!("expected an image of at most {most} MB, found an object of {mb} MB, which was not read");
        return Ok(none(about.bytes, blake3::hash(about.tag.as_bytes()), message));
    }
    let bytes = link.read(name, decode::MAX_BYTES).map_err(failed)?;
    if decode::is_image(&bytes) {
        return Ok(found_in(&bytes, full_path));
    }
    let message = match bytes.is_empty() {
        true => "expected an image, found an empty file".into(),
        false => header_problem(&bytes[..bytes.len().min(START_BYTES as usize)], full_path),
    };
    Ok(none(bytes.len() as u64, blake3::hash(&bytes), message))
}

/// What is found in the bytes of an image.
fn found_in(bytes: &[u8], full_path: &Path) -> Found {
    let header = decode::header(bytes, full_path).map_err(|error| match error {
        Error::Image { message, .. } => (checks::BAD_HEADER, message),
        other => (checks::BAD_HEADER, other.to_string()),
    });
    let content_hash = blake3::hash(bytes).to_hex().to_string();
    let small = header.as_ref().ok().and_then(|header| decoded_if_small(bytes, full_path, header));
    let is_jpeg = header.as_ref().is_ok_and(|header| header.format == Format::Jpeg);
    let few_colours = small.as_ref().is_some_and(|image| has_few_colours(image, is_jpeg));
    let few_greys = small.is_some_and(|image| if is_jpeg { is_extreme(&image) } else { has_few_greys(&image) });
    let header = header.map_err(|(check, message)| (check.to_string(), message));
    Found { bytes: bytes.len() as u64, content_hash, header, few_greys, few_colours }
}

/// Bytes by which a file is recognised.
const START_BYTES: u64 = 4096;

/// Why a file that does not start as an image is none.
fn header_problem(start: &[u8], path: &Path) -> String {
    match decode::header(start, path) {
        Err(Error::Image { message, .. }) => message,
        Err(other) => other.to_string(),
        Ok(_) => "not an image".into(),
    }
}

/// Length and hash of a file that was read up to the end of `start`, in little memory.
fn hash(
    start: Vec<u8>,
    mut file: File,
    ctx: &Context,
    failed: impl Fn(std::io::Error) -> Error,
) -> Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let (mut bytes, mut buffer) = (start.len() as u64, start);
    hasher.update(&buffer);
    buffer.resize(1 << 16, 0);
    loop {
        ctx.check_stop()?;
        match file.read(&mut buffer).map_err(&failed)? {
            0 => return Ok((bytes, hasher.finalize().to_hex().to_string())),
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// The pixels of a file that is small for their number, as masks are. Images of cells never are: they need not be
/// decoded here.
fn decoded_if_small(bytes: &[u8], path: &Path, header: &Header) -> Option<Rgb> {
    let pixels = f64::from(header.width_px) * f64::from(header.height_px);
    let most_bytes = match header.format {
        Format::Jpeg => 0.05,
        Format::Bmp => 4.0,
        _ => 0.5,
    };
    if bytes.len() as f64 > pixels * most_bytes + 1024.0 { None } else { decode::rgb(bytes, path).ok() }
}

/// Whether an image is nearly all black and white. A JPEG blurs the edges between its grey levels, so that they cannot
/// be counted.
fn is_extreme(image: &Rgb) -> bool {
    let pixels = image.pixels.as_chunks::<3>().0;
    let is_extreme = |p: &&[u8; 3]| p.iter().all(|v| *v < 32) || p.iter().all(|v| *v > 223);
    image.blank().is_none() && pixels.iter().filter(is_extreme).count() * 100 > pixels.len() * 97
}

/// Whether an image holds 2 to [`MASK_GREYS`] grey levels and no colour.
fn has_few_greys(image: &Rgb) -> bool {
    let mut greys: Vec<u8> = Vec::new();
    for [red, green, blue] in image.pixels.as_chunks::<3>().0 {
        if red != green || green != blue {
            return false;
        }
        if !greys.contains(red) {
            greys.push(*red);
            if greys.len() > MASK_GREYS {
                return false;
            }
        }
    }
    greys.len() > 1
}

/// Whether nine of ten pixels are of at most [`MASK_COLOURS`] colours. A JPEG blurs the edges between them and adds
/// noise, so that there 16 levels of each channel are told apart.
fn has_few_colours(image: &Rgb, is_jpeg: bool) -> bool {
    /// More different colours than masks with soft edges have.
    const MANY: usize = 4096;
    let mut counts: HashMap<[u8; 3], u32> = HashMap::new();
    for pixel in image.pixels.as_chunks::<3>().0 {
        let colour = if is_jpeg { pixel.map(|v| v >> 4) } else { *pixel };
        *counts.entry(colour).or_default() += 1;
        if counts.len() > MANY {
            return false;
        }
    }
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let most: u32 = counts.iter().take(MASK_COLOURS).sum();
    f64::from(most) >= 0.9 * (image.pixels.len() / 3) as f64
}
