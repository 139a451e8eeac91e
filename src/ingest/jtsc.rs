//! Images, masks and a label file, as in the data set of Jiangxi Tecom (Zheng et al., Micron 107:55-71, 2018):
//! `images/<nnn>.bmp`, `masks/<nnn>.png` (nucleus white, cytoplasm grey, background black) and `labels.csv` with the
//! columns `image ID,class label` (1 neutrophil, 2 lymphocyte, 3 monocyte, 4 eosinophil, 5 basophil, or a class name).
//! Other lists with masks are read as [`super::list`] does.

use super::checks;
use super::labels::Vocabulary;
use super::layout::{Layout, Output};
use super::masks::{around, mask_regions, set_box};
use super::settings::Settings;
use super::sheet;
use super::tree::{ScannedFile, Tree};
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::rows::Severity;
use std::collections::{BTreeMap, BTreeSet};

const LABELS: &str = "labels.csv";
/// The classes of the labels 1, 2, ...
const NUMBERED: [Class; 5] =
    [Class::NEUTROPHIL, Class::LYMPHOCYTE, Class::MONOCYTE, Class::EOSINOPHIL, Class::BASOPHIL];

pub struct Jtsc;

impl Layout for Jtsc {
    fn name(&self) -> &'static str {
        "jtsc"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["images_masks_labels"]
    }

    fn looks_for(&self) -> &'static str {
        "images/, masks/ and labels.csv with the columns `image ID,class label`"
    }

    fn recognises(&self, tree: &Tree, _: &Settings, _: &Vocabulary) -> bool {
        let has = |folder: &str| tree.images().any(|f| f.folder() == folder);
        // Numbers mean these classes in this data set only, so the header and the masks have to be its own.
        has("images")
            && has("masks")
            && tree.get(LABELS).is_some_and(|labels| tree.sheet(labels).is_ok_and(|sheet| is_own(&sheet)))
    }

    fn read(&self, tree: &Tree, _: &Settings, _: &Vocabulary, ctx: &Context, output: &mut Output) -> Result<()> {
        let images = by_number(tree, "images", output);
        let masks = by_number(tree, "masks", output);
        let labels = labels(tree, output)?;
        // Also images that cannot be decoded: they have an issue of their own, and their label and mask are in order.
        let known: BTreeSet<String> =
            tree.files.iter().filter(|f| f.folder() == "images").map(|f| number(f.stem())).collect();
        for (number, (line, _)) in labels.iter().filter(|(number, _)| !known.contains(*number)) {
            let message = format!("line {line}: no image with the number {number} in images/");
            output.issue(LABELS, checks::NO_IMAGE, Severity::Warning, message);
        }
        for (_, mask) in masks.iter().filter(|(number, _)| !known.contains(*number)) {
            let message = "no image with this number in images/".to_string();
            output.issue(&mask.path, checks::NO_IMAGE, Severity::Warning, message);
        }
        let labelled: Vec<_> = images
            .iter()
            .filter_map(|(number, image)| {
                Some((image.path.as_str(), (*image, masks.get(number), labels.get(number)?.1.as_str())))
            })
            .collect();
        let read = |(image, mask, _): &(&ScannedFile, Option<&&ScannedFile>, &str)| {
            mask.map(|mask| mask_regions(tree, image, mask, 0))
        };
        let regions = tree.each("masks", ("reading masks", "masks"), &labelled, read, ctx)?;
        for ((_, (image, mask, label)), regions) in labelled.into_iter().zip(regions) {
            let Some(row) = output.row(image, None, Some(label)) else { continue };
            match (mask, regions) {
                (Some(mask), Some(Ok(regions))) => {
                    row.mask_path = Some(mask.path.clone());
                    set_box(row, around(&regions), "mask");
                }
                (Some(mask), Some(Err(message))) => {
                    output.issue(&mask.path, checks::BAD_MASK, Severity::Warning, message).related =
                        Some(image.path.clone());
                }
                _ => {
                    let message = "no mask with this number in masks/; the row has no box".to_string();
                    output.issue(&image.path, checks::NO_MASK, Severity::Warning, message);
                }
            }
        }
        numbers(output);
        Ok(())
    }
}

/// Reads the numbers among the labels of all rows as the classes of Jiangxi Tecom's and CellaVision's data sets, and
/// says so. Another number shows that they are those of another data set, and have to be explained.
pub fn numbers(output: &mut Output) {
    let labels = output.rows.iter().filter_map(|row| row.label.as_deref());
    let mut numbers = labels.filter_map(|label| label.trim().parse::<f64>().ok());
    if numbers.any(|number| !(1..=NUMBERED.len()).any(|known| known as f64 == number)) {
        return;
    }
    let codes: Vec<(String, Class)> = (1..).map(|n: u32| n.to_string()).zip(NUMBERED).collect();
    let text = codes.iter().map(|(number, class)| format!("{number} {class}")).collect::<Vec<_>>().join(", ");
    output.issue("", checks::CODES, Severity::Note, format!("numbers as labels are read as {text}"));
    output.codes.extend(codes);
}

/// Whether a table has the header `image ID,class label` (Jiangxi Tecom) or `image ID,class` (CellaVision).
pub fn is_own(sheet: &sheet::Sheet) -> bool {
    let header: Vec<String> = sheet.columns.iter().map(|name| name.to_lowercase()).collect();
    header == ["image id", "class label"] || header == ["image id", "class"]
}

/// The number in a file name: `007` and `7` are equal.
fn number(name: &str) -> String {
    match name.trim().trim_start_matches('0') {
        "" if !name.trim().is_empty() => "0".into(),
        number => number.to_lowercase(),
    }
}

/// The images in `folder` by number.
fn by_number<'a>(tree: &'a Tree, folder: &str, output: &mut Output) -> BTreeMap<String, &'a ScannedFile> {
    let mut files: BTreeMap<String, &ScannedFile> = BTreeMap::new();
    for file in tree.images().filter(|f| f.folder() == folder) {
        match files.entry(number(file.stem())) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                if folder == "masks" {
                    output.used(file);
                }
                entry.insert(file);
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                output.used(file);
                let message = format!("has the same number as {}, which is used instead", entry.get().path);
                output.issue(&file.path, checks::LISTED_TWICE, Severity::Warning, message).related =
                    Some(entry.get().path.clone());
            }
        }
    }
    files
}

/// Line and label of every image number in the label file. Rows that cannot be read become issues.
fn labels(tree: &Tree, output: &mut Output) -> Result<BTreeMap<String, (u64, String)>> {
    let Some(file) = tree.get(LABELS) else {
        let path = tree.full_path(LABELS);
        return Err(Error::missing(Input::ImageList, path).with_hint("It has the columns image ID,class label"));
    };
    output.used(file);
    let sheet = tree.sheet(file)?;
    for message in &sheet.bad_rows {
        output.issue(LABELS, checks::BAD_ROW, Severity::Error, message.clone());
    }
    let mut labels: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut conflicts = BTreeSet::new();
    for row in &sheet.rows {
        let line = row.number;
        let (Some(id), Some(label), 2) = (row.value(Some(0)), row.value(Some(1)), row.values.len()) else {
            let found = row.values.join(",");
            let message = format!("line {line}: expected `image ID,class label`, found `{found}`");
            output.issue(LABELS, checks::BAD_ROW, Severity::Error, message);
            continue;
        };
        if let Some((before, other)) = labels.insert(number(id), (line, label.into())) {
            if other != label {
                conflicts.insert(number(id));
            }
            let message = format!("line {line}: image {id} is {label} here and {other} in line {before}");
            output.issue(LABELS, checks::LISTED_TWICE, Severity::Error, message);
        }
    }
    // If there are two labels, neither can be trusted.
    labels.retain(|number, _| !conflicts.contains(number));
    Ok(labels)
}
