//! Sets of pixels, and what segmentation does with them.

use crate::cells;

/// A set of a picture's pixels, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub width_px: usize,
    pub height_px: usize,
    pub on: Vec<bool>,
}

impl Mask {
    /// The pixels (by their number, row by row) for which `on` holds.
    pub fn new(width_px: usize, height_px: usize, on: impl FnMut(usize) -> bool) -> Self {
        Self { width_px, height_px, on: (0..width_px * height_px).map(on).collect() }
    }

    /// A mask of the same size.
    pub fn with(&self, on: impl FnMut(usize) -> bool) -> Self {
        Self::new(self.width_px, self.height_px, on)
    }

    /// Of the same size, with these pixels.
    pub fn of(&self, pixels: &[usize]) -> Self {
        let mut mask = self.with(|_| false);
        pixels.iter().for_each(|i| mask.on[*i] = true);
        mask
    }

    /// How many pixels are in it, px².
    pub fn area(&self) -> usize {
        self.on.iter().filter(|on| **on).count()
    }

    /// The numbers of its pixels, in order.
    pub fn pixels(&self) -> impl Iterator<Item = usize> + '_ {
        self.on.iter().enumerate().filter(|(_, on)| **on).map(|(i, _)| i)
    }

    /// Radius of the circle of equal area, px.
    pub fn radius(&self) -> f32 {
        (self.area() as f32 / std::f32::consts::PI).sqrt()
    }

    /// Whether a pixel lies on the picture's border.
    pub fn is_border(&self, i: usize) -> bool {
        let (x, y) = (i % self.width_px, i / self.width_px);
        x == 0 || y == 0 || x + 1 == self.width_px || y + 1 == self.height_px
    }

    pub fn inverted(&self) -> Self {
        self.with(|i| !self.on[i])
    }

    pub fn union(&self, other: &Self) -> Self {
        self.with(|i| self.on[i] || other.on[i])
    }

    pub fn intersection(&self, other: &Self) -> Self {
        self.with(|i| self.on[i] && other.on[i])
    }

    /// The pixels of every 8-connected region.
    pub fn regions(&self) -> Vec<Vec<usize>> {
        cells::label(&self.on, self.width_px)
    }

    /// The regions for which `keep` holds.
    pub fn keep(&self, mut keep: impl FnMut(&[usize]) -> bool) -> Self {
        let mut kept = self.with(|_| false);
        for region in self.regions().iter().filter(|r| keep(r)) {
            region.iter().for_each(|i| kept.on[*i] = true);
        }
        kept
    }

    /// With its holes filled (pixels it surrounds) that are smaller than `below` pixels.
    pub fn filled(&self, below: f32) -> Self {
        let holes = self.inverted().keep(|r| (r.len() as f32) < below && !r.iter().any(|i| self.is_border(*i)));
        self.union(&holes)
    }

    /// Every pixel's distance (px) to the nearest pixel of the mask, 0 in it; infinite where it is empty. Exact:
    /// Felzenszwalb and Huttenlocher, Theory of Computing 8:415-428, 2012.
    pub fn distance(&self) -> Vec<f32> {
        let (width, height) = (self.width_px, self.height_px);
        if !self.on.contains(&true) {
            return vec![f32::INFINITY; width * height];
        }
        /// Stands for "none in this column": larger than the pictures that we take, and its square is still exact.
        const FAR: i32 = 1 << 14;
        // Down and up every column, then the lower envelope of parabolas along every row.
        let mut down: Vec<i32> = self.on.iter().map(|on| if *on { 0 } else { FAR }).collect();
        let mut carry = |from: usize, to: usize| {
            for x in 0..width {
                down[to * width + x] = down[to * width + x].min(down[from * width + x] + 1);
            }
        };
        (1..height).for_each(|y| carry(y - 1, y));
        (1..height).rev().for_each(|y| carry(y, y - 1));
        let mut distance = vec![f32::INFINITY; width * height];
        // The columns whose parabolas make the envelope, and from where on each does.
        let mut envelope: Vec<(usize, usize)> = Vec::with_capacity(width);
        for y in 0..height {
            let f = |x: usize| down[y * width + x].pow(2);
            envelope.clear();
            for x in (0..width).filter(|x| down[y * width + x] < FAR) {
                let mut start = 0;
                while let Some(&(root, from)) = envelope.last() {
                    // The first whole place where x is nearer than the root before it. Both are whole numbers far below
                    // 2^53, so that the quotient's whole part is exact; dividing whole numbers takes longer.
                    let (a, b) = (root as i32, x as i32);
                    let ahead = (f(x) + b * b) - (f(root) + a * a);
                    start = if ahead < 0 { 0 } else { (f64::from(ahead) / f64::from(2 * (b - a))) as usize + 1 };
                    if start > from {
                        break;
                    }
                    envelope.pop();
                    start = 0;
                }
                envelope.push((x, start));
            }
            let mut k = 0;
            for x in 0..if envelope.is_empty() { 0 } else { width } {
                while envelope.get(k + 1).is_some_and(|(_, from)| *from <= x) {
                    k += 1;
                }
                let along = x as i32 - envelope[k].0 as i32;
                distance[y * width + x] = ((along * along + f(envelope[k].0)) as f32).sqrt();
            }
        }
        distance
    }

    /// Every pixel's distance (px) to the nearest pixel outside of the mask; beyond the border there is none.
    pub fn depth(&self) -> Vec<f32> {
        self.inverted().distance()
    }

    /// Without what a disc of this radius (px) does not fit into.
    pub fn opened(&self, radius: f32) -> Self {
        let mut opened = self.with(|_| false);
        // What is on, and a pixel of what is off around it: the rest does not matter.
        let Some((left, top, right, bottom)) = self.bounds() else { return opened };
        let (left, top) = (left.saturating_sub(1), top.saturating_sub(1));
        let (right, bottom) = ((right + 1).min(self.width_px - 1), (bottom + 1).min(self.height_px - 1));
        let (width, height) = (right - left + 1, bottom - top + 1);
        let place = |i: usize| (top + i / width) * self.width_px + left + i % width;
        let part = Mask::new(width, height, |i| self.on[place(i)]);
        let depth = part.depth();
        let distance = part.with(|i| depth[i] > radius).distance();
        (0..width * height).filter(|i| distance[*i] <= radius).for_each(|i| opened.on[place(i)] = true);
        opened
    }

    /// Left, top, right, bottom of the smallest box around it, all of them inside; `None` where it is empty.
    pub fn bounds(&self) -> Option<(usize, usize, usize, usize)> {
        self.pixels().map(|i| (i % self.width_px, i / self.width_px)).fold(None, |bounds, (x, y)| {
            let (left, top, right, bottom) = bounds.unwrap_or((x, y, x, y));
            Some((left.min(x), top.min(y), right.max(x), bottom.max(y)))
        })
    }

    /// The pixels whose centres lie in the convex hull of the mask's pixel centres (Andrew's monotone chain, 1979).
    pub fn hull(&self) -> Self {
        type Point = (i64, i64);
        let mut points: Vec<Point> =
            self.pixels().map(|i| ((i % self.width_px) as i64, (i / self.width_px) as i64)).collect();
        points.sort_unstable();
        let turn = |o: Point, a: Point, b: Point| (a.0 - o.0) * (b.1 - o.1) - (a.1 - o.1) * (b.0 - o.0);
        let chain = |points: &mut dyn Iterator<Item = &Point>| {
            let mut chain: Vec<Point> = Vec::new();
            for &p in points {
                while chain.len() >= 2 && turn(chain[chain.len() - 2], chain[chain.len() - 1], p) <= 0 {
                    chain.pop();
                }
                chain.push(p);
            }
            chain.pop();
            chain
        };
        let mut corners = chain(&mut points.iter());
        corners.extend(chain(&mut points.iter().rev()));
        if corners.len() < 3 {
            return self.clone();
        }
        // Row by row from the left: the hull's part of a row is one run.
        let inside = |p: Point| (0..corners.len()).all(|k| turn(corners[k], corners[(k + 1) % corners.len()], p) >= 0);
        let (left, top, right, bottom) = self.bounds().unwrap_or_default();
        let mut hull = self.clone();
        for y in top..=bottom {
            let row = |x: &usize| inside((*x as i64, y as i64));
            let Some(first) = (left..=right).find(row) else { continue };
            let last = (first..=right).rev().find(row).unwrap_or(first);
            hull.on[y * self.width_px + first..=y * self.width_px + last].fill(true);
        }
        hull
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mask(width: usize, on: Vec<bool>) -> Mask {
        let height = on.len().div_ceil(width);
        Mask::new(width, height, |i| on.get(i).copied().unwrap_or(false))
    }

    proptest! {
        #[test]
        fn distances_are_those_of_a_search(on in proptest::collection::vec(proptest::bool::weighted(0.1), 1..300), width in 1usize..24) {
            let mask = mask(width, on);
            let at = |i: usize| ((i % width) as f32, (i / width) as f32);
            for (i, got) in mask.distance().into_iter().enumerate() {
                let (x, y) = at(i);
                let nearest = mask.pixels().map(|j| { let (u, v) = at(j); (x - u).powi(2) + (y - v).powi(2) });
                let wanted = nearest.fold(f32::INFINITY, f32::min).sqrt();
                prop_assert_eq!(got, wanted);
            }
        }

        /// Opening and hull do what their names say, whatever the mask.
        #[test]
        fn an_opening_lies_in_the_mask_and_the_mask_in_its_hull(
            on in proptest::collection::vec(proptest::bool::weighted(0.8), 1..400), width in 1usize..24, radius in 0.0f32..4.0,
        ) {
            let mask = mask(width, on);
            let opened = mask.opened(radius);
            prop_assert!(opened.pixels().all(|i| mask.on[i]));
            prop_assert_eq!(&opened.opened(radius), &opened);
            let hull = mask.hull();
            prop_assert!(mask.pixels().all(|i| hull.on[i]));
            prop_assert_eq!(&hull.hull(), &hull);
        }
    }

    #[test]
    fn holes_are_filled_up_to_a_size_and_the_hull_closes_a_notch() {
        // A 7 x 7 square with a hole of 4 and a notch in its right side.
        let square = Mask::new(11, 11, |i| {
            let (x, y) = (i % 11, i / 11);
            let hole = (4..6).contains(&x) && (4..6).contains(&y);
            let notch = x == 8 && y == 6;
            (2..9).contains(&x) && (2..9).contains(&y) && !hole && !notch
        });
        assert_eq!((square.area(), square.filled(4.0).area(), square.filled(5.0).area()), (44, 44, 48));
        assert_eq!(square.hull().area(), 49);
    }
}
