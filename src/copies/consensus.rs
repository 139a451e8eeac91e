//! The transform that most matching keypoints of two images agree on.

use super::keypoints::{Keypoint, MIRROR, MOST};
use pulp::{Arch, Simd, WithSimd};
use std::f32::consts::PI;

/// An affine map of positions `(x, y)` in one view to `(xx x + xy y + x0, yx x + yy y + y0)` in another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Factor of x in the new x.
    pub xx: f32,
    /// Factor of y in the new x.
    pub xy: f32,
    /// Shift of x, px.
    pub x0: f32,
    /// Factor of x in the new y.
    pub yx: f32,
    /// Factor of y in the new y.
    pub yy: f32,
    /// Shift of y, px.
    pub y0: f32,
}

impl Affine {
    /// Where a position goes.
    #[inline(always)]
    pub fn apply(&self, x: f32, y: f32) -> (f32, f32) {
        (self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0)
    }

    /// Ratio of areas, negative if the image is mirrored.
    pub fn determinant(&self) -> f32 {
        self.xx * self.yy - self.xy * self.yx
    }

    /// The smallest and the largest factor by which lengths change.
    pub fn stretch(&self) -> (f32, f32) {
        let squares = (self.xx.powi(2) + self.xy.powi(2) + self.yx.powi(2) + self.yy.powi(2)) / 2.0;
        let difference = (squares * squares - self.determinant().powi(2)).max(0.0).sqrt();
        ((squares - difference).max(0.0).sqrt(), (squares + difference).sqrt())
    }
}

/// Keypoints of two images that match, and the transform that they agree on.
pub struct Consensus {
    /// From the first view to the second.
    pub map: Affine,
    /// How many keypoints of the first view agree.
    pub matches: usize,
    /// The same, where each counts by how many bits fewer than a match by chance differ.
    pub strength: u32,
}

/// Matches every keypoint of `a`, and its mirror image, with the most similar one of `b`, if that is similar enough,
/// and returns the transform that most matches agree on.
pub fn consensus(a: &[Keypoint], b: &[Keypoint]) -> Option<Consensus> {
    Arch::new().dispatch(Search { a, b })
}

/// [`consensus`], compiled for the processor's vector instructions and its instruction to count bits.
struct Search<'a> {
    a: &'a [Keypoint],
    b: &'a [Keypoint],
}

impl WithSimd for Search<'_> {
    type Output = Option<Consensus>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<Consensus> {
        let matches = Matches::new(self.a, self.b);
        let mut best: (u32, usize) = (0, 0);
        for hypothesis in 0..matches.n {
            let strength = matches.strength_of_agreeing(hypothesis);
            if strength > best.0 {
                best = (strength, hypothesis);
            }
        }
        let (strength, hypothesis) = best;
        let inliers: Vec<usize> = if strength > 0 { matches.agreeing(hypothesis) } else { return None };
        Some(Consensus { map: matches.fit(&inliers, hypothesis), matches: inliers.len(), strength })
    }
}

/// Largest number of matches: each keypoint and its mirror image.
const MOST_MATCHES: usize = 2 * MOST;

/// Matches of keypoints `p` of one image with keypoints `q` of another, as columns: a hypothesis is compared with many
/// matches at once. What follows the first `n` is 0.
struct Matches {
    n: usize,
    px: [f32; MOST_MATCHES],
    py: [f32; MOST_MATCHES],
    qx: [f32; MOST_MATCHES],
    qy: [f32; MOST_MATCHES],
    /// Logarithm of the factor by which the second keypoint is larger.
    scale: [f32; MOST_MATCHES],
    /// Angle by which the second keypoint is turned, -pi to pi.
    turn: [f32; MOST_MATCHES],
    /// -1 where the first keypoint is mirrored top to bottom, else 1.
    flip: [f32; MOST_MATCHES],
    /// By how many bits fewer than a match by chance the codes differ.
    strength: [u32; MOST_MATCHES],
}

impl Matches {
    #[inline(always)]
    fn new(a: &[Keypoint], b: &[Keypoint]) -> Self {
        /// Largest number of differing bits of a match.
        const FAR: u32 = 10;
        let zero = [0f32; MOST_MATCHES];
        let mut matches = Self {
            n: 0,
            px: zero,
            py: zero,
            qx: zero,
            qy: zero,
            scale: zero,
            turn: zero,
            flip: zero,
            strength: [0; MOST_MATCHES],
        };
        let b = &b[..b.len().min(MOST)];
        for p in a.iter().take(MOST) {
            for (flip, mirror) in [(1.0, 0), (-1.0, *MIRROR)] {
                let code = p.code ^ mirror;
                // The number of bits and the keypoint in one number: its minimum needs no branches.
                let nearest = b.iter().zip(0u32..).map(|(q, j)| (code ^ q.code).count_ones() << 8 | j).min();
                let Some(nearest) = nearest.filter(|nearest| nearest >> 8 <= FAR) else { continue };
                let (bits, q) = (nearest >> 8, &b[(nearest & 0xff) as usize]);
                let turn = q.angle - flip * p.angle;
                let n = matches.n;
                (matches.px[n], matches.py[n], matches.qx[n], matches.qy[n]) = (p.x, p.y, q.x, q.y);
                matches.scale[n] = (q.sigma / p.sigma).ln();
                matches.turn[n] = turn - 2.0 * PI * (turn / (2.0 * PI)).round();
                matches.flip[n] = flip;
                matches.strength[n] = FAR + 1 - bits;
                matches.n += 1;
            }
        }
        matches
    }

    /// The transform that a single match gives.
    #[inline(always)]
    fn map(&self, i: usize) -> Affine {
        let (sin, cos) = self.turn[i].sin_cos();
        let (scale, flip) = (self.scale[i].exp(), self.flip[i]);
        let (xx, xy, yx, yy) = (scale * cos, -scale * sin * flip, scale * sin, scale * cos * flip);
        let (x, y) = (self.px[i], self.py[i]);
        Affine { xx, xy, x0: self.qx[i] - xx * x - xy * y, yx, yy, y0: self.qy[i] - yx * x - yy * y }
    }

    /// Whether a match agrees with the transform of another.
    #[inline(always)]
    fn agrees(&self, other: usize, hypothesis: usize, map: Affine) -> bool {
        /// Largest distance between where a keypoint is and where the transform puts it, px of the view, and its
        /// increase with the distance from the keypoint that gave the transform.
        const DISTANCE: f32 = 2.7;
        const INCREASE: f32 = 0.15;
        const SCALE: f32 = 0.4;
        const TURN: f32 = 0.45;
        let (i, j) = (hypothesis, other);
        // Both are between a half turn to the left and one to the right.
        let turn = (self.turn[j] - self.turn[i]).abs();
        let length = |x: f32, y: f32| (x * x + y * y).sqrt();
        let (x, y) = map.apply(self.px[j], self.py[j]);
        let away = length(x - self.qx[j], y - self.qy[j]);
        let most = DISTANCE + INCREASE * length(self.qx[j] - self.qx[i], self.qy[j] - self.qy[i]);
        (self.flip[j] == self.flip[i])
            & ((self.scale[j] - self.scale[i]).abs() <= SCALE)
            & ((turn <= TURN) | (turn >= 2.0 * PI - TURN))
            & (away <= most)
    }

    /// The strengths of the matches that agree with one of them, together.
    #[inline(always)]
    fn strength_of_agreeing(&self, hypothesis: usize) -> u32 {
        /// Matches that are compared at once.
        const LANES: usize = 8;
        let map = self.map(hypothesis);
        let mut sums = [0u32; LANES];
        for first in (0..self.n).step_by(LANES) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let agrees = self.agrees(first + lane, hypothesis, map);
                *sum += if agrees { self.strength[first + lane] } else { 0 };
            }
        }
        sums.iter().sum()
    }

    /// The matches that agree with one of them.
    fn agreeing(&self, hypothesis: usize) -> Vec<usize> {
        let map = self.map(hypothesis);
        (0..self.n).filter(|other| self.agrees(*other, hypothesis, map)).collect()
    }

    /// The similarity transform with the least squared distances of the matches.
    fn fit(&self, inliers: &[usize], hypothesis: usize) -> Affine {
        let flip = self.flip[hypothesis];
        let n = inliers.len() as f32;
        let mean = |values: &[f32]| inliers.iter().map(|i| values[*i]).sum::<f32>() / n;
        let (px, py) = (mean(&self.px), flip * mean(&self.py));
        let (qx, qy) = (mean(&self.qx), mean(&self.qy));
        let (mut dot, mut cross, mut norm) = (0f32, 0f32, 0f32);
        for &i in inliers {
            let (x, y) = (self.px[i] - px, flip * self.py[i] - py);
            let (u, v) = (self.qx[i] - qx, self.qy[i] - qy);
            dot += x * u + y * v;
            cross += x * v - y * u;
            norm += x * x + y * y;
        }
        // Matches in a single place say nothing of scale and angle.
        if inliers.len() < 3 || norm / n < 28.0 {
            return self.map(hypothesis);
        }
        let (c, s) = (dot / norm, cross / norm);
        Affine { xx: c, xy: -s * flip, x0: qx - c * px + s * py, yx: s, yy: c * flip, y0: qy - s * px - c * py }
    }
}
