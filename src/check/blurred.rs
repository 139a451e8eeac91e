//! Tensors far less sharp than the data set's others. Sharpness is the Laplacian's deviation over the grey's, so that
//! neither stain nor exposure counts; "far" is in robust deviations (median and median absolute deviation) of its
//! logarithm. A data set that is blurred throughout cannot be told by this.

use super::{Check, Findings, Seen, Settings};
use crate::rows::Severity;

pub struct Blurred;

/// With fewer pictures there is no telling what is usual.
const MIN_PICTURES: usize = 20;

impl Check for Blurred {
    fn name(&self) -> &'static str {
        "blurred"
    }
    fn doc(&self) -> &'static str {
        "far less sharp than the others"
    }
    fn lower_is_worse(&self) -> bool {
        true
    }
    fn find(&self, seen: &Seen, settings: &Settings, findings: &mut Findings) {
        let log = |sharpness: f64| sharpness.max(1e-6).ln();
        let mut logs: Vec<f64> = seen.pictures().map(|(_, look)| log(look.sharpness)).collect();
        if logs.len() < MIN_PICTURES {
            return;
        }
        let middle = median(&mut logs);
        let mut off: Vec<f64> = logs.iter().map(|v| (v - middle).abs()).collect();
        // 1.4826: the median absolute deviation of normal noise, as a standard deviation. At least 5 %.
        let deviation = (1.4826 * median(&mut off)).max(0.05);
        for (row, look) in seen.pictures() {
            let below = (middle - log(look.sharpness)) / deviation;
            if below > settings.blur_deviations {
                let message = format!(
                    "expected a sharpness near {:.3}, found {:.3}: {below:.1} robust deviations below",
                    middle.exp(),
                    look.sharpness
                );
                findings.image(row, Severity::Warning, Some(look.sharpness), message);
            }
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
