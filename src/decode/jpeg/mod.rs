//! Decodes JPEGs with 8 bits: baseline ones quickly and in part, all others as a whole.
//!
//! The arithmetic is libjpeg's ("islow" DCT, "fancy" upsampling, 16-bit colour conversion), so that the pixels are
//! identical to those of Pillow and OpenCV. Stricter than libjpeg, which only warns: an image whose entropy-coded data
//! does not end with its last block is damaged, because lost or changed bytes shift everything after them.

use super::orientation::Orientation;
use crate::rect::Rect;
use header::{Header, Result};

mod baseline;
mod entropy;
mod header;
mod scans;
mod transform;

pub use header::Error;
pub use scans::inks;

/// Size as stored, px, and orientation.
pub fn info(bytes: &[u8]) -> Result<(u32, u32, Orientation)> {
    let (header, _) = Header::read(bytes)?;
    Ok((header.width as u32, header.height as u32, header.orientation.unwrap_or_default()))
}

/// Decodes the part inside `rect`, in stored pixels, to RGB, `[height, width, 3]`.
///
/// # Errors
/// [`Error::Unsupported`]; [`Error::Damaged`] if the data is truncated before the end of `rect` or invalid, or if
/// `rect` is empty or not inside the image. Only where `rect` reaches the last row, all of the data is verified.
pub fn decode(bytes: &[u8], rect: Rect) -> Result<Vec<u8>> {
    let (header, scan) = Header::read(bytes)?;
    check_inside(&header, rect)?;
    if baseline::supports(&header, &scan) {
        return baseline::decode(&header, &scan, rect, false);
    }
    let width = header.width * 3;
    let pixels = scans::decode(header, scan)?;
    if pixels.len() == rect.width as usize * rect.height as usize * 3 {
        return Ok(pixels);
    }
    let [left, right] = [rect.x as usize * 3, (rect.x + rect.width) as usize * 3];
    let rows = pixels.chunks_exact(width).skip(rect.y as usize).take(rect.height as usize);
    Ok(rows.flat_map(|row| &row[left..right]).copied().collect())
}

/// Decodes the luma inside `rect`, `[height, width]`; `None` if the colours are needed for it. The colours are read and
/// verified, too.
///
/// # Errors
/// As [`decode`].
pub fn decode_grey(bytes: &[u8], rect: Rect) -> Result<Option<Vec<u8>>> {
    let (header, scan) = Header::read(bytes)?;
    check_inside(&header, rect)?;
    if !baseline::supports(&header, &scan) {
        return Ok(None);
    }
    baseline::decode(&header, &scan, rect, true).map(Some)
}

/// Converts a pixel from YCbCr.
pub fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    transform::rgb(&[y], &[cb], &[cr]).map(|[v]| v)
}

fn check_inside(header: &Header, rect: Rect) -> Result<()> {
    let inside = Rect::whole(header.width as u32, header.height as u32).contains(rect);
    if inside && rect.width > 0 && rect.height > 0 { Ok(()) } else { Err(Error::Damaged("a part is not inside it")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: Rect = Rect { x: 0, y: 0, width: 70, height: 53 };

    macro_rules! fixtures {
        ($($name:literal),*) => {
            [$((
                $name,
                include_bytes!(concat!("../../../tests/fixtures/jpeg/", $name, ".jpg")).as_slice(),
                include_bytes!(concat!("../../../tests/fixtures/jpeg/", $name, ".png")).as_slice(),
            )),*]
        };
    }

    /// The JPEGs of tests/fixtures/jpeg and the images that libjpeg-turbo decodes them to.
    fn fixtures() -> Vec<(&'static str, &'static [u8], image::RgbImage)> {
        fixtures!("444", "422", "420", "coarse", "fine", "restart", "optimised", "grey")
            .into_iter()
            .map(|(name, jpeg, png)| (name, jpeg, image::load_from_memory(png).unwrap().into_rgb8()))
            .collect()
    }

    #[test]
    fn pixels_are_identical_to_libjpegs() {
        for (name, bytes, expected) in fixtures() {
            assert_eq!(info(bytes), Ok((70, 53, Orientation::default())), "{name}");
            assert!(decode(bytes, WHOLE).unwrap() == expected.into_raw(), "{name}");
        }
    }

    #[test]
    fn luma_matches_the_pixels() {
        for (name, bytes, image) in fixtures() {
            let luma = decode_grey(bytes, WHOLE).unwrap().unwrap();
            for (pixel, luma) in image.pixels().zip(luma) {
                // Where no channel was clamped, the colour conversion can be inverted up to rounding.
                if pixel.0.iter().all(|v| (1..255).contains(v)) {
                    let [r, g, b] = pixel.0.map(f32::from);
                    let grey = 0.299 * r + 0.587 * g + 0.114 * b;
                    assert!((grey - f32::from(luma)).abs() < 1.5, "{name}: {grey} and {luma}");
                }
            }
        }
    }

    #[test]
    fn truncated_images_are_rejected() {
        for (name, bytes, _) in fixtures() {
            for cut in [3, 10, bytes.len() / 3, bytes.len() / 2] {
                let decoded = decode(&bytes[..bytes.len() - cut], WHOLE);
                assert!(matches!(decoded, Err(Error::Damaged(_))), "{name} - {cut}");
            }
        }
    }

    /// Where the image data start.
    fn data_start(bytes: &[u8]) -> usize {
        let at = bytes.windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap();
        at + 2 + usize::from(bytes[at + 3])
    }

    #[test]
    fn data_after_the_last_block_are_damage() {
        for (name, bytes, _) in fixtures() {
            let end = bytes.len() - 2;
            let extraneous = [&bytes[..end], &[0x12, 0x34], &bytes[end..]].concat();
            assert!(matches!(decode(&extraneous, WHOLE), Err(Error::Damaged(_))), "{name}");
            let fill = [&bytes[..end], &[0xFF, 0xFF], &bytes[end..]].concat();
            assert!(decode(&fill, WHOLE) == decode(bytes, WHOLE), "{name}: fill bytes before a marker are valid");
            // What is above the damage can still be read as a part.
            assert!(decode(&extraneous, Rect { height: 8, ..WHOLE }).is_ok(), "{name}");
        }
    }

    #[test]
    fn holes_in_the_data_are_damage() {
        let [progressive] = fixtures!("progressive");
        let (mut lost, mut noticed) = (0, 0);
        for (name, bytes, _) in fixtures() {
            let start = data_start(bytes);
            for length in [32, 100, 300] {
                for at in [start + 10, (start + bytes.len()) / 2] {
                    let mut damaged = bytes.to_vec();
                    let end = (at + length).min(bytes.len() - 2);
                    damaged[at..end].fill(0);
                    assert!(matches!(decode(&damaged, WHOLE), Err(Error::Damaged(_))), "{name}: {at} {length}");
                    damaged.drain(at..end);
                    lost += 1;
                    noticed += usize::from(matches!(decode(&damaged, WHOLE), Err(Error::Damaged(_))));
                }
            }
        }
        // Without its zeros the rest can by chance decode to the right number of blocks.
        assert!(lost == 48 && noticed >= 44, "{noticed} of {lost}");
        let mut damaged = progressive.1.to_vec();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 100].fill(0);
        assert!(matches!(decode(&damaged, WHOLE), Err(Error::Damaged(_))));
    }

    /// libjpeg ends a block where an AC table stands for a run of zeros that is not 16 long.
    #[test]
    fn codes_without_a_meaning_are_damage() {
        for (name, bytes, _) in fixtures() {
            let mut damaged = bytes.to_vec();
            let tables: Vec<usize> = (0..bytes.len() - 4)
                .filter(|at| bytes[*at..at + 2] == [0xFF, 0xC4] && bytes[at + 4] >> 4 == 1)
                .collect();
            for at in &tables {
                let symbols = at + 21..at + 2 + usize::from(bytes[at + 3]);
                let end_of_block = symbols.into_iter().find(|at| bytes[*at] == 0).unwrap();
                damaged[end_of_block] = 0x30;
            }
            let found = decode(&damaged, WHOLE);
            assert!(tables.is_empty() || matches!(found, Err(Error::Damaged(_))), "{name}");
            assert!(!tables.is_empty() || !matches!(name, "444" | "422" | "420"), "{name}");
        }
    }

    #[test]
    fn channels_out_of_order_are_damage() {
        let [(_, bytes, _)] = fixtures!("444");
        let at = bytes.windows(2).position(|marker| marker == [0xFF, 0xDA]).unwrap();
        let mut damaged = bytes.to_vec();
        damaged.swap(at + 7, at + 9);
        assert!(matches!(decode(&damaged, WHOLE), Err(Error::Damaged(_))));
    }

    #[test]
    fn restart_markers_must_be_in_order() {
        let [(_, bytes, _)] = fixtures!("restart");
        let start = data_start(bytes);
        let is_restart = |at: &usize| bytes[*at] == 0xFF && (0xD0..=0xD7).contains(&bytes[at + 1]);
        let markers: Vec<usize> = (start..bytes.len() - 1).filter(is_restart).collect();
        assert!(markers.len() > 4);
        let mut swapped = bytes.to_vec();
        swapped.swap(markers[1] + 1, markers[2] + 1);
        let mut missing = bytes.to_vec();
        missing.drain(markers[1]..markers[1] + 2);
        let mut lost = bytes.to_vec();
        lost.drain(markers[1]..markers[2]);
        for damaged in [swapped, missing, lost] {
            assert!(matches!(decode(&damaged, WHOLE), Err(Error::Damaged(_))));
        }
    }

    #[test]
    fn an_incomplete_progressive_image_is_damage() {
        let [(_, bytes, expected)] = fixtures!("progressive");
        assert!(decode(bytes, WHOLE).unwrap() == image::load_from_memory(expected).unwrap().into_rgb8().into_raw());
        let scans: Vec<usize> = (0..bytes.len() - 1).filter(|at| bytes[*at] == 0xFF && bytes[at + 1] == 0xDA).collect();
        assert!(scans.len() > 5);
        for at in &scans[1..] {
            let cut = [&bytes[..*at], &[0xFF, 0xD9]].concat();
            assert!(matches!(decode(&cut, WHOLE), Err(Error::Damaged(_))), "{at}");
        }
    }

    proptest! {
        #[test]
        fn parts_equal_the_cropped_image(x in 0u32..70, y in 0u32..53, width in 1u32..=70, height in 1u32..=53) {
            let rect = Rect { x, y, width: width.min(70 - x), height: height.min(53 - y) };
            for (name, bytes, whole) in fixtures() {
                let part = image::imageops::crop_imm(&whole, x, y, rect.width, rect.height).to_image();
                prop_assert!(decode(bytes, rect).unwrap() == part.into_raw(), "{} {:?}", name, rect);
                let luma = decode_grey(bytes, WHOLE).unwrap().unwrap();
                let rows = luma.chunks_exact(70).skip(y as usize).take(rect.height as usize);
                let part: Vec<u8> = rows.flat_map(|row| &row[x as usize..][..rect.width as usize]).copied().collect();
                prop_assert!(decode_grey(bytes, rect).unwrap().unwrap() == part, "luma of {} {:?}", name, rect);
            }
        }

        #[test]
        fn damaged_files_never_panic(
            which in 0usize..8, changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..20),
            end in any::<u16>(),
        ) {
            let (_, bytes, _) = fixtures().remove(which);
            let mut bytes = bytes.to_vec();
            for (at, value) in changes {
                let length = bytes.len();
                bytes[usize::from(at) % length] = value;
            }
            bytes.truncate(bytes.len() - usize::from(end) % bytes.len().min(50));
            if let Ok((width, height, _)) = info(&bytes) && u64::from(width) * u64::from(height) < 1 << 22 {
                let _ = decode(&bytes, Rect::whole(width, height));
            }
        }
    }
}
