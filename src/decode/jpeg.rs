//! Decodes a part of a baseline JPEG.
//!
//! The part that is cut out for a cell is often a third of the image. Entropy coding must be read from the top, but
//! only down to the last row of the part, and only the blocks inside it are transformed, upsampled and converted. The
//! arithmetic is libjpeg's ("islow" DCT, "fancy" upsampling, 16-bit colour conversion), so that the pixels are
//! identical to those of Pillow and OpenCV.
//!
//! Supported are baseline and extended Huffman images of 8 bits in one scan, grey or YCbCr with the usual sampling.
//! The caller decodes all others with a general library.

use crate::rect::Rect;
use pulp::{Arch, WithSimd};

/// Why an image was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A kind of JPEG that this decoder does not support.
    Unsupported,
    /// The file is damaged: the reason.
    Damaged(&'static str),
}

type Result<T> = std::result::Result<T, Error>;

const TRUNCATED: Error = Error::Damaged("the image data is truncated");

/// Number of bits that index the Huffman lookup tables; longer codes are rare.
const LOOKUP_BITS: u32 = 11;

/// Position in the 8 x 8 block of each coefficient of the scan. Runs in damaged files can lead beyond the 64th.
const ZIGZAG: [u8; 128] = {
    let (mut order, mut k, mut diagonal) = ([63u8; 128], 0, 0);
    while diagonal < 15 {
        let mut i = 0;
        while i <= diagonal {
            let (row, column) = if diagonal % 2 == 0 { (diagonal - i, i) } else { (i, diagonal - i) };
            if row < 8 && column < 8 {
                order[k] = (row * 8 + column) as u8;
                k += 1;
            }
            i += 1;
        }
        diagonal += 1;
    }
    order
};

/// Zero bytes after each restart interval of the scan, so that 8 bytes can be read at its end.
const PAD: usize = 16;

/// A Huffman table: a lookup by the next [`LOOKUP_BITS`] bits, and the limits of codes for longer ones.
struct Huffman<'a> {
    lookup: Box<[Lookup; 1 << LOOKUP_BITS]>,
    /// The code after the last one of each length, left-aligned in 16 bits.
    limits: [u32; 18],
    offsets: [i32; 17],
    symbols: &'a [u8],
}

/// A decoded coefficient, if its code and value fit into [`LOOKUP_BITS`] bits.
#[derive(Clone, Copy, Default)]
#[repr(align(4))]
struct Lookup {
    value: i16,
    /// Positions to advance in the block, or [`END`] for the end of the block. Unused in a DC table.
    step: u8,
    /// Total bits of code and value; 0 if they do not fit.
    bits: u8,
}

/// [`Lookup::step`] for the end of a block.
const END: u8 = 64;

impl<'a> Huffman<'a> {
    fn new(counts: &[u8; 16], symbols: &'a [u8]) -> Result<Self> {
        let mut lookup = Box::new([Lookup::default(); 1 << LOOKUP_BITS]);
        let (mut limits, mut offsets) = ([u32::MAX; 18], [0; 17]);
        let (mut code, mut k) = (0u32, 0usize);
        for length in 1..=16u32 {
            offsets[length as usize] = k as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                if code >= 1 << length {
                    return Err(Error::Damaged("a Huffman table has too many codes"));
                }
                let (run, size) = (symbols[k] >> 4, u32::from(symbols[k] & 15));
                if length + size <= LOOKUP_BITS {
                    let step = if size == 0 && run == 0 { END } else { run + 1 };
                    let free = LOOKUP_BITS - length - size;
                    for value in 0..1 << size {
                        let first = ((code << size | value) << free) as usize;
                        let bits = (length + size) as u8;
                        let entry = Lookup { value: extend(value, size) as i16, step, bits };
                        lookup[first..first + (1 << free)].fill(entry);
                    }
                }
                code += 1;
                k += 1;
            }
            limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        limits[17] = u32::MAX;
        Ok(Self { lookup, limits, offsets, symbols })
    }
}

/// Sign-extends the bits of a value: values whose first bit is 0 are negative.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let bits = bits as i32;
    if size > 0 && bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// A bit reader over the scan without stuffed bytes.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, left-aligned.
    buffer: u64,
    /// Number of bits in the buffer.
    filled: u32,
}

impl<'a> Bits<'a> {
    /// `bytes` must end in [`PAD`] zero bytes.
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, filled: 0 }
    }

    /// Fills the buffer to at least 56 bits, with zeros after the end.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(next) = self.bytes.get(self.at..self.at + 8) {
            let next = u64::from_be_bytes(next.try_into().expect("eight bytes"));
            self.buffer |= next >> self.filled;
            let taken = (63 - self.filled) >> 3;
            self.at += taken as usize;
            self.filled += taken * 8;
        } else {
            self.filled = 63;
            self.at = self.bytes.len();
        }
    }

    #[inline(always)]
    fn peek(&self, n: u32) -> u32 {
        (self.buffer >> (64 - n)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.filled = self.filled.wrapping_sub(n);
    }

    /// Reads a symbol whose code is not in the lookup table.
    #[inline(never)]
    fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        let code = self.peek(16);
        let length = (1..).find(|length| code < table.limits[*length]).expect("the last limit is above all codes");
        let invalid = Error::Damaged("a code is not in its Huffman table");
        if length > 16 {
            return Err(invalid);
        }
        self.skip(length as u32);
        let at = (code >> (16 - length)) as i32 + table.offsets[length];
        table.symbols.get(at as usize).copied().ok_or(invalid)
    }

    #[inline(always)]
    fn value(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = self.peek(size);
        self.skip(size);
        extend(bits, size)
    }

    /// Whether bits after byte `end` have been consumed.
    #[inline(always)]
    fn is_past(&self, end: usize) -> bool {
        self.at as i64 * 8 - i64::from(self.filled) > end as i64 * 8
    }
}

struct Component {
    id: u8,
    h: usize,
    v: usize,
    quantise: usize,
    dc: usize,
    ac: usize,
}

#[derive(Default)]
struct Header<'a> {
    width: usize,
    height: usize,
    components: Vec<Component>,
    quantise: [Option<[u16; 64]>; 4],
    /// Huffman tables, DC then AC: number of codes by length, and symbols.
    huffman: [[Option<(&'a [u8; 16], &'a [u8])>; 4]; 2],
    restart: usize,
    /// Offset of the scan's first byte.
    scan: usize,
}

/// Reads the segments up to the first scan, or up to the image's size.
fn header(bytes: &[u8], only_size: bool) -> Result<Header<'_>> {
    let short = Error::Damaged("a segment is too short");
    let no_such_table = Error::Damaged("a table number is invalid");
    let mut header = Header::default();
    let mut at = 2;
    if bytes.get(..2) != Some(&[0xFF, 0xD8]) {
        return Err(Error::Damaged("not a JPEG"));
    }
    loop {
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let (Some(0xFF), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else {
            return Err(Error::Damaged("a marker is missing"));
        };
        let length = bytes.get(at + 2..at + 4).map_or(0, |l| usize::from(l[0]) << 8 | usize::from(l[1]));
        let body = bytes.get(at + 4..at + 2 + length.max(2)).ok_or(Error::Damaged("a segment is truncated"))?;
        at += 2 + length;
        match marker {
            0xC0 | 0xC1 => {
                let [8, h1, h0, w1, w0, count, rest @ ..] = body else { return Err(Error::Unsupported) };
                header.height = usize::from(*h1) << 8 | usize::from(*h0);
                header.width = usize::from(*w1) << 8 | usize::from(*w0);
                if header.height == 0 || header.width == 0 || ![1, 3].contains(count) || !header.components.is_empty() {
                    return Err(Error::Unsupported);
                }
                for [id, sampling, table] in rest.as_chunks().0.get(..usize::from(*count)).ok_or(short)? {
                    let (id, quantise) = (*id, usize::from(*table));
                    // The sampling factors of a single component have no effect.
                    let (h, v) =
                        if *count == 1 { (1, 1) } else { (usize::from(sampling >> 4), usize::from(sampling & 15)) };
                    header.components.push(Component { id, h, v, quantise, dc: 0, ac: 0 });
                    if quantise > 3 {
                        return Err(no_such_table);
                    }
                }
                if only_size {
                    return Ok(header);
                }
            }
            0xC2..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCF => return Err(Error::Unsupported),
            0xC4 => {
                let mut rest = body;
                while let [which, tail @ ..] = rest {
                    let counts: &[u8; 16] = tail.first_chunk().ok_or(short)?;
                    let total: usize = counts.iter().map(|c| usize::from(*c)).sum();
                    let symbols = tail.get(16..16 + total).ok_or(short)?;
                    let kind = header.huffman.get_mut(usize::from(which >> 4));
                    let table = kind.and_then(|tables| tables.get_mut(usize::from(which & 15)));
                    *table.ok_or(no_such_table)? = Some((counts, symbols));
                    rest = &tail[16 + total..];
                }
            }
            0xDB => {
                let mut rest = body;
                while let [which, tail @ ..] = rest {
                    let wide = which >> 4 != 0;
                    let values = tail.get(..if wide { 128 } else { 64 }).ok_or(short)?;
                    let mut table = [0u16; 64];
                    for (k, place) in ZIGZAG[..64].iter().enumerate() {
                        table[usize::from(*place)] = match wide {
                            true => u16::from_be_bytes([values[2 * k], values[2 * k + 1]]),
                            false => values[k].into(),
                        };
                    }
                    *header.quantise.get_mut(usize::from(which & 15)).ok_or(no_such_table)? = Some(table);
                    rest = &tail[values.len()..];
                }
            }
            0xDD => {
                let [high, low, ..] = *body else { return Err(short) };
                header.restart = usize::from(high) << 8 | usize::from(low);
            }
            // Colour transform 0 in Adobe's segment means RGB or CMYK.
            0xEE if body.starts_with(b"Adobe") && body.get(11) == Some(&0) => return Err(Error::Unsupported),
            0xDA => {
                let [count, rest @ ..] = body else { return Err(short) };
                if usize::from(*count) != header.components.len() || header.components.is_empty() {
                    return Err(Error::Unsupported);
                }
                let tables = rest.as_chunks().0.get(..usize::from(*count)).ok_or(short)?;
                for (component, [id, tables]) in header.components.iter_mut().zip(tables) {
                    if *id != component.id {
                        return Err(Error::Unsupported);
                    }
                    (component.dc, component.ac) = (usize::from(tables >> 4) & 3, usize::from(*tables) & 3);
                }
                header.scan = at;
                return Ok(header);
            }
            _ => {}
        }
        if length < 2 {
            return Err(Error::Damaged("a segment has no length"));
        }
    }
}

/// Copies the scan up to its end marker without stuffed bytes, with [`PAD`] zero bytes after each restart interval.
/// Returns the bytes and the end of each interval.
fn unstuff(bytes: &[u8]) -> Result<(Vec<u8>, Vec<usize>)> {
    let mut out = Vec::with_capacity(bytes.len() + PAD);
    let mut ends = Vec::new();
    let mut rest = bytes;
    loop {
        let at = memchr::memchr(0xFF, rest).ok_or(TRUNCATED)?;
        out.extend_from_slice(&rest[..at]);
        match rest.get(at + 1).ok_or(TRUNCATED)? {
            0 => out.push(0xFF),
            // Any number of fill bytes may precede a marker.
            0xFF => {
                rest = &rest[at + 1..];
                continue;
            }
            marker => {
                ends.push(out.len());
                out.extend_from_slice(&[0; PAD]);
                if !(0xD0..=0xD7).contains(marker) {
                    return Ok((out, ends));
                }
            }
        }
        rest = &rest[at + 2..];
    }
}

/// The samples of one component inside the decoded rectangle.
struct Plane {
    /// The first column of blocks inside it, and the one after the last.
    columns: (usize, usize),
    /// The first row of blocks inside it, and the one after the last.
    rows: (usize, usize),
    /// Samples per row.
    stride: usize,
    samples: Vec<u8>,
    /// Size of the whole component in samples.
    width: usize,
    height: usize,
}

impl Plane {
    /// Row `y` of the component, from its first decoded block.
    #[inline(always)]
    fn line(&self, y: usize) -> &[u8] {
        &self.samples[(y - self.rows.0 * 8) * self.stride..][..self.stride]
    }
}

/// Reads the width and height of a JPEG, px, from its header.
pub fn size(bytes: &[u8]) -> Result<(u32, u32)> {
    header(bytes, true).map(|h| (h.width as u32, h.height as u32))
}

/// Decodes the part inside `rect` to RGB, `[height, width, 3]`.
///
/// # Errors
/// [`Error::Unsupported`], also if `rect` is empty or not inside the image; [`Error::Damaged`] if the data is truncated
/// before the end of `rect` or invalid.
pub fn decode(bytes: &[u8], rect: Rect) -> Result<Vec<u8>> {
    dispatch(bytes, rect, false)
}

/// Decodes the luma inside `rect`, `[height, width]`. The colours are read and verified, too.
///
/// # Errors
/// As [`decode`].
pub fn decode_grey(bytes: &[u8], rect: Rect) -> Result<Vec<u8>> {
    dispatch(bytes, rect, true)
}

fn dispatch(bytes: &[u8], rect: Rect, grey: bool) -> Result<Vec<u8>> {
    let header = header(bytes, false)?;
    let [x, y, width, height] = <[u32; 4]>::from(rect).map(|v| v as usize);
    Arch::new().dispatch(Decode { bytes, header: &header, area: Area { x, y, width, height }, grey })
}

/// The rectangle to decode, as indices.
#[derive(Clone, Copy)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

struct Decode<'a> {
    bytes: &'a [u8],
    header: &'a Header<'a>,
    area: Area,
    /// Whether to decode only the luma.
    grey: bool,
}

impl WithSimd for Decode<'_> {
    type Output = Result<Vec<u8>>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        self.run()
    }
}

impl Decode<'_> {
    #[inline(always)]
    fn run(self) -> Result<Vec<u8>> {
        let h = self.header;
        let area = self.area;
        if area.width == 0 || area.height == 0 || area.x + area.width > h.width || area.y + area.height > h.height {
            return Err(Error::Unsupported);
        }
        let sampling: Vec<(usize, usize)> = h.components.iter().map(|c| (c.h, c.v)).collect();
        let (hmax, vmax) = match sampling.as_slice() {
            [(1, 1)] => (1, 1),
            [luma @ ((1, 1) | (2, 1) | (2, 2)), (1, 1), (1, 1)] => *luma,
            _ => return Err(Error::Unsupported),
        };
        let mcus_across = h.width.div_ceil(8 * hmax);
        let mcus_down = h.height.div_ceil(8 * vmax);
        // Upsampling of chroma needs one more sample on each side.
        let mut planes: Vec<Plane> = h
            .components
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let (across, down) = (hmax / c.h, vmax / c.v);
                let width = h.width.div_ceil(across);
                let height = h.height.div_ceil(down);
                let margin = usize::from(across * down > 1);
                let span = |start: usize, length: usize, share: usize, whole: usize| {
                    let first = (start / share).saturating_sub(margin) / 8;
                    let last = ((start + length - 1) / share + margin).min(whole - 1) / 8;
                    (first, last + 1)
                };
                let mut columns = span(area.x, area.width, across, width);
                let rows = span(area.y, area.height, down, height);
                if self.grey && i > 0 {
                    columns = (0, 0);
                }
                let stride = (columns.1 - columns.0) * 8;
                let samples = vec![0; stride * (rows.1 - rows.0) * 8];
                Plane { columns, rows, stride, samples, width, height }
            })
            .collect();
        let by_plane = h.components.iter().zip(&planes).map(|(c, plane)| plane.rows.1.div_ceil(c.v));
        let last_mcu_row = by_plane.max().unwrap_or(0).min(mcus_down);
        let missing = Error::Damaged("a table is missing");
        let build = |kind: usize, which: usize| match h.huffman[kind][which] {
            Some((counts, symbols)) => Huffman::new(counts, symbols),
            None => Err(missing),
        };
        // Components usually share tables.
        let mut built: Vec<(usize, usize, Huffman)> = Vec::new();
        for (kind, which) in h.components.iter().flat_map(|c| [(0, c.dc), (1, c.ac)]) {
            if !built.iter().any(|(k, w, _)| (*k, *w) == (kind, which)) {
                built.push((kind, which, build(kind, which)?));
            }
        }
        let find = |kind, which| built.iter().find(|(k, w, _)| (*k, *w) == (kind, which)).map(|(.., t)| t);
        let tables: Vec<(&[u16; 64], &Huffman, &Huffman)> = h
            .components
            .iter()
            .map(|c| Some((h.quantise[c.quantise].as_ref()?, find(0, c.dc)?, find(1, c.ac)?)))
            .collect::<Option<_>>()
            .ok_or(missing)?;

        let (scan, ends) = unstuff(&self.bytes[h.scan..])?;
        let mut ends = ends.into_iter();
        let mut end = ends.next().ok_or(TRUNCATED)?;
        let mut bits = Bits::new(&scan[..end + PAD]);
        let mut dc = [0i32; 3];
        let mut until_restart = h.restart;
        let mut block = [0i32; 64];
        let shuffles = Shuffles::detect();
        for my in 0..last_mcu_row {
            for mx in 0..mcus_across {
                if h.restart > 0 {
                    if until_restart == 0 {
                        let start = end + PAD;
                        end = ends.next().ok_or(TRUNCATED)?;
                        bits = Bits::new(&scan[..end + PAD]);
                        bits.at = start;
                        dc = [0; 3];
                        until_restart = h.restart;
                    }
                    until_restart -= 1;
                }
                for (c, plane) in planes.iter_mut().enumerate() {
                    let (ch, cv) = (h.components[c].h, h.components[c].v);
                    let (quantise, dc_table, ac_table) = tables[c];
                    for v in 0..cv {
                        for hh in 0..ch {
                            let (bx, by) = (mx * ch + hh, my * cv + v);
                            let wanted = (plane.columns.0..plane.columns.1).contains(&bx)
                                && (plane.rows.0..plane.rows.1).contains(&by);
                            if wanted {
                                let last = read_block::<true>(
                                    &mut bits, dc_table, ac_table, &mut dc[c], quantise, &mut block,
                                )?;
                                let at = (by - plane.rows.0) * 8 * plane.stride + (bx - plane.columns.0) * 8;
                                let stride = plane.stride;
                                let out = &mut plane.samples[at..at + 7 * stride + 8];
                                inverse(&mut block, last, out, stride, shuffles);
                            } else {
                                read_block::<false>(&mut bits, dc_table, ac_table, &mut dc[c], quantise, &mut block)?;
                            }
                        }
                    }
                }
                // The zeros after the end are not part of the scan.
                if bits.is_past(end) {
                    return Err(TRUNCATED);
                }
            }
        }
        if self.grey {
            let mut luma = Vec::with_capacity(area.width * area.height);
            for y in area.y..area.y + area.height {
                luma.extend_from_slice(&planes[0].line(y)[area.x - planes[0].columns.0 * 8..][..area.width]);
            }
            return Ok(luma);
        }
        Ok(colour(area, (hmax, vmax), &planes, shuffles))
    }
}

/// Reads a block, with `KEEP` storing its dequantised coefficients in `block`, which must be zero. Returns the position
/// of the last coefficient in scan order.
#[inline(always)]
fn read_block<const KEEP: bool>(
    bits: &mut Bits,
    dc_table: &Huffman,
    ac_table: &Huffman,
    dc: &mut i32,
    quantise: &[u16; 64],
    block: &mut [i32; 64],
) -> Result<usize> {
    bits.fill();
    let entry = dc_table.lookup[bits.peek(LOOKUP_BITS) as usize];
    let difference = if entry.bits > 0 {
        bits.skip(entry.bits.into());
        entry.value.into()
    } else {
        let size = u32::from(bits.symbol(dc_table)?);
        if size > 11 {
            return Err(Error::Damaged("a coefficient is too large"));
        }
        bits.value(size)
    };
    *dc = dc.wrapping_add(difference);
    if KEEP {
        block[0] = dc.wrapping_mul(quantise[0].into());
    }
    let mut k = 0;
    loop {
        bits.fill();
        let mut entry = ac_table.lookup[bits.peek(LOOKUP_BITS) as usize];
        if entry.bits > 0 {
            bits.skip(entry.bits.into());
        } else {
            let symbol = bits.symbol(ac_table)?;
            let size = u32::from(symbol & 15);
            entry.step = if symbol == 0 { END } else { (symbol >> 4) + 1 };
            entry.value = bits.value(size) as i16;
        }
        let before = k;
        k += usize::from(entry.step);
        if KEEP {
            // After the end this is position 63, which is still zero, and the value of an end is zero.
            let place = usize::from(ZIGZAG[k & 127]) & 63;
            block[place] = i32::from(entry.value) * i32::from(quantise[place]);
        }
        if k >= 63 {
            return match (k, entry.step) {
                (63, _) => Ok(63),
                (_, END) => Ok(before),
                _ => Err(Error::Damaged("a block has too many coefficients")),
            };
        }
    }
}

/// The inverse DCT of libjpeg's jidctint.c on the eight columns of a block. Arithmetic wraps, because damaged files can
/// contain coefficients of any size.
#[inline(always)]
fn pass<const SHIFT: usize>(input: &[i32; 64], output: &mut [i32; 64]) {
    use std::num::Wrapping as W;
    for l in 0..8 {
        let mut x = [W(0); 8];
        for k in 0..8 {
            x[k] = W(input[k * 8 + l]);
        }
        let z1 = (x[2] + x[6]) * W(4433);
        let (even2, even3) = (z1 - x[6] * W(15137), z1 + x[2] * W(6270));
        let (even0, even1) = ((x[0] + x[4]) << 13, (x[0] - x[4]) << 13);
        let sums = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
        let (z1, z2, z3, z4) = (x[7] + x[1], x[5] + x[3], x[7] + x[3], x[5] + x[1]);
        let z5 = (z3 + z4) * W(9633);
        let (z1, z2, z3, z4) = (z1 * W(-7373), z2 * W(-20995), z5 - z3 * W(16069), z5 - z4 * W(3196));
        let odds =
            [x[1] * W(12299) + z1 + z4, x[3] * W(25172) + z2 + z3, x[5] * W(16819) + z2 + z4, x[7] * W(2446) + z1 + z3];
        let round = W(1 << (SHIFT - 1));
        for k in 0..4 {
            output[k * 8 + l] = ((sums[k] + odds[k] + round) >> SHIFT).0;
            output[(7 - k) * 8 + l] = ((sums[k] - odds[k] + round) >> SHIFT).0;
        }
    }
}

/// Transforms a block into samples and resets it to zero.
#[inline(always)]
fn inverse(block: &mut [i32; 64], last: usize, out: &mut [u8], stride: usize, shuffles: Shuffles) {
    if last == 0 {
        let level = ((block[0].wrapping_add(4) >> 3) + 128).clamp(0, 255) as u8;
        block[0] = 0;
        for row in 0..8 {
            out[row * stride..][..8].fill(level);
        }
        return;
    }
    let (mut columns, mut rows) = ([0; 64], [0; 64]);
    pass::<11>(block, &mut columns);
    *block = [0; 64];
    pass::<18>(&shuffles.transpose(&columns), &mut rows);
    for (y, line) in shuffles.levels(&rows).iter().enumerate() {
        out[y * stride..][..8].copy_from_slice(line);
    }
}

/// Converts the planes to RGB pixels, after upsampling chroma as libjpeg's "fancy" upsampling does.
#[inline(always)]
fn colour(area: Area, (hmax, vmax): (usize, usize), planes: &[Plane], shuffles: Shuffles) -> Vec<u8> {
    let mut pixels = vec![0; area.width * area.height * 3];
    let mut chroma = [vec![0u8; area.width], vec![0u8; area.width]];
    let (mut sums, mut wide) = (vec![0u16; area.width + 4], vec![0u8; area.width + 4]);
    for (row, out) in pixels.chunks_exact_mut(area.width * 3).enumerate() {
        let y = area.y + row;
        let luma = &planes[0].line(y)[area.x - planes[0].columns.0 * 8..][..area.width];
        let [_, blue, red] = planes else {
            for (out, grey) in out.chunks_exact_mut(3).zip(luma) {
                out.fill(*grey);
            }
            continue;
        };
        for (line, plane) in chroma.iter_mut().zip([blue, red]) {
            if hmax == 1 {
                line.copy_from_slice(&plane.line(y)[area.x - plane.columns.0 * 8..][..area.width]);
                continue;
            }
            let near = plane.line(y / vmax);
            // With halved rows, the other chroma row that is close to this row of pixels.
            let (far, weight, rounds, shift) = match vmax {
                1 => (near, 0, [1, 2], 2),
                _ if y.is_multiple_of(2) => (plane.line((y / 2).saturating_sub(1)), 1, [8, 7], 4),
                _ => (plane.line((y / 2 + 1).min(plane.height - 1)), 1, [8, 7], 4),
            };
            let (first, last) = (area.x / 2, (area.x + area.width - 1) / 2);
            let count = last + 1 - first;
            let at = first - plane.columns.0 * 8;
            let (near_own, far_own) = (&near[at..][..count], &far[at..][..count]);
            let own = 1 + 2 * weight;
            for ((sum, n), f) in sums[1..=count].iter_mut().zip(near_own).zip(far_own) {
                *sum = own * u16::from(*n) + weight * u16::from(*f);
            }
            let beside = |c: usize| {
                let c = c - plane.columns.0 * 8;
                own * u16::from(near[c]) + weight * u16::from(far[c])
            };
            sums[0] = beside(first.saturating_sub(1));
            sums[count + 1] = beside((last + 1).min(plane.width - 1));
            let (before, own, after) = (&sums[..count], &sums[1..][..count], &sums[2..][..count]);
            for (i, out) in wide[..2 * count].chunks_exact_mut(2).enumerate() {
                let (before, own, after) = (before[i], 3 * own[i], after[i]);
                out[0] = ((own + before + rounds[0]) >> shift) as u8;
                out[1] = ((own + after + rounds[1]) >> shift) as u8;
            }
            line.copy_from_slice(&wide[area.x % 2..][..area.width]);
        }
        let [blue, red] = &chroma;
        let (luma, luma_rest) = luma.as_chunks::<PIXELS>();
        let ((blue, blue_rest), (red, red_rest)) = (blue.as_chunks::<PIXELS>(), red.as_chunks::<PIXELS>());
        let (whole, rest) = out.split_at_mut(luma.len() * PIXELS * 3);
        for (((out, y), cb), cr) in whole.as_chunks_mut::<{ 3 * PIXELS }>().0.iter_mut().zip(luma).zip(blue).zip(red) {
            shuffles.interleave(rgb(y, cb, cr), out);
        }
        for (((out, y), cb), cr) in rest.chunks_exact_mut(3).zip(luma_rest).zip(blue_rest).zip(red_rest) {
            let [[r], [g], [b]] = rgb(&[*y], &[*cb], &[*cr]);
            out.copy_from_slice(&[r, g, b]);
        }
    }
    pixels
}

/// Converts YCbCr to red, green and blue with libjpeg's 16-bit constants.
#[inline(always)]
fn rgb<const N: usize>(luma: &[u8; N], blue: &[u8; N], red: &[u8; N]) -> [[u8; N]; 3] {
    let mut levels = [[0; N]; 3];
    for i in 0..N {
        let (y, cb, cr) = (i32::from(luma[i]), i32::from(blue[i]) - 128, i32::from(red[i]) - 128);
        levels[0][i] = (y + ((91881 * cr + 32768) >> 16)).clamp(0, 255) as u8;
        levels[1][i] = (y + ((-22554 * cb - 46802 * cr + 32768) >> 16)).clamp(0, 255) as u8;
        levels[2][i] = (y + ((116130 * cb + 32768) >> 16)).clamp(0, 255) as u8;
    }
    levels
}

/// Number of pixels that are converted together.
const PIXELS: usize = 16;

/// Transposes and interleaves with AVX2 shuffles, which compilers do not generate from loops, or with portable loops.
#[derive(Clone, Copy)]
struct Shuffles {
    #[cfg(target_arch = "x86_64")]
    v3: Option<pulp::x86::V3>,
}

impl Shuffles {
    fn detect() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            v3: pulp::x86::V3::try_new(),
        }
    }

    /// Transposes an 8 x 8 block.
    #[inline(always)]
    fn transpose(self, square: &[i32; 64]) -> [i32; 64] {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3 {
            let x = v3.avx2;
            let rows: [std::arch::x86_64::__m256i; 8] = pulp::cast(*square);
            let mut pairs = rows;
            for i in (0..8).step_by(2) {
                pairs[i] = x._mm256_unpacklo_epi32(rows[i], rows[i + 1]);
                pairs[i + 1] = x._mm256_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            let mut fours = rows;
            for i in [0, 4] {
                fours[i] = x._mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
                fours[i + 1] = x._mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
                fours[i + 2] = x._mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
                fours[i + 3] = x._mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
            }
            let mut turned = rows;
            for i in 0..4 {
                turned[i] = x._mm256_permute2x128_si256::<0x20>(fours[i], fours[i + 4]);
                turned[i + 4] = x._mm256_permute2x128_si256::<0x31>(fours[i], fours[i + 4]);
            }
            return pulp::cast(turned);
        }
        let mut turned = [0; 64];
        for (i, v) in square.iter().enumerate() {
            turned[i % 8 * 8 + i / 8] = *v;
        }
        turned
    }

    /// Transposes a block of values around 0, and adds 128 and clamps to 0 to 255.
    #[inline(always)]
    fn levels(self, columns: &[i32; 64]) -> [[u8; 8]; 8] {
        let mut moved = *columns;
        for v in &mut moved {
            *v = v.wrapping_add(128);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3 {
            let x = v3.avx2;
            let c: [std::arch::x86_64::__m256i; 8] = pulp::cast(moved);
            // The packed bytes of a half are ordered by column and must be ordered by row.
            const ORDER: [u8; 32] = {
                let mut order = [0; 32];
                let mut i = 0;
                while i < 32 {
                    order[i] = (i % 4 * 4 + i % 16 / 4) as u8;
                    i += 1;
                }
                order
            };
            let mut half = [c[0]; 2];
            for i in 0..2 {
                let pairs =
                    [x._mm256_packs_epi32(c[4 * i], c[4 * i + 1]), x._mm256_packs_epi32(c[4 * i + 2], c[4 * i + 3])];
                half[i] = x._mm256_shuffle_epi8(x._mm256_packus_epi16(pairs[0], pairs[1]), pulp::cast(ORDER));
            }
            let [left, right] = half;
            let [a, b, e, f]: [[u8; 8]; 4] = pulp::cast(x._mm256_unpacklo_epi32(left, right));
            let [c, d, g, h]: [[u8; 8]; 4] = pulp::cast(x._mm256_unpackhi_epi32(left, right));
            return [a, b, c, d, e, f, g, h];
        }
        let mut rows = [[0; 8]; 8];
        for (i, v) in moved.iter().enumerate() {
            rows[i % 8][i / 8] = (*v).clamp(0, 255) as u8;
        }
        rows
    }

    /// Interleaves three planes to pixels.
    #[inline(always)]
    fn interleave(self, planes: [[u8; PIXELS]; 3], pixels: &mut [u8; 3 * PIXELS]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3 {
            // The source index of each output byte for each plane; index 128 gives zero.
            const FROM: [[[u8; 16]; 3]; 3] = {
                let mut from = [[[128; 16]; 3]; 3];
                let mut i = 0;
                while i < 3 * PIXELS {
                    from[i / 16][i % 3][i % 16] = (i / 3) as u8;
                    i += 1;
                }
                from
            };
            for (third, from) in pixels.as_chunks_mut::<16>().0.iter_mut().zip(FROM) {
                let mut parts: [std::arch::x86_64::__m128i; 3] = pulp::cast(planes);
                for c in 0..3 {
                    parts[c] = v3.ssse3._mm_shuffle_epi8(parts[c], pulp::cast(from[c]));
                }
                let [r, g, b] = parts;
                *third = pulp::cast(v3.sse2._mm_or_si128(v3.sse2._mm_or_si128(r, g), b));
            }
            return;
        }
        for (i, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [planes[0][i], planes[1][i], planes[2][i]];
        }
    }
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
                include_bytes!(concat!("../../tests/fixtures/jpeg/", $name, ".jpg")).as_slice(),
                include_bytes!(concat!("../../tests/fixtures/jpeg/", $name, ".png")).as_slice(),
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
            assert_eq!(size(bytes), Ok((70, 53)), "{name}");
            assert!(decode(bytes, WHOLE).unwrap() == expected.into_raw(), "{name}");
        }
    }

    #[test]
    fn luma_matches_the_pixels() {
        for (name, bytes, image) in fixtures() {
            let luma = decode_grey(bytes, WHOLE).unwrap();
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
    fn unsupported_kinds_are_rejected() {
        let [(_, progressive, _)] = fixtures!("progressive");
        assert_eq!(decode(progressive, WHOLE), Err(Error::Unsupported));
        let (_, bytes, _) = fixtures().remove(0);
        assert_eq!(decode(bytes, Rect { x: 1, ..WHOLE }), Err(Error::Unsupported));
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

    proptest! {
        #[test]
        fn parts_equal_the_cropped_image(x in 0u32..70, y in 0u32..53, width in 1u32..=70, height in 1u32..=53) {
            let rect = Rect { x, y, width: width.min(70 - x), height: height.min(53 - y) };
            for (name, bytes, whole) in fixtures() {
                let part = image::imageops::crop_imm(&whole, x, y, rect.width, rect.height).to_image();
                prop_assert!(decode(bytes, rect).unwrap() == part.into_raw(), "{} {:?}", name, rect);
                let luma = decode_grey(bytes, WHOLE).unwrap();
                let rows = luma.chunks_exact(70).skip(y as usize).take(rect.height as usize);
                let part: Vec<u8> = rows.flat_map(|row| &row[x as usize..][..rect.width as usize]).copied().collect();
                prop_assert!(decode_grey(bytes, rect).unwrap() == part, "luma of {} {:?}", name, rect);
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
            if let Ok((width, height)) = size(&bytes) && u64::from(width) * u64::from(height) < 1 << 22 {
                let _ = decode(&bytes, Rect::whole(width, height));
            }
        }
    }
}
