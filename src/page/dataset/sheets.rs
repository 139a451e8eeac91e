//! The tables and figures of a data set's page.

use super::summary::{ClassSummary, Summary};
use super::tables::Tables;
use crate::class::Classes;
use crate::figure::{dataset_plots, svg::Figure};
use crate::report::{Sheet, thousands};
use crate::rows::ManifestRow;
use std::collections::BTreeMap;

/// Rows of a table of sizes, formats and the like; the rarest are added up in one row.
const KINDS: usize = 8;
/// Classes that fit as columns of a table; more become its rows.
const COLUMNS: usize = 8;

/// Cells per class, and the size of their boxes.
pub(super) fn class_figures(tables: &Tables, summary: &Summary) -> Vec<Figure> {
    let counts: Vec<[u64; 2]> = summary.classes.iter().map(|class| [class.usable(), class.left_out]).collect();
    let side = |row: &ManifestRow| row.cell_box().map(|rect| f64::from(rect.longer_side()));
    let of_class = |class| tables.rows.iter().filter(|r| r.class == Some(class)).filter_map(side).collect();
    let sides: Vec<Vec<f64>> = tables.classes.iter().map(of_class).collect();
    let caption = "Longer side of each cell's box, one dot per cell; the line is the class's median. A class whose \
                   boxes are larger or smaller than its cells stands out here.";
    let boxes =
        dataset_plots::strips("Size of the cells' boxes", "longer side, px", caption.into(), &tables.classes, &sides);
    std::iter::once(dataset_plots::classes(&tables.classes, &counts)).chain(boxes).collect()
}

/// Cells and groups per class; and sizes, formats and sources of boxes where there are several.
pub(super) fn class_sheets(tables: &Tables, summary: &Summary) -> Vec<Sheet> {
    let row = |class: &ClassSummary| {
        let subtypes: Vec<String> = class.subtypes.iter().map(|(s, n)| format!("{s} {}", thousands(*n))).collect();
        let numbers = [class.cells, class.left_out, class.usable(), class.groups].map(thousands);
        std::iter::once(tables.classes.title(class.class)).chain(numbers).chain([subtypes.join(", ")]).collect()
    };
    let columns = ["Class", "Cells", "Not used", "Usable", "Groups", "Subtypes"].map(String::from);
    let rows: Vec<Vec<String>> = summary.classes.iter().map(row).collect();
    let mut classes = Sheet::plain("classes", "Cells and groups per class", columns, rows);
    classes.left = &[0, 5];
    let sum = |count: fn(&ClassSummary) -> u64| summary.classes.iter().map(count).sum::<u64>();
    let all = [sum(|c| c.cells), sum(|c| c.left_out), sum(ClassSummary::usable), summary.groups];
    classes.rows.push(std::iter::once("All".into()).chain(all.map(thousands)).chain([String::new()]).collect());
    if summary.classes.iter().all(|class| class.subtypes.is_empty()) {
        classes.columns.pop();
        classes.rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    let size = |r: &ManifestRow| Some(format!("{} x {}", r.width_px, r.height_px));
    let sheets = [
        by_class(tables, "Cells by image size and class", "Size, px", size),
        by_class(tables, "Cells by file format and class", "Format", |r| Some(r.format.clone())),
        by_class(tables, "Cells by source of their boxes and class", "Boxes", |r| r.box_source.clone()),
    ];
    std::iter::once(classes).chain(sheets.into_iter().flatten()).collect()
}

/// Mean and deviation of each class's colours.
pub(super) fn colour_sheet(tables: &Tables, summary: &Summary) -> Sheet {
    let both = |mean: [f64; 3], deviation: [f64; 3]| {
        (0..3).map(|c| format!("{:.0} ± {:.0}", mean[c], deviation[c])).collect::<Vec<_>>()
    };
    let row = |class: &ClassSummary| {
        let cells = class.colour.as_ref().map_or(vec!["-".to_string(); 6], |colour| {
            [both(colour.mean, colour.deviation), both(colour.background, colour.background_deviation)].concat()
        });
        std::iter::once(tables.classes.title(class.class)).chain(cells).collect()
    };
    let channels = ["red", "green", "blue"];
    let columns = ["Cell", "Background"].into_iter().flat_map(|part| channels.map(|c| format!("{part}, {c}")));
    let columns = std::iter::once("Class".to_string()).chain(columns);
    Sheet::plain("colour", "Colour of each class, grey levels", columns, summary.classes.iter().map(row))
}

/// Test images of each fold and class.
pub(super) fn folds_sheet(classes: &Classes, summary: &Summary) -> Sheet {
    let folds = summary.folds.iter().enumerate().map(|(i, counts)| (format!("Fold {i}"), counts.clone()));
    let outside = [("Held out of all folds", &summary.held_out), ("Only trained on", &summary.training)];
    let outside = outside.into_iter().filter(|(_, counts)| !counts.is_empty());
    let rows = folds.chain(outside.map(|(name, counts)| (name.to_string(), counts.clone())));
    counts_sheet("Test images of each fold and class", "Fold", classes, rows.collect())
}

/// Cells by a property and class; `None` where all cells have the same.
fn by_class(
    tables: &Tables,
    title: &str,
    head: &str,
    property: impl Fn(&ManifestRow) -> Option<String>,
) -> Option<Sheet> {
    let classes = &tables.classes;
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in &tables.rows {
        if let (Some(kind), Some(class)) = (property(row), row.class.and_then(|class| classes.index(class))) {
            counts.entry(kind).or_insert_with(|| vec![0; classes.len()])[class] += 1;
        }
    }
    let mut kinds: Vec<(String, Vec<u64>)> = counts.into_iter().collect();
    if kinds.len() < 2 {
        return None;
    }
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(n.iter().sum::<u64>()));
    if kinds.len() > KINDS {
        let rare = kinds.split_off(KINDS - 1);
        kinds.push((format!("{} others", rare.len()), sums(classes, &rare)));
    }
    Some(counts_sheet(title, head, classes, kinds))
}

/// The sum of the counts of each class.
fn sums(classes: &Classes, counts: &[(String, Vec<u64>)]) -> Vec<u64> {
    (0..classes.len()).map(|class| counts.iter().map(|(_, n)| n[class]).sum()).collect()
}

/// Counts per class, with their sums: one column per class, or one row where they are many.
fn counts_sheet(title: &str, head: &str, classes: &Classes, mut counts: Vec<(String, Vec<u64>)>) -> Sheet {
    counts.push(("All".into(), sums(classes, &counts)));
    counts.iter_mut().for_each(|(_, counts)| counts.push(counts.iter().sum()));
    let titles: Vec<String> = classes.iter().map(|class| classes.title(class)).chain(["All".into()]).collect();
    let label = head.to_lowercase();
    if classes.len() <= COLUMNS {
        let row = |(name, counts): (String, Vec<u64>)| {
            std::iter::once(name).chain(counts.into_iter().map(thousands)).collect()
        };
        let columns = std::iter::once(head.to_string()).chain(titles);
        return Sheet::plain(&label, title, columns, counts.into_iter().map(row));
    }
    let row = |(i, class): (usize, String)| {
        std::iter::once(class).chain(counts.iter().map(|(_, counts)| thousands(counts[i]))).collect::<Vec<_>>()
    };
    let columns = std::iter::once("Class".to_string()).chain(counts.iter().map(|(name, _)| name.clone()));
    Sheet::plain(&label, title, columns, titles.into_iter().enumerate().map(row))
}
