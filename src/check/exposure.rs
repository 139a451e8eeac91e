//! Tensors in which even the brightest part is dark, or even the darkest is bright: no cell can be made out.

use super::{Check, Findings, Seen, Settings};
use crate::rows::Severity;

pub struct TooDark;
pub struct TooBright;

impl Check for TooDark {
    fn name(&self) -> &'static str {
        "too_dark"
    }
    fn doc(&self) -> &'static str {
        "even its bright parts are dark"
    }
    fn lower_is_worse(&self) -> bool {
        true
    }
    fn find(&self, seen: &Seen, settings: &Settings, findings: &mut Findings) {
        for (row, look) in seen.pictures().filter(|(_, look)| look.bright_end < settings.dark_below) {
            let message = format!(
                "expected a 95th percentile of grey of at least {}, found {}",
                settings.dark_below, look.bright_end
            );
            findings.image(row, Severity::Warning, Some(f64::from(look.bright_end)), message);
        }
    }
}

impl Check for TooBright {
    fn name(&self) -> &'static str {
        "too_bright"
    }
    fn doc(&self) -> &'static str {
        "even its dark parts are bright: nothing is stained"
    }
    fn find(&self, seen: &Seen, settings: &Settings, findings: &mut Findings) {
        for (row, look) in seen.pictures().filter(|(_, look)| look.dark_end > settings.bright_above) {
            let message = format!(
                "expected a 5th percentile of grey of at most {}, found {}",
                settings.bright_above, look.dark_end
            );
            findings.image(row, Severity::Warning, Some(f64::from(look.dark_end)), message);
        }
    }
}
