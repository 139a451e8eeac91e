//! Table 3: classes by folds, the share of each class's test images that were classified right.

use super::{Sheet, Table, Wanted, paper, thousands};
use crate::class::Class;
use crate::error::{Error, Result};
use crate::rows::MetricRow;
use crate::schema::{MANIFEST, METRICS};
use crate::synth;
use crate::table;
use crate::train::{self, Record};
use crate::workspace::Workspace;

/// Table 3: W-Net.
pub struct Wnet;

impl Table for Wnet {
    fn number(&self) -> u32 {
        3
    }

    fn doc(&self) -> &'static str {
        "W-Net, accuracy a class and fold"
    }

    fn model(&self) -> Option<&'static str> {
        Some("wnet")
    }

    fn build(&self, ws: &Workspace, wanted: &Wanted) -> Result<Sheet> {
        let run = Run::choose(ws, wanted, "wnet")?;
        let record = &run.record;
        let folds = record.folds as usize;
        let mut rows = Vec::new();
        for class in Class::ALL {
            let ours = run.row(class.title(), "recall", Some(class));
            let i = class.index();
            rows.extend([ours, papers(&paper::WNET_CUK[i], paper::WNET_CUK_CLASSES[i], folds)]);
        }
        let ours = run.row("Aver. Accuracy", "balanced_accuracy", None);
        rows.extend([ours, papers(&paper::WNET_CUK_FOLDS, paper::WNET_CUK_ALL, folds)]);
        let columns = ["Class", "Of"].map(String::from).into_iter();
        let columns = columns.chain((0..folds).map(|f| format!("Fold-{f}"))).chain(["Aver.".into()]).collect();
        let title =
            format!("{folds}-fold cross-validation of W-Net on {}, classification accuracy (%)", record.dataset);
        let notes = run.notes(ws);
        Ok(Sheet { table: self.number(), title, run: Some(run.name), columns, rows, notes })
    }
}

/// A row of the paper's figures; its folds only where ours are as many.
fn papers(cells: &[u32; paper::FOLDS], average: u32, folds: usize) -> Vec<String> {
    let cell = |fold: usize| if folds == paper::FOLDS { cells[fold].to_string() } else { "-".into() };
    ["".into(), "paper".into()].into_iter().chain((0..folds).map(cell)).chain([average.to_string()]).collect()
}

/// A run, with its metrics.
struct Run {
    name: String,
    record: Record,
    metrics: Vec<MetricRow>,
}

impl Run {
    /// The run that the user names; else the data set's run with the pipeline's usual name, or its only one.
    fn choose(ws: &Workspace, wanted: &Wanted, model: &str) -> Result<Run> {
        if let Some(name) = &wanted.run {
            let record = Record::read(ws, name)?;
            if record.model != model {
                let (key, got) = ("run".into(), format!("{name}, a run of {}", record.model));
                return Err(Error::Setting { key, expected: format!("a run of {model}"), got });
            }
            return Run::load(ws, name, record);
        }
        let dataset = ws.choose(wanted.dataset.as_deref(), &ws.ingested_datasets()?)?;
        let mut runs: Vec<(String, Record)> = train::runs(ws)
            .into_iter()
            .filter(|(_, record)| record.dataset == dataset && record.model == model)
            .collect();
        let usual = format!("{dataset}-{model}-{}", wanted.pipeline);
        let at = match runs.len() {
            1 => Some(0),
            _ => runs.iter().position(|(name, _)| *name == usual),
        };
        if let Some(at) = at {
            let (name, record) = runs.swap_remove(at);
            return Run::load(ws, &name, record);
        }
        if runs.is_empty() {
            return Err(Error::Missing {
                path: ws.runs(),
                what: "a training run of this data set",
                hint: format!("Run: wbc train --dataset {dataset}"),
            });
        }
        let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
        Err(Error::Setting {
            key: "run".into(),
            expected: format!("--run with one of: {}", names.join(", ")),
            got: format!("{} runs of {model} on {dataset} and no choice", runs.len()),
        })
    }

    fn load(ws: &Workspace, name: &str, record: Record) -> Result<Run> {
        let path = ws.run(name).join("metrics.parquet");
        let (metrics, made) = match table::read_rows(&path, &METRICS) {
            Err(Error::Missing { path, .. }) => {
                let hint = format!("No fold of {name} is finished. Run: wbc train --dataset {}", record.dataset);
                return Err(Error::Missing { path, what: "table of metrics", hint });
            }
            other => other?,
        };
        let predictions = ws.run(name).join("predictions.parquet");
        if made.inputs.get("predictions") != Some(&table::file_hash(&predictions)?) {
            let command = format!("wbc train --dataset {}", record.dataset);
            return Err(Error::Stale { path, reason: "the predictions have changed since".into(), command });
        }
        Ok(Run { name: name.into(), record, metrics })
    }

    fn value(&self, fold: Option<u32>, metric: &str, class: Option<Class>) -> Option<f64> {
        self.metrics.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class)?.value
    }

    /// One of our rows: percent with one decimal, "-" where a fold is not trained or has no image of the class.
    fn row(&self, name: &str, metric: &str, class: Option<Class>) -> Vec<String> {
        let cell = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v));
        let folds = (0..self.record.folds).map(Some).chain([None]);
        [name.into(), "wbc".into()].into_iter().chain(folds.map(|f| cell(self.value(f, metric, class)))).collect()
    }

    fn notes(&self, ws: &Workspace) -> Vec<String> {
        let record = &self.record;
        let count = |class: Class| {
            let recalls = self.metrics.iter().filter(|r| r.fold.is_none() && r.metric == "recall");
            recalls.filter(|r| r.class == Some(class)).map(|r| r.images).sum::<u64>()
        };
        let counts = Class::ALL.map(count);
        let classes = ["NE", "EO", "BA", "LY", "MO"].iter().zip(counts).map(|(c, n)| format!("{c} {}", thousands(n)));
        let percent =
            |metric: &str| self.value(None, metric, None).map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let mut notes = vec![
            format!(
                "Data: {}, {} test images ({}); run {}, recipe {}, seed {}",
                record.dataset,
                thousands(counts.iter().sum()),
                classes.collect::<Vec<_>>().join(", "),
                self.name,
                record.pipeline,
                record.seed
            ),
            format!(
                "Mean over folds: balanced accuracy {}, accuracy {}",
                percent("balanced_accuracy"),
                percent("accuracy")
            ),
            "A cell is the share of the class's test images that were classified right (recall); \
             the last row is the mean over classes, the last column the mean over folds"
                .into(),
        ];
        let trained = |fold: &u32| self.metrics.iter().any(|r| r.fold == Some(*fold));
        let missing: Vec<String> = (0..record.folds).filter(|f| !trained(f)).map(|f| f.to_string()).collect();
        if !missing.is_empty() {
            notes.push(format!(
                "INCOMPLETE: fold {} not trained yet; means are over the others. Run: wbc train --dataset {}",
                missing.join(", "),
                record.dataset
            ));
        }
        if ws.raw_dataset(&record.dataset).join(synth::MARKER).exists() {
            notes.push("These cells are drawn, not photographed: the figures say nothing about blood".into());
        }
        if record.dataset != "cuk" {
            notes.push(
                "The paper's figures are for its own CUK images, which are not public: other images, other folds"
                    .into(),
            );
        }
        let manifest = table::provenance(&ws.manifest(&record.dataset), &MANIFEST);
        if manifest.is_ok_and(|made| !made.inputs.contains_key("check")) {
            notes.push("Near copies were not looked for, and may stand in two folds".into());
        }
        notes.push("No patient is named in the data: cells of one patient may stand in training and test folds".into());
        notes.push("One seed: how much another seed would change the figures is not in them".into());
        notes
    }
}
