//! Classes that are missing, too small to be tested, or much larger than others.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::class::Class;
use crate::rows::Severity;

pub struct ClassCounts;

/// Ratio of the largest class to the smallest from which a note is written.
const UNEVEN: u64 = 10;

impl Check for ClassCounts {
    fn name(&self) -> &'static str {
        "class_counts"
    }
    fn doc(&self) -> &'static str {
        "few images of a class, or far more of another"
    }
    fn lower_is_worse(&self) -> bool {
        true
    }
    fn find(&self, images: &Images, settings: &Settings, findings: &mut Findings) {
        let count = |class: Class| images.rows.iter().filter(|r| r.class == Some(class)).count() as u64;
        let counts: Vec<(Class, u64)> = images.classes.iter().map(|class| (class, count(class))).collect();
        for (class, n) in counts.iter().copied() {
            if n < settings.min_class_images {
                let message = format!("{class}: expected at least {} images, found {n}", settings.min_class_images);
                findings.dataset(Severity::Warning, Some(n as f64), message);
            }
        }
        let present = || counts.iter().copied().filter(|(_, n)| *n > 0);
        let (Some(most), Some(least)) = (present().max_by_key(|(_, n)| *n), present().min_by_key(|(_, n)| *n)) else {
            return;
        };
        if most.1 >= UNEVEN * least.1 {
            let ratio = most.1 as f64 / least.1 as f64;
            let message = format!(
                "{} has {} images, {} has {}: balanced accuracy tells more than accuracy",
                most.0, most.1, least.0, least.1
            );
            findings.dataset(Severity::Note, Some(ratio), message);
        }
    }
}
