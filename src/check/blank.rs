//! Images of one colour: the file is sound, but nothing is in it, or its values were read in another range than meant.

use super::{Check, Findings, Seen, Settings};
use crate::decode;
use crate::rows::Severity;

pub struct Blank;

impl Check for Blank {
    fn name(&self) -> &'static str {
        "blank"
    }
    fn doc(&self) -> &'static str {
        "all black, all white or of one colour; left out from here on"
    }
    fn find(&self, seen: &Seen, _: &Settings, findings: &mut Findings) {
        for (i, row) in seen.rows.iter().enumerate() {
            if let Some(kind) = seen.look(i).and_then(|look| decode::blank(look.range)) {
                findings.image(row, Severity::Error, None, format!("the image is {kind}"));
            }
        }
    }
}
