//! What the backgrounds' colours say: whether they differ between classes, and which images are unusual.

use super::images::Images;
use crate::class::{Class, Classes};
use crate::rows::ManifestRow;
use crate::statistics::epsilon_squared;

/// Images with an unusual background that are shown.
const UNUSUAL: usize = 8;

/// Share of the backgrounds' variance that lies between the classes, 0 to 1: [`epsilon_squared`].
pub(super) fn between_classes(classes: &Classes, colours: &[(Class, [f32; 3])]) -> Option<f64> {
    let of_class = |class: Class| colours.iter().filter(move |(of, _)| *of == class);
    let groups = classes.iter().map(|class| of_class(class).map(|(_, rgb)| rgb.map(f64::from)).collect());
    epsilon_squared(&groups.collect::<Vec<_>>())
}

/// The rows whose background is farthest from the median colour, with the distance in grey levels.
pub(super) fn unusual(rows: &[ManifestRow], images: &Images) -> Vec<(usize, f64)> {
    let backgrounds: Vec<(usize, [f32; 3])> = images.backgrounds(rows).map(|(_, row, rgb)| (row, rgb)).collect();
    if backgrounds.len() <= UNUSUAL {
        return Vec::new();
    }
    let median: [f32; 3] = std::array::from_fn(|c| {
        let mut values: Vec<f32> = backgrounds.iter().map(|(_, rgb)| rgb[c]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    });
    let distance = |rgb: &[f32; 3]| (0..3).map(|c| f64::from(rgb[c] - median[c]).powi(2)).sum::<f64>().sqrt();
    let mut distances: Vec<(usize, f64)> = backgrounds.iter().map(|(row, rgb)| (*row, distance(rgb))).collect();
    distances.sort_by(|a, b| b.1.total_cmp(&a.1));
    distances.truncate(UNUSUAL);
    distances
}
