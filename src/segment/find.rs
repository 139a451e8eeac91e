//! Finds the white cells of an image of any size and magnification by the stain of their nuclei.
//!
//! The colours of red cells and nuclei differ between laboratories, so that no fixed threshold separates them. In the
//! law of Beer and Lambert, though, the optical densities of red cells of any thickness lie on one line through the
//! origin. [`Colour`] learns that line from the image's own palest tissue and measures how far a pixel is from it on
//! the side of nuclei. Within each region that exceeds the red cells clearly, the nucleus is what exceeds half of the
//! region's own level, because pale and dark nuclei occur in one image.
//!
//! Sizes are relative to the image's red cells, which are as large in every laboratory: [`RedCellSize`]. Smaller
//! stained regions are platelets or precipitate. In images that show too few red cells, sizes are relative to the
//! largest nucleus.

use super::mask::Mask;
use super::stain::{Stain, max_density, quantile, weigh};
use super::{NUCLEAR, PURPLE};
use crate::cells;
use crate::decode::Rgb;
use crate::rect::Rect;
use serde::{Deserialize, Serialize};

/// The image is searched at this size of its longer side or less, px: nuclei of 40 px in a frame of 2560 px then have
/// 10 px.
const SEARCH_PX: u32 = 640;
/// Weight of the distance from the colour of red cells, relative to the purple measure.
const COLOUR_WEIGHT: f32 = 2.0;
/// Limits of the lowest density of tissue, and its multiple of the plasma's noise.
const FAINTEST: (f32, f32) = (0.05, 0.12);
const OVER_NOISE: f32 = 3.0;
/// Pixels with less green density than this show noise, not tissue.
const NOISE_LEVEL: f32 = 0.1;
/// Fewest pixels of tissue for an estimate.
const MIN_TISSUE: usize = 30;
/// Lowest level of stain of a nucleus, and how many deviations of the red cells' level it is above that level.
const MIN_LEVEL: f32 = 0.2;
const MIN_DEVIATIONS: f32 = 4.0;
/// Largest deviation of the level of red cells.
const RED_DEVIATION: f32 = 0.14;
/// A region's nucleus exceeds this share of the region's level, of which [`TOP`] is the quantile.
const HALF: f32 = 0.45;
const TOP: f64 = 0.9;
/// Smallest region, px, at the size of the search.
const MIN_REGION_PX: usize = 12;
/// Smallest lobe of a nucleus: as a share of a red cell, and of the largest nucleus.
const MIN_LOBE: (f32, f32) = (0.1, 0.04);
/// Largest gap between lobes of one nucleus, in radii of a red cell (without red cells: in diameters of the largest
/// lobe), and that between parts which are as large as nuclei.
const LOBE_GAP: f32 = 0.5;
const PART_GAP: f32 = 0.2;
/// Largest lobe, as a share of a red cell (without red cells: of the largest lobe).
const LARGEST_LOBE: f32 = 0.6;
const LARGEST_LOBE_ALONE: f32 = 3.0;
/// Largest extent of one nucleus, in radii of a red cell.
const MAX_EXTENT: f32 = 5.0;
/// Smallest nucleus: as a share of a red cell (the second where no nucleus is larger, if it is strongly stained), of
/// the largest nucleus, and, without red cells, of the image.
const MIN_OF_RED: f32 = 0.25;
const MIN_OF_RED_IF_STRONG: f32 = 0.1;
const MIN_OF_LARGEST: f32 = 0.3;
const MIN_OF_IMAGE: f32 = 0.005;
/// Largest nucleus, as a multiple of a red cell. If it is larger, what was taken for red cells is none.
const MAX_OF_RED: f32 = 5.0;
/// Lowest level of stain (upper quartile) of a nucleus, absolute, of a strongly stained one, and as a share of the
/// strongest nucleus. Paler regions are platelets or smudges.
const MIN_STAIN: f32 = 0.32;
const STRONG_STAIN: f32 = 0.64;
const MIN_OF_STRONGEST: f32 = 0.45;
const STRONG: f64 = 0.75;
/// Margin for the cytoplasm around a nucleus, as a share of the nucleus's longer side.
const CYTOPLASM_MARGIN: f64 = 0.25;
/// Largest overlap of two cells' boxes, as a share of the smaller one.
const MAX_OVERLAP: f64 = 0.35;

/// A white cell that was found by its nucleus.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundCell {
    /// The nucleus, with all its lobes, px.
    pub nucleus: Rect,
    /// The nucleus with a margin for the cytoplasm, cut off at the image's edge, px.
    pub cell: Rect,
    /// Area of the nucleus, px².
    pub nucleus_px: u64,
}

/// The white cells of an image, ordered by top edge, then left edge of their boxes. Empty if nothing looks like the
/// nucleus of one.
pub fn find_cells(image: &Rgb) -> Vec<FoundCell> {
    find_cells_at(image, SEARCH_PX)
}

/// As [`find_cells`], with the longer side reduced to `search_px` or less (at most 640 px) while searching, which is
/// faster where cells are large.
pub fn find_cells_at(image: &Rgb, search_px: u32) -> Vec<FoundCell> {
    let factor = image.width_px.max(image.height_px).div_ceil(search_px.clamp(1, SEARCH_PX)).max(1);
    let small = averaged(image, factor);
    let mut found = nuclei(small.as_ref().unwrap_or(image));
    let whole = Rect::whole(image.width_px, image.height_px);
    while let Some((a, b)) = overlapping(&found, factor, whole) {
        let part = found.swap_remove(b);
        found[a].bounds = found[a].bounds.union(part.bounds);
        found[a].area += part.area;
    }
    let mut cells: Vec<FoundCell> = found.iter().map(|nucleus| nucleus.cell(factor, whole)).collect();
    cells.sort_by_key(|found| (found.cell.y, found.cell.x, found.cell.height, found.cell.width));
    cells
}

/// Two nuclei whose cells overlap so much that they are one cell, the first before the second.
fn overlapping(found: &[Nucleus], factor: u32, image: Rect) -> Option<(usize, usize)> {
    let area = |rect: Rect| f64::from(rect.width) * f64::from(rect.height);
    let cells: Vec<Rect> = found.iter().map(|nucleus| nucleus.cell(factor, image).cell).collect();
    let overlap = |a: Rect, b: Rect| {
        let shared = |start: u32, other: u32, end: u32, stop: u32| end.min(stop).saturating_sub(start.max(other));
        let width = shared(a.x, b.x, a.right(), b.right());
        f64::from(width) * f64::from(shared(a.y, b.y, a.bottom(), b.bottom()))
    };
    let pairs = (0..cells.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    pairs.into_iter().find(|(a, b)| overlap(cells[*a], cells[*b]) > MAX_OVERLAP * area(cells[*a]).min(area(cells[*b])))
}

/// The image at `1/factor` of its size, averaged over squares; `None` if it stays as it is.
fn averaged(image: &Rgb, factor: u32) -> Option<Rgb> {
    if factor == 1 {
        return None;
    }
    let (width, height) = ((image.width_px / factor).max(1), (image.height_px / factor).max(1));
    let (across, down) = (factor.min(image.width_px), factor.min(image.height_px));
    let count = across * down;
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let mut sums = [count / 2; 3];
            for row in 0..down {
                let start = (((y * factor + row) * image.width_px + x * factor) * 3) as usize;
                for pixel in image.pixels[start..start + (across * 3) as usize].as_chunks::<3>().0 {
                    (0..3).for_each(|c| sums[c] += u32::from(pixel[c]));
                }
            }
            pixels.extend(sums.map(|sum| (sum / count) as u8));
        }
    }
    Some(Rgb { width_px: width, height_px: height, pixels })
}

/// A nucleus at the size of the search.
#[derive(Clone, Copy)]
struct Nucleus {
    bounds: Rect,
    area: usize,
    /// Upper quartile of its stain.
    level: f32,
}

impl Nucleus {
    fn cell(&self, factor: u32, image: Rect) -> FoundCell {
        let scaled = |margin: u32| {
            let span = |start: u32, end: u32, limit: u32| {
                let from = (start * factor).saturating_sub(margin);
                (from, (end * factor).saturating_add(margin).min(limit).max(from + 1) - from)
            };
            let (x, width) = span(self.bounds.x, self.bounds.right(), image.width);
            let (y, height) = span(self.bounds.y, self.bounds.bottom(), image.height);
            Rect { x, y, width, height }
        };
        let nucleus = scaled(0);
        let margin = (f64::from(nucleus.longer_side()) * CYTOPLASM_MARGIN).ceil() as u32;
        FoundCell { nucleus, cell: scaled(margin), nucleus_px: self.area as u64 * u64::from(factor).pow(2) }
    }
}

fn nuclei(image: &Rgb) -> Vec<Nucleus> {
    let Some(stain) = Stain::estimate(image) else { return Vec::new() };
    let Some(tissue) = tissue(&stain) else { return Vec::new() };
    let levels = Levels::new(&stain, &tissue);
    let nuclear = levels.nuclear(&stain.padding);
    let parts: Vec<Vec<usize>> = nuclear.regions();
    if parts.is_empty() {
        return Vec::new();
    }
    let largest = usual_largest(parts.iter().map(Vec::len).collect());
    let red_px =
        RedCellSize::estimate(&tissue, &nuclear, &parts).filter(|red| red.area() * MAX_OF_RED >= largest as f32);
    let smallest = red_px.as_ref().map_or(MIN_REGION_PX as f32, |red| MIN_LOBE.0 * red.area());
    let parts: Vec<Vec<usize>> =
        parts.into_iter().filter(|part| part.len() as f32 >= smallest.max(MIN_LOBE.1 * largest as f32)).collect();
    let found: Vec<Nucleus> = joined(&parts, red_px.as_ref(), &nuclear)
        .into_iter()
        .map(|pixels| {
            let bounds = nuclear.with_pixels(&pixels).bounds().expect("a region has pixels");
            let level = quantile(pixels.iter().map(|i| levels.values[*i]).collect(), STRONG).unwrap_or(0.0);
            Nucleus { bounds, area: pixels.len(), level }
        })
        .collect();
    let largest = usual_largest(found.iter().map(|n| n.area).collect()) as f32;
    let large = found.iter().filter(|n| n.area as f32 >= MIN_OF_LARGEST * largest);
    let strongest = large.map(|n| n.level).fold(0.0, f32::max);
    let weakest = MIN_STAIN.max(MIN_OF_STRONGEST * strongest);
    let accepted = |min_of_red: f32, weakest: f32| {
        let smallest = match &red_px {
            Some(red) => min_of_red * red.area(),
            None => MIN_OF_IMAGE * (image.width_px * image.height_px) as f32,
        };
        let smallest = smallest.max(MIN_OF_LARGEST * largest);
        found.iter().filter(|n| n.area as f32 >= smallest && n.level >= weakest).copied().collect::<Vec<_>>()
    };
    let usual = accepted(MIN_OF_RED, weakest);
    // Overlapping red cells can seem larger than they are.
    if usual.is_empty() { accepted(MIN_OF_RED_IF_STRONG, weakest.max(STRONG_STAIN)) } else { usual }
}

/// The area of the largest nuclei: half of all area is in regions of at least this size. Of one or two nuclei it is the
/// larger one; in a wide field, a smudge that is larger than any nucleus does not count.
fn usual_largest(mut areas: Vec<usize>) -> usize {
    areas.sort_unstable_by(|a, b| b.cmp(a));
    let all: usize = areas.iter().sum();
    let mut sum = 0;
    let is_half = |area: &usize| {
        sum += area;
        2 * sum >= all
    };
    areas.into_iter().find(is_half).unwrap_or(0)
}

/// The pixels that are not plasma; `None` if there are too few for an estimate.
fn tissue(stain: &Stain) -> Option<Mask> {
    let is_plasma = |i: &usize| !stain.padding.on[*i] && stain.density[*i][1].abs() < NOISE_LEVEL;
    let plasma = (0..stain.density.len()).filter(is_plasma).map(|i| max_density(stain.density[i])).collect();
    let faintest = (OVER_NOISE * quantile(plasma, 0.5)?).clamp(FAINTEST.0, FAINTEST.1);
    let above = |i: usize| stain.density[i].iter().any(|d| *d > faintest) && !stain.padding.on[i];
    let tissue = stain.padding.same_size(above);
    (tissue.area() >= MIN_TISSUE).then_some(tissue)
}

/// How strongly each pixel is stained like a nucleus.
struct Levels {
    /// 0 for plasma, near 0 for red cells, about 0.3 (pale stain) to above 1 (usual stain) for nuclei.
    values: Vec<f32>,
    /// The level of red cells, or of whatever the palest tissue is.
    red: f32,
    /// The lowest level of a nucleus.
    lowest: f32,
}

impl Levels {
    fn new(stain: &Stain, tissue: &Mask) -> Self {
        let positive = |i: usize| stain.density[i].map(|d| d.max(0.0));
        let total = |i: usize| positive(i).iter().map(|d| d * d).sum::<f32>().sqrt();
        let totals: Vec<f32> = tissue.pixels().map(total).collect();
        let split = otsu_of(&totals);
        let mut pale: Vec<usize> = tissue.pixels().zip(&totals).filter(|(_, t)| **t <= split).map(|(i, _)| i).collect();
        if pale.len() < MIN_TISSUE {
            pale = tissue.pixels().collect();
        }
        // The direction of the red cells' densities, and the weights of the measure that is 0 along it.
        let mut red = [0.0f64; 3];
        pale.iter().for_each(|i| (0..3).for_each(|c| red[c] += f64::from(positive(*i)[c])));
        let length = red.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-9);
        let red = red.map(|v| (v / length) as f32);
        let along = (0..3).map(|c| NUCLEAR[c] * red[c]).sum::<f32>();
        let away: [f32; 3] = std::array::from_fn(|c| NUCLEAR[c] - along * red[c]);
        let level = |i: usize| match stain.padding.on[i] {
            true => 0.0,
            false => {
                let (purple, colour) = (weigh(stain.density[i], PURPLE), weigh(stain.density[i], away));
                purple.max(0.0) + COLOUR_WEIGHT * colour.max(0.0)
            }
        };
        let values: Vec<f32> = (0..stain.density.len()).map(level).collect();
        let median = |values: Vec<f32>| quantile(values, 0.5).unwrap_or(0.0);
        let red = median(pale.iter().map(|i| values[*i]).collect());
        // The deviation of a normal distribution with this median of the absolute deviations.
        let deviation = 1.4826 * median(pale.iter().map(|i| (values[*i] - red).abs()).collect());
        let mut lowest = MIN_LEVEL.max(red + MIN_DEVIATIONS * deviation);
        // In a close view of one cell the palest tissue may be its granules, which vary more than red cells do.
        if deviation > RED_DEVIATION {
            lowest = lowest.min(otsu_of(&tissue.pixels().map(|i| values[i]).collect::<Vec<f32>>()));
        }
        Self { values, red, lowest }
    }

    /// Nuclei, or lobes of nuclei, without holes.
    fn nuclear(&self, padding: &Mask) -> Mask {
        let above = padding.same_size(|i| self.values[i] > self.lowest && !padding.on[i]);
        let mut nuclear = padding.same_size(|_| false);
        for region in above.regions().into_iter().filter(|r| r.len() >= MIN_REGION_PX) {
            let top = quantile(region.iter().map(|i| self.values[*i]).collect(), TOP).unwrap_or(0.0);
            let lowest = self.lowest.max(self.red + HALF * (top - self.red));
            region.into_iter().filter(|i| self.values[*i] > lowest).for_each(|i| nuclear.on[i] = true);
        }
        nuclear.filled(f32::INFINITY)
    }
}

/// Otsu's threshold of values from 0 upwards.
fn otsu_of(values: &[f32]) -> f32 {
    let largest = values.iter().copied().fold(1e-6, f32::max);
    let bytes: Vec<u8> = values.iter().map(|v| (255.0 * v / largest) as u8).collect();
    cells::otsu(&bytes).map_or(largest, |threshold| (f32::from(threshold) + 1.0) / 255.0 * largest)
}

/// The size of the image's red cells.
struct RedCellSize {
    radius: f32,
}

impl RedCellSize {
    /// Fewest discs of about this size, and the smallest share of the image that they cover.
    const MIN_DISCS: usize = 5;
    const MIN_SHARE: f32 = 0.06;
    /// Largest pale centre of a red cell, as a share of the image.
    const LARGEST_HOLE: f32 = 0.005;
    /// This quantile, by area and from the smallest, is the radius: overlapping cells are wider than one.
    const QUANTILE: f32 = 0.4;
    /// Distance between the centres of discs, in radii of the larger one.
    const APART: f32 = 1.3;

    /// A radius typical of the largest discs that fit into the tissue away from the nuclei; also where red
    /// cells overlap, these are about as wide as one. `None` where there are too few.
    fn estimate(tissue: &Mask, nuclear: &Mask, parts: &[Vec<usize>]) -> Option<Self> {
        // Tissue within one radius of a nucleus is its cytoplasm.
        // The pale centres of red cells are holes; larger ones are plasma between cells.
        let mut red = tissue.filled(Self::LARGEST_HOLE * tissue.on.len() as f32);
        for part in parts {
            let radius = ((part.len() as f32 / std::f32::consts::PI).sqrt()).max(2.0);
            exclude(&mut red, part, radius);
        }
        (0..red.on.len()).for_each(|i| red.on[i] &= !nuclear.on[i]);
        let depth = red.depth();
        let mut order: Vec<usize> = red.pixels().filter(|i| depth[*i] >= 2.0).collect();
        order.sort_by(|a, b| depth[*b].total_cmp(&depth[*a]).then(a.cmp(b)));
        let mut taken = red.same_size(|_| false);
        let mut discs: Vec<f32> = Vec::new();
        for i in order {
            // Without any plasma, all distances are infinite.
            if !taken.on[i] && depth[i].is_finite() {
                discs.push(depth[i]);
                fill_disc(&mut taken, i, Self::APART * depth[i]);
            }
        }
        let total: f32 = discs.iter().map(|r| r * r).sum();
        let mut sum = 0.0;
        // From the largest to the smallest.
        let radius = *discs.iter().find(|r| {
            sum += **r * **r;
            sum >= total * (1.0 - Self::QUANTILE)
        })?;
        // Thin or fragmented tissue is not red cells.
        let large = discs.iter().filter(|r| **r > 0.6 * radius);
        let share = large.clone().map(|r| std::f32::consts::PI * r * r).sum::<f32>() / red.on.len() as f32;
        (large.count() >= Self::MIN_DISCS && share >= Self::MIN_SHARE).then_some(Self { radius })
    }

    fn area(&self) -> f32 {
        std::f32::consts::PI * self.radius * self.radius
    }
}

/// Switches off what is within `radius` of the pixels of `part`.
fn exclude(mask: &mut Mask, part: &[usize], radius: f32) {
    let (width, height) = (mask.width_px as i64, mask.height_px as i64);
    let reach = radius.ceil() as i64 + 1;
    let (x, y) = (|i: &usize| *i as i64 % width, |i: &usize| *i as i64 / width);
    let (Some(left), Some(right)) = (part.iter().map(x).min(), part.iter().map(x).max()) else { return };
    let (Some(top), Some(bottom)) = (part.iter().map(y).min(), part.iter().map(y).max()) else { return };
    let (left, top) = ((left - reach).max(0), (top - reach).max(0));
    let (right, bottom) = ((right + reach).min(width - 1), (bottom + reach).min(height - 1));
    let across = (right - left + 1) as usize;
    let mut window = Mask::new(across, (bottom - top + 1) as usize, |_| false);
    part.iter().for_each(|i| window.on[(y(i) - top) as usize * across + (x(i) - left) as usize] = true);
    for (i, distance) in window.distance().into_iter().enumerate().filter(|(_, d)| *d <= radius) {
        debug_assert!(distance.is_finite());
        mask.on[((top + (i / across) as i64) * width + left + (i % across) as i64) as usize] = false;
    }
}

/// Switches on the pixels within `radius` of pixel `i`.
fn fill_disc(mask: &mut Mask, i: usize, radius: f32) {
    let (width, height) = (mask.width_px as i64, mask.height_px as i64);
    let (x, y, reach) = (i as i64 % width, i as i64 / width, radius as i64);
    for v in (y - reach).max(0)..=(y + reach).min(height - 1) {
        for u in (x - reach).max(0)..=(x + reach).min(width - 1) {
            if ((u - x).pow(2) + (v - y).pow(2)) as f32 <= radius * radius {
                mask.on[(v * width + u) as usize] = true;
            }
        }
    }
}

/// The pixels of each nucleus: parts that are lobes of one nucleus are joined.
fn joined(parts: &[Vec<usize>], red: Option<&RedCellSize>, image: &Mask) -> Vec<Vec<usize>> {
    let largest = parts.iter().map(Vec::len).max().unwrap_or(0) as f32;
    let largest_radius = (largest / std::f32::consts::PI).sqrt();
    let (unit, largest_lobe) = match red {
        Some(red) => (red.radius.max(largest_radius), LARGEST_LOBE * red.area()),
        None => (2.0 * largest_radius, LARGEST_LOBE_ALONE * largest),
    };
    let bounds: Vec<Rect> =
        parts.iter().map(|part| image.with_pixels(part).bounds().expect("a region has pixels")).collect();
    let mut root: Vec<usize> = (0..parts.len()).collect();
    for a in 0..parts.len() {
        let mut near: Option<Vec<f32>> = None;
        for b in a + 1..parts.len() {
            let both = bounds[a].union(bounds[b]);
            let between = |start: u32, end: u32, other: u32, stop: u32| other.max(start).saturating_sub(end.min(stop));
            let apart = between(bounds[a].x, bounds[a].right(), bounds[b].x, bounds[b].right()).max(between(
                bounds[a].y,
                bounds[a].bottom(),
                bounds[b].y,
                bounds[b].bottom(),
            ));
            let too_large = red.is_some_and(|red| both.longer_side() as f32 > MAX_EXTENT * red.radius.max(1.0));
            if apart as f32 > LOBE_GAP * unit || too_large {
                continue;
            }
            let distance = near.get_or_insert_with(|| image.with_pixels(&parts[a]).distance());
            let gap = parts[b].iter().map(|i| distance[*i]).fold(f32::INFINITY, f32::min);
            let are_large = parts[a].len() as f32 >= largest_lobe && parts[b].len() as f32 >= largest_lobe;
            if gap <= if are_large { PART_GAP } else { LOBE_GAP } * unit {
                let (from, to) = (root[b], root[a]);
                root.iter_mut().filter(|r| **r == from).for_each(|r| *r = to);
            }
        }
    }
    let mut nuclei: Vec<Vec<usize>> = vec![Vec::new(); parts.len()];
    root.iter().zip(parts).for_each(|(root, part)| nuclei[*root].extend(part));
    nuclei.retain(|pixels| !pixels.is_empty());
    nuclei
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Rgb {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| colour(x, y));
        Rgb { width_px: width, height_px: height, pixels: pixels.collect() }
    }

    /// A frame with two white cells, red cells and platelets, at `scale`, in colours of (plasma, red cell, nucleus).
    fn frame(scale: f64, [plasma, red, nucleus]: [[u8; 3]; 3], with_cells: bool) -> Rgb {
        let within = move |x: u32, y: u32, (cx, cy): (f64, f64), radius: f64| {
            (f64::from(x) - scale * cx).hypot(f64::from(y) - scale * cy) <= scale * radius
        };
        let side = |length: f64| (length * scale) as u32;
        image(side(720.0), side(576.0), move |x, y| {
            let lobes = within(x, y, (180.0, 160.0), 28.0) || within(x, y, (235.0, 175.0), 26.0);
            let round = within(x, y, (520.0, 400.0), 45.0);
            let platelet = within(x, y, (600.0, 100.0), 8.0) || within(x, y, (100.0, 300.0), 9.0);
            let red_cell = (0..35).any(|i| {
                let centre = (60.0 + f64::from(i % 7) * 100.0, 40.0 + f64::from(i / 7) * 120.0);
                within(x, y, centre, 36.0)
            });
            match ((lobes || round) && with_cells, platelet, red_cell) {
                (true, ..) | (_, true, _) => nucleus,
                (.., true) => red,
                _ => plasma,
            }
        })
    }

    const STAINS: [[[u8; 3]; 3]; 4] = [
        [[220, 215, 220], [215, 160, 165], [110, 60, 150]],
        // LISC: red cells are bluish, nuclei are pink.
        [[255, 255, 255], [165, 170, 205], [170, 60, 165]],
        // BCCD: red cells are brown, nuclei are blue.
        [[199, 202, 200], [185, 140, 130], [100, 90, 185]],
        // Pale.
        [[235, 232, 236], [222, 205, 208], [175, 140, 200]],
    ];

    #[test]
    fn cells_are_found_in_every_stain_and_magnification() {
        for colours in STAINS {
            for scale in [0.4, 1.0, 2.5] {
                let found = find_cells(&frame(scale, colours, true));
                assert_eq!(found.len(), 2, "{colours:?} x {scale}: {found:?}");
                for (found, expected) in found.iter().zip([(152, 132, 261, 201), (475, 355, 565, 445)]) {
                    let (left, top, right, bottom) = expected;
                    let at = |v: u32| f64::from(v) / scale;
                    let nucleus = found.nucleus;
                    let edges = [nucleus.x, nucleus.y, nucleus.right(), nucleus.bottom()].map(at);
                    for (edge, expected) in edges.into_iter().zip([left, top, right, bottom]) {
                        assert!((edge - f64::from(expected)).abs() < 9.0, "{colours:?} x {scale}: {found:?}");
                    }
                    assert!(found.cell.contains(nucleus) && found.cell.width < 2 * nucleus.width);
                }
                assert_eq!(find_cells(&frame(scale, colours, false)), [], "{colours:?} x {scale}");
            }
        }
    }

    #[test]
    fn images_of_one_colour_have_no_cells() {
        for grey in [0, 100, 255] {
            assert_eq!(find_cells(&image(300, 200, |_, _| [grey; 3])), []);
        }
        assert_eq!(find_cells(&image(1, 1, |_, _| [110, 60, 150])), []);
    }

    proptest! {
        /// Images of any size are accepted, and all rectangles are inside the image.
        #[test]
        fn boxes_are_inside_the_image(width in 1u32..1500, height in 1u32..40, x0 in 0u32..1500) {
            let striped = image(width, height, |x, _| if x >= x0 { [110, 60, 150] } else { [220; 3] });
            for found in find_cells(&striped) {
                let whole = Rect::whole(width, height);
                prop_assert!(whole.contains(found.cell) && found.cell.contains(found.nucleus));
                prop_assert!(found.nucleus_px > 0);
            }
        }
    }
}
