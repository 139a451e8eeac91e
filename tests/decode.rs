//! Decoding of every kind of image file, compared with Pillow (`tests/fixtures/images/make.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wbc::decode::{self, Grey, Rgb};
use wbc::error::Error;
use wbc::rect::Rect;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

/// The files of the folder and their bytes, without the script and the list.
fn files() -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let images = entries.filter(|path| path.is_file() && decode::has_image_extension(path));
    images.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), std::fs::read(&path).unwrap())).collect()
}

fn expected(name: &str) -> Option<image::RgbImage> {
    let path = folder().join("expected").join(format!("{name}.png"));
    path.exists().then(|| image::open(path).unwrap().into_rgb8())
}

fn message(error: Error) -> String {
    match error {
        Error::Image { message, .. } => message,
        other => panic!("{other}"),
    }
}

#[test]
fn pixels_are_those_of_pillow() {
    let mut compared = 0;
    for (name, bytes) in files() {
        let Some(expected) = expected(&name) else { continue };
        let path = Path::new(&name);
        let header = decode::header(&bytes, path).unwrap();
        assert_eq!((header.width_px, header.height_px), expected.dimensions(), "{name}");
        let image = decode::rgb(&bytes, path).unwrap();
        assert_eq!((image.width_px, image.height_px), expected.dimensions(), "{name}");
        assert!(image.pixels == expected.into_raw(), "{name}");
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn windows_and_grey_are_parts_of_the_upright_image() {
    for (name, bytes) in files() {
        let path = Path::new(&name);
        let Ok(image) = decode::rgb(&bytes, path) else { continue };
        let whole = image::RgbImage::from_raw(image.width_px, image.height_px, image.pixels.clone()).unwrap();
        let (width, height) = (image.width_px, image.height_px);
        for (x, y, w, h) in [(0, 0, 5, 5), (3, 1, 17, 9), (width - 6, height - 4, 6, 4), (0, 7, width, 1)] {
            let part = decode::crop(&bytes, path, Rect { x, y, width: w, height: h }).unwrap();
            let expected = image::imageops::crop_imm(&whole, x, y, w, h).to_image();
            assert!(part == Rgb { width_px: w, height_px: h, pixels: expected.into_raw() }, "{name}: {x} {y} {w} {h}");
        }
        let grey = decode::grey(&bytes, path).unwrap();
        assert_eq!((grey.width_px, grey.height_px), (width, height), "{name}");
        let (mut sum, from_colours) = (0, Grey::from(image));
        for (a, b) in grey.pixels.iter().zip(&from_colours.pixels) {
            sum += u64::from(a.abs_diff(*b));
        }
        assert!(sum / u64::from(width * height) < 3, "{name}");
        for rect in [Rect::whole(width + 1, height), Rect { x: width, y: 0, width: 1, height: 1 }] {
            assert!(decode::crop(&bytes, path, rect).is_err(), "{name}");
        }
    }
}

#[test]
fn files_that_are_not_one_image_are_errors_that_name_the_cause() {
    let files = files();
    let list = std::fs::read_to_string(folder().join("refused.txt")).unwrap();
    for (name, words) in list.lines().map(|line| line.split_once('\t').unwrap()) {
        let path = Path::new(name);
        let message = message(decode::rgb(&files[name], path).unwrap_err());
        assert!(message.contains(words), "{name}: {message}");
        assert!(decode::grey(&files[name], path).is_err(), "{name}");
    }
    // Every file is either expected or refused.
    for name in files.keys() {
        let refused = list.lines().any(|line| line.split('\t').next() == Some(name));
        assert!(refused != expected(name).is_some(), "{name}");
    }
}

#[test]
fn transparency_of_a_mask_is_black() {
    let bytes = &files()["alpha.png"];
    let [on_white, mask] = [decode::rgb, decode::mask].map(|decode| decode(bytes, Path::new("x")).unwrap());
    // The first pixel is fully transparent, the one in the middle of the cell is opaque.
    assert_eq!((&on_white.pixels[..3], &mask.pixels[..3]), ([255; 3].as_slice(), [0; 3].as_slice()));
    let cell = (9 * 37 + 24) * 3;
    assert_eq!(on_white.pixels[cell..cell + 3], mask.pixels[cell..cell + 3]);
}

#[test]
fn images_of_one_colour_are_named() {
    let image = |pixels: &[[u8; 3]]| Rgb { width_px: 2, height_px: 1, pixels: pixels.concat() };
    assert_eq!(image(&[[0, 1, 2], [2, 1, 0]]).blank(), Some("all black"));
    assert_eq!(image(&[[255, 254, 255], [255, 255, 255]]).blank(), Some("all white"));
    assert_eq!(image(&[[255, 0, 255], [255, 0, 255]]).blank(), Some("of one colour"));
    assert_eq!(image(&[[255, 0, 255], [255, 20, 255]]).blank(), None);
}

#[test]
fn headers_cannot_claim_more_than_the_file_holds() {
    let files = files();
    for (name, bytes) in &files {
        // A JPEG's size is two bytes each after the frame marker.
        let Some(at) = bytes.windows(4).position(|w| w[0] == 0xFF && [0xC0, 0xC2].contains(&w[1]) && w[2] == 0) else {
            continue;
        };
        if !name.ends_with(".jpg") {
            continue;
        }
        let mut large = bytes.clone();
        large[at + 5..at + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
        let error = message(decode::header(&large, Path::new(name)).unwrap_err());
        assert!(error.contains("cannot hold the 8192 x 8192 pixels"), "{name}: {error}");
        large[at + 5..at + 9].copy_from_slice(&[2, 0, 2, 0]);
        assert!(decode::rgb(&large, Path::new(name)).is_err(), "{name}: 512 x 512 pixels of which few are there");
    }
}

/// Where the segments of a JPEG with this marker start: at the marker's first byte.
fn segments(bytes: &[u8], marker: u8) -> Vec<usize> {
    (0..bytes.len() - 1).filter(|at| bytes[*at] == 0xFF && bytes[at + 1] == marker).collect()
}

#[test]
fn a_jpeg_that_libjpeg_refuses_is_damaged() {
    let files = files();
    let (rgb, grey) = (&files["rgb.jpg"], &files["turned-grey.jpg"]);
    let (scan, frame, dc_table) = (segments(rgb, 0xDA)[0], segments(rgb, 0xC0)[0], segments(rgb, 0xC4)[0]);
    assert_eq!(rgb[dc_table + 4] >> 4, 0);
    let changed = |bytes: &[u8], at: usize, value: u8| {
        assert!(decode::rgb(bytes, Path::new("x")).is_ok() && bytes[at] != value);
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        bytes
    };
    let inserted = |segment: &[u8]| [&rgb[..scan], segment, &rgb[scan..]].concat();
    let longer = |at: usize| {
        let end = at + 2 + usize::from(rgb[at + 3]);
        let bytes = changed(rgb, at + 3, rgb[at + 3] + 1);
        [&bytes[..end], &[0], &bytes[end..]].concat()
    };
    for (what, bytes) in [
        ("a fifth table", changed(rgb, scan + 6, rgb[scan + 6] | 4)),
        ("a DC table with runs", changed(rgb, dc_table + 21, rgb[dc_table + 21] | 0x30)),
        ("a longer scan header", longer(scan)),
        ("a longer frame header", longer(frame)),
        ("a longer restart interval", inserted(&[0xFF, 0xDD, 0, 5, 0, 0, 0])),
        ("a marker without meaning", inserted(&[0xFF, 0xF0, 0, 2])),
        ("a grey image without samples", changed(grey, segments(grey, 0xC0)[0] + 11, 0)),
    ] {
        let error = message(decode::rgb(&bytes, Path::new("x")).map(|_| ()).expect_err(what));
        assert!(error.contains("damaged"), "{what}: {error}");
    }
}

#[test]
fn a_jpegs_tables_are_those_of_the_first_scan_of_a_channel() {
    let bytes = &files()["three-scans.jpg"];
    let second = segments(bytes, 0xDA)[1];
    // Table 0 is that of the luma, whose scan is over.
    let table = [&[0xFF, 0xDB, 0, 67, 0][..], &[200; 64]].concat();
    let replaced = [&bytes[..second], &table, &bytes[second..]].concat();
    assert!(decode::rgb(&replaced, Path::new("x")).unwrap() == decode::rgb(bytes, Path::new("x")).unwrap());
}

#[test]
fn an_unknown_transform_of_inks_is_ycck() {
    let mut bytes = files()["cmyk.jpg"].clone();
    let adobe = segments(&bytes, 0xEE)[0];
    let mut decoded = |transform: u8| {
        bytes[adobe + 15] = transform;
        decode::rgb(&bytes, Path::new("x")).unwrap()
    };
    assert!(decoded(1) == decoded(2) && decoded(1) != decoded(0));
}

#[test]
fn a_tiff_can_claim_any_size() {
    // Tag, type, number of values, and value. A width and height of 2^31, 8 bits, grey, and one strip.
    let entry = |(tag, value): (u8, u32)| [&[tag, 1, 4, 0, 1, 0, 0, 0][..], &value.to_le_bytes()].concat();
    let entries = [(0, 1 << 31), (1, 1 << 31), (2, 8), (6, 1), (17, 8), (23, 1)].map(entry).concat();
    let bytes = [b"II*\0\x08\0\0\0\x06\0", entries.as_slice(), &[0; 4]].concat();
    let error = message(decode::header(&bytes, Path::new("x")).unwrap_err());
    assert!(error.contains("claims 2147483648 x 2147483648"), "{error}");
}
