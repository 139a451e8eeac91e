//! What is known about each image: its label, subject, slide and role, from all lists and from its path. The first list
//! that says something counts, then the path. Contradictions are reported.

use super::checks;
use super::columns::Role;
use super::finder::{Finder, Found, FoundBy, are_apart, says_where};
use super::folders::{self, Place};
use super::labels::Vocabulary;
use super::layout::Output;
use super::lists::UsedList;
use super::sheet::SheetRow;
use super::tree::ScannedFile;
use crate::rows::{ManifestRow, Severity};
use crate::text;
use std::collections::{BTreeMap, BTreeSet};

/// What is known about an image.
#[derive(Default)]
pub struct Facts {
    /// Its label in a list.
    pub label: Option<String>,
    /// A finer label.
    pub subtype: Option<String>,
    /// The person.
    pub subject: Option<String>,
    /// The slide.
    pub slide: Option<String>,
    /// train, test or validation.
    pub role: Option<String>,
    /// Whether lists give it different classes, or it is not known which row is about it: no label counts.
    pub is_unclear: bool,
    /// What its path says.
    pub place: Place,
    /// The rows about it.
    rows: Vec<RowName>,
}

/// A row of a list.
#[derive(Clone)]
struct RowName {
    list: usize,
    number: u64,
    listed: String,
}

impl Facts {
    /// Whether a list names the image.
    pub fn is_listed(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Writes everything but the label into a row.
    pub fn fill(&self, row: &mut ManifestRow) {
        row.subtype = self.subtype.clone().or(row.subtype.take());
        (row.subject_id, row.slide_id, row.given_role) = (self.subject.clone(), self.slide.clone(), self.role.clone());
    }

    /// The class that its folder is certainly named after.
    pub fn folder_label(&self, vocabulary: &Vocabulary) -> Option<&str> {
        let label = self.place.label.as_deref().filter(|_| self.place.contradiction.is_none())?;
        (vocabulary.known(label).is_some() || vocabulary.known_beside(label).is_some()).then_some(label)
    }
}

/// The facts about images, by path.
pub type AllFacts<'a> = BTreeMap<&'a str, Facts>;

/// A row of a list, and its image.
struct Resolved<'a> {
    list: &'a UsedList,
    row: &'a SheetRow,
    name: RowName,
    found: Found<'a>,
}

/// Gathers what lists and paths say about `images`.
pub fn gather<'a>(
    images: &[&'a ScannedFile],
    lists: &'a [UsedList],
    finder: &Finder<'a>,
    vocabulary: &Vocabulary,
    output: &mut Output,
) -> AllFacts<'a> {
    let mut facts: AllFacts = of_paths(images, vocabulary);
    for resolved in resolve(lists, finder, output) {
        let of_image = facts.entry(resolved.found.path).or_default();
        add_row(&resolved, of_image, lists, vocabulary, output);
    }
    report_labels(&facts, lists, output);
    fill_from_paths(&mut facts, lists, vocabulary, output);
    report_unused_folders(images, &facts, vocabulary, output);
    report_roles(images, output);
    if facts.values().all(|facts| facts.subject.is_none() && facts.slide.is_none()) {
        report_people_in_names(images, output);
    }
    facts
}

/// Reports names of files that seem to begin with a person or slide, where none is known.
pub fn report_people_in_names(images: &[&ScannedFile], output: &mut Output) {
    if let Some(people) = folders::people_in_names(images) {
        let message = format!(
            "the file names begin with what may be patients or slides, which are not used: {}. If they are: [ingest] \
             path in the pipeline, such as \"{{class}}/{{subject}}_{{rest}}\", or a column patient in a list",
            text::some(people.iter().copied())
        );
        output.issue("", checks::NOT_USED, Severity::Warning, message).score = Some(people.len() as f64);
    }
}

/// Reports folders that are taken as one role.
pub fn report_roles(images: &[&ScannedFile], output: &mut Output) {
    for (role, names) in folders::pooled_roles(images) {
        let message = format!("folders that are taken together as {role}: {}", text::some(names.iter().copied()));
        output.issue("", checks::NOT_USED, Severity::Warning, message).score = Some(names.len() as f64);
    }
}

/// What the paths of images say.
fn of_paths<'a>(images: &[&'a ScannedFile], vocabulary: &Vocabulary) -> AllFacts<'a> {
    let place = |file: &&ScannedFile| {
        let mut place = Place::default();
        place.subject = file.folders().find(|name| folders::is_subject(name)).map(String::from);
        place.slide = file.folders().find(|name| folders::is_slide(name)).map(String::from);
        place.role = file.folders().find_map(folders::role);
        place
    };
    let places = folders::places(images, vocabulary).unwrap_or_else(|| images.iter().map(place).collect());
    let facts = places.into_iter().map(|place| Facts { place, ..Facts::default() });
    images.iter().map(|file| file.path.as_str()).zip(facts).collect()
}

/// The images that the rows of all lists name. Rows without one are reported.
fn resolve<'a>(lists: &'a [UsedList], finder: &Finder<'a>, output: &mut Output) -> Vec<Resolved<'a>> {
    let mut all: Vec<Resolved> = Vec::new();
    for (n, list) in lists.iter().enumerate() {
        let (mut missing, mut guessed) = (Vec::new(), Vec::new());
        for message in list.sheet.bad_rows.iter().filter(|_| !list.is_reported) {
            output.issue(&list.name, checks::BAD_ROW, Severity::Error, message.clone());
        }
        for row in &list.sheet.rows {
            let Some(listed) = list.path(row) else {
                if !list.is_reported {
                    let message = format!("row {}: no path", row.number);
                    output.issue(&list.name, checks::BAD_ROW, Severity::Error, message);
                }
                continue;
            };
            match finder.find(&list.folder, &listed) {
                Ok(found) => {
                    if found.by == FoundBy::NameAlone {
                        guessed.push(format!("{listed} as {}", found.path));
                    }
                    all.push(Resolved { list, row, name: RowName { list: n, number: row.number, listed }, found });
                }
                Err(message) => missing.push((row.number, listed, message)),
            }
        }
        if list.is_reported {
            continue;
        }
        for (number, listed, message) in &missing {
            let message = format!("row {number}: {message}");
            output.issue(&list.name, checks::NO_IMAGE, Severity::Error, message).related = Some(listed.clone());
        }
        if !missing.is_empty() {
            let message = format!(
                "{} of {} have no image here: {}",
                text::thousands(missing.len() as u64),
                text::of(list.sheet.rows.len() as u64, "row"),
                text::some(missing.iter().map(|(_, listed, _)| listed.as_str()))
            );
            let issue = output.issue(&list.name, checks::NO_IMAGE, Severity::Warning, message);
            issue.score = Some(missing.len() as f64);
        }
        if !guessed.is_empty() {
            let message = format!(
                "{} found by name or number alone, in another folder or with other letters: {}",
                text::of(guessed.len() as u64, "image"),
                text::some(guessed.iter().map(String::as_str))
            );
            let issue = output.issue(&list.name, checks::NO_IMAGE, Severity::Warning, message);
            issue.score = Some(guessed.len() as f64);
        }
    }
    // Where a row names a file exactly, another row that names one of another folder does not mean it.
    let exact: BTreeMap<&str, &str> = all
        .iter()
        .filter(|resolved| resolved.found.by == FoundBy::Path)
        .map(|resolved| (resolved.found.path, resolved.name.listed.as_str()))
        .collect();
    let is_other = |resolved: &Resolved| {
        let listed = exact.get(resolved.found.path).filter(|_| resolved.found.by != FoundBy::Path);
        listed.is_some_and(|listed| are_apart(listed, &resolved.name.listed))
    };
    let others: BTreeSet<usize> = (0..all.len()).filter(|n| is_other(&all[*n])).collect();
    for Resolved { list, name, found, .. } in others.iter().map(|n| &all[*n]) {
        let message = format!("row {}: expected an image at {}, found only {}", name.number, name.listed, found.path);
        output.issue(&list.name, checks::NO_IMAGE, Severity::Error, message).related = Some(name.listed.clone());
    }
    all.into_iter().enumerate().filter(|(n, _)| !others.contains(n)).map(|(_, resolved)| resolved).collect()
}

/// Adds what a row says about its image.
fn add_row(here: &Resolved, facts: &mut Facts, lists: &[UsedList], vocabulary: &Vocabulary, output: &mut Output) {
    let value = |role| here.list.value(here.row, role);
    let RowName { number, listed, .. } = &here.name;
    let first = facts.rows.first().cloned();
    facts.rows.push(here.name.clone());
    let at_first = first.as_ref().map_or(String::new(), |first| {
        let list = &lists[first.list].name;
        let of = if *list == here.list.name { String::new() } else { format!(" of {list}") };
        format!("row {}{of}", first.number)
    });
    let mut issue = |severity, message: String| {
        output.issue(&here.list.name, checks::LISTED_TWICE, severity, message).related = Some(listed.clone());
    };
    if let Some(first) = first.as_ref().filter(|first| are_apart(&first.listed, listed)) {
        facts.is_unclear = true;
        let message = format!(
            "row {number}: {} is the only image for both {listed} and {} in {at_first}; it gets no class",
            here.found.path, first.listed
        );
        return issue(Severity::Error, message);
    }
    let mut is_same = true;
    match (&facts.label, value(Role::Class)) {
        (Some(other), Some(label)) if !vocabulary.is_same(other, label) => {
            (facts.is_unclear, is_same) = (true, false);
            let text = format!("row {number}: {listed} is {label} here and {other} in {at_first}; it gets no class");
            issue(Severity::Error, text);
        }
        (None, Some(label)) => facts.label = Some(label.into()),
        _ => {}
    }
    let role = here.list.role(here.row);
    for (known, value, word) in [
        (&mut facts.subtype, value(Role::Subtype), "subtype"),
        (&mut facts.subject, value(Role::Subject), "subject"),
        (&mut facts.slide, value(Role::Slide), "slide"),
        (&mut facts.role, role, "given role"),
    ] {
        match (&known, value) {
            (Some(other), Some(value)) if other != value => {
                is_same = false;
                let text = format!(
                    "row {number}: {listed} is of the {word} {value} here and {other} in {at_first}, which is used"
                );
                issue(Severity::Warning, text);
            }
            (None, Some(value)) => *known = Some(value.into()),
            _ => {}
        }
    }
    let is_repeated = first.is_some_and(|first| first.list == here.name.list);
    if is_repeated && is_same && !here.list.is_reported {
        issue(Severity::Note, format!("row {number}: {listed} is also in {at_first}"));
    }
}

/// Reports images that lists give different classes, and roles that are none.
fn report_labels(facts: &AllFacts, lists: &[UsedList], output: &mut Output) {
    let unclear: Vec<&str> = facts.iter().filter(|(_, facts)| facts.is_unclear).map(|(path, _)| *path).collect();
    if !unclear.is_empty() {
        let message = format!(
            "left out: {} listed with different classes, or for different files: {}",
            text::of(unclear.len() as u64, "image"),
            text::some(unclear.iter().copied())
        );
        let issue = output.issue("", checks::NO_LABEL, Severity::Error, message);
        issue.score = Some(unclear.len() as f64);
    }
    for list in lists {
        let mut odd: BTreeMap<&str, u64> = BTreeMap::new();
        let given = list.sheet.rows.iter().filter_map(|row| list.value(row, Role::Given));
        given.filter(|word| folders::role(word).is_none()).for_each(|word| *odd.entry(word).or_default() += 1);
        if !odd.is_empty() {
            let words = text::counts(odd);
            let message =
                format!("expected train, test or validation as given roles, found {words}; they are not used");
            output.issue(&list.name, checks::NOT_USED, Severity::Warning, message);
        }
    }
}

/// Fills what no list says from the paths, and reports where they contradict the lists.
fn fill_from_paths(facts: &mut AllFacts, lists: &[UsedList], vocabulary: &Vocabulary, output: &mut Output) {
    let mut classes = Vec::new();
    let mut roles = Vec::new();
    // The subjects, and the slides, in the lists and in the paths.
    let mut pairs: [BTreeSet<(String, String)>; 2] = Default::default();
    for (path, facts) in facts.iter_mut() {
        let place = &facts.place;
        let folder = place.label.as_deref().and_then(|label| vocabulary.known(label));
        let class = facts.label.as_deref().and_then(|label| vocabulary.known(label));
        if let (Some(folder), Some(class)) = (folder, class)
            && folder != class
        {
            classes.push(format!("{path} is {class}"));
        }
        if let (Some(role), Some(of_path)) = (&facts.role, place.role)
            && role != of_path
        {
            roles.push(format!("{path} is {role}"));
        }
        for (n, (listed, of_path)) in
            [(&facts.subject, &place.subject), (&facts.slide, &place.slide)].into_iter().enumerate()
        {
            pairs[n].extend(listed.clone().zip(of_path.clone()));
        }
        facts.subject = facts.subject.take().or(place.subject.clone());
        facts.slide = facts.slide.take().or(place.slide.clone());
        facts.role = facts.role.take().or(place.role.map(String::from));
    }
    let Some(list) = lists.first() else { return };
    for (what, of) in [("class", classes), ("given role", roles)] {
        if !of.is_empty() {
            let message = format!(
                "{} of another {what} than their folders say; the list is followed: {}",
                text::of(of.len() as u64, "image"),
                text::some(of.iter().map(String::as_str))
            );
            let issue = output.issue(&list.name, checks::LIST_AND_FOLDER, Severity::Warning, message);
            issue.score = Some(of.len() as f64);
        }
    }
    for (what, pairs) in ["subjects", "slides"].into_iter().zip(pairs) {
        // Other names for the same subjects do not contradict each other.
        let count = |of: fn(&(String, String)) -> &String| pairs.iter().map(of).collect::<BTreeSet<_>>().len();
        if count(|pair| &pair.0) != pairs.len() || count(|pair| &pair.1) != pairs.len() {
            let some = pairs.iter().map(|(listed, of_path)| format!("{listed} in {of_path}")).collect::<Vec<_>>();
            let message = format!(
                "the list and the folders name different {what}; the list is followed: {}",
                text::some(some.iter().map(String::as_str))
            );
            output.issue(&list.name, checks::LIST_AND_FOLDER, Severity::Warning, message);
        }
    }
}

/// Reports folders that may be subjects where no subject is known.
fn report_unused_folders(images: &[&ScannedFile], facts: &AllFacts, vocabulary: &Vocabulary, output: &mut Output) {
    if facts.values().any(|facts| facts.subject.is_some()) {
        return;
    }
    let is_class = |name: &str| vocabulary.known(name).is_some() || vocabulary.known_beside(name).is_some();
    let says_nothing = |name: &str| !says_where(&name.to_lowercase()) || folders::role(name).is_some();
    let is_listed = |file: &&&ScannedFile| facts.get(file.path.as_str()).is_some_and(Facts::is_listed);
    let any_listed = images.iter().any(|file| is_listed(&file));
    let mut levels: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for file in images.iter().filter(|file| !any_listed || is_listed(file)) {
        for (n, name) in file.folders().enumerate() {
            levels.entry(n).or_default().insert(name);
        }
    }
    for mut names in levels.into_values().filter(|names| names.len() > 1) {
        names.retain(|name| !says_nothing(name) && !folders::is_slide(name));
        if names.len() < 2 || names.iter().any(|name| is_class(name)) {
            continue;
        }
        let message = format!(
            "folders that are not used: {}. Where they are patients: name them in a column patient of a list, or name \
             the folders patient_...",
            text::some(names.iter().copied())
        );
        output.issue("", checks::NOT_USED, Severity::Warning, message).score = Some(names.len() as f64);
    }
}
