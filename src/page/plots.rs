//! Figures as SVG, by plotters. Text and lines take the colour of the page around them, so that they are read in light and
//! in dark; class colours are Okabe and Ito's, which colour-blind readers can tell apart.

use crate::class::Class;
use crate::evaluate::curves::{PrecisionRecall, Reliability};
use crate::rows::{EpochRow, IntervalRow};
use crate::statistics::wilson;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::BTreeMap;

/// Stands for the page's colour of text.
const INK: RGBColor = RGBColor(1, 2, 3);
/// Stands for a faint one.
const FAINT: RGBColor = RGBColor(4, 5, 6);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const COLOURS: [RGBColor; Class::COUNT] = [
    BLUE,
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
];

/// A figure: its file's name without extension, what it shows, and the picture.
pub struct Figure {
    pub name: &'static str,
    pub title: &'static str,
    /// What one must know to read it.
    pub caption: String,
    pub svg: String,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws to memory, where nothing fails.
fn svg(width: u32, height: u32, label: &str, draw: impl FnOnce(&Area) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area).expect("memory takes everything");
        area.present().expect("memory takes everything");
    }
    let head = format!("<svg width=\"{width}\" height=\"{height}\"");
    let fluid =
        format!("<svg role=\"img\" aria-label=\"{label}\" style=\"max-width:{width}px;width:100%;height:auto\"");
    text.replace("#010203", "currentColor").replace("#040506", "var(--faint, #d0d0d0)").replacen(&head, &fluid, 1)
}

fn font(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn anchored(size: f64, h: HPos, v: VPos) -> TextStyle<'static> {
    font(size).pos(Pos::new(h, v))
}

/// A chart's axes from (x0, y0) to (x1, y1).
macro_rules! axes {
    ($area:expr, $x:expr, $y:expr, $x_label:expr, $y_label:expr, $x_digits:expr) => {{
        let mut chart = ChartBuilder::on($area)
            .margin(8)
            .margin_right(20)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d($x, $y)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .label_style(font(13.0))
            .axis_desc_style(font(14.0))
            .x_desc($x_label)
            .y_desc($y_label)
            .x_labels(8)
            .x_label_formatter(&|v: &f64| format!("{v:.*}", $x_digits))
            .y_labels(6)
            .draw()?;
        chart
    }};
}

/// Loss of training, a line a fold.
pub fn learning(epochs: &[EpochRow]) -> Option<Figure> {
    let mut folds: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
    for row in epochs {
        folds.entry(row.fold).or_default().push((f64::from(row.epoch), row.train_loss));
    }
    let last = epochs.iter().map(|r| r.epoch).max()?;
    let top = epochs.iter().map(|r| r.train_loss).fold(0.0, f64::max) * 1.05;
    let svg = svg(560, 320, "Training loss by epoch", |area| {
        let mut chart = axes!(area, 0.0..f64::from(last), 0.0..top.max(1e-3), "epoch", "training loss (nats)", 0);
        for points in folds.values() {
            chart.draw_series(LineSeries::new(points.clone(), BLUE.mix(0.6).stroke_width(1)))?;
        }
        // An epoch or two make no line.
        let points = folds.values().flatten().filter(|_| last < 3);
        chart.draw_series(points.map(|p| Circle::new(*p, 3, BLUE.filled())))?;
        Ok(())
    });
    Some(Figure {
        name: "learning",
        title: "Learning curves",
        caption: format!(
            "Mean cross-entropy of the training images, a line a fold ({} folds). There is no validation curve: the number of \
             epochs is the recipe's, and no choice was made on a test fold.",
            folds.len()
        ),
        svg,
    })
}

/// How many images of each class were called what: `counts[truth][predicted]`.
pub fn confusion(counts: &[[u64; Class::COUNT]; Class::COUNT]) -> Figure {
    let svg = svg(560, 440, "Confusion matrix", |area| {
        let (left, top, side) = (110, 52, 84);
        for (i, class) in Class::ALL.into_iter().enumerate() {
            let at = i as i32 * side + side / 2;
            area.draw(&Text::new(
                class.title(),
                (left - 8, top + at * 9 / 10),
                anchored(14.0, HPos::Right, VPos::Center),
            ))?;
            area.draw(&Text::new(class.title(), (left + at, top - 8), anchored(14.0, HPos::Center, VPos::Bottom)))?;
        }
        let middle = left + side * 5 / 2;
        area.draw(&Text::new("called", (middle, 6), anchored(14.0, HPos::Center, VPos::Top)))?;
        let height = side * 9 / 10;
        for (truth, row) in counts.iter().enumerate() {
            let all: u64 = row.iter().sum();
            for (called, n) in row.iter().enumerate() {
                let share = if all > 0 { *n as f64 / all as f64 } else { 0.0 };
                let (x, y) = (left + called as i32 * side, top + truth as i32 * height);
                let colour = if truth == called { COLOURS[2] } else { COLOURS[1] };
                // A square root shows the few.
                let fill = colour.mix(0.75 * share.sqrt());
                area.draw(&Rectangle::new([(x, y), (x + side - 2, y + height - 2)], fill.filled()))?;
                area.draw(&Rectangle::new([(x, y), (x + side - 2, y + height - 2)], FAINT))?;
                let centre = (x + side / 2, y + height / 2);
                area.draw(&Text::new(
                    n.to_string(),
                    (centre.0, centre.1 - 9),
                    anchored(15.0, HPos::Center, VPos::Center),
                ))?;
                let percent = format!("{:.1} %", 100.0 * share);
                area.draw(&Text::new(percent, (centre.0, centre.1 + 11), anchored(12.0, HPos::Center, VPos::Center)))?;
            }
        }
        Ok(())
    });
    Figure {
        name: "confusion",
        title: "Confusion matrix",
        caption: "Test images of all finished folds: a row a true class, a column what it was called; % of the row."
            .into(),
        svg,
    }
}

/// Recall of each class with its interval.
pub fn recall(intervals: &[IntervalRow]) -> Option<Figure> {
    let of = |class| intervals.iter().find(|r| r.metric == "recall" && r.class == Some(class) && r.method == "wilson");
    let rows: Vec<(Class, &IntervalRow)> = Class::ALL.into_iter().filter_map(|c| Some((c, of(c)?))).collect();
    let lowest = rows.iter().map(|(_, r)| r.low).fold(1.0, f64::min);
    let from = ((lowest * 20.0 - 0.1).floor() / 20.0).max(0.0);
    if rows.is_empty() {
        return None;
    }
    let svg = svg(560, 260, "Recall of each class with 95 % intervals", |area| {
        let (left, right, top, step) = (110, 540, 16, 40);
        let x = |v: f64| left + ((v - from) / (1.0 - from) * f64::from(right - left)) as i32;
        let bottom = top + step * rows.len() as i32;
        for i in 0..=5 {
            let v = from + (1.0 - from) * f64::from(i) / 5.0;
            area.draw(&PathElement::new([(x(v), top), (x(v), bottom)], FAINT))?;
            let text = format!("{:.1}", 100.0 * v);
            area.draw(&Text::new(text, (x(v), bottom + 6), anchored(13.0, HPos::Center, VPos::Top)))?;
        }
        area.draw(&Text::new("recall, %", ((left + right) / 2, bottom + 24), anchored(14.0, HPos::Center, VPos::Top)))?;
        for (i, (class, row)) in rows.iter().enumerate() {
            let y = top + step * i as i32 + step / 2;
            let colour = COLOURS[class.index()];
            area.draw(&Text::new(class.title(), (left - 8, y), anchored(14.0, HPos::Right, VPos::Center)))?;
            area.draw(&PathElement::new([(x(row.low), y), (x(row.high), y)], colour.stroke_width(3)))?;
            area.draw(&Circle::new((x(row.value), y), 5, colour.filled()))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "recall",
        title: "Recall a class",
        caption: "Share of each class's test images that was classified right, all folds together, with 95 % intervals (Wilson). \
                  The axis does not begin at 0."
            .into(),
        svg,
    })
}

/// Confidence beside accuracy.
pub fn reliability(found: &Reliability) -> Figure {
    let most = found.bins.iter().map(|b| b.images).max().unwrap_or(1) as f64;
    let svg = svg(420, 400, "Reliability diagram", |area| {
        let mut chart = axes!(area, 0.0..1.0, 0.0..1.0, "confidence", "share that is right", 1);
        chart.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], INK.mix(0.5))])?;
        for bin in &found.bins {
            let right = (bin.accuracy * bin.images as f64).round() as u64;
            let Some(interval) = wilson(right, bin.images) else { continue };
            let ends = [(bin.confidence, interval.low), (bin.confidence, interval.high)];
            chart.draw_series([PathElement::new(ends, BLUE.mix(0.6))])?;
        }
        let size = |images: u64| 3 + (7.0 * (images as f64 / most).sqrt()) as i32;
        let dots =
            found.bins.iter().map(|b| Circle::new((b.confidence, b.accuracy), size(b.images), BLUE.mix(0.8).filled()));
        chart.draw_series(dots)?;
        Ok(())
    });
    Figure {
        name: "reliability",
        title: "Reliability",
        caption: format!(
            "How often the run is right where it says how sure it is; larger dots hold more images, lines are 95 % intervals \
             (Wilson), the diagonal is perfect. Expected \
             calibration error (15 bins): {:.2} %.",
            100.0 * found.error
        ),
        svg,
    }
}

/// Precision over recall, a curve a class.
pub fn precision_recall(curves: &[(Class, PrecisionRecall)]) -> Option<Figure> {
    if curves.is_empty() {
        return None;
    }
    // What happens before the last tenth of a class is called is what a reader wants to see.
    let before = curves.iter().flat_map(|(_, c)| &c.points).filter(|p| p.0 <= 0.9);
    let from = (before.map(|p| p.1).fold(0.9, f64::min) * 10.0 - 1.0).floor().max(0.0) / 10.0;
    let svg = svg(420, 400, "Precision-recall curves", |area| {
        let mut chart = axes!(area, 0.0..1.0, from..1.0, "recall", "precision", 1);
        for (class, curve) in curves {
            let start = curve.points.first().map(|p| (0.0, p.1));
            let points = start.into_iter().chain(curve.points.iter().copied()).filter(|p| p.1 >= from);
            chart.draw_series(LineSeries::new(points, COLOURS[class.index()].stroke_width(2)))?;
        }
        for (i, (class, curve)) in curves.iter().enumerate() {
            let y = 250 + 20 * i as i32;
            area.draw(&PathElement::new([(84, y), (104, y)], COLOURS[class.index()].stroke_width(3)))?;
            let text = format!("{} ({:.2} %)", class.title(), 100.0 * curve.average_precision);
            area.draw(&Text::new(text, (110, y), anchored(13.0, HPos::Left, VPos::Center)))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "precision-recall",
        title: "Precision and recall",
        caption:
            "Each class against the others as its probability's threshold falls; in brackets the average precision. The vertical axis need not begin at 0."
                .into(),
        svg,
    })
}
