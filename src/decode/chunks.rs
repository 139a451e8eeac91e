//! Number of frames and orientation, from the chunks of PNG, WebP and GIF files.

use super::orientation::Orientation;

/// What the chunks of a file say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Frames of an animation; 0 or 1 for a still image.
    pub frames: usize,
    /// The tag of EXIF.
    pub orientation: Option<Orientation>,
    /// How many bits of a sample are used is stated (PNG's `sBIT`).
    pub states_bits: bool,
}

/// Reads the chunks of a PNG.
pub fn png(bytes: &[u8]) -> Chunks {
    let mut chunks = Chunks::default();
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = after.get(..length) else { break };
        match &head[4..] {
            b"acTL" if length >= 4 => {
                chunks.frames = u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize;
            }
            b"eXIf" => chunks.orientation = Orientation::from_exif(body),
            b"sBIT" => chunks.states_bits = true,
            _ => {}
        }
        rest = after.get(length + 4..).unwrap_or_default();
    }
    chunks
}

/// Reads the chunks of a WebP.
pub fn webp(bytes: &[u8]) -> Chunks {
    let mut chunks = Chunks::default();
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(body) = after.get(..length) else { break };
        match &head[..4] {
            b"ANMF" => chunks.frames += 1,
            b"EXIF" => {
                chunks.orientation = Orientation::from_exif(body.strip_prefix(b"Exif\0\0").unwrap_or(body));
            }
            _ => {}
        }
        rest = after.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    chunks
}

/// Counts the frames of a GIF.
pub fn gif(bytes: &[u8]) -> Chunks {
    let mut chunks = Chunks::default();
    let table = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + table(bytes.get(10).copied().unwrap_or(0));
    loop {
        at += match bytes.get(at) {
            Some(0x21) => 2,
            Some(0x2C) => {
                chunks.frames += 1;
                11 + table(bytes.get(at + 9).copied().unwrap_or(0))
            }
            _ => return chunks,
        };
        // Blocks of up to 255 bytes; an empty one ends the list.
        while let Some(length) = bytes.get(at) {
            at += 1 + usize::from(*length);
            if *length == 0 {
                break;
            }
        }
    }
}
