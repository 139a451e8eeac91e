//! Reads new images and cuts out their cells as the models expect them.

use crate::context::Context;
use crate::copies::Features;
use crate::decode::{self, Grey, Rgb};
use crate::error::{Error, Input, Result};
use crate::features::{self, Window};
use crate::ingest;
use crate::preprocess::{self, Cut, Preprocessed};
use crate::rect::Rect;
use crate::rows::{CutRule, ManifestRow, Severity};
use crate::run::{Record, TrainedImages};
use crate::segment;
use crate::table;
use crate::text;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the run does not say how large these were: where it is at least this multiple of the square that one cell is
/// cut from.
const FRAME: u32 = 2;
/// Endings of lists.
const LISTS: [&str; 5] = ["txt", "csv", "tsv", "tab", "parquet"];

/// What to give instead of a path that does not work.
const HINT: &str = "Give images, folders, or lists (.txt; .csv, .tsv or .parquet with a column path)";

/// What an image shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// As the training images; images that are larger than these are frames.
    #[default]
    Auto,
    /// One cell.
    Cell,
    /// A frame (field of view) with many cells, which are found by the stain of their nuclei.
    Frame,
}

/// The images to classify, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// The image files, each once, in the order they were named or found.
    pub files: Vec<PathBuf>,
    /// How often an image was named again.
    pub repeated: u64,
    /// Files in folders that are no images by their content.
    pub others: Vec<PathBuf>,
    /// Files in folders that are masks, as ingest tells them.
    pub masks: Vec<PathBuf>,
    /// What could not be opened or read in folders and lists, in words.
    pub problems: Vec<String>,
    seen: HashSet<PathBuf>,
}

impl Images {
    fn add(&mut self, path: PathBuf) {
        // The same file by another name, such as through a link, is the same file.
        let own = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if self.seen.insert(own) {
            self.files.push(path);
        } else {
            self.repeated += 1;
        }
    }

    /// All images below a folder, which are found as ingest finds them.
    fn add_folder(&mut self, folder: &Path, ctx: &Context) -> Result<()> {
        let walk = ingest::walk(folder)?;
        let masks = ingest::masks_among(folder, &walk.files, ctx)?;
        for path in walk.files {
            if masks.contains(&path) {
                self.masks.push(path);
            } else if decode::has_image_extension(&path) || starts_like_an_image(&path)? {
                self.add(path);
            } else {
                self.others.push(path);
            }
        }
        let problems = walk.problems.into_iter().filter(|problem| problem.severity != Severity::Note);
        let of_folder = |path: &str| folder.join(path).display().to_string();
        self.problems.extend(problems.map(|problem| format!("{}: {}", of_folder(&problem.path), problem.message)));
        Ok(())
    }

    fn add_list(&mut self, list: &Path) -> Result<()> {
        let folder = list.parent().unwrap_or(Path::new(""));
        let (paths, bad_rows) = read_list(list)?;
        self.problems.extend(bad_rows.into_iter().map(|row| format!("{}: {row}", list.display())));
        // Lists written on Windows.
        let given = |path: &String| {
            let slashes = path.replace('\\', "/");
            folder.join(if may_exist(&folder.join(path)) { path } else { &slashes })
        };
        let root = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut named: Vec<PathBuf> = Vec::new();
        if !paths.iter().all(|path| may_exist(&given(path))) {
            // Names without their folders, and paths of another computer, as ingest finds them.
            named = ingest::walk(root)?.files;
            named.retain(|path| decode::has_image_extension(path));
        }
        let below: Vec<String> = named.iter().map(|path| ingest::relative(root, path)).collect();
        let finder = ingest::Finder::among(folder, below.iter().map(String::as_str), "");
        let mut by_name = Vec::new();
        for path in &paths {
            let found = if may_exist(&given(path)) { None } else { Some(finder.find("", path)) };
            match found {
                None => self.add(given(path)),
                Some(Ok(found)) => {
                    if found.by == ingest::FoundBy::NameAlone {
                        by_name.push(format!("{path} as {}", found.path));
                    }
                    self.add(folder.join(found.path));
                }
                Some(Err(message)) => self.problems.push(format!("{}: {message}", list.display())),
            }
        }
        if !by_name.is_empty() {
            let some = text::some(by_name.iter().map(String::as_str));
            self.problems.push(format!("{}: in other folders, found by name alone: {some}", list.display()));
        }
        Ok(())
    }
}

/// Whether there is something at `path`; also where that cannot be known, which is an error when it is read.
fn may_exist(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Whether the first bytes of a file are those of an image.
fn starts_like_an_image(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut head)).map_err(Error::io(path, "read"))?;
    Ok(decode::is_image(&head))
}

/// The images that `paths` name: files, folders (all images below them), and lists (.txt: one path per line; .csv,
/// .tsv, .parquet: a column `path`, `file`, `filename` or `image`), whose relative paths start from the list's folder.
///
/// # Errors
/// [`Error::Missing`] for a path that does not exist or a folder without images, [`Error::Format`] for a device or pipe
/// and for a list without paths, [`Error::Io`] for what cannot be read, [`Error::Interrupted`].
pub fn find(paths: &[PathBuf], ctx: &Context) -> Result<Images> {
    let mut images = Images::default();
    for path in paths {
        let missing = || Error::missing(Input::Images, path).with_hint(HINT);
        let extension = path.extension().map_or(String::new(), |e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            let before = images.files.len() as u64 + images.repeated;
            images.add_folder(path, ctx)?;
            if images.files.len() as u64 + images.repeated == before {
                return Err(missing());
            }
        } else if !table::exists(path)? {
            return match path.exists() {
                true => Err(Error::format(path, "path", "an image, folder or list", "a device, pipe or socket")),
                false => Err(missing()),
            };
        } else if LISTS.contains(&extension.as_str()) {
            images.add_list(path)?;
        } else {
            images.add(path.clone());
        }
    }
    Ok(images)
}

/// The paths in a list, and what is wrong with the rows that cannot be read.
fn read_list(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let wrong = |got: String| Error::format(path, "list", "paths of images: one per line, or in a column path", got);
    let is_text = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("txt"));
    let (paths, bad_rows) = if is_text {
        let (text, _) = ingest::decode_text(&ingest::sheet::read_bytes(path)?);
        let lines = text.lines().map(|line| line.trim().trim_matches('"'));
        (lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(String::from).collect(), Vec::new())
    } else {
        let sheet = ingest::sheet::read(path)?;
        let Some(column) = ingest::path_column(&sheet) else {
            return Err(wrong(format!("columns {}", sheet.columns.join(", "))));
        };
        let mut bad_rows = sheet.bad_rows;
        let mut paths: Vec<String> = Vec::new();
        for row in &sheet.rows {
            match row.value(Some(column)) {
                Some(path) => paths.push(path.into()),
                None => bad_rows.push(format!("row {}: no path", row.number)),
            }
        }
        (paths, bad_rows)
    };
    if paths.is_empty() { Err(wrong("none".into())) } else { Ok((paths, bad_rows)) }
}

/// A cell cut out of an image.
pub(crate) struct CellImage {
    /// The image file, as it was given or found.
    pub path: PathBuf,
    /// Number of the cell in its image, from 0.
    pub cell: u32,
    /// Where the cell is in a frame.
    pub rect: Option<Rect>,
    /// The cell as the models see it.
    pub input: CellInput,
    /// The image as a row of a manifest, and the settings that the cell was cut out with.
    pub row: ManifestRow,
    pub cut: preprocess::Settings,
}

/// A cell as the models of a run see it.
pub(crate) enum CellInput {
    /// For networks.
    Pixels(Preprocessed),
    /// For classical classifiers: its features, in the order of the schema.
    Features(Vec<Option<f64>>),
}

impl CellInput {
    /// The pixels of a network's input; none of a classifier's.
    pub fn pixels(&self) -> &[u8] {
        match self {
            Self::Pixels(image) => &image.pixels,
            Self::Features(_) => &[],
        }
    }

    /// The features of a classifier's input; none of a network's.
    pub fn features(&self) -> &[Option<f64>] {
        match self {
            Self::Pixels(_) => &[],
            Self::Features(features) => features,
        }
    }

    /// Diameters of discs as large as the cell and its nucleus, px of the image, where a network's input was cut out by
    /// them.
    pub fn diameters_px(&self) -> Option<[f32; 2]> {
        match self {
            Self::Pixels(image) => image.diameters_px,
            Self::Features(_) => None,
        }
    }

    /// Whether no nucleus was found to measure, or to cut the cell out by.
    pub fn is_without_nucleus(&self) -> bool {
        match self {
            Self::Pixels(image) => image.nucleus_found == Some(false),
            Self::Features(features) => features.iter().all(Option::is_none),
        }
    }
}

/// How the models of a run see a cell.
#[derive(Clone, Debug)]
pub(crate) enum Prepare {
    /// Networks: its pixels.
    Pixels(preprocess::Settings),
    /// Classical classifiers: its features.
    Features(features::Settings),
}

impl Prepare {
    /// As the cells of a run were prepared; `run` is its name for messages.
    ///
    /// # Errors
    /// [`Error::Stale`] for a classical classifier of an earlier version, which does not say how.
    pub fn of(record: &Record, run: &str) -> Result<Self> {
        match (&record.preprocess, &record.features) {
            (Some(settings), _) => Ok(Self::Pixels(settings.clone())),
            (None, Some(settings)) => Ok(Self::Features(settings.clone())),
            (None, None) => {
                let reason = "an earlier version of wbc wrote it, which did not keep the fitted classifier";
                Err(Error::stale(Input::Run, run, reason))
            }
        }
    }

    /// How a cell is cut out.
    pub fn cut(&self) -> preprocess::Settings {
        match self {
            Self::Pixels(settings) => settings.clone(),
            Self::Features(settings) => settings.window(features::MAX_WINDOW_PX),
        }
    }

    /// The same, with another rule of cutting.
    fn with_cut(&self, cut: Cut) -> Self {
        match self {
            Self::Pixels(settings) => Self::Pixels(preprocess::Settings { cut, ..settings.clone() }),
            Self::Features(settings) => Self::Features(features::Settings { cut, ..settings.clone() }),
        }
    }

    /// The cell of a row in an image that was read.
    fn cell(&self, image: &Rgb, row: &ManifestRow) -> Result<CellInput> {
        let (square, _) = preprocess::square(row, &self.cut())?;
        Ok(match self {
            Self::Pixels(settings) => CellInput::Pixels(preprocess::tensor(image, square, settings)),
            Self::Features(settings) => CellInput::Features(Window::of(image, square, settings).features()),
        })
    }

    /// The cell of a row of a data set's manifest, as the run's models see it.
    ///
    /// # Errors
    /// As [`Prepare::read`].
    pub fn cell_image(&self, raw: &Path, row: &ManifestRow) -> Result<CellImage> {
        let input = self.read(raw, row)?;
        Ok(CellImage { path: row.path.clone().into(), cell: 0, rect: None, input, row: row.clone(), cut: self.cut() })
    }

    /// The cell of a row of a manifest, whose images lie in `raw`.
    ///
    /// # Errors
    /// As [`preprocess::read_part`].
    pub fn read(&self, raw: &Path, row: &ManifestRow) -> Result<CellInput> {
        Ok(match self {
            Self::Pixels(settings) => CellInput::Pixels(preprocess::read_tensor(raw, row, settings)?),
            Self::Features(settings) => CellInput::Features(Window::read(raw, row, settings)?.features()),
        })
    }
}

/// An image that was read.
pub(crate) struct ReadImage {
    /// The image file, as it was given or found.
    pub path: String,
    /// Hash of its bytes.
    pub content_hash: String,
    /// What copies of it are found by.
    pub features: Features,
}

/// Reads images and keeps count of what was read.
#[derive(Default)]
pub(crate) struct Reader {
    /// Images read.
    pub images: Vec<ReadImage>,
    /// Images in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Images whose nucleus is outside what is cut, or across its edge.
    pub outside: Vec<PathBuf>,
    /// Images that were read as frames, because they are larger than the training images.
    pub frames: u64,
    /// Why files could not be read.
    pub unreadable: Vec<String>,
}

impl Reader {
    /// The cells of `images`, in order. A file that is no readable image is logged and left out.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read: what it shows is not known.
    pub fn read(&mut self, images: &[PathBuf], cutter: &Cutter, ctx: &Context) -> Result<Vec<CellImage>> {
        let read: Vec<Result<(ReadImage, Shown, Vec<CellImage>)>> =
            images.par_iter().map(|path| cutter.read(path)).collect();
        let mut all = Vec::new();
        for (path, read) in images.iter().zip(read) {
            match read {
                Ok((image, shown, cells)) => {
                    self.images.push(image);
                    match shown {
                        Shown::Cells => {}
                        Shown::Frame => self.frames += 1,
                        Shown::Outside => self.outside.push(path.clone()),
                    }
                    if cells.is_empty() {
                        self.empty.push(path.clone());
                    }
                    all.extend(cells);
                }
                Err(error @ Error::Io { .. }) => return Err(error),
                Err(error) => {
                    ctx.progress.log(&error.to_string());
                    self.unreadable.push(error.to_string());
                }
            }
        }
        Ok(all)
    }

    /// # Errors
    /// [`Error::Data`] where no image could be read.
    pub fn require_any(&self) -> Result<()> {
        if !self.images.is_empty() {
            return Ok(());
        }
        let got = self.unreadable.first().map_or("none", String::as_str);
        Err(Error::data("new images", "a readable image", got).with_hint(HINT))
    }
}

/// What must be known of how an image was read.
enum Shown {
    /// Nothing.
    Cells,
    /// It is larger than the training images, and all its cells were looked for.
    Frame,
    /// Its nucleus is outside what is cut.
    Outside,
}

/// What is cut out of new images: the same as of the training images of this kind.
pub(crate) struct Cutter<'a> {
    /// What the user says that the images show.
    kind: ImageKind,
    /// How the run's cells were prepared.
    prepare: &'a Prepare,
    /// How they were cut out.
    settings: preprocess::Settings,
    /// What the training images showed; none in runs of earlier versions.
    trained: Option<&'a TrainedImages>,
    /// Whether all classes are white cells, so that every image must show a nucleus.
    white: bool,
}

impl<'a> Cutter<'a> {
    /// Prepares cells as those of a run were.
    pub fn new(kind: ImageKind, prepare: &'a Prepare, record: &'a Record) -> Self {
        let info = |class| record.classes.info(class);
        let white = record.classes.iter().all(|class| info(class).is_none_or(|info| info.white_cell != Some(false)));
        Self { kind, prepare, settings: prepare.cut(), trained: record.images.as_ref(), white }
    }
}

/// The parts of an image to cut out.
enum Parts {
    /// One cell: the part that the training images were cut to.
    One(CutRule),
    /// One cell, which has to be found.
    Nearest,
    /// Every cell that is found.
    All,
}

impl Cutter<'_> {
    /// Whether an image is so much larger than the training images, each with one cell, that it is a frame.
    fn is_larger(&self, image: &Rgb) -> bool {
        let of_cells = self.trained.filter(|trained| trained.rule != CutRule::Box);
        let shorter = f64::from(image.width_px.min(image.height_px));
        of_cells.is_some_and(|trained| shorter > ingest::LARGER * f64::from(trained.shorter_px))
    }

    fn parts(&self, image: &Rgb) -> Parts {
        let shorter = image.width_px.min(image.height_px);
        match (self.kind, self.trained) {
            (ImageKind::Frame, _) => Parts::All,
            (ImageKind::Cell, Some(trained)) if trained.rule == CutRule::Box => Parts::Nearest,
            (ImageKind::Cell, trained) => Parts::One(trained.map_or(CutRule::Centre, |trained| trained.rule)),
            (ImageKind::Auto, Some(trained)) if trained.rule == CutRule::Box => Parts::All,
            (ImageKind::Auto, Some(_)) if self.is_larger(image) => Parts::All,
            (ImageKind::Auto, Some(trained)) => Parts::One(trained.rule),
            (ImageKind::Auto, None) if shorter >= FRAME * self.settings.centre_px => Parts::All,
            (ImageKind::Auto, None) => Parts::One(CutRule::Centre),
        }
    }

    fn read(&self, path: &Path) -> Result<(ReadImage, Shown, Vec<CellImage>)> {
        let bytes = decode::read(path)?;
        let image = decode::rgb(&bytes, path)?;
        if let Some(kind) = image.blank() {
            return Err(Error::Image { path: path.into(), message: format!("the image is {kind}") });
        }
        let whole = ManifestRow {
            path: path.display().to_string(),
            width_px: image.width_px,
            height_px: image.height_px,
            content_hash: blake3::hash(&bytes).to_hex().to_string(),
            ..Default::default()
        };
        let cell = |cell: usize, rect: Option<Rect>, rule: CutRule| -> Result<CellImage> {
            let mut row = whole.clone();
            row.set_cell_box(rect);
            row.cut = Some(rule);
            // Whatever the training data were, a frame's cells are cut out by their boxes.
            let cut = match (self.settings.cut, rect) {
                (Cut::Cell, _) => Cut::Cell,
                (_, Some(_)) => Cut::Box,
                (Cut::Box, None) => Cut::Auto,
                (cut, None) => cut,
            };
            let prepare = self.prepare.with_cut(cut);
            let input = prepare.cell(&image, &row)?;
            Ok(CellImage { path: path.into(), cell: cell as u32, rect, input, row, cut: prepare.cut() })
        };
        let of_boxes = |boxes: Vec<Rect>| {
            boxes.into_iter().enumerate().map(|(i, rect)| cell(i, Some(rect), CutRule::Box)).collect::<Result<Vec<_>>>()
        };
        let mut shown = Shown::Cells;
        let cells = match self.parts(&image) {
            // Where the user does not say that it shows a cell, it is looked for, as ingest does.
            Parts::One(rule) if self.white && self.kind == ImageKind::Auto => {
                let cell = cell(0, None, rule)?;
                let (square, _) = preprocess::square(&cell.row, &cell.cut)?;
                let share =
                    ingest::share_of_nucleus(&image, preprocess::inside(square, image.width_px, image.height_px));
                if share.is_some_and(|share| share < ingest::INSIDE) {
                    shown = Shown::Outside;
                }
                share.map(|_| cell).into_iter().collect()
            }
            Parts::One(rule) => vec![cell(0, None, rule)?],
            Parts::All => {
                if self.kind == ImageKind::Auto && self.is_larger(&image) {
                    shown = Shown::Frame;
                }
                of_boxes(segment::find_cells(&image).into_iter().map(|found| found.cell).collect())?
            }
            Parts::Nearest => of_boxes(nearest(&image).into_iter().collect())?,
        };
        let features = Features::new(&Grey::from(image));
        Ok((ReadImage { path: whole.path, content_hash: whole.content_hash, features }, shown, cells))
    }
}

/// The cell nearest to the centre of an image.
fn nearest(image: &Rgb) -> Option<Rect> {
    let (x, y) = (i64::from(image.width_px), i64::from(image.height_px));
    let away = |rect: Rect| {
        let twice = |start: u32, length: u32| 2 * i64::from(start) + i64::from(length);
        (twice(rect.x, rect.width) - x).pow(2) + (twice(rect.y, rect.height) - y).pow(2)
    };
    segment::find_cells(image).into_iter().min_by_key(|found| away(found.nucleus)).map(|found| found.cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_images_as_ingest_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["img/a.png", "P1/b.png", "P2/c.png"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let list = folder.path().join("list.csv");
        let names = "a.png\nC:\\x\\P1\\b.png\nP2/b.png\nmissing.png\n/x/c.png\n";
        std::fs::write(&list, format!("filename\n{names}")).unwrap();
        let images = find(&[list], &Context::silent(0)).unwrap();
        let found: Vec<String> = images.files.iter().map(|path| ingest::relative(folder.path(), path)).collect();
        assert_eq!(found, ["img/a.png", "P1/b.png", "P2/c.png"]);
        let problems = images.problems.join("\n");
        for words in ["P2/b.png, found only P1/b.png", "missing.png, found no file", "/x/c.png as P2/c.png"] {
            assert!(problems.contains(words), "{problems}");
        }
    }
}
