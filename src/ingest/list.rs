//! A list of images and their classes: `list.csv`, `list.parquet`, `labels.csv` or `labels.parquet` in the folder of
//! the data set, with the columns `path`, `class` and optionally `subtype`. Other columns are ignored. Paths are
//! relative to the folder, or absolute.

use super::checks;
use super::layout::{Layout, Output};
use super::settings::Settings;
use super::tree::{Tree, relative};
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::rows::Severity;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

const NAMES: [&str; 4] = ["list.csv", "list.parquet", "labels.csv", "labels.parquet"];

pub struct List;

impl Layout for List {
    fn name(&self) -> &'static str {
        "list"
    }

    fn looks_for(&self) -> &'static str {
        "list.csv or list.parquet with the columns path,class[,subtype]"
    }

    fn recognises(&self, tree: &Tree) -> bool {
        list_name(tree).is_some()
    }

    fn outside(&self, tree: &Tree) -> Vec<PathBuf> {
        let Some(rows) = list_name(tree).and_then(|name| read(tree, name).ok()) else { return Vec::new() };
        let listed = rows.into_iter().filter_map(|row| row.ok());
        let paths = listed.map(|row| PathBuf::from(normalised(tree, &row.path)));
        let mut outside: Vec<PathBuf> = paths.filter(|p| p.is_absolute() && p.is_file()).collect();
        outside.sort();
        outside.dedup();
        outside
    }

    fn read(&self, tree: &Tree, _: &Settings, _: &Context, output: &mut Output) -> Result<()> {
        let Some(name) = list_name(tree) else {
            let hint = "Write list.csv or list.parquet with the columns path and class";
            return Err(Error::missing(Input::ImageList, &tree.root).with_hint(hint));
        };
        tree.get(name).into_iter().for_each(|file| output.used(file));
        // For each path, the first row with it and its class, and whether a later row has another class.
        let mut listed: BTreeMap<String, (Row, Class, bool)> = BTreeMap::new();
        for row in read(tree, name)? {
            let row = match row {
                Ok(row) => row,
                Err(message) => {
                    output.issue(name, checks::BAD_ROW, Severity::Error, message);
                    continue;
                }
            };
            let (number, path) = (row.number, normalised(tree, &row.path));
            let Some(class) = Class::parse(&row.class) else {
                let message = format!("row {number}: expected one of the five classes, found `{}`", row.class);
                output.issue(name, checks::UNKNOWN_CLASS, Severity::Error, message).related = Some(path.clone());
                tree.get(&path).filter(|f| f.is_image()).into_iter().for_each(|file| output.used(file));
                continue;
            };
            if tree.get(&path).is_none() {
                let message = format!("row {number}: expected an image at {path}, found no file");
                output.issue(name, checks::NO_IMAGE, Severity::Error, message).related = Some(path);
                continue;
            }
            if let Some((first, other, conflict)) = listed.get_mut(&path) {
                *conflict |= *other != class;
                let message = format!("row {number}: {path} is {class} here and {other} in row {}", first.number);
                output.issue(name, checks::LISTED_TWICE, Severity::Error, message).related = Some(path);
                continue;
            }
            listed.insert(path, (row, class, false));
        }
        for (path, (row, class, conflict)) in listed {
            let file = tree.get(&path).expect("it was found in the tree");
            // If there are two labels, neither can be trusted.
            if let Some(cell) = output.row(file, None, (!conflict).then_some(class)) {
                cell.subtype = row.subtype;
            }
        }
        Ok(())
    }
}

/// A row of the list. `number` counts from 1, and is the line in a CSV file.
struct Row {
    number: u64,
    path: String,
    class: String,
    subtype: Option<String>,
}

/// A row, or what is wrong with it.
type ReadRow = std::result::Result<Row, String>;

/// Name of the list: the first of [`NAMES`] with a column `path`.
fn list_name(tree: &Tree) -> Option<&'static str> {
    NAMES.into_iter().find(|name| {
        let path = tree.full_path(name);
        tree.get(name).is_some()
            && if name.ends_with(".csv") {
                let header = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).ok();
                header.and_then(|mut r| r.headers().ok().map(|h| h.iter().any(is_path))).unwrap_or(false)
            } else {
                parquet(&path).is_ok_and(|file| columns(&file).iter().any(|name| is_path(name)))
            }
    })
}

/// Whether a column is `path`. Spreadsheets write a byte-order mark before the first column.
fn is_path(column: &str) -> bool {
    column.trim_start_matches('\u{feff}').eq_ignore_ascii_case("path")
}

/// `path` as in the tree, without `.` and `..`: relative if it is below the folder, otherwise absolute.
fn normalised(tree: &Tree, path: &str) -> String {
    let root = std::path::absolute(&tree.root).unwrap_or_else(|_| tree.root.clone());
    let mut full = PathBuf::new();
    for part in root.join(path).components() {
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

fn read(tree: &Tree, name: &str) -> Result<Vec<ReadRow>> {
    let path = tree.full_path(name);
    if name.ends_with(".csv") { read_csv(&path) } else { read_parquet(&path) }
}

fn format_error(path: &Path, expected: &str, got: impl ToString) -> Error {
    Error::format(path, "list", expected, got.to_string())
}

fn missing_column(path: &Path, columns: &[&str]) -> Error {
    format_error(path, "the columns path,class[,subtype]", columns.join(","))
}

fn row(number: u64, path: Option<&str>, class: Option<&str>, subtype: Option<&str>) -> ReadRow {
    let filled = |v: Option<&str>| v.map(str::trim).filter(|v| !v.is_empty()).map(str::to_string);
    match (filled(path), filled(class)) {
        (Some(path), Some(class)) => Ok(Row { number, path, class, subtype: filled(subtype) }),
        (None, _) => Err(format!("row {number}: no path")),
        (_, None) => Err(format!("row {number}: no class for {}", path.unwrap_or(""))),
    }
}

fn read_csv(path: &Path) -> Result<Vec<ReadRow>> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|e| format_error(path, "a CSV file", e))?;
    let header = reader.headers().map_err(|e| format_error(path, "a CSV file with a header", e))?.clone();
    let column = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
    let (Some(path_at), Some(class_at)) = (column("path"), column("class")) else {
        return Err(missing_column(path, &header.iter().collect::<Vec<_>>()));
    };
    let subtype_at = column("subtype");
    let read = reader.records().enumerate().map(|(i, record)| {
        let record = record.map_err(|e| format!("row {}: {e}", i + 2))?;
        let line = record.position().map_or(0, |p| p.line());
        row(line, record.get(path_at), record.get(class_at), subtype_at.and_then(|at| record.get(at)))
    });
    Ok(read.collect())
}

fn parquet(path: &Path) -> Result<SerializedFileReader<std::fs::File>> {
    let file = std::fs::File::open(path).map_err(Error::io(path, "open"))?;
    SerializedFileReader::new(file).map_err(|e| format_error(path, "a Parquet file", e))
}

/// Names of the columns of a Parquet file, in order.
fn columns(file: &SerializedFileReader<std::fs::File>) -> Vec<String> {
    file.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name().to_string()).collect()
}

fn read_parquet(path: &Path) -> Result<Vec<ReadRow>> {
    let file = parquet(path)?;
    let names = columns(&file);
    let column = |name: &str| names.iter().position(|n| n.eq_ignore_ascii_case(name));
    let (Some(path_at), Some(class_at)) = (column("path"), column("class")) else {
        return Err(missing_column(path, &names.iter().map(String::as_str).collect::<Vec<_>>()));
    };
    let subtype_at = column("subtype");
    let unreadable = |e| format_error(path, "a complete Parquet file", e);
    let mut rows = Vec::new();
    for record in file.get_row_iter(None).map_err(unreadable)? {
        let record = record.map_err(unreadable)?;
        let values: Vec<Option<String>> = record.get_column_iter().map(|(_, field)| text(field)).collect();
        let value = |at: usize| values.get(at).and_then(Option::as_deref);
        let number = rows.len() as u64 + 1;
        rows.push(row(number, value(path_at), value(class_at), subtype_at.and_then(value)));
    }
    Ok(rows)
}

/// A value of any type as text; `None` where it is null.
fn text(field: &Field) -> Option<String> {
    match field {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => Some(String::from_utf8_lossy(bytes.data()).into_owned()),
        other => Some(other.to_string()),
    }
}
