//! Preprocess: crops every usable image to its cell, resizes it, and stores the tensors in Parquet files.
//!
//! The paper cuts 80 (top), 81 (bottom), 80 (left) and 80 (right) pixels off images of 360 x 361: the central square of
//! 200. The same square is cut from other images of one cell in the middle. Images that one cell fills are taken whole;
//! where the manifest has a box (frames, masks, cells beside the middle), the box with a margin is cut. Ingest decides.
//! Pixels stay 0 to 255, because training fits the normalisation on training rows. `cut = "cell"` segments the cell
//! instead, and can normalise the colours of the laboratory: see `close`.

use crate::atomic;
use crate::context::Context;
use crate::dataset::Usable;
use crate::decode::{self, Rgb};
use crate::error::{Error, Input, Result};
use crate::join;
use crate::part::{Part, Waiting};
use crate::rect::Rect;
use crate::rows::{CutRule, ManifestRow};
use crate::schema::TENSORS;
use crate::shards;
use crate::storage;
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use arrow_buffer::{Buffer, OffsetBuffer};
use pixels::{cut_out, seen_from};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod close;
pub mod contact_sheet;
mod pixels;
mod settings;

pub(crate) use pixels::inside;
pub use pixels::{part, resize};
pub use settings::{Around, Cut, Filter, Settings, Square, Stain};

/// Tensors per file.
const FILE: usize = 4096;
/// Tensors that are computed at once, while as many are written: enough for many cores, in little memory.
const BATCH: usize = 128;

/// The square that the settings cut out of the image of a row, and the rule that applied.
///
/// # Errors
/// [`Error::Data`] where the settings require a box and the row has none, or where the row's image has no pixels or its
/// box is not inside it, which ingest never writes.
pub fn square(row: &ManifestRow, settings: &Settings) -> Result<(Square, Cut)> {
    let whole = Rect::whole(row.width_px, row.height_px);
    let is_empty = |rect: &Rect| rect.width == 0 || rect.height == 0;
    let wrong = |rect: &Rect| is_empty(rect) || !whole.contains(*rect);
    if let Some(rect) = [Some(whole), row.cell_box()].into_iter().flatten().find(wrong) {
        let got = format!("{rect:?} in {whole:?} for {}", row.image_id);
        return Err(Error::data(&row.dataset, "images with pixels, and boxes inside them", got));
    }
    let (width, height) = (i64::from(row.width_px), i64::from(row.height_px));
    // Rounded towards the top left, as the paper's 80 and 81 rows of 361 are.
    let central = |side: i64| Square { x: (width - side).div_euclid(2), y: (height - side).div_euclid(2), side };
    let smaller = width.min(height);
    // The cell is segmented with the plasma around it, and cut later.
    let close = settings.cut == Cut::Cell;
    let (centre_px, margin) =
        if close { (close::WINDOW_PX, close::WINDOW_MARGIN) } else { (settings.centre_px, settings.margin) };
    // Without a square part, the edges are continued.
    let whole = || central(width.max(height));
    let rule = match (settings.cut, row.cut) {
        (Cut::Auto, Some(CutRule::Whole)) => Cut::Whole,
        (Cut::Auto, Some(CutRule::Centre)) => Cut::Centre,
        (Cut::Auto, Some(CutRule::Box)) => Cut::Box,
        (rule, _) => rule,
    };
    match (rule, row.cell_box()) {
        (Cut::Whole, _) => Ok((whole(), Cut::Whole)),
        (Cut::Cell, None) if row.cut == Some(CutRule::Whole) => Ok((whole(), Cut::Cell)),
        (Cut::Centre, _) | (Cut::Auto | Cut::Cell, None) => {
            Ok((central(smaller.min(centre_px.into())), if close { Cut::Cell } else { Cut::Centre }))
        }
        (Cut::Auto | Cut::Box | Cut::Cell, Some(rect)) => {
            let [x, y, w, h] = <[u32; 4]>::from(rect).map(i64::from);
            let longer = w.max(h);
            let side = longer + 2 * (longer as f64 * margin).round() as i64;
            // Moved into the image where it fits.
            let place = |start: i64, length: i64, end: i64| {
                let at = start + (length - side).div_euclid(2);
                if side <= end { at.clamp(0, end - side) } else { (end - side).div_euclid(2) }
            };
            Ok((
                Square { x: place(x, w, width), y: place(y, h, height), side },
                if close { Cut::Cell } else { Cut::Box },
            ))
        }
        (Cut::Box, None) => Err(Error::Data {
            dataset: row.dataset.clone(),
            expected: "a box around the cell in every row".into(),
            got: format!("none for {}", row.image_id),
            hint: "Use cut = \"centre\" or \"whole\" where the images show one cell each".into(),
        }),
    }
}

/// The square of a row's image that its tensor shows: with [`Cut::Cell`], around the segmented cell.
///
/// # Errors
/// As [`read_part`] and [`square`].
pub fn visible_square(raw: &Path, row: &ManifestRow, settings: &Settings) -> Result<Square> {
    let (around, cut) = square(row, settings)?;
    if cut != Cut::Cell {
        return Ok(around);
    }
    let (image, in_image) = read_part(raw, row, around)?;
    let window = close::Window::new(&image, in_image, settings.filter);
    let (part, scale) = (inside(around, row.width_px, row.height_px), window.scale);
    let inner = window.normalise(settings).square;
    let [x, y, side] = [inner.x, inner.y, inner.side].map(|v| (v as f64 * scale).round() as i64);
    Ok(Square { x: i64::from(part.x) + x, y: i64::from(part.y) + y, side })
}

/// Cuts `square` out and resizes it to `size_px`. `image` is the image or a part of it that `square` counts from. Where
/// the square reaches over its edge, the edge's pixels are repeated, or what is around the cell. Every image that a
/// model sees, while training or later, is computed here.
pub fn tensor(image: &Rgb, square: Square, settings: &Settings) -> Preprocessed {
    let cut_and_resize = |image: &Rgb, square: Square, outside: Option<[u8; 3]>| {
        let (cut, side) = cut_out(image, square, outside);
        resize(&cut, side, settings.size_px, settings.filter)
    };
    if settings.cut != Cut::Cell {
        let pixels = cut_and_resize(image, square, None);
        return Preprocessed { pixels, nucleus_found: None, diameters_px: None };
    }
    let window = close::Window::new(image, square, settings.filter);
    let scale = window.scale as f32;
    let cell = window.normalise(settings);
    Preprocessed {
        pixels: cut_and_resize(&cell.image, cell.square, cell.outside),
        nucleus_found: Some(cell.diameters_px.is_some()),
        diameters_px: cell.diameters_px.map(|diameters| diameters.map(|diameter| scale * diameter)),
    }
}

/// A preprocessed image.
pub struct Preprocessed {
    /// `[size, size, 3]`, u8.
    pub pixels: Vec<u8>,
    /// With [`Cut::Cell`], whether a nucleus was found to cut the cell out by. If not, the pixels show the middle of
    /// the image, in its own colours and with what is around the cell.
    pub nucleus_found: Option<bool>,
    /// Diameters of discs as large as the cell and its nucleus, px of the image, where one was found.
    pub diameters_px: Option<[f32; 2]>,
}

/// The result of the stage.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub dataset: String,
    /// Whether the existing tensors were kept, because images and settings are the same.
    pub up_to_date: bool,
    /// Number of preprocessed images.
    pub images: u64,
    /// Their side, px.
    pub size_px: u32,
    /// Preprocessed images by the rule that cut them.
    pub cuts: BTreeMap<Cut, u64>,
    /// Of those cut by their segmented cell: images in which no nucleus was found.
    pub without_nucleus: u64,
    /// Rows without a class, or with an issue of severity error.
    pub left_out: u64,
    /// Folders of the files.
    pub folders: Vec<PathBuf>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let images = text::of(self.images, "preprocessed image");
        write!(f, "{}: {} of {} x {} px", self.dataset, images, self.size_px, self.size_px)?;
        let name = |cut: &Cut| match cut {
            Cut::Box => "the cell's box",
            Cut::Whole => "the whole image",
            Cut::Cell => "the cell that segmentation finds",
            Cut::Centre | Cut::Auto => "the central square",
        };
        let cuts: Vec<String> = self.cuts.iter().map(|(cut, n)| format!("{n} by {}", name(cut))).collect();
        write!(f, ", cut {}", cuts.join(", "))?;
        if self.without_nucleus > 0 {
            let images = text::of(self.without_nucleus, "image");
            write!(f, "; no nucleus found in {images}: the middle is shown, in its own colours")?;
        }
        if self.left_out > 0 {
            write!(f, "; {} left out", self.left_out)?;
        }
        let up_to_date = if self.up_to_date { " (up to date)" } else { "" };
        self.folders.iter().try_for_each(|folder| write!(f, "\n{}", folder.display()))?;
        f.write_str(up_to_date)
    }
}

/// The rows that are preprocessed, how many are not, and what a file's provenance is but for its number.
struct Work {
    rows: Vec<ManifestRow>,
    left_out: u64,
    provenance: Provenance,
}

impl Work {
    fn plan(ws: &Workspace, dataset: &str, settings: &Settings) -> Result<Self> {
        let Usable { cells: rows, left_out, inputs, .. } = Usable::read(ws, dataset)?;
        let provenance = Provenance {
            stage: "preprocess".into(),
            settings: serde_json::to_value(settings).expect("settings are plain JSON"),
            seed: None,
            inputs,
        };
        Ok(Self { rows, left_out, provenance })
    }

    fn files(&self) -> usize {
        self.rows.len().div_ceil(FILE)
    }

    fn rows_of(&self, file: usize) -> &[ManifestRow] {
        &self.rows[file * FILE..((file + 1) * FILE).min(self.rows.len())]
    }

    fn file(&self, dir: &Path, number: usize) -> (PathBuf, Provenance) {
        let mut provenance = self.provenance.clone();
        provenance.inputs.insert("shard".into(), format!("{}/{}", number + 1, self.files()));
        (dir.join(format!("part-{number:05}.parquet")), provenance)
    }

    fn is_file_current(&self, dir: &Path, number: usize) -> bool {
        let (path, provenance) = self.file(dir, number);
        table::is_current(&path, &TENSORS, &provenance)
    }

    fn is_current(&self, dir: &Path) -> bool {
        (0..self.files()).all(|number| self.is_file_current(dir, number))
    }

    /// The shards of the work, of so many, that have not written all of their files into `dir`.
    fn waiting(&self, dir: &Path, count: u32) -> Waiting {
        let missing = (0..self.files()).filter(|number| !self.is_file_current(dir, *number));
        let missing: BTreeSet<u32> = missing.map(|number| (number % count as usize) as u32 + 1).collect();
        Waiting { step: "preprocess", shards: count, missing: missing.into_iter().collect() }
    }

    /// Images in the files of `dir` that should have been cut by their segmented cell, but no nucleus was found.
    fn without_nucleus(&self, dir: &Path, settings: &Settings) -> Result<u64> {
        if settings.cut != Cut::Cell {
            return Ok(0);
        }
        let of_file = |number| table::count_of(&self.file(dir, number).0, &TENSORS, "nucleus_found", false);
        (0..self.files()).map(of_file).sum()
    }

    fn cuts(&self, settings: &Settings) -> Result<BTreeMap<Cut, u64>> {
        let mut cuts = BTreeMap::new();
        for row in &self.rows {
            *cuts.entry(square(row, settings)?.1).or_default() += 1;
        }
        Ok(cuts)
    }
}

/// Cuts, resizes and stores the images of every usable row of `dataset`, in manifest order. Memory does not depend
/// on how many there are.
///
/// # Errors
/// [`Error::Setting`], [`Error::Missing`] or [`Error::Format`] for the tables, [`Error::Stale`] where an image is not
/// the one that was ingested, [`Error::Image`] where one cannot be decoded (`wbc check` finds them all and leaves them
/// out), [`Error::Interrupted`]. In each case the images there were before stay.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let work = Work::plan(ws, dataset, settings)?;
    let members = join::members(ws, dataset);
    if !members.is_empty() {
        return of_members(ws, dataset, &members, &work, settings, ctx);
    }
    let dir = ws.tensors(dataset, &settings.folder());
    let cuts = work.cuts(settings)?;
    let up_to_date = work.is_current(&dir);
    if !up_to_date {
        let raw = ws.raw_dataset(dataset);
        let shared = ws.shards(dataset, &settings.folder());
        let write = |dir: &Path, number: usize| {
            let (path, provenance) = work.file(dir, number);
            write_file(&path, &provenance, &raw, work.rows_of(number), settings, ctx)
        };
        match ctx.part {
            Part::All => {
                let _task = ctx.progress.task("preprocessing", Some(work.rows.len() as u64), "images");
                atomic::write_dir(&dir, |dir| (0..work.files()).try_for_each(|number| write(dir, number)))?;
            }
            Part::Shard(shard) => {
                // The manifest is the same for all shards, and so are its parts.
                let own = (0..work.files()).filter(|number| number % shard.count as usize == shard.number as usize - 1);
                let open: Vec<usize> = own.filter(|number| !work.is_file_current(&shared, *number)).collect();
                let images = open.iter().map(|number| work.rows_of(*number).len() as u64).sum();
                let _task = ctx.progress.task("preprocessing", Some(images), "images");
                open.into_iter().try_for_each(|number| write(&shared, number))?;
                return Err(Error::Waiting(work.waiting(&shared, shard.count)));
            }
            Part::Merged(count) => {
                let waiting = work.waiting(&shared, count);
                if !waiting.missing.is_empty() {
                    return Err(Error::Waiting(waiting));
                }
                atomic::write_dir(&dir, |dir| {
                    (0..work.files()).try_for_each(|number| {
                        let ((from, _), (to, _)) = (work.file(&shared, number), work.file(dir, number));
                        std::fs::rename(&from, to).map_err(Error::io(&from, "move"))
                    })
                })?;
                shards::remove(&shared)?;
            }
        }
    }
    let without_nucleus = work.without_nucleus(&dir, settings)?;
    Ok(Summary {
        dataset: dataset.into(),
        up_to_date,
        without_nucleus,
        images: work.rows.len() as u64,
        size_px: settings.size_px,
        cuts,
        left_out: work.left_out,
        folders: vec![dir],
    })
}

/// Whether the tensors of a data set are there and up to date.
///
/// # Errors
/// As [`run`], for the tables.
pub fn is_current(ws: &Workspace, dataset: &str, settings: &Settings) -> Result<bool> {
    let members = join::members(ws, dataset);
    if !members.is_empty() {
        return members.iter().try_fold(true, |all, member| Ok(all && is_current(ws, member, settings)?));
    }
    Ok(Work::plan(ws, dataset, settings)?.is_current(&ws.tensors(dataset, &settings.folder())))
}

/// Preprocesses the members of a joint data set, which has no tensors of its own.
fn of_members(
    ws: &Workspace,
    dataset: &str,
    members: &[String],
    work: &Work,
    settings: &Settings,
    ctx: &Context,
) -> Result<Summary> {
    if ctx.part != Part::All {
        let expected = format!("one of its members, where shards are preprocessed: {}", members.join(", "));
        return Err(Error::setting("dataset", expected, dataset));
    }
    join::require_current(ws, dataset)?;
    let members: Vec<Summary> = members.iter().map(|name| run(ws, name, settings, ctx)).collect::<Result<_>>()?;
    Ok(Summary {
        dataset: dataset.into(),
        up_to_date: members.iter().all(|member| member.up_to_date),
        without_nucleus: members.iter().map(|member| member.without_nucleus).sum(),
        images: work.rows.len() as u64,
        size_px: settings.size_px,
        cuts: work.cuts(settings)?,
        left_out: work.left_out,
        folders: members.into_iter().flat_map(|member| member.folders).collect(),
    })
}

fn write_file(
    path: &Path,
    provenance: &Provenance,
    raw: &Path,
    rows: &[ManifestRow],
    settings: &Settings,
    ctx: &Context,
) -> Result<()> {
    // One batch is cut while the one before is written.
    let (sender, batches) = std::sync::mpsc::sync_channel::<Result<RecordBatch>>(1);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            table::write_stream(path, &TENSORS, provenance, |put| {
                batches.into_iter().try_for_each(|batch| put(&batch?))
            })
        });
        for rows in rows.chunks(BATCH) {
            // The writer has stopped where it cannot write.
            if sender.send(batch(raw, rows, settings, ctx)).is_err() {
                break;
            }
        }
        drop(sender);
        writer.join().expect("the writer does not panic")
    })
}

/// The tensors of `rows`, on all cores.
fn batch(raw: &Path, rows: &[ManifestRow], settings: &Settings, ctx: &Context) -> Result<RecordBatch> {
    let length = (settings.size_px * settings.size_px * 3) as usize;
    let mut pixels = vec![0u8; rows.len() * length];
    let mut found = vec![(None, None); rows.len()];
    let cut = pixels.par_chunks_exact_mut(length).zip(&mut found).zip(rows);
    let cut_one = |((pixels, found), row): ((&mut [u8], &mut (Option<bool>, Option<[f32; 2]>)), &ManifestRow)| {
        ctx.check_stop()?;
        let image = read_tensor(raw, row, settings)?;
        pixels.copy_from_slice(&image.pixels);
        *found = (image.nucleus_found, image.diameters_px);
        ctx.progress.advance(1);
        Ok(())
    };
    storage::on_threads(raw, || cut.try_for_each(cut_one))?;
    let sides = UInt32Array::from_value(settings.size_px, rows.len());
    let diameters = |k: usize| found.iter().map(move |(_, diameters)| diameters.map(|diameters| diameters[k]));
    let ends = OffsetBuffer::from_repeated_length(length, rows.len());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.image_id))),
        Arc::new(sides.clone()),
        Arc::new(sides),
        Arc::new(BinaryArray::new(ends, Buffer::from_vec(pixels), None)),
        Arc::new(found.iter().map(|(nucleus, _)| *nucleus).collect::<BooleanArray>()),
        Arc::new(diameters(0).collect::<Float32Array>()),
        Arc::new(diameters(1).collect::<Float32Array>()),
    ];
    Ok(RecordBatch::try_new(TENSORS.arrow(), columns).expect("the columns are the schema's"))
}

/// Reads, verifies, decodes, cuts and resizes one image.
///
/// # Errors
/// As [`read_part`] and [`square`].
pub fn read_tensor(raw: &Path, row: &ManifestRow, settings: &Settings) -> Result<Preprocessed> {
    let (image, square) = read_part(raw, row, square(row, settings)?.0)?;
    Ok(tensor(&image, square, settings))
}

/// Reads and verifies a row's image and decodes the part of `square` that lies in it, and nothing else; with it the
/// square as seen from that part.
///
/// # Errors
/// [`Error::Io`], [`Error::Image`], and [`Error::Stale`] where the file is not the one that was ingested.
pub fn read_part(raw: &Path, row: &ManifestRow, square: Square) -> Result<(Rgb, Square)> {
    let path = raw.join(&row.path);
    let bytes = decode::read(&path)?;
    if *blake3::hash(&bytes).to_hex() != *row.content_hash {
        return Err(Error::stale(Input::Manifest, path, "the image has changed since it was ingested"));
    }
    let rect = inside(square, row.width_px, row.height_px);
    let image = decode::crop(&bytes, &path, rect).map_err(|error| match error {
        Error::Image { path, message } => {
            Error::Image { path, message: message + ". wbc check finds all such files and leaves them out" }
        }
        other => other,
    })?;
    Ok((image, seen_from(rect, square)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(width_px: u32, height_px: u32, cell_box: Option<Rect>) -> ManifestRow {
        let mut row = ManifestRow { width_px, height_px, ..Default::default() };
        row.set_cell_box(cell_box);
        row
    }

    #[test]
    fn the_central_square_is_the_papers_cut() {
        let (cut, _) = square(&row(360, 361, None), &Settings::default()).unwrap();
        // 80 off the top and left, 81 off the bottom, 80 off the right.
        assert_eq!(cut, Square { x: 80, y: 80, side: 200 });
        assert_eq!((361 - (cut.y + cut.side), 360 - (cut.x + cut.side)), (81, 80));
    }

    #[test]
    fn an_image_that_is_not_square_comes_out_the_right_way_round() {
        // Red grows to the right, green downwards; the top left corner is marked blue.
        let (width, height) = (300u32, 220u32);
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| {
            [(x * 255 / width) as u8, (y * 255 / height) as u8, if x < 80 && y < 60 { 255 } else { 0 }]
        });
        let image = Rgb { width_px: width, height_px: height, pixels: pixels.collect() };
        for size_px in [64, 200, 256] {
            let settings = Settings { size_px, ..Settings::default() };
            let (cut, _) = square(&row(width, height, None), &settings).unwrap();
            let got = tensor(&image, cut, &settings).pixels;
            let at = |x: u32, y: u32| &got[((y * size_px + x) * 3) as usize..][..3];
            let last = size_px - 1;
            assert!(at(0, 0)[2] > 200 && at(last, 0)[2] < 50 && at(0, last)[2] < 50 && at(last, last)[2] < 50);
            assert!(at(last, 0)[0] > at(0, 0)[0] + 100 && at(0, last)[1] > at(0, 0)[1] + 100);
            assert!(at(last, 0)[1] < 40 && at(0, last)[0] < 60);
        }
    }

    #[test]
    fn sizes_and_boxes_are_checked_before_anything_is_allocated() {
        let rect = |x, width| Some(Rect { x, y: 0, width, height: 3 });
        for (width, cell_box) in [(0, None), (9, rect(0, 0)), (9, rect(0, 4_000_000_000)), (9, rect(4_000_000_000, 3))]
        {
            let error = square(&row(width, 5, cell_box), &Settings::default()).unwrap_err();
            assert!(error.to_string().contains("boxes inside them"), "{error}");
        }
        assert!(square(&row(9, 5, rect(6, 3)), &Settings::default()).is_ok());
    }

    #[test]
    fn a_long_cell_takes_no_more_memory_than_its_image() {
        let row = row(65_500, 1, Some(Rect { x: 100, y: 0, width: 65_300, height: 1 }));
        let settings = Settings { size_px: 16, ..Settings::default() };
        let (cut, _) = square(&row, &settings).unwrap();
        let image = Rgb { width_px: 65_500, height_px: 1, pixels: vec![9; 65_500 * 3] };
        assert_eq!(cut_out(&image, cut, None).1, 7_836, "a tenth of 78,360 px");
        assert_eq!(tensor(&image, cut, &settings).pixels, vec![9; 16 * 16 * 3]);
    }

    proptest! {
        /// The square holds the whole box, lies in the image where it fits, and an image has the size asked for.
        #[test]
        fn a_boxs_square_holds_the_box(
            width in 1u32..400, height in 1u32..400,
            x in 0.0..1.0f64, y in 0.0..1.0f64, w in 0.0..1.0f64, h in 0.0..1.0f64,
        ) {
            let start = |share: f64, end: u32| (share * f64::from(end)) as u32;
            let (bx, by) = (start(x, width), start(y, height));
            let (bw, bh) = (1 + start(w, width - bx - 1), 1 + start(h, height - by - 1));
            let settings = Settings { size_px: 16, ..Settings::default() };
            let cell_box = Rect { x: bx, y: by, width: bw, height: bh };
            let (cut, rule) = square(&row(width, height, Some(cell_box)), &settings).unwrap();
            prop_assert_eq!(rule, Cut::Box);
            if cut.side <= i64::from(width.min(height)) {
                prop_assert!(cut.x >= 0 && cut.y >= 0);
                prop_assert!(cut.x + cut.side <= width.into() && cut.y + cut.side <= height.into());
            }
            prop_assert!(cut.x <= bx.into() && cut.y <= by.into());
            prop_assert!(cut.x + cut.side >= i64::from(bx + bw) && cut.y + cut.side >= i64::from(by + bh));
            let image = Rgb { width_px: width, height_px: height, pixels: vec![7; (width * height * 3) as usize] };
            prop_assert_eq!(tensor(&image, cut, &settings).pixels, vec![7; 16 * 16 * 3]);
        }
    }
}
