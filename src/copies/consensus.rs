//! The transform that most matching keypoints of two images agree on.

use super::keypoints::{Keypoint, MIRROR};
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
    /// The map in the coordinates of halved views.
    pub fn halved(&self) -> Self {
        let at = |v0: f32, x: f32, y: f32| (v0 + 0.5 * (x + y) - 0.5) / 2.0;
        Self { x0: at(self.x0, self.xx, self.xy), y0: at(self.y0, self.yx, self.yy), ..*self }
    }

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

struct Match {
    a: usize,
    b: usize,
    map: Affine,
    scale: f32,
    turn: f32,
    mirrored: bool,
    strength: u32,
}

/// Matches every keypoint of `a` with the most similar one of `b`, and returns the transform that most matches agree
/// on.
pub fn consensus(a: &[Keypoint], b: &[Keypoint]) -> Option<Consensus> {
    let matches = Arch::new().dispatch(Matches { a, b });
    let mut best: (u32, usize) = (0, 0);
    for (i, hypothesis) in matches.iter().enumerate() {
        let n = agreeing(a, b, &matches, hypothesis).map(|m| m.strength).sum();
        if n > best.0 {
            best = (n, i);
        }
    }
    let hypothesis = matches.get(best.1)?;
    let inliers: Vec<&Match> = agreeing(a, b, &matches, hypothesis).collect();
    let map = fit(a, b, &inliers, hypothesis);
    Some(Consensus { map, matches: inliers.len(), strength: best.0 })
}

/// Matches every keypoint of `a`, and its mirror image, with the most similar one of `b`, if that is similar enough.
/// Compiled for the processor's instruction to count bits.
struct Matches<'a> {
    a: &'a [Keypoint],
    b: &'a [Keypoint],
}

impl WithSimd for Matches<'_> {
    type Output = Vec<Match>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Match> {
        /// Largest number of differing bits of a match.
        const FAR: u32 = 10;
        let mirror = *MIRROR;
        let mut matches = Vec::new();
        for (i, p) in self.a.iter().enumerate() {
            for mirrored in [false, true] {
                let code = if mirrored { p.code ^ mirror } else { p.code };
                let (mut least, mut nearest) = (FAR + 1, 0);
                for (j, q) in self.b.iter().enumerate() {
                    let bits = (code ^ q.code).count_ones();
                    if bits < least {
                        (least, nearest) = (bits, j);
                    }
                }
                if least <= FAR {
                    matches.push(hypothesis(p, &self.b[nearest], (i, nearest), mirrored, FAR + 1 - least));
                }
            }
        }
        matches
    }
}

fn hypothesis(p: &Keypoint, q: &Keypoint, (a, b): (usize, usize), mirrored: bool, strength: u32) -> Match {
    let scale = q.sigma / p.sigma;
    let flip = if mirrored { -1.0 } else { 1.0 };
    let turn = (q.angle - flip * p.angle + PI).rem_euclid(2.0 * PI) - PI;
    let (sin, cos) = turn.sin_cos();
    let (xx, xy, yx, yy) = (scale * cos, -scale * sin * flip, scale * sin, scale * cos * flip);
    let map = Affine { xx, xy, x0: q.x - xx * p.x - xy * p.y, yx, yy, y0: q.y - yx * p.x - yy * p.y };
    Match { a, b, map, scale: scale.ln(), turn, mirrored, strength }
}

fn agreeing<'a>(
    a: &'a [Keypoint],
    b: &'a [Keypoint],
    matches: &'a [Match],
    hypothesis: &'a Match,
) -> impl Iterator<Item = &'a Match> {
    /// Largest distance between where a keypoint is and where the transform puts it, px of the view, and its increase
    /// with the distance from the keypoint that gave the transform.
    const DISTANCE: f32 = 4.0;
    const INCREASE: f32 = 0.15;
    const SCALE: f32 = 0.4;
    const TURN: f32 = 0.45;
    matches.iter().filter(move |other| {
        if other.mirrored != hypothesis.mirrored || (other.scale - hypothesis.scale).abs() > SCALE {
            return false;
        }
        // Both are between a half turn to the left and one to the right.
        let turn = (other.turn - hypothesis.turn).abs();
        if turn > TURN && turn < 2.0 * PI - TURN {
            return false;
        }
        let length = |x: f32, y: f32| (x * x + y * y).sqrt();
        let (p, q, origin) = (&a[other.a], &b[other.b], &b[hypothesis.b]);
        let (x, y) = hypothesis.map.apply(p.x, p.y);
        length(x - q.x, y - q.y) <= DISTANCE + INCREASE * length(q.x - origin.x, q.y - origin.y)
    })
}

/// The similarity transform with the least squared distances of the matches.
fn fit(a: &[Keypoint], b: &[Keypoint], inliers: &[&Match], hypothesis: &Match) -> Affine {
    let flip = if hypothesis.mirrored { -1.0 } else { 1.0 };
    let n = inliers.len() as f32;
    let mean = |f: &dyn Fn(&Match) -> f32| inliers.iter().map(|m| f(m)).sum::<f32>() / n;
    let (px, py) = (mean(&|m| a[m.a].x), mean(&|m| flip * a[m.a].y));
    let (qx, qy) = (mean(&|m| b[m.b].x), mean(&|m| b[m.b].y));
    let (mut dot, mut cross, mut norm) = (0f32, 0f32, 0f32);
    for m in inliers {
        let (x, y) = (a[m.a].x - px, flip * a[m.a].y - py);
        let (u, v) = (b[m.b].x - qx, b[m.b].y - qy);
        dot += x * u + y * v;
        cross += x * v - y * u;
        norm += x * x + y * y;
    }
    // Matches in a single place say nothing of scale and angle.
    if inliers.len() < 3 || norm / n < 64.0 {
        return hypothesis.map;
    }
    let (c, s) = (dot / norm, cross / norm);
    Affine { xx: c, xy: -s * flip, x0: qx - c * px + s * py, yx: s, yy: c * flip, y0: qy - s * px - c * py }
}
