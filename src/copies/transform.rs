//! Copies of images as people make them on purpose (augmentation) or by accident, with random parameters: the drawn
//! truth of `benches/copies.rs` and of tests.

use crate::decode::Rgb;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{RgbImage, load_from_memory};
use rand::{Rng, RngExt};
use std::f32::consts::PI;

/// One way to make a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Turned by any angle; the corners are black.
    Rotate,
    /// Mirrored, and turned by a multiple of 90 degrees.
    Mirror,
    /// Shifted by up to a quarter of each side; the margin is filled in any way.
    Shift,
    /// Half to nine tenths of the image.
    Crop,
    /// Smaller or larger by 0.7 to 1.4 in a frame of the same size.
    Zoom,
    /// Another ratio of width and height, by 0.75 to 1.33.
    Aspect,
    /// Another size, by 0.35 to 1.6, but at least 40 px.
    Resize,
    /// Other brightness and contrast.
    Brightness,
    /// Another gamma, 0.6 to 1.7.
    Gamma,
    /// Each of the three channels stained more or less, by 0.75 to 1.3, and mixed.
    Stain,
    /// Blurred, by a Gaussian of up to a hundredth of the longer side.
    Blur,
    /// With noise of 4 to 14 grey levels.
    Noise,
    /// Compressed as JPEG with a quality of 15 to 60.
    Jpeg,
    /// Without colour.
    Grey,
    /// Turned by any angle; the corners are white, or filled in from the edge or by mirroring.
    Corners,
}

impl Transform {
    /// All of them.
    pub const ALL: [Transform; 15] = [
        Transform::Rotate,
        Transform::Mirror,
        Transform::Shift,
        Transform::Crop,
        Transform::Zoom,
        Transform::Aspect,
        Transform::Resize,
        Transform::Brightness,
        Transform::Gamma,
        Transform::Stain,
        Transform::Blur,
        Transform::Noise,
        Transform::Jpeg,
        Transform::Grey,
        Transform::Corners,
    ];

    /// A copy of an image.
    pub fn copy(self, image: &Rgb, rng: &mut impl Rng) -> Rgb {
        from_library(self.apply(&to_library(image), rng))
    }

    /// A copy made by several of them: one or two of position, one of colour, and one of sharpness or size.
    pub fn several(image: &Rgb, rng: &mut impl Rng) -> Rgb {
        use Transform::*;
        let mut any = |of: &[Transform]| of[rng.random_range(0..of.len())];
        let first = any(&[Rotate, Mirror, Crop, Zoom, Aspect, Shift, Corners]);
        let second = any(&[Rotate, Mirror, Shift, first, first, first]);
        let (colour, sharpness) = (any(&[Brightness, Gamma, Stain, Grey]), any(&[Blur, Noise, Jpeg, Resize]));
        let mut copy = first.apply(&to_library(image), rng);
        for next in [second, colour, sharpness] {
            if next != first {
                copy = next.apply(&copy, rng);
            }
        }
        from_library(copy)
    }

    fn apply(self, image: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        let (width, height) = image.dimensions();
        let (w, h) = (width as f32, height as f32);
        let mut between = |low: f32, high: f32| low + (high - low) * rng.random::<f32>();
        match self {
            Transform::Rotate => turned(image, between(-PI, PI), 1.0, (0.0, 0.0), Fill::Black),
            Transform::Corners => {
                let angle = between(-PI, PI);
                turned(image, angle, 1.0, (0.0, 0.0), Fill::ALL[between(1.0, 3.99) as usize])
            }
            Transform::Mirror => {
                let mirrored = imageops::flip_horizontal(image);
                match between(0.0, 3.99) as u32 {
                    0 => mirrored,
                    1 => imageops::rotate90(&mirrored),
                    2 => imageops::rotate180(&mirrored),
                    _ => imageops::rotate270(&mirrored),
                }
            }
            Transform::Shift => {
                let shift = (between(-0.25, 0.25) * w, between(-0.25, 0.25) * h);
                turned(image, 0.0, 1.0, shift, Fill::ALL[between(0.0, 3.99) as usize])
            }
            Transform::Zoom => {
                let zoom = between(0.7f32.ln(), 1.4f32.ln()).exp();
                turned(image, 0.0, zoom, (0.0, 0.0), Fill::ALL[between(0.0, 3.99) as usize])
            }
            Transform::Crop => {
                let area = between(0.5, 0.9);
                let across = between(area.max(0.6), 1.0);
                let (cw, ch) = ((across * w) as u32, (area / across * h) as u32);
                let (x, y) = (between(0.0, (width - cw) as f32) as u32, between(0.0, (height - ch) as f32) as u32);
                imageops::crop_imm(image, x, y, cw, ch).to_image()
            }
            Transform::Aspect => {
                let ratio = between(0.75f32.ln(), 1.33f32.ln()).exp().sqrt();
                imageops::resize(image, (w * ratio) as u32, (h / ratio) as u32, FilterType::Triangle)
            }
            Transform::Resize => {
                let factor = between(0.35f32.ln(), 1.6f32.ln()).exp().max(40.0 / w.min(h));
                imageops::resize(image, (w * factor) as u32, (h * factor) as u32, FilterType::Triangle)
            }
            Transform::Brightness => {
                let (brightness, contrast) = (between(-35.0, 35.0), between(0.6, 1.5));
                recoloured(image, |p| p.map(|v| (v - 150.0) * contrast + 150.0 + brightness))
            }
            Transform::Gamma => {
                let gamma = between(0.6f32.ln(), 1.7f32.ln()).exp();
                recoloured(image, |p| p.map(|v| 255.0 * (v / 255.0).powf(gamma)))
            }
            Transform::Stain => {
                let factors = [between(0.75, 1.3), between(0.75, 1.3), between(0.75, 1.3)];
                let mixed = between(-0.15, 0.15);
                recoloured(image, |p| {
                    let [r, g, b] = [0, 1, 2].map(|c| -((p[c] + 1.0) / 256.0).ln() * factors[c]);
                    [r + mixed * g, g, b + mixed * r].map(|density| 256.0 * (-density).exp() - 1.0)
                })
            }
            Transform::Blur => imageops::blur(image, between(0.003, 0.01) * w.max(h)),
            Transform::Noise => {
                let deviation = between(4.0, 14.0);
                let mut copy = image.clone();
                // Four uniform numbers add up to about a normal one.
                for v in copy.iter_mut() {
                    let sum: f32 = (0..4).map(|_| between(-1.0, 1.0)).sum();
                    *v = (f32::from(*v) + 0.866 * deviation * sum).round().clamp(0.0, 255.0) as u8;
                }
                copy
            }
            Transform::Jpeg => {
                let mut bytes = Vec::new();
                let encoder = JpegEncoder::new_with_quality(&mut bytes, between(15.0, 60.0) as u8);
                image.write_with_encoder(encoder).expect("an image in memory can be encoded");
                load_from_memory(&bytes).expect("what was just encoded can be decoded").into_rgb8()
            }
            Transform::Grey => recoloured(image, |p| [0.3 * p[0] + 0.59 * p[1] + 0.11 * p[2]; 3]),
        }
    }
}

/// What lies beyond the edge of an image.
#[derive(Clone, Copy)]
enum Fill {
    Black,
    White,
    Edge,
    Mirrored,
}

impl Fill {
    const ALL: [Fill; 4] = [Fill::Black, Fill::White, Fill::Edge, Fill::Mirrored];
}

fn to_library(image: &Rgb) -> RgbImage {
    RgbImage::from_raw(image.width_px, image.height_px, image.pixels.clone()).expect("three values per pixel")
}

fn from_library(image: RgbImage) -> Rgb {
    Rgb { width_px: image.width(), height_px: image.height(), pixels: image.into_raw() }
}

fn recoloured(image: &RgbImage, colour: impl Fn([f32; 3]) -> [f32; 3]) -> RgbImage {
    let mut copy = image.clone();
    for pixel in copy.pixels_mut() {
        pixel.0 = colour(pixel.0.map(f32::from)).map(|v| v.round().clamp(0.0, 255.0) as u8);
    }
    copy
}

/// The image turned and enlarged about its middle, then shifted, in a frame of the same size.
fn turned(image: &RgbImage, angle: f32, zoom: f32, shift: (f32, f32), fill: Fill) -> RgbImage {
    let (width, height) = image.dimensions();
    let (cx, cy) = ((width - 1) as f32 / 2.0, (height - 1) as f32 / 2.0);
    let (sin, cos) = angle.sin_cos();
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = ((x as f32 - cx - shift.0) / zoom, (y as f32 - cy - shift.1) / zoom);
        image::Rgb(sample(image, cx + cos * dx + sin * dy, cy - sin * dx + cos * dy, fill))
    })
}

fn sample(image: &RgbImage, x: f32, y: f32, fill: Fill) -> [u8; 3] {
    let (w, h) = (image.width() as f32, image.height() as f32);
    let outside = x < -0.5 || y < -0.5 || x > w - 0.5 || y > h - 0.5;
    let reflected = |v: f32, side: f32| {
        let v = (v + 0.5).rem_euclid(2.0 * side);
        v.min(2.0 * side - v) - 0.5
    };
    let (x, y) = match fill {
        Fill::Black if outside => return [0; 3],
        Fill::White if outside => return [255; 3],
        Fill::Mirrored => (reflected(x, w), reflected(y, h)),
        _ => (x, y),
    };
    let (x, y) = (x.clamp(0.0, w - 1.0), y.clamp(0.0, h - 1.0));
    let (x0, y0) = (x as u32, y as u32);
    let (x1, y1) = ((x0 + 1).min(image.width() - 1), (y0 + 1).min(image.height() - 1));
    let (fx, fy) = (x - x0 as f32, y - y0 as f32);
    std::array::from_fn(|c| {
        let at = |x: u32, y: u32| f32::from(image.get_pixel(x, y)[c]);
        let top = at(x0, y0) * (1.0 - fx) + at(x1, y0) * fx;
        let bottom = at(x0, y1) * (1.0 - fx) + at(x1, y1) * fx;
        (top * (1.0 - fy) + bottom * fy).round() as u8
    })
}
