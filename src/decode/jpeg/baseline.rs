//! Decodes a part of a baseline JPEG in one scan, grey or YCbCr with the usual sampling: nearly all files are like
//! this, and it is many times faster than `scans`, which decodes the rest.
//!
//! The part that is cut out for a cell is often a third of the image. Entropy coding must be read from the top, but
//! only down to the last row of the part, and only the blocks inside it are transformed, upsampled and converted.

use super::entropy::{Bits, END, Huffman, Intervals, LOOKUP_BITS, PAD, UNDEFINED, has_hole, step};
use super::header::{Colours, Error, HOLE, Header, LEFT_OVER, Result, Scan, TRUNCATED, UNDEFINED_CODE, ZIGZAG};
use super::transform::{PIXELS, Shuffles, inverse, rgb};
use crate::rect::Rect;
use pulp::{Arch, WithSimd};

/// Whether an image can be decoded here.
pub fn supports(header: &Header, scan: &Scan) -> bool {
    let sampling: Vec<(usize, usize)> = header.components.iter().map(|c| (c.h, c.v)).collect();
    let usual = match sampling.as_slice() {
        [(1, 1)] => true,
        [(1, 1), (1, 1), (1, 1)] => true,
        // libjpeg upsamples very narrow images in another way.
        [(2, 1) | (2, 2), (1, 1), (1, 1)] => header.width > 4,
        _ => false,
    };
    usual
        && !header.progressive
        && matches!(header.colours(), Colours::Grey | Colours::YCbCr)
        && scan.components.iter().map(|(index, ..)| *index).eq(0..header.components.len())
}

/// Decodes the part inside `rect` to RGB, `[height, width, 3]`, or only its luma, `[height, width]`. `rect` must be
/// inside the image and not empty, and [`supports`] true. What is below `rect` is not verified.
pub fn decode(header: &Header, scan: &Scan, rect: Rect, grey: bool) -> Result<Vec<u8>> {
    let [x, y, width, height] = <[u32; 4]>::from(rect).map(|v| v as usize);
    Arch::new().dispatch(Decode { header, scan, area: Area { x, y, width, height }, grey })
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

/// The rectangle to decode, as indices.
#[derive(Clone, Copy)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

struct Decode<'a> {
    header: &'a Header<'a>,
    scan: &'a Scan<'a>,
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
        let (hmax, vmax) = (h.components[0].h, h.components[0].v);
        let mcus_across = h.width.div_ceil(8 * hmax);
        let mcus_down = h.height.div_ceil(8 * vmax);
        // Every block takes at least two bits: memory is allocated only if there is data for it.
        let blocks: usize = h.components.iter().map(|c| c.h * c.v).sum();
        if mcus_across * mcus_down * blocks > self.scan.data.len() * 4 {
            return Err(TRUNCATED);
        }
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
        for (kind, which) in self.scan.components.iter().flat_map(|(_, dc, ac)| [(0, *dc), (1, *ac)]) {
            if !built.iter().any(|(k, w, _)| (*k, *w) == (kind, which)) {
                built.push((kind, which, build(kind, which)?));
            }
        }
        let find = |kind, which| built.iter().find(|(k, w, _)| (*k, *w) == (kind, which)).map(|(.., t)| t);
        let tables: Vec<(&[u16; 64], &Huffman, &Huffman)> = h
            .components
            .iter()
            .zip(&self.scan.components)
            .map(|(c, (_, dc, ac))| Some((h.quantise[c.quantise].as_ref()?, find(0, *dc)?, find(1, *ac)?)))
            .collect::<Option<_>>()
            .ok_or(missing)?;

        let Intervals { bytes: scan, ends, length } = Intervals::read(self.scan.data, h.restart > 0)?;
        let mut ends = ends.into_iter();
        let mut end = ends.next().ok_or(TRUNCATED)?;
        let mut bits = Bits::new(&scan[..end + PAD]);
        let mut dc = [0i32; 3];
        let mut until_restart = h.restart;
        let mut block = [0i16; 64];
        let shuffles = Shuffles::detect();
        for my in 0..last_mcu_row {
            for mx in 0..mcus_across {
                if h.restart > 0 {
                    if until_restart == 0 {
                        if !bits.is_at(end) {
                            return Err(LEFT_OVER);
                        }
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
        if last_mcu_row == mcus_down {
            if !(bits.is_at(end) && ends.all(|next| next == end + PAD)) {
                return Err(LEFT_OVER);
            }
            if tables.iter().any(|(.., ac)| !ac.zeros_end_blocks()) && has_hole(&self.scan.data[..length]) {
                return Err(HOLE);
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
    block: &mut [i16; 64],
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
        block[0] = (*dc as i16).wrapping_mul(quantise[0] as i16);
    }
    let mut k = 0;
    loop {
        bits.fill();
        // The bits last for three symbols of the lookup table, or for two and a longer one.
        for _ in 0..3 {
            let mut entry = ac_table.lookup[bits.peek(LOOKUP_BITS) as usize];
            let is_short = entry.bits > 0;
            if is_short {
                bits.skip(entry.bits.into());
            } else {
                let symbol = bits.symbol(ac_table)?;
                let size = u32::from(symbol & 15);
                entry.step = step(symbol);
                entry.value = bits.value(size) as i16;
            }
            let before = k;
            k += usize::from(entry.step);
            if KEEP {
                // After the end this is position 63, which is still zero, and the value of an end is zero.
                let place = usize::from(ZIGZAG[k & 127]) & 63;
                block[place] = entry.value.wrapping_mul(quantise[place] as i16);
            }
            if k >= 63 {
                return match (k, entry.step) {
                    (63, _) => Ok(63),
                    (_, END) => Ok(before),
                    (_, UNDEFINED) => Err(UNDEFINED_CODE),
                    _ => Err(Error::Damaged("a block has too many coefficients")),
                };
            }
            if !is_short {
                break;
            }
        }
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
