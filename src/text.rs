//! Numbers and lists in messages.

/// A number with thousands separators: 5986 is "5,986".
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The text without control characters, which a file name may contain and a terminal would obey: they are written as
/// escapes, such as `\u{1b}`. Lines and tabs stay.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => printable.push(c),
            // Controls, and the marks that turn the direction of text.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                printable.extend(c.escape_default());
            }
            c => printable.push(c),
        }
    }
    printable
}

/// Names with their counts, the largest first: "ig 2,895, platelet 2,348". At most 20 are listed.
pub fn counts<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    const MOST: usize = 20;
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut parts: Vec<String> =
        counts.iter().take(MOST).map(|(name, n)| format!("{name} {}", thousands(*n))).collect();
    if counts.len() > MOST {
        parts.push(format!("and {} more", counts.len() - MOST));
    }
    parts.join(", ")
}

/// The first five names, and how many more there are: "a, b, c, d, e and 3 more".
pub fn some<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 5;
    let names: Vec<&str> = names.into_iter().collect();
    let text = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{text} and {} more", names.len() - MOST) } else { text }
}

/// "1 image", "2 images", "1,000 images".
pub fn of(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// Names with their counts, in their order: "neutrophil 2,006, eosinophil 1,310".
pub fn in_order<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let parts: Vec<String> = counts.into_iter().map(|(name, n)| format!("{name} {}", thousands(n))).collect();
    parts.join(", ")
}

/// Names separated by commas; of more than twelve the first ones and how many there are: "a, b, ... (20 in all)".
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    match names.len() {
        n if n > MOST => format!("{}, ... ({} in all)", names[..MOST].join(", "), thousands(n as u64)),
        _ => names.join(", "),
    }
}

/// Text as part of a file name on every system: without separators of folders and other special characters, at most 80
/// letters.
pub fn in_file_name(text: &str) -> String {
    let is_special = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    let safe: String = text.chars().map(|c| if is_special(c) { '_' } else { c }).take(80).collect();
    safe.trim_start_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_file_names_stay_in_their_folder() {
        assert_eq!(in_file_name("../../up"), "_.._up");
        assert_eq!(in_file_name("a/b \\ c: d?"), "a_b _ c_ d_");
        assert_eq!(in_file_name(&"ü".repeat(200)).chars().count(), 80);
    }
}
