//! Shapes of masks: size, roundness, moments.

use super::Values;
use crate::segment::{Cell, Mask};
use std::f64::consts::{PI, SQRT_2};

/// The shape of nucleus and cell; lengths are multiplied by `scale` (px of the image a px of the mask).
pub fn measure(cell: &Cell, scale: f64, values: &mut Values) {
    let nucleus = Shape::of(&cell.nucleus);
    let whole = Shape::of(&cell.whole);
    for (part, shape) in [("nucleus", &nucleus), ("cell", &whole)] {
        values.put(part, "area", Some(shape.area * scale * scale));
        values.put(part, "perimeter", Some(shape.perimeter * scale));
        values.put(part, "circularity", Some(4.0 * PI * shape.area / shape.perimeter.powi(2)));
        values.put(part, "eccentricity", Some(shape.eccentricity()));
        values.put(part, "solidity", Some(shape.solidity));
        values.put(part, "extent", Some(shape.extent));
    }
    values.put("nucleus", "hu1", Some(nucleus.hu1()));
    values.put("nucleus", "hu2", Some(nucleus.hu2()));
    values.put("nucleus", "parts", Some(cell.nucleus.regions().len() as f64));
    values.put("nucleus", "lobes", Some(lobes(&cell.nucleus) as f64));
    values.put("nucleus", "share", Some(nucleus.area / whole.area));
    let (across, down) = (nucleus.centre.0 - whole.centre.0, nucleus.centre.1 - whole.centre.1);
    values.put("nucleus", "offset", Some(across.hypot(down) / (whole.area / PI).sqrt()));
}

struct Shape {
    area: f64,
    perimeter: f64,
    solidity: f64,
    extent: f64,
    /// Centroid, px.
    centre: (f64, f64),
    /// Central second moments by area: variances along x and y, and covariance, px².
    variance: (f64, f64, f64),
}

impl Shape {
    /// Of a mask that is not empty.
    fn of(mask: &Mask) -> Self {
        let area = mask.area() as f64;
        // Whole numbers: the order of the pixels does not matter.
        let sum = |of: &dyn Fn(i64, i64) -> i64| {
            let place = |i: usize| ((i % mask.width_px) as i64, (i / mask.width_px) as i64);
            mask.pixels().map(place).map(|(x, y)| of(x, y)).sum::<i64>() as f64
        };
        let centre = (sum(&|x, _| x) / area, sum(&|_, y| y) / area);
        let moment = |of: &dyn Fn(i64, i64) -> i64, mean: f64| sum(of) / area - mean;
        let (left, top, right, bottom) = mask.bounds().unwrap_or_default();
        Self {
            area,
            perimeter: perimeter(mask),
            solidity: area / mask.hull().area() as f64,
            extent: area / ((right - left + 1) * (bottom - top + 1)) as f64,
            centre,
            variance: (
                moment(&|x, _| x * x, centre.0 * centre.0),
                moment(&|_, y| y * y, centre.1 * centre.1),
                moment(&|x, y| x * y, centre.0 * centre.1),
            ),
        }
    }

    /// Of the ellipse with the same second moments; a pixel is a square, which adds a twelfth.
    fn eccentricity(&self) -> f64 {
        let (xx, yy, xy) = self.variance;
        let half = ((xx - yy) / 2.0).hypot(xy);
        let mean = (xx + yy) / 2.0 + 1.0 / 12.0;
        (1.0 - (mean - half) / (mean + half)).max(0.0).sqrt()
    }

    fn hu1(&self) -> f64 {
        (self.variance.0 + self.variance.1) / self.area
    }

    fn hu2(&self) -> f64 {
        let (xx, yy, xy) = self.variance;
        ((xx - yy).powi(2) + 4.0 * xy * xy) / self.area.powi(2)
    }
}

/// Length of the line through the centres of the border pixels, px: Benkrid and Crookes, Design and FPGA
/// implementation of a perimeter estimator, 2000. A pixel is on the border where one of its four neighbours is off; it
/// adds by how it hangs together with the border pixels around it.
fn perimeter(mask: &Mask) -> f64 {
    let (width, height) = (mask.width_px as i64, mask.height_px as i64);
    let is = |on: &[bool], x: i64, y: i64| {
        (0..width).contains(&x) && (0..height).contains(&y) && on[(y * width + x) as usize]
    };
    let border = mask.with(|i| {
        let (x, y) = (i as i64 % width, i as i64 / width);
        let inner = [(-1, 0), (1, 0), (0, -1), (0, 1)].iter().all(|(a, b)| is(&mask.on, x + a, y + b));
        mask.on[i] && !inner
    });
    let mut kinds = [0u64; 3];
    for i in border.pixels() {
        let (x, y) = (i as i64 % width, i as i64 / width);
        let count = |steps: [(i64, i64); 4]| steps.iter().filter(|(a, b)| is(&border.on, x + a, y + b)).count();
        let straight = count([(-1, 0), (1, 0), (0, -1), (0, 1)]);
        let diagonal = count([(-1, -1), (1, -1), (-1, 1), (1, 1)]);
        match (straight, diagonal) {
            (2 | 3, 0) | (2 | 3, 1) | (2 | 3, 2) => kinds[0] += 1,
            (0, 2) | (1, 3) => kinds[1] += 1,
            (1, 1) | (1, 2) => kinds[2] += 1,
            _ => {}
        }
    }
    kinds[0] as f64 + kinds[1] as f64 * SQRT_2 + kinds[2] as f64 * (1.0 + SQRT_2) / 2.0
}

/// Parts that are left where all that is less than half as deep as the deepest place is taken away.
fn lobes(nucleus: &Mask) -> usize {
    let depth = nucleus.depth();
    let deepest = depth.iter().copied().filter(|d| d.is_finite()).fold(0.0, f32::max);
    nucleus.with(|i| nucleus.on[i] && depth[i] > deepest / 2.0).regions().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ellipse(a: f64, b: f64) -> Mask {
        Mask::new(161, 161, |i| {
            let (x, y) = ((i % 161) as f64 - 80.0, (i / 161) as f64 - 80.0);
            (x / a).powi(2) + (y / b).powi(2) <= 1.0
        })
    }

    #[test]
    fn an_ellipses_shape_is_that_of_the_formulas() {
        let (a, b) = (60.0, 36.0);
        let shape = Shape::of(&ellipse(a, b));
        let near = |got: f64, wanted: f64, by: f64| assert!((got - wanted).abs() < by * wanted, "{got}, not {wanted}");
        near(shape.area, PI * a * b, 0.01);
        near(shape.eccentricity(), (1.0 - (b / a).powi(2)).sqrt(), 0.01);
        // Ramanujan's approximation; the estimator runs through the centres of the border pixels, half a pixel inside.
        let (p, q) = (a - 0.5, b - 0.5);
        near(shape.perimeter, PI * (3.0 * (p + q) - ((3.0 * p + q) * (p + 3.0 * q)).sqrt()), 0.02);
        near(shape.solidity, 1.0, 0.01);
        near(shape.extent, PI / 4.0, 0.03);
        // Variances of an ellipse: a²/4 and b²/4.
        near(shape.hu1(), (a * a + b * b) / 4.0 / (PI * a * b), 0.01);
        near(shape.hu2(), ((a * a - b * b) / 4.0 / (PI * a * b)).powi(2), 0.02);
        assert!(Shape::of(&ellipse(50.0, 50.0)).eccentricity() < 0.05);
    }

    #[test]
    fn a_squares_perimeter_is_by_hand() {
        // 5 x 5: sixteen border pixels, of which each hangs together with two straight neighbours.
        let square = Mask::new(9, 9, |i| (2..7).contains(&(i % 9)) && (2..7).contains(&(i / 9)));
        assert_eq!(perimeter(&square), 16.0);
        assert_eq!(Shape::of(&square).extent, 1.0);
    }

    #[test]
    fn lobes_on_thin_bridges_are_counted() {
        let discs = [(25.0, 40.0), (60.0, 40.0), (95.0, 40.0)];
        let nucleus = Mask::new(120, 80, |i| {
            let (x, y) = ((i % 120) as f64, (i / 120) as f64);
            let bridge = (25.0..95.0).contains(&x) && (38.0..42.0).contains(&y);
            bridge || discs.iter().any(|(u, v)| (x - u).hypot(y - v) < 14.0)
        });
        assert_eq!((nucleus.regions().len(), lobes(&nucleus)), (1, 3));
    }
}
