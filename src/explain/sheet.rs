//! A cell's explanation as a picture: the cell, the maps over it, what they come to.

use super::heat::Heat;
use crate::atomic;
use crate::error::Result;
use crate::page::png;
use image::imageops::{FilterType, replace, resize};
use image::{Rgb, RgbImage};
use plotters::prelude::{ColorMap, ViridisRGB};
use std::fmt::Write;
use std::path::Path;

/// Side of a panel, px.
pub const PANEL: u32 = 384;
const GAP: u32 = 24;
/// Height above and below the panels, px.
const HEAD: u32 = 92;
const FOOT: u32 = 104;
/// How much of a map's colour covers the picture.
const OPACITY: f32 = 0.6;
/// What is black in the picture is this grey below a map.
const DARKEST: f32 = 90.0;
/// The ground that the scale is drawn on.
const GROUND: f32 = 190.0;
/// The cell's outline on its picture, and on maps.
const OUTLINES: [Rgb<u8>; 2] = [Rgb([0x1b, 0x1f, 0x24]), Rgb([255; 3])];

/// A map with what stands below it.
pub struct Panel<'a> {
    pub heat: &'a Heat,
    pub lines: [String; 2],
    /// The end of its scale, and what that means.
    pub top: f32,
    pub most: String,
}

/// All that a sheet shows.
pub struct Sheet<'a> {
    pub title: String,
    pub subtitle: String,
    /// The cell as the model sees it, `[size, size, 3]`.
    pub picture: RgbImage,
    /// What stands below it.
    pub lines: [String; 2],
    pub panels: [Panel<'a>; 2],
    /// The cell's pixels at [`PANEL`] px a side.
    pub cell: Option<Vec<bool>>,
}

/// `picture` in grey under the colours of `heat`: viridis, which grows evenly lighter, to all eyes, from 0 to `top`.
pub fn overlay(picture: &RgbImage, heat: &Heat, top: f32) -> RgbImage {
    let heat = heat.resized(picture.width() as usize);
    let top = top.max(f32::MIN_POSITIVE);
    let mut over = picture.clone();
    for (pixel, value) in over.pixels_mut().zip(&heat.values) {
        let [r, g, b] = pixel.0.map(f32::from);
        // Black would swallow the colours.
        let grey = DARKEST + (1.0 - DARKEST / 255.0) * (0.299 * r + 0.587 * g + 0.114 * b);
        *pixel = Rgb(blend(grey, value / top));
    }
    over
}

fn blend(grey: f32, share: f32) -> [u8; 3] {
    let colour = ViridisRGB.get_color(share.clamp(0.0, 1.0));
    [colour.0, colour.1, colour.2].map(|c| (OPACITY * f32::from(c) + (1.0 - OPACITY) * grey).round() as u8)
}

impl Sheet<'_> {
    /// Writes a PNG.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut sheet = self.text()?;
        let large = resize(&self.picture, PANEL, PANEL, FilterType::Triangle);
        let maps = self.panels.iter().map(|panel| overlay(&large, panel.heat, panel.top));
        for (i, mut panel) in std::iter::once(large.clone()).chain(maps).enumerate() {
            self.outline(&mut panel, OUTLINES[i.min(1)]);
            replace(&mut sheet, &panel, left(i).into(), HEAD.into());
        }
        atomic::write_bytes(path, &png::encode(&sheet)?)
    }

    /// Colours the pixels on both sides of the cell's border.
    fn outline(&self, panel: &mut RgbImage, colour: Rgb<u8>) {
        let Some(cell) = &self.cell else { return };
        let on = |x: u32, y: u32| cell[(y * PANEL + x) as usize];
        for (x, y) in (1..PANEL - 1).flat_map(|y| (1..PANEL - 1).map(move |x| (x, y))) {
            let around = [on(x - 1, y), on(x + 1, y), on(x, y - 1), on(x, y + 1)];
            if around.iter().any(|a| *a != on(x, y)) {
                panel.put_pixel(x, y, colour);
            }
        }
    }

    /// The sheet without its panels: text and scales on white.
    fn text(&self) -> Result<RgbImage> {
        let (width, height) = (3 * PANEL + 4 * GAP, HEAD + PANEL + FOOT);
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
            font-family="sans-serif" fill="#1b1f24"><defs><linearGradient id="scale">"##
        );
        for i in 0..=16 {
            let [r, g, b] = blend(GROUND, i as f32 / 16.0);
            let _ = write!(svg, r#"<stop offset="{}" stop-color="rgb({r},{g},{b})"/>"#, f64::from(i) / 16.0);
        }
        svg += r##"</linearGradient></defs><rect width="100%" height="100%" fill="#fff"/>"##;
        for i in 1..=self.panels.len() {
            let (x, y, width) = (left(i) + 20, HEAD + PANEL + 72, PANEL - 140);
            let _ = write!(svg, r#"<rect x="{x}" y="{y}" width="{width}" height="16" fill="url(#scale)"/>"#);
        }
        let mut line = |x: u32, y: u32, size: u32, anchor: &str, text: &str| {
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
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
            line(left(i + 1) + PANEL, below + 86, 16, "end", &panel.most);
        }
        svg += "</svg>";
        png::draw(&svg, 1.0)
    }
}

fn left(panel: usize) -> u32 {
    GAP + panel as u32 * (PANEL + GAP)
}
