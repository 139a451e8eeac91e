//! Figures as SVG, by plotters. Text and lines take the colour of the page around them, so that they are read in
//! light and in dark; class colours are Okabe and Ito's, which colour-blind readers can tell apart.

use crate::class::Class;
use crate::evaluate::curves::{PrecisionRecall, Reliability};
use crate::rows::{EpochRow, IntervalRow};
use crate::statistics::wilson;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Stands for the page's colour of text.
const INK: RGBColor = RGBColor(1, 2, 3);
/// Stands for a faint one.
const FAINT: RGBColor = RGBColor(4, 5, 6);
/// The same in SVG: as drawn, on a page, and on white ground.
const STAND_INS: [[&str; 3]; 3] = [
    ["#010203", "currentColor", "#1b1f24"],
    ["#040506", "var(--faint, #d0d0d0)", "#d9dde2"],
    ["#0072B2", "var(--accent, #0072b2)", "#0072b2"],
];
/// On dark ground the page makes it lighter.
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const COLOURS: [RGBColor; Class::COUNT] = [
    BLUE,
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
];

/// Figures are this large, px: side by side on a page they line up.
const WIDTH: u32 = 560;
const HEIGHT: u32 = 400;
/// Where bars and the like begin, right of the classes' names.
const LEFT: i32 = 108;
/// Sizes of text; plotters' are 1.24 times those of SVG.
const SMALL: f64 = 16.0;
const USUAL: f64 = 18.0;

/// A figure: its file's name without extension, what it shows, and the picture.
pub struct Figure {
    pub name: &'static str,
    pub title: &'static str,
    /// What one must know to read it.
    pub caption: String,
    /// As drawn, with stand-ins for colours.
    drawn: String,
}

impl Figure {
    /// SVG that takes its colours, ground and width from the page around it.
    pub fn on_page(&self) -> String {
        let head = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\"");
        let fluid = format!(
            "<svg role=\"img\" aria-label=\"{}\" style=\"max-width:{WIDTH}px;width:100%;height:auto\"",
            self.title
        );
        let svg = self.drawn.replacen(&head, &fluid, 1);
        STAND_INS.iter().fold(svg, |svg, [drawn, page, _]| svg.replace(drawn, page))
    }

    /// SVG that is a file of its own, on white ground.
    pub fn alone(&self) -> String {
        let ground = "\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>";
        let at = self.drawn.find('>').map_or(0, |at| at + 1);
        let svg = format!("{}{ground}{}", &self.drawn[..at], &self.drawn[at..]);
        STAND_INS.iter().fold(svg, |svg, [drawn, _, white]| svg.replace(drawn, white))
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws to memory, where nothing fails.
fn draw(draw: impl FnOnce(&Area) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
        draw(&area).expect("memory takes everything");
        area.present().expect("memory takes everything");
    }
    text
}

/// [`draw`], and `marks` on top: what plotters has no short way to say.
fn draw_with(marks: &str, figure: impl FnOnce(&Area) -> Drawn) -> String {
    draw(figure).replace("</svg>", &format!("{marks}</svg>"))
}

/// Round dots, px, all in one path: a fortieth of the bytes of a circle each.
fn dots(points: impl IntoIterator<Item = (i32, i32)>, colour: RGBColor, width_px: f64, opacity: f64) -> String {
    let mut path = String::new();
    for (x, y) in points.into_iter().collect::<BTreeSet<_>>() {
        let _ = write!(path, "M{x} {y}h0");
    }
    format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width_px}\" stroke-opacity=\"{opacity}\" \
         stroke-linecap=\"round\"/>\n",
        hex([colour.0, colour.1, colour.2])
    )
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

fn font(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

fn anchored(size: f64, h: HPos, v: VPos) -> TextStyle<'static> {
    font(size).pos(Pos::new(h, v))
}

fn text(area: &Area, what: impl Into<String>, at: (i32, i32), style: TextStyle<'_>) -> Drawn {
    area.draw(&Text::new(what.into(), at, style))
}

/// A scale along an axis: values to px.
#[derive(Clone, Copy)]
struct Scale {
    values: [f64; 2],
    px: [i32; 2],
}

impl Scale {
    /// Rounded to px, and moved to the nearer end where it lies outside.
    fn at(&self, value: f64) -> i32 {
        let share = ((value - self.values[0]) / (self.values[1] - self.values[0])).clamp(0.0, 1.0);
        self.px[0] + (share * f64::from(self.px[1] - self.px[0])).round() as i32
    }

    /// Round numbers on the scale, about `n` of them, and the digits behind the point that they need.
    fn ticks(&self, n: f64) -> (Vec<f64>, usize) {
        let span = (self.values[1] - self.values[0]).abs();
        let rough = span / n;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let (low, high) = (self.values[0].min(self.values[1]), self.values[0].max(self.values[1]));
        let first = (low / step - 1e-9).ceil() as i64;
        let ticks = (first..).map(|i| i as f64 * step).take_while(|v| *v <= high + 1e-9 * span).collect();
        (ticks, (-step.log10().floor()).max(0.0) as usize)
    }
}

/// Vertical lines at round values of `x`, their numbers below, and what they are of.
fn x_axis(area: &Area, x: Scale, top: i32, bottom: i32, what: &str) -> Drawn {
    let (ticks, digits) = x.ticks(5.0);
    for v in ticks {
        area.draw(&PathElement::new([(x.at(v), top), (x.at(v), bottom)], FAINT))?;
        text(area, format!("{v:.digits$}"), (x.at(v), bottom + 6), anchored(SMALL, HPos::Center, VPos::Top))?;
    }
    text(area, what, ((x.px[0] + x.px[1]) / 2, bottom + 26), anchored(USUAL, HPos::Center, VPos::Top))
}

/// A class's name at the left, at the height `y`.
fn class_label(area: &Area, class: Class, y: i32) -> Drawn {
    text(area, class.title(), (LEFT - 10, y), anchored(USUAL, HPos::Right, VPos::Center))
}

/// A chart's axes from (x0, y0) to (x1, y1).
macro_rules! axes {
    ($area:expr, $x:expr, $y:expr, $x_label:expr, $y_label:expr, $x_digits:expr, $right:expr) => {{
        let mut chart = ChartBuilder::on($area)
            .margin(12)
            .margin_right($right)
            .x_label_area_size(50)
            .y_label_area_size(66)
            .build_cartesian_2d($x, $y)?;
        chart
            .configure_mesh()
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .label_style(font(SMALL))
            .axis_desc_style(font(USUAL))
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
    let first = epochs.iter().map(|r| r.epoch).min()?;
    let last = epochs.iter().map(|r| r.epoch).max()?.max(first + 1);
    let top = epochs.iter().map(|r| r.train_loss).fold(0.0, f64::max) * 1.05;
    let drawn = draw(|area| {
        let range = f64::from(first)..f64::from(last);
        let mut chart = axes!(area, range, 0.0..top.max(1e-3), "epoch", "training loss (nats)", 0, 20);
        for points in folds.values() {
            chart.draw_series(LineSeries::new(points.clone(), BLUE.mix(0.6).stroke_width(2)))?;
        }
        // An epoch or two make no line.
        let points = folds.values().flatten().filter(|_| last < first + 3);
        chart.draw_series(points.map(|p| Circle::new(*p, 3, BLUE.filled())))?;
        Ok(())
    });
    Some(Figure {
        name: "learning",
        title: "Learning curves",
        caption: format!(
            "Mean cross-entropy of the training images, a line a fold ({}). There is no validation curve: the number \
             of epochs is the recipe's, and training looks at no test image.",
            if folds.len() == 1 { "1 fold".into() } else { format!("{} folds", folds.len()) }
        ),
        drawn,
    })
}

/// How many images of each class were called what: `counts[truth][predicted]`.
pub fn confusion(counts: &[[u64; Class::COUNT]; Class::COUNT]) -> Figure {
    let drawn = draw(|area| {
        let (left, top, width, height) = (LEFT + 24, 58, 84, 66);
        for (i, class) in Class::ALL.into_iter().enumerate() {
            let i = i as i32;
            let row = (left - 10, top + i * height + height / 2);
            text(area, class.title(), row, anchored(USUAL, HPos::Right, VPos::Center))?;
            let column = (left + i * width + width / 2, top - 10);
            text(area, class.title(), column, anchored(USUAL, HPos::Center, VPos::Bottom))?;
        }
        text(area, "called", (left + width * 5 / 2, 8), anchored(USUAL, HPos::Center, VPos::Top))?;
        let turned = ("sans-serif", USUAL).into_font().transform(FontTransform::Rotate270).color(&INK);
        let turned = turned.pos(Pos::new(HPos::Center, VPos::Center));
        text(area, "true class", (14, top + height * 5 / 2), turned)?;
        for (truth, row) in counts.iter().enumerate() {
            let all: u64 = row.iter().sum();
            for (called, n) in row.iter().enumerate() {
                let share = if all > 0 { *n as f64 / all as f64 } else { 0.0 };
                let (x, y) = (left + called as i32 * width, top + truth as i32 * height);
                let colour = if truth == called { COLOURS[2] } else { COLOURS[1] };
                // A square root shows the few.
                let fill = colour.mix(if *n > 0 { 0.1 + 0.5 * share.sqrt() } else { 0.0 });
                area.draw(&Rectangle::new([(x, y), (x + width - 2, y + height - 2)], fill.filled()))?;
                area.draw(&Rectangle::new([(x, y), (x + width - 2, y + height - 2)], FAINT))?;
                let (x, y) = (x + width / 2 - 1, y + height / 2 - 1);
                let centred = |size| anchored(size, HPos::Center, VPos::Center);
                if *n == 0 {
                    text(area, "0", (x, y), centred(USUAL).color(&INK.mix(0.5)))?;
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
        caption: "Test images of all finished folds: a row a true class, a column what it was called; % of the row."
            .into(),
        drawn,
    }
}

/// Recall of each class with its interval.
pub fn recall(intervals: &[IntervalRow]) -> Option<Figure> {
    let of = |class| intervals.iter().find(|r| r.metric == "recall" && r.class == Some(class) && r.method == "wilson");
    let rows: Vec<(Class, &IntervalRow)> = Class::ALL.into_iter().filter_map(|c| Some((c, of(c)?))).collect();
    if rows.is_empty() {
        return None;
    }
    let lowest = rows.iter().map(|(_, r)| r.low).fold(1.0, f64::min);
    let from = ((lowest * 20.0 - 0.1).floor() / 20.0).max(0.0);
    let drawn = draw(|area| {
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
            text(area, value, (WIDTH as i32 - 10, y), anchored(USUAL, HPos::Right, VPos::Center))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "recall",
        title: "Recall a class",
        caption: "Share of each class's test images that was classified right, all folds together, with 95 % \
                  intervals (Wilson). The axis need not begin at 0."
            .into(),
        drawn,
    })
}

/// Right of a square chart: its legend's left edge, px.
const LEGEND: i32 = 438;

/// Confidence beside accuracy.
pub fn reliability(found: &Reliability) -> Figure {
    let most = found.bins.iter().map(|b| b.images).max().unwrap_or(1);
    let size = |images: u64| 3 + (6.0 * (images as f64 / most as f64).sqrt()) as i32;
    let drawn = draw(|area| {
        let mut chart = axes!(area, 0.0..1.0, 0.0..1.0, "confidence", "share that is right", 1, 144);
        chart.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], INK.mix(0.5))])?;
        for bin in &found.bins {
            let right = (bin.accuracy * bin.images as f64).round() as u64;
            let Some(interval) = wilson(right, bin.images) else { continue };
            let ends = [(bin.confidence, interval.low), (bin.confidence, interval.high)];
            chart.draw_series([PathElement::new(ends, BLUE.mix(0.6).stroke_width(2))])?;
        }
        let dots =
            found.bins.iter().map(|b| Circle::new((b.confidence, b.accuracy), size(b.images), BLUE.mix(0.8).filled()));
        chart.draw_series(dots)?;
        text(area, "images", (LEGEND, 30), anchored(USUAL, HPos::Left, VPos::Center))?;
        let fewest = found.bins.iter().map(|b| b.images).min().unwrap_or(1);
        let middle = ((fewest as f64 * most as f64).sqrt().round() as u64).clamp(fewest, most);
        for (i, images) in BTreeSet::from([fewest, middle, most]).into_iter().rev().enumerate() {
            let y = 58 + 26 * i as i32;
            area.draw(&Circle::new((LEGEND + 9, y), size(images), BLUE.mix(0.8).filled()))?;
            text(area, images.to_string(), (LEGEND + 26, y), anchored(SMALL, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    Figure {
        name: "reliability",
        title: "Reliability",
        caption: format!(
            "How often the run is right where it says how sure it is; lines are 95 % intervals (Wilson), the \
             diagonal is perfect. Expected calibration error (15 bins): {:.2} %.",
            100.0 * found.error
        ),
        drawn,
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
    let drawn = draw(|area| {
        let mut chart = axes!(area, 0.0..1.0, from..1.0, "recall", "precision", 1, 144);
        for (class, curve) in curves {
            let start = curve.points.first().map(|p| (0.0, p.1));
            let points = start.into_iter().chain(curve.points.iter().copied()).filter(|p| p.1 >= from);
            chart.draw_series(LineSeries::new(points, COLOURS[class.index()].stroke_width(2)))?;
        }
        for (i, (class, curve)) in curves.iter().enumerate() {
            let y = 24 + 50 * i as i32;
            area.draw(&PathElement::new([(LEGEND, y), (LEGEND + 20, y)], COLOURS[class.index()].stroke_width(4)))?;
            text(area, class.title(), (LEGEND + 26, y), anchored(USUAL, HPos::Left, VPos::Center))?;
            let average = format!("{:.2} %", 100.0 * curve.average_precision);
            text(area, average, (LEGEND + 26, y + 19), anchored(SMALL, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    Some(Figure {
        name: "precision-recall",
        title: "Precision and recall",
        caption:
            "Each class against the others as its probability's threshold falls; beside it the average precision. The \
                  vertical axis need not begin at 0."
                .into(),
        drawn,
    })
}

/// Cells a class: those that can be used, and those that are left out.
pub fn classes(counts: &[[u64; 2]; Class::COUNT]) -> Figure {
    let all: u64 = counts.iter().flatten().sum();
    let most = counts.iter().map(|c| c[0] + c[1]).max().unwrap_or(0).max(1);
    let drawn = draw(|area| {
        let (top, bottom) = (12, HEIGHT as i32 - 60);
        let x = Scale { values: [0.0, most as f64], px: [LEFT, WIDTH as i32 - 130] };
        x_axis(area, x, top, bottom, "cells")?;
        let step = (bottom - top) / Class::COUNT as i32;
        for (class, [used, left_out]) in Class::ALL.into_iter().zip(counts) {
            let y = top + step * class.index() as i32 + step / 2;
            class_label(area, class, y)?;
            let (end, whole) = (x.at(*used as f64), x.at((used + left_out) as f64));
            let colour = COLOURS[class.index()];
            area.draw(&Rectangle::new([(LEFT, y - 18), (end, y + 18)], colour.filled()))?;
            area.draw(&Rectangle::new([(end, y - 18), (whole, y + 18)], colour.mix(0.35).filled()))?;
            let n = used + left_out;
            let said = format!("{} ({:.1} %)", crate::report::thousands(n), 100.0 * n as f64 / all.max(1) as f64);
            text(area, said, (whole + 8, y), anchored(USUAL, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    Figure {
        name: "classes",
        title: "Cells of each class",
        caption: match counts.iter().map(|c| c[1]).sum::<u64>() {
            0 => "By the data set's labels.".into(),
            n => format!("By the data set's labels; the paler part ({n} cells) is left out from the split on."),
        },
        drawn,
    }
}

/// A value of every cell, a row a class, with the class's median; `what` says of what and in which unit.
pub fn strips(title: &'static str, what: &str, caption: String, values: &[Vec<f64>; Class::COUNT]) -> Option<Figure> {
    let (low, high) =
        (values.iter().flatten().copied().reduce(f64::min)?, values.iter().flatten().copied().reduce(f64::max)?);
    let room = ((high - low) * 0.03).max(0.5);
    let x = Scale { values: [(low - room).max(low.min(0.0)), high + room], px: [LEFT, WIDTH as i32 - 16] };
    let (top, bottom) = (12, HEIGHT as i32 - 60);
    let step = (bottom - top) / Class::COUNT as i32;
    let mut marks = String::new();
    for (class, values) in Class::ALL.into_iter().zip(values) {
        let y = top + step * class.index() as i32 + step / 2;
        // Golden-ratio steps spread neighbours, and are the same every time.
        let beside = |i: usize| ((i as f64 * 0.618_033_988_75).fract() - 0.5) * f64::from(step) * 0.66;
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        if let Some(median) = sorted.get(sorted.len() / 2).filter(|_| sorted.len() > 2) {
            let (x, half) = (x.at(*median), step * 2 / 5);
            let _ =
                writeln!(marks, "<path d=\"M{x} {}v{}\" stroke=\"#010203\" stroke-width=\"3\"/>", y - half, 2 * half);
        }
        let points = values.iter().enumerate().map(|(i, v)| (x.at(*v), y + beside(i).round() as i32));
        marks += &dots(points, COLOURS[class.index()], 4.0, 0.7);
    }
    let drawn = draw_with(&marks, |area| {
        x_axis(area, x, top, bottom, what)?;
        Class::ALL
            .into_iter()
            .try_for_each(|class| class_label(area, class, top + step * class.index() as i32 + step / 2))
    });
    Some(Figure { name: "strips", title, caption, drawn })
}

/// The background colour of every image, a panel a class, all others in grey behind it.
pub fn backgrounds(colours: &[(Class, [f32; 3])]) -> Option<Figure> {
    const COLUMNS: i32 = 3;
    let point = |rgb: &[f32; 3]| {
        let [r, g, b] = rgb.map(f64::from);
        [r - b, (r + g + b) / 3.0]
    };
    // All of them, but for those far beyond the middle 98 %: a single black image must not press the others together.
    let range = |axis: usize| {
        let mut values: Vec<f64> = colours.iter().map(|(_, c)| point(c)[axis]).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() - 1) as f64).round() as usize).copied();
        let (low, high) = (at(0.01)?, at(0.99)?);
        let far = 2.0 * (high - low).max(2.0);
        let (low, high) = (at(0.0)?.max(low - far), at(1.0)?.min(high + far));
        let room = ((high - low) * 0.06).max(1.0);
        Some([low - room, high + room])
    };
    if colours.is_empty() {
        return None;
    }
    let (across, up) = (range(0)?, range(1)?);
    let (left, top, width, height) = (62, 28, 148, 130);
    let panel = |class: Class| {
        let (column, row) = (class.index() as i32 % COLUMNS, class.index() as i32 / COLUMNS);
        let (x, y) = (left + column * (width + 16), top + row * (height + 42));
        (Scale { values: across, px: [x, x + width] }, Scale { values: up, px: [y + height, y] })
    };
    let mut marks = String::new();
    for class in Class::ALL {
        let (x, y) = panel(class);
        let place = |(_, c): &&(Class, [f32; 3])| {
            let [across, up] = point(c);
            (x.at(across), y.at(up))
        };
        let (own, others): (Vec<_>, Vec<_>) = colours.iter().partition(|(c, _)| *c == class);
        marks += &dots(others.iter().map(place), INK, 3.0, 0.2);
        marks += &dots(own.iter().map(place), COLOURS[class.index()], 3.0, 0.6);
    }
    let drawn = draw_with(&marks, |area| {
        for class in Class::ALL {
            let (x, y) = panel(class);
            let ([left, right], [bottom, top]) = (x.px, y.px);
            area.draw(&Rectangle::new([(left, top), (right, bottom)], FAINT))?;
            text(area, class.title(), ((left + right) / 2, top - 6), anchored(USUAL, HPos::Center, VPos::Bottom))?;
            // Two rows of panels: numbers stand at the left of each and below the last of each column.
            if class.index() as i32 % COLUMNS == 0 {
                let (ticks, digits) = y.ticks(3.0);
                for v in ticks {
                    text(
                        area,
                        format!("{v:.digits$}"),
                        (left - 6, y.at(v)),
                        anchored(SMALL, HPos::Right, VPos::Center),
                    )?;
                }
            }
            if class.index() + COLUMNS as usize >= Class::COUNT {
                let (ticks, digits) = x.ticks(3.0);
                for v in ticks {
                    text(
                        area,
                        format!("{v:.digits$}"),
                        (x.at(v), bottom + 6),
                        anchored(SMALL, HPos::Center, VPos::Top),
                    )?;
                }
            }
        }
        let middle = left + width + 8;
        text(
            area,
            "red minus blue, grey levels",
            (middle, HEIGHT as i32 - 18),
            anchored(USUAL, HPos::Center, VPos::Center),
        )?;
        let turned = ("sans-serif", USUAL).into_font().transform(FontTransform::Rotate270).color(&INK);
        let turned = turned.pos(Pos::new(HPos::Center, VPos::Center));
        text(area, "brightness, grey levels", (10, top + height + 21), turned)
    });
    Some(Figure {
        name: "backgrounds",
        title: "Background of each image",
        caption: "Colour of the plasma around the cells, a dot an image: to the right warmer (yellow, pink), to the \
                  left bluer, up brighter; the other classes in grey. Heaps are batches: slides, days, stains or \
                  microscopes. A dot at the edge lies beyond it."
            .into(),
        drawn,
    })
}

/// Background colours in the order of the images, as they are, a row a class.
pub fn order(colours: &[(Class, [f32; 3])]) -> Figure {
    const COLUMNS: usize = 144;
    let (top, bottom) = (8, HEIGHT as i32 - 34);
    let step = (bottom - top) / Class::COUNT as i32;
    let mut marks = String::from("<g shape-rendering=\"crispEdges\">");
    for class in Class::ALL {
        let own: Vec<[f32; 3]> = colours.iter().filter(|(c, _)| *c == class).map(|(_, rgb)| *rgb).collect();
        let columns = own.len().min(COLUMNS);
        let x = Scale { values: [0.0, columns as f64], px: [LEFT, WIDTH as i32 - 10] };
        let y = top + step * class.index() as i32 + 5;
        for i in 0..columns {
            let part = &own[i * own.len() / columns..(i + 1) * own.len() / columns];
            let mean =
                [0, 1, 2].map(|c| (part.iter().map(|rgb| rgb[c]).sum::<f32>() / part.len() as f32).round() as u8);
            let (from, to) = (x.at(i as f64), x.at(i as f64 + 1.0));
            let _ =
                write!(marks, "<path d=\"M{from} {y}h{}v{}H{from}z\" fill=\"{}\"/>", to - from, step - 10, hex(mean));
        }
    }
    marks += "</g>\n";
    let drawn = draw_with(&marks, |area| {
        for class in Class::ALL {
            let y = top + step * class.index() as i32;
            class_label(area, class, y + step / 2)?;
            area.draw(&Rectangle::new([(LEFT - 1, y + 4), (WIDTH as i32 - 10, y + step - 5)], FAINT))?;
        }
        let middle = (LEFT + WIDTH as i32 - 10) / 2;
        text(area, "first file to last, by name", (middle, bottom + 8), anchored(USUAL, HPos::Center, VPos::Top))
    });
    Figure {
        name: "order",
        title: "Backgrounds in the order of the files",
        caption: "The background colours themselves, from the first file of each class to the last. Steps are \
                  batches; a class whose row looks unlike the others' can be told by its background alone."
            .into(),
        drawn,
    }
}
