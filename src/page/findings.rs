//! The findings of ingest and check on a data set's page, a group a check: pictures, pairs side by side, names of the
//! others.

use super::dataset::{OfCheck, Tables};
use super::looks::Looks;
use super::word;
use crate::check::CHECKS;
use crate::ingest;
use crate::report::thousands;
use crate::rows::{IssueRow, Severity};
use minijinja::{Value, context};
use std::collections::BTreeSet;

/// Findings of one check that are shown with their pictures, and notes; the others are listed.
const PICTURED: usize = 120;
const PICTURED_NOTES: usize = 24;
/// Findings of one check that are listed by name; the others are counted.
const LISTED: usize = 500;

/// The findings of one check and severity, the worst first.
pub struct Group<'a> {
    pub check: &'a str,
    pub severity: Severity,
    findings: Vec<&'a IssueRow>,
}

impl<'a> Group<'a> {
    pub fn new(check: &'a str, severity: Severity, mut findings: Vec<&'a IssueRow>) -> Self {
        let lower = CHECKS.iter().any(|c| c.name() == check && c.lower_is_worse());
        let badness = |i: &IssueRow| i.score.map_or(f64::NEG_INFINITY, |score| if lower { -score } else { score });
        findings.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
        Self { check, severity, findings }
    }

    /// What the check looks for, as a sentence without its full stop.
    fn doc(&self) -> String {
        let ours = CHECKS.iter().find(|c| c.name() == self.check).map(|c| c.doc());
        let ingests = || ingest::check::ALL.iter().find(|(name, _)| *name == self.check).map(|(_, doc)| *doc);
        let doc = ours.or_else(ingests).unwrap_or_default().trim().trim_end_matches('.');
        capitalised(doc)
    }

    /// Findings that pictures are wanted of. A conflict is found from both its sides, and shown once.
    pub fn pictured(&self) -> impl Iterator<Item = &&'a IssueRow> {
        let most = if self.severity == Severity::Note { PICTURED_NOTES } else { PICTURED };
        let mut seen = BTreeSet::new();
        self.findings
            .iter()
            .filter(move |i| {
                let own = i.image_id.as_ref().unwrap_or(&i.path);
                let other = i.related.as_ref().unwrap_or(own);
                i.related.is_none() || seen.insert((own.min(other), own.max(other)))
            })
            .take(most)
    }

    pub fn show(&self, tables: &Tables, looks: &Looks) -> (Value, OfCheck) {
        let (mut pairs, mut singles, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        let mut told: BTreeSet<*const IssueRow> = BTreeSet::new();
        let mut pictured = 0;
        for finding in self.pictured() {
            told.insert(std::ptr::from_ref(*finding));
            let paths = tables.paths(finding);
            let any = paths.iter().any(|path| matches!(looks.whole.get(path), Some(Ok(_))));
            let line = |message: String| context! { name => finding.path.clone(), message => message };
            if !any {
                let why = paths.first().and_then(|path| looks.failed.get(path));
                let known = why.is_none_or(|why| why.contains(&finding.message) || finding.message.contains(why));
                listed.push(line(match why {
                    Some(why) if !known => format!("{} (no picture: {why})", finding.message),
                    _ => finding.message.clone(),
                }));
                continue;
            }
            pictured += 1;
            if finding.related.is_some() {
                told.extend(self.mirrored(finding));
            }
            let rows = [finding.image_id.as_deref(), finding.related.as_deref()];
            let tile = |(path, id): (&String, Option<&str>)| looks.tile(tables, path, id.and_then(|id| tables.row(id)));
            let tiles: Vec<Value> = paths.iter().zip(rows).map(tile).collect();
            let one = context! { tiles => tiles, message => finding.message.clone() };
            if paths.len() > 1 { pairs.push(one) } else { singles.push(one) }
        }
        let others = || self.findings.iter().filter(|i| !told.contains(&std::ptr::from_ref(**i)));
        let rest: Vec<Value> =
            others().take(LISTED).map(|i| context! { name => i.path.clone(), message => i.message.clone() }).collect();
        let (count, left) = (self.findings.len(), others().count());
        let all = thousands(count as u64);
        let said = match (left, pictured) {
            (0, 0) => format!("{all} found."),
            (0, _) => format!("{all} found, all of them below."),
            _ => format!("{all} found: the worst {} below, {} more without a picture.", count - left, left),
        };
        let rest_said = match left > LISTED {
            true => format!("The first {LISTED} of the {} others, by name", thousands(left as u64)),
            false => format!("The {left} others, by name"),
        };
        let name = capitalised(&self.check.replace('_', " "));
        let severity = format!("{:?}", self.severity).to_lowercase();
        let value = context! {
            id => format!("{}-{severity}", self.check), name => name, severity => severity, word => word(self.severity),
            doc => self.doc(), said => said, pairs => pairs, singles => singles, listed => listed, rest => rest,
            rest_said => rest_said,
        };
        let (check, severity) = (self.check.to_string(), self.severity);
        (value, OfCheck { check, severity, count: count as u64, pictured })
    }

    /// The same pair as found from its other side.
    fn mirrored(&self, finding: &IssueRow) -> Option<*const IssueRow> {
        let other = self.findings.iter().find(|i| i.related == finding.image_id && i.image_id == finding.related)?;
        Some(std::ptr::from_ref(*other))
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_score_of_each_check_comes_first() {
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
