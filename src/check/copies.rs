//! Copies: files of equal bytes, and pictures that show the same cell re-encoded, resized or cut a little differently.
//!
//! A near copy is found in two steps. Perceptual hashes that differ in few bits make a candidate; its thumbnails are
//! then slid over each other, and the best correlation decides. Turned or mirrored copies are not seen.

use super::look::THUMB;
use super::{Check, Findings, Look, Seen, Settings};
use crate::context::Context;
use crate::error::Result;
use crate::rows::Severity;
use rayon::prelude::*;
use std::collections::HashMap;

/// Two pictures that are near copies: places or rows, the smaller first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearPair {
    pub a: usize,
    pub b: usize,
    /// Correlation of the aligned thumbnails, -1 to 1.
    pub correlation: f32,
}

/// How far thumbnails are slid each way, px of [`THUMB`]: an eighth of the picture.
const REACH: i32 = 4;

pub struct ExactCopy;

impl Check for ExactCopy {
    fn name(&self) -> &'static str {
        "exact_copy"
    }
    fn doc(&self) -> &'static str {
        "the same bytes as another file; kept in one fold"
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
        "nearly the same picture as another; kept in one fold"
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
    let seen: Vec<(usize, u64, &Look)> =
        looks.iter().enumerate().filter_map(|(i, l)| l.as_ref().ok().map(|l| (i, l.hash, l))).collect();
    let hashes: Vec<u64> = seen.iter().map(|s| s.1).collect();
    ctx.progress.begin("looking for near copies", Some(seen.len() as u64), "images");
    let pairs: Result<Vec<Vec<NearPair>>> = (0..seen.len())
        .into_par_iter()
        .map(|i| {
            ctx.check_stop()?;
            let mut found = Vec::new();
            for (j, hash) in hashes.iter().enumerate().skip(i + 1) {
                if (hash ^ hashes[i]).count_ones() <= settings.near_copy_bits {
                    let correlation = correlation(&seen[i].2.thumb, &seen[j].2.thumb);
                    if correlation >= settings.near_copy_correlation {
                        found.push(NearPair { a: seen[i].0, b: seen[j].0, correlation });
                    }
                }
            }
            ctx.progress.advance(1);
            Ok(found)
        })
        .collect();
    ctx.progress.end();
    Ok(pairs?.concat())
}

/// The best correlation of two thumbnails over all small shifts, on the part where they overlap. A flat picture
/// correlates with nothing.
fn correlation(a: &[u8], b: &[u8]) -> f32 {
    let mut best = -1f32;
    for dy in -REACH..=REACH {
        for dx in -REACH..=REACH {
            best = best.max(correlation_at(a, b, dx, dy));
        }
    }
    best
}

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
