//! Plots of a run: learning curves, confusion matrix, recall, reliability, precision and recall.

use super::palette::colours;
use super::svg::{
    ACCENT, Area, DrawResult, FAINT, Figure, INK, LARGE, RIGHT, Rows, SMALL, Scale, USUAL, WIDTH, WRONG, aligned, axes,
    draw, draw_with, hex, label, labels_width, rotated, text, text_width, x_axis,
};
use crate::class::{Class, Classes};
use crate::evaluate::curves::{self, Covered, PrecisionRecall, Reliability};
use crate::png::escaped;
use crate::rows::{EpochRow, IntervalRow, MetricRow};
use crate::run::over_images;
use crate::scores::Metric;
use crate::statistics::wilson;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Training loss per epoch, one line per fold; `None` without epochs.
pub(crate) fn learning(epochs: &[EpochRow]) -> Option<Figure> {
    let mut folds: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for row in epochs {
        folds.entry(row.fold).or_default().push((f64::from(row.epoch), row.train_loss));
    }
    let first = epochs.iter().map(|r| r.epoch).min()?;
    let last = epochs.iter().map(|r| r.epoch).max()?.max(first + 1);
    let top = epochs.iter().map(|r| r.train_loss).fold(0.0, f64::max) * 1.05;
    let svg = draw(USUAL, |area| {
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
        size: USUAL,
        svg,
    })
}

/// Confusion matrix over all folds.
pub(crate) fn confusion(classes: &Classes, metrics: &[MetricRow]) -> Figure {
    let n = classes.len();
    let mut counts = vec![vec![0u64; n]; n];
    for row in metrics.iter().filter(|m| m.metric == Metric::Confusion && m.fold.is_none()) {
        let place = |class: Option<Class>| classes.index(class?);
        if let (Some(truth), Some(predicted)) = (place(row.class), place(row.predicted)) {
            counts[truth][predicted] = row.images;
        }
    }
    let matrix = Matrix::new(classes);
    let marks = if matrix.has_numbers() { String::new() } else { matrix.marks(classes, &counts) };
    let svg = draw_with(matrix.size, &marks, |area| {
        matrix.draw_names(area, classes)?;
        if matrix.has_numbers() { matrix.draw_counts(area, &counts) } else { Ok(()) }
    });
    let numbers = match matrix.has_numbers() {
        true if matrix.has_shares() => "percentages are of the row.",
        true => "colours are shares of the row.",
        false => "colours are shares of the row. The numbers of images are in metrics.parquet.",
    };
    Figure {
        name: "confusion",
        title: "Confusion matrix",
        caption: format!(
            "Test images of all finished folds: one row per true class, one column per predicted class; {numbers}"
        ),
        size: matrix.size,
        svg,
    }
}

/// The layout of a confusion matrix, px.
struct Matrix {
    left: i32,
    top: i32,
    /// Width and height of a cell.
    width: i32,
    height: i32,
    /// Size of the classes' names.
    font: f64,
    /// Whether the names above the columns read from bottom to top.
    upright: bool,
    size: [i32; 2],
}

impl Matrix {
    /// Width of a matrix of many classes.
    const WIDEST: i32 = 1000;

    fn new(classes: &Classes) -> Self {
        let n = classes.len().max(1) as i32;
        // Up to five classes fit the usual size of figures.
        let (width, height) = match n {
            ..=5 => ((420 / n).min(130), (330 / n).min(100)),
            _ => {
                let width = (Self::WIDEST / n).min(72);
                (width, if width < 25 { width } else { width * 3 / 4 })
            }
        };
        let font = LARGE.min(1.2 * f64::from(height));
        let names = labels_width(classes.iter().map(|class| label(classes, class)), font);
        let upright = names > width;
        let (left, top) = (132.max(names + 46), if upright { names + 48 } else { 58 });
        let size = [WIDTH.max(left + n * width + 8), top + n * height + 12];
        Self { left, top, width, height, font, upright, size }
    }

    /// Whether a cell has space for a number of images.
    fn has_numbers(&self) -> bool {
        self.width >= 25
    }

    /// Whether a cell has space for a percentage too.
    fn has_shares(&self) -> bool {
        self.width >= 60
    }

    /// Left and top edge of a cell.
    fn cell(&self, truth: usize, predicted: usize) -> (i32, i32) {
        (self.left + predicted as i32 * self.width, self.top + truth as i32 * self.height)
    }

    fn draw_names(&self, area: &Area, classes: &Classes) -> DrawResult {
        for (i, class) in classes.iter().enumerate() {
            let (x, y) = self.cell(i, i);
            let row = (self.left - 10, y + self.height / 2);
            text(area, label(classes, class), row, aligned(self.font, HPos::Right, VPos::Center))?;
            let column = (x + self.width / 2, self.top - 10);
            let style = match self.upright {
                true => rotated(self.font).pos(Pos::new(HPos::Left, VPos::Center)),
                false => aligned(self.font, HPos::Center, VPos::Bottom),
            };
            text(area, label(classes, class), column, style)?;
        }
        let n = classes.len() as i32;
        let across = (self.left + self.width * n / 2, 8);
        text(area, "predicted class", across, aligned(LARGE, HPos::Center, VPos::Top))?;
        text(area, "true class", (14, self.top + self.height * n / 2), rotated(LARGE))
    }

    /// The colour of a cell. The square root keeps small shares visible.
    fn fill(truth: usize, predicted: usize, images: u64, share: f64) -> RGBAColor {
        let colour = if truth == predicted { RIGHT } else { WRONG };
        colour.mix(if images > 0 { 0.1 + 0.5 * share.sqrt() } else { 0.0 })
    }

    fn draw_counts(&self, area: &Area, counts: &[Vec<u64>]) -> DrawResult {
        let centred = |size| aligned(size, HPos::Center, VPos::Center);
        for (truth, predicted, n, share) in cells(counts) {
            let (x, y) = self.cell(truth, predicted);
            let corners = [(x, y), (x + self.width - 2, y + self.height - 2)];
            area.draw(&Rectangle::new(corners, Self::fill(truth, predicted, n, share).filled()))?;
            area.draw(&Rectangle::new(corners, FAINT))?;
            let (x, y) = (x + self.width / 2 - 1, y + self.height / 2 - 1);
            let number = n.to_string();
            // As large as fits.
            let fitting = |most: f64| most.min(f64::from(self.width - 4) / text_width(number.len(), 1.0).max(1) as f64);
            if n == 0 {
                text(area, "0", (x, y), centred(LARGE.min(0.6 * f64::from(self.height))).color(&INK.mix(0.5)))?;
            } else if self.has_shares() {
                text(area, number.clone(), (x, y - 10), centred(fitting(19.0)))?;
                text(area, format!("{:.1} %", 100.0 * share), (x, y + 11), centred(SMALL))?;
            } else {
                text(area, number.clone(), (x, y), centred(fitting(LARGE)))?;
            }
        }
        Ok(())
    }

    /// The cells of a matrix without numbers, each with a text that a browser shows under the pointer.
    fn marks(&self, classes: &Classes, counts: &[Vec<u64>]) -> String {
        let (right, bottom) = self.cell(counts.len(), counts.len());
        let mut marks = format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#040506\"/>",
            self.left,
            self.top,
            right - self.left,
            bottom - self.top
        );
        for (truth, predicted, n, share) in cells(counts).filter(|(.., n, _)| *n > 0) {
            let (x, y) = self.cell(truth, predicted);
            let RGBAColor(r, g, b, opacity) = Self::fill(truth, predicted, n, share);
            let (width, height, fill) = (self.width, self.height, hex([r, g, b]));
            let title =
                format!("{}, predicted {}: {n} ({:.1} %)", classes.at(truth), classes.at(predicted), 100.0 * share);
            let _ = write!(
                marks,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\" \
                 fill-opacity=\"{opacity:.2}\"><title>{}</title></rect>",
                escaped(&title)
            );
        }
        marks
    }
}

/// The cells of a confusion matrix: true class, predicted class, images, and their share of the true class.
fn cells(counts: &[Vec<u64>]) -> impl Iterator<Item = (usize, usize, u64, f64)> + '_ {
    counts.iter().enumerate().flat_map(|(truth, row)| {
        let all: u64 = row.iter().sum();
        let share = move |n: u64| if all > 0 { n as f64 / all as f64 } else { 0.0 };
        row.iter().enumerate().map(move |(predicted, n)| (truth, predicted, *n, share(*n)))
    })
}

/// Recall of each class with its interval, Wilson's or by patient or slide; `None` where there are no intervals.
pub(crate) fn recall(classes: &Classes, intervals: &[IntervalRow]) -> Option<Figure> {
    let of = |class| over_images(intervals, Metric::Recall, Some(class));
    let recalls = classes.iter().zip(colours(classes)).filter_map(|(class, colour)| Some((class, colour, of(class)?)));
    let recalls: Vec<(Class, RGBColor, &IntervalRow)> = recalls.collect();
    let method = recalls.first()?.2.method;
    let rows = Rows::new(classes, recalls.iter().map(|(class, ..)| *class), 12, 60);
    let lowest = recalls.iter().map(|(.., r)| r.low).fold(1.0, f64::min);
    let from = ((lowest * 20.0 - 0.1).floor() / 20.0).max(0.0);
    let svg = draw(rows.size, |area| {
        let x = Scale { values: [100.0 * from, 100.0], px: [rows.left, WIDTH - 90] };
        x_axis(area, x, rows.top, rows.bottom, "recall, %")?;
        rows.draw_labels(area)?;
        for (i, (_, colour, row)) in recalls.iter().enumerate() {
            let y = rows.middle(i);
            let ends = [(x.at(100.0 * row.low), y), (x.at(100.0 * row.high), y)];
            area.draw(&PathElement::new(ends, colour.stroke_width(4)))?;
            area.draw(&Circle::new((x.at(100.0 * row.value), y), 7, colour.filled()))?;
            let value = format!("{:.1} %", 100.0 * row.value);
            text(area, value, (WIDTH - 10, y), aligned(LARGE, HPos::Right, VPos::Center))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "recall",
        title: "Recall per class",
        caption: format!(
            "Share of each class's test images that are predicted correctly, all folds pooled, with 95 % intervals \
             ({}). The axis may not start at 0.",
            method.cluster().map_or("Wilson".into(), |cluster| format!("by {cluster}"))
        ),
        size: rows.size,
        svg,
    })
}

/// Left edge of the legend right of a square chart, px.
const LEGEND: i32 = 438;

/// Reliability diagram: accuracy against confidence.
pub(crate) fn reliability(reliability: &Reliability) -> Figure {
    let most = reliability.bins.iter().map(|b| b.images).max().unwrap_or(1);
    let size = |images: u64| 3 + (6.0 * (images as f64 / most as f64).sqrt()) as i32;
    let svg = draw(USUAL, |area| {
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
        size: USUAL,
        svg,
    }
}

/// Accuracy against coverage: see [`curves::coverage`].
pub(crate) fn coverage(points: &[Covered]) -> Figure {
    let svg = draw(USUAL, |area| {
        let mut chart =
            axes!(area, 0.0..1.0, 0.0..1.0, "share of the images, most confident first", "accuracy", 1, 144);
        let ends = points.iter().map(|point| (point.coverage, point.accuracy));
        chart.draw_series([PathElement::new(ends.collect::<Vec<_>>(), ACCENT.stroke_width(2))])?;
        let dots = curves::quarters(points);
        chart.draw_series(dots.iter().map(|p| Circle::new((p.coverage, p.accuracy), 5, ACCENT.filled())))?;
        Ok(())
    });
    let quarters = curves::quarters(points);
    let quarter = |point: &Covered| format!("{:.0} %: {:.1} %", 100.0 * point.coverage, 100.0 * point.accuracy);
    Figure {
        name: "coverage",
        title: "Accuracy against coverage",
        caption: format!(
            "Accuracy of the most confident predictions, where all others are left to a person. Most confident {}.",
            quarters.iter().map(quarter).collect::<Vec<_>>().join(", ")
        ),
        size: USUAL,
        svg,
    }
}

/// Precision against recall, one curve per class, in class order; `None` without curves.
pub(crate) fn precision_recall(classes: &Classes, curves: &[(Class, PrecisionRecall)]) -> Option<Figure> {
    if curves.is_empty() {
        return None;
    }
    // The axis starts where recall is at most 0.9: beyond it precision may fall to any value.
    let before = curves.iter().flat_map(|(_, c)| &c.points).filter(|p| p.0 <= 0.9);
    let from = (before.map(|p| p.1).fold(0.9, f64::min) * 10.0 - 1.0).floor().max(0.0) / 10.0;
    let named = worst(curves);
    let (apart, below) = if named.len() <= ROOMY { (50, true) } else { (21, false) };
    let names = labels_width(named.iter().map(|i| label(classes, curves[*i].0)), LARGE);
    let legend = 100.max(if below { names } else { names + 70 });
    let size = [WIDTH + legend - 100, USUAL[1].max(36 + apart * named.len() as i32)];
    let svg = draw(size, |area| {
        let mut chart = axes!(area, 0.0..1.0, from..1.0, "recall", "precision", 1, 44 + legend);
        let all = colours(classes);
        let colour = |i: usize| {
            let colour = classes.index(curves[i].0).map_or(INK, |class| all[class]);
            if named.contains(&i) { colour.to_rgba() } else { INK.mix(0.2) }
        };
        let (first, last): (Vec<usize>, Vec<usize>) = (0..curves.len()).partition(|i| !named.contains(i));
        for i in first.into_iter().chain(last) {
            let curve = &curves[i].1;
            let start = curve.points.first().map(|p| (0.0, p.1));
            let points = start.into_iter().chain(curve.points.iter().copied()).filter(|p| p.1 >= from);
            chart.draw_series(LineSeries::new(points, colour(i).stroke_width(2)))?;
        }
        for (row, i) in named.iter().enumerate() {
            let (class, curve) = &curves[*i];
            let y = 24 + apart * row as i32;
            area.draw(&PathElement::new([(LEGEND, y), (LEGEND + 20, y)], colour(*i).stroke_width(4)))?;
            text(area, label(classes, *class), (LEGEND + 26, y), aligned(LARGE, HPos::Left, VPos::Center))?;
            let average = format!("{:.2} %", 100.0 * curve.average_precision);
            let at = if below { (LEGEND + 26, y + 19) } else { (LEGEND + 34 + names, y) };
            text(area, average, at, aligned(SMALL, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    let others = match curves.len() - named.len() {
        0 => String::new(),
        n => format!(" The {NAMED} classes with the lowest are named, the other {n} are grey."),
    };
    Some(Figure {
        name: "precision-recall",
        title: "Precision and recall",
        caption: format!(
            "Each class against all others as the threshold on its probability falls; the legend gives average \
             precision. The vertical axis may not start at 0.{others}"
        ),
        size,
        svg,
    })
}

/// Curves in a legend with two lines per class.
const ROOMY: usize = 7;
/// Most curves that are named: more colours could not be told apart.
const NAMED: usize = 12;

/// The curves to name, in class order: those with the lowest average precision.
fn worst(curves: &[(Class, PrecisionRecall)]) -> Vec<usize> {
    let mut named: Vec<usize> = (0..curves.len()).collect();
    named.sort_by(|a, b| curves[*a].1.average_precision.total_cmp(&curves[*b].1.average_precision));
    named.truncate(NAMED);
    named.sort_unstable();
    named
}
