//! Frames with annotated boxes: Pascal VOC's XML, COCO's JSON, YOLO's text files, tables of boxes. One row per boxed
//! cell. Objects of no class, such as red cells, are counted and left out; white cells of unknown class are rows
//! without a class. A list beside the annotations, or class folders, may have a label per frame, which is that of its
//! cell where one white cell is boxed. Lists, folders and names of annotation files also give patients, slides and
//! roles.

mod boxes;
mod coco;
mod object;
mod voc;
mod yolo;

use super::checks;
use super::facts;
use super::finder::{Finder, FoundBy, are_apart};
use super::folders;
use super::labels::{Vocabulary, is_white_cell};
use super::layout::{Layout, Output};
use super::lists::{self, Need};
use super::pairs::Masks;
use super::settings::Settings;
use super::tree::{ScannedFile, Tree};
use crate::context::Context;
use crate::decode::Orientation;
use crate::error::Result;
use crate::rect::Rect;
use crate::rows::Severity;
use crate::text;
use object::Annotations;
use std::collections::{BTreeMap, BTreeSet};

/// A format of annotations, and how it is read.
pub struct Format {
    name: &'static str,
    looks_for: &'static str,
    /// Whether a data set has annotations in this format.
    is_there: fn(&Tree, &Settings) -> bool,
    read: fn(&Tree, &Settings) -> Result<Annotations>,
}

/// Pascal VOC's XML.
pub static VOC: Format = Format {
    name: "voc",
    looks_for: "images with Pascal VOC annotations (.xml)",
    is_there: |tree, _| voc::files(tree).next().is_some(),
    read: |tree, _| Ok(voc::read(tree)),
};
/// COCO's JSON.
pub static COCO: Format = Format {
    name: "coco",
    looks_for: "images with COCO annotations (.json)",
    is_there: |tree, _| coco::files(tree).next().is_some(),
    read: |tree, _| Ok(coco::read(tree)),
};
/// YOLO's text files.
pub static YOLO: Format = Format {
    name: "yolo",
    looks_for: "images with YOLO annotations (.txt) and the names of their classes (classes.txt or data.yaml)",
    is_there: |tree, _| yolo::files(tree).next().is_some(),
    read: |tree, _| yolo::read(tree),
};
/// Tables with a row per box.
pub static BOXES: Format = Format {
    name: "boxes",
    looks_for: "a list with the columns path,class,xmin,ymin,xmax,ymax",
    is_there: boxes::is_there,
    read: boxes::read,
};

impl Layout for Format {
    fn name(&self) -> &'static str {
        self.name
    }

    fn looks_for(&self) -> &'static str {
        self.looks_for
    }

    fn recognises(&self, tree: &Tree, settings: &Settings, vocabulary: &Vocabulary) -> bool {
        if !(self.is_there)(tree, settings) {
            return false;
        }
        // A few annotated images among others that class folders or a list name do not make the data set.
        let is_otherwise = || {
            let boxes = boxes::files(tree, settings);
            let has_classes =
                |file: &&ScannedFile| !boxes.contains(&file.path) && lists::has_classes(tree, file, settings);
            super::class_folders::has_places(tree, vocabulary) || lists::tables(tree, settings).iter().any(has_classes)
        };
        let images = tree.images().count();
        let annotated = || (self.read)(tree, settings).map_or(images, |annotations| annotations.images.len());
        !(is_otherwise() && annotated() * 2 < images)
    }

    fn read(
        &self,
        tree: &Tree,
        settings: &Settings,
        vocabulary: &Vocabulary,
        _: &Context,
        output: &mut Output,
    ) -> Result<()> {
        rows(tree, settings, vocabulary, (self.read)(tree, settings)?, output)
    }
}

/// Adds the rows of all annotated cells.
fn rows(
    tree: &Tree,
    settings: &Settings,
    vocabulary: &Vocabulary,
    annotations: Annotations,
    output: &mut Output,
) -> Result<()> {
    for path in &annotations.files {
        tree.get(path).into_iter().for_each(|file| output.used(file));
    }
    for (path, message) in &annotations.problems {
        output.issue(path, checks::OBJECTS, Severity::Error, message.clone());
    }
    let masks = Masks::find(tree);
    let images: Vec<&ScannedFile> = tree.images().filter(|file| !masks.contains(&file.path)).collect();
    let finder = Finder::new(tree, &images, &masks);
    let mut guessed = BTreeSet::new();
    let mut objects: BTreeMap<&str, (&ScannedFile, Vec<(String, Rect)>)> = BTreeMap::new();
    let mut seen_in: BTreeMap<&str, &str> = BTreeMap::new();
    let mut roles: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut named_as, mut unclear_images) = (BTreeMap::<&str, &str>::new(), BTreeSet::new());
    let (mut unsure_turns, mut outside, mut reaching) = (BTreeSet::new(), Vec::new(), Vec::new());
    for annotated in &annotations.images {
        let find = |path: &String| match annotated.is_beside {
            true => finder.find_beside(&annotated.folder, path),
            false => finder.find(&annotated.folder, path),
        };
        let file = match annotated.image.iter().map(find).reduce(Result::or) {
            Some(Ok(found)) => {
                if found.by == FoundBy::NameAlone {
                    guessed.insert(format!("{} for {}", found.path, annotated.source));
                }
                tree.get(found.path).expect("it was found in the tree")
            }
            Some(Err(message)) => {
                output.issue(&annotated.source, checks::NO_IMAGE, Severity::Error, message);
                continue;
            }
            None => continue,
        };
        let Ok(header) = &file.header else { continue };
        // Of siteA/1.png and siteB/1.png, one image can be at most one.
        let listed = annotated.image[0].as_str();
        let other = named_as.insert(&file.path, listed).filter(|other| are_apart(other, listed));
        if let Some(other) = other.filter(|_| !annotated.is_beside) {
            let message = format!("{} is the only image for both {other} and {listed}: left out", file.path);
            output.issue(&annotated.source, checks::NO_IMAGE, Severity::Error, message);
            unclear_images.insert(file.path.as_str());
        }
        // labels/train/1.txt gives images/1.png its role.
        let role = annotated.folder.split('/').find_map(folders::role).filter(|_| annotated.is_beside);
        role.into_iter().for_each(|role| _ = roles.insert(&file.path, role));
        if let Some(other) = seen_in.insert(&file.path, &annotated.source)
            && other != annotated.source
        {
            let message = format!("{} is annotated in {other}, too; the boxes of both are used", file.path);
            output.issue(&annotated.source, checks::LISTED_TWICE, Severity::Warning, message);
        }
        let size = (f64::from(header.width_px), f64::from(header.height_px));
        let stored = header.orientation.stored_size(header.width_px, header.height_px);
        let stored = (f64::from(stored.0), f64::from(stored.1));
        // Programs that ignore the note draw boxes on the image as it is stored.
        let is_of_stored = annotated.size_px == Some(stored) && stored != size;
        let is_of_upright = annotated.size_px == Some(size) && stored != size;
        if header.orientation != Orientation::default() && !is_of_stored && !is_of_upright {
            unsure_turns.insert(file.path.as_str());
        }
        let scale = match annotated.size_px {
            _ if is_of_stored => (1.0, 1.0),
            None => size,
            Some(drawn) if drawn == size || drawn.0 <= 0.0 || drawn.1 <= 0.0 => (1.0, 1.0),
            Some((width, height)) => {
                output.used(file);
                let message = format!(
                    "left out: its boxes are for {width} x {height} px, the image has {} x {} px",
                    header.width_px, header.height_px
                );
                output.issue(&file.path, checks::OBJECTS, Severity::Error, message).score = None;
                continue;
            }
        };
        let (_, of_image) = objects.entry(&file.path).or_insert_with(|| (file, Vec::new()));
        for object in &annotated.objects {
            let edges =
                if is_of_stored { header.orientation.upright_edges(object.edges, stored) } else { object.edges };
            match pixels(edges, scale, size) {
                Some(rect) => {
                    let beyond = beyond(edges, scale, size);
                    if beyond > ROUNDED_PX.max(ROUNDED * f64::from(rect.longer_side())) {
                        reaching.push((file.path.as_str(), beyond));
                    }
                    of_image.push((object.label.clone(), rect));
                }
                None => {
                    outside.push(file.path.as_str());
                    let message = format!("{}: a box outside the image or without an area: not used", object.label);
                    let issue = output.issue(&file.path, checks::OBJECTS, Severity::Error, message);
                    issue.related = Some(annotated.source.clone());
                }
            }
        }
    }
    for path in unclear_images {
        objects.remove(path);
        tree.get(path).into_iter().for_each(|file| output.used(file));
    }
    if !outside.is_empty() {
        let n = outside.len() as u64;
        let all: usize = annotations.images.iter().map(|image| image.objects.len()).sum();
        outside.dedup();
        let message = format!(
            "left out: {} of {} whose box is outside the image or without an area: in {}",
            text::thousands(n),
            text::of(all as u64, "annotated object"),
            text::some(outside.iter().copied())
        );
        output.issue("", checks::OBJECTS, Severity::Error, message).score = Some(n as f64);
    }
    if !reaching.is_empty() {
        let n = reaching.len() as u64;
        let all: usize = annotations.images.iter().map(|image| image.objects.len()).sum();
        let farthest = reaching.iter().map(|(_, beyond)| *beyond).fold(0.0, f64::max);
        reaching.dedup_by_key(|(path, _)| *path);
        let message = format!(
            "boxes that reach out of their image, by up to {farthest:.0} px, and are cut at its edge: {} of {}, in {}. \
             Are they of this format, and for these images?",
            text::thousands(n),
            text::thousands(all as u64),
            text::some(reaching.iter().map(|(path, _)| *path))
        );
        output.issue("", checks::OBJECTS, Severity::Warning, message).score = Some(n as f64);
    }
    if !unsure_turns.is_empty() {
        let message = format!(
            "{} turned by a note in the file (EXIF): their boxes are taken as those of the upright image, and have to \
             be inspected: {}",
            if unsure_turns.len() == 1 { "1 image is".into() } else { format!("{} images are", unsure_turns.len()) },
            text::some(unsure_turns.iter().copied())
        );
        output.issue("", checks::OBJECTS, Severity::Warning, message).score = Some(unsure_turns.len() as f64);
    }
    if !guessed.is_empty() {
        let message = format!(
            "{} of folders unlike those of their annotations, found by name alone: {}",
            text::of(guessed.len() as u64, "image"),
            text::some(guessed.iter().map(String::as_str))
        );
        output.issue("", checks::NO_IMAGE, Severity::Warning, message).score = Some(guessed.len() as f64);
    }
    let mut lists = annotations.lists;
    for list in &mut lists {
        list.is_reported = true;
        lists::report_columns(list, output);
    }
    let others = [annotations.files, boxes::files(tree, settings)].concat();
    lists.extend(lists::read(tree, settings, &finder, Need::Nothing, &others, output)?);
    let facts = facts::gather(&images, &lists, &finder, vocabulary, output);
    let frame_label = |path: &str| {
        let of_frame = facts.get(path).filter(|of_frame| !of_frame.is_unclear)?;
        of_frame.label.as_deref().or_else(|| of_frame.folder_label(vocabulary))
    };
    let labelled = objects.keys().filter(|path| frame_label(path).is_some()).count() as u64;
    let only_labelled = |path: &&str| !objects.contains_key(path) && frame_label(path).is_some();
    let without_boxes: Vec<&str> = facts.keys().copied().filter(only_labelled).collect();
    if !without_boxes.is_empty() {
        let message = format!(
            "left out: {} with the label of a list or folder and without annotations, of {}: {}. To use them without \
             boxes: --layout class_folders or list",
            text::of(without_boxes.len() as u64, "image"),
            text::thousands(facts.len() as u64),
            text::some(without_boxes.iter().copied())
        );
        without_boxes.iter().filter_map(|path| tree.get(path)).for_each(|file| output.used(file));
        output.issue("", checks::NO_LABEL, Severity::Warning, message).score = Some(without_boxes.len() as f64);
    }
    // What is a class decides which objects are rows.
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    objects
        .values()
        .flat_map(|(_, objects)| objects)
        .for_each(|(label, _)| *counts.entry(label.clone()).or_default() += 1);
    let is_cell: BTreeSet<&str> =
        counts.keys().map(String::as_str).filter(|label| is_white_cell(label) || vocabulary.is_class(label)).collect();
    // Where no object has a known name, all of them are cells.
    let is_cell = |label: &str| is_cell.is_empty() || is_cell.contains(label);
    let (mut left_out, mut without_cell, mut unclear) = (BTreeMap::new(), 0u64, BTreeMap::new());
    let (mut repeated, mut named, mut contradictions) = (0, 0u64, Vec::new());
    for (file, objects) in objects.values() {
        output.used(file);
        let (mut cells, others): (Vec<_>, Vec<_>) = objects.iter().cloned().partition(|(label, _)| is_cell(label));
        let (n, conflicts) = remove_repeated(&mut cells);
        repeated += n;
        for message in conflicts {
            output.issue(&file.path, checks::OBJECTS, Severity::Error, message);
        }
        others.into_iter().for_each(|(label, _)| *left_out.entry(label).or_insert(0u64) += 1);
        without_cell += u64::from(cells.is_empty());
        let of_frame = frame_label(&file.path);
        let white_cells = cells.iter().filter(|(label, _)| is_white_cell(label)).count();
        for (n, (label, rect)) in cells.iter().enumerate() {
            let mut label = label.as_str();
            if labelled > 0 && is_white_cell(label) {
                match (of_frame.unwrap_or_default(), white_cells) {
                    ("", _) => *unclear.entry("its frame has no label").or_insert(0u64) += 1,
                    (several, _) if several.contains([',', ';', '/', '+', '&']) => {
                        *unclear.entry("its frame has several labels").or_default() += 1;
                    }
                    (one, 1) => (label, named) = (one, named + 1),
                    _ => *unclear.entry("its frame has several white cells and one label").or_default() += 1,
                }
            }
            let number = (cells.len() > 1).then_some(n + 1);
            let Some(row) = output.row(file, number, Some(label)) else { continue };
            row.set_cell_box(Some(*rect));
            row.box_source = Some("annotation".into());
            if let Some(facts) = facts.get(file.path.as_str()) {
                facts.fill(row);
                let of_folder = || roles.get(file.path.as_str()).map(|role| role.to_string());
                row.given_role = row.given_role.take().or_else(of_folder);
                let [of_folder, own] = [facts.folder_label(vocabulary), Some(label)]
                    .map(|label| label.and_then(|label| vocabulary.class_of_subtype(label)));
                if let (Some(of_folder), Some(own)) = (of_folder, own)
                    && of_folder != own
                {
                    contradictions.push(format!("{} is {own}", file.path));
                }
            }
        }
    }
    let all: u64 = counts.values().sum();
    if !left_out.is_empty() {
        let n: u64 = left_out.values().sum();
        let message = format!(
            "left out: {} of {} that are no cells of a class: {}",
            text::thousands(n),
            text::of(all, "annotated object"),
            text::counts(left_out.iter().map(|(label, n)| (label.as_str(), *n)))
        );
        output.issue("", checks::OBJECTS, Severity::Warning, message).score = Some(n as f64);
    }
    if repeated > 0 {
        let message = format!("{} repeated with the same label: used once", text::of(repeated, "object"));
        output.issue("", checks::OBJECTS, Severity::Note, message).score = Some(repeated as f64);
    }
    if without_cell > 0 {
        let message = format!("{} of {} no white cell", text::thousands(without_cell), {
            let frames = text::of(objects.len() as u64, "annotated image");
            if without_cell == 1 { format!("{frames} has") } else { format!("{frames} have") }
        });
        output.issue("", checks::OBJECTS, Severity::Note, message).score = Some(without_cell as f64);
    }
    if named > 0 {
        let cells = text::of(named, "white cell");
        let message = format!("label of the frame or folder: used for {cells}, each the only one boxed in its frame");
        output.issue("", checks::OBJECTS, Severity::Note, message).score = Some(named as f64);
    }
    if !contradictions.is_empty() {
        let message = format!(
            "{} of another class than their folders say; the annotations are followed: {}",
            text::of(contradictions.len() as u64, "cell"),
            text::some(contradictions.iter().map(String::as_str))
        );
        let issue = output.issue("", checks::LIST_AND_FOLDER, Severity::Warning, message);
        issue.score = Some(contradictions.len() as f64);
    }
    if !unclear.is_empty() {
        let reasons = text::counts(unclear.iter().map(|(reason, n)| (*reason, *n)));
        let n: u64 = unclear.values().sum();
        let message = format!("{} without a class: {reasons}", text::of(n, "white cell"));
        output.issue("", checks::NO_LABEL, Severity::Warning, message).score = Some(n as f64);
    }
    masks.report(tree, &BTreeSet::new(), output);
    Ok(())
}

/// Removes boxes that repeat another with the same label, and those of which another has a different label, as neither
/// can be trusted. Returns the number of the first, and sentences on the others.
fn remove_repeated(objects: &mut Vec<(String, Rect)>) -> (u64, Vec<String>) {
    /// Shared area of two boxes around one cell, as a share of the area that either covers.
    const SAME: f64 = 0.8;
    let area = |rect: Rect| f64::from(rect.width) * f64::from(rect.height);
    let same = |a: Rect, b: Rect| {
        let along = |start: u32, end: u32, other: u32, stop: u32| end.min(stop).saturating_sub(start.max(other));
        let width = along(a.x, a.right(), b.x, b.right());
        let shared = f64::from(width) * f64::from(along(a.y, a.bottom(), b.y, b.bottom()));
        shared >= SAME * (area(a) + area(b) - shared)
    };
    let (mut repeated, mut unclear, mut conflicts) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for b in 0..objects.len() {
        for a in (0..b).filter(|a| same(objects[*a].1, objects[b].1)) {
            if objects[a].0 == objects[b].0 {
                repeated.insert(b);
            } else {
                unclear.extend([a, b]);
                conflicts.push(format!("{} and {} as labels of one box: not used", objects[a].0, objects[b].0));
            }
        }
    }
    let n = repeated.difference(&unclear).count() as u64;
    let mut number = 0;
    objects.retain(|_| {
        number += 1;
        !repeated.contains(&(number - 1)) && !unclear.contains(&(number - 1))
    });
    (n, conflicts)
}

/// How far a box reaches out of the image where its numbers were rounded, or its line is thick: px, and share of the
/// longer side.
const ROUNDED_PX: f64 = 2.0;
const ROUNDED: f64 = 0.02;

/// How far a box reaches out of the image, px.
fn beyond(edges: [f64; 4], scale: (f64, f64), size: (f64, f64)) -> f64 {
    let along = |from: f64, to: f64, scale: f64, size: f64| (-from * scale).max(to * scale - size).max(0.0);
    along(edges[0], edges[2], scale.0, size.0).max(along(edges[1], edges[3], scale.1, size.1))
}

/// A box in whole pixels, cut at the edges of the image; `None` if nothing is left.
fn pixels(edges: [f64; 4], scale: (f64, f64), size: (f64, f64)) -> Option<Rect> {
    let along = |from: f64, to: f64, scale: f64, size: f64| {
        let (from, to) = ((from * scale).clamp(0.0, size).round(), (to * scale).clamp(0.0, size).round());
        (to > from).then_some((from as u32, (to - from) as u32))
    };
    let (x, width) = along(edges[0], edges[2], scale.0, size.0)?;
    let (y, height) = along(edges[1], edges[3], scale.1, size.1)?;
    Some(Rect { x, y, width, height })
}

/// Reports annotations that another layout leaves unread.
pub fn report_unused(tree: &Tree, settings: &Settings, layout: &str, output: &mut Output) {
    let formats = [&VOC, &COCO, &YOLO, &BOXES];
    let is_unused = |format: &&&Format| format.name != layout && (format.is_there)(tree, settings);
    for format in formats.iter().filter(is_unused) {
        let Ok(annotations) = (format.read)(tree, settings) else { continue };
        let files: Vec<&ScannedFile> = annotations.files.iter().filter_map(|path| tree.get(path)).collect();
        // A table of boxes is also read as a list.
        files.iter().for_each(|file| output.used(file));
        let message = format!(
            "annotations of {} are not used, as the layout is {layout}: {}. To read them alone: --layout {}",
            text::of(annotations.images.len() as u64, "image"),
            text::some(files.iter().map(|file| file.path.as_str())),
            format.name
        );
        let issue = output.issue("", checks::NOT_USED, Severity::Warning, message);
        issue.score = Some(annotations.images.len() as f64);
    }
    for (path, message) in boxes::unread(tree, settings) {
        output.issue(&path, checks::NOT_USED, Severity::Warning, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_counts_once_and_not_with_two_labels() {
        let object = |label: &str, x: u32| (label.to_string(), Rect { x, y: 10, width: 50, height: 40 });
        let mut objects = vec![object("a", 0), object("a", 1), object("a", 30), object("b", 200), object("c", 202)];
        let (repeated, conflicts) = remove_repeated(&mut objects);
        assert_eq!((repeated, conflicts.len()), (1, 1), "{conflicts:?}");
        assert_eq!(objects, [object("a", 0), object("a", 30)]);
    }
}
