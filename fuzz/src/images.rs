//! Images: no decoder may panic, and all of its functions must agree.

use crate::decode::{self, Grey};
use crate::harness::{file, number};
use crate::rect::Rect;

/// Larger images are decoded once in [`SELDOM`] inputs, because they take much longer.
const MANY_PIXELS: u64 = 1 << 12;
const SELDOM: u32 = 256;

/// Decodes an image of the given format, and compares the functions of `decode` with each other.
pub fn check(format: &str, bytes: &[u8]) {
    let Ok(header) = decode::header(bytes, file()) else { return };
    if header.format.name() != format {
        return;
    }
    let (width, height) = (header.width_px, header.height_px);
    let number = number(bytes);
    if u64::from(width) * u64::from(height) > MANY_PIXELS && number % SELDOM != 0 {
        return;
    }
    let whole = decode::rgb(bytes, file());
    if let Ok(image) = &whole {
        assert_eq!((image.width_px, image.height_px), (width, height));
        assert_eq!(image.pixels.len(), width as usize * height as usize * 3);
    }
    // JPEG alone has decoders of its own for grey images and parts.
    let often = if format == "jpeg" { 4 } else { 16 };
    match number / SELDOM % often {
        0 => {
            let grey = decode::grey(bytes, file());
            assert_eq!(grey.is_ok(), whole.is_ok(), "grey and RGB");
            if let (Ok(grey), Ok(image)) = (grey, whole) {
                assert_eq!((grey.width_px, grey.height_px), (width, height));
                assert_eq!(grey.pixels.len(), width as usize * height as usize);
                assert!(format == "jpeg" || grey == Grey::from(image), "grey and RGB");
            }
        }
        1 => {
            let bits = number / SELDOM / often;
            let (x, y) = (bits % width, bits / 64 % height);
            let rect = Rect { x, y, width: 1 + bits / 8 % (width - x), height: 1 + bits / 512 % (height - y) };
            let part = decode::crop(bytes, file(), rect);
            if let Ok(image) = whole {
                let rows = image.pixels.chunks_exact(width as usize * 3).skip(y as usize).take(rect.height as usize);
                let row = |row: &[u8]| row[x as usize * 3..(x + rect.width) as usize * 3].to_vec();
                assert!(part.expect("a part of an image").pixels == rows.flat_map(row).collect::<Vec<_>>(), "{rect:?}");
            }
        }
        2 => assert_eq!(decode::mask(bytes, file()).is_ok(), whole.is_ok(), "mask and RGB"),
        _ => {}
    }
}

/// The images of the tests in this format, and tiny ones of each kind.
pub fn seeds(format: &str) -> Vec<Vec<u8>> {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/");
    let mut paths: Vec<_> = ["images", "jpeg"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(format!("{fixtures}{folder}")).expect("the fixtures of the tests"))
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    let files = paths.iter().map(|path| std::fs::read(path).expect("a file"));
    let is_of_format =
        |bytes: &Vec<u8>| decode::header(bytes, file()).is_ok_and(|header| header.format.name() == format);
    let mut seeds: Vec<Vec<u8>> = files.filter(is_of_format).collect();
    let kind = image::ImageFormat::from_extension(format).expect("a format");
    let tiny =
        image::RgbaImage::from_fn(4, 3, |x, y| image::Rgba([x as u8 * 60, y as u8 * 90, 77, 255 - x as u8 * 50]));
    let tiny = image::DynamicImage::from(tiny);
    for tiny in [
        tiny.to_luma8().into(),
        tiny.to_luma_alpha8().into(),
        tiny.to_rgb8().into(),
        tiny.to_rgba8().into(),
        tiny.to_luma16().into(),
        tiny.to_luma_alpha16().into(),
        tiny.to_rgb16().into(),
        tiny.to_rgba16().into(),
    ] as [image::DynamicImage; 8]
    {
        let mut file = std::io::Cursor::new(Vec::new());
        // Not every format has every kind.
        if tiny.write_to(&mut file, kind).is_ok() {
            seeds.push(file.into_inner());
        }
    }
    if format == "bmp" {
        // Bits per pixel, compression (1 and 2 are run lengths, 3 is bit masks), and what comes before the pixels.
        let palette = |colours: u8| (0..colours).flat_map(|v| [v * 3, v * 7 % 251, v, 0]).collect::<Vec<u8>>();
        let masks = |masks: [u32; 3]| masks.iter().flat_map(|mask| mask.to_le_bytes()).collect::<Vec<u8>>();
        let pixels: Vec<u8> = (0..96u8).map(|v| v.wrapping_mul(37)).collect();
        let runs8 = vec![8, 1, 0, 0, 4, 2, 0, 4, 1, 2, 3, 4, 0, 0, 0, 2, 1, 1, 3, 5, 0, 1];
        let runs4 = vec![8, 0x12, 0, 0, 0, 4, 0x12, 0x34, 0, 0, 0, 1];
        for (bits, compression, before, pixels) in [
            (24, 0, vec![], pixels.clone()),
            (32, 0, vec![], pixels.clone()),
            (16, 0, vec![], pixels.clone()),
            (8, 0, palette(16), pixels.clone()),
            (4, 0, palette(16), pixels.clone()),
            (1, 0, palette(2), pixels.clone()),
            (8, 1, palette(16), runs8),
            (4, 2, palette(16), runs4),
            (16, 3, masks([0xF800, 0x7E0, 0x1F]), pixels.clone()),
            (32, 3, masks([0xFF_0000, 0xFF00, 0xFF]), pixels),
        ] {
            let start = 54 + before.len() as u32;
            let mut bytes = b"BM".to_vec();
            for word in [start + pixels.len() as u32, 0, start, 40, 5, 4] {
                bytes.extend(u32::to_le_bytes(word));
            }
            bytes.extend([1, 0, bits, 0]);
            let colours = if bits <= 8 { before.len() as u32 / 4 } else { 0 };
            for word in [compression, pixels.len() as u32, 0, 0, colours, 0] {
                bytes.extend(u32::to_le_bytes(word));
            }
            seeds.push([bytes, before, pixels].concat());
        }
    }
    seeds
}
