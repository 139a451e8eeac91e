//! Predict: new images through a run's networks. Probabilities are the mean over the run's models, calibrated on what the
//! run said of its own test images; a cell that the models should not be trusted on is marked, not silently classified.

use crate::atomic;
use crate::batch::Tensors;
use crate::cells;
use crate::class::Class;
use crate::context::Context;
use crate::decode;
use crate::error::{Error, Input, Result};
use crate::nn::device::Device;
use crate::preprocess;
use crate::rect::Rect;
use crate::rows::{CellRow, ManifestRow, PredictionRow};
use crate::run::{self, ModelId, Record, TrainedModel};
use crate::schema::{CELLS, MANIFEST};
use crate::split;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

pub mod calibration;
pub mod differential;
pub mod external;
mod reference;

use differential::Differential;
use reference::Reference;

/// A cell is called unsure below this calibrated confidence: one of ten such cells or more is called wrong.
pub const SURE: f32 = 0.9;
/// Images that are read at once.
const BATCH: usize = 64;
/// A picture is a frame of many cells where its shorter side is this many times that of the square that one cell is cut
/// from.
const FRAME: u32 = 2;

/// What an image shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Shows {
    /// Large images are frames, small ones a cell
    #[default]
    Auto,
    /// One cell, in the middle
    Cell,
    /// A frame: its cells are found by their nuclei's stain
    Frame,
}

/// How the rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Parquet,
    Csv,
    Json,
}

impl Format {
    pub fn extension(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }
}

/// What was predicted.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: String,
    /// How many models were averaged.
    pub models: usize,
    pub images: u64,
    pub cells: u64,
    /// Cells in doubt, by why.
    pub doubtful: BTreeMap<String, u64>,
    /// What the probabilities were calibrated by: above 1, the models were too sure of themselves.
    pub temperature: f64,
    /// Whether distances from the training cells could be told.
    pub distances: bool,
    /// Frames in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Files that could not be read, and why.
    pub unreadable: Vec<String>,
    pub differentials: Vec<Differential>,
    pub file: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for differential in &self.differentials {
            writeln!(f, "{differential}\n")?;
        }
        writeln!(
            f,
            "run {}, {}: {} in {}; temperature {:.2}",
            self.run,
            number(self.models as u64, "model"),
            number(self.cells, "cell"),
            number(self.images, "image"),
            self.temperature
        )?;
        for (why, cells) in &self.doubtful {
            writeln!(f, "in doubt, {why}: {cells}")?;
        }
        if !self.doubtful.is_empty() {
            writeln!(
                f,
                "  unsure: calibrated confidence below {:.0} %; far: farther from the training cells than 99 of 100 of the \
                 training's own data that the models never saw",
                100.0 * SURE
            )?;
        }
        if !self.distances {
            writeln!(f, "distances from the training cells are not known: the run's pictures are not here")?;
        }
        if !self.empty.is_empty() {
            writeln!(f, "no cell found in {} images, such as {}", self.empty.len(), self.empty[0].display())?;
        }
        writeln!(f, "{}", self.file.display())?;
        write!(f, "For research use, not for diagnosis: the models know five classes and one laboratory's images.")
    }
}

/// The images that `paths` name: files, folders (all images below them), and lists (.txt: a path a line; .csv: a column
/// `path`), whose paths count from the list.
///
/// # Errors
/// [`Error::Missing`] for a path that is not there or a folder without images, [`Error::Format`] for a list without paths.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let hint = "Give images, folders, or lists (.txt, .csv with a column path)";
        let missing = || Error::missing(Input::Images, path).with_hint(hint);
        let extension = path.extension().map_or(String::new(), |e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            let before = found.len();
            let files = walkdir::WalkDir::new(path).sort_by_file_name().into_iter().flatten();
            found.extend(files.map(|e| e.into_path()).filter(|p| p.is_file() && decode::has_image_extension(p)));
            if found.len() == before {
                return Err(missing());
            }
        } else if !path.is_file() {
            return Err(missing());
        } else if ["txt", "csv"].contains(&extension.as_str()) {
            let below = path.parent().unwrap_or(Path::new(""));
            found.extend(listed(path, extension == "csv")?.into_iter().map(|p| below.join(p)));
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn listed(path: &Path, csv: bool) -> Result<Vec<String>> {
    let broken = |got: String| Error::Format {
        path: path.into(),
        item: "list".into(),
        expected: "paths of images: one a line, or in a column path".into(),
        got,
    };
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let paths: Vec<String> = if csv {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let headers = reader.headers().map_err(|e| broken(e.to_string()))?.clone();
        let Some(column) = headers.iter().position(|h| h.trim() == "path") else {
            return Err(broken(format!("columns {}", headers.iter().collect::<Vec<_>>().join(", "))));
        };
        let row = |r: csv::Result<csv::StringRecord>| match r {
            Ok(record) => Ok(record[column].to_string()),
            Err(e) => Err(broken(e.to_string())),
        };
        reader.records().map(row).collect::<Result<_>>()?
    } else {
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).map(Into::into).collect()
    };
    if paths.is_empty() { Err(broken("none".into())) } else { Ok(paths) }
}

/// "1 cell", "2 cells".
fn number(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A cell's picture, and where it was.
pub(crate) struct Found {
    pub path: PathBuf,
    /// Its number in its image.
    pub cell: u32,
    pub cell_box: Option<[u32; 4]>,
    pub picture: Vec<u8>,
    /// Its image as a manifest would name it, and how the picture was cut.
    pub row: ManifestRow,
    pub cut: preprocess::Settings,
}

/// What was read of new images so far.
#[derive(Default)]
pub(crate) struct Reading {
    pub images: u64,
    /// Frames in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Files that could not be read, and why.
    pub unreadable: Vec<String>,
}

impl Reading {
    /// The cells of `images`, in order; what is wrong with a file is said and kept.
    pub fn cells(
        &mut self,
        images: &[PathBuf],
        shows: Shows,
        settings: &preprocess::Settings,
        ctx: &Context,
    ) -> Vec<Found> {
        let found: Vec<Result<Vec<Found>>> = images.par_iter().map(|path| cells_of(path, shows, settings)).collect();
        let mut cells = Vec::new();
        for (path, found) in images.iter().zip(found) {
            match found {
                Ok(found) => {
                    self.images += 1;
                    if found.is_empty() {
                        self.empty.push(path.clone());
                    }
                    cells.extend(found);
                }
                Err(error) => {
                    ctx.progress.log(&error.to_string());
                    self.unreadable.push(error.to_string());
                }
            }
        }
        cells
    }

    /// # Errors
    /// [`Error::Data`] where no image could be read.
    pub fn check(&self) -> Result<()> {
        if self.images > 0 {
            return Ok(());
        }
        Err(Error::Data {
            dataset: "new images".into(),
            expected: "an image that can be read".into(),
            got: self.unreadable.first().cloned().unwrap_or("none".into()),
            hint: "Give images, folders, or lists (.txt, .csv with a column path)".into(),
        })
    }
}

/// Predicts every cell of `images` with the models of `run` (or that of `fold` alone), and writes the rows to `output`.
///
/// # Errors
/// [`Error::Missing`] where the run has no finished model, [`Error::Data`] where no image could be read; of single files
/// that cannot be read the summary speaks.
pub fn run(
    ws: &Workspace,
    run: &str,
    model: Option<ModelId>,
    images: &[PathBuf],
    shows: Shows,
    (output, format): (&Path, Format),
    device: Device,
    ctx: &Context,
) -> Result<Summary> {
    let settings = Record::read(ws, run)?.network_preprocess(run)?.clone();
    let panel = Panel::open(ws, run, model, device, ctx)?;
    let mut rows: Vec<CellRow> = Vec::new();
    let mut reading = Reading::default();
    ctx.progress.begin("predict", Some(images.len() as u64), "images");
    for chunk in images.chunks(BATCH) {
        ctx.check_stop()?;
        for cells in reading.cells(chunk, shows, &settings, ctx).chunks(BATCH) {
            rows.extend(panel.classify(cells)?.into_iter().map(|told| told.row));
        }
        ctx.progress.advance(chunk.len() as u64);
    }
    ctx.progress.end();
    reading.check()?;
    write(output, format, run, &panel, &rows)?;
    let mut doubtful: BTreeMap<String, u64> = BTreeMap::new();
    rows.iter().filter_map(|r| r.doubt.clone()).for_each(|why| *doubtful.entry(why).or_default() += 1);
    Ok(Summary {
        run: run.into(),
        models: panel.models.len(),
        images: reading.images,
        cells: rows.len() as u64,
        doubtful,
        temperature: panel.temperature,
        distances: panel.references.is_some(),
        empty: reading.empty,
        unreadable: reading.unreadable,
        differentials: differential::of(&rows),
        file: output.into(),
    })
}

/// What the run said of its own test images; nothing where no fold is finished.
fn own_predictions(ws: &Workspace, run: &str) -> Result<Vec<PredictionRow>> {
    match run::predictions(ws, run) {
        Err(Error::Missing { .. }) => Ok(Vec::new()),
        rows => rows,
    }
}

/// Each model's training cells; none where the pictures that it was trained on are not here any more.
fn references(ws: &Workspace, models: &[TrainedModel], ctx: &Context) -> Result<Option<Vec<Reference>>> {
    let record = &models[0].record;
    let tensors = record.preprocess.as_ref().and_then(|settings| Tensors::load(ws, &record.dataset, settings).ok());
    let Some(tensors) = tensors else { return Ok(None) };
    let splits = match split::read(ws, &record.dataset) {
        Ok(splits) if record.inputs.get("tensors") == Some(&tensors.hash) => splits,
        _ => return Ok(None),
    };
    if record.inputs.get("splits") != Some(&table::file_hash(&ws.splits(&record.dataset))?) {
        return Ok(None);
    }
    let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(&record.dataset), &MANIFEST)?;
    let class_of: HashMap<String, Class> = manifest.into_iter().filter_map(|r| Some((r.image_id, r.class?))).collect();
    ctx.progress.begin("training cells to compare with", Some(models.len() as u64), "models");
    let one = |model: &TrainedModel| {
        ctx.check_stop()?;
        let reference = Reference::new(model, &tensors, &splits, &class_of);
        ctx.progress.advance(1);
        reference
    };
    let references = models.iter().map(one).collect::<Result<_>>();
    ctx.progress.end();
    references.map(Some)
}

/// The cells of an image file.
fn cells_of(path: &Path, shows: Shows, settings: &preprocess::Settings) -> Result<Vec<Found>> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let image = decode::rgb(&bytes, path)?;
    let whole = ManifestRow {
        path: path.display().to_string(),
        width_px: image.width_px,
        height_px: image.height_px,
        content_hash: blake3::hash(&bytes).to_hex().to_string(),
        ..Default::default()
    };
    let frame = match shows {
        Shows::Frame => true,
        Shows::Cell => false,
        Shows::Auto => image.width_px.min(image.height_px) >= FRAME * settings.centre_px,
    };
    let one = |cell: usize, cell_box: Option<[u32; 4]>| -> Result<Found> {
        let mut row = whole.clone();
        row.set_cell_box(cell_box.map(|[x, y, width, height]| Rect { x, y, width, height }));
        let cut = match cell_box {
            // A frame's cells are cut by their boxes, a cell's picture from its middle, whatever the training data were.
            _ if settings.cut == preprocess::Cut::Cell => settings.clone(),
            Some(_) => preprocess::Settings { cut: preprocess::Cut::Box, ..settings.clone() },
            None if settings.cut == preprocess::Cut::Box => {
                preprocess::Settings { cut: preprocess::Cut::Whole, ..settings.clone() }
            }
            None => settings.clone(),
        };
        let picture = preprocess::picture(&image, preprocess::square(&row, &cut)?.0, &cut);
        Ok(Found { path: path.into(), cell: cell as u32, cell_box, picture, row, cut })
    };
    if !frame {
        return Ok(vec![one(0, None)?]);
    }
    let regions = cells::from_stain(&image);
    let boxes = regions.iter().map(|r| r.rect.into());
    boxes.enumerate().map(|(i, b)| one(i, Some(b))).collect()
}

/// A run's models, asked together.
pub(crate) struct Panel {
    pub models: Vec<TrainedModel>,
    /// See [`calibration`].
    temperature: f64,
    references: Option<Vec<Reference>>,
}

/// What a panel says of a cell, and what each of its models says alone.
pub(crate) struct Told {
    pub row: CellRow,
    by_model: Vec<[f32; Class::COUNT]>,
}

impl Panel {
    /// Of all folds that are finished, or of one model alone. What saw no image of a fold can be tested on it; a model of
    /// all images is asked where it is the only one.
    pub fn open(ws: &Workspace, run: &str, model: Option<ModelId>, device: Device, ctx: &Context) -> Result<Self> {
        let mut panel = Self::without_distances(ws, run, model, device)?;
        panel.references = references(ws, &panel.models, ctx)?;
        Ok(panel)
    }

    /// The same, which says of no cell how far it is from those of the training.
    pub fn without_distances(ws: &Workspace, run: &str, model: Option<ModelId>, device: Device) -> Result<Self> {
        let mut ids = match model {
            Some(id) => vec![id],
            None => run::finished(ws, run)?,
        };
        if ids.len() > 1 {
            ids.retain(|id| *id != ModelId::All);
        }
        let models: Vec<TrainedModel> = ids.iter().map(|id| run::open(ws, run, *id, device)).collect::<Result<_>>()?;
        let temperature = calibration::temperature(&own_predictions(ws, run)?);
        Ok(Self { models, temperature, references: None })
    }

    /// Which models they are.
    fn ids(&self) -> impl Iterator<Item = ModelId> + '_ {
        self.models.iter().map(TrainedModel::id)
    }

    fn provenance(&self, run: &str) -> Provenance {
        let ids: Vec<ModelId> = self.ids().collect();
        Provenance {
            stage: "predict".into(),
            settings: serde_json::json!({"run": run, "models": ids, "temperature": self.temperature, "sure": SURE}),
            seed: Some(self.models[0].record.seed),
            inputs: BTreeMap::from([("run".into(), self.models[0].meta.run.clone())]),
        }
    }

    pub fn classify(&self, cells: &[Found]) -> Result<Vec<Told>> {
        let size_px = self.models[0].meta.size_px;
        let tensors = Tensors::of(size_px, cells.iter().flat_map(|c| c.picture.iter().copied()).collect());
        let rows: Vec<usize> = (0..cells.len()).collect();
        let share = 1.0 / self.models.len() as f32;
        let mut said = vec![Vec::new(); cells.len()];
        let mut distances = vec![0f32; cells.len()];
        for (i, model) in self.models.iter().enumerate() {
            let found = model.infer(&tensors, &rows)?;
            said.iter_mut().zip(&found.probabilities).for_each(|(said, p)| said.push(*p));
            if let Some(references) = &self.references {
                let found = references[i].distances(&found.features);
                distances.iter_mut().zip(found).for_each(|(sum, d)| *sum += share * d);
            }
        }
        let told = |((cell, by_model), distance): ((&Found, Vec<[f32; Class::COUNT]>), f32)| {
            let mut mean = [0f32; Class::COUNT];
            by_model.iter().for_each(|p| mean.iter_mut().zip(p).for_each(|(mean, p)| *mean += share * p));
            let p = calibration::scale(mean, self.temperature);
            let class = Class::likeliest(p);
            let votes = by_model.iter().filter(|p| Class::likeliest(**p) == class).count();
            let confidence = p[class.index()];
            let distance = self.references.as_ref().map(|_| distance);
            let doubts = [("unsure", confidence < SURE), ("far", distance.is_some_and(|d| d > 1.0))];
            let doubts: Vec<&str> = doubts.into_iter().filter_map(|(why, holds)| holds.then_some(why)).collect();
            let [x_px, y_px, width_px, height_px] = cell.cell_box.map_or([None; 4], |b| b.map(Some));
            let [p_neutrophil, p_eosinophil, p_basophil, p_lymphocyte, p_monocyte] = p;
            let row = CellRow {
                path: cell.path.display().to_string(),
                cell: cell.cell,
                x_px,
                y_px,
                width_px,
                height_px,
                class,
                confidence,
                agreement: share * votes as f32,
                distance,
                doubt: (!doubts.is_empty()).then(|| doubts.join(" and ")),
                p_neutrophil,
                p_eosinophil,
                p_basophil,
                p_lymphocyte,
                p_monocyte,
            };
            Told { row, by_model }
        };
        Ok(cells.iter().zip(said).zip(distances).map(told).collect())
    }
}

fn write(path: &Path, format: Format, run: &str, panel: &Panel, rows: &[CellRow]) -> Result<()> {
    match format {
        Format::Parquet => table::write_rows(path, &CELLS, &panel.provenance(run), rows),
        Format::Csv => atomic::write(path, |out| {
            let mut writer = csv::Writer::from_writer(out);
            let failed = |e: csv::Error| Error::Io { path: path.into(), action: "write", source: e.into() };
            rows.iter().try_for_each(|row| writer.serialize(row)).map_err(failed)?;
            writer.flush().map_err(Error::io(path, "write"))
        }),
        Format::Json => {
            atomic::write_bytes(path, (serde_json::to_string_pretty(rows).expect("plain data") + "\n").as_bytes())
        }
    }
}
