//! Table 2: images a class.

use super::paper::{CUK_IMAGES, CUK_SHARES};
use super::{Sheet, Table, Wanted, thousands};
use crate::class::Class;
use crate::error::Result;
use crate::rows::ManifestRow;
use crate::schema::MANIFEST;
use crate::table;
use crate::workspace::Workspace;

pub struct Counts;

impl Table for Counts {
    fn number(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "images a class"
    }

    fn build(&self, ws: &Workspace, wanted: &Wanted) -> Result<Sheet> {
        let present = ws.ingested_datasets()?;
        let datasets = match &wanted.dataset {
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
            rows.extend(two_rows(dataset, counts, counts.map(|n| (100.0 * n as f64 / all as f64).round() as u64)));
            if count(None) > 0 {
                notes.push(format!("{dataset}: {} more images have no class of the five", thousands(count(None))));
            }
        }
        rows.extend(two_rows("CUK (paper)", CUK_IMAGES, CUK_SHARES));
        notes.push("Cells by the data sets' labels, before copies and unusable images are dealt with".into());
        notes.push(
            "CUK is the paper's own set and is not public; its shares are as printed (neutrophils are 30.6 %)".into(),
        );
        let heads = ["NE", "EO", "BA", "LY", "MO", "All"].map(String::from);
        Ok(Sheet {
            table: Some(self.number()),
            label: self.number().to_string(),
            title: "The number of neutrophil, eosinophil, basophil, lymphocyte and monocyte images".into(),
            run: None,
            columns: ["Data set".to_string(), String::new()].into_iter().chain(heads).collect(),
            left: &[0, 1],
            rows,
            notes,
        })
    }
}

/// Images, and percent of them.
fn two_rows(name: &str, counts: [u64; Class::COUNT], shares: [u64; Class::COUNT]) -> [Vec<String>; 2] {
    let row = |name: &str, what: &str, cells: [u64; Class::COUNT], all: u64, show: fn(u64) -> String| {
        let names = [name.to_string(), what.to_string()].into_iter();
        names.chain(cells.into_iter().chain([all]).map(show)).collect()
    };
    [
        row(name, "images", counts, counts.iter().sum(), thousands),
        row("", "distribution", shares, 100, |n| format!("{n} %")),
    ]
}
