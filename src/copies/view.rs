//! The small grey images in which copies are looked for: the longer side always has the same length, and what was
//! filled in around a rotated or cut-out image is masked.

use crate::decode::Grey;
use crate::rect::Rect;
use fast_image_resize as fir;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

/// Longer side of the view that is searched for keypoints, px.
const DETECTION_SIDE: usize = 96;
/// Longer side of the view that is kept, px.
const SIDE: usize = 64;
/// Least length of the shorter side, px.
const SHORTEST: usize = 16;
/// How far around what was filled in pixels are not used, px: resizing and blur mix the two.
const MARGIN: usize = 2;

/// A small grey image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Width, px.
    pub width: usize,
    /// Height, px.
    pub height: usize,
    /// `[height, width]`, 0 to 255.
    pub pixels: Vec<u8>,
    /// `[height, width]`: false where the image was filled in. Empty if it was not.
    pub valid: Vec<bool>,
    /// Where the view lies in the image, and how large its pixels are there.
    pub frame: Frame,
}

/// Where a view lies in its image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Left edge of the view, px of the image.
    pub left: f32,
    /// Top edge of the view, px of the image.
    pub top: f32,
    /// Width of a pixel of the view, px of the image.
    pub across: f32,
    /// Height of a pixel of the view, px of the image.
    pub down: f32,
}

impl View {
    /// Resizes an image: to the view that is searched for keypoints, and to the one that is kept. Margins that were
    /// filled in are left out.
    pub fn pair(image: &Grey) -> (Self, Self) {
        let whole = Rect::whole(image.width_px, image.height_px);
        let views = Self::pair_of(image, whole);
        match views.0.content() {
            Some(content) => Self::pair_of(image, content),
            None => views,
        }
    }

    fn pair_of(image: &Grey, part: Rect) -> (Self, Self) {
        let (w, h) = (part.width as usize, part.height as usize);
        let longer = w.max(h);
        let side = |v: usize, side: usize| ((v * side + longer / 2) / longer).max(SHORTEST);
        let [detection, kept] = [DETECTION_SIDE, SIDE].map(|longer_side| (side(w, longer_side), side(h, longer_side)));
        // Averages over areas are fast, but not for an image that is hardly larger than the view.
        let pixels = if w >= 2 * detection.0 && h >= 2 * detection.1 {
            averages(image, part, [detection, kept])
        } else {
            [detection, kept].map(|(width, height)| interpolated(image, part, width, height))
        };
        let [first, second] = pixels;
        (Self::new(first, detection, part), Self::new(second, kept, part))
    }

    fn new(pixels: Vec<u8>, (width, height): (usize, usize), part: Rect) -> Self {
        let (w, h) = (part.width, part.height);
        let valid = valid(&pixels, width, height);
        let (across, down) = (w as f32 / width as f32, h as f32 / height as f32);
        let frame = Frame { left: part.x as f32, top: part.y as f32, across, down };
        Self { width, height, pixels, valid, frame }
    }

    /// The part of the image inside margins that were filled in; none if there are no such margins, or hardly anything
    /// inside them.
    fn content(&self) -> Option<Rect> {
        if self.valid.is_empty() {
            return None;
        }
        let inside = |x: usize, y: usize| self.valid[y * self.width + x];
        let columns = || (0..self.width).filter(|x| (0..self.height).any(|y| inside(*x, y)));
        let rows = || (0..self.height).filter(|y| (0..self.width).any(|x| inside(x, *y)));
        let (left, right) = (columns().next()?, columns().next_back()? + 1);
        let (top, bottom) = (rows().next()?, rows().next_back()? + 1);
        let (width, height) = (right - left, bottom - top);
        let whole = width + 2 * MARGIN >= self.width && height + 2 * MARGIN >= self.height;
        if whole || width < SHORTEST || height < SHORTEST {
            return None;
        }
        let Frame { across, down, .. } = self.frame;
        let (x, y) = ((left as f32 * across) as u32, (top as f32 * down) as u32);
        let (width, height) = ((width as f32 * across) as u32, (height as f32 * down) as u32);
        Some(Rect { x, y, width: width.max(1), height: height.max(1) })
    }

    /// Whether a pixel belongs to the image rather than to what was filled in.
    #[inline]
    pub fn is_valid(&self, x: usize, y: usize) -> bool {
        self.valid.is_empty() || self.valid[y * self.width + x]
    }

    /// The pixels with smooth values where the image was filled in, so that its edge is not a feature.
    pub fn filled(&self) -> Vec<f32> {
        let mut pixels: Vec<f32> = self.pixels.iter().map(|v| f32::from(*v)).collect();
        if !self.valid.is_empty() {
            // White is close to the ground of a blood film: it is no strong edge, and a bright ground may be white too.
            let black = |(valid, v): (&bool, &u8)| !valid && *v < 128;
            let weights: Vec<f32> =
                self.valid.iter().zip(&self.pixels).map(|at| if black(at) { 0.0 } else { 1.0 }).collect();
            fill(&mut pixels, &weights, self.width, self.height);
        }
        pixels
    }
}

/// Smaller images of these widths and heights, whose pixels are the means of equal parts of the image.
fn averages(image: &Grey, part: Rect, sizes: [(usize, usize); 2]) -> [Vec<u8>; 2] {
    Arch::new().dispatch(Averages { image, part, sizes })
}

/// [`averages`], compiled for the processor's vector instructions.
struct Averages<'a> {
    image: &'a Grey,
    part: Rect,
    sizes: [(usize, usize); 2],
}

impl WithSimd for Averages<'_> {
    type Output = [Vec<u8>; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [Vec<u8>; 2] {
        let Self { image, part, sizes } = self;
        let (stride, left, top) = (image.width_px as usize, part.x as usize, part.y as usize);
        let (part_width, part_height) = (part.width as usize, part.height as usize);
        let mut smaller = sizes.map(|size| Smaller::new(size, part_width, part_height));
        // Of each column the sum of all rows so far: the image is read once for both.
        let mut sums = vec![0u32; part_width];
        for y in 0..part_height {
            let row = &image.pixels[(top + y) * stride + left..][..part_width];
            for (sum, v) in sums.iter_mut().zip(row) {
                *sum += u32::from(*v);
            }
            for image in &mut smaller {
                if image.rows[image.next] == y + 1 {
                    image.add_row(&sums);
                }
            }
        }
        smaller.map(|image| image.pixels)
    }
}

/// A smaller image while it is made.
struct Smaller {
    /// Where the parts of a row begin, and where the last one ends.
    columns: Vec<usize>,
    /// The same for the rows.
    rows: Vec<usize>,
    /// The edge that the next row of pixels ends at.
    next: usize,
    /// Of each column the sum of all rows before those of the next row of pixels.
    before: Vec<u32>,
    /// Of the next row of pixels the sums of all columns up to each.
    along: Vec<u32>,
    /// Widths of the parts of a row.
    widths: Vec<f32>,
    /// Of the next row of pixels the sums of the parts.
    sums: Vec<f32>,
    pixels: Vec<u8>,
}

impl Smaller {
    fn new((width, height): (usize, usize), part_width: usize, part_height: usize) -> Self {
        let edges = |n: usize, length: usize| (0..=n).map(|i| (i * length + n / 2) / n).collect::<Vec<_>>();
        let columns = edges(width, part_width);
        Self {
            widths: columns.windows(2).map(|edges| (edges[1] - edges[0]) as f32).collect(),
            columns,
            rows: edges(height, part_height),
            next: 1,
            before: vec![0; part_width],
            along: vec![0; part_width],
            sums: vec![0.0; width],
            pixels: Vec::with_capacity(width * height),
        }
    }

    /// Adds a row of pixels. `sums` are those of the columns down to its lower edge.
    #[inline(always)]
    fn add_row(&mut self, sums: &[u32]) {
        let rows = self.rows[self.next] - self.rows[self.next - 1];
        // One loop for what vectors can do, and one for the running sum. It may overflow, but not its differences.
        for ((along, total), before) in self.along.iter_mut().zip(sums).zip(&mut self.before) {
            (*along, *before) = (total - *before, *total);
        }
        let mut sum = 0u32;
        for along in &mut self.along {
            sum = sum.wrapping_add(*along);
            *along = sum;
        }
        let mut before = 0;
        for (part, edge) in self.sums.iter_mut().zip(&self.columns[1..]) {
            let sum = self.along[edge - 1];
            *part = sum.wrapping_sub(before) as i32 as f32;
            before = sum;
        }
        let rows = rows as f32;
        let means = self.sums.iter().zip(&self.widths).map(|(sum, width)| (sum / (rows * width) + 0.5) as u8);
        self.pixels.extend(means);
        self.next += 1;
    }
}

/// A part of an image at another size, by linear interpolation, or averages of more pixels where it becomes smaller.
fn interpolated(image: &Grey, part: Rect, width: usize, height: usize) -> Vec<u8> {
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear)).crop(
        part.x.into(),
        part.y.into(),
        part.width.into(),
        part.height.into(),
    );
    // Typed: the generic way compiles the resizer for every pixel there is.
    let source = TypedImageRef::<U8>::from_buffer(image.width_px, image.height_px, &image.pixels);
    let source = source.expect("a byte a pixel");
    let mut small = vec![0; width * height];
    let mut target = TypedImage::<U8>::from_buffer(width as u32, height as u32, &mut small).expect("a byte a pixel");
    fir::Resizer::new().resize_typed(&source, &mut target, &options).expect("a part of the image");
    small
}

/// Which pixels were not filled in: areas of one dark value or of white that touch the border, and two pixels around
/// them. Empty if all are valid.
fn valid(pixels: &[u8], width: usize, height: usize) -> Vec<bool> {
    const DARK: u8 = 100;
    const WHITE: u8 = 250;
    /// How much the values of an area may differ.
    const RANGE: u8 = 4;
    /// An area that is smaller than a part in so many is not one that was filled in.
    const PART: usize = 250;
    let mut filled = vec![false; pixels.len()];
    let mut visited = vec![false; pixels.len()];
    let border = (0..width).flat_map(|x| [x, (height - 1) * width + x]);
    let mut area = Vec::new();
    for seed in border.chain((0..height).flat_map(|y| [y * width, y * width + width - 1])) {
        let value = pixels[seed];
        if visited[seed] || (value > DARK && value < WHITE) {
            continue;
        }
        visited[seed] = true;
        area.clear();
        area.push(seed);
        let mut next = 0;
        while next < area.len() {
            let at = area[next];
            let (x, y) = (at % width, at / width);
            let mut visit = |inside: bool, neighbour: usize| {
                if inside && !visited[neighbour] && pixels[neighbour].abs_diff(value) <= RANGE {
                    visited[neighbour] = true;
                    area.push(neighbour);
                }
            };
            visit(x > 0, at.wrapping_sub(1));
            visit(x + 1 < width, at + 1);
            visit(y > 0, at.wrapping_sub(width));
            visit(y + 1 < height, at + width);
            next += 1;
        }
        if area.len() * PART >= pixels.len() {
            area.iter().for_each(|at| filled[*at] = true);
        }
    }
    if !filled.contains(&true) {
        return Vec::new();
    }
    let mut valid = vec![true; pixels.len()];
    for at in (0..pixels.len()).filter(|at| filled[*at]) {
        let (x, y) = (at % width, at / width);
        for ny in y.saturating_sub(MARGIN)..(y + MARGIN + 1).min(height) {
            valid[ny * width..][x.saturating_sub(MARGIN)..(x + MARGIN + 1).min(width)].fill(false);
        }
    }
    valid
}

/// Replaces pixels of weight 0 by values interpolated from coarser and coarser averages of the others.
fn fill(pixels: &mut [f32], weights: &[f32], width: usize, height: usize) {
    if width <= 1 && height <= 1 || weights.iter().all(|w| *w > 0.0) {
        return;
    }
    let (w, h) = (width.div_ceil(2), height.div_ceil(2));
    let (mut sums, mut coarse_weights) = (vec![0f32; w * h], vec![0f32; w * h]);
    for y in 0..height {
        for x in 0..width {
            let (weight, at) = (weights[y * width + x], y / 2 * w + x / 2);
            sums[at] += weight * pixels[y * width + x];
            coarse_weights[at] += weight;
        }
    }
    for (sum, weight) in sums.iter_mut().zip(&mut coarse_weights) {
        if *weight > 0.0 {
            *sum /= *weight;
            *weight = weight.min(1.0);
        }
    }
    fill(&mut sums, &coarse_weights, w, h);
    let sample = |x: f32, y: f32| bilinear(&sums, w, h, x, y);
    for y in 0..height {
        for x in 0..width {
            let weight = weights[y * width + x];
            if weight < 1.0 {
                let coarse = sample((x as f32 - 0.5) / 2.0, (y as f32 - 0.5) / 2.0);
                let v = &mut pixels[y * width + x];
                *v = weight * *v + (1.0 - weight) * coarse;
            }
        }
    }
}

/// The value at a position between pixels; beyond the border, that of the nearest pixel.
#[inline(always)]
pub fn bilinear(pixels: &[f32], width: usize, height: usize, x: f32, y: f32) -> f32 {
    let (x, y) = (x.clamp(0.0, (width - 1) as f32), y.clamp(0.0, (height - 1) as f32));
    let (x0, y0) = (x as usize, y as usize);
    let (x1, y1) = ((x0 + 1).min(width - 1), (y0 + 1).min(height - 1));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    let (a, b) = (pixels[y0 * width + x0], pixels[y0 * width + x1]);
    let (c, d) = (pixels[y1 * width + x0], pixels[y1 * width + x1]);
    let (top, bottom) = (a + (b - a) * fx, c + (d - c) * fx);
    top + (bottom - top) * fy
}
