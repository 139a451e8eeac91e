//! Optical densities of an image relative to the plasma around the cell.
//!
//! The optical density of a channel is -ln(I / I0), where I0 is the plasma's grey level (Ruifrok and Johnston, Anal.
//! Quant. Cytol. Histol. 23:291-299, 2001). It is independent of the plasma's own colour.

use super::mask::Mask;
use crate::decode::Rgb;

/// Regions at the border with all channels below this grey level are padding, which some data sets add around cells.
const BLACK: u8 = 16;
/// Margin added to the padding, because its edge is blurred.
const PADDING_EDGE_PX: f32 = 3.0;
/// Share of the brightest pixels that are ignored as glare.
const GLARE_SHARE: f64 = 0.05;
/// Pixels with at least this share of the brightest green, without glare, are plasma.
const PLASMA_SHARE: f32 = 0.9;
/// Blurred values are stored in steps of 1/256.
pub const STEP: f32 = 256.0;

/// Optical densities of an image.
pub struct Stain {
    /// Density of each pixel in red, green and blue: 0 for plasma, 1 where 37 % of the light passes, negative where the
    /// pixel is brighter than plasma.
    pub density: Vec<[f32; 3]>,
    /// Grey levels of the plasma in red, green and blue, 0 to 255.
    pub plasma: [f32; 3],
    /// Black padding at the image's border.
    pub padding: Mask,
    /// Noise: the median of [`max_density`] over plasma pixels.
    pub noise: f32,
}

impl Stain {
    /// Estimates the plasma's colour and computes the densities; `None` if the image is only padding.
    pub fn estimate(image: &Rgb) -> Option<Self> {
        let (width, height) = (image.width_px as usize, image.height_px as usize);
        let pixels = image.pixels.as_chunks::<3>().0;
        let black = Mask::new(width, height, |i| pixels[i].iter().all(|v| *v < BLACK));
        let outside = black.keep(|r| r.len() > pixels.len() / 200 && r.iter().any(|i| black.is_border(*i)));
        let distance = outside.distance();
        let padding = outside.same_size(|i| distance[i] <= PADDING_EDGE_PX);

        let channel = |c: usize| pixels.iter().map(|p| u16::from(p[c]) * STEP as u16).collect::<Vec<_>>();
        let blurred = [0, 1, 2].map(|c| blur(&channel(c), width, height, 1));
        let grey = |c: usize, i: usize| f32::from(blurred[c][i]) / STEP;
        let quantile_of = |c: usize, share: f64, include: &dyn Fn(usize) -> bool| {
            quantile((0..pixels.len()).filter(|i| include(*i)).map(|i| grey(c, i)).collect(), share)
        };
        let inside = |i: usize| !padding.on[i];
        let bright = quantile_of(1, 1.0 - GLARE_SHARE, &inside)? * PLASMA_SHARE;
        let is_plasma = |i: usize| inside(i) && grey(1, i) >= bright;
        let mut plasma = [0.0; 3];
        for (c, plasma) in plasma.iter_mut().enumerate() {
            *plasma = quantile_of(c, 0.5, &is_plasma)?;
        }
        // 1 is added to both grey levels, because the logarithm of 0 is undefined.
        let density: Vec<[f32; 3]> = (0..pixels.len())
            .map(|i| match padding.on[i] {
                true => [0.0; 3],
                false => [0, 1, 2].map(|c| ((plasma[c] + 1.0) / (grey(c, i) + 1.0)).ln()),
            })
            .collect();
        let noise = (0..pixels.len()).filter(|i| is_plasma(*i)).map(|i| max_density(density[i])).collect();
        let noise = quantile(noise, 0.5)?;
        Some(Self { density, plasma, padding, noise })
    }

    /// A weighted sum of the three densities, mapped to 0 to 255 by [`saturate`].
    pub fn weighted(&self, weights: [f32; 3]) -> Vec<u8> {
        self.density.iter().map(|d| saturate(weigh(*d, weights)) as u8).collect()
    }
}

/// The quantile of `values` at `share` (0 to 1); `None` if there are no values.
pub fn quantile(mut values: Vec<f32>, share: f64) -> Option<f32> {
    let at = ((values.len() as f64 * share) as usize).min(values.len().checked_sub(1)?);
    Some(*values.select_nth_unstable_by(at, f32::total_cmp).1)
}

/// The largest absolute value of a pixel's three densities.
pub fn max_density(density: [f32; 3]) -> f32 {
    density.into_iter().fold(0.0, |largest, d| largest.max(d.abs()))
}

/// The weighted sum of a pixel's densities; negative densities count as 0.
pub fn weigh(density: [f32; 3], weights: [f32; 3]) -> f32 {
    let [r, g, b] = density.map(|d| d.max(0.0));
    r * weights[0] + g * weights[1] + b * weights[2]
}

/// Maps densities from 0 upwards to 0 to 255, so that differences between strong stains count less than between weak
/// ones: 255 (1 - exp(-density)).
pub fn saturate(density: f32) -> f32 {
    255.0 * (1.0 - (-density.max(0.0)).exp())
}

/// The inverse of [`saturate`].
pub fn desaturate(value: f32) -> f32 {
    -(1.0 - value / 255.0).max(1e-3).ln()
}

/// Applies the filter [1 2 1] / 4 along both axes `times` times: a blur of standard deviation sqrt(times / 2) px.
/// Integer arithmetic makes the result independent of the image's orientation.
pub fn blur(values: &[u16], width: usize, height: usize, times: usize) -> Vec<u16> {
    let mut from = values.to_vec();
    let mut to = vec![0; values.len()];
    let mut across = vec![0u32; values.len()];
    for _ in 0..times {
        for (row, sums) in from.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
            for x in 0..width {
                let (left, right) = (row[x.saturating_sub(1)], row[(x + 1).min(width - 1)]);
                sums[x] = u32::from(left) + 2 * u32::from(row[x]) + u32::from(right);
            }
        }
        for y in 0..height {
            let row = |y: usize| &across[y * width..][..width];
            let (above, here, below) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(height - 1)));
            for x in 0..width {
                to[y * width + x] = ((above[x] + 2 * here[x] + below[x] + 8) / 16) as u16;
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
    from
}

/// Otsu's two thresholds, which best separate values into three groups (IEEE Trans. SMC 9:62-66, 1979). Values above a
/// threshold belong to the upper group; `None` if there are fewer than three different values.
pub fn otsu3(counts: &[u64; 256]) -> Option<(u8, u8)> {
    let (mut number, mut sum) = ([0f64; 257], [0f64; 257]);
    for v in 0..256 {
        number[v + 1] = number[v] + counts[v] as f64;
        sum[v + 1] = sum[v] + counts[v] as f64 * v as f64;
    }
    // The variance between groups is the sum of these terms plus a constant.
    let term = |from: usize, to: usize| {
        let n = number[to] - number[from];
        (n > 0.0).then(|| (sum[to] - sum[from]).powi(2) / n)
    };
    let mut best = (f64::MIN, None);
    for low in 0..254 {
        let Some(first) = term(0, low + 1) else { continue };
        for high in low + 1..255 {
            let (Some(second), Some(third)) = (term(low + 1, high + 1), term(high + 1, 256)) else { continue };
            if first + second + third > best.0 {
                best = (first + second + third, Some((low as u8, high as u8)));
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn density_follows_its_definition_for_plasma_of_any_colour() {
        for plasma in [[255u8, 232, 205], [255, 240, 110], [250, 250, 255]] {
            // In a fifth of the image 1/e of the green light passes; a black band is padding.
            let pixels = (0..40 * 40).flat_map(|i| match (i / 40, i % 40) {
                (0..6, _) => [0; 3],
                (_, 32..) => [plasma[0], (f32::from(plasma[1] + 1) / std::f32::consts::E) as u8 - 1, plasma[2]],
                _ => plasma,
            });
            let stain = Stain::estimate(&Rgb { width_px: 40, height_px: 40, pixels: pixels.collect() }).unwrap();
            assert_eq!(stain.plasma, plasma.map(f32::from));
            assert!(stain.padding.on[2 * 40 + 20] && !stain.padding.on[12 * 40 + 20]);
            let [r, g, b] = stain.density[20 * 40 + 36];
            assert!((g - 1.0).abs() < 0.02 && r.abs() < 1e-3 && b.abs() < 1e-3, "{r} {g} {b}");
        }
        assert!(Stain::estimate(&Rgb { width_px: 20, height_px: 20, pixels: vec![0; 1200] }).is_none());
    }

    #[test]
    fn otsu3_separates_three_clusters() {
        let mut counts = [0; 256];
        for (at, n) in [(10, 500), (12, 400), (90, 80), (95, 60), (200, 100), (230, 40)] {
            counts[at] = n;
        }
        let (low, high) = otsu3(&counts).unwrap();
        assert!((12..90).contains(&low) && (95..200).contains(&high), "{low} {high}");
        assert_eq!(otsu3(&[0; 256]), None);
    }

    #[test]
    fn desaturate_inverts_saturate() {
        for v in [0.0, 0.2, 1.0, 3.0] {
            assert!((desaturate(saturate(v)) - v).abs() < 1e-3);
        }
    }
}
