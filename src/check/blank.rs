//! Images of one colour: the file is intact, but there is nothing in it, or its values were scaled wrongly.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::decode;
use crate::rows::Severity;

pub struct Blank;

impl Check for Blank {
    fn name(&self) -> &'static str {
        "blank"
    }
    fn doc(&self) -> &'static str {
        "all black, all white or of one colour; not used"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        for (row, measured) in images.decoded() {
            if let Some(kind) = decode::blank(measured.grey_range) {
                findings.image(row, Severity::Error, None, format!("the image is {kind}"));
            }
        }
    }
}
