//! The notes below a table: what its figures are based on, how certain they are, and what they do not show.

use super::thousands;
use crate::class::{Class, ClassInfo, Classes};
use crate::dataset;
use crate::error::{Error, Result};
use crate::evaluate::People;
use crate::nn::Precision;
use crate::rows::IntervalRow;
use crate::run::{HeldOut, ModelId, NetworkSettings, Recipe, Record, Results, model_title};
use crate::scores::{Method, Metric};
use crate::statistics::{MIN_CLUSTERS, RESAMPLES};
use crate::storage;
use crate::synth;
use crate::table;
use crate::workspace::Workspace;
use std::collections::BTreeSet;

/// On the paper's Tables 3 and 4.
pub(super) const CUK: &str = "The paper's figures are for its own CUK images and folds, which are not public";
/// On the paper's Tables 5 and 6.
pub(super) const LISC: &str = "The paper's figures are for 254 cells of LISC from 8 people, after 4,000 epochs; \
                               a class has about 4 to 6 test cells per fold, so one cell changes a figure by 17 to \
                               25 points";
/// On the paper's W-Net.
pub(super) const WNET_RECIPE: &str = "The paper does not say whether 0.6 is the share of activations that dropout \
                                      keeps or drops, how it normalises, and how it resizes images";
/// On data without patients.
pub(crate) const PATIENTS: &str = "Patients are unknown: cells of one patient may be in both training and test folds";
/// On training with one seed.
const SEED: &str = "One seed: the figures do not show how much another seed would change them";
/// On synthetic cells.
const SYNTHETIC: &str = "Synthetic cells, not photographs: the figures say nothing about blood";
/// On images that were not checked.
const UNCHECKED: &str = "The images were not checked for near copies, which may be in different folds";
/// With fewer test images of a class in a fold than this, the summary says so.
const FEW_IMAGES: u64 = 20;
/// Intervals from fewer patients or slides than this are not reliable.
const FEW_CLUSTERS: u64 = 10;
/// Most lines of a summary.
const SUMMARY: usize = 5;

/// The notes of a table.
pub(crate) struct Notes {
    /// What a reader must know before quoting the figures: at most five notes.
    pub summary: Vec<String>,
    /// Definitions, methods and limitations.
    pub details: Vec<String>,
}

impl Notes {
    /// The summary, then the details.
    pub fn all(self) -> impl Iterator<Item = String> {
        self.summary.into_iter().chain(self.details)
    }
}

/// The images that a built-in recipe was chosen on, where they are test images of a public data set.
fn chosen_on(pipeline: &str) -> Option<&'static str> {
    match pipeline {
        "quick" => Some(
            "The recipe was chosen among a few on the test images of PBC's folds 0 to 2: its figures on those images \
             are slightly optimistic",
        ),
        "robust" => Some(
            "The recipe was chosen among a few on the test images of PBC's folds 0 to 2, and partly on LISC and JTSC: \
             its figures on those images are optimistic",
        ),
        _ => None,
    }
}

/// What a reader must know of a data set whose cells are synthetic, or may be.
pub(crate) fn synthetic(ws: &Workspace, dataset: &str) -> Option<String> {
    match is_synthetic(ws, dataset) {
        Ok(false) => None,
        Ok(true) => Some(SYNTHETIC.into()),
        Err(error) => Some(format!("Whether the cells of {dataset} are synthetic is not known: {error}")),
    }
}

/// Whether a data set's cells are synthetic.
///
/// # Errors
/// [`Error::Io`] where that is not known, or the error of a damaged table.
pub(crate) fn is_synthetic(ws: &Workspace, dataset: &str) -> Result<bool> {
    let raw = ws.raw_dataset(dataset);
    if !storage::is_link(&raw) {
        return table::exists(&raw.join(synth::MARKER));
    }
    // Ingest has seen all objects, and said that this one is no image.
    match dataset::issues(ws, dataset) {
        Ok(issues) => Ok(issues.iter().any(|issue| issue.path == synth::MARKER)),
        Err(Error::Missing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What an interval is over: "over images", or "by patient (8 patients)".
pub(crate) fn over(interval: &IntervalRow) -> String {
    match interval.method.cluster() {
        Some(cluster) => format!("by {cluster} ({} {cluster}s)", interval.units),
        None => "over images".into(),
    }
}

/// An interval in percent: "97.6 to 98.9".
pub(crate) fn range(interval: &IntervalRow) -> String {
    format!("{:.1} to {:.1}", 100.0 * interval.low, 100.0 * interval.high)
}

/// The classes' abbreviations, or their names where one has none or two have the same.
pub(super) fn short_names(classes: &Classes) -> Vec<String> {
    let short: BTreeSet<&str> = classes.infos().iter().map(|info| info.abbreviation.as_str()).collect();
    let clear = short.len() == classes.len() && !short.contains("");
    let name = |info: &ClassInfo| if clear { info.abbreviation.clone() } else { info.name.to_string() };
    classes.infos().iter().map(name).collect()
}

/// Why the paper's figures are not shown beside those of a run or data set with other classes than the paper's.
pub(super) fn other_classes(classes: &Classes) -> String {
    /// Most names to list.
    const LISTED: usize = 3;
    let names: Vec<&str> = classes.iter().map(Class::name).take(LISTED).collect();
    let more = match classes.len().saturating_sub(LISTED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!(
        "The paper's figures are not shown: they are for {} in this order, not for these {} classes: {}{more}",
        Classes::wbc5(),
        classes.len(),
        names.join(", ")
    )
}

/// Why the paper's figures are not shown beside those of a classical classifier.
pub(super) fn other_model(record: &Record) -> String {
    format!("The paper's figures are not shown: they are for W-Net, not for {}", model_title(&record.model))
}

/// Notes of a table that shows one run. `caveats` are on the paper's figures.
pub(crate) fn of_run(ws: &Workspace, run: &Results, caveats: &[&str]) -> Notes {
    let record = &run.record;
    let mut summary = vec![data(run), scores(run)];
    summary.extend(run.held_out.as_ref().map(held_out));
    summary.extend(record.own_split.as_ref().map(ToString::to_string));
    summary.extend(leak(record));
    summary.extend(
        incomplete(run)
            .map(|folds| format!("INCOMPLETE: fold {folds} not trained yet; means are over the other folds")),
    );
    let constant: Vec<String> = run.constant().iter().map(u32::to_string).collect();
    if !constant.is_empty() {
        summary.push(format!(
            "Fold {}: every test image is predicted as the same class, which makes the intervals too narrow",
            constant.join(", ")
        ));
    }
    summary.extend(run.rare_classes());
    summary.extend(synthetic(ws, &record.dataset));
    if let Some(fewest) = run.fewest().filter(|n| *n < FEW_IMAGES) {
        summary.push(format!(
            "As few as {fewest} test {} of a class in a fold: one image changes its recall by {:.0} points",
            if fewest == 1 { "image" } else { "images" },
            100.0 / fewest as f64
        ));
    }
    let mut details = summary.split_off(summary.len().min(SUMMARY));
    details.push(
        "Each entry is the recall: the share of the class's test images that are predicted correctly, which the paper \
         calls accuracy; the last row is the mean over classes (balanced accuracy), the last column the mean over folds"
            .into(),
    );
    let classes = short_names(run.classes()).into_iter().zip(run.images());
    let classes: Vec<String> = classes.map(|(class, n)| format!("{class} {}", thousands(n))).collect();
    details.push(format!("Test images by class: {}", classes.join(", ")));
    details.extend(intervals(run));
    details.extend(init(record).filter(|_| leak(record).is_none()));
    if let (Recipe::Network(settings), Some(size_px)) = (&record.recipe, record.size_px()) {
        let normalise = serde_json::to_value(settings.normalise).ok();
        details.push(format!(
            "Recipe {}: {} epochs, batch {}, {} of activations dropped, normalise {}, {size_px} px{}; all settings are \
             in the run's pipeline.toml",
            record.pipeline,
            settings.epochs,
            settings.batch,
            settings.dropout,
            normalise.as_ref().and_then(|v| v.as_str()).unwrap_or("-"),
            match settings.precision {
                Precision::F32 => String::new(),
                precision => format!(", operands of products rounded to {}", precision.name()),
            },
        ));
        details.extend(cell_size(settings));
    }
    details.extend(chosen_on(&record.pipeline).map(Into::into));
    details.extend(caveats.iter().map(|c| c.to_string()));
    details.extend([patients(run), SEED.into()]);
    Notes { summary, details }
}

/// That the test images of a fold were not judged one by one.
fn cell_size(settings: &NetworkSettings) -> Option<String> {
    (settings.cell_size > 0.0).then(|| {
        format!(
            "Sizes of cells and nuclei count beside the pixels (train.cell_size {}): how large cells appear is \
             estimated from all test images of a fold, without their labels",
            settings.cell_size
        )
    })
}

/// The result on the held-out test set.
fn held_out(held_out: &HeldOut) -> String {
    let score = |metric: Metric| {
        let (value, interval) = held_out.value(metric, None);
        let value = value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let interval = interval.map(|row| match row.method.cluster() {
            Some(cluster) => format!(" (95 % interval by {cluster}, of {}: {})", row.units, range(row)),
            None => format!(" (95 % interval over images {})", range(row)),
        });
        format!("{metric} {value}{}", interval.unwrap_or_default())
    };
    format!(
        "Held-out test set, on which no fold was trained: {}, {}; {} images, mean probabilities of the {} models of \
         the folds",
        score(Metric::BalancedAccuracy),
        score(Metric::Accuracy),
        thousands(held_out.images(None)),
        held_out.models()
    )
}

/// What is known of the patients of a run's test images.
fn patients(run: &Results) -> String {
    match run.clusters() {
        None => PATIENTS.into(),
        Some(("patient", n)) => format!("By patient: all images of each of the {n} patients are in the same test fold"),
        Some(("copy group", _)) => PATIENTS.into(),
        Some((_, n)) => format!(
            "All images of each of the {n} slides are in the same test fold; patients are unknown: slides of one \
             patient may be in both training and test folds"
        ),
    }
}

/// What the images of a data set do not show. `checked` says whether check has run.
pub(crate) fn of_dataset(ws: &Workspace, dataset: &str, checked: bool) -> Vec<String> {
    let mut notes = vec![match People::read(ws, dataset).ok().and_then(|people| people.known()) {
        None => PATIENTS.to_string(),
        Some((unit, n)) => format!("{n} {unit}s are named, and wbc split keeps their images together"),
    }];
    notes.extend(
        [
            "Labels are those of the source: an image under two labels is found, a wrong label is not",
            "Stain, microscope, camera and magnification are not recorded: where backgrounds differ, images may be \
             from different slides, days or laboratories",
            "How the cells were selected is unknown: the proportions of the classes are not those of blood",
            "Copies are found if a fifth of the image is shared; two photographs of one cell may differ too much to be \
             found",
            "Blur is judged relative to the other images: a data set that is blurred throughout appears sharp",
        ]
        .map(String::from),
    );
    if !checked {
        notes.push(UNCHECKED.into());
    }
    notes.extend(synthetic(ws, dataset));
    notes
}

/// Data and run.
fn data(run: &Results) -> String {
    let Record { dataset, folds, seed, .. } = &run.record;
    let images = thousands(run.images().iter().sum());
    let finished = *folds as usize - run.missing().len();
    format!("{dataset}: {images} test images in {finished} of {folds} folds; run {}, seed {seed}", run.name)
}

/// Scores with their intervals.
fn scores(run: &Results) -> String {
    let score = |metric: Metric| {
        let percent = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let (interval, pooled) = (run.over_images(metric, None), percent(run.pooled(metric)));
        let range = interval.map_or("-".into(), range);
        (percent(run.value(None, metric, None)), pooled, range, interval.map_or("over images".into(), over))
    };
    let (balanced, pooled, balanced_range, over) = score(Metric::BalancedAccuracy);
    let (accuracy, accuracy_pooled, accuracy_range, _) = score(Metric::Accuracy);
    let lacking: Vec<&str> = run.untested().into_iter().map(Class::name).collect();
    let lacking = match lacking.is_empty() {
        true => String::new(),
        false => format!("; folds without a test image of {} have the mean over the others", lacking.join(", ")),
    };
    format!(
        "Balanced accuracy {pooled} with all folds pooled (95 % interval {over} {balanced_range}), {balanced} as mean \
         over folds{lacking}; accuracy {accuracy_pooled} ({accuracy_range}), {accuracy} as mean over folds"
    )
}

/// The 95 % intervals, their methods and limits.
fn intervals(run: &Results) -> Vec<String> {
    let both = |methods: [Method; 2]| {
        let [balanced, accuracy] = methods;
        let interval = |(metric, method)| Some((metric, run.interval(metric, None, method)?));
        let metrics = [(Metric::BalancedAccuracy, balanced), (Metric::Accuracy, accuracy)];
        let intervals: Vec<_> = metrics.into_iter().filter_map(interval).collect();
        let text: Vec<String> = intervals.iter().map(|(metric, i)| format!("{metric} {} %", range(i))).collect();
        let last = intervals.last().map(|(_, interval)| *interval);
        last.map(|interval| (text.join(", "), interval))
    };
    let mut notes = Vec::new();
    if let Some((text, _)) = both([Method::Melded, Method::Wilson]) {
        notes.push(format!(
            "95 % intervals over images, all folds pooled: {text} (Wilson 1927; of balanced accuracy, the exact \
             ones of the classes, melded: Fay et al. 2015)"
        ));
    }
    if let Some((text, interval)) = both([Method::CorrectedT; 2]) {
        notes.push(format!(
            "95 % intervals over folds: {text} (corrected resampled t, {} degrees of freedom, as folds share training \
             images; Nadeau & Bengio 2003)",
            interval.units - 1
        ));
    }
    let recall = |class: Class| {
        let interval = run.over_images(Metric::Recall, Some(class))?;
        Some(format!("{class} {}", range(interval)))
    };
    let recalls: Vec<String> = run.classes().iter().filter_map(recall).collect();
    if let Some((cluster, n)) = run.clusters() {
        notes.extend(by_cluster(run, cluster, n));
        notes.push(format!("95 % intervals of recall by {cluster}, all folds pooled, %: {}", recalls.join(", ")));
        return notes;
    }
    notes.push(format!("95 % intervals of recall, all folds pooled (Wilson 1927), %: {}", recalls.join(", ")));
    notes.push(
        "The intervals treat images as independent, which cells of one patient or frame are not, and do not cover \
         other seeds or laboratories: the true uncertainty is larger"
            .into(),
    );
    notes
}

/// How intervals that resample patients or slides are computed, and their limits.
fn by_cluster(run: &Results, cluster: &str, n: u64) -> Vec<String> {
    let score = |metric: Metric| {
        let row = run.over_images(metric, None)?;
        Some(format!("{metric} {:.2} % ({})", 100.0 * row.value, range(row)))
    };
    let scores: Vec<String> = [Metric::BalancedAccuracy, Metric::Accuracy].into_iter().filter_map(score).collect();
    let mut notes = vec![
        format!(
            "95 % intervals by {cluster}, all folds pooled: {} (expanded percentile bootstrap, {} resamples of {n} \
             {cluster}s, each with all images; Field & Welsh 2007, Hesterberg 2015; where all images are correct, or \
             none, Wilson's for as many images as {cluster}s; none is narrower than over images)",
            scores.join(", "),
            thousands(RESAMPLES as u64)
        ),
        "The intervals do not cover other seeds or laboratories".into(),
    ];
    if n < MIN_CLUSTERS as u64 {
        notes.push(format!("Only {n} {cluster}s: no interval can be computed, so that they are 0 to 100 %"));
    } else if n < FEW_CLUSTERS {
        notes.push(format!("Only {n} {cluster}s: intervals from so few are not reliable, and may be too narrow"));
    }
    notes
}

/// The weights that a run started from, and whether they may have been trained on its test images.
pub(crate) fn init(record: &Record) -> Option<String> {
    let init = record.init.as_ref()?;
    let model = match init.model {
        Some(ModelId::Fold(fold)) => format!("its fold {fold}"),
        _ => "all images".into(),
    };
    Some(match init.dataset.as_deref() {
        Some(dataset) if dataset == record.dataset => format!(
            "LEAK: training started from {}, which was trained on the same data set and may have seen the test images",
            init.from
        ),
        Some(dataset) => format!("Training started from {}, trained on {dataset} ({model})", init.from),
        None => format!(
            "Training started from {}, whose training images are unknown and may include the test images",
            init.from
        ),
    })
}

/// [`init`] where the weights may have been trained on the test images.
fn leak(record: &Record) -> Option<String> {
    let dataset = record.init.as_ref()?.dataset.as_ref();
    init(record).filter(|_| dataset.is_none_or(|dataset| *dataset == record.dataset))
}

/// The folds that are not trained yet: "3, 4".
pub(super) fn incomplete(run: &Results) -> Option<String> {
    let missing: Vec<String> = run.missing().iter().map(u32::to_string).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}
