//! A map over a picture: how much each place speaks for a class.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use serde::Serialize;

/// `[side, side]`, row by row from the top, nowhere below 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    pub side: usize,
    pub values: Vec<f32>,
}

/// What a map comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Where in the model's picture the map is largest, px from its left and top edge; none where no value counts.
    pub x_px: Option<u32>,
    pub y_px: Option<u32>,
    /// How large it is there: in logits (Grad-CAM), or what the class's probability falls by (occlusion).
    pub largest: f32,
    /// Share of the map's sum that lies within the segmented cell.
    pub within_cell: Option<f32>,
}

impl Heat {
    /// The largest value.
    pub fn top(&self) -> f32 {
        self.values.iter().copied().fold(0.0, f32::max)
    }

    /// Bilinear, pixels' centres kept in place; beyond the outermost centres the outermost values hold.
    pub fn resized(&self, side: usize) -> Heat {
        // `image` holds f32 to 0 to 1.
        let top = self.top().max(f32::MIN_POSITIVE);
        let values: Vec<f32> = self.values.iter().map(|v| v / top).collect();
        let map = ImageBuffer::<Luma<f32>, _>::from_raw(self.side as u32, self.side as u32, values);
        let map = resize(&map.expect("side * side values"), side as u32, side as u32, FilterType::Triangle);
        Heat { side, values: map.into_raw().into_iter().map(|v| v * top).collect() }
    }

    /// Adds `share` of another map of the same side.
    pub fn add(&mut self, share: f32, values: &[f32]) {
        self.values.iter_mut().zip(values).for_each(|(sum, v)| *sum += share * v);
    }

    /// `cell` says which pixels are the cell's; a map that is nowhere above `least` is measured no further.
    pub fn measured(&self, cell: Option<&[bool]>, least: f32) -> Measured {
        let largest = self.top();
        let counts = largest > least;
        // Of a plateau, the middle.
        let at = (0..self.values.len()).filter(|i| counts && self.values[*i] == largest);
        let (n, x, y) = at.fold((0, 0, 0), |(n, x, y), i| (n + 1, x + i % self.side, y + i / self.side));
        let middle = |sum: usize| (n > 0).then(|| ((sum as f64 / n.max(1) as f64).round()) as u32);
        let sum = |of: &dyn Fn(usize) -> bool| -> f64 {
            (0..self.values.len()).filter(|i| of(*i)).map(|i| f64::from(self.values[i])).sum()
        };
        let all = sum(&|_| true);
        let within = cell.filter(|_| counts).map(|cell| (sum(&|i| cell[i]) / all) as f32);
        Measured { x_px: middle(x), y_px: middle(y), largest, within_cell: within }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_its_place_when_it_grows() {
        // 4 x 4, the largest in the last column of the second row.
        let mut heat = Heat { side: 4, values: vec![0.0; 16] };
        heat.values[7] = 3.0;
        heat.values[4] = 1.0;
        let grown = heat.resized(32);
        let measured = grown.measured(None, 0.0);
        // No new centre lies on an old one.
        assert!((2.7..=3.0).contains(&measured.largest), "{measured:?}");
        // Centres of the pixel: 28 and 12 of 32, and all that lies beyond to the right.
        assert!(measured.x_px.unwrap() >= 28 && measured.y_px == Some(12), "{measured:?}");
        let left: f32 = grown.values.chunks_exact(32).flat_map(|row| &row[..16]).sum();
        let right: f32 = grown.values.chunks_exact(32).flat_map(|row| &row[16..]).sum();
        assert!((right / left - 3.0).abs() < 0.01, "{left} and {right}");
    }

    #[test]
    fn the_share_within_the_cell_is_that_of_the_sum() {
        let heat = Heat { side: 2, values: vec![1.0, 0.0, 2.0, 5.0] };
        let measured = heat.measured(Some(&[true, true, false, true]), 4.0);
        assert_eq!((measured.within_cell, measured.x_px, measured.y_px), (Some(0.75), Some(1), Some(1)));
        let none = heat.measured(Some(&[true; 4]), 5.0);
        assert_eq!((none.within_cell, none.x_px, none.largest), (None, None, 5.0));
    }
}
