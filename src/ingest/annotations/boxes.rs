//! Lists of boxes: a table with a row per object, the path of its image, its class, and its box in four columns or one,
//! px or shares of the image.

use super::object::{Annotated, Annotations, Object, folder};
use crate::class::set::fold;
use crate::error::Result;
use crate::ingest::columns::{ListColumns, Role};
use crate::ingest::finder::Finder;
use crate::ingest::lists::{self, UsedList};
use crate::ingest::pairs::Masks;
use crate::ingest::settings::Settings;
use crate::ingest::sheet::{Sheet, SheetRow};
use crate::ingest::tree::{ScannedFile, Tree};
use std::collections::BTreeMap;

/// What the four numbers of a box are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Left, top, right, bottom.
    Corners,
    /// Left, top, width, height.
    Size,
    /// The middle, width, height.
    Centre,
}

use Reading::{Centre, Corners, Size};

/// Names of the columns with a box, as [`fold`] writes them, and what they may be.
const BOXES: [([&str; 4], &[Reading]); 16] = [
    (["xmin", "ymin", "xmax", "ymax"], &[Corners]),
    (["x1", "y1", "x2", "y2"], &[Corners]),
    (["x0", "y0", "x1", "y1"], &[Corners]),
    (["left", "top", "right", "bottom"], &[Corners]),
    (["left", "top", "width", "height"], &[Size]),
    (["left", "top", "w", "h"], &[Size]),
    (["xmin", "ymin", "width", "height"], &[Size]),
    (["xmin", "ymin", "w", "h"], &[Size]),
    (["xcenter", "ycenter", "width", "height"], &[Centre]),
    (["xcentre", "ycentre", "width", "height"], &[Centre]),
    (["xcenter", "ycenter", "w", "h"], &[Centre]),
    (["centerx", "centery", "width", "height"], &[Centre]),
    (["cx", "cy", "width", "height"], &[Centre]),
    (["cx", "cy", "w", "h"], &[Centre]),
    (["x", "y", "width", "height"], &[Size, Centre]),
    (["x", "y", "w", "h"], &[Size, Centre]),
];
/// Names of the columns with the size of the image that the boxes were drawn on.
const SIZES: [[&str; 2]; 3] = [["width", "height"], ["imagewidth", "imageheight"], ["imgwidth", "imgheight"]];
/// Names of a column with all four numbers.
const BOX: [&str; 5] = ["bbox", "box", "boundingbox", "bndbox", "bboxes"];

/// Where a table has boxes.
struct BoxColumns {
    /// Four columns, or one.
    at: Vec<usize>,
    readings: &'static [Reading],
}

impl BoxColumns {
    fn find(sheet: &Sheet) -> Option<BoxColumns> {
        let names: Vec<String> = sheet.columns.iter().map(|name| fold(name).unwrap_or_default()).collect();
        let position =
            |edge: &str| names.iter().position(|name| name == edge || name.strip_prefix("bbox") == Some(edge));
        let four = BOXES.iter().find_map(|(edges, readings)| {
            let at: Vec<usize> = edges.iter().filter_map(|edge| position(edge)).collect();
            (at.len() == 4).then_some(BoxColumns { at, readings })
        });
        let one = || {
            let at = names.iter().position(|name| BOX.contains(&name.as_str()))?;
            Some(BoxColumns { at: vec![at], readings: &[Corners, Size, Centre] })
        };
        four.or_else(one)
    }

    /// The columns with the size of the image. Where they have that of the box in every row, it is not the image's.
    fn sizes(&self, sheet: &Sheet, reading: Reading) -> Option<[usize; 2]> {
        /// Some count the last pixel, some do not.
        const ROUNDED_PX: f64 = 1.5;
        let names: Vec<String> = sheet.columns.iter().map(|name| fold(name).unwrap_or_default()).collect();
        let position = |name: &str| (0..names.len()).find(|at| names[*at] == name && !self.at.contains(at));
        let sizes = SIZES.iter().find_map(|[width, height]| Some([position(width)?, position(height)?]))?;
        let of_box = |row: &SheetRow| {
            let [left, top, right, bottom] = edges(reading, self.numbers(row)?);
            let [width, height] = [row.value(Some(sizes[0]))?.parse().ok()?, row.value(Some(sizes[1]))?.parse().ok()?];
            let near = |of_box: f64, given: f64| (of_box - given).abs() <= ROUNDED_PX;
            Some(near(right - left, width) && near(bottom - top, height))
        };
        (!sheet.rows.iter().filter_map(of_box).all(|is_of_box| is_of_box)).then_some(sizes)
    }

    fn names<'a>(&self, sheet: &'a Sheet) -> Vec<&'a str> {
        self.at.iter().map(|at| sheet.columns[*at].as_str()).collect()
    }

    /// Whether a row has no box.
    fn is_empty(&self, row: &SheetRow) -> bool {
        self.at.iter().all(|at| row.value(Some(*at)).is_none())
    }

    /// The numbers of a row's box.
    fn numbers(&self, row: &SheetRow) -> Option<[f64; 4]> {
        let texts: Vec<&str> = self.at.iter().map(|at| row.value(Some(*at))).collect::<Option<_>>()?;
        let texts = match texts[..] {
            [text] => {
                let inside = text.trim_matches(|c: char| "[](){} ".contains(c));
                inside.split([',', ';', ' ']).filter(|part| !part.is_empty()).collect()
            }
            _ => texts,
        };
        texts.iter().map(|text| text.parse().ok()).collect::<Option<Vec<f64>>>()?.try_into().ok()
    }

    /// The only reading with which all boxes lie inside their images, whose sizes `size` returns.
    fn reading(&self, sheet: &Sheet, size: &dyn Fn(&SheetRow) -> Option<(f64, f64)>) -> Option<Reading> {
        if let [reading] = self.readings {
            return Some(*reading);
        }
        let numbers: Vec<_> = sheet.rows.iter().filter_map(|row| Some((self.numbers(row)?, size(row)?))).collect();
        let are_shares = are_shares(numbers.iter().map(|(numbers, _)| numbers));
        let fits = |reading: &&Reading| {
            numbers.iter().all(|(numbers, (width, height))| {
                let (width, height) = if are_shares { (1.0, 1.0) } else { (*width, *height) };
                // Edges are rounded.
                let slack = if are_shares { 0.01 } else { 1.0 };
                let [left, top, right, bottom] = edges(**reading, *numbers);
                left >= -slack
                    && top >= -slack
                    && right <= width + slack
                    && bottom <= height + slack
                    && right > left
                    && bottom > top
            })
        };
        let mut fitting = self.readings.iter().filter(fits);
        let first = fitting.next().filter(|_| !numbers.is_empty())?;
        fitting.next().is_none().then_some(*first)
    }
}

/// Whether all numbers are shares of images.
fn are_shares<'a>(mut numbers: impl Iterator<Item = &'a [f64; 4]>) -> bool {
    numbers.all(|numbers| numbers.iter().all(|number| (-0.01..=1.01).contains(number)))
}

/// Left, top, right and bottom edge.
fn edges(reading: Reading, [a, b, c, d]: [f64; 4]) -> [f64; 4] {
    match reading {
        Corners => [a, b, c, d],
        Size => [a, b, a + c, b + d],
        Centre => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
    }
}

/// A table of boxes.
struct Table<'a> {
    file: &'a ScannedFile,
    sheet: Sheet,
    columns: ListColumns,
    boxes: BoxColumns,
    /// None where the names and the numbers leave open which it is.
    reading: Option<Reading>,
}

/// The tables of boxes of a data set.
fn tables<'a>(tree: &'a Tree, settings: &Settings) -> Vec<Table<'a>> {
    let read = |file: &'a ScannedFile| {
        let sheet = tree.sheet(file).ok()?;
        let columns = ListColumns::new(&sheet, settings).ok()?;
        let is_list = columns.at(Role::Path).is_some() && columns.at(Role::Class).is_some();
        let boxes = BoxColumns::find(&sheet).filter(|_| is_list)?;
        Some(Table { file, sheet, columns, boxes, reading: None })
    };
    let mut tables: Vec<Table> = lists::tables(tree, settings).into_iter().filter_map(read).collect();
    if tables.is_empty() {
        return tables;
    }
    let masks = Masks::find(tree);
    let images: Vec<&ScannedFile> = tree.images().filter(|file| !masks.contains(&file.path)).collect();
    let finder = Finder::new(tree, &images, &masks);
    for table in &mut tables {
        let folder = folder(table.file);
        let path = table.columns.at(Role::Path);
        let size = |row: &SheetRow| {
            let file = tree.get(finder.find(&folder, row.value(path)?).ok()?.path)?;
            let header = file.header.as_ref().ok()?;
            Some((f64::from(header.width_px), f64::from(header.height_px)))
        };
        table.reading = table.boxes.reading(&table.sheet, &size);
    }
    tables
}

/// The paths of the tables that are read as boxes.
pub fn files(tree: &Tree, settings: &Settings) -> Vec<String> {
    let read = tables(tree, settings).into_iter().filter(|table| table.reading.is_some());
    read.map(|table| table.file.path.clone()).collect()
}

/// Whether a data set has a table of boxes.
pub fn is_there(tree: &Tree, settings: &Settings) -> bool {
    tables(tree, settings).iter().any(|table| table.reading.is_some())
}

/// Tables whose boxes cannot be read, with their columns: path and message.
pub fn unread(tree: &Tree, settings: &Settings) -> Vec<(String, String)> {
    let unread = tables(tree, settings).into_iter().filter(|table| table.reading.is_none());
    let message = |table: Table| {
        let message = format!(
            "boxes that are not read, as {} may hold corners, a corner and a size, or the middle and a size: name the \
             columns xmin,ymin,xmax,ymax, or left,top,width,height, or x_center,y_center,width,height",
            table.boxes.names(&table.sheet).join(", ")
        );
        (table.file.path.clone(), message)
    };
    unread.map(message).collect()
}

/// Reads them.
///
/// # Errors
/// [`crate::error::Error::Format`] where it cannot be known which column is meant.
pub fn read(tree: &Tree, settings: &Settings) -> Result<Annotations> {
    let mut annotations = Annotations::default();
    for Table { file, sheet, mut columns, boxes, reading } in tables(tree, settings) {
        let Some(reading) = reading else { continue };
        columns.check(&tree.full_path(&file.path))?;
        annotations.files.push(file.path.clone());
        let mut problem = |message: String| annotations.problems.push((file.path.clone(), message));
        sheet.bad_rows.iter().for_each(|message| problem(message.clone()));
        let sizes = boxes.sizes(&sheet, reading);
        let mut images: BTreeMap<&str, (Vec<Object>, Option<(f64, f64)>)> = BTreeMap::new();
        let numbers: Vec<[f64; 4]> = sheet.rows.iter().filter_map(|row| boxes.numbers(row)).collect();
        for row in &sheet.rows {
            let Some(path) = row.value(columns.at(Role::Path)) else {
                problem(format!("row {}: no path", row.number));
                continue;
            };
            let (objects, size) = images.entry(path).or_default();
            let number = |at: usize| row.value(Some(at))?.parse().ok();
            *size = size.or_else(|| sizes.and_then(|[width, height]| Some((number(width)?, number(height)?))));
            if boxes.is_empty(row) {
                // An image without an object.
                continue;
            }
            let (Some(label), Some(numbers)) = (row.value(columns.at(Role::Class)), boxes.numbers(row)) else {
                problem(format!("row {}: expected a class and four numbers", row.number));
                continue;
            };
            objects.push(Object { label: label.into(), edges: edges(reading, numbers) });
        }
        if let Some(at) = columns.at(Role::Subtype) {
            problem(format!("a column that is not used beside boxes: {}", sheet.columns[at]));
        }
        // Where the table does not say for which size: that of the image.
        let are_shares = are_shares(numbers.iter());
        annotations.images.extend(images.into_iter().map(|(path, (objects, size))| Annotated {
            image: vec![path.into()],
            folder: folder(file),
            is_beside: false,
            size_px: (!are_shares).then(|| size.unwrap_or((0.0, 0.0))),
            source: file.path.clone(),
            objects,
        }));
        columns.use_names(&boxes.names(&sheet));
        let of_sizes = sizes.map_or(Vec::new(), |sizes| sizes.map(|at| sheet.columns[at].as_str()).to_vec());
        columns.use_names(&of_sizes);
        columns.use_names(&[columns.at(Role::Class).map_or("", |at| sheet.columns[at].as_str())]);
        let columns = columns.without(Role::Class).without(Role::Subtype);
        annotations.lists.push(UsedList::new(file, sheet, columns));
    }
    Ok(annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_where_they_can_mean_one_thing() {
        let reading = |columns: &[&str], rows: &[&[&str]]| {
            let row = |values: &&[&str]| SheetRow { number: 1, values: values.iter().map(|v| v.to_string()).collect() };
            let sheet = Sheet {
                columns: columns.iter().map(|name| name.to_string()).collect(),
                rows: rows.iter().map(row).collect(),
                bad_rows: Vec::new(),
                latin1: false,
            };
            BoxColumns::find(&sheet)?.reading(&sheet, &|_| Some((100.0, 80.0)))
        };
        assert_eq!(reading(&["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"], &[]), Some(Corners));
        assert_eq!(reading(&["x_min", "y_min", "width", "height"], &[]), Some(Size));
        let xywh = ["x", "y", "w", "h"];
        assert_eq!(reading(&xywh, &[&["40", "40", "20", "20"]]), None);
        assert_eq!(reading(&xywh, &[&["40", "40", "20", "20"], &["5", "40", "20", "20"]]), Some(Size));
        assert_eq!(reading(&xywh, &[&["90", "40", "20", "20"]]), Some(Centre));
        assert_eq!(reading(&["bbox"], &[&["[40, 40, 20, 20]"]]), None);
        assert_eq!(reading(&["bbox"], &[&["[40, 40, 90, 70]"]]), Some(Corners));
        assert_eq!(reading(&["bbox"], &[&["(50 40 60 60)"], &["(50 40 60 50)"]]), None);
        assert_eq!(reading(&["bbox"], &[&["5;5;4;60"], &["1;5;9;9"]]), Some(Size));
    }
}
