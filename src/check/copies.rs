//! Copies: files of equal bytes, and pictures that show the same cell re-encoded, resized or cut a little differently.
//!
//! A near copy is found in two steps. Perceptual hashes that differ in few bits, wherever one picture's window is
//! moved over the other, make a candidate; the thumbnails are then slid over each other, and the best correlation
//! decides. Turned or mirrored copies are not seen.

use super::look::THUMB;
use super::{Check, Findings, Look, Seen, Settings};
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use crate::seed;
use pulp::{Arch, Simd, WithSimd};
use rand::Rng;
use rayon::prelude::*;
use std::collections::HashMap;

/// Two pictures that are near copies: places or rows, the smaller first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearPair {
    pub a: usize,
    pub b: usize,
    /// Correlation of the aligned thumbnails, -1 to 1.
    pub correlation: f32,
    /// How far one had to be slid, px of the thumbnail.
    pub shift: u32,
}

impl NearPair {
    /// Whether both show the same part: pictures of two neighbouring cells overlap as well, and may have two labels.
    pub fn same_part(&self) -> bool {
        self.shift <= 1
    }
}

/// How far thumbnails are slid each way, px of [`THUMB`]: an eighth of the picture.
const REACH: i32 = 5;

pub struct ExactCopy;

impl Check for ExactCopy {
    fn name(&self) -> &'static str {
        "exact_copy"
    }
    fn doc(&self) -> &'static str {
        "same bytes as another file; kept in one fold"
    }
    fn find(&self, seen: &Seen, _: &Settings, findings: &mut Findings) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (i, row) in seen.rows.iter().enumerate() {
            let original = &seen.rows[*first.entry(&row.content_hash).or_insert(i)];
            if original.path != row.path {
                let message = format!("has the same bytes as {}", original.path);
                findings.image(row, Severity::Warning, None, message).related = Some(original.image_id.clone());
            }
        }
    }
}

pub struct NearCopy;

impl Check for NearCopy {
    fn name(&self) -> &'static str {
        "near_copy"
    }
    fn doc(&self) -> &'static str {
        "nearly the same picture; kept in one fold"
    }
    fn find(&self, seen: &Seen, _: &Settings, findings: &mut Findings) {
        for pair in &seen.near_copies {
            let (original, row) = (&seen.rows[pair.a], &seen.rows[pair.b]);
            if original.content_hash == row.content_hash {
                continue;
            }
            let message = format!("correlates by {:.3} with {}", pair.correlation, original.path);
            let score = Some(f64::from(pair.correlation));
            findings.image(row, Severity::Warning, score, message).related = Some(original.image_id.clone());
        }
    }
}

/// All pairs of near copies among pictures that can be seen, as places in `looks`, in order.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn near_pairs(
    looks: &[std::result::Result<Look, String>],
    settings: &Settings,
    ctx: &Context,
) -> Result<Vec<NearPair>> {
    let seen: Vec<(usize, &Look)> =
        looks.iter().enumerate().filter_map(|(i, look)| Some((i, look.as_ref().ok()?))).collect();
    let threshold = settings.near_copy_correlation.max(unrelated(&seen));
    ctx.progress.begin("looking for near copies", Some(seen.len() as u64), "images");
    let arch = Arch::new();
    let pairs: Result<Vec<Vec<NearPair>>> = (0..seen.len())
        .into_par_iter()
        .map(|i| {
            ctx.check_stop()?;
            let (a, one) = seen[i];
            let rest = &seen[i + 1..];
            let mut candidates = Vec::new();
            arch.dispatch(Close { one, rest, bits: settings.near_copy_bits, candidates: &mut candidates });
            let pair = |at: usize| {
                let (b, other) = rest[at];
                let (correlation, shift) = correlation(&one.thumb, &other.thumb, threshold);
                (correlation >= threshold).then_some(NearPair { a, b, correlation, shift })
            };
            ctx.progress.advance(1);
            Ok(candidates.into_iter().filter_map(pair).collect())
        })
        .collect();
    ctx.progress.end();
    Ok(pairs?.concat())
}

/// Lists where in `rest` the looks stand whose hashes are close to those of `one`, with the machine's own count of bits.
struct Close<'a> {
    one: &'a Look,
    rest: &'a [(usize, &'a Look)],
    bits: u32,
    candidates: &'a mut Vec<usize>,
}

impl WithSimd for Close<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (at, (_, other)) in self.rest.iter().enumerate() {
            if self.one.distance(other) <= self.bits {
                self.candidates.push(at);
            }
        }
    }
}

/// What unrelated pictures of the data set hardly reach: small pictures of a cell on a plain ground are all alike.
/// From up to 2,000 pairs, the 99th percentile, moved up on Fisher's scale; -1 where there are too few pictures.
fn unrelated(seen: &[(usize, &Look)]) -> f32 {
    const PAIRS: u64 = 2000;
    const ABOVE: f32 = 0.3;
    if seen.len() < 50 {
        return -1.0;
    }
    let mut rng = seed::rng(0, "near copies", 0, 0, 0);
    let mut any = || &seen[(rng.next_u64() % seen.len() as u64) as usize];
    let pairs: Vec<_> = (0..PAIRS).map(|_| (any(), any())).filter(|(a, b)| a.0 != b.0).collect();
    let mut found: Vec<f32> = pairs.par_iter().map(|(a, b)| correlation(&a.1.thumb, &b.1.thumb, -1.0).0).collect();
    found.sort_by(f32::total_cmp);
    (found[found.len() * 99 / 100].atanh() + ABOVE).tanh()
}

/// The best correlation of two thumbnails over all small shifts, on the part where they overlap, and the shift. A flat
/// picture correlates with nothing. What is far below `wanted` at every second shift is not looked at more closely.
fn correlation(a: &[u8], b: &[u8], wanted: f32) -> (f32, u32) {
    Arch::new().dispatch(Slide { a, b, wanted })
}

/// [`correlation`], compiled for the machine's vectors.
struct Slide<'a> {
    a: &'a [u8],
    b: &'a [u8],
    wanted: f32,
}

impl WithSimd for Slide<'_> {
    type Output = (f32, u32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, u32) {
        const FAR: f32 = 0.15;
        let (near, x, y) = self.best([-REACH, -REACH], [REACH, REACH], 2);
        if near < self.wanted - FAR {
            return (near, x.unsigned_abs().max(y.unsigned_abs()));
        }
        let from = [x, y].map(|at| (at - 1).max(-REACH));
        let to = [x, y].map(|at| (at + 1).min(REACH));
        let (found, x, y) = self.best(from, to, 1);
        (found, x.unsigned_abs().max(y.unsigned_abs()))
    }
}

impl Slide<'_> {
    /// The best of the shifts `from` to `to`, and where.
    #[inline(always)]
    fn best(&self, from: [i32; 2], to: [i32; 2], step: usize) -> (f32, i32, i32) {
        let mut best = (f32::NEG_INFINITY, 0, 0);
        for dy in (from[1]..=to[1]).step_by(step) {
            for dx in (from[0]..=to[0]).step_by(step) {
                let found = correlation_at(self.a, self.b, dx, dy);
                if found >= best.0 {
                    best = (found, dx, dy);
                }
            }
        }
        best
    }
}

#[inline(always)]
fn correlation_at(a: &[u8], b: &[u8], dx: i32, dy: i32) -> f32 {
    let overlap = |d: i32| (d.max(0) as usize, (-d).max(0) as usize, THUMB - d.unsigned_abs() as usize);
    let ((ax, bx, width), (ay, by, height)) = (overlap(dx), overlap(dy));
    let (mut sum_a, mut sum_b, mut aa, mut bb, mut ab) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for y in 0..height {
        let a = &a[(ay + y) * THUMB + ax..][..width];
        let b = &b[(by + y) * THUMB + bx..][..width];
        let mut row = [0u32; 5];
        for (a, b) in a.iter().zip(b) {
            let (a, b) = (u32::from(*a), u32::from(*b));
            row = [row[0] + a, row[1] + b, row[2] + a * a, row[3] + b * b, row[4] + a * b];
        }
        let [ra, rb, raa, rbb, rab] = row.map(u64::from);
        (sum_a, sum_b, aa, bb, ab) = (sum_a + ra, sum_b + rb, aa + raa, bb + rbb, ab + rab);
    }
    let n = (width * height) as f64;
    let covariance = |xy: u64, x: u64, y: u64| xy as f64 / n - (x as f64 / n) * (y as f64 / n);
    let spread = covariance(aa, sum_a, sum_a) * covariance(bb, sum_b, sum_b);
    if spread < 1.0 { -1.0 } else { (covariance(ab, sum_a, sum_b) / spread.sqrt()) as f32 }
}
