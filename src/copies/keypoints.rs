//! Keypoints: blobs at several scales, each with a code of what surrounds it. The code is the same however the image is
//! turned, and that of the mirrored image differs in known bits.
//!
//! Blobs are extrema of differences of Gaussians (Lowe, IJCV 60, 2004), half an octave apart. The code is the signs of
//! the low cosine frequencies of an 8 x 8 patch, turned by the blob's main gradient and sized by its scale.

use super::view::{View, bilinear};
use pulp::{Arch, Simd, WithSimd};
use std::f32::consts::{PI, TAU};
use std::sync::LazyLock;

/// Bits of a code.
pub const BITS: usize = 54;
/// Largest number of keypoints of an image.
pub const MOST: usize = 64;
/// Samples along each side of a patch.
const PATCH: usize = 8;

/// A blob and what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// The frequencies (across, down) of the bits of a code, low ones first.
static FREQUENCIES: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let mut all: Vec<(usize, usize)> = (0..PATCH).flat_map(|v| (0..PATCH).map(move |u| (u, v))).collect();
    all.retain(|f| *f != (0, 0));
    all.sort_by_key(|(u, v)| (u * u + v * v, *u));
    all.truncate(BITS);
    all
});

/// The bits that differ between the codes of an image and of its mirror image: the frequencies that are odd across the
/// direction of the gradient.
pub static MIRROR: LazyLock<u64> = LazyLock::new(|| {
    FREQUENCIES.iter().enumerate().filter(|(_, (_, v))| v % 2 == 1).fold(0, |mask, (bit, _)| mask | 1 << bit)
});

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
    fn with_simd<S: Simd>(self, _: S) -> Vec<Keypoint> {
        detect(self.0)
    }
}

#[inline(always)]
fn detect(view: &View) -> Vec<Keypoint> {
    const BASE: f32 = 1.6;
    const OCTAVES: usize = 4;
    let pixels = view.filled();
    let mut levels: Vec<Level> = Vec::new();
    let mut differences: Vec<Level> = Vec::new();
    let (mut width, mut height, mut step) = (view.width, view.height, 1.0f32);
    // Resizing leaves a blur of about half a pixel.
    let mut current = blur(&pixels, width, height, (BASE * BASE - 0.25f32).sqrt());
    for octave in 0..OCTAVES {
        let sigma = |i: f32| BASE * step * 2f32.powf(i / 2.0);
        let next = |from: &[f32], i: f32| {
            let (a, b) = (BASE * 2f32.powf(i / 2.0), BASE * 2f32.powf((i + 1.0) / 2.0));
            blur(from, width, height, (b * b - a * a).sqrt())
        };
        let first = next(&current, 0.0);
        let second = next(&first, 1.0);
        for (i, (low, high)) in [(&current, &first), (&first, &second)].into_iter().enumerate() {
            let mut pixels = vec![0f32; width * height];
            for ((d, h), l) in pixels.iter_mut().zip(high).zip(low) {
                *d = h - l;
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
    let mut blobs = blobs(view, &differences);
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
fn blobs(view: &View, differences: &[Level]) -> Vec<Blob> {
    /// Least contrast of a blob, grey levels.
    const CONTRAST: f32 = 0.8;
    /// Largest ratio of the principal curvatures: a longer blob is an edge.
    const EDGE: f32 = 8.0;
    let mut blobs = Vec::new();
    for (i, d) in differences.iter().enumerate() {
        let (w, h) = (d.width, d.height);
        let (mut highest, mut lowest) = (vec![0f32; w], vec![0f32; w]);
        let mut extreme = vec![false; w];
        for y in 1..h - 1 {
            // First a test without branches, which few pixels pass.
            let [above, row, below] = [y - 1, y, y + 1].map(|y| &d.pixels[y * w..][..w]);
            for x in 0..w {
                highest[x] = above[x].max(row[x]).max(below[x]);
                lowest[x] = above[x].min(row[x]).min(below[x]);
            }
            for x in 1..w - 1 {
                let (high, low) = (highest[x - 1].max(highest[x]), lowest[x - 1].min(lowest[x]));
                let v = row[x];
                extreme[x] = ((v >= CONTRAST) & (v >= high.max(highest[x + 1])))
                    | ((v <= -CONTRAST) & (v <= low.min(lowest[x + 1])));
            }
            for x in (1..w - 1).filter(|x| extreme[*x]) {
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
    }
    blobs
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
    let mut bins = [0f32; BINS];
    let (w, h) = (level.width as isize, level.height as isize);
    // Of a finely resolved blob every second pixel, as on a chessboard, otherwise a quarter of them: the level is
    // blurred, so that its gradients vary slowly.
    let (step, chessboard) = if sigma < 2.7 { (1, 1) } else { (2, 0) };
    const SAMPLES: usize = 160;
    let (mut gx, mut gy, mut near) = ([0f32; SAMPLES], [0f32; SAMPLES], [0f32; SAMPLES]);
    let mut n = 0;
    let mut y = (cy as isize - radius).max(1);
    while y <= (cy as isize + radius).min(h - 2) {
        let rows = [y - 1, y, y + 1].map(|y| &level.pixels[(y * w) as usize..][..w as usize]);
        let left = (cx as isize - radius).max(1);
        let mut x = left + ((left + y) & chessboard);
        while x <= (cx as isize + radius).min(w - 2) {
            let (dx, dy) = (x as f32 - cx, y as f32 - cy);
            let distance = (dx * dx + dy * dy) / (sigma * sigma);
            if distance <= REACH * REACH && n < SAMPLES {
                let at = x as usize;
                gx[n] = rows[1][at + 1] - rows[1][at - 1];
                gy[n] = rows[2][at] - rows[0][at];
                near[n] = distance;
                n += 1;
            }
            x += step + chessboard;
        }
        y += step;
    }
    // In a loop of its own, which is compiled to vector instructions.
    let (mut position, mut strength) = ([0f32; SAMPLES], [0f32; SAMPLES]);
    for i in 0..n.next_multiple_of(16) {
        position[i] = (arc_tangent(gy[i], gx[i]) + 1.0) * (BINS as f32 / 2.0);
        // About the Gaussian weight, 0 where it ends.
        let weight = (1.0 - near[i] / (REACH * REACH)).max(0.0);
        strength[i] = (gx[i] * gx[i] + gy[i] * gy[i]).sqrt() * weight * weight * weight;
    }
    for i in 0..n {
        let low = position[i] as usize;
        let part = position[i] - low as f32;
        bins[low % BINS] += strength[i] * (1.0 - part);
        bins[(low + 1) % BINS] += strength[i] * part;
    }
    let mut smooth = bins;
    for _ in 0..2 {
        let b = smooth;
        for i in 0..BINS {
            smooth[i] = (b[(i + BINS - 1) % BINS] + 2.0 * b[i] + b[(i + 1) % BINS]) / 4.0;
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
    let mut samples = [[0f32; PATCH]; PATCH];
    for (j, row) in samples.iter_mut().enumerate() {
        let v = (j as f32 - (PATCH - 1) as f32 / 2.0) * spacing;
        for (i, sample) in row.iter_mut().enumerate() {
            let u = (i as f32 - (PATCH - 1) as f32 / 2.0) * spacing;
            *sample = level.at(blob.x + cos * u - sin * v, blob.y + sin * u + cos * v);
        }
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
    for (bit, (u, v)) in FREQUENCIES.iter().enumerate() {
        code |= u64::from(sums[*v][*u] > 0.0) << bit;
    }
    code
}

/// Every second pixel of every second row.
#[inline(always)]
fn halve(pixels: &[f32], width: usize, height: usize) -> Vec<f32> {
    let mut half = Vec::with_capacity(width.div_ceil(2) * height.div_ceil(2));
    for row in pixels.chunks_exact(width).step_by(2) {
        for pair in row.chunks(2) {
            half.push(pair[0]);
        }
    }
    half
}

/// Gaussian blur; beyond the border, the nearest pixel counts.
#[inline(always)]
pub fn blur(pixels: &[f32], width: usize, height: usize, sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil() as usize;
    let mut kernel: Vec<f32> = (0..=radius).map(|i| (-((i * i) as f32) / (2.0 * sigma * sigma)).exp()).collect();
    let sum = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|k| *k /= sum);
    let mut padded = vec![0f32; width + 2 * radius];
    let mut across = vec![0f32; width * height];
    for (row, out) in pixels.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
        padded[..radius].fill(row[0]);
        padded[radius..][..width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        out.iter_mut().zip(row).for_each(|(o, v)| *o = kernel[0] * v);
        for (i, k) in kernel.iter().enumerate().skip(1) {
            let (left, right) = (&padded[radius - i..][..width], &padded[radius + i..][..width]);
            for ((o, l), r) in out.iter_mut().zip(left).zip(right) {
                *o += k * (l + r);
            }
        }
    }
    let mut blurred = vec![0f32; width * height];
    for (y, out) in blurred.chunks_exact_mut(width).enumerate() {
        let row = |y: isize| &across[y.clamp(0, height as isize - 1) as usize * width..][..width];
        out.iter_mut().zip(row(y as isize)).for_each(|(o, v)| *o = kernel[0] * v);
        for (i, k) in kernel.iter().enumerate().skip(1) {
            let (above, below) = (row(y as isize - i as isize), row(y as isize + i as isize));
            for ((o, a), b) in out.iter_mut().zip(above).zip(below) {
                *o += k * (a + b);
            }
        }
    }
    blurred
}
