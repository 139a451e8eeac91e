//! Shape of nucleus and cell: size, roundness, moments.

use super::values::Values;
use crate::segment::{Cell, Mask};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Measures the shapes of nucleus and cell. Lengths are multiplied by `scale`, the side of a mask pixel in image
/// pixels.
pub fn measure(cell: &Cell, scale: f64, values: &mut Values) {
    let nucleus = Shape::new(&cell.nucleus);
    let whole = Shape::new(&cell.whole);
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
    /// Variances along x and y, and covariance, px².
    variance: (f64, f64, f64),
}

impl Shape {
    /// The mask must not be empty.
    fn new(mask: &Mask) -> Self {
        let area = mask.area() as f64;
        // Integer sums do not depend on the order of pixels.
        let sum = |value: &dyn Fn(i64, i64) -> i64| {
            let position = |i: usize| ((i % mask.width_px) as i64, (i / mask.width_px) as i64);
            mask.pixels().map(position).map(|(x, y)| value(x, y)).sum::<i64>() as f64
        };
        let centre = (sum(&|x, _| x) / area, sum(&|_, y| y) / area);
        let moment = |value: &dyn Fn(i64, i64) -> i64, mean: f64| sum(value) / area - mean;
        let bounds = mask.bounds().map_or(0, |rect| u64::from(rect.width) * u64::from(rect.height));
        Self {
            area,
            perimeter: perimeter(mask),
            solidity: area / mask.hull().area() as f64,
            extent: area / bounds as f64,
            centre,
            variance: (
                moment(&|x, _| x * x, centre.0 * centre.0),
                moment(&|_, y| y * y, centre.1 * centre.1),
                moment(&|x, y| x * y, centre.0 * centre.1),
            ),
        }
    }

    /// Eccentricity of the ellipse with the same second moments. The variance of a square pixel, 1/12, is added.
    fn eccentricity(&self) -> f64 {
        let (xx, yy, xy) = self.variance;
        let half = ((xx - yy) / 2.0).hypot(xy);
        let mean = (xx + yy) / 2.0 + 1.0 / 12.0;
        (1.0 - (mean - half) / (mean + half)).max(0.0).sqrt()
    }

    /// Hu's first moment invariant.
    fn hu1(&self) -> f64 {
        (self.variance.0 + self.variance.1) / self.area
    }

    /// Hu's second moment invariant.
    fn hu2(&self) -> f64 {
        let (xx, yy, xy) = self.variance;
        ((xx - yy).powi(2) + 4.0 * xy * xy) / self.area.powi(2)
    }
}

/// Length of the border, px, by Crofton's formula: from the number of times that lines in four directions enter the
/// mask (Legland, Kiêu and Devaux, Image Anal. Stereol. 26:83-92, 2007). Counting steps along the border would give 5 %
/// too much for a disc.
fn perimeter(mask: &Mask) -> f64 {
    let (width, height) = (mask.width_px as i64, mask.height_px as i64);
    let entries = |across: i64, down: i64| {
        let enters = |i: &usize| {
            let (x, y) = (*i as i64 % width - across, *i as i64 / width - down);
            let before = (0..width).contains(&x) && (0..height).contains(&y) && mask.on[(y * width + x) as usize];
            !before
        };
        mask.pixels().filter(enters).count() as f64
    };
    // The distance of diagonal lines is smaller by sqrt(2).
    PI / 4.0 * (entries(1, 0) + entries(0, 1) + (entries(1, 1) + entries(-1, 1)) * FRAC_1_SQRT_2)
}

/// Number of regions after removing pixels with less than half of the largest depth.
fn lobes(nucleus: &Mask) -> usize {
    let depth = nucleus.depth();
    let deepest = depth.iter().copied().filter(|d| d.is_finite()).fold(0.0, f32::max);
    nucleus.same_size(|i| nucleus.on[i] && depth[i] > deepest / 2.0).regions().len()
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
    fn the_shape_of_an_ellipse_follows_its_formulas() {
        let (a, b) = (60.0, 36.0);
        let shape = Shape::new(&ellipse(a, b));
        let near = |got: f64, wanted: f64, tolerance: f64| {
            assert!((got - wanted).abs() < tolerance * wanted, "{got}, not {wanted}");
        };
        near(shape.area, PI * a * b, 0.01);
        near(shape.eccentricity(), (1.0 - (b / a).powi(2)).sqrt(), 0.01);
        // Ramanujan's approximation; and scikit-image 0.26.0, `perimeter_crofton` of this mask.
        near(shape.perimeter, PI * (3.0 * (a + b) - ((3.0 * a + b) * (a + 3.0 * b)).sqrt()), 0.01);
        near(shape.perimeter, 306.7574258001082, 1e-12);
        near(shape.solidity, 1.0, 0.01);
        near(shape.extent, PI / 4.0, 0.03);
        // Variances of an ellipse: a²/4 and b²/4.
        near(shape.hu1(), (a * a + b * b) / 4.0 / (PI * a * b), 0.01);
        near(shape.hu2(), ((a * a - b * b) / 4.0 / (PI * a * b)).powi(2), 0.02);
        assert!(Shape::new(&ellipse(50.0, 50.0)).eccentricity() < 0.05);
    }

    #[test]
    fn the_perimeter_of_a_square_matches_hand_calculation() {
        // 5 x 5: five lines enter it along each axis, and nine along each diagonal.
        let square = Mask::new(9, 9, |i| (2..7).contains(&(i % 9)) && (2..7).contains(&(i / 9)));
        assert!((perimeter(&square) - PI / 4.0 * (10.0 + 18.0 / 2f64.sqrt())).abs() < 1e-12);
        assert_eq!(Shape::new(&square).extent, 1.0);
    }

    #[test]
    fn lobes_connected_by_thin_bridges_are_counted() {
        let discs = [(25.0, 40.0), (60.0, 40.0), (95.0, 40.0)];
        let nucleus = Mask::new(120, 80, |i| {
            let (x, y) = ((i % 120) as f64, (i / 120) as f64);
            let bridge = (25.0..95.0).contains(&x) && (38.0..42.0).contains(&y);
            bridge || discs.iter().any(|(u, v)| (x - u).hypot(y - v) < 14.0)
        });
        assert_eq!((nucleus.regions().len(), lobes(&nucleus)), (1, 3));
    }
}
