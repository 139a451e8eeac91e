//! Counts and names in sentences.

/// Most names in a list of names.
const LISTED: usize = 12;

/// "1 image", "2 images".
pub(super) fn plural(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// Names separated by commas; of a long list the first ones and how many there are.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len() {
        n if n > LISTED => format!("{}, ... ({} in all)", names[..LISTED].join(", "), thousands(n as u64)),
        _ => names.join(", "),
    }
}

/// With a comma between thousands.
pub(super) fn thousands(n: u64) -> String {
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
