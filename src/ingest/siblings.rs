//! Folders under `data/raw/` that are probably parts of one data set: given roles, patients or slides.

use super::folders::{is_slide, is_subject, role};

/// What several data sets whose names say that they are parts of one have in common: "given roles (test, train)". None
/// where their names do not say so.
///
/// Names such as P1 and P2 say it less clearly: the second value is false for them.
pub fn parts_of_one(names: &[String]) -> Option<(String, bool)> {
    let listed = |names: &[&String]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    for (what, is_part) in [
        ("given roles", (|name| role(name).is_some()) as fn(&str) -> bool),
        ("patients", |name| is_subject(name)),
        ("slides", |name| is_slide(name)),
    ] {
        let parts: Vec<&String> = names.iter().filter(|name| is_part(name)).collect();
        if parts.len() > 1 {
            return Some((format!("{what} ({})", listed(&parts)), true));
        }
    }
    let numbered = |name: &String| {
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(['_', '-', ' ', '.']);
        let is_short = !prefix.is_empty() && prefix.len() <= 2 && prefix.chars().all(|c| c.is_ascii_alphabetic());
        (is_short && name.ends_with(|c: char| c.is_ascii_digit())).then(|| prefix.to_lowercase())
    };
    let first = numbered(names.first()?)?;
    let all = names.len() > 1 && names.iter().all(|name| numbered(name).as_ref() == Some(&first));
    all.then(|| (format!("patients ({})", listed(&names.iter().collect::<Vec<_>>())), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_patients_and_slides_are_no_data_sets() {
        let found = |names: &[&str]| parts_of_one(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        assert_eq!(found(&["test", "train"]), Some(("given roles (test, train)".into(), true)));
        assert_eq!(found(&["TRAIN", "mine", "val"]), Some(("given roles (TRAIN, val)".into(), true)));
        assert_eq!(found(&["patient_1", "patient_2"]), Some(("patients (patient_1, patient_2)".into(), true)));
        assert_eq!(found(&["slide1", "slide2"]), Some(("slides (slide1, slide2)".into(), true)));
        assert_eq!(found(&["P1", "P2"]), Some(("patients (P1, P2)".into(), false)));
        for names in [&["pbc", "lisc"][..], &["test"], &["P1"], &["P1", "pbc"], &["munich1", "munich2"]] {
            assert_eq!(found(names), None, "{names:?}");
        }
    }
}
