//! Tables of text: CSV and its relatives as spreadsheets save them, and Parquet.

use super::pages;
use crate::decode;
use crate::error::{Error, Result};
use crate::guard;
use crate::storage;
use crate::table;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::fs::File;
use std::io::{ErrorKind, Seek, Write};
use std::path::Path;

/// A table of text.
pub struct Sheet {
    /// Names of the columns, in order.
    pub columns: Vec<String>,
    /// The rows that can be read.
    pub rows: Vec<SheetRow>,
    /// What is wrong with the other rows.
    pub bad_rows: Vec<String>,
    /// Whether the file is neither UTF-8 nor UTF-16, so that letters with accents are read as Latin-1.
    pub latin1: bool,
}

/// A row of a table.
pub struct SheetRow {
    /// Its line in the file; in a Parquet file, its number from 1.
    pub number: u64,
    /// The values, one per column, trimmed. Empty where there is none.
    pub values: Vec<String>,
}

impl SheetRow {
    /// The value in a column; `None` where it is empty, a program's word for that, or there is no such column.
    pub fn value(&self, column: Option<usize>) -> Option<&str> {
        const MISSING: [&str; 6] = ["nan", "na", "n/a", "#n/a", "<na>", "null"];
        let value = self.values.get(column?)?.as_str();
        (!value.is_empty() && !MISSING.contains(&value.to_lowercase().as_str())).then_some(value)
    }

    /// As [`SheetRow::value`] for a column of names that may be numbers: `3.0` is `3`, as programs write numbers of a
    /// column with gaps.
    pub fn name(&self, column: Option<usize>) -> Option<&str> {
        let value = self.value(column)?;
        let whole = value.strip_suffix(".0").filter(|whole| whole.bytes().all(|byte| byte.is_ascii_digit()));
        Some(whole.filter(|whole| !whole.is_empty()).unwrap_or(value))
    }
}

/// Larger tables and annotation files are not read.
pub const MAX_BYTES: u64 = 500_000_000;
/// Tables with more rows are not read: a small Parquet file can claim any number.
const MAX_ROWS: i64 = 2_000_000;

/// Reads a table: a Parquet file by its extension, otherwise text with commas, semicolons, tabs or bars between values.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Format`] if it is not a table.
pub fn read(path: &Path) -> Result<Sheet> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
        return read_parquet(path);
    }
    let bytes = read_bytes(path)?;
    let (text, latin1) = decode_text(&bytes);
    // The library counts lines by their last character only.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = text.as_str();
    // Excel writes its separator into a line of its own, some programs in quotes.
    let mut first_line = 1;
    let mut named_separator = None;
    if let Some((line, rest)) = text.split_once('\n')
        && let line = line.trim_matches(['"', ' '])
        && line.to_lowercase().starts_with("sep=")
    {
        (text, first_line) = (rest, 2);
        match line.as_bytes()["sep=".len()..] {
            [separator] if separator.is_ascii() => named_separator = Some(separator),
            _ => return Err(Error::format(path, "line 1", "sep= and one character", line)),
        }
    }
    let separator = named_separator.unwrap_or_else(|| separator(text));
    let text = without_blanks_before_quotes(text, separator);
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).delimiter(separator).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| Error::format(path, "header", "a table with a header", e))?;
    let columns: Vec<String> = header.iter().map(visible).collect();
    let mut sheet = Sheet { columns, rows: Vec::new(), bad_rows: Vec::new(), latin1 };
    for record in reader.records() {
        match record {
            Ok(record) => {
                let number = record.position().map_or(0, csv::Position::line) + first_line - 1;
                let values: Vec<String> = record.iter().map(visible).collect();
                let used = values.iter().rposition(|value| !value.is_empty()).map_or(0, |last| last + 1);
                if used > sheet.columns.len() {
                    // Such as a comma in a name without quotes: the values may stand in each other's columns.
                    let columns = sheet.columns.len();
                    let text = values.join(", ");
                    sheet.bad_rows.push(format!("line {number}: expected {columns} values, found {used}: {text}"));
                } else if used > 0 {
                    sheet.rows.push(SheetRow { number, values });
                }
            }
            Err(error) => sheet.bad_rows.push(error.to_string()),
        }
    }
    Ok(sheet)
}

/// The bytes of a table or list.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Format`] if it is larger than [`MAX_BYTES`], a device or a pipe.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    guard::read(path, MAX_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge | ErrorKind::InvalidInput => {
            Error::format(path, "file", "a table that fits in memory", error)
        }
        _ => Error::io(path, "read")(error),
    })
}

/// A value without blanks at its ends and without characters that nobody sees, which web pages and office programs put
/// between letters.
fn visible(value: &str) -> String {
    let is_unseen = |c: char| matches!(c, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}');
    let is_blank = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{200c}'..='\u{200f}');
    value.replace(is_unseen, "").trim_matches(is_blank).to_string()
}

/// The text without blanks between a separator and a quote, which would make the quote a part of the value.
fn without_blanks_before_quotes(text: &str, separator: u8) -> String {
    let separator = char::from(separator);
    let (mut tidied, mut blanks) = (String::with_capacity(text.len()), String::new());
    let (mut quoted, mut closed, mut at_start) = (false, false, true);
    for c in text.chars() {
        if at_start && c != separator && (c == ' ' || c == '\t') {
            blanks.push(c);
            continue;
        }
        let is_quote = c == '"';
        if is_quote && at_start {
            blanks.clear();
        }
        // A quote opens and closes a value at its ends; two of them are one of its characters.
        let opens = is_quote && !quoted && (at_start || closed);
        closed = is_quote && quoted;
        quoted = (quoted && !is_quote) || opens;
        at_start = !quoted && (c == separator || c == '\n');
        tidied += &std::mem::take(&mut blanks);
        tidied.push(c);
    }
    tidied + &blanks
}

/// The text of a file in UTF-8 or UTF-16, with or without a byte-order mark, and whether it is neither and was read as
/// Latin-1.
pub fn decode_text(bytes: &[u8]) -> (String, bool) {
    let utf16 = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| of(*pair)).collect();
        (String::from_utf16_lossy(&units), false)
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => (String::from_utf8_lossy(rest).into_owned(), false),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => utf16(bytes, u16::from_le_bytes),
        [0, first, 0, second, ..] if *first != 0 && *second != 0 => utf16(bytes, u16::from_be_bytes),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => (text.into(), false),
            Err(_) => (bytes.iter().map(|&byte| char::from(byte)).collect(), true),
        },
    }
}

/// The separator that the header has most of, outside quotes; a comma where it has none.
fn separator(text: &str) -> u8 {
    let (mut quoted, mut counts) = (false, [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)]);
    for byte in text.trim_start_matches(['\r', '\n']).bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\r' | b'\n' if !quoted => break,
            _ if quoted => {}
            _ => counts.iter_mut().filter(|(separator, _)| *separator == byte).for_each(|(_, n)| *n += 1),
        }
    }
    // The first of equal ones.
    counts.into_iter().rev().max_by_key(|(_, n)| *n).map_or(b',', |(separator, _)| separator)
}

fn read_parquet(path: &Path) -> Result<Sheet> {
    let file = match storage::read(path, MAX_BYTES).map_err(Error::io(path, "read"))? {
        None => File::open(path),
        // The reader wants a file.
        Some(bytes) => tempfile::tempfile().and_then(|mut file| {
            file.write_all(&bytes)?;
            file.rewind()?;
            Ok(file)
        }),
    };
    let file = file.map_err(Error::io(path, "open"))?;
    file.metadata().and_then(|about| guard::regular(&about)).map_err(Error::io(path, "read"))?;
    let damaged = || Err(Error::format(path, "contents", "a complete Parquet file", "a damaged one"));
    guard::catch(|| parse_parquet(path, file)).unwrap_or_else(damaged)
}

fn parse_parquet(path: &Path, file: File) -> Result<Sheet> {
    let wrong = |e: ParquetError| {
        let e = match table::reading(path, e) {
            Ok(error) => return error,
            Err(e) => e,
        };
        // Of other compressions only their names are known here.
        let text = e.to_string();
        match text.split_once("Disabled feature at compile time: ") {
            Some((_, compression)) => {
                let expected = "a Parquet file without compression, or with snappy, gzip, LZ4 or Zstandard";
                Error::format(path, "compression", expected, compression)
            }
            None => Error::format(path, "contents", "a complete Parquet file", text),
        }
    };
    let mut pages = file.try_clone().map_err(Error::io(path, "open"))?;
    let file = SerializedFileReader::new(file).map_err(wrong)?;
    let checked = pages::check(&mut pages, file.metadata(), MAX_BYTES);
    checked.map_err(|got| Error::format(path, "contents", "a complete Parquet file that fits in memory", got))?;
    let rows = file.metadata().file_metadata().num_rows();
    if !(0..=MAX_ROWS).contains(&rows) {
        return Err(Error::format(path, "rows", format!("at most {MAX_ROWS}"), rows));
    }
    let fields = file.metadata().file_metadata().schema().get_fields();
    let columns = fields.iter().map(|field| field.name().to_string()).collect();
    let mut sheet = Sheet { columns, rows: Vec::new(), bad_rows: Vec::new(), latin1: false };
    // A small file can hold a long text once, and repeat it in every row.
    let mut bytes = 0;
    for (i, record) in file.get_row_iter(None).map_err(wrong)?.enumerate() {
        let record = record.map_err(wrong)?;
        if let Some((column, _)) = record.get_column_iter().find(|(_, field)| holds_image(field)) {
            let expected = "paths of images: save the images as files, and list their paths and classes";
            return Err(Error::format(path, format!("column {column}"), expected, "the images themselves"));
        }
        let values: Vec<String> = record.get_column_iter().map(|(_, field)| visible(&text(field))).collect();
        bytes += values.iter().map(|value| value.len() as u64).sum::<u64>();
        if bytes > MAX_BYTES {
            let expected = format!("at most {} MB of text", MAX_BYTES / 1_000_000);
            return Err(Error::format(path, "contents", expected, "more"));
        }
        sheet.rows.push(SheetRow { number: i as u64 + 1, values });
    }
    Ok(sheet)
}

/// Whether a value is the bytes of an image, as Hugging Face's `datasets` writes them, alone or beside a path.
fn holds_image(field: &Field) -> bool {
    match field {
        Field::Bytes(bytes) => decode::is_image(bytes.data()),
        Field::Group(row) => row.get_column_iter().any(|(_, field)| holds_image(field)),
        _ => false,
    }
}

/// A value of any type as text; empty where it is null.
fn text(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parquet_is_read_with_the_compressions_of_common_writers() {
        use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
        use parquet::arrow::ArrowWriter;
        use parquet::basic::{Compression, GzipLevel, ZstdLevel};
        use parquet::file::properties::WriterProperties;
        use std::sync::Arc;
        let column = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let columns = [("path", column(["a.png", "b.png"])), ("class", column(["monocyte", "basophil"]))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(ZstdLevel::default()),
        ] {
            let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
            let properties = WriterProperties::builder().set_compression(compression).build();
            let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(properties)).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
            let sheet = read(file.path()).unwrap();
            assert_eq!(sheet.columns, ["path", "class"], "{compression}");
            assert_eq!(sheet.rows[1].values, ["b.png", "basophil"], "{compression}");
        }
        // As Hugging Face's `datasets` writes images.
        let images = Arc::new(BinaryArray::from_iter_values([[255u8, 216, 255, 224, 0, 16, 74, 70, 73, 70]; 2]));
        let batch = RecordBatch::try_from_iter([("image", images as ArrayRef), ("label", column(["0", "1"]))]).unwrap();
        let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let refused = read(file.path()).err().unwrap().to_string();
        assert!(refused.contains("column image") && refused.contains("the images themselves"), "{refused}");
        assert!(refused.len() < 300, "{refused}");
    }

    fn table(bytes: &[u8]) -> String {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let sheet = read(file.path()).unwrap();
        assert!(sheet.bad_rows.is_empty());
        let rows = sheet.rows.iter().map(|row| format!("{} {}", row.number, row.values.join("|")));
        std::iter::once(sheet.columns.join("|")).chain(rows).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn every_dialect_of_spreadsheets() {
        let expected = "path|class/2 a.png|neutrophil/3 b.png|mono, cyte";
        for text in [
            "path,class\na.png,neutrophil\nb.png,\"mono, cyte\"\n",
            "path;class\r\na.png;neutrophil\r\nb.png;\"mono, cyte\"\r\n",
            "\u{feff}path\tclass\r\n a.png \tneutrophil\r\nb.png\tmono, cyte\r\n\r\n",
        ] {
            assert_eq!(table(text.as_bytes()), expected, "{text}");
            let wide = |of: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(of).collect::<Vec<u8>>();
            assert_eq!(table(&wide(u16::to_le_bytes)), expected, "{text}");
            assert_eq!(table(&wide(u16::to_be_bytes)), expected, "{text}");
        }
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), "path,class\na.png,neutrophil, band\nb.png,monocyte,\n").unwrap();
        let sheet = read(file.path()).unwrap();
        assert_eq!((sheet.rows.len(), sheet.bad_rows.len()), (1, 1), "{:?}", sheet.bad_rows);
        for (sep, text) in [("sep=;", "a,x;b"), ("\"sep=;\"", "a,x;b"), ("sep=\t", "a,x\tb"), ("SEP=^", "a,x^b")] {
            let header = text.replace("a,x", "p (1, 2, 3)");
            assert_eq!(table(format!("{sep}\n{header}\n{text}\n").as_bytes()), "p (1, 2, 3)|b/3 a,x|b", "{sep}");
        }
        let spaced = " \"path\" , \"cl,ass\"\n\"a \"\" b\",\t\"x, \"\"y\"\"\"\n a 5\" b, c\n";
        assert_eq!(table(spaced.as_bytes()), "path|cl,ass/2 a \" b|x, \"y\"/3 a 5\" b|c");
        assert_eq!(table("path,class\na,\u{a0}neutro\u{ad}phil\u{200b}\n".as_bytes()), "path|class/2 a|neutrophil");
        assert_eq!(table(b"path,note\na.png,gef\xe4rbt\n"), "path|note/2 a.png|gefärbt");
    }
}
