//! Ingest: a data set's folder → `manifest.parquet`, one row a cell, and a first `issues.parquet`.
//!
//! The folder is walked once in sorted order and each file's bytes are read once, for their BLAKE3 hash and the image
//! header; only LISC's and JTSC's masks and LISC frames without a mask are decoded. A [`Layout`] then says which class each
//! image has. Whatever cannot be used becomes an issue row, never a stop: see [`check`].
//!
//! Links are followed (a loop is an issue). Hidden files are looked at like any other; hidden folders (`.git`, a file
//! manager's thumbnails) are not entered, and a note says so.

use crate::cells::{self, Region};
use crate::class::Class;
use crate::context::Context;
use crate::decode::{self, Header};
use crate::error::{Error, Input, Result};
use crate::rect::Rect;
use crate::rows::{IssueRow, ManifestRow, Severity};
use crate::schema::{ISSUES, MANIFEST};
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

mod class_folders;
mod jtsc;
mod lisc;
mod list;

/// The layouts, the most particular first: the first that recognises a folder reads it. A file each, and a line here.
pub static LAYOUTS: [&dyn Layout; 4] = [&list::List, &lisc::Lisc, &jtsc::Jtsc, &class_folders::ClassFolders];

/// Names of ingest's findings, as they stand in `issues.parquet`.
pub mod check {
    macro_rules! checks {
        ($(#[doc = $doc:literal] $name:ident = $text:literal;)*) => {
            $(#[doc = $doc] pub const $name: &str = $text;)*
            /// Every name, and what it means.
            pub const ALL: &[(&str, &str)] = &[$(($text, $doc)),*];
        };
    }

    checks! {
        /// The bytes are none of the six image formats; the message says what they are.
        NOT_AN_IMAGE = "not_an_image";
        /// The first bytes are an image's, but its header is damaged, or it is not one image of a supported kind.
        BAD_HEADER = "bad_header";
        /// A file or folder cannot be opened or read, or is no regular file.
        UNREADABLE = "unreadable";
        /// A link leads back to a folder above it.
        LINK_LOOP = "link_loop";
        /// A hidden folder was not entered.
        HIDDEN_FOLDER = "hidden_folder";
        /// A folder or label names none of the five classes.
        UNKNOWN_CLASS = "unknown_class";
        /// Two folders above an image name different classes.
        AMBIGUOUS_CLASS = "ambiguous_class";
        /// An image that nothing gives a class.
        NO_LABEL = "no_label";
        /// A label or mask without its image.
        NO_IMAGE = "no_image";
        /// Two images or two labels claim the same number or path.
        LISTED_TWICE = "listed_twice";
        /// A row of a label file that cannot be read.
        BAD_ROW = "bad_row";
        /// An image without its expert mask.
        NO_MASK = "no_mask";
        /// A mask that is empty, of another size, or cannot be decoded.
        BAD_MASK = "bad_mask";
        /// A frame in which no cell was found.
        NO_CELL = "no_cell";
        /// Images that are listed but not used (LISC's mixed frames).
        NOT_USED = "not_used";
    }
}

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name of the layout; found by looking where it is not given.
    pub layout: Option<String>,
    /// Which of LISC's two experts' masks to take: 1 or 2.
    pub expert: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: None, expert: 1 }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] for a layout or an expert that does not exist.
    pub fn validate(&self) -> Result<()> {
        if !matches!(self.expert, 1 | 2) {
            let (expected, got) = ("1 or 2".into(), self.expert.to_string());
            return Err(Error::Setting { key: "ingest.expert".into(), expected, got });
        }
        self.named_layout().map(|_| ())
    }

    /// The layout that the settings name, if they name one.
    fn named_layout(&self) -> Result<Option<&'static dyn Layout>> {
        let Some(name) = &self.layout else { return Ok(None) };
        let is = |layout: &&dyn Layout| layout.name() == name || layout.aliases().contains(&name.as_str());
        LAYOUTS.into_iter().find(is).map(Some).ok_or_else(|| Error::Setting {
            key: "ingest.layout".into(),
            expected: format!("one of: {}", LAYOUTS.map(|l| l.name()).join(", ")),
            got: name.clone(),
        })
    }
}

/// How one kind of data set arranges its files.
pub trait Layout: Sync {
    /// Short name, for `--layout` and the manifest.
    fn name(&self) -> &'static str;
    /// Other names that `--layout` takes.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }
    /// What the layout looks for, to finish the sentence "expected ...".
    fn looks_for(&self) -> &'static str;
    /// Whether the folder is arranged like this.
    fn recognises(&self, tree: &Tree) -> bool;
    /// Files outside the folder that the data set names (lists do), by absolute path.
    fn outside(&self, _tree: &Tree) -> Vec<PathBuf> {
        Vec::new()
    }
    /// Puts a row for every cell and an issue for everything odd into `found`.
    ///
    /// # Errors
    /// Only where nothing at all can be read, and [`Error::Interrupted`].
    fn read(&self, tree: &Tree, settings: &Settings, ctx: &Context, found: &mut Found) -> Result<()>;
}

/// A file that the walk saw.
#[derive(Clone, Debug)]
pub struct SeenFile {
    /// Relative to the data set's folder, with forward slashes; absolute for a file outside of it.
    pub path: String,
    pub bytes: u64,
    /// BLAKE3 of the bytes, 64 hex digits; of nothing where the file cannot be read.
    pub content_hash: String,
    /// The image header, or the check that failed and why.
    pub header: std::result::Result<Header, (&'static str, String)>,
}

impl SeenFile {
    /// Whether the bytes are an image's with a sound header.
    pub fn is_image(&self) -> bool {
        self.header.is_ok()
    }

    /// The folders above the file, the top one first.
    pub fn folders(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.path.rsplit_once('/').map_or("", |(folders, _)| folders).split('/').filter(|f| !f.is_empty())
    }

    /// The folder that holds the file, relative like `path`; empty at the top.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The file's name.
    pub fn file_name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    /// The file's name without its extension.
    pub fn stem(&self) -> &str {
        let name = self.file_name();
        name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or(name, |(stem, _)| stem)
    }

    fn claims_to_be_an_image(&self) -> bool {
        decode::has_image_extension(Path::new(self.file_name()))
    }
}

/// A data set's folder, as the walk saw it.
pub struct Tree {
    /// The folder.
    pub root: PathBuf,
    /// Every file, sorted by path.
    pub files: Vec<SeenFile>,
    /// What could not be walked: path, check, severity, message.
    problems: Vec<(String, &'static str, Severity, String)>,
}

impl Tree {
    /// Walks `root` and reads every file once.
    ///
    /// # Errors
    /// [`Error::Missing`] where `root` is no folder, [`Error::Io`] where it cannot be listed at all, and
    /// [`Error::Interrupted`].
    pub fn walk(root: &Path, ctx: &Context) -> Result<Tree> {
        if !root.is_dir() {
            let hint = "Put the images of the data set there, such as neutrophil/*.jpg";
            return Err(Error::missing(Input::Images, root).with_hint(hint));
        }
        std::fs::read_dir(root).map_err(Error::io(root, "list"))?;
        let mut tree = Tree { root: root.into(), files: Vec::new(), problems: Vec::new() };
        let mut paths = Vec::new();
        let mut hidden = Vec::new();
        let is_hidden = |e: &walkdir::DirEntry| {
            e.depth() > 0 && e.file_type().is_dir() && e.file_name().to_string_lossy().starts_with('.')
        };
        let walk = walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|e| {
            let enter = !is_hidden(e);
            if !enter {
                hidden.push(e.path().to_path_buf());
            }
            enter
        }) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if entry.path().to_str().is_none() => {
                    let message = "expected a file name in UTF-8, found other bytes".into();
                    tree.problems.push((relative(root, entry.path()), check::UNREADABLE, Severity::Error, message));
                }
                Ok(entry) if !entry.file_type().is_file() => {
                    let message = "expected a regular file, found a device, socket, pipe or dead link".into();
                    tree.problems.push((relative(root, entry.path()), check::UNREADABLE, Severity::Error, message));
                }
                Ok(entry) => paths.push(entry.into_path()),
                Err(error) => {
                    let path = relative(root, error.path().unwrap_or(root));
                    tree.problems.push(match error.loop_ancestor() {
                        Some(ancestor) => {
                            let to = relative(root, ancestor);
                            let to = if to.is_empty() { "the data set's folder".into() } else { to };
                            (path, check::LINK_LOOP, Severity::Warning, format!("the link leads back to {to}"))
                        }
                        None => {
                            let cause = error.io_error().map_or_else(|| error.to_string(), |e| e.to_string());
                            (path, check::UNREADABLE, Severity::Error, format!("cannot be opened: {cause}"))
                        }
                    });
                }
            }
        }
        for path in hidden {
            let message = "hidden folder, not looked into".to_string();
            tree.problems.push((relative(root, &path), check::HIDDEN_FOLDER, Severity::Note, message));
        }
        tree.look_at(&paths, ctx)?;
        Ok(tree)
    }

    /// The file at `path` (relative to the folder, or absolute), if the walk saw it.
    pub fn get(&self, path: &str) -> Option<&SeenFile> {
        self.files.binary_search_by(|f| f.path.as_str().cmp(path)).ok().map(|i| &self.files[i])
    }

    /// Images with a sound header, sorted by path.
    pub fn images(&self) -> impl Iterator<Item = &SeenFile> {
        self.files.iter().filter(|f| f.is_image())
    }

    /// Where a file lies.
    pub fn full_path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// BLAKE3 over the sorted lines `path<TAB>content_hash` of every file seen, 64 hex digits.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(format!("{}\t{}\n", file.path, file.content_hash).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Reads the files at `paths` and adds them.
    fn look_at(&mut self, paths: &[PathBuf], ctx: &Context) -> Result<()> {
        ctx.progress.begin("reading files", Some(paths.len() as u64), "files");
        let seen: Result<Vec<SeenFile>> = paths
            .par_iter()
            .map(|path| {
                ctx.check_stop()?;
                let file = look(path, relative(&self.root, path));
                ctx.progress.advance(1);
                Ok(file)
            })
            .collect();
        ctx.progress.end();
        self.files.extend(seen?);
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.files.dedup_by(|a, b| a.path == b.path);
        Ok(())
    }
}

/// `path` below `root` with forward slashes; absolute where it is not below.
fn relative(root: &Path, path: &Path) -> String {
    let Ok(below) = path.strip_prefix(root) else { return path.to_string_lossy().into_owned() };
    below.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Reads one file: hash and header.
fn look(full_path: &Path, path: String) -> SeenFile {
    match std::fs::read(full_path) {
        Ok(bytes) => {
            let header = decode::header(&bytes, full_path).map_err(|error| {
                let kind = if decode::is_image(&bytes) { check::BAD_HEADER } else { check::NOT_AN_IMAGE };
                let message = match error {
                    Error::Image { message, .. } => message,
                    other => other.to_string(),
                };
                (kind, if bytes.is_empty() { "expected an image, found an empty file".into() } else { message })
            });
            let content_hash = blake3::hash(&bytes).to_hex().to_string();
            SeenFile { path, bytes: bytes.len() as u64, content_hash, header }
        }
        Err(error) => {
            let header = Err((check::UNREADABLE, format!("cannot be read: {error}")));
            SeenFile { path, bytes: 0, content_hash: blake3::hash(b"").to_hex().to_string(), header }
        }
    }
}

/// What a layout finds: rows and issues, and which files it has accounted for.
pub struct Found {
    dataset: String,
    layout: &'static str,
    pub rows: Vec<ManifestRow>,
    pub issues: Vec<IssueRow>,
    used: HashSet<String>,
}

impl Found {
    fn new(dataset: &str, layout: &'static str) -> Self {
        Self { dataset: dataset.into(), layout, rows: Vec::new(), issues: Vec::new(), used: HashSet::new() }
    }

    /// Adds a row for `file`; `number` (from 1) names one of several cells in it. A file that is no image gets no
    /// row, and `None` is returned: its issue row is written without the layout's help.
    pub fn row(&mut self, file: &SeenFile, number: Option<usize>, class: Option<Class>) -> Option<&mut ManifestRow> {
        let header = file.header.as_ref().ok()?;
        self.used(file);
        let suffix = number.map_or(String::new(), |n| format!("#{n}"));
        let image_id = format!("{}/{}{suffix}", self.dataset, file.path);
        self.rows.push(ManifestRow {
            image_id,
            dataset: self.dataset.clone(),
            path: file.path.clone(),
            class,
            layout: self.layout.into(),
            format: header.format.into(),
            width_px: header.width_px,
            height_px: header.height_px,
            file_bytes: file.bytes,
            content_hash: file.content_hash.clone(),
            ..Default::default()
        });
        self.rows.last_mut()
    }

    /// Marks a file as accounted for, so that no [`check::NO_LABEL`] or [`check::NOT_AN_IMAGE`] is written for it.
    pub fn used(&mut self, file: &SeenFile) {
        self.used.insert(file.path.clone());
    }

    /// Adds an issue and returns it for its rarer columns.
    pub fn issue(&mut self, path: &str, check: &str, severity: Severity, message: String) -> &mut IssueRow {
        self.issues.push(IssueRow {
            dataset: self.dataset.clone(),
            path: path.into(),
            image_id: None,
            stage: "ingest".into(),
            check: check.into(),
            severity,
            score: None,
            related: None,
            message,
        });
        self.issues.last_mut().expect("just pushed")
    }

    /// Issue rows for the walk's problems and for every file that the layout did not account for.
    fn account_for_the_rest(&mut self, tree: &Tree) {
        for (path, check, severity, message) in &tree.problems {
            self.issue(path, check, *severity, message.clone());
        }
        for file in tree.files.iter().filter(|f| !self.used.contains(&f.path)).collect::<Vec<_>>() {
            match &file.header {
                Ok(_) => {
                    let message = format!("the layout {} gives this image no class", self.layout);
                    self.issue(&file.path, check::NO_LABEL, Severity::Warning, message);
                }
                Err((check, message)) => {
                    let severity = match (*check, file.claims_to_be_an_image(), file.folder()) {
                        (check::NOT_AN_IMAGE, false, "") => Severity::Note,
                        (check::NOT_AN_IMAGE, false, _) => Severity::Warning,
                        _ => Severity::Error,
                    };
                    self.issue(&file.path, check, severity, message.clone());
                }
            }
        }
    }

    /// Sorts rows and issues as their schemas say.
    fn finish(&mut self) {
        self.rows.sort_by(|a, b| a.image_id.cmp(&b.image_id));
        self.issues.sort_by(|a, b| (&a.path, &a.check, &a.image_id).cmp(&(&b.path, &b.check, &b.image_id)));
    }
}

/// The regions of `image`'s mask, at least one; else what is wrong with the mask.
fn mask_regions(tree: &Tree, image: &SeenFile, mask: &SeenFile) -> std::result::Result<Vec<Region>, String> {
    let path = tree.full_path(&mask.path);
    let bytes = std::fs::read(&path).map_err(|e| format!("mask cannot be read: {e}"))?;
    let picture = decode::mask(&bytes, &path).map_err(|e| e.to_string())?;
    let size = image.header.as_ref().map(|h| (h.width_px, h.height_px)).unwrap_or_default();
    if (picture.width_px, picture.height_px) != size {
        let (width, height) = (picture.width_px, picture.height_px);
        return Err(format!("expected a mask of {} x {} px, found {width} x {height}", size.0, size.1));
    }
    let regions = cells::from_mask(&picture);
    if regions.is_empty() { Err("expected a cell in the mask, found it black".into()) } else { Ok(regions) }
}

/// Puts a cell's box into a row.
fn set_box(row: &mut ManifestRow, cell: Rect, source: &str) {
    row.set_cell_box(Some(cell));
    row.box_source = Some(source.into());
}

/// What ingest did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub dataset: String,
    pub layout: String,
    /// The manifest was already there, made from the same files with the same settings, and was kept.
    pub up_to_date: bool,
    /// Rows of the manifest.
    pub rows: u64,
    /// Different image files among them.
    pub images: u64,
    /// Rows a class, in class order.
    pub classes: Vec<(Class, u64)>,
    /// Rows that are listed but have no class.
    pub unlabelled: u64,
    /// Rows with a group of several (exact copies, cells of one frame).
    pub grouped: u64,
    /// Issues by name: how many, and the worst severity.
    pub issues: BTreeMap<String, (u64, Severity)>,
    /// Issues that are an error or a warning.
    pub findings: u64,
}

impl Summary {
    fn new(dataset: &str, rows: &[ManifestRow], issues: &[IssueRow], up_to_date: bool) -> Self {
        // Cells of one frame are in one file, so that equal content is all that makes a group.
        let mut group_sizes: HashMap<&str, u64> = HashMap::new();
        rows.iter().for_each(|r| *group_sizes.entry(&r.content_hash).or_default() += 1);
        let mut counts: BTreeMap<String, (u64, Severity)> = BTreeMap::new();
        for issue in issues {
            let entry = counts.entry(issue.check.clone()).or_insert((0, issue.severity));
            *entry = (entry.0 + 1, entry.1.min(issue.severity));
        }
        let of = |class: Class| rows.iter().filter(|r| r.class == Some(class)).count() as u64;
        Self {
            dataset: dataset.into(),
            layout: rows.first().map_or(String::new(), |r| r.layout.clone()),
            up_to_date,
            rows: rows.len() as u64,
            images: rows.iter().map(|r| &r.path).collect::<BTreeSet<_>>().len() as u64,
            classes: Class::ALL.iter().map(|&c| (c, of(c))).collect(),
            unlabelled: rows.iter().filter(|r| r.class.is_none()).count() as u64,
            grouped: group_sizes.values().filter(|n| **n > 1).sum(),
            issues: counts,
            findings: issues.iter().filter(|i| i.severity != Severity::Note).count() as u64,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} images, {} cells", self.dataset, self.images, self.rows)?;
        write!(f, " (layout {}{})", self.layout, if self.up_to_date { "; up to date" } else { "" })?;
        write!(f, "\n ")?;
        for (class, count) in &self.classes {
            write!(f, " {class} {count}")?;
        }
        if self.unlabelled > 0 {
            write!(f, ", not used {}", self.unlabelled)?;
        }
        if self.grouped > 0 {
            write!(f, "\n  {} cells are exact copies or share a frame, and stay in one fold", self.grouped)?;
        }
        for (check, (count, severity)) in &self.issues {
            let severity = format!("{severity:?}").to_lowercase();
            write!(f, "\n  {severity} {check}: {count}")?;
        }
        Ok(())
    }
}

/// Reads the data set `dataset` and writes its manifest and issues; keeps them where nothing has changed.
///
/// # Errors
/// [`Error::Data`] where the folder holds no image that can be given a row (what was written before stays),
/// [`Error::Setting`], [`Error::Missing`], [`Error::Io`] and [`Error::Interrupted`].
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let (tree, layout) = look_around(ws, dataset, settings, ctx)?;
    let provenance = provenance_of(&tree, settings);
    if let Some(summary) = kept(ws, dataset, &provenance) {
        return Ok(summary);
    }
    let Some(layout) = layout else { return Err(nothing_recognised(dataset, &tree)) };
    let mut found = Found::new(dataset, layout.name());
    layout.read(&tree, settings, ctx, &mut found)?;
    found.account_for_the_rest(&tree);
    found.finish();
    if found.rows.is_empty() {
        let reason = found.issues.iter().min_by_key(|i| i.severity);
        let reason = reason.map_or(String::new(), |i| format!(" (such as {}: {})", i.path, i.message));
        return Err(Error::Data {
            dataset: dataset.into(),
            expected: format!("{} (layout {})", layout.looks_for(), layout.name()),
            got: format!("{} files and no labelled image among them{reason}", tree.files.len()),
            hint: "Another layout can be named with --layout".into(),
        });
    }
    // What check wrote is of another manifest.
    for table in [ws.checks(dataset), ws.issues(dataset)] {
        remove(&table)?;
    }
    let manifest = ws.manifest(dataset);
    table::write_rows(&manifest, &MANIFEST, &provenance, &found.rows)?;
    let mut issues_made = provenance.clone();
    issues_made.inputs.insert(Input::Manifest.name().into(), table::file_hash(&manifest)?);
    table::write_rows(&ws.ingest_issues(dataset), &ISSUES, &issues_made, &found.issues)?;
    Ok(Summary::new(dataset, &found.rows, &found.issues, false))
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(error)),
        _ => Ok(()),
    }
}

/// The tree, with outside files, and the layout that reads it.
fn look_around(
    ws: &Workspace,
    dataset: &str,
    settings: &Settings,
    ctx: &Context,
) -> Result<(Tree, Option<&'static dyn Layout>)> {
    let mut tree = Tree::walk(&ws.raw_dataset(dataset), ctx)?;
    let layout = match settings.named_layout()? {
        Some(layout) => Some(layout),
        None => LAYOUTS.into_iter().find(|l| l.recognises(&tree)),
    };
    if let Some(layout) = layout {
        let outside = layout.outside(&tree);
        if !outside.is_empty() {
            tree.look_at(&outside, ctx)?;
        }
    }
    Ok((tree, layout))
}

fn provenance_of(tree: &Tree, settings: &Settings) -> Provenance {
    Provenance {
        stage: "ingest".into(),
        settings: serde_json::to_value(settings).expect("settings are plain JSON"),
        seed: None,
        inputs: BTreeMap::from([("files".into(), tree.fingerprint())]),
    }
}

/// Whether the manifest and the issues there are those of `expected`.
fn is_same(ws: &Workspace, dataset: &str, expected: &Provenance) -> bool {
    let manifest = ws.manifest(dataset);
    let hash = table::file_hash(&manifest).ok();
    table::is_current(&manifest, &MANIFEST, expected)
        && table::provenance(&ws.ingest_issues(dataset), &ISSUES)
            .is_ok_and(|made| made.input(Input::Manifest) == hash.as_deref())
}

/// Whether the files under `raw/` are no longer those that the manifest was made from.
///
/// # Errors
/// [`Error::Missing`] where there is no manifest or no folder of the data set, [`Error::Io`] and [`Error::Interrupted`].
pub fn has_changed(ws: &Workspace, dataset: &str, ctx: &Context) -> Result<bool> {
    let made = table::provenance(&ws.manifest(dataset), &MANIFEST)?;
    let Ok(settings) = serde_json::from_value::<Settings>(made.settings.clone()) else { return Ok(true) };
    let (tree, _) = look_around(ws, dataset, &settings, ctx)?;
    Ok(provenance_of(&tree, &settings) != made)
}

/// The summary of the tables there are, where they are those of `expected` and whole.
fn kept(ws: &Workspace, dataset: &str, expected: &Provenance) -> Option<Summary> {
    if !is_same(ws, dataset, expected) {
        return None;
    }
    let (rows, _) = table::read_rows(&ws.manifest(dataset), &MANIFEST).ok()?;
    let (issues, _) = table::read_rows(&ws.ingest_issues(dataset), &ISSUES).ok()?;
    Some(Summary::new(dataset, &rows, &issues, true))
}

/// The error for a folder that no layout recognises: what was looked for, and what is there instead.
fn nothing_recognised(dataset: &str, tree: &Tree) -> Error {
    let images = tree.images().count();
    let folders: BTreeSet<&str> = tree.images().map(|f| f.folder()).collect();
    let some = |names: Vec<&str>| names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let got = match (tree.files.len(), images) {
        (0, _) if tree.problems.is_empty() => "an empty folder".into(),
        (0, _) => format!("no file that can be read ({}: {})", tree.problems[0].0, tree.problems[0].3),
        (files, 0) => format!(
            "{files} files, none of them an image (JPEG, PNG, BMP, TIFF, WebP or GIF): {}",
            some(tree.files.iter().map(|f| f.path.as_str()).collect())
        ),
        _ => format!(
            "{images} images in folders that name no class: {}",
            some(folders.iter().map(|f| if f.is_empty() { "(the top folder)" } else { f }).collect())
        ),
    };
    let expected: Vec<String> = LAYOUTS.iter().map(|l| format!("{} ({})", l.looks_for(), l.name())).collect();
    Error::Data {
        dataset: dataset.into(),
        expected: expected.join("; or "),
        got,
        hint: "Name the folders after the classes, or write list.csv with columns path,class".into(),
    }
}
