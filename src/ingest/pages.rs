//! The sizes that the pages of a Parquet file claim, checked before the library allocates memory for them. A page
//! starts with a header in Thrift's compact protocol (parquet-format, `PageHeader`), of which three numbers matter.

use parquet::file::metadata::ParquetMetaData;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Most values of a page; writers put thousands into one.
const MAX_VALUES: i64 = 10_000_000;
/// Headers hold statistics, but not long ones.
const HEADER_BYTES: u64 = 1 << 16;

/// Checks that all pages together take at most `most_bytes`, and that none has more values than any writer writes.
///
/// # Errors
/// What a page claims, in words.
pub fn check(file: &mut File, metadata: &ParquetMetaData, most_bytes: u64) -> Result<(), String> {
    let mut left = most_bytes;
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (start, length) = column.byte_range();
        let (mut at, end) = (start, start.saturating_add(length));
        while at < end {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
            file.take(HEADER_BYTES.min(end - at)).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
            let mut thrift = Thrift { bytes: &bytes, depth: 0 };
            let mut header = Header::default();
            thrift.page(&mut header).ok_or("a page with a damaged header")?;
            let unpacked = u64::try_from(header.unpacked).map_err(|_| "a page with a negative size")?;
            let packed = u64::try_from(header.packed).map_err(|_| "a page with a negative size")?;
            left =
                left.checked_sub(unpacked).ok_or_else(|| format!("pages that claim more than {most_bytes} bytes"))?;
            // Each value of a dictionary takes at least a byte.
            let most = if header.is_dictionary { header.unpacked } else { MAX_VALUES };
            if !(0..=most).contains(&header.values) {
                return Err(format!("a page that claims {} values", header.values));
            }
            at += (bytes.len() - thrift.bytes.len()) as u64 + packed;
        }
    }
    Ok(())
}

/// What a page says of itself.
#[derive(Default)]
struct Header {
    is_dictionary: bool,
    /// Bytes, unpacked and in the file.
    unpacked: i64,
    packed: i64,
    values: i64,
}

/// The bytes of a structure that are left to read.
struct Thrift<'a> {
    bytes: &'a [u8],
    depth: u32,
}

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Number and type of the next field after the one of number `last`; `None` inside at the end of the structure.
    fn field(&mut self, last: i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        Some(match (byte >> 4, byte & 15) {
            (_, 0) => None,
            (0, kind) => Some((self.signed()?, kind)),
            (step, kind) => Some((last + i64::from(step), kind)),
        })
    }

    fn page(&mut self, header: &mut Header) -> Option<()> {
        let mut last = 0;
        while let Some((number, kind)) = self.field(last)? {
            match (number, kind) {
                (2, 5) => header.unpacked = self.signed()?,
                (3, 5) => header.packed = self.signed()?,
                // The headers of data pages of two versions, and of a dictionary.
                (5 | 7 | 8, 12) => {
                    header.is_dictionary = number == 7;
                    self.values(header)?;
                }
                _ => self.skip(kind)?,
            }
            last = number;
        }
        Some(())
    }

    /// The header of a kind of page, whose first field is the number of values.
    fn values(&mut self, header: &mut Header) -> Option<()> {
        let mut last = 0;
        while let Some((number, kind)) = self.field(last)? {
            match (number, kind) {
                (1, 5) => header.values = self.signed()?,
                _ => self.skip(kind)?,
            }
            last = number;
        }
        Some(())
    }

    fn skip(&mut self, kind: u8) -> Option<()> {
        self.depth += 1;
        if self.depth > 16 {
            return None;
        }
        match kind {
            1 | 2 => {}
            3 => _ = self.byte()?,
            4..=6 => _ = self.unsigned()?,
            7 => self.bytes = self.bytes.get(8..)?,
            8 => {
                let length = self.unsigned()?;
                self.bytes = self.bytes.get(usize::try_from(length).ok()?..)?;
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.unsigned()? } else { u64::from(byte >> 4) };
                for _ in 0..count {
                    match byte & 15 {
                        // Truth values take a byte each in a list.
                        1 | 2 => _ = self.byte()?,
                        kind => self.skip(kind)?,
                    }
                }
            }
            12 => {
                let mut last = 0;
                while let Some((number, kind)) = self.field(last)? {
                    self.skip(kind)?;
                    last = number;
                }
            }
            _ => return None,
        }
        self.depth -= 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sheet;
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use std::sync::Arc;

    #[test]
    fn a_header_is_read_field_by_field() {
        // Dictionary page, 100 bytes unpacked, 50 packed, statistics that are skipped, and 7 values.
        let bytes =
            [0x15, 4, 0x15, 200, 1, 0x15, 100, 0x4c, 0x15, 14, 0x15, 0, 0x18, 2, 1, 2, 0x19, 0x21, 1, 1, 0, 0, 9];
        let (mut thrift, mut header) = (Thrift { bytes: &bytes, depth: 0 }, Header::default());
        thrift.page(&mut header).unwrap();
        assert!(header.is_dictionary);
        assert_eq!((header.unpacked, header.packed, header.values), (100, 50, 7));
        assert_eq!(thrift.bytes, [9]);
        for end in 0..bytes.len() - 1 {
            assert!(Thrift { bytes: &bytes[..end], depth: 0 }.page(&mut Header::default()).is_none(), "{end}");
        }
    }

    #[test]
    fn a_page_cannot_claim_more_than_there_is() {
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
        let column = Arc::new(StringArray::from(vec!["a.png", "b.png", "a.png"])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("path", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(sheet::read(file.path()).unwrap().rows.len(), 3);
        let whole = std::fs::read(file.path()).unwrap();
        // The header of the dictionary follows the first four bytes: field 2 is its size, in the same number of bytes.
        let at = 4 + 2;
        assert_eq!((whole[at], whole[at + 1] & 0x80), (0x15, 0));
        let mut claims = whole.clone();
        claims.splice(at + 1..at + 2, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        std::fs::write(file.path(), &claims).unwrap();
        let error = sheet::read(file.path()).err().unwrap().to_string();
        assert!(error.contains("claim") || error.contains("damaged"), "{error}");
    }
}
