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
        // The image is read once for both.
        for y in 0..part_height {
            let row = &image.pixels[(top + y) * stride + left..][..part_width];
            for image in &mut smaller {
                image.add_row(y, row);
            }
        }
        [smaller[0].pixels(), smaller[1].pixels()]
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
    /// Of each column the sum of the rows so far that the next row of pixels is made of; and a 0.
    along: Vec<u32>,
    /// Width of the narrowest part of a row; no part is wider by more than 1.
    narrowest: usize,
    /// By how much each part is wider, 0 or 1.
    wider: Vec<u32>,
    /// `[rows, columns]`: the sums of the parts.
    sums: Vec<u32>,
}

impl Smaller {
    fn new((width, height): (usize, usize), part_width: usize, part_height: usize) -> Self {
        let edges = |n: usize, length: usize| (0..=n).map(|i| (i * length + n / 2) / n).collect::<Vec<_>>();
        let (columns, narrowest) = (edges(width, part_width), part_width / width);
        Self {
            wider: columns.windows(2).map(|edges| (edges[1] - edges[0] - narrowest) as u32).collect(),
            narrowest,
            columns,
            rows: edges(height, part_height),
            next: 1,
            along: vec![0; part_width + 1],
            sums: vec![0; width * height],
        }
    }

    /// Adds row `y` of the image.
    #[inline(always)]
    fn add_row(&mut self, y: usize, row: &[u8]) {
        if self.rows[self.next - 1] == y {
            for (sum, v) in self.along.iter_mut().zip(row) {
                *sum = u32::from(*v);
            }
        } else {
            for (sum, v) in self.along.iter_mut().zip(row) {
                *sum += u32::from(*v);
            }
        }
        if self.rows[self.next] == y + 1 {
            match self.narrowest {
                2 => self.add_parts::<2>(),
                3 => self.add_parts::<3>(),
                4 => self.add_parts::<4>(),
                5 => self.add_parts::<5>(),
                6 => self.add_parts::<6>(),
                7 => self.add_parts::<7>(),
                _ => self.add_wide_parts(),
            }
            self.next += 1;
        }
    }

    /// Sums up parts of `N` or `N + 1` columns, without branches.
    #[inline(always)]
    fn add_parts<const N: usize>(&mut self) {
        let sums = &mut self.sums[(self.next - 1) * self.wider.len()..];
        for ((part, first), wider) in sums.iter_mut().zip(&self.columns).zip(&self.wider) {
            let columns = &self.along[*first..][..N + 1];
            *part = columns[..N].iter().sum::<u32>() + columns[N] * wider;
        }
    }

    #[inline(always)]
    fn add_wide_parts(&mut self) {
        let parts = self.wider.len();
        for (part, edges) in self.sums[(self.next - 1) * parts..].iter_mut().zip(self.columns.windows(2)) {
            *part = self.along[edges[0]..edges[1]].iter().sum();
        }
    }

    /// The means of the parts, rounded to nearest, halves up.
    #[inline(always)]
    fn pixels(&self) -> Vec<u8> {
        let parts = self.wider.len();
        let mut pixels = vec![0; self.sums.len()];
        let rows = pixels.chunks_exact_mut(parts).zip(self.sums.chunks_exact(parts)).zip(self.rows.windows(2));
        for ((row, sums), edges) in rows {
            let number = [self.narrowest, self.narrowest + 1].map(|columns| ((edges[1] - edges[0]) * columns) as f32);
            // A quarter of a unit is more than the error of the product, except in parts of many thousands of pixels:
            // there, either neighbour of a value half-way between two is right.
            let (half, inverse) = (number.map(|n| n / 2.0 + 0.25), number.map(|n| 1.0 / n));
            let (more, less) = (half[1] - half[0], inverse[1] - inverse[0]);
            for ((v, sum), wider) in row.iter_mut().zip(sums).zip(&self.wider) {
                let wider = *wider as i32 as f32;
                let mean = (*sum as i32 as f32 + (half[0] + more * wider)) * (inverse[0] + less * wider);
                *v = whole_part(mean);
            }
        }
        pixels
    }
}

/// The whole part of a number from 0 to 255 that is no whole number. In vectors, which a conversion is not done in.
#[inline(always)]
fn whole_part(v: f32) -> u8 {
    // From this number on, the last bit of the fraction is worth 1.
    const UNITS: f32 = 12_582_912.0;
    (v - 0.5 + UNITS).to_bits() as u8
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
    let (mut area, mut any) = (Vec::new(), false);
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
            any = true;
        }
    }
    if !any {
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
