//! Folders named after the classes, as in CUK, PBC (Acevedo et al., Data in Brief 30:105474, 2020) and most other data
//! sets. The innermost folder that names a class counts. In PBC, the prefix of the file name is the subtype.

use super::checks;
use super::layout::{Layout, Output};
use super::settings::Settings;
use super::tree::{ScannedFile, Tree};
use crate::class::Class;
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use std::collections::BTreeMap;

/// Prefixes of PBC's file names. `NEUTROPHIL` stands for neutrophils of unknown segmentation.
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

    fn read(&self, tree: &Tree, _: &Settings, _: &Context, output: &mut Output) -> Result<()> {
        let mut unknown: BTreeMap<&str, u64> = BTreeMap::new();
        let mut ambiguous: BTreeMap<&str, (u64, String)> = BTreeMap::new();
        for file in tree.images() {
            match classes_of(file)[..] {
                [] if file.folder().is_empty() => {} // it gets the issue no_label
                [] => {
                    output.used(file);
                    *unknown.entry(file.folder()).or_default() += 1;
                }
                [class] => {
                    let row = output.row(file, None, Some(class)).expect("an image has a header");
                    row.subtype = subtype(file);
                }
                [first, second, ..] => {
                    output.used(file);
                    ambiguous.entry(file.folder()).or_insert_with(|| (0, format!("{second} and {first}"))).0 += 1;
                }
            }
        }
        for (folder, images) in unknown {
            let message =
                format!("expected a folder named after one of the five classes; its {images} images are not used");
            output.issue(folder, checks::UNKNOWN_CLASS, Severity::Warning, message).score = Some(images as f64);
        }
        for (folder, (images, classes)) in ambiguous {
            let message =
                format!("the folder names contradict each other ({classes}); its {images} images are not used");
            output.issue(folder, checks::AMBIGUOUS_CLASS, Severity::Error, message).score = Some(images as f64);
        }
        Ok(())
    }
}

/// The different classes in the names of the folders that contain a file, the innermost first. A single letter counts
/// only if no longer name does: `lymphocyte/B/` contains lymphocytes.
fn classes_of(file: &ScannedFile) -> Vec<Class> {
    let letters = |folder: &str| folder.chars().filter(char::is_ascii_alphabetic).count();
    let classes_in = |long: bool| {
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
    let classes = classes_in(true);
    if classes.is_empty() { classes_in(false) } else { classes }
}

fn subtype(file: &ScannedFile) -> Option<String> {
    let (prefix, _) = file.file_name().split_once('_')?;
    PBC_CODES.contains(&prefix).then(|| prefix.to_string())
}
