//! The part of `fetch` that reads archives, and its target.

use crate::context::Context;
use crate::harness;
use std::io::Write;

#[path = "../../src/fetch/catalogue.rs"]
pub mod catalogue;
#[path = "../../src/fetch/checksum.rs"]
pub mod checksum;
#[path = "../../src/fetch/download.rs"]
pub mod download;
#[path = "../../src/fetch/unpack.rs"]
pub mod unpack;

pub use download::bytes_text;

/// Low limits, so that an input takes little time and memory.
const LIMITS: unpack::Limits = unpack::Limits { files: 50, bytes: 1 << 20, ratio: 100, ratio_from_bytes: 1 << 16 };

/// Unpacks an archive, and checks that all lies in the folder and within the limits.
pub fn check(bytes: &[u8]) {
    let bytes = if bytes.starts_with(b"PK") { with_checksums(bytes) } else { bytes.to_vec() };
    let archive = harness::write("archive", &bytes);
    let into = harness::folder().join("unpacked");
    std::fs::create_dir_all(&into).expect("a folder");
    let keep = [("*/a.png".to_string(), "a/".to_string())];
    let keep = if harness::number(&bytes) % 4 == 0 { &keep[..] } else { &[] };
    let unpacked = unpack::unpack(&archive, &into, keep, &LIMITS, &Context::silent(0));
    if unpacked.is_ok() {
        let (mut files, mut size) = (0, 0);
        for entry in walkdir::WalkDir::new(&into) {
            let about = entry.expect("an entry").metadata().expect("what it is");
            assert!(about.is_file() || about.is_dir(), "no links and no devices");
            files += 1;
            size += if about.is_file() { about.len() } else { 0 };
        }
        // Folders above files are no entries of the archive.
        assert!(files <= LIMITS.files * 33 && size <= LIMITS.bytes, "{files} files, {size} bytes");
    }
    std::fs::remove_dir_all(&into).expect("the folder");
}

/// The entries of a zip archive with the checksums that they should have, as far as they can be read.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut fixed = bytes.to_vec();
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    for at in memchr::memmem::find_iter(bytes, b"PK\x01\x02") {
        let crc = || {
            let (method, packed, local) = (half(at + 10)?, word(at + 20)? as usize, word(at + 42)? as usize);
            let start = local + 30 + usize::from(half(local + 26)?) + usize::from(half(local + 28)?);
            let packed = bytes.get(start..start.checked_add(packed)?)?;
            let mut crc = flate2::Crc::new();
            match method {
                0 => crc.update(packed),
                _ => {
                    let mut contents = Vec::new();
                    let reader = std::io::Read::take(flate2::read::DeflateDecoder::new(packed), LIMITS.bytes);
                    let _ = std::io::Read::read_to_end(&mut { reader }, &mut contents);
                    crc.update(&contents);
                }
            }
            Some((local, crc.sum().to_le_bytes()))
        };
        if let Some((local, crc)) = crc() {
            for at in [at + 16, local + 14] {
                if let Some(place) = fixed.get_mut(at..at + 4) {
                    place.copy_from_slice(&crc);
                }
            }
        }
    }
    fixed
}

/// An archive of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let files: [(&str, &[u8]); 3] = [("d/basophil/a.png", b"one"), ("d/b.txt", &[b'x'; 300]), ("../c", b"")];
    let zip = |method, files: &[(&str, &[u8])]| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method).unix_permissions(0o644);
        writer.add_directory("d", options).expect("a folder");
        for (name, contents) in files {
            writer.start_file(*name, options).expect("a file");
            writer.write_all(contents).expect("its contents");
        }
        writer.add_symlink("d/link", "a.png", options).expect("a link");
        writer.finish().expect("an archive").into_inner()
    };
    let tar = |long: bool| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, contents) in &files[..2] {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            let name = if long { format!("{name}{}", "y".repeat(120)) } else { name.to_string() };
            builder.append_data(&mut header, name, *contents).expect("a file");
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "d/link", "b.txt").expect("a link");
        builder.into_inner().expect("an archive")
    };
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(bytes).expect("memory");
        writer.finish().expect("memory")
    };
    let (stored, deflated) = (zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated);
    vec![
        zip(stored, &files[..2]),
        zip(deflated, &files[..2]),
        zip(stored, &files),
        zip(stored, &[("inner.zip", &zip(deflated, &files[..1]))]),
        tar(false),
        tar(true),
        gzip(&tar(false)),
        gzip(&tar(true)),
    ]
}
