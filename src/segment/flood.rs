//! Floods over the pixels of a mask, from seeds. Both give every pixel a number that does not depend on the order of
//! work.

use super::mask::Mask;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Steps to the eight neighbours; the diagonal ones are 7/5 as long (Borgefors' chamfer distance, 1986).
const STEPS: [(isize, isize, u32); 8] =
    [(-1, -1, 7), (0, -1, 5), (1, -1, 7), (-1, 0, 5), (1, 0, 5), (-1, 1, 7), (0, 1, 5), (1, 1, 7)];

/// The least cost of a path from the seeds to every pixel of `within`; `u32::MAX` where there is none. A step costs
/// the mean of its two pixels' `cost` times its length.
pub fn cheapest(seeds: &Mask, within: &Mask, cost: &[u32]) -> Vec<u32> {
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

/// The width of the widest way from the seeds to every pixel of `within`: the least `depth` on it, where that is
/// greatest. Infinite in the seeds, 0 where there is no way.
pub fn widest(seeds: &Mask, within: &Mask, depth: &[f32]) -> Vec<f32> {
    let mut width = vec![0.0; depth.len()];
    let mut queue = BinaryHeap::new();
    for i in seeds.pixels().filter(|i| within.on[*i]) {
        width[i] = f32::INFINITY;
        queue.push(Way(f32::INFINITY, i));
    }
    while let Some(Way(so_far, i)) = queue.pop() {
        if so_far < width[i] {
            continue;
        }
        for (j, _) in neighbours(within, i) {
            let least = so_far.min(depth[j]);
            if least > width[j] {
                width[j] = least;
                queue.push(Way(least, j));
            }
        }
    }
    width
}

#[derive(PartialEq)]
struct Way(f32, usize);

impl Eq for Way {}

impl Ord for Way {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Way {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The neighbours that are in the mask, and how far it is to them.
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

    /// Two rooms with a door of one pixel between them.
    fn rooms() -> (Mask, Mask) {
        let within = Mask::new(11, 5, |i| i % 11 != 5 || i / 11 == 2);
        let seeds = within.with(|i| i == 2 * 11);
        (within, seeds)
    }

    #[test]
    fn the_way_through_a_door_is_as_wide_as_the_door() {
        let (within, seeds) = rooms();
        let depth = within.depth();
        let width = widest(&seeds, &within, &depth);
        assert_eq!(width[2 * 11], f32::INFINITY);
        assert_eq!(width[2 * 11 + 9], 1.0, "the door is one pixel wide");
        assert!(width[2 * 11 + 1] > 1.0, "before the door there is more room");
        assert_eq!(width[5], 0.0, "the wall");
    }

    #[test]
    fn the_cheapest_path_goes_around_what_is_dear() {
        let within = Mask::new(5, 3, |_| true);
        let seeds = within.with(|i| i == 5);
        let mut cost = vec![1; 15];
        cost[7] = 1000;
        let least = cheapest(&seeds, &within, &cost);
        assert_eq!((least[6], least[1], least[9]), (5, 7, 5 + 7 + 7 + 5));
        assert_eq!(cheapest(&seeds, &within.with(|i| i % 5 != 2), &cost)[9], u32::MAX);
    }
}
