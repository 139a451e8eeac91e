//! Finds the cells of an image: the connected regions of an expert's mask or, without one, of the nuclear stain.
//!
//! White cells' nuclei are purple: their green is below both red and blue. Plasma is grey, and the green of red cells
//! is close to their blue (pink ones) or their red (bluish ones). Otsu's threshold (IEEE Trans. SMC 9:62-66, 1979) on
//! the difference separates nuclei from the rest.

use crate::decode::Rgb;
use crate::rect::Rect;

/// Mask regions up to this share of the image are specks, such as pen marks.
const SPECK_SHARE: f64 = 1.0 / 2000.0;
/// Mask pixels with all channels below this grey level are background. Compression leaves some that are not quite
/// black.
const MASK_LEVEL: u8 = 32;

/// A connected region of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The smallest upright rectangle around it.
    pub rect: Rect,
    /// Number of pixels, px².
    pub area_px: u64,
}

/// The 8-connected regions of a mask's non-black pixels without specks, ordered by top edge, then left edge.
pub fn from_mask(mask: &Rgb) -> Vec<Region> {
    let on: Vec<bool> = mask.pixels.chunks_exact(3).map(|p| p.iter().any(|&v| v >= MASK_LEVEL)).collect();
    let speck = (on.len() as f64 * SPECK_SHARE) as u64;
    let mut cells = regions(&on, &on, mask.width_px as usize);
    cells.retain(|r| r.area_px > speck);
    sort(&mut cells);
    cells
}

/// Finds white cells by the stain of their nuclei; the rectangles include a margin for the cytoplasm and end at the
/// image's edge. Ordered by top edge, then left edge; empty if no region looks like a nucleus.
pub fn from_stain(image: &Rgb) -> Vec<Region> {
    let (width, height) = (image.width_px as usize, image.height_px as usize);
    // About 320 px on the longer side are enough for nuclei, and averaging reduces noise.
    let factor = (width.max(height) / 320).max(1);
    let (small_width, small_height, stain) = stain(image, factor);
    let Some(threshold) = otsu(&stain).map(|t| t.max(MIN_STAIN)) else { return Vec::new() };
    let nucleus: Vec<bool> = stain.iter().map(|&s| s > threshold).collect();
    // Otherwise platelets and scattered granules could connect two cells.
    let nucleus = without_specks(nucleus, small_width);
    // Lobes of one nucleus are closer together than nuclei of two cells, so close small gaps.
    let reach = (small_width.max(small_height) as f64 * LOBE_GAP_SHARE / 2.0).round() as usize;
    let joined = dilate(&nucleus, small_width, small_height, reach);
    let mut cells = regions(&joined, &nucleus, small_width);
    let largest = cells.iter().map(|r| r.area_px).max().unwrap_or(0);
    let smallest = ((stain.len() as f64 * MIN_NUCLEUS_SHARE) as u64).max((largest as f64 * MIN_OF_LARGEST) as u64);
    cells.retain(|r| r.area_px > smallest);
    for region in &mut cells {
        let rect = &mut region.rect;
        let margin = (f64::from(rect.longer_side()) * CYTOPLASM_MARGIN).ceil() as u32;
        let span = |start: u32, length: u32, end: usize| {
            let from = (start.saturating_sub(margin) as usize) * factor;
            let to = (((start + length + margin) as usize) * factor).min(end);
            (from as u32, (to - from) as u32)
        };
        (rect.x, rect.width) = span(rect.x, rect.width, width);
        (rect.y, rect.height) = span(rect.y, rect.height, height);
        region.area_px *= (factor * factor) as u64;
    }
    sort(&mut cells);
    cells
}

/// Pixels with less stain (0 to 255) are never part of a nucleus.
const MIN_STAIN: u8 = 20;
/// Largest gap between lobes of one nucleus, as a share of the image's longer side.
const LOBE_GAP_SHARE: f64 = 0.02;
/// Smallest nucleus as a share of the image.
const MIN_NUCLEUS_SHARE: f64 = 0.004;
/// Smallest nucleus as a share of the image's largest one. Smaller regions are platelets or debris.
const MIN_OF_LARGEST: f64 = 0.3;
/// Smallest lobe of a nucleus as a share of the largest connected region.
const MIN_LOBE: f64 = 0.08;
/// Margin for the cytoplasm around a nucleus, as a share of the nucleus's longer side.
const CYTOPLASM_MARGIN: f64 = 0.25;

/// How far green is below the smaller of red and blue, weighted by darkness, 0 to 255. The image is averaged over
/// squares of `factor` x `factor` pixels first (or the whole side where it is shorter). Returns width, height and
/// values.
fn stain(image: &Rgb, factor: usize) -> (usize, usize, Vec<u8>) {
    let (width, height) = (image.width_px as usize, image.height_px as usize);
    let (small_width, small_height) = ((width / factor).max(1), (height / factor).max(1));
    let (across, down) = (factor.min(width), factor.min(height));
    let mut values = Vec::with_capacity(small_width * small_height);
    for y in 0..small_height {
        for x in 0..small_width {
            let (mut red, mut green, mut blue) = (0u32, 0u32, 0u32);
            for row in 0..down {
                let start = ((y * factor + row) * width + x * factor) * 3;
                for pixel in image.pixels[start..start + across * 3].chunks_exact(3) {
                    red += u32::from(pixel[0]);
                    green += u32::from(pixel[1]);
                    blue += u32::from(pixel[2]);
                }
            }
            let count = (across * down) as u32;
            let (purple, dark) = (red.min(blue).saturating_sub(green) / count, 255 - green / count);
            values.push((2 * purple * dark / 255).min(255) as u8);
        }
    }
    (small_width, small_height, values)
}

/// Otsu's threshold, which best separates `values` into two groups; the upper one is above it. `None` if all are equal.
pub(crate) fn otsu(values: &[u8]) -> Option<u8> {
    let mut counts = [0u64; 256];
    values.iter().for_each(|&v| counts[v as usize] += 1);
    let total = values.len() as f64;
    let sum: f64 = counts.iter().enumerate().map(|(v, &n)| v as f64 * n as f64).sum();
    let (mut below, mut sum_below, mut best) = (0.0, 0.0, None);
    let mut best_variance = 0.0;
    for (value, &n) in counts.iter().enumerate() {
        below += n as f64;
        sum_below += value as f64 * n as f64;
        let above = total - below;
        if below > 0.0 && above > 0.0 {
            let variance = below * above * (sum_below / below - (sum - sum_below) / above).powi(2);
            if variance > best_variance {
                (best_variance, best) = (variance, Some(value as u8));
            }
        }
    }
    best
}

/// `on` without the regions that are much smaller than the largest.
fn without_specks(mut on: Vec<bool>, width: usize) -> Vec<bool> {
    let pieces = connected_regions(&on, width);
    let largest = pieces.iter().map(Vec::len).max().unwrap_or(0);
    for pixels in pieces.iter().filter(|p| (p.len() as f64) < largest as f64 * MIN_LOBE) {
        pixels.iter().for_each(|&i| on[i] = false);
    }
    on
}

/// Dilates by a square: all pixels at most `reach` from one that is on, both in x and in y.
fn dilate(on: &[bool], width: usize, height: usize, reach: usize) -> Vec<bool> {
    let mut wide = vec![false; on.len()];
    let mut both = vec![false; on.len()];
    for (i, _) in on.iter().enumerate().filter(|(_, on)| **on) {
        let (x, row) = (i % width, i / width * width);
        wide[row + x.saturating_sub(reach)..=row + (x + reach).min(width - 1)].fill(true);
    }
    for (i, _) in wide.iter().enumerate().filter(|(_, on)| **on) {
        let (x, y) = (i % width, i / width);
        for row in y.saturating_sub(reach)..=(y + reach).min(height - 1) {
            both[row * width + x] = true;
        }
    }
    both
}

/// The 8-connected regions of `on`; rectangle and area count only pixels that are also in `core`.
fn regions(on: &[bool], core: &[bool], width: usize) -> Vec<Region> {
    let region = |pixels: Vec<usize>| {
        let (mut left, mut right, mut top, mut bottom, mut area_px) = (u32::MAX, 0, u32::MAX, 0, 0);
        for i in pixels.into_iter().filter(|&i| core[i]) {
            let (x, y) = ((i % width) as u32, (i / width) as u32);
            (left, right, top, bottom) = (left.min(x), right.max(x), top.min(y), bottom.max(y));
            area_px += 1;
        }
        (area_px > 0).then(|| {
            let rect = Rect { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
            Region { rect, area_px }
        })
    };
    connected_regions(on, width).into_iter().filter_map(region).collect()
}

/// The pixel numbers (row by row) of each 8-connected region of `on`.
pub(crate) fn connected_regions(on: &[bool], width: usize) -> Vec<Vec<usize>> {
    // A border of pixels that are off gives each pixel eight neighbours.
    let wide = width + 2;
    let mut unvisited = vec![false; (on.len() / width.max(1) + 2) * wide];
    for (row, padded) in on.chunks_exact(width.max(1)).zip(unvisited[wide..].chunks_exact_mut(wide)) {
        padded[1..=width].copy_from_slice(row);
    }
    let mut regions = Vec::new();
    for start in wide..unvisited.len() {
        if !unvisited[start] {
            continue;
        }
        unvisited[start] = false;
        let mut pixels = vec![start];
        let mut next = 0;
        while let Some(&i) = pixels.get(next) {
            next += 1;
            let (above, below) = (i - wide, i + wide);
            for n in [above - 1, above, above + 1, i - 1, i + 1, below - 1, below, below + 1] {
                if unvisited[n] {
                    unvisited[n] = false;
                    pixels.push(n);
                }
            }
        }
        pixels.iter_mut().for_each(|i| *i = (*i / wide - 1) * width + *i % wide - 1);
        regions.push(pixels);
    }
    regions
}

fn sort(regions: &mut [Region]) {
    regions.sort_by_key(|Region { rect, .. }| (rect.y, rect.x, rect.height, rect.width));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Rgb {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| colour(x, y));
        Rgb { width_px: width, height_px: height, pixels: pixels.collect() }
    }

    fn within(x: u32, y: u32, cx: i64, cy: i64, radius: i64) -> bool {
        (i64::from(x) - cx).pow(2) + (i64::from(y) - cy).pow(2) <= radius * radius
    }

    #[test]
    fn mask_regions_are_8_connected_ordered_and_without_specks() {
        let mask = image(100, 60, |x, y| {
            let diagonal =
                (70..80).contains(&x) && (5..15).contains(&y) || (80..90).contains(&x) && (15..25).contains(&y);
            let cell = (10..30).contains(&x) && (30..45).contains(&y);
            let speck = (50..52).contains(&x) && y == 50;
            if diagonal || cell {
                [128; 3]
            } else if speck {
                [255; 3]
            } else {
                [3; 3]
            }
        });
        let region = |x, y, width, height, area_px| Region { rect: Rect { x, y, width, height }, area_px };
        assert_eq!(from_mask(&mask), [region(70, 5, 20, 20, 200), region(10, 30, 20, 15, 300)]);
    }

    #[test]
    fn stain_finds_nuclei_but_not_red_cells_or_platelets() {
        let frame = image(720, 576, |x, y| {
            let lobes = within(x, y, 180, 160, 28) || within(x, y, 235, 175, 26);
            let round = within(x, y, 520, 400, 45);
            let platelet = within(x, y, 600, 100, 8);
            let red = within(x, y, 380, 260, 45) || within(x, y, 80, 450, 45);
            match (lobes || round || platelet, red) {
                (true, _) => [110, 60, 150],
                (_, true) => [215, 160, 165],
                _ => [220, 215, 220],
            }
        });
        let cells = from_stain(&frame);
        assert_eq!(cells.len(), 2, "{cells:?}");
        for (region, (left, top, right, bottom)) in cells.iter().zip([(152, 132, 261, 201), (475, 355, 565, 445)]) {
            let rect = region.rect;
            assert!(rect.x < left && rect.right() > right, "{region:?}");
            assert!(rect.y < top && rect.bottom() > bottom, "{region:?}");
            assert!(rect.width < 2 * (right - left), "{region:?}");
        }
        let empty = image(720, 576, |x, _| if x % 90 < 40 { [215, 160, 165] } else { [220, 215, 220] });
        assert_eq!(from_stain(&empty), []);
        // Degenerate images must not panic.
        assert!(from_stain(&image(640, 1, |x, _| if x > 300 { [110, 60, 150] } else { [220; 3] })).len() <= 1);
    }

    proptest! {
        /// Each pixel that is on is in exactly one region, and all rectangles are inside the image.
        #[test]
        fn regions_partition_the_pixels(on in proptest::collection::vec(any::<bool>(), 1..400), width in 1usize..20) {
            let height = on.len().div_ceil(width);
            let mut on = on;
            on.resize(width * height, false);
            let regions = regions(&on, &on, width);
            prop_assert_eq!(regions.iter().map(|r| r.area_px).sum::<u64>(), on.iter().filter(|v| **v).count() as u64);
            for r in regions {
                prop_assert!(Rect::whole(width as u32, height as u32).contains(r.rect));
                prop_assert!(r.area_px <= u64::from(r.rect.width) * u64::from(r.rect.height));
            }
        }

        /// Images of any size are accepted, and all rectangles are inside the image.
        #[test]
        fn stain_regions_are_inside_the_image(width in 1u32..700, height in 1u32..40, x0 in 0u32..700) {
            let frame = image(width, height, |x, _| if x >= x0 { [110, 60, 150] } else { [220; 3] });
            for r in from_stain(&frame) {
                prop_assert!(Rect::whole(width, height).contains(r.rect) && r.area_px > 0);
            }
        }
    }
}
