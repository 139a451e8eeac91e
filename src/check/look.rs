//! What one decode leaves of a picture: a few numbers, a perceptual hash, and a thumbnail to compare copies by.

use crate::decode::Rgb;
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
    /// Standard deviation of the Laplacian of grey over that of grey: 0 (flat) upwards.
    pub sharpness: f64,
    /// 64-bit perceptual hashes of the thumbnail's windows, moved by up to a tenth of the picture each way, row by row:
    /// which of the 8 x 8 lowest cosine frequencies lie above their median.
    hashes: [u64; PLACES * PLACES],
    /// Grey, THUMB x THUMB, whole picture squeezed into it.
    pub thumb: Vec<u8>,
}

impl Look {
    pub fn at(picture: &Rgb) -> Self {
        let (width, height) = (picture.width_px as usize, picture.height_px as usize);
        let grey: Vec<u8> = picture
            .pixels
            .chunks_exact(3)
            .map(|p| ((u32::from(p[0]) * 77 + u32::from(p[1]) * 150 + u32::from(p[2]) * 29 + 128) >> 8) as u8)
            .collect();
        let mut counts = [0u64; 256];
        grey.iter().for_each(|&v| counts[v as usize] += 1);
        let thumb = thumbnail(&grey, width, height);
        Self {
            dark_end: percentile(&counts, 0.05),
            bright_end: percentile(&counts, 0.95),
            sharpness: sharpness(&grey, width, height),
            hashes: std::array::from_fn(|i| hash(&thumb, i % PLACES * STEP, i / PLACES * STEP)),
            thumb,
        }
    }

    /// The hash of the central window.
    pub fn hash(&self) -> u64 {
        self.hashes[PLACES * PLACES / 2]
    }

    /// Bits by which the two pictures' hashes differ where they differ least: one's central window against all of the
    /// other's. Small for copies, also for those cut a little differently.
    pub fn distance(&self, other: &Look) -> u32 {
        let least = |hash: u64, hashes: &[u64]| hashes.iter().map(|h| (h ^ hash).count_ones()).min().unwrap_or(64);
        least(self.hash(), &other.hashes).min(least(other.hash(), &self.hashes))
    }
}

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

fn sharpness(grey: &[u8], width: usize, height: usize) -> f64 {
    if width < 3 || height < 3 {
        return 0.0;
    }
    let (mut sum, mut squares, mut grey_sum, mut grey_squares) = (0i64, 0i64, 0i64, 0i64);
    for y in 1..height - 1 {
        let [above, row, below] = [y - 1, y, y + 1].map(|y| &grey[y * width..][..width]);
        for x in 1..width - 1 {
            let v = |p: u8| i64::from(p);
            let laplacian = 4 * v(row[x]) - v(row[x - 1]) - v(row[x + 1]) - v(above[x]) - v(below[x]);
            sum += laplacian;
            squares += laplacian * laplacian;
            grey_sum += v(row[x]);
            grey_squares += v(row[x]) * v(row[x]);
        }
    }
    let n = ((width - 2) * (height - 2)) as f64;
    let deviation = |sum: i64, squares: i64| (squares as f64 / n - (sum as f64 / n).powi(2)).max(0.0).sqrt();
    let spread = deviation(grey_sum, grey_squares);
    if spread < 1.0 { 0.0 } else { deviation(sum, squares) / spread }
}

/// Area average of the whole picture, squeezed into a square.
fn thumbnail(grey: &[u8], width: usize, height: usize) -> Vec<u8> {
    let span = |i: usize, length: usize| {
        let start = (i * length / THUMB).min(length - 1);
        start..((i + 1) * length / THUMB).clamp(start + 1, length)
    };
    let mut thumb = Vec::with_capacity(THUMB * THUMB);
    for ty in 0..THUMB {
        for tx in 0..THUMB {
            let (rows, columns) = (span(ty, height), span(tx, width));
            let n = (rows.len() * columns.len()) as u64;
            let sum: u64 =
                rows.map(|y| grey[y * width..][columns.clone()].iter().map(|&v| u64::from(v)).sum::<u64>()).sum();
            thumb.push(((sum + n / 2) / n) as u8);
        }
    }
    thumb
}

/// The perceptual hash of Zauner's thesis (pHash, 2010) of one window: low cosine frequencies against their median.
fn hash(thumb: &[u8], x0: usize, y0: usize) -> u64 {
    // Frequencies 1 to 8 each way: 0 is the brightness, which must not count.
    static COSINES: LazyLock<[[f32; WINDOW]; LOW]> = LazyLock::new(|| {
        let cosine = |k: usize, x: usize| ((2 * x + 1) as f32 * (k + 1) as f32 * PI / (2 * WINDOW) as f32).cos();
        std::array::from_fn(|k| std::array::from_fn(|x| cosine(k, x)))
    });
    let rows = thumb.chunks_exact(THUMB).skip(y0).take(WINDOW).map(|row| &row[x0..x0 + WINDOW]);
    let rows: Vec<[f32; LOW]> = rows
        .map(|row| std::array::from_fn(|k| row.iter().zip(&COSINES[k]).map(|(v, c)| f32::from(*v) * c).sum()))
        .collect();
    let mut values = [0f32; LOW * LOW];
    for (i, value) in values.iter_mut().enumerate() {
        let (ky, kx) = (i / LOW, i % LOW);
        *value = rows.iter().zip(&COSINES[ky]).map(|(row, c)| row[kx] * c).sum();
    }
    let mut sorted = values;
    sorted.sort_by(f32::total_cmp);
    let median = (sorted[31] + sorted[32]) / 2.0;
    values.iter().enumerate().fold(0, |hash, (i, v)| hash | u64::from(*v > median) << i)
}
