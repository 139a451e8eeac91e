//! Laboratories: how well models that were trained on one data set, or on several, do on each of several data sets.
//! A data set stands for a laboratory. Every figure is of images that its model was not trained on.

use crate::class::{Class, Classes};
use crate::dataset;
use crate::error::Result;
use crate::evaluate::{self, People};
use crate::predict::external::Validation;
use crate::report::{Sheet, notes};
use crate::rows::{IntervalRow, MetricRow, PredictionRow};
use crate::run::{self, Record};
use crate::scores::Metric;
use crate::text::{self, listed};
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Least number of images of a class that counts in the balanced accuracy of a laboratory.
pub const LEAST: u64 = 5;

/// What the models of a row of the matrix were trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trained {
    /// One laboratory.
    One(String),
    /// All laboratories but the one that is tested.
    Others,
    /// All laboratories, by folds of each.
    Together,
}

impl std::fmt::Display for Trained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(name) => f.write_str(name),
            Self::Others => f.write_str("all others"),
            Self::Together => f.write_str("all together"),
        }
    }
}

/// The result on the images of one laboratory.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Mean recall of the classes with at least [`LEAST`] images, 0 to 1.
    pub balanced_accuracy: f64,
    /// Its 95 % interval.
    pub interval: IntervalRow,
    /// Share of all images that are predicted correctly, 0 to 1.
    pub accuracy: f64,
    /// Number of images.
    pub images: u64,
    /// The classes that have an image.
    pub recalls: Vec<Recall>,
}

/// The recall of a class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Recall {
    /// The class.
    pub class: Class,
    /// Share of its images that are predicted correctly, 0 to 1.
    pub value: f64,
    /// Number of its images.
    pub images: u64,
}

impl Score {
    /// The result of a run's models on those images that they were validated on for which `is_counted` says so; none
    /// where none of their classes counts.
    ///
    /// # Errors
    /// As [`Record::read`] and [`People::read`].
    pub fn of_validation(
        ws: &Workspace,
        run: &str,
        validation: &Validation,
        is_counted: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>> {
        let about = &validation.about;
        let counted = validation.predictions.iter().filter(|row| is_counted(&row.image_id));
        let people = People::read(ws, &about.dataset)?;
        Self::of(&counted.cloned().collect::<Vec<_>>(), &people, &about.classes, Record::read(ws, run)?.seed)
    }

    /// The result of predictions of images of one laboratory; none without an image of a class that counts.
    ///
    /// # Errors
    /// [`crate::error::Error::Format`] for predictions of other classes.
    fn of(predictions: &[PredictionRow], people: &People, classes: &Classes, seed: u64) -> Result<Option<Self>> {
        let mut counts: BTreeMap<Class, u64> = BTreeMap::new();
        predictions.iter().for_each(|row| *counts.entry(row.truth).or_default() += 1);
        let one_model = |rows: &mut dyn Iterator<Item = &PredictionRow>| -> Vec<PredictionRow> {
            rows.map(|row| PredictionRow { fold: 0, ..row.clone() }).collect()
        };
        let all = one_model(&mut predictions.iter());
        let counted = one_model(&mut predictions.iter().filter(|row| counts[&row.truth] >= LEAST));
        if counted.is_empty() {
            return Ok(None);
        }
        let (metrics, _) = evaluate::ensemble(&all, &[], people, classes, seed)?;
        let (balanced, intervals) = evaluate::ensemble(&counted, &[], people, classes, seed)?;
        let value = |rows: &[MetricRow], metric, class| {
            rows.iter().find(|r| r.fold.is_none() && r.metric == metric && r.class == class).and_then(|r| r.value)
        };
        let interval = run::over_images(&intervals, Metric::BalancedAccuracy, None);
        let recalls = classes.iter().filter_map(|class| {
            let recall = value(&metrics, Metric::Recall, Some(class))?;
            Some(Recall { class, value: recall, images: counts.get(&class).copied().unwrap_or(0) })
        });
        let recalls = recalls.collect();
        Ok(value(&balanced, Metric::BalancedAccuracy, None)
            .zip(value(&metrics, Metric::Accuracy, None))
            .zip(interval)
            .map(|((balanced_accuracy, accuracy), interval)| Self {
                balanced_accuracy,
                interval: interval.clone(),
                accuracy,
                images: predictions.len() as u64,
                recalls,
            }))
    }
}

/// A field of the matrix.
#[derive(Clone, Debug, Serialize)]
pub struct Field {
    /// What the models were trained on.
    pub trained: Trained,
    /// The laboratory that they were tested on.
    pub tested: String,
    /// The run of the models.
    pub run: String,
    /// The folds that predicted the images; none where one model of all training images did.
    pub folds: Vec<u32>,
    /// Images of the laboratory that were not predicted, because their folds are not trained.
    pub missing: u64,
    /// The result; none without images of a class with at least [`LEAST`].
    pub score: Option<Score>,
    /// Set where the images do not look like the training images.
    pub unfamiliar: bool,
}

/// The matrix.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    /// Name of the pipeline.
    pub pipeline: String,
    /// The laboratories, sorted.
    pub laboratories: Vec<String>,
    /// The fields, row by row.
    pub fields: Vec<Field>,
}

impl Matrix {
    /// A field, where it was computed.
    pub fn field(&self, trained: &Trained, tested: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.trained == *trained && field.tested == tested)
    }

    /// What the rows were trained on, in order.
    pub fn rows(&self) -> Vec<Trained> {
        let one = self.laboratories.iter().cloned().map(Trained::One);
        let rest = [Trained::Others, Trained::Together];
        one.chain(rest).filter(|row| self.fields.iter().any(|field| field.trained == *row)).collect()
    }

    /// The matrix as a table.
    pub fn sheet(&self) -> Sheet {
        let columns = std::iter::once("Trained on".to_string()).chain(self.laboratories.iter().cloned());
        let cell = |trained: &Trained, tested: &String| {
            let score = self.field(trained, tested).and_then(|field| field.score.as_ref());
            score.map_or("-".into(), |score| {
                format!("{:.1} ({})", 100.0 * score.balanced_accuracy, notes::range(&score.interval))
            })
        };
        let rows = self.rows();
        let rows = rows.iter().map(|trained| {
            let cells = self.laboratories.iter().map(|tested| cell(trained, tested));
            std::iter::once(trained.to_string()).chain(cells).collect()
        });
        let title = format!("Balanced accuracy on each laboratory's images, %, pipeline {}", self.pipeline);
        let mut sheet = Sheet::plain("laboratories", &title, columns, rows);
        sheet.summary = self.summary();
        sheet.notes = self.notes();
        sheet
    }

    fn summary(&self) -> Vec<String> {
        let mut notes = vec![
            "Columns: the laboratory whose images are tested. Where a laboratory is among those trained on, its images \
             are tested by folds that were not trained on them"
                .to_string(),
        ];
        let rare: BTreeMap<&str, BTreeSet<String>> = self.rare();
        for (tested, classes) in rare {
            let classes = listed(classes.iter().map(String::as_str));
            notes.push(format!("{tested} has fewer than {LEAST} images of {classes}: not in its balanced accuracies"));
        }
        let unfamiliar: Vec<String> = self
            .fields
            .iter()
            .filter(|field| field.unfamiliar)
            .map(|field| format!("{} by {}", field.tested, field.trained))
            .collect();
        if !unfamiliar.is_empty() {
            notes.push(format!(
                "Not like the training images, so that wbc predict puts all of them in doubt: {}",
                listed(unfamiliar.iter().map(String::as_str))
            ));
        }
        let missing = self.fields.iter().filter(|field| field.missing > 0);
        let missing: Vec<String> = missing
            .map(|field| {
                let images = text::of(field.missing, "image");
                format!("{} of {} by {} ({})", images, field.tested, field.trained, field.run)
            })
            .collect();
        if !missing.is_empty() {
            notes.push(format!(
                "Not tested, because their folds are not trained: {}",
                listed(missing.iter().map(String::as_str))
            ));
        }
        notes
    }

    fn rare(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let mut rare: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for field in &self.fields {
            for Recall { class, images, .. } in field.score.iter().flat_map(|score| &score.recalls) {
                if *images < LEAST && field.missing == 0 {
                    rare.entry(&field.tested).or_default().insert(format!("{class} ({images})"));
                }
            }
        }
        rare
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for field in &self.fields {
            let Some(score) = &field.score else { continue };
            let by = match field.folds.as_slice() {
                [] => "one model of all training images".into(),
                folds => text::of(folds.len() as u64, "fold"),
            };
            let recalls = score.recalls.iter().map(|r| format!("{} {:.1} % of {}", r.class, 100.0 * r.value, r.images));
            notes.push(format!(
                "{} by {} (run {}, {by}): accuracy {:.1} % of {}; {}",
                field.tested,
                field.trained,
                field.run,
                100.0 * score.accuracy,
                text::of(score.images, "image"),
                recalls.collect::<Vec<_>>().join(", ")
            ));
        }
        let methods: BTreeSet<String> =
            self.fields.iter().filter_map(|field| field.score.as_ref()).map(|s| notes::over(&s.interval)).collect();
        notes.push(format!("95 % intervals {}", listed(methods.iter().map(String::as_str))));
        notes.push(
            "An interval is for other images of the same laboratory and for these models: another seed, and another \
             laboratory, can differ by more"
                .into(),
        );
        notes
    }
}

/// The field of a run whose folds tested images of `tested`, its own data set or a member of its joint data set.
///
/// # Errors
/// As [`run::predictions`].
pub fn of_folds(ws: &Workspace, trained: Trained, run: &str, tested: &str) -> Result<Field> {
    let record = Record::read(ws, run)?;
    let predictions = run::predictions(ws, run)?;
    let of_lab = |row: &&PredictionRow| dataset::of_image(&row.image_id) == tested;
    let rows: Vec<PredictionRow> = predictions.iter().filter(of_lab).cloned().collect();
    let folds: BTreeSet<u32> = predictions.iter().map(|row| row.fold).collect();
    let all = crate::split::read(ws, &record.dataset)?;
    let all = all.images().filter(|(id, _)| dataset::of_image(id) == tested && all.is_tested(id)).count();
    Ok(Field {
        trained,
        tested: tested.into(),
        run: run.into(),
        folds: folds.into_iter().collect(),
        missing: all.saturating_sub(rows.len()) as u64,
        score: Score::of(&rows, &People::read(ws, &record.dataset)?, &record.classes, record.seed)?,
        unfamiliar: false,
    })
}

/// The field of a run whose model of all images was validated.
///
/// # Errors
/// As [`Score::of_validation`].
pub fn of_validation(ws: &Workspace, trained: Trained, run: &str, validation: &Validation) -> Result<Field> {
    Ok(Field {
        trained,
        tested: validation.about.dataset.clone(),
        run: run.into(),
        folds: Vec::new(),
        missing: 0,
        score: Score::of_validation(ws, run, validation, |_| true)?,
        unfamiliar: validation.about.unlike.is_some(),
    })
}
