//! What is measured of a decoded image.

use crate::decode::Grey;
use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

/// Measurements of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
        let (mut least, mut most) = (u8::MAX, 0);
        for v in grey {
            (least, most) = (least.min(*v), most.max(*v));
        }
        let [grey_p05, grey_p95] = percentiles(grey, [0.05, 0.95]);
        Measurements { grey_p05, grey_p95, grey_range: (least, most), sharpness: sharpness(grey, width, height) }
    }
}

/// For each share, the level such that more than this share of the pixels are at most as bright.
#[inline(always)]
fn percentiles(grey: &[u8], shares: [f64; 2]) -> [u8; 2] {
    /// Every so many pixels are looked at to find about the level. To count all pixels below a level is fast, to count
    /// those of every level is not.
    const STEP: usize = 61;
    let mut counts = [0usize; 256];
    for v in grey.iter().step_by(STEP) {
        counts[usize::from(*v)] += 1;
    }
    shares.map(|share| {
        let rank = |n: usize| (n as f64 * share) as usize;
        let (about, exactly) = (rank(grey.len().div_ceil(STEP)), rank(grey.len()));
        let (mut level, mut sum) = (0, counts[0]);
        while sum <= about && level < u8::MAX {
            level += 1;
            sum += counts[usize::from(level)];
        }
        while below(grey, level) > exactly {
            level -= 1;
        }
        while level < u8::MAX && below(grey, level + 1) <= exactly {
            level += 1;
        }
        level
    })
}

/// How many pixels are below a level.
#[inline(always)]
fn below(grey: &[u8], level: u8) -> usize {
    /// The count of so many pixels fits a byte, so that whole vectors of bytes are added.
    const PART: usize = 224;
    let (parts, rest) = grey.as_chunks::<PART>();
    let mut total = 0;
    for part in parts {
        let mut count = 0u8;
        for v in part {
            count += u8::from(*v < level);
        }
        total += usize::from(count);
    }
    total + rest.iter().filter(|v| **v < level).count()
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
