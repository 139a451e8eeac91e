//! Decodes a part of an uncompressed 24-bit BMP, such as LISC's images.

use crate::rect::Rect;

/// The pixels inside `rect` as RGB, `[height, width, 3]`. `None` if the file is another kind of BMP or truncated, or if
/// `rect` is not inside the image.
pub fn decode(bytes: &[u8], rect: Rect) -> Option<Vec<u8>> {
    let word = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    // File header: "BM", size, reserved, offset of the pixels. Then the image header of at least 40 bytes.
    let (offset, header, width, height) = (word(10)?, word(14)?, word(18)?, word(22)?);
    let plain = bytes.starts_with(b"BM") && header >= 40 && half(26)? == 1 && half(28)? == 24 && word(30)? == 0;
    if !plain || width <= 0 || height == 0 {
        return None;
    }
    let (offset, width, rows) = (usize::try_from(offset).ok()?, width as usize, height.unsigned_abs() as usize);
    // Rows are padded to 4 bytes, and go from bottom to top unless the height is negative.
    let stride = (width * 3).next_multiple_of(4);
    let [x, y, w, h] = <[u32; 4]>::from(rect).map(|v| v as usize);
    if x.checked_add(w)? > width || y.checked_add(h)? > rows {
        return None;
    }
    let pixels = bytes.get(offset..offset.checked_add(stride.checked_mul(rows)?)?)?;
    let mut rgb = vec![0; w * h * 3];
    for (i, out) in rgb.chunks_exact_mut((w * 3).max(1)).enumerate() {
        let row = if height > 0 { rows - 1 - (y + i) } else { y + i };
        let source = &pixels[row * stride + x * 3..][..w * 3];
        for (out, source) in out.as_chunks_mut::<3>().0.iter_mut().zip(source.as_chunks::<3>().0) {
            *out = [source[2], source[1], source[0]];
        }
    }
    Some(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5 x 3 different pixels; rows of 15 bytes are padded to 16.
    fn image() -> image::RgbImage {
        image::RgbImage::from_fn(5, 3, |x, y| image::Rgb([(x * 40) as u8, (y * 90) as u8, (x * y) as u8]))
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image().write_to(&mut bytes, image::ImageFormat::Bmp).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn parts_equal_the_cropped_image() {
        let mut top_down = encoded();
        top_down[22..26].copy_from_slice(&(-3i32).to_le_bytes());
        for (x, y, width, height) in [(0, 0, 5, 3), (1, 1, 3, 2), (4, 2, 1, 1), (0, 1, 5, 1)] {
            let rect = Rect { x, y, width, height };
            let part = image::imageops::crop_imm(&image(), x, y, width, height).to_image().into_raw();
            assert_eq!(decode(&encoded(), rect).unwrap(), part, "{rect:?}");
            let flipped = image::imageops::flip_vertical(&image());
            let part = image::imageops::crop_imm(&flipped, x, y, width, height).to_image().into_raw();
            assert_eq!(decode(&top_down, rect).unwrap(), part, "{rect:?}, top row first");
        }
    }

    #[test]
    fn unsupported_files_are_rejected() {
        let (bytes, whole) = (encoded(), Rect { x: 0, y: 0, width: 5, height: 3 });
        assert_eq!(decode(&bytes[..bytes.len() - 1], whole), None);
        assert_eq!(decode(&bytes, Rect { x: 1, ..whole }), None);
        assert_eq!(decode(b"BM", whole), None);
        let mut palette = bytes.clone();
        palette[28] = 8;
        assert_eq!(decode(&palette, whole), None);
    }
}
