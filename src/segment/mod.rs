//! Segmentation: nucleus and cytoplasm of the white blood cell nearest the middle of a picture, by the light that its
//! stain holds back and by its shape. No model, nothing learned.
//!
//! 1. `stain`: optical densities against the plasma around the cell.
//! 2. Nucleus, granules and nothing else hold back much green and little red and blue: Otsu's upper threshold of three
//!    classes on that measure; of what is above it, the region nearest the middle and the lobes that belong to it.
//! 3. All that is not plasma and hangs together with it is the cell, and the red cells that touch it. What is theirs:
//!    what lies behind a neck, far away, or has the colour of the red cells in the picture. Between cell and red cells
//!    the border is where floods from both sides meet; edges and narrow places are dear.
//! 4. The nucleus again, by Otsu's threshold within the cell alone.
//!
//! Lengths go by the nucleus's size, so that magnification does not matter. Turning or mirroring the picture turns or
//! mirrors the result.

use crate::cells;
use crate::decode::Rgb;
use stain::{Stain, held_back, quantile};

mod flood;
mod mask;
mod stain;

pub use mask::Mask;

/// Weights of red, green and blue density in the measure that tells nuclei and granules from red cells, however thick
/// these lie: they hold back as much red as green, a nucleus more green.
const PURPLE: [f32; 3] = [-0.75, 1.5, -0.6];
/// The same for the measure that tells a nucleus from the granules and cytoplasm around it: eosin lets red through.
const NUCLEAR: [f32; 3] = [0.175, 0.7, -0.35];
/// What has less purple (0 to 255) than this on average is no nucleus, whatever Otsu says: the palest nuclei of LISC
/// have 90, pink red cells 65.
const MIN_PURPLE: u64 = 75;
/// Smaller than this share of the picture nothing is a nucleus.
const MIN_NUCLEUS_SHARE: f32 = 0.002;
/// How fast interest fades with distance from the middle: standard deviation as a share of the shorter side.
const MIDDLE: f32 = 0.25;
/// Gap that may part lobes of one nucleus, in radii of the largest region.
const LOBE_GAP: f32 = 2.0;
/// Regions smaller than this share of the largest are no lobes.
const MIN_LOBE: f32 = 0.05;

/// What holds back more than this many times the plasma's noise is not plasma, within the bounds of density.
const OVER_NOISE: f32 = 3.0;
const FAINTEST: (f32, f32) = (0.05, 0.12);
/// What hangs together over less than this share of its own depth lies behind a neck.
const NECK: f32 = 0.75;
/// Further from the nucleus's hull than this, in its radii, is not the cell's, if the part that is goes on to `GOES_ON`
/// times that.
const FAR: f32 = 1.6;
const GOES_ON: f32 = 1.5;
/// Red cells are known by their bodies: so many hull radii away, a disc of so many fits in, and together they have this
/// share of the hull's area.
const RED_AWAY: f32 = 1.2;
const RED_BODY: f32 = 0.3;
const RED_ENOUGH: f32 = 0.1;
/// A pixel is as red cells are from this likeness on; but the colour tells only where this share of the ring around the
/// nucleus, so many hull radii wide, is less like them: cytoplasm can look as they do.
const RED_LIKE: f32 = 0.5;
const RING: f32 = 0.3;
const RING_LIKE: f32 = 0.3;
const RING_SHARE: f64 = 0.4;
/// What parts of a red cell's colour a disc of this many hull radii must fit into.
const RED_PART: f32 = 0.2;
/// The edge of the cell lies where density is this share of the cytoplasm's median.
const EDGE_LEVEL: f32 = 0.4;
/// Bumps that a disc of this many hull radii does not fit into are no part of the cell.
const SMOOTH_CELL: f32 = 0.25;

/// Blur before the nucleus is looked for in the cell, in radii of the first guess: chromatin is not even.
const CHROMATIN: f32 = 0.04;
/// The nucleus holds back at least this share of what its darkest tenth does: a cell without cytoplasm has a nucleus
/// without a border to look for.
const MIN_OF_DARK: f32 = 0.6;
const SMOOTH_NUCLEUS: f32 = 0.05;
/// Smaller parts and holes, as shares of the nucleus, are dust.
const MIN_PART: f32 = 0.03;
const MIN_HOLE: f32 = 0.02;

/// A cell, as masks of the picture's size.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The nucleus, one region or several lobes; part of `whole`. Never empty.
    pub nucleus: Mask,
    /// Nucleus and cytoplasm: one region without holes.
    pub whole: Mask,
    /// The plasma's grey levels around the cell, red, green, blue, 0 to 255.
    pub plasma: [f32; 3],
}

impl Cell {
    /// The cell without its nucleus; empty where no cytoplasm shows.
    pub fn cytoplasm(&self) -> Mask {
        self.whole.with(|i| self.whole.on[i] && !self.nucleus.on[i])
    }
}

/// The plasma's grey levels in `picture`, red, green, blue, 0 to 255; `None` where there is nothing but black padding.
pub fn plasma(picture: &Rgb) -> Option<[f32; 3]> {
    Stain::of(picture).map(|stain| stain.plasma)
}

/// The white blood cell nearest the middle of `picture`; `None` where nothing in it has a nucleus's colour. The cell
/// should fill a twentieth to a half of the picture: some plasma must be in it, and the blur of 1 px small for it.
/// For a frame of many cells, cut it by [`crate::cells::of_stain`] first.
pub fn cell(picture: &Rgb) -> Option<Cell> {
    let stain = Stain::of(picture)?;
    let purple = stain.measure(PURPLE);
    let core = core(&stain, &purple)?;
    let tissue = tissue(&stain, &core.middle);
    let depth = tissue.depth();
    let width = flood::widest(&core.middle, &tissue, &depth);
    let behind_neck = tissue.with(|i| tissue.on[i] && width[i] < NECK * depth[i]);
    let nuclear = core.threshold;
    let core = core.with_lobes(&behind_neck);
    let guess = nucleus(&stain, &core, core.radius())?.intersection(&core);
    let hull = guess.hull();
    let radius = hull.radius();
    let around = Around { away: hull.distance(), hull, radius };

    // Not a nucleus, and either apart from the cell or far from it: red cells, for sure.
    let red = tissue.with(|i| {
        let apart = width[i] == 0.0 || around.away[i] > RED_AWAY * radius;
        tissue.on[i] && apart && purple[i] <= nuclear && held_back(stain.density[i]) > FAINTEST.1
    });
    let red = RedCells::of(&stain, &red, &tissue, &around);
    let far = far(&stain, &tissue, &around);
    let theirs = tissue.with(|i| {
        !core.on[i]
            && (behind_neck.on[i] && !around.hull.on[i] || far.on[i] || red.as_ref().is_some_and(|r| r.part.on[i]))
    });
    let edges = edges(&stain, &tissue, &depth, radius);
    let likeness = |i: usize| red.as_ref().map_or(0.5, |r| f32::from(r.like[i]) / 65535.0);
    let dear = |like: &dyn Fn(usize) -> f32| -> Vec<u32> {
        edges.iter().enumerate().map(|(i, edge)| edge + (20.0 * like(i)) as u32).collect()
    };
    let ours = flood::cheapest(&core, &tissue, &dear(&likeness));
    let reached = tissue.with(|i| ours[i] < u32::MAX);
    let other = flood::cheapest(&theirs, &reached, &dear(&|i| 1.0 - likeness(i)));
    let reached = reached.with(|i| reached.on[i] && ours[i] <= other[i]);
    // Without bumps; of what then is apart, the region that has most of the nucleus.
    let smooth = |mask: Mask| {
        let smooth = mask.opened((SMOOTH_CELL * radius).round().max(1.0)).union(&guess);
        let nuclear = |region: &Vec<usize>| region.iter().filter(|i| guess.on[**i]).count();
        smooth.of(&smooth.regions().into_iter().max_by_key(nuclear).unwrap_or_default()).filled(f32::INFINITY)
    };
    let rough = smooth(reached);
    let whole = smooth(edge_at_half(&stain, &rough, &guess));
    let nucleus = nucleus(&stain, &whole, radius)?;
    Some(Cell { nucleus, whole, plasma: stain.plasma })
}

/// What is purple: the region nearest the middle, the others, and what has more purple than the threshold.
struct Core {
    middle: Mask,
    others: Vec<Vec<usize>>,
    threshold: u8,
}

fn core(stain: &Stain, purple: &[u8]) -> Option<Core> {
    let padding = &stain.padding;
    let mut counts = [0; 256];
    (0..purple.len()).filter(|i| !padding.on[*i]).for_each(|i| counts[usize::from(purple[i])] += 1);
    let threshold = stain::otsu3(&counts)?.1;
    let mut regions = padding.with(|i| purple[i] > threshold && !padding.on[i]).regions();
    let (width, height) = (padding.width_px, padding.height_px);
    let sigma = MIDDLE * width.min(height) as f32;
    let nearness = |region: &Vec<usize>| -> f64 {
        let weight = |i: &usize| {
            let x = (i % width) as f32 - (width - 1) as f32 / 2.0;
            let y = (i / width) as f32 - (height - 1) as f32 / 2.0;
            f64::from((-(x * x + y * y) / (2.0 * sigma * sigma)).exp())
        };
        region.iter().map(weight).sum()
    };
    let best = (0..regions.len()).max_by(|a, b| nearness(&regions[*a]).total_cmp(&nearness(&regions[*b])))?;
    let best = regions.swap_remove(best);
    let middle = padding.of(&best);
    let large_enough = best.len() as f32 > purple.len() as f32 * MIN_NUCLEUS_SHARE;
    let sum: u64 = best.iter().map(|i| u64::from(purple[*i])).sum();
    let purple_enough = sum >= MIN_PURPLE * best.len() as u64;
    (large_enough && purple_enough).then_some(Core { middle, others: regions, threshold })
}

impl Core {
    /// With the regions that are lobes of the same nucleus: near, not much larger, and not behind a neck.
    fn with_lobes(self, behind_neck: &Mask) -> Mask {
        let area = self.middle.area() as f32;
        let radius = self.middle.radius();
        let away = self.middle.distance();
        let mut core = self.middle;
        for lobe in self.others.iter().filter(|lobe| lobe.len() as f32 > MIN_LOBE * area) {
            let gap = lobe.iter().map(|i| away[*i]).fold(f32::INFINITY, f32::min);
            let apart = lobe.iter().filter(|i| behind_neck.on[**i]).count() as f32 / lobe.len() as f32;
            if gap < LOBE_GAP * radius && apart < 0.25 && (gap < 0.5 * radius || lobe.len() as f32 <= 1.5 * area) {
                lobe.iter().for_each(|i| core.on[*i] = true);
            }
        }
        core
    }
}

/// All that is not plasma; vacuoles and the pale middles of red cells count as what surrounds them.
fn tissue(stain: &Stain, core: &Mask) -> Mask {
    let faintest = (OVER_NOISE * stain.noise).clamp(FAINTEST.0, FAINTEST.1);
    let tissue = core.with(|i| core.on[i] || held_back(stain.density[i]) > faintest && !stain.padding.on[i]);
    let holes = tissue.filled(0.5 * core.area() as f32);
    holes.with(|i| holes.on[i] && !stain.padding.on[i])
}

/// The nucleus's convex hull, its radius, and every pixel's distance to it, px.
struct Around {
    hull: Mask,
    radius: f32,
    away: Vec<f32>,
}

/// What goes on too far from the nucleus to be its cell's.
fn far(stain: &Stain, tissue: &Mask, around: &Around) -> Mask {
    let far = FAR * around.radius;
    let goes_on = |i: &usize| tissue.is_border(*i) || stain.padding.on[*i] || around.away[*i] > GOES_ON * far;
    tissue.with(|i| tissue.on[i] && around.away[i] > far).keep(|region| region.iter().any(goes_on))
}

/// What the picture's red cells look like.
struct RedCells {
    /// How much every pixel's colour is like theirs, 0 to 65535.
    like: Vec<u16>,
    /// Where it is and the colour tells: red cells, or parts of them.
    part: Mask,
}

impl RedCells {
    /// From what must be red cells or smaller things; `None` where too little of it is as large as red cells are.
    fn of(stain: &Stain, red: &Mask, tissue: &Mask, around: &Around) -> Option<Self> {
        let Around { hull, radius, away } = around;
        let sure: Vec<usize> = red.opened(RED_BODY * radius).pixels().collect();
        if (sure.len() as f32) < RED_ENOUGH * hull.area() as f32 {
            return None;
        }
        // Colour alone, without strength: shares of the three densities.
        let colour = |i: usize| {
            let [r, g, b] = stain.density[i].map(|d| f64::from(d.max(0.0)));
            let sum = (r + g + b).max(0.02);
            [(g - r) / sum, (g - b) / sum]
        };
        let n = sure.len() as f64;
        let mean = |of: &dyn Fn(usize) -> f64| sure.iter().map(|i| of(*i)).sum::<f64>() / n;
        let [u, v] = [0, 1].map(|k| mean(&|i| colour(i)[k]));
        let from_mean = |i: usize| {
            let [a, b] = colour(i);
            (a - u, b - v)
        };
        // Covariance; a little more, so that even red cells all of one colour leave some room.
        let uu = mean(&|i| from_mean(i).0.powi(2)) + 0.002;
        let vv = mean(&|i| from_mean(i).1.powi(2)) + 0.002;
        let uv = mean(&|i| from_mean(i).0 * from_mean(i).1);
        let likeness = |i: usize| {
            let (a, b) = from_mean(i);
            let mahalanobis = (a * a * vv - 2.0 * a * b * uv + b * b * uu) / (uu * vv - uv * uv);
            (65535.0 * (-mahalanobis / 2.0).exp()) as u16
        };
        let like: Vec<u16> = (0..tissue.on.len()).map(likeness).collect();
        let like = stain::blur(&like, tissue.width_px, tissue.height_px, 4);
        let share = |i: usize| f32::from(like[i]) / 65535.0;
        let in_ring = |i: &usize| !hull.on[*i] && !stain.padding.on[*i] && away[*i] > 2.0 && away[*i] < RING * radius;
        let ring = (0..tissue.on.len()).filter(in_ring).map(|i| if tissue.on[i] { share(i) } else { 0.0 }).collect();
        let tells = quantile(ring, RING_SHARE).is_some_and(|typical| typical < RING_LIKE);
        let part = tissue.with(|i| tells && tissue.on[i] && !hull.on[i] && share(i) > RED_LIKE);
        Some(Self { part: part.opened(RED_PART * radius), like })
    }
}

/// What crossing a pixel costs a flood: 1, more on edges of the stain and of its colour (in saturated density, where
/// the cell's faint border counts as much as the nucleus's), and more where the tissue is narrow.
fn edges(stain: &Stain, tissue: &Mask, depth: &[f32], radius: f32) -> Vec<u32> {
    let (width, height) = (tissue.width_px, tissue.height_px);
    let values: Vec<[f32; 5]> = stain
        .density
        .iter()
        .map(|d| {
            let [r, g, b] = d.map(|d| stain::saturate(3.0 * d));
            [r, g, b, g - r, g - b]
        })
        .collect();
    let cost = |i: usize| {
        let (x, y) = (i % width, i / width);
        let (left, right) = (y * width + x.saturating_sub(1), y * width + (x + 1).min(width - 1));
        let (above, below) = (y.saturating_sub(1) * width + x, (y + 1).min(height - 1) * width + x);
        let edge = (0..5)
            .map(|c| (values[right][c] - values[left][c]).powi(2) + (values[below][c] - values[above][c]).powi(2))
            .fold(0.0, f32::max);
        let narrow = 0.2 * radius / depth[i].max(1.0);
        1 + (0.01 * edge) as u32 + (20.0 * narrow * narrow) as u32
    };
    (0..values.len()).map(|i| if tissue.on[i] { cost(i) } else { 0 }).collect()
}

/// `cell` without the haze around it: its edge is where density is a share of the cytoplasm's.
fn edge_at_half(stain: &Stain, cell: &Mask, nucleus: &Mask) -> Mask {
    let density = |i: usize| held_back(stain.density[i]);
    let cytoplasm = cell.pixels().filter(|i| !nucleus.on[*i]).map(density).collect();
    let level = quantile(cytoplasm, 0.5).unwrap_or(0.0) * EDGE_LEVEL;
    cell.with(|i| cell.on[i] && (nucleus.on[i] || density(i) > level)).filled(f32::INFINITY)
}

/// The nucleus within `cell`; `radius` (px) says how fine it is looked at. `None` where `cell` is empty.
fn nucleus(stain: &Stain, cell: &Mask, radius: f32) -> Option<Mask> {
    let (width, height) = (cell.width_px, cell.height_px);
    let measure = |d: &[f32; 3]| (stain::saturate(stain::weigh(*d, NUCLEAR)) * stain::STEP) as u16;
    let values: Vec<u16> = stain.density.iter().map(measure).collect();
    let blur = CHROMATIN * radius;
    let values = stain::blur(&values, width, height, (2.0 * blur * blur).round() as usize);
    let of_cell: Vec<u8> = cell.pixels().map(|i| (values[i] >> 8) as u8).collect();
    let dark = stain::desaturate(quantile(of_cell.iter().map(|v| f32::from(*v)).collect(), 0.9)?);
    let least_dark = stain::saturate(MIN_OF_DARK * dark);
    let threshold = cells::otsu(&of_cell).map_or(least_dark, |otsu| f32::from(otsu).min(least_dark));
    let above = cell.with(|i| cell.on[i] && f32::from(values[i]) / stain::STEP > threshold);
    let smooth = above.opened(SMOOTH_NUCLEUS * radius);
    let smooth = if smooth.area() > 0 { smooth } else { above };
    let area = smooth.area() as f32;
    Some(smooth.keep(|region| region.len() as f32 >= MIN_PART * area).filled(MIN_HOLE * area).intersection(cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A cell of 45 px around a place, its nucleus of 28 px a little off its middle, plasma around, and red cells, one
    /// of which touches it: red, green, blue of PBC's stain.
    fn drawn(side: usize, x: f64, y: f64, towards: f64) -> (Rgb, Mask, Mask) {
        let within =
            |i: usize, (u, v): (f64, f64), radius: f64| ((i % side) as f64 - u).hypot((i / side) as f64 - v) <= radius;
        let at = |angle: f64, away: f64| (x + away * angle.cos(), y + away * angle.sin());
        let nucleus = Mask::new(side, side, |i| within(i, at(towards, 8.0), 28.0));
        let whole = Mask::new(side, side, |i| within(i, (x, y), 45.0));
        let reds = [at(towards + 2.0, 77.0), at(towards + 4.0, 95.0), at(towards - 1.0, 110.0)];
        let pixels = (0..side * side).flat_map(|i| {
            // A little uneven, as chromatin is.
            let grain = ((i * 7919) % 13) as u8;
            match (nucleus.on[i], whole.on[i], reds.iter().any(|red| within(i, *red, 34.0))) {
                (true, ..) => [70 + grain, 35 + grain, 125 + grain],
                (_, true, _) => [205 + grain, 165 + grain, 180 + grain],
                (_, _, true) => [195 + grain / 4, 165 + grain / 4, 163 + grain / 4],
                _ => [254, 231, 204],
            }
        });
        (Rgb { width_px: side as u32, height_px: side as u32, pixels: pixels.collect() }, nucleus, whole)
    }

    fn dice(a: &Mask, b: &Mask) -> f64 {
        2.0 * a.intersection(b).area() as f64 / (a.area() + b.area()) as f64
    }

    /// The picture, or a mask, by a quarter turn.
    fn turned<T: Copy>(values: &[T], width: usize) -> Vec<T> {
        let height = values.len() / width;
        (0..values.len()).map(|i| values[(height - 1 - i % height) * width + i / height]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Wherever the cell is and wherever its nucleus and the red cells are: it is found, and a turned picture gives
        /// the same, turned.
        #[test]
        fn a_cell_is_found_and_turns_with_its_picture(x in 95.0..125.0f64, y in 95.0..125.0f64, towards in 0.0..std::f64::consts::TAU) {
            let (picture, nucleus, whole) = drawn(220, x, y, towards);
            let cell = cell(&picture).unwrap();
            prop_assert!(dice(&cell.nucleus, &nucleus) > 0.95, "{}", dice(&cell.nucleus, &nucleus));
            prop_assert!(dice(&cell.whole, &whole) > 0.95, "{}", dice(&cell.whole, &whole));
            let pixels = turned(picture.pixels.as_chunks::<3>().0, 220).concat();
            let other = super::cell(&Rgb { pixels, ..picture }).unwrap();
            prop_assert_eq!(&other.nucleus.on, &turned(&cell.nucleus.on, 220));
            prop_assert_eq!(&other.whole.on, &turned(&cell.whole.on, 220));
            prop_assert_eq!(other.plasma, cell.plasma);
        }

        /// Whatever the picture, nothing fails, and what is found is one region without holes that holds its nucleus.
        #[test]
        fn noise_is_no_reason_to_fail(width in 1u32..40, height in 1u32..40, seed in any::<u64>(), dark in any::<bool>()) {
            let byte = |i: u64| (seed ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0];
            let pixels = (0..u64::from(width * height * 3)).map(|i| if dark { byte(i) / 8 } else { byte(i) });
            let picture = Rgb { width_px: width, height_px: height, pixels: pixels.collect() };
            if let Some(cell) = cell(&picture) {
                prop_assert!(cell.nucleus.area() > 0 && cell.nucleus.pixels().all(|i| cell.whole.on[i]));
                prop_assert_eq!(cell.whole.regions().len(), 1);
                prop_assert_eq!(cell.whole.filled(f32::INFINITY), cell.whole);
            }
        }
    }

    #[test]
    fn red_cells_and_plasma_have_no_nucleus() {
        let (mut picture, nucleus, _) = drawn(220, 110.0, 110.0, 0.0);
        for i in nucleus.pixels() {
            picture.pixels[i * 3..][..3].copy_from_slice(&[254, 231, 204]);
        }
        assert_eq!(cell(&picture), None);
        assert_eq!(cell(&Rgb { width_px: 50, height_px: 40, pixels: vec![230; 6000] }), None);
    }
}
