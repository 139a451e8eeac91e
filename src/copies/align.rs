//! Two images compared by their pixels: aligned as well as an affine transform can, and correlated where they overlap.
//!
//! What is compared is the texture, the deviation from the local mean in local standard deviations: it does not depend
//! on brightness, contrast or stain. Images are aligned by what stands out; a plain ground has hardly any such texture.
//! They are then compared by all texture alike, down to the grain: two cells of the same shape on plain grounds differ
//! in it, and copies do not.

use super::consensus::Affine;
use super::keypoints::blur;
use super::view::View;
use pulp::{Arch, Simd, WithSimd};

/// Texture of an image.
pub struct Texture {
    width: usize,
    height: usize,
    /// `[height, width]`; 0 where the image was filled in.
    fine: Vec<f32>,
    /// The same, blurred.
    coarse: Vec<f32>,
    /// `[height, width]`: the texture with that of plain areas; 0 where the image was filled in.
    even: Vec<f32>,
    /// `[height, width]`: local standard deviation, grey levels.
    deviation: Vec<f32>,
    /// 1 where the image is valid, else 0.
    valid: Vec<f32>,
}

impl Texture {
    /// The texture of a view.
    pub fn new(view: &View) -> Self {
        Arch::new().dispatch(Make(view))
    }
}

/// [`Texture::new`], compiled for the processor's vector instructions.
struct Make<'a>(&'a View);

impl WithSimd for Make<'_> {
    type Output = Texture;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Texture {
        let view = self.0;
        /// Blur that removes noise, px.
        const FINE: f32 = 0.7;
        /// Blur that gives the local mean and deviation, px.
        const LOCAL: f32 = 3.5;
        let (width, height) = (view.width, view.height);
        let pixels = blur(simd, &view.filled(), width, height, FINE);
        let mean = blur(simd, &pixels, width, height, LOCAL);
        let (mut fine, mut squares) = (vec![0f32; width * height], vec![0f32; width * height]);
        for (((d, s), v), m) in fine.iter_mut().zip(&mut squares).zip(&pixels).zip(&mean) {
            *d = v - m;
            *s = *d * *d;
        }
        let variance = blur(simd, &squares, width, height, LOCAL);
        let usual = squares.iter().sum::<f32>() / squares.len() as f32;
        /// Variance below which there is no texture, squared grey levels.
        const NONE: f32 = 0.25;
        let even = fine.iter().zip(&variance).map(|(d, v)| d / (v + NONE).sqrt()).collect::<Vec<f32>>();
        let deviation = variance.iter().map(|v| v.max(0.0).sqrt()).collect();
        // Where there is nothing to see, noise must not become texture.
        let least = 0.1 * usual + 2.0;
        for (d, v) in fine.iter_mut().zip(&variance) {
            *d /= (v + least).sqrt();
        }
        let (mut valid, mut even) = (vec![1f32; width * height], even);
        for (((m, d), e), inside) in valid.iter_mut().zip(&mut fine).zip(&mut even).zip(&view.valid) {
            if !inside {
                (*m, *d, *e) = (0.0, 0.0, 0.0);
            }
        }
        let coarse = blur(simd, &fine, width, height, 1.5);
        Texture { width, height, fine, coarse, even, deviation, valid }
    }
}

/// How well two aligned images agree.
#[derive(Clone, Copy, Debug)]
pub struct Agreement {
    /// From the first view to the second.
    pub map: Affine,
    /// Share of the smaller image that overlaps with the other, 0 to 1.
    pub overlap: f32,
    /// Correlation of the textures where they overlap, -1 to 1.
    pub correlation: f32,
    /// Share of the overlap where both images show something, 0 to 1: the rest is plain in one of them.
    pub structure: f32,
}

/// Improves a map from the view of `a` to that of `b`, and compares the images. None if they are so different that
/// they need not be aligned to the pixel; also where the correlation of their blurred textures with the map given is
/// below `least`.
pub fn align(a: &Texture, b: &Texture, map: Affine, least: f32) -> Option<Agreement> {
    Arch::new().dispatch(Align { a, b, map, least })
}

/// [`align`], compiled for the processor's vector instructions.
struct Align<'a> {
    a: &'a Texture,
    b: &'a Texture,
    map: Affine,
    least: f32,
}

impl WithSimd for Align<'_> {
    type Output = Option<Agreement>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Option<Agreement> {
        /// Least correlations of the blurred textures of images that may be copies: after the first steps, and before
        /// the last ones. Of 19,500 pairs that were found one has less than 0.75 then, of 113,000 others half.
        const POSSIBLE: [f32; 2] = [0.35, 0.7];
        let Self { a, b, mut map, least } = self;
        let mut gain = 1.0;
        let coarse = (a.coarse.as_slice(), b.coarse.as_slice());
        if compare(a, b, coarse, map, 2).correlation < least {
            return None;
        }
        for possible in POSSIBLE {
            let mut slope = None;
            for _ in 0..3 {
                map = step(simd, a, b, coarse, map, &mut gain, &mut slope, 2);
            }
            if compare(a, b, coarse, map, 2).correlation < possible {
                return None;
            }
        }
        let mut slope = None;
        for _ in 0..4 {
            map = step(simd, a, b, (&a.fine, &b.fine), map, &mut gain, &mut slope, 1);
        }
        Some(compare(a, b, (&a.even, &b.even), map, 1))
    }
}

/// Where a pixel of the first view lies in the second: the first of its four neighbours, and how far it lies from it.
#[inline(always)]
fn place(a: &Texture, b: &Texture, map: Affine, x: usize, y: usize) -> Option<(usize, f32, f32)> {
    let (u, v) = map.apply(x as f32, y as f32);
    let inside = u >= 0.0 && v >= 0.0 && u < (b.width - 1) as f32 && v < (b.height - 1) as f32;
    if !inside || a.valid[y * a.width + x] == 0.0 {
        return None;
    }
    let at = v as usize * b.width + u as usize;
    (b.valid[at] != 0.0).then_some((at, u - u.floor(), v - v.floor()))
}

/// Pixels that are summed at a time; a multiple of any vector's length.
const BLOCK: usize = 256;

/// Pixels of the overlap of two images.
struct Block {
    len: usize,
    /// Four neighbours in the second image, how far the pixel is from the first of them, its value in the first image,
    /// and where it lies there from the centre.
    pixels: [[f32; BLOCK]; 9],
    /// How the value in the second image changes with each number of the map, and the difference of the two values.
    rows: [[f32; BLOCK]; 7],
}

/// Sums over the overlap.
#[derive(Default)]
struct Sums {
    /// Products of the rows with each other, and with the differences.
    products: [[f64; 7]; 6],
    /// Squares of the first and the second image, and their product.
    aa: f64,
    bb: f64,
    ab: f64,
    n: usize,
}

impl Block {
    /// Adds the pixels to the sums, without the rows' products with each other if `differences_only`, and empties the
    /// block.
    #[inline(always)]
    fn add_to<S: Simd>(&mut self, simd: S, gain: f32, differences_only: bool, sums: &mut Sums) {
        for pixels in &mut self.pixels {
            pixels[self.len..].fill(0.0);
        }
        let used = self.len.div_ceil(S::F32_LANES);
        let [p, q, r, s, fu, fv, target, x, y] = self.pixels.each_ref().map(|values| S::as_simd_f32s(values).0);
        let [xx, xy, x0, yx, yy, y0, difference] = self.rows.each_mut().map(|values| S::as_mut_simd_f32s(values).0);
        let (gain, one) = (simd.splat_f32s(gain), simd.splat_f32s(1.0));
        let [mut aa, mut bb, mut ab] = [simd.splat_f32s(0.0); 3];
        for i in 0..used {
            let [du, dv] = [simd.sub_f32s(one, fu[i]), simd.sub_f32s(one, fv[i])];
            let across = |l, r| simd.mul_add_e_f32s(l, du, simd.mul_f32s(r, fu[i]));
            let [top, bottom] = [across(p[i], q[i]), across(r[i], s[i])];
            let value = simd.mul_f32s(gain, simd.mul_add_e_f32s(top, dv, simd.mul_f32s(bottom, fv[i])));
            let [upper, lower] = [simd.sub_f32s(q[i], p[i]), simd.sub_f32s(s[i], r[i])];
            let gu = simd.mul_f32s(gain, simd.mul_add_e_f32s(upper, dv, simd.mul_f32s(lower, fv[i])));
            let gv = simd.mul_f32s(gain, simd.sub_f32s(bottom, top));
            (xx[i], xy[i], x0[i]) = (simd.mul_f32s(gu, x[i]), simd.mul_f32s(gu, y[i]), gu);
            (yx[i], yy[i], y0[i]) = (simd.mul_f32s(gv, x[i]), simd.mul_f32s(gv, y[i]), gv);
            difference[i] = simd.sub_f32s(target[i], value);
            aa = simd.mul_add_e_f32s(target[i], target[i], aa);
            bb = simd.mul_add_e_f32s(value, value, bb);
            ab = simd.mul_add_e_f32s(target[i], value, ab);
        }
        let total = |v| f64::from(simd.reduce_sum_f32s(v));
        sums.aa += total(aa);
        sums.bb += total(bb);
        sums.ab += total(ab);
        sums.n += self.len;
        let rows: [&[S::f32s]; 7] = [xx, xy, x0, yx, yy, y0, difference].map(|row| &row[..used]);
        for i in 0..6 {
            for j in if differences_only { 6 } else { i }..7 {
                let mut sum = simd.splat_f32s(0.0);
                for (a, b) in rows[i].iter().zip(rows[j]) {
                    sum = simd.mul_add_e_f32s(*a, *b, sum);
                }
                sums.products[i][j] += total(sum);
            }
        }
        self.len = 0;
    }
}

/// One step of Gauss and Newton towards the map with the least squared differences, where the values of `b` are
/// multiplied by `gain`, which is improved as well. The rows' products with each other are those in `slope` if there
/// are any, and are kept there: they change little from step to step.
#[inline(always)]
fn step<S: Simd>(
    simd: S,
    a: &Texture,
    b: &Texture,
    of: (&[f32], &[f32]),
    map: Affine,
    gain: &mut f32,
    slope: &mut Option<[[f64; 7]; 6]>,
    stride: usize,
) -> Affine {
    let (cx, cy) = (a.width as f32 / 2.0, a.height as f32 / 2.0);
    let mut block = Block { len: 0, pixels: [[0.0; BLOCK]; 9], rows: [[0.0; BLOCK]; 7] };
    let mut sums = Sums::default();
    for y in (0..a.height).step_by(stride) {
        for x in (0..a.width).step_by(stride) {
            let Some((at, fu, fv)) = place(a, b, map, x, y) else { continue };
            let near = &of.1[at..][..b.width + 2];
            let pixel = [
                near[0],
                near[1],
                near[b.width],
                near[b.width + 1],
                fu,
                fv,
                of.0[y * a.width + x],
                x as f32 - cx,
                y as f32 - cy,
            ];
            for (values, value) in block.pixels.iter_mut().zip(pixel) {
                values[block.len] = value;
            }
            block.len += 1;
            if block.len == BLOCK {
                block.add_to(simd, *gain, slope.is_some(), &mut sums);
            }
        }
    }
    block.add_to(simd, *gain, slope.is_some(), &mut sums);
    let Sums { products: mut normal, aa, bb, ab, n } = sums;
    if n < 50 || ab <= 0.0 {
        return map;
    }
    match slope {
        Some(slope) => {
            for (row, known) in normal.iter_mut().zip(slope.iter()) {
                row[..6].copy_from_slice(&known[..6]);
            }
        }
        None => {
            let upper = normal;
            for (i, row) in normal.iter_mut().enumerate() {
                row.iter_mut().zip(&upper).take(i).for_each(|(value, upper)| *value = upper[i]);
            }
            *slope = Some(normal);
        }
    }
    *gain = (*gain * (aa / bb.max(1e-6)).sqrt() as f32).clamp(0.3, 3.0);
    for (i, row) in normal.iter_mut().enumerate() {
        // A little stiffness against affine deformation.
        row[i] += if i % 3 == 2 { 1e-4 } else { 1e-2 } * n as f64;
    }
    let Some(change) = solve(normal) else { return map };
    let limited = |i: usize| (change[i] as f32).clamp(-LARGEST[i % 3], LARGEST[i % 3]);
    let [dxx, dxy, dx, dyx, dyy, dy] = std::array::from_fn(limited);
    Affine {
        xx: map.xx + dxx,
        xy: map.xy + dxy,
        x0: map.x0 + dx - dxx * cx - dxy * cy,
        yx: map.yx + dyx,
        yy: map.yy + dyy,
        y0: map.y0 + dy - dyx * cx - dyy * cy,
    }
}

/// Largest changes in one step: of factors, and of shifts in px.
const LARGEST: [f32; 3] = [0.1, 0.1, 3.0];

/// Solves six linear equations.
fn solve(mut m: [[f64; 7]; 6]) -> Option<[f64; 6]> {
    for i in 0..6 {
        let pivot = (i..6).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs()))?;
        m.swap(i, pivot);
        if m[i][i].abs() < 1e-12 {
            return None;
        }
        for r in 0..6 {
            if r != i {
                let factor = m[r][i] / m[i][i];
                let row = m[i];
                m[r].iter_mut().zip(row).skip(i).for_each(|(v, p)| *v -= factor * p);
            }
        }
    }
    Some(std::array::from_fn(|i| m[i][6] / m[i][i]))
}

/// Compares two images, given by their textures at each pixel, with a given map.
#[inline(always)]
fn compare(a: &Texture, b: &Texture, of: (&[f32], &[f32]), map: Affine, stride: usize) -> Agreement {
    /// Least local standard deviation of something to be seen, grey levels.
    const SEEN: f32 = 4.0;
    let (mut aa, mut bb, mut ab, mut pixels, mut seen) = (0f32, 0f32, 0f32, 0f32, 0f32);
    for y in (0..a.height).step_by(stride) {
        for x in (0..a.width).step_by(stride) {
            let Some((at, fu, fv)) = place(a, b, map, x, y) else { continue };
            let [p, q, r, s] = [of.1[at], of.1[at + 1], of.1[at + b.width], of.1[at + b.width + 1]];
            let value = (p * (1.0 - fu) + q * fu) * (1.0 - fv) + (r * (1.0 - fu) + s * fu) * fv;
            let target = of.0[y * a.width + x];
            (aa, ab, bb) = (aa + target * target, ab + target * value, bb + value * value);
            pixels += (stride * stride) as f32;
            let both = a.deviation[y * a.width + x].min(b.deviation[at]) > SEEN;
            seen += if both { (stride * stride) as f32 } else { 0.0 };
        }
    }
    let correlation = ab / (aa * bb).sqrt().max(1e-6);
    let area = |texture: &Texture| texture.valid.iter().sum::<f32>();
    let smaller = area(a).min(area(b) / map.determinant().abs().max(1e-3));
    Agreement { map, overlap: (pixels / smaller.max(1.0)).min(1.0), correlation, structure: seen / pixels.max(1.0) }
}
