//! Lists of images and their classes: every CSV, TSV or Parquet file in the folder of the data set. Columns are found
//! by their usual names (see [`Role`]) or named in the settings. Paths are relative to the list or to the data set, or
//! absolute.

use super::checks;
use super::folders::{self, Place};
use super::labels::Vocabulary;
use super::layout::{Layout, Output};
use super::pairs::Masks;
use super::settings::Settings;
use super::sheet::{self, Sheet, SheetRow};
use super::tree::{ScannedFile, Tree, relative};
use crate::class::set::{fold, is_spelled};
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::rows::Severity;
use crate::text;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, PathBuf};
use unicode_normalization::UnicodeNormalization;

pub struct List;

impl Layout for List {
    fn name(&self) -> &'static str {
        "list"
    }

    fn looks_for(&self) -> &'static str {
        "a list (.csv, .tsv or .parquet) with the columns path,class[,subtype,patient,slide,split]"
    }

    fn recognises(&self, tree: &Tree, settings: &Settings, vocabulary: &Vocabulary) -> bool {
        tables(tree, settings).iter().any(|file| {
            let Ok(sheet) = sheet::read(&tree.full_path(&file.path)) else { return true };
            let Ok(columns) = ListColumns::new(&sheet, settings) else { return true };
            if columns.at(Role::Path).is_some() && ADDED.iter().any(|role| columns.at(*role).is_some()) {
                return true;
            }
            // Other tables stand beside class folders, too. Here they stop ingest only if they seem to have classes.
            let (named, class) = (columns.is_named || is_named_as_list(file), columns.at(Role::Class).is_some());
            named || class || has_classes(&sheet, vocabulary) || !super::class_folders::has_places(tree, vocabulary)
        })
    }

    fn outside(&self, tree: &Tree, settings: &Settings) -> Vec<PathBuf> {
        let mut outside = Vec::new();
        for file in candidates(tree) {
            let Ok(sheet) = sheet::read(&tree.full_path(&file.path)) else { continue };
            let Ok(columns) = ListColumns::new(&sheet, settings) else { continue };
            let paths = sheet.rows.iter().filter_map(|row| row.value(columns.at(Role::Path)));
            outside.extend(paths.map(|path| PathBuf::from(normalised(tree, path))).filter(|p| p.is_absolute()));
        }
        outside.retain(|path| path.is_file());
        outside.sort();
        outside.dedup();
        outside
    }

    fn read(
        &self,
        tree: &Tree,
        settings: &Settings,
        vocabulary: &Vocabulary,
        ctx: &Context,
        output: &mut Output,
    ) -> Result<()> {
        let masks = Masks::find(tree);
        let images: Vec<&ScannedFile> = tree.images().filter(|file| !masks.contains(&file.path)).collect();
        let places = folders::places(&images, vocabulary).unwrap_or_default();
        let places: BTreeMap<&str, Place> = images
            .iter()
            .map(|file| file.path.as_str())
            .zip(places)
            .filter(|(_, place)| place.label.is_some())
            .collect();
        let lists = lists(tree, settings, !places.is_empty(), output)?;
        let finder = Finder::new(tree, &images);
        // For each image, the first row with it, its label, and whether a later row has another label.
        let mut listed: BTreeMap<&str, (usize, &SheetRow, Option<String>, bool)> = BTreeMap::new();
        for (n, list) in lists.iter().enumerate() {
            let issue = |output: &mut Output, check, severity, message: String, related: &str| {
                output.issue(&list.name, check, severity, message).related = Some(related.into());
            };
            for message in &list.sheet.bad_rows {
                output.issue(&list.name, checks::BAD_ROW, Severity::Error, message.clone());
            }
            for row in &list.sheet.rows {
                let number = row.number;
                let Some(path) = row.value(list.columns.at(Role::Path)) else {
                    let message = format!("row {number}: no path");
                    output.issue(&list.name, checks::BAD_ROW, Severity::Error, message);
                    continue;
                };
                let file = match finder.find(&list.folder, path) {
                    Ok(file) => file,
                    Err(message) => {
                        issue(output, checks::NO_IMAGE, Severity::Error, format!("row {number}: {message}"), path);
                        continue;
                    }
                };
                let label = match list.columns.at(Role::Class) {
                    Some(_) => row.value(list.columns.at(Role::Class)).map(str::to_string),
                    None => places.get(file.path.as_str()).and_then(|place| place.label.clone()),
                };
                if label.is_none() {
                    issue(
                        output,
                        checks::NO_LABEL,
                        Severity::Warning,
                        format!("row {number}: no class for {path}"),
                        path,
                    );
                    output.used(file);
                    continue;
                }
                match listed.get_mut(file.path.as_str()) {
                    None => _ = listed.insert(&file.path, (n, row, label, false)),
                    Some((other_list, first, other, conflict)) => {
                        let (label, other) = (label.unwrap_or_default(), other.clone().unwrap_or_default());
                        let other_list = &lists[*other_list];
                        let of = if other_list.name == list.name { "" } else { &format!(" of {}", other_list.name) };
                        let is_same = label == other || (is_spelled(&label, &other) && is_spelled(&other, &label));
                        let differing = differing((list, row), (other_list, first));
                        let (severity, message) = match (is_same, differing) {
                            (true, None) => {
                                (Severity::Note, format!("row {number}: {path} is also in row {}{of}", first.number))
                            }
                            (true, Some((here, there))) => {
                                let text = format!(
                                    "row {number}: {path} is of {here} here and {there} in row {}{of}, which is used",
                                    first.number
                                );
                                (Severity::Warning, text)
                            }
                            (false, _) => {
                                *conflict = true;
                                let text = format!(
                                    "row {number}: {path} is {label} here and {other} in row {}{of}; it gets no class",
                                    first.number
                                );
                                (Severity::Error, text)
                            }
                        };
                        issue(output, checks::LISTED_TWICE, severity, message, path);
                    }
                }
            }
        }
        let conflicts: Vec<&str> =
            listed.iter().filter(|(_, (.., conflict))| *conflict).map(|(path, _)| *path).collect();
        if !conflicts.is_empty() {
            let message = format!(
                "left out: {} listed with different classes: {}",
                text::of(conflicts.len() as u64, "image"),
                text::some(conflicts.iter().copied())
            );
            let issue = output.issue("", checks::NO_LABEL, Severity::Error, message);
            issue.score = Some(conflicts.len() as f64);
        }
        if lists.iter().all(|list| list.is_jtsc) && !masks.of.is_empty() {
            super::jtsc::numbers(output);
        }
        // A list that only adds patients does not say that other images are none.
        if lists.iter().all(|list| list.columns.at(Role::Class).is_none()) {
            let others = images.iter().filter(|file| !listed.contains_key(file.path.as_str()));
            let mut others: Vec<&ScannedFile> =
                others.copied().filter(|file| places.contains_key(file.path.as_str())).collect();
            others.retain(|file| !output.is_used(file));
            for file in &others {
                let place = &places[file.path.as_str()];
                let Some(row) = output.row(file, None, place.label.as_deref()) else { continue };
                (row.subject_id, row.slide_id) = (place.subject.clone(), place.slide.clone());
                row.given_role = place.role.map(String::from);
            }
            if !others.is_empty() {
                let message = format!(
                    "{} not in the list, which are used with the class of their folder: {}",
                    text::of(others.len() as u64, "image"),
                    text::some(others.iter().map(|file| file.path.as_str()))
                );
                let issue = output.issue(&lists[0].name, checks::LIST_AND_FOLDER, Severity::Warning, message);
                issue.score = Some(others.len() as f64);
            }
        }
        let mut contradictions = Vec::new();
        let mut odd_roles: BTreeMap<String, u64> = BTreeMap::new();
        for (path, (n, row, label, conflict)) in listed {
            let (file, list) = (tree.get(path).expect("it was found in the tree"), &lists[n]);
            let value = |role| list.value(row, role).map(str::to_string);
            let place = places.get(path);
            let folder = place.and_then(|place| vocabulary.known(place.label.as_deref()?));
            let class = label.as_deref().and_then(|label| vocabulary.known(label));
            if let (Some(folder), Some(class)) = (folder, class)
                && folder != class
            {
                contradictions.push(format!("{path} is {class}"));
            }
            let Some(cell) = output.row(file, None, label.as_deref().filter(|_| !conflict)) else { continue };
            cell.subtype = value(Role::Subtype);
            cell.subject_id = value(Role::Subject).or_else(|| place.and_then(|place| place.subject.clone()));
            cell.slide_id = value(Role::Slide).or_else(|| place.and_then(|place| place.slide.clone()));
            let given = value(Role::Given);
            cell.given_role = list.role(row).map(String::from);
            if let (Some(word), None) = (given, &cell.given_role) {
                *odd_roles.entry(word).or_default() += 1;
            }
        }
        if !contradictions.is_empty() {
            let message = format!(
                "{} of another class than their folders say; the list is followed: {}",
                text::of(contradictions.len() as u64, "image"),
                text::some(contradictions.iter().map(String::as_str))
            );
            let issue = output.issue(&lists[0].name, checks::LIST_AND_FOLDER, Severity::Warning, message);
            issue.score = Some(contradictions.len() as f64);
        }
        if !odd_roles.is_empty() {
            let words = text::counts(odd_roles.iter().map(|(word, n)| (word.as_str(), *n)));
            let message =
                format!("expected train, test or validation as given roles, found {words}; they are not used");
            output.issue(&lists[0].name, checks::NOT_USED, Severity::Warning, message);
        }
        masks.apply(tree, ctx, output)
    }
}

/// What a list can add to class folders.
const ADDED: [Role; 3] = [Role::Subject, Role::Slide, Role::Given];

/// Whether the name of a table says that it lists the images.
fn is_named_as_list(file: &ScannedFile) -> bool {
    let name = file.stem().to_lowercase();
    ["list", "label", "class", "annotation"].iter().any(|word| name.contains(word)) || folders::role(&name).is_some()
}

/// Whether a column of a table holds names of classes.
fn has_classes(sheet: &Sheet, vocabulary: &Vocabulary) -> bool {
    (0..sheet.columns.len()).any(|column| {
        let values: Vec<&str> = sheet.rows.iter().filter_map(|row| row.value(Some(column))).collect();
        !values.is_empty() && values.iter().filter(|value| vocabulary.known(value).is_some()).count() * 2 > values.len()
    })
}

/// What a column of a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// The usual names of the columns, without case and signs, the preferred ones first.
const NAMES: [(Role, &[&str]); 6] = [
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
];

/// Which column holds what.
pub struct ListColumns {
    at: BTreeMap<u8, usize>,
    /// Columns that are not used.
    unused: Vec<String>,
    /// Whether the settings name columns.
    is_named: bool,
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
        let named = [&named.path, &named.class, &named.subtype, &named.subject, &named.slide, &named.role];
        let mut at = BTreeMap::new();
        for ((role, usual), name) in NAMES.into_iter().zip(named) {
            let found = match name {
                Some(name) => {
                    let exact = sheet.columns.iter().position(|column| column == name);
                    let found = exact.or_else(|| words.iter().position(|column| *column == word(name)));
                    let expected = || format!("one of the columns {}", sheet.columns.join(", "));
                    Some(
                        found
                            .ok_or_else(|| Error::setting(format!("ingest.columns.{}", key(role)), expected(), name))?,
                    )
                }
                None => {
                    let mut found = usual.iter().filter_map(|usual| words.iter().position(|column| column == usual));
                    let all: Vec<usize> = found.by_ref().collect();
                    // A column of numbers beside one of names is a code of them.
                    let is_number = |at: &usize| {
                        let mut values = sheet.rows.iter().filter_map(|row| row.value(Some(*at)));
                        role == Role::Class && values.all(|value| value.parse::<f64>().is_ok())
                    };
                    all.iter().find(|at| !is_number(at)).or(all.first()).copied()
                }
            };
            if let Some(found) = found {
                at.insert(role as u8, found);
            }
        }
        let is_unused = |(n, name): &(usize, &String)| !at.values().any(|used| used == n) && !name.is_empty();
        let unused = sheet.columns.iter().enumerate().filter(is_unused).map(|(_, name)| name.clone()).collect();
        Ok(ListColumns { at, unused, is_named: !settings.columns.is_empty() })
    }

    /// The position of a column, if the list has it.
    pub fn at(&self, role: Role) -> Option<usize> {
        self.at.get(&(role as u8)).copied()
    }
}

/// The column of a list with the paths of images, by its usual names.
pub fn path_column(sheet: &Sheet) -> Option<usize> {
    ListColumns::new(sheet, &Settings::default()).ok()?.at(Role::Path)
}

fn key(role: Role) -> &'static str {
    ["path", "class", "subtype", "subject", "slide", "role"][role as usize]
}

/// A list that is used.
struct UsedList {
    /// Its path in the tree.
    name: String,
    /// Its folder, empty or with a slash at its end.
    folder: String,
    sheet: Sheet,
    columns: ListColumns,
    /// The role of its images, from its name (train.csv).
    role: Option<&'static str>,
    /// Whether its header is that of Jiangxi Tecom's and CellaVision's data sets.
    is_jtsc: bool,
}

impl UsedList {
    /// A row's value for a role.
    fn value<'a>(&self, row: &'a SheetRow, role: Role) -> Option<&'a str> {
        let column = self.columns.at(role);
        if matches!(role, Role::Subject | Role::Slide) { row.name(column) } else { row.value(column) }
    }

    /// The role that a row gives its image: train, test or validation.
    fn role(&self, row: &SheetRow) -> Option<&'static str> {
        self.value(row, Role::Given).and_then(folders::role).or(self.role)
    }
}

/// In what two rows about one image differ besides the class, in words: here, and there.
fn differing(here: (&UsedList, &SheetRow), there: (&UsedList, &SheetRow)) -> Option<(String, String)> {
    for (role, word) in [(Role::Subject, "subject"), (Role::Slide, "slide")] {
        let values = [here, there].map(|(list, row)| list.value(row, role));
        if let [Some(a), Some(b)] = values
            && a != b
        {
            return Some((format!("{word} {a}"), b.into()));
        }
    }
    let (a, b) = (here.0.role(here.1)?, there.0.role(there.1)?);
    (a != b).then(|| (format!("the given role {a}"), b.into()))
}

/// The files that may be lists: tables in the folder of the data set.
fn candidates(tree: &Tree) -> Vec<&ScannedFile> {
    let top = folders::top(tree);
    let is_table = |file: &&ScannedFile| {
        let name = file.file_name().to_lowercase();
        [".csv", ".tsv", ".tab", ".parquet", ".txt"].iter().any(|ending| name.ends_with(ending))
    };
    let at_top = |file: &&ScannedFile| file.folder().is_empty() || format!("{}/", file.folder()) == top;
    tree.files.iter().filter(|file| at_top(file) && is_table(file) && file.bytes > 0).collect()
}

/// The tables in the folder of the data set, without text files that are no lists.
pub fn tables<'a>(tree: &'a Tree, settings: &Settings) -> Vec<&'a ScannedFile> {
    candidates(tree).into_iter().filter(|file| !is_text(file) || is_list(tree, file, settings)).collect()
}

/// Whether a file is text, which may be anything.
fn is_text(file: &ScannedFile) -> bool {
    file.file_name().to_lowercase().ends_with(".txt")
}

/// Whether a file has the columns of a list.
fn is_list(tree: &Tree, file: &ScannedFile, settings: &Settings) -> bool {
    let columns = sheet::read(&tree.full_path(&file.path)).and_then(|sheet| ListColumns::new(&sheet, settings));
    columns.is_ok_and(|columns| columns.at(Role::Path).is_some() && columns.at(Role::Class).is_some())
}

/// The lists of a data set. Where folders name the classes, a list without a class can add patients, slides or roles.
///
/// # Errors
/// [`Error::Format`] that names the columns, where there are tables and none is a list; [`Error::Missing`] where there
/// is no table.
fn lists(tree: &Tree, settings: &Settings, class_folders: bool, output: &mut Output) -> Result<Vec<UsedList>> {
    let mut lists = Vec::new();
    let mut others: Vec<(String, Error)> = Vec::new();
    for file in tables(tree, settings) {
        let path = tree.full_path(&file.path);
        let read = sheet::read(&path).and_then(|sheet| Ok((ListColumns::new(&sheet, settings)?, sheet)));
        let (columns, sheet) = match read {
            Ok(read) => read,
            Err(error) => {
                others.push((file.path.clone(), error));
                continue;
            }
        };
        let has = |role| columns.at(role).is_some();
        let adds = class_folders && ADDED.iter().any(|role| has(*role));
        if !(has(Role::Path) && (has(Role::Class) || adds)) {
            let expected = "a column of paths (path, file, filename, image, ...) and one of classes (class, label, \
                            category), or their names in [ingest.columns]; --layout class_folders reads no list";
            let found = format!("the columns {}", sheet.columns.join(", "));
            others.push((file.path.clone(), Error::format(&path, "header", expected, found)));
            continue;
        }
        lists.push(UsedList {
            name: file.path.clone(),
            folder: if file.folder().is_empty() { String::new() } else { format!("{}/", file.folder()) },
            is_jtsc: super::jtsc::is_own(&sheet),
            role: folders::role(file.stem()),
            columns,
            sheet,
        });
    }
    if lists.is_empty() {
        let hint = "Write list.csv with the columns path and class";
        let missing = || Error::missing(Input::ImageList, &tree.root).with_hint(hint);
        return Err(others.into_iter().next().map_or_else(missing, |(_, error)| error));
    }
    for (name, error) in others {
        tree.get(&name).into_iter().for_each(|file| output.used(file));
        let message = format!("not used beside {}: {error}", lists[0].name);
        output.issue(&name, checks::NOT_USED, Severity::Warning, message);
    }
    for list in &lists {
        tree.get(&list.name).into_iter().for_each(|file| output.used(file));
        if !list.columns.unused.is_empty() {
            let message = format!("columns that are not used: {}", list.columns.unused.join(", "));
            output.issue(&list.name, checks::NOT_USED, Severity::Note, message);
        }
        let used: BTreeSet<usize> = list.columns.at.values().copied().collect();
        let accents =
            |row: &SheetRow| used.iter().any(|at| row.value(Some(*at)).is_some_and(|value| !value.is_ascii()));
        if list.sheet.latin1 && list.sheet.rows.iter().any(accents) {
            let message = "the file is neither UTF-8 nor UTF-16; letters with accents are read as Latin-1";
            output.issue(&list.name, checks::BAD_ROW, Severity::Warning, message.into());
        }
    }
    Ok(lists)
}

/// `path` as in the tree, without `.` and `..`: relative if it is below the folder, otherwise absolute.
fn normalised(tree: &Tree, path: &str) -> String {
    let root = std::path::absolute(&tree.root).unwrap_or_else(|_| tree.root.clone());
    let mut full = PathBuf::new();
    for part in root.join(path.replace('\\', "/")).components() {
        match part {
            Component::ParentDir => {
                full.pop();
            }
            Component::CurDir => {}
            part => full.push(part),
        }
    }
    relative(&root, &full)
}

/// Finds the image that a path, name or number in a list or annotation means.
pub struct Finder<'a> {
    tree: &'a Tree,
    by_name: BTreeMap<String, Vec<&'a ScannedFile>>,
    by_stem: BTreeMap<String, Vec<&'a ScannedFile>>,
    by_number: BTreeMap<u64, Vec<&'a ScannedFile>>,
}

/// Letters as they are compared: composed, in lower case.
fn letters(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// Whether a folder's name, in lower case, says more than that it holds images or annotations.
fn says_where(name: &str) -> bool {
    let kinds = ["", "images", "image", "imgs", "img", "jpegimages", "labels", "annotations", "xml", "json", "txt"];
    !kinds.contains(&name)
}

impl<'a> Finder<'a> {
    /// A finder among `images`; other files of the tree are found by their exact path only.
    pub fn new(tree: &'a Tree, images: &[&'a ScannedFile]) -> Finder<'a> {
        let mut finder =
            Finder { tree, by_name: BTreeMap::new(), by_stem: BTreeMap::new(), by_number: BTreeMap::new() };
        for file in images {
            finder.by_name.entry(letters(file.file_name())).or_default().push(file);
            finder.by_stem.entry(letters(file.stem())).or_default().push(file);
            let digits = file.stem().len() - file.stem().trim_end_matches(|c: char| c.is_ascii_digit()).len();
            if let Ok(number) = file.stem()[file.stem().len() - digits..].parse() {
                finder.by_number.entry(number).or_default().push(file);
            }
        }
        finder
    }

    /// The image at `path`, which starts at `folder` (empty, or with a slash at its end), at the data set's folder, or
    /// in a folder of another computer. Case, accents' composition and a missing extension do not matter.
    ///
    /// # Errors
    /// A message where there is none, or several.
    pub fn find(&self, folder: &str, path: &str) -> std::result::Result<&'a ScannedFile, String> {
        let exact = [normalised(self.tree, &format!("{folder}{path}")), normalised(self.tree, path)];
        if let Some(file) = exact.iter().find_map(|path| self.tree.get(path)) {
            return Ok(file);
        }
        let path = letters(&path.replace('\\', "/"));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let Some((name, above)) = parts.split_last() else { return Err("no path".into()) };
        let number = || name.parse().ok().and_then(|number: u64| self.by_number.get(&number));
        let candidates = self.by_name.get(*name).or_else(|| self.by_stem.get(*name)).or_else(number);
        // The file whose folders agree with most of those in the list: labels/train and images/train agree.
        let folder = letters(folder);
        let above: Vec<&str> = folder.split('/').chain(above.iter().copied()).filter(|name| says_where(name)).collect();
        let agreeing = |file: &&&ScannedFile| {
            let folders: Vec<String> = file.folders().map(letters).filter(|name| says_where(name)).collect();
            let from_below = folders.iter().rev().zip(above.iter().rev()).take_while(|(a, b)| a == *b).count();
            (from_below, folders.iter().zip(&above).take_while(|(a, b)| a == *b).count())
        };
        let candidates: Vec<&&ScannedFile> = candidates.into_iter().flatten().collect();
        let most = candidates.iter().map(agreeing).max().unwrap_or_default();
        match candidates.into_iter().filter(|file| agreeing(file) == most).collect::<Vec<_>>()[..] {
            [] => Err(format!("expected an image at {path}, found no file")),
            [file] => Ok(file),
            ref several => {
                let paths = text::some(several.iter().map(|file| file.path.as_str()));
                Err(format!("{path} may be any of {paths}"))
            }
        }
    }
}
