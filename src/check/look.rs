//! What one decode leaves of a picture: a few numbers, a perceptual hash, and a thumbnail to compare copies by.

use crate::decode::Grey;
use pulp::{Arch, Simd, WithSimd};
use std::f32::consts::PI;
use std::sync::LazyLock;

/// Side of the thumbnail, px.
pub const THUMB: usize = 40;
/// Side of the thumbnail's part that a hash is made of, px: room to move it by a tenth of the picture each way.
const WINDOW: usize = 32;
/// Steps by which the window is moved, px: a twentieth of the picture.
const STEP: usize = 2;
/// Places of the window along each axis.
const PLACES: usize = (THUMB - WINDOW) / STEP + 1;
/// Side of the square of low frequencies that the hash is made of.
const LOW: usize = 8;

/// What is kept of a picture, about 2 KiB.
#[derive(Clone, Debug)]
pub struct Look {
    /// 5th and 95th percentile of grey, 0 to 255.
    pub dark_end: u8,
    pub bright_end: u8,
    /// Smallest and largest grey value.
    pub range: (u8, u8),
    /// Standard deviation of the Laplacian of grey over that of grey: 0 (flat) upwards.
    pub sharpness: f64,
    /// 64-bit perceptual hashes of the thumbnail's windows, moved by up to a tenth of the picture each way, row by row:
    /// which of the 8 x 8 lowest cosine frequencies lie above their median.
    hashes: [u64; PLACES * PLACES],
    /// Grey, THUMB x THUMB, whole picture squeezed into it.
    pub thumb: Vec<u8>,
}

impl Look {
    pub fn at(picture: &Grey) -> Self {
        Arch::new().dispatch(Measure(picture))
    }

    /// The hash of the central window.
    pub fn hash(&self) -> u64 {
        self.hashes[PLACES * PLACES / 2]
    }

    /// Bits by which the two pictures' hashes differ where they differ least: one's central window against all of the
    /// other's. Small for copies, also for those cut a little differently.
    #[inline(always)]
    pub fn distance(&self, other: &Look) -> u32 {
        let (mine, its) = (self.hash(), other.hash());
        let mut least = u64::from(u64::BITS);
        for (a, b) in self.hashes.iter().zip(&other.hashes) {
            least = least.min(u64::from((a ^ its).count_ones())).min(u64::from((b ^ mine).count_ones()));
        }
        least as u32
    }
}

/// [`Look::at`], compiled for the machine's vectors.
struct Measure<'a>(&'a Grey);

impl WithSimd for Measure<'_> {
    type Output = Look;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Look {
        let (width, height) = (self.0.width_px as usize, self.0.height_px as usize);
        let grey = self.0.pixels.as_slice();
        let counts = histogram(grey);
        let thumb = thumbnail(grey, width, height);
        Look {
            dark_end: percentile(&counts, 0.05),
            bright_end: percentile(&counts, 0.95),
            range: range(&counts),
            sharpness: sharpness(grey, width, height),
            hashes: hashes(&thumb),
            thumb,
        }
    }
}

#[inline(always)]
fn histogram(grey: &[u8]) -> [u64; 256] {
    // Four tables: equal neighbours would wait for each other.
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
            // Squares of up to 1,020 in pieces of a thousand stay below 2^31.
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

/// Area average of the whole picture, squeezed into a square.
#[inline(always)]
fn thumbnail(grey: &[u8], width: usize, height: usize) -> Vec<u8> {
    let span = |i: usize, length: usize| {
        let start = (i * length / THUMB).min(length - 1);
        start..((i + 1) * length / THUMB).clamp(start + 1, length)
    };
    let mut thumb = Vec::with_capacity(THUMB * THUMB);
    let mut columns = vec![0u32; width];
    for ty in 0..THUMB {
        let rows = span(ty, height);
        columns.fill(0);
        for row in rows.clone() {
            for (sum, v) in columns.iter_mut().zip(&grey[row * width..][..width]) {
                *sum += u32::from(*v);
            }
        }
        for tx in 0..THUMB {
            let span = span(tx, width);
            let n = (rows.len() * span.len()) as u64;
            let sum: u64 = columns[span].iter().map(|v| u64::from(*v)).sum();
            thumb.push(((sum + n / 2) / n) as u8);
        }
    }
    thumb
}

/// The perceptual hash of Zauner's thesis (pHash, 2010) of every window: low cosine frequencies against their median.
#[inline(always)]
fn hashes(thumb: &[u8]) -> [u64; PLACES * PLACES] {
    // Frequencies 1 to 8 each way: 0 is the brightness, which must not count.
    static COSINES: LazyLock<[[f32; LOW]; WINDOW]> = LazyLock::new(|| {
        let cosine = |k: usize, x: usize| ((2 * x + 1) as f32 * (k + 1) as f32 * PI / (2 * WINDOW) as f32).cos();
        std::array::from_fn(|x| std::array::from_fn(|k| cosine(k, x)))
    });
    let cosines: &[[f32; LOW]; WINDOW] = &COSINES;
    // Along the rows, for each place of the window across.
    let mut across = [[[0f32; LOW]; THUMB]; PLACES];
    for (place, across) in across.iter_mut().enumerate() {
        for (row, sums) in thumb.chunks_exact(THUMB).zip(across) {
            for (v, cosines) in row[place * STEP..].iter().zip(cosines) {
                let v = f32::from(*v);
                for k in 0..LOW {
                    sums[k] += v * cosines[k];
                }
            }
        }
    }
    let mut hashes = [0; PLACES * PLACES];
    for (i, hash) in hashes.iter_mut().enumerate() {
        let (down, across) = (i / PLACES, &across[i % PLACES]);
        let mut values = [[0f32; LOW]; LOW];
        for (row, cosines) in across[down * STEP..].iter().zip(cosines) {
            for ky in 0..LOW {
                for kx in 0..LOW {
                    values[ky][kx] += row[kx] * cosines[ky];
                }
            }
        }
        let values = values.as_flattened();
        let mut sorted = [0f32; LOW * LOW];
        sorted.copy_from_slice(values);
        let (below, above, _) = sorted.select_nth_unstable_by(LOW * LOW / 2, f32::total_cmp);
        let median = (below.iter().copied().fold(f32::MIN, f32::max) + *above) / 2.0;
        *hash = values.iter().enumerate().fold(0, |hash, (i, v)| hash | u64::from(*v > median) << i);
    }
    hashes
}
