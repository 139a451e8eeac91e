//! Sets of pixels and morphological operations on them.

use crate::cells;
use crate::rect::Rect;

/// A set of pixels of an image. Pixels are numbered row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Width of the image, px.
    pub width_px: usize,
    /// Height of the image, px.
    pub height_px: usize,
    /// `[height_px, width_px]`: whether each pixel is in the set.
    pub on: Vec<bool>,
}

impl Mask {
    /// The pixels for whose number `on` is true.
    pub fn new(width_px: usize, height_px: usize, on: impl FnMut(usize) -> bool) -> Self {
        Self { width_px, height_px, on: (0..width_px * height_px).map(on).collect() }
    }

    /// A mask of the same size with the pixels for whose number `on` is true.
    pub fn same_size(&self, on: impl FnMut(usize) -> bool) -> Self {
        Self::new(self.width_px, self.height_px, on)
    }

    /// A mask of the same size with the given pixels.
    pub fn with_pixels(&self, pixels: &[usize]) -> Self {
        let mut mask = self.same_size(|_| false);
        pixels.iter().for_each(|i| mask.on[*i] = true);
        mask
    }

    /// Number of pixels in the set, px².
    pub fn area(&self) -> usize {
        self.on.iter().filter(|on| **on).count()
    }

    /// The numbers of the pixels in the set, in order.
    pub fn pixels(&self) -> impl Iterator<Item = usize> + '_ {
        self.on.iter().enumerate().filter(|(_, on)| **on).map(|(i, _)| i)
    }

    /// Radius of the disc of equal area, px.
    pub fn radius(&self) -> f32 {
        (self.area() as f32 / std::f32::consts::PI).sqrt()
    }

    /// Whether pixel `i` is in the first or last row or column of the image.
    pub fn is_border(&self, i: usize) -> bool {
        let (x, y) = (i % self.width_px, i / self.width_px);
        x == 0 || y == 0 || x + 1 == self.width_px || y + 1 == self.height_px
    }

    /// The pixels that are not in this mask.
    pub fn inverted(&self) -> Self {
        self.same_size(|i| !self.on[i])
    }

    /// The pixels in this mask or in `other`, which must have the same size.
    pub fn union(&self, other: &Self) -> Self {
        self.same_size(|i| self.on[i] || other.on[i])
    }

    /// The pixels in both this mask and `other`, which must have the same size.
    pub fn intersection(&self, other: &Self) -> Self {
        self.same_size(|i| self.on[i] && other.on[i])
    }

    /// The pixels of each 8-connected region.
    pub fn regions(&self) -> Vec<Vec<usize>> {
        cells::connected_regions(&self.on, self.width_px)
    }

    /// The regions for which `keep` is true.
    pub fn keep(&self, mut keep: impl FnMut(&[usize]) -> bool) -> Self {
        let mut kept = self.same_size(|_| false);
        for region in self.regions().iter().filter(|r| keep(r)) {
            region.iter().for_each(|i| kept.on[*i] = true);
        }
        kept
    }

    /// Fills holes (regions that the mask surrounds) smaller than `below` pixels.
    pub fn filled(&self, below: f32) -> Self {
        let holes = self.inverted().keep(|r| (r.len() as f32) < below && !r.iter().any(|i| self.is_border(*i)));
        self.union(&holes)
    }

    /// The Euclidean distance of each pixel to the nearest pixel of the mask, px: 0 in the mask, infinite if it is
    /// empty. Exact (Felzenszwalb and Huttenlocher, Theory of Computing 8:415-428, 2012).
    pub fn distance(&self) -> Vec<f32> {
        let (width, height) = (self.width_px, self.height_px);
        if !self.on.contains(&true) {
            return vec![f32::INFINITY; width * height];
        }
        /// No pixel in this column. Larger than any supported image, and its square does not overflow.
        const FAR: i32 = 1 << 14;
        // Distances along the columns, then the lower envelope of parabolas along the rows.
        let mut down: Vec<i32> = self.on.iter().map(|on| if *on { 0 } else { FAR }).collect();
        let propagate = |from: &[i32], to: &mut [i32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = (*to).min(*from + 1));
        };
        for y in 1..height {
            let (above, here) = down.split_at_mut(y * width);
            propagate(&above[(y - 1) * width..], &mut here[..width]);
        }
        for y in (1..height).rev() {
            let (above, here) = down.split_at_mut(y * width);
            propagate(&here[..width], &mut above[(y - 1) * width..]);
        }
        let mut squares = vec![i32::MAX; width * height];
        // The columns whose parabolas form the envelope, and the first column of each.
        let mut envelope: Vec<(usize, usize)> = Vec::with_capacity(width);
        for (down, squares) in down.chunks_exact(width).zip(squares.chunks_exact_mut(width)) {
            let f = |x: usize| down[x] * down[x];
            let mut next = 0;
            // The pixels between two of the mask are nearest to one of these or to one of another row between them.
            while next < width {
                if down[next] == 0 {
                    squares[next] = 0;
                    next += 1;
                    continue;
                }
                let first = next;
                next = down[first..].iter().position(|d| *d == 0).map_or(width, |ahead| first + ahead);
                envelope.clear();
                for x in (first.saturating_sub(1)..width.min(next + 1)).filter(|x| down[*x] < FAR) {
                    let mut start = 0;
                    while let Some(&(root, from)) = envelope.last() {
                        // The first column that is closer to x than to the previous root. Dividing as f64 is faster
                        // than as integers, and its integer part is exact because both are far below 2^53.
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
                for x in if envelope.is_empty() { 0..0 } else { first..next } {
                    while envelope.get(k + 1).is_some_and(|(_, from)| *from <= x) {
                        k += 1;
                    }
                    let along = x as i32 - envelope[k].0 as i32;
                    squares[x] = along * along + f(envelope[k].0);
                }
            }
        }
        // There is a pixel in the mask, so that no distance is infinite.
        squares.into_iter().map(|square| (square as f32).sqrt()).collect()
    }

    /// The distance of each pixel to the nearest pixel outside the mask, px. The surroundings of the image do not count
    /// as outside.
    pub fn depth(&self) -> Vec<f32> {
        self.inverted().distance()
    }

    /// Morphological opening: removes the parts into which a disc of this radius (px) does not fit.
    pub fn opened(&self, radius: f32) -> Self {
        let mut opened = self.same_size(|_| false);
        // Only the bounding rectangle with a border of one pixel matters.
        let Some(bounds) = self.bounds() else { return opened };
        let (left, top) = (bounds.x.saturating_sub(1) as usize, bounds.y.saturating_sub(1) as usize);
        let right = (bounds.right() as usize + 1).min(self.width_px);
        let bottom = (bounds.bottom() as usize + 1).min(self.height_px);
        let (width, height) = (right - left, bottom - top);
        let full = |i: usize| (top + i / width) * self.width_px + left + i % width;
        let part = Mask::new(width, height, |i| self.on[full(i)]);
        let depth = part.depth();
        let distance = part.same_size(|i| depth[i] > radius).distance();
        (0..width * height).filter(|i| distance[*i] <= radius).for_each(|i| opened.on[full(i)] = true);
        opened
    }

    /// The smallest rectangle around the mask; `None` if it is empty.
    pub fn bounds(&self) -> Option<Rect> {
        let pixel =
            |i: usize| Rect { x: (i % self.width_px) as u32, y: (i / self.width_px) as u32, width: 1, height: 1 };
        self.pixels().map(pixel).reduce(|a, b| a.union(b))
    }

    /// The pixels whose centres are in the convex hull of the centres of the mask's pixels (Andrew's monotone chain,
    /// 1979).
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
        // The pixels of a row that are in the hull are contiguous.
        let inside = |p: Point| (0..corners.len()).all(|k| turn(corners[k], corners[(k + 1) % corners.len()], p) >= 0);
        let Some(bounds) = self.bounds() else { return self.clone() };
        let (left, right) = (bounds.x as usize, bounds.right() as usize);
        let mut hull = self.clone();
        for y in bounds.y as usize..bounds.bottom() as usize {
            let row = |x: &usize| inside((*x as i64, y as i64));
            let Some(first) = (left..right).find(row) else { continue };
            let last = (first..right).rev().find(row).unwrap_or(first);
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
        fn distances_equal_those_of_an_exhaustive_search(
            on in proptest::collection::vec(proptest::bool::weighted(0.1), 1..300), width in 1usize..24,
        ) {
            let mask = mask(width, on);
            let at = |i: usize| ((i % width) as f32, (i / width) as f32);
            for (i, got) in mask.distance().into_iter().enumerate() {
                let (x, y) = at(i);
                let nearest = mask.pixels().map(|j| { let (u, v) = at(j); (x - u).powi(2) + (y - v).powi(2) });
                let wanted = nearest.fold(f32::INFINITY, f32::min).sqrt();
                prop_assert_eq!(got, wanted);
            }
        }

        #[test]
        fn the_mask_contains_its_opening_and_its_hull_contains_the_mask(
            on in proptest::collection::vec(proptest::bool::weighted(0.8), 1..400), width in 1usize..24,
            radius in 0.0f32..4.0,
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
    fn small_holes_are_filled_and_the_hull_closes_a_notch() {
        // A 7 x 7 square with a hole of 4 pixels and a notch in its right side.
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
