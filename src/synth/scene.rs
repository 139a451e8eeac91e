//! A field of view with red cells, platelets and one or two white cells.

use super::canvas::{Canvas, Rgb, Stain, blend};
use super::cell::{self, Cell};
use super::kind::Kind;
use super::settings::Layout;
use super::shape::{Noise, Outline, Point, coverage, smoothstep};
use rand::RngExt;
use rand_pcg::Pcg64;
use std::ops::Range;

/// Appearance of a layout's images; colours are 0 to 255, and ranges are sampled per image.
struct Optics {
    /// Width and height, px.
    size: (u32, u32),
    /// Magnification relative to CUK.
    scale: f32,
    background: Rgb,
    /// Red cells have a colour between these.
    red_cells: [Rgb; 2],
    /// Strength of the stain.
    stain: Range<f32>,
    red_cell_count: Range<u32>,
    platelet_count: Range<u32>,
    /// Standard deviation of the blur, px.
    blur: Range<f32>,
    /// Standard deviation of the sensor noise, grey levels.
    grain: Range<f32>,
}

impl Optics {
    fn of(layout: Layout) -> Optics {
        match layout {
            // Modelled on the CellaVision images of Acevedo et al. (2020), which resemble those of CUK.
            Layout::Cuk => Optics {
                size: (360, 361),
                scale: 1.0,
                background: [253.0, 230.0, 205.0],
                red_cells: [[212.0, 168.0, 162.0], [192.0, 164.0, 168.0]],
                stain: 0.86..1.16,
                red_cell_count: 12..34,
                platelet_count: 0..4,
                blur: 0.55..1.5,
                grain: 0.8..3.0,
            },
            // Modelled on LISC: lower magnification, a blue or grey slide, an analogue camera.
            Layout::Lisc => Optics {
                size: (720, 576),
                scale: 0.6,
                background: [249.0, 248.0, 252.0],
                red_cells: [[176.0, 184.0, 226.0], [208.0, 194.0, 206.0]],
                stain: 0.62..0.86,
                red_cell_count: 60..130,
                platelet_count: 3..16,
                blur: 0.7..1.3,
                grain: 1.0..3.0,
            },
        }
    }
}

/// A rendered field of view.
pub struct Scene {
    /// Width, px.
    pub width: u32,
    /// Height, px.
    pub height: u32,
    /// `[height, width, 3]`: rows from the top, RGB interleaved, 0 to 255.
    pub rgb: Vec<u8>,
    cells: Vec<Cell>,
    mask_noise: Noise,
}

impl Scene {
    /// Renders a field of view with a white cell of `kind`; with two in a fifth of LISC's images.
    pub fn render(layout: Layout, kind: Kind, rng: &mut Pcg64) -> Self {
        let optics = Optics::of(layout);
        let (width, height) = optics.size;
        let scale = optics.scale * rng.random_range(0.94..1.06);
        let stain = Stain::new(optics.stain.start, optics.stain.end, rng);
        let background = optics.background.map(|c| c + rng.random_range(-3.0..3.0));
        let red = blend(optics.red_cells[0], optics.red_cells[1], rng.random_range(0.0..1.0));
        let red = red.map(|c| c + rng.random_range(-5.0..5.0));
        let mut canvas = Canvas::new(width, height, background);

        let count = if layout == Layout::Lisc && rng.random_bool(0.2) { 2 } else { 1 };
        let mut cells: Vec<Cell> = Vec::new();
        while cells.len() < count {
            let radius = cell::radius(kind, rng);
            let centre = position(layout, radius * scale, optics.size, rng);
            let cell = Cell::new(kind, centre, radius, scale, &stain, rng);
            let separate = |other: &Cell| {
                distance(other.outline.centre, cell.outline.centre) > other.reach() + cell.reach() + 12.0
            };
            if cells.iter().all(separate) {
                cells.push(cell);
            }
        }

        red_cells(&mut canvas, &optics, scale, red, &cells, rng);
        for _ in 0..rng.random_range(optics.platelet_count.clone()) {
            let centre = random_point(optics.size, rng);
            platelet(&mut canvas, centre, rng.random_range(5.0..10.0) * scale, &stain, rng);
        }
        for cell in &cells {
            cell.paint(&mut canvas);
        }
        canvas.blur(rng.random_range(optics.blur.clone()));
        let slope = [rng.random_range(-0.06..0.06), rng.random_range(-0.06..0.06)];
        let rgb = canvas.expose(slope, rng.random_range(optics.grain.clone()), Noise(rng.random()));
        Self { width, height, rgb, cells, mask_noise: Noise(rng.random()) }
    }

    /// Number of white cells.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// The mask of the white cells as drawn by `expert` 1 or 2: `[height, width]`, 255 inside, 0 outside.
    pub fn mask(&self, expert: u32) -> Vec<u8> {
        let noise = Noise(self.mask_noise.0.wrapping_add(expert));
        // The experts' outlines differ in width and by random deviations.
        let margin = if expert == 1 { 0.4 } else { 1.2 };
        let mut mask = vec![0; (self.width * self.height) as usize];
        for (i, pixel) in mask.iter_mut().enumerate() {
            let p = [(i as u32 % self.width) as f32 + 0.5, (i as u32 / self.width) as f32 + 0.5];
            let inside = self.cells.iter().any(|cell| {
                let Outline { centre, .. } = cell.outline;
                let near = cell.reach() + 4.0;
                (p[0] - centre[0]).abs() < near
                    && (p[1] - centre[1]).abs() < near
                    && cell.distance(p) < margin + 1.2 * noise.smooth(p, 14.0)
            });
            if inside {
                *pixel = 255;
            }
        }
        mask
    }
}

/// A position for a white cell: near the centre in CUK's layout, anywhere inside the image in LISC's.
fn position(layout: Layout, reach: f32, (width, height): (u32, u32), rng: &mut Pcg64) -> Point {
    match layout {
        Layout::Cuk => {
            [width, height].map(|size| size as f32 / 2.0 + rng.random_range(-9.0..9.0) + rng.random_range(-5.0..5.0))
        }
        Layout::Lisc => [width, height].map(|size| rng.random_range(reach * 1.1..size as f32 - reach * 1.1)),
    }
}

/// A point in the image or up to 20 px outside it.
fn random_point((width, height): (u32, u32), rng: &mut Pcg64) -> Point {
    [width, height].map(|size| rng.random_range(-20.0..size as f32 + 20.0))
}

fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Adds red cells: discs with a thick rim and a pale centre, which touch white cells and sometimes overlap.
fn red_cells(canvas: &mut Canvas, optics: &Optics, scale: f32, red: Rgb, white: &[Cell], rng: &mut Pcg64) {
    let wanted = rng.random_range(optics.red_cell_count.clone());
    let crenated = if rng.random_bool(0.15) { 0.03 } else { 0.004 };
    let pallor = rng.random_range(0.15..0.9);
    let overlap = rng.random_range(0.55..1.0);
    let mut placed: Vec<(Point, f32)> = Vec::new();
    for _ in 0..wanted * 3 {
        if placed.len() == wanted as usize {
            break;
        }
        let (centre, radius) = (random_point(optics.size, rng), rng.random_range(33.0..45.0) * scale);
        let free = placed.iter().all(|(other, r)| distance(*other, centre) > (r + radius) * overlap)
            && white.iter().all(|cell| distance(cell.outline.centre, centre) > cell.outline.radius + 0.8 * radius);
        if !free {
            continue;
        }
        placed.push((centre, radius));
        let outline = Outline::new(centre, radius, rng.random_range(0.01..0.10), crenated, rng);
        let pallor = (pallor + rng.random_range(-0.25f32..0.25)).clamp(0.0, 1.0);
        let hollow = rng.random_range(0.25..0.5);
        let thickness = rng.random_range(0.9..1.25);
        let offset = [rng.random_range(-0.12..0.12) * radius, rng.random_range(-0.12..0.12) * radius];
        canvas.filter(centre, outline.reach() + 2.0, red, |p| {
            let d = outline.distance(p);
            if d > 1.0 {
                return 0.0;
            }
            let from_centre = distance(p, [centre[0] + offset[0], centre[1] + offset[1]]) / radius;
            let pale = pallor * smoothstep(hollow + 0.22, hollow - 0.18, from_centre);
            let rim = 0.16 * smoothstep(-7.0 * scale, -1.0, d);
            coverage(d) * thickness * (0.86 + rim) * (1.0 - pale)
        });
    }
}

/// Adds a platelet.
fn platelet(canvas: &mut Canvas, centre: Point, radius: f32, stain: &Stain, rng: &mut Pcg64) {
    let outline = Outline::new(centre, radius, 0.18, 0.05, rng);
    let (rim, body) = (stain.apply([176.0, 128.0, 182.0]), stain.apply([110.0, 52.0, 146.0]));
    let noise = Noise(rng.random());
    canvas.paint(centre, outline.reach() + 2.0, |p| {
        let d = outline.distance(p);
        let core = smoothstep(0.0, -0.55 * radius, d) * (0.75 + 0.4 * noise.smooth(p, 0.3 * radius));
        Some((blend(rim, body, core.clamp(0.0, 1.0)), coverage(d)))
    });
}
