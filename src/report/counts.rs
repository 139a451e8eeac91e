//! Table 2: images a class.

use super::paper::CUK_IMAGES;
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
            rows.extend(two_rows(dataset, Class::ALL.map(|c| count(Some(c)))));
            if count(None) > 0 {
                notes.push(format!("{dataset}: {} more images have no class of the five", thousands(count(None))));
            }
        }
        rows.extend(two_rows("CUK (paper)", CUK_IMAGES));
        notes.push("Cells by the data sets' labels, before copies and unusable images are dealt with".into());
        notes.push("CUK is the paper's own set and is not public".into());
        let heads = ["NE", "EO", "BA", "LY", "MO", "All"].map(String::from);
        Ok(Sheet {
            table: self.number(),
            title: "The number of neutrophil, eosinophil, basophil, lymphocyte and monocyte images".into(),
            run: None,
            columns: ["Data set".to_string(), String::new()].into_iter().chain(heads).collect(),
            rows,
            notes,
        })
    }
}

fn two_rows(name: &str, counts: [u64; Class::COUNT]) -> [Vec<String>; 2] {
    let all: u64 = counts.iter().sum();
    let with_all = counts.into_iter().chain([all]);
    let share = |n: u64| format!("{:.0} %", 100.0 * n as f64 / all.max(1) as f64);
    let names = |a: &str, b: &str| [a.to_string(), b.to_string()];
    [
        names(name, "images").into_iter().chain(with_all.clone().map(thousands)).collect(),
        names("", "distribution").into_iter().chain(with_all.map(share)).collect(),
    ]
}
