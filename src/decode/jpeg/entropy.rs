//! Entropy coding: Huffman tables, the bits of a scan and its restart intervals.

use super::header::{Error, Result, TOO_MANY_CODES, TRUNCATED};

/// Number of bits that index the Huffman lookup tables; longer codes are rare.
pub const LOOKUP_BITS: u32 = 11;

/// Zero bytes after each restart interval of the scan, so that 8 bytes can be read at its end.
pub const PAD: usize = 16;

/// A Huffman table: a lookup by the next [`LOOKUP_BITS`] bits, and the limits of codes for longer ones.
pub struct Huffman<'a> {
    pub lookup: Box<[Lookup; 1 << LOOKUP_BITS]>,
    /// The code after the last one of each length, left-aligned in 16 bits.
    limits: [u32; 18],
    offsets: [i32; 17],
    symbols: &'a [u8],
}

/// A decoded coefficient, if its code and value fit into [`LOOKUP_BITS`] bits.
#[derive(Clone, Copy, Default)]
#[repr(align(4))]
pub struct Lookup {
    pub value: i16,
    /// Positions to advance in the block, or [`END`] for the end of the block. Unused in a DC table.
    pub step: u8,
    /// Total bits of code and value; 0 if they do not fit.
    pub bits: u8,
}

/// [`Lookup::step`] for the end of a block.
pub const END: u8 = 64;
/// [`Lookup::step`] for symbols that the standard leaves undefined: runs of zeros that neither end a block nor are 16.
pub const UNDEFINED: u8 = 65;

/// [`Lookup::step`] of a symbol of an AC table.
pub fn step(symbol: u8) -> u8 {
    match (symbol >> 4, symbol & 15) {
        (0, 0) => END,
        (1..=14, 0) => UNDEFINED,
        (run, _) => run + 1,
    }
}

impl<'a> Huffman<'a> {
    pub fn new(counts: &[u8; 16], symbols: &'a [u8]) -> Result<Self> {
        let mut lookup = Box::new([Lookup::default(); 1 << LOOKUP_BITS]);
        let (mut limits, mut offsets) = ([u32::MAX; 18], [0; 17]);
        let (mut code, mut k) = (0u32, 0usize);
        for length in 1..=16u32 {
            offsets[length as usize] = k as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                // No code may consist of ones only.
                if code + 1 >= 1 << length {
                    return Err(TOO_MANY_CODES);
                }
                let size = u32::from(symbols[k] & 15);
                if length + size <= LOOKUP_BITS {
                    let step = step(symbols[k]);
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

    /// Whether a code of zeros ends a block, so that in a flat image zeros can follow each other.
    pub fn zeros_end_blocks(&self) -> bool {
        self.symbols.first().is_none_or(|symbol| symbol & 15 == 0 && symbol >> 4 < 15)
    }
}

/// Sign-extends the bits of a value: values whose first bit is 0 are negative.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let bits = bits as i32;
    if size > 0 && bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// A bit reader over the scan without stuffed bytes.
pub struct Bits<'a> {
    bytes: &'a [u8],
    pub at: usize,
    /// The next bits, left-aligned.
    buffer: u64,
    /// Number of bits in the buffer.
    filled: u32,
}

impl<'a> Bits<'a> {
    /// `bytes` must end in [`PAD`] zero bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, filled: 0 }
    }

    /// Fills the buffer to at least 56 bits, with zeros after the end.
    #[inline(always)]
    pub fn fill(&mut self) {
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
    pub fn peek(&self, n: u32) -> u32 {
        (self.buffer >> (64 - n)) as u32
    }

    #[inline(always)]
    pub fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.filled = self.filled.wrapping_sub(n);
    }

    /// Reads a symbol whose code is not in the lookup table.
    #[inline(never)]
    pub fn symbol(&mut self, table: &Huffman) -> Result<u8> {
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
    pub fn value(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let bits = self.peek(size);
        self.skip(size);
        extend(bits, size)
    }

    /// Whether bits after byte `end` have been consumed.
    #[inline(always)]
    pub fn is_past(&self, end: usize) -> bool {
        self.position() > end as i64 * 8
    }

    /// Whether the data before byte `end` have been consumed, except for the bits that fill the last byte.
    pub fn is_at(&self, end: usize) -> bool {
        let left = end as i64 * 8 - self.position();
        // They are ones, or with some programs zeros.
        (1..8).contains(&left) && [0, (1 << left) - 1].contains(&self.peek(left as u32)) || left == 0
    }

    /// Number of bits before the next one.
    #[inline(always)]
    fn position(&self) -> i64 {
        self.at as i64 * 8 - i64::from(self.filled)
    }
}

/// Whether a piece of the data is zero, as after a failed copy. With other codes than [`Huffman::zeros_end_blocks`]
/// they would stand for dozens of equal coefficients.
pub fn has_hole(data: &[u8]) -> bool {
    memchr::memmem::find(data, &[0; 32]).is_some()
}

/// The entropy-coded data of a scan without stuffed bytes.
pub struct Intervals {
    /// With [`PAD`] zero bytes after each restart interval.
    pub bytes: Vec<u8>,
    /// Where each restart interval ends, without its zeros.
    pub ends: Vec<usize>,
    /// Length of the data in the file, up to the marker that follows.
    pub length: usize,
}

impl Intervals {
    /// Copies a scan up to the marker after its end. `restart` says whether there may be restart markers.
    pub fn read(data: &[u8], restart: bool) -> Result<Self> {
        let mut bytes = Vec::with_capacity(data.len() + PAD);
        let mut ends = Vec::new();
        let mut rest = data;
        loop {
            let at = memchr::memchr(0xFF, rest).ok_or(TRUNCATED)?;
            bytes.extend_from_slice(&rest[..at]);
            match rest.get(at + 1).ok_or(TRUNCATED)? {
                0 => bytes.push(0xFF),
                // Any number of fill bytes may precede a marker.
                0xFF => {
                    rest = &rest[at + 1..];
                    continue;
                }
                marker => {
                    let number = ends.len() as u8 & 7;
                    ends.push(bytes.len());
                    bytes.extend_from_slice(&[0; PAD]);
                    match marker {
                        0xD0..=0xD7 if restart && marker & 7 == number => {}
                        0xD0..=0xD7 => return Err(Error::Damaged("a restart marker is out of order")),
                        0xC0.. => return Ok(Self { bytes, ends, length: data.len() - rest.len() + at }),
                        _ => return Err(Error::Damaged("a marker within the image data is invalid")),
                    }
                }
            }
            rest = &rest[at + 2..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_consists_of_ones() {
        let counts = |first: [u8; 2]| {
            let mut counts = [0; 16];
            counts[..2].copy_from_slice(&first);
            counts
        };
        assert!(Huffman::new(&counts([1, 1]), &[0, 1]).is_ok());
        assert!(Huffman::new(&counts([2, 0]), &[0, 1]).is_err());
        assert!(Huffman::new(&counts([1, 2]), &[0, 1, 2]).is_err());
    }
}
