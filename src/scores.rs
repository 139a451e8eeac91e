//! Metrics, and the scores of a fold or run computed from counts: one definition for evaluation, resampling and
//! comparison.

use crate::class::{Class, Classes};
use serde::{Deserialize, Serialize};

/// A metric in `metrics.parquet` and `intervals.parquet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of a class's images that are predicted as that class.
    Recall,
    /// Share of the images predicted as a class that belong to it.
    Precision,
    /// Harmonic mean of precision and recall of a class: 2 TP / (2 TP + FP + FN).
    F1,
    /// Mean of the recalls that are defined.
    BalancedAccuracy,
    /// Share of all images that are predicted correctly.
    Accuracy,
    /// Number of images of one true class and one predicted class.
    Confusion,
}

impl Metric {
    /// The metrics in order.
    pub const ALL: [Metric; 6] =
        [Metric::Recall, Metric::Precision, Metric::F1, Metric::BalancedAccuracy, Metric::Accuracy, Metric::Confusion];

    /// The name in our tables: `balanced_accuracy`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Recall => "recall",
            Metric::Precision => "precision",
            Metric::F1 => "f1",
            Metric::BalancedAccuracy => "balanced_accuracy",
            Metric::Accuracy => "accuracy",
            Metric::Confusion => "confusion",
        }
    }

    /// The name at the start of a line: `Balanced accuracy`.
    pub fn title(self) -> &'static str {
        match self {
            Metric::Recall => "Recall",
            Metric::Precision => "Precision",
            Metric::F1 => "F1",
            Metric::BalancedAccuracy => "Balanced accuracy",
            Metric::Accuracy => "Accuracy",
            Metric::Confusion => "Confusion",
        }
    }
}

/// The name in a sentence: `balanced accuracy`.
impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Metric::F1 => f.write_str("F1"),
            other => f.write_str(&other.name().replace('_', " ")),
        }
    }
}

/// How an interval in `intervals.parquet` was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The exact intervals of the recalls of all classes, melded into that of their mean.
    Melded,
    /// Corrected resampled t interval over folds.
    CorrectedT,
    /// Wilson's interval of a share of images.
    Wilson,
    /// Bootstrap of test subjects, each with all images.
    SubjectBootstrap,
    /// Bootstrap of test slides, each with all images, where subjects are not known.
    SlideBootstrap,
    /// Bootstrap of groups of copies, each with all images, where neither subjects nor slides are known and many images
    /// are copies.
    CopyGroupBootstrap,
}

impl Method {
    /// What is resampled together with all its images: "patient", "slide" or "copy group"; `None` where images
    /// are independent.
    pub fn cluster(self) -> Option<&'static str> {
        match self {
            Method::SubjectBootstrap => Some("patient"),
            Method::SlideBootstrap => Some("slide"),
            Method::CopyGroupBootstrap => Some("copy group"),
            Method::Melded | Method::CorrectedT | Method::Wilson => None,
        }
    }
}

/// Scores of a fold or their means over folds, 0 to 1; `None` where there is no image to compute one from.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Mean of the recalls that are defined.
    pub balanced_accuracy: Option<f64>,
    /// Share of all images that are predicted correctly.
    pub accuracy: Option<f64>,
    /// Recall of each class, in class order.
    pub recall: Vec<Option<f64>>,
}

impl Scores {
    /// The metric, and for a recall the class, of each of [`Scores::values`].
    pub fn keys(classes: &Classes) -> Vec<(Metric, Option<Class>)> {
        let recalls = classes.iter().map(|class| (Metric::Recall, Some(class)));
        [(Metric::BalancedAccuracy, None), (Metric::Accuracy, None)].into_iter().chain(recalls).collect()
    }

    /// The scores as a list, in the order of [`Scores::keys`].
    pub fn values(&self) -> Vec<Option<f64>> {
        [self.balanced_accuracy, self.accuracy].iter().chain(&self.recall).copied().collect()
    }

    /// Scores of one fold from (correctly predicted images, all images) of each class, in class order.
    pub fn from_counts(classes: &[(u64, u64)]) -> Scores {
        let share = |(correct, all): (u64, u64)| (all > 0).then(|| correct as f64 / all as f64);
        let recall: Vec<Option<f64>> = classes.iter().copied().map(share).collect();
        let sums = classes.iter().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
        Scores { balanced_accuracy: mean(recall.iter().copied()), accuracy: share(sums), recall }
    }

    /// The mean over folds of each score. A fold where a score is not defined does not count towards its mean. All
    /// folds have the same classes.
    pub fn mean(folds: &[Scores]) -> Scores {
        let classes = folds.first().map_or(0, |fold| fold.recall.len());
        Scores {
            balanced_accuracy: mean(folds.iter().map(|fold| fold.balanced_accuracy)),
            accuracy: mean(folds.iter().map(|fold| fold.accuracy)),
            recall: (0..classes).map(|class| mean(folds.iter().map(|fold| fold.recall[class]))).collect(),
        }
    }

    /// The scores of each fold from its strata. A stratum is the images of one fold and class, counted by outcome;
    /// strata are ordered by fold, then class, and `classes` is the number of classes. `correct` returns how many
    /// images of a stratum are predicted correctly.
    pub fn by_fold<const K: usize>(
        strata: &[[u64; K]],
        classes: usize,
        correct: impl Fn(&[u64; K]) -> u64,
    ) -> Vec<Scores> {
        let counts = |stratum: &[u64; K]| (correct(stratum), stratum.iter().sum());
        let fold = |strata: &[[u64; K]]| Scores::from_counts(&strata.iter().map(counts).collect::<Vec<_>>());
        strata.chunks_exact(classes).map(fold).collect()
    }
}

/// The mean of the defined values.
fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, n) = values.into_iter().flatten().fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}
