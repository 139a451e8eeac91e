//! Orientation: how stored pixels are turned or mirrored to be upright, as cameras and scanners note it in EXIF.

use crate::rect::Rect;
use serde::{Deserialize, Serialize};

/// The EXIF and TIFF tag 274 as three steps: a stored pixel's place is that of the upright one after exchanging x and
/// y, then mirroring each axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orientation {
    transposed: bool,
    mirrored_x: bool,
    mirrored_y: bool,
}

impl Orientation {
    /// The orientation with this number in EXIF; upright if it is not one of 1 to 8.
    pub fn from_tag(tag: u64) -> Self {
        Self {
            transposed: (5..=8).contains(&tag),
            mirrored_x: matches!(tag, 2 | 3 | 7 | 8),
            mirrored_y: matches!(tag, 3 | 4 | 6 | 7),
        }
    }

    /// The orientation in the bytes of an EXIF block, which is a TIFF without an image.
    pub fn from_exif(exif: &[u8]) -> Option<Self> {
        let big = match exif.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        let half = |at: usize| {
            let bytes = exif.get(at..at + 2)?.try_into().ok()?;
            Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
        };
        let (first, second) = (usize::from(half(4)?), usize::from(half(6)?));
        let directory = if big { first << 16 | second } else { second << 16 | first };
        let entries = usize::from(half(directory)?);
        // Entries of 12 bytes: tag, type, number of values, and here the value.
        let entry = (0..entries).map(|i| directory + 2 + 12 * i).find(|at| half(*at) == Some(274))?;
        (half(entry + 2)? == 3).then_some(())?;
        Some(Self::from_tag(half(entry + 8)?.into()))
    }

    /// Width and height of the upright image.
    pub fn upright_size(self, width: u32, height: u32) -> (u32, u32) {
        if self.transposed { (height, width) } else { (width, height) }
    }

    /// Width and height of the stored image.
    pub fn stored_size(self, upright_width: u32, upright_height: u32) -> (u32, u32) {
        self.upright_size(upright_width, upright_height)
    }

    /// The left, top, right and bottom edge in the upright image of a rectangle of the stored one, which has this width
    /// and height.
    pub fn upright_edges(self, [left, top, right, bottom]: [f64; 4], (width, height): (f64, f64)) -> [f64; 4] {
        let (left, right) = if self.mirrored_x { (width - right, width - left) } else { (left, right) };
        let (top, bottom) = if self.mirrored_y { (height - bottom, height - top) } else { (top, bottom) };
        if self.transposed { [top, left, bottom, right] } else { [left, top, right, bottom] }
    }

    /// The part of the stored image, which is `width` x `height`, that is `rect` of the upright one.
    pub fn stored_rect(self, rect: Rect, width: u32, height: u32) -> Rect {
        let Rect { x, y, width: w, height: h } = rect;
        let mut stored = if self.transposed { Rect { x: y, y: x, width: h, height: w } } else { rect };
        if self.mirrored_x {
            stored.x = width - stored.x - stored.width;
        }
        if self.mirrored_y {
            stored.y = height - stored.y - stored.height;
        }
        stored
    }

    /// Turns stored pixels of `N` bytes, `[height, width, N]`, upright.
    pub fn apply<const N: usize>(self, pixels: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
        if self == Self::default() {
            return pixels;
        }
        let stored = pixels.as_chunks::<N>().0;
        let (stored_width, stored_height) = (width as usize, height as usize);
        let (width, height) = self.upright_size(width, height);
        let mut upright = Vec::with_capacity(pixels.len());
        for y in 0..height as usize {
            for x in 0..width as usize {
                let (mut sx, mut sy) = if self.transposed { (y, x) } else { (x, y) };
                if self.mirrored_x {
                    sx = stored_width - 1 - sx;
                }
                if self.mirrored_y {
                    sy = stored_height - 1 - sy;
                }
                upright.extend_from_slice(&stored[sy * stored_width + sx]);
            }
        }
        upright
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 x 2 upright pixels, and how a file with each tag stores them (the drawing in the TIFF standard).
    const UPRIGHT: [u8; 6] = [1, 2, 3, 4, 5, 6];
    const STORED: [(u64, [u8; 6]); 8] = [
        (1, [1, 2, 3, 4, 5, 6]),
        (2, [3, 2, 1, 6, 5, 4]),
        (3, [6, 5, 4, 3, 2, 1]),
        (4, [4, 5, 6, 1, 2, 3]),
        (5, [1, 4, 2, 5, 3, 6]),
        (6, [3, 6, 2, 5, 1, 4]),
        (7, [6, 3, 5, 2, 4, 1]),
        (8, [4, 1, 5, 2, 6, 3]),
    ];

    #[test]
    fn all_eight_are_turned_upright() {
        for (tag, stored) in STORED {
            let orientation = Orientation::from_tag(tag);
            let (width, height) = orientation.upright_size(3, 2);
            assert_eq!(orientation.apply::<1>(stored.to_vec(), width, height), UPRIGHT, "{tag}");
        }
    }

    #[test]
    fn a_part_of_the_upright_image_is_the_same_part_stored() {
        for (tag, stored) in STORED {
            let orientation = Orientation::from_tag(tag);
            let (width, height) = orientation.upright_size(3, 2);
            let rect = Rect { x: 1, y: 0, width: 2, height: 1 };
            let part = orientation.stored_rect(rect, width, height);
            let rows = stored.chunks(width as usize).skip(part.y as usize).take(part.height as usize);
            let part_pixels: Vec<u8> =
                rows.flat_map(|row| &row[part.x as usize..][..part.width as usize]).copied().collect();
            assert_eq!(orientation.apply::<1>(part_pixels, part.width, part.height), [2, 3], "{tag}");
            let edges = [part.x, part.y, part.right(), part.bottom()].map(f64::from);
            let upright = orientation.upright_edges(edges, (f64::from(width), f64::from(height)));
            assert_eq!(upright, [1.0, 0.0, 3.0, 1.0], "{tag}");
        }
    }

    #[test]
    fn exif_is_read_in_both_byte_orders() {
        let little = b"II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\x01\0\0\0x\0\0\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        for exif in [little.as_slice(), big] {
            assert_eq!(Orientation::from_exif(exif), Some(Orientation::from_tag(6)));
        }
        assert_eq!(Orientation::from_exif(&little[..30]), None);
        assert_eq!(Orientation::from_exif(b"II*\0\xff\xff\xff\xff"), None);
    }
}
