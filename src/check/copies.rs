//! Copies: files with the same bytes, and near copies, which show the same cell re-encoded, resized or cropped slightly
//! differently.
//!
//! Near copies are found in two steps. A pair of images is a candidate if their perceptual hashes differ in few bits at
//! some shift. The thumbnails of a candidate are then shifted over each other, and their best correlation decides.
//! Rotated and mirrored copies are not found.

use super::findings::{Check, Findings, Images, NearCopy as Pair};
use super::measurements::{Measurements, THUMBNAIL_PX};
use super::settings::Settings;
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use crate::seed;
use pulp::{Arch, Simd, WithSimd};
use rand::Rng;
use rayon::prelude::*;
use std::collections::HashMap;

/// Largest shift of the thumbnails in each direction, px: an eighth of their side.
const REACH: i32 = 5;

pub struct ExactCopy;

impl Check for ExactCopy {
    fn name(&self) -> &'static str {
        "exact_copy"
    }
    fn doc(&self) -> &'static str {
        "same bytes as another file; kept in the same fold"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (i, row) in images.rows.iter().enumerate() {
            let original = &images.rows[*first.entry(&row.content_hash).or_insert(i)];
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
        "nearly the same image; kept in the same fold"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        for pair in &images.near_copies {
            let (original, row) = (&images.rows[pair.a], &images.rows[pair.b]);
            if original.content_hash == row.content_hash {
                continue;
            }
            let message = format!("has a correlation of {:.3} with {}", pair.correlation, original.path);
            let score = Some(f64::from(pair.correlation));
            findings.image(row, Severity::Warning, score, message).related = Some(original.image_id.clone());
        }
    }
}

/// All pairs of near copies among the files that can be decoded, by index in `files`, in order.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn near_copies(
    files: &[std::result::Result<Measurements, String>],
    settings: &Settings,
    ctx: &Context,
) -> Result<Vec<Pair>> {
    let decoded: Vec<(usize, &Measurements)> =
        files.iter().enumerate().filter_map(|(i, file)| Some((i, file.as_ref().ok()?))).collect();
    let threshold = settings.near_copy_correlation.max(unrelated(&decoded));
    let task = ctx.progress.task("looking for near copies", Some(decoded.len() as u64), "images");
    let arch = Arch::new();
    let pairs: Result<Vec<Vec<Pair>>> = (0..decoded.len())
        .into_par_iter()
        .map(|i| {
            ctx.check_stop()?;
            let (a, image) = decoded[i];
            let rest = &decoded[i + 1..];
            let mut candidates = Vec::new();
            arch.dispatch(Candidates { image, rest, bits: settings.near_copy_bits, candidates: &mut candidates });
            let pair = |at: usize| {
                let (b, candidate) = rest[at];
                let (correlation, shift) = correlation(&image.thumbnail, &candidate.thumbnail, threshold);
                (correlation >= threshold).then_some(Pair { a, b, correlation, shift })
            };
            task.advance(1);
            Ok(candidates.into_iter().filter_map(pair).collect())
        })
        .collect();
    Ok(pairs?.concat())
}

/// Collects the indices in `rest` of the images whose hashes differ from those of `image` in at most `bits` bits,
/// compiled for the processor's instruction to count bits.
struct Candidates<'a> {
    image: &'a Measurements,
    rest: &'a [(usize, &'a Measurements)],
    bits: u32,
    candidates: &'a mut Vec<usize>,
}

impl WithSimd for Candidates<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (at, (_, candidate)) in self.rest.iter().enumerate() {
            if self.image.distance(candidate) <= self.bits {
                self.candidates.push(at);
            }
        }
    }
}

/// A correlation that unrelated images of the data set hardly reach, because small images of a cell on a plain
/// background all look similar: the 99th percentile of up to 2,000 random pairs, increased by 0.3 on Fisher's z scale.
/// -1 if there are too few images.
fn unrelated(decoded: &[(usize, &Measurements)]) -> f32 {
    const PAIRS: u64 = 2000;
    const ABOVE: f32 = 0.3;
    if decoded.len() < 50 {
        return -1.0;
    }
    let mut rng = seed::rng(0, "near copies", 0, 0, 0);
    let mut any = || &decoded[(rng.next_u64() % decoded.len() as u64) as usize];
    let pairs: Vec<_> = (0..PAIRS).map(|_| (any(), any())).filter(|(a, b)| a.0 != b.0).collect();
    let mut correlations: Vec<f32> =
        pairs.par_iter().map(|(a, b)| correlation(&a.1.thumbnail, &b.1.thumbnail, -1.0).0).collect();
    correlations.sort_by(f32::total_cmp);
    (correlations[correlations.len() * 99 / 100].atanh() + ABOVE).tanh()
}

/// The best correlation of two thumbnails over all shifts up to [`REACH`], computed where they overlap, and its shift.
/// A uniform image correlates with none. If every second shift is far below `threshold`, the others are not tried.
fn correlation(a: &[u8], b: &[u8], threshold: f32) -> (f32, u32) {
    Arch::new().dispatch(Shift { a, b, threshold })
}

/// [`correlation`], compiled for the processor's vector instructions.
struct Shift<'a> {
    a: &'a [u8],
    b: &'a [u8],
    threshold: f32,
}

impl WithSimd for Shift<'_> {
    type Output = (f32, u32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, u32) {
        const FAR: f32 = 0.15;
        let (coarse, x, y) = self.best([-REACH, -REACH], [REACH, REACH], 2);
        if coarse < self.threshold - FAR {
            return (coarse, x.unsigned_abs().max(y.unsigned_abs()));
        }
        let from = [x, y].map(|at| (at - 1).max(-REACH));
        let to = [x, y].map(|at| (at + 1).min(REACH));
        let (best, x, y) = self.best(from, to, 1);
        (best, x.unsigned_abs().max(y.unsigned_abs()))
    }
}

impl Shift<'_> {
    /// The best correlation of the shifts `from` to `to`, and its shift.
    #[inline(always)]
    fn best(&self, from: [i32; 2], to: [i32; 2], step: usize) -> (f32, i32, i32) {
        let mut best = (f32::NEG_INFINITY, 0, 0);
        for dy in (from[1]..=to[1]).step_by(step) {
            for dx in (from[0]..=to[0]).step_by(step) {
                let correlation = correlation_at(self.a, self.b, dx, dy);
                if correlation >= best.0 {
                    best = (correlation, dx, dy);
                }
            }
        }
        best
    }
}

#[inline(always)]
fn correlation_at(a: &[u8], b: &[u8], dx: i32, dy: i32) -> f32 {
    let overlap = |d: i32| (d.max(0) as usize, (-d).max(0) as usize, THUMBNAIL_PX - d.unsigned_abs() as usize);
    let ((ax, bx, width), (ay, by, height)) = (overlap(dx), overlap(dy));
    let (mut sum_a, mut sum_b, mut aa, mut bb, mut ab) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for y in 0..height {
        let a = &a[(ay + y) * THUMBNAIL_PX + ax..][..width];
        let b = &b[(by + y) * THUMBNAIL_PX + bx..][..width];
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
