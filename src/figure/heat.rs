//! A heat map over an image: how much each place contributes to a class.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use serde::Serialize;

/// A square map, row by row from the top; values are at least 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// Width and height, values.
    pub side: usize,
    /// `side * side` values.
    pub values: Vec<f32>,
}

/// Measurements of a heat map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Where the map is largest, px from the left edge of the model's image; `None` where no value exceeds the
    /// threshold.
    pub x_px: Option<u32>,
    /// The same from the top edge, px.
    pub y_px: Option<u32>,
    /// The largest value: logits (Grad-CAM) or the fall of the class's probability, 0 to 1 (occlusion).
    pub largest: f32,
    /// Share of the map's sum that lies within the segmented cell, 0 to 1.
    pub within_cell: Option<f32>,
}

impl Heat {
    /// The largest value.
    pub fn max(&self) -> f32 {
        self.values.iter().copied().fold(0.0, f32::max)
    }

    /// The map at another size by bilinear interpolation. Pixel centres stay in place; beyond the outermost centres the
    /// outermost values continue.
    pub fn resized(&self, side: usize) -> Heat {
        // `image` clamps f32 values to 0 to 1.
        let max = self.max().max(f32::MIN_POSITIVE);
        let values: Vec<f32> = self.values.iter().map(|v| v / max).collect();
        let map = ImageBuffer::<Luma<f32>, _>::from_raw(self.side as u32, self.side as u32, values);
        let map = resize(&map.expect("side * side values"), side as u32, side as u32, FilterType::Triangle);
        Heat { side, values: map.into_raw().into_iter().map(|v| v * max).collect() }
    }

    /// Adds the values of another map of the same size, multiplied by `weight`.
    pub fn add(&mut self, weight: f32, values: &[f32]) {
        self.values.iter_mut().zip(values).for_each(|(sum, v)| *sum += weight * v);
    }

    /// Measures the map. `cell` marks the pixels of the cell; only [`Measured::largest`] is given where no value
    /// exceeds `threshold`.
    pub fn measured(&self, cell: Option<&[bool]>, threshold: f32) -> Measured {
        let largest = self.max();
        let significant = largest > threshold;
        // The middle of a plateau of equal values.
        let at = (0..self.values.len()).filter(|i| significant && self.values[*i] == largest);
        let (n, x, y) = at.fold((0, 0, 0), |(n, x, y), i| (n + 1, x + i % self.side, y + i / self.side));
        let middle = |sum: usize| (n > 0).then(|| ((sum as f64 / n.max(1) as f64).round()) as u32);
        let sum = |included: &dyn Fn(usize) -> bool| -> f64 {
            (0..self.values.len()).filter(|i| included(*i)).map(|i| f64::from(self.values[i])).sum()
        };
        let all = sum(&|_| true);
        let within = cell.filter(|_| significant).map(|cell| (sum(&|i| cell[i]) / all) as f32);
        Measured { x_px: middle(x), y_px: middle(y), largest, within_cell: within }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_keeps_a_maps_position() {
        // 4 x 4, the largest value in the last column of the second row.
        let mut heat = Heat { side: 4, values: vec![0.0; 16] };
        heat.values[7] = 3.0;
        heat.values[4] = 1.0;
        let resized = heat.resized(32);
        let measured = resized.measured(None, 0.0);
        // No new pixel centre coincides with an old one.
        assert!((2.7..=3.0).contains(&measured.largest), "{measured:?}");
        // The old pixel centre is at x 28, y 12 of 32, and its value continues to the right edge.
        assert!(measured.x_px.unwrap() >= 28 && measured.y_px == Some(12), "{measured:?}");
        let left: f32 = resized.values.chunks_exact(32).flat_map(|row| &row[..16]).sum();
        let right: f32 = resized.values.chunks_exact(32).flat_map(|row| &row[16..]).sum();
        assert!((right / left - 3.0).abs() < 0.01, "{left} and {right}");
    }

    #[test]
    fn the_share_within_the_cell_is_a_share_of_the_sum() {
        let heat = Heat { side: 2, values: vec![1.0, 0.0, 2.0, 5.0] };
        let measured = heat.measured(Some(&[true, true, false, true]), 4.0);
        assert_eq!((measured.within_cell, measured.x_px, measured.y_px), (Some(0.75), Some(1), Some(1)));
        let none = heat.measured(Some(&[true; 4]), 5.0);
        assert_eq!((none.within_cell, none.x_px, none.largest), (None, None, 5.0));
    }
}
