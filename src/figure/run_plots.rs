//! Plots of a run: learning curves, confusion matrix, recall, reliability, precision and recall.

use super::svg::{
    ACCENT, COLOURS, FAINT, Figure, HEIGHT, INK, LARGE, LEFT, SMALL, Scale, WIDTH, aligned, axes, class_label, draw,
    rotated, text, x_axis,
};
use crate::class::Class;
use crate::evaluate::curves::{PrecisionRecall, Reliability};
use crate::rows::{EpochRow, IntervalRow, MetricRow};
use crate::scores::{Method, Metric};
use crate::statistics::wilson;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::collections::{BTreeMap, BTreeSet};

/// Training loss per epoch, one line per fold; `None` without epochs.
pub(crate) fn learning(epochs: &[EpochRow]) -> Option<Figure> {
    let mut folds: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for row in epochs {
        folds.entry(row.fold).or_default().push((f64::from(row.epoch), row.train_loss));
    }
    let first = epochs.iter().map(|r| r.epoch).min()?;
    let last = epochs.iter().map(|r| r.epoch).max()?.max(first + 1);
    let top = epochs.iter().map(|r| r.train_loss).fold(0.0, f64::max) * 1.05;
    let svg = draw(|area| {
        let range = f64::from(first)..f64::from(last);
        let mut chart = axes!(area, range, 0.0..top.max(1e-3), "epoch", "training loss (nats)", 0, 20);
        for points in folds.values() {
            chart.draw_series(LineSeries::new(points.clone(), ACCENT.mix(0.6).stroke_width(2)))?;
        }
        // One or two epochs would be too short a line to see.
        let points = folds.values().flatten().filter(|_| last < first + 3);
        chart.draw_series(points.map(|p| Circle::new(*p, 3, ACCENT.filled())))?;
        Ok(())
    });
    Some(Figure {
        name: "learning",
        title: "Learning curves",
        caption: format!(
            "Mean cross-entropy on the training images, one line per fold ({}). There is no validation curve: the \
             recipe fixes the number of epochs, and training never sees a test image.",
            if folds.len() == 1 { "1 fold".into() } else { format!("{} folds", folds.len()) }
        ),
        svg,
    })
}

/// Confusion matrix over all folds.
pub(crate) fn confusion(metrics: &[MetricRow]) -> Figure {
    let mut counts = [[0u64; Class::COUNT]; Class::COUNT];
    for row in metrics.iter().filter(|m| m.metric == Metric::Confusion && m.fold.is_none()) {
        if let (Some(truth), Some(predicted)) = (row.class, row.predicted) {
            counts[truth.index()][predicted.index()] = row.images;
        }
    }
    let svg = draw(|area| {
        let (left, top, width, height) = (LEFT + 24, 58, 84, 66);
        for (i, class) in Class::ALL.into_iter().enumerate() {
            let i = i as i32;
            let row = (left - 10, top + i * height + height / 2);
            text(area, class.title(), row, aligned(LARGE, HPos::Right, VPos::Center))?;
            let column = (left + i * width + width / 2, top - 10);
            text(area, class.title(), column, aligned(LARGE, HPos::Center, VPos::Bottom))?;
        }
        text(area, "predicted class", (left + width * 5 / 2, 8), aligned(LARGE, HPos::Center, VPos::Top))?;
        text(area, "true class", (14, top + height * 5 / 2), rotated(LARGE))?;
        for (truth, row) in counts.iter().enumerate() {
            let all: u64 = row.iter().sum();
            for (predicted, n) in row.iter().enumerate() {
                let share = if all > 0 { *n as f64 / all as f64 } else { 0.0 };
                let (x, y) = (left + predicted as i32 * width, top + truth as i32 * height);
                let colour = if truth == predicted { COLOURS[2] } else { COLOURS[1] };
                // The square root keeps small shares visible.
                let fill = colour.mix(if *n > 0 { 0.1 + 0.5 * share.sqrt() } else { 0.0 });
                area.draw(&Rectangle::new([(x, y), (x + width - 2, y + height - 2)], fill.filled()))?;
                area.draw(&Rectangle::new([(x, y), (x + width - 2, y + height - 2)], FAINT))?;
                let (x, y) = (x + width / 2 - 1, y + height / 2 - 1);
                let centred = |size| aligned(size, HPos::Center, VPos::Center);
                if *n == 0 {
                    text(area, "0", (x, y), centred(LARGE).color(&INK.mix(0.5)))?;
                    continue;
                }
                text(area, n.to_string(), (x, y - 10), centred(19.0))?;
                text(area, format!("{:.1} %", 100.0 * share), (x, y + 11), centred(SMALL))?;
            }
        }
        Ok(())
    });
    Figure {
        name: "confusion",
        title: "Confusion matrix",
        caption: "Test images of all finished folds: one row per true class, one column per predicted class; \
                  percentages are of the row."
            .into(),
        svg,
    }
}

/// Recall of each class with its Wilson interval; `None` where there are no intervals.
pub(crate) fn recall(intervals: &[IntervalRow]) -> Option<Figure> {
    let wilson = |r: &&IntervalRow| r.metric == Metric::Recall && r.method == Method::Wilson;
    let of = |class| intervals.iter().filter(wilson).find(|r| r.class == Some(class));
    let rows: Vec<(Class, &IntervalRow)> = Class::ALL.into_iter().filter_map(|c| Some((c, of(c)?))).collect();
    if rows.is_empty() {
        return None;
    }
    let lowest = rows.iter().map(|(_, r)| r.low).fold(1.0, f64::min);
    let from = ((lowest * 20.0 - 0.1).floor() / 20.0).max(0.0);
    let svg = draw(|area| {
        let (top, bottom) = (12, HEIGHT as i32 - 60);
        let x = Scale { values: [100.0 * from, 100.0], px: [LEFT, WIDTH as i32 - 90] };
        x_axis(area, x, top, bottom, "recall, %")?;
        let step = (bottom - top) / rows.len() as i32;
        for (i, (class, row)) in rows.iter().enumerate() {
            let y = top + step * i as i32 + step / 2;
            let colour = COLOURS[class.index()];
            class_label(area, *class, y)?;
            let ends = [(x.at(100.0 * row.low), y), (x.at(100.0 * row.high), y)];
            area.draw(&PathElement::new(ends, colour.stroke_width(4)))?;
            area.draw(&Circle::new((x.at(100.0 * row.value), y), 7, colour.filled()))?;
            let value = format!("{:.1} %", 100.0 * row.value);
            text(area, value, (WIDTH as i32 - 10, y), aligned(LARGE, HPos::Right, VPos::Center))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "recall",
        title: "Recall per class",
        caption: "Share of each class's test images that are predicted correctly, all folds pooled, with 95 % \
                  intervals (Wilson). The axis may not start at 0."
            .into(),
        svg,
    })
}

/// Left edge of the legend right of a square chart, px.
const LEGEND: i32 = 438;

/// Reliability diagram: accuracy against confidence.
pub(crate) fn reliability(reliability: &Reliability) -> Figure {
    let most = reliability.bins.iter().map(|b| b.images).max().unwrap_or(1);
    let size = |images: u64| 3 + (6.0 * (images as f64 / most as f64).sqrt()) as i32;
    let svg = draw(|area| {
        let mut chart = axes!(area, 0.0..1.0, 0.0..1.0, "confidence", "accuracy", 1, 144);
        chart.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], INK.mix(0.5))])?;
        for bin in &reliability.bins {
            let correct = (bin.accuracy * bin.images as f64).round() as u64;
            let Some(interval) = wilson(correct, bin.images) else { continue };
            let ends = [(bin.confidence, interval.low), (bin.confidence, interval.high)];
            chart.draw_series([PathElement::new(ends, ACCENT.mix(0.6).stroke_width(2))])?;
        }
        let dots = reliability
            .bins
            .iter()
            .map(|b| Circle::new((b.confidence, b.accuracy), size(b.images), ACCENT.mix(0.8).filled()));
        chart.draw_series(dots)?;
        text(area, "images", (LEGEND, 30), aligned(LARGE, HPos::Left, VPos::Center))?;
        let fewest = reliability.bins.iter().map(|b| b.images).min().unwrap_or(1);
        let middle = ((fewest as f64 * most as f64).sqrt().round() as u64).clamp(fewest, most);
        for (i, images) in BTreeSet::from([fewest, middle, most]).into_iter().rev().enumerate() {
            let y = 58 + 26 * i as i32;
            area.draw(&Circle::new((LEGEND + 9, y), size(images), ACCENT.mix(0.8).filled()))?;
            text(area, images.to_string(), (LEGEND + 26, y), aligned(SMALL, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    Figure {
        name: "reliability",
        title: "Reliability",
        caption: format!(
            "Accuracy against confidence (the largest probability); vertical lines are 95 % intervals (Wilson), \
             the diagonal is perfect calibration. Expected calibration error (15 bins): {:.2} %.",
            100.0 * reliability.error
        ),
        svg,
    }
}

/// Precision against recall, one curve per class; `None` without curves.
pub(crate) fn precision_recall(curves: &[(Class, PrecisionRecall)]) -> Option<Figure> {
    if curves.is_empty() {
        return None;
    }
    // The axis starts where recall is at most 0.9: beyond it precision may fall to any value.
    let before = curves.iter().flat_map(|(_, c)| &c.points).filter(|p| p.0 <= 0.9);
    let from = (before.map(|p| p.1).fold(0.9, f64::min) * 10.0 - 1.0).floor().max(0.0) / 10.0;
    let svg = draw(|area| {
        let mut chart = axes!(area, 0.0..1.0, from..1.0, "recall", "precision", 1, 144);
        for (class, curve) in curves {
            let start = curve.points.first().map(|p| (0.0, p.1));
            let points = start.into_iter().chain(curve.points.iter().copied()).filter(|p| p.1 >= from);
            chart.draw_series(LineSeries::new(points, COLOURS[class.index()].stroke_width(2)))?;
        }
        for (i, (class, curve)) in curves.iter().enumerate() {
            let y = 24 + 50 * i as i32;
            area.draw(&PathElement::new([(LEGEND, y), (LEGEND + 20, y)], COLOURS[class.index()].stroke_width(4)))?;
            text(area, class.title(), (LEGEND + 26, y), aligned(LARGE, HPos::Left, VPos::Center))?;
            let average = format!("{:.2} %", 100.0 * curve.average_precision);
            text(area, average, (LEGEND + 26, y + 19), aligned(SMALL, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "precision-recall",
        title: "Precision and recall",
        caption: "Each class against all others as the threshold on its probability falls; the legend gives average \
                  precision. The vertical axis may not start at 0."
            .into(),
        svg,
    })
}
