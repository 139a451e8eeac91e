//! Decodes JPEG, PNG, BMP, TIFF, WebP and GIF files. JPEGs and 24-bit BMPs have their own decoders here, `jpeg` and
//! `bmp`; all other files are decoded by `image` and `tiff`.
//!
//! Every function here returns an error for a file that cannot be read, and never panics: a panic in a decoder, ours or
//! a library's, becomes an [`Error::Image`]. An image that is turned by a note in the file (EXIF, TIFF's tag 274) is
//! turned upright, transparency is laid on white, and a file of several images is an error.

use crate::error::{Error, Result};
use crate::guard;
use crate::rect::Rect;
use image::DynamicImage;
use serde::{Deserialize, Serialize};
use std::io::{Cursor, ErrorKind};
use std::path::Path;

mod bmp;
mod chunks;
mod format;
mod jpeg;
mod limits;
mod orientation;
mod tiff;

pub use format::Format;
pub use limits::{MAX_BYTES, MAX_PIXELS};
pub use orientation::Orientation;

/// Format and size of an image file. Sizes, rectangles and pixels are those of the upright image everywhere: a file's
/// note on its orientation is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// How it is stored.
    pub format: Format,
    /// Width, px.
    pub width_px: u32,
    /// Height, px.
    pub height_px: u32,
    /// How the stored image is turned to be upright.
    pub orientation: Orientation,
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

impl Rgb {
    /// What the image is if nothing can be seen in it: "all black", "all white" or "of one colour".
    pub fn blank(&self) -> Option<&'static str> {
        let channel = |c: usize| self.pixels.iter().skip(c).step_by(3);
        let range = |c: usize| Some((*channel(c).min()?, *channel(c).max()?));
        let kinds = [blank(range(0)?)?, blank(range(1)?)?, blank(range(2)?)?];
        Some(if kinds.iter().all(|kind| *kind == kinds[0]) { kinds[0] } else { OF_ONE_COLOUR })
    }
}

const OF_ONE_COLOUR: &str = "of one colour";

/// What an image is whose darkest and brightest value hardly differ, as [`Rgb::blank`].
pub(crate) fn blank((darkest, brightest): (u8, u8)) -> Option<&'static str> {
    // A lossy format does not keep a colour exactly.
    const ROUNDING: u8 = 3;
    match () {
        () if brightest - darkest > ROUNDING => None,
        () if brightest <= ROUNDING => Some("all black"),
        () if darkest >= 255 - ROUNDING => Some("all white"),
        () => Some(OF_ONE_COLOUR),
    }
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

/// What the header says of the image as it is stored.
struct Stored {
    format: Format,
    width: u32,
    height: u32,
    orientation: Orientation,
}

/// Reads format and size from the bytes of an image file without decoding pixels.
///
/// # Errors
/// [`Error::Image`] if the bytes are not one of the six formats, are damaged, hold several images, or claim more than
/// [`MAX_PIXELS`] or more than such a file can hold.
pub fn header(bytes: &[u8], path: &Path) -> Result<Header> {
    guarded(path, || {
        let stored = stored(bytes)?;
        let (width_px, height_px) = stored.orientation.upright_size(stored.width, stored.height);
        Ok(Header { format: stored.format, width_px, height_px, orientation: stored.orientation })
    })
}

/// Whether a file name has an extension of an image, in one of the six formats or in one that is not read: such a file
/// is an image that is missing, not one of the other files of a folder.
pub fn has_image_extension(path: &Path) -> bool {
    const EXTENSIONS: [&str; 21] = [
        "jpg", "jpeg", "jfif", "png", "bmp", "tif", "tiff", "webp", "gif", "heic", "heif", "avif", "jp2", "j2k", "jpx",
        "jxl", "dcm", "svs", "ndpi", "czi", "psd",
    ];
    let extension = path.extension().unwrap_or_default();
    EXTENSIONS.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// Reads the file of an image, which the other functions decode.
///
/// # Errors
/// [`Error::Image`] for a file of more than [`MAX_BYTES`], or a device or pipe; [`Error::Io`] for one that cannot be
/// read, which says nothing about the image.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    guard::read(path, MAX_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge | ErrorKind::InvalidInput => Error::image(path, error),
        _ => Error::io(path, "read")(error),
    })
}

/// Whether a file starts as one of the six formats does.
pub(crate) fn is_image(bytes: &[u8]) -> bool {
    Format::of(bytes).is_some()
}

/// Decodes a whole image to 8-bit RGB. Grey becomes three equal channels, transparency becomes white, and 16 bits are
/// rounded to 8.
///
/// # Errors
/// [`Error::Image`] if [`header`] fails or the pixels cannot be decoded, for example because the file is truncated.
pub fn rgb(bytes: &[u8], path: &Path) -> Result<Rgb> {
    guarded(path, || decode(bytes, None, WHITE))
}

/// As [`rgb`] for a mask: transparency becomes black, as nothing is marked there.
///
/// # Errors
/// As [`rgb`].
pub fn mask(bytes: &[u8], path: &Path) -> Result<Rgb> {
    guarded(path, || decode(bytes, None, BLACK))
}

/// Decodes a whole image to 8-bit grey and rejects the files that [`rgb`] rejects. A baseline JPEG is verified in full,
/// but its colours are not computed.
///
/// # Errors
/// As [`rgb`].
pub fn grey(bytes: &[u8], path: &Path) -> Result<Grey> {
    guarded(path, || {
        let Stored { format, width, height, orientation } = stored(bytes)?;
        if format == Format::Jpeg
            && let Some(luma) = jpeg::decode_grey(bytes, Rect::whole(width, height)).map_err(|e| e.to_string())?
        {
            let pixels = orientation.apply::<1>(luma, width, height);
            let (width_px, height_px) = orientation.upright_size(width, height);
            return Ok(Grey { width_px, height_px, pixels });
        }
        decode(bytes, None, WHITE).map(Grey::from)
    })
}

/// Decodes the part of an image inside `rect`, with the same pixels as [`rgb`]. Less work than decoding the whole image
/// if it is a JPEG or BMP, and damage below `rect` is not noticed then.
///
/// # Errors
/// As [`rgb`], and if `rect` is not inside the image.
pub fn crop(bytes: &[u8], path: &Path, rect: Rect) -> Result<Rgb> {
    guarded(path, || decode(bytes, Some(rect), WHITE))
}

/// Values of what is transparent.
const WHITE: u8 = 255;
const BLACK: u8 = 0;

/// Runs a decoder. A panic in it becomes an error, and is not printed.
fn guarded<T>(path: &Path, decoder: impl FnOnce() -> std::result::Result<T, String>) -> Result<T> {
    let result = guard::catch(decoder);
    let result = result.unwrap_or_else(|| Err("its decoder failed: the file is damaged or of a rare kind".into()));
    // Some libraries' messages have several lines.
    let one_line = |message: String| message.split_whitespace().collect::<Vec<_>>().join(" ");
    result.map_err(|message| Error::Image { path: path.into(), message: one_line(message) })
}

fn stored(bytes: &[u8]) -> std::result::Result<Stored, String> {
    let format = Format::of(bytes)
        .ok_or_else(|| format!("expected a JPEG, PNG, BMP, TIFF, WebP or GIF, found {}", format::describe(bytes)))?;
    let (width, height, orientation) = match format {
        Format::Jpeg => jpeg::info(bytes).map_err(|e| e.to_string())?,
        Format::Tiff => {
            let info = tiff::info(bytes)?;
            (info.width_px, info.height_px, info.orientation)
        }
        _ => {
            let chunks = chunks(format, bytes);
            if chunks.frames > 1 {
                return Err(format!("an animation of {} images: save each as a file of its own", chunks.frames));
            }
            let reader = image::ImageReader::with_format(Cursor::new(bytes), library_format(format));
            let (width, height) = reader.into_dimensions().map_err(|e| e.to_string())?;
            (width, height, chunks.orientation.unwrap_or_default())
        }
    };
    limits::check(width, height, bytes.len())?;
    Ok(Stored { format, width, height, orientation })
}

fn chunks(format: Format, bytes: &[u8]) -> chunks::Chunks {
    match format {
        Format::Png => chunks::png(bytes),
        Format::Webp => chunks::webp(bytes),
        Format::Gif => chunks::gif(bytes),
        _ => Default::default(),
    }
}

/// Decodes the part inside `rect`, or the whole image.
fn decode(bytes: &[u8], rect: Option<Rect>, ground: u8) -> std::result::Result<Rgb, String> {
    let Stored { format, width, height, orientation } = stored(bytes)?;
    let (upright_width, upright_height) = orientation.upright_size(width, height);
    let whole = Rect::whole(upright_width, upright_height);
    let rect = rect.unwrap_or(whole);
    if !whole.contains(rect) || rect.width == 0 || rect.height == 0 {
        return Err(format!("expected a rectangle inside {whole:?}, found {rect:?}"));
    }
    let part = orientation.stored_rect(rect, width, height);
    let pixels = match format {
        Format::Jpeg => jpeg::decode(bytes, part).map_err(|e| e.to_string())?,
        Format::Tiff => cut(tiff::decode(bytes, ground)?, (width, height), part)?,
        Format::Bmp => match bmp::decode(bytes, part) {
            Some(pixels) => pixels,
            None => cut(library(bytes, format, ground)?, (width, height), part)?,
        },
        _ => cut(library(bytes, format, ground)?, (width, height), part)?,
    };
    let pixels = orientation.apply::<3>(pixels, part.width, part.height);
    Ok(Rgb { width_px: rect.width, height_px: rect.height, pixels })
}

/// The part of RGB pixels inside `rect`.
fn cut(pixels: Vec<u8>, (width, height): (u32, u32), rect: Rect) -> std::result::Result<Vec<u8>, String> {
    let expected = width as usize * height as usize * 3;
    if pixels.len() != expected {
        return Err(format!("expected {expected} bytes of pixels, found {}", pixels.len()));
    }
    if rect == Rect::whole(width, height) {
        return Ok(pixels);
    }
    let (left, length) = (rect.x as usize * 3, rect.width as usize * 3);
    let rows = pixels.chunks_exact(width as usize * 3).skip(rect.y as usize).take(rect.height as usize);
    Ok(rows.flat_map(|row| &row[left..left + length]).copied().collect())
}

/// Decodes with the library `image` to RGB.
fn library(bytes: &[u8], format: Format, ground: u8) -> std::result::Result<Vec<u8>, String> {
    let image = image::load(Cursor::new(bytes), library_format(format)).map_err(|e| e.to_string())?;
    if let Some(most) = largest_of_16_bits(&image)
        && most <= limits::FEWER_BITS
        && !chunks(format, bytes).states_bits
    {
        return Err(limits::few_bits(most));
    }
    if !image.color().has_alpha() {
        return Ok(image.into_rgb8().into_raw());
    }
    let pixels = image.into_rgba8();
    Ok(pixels.pixels().flat_map(|p| limits::over([p[0], p[1], p[2]], p[3], ground)).collect())
}

fn library_format(format: Format) -> image::ImageFormat {
    match format {
        Format::Jpeg => image::ImageFormat::Jpeg,
        Format::Png => image::ImageFormat::Png,
        Format::Bmp => image::ImageFormat::Bmp,
        Format::Tiff => image::ImageFormat::Tiff,
        Format::Webp => image::ImageFormat::WebP,
        Format::Gif => image::ImageFormat::Gif,
    }
}

/// The largest value of an image with 16 bits per channel, transparency left out.
fn largest_of_16_bits(image: &DynamicImage) -> Option<u16> {
    match image {
        DynamicImage::ImageLuma16(image) => image.iter().max().copied(),
        DynamicImage::ImageLumaA16(image) => image.pixels().map(|p| p[0]).max(),
        DynamicImage::ImageRgb16(image) => image.iter().max().copied(),
        DynamicImage::ImageRgba16(image) => image.pixels().map(|p| p[0].max(p[1]).max(p[2])).max(),
        _ => None,
    }
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

    #[test]
    fn a_panic_in_a_decoder_is_an_error() {
        let result = guarded::<()>(Path::new("x"), || panic!("not printed"));
        assert!(matches!(result, Err(Error::Image { .. })));
    }
}
