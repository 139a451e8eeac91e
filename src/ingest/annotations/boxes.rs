//! Lists of boxes: a table with a row per object, the path of its image, its class, and the edges of its box, px.

use super::object::{Annotated, Annotations, Object, folder};
use crate::class::set::fold;
use crate::error::Result;
use crate::ingest::list::{self, ListColumns, Role};
use crate::ingest::settings::Settings;
use crate::ingest::sheet::{self, Sheet};
use crate::ingest::tree::{ScannedFile, Tree};
use std::collections::BTreeMap;

/// Names of the columns with the edges of a box, as [`fold`] writes them: left, top, right, bottom, or left, top,
/// width, height.
const EDGES: [[&str; 4]; 4] = [
    ["xmin", "ymin", "xmax", "ymax"],
    ["x1", "y1", "x2", "y2"],
    ["left", "top", "right", "bottom"],
    ["left", "top", "width", "height"],
];

/// Where a table has the edges of boxes, and whether the last two are sizes.
pub fn edges(sheet: &Sheet) -> Option<([usize; 4], bool)> {
    let names: Vec<String> = sheet.columns.iter().map(|name| fold(name).unwrap_or_default()).collect();
    let find = |edges: &[&str; 4]| {
        let at =
            edges.map(|edge| names.iter().position(|name| name == edge || name.strip_prefix("bbox") == Some(edge)));
        let [Some(a), Some(b), Some(c), Some(d)] = at else { return None };
        Some(([a, b, c, d], edges[2] == "width"))
    };
    EDGES.iter().find_map(find)
}

/// The tables of boxes of a data set.
fn tables<'a>(tree: &'a Tree, settings: &Settings) -> Vec<(&'a ScannedFile, Sheet, ListColumns)> {
    let read = |file: &'a ScannedFile| {
        let sheet = sheet::read(&tree.full_path(&file.path)).ok()?;
        let columns = ListColumns::new(&sheet, settings).ok()?;
        let is_list = columns.at(Role::Path).is_some() && columns.at(Role::Class).is_some();
        (is_list && edges(&sheet).is_some()).then_some((file, sheet, columns))
    };
    list::tables(tree, settings).into_iter().filter_map(read).collect()
}

/// Whether a data set has a table of boxes.
pub fn is_there(tree: &Tree, settings: &Settings) -> bool {
    !tables(tree, settings).is_empty()
}

/// Reads them.
///
/// # Errors
/// None.
pub fn read(tree: &Tree, settings: &Settings) -> Result<Annotations> {
    let mut annotations = Annotations::default();
    for (file, sheet, columns) in tables(tree, settings) {
        annotations.files.push(file.path.clone());
        let Some((at, are_sizes)) = edges(&sheet) else { continue };
        let mut problem = |message: String| annotations.problems.push((file.path.clone(), message));
        sheet.bad_rows.iter().for_each(|message| problem(message.clone()));
        let mut images: BTreeMap<&str, Vec<Object>> = BTreeMap::new();
        for row in &sheet.rows {
            let Some(path) = row.value(columns.at(Role::Path)) else {
                problem(format!("row {}: no path", row.number));
                continue;
            };
            let objects = images.entry(path).or_default();
            let text = at.map(|column| row.value(Some(column)));
            if text.iter().all(Option::is_none) {
                // An image without an object.
                continue;
            }
            let numbers = text.map(|text| text.and_then(|text| text.parse::<f64>().ok()));
            let (Some(label), [Some(left), Some(top), Some(right), Some(bottom)]) =
                (row.value(columns.at(Role::Class)), numbers)
            else {
                problem(format!("row {}: expected a class and four numbers", row.number));
                continue;
            };
            let (right, bottom) = if are_sizes { (left + right, top + bottom) } else { (right, bottom) };
            objects.push(Object { label: label.into(), edges: [left, top, right, bottom] });
        }
        let others: Vec<&str> = [Role::Subject, Role::Slide, Role::Given, Role::Subtype]
            .into_iter()
            .filter_map(|role| sheet.columns.get(columns.at(role)?).map(String::as_str))
            .collect();
        if !others.is_empty() {
            problem(format!("columns that are not used beside boxes: {}", others.join(", ")));
        }
        annotations.images.extend(images.into_iter().map(|(path, objects)| Annotated {
            image: vec![path.into()],
            folder: folder(file),
            // The table does not say: the size of the image.
            size_px: Some((0.0, 0.0)),
            source: file.path.clone(),
            objects,
        }));
    }
    Ok(annotations)
}
