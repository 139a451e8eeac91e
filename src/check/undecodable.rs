//! Files with a valid header whose pixels cannot be decoded: truncated, damaged, or changed since ingest.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::rows::Severity;

pub struct Undecodable;

impl Check for Undecodable {
    fn name(&self) -> &'static str {
        "undecodable"
    }
    fn doc(&self) -> &'static str {
        "cannot be decoded; not used"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        for (row, file) in images.rows.iter().zip(&images.file_of_row) {
            if let Err(message) = &images.files[*file] {
                findings.image(row, Severity::Error, None, message.clone());
            }
        }
    }
}
