//! A page a run: tables, figures, the cells that were taken for others, the data's card and what cannot be claimed.

use super::maps::Maps;
use super::plots::{self, Figure};
use super::{card, figures, picture, png, sheet};
use crate::atomic;
use crate::batch::Tensors;
use crate::class::Class;
use crate::error::Result;
use crate::evaluate::curves;
use crate::explain::gallery;
use crate::predict::external::{self, Validation};
use crate::report::Sheet;
use crate::report::{notes, thousands};
use crate::rows::{EpochRow, IssueRow, ManifestRow, MetricRow, PredictionRow};
use crate::run::{self, ModelId, Recipe, Record, Results, RunDir, model_title};
use crate::schema::{ISSUES, MANIFEST};
use crate::table;
use crate::workspace::Workspace;
use minijinja::{Value, context};
use std::path::{Path, PathBuf};

/// A run with all that is shown of it.
struct Shown {
    run: Results,
    epochs: Vec<EpochRow>,
    predictions: Vec<PredictionRow>,
}

impl Shown {
    fn load(ws: &Workspace, name: &str) -> Result<Self> {
        let run = Results::load(ws, name)?;
        let (predictions, epochs) = (run::predictions(ws, name)?, run::epochs(ws, name)?);
        Ok(Self { run, epochs, predictions })
    }

    /// Every figure that the run has the data for.
    fn figures(&self) -> Vec<Figure> {
        let of_class = |class| Some((class, curves::precision_recall(&self.predictions, class)?));
        let precision_recall: Vec<_> = Class::ALL.into_iter().filter_map(of_class).collect();
        [
            Some(plots::confusion(&confusion(&self.run.metrics))),
            plots::recall(&self.run.intervals),
            plots::precision_recall(&precision_recall),
            Some(plots::reliability(&curves::reliability(&self.predictions))),
            plots::learning(&self.epochs),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// How figures are written to files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Vector graphics: sharp at any size, to edit and for print.
    #[default]
    Svg,
    /// Pixels, twice the figure's size: for slides and text processors.
    Png,
}

/// Writes a run's figures into `folder`, a file each; returns their paths.
///
/// # Errors
/// [`crate::error::Error::Missing`] where there is no such run or no fold of it is finished.
pub fn write_figures(ws: &Workspace, run: &str, format: Format, folder: &Path) -> Result<Vec<PathBuf>> {
    let figures = Shown::load(ws, run)?.figures();
    let write = |figure: &Figure| {
        let (extension, bytes) = match format {
            Format::Svg => ("svg", figure.alone().into_bytes()),
            Format::Png => ("png", png::of(&figure.alone())?),
        };
        let path = folder.join(format!("{run}-{}.{extension}", figure.name));
        atomic::write_bytes(&path, &bytes)?;
        Ok(path)
    };
    figures.iter().map(write).collect()
}

/// Writes the page of `run` to `path`; `sheets` are tables that show it.
///
/// # Errors
/// [`crate::error::Error::Missing`] where there is no such run or no fold of it is finished.
pub fn write(ws: &Workspace, run: &str, sheets: &[Sheet], path: &Path) -> Result<()> {
    let shown = Shown::load(ws, run)?;
    let (run, record) = (&shown.run, &shown.run.record);
    let own = [by_fold(run)];
    let sheets: &[Sheet] = if sheets.is_empty() { &own } else { sheets };
    let mut notes = sheets.iter().find(|s| s.run.is_some()).map_or_else(Vec::new, |s| s.notes.clone());
    if notes.is_empty() {
        notes = notes::of_run(ws, run, &[]);
    }
    let tensors = record.preprocess.as_ref().and_then(|s| Tensors::load(ws, &record.dataset, s).ok());
    let gallery = Gallery { tensors: tensors.as_ref().filter(|p| record.inputs.get("tensors") == Some(&p.hash)) };
    let wrong = gallery::mistakes(&shown.predictions);
    let maps = Maps::new(ws, &run.name, record, gallery.tensors, &wrong)?;
    let mistakes: Vec<Value> = wrong.into_iter().filter_map(|r| gallery.cell(r, maps.of.get(&r.image_id))).collect();
    let examples = gallery.examples(&shown.predictions);
    let any_wrong = shown.predictions.iter().any(|r| r.predicted() != r.truth);
    let no_mistakes = match any_wrong {
        false => "Every test image was classified right.".to_string(),
        true if record.preprocess.is_none() => {
            "A classifier on measured features sees no pictures: its mistakes are in predictions.parquet, by image."
                .into()
        }
        true => {
            "The cells cannot be shown: the pictures that the run was trained on are not in the workspace any more."
                .into()
        }
    };
    let folds = record.folds as usize - run.missing().len();
    let values = context! {
        title => format!("{} on {}", model_title(&record.model), record.dataset),
        subtitle => format!(
            "Run {}, recipe {}, seed {}; {} of {} folds finished",
            run.name, record.pipeline, record.seed, folds, record.folds
        ),
        items => key(run),
        sheets => sheets.iter().map(sheet).collect::<Vec<_>>(),
        plots => figures(shown.figures()),
        elsewhere => external::of_run(ws, &run.name)?.iter().map(|v| elsewhere(ws, run, v)).collect::<Vec<_>>(),
        claims => notes,
        mistakes => mistakes,
        no_mistakes => no_mistakes,
        maps => !maps.of.is_empty(),
        maps_note => maps.note,
        examples => examples,
        data => data(ws, record)?,
        settings => settings(ws, run),
        pipeline => std::fs::read_to_string(RunDir::new(ws, &run.name).pipeline()).unwrap_or_default(),
    };
    super::write("run.html", values, path)
}

/// What the run's models reach on another data set.
fn elsewhere(ws: &Workspace, run: &Results, there: &Validation) -> Value {
    let value = |metric: &str, class| there.value(metric, class);
    let interval = there.intervals.iter().find(|r| r.metric == "balanced_accuracy" && r.method == "bootstrap");
    let range = interval.map_or(String::new(), |i| format!("95 % over images: {}", notes::range(i)));
    let folds: Vec<u32> = there.about.models.iter().filter_map(|id| id.fold()).collect();
    // Like with like: a model alone, there and at home.
    let (alone, home) = (there.alone().map(|[_, mean, _]| mean), run.mean("balanced_accuracy", &folds));
    let change = match (alone, home) {
        (Some(alone), Some(home)) => format!("{:+.1} points", 100.0 * (alone - home)),
        _ => "-".into(),
    };
    let doubtful = there.cells.iter().filter(|c| c.doubt.is_some()).count();
    let sure = there.accuracy_without_doubtful();
    let item = |name: &str, value: String, note: String| context! { name => name, value => value, note => note };
    let one = |value: Option<f64>| value.map_or("-".into(), |v| format!("{:.1} %", 100.0 * v));
    let recall = |class: Class| {
        let at_home = run.value(None, "recall", Some(class));
        let images = there.predictions.iter().filter(|p| p.truth == class).count() as u64;
        vec![class.title().into(), thousands(images), one(value("recall", Some(class))), one(at_home)]
    };
    let mut confused = plots::confusion(&confusion(&there.metrics));
    confused.caption = "A row a true class, a column what the models together called it; % of the row.".into();
    let same = table::file_hash(&ws.manifest(&there.about.dataset)).is_ok_and(|hash| hash == there.about.manifest);
    let changed = (!same).then(|| format!("{} has changed since it was validated on", there.about.dataset));
    let columns = ["Recall", "images", "there", &run.record.dataset];
    context! {
        name => there.about.dataset.clone(),
        models => match there.about.models.as_slice() {
            [ModelId::All] => "the model of all images".to_string(),
            [ModelId::Fold(fold)] => format!("the model of fold {fold}"),
            models => format!("the models of {} folds together", models.len()),
        },
        notes => there.about.note.clone().into_iter().chain(changed).collect::<Vec<_>>(),
        items => vec![
            item("Balanced accuracy", one(value("balanced_accuracy", None)), range),
            item(
                "A model alone",
                change,
                format!("{} there, {} on {}", one(alone), one(home), run.record.dataset),
            ),
            item("Accuracy", one(value("accuracy", None)), format!("{} images", thousands(there.predictions.len() as u64))),
            item("In doubt", thousands(doubtful as u64), format!("accuracy on the others: {}", one(sure))),
        ],
        sheet => sheet(&Sheet {
            table: None,
            label: "elsewhere".into(),
            title: "Share of each class's cells that is classified right, there and at home".into(),
            run: None,
            columns: columns.map(Into::into).into(),
            left: &[0],
            rows: Class::ALL.map(recall).into(),
            notes: Vec::new(),
        }),
        plots => figures(vec![
            confused,
            plots::reliability(&curves::reliability(&there.predictions)),
        ]),
    }
}

/// Images of each class, by what they were called, over all folds.
fn confusion(metrics: &[MetricRow]) -> [[u64; Class::COUNT]; Class::COUNT] {
    let mut counts = [[0u64; Class::COUNT]; Class::COUNT];
    for row in metrics.iter().filter(|m| m.metric == "confusion" && m.fold.is_none()) {
        if let (Some(truth), Some(called), Some(n)) = (row.class, row.predicted, row.value) {
            counts[truth.index()][called.index()] = n as u64;
        }
    }
    counts
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v))
}

/// The figures at the top.
fn key(run: &Results) -> Vec<Value> {
    let mut items = Vec::new();
    for (metric, name) in [("balanced_accuracy", "Balanced accuracy"), ("accuracy", "Accuracy")] {
        let note = match run.interval(metric, None, "bootstrap") {
            Some(interval) => format!("95 % over images: {}", notes::range(interval)),
            None => String::new(),
        };
        items.push(context! { name => name, value => percent(run.value(None, metric, None)), note => note });
    }
    let images: u64 = run.images().iter().sum();
    items.push(context! { name => "Test images", value => thousands(images), note => "each predicted by a model that never saw it" });
    items.push(context! {
        name => "Folds",
        value => format!("{} of {}", run.record.folds as usize - run.missing().len(), run.record.folds),
        note => "stratified; copies kept together",
    });
    items
}

/// Recall a class and fold.
fn by_fold(run: &Results) -> Sheet {
    let folds: Vec<u32> = (0..run.record.folds).filter(|f| !run.missing().contains(f)).collect();
    let cell = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
    let row = |name: &str, metric: &str, class: Option<Class>| {
        let values = folds.iter().map(|f| cell(run.value(Some(*f), metric, class)));
        std::iter::once(name.to_string()).chain(values).chain([cell(run.value(None, metric, class))]).collect()
    };
    let mut rows: Vec<Vec<String>> = Class::ALL.map(|c| row(c.title(), "recall", Some(c))).into();
    rows.push(row("Balanced accuracy", "balanced_accuracy", None));
    rows.push(row("Accuracy", "accuracy", None));
    let columns = std::iter::once("Recall, %".to_string()).chain(folds.iter().map(|f| format!("Fold {f}")));
    Sheet {
        table: None,
        label: "folds".into(),
        title: "Recall of each class by fold".into(),
        run: None,
        columns: columns.chain(["Mean".into()]).collect(),
        left: &[0],
        rows,
        notes: Vec::new(),
    }
}

/// The cells of a page.
struct Gallery<'a> {
    tensors: Option<&'a Tensors>,
}

impl Gallery<'_> {
    fn cell(&self, row: &PredictionRow, map: Option<&image::RgbImage>) -> Option<Value> {
        let tensors = self.tensors?;
        let pixels = tensors.picture(tensors.row(&row.image_id)?);
        let side = tensors.size_px as u32;
        let called = row.predicted();
        Some(context! {
            picture => picture(pixels, side, side),
            map => map.map(|map| picture(map, side, side)),
            truth => row.truth.title(),
            called => called.title(),
            percent => format!("{:.1}", 100.0 * row.probabilities()[called.index()]),
            name => row.image_id.rsplit('/').next().unwrap_or_default(),
            fold => row.fold,
        })
    }

    fn examples(&self, rows: &[PredictionRow]) -> Vec<Value> {
        let of_class = |class: Class| {
            let shown = gallery::examples(rows, class).into_iter();
            let cells: Vec<Value> = shown.filter_map(|row| self.cell(row, None)).collect();
            (!cells.is_empty()).then_some(context! { name => class.title(), cells => cells })
        };
        Class::ALL.into_iter().filter_map(of_class).collect()
    }
}

/// The data's card.
fn data(ws: &Workspace, record: &Record) -> Result<Vec<[String; 2]>> {
    let path = ws.manifest(&record.dataset);
    let mut facts = vec![["Data set".to_string(), record.dataset.clone()]];
    if !path.is_file() {
        facts.push(["Manifest".into(), "not in the workspace any more".into()]);
        return Ok(facts);
    }
    let (rows, _) = table::read_rows::<ManifestRow>(&path, &MANIFEST)?;
    let same = table::file_hash(&path).is_ok_and(|hash| record.inputs.get("manifest") == Some(&hash));
    if !same {
        facts.push(["Manifest".into(), "has changed since the run: what follows is of the new one".into()]);
    }
    let issues = table::read_rows::<IssueRow>(&ws.issues(&record.dataset), &ISSUES).ok();
    facts.extend(card(ws, &record.dataset, &rows, issues.as_ref().map(|(issues, _)| issues.as_slice())));
    Ok(facts)
}

/// What was chosen, and how long it took.
fn settings(ws: &Workspace, run: &Results) -> Vec<[String; 2]> {
    let record = &run.record;
    let mut facts = vec![
        ["Recipe".to_string(), record.pipeline.clone()],
        ["Seed".into(), record.seed.to_string()],
        ["Model".into(), model_title(&record.model).to_string()],
    ];
    if let Recipe::Network(s) = &record.recipe {
        facts.push([
            "Training".into(),
            format!(
                "{} epochs, batch {}, learning rate {}, {}",
                s.epochs,
                s.batch,
                s.learning_rate,
                s.optimiser.name()
            ),
        ]);
    }
    if let Some(init) = notes::init(record) {
        facts.push(["Started from".into(), init]);
    }
    let times = std::fs::read_to_string(RunDir::new(ws, &run.name).timings()).unwrap_or_default();
    let seconds: f64 = times.lines().skip(1).filter_map(|l| l.split(',').nth(3)?.parse::<f64>().ok()).sum();
    if seconds > 0.0 {
        facts.push(["Time of training".into(), crate::progress::human(seconds)]);
    }
    let inputs: Vec<String> =
        record.inputs.iter().map(|(k, v)| format!("{k} {}", v.chars().take(12).collect::<String>())).collect();
    facts.push(["Inputs (BLAKE3)".into(), inputs.join(", ")]);
    facts
}
