//! Keypoints: blobs at several scales, each with a code of what surrounds it. The code is the same however the image is
//! turned, and that of the mirrored image differs in known bits.
//!
//! Blobs are extrema of differences of Gaussians (Lowe, IJCV 60, 2004), half an octave apart. The code is the signs of
//! the low cosine frequencies of an 8 x 8 patch, turned by the blob's main gradient and sized by its scale.

use super::view::{Frame, View, bilinear};
use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};
use std::f32::consts::{PI, TAU};
use std::sync::LazyLock;

/// Bits of a code.
pub const BITS: usize = 54;
/// Largest number of keypoints of an image.
pub const MOST: usize = 64;
/// Samples along each side of a patch.
const PATCH: usize = 8;

/// A blob and what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keypoint {
    /// Position in the view, px.
    pub x: f32,
    /// Position in the view, px.
    pub y: f32,
    /// Standard deviation of the Gaussian that fits the blob, px of the view.
    pub sigma: f32,
    /// Direction of the main gradient, radians.
    pub angle: f32,
    /// Signs of the frequencies.
    pub code: u64,
}

/// The frequencies of the bits of a code, low ones first: `PATCH` times that down, plus that across.
static FREQUENCIES: LazyLock<[u8; BITS]> = LazyLock::new(|| {
    let mut all: Vec<usize> = (1..PATCH * PATCH).collect();
    all.sort_by_key(|f| {
        let (u, v) = (f % PATCH, f / PATCH);
        (u * u + v * v, u)
    });
    std::array::from_fn(|bit| all[bit] as u8)
});

/// The bits that differ between the codes of an image and of its mirror image: the frequencies that are odd across the
/// direction of the gradient.
pub static MIRROR: LazyLock<u64> = LazyLock::new(|| {
    let odd = |f: &u8| usize::from(*f) / PATCH % 2 == 1;
    FREQUENCIES.iter().enumerate().filter(|(_, f)| odd(f)).fold(0, |mask, (bit, _)| mask | 1 << bit)
});

impl Keypoint {
    /// The keypoint of one view in another view of the same part of the image.
    pub fn moved(self, from: Frame, to: Frame) -> Self {
        let (across, down) = (from.across / to.across, from.down / to.down);
        // Positions count from the middle of the first pixel.
        let (x, y) = ((self.x + 0.5) * across - 0.5, (self.y + 0.5) * down - 0.5);
        Self { x, y, sigma: self.sigma * (across * down).sqrt(), ..self }
    }
}

struct Level {
    /// Standard deviation of the blur, px of the view.
    sigma: f32,
    /// Side of a pixel, px of the view.
    step: f32,
    width: usize,
    height: usize,
    pixels: Vec<f32>,
}

impl Level {
    /// The value at a position of the view.
    #[inline(always)]
    fn at(&self, x: f32, y: f32) -> f32 {
        bilinear(&self.pixels, self.width, self.height, x / self.step, y / self.step)
    }
}

/// The keypoints of a view, strongest first.
pub fn keypoints(view: &View) -> Vec<Keypoint> {
    Arch::new().dispatch(Detect(view))
}

/// [`keypoints`], compiled for the processor's vector instructions.
struct Detect<'a>(&'a View);

impl WithSimd for Detect<'_> {
    type Output = Vec<Keypoint>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Keypoint> {
        detect(simd, self.0)
    }
}

#[inline(always)]
fn detect<S: Simd>(simd: S, view: &View) -> Vec<Keypoint> {
    const BASE: f32 = 1.6;
    const OCTAVES: usize = 4;
    let pixels = view.filled();
    let mut levels: Vec<Level> = Vec::new();
    let mut differences: Vec<Level> = Vec::new();
    let (mut width, mut height, mut step) = (view.width, view.height, 1.0f32);
    // Resizing leaves a blur of about half a pixel.
    let mut current = blur(simd, &pixels, width, height, (BASE * BASE - 0.25f32).sqrt());
    for octave in 0..OCTAVES {
        let sigma = |i: f32| BASE * step * 2f32.powf(i / 2.0);
        let [a, b, c] = [0.0, 1.0, 2.0].map(|i: f32| BASE * 2f32.powf(i / 2.0));
        let first = blur(simd, &current, width, height, (b * b - a * a).sqrt());
        let second = blur(simd, &first, width, height, (c * c - b * b).sqrt());
        for (i, (low, high)) in [(&current, &first), (&first, &second)].into_iter().enumerate() {
            let mut pixels = vec![0f32; high.len()];
            for ((pixel, high), low) in pixels.iter_mut().zip(high).zip(low) {
                *pixel = high - low;
            }
            differences.push(Level { sigma: sigma(i as f32), step, width, height, pixels });
        }
        let half = halve(&second, width, height);
        levels.push(Level { sigma: sigma(0.0), step, width, height, pixels: current });
        levels.push(Level { sigma: sigma(1.0), step, width, height, pixels: first });
        if octave + 1 == OCTAVES || width < 16 || height < 16 {
            break;
        }
        (width, height, step) = (width.div_ceil(2), height.div_ceil(2), step * 2.0);
        current = half;
    }
    let mut blobs = blobs(simd, view, &differences);
    blobs.sort_by(|a, b| b.strength.total_cmp(&a.strength).then(a.y.total_cmp(&b.y)).then(a.x.total_cmp(&b.x)));
    let mut keypoints = Vec::new();
    for blob in blobs {
        let level = &levels[blob.level];
        let (angles, n) = main_gradients(level, &blob);
        for &angle in &angles[..n] {
            let code = code(level, &blob, angle);
            keypoints.push(Keypoint { x: blob.x, y: blob.y, sigma: blob.sigma, angle, code });
        }
        if keypoints.len() >= MOST {
            break;
        }
    }
    keypoints.truncate(MOST);
    keypoints
}

struct Blob {
    x: f32,
    y: f32,
    sigma: f32,
    level: usize,
    strength: f32,
}

#[inline(always)]
fn blobs<S: Simd>(simd: S, view: &View, differences: &[Level]) -> Vec<Blob> {
    /// Least contrast of a blob, grey levels.
    const CONTRAST: f32 = 0.8;
    /// Largest ratio of the principal curvatures: a longer blob is an edge.
    const EDGE: f32 = 8.0;
    let mut blobs = Vec::new();
    for (i, d) in differences.iter().enumerate() {
        let w = d.width;
        for found in extremes(simd, d, CONTRAST) {
            let (x, y) = (found % w, found / w);
            if x == 0 || x + 1 == w {
                continue;
            }
            let at = |dx: isize, dy: isize| d.pixels[(y as isize + dy) as usize * w + (x as isize + dx) as usize];
            let v = at(0, 0);
            let sign = v.signum();
            // Of equal neighbours the first counts.
            let equal = |(dx, dy): &(isize, isize)| at(*dx, *dy) == v;
            if [(-1, -1), (0, -1), (1, -1), (-1, 0)].iter().any(equal) {
                continue;
            }
            let (dxx, dyy) = (at(1, 0) + at(-1, 0) - 2.0 * v, at(0, 1) + at(0, -1) - 2.0 * v);
            let dxy = (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1)) / 4.0;
            let (trace, det) = (dxx + dyy, dxx * dyy - dxy * dxy);
            if det <= 0.0 || trace * trace * EDGE > (EDGE + 1.0) * (EDGE + 1.0) * det {
                continue;
            }
            let shift = |a: f32, c: f32, curvature: f32| ((a - c) / 2.0 / curvature).clamp(-0.5, 0.5);
            let px = (x as f32 + shift(at(-1, 0), at(1, 0), dxx)) * d.step;
            let py = (y as f32 + shift(at(0, -1), at(0, 1), dyy)) * d.step;
            let below = if i > 0 { differences[i - 1].at(px, py) * sign } else { f32::NEG_INFINITY };
            let above = differences.get(i + 1).map_or(f32::NEG_INFINITY, |d| d.at(px, py) * sign);
            let v = v * sign;
            if below > v || above > v {
                continue;
            }
            let mut octaves = 0.0;
            if below.is_finite() && above.is_finite() {
                let curvature = below + above - 2.0 * v;
                if curvature < 0.0 {
                    octaves = ((below - above) / 2.0 / curvature).clamp(-0.5, 0.5) / 2.0;
                }
            }
            let (vx, vy) = ((px.round() as usize).min(view.width - 1), (py.round() as usize).min(view.height - 1));
            if !view.is_valid(vx, vy) && view.pixels[vy * view.width + vx] < 128 {
                continue;
            }
            blobs.push(Blob { x: px, y: py, sigma: d.sigma * 2f32.powf(octaves), level: i, strength: v });
        }
    }
    blobs
}

/// The pixels with values of at least `contrast` or at most minus that, of which no neighbour is larger or smaller. In
/// the first and the last column there are others as well; the first and the last row are not searched.
#[inline(always)]
fn extremes<S: Simd>(simd: S, level: &Level, contrast: f32) -> Vec<usize> {
    // From the second pixel of the second row to the last but one of the last but one.
    let (w, n) = (level.width, level.width * (level.height - 2) - 2);
    let (zero, most, least) = (simd.splat_f32s(0.0), simd.splat_f32s(contrast), simd.splat_f32s(-contrast));
    let (mut found, mut number) = (vec![0; n + S::F32_LANES], 0);
    for start in (0..n).step_by(S::F32_LANES) {
        // The last vector overlaps the one before.
        let known = (start + S::F32_LANES).saturating_sub(n);
        let start = start - known;
        let pixels = &level.pixels[start..][..2 * w + 2 + S::F32_LANES];
        let v = S::as_simd_f32s(&pixels[w + 1..][..S::F32_LANES]).0[0];
        let (mut h, mut l) = (v, v);
        for y in 0..3 {
            for x in 0..3 {
                let neighbour = S::as_simd_f32s(&pixels[y * w + x..][..S::F32_LANES]).0[0];
                (h, l) = (simd.max_f32s(h, neighbour), simd.min_f32s(l, neighbour));
            }
        }
        let maximum = simd.min_f32s(simd.sub_f32s(v, h), simd.sub_f32s(v, most));
        let minimum = simd.min_f32s(simd.sub_f32s(l, v), simd.sub_f32s(least, v));
        let test = simd.max_f32s(maximum, minimum);
        if simd.first_true_m32s(simd.greater_than_or_equal_f32s(test, zero)) < S::F32_LANES {
            let lanes = bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&test));
            // Without branches, which would often be predicted wrongly.
            let found = &mut found[number..][..S::F32_LANES];
            let mut here = 0;
            for (lane, test) in lanes.iter().enumerate().skip(known) {
                found[here] = w + 1 + start + lane;
                here += usize::from(*test >= 0.0);
            }
            number += here;
        }
    }
    found.truncate(number);
    found
}

/// The main directions of the gradient around a blob, at most two.
#[inline(always)]
fn main_gradients(level: &Level, blob: &Blob) -> ([f32; 2], usize) {
    const BINS: usize = 36;
    /// Radius in standard deviations of the weights.
    const REACH: f32 = 2.5;
    let (cx, cy) = (blob.x / level.step, blob.y / level.step);
    let sigma = blob.sigma / level.step * 1.5;
    let radius = (REACH * sigma).round() as isize;
    let (w, h) = (level.width as isize, level.height as isize);
    // Of a finely resolved blob every second pixel, as on a chessboard, otherwise a quarter of them: the level is
    // blurred, so that its gradients vary slowly.
    let (step, chessboard) = if sigma < 2.7 { (1, true) } else { (2, false) };
    const SAMPLES: usize = 160;
    let (mut gx, mut gy, mut near) = ([0f32; SAMPLES], [0f32; SAMPLES], [0f32; SAMPLES]);
    let mut n = 0;
    let first = (cx as isize - radius).max(1);
    let reach = (REACH * sigma) * (REACH * sigma);
    for y in ((cy as isize - radius).max(1)..=(cy as isize + radius).min(h - 2)).step_by(step) {
        let dy = y as f32 - cy;
        let half = (reach - dy * dy).max(0.0).sqrt();
        let (left, right) = (((cx - half).ceil() as isize).max(1), ((cx + half).floor() as isize).min(w - 2));
        let left = left + if chessboard { (left + y) & 1 } else { (left - first) & 1 };
        let count = if left > right { 0 } else { ((right - left) as usize / 2 + 1).min(SAMPLES - n) };
        let (y, w) = (y as usize, w as usize);
        let [above, row, below] = [y - 1, y, y + 1].map(|y| &level.pixels[y * w..][..w]);
        for i in 0..count {
            let x = left as usize + 2 * i;
            let dx = x as f32 - cx;
            gx[n + i] = row[x + 1] - row[x - 1];
            gy[n + i] = below[x] - above[x];
            near[n + i] = dx * dx + dy * dy;
        }
        n += count;
    }
    // In a loop of its own, which is compiled to vector instructions; there are seldom more than `USUAL` samples.
    const USUAL: usize = 64;
    let (mut low, mut part, mut strength) = ([0u32; SAMPLES], [0f32; SAMPLES], [0f32; SAMPLES]);
    let scale = 1.0 / reach;
    for i in 0..USUAL {
        (low[i], part[i], strength[i]) = vote::<BINS>(gx[i], gy[i], near[i] * scale);
    }
    if n > USUAL {
        for i in USUAL..SAMPLES {
            (low[i], part[i], strength[i]) = vote::<BINS>(gx[i], gy[i], near[i] * scale);
        }
    }
    // The first bin again after the last one, and one more.
    let mut bins = [0f32; BINS + 2];
    for ((low, part), strength) in low.iter().zip(&part).zip(&strength).take(n) {
        let low = (*low as usize).min(BINS);
        bins[low] += strength * (1.0 - part);
        bins[low + 1] += strength * part;
    }
    bins[0] += bins[BINS];
    bins[1] += bins[BINS + 1];
    let mut smooth = [0f32; BINS];
    smooth.copy_from_slice(&bins[..BINS]);
    for _ in 0..2 {
        // With the last bin before the first one, and the first one after the last one.
        let mut ring = [0f32; BINS + 2];
        (ring[0], ring[BINS + 1]) = (smooth[BINS - 1], smooth[0]);
        ring[1..=BINS].copy_from_slice(&smooth);
        for i in 0..BINS {
            smooth[i] = (ring[i] + 2.0 * ring[i + 1] + ring[i + 2]) / 4.0;
        }
    }
    let most = smooth.iter().copied().fold(0.0, f32::max);
    let (mut peaks, mut n) = ([(0f32, 0f32); 2], 0);
    for i in 0..BINS {
        let (a, b, c) = (smooth[(i + BINS - 1) % BINS], smooth[i], smooth[(i + 1) % BINS]);
        if b > a && b >= c && b >= 0.8 * most {
            let shift = (a - c) / 2.0 / (a + c - 2.0 * b);
            let peak = (b, (i as f32 + shift) * TAU / BINS as f32 - PI);
            if n < 2 {
                peaks[n] = peak;
                n += 1;
            } else if let Some(lower) = peaks.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0))
                && lower.0 < peak.0
            {
                *lower = peak;
            }
        }
    }
    if n == 2 && peaks[1].0 > peaks[0].0 {
        peaks.swap(0, 1);
    }
    (peaks.map(|peak| peak.1), n)
}

/// Which of `N` bins of the circle, how far on towards the next one and with which weight a gradient votes for. `near`
/// is its squared distance from the middle, 1 where the weights, about Gaussian ones, end.
#[inline(always)]
fn vote<const N: usize>(gx: f32, gy: f32, near: f32) -> (u32, f32, f32) {
    let position = (arc_tangent(gy, gx) + 1.0) * (N as f32 / 2.0);
    let bin = position.floor();
    let weight = (1.0 - near).max(0.0);
    (to_u32(bin), position - bin, (gx * gx + gy * gy).sqrt() * weight * weight * weight)
}

/// A whole number from 0 to 4,194,303. In vectors, which a conversion with its limits is not done in.
#[inline(always)]
fn to_u32(v: f32) -> u32 {
    // From this number on, the last bit of the fraction is worth 1.
    const UNITS: f32 = 8_388_608.0;
    (v + UNITS).to_bits() - UNITS.to_bits()
}

/// The angle of a vector in half turns, -1 to 1, to about a thousandth.
#[inline(always)]
fn arc_tangent(y: f32, x: f32) -> f32 {
    let (ax, ay) = (x.abs(), y.abs());
    let ratio = ax.min(ay) / ax.max(ay).max(1e-12);
    let square = ratio * ratio;
    // Hastings (1955), divided by pi.
    let angle = ratio * (0.317_79 + square * (-0.102_22 + square * (0.046_84 - square * 0.012_42)));
    let angle = if ay > ax { 0.5 - angle } else { angle };
    let angle = if x < 0.0 { 1.0 - angle } else { angle };
    if y < 0.0 { -angle } else { angle }
}

/// The code of the whole view: equal for copies that were resized or compressed again, but not turned or cropped.
pub fn whole(view: &View) -> u64 {
    let span = |i: usize, side: usize| i * side / PATCH..((i + 1) * side / PATCH).max(i * side / PATCH + 1);
    let samples: [[f32; PATCH]; PATCH] = std::array::from_fn(|j| {
        std::array::from_fn(|i| {
            let (rows, columns) = (span(j, view.height), span(i, view.width));
            let n = (rows.len() * columns.len()) as f32;
            let row =
                |y: usize| view.pixels[y * view.width..][columns.clone()].iter().map(|v| u32::from(*v)).sum::<u32>();
            rows.map(row).sum::<u32>() as f32 / n
        })
    });
    signs(&samples)
}

/// The code of the patch around a blob, turned so that the gradient points right.
#[inline(always)]
fn code(level: &Level, blob: &Blob, angle: f32) -> u64 {
    /// Distance between samples, in scales of the blob.
    const SPACING: f32 = 1.8;
    let (sin, cos) = angle.sin_cos();
    let spacing = SPACING * blob.sigma;
    let offsets: [f32; PATCH] = std::array::from_fn(|i| (i as f32 - (PATCH - 1) as f32 / 2.0) * spacing);
    let (scale, w) = (1.0 / level.step, level.width);
    let (most_x, most_y) = ((level.width - 1) as f32, (level.height - 1) as f32);
    // Positions, then pixels, then values between pixels: all but the second are compiled to vector instructions.
    const SAMPLES: usize = PATCH * PATCH;
    let (mut first, mut fx, mut fy) = ([0u32; SAMPLES], [0f32; SAMPLES], [0f32; SAMPLES]);
    for (j, v) in offsets.iter().enumerate() {
        for (i, u) in offsets.iter().enumerate() {
            let x = ((blob.x + cos * u - sin * v) * scale).clamp(0.0, most_x);
            let y = ((blob.y + sin * u + cos * v) * scale).clamp(0.0, most_y);
            // There is a pixel right of the first one, and one below it.
            let (left, top) = (x.floor().min(most_x - 1.0), y.floor().min(most_y - 1.0));
            let at = j * PATCH + i;
            first[at] = to_u32(top * w as f32 + left);
            (fx[at], fy[at]) = (x - left, y - top);
        }
    }
    let zero = [0f32; SAMPLES];
    let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
    for i in 0..SAMPLES {
        let square = &level.pixels[first[i] as usize..][..w + 2];
        (a[i], b[i]) = (square[0], square[1]);
        (c[i], d[i]) = (square[w], square[w + 1]);
    }
    let mut samples = [[0f32; PATCH]; PATCH];
    let values = samples.as_flattened_mut();
    for i in 0..SAMPLES {
        let (top, bottom) = (a[i] + (b[i] - a[i]) * fx[i], c[i] + (d[i] - c[i]) * fx[i]);
        values[i] = top + (bottom - top) * fy[i];
    }
    signs(&samples)
}

/// The signs of the low cosine frequencies of a patch, given by rows.
#[inline(always)]
fn signs(samples: &[[f32; PATCH]; PATCH]) -> u64 {
    static COSINES: LazyLock<[[f32; PATCH]; PATCH]> = LazyLock::new(|| {
        let cosine = |x: usize, k: usize| ((2 * x + 1) as f32 * k as f32 * PI / (2 * PATCH) as f32).cos();
        std::array::from_fn(|x| std::array::from_fn(|k| cosine(x, k)))
    });
    let cosines: &[[f32; PATCH]; PATCH] = &COSINES;
    let mut sums = [[0f32; PATCH]; PATCH];
    for (row, down) in samples.iter().zip(cosines) {
        let mut across = [0f32; PATCH];
        for (v, cosines) in row.iter().zip(cosines) {
            for k in 0..PATCH {
                across[k] += v * cosines[k];
            }
        }
        for (sums, down) in sums.iter_mut().zip(down) {
            for k in 0..PATCH {
                sums[k] += across[k] * down;
            }
        }
    }
    let mut code = 0;
    let sums: &[f32; PATCH * PATCH] = sums.as_flattened().try_into().expect("8 x 8");
    for (bit, f) in FREQUENCIES.iter().enumerate() {
        code |= u64::from(sums[usize::from(*f) % sums.len()] > 0.0) << bit;
    }
    code
}

/// Every second pixel of every second row.
#[inline(always)]
fn halve(pixels: &[f32], width: usize, height: usize) -> Vec<f32> {
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let mut half = vec![0f32; half_width * half_height];
    for (row, out) in pixels.chunks_exact(width).step_by(2).zip(half.chunks_exact_mut(half_width)) {
        for (pair, v) in row.chunks_exact(2).zip(&mut *out) {
            *v = pair[0];
        }
        out[half_width - 1] = row[(half_width - 1) * 2];
    }
    half
}

/// Gaussian blur; beyond the border, the nearest pixel counts.
#[inline(always)]
pub fn blur<S: Simd>(simd: S, pixels: &[f32], width: usize, height: usize, sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=radius).map(|i| (-((i * i) as f32) / (2.0 * sigma * sigma)).exp()).collect();
    let sum = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|k| *k /= sum);
    // Rows are extended to whole vectors, and by the border's values as far as the kernel reaches.
    let stride = width.next_multiple_of(S::F32_LANES);
    let mut row = vec![0f32; stride + 2 * radius];
    let mut across = vec![0f32; stride * (height + 2 * radius)];
    let inner = &mut across[stride * radius..][..stride * height];
    for (pixels, out) in pixels.chunks_exact(width).zip(inner.chunks_exact_mut(stride)) {
        row[..radius].fill(pixels[0]);
        row[radius..][..width].copy_from_slice(pixels);
        row[radius + width..].fill(pixels[width - 1]);
        weigh(simd, &kernel, &row, 1, out);
    }
    for i in 0..radius {
        across.copy_within(stride * radius..stride * (radius + 1), stride * i);
        across.copy_within(stride * (radius + height - 1)..stride * (radius + height), stride * (radius + height + i));
    }
    let mut blurred = vec![0f32; stride * height];
    weigh(simd, &kernel, &across, stride, &mut blurred);
    if stride > width {
        for y in 1..height {
            blurred.copy_within(y * stride..y * stride + width, y * width);
        }
        blurred.truncate(width * height);
    }
    blurred
}

/// The sums of values `step` apart, weighted by a symmetric kernel; the first value is a kernel's radius into `values`.
#[inline(always)]
fn weigh<S: Simd>(simd: S, kernel: &[f32], values: &[f32], step: usize, out: &mut [f32]) {
    let mut x = 0;
    let out = S::as_mut_simd_f32s(out).0;
    // Several vectors at once: a weight is then loaded only once for them.
    while x + 6 <= out.len() {
        weigh_at::<S, 6>(simd, kernel, &values[x * S::F32_LANES..], step, &mut out[x..]);
        x += 6;
    }
    while x + 2 <= out.len() {
        weigh_at::<S, 2>(simd, kernel, &values[x * S::F32_LANES..], step, &mut out[x..]);
        x += 2;
    }
    if x < out.len() {
        weigh_at::<S, 1>(simd, kernel, &values[x * S::F32_LANES..], step, &mut out[x..]);
    }
}

/// [`weigh`] for `N` vectors.
#[inline(always)]
fn weigh_at<S: Simd, const N: usize>(simd: S, kernel: &[f32], values: &[f32], step: usize, out: &mut [S::f32s]) {
    let from = |at: usize| -> &[S::f32s] { S::as_simd_f32s(&values[at..][..N * S::F32_LANES]).0 };
    let middle = (kernel.len() - 1) * step;
    let mut sums = [simd.splat_f32s(0.0); N];
    let first = simd.splat_f32s(kernel[0]);
    for (sum, v) in sums.iter_mut().zip(from(middle)) {
        *sum = simd.mul_f32s(first, *v);
    }
    for (i, k) in kernel.iter().enumerate().skip(1) {
        let k = simd.splat_f32s(*k);
        let (before, after) = (from(middle - i * step), from(middle + i * step));
        for ((sum, before), after) in sums.iter_mut().zip(before).zip(after) {
            *sum = simd.add_f32s(*sum, simd.mul_f32s(k, simd.add_f32s(*before, *after)));
        }
    }
    out[..N].copy_from_slice(&sums);
}
