//! A cell with random parameters, whose ranges depend on its kind. The kinds differ in the features by
//! which haematologists distinguish them: size, lobes of the nucleus, granules, and colour of the cytoplasm. The ranges
//! overlap on purpose (band neutrophils and horseshoe monocytes, large lymphocytes and small monocytes, basophils with
//! few granules).

use super::canvas::{Canvas, Rgb, Stain, blend};
use super::kind::Kind;
use super::shape::{Capsule, Lobes, Noise, Outline, Point, coverage, smoothstep};
use rand::RngExt;
use rand_pcg::Pcg64;
use std::f32::consts::TAU;
use std::ops::Range;

/// Granules in the cytoplasm.
#[derive(Clone, Debug)]
struct Granules {
    colour: Rgb,
    /// Mean distance, px.
    spacing: f32,
    /// Radius, px.
    radius: f32,
    /// Share of positions with a granule, 0 to 1.
    share: f32,
    /// Opacity in the cytoplasm, 0 to 1.
    opacity: f32,
    /// Opacity over the nucleus, 0 to 1.
    over_nucleus: f32,
}

/// A cell, usually a white blood cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Outline without the ragged rim.
    pub outline: Outline,
    nucleus: Lobes,
    cytoplasm: Rgb,
    chromatin_dark: Rgb,
    chromatin_light: Rgb,
    /// Size of the chromatin's clumps, px.
    clump: f32,
    granules: Granules,
    /// Share of positions with a vacuole, 0 to 1, and mean distance of vacuoles, px.
    vacuoles: (f32, f32),
    /// Largest deviation of the rim from the outline, px.
    ragged: f32,
    noise: Noise,
    /// Magnification relative to CUK.
    scale: f32,
}

/// A random radius for a cell of `kind`, in px of CUK's images.
pub fn radius(kind: Kind, rng: &mut Pcg64) -> f32 {
    let (usual, rare): (Range<f32>, Range<f32>) = match kind {
        Kind::Neutrophil => (60.0..74.0, 54.0..80.0),
        Kind::Eosinophil => (64.0..80.0, 56.0..86.0),
        Kind::Basophil => (52.0..66.0, 46.0..74.0),
        Kind::Lymphocyte => (44.0..57.0, 52.0..70.0),
        Kind::Monocyte => (68.0..88.0, 58.0..72.0),
        Kind::ImmatureGranulocyte => (70.0..92.0, 62.0..98.0),
        Kind::Erythroblast => (38.0..52.0, 34.0..60.0),
        Kind::Platelet => (12.0..20.0, 18.0..28.0),
    };
    let range = if rng.random_bool(0.85) { usual } else { rare };
    rng.random_range(range)
}

impl Cell {
    /// A random cell of `kind` around `centre`; `radius` is in px of CUK's images.
    pub fn new(kind: Kind, centre: Point, radius: f32, scale: f32, stain: &Stain, rng: &mut Pcg64) -> Self {
        let r = radius * scale;
        let bend = match kind {
            Kind::Monocyte => rng.random_range(0.03..0.10),
            _ => rng.random_range(0.01..0.06),
        };
        let outline = Outline::new(centre, r, bend, 0.006, rng);
        let nucleus = nucleus(kind, centre, r, rng);
        // Colours of the cytoplasm, dark and light chromatin and granules, measured on stained cells.
        let (cytoplasm, dark, light, grain): (Rgb, Rgb, Rgb, Rgb) = match kind {
            Kind::Neutrophil => {
                ([216.0, 180.0, 188.0], [70.0, 28.0, 126.0], [124.0, 82.0, 164.0], [172.0, 122.0, 162.0])
            }
            Kind::Eosinophil => {
                ([208.0, 150.0, 156.0], [84.0, 40.0, 136.0], [128.0, 84.0, 166.0], [184.0, 104.0, 112.0])
            }
            Kind::Basophil => ([166.0, 112.0, 172.0], [88.0, 42.0, 138.0], [122.0, 74.0, 160.0], [62.0, 20.0, 106.0]),
            Kind::Lymphocyte => {
                ([138.0, 134.0, 186.0], [74.0, 30.0, 126.0], [120.0, 76.0, 160.0], [140.0, 70.0, 150.0])
            }
            Kind::Monocyte => {
                ([160.0, 144.0, 184.0], [92.0, 42.0, 136.0], [148.0, 102.0, 176.0], [146.0, 122.0, 176.0])
            }
            Kind::ImmatureGranulocyte => {
                ([182.0, 160.0, 196.0], [96.0, 48.0, 142.0], [146.0, 98.0, 178.0], [134.0, 70.0, 142.0])
            }
            Kind::Erythroblast => {
                ([168.0, 152.0, 178.0], [48.0, 20.0, 88.0], [92.0, 54.0, 130.0], [150.0, 130.0, 170.0])
            }
            Kind::Platelet => ([190.0, 150.0, 192.0], [110.0, 52.0, 146.0], [130.0, 80.0, 160.0], [112.0, 54.0, 146.0]),
        };
        // The stain varies between cells.
        let mut vary = |colour: Rgb, by: f32| {
            let lighter = rng.random_range(-by..by);
            stain.apply(colour.map(|c| c + lighter + rng.random_range(-0.35 * by..0.35 * by)))
        };
        let (cytoplasm, dark, light, grain) =
            (vary(cytoplasm, 13.0), vary(dark, 8.0), vary(light, 9.0), vary(grain, 11.0));
        let mut between = |low: f32, high: f32| rng.random_range(low..high);
        let (spacing, size, share, opacity, over_nucleus) = match kind {
            Kind::Neutrophil => (between(4.0, 5.5), 0.36, between(0.3, 0.8), between(0.25, 0.7), 0.0),
            Kind::Eosinophil => (between(4.6, 6.6), 0.54, between(0.7, 1.0), between(0.35, 0.85), 0.06),
            Kind::Basophil => (between(5.0, 7.5), 0.58, between(0.5, 1.0), between(0.75, 0.95), between(0.3, 0.85)),
            Kind::Lymphocyte => (9.0, 0.25, between(0.0, 0.12), 0.7, 0.0),
            Kind::Monocyte => (between(3.5, 5.0), 0.34, between(0.2, 0.7), between(0.15, 0.45), 0.0),
            Kind::ImmatureGranulocyte => (between(4.0, 6.0), 0.44, between(0.3, 0.7), between(0.4, 0.8), 0.1),
            Kind::Erythroblast => (9.0, 0.25, 0.0, 0.0, 0.0),
            Kind::Platelet => (between(2.5, 4.0), 0.5, between(0.6, 0.9), between(0.6, 0.9), 0.0),
        };
        let granules = Granules {
            colour: grain,
            spacing: spacing * scale,
            radius: spacing * size * scale,
            share,
            opacity,
            over_nucleus,
        };
        let vacuoles = match kind {
            Kind::Monocyte => (between(-0.3, 0.5).max(0.0), between(11.0, 16.0) * scale),
            Kind::Basophil => (between(-0.3, 0.2).max(0.0), between(11.0, 14.0) * scale),
            _ => (0.0, 1.0),
        };
        let clump = scale
            * match kind {
                Kind::Monocyte => between(4.0, 6.0),
                Kind::Lymphocyte => between(7.0, 11.0),
                _ => between(6.0, 9.0),
            };
        let ragged = scale
            * match kind {
                Kind::Monocyte | Kind::Lymphocyte => between(0.3, 3.2),
                Kind::Basophil => between(1.0, 2.5),
                _ => between(0.3, 1.4),
            };
        Self {
            outline,
            nucleus,
            cytoplasm,
            chromatin_dark: dark,
            chromatin_light: light,
            clump,
            granules,
            vacuoles,
            ragged,
            noise: Noise(rng.random()),
            scale,
        }
    }

    /// An upper limit of the distance of the cell's edge from its centre, px.
    pub fn reach(&self) -> f32 {
        self.outline.reach() + self.ragged + 2.0
    }

    /// Distance to the cell's edge, px; negative inside.
    pub fn distance(&self, p: Point) -> f32 {
        self.outline.distance(p) + self.ragged * self.noise.smooth(p, 5.0 * self.scale)
    }

    /// Paints the cell.
    pub fn paint(&self, canvas: &mut Canvas) {
        let Self { granules, noise, scale, .. } = self;
        let [mottle, chromatin, edge, holes] = [1, 2, 3, 4].map(|k| Noise(noise.0.wrapping_add(k)));
        let ink = self.cytoplasm.map(|c| c * 0.86);
        let pale = canvas.background.map(|c| c * 0.97);
        canvas.paint(self.outline.centre, self.reach(), |p| {
            let distance = self.distance(p);
            if distance > 2.0 {
                return None;
            }
            // The density of granules varies.
            let packed = 0.8 + 0.4 * edge.smooth(p, 11.0 * scale);
            let grain = noise.grains(p, granules.spacing, granules.radius * packed, granules.share);
            // The cytoplasm is mottled, and darker at the rim.
            let cloud = 10.0 * mottle.smooth(p, 9.0 * scale) + 9.0 * mottle.smooth([p[1], p[0]], 2.6 * scale);
            let mut colour = self.cytoplasm.map(|c| c + cloud);
            colour = blend(colour, ink, smoothstep(-5.0 * scale, 0.0, distance));
            colour = blend(colour, granules.colour, grain * granules.opacity);
            if self.vacuoles.0 > 0.0 {
                let size = self.vacuoles.1 * (0.30 + 0.14 * mottle.smooth(p, 1.5 * self.vacuoles.1));
                let hole = holes.grains(p, self.vacuoles.1, size, self.vacuoles.0);
                colour = blend(colour, pale, hole * 0.6);
            }
            let wobble = 1.2 * scale * edge.smooth(p, 6.0 * scale);
            let nucleus = (self.nucleus.distance(p) + wobble).max(distance + 1.5 * scale);
            if nucleus < 2.0 {
                let clumps = chromatin.smooth(p, self.clump) + 0.6 * chromatin.smooth([p[1], p[0]], self.clump * 0.45);
                let mut body = blend(self.chromatin_dark, self.chromatin_light, smoothstep(-0.35, 0.95, clumps));
                body = blend(body, self.chromatin_dark, 0.7 * smoothstep(-4.0 * scale, -0.5, nucleus));
                body = blend(body, granules.colour, grain * granules.over_nucleus);
                colour = blend(colour, body, coverage(nucleus));
            }
            // Coarse granules protrude from the rim.
            let bulge = grain * granules.opacity * granules.radius * 0.5;
            Some((colour, coverage(distance - bulge)))
        });
    }
}

/// A random nucleus for a cell of `kind` with radius `r` px.
fn nucleus(kind: Kind, centre: Point, r: f32, rng: &mut Pcg64) -> Lobes {
    let turn = rng.random_range(0.0..TAU);
    let at = |distance: f32, angle: f32| -> Point {
        [centre[0] + distance * r * (turn + angle).cos(), centre[1] + distance * r * (turn + angle).sin()]
    };
    let which = rng.random_range(0.0..1.0);
    match kind {
        // Segmented, in one of five cells a band.
        Kind::Neutrophil if which < 0.8 => {
            let lobes = [2, 3, 3, 3, 4, 4, 5][rng.random_range(0..7)];
            let size = [0.0, 0.0, 0.41, 0.37, 0.33, 0.29][lobes];
            chain(lobes, 0.42..0.50, 1.05..1.45, size, 0.07..0.15, r, &at, rng)
        }
        Kind::Neutrophil => chain(5, 0.42..0.52, 0.62..0.85, 0.27, 0.23..0.27, r, &at, rng),
        // Two lobes, sometimes three, off the centre.
        Kind::Eosinophil => {
            let lobes = if which < 0.82 { 2 } else { 3 };
            let size = if lobes == 2 { 0.43 } else { 0.36 };
            chain(lobes, 0.42..0.52, 1.3..1.75, size, 0.07..0.16, r, &at, rng)
        }
        // Large, with up to three indistinct lobes.
        Kind::Basophil => {
            let lobes = if which < 0.4 { 1 } else { rng.random_range(2..=3) };
            let size = [0.0, 0.72, 0.56, 0.48][lobes];
            chain(lobes, 0.20..0.38, 1.8..2.4, size, 0.25..0.35, r, &at, rng)
        }
        // Round and almost as large as the cell, sometimes with a notch or a broad rim of cytoplasm.
        Kind::Lymphocyte => {
            let size = if which < 0.75 { rng.random_range(0.80..0.93) } else { rng.random_range(0.66..0.80) };
            let offset = (1.0 - size) * rng.random_range(0.2..0.9);
            let body = Capsule {
                from: at(offset + 0.04, 0.0),
                to: at(offset - 0.06, 0.3),
                from_radius: size * r * 0.96,
                to_radius: size * r * rng.random_range(0.90..0.98),
            };
            let mut lobes = Lobes { parts: vec![body], dents: vec![], fillet: 0.2 * r };
            if rng.random_bool(0.2) {
                lobes.dents.push(Capsule::disc(at(offset + size + 0.05, 2.0), rng.random_range(0.12..0.3) * r));
            }
            lobes
        }
        // Kidney-shaped: a disc with a dent.
        Kind::Monocyte if which < 0.5 => {
            let size = rng.random_range(0.62..0.76);
            let offset = rng.random_range(0.05..0.25);
            let dent = rng.random_range(0.16..0.36);
            let body = Capsule {
                from: at(offset, 1.2),
                to: at(offset, -1.2),
                from_radius: size * r,
                to_radius: size * r * rng.random_range(0.85..1.0),
            };
            let dent = Capsule::disc(at(offset - size - rng.random_range(-0.12..0.04), 0.15), dent * r);
            Lobes { parts: vec![body], dents: vec![dent], fillet: 0.16 * r }
        }
        // Horseshoe-shaped.
        Kind::Monocyte if which < 0.85 => chain(5, 0.38..0.46, 0.75..1.05, 0.34, 0.30..0.37, r, &at, rng),
        // Round, oval or slightly dented, off the centre.
        Kind::ImmatureGranulocyte => {
            let (size, offset) = (rng.random_range(0.56..0.74), rng.random_range(0.12..0.3));
            let body = Capsule {
                from: at(offset, 0.9),
                to: at(offset, -0.9),
                from_radius: size * r * 0.95,
                to_radius: size * r * rng.random_range(0.85..0.95),
            };
            let dent = Capsule::disc(at(offset - size - 0.04, 0.1), rng.random_range(0.1..0.3) * r);
            Lobes { parts: vec![body], dents: if which < 0.5 { vec![dent] } else { vec![] }, fillet: 0.16 * r }
        }
        // A dense ball.
        Kind::Erythroblast => {
            let (size, offset) = (rng.random_range(0.5..0.7), rng.random_range(0.0..0.18));
            Lobes { parts: vec![Capsule::disc(at(offset, 0.0), size * r)], dents: vec![], fillet: 0.1 * r }
        }
        Kind::Platelet => Lobes::default(),
        // Folded and irregular.
        Kind::Monocyte => chain(3, 0.22..0.36, 1.5..2.2, 0.46, 0.40..0.48, r, &at, rng),
    }
}

/// A chain of lobes of about `size` around the centre, at `distance` from it and `step` radians apart, connected by
/// bridges of radius `bridge`. Lengths are in cell radii.
fn chain(
    lobes: usize,
    distance: Range<f32>,
    step: Range<f32>,
    size: f32,
    bridge: Range<f32>,
    r: f32,
    at: &impl Fn(f32, f32) -> Point,
    rng: &mut Pcg64,
) -> Lobes {
    let mut parts = Vec::new();
    let (mut angle, mut last) = (0.0, None);
    for _ in 0..lobes {
        let centre = at(rng.random_range(distance.clone()), angle);
        // Lobes are ovals with random orientation.
        let long = size * rng.random_range(0.0..0.35) * r;
        let direction = rng.random_range(0.0..TAU);
        let end = [centre[0] + long * direction.cos(), centre[1] + long * direction.sin()];
        let radius = size * rng.random_range(0.82..1.10) * r;
        parts.push(Capsule { from: centre, to: end, from_radius: radius, to_radius: radius * 0.9 });
        if let Some(from) = last {
            let thick = rng.random_range(bridge.clone()) * r;
            parts.push(Capsule { from, to: centre, from_radius: thick, to_radius: thick });
        }
        last = Some(centre);
        angle += rng.random_range(step.clone());
    }
    Lobes { parts, dents: vec![], fillet: 0.10 * r }
}
