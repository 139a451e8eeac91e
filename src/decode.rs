//! Image files → header or RGB pixels. JPEG goes through `zune-jpeg` directly, the others through `image`.

use crate::error::{Error, Result};
use std::io::Cursor;
use std::path::Path;

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

/// Format and size from an image file's bytes (its beginning suffices for all but some TIFFs); pixels are not decoded.
///
/// # Errors
/// [`Error::Image`] where the bytes are none of the four formats, broken, or claim more than [`MAX_PIXELS`].
pub fn header(bytes: &[u8], path: &Path) -> Result<Header> {
    let image_error = |message: String| Error::Image { path: path.into(), message };
    let (kind, format) = format_of(bytes).ok_or_else(|| {
        image_error("expected the first bytes of a JPEG, PNG, BMP or TIFF, found something else".into())
    })?;
    let (width_px, height_px) = image::ImageReader::with_format(Cursor::new(bytes), kind)
        .into_dimensions()
        .map_err(|e| image_error(e.to_string()))?;
    if width_px == 0 || height_px == 0 || u64::from(width_px) * u64::from(height_px) > MAX_PIXELS {
        return Err(image_error(format!(
            "expected 1 to {MAX_PIXELS} pixels, found a header that claims {width_px} x {height_px}"
        )));
    }
    Ok(Header { format, width_px, height_px })
}

/// Decodes a whole picture to 8-bit RGB: grey is spread to three channels, alpha dropped, 16 bits rounded to 8.
///
/// # Errors
/// [`Error::Image`] where [`header`] fails or the pixels cannot be decoded (a truncated file, say).
pub fn rgb(bytes: &[u8], path: &Path) -> Result<Rgb> {
    let head = header(bytes, path)?;
    let image_error = |message: String| Error::Image { path: path.into(), message };
    let pixels = if head.format == "jpeg" {
        jpeg(bytes).map_err(image_error)?
    } else {
        let (kind, _) = format_of(bytes).expect("header() knew the format");
        image::load(Cursor::new(bytes), kind).map_err(|e| image_error(e.to_string()))?.into_rgb8().into_raw()
    };
    let expected = head.width_px as usize * head.height_px as usize * 3;
    if pixels.len() != expected {
        return Err(image_error(format!("expected {expected} bytes of pixels, found {}", pixels.len())));
    }
    Ok(Rgb { width_px: head.width_px, height_px: head.height_px, pixels })
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

/// Strict: a truncated scan is an error, not a half-grey picture.
fn jpeg(bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
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
