//! Table 1: earlier studies as listed by the paper, the paper itself, and every run of the workspace.

use super::paper::STUDIES;
use super::{Request, Sheet, Table, notes, thousands};
use crate::error::{Error, Result};
use crate::rows::IntervalRow;
use crate::run::{self, Results, model_title};
use crate::scores::Metric;
use crate::workspace::Workspace;
use std::collections::BTreeSet;

pub(super) struct Studies;

impl Table for Studies {
    fn number(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "earlier studies, the paper, and your runs"
    }

    fn build(&self, ws: &Workspace, request: &Request) -> Result<Sheet> {
        let mut rows: Vec<Vec<String>> = STUDIES.iter().map(paper_row).collect();
        let (mut incomplete, mut left_out, mut leaks, mut rare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut sources = BTreeSet::new();
        let requested = |name: &Option<String>, is: &str| name.as_ref().is_none_or(|name| name == is);
        let (runs, unusable) = run::list(ws)?;
        for (name, record) in runs {
            if !requested(&request.run, &name) || !requested(&request.dataset, &record.dataset) {
                continue;
            }
            match Results::load(ws, &name) {
                Ok(run) => {
                    rare.extend(run.rare_classes().map(|note| format!("{name}: {note}")));
                    incomplete.extend(notes::incomplete(&run).map(|folds| format!("{name} (fold {folds})")));
                    if run.record.has_leaking_split() {
                        leaks.push(name);
                    }
                    sources.extend(notes::synthetic(ws, &run.record.dataset));
                    rows.push(run_row(ws, &run));
                }
                Err(Error::Missing { .. }) => left_out.push(format!("{name} (no fold is finished)")),
                Err(Error::Stale { reason, .. }) => left_out.push(format!("{name} (out of date: {reason})")),
                Err(other) => return Err(other),
            }
        }
        let unusable = unusable.into_iter().filter(|name| requested(&request.run, name));
        left_out.extend(unusable.map(|name| format!("{name} (its run.json cannot be read)")));
        let mut summary = Vec::new();
        if rows.len() == STUDIES.len() {
            summary.push("No finished run in this workspace yet".into());
        }
        if !leaks.is_empty() {
            summary.push(format!(
                "LEAK: test images have copies, patients or slides in common with training images: {}",
                leaks.join(", ")
            ));
        }
        if !incomplete.is_empty() {
            summary.push(format!("INCOMPLETE, means are over the other folds: {}", incomplete.join(", ")));
        }
        summary.extend(rare);
        if !left_out.is_empty() {
            summary.push(format!("Left out: {}", left_out.join(", ")));
        }
        summary.extend(sources);
        summary.push("Each study has its own images, classes (C) and test procedure: this is not a ranking".into());
        let notes = [
            "Rows of wbc: test images of the finished folds; accuracy and balanced accuracy (mean over classes) are \
             means over folds; a fold that has no test image of a class has the mean over the others. Pooled is \
             balanced accuracy with the images of all folds pooled; the 95 % interval is its, over images (the exact \
             ones of the classes, melded), or by patient or slide where they are known (bootstrap of patients)",
            "The paper's two W-Net figures are balanced accuracies, rounded (from its Tables 3 and 6)",
            "Empty cells and \"-\" are the paper's",
            "Where an interval is not by patient, patients are unknown: cells of one patient may be in both training \
             and test folds",
        ];
        let columns = ["Study", "Data set", "Size", "C", "Methods", "Accuracy", "Balanced", "Pooled", "95 % interval"];
        Ok(Sheet {
            table: Some(self.number()),
            label: self.number().to_string(),
            title: "Related work with data sets, their size, number of classes (C), methods and accuracy".into(),
            run: None,
            columns: columns.map(String::from).into(),
            left: &[0, 1, 4],
            rows,
            summary,
            notes: notes.map(String::from).into(),
        })
    }
}

/// A study as printed. The paper's own figures are balanced accuracies too.
fn paper_row(study: &[&str; 6]) -> Vec<String> {
    let balanced = if study[0].starts_with("W-Net") { study[5] } else { "" };
    study.iter().chain(&[balanced, "", ""]).map(|cell| cell.to_string()).collect()
}

/// A run. Its cells repeat what CSV, which has no notes, must not lose: missing folds, earlier weights, synthetic
/// cells.
fn run_row(ws: &Workspace, run: &Results) -> Vec<String> {
    let record = &run.record;
    let images = run.images();
    let percent = |metric: Metric| run.value(None, metric, None).map_or("-".into(), |v| format!("{:.2}%", 100.0 * v));
    let mut methods = format!("{}, {}, seed {}", model_title(&record.model), record.pipeline, record.seed);
    if let Some(init) = &record.init {
        methods += &format!(", after {}", init.dataset.as_deref().unwrap_or(&init.from));
    }
    let missing = run.missing().len() as u32;
    if missing > 0 {
        methods += &format!(", {} of {} folds", record.folds - missing, record.folds);
    }
    let synthetic = if notes::is_synthetic(ws, &record.dataset).unwrap_or(false) { " (synthetic)" } else { "" };
    vec![
        format!("wbc: {}", run.name),
        format!("{}{synthetic}", record.dataset),
        thousands(images.iter().sum()),
        images.iter().filter(|n| **n > 0).count().to_string(),
        methods,
        percent(Metric::Accuracy),
        percent(Metric::BalancedAccuracy),
        run.pooled(Metric::BalancedAccuracy).map_or("-".into(), |v| format!("{:.2}%", 100.0 * v)),
        interval(run),
    ]
}

/// The interval of balanced accuracy, marked where it is by patient or slide.
fn interval(run: &Results) -> String {
    let text = |row: &IntervalRow| match row.method.cluster() {
        Some(cluster) => format!("{} (by {cluster})", notes::range(row)),
        None => notes::range(row),
    };
    run.over_images(Metric::BalancedAccuracy, None).map_or("-".into(), text)
}
