//! A figure as SVG, and what all plots are drawn with. Text and lines take the colour of the page around them, so that
//! they can be read in light and dark mode. The classes' colours are in `palette`.

use crate::class::{Class, Classes};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Placeholder for the page's text colour.
pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
/// Placeholder for a faint line.
pub(super) const FAINT: RGBColor = RGBColor(4, 5, 6);
/// Each placeholder in SVG: as plotted, on a page, and on a white background.
const PLACEHOLDERS: [[&str; 3]; 3] = [
    ["#010203", "currentColor", "#1b1f24"],
    ["#040506", "var(--faint, #d0d0d0)", "#d9dde2"],
    ["#0072B2", "var(--accent, #0072b2)", "#0072b2"],
];
/// The first class's colour, and that of plots without classes. The page lightens it on a dark background.
pub(super) const ACCENT: RGBColor = RGBColor(0x00, 0x72, 0xb2);
/// Colours of what is right and what is wrong.
pub(super) const RIGHT: RGBColor = RGBColor(0x00, 0x9e, 0x73);
pub(super) const WRONG: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// Width of most figures, px: side by side on a page they line up. Many classes may need more.
pub(super) const WIDTH: i32 = 560;
/// Height of most figures, px.
pub(super) const HEIGHT: i32 = 400;
/// The size of most figures, px.
pub(super) const USUAL: [i32; 2] = [WIDTH, HEIGHT];
/// Least distance between the rows of classes, px.
const ROW: i32 = 20;
/// Longest name of a class in a figure, characters.
const LONGEST: usize = 28;
/// Size of tick labels. plotters' sizes are 1.24 times those of SVG.
pub(super) const SMALL: f64 = 16.0;
/// Size of all other text.
pub(super) const LARGE: f64 = 18.0;

/// A figure with its title and caption.
pub(crate) struct Figure {
    /// File name without extension.
    pub name: &'static str,
    pub title: &'static str,
    pub caption: String,
    /// Width and height, px.
    pub(super) size: [i32; 2],
    /// SVG with placeholder colours.
    pub(super) svg: String,
}

impl Figure {
    /// Whether the figure is too wide to stand beside another.
    pub fn is_wide(&self) -> bool {
        5 * self.size[0] > 6 * WIDTH
    }

    /// SVG that takes its colours, background and width from the page around it.
    pub fn on_page(&self) -> String {
        let [width, height] = self.size;
        let head = format!("<svg width=\"{width}\" height=\"{height}\"");
        let fluid = format!(
            "<svg role=\"img\" aria-label=\"{}\" style=\"max-width:{width}px;width:100%;height:auto\"",
            self.title
        );
        let svg = self.svg.replacen(&head, &fluid, 1);
        PLACEHOLDERS.iter().fold(svg, |svg, [placeholder, page, _]| svg.replace(placeholder, page))
    }

    /// SVG for a file of its own, on a white background.
    pub fn standalone(&self) -> String {
        let background = "\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>";
        let at = self.svg.find('>').map_or(0, |at| at + 1);
        let svg = format!("{}{background}{}", &self.svg[..at], &self.svg[at..]);
        PLACEHOLDERS.iter().fold(svg, |svg, [placeholder, _, white]| svg.replace(placeholder, white))
    }
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
pub(super) type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Runs `plot` on an empty figure of that width and height, px, and returns the SVG.
pub(super) fn draw([width, height]: [i32; 2], plot: impl FnOnce(&Area) -> DrawResult) -> String {
    let mut svg = String::new();
    {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        plot(&area).expect("drawing to memory does not fail");
        area.present().expect("drawing to memory does not fail");
    }
    svg
}

/// As [`draw`], with SVG elements `marks` on top.
pub(super) fn draw_with(size: [i32; 2], marks: &str, plot: impl FnOnce(&Area) -> DrawResult) -> String {
    draw(size, plot).replace("</svg>", &format!("{marks}</svg>"))
}

/// Round dots, px, as one path: a fortieth of the bytes of one circle element per dot.
pub(super) fn dots(
    points: impl IntoIterator<Item = (i32, i32)>,
    colour: RGBColor,
    width_px: f64,
    opacity: f64,
) -> String {
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

/// A colour in SVG.
pub(super) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

pub(super) fn font(size: f64) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Text whose position is the given one of its own edges or its centre.
pub(super) fn aligned(size: f64, h: HPos, v: VPos) -> TextStyle<'static> {
    font(size).pos(Pos::new(h, v))
}

/// Centred text that reads from bottom to top.
pub(super) fn rotated(size: f64) -> TextStyle<'static> {
    let style = ("sans-serif", size).into_font().transform(FontTransform::Rotate270).color(&INK);
    style.pos(Pos::new(HPos::Center, VPos::Center))
}

pub(super) fn text(area: &Area, content: impl Into<String>, at: (i32, i32), style: TextStyle<'_>) -> DrawResult {
    area.draw(&Text::new(content.into(), at, style))
}

/// A linear scale along an axis, from values to px.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub values: [f64; 2],
    pub px: [i32; 2],
}

impl Scale {
    /// The position of a value, px. A value outside the scale is moved to its nearer end.
    pub fn at(&self, value: f64) -> i32 {
        let share = ((value - self.values[0]) / (self.values[1] - self.values[0])).clamp(0.0, 1.0);
        self.px[0] + (share * f64::from(self.px[1] - self.px[0])).round() as i32
    }

    /// About `n` round numbers on the scale, and how many decimals they need.
    pub fn ticks(&self, n: f64) -> (Vec<f64>, usize) {
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

/// Vertical grid lines at round values of `x`, their numbers below, and the axis's label.
pub(super) fn x_axis(area: &Area, x: Scale, top: i32, bottom: i32, label: &str) -> DrawResult {
    let (ticks, decimals) = x.ticks(5.0);
    for v in ticks {
        area.draw(&PathElement::new([(x.at(v), top), (x.at(v), bottom)], FAINT))?;
        text(area, format!("{v:.decimals$}"), (x.at(v), bottom + 6), aligned(SMALL, HPos::Center, VPos::Top))?;
    }
    text(area, label, ((x.px[0] + x.px[1]) / 2, bottom + 26), aligned(LARGE, HPos::Center, VPos::Top))
}

/// The name in a figure of one of `classes`; a long one is shortened.
pub(super) fn label(classes: &Classes, class: Class) -> String {
    let title = classes.title(class);
    match title.chars().count() > LONGEST {
        true => title.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => title,
    }
}

/// Roughly the width of a text of that size, px.
pub(super) fn text_width(characters: usize, size: f64) -> i32 {
    (characters as f64 * size * 0.45).ceil() as i32
}

/// Width of the longest of these labels at that size, px.
pub(super) fn labels_width(labels: impl IntoIterator<Item = String>, size: f64) -> i32 {
    text_width(labels.into_iter().map(|label| label.chars().count()).max().unwrap_or(0), size)
}

/// One row per class, with its name on the left.
pub(super) struct Rows {
    labels: Vec<String>,
    /// Where bars and points start, right of the names, px.
    pub left: i32,
    /// Top of the first row, px.
    pub top: i32,
    /// Where the rows end, px: the last one ends at most a few px above.
    pub bottom: i32,
    /// Height of a row, px.
    pub step: i32,
    /// Width and height of the figure, px.
    pub size: [i32; 2],
}

impl Rows {
    /// Rows for some of `classes`, with space above and below them, px. The figure is higher where they need it.
    pub fn new(classes: &Classes, shown: impl IntoIterator<Item = Class>, top: i32, below: i32) -> Self {
        let labels: Vec<String> = shown.into_iter().map(|class| label(classes, class)).collect();
        let rows = (labels.len() as i32).max(1);
        let height = HEIGHT.max(top + ROW * rows + below);
        let bottom = height - below;
        let left = 108.max(labels_width(labels.iter().cloned(), LARGE) + 20);
        Self { labels, left, top, bottom, step: (bottom - top) / rows, size: [WIDTH, height] }
    }

    /// Top of a row, px.
    pub fn start(&self, row: usize) -> i32 {
        self.top + self.step * row as i32
    }

    /// Middle of a row, px.
    pub fn middle(&self, row: usize) -> i32 {
        self.start(row) + self.step / 2
    }

    /// Draws the names.
    pub fn draw_labels(&self, area: &Area) -> DrawResult {
        self.labels.iter().enumerate().try_for_each(|(row, label)| {
            text(area, label.clone(), (self.left - 10, self.middle(row)), aligned(LARGE, HPos::Right, VPos::Center))
        })
    }
}

/// The axes of a chart: x and y ranges, their labels, decimals of the x ticks, and the right margin in px.
macro_rules! axes {
    ($area:expr, $x:expr, $y:expr, $x_label:expr, $y_label:expr, $x_decimals:expr, $right:expr) => {{
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
            .label_style($crate::figure::svg::font(SMALL))
            .axis_desc_style($crate::figure::svg::font(LARGE))
            .x_desc($x_label)
            .y_desc($y_label)
            .x_labels(8)
            .x_label_formatter(&|v: &f64| match $x_decimals {
                // Between whole numbers there is nothing to name.
                0 if (v - v.round()).abs() > 1e-6 => String::new(),
                decimals => format!("{v:.decimals$}"),
            })
            .y_labels(6)
            .draw()?;
        chart
    }};
}
pub(super) use axes;
