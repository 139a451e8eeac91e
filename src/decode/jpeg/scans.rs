//! Decodes JPEGs of all kinds that `baseline` does not: progressive, in several scans, with unusual sampling, RGB or
//! CMYK. All coefficients are kept until the end, so this takes more time and memory.

use super::entropy::{Bits, Huffman, Intervals, PAD, has_hole};
use super::header::{Colours, Error, HOLE, Header, LEFT_OVER, Result, Scan, TRUNCATED, UNDEFINED_CODE, ZIGZAG};
use super::transform::{Shuffles, inverse, rgb};

/// A file has about ten scans; damaged ones could have thousands, each of which passes over the whole image.
const MAX_SCANS: usize = 200;

/// The coefficients of one component, and which bits of them have been read.
struct Plane {
    /// Sampling factors.
    h: usize,
    v: usize,
    /// Blocks of the component, without those that only fill the last MCUs.
    across: usize,
    down: usize,
    /// Blocks in a row, with the filling ones.
    stride: usize,
    /// Blocks of 64 coefficients, in the order of [`ZIGZAG`].
    coefficients: Vec<i16>,
    /// For each coefficient in zigzag order, the lowest bit that has been read; `UNREAD` before its first scan.
    lowest_bit: [u8; 64],
    /// Its quantisation table, as it was at its first scan.
    quantise: Option<[u16; 64]>,
}

const UNREAD: u8 = 255;

/// Decodes a whole image to RGB, `[height, width, 3]`. `scan` is the first one.
pub fn decode(mut header: Header, scan: Scan) -> Result<Vec<u8>> {
    let hmax = header.components.iter().map(|c| c.h).max().unwrap_or(1);
    let vmax = header.components.iter().map(|c| c.v).max().unwrap_or(1);
    if header.components.iter().any(|c| hmax % c.h != 0 || vmax % c.v != 0) {
        return Err(Error::Unsupported("fractionally sampled"));
    }
    let mcus_across = header.width.div_ceil(8 * hmax);
    let mcus_down = header.height.div_ceil(8 * vmax);
    // Every block takes at least one bit: memory is allocated only if there is data for it.
    let blocks: usize = header.components.iter().map(|c| c.h * c.v).sum();
    if mcus_across * mcus_down * blocks > scan.data.len() * 8 {
        return Err(TRUNCATED);
    }
    let mut planes: Vec<Plane> = header
        .components
        .iter()
        .map(|c| Plane {
            h: c.h,
            v: c.v,
            across: (header.width * c.h).div_ceil(8 * hmax),
            down: (header.height * c.v).div_ceil(8 * vmax),
            stride: mcus_across * c.h,
            coefficients: vec![0; mcus_across * c.h * mcus_down * c.v * 64],
            lowest_bit: [UNREAD; 64],
            quantise: None,
        })
        .collect();

    let mut next = Some(scan);
    let mut count = 0;
    while let Some(scan) = next {
        count += 1;
        if count > MAX_SCANS {
            return Err(Error::Damaged("it has too many scans"));
        }
        let length = read_scan(&header, &scan, &mut planes, (mcus_across, mcus_down))?;
        header.skip(length);
        // A sequential image is complete with the last component; what follows may be another image's.
        if !header.progressive && planes.iter().all(|p| p.lowest_bit[0] == 0) {
            break;
        }
        next = header.next_scan()?;
    }
    // The luma must be complete, and of the colours whatever has been begun.
    for (c, plane) in planes.iter().enumerate() {
        let complete = |k: usize, bit: u8| bit == 0 || (bit == UNREAD && c > 0 && k > 0);
        if !plane.lowest_bit.iter().enumerate().all(|(k, bit)| complete(k, *bit)) {
            return Err(Error::Damaged("a scan is missing"));
        }
    }

    let mut samples = Vec::with_capacity(planes.len());
    for plane in planes {
        let quantise = plane.quantise.ok_or(Error::Damaged("a scan is missing"))?;
        samples.push(plane.samples(&quantise, (header.width, header.height), (hmax, vmax)));
    }
    Ok(colour(&header, &samples))
}

/// Reads one scan and returns the length of its data.
fn read_scan(header: &Header, scan: &Scan, planes: &mut [Plane], mcus: (usize, usize)) -> Result<usize> {
    let (first, last) = if header.progressive { scan.spectrum } else { (0, 63) };
    let (high, low) = if header.progressive { scan.bits } else { (0, 0) };
    let valid = match first {
        0 => last == 0 || !header.progressive,
        _ => first <= last && last < 64 && scan.components.len() == 1,
    };
    if !valid || low > 13 || (high != 0 && high != low + 1) {
        return Err(Error::Damaged("the parameters of a scan are invalid"));
    }
    for (index, ..) in &scan.components {
        // Before a later scan, the table of that number may be replaced for other components.
        let table = || header.quantise[header.components[*index].quantise];
        let quantise = planes[*index].quantise.or_else(table).ok_or(Error::Damaged("a table is missing"))?;
        planes[*index].quantise = Some(quantise);
        for bit in &mut planes[*index].lowest_bit[first..=last] {
            if *bit != if high == 0 { UNREAD } else { high } {
                return Err(Error::Damaged("a scan is missing or repeated"));
            }
            *bit = low;
        }
    }
    let table = |kind: usize, which: usize| match header.huffman[kind][which] {
        Some((counts, symbols)) => Huffman::new(counts, symbols).map(Some),
        None => Err(Error::Damaged("a table is missing")),
    };
    let mut tables = Vec::new();
    for (_, dc, ac) in &scan.components {
        let needs_dc = first == 0 && high == 0;
        tables.push((if needs_dc { table(0, *dc)? } else { None }, if last > 0 { table(1, *ac)? } else { None }));
    }

    let intervals = Intervals::read(scan.data, header.restart > 0)?;
    let mut ends = intervals.ends.iter();
    let mut end = *ends.next().ok_or(TRUNCATED)?;
    let mut reader = Reader {
        bits: Bits::new(&intervals.bytes[..end + PAD]),
        end_run: 0,
        spectrum: (first, last),
        low,
        progressive: header.progressive,
    };
    let mut dc = [0i32; 4];
    let single = scan.components.len() == 1;
    let (across, down) = match scan.components.as_slice() {
        // A scan of one component has no filling blocks.
        [(index, ..)] => (planes[*index].across, planes[*index].down),
        _ => mcus,
    };
    let mut until_restart = header.restart;
    for y in 0..down {
        for x in 0..across {
            if header.restart > 0 {
                if until_restart == 0 {
                    reader.finish(end)?;
                    let start = end + PAD;
                    end = *ends.next().ok_or(TRUNCATED)?;
                    reader.bits = Bits::new(&intervals.bytes[..end + PAD]);
                    reader.bits.at = start;
                    dc = [0; 4];
                    until_restart = header.restart;
                }
                until_restart -= 1;
            }
            for ((index, ..), (dc_table, ac_table)) in scan.components.iter().zip(&tables) {
                let plane = &mut planes[*index];
                let (h, v) = if single { (1, 1) } else { (plane.h, plane.v) };
                for i in 0..h * v {
                    let at = ((y * v + i / h) * plane.stride + x * h + i % h) * 64;
                    let block: &mut [i16; 64] = (&mut plane.coefficients[at..at + 64]).try_into().expect("64");
                    if first == 0 {
                        reader.dc(block, dc_table.as_ref(), &mut dc[*index])?;
                    }
                    match ac_table {
                        Some(table) if high == 0 => reader.ac(block, table)?,
                        Some(table) => reader.refine(block, table)?,
                        None => {}
                    }
                }
            }
            if reader.bits.is_past(end) {
                return Err(TRUNCATED);
            }
        }
    }
    reader.finish(end)?;
    if ends.any(|next| *next > end + PAD) {
        return Err(LEFT_OVER);
    }
    // Further bits of coefficients can well be zeros.
    let is_first = high == 0 && tables.iter().any(|(_, ac)| ac.as_ref().is_some_and(|ac| !ac.zeros_end_blocks()));
    if is_first && has_hole(&scan.data[..intervals.length]) {
        return Err(HOLE);
    }
    Ok(intervals.length)
}

/// Reads the blocks of a restart interval.
struct Reader<'a> {
    bits: Bits<'a>,
    /// Number of blocks that have no further coefficients in this scan.
    end_run: u32,
    spectrum: (usize, usize),
    low: u8,
    /// Whether several blocks can end at once.
    progressive: bool,
}

impl Reader<'_> {
    /// Checks that the interval ends with its last block.
    fn finish(&mut self, end: usize) -> Result<()> {
        if self.bits.is_past(end) {
            return Err(TRUNCATED);
        }
        if !self.bits.is_at(end) || self.end_run > 0 {
            return Err(LEFT_OVER);
        }
        Ok(())
    }

    fn bit(&mut self) -> bool {
        self.bits.fill();
        let bit = self.bits.peek(1) == 1;
        self.bits.skip(1);
        bit
    }

    /// The DC coefficient: its difference to the block before, or with no table its next bit.
    fn dc(&mut self, block: &mut [i16; 64], table: Option<&Huffman>, dc: &mut i32) -> Result<()> {
        let Some(table) = table else {
            if self.bit() {
                block[0] |= 1 << self.low;
            }
            return Ok(());
        };
        self.bits.fill();
        let size = u32::from(self.bits.symbol(table)?);
        if size > 11 {
            return Err(Error::Damaged("a coefficient is too large"));
        }
        *dc = dc.wrapping_add(self.bits.value(size));
        block[0] = (*dc << self.low) as i16;
        Ok(())
    }

    /// The first scan of AC coefficients.
    fn ac(&mut self, block: &mut [i16; 64], table: &Huffman) -> Result<()> {
        if self.end_run > 0 {
            self.end_run -= 1;
            return Ok(());
        }
        let (first, last) = self.spectrum;
        let mut k = first.max(1);
        while k <= last {
            self.bits.fill();
            let symbol = self.bits.symbol(table)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size > 10 {
                return Err(Error::Damaged("a coefficient is too large"));
            }
            if size > 0 {
                k += run;
                if k > last {
                    return Err(Error::Damaged("a block has too many coefficients"));
                }
                let value = self.bits.value(size);
                block[usize::from(ZIGZAG[k])] = (value << self.low) as i16;
                k += 1;
            } else if run == 15 {
                k += 16;
            } else if run > 0 && !self.progressive {
                return Err(UNDEFINED_CODE);
            } else {
                self.end_run = self.run_length(run as u32) - 1;
                break;
            }
        }
        Ok(())
    }

    /// Number of blocks that end here, this one included.
    fn run_length(&mut self, size: u32) -> u32 {
        let mut length = 1 << size;
        if size > 0 {
            length += self.bits.peek(size);
            self.bits.skip(size);
        }
        length
    }

    /// A further bit of AC coefficients.
    fn refine(&mut self, block: &mut [i16; 64], table: &Huffman) -> Result<()> {
        let (mut k, last) = self.spectrum;
        let one = 1i16 << self.low;
        if self.end_run == 0 {
            while k <= last {
                self.bits.fill();
                let symbol = self.bits.symbol(table)?;
                let (mut run, size) = (symbol >> 4, symbol & 15);
                let new = match size {
                    0 if run < 15 => {
                        self.end_run = self.run_length(run.into());
                        break;
                    }
                    0 => 0,
                    1 if self.bit() => one,
                    1 => -one,
                    _ => return Err(Error::Damaged("a coefficient is too large")),
                };
                // The new coefficient comes after `run` zeros; all others on the way get a bit each.
                while k <= last {
                    let place = &mut block[usize::from(ZIGZAG[k])];
                    if *place != 0 {
                        self.correct(place, one);
                    } else if run == 0 {
                        *place = new;
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
                if k > last && new != 0 {
                    return Err(Error::Damaged("a block has too many coefficients"));
                }
                k += 1;
            }
        }
        if self.end_run > 0 {
            for place in &ZIGZAG[k..=last] {
                let place = &mut block[usize::from(*place)];
                if *place != 0 {
                    self.correct(place, one);
                }
            }
            self.end_run -= 1;
        }
        Ok(())
    }

    fn correct(&mut self, place: &mut i16, one: i16) {
        if self.bit() && *place & one == 0 {
            *place = if *place >= 0 { place.wrapping_add(one) } else { place.wrapping_sub(one) };
        }
    }
}

impl Plane {
    /// Transforms and upsamples to the size of the image, `[height, width]`.
    fn samples(self, quantise: &[u16; 64], (width, height): (usize, usize), max: (usize, usize)) -> Vec<u8> {
        let stride = self.stride * 8;
        let mut small = vec![0u8; self.coefficients.len()];
        let shuffles = Shuffles::detect();
        let mut block = [0i16; 64];
        for (i, coefficients) in self.coefficients.as_chunks::<64>().0.iter().enumerate() {
            for ((value, c), q) in block.iter_mut().zip(coefficients).zip(quantise) {
                *value = c.wrapping_mul(*q as i16);
            }
            let last = if coefficients[1..].iter().all(|c| *c == 0) { 0 } else { 63 };
            let at = i / self.stride * 8 * stride + i % self.stride * 8;
            inverse(&mut block, last, &mut small[at..], stride, shuffles);
        }
        let (across, down) = (max.0 / self.h, max.1 / self.v);
        let (own_width, own_height) = ((width * self.h).div_ceil(max.0), (height * self.v).div_ceil(max.1));
        let line = |y: usize| &small[y * stride..][..own_width];
        // libjpeg interpolates between samples only where they are halved, and never in very narrow images.
        let fancy = match (across, down) {
            (2, 1 | 2) => own_width > 2,
            (1, 2) => true,
            _ => false,
        };
        let mut out = Vec::with_capacity(width * height);
        let mut sums = vec![0u16; own_width];
        for y in 0..height {
            let near = line(y / down);
            if !fancy {
                out.extend((0..width).map(|x| near[x / across]));
                continue;
            }
            let far = match down {
                1 => near,
                _ if y % 2 == 0 => line((y / 2).saturating_sub(1)),
                _ => line((y / 2 + 1).min(own_height - 1)),
            };
            let weight = u16::from(down == 2);
            for ((sum, near), far) in sums.iter_mut().zip(near).zip(far) {
                *sum = (1 + 2 * weight) * u16::from(*near) + weight * u16::from(*far);
            }
            if across == 1 {
                let round = if y % 2 == 0 { 1 } else { 2 };
                out.extend(sums[..width].iter().map(|sum| ((sum + round) >> 2) as u8));
                continue;
            }
            let (rounds, shift) = if down == 2 { ([8, 7], 4) } else { ([1, 2], 2) };
            out.extend((0..width).map(|x| {
                let at = x / 2;
                let beside = if x % 2 == 0 { at.saturating_sub(1) } else { (at + 1).min(own_width - 1) };
                ((3 * sums[at] + sums[beside] + rounds[x % 2]) >> shift) as u8
            }));
        }
        out
    }
}

/// Converts samples, `[height, width]` for each component, to RGB.
fn colour(header: &Header, samples: &[Vec<u8>]) -> Vec<u8> {
    let colours = header.colours();
    // Adobe's programs store ink as 255 for none.
    let inverted = header.adobe.is_some();
    let mut pixels = vec![0; header.width * header.height * 3];
    for (i, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let at = |c: usize| samples[c][i];
        let converted = |y, cb, cr| rgb(&[y], &[cb], &[cr]).map(|[v]| v);
        *pixel = match colours {
            Colours::Grey => [at(0); 3],
            Colours::Rgb => [at(0), at(1), at(2)],
            Colours::YCbCr => converted(at(0), at(1), at(2)),
            Colours::Cmyk => inks([at(0), at(1), at(2)], at(3), inverted),
            Colours::Ycck => inks(converted(at(0), at(1), at(2)).map(|v| 255 - v), at(3), inverted),
        };
    }
    pixels
}

/// Mixes four inks, of which 255 is most, or none if `inverted`.
pub fn inks(cmy: [u8; 3], black: u8, inverted: bool) -> [u8; 3] {
    let light = |ink: u8| u32::from(if inverted { ink } else { 255 - ink });
    cmy.map(|ink| {
        let product = light(ink) * light(black) + 128;
        ((product + (product >> 8)) >> 8) as u8
    })
}
