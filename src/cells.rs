//! The connected regions of pixels, such as the cells of an expert's mask, and Otsu's threshold (IEEE Trans. SMC
//! 9:62-66, 1979).

use crate::decode::Rgb;
use crate::rect::Rect;
use serde::{Deserialize, Serialize};

/// Mask regions up to this share of the image are specks, such as pen marks.
const SPECK_SHARE: f64 = 1.0 / 2000.0;
/// Mask pixels with all channels below this grey level are background. Compression leaves some that are not quite
/// black.
pub(crate) const MASK_LEVEL: u8 = 32;

/// A connected region of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    }
}
