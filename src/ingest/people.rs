//! The names of subjects and slides: words for "not known" are no names, and names that may be of the same person are
//! reported.

use super::checks;
use super::layout::Output;
use crate::rows::Severity;
use crate::text;
use std::collections::{BTreeMap, BTreeSet};

/// What programs and people write where a name is not known, in lower case.
const NOT_KNOWN: [&str; 10] = ["na", "n/a", "<na>", "nan", "none", "null", "unknown", "unbekannt", "-", "?"];

/// Removes names that stand for "not known", which would make one person of all images without a name, and reports
/// them, and names that differ only in letter case, separators or leading zeros.
pub fn check(output: &mut Output) {
    let mut removed: BTreeMap<String, u64> = BTreeMap::new();
    for row in &mut output.rows {
        for name in [&mut row.subject_id, &mut row.slide_id] {
            if let Some(name) = name.take_if(|name| NOT_KNOWN.contains(&name.trim().to_lowercase().as_str())) {
                *removed.entry(name).or_default() += 1;
            }
        }
    }
    if !removed.is_empty() {
        let names = text::counts(removed.iter().map(|(name, n)| (name.as_str(), *n)));
        let message = format!("subjects or slides that are read as not known: {names}");
        output.issue("", checks::PEOPLE, Severity::Warning, message);
    }
    let subjects: BTreeSet<String> = output.rows.iter().filter_map(|row| row.subject_id.clone()).collect();
    let slides: BTreeSet<String> = output.rows.iter().filter_map(|row| row.slide_id.clone()).collect();
    for (what, names) in [("subjects", subjects), ("slides", slides)] {
        let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        names.iter().for_each(|name| alike.entry(plain(name)).or_default().push(name));
        for names in alike.into_values().filter(|names| names.len() > 1) {
            let message =
                format!("{what} {} are taken as different: give them one name if they are the same", names.join(", "));
            output.issue("", checks::PEOPLE, Severity::Warning, message);
        }
    }
}

/// A name in lower case, without separators and leading zeros: "P_07" and "p7" are both "p7".
pub(crate) fn plain(name: &str) -> String {
    let mut plain = String::new();
    for c in name.to_lowercase().chars().filter(|c| c.is_alphanumeric()) {
        // A zero is kept only after another digit.
        if c != '0' || plain.ends_with(|last: char| last.is_ascii_digit()) {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ManifestRow;

    #[test]
    fn names_that_may_be_of_one_person_are_reported_and_words_for_not_known_are_none() {
        let mut output = Output::new("d", "list");
        for name in ["P1", "p01", "P10", "NA", "unknown", "P-10"] {
            output.rows.push(ManifestRow { subject_id: Some(name.into()), ..Default::default() });
        }
        check(&mut output);
        assert_eq!(output.rows.iter().filter(|row| row.subject_id.is_some()).count(), 4);
        let messages: Vec<&str> = output.issues.iter().map(|issue| issue.message.as_str()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].ends_with("not known: NA 1, unknown 1"), "{messages:?}");
        assert!(messages[1].contains("P1, p01") && messages[2].contains("P-10, P10"), "{messages:?}");
    }
}
