//! LISC (Rezatofighi and Soltanian-Zadeh, CMIG 35:333-343, 2011): full frames of 720x576 with one or more cells.
//!
//! ```text
//! [LISC Database/]Main Dataset/{Baso,eosi,lymp,mixt,mono,neut}/<n>.bmp
//! [LISC Database/]Ground Truth Segmentation/<class>/areaforexpert{1,2}/<n>_expert.bmp
//! ```
//!
//! A cell is a connected region of the expert's mask; without a mask it is found by its nucleus's stain, and an issue
//! says so. `mixt` (several classes in one frame) is listed without a class.

use super::{Found, Layout, SeenFile, Settings, Tree, check, mask_regions, set_box};
use crate::cells::{self, Region};
use crate::class::Class;
use crate::context::Context;
use crate::decode;
use crate::error::Result;
use crate::rows::Severity;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

const FRAMES: &str = "Main Dataset";
const MASKS: &str = "Ground Truth Segmentation";
const MIXED: &str = "mixt";

pub struct Lisc;

impl Layout for Lisc {
    fn name(&self) -> &'static str {
        "lisc"
    }

    fn looks_for(&self) -> &'static str {
        "frames under Main Dataset/{Baso,eosi,lymp,mixt,mono,neut}/"
    }

    fn recognises(&self, tree: &Tree) -> bool {
        tree.images().any(|f| below(f, FRAMES).is_some())
    }

    fn read(&self, tree: &Tree, settings: &Settings, ctx: &Context, found: &mut Found) -> Result<()> {
        let masks = masks(tree);
        masks.values().for_each(|mask| found.used(mask));
        let mut frames = Vec::new();
        let mut unknown: BTreeMap<&str, u64> = BTreeMap::new();
        let mut mixed: BTreeMap<&str, u64> = BTreeMap::new();
        for file in tree.images() {
            let Some(folder) = below(file, FRAMES) else { continue };
            if folder.eq_ignore_ascii_case(MIXED) {
                let row = found.row(file, None, None).expect("an image has a header");
                row.subtype = Some("mixed".into());
                *mixed.entry(file.folder()).or_default() += 1;
            } else if let Some(class) = Class::parse(folder) {
                frames.push((file, folder, class));
            } else {
                found.used(file);
                *unknown.entry(file.folder()).or_default() += 1;
            }
        }
        for (folder, count) in mixed {
            let message = format!("{count} frames with cells of several classes: listed without a class, not used");
            found.issue(folder, check::NOT_USED, Severity::Note, message).score = Some(count as f64);
        }
        for (folder, count) in unknown {
            let message = format!("expected one of Baso, eosi, lymp, mixt, mono, neut; left out its {count} frames");
            found.issue(folder, check::UNKNOWN_CLASS, Severity::Warning, message).score = Some(count as f64);
        }

        ctx.progress.begin("finding cells", Some(frames.len() as u64), "frames");
        let cells: Result<Vec<Cells>> = frames
            .par_iter()
            .map(|(file, folder, _)| {
                ctx.check_stop()?;
                let mask = |expert| masks.get(&mask_key(folder, expert, file.stem())).copied();
                let cells = find(tree, file, mask(settings.expert), mask(3 - settings.expert), settings.expert);
                ctx.progress.advance(1);
                Ok(cells)
            })
            .collect();
        ctx.progress.end();
        for ((file, _, class), cells) in frames.into_iter().zip(cells?) {
            for (check, severity, message) in cells.issues {
                found.issue(&file.path, check, severity, message);
            }
            let several = cells.regions.len() > 1;
            // A frame without a cell keeps its row: nothing is dropped in silence.
            for n in 0..cells.regions.len().max(1) {
                let Some(row) = found.row(file, several.then_some(n + 1), Some(class)) else { continue };
                row.mask_path = cells.mask.map(|m| m.path.clone());
                if let Some(region) = cells.regions.get(n) {
                    set_box(row, region.rect, if cells.mask.is_some() { "mask" } else { "stain" });
                }
            }
        }
        let framed: Vec<String> = found.rows.iter().map(|r| r.path.clone()).collect();
        let has_frame = |mask: &SeenFile| {
            let name = mask.stem().to_lowercase();
            let stem = name.strip_suffix("_expert").unwrap_or(&name).to_string();
            let folder = below(mask, MASKS).unwrap_or("").to_lowercase();
            framed.iter().any(|path| {
                let mut parts = path.rsplit('/');
                let file = parts.next().unwrap_or("").to_lowercase();
                file.rsplit_once('.').map_or(file.as_str(), |(s, _)| s) == stem
                    && parts.next().is_some_and(|f| f.eq_ignore_ascii_case(&folder))
            })
        };
        let mut lonely: Vec<&SeenFile> = masks.values().copied().filter(|m| !has_frame(m)).collect();
        lonely.sort_by(|a, b| a.path.cmp(&b.path));
        for mask in lonely {
            let message = format!("a mask without its frame under {FRAMES}");
            found.issue(&mask.path, check::NO_IMAGE, Severity::Warning, message);
        }
        Ok(())
    }
}

/// The cells of one frame, and what is odd about it.
struct Cells<'a> {
    regions: Vec<Region>,
    /// The mask that the regions are from.
    mask: Option<&'a SeenFile>,
    issues: Vec<(&'static str, Severity, String)>,
}

fn find<'a>(
    tree: &Tree,
    frame: &SeenFile,
    mask: Option<&'a SeenFile>,
    other: Option<&SeenFile>,
    expert: u32,
) -> Cells<'a> {
    let mut issues = Vec::new();
    if let Some(mask) = mask {
        match mask_regions(tree, frame, mask) {
            Ok(regions) => return Cells { regions, mask: Some(mask), issues },
            Err(message) => issues.push((check::BAD_MASK, Severity::Warning, message + "; boxed by stain instead")),
        }
    } else {
        let hint = other.map_or(String::new(), |_| format!(" (expert {} drew one)", 3 - expert));
        let message = format!("no mask of expert {expert}{hint}; boxed by the nuclei's stain: look at the boxes");
        issues.push((check::NO_MASK, Severity::Warning, message));
    }
    let path = tree.full_path(&frame.path);
    let picture = std::fs::read(&path).map_err(|e| e.to_string());
    let regions = picture.and_then(|bytes| decode::rgb(&bytes, &path).map_err(|e| e.to_string()));
    let regions = regions.map(|picture| cells::from_stain(&picture)).unwrap_or_else(|message| {
        issues.push((check::NO_CELL, Severity::Warning, message));
        Vec::new()
    });
    if regions.is_empty() && !issues.iter().any(|i| i.0 == check::NO_CELL) {
        let message = "expected a stained nucleus, found none; the row has no box".into();
        issues.push((check::NO_CELL, Severity::Warning, message));
    }
    Cells { regions, mask: None, issues }
}

/// The folder right below the folder `top` (itself at the top or one folder down) that holds `file`.
fn below<'a>(file: &'a SeenFile, top: &str) -> Option<&'a str> {
    let mut folders = file.folders();
    let first = folders.next()?;
    if first.eq_ignore_ascii_case(top) || folders.next()?.eq_ignore_ascii_case(top) { folders.next() } else { None }
}

/// Masks by class folder, expert and frame; letters' case does not count.
fn masks(tree: &Tree) -> HashMap<String, &SeenFile> {
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

fn mask_key(folder: &str, expert: u32, stem: &str) -> String {
    format!("{}/{expert}/{}", folder.to_lowercase(), stem.to_lowercase())
}
