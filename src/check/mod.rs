//! Check: decodes every image of a manifest once and looks for problems: unreadable files, exact and near copies, label
//! conflicts, odd sizes, dark, bright and blurred images, small classes. Nothing is deleted or changed. It writes
//! `checks.parquet`, with the groups of copies that a split keeps in one fold, and `issues.parquet`, with every
//! problem.

pub mod against;
mod blank;
mod blurred;
mod class_apart;
mod class_counts;
mod copies;
mod exposure;
mod findings;
mod label_conflict;
mod measurements;
mod odd_size;
mod settings;
mod undecodable;

pub use copies::rows as copy_rows;
pub use findings::{Check, Findings, Images};
pub use measurements::Measurements;
pub use settings::Settings;

use crate::class::Classes;
use crate::context::Context;
use crate::copies::source::Store;
use crate::copies::{Features, Groups, Pair, store};
use crate::dataset::{self, Dataset};
use crate::decode;
use crate::error::{Error, Input, Result};
use crate::ingest;
use crate::rows::{CheckRow, IssueRow, ManifestRow, Severity};
use crate::schema;
use crate::shards::{self, Step};
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Name of the stage.
pub(crate) const STAGE: &str = "check";
/// Of more images than this, what copies are found by is in a file while they are looked for: 6 kB each.
const IN_MEMORY: usize = 50_000;

/// The checks, in the order of the summary.
pub static CHECKS: [&dyn Check; 12] = [
    &undecodable::Undecodable,
    &blank::Blank,
    &copies::ExactCopy,
    &copies::NearCopy,
    &copies::LargeGroup,
    &label_conflict::LabelConflict,
    &odd_size::OddSize,
    &exposure::TooDark,
    &exposure::TooBright,
    &blurred::Blurred,
    &class_counts::ClassCounts,
    &class_apart::ClassApart,
];

/// Result of the stage.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The data set.
    pub dataset: String,
    /// Whether nothing had changed since the last check, so that it did not run again.
    pub up_to_date: bool,
    /// Number of image files.
    pub images: u64,
    /// Number of groups of copies.
    pub copy_groups: u64,
    /// Number of image files in the largest of these groups.
    pub largest_group: u64,
    /// Findings by check.
    pub checks: Vec<CheckSummary>,
    /// Number of errors and warnings.
    pub findings: u64,
    /// Path of the table with all findings.
    pub issues: String,
}

/// Findings of one check and one severity.
#[derive(Clone, Debug, Serialize)]
pub struct CheckSummary {
    /// Name of the check.
    pub check: String,
    /// Severity of these findings.
    pub severity: Severity,
    /// How many there are.
    pub count: u64,
    /// What the check looks for.
    pub doc: String,
    /// The first finding.
    pub example: String,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
        write!(f, "{}: {} checked", self.dataset, text::of(self.images, "image"))?;
        if self.up_to_date {
            write!(f, " (up to date)")?;
        }
        if self.checks.is_empty() {
            return write!(f, ", no problems found");
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["Check", "Severity", "Count", "Meaning", "Example"]);
        for findings in &self.checks {
            let severity = format!("{:?}", findings.severity).to_lowercase();
            let count = findings.count.to_string();
            table.add_row([&findings.check, &severity, &count, &findings.doc, &findings.example]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "\n{table}")?;
        if self.copy_groups > 0 {
            let (groups, largest) = (self.copy_groups, self.largest_group);
            let groups = text::of(groups, "group");
            write!(f, "\n{groups} of copies, the largest with {largest} images; each group stays in one fold")?;
        }
        write!(f, "\nAll findings: {}", self.issues)
    }
}

/// Decodes every image of `dataset` and writes `checks.parquet` (groups and measurements), `copies.parquet` (pairs of
/// copies), `copy_features.parquet` (what they are found by) and `issues.parquet` (the issues of ingest and of this
/// stage).
///
/// # Errors
/// [`Error::Missing`] or [`Error::Format`] for the tables of ingest, [`Error::Stale`] if they do not belong together,
/// [`Error::Stale`] for an image that has changed since it was ingested, [`Error::Io`] for one that cannot be read,
/// [`Error::Setting`], [`Error::Waiting`] and [`Error::Interrupted`]. An image that cannot be decoded is a finding, not
/// an error.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let (rows, _) = table::read_rows::<ManifestRow>(&ws.manifest(dataset), &schema::MANIFEST)?;
    let manifest = table::file_hash(&ws.manifest(dataset))?;
    let provenance = Provenance {
        stage: STAGE.into(),
        settings: serde_json::to_value(settings).expect("settings are plain JSON"),
        seed: None,
        inputs: [(Input::Manifest.name().to_string(), manifest.clone())].into(),
    };
    let (checks_path, issues_path) = (ws.checks(dataset), ws.issues(dataset));
    let (copies_path, features_path) = (ws.copies(dataset), ws.copy_features(dataset));
    let written: [(&Path, &schema::Schema); 4] = [
        (&checks_path, &schema::CHECKS),
        (&issues_path, &schema::ISSUES),
        (&copies_path, &schema::COPIES),
        (&features_path, &schema::COPY_FEATURES),
    ];
    if written.iter().all(|(path, schema)| table::is_current(path, schema, &provenance)) {
        let checks = Dataset::read(ws, dataset)?.checks;
        return Ok(summary(ws, dataset, &rows, &checks, &dataset::issues(ws, dataset)?, true));
    }
    let mut issues = ingest_issues(ws, dataset, &manifest)?;

    let classes = dataset::classes(ws, dataset)?;
    let (mut images, features) = measure(ws, dataset, classes, rows, &provenance.inputs, ctx)?;
    // What copies are found by is written while they are looked for.
    let (copies, written) = rayon::join(
        || find_copies(&images, &features, settings, ctx),
        || {
            let ids: Vec<&str> = images.first_rows.iter().map(|row| images.rows[*row].image_id.as_str()).collect();
            store::write(&features_path, &provenance, &ids, &features)
        },
    );
    written?;
    images.copies = copies?;
    let mut findings = Findings::new(dataset);
    CHECKS.into_iter().for_each(|check| findings.add(check, &images, settings));
    issues.extend(findings.issues);
    issues.sort_by(|a, b| (&a.path, &a.check, &a.image_id).cmp(&(&b.path, &b.check, &b.image_id)));
    let checks = check_rows(&images, &issues);

    table::write_rows(&checks_path, &schema::CHECKS, &provenance, &checks)?;
    table::write_rows(&issues_path, &schema::ISSUES, &provenance, &issues)?;
    let rows = copies::rows(&images.copies, &images.rows, &images.rows);
    table::write_rows(&copies_path, &schema::COPIES, &provenance, &rows)?;
    shards::remove(&ws.shards(dataset, ingest::STAGE))?;
    shards::remove(&ws.shards(dataset, STAGE))?;
    Ok(summary(ws, dataset, &images.rows, &checks, &issues, false))
}

/// The issues that ingest wrote together with this manifest.
fn ingest_issues(ws: &Workspace, dataset: &str, manifest: &str) -> Result<Vec<IssueRow>> {
    let path = ws.ingest_issues(dataset);
    if !table::exists(&path)? {
        return Err(Error::missing(Input::IngestIssues, path));
    }
    let (issues, provenance) = table::read_rows::<IssueRow>(&path, &schema::ISSUES)?;
    provenance.require(Input::Manifest, manifest, Input::IngestIssues, &path)?;
    Ok(issues)
}

/// Decodes and measures every image file of the manifest. Also returns what copies of each file are found by.
fn measure(
    ws: &Workspace,
    dataset: &str,
    classes: Classes,
    rows: Vec<ManifestRow>,
    inputs: &BTreeMap<String, String>,
    ctx: &Context,
) -> Result<(Images, Store)> {
    // Rows are sorted by image_id, so that cells of one frame are adjacent.
    let (mut first_rows, mut file_of_row) = (Vec::new(), Vec::new());
    for (i, row) in rows.iter().enumerate() {
        if i == 0 || rows[i - 1].path != row.path {
            first_rows.push(i);
        }
        file_of_row.push(first_rows.len() - 1);
    }
    let (raw, folder) = (ws.raw_dataset(dataset), ws.shards(dataset, STAGE));
    let progress = ("checking images", "images");
    let step = Step { raw: &raw, folder: &folder, name: "images", progress, inputs, is_last: true };
    let items: Vec<_> = first_rows.iter().map(|row| (rows[*row].image_id.as_str(), &rows[*row])).collect();
    let measure = |(_, row): &(&str, &ManifestRow)| match measure_file(&raw, row) {
        Ok((measurements, features)) => Ok((Ok(measurements), Some(features))),
        Err(Error::Image { message, .. }) => Ok((Err(message), None)),
        Err(other) => Err(other),
    };
    let mut files: Vec<Result<Measurements, String>> = (0..items.len()).map(|_| Err(String::new())).collect();
    let mut features = Store::new(items.len(), IN_MEMORY, &ws.root.join(dataset))?;
    let mut keep = |i: usize, (file, of_image): (_, Option<Features>)| {
        files[i] = file;
        of_image.map_or(Ok(()), |of_image| features.put(i, of_image))
    };
    shards::each_into(&step, &items, measure, &mut keep, ctx)?;
    Ok((Images { classes, rows, first_rows, file_of_row, files, copies: Vec::new() }, features))
}

/// Pairs of copies, as rows of the manifest: the first rows of two files.
fn find_copies(images: &Images, features: &Store, settings: &Settings, ctx: &Context) -> Result<Vec<Pair>> {
    let pairs = crate::copies::find_in(features, settings.copy_correlation, ctx)?;
    let first = &images.first_rows;
    Ok(pairs.into_iter().map(|pair| Pair { a: first[pair.a], b: first[pair.b], ..pair }).collect())
}

/// Reads, verifies, decodes and measures one image file.
///
/// # Errors
/// [`Error::Image`] for a file that is no image, [`Error::Io`] for one that cannot be read, and [`Error::Stale`] for
/// one that is not the file that was ingested.
fn measure_file(raw: &Path, row: &ManifestRow) -> Result<(Measurements, Features)> {
    let path = raw.join(&row.path);
    let bytes = decode::read(&path)?;
    if *blake3::hash(&bytes).to_hex() != *row.content_hash {
        return Err(Error::stale(Input::Manifest, path, "the image has changed since it was ingested"));
    }
    let image = decode::grey(&bytes, &path)?;
    Ok((Measurements::new(&image), Features::new(&image)))
}

/// The table of checks. A cell is left out because of the first of its issues with severity error.
fn check_rows(images: &Images, issues: &[IssueRow]) -> Vec<CheckRow> {
    let mut errors: HashMap<&str, &str> = HashMap::new();
    for issue in issues.iter().filter(|i| i.severity == Severity::Error) {
        if let Some(id) = &issue.image_id {
            errors.entry(id).or_insert(&issue.check);
        }
    }
    let mut checks = dataset::unchecked(&images.rows);
    group(&images.rows, &images.copies, &mut checks);
    for (check, file) in checks.iter_mut().zip(&images.file_of_row) {
        // The finding says more than that there is no box.
        if check.left_out.as_deref().is_none_or(|why| why == dataset::NO_CELL)
            && let Some(name) = errors.get(check.image_id.as_str())
        {
            check.left_out = Some(name.to_string());
        }
        if let Ok(measured) = &images.files[*file] {
            check.grey_p05 = Some(measured.grey_p05.into());
            check.grey_p95 = Some(measured.grey_p95.into());
            check.sharpness = Some(measured.sharpness);
        }
    }
    checks
}

/// Gives files of equal content, and copies, the smallest `image_id` among them as their group.
fn group(rows: &[ManifestRow], copies: &[Pair], checks: &mut [CheckRow]) {
    let mut groups = Groups::new(rows.len());
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        groups.join(*first.entry(&row.content_hash).or_insert(i), i);
    }
    copies.iter().for_each(|pair| groups.join(pair.a, pair.b));
    // Rows are sorted by image_id, so that the first of a group has the smallest name.
    for (i, check) in checks.iter_mut().enumerate() {
        check.group_id = rows[groups.first(i)].image_id.clone();
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
    let own = || issues.iter().filter(|i| i.stage == STAGE);
    let mut summaries = Vec::new();
    for check in CHECKS {
        for severity in [Severity::Error, Severity::Warning, Severity::Note] {
            let mut findings = own().filter(|i| i.check == check.name() && i.severity == severity).peekable();
            let Some(first) = findings.peek() else { continue };
            let relative = |id: &str| id.strip_prefix(&format!("{dataset}/")).unwrap_or(id).to_string();
            let example = match (&first.related, first.path.as_str()) {
                (_, "") => first.message.clone(),
                (Some(related), path) => format!("{path}, {}", relative(related)),
                (None, path) => path.into(),
            };
            let (check, doc) = (check.name().to_string(), check.doc().to_string());
            summaries.push(CheckSummary { check, severity, count: findings.count() as u64, doc, example });
        }
    }
    // Cells of one frame are not copies of each other.
    let mut files: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for (row, check) in rows.iter().zip(checks) {
        files.entry(&check.group_id).or_default().insert(&row.path);
    }
    let sizes = || files.values().map(|paths| paths.len() as u64).filter(|n| *n > 1);
    Summary {
        dataset: dataset.into(),
        up_to_date,
        images: rows.iter().map(|r| &r.path).collect::<BTreeSet<_>>().len() as u64,
        copy_groups: sizes().count() as u64,
        largest_group: sizes().max().unwrap_or(0),
        checks: summaries,
        findings: own().filter(|i| i.severity != Severity::Note).count() as u64,
        issues: ws.issues(dataset).display().to_string(),
    }
}
