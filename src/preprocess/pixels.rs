//! Squares of images: cut out, resized, and as the part of an image that has to be decoded for them.

use super::settings::{Filter, Square};
use crate::decode::Rgb;
use crate::rect::Rect;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use std::borrow::Cow;
use std::cell::RefCell;

thread_local! {
    /// One per thread, because it keeps its buffers.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// Squares with a longer side than this are first reduced by leaving out pixels, px: one around a cell of 60,000 x 1 px
/// would take 11 GB.
const MAX_SIDE_PX: i64 = 8192;

/// `square` of the image, `[side, side, 3]`, and its side. Pixels outside the image are `outside`, or the edge's.
pub(super) fn cut_out(image: &Rgb, square: Square, outside: Option<[u8; 3]>) -> (Cow<'_, [u8]>, u32) {
    let (width, height) = (i64::from(image.width_px), i64::from(image.height_px));
    if (square.x, square.y, square.side, square.side) == (0, 0, width, height) {
        return (Cow::Borrowed(&image.pixels), image.width_px);
    }
    let step = (square.side + MAX_SIDE_PX - 1) / MAX_SIDE_PX;
    let side = square.side / step;
    // The nearest pixel of the image, and whether it is the one that is meant.
    let place = |start: i64, end: i64| -> Vec<(usize, bool)> {
        let at = (0..side).map(|i| start + i * step);
        at.map(|at| (at.clamp(0, end - 1) as usize, (0..end).contains(&at))).collect()
    };
    let (columns, rows) = (place(square.x, width), place(square.y, height));
    let mut cut = Vec::with_capacity((side * side * 3) as usize);
    for (y, in_rows) in rows {
        let row = &image.pixels[y * width as usize * 3..][..width as usize * 3];
        for (x, in_columns) in &columns {
            match outside {
                Some(colour) if !(in_rows && *in_columns) => cut.extend_from_slice(&colour),
                _ => cut.extend_from_slice(&row[x * 3..x * 3 + 3]),
            }
        }
    }
    (Cow::Owned(cut), side as u32)
}

/// A square image of `from` px a side as one of `to` px.
pub fn resize(pixels: &[u8], from: u32, to: u32, filter: Filter) -> Vec<u8> {
    resize_sides(pixels, [from; 2], [to; 2], filter)
}

/// An image of a width and height as one of others, px.
pub(super) fn resize_sides(pixels: &[u8], from: [u32; 2], to: [u32; 2], filter: Filter) -> Vec<u8> {
    if from == to {
        return pixels.to_vec();
    }
    let filter = match filter {
        Filter::Bilinear => FilterType::Bilinear,
        Filter::Box => FilterType::Box,
        Filter::Lanczos3 => FilterType::Lanczos3,
    };
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    // Typed: the generic way compiles the resizer for every pixel there is.
    let source = TypedImageRef::<U8x3>::from_buffer(from[0], from[1], pixels).expect("three bytes for each pixel");
    let mut resized = vec![0; (to[0] * to[1] * 3) as usize];
    let mut target = TypedImage::<U8x3>::from_buffer(to[0], to[1], &mut resized).expect("three bytes for each pixel");
    RESIZER.with_borrow_mut(|r| r.resize_typed(&source, &mut target, &options)).expect("the whole source");
    resized
}

/// The part of `square` that lies in an image, and the square as seen from that part.
pub fn part(image: &Rgb, square: Square) -> (Rgb, Square) {
    let rect = inside(square, image.width_px, image.height_px);
    let rows = (rect.y..rect.y + rect.height).flat_map(|y| {
        let start = 3 * (y as usize * image.width_px as usize + rect.x as usize);
        image.pixels[start..start + 3 * rect.width as usize].iter().copied()
    });
    (Rgb { width_px: rect.width, height_px: rect.height, pixels: rows.collect() }, seen_from(rect, square))
}

/// The part of a square that lies in an image of that size; never empty.
pub(crate) fn inside(square: Square, width_px: u32, height_px: u32) -> Rect {
    let (width, height) = (i64::from(width_px), i64::from(height_px));
    let (x, y) = (square.x.clamp(0, width - 1), square.y.clamp(0, height - 1));
    Rect {
        x: x as u32,
        y: y as u32,
        width: ((square.x + square.side).min(width) - x) as u32,
        height: ((square.y + square.side).min(height) - y) as u32,
    }
}

pub(super) fn seen_from(rect: Rect, square: Square) -> Square {
    Square { x: square.x - i64::from(rect.x), y: square.y - i64::from(rect.y), ..square }
}
