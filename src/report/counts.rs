//! Table 2: images per class.

use super::paper::{CUK_IMAGES, CUK_SHARES};
use super::{Request, Sheet, Table, thousands};
use crate::class::Class;
use crate::error::Result;
use crate::rows::ManifestRow;
use crate::schema::MANIFEST;
use crate::table;
use crate::workspace::Workspace;

pub(super) struct Counts;

impl Table for Counts {
    fn number(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "images per class"
    }

    fn build(&self, ws: &Workspace, request: &Request) -> Result<Sheet> {
        let present = ws.ingested_datasets()?;
        let datasets = match &request.dataset {
            Some(name) => vec![ws.choose(Some(name), &present)?],
            None => present,
        };
        let mut rows = Vec::new();
        let mut notes = Vec::new();
        for dataset in &datasets {
            let (manifest, _) = table::read_rows::<ManifestRow>(&ws.manifest(dataset), &MANIFEST)?;
            let count = |class: Option<Class>| manifest.iter().filter(|r| r.class == class).count() as u64;
            let counts = Class::ALL.map(|c| count(Some(c)));
            let all = counts.iter().sum::<u64>().max(1);
            let percent = |n: u64| (100.0 * n as f64 / all as f64).round() as u64;
            rows.extend(two_rows(dataset, counts, counts.map(percent)));
            if count(None) > 0 {
                notes.push(format!("{dataset}: {} more images are of none of the classes", thousands(count(None))));
            }
        }
        rows.extend(two_rows("CUK (paper)", CUK_IMAGES, CUK_SHARES));
        notes.push("Counts by the data sets' labels, copies and unusable images included".into());
        notes.push(
            "CUK is the paper's own data set and is not public; its percentages are as printed (neutrophils are 30.6 %)"
                .into(),
        );
        let classes = ["NE", "EO", "BA", "LY", "MO", "All"].map(String::from);
        Ok(Sheet {
            table: Some(self.number()),
            label: self.number().to_string(),
            title: "The number of neutrophil, eosinophil, basophil, lymphocyte and monocyte images".into(),
            run: None,
            columns: ["Data set".to_string(), String::new()].into_iter().chain(classes).collect(),
            left: &[0, 1],
            rows,
            summary: Vec::new(),
            notes,
        })
    }
}

/// A row with the numbers of images, and one with their percentages.
fn two_rows(name: &str, counts: [u64; Class::COUNT], shares: [u64; Class::COUNT]) -> [Vec<String>; 2] {
    let row = |name: &str, unit: &str, cells: [u64; Class::COUNT], all: u64, format: fn(u64) -> String| {
        let names = [name.to_string(), unit.to_string()].into_iter();
        names.chain(cells.into_iter().chain([all]).map(format)).collect()
    };
    [
        row(name, "images", counts, counts.iter().sum(), thousands),
        row("", "distribution", shares, 100, |n| format!("{n} %")),
    ]
}
