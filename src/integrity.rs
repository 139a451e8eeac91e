//! The checksum that every file of results holds of itself, so that a damaged or edited file is noticed when it is
//! read.
//!
//! It is the text `blake3:` and 64 hexadecimal digits somewhere in the file: in the footer of a Parquet table, in the
//! header of a checkpoint, under the last key of a JSON file. It is the BLAKE3 hash of the whole file, with zeros in
//! place of these digits. Files of earlier versions have none, and are read as they are.

use blake3::Hasher;
use serde::Serialize;
use std::io::{Cursor, Read, Result, Seek, SeekFrom, Write};
use std::ops::Range;

/// The checksum of a file that is still being written.
pub const BLANK: &str = "blake3:0000000000000000000000000000000000000000000000000000000000000000";
/// What a damaged file is said to be.
pub const DAMAGED: &str = "its checksum is wrong: it was damaged or changed after wbc wrote it";

const PREFIX: &[u8] = b"blake3:";
const DIGITS: usize = 64;
/// Largest header or footer; safetensors allows no larger one.
const MOST_BYTES: u64 = 100_000_000;
/// Key of the checksum in JSON, and the end of that in a Parquet footer.
const KEY: &str = "checksum";

/// Where the digits of a checksum are in `bytes`.
fn digits(bytes: &[u8]) -> Option<usize> {
    let is_digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let starts = memchr::memmem::rfind_iter(bytes, PREFIX).map(|at| at + PREFIX.len());
    starts.into_iter().find(|at| bytes[*at..].iter().take(DIGITS).filter(|b| is_digit(b)).count() == DIGITS)
}

/// Writes the checksum of a file that is open for reading and writing over the [`BLANK`] in one part of it.
pub fn seal(file: &mut (impl Read + Write + Seek), part: Range<u64>) -> Result<()> {
    let blank = BLANK.as_bytes();
    let at = read_part(file, &part).map(|bytes| memchr::memmem::rfind(&bytes, blank))?;
    let Some(at) = at.map(|at| part.start + (at + PREFIX.len()) as u64) else { return Ok(()) };
    let hash = hash_file(file, at)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(hash.as_bytes())
}

/// What a checksum says of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The file is as it was written.
    Intact,
    /// It is not.
    Damaged,
    /// It has no checksum, as files of earlier versions.
    Unknown,
}

/// Compares a file with the checksum in `part` of it.
pub fn state(file: &mut (impl Read + Seek), part: Range<u64>) -> Result<State> {
    let bytes = read_part(file, &part)?;
    let Some(at) = digits(&bytes) else {
        // Its key without the checksum: one of the two was damaged.
        let has_key = memchr::memmem::find(&bytes, KEY.as_bytes()).is_some();
        return Ok(if has_key { State::Damaged } else { State::Unknown });
    };
    let hash = hash_file(file, part.start + at as u64)?;
    Ok(if hash.as_bytes() == &bytes[at..at + DIGITS] { State::Intact } else { State::Damaged })
}

fn read_part(file: &mut (impl Read + Seek), part: &Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(part.start))?;
    file.take(part.end.saturating_sub(part.start)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// [`hash`] of a file.
fn hash_file(file: &mut (impl Read + Seek), at: u64) -> Result<String> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
    let (mut position, digits) = (0u64, at..at + DIGITS as u64);
    file.seek(SeekFrom::Start(0))?;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        let end = position + n as u64;
        for place in digits.start.max(position)..digits.end.min(end) {
            buffer[(place - position) as usize] = b'0';
        }
        hasher.update(&buffer[..n]);
        position = end;
    }
}

/// The part of a Parquet file that holds its checksum: the footer.
pub fn parquet_footer(file: &mut (impl Read + Seek)) -> Result<Range<u64>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut tail = [0; 4];
    file.seek(SeekFrom::Start(end.saturating_sub(8)))?;
    file.read_exact(&mut tail)?;
    let length = u64::from(u32::from_le_bytes(tail)).min(MOST_BYTES);
    Ok(end.saturating_sub(8 + length)..end)
}

/// The part of a safetensors file that holds its checksum: the header.
pub fn safetensors_header(file: &mut (impl Read + Seek)) -> Result<Range<u64>> {
    let mut length = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut length)?;
    Ok(0..8 + u64::from_le_bytes(length).min(MOST_BYTES))
}

/// A JSON object, of which [`BLANK`] became the last key's value, with its checksum; it ends with a new line.
///
/// # Panics
/// For a value that is not plain data.
pub fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("plain data");
    let fields = text.strip_suffix("\n}").expect("an object with keys");
    let text = format!("{fields},\n  \"{KEY}\": \"{BLANK}\"\n}}\n");
    let mut file = Cursor::new(text.into_bytes());
    let all = 0..file.get_ref().len() as u64;
    seal(&mut file, all).expect("it is in memory");
    String::from_utf8(file.into_inner()).expect("digits in place of digits")
}

/// Reads what [`json`] wrote, or an object without a checksum.
///
/// # Errors
/// What is wrong, in words.
pub fn from_json<T: serde::de::DeserializeOwned>(text: &[u8]) -> std::result::Result<T, String> {
    if state(&mut Cursor::new(text), 0..text.len() as u64).is_ok_and(|state| state == State::Damaged) {
        return Err(DAMAGED.into());
    }
    let mut value: serde_json::Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if let Some(object) = value.as_object_mut() {
        object.remove(KEY);
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_json_file_is_noticed() {
        let value = std::collections::BTreeMap::from([("seed", 3u32), ("folds", 10)]);
        let text = json(&value).into_bytes();
        let read = |text: &[u8]| from_json::<std::collections::BTreeMap<String, u32>>(text);
        assert_eq!(read(&text).unwrap()["folds"], 10);
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "{}", String::from_utf8_lossy(&flipped));
        }
        assert_eq!(read(b"{\"folds\": 4}").unwrap()["folds"], 4, "of an earlier version");
    }

    #[test]
    fn a_file_is_sealed_and_checked() {
        let text = format!("head {BLANK} tail");
        let mut file = Cursor::new(text.into_bytes());
        seal(&mut file, 0..1000).unwrap();
        assert_eq!(state(&mut file, 0..1000).unwrap(), State::Intact);
        assert!(!file.get_ref().windows(4).any(|w| w == b"0000"));
        for at in [0, 30, file.get_ref().len() - 1] {
            file.get_mut()[at] ^= 1;
            assert_eq!(state(&mut file, 0..1000).unwrap(), State::Damaged, "{at}");
            file.get_mut()[at] ^= 1;
        }
        assert_eq!(state(&mut Cursor::new(b"blake3: no digits"), 0..9).unwrap(), State::Unknown);
    }
}
