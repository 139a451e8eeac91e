//! Image files → header or RGB pixels. Usual JPEGs and BMPs go through `jpeg` and `bmp` here, other JPEGs through
//! `zune-jpeg`, everything else through `image`.

use crate::error::{Error, Result};
use std::io::Cursor;
use std::path::Path;

mod bmp;
mod jpeg;

/// Larger pictures are refused before anything is allocated for them: a header can claim any size.
pub const MAX_PIXELS: u64 = 1 << 28;

/// What an image file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// "jpeg", "png", "bmp" or "tiff".
    pub format: &'static str,
    pub width_px: u32,
    pub height_px: u32,
}

/// A decoded picture: `height_px * width_px * 3` bytes, rows from the top, red green blue interleaved, 0 to 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    pub width_px: u32,
    pub height_px: u32,
    pub pixels: Vec<u8>,
}

/// A decoded picture's brightness: `height_px * width_px` bytes, rows from the top, 0 to 255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grey {
    pub width_px: u32,
    pub height_px: u32,
    pub pixels: Vec<u8>,
}

impl From<Rgb> for Grey {
    /// By the weights of ITU-R BT.601, as JPEG's luma.
    fn from(picture: Rgb) -> Self {
        let mut pixels = vec![0u8; picture.pixels.len() / 3];
        for (grey, p) in pixels.iter_mut().zip(picture.pixels.as_chunks::<3>().0) {
            *grey = ((u32::from(p[0]) * 77 + u32::from(p[1]) * 150 + u32::from(p[2]) * 29 + 128) >> 8) as u8;
        }
        Self { width_px: picture.width_px, height_px: picture.height_px, pixels }
    }
}

/// Format and size from an image file's bytes (its beginning suffices for all but some TIFFs); pixels are not decoded.
///
/// # Errors
/// [`Error::Image`] where the bytes are none of the four formats, broken, or claim more than [`MAX_PIXELS`].
pub fn header(bytes: &[u8], path: &Path) -> Result<Header> {
    let image_error = |message: String| Error::Image { path: path.into(), message };
    let (kind, format) = format_of(bytes).ok_or_else(|| {
        image_error("expected the first bytes of a JPEG, PNG, BMP or TIFF, found something else".into())
    })?;
    let quick = if format == "jpeg" { jpeg::size(bytes).ok() } else { None };
    let (width_px, height_px) = match quick {
        Some(size) => size,
        None => image::ImageReader::with_format(Cursor::new(bytes), kind)
            .into_dimensions()
            .map_err(|e| image_error(e.to_string()))?,
    };
    if width_px == 0 || height_px == 0 || u64::from(width_px) * u64::from(height_px) > MAX_PIXELS {
        return Err(image_error(format!(
            "expected 1 to {MAX_PIXELS} pixels, found a header that claims {width_px} x {height_px}"
        )));
    }
    Ok(Header { format, width_px, height_px })
}

/// A rectangle of a picture, px.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Whether a file's name ends as those of the formats do that are read here.
pub fn claims_to_be_an_image(path: &Path) -> bool {
    const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff"];
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// Decodes a whole picture to 8-bit RGB: grey is spread to three channels, alpha dropped, 16 bits rounded to 8.
///
/// # Errors
/// [`Error::Image`] where [`header`] fails or the pixels cannot be decoded (a truncated file, say).
pub fn rgb(bytes: &[u8], path: &Path) -> Result<Rgb> {
    part(bytes, path, None)
}

/// Decodes a whole picture's brightness. What [`rgb`] refuses is refused; of a usual JPEG, colour is read and verified
/// but not made.
///
/// # Errors
/// As [`rgb`].
pub fn grey(bytes: &[u8], path: &Path) -> Result<Grey> {
    let Header { format, width_px, height_px } = header(bytes, path)?;
    let whole = Window { x: 0, y: 0, width: width_px, height: height_px };
    match jpeg::decode_grey(bytes, whole) {
        Ok(pixels) if format == "jpeg" => Ok(Grey { width_px, height_px, pixels }),
        _ => rgb(bytes, path).map(Grey::from),
    }
}

/// Decodes a window of a picture, as [`rgb`] does the whole; of JPEGs, not much more than the window.
///
/// # Errors
/// As [`rgb`]; also where the window reaches over the edge.
pub fn window(bytes: &[u8], path: &Path, window: Window) -> Result<Rgb> {
    part(bytes, path, Some(window))
}

fn part(bytes: &[u8], path: &Path, part: Option<Window>) -> Result<Rgb> {
    let head = header(bytes, path)?;
    let image_error = |message: String| Error::Image { path: path.into(), message };
    let whole = Window { x: 0, y: 0, width: head.width_px, height: head.height_px };
    let wanted = part.unwrap_or(whole);
    let inside = |start: u32, length: u32, end: u32| start.checked_add(length).is_some_and(|last| last <= end);
    if !inside(wanted.x, wanted.width, whole.width) || !inside(wanted.y, wanted.height, whole.height) {
        return Err(image_error(format!("expected a window inside {whole:?}, found {wanted:?}")));
    }
    let rgb = |window: Window, pixels| Rgb { width_px: window.width, height_px: window.height, pixels };
    let quick = match head.format {
        "jpeg" => jpeg::decode(bytes, wanted).ok(),
        "bmp" => bmp::decode(bytes, wanted),
        _ => None,
    };
    if let Some(pixels) = quick {
        return Ok(rgb(wanted, pixels));
    }
    let pixels = if head.format == "jpeg" {
        other_jpeg(bytes).map_err(image_error)?
    } else {
        let (kind, _) = format_of(bytes).expect("header() knew the format");
        image::load(Cursor::new(bytes), kind).map_err(|e| image_error(e.to_string()))?.into_rgb8().into_raw()
    };
    let expected = head.width_px as usize * head.height_px as usize * 3;
    if pixels.len() != expected {
        return Err(image_error(format!("expected {expected} bytes of pixels, found {}", pixels.len())));
    }
    if wanted == whole {
        return Ok(rgb(whole, pixels));
    }
    let (x, width) = (wanted.x as usize * 3, wanted.width as usize * 3);
    let rows = pixels.chunks_exact(head.width_px as usize * 3).skip(wanted.y as usize).take(wanted.height as usize);
    Ok(rgb(wanted, rows.flat_map(|row| &row[x..x + width]).copied().collect()))
}

/// Format and its name from the first bytes; `None` for anything but the four formats.
pub(crate) fn format_of(bytes: &[u8]) -> Option<(image::ImageFormat, &'static str)> {
    use image::ImageFormat::{Bmp, Jpeg, Png, Tiff};
    match image::guess_format(bytes).ok()? {
        Jpeg => Some((Jpeg, "jpeg")),
        Png => Some((Png, "png")),
        Bmp => Some((Bmp, "bmp")),
        Tiff => Some((Tiff, "tiff")),
        _ => None,
    }
}

/// The JPEGs that `jpeg` leaves: progressive ones, odd sampling, CMYK. Strict: a truncated scan is an error, not a
/// half-grey picture.
fn other_jpeg(bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
    use zune_core::bytestream::ZCursor;
    use zune_core::colorspace::ColorSpace;
    use zune_core::options::DecoderOptions;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(1 << 16)
        .set_max_height(1 << 16)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options).decode().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 x 2, all different: a transposed or mirrored picture is another one.
    fn marked() -> image::RgbImage {
        image::RgbImage::from_fn(3, 2, |x, y| image::Rgb([(x * 80) as u8, (y * 200) as u8, 10]))
    }

    #[test]
    fn lossless_formats_come_out_the_right_way_round() {
        for kind in [image::ImageFormat::Png, image::ImageFormat::Bmp, image::ImageFormat::Tiff] {
            let mut bytes = Cursor::new(Vec::new());
            marked().write_to(&mut bytes, kind).unwrap();
            let got = rgb(bytes.get_ref(), Path::new("x")).unwrap();
            assert_eq!((got.width_px, got.height_px), (3, 2));
            assert_eq!(got.pixels, marked().into_raw(), "{kind:?}");
        }
    }

    #[test]
    fn a_truncated_jpeg_is_an_error() {
        let mut bytes = Cursor::new(Vec::new());
        let noise = image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([(x * y) as u8, (x ^ y) as u8, (x + y) as u8]));
        noise.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        let bytes = bytes.into_inner();
        assert_eq!(rgb(&bytes, Path::new("x")).unwrap().pixels.len(), 64 * 48 * 3);
        assert!(rgb(&bytes[..bytes.len() / 2], Path::new("x")).is_err());
        assert!(rgb(b"not a picture", Path::new("x")).is_err());
    }
}
