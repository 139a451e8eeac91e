//! LISC (Rezatofighi and Soltanian-Zadeh, CMIG 35:333-343, 2011): frames of 720 x 576 px with one or more cells.
//!
//! ```text
//! [LISC Database/]Main Dataset/{Baso,eosi,lymp,mixt,mono,neut}/<n>.bmp
//! [LISC Database/]Ground Truth Segmentation/<class>/areaforexpert{1,2}/<n>_expert.bmp
//! ```
//!
//! A cell is a connected region of the expert's mask, which is 712 x 568 px: it leaves out 4 px of the frame on each
//! side. Its grey levels tell cytoplasm and nucleus: 75 and 100 (eosi), 175 and 200 (mono), 225 and 255 (neut), and 50
//! for both (Baso). Without a mask, cells are found by the stain of their nuclei, which is an issue. Frames in `mixt`
//! contain several classes and get no class; all cells of another frame have its folder's class, which class folders in
//! general do not promise.

use super::checks;
use super::labels::Vocabulary;
use super::layout::{Layout, Output};
use super::masks::{mask_regions, set_box};
use super::settings::Settings;
use super::tree::{ScannedFile, Tree};
use crate::class::Class;
use crate::context::Context;
use crate::decode;
use crate::error::Result;
use crate::rect::Rect;
use crate::rows::Severity;
use crate::segment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

const FRAMES: &str = "Main Dataset";
const MASKS: &str = "Ground Truth Segmentation";
const MIXED: &str = "mixt";
/// LISC's names of the classes, as its folders are spelled.
const CODES: [(&str, Class); 5] = [
    ("neut", Class::NEUTROPHIL),
    ("eosi", Class::EOSINOPHIL),
    ("Baso", Class::BASOPHIL),
    ("lymp", Class::LYMPHOCYTE),
    ("mono", Class::MONOCYTE),
];
/// The published masks leave out this border of the frames on each side, px.
const BORDER_PX: u32 = 4;

pub struct Lisc;

impl Layout for Lisc {
    fn name(&self) -> &'static str {
        "lisc"
    }

    fn looks_for(&self) -> &'static str {
        "frames under Main Dataset/{Baso,eosi,lymp,mixt,mono,neut}/"
    }

    fn recognises(&self, tree: &Tree, _: &Settings, _: &Vocabulary) -> bool {
        tree.images().any(|f| below(f, FRAMES).is_some())
    }

    fn read(&self, tree: &Tree, settings: &Settings, _: &Vocabulary, ctx: &Context, output: &mut Output) -> Result<()> {
        let masks = masks(tree);
        masks.values().for_each(|mask| output.used(mask));
        let mut frames = Vec::new();
        let mut mixed: BTreeMap<&str, u64> = BTreeMap::new();
        for file in tree.images() {
            let Some(folder) = below(file, FRAMES) else { continue };
            if folder.eq_ignore_ascii_case(MIXED) {
                output.no_class.insert(folder.into());
                let row = output.row(file, None, Some(folder)).expect("an image has a header");
                row.subtype = Some("mixed".into());
                *mixed.entry(file.folder()).or_default() += 1;
            } else {
                frames.push((file, folder));
            }
        }
        output.codes.extend(CODES.map(|(folder, class)| (folder.to_string(), class)));
        for (folder, count) in mixed {
            let message =
                format!("{count} frames with cells of several classes; they are listed without a class and not used");
            output.issue(folder, checks::NOT_USED, Severity::Note, message).score = Some(count as f64);
        }
        let mask =
            |file: &ScannedFile, folder: &str, expert| masks.get(&mask_key(folder, expert, file.stem())).copied();
        let items: Vec<_> = frames.iter().map(|(file, folder)| (file.path.as_str(), (*file, *folder))).collect();
        let look = |(file, folder): &(&ScannedFile, &str)| look(tree, file, mask(file, folder, settings.expert));
        let looked = tree.each("cells_of_frames", ("finding cells", "frames"), &items, look, ctx)?;
        let mut with_several = 0;
        for ((file, folder), looked) in frames.into_iter().zip(looked) {
            let of = |expert| mask(file, folder, expert);
            let cells = looked.cells(of(settings.expert), of(3 - settings.expert).is_some(), settings.expert);
            let several = cells.boxes.len() > 1;
            with_several += u64::from(several);
            // A frame without a cell also gets a row, which its error leaves out, so that it is not lost.
            for n in 0..cells.boxes.len().max(1) {
                let Some(row) = output.row(file, several.then_some(n + 1), Some(folder)) else { continue };
                row.mask_path = cells.mask.map(|m| m.path.clone());
                if let Some(rect) = cells.boxes.get(n) {
                    set_box(row, *rect, if cells.mask.is_some() { "mask" } else { "stain" });
                }
            }
            for (check, severity, message) in cells.issues {
                let id = output.rows.last().filter(|_| check == checks::NO_CELL).map(|row| row.image_id.clone());
                output.issue(&file.path, check, severity, message).image_id = id;
            }
        }
        if with_several > 0 {
            let message = format!(
                "{} several cells, which are all of the class of the folder: LISC keeps frames of several classes in \
                 {MIXED}",
                if with_several == 1 { "1 frame shows".into() } else { format!("{with_several} frames show") }
            );
            output.issue("", checks::CUT, Severity::Note, message);
        }
        let frame_paths: Vec<String> = output.rows.iter().map(|r| r.path.clone()).collect();
        let has_frame = |mask: &ScannedFile| {
            let name = mask.stem().to_lowercase();
            let stem = name.strip_suffix("_expert").unwrap_or(&name).to_string();
            let folder = below(mask, MASKS).unwrap_or("").to_lowercase();
            frame_paths.iter().any(|path| {
                let mut parts = path.rsplit('/');
                let file = parts.next().unwrap_or("").to_lowercase();
                file.rsplit_once('.').map_or(file.as_str(), |(s, _)| s) == stem
                    && parts.next().is_some_and(|f| f.eq_ignore_ascii_case(&folder))
            })
        };
        let mut without_frame: Vec<&ScannedFile> = masks.values().copied().filter(|m| !has_frame(m)).collect();
        without_frame.sort_by(|a, b| a.path.cmp(&b.path));
        for mask in without_frame {
            let message = format!("no frame for this mask in {FRAMES}");
            output.issue(&mask.path, checks::NO_IMAGE, Severity::Warning, message);
        }
        Ok(())
    }
}

/// The cells of one frame, and its issues: name, severity, message.
struct Cells<'a> {
    boxes: Vec<Rect>,
    /// The mask that shows them; none if they were found by stain.
    mask: Option<&'a ScannedFile>,
    issues: Vec<(&'static str, Severity, String)>,
}

/// The boxes that were found in a frame, or what is wrong with the file.
#[derive(Serialize, Deserialize)]
struct Looked {
    /// In the expert's mask; none without one.
    by_mask: Option<Result<Vec<Rect>, String>>,
    /// By the stain of the nuclei; none where a mask shows the cells.
    by_stain: Option<Result<Vec<Rect>, String>>,
}

/// Finds the cells of a frame by the expert's mask or, without a valid mask, by the stain of the nuclei.
fn look(tree: &Tree, frame: &ScannedFile, mask: Option<&ScannedFile>) -> Looked {
    let by_mask = mask.map(|mask| {
        mask_regions(tree, frame, mask, BORDER_PX)
            .map(|regions| regions.into_iter().map(|region| region.rect).collect())
    });
    if matches!(by_mask, Some(Ok(_))) {
        return Looked { by_mask, by_stain: None };
    }
    let path = tree.full_path(&frame.path);
    let image = tree.read_image(&frame.path).and_then(|bytes| decode::rgb(&bytes, &path).map_err(|e| e.to_string()));
    let cells = image.map(|image| segment::find_cells(&image).into_iter().map(|found| found.cell).collect());
    Looked { by_mask, by_stain: Some(cells) }
}

impl Looked {
    /// `mask` is that of the expert, if it exists; `has_other`: whether there is one of the other expert.
    fn cells(self, mask: Option<&ScannedFile>, has_other: bool, expert: u32) -> Cells<'_> {
        let mut issues = Vec::new();
        match self.by_mask {
            Some(Ok(boxes)) => return Cells { boxes, mask, issues },
            Some(Err(message)) => {
                issues.push((checks::BAD_MASK, Severity::Warning, message + "; the boxes were found by stain instead"))
            }
            None => {
                let hint = if has_other { format!(" (expert {} drew one)", 3 - expert) } else { String::new() };
                let message =
                    format!("no mask of expert {expert}{hint}; the boxes were found by stain and should be inspected");
                issues.push((checks::NO_MASK, Severity::Warning, message));
            }
        }
        let boxes = self.by_stain.unwrap_or(Ok(Vec::new()));
        if !boxes.as_ref().is_ok_and(|boxes| !boxes.is_empty()) {
            let none = || "expected a stained nucleus, found none; the frame is not used".into();
            let message = boxes.as_ref().err().cloned().unwrap_or_else(none);
            issues.push((checks::NO_CELL, Severity::Error, message));
        }
        Cells { boxes: boxes.unwrap_or_default(), mask: None, issues }
    }
}

/// The folder directly below `top` that contains `file`. `top` is in the folder of the data set or one folder deeper.
fn below<'a>(file: &'a ScannedFile, top: &str) -> Option<&'a str> {
    let mut folders = file.folders();
    let first = folders.next()?;
    if first.eq_ignore_ascii_case(top) || folders.next()?.eq_ignore_ascii_case(top) { folders.next() } else { None }
}

/// The masks by [`mask_key`].
fn masks(tree: &Tree) -> HashMap<String, &ScannedFile> {
    let mut masks = HashMap::new();
    for file in tree.images() {
        let Some(folder) = below(file, MASKS) else { continue };
        let parent = file.folders().next_back().unwrap_or("").to_lowercase();
        let expert = parent.strip_prefix("areaforexpert").and_then(|n| n.parse().ok());
        let name = file.stem().to_lowercase();
        if let (Some(expert), Some(stem)) = (expert, name.strip_suffix("_expert")) {
            masks.entry(mask_key(folder, expert, stem)).or_insert(file);
        }
    }
    masks
}

/// Class folder, expert and frame of a mask, in lower case.
fn mask_key(folder: &str, expert: u32, stem: &str) -> String {
    format!("{}/{expert}/{}", folder.to_lowercase(), stem.to_lowercase())
}
