//! Reads TIFFs: which page is the image, its range of values, transparency and orientation.
//!
//! A TIFF may hold several images, or one image as several pages, in samples of any size. What the file does not say of
//! itself is not guessed: such a file is an error that names the cause.

use super::jpeg;
use super::limits::{FEWER_BITS, MAX_PIXELS, few_bits, over};
use super::orientation::Orientation;
use std::io::Cursor;
use tiff::decoder::ifd::Value;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError, TiffUnsupportedError};

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;
type Result<T> = std::result::Result<T, String>;

/// Damaged files can claim any number of pages.
const MAX_PAGES: usize = 1000;

/// One page of a file.
struct Page {
    index: usize,
    width: u32,
    height: u32,
    /// A smaller copy of another page, or a mask.
    is_auxiliary: bool,
    /// It has one sample per pixel.
    is_single: bool,
}

/// Number, stored size and orientation of the page that is the image.
pub struct Info {
    page: usize,
    pub width_px: u32,
    pub height_px: u32,
    pub orientation: Orientation,
}

/// Finds the page that is the image.
pub fn info(bytes: &[u8]) -> Result<Info> {
    let mut reader = open(bytes)?;
    let pages = pages(&mut reader)?;
    let page = choose(&mut reader, &pages)?;
    reader.seek_to_image(page.index).map_err(words)?;
    let orientation = number(&mut reader, Tag::Orientation).map_or(1, |tag| tag as u64);
    Ok(Info {
        page: page.index,
        width_px: page.width,
        height_px: page.height,
        orientation: Orientation::from_tag(orientation),
    })
}

/// Decodes the page that is the image to RGB, `[height, width, 3]`, as stored. What is transparent gets the grey value
/// `ground`.
pub fn decode(bytes: &[u8], ground: u8) -> Result<Vec<u8>> {
    let page = info(bytes)?.page;
    let mut reader = open(bytes)?;
    reader.seek_to_image(page).map_err(words)?;
    let (width, height) = reader.dimensions().map_err(words)?;
    if number(&mut reader, Tag::PhotometricInterpretation) == Some(3.0) {
        return Err("its colours are those of a palette, which is not supported: save it as RGB".into());
    }
    let colours = reader.colortype().map_err(words)?;
    let (channels, extra) = match colours {
        ColorType::Gray(_) => (1, 0),
        ColorType::RGB(_) | ColorType::YCbCr(_) => (3, 0),
        ColorType::RGBA(_) => (3, 1),
        ColorType::CMYK(_) => (4, 0),
        ColorType::CMYKA(_) => (4, 1),
        ColorType::Multiband { num_samples, .. } => (1, usize::from(num_samples).saturating_sub(1)),
        other => return Err(format!("its colours ({other:?}) are not supported: save it as PNG")),
    };
    let extra_kinds = numbers(&mut reader, Tag::ExtraSamples).unwrap_or_default();
    let alpha = match extra_kinds.first() {
        Some(1.0) if extra > 0 => Alpha::Multiplied,
        Some(2.0) if extra > 0 => Alpha::Separate,
        _ => Alpha::None,
    };
    if let (ColorType::Multiband { num_samples, .. }, Alpha::None) = (colours, alpha) {
        return Err(format!("its {num_samples} channels are not declared as colours: save it as RGB"));
    }

    let mut buffer = DecodingResult::U8(Vec::new());
    let layout = reader.read_image_to_buffer(&mut buffer).map_err(words)?;
    let samples = channels + extra;
    let count = width as usize * height as usize * samples;
    let bits = colours.bit_depth();
    let mut values = match buffer {
        DecodingResult::U8(packed) if bits < 8 => unpack(&packed, bits, width as usize * samples, height as usize),
        DecodingResult::U8(values) => values,
        other => to_bytes(&mut reader, other)?,
    };
    if values.len() < count {
        return Err(format!("expected {count} samples, found {}", values.len()));
    }
    values.truncate(count);
    if bits < 8 {
        let most = (1u16 << bits) - 1;
        values.iter_mut().for_each(|v| *v = (u16::from(*v) * 255 / most) as u8);
    }
    if layout.planes > 1 {
        let plane = width as usize * height as usize;
        values = (0..count).map(|i| values[i % samples * plane + i / samples]).collect();
    }
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for sample in values.chunks_exact(samples) {
        let rgb = match colours {
            ColorType::YCbCr(_) => jpeg::rgb(sample[0], sample[1], sample[2]),
            ColorType::CMYK(_) | ColorType::CMYKA(_) => jpeg::inks([sample[0], sample[1], sample[2]], sample[3], false),
            ColorType::RGB(_) | ColorType::RGBA(_) => [sample[0], sample[1], sample[2]],
            _ => [sample[0]; 3],
        };
        pixels.extend(match alpha {
            Alpha::None => rgb,
            Alpha::Separate => over(rgb, sample[channels], ground),
            Alpha::Multiplied => {
                let light = over([0; 3], sample[channels], ground)[0];
                rgb.map(|v| v.saturating_add(light))
            }
        });
    }
    Ok(pixels)
}

/// How the colours of a transparent pixel are stored.
#[derive(Clone, Copy)]
enum Alpha {
    None,
    Separate,
    Multiplied,
}

fn open(bytes: &[u8]) -> Result<Reader<'_>> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_PIXELS as usize * 8;
    limits.intermediate_buffer_size = MAX_PIXELS as usize * 8;
    Decoder::new(Cursor::new(bytes)).map(|reader| reader.with_limits(limits)).map_err(words)
}

fn pages(reader: &mut Reader) -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    loop {
        let (width, height) = reader.dimensions().map_err(words)?;
        let kind = number(reader, Tag::NewSubfileType).unwrap_or(0.0) as u64;
        let old_kind = number(reader, Tag::SubfileType).unwrap_or(1.0) as u64;
        let is_single = number(reader, Tag::SamplesPerPixel).unwrap_or(1.0) == 1.0;
        // Bit 0: of reduced resolution, bit 2: a mask.
        let is_auxiliary = kind & 5 != 0 || old_kind == 2;
        pages.push(Page { index: pages.len(), width, height, is_auxiliary, is_single });
        if !reader.more_images() {
            return Ok(pages);
        }
        if pages.len() == MAX_PAGES {
            return Err(format!("it has more than {MAX_PAGES} pages"));
        }
        reader.next_image().map_err(words)?;
    }
}

/// The page to read: the only one that is no smaller copy of another.
fn choose<'p>(reader: &mut Reader, pages: &'p [Page]) -> Result<&'p Page> {
    reader.seek_to_image(0).map_err(words)?;
    let description = reader.get_tag_ascii_string(Tag::ImageDescription).unwrap_or_default();
    if pages.iter().all(|page| page.is_auxiliary) && reader.find_tag(Tag::SubIfd).is_ok_and(|tag| tag.is_some()) {
        return Err("a raw camera image, of which only a small copy can be read: save it as PNG".into());
    }
    let own: Vec<&Page> = pages.iter().filter(|page| !page.is_auxiliary).collect();
    let candidates = if own.is_empty() { pages.iter().collect() } else { own };
    let largest = candidates.iter().max_by_key(|page| u64::from(page.width) * u64::from(page.height)).expect("a page");
    // Some programs do not mark the copies that they add: they have the same proportions and at most half the width.
    let is_copy = |page: &Page| {
        let wide = u64::from(page.width) * u64::from(largest.height);
        let high = u64::from(page.height) * u64::from(largest.width);
        let rounding = u64::from(largest.width.max(largest.height));
        page.width <= largest.width / 2 && page.height <= largest.height / 2 && wide.abs_diff(high) <= rounding
    };
    let full: Vec<&&Page> = candidates.iter().filter(|page| !is_copy(page)).collect();
    // ImageJ and tifffile can store many images after each other as one page.
    let claimed = |key: &str| {
        let (_, after) = description.split_once(key)?;
        after.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    let images = match description.starts_with("ImageJ=") {
        true => claimed("\nimages=").unwrap_or(1).max(full.len()),
        false => full.len(),
    };
    let size = format!("{} x {}", largest.width, largest.height);
    if description.starts_with("ImageJ=") && claimed("\nchannels=").is_some_and(|channels| channels > 1) {
        let channels = claimed("\nchannels=").unwrap_or(0);
        return Err(format!(
            "an ImageJ composite of {images} pages in {channels} channels: save it as RGB (Image > Type > RGB Color)"
        ));
    }
    if description.starts_with('{') && description.contains("\"truncated\": true") {
        return Err("several images in one page: save each as a file of its own".into());
    }
    match images {
        1 => Ok(largest),
        3 if full.iter().all(|page| page.is_single) => Err(format!(
            "3 grey pages of {size}: merge them if they are the channels of one image, else save each as its own file"
        )),
        _ => Err(format!("{images} pages of up to {size}: save each as a file of its own")),
    }
}

/// Scales samples of more than 8 bits to 0 to 255.
fn to_bytes(reader: &mut Reader, samples: DecodingResult) -> Result<Vec<u8>> {
    use Samples::{Float, Short, Whole};
    match samples {
        DecodingResult::U8(v) => Ok(v),
        DecodingResult::U16(v) => scaled(reader, &v, Short, f64::from),
        DecodingResult::U32(v) => scaled(reader, &v, Whole, f64::from),
        DecodingResult::U64(v) => scaled(reader, &v, Whole, |v| v as f64),
        DecodingResult::I8(v) => scaled(reader, &v, Whole, f64::from),
        DecodingResult::I16(v) => scaled(reader, &v, Whole, f64::from),
        DecodingResult::I32(v) => scaled(reader, &v, Whole, f64::from),
        DecodingResult::I64(v) => scaled(reader, &v, Whole, |v| v as f64),
        DecodingResult::F16(v) => scaled(reader, &v, Float, f64::from),
        DecodingResult::F32(v) => scaled(reader, &v, Float, f64::from),
        DecodingResult::F64(v) => scaled(reader, &v, Float, |v| v),
    }
}

/// What is known of samples by their type.
#[derive(PartialEq)]
enum Samples {
    /// 16 bits without a sign.
    Short,
    /// Other whole numbers.
    Whole,
    Float,
}

/// [`to_bytes`] for samples of one type.
fn scaled<T: Copy>(reader: &mut Reader, samples: &[T], kind: Samples, value: fn(T) -> f64) -> Result<Vec<u8>> {
    let (is_float, is_short) = (kind == Samples::Float, kind == Samples::Short);
    // The decoder has inverted 16 bits: undone to see how many of them are used.
    let inverted = is_short && number(reader, Tag::PhotometricInterpretation) == Some(0.0);
    let values = || samples.iter().map(|v| if inverted { 65535.0 - value(*v) } else { value(*v) });
    if values().any(|v| !v.is_finite()) {
        return Err("some of its values are not numbers: save it with 8 bits per channel".into());
    }
    let (least, most) = values().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
    let stated = |reader: &mut Reader, tag| numbers(reader, tag).and_then(|v| v.into_iter().reduce(f64::max));
    let white = stated(reader, Tag::SMaxSampleValue).or_else(|| stated(reader, Tag::MaxSampleValue));
    let black = numbers(reader, Tag::SMinSampleValue).or_else(|| numbers(reader, Tag::MinSampleValue));
    let black = black.and_then(|v| v.into_iter().reduce(f64::min)).unwrap_or(0.0);
    let (black, white) = match white {
        Some(white) if white > black && least >= black && most <= white => (black, white),
        Some(white) => {
            return Err(format!(
                "its values reach from {least} to {most}, but it states a range of {black} to {white}: save it with 8 \
                 bits per channel"
            ));
        }
        None if is_float && least >= 0.0 && most <= 1.0 => (0.0, 1.0),
        None if is_float => {
            return Err(format!(
                "its floating-point values reach from {least} to {most}, expected 0 to 1: save it with 8 bits per \
                 channel"
            ));
        }
        None if is_short && most > f64::from(FEWER_BITS) => (0.0, 65535.0),
        None if is_short => return Err(few_bits(most as u16)),
        None => return Err(format!("its values reach from {least} to {most}: save it with 8 bits per channel")),
    };
    let scale = 255.0 / (white - black);
    // Rounds 16 bits as the other formats are rounded.
    let byte = |v: f64| ((v - black) * scale + 0.5).clamp(0.0, 255.0) as u8;
    Ok(values().map(|v| if inverted { 255 - byte(v) } else { byte(v) }).collect())
}

/// Spreads samples of fewer than 8 bits to a byte each. Rows start at whole bytes.
fn unpack(packed: &[u8], bits: u8, per_row: usize, rows: usize) -> Vec<u8> {
    let stride = (per_row * usize::from(bits)).div_ceil(8);
    let mask = ((1u16 << bits) - 1) as u8;
    let mut values = Vec::with_capacity(per_row * rows);
    for row in packed.chunks_exact(stride.max(1)).take(rows) {
        for i in 0..per_row {
            let at = i * usize::from(bits);
            values.push(row[at / 8] >> (8 - usize::from(bits) - at % 8) & mask);
        }
    }
    values
}

fn number(reader: &mut Reader, tag: Tag) -> Option<f64> {
    numbers(reader, tag)?.first().copied()
}

/// The values of a tag, if it is there and holds numbers.
fn numbers(reader: &mut Reader, tag: Tag) -> Option<Vec<f64>> {
    fn flatten(value: Value, out: &mut Vec<f64>) {
        match value {
            Value::Byte(v) => out.push(v.into()),
            Value::Short(v) => out.push(v.into()),
            Value::Unsigned(v) => out.push(v.into()),
            Value::UnsignedBig(v) => out.push(v as f64),
            Value::SignedByte(v) => out.push(v.into()),
            Value::SignedShort(v) => out.push(v.into()),
            Value::Signed(v) => out.push(v.into()),
            Value::SignedBig(v) => out.push(v as f64),
            Value::Float(v) => out.push(v.into()),
            Value::Double(v) => out.push(v),
            Value::Rational(a, b) => out.push(f64::from(a) / f64::from(b)),
            Value::SRational(a, b) => out.push(f64::from(a) / f64::from(b)),
            Value::List(values) => values.into_iter().for_each(|v| flatten(v, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    flatten(reader.find_tag(tag).ok()??, &mut out);
    (!out.is_empty()).then_some(out)
}

/// What went wrong, for a person.
fn words(error: TiffError) -> String {
    match error {
        TiffError::UnsupportedError(TiffUnsupportedError::UnsupportedCompressionMethod(method)) => {
            format!("its compression ({method:?}) is not supported: save it as PNG")
        }
        TiffError::UnsupportedError(TiffUnsupportedError::ChromaSubsampling) => {
            "its colours are YCbCr with fewer samples than the brightness, which is not supported: save it as PNG"
                .into()
        }
        TiffError::UnsupportedError(other) => format!("{other}: save it as PNG"),
        TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is truncated".into()
        }
        other => other.to_string(),
    }
}
