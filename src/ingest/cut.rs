//! Decides which part of the images is cut out for training. A data set whose cells have no boxes shows one cell in the
//! middle of each image, as CUK and PBC do, one cell that fills the image, or cells anywhere. What its images show is
//! measured on a sample. Images without a cell are left out.

use super::checks;
use super::labels::is_white_cell;
use super::layout::Output;
use super::settings::{Cut, Settings};
use super::tree::Tree;
use crate::class::Classes;
use crate::context::Context;
use crate::decode;
use crate::error::Result;
use crate::part::Part;
use crate::rect::Rect;
use crate::rows::{CutRule, ManifestRow, Severity};
use crate::segment::{self, FoundCell};
use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Images that are measured before the decision.
const SAMPLE: usize = 100;
/// Sizes of the longer side at which images are searched whose cell is where it is expected, px: the first is enough
/// for a nucleus that is clearly inside what is cut and about as large as those of the sample.
const QUICK_PX: u32 = 96;
const VERIFY_PX: u32 = 256;
/// Share of a nucleus inside what is cut, and its size relative to the sample's median, that are clear.
const CLEARLY_INSIDE: f64 = 0.95;
const USUAL_SIZE: std::ops::RangeInclusive<f64> = 0.6..=1.7;
/// Smallest nucleus, relative to the median of the data set (square root of the area). In four public data sets none is
/// below 0.45; platelets and precipitate in images without a white cell are mostly below 0.3.
const SMALLEST: f64 = 0.35;
/// Largest extent of the nuclei in an image that its cell does not fill, as a share of the usual one.
const UNFILLED: f64 = 0.75;
/// An image is a frame where its shorter side is more than this multiple of the usual one, or of the training images'.
pub(crate) const LARGER: f64 = 1.25;
/// Side of the central square, px, as in the paper.
const CENTRE_PX: u32 = 200;
/// Share of the sampled images that a rule must fit.
const MOST: f64 = 0.85;
/// Shares of the central square that nuclei extend over in a data set that is cut to it, the median.
const IN_SQUARE: (f64, f64) = (0.18, 0.9);
/// Share of the shorter side that the cells of a data set with tight crops extend over, the median.
const TIGHT: f64 = 0.5;
/// The same of tight crops whose cells the central square would hold too. PBC's monocytes extend over 0.56, so that
/// without this limit the classes of a data set would decide what is cut.
const TIGHT_IF_HELD: f64 = 0.7;
/// Largest extent of the cells that the central square holds, as a share of its side, the median. PBC's monocytes
/// extend over 1.01.
const HELD: f64 = 1.1;
/// The nucleus of a tight crop is at most this share of the shorter side away from the centre.
const OFF_CENTRE: f64 = 0.25;
/// Shortest visible side of a cell, as a share of the longer, of a nucleus that is inside what is cut.
pub(crate) const INSIDE: f64 = 0.8;

/// The cells in an image.
#[derive(Serialize, Deserialize)]
struct ImageCells {
    width: u32,
    height: u32,
    cells: Vec<FoundCell>,
}

impl ImageCells {
    fn shorter(&self) -> f64 {
        f64::from(self.width.min(self.height))
    }

    /// The distance of a nucleus from the centre, px.
    fn off_centre(&self, nucleus: Rect) -> f64 {
        let (x, y) = centre(nucleus);
        (x - f64::from(self.width) / 2.0).hypot(y - f64::from(self.height) / 2.0)
    }

    /// The cell nearest to the centre.
    fn main(&self) -> Option<&FoundCell> {
        self.cells.iter().min_by(|a, b| self.off_centre(a.nucleus).total_cmp(&self.off_centre(b.nucleus)))
    }

    /// The central square of 200 px, or of the shorter side.
    fn square(&self) -> Rect {
        let side = CENTRE_PX.min(self.width).min(self.height);
        Rect { x: (self.width - side) / 2, y: (self.height - side) / 2, width: side, height: side }
    }

    /// Whether most of the nucleus nearest to the centre is inside the central square.
    fn is_central(&self) -> bool {
        self.main().is_some_and(|found| share_inside(found.nucleus, self.square()) >= INSIDE)
    }

    /// Longer side of the nucleus nearest to the centre, as a share of the image's shorter side.
    fn nucleus_share(&self) -> Option<f64> {
        self.main().map(|found| f64::from(found.nucleus.longer_side()) / self.shorter())
    }

    /// Size of a nucleus: the square root of its area, as a share of the image's shorter side.
    fn size(&self, found: &FoundCell) -> f64 {
        (found.nucleus_px as f64).sqrt() / self.shorter()
    }

    /// Size of the largest nucleus.
    fn largest(&self) -> Option<f64> {
        self.cells.iter().map(|found| self.size(found)).max_by(f64::total_cmp)
    }

    /// Removes what is too small for a nucleus where the largest ones of a data set usually have the size `usual`.
    fn without_small(mut self, usual: Option<f64>) -> ImageCells {
        let smallest = SMALLEST * usual.unwrap_or(0.0);
        let sizes: Vec<f64> = self.cells.iter().map(|found| self.size(found)).collect();
        let mut sizes = sizes.into_iter();
        self.cells.retain(|_| sizes.next().is_some_and(|size| size >= smallest));
        self
    }

    /// Whether the nucleus nearest to the centre is clearly where `rule` expects it, and of the usual size.
    fn is_clear(&self, rule: CutRule, usual_share: f64) -> bool {
        let is_inside =
            |found: &FoundCell| rule == CutRule::Whole || share_inside(found.nucleus, self.square()) >= CLEARLY_INSIDE;
        let is_usual = |share: f64| USUAL_SIZE.contains(&(share / usual_share));
        self.is_near_centre() && self.main().is_some_and(is_inside) && self.nucleus_share().is_some_and(is_usual)
    }

    /// Whether the image is not filled by its cell, as those of a data set usually are: it is larger and its nuclei
    /// extend over less of it, or none is in the middle.
    fn is_unfilled(&self, usual: Usual) -> bool {
        let share = |found: &FoundCell| f64::from(found.nucleus.longer_side()) / self.shorter();
        let largest = self.cells.iter().map(share).max_by(f64::total_cmp);
        let is_frame = |share: f64| self.is_larger(usual) && share < UNFILLED * usual.share;
        largest.is_some_and(|share| is_frame(share) || !self.is_near_centre())
    }

    /// Whether the image is clearly larger than usual.
    fn is_larger(&self, usual: Usual) -> bool {
        self.shorter() > LARGER * usual.shorter
    }

    /// Whether a nucleus is near the centre.
    fn is_near_centre(&self) -> bool {
        self.main().is_some_and(|found| self.off_centre(found.nucleus) <= OFF_CENTRE * self.shorter())
    }
}

fn centre(rect: Rect) -> (f64, f64) {
    (f64::from(rect.x) + f64::from(rect.width) / 2.0, f64::from(rect.y) + f64::from(rect.height) / 2.0)
}

/// The share of `inner`'s area that is inside `outer`.
fn share_inside(inner: Rect, outer: Rect) -> f64 {
    let shared =
        |start: u32, end: u32, other: u32, stop: u32| f64::from(end.min(stop).saturating_sub(start.max(other)));
    let width = shared(inner.x, inner.right(), outer.x, outer.right());
    let height = shared(inner.y, inner.bottom(), outer.y, outer.bottom());
    width * height / (f64::from(inner.width) * f64::from(inner.height))
}

/// The share of the nucleus nearest to the centre that is inside what is cut out, 0 to 1; `None` where no nucleus was
/// found.
pub(crate) fn share_of_nucleus(image: &decode::Rgb, part: Rect) -> Option<f64> {
    let (width, height) = (image.width_px, image.height_px);
    let share = |cells: Vec<FoundCell>| {
        let image = ImageCells { width, height, cells };
        Some(share_inside(image.main()?.nucleus, part))
    };
    let quick = share(segment::find_cells_at(image, QUICK_PX));
    if quick.is_some_and(|share| share >= CLEARLY_INSIDE) {
        return quick;
    }
    let closer = share(segment::find_cells_at(image, VERIFY_PX));
    closer.or_else(|| share(segment::find_cells(image)))
}

/// The usual size of the largest nucleus of an image; `None` where none was found.
fn usual_size(images: &[Option<ImageCells>]) -> Option<f64> {
    let sizes: Vec<f64> = images.iter().flatten().filter_map(ImageCells::largest).collect();
    (!sizes.is_empty()).then(|| median(sizes))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Sets `cut` of the rows with a class, and boxes where the data set has cells anywhere. Images without a cell, or with
/// several although they have one label, get an error, which leaves them out. Platelets and other classes that are
/// known not to be white cells need no stained nucleus in images of one cell.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn apply(tree: &Tree, settings: &Settings, classes: &Classes, ctx: &Context, output: &mut Output) -> Result<()> {
    let without_cell: HashSet<&str> =
        output.issues.iter().filter(|i| i.check == checks::NO_CELL).filter_map(|i| i.image_id.as_deref()).collect();
    let mut open = Vec::new();
    let mut boxed = 0;
    for i in 0..output.rows.len() {
        let row = &output.rows[i];
        let is_boxed = row.cell_box().is_some();
        if is_boxed || without_cell.contains(row.image_id.as_str()) {
            boxed += usize::from(is_boxed);
            output.rows[i].cut = row.class.map(|_| CutRule::Box);
        } else if row.class.is_some() {
            open.push(i);
        }
    }
    let is_white = |row: &ManifestRow| {
        let info = row.class.and_then(|class| classes.info(class));
        info.is_none_or(|info| info.white_cell != Some(false))
    };
    let is_known_white = |row: &ManifestRow| {
        let info = row.class.and_then(|class| classes.info(class));
        info.is_some_and(|info| info.white_cell == Some(true)) || row.label.as_deref().is_some_and(is_white_cell)
    };
    verify_boxes(tree, &is_known_white, ctx, output)?;
    if open.is_empty() {
        return Ok(());
    }
    let is_white = |i: &usize| is_white(&output.rows[*i]);
    let (searched, others): (Vec<usize>, Vec<usize>) = open.iter().copied().partition(is_white);
    let mut usual = None;
    let (rule, reason) = match settings.cut {
        Cut::Centre => (CutRule::Centre, "as --cut requests".into()),
        Cut::Whole => (CutRule::Whole, "as --cut requests".into()),
        Cut::Cell => (CutRule::Box, "as --cut requests".into()),
        Cut::Auto if boxed > open.len() => (CutRule::Box, "as the cells with boxes".into()),
        Cut::Auto => {
            let step = searched.len().div_ceil(SAMPLE).max(1);
            let sample: Vec<usize> = searched.iter().copied().step_by(step).collect();
            // Every shard needs them.
            let alone = Context { part: Part::All, ..*ctx };
            let search = |image: &decode::Rgb| segment::find_cells(image);
            let images = search_images(tree, &output.rows, &sample, &search, &alone)?;
            let shares: Vec<f64> = images.iter().flatten().filter_map(ImageCells::nucleus_share).collect();
            let shorter = median(images.iter().flatten().map(ImageCells::shorter).collect());
            usual = usual_size(&images).map(|size| Usual { size, share: median(shares), shorter });
            decide(&images)
        }
    };
    let images = text::of(open.len() as u64, "image");
    let message = match rule {
        CutRule::Centre => {
            format!("{images} of one cell in the middle: cut to the central square of {CENTRE_PX} px ({reason})")
        }
        CutRule::Whole => format!("{images} that one cell fills: taken whole ({reason})"),
        CutRule::Box => format!("{images} without boxes: cut around their cells, found by the stain ({reason})"),
    };
    output.issue("", checks::CUT, Severity::Note, message);
    open.iter().for_each(|i| output.rows[*i].cut = Some(rule));
    match rule {
        CutRule::Box => box_cells(tree, &open, &others.into_iter().collect(), ctx, output),
        _ => {
            if !others.is_empty() {
                let images = text::of(others.len() as u64, "image");
                let message = format!("{images} of classes without white cells: not searched for a nucleus");
                output.issue("", checks::CUT, Severity::Note, message);
            }
            verify(tree, &searched, rule, usual, settings.cut == Cut::Auto, ctx, output)
        }
    }
}

/// Reports annotated boxes of which many have no nucleus inside, in a sample of images: they may be for other images,
/// for another size, or mirrored.
fn verify_boxes(
    tree: &Tree,
    is_white: &dyn Fn(&ManifestRow) -> bool,
    ctx: &Context,
    output: &mut Output,
) -> Result<()> {
    /// Share of a nucleus inside its box, as boxes may be tight.
    const INSIDE: f64 = 0.5;
    /// Share of the boxes that have one: of BCCD's 43, 42 have, and of its mirrored images' about half.
    const USUAL: f64 = 0.7;
    /// Fewest boxes to judge.
    const FEWEST: u64 = 10;
    let mut boxes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, row) in output.rows.iter().enumerate() {
        if row.class.is_some() && row.box_source.as_deref() == Some("annotation") && is_white(row) {
            boxes.entry(&row.path).or_default().push(i);
        }
    }
    let step = boxes.len().div_ceil(SAMPLE).max(1);
    let sample: Vec<&Vec<usize>> = boxes.values().step_by(step).collect();
    let first: Vec<usize> = sample.iter().map(|of_image| of_image[0]).collect();
    // Every shard needs them.
    let alone = Context { part: Part::All, ..*ctx };
    let images = search_images(tree, &output.rows, &first, &|image| segment::find_cells(image), &alone)?;
    let (mut with, mut without) = (0u64, Vec::new());
    for (of_image, image) in sample.iter().zip(&images) {
        // Where no nucleus is found at all, the stain may be another.
        let Some(image) = image.as_ref().filter(|image| !image.cells.is_empty()) else { continue };
        for row in of_image.iter().map(|i| &output.rows[*i]) {
            let Some(rect) = row.cell_box() else { continue };
            match image.cells.iter().any(|found| share_inside(found.nucleus, rect) >= INSIDE) {
                true => with += 1,
                false => without.push(row.path.clone()),
            }
        }
    }
    let all = with + without.len() as u64;
    if all >= FEWEST && (with as f64) < USUAL * all as f64 {
        let n = text::thousands(without.len() as u64);
        without.dedup();
        let message = format!(
            "{n} of {} annotated boxes sampled have no stained nucleus inside: are they for these images, for this \
             size, and not mirrored? In {}",
            text::thousands(all),
            text::some(without.iter().map(String::as_str))
        );
        output.issue("", checks::OBJECTS, Severity::Warning, message).score = Some((all - with) as f64);
    }
    Ok(())
}

/// The images of a sample and their nuclei, the medians.
#[derive(Clone, Copy)]
struct Usual {
    /// See [`ImageCells::largest`].
    size: f64,
    /// See [`ImageCells::nucleus_share`].
    share: f64,
    /// The images' shorter side, px.
    shorter: f64,
}

/// The rule for the sampled images, and why.
fn decide(sample: &[Option<ImageCells>]) -> (CutRule, String) {
    let images: Vec<&ImageCells> = sample.iter().flatten().collect();
    let found: Vec<&ImageCells> = images.iter().copied().filter(|image| !image.cells.is_empty()).collect();
    let n = found.len().max(1) as f64;
    let extent =
        median(found.iter().filter_map(|l| Some(f64::from(l.main()?.cell.longer_side()) / l.shorter())).collect());
    let near = found.iter().filter(|image| image.is_near_centre()).count();
    let central = found.iter().filter(|image| image.is_central()).count();
    // Of a few images, one may be different.
    let most = |count: usize| count as f64 >= MOST * n || found.len() > 3 && count + 1 == found.len();
    let in_square =
        found.iter().filter_map(|l| Some(f64::from(l.main()?.nucleus.longer_side()) / f64::from(l.square().width)));
    let in_square = median(in_square.collect());
    let cell_in_square =
        found.iter().filter_map(|l| Some(f64::from(l.main()?.cell.longer_side()) / f64::from(l.square().width)));
    let is_held =
        most(central) && (IN_SQUARE.0..=IN_SQUARE.1).contains(&in_square) && median(cell_in_square.collect()) <= HELD;
    let tight = if is_held { TIGHT_IF_HELD } else { TIGHT };
    // Where few cells are found, the images are no frames: they may have another stain.
    let of_sample = |count: usize| format!("in {count} of {} sampled images", images.len());
    if most(near) && extent >= tight && !found.is_empty() {
        let reason = format!("it extends over {:.0} % of the shorter side, the median", 100.0 * extent.min(1.0));
        (CutRule::Whole, reason)
    } else if most(central) && (IN_SQUARE.0..=IN_SQUARE.1).contains(&in_square) {
        (CutRule::Centre, format!("the nucleus is inside it {}", of_sample(central)))
    } else {
        (
            CutRule::Box,
            format!("the nucleus is inside the central square of {CENTRE_PX} px only {}", of_sample(central)),
        )
    }
}

/// The cells that `search` finds in the images of `rows`; none for an image that cannot be decoded or has one colour,
/// which check reports.
fn search_images(
    tree: &Tree,
    rows: &[ManifestRow],
    numbers: &[usize],
    search: &(dyn Fn(&decode::Rgb) -> Vec<FoundCell> + Sync),
    ctx: &Context,
) -> Result<Vec<Option<ImageCells>>> {
    let search_one = |row: &&ManifestRow| {
        let path = tree.full_path(&row.path);
        let image = decode::rgb(&tree.read_image(&row.path).ok()?, &path).ok()?;
        let (width, height) = (image.width_px, image.height_px);
        image.blank().is_none().then(|| ImageCells { width, height, cells: search(&image) })
    };
    let items: Vec<_> = numbers.iter().map(|i| (rows[*i].image_id.as_str(), &rows[*i])).collect();
    tree.each("cells", ("finding cells", "images"), &items, search_one, ctx)
}

/// Cuts each image around its only cell. The cells of `others`, which are no white cells, may be small.
fn box_cells(tree: &Tree, open: &[usize], others: &HashSet<usize>, ctx: &Context, output: &mut Output) -> Result<()> {
    let images = search_images(tree, &output.rows, open, &|image| segment::find_cells(image), ctx)?;
    let (mut none, mut several) = (Vec::new(), Vec::new());
    let usual = usual_size(&images);
    for (i, image) in open.iter().zip(images) {
        let Some(image) = image else { continue };
        let image = image.without_small(usual.filter(|_| !others.contains(i)));
        let row = &mut output.rows[*i];
        let (path, id) = (row.path.clone(), row.image_id.clone());
        let (check, message) = match only_cell(&image) {
            Ok(cell) => {
                super::masks::set_box(row, cell, "stain");
                continue;
            }
            Err(0) => (
                checks::NO_CELL,
                "expected a stained nucleus of the usual size, found none; the image is not used".to_string(),
            ),
            Err(n) => {
                let message = format!("{n} white cells and one label for the image; it is not used");
                (checks::SEVERAL_CELLS, message)
            }
        };
        if check == checks::NO_CELL { &mut none } else { &mut several }.push(*i);
        output.issue(&path, check, Severity::Error, message).image_id = Some(id);
    }
    let all = text::of(open.len() as u64, "image");
    if !none.is_empty() {
        let hint = "If they show their cells all the same: wbc ingest --cut whole (or centre)";
        let none = by_class(output, &none);
        let message = format!("left out: {none} of {all} in which no white cell was found. {hint}");
        output.issue("", checks::CUT, Severity::Warning, message);
    }
    if !several.is_empty() {
        let message = several_cells(&by_class(output, &several), &all);
        output.issue("", checks::CUT, Severity::Warning, message);
    }
    Ok(())
}

/// The number of rows, and how many there are of each label: 7 (eosinophil 6, monocyte 1).
fn by_class(output: &Output, rows: &[usize]) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(output.rows[*row].label.as_deref().unwrap_or("no label")).or_default() += 1;
    }
    format!("{} ({})", text::thousands(rows.len() as u64), text::counts(counts))
}

/// The sentence on images with several cells and one label.
pub fn several_cells(several: &str, all: &str) -> String {
    format!(
        "left out: {several} of {all} with several white cells and one label, which may be that of one of them only. \
         Boxes with labels (Pascal VOC, COCO, YOLO) or an image per cell would tell"
    )
}

/// The box of the cell that the image's label is about: the only one, or the one in the middle of an image that it
/// fills. Otherwise the number of cells.
fn only_cell(image: &ImageCells) -> std::result::Result<Rect, usize> {
    if let [found] = image.cells.as_slice() {
        return Ok(found.cell);
    }
    let fills = |found: &&FoundCell| f64::from(found.cell.longer_side()) >= TIGHT * image.shorter();
    let main = image.main().filter(|_| image.is_near_centre()).filter(fills);
    main.map(|found| found.cell).ok_or(image.cells.len())
}

/// Reports the images without a cell, and those whose nucleus is not inside what is cut.
fn verify(
    tree: &Tree,
    open: &[usize],
    rule: CutRule,
    usual: Option<Usual>,
    is_decided: bool,
    ctx: &Context,
    output: &mut Output,
) -> Result<()> {
    let search = |image: &decode::Rgb| {
        if let Some(usual) = usual {
            let cells = segment::find_cells_at(image, QUICK_PX);
            let quick = ImageCells { width: image.width_px, height: image.height_px, cells };
            if quick.is_clear(rule, usual.share) {
                return quick.cells;
            }
        }
        let cells = segment::find_cells_at(image, VERIFY_PX);
        // At the small size, a small nucleus can be missed.
        if cells.is_empty() { segment::find_cells(image) } else { cells }
    };
    let images = search_images(tree, &output.rows, open, &search, ctx)?;
    let (mut none, mut outside, mut boxed, mut several) = (Vec::new(), 0, 0, Vec::new());
    for (i, image) in open.iter().zip(images) {
        let Some(image) = image else { continue };
        let is_other = rule == CutRule::Whole && is_decided && usual.is_some_and(|usual| image.is_unfilled(usual));
        // In a frame, a nucleus of the usual size is smaller.
        let image = image.without_small(usual.map(|usual| usual.size).filter(|_| !is_other));
        let row = &mut output.rows[*i];
        let (path, id) = (row.path.clone(), row.image_id.clone());
        let is_larger = usual.is_some_and(|usual| image.is_larger(usual));
        if is_other {
            match only_cell(&image) {
                Ok(cell) => {
                    boxed += 1;
                    row.cut = Some(CutRule::Box);
                    super::masks::set_box(row, cell, "stain");
                }
                // Lobes of one nucleus may look like several cells in a close view.
                Err(_) if !is_larger => {}
                Err(n) => {
                    several.push(*i);
                    let message = format!("{n} white cells and one label for the image; it is not used");
                    output.issue(&path, checks::SEVERAL_CELLS, Severity::Error, message).image_id = Some(id);
                }
            }
            continue;
        }
        if image.cells.is_empty() {
            none.push(*i);
            let (severity, message) = match is_decided {
                true => {
                    (Severity::Error, "expected a stained nucleus of the usual size, found none; the image is not used")
                }
                false => (Severity::Warning, "expected a stained nucleus of the usual size, found none"),
            };
            output.issue(&path, checks::NO_CELL, severity, message.into()).image_id = Some(id);
        } else if rule == CutRule::Centre && !image.is_central() {
            outside += 1;
            let message = "the nucleus is outside the central square that is cut, or across its edge";
            output.issue(&path, checks::OUTSIDE, Severity::Warning, message.into()).image_id = Some(id);
        }
    }
    let all = text::of(open.len() as u64, "image");
    if !none.is_empty() {
        let found = format!("{} of {all} in which no white cell was found", by_class(output, &none));
        let message = match is_decided {
            true => format!("left out: {found}. If they show cells all the same: wbc ingest --cut {}", rule.name()),
            false => format!("{found}; they are used all the same"),
        };
        output.issue("", checks::CUT, Severity::Warning, message);
    }
    if boxed > 0 {
        let message = format!(
            "{} of {all} show their cell small or away from the middle: cut around it, found by the stain",
            text::thousands(boxed)
        );
        output.issue("", checks::CUT, Severity::Warning, message);
    }
    if !several.is_empty() {
        let message = several_cells(&by_class(output, &several), &all);
        output.issue("", checks::CUT, Severity::Warning, message);
    }
    if outside > 0 {
        let outside = text::thousands(outside);
        let message = format!(
            "{outside} of {all} have their nucleus outside the central square of {CENTRE_PX} px, or across its edge. \
             To cut around the cells: wbc ingest --cut cell"
        );
        output.issue("", checks::CUT, Severity::Warning, message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with cells at (x, y) whose nuclei have this side.
    fn image(width: u32, height: u32, cells: &[(u32, u32, u32)]) -> ImageCells {
        let cells = cells.iter().map(|&(x, y, side)| {
            let nucleus = Rect { x: x - side / 2, y: y - side / 2, width: side, height: side };
            let margin = side / 4;
            let (left, top) = (nucleus.x.saturating_sub(margin), nucleus.y.saturating_sub(margin));
            let cell = Rect {
                x: left,
                y: top,
                width: (nucleus.right() + margin).min(width) - left,
                height: (nucleus.bottom() + margin).min(height) - top,
            };
            FoundCell { nucleus, cell, nucleus_px: u64::from(side * side) }
        });
        ImageCells { width, height, cells: cells.collect() }
    }

    fn rule(images: Vec<ImageCells>) -> CutRule {
        decide(&images.into_iter().map(Some).collect::<Vec<_>>()).0
    }

    #[test]
    fn the_cells_decide_what_is_cut() {
        let many = |image: &dyn Fn(u32) -> ImageCells| (0..20).map(image).collect::<Vec<_>>();
        assert_eq!(rule(many(&|i| image(360, 363, &[(170 + i, 180, 80)]))), CutRule::Centre, "PBC");
        assert_eq!(rule(many(&|i| image(360, 363, &[(170 + i, 180, 135)]))), CutRule::Centre, "PBC's monocytes");
        assert_eq!(rule(many(&|i| image(224, 224, &[(105 + i, 110, 45)]))), CutRule::Centre, "LISC's cells");
        assert_eq!(rule(many(&|i| image(400, 400, &[(190 + i, 200, 110)]))), CutRule::Centre, "400 px");
        assert_eq!(rule(many(&|i| image(120, 120, &[(55 + i / 2, 60, 60)]))), CutRule::Whole, "tight crops");
        assert_eq!(rule(many(&|i| image(500, 480, &[(240 + i, 240, 300)]))), CutRule::Whole, "large tight crops");
        assert_eq!(rule(many(&|i| image(400, 400, &[(190 + i, 200, 160)]))), CutRule::Whole, "larger than the square");
        assert_eq!(rule(many(&|i| image(250, 250, &[(120 + i / 2, 125, 130)]))), CutRule::Whole, "crops of 250 px");
        assert_eq!(rule(many(&|i| image(320, 240, &[(45 + 12 * i, 60, 50)]))), CutRule::Box, "beside the middle");
        assert_eq!(rule(many(&|i| image(640, 480, &[(100 + 20 * i, 100 + 15 * i, 90)]))), CutRule::Box, "frames");
        assert_eq!(rule(many(&|_| image(640, 480, &[]))), CutRule::Box, "no cells");
    }

    #[test]
    fn platelets_are_no_cells_where_nuclei_are_larger() {
        let cells = [(180, 180, 80), (100, 100, 75), (200, 150, 35), (200, 150, 20)];
        let images: Vec<Option<ImageCells>> = cells.into_iter().map(|cell| Some(image(360, 360, &[cell]))).collect();
        let usual = usual_size(&images[..3]);
        let found: Vec<usize> =
            images.into_iter().flatten().map(|image| image.without_small(usual).cells.len()).collect();
        assert_eq!(found, [1, 1, 1, 0]);
        assert_eq!(image(360, 360, &[(180, 180, 20)]).without_small(None).cells.len(), 1);
    }

    #[test]
    fn an_image_with_several_cells_and_one_label_is_ambiguous() {
        assert_eq!(only_cell(&image(640, 480, &[])), Err(0));
        assert_eq!(only_cell(&image(640, 480, &[(100, 100, 60), (400, 300, 60)])), Err(2));
        assert!(only_cell(&image(640, 480, &[(100, 100, 60)])).is_ok());
        assert!(only_cell(&image(120, 120, &[(60, 60, 60), (110, 110, 10)])).is_ok(), "a crop and a neighbour");
    }
}
