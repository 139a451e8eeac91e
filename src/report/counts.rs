//! Table 2: images per class.

use super::paper::{CUK_IMAGES, CUK_SHARES};
use super::{Request, Sheet, Table, notes, thousands};
use crate::class::{Class, Classes};
use crate::dataset;
use crate::error::Result;
use crate::join;
use crate::rows::ManifestRow;
use crate::schema::MANIFEST;
use crate::table;
use crate::text;
use crate::workspace::Workspace;
use std::collections::BTreeSet;

pub(super) struct Counts;

impl Table for Counts {
    fn number(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "images per class"
    }

    fn build(&self, ws: &Workspace, request: &Request) -> Result<Sheet> {
        let present = ws.ingested_datasets()?;
        let names = match &request.dataset {
            Some(name) => vec![ws.choose(Some(name), &present)?],
            // The images of a joint data set are those of its members.
            None => present.into_iter().filter(|name| join::members(ws, name).is_empty()).collect(),
        };
        let datasets = names.iter().map(|name| Counted::read(ws, name)).collect::<Result<Vec<Counted>>>()?;
        // The classes of all data sets: those of the paper first where a data set has them.
        let mut with_paper: Vec<&Counted> = datasets.iter().filter(|d| d.classes.is_wbc5()).collect();
        let like_paper = !with_paper.is_empty();
        with_paper.extend(datasets.iter().filter(|d| !d.classes.is_wbc5()));
        let classes = Classes::new(with_paper.into_iter().flat_map(|d| d.classes.infos().iter().cloned()));
        let mut rows: Vec<Row> = datasets.iter().map(|dataset| dataset.row(&classes)).collect();
        let mut notes = Vec::new();
        let mut summary: Vec<String> = datasets.iter().flat_map(|dataset| dataset.left_out.clone()).collect();
        notes.push("Counts by the data sets' labels, copies and unusable images included".into());
        if like_paper {
            rows.push(Row::paper(&classes));
            notes.push(
                "CUK is the paper's own data set and is not public; its percentages are as printed (neutrophils are \
                 30.6 %)"
                    .into(),
            );
        } else {
            summary.push(notes::other_classes(&classes));
        }
        let title = match classes.is_wbc5() {
            true => "The number of neutrophil, eosinophil, basophil, lymphocyte and monocyte images",
            false => "The number of images of each class",
        };
        let (columns, left, rows) = arranged(&classes, rows);
        let (table, label) = (Some(self.number()), self.number().to_string());
        Ok(Sheet { table, label, title: title.into(), run: None, columns, left, rows, summary, notes })
    }
}

/// The images of a data set.
struct Counted {
    name: String,
    classes: Classes,
    /// Images of each class, in class order.
    images: Vec<u64>,
    /// What is left out, by label.
    left_out: Vec<String>,
}

impl Counted {
    fn read(ws: &Workspace, name: &str) -> Result<Self> {
        let classes = dataset::classes(ws, name)?;
        let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(name), &MANIFEST)?;
        let count = |class: Option<Class>| manifest.iter().filter(|r| r.class == class).count() as u64;
        let images = classes.iter().map(|class| count(Some(class))).collect();
        let labels = dataset::other_labels(&manifest);
        let files = manifest.iter().map(|row| &row.path).collect::<BTreeSet<_>>().len();
        let without_label = count(None) - labels.iter().map(|(_, n)| n).sum::<u64>();
        let without_label =
            (without_label > 0).then(|| format!("{} without a label", text::of(without_label, "image")));
        let other = dataset::left_out_text(&labels, manifest.len() as u64, files as u64);
        let left_out = other.into_iter().chain(without_label).map(|left_out| format!("{name}: {left_out}")).collect();
        Ok(Self { name: name.into(), images, left_out, classes })
    }

    fn row(&self, classes: &Classes) -> Row {
        let all = self.images.iter().sum::<u64>().max(1);
        let cell = |class: Class| {
            let images = self.images[self.classes.index(class)?];
            Some([images, (100.0 * images as f64 / all as f64).round() as u64])
        };
        Row { name: self.name.clone(), cells: classes.iter().map(cell).collect() }
    }
}

/// A data set in the table.
struct Row {
    name: String,
    /// Images of each class and their percentage; `None` for a class that the data set does not have.
    cells: Vec<Option<[u64; 2]>>,
}

impl Row {
    /// CUK as printed.
    fn paper(classes: &Classes) -> Row {
        let paper = Classes::wbc5();
        let cell = |class: Class| paper.index(class).map(|i| [CUK_IMAGES[i], CUK_SHARES[i]]);
        Row { name: "CUK (paper)".into(), cells: classes.iter().map(cell).collect() }
    }

    /// Images of each class, then of all; and their percentages.
    fn texts(&self) -> [Vec<String>; 2] {
        let of = |k: usize, text: fn(u64) -> String| {
            self.cells.iter().map(move |cell| cell.map_or("-".into(), |cell| text(cell[k])))
        };
        let all = self.cells.iter().flatten().map(|cell| cell[0]).sum();
        [
            of(0, thousands).chain([thousands(all)]).collect(),
            of(1, |n| format!("{n} %")).chain(["100 %".into()]).collect(),
        ]
    }
}

/// Columns, which of them have text, and rows: the paper's layout, with a column per class, where the columns fit a
/// terminal; else with a row per class.
fn arranged(classes: &Classes, rows: Vec<Row>) -> (Vec<String>, &'static [usize], Vec<Vec<String>>) {
    const WIDTH: usize = 80;
    let short = notes::short_names(classes);
    let width: usize = short.iter().map(|name| name.chars().count().max(5) + 1).sum();
    let all = ["All".to_string()];
    if width <= WIDTH {
        let columns = ["Data set".to_string(), String::new()].into_iter().chain(short).chain(all).collect();
        let line = |name: &str, unit: &str, cells: Vec<String>| [name.into(), unit.into()].into_iter().chain(cells);
        let two = |row: &Row| {
            let [images, shares] = row.texts();
            [line(&row.name, "images", images).collect(), line("", "distribution", shares).collect()]
        };
        return (columns, &[0, 1], rows.iter().flat_map(two).collect());
    }
    let mut lines: Vec<Vec<String>> =
        classes.iter().map(|class| classes.title(class)).chain(all).map(|title| vec![title]).collect();
    let mut columns = vec!["Class".to_string()];
    for row in rows {
        let [images, shares] = row.texts();
        columns.extend([row.name, "%".into()]);
        for ((line, images), share) in lines.iter_mut().zip(images).zip(shares) {
            line.extend([images, share.trim_end_matches(" %").into()]);
        }
    }
    (columns, &[0], lines)
}
