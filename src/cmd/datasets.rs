//! `wbc datasets`: lists known public data sets.

use super::{Globals, Outcome};
use crate::class::{Class, Classes};
use crate::error::Error;
use crate::fetch::catalogue::{DATASETS, Dataset, find};
use crate::report::thousands;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Lists public data sets of white blood cells: images per class, terms, layout, and whether `wbc fetch` can download
/// them. With a name: address, citation, checksum and instructions for one data set.
#[derive(clap::Args)]
pub struct Args {
    /// Show the details of this data set
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// A known data set, and whether the workspace has it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    dataset: &'static Dataset,
    /// Images per class, by name of the class.
    classes: BTreeMap<&'static str, u64>,
    here: bool,
}

struct List(Vec<Row>);

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let row = |dataset: &'static Dataset| Row {
        dataset,
        classes: Classes::wbc5().iter().map(Class::name).zip(dataset.counts).collect(),
        here: ws.raw_dataset(&dataset.name).exists(),
    };
    match args.name {
        None => {
            let list = List(DATASETS.iter().map(row).collect());
            globals.print(&list.0, &list)?;
        }
        Some(name) => {
            let Some(dataset) = find(&name) else {
                let names: Vec<&str> = DATASETS.iter().map(|d| d.name.as_str()).collect();
                let expected = format!("one of: {}", names.join(", "));
                return Err(Error::setting("name", expected, name).into());
            };
            let row = row(dataset);
            globals.print(&row, &row)?;
        }
    }
    Ok(Outcome::Done)
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["Name", "Images", "NE", "EO", "BA", "LY", "MO", "Other", "Layout", "To get it", "Here"]);
        for Row { dataset: d, here, .. } in &self.0 {
            let mut cells = vec![d.name.clone(), thousands(d.images)];
            cells.extend(d.counts.iter().map(|n| thousands(*n)));
            cells.push(thousands(d.others));
            cells.push(d.layout.clone().unwrap_or_else(|| "(none)".into()));
            cells.push(if d.download.is_some() { format!("wbc fetch {}", d.name) } else { "by hand".into() });
            cells.push(if *here { "yes".into() } else { String::new() });
            table.add_row(cells);
        }
        for column in 1..8 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{table}")?;
        for Row { dataset: d, .. } in &self.0 {
            writeln!(f, "{}: {}. Terms: {}.", d.name, d.title, d.terms)?;
        }
        write!(f, "Details (address, citation, checksum, instructions): wbc datasets NAME")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.dataset;
        writeln!(f, "{}: {}", d.name, d.title)?;
        write!(f, "  images    {}:", thousands(d.images))?;
        for (class, count) in Classes::wbc5().iter().zip(d.counts) {
            write!(f, " {class} {},", thousands(count))?;
        }
        writeln!(f, " other {}", thousands(d.others))?;
        writeln!(f, "  note      {}", d.note)?;
        writeln!(f, "  page      {}", d.page)?;
        if let Some(download) = &d.download {
            writeln!(f, "  file      {}", download.url)?;
        }
        writeln!(f, "  checksum  {}", d.checksum_text())?;
        writeln!(f, "  terms     {}", d.terms)?;
        writeln!(f, "  cite      {}", d.citation)?;
        match &d.layout {
            Some(layout) => writeln!(f, "  layout    {layout}, as data/raw/{}/", d.name)?,
            None => writeln!(f, "  layout    none: wbc ingest does not read it")?,
        }
        match (&d.download, &d.by_hand) {
            (Some(download), _) => {
                write!(f, "  to get it wbc fetch {}\n            or by hand: {}", d.name, download.else_by_hand)
            }
            (None, Some(by_hand)) => write!(f, "  to get it by hand, because {}: {}", by_hand.why, by_hand.how),
            (None, None) => Ok(()),
        }
    }
}
