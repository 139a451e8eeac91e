//! Table 1: earlier studies as the paper lists them, the paper, and every run of the workspace.

use super::paper::STUDIES;
use super::{Sheet, Table, Wanted, notes, thousands};
use crate::error::{Error, Result};
use crate::run::{self, Results, model_title};
use crate::scores::{Method, Metric};
use crate::workspace::Workspace;

pub struct Studies;

/// What follows the name of a data set of drawn cells.
const DRAWN: &str = " (drawn cells)";

impl Table for Studies {
    fn number(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "earlier studies, the paper, and your runs"
    }

    fn build(&self, ws: &Workspace, wanted: &Wanted) -> Result<Sheet> {
        let mut rows: Vec<Vec<String>> = STUDIES.iter().map(papers).collect();
        let mut below = Vec::new();
        let mut left_out = Vec::new();
        let named = |wish: &Option<String>, is: &str| wish.as_ref().is_none_or(|wish| wish == is);
        for (name, record) in run::list(ws) {
            if !named(&wanted.run, &name) || !named(&wanted.dataset, &record.dataset) {
                continue;
            }
            match Results::load(ws, &name) {
                Ok(run) => {
                    below.extend(notes::incomplete(&run).map(|note| format!("{name}: {note}")));
                    rows.push(ours(ws, &run));
                }
                Err(Error::Missing { .. }) => left_out.push(format!("{name} (no fold is finished)")),
                Err(Error::Stale { reason, .. }) => left_out.push(format!("{name} (out of date: {reason})")),
                Err(other) => return Err(other),
            }
        }
        if rows.len() == STUDIES.len() {
            below.push("No run of yours is here yet. Run: wbc train".into());
        }
        if !left_out.is_empty() {
            below.push(format!("Left out: {}", left_out.join(", ")));
        }
        if rows.iter().any(|row| row[1].ends_with(DRAWN)) {
            below.push("Drawn cells are not photographed: their figures say nothing about blood".into());
        }
        below.extend(
            [
                "wbc's rows: test images of the finished folds; accuracy and balanced accuracy (the mean over classes) as \
                 means over folds; the 95 % interval is that of balanced accuracy over images (percentile bootstrap within fold \
                 and class)",
                "The paper's two W-Net figures are means over classes, rounded (its Tables 3 and 6): balanced accuracies",
                "Every study has its own images, classes (C) and way of testing: the order of the figures is no ranking. \
                 An empty cell and a \"-\" are the paper's",
                notes::PATIENTS,
            ]
            .map(String::from),
        );
        let heads = ["Study", "Data set", "Size", "C", "Methods", "Accuracy", "Balanced", "95 % interval"];
        Ok(Sheet {
            table: Some(self.number()),
            label: self.number().to_string(),
            title: "Related work with data sets, their size, number of classes (C), methods and accuracy".into(),
            run: None,
            columns: heads.map(String::from).into(),
            left: &[0, 1, 4],
            rows,
            notes: below,
        })
    }
}

/// A study as printed. The paper's own figures are balanced accuracies, too.
fn papers(study: &[&str; 6]) -> Vec<String> {
    let balanced = if study[0].starts_with("W-Net") { study[5] } else { "" };
    study.iter().chain(&[balanced, ""]).map(|cell| cell.to_string()).collect()
}

/// A run. What must not be lost where the notes are (in CSV), stands in the cells.
fn ours(ws: &Workspace, run: &Results) -> Vec<String> {
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
    vec![
        format!("wbc: {}", run.name),
        if notes::is_synthetic(ws, &record.dataset) {
            format!("{}{DRAWN}", record.dataset)
        } else {
            record.dataset.clone()
        },
        thousands(images.iter().sum()),
        images.iter().filter(|n| **n > 0).count().to_string(),
        methods,
        percent(Metric::Accuracy),
        percent(Metric::BalancedAccuracy),
        run.interval(Metric::BalancedAccuracy, None, Method::Bootstrap).map_or("-".into(), notes::range),
    ]
}
