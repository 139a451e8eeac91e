//! The differential count of a folder: the share of each class among its white cells, with an interval, beside the
//! usual range in adults where it is known. Every cell counts, also one that is in doubt: leaving those out would
//! favour the classes that are easy to tell.

use super::appearance;
use super::flags::UNFAMILIAR;
use crate::class::{Class, ClassInfo, Classes};
use crate::rows::{CellRow, PredictionRow};
use crate::seed;
use crate::statistics::{Interval, MIN_KNOWN, prevalence, wilson};
use crate::text;
use serde::Serialize;
use std::collections::BTreeMap;

/// One class of a count.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// The class.
    pub class: Class,
    /// Its name in headings.
    #[serde(skip)]
    pub title: String,
    /// Number of its cells, in doubt or not.
    pub cells: u64,
    /// How many of them are flagged: in doubt.
    pub doubtful: u64,
    /// Share of the cells of all `shares`, %.
    pub percent: f64,
    /// The share corrected for how often the run confuses the classes, %; none where that is not known.
    pub estimated_percent: Option<f64>,
    /// 95 % interval of the estimated share, or of the share where there is none (Wilson), %.
    pub interval: Interval,
    /// Usual share in adults' blood, from and to, %; none where it is not known.
    pub usual_percent: Option<[f64; 2]>,
    /// `low` or `high` where the whole interval lies outside the usual range, and would do so whatever the cells in
    /// doubt are.
    pub outside: Option<&'static str>,
}

/// Cells that are not white cells, and therefore have no share.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    /// The class.
    pub class: Class,
    /// Number of its cells, in doubt or not.
    pub cells: u64,
    /// How many of them are flagged: in doubt.
    pub doubtful: u64,
    /// Number per 100 white cells; none where no white cell was counted.
    pub per_100_white_cells: Option<f64>,
}

/// The count of one folder.
#[derive(Clone, Debug, Serialize)]
pub struct Differential {
    /// The folder of the images.
    pub folder: String,
    /// All cells.
    pub cells: u64,
    /// How many of them are flagged: in doubt.
    pub doubtful: u64,
    /// One share per class, except for those in `others`; empty where there is no such cell.
    pub shares: Vec<Share>,
    /// Classes that are known not to be white cells.
    pub others: Vec<Other>,
}

/// Whether the cells of a class are white cells; none if it is not known.
fn is_white(info: &ClassInfo) -> Option<bool> {
    info.white_cell.or(info.usual_percent.map(|_| true))
}

/// How often a run confuses its classes, on its own test images.
#[derive(Clone, Debug)]
pub struct Confusion {
    /// By class, then by the class that the run assigned.
    counts: Vec<Vec<u64>>,
    /// Seed of the intervals.
    seed: u64,
}

impl Confusion {
    /// That of a run's predictions on its own test images.
    pub fn new(classes: &Classes, predictions: &[PredictionRow], seed: u64) -> Self {
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for row in predictions {
            let assigned = classes.index(classes.likeliest(&row.probabilities));
            if let (Some(truth), Some(assigned)) = (classes.index(row.truth), assigned) {
                counts[truth][assigned] += 1;
            }
        }
        Self { counts, seed }
    }

    /// The classes of which too few test images are known, with their numbers.
    fn few(&self, classes: &Classes) -> Vec<String> {
        let known = self.counts.iter().map(|counts| counts.iter().sum::<u64>()).enumerate();
        known.filter(|(_, n)| *n < MIN_KNOWN).map(|(i, n)| format!("{} {n}", classes.at(i))).collect()
    }

    /// What is to be said of the estimated shares, or why there are none.
    fn note(&self, classes: &Classes) -> String {
        let few = self.few(classes);
        if few.is_empty() {
            let n = text::of(self.counts.iter().flatten().sum(), "test image");
            format!(
                "estimated %: corrected for how often the run confuses the classes on its own {n}; it holds for images \
                 like those, and takes the cells in doubt as they were classified"
            )
        } else {
            format!(
                "Shares are not corrected for the run's mistakes: too few of its own test images are of the classes {} \
                 ({MIN_KNOWN} are needed of each)",
                few.join(", ")
            )
        }
    }
}

/// What must be known of the counts: of the estimates, and why no usual ranges are shown although some are known. They
/// are shares of white cells, which cannot be computed where it is not known which classes are white cells.
pub fn notes(classes: &Classes, confusion: &Confusion, counts: &[Differential]) -> Vec<String> {
    let estimated = counts.iter().flat_map(|count| &count.shares).any(|share| share.estimated_percent.is_some());
    let unknown: Vec<&str> =
        classes.infos().iter().filter(|info| is_white(info).is_none()).map(|info| info.name.name()).collect();
    let ranges = classes.infos().iter().any(|info| info.usual_percent.is_some());
    let mut notes: Vec<String> =
        (estimated || !confusion.few(classes).is_empty()).then(|| confusion.note(classes)).into_iter().collect();
    if ranges && !unknown.is_empty() {
        notes.push(format!(
            "Shares are of all cells, without the usual ranges: those are shares of white cells, and it is not known \
             whether these are white cells: {}",
            unknown.join(", ")
        ));
    }
    notes
}

/// One count per folder, sorted by folder. `classes` are those of the run.
pub fn by_folder(classes: &Classes, rows: &[CellRow], confusion: &Confusion) -> Vec<Differential> {
    let mut folders: BTreeMap<String, Vec<&CellRow>> = BTreeMap::new();
    for row in rows {
        folders.entry(appearance::folder(&row.path)).or_default().push(row);
    }
    folders.into_iter().map(|(folder, rows)| count(classes, folder, &rows, confusion)).collect()
}

fn count(classes: &Classes, folder: String, rows: &[&CellRow], confusion: &Confusion) -> Differential {
    let infos = classes.infos();
    let known = infos.iter().all(|info| is_white(info).is_some());
    let with_share: Vec<bool> = infos.iter().map(|info| !known || is_white(info) == Some(true)).collect();
    // By class: all cells, and those in doubt.
    let mut cells = vec![[0u64; 2]; classes.len()];
    for row in rows {
        let of_class = &mut cells[classes.index(row.class).expect("a class of the run")];
        of_class[0] += 1;
        of_class[1] += u64::from(row.flag.is_some());
    }
    let all: Vec<u64> = cells.iter().map(|[all, _]| *all).collect();
    let n: u64 = all.iter().zip(&with_share).filter(|(_, with)| **with).map(|(n, _)| n).sum();
    let doubtful = cells.iter().map(|[_, doubtful]| doubtful).sum::<u64>();
    let rng = &mut seed::rng(confusion.seed, "differential", 0, 0, 0);
    // What the run confuses on its own test images says nothing of images that do not look like them.
    let unlike = rows.iter().any(|row| row.flag.as_ref().is_some_and(|flag| flag.contains(UNFAMILIAR)));
    let estimates = if unlike { None } else { prevalence(&confusion.counts, &all, &with_share, rng) };
    let share = |i: usize| {
        let (info, [of_class, in_doubt]) = (&infos[i], cells[i]);
        let estimate = estimates.as_ref().map(|estimates| estimates[i]);
        let interval = match estimate {
            Some(estimate) => estimate.interval,
            None => wilson(of_class, n)?,
        };
        let usual_percent = info.usual_percent.filter(|_| known);
        // The extremes: no cell in doubt is of this class, or all of them are.
        let least = wilson(of_class - in_doubt, n).map_or(0.0, |interval| interval.low);
        let most = wilson((of_class - in_doubt + doubtful).min(n), n).map_or(1.0, |interval| interval.high);
        let outside = match usual_percent {
            Some([low, _]) if 100.0 * interval.high.max(most) < low => Some("low"),
            Some([_, high]) if 100.0 * interval.low.min(least) > high => Some("high"),
            _ => None,
        };
        Some(Share {
            class: info.name,
            title: info.heading(),
            cells: of_class,
            doubtful: in_doubt,
            percent: 100.0 * of_class as f64 / n as f64,
            estimated_percent: estimate.map(|estimate| 100.0 * estimate.share),
            interval: Interval { low: 100.0 * interval.low, high: 100.0 * interval.high },
            usual_percent,
            outside,
        })
    };
    let other = |i: usize| {
        let [of_class, in_doubt] = cells[i];
        let per_100_white_cells = (n > 0).then(|| 100.0 * of_class as f64 / n as f64);
        Other { class: infos[i].name, cells: of_class, doubtful: in_doubt, per_100_white_cells }
    };
    Differential {
        folder,
        cells: rows.len() as u64,
        doubtful,
        shares: if n == 0 {
            Vec::new()
        } else {
            (0..classes.len()).filter(|i| with_share[*i]).filter_map(share).collect()
        },
        others: (0..classes.len()).filter(|i| !with_share[*i]).map(other).collect(),
    }
}

impl std::fmt::Display for Differential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, Table, presets};
        write!(f, "{}: {}, {} in doubt", self.folder, text::of(self.cells, "cell"), text::thousands(self.doubtful))?;
        if 2 * self.doubtful > self.cells {
            write!(f, ": more than half, so that these shares may be far off")?;
        }
        if !self.shares.is_empty() {
            let usual = self.shares.iter().any(|share| share.usual_percent.is_some());
            let estimated = self.shares.iter().any(|share| share.estimated_percent.is_some());
            let percent = if self.others.is_empty() { "%" } else { "% of white cells" };
            let mut table = Table::new();
            table.load_style(presets::UTF8_FULL_CONDENSED);
            let header =
                ["Class", "cells", "in doubt", percent, "estimated %", "95 % interval", "usual in adults, %", ""];
            let is_shown = |column: &usize| match column {
                4 => estimated,
                6 | 7 => usual,
                _ => true,
            };
            let shown: Vec<usize> = (0..header.len()).filter(is_shown).collect();
            table.set_header(shown.iter().map(|column| header[*column]));
            for share in &self.shares {
                let row = [
                    share.title.clone(),
                    share.cells.to_string(),
                    share.doubtful.to_string(),
                    format!("{:.1}", share.percent),
                    share.estimated_percent.map_or("-".into(), |percent| format!("{percent:.1}")),
                    format!("{:.1} to {:.1}", share.interval.low, share.interval.high),
                    share.usual_percent.map_or("-".into(), |[low, high]| format!("{low} to {high}")),
                    share.outside.unwrap_or("").to_string(),
                ];
                table.add_row(shown.iter().map(|column| &row[*column]));
            }
            for (at, column) in shown.iter().enumerate() {
                if (1..=5).contains(column) {
                    table.column_mut(at).expect("a column that is shown").set_cell_alignment(CellAlignment::Right);
                }
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
            appearance: None,
            flag: flag.map(Into::into),
            training_image: None,
            probabilities: vec![0.0; 5],
        }
    }

    fn without_known_cells(classes: &Classes) -> Confusion {
        Confusion::new(classes, &[], 0)
    }

    #[test]
    fn cells_in_doubt_count_and_keep_a_share_from_being_called_low_or_high() {
        let mut rows: Vec<CellRow> = (0..50).map(|i| row(&format!("b/{i}.png"), Class::EOSINOPHIL, None)).collect();
        rows.extend((0..50).map(|i| row(&format!("b/n{i}.png"), Class::NEUTROPHIL, None)));
        rows.push(row("a/1.png", Class::MONOCYTE, Some("unlike training")));
        let classes = Classes::wbc5();
        let counts = by_folder(&classes, &rows, &without_known_cells(&classes));
        assert_eq!(counts.iter().map(|d| d.folder.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((counts[0].cells, counts[0].doubtful, counts[0].shares.len()), (1, 1, 5));
        assert!(counts[0].to_string().contains("more than half"), "{}", counts[0]);
        let shares: Vec<_> = counts[1].shares.iter().map(|s| (s.cells, s.outside)).collect();
        assert_eq!(shares, [(50, None), (50, Some("high")), (0, None), (0, Some("low")), (0, None)]);
        assert!(counts[1].to_string().contains("40.4 to 59.6"), "{}", counts[1]);
        assert!(notes(&classes, &without_known_cells(&classes), &[])[0].contains("not corrected"));
        // Sixty cells in doubt: neutrophils are few among those that are sure, and may be many.
        rows.extend((0..60).map(|i| row(&format!("b/d{i}.png"), Class::NEUTROPHIL, Some("low confidence"))));
        let doubtful = by_folder(&classes, &rows, &without_known_cells(&classes)).remove(1);
        assert_eq!((doubtful.cells, doubtful.doubtful), (160, 60));
        let shares: Vec<_> = doubtful.shares.iter().map(|s| (s.cells, s.doubtful, s.outside)).collect();
        assert_eq!(shares[0], (110, 60, None));
        assert_eq!(shares[1], (50, 0, Some("high")));
        assert_eq!(shares[3], (0, 0, None), "lymphocytes may be among those in doubt");
    }

    #[test]
    fn shares_are_corrected_for_known_confusions() {
        let classes = Classes::wbc5();
        // A tenth of the neutrophils is taken for basophils.
        let mut predictions = Vec::new();
        for truth in classes.iter() {
            for i in 0..100 {
                let assigned = if truth == Class::NEUTROPHIL && i < 10 { Class::BASOPHIL } else { truth };
                let mut p = [0.0; 5];
                p[classes.index(assigned).unwrap()] = 1.0;
                predictions.push(PredictionRow::new(format!("{truth}/{i}"), 0, truth, p));
            }
        }
        let confusion = Confusion::new(&classes, &predictions, 0);
        let mut rows: Vec<CellRow> = (0..180).map(|i| row(&format!("{i}.png"), Class::NEUTROPHIL, None)).collect();
        rows.extend((0..20).map(|i| row(&format!("b{i}.png"), Class::BASOPHIL, None)));
        let count = by_folder(&classes, &rows, &confusion).remove(0);
        let of = |class: Class| count.shares.iter().find(|share| share.class == class).unwrap();
        let (neutrophil, basophil) = (of(Class::NEUTROPHIL), of(Class::BASOPHIL));
        assert_eq!((neutrophil.percent, basophil.percent), (90.0, 10.0));
        assert!(neutrophil.estimated_percent.unwrap() > 99.0, "{neutrophil:?}");
        assert!(basophil.estimated_percent.unwrap() < 1.0 && basophil.interval.high > 1.0, "{basophil:?}");
        assert_eq!(basophil.outside, None, "10 % would be high");
        assert!(
            count.to_string().contains("estimated %")
                && notes(&classes, &confusion, std::slice::from_ref(&count))[0].contains("500 test images")
        );
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
        let of = |classes: &Classes| by_folder(classes, &rows, &without_known_cells(classes));
        let count = of(&Classes::new(infos.clone())).remove(0);
        let percent = |count: &Differential| count.shares.iter().map(|s| s.percent).collect::<Vec<_>>();
        assert_eq!((count.cells, percent(&count)), (6, vec![75.0, 0.0, 0.0, 0.0, 0.0, 25.0]));
        assert_eq!(count.shares[5].usual_percent, None);
        let text = count.to_string();
        assert!(text.contains("% of white cells") && text.contains("red 2 (50.0 per 100 white cells)"), "{text}");
        // It is not known what the last class is: no usual range is beside shares of all cells.
        infos[6].white_cell = None;
        let classes = Classes::new(infos);
        let count = of(&classes).remove(0);
        assert_eq!(percent(&count)[0], 50.0);
        assert!(count.shares.iter().all(|share| share.usual_percent.is_none()) && count.others.is_empty());
        assert!(
            !count.to_string().contains("usual")
                && notes(&classes, &without_known_cells(&classes), &[])[1].ends_with("white cells: red")
        );
        let named = Classes::named([young, red]);
        assert_eq!(notes(&named, &without_known_cells(&named), &[]).len(), 1, "no usual range is known");
    }
}
