//! Cuts the segmented cell out of its surroundings, so that images of different laboratories look alike: the same size
//! of cell, colour of plasma and strength of stain. A cell without a box is searched for in the central 260 px, of
//! which it should fill a twentieth to a half. Images of a much larger magnification need boxes.

use super::settings::{Around, Settings, Square, Stain};
use crate::decode::Rgb;
use crate::segment::{self, Cell};

/// Side of the central square in which a cell without a box is searched for, px; the same as for features.
pub const WINDOW_PX: u32 = 260;
/// Margin around the box of a cell, as a share of its longer side; the same as for features.
pub const WINDOW_MARGIN: f64 = 0.3;
/// Larger windows are reduced to this size first, px, for which the segmentation's lengths are chosen.
pub const LARGEST_PX: u32 = 512;
/// Width of the border kept around a cell on white, px, because its edge is blurred.
const EDGE_PX: f32 = 2.0;
/// Median optical densities of the nucleus (red, green, blue) in every image with [`Stain::Nucleus`]. A little paler
/// than PBC's nuclei (1.1, 1.8, 0.4), so that paler stains are not amplified.
const NUCLEUS: [f32; 3] = [0.90, 1.25, 0.55];
/// Largest factor, or its inverse, by which densities change: beyond it, the region is not a nucleus.
const MOST: f32 = 3.0;

/// The recoloured window, and the square to cut out of it; the window itself and its central square without a nucleus.
pub fn normalise(mut window: Rgb, settings: &Settings) -> (Rgb, Square) {
    let width = i64::from(window.width_px);
    let segmented = segment::cell(&window);
    let Some((cell, bounds)) = segmented.and_then(|c| c.whole.bounds().map(|b| (c, b))) else {
        let side = width.min(settings.centre_px.into());
        let start = (width - side) / 2;
        return (window, Square { x: start, y: start, side });
    };
    if settings.stain != Stain::Keep {
        recolour(&mut window, &cell, settings.stain);
    }
    if settings.around == Around::White {
        let white = if settings.stain == Stain::Keep { cell.plasma.map(|v| v.round() as u8) } else { [255; 3] };
        let away = cell.whole.distance();
        for (pixel, _) in window.pixels.chunks_exact_mut(3).zip(away).filter(|(_, away)| *away > EDGE_PX) {
            pixel.copy_from_slice(&white);
        }
    }
    let [left, top, right, bottom] = [bounds.x, bounds.y, bounds.right(), bounds.bottom()].map(i64::from);
    let longer = (right - left).max(bottom - top);
    let side = longer + 2 * (longer as f64 * settings.margin).round() as i64;
    (window, Square { x: (left + right - side).div_euclid(2), y: (top + bottom - side).div_euclid(2), side })
}

/// Multiplies the optical density of each channel relative to the plasma by a gain, on white. In the law of Beer and
/// Lambert, a thicker or stronger stain is a factor.
fn recolour(window: &mut Rgb, cell: &Cell, stain: Stain) {
    for (c, plasma) in cell.plasma.into_iter().enumerate() {
        let density = |v: u8| ((plasma + 1.0) / (f32::from(v) + 1.0)).ln();
        let gain = if stain == Stain::Nucleus {
            let mut of_nucleus: Vec<u8> = cell.nucleus.pixels().map(|i| window.pixels[3 * i + c]).collect();
            let middle = of_nucleus.len() / 2;
            let median = *of_nucleus.select_nth_unstable(middle).1;
            (NUCLEUS[c] / density(median).max(1e-3)).clamp(1.0 / MOST, MOST)
        } else {
            1.0
        };
        let table: [u8; 256] =
            std::array::from_fn(|v| (256.0 * (-gain * density(v as u8)).exp() - 1.0).round().clamp(0.0, 255.0) as u8);
        window.pixels.iter_mut().skip(c).step_by(3).for_each(|v| *v = table[usize::from(*v)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cut, tensor};
    use super::*;

    /// A cell of `radius` px with a nucleus of half that, at (x, y) of an image of 240 px, seen through plasma of one
    /// colour and a stain of one strength.
    fn synthetic(x: f64, y: f64, radius: f64, plasma: [f32; 3], strength: f32) -> Rgb {
        let pixels = (0..240 * 240).flat_map(|i| {
            let away = ((i % 240) as f64 - x).hypot((i / 240) as f64 - y) / radius;
            let density = match away {
                ..0.55 => [1.0, 1.6, 0.5],
                ..1.0 => [0.25, 0.4, 0.12],
                _ => [0.0; 3],
            };
            std::array::from_fn::<u8, 3, _>(|c| {
                ((plasma[c] + 1.0) * (-strength * density[c]).exp() - 1.0).round() as u8
            })
        });
        Rgb { width_px: 240, height_px: 240, pixels: pixels.collect() }
    }

    #[test]
    fn size_place_light_and_strength_of_stain_drop_out() {
        let settings = Settings {
            size_px: 64,
            cut: Cut::Cell,
            stain: Stain::Nucleus,
            around: Around::White,
            ..Settings::default()
        };
        let square = Square { x: 0, y: 0, side: 240 };
        let cut =
            |x, y, radius, plasma, strength| tensor(&synthetic(x, y, radius, plasma, strength), square, &settings);
        let reference = cut(120.0, 120.0, 60.0, [250.0, 240.0, 230.0], 1.0);
        assert_eq!(reference[..3], [255; 3], "white around");
        let nucleus = &reference[(32 * 64 + 32) * 3..][..3];
        let expected = NUCLEUS.map(|d| (256.0 * (-d).exp() - 1.0).round() as i32);
        assert!(nucleus.iter().zip(expected).all(|(v, e)| (i32::from(*v) - e).abs() <= 4), "{nucleus:?} {expected:?}");
        for similar in
            [cut(105.0, 130.0, 45.0, [250.0, 240.0, 230.0], 1.0), cut(120.0, 120.0, 60.0, [255.0, 230.0, 140.0], 0.8)]
        {
            let apart: f64 = reference.iter().zip(&similar).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
                / reference.len() as f64;
            assert!(apart < 4.0, "{apart} grey levels apart");
        }
    }

    #[test]
    fn an_image_without_a_cell_is_cut_to_its_centre() {
        let blank = Rgb { width_px: 240, height_px: 240, pixels: vec![230; 240 * 240 * 3] };
        let settings = Settings { cut: Cut::Cell, stain: Stain::Nucleus, around: Around::White, ..Settings::default() };
        let (window, square) = normalise(blank.clone(), &settings);
        assert_eq!((window, square), (blank, Square { x: 20, y: 20, side: 200 }));
    }
}
