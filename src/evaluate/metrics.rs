//! Metrics of predictions, as Polars expressions: confusion matrix, recall, precision, F1, balanced accuracy, accuracy.

use crate::class::Classes;
use crate::error::{Error, Result};
use crate::rows::{MetricRow, PredictionRow};
use crate::scores::Metric;
use polars::prelude::*;
use std::collections::BTreeSet;

/// The columns of the metric table. Metrics and classes are numbers here: their positions in [`Metric::ALL`] and
/// in the run's classes.
const COLUMNS: [&str; 6] = ["fold", "metric", "class", "predicted", "value", "images"];

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
    let rows = || rows(&table(confusion(predictions, classes, &folds)?, classes, &folds)?, classes);
    rows().map_err(|e| Error::compute("metrics", e))
}

/// Images of each fold, true class and predicted class, zero included: one row per combination.
fn confusion(predictions: &[PredictionRow], classes: &Classes, folds: &BTreeSet<u32>) -> PolarsResult<LazyFrame> {
    let number = |class| classes.index(class).expect("checked before") as u32;
    let predicted = |row: &PredictionRow| number(classes.likeliest(&row.probabilities));
    let predictions = df!(
        "fold" => predictions.iter().map(|r| r.fold).collect::<Vec<u32>>(),
        "class" => predictions.iter().map(|r| number(r.truth)).collect::<Vec<u32>>(),
        "predicted" => predictions.iter().map(predicted).collect::<Vec<u32>>(),
    )?;
    let numbers = 0..classes.len() as u32;
    let pairs = || numbers.clone().flat_map(|class| numbers.clone().map(move |other| (class, other)));
    let combinations: Vec<(u32, u32, u32)> =
        folds.iter().flat_map(|fold| pairs().map(|(class, predicted)| (*fold, class, predicted))).collect();
    let combinations = df!(
        "fold" => combinations.iter().map(|c| c.0).collect::<Vec<u32>>(),
        "class" => combinations.iter().map(|c| c.1).collect::<Vec<u32>>(),
        "predicted" => combinations.iter().map(|c| c.2).collect::<Vec<u32>>(),
    )?;
    let keys = ["fold", "class", "predicted"].map(col);
    let counts = predictions.lazy().group_by(&keys).agg([len().cast(DataType::UInt64).alias("images")]);
    let counts = combinations.lazy().join(counts, &keys, &keys, JoinArgs::new(JoinType::Left));
    Ok(counts.with_column(col("images").fill_null(lit(0u64))))
}

/// The metric table of a confusion matrix.
fn table(confusion: LazyFrame, classes: &Classes, folds: &BTreeSet<u32>) -> PolarsResult<DataFrame> {
    let numbers = 0..classes.len() as u32;
    let correct = when(col("class").eq(col("predicted"))).then(col("images")).otherwise(lit(0u64)).sum();
    let keys = ["fold", "class"].map(col);
    let by_truth = confusion.clone().group_by(&keys).agg([correct.alias("correct"), col("images").sum()]);
    let by_prediction = confusion
        .clone()
        .group_by([col("fold"), col("predicted").alias("class")])
        .agg([col("images").sum().alias("predicted_as")]);
    let by_class = by_truth
        .join(by_prediction, &keys, &keys, JoinArgs::new(JoinType::Left))
        .sort(["fold", "class"], SortMultipleOptions::default())
        .with_columns([
            share(col("correct"), col("images")).alias("recall"),
            share(col("correct"), col("predicted_as")).alias("precision"),
            share(lit(2u64) * col("correct"), col("images") + col("predicted_as")).alias("f1"),
        ]);
    let scores = by_class.clone().group_by([col("fold")]).agg([
        mean("recall", "class", numbers).alias("balanced_accuracy"),
        share(col("correct").sum(), col("images").sum()).alias("accuracy"),
        col("images").sum(),
    ]);

    let none = || lit(NULL).cast(DataType::UInt32);
    let long = |frame: &LazyFrame, metric: Metric, class: Expr, predicted: Expr, value: Expr, images: &str| {
        let values = [col("fold"), lit(metric as u32).cast(DataType::UInt32), class, predicted, value, col(images)];
        frame.clone().select(COLUMNS.iter().zip(values).map(|(name, value)| value.alias(*name)).collect::<Vec<_>>())
    };
    let of_class =
        |metric: Metric, images: &str| long(&by_class, metric, col("class"), none(), col(metric.name()), images);
    let of_fold = |metric: Metric| long(&scores, metric, none(), none(), col(metric.name()), "images");
    let metrics = concat(
        [
            of_class(Metric::Recall, "images"),
            of_class(Metric::Precision, "predicted_as"),
            of_class(Metric::F1, "images"),
            of_fold(Metric::BalancedAccuracy),
            of_fold(Metric::Accuracy),
        ],
        UnionArgs::default(),
    )?
    .sort(["fold"], SortMultipleOptions::default());
    let count = col("images").cast(DataType::Float64);
    let confusion = long(&confusion, Metric::Confusion, col("class"), col("predicted"), count, "images");

    let over_folds = |frame: &LazyFrame, value: Expr| {
        let groups = frame.clone().group_by(["metric", "class", "predicted"].map(col));
        groups.agg([value, col("images").sum()]).with_column(none().alias("fold")).select(COLUMNS.map(col))
    };
    let over_folds = [
        over_folds(&metrics, mean("value", "fold", folds.iter().copied()).alias("value")),
        over_folds(&confusion, col("value").sum()),
    ];
    let order = SortMultipleOptions::default().with_nulls_last(true);
    let all = [metrics, confusion].into_iter().chain(over_folds).collect::<Vec<_>>();
    concat(all, UnionArgs::default())?.sort(["fold", "metric", "class", "predicted"], order).collect()
}

/// `part / whole`; null where `whole` is zero.
fn share(part: Expr, whole: Expr) -> Expr {
    let quotient = part.cast(DataType::Float64) / whole.clone().cast(DataType::Float64);
    when(whole.gt(lit(0u64))).then(quotient).otherwise(lit(NULL))
}

/// The mean of the defined values of a column; null where there is none. The values are added in the order of `keys`,
/// the values of column `key`: Polars' own sum and mean round differently from the plain sums of [`crate::scores`].
fn mean(values: &str, key: &str, keys: impl IntoIterator<Item = u32>) -> Expr {
    let value = |number: u32| col(values).filter(col(key).eq(lit(number))).sum();
    let sum = keys.into_iter().map(value).reduce(|sum, value| sum + value).unwrap_or(lit(0.0));
    share(sum, col(values).count())
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
