//! Folders named after the classes, as in CUK, PBC (Acevedo et al., Data in Brief 30:105474, 2020) and most other data
//! sets. In PBC, the prefix of the file name is the subtype.

use super::checks;
use super::facts;
use super::folders;
use super::labels::Vocabulary;
use super::layout::{Layout, Output};
use super::lists;
use super::pairs::Masks;
use super::settings::Settings;
use super::tree::{ScannedFile, Tree};
use crate::class::Class;
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use crate::text;
use std::collections::{BTreeMap, HashSet};

/// Prefixes of PBC's file names and their classes. `NEUTROPHIL` stands for neutrophils of unknown segmentation.
const PBC_CODES: [(&str, &str); 14] = [
    ("BNE", "neutrophil"),
    ("SNE", "neutrophil"),
    ("NEUTROPHIL", "neutrophil"),
    ("NEUTRO", "neutrophil"),
    ("EO", "eosinophil"),
    ("BA", "basophil"),
    ("LY", "lymphocyte"),
    ("MO", "monocyte"),
    ("IG", "ig"),
    ("MMY", "ig"),
    ("MY", "ig"),
    ("PMY", "ig"),
    ("ERB", "erythroblast"),
    ("PLATELET", "platelet"),
];

/// The class that a prefix of PBC's file names belongs to.
pub fn class_of_code(code: &str) -> Option<Class> {
    PBC_CODES.iter().find(|(known, _)| *known == code).map(|(_, class)| Class::new(class))
}

/// Whether folders are named after classes.
pub fn has_places(tree: &Tree, vocabulary: &Vocabulary) -> bool {
    let masks = Masks::find(tree);
    let images: Vec<&ScannedFile> = tree.images().filter(|file| !masks.contains(&file.path)).collect();
    folders::places(&images, vocabulary).is_some()
}

pub struct ClassFolders;

impl Layout for ClassFolders {
    fn name(&self) -> &'static str {
        "class_folders"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["cuk", "pbc"]
    }

    fn looks_for(&self) -> &'static str {
        "folders named after the classes, such as neutrophil/*.jpg"
    }

    fn recognises(&self, tree: &Tree, _: &Settings, vocabulary: &Vocabulary) -> bool {
        has_places(tree, vocabulary)
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
        let mut images: Vec<&ScannedFile> = tree.images().filter(|file| !masks.contains(&file.path)).collect();
        if let Some(versions) = folders::versions(&images) {
            let other: HashSet<&str> = versions.files.iter().map(|file| file.path.as_str()).collect();
            images.retain(|file| !other.contains(file.path.as_str()));
            versions.files.iter().for_each(|file| output.used(file));
            let (left, kept) = versions.of;
            let message = format!(
                "left out: {} in {left}, which are other versions of those of the same names in {kept}. To use them \
                 instead, move {kept} out of the data set's folder",
                text::of(other.len() as u64, "image")
            );
            output.issue("", checks::NOT_USED, Severity::Warning, message).score = Some(other.len() as f64);
        }
        let places = folders::places(&images, vocabulary).unwrap_or_default();
        let mut unlabelled: BTreeMap<&str, u64> = BTreeMap::new();
        let mut ambiguous: BTreeMap<&str, (u64, String)> = BTreeMap::new();
        for (file, place) in images.iter().zip(&places) {
            if let (Some(first), Some(second)) = (&place.contradiction, &place.label) {
                output.used(file);
                ambiguous.entry(file.folder()).or_insert_with(|| (0, format!("{first} and {second}"))).0 += 1;
            } else if place.label.is_some() {
                let row = output.row(file, None, place.label.as_deref()).expect("an image has a header");
                row.subtype = subtype(file);
                (row.subject_id, row.slide_id) = (place.subject.clone(), place.slide.clone());
                row.given_role = place.role.map(String::from);
            } else if !file.folder().is_empty() {
                output.used(file);
                *unlabelled.entry(file.folder()).or_default() += 1;
            }
        }
        for (folder, images) in unlabelled {
            let message = format!("no folder above is named after a class; its {images} images are not used");
            output.issue(folder, checks::NO_LABEL, Severity::Warning, message).score = Some(images as f64);
        }
        for (folder, (images, classes)) in ambiguous {
            let message =
                format!("the folder names contradict each other ({classes}); its {images} images are not used");
            output.issue(folder, checks::AMBIGUOUS_CLASS, Severity::Error, message).score = Some(images as f64);
        }
        facts::report_roles(&images, output);
        if places.iter().all(|place| place.subject.is_none() && place.slide.is_none()) {
            facts::report_people_in_names(&images, output);
        }
        lists::report_predictions(tree, settings, output);
        let repeated = folders::repeated_names(&images, &places);
        for (names, template) in folders::unused_levels(&places) {
            let mut message = format!(
                "folders whose names are not used, but whose images are: {}. Where they are patients: [ingest] path = \
                 \"{template}\"; where they do not belong to the data set, move them out of its folder",
                text::some(names.iter().map(String::as_str))
            );
            if repeated {
                message += ". Most images have one of the same class and name in another folder: where these are two \
                            versions of one cell, such as without its background, both would be in training and test \
                            folds";
            }
            output.issue("", checks::NOT_USED, Severity::Warning, message).score = Some(names.len() as f64);
        }
        masks.apply(tree, ctx, output)
    }
}

fn subtype(file: &ScannedFile) -> Option<String> {
    let (prefix, _) = file.file_name().split_once('_')?;
    class_of_code(prefix).map(|_| prefix.to_string())
}
