//! The result of a comparison.

use crate::class::Class;
use crate::scores::Metric;
use crate::statistics::{CorrectedT, Interval, McNemar, Wilcoxon};
use serde::Serialize;

/// Two runs, compared.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The data set of both.
    pub dataset: String,
    /// The first run.
    pub first: Side,
    /// The second run.
    pub second: Side,
    /// Test images of the folds compared.
    pub images: u64,
    /// The folds that both have finished.
    pub folds: Vec<u32>,
    /// The folds that only one has finished.
    pub left_out: Vec<LeftOut>,
    /// Balanced accuracy, accuracy, and the recall of each class.
    pub scores: Vec<Score>,
    /// Images by which run is correct.
    pub outcomes: Outcomes,
    /// McNemar's test of the outcomes.
    pub mcnemar: McNemar,
    /// Tests of the differences of the folds, in balanced accuracy and in accuracy.
    pub over_folds: Vec<OverFolds>,
    /// The conclusion in a few sentences.
    pub conclusion: String,
    /// What a reader must know before quoting the figures.
    pub summary: Vec<String>,
    /// Methods and limitations.
    pub notes: Vec<String>,
}

/// One of the two runs.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Name of the run.
    pub run: String,
    /// Title of its model.
    pub model: String,
    /// Name of its pipeline.
    pub pipeline: String,
    /// Its seed.
    pub seed: u64,
    /// Side of its images, px; `None` for a classifier on features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_px: Option<u32>,
}

/// A fold that only one run has finished.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// The fold.
    pub fold: u32,
    /// The run that has not finished it.
    pub missing_in: String,
}

/// A score of both runs, as mean over folds, 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// The metric.
    pub metric: Metric,
    /// The class of a recall; `None` for metrics over all classes.
    pub class: Option<Class>,
    /// Value of the first run.
    pub first: f64,
    /// Value of the second run.
    pub second: f64,
    /// First minus second.
    pub difference: f64,
    /// Interval of the difference: percentile bootstrap of image pairs within fold and class. `None` where both runs
    /// are correct on the same images, so that resampling shows no width.
    pub interval: Option<Interval>,
}

/// Number of images by which run is correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Both are correct.
    pub both: u64,
    /// Only the first is correct.
    pub first_only: u64,
    /// Only the second is correct.
    pub second_only: u64,
    /// Both are wrong.
    pub neither: u64,
}

/// Tests of the folds' differences in one metric, first minus second.
#[derive(Clone, Debug, Serialize)]
pub struct OverFolds {
    /// The metric.
    pub metric: Metric,
    /// Difference of each fold.
    pub differences: Vec<f64>,
    /// `None` with a single fold, or where all folds differ by the same amount.
    pub corrected_t: Option<CorrectedT>,
    /// Wilcoxon's signed-rank test.
    pub wilcoxon: Wilcoxon,
}
