//! The explanation of a cell as an image: the cell, two heat maps over it, and their measurements.

use super::heat::Heat;
use crate::error::Result;
use crate::png::escaped;
use crate::{atomic, png};
use image::imageops::{FilterType, replace, resize};
use image::{Rgb, RgbImage};
use plotters::prelude::{ColorMap, ViridisRGB};
use std::fmt::Write;
use std::path::Path;

/// Side of a panel, px.
pub(crate) const PANEL: u32 = 384;
/// Space between panels, px.
const GAP: u32 = 24;
/// Height above the panels, px.
const HEAD: u32 = 92;
/// Height below the panels, px.
const FOOT: u32 = 104;
/// Opacity of a map's colours over the image.
const OPACITY: f32 = 0.6;
/// The grey level below a map of what is black in the image: on black the colours could not be seen.
const DARKEST: f32 = 90.0;
/// Grey level below the colour scale.
const SCALE_GREY: f32 = 190.0;
/// Colours of the cell's outline: on its image, and on maps.
const OUTLINES: [Rgb<u8>; 2] = [Rgb([0x1b, 0x1f, 0x24]), Rgb([255; 3])];

/// A map and the text below it.
pub(crate) struct Panel<'a> {
    pub heat: &'a Heat,
    pub lines: [String; 2],
    /// The value at the end of the colour scale, and its label.
    pub max: f32,
    pub max_label: String,
}

/// Everything that the image shows.
pub(crate) struct Explanation<'a> {
    pub title: String,
    pub subtitle: String,
    /// The cell as the model sees it.
    pub image: RgbImage,
    /// The text below it.
    pub lines: [String; 2],
    pub panels: [Panel<'a>; 2],
    /// The cell's pixels, at [`PANEL`] x [`PANEL`] px, row by row.
    pub cell: Option<Vec<bool>>,
}

/// `image` in grey below the colours of `heat`, from 0 to `max`. The colours are viridis: evenly lighter, also to
/// colour-blind readers.
pub(crate) fn overlay(image: &RgbImage, heat: &Heat, max: f32) -> RgbImage {
    let heat = heat.resized(image.width() as usize);
    let max = max.max(f32::MIN_POSITIVE);
    let mut overlay = image.clone();
    for (pixel, value) in overlay.pixels_mut().zip(&heat.values) {
        let [r, g, b] = pixel.0.map(f32::from);
        let grey = DARKEST + (1.0 - DARKEST / 255.0) * (0.299 * r + 0.587 * g + 0.114 * b);
        *pixel = Rgb(blend(grey, value / max));
    }
    overlay
}

fn blend(grey: f32, share: f32) -> [u8; 3] {
    let colour = ViridisRGB.get_color(share.clamp(0.0, 1.0));
    [colour.0, colour.1, colour.2].map(|c| (OPACITY * f32::from(c) + (1.0 - OPACITY) * grey).round() as u8)
}

impl Explanation<'_> {
    /// Writes a PNG.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut sheet = self.text()?;
        let large = resize(&self.image, PANEL, PANEL, FilterType::Triangle);
        let maps = self.panels.iter().map(|panel| overlay(&large, panel.heat, panel.max));
        for (i, mut panel) in std::iter::once(large.clone()).chain(maps).enumerate() {
            self.outline(&mut panel, OUTLINES[i.min(1)]);
            replace(&mut sheet, &panel, left(i).into(), HEAD.into());
        }
        atomic::write_bytes(path, &png::encode(&sheet)?)
    }

    /// Colours the pixels on both sides of the cell's outline.
    fn outline(&self, panel: &mut RgbImage, colour: Rgb<u8>) {
        let Some(cell) = &self.cell else { return };
        let inside = |x: u32, y: u32| cell[(y * PANEL + x) as usize];
        for (x, y) in (1..PANEL - 1).flat_map(|y| (1..PANEL - 1).map(move |x| (x, y))) {
            let neighbours = [inside(x - 1, y), inside(x + 1, y), inside(x, y - 1), inside(x, y + 1)];
            if neighbours.iter().any(|n| *n != inside(x, y)) {
                panel.put_pixel(x, y, colour);
            }
        }
    }

    /// The image without its panels: text and colour scales on white.
    fn text(&self) -> Result<RgbImage> {
        let (width, height) = (3 * PANEL + 4 * GAP, HEAD + PANEL + FOOT);
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
            font-family="sans-serif" fill="#1b1f24"><defs><linearGradient id="scale">"##
        );
        for i in 0..=16 {
            let [r, g, b] = blend(SCALE_GREY, i as f32 / 16.0);
            let _ = write!(svg, r#"<stop offset="{}" stop-color="rgb({r},{g},{b})"/>"#, f64::from(i) / 16.0);
        }
        svg += r##"</linearGradient></defs><rect width="100%" height="100%" fill="#fff"/>"##;
        for i in 1..=self.panels.len() {
            let (x, y, width) = (left(i) + 20, HEAD + PANEL + 72, PANEL - 140);
            let _ = write!(svg, r#"<rect x="{x}" y="{y}" width="{width}" height="16" fill="url(#scale)"/>"#);
        }
        let mut line = |x: u32, y: u32, size: u32, anchor: &str, text: &str| {
            let text = escaped(text);
            let _ = write!(svg, r#"<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#);
        };
        line(GAP, 44, 30, "start", &self.title);
        line(GAP, 74, 18, "start", &self.subtitle);
        let below = HEAD + PANEL;
        let captions = std::iter::once(&self.lines).chain(self.panels.iter().map(|p| &p.lines));
        for (i, lines) in captions.enumerate() {
            line(left(i), below + 28, 20, "start", &lines[0]);
            line(left(i), below + 54, 18, "start", &lines[1]);
        }
        for (i, panel) in self.panels.iter().enumerate() {
            line(left(i + 1), below + 86, 16, "start", "0");
            line(left(i + 1) + PANEL, below + 86, 16, "end", &panel.max_label);
        }
        svg += "</svg>";
        png::render(&svg, 1.0)
    }
}

fn left(panel: usize) -> u32 {
    GAP + panel as u32 * (PANEL + GAP)
}
