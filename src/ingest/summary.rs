//! What ingest prints.

use super::checks;
use crate::class::{Class, Classes};
use crate::dataset;
use crate::rows::{IssueRow, ManifestRow, Severity};
use crate::text;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// Number of rows without a class, by label.
    pub left_out: Vec<(String, u64)>,
    /// Number of rows without a class.
    pub unlabelled: u64,
    /// Number of subjects that the data set names.
    pub subjects: u64,
    /// Number of slides that the data set names.
    pub slides: u64,
    /// Number of rows by the role that the data set gives them.
    pub given_roles: BTreeMap<String, u64>,
    /// Number of rows that are exact copies of another or share a frame with another.
    pub grouped: u64,
    /// Number of issues of the highest severity, and that severity, by name.
    pub issues: BTreeMap<String, (u64, Severity)>,
    /// What concerns more than one file, in words: the most serious first.
    pub messages: Vec<(Severity, String)>,
    /// Number of errors and warnings.
    pub findings: u64,
    /// Paths of issues that are not described in words, by name: the first ones.
    #[serde(skip)]
    examples: BTreeMap<String, Vec<String>>,
    /// Names of issues that `messages` or `left_out` describe in full.
    #[serde(skip)]
    in_words: BTreeSet<String>,
}

impl Summary {
    pub(super) fn new(
        dataset: &str,
        classes: &Classes,
        rows: &[ManifestRow],
        issues: &[IssueRow],
        up_to_date: bool,
    ) -> Self {
        // Cells of one frame have the same content hash, because they are in the same file.
        let mut group_sizes: HashMap<&str, u64> = HashMap::new();
        rows.iter().for_each(|r| *group_sizes.entry(&r.content_hash).or_default() += 1);
        let mut counts: BTreeMap<String, (u64, Severity)> = BTreeMap::new();
        for issue in issues {
            let (n, severity) = counts.entry(issue.check.clone()).or_insert((0, issue.severity));
            if issue.severity < *severity {
                (*n, *severity) = (0, issue.severity);
            }
            *n += u64::from(issue.severity == *severity);
        }
        let different =
            |of: fn(&ManifestRow) -> Option<&String>| rows.iter().filter_map(of).collect::<BTreeSet<_>>().len() as u64;
        let mut given_roles = BTreeMap::new();
        rows.iter().filter_map(|r| r.given_role.clone()).for_each(|role| *given_roles.entry(role).or_default() += 1);
        let mut messages: Vec<(Severity, String)> = issues.iter().filter_map(in_words).collect();
        let mut described: BTreeSet<String> = counts.keys().cloned().collect();
        let is_described = |issue: &IssueRow| issue.check == checks::UNKNOWN_CLASS || in_words(issue).is_some();
        issues.iter().filter(|issue| !is_described(issue)).for_each(|issue| _ = described.remove(&issue.check));
        let mut examples: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for issue in issues.iter().filter(|issue| !is_described(issue) && !issue.path.is_empty()) {
            let paths = examples.entry(issue.check.clone()).or_default();
            if !paths.contains(&issue.path) && paths.len() < EXAMPLES {
                paths.push(issue.path.clone());
            }
        }
        messages.sort_by_key(|(severity, _)| *severity);
        messages.dedup();
        Self {
            dataset: dataset.into(),
            layout: rows.first().map_or(String::new(), |r| r.layout.clone()),
            up_to_date,
            rows: rows.len() as u64,
            images: rows.iter().map(|r| &r.path).collect::<BTreeSet<_>>().len() as u64,
            classes: classes.iter().map(|c| (c, rows.iter().filter(|r| r.class == Some(c)).count() as u64)).collect(),
            left_out: dataset::other_labels(rows),
            unlabelled: rows.iter().filter(|r| r.class.is_none()).count() as u64,
            subjects: different(|r| r.subject_id.as_ref()),
            slides: different(|r| r.slide_id.as_ref()),
            given_roles,
            grouped: group_sizes.values().filter(|n| **n > 1).sum(),
            issues: counts,
            messages,
            findings: issues.iter().filter(|i| i.severity != Severity::Note).count() as u64,
            examples,
            in_words: described,
        }
    }
}

/// Paths of each kind of issue that are printed.
const EXAMPLES: usize = 3;
/// Most messages about errors and warnings.
const MOST_MESSAGES: usize = 12;

/// The message of an issue that concerns more than one file. Labels that are left out have a line of their own.
fn in_words(issue: &IssueRow) -> Option<(Severity, String)> {
    const OF_MANY: [&str; 13] = [
        checks::NO_IMAGE,
        checks::CODES,
        checks::LEFTOVERS,
        checks::NEW_CLASSES,
        checks::NO_LABEL,
        checks::AMBIGUOUS_CLASS,
        checks::LIST_AND_FOLDER,
        checks::MASKS,
        checks::MASK_LIKE,
        checks::OBJECTS,
        checks::NOT_USED,
        checks::CUT,
        checks::PEOPLE,
    ];
    let is_of_many = OF_MANY.contains(&issue.check.as_str()) && (issue.score.is_some() || issue.related.is_none());
    let of_map = issue.check == checks::UNKNOWN_CLASS && issue.path.is_empty() && issue.score.is_none();
    let of_one = [checks::NO_LABEL, checks::NO_IMAGE].contains(&issue.check.as_str()) && issue.score.is_none();
    let place = if issue.path.is_empty() { String::new() } else { format!("{}: ", issue.path) };
    ((is_of_many && !of_one) || of_map).then(|| (issue.severity, format!("{place}{}", issue.message)))
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}, {}", self.dataset, text::of(self.images, "image"), text::of(self.rows, "cell"))?;
        write!(f, " (layout {}{})", self.layout, if self.up_to_date { "; up to date" } else { "" })?;
        if let Some(left_out) = dataset::left_out_text(&self.left_out, self.rows, self.images) {
            write!(f, "\n  {left_out}")?;
        }
        // Warnings that would change how the counts are read come before them.
        let (findings, notes): (Vec<_>, Vec<_>) = self.messages.iter().partition(|m| m.0 != Severity::Note);
        for (severity, message) in findings.iter().take(MOST_MESSAGES) {
            write!(f, "\n  {}: {message}", word(*severity))?;
        }
        if findings.len() > MOST_MESSAGES {
            write!(f, "\n  and {} more, in ingest_issues.parquet", findings.len() - MOST_MESSAGES)?;
        }
        self.counts(f, |severity| severity == Severity::Error)?;
        write!(f, "\n  {}", text::in_order(self.classes.iter().map(|(class, n)| (class.name(), *n))))?;
        let without_label = self.unlabelled - self.left_out.iter().map(|(_, n)| n).sum::<u64>();
        if without_label > 0 {
            write!(f, ", without a label {}", text::thousands(without_label))?;
        }
        if self.subjects + self.slides > 0 {
            write!(f, "\n  from {}", text::of(self.subjects, "subject"))?;
            if self.slides > 0 {
                write!(f, ", {}", text::of(self.slides, "slide"))?;
            }
        }
        if !self.given_roles.is_empty() {
            let roles = text::in_order(self.given_roles.iter().map(|(role, n)| (role.as_str(), *n)));
            let has = |role: &str| self.given_roles.contains_key(role);
            let is_split = has("test") && (has("train") || has("validation"));
            let used = if is_split { " (used by wbc split --given)" } else { "" };
            write!(f, "\n  given roles: {roles}{used}")?;
        }
        if self.grouped > 0 {
            let grouped = text::thousands(self.grouped);
            write!(f, "\n  {grouped} cells are exact copies or share a frame; these stay in one fold")?;
        }
        for (_, message) in notes {
            write!(f, "\n  note: {message}")?;
        }
        self.counts(f, |severity| severity != Severity::Error)
    }
}

impl Summary {
    /// The number of issues of each kind that no message describes in full, with the first files.
    fn counts(&self, f: &mut std::fmt::Formatter<'_>, is_chosen: fn(Severity) -> bool) -> std::fmt::Result {
        let counts =
            self.issues.iter().filter(|(check, (_, severity))| is_chosen(*severity) && !self.in_words.contains(*check));
        for (check, (count, severity)) in counts {
            write!(f, "\n  {} {check}: {}", word(*severity), text::thousands(*count))?;
            if let Some(paths) = self.examples.get(check) {
                let more = if *count > paths.len() as u64 { ", ..." } else { "" };
                write!(f, " ({}{more})", paths.join(", "))?;
            }
        }
        Ok(())
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}
