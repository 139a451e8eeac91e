//! A data set's card: what it contains, where it is from, and its licence.

use crate::class::Classes;
use crate::fetch;
use crate::report::{notes, thousands};
use crate::rows::{CheckRow, IssueRow, ManifestRow, Severity};
use crate::text;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};

/// The facts of the card, as (name, text).
pub(super) fn facts(
    ws: &Workspace,
    dataset: &str,
    classes: &Classes,
    rows: &[ManifestRow],
    checks: &[CheckRow],
    issues: Option<&[IssueRow]>,
) -> Vec<[String; 2]> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, text: String| facts.push([name.to_string(), text]);
    let count = |class| rows.iter().filter(|r| r.class == class).count() as u64;
    let mut counts: Vec<String> =
        classes.iter().map(|c| format!("{} {}", c.name(), thousands(count(Some(c))))).collect();
    if count(None) > 0 {
        let labels = crate::dataset::other_labels(rows);
        let labels = text::counts(labels.iter().map(|(label, n)| (label.as_str(), *n)));
        let labels = if labels.is_empty() { labels } else { format!(" ({labels})") };
        counts.push(format!("without a class {}{labels}", thousands(count(None))));
    }
    fact("Cells", format!("{}: {}", thousands(rows.len() as u64), counts.join(", ")));
    let files: BTreeMap<&str, u64> = rows.iter().map(|r| (r.path.as_str(), r.file_bytes)).collect();
    let megabytes = files.values().sum::<u64>() as f64 / 1e6;
    fact("Image files", format!("{}, {megabytes:.1} MB", thousands(files.len() as u64)));
    let range = |side: fn(&ManifestRow) -> u32| {
        let (low, high) = (rows.iter().map(side).min().unwrap_or(0), rows.iter().map(side).max().unwrap_or(0));
        if low == high { low.to_string() } else { format!("{low} to {high}") }
    };
    fact("Image size, px", format!("{} wide, {} high", range(|r| r.width_px), range(|r| r.height_px)));
    let mut counts = |name: &str, key: fn(&ManifestRow) -> Option<&str>| {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        rows.iter().filter_map(key).for_each(|key| *counts.entry(key).or_default() += 1);
        let text: Vec<String> = counts.iter().map(|(key, n)| format!("{key} {}", thousands(*n))).collect();
        if !text.is_empty() {
            fact(name, text.join(", "));
        }
    };
    counts("Layout", |r| Some(&r.layout));
    counts("File format", |r| Some(&r.format));
    counts("Source of cell boxes", |r| r.box_source.as_deref());
    let groups: BTreeSet<&str> = checks.iter().map(|c| c.group_id.as_str()).collect();
    let groups = format!(
        "{}, each in one fold (cells of one frame, exact and near copies form a group)",
        thousands(groups.len() as u64)
    );
    fact("Groups", groups);
    if notes::is_synthetic(ws, dataset) {
        fact("Source", "synthetic cells drawn by wbc, not photographs".into());
    }
    if let Some(issues) = issues {
        let mut counts: BTreeMap<(Severity, &str), u64> = BTreeMap::new();
        issues.iter().for_each(|i| *counts.entry((i.severity, &i.check)).or_default() += 1);
        let text = counts.iter().map(|((s, check), n)| format!("{check} {} ({})", thousands(*n), consequence(*s)));
        let text: Vec<String> = text.collect();
        fact("Findings of ingest and check", if text.is_empty() { "none".into() } else { text.join(", ") });
    }
    let origin = fetch::origin(ws, dataset);
    if let Some(origin) = &origin {
        fact("Fetched from", origin.source.clone());
        origin.citation.iter().for_each(|citation| fact("Citation", citation.clone()));
    }
    let terms = origin.and_then(|o| o.terms).unwrap_or("not known to wbc: see the images' source".into());
    fact("Licence", terms);
    facts
}

/// What a finding of this severity means for its image.
pub(super) fn consequence(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "not used",
        Severity::Warning => "to review",
        Severity::Note => "for information",
    }
}
