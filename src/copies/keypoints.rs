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
            let pixels = high.iter().zip(low).map(|(high, low)| high - low).collect();
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
        let (w, h) = (d.width, d.height);
        let mut extremes = Extremes::new::<S>(w);
        for y in 1..h - 1 {
            let rows = [y - 1, y, y + 1].map(|y| &d.pixels[y * w..][..w]);
            for &x in extremes.find(simd, rows, CONTRAST) {
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

/// Searches rows for local extrema, with a test without branches.
struct Extremes {
    /// Highest and lowest value of each column of three rows, and the middle row; with what fills the last vector.
    highest: Vec<f32>,
    lowest: Vec<f32>,
    middle: Vec<f32>,
    /// Columns of the extrema of the last row.
    found: Vec<usize>,
}

impl Extremes {
    fn new<S: Simd>(width: usize) -> Self {
        let row = || vec![0f32; width.next_multiple_of(S::F32_LANES) + S::F32_LANES];
        Self { highest: row(), lowest: row(), middle: row(), found: Vec::new() }
    }

    /// Looks in the middle one of three rows, without its ends, for values of at least `contrast` or at most minus
    /// that, of which no neighbour is larger or smaller.
    #[inline(always)]
    fn find<S: Simd>(&mut self, simd: S, [above, middle, below]: [&[f32]; 3], contrast: f32) -> &[usize] {
        let width = middle.len();
        let (highest, lowest) = (&mut self.highest[..width], &mut self.lowest[..width]);
        for ((((high, low), a), b), c) in highest.iter_mut().zip(lowest).zip(above).zip(middle).zip(below) {
            let (larger, smaller) = (if *a > *b { *a } else { *b }, if *a < *b { *a } else { *b });
            *high = if *c > larger { *c } else { larger };
            *low = if *c < smaller { *c } else { smaller };
        }
        self.middle[..width].copy_from_slice(middle);
        let n = (width - 2).next_multiple_of(S::F32_LANES);
        let high = [0, 1, 2].map(|at| S::as_simd_f32s(&self.highest[at..][..n]).0);
        let low = [0, 1, 2].map(|at| S::as_simd_f32s(&self.lowest[at..][..n]).0);
        let (zero, most, least) = (simd.splat_f32s(0.0), simd.splat_f32s(contrast), simd.splat_f32s(-contrast));
        self.found.clear();
        for (i, v) in S::as_simd_f32s(&self.middle[1..][..n]).0.iter().enumerate() {
            let h = simd.max_f32s(simd.max_f32s(high[0][i], high[1][i]), high[2][i]);
            let l = simd.min_f32s(simd.min_f32s(low[0][i], low[1][i]), low[2][i]);
            let maximum = simd.min_f32s(simd.sub_f32s(*v, h), simd.sub_f32s(*v, most));
            let minimum = simd.min_f32s(simd.sub_f32s(l, *v), simd.sub_f32s(least, *v));
            let test = simd.max_f32s(maximum, minimum);
            let passed = simd.greater_than_or_equal_f32s(test, zero);
            if simd.first_true_m32s(passed) < S::F32_LANES {
                let lanes = bytemuck::cast_slice::<S::f32s, f32>(std::slice::from_ref(&test));
                let columns = lanes.iter().zip(1 + i * S::F32_LANES..width - 1);
                self.found.extend(columns.filter(|(test, _)| **test >= 0.0).map(|(_, x)| x));
            }
        }
        &self.found
    }
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
    let offsets: [f32; PATCH] = std::array::from_fn(|i| (i as f32 - (PATCH - 1) as f32 / 2.0) * spacing);
    let (scale, w) = (1.0 / level.step, level.width);
    let (most_x, most_y) = ((level.width - 1) as f32, (level.height - 1) as f32);
    // Positions, then pixels, then values between pixels: all but the second are compiled to vector instructions.
    let (mut xs, mut ys) = ([0f32; PATCH * PATCH], [0f32; PATCH * PATCH]);
    for (j, v) in offsets.iter().enumerate() {
        for (i, u) in offsets.iter().enumerate() {
            xs[j * PATCH + i] = ((blob.x + cos * u - sin * v) * scale).clamp(0.0, most_x);
            ys[j * PATCH + i] = ((blob.y + sin * u + cos * v) * scale).clamp(0.0, most_y);
        }
    }
    let zero = [0f32; PATCH * PATCH];
    let (mut a, mut b, mut c, mut d) = (zero, zero, zero, zero);
    let pixels = level.pixels.as_slice();
    for i in 0..PATCH * PATCH {
        let (x, y) = (xs[i] as i32 as usize, ys[i] as i32 as usize);
        let (right, below) = (usize::from(x + 1 < w), if y + 1 < level.height { w } else { 0 });
        let at = y * w + x;
        (a[i], b[i]) = (pixels[at], pixels[at + right]);
        (c[i], d[i]) = (pixels[at + below], pixels[at + below + right]);
    }
    let mut samples = [[0f32; PATCH]; PATCH];
    let values = samples.as_flattened_mut();
    for i in 0..PATCH * PATCH {
        let (fx, fy) = (xs[i] - xs[i].trunc(), ys[i] - ys[i].trunc());
        let (top, bottom) = (a[i] + (b[i] - a[i]) * fx, c[i] + (d[i] - c[i]) * fx);
        values[i] = top + (bottom - top) * fy;
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
pub fn blur<S: Simd>(simd: S, pixels: &[f32], width: usize, height: usize, sigma: f32) -> Vec<f32> {
    const LARGEST_RADIUS: usize = 16;
    let radius = (3.0 * sigma).ceil() as usize;
    assert!(radius <= LARGEST_RADIUS, "blurs are at most 5 px wide");
    let mut kernel: Vec<f32> = (0..=radius).map(|i| (-((i * i) as f32) / (2.0 * sigma * sigma)).exp()).collect();
    let sum = kernel[0] + 2.0 * kernel[1..].iter().sum::<f32>();
    kernel.iter_mut().for_each(|k| *k /= sum);
    // Rows are extended to whole vectors.
    let stride = width.next_multiple_of(S::F32_LANES);
    let mut padded = vec![0f32; stride + 2 * radius];
    let mut across = vec![0f32; stride * height];
    for (row, out) in pixels.chunks_exact(width).zip(across.chunks_exact_mut(stride)) {
        padded[..radius].fill(row[0]);
        padded[radius..][..width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        let from = |at: usize| S::as_simd_f32s(&padded[at..][..stride]).0;
        let mut around = [[from(radius); 2]; LARGEST_RADIUS];
        for (i, pair) in around[..radius].iter_mut().enumerate() {
            *pair = [from(radius - 1 - i), from(radius + 1 + i)];
        }
        weigh(simd, &kernel, from(radius), &around[..radius], S::as_mut_simd_f32s(out).0);
    }
    let row = |y: usize| S::as_simd_f32s(&across[y * stride..][..stride]).0;
    let mut blurred = Vec::with_capacity(width * height);
    let mut line = vec![0f32; stride];
    for y in 0..height {
        let mut around = [[row(y); 2]; LARGEST_RADIUS];
        for (i, pair) in around[..radius].iter_mut().enumerate() {
            *pair = [row(y.saturating_sub(i + 1)), row((y + i + 1).min(height - 1))];
        }
        weigh(simd, &kernel, row(y), &around[..radius], S::as_mut_simd_f32s(&mut line).0);
        blurred.extend_from_slice(&line[..width]);
    }
    blurred
}

/// The sums of `middle` and of the pairs `around` it, weighted by a symmetric kernel.
#[inline(always)]
fn weigh<S: Simd>(simd: S, kernel: &[f32], middle: &[S::f32s], around: &[[&[S::f32s]; 2]], out: &mut [S::f32s]) {
    // Four vectors at once: what belongs to a weight is then loaded only once for them.
    let fours = out.len() / 4 * 4;
    for x in (0..fours).step_by(4) {
        weigh_at::<S, 4>(simd, kernel, middle, around, out, x);
    }
    for x in fours..out.len() {
        weigh_at::<S, 1>(simd, kernel, middle, around, out, x);
    }
}

/// [`weigh`] for `N` vectors from `x` on.
#[inline(always)]
fn weigh_at<S: Simd, const N: usize>(
    simd: S,
    kernel: &[f32],
    middle: &[S::f32s],
    around: &[[&[S::f32s]; 2]],
    out: &mut [S::f32s],
    x: usize,
) {
    let mut sums = [simd.splat_f32s(0.0); N];
    let first = simd.splat_f32s(kernel[0]);
    for (sum, v) in sums.iter_mut().zip(&middle[x..][..N]) {
        *sum = simd.mul_f32s(first, *v);
    }
    for (k, [before, after]) in kernel[1..].iter().zip(around) {
        let k = simd.splat_f32s(*k);
        for ((sum, before), after) in sums.iter_mut().zip(&before[x..][..N]).zip(&after[x..][..N]) {
            *sum = simd.add_f32s(*sum, simd.mul_f32s(k, simd.add_f32s(*before, *after)));
        }
    }
    out[x..][..N].copy_from_slice(&sums);
}
