//! Metrics of predictions, in Polars data frames: confusion matrix, recall, precision, F1, balanced accuracy, accuracy.

use crate::class::Classes;
use crate::error::{Error, Result};
use crate::rows::{MetricRow, PredictionRow};
use crate::scores::Metric;
use polars::prelude::*;
use std::collections::BTreeSet;

/// The columns of the metric table. Metrics and classes are numbers here: their positions in [`Metric::ALL`] and
/// in the run's classes.
const COLUMNS: [&str; 6] = ["fold", "metric", "class", "predicted", "value", "images"];
/// What rows are sorted by; null comes last.
const KEYS: [&str; 4] = ["fold", "metric", "class", "predicted"];

/// Metric rows of every fold, then over folds (`fold` null), each sorted by metric, class and predicted class. Over
/// folds a metric is the mean of the folds where it is defined; a confusion count is the sum. `classes` are those of
/// the run.
///
/// # Errors
/// [`Error::Data`] where an image's true class is none of `classes`, [`Error::Compute`] where Polars fails.
pub(super) fn metrics(predictions: &[PredictionRow], classes: &Classes) -> Result<Vec<MetricRow>> {
    if let Some(row) = predictions.iter().find(|row| classes.index(row.truth).is_none()) {
        let got = format!("{} for {}", row.truth, row.image_id);
        return Err(Error::data("predictions", format!("true classes among {classes}"), got));
    }
    let folds: BTreeSet<u32> = predictions.iter().map(|r| r.fold).collect();
    let rows = || rows(&table(&confusion(predictions, classes, &folds)?, classes, &folds)?, classes);
    rows().map_err(|e| Error::compute("metrics", e))
}

/// Images of each fold, true class and predicted class, zero included: one row per combination.
fn confusion(predictions: &[PredictionRow], classes: &Classes, folds: &BTreeSet<u32>) -> PolarsResult<DataFrame> {
    let number = |class| classes.index(class).expect("checked before") as u32;
    let predicted = |row: &PredictionRow| number(classes.likeliest(&row.probabilities));
    let numbers = 0..classes.len() as u32;
    let pairs = || numbers.clone().flat_map(|class| numbers.clone().map(move |other| (class, other)));
    let none = folds.iter().flat_map(|fold| pairs().map(|(class, predicted)| (*fold, class, predicted, 0)));
    let images = predictions.iter().map(|row| (row.fold, number(row.truth), predicted(row), 1));
    let rows: Vec<(u32, u32, u32, u64)> = none.chain(images).collect();
    let frame = df!(
        "fold" => rows.iter().map(|row| row.0).collect::<Vec<u32>>(),
        "class" => rows.iter().map(|row| row.1).collect::<Vec<u32>>(),
        "predicted" => rows.iter().map(|row| row.2).collect::<Vec<u32>>(),
        "images" => rows.iter().map(|row| row.3).collect::<Vec<u64>>(),
    )?;
    sums(&frame, &["fold", "class", "predicted"], &["images"])
}

/// The metric table of a confusion matrix.
fn table(confusion: &DataFrame, classes: &Classes, folds: &BTreeSet<u32>) -> PolarsResult<DataFrame> {
    let mut diagonal = confusion.clone();
    let on_it = confusion.column("class")?.u32()?.equal(confusion.column("predicted")?.u32()?);
    let images = confusion.column("images")?.u64()?;
    let correct =
        images.iter().zip(on_it.iter()).map(|(images, on_it)| images.filter(|_| on_it == Some(true)).or(Some(0)));
    diagonal.with_column(UInt64Chunked::from_iter_options("correct".into(), correct).into_column())?;
    // Both have one row per fold and class, in the same order.
    let mut by_class = sums(&diagonal, &["fold", "class"], &["correct", "images"])?;
    let by_prediction = sums(confusion, &["fold", "predicted"], &["images"])?;
    let (correct, images) = (by_class.column("correct")?.u64()?.clone(), by_class.column("images")?.u64()?.clone());
    let predicted_as = by_prediction.column("images")?.u64()?.clone().with_name("predicted_as".into());
    by_class.with_column(share("recall", &correct, &images))?;
    by_class.with_column(share("precision", &correct, &predicted_as))?;
    by_class.with_column(share("f1", &(&correct + &correct), &(&images + &predicted_as)))?;
    by_class.with_column(predicted_as.into_column())?;
    let mut by_fold = sums(&by_class, &["fold"], &["correct", "images"])?;
    let accuracy = share("accuracy", by_fold.column("correct")?.u64()?, by_fold.column("images")?.u64()?);
    by_fold.with_column(accuracy)?;
    by_fold.with_column(mean("balanced_accuracy", &by_class, "recall", "class", 0..classes.len() as u32)?)?;

    let of_class = |metric: Metric, images: &str| long(&by_class, metric, metric.name(), images, &["class"]);
    let of_fold = |metric: Metric| long(&by_fold, metric, metric.name(), "images", &[]);
    let scores = stacked([
        of_class(Metric::Recall, "images")?,
        of_class(Metric::Precision, "predicted_as")?,
        of_class(Metric::F1, "images")?,
        of_fold(Metric::BalancedAccuracy)?,
        of_fold(Metric::Accuracy)?,
    ])?;
    let mut counted = confusion.clone();
    counted.with_column(confusion.column("images")?.cast(&DataType::Float64)?.with_name("value".into()))?;
    let confusion = long(&counted, Metric::Confusion, "value", "images", &["class", "predicted"])?;

    let keys = ["metric", "class", "predicted"];
    let over_folds = |sums: DataFrame, value: Column| {
        let mut sums = sums;
        sums.with_column(value)?;
        sums.with_column(Column::full_null("fold".into(), sums.height(), &DataType::UInt32))?;
        sums.select(COLUMNS)
    };
    // The rows of a fold are in the order of the keys, as sums are.
    let means = mean("value", &scores, "value", "fold", folds.iter().copied())?;
    let of_scores = over_folds(sums(&scores, &keys, &["images"])?, means)?;
    let counts = sums(&confusion, &keys, &["images", "value"])?;
    let value = counts.column("value")?.clone();
    let of_confusion = over_folds(counts, value)?;
    stacked([scores, confusion, of_scores, of_confusion])
}

/// The sums of columns by keys, sorted by the keys.
#[expect(deprecated, reason = "Polars prefers its lazy frames here, which take a minute and a half more to compile")]
fn sums(frame: &DataFrame, keys: &[&str], values: &[&str]) -> PolarsResult<DataFrame> {
    let mut sums = frame.group_by(keys.iter().copied())?.select(values.iter().copied()).sum()?;
    for value in values {
        sums.rename(&format!("{value}_sum"), (*value).into())?;
    }
    sorted(&sums, keys)
}

fn sorted(frame: &DataFrame, keys: &[&str]) -> PolarsResult<DataFrame> {
    frame.sort(keys, SortMultipleOptions::default().with_nulls_last(true))
}

/// The rows of several frames, sorted by [`KEYS`].
fn stacked<const N: usize>(frames: [DataFrame; N]) -> PolarsResult<DataFrame> {
    let mut frames = frames.into_iter();
    let mut all = frames.next().unwrap_or_default();
    frames.try_for_each(|frame| all.vstack_mut(&frame).map(|_| ()))?;
    sorted(&all, &KEYS)
}

/// A metric as rows with [`COLUMNS`]: its values and numbers of images are in the columns of these names, and those of
/// `class` and `predicted` that are not `named` are null.
fn long(frame: &DataFrame, metric: Metric, value: &str, images: &str, named: &[&str]) -> PolarsResult<DataFrame> {
    let (height, type_of_key) = (frame.height(), DataType::UInt32);
    let key = |name: &str| match named.contains(&name) {
        true => frame.column(name).cloned(),
        false => Ok(Column::full_null(name.into(), height, &type_of_key)),
    };
    DataFrame::new(
        height,
        vec![
            frame.column("fold")?.clone(),
            UInt32Chunked::full("metric".into(), metric as u32, height).into_column(),
            key("class")?,
            key("predicted")?,
            frame.column(value)?.clone().with_name("value".into()),
            frame.column(images)?.clone().with_name("images".into()),
        ],
    )
}

/// `part / whole`; null where `whole` is zero.
fn share(name: &str, part: &UInt64Chunked, whole: &UInt64Chunked) -> Column {
    let quotient = |(part, whole): (Option<u64>, Option<u64>)| match (part?, whole?) {
        (_, 0) => None,
        (part, whole) => Some(part as f64 / whole as f64),
    };
    Float64Chunked::from_iter_options(name.into(), part.iter().zip(whole.iter()).map(quotient)).into_column()
}

/// The mean of the defined values of a column over the rows that differ in the column `key` alone, which has the values
/// `keys`; null where none is defined. For each key, the other rows are in the same order. Values are added in the
/// order of the keys: Polars' own sum and mean round differently from the plain sums of [`crate::scores`].
fn mean(
    name: &str,
    frame: &DataFrame,
    values: &str,
    key: &str,
    keys: impl IntoIterator<Item = u32>,
) -> PolarsResult<Column> {
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for number in keys {
        let part = frame.filter(&frame.column(key)?.u32()?.equal(number))?;
        sums.resize(part.height(), (0.0, 0));
        for (sum, value) in sums.iter_mut().zip(part.column(values)?.f64()?.iter()) {
            *sum = value.map_or(*sum, |value| (sum.0 + value, sum.1 + 1));
        }
    }
    let means = sums.into_iter().map(|(sum, n)| (n > 0).then(|| sum / n as f64));
    Ok(Float64Chunked::from_iter_options(name.into(), means).into_column())
}

/// The rows of the metric table.
fn rows(table: &DataFrame, classes: &Classes) -> PolarsResult<Vec<MetricRow>> {
    let [fold, metric, class, predicted] =
        ["fold", "metric", "class", "predicted"].map(|name| table.column(name)?.u32());
    let (fold, metric, class, predicted) = (fold?, metric?, class?, predicted?);
    let (value, images) = (table.column("value")?.f64()?, table.column("images")?.u64()?);
    let class_at = |column: &UInt32Chunked, i: usize| column.get(i).map(|number| classes.at(number as usize));
    let row = |i: usize| MetricRow {
        fold: fold.get(i),
        metric: Metric::ALL[metric.get(i).expect("every row has a metric") as usize],
        class: class_at(class, i),
        predicted: class_at(predicted, i),
        value: value.get(i),
        images: images.get(i).expect("every row has a count"),
    };
    Ok((0..table.height()).map(row).collect())
}
