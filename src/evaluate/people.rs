//! The subject or slide of each test image, or the group of copies that it belongs to, and intervals that resample
//! these instead of images.

use super::intervals;
use crate::class::{Class, Classes};
use crate::dataset::Dataset;
use crate::error::{Input, Result, if_readable};
use crate::rows::{IntervalRow, PredictionRow};
use crate::run::Record;
use crate::scores::{Method, Metric, Scores};
use crate::statistics::{self, Interval, LEVEL};
use crate::table;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who the images of a data set are from, where it says so.
#[derive(Clone, Debug, Default)]
pub struct People {
    subjects: HashMap<String, String>,
    slides: HashMap<String, String>,
    /// Groups of copies.
    copies: HashMap<String, String>,
}

impl People {
    /// Reads the subjects, slides and groups of copies of a data set.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read(ws: &Workspace, dataset: &str) -> Result<Self> {
        let mut people = Self::default();
        let Dataset { cells, checks, .. } = Dataset::read(ws, dataset)?;
        for (cell, check) in cells.into_iter().zip(checks) {
            people.copies.insert(cell.image_id.clone(), check.group_id);
            people.subjects.extend(cell.subject_id.map(|subject| (cell.image_id.clone(), subject)));
            people.slides.extend(cell.slide_id.map(|slide| (cell.image_id, slide)));
        }
        Ok(people)
    }

    /// Whether so many of the images are copies of each other that they cannot be treated as independent.
    fn are_copies(&self, predictions: &[PredictionRow]) -> bool {
        /// Least number of images in the group of an image, on average over images.
        const MANY: f64 = 1.5;
        let mut sizes: HashMap<&str, u64> = HashMap::new();
        let group = |p: &'_ PredictionRow| self.copies.get(&p.image_id).map(String::as_str);
        predictions.iter().filter_map(group).for_each(|group| *sizes.entry(group).or_default() += 1);
        let squares: u64 = sizes.values().map(|n| n * n).sum();
        squares as f64 >= MANY * predictions.len().max(1) as f64
    }

    /// What is known and of how many: ("patient", 8), or ("slide", 20) where no subject is known.
    pub fn known(&self) -> Option<(&'static str, usize)> {
        let count = |names: &HashMap<String, String>| names.values().collect::<BTreeSet<_>>().len();
        match (count(&self.subjects), count(&self.slides)) {
            (0, 0) => None,
            (0, n) => Some(("slide", n)),
            (n, _) => Some(("patient", n)),
        }
    }

    /// Those of the data set of a run. Where its manifest has changed since the training, nobody is known.
    ///
    /// # Errors
    /// As [`People::read`].
    pub(super) fn of_run(ws: &Workspace, record: &Record) -> Result<Self> {
        let manifest = ws.manifest(&record.dataset);
        let now = if_readable(table::file_hash(&manifest))?;
        let same = now.is_some() && now.as_deref() == record.input(Input::Manifest);
        if same { Self::read(ws, &record.dataset) } else { Ok(Self::default()) }
    }

    /// The interval rows that hold for these people: `rows` where nobody is known, and otherwise those over subjects,
    /// slides or groups of copies in place of those over images.
    pub(super) fn applied(
        &self,
        rows: Vec<IntervalRow>,
        predictions: &[PredictionRow],
        classes: &Classes,
        seed: u64,
    ) -> Vec<IntervalRow> {
        let Some(mut over_people) = self.intervals(predictions, classes, seed) else { return rows };
        over_people.extend(rows.into_iter().filter(|row| row.method == Method::CorrectedT));
        over_people
    }

    /// Interval rows of all images pooled, over subjects or (where no subject is known) over slides, or where neither
    /// is known and many images are copies, over groups of copies; otherwise `None`. An image without a subject or
    /// slide is a unit of its own. Where no interval can be computed, it is 0 to 1; where all images are predicted
    /// correctly, or none, it is Wilson's for as many images as units. None is narrower than over images.
    fn intervals(&self, predictions: &[PredictionRow], classes: &Classes, seed: u64) -> Option<Vec<IntervalRow>> {
        let any = |known: &HashMap<String, String>| predictions.iter().any(|p| known.contains_key(&p.image_id));
        let (method, known) = match (any(&self.subjects), any(&self.slides)) {
            (true, _) => (Method::SubjectBootstrap, &self.subjects),
            (false, true) => (Method::SlideBootstrap, &self.slides),
            (false, false) if self.are_copies(predictions) => (Method::CopyGroupBootstrap, &self.copies),
            (false, false) => return None,
        };
        // For each class the correctly and wrongly predicted images.
        let mut counts: BTreeMap<(bool, &str), Vec<u64>> = BTreeMap::new();
        for row in predictions {
            let unit = match known.get(&row.image_id) {
                Some(name) => (true, name.as_str()),
                None => (false, row.image_id.as_str()),
            };
            let counts = counts.entry(unit).or_insert_with(|| vec![0; 2 * classes.len()]);
            if let Some(class) = classes.index(row.truth) {
                counts[2 * class + usize::from(classes.likeliest(&row.probabilities) != row.truth)] += 1;
            }
        }
        let clusters: Vec<Vec<u64>> = counts.into_values().collect();
        let scores =
            |sum: &[u64]| Scores::from_counts(&sum.chunks_exact(2).map(|c| (c[0], c[0] + c[1])).collect::<Vec<_>>());
        let sum = |class: usize| clusters.iter().map(|c| c[2 * class] + c[2 * class + 1]).sum::<u64>();
        let tested: Vec<bool> = (0..classes.len()).map(|class| sum(class) > 0).collect();
        let statistic = |sum: &[u64]| {
            let scores = scores(sum);
            let complete = scores.recall.iter().zip(&tested).all(|(recall, tested)| recall.is_some() || !tested);
            let mut values = scores.values();
            // A mean over fewer classes than in the sample is another metric.
            values[0] = values[0].filter(|_| complete);
            values
        };
        let intervals = statistics::cluster_bootstrap(&clusters, seed, statistic);
        let all: Vec<u64> = (0..2 * classes.len()).map(|i| clusters.iter().map(|counts| counts[i]).sum()).collect();
        let units = clusters.len() as u64;
        let with_class = |class: Option<usize>| match class {
            Some(class) => clusters.iter().filter(|c| c[2 * class] + c[2 * class + 1] > 0).count() as u64,
            None => units,
        };
        let correct_of_all: Vec<(u64, u64)> = all.chunks_exact(2).map(|c| (c[0], c[0] + c[1])).collect();
        let over_images = intervals::over_images(&correct_of_all);
        let rows =
            Scores::keys(classes).into_iter().zip(scores(&all).values()).zip(intervals.into_iter().zip(over_images));
        type Key = (Metric, Option<Class>);
        let row = |(((metric, class), value), (interval, over_images)): ((Key, Option<f64>), (Option<Interval>, _))| {
            let value = value?;
            let over_images: Interval = over_images?;
            // Nothing is known of the other values that it might have had.
            let everything = Interval { low: 0.0, high: 1.0 };
            let interval = match interval {
                None => everything,
                // Resampling shows no width where all images are predicted correctly, or none.
                Some(_) if value == 0.0 || value == 1.0 => {
                    let n = with_class(class.and_then(|class| classes.index(class)));
                    statistics::wilson(value as u64 * n, n).unwrap_or(everything)
                }
                Some(interval) => interval,
            };
            Some(IntervalRow {
                metric,
                class,
                method,
                level: LEVEL,
                value,
                low: interval.low.min(over_images.low),
                high: interval.high.max(over_images.high),
                units,
            })
        };
        Some(rows.filter_map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_copies_are_resampled_as_groups() {
        let classes = Classes::wbc5();
        // 60 cells with six copies each; all copies of every fifth cell are predicted wrongly.
        let prediction = |i: usize| {
            let truth = classes.at(i / 6 % 5);
            let predicted = if i / 6 % 25 < 5 { (i / 6 + 1) % 5 } else { i / 6 % 5 };
            let p: Vec<f32> = (0..5).map(|class| if class == predicted { 0.9 } else { 0.025 }).collect();
            PredictionRow::new(format!("d/{i}"), 0, truth, p)
        };
        let predictions: Vec<PredictionRow> = (0..360).map(prediction).collect();
        let grouped = |size: usize| People {
            copies: (0..360).map(|i| (format!("d/{i}"), format!("d/{}", i / size * size))).collect(),
            ..People::default()
        };
        let intervals = |people: &People| people.intervals(&predictions, &classes, 0);
        let rows = intervals(&grouped(6)).unwrap();
        let accuracy = rows.iter().find(|row| row.metric == Metric::Accuracy).unwrap();
        assert_eq!((accuracy.method, accuracy.units), (Method::CopyGroupBootstrap, 60));
        // Of 60 cells, not of 360: the interval is that wide.
        let wilson = |n: u64| statistics::wilson((accuracy.value * n as f64).round() as u64, n).unwrap();
        let width = accuracy.high - accuracy.low;
        assert!(width > 0.8 * (wilson(60).high - wilson(60).low), "{width}");
        assert!(width > 1.5 * (wilson(360).high - wilson(360).low), "{width}");
        assert!(intervals(&grouped(1)).is_none(), "no copies");
    }
}
