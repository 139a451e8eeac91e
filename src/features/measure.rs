//! Measures all features of a segmented cell.

use super::values::Values;
use super::{colour, shape, texture};
use crate::decode::Rgb;
use crate::schema::FEATURES;
use crate::segment::Cell;

/// The features of a segmented cell in the order of the schema. `scale` is the side of a pixel of `image` in pixels of
/// the full image, by which lengths are multiplied.
pub fn measure(image: &Rgb, cell: &Cell, scale: f64) -> Vec<Option<f64>> {
    let values = named(image, cell, scale);
    debug_assert!(values.names().eq(FEATURES.columns[1..].iter().map(|c| c.name.as_str())));
    values.into_values()
}

fn named(image: &Rgb, cell: &Cell, scale: f64) -> Values {
    let mut values = Values::default();
    shape::measure(cell, scale, &mut values);
    for (part, name) in [(&cell.nucleus, "nucleus"), (&cell.cytoplasm(), "cytoplasm")] {
        colour::measure(image, part, cell.plasma, name, &mut values);
        texture::measure(image, part, name, &mut values);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Mask;

    #[test]
    fn names_and_order_are_those_of_the_schema() {
        let disc = |radius: f64| Mask::new(40, 40, |i| ((i % 40) as f64 - 20.0).hypot((i / 40) as f64 - 20.0) < radius);
        let cell = Cell { nucleus: disc(8.0), whole: disc(14.0), plasma: [250.0; 3] };
        let pixels = (0..40 * 40).flat_map(|i| [(i % 251) as u8, (i % 83) as u8, (i % 19) as u8]).collect();
        let image = Rgb { width_px: 40, height_px: 40, pixels };
        let names: Vec<String> = named(&image, &cell, 1.0).names().map(String::from).collect();
        let columns: Vec<&String> = FEATURES.columns[1..].iter().map(|c| &c.name).collect();
        assert!(names.iter().eq(columns), "{names:?}");
        // At twice the scale, lengths double, areas quadruple, and all other values are the same.
        let (once, twice) = (measure(&image, &cell, 1.0), measure(&image, &cell, 2.0));
        assert!(once.iter().all(Option::is_some));
        for ((name, once), twice) in names.iter().zip(once).zip(twice) {
            let factor = match name.rsplit('_').next() {
                Some("area") => 4.0,
                Some("perimeter") => 2.0,
                _ => 1.0,
            };
            assert_eq!(once.map(|v| v * factor), twice, "{name}");
        }
    }

    #[test]
    fn features_of_missing_cytoplasm_are_none_and_never_nan() {
        let disc = Mask::new(40, 40, |i| ((i % 40) as f64 - 20.0).hypot((i / 40) as f64 - 20.0) < 12.0);
        let cell = Cell { nucleus: disc.clone(), whole: disc, plasma: [250.0; 3] };
        let image = Rgb { width_px: 40, height_px: 40, pixels: vec![80; 40 * 40 * 3] };
        let values = measure(&image, &cell, 1.0);
        for (column, value) in FEATURES.columns[1..].iter().zip(values) {
            let defined = !column.name.starts_with("cytoplasm")
                && !["skewness", "correlation", "1"].iter().any(|end| column.name.ends_with(&format!("_{end}")))
                || column.name.ends_with("lbp_1") && column.name.starts_with("nucleus");
            assert_eq!(value.is_some(), defined, "{}", column.name);
            assert!(value.is_none_or(f64::is_finite));
        }
    }
}
