//! Images, masks and a label file, as Jiangxi Tecom's set has them (Zheng et al., Micron 107:55-71, 2018):
//! `images/<nnn>.bmp`, `masks/<nnn>.png` (nucleus white, cytoplasm grey, rest black) and `labels.csv` with the columns
//! `image ID,class label` (1 neutrophil, 2 lymphocyte, 3 monocyte, 4 eosinophil, 5 basophil, or a class's name).

use super::{Found, Layout, SeenFile, Settings, Tree, check, mask_regions, set_box};
use crate::cells::Region;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::rect::Rect;
use crate::rows::Severity;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const LABELS: &str = "labels.csv";
/// What label 1, 2, ... means.
const NUMBERED: [Class; 5] =
    [Class::Neutrophil, Class::Lymphocyte, Class::Monocyte, Class::Eosinophil, Class::Basophil];

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

    fn recognises(&self, tree: &Tree) -> bool {
        let has = |folder: &str| tree.images().any(|f| f.folder() == folder);
        has("images") && (has("masks") || tree.get(LABELS).is_some())
    }

    fn read(&self, tree: &Tree, _: &Settings, ctx: &Context, found: &mut Found) -> Result<()> {
        let images = by_number(tree, "images", found);
        let masks = by_number(tree, "masks", found);
        let labels = labels(tree, found)?;
        // A broken image has its own issue row: its label and mask are not to blame.
        let known: BTreeSet<String> =
            tree.files.iter().filter(|f| f.folder() == "images").map(|f| number(f.stem())).collect();
        for (number, (line, _)) in labels.iter().filter(|(number, _)| !known.contains(*number)) {
            let message = format!("line {line}: no image with the number {number} in images/");
            found.issue(LABELS, check::NO_IMAGE, Severity::Warning, message);
        }
        for (_, mask) in masks.iter().filter(|(number, _)| !known.contains(*number)) {
            let message = "a mask without its image in images/".to_string();
            found.issue(&mask.path, check::NO_IMAGE, Severity::Warning, message);
        }
        let labelled: Vec<_> = images
            .iter()
            .filter_map(|(number, image)| Some((*image, masks.get(number), labels.get(number)?.1)))
            .collect();
        ctx.progress.begin("reading masks", Some(labelled.len() as u64), "masks");
        let boxes: Result<Vec<_>> = labelled
            .par_iter()
            .map(|(image, mask, _)| {
                ctx.check_stop()?;
                let regions = mask.map(|mask| mask_regions(tree, image, mask));
                ctx.progress.advance(1);
                Ok(regions)
            })
            .collect();
        ctx.progress.end();
        for ((image, mask, class), regions) in labelled.into_iter().zip(boxes?) {
            let Some(row) = found.row(image, None, Some(class)) else { continue };
            match (mask, regions) {
                (Some(mask), Some(Ok(regions))) => {
                    row.mask_path = Some(mask.path.clone());
                    set_box(row, around(&regions), "mask");
                }
                (Some(mask), Some(Err(message))) => {
                    found.issue(&mask.path, check::BAD_MASK, Severity::Warning, message).related =
                        Some(image.path.clone());
                }
                _ => {
                    let message = "no mask of this number in masks/; the row has no box".to_string();
                    found.issue(&image.path, check::NO_MASK, Severity::Warning, message);
                }
            }
        }
        Ok(())
    }
}

/// The smallest rectangle around all of `regions` (at least one).
fn around(regions: &[Region]) -> Rect {
    regions[1..].iter().fold(regions[0].rect, |rect, region| rect.union(region.rect))
}

/// `007` and `7` are the same number.
fn number(name: &str) -> String {
    match name.trim().trim_start_matches('0') {
        "" if !name.trim().is_empty() => "0".into(),
        number => number.to_lowercase(),
    }
}

/// The images in `folder` by number.
fn by_number<'a>(tree: &'a Tree, folder: &str, found: &mut Found) -> BTreeMap<String, &'a SeenFile> {
    let mut files: BTreeMap<String, &SeenFile> = BTreeMap::new();
    for file in tree.images().filter(|f| f.folder() == folder) {
        match files.entry(number(file.stem())) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                if folder == "masks" {
                    found.used(file);
                }
                entry.insert(file);
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                found.used(file);
                let message = format!("has the same number as {}, which is used", entry.get().path);
                found.issue(&file.path, check::LISTED_TWICE, Severity::Warning, message).related =
                    Some(entry.get().path.clone());
            }
        }
    }
    files
}

/// Line and class of every image number in the label file; rows that cannot be read become issues.
fn labels(tree: &Tree, found: &mut Found) -> Result<BTreeMap<String, (u64, Class)>> {
    let Some(file) = tree.get(LABELS) else {
        found.issue("", check::NO_LABEL, Severity::Error, format!("no {LABELS}: nothing gives the images a class"));
        return Ok(BTreeMap::new());
    };
    found.used(file);
    let path = tree.full_path(LABELS);
    let text = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(&text[..]);
    let mut labels: BTreeMap<String, (u64, Class)> = BTreeMap::new();
    let mut conflicts = BTreeSet::new();
    for (i, record) in reader.records().enumerate() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                found.issue(LABELS, check::BAD_ROW, Severity::Error, format!("row {}: {error}", i + 1));
                continue;
            }
        };
        let line = record.position().map_or(0, |p| p.line());
        let (id, label) = (record.get(0).unwrap_or(""), record.get(1).unwrap_or(""));
        if id.is_empty() || label.is_empty() || record.len() != 2 {
            let cells: Vec<&str> = record.iter().collect();
            let message = format!("line {line}: expected `image ID,class label`, found `{}`", cells.join(","));
            found.issue(LABELS, check::BAD_ROW, Severity::Error, message);
            continue;
        }
        let numbered = label.parse::<usize>().ok().and_then(|n| NUMBERED.get(n.wrapping_sub(1)).copied());
        let Some(class) = numbered.or_else(|| Class::parse(label)) else {
            let message = format!("line {line}: expected a label of 1 to 5 or a class's name, found `{label}`");
            found.issue(LABELS, check::UNKNOWN_CLASS, Severity::Error, message);
            continue;
        };
        if let Some((before, other)) = labels.insert(number(id), (line, class)) {
            if other != class {
                conflicts.insert(number(id));
            }
            let message = format!("line {line}: image {id} is {class} here and {other} in line {before}");
            found.issue(LABELS, check::LISTED_TWICE, Severity::Error, message);
        }
    }
    // Neither of two labels can be trusted.
    labels.retain(|number, _| !conflicts.contains(number));
    Ok(labels)
}
