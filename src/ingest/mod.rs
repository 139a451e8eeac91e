//! Ingest: reads the folder of a data set and writes `manifest.parquet`, with one row per cell, and
//! `ingest_issues.parquet`.
//!
//! Every file is read once, for its BLAKE3 hash and its image header. Only the masks of LISC and JTSC, and LISC frames
//! without a mask, are decoded. A [`Layout`] then assigns a class to each image. Whatever cannot be used becomes an
//! issue (see [`checks`]), not an error.

pub mod checks;
mod class_folders;
mod jtsc;
mod layout;
mod lisc;
mod list;
mod masks;
mod settings;
mod tree;

pub use layout::{Layout, Output};
pub use settings::Settings;
pub use tree::{Problem, ScannedFile, Tree, Walk, is_leftover, walk};

use crate::class::{Class, Classes};
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::rows::{IssueRow, ManifestRow, Severity};
use crate::schema::{ISSUES, MANIFEST};
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The layouts, the most specific first: the first that recognises a folder reads it.
pub static LAYOUTS: [&dyn Layout; 4] = [&list::List, &lisc::Lisc, &jtsc::Jtsc, &class_folders::ClassFolders];

impl Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for a layout or an expert that does not exist.
    pub fn validate(&self) -> Result<()> {
        if !matches!(self.expert, 1 | 2) {
            return Err(Error::setting("ingest.expert", "1 or 2", self.expert));
        }
        self.named_layout().map(|_| ())
    }

    /// The layout that the settings name, if they name one.
    fn named_layout(&self) -> Result<Option<&'static dyn Layout>> {
        let Some(name) = &self.layout else { return Ok(None) };
        let is = |layout: &&dyn Layout| layout.name() == name || layout.aliases().contains(&name.as_str());
        let names = || format!("one of: {}", LAYOUTS.map(|l| l.name()).join(", "));
        LAYOUTS.into_iter().find(is).map(Some).ok_or_else(|| Error::setting("ingest.layout", names(), name))
    }
}

/// Result of the stage.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The data set.
    pub dataset: String,
    /// Name of the layout.
    pub layout: String,
    /// Whether neither the files nor the settings had changed, so that the manifest was kept.
    pub up_to_date: bool,
    /// Number of rows of the manifest (cells).
    pub rows: u64,
    /// Number of image files.
    pub images: u64,
    /// Number of rows per class, in class order.
    pub classes: Vec<(Class, u64)>,
    /// Number of rows without a class.
    pub unlabelled: u64,
    /// Number of rows that are exact copies of another or share a frame with another.
    pub grouped: u64,
    /// Number of issues and their highest severity, by name.
    pub issues: BTreeMap<String, (u64, Severity)>,
    /// Number of errors and warnings.
    pub findings: u64,
}

impl Summary {
    fn new(dataset: &str, rows: &[ManifestRow], issues: &[IssueRow], up_to_date: bool) -> Self {
        // Cells of one frame have the same content hash, because they are in the same file.
        let mut group_sizes: HashMap<&str, u64> = HashMap::new();
        rows.iter().for_each(|r| *group_sizes.entry(&r.content_hash).or_default() += 1);
        let mut counts: BTreeMap<String, (u64, Severity)> = BTreeMap::new();
        for issue in issues {
            let entry = counts.entry(issue.check.clone()).or_insert((0, issue.severity));
            *entry = (entry.0 + 1, entry.1.min(issue.severity));
        }
        let count = |class: Class| rows.iter().filter(|r| r.class == Some(class)).count() as u64;
        Self {
            dataset: dataset.into(),
            layout: rows.first().map_or(String::new(), |r| r.layout.clone()),
            up_to_date,
            rows: rows.len() as u64,
            images: rows.iter().map(|r| &r.path).collect::<BTreeSet<_>>().len() as u64,
            classes: Class::ALL.iter().map(|&c| (c, count(c))).collect(),
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
            write!(f, ", without a class {}", self.unlabelled)?;
        }
        if self.grouped > 0 {
            write!(f, "\n  {} cells are exact copies or share a frame; these stay in one fold", self.grouped)?;
        }
        for (check, (count, severity)) in &self.issues {
            let severity = format!("{severity:?}").to_lowercase();
            write!(f, "\n  {severity} {check}: {count}")?;
        }
        Ok(())
    }
}

/// Reads the data set `dataset` and writes its manifest and issues, unless nothing has changed.
///
/// # Errors
/// [`Error::Data`] if there is no labelled image in the folder, [`Error::Setting`], [`Error::Missing`], [`Error::Io`]
/// and [`Error::Interrupted`]. Tables written before are then kept.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let (tree, layout) = scan(ws, dataset, settings, ctx)?;
    let provenance = provenance(&tree, settings);
    if let Some(summary) = kept(ws, dataset, &provenance) {
        return Ok(summary);
    }
    let Some(layout) = layout else { return Err(no_layout(dataset, &tree)) };
    let mut output = Output::new(dataset, layout.name());
    layout.read(&tree, settings, ctx, &mut output)?;
    output.finish(&tree);
    if output.rows.is_empty() {
        let reason = output.issues.iter().min_by_key(|i| i.severity);
        let reason = reason.map_or(String::new(), |i| format!(" (such as {}: {})", i.path, i.message));
        let expected = format!("{} (layout {})", layout.looks_for(), layout.name());
        let got = format!("no labelled image among {} files{reason}", tree.files.len());
        return Err(Error::data(dataset, expected, got).with_hint("Another layout can be selected with --layout"));
    }
    // The tables of check describe the old manifest.
    for table in [ws.checks(dataset), ws.issues(dataset)] {
        remove(&table)?;
    }
    let manifest = ws.manifest(dataset);
    table::write_rows(&manifest, &MANIFEST, &provenance, &output.rows)?;
    let mut issues_made = provenance.clone();
    issues_made.inputs.insert(Input::Manifest.name().into(), table::file_hash(&manifest)?);
    table::write_rows(&ws.ingest_issues(dataset), &ISSUES, &issues_made, &output.issues)?;
    Ok(Summary::new(dataset, &output.rows, &output.issues, false))
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(error)),
        _ => Ok(()),
    }
}

/// The files of a data set, also those outside its folder, and the layout that reads them.
fn scan(
    ws: &Workspace,
    dataset: &str,
    settings: &Settings,
    ctx: &Context,
) -> Result<(Tree, Option<&'static dyn Layout>)> {
    let mut tree = Tree::scan(&ws.raw_dataset(dataset), ctx)?;
    let layout = match settings.named_layout()? {
        Some(layout) => Some(layout),
        None => LAYOUTS.into_iter().find(|l| l.recognises(&tree)),
    };
    if let Some(layout) = layout {
        let outside = layout.outside(&tree);
        if !outside.is_empty() {
            tree.add(&outside, ctx)?;
        }
    }
    Ok((tree, layout))
}

/// The settings in the provenance of the manifest.
#[derive(Serialize, Deserialize)]
struct Made {
    #[serde(flatten)]
    settings: Settings,
    /// The classes of the data set: see [`crate::dataset::classes`].
    classes: Classes,
}

fn provenance(tree: &Tree, settings: &Settings) -> Provenance {
    let made = Made { settings: settings.clone(), classes: Classes::wbc5() };
    Provenance {
        stage: "ingest".into(),
        settings: serde_json::to_value(made).expect("settings are plain JSON"),
        seed: None,
        inputs: BTreeMap::from([("files".into(), tree.fingerprint())]),
    }
}

/// Whether the tables of ingest have this provenance.
fn is_same(ws: &Workspace, dataset: &str, expected: &Provenance) -> bool {
    let manifest = ws.manifest(dataset);
    let hash = table::file_hash(&manifest).ok();
    table::is_current(&manifest, &MANIFEST, expected)
        && table::provenance(&ws.ingest_issues(dataset), &ISSUES)
            .is_ok_and(|made| made.input(Input::Manifest) == hash.as_deref())
}

/// Whether the files of a data set have changed since it was ingested.
///
/// # Errors
/// [`Error::Missing`] if there is no manifest or no folder of the data set, [`Error::Io`] and [`Error::Interrupted`].
pub fn has_changed(ws: &Workspace, dataset: &str, ctx: &Context) -> Result<bool> {
    let made = table::provenance(&ws.manifest(dataset), &MANIFEST)?;
    let Ok(Made { settings, .. }) = serde_json::from_value(made.settings.clone()) else { return Ok(true) };
    let (tree, _) = scan(ws, dataset, &settings, ctx)?;
    Ok(provenance(&tree, &settings) != made)
}

/// The summary of the existing tables, if they have this provenance and can be read.
fn kept(ws: &Workspace, dataset: &str, expected: &Provenance) -> Option<Summary> {
    if !is_same(ws, dataset, expected) {
        return None;
    }
    let (rows, _) = table::read_rows(&ws.manifest(dataset), &MANIFEST).ok()?;
    let (issues, _) = table::read_rows(&ws.ingest_issues(dataset), &ISSUES).ok()?;
    Some(Summary::new(dataset, &rows, &issues, true))
}

/// The error for a folder without a known layout: what the layouts expect, and what the folder contains.
fn no_layout(dataset: &str, tree: &Tree) -> Error {
    let images = tree.images().count();
    let folders: BTreeSet<&str> = tree.images().map(|f| f.folder()).collect();
    let some = |names: Vec<&str>| names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let got = match (tree.files.len(), images) {
        (0, _) if tree.problems.is_empty() => "an empty folder".into(),
        (0, _) => format!("no readable file ({}: {})", tree.problems[0].path, tree.problems[0].message),
        (files, 0) => format!(
            "{files} files, none of them an image (JPEG, PNG, BMP, TIFF, WebP or GIF): {}",
            some(tree.files.iter().map(|f| f.path.as_str()).collect())
        ),
        _ => format!(
            "{images} images in folders that are not named after a class: {}",
            some(folders.iter().map(|f| if f.is_empty() { "(the top folder)" } else { f }).collect())
        ),
    };
    let expected: Vec<String> = LAYOUTS.iter().map(|l| format!("{} ({})", l.looks_for(), l.name())).collect();
    let hint = "Name the folders after the classes, or write list.csv with the columns path,class";
    Error::data(dataset, expected.join("; or "), got).with_hint(hint)
}
