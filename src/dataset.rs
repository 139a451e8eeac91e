//! A data set as ingest and check describe it: its cells, the groups that they form, and which of them later stages
//! use.

use crate::class::{Class, Classes};
use crate::error::{Error, Input, Result};
use crate::rows::{CheckRow, CutRule, IssueRow, ManifestRow};
use crate::schema::{CHECKS, ISSUES, MANIFEST};
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The reason in [`CheckRow::left_out`] for a cell without a class.
pub const NO_CLASS: &str = "no_class";
/// The reason in [`CheckRow::left_out`] for an image that is to be cut around its cell, where none was found.
pub const NO_CELL: &str = "no_cell";

/// With fewer patients or slides these are not told apart as sources.
const MIN_SOURCES: usize = 5;

/// The cells of a data set, whether later stages use them or not.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The classes, in order; each cell has one of them or none.
    pub classes: Classes,
    /// The manifest.
    pub cells: Vec<ManifestRow>,
    /// The table of checks: one row per cell, in the same order. Where check has not run, it is [`unchecked`].
    pub checks: Vec<CheckRow>,
    /// Whether check has run on this manifest.
    pub checked: bool,
    /// The tables that were read, for a provenance: see [`inputs`].
    pub inputs: BTreeMap<String, String>,
}

impl Dataset {
    /// Reads the manifest of a data set and, where check has run, its table of checks.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no manifest, [`Error::Format`] for a table that is damaged or a class that is
    /// not on the list, [`Error::Stale`] where the manifest has changed since check ran.
    pub fn read(ws: &Workspace, name: &str) -> Result<Self> {
        let (cells, provenance) = table::read_rows::<ManifestRow>(&ws.manifest(name), &MANIFEST)?;
        let classes = classes_in(&provenance, &ws.manifest(name))?;
        if let Some(cell) = cells.iter().find(|cell| cell.class.is_some_and(|class| classes.index(class).is_none())) {
            let got = cell.class.map_or("", Class::name);
            return Err(Error::format(ws.manifest(name), &cell.image_id, format!("one of {classes}"), got));
        }
        let inputs = inputs(ws, name)?;
        let checked = inputs.contains_key(Input::Checks.name());
        let path = ws.checks(name);
        let checks = if checked { table::read_rows(&path, &CHECKS)?.0 } else { unchecked(&cells) };
        same_cells(&path, cells.iter().map(|c| &c.image_id), checks.iter().map(|c| &c.image_id))?;
        Ok(Self { classes, cells, checks, checked, inputs })
    }

    /// What each cell shares with the others from its source: the name of its patient where there are at least five
    /// patients, else of its slide likewise, else of its group of copies.
    pub fn units(&self) -> Vec<&str> {
        let of =
            |name: fn(&ManifestRow) -> Option<&str>| -> Vec<Option<&str>> { self.cells.iter().map(name).collect() };
        let known = [of(|cell| cell.subject_id.as_deref()), of(|cell| cell.slide_id.as_deref())];
        let many = |names: &Vec<Option<&str>>| names.iter().flatten().collect::<BTreeSet<_>>().len() >= MIN_SOURCES;
        let names = known.into_iter().find(many).unwrap_or_else(|| vec![None; self.cells.len()]);
        names.into_iter().zip(&self.checks).map(|(name, check)| name.unwrap_or(&check.group_id)).collect()
    }
}

/// The data set that a cell is from, by its `image_id`.
pub fn of_image(image_id: &str) -> &str {
    image_id.split_once('/').map_or(image_id, |(dataset, _)| dataset)
}

/// The classes of a data set, in order, from the provenance of its manifest.
///
/// # Errors
/// [`Error::Missing`] where there is no manifest, [`Error::Stale`] where it does not say which classes there are.
pub fn classes(ws: &Workspace, name: &str) -> Result<Classes> {
    let path = ws.manifest(name);
    classes_in(&table::provenance(&path, &MANIFEST)?, &path)
}

fn classes_in(provenance: &Provenance, manifest: &Path) -> Result<Classes> {
    let classes = provenance.settings.get("classes").and_then(|classes| Classes::deserialize(classes).ok());
    classes.ok_or_else(|| Error::stale(Input::Manifest, manifest, "it does not say which classes there are"))
}

/// Everything found in a data set: the issues of check, which include those of ingest; before check has run, those of
/// ingest alone.
///
/// # Errors
/// [`Error::Missing`] where neither stage has run, [`Error::Format`] for a table that is damaged.
pub fn issues(ws: &Workspace, name: &str) -> Result<Vec<IssueRow>> {
    let (all, ingest) = (ws.issues(name), ws.ingest_issues(name));
    let path = if table::exists(&all)? { all } else { ingest };
    table::read_rows(&path, &ISSUES).map(|(rows, _)| rows)
}

/// The cells of a data set that later stages use.
pub struct Usable {
    /// The classes of the data set, in order; there may be no cell of some of them.
    pub classes: Classes,
    /// Their rows in the manifest.
    pub cells: Vec<ManifestRow>,
    /// How many cells are not among them: those without a class, and those for which check reported an error.
    pub left_out: u64,
    /// The tables that were read, for a provenance.
    pub inputs: BTreeMap<String, String>,
}

impl Usable {
    /// Reads a data set and selects the cells that later stages use.
    ///
    /// # Errors
    /// As [`Dataset::read`], and [`Error::Data`] where no cell can be used.
    pub fn read(ws: &Workspace, name: &str) -> Result<Self> {
        let Dataset { classes, cells, checks, inputs, .. } = Dataset::read(ws, name)?;
        let all = cells.len();
        let usable = cells.into_iter().zip(checks).filter(|(_, check)| check.left_out.is_none());
        let cells: Vec<ManifestRow> = usable.map(|(cell, _)| cell).collect();
        if cells.is_empty() {
            let error = Error::data(name, "usable images with a class", format!("none among {all}"));
            return Err(error.with_hint(format!("What is wrong with them: {}", ws.issues(name).display())));
        }
        Ok(Self { classes, left_out: (all - cells.len()) as u64, cells, inputs })
    }
}

/// The labels that stand for no class of the data set, with their numbers of cells: the largest first.
pub fn other_labels(cells: &[ManifestRow]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
    let labels = cells.iter().filter(|cell| cell.class.is_none()).filter_map(|cell| cell.label.as_ref());
    labels.for_each(|label| *counts.entry(label).or_default() += 1);
    let mut counts: Vec<(String, u64)> = counts.into_iter().map(|(label, n)| (label.clone(), n)).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    counts
}

/// A sentence about the [`other_labels`] of a data set with this number of cells in this number of images: "left out: 2
/// of 12 images with 1 other label: Burst 2". `None` if there are none.
pub fn left_out_text(other_labels: &[(String, u64)], cells: u64, images: u64) -> Option<String> {
    let left_out: u64 = other_labels.iter().map(|(_, n)| n).sum();
    let noun = if cells == images { "image" } else { "cell" };
    let labels = text::of(other_labels.len() as u64, "other label");
    let counts = text::counts(other_labels.iter().map(|(label, n)| (label.as_str(), *n)));
    let left = text::thousands(left_out);
    (left_out > 0).then(|| format!("left out: {left} of {} with {labels}: {counts}", text::of(cells, noun)))
}

/// The hashes of the manifest and, where check has run, of the table of checks, for the provenance of a table that is
/// written from them.
///
/// # Errors
/// [`Error::Missing`] where there is no manifest, [`Error::Stale`] where the manifest has changed since check ran.
pub fn inputs(ws: &Workspace, name: &str) -> Result<BTreeMap<String, String>> {
    let (manifest, checks) = (ws.manifest(name), ws.checks(name));
    table::provenance(&manifest, &MANIFEST)?;
    let hash = table::file_hash(&manifest)?;
    let mut inputs = BTreeMap::from([(Input::Manifest.name().to_string(), hash.clone())]);
    if table::exists(&checks)? {
        table::provenance(&checks, &CHECKS)?.require(Input::Manifest, &hash, Input::Checks, &checks)?;
        inputs.insert(Input::Checks.name().into(), table::file_hash(&checks)?);
    }
    Ok(inputs)
}

/// Requires that `table`, which lies at `path` and has this provenance, was written from the manifest and the table of
/// checks that exist now.
///
/// # Errors
/// As [`inputs`], and [`Error::Stale`] where one of them has changed since.
pub fn require_current(ws: &Workspace, name: &str, provenance: &Provenance, table: Input, path: &Path) -> Result<()> {
    let inputs = inputs(ws, name)?;
    for input in [Input::Manifest, Input::Checks] {
        if let Some(hash) = inputs.get(input.name()) {
            provenance.require(input, hash, table, path)?;
        }
    }
    Ok(())
}

/// What is known of cells before check has run: files of equal content, and so the cells of one frame, form a group,
/// and cells without a class or a box that they need are left out. Groups are named after the smallest `image_id` if
/// `cells` are sorted.
pub fn unchecked(cells: &[ManifestRow]) -> Vec<CheckRow> {
    let mut first: HashMap<&str, &str> = HashMap::new();
    let rows = cells.iter().map(|cell| CheckRow {
        image_id: cell.image_id.clone(),
        group_id: (*first.entry(&cell.content_hash).or_insert(&cell.image_id)).into(),
        left_out: match cell.class {
            None => Some(NO_CLASS.into()),
            Some(_) if cell.cut == Some(CutRule::Box) && cell.cell_box().is_none() => Some(NO_CELL.into()),
            Some(_) => None,
        },
        ..CheckRow::default()
    });
    rows.collect()
}

/// Requires that the table of checks at `path` has the cells of the manifest, in the same order.
///
/// # Errors
/// [`Error::Format`] where it has not.
pub fn same_cells<'a>(
    path: &Path,
    manifest: impl ExactSizeIterator<Item = &'a String>,
    checks: impl ExactSizeIterator<Item = &'a String>,
) -> Result<()> {
    let counts = (manifest.len(), checks.len());
    if counts.0 == counts.1 && manifest.eq(checks) {
        return Ok(());
    }
    let expected = format!("the {} cells of the manifest, in the same order", counts.0);
    Err(Error::format(path, "image_id", expected, format!("{} other cells", counts.1)))
}
