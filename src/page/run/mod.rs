//! The page of a run: its tables and figures, notes, mistakes, data and settings; and its figures as files.

use crate::atomic;
use crate::batch::Tensors;
use crate::class::{Class, Classes};
use crate::dataset::{self, Dataset};
use crate::error::{Error, Input, Result, if_readable};
use crate::evaluate::curves;
use crate::features;
use crate::figure::{gallery, run_plots, svg::Figure};
use crate::page::{card, parts};
use crate::png;
use crate::predict::external::list as validations;
use crate::preprocess;
use crate::report::{Sheet, notes, thousands};
use crate::rows::{EpochRow, ManifestRow, PredictionRow};
use crate::run::{self, HeldOut, Recipe, Record, Results, RunDir, model_title};
use crate::schema::MANIFEST;
use crate::scores::Metric;
use crate::table;
use crate::workspace::Workspace;
use maps::Maps;
use minijinja::{Value, context};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

mod external;
mod maps;

/// A run with its tables.
struct Loaded {
    run: Results,
    epochs: Vec<EpochRow>,
    predictions: Vec<PredictionRow>,
}

impl Loaded {
    fn read(ws: &Workspace, name: &str) -> Result<Self> {
        let (predictions, epochs) = (run::predictions(ws, name)?, run::epochs(ws, name)?);
        Ok(Self { run: Results::load(ws, name)?, epochs, predictions })
    }

    /// All figures that the run has the data for.
    fn figures(&self) -> Vec<Figure> {
        let classes = self.run.classes();
        let curve = |class| Some((class, curves::precision_recall(classes, &self.predictions, class)?));
        let precision_recall: Vec<_> = classes.iter().filter_map(curve).collect();
        [
            Some(run_plots::confusion(classes, &self.run.metrics)),
            run_plots::recall(classes, &self.run.intervals),
            run_plots::precision_recall(classes, &precision_recall),
            Some(run_plots::reliability(&curves::reliability(classes, &self.predictions))),
            Some(run_plots::coverage(&curves::coverage(classes, &self.predictions))),
            run_plots::learning(&self.epochs),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// The file format of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels, twice the figure's size.
    Png,
}

/// Writes each figure of a run as a file into `folder` and returns the paths.
///
/// # Errors
/// [`crate::error::Error::Missing`] where there is no such run or no fold of it is finished.
pub fn write_figures(ws: &Workspace, run: &str, format: Format, folder: &Path) -> Result<Vec<PathBuf>> {
    let figures = Loaded::read(ws, run)?.figures();
    let write = |figure: &Figure| {
        let (extension, bytes) = match format {
            Format::Svg => ("svg", figure.standalone().into_bytes()),
            Format::Png => ("png", png::from_svg(&figure.standalone())?),
        };
        let path = folder.join(format!("{run}-{}.{extension}", figure.name));
        atomic::write_bytes(&path, &bytes)?;
        Ok(path)
    };
    figures.iter().map(write).collect()
}

/// Writes the page of `run` to `path`. `sheets` are the paper's tables that show the run; without any, the page has a
/// table of recall by fold.
///
/// # Errors
/// [`crate::error::Error::Missing`] where there is no such run or no fold of it is finished.
pub fn write(ws: &Workspace, run: &str, sheets: &[Sheet], path: &Path) -> Result<()> {
    let loaded = Loaded::read(ws, run)?;
    let (run, record) = (&loaded.run, &loaded.run.record);
    let by_fold = [by_fold(run)];
    let sheets: &[Sheet] = if sheets.is_empty() { &by_fold } else { sheets };
    let held_out = run.held_out.as_ref().map(|held_out| held_out_sheet(run, held_out));
    let limitations: Vec<String> = match sheets.iter().find(|sheet| sheet.run.is_some()) {
        Some(sheet) => sheet.all_notes().cloned().collect(),
        None => notes::of_run(ws, run, &[]).all().collect(),
    };
    let mistakes = gallery::mistakes(run.classes(), &loaded.predictions);
    let of_class = |class| gallery::examples(&loaded.predictions, class, run.classes().len());
    let shown = run.classes().iter().flat_map(of_class).chain(mistakes.iter().copied());
    let ids: BTreeSet<&str> = shown.map(|row| row.image_id.as_str()).collect();
    let tensors = match &record.preprocess {
        Some(settings) => if_readable(Tensors::load_some(ws, &record.dataset, settings, &ids))?,
        None => None,
    };
    let tensors = tensors.as_ref().filter(|t| record.input(Input::Tensors) == Some(&t.hash));
    let measured = record.features.as_ref().map(|settings| pictures(ws, record, settings, &ids)).transpose()?;
    let tensors = tensors.or(measured.as_ref());
    let maps = Maps::compute(ws, &run.name, record, tensors, &mistakes)?;
    let no_mistakes = match mistakes.is_empty() {
        true => "All test images are predicted correctly.",
        false if record.preprocess.is_none() => {
            "The cells cannot be shown: the images that were measured are no longer in the workspace, or have changed."
        }
        false => "The cells cannot be shown: the tensors that the run was trained on are no longer in the workspace.",
    };
    let show = |row: &PredictionRow| cell(run.classes(), tensors?, row, maps.overlays.get(&row.image_id));
    let examples = |class: Class| {
        let rows = of_class(class);
        let cells: Vec<Value> = rows.into_iter().filter_map(show).collect();
        (!cells.is_empty()).then_some(context! { name => run.classes().title(class), cells => cells })
    };
    let finished = record.folds as usize - run.missing().len();
    let external = validations(ws, &run.name)?;
    let leak = record.own_split.as_ref().filter(|_| record.has_leaking_split());
    let path_of_pipeline = RunDir::new(ws, &run.name).pipeline();
    let pipeline = std::fs::read_to_string(&path_of_pipeline).map_err(Error::io(&path_of_pipeline, "read"));
    let pipeline = if_readable(pipeline)?.unwrap_or_default();
    let values = context! {
        title => format!("{} on {}", parts::capitalised(model_title(&record.model)), record.dataset),
        subtitle => format!(
            "{}Run {}, recipe {}, seed {}; {}",
            leak.map_or(String::new(), |leak| format!("{leak}. ")),
            run.name,
            record.pipeline,
            record.seed,
            match record.is_given_split() {
                true => "the data set's own split".into(),
                false => format!("{finished} of {} folds finished", record.folds),
            }
        ),
        items => items(run),
        sheets => sheets.iter().chain(&held_out).map(parts::sheet).collect::<Vec<_>>(),
        plots => parts::figures(loaded.figures()),
        external => external.iter().map(|validation| external::section(ws, run, validation)).collect::<Vec<_>>(),
        limitations => limitations,
        mistakes => mistakes.iter().filter_map(|row| show(row)).collect::<Vec<_>>(),
        no_mistakes => no_mistakes,
        maps => !maps.overlays.is_empty(),
        maps_note => maps.note,
        examples => run.classes().iter().filter_map(examples).collect::<Vec<_>>(),
        data => data(ws, record)?,
        settings => settings(ws, run)?,
        pipeline => pipeline,
    };
    parts::write("run.html", values, path)
}

/// Cells as a classical classifier's features were measured in them. Those whose image is gone or has
/// changed are left out.
///
/// # Errors
/// [`crate::error::Error::Format`] where the manifest is damaged, [`crate::error::Error::Io`] where an image is there
/// and cannot be read.
fn pictures(ws: &Workspace, record: &Record, settings: &features::Settings, shown: &BTreeSet<&str>) -> Result<Tensors> {
    /// Side of a picture, px.
    const SIDE: u32 = 128;
    let manifest = ws.manifest(&record.dataset);
    if !table::exists(&manifest)? {
        return Ok(Tensors::named(SIDE as usize, []));
    }
    let (manifest, _) = table::read_rows::<ManifestRow>(&manifest, &MANIFEST)?;
    let (raw, cut) = (ws.raw_dataset(&record.dataset), settings.window(SIDE));
    let picture = |row: &ManifestRow| {
        let image = if_readable(preprocess::read_tensor(&raw, row, &cut))?;
        Ok(image.map(|image| (row.image_id.clone(), image.pixels)))
    };
    let rows: Vec<&ManifestRow> = manifest.iter().filter(|row| shown.contains(row.image_id.as_str())).collect();
    let pictures: Vec<Option<(String, Vec<u8>)>> = rows.par_iter().map(|row| picture(row)).collect::<Result<_>>()?;
    Ok(Tensors::named(SIDE as usize, pictures.into_iter().flatten()))
}

/// The key figures at the top.
fn items(run: &Results) -> Vec<Value> {
    let score = |metric: Metric| {
        let percent = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let interval = run.over_images(metric, None);
        let interval =
            interval.map_or(String::new(), |i| format!("95 % interval {}: {} %", notes::over(i), notes::range(i)));
        let mean = percent(run.value(None, metric, None));
        parts::item(metric.title(), percent(run.pooled(metric)), format!("{interval}; mean over folds {mean}"))
    };
    let images: u64 = run.images().iter().sum();
    let finished = run.record.folds as usize - run.missing().len();
    let record = &run.record;
    let tested = match record.is_given_split() {
        _ if record.has_leaking_split() => "LEAK: some show the same as training images, or the same patients",
        true => "the data set's own test images",
        false => "each predicted by a model that was not trained on it",
    };
    let how = match run.clusters() {
        _ if record.is_given_split() => "the data set's own training and test images".into(),
        _ if record.own_split.is_some() => "LEAK: copies are in several folds".into(),
        Some((cluster, n)) if cluster != "copy group" => {
            format!("stratified; copies and {n} {cluster}s kept together")
        }
        _ => "stratified; copies kept together".into(),
    };
    let split = match record.is_given_split() {
        true => parts::item("Split", "given".into(), how),
        false => parts::item("Folds", format!("{finished} of {}", record.folds), how),
    };
    vec![
        score(Metric::BalancedAccuracy),
        score(Metric::Accuracy),
        parts::item("Test images", thousands(images), tested),
        split,
    ]
}

/// Recall of each class and fold.
fn by_fold(run: &Results) -> Sheet {
    let folds: Vec<u32> = (0..run.record.folds).filter(|f| !run.missing().contains(f)).collect();
    let cell = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    let row = |name: &str, metric: Metric, class: Option<Class>| {
        let values = folds.iter().map(|f| cell(run.value(Some(*f), metric, class)));
        std::iter::once(name.to_string()).chain(values).chain([cell(run.value(None, metric, class))]).collect()
    };
    let mut rows: Vec<Vec<String>> =
        run.classes().iter().map(|c| row(&run.classes().title(c), Metric::Recall, Some(c))).collect();
    rows.extend([Metric::BalancedAccuracy, Metric::Accuracy].map(|metric| row(metric.title(), metric, None)));
    let columns = std::iter::once("Recall, %".to_string()).chain(folds.iter().map(|f| format!("Fold {f}")));
    Sheet::plain("folds", "Recall of each class by fold", columns.chain(["Mean".into()]), rows)
}

/// Recall of each class on the held-out test set, beside that of the cross-validation.
fn held_out_sheet(run: &Results, held_out: &HeldOut) -> Sheet {
    let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    let row = |name: String, metric: Metric, class: Option<Class>| {
        let (value, interval) = held_out.value(metric, class);
        let interval = interval.map_or("-".into(), notes::range);
        let images = thousands(held_out.images(class));
        vec![name, images, percent(value), interval, percent(run.value(None, metric, class))]
    };
    let mut rows: Vec<Vec<String>> =
        run.classes().iter().map(|c| row(run.classes().title(c), Metric::Recall, Some(c))).collect();
    for metric in [Metric::BalancedAccuracy, Metric::Accuracy] {
        let mut row = row(metric.title().into(), metric, None);
        row[1] = thousands(held_out.images(None));
        rows.push(row);
    }
    let columns = ["Recall, %", "Held-out images", "Held out", "95 % interval", "Cross-validation"].map(String::from);
    Sheet::plain("held-out", "Held-out test set and cross-validation", columns, rows)
}

/// A test cell with its prediction, and the map over it where there is one.
fn cell(classes: &Classes, tensors: &Tensors, row: &PredictionRow, map: Option<&image::RgbImage>) -> Option<Value> {
    let pixels = tensors.pixels(tensors.row(&row.image_id)?);
    let side = tensors.size_px as u32;
    let predicted = classes.likeliest(&row.probabilities);
    let largest = row.probabilities.iter().copied().fold(0.0, f32::max);
    Some(context! {
        image => parts::image(pixels, side, side),
        map => map.map(|map| parts::image(map, side, side)),
        truth => classes.title(row.truth),
        predicted => classes.title(predicted),
        percent => format!("{:.1}", 100.0 * largest),
        name => row.image_id.rsplit('/').next().unwrap_or_default(),
        fold => row.fold,
    })
}

/// The data set's card.
fn data(ws: &Workspace, record: &Record) -> Result<Vec<[String; 2]>> {
    let path = ws.manifest(&record.dataset);
    let mut facts = vec![["Data set".to_string(), record.dataset.clone()]];
    if !table::exists(&path)? {
        facts.push(["Manifest".into(), "no longer in the workspace".into()]);
        return Ok(facts);
    }
    let Dataset { classes, cells, checks, .. } = Dataset::read(ws, &record.dataset)?;
    let same = record.input(Input::Manifest) == Some(table::file_hash(&path)?.as_str());
    if !same {
        facts.push(["Manifest".into(), "has changed since the run; the facts below describe the new one".into()]);
    }
    let issues = if_readable(dataset::issues(ws, &record.dataset))?;
    facts.extend(card::facts(ws, &record.dataset, &classes, &cells, &checks, issues.as_deref()));
    Ok(facts)
}

/// The run's settings, how long it took, and hashes of its inputs.
fn settings(ws: &Workspace, run: &Results) -> Result<Vec<[String; 2]>> {
    let record = &run.record;
    let mut facts = vec![
        ["Recipe".to_string(), record.pipeline.clone()],
        ["Seed".into(), record.seed.to_string()],
        ["Model".into(), model_title(&record.model).to_string()],
    ];
    if let Recipe::Network(s) = &record.recipe {
        let training = format!(
            "{} epochs, batch {}, learning rate {}, {}, {}",
            s.epochs,
            s.batch,
            s.learning_rate,
            s.optimiser.name(),
            s.precision.name()
        );
        facts.push(["Training".into(), training]);
    }
    if let Some(init) = notes::init(record) {
        facts.push(["Initial weights".into(), init]);
    }
    let seconds = run::timings::seconds(&RunDir::new(ws, &run.name), record.folds)?;
    if seconds > 0.0 {
        facts.push(["Training time".into(), crate::progress::human(seconds)]);
    }
    let short = |hash: &String| hash.chars().take(12).collect::<String>();
    let inputs: Vec<String> = record.inputs.iter().map(|(name, hash)| format!("{name} {}", short(hash))).collect();
    facts.push(["Inputs (BLAKE3)".into(), inputs.join(", ")]);
    Ok(facts)
}
