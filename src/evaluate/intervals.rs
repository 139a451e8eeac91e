//! Confidence intervals of metrics: see [`crate::statistics`].

use crate::class::{Class, Classes};
use crate::rows::{IntervalRow, MetricRow};
use crate::scores::{Method, Metric, Scores};
use crate::statistics::{self, Interval, LEVEL};

/// Interval rows of metric rows: balanced accuracy, accuracy and each recall with all images pooled, and balanced
/// accuracy and accuracy over folds. `folds` is the number of folds of the split, finished or not.
pub(super) fn intervals(metrics: &[MetricRow], classes: &Classes, folds: u32) -> Vec<IntervalRow> {
    let strata = strata(metrics, classes);
    let folds_scores = Scores::by_fold(&strata, classes.len(), |[correct, _]| *correct);
    let pooled: Vec<(u64, u64)> = classes.iter().map(|class| pooled(&strata, classes, class)).collect();
    let images: u64 = pooled.iter().map(|(_, images)| images).sum();
    let over_images = over_images(&pooled);
    let (values, means) = (Scores::from_counts(&pooled).values(), Scores::mean(&folds_scores).values());
    let mut rows = Vec::new();
    for (i, (metric, class)) in Scores::keys(classes).into_iter().enumerate() {
        let mut add = |method: Method, value: Option<f64>, interval: Option<Interval>, units: u64| {
            if let (Some(value), Some(interval)) = (value, interval) {
                // A t interval may reach beyond 0 and 1.
                let (low, high) = (interval.low.max(0.0), interval.high.min(1.0));
                rows.push(IntervalRow { metric, class, method, level: LEVEL, value, low, high, units });
            }
        };
        let method = if metric == Metric::BalancedAccuracy { Method::Melded } else { Method::Wilson };
        add(method, values[i], over_images[i], class.and_then(|c| classes.index(c)).map_or(images, |c| pooled[c].1));
        if class.is_none() {
            let values: Vec<f64> = folds_scores.iter().filter_map(|fold| fold.values()[i]).collect();
            let over_folds = statistics::corrected_interval(&values, test_to_train(folds));
            add(Method::CorrectedT, means[i], over_folds, values.len() as u64);
        }
    }
    rows
}

/// The intervals of [`Scores::values`] for other images like these, from the correctly predicted and all images of each
/// class.
pub(super) fn over_images(classes: &[(u64, u64)]) -> Vec<Option<Interval>> {
    let sums = classes.iter().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
    let wilson = |(correct, images): (u64, u64)| statistics::wilson(correct, images);
    let recalls = classes.iter().map(|class| wilson(*class));
    [statistics::mean_of_shares(classes), wilson(sums)].into_iter().chain(recalls).collect()
}

/// Test images over training images in cross-validation, for [`statistics::corrected_t`].
pub fn test_to_train(folds: u32) -> f64 {
    1.0 / f64::from(folds.max(2) - 1)
}

/// Correctly and wrongly predicted images of each fold and class, ordered by fold, then class.
fn strata(metrics: &[MetricRow], classes: &Classes) -> Vec<[u64; 2]> {
    let confusion = metrics.iter().filter(|r| r.metric == Metric::Confusion && r.fold.is_some());
    let cells: Vec<&MetricRow> = confusion.collect();
    let stratum = |cells: &[&MetricRow]| {
        let images = |correct: bool| {
            let selected = cells.iter().filter(|r| (r.class == r.predicted) == correct);
            selected.map(|r| r.images).sum::<u64>()
        };
        [images(true), images(false)]
    };
    cells.chunks_exact(classes.len()).map(stratum).collect()
}

/// Correctly predicted images and all images of a class over all folds.
fn pooled(strata: &[[u64; 2]], classes: &Classes, class: Class) -> (u64, u64) {
    let selected = strata.iter().enumerate().filter(|(i, _)| class == classes.at(i % classes.len()));
    selected.fold((0, 0), |sum, (_, [correct, wrong])| (sum.0 + correct, sum.1 + correct + wrong))
}
