//! What a file is, by its first bytes.

use serde::{Deserialize, Serialize};

/// The formats that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// BMP.
    Bmp,
    /// TIFF.
    Tiff,
    /// WebP.
    Webp,
    /// GIF.
    Gif,
}

impl Format {
    /// As in the manifest: "jpeg", "png", "bmp", "tiff", "webp" or "gif".
    pub fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Bmp => "bmp",
            Format::Tiff => "tiff",
            Format::Webp => "webp",
            Format::Gif => "gif",
        }
    }

    /// The format of a file that starts like this.
    pub fn of(bytes: &[u8]) -> Option<Format> {
        const STARTS: [(&[u8], Format); 9] = [
            (b"\xFF\xD8\xFF", Format::Jpeg),
            (b"\x89PNG\r\n\x1A\n", Format::Png),
            (b"BM", Format::Bmp),
            (b"II*\0", Format::Tiff),
            (b"MM\0*", Format::Tiff),
            // BigTIFF
            (b"II+\0", Format::Tiff),
            (b"MM\0+", Format::Tiff),
            (b"GIF87a", Format::Gif),
            (b"GIF89a", Format::Gif),
        ];
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            return Some(Format::Webp);
        }
        STARTS.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, format)| *format)
    }
}

/// Formats that are not decoded: where the bytes lie, the bytes, and what to write about them.
const OTHERS: [(usize, &[u8], &str); 42] = [
    (4, b"ftypavi", "an AVIF image: save it as PNG"),
    (4, b"ftyphe", "a HEIC photo: save it as PNG"),
    (4, b"ftypmif1", "a HEIC photo: save it as PNG"),
    (4, b"ftypmsf1", "a HEIC photo: save it as PNG"),
    (4, b"ftypcrx", "a raw camera image: save it as PNG"),
    (4, b"ftyp", "a video"),
    (4, b"jP  \r\n", "a JPEG 2000 image: save it as PNG"),
    (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image: save it as PNG"),
    (4, b"JXL \r\n", "a JPEG XL image: save it as PNG"),
    (0, b"\xFF\x0A", "a JPEG XL image: save it as PNG"),
    (0, b"8BPS", "a Photoshop document: save it as PNG"),
    (0, b"gimp xcf", "a GIMP document: save it as PNG"),
    (0, b"\0\0\x01\0", "an icon: save it as PNG"),
    (0, b"\x76\x2F\x31\x01", "an OpenEXR image: save it as PNG"),
    (0, b"II\xBC\x01", "a JPEG XR image: save it as PNG"),
    (0, b"FUJIFILMCCD-RAW", "a raw camera image: save it as PNG"),
    (0, b"DDS ", "a DDS texture: save it as PNG"),
    (0, b"SIMPLE  =", "a FITS image: save it as PNG"),
    (128, b"DICM", "a DICOM image: save it as PNG"),
    (0, b"ZISRAWFILE", "a Zeiss CZI image: save it as PNG"),
    (0, b"\x70\0\0\0", "a Leica LIF image: save it as PNG"),
    (0, b"\xDA\xCE\xBE\x0A", "a Nikon ND2 image: save it as PNG"),
    (0, b"\x89HDF\r\n\x1A\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array: save it as PNG"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"SQLite format 3", "an SQLite database"),
    (0, b"PK\x03\x04", "a ZIP archive: unpack it"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1F\x8B", "a gzip archive: unpack it"),
    (0, b"Rar!\x1A\x07", "a RAR archive: unpack it"),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive: unpack it"),
    (0, b"\xFD7zXZ\0", "an xz archive: unpack it"),
    (0, b"BZh", "a bzip2 archive: unpack it"),
    (0, b"\x28\xB5\x2F\xFD", "a Zstandard archive: unpack it"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"%PDF", "a PDF document: export its images"),
    (0, b"%!PS", "a PostScript document: save it as PNG"),
    (0, b"\xD0\xCF\x11\xE0", "a Microsoft Office or Zeiss ZVI file"),
    (0, b"\0\x05\x16\x07", "a macOS file with attributes only"),
    (8, b"AVI ", "a video"),
    (0, b"\x1A\x45\xDF\xA3", "a video"),
];

/// What a file is that is none of the decoded formats, and if something can be done about it, what.
pub fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file".into();
    }
    let other = OTHERS.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((.., words)) = other {
        return (*words).into();
    }
    if bytes.iter().all(|b| *b == 0) {
        return "only zeros: the copy or download failed".into();
    }
    let head = text(&bytes[..bytes.len().min(1024)]);
    let Some(head) = head else { return "something else".into() };
    let is_page =
        |start: &str| ["<!doctype html", "<html", "<head", "<body", "<script"].iter().any(|s| start.starts_with(s));
    let words = match head.as_str() {
        t if t.starts_with("version https://git-lfs") => "a Git LFS pointer: run git lfs pull",
        t if t.starts_with("/annex/objects/") || t.contains(".git/annex/objects/") => {
            "a git-annex pointer: run git annex get"
        }
        t if is_page(t) => "a web page: the download failed",
        t if t.starts_with('<') && t.contains("<svg") => "an SVG drawing: save it as PNG",
        t if t.starts_with('<') && ["<html", "<!doctype html"].iter().any(|s| t.contains(s)) => {
            "a web page: the download failed"
        }
        t if t.starts_with("<?xml") && t.contains("<error") => "an error message of a web server: the download failed",
        t if t.starts_with('<') => "an XML file",
        t if ["p1", "p2", "p3"]
            .iter()
            .any(|p| t.strip_prefix(p).is_some_and(|r| r.starts_with(char::is_whitespace))) =>
        {
            "a PNM image: save it as PNG"
        }
        _ => "a text file",
    };
    words.into()
}

/// The start of a text file in lower case without leading space; `None` if the bytes are not text.
fn text(head: &[u8]) -> Option<String> {
    let wide = |units: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = head[2..].as_chunks::<2>().0.iter().map(|unit| units(*unit)).collect();
        String::from_utf16_lossy(&units)
    };
    let text = match head {
        [0xFF, 0xFE, ..] => wide(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => wide(u16::from_be_bytes),
        [b'P', b'4'..=b'6', b'\n' | b' ', ..] => "p1 ".into(),
        _ => {
            let control = |b: &u8| *b < 32 && !b"\t\n\r\x0C".contains(b);
            if head.iter().any(control) {
                return None;
            }
            String::from_utf8_lossy(head).into_owned()
        }
    };
    Some(text.trim_start_matches(|c: char| c == '\u{FEFF}' || c.is_whitespace()).to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_for_what_they_are() {
        for (bytes, words) in [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".as_slice(), "a HEIC photo: save it as PNG"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF image: save it as PNG"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image: save it as PNG"),
            (b"<!DOCTYPE html><html>403", "a web page: the download failed"),
            (b"\xEF\xBB\xBF\r\n <HTML>", "a web page: the download failed"),
            (b"<?xml version=\"1.0\"?><!-- x --><svg/>", "an SVG drawing: save it as PNG"),
            (b"<?xml version=\"1.0\"?><Error>NoSuchKey", "an error message of a web server: the download failed"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer: run git lfs pull"),
            (b"PK\x03\x04", "a ZIP archive: unpack it"),
            (b"\x1F\x8B\x08", "a gzip archive: unpack it"),
            (b"Rar!\x1A\x07\x01\0", "a RAR archive: unpack it"),
            (b"%PDF-1.7", "a PDF document: export its images"),
            (b"P6\n3 2\n255\n\0\0", "a PNM image: save it as PNG"),
            (b"neutrophil;1\n", "a text file"),
            (b"\0\0\0\0", "only zeros: the copy or download failed"),
            (b"", "an empty file"),
            (b"\x01\x02\x03", "something else"),
        ] {
            assert_eq!(Format::of(bytes), None);
            assert_eq!(describe(bytes), words);
        }
        assert_eq!(Format::of(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Format::Webp));
        assert_eq!(Format::of(b"MM\0+\0\x08\0\0"), Some(Format::Tiff));
    }
}
