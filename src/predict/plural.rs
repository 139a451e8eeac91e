//! Numbers with their nouns.

/// "1 cell", "2 cells".
pub fn plural(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
