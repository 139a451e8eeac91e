//! Explain: where in a cell's picture a run's networks find what they call it by. Two maps a cell that do not depend on
//! each other: Grad-CAM, by the gradients of the last convolutional maps, and occlusion, by what covering a place does.
//! Such maps show where, not why; the share of each that lies within the segmented cell says whether a model looks at
//! the cell or around it. Where the two differ occlusion is what the model does: Grad-CAM takes a mean over places,
//! which is ResNet50's own way to its answer, but W-Net's hidden layer weighs each place by itself.

use crate::batch::Tensors;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::features;
use crate::figure::explanation::{self, Explanation, PANEL, Panel};
use crate::figure::gallery;
use crate::figure::heat::{Heat, Measured};
use crate::nn::device::Device;
use crate::predict::{Panel as Models, Reading, Shows};
use crate::preprocess::{self, Cut, Square};
use crate::rows::{ManifestRow, PredictionRow};
use crate::run::{self, ModelId, Record, TrainedModel};
use crate::schema::MANIFEST;
use crate::segment;
use crate::table;
use crate::workspace::Workspace;
use image::RgbImage;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

mod occlusion;

use occlusion::{LEAST, Patch};

/// Images that are read, or cells that are classified, at once.
const BATCH: usize = 64;

/// What is to be explained of a cell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The class that the maps speak for; that which the cell is called, where none is named.
    pub class: Option<Class>,
    /// Side of the square that covers the picture, and from one place to the next: by default an eighth of the side, and
    /// half a square.
    pub patch_px: Option<u32>,
    pub stride_px: Option<u32>,
}

/// Which of the cells that a run's page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The most confident mistakes
    Mistakes,
    /// Test cells of each class, at even intervals
    Examples,
    /// Both
    All,
}

/// Which cells.
#[derive(Clone, Debug)]
pub enum Cells {
    /// Those of new images, by all folds' models together, calibrated as by `wbc predict`.
    New(Vec<PathBuf>, Shows),
    /// Those of the run's page, each by the model that never saw it.
    Gallery(Which),
}

/// A cell, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The image's path, or its `image_id` in the run's data set.
    pub path: String,
    /// Its number in its image.
    pub cell: u32,
    /// Its box in a frame, px: left, top, width, height.
    pub box_px: Option<[u32; 4]>,
    /// The fold that tested it.
    pub fold: Option<u32>,
    pub truth: Option<Class>,
    /// What it is called, and how probable that is said to be.
    pub class: Class,
    pub probability: f32,
    /// The class that the maps speak for, and its probability.
    pub explained: Class,
    pub explained_probability: f32,
    pub grad_cam: Measured,
    pub occlusion: Measured,
    /// Share of the picture that the segmented cell fills: what a map that is the same everywhere has within it.
    pub cell_share: Option<f32>,
    pub file: PathBuf,
}

/// A mean over those cells that have the value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    pub cells: usize,
    pub value: f64,
}

impl Mean {
    fn of(values: impl Iterator<Item = Option<f32>>) -> Option<Self> {
        let values: Vec<f64> = values.flatten().map(f64::from).collect();
        let cells = values.len();
        (cells > 0).then(|| Self { cells, value: values.iter().sum::<f64>() / cells as f64 })
    }
}

/// Shares within the segmented cell, means over cells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Within {
    pub grad_cam: Option<Mean>,
    /// Of cells in which a square costs more than a point.
    pub occlusion: Option<Mean>,
    /// Of the picture: what a map that is the same everywhere would have.
    pub picture: Option<Mean>,
}

/// What was explained.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: String,
    /// How many models there were; of new images their maps are averaged.
    pub models: usize,
    pub size_px: u32,
    pub patch_px: usize,
    pub stride_px: usize,
    pub cells: Vec<Row>,
    pub within_cell: Within,
    /// Frames in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Files that could not be read, and why.
    pub unreadable: Vec<String>,
    pub folder: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, Table, presets};
        let percent = |share: Option<f32>| share.map_or("-".into(), |s| format!("{:.1}", 100.0 * s));
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["File", "Truth", "Called", "%", "Explained", "Grad-CAM", "Occlusion", "Cell"]);
        for row in &self.cells {
            table.add_row([
                row.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                row.truth.map_or("-", Class::title).into(),
                row.class.title().into(),
                percent(Some(row.probability)),
                row.explained.title().into(),
                percent(row.grad_cam.within_cell),
                percent(row.occlusion.within_cell),
                percent(row.cell_share),
            ]);
        }
        for column in [3, 5, 6, 7] {
            table.column_mut(column).expect("there are eight").set_cell_alignment(CellAlignment::Right);
        }
        if !self.cells.is_empty() {
            writeln!(
                f,
                "{table}\nGrad-CAM, Occlusion: % of the map within the cell. Cell: % of the picture that it fills."
            )?;
        }
        writeln!(
            f,
            "run {}, {} models: {} cells; pictures of {} px, covered by {} px at steps of {}",
            self.run,
            self.models,
            self.cells.len(),
            self.size_px,
            self.patch_px,
            self.stride_px
        )?;
        let Within { grad_cam, occlusion, picture } = self.within_cell;
        for (what, mean) in [("Grad-CAM", grad_cam), ("occlusion", occlusion), ("the picture", picture)] {
            if let Some(Mean { cells, value }) = mean {
                writeln!(f, "within the cell: {:.1} % of {what} (mean of {cells} cells)", 100.0 * value)?;
            }
        }
        let unmoved = self.cells.iter().filter(|r| r.occlusion.largest <= LEAST).count();
        if unmoved > 0 {
            writeln!(f, "no square costs {unmoved} of the cells a point of their probability: see --patch")?;
        }
        if !self.empty.is_empty() {
            writeln!(f, "no cell found in {} images, such as {}", self.empty.len(), self.empty[0].display())?;
        }
        writeln!(f, "{}", self.folder.display())?;
        write!(
            f,
            "Such maps show where a model looks, not why. Where the two differ, occlusion is what the model does."
        )
    }
}

/// A cell to explain.
struct Asked {
    /// Its file's name, without extension.
    name: String,
    path: String,
    cell: u32,
    box_px: Option<[u32; 4]>,
    fold: Option<u32>,
    truth: Option<Class>,
    class: Class,
    probabilities: [f32; Class::COUNT],
    /// As the model sees it.
    picture: Vec<u8>,
    segmented: Option<Segmented>,
}

/// A segmented cell beside the square of its image that the model sees.
struct Segmented {
    window: features::Window,
    cell: segment::Cell,
    square: Square,
}

impl Segmented {
    /// The cell of a row, in a window as much wider than what `cut` keeps as that of features usually is; `None` where
    /// the image is not there any more, or no nucleus in it.
    fn of(raw: &Path, row: &ManifestRow, cut: &preprocess::Settings) -> Option<Self> {
        let (usual, wider) = (preprocess::Settings::default(), features::Settings::default());
        let wider = match cut.cut {
            Cut::Cell => wider,
            kind => features::Settings {
                cut: kind,
                centre_px: cut.centre_px * wider.centre_px / usual.centre_px,
                margin: cut.margin + wider.margin - usual.margin,
            },
        };
        let square = preprocess::shown(raw, row, cut).ok()?;
        let window = features::Window::read(raw, row, &wider).ok()?;
        let cell = segment::cell(&window.picture)?;
        Some(Self { window, cell, square })
    }

    /// Which of `side x side` pixels of the square are the cell's.
    fn mask(&self, side: usize) -> Vec<bool> {
        let Square { x, y, side: of } = self.square;
        let place = |start: i64, i: usize| start as f64 + (i as f64 + 0.5) * of as f64 / side as f64;
        let at = |i: usize| self.window.at(place(x, i % side), place(y, i / side));
        (0..side * side).map(|i| at(i).is_some_and(|at| self.cell.whole.on[at])).collect()
    }
}

/// File names that are taken already.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// `name`, or with a number where it was given before.
    fn give(&mut self, name: String) -> String {
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| self.0.insert(name.clone()));
        free.expect("there is always another number")
    }
}

/// Explains `cells` by the models of `run` (or that of `fold` alone): a PNG each into `folder`.
///
/// # Errors
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is no network or a setting
/// is out of range, [`Error::Data`] where no image could be read or the run's own pictures are not here any more,
/// [`Error::Interrupted`].
pub fn run(
    ws: &Workspace,
    run: &str,
    model: Option<ModelId>,
    cells: &Cells,
    settings: &Settings,
    folder: &Path,
    device: Device,
    ctx: &Context,
) -> Result<Summary> {
    let cut = Record::read(ws, run)?.network_preprocess(run)?.clone();
    let patch = Patch::new(settings.patch_px, settings.stride_px, cut.size_px as usize)?;
    let mut reading = Reading::default();
    let explain = Explain { settings, patch, size: cut.size_px as usize, folder, ctx };
    let (models, rows) = match cells {
        Cells::New(images, shows) => {
            let models = Models::without_distances(ws, run, model, device)?;
            let asked = new_cells(&models, images, *shows, &cut, &mut reading, ctx)?;
            ctx.progress.begin("explain", Some(asked.len() as u64), "cells");
            let rows = explain.cells(&models.models, &asked);
            ctx.progress.end();
            (models.models.len(), rows?)
        }
        Cells::Gallery(which) => {
            let asked = gallery_cells(ws, run, model, *which, &cut)?;
            let folds: BTreeSet<u32> = asked.iter().filter_map(|c| c.fold).collect();
            let mut rows = vec![None; asked.len()];
            ctx.progress.begin("explain", Some(asked.len() as u64), "cells");
            let explained = folds.iter().try_for_each(|fold| {
                let model = run::open(ws, run, ModelId::Fold(*fold), device)?;
                let (places, own): (Vec<usize>, Vec<&Asked>) =
                    asked.iter().enumerate().filter(|(_, c)| c.fold == Some(*fold)).unzip();
                let found = explain.cells(&[model], &own)?;
                places.into_iter().zip(found).for_each(|(place, row)| rows[place] = Some(row));
                Ok(())
            });
            ctx.progress.end();
            explained?;
            (folds.len(), rows.into_iter().flatten().collect())
        }
    };
    Ok(Summary {
        run: run.into(),
        models,
        size_px: cut.size_px,
        patch_px: patch.side_px,
        stride_px: patch.stride_px,
        within_cell: Within {
            grad_cam: Mean::of(rows.iter().map(|r| r.grad_cam.within_cell)),
            occlusion: Mean::of(rows.iter().map(|r| r.occlusion.within_cell)),
            picture: Mean::of(rows.iter().map(|r| r.cell_share)),
        },
        cells: rows,
        empty: reading.empty,
        unreadable: reading.unreadable,
        folder: folder.into(),
    })
}

/// The cells of new images, classified as `wbc predict` does.
fn new_cells(
    models: &Models,
    images: &[PathBuf],
    shows: Shows,
    cut: &preprocess::Settings,
    reading: &mut Reading,
    ctx: &Context,
) -> Result<Vec<Asked>> {
    let (mut names, mut asked) = (Names::default(), Vec::new());
    for images in images.chunks(BATCH) {
        ctx.check_stop()?;
        let found = reading.cells(images, shows, cut, ctx);
        for found in found.chunks(BATCH) {
            let told = models.classify(found)?;
            for (found, row) in found.iter().zip(told.into_iter().map(|told| told.row)) {
                let stem = found.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                asked.push(Asked {
                    name: names.give(match found.cell_box {
                        Some(_) => format!("{stem}-cell-{}", found.cell),
                        None => stem,
                    }),
                    path: row.path.clone(),
                    cell: found.cell,
                    box_px: found.cell_box,
                    fold: None,
                    truth: None,
                    class: row.class,
                    probabilities: row.probabilities(),
                    picture: found.picture.clone(),
                    segmented: Segmented::of(Path::new(""), &found.row, &found.cut),
                });
            }
        }
    }
    reading.check()?;
    Ok(asked)
}

/// The cells of the run's page; of `fold` alone, where it is named.
fn gallery_cells(
    ws: &Workspace,
    run: &str,
    model: Option<ModelId>,
    which: Which,
    cut: &preprocess::Settings,
) -> Result<Vec<Asked>> {
    let record = Record::read(ws, run)?;
    let finished = run::finished(ws, run)?;
    if let Some(id) = model.filter(|id| id.fold().is_none_or(|fold| fold >= record.folds)) {
        let expected =
            format!("a run or one of its folds, 0 to {}: the gallery's cells are test cells", record.folds - 1);
        let got = if id == ModelId::All { "the model of all images".into() } else { id.title() };
        return Err(Error::setting("gallery", expected, got));
    }
    let tensors = Tensors::load(ws, &record.dataset, cut)?;
    if record.inputs.get("tensors") != Some(&tensors.hash) {
        return Err(Error::Data {
            dataset: record.dataset,
            expected: format!("the pictures that {run} was trained on"),
            got: "others".into(),
            hint: "Give images: wbc explain RUN PATH".into(),
        });
    }
    let mut predictions = run::predictions(ws, run)?;
    predictions.retain(|row| {
        let id = ModelId::Fold(row.fold);
        model.map_or(finished.contains(&id), |model| model == id)
    });
    let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(&record.dataset), &MANIFEST)?;
    let manifest: HashMap<&str, &ManifestRow> = manifest.iter().map(|r| (r.image_id.as_str(), r)).collect();
    let mut chosen: Vec<(String, &PredictionRow)> = Vec::new();
    if which != Which::Examples {
        let mistakes = gallery::mistakes(&predictions).into_iter().enumerate();
        chosen.extend(mistakes.map(|(i, row)| (format!("mistake-{:02}", i + 1), row)));
    }
    if which != Which::Mistakes {
        for class in Class::ALL {
            let examples = gallery::examples(&predictions, class).into_iter().enumerate();
            chosen.extend(examples.map(|(i, row)| (format!("{class}-{}", i + 1), row)));
        }
    }
    let raw = ws.raw_dataset(&record.dataset);
    let asked = |(kind, row): (String, &PredictionRow)| {
        let picture = tensors.picture(tensors.row(&row.image_id)?).to_vec();
        let stem = Path::new(&row.image_id).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some(Asked {
            name: format!("{kind}-{stem}"),
            path: row.image_id.clone(),
            cell: 0,
            box_px: None,
            fold: Some(row.fold),
            truth: Some(row.truth),
            class: row.predicted(),
            probabilities: row.probabilities(),
            picture,
            segmented: manifest.get(row.image_id.as_str()).and_then(|row| Segmented::of(&raw, row, cut)),
        })
    };
    Ok(chosen.into_iter().filter_map(asked).collect())
}

/// How cells are explained.
struct Explain<'a> {
    settings: &'a Settings,
    patch: Patch,
    size: usize,
    folder: &'a Path,
    ctx: &'a Context<'a>,
}

impl Explain<'_> {
    /// Maps, measures and draws each cell by the mean of `models`.
    fn cells(&self, models: &[TrainedModel], cells: &[impl std::borrow::Borrow<Asked>]) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(cells.len());
        for cells in cells.chunks(BATCH) {
            let cells: Vec<&Asked> = cells.iter().map(|c| c.borrow()).collect();
            let classes: Vec<Class> = cells.iter().map(|c| self.settings.class.unwrap_or(c.class)).collect();
            let pixels = cells.iter().flat_map(|c| c.picture.iter().copied()).collect();
            let tensors = Tensors::of(self.size, pixels);
            let maps = grad_cam(models, &tensors, &(0..cells.len()).collect::<Vec<_>>(), &classes)?;
            for ((cell, class), map) in cells.into_iter().zip(classes).zip(maps) {
                self.ctx.check_stop()?;
                let occlusion = occlusion::heat(models, &cell.picture, self.size, class, self.patch)?;
                rows.push(self.cell(cell, class, &map, &occlusion)?);
                self.ctx.progress.advance(1);
            }
        }
        Ok(rows)
    }

    fn cell(&self, cell: &Asked, class: Class, grad_cam: &Heat, occlusion: &Heat) -> Result<Row> {
        let mask = cell.segmented.as_ref().map(|s| s.mask(self.size));
        let share = mask.as_ref().map(|m| m.iter().filter(|on| **on).count() as f32 / m.len() as f32);
        let row = Row {
            path: cell.path.clone(),
            cell: cell.cell,
            box_px: cell.box_px,
            fold: cell.fold,
            truth: cell.truth,
            class: cell.class,
            probability: cell.probabilities[cell.class.index()],
            explained: class,
            explained_probability: cell.probabilities[class.index()],
            grad_cam: grad_cam.resized(self.size).measured(mask.as_deref(), 0.0),
            occlusion: occlusion.measured(mask.as_deref(), LEAST),
            cell_share: share,
            file: self.folder.join(format!("{}.png", cell.name)),
        };
        self.figure(&row, cell, grad_cam, occlusion).write(&row.file)?;
        Ok(row)
    }

    fn figure<'a>(&self, row: &Row, cell: &Asked, grad_cam: &'a Heat, occlusion: &'a Heat) -> Explanation<'a> {
        let percent = |share: f32| format!("{:.1} %", 100.0 * share);
        let within = |measured: &Measured, nothing: String| match (measured.x_px, measured.within_cell) {
            (None, _) => nothing,
            (_, Some(share)) => format!("{} of it within the cell", percent(share)),
            (_, None) => "The cell was not found in the picture".into(),
        };
        let points = |fall: f32| format!("{:.1} points", 100.0 * fall);
        let least = "No square costs more than a point".to_string();
        let mut title = format!("Called {}, {}", row.class, percent(row.probability));
        if let Some(truth) = row.truth {
            title += &format!("; labelled {truth}");
        }
        if row.explained != row.class {
            title += &format!("; here: {}, {}", row.explained, percent(row.explained_probability));
        }
        let of_frame = row.box_px.map_or(String::new(), |_| format!(", cell {}", row.cell));
        let fold = row.fold.map_or(String::new(), |fold| format!(", by the model of fold {fold}"));
        let side = self.size as u32;
        Explanation {
            title,
            subtitle: format!("{}{of_frame}{fold}", row.path),
            image: RgbImage::from_raw(side, side, cell.picture.clone()).expect("the model's picture"),
            lines: [
                "The cell as the model sees it".into(),
                match row.cell_share {
                    Some(share) => format!("Outline: the cell, {} of the picture", percent(share)),
                    None => String::new(),
                },
            ],
            panels: [
                Panel {
                    heat: grad_cam,
                    lines: [
                        format!("Grad-CAM: what speaks for {}", row.explained),
                        within(&row.grad_cam, "Nothing does".into()),
                    ],
                    max: grad_cam.max(),
                    max_label: "most".into(),
                },
                Panel {
                    heat: occlusion,
                    lines: [format!("Occlusion: what covering costs {}", row.explained), within(&row.occlusion, least)],
                    max: occlusion.max().max(LEAST),
                    max_label: points(occlusion.max().max(LEAST)),
                },
            ],
            cell: cell.segmented.as_ref().map(|s| s.mask(PANEL as usize)),
        }
    }
}

/// Grad-CAM of the pictures at `rows` for their classes: the mean over `models`, in logits, as fine as the networks
/// have it.
fn grad_cam(models: &[TrainedModel], tensors: &Tensors, rows: &[usize], classes: &[Class]) -> Result<Vec<Heat>> {
    let mut means: Vec<Heat> = Vec::new();
    for model in models {
        let maps = model.class_maps(tensors, rows, classes)?;
        if means.is_empty() {
            means = maps.iter().map(|m| Heat { side: m.side, values: vec![0.0; m.values.len()] }).collect();
        }
        means.iter_mut().zip(maps).for_each(|(mean, map)| mean.add(1.0 / models.len() as f32, &map.values));
    }
    Ok(means)
}

/// Grad-CAM of test cells for what they were called, each by its fold's model, over the picture in grey; by `image_id`.
/// Cells whose model or picture is not here are left out.
///
/// # Errors
/// [`Error::Compute`] where there is no room.
pub fn overlays(
    ws: &Workspace,
    run: &str,
    tensors: &Tensors,
    rows: &[&PredictionRow],
) -> Result<HashMap<String, RgbImage>> {
    let mut by_fold: BTreeMap<u32, Vec<(&PredictionRow, usize)>> = BTreeMap::new();
    for row in rows {
        by_fold.entry(row.fold).or_default().extend(tensors.row(&row.image_id).map(|at| (*row, at)));
    }
    let mut overlays = HashMap::new();
    for (fold, cells) in by_fold {
        let model = match run::open(ws, run, ModelId::Fold(fold), Device::Cpu) {
            Err(Error::Missing { .. }) => continue,
            other => other?,
        };
        let places: Vec<usize> = cells.iter().map(|c| c.1).collect();
        let classes: Vec<Class> = cells.iter().map(|c| c.0.predicted()).collect();
        for ((row, at), heat) in cells.iter().zip(grad_cam(&[model], tensors, &places, &classes)?) {
            let side = tensors.size_px as u32;
            let picture = RgbImage::from_raw(side, side, tensors.picture(*at).to_vec()).expect("its side");
            overlays.insert(row.image_id.clone(), explanation::overlay(&picture, &heat, heat.max()));
        }
    }
    Ok(overlays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Model, Spec, wnet::WNet};
    use crate::nn::kernel::{Dropout, Vector};
    use crate::run::NetworkSettings;
    use crate::run::checkpoint::Meta;

    const SIZE: usize = 32;

    /// A W-Net that calls a basophil what is bright at the places (of 4 x 4, row by row) that `reads` names.
    fn bright(reads: impl Fn(usize) -> bool) -> TrainedModel {
        let mut model = WNet::new(&Spec {
            size_px: SIZE,
            seed: 0,
            fold: 0,
            dropout: Dropout { p: 0.0 },
            optimiser: Default::default(),
            zero_init_residual: false,
            vector: Vector::detect(),
        })
        .unwrap();
        let mut weights = |name: &str, shape: &[usize]| {
            let mut values = vec![0.0; shape.iter().product()];
            match *shape {
                // The middle of 3 x 3, from every colour or the first channel to the first.
                [_, _, c_in, c_out] => {
                    let from = if c_in == 3 { 3 } else { 1 };
                    (0..from).for_each(|c| values[(4 * c_in + c) * c_out] = 1.0 / from as f32);
                }
                [inputs, outputs] if name == "fc1.weight" => {
                    (0..inputs / 64).filter(|i| reads(*i)).for_each(|i| values[i * 64 * outputs] = 0.7);
                }
                [_, _] => values[Class::Basophil.index()] = 1.0,
                _ => {}
            }
            Ok(values)
        };
        model.load(false, &mut weights).unwrap();
        let record = serde_json::json!({"version": Record::VERSION, "dataset": "d", "model": "wnet", "pipeline": "quick",
            "seed": 0, "folds": 2, "recipe": {}, "inputs": {}});
        let normalise =
            serde_json::json!({"kind": "unit", "mean": [0.0, 0.0, 0.0], "deviation": [255.0, 255.0, 255.0]});
        let meta = serde_json::json!({"run": "", "model": "wnet", "size_px": SIZE, "id": 0, "epoch": 1,
            "finished": true, "normalise": normalise, "epochs": []});
        TrainedModel {
            record: serde_json::from_value(record).unwrap(),
            settings: NetworkSettings::default(),
            meta: serde_json::from_value::<Meta>(meta).unwrap(),
            model: Box::new(model),
        }
    }

    fn picture(grey: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..SIZE * SIZE).flat_map(|i| [grey(i % SIZE, i / SIZE); 3]).collect()
    }

    fn occluded(model: TrainedModel, picture: &[u8]) -> Measured {
        let patch = Patch::new(Some(8), Some(2), SIZE).unwrap();
        occlusion::heat(&[model], picture, SIZE, Class::Basophil, patch).unwrap().measured(None, LEAST)
    }

    /// Bright in the upper right corner: mirrored or transposed, it would lie in another.
    #[test]
    fn both_maps_have_the_pictures_orientation() {
        let marked = picture(|x, y| if x >= 28 && (1..8).contains(&y) { 255 } else { 30 });
        let tensors = Tensors::of(SIZE, marked.clone());
        let map = grad_cam(&[bright(|_| true)], &tensors, &[0], &[Class::Basophil]).unwrap().remove(0);
        assert_eq!(map.side, 8);
        let map = map.resized(SIZE).measured(None, 0.0);
        for found in [map, occluded(bright(|_| true), &marked)] {
            assert!(found.x_px.unwrap() >= 25 && found.y_px.unwrap() < 8, "{found:?}");
        }
        // A class that nothing speaks for has no map.
        let other = grad_cam(&[bright(|_| true)], &tensors, &[0], &[Class::Monocyte]).unwrap().remove(0);
        assert_eq!(other.measured(None, 0.0).x_px, None);
    }

    /// Stripes everywhere, but the model reads one corner alone.
    #[test]
    fn occlusion_finds_the_place_that_the_model_reads() {
        let striped = picture(|x, _| if x % 2 == 0 { 255 } else { 20 });
        for (place, left, top) in [(3, false, true), (12, true, false)] {
            let found = occluded(bright(|i| i == place), &striped);
            let (x, y) = (found.x_px.unwrap(), found.y_px.unwrap());
            assert!((x < 8, x >= 24) == (left, !left) && (y < 8, y >= 24) == (top, !top), "{found:?}");
        }
    }
}
