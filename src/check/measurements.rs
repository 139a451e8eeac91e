//! What is measured of a decoded image.

use crate::decode::Grey;
use pulp::{Arch, Simd, WithSimd};

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
        Measurements {
            grey_p05: percentile(&counts, 0.05),
            grey_p95: percentile(&counts, 0.95),
            grey_range: range(&counts),
            sharpness: sharpness(grey, width, height),
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
