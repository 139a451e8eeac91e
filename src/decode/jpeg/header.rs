//! Reads the segments of a JPEG: size, tables, orientation and where the scans lie.

use crate::decode::orientation::Orientation;

/// Why an image was not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A valid kind of JPEG that is not supported: its name.
    Unsupported(&'static str),
    /// The file is damaged: the reason.
    Damaged(&'static str),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Error::Unsupported(kind) => write!(f, "{kind} JPEGs are not supported: save it as PNG"),
            Error::Damaged(reason) => write!(f, "the JPEG is damaged: {reason}"),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

pub const TRUNCATED: Error = Error::Damaged("the image data is truncated");
/// Lost or changed bytes make the blocks end before or after the data.
pub const LEFT_OVER: Error = Error::Damaged("image data is left over after the last block");
pub const HOLE: Error = Error::Damaged("a piece of the image data is zero");
const SHORT: Error = Error::Damaged("a segment is too short");
const LENGTH: Error = Error::Damaged("the length of a segment is wrong");
/// libjpeg takes it for the end of a block, without a word.
pub const UNDEFINED_CODE: Error = Error::Damaged("a code has no meaning in the standard");
pub const TOO_MANY_CODES: Error = Error::Damaged("a Huffman table has too many codes");
const NO_SUCH_TABLE: Error = Error::Damaged("a table number is invalid");

/// Place in a block of each coefficient, by rows.
pub const PLACES: [u8; 64] = {
    const ROWS: [u8; 8] = [0, 32, 16, 33, 1, 48, 17, 49];
    const COLUMNS: [u8; 8] = [0, 8, 4, 10, 2, 12, 6, 14];
    let (mut places, mut i) = ([0; 64], 0);
    while i < 64 {
        places[i] = ROWS[i / 8] + COLUMNS[i % 8];
        i += 1;
    }
    places
};

/// Place in a block of each coefficient of the scan. A block is four registers of pairs: for each column, in the order
/// 0, 4, 2, 6, 1, 3, 5, 7, the coefficients of two rows, first of 0 and 4, then of 2 and 6, 1 and 3, 5 and 7. That is
/// how [`inverse`](super::transform::inverse) needs them. Runs in damaged files can lead beyond the 64th.
pub const ZIGZAG: [u8; 128] = {
    let (mut order, mut k, mut diagonal) = ([63u8; 128], 0, 0);
    while diagonal < 15 {
        let mut i = 0;
        while i <= diagonal {
            let (row, column) = if diagonal % 2 == 0 { (diagonal - i, i) } else { (i, diagonal - i) };
            if row < 8 && column < 8 {
                order[k] = PLACES[row * 8 + column];
                k += 1;
            }
            i += 1;
        }
        diagonal += 1;
    }
    order
};

/// One colour channel of the image.
pub struct Component {
    id: u8,
    /// Sampling factors, 1 to 4.
    pub h: usize,
    pub v: usize,
    /// Number of its quantisation table.
    pub quantise: usize,
}

/// What the segments before a scan say, and where the next one starts.
#[derive(Default)]
pub struct Header<'a> {
    bytes: &'a [u8],
    /// Where to read on.
    at: usize,
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    pub components: Vec<Component>,
    pub quantise: [Option<[u16; 64]>; 4],
    /// Huffman tables, DC then AC: number of codes by length, and symbols.
    pub huffman: [[Option<(&'a [u8; 16], &'a [u8])>; 4]; 2],
    /// Number of MCUs between restart markers; 0 if there are none.
    pub restart: usize,
    /// The tag of EXIF.
    pub orientation: Option<Orientation>,
    jfif: bool,
    /// The colour transform in Adobe's segment.
    pub adobe: Option<u8>,
}

/// One pass over some of the components.
pub struct Scan<'a> {
    /// Index of each component, and the numbers of its DC and AC tables.
    pub components: Vec<(usize, usize, usize)>,
    /// First and last coefficient in zigzag order, and the successive approximation's high and low bit.
    pub spectrum: (usize, usize),
    pub bits: (u8, u8),
    /// The file from the first byte of the entropy-coded data.
    pub data: &'a [u8],
}

/// The colour spaces that are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    Grey,
    Rgb,
    YCbCr,
    /// Four inks. With Adobe's segment they are stored inverted.
    Cmyk,
    /// As `Cmyk`, with the first three converted to YCbCr.
    Ycck,
}

impl<'a> Header<'a> {
    /// Reads up to the first scan.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, Scan<'a>)> {
        if bytes.get(..2) != Some(&[0xFF, 0xD8]) {
            return Err(Error::Damaged("not a JPEG"));
        }
        let mut header = Header { bytes, at: 2, ..Default::default() };
        let scan = header.next_scan()?.ok_or(Error::Damaged("it has no image data"))?;
        Ok((header, scan))
    }

    /// Continues after a scan's data, whose length is `length`.
    pub fn skip(&mut self, length: usize) {
        self.at += length;
    }

    /// Reads on to the next scan; `None` at the end of the image.
    pub fn next_scan(&mut self) -> Result<Option<Scan<'a>>> {
        loop {
            let (marker, body) = match self.segment()? {
                Some(segment) => segment,
                None => return Ok(None),
            };
            match marker {
                0xC0..=0xC2 => self.frame(body, marker == 0xC2)?,
                0xC4 => self.huffman_tables(body)?,
                0xDB => self.quantisation_tables(body)?,
                0xDD => {
                    let [high, low] = *body else { return Err(LENGTH) };
                    self.restart = usize::from(high) << 8 | usize::from(low);
                }
                0xDA => return self.scan(body).map(Some),
                0xE0 if body.starts_with(b"JFIF\0") && body.len() >= 14 => self.jfif = true,
                0xE1 if body.starts_with(b"Exif\0\0") && self.orientation.is_none() => {
                    self.orientation = Orientation::from_exif(&body[6..]);
                }
                0xEE if body.starts_with(b"Adobe") && body.len() >= 12 => self.adobe = Some(body[11]),
                0xC3 => return Err(Error::Unsupported("lossless")),
                0xF7 => return Err(Error::Unsupported("JPEG-LS")),
                0xC5..=0xC7 | 0xDE | 0xDF => return Err(Error::Unsupported("hierarchical")),
                0xC9..=0xCF => return Err(Error::Unsupported("arithmetic-coded")),
                // Data of programs, comments, and a number of lines that the frame has already.
                0xDC | 0xE0..=0xEF | 0xFE => {}
                _ => return Err(Error::Damaged("a marker is invalid")),
            }
        }
    }

    /// The next marker and the bytes of its segment; `None` for the end of the image.
    fn segment(&mut self) -> Result<Option<(u8, &'a [u8])>> {
        let bytes = self.bytes;
        while bytes.get(self.at) == Some(&0xFF) && bytes.get(self.at + 1) == Some(&0xFF) {
            self.at += 1;
        }
        let (Some(0xFF), Some(&marker)) = (bytes.get(self.at), bytes.get(self.at + 1)) else {
            return Err(Error::Damaged("a marker is missing"));
        };
        if marker == 0xD9 {
            return Ok(None);
        }
        let length = bytes.get(self.at + 2..self.at + 4).map_or(0, |l| usize::from(l[0]) << 8 | usize::from(l[1]));
        if length < 2 {
            return Err(Error::Damaged("a segment has no length"));
        }
        let segment = bytes.get(self.at + 4..self.at + 2 + length);
        self.at += 2 + length;
        Ok(Some((marker, segment.ok_or(Error::Damaged("a segment is truncated"))?)))
    }

    fn frame(&mut self, body: &[u8], progressive: bool) -> Result<()> {
        let [precision, h1, h0, w1, w0, count, rest @ ..] = body else { return Err(SHORT) };
        self.progressive = progressive;
        self.height = usize::from(*h1) << 8 | usize::from(*h0);
        self.width = usize::from(*w1) << 8 | usize::from(*w0);
        match precision {
            8 => {}
            12 => return Err(Error::Unsupported("12-bit")),
            _ => return Err(Error::Damaged("its number of bits is invalid")),
        }
        if !self.components.is_empty() {
            return Err(Error::Damaged("it has two frame headers"));
        }
        if self.height == 0 {
            return Err(Error::Damaged("its height is missing"));
        }
        if self.width == 0 || ![1, 3, 4].contains(count) {
            return Err(Error::Damaged("its size or number of channels is invalid"));
        }
        if rest.len() != usize::from(*count) * 3 {
            return Err(LENGTH);
        }
        for [id, sampling, table] in rest.as_chunks().0 {
            let (h, v) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return Err(Error::Damaged("a sampling factor is invalid"));
            }
            // Those of a single component have no effect.
            let (h, v) = if *count == 1 { (1, 1) } else { (h, v) };
            if *table > 3 {
                return Err(NO_SUCH_TABLE);
            }
            self.components.push(Component { id: *id, h, v, quantise: usize::from(*table) });
        }
        Ok(())
    }

    fn huffman_tables(&mut self, body: &'a [u8]) -> Result<()> {
        let mut rest = body;
        while let [which, tail @ ..] = rest {
            let counts: &[u8; 16] = tail.first_chunk().ok_or(SHORT)?;
            let total: usize = counts.iter().map(|c| usize::from(*c)).sum();
            let symbols = tail.get(16..16 + total).ok_or(SHORT)?;
            if total > 256 {
                return Err(TOO_MANY_CODES);
            }
            // The symbols of a DC table are the sizes of differences.
            if which >> 4 == 0 && symbols.iter().any(|symbol| *symbol > 15) {
                return Err(Error::Damaged("a Huffman table is invalid"));
            }
            let kind = self.huffman.get_mut(usize::from(which >> 4));
            let table = kind.and_then(|tables| tables.get_mut(usize::from(which & 15)));
            *table.ok_or(NO_SUCH_TABLE)? = Some((counts, symbols));
            rest = &tail[16 + total..];
        }
        Ok(())
    }

    fn quantisation_tables(&mut self, body: &[u8]) -> Result<()> {
        let mut rest = body;
        while let [which, tail @ ..] = rest {
            let wide = which >> 4 != 0;
            let values = tail.get(..if wide { 128 } else { 64 }).ok_or(SHORT)?;
            let mut table = [0u16; 64];
            for (k, place) in ZIGZAG[..64].iter().enumerate() {
                table[usize::from(*place)] = match wide {
                    true => u16::from_be_bytes([values[2 * k], values[2 * k + 1]]),
                    false => values[k].into(),
                };
            }
            *self.quantise.get_mut(usize::from(which & 15)).ok_or(NO_SUCH_TABLE)? = Some(table);
            rest = &tail[values.len()..];
        }
        Ok(())
    }

    fn scan(&self, body: &[u8]) -> Result<Scan<'a>> {
        let [count, rest @ ..] = body else { return Err(SHORT) };
        let (tables, rest) = rest.split_at_checked(usize::from(*count) * 2).ok_or(SHORT)?;
        let [start, end, bits] = *rest else { return Err(LENGTH) };
        if *count == 0 || self.components.is_empty() {
            return Err(Error::Damaged("a scan has no channels"));
        }
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for [id, tables] in tables.as_chunks().0 {
            let index = self.components.iter().position(|c| c.id == *id);
            let index = index.ok_or(Error::Damaged("a scan names a channel that does not exist"))?;
            if components.last().is_some_and(|(last, ..)| *last >= index) {
                return Err(Error::Damaged("a scan names a channel twice, or channels out of order"));
            }
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            if dc > 3 || ac > 3 {
                return Err(NO_SUCH_TABLE);
            }
            components.push((index, dc, ac));
        }
        // The most blocks that an MCU of several components can have.
        let blocks = |(index, ..): &(usize, usize, usize)| self.components[*index].h * self.components[*index].v;
        if components.len() > 1 && components.iter().map(blocks).sum::<usize>() > 10 {
            return Err(Error::Damaged("its sampling factors are too large"));
        }
        let data = self.bytes.get(self.at..).ok_or(TRUNCATED)?;
        Ok(Scan { components, spectrum: (start.into(), end.into()), bits: (bits >> 4, bits & 15), data })
    }

    /// The colour space, determined as libjpeg does.
    pub fn colours(&self) -> Colours {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        match (ids.as_slice(), self.adobe) {
            ([_], _) => Colours::Grey,
            ([_, _, _, _], None | Some(0)) => Colours::Cmyk,
            ([_, _, _, _], Some(_)) => Colours::Ycck,
            _ if self.jfif => Colours::YCbCr,
            (_, Some(0)) => Colours::Rgb,
            (_, Some(_)) => Colours::YCbCr,
            (b"RGB", None) => Colours::Rgb,
            _ => Colours::YCbCr,
        }
    }
}
