//! Check: decodes every image of a manifest once and looks for what would spoil an experiment. Findings become rows
//! of `issues.parquet`; nothing is ever deleted. Copies, exact and near, get one `group_id` in the manifest, so that
//! no split can tear them apart.

use crate::context::Context;
use crate::dataset::{self, Dataset};
use crate::decode;
use crate::error::{Error, Input, Result};
use crate::rows::{CheckRow, IssueRow, ManifestRow, Severity};
use crate::schema::{CHECKS as CHECKS_SCHEMA, ISSUES, MANIFEST};
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

mod blank;
mod blurred;
mod class_counts;
pub mod copies;
mod exposure;
mod label_conflict;
mod look;
mod odd_size;
mod undecodable;

pub use look::Look;

/// The checks, in the order of the summary. A file each (or two that measure the same), and a line here.
pub static CHECKS: [&dyn Check; 10] = [
    &undecodable::Undecodable,
    &blank::Blank,
    &copies::ExactCopy,
    &copies::NearCopy,
    &label_conflict::LabelConflict,
    &odd_size::OddSize,
    &exposure::TooDark,
    &exposure::TooBright,
    &blurred::Blurred,
    &class_counts::ClassCounts,
];

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Bits (of 64) by which the perceptual hashes of near copies may differ; candidates are then compared by pixels.
    pub near_copy_bits: u32,
    /// Correlation (-1 to 1) of the aligned pictures from which two are near copies; more is asked for where the data
    /// set's unrelated pictures come near it.
    pub near_copy_correlation: f32,
    /// A picture whose 95th percentile of grey (0 to 255) is below this is too dark.
    pub dark_below: u8,
    /// A picture whose 5th percentile of grey (0 to 255) is above this is too bright.
    pub bright_above: u8,
    /// Robust standard deviations that a picture's sharpness may lie below the data set's median.
    pub blur_deviations: f64,
    /// A class with fewer images than this is reported.
    pub min_class_images: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            near_copy_bits: 14,
            near_copy_correlation: 0.9,
            dark_below: 80,
            bright_above: 225,
            blur_deviations: 4.0,
            min_class_images: 10,
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, key: &str, expected: &str, got: String| match ok {
            true => Ok(()),
            false => Err(Error::Setting { key: format!("check.{key}"), expected: expected.into(), got }),
        };
        check(self.near_copy_bits <= 32, "near_copy_bits", "0 to 32", self.near_copy_bits.to_string())?;
        let correlation = self.near_copy_correlation;
        check((0.5..=1.0).contains(&correlation), "near_copy_correlation", "0.5 to 1", correlation.to_string())?;
        check(self.blur_deviations > 0.0, "blur_deviations", "above 0", self.blur_deviations.to_string())
    }
}

/// One way in which images can be wrong.
pub trait Check: Sync {
    /// Name in `issues.parquet`.
    fn name(&self) -> &'static str;
    /// What is wrong, for the summary: a few words.
    fn doc(&self) -> &'static str;
    /// Whether a lower score is the worse one.
    fn lower_is_worse(&self) -> bool {
        false
    }
    /// Reports what it finds.
    fn find(&self, seen: &Seen, settings: &Settings, findings: &mut Findings);
}

/// Everything that is known of a data set's images after the one decode.
pub struct Seen {
    pub rows: Vec<ManifestRow>,
    /// For each row, its place in `looks`: cells of one frame share it.
    pub look_of: Vec<usize>,
    /// What was seen in each image file, or why it cannot be seen.
    pub looks: Vec<std::result::Result<Look, String>>,
    /// Pairs of near copies, as rows: the first row of a file speaks for it.
    pub near_copies: Vec<copies::NearPair>,
}

impl Seen {
    /// The look at a row's image file, where it can be decoded.
    pub fn look(&self, row: usize) -> Option<&Look> {
        self.looks[self.look_of[row]].as_ref().ok()
    }

    /// The first row of each decodable image file, with its look.
    pub fn pictures(&self) -> impl Iterator<Item = (&ManifestRow, &Look)> {
        let mut last = None;
        (0..self.rows.len()).filter_map(move |row| {
            let file = Some(self.look_of[row]);
            let new = last != file;
            last = file;
            if new { Some((&self.rows[row], self.look(row)?)) } else { None }
        })
    }
}

/// Collects issue rows.
pub struct Findings {
    dataset: String,
    check: &'static str,
    rows: Vec<IssueRow>,
}

impl Findings {
    /// Adds a finding on one image.
    pub fn image(
        &mut self,
        row: &ManifestRow,
        severity: Severity,
        score: Option<f64>,
        message: String,
    ) -> &mut IssueRow {
        self.rows.push(IssueRow {
            dataset: self.dataset.clone(),
            path: row.path.clone(),
            image_id: Some(row.image_id.clone()),
            stage: "check".into(),
            check: self.check.into(),
            severity,
            score,
            related: None,
            message,
        });
        self.rows.last_mut().expect("just pushed")
    }

    /// Adds a finding on the whole data set.
    pub fn dataset(&mut self, severity: Severity, score: Option<f64>, message: String) {
        self.rows.push(IssueRow {
            dataset: self.dataset.clone(),
            path: String::new(),
            image_id: None,
            stage: "check".into(),
            check: self.check.into(),
            severity,
            score,
            related: None,
            message,
        });
    }
}

/// What check found.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub dataset: String,
    /// Nothing had changed since the last check.
    pub up_to_date: bool,
    /// Image files decoded.
    pub images: u64,
    /// Groups of copies, and the number of images in the largest.
    pub copy_groups: u64,
    pub largest_group: u64,
    /// Findings by check.
    pub checks: Vec<Found>,
    /// Issues that are an error or a warning.
    pub findings: u64,
    /// Where all of them stand.
    pub issues: String,
}

/// The findings of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub check: String,
    pub severity: Severity,
    pub count: u64,
    /// What it means.
    pub doc: String,
    /// The first of them.
    pub example: String,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
        write!(f, "{}: {} images checked", self.dataset, self.images)?;
        if self.up_to_date {
            write!(f, " (up to date)")?;
        }
        if self.checks.is_empty() {
            return write!(f, ", nothing found");
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["Check", "Severity", "Rows", "What", "Such as"]);
        for found in &self.checks {
            let severity = format!("{:?}", found.severity).to_lowercase();
            table.add_row([&found.check, &severity, &found.count.to_string(), &found.doc, &found.example]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "\n{table}")?;
        if self.copy_groups > 0 {
            let (groups, largest) = (self.copy_groups, self.largest_group);
            write!(f, "\n{groups} groups of copies (the largest of {largest} images); each stays in one fold")?;
        }
        write!(f, "\nall of them: {}", self.issues)
    }
}

/// Decodes every image of `dataset` and writes `checks.parquet` (groups, perceptual hashes, measurements) and
/// `issues.parquet` (the issues of ingest and its own).
///
/// # Errors
/// [`Error::Missing`] or [`Error::Format`] for the tables of ingest, [`Error::Stale`] where they are of different runs of
/// ingest, [`Error::Setting`] and [`Error::Interrupted`]. A bad image is a finding, not an error.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let (rows, _) = table::read_rows::<ManifestRow>(&ws.manifest(dataset), &MANIFEST)?;
    let manifest = table::file_hash(&ws.manifest(dataset))?;
    let made = Provenance {
        stage: "check".into(),
        settings: serde_json::to_value(settings).expect("settings are plain JSON"),
        seed: None,
        inputs: [(Input::Manifest.name().to_string(), manifest.clone())].into(),
    };
    let (checks_path, issues_path) = (ws.checks(dataset), ws.issues(dataset));
    if table::is_current(&checks_path, &CHECKS_SCHEMA, &made) && table::is_current(&issues_path, &ISSUES, &made) {
        let checks = Dataset::read(ws, dataset)?.checks;
        return Ok(summary(ws, dataset, &rows, &checks, &dataset::issues(ws, dataset)?, true));
    }
    let mut issues = ingest_issues(ws, dataset, &manifest)?;

    // Rows are sorted by image_id, so that cells of one frame stand together.
    let (mut files, mut look_of) = (Vec::new(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        if i == 0 || rows[i - 1].path != row.path {
            files.push(i);
        }
        look_of.push(files.len() - 1);
    }
    let raw = ws.raw_dataset(dataset);
    let task = ctx.progress.task("checking images", Some(files.len() as u64), "images");
    let looks: Result<Vec<_>> = files
        .par_iter()
        .map(|&i| {
            ctx.check_stop()?;
            let seen = look_at(&raw, &rows[i]);
            task.advance(1);
            Ok(seen)
        })
        .collect();
    drop(task);
    let looks = looks?;
    let near = copies::near_pairs(&looks, settings, ctx)?;
    // From places in `looks` to rows: the first row of a file speaks for it.
    let near_copies: Vec<_> =
        near.into_iter().map(|p| copies::NearPair { a: files[p.a], b: files[p.b], ..p }).collect();
    let mut checks = dataset::unchecked(&rows);
    group(&rows, &near_copies, &mut checks);
    for (check, look) in checks.iter_mut().zip(&look_of) {
        let Ok(look) = &looks[*look] else { continue };
        check.perceptual_hash = Some(look.hash());
        check.grey_p05 = Some(look.dark_end.into());
        check.grey_p95 = Some(look.bright_end.into());
        check.sharpness = Some(look.sharpness);
    }

    let seen = Seen { rows, look_of, looks, near_copies };
    let mut findings = Findings { dataset: dataset.into(), check: "", rows: Vec::new() };
    for check in CHECKS {
        findings.check = check.name();
        check.find(&seen, settings, &mut findings);
    }
    issues.extend(findings.rows);
    issues.sort_by(|a, b| (&a.path, &a.check, &a.image_id).cmp(&(&b.path, &b.check, &b.image_id)));
    leave_out(&issues, &mut checks);

    table::write_rows(&checks_path, &CHECKS_SCHEMA, &made, &checks)?;
    table::write_rows(&issues_path, &ISSUES, &made, &issues)?;
    Ok(summary(ws, dataset, &seen.rows, &checks, &issues, false))
}

/// The issues that ingest found in the files of this manifest.
fn ingest_issues(ws: &Workspace, dataset: &str, manifest: &str) -> Result<Vec<IssueRow>> {
    let path = ws.ingest_issues(dataset);
    if !path.is_file() {
        return Err(Error::missing(Input::IngestIssues, path));
    }
    let (issues, made) = table::read_rows::<IssueRow>(&path, &ISSUES)?;
    made.require(Input::Manifest, manifest, Input::IngestIssues, &path)?;
    Ok(issues)
}

/// Marks the cells that have an issue of severity error, by the first of them.
fn leave_out(issues: &[IssueRow], checks: &mut [CheckRow]) {
    let mut errors: HashMap<&str, &str> = HashMap::new();
    for issue in issues.iter().filter(|i| i.severity == Severity::Error) {
        if let Some(id) = &issue.image_id {
            errors.entry(id).or_insert(&issue.check);
        }
    }
    for check in checks.iter_mut().filter(|c| c.left_out.is_none()) {
        check.left_out = errors.get(check.image_id.as_str()).map(|name| name.to_string());
    }
}

/// Reads, verifies and decodes one image file.
fn look_at(raw: &Path, row: &ManifestRow) -> std::result::Result<Look, String> {
    let path = raw.join(&row.path);
    let bytes = std::fs::read(&path).map_err(|e| format!("cannot be read: {e}"))?;
    if *blake3::hash(&bytes).to_hex() != *row.content_hash {
        return Err("expected the file that was ingested, found other content. Run: wbc ingest".into());
    }
    match decode::grey(&bytes, &path) {
        Ok(picture) => Ok(Look::at(&picture)),
        Err(Error::Image { message, .. }) => Err(message),
        Err(other) => Err(other.to_string()),
    }
}

/// Gives files of equal content, and near copies, the smallest `image_id` among them as their group.
fn group(rows: &[ManifestRow], near: &[copies::NearPair], checks: &mut [CheckRow]) {
    let mut parent: Vec<usize> = (0..rows.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    let equal: Vec<(usize, usize)> =
        rows.iter().enumerate().map(|(i, row)| (*first.entry(&row.content_hash).or_insert(i), i)).collect();
    for (a, b) in equal.into_iter().chain(near.iter().map(|p| (p.a, p.b))) {
        let (a, b) = (root(&mut parent, a), root(&mut parent, b));
        // Rows are sorted by image_id: the smaller number is the smaller name.
        parent[a.max(b)] = a.min(b);
    }
    for (i, check) in checks.iter_mut().enumerate() {
        check.group_id = rows[root(&mut parent, i)].image_id.clone();
    }
}

fn summary(
    ws: &Workspace,
    dataset: &str,
    rows: &[ManifestRow],
    checks: &[CheckRow],
    issues: &[IssueRow],
    up_to_date: bool,
) -> Summary {
    let ours = || issues.iter().filter(|i| i.stage == "check");
    let mut found_by = Vec::new();
    for check in CHECKS {
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let mut found = ours().filter(|i| i.check == check.name() && i.severity == severity).peekable();
            let Some(first) = found.peek() else { continue };
            let relative = |id: &str| id.strip_prefix(&format!("{dataset}/")).unwrap_or(id).to_string();
            let example = match (&first.related, first.path.as_str()) {
                (_, "") => first.message.clone(),
                (Some(related), path) => format!("{path}, {}", relative(related)),
                (None, path) => path.into(),
            };
            let (check, doc) = (check.name().to_string(), check.doc().to_string());
            found_by.push(Found { check, severity, count: found.count() as u64, doc, example });
        }
    }
    // Cells of one frame are no copies.
    let mut files: HashMap<&str, std::collections::BTreeSet<&str>> = HashMap::new();
    for (row, check) in rows.iter().zip(checks) {
        files.entry(&check.group_id).or_default().insert(&row.path);
    }
    let sizes = || files.values().map(|paths| paths.len() as u64).filter(|n| *n > 1);
    Summary {
        dataset: dataset.into(),
        up_to_date,
        images: rows.iter().map(|r| &r.path).collect::<std::collections::BTreeSet<_>>().len() as u64,
        copy_groups: sizes().count() as u64,
        largest_group: sizes().max().unwrap_or(0),
        checks: found_by,
        findings: ours().filter(|i| i.severity != Severity::Note).count() as u64,
        issues: ws.issues(dataset).display().to_string(),
    }
}
