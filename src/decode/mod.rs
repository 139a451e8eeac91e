//! Decodes JPEG, PNG, BMP and TIFF files. Baseline JPEGs and 24-bit BMPs have their own decoders here, `jpeg` and
//! `bmp`; other JPEGs are decoded by `zune-jpeg`, all other files by `image`.

#![warn(missing_docs)]

use crate::error::{Error, Result};
use crate::rect::Rect;
use std::io::Cursor;
use std::path::Path;

mod bmp;
mod jpeg;

/// Larger images are rejected before memory is allocated for them, because a header can claim any size.
pub const MAX_PIXELS: u64 = 1 << 28;

/// Format and size of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// "jpeg", "png", "bmp" or "tiff".
    pub format: &'static str,
    /// Width, px.
    pub width_px: u32,
    /// Height, px.
    pub height_px: u32,
}

/// A decoded 8-bit RGB image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Width, px.
    pub width_px: u32,
    /// Height, px.
    pub height_px: u32,
    /// `[height_px, width_px, 3]`: rows from the top, red, green and blue interleaved, 0 to 255.
    pub pixels: Vec<u8>,
}

/// A decoded 8-bit grey image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grey {
    /// Width, px.
    pub width_px: u32,
    /// Height, px.
    pub height_px: u32,
    /// `[height_px, width_px]`: rows from the top, 0 to 255.
    pub pixels: Vec<u8>,
}

impl From<Rgb> for Grey {
    /// Uses the weights of ITU-R BT.601, like JPEG's luma.
    fn from(image: Rgb) -> Self {
        let mut pixels = vec![0u8; image.pixels.len() / 3];
        for (grey, p) in pixels.iter_mut().zip(image.pixels.as_chunks::<3>().0) {
            *grey = ((u32::from(p[0]) * 77 + u32::from(p[1]) * 150 + u32::from(p[2]) * 29 + 128) >> 8) as u8;
        }
        Self { width_px: image.width_px, height_px: image.height_px, pixels }
    }
}

/// Reads format and size from the bytes of an image file without decoding pixels. The first bytes are enough, except
/// for some TIFFs.
///
/// # Errors
/// [`Error::Image`] if the bytes are not one of the four formats, are damaged, or claim more than [`MAX_PIXELS`].
pub fn header(bytes: &[u8], path: &Path) -> Result<Header> {
    let image_error = |message: String| Error::Image { path: path.into(), message };
    let (kind, format) = guess_format(bytes).ok_or_else(|| {
        image_error("expected the first bytes of a JPEG, PNG, BMP or TIFF, found something else".into())
    })?;
    let jpeg_size = if format == "jpeg" { jpeg::size(bytes).ok() } else { None };
    let (width_px, height_px) = match jpeg_size {
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

/// Whether a file name has an extension of one of the four formats.
pub fn has_image_extension(path: &Path) -> bool {
    const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff"];
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// Decodes a whole image to 8-bit RGB. Grey becomes three equal channels, alpha is dropped, 16 bits are rounded to 8.
///
/// # Errors
/// [`Error::Image`] if [`header`] fails or the pixels cannot be decoded, for example because the file is truncated.
pub fn rgb(bytes: &[u8], path: &Path) -> Result<Rgb> {
    decode(bytes, path, None)
}

/// Decodes a whole image to 8-bit grey and rejects the files that [`rgb`] rejects. A baseline JPEG is verified in full,
/// but its colours are not computed.
///
/// # Errors
/// As [`rgb`].
pub fn grey(bytes: &[u8], path: &Path) -> Result<Grey> {
    let Header { format, width_px, height_px } = header(bytes, path)?;
    match jpeg::decode_grey(bytes, Rect::whole(width_px, height_px)) {
        Ok(pixels) if format == "jpeg" => Ok(Grey { width_px, height_px, pixels }),
        _ => rgb(bytes, path).map(Grey::from),
    }
}

/// Decodes the part of an image inside `rect`, with the same pixels as [`rgb`]. Less work than decoding the whole image
/// if it is a JPEG or BMP.
///
/// # Errors
/// As [`rgb`], and if `rect` is not inside the image.
pub fn crop(bytes: &[u8], path: &Path, rect: Rect) -> Result<Rgb> {
    decode(bytes, path, Some(rect))
}

/// Decodes the part inside `rect`, or the whole image.
fn decode(bytes: &[u8], path: &Path, rect: Option<Rect>) -> Result<Rgb> {
    let head = header(bytes, path)?;
    let image_error = |message: String| Error::Image { path: path.into(), message };
    let whole = Rect::whole(head.width_px, head.height_px);
    let rect = rect.unwrap_or(whole);
    if !whole.contains(rect) {
        return Err(image_error(format!("expected a rectangle inside {whole:?}, found {rect:?}")));
    }
    let rgb = |pixels| Rgb { width_px: rect.width, height_px: rect.height, pixels };
    let part = match head.format {
        "jpeg" => jpeg::decode(bytes, rect).ok(),
        "bmp" => bmp::decode(bytes, rect),
        _ => None,
    };
    if let Some(pixels) = part {
        return Ok(rgb(pixels));
    }
    let pixels = if head.format == "jpeg" {
        other_jpeg(bytes).map_err(image_error)?
    } else {
        let (kind, _) = guess_format(bytes).expect("header() knew the format");
        image::load(Cursor::new(bytes), kind).map_err(|e| image_error(e.to_string()))?.into_rgb8().into_raw()
    };
    let expected = head.width_px as usize * head.height_px as usize * 3;
    if pixels.len() != expected {
        return Err(image_error(format!("expected {expected} bytes of pixels, found {}", pixels.len())));
    }
    if rect == whole {
        return Ok(rgb(pixels));
    }
    let (x, width) = (rect.x as usize * 3, rect.width as usize * 3);
    let rows = pixels.chunks_exact(head.width_px as usize * 3).skip(rect.y as usize).take(rect.height as usize);
    Ok(rgb(rows.flat_map(|row| &row[x..x + width]).copied().collect()))
}

/// The format and its name, determined from the first bytes; `None` if it is not one of the four.
pub(crate) fn guess_format(bytes: &[u8]) -> Option<(image::ImageFormat, &'static str)> {
    use image::ImageFormat::{Bmp, Jpeg, Png, Tiff};
    match image::guess_format(bytes).ok()? {
        Jpeg => Some((Jpeg, "jpeg")),
        Png => Some((Png, "png")),
        Bmp => Some((Bmp, "bmp")),
        Tiff => Some((Tiff, "tiff")),
        _ => None,
    }
}

/// Decodes the JPEGs that `jpeg` does not support, such as progressive or CMYK ones. Strict, so that a truncated file
/// is an error and not an image that is grey in its lower part.
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

    /// 3 x 2 different pixels, so that a transposed or mirrored image is not equal.
    fn asymmetric() -> image::RgbImage {
        image::RgbImage::from_fn(3, 2, |x, y| image::Rgb([(x * 80) as u8, (y * 200) as u8, 10]))
    }

    #[test]
    fn lossless_formats_keep_their_orientation() {
        for kind in [image::ImageFormat::Png, image::ImageFormat::Bmp, image::ImageFormat::Tiff] {
            let mut bytes = Cursor::new(Vec::new());
            asymmetric().write_to(&mut bytes, kind).unwrap();
            let got = rgb(bytes.get_ref(), Path::new("x")).unwrap();
            assert_eq!((got.width_px, got.height_px), (3, 2));
            assert_eq!(got.pixels, asymmetric().into_raw(), "{kind:?}");
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
        assert!(rgb(b"not an image", Path::new("x")).is_err());
    }
}
