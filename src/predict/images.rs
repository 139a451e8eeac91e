//! Reads new images and cuts out their cells as the models expect them.

use crate::context::Context;
use crate::decode;
use crate::error::{Error, Input, Result};
use crate::preprocess::{self, Cut};
use crate::rect::Rect;
use crate::rows::ManifestRow;
use crate::segment;
use rayon::prelude::*;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// An image is a frame where its shorter side is at least this many times that of the square that one cell is cut from.
const FRAME: u32 = 2;

/// What to give instead of a path that does not work.
const HINT: &str = "Give images, folders, or lists (.txt, .csv with a column path)";

/// What an image shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// Large images are frames, small ones a single cell.
    #[default]
    Auto,
    /// One cell, in the middle.
    Cell,
    /// A frame (field of view) with many cells, which are found by the stain of their nuclei.
    Frame,
}

/// The images that `paths` name: files, folders (all images below them), and lists (.txt: one path per line; .csv: a
/// column `path`), whose relative paths start from the list's folder.
///
/// # Errors
/// [`Error::Missing`] for a path that does not exist or a folder without images, [`Error::Format`] for a list without
/// paths.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in paths {
        let missing = || Error::missing(Input::Images, path).with_hint(HINT);
        let extension = path.extension().map_or(String::new(), |e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            let before = images.len();
            let files = walkdir::WalkDir::new(path).sort_by_file_name().into_iter().flatten();
            images.extend(files.map(|e| e.into_path()).filter(|p| p.is_file() && decode::has_image_extension(p)));
            if images.len() == before {
                return Err(missing());
            }
        } else if !path.is_file() {
            return Err(missing());
        } else if ["txt", "csv"].contains(&extension.as_str()) {
            let folder = path.parent().unwrap_or(Path::new(""));
            images.extend(read_list(path, extension == "csv")?.into_iter().map(|p| folder.join(p)));
        } else {
            images.push(path.clone());
        }
    }
    Ok(images)
}

fn read_list(path: &Path, csv: bool) -> Result<Vec<String>> {
    let wrong = |got: String| Error::format(path, "list", "paths of images: one per line, or in a column path", got);
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let paths: Vec<String> = if csv {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let headers = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
        let Some(column) = headers.iter().position(|h| h.trim() == "path") else {
            return Err(wrong(format!("columns {}", headers.iter().collect::<Vec<_>>().join(", "))));
        };
        let row = |r: csv::Result<csv::StringRecord>| match r {
            Ok(record) => Ok(record[column].to_string()),
            Err(e) => Err(wrong(e.to_string())),
        };
        reader.records().map(row).collect::<Result<_>>()?
    } else {
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(Into::into).collect()
    };
    if paths.is_empty() { Err(wrong("none".into())) } else { Ok(paths) }
}

/// A cell cut out of an image.
pub(crate) struct CellImage {
    /// The image file, as it was given or found.
    pub path: PathBuf,
    /// Number of the cell in its image, from 0.
    pub cell: u32,
    /// Where the cell is in a frame.
    pub rect: Option<Rect>,
    /// `[size, size, 3]`, as the models see it.
    pub pixels: Vec<u8>,
    /// The image as a row of a manifest, and the settings that the cell was cut out with.
    pub row: ManifestRow,
    pub cut: preprocess::Settings,
}

/// Reads images and keeps count of what was read.
#[derive(Default)]
pub(crate) struct Reader {
    /// Images read.
    pub images: u64,
    /// Frames in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Why files could not be read.
    pub unreadable: Vec<String>,
}

impl Reader {
    /// The cells of `images`, in order. An unreadable file is logged and left out.
    pub fn read(
        &mut self,
        images: &[PathBuf],
        kind: ImageKind,
        settings: &preprocess::Settings,
        ctx: &Context,
    ) -> Vec<CellImage> {
        let read: Vec<Result<Vec<CellImage>>> =
            images.par_iter().map(|path| read_cells(path, kind, settings)).collect();
        let mut all = Vec::new();
        for (path, read) in images.iter().zip(read) {
            match read {
                Ok(cells) => {
                    self.images += 1;
                    if cells.is_empty() {
                        self.empty.push(path.clone());
                    }
                    all.extend(cells);
                }
                Err(error) => {
                    ctx.progress.log(&error.to_string());
                    self.unreadable.push(error.to_string());
                }
            }
        }
        all
    }

    /// # Errors
    /// [`Error::Data`] where no image could be read.
    pub fn require_any(&self) -> Result<()> {
        if self.images > 0 {
            return Ok(());
        }
        let got = self.unreadable.first().map_or("none", String::as_str);
        Err(Error::data("new images", "a readable image", got).with_hint(HINT))
    }
}

fn read_cells(path: &Path, kind: ImageKind, settings: &preprocess::Settings) -> Result<Vec<CellImage>> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
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
    let frame = match kind {
        ImageKind::Frame => true,
        ImageKind::Cell => false,
        ImageKind::Auto => image.width_px.min(image.height_px) >= FRAME * settings.centre_px,
    };
    let cell = |cell: usize, rect: Option<Rect>| -> Result<CellImage> {
        let mut row = whole.clone();
        row.set_cell_box(rect);
        // Whatever the training data were, a frame's cells are cut out by their boxes and a single cell from the
        // middle.
        let cut = match (settings.cut, rect) {
            (Cut::Cell, _) => Cut::Cell,
            (_, Some(_)) => Cut::Box,
            (Cut::Box, None) => Cut::Whole,
            (cut, None) => cut,
        };
        let cut = preprocess::Settings { cut, ..settings.clone() };
        let pixels = preprocess::picture(&image, preprocess::square(&row, &cut)?.0, &cut);
        Ok(CellImage { path: path.into(), cell: cell as u32, rect, pixels, row, cut })
    };
    if !frame {
        return Ok(vec![cell(0, None)?]);
    }
    segment::find_cells(&image).iter().enumerate().map(|(i, found)| cell(i, Some(found.cell))).collect()
}
