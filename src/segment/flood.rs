//! Shortest and widest paths over the pixels of a mask, by Dijkstra's algorithm. The results do not depend on the order
//! in which pixels are visited.

use super::mask::Mask;

/// The cost of the cheapest path within `within` from the seeds to each pixel, `u32::MAX` if there is none. The cost of
/// a step is the mean `cost` of its two pixels times its length.
pub fn path_costs(seeds: &Mask, within: &Mask, cost: &[u32]) -> Vec<u32> {
    let grid = Grid::new(within);
    // No path to pixels outside is cheaper than none at all.
    let mut least: Vec<u32> = grid.padded(&within.on, false).iter().map(|on| if *on { u32::MAX } else { 0 }).collect();
    let cost = grid.padded(cost, 0);
    let mut queue = Queue::new();
    for i in seeds.pixels().filter(|i| within.on[*i]) {
        least[grid.place(i)] = 0;
        queue.push(0, grid.place(i));
    }
    while let Some((so_far, i)) = queue.pop() {
        if so_far > least[i] {
            continue;
        }
        for (step, length) in grid.steps {
            let j = i.wrapping_add_signed(step);
            let sum = so_far.saturating_add(length * (cost[i] + cost[j]) / 2);
            if sum < least[j] {
                least[j] = sum;
                queue.push(sum, j);
            }
        }
    }
    let least = grid.inner(&least);
    within.on.iter().zip(least).map(|(on, least)| if *on { least } else { u32::MAX }).collect()
}

/// The width of the widest path within `within` from the seeds to each pixel, where the width of a path is the smallest
/// `depth` on it. Infinite at the seeds, 0 if there is no path.
pub fn path_widths(seeds: &Mask, within: &Mask, depth: &[f32]) -> Vec<f32> {
    let grid = Grid::new(within);
    // No path to pixels outside is wider than what they have already.
    let at_first = |on: &bool| if *on { 0.0 } else { f32::INFINITY };
    let mut width: Vec<f32> = grid.padded(&within.on, false).iter().map(at_first).collect();
    let depth = grid.padded(depth, 0.0);
    let mut queue = Queue::new();
    // The widest first. The bits of numbers from 0 upwards are in their order.
    let rank = |width: f32| u32::MAX - width.to_bits();
    for i in seeds.pixels().filter(|i| within.on[*i]) {
        width[grid.place(i)] = f32::INFINITY;
        queue.push(rank(f32::INFINITY), grid.place(i));
    }
    while let Some((so_far, i)) = queue.pop() {
        let so_far = f32::from_bits(u32::MAX - so_far);
        if so_far < width[i] {
            continue;
        }
        for (step, _) in grid.steps {
            let j = i.wrapping_add_signed(step);
            let least = so_far.min(depth[j]);
            if least > width[j] {
                width[j] = least;
                queue.push(rank(least), j);
            }
        }
    }
    let width = grid.inner(&width);
    within.on.iter().zip(width).map(|(on, width)| if *on { width } else { 0.0 }).collect()
}

/// An image with a border of one pixel, so that every pixel has eight neighbours.
struct Grid {
    width: usize,
    height: usize,
    /// Steps to the eight neighbours with their lengths, 5 or 7 (Borgefors' chamfer distance, 1986).
    steps: [(isize, u32); 8],
}

impl Grid {
    fn new(mask: &Mask) -> Self {
        let down = mask.width_px as isize + 2;
        let steps =
            [(-down - 1, 7), (-down, 5), (-down + 1, 7), (-1, 5), (1, 5), (down - 1, 7), (down, 5), (down + 1, 7)];
        Self { width: mask.width_px, height: mask.height_px, steps }
    }

    /// Where a pixel of the image is.
    fn place(&self, i: usize) -> usize {
        (i / self.width + 1) * (self.width + 2) + i % self.width + 1
    }

    /// The values of an image, with `border` around it.
    fn padded<T: Copy>(&self, values: &[T], border: T) -> Vec<T> {
        let wide = self.width + 2;
        let mut padded = vec![border; wide * (self.height + 2)];
        for (from, to) in values.chunks_exact(self.width).zip(padded[wide..].chunks_exact_mut(wide)) {
            to[1..=self.width].copy_from_slice(from);
        }
        padded
    }

    /// The values without the border.
    fn inner<T: Copy>(&self, padded: &[T]) -> Vec<T> {
        let wide = self.width + 2;
        padded[wide..].chunks_exact(wide).take(self.height).flat_map(|row| &row[1..=self.width]).copied().collect()
    }
}

/// A queue from which the smallest keys come first, where no key is smaller than one that has come out (a radix heap:
/// Ahuja, Mehlhorn, Orlin and Tarjan, J. ACM 37:213-223, 1990).
struct Queue {
    /// The last key that came out.
    last: u32,
    /// The entries whose keys have so many bits from the first that differs from the last key.
    by_bits: [Vec<(u32, u32)>; 33],
}

impl Queue {
    fn new() -> Self {
        Self { last: 0, by_bits: std::array::from_fn(|_| Vec::new()) }
    }

    fn push(&mut self, key: u32, value: usize) {
        self.by_bits[(32 - (key ^ self.last).leading_zeros()) as usize].push((key, value as u32));
    }

    fn pop(&mut self) -> Option<(u32, usize)> {
        if self.by_bits[0].is_empty() {
            let bits = self.by_bits.iter().position(|entries| !entries.is_empty())?;
            let mut entries = std::mem::take(&mut self.by_bits[bits]);
            self.last = entries.iter().map(|(key, _)| *key).min()?;
            for (key, value) in entries.drain(..) {
                self.push(key, value as usize);
            }
            // Its memory is used again.
            self.by_bits[bits] = entries;
        }
        self.by_bits[0].pop().map(|(key, value)| (key, value as usize))
    }
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
