//! Colour of the nucleus or the cytoplasm: mean, standard deviation and skewness of grey levels and optical densities.

use super::values::Values;
use crate::decode::Rgb;
use crate::segment::Mask;

const CHANNELS: [&str; 3] = ["red", "green", "blue"];

/// Measures the pixels of `part`. Densities are relative to `plasma`, its grey levels.
pub fn measure(image: &Rgb, part: &Mask, plasma: [f32; 3], name: &str, values: &mut Values) {
    let pixels = image.pixels.as_chunks::<3>().0;
    for (c, channel) in CHANNELS.iter().enumerate() {
        let mut counts = [0u64; 256];
        part.pixels().for_each(|i| counts[usize::from(pixels[i][c])] += 1);
        let density = |v: f64| ((f64::from(plasma[c]) + 1.0) / (v + 1.0)).ln();
        let scales: [(&str, &dyn Fn(f64) -> f64); 2] = [("", &|v| v), ("density_", &density)];
        for (kind, scale) in scales {
            let [mean, deviation, skewness] = moments(&counts, scale);
            values.put(name, &format!("{kind}{channel}_mean"), mean);
            values.put(name, &format!("{kind}{channel}_deviation"), deviation);
            values.put(name, &format!("{kind}{channel}_skewness"), skewness);
        }
    }
}

/// Mean, standard deviation and skewness (third central moment / deviation^3; undefined for a single level) of grey
/// levels on a `scale`, from the histogram `counts`. The result does not depend on the order of pixels.
fn moments(counts: &[u64; 256], scale: &dyn Fn(f64) -> f64) -> [Option<f64>; 3] {
    let n: u64 = counts.iter().sum();
    if n == 0 {
        return [None; 3];
    }
    let levels = || counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(v, n)| (scale(v as f64), *n as f64));
    let mean = levels().map(|(v, k)| v * k).sum::<f64>() / n as f64;
    let central = |power: i32| levels().map(|(v, k)| (v - mean).powi(power) * k).sum::<f64>() / n as f64;
    let deviation = central(2).sqrt();
    // With a single level, the third moment is only a rounding error.
    let skewness = (levels().count() > 1).then(|| central(3) / deviation.powi(3));
    [Some(mean), Some(deviation), skewness]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_match_hand_calculation() {
        // 10, 10, 10, 50: mean 20, variance 300, third moment (3 * -1000 + 27000) / 4 = 6000.
        let mut counts = [0; 256];
        (counts[10], counts[50]) = (3, 1);
        let [mean, deviation, skewness] = moments(&counts, &|v| v).map(Option::unwrap);
        assert!((mean - 20.0).abs() < 1e-12 && (deviation - 300f64.sqrt()).abs() < 1e-12);
        assert!((skewness - 6000.0 / 300f64.powf(1.5)).abs() < 1e-12);
        let mut flat = [0; 256];
        flat[7] = 5;
        assert_eq!(moments(&flat, &|v| v), [Some(7.0), Some(0.0), None]);
        assert_eq!(moments(&[0; 256], &|v| v), [None; 3]);
    }
}
