//! Confidence intervals of metrics. They resample counts 10,000 times, in plain loops: see [`crate::statistics`].

use crate::class::{Class, Classes};
use crate::rows::{IntervalRow, MetricRow};
use crate::scores::{Method, Metric, Scores};
use crate::statistics::{self, Interval, LEVEL};

/// Interval rows of metric rows: balanced accuracy and accuracy over images and over folds; accuracy and each recall as
/// shares of all images. `folds` is the number of folds of the split, finished or not.
pub(super) fn intervals(metrics: &[MetricRow], classes: &Classes, folds: u32, seed: u64) -> Vec<IntervalRow> {
    let strata = strata(metrics, classes);
    let by_fold = |strata: &[[u64; 2]]| Scores::by_fold(strata, classes.len(), |[correct, _]| *correct);
    let folds_scores = by_fold(&strata);
    let means = Scores::mean(&folds_scores).values();
    let over_images = statistics::bootstrap(&strata, seed, |strata| Scores::mean(&by_fold(strata)).values());
    let mut rows = Vec::new();
    for (i, (metric, class)) in Scores::keys(classes).into_iter().enumerate() {
        let (correct, images) = pooled(&strata, classes, class);
        let mut add = |method: Method, value: Option<f64>, interval: Option<Interval>, units: u64| {
            if let (Some(value), Some(interval)) = (value, interval) {
                // A t interval may reach beyond 0 and 1.
                let (low, high) = (interval.low.max(0.0), interval.high.min(1.0));
                rows.push(IntervalRow { metric, class, method, level: LEVEL, value, low, high, units });
            }
        };
        if class.is_none() {
            let values: Vec<f64> = folds_scores.iter().filter_map(|fold| fold.values()[i]).collect();
            let over_folds = statistics::corrected_interval(&values, test_to_train(folds));
            add(Method::Bootstrap, means[i], over_images[i], images);
            add(Method::CorrectedT, means[i], over_folds, values.len() as u64);
        }
        if metric != Metric::BalancedAccuracy {
            let share = correct as f64 / images as f64;
            add(Method::Wilson, Some(share), statistics::wilson(correct, images), images);
        }
    }
    rows
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

/// Correctly predicted images and all images over all folds, of one class or of all.
fn pooled(strata: &[[u64; 2]], classes: &Classes, class: Option<Class>) -> (u64, u64) {
    let is = |i: usize| class.is_none_or(|class| class == classes.at(i % classes.len()));
    let selected = strata.iter().enumerate().filter(|(i, _)| is(*i));
    selected.fold((0, 0), |sum, (_, [correct, wrong])| (sum.0 + correct, sum.1 + correct + wrong))
}
