//! The differential count of a folder: the share of each class among its white cells, with an interval, beside the
//! usual range in adults where it is known.

use crate::class::{Class, ClassInfo, Classes};
use crate::rows::CellRow;
use crate::statistics::{Interval, wilson};
use crate::text;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One class of a count.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// The class.
    pub class: Class,
    /// Its name in headings.
    #[serde(skip)]
    pub title: String,
    /// Number of its cells.
    pub cells: u64,
    /// Share of the cells of all `shares`, %.
    pub percent: f64,
    /// 95 % interval of the share (Wilson), %.
    pub interval: Interval,
    /// Usual share in adults' blood, from and to, %; none where it is not known.
    pub usual_percent: Option<[f64; 2]>,
    /// `low` or `high` where the whole interval lies outside the usual range.
    pub outside: Option<&'static str>,
}

/// Cells that are not white cells, and therefore have no share.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    /// The class.
    pub class: Class,
    /// Number of its cells.
    pub cells: u64,
    /// Number per 100 white cells; none where no white cell was counted.
    pub per_100_white_cells: Option<f64>,
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
    /// One share per class, except for those in `others`; empty where no such cell was counted.
    pub shares: Vec<Share>,
    /// Classes that are known not to be white cells.
    pub others: Vec<Other>,
}

/// Whether the cells of a class are white cells; none if it is not known.
fn is_white(info: &ClassInfo) -> Option<bool> {
    info.white_cell.or(info.usual_percent.map(|_| true))
}

/// Why no usual ranges are shown although some are known: they are shares of white cells, which cannot be computed
/// where it is not known which classes are white cells.
pub fn note(classes: &Classes) -> Option<String> {
    let unknown: Vec<&str> =
        classes.infos().iter().filter(|info| is_white(info).is_none()).map(|info| info.name.name()).collect();
    let ranges = classes.infos().iter().any(|info| info.usual_percent.is_some());
    (ranges && !unknown.is_empty()).then(|| {
        format!(
            "Shares are of all cells, without the usual ranges: those are shares of white cells, and it is not known \
             whether these are white cells: {}",
            unknown.join(", ")
        )
    })
}

/// One count per folder, sorted by folder. `classes` are those of the run.
pub fn by_folder(classes: &Classes, rows: &[CellRow]) -> Vec<Differential> {
    let mut folders: BTreeMap<String, Vec<&CellRow>> = BTreeMap::new();
    for row in rows {
        let folder = Path::new(&row.path).parent().map_or(String::new(), |p| p.display().to_string());
        folders.entry(if folder.is_empty() { ".".into() } else { folder }).or_default().push(row);
    }
    folders.into_iter().map(|(folder, rows)| count(classes, folder, &rows)).collect()
}

fn count(classes: &Classes, folder: String, rows: &[&CellRow]) -> Differential {
    let counted: Vec<&&CellRow> = rows.iter().filter(|r| r.flag.is_none()).collect();
    let cells = |class: Class| counted.iter().filter(|r| r.class == class).count() as u64;
    let known = classes.infos().iter().all(|info| is_white(info).is_some());
    let (with_share, others): (Vec<&ClassInfo>, Vec<&ClassInfo>) =
        classes.infos().iter().partition(|info| !known || is_white(info) == Some(true));
    let n = with_share.iter().map(|info| cells(info.name)).sum();
    let share = |info: &ClassInfo| {
        let cells = cells(info.name);
        let interval = wilson(cells, n)?;
        let interval = Interval { low: 100.0 * interval.low, high: 100.0 * interval.high };
        let usual_percent = info.usual_percent.filter(|_| known);
        let outside = match usual_percent {
            Some([low, _]) if interval.high < low => Some("low"),
            Some([_, high]) if interval.low > high => Some("high"),
            _ => None,
        };
        let percent = 100.0 * cells as f64 / n as f64;
        Some(Share { class: info.name, title: info.heading(), cells, percent, interval, usual_percent, outside })
    };
    let other = |info: &ClassInfo| {
        let cells = cells(info.name);
        let per_100_white_cells = (n > 0).then(|| 100.0 * cells as f64 / n as f64);
        Other { class: info.name, cells, per_100_white_cells }
    };
    Differential {
        folder,
        counted: counted.len() as u64,
        flagged: (rows.len() - counted.len()) as u64,
        shares: with_share.into_iter().filter_map(share).collect(),
        others: others.into_iter().map(other).collect(),
    }
}

impl std::fmt::Display for Differential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, Table, presets};
        write!(f, "{}: {} counted", self.folder, text::of(self.counted, "cell"))?;
        if self.flagged > 0 {
            write!(f, ", {} flagged and not counted", self.flagged)?;
        }
        if !self.shares.is_empty() {
            let usual = self.shares.iter().any(|share| share.usual_percent.is_some());
            let percent = if self.others.is_empty() { "%" } else { "% of white cells" };
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            let columns = ["Class", "cells", percent, "95 % interval", "usual in adults, %", ""];
            let shown = if usual { columns.len() } else { 4 };
            table.set_header(&columns[..shown]);
            for share in &self.shares {
                let row = [
                    share.title.clone(),
                    share.cells.to_string(),
                    format!("{:.1}", share.percent),
                    format!("{:.1} to {:.1}", share.interval.low, share.interval.high),
                    share.usual_percent.map_or("-".into(), |[low, high]| format!("{low} to {high}")),
                    share.outside.unwrap_or("").to_string(),
                ];
                table.add_row(&row[..shown]);
            }
            for column in 1..=3 {
                table.column_mut(column).expect("there are at least four").set_cell_alignment(CellAlignment::Right);
            }
            write!(f, "\n{table}")?;
        }
        let other = |other: &Other| {
            let per_100 = other.per_100_white_cells.map_or(String::new(), |n| format!(" ({n:.1} per 100 white cells)"));
            format!("{} {}{per_100}", other.class, other.cells)
        };
        let others: Vec<String> = self.others.iter().filter(|other| other.cells > 0).map(other).collect();
        if !others.is_empty() {
            write!(f, "\nnot white cells: {}", others.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, class: Class, flag: Option<&str>) -> CellRow {
        CellRow {
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
            training_image: None,
            probabilities: vec![0.0; 5],
        }
    }

    #[test]
    fn flagged_cells_are_not_counted() {
        let mut rows: Vec<CellRow> = (0..50).map(|i| row(&format!("b/{i}.png"), Class::EOSINOPHIL, None)).collect();
        rows.extend((0..50).map(|i| row(&format!("b/n{i}.png"), Class::NEUTROPHIL, None)));
        rows.push(row("a/1.png", Class::MONOCYTE, Some("unlike training")));
        let counts = by_folder(&Classes::wbc5(), &rows);
        assert_eq!(counts.iter().map(|d| d.folder.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((counts[0].counted, counts[0].flagged, counts[0].shares.len()), (0, 1, 0));
        let shares: Vec<_> = counts[1].shares.iter().map(|s| (s.cells, s.outside)).collect();
        assert_eq!(shares, [(50, None), (50, Some("high")), (0, None), (0, Some("low")), (0, None)]);
        assert!(counts[1].to_string().contains("40.4 to 59.6"), "{}", counts[1]);
        assert!(note(&Classes::wbc5()).is_none());
    }

    #[test]
    fn shares_are_of_white_cells_where_all_classes_are_known_to_be_or_not_to_be() {
        let [young, red] = ["young", "red"].map(Class::new);
        let rows: Vec<CellRow> = [Class::NEUTROPHIL, Class::NEUTROPHIL, Class::NEUTROPHIL, young, red, red]
            .into_iter()
            .map(|class| row("a.png", class, None))
            .collect();
        let mut infos = Classes::wbc5().infos().to_vec();
        infos.push(ClassInfo { white_cell: Some(true), ..ClassInfo::new(young) });
        infos.push(ClassInfo { white_cell: Some(false), ..ClassInfo::new(red) });
        let count = by_folder(&Classes::new(infos.clone()), &rows).remove(0);
        let percent = |count: &Differential| count.shares.iter().map(|s| s.percent).collect::<Vec<_>>();
        assert_eq!((count.counted, percent(&count)), (6, vec![75.0, 0.0, 0.0, 0.0, 0.0, 25.0]));
        assert_eq!(count.shares[5].usual_percent, None);
        let text = count.to_string();
        assert!(text.contains("% of white cells") && text.contains("red 2 (50.0 per 100 white cells)"), "{text}");
        // It is not known what the last class is: no usual range is beside shares of all cells.
        infos[6].white_cell = None;
        let classes = Classes::new(infos);
        let count = by_folder(&classes, &rows).remove(0);
        assert_eq!(percent(&count)[0], 50.0);
        assert!(count.shares.iter().all(|share| share.usual_percent.is_none()) && count.others.is_empty());
        assert!(!count.to_string().contains("usual") && note(&classes).unwrap().ends_with("white cells: red"));
        assert_eq!(note(&Classes::named([young, red])), None, "no usual range is known");
    }
}
