//! Images that are dark or bright throughout, so that no cell can be recognised.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::rows::Severity;

pub struct TooDark;
pub struct TooBright;

impl Check for TooDark {
    fn name(&self) -> &'static str {
        "too_dark"
    }
    fn doc(&self) -> &'static str {
        "dark even in its brightest parts"
    }
    fn lower_is_worse(&self) -> bool {
        true
    }
    fn find(&self, images: &Images, settings: &Settings, findings: &mut Findings) {
        for (row, measured) in images.decoded().filter(|(_, m)| m.grey_p95 < settings.dark_below) {
            let (expected, found) = (settings.dark_below, measured.grey_p95);
            let message = format!("expected a 95th percentile of grey of at least {expected}, found {found}");
            findings.image(row, Severity::Warning, Some(f64::from(found)), message);
        }
    }
}

impl Check for TooBright {
    fn name(&self) -> &'static str {
        "too_bright"
    }
    fn doc(&self) -> &'static str {
        "bright even in its darkest parts: nothing is stained"
    }
    fn find(&self, images: &Images, settings: &Settings, findings: &mut Findings) {
        for (row, measured) in images.decoded().filter(|(_, m)| m.grey_p05 > settings.bright_above) {
            let (expected, found) = (settings.bright_above, measured.grey_p05);
            let message = format!("expected a 5th percentile of grey of at most {expected}, found {found}");
            findings.image(row, Severity::Warning, Some(f64::from(found)), message);
        }
    }
}
