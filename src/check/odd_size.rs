//! Tensors of another size than most, where most have one size.

use super::{Check, Findings, Seen, Settings};
use crate::rows::Severity;
use std::collections::BTreeMap;

pub struct OddSize;

/// A side that differs by more than this share is a warning; less is a note.
const TOLERANCE: f64 = 0.1;

impl Check for OddSize {
    fn name(&self) -> &'static str {
        "odd_size"
    }
    fn doc(&self) -> &'static str {
        "not the size of the others"
    }
    fn find(&self, seen: &Seen, _: &Settings, findings: &mut Findings) {
        let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for (row, _) in seen.pictures() {
            *sizes.entry((row.width_px, row.height_px)).or_default() += 1;
        }
        let all: usize = sizes.values().sum();
        let Some((&(width, height), &most)) = sizes.iter().max_by_key(|(_, n)| **n) else { return };
        if 2 * most <= all {
            return;
        }
        for (row, _) in seen.pictures().filter(|(r, _)| (r.width_px, r.height_px) != (width, height)) {
            let off = |found: u32, usual: u32| (f64::from(found) / f64::from(usual) - 1.0).abs();
            let off = off(row.width_px, width).max(off(row.height_px, height));
            let severity = if off > TOLERANCE { Severity::Warning } else { Severity::Note };
            let message = format!(
                "expected {width} x {height} px as {most} of {all}, found {} x {}",
                row.width_px, row.height_px
            );
            findings.image(row, severity, Some(off), message);
        }
    }
}
