//! Images that are far less sharp than the others of the data set. Sharpness is the standard deviation of the Laplacian
//! divided by that of the grey levels, so that it does not depend on stain or exposure. Its logarithm is compared with
//! the median, in robust standard deviations (from the median absolute deviation). A data set that is blurred as a
//! whole is not recognised.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::rows::Severity;

pub struct Blurred;

/// With fewer images, there is no usual sharpness.
const MIN_IMAGES: usize = 20;

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
    fn find(&self, images: &Images, settings: &Settings, findings: &mut Findings) {
        let log = |sharpness: f64| sharpness.max(1e-6).ln();
        let mut logs: Vec<f64> = images.decoded().map(|(_, measured)| log(measured.sharpness)).collect();
        if logs.len() < MIN_IMAGES {
            return;
        }
        let centre = median(&mut logs);
        let mut differences: Vec<f64> = logs.iter().map(|v| (v - centre).abs()).collect();
        // 1.4826 times the median absolute deviation estimates the standard deviation of a normal distribution. At
        // least 5 %, so that nearly equal images are not reported.
        let deviation = (1.4826 * median(&mut differences)).max(0.05);
        for (row, measured) in images.decoded() {
            let below = (centre - log(measured.sharpness)) / deviation;
            if below > settings.blur_deviations {
                let message = format!(
                    "expected a sharpness near {:.3}, found {:.3}: {below:.1} robust standard deviations less",
                    centre.exp(),
                    measured.sharpness
                );
                findings.image(row, Severity::Warning, Some(measured.sharpness), message);
            }
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
