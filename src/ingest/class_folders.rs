//! Any tree whose folders are named after the classes: CUK's, PBC's (Acevedo et al., Data in Brief 30:105474, 2020)
//! and most others'. The folder nearest to the image that names a class counts; PBC's file-name prefix is the subtype.

use super::{Found, Layout, SeenFile, Settings, Tree, check};
use crate::class::Class;
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use std::collections::BTreeMap;

/// What PBC's file names start with. `NEUTROPHIL` marks neutrophils whose segmentation was not noted.
const PBC_CODES: [&str; 14] =
    ["BNE", "SNE", "NEUTROPHIL", "EO", "BA", "LY", "MO", "IG", "MMY", "MY", "PMY", "ERB", "PLATELET", "NEUTRO"];

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

    fn recognises(&self, tree: &Tree) -> bool {
        tree.images().any(|f| !classes_of(f).is_empty())
    }

    fn read(&self, tree: &Tree, _: &Settings, _: &Context, found: &mut Found) -> Result<()> {
        let mut unknown: BTreeMap<&str, u64> = BTreeMap::new();
        let mut ambiguous: BTreeMap<&str, (u64, String)> = BTreeMap::new();
        for file in tree.images() {
            match classes_of(file)[..] {
                [] if file.folder().is_empty() => {} // no folder to blame: the image itself has no label
                [] => {
                    found.used(file);
                    *unknown.entry(file.folder()).or_default() += 1;
                }
                [class] => {
                    let row = found.row(file, None, Some(class)).expect("an image has a header");
                    row.subtype = subtype(file);
                }
                [first, second, ..] => {
                    found.used(file);
                    ambiguous.entry(file.folder()).or_insert_with(|| (0, format!("{second} and {first}"))).0 += 1;
                }
            }
        }
        for (folder, images) in unknown {
            let message =
                format!("expected a folder named after one of the five classes, left out its {images} images");
            found.issue(folder, check::UNKNOWN_CLASS, Severity::Warning, message).score = Some(images as f64);
        }
        for (folder, (images, classes)) in ambiguous {
            let message = format!("the folders above name {classes}, left out the {images} images");
            found.issue(folder, check::AMBIGUOUS_CLASS, Severity::Error, message).score = Some(images as f64);
        }
        Ok(())
    }
}

/// The different classes that the folders above a file name, the nearest first. A single letter names a class only
/// where no longer name does: `lymphocyte/B/` holds lymphocytes.
fn classes_of(file: &SeenFile) -> Vec<Class> {
    let letters = |folder: &str| folder.chars().filter(char::is_ascii_alphabetic).count();
    let named = |long: bool| {
        let mut classes = Vec::new();
        for folder in file.folders().rev().filter(|f| (letters(f) > 1) == long) {
            if let Some(class) = Class::parse(folder)
                && !classes.contains(&class)
            {
                classes.push(class);
            }
        }
        classes
    };
    let classes = named(true);
    if classes.is_empty() { named(false) } else { classes }
}

fn subtype(file: &SeenFile) -> Option<String> {
    let (prefix, _) = file.file_name().split_once('_')?;
    PBC_CODES.contains(&prefix).then(|| prefix.to_string())
}
