//! What the backgrounds' colours say: whether they differ between classes, and which images are unusual.

use super::images::{Images, mean_and_deviation};
use crate::class::{Class, Classes};
use crate::rows::ManifestRow;

/// Images with an unusual background that are shown.
const UNUSUAL: usize = 8;

/// Share of the colours' variance that lies between the classes' means, 0 to 1, over all channels: epsilon squared
/// (Kelley, PNAS 21:554-559, 1935), which is 0 where means differ no more than by chance. `None` with fewer than two
/// classes, or where all colours are equal.
pub(super) fn between_classes(classes: &Classes, colours: &[(Class, [f32; 3])]) -> Option<f64> {
    let select = |class: Option<Class>| -> Vec<[f64; 3]> {
        let selected = colours.iter().filter(|(c, _)| class.is_none_or(|class| *c == class));
        selected.map(|(_, rgb)| rgb.map(f64::from)).collect()
    };
    let sum_of_squares = |colours: &[[f64; 3]]| {
        let variance = |deviation: [f64; 3]| deviation.iter().map(|d| d * d).sum::<f64>();
        mean_and_deviation(colours).map_or(0.0, |(_, deviation)| colours.len() as f64 * variance(deviation))
    };
    let classes: Vec<Vec<[f64; 3]>> = classes.iter().map(|class| select(Some(class))).collect();
    let present = classes.iter().filter(|c| !c.is_empty()).count();
    let total = sum_of_squares(&select(None));
    if present < 2 || colours.len() <= present || total <= 0.0 {
        return None;
    }
    let within: f64 = classes.iter().map(|c| sum_of_squares(c)).sum();
    let degrees_of_freedom = (colours.len() - 1) as f64 / (colours.len() - present) as f64;
    Some((1.0 - within / total * degrees_of_freedom).clamp(0.0, 1.0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_between_classes_is_epsilon_squared() {
        let classes = Classes::wbc5();
        let between_classes = |colours: &[(Class, [f32; 3])]| super::between_classes(&classes, colours);
        let grey = |class: usize, v: f32| (classes.at(class), [v; 3]);
        // Class means 10 and 20, each value off by 1: mean squares 26 in total and 1 within; 3 and 2 degrees of
        // freedom.
        let colours = [grey(0, 9.0), grey(0, 11.0), grey(1, 19.0), grey(1, 21.0)];
        assert!((between_classes(&colours).unwrap() - (1.0 - 1.5 / 26.0)).abs() < 1e-12);
        let alike = [grey(0, 9.0), grey(0, 11.0), grey(1, 9.5), grey(1, 11.0)];
        assert_eq!(between_classes(&alike), Some(0.0), "no more than chance");
        assert_eq!(between_classes(&colours[..2]), None, "one class");
        assert_eq!(between_classes(&[grey(0, 5.0), grey(0, 5.0), grey(1, 5.0)]), None, "one colour");
        assert_eq!(between_classes(&[]), None);
    }
}
