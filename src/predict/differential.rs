//! The differential count of a folder: the share of each class among its cells, with an interval, beside the usual
//! range in adults.

use super::plural::plural;
use crate::class::Class;
use crate::rows::CellRow;
use crate::statistics::{Interval, wilson};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Usual shares in adults' blood, % (MedlinePlus, "Blood differential test": neutrophils 40 to 60, eosinophils 1 to 4,
/// basophils 0.5 to 1, lymphocytes 20 to 40, monocytes 2 to 8), in the classes' order.
pub const USUAL: [[f64; 2]; Class::COUNT] = [[40.0, 60.0], [1.0, 4.0], [0.5, 1.0], [20.0, 40.0], [2.0, 8.0]];

/// One class of a count.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// The class.
    pub class: Class,
    /// Number of its cells.
    pub cells: u64,
    /// Share of the counted cells, %.
    pub percent: f64,
    /// 95 % interval of the share (Wilson), %.
    pub interval: Interval,
    /// `low` or `high` where the whole interval lies outside the usual range.
    pub outside: Option<&'static str>,
}

/// The count of one folder.
#[derive(Clone, Debug, Serialize)]
pub struct Differential {
    /// The folder of the images.
    pub folder: String,
    /// Cells counted.
    pub counted: u64,
    /// Flagged cells, which are not counted.
    pub flagged: u64,
    /// One share per class; empty where no cell was counted.
    pub shares: Vec<Share>,
}

/// One count per folder, sorted by folder.
pub fn by_folder(rows: &[CellRow]) -> Vec<Differential> {
    let mut folders: BTreeMap<String, Vec<&CellRow>> = BTreeMap::new();
    for row in rows {
        let folder = Path::new(&row.path).parent().map_or(String::new(), |p| p.display().to_string());
        folders.entry(if folder.is_empty() { ".".into() } else { folder }).or_default().push(row);
    }
    folders.into_iter().map(|(folder, rows)| count(folder, &rows)).collect()
}

fn count(folder: String, rows: &[&CellRow]) -> Differential {
    let counted: Vec<&&CellRow> = rows.iter().filter(|r| r.flag.is_none()).collect();
    let n = counted.len() as u64;
    let share = |class: Class| {
        let cells = counted.iter().filter(|r| r.class == class).count() as u64;
        let interval = wilson(cells, n)?;
        let interval = Interval { low: 100.0 * interval.low, high: 100.0 * interval.high };
        let [low, high] = USUAL[class.index()];
        let outside = match interval {
            Interval { high: top, .. } if top < low => Some("low"),
            Interval { low: bottom, .. } if bottom > high => Some("high"),
            _ => None,
        };
        Some(Share { class, cells, percent: 100.0 * cells as f64 / n as f64, interval, outside })
    };
    Differential {
        folder,
        counted: n,
        flagged: rows.len() as u64 - n,
        shares: Class::ALL.into_iter().filter_map(share).collect(),
    }
}

impl std::fmt::Display for Differential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, Table, presets};
        write!(f, "{}: {} counted", self.folder, plural(self.counted, "cell"))?;
        if self.flagged > 0 {
            write!(f, ", {} flagged and not counted", self.flagged)?;
        }
        if self.shares.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["Class", "cells", "%", "95 % interval", "usual in adults, %", ""]);
        for share in &self.shares {
            let [low, high] = USUAL[share.class.index()];
            table.add_row([
                share.class.title().to_string(),
                share.cells.to_string(),
                format!("{:.1}", share.percent),
                format!("{:.1} to {:.1}", share.interval.low, share.interval.high),
                format!("{low} to {high}"),
                share.outside.unwrap_or("").to_string(),
            ]);
        }
        for column in 1..=3 {
            table.column_mut(column).expect("there are six").set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flagged_cells_are_not_counted() {
        let row = |path: &str, class, flag: Option<&str>| CellRow {
            path: path.into(),
            cell: 0,
            x_px: None,
            y_px: None,
            width_px: None,
            height_px: None,
            class,
            confidence: 1.0,
            agreement: 1.0,
            distance: None,
            flag: flag.map(Into::into),
            probabilities: vec![0.0; 5],
        };
        let mut rows: Vec<CellRow> = (0..50).map(|i| row(&format!("b/{i}.png"), Class::EOSINOPHIL, None)).collect();
        rows.extend((0..50).map(|i| row(&format!("b/n{i}.png"), Class::NEUTROPHIL, None)));
        rows.push(row("a/1.png", Class::MONOCYTE, Some("unlike training")));
        let counts = by_folder(&rows);
        assert_eq!(counts.iter().map(|d| d.folder.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((counts[0].counted, counts[0].flagged, counts[0].shares.len()), (0, 1, 0));
        let shares: Vec<_> = counts[1].shares.iter().map(|s| (s.cells, s.outside)).collect();
        assert_eq!(shares, [(50, None), (50, Some("high")), (0, None), (0, Some("low")), (0, None)]);
        assert!(counts[1].to_string().contains("40.4 to 59.6"), "{}", counts[1]);
    }
}
