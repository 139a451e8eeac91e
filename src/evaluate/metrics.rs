//! Metrics of predictions, as Polars expressions: confusion matrix, recall, precision, F1, balanced accuracy, accuracy.

use crate::class::Class;
use crate::error::{Error, Result};
use crate::rows::{MetricRow, PredictionRow};
use crate::scores::Metric;
use polars::prelude::*;
use std::collections::BTreeSet;

/// The columns of the metric table. Metrics and classes are numbers here: their positions in [`Metric::ALL`] and
/// [`Class::ALL`].
const COLUMNS: [&str; 6] = ["fold", "metric", "class", "predicted", "value", "images"];

/// Metric rows of every fold, then over folds (`fold` null), each sorted by metric, class and predicted class. Over
/// folds a metric is the mean of the folds where it is defined; a confusion count is the sum.
///
/// # Errors
/// [`Error::Compute`] where Polars fails.
pub(super) fn metrics(predictions: &[PredictionRow]) -> Result<Vec<MetricRow>> {
    let rows = || rows(&table(confusion(predictions)?)?);
    rows().map_err(|e| Error::compute("metrics", e))
}

/// Images of each fold, true class and predicted class, zero included: one row per combination.
fn confusion(predictions: &[PredictionRow]) -> PolarsResult<LazyFrame> {
    let number = |class: Class| class.index() as u32;
    let predictions = df!(
        "fold" => predictions.iter().map(|r| r.fold).collect::<Vec<u32>>(),
        "class" => predictions.iter().map(|r| number(r.truth)).collect::<Vec<u32>>(),
        "predicted" => predictions.iter().map(|r| number(r.predicted())).collect::<Vec<u32>>(),
    )?;
    let folds: BTreeSet<u32> = predictions.column("fold")?.u32()?.iter().flatten().collect();
    let pairs = || (0..Class::COUNT as u32).flat_map(|class| (0..Class::COUNT as u32).map(move |other| (class, other)));
    let combinations: Vec<(u32, u32, u32)> =
        folds.into_iter().flat_map(|fold| pairs().map(move |(class, predicted)| (fold, class, predicted))).collect();
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
fn table(confusion: LazyFrame) -> PolarsResult<DataFrame> {
    let correct = when(col("class").eq(col("predicted"))).then(col("images")).otherwise(lit(0u64)).sum();
    let keys = ["fold", "class"].map(col);
    let by_truth = confusion.clone().group_by(&keys).agg([correct.alias("correct"), col("images").sum()]);
    let by_prediction = confusion
        .clone()
        .group_by([col("fold"), col("predicted").alias("class")])
        .agg([col("images").sum().alias("predicted_as")]);
    let classes = by_truth
        .join(by_prediction, &keys, &keys, JoinArgs::new(JoinType::Left))
        .sort(["fold", "class"], SortMultipleOptions::default())
        .with_columns([
            share(col("correct"), col("images")).alias("recall"),
            share(col("correct"), col("predicted_as")).alias("precision"),
            share(lit(2u64) * col("correct"), col("images") + col("predicted_as")).alias("f1"),
        ]);
    let folds = classes.clone().group_by([col("fold")]).agg([
        col("recall").mean().alias("balanced_accuracy"),
        share(col("correct").sum(), col("images").sum()).alias("accuracy"),
        col("images").sum(),
    ]);

    let none = || lit(NULL).cast(DataType::UInt32);
    let long = |frame: &LazyFrame, metric: Metric, class: Expr, predicted: Expr, value: Expr, images: &str| {
        let values = [col("fold"), lit(metric as u32), class, predicted, value, col(images)];
        frame.clone().select(COLUMNS.iter().zip(values).map(|(name, value)| value.alias(*name)).collect::<Vec<_>>())
    };
    let of_class =
        |metric: Metric, images: &str| long(&classes, metric, col("class"), none(), col(metric.name()), images);
    let of_fold = |metric: Metric| long(&folds, metric, none(), none(), col(metric.name()), "images");
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
    let over_folds = [over_folds(&metrics, col("value").mean()), over_folds(&confusion, col("value").sum())];
    let order = SortMultipleOptions::default().with_nulls_last(true);
    let all = [metrics, confusion].into_iter().chain(over_folds).collect::<Vec<_>>();
    concat(all, UnionArgs::default())?.sort(["fold", "metric", "class", "predicted"], order).collect()
}

/// `part / whole` of two counts, 0 to 1; null where `whole` is zero.
fn share(part: Expr, whole: Expr) -> Expr {
    let quotient = part.cast(DataType::Float64) / whole.clone().cast(DataType::Float64);
    when(whole.gt(lit(0u64))).then(quotient).otherwise(lit(NULL))
}

/// The rows of the metric table.
fn rows(table: &DataFrame) -> PolarsResult<Vec<MetricRow>> {
    let [fold, metric, class, predicted] =
        ["fold", "metric", "class", "predicted"].map(|name| table.column(name)?.u32());
    let (fold, metric, class, predicted) = (fold?, metric?, class?, predicted?);
    let (value, images) = (table.column("value")?.f64()?, table.column("images")?.u64()?);
    let class_at = |column: &UInt32Chunked, i: usize| column.get(i).map(|number| Class::ALL[number as usize]);
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
