//! Images of an unusual size, in data sets where most images have the same size.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::rows::Severity;
use std::collections::BTreeMap;

pub struct OddSize;

/// A side that differs by more than this share is a warning, otherwise a note.
const TOLERANCE: f64 = 0.1;

impl Check for OddSize {
    fn name(&self) -> &'static str {
        "odd_size"
    }
    fn doc(&self) -> &'static str {
        "not the usual size"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for (row, _) in images.decoded() {
            *sizes.entry((row.width_px, row.height_px)).or_default() += 1;
        }
        let all: usize = sizes.values().sum();
        let Some((&(width, height), &most)) = sizes.iter().max_by_key(|(_, n)| **n) else { return };
        if 2 * most <= all {
            return;
        }
        for (row, _) in images.decoded().filter(|(r, _)| (r.width_px, r.height_px) != (width, height)) {
            let difference = |side: u32, usual: u32| (f64::from(side) / f64::from(usual) - 1.0).abs();
            let difference = difference(row.width_px, width).max(difference(row.height_px, height));
            let severity = if difference > TOLERANCE { Severity::Warning } else { Severity::Note };
            let message = format!(
                "expected {width} x {height} px like {most} of {all} images, found {} x {}",
                row.width_px, row.height_px
            );
            findings.image(row, severity, Some(difference), message);
        }
    }
}
