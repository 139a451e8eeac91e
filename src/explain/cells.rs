//! The cells to explain: of new images, or of a run's gallery.

use super::request::Which;
use crate::batch::Tensors;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Input, Result};
use crate::features;
use crate::figure::gallery;
use crate::predict::{BATCH, CellImage, Classified, Cutter, Ensemble, Reader, appearance};
use crate::preprocess::{self, Cut, Square};
use crate::rect::Rect;
use crate::rows::{ManifestRow, PredictionRow};
use crate::run::{self, ModelId, ModelRef, Record};
use crate::schema::MANIFEST;
use crate::segment;
use crate::table;
use crate::text;
use crate::workspace::Workspace;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A cell to explain.
pub struct Cell {
    /// Name of its file, without extension.
    pub name: String,
    /// The image's path, or its `image_id`.
    pub path: String,
    /// Number of the cell in its image, from 0.
    pub number: u32,
    /// Where it is in a frame.
    pub rect: Option<Rect>,
    /// The fold that tested it.
    pub fold: Option<u32>,
    /// The labelled class.
    pub truth: Option<Class>,
    /// The predicted class.
    pub class: Class,
    /// Probability of each class.
    pub probabilities: Vec<f32>,
    /// `[size, size, 3]`, as the model sees it.
    pub pixels: Vec<u8>,
    /// None where the image is gone or no nucleus was found in it.
    pub segmented: Option<Segmented>,
}

/// A segmented cell, and the square of its image that the model sees.
pub struct Segmented {
    window: features::Window,
    cell: segment::Cell,
    square: Square,
}

impl Segmented {
    /// Segments the cell of a row. The window is as much larger than what `cut` keeps as it is for features by default.
    fn new(raw: &Path, row: &ManifestRow, cut: &preprocess::Settings) -> Option<Self> {
        let (usual, wider) = (preprocess::Settings::default(), features::Settings::default());
        let wider = match cut.cut {
            Cut::Cell => wider,
            kind => features::Settings {
                cut: kind,
                centre_px: cut.centre_px * wider.centre_px / usual.centre_px,
                margin: cut.margin + wider.margin - usual.margin,
            },
        };
        let square = preprocess::visible_square(raw, row, cut).ok()?;
        let window = features::Window::read(raw, row, &wider).ok()?;
        let cell = segment::cell(&window.image)?;
        Some(Self { window, cell, square })
    }

    /// Which pixels belong to the cell, where the square has `size x size` pixels, row by row.
    pub fn mask(&self, size: usize) -> Vec<bool> {
        let Square { x, y, side } = self.square;
        let place = |start: i64, i: usize| start as f64 + (i as f64 + 0.5) * side as f64 / size as f64;
        let at = |i: usize| self.window.pixel_at(place(x, i % size), place(y, i / size));
        (0..size * size).map(|i| at(i).is_some_and(|at| self.cell.whole.on[at])).collect()
    }
}

/// File names given so far.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// `name`, with a number appended where it was given before.
    fn unique(&mut self, name: String) -> String {
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| self.0.insert(name.clone()));
        free.expect("there is always another number")
    }
}

/// The cells of new images, classified as [`crate::predict`] does.
///
/// # Errors
/// [`Error::Data`] where no image could be read.
pub fn of_images(
    ensemble: &Ensemble,
    images: &[PathBuf],
    cutter: &Cutter,
    reader: &mut Reader,
    ctx: &Context,
) -> Result<Vec<Cell>> {
    let (mut read, mut looked) = (Vec::new(), Vec::new());
    for images in images.chunks(BATCH) {
        ctx.check_stop()?;
        let cells = reader.read(images, cutter, ctx)?;
        for cells in cells.chunks(BATCH) {
            looked.extend(ensemble.look(cells)?);
        }
        read.extend(cells);
    }
    reader.require_any()?;
    let mut names = Names::default();
    let (classified, _) = ensemble.classify(looked, appearance::folder);
    let cell = |(image, classified): (CellImage, Classified)| {
        let (row, stem) = (classified.row, image.path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        Cell {
            name: names.unique(match image.rect {
                Some(_) => format!("{stem}-cell-{}", image.cell),
                None => stem,
            }),
            path: row.path.clone(),
            number: image.cell,
            rect: image.rect,
            fold: None,
            truth: None,
            class: row.class,
            probabilities: row.probabilities,
            pixels: image.input.pixels().to_vec(),
            segmented: Segmented::new(Path::new(""), &image.row, &image.cut),
        }
    };
    Ok(read.into_iter().zip(classified).map(cell).collect())
}

/// Test cells of a run, or of one of its folds.
///
/// # Errors
/// [`Error::Setting`] where `source` is the model of all images, [`Error::Data`] where the run's tensors have changed.
pub fn of_gallery(ws: &Workspace, source: &ModelRef, which: Which) -> Result<Vec<Cell>> {
    let run = &source.run;
    let record = Record::read(ws, run)?;
    let cut = record.network_preprocess(run)?;
    let finished = run::finished(ws, run)?;
    if let Some(id) = source.model.filter(|id| id.fold().is_none_or(|fold| fold >= record.folds)) {
        let expected = format!("a run or one of its folds, 0 to {}, because it has test cells", record.folds - 1);
        return Err(Error::setting("gallery", expected, format!("the model of {}", id.title())));
    }
    let mut predictions = run::predictions(ws, run)?;
    predictions.retain(|row| {
        let id = ModelId::Fold(row.fold);
        source.model.map_or(finished.contains(&id), |model| model == id)
    });
    let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(&record.dataset), &MANIFEST)?;
    let manifest: HashMap<&str, &ManifestRow> = manifest.iter().map(|r| (r.image_id.as_str(), r)).collect();
    let mut chosen: Vec<(String, &PredictionRow)> = Vec::new();
    if which != Which::Examples {
        let mistakes = gallery::mistakes(&record.classes, &predictions).into_iter().enumerate();
        chosen.extend(mistakes.map(|(i, row)| (format!("mistake-{:02}", i + 1), row)));
    }
    if which != Which::Mistakes {
        for class in record.classes.iter() {
            let examples = gallery::examples(&predictions, class, record.classes.len()).into_iter().enumerate();
            chosen.extend(examples.map(|(i, row)| (format!("{}-{}", text::in_file_name(class.name()), i + 1), row)));
        }
    }
    let ids: BTreeSet<&str> = chosen.iter().map(|(_, row)| row.image_id.as_str()).collect();
    let tensors = Tensors::load_some(ws, &record.dataset, cut, &ids)?;
    if record.input(Input::Tensors) != Some(&tensors.hash) {
        return Err(Error::data(&record.dataset, format!("the tensors that {run} was trained on"), "others")
            .with_hint("Give images instead of --gallery"));
    }
    let raw = ws.raw_dataset(&record.dataset);
    let mut names = Names::default();
    let cell = |(kind, row): (String, &PredictionRow)| {
        let pixels = tensors.pixels(tensors.row(&row.image_id)?).to_vec();
        let stem = Path::new(&row.image_id).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some(Cell {
            // Names of classes can become equal.
            name: names.unique(format!("{kind}-{stem}")),
            path: row.image_id.clone(),
            number: 0,
            rect: None,
            fold: Some(row.fold),
            truth: Some(row.truth),
            class: record.classes.likeliest(&row.probabilities),
            probabilities: row.probabilities.clone(),
            pixels,
            segmented: manifest.get(row.image_id.as_str()).and_then(|row| Segmented::new(&raw, row, cut)),
        })
    };
    Ok(chosen.into_iter().filter_map(cell).collect())
}
