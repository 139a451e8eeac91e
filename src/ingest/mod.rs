//! Ingest: reads the folder of a data set and writes `manifest.parquet`, with one row per cell, and
//! `ingest_issues.parquet`.
//!
//! Every file is read once, for its BLAKE3 hash and its image header. A [`Layout`] then assigns a class to each image.
//! Whatever cannot be used becomes an issue (see [`checks`]), not an error.

mod annotations;
pub mod checks;
mod class_folders;
mod columns;
mod cut;
mod facts;
mod finder;
mod folders;
#[cfg(fuzzing)]
#[path = "../../fuzz/src/ingest.rs"]
pub mod fuzzing;
mod jtsc;
mod labels;
mod layout;
mod lisc;
mod list;
mod lists;
mod masks;
mod pages;
mod pairs;
mod people;
mod settings;
pub mod sheet;
mod siblings;
mod summary;
mod template;
mod tree;

pub use columns::path_column;
pub(crate) use cut::{INSIDE, LARGER, share_of_nucleus};
pub use finder::{Finder, Found, FoundBy};
pub use labels::{ClassSettings, Set, Vocabulary};
pub use layout::{Layout, Output};
pub(crate) use pairs::masks_among;
pub(crate) use people::plain as plain_name;
pub use settings::{Columns, Cut, Settings};
pub use sheet::decode_text;
pub use siblings::parts_of_one;
pub use summary::Summary;
pub use tree::{Problem, ScannedFile, Tree, Walk, is_leftover, relative, walk};

use crate::class::{ClassSet, Classes};
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::part::{Part, Waiting};
use crate::rows::Severity;
use crate::schema::{ISSUES, MANIFEST};
use crate::storage;
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use labels::Mapping;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the stage.
pub(crate) const STAGE: &str = "ingest";

/// Most steps that look at every image, each of which needs the one before for all images: files, files outside the
/// folder, masks, cells.
pub(crate) const STEPS: usize = 4;

/// The layouts, the most specific first: the first that recognises a folder reads it.
pub static LAYOUTS: [&dyn Layout; 9] = [
    &template::Template,
    &annotations::VOC,
    &annotations::COCO,
    &annotations::YOLO,
    &annotations::BOXES,
    &jtsc::Jtsc,
    &list::List,
    &lisc::Lisc,
    &class_folders::ClassFolders,
];

impl Settings {
    /// Checks the settings, and returns the words that they know.
    ///
    /// # Errors
    /// [`Error::Setting`] for a layout or an expert that does not exist; as [`Vocabulary::new`].
    pub fn validate(&self) -> Result<Vocabulary> {
        if !matches!(self.expert, 1 | 2) {
            return Err(Error::setting("ingest.expert", "1 or 2", self.expert));
        }
        self.named_layout()?;
        template::validate(self)?;
        Vocabulary::new(&self.classes)
    }

    /// The layout that the settings name, if they name one.
    fn named_layout(&self) -> Result<Option<&'static dyn Layout>> {
        let Some(name) = &self.layout else {
            return Ok(self.path.as_ref().map(|_| &template::Template as &dyn Layout));
        };
        let is = |layout: &&dyn Layout| layout.name() == name || layout.aliases().contains(&name.as_str());
        let names = || format!("one of: {}", LAYOUTS.map(|l| l.name()).join(", "));
        if let (Some(template), true) = (&self.path, name != template::Template.name()) {
            return Err(Error::setting("ingest.path", format!("none beside the layout {name}"), template));
        }
        LAYOUTS.into_iter().find(is).map(Some).ok_or_else(|| Error::setting("ingest.layout", names(), name))
    }
}

/// Reads the data set `dataset` and writes its manifest and issues, unless nothing has changed.
///
/// # Errors
/// [`Error::Data`] if there is no labelled image in the folder, or if labels are numbers without a map;
/// [`Error::Setting`], [`Error::Missing`], [`Error::Format`], [`Error::Io`], [`Error::Waiting`] and
/// [`Error::Interrupted`]. Tables written before are then kept.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    let vocabulary = settings.validate()?;
    let (tree, layout) = scan(ws, dataset, settings, &vocabulary, ctx)?;
    if let Some(summary) = kept(ws, dataset, settings, &tree) {
        return Ok(summary);
    }
    let Some(layout) = layout else {
        return Err(lists::predicted(&tree, settings).unwrap_or_else(|| no_layout(dataset, &tree)));
    };
    let mut output = Output::new(dataset, layout.name());
    layout.read(&tree, settings, &vocabulary, ctx, &mut output)?;
    annotations::report_unused(&tree, settings, layout.name(), &mut output);
    tree.require_readable()?;
    people::check(&mut output);
    let mapping = map_labels(dataset, &vocabulary, &mut output)?;
    cut::apply(&tree, settings, &mapping.classes, ctx, &mut output)?;
    output.finish(&tree);
    tree.require_readable()?;
    if output.rows.is_empty() {
        let reason = output.issues.iter().min_by_key(|i| i.severity);
        let reason = reason.map_or(String::new(), |i| format!(" (such as {}: {})", i.path, i.message));
        let expected = format!("{} (layout {})", layout.looks_for(), layout.name());
        let got = format!("no labelled image among {} files{reason}", tree.files.len());
        return Err(Error::data(dataset, expected, got).with_hint("Another layout can be selected with --layout"));
    }
    if let Part::Shard(shard) = ctx.part {
        return Err(Error::Waiting(Waiting { step: STAGE, shards: shard.count, missing: Vec::new() }));
    }
    let not_kept = not_kept(ws, dataset, settings);
    // The tables of check describe the old manifest.
    for table in [ws.checks(dataset), ws.issues(dataset), ws.copies(dataset), ws.copy_features(dataset)] {
        remove(&table)?;
    }
    let manifest = ws.manifest(dataset);
    let provenance = provenance(&tree, settings, &mapping.classes);
    table::write_rows(&manifest, &MANIFEST, &provenance, &output.rows)?;
    let mut issues_made = provenance.clone();
    issues_made.inputs.insert(Input::Manifest.name().into(), table::file_hash(&manifest)?);
    table::write_rows(&ws.ingest_issues(dataset), &ISSUES, &issues_made, &output.issues)?;
    let mut summary = Summary::new(dataset, &mapping.classes, &output.rows, &output.issues, false);
    if let Some(message) = not_kept {
        summary.messages.insert(0, (Severity::Warning, message));
        summary.findings += 1;
    }
    Ok(summary)
}

/// The settings that the manifest of a data set was made with; `None` where there is none.
pub fn settings_of(ws: &Workspace, dataset: &str) -> Option<Settings> {
    let made = table::provenance(&ws.manifest(dataset), &MANIFEST).ok()?;
    RecordedSettings::read(&made).map(|(settings, _)| settings)
}

/// The sentence on settings of the manifest that is replaced which are the defaults again.
fn not_kept(ws: &Workspace, dataset: &str, settings: &Settings) -> Option<String> {
    let (before, now) = (settings_of(ws, dataset)?.chosen(), settings.chosen());
    let lost = before.into_iter().filter(|(key, _)| !now.contains_key(key));
    let lost: Vec<String> = lost.map(|(key, value)| format!("{key} = {value}")).collect();
    (!lost.is_empty()).then(|| {
        format!("{dataset} was read with {} before, and is not now: give it again to keep it", lost.join(", "))
    })
}

/// Sets the classes of all rows, and reports the labels that are no class.
fn map_labels(dataset: &str, vocabulary: &Vocabulary, output: &mut Output) -> Result<Mapping> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let labels = output.rows.iter().filter_map(|row| row.label.as_ref());
    labels
        .filter(|label| !output.no_class.contains(*label))
        .for_each(|label| *counts.entry(label.clone()).or_default() += 1);
    let mapping = Mapping::new(dataset, &counts, &output.codes, vocabulary)?;
    for row in &mut output.rows {
        row.class = row.label.as_deref().and_then(|label| mapping.class(label));
    }
    let noun = if output.rows.iter().any(|row| row.image_id.contains('#')) { "cell" } else { "image" };
    // The folder with all images of a label, where there is one.
    let folder = |output: &Output, label: &str| {
        let rows = output.rows.iter().filter(|row| row.label.as_deref() == Some(label));
        let mut folders = rows.map(|row| row.path.rsplit_once('/').map_or("", |(folder, _)| folder));
        let first = folders.next().unwrap_or("").to_string();
        if folders.all(|folder| folder == first) { first } else { String::new() }
    };
    for (label, n, similar) in &mapping.unknown {
        let mut message =
            format!("left out: {} with the label {label}, which is none of the classes", text::of(*n, noun));
        if let Some(class) = similar {
            message += &format!(" (if it is a kind of {class}: [classes] map = {{ \"{label}\" = \"{class}\" }})");
        }
        let folder = folder(output, label);
        output.issue(&folder, checks::UNKNOWN_CLASS, Severity::Warning, message).score = Some(*n as f64);
    }
    for label in &mapping.left_out_by_map {
        let n = counts[label];
        let message = format!("left out by [classes] map: {} with the label {label}", text::of(n, noun));
        let folder = folder(output, label);
        output.issue(&folder, checks::UNKNOWN_CLASS, Severity::Note, message).score = Some(n as f64);
    }
    if mapping.became_classes {
        let names = text::counts(counts.iter().map(|(label, n)| (label.as_str(), *n)));
        let message = format!(
            "no label is one of the five classes of wbc5, so that the labels are the classes: {names}. \
             Other classes: --classes"
        );
        output.issue("", checks::NEW_CLASSES, Severity::Warning, message);
    }
    if !mapping.unused_keys.is_empty() {
        let message = format!("[classes] map has labels that no image has: {}", mapping.unused_keys.join(", "));
        output.issue("", checks::UNKNOWN_CLASS, Severity::Note, message);
    }
    check_subtypes(vocabulary, output);
    Ok(mapping)
}

/// Reports cells whose finer label names another class: neither can be trusted.
fn check_subtypes(vocabulary: &Vocabulary, output: &mut Output) {
    let known = ClassSet::pbc8().classes();
    let contradicting = output.rows.iter().filter_map(|row| {
        let (class, subtype) = (row.class?, row.subtype.as_deref()?);
        let other = class_folders::class_of_code(subtype).or_else(|| vocabulary.class_of_subtype(subtype))?;
        let other = vocabulary.known(other.name()).unwrap_or(other);
        (other != class && known.index(class).is_some())
            .then(|| (row.path.clone(), row.image_id.clone(), format!("{subtype}, a {other}, as a {class}")))
    });
    for (path, image_id, message) in contradicting.collect::<Vec<_>>() {
        let message = format!("the finer label is {message}");
        output.issue(&path, checks::SUBTYPE, Severity::Error, message).image_id = Some(image_id);
    }
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
    vocabulary: &Vocabulary,
    ctx: &Context,
) -> Result<(Tree, Option<&'static dyn Layout>)> {
    let mut tree = Tree::scan(&ws.raw_dataset(dataset), ws.shards(dataset, STAGE), ctx)?;
    let layout = match settings.named_layout()? {
        Some(layout) => Some(layout),
        None => LAYOUTS.into_iter().find(|l| l.recognises(&tree, settings, vocabulary)),
    };
    if let Some(layout) = layout {
        let outside = layout.outside(&tree, settings);
        if !outside.is_empty() {
            tree.add("files_outside", &outside, ctx)?;
        }
    }
    tree.require_readable()?;
    if ctx.part != Part::All {
        tree.depends_on(&(settings, &settings.classes));
    }
    Ok((tree, layout))
}

/// The settings in the provenance of the manifest.
#[derive(Serialize, Deserialize)]
struct RecordedSettings {
    #[serde(flatten)]
    settings: Settings,
    /// How the classes were chosen.
    class_settings: ClassSettings,
    /// The classes of the data set: see [`crate::dataset::classes`].
    classes: Classes,
}

impl RecordedSettings {
    /// The settings that the manifest was made with, and its classes.
    fn read(provenance: &Provenance) -> Option<(Settings, Classes)> {
        let RecordedSettings { settings, class_settings, classes } =
            serde_json::from_value(provenance.settings.clone()).ok()?;
        Some((Settings { classes: class_settings, ..settings }, classes))
    }
}

fn provenance(tree: &Tree, settings: &Settings, classes: &Classes) -> Provenance {
    let recorded = RecordedSettings {
        settings: settings.clone(),
        class_settings: settings.classes.clone(),
        classes: classes.clone(),
    };
    let mut inputs = BTreeMap::from([("files".into(), tree.fingerprint())]);
    // A set in a file may change.
    if let Some(Set::Named(name)) = &settings.classes.set
        && let Ok(hash) = table::file_hash(Path::new(name))
    {
        inputs.insert("class_set".into(), hash);
    }
    Provenance {
        stage: STAGE.into(),
        settings: serde_json::to_value(recorded).expect("settings are plain JSON"),
        seed: None,
        inputs,
    }
}

/// Whether the files of a data set, or the way they are read, have changed since it was ingested.
///
/// # Errors
/// [`Error::Missing`] if there is no manifest or no folder of the data set, [`Error::Io`] and [`Error::Interrupted`].
pub fn has_changed(ws: &Workspace, dataset: &str, ctx: &Context) -> Result<bool> {
    let made = table::provenance(&ws.manifest(dataset), &MANIFEST)?;
    let Some((settings, classes)) = RecordedSettings::read(&made) else { return Ok(true) };
    let (tree, _) = scan(ws, dataset, &settings, &Vocabulary::new(&settings.classes)?, ctx)?;
    Ok(provenance(&tree, &settings, &classes) != made)
}

/// Whether a file or folder of a data set was written after its manifest, so that [`has_changed`] may find something.
/// Reads no file, and does not ask about images in object storage.
pub fn may_have_changed(ws: &Workspace, dataset: &str) -> bool {
    let raw = ws.raw_dataset(dataset);
    let manifest = std::fs::metadata(ws.manifest(dataset)).and_then(|about| about.modified());
    let Ok(made) = manifest else { return true };
    let is_newer = |entry: walkdir::DirEntry| {
        let modified = entry.metadata().ok().and_then(|about| about.modified().ok());
        modified.is_none_or(|modified| modified > made)
    };
    !storage::is_link(&raw) && walkdir::WalkDir::new(raw).follow_links(true).into_iter().flatten().any(is_newer)
}

/// The summary of the existing tables, if they were made from these files with these settings and can be read.
fn kept(ws: &Workspace, dataset: &str, settings: &Settings, tree: &Tree) -> Option<Summary> {
    let manifest = ws.manifest(dataset);
    let made = table::provenance(&manifest, &MANIFEST).ok()?;
    let (_, classes) = RecordedSettings::read(&made)?;
    if !table::is_current(&manifest, &MANIFEST, &provenance(tree, settings, &classes)) {
        return None;
    }
    let hash = table::file_hash(&manifest).ok()?;
    let issues_made = table::provenance(&ws.ingest_issues(dataset), &ISSUES).ok()?;
    if issues_made.input(Input::Manifest) != Some(hash.as_str()) {
        return None;
    }
    let (rows, _) = table::read_rows(&manifest, &MANIFEST).ok()?;
    let (issues, _) = table::read_rows(&ws.ingest_issues(dataset), &ISSUES).ok()?;
    Some(Summary::new(dataset, &classes, &rows, &issues, true))
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
    if images == 0 {
        let hint = "Put them into folders named after the classes, such as neutrophil/*.jpg";
        return Error::data(dataset, "images", got).with_hint(hint);
    }
    let proposals = template::proposals(tree);
    if folders.len() == 1 && folders.contains("") && proposals.is_empty() {
        let name = tree.root.file_name().unwrap_or_default().to_string_lossy();
        let hint = format!(
            "If {name} is a class: put the folders of all classes into one folder, raw/NAME/{name}/. If it is a data \
             set: put its images into folders named after the classes, or write list.csv with the columns path,class"
        );
        return Error::data(dataset, "folders named after the classes, or a list of images and classes", got)
            .with_hint(hint);
    }
    let expected: Vec<String> = LAYOUTS.iter().map(|l| format!("{} ({})", l.looks_for(), l.name())).collect();
    let mut hint =
        "Name the folders after the classes, write list.csv with the columns path,class, or give a template \
                    of the paths in the pipeline file"
            .to_string();
    if !proposals.is_empty() {
        hint += &format!(": [ingest] {}", proposals.join("; or "));
    }
    Error::data(dataset, expected.join("; or "), got).with_hint(hint)
}
