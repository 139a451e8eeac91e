//! What all decoders have in common: how large an image may be, and what its values mean.

/// Larger images (such as 8192 x 8192) are rejected before memory is allocated for them, because a header can claim any
/// size. The most that decoding takes is 15 bytes per pixel, in progressive JPEGs.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Larger files are not read as images. No compression makes one of [`MAX_PIXELS`] with 16 bits per channel larger.
pub const MAX_BYTES: u64 = 500_000_000;

/// No format stores more pixels in a byte, except for images of one colour.
const MAX_PIXELS_PER_BYTE: u64 = 4096;

/// 16-bit samples up to this value could have 14 bits or fewer.
pub const FEWER_BITS: u16 = 16383;

/// Rejects sizes that cannot be true.
pub fn check(width: u32, height: u32, file_bytes: usize) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(format!("expected 1 to {MAX_PIXELS} pixels, found a header that claims {width} x {height}"));
    }
    if pixels / MAX_PIXELS_PER_BYTE > file_bytes as u64 {
        return Err(format!("a file of {file_bytes} bytes cannot hold the {width} x {height} pixels that it claims"));
    }
    Ok(())
}

/// What to say of 16-bit samples of which the largest is `most`.
pub fn few_bits(most: u16) -> String {
    let bits = [8, 10, 12, 14].into_iter().find(|bits| u32::from(most) < 1 << bits).unwrap_or(16);
    format!(
        "the largest of its 16-bit values is {most}, as in {bits}-bit data, so its brightness is unknown: save it with \
         8 bits per channel"
    )
}

/// A colour with opacity `alpha` over a grey ground.
pub fn over(colour: [u8; 3], alpha: u8, ground: u8) -> [u8; 3] {
    let alpha = u32::from(alpha);
    colour.map(|v| ((u32::from(v) * alpha + u32::from(ground) * (255 - alpha) + 127) / 255) as u8)
}
