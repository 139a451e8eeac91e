//! Which columns of a table hold paths, classes, patients, ...: by their usual names, or as the settings say. What the
//! names leave open is asked for.

use super::folders;
use super::labels::Vocabulary;
use super::settings::Settings;
use super::sheet::{Sheet, SheetRow};
use crate::class::set::fold;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a column of a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The image's path, name or number.
    Path,
    /// The label.
    Class,
    /// A finer label.
    Subtype,
    /// The person.
    Subject,
    /// The slide.
    Slide,
    /// train, test or validation.
    Given,
    /// The folder of the image, where the path is only its name.
    Folder,
}

/// What a list can add to images whose class is known.
pub const ADDED: [Role; 3] = [Role::Subject, Role::Slide, Role::Given];

/// The usual names of the columns, without case and signs, the preferred ones first.
const NAMES: [(Role, &[&str]); 7] = [
    (
        Role::Path,
        &[
            "path",
            "filepath",
            "imagepath",
            "imgpath",
            "filename",
            "file",
            "imagefilename",
            "imagefile",
            "imagename",
            "imagenames",
            "imgname",
            "image",
            "img",
            "imageid",
            "imgid",
        ],
    ),
    (Role::Class, &["class", "label", "category", "classlabel", "classname", "labelname", "celltype"]),
    (Role::Subtype, &["subtype", "subclass"]),
    (
        Role::Subject,
        &["patient", "patientid", "subject", "subjectid", "donor", "donorid", "case", "caseid", "group", "groupid"],
    ),
    (Role::Slide, &["slide", "slideid", "smear", "smearid"]),
    (Role::Given, &["split", "role", "fold", "partition", "subset"]),
    (Role::Folder, &["folder", "directory", "dir", "foldername", "subfolder", "imagefolder"]),
];

/// Words for a person or animal, with which the names of columns begin, in the languages of laboratories.
const PEOPLE: [&str; 19] = [
    "patient",
    "patienten",
    "paciente",
    "paziente",
    "pat",
    "subject",
    "subjekt",
    "sujet",
    "proband",
    "probanden",
    "donor",
    "spender",
    "case",
    "person",
    "participant",
    "individual",
    "animal",
    "mouse",
    "maus",
];
/// What follows such a word where the column names the person; `patient_age` does not.
const OF_NAMES: [&str; 13] =
    ["", "id", "ids", "identifier", "nr", "no", "num", "number", "nummer", "name", "code", "key", "uid"];
/// Words in the names of columns that may hold a role and are not used.
const HINTS: [(Role, &[&str]); 3] = [
    (
        Role::Subject,
        &["patient", "pacient", "subject", "proband", "donor", "person", "participant", "sample", "specimen"],
    ),
    (Role::Slide, &["slide", "smear", "ausstrich"]),
    (Role::Given, &["istest", "istrain", "isval", "intest", "intrain", "trainortest", "traintest", "datasplit"]),
];

/// Which column holds what.
pub struct ListColumns {
    at: BTreeMap<Role, usize>,
    /// Columns that may hold the paths instead.
    other_paths: Vec<usize>,
    /// Columns that are not used.
    pub unused: Vec<String>,
    /// Columns that are not used and may be needed, with their key in the settings.
    pub hints: Vec<(String, &'static str)>,
    /// What to do where the names of columns do not tell which is meant, and which they are, in words.
    unclear: Option<(String, String)>,
    /// Whether the settings name columns.
    pub is_named: bool,
}

impl ListColumns {
    /// Finds the columns of a list by their usual names, or by those of the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name in the settings that no column has.
    pub fn new(sheet: &Sheet, settings: &Settings) -> Result<ListColumns> {
        let word = |name: &str| fold(name).unwrap_or_default();
        let words: Vec<String> = sheet.columns.iter().map(|name| word(name)).collect();
        let named = &settings.columns;
        let named = [&named.path, &named.class, &named.subtype, &named.subject, &named.slide, &named.role, &None];
        let mut columns = ListColumns {
            at: BTreeMap::new(),
            other_paths: Vec::new(),
            unused: Vec::new(),
            hints: Vec::new(),
            unclear: None,
            is_named: !settings.columns.is_empty(),
        };
        for ((role, usual), name) in NAMES.into_iter().zip(named) {
            let found = match name {
                Some(name) => {
                    let exact = sheet.columns.iter().position(|column| column == name);
                    let found = exact.or_else(|| words.iter().position(|column| *column == word(name)));
                    let expected = || format!("one of the columns {}", sheet.columns.join(", "));
                    let key = || format!("ingest.columns.{}", key(role));
                    Some(found.ok_or_else(|| Error::setting(key(), expected(), name))?)
                }
                None => {
                    let of = |usual: &&str| (0..words.len()).filter(|n| words[*n] == *usual).collect::<Vec<_>>();
                    let mut all: Vec<usize> = usual.iter().flat_map(of).collect();
                    if role == Role::Subject && all.is_empty() {
                        all.extend((0..words.len()).filter(|n| is_of_person(&words[*n])));
                    }
                    match role {
                        Role::Class => columns.class(sheet, settings, &all)?,
                        Role::Path => {
                            columns.other_paths = all.iter().skip(1).copied().collect();
                            all.first().copied()
                        }
                        _ => all.first().copied(),
                    }
                }
            };
            found.into_iter().for_each(|found| _ = columns.at.insert(role, found));
        }
        if columns.at(Role::Path).is_none() {
            columns.at.remove(&Role::Folder);
        }
        columns.find_unused(sheet, &words);
        Ok(columns)
    }

    /// The column of labels among those that have a usual name for it.
    fn class(&mut self, sheet: &Sheet, settings: &Settings, all: &[usize]) -> Result<Option<usize>> {
        let values = |at: usize| sheet.rows.iter().filter_map(move |row| row.value(Some(at)));
        // A column of numbers beside one of names is a code of them.
        let is_number = |at: &usize| values(*at).all(|value| value.parse::<f64>().is_ok());
        let mut names: Vec<usize> = all.iter().copied().filter(|at| !is_number(at)).collect();
        if names.len() < 2 {
            return Ok(names.first().or(all.first()).copied());
        }
        let vocabulary = Vocabulary::new(&settings.classes)?;
        let known = |at: &usize| values(*at).filter(|value| vocabulary.class_of_subtype(value).is_some()).count();
        let are_classes = names.iter().any(|at| known(at) * 2 > values(*at).count());
        if are_classes {
            names.retain(|at| known(at) * 2 > values(*at).count());
        }
        let first = names[0];
        for other in &names[1..] {
            let pairs = sheet.rows.iter().filter_map(|row| {
                let pair = (row.value(Some(first))?, row.value(Some(*other))?);
                (!vocabulary.is_same(pair.0, pair.1)).then_some((row.number, pair))
            });
            let pairs: Vec<_> = pairs.collect();
            // Other words for the same classes of the data set.
            let renames = !are_classes && {
                let [all, here, there] = [0, 1, 2].map(|part| {
                    let of = |(_, (a, b)): &(u64, (&str, &str))| match part {
                        0 => format!("{a}\0{b}"),
                        1 => a.to_string(),
                        _ => b.to_string(),
                    };
                    pairs.iter().map(of).collect::<BTreeSet<_>>().len()
                });
                all == here && all == there
            };
            if let Some((row, (here, there))) = pairs.first().filter(|_| !renames) {
                let [a, b] = [first, *other].map(|at| sheet.columns[at].as_str());
                let text = format!(
                    "{a} and {b}, which differ in {} of {} rows: {here} and {there} in row {row}",
                    pairs.len(),
                    sheet.rows.len()
                );
                self.unclear = Some((which("class", a, b), text));
            }
        }
        Ok(Some(first))
    }

    /// Chooses among the columns that may hold paths, by the images that they name.
    pub fn choose_paths(&mut self, sheet: &Sheet, image: &dyn Fn(&str) -> Option<String>) {
        let Some(first) = self.at(Role::Path).filter(|_| !self.other_paths.is_empty()) else { return };
        let of = |at: usize| sheet.rows.iter().map(|row| image(row.value(Some(at))?)).collect::<Vec<_>>();
        let (mut chosen, mut images) = (first, of(first));
        let others = std::mem::take(&mut self.other_paths);
        let all = [vec![first], others.clone()].concat();
        for other in others {
            let others = of(other);
            let differ = images.iter().zip(&others).filter(|(a, b)| a.is_some() && b.is_some() && a != b).count();
            if differ > 0 {
                let [a, b] = [chosen, other].map(|at| sheet.columns[at].as_str());
                let text = format!("{a} and {b}, which name different images in {differ} of {} rows", sheet.rows.len());
                self.unclear = Some((which("path", a, b), text));
            } else if images.iter().flatten().count() < others.iter().flatten().count() {
                (chosen, images) = (other, others);
            }
        }
        let named = |images: &[Option<String>]| images.iter().flatten().count();
        let has_folder = self.at(Role::Folder).is_some();
        let pairs = all.iter().flat_map(|folder| all.iter().map(move |name| (*folder, *name)));
        for (folder, name) in pairs.filter(|(folder, name)| !has_folder && folder != name) {
            // The folder, and the name in it.
            let joined = |row: &SheetRow| image(&format!("{}/{}", row.value(Some(folder))?, row.value(Some(name))?));
            let joined: Vec<Option<String>> = sheet.rows.iter().map(joined).collect();
            if named(&joined) > named(&images) {
                (chosen, images) = (name, joined);
                self.at.insert(Role::Folder, folder);
            }
        }
        self.at.insert(Role::Path, chosen);
        let is_used = |name: &String| self.at.values().any(|at| sheet.columns[*at] == *name);
        self.unused = sheet.columns.iter().filter(|name| !name.is_empty() && !is_used(name)).cloned().collect();
    }

    /// Checks that the names tell which columns are meant.
    ///
    /// # Errors
    /// [`Error::Format`] that names the columns and the setting.
    pub fn check(&self, path: &Path) -> Result<()> {
        match &self.unclear {
            None => Ok(()),
            Some((expected, found)) => Err(Error::format(path, "header", expected, found)),
        }
    }

    /// Lists the columns without a use, and those of them that may be needed: several images have the same value.
    fn find_unused(&mut self, sheet: &Sheet, words: &[String]) {
        for (n, name) in sheet.columns.iter().enumerate() {
            if name.is_empty() || self.at.values().any(|used| *used == n) {
                continue;
            }
            self.unused.push(name.clone());
            let is_meant = |words_of: &&[&str]| words_of.iter().any(|word| words[n].contains(word));
            let values: Vec<&str> = sheet.rows.iter().filter_map(|row| row.value(Some(n))).collect();
            let different = values.iter().collect::<BTreeSet<_>>().len();
            let of_word = HINTS.iter().find(|(_, words_of)| is_meant(words_of)).map(|(role, _)| *role);
            let has_roles = values.iter().all(|value| folders::role(value).is_some());
            let hint = of_word.or(has_roles.then_some(Role::Given)).filter(|role| self.at(*role).is_none());
            if let Some(role) = hint
                && different > 1
                && different < values.len()
            {
                self.hints.push((name.clone(), key(role)));
            }
        }
    }

    /// The position of a column, if the list has it.
    pub fn at(&self, role: Role) -> Option<usize> {
        self.at.get(&role).copied()
    }

    /// The positions of all columns that are used.
    pub fn used(&self) -> BTreeSet<usize> {
        self.at.values().copied().collect()
    }

    /// Whether there is a column of what a list can add to images whose class is known.
    pub fn adds(&self) -> bool {
        ADDED.iter().any(|role| self.at(*role).is_some())
    }

    /// Marks columns as used by another reader, such as the edges of boxes.
    pub fn use_names(&mut self, names: &[&str]) {
        self.unused.retain(|name| !names.contains(&name.as_str()));
    }

    /// Gives a column up, to be read otherwise: the labels of boxes are not those of images.
    pub fn without(mut self, role: Role) -> ListColumns {
        self.at.remove(&role);
        self
    }
}

/// Whether the name of a column says that it names persons.
fn is_of_person(word: &str) -> bool {
    PEOPLE.iter().any(|person| word.strip_prefix(person).is_some_and(|rest| OF_NAMES.contains(&rest)))
}

/// What to do where either of two columns may be meant.
fn which(key: &str, a: &str, b: &str) -> String {
    if a == b {
        return format!("one column {key}, or different names for the columns");
    }
    format!("one column {key}, or [ingest.columns] {key} = {a:?} or {key} = {b:?} in the pipeline file")
}

/// The column of a list with the paths of images, by its usual names.
pub fn path_column(sheet: &Sheet) -> Option<usize> {
    ListColumns::new(sheet, &Settings::default()).ok()?.at(Role::Path)
}

/// The key of a column in the settings.
fn key(role: Role) -> &'static str {
    ["path", "class", "subtype", "subject", "slide", "role", "folder"][role as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str], rows: &[&[&str]]) -> (Sheet, ListColumns) {
        let row = |(n, values): (usize, &&[&str])| SheetRow {
            number: n as u64 + 2,
            values: values.iter().map(|value| value.to_string()).collect(),
        };
        let sheet = Sheet {
            columns: names.iter().map(|name| name.to_string()).collect(),
            rows: rows.iter().enumerate().map(row).collect(),
            bad_rows: Vec::new(),
            latin1: false,
        };
        let columns = ListColumns::new(&sheet, &Settings::default()).unwrap();
        (sheet, columns)
    }

    #[test]
    fn columns_of_people_are_used_or_hinted_at() {
        for name in ["Patient-Nr.", "patient name", "Proband", "Donor ID", "Person", "PatientNummer"] {
            assert_eq!(columns(&["file", name], &[]).1.at(Role::Subject), Some(1), "{name}");
        }
        let rows: [&[&str]; 3] = [&["a", "61", "1"], &["b", "61", "2"], &["c", "43", "3"]];
        let (_, found) = columns(&["file", "patient_age", "sample_id"], &rows);
        assert_eq!((found.at(Role::Subject), found.hints), (None, vec![("patient_age".into(), "subject")]));
    }

    #[test]
    fn columns_of_classes_that_differ_are_asked_for() {
        let check = |names: &[&str], rows: &[&[&str]]| {
            let (_, columns) = columns(names, rows);
            (columns.at(Role::Class), columns.check(Path::new("list.csv")).map_err(|e| e.to_string()))
        };
        let differing: &[&[&str]] = &[&["a", "monocyte", "basophil"], &["b", "basophil", "basophil"]];
        let (_, refused) = check(&["file", "label", "class"], differing);
        assert!(refused.unwrap_err().contains("1 of 2 rows: basophil and monocyte in row 2"));
        assert!(check(&["file", "label", "label"], differing).1.is_err());
        let same: &[&[&str]] = &[&["a", "Monocytes", "monocyte"], &["b", "BASO", "basophil"]];
        assert_eq!(check(&["file", "label", "class"], same), (Some(2), Ok(())));
        let codes: &[&[&str]] = &[&["a", "monocyte", "M"], &["b", "basophil", "B"]];
        assert_eq!(check(&["file", "label", "class"], codes), (Some(1), Ok(())));
    }

    #[test]
    fn of_columns_of_paths_the_one_that_names_images_is_used() {
        let rows: &[&[&str]] = &[&["a.png", "b.png"], &["b.png", "a.png"]];
        let (sheet, mut found) = columns(&["image", "file"], rows);
        found.choose_paths(&sheet, &|path| Some(path.into()));
        assert!(found.check(Path::new("list.csv")).is_err());
        let rows: &[&[&str]] = &[&["a.png", "scan 1"], &["b.png", "scan 2"]];
        let (sheet, mut found) = columns(&["image", "file"], rows);
        found.choose_paths(&sheet, &|path| path.strip_suffix(".png").map(String::from));
        assert_eq!((found.at(Role::Path), found.unused.join(", ")), (Some(0), "file".into()));
        // The folder, and the name in it.
        let rows: &[&[&str]] = &[&["P1", "1.png"], &["P2", "1.png"]];
        let (sheet, mut found) = columns(&["path", "filename"], rows);
        found.choose_paths(&sheet, &|path| path.contains('/').then(|| path.into()));
        assert_eq!((found.at(Role::Path), found.at(Role::Folder)), (Some(1), Some(0)));
    }
}
