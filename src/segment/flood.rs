//! Shortest and widest paths over the pixels of a mask, by Dijkstra's algorithm. The results do not depend on the order
//! in which pixels are visited.

use super::mask::Mask;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Steps to the eight neighbours with their lengths, 5 or 7 (Borgefors' chamfer distance, 1986).
const STEPS: [(isize, isize, u32); 8] =
    [(-1, -1, 7), (0, -1, 5), (1, -1, 7), (-1, 0, 5), (1, 0, 5), (-1, 1, 7), (0, 1, 5), (1, 1, 7)];

/// The cost of the cheapest path within `within` from the seeds to each pixel, `u32::MAX` if there is none. The cost of
/// a step is the mean `cost` of its two pixels times its length.
pub fn path_costs(seeds: &Mask, within: &Mask, cost: &[u32]) -> Vec<u32> {
    let mut least = vec![u32::MAX; cost.len()];
    let mut queue = BinaryHeap::new();
    for i in seeds.pixels().filter(|i| within.on[*i]) {
        least[i] = 0;
        queue.push((Reverse(0u32), i));
    }
    while let Some((Reverse(so_far), i)) = queue.pop() {
        if so_far > least[i] {
            continue;
        }
        for (j, length) in neighbours(within, i) {
            let sum = so_far.saturating_add(length * (cost[i] + cost[j]) / 2);
            if sum < least[j] {
                least[j] = sum;
                queue.push((Reverse(sum), j));
            }
        }
    }
    least
}

/// The width of the widest path within `within` from the seeds to each pixel, where the width of a path is the smallest
/// `depth` on it. Infinite at the seeds, 0 if there is no path.
pub fn path_widths(seeds: &Mask, within: &Mask, depth: &[f32]) -> Vec<f32> {
    let mut width = vec![0.0; depth.len()];
    let mut queue = BinaryHeap::new();
    for i in seeds.pixels().filter(|i| within.on[*i]) {
        width[i] = f32::INFINITY;
        queue.push(Entry(f32::INFINITY, i));
    }
    while let Some(Entry(so_far, i)) = queue.pop() {
        if so_far < width[i] {
            continue;
        }
        for (j, _) in neighbours(within, i) {
            let least = so_far.min(depth[j]);
            if least > width[j] {
                width[j] = least;
                queue.push(Entry(least, j));
            }
        }
    }
    width
}

/// A width and a pixel, ordered by width.
#[derive(PartialEq)]
struct Entry(f32, usize);

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The neighbours of a pixel that are in the mask, with the lengths of the steps to them.
fn neighbours(mask: &Mask, i: usize) -> impl Iterator<Item = (usize, u32)> {
    let (width, height) = (mask.width_px, mask.height_px);
    let (x, y) = (i % width, i / width);
    STEPS.into_iter().filter_map(move |(across, down, length)| {
        let (x, y) = (x.checked_add_signed(across)?, y.checked_add_signed(down)?);
        (x < width && y < height && mask.on[y * width + x]).then_some((y * width + x, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rectangles with a gap of one pixel between them, and a seed in the left one.
    fn rectangles() -> (Mask, Mask) {
        let within = Mask::new(11, 5, |i| i % 11 != 5 || i / 11 == 2);
        let seeds = within.same_size(|i| i == 2 * 11);
        (within, seeds)
    }

    #[test]
    fn a_path_through_a_gap_is_as_wide_as_the_gap() {
        let (within, seeds) = rectangles();
        let depth = within.depth();
        let width = path_widths(&seeds, &within, &depth);
        assert_eq!(width[2 * 11], f32::INFINITY);
        assert_eq!(width[2 * 11 + 9], 1.0, "after the gap");
        assert!(width[2 * 11 + 1] > 1.0, "before the gap");
        assert_eq!(width[5], 0.0, "outside the mask");
    }

    #[test]
    fn the_cheapest_path_avoids_expensive_pixels() {
        let within = Mask::new(5, 3, |_| true);
        let seeds = within.same_size(|i| i == 5);
        let mut cost = vec![1; 15];
        cost[7] = 1000;
        let least = path_costs(&seeds, &within, &cost);
        assert_eq!((least[6], least[1], least[9]), (5, 7, 5 + 7 + 7 + 5));
        assert_eq!(path_costs(&seeds, &within.same_size(|i| i % 5 != 2), &cost)[9], u32::MAX);
    }
}
