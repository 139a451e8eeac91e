//! Files whose header was sound and whose pixels are not: truncated, damaged, or changed since ingest.

use super::{Check, Findings, Seen, Settings};
use crate::rows::Severity;

pub struct Undecodable;

impl Check for Undecodable {
    fn name(&self) -> &'static str {
        "undecodable"
    }
    fn doc(&self) -> &'static str {
        "cannot be decoded; left out from here on"
    }
    fn find(&self, seen: &Seen, _: &Settings, findings: &mut Findings) {
        for (row, look) in seen.rows.iter().zip(&seen.look_of) {
            if let Err(message) = &seen.looks[*look] {
                findings.image(row, Severity::Error, None, message.clone());
            }
        }
    }
}
