//! The tables of a data set that list images, and text files that list those of a role, such as `train.txt`.

use super::checks;
use super::columns::{ListColumns, Role};
use super::finder::Finder;
use super::folders;
use super::jtsc;
use super::layout::Output;
use super::settings::Settings;
use super::sheet::{self, Sheet, SheetRow};
use super::tree::{ScannedFile, Tree};
use crate::class::set::fold;
use crate::error::{Error, Input, Result};
use crate::rows::Severity;
use std::collections::BTreeMap;

/// A list that is used.
pub struct UsedList {
    /// Its path in the tree.
    pub name: String,
    /// Its folder, empty or with a slash at its end.
    pub folder: String,
    /// Its rows.
    pub sheet: Sheet,
    /// What its columns hold.
    pub columns: ListColumns,
    /// The role of its images, from its name (train.csv).
    role: Option<&'static str>,
    /// Whether its header is that of Jiangxi Tecom's and CellaVision's data sets.
    pub is_jtsc: bool,
    /// Whether its reader reports rows that are repeated or have no image.
    pub is_reported: bool,
}

impl UsedList {
    /// A table as a list.
    pub fn new(file: &ScannedFile, sheet: Sheet, columns: ListColumns) -> UsedList {
        UsedList {
            name: file.path.clone(),
            folder: if file.folder().is_empty() { String::new() } else { format!("{}/", file.folder()) },
            role: role_of(file),
            is_jtsc: jtsc::is_own(&sheet),
            is_reported: false,
            columns,
            sheet,
        }
    }

    /// Paths as a list whose name may give a role. `None` where it does not.
    pub fn of_role(file: &ScannedFile, paths: impl Iterator<Item = String>) -> Option<UsedList> {
        role_of(file)?;
        let rows = paths.enumerate().map(|(n, path)| SheetRow { number: n as u64 + 1, values: vec![path] });
        let rows = rows.filter(|row| !row.values[0].is_empty()).collect();
        let sheet = Sheet { columns: vec!["path".into()], rows, bad_rows: Vec::new(), latin1: false };
        let columns = ListColumns::new(&sheet, &Settings::default()).ok()?;
        Some(UsedList::new(file, sheet, columns))
    }

    /// A row's value for a role.
    pub fn value<'a>(&self, row: &'a SheetRow, role: Role) -> Option<&'a str> {
        let column = self.columns.at(role);
        if matches!(role, Role::Subject | Role::Slide) { row.name(column) } else { row.value(column) }
    }

    /// The path of a row's image, with its folder where that is a column of its own.
    pub fn path(&self, row: &SheetRow) -> Option<String> {
        let path = self.value(row, Role::Path)?;
        let folder = self.value(row, Role::Folder).filter(|_| !path.contains(['/', '\\']));
        Some(folder.map_or_else(|| path.into(), |folder| format!("{}/{path}", folder.trim_end_matches(['/', '\\']))))
    }

    /// The role that a row gives its image: train, test or validation.
    pub fn role(&self, row: &SheetRow) -> Option<&'static str> {
        self.value(row, Role::Given).and_then(folders::role).or(self.role)
    }
}

/// The role that a list's name, or a folder above it, gives its images.
fn role_of(file: &ScannedFile) -> Option<&'static str> {
    role_in_name(file.stem()).or_else(|| file.folders().rev().find_map(folders::role))
}

/// The role that the name of a list gives its images: the only one that its words name, as in `instances_train2017`.
pub fn role_in_name(stem: &str) -> Option<&'static str> {
    let mut roles = stem.split(|c: char| !c.is_alphanumeric()).filter_map(folders::role);
    let first = roles.next()?;
    roles.all(|role| role == first).then_some(first)
}

/// Whether a file is in the folder of the data set.
fn is_at_top(file: &ScannedFile, top: &str) -> bool {
    file.folder().is_empty() || format!("{}/", file.folder()) == top
}

/// The files that may be lists: tables, and text files in the folder of the data set.
pub fn candidates(tree: &Tree) -> impl Iterator<Item = &ScannedFile> {
    let top = folders::top(tree);
    let may_be = move |file: &&ScannedFile| {
        let name = file.file_name().to_lowercase();
        let is_table = [".csv", ".tsv", ".tab", ".parquet"].iter().any(|ending| name.ends_with(ending));
        is_table || (is_text(file) && is_at_top(file, &top))
    };
    tree.files.iter().filter(|file| file.bytes > 0).filter(may_be)
}

/// The tables of a data set: all in its folder, and below it those that have the columns of a list.
pub fn tables<'a>(tree: &'a Tree, settings: &Settings) -> Vec<&'a ScannedFile> {
    let top = folders::top(tree);
    let is_plain = |file: &ScannedFile| is_at_top(file, &top) && !is_text(file);
    let may_be = |file: &&ScannedFile| is_plain(file) || is_list(tree, file, settings);
    candidates(tree).filter(may_be).filter(|file| !is_prediction(tree, file, settings)).collect()
}

/// Whether a file is text, which may be anything.
fn is_text(file: &ScannedFile) -> bool {
    file.file_name().to_lowercase().ends_with(".txt")
}

/// Whether a file has the columns of a list.
fn is_list(tree: &Tree, file: &ScannedFile, settings: &Settings) -> bool {
    let columns = tree.sheet(file).and_then(|sheet| ListColumns::new(&sheet, settings));
    columns
        .is_ok_and(|columns| columns.at(Role::Path).is_some() && (columns.at(Role::Class).is_some() || columns.adds()))
}

/// Whether a table has the columns that `wbc predict` writes, and the settings do not say which of them are used.
fn is_prediction(tree: &Tree, file: &ScannedFile, settings: &Settings) -> bool {
    settings.columns.is_empty()
        && !is_text(file)
        && tree.sheet(file).is_ok_and(|sheet| {
            let has = |name: &str| sheet.columns.iter().any(|column| column == name);
            let probabilities = sheet.columns.iter().filter(|column| column.starts_with("p_")).count();
            has("path") && has("class") && has("confidence") && has("agreement") && probabilities > 1
        })
}

/// Reports tables of predictions, which are not read as lists.
pub fn report_predictions(tree: &Tree, settings: &Settings, output: &mut Output) {
    for file in candidates(tree).filter(|file| is_prediction(tree, file, settings)) {
        output.used(file);
        let message = format!("not used: {PREDICTED}");
        output.issue(&file.path, checks::NOT_USED, Severity::Warning, message);
    }
}

/// The error for a data set whose only list is one that `wbc predict` wrote; none where there is no such table.
pub fn predicted(tree: &Tree, settings: &Settings) -> Option<Error> {
    let file = candidates(tree).find(|file| is_prediction(tree, file, settings))?;
    Some(Error::format(tree.full_path(&file.path), "header", "a list with labels", PREDICTED))
}

/// Why a table of `wbc predict` is not a list.
const PREDICTED: &str =
    "what wbc predict wrote. Predictions are not labels: of corrected ones, keep the columns path and class alone";

/// Whether a table is a list with classes.
pub fn has_classes(tree: &Tree, file: &ScannedFile, settings: &Settings) -> bool {
    let columns = tree.sheet(file).and_then(|sheet| ListColumns::new(&sheet, settings));
    columns.is_ok_and(|columns| columns.at(Role::Path).is_some() && columns.at(Role::Class).is_some())
}

/// What has to be in the lists of a data set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Annotations name the classes.
    Nothing,
    /// Folders name the classes; a list can add patients, slides or roles.
    List,
    /// Only lists can name the classes.
    Classes,
}

/// The lists of a data set, without the files in `others`.
///
/// # Errors
/// [`Error::Format`] that names the columns, where it cannot be known which are meant, or where a list is needed and
/// no table is one; [`Error::Missing`] where a list is needed and there is none.
pub fn read(
    tree: &Tree,
    settings: &Settings,
    finder: &Finder,
    need: Need,
    others: &[String],
    output: &mut Output,
) -> Result<Vec<UsedList>> {
    let missing =
        || Error::missing(Input::ImageList, &tree.root).with_hint("Write list.csv with the columns path and class");
    report_predictions(tree, settings, output);
    let (mut lists, mut refused) = (Vec::new(), Vec::new());
    for file in tables(tree, settings).into_iter().filter(|file| !others.contains(&file.path)) {
        output.used(file);
        let path = tree.full_path(&file.path);
        let columns = tree.sheet(file).and_then(|sheet| Ok((ListColumns::new(&sheet, settings)?, sheet)));
        let (mut columns, sheet) = match columns {
            Ok(read) => read,
            Err(error) => {
                refused.push((file, error));
                continue;
            }
        };
        let folder = file.path.strip_suffix(file.file_name()).unwrap_or_default();
        let image = |path: &str| finder.find(folder, path).ok().map(|found| found.path.to_string());
        columns.choose_paths(&sheet, &image);
        columns.check(&path)?;
        let list = UsedList::new(file, sheet, columns);
        let adds = list.columns.adds() || list.role.is_some();
        if list.columns.at(Role::Path).is_none() || !(list.columns.at(Role::Class).is_some() || adds) {
            let expected = "a column of paths (path, file, filename, image, ...) and one of classes (class, label, \
                            category), or their names in [ingest.columns]; --layout class_folders reads no list";
            let found = format!("the columns {}", list.sheet.columns.join(", "));
            refused.push((file, Error::format(&path, "header", expected, found)));
            continue;
        }
        lists.push(list);
    }
    if need == Need::List && lists.is_empty() && !refused.is_empty() {
        return Err(refused.swap_remove(0).1);
    }
    if need == Need::Classes && !lists.iter().any(|list: &UsedList| list.columns.at(Role::Class).is_some()) {
        if let Some(list) = lists.first().filter(|_| refused.is_empty()) {
            let found = format!("the columns {}", list.sheet.columns.join(", "));
            let expected = "a column of classes (class, label, category), or its name in [ingest.columns]";
            return Err(Error::format(tree.full_path(&list.name), "header", expected, found));
        }
        let refused = refused.into_iter().next().map(|(_, error)| error);
        return Err(refused.or_else(|| predicted(tree, settings)).unwrap_or_else(missing));
    }
    for (file, error) in refused {
        let beside = lists.first().map_or(String::new(), |list| format!(" beside {}", list.name));
        output.issue(&file.path, checks::NOT_USED, Severity::Warning, format!("not used{beside}: {error}"));
    }
    for list in &lists {
        report_columns(list, output);
    }
    let known: Vec<String> = lists.iter().map(|list| list.name.clone()).chain(others.iter().cloned()).collect();
    for (file, list) in role_lists(tree, finder, &known) {
        output.used(file);
        if list.is_none() {
            let message = "lists the images of training and validation together: not used".to_string();
            output.issue(&file.path, checks::NOT_USED, Severity::Note, message);
        }
        lists.extend(list);
    }
    if need != Need::Nothing && lists.is_empty() { Err(missing()) } else { Ok(lists) }
}

/// Whether a column has one of these names, as [`fold`] writes them.
fn is_one_of(name: &str, names: &[&str]) -> bool {
    fold(name).is_some_and(|name| names.contains(&name.as_str()))
}

/// Reports columns without a use, and letters that may be misread.
pub fn report_columns(list: &UsedList, output: &mut Output) {
    let hints: BTreeMap<&str, &str> = list.columns.hints.iter().map(|(name, key)| (name.as_str(), *key)).collect();
    for (name, key) in &hints {
        let message =
            format!("the column {name} is not used. If it counts, name it: [ingest.columns] {key} = {name:?}");
        output.issue(&list.name, checks::NOT_USED, Severity::Warning, message);
    }
    // Columns of probabilities beside the classes are those of a model.
    let unused = || list.columns.unused.iter().map(String::as_str);
    let is_beside_labels = unused().any(|name| is_one_of(name, &["predicted", "prediction", "pred"]));
    let is_of_model = |name: &&str| is_one_of(name, &["prob", "probability", "softmax"]) && !is_beside_labels;
    let of_models: Vec<&str> = unused().filter(is_of_model).collect();
    if !of_models.is_empty() && list.columns.at(Role::Class).is_some() {
        let message = format!(
            "the classes of this list may be predictions, which are not labels: it has the column {}",
            of_models.join(", ")
        );
        output.issue(&list.name, checks::NOT_USED, Severity::Warning, message);
    }
    // Where patients are read from a column whose name has other meanings too, the user is told.
    let subject = list.columns.at(Role::Subject).map(|at| list.sheet.columns[at].as_str());
    let is_vague = |name: &&str| is_one_of(name, &["group", "groupid", "case", "caseid"]);
    if let Some(name) = subject.filter(|name| is_vague(name) && !list.columns.is_named) {
        let message = format!("the column {name} is taken as the patients: images of one {name} stay in one fold");
        output.issue(&list.name, checks::PEOPLE, Severity::Note, message);
    }
    let unused: Vec<&str> = list.columns.unused.iter().map(String::as_str).collect();
    let unused: Vec<&str> = unused.into_iter().filter(|name| !hints.contains_key(name)).collect();
    if !unused.is_empty() {
        let message = format!("columns that are not used: {}", unused.join(", "));
        output.issue(&list.name, checks::NOT_USED, Severity::Note, message);
    }
    let used = list.columns.used();
    let accents = |row: &SheetRow| used.iter().any(|at| row.value(Some(*at)).is_some_and(|value| !value.is_ascii()));
    if list.sheet.latin1 && list.sheet.rows.iter().any(accents) {
        let message = "the file is neither UTF-8 nor UTF-16; letters with accents are read as Latin-1";
        output.issue(&list.name, checks::BAD_ROW, Severity::Warning, message.into());
    }
}

/// Text files that are named after a role and list images, one per line: YOLO's `train.txt`, and those in Pascal VOC's
/// `ImageSets`. No list for `trainval.txt`, which is of two roles.
pub fn role_lists<'a>(tree: &'a Tree, finder: &Finder, known: &[String]) -> Vec<(&'a ScannedFile, Option<UsedList>)> {
    let is_named = |file: &&ScannedFile| {
        is_text(file) && (role_in_name(file.stem()).is_some() || file.stem().eq_ignore_ascii_case("trainval"))
    };
    let list = |file: &'a ScannedFile| {
        let text = sheet::decode_text(&tree.read(file).ok()?).0;
        let folder = file.path.strip_suffix(file.file_name()).unwrap_or_default();
        let paths: Vec<String> = text.lines().map(|line| without_sign(line).trim_matches('"').to_string()).collect();
        let named = || paths.iter().filter(|path| !path.is_empty());
        let found = named().filter(|path| finder.find(folder, path).is_ok()).count();
        (found > 0 && found * 2 >= named().count()).then(|| (file, UsedList::of_role(file, paths.into_iter())))
    };
    tree.files.iter().filter(|file| !known.contains(&file.path)).filter(is_named).filter_map(list).collect()
}

/// A line of a list of images without the sign of Pascal VOC, which says whether the image shows a class.
fn without_sign(line: &str) -> &str {
    let line = line.trim();
    line.rsplit_once([' ', '\t'])
        .filter(|(_, sign)| ["1", "-1", "0"].contains(sign))
        .map_or(line, |(path, _)| path.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_lists_give_one_role() {
        for (name, expected) in [
            ("train", Some("train")),
            ("instances_train2017", Some("train")),
            ("my-val", Some("validation")),
            ("train_test_split", None),
            ("trainval", None),
            ("blood", None),
        ] {
            assert_eq!(role_in_name(name), expected, "{name}");
        }
    }
}
