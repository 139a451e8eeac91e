//! What a picture's pixels say of the stain: how much light they hold back, against the plasma around the cell.
//!
//! Optical density: -ln(I / I0) a channel, with I0 the plasma's grey level (Ruifrok and Johnston, Anal. Quant. Cytol.
//! Histol. 23:291-299, 2001). The plasma's own colour, be it white, peach or yellow, drops out of it.

use super::mask::Mask;
use crate::decode::Rgb;

/// All channels below this are padding where it reaches the border: data sets cut cells with black around.
const BLACK: u8 = 16;
/// Padding grows by so much: its edge is blurred.
const PADDING_EDGE_PX: f32 = 3.0;
/// Green of the plasma: the brightest in the picture but for this share (glare).
const GLARE_SHARE: f64 = 0.05;
/// Pixels with at least this share of the plasma's green are plasma.
const PLASMA_SHARE: f32 = 0.9;
/// Grey levels are blurred to 1/256 steps.
pub const STEP: f32 = 256.0;

/// A picture as optical densities.
pub struct Stain {
    /// Red, green, blue of every pixel; 0 is plasma, 1 lets 37 % through, below 0 is brighter than plasma.
    pub density: Vec<[f32; 3]>,
    /// The plasma's grey levels, 0 to 255.
    pub plasma: [f32; 3],
    /// Black padding at the picture's border.
    pub padding: Mask,
    /// Median of what plasma pixels seem to hold back: noise.
    pub noise: f32,
}

impl Stain {
    /// `None` where there is nothing but padding.
    pub fn of(picture: &Rgb) -> Option<Self> {
        let (width, height) = (picture.width_px as usize, picture.height_px as usize);
        let pixels = picture.pixels.as_chunks::<3>().0;
        let black = Mask::new(width, height, |i| pixels[i].iter().all(|v| *v < BLACK));
        let outside = black.keep(|r| r.len() > pixels.len() / 200 && r.iter().any(|i| black.is_border(*i)));
        let reach = outside.distance();
        let padding = outside.with(|i| reach[i] <= PADDING_EDGE_PX);

        let channel = |c: usize| pixels.iter().map(|p| u16::from(p[c]) * STEP as u16).collect::<Vec<_>>();
        let blurred = [0, 1, 2].map(|c| blur(&channel(c), width, height, 1));
        let grey = |c: usize, i: usize| f32::from(blurred[c][i]) / STEP;
        let quantile_of = |c: usize, share: f64, of: &dyn Fn(usize) -> bool| {
            quantile((0..pixels.len()).filter(|i| of(*i)).map(|i| grey(c, i)).collect(), share)
        };
        let inside = |i: usize| !padding.on[i];
        let bright = quantile_of(1, 1.0 - GLARE_SHARE, &inside)? * PLASMA_SHARE;
        let is_plasma = |i: usize| inside(i) && grey(1, i) >= bright;
        let mut plasma = [0.0; 3];
        for (c, plasma) in plasma.iter_mut().enumerate() {
            *plasma = quantile_of(c, 0.5, &is_plasma)?;
        }
        // One grey level more on both sides: black has a logarithm too.
        let density: Vec<[f32; 3]> = (0..pixels.len())
            .map(|i| match padding.on[i] {
                true => [0.0; 3],
                false => [0, 1, 2].map(|c| ((plasma[c] + 1.0) / (grey(c, i) + 1.0)).ln()),
            })
            .collect();
        let noise = (0..pixels.len()).filter(|i| is_plasma(*i)).map(|i| held_back(density[i])).collect();
        let noise = quantile(noise, 0.5)?;
        Some(Self { density, plasma, padding, noise })
    }

    /// A weighted sum of the three densities, as 0 to 255: 255 (1 - exp(-sum)). Differences between strong stains
    /// matter less than those between weak ones.
    pub fn measure(&self, weights: [f32; 3]) -> Vec<u8> {
        self.density.iter().map(|d| saturate(weigh(*d, weights)) as u8).collect()
    }
}

/// The value that `share` of the values lie below; `None` where there are none.
pub fn quantile(mut values: Vec<f32>, share: f64) -> Option<f32> {
    let at = ((values.len() as f64 * share) as usize).min(values.len().checked_sub(1)?);
    Some(*values.select_nth_unstable_by(at, f32::total_cmp).1)
}

/// How far a pixel is from plasma: the largest of its three densities, whatever their sign.
pub fn held_back(density: [f32; 3]) -> f32 {
    density.into_iter().fold(0.0, |most, d| most.max(d.abs()))
}

pub fn weigh(density: [f32; 3], weights: [f32; 3]) -> f32 {
    let [r, g, b] = density.map(|d| d.max(0.0));
    r * weights[0] + g * weights[1] + b * weights[2]
}

/// 0 upwards to 0 to 255.
pub fn saturate(density: f32) -> f32 {
    255.0 * (1.0 - (-density.max(0.0)).exp())
}

/// The other way round.
pub fn desaturate(value: f32) -> f32 {
    -(1.0 - value / 255.0).max(1e-3).ln()
}

/// Blurs by [1 2 1] / 4 both ways, `times` over: standard deviation sqrt(times / 2) px. In whole numbers, so that a
/// turned picture comes out turned.
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

/// The two thresholds that best part values in three (Otsu, IEEE Trans. SMC 9:62-66, 1979); each class is above its
/// threshold. `None` where fewer than three values occur.
pub fn otsu3(counts: &[u64; 256]) -> Option<(u8, u8)> {
    let (mut number, mut sum) = ([0f64; 257], [0f64; 257]);
    for v in 0..256 {
        number[v + 1] = number[v] + counts[v] as f64;
        sum[v + 1] = sum[v] + counts[v] as f64 * v as f64;
    }
    // The variance between classes is, but for a constant, the sum of these.
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
    fn density_is_that_of_the_definition_and_plasma_is_found_in_any_colour() {
        for plasma in [[255u8, 232, 205], [255, 240, 110], [250, 250, 255]] {
            // A fifth of the picture holds back e^-1 of the green; a black band is padding.
            let pixels = (0..40 * 40).flat_map(|i| match (i / 40, i % 40) {
                (0..6, _) => [0; 3],
                (_, 32..) => [plasma[0], (f32::from(plasma[1] + 1) / std::f32::consts::E) as u8 - 1, plasma[2]],
                _ => plasma,
            });
            let stain = Stain::of(&Rgb { width_px: 40, height_px: 40, pixels: pixels.collect() }).unwrap();
            assert_eq!(stain.plasma, plasma.map(f32::from));
            assert!(stain.padding.on[2 * 40 + 20] && !stain.padding.on[12 * 40 + 20]);
            let [r, g, b] = stain.density[20 * 40 + 36];
            assert!((g - 1.0).abs() < 0.02 && r.abs() < 1e-3 && b.abs() < 1e-3, "{r} {g} {b}");
        }
        assert!(Stain::of(&Rgb { width_px: 20, height_px: 20, pixels: vec![0; 1200] }).is_none());
    }

    #[test]
    fn three_heaps_are_parted_between_them() {
        let mut counts = [0; 256];
        for (at, n) in [(10, 500), (12, 400), (90, 80), (95, 60), (200, 100), (230, 40)] {
            counts[at] = n;
        }
        let (low, high) = otsu3(&counts).unwrap();
        assert!((12..90).contains(&low) && (95..200).contains(&high), "{low} {high}");
        assert_eq!(otsu3(&[0; 256]), None);
    }

    #[test]
    fn saturation_can_be_undone() {
        for v in [0.0, 0.2, 1.0, 3.0] {
            assert!((desaturate(saturate(v)) - v).abs() < 1e-3);
        }
    }
}
