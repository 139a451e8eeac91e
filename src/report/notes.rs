//! What a table does not say: the lines below it.

use super::thousands;
use crate::class::Class;
use crate::rows::IntervalRow;
use crate::run::{ModelId, Recipe, Record, Results};
use crate::scores::{Method, Metric};
use crate::statistics::RESAMPLES;
use crate::synth;
use crate::workspace::Workspace;

/// Of the paper's Tables 3 and 4.
pub const CUK: &str =
    "The paper's figures are for its own CUK images, which are not public, and for folds that it does not list";
/// Of the paper's Tables 5 and 6.
pub const LISC: &str = "The paper's figures are for 254 cells of LISC, from 8 people, after 4,000 epochs; a class has about \
                        4 to 6 test cells in a fold, and one cell moves a figure by 17 to 25 points";
/// Of the paper's W-Net.
pub const WNET_RECIPE: &str = "The paper leaves open whether p = 0.6 of dropout is kept or dropped, what \"normalising\" is, \
                               and how pictures are resized";
/// Of data without patients.
pub const PATIENTS: &str = "No patient is named in the data: cells of one patient may stand in training and test folds";
/// Of one training a fold.
pub const SEED: &str = "One seed: how much another seed would change the figures is not in them";
/// Of drawn cells.
pub const SYNTHETIC: &str = "These cells are drawn, not photographed: the figures say nothing about blood";

/// What a built-in recipe was chosen on, where that was test images of a public data set.
fn chosen_on(pipeline: &str) -> Option<&'static str> {
    match pipeline {
        "quick" => Some(
            "The recipe was chosen by trying a few on the test images of PBC's folds 0 to 2: on those images its figures are a \
             little flattered",
        ),
        "robust" => Some(
            "The recipe was chosen by trying a few on the test images of PBC's folds 0 to 2, with a look at LISC's and JTSC's \
             cells: on those images its figures are flattered",
        ),
        _ => None,
    }
}

/// Whether a data set's cells are drawn.
pub fn is_synthetic(ws: &Workspace, dataset: &str) -> bool {
    ws.raw_dataset(dataset).join(synth::MARKER).exists()
}

/// "97.6 to 98.9".
pub fn range(interval: &IntervalRow) -> String {
    format!("{:.1} to {:.1}", 100.0 * interval.low, 100.0 * interval.high)
}

/// Below a table of one run: its data, its intervals, what its figures mean and cannot claim. `caveats` are of the paper's
/// figures.
pub fn of_run(ws: &Workspace, run: &Results, caveats: &[&str]) -> Vec<String> {
    let record = &run.record;
    let mut notes = data(run).to_vec();
    notes.extend(intervals(run));
    notes.push(
        "A cell is the share of the class's test images that were classified right (recall), which the paper calls \
         accuracy; the last row is the mean over classes (balanced accuracy), the last column the mean over folds"
            .into(),
    );
    if let Some(fewest) = run.fewest().filter(|n| *n < 20) {
        let (points, s) = (100.0 / fewest as f64, if fewest == 1 { "" } else { "s" });
        notes.push(format!(
            "A class has as few as {fewest} test image{s} in a fold: one image is {points:.0} points there"
        ));
    }
    let untested: Vec<&str> = run.untested().into_iter().map(Class::name).collect();
    if !untested.is_empty() {
        notes.push(format!(
            "Some folds have no test image of {}: their last row is the mean over the other classes",
            untested.join(", ")
        ));
    }
    notes.extend(incomplete(run));
    notes.extend(init(record));
    if is_synthetic(ws, &record.dataset) {
        notes.push(SYNTHETIC.into());
    }
    if let (Recipe::Network(settings), Some(size_px)) = (&record.recipe, record.size_px()) {
        notes.push(format!(
        "This run: {} epochs, batch {}, {} of activations dropped, normalise {}, {} px; all settings are in its pipeline.toml",
        settings.epochs,
        settings.batch,
        settings.dropout,
        serde_json::to_value(settings.normalise).ok().as_ref().and_then(|v| v.as_str()).unwrap_or("-"),
            size_px,
        ));
    }
    notes.extend(chosen_on(&record.pipeline).map(Into::into));
    notes.extend(caveats.iter().map(|c| c.to_string()));
    notes.extend([PATIENTS.into(), SEED.into()]);
    notes
}

/// What a data set's images cannot tell. `checked`: near copies and the like were looked for.
pub fn of_dataset(ws: &Workspace, dataset: &str, checked: bool) -> Vec<String> {
    let mut notes = vec![PATIENTS.to_string()];
    notes.extend(
        [
            "Labels are the source's: the same picture under two labels is found, a wrong label is not",
            "Stain, microscope, camera and magnification stand in no file: where backgrounds differ, images may be of other \
             slides, days or laboratories, and nothing says which",
            "Which cells were left out when the images were collected is not known: shares of classes are the collection's, \
             not the blood's",
            "Copies that were turned or mirrored are not looked for",
            "Blur is judged beside the data set's other images: one that is blurred throughout looks sharp",
        ]
        .map(String::from),
    );
    if !checked {
        notes.push("Near copies were not looked for, and may stand in two folds".into());
    }
    if is_synthetic(ws, dataset) {
        notes.push(SYNTHETIC.into());
    }
    notes
}

fn data(run: &Results) -> [String; 2] {
    let record = &run.record;
    let counts = run.images();
    let classes = ["NE", "EO", "BA", "LY", "MO"].iter().zip(counts).map(|(c, n)| format!("{c} {}", thousands(n)));
    let percent = |metric: Metric| run.value(None, metric, None).map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
    [
        format!(
            "Data: {}, {} test images ({}); run {}, recipe {}, seed {}",
            record.dataset,
            thousands(counts.iter().sum()),
            classes.collect::<Vec<_>>().join(", "),
            run.name,
            record.pipeline,
            record.seed
        ),
        format!(
            "Mean over folds: balanced accuracy {}, accuracy {}",
            percent(Metric::BalancedAccuracy),
            percent(Metric::Accuracy)
        ),
    ]
}

/// The 95 % intervals, and what they are not.
fn intervals(run: &Results) -> Vec<String> {
    let of = |metric: Metric| run.interval(metric, None, Method::Bootstrap);
    let (Some(balanced), Some(plain)) = (of(Metric::BalancedAccuracy), of(Metric::Accuracy)) else {
        return Vec::new();
    };
    let mut notes = vec![format!(
        "95 % intervals over images: balanced accuracy {} %, accuracy {} % (percentile bootstrap, {} resamples of the test \
         images within fold and class; Efron & Tibshirani 1993)",
        range(balanced),
        range(plain),
        thousands(RESAMPLES as u64)
    )];
    if plain.low == plain.high
        && let Some(wilson) = run.interval(Metric::Accuracy, None, Method::Wilson)
    {
        notes.push(format!(
            "No test image was classified wrong: resampling shows no width; Wilson's interval of accuracy is {} %",
            range(wilson)
        ));
    }
    let over_folds = [Metric::BalancedAccuracy, Metric::Accuracy].into_iter();
    let over_folds = over_folds.filter_map(|metric| Some((metric, run.interval(metric, None, Method::CorrectedT)?)));
    let over_folds: Vec<_> = over_folds.collect();
    if let Some((_, first)) = over_folds.first() {
        let each = over_folds.iter().map(|(metric, i)| format!("{metric} {} %", range(i)));
        notes.push(format!(
            "95 % intervals over folds: {} (corrected resampled t, {} degrees of freedom: folds share training images; \
             Nadeau & Bengio 2003)",
            each.collect::<Vec<_>>().join(", "),
            first.units - 1
        ));
    }
    let recall = |class: Class| {
        let interval = run.interval(Metric::Recall, Some(class), Method::Wilson)?;
        Some(format!("{} {}", class, range(interval)))
    };
    let recalls: Vec<String> = Class::ALL.into_iter().filter_map(recall).collect();
    notes.push(format!("95 % intervals of recall, all folds together (Wilson 1927), %: {}", recalls.join(", ")));
    notes.push(
        "The intervals take images as independent, which cells of one patient or frame are not, and know nothing of other \
         seeds or laboratories: what is not known is more than they say"
            .into(),
    );
    notes
}

/// The weights that a run started from, and whether they may have seen its test images.
pub fn init(record: &Record) -> Option<String> {
    let init = record.init.as_ref()?;
    let fold = match init.model {
        Some(ModelId::Fold(fold)) => format!("its fold {fold}"),
        _ => "a model of all of it".into(),
    };
    Some(match init.dataset.as_deref() {
        Some(same) if same == record.dataset => format!(
            "LEAK: training started from {}, trained on this very data set: it may have seen the test images",
            init.from
        ),
        Some(other) => format!("Training started from {}, trained on {other} ({fold})", init.from),
        None => format!(
            "Training started from {}; what it was trained on is not known, and may include the test images",
            init.from
        ),
    })
}

/// Which folds a run still lacks.
pub fn incomplete(run: &Results) -> Option<String> {
    let missing: Vec<String> = run.missing().iter().map(u32::to_string).collect();
    (!missing.is_empty())
        .then(|| format!("INCOMPLETE: fold {} not trained yet; means are over the others", missing.join(", ")))
}
