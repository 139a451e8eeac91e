//! External validation: the models of a run on the labelled cells of another data set, on none of which they were
//! trained. Accuracy on the run's own data says little about another laboratory's stain, light and camera.

use super::BATCH;
use super::appearance::Unlike;
use super::ensemble::{Ensemble, FolderScale};
use super::images::{CellImage, Prepare};
use crate::atomic;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result};
use crate::evaluate::{self, curves, curves::Covered};
use crate::ingest::LARGER;
use crate::integrity;
use crate::join;
use crate::nn::device::Device;
use crate::preprocess::Cut;
use crate::rows::{CellRow, CutRule, IntervalRow, ManifestRow, MetricRow, PredictionRow};
use crate::run::{self, ExternalDir, ModelId, ModelRef, Record, Results, RunDir, TrainedImages, leak, leak::Leak};
use crate::schema::{CELLS, INTERVALS, METRICS, PREDICTIONS};
use crate::scores::Metric;
use crate::statistics;
use crate::table::{self, Provenance};
use crate::text;
use crate::workspace::Workspace;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The result of an external validation.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// The data set that the models were validated on.
    pub dataset: String,
    /// The run's own data set.
    pub own_dataset: String,
    /// How many models were averaged.
    pub models: usize,
    /// Images classified.
    pub images: u64,
    /// What was left out of the comparison, and why.
    pub coverage: Coverage,
    /// Balanced accuracy of the averaged models, 0 to 1.
    pub balanced_accuracy: Option<f64>,
    /// Accuracy of the averaged models, 0 to 1.
    pub accuracy: Option<f64>,
    /// 95 % interval of the balanced accuracy.
    pub interval: Option<[f64; 2]>,
    /// What the interval resamples: image, or patient or slide where they are known.
    pub interval_by: &'static str,
    /// Balanced accuracy of the same models, each alone on its own test images: the mean over models.
    pub own_balanced_accuracy: Option<f64>,
    /// Balanced accuracy of single models on this data set: lowest, mean, highest.
    pub single_models: Option<[f64; 3]>,
    /// The classes of the run.
    pub classes: Vec<Class>,
    /// Recall of each class of the run; none for a class without an image.
    pub recalls: Vec<Option<f64>>,
    /// Flagged cells.
    pub flagged: u64,
    /// Accuracy on the cells without a flag.
    pub accuracy_without_flagged: Option<f64>,
    /// Accuracy of the most confident quarter, half, three quarters and all of the images.
    pub coverage_of_confident: Vec<Covered>,
    /// What is to be said of classes with very few images, which count in the balanced accuracy.
    pub rare_classes: Option<String>,
    /// Whether distances from the training cells could be measured.
    pub distances: bool,
    /// Set where the images do not look like the training images: all are flagged.
    pub unlike: Option<Unlike>,
    /// How large the cells appear, where their sizes count.
    pub scales: Vec<FolderScale>,
    /// What is not known about the models' training images.
    pub note: Option<String>,
    /// The folder with the tables.
    pub folder: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let (models, images) = (text::of(self.models as u64, "model"), text::of(self.images, "image"));
        writeln!(f, "run {} on {}: {models} averaged, {images}", self.run, self.dataset)?;
        for note in self.coverage.notes(&self.dataset) {
            writeln!(f, "{note}")?;
        }
        write!(f, "balanced accuracy {}", percent(self.balanced_accuracy))?;
        if let Some([low, high]) = self.interval {
            let over = match self.interval_by {
                "image" => "over images".into(),
                cluster => format!("by {cluster}"),
            };
            write!(f, " (95 % interval {over} {:.1} to {:.1})", 100.0 * low, 100.0 * high)?;
        }
        writeln!(f, ", accuracy {}", percent(self.accuracy))?;
        let recalls = self.classes.iter().zip(&self.recalls).filter(|(_, v)| v.is_some());
        let recalls = recalls.map(|(class, v)| format!("{class} {}", percent(*v)));
        writeln!(f, "recall: {}", recalls.collect::<Vec<_>>().join(", "))?;
        if let Some([low, mean, high]) = self.single_models {
            write!(f, "single models: mean balanced accuracy {}", percent(Some(mean)))?;
            write!(f, " ({:.1} to {:.1} %)", 100.0 * low, 100.0 * high)?;
            if let Some(own) = self.own_balanced_accuracy {
                let points = 100.0 * (mean - own);
                write!(
                    f,
                    "; on their test images of {} {}: {points:+.1} points",
                    self.own_dataset,
                    percent(Some(own))
                )?;
            }
            writeln!(f)?;
        }
        write!(f, "flagged: {} of {}", self.flagged, self.images)?;
        match self.accuracy_without_flagged {
            Some(accuracy) => writeln!(f, "; accuracy on the others {}", percent(Some(accuracy)))?,
            None => writeln!(f)?,
        }
        let quarters = self.coverage_of_confident.iter();
        let quarters =
            quarters.map(|point| format!("{:.0} %: {}", 100.0 * point.coverage, percent(Some(point.accuracy))));
        writeln!(f, "accuracy of the most confident {}", quarters.collect::<Vec<_>>().join(", "))?;
        if let Some(rare) = &self.rare_classes {
            writeln!(f, "{rare}")?;
        }
        if let Some(unlike) = &self.unlike {
            writeln!(f, "{unlike}")?;
        }
        if let Some(note) = FolderScale::note(&self.scales) {
            writeln!(f, "{note}")?;
        }
        if !self.distances {
            writeln!(f, "{}", super::NO_DISTANCES)?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "{note}")?;
        }
        write!(f, "{}", self.folder.display())
    }
}

/// Classifies every usable image of `dataset` whose class the run knows, preprocessed like the run's own, with all
/// models of a run (or with one of them), and writes cells, predictions (calibrated, of the averaged models), metrics
/// (`fold` null: of the averaged models; a fold's number: of its model alone) and intervals to the folder
/// [`RunDir::external_dataset`].
///
/// # Errors
/// [`Error::Setting`] where `dataset` is the run's own, has no usable image of its classes that the models were not
/// trained on, or shares a subject with the training images;
/// [`Error::Missing`] where the run has no finished model or `dataset` no manifest; [`Error::Image`] or
/// [`Error::Stale`] for an image that cannot be read or has changed since it was ingested.
pub fn run(ws: &Workspace, source: &ModelRef, dataset: &str, device: Device, ctx: &Context) -> Result<Summary> {
    let ModelRef { run, model } = source;
    let record = Record::read(ws, run)?;
    if join::whole_members(ws, &record.dataset).iter().any(|member| member == dataset) {
        return Err(Error::setting("dataset", format!("a data set that {run} was not trained on"), dataset));
    }
    if record.dataset == dataset {
        let expected = "a data set other than the run's own, on whose test images wbc train reports";
        return Err(Error::setting("dataset", expected, dataset));
    }
    let prepare = Prepare::of(&record, run)?;
    let settings = prepare.cut();
    let classes = &record.classes;
    let data = Dataset::read(ws, dataset)?;
    let manifest = data.inputs[Input::Manifest.name()].clone();
    let (mut rows, mut coverage) = covered(data, classes);
    if rows.is_empty() {
        let expected = format!("a data set with usable images of a class that {run} knows: {classes}");
        return Err(Error::setting("dataset", expected, coverage.notes(dataset).join("; ")));
    }
    // Segmented cells have one size, whatever they are searched in.
    if let (Cut::Auto, Some(trained)) = (settings.cut, &record.images) {
        coverage.cut = cut_as_trained(&mut rows, trained);
    }
    let weights = leak::Weights { key: "run", from: run, record: &record, model: *model };
    let Leak { copies, note } = leak::check(ws, weights, &rows, dataset, ctx)?;
    coverage.leave_out_copies(&mut rows, copies, classes);
    if rows.is_empty() {
        let expected = format!("a data set with usable images that {run} was not trained on");
        return Err(Error::setting("dataset", expected, coverage.notes(dataset).join("; ")));
    }
    let ensemble = Ensemble::open(ws, source, device, ctx)?;
    let raw = ws.raw_dataset(dataset);
    let (mut cells, mut averaged, mut single, mut shifts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut looked = Vec::new();
    let task = ctx.progress.task("validate", Some(rows.len() as u64), "images");
    for rows in rows.chunks(BATCH) {
        let read = |row: &ManifestRow| {
            ctx.check_stop()?;
            prepare.cell_image(&raw, row)
        };
        let images: Vec<CellImage> = rows.par_iter().map(read).collect::<Result<_>>()?;
        looked.extend(ensemble.look(&images)?);
        task.advance(rows.len() as u64);
    }
    drop(task);
    let (classified, scales) = ensemble.classify(looked, |_| dataset.into());
    for (row, cell) in rows.iter().zip(classified) {
        let truth = row.class.expect("usable rows have a class");
        let prediction = |fold, p| PredictionRow::new(row.image_id.clone(), fold, truth, p);
        averaged.push(prediction(0, cell.row.probabilities.clone()));
        let by_model = ensemble.ids().into_iter().zip(cell.by_model);
        single.extend(by_model.filter_map(|(id, p)| Some(prediction(id.fold()?, p))));
        cells.push(cell.row);
        shifts.push(cell.shifts);
    }
    let unlike = ensemble.doubt(&mut cells, &shifts, |_| dataset.into()).pop();
    let people = evaluate::People::read(ws, dataset)?;
    let (metrics, intervals) = evaluate::ensemble(&averaged, &single, &people, classes, record.seed)?;
    coverage.predicted_lacking = cells.iter().filter(|cell| coverage.lacking.contains(&cell.class)).count() as u64;
    let about = About {
        dataset: dataset.into(),
        classes: classes.clone(),
        models: ensemble.ids(),
        coverage: coverage.clone(),
        note: note.clone(),
        unlike: unlike.clone(),
        manifest,
    };
    let validation = Validation { about, cells, predictions: averaged, metrics, intervals };
    let folder = RunDir::new(ws, run).external_dataset(dataset, *model);
    validation.write(&folder, &ensemble.provenance(run))?;
    let interval = validation.over_images(Metric::BalancedAccuracy).cloned();
    Ok(Summary {
        run: run.into(),
        dataset: dataset.into(),
        own_dataset: record.dataset.clone(),
        models: ensemble.models.len(),
        images: rows.len() as u64,
        coverage,
        balanced_accuracy: validation.value(Metric::BalancedAccuracy, None),
        accuracy: validation.value(Metric::Accuracy, None),
        interval: interval.as_ref().map(|r| [r.low, r.high]),
        interval_by: interval.and_then(|r| r.method.cluster()).unwrap_or("image"),
        own_balanced_accuracy: own_balanced_accuracy(ws, run, &validation.about.models)?,
        single_models: validation.single_models(),
        classes: classes.iter().collect(),
        recalls: classes.iter().map(|class| validation.value(Metric::Recall, Some(class))).collect(),
        flagged: validation.flagged(),
        accuracy_without_flagged: validation.accuracy_without_flagged(),
        coverage_of_confident: curves::quarters(&curves::coverage(classes, &validation.predictions)),
        rare_classes: validation.rare_classes(),
        distances: ensemble.has_distances(),
        unlike,
        scales,
        note,
        folder: folder.path().into(),
    })
}

/// The validation on `dataset` of the models that `source` names.
///
/// # Errors
/// [`Error::Missing`] where there is none, [`Error::Io`] or [`Error::Format`] where it cannot be read.
pub fn read(ws: &Workspace, source: &ModelRef, dataset: &str) -> Result<Validation> {
    let folder = RunDir::new(ws, &source.run).external_dataset(dataset, source.model);
    match table::exists(&folder.about())? {
        true => Validation::read(&folder),
        false => Err(Error::missing(Input::Validation, folder.path())),
    }
}

/// The same, where it is of the data set as it is now and of the run as it is now; none otherwise.
///
/// # Errors
/// [`Error::Missing`] where there is no such run or data set.
pub fn read_current(ws: &Workspace, source: &ModelRef, dataset: &str) -> Result<Option<Validation>> {
    let folder = RunDir::new(ws, &source.run).external_dataset(dataset, source.model);
    let (run, manifest) = (Record::read(ws, &source.run)?.hash(), table::file_hash(&ws.manifest(dataset))?);
    let made = table::provenance(&folder.predictions(), &PREDICTIONS).ok();
    if made.is_none_or(|made| made.input(Input::Run) != Some(run.as_str())) {
        return Ok(None);
    }
    Ok(read(ws, source, dataset).ok().filter(|validation| validation.about.manifest == manifest))
}

/// What an external validation leaves out: the classes of the run and of the data set are matched by their names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Classes of the data set that the run does not know, with their usable images, which are left out.
    pub unknown: Vec<(Class, u64)>,
    /// Classes of the run of which the data set has no usable image: metrics are over the other classes.
    pub lacking: Vec<Class>,
    /// Images that were predicted as one of these, which counts as wrong.
    pub predicted_lacking: u64,
    /// Number of classes that metrics are over.
    pub common: u64,
    /// Images without a class, by their labels in the data set.
    pub without_class: BTreeMap<String, u64>,
    /// Classes of the run among these labels: the data set was ingested with other classes.
    pub known_labels: Vec<Class>,
    /// Images with a class that check left out.
    pub faulty: u64,
    /// Images that the models were trained on, or copies of such images.
    pub trained_on: u64,
    /// One of them, with the training image that shows the same.
    pub trained_on_example: Option<(String, String)>,
    /// Images that are cut otherwise than their data set suggests, or otherwise than the run's training images.
    #[serde(default)]
    pub cut: Vec<CutNote>,
}

/// Images of one data set that two rules would cut differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CutNote {
    /// Number of images.
    pub images: u64,
    /// How the run's training images were cut.
    pub trained: CutRule,
    /// How ingest cuts this data set.
    pub ingested: CutRule,
    /// Whether they are cut as the training images were.
    pub as_trained: bool,
}

impl CutNote {
    fn text(&self, dataset: &str) -> String {
        let images = text::of(self.images, "image");
        let part = |rule: CutRule| match rule {
            CutRule::Centre => "the central square",
            CutRule::Whole => "the whole image",
            CutRule::Box => "a box around the cell",
        };
        let (trained, ingested) = (part(self.trained), part(self.ingested));
        match self.as_trained {
            true => format!(
                "{images} cut as the training images were ({trained}), where wbc ingest takes {ingested} of {dataset}"
            ),
            false => format!(
                "{images} cut otherwise than the training images: {ingested} instead of {trained}, so that cells may \
                 differ in size"
            ),
        }
    }
}

impl Coverage {
    /// Whether the validation is of all images and over all classes, and all images are cut as both data sets are.
    pub fn is_complete(&self) -> bool {
        self.unknown.is_empty()
            && self.lacking.is_empty()
            && self.without_class.is_empty()
            && self.faulty == 0
            && self.trained_on == 0
            && self.cut.is_empty()
    }

    /// Takes the images that are training images or copies of one out of `rows`.
    fn leave_out_copies(&mut self, rows: &mut Vec<ManifestRow>, copies: BTreeMap<String, String>, classes: &Classes) {
        rows.retain(|row| !copies.contains_key(&row.image_id));
        self.trained_on = copies.len() as u64;
        self.trained_on_example = copies.into_iter().next();
        self.find_lacking(rows, classes);
    }

    /// Finds the classes of which there is no row.
    fn find_lacking(&mut self, rows: &[ManifestRow], classes: &Classes) {
        self.lacking = classes.iter().filter(|class| rows.iter().all(|row| row.class != Some(*class))).collect();
        self.common = (classes.len() - self.lacking.len()) as u64;
    }

    /// What was left out, in sentences without full stops.
    pub fn notes(&self, dataset: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let images = |n: u64| text::of(n, "image");
        if !self.unknown.is_empty() {
            let all = images(self.unknown.iter().map(|(_, n)| n).sum());
            let classes = text::counts(self.unknown.iter().map(|(class, n)| (class.name(), *n)));
            notes.push(format!("left out: {all} of classes that the run does not know: {classes}"));
        }
        if !self.without_class.is_empty() {
            let all = images(self.without_class.values().sum());
            let labels = text::counts(self.without_class.iter().map(|(label, n)| (label.as_str(), *n)));
            notes.push(format!("left out: {all} without a class, by label: {labels}"));
        }
        if !self.known_labels.is_empty() {
            let classes: Vec<&str> = self.known_labels.iter().map(|class| class.name()).collect();
            let classes = classes.join(", ");
            notes.push(format!("the run knows {classes}: ingest {dataset} with these classes to include their images"));
        }
        if self.faulty > 0 {
            notes
                .push(format!("left out: {} that `wbc check` excludes from training and testing", images(self.faulty)));
        }
        if let Some((image, seen)) = &self.trained_on_example {
            let images = images(self.trained_on);
            notes.push(format!(
                "left out: {images} that the models were trained on, that show the same as a training image, or that \
                 are of a patient whose cells they were trained on: {image} ({seen})"
            ));
        }
        notes.extend(self.cut.iter().map(|note| note.text(dataset)));
        if !self.lacking.is_empty() && self.common > 0 {
            let classes: Vec<&str> = self.lacking.iter().map(|class| class.name()).collect();
            let over = match self.common {
                1 => "the one other class".to_string(),
                n => format!("the {n} other classes"),
            };
            notes.push(format!(
                "{dataset} has no usable image of {}: metrics are over {over}; {} predicted as a lacking class, \
                 which counts as wrong",
                classes.join(", "),
                images(self.predicted_lacking)
            ));
        }
        notes
    }
}

/// The usable cells of a data set whose class is one of `classes`, and what is left out.
fn covered(data: Dataset, classes: &Classes) -> (Vec<ManifestRow>, Coverage) {
    let mut coverage = Coverage::default();
    let (mut rows, mut unknown) = (Vec::new(), BTreeMap::new());
    for (cell, check) in data.cells.into_iter().zip(data.checks) {
        match cell.class {
            None => {
                let label = cell.label.unwrap_or_else(|| "no label".into());
                *coverage.without_class.entry(label).or_default() += 1;
            }
            Some(_) if check.left_out.is_some() => coverage.faulty += 1,
            Some(class) if classes.index(class).is_some() => rows.push(cell),
            Some(class) => *unknown.entry(class).or_default() += 1,
        }
    }
    let is_label = |class: &Class| coverage.without_class.keys().any(|label| label.to_lowercase() == class.name());
    coverage.known_labels = classes.iter().filter(is_label).collect();
    coverage.unknown = unknown.into_iter().collect();
    coverage.find_lacking(&rows, classes);
    (rows, coverage)
}

/// Cuts images of one cell as the training images of the run were cut, where ingest decided otherwise for their data
/// set: a data set with other classes has larger or smaller cells, although microscope and camera are the same. Images
/// of another size, and those with boxes, stay as they are; the notes say so.
fn cut_as_trained(rows: &mut [ManifestRow], trained: &TrainedImages) -> Vec<CutNote> {
    let mut counts: BTreeMap<(CutRule, bool), u64> = BTreeMap::new();
    for row in rows {
        let Some(ingested) = row.cut.filter(|rule| *rule != trained.rule) else { continue };
        let (shorter, usual) = (f64::from(row.width_px.min(row.height_px)), f64::from(trained.shorter_px));
        let is_alike = shorter <= LARGER * usual && usual <= LARGER * shorter;
        let as_trained = is_alike && ingested != CutRule::Box && trained.rule != CutRule::Box;
        if as_trained {
            row.cut = Some(trained.rule);
        }
        *counts.entry((ingested, as_trained)).or_default() += 1;
    }
    let note = |((ingested, as_trained), images)| CutNote { images, trained: trained.rule, ingested, as_trained };
    counts.into_iter().map(note).collect()
}

/// Mean balanced accuracy of `models` on their own test images, 0 to 1; none where they are not evaluated.
fn own_balanced_accuracy(ws: &Workspace, run: &str, models: &[ModelId]) -> Result<Option<f64>> {
    let folds: Vec<u32> = models.iter().filter_map(|id| id.fold()).collect();
    match Results::load(ws, run) {
        Err(Error::Missing { .. }) => Ok(None),
        results => Ok(results?.mean(Metric::BalancedAccuracy, &folds)),
    }
}

/// What was validated, and on what: `about.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The data set.
    pub dataset: String,
    /// The classes of the run.
    pub classes: Classes,
    /// The models that were averaged.
    pub models: Vec<ModelId>,
    /// What was left out.
    pub coverage: Coverage,
    /// What is not known about the models' training images.
    pub note: Option<String>,
    /// Set where the images do not look like the training images.
    #[serde(default)]
    pub unlike: Option<Unlike>,
    /// Hash of the data set's manifest.
    pub manifest: String,
}

/// A finished external validation.
pub struct Validation {
    /// What was validated, and on what.
    pub about: About,
    /// One row per image: see `schemas/cells.toml`.
    pub cells: Vec<CellRow>,
    /// Calibrated predictions of the averaged models, in the order of `cells`.
    pub predictions: Vec<PredictionRow>,
    /// Metrics of the averaged models (`fold` null) and of single models.
    pub metrics: Vec<MetricRow>,
    /// Intervals of the averaged models' metrics.
    pub intervals: Vec<IntervalRow>,
}

impl Validation {
    /// Writes all tables or none, because they are read together.
    fn write(&self, folder: &ExternalDir, provenance: &Provenance) -> Result<()> {
        atomic::write_dir(folder.path(), |folder| {
            let folder = ExternalDir::new(folder);
            let classes = &self.about.classes;
            table::write_class_rows(&folder.cells(), &CELLS, classes, provenance, &self.cells)?;
            let path = folder.predictions();
            table::write_class_rows(&path, &PREDICTIONS, classes, provenance, &self.predictions)?;
            let inputs = BTreeMap::from([(Input::Predictions.name().into(), table::file_hash(&path)?)]);
            let evaluated = Provenance { stage: "evaluate".into(), inputs, ..provenance.clone() };
            table::write_rows(&folder.metrics(), &METRICS, &evaluated, &self.metrics)?;
            table::write_rows(&folder.intervals(), &INTERVALS, &evaluated, &self.intervals)?;
            atomic::write_bytes(&folder.about(), integrity::json(&self.about).as_bytes())
        })
    }

    fn read(folder: &ExternalDir) -> Result<Self> {
        let path = folder.about();
        let text = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
        let about: About = integrity::from_json(&text)
            .map_err(|e| Error::format(&path, "validation", "the result of wbc validate", e))?;
        Ok(Self {
            cells: table::read_class_rows(&folder.cells(), &CELLS, &about.classes)?.0,
            predictions: table::read_class_rows(&folder.predictions(), &PREDICTIONS, &about.classes)?.0,
            about,
            metrics: table::read_rows(&folder.metrics(), &METRICS)?.0,
            intervals: table::read_rows(&folder.intervals(), &INTERVALS)?.0,
        })
    }

    /// Balanced accuracy of single models, 0 to 1: lowest, mean, highest.
    pub fn single_models(&self) -> Option<[f64; 3]> {
        let single = |row: &&MetricRow| row.fold.is_some() || self.about.models == [ModelId::All];
        let rows = self.metrics.iter().filter(|row| row.metric == Metric::BalancedAccuracy).filter(single);
        let values: Vec<f64> = rows.filter_map(|row| row.value).collect();
        let mean = statistics::mean(&values)?;
        Some([values.iter().copied().fold(1.0, f64::min), mean, values.iter().copied().fold(0.0, f64::max)])
    }

    /// A metric of the averaged models, 0 to 1.
    pub fn value(&self, metric: Metric, class: Option<Class>) -> Option<f64> {
        self.metrics.iter().find(|r| r.fold.is_none() && r.metric == metric && r.class == class)?.value
    }

    /// The interval of a metric of all classes, of the averaged models: by patient or slide where they are known.
    pub fn over_images(&self, metric: Metric) -> Option<&IntervalRow> {
        run::over_images(&self.intervals, metric, None)
    }

    /// What is to be said of classes with very few images: see [`run::rare_classes`].
    pub fn rare_classes(&self) -> Option<String> {
        let images = |class| self.predictions.iter().filter(|p| p.truth == class).count() as u64;
        let recall = |class| (class, images(class), self.value(Metric::Recall, Some(class)));
        run::rare_classes(&self.about.classes.iter().map(recall).collect::<Vec<_>>())
    }

    /// Number of flagged cells.
    pub fn flagged(&self) -> u64 {
        self.cells.iter().filter(|cell| cell.flag.is_some()).count() as u64
    }

    /// Accuracy on the cells without a flag, 0 to 1.
    pub fn accuracy_without_flagged(&self) -> Option<f64> {
        let cells = self.cells.iter().zip(&self.predictions).filter(|(cell, _)| cell.flag.is_none());
        let correct: Vec<f64> = cells.map(|(cell, p)| f64::from(cell.class == p.truth)).collect();
        statistics::mean(&correct)
    }
}

/// The external validations of a run, sorted by folder.
///
/// # Errors
/// [`Error::Io`] where they cannot be read, [`Error::Format`] where a table does not match its schema.
pub fn list(ws: &Workspace, run: &str) -> Result<Vec<Validation>> {
    let external = RunDir::new(ws, run).external();
    if !external.try_exists().map_err(Error::io(&external, "list"))? {
        return Ok(Vec::new());
    }
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(&external).and_then(Iterator::collect);
    let mut paths: Vec<PathBuf> = entries.map_err(Error::io(&external, "list"))?.iter().map(|e| e.path()).collect();
    paths.sort();
    let mut validations = Vec::new();
    for folder in paths.into_iter().map(ExternalDir::new) {
        if table::exists(&folder.about())? {
            validations.push(Validation::read(&folder)?);
        }
    }
    Ok(validations)
}
