//! The findings of ingest and check on a data set's page, one section per check: images, pairs side by side, and the
//! rest by name.

use super::images::Images;
use super::summary::CheckSummary;
use super::tables::Tables;
use crate::check::CHECKS;
use crate::ingest;
use crate::page::card::consequence;
use crate::page::parts::capitalised;
use crate::report::thousands;
use crate::rows::{IssueRow, Severity};
use minijinja::{Value, context};
use std::collections::{BTreeMap, BTreeSet};

/// Findings of one check that are shown with their images; the others are listed by name.
const SHOWN: usize = 120;
/// The same for notes.
const SHOWN_NOTES: usize = 24;
/// Findings of one check that are listed by name; the others are only counted.
const LISTED: usize = 500;

/// The findings of one check and severity, the worst first.
pub(super) struct Group<'a> {
    check: &'a str,
    severity: Severity,
    findings: Vec<&'a IssueRow>,
}

impl<'a> Group<'a> {
    /// The findings by check, the worst severity first, then in the order of [`CHECKS`].
    pub fn all(tables: &'a Tables) -> Vec<Group<'a>> {
        let position = |check: &str| CHECKS.iter().position(|c| c.name() == check).map_or(0, |at| at + 1);
        let mut groups: BTreeMap<(Severity, usize, &str), Vec<&IssueRow>> = BTreeMap::new();
        for issue in tables.issues.iter().flatten() {
            groups.entry((issue.severity, position(&issue.check), &issue.check)).or_default().push(issue);
        }
        groups.into_iter().map(|((severity, _, check), findings)| Group::new(check, severity, findings)).collect()
    }

    fn new(check: &'a str, severity: Severity, mut findings: Vec<&'a IssueRow>) -> Self {
        let lower_is_worse = CHECKS.iter().any(|c| c.name() == check && c.lower_is_worse());
        let badness =
            |i: &IssueRow| i.score.map_or(f64::NEG_INFINITY, |score| if lower_is_worse { -score } else { score });
        findings.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
        Self { check, severity, findings }
    }

    /// What the check looks for, as a sentence without its full stop.
    fn doc(&self) -> String {
        let check = CHECKS.iter().find(|c| c.name() == self.check).map(|c| c.doc());
        let of_ingest = || ingest::checks::ALL.iter().find(|(name, _)| *name == self.check).map(|(_, doc)| *doc);
        let doc = check.or_else(of_ingest).unwrap_or_default().trim().trim_end_matches('.');
        capitalised(doc)
    }

    /// Findings to show with images. A label conflict is found from both of its images, but shown once.
    pub fn shown(&self) -> impl Iterator<Item = &&'a IssueRow> {
        let most = if self.severity == Severity::Note { SHOWN_NOTES } else { SHOWN };
        let mut seen = BTreeSet::new();
        self.findings
            .iter()
            .filter(move |i| {
                let own = i.image_id.as_ref().unwrap_or(&i.path);
                let related = i.related.as_ref().unwrap_or(own);
                i.related.is_none() || seen.insert((own.min(related), own.max(related)))
            })
            .take(most)
    }

    /// The section's template values, and its numbers.
    pub fn section(&self, tables: &Tables, images: &Images) -> (Value, CheckSummary) {
        let (mut pairs, mut singles, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        let mut shown: BTreeSet<*const IssueRow> = BTreeSet::new();
        let mut with_images = 0;
        for finding in self.shown() {
            shown.insert(std::ptr::from_ref(*finding));
            let paths = tables.paths(finding);
            if !paths.iter().any(|path| images.thumbnails.contains_key(path)) {
                let reason = paths.first().and_then(|path| images.failed.get(path));
                let new =
                    |reason: &&String| !reason.contains(&finding.message) && !finding.message.contains(reason.as_str());
                let message = match reason.filter(new) {
                    Some(reason) => format!("{} (no image: {reason})", finding.message),
                    None => finding.message.clone(),
                };
                listed.push(context! { name => finding.path.clone(), message => message });
                continue;
            }
            with_images += 1;
            if finding.related.is_some() {
                shown.extend(self.reverse(finding));
            }
            let ids = [finding.image_id.as_deref(), finding.related.as_deref()];
            let tile =
                |(path, id): (&String, Option<&str>)| images.tile(tables, path, id.and_then(|id| tables.row(id)));
            let tiles: Vec<Value> = paths.iter().zip(ids).map(tile).collect();
            let aligned = tables.alignment(finding).and_then(|(copy, original, map)| {
                // Two images that lie alike need not be shown a third time.
                let alike = map[..4].iter().zip([1.0, 0.0, 0.0, 1.0]).all(|(v, one)| (v - one).abs() < 0.02)
                    && map[4].hypot(map[5]) < 0.02 * original.width_px as f32;
                let image = images.thumbnails.get(&copy.path).filter(|_| !alike)?;
                Some(context! {
                    image => image.clone(),
                    size => [copy.width_px, copy.height_px],
                    frame => [original.width_px, original.height_px],
                    map => map.map(|v| format!("{v:.4}")).join(" "),
                })
            });
            let figure = context! { tiles => tiles, aligned => aligned, message => finding.message.clone() };
            if paths.len() > 1 { pairs.push(figure) } else { singles.push(figure) }
        }
        let rest = || self.findings.iter().filter(|i| !shown.contains(&std::ptr::from_ref(**i)));
        let rest_listed: Vec<Value> =
            rest().take(LISTED).map(|i| context! { name => i.path.clone(), message => i.message.clone() }).collect();
        let (count, not_shown) = (self.findings.len(), rest().count());
        let total = thousands(count as u64);
        let summary = match (not_shown, with_images) {
            (0, 0) => format!("{total} found."),
            (0, _) => format!("{total} found, all shown below."),
            _ => format!("{total} found: the worst {} are shown, {not_shown} more are listed.", count - not_shown),
        };
        let rest_title = match not_shown > LISTED {
            true => format!("The first {LISTED} of {} others, by name", thousands(not_shown as u64)),
            false => format!("{not_shown} others, by name"),
        };
        let severity = format!("{:?}", self.severity).to_lowercase();
        let value = context! {
            id => format!("{}-{severity}", self.check),
            name => capitalised(&self.check.replace('_', " ")),
            severity => severity,
            consequence => consequence(self.severity),
            doc => self.doc(),
            summary => summary,
            pairs => pairs,
            singles => singles,
            listed => listed,
            rest => rest_listed,
            rest_title => rest_title,
        };
        let (check, severity) = (self.check.to_string(), self.severity);
        (value, CheckSummary { check, severity, count: count as u64, shown: with_images })
    }

    /// The same pair as found from its other image.
    fn reverse(&self, finding: &IssueRow) -> Option<*const IssueRow> {
        let reverse = self.findings.iter().find(|i| i.related == finding.image_id && i.image_id == finding.related)?;
        Some(std::ptr::from_ref(*reverse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_sorted_by_the_worst_score_of_their_check() {
        let finding = |check: &str, score: Option<f64>| IssueRow {
            dataset: "d".into(),
            path: format!("{score:?}"),
            image_id: None,
            stage: "check".into(),
            check: check.into(),
            severity: Severity::Warning,
            score,
            related: None,
            message: String::new(),
        };
        for (check, scores) in [("blurred", [0.01, 0.05, 0.09]), ("near_copy", [0.99, 0.95, 0.9])] {
            let rows = [scores[1], scores[2], scores[0]].map(|score| finding(check, Some(score)));
            let unscored = finding(check, None);
            let group = Group::new(check, Severity::Warning, std::iter::once(&unscored).chain(&rows).collect());
            let order: Vec<Option<f64>> = group.findings.iter().map(|i| i.score).collect();
            assert_eq!(order, [Some(scores[0]), Some(scores[1]), Some(scores[2]), None], "{check}");
            assert!(!group.doc().is_empty() && !group.doc().ends_with('.'));
        }
    }
}
