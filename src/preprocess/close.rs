//! Cuts the segmented cell out of its surroundings, so that images of different laboratories look alike: the same size
//! of cell, colour of plasma and strength of stain. A cell without a box is searched for in the central 260 px, of
//! which it should fill a twentieth to a half. Images of a much larger magnification need boxes.

use super::pixels::{part, resize_sides};
use super::settings::{Around, Filter, Settings, Square, Stain};
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

/// The surroundings in which a cell is segmented.
pub struct Window {
    /// The part of the image that lies in `square`, reduced where it is large.
    image: Rgb,
    /// The square that was asked for, as seen from `image`.
    square: Square,
    /// Side of a window pixel in pixels of the image: above 1 if the window was reduced.
    pub scale: f64,
}

/// A normalised window, and what to cut out of it.
pub struct Normalised {
    /// The window, recoloured.
    pub image: Rgb,
    /// The square around the cell, or the middle of the window where no nucleus was found.
    pub square: Square,
    /// What is outside the image; `None` for the pixels of its edge.
    pub outside: Option<[u8; 3]>,
    /// Diameters of discs as large as the cell and its nucleus, px of the window; `None` where no nucleus was found.
    pub diameters_px: Option<[f32; 2]>,
}

impl Window {
    /// `square` of an image, without the parts that lie outside it.
    pub fn new(image: &Rgb, square: Square, filter: Filter) -> Self {
        let (image, square) = part(image, square);
        if square.side <= LARGEST_PX.into() {
            return Self { image, square, scale: 1.0 };
        }
        let scale = square.side as f64 / f64::from(LARGEST_PX);
        let from = [image.width_px, image.height_px];
        let to = from.map(|side| ((f64::from(side) / scale).round() as u32).max(1));
        let pixels = resize_sides(&image.pixels, from, to, filter);
        let [x, y] = [square.x, square.y].map(|v| (v as f64 / scale).round() as i64);
        Self {
            image: Rgb { width_px: to[0], height_px: to[1], pixels },
            square: Square { x, y, side: LARGEST_PX.into() },
            scale,
        }
    }

    /// Segments the cell and normalises the window by it. Without a nucleus the window stays as it is.
    pub fn normalise(self, settings: &Settings) -> Normalised {
        let Self { mut image, square, .. } = self;
        let segmented = segment::cell(&image);
        let Some((cell, bounds)) = segmented.and_then(|c| c.whole.bounds().map(|b| (c, b))) else {
            let side = square.side.min(settings.centre_px.into());
            let start = (square.side - side) / 2;
            let square = Square { x: square.x + start, y: square.y + start, side };
            return Normalised { image, square, outside: None, diameters_px: None };
        };
        if settings.stain != Stain::Keep {
            recolour(&mut image, &cell, settings.stain);
        }
        let mut outside = None;
        if settings.around == Around::White {
            let white = if settings.stain == Stain::Keep { cell.plasma.map(|v| v.round() as u8) } else { [255; 3] };
            let away = cell.whole.distance();
            for (pixel, _) in image.pixels.chunks_exact_mut(3).zip(away).filter(|(_, away)| *away > EDGE_PX) {
                pixel.copy_from_slice(&white);
            }
            outside = Some(white);
        }
        let [left, top, right, bottom] = [bounds.x, bounds.y, bounds.right(), bounds.bottom()].map(i64::from);
        let longer = (right - left).max(bottom - top);
        let side = longer + 2 * (longer as f64 * settings.margin).round() as i64;
        let square = Square { x: (left + right - side).div_euclid(2), y: (top + bottom - side).div_euclid(2), side };
        let diameters_px = Some([&cell.whole, &cell.nucleus].map(|mask| 2.0 * mask.radius()));
        Normalised { image, square, outside, diameters_px }
    }
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
        let cut = |x, y, radius, plasma, strength| {
            tensor(&synthetic(x, y, radius, plasma, strength), square, &settings).pixels
        };
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
    fn a_cell_at_the_edge_of_its_image_is_white_beyond_it() {
        let settings = Settings { size_px: 64, cut: Cut::Cell, around: Around::White, ..Settings::default() };
        let plasma = [250.0, 240.0, 230.0];
        // Half of the cell is beyond the left edge; the window reaches as far as it does for one in the middle.
        let edge =
            tensor(&synthetic(0.0, 120.0, 60.0, plasma, 1.0), Square { x: -60, y: 60, side: 120 }, &settings).pixels;
        let row = &edge[32 * 64 * 3..][..64 * 3];
        let dark = row.chunks_exact(3).filter(|pixel| pixel[1] < 200).count();
        assert!((24..=40).contains(&dark), "{dark} of 64 px are cell: the half that is there\n{row:?}");
        let corners = [0, 63, 63 * 64, 64 * 64 - 1].map(|i| edge[i * 3..][..3].to_vec());
        assert_eq!(corners, [0; 4].map(|_| plasma.map(|v| v as u8).to_vec()));
        // A window of more than 512 px is reduced, and its cell cut out just the same.
        let large = synthetic(0.0, 120.0, 60.0, plasma, 1.0);
        let wide = Rgb {
            width_px: 960,
            height_px: 960,
            pixels: (0..960 * 960)
                .flat_map(|i| {
                    let at = (i / 960 / 4 * 240 + i % 960 / 4) * 3;
                    large.pixels[at..at + 3].to_vec()
                })
                .collect(),
        };
        let reduced = tensor(&wide, Square { x: -240, y: 240, side: 720 }, &settings).pixels;
        let apart: f64 = edge.iter().zip(&reduced).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / 12_288.0;
        assert!(apart < 8.0, "{apart} grey levels apart");
    }

    #[test]
    fn an_image_without_a_cell_is_cut_to_its_centre() {
        let blank = Rgb { width_px: 240, height_px: 240, pixels: vec![230; 240 * 240 * 3] };
        let settings = Settings { cut: Cut::Cell, stain: Stain::Nucleus, around: Around::White, ..Settings::default() };
        let window = Window::new(&blank, Square { x: -20, y: 0, side: 260 }, Filter::Bilinear);
        let Normalised { image, square, outside, diameters_px } = window.normalise(&settings);
        assert_eq!((image, square, outside), (blank, Square { x: 10, y: 30, side: 200 }, None));
        assert_eq!(diameters_px, None);
    }
}
