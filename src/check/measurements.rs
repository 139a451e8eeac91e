//! What is measured of a decoded image: a few numbers and a perceptual hash.

use crate::decode::Grey;
use pulp::{Arch, Simd, WithSimd};
use std::f32::consts::PI;
use std::sync::LazyLock;

/// Side of the thumbnail, px.
const THUMBNAIL_PX: usize = 40;
/// Side of the window in the middle of the thumbnail that is hashed, px.
const WINDOW: usize = 32;
/// Number of low frequencies along each axis that are hashed.
const LOW: usize = 8;

/// Measurements of an image.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// 5th percentile of the grey levels, 0 to 255.
    pub grey_p05: u8,
    /// 95th percentile of the grey levels, 0 to 255.
    pub grey_p95: u8,
    /// Smallest and largest grey level.
    pub grey_range: (u8, u8),
    /// Standard deviation of the Laplacian of the grey levels, divided by that of the grey levels; 0 for a uniform
    /// image.
    pub sharpness: f64,
    /// 64-bit perceptual hash: one bit for each of the 8 x 8 lowest cosine frequencies of the middle of the image, set
    /// if it is above their median.
    pub perceptual_hash: u64,
}

impl Measurements {
    /// Measures an image.
    pub fn new(image: &Grey) -> Self {
        Arch::new().dispatch(Measure(image))
    }
}

/// [`Measurements::new`], compiled for the processor's vector instructions.
struct Measure<'a>(&'a Grey);

impl WithSimd for Measure<'_> {
    type Output = Measurements;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Measurements {
        let (width, height) = (self.0.width_px as usize, self.0.height_px as usize);
        let grey = self.0.pixels.as_slice();
        let counts = histogram(grey);
        let thumbnail = thumbnail(grey, width, height);
        Measurements {
            grey_p05: percentile(&counts, 0.05),
            grey_p95: percentile(&counts, 0.95),
            grey_range: range(&counts),
            sharpness: sharpness(grey, width, height),
            perceptual_hash: perceptual_hash(&thumbnail),
        }
    }
}

#[inline(always)]
fn histogram(grey: &[u8]) -> [u64; 256] {
    // With one table, equal neighbouring pixels would have to wait for each other.
    let mut tables = [[0u32; 256]; 4];
    let (fours, rest) = grey.as_chunks::<4>();
    for four in fours {
        for (table, v) in tables.iter_mut().zip(four) {
            table[usize::from(*v)] += 1;
        }
    }
    for v in rest {
        tables[0][usize::from(*v)] += 1;
    }
    let mut counts = [0; 256];
    for (v, count) in counts.iter_mut().enumerate() {
        *count = tables.iter().map(|table| u64::from(table[v])).sum();
    }
    counts
}

#[inline(always)]
fn percentile(counts: &[u64; 256], share: f64) -> u8 {
    let rank = (counts.iter().sum::<u64>() as f64 * share) as u64;
    let mut below = 0;
    (0..=255u8)
        .find(|v| {
            below += counts[*v as usize];
            below > rank
        })
        .unwrap_or(255)
}

fn range(counts: &[u64; 256]) -> (u8, u8) {
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
    (first as u8, last as u8)
}

#[inline(always)]
fn sharpness(grey: &[u8], width: usize, height: usize) -> f64 {
    if width < 3 || height < 3 {
        return 0.0;
    }
    let (mut sum, mut squares, mut grey_sum, mut grey_squares) = (0i64, 0i64, 0i64, 0i64);
    for y in 1..height - 1 {
        let [above, row, below] = [y - 1, y, y + 1].map(|y| &grey[y * width..][..width]);
        let (mut first, inner) = (0, width - 2);
        while first < inner {
            // The sum of 1,024 squares of up to 1,020 fits an i32.
            let length = (inner - first).min(1024);
            let [left, right] = [first, first + 2].map(|x| &row[x..][..length]);
            let [above, row, below] = [above, row, below].map(|line| &line[first + 1..][..length]);
            let mut sums = [0i32; 4];
            for i in 0..length {
                let v = i32::from(row[i]);
                let around = i32::from(left[i]) + i32::from(right[i]) + i32::from(above[i]) + i32::from(below[i]);
                let laplacian = 4 * v - around;
                sums[0] += laplacian;
                sums[1] += laplacian * laplacian;
                sums[2] += v;
                sums[3] += v * v;
            }
            let [a, b, c, d] = sums.map(i64::from);
            (sum, squares, grey_sum, grey_squares) = (sum + a, squares + b, grey_sum + c, grey_squares + d);
            first += length;
        }
    }
    let n = ((width - 2) * (height - 2)) as f64;
    let deviation = |sum: i64, squares: i64| (squares as f64 / n - (sum as f64 / n).powi(2)).max(0.0).sqrt();
    let spread = deviation(grey_sum, grey_squares);
    if spread < 1.0 { 0.0 } else { deviation(sum, squares) / spread }
}

/// The whole image resized to a square by averaging over areas.
#[inline(always)]
fn thumbnail(grey: &[u8], width: usize, height: usize) -> Vec<u8> {
    let span = |i: usize, length: usize| {
        let start = (i * length / THUMBNAIL_PX).min(length - 1);
        start..((i + 1) * length / THUMBNAIL_PX).clamp(start + 1, length)
    };
    let mut thumbnail = Vec::with_capacity(THUMBNAIL_PX * THUMBNAIL_PX);
    let mut columns = vec![0u32; width];
    for ty in 0..THUMBNAIL_PX {
        let rows = span(ty, height);
        columns.fill(0);
        for row in rows.clone() {
            for (sum, v) in columns.iter_mut().zip(&grey[row * width..][..width]) {
                *sum += u32::from(*v);
            }
        }
        for tx in 0..THUMBNAIL_PX {
            let span = span(tx, width);
            let n = (rows.len() * span.len()) as u64;
            let sum: u64 = columns[span].iter().map(|v| u64::from(*v)).sum();
            thumbnail.push(((sum + n / 2) / n) as u8);
        }
    }
    thumbnail
}

/// The perceptual hash (pHash; Zauner, thesis, 2010) of the middle of the thumbnail: low cosine frequencies compared
/// with their median.
#[inline(always)]
fn perceptual_hash(thumbnail: &[u8]) -> u64 {
    const MARGIN: usize = (THUMBNAIL_PX - WINDOW) / 2;
    // Frequencies 1 to 8 along each axis. Frequency 0 is the brightness, which must not matter.
    static COSINES: LazyLock<[[f32; LOW]; WINDOW]> = LazyLock::new(|| {
        let cosine = |k: usize, x: usize| ((2 * x + 1) as f32 * (k + 1) as f32 * PI / (2 * WINDOW) as f32).cos();
        std::array::from_fn(|x| std::array::from_fn(|k| cosine(k, x)))
    });
    let cosines: &[[f32; LOW]; WINDOW] = &COSINES;
    let mut values = [[0f32; LOW]; LOW];
    for (row, down) in thumbnail.chunks_exact(THUMBNAIL_PX).skip(MARGIN).zip(cosines) {
        let mut across = [0f32; LOW];
        for (v, cosines) in row[MARGIN..].iter().zip(cosines) {
            let v = f32::from(*v);
            for k in 0..LOW {
                across[k] += v * cosines[k];
            }
        }
        for ky in 0..LOW {
            for kx in 0..LOW {
                values[ky][kx] += across[kx] * down[ky];
            }
        }
    }
    let values = values.as_flattened();
    let mut sorted = [0f32; LOW * LOW];
    sorted.copy_from_slice(values);
    let (below, above, _) = sorted.select_nth_unstable_by(LOW * LOW / 2, f32::total_cmp);
    let median = (below.iter().copied().fold(f32::MIN, f32::max) + *above) / 2.0;
    values.iter().enumerate().fold(0, |hash, (i, v)| hash | u64::from(*v > median) << i)
}
