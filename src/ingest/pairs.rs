//! Masks that lie beside their images: `001.bmp` and `001.png`, `cell.png` and `cell_mask.png`, or a folder `masks/`.
//! They are never cells.

use super::checks;
use super::layout::Output;
use super::masks::{around, cells_of, mask_regions, set_box};
use super::tree::{ScannedFile, Tree};
use crate::class::set::fold;
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use crate::text;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// The masks among the images of a data set.
#[derive(Default)]
pub struct Masks {
    /// Path of the mask by path of the image.
    pub of: BTreeMap<String, String>,
    /// All masks, also those without an image.
    all: BTreeSet<String>,
    /// Images of a few grey levels that no name tells to be masks.
    few_greys: Vec<String>,
}

impl Masks {
    /// Finds the masks of a data set.
    pub fn find(tree: &Tree) -> Masks {
        let mut masks = Masks::default();
        let folder_of_masks = |file: &ScannedFile| file.folders().any(is_mask_folder);
        // The images by folder (without those that only say mask or image) and number or name.
        let mut images: BTreeMap<(String, String), Vec<&ScannedFile>> = BTreeMap::new();
        for file in tree.images().filter(|file| !folder_of_masks(file)) {
            images.entry((place(file), key(file.stem()))).or_default().push(file);
        }
        for file in tree.images() {
            let (named, base) = match base(file.stem()) {
                Some(base) => (true, base),
                None => (false, file.stem()),
            };
            let is_image = |other: &&&ScannedFile| other.path != file.path && !other.few_greys;
            let beside = |stem: &str| {
                images.get(&(place(file), key(stem))).and_then(|others| others.iter().find(is_image)).copied()
            };
            let image = beside(base).or_else(|| beside(file.stem()));
            let is_beside_a_cell = image.is_some_and(|image| !image.few_colours);
            let is_mask = folder_of_masks(file)
                || named && (image.is_some() || file.few_greys)
                || file.few_greys && image.is_some()
                || file.few_colours && is_beside_a_cell;
            if is_mask {
                masks.all.insert(file.path.clone());
                if let Some(image) = image {
                    masks.of.entry(image.path.clone()).or_insert_with(|| file.path.clone());
                }
            } else if file.few_greys {
                masks.few_greys.push(file.path.clone());
            }
        }
        masks
    }

    /// Makes a file the mask of an image.
    pub fn set(&mut self, image: &ScannedFile, mask: &ScannedFile) {
        self.few_greys.retain(|path| *path != mask.path);
        self.all.insert(mask.path.clone());
        self.of.insert(image.path.clone(), mask.path.clone());
    }

    /// Whether a file is a mask, or cannot be a cell because it has a few grey levels only.
    pub fn contains(&self, path: &str) -> bool {
        self.all.contains(path) || self.few_greys.iter().any(|other| other == path)
    }

    /// Sets masks and boxes of the rows whose image has a mask, and reports the other masks.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn apply(&self, tree: &Tree, ctx: &Context, output: &mut Output) -> Result<()> {
        let rows: Vec<usize> = (0..output.rows.len()).filter(|n| output.rows[*n].box_source.is_none()).collect();
        let pairs: Vec<_> = rows
            .iter()
            .filter_map(|n| {
                let row = &output.rows[*n];
                let image = tree.get(&row.path)?;
                Some((row.image_id.as_str(), (*n, image, tree.get(self.of.get(&image.path)?)?)))
            })
            .collect();
        let read = |(_, image, mask): &(usize, &ScannedFile, &ScannedFile)| mask_regions(tree, image, mask, 0);
        let regions = tree.each("masks", ("reading masks", "masks"), &pairs, read, ctx)?;
        let pairs: Vec<_> = pairs.into_iter().map(|(_, pair)| pair).collect();
        let (mut used, images) = (BTreeSet::new(), output.rows.len() as u64);
        let (mut several, mut boxed, mut first_bad) = (0, 0, String::new());
        for ((n, image, mask), regions) in pairs.into_iter().zip(regions) {
            used.insert(mask.path.clone());
            match regions {
                Ok(regions) => {
                    boxed += 1;
                    let row = &mut output.rows[n];
                    row.mask_path = Some(mask.path.clone());
                    set_box(row, around(&regions), "mask");
                    let cells = cells_of(&regions);
                    if cells > 1 && row.label.is_some() {
                        several += 1;
                        let (path, id) = (row.path.clone(), row.image_id.clone());
                        let message = format!("{cells} cells in the mask and one label for the image; it is not used");
                        output.issue(&path, checks::SEVERAL_CELLS, Severity::Error, message).image_id = Some(id);
                    }
                }
                Err(message) => {
                    if first_bad.is_empty() {
                        first_bad = format!("{}: {message}", mask.path);
                    }
                    let issue = output.issue(&mask.path, checks::BAD_MASK, Severity::Warning, message);
                    issue.related = Some(image.path.clone());
                }
            }
        }
        if several > 0 {
            let message = super::cut::several_cells(&text::thousands(several), &text::of(images, "image"));
            output.issue("", checks::CUT, Severity::Warning, message);
        }
        if !used.is_empty() {
            let (masks, images) = (text::thousands(boxed), text::of(images, "image"));
            let message = format!("masks beside the images give the boxes around the cells: {masks} of {images}");
            output.issue("", checks::MASKS, Severity::Note, message).score = Some(boxed as f64);
            let bad = used.len() as u64 - boxed;
            if bad > 0 {
                let message = format!(
                    "not used: {} of {}, such as {}",
                    text::thousands(bad),
                    text::of(used.len() as u64, "mask"),
                    first_bad
                );
                output.issue("", checks::MASKS, Severity::Warning, message).score = Some(bad as f64);
            }
        }
        self.report(tree, &used, output);
        Ok(())
    }

    /// Marks all masks as accounted for, and reports those that are not in `used`.
    pub fn report(&self, tree: &Tree, used: &BTreeSet<String>, output: &mut Output) {
        self.all.iter().chain(&self.few_greys).filter_map(|path| tree.get(path)).for_each(|file| output.used(file));
        let unused: Vec<&str> = self.all.iter().filter(|path| !used.contains(*path)).map(String::as_str).collect();
        if !unused.is_empty() {
            let message = format!(
                "left out: {} without an image of a cell: {}",
                text::of(unused.len() as u64, "mask"),
                text::some(unused.iter().copied())
            );
            output.issue("", checks::MASKS, Severity::Warning, message).score = Some(unused.len() as f64);
        }
        if !self.few_greys.is_empty() {
            let message = format!(
                "left out: {} of {} hold at most {MASK_GREYS} grey levels and no colour, as masks do: {}",
                text::thousands(self.few_greys.len() as u64),
                text::of(tree.images().count() as u64, "image"),
                text::some(self.few_greys.iter().map(String::as_str))
            );
            output.issue("", checks::MASK_LIKE, Severity::Warning, message).score = Some(self.few_greys.len() as f64);
        }
    }
}

pub use super::tree::MASK_GREYS;

/// The masks among the files of a folder.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub(crate) fn masks_among(folder: &Path, files: &[PathBuf], ctx: &Context) -> Result<HashSet<PathBuf>> {
    let mut tree = Tree::empty(folder);
    tree.add("files", files, ctx)?;
    let Masks { all, few_greys, .. } = Masks::find(&tree);
    Ok(all.iter().chain(&few_greys).map(|path| tree.full_path(path)).collect())
}

/// Whether a folder holds masks.
fn is_mask_folder(name: &str) -> bool {
    const NAMES: [&str; 6] = ["gt", "groundtruth", "segmentation", "segmentations", "maskimages", "maskimage"];
    fold(name).is_some_and(|name| NAMES.contains(&name.as_str()) || name.ends_with("mask") || name.ends_with("masks"))
}

/// The name of the image that a mask of this name belongs to: `7` for `7_mask`.
fn base(stem: &str) -> Option<&str> {
    const ENDINGS: [&str; 6] = ["mask", "masks", "gt", "seg", "segmentation", "label"];
    let (base, ending) = stem.rsplit_once(['_', '-', '.', ' '])?;
    (ENDINGS.contains(&ending.to_lowercase().as_str()) && !base.is_empty()).then_some(base)
}

/// A file's name as it is compared: in lower case, and a number without leading zeros.
fn key(stem: &str) -> String {
    match stem.trim_start_matches('0') {
        "" if !stem.is_empty() => "0".into(),
        number if number.chars().all(|c| c.is_ascii_digit()) => number.into(),
        _ => stem.to_lowercase(),
    }
}

/// The folder of a file without the parts that say mask or image.
fn place(file: &ScannedFile) -> String {
    let says_else = |name: &&str| !is_mask_folder(name) && !["img", "imgs", "image", "images"].contains(name);
    let folders: Vec<String> = file.folders().map(str::to_lowercase).collect();
    folders.iter().map(String::as_str).filter(says_else).collect::<Vec<_>>().join("/")
}
