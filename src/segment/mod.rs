//! Segments the nucleus and cytoplasm of the white blood cell nearest to the centre of an image. It uses optical
//! density and shape, and no trained model.
//!
//! 1. `stain` computes optical densities relative to the plasma around the cell.
//! 2. Only nuclei and granules absorb much green and little red and blue. Otsu's upper threshold of three groups on
//!    this measure gives the region nearest to the centre and the lobes that belong to it.
//! 3. All connected tissue around it is the cell and the red cells that touch it. Tissue behind a neck, far away, or of
//!    the colour of the image's red cells belongs to these. The border between them is where the costs of paths from
//!    both sides are equal; edges and narrow places are expensive.
//! 4. The nucleus is segmented again by Otsu's threshold within the cell.
//!
//! Lengths are relative to the size of the nucleus, so that the magnification does not matter. The result does not
//! depend on the orientation of the image.

use crate::cells;
use crate::decode::Rgb;
use stain::{Stain, max_density, quantile};

mod find;
mod flood;
mod mask;
mod stain;

pub use find::{FoundCell, find_cells, find_cells_at};
pub use mask::Mask;

/// Weights of red, green and blue density in the measure that separates nuclei and granules from red cells of any
/// thickness: red cells absorb as much red as green, nuclei more green.
const PURPLE: [f32; 3] = [-0.75, 1.5, -0.6];
/// Weights of the measure that separates a nucleus from its granules and cytoplasm: eosin does not absorb red.
const NUCLEAR: [f32; 3] = [0.175, 0.7, -0.35];
/// Smallest mean of the purple measure (0 to 255) for a nucleus. The palest nuclei of LISC have 90, pink red cells 65.
const MIN_PURPLE: u64 = 75;
/// Smallest nucleus, as a share of the image.
const MIN_NUCLEUS_SHARE: f32 = 0.002;
/// Standard deviation of the Gaussian weight around the centre, as a share of the image's shorter side.
const CENTRE: f32 = 0.25;
/// Largest gap between lobes of one nucleus, in radii of the largest region.
const LOBE_GAP: f32 = 2.0;
/// Smallest lobe, as a share of the largest region.
const MIN_LOBE: f32 = 0.05;

/// Lowest density of tissue, as a multiple of the plasma's noise.
const OVER_NOISE: f32 = 3.0;
/// Limits of the lowest density of tissue.
const FAINTEST: (f32, f32) = (0.05, 0.12);
/// Tissue is behind a neck if the path to it is narrower than this share of its own depth.
const NECK: f32 = 0.75;
/// Tissue at a larger distance from the nucleus's hull, in hull radii, can belong to another cell.
const FAR: f32 = 1.6;
/// It does if it extends to this multiple of [`FAR`].
const FAR_EXTENT: f32 = 1.5;
/// Smallest distance of red cells from the nucleus's hull, in hull radii.
const RED_DISTANCE: f32 = 1.2;
/// Radius of the disc that must fit into a red cell, in hull radii.
const RED_BODY: f32 = 0.3;
/// Smallest total area of red cells, as a share of the hull's area.
const RED_MIN_AREA: f32 = 0.1;
/// Smallest similarity (0 to 1) of a red cell's pixels to the mean colour of red cells.
const RED_SIMILAR: f32 = 0.5;
/// Width of the ring around the nucleus in which the cytoplasm is compared with red cells, in hull radii. Some
/// cytoplasm has their colour.
const RING: f32 = 0.3;
/// Largest similarity (0 to 1) of cytoplasm at which its colour distinguishes it from red cells.
const RING_SIMILAR: f32 = 0.3;
/// Quantile of the similarity in the ring that is compared with [`RING_SIMILAR`].
const RING_SHARE: f64 = 0.4;
/// Radius of the disc that must fit into tissue of the colour of red cells, in hull radii.
const RED_PART: f32 = 0.2;
/// Density at the edge of the cell, as a share of the cytoplasm's median.
const EDGE_LEVEL: f32 = 0.4;
/// Radius of the disc that must fit into every part of the cell, in hull radii.
const SMOOTH_CELL: f32 = 0.25;

/// Blur before the final segmentation of the nucleus, in hull radii, because chromatin is uneven.
const CHROMATIN: f32 = 0.04;
/// Largest threshold for the nucleus, as a share of the density of its darkest tenth. Needed for cells without visible
/// cytoplasm.
const MIN_OF_DARK: f32 = 0.6;
/// Radius of the disc that must fit into every part of the nucleus, in hull radii.
const SMOOTH_NUCLEUS: f32 = 0.05;
/// Smallest part of a nucleus, as a share of its area.
const MIN_PART: f32 = 0.03;
/// Smallest hole in a nucleus, as a share of its area.
const MIN_HOLE: f32 = 0.02;

/// A segmented cell, as masks of the image's size.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The nucleus: one or more regions inside `whole`. Never empty.
    pub nucleus: Mask,
    /// Nucleus and cytoplasm: one region without holes.
    pub whole: Mask,
    /// Grey levels of the plasma around the cell in red, green and blue, 0 to 255.
    pub plasma: [f32; 3],
}

impl Cell {
    /// The cell without its nucleus; empty if no cytoplasm is visible.
    pub fn cytoplasm(&self) -> Mask {
        self.whole.same_size(|i| self.whole.on[i] && !self.nucleus.on[i])
    }
}

/// Grey levels of the plasma in red, green and blue, 0 to 255; `None` if the image is only black padding.
pub fn plasma(image: &Rgb) -> Option<[f32; 3]> {
    Stain::estimate(image).map(|stain| stain.plasma)
}

/// Segments the white blood cell nearest to the centre of `image`; `None` if no region has the colour of a nucleus.
///
/// The cell should fill a twentieth to a half of the image, so that some plasma is visible and a blur of 1 px is small
/// compared to the cell. If the image contains several cells, crop it by [`find_cells`] first.
pub fn cell(image: &Rgb) -> Option<Cell> {
    let stain = Stain::estimate(image)?;
    let purple = stain.weighted(PURPLE);
    let core = Core::find(&stain, &purple)?;
    let tissue = tissue(&stain, &core.central);
    let depth = tissue.depth();
    let width = flood::path_widths(&core.central, &tissue, &depth);
    let behind_neck = tissue.same_size(|i| tissue.on[i] && width[i] < NECK * depth[i]);
    let purple_threshold = core.threshold;
    let core = core.with_lobes(&behind_neck);
    let rough_nucleus = nucleus(&stain, &core, core.radius())?.intersection(&core);
    let hull = Hull::new(&rough_nucleus);

    // Tissue that is not purple and is separate from the cell or far from it must be red cells.
    let red = tissue.same_size(|i| {
        let separate = width[i] == 0.0 || hull.distance[i] > RED_DISTANCE * hull.radius;
        tissue.on[i] && separate && purple[i] <= purple_threshold && max_density(stain.density[i]) > FAINTEST.1
    });
    let red = RedCells::find(&stain, &red, &tissue, &hull);
    let far = far(&stain, &tissue, &hull);
    let foreign = tissue.same_size(|i| {
        !core.on[i]
            && (behind_neck.on[i] && !hull.mask.on[i] || far.on[i] || red.as_ref().is_some_and(|r| r.parts.on[i]))
    });
    let edges = edges(&stain, &tissue, &depth, hull.radius);
    let similarity = |i: usize| red.as_ref().map_or(0.5, |r| f32::from(r.similarity[i]) / 65535.0);
    let costs = |colour: &dyn Fn(usize) -> f32| -> Vec<u32> {
        edges.iter().enumerate().map(|(i, edge)| edge + (20.0 * colour(i)) as u32).collect()
    };
    let from_core = flood::path_costs(&core, &tissue, &costs(&similarity));
    let reached = tissue.same_size(|i| from_core[i] < u32::MAX);
    let from_foreign = flood::path_costs(&foreign, &reached, &costs(&|i| 1.0 - similarity(i)));
    let reached = reached.same_size(|i| reached.on[i] && from_core[i] <= from_foreign[i]);
    // Removing bumps can separate the cell; the region with most of the nucleus is kept.
    let smooth = |mask: Mask| {
        let smooth = mask.opened((SMOOTH_CELL * hull.radius).round().max(1.0)).union(&rough_nucleus);
        let nuclear = |region: &Vec<usize>| region.iter().filter(|i| rough_nucleus.on[**i]).count();
        smooth.with_pixels(&smooth.regions().into_iter().max_by_key(nuclear).unwrap_or_default()).filled(f32::INFINITY)
    };
    let rough_cell = smooth(reached);
    let whole = smooth(without_haze(&stain, &rough_cell, &rough_nucleus));
    let nucleus = nucleus(&stain, &whole, hull.radius)?;
    Some(Cell { nucleus, whole, plasma: stain.plasma })
}

/// The purple regions.
struct Core {
    /// The region nearest to the centre.
    central: Mask,
    /// Pixels of the other regions.
    others: Vec<Vec<usize>>,
    /// Threshold of the purple measure.
    threshold: u8,
}

impl Core {
    /// `None` if the region nearest to the centre is too small or too pale for a nucleus.
    fn find(stain: &Stain, purple: &[u8]) -> Option<Self> {
        let padding = &stain.padding;
        let mut counts = [0; 256];
        (0..purple.len()).filter(|i| !padding.on[*i]).for_each(|i| counts[usize::from(purple[i])] += 1);
        let threshold = stain::otsu3(&counts)?.1;
        let mut others = padding.same_size(|i| purple[i] > threshold && !padding.on[i]).regions();
        let (width, height) = (padding.width_px, padding.height_px);
        let sigma = CENTRE * width.min(height) as f32;
        let nearness = |region: &Vec<usize>| -> f64 {
            let weight = |i: &usize| {
                let x = (i % width) as f32 - (width - 1) as f32 / 2.0;
                let y = (i / width) as f32 - (height - 1) as f32 / 2.0;
                f64::from((-(x * x + y * y) / (2.0 * sigma * sigma)).exp())
            };
            region.iter().map(weight).sum()
        };
        let nearest = (0..others.len()).max_by(|a, b| nearness(&others[*a]).total_cmp(&nearness(&others[*b])))?;
        let nearest = others.swap_remove(nearest);
        let central = padding.with_pixels(&nearest);
        let large_enough = nearest.len() as f32 > purple.len() as f32 * MIN_NUCLEUS_SHARE;
        let sum: u64 = nearest.iter().map(|i| u64::from(purple[*i])).sum();
        let purple_enough = sum >= MIN_PURPLE * nearest.len() as u64;
        (large_enough && purple_enough).then_some(Self { central, others, threshold })
    }

    /// Adds the regions that are lobes of the same nucleus: near, not much larger, and not behind a neck.
    fn with_lobes(self, behind_neck: &Mask) -> Mask {
        let area = self.central.area() as f32;
        let radius = self.central.radius();
        let distance = self.central.distance();
        let mut core = self.central;
        for lobe in self.others.iter().filter(|lobe| lobe.len() as f32 > MIN_LOBE * area) {
            let gap = lobe.iter().map(|i| distance[*i]).fold(f32::INFINITY, f32::min);
            let separate = lobe.iter().filter(|i| behind_neck.on[**i]).count() as f32 / lobe.len() as f32;
            if gap < LOBE_GAP * radius && separate < 0.25 && (gap < 0.5 * radius || lobe.len() as f32 <= 1.5 * area) {
                lobe.iter().for_each(|i| core.on[*i] = true);
            }
        }
        core
    }
}

/// All pixels that are not plasma, including holes such as vacuoles and the pale centres of red cells.
fn tissue(stain: &Stain, core: &Mask) -> Mask {
    let faintest = (OVER_NOISE * stain.noise).clamp(FAINTEST.0, FAINTEST.1);
    let tissue = core.same_size(|i| core.on[i] || max_density(stain.density[i]) > faintest && !stain.padding.on[i]);
    let filled = tissue.filled(0.5 * core.area() as f32);
    filled.same_size(|i| filled.on[i] && !stain.padding.on[i])
}

/// The convex hull of the nucleus.
struct Hull {
    mask: Mask,
    /// Radius of the disc of equal area, px.
    radius: f32,
    /// Distance of each pixel to the hull, px.
    distance: Vec<f32>,
}

impl Hull {
    fn new(nucleus: &Mask) -> Self {
        let mask = nucleus.hull();
        Self { radius: mask.radius(), distance: mask.distance(), mask }
    }
}

/// Tissue that extends too far from the nucleus to be part of its cell.
fn far(stain: &Stain, tissue: &Mask, hull: &Hull) -> Mask {
    let far = FAR * hull.radius;
    let extends = |i: &usize| tissue.is_border(*i) || stain.padding.on[*i] || hull.distance[*i] > FAR_EXTENT * far;
    tissue.same_size(|i| tissue.on[i] && hull.distance[i] > far).keep(|region| region.iter().any(extends))
}

/// Red cells, by their colour.
struct RedCells {
    /// Similarity of each pixel's colour to theirs, 0 to 65535.
    similarity: Vec<u16>,
    /// Tissue of their colour: red cells or parts of them. Empty if the cytoplasm has this colour, too.
    parts: Mask,
}

impl RedCells {
    /// Learns the colour from `red`, which contains only red cells and smaller objects; `None` if too little of it is
    /// as large as red cells.
    fn find(stain: &Stain, red: &Mask, tissue: &Mask, hull: &Hull) -> Option<Self> {
        let Hull { mask: hull, radius, distance } = hull;
        let bodies: Vec<usize> = red.opened(RED_BODY * radius).pixels().collect();
        if (bodies.len() as f32) < RED_MIN_AREA * hull.area() as f32 {
            return None;
        }
        // Differences relative to the total density do not depend on the strength of the stain.
        let colour = |i: usize| {
            let [r, g, b] = stain.density[i].map(|d| f64::from(d.max(0.0)));
            let sum = (r + g + b).max(0.02);
            [(g - r) / sum, (g - b) / sum]
        };
        let n = bodies.len() as f64;
        let mean = |value: &dyn Fn(usize) -> f64| bodies.iter().map(|i| value(*i)).sum::<f64>() / n;
        let [u, v] = [0, 1].map(|k| mean(&|i| colour(i)[k]));
        let from_mean = |i: usize| {
            let [a, b] = colour(i);
            (a - u, b - v)
        };
        // A constant is added to the variances so that they are not 0 if all red cells have the same colour.
        let uu = mean(&|i| from_mean(i).0.powi(2)) + 0.002;
        let vv = mean(&|i| from_mean(i).1.powi(2)) + 0.002;
        let uv = mean(&|i| from_mean(i).0 * from_mean(i).1);
        let similarity = |i: usize| {
            let (a, b) = from_mean(i);
            let mahalanobis = (a * a * vv - 2.0 * a * b * uv + b * b * uu) / (uu * vv - uv * uv);
            (65535.0 * (-mahalanobis / 2.0).exp()) as u16
        };
        let similarity: Vec<u16> = (0..tissue.on.len()).map(similarity).collect();
        let similarity = stain::blur(&similarity, tissue.width_px, tissue.height_px, 4);
        let share = |i: usize| f32::from(similarity[i]) / 65535.0;
        let in_ring =
            |i: &usize| !hull.on[*i] && !stain.padding.on[*i] && distance[*i] > 2.0 && distance[*i] < RING * radius;
        let ring = (0..tissue.on.len()).filter(in_ring).map(|i| if tissue.on[i] { share(i) } else { 0.0 }).collect();
        let differs = quantile(ring, RING_SHARE).is_some_and(|typical| typical < RING_SIMILAR);
        let parts = tissue.same_size(|i| differs && tissue.on[i] && !hull.on[i] && share(i) > RED_SIMILAR);
        Some(Self { parts: parts.opened(RED_PART * radius), similarity })
    }
}

/// The cost of a path through each pixel of `tissue`: 1, plus more at edges and where the tissue is narrow. Edges are
/// those of density and colour in saturated densities, so that the cell's faint edge counts as much as the nucleus's.
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

/// Removes faint pixels around the cell, with densities below a share of the cytoplasm's median.
fn without_haze(stain: &Stain, cell: &Mask, nucleus: &Mask) -> Mask {
    let density = |i: usize| max_density(stain.density[i]);
    let cytoplasm = cell.pixels().filter(|i| !nucleus.on[*i]).map(density).collect();
    let level = quantile(cytoplasm, 0.5).unwrap_or(0.0) * EDGE_LEVEL;
    cell.same_size(|i| cell.on[i] && (nucleus.on[i] || density(i) > level)).filled(f32::INFINITY)
}

/// Segments the nucleus within `cell`; blur and smoothing are relative to `radius` (px). `None` if `cell` is empty.
fn nucleus(stain: &Stain, cell: &Mask, radius: f32) -> Option<Mask> {
    let (width, height) = (cell.width_px, cell.height_px);
    let measure = |d: &[f32; 3]| (stain::saturate(stain::weigh(*d, NUCLEAR)) * stain::STEP) as u16;
    let values: Vec<u16> = stain.density.iter().map(measure).collect();
    let blur = CHROMATIN * radius;
    let values = stain::blur(&values, width, height, (2.0 * blur * blur).round() as usize);
    let levels: Vec<u8> = cell.pixels().map(|i| (values[i] >> 8) as u8).collect();
    let dark = stain::desaturate(quantile(levels.iter().map(|v| f32::from(*v)).collect(), 0.9)?);
    let most = stain::saturate(MIN_OF_DARK * dark);
    let threshold = cells::otsu(&levels).map_or(most, |otsu| f32::from(otsu).min(most));
    let above = cell.same_size(|i| cell.on[i] && f32::from(values[i]) / stain::STEP > threshold);
    let smooth = above.opened(SMOOTH_NUCLEUS * radius);
    let smooth = if smooth.area() > 0 { smooth } else { above };
    let area = smooth.area() as f32;
    Some(smooth.keep(|region| region.len() as f32 >= MIN_PART * area).filled(MIN_HOLE * area).intersection(cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An image in the colours of PBC with masks of nucleus and cell: a cell of radius 45 px at (x, y) with a nucleus
    /// of 28 px off its centre in direction `towards`, and three red cells, one of which touches the cell.
    fn synthetic(side: usize, x: f64, y: f64, towards: f64) -> (Rgb, Mask, Mask) {
        let within =
            |i: usize, (u, v): (f64, f64), radius: f64| ((i % side) as f64 - u).hypot((i / side) as f64 - v) <= radius;
        let at = |angle: f64, distance: f64| (x + distance * angle.cos(), y + distance * angle.sin());
        let nucleus = Mask::new(side, side, |i| within(i, at(towards, 8.0), 28.0));
        let whole = Mask::new(side, side, |i| within(i, (x, y), 45.0));
        let reds = [at(towards + 2.0, 77.0), at(towards + 4.0, 95.0), at(towards - 1.0, 110.0)];
        let pixels = (0..side * side).flat_map(|i| {
            // Chromatin is uneven.
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

    /// An image or a mask rotated by a quarter turn.
    fn rotated<T: Copy>(values: &[T], width: usize) -> Vec<T> {
        let height = values.len() / width;
        (0..values.len()).map(|i| values[(height - 1 - i % height) * width + i / height]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_cell_is_segmented_at_any_position_and_orientation(
            x in 95.0..125.0f64, y in 95.0..125.0f64, towards in 0.0..std::f64::consts::TAU,
        ) {
            let (image, nucleus, whole) = synthetic(220, x, y, towards);
            let cell = cell(&image).unwrap();
            prop_assert!(dice(&cell.nucleus, &nucleus) > 0.95, "{}", dice(&cell.nucleus, &nucleus));
            prop_assert!(dice(&cell.whole, &whole) > 0.95, "{}", dice(&cell.whole, &whole));
            let pixels = rotated(image.pixels.as_chunks::<3>().0, 220).concat();
            let rotated_cell = super::cell(&Rgb { pixels, ..image }).unwrap();
            prop_assert_eq!(&rotated_cell.nucleus.on, &rotated(&cell.nucleus.on, 220));
            prop_assert_eq!(&rotated_cell.whole.on, &rotated(&cell.whole.on, 220));
            prop_assert_eq!(rotated_cell.plasma, cell.plasma);
        }

        /// Any cell found in noise is one region without holes that contains its nucleus.
        #[test]
        fn noise_never_panics(width in 1u32..40, height in 1u32..40, seed in any::<u64>(), dark in any::<bool>()) {
            let byte = |i: u64| (seed ^ i).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0];
            let pixels = (0..u64::from(width * height * 3)).map(|i| if dark { byte(i) / 8 } else { byte(i) });
            let image = Rgb { width_px: width, height_px: height, pixels: pixels.collect() };
            if let Some(cell) = cell(&image) {
                prop_assert!(cell.nucleus.area() > 0 && cell.nucleus.pixels().all(|i| cell.whole.on[i]));
                prop_assert_eq!(cell.whole.regions().len(), 1);
                prop_assert_eq!(cell.whole.filled(f32::INFINITY), cell.whole);
            }
        }
    }

    #[test]
    fn images_without_a_nucleus_have_no_cell() {
        let (mut image, nucleus, _) = synthetic(220, 110.0, 110.0, 0.0);
        for i in nucleus.pixels() {
            image.pixels[i * 3..][..3].copy_from_slice(&[254, 231, 204]);
        }
        assert_eq!(cell(&image), None);
        assert_eq!(cell(&Rgb { width_px: 50, height_px: 40, pixels: vec![230; 6000] }), None);
    }
}
