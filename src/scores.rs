//! What a fold, and a run, comes out as: one definition for metric rows, resamples and comparisons.

use crate::class::Class;

/// Balanced accuracy, accuracy, and the recall of each class, 0 to 1; none where there is no image to tell.
pub type Scores = [Option<f64>; 2 + Class::COUNT];

/// The metric, and for a recall the class, of each of [`Scores`].
pub fn names() -> [(&'static str, Option<Class>); 2 + Class::COUNT] {
    std::array::from_fn(|i| match i {
        0 => ("balanced_accuracy", None),
        1 => ("accuracy", None),
        i => ("recall", Some(Class::ALL[i - 2])),
    })
}

/// Scores of one fold from (images classified right, images) of each class. Balanced accuracy is the mean of the
/// recalls that are defined.
pub fn of_fold(classes: [(u64, u64); Class::COUNT]) -> Scores {
    let share = |(part, of): (u64, u64)| (of > 0).then(|| part as f64 / of as f64);
    let recalls = classes.map(share);
    let all = classes.iter().fold((0, 0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
    let mut scores = [mean(recalls), share(all), None, None, None, None, None];
    scores[2..].copy_from_slice(&recalls);
    scores
}

/// The mean over folds of each score, of the folds that define it.
pub fn over_folds(folds: &[Scores]) -> Scores {
    std::array::from_fn(|i| mean(folds.iter().map(|fold| fold[i])))
}

/// The mean of the values that there are.
fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, n) = values.into_iter().flatten().fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// The scores of each fold. `strata` has the images of each fold and class by outcome, the classes in order, fold after
/// fold; `right` says how many of a stratum's were classified right.
pub fn by_fold<const K: usize>(strata: &[[u64; K]], right: impl Fn(&[u64; K]) -> u64) -> Vec<Scores> {
    let fold = |classes: &[[u64; K]]| of_fold(std::array::from_fn(|c| (right(&classes[c]), classes[c].iter().sum())));
    strata.chunks_exact(Class::COUNT).map(fold).collect()
}
