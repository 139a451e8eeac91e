//! An f32 RGB image to paint on, and effects on all of it: focus, light and sensor noise.

use super::shape::{Noise, Point};
use rand::RngExt;
use rand_pcg::Pcg64;

/// Red, green and blue, 0 to 255.
pub type Rgb = [f32; 3];

/// Interpolates between two colours; `share` is 0 to 1.
pub fn blend(from: Rgb, to: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|i| from[i] + (to[i] - from[i]) * share)
}

/// The strength of a slide's stain: an exponent of the transmitted light for each channel. Above 1, colours are darker.
#[derive(Clone, Copy, Debug)]
pub struct Stain(Rgb);

impl Stain {
    /// A random strength in `low..high`, which varies by channel.
    pub fn new(low: f32, high: f32, rng: &mut Pcg64) -> Self {
        let strength = rng.random_range(low..high);
        Self([0.07, 0.05, 0.07].map(|cast| strength * (1.0 + rng.random_range(-cast..cast))))
    }

    /// The colour of a structure on this slide.
    pub fn apply(&self, colour: Rgb) -> Rgb {
        [0, 1, 2].map(|i| 255.0 * (colour[i].clamp(1.0, 255.0) / 255.0).powf(self.0[i]))
    }
}

/// An image in progress.
pub struct Canvas {
    /// Width, px.
    pub width: u32,
    /// Height, px.
    pub height: u32,
    /// Colour of the empty slide.
    pub background: Rgb,
    pixels: Vec<f32>,
}

impl Canvas {
    pub fn new(width: u32, height: u32, background: Rgb) -> Self {
        Self { width, height, background, pixels: background.repeat((width * height) as usize) }
    }

    /// Calls `edit` with the centre and value of each pixel in a square of half side `reach` around a centre.
    fn for_each(&mut self, centre: Point, reach: f32, mut edit: impl FnMut(Point, &mut [f32])) {
        let span = |c: f32, size: u32| {
            let end = |v: f32| v.clamp(0.0, size as f32) as u32;
            end((c - reach).floor())..end((c + reach).ceil() + 1.0)
        };
        let columns = span(centre[0], self.width);
        for y in span(centre[1], self.height) {
            let row = (y * self.width) as usize;
            let pixels = &mut self.pixels[(row + columns.start as usize) * 3..(row + columns.end as usize) * 3];
            for (x, pixel) in columns.clone().zip(pixels.chunks_exact_mut(3)) {
                edit([x as f32 + 0.5, y as f32 + 0.5], pixel);
            }
        }
    }

    /// Paints with the colour and opacity (0 to 1) that `brush` returns for a point, if any.
    pub fn paint(&mut self, centre: Point, reach: f32, brush: impl Fn(Point) -> Option<(Rgb, f32)>) {
        self.for_each(centre, reach, |p, pixel| {
            if let Some((colour, opacity)) = brush(p) {
                for (have, put) in pixel.iter_mut().zip(colour) {
                    *have += (put - *have) * opacity;
                }
            }
        });
    }

    /// Absorbs light by the thickness that `brush` returns for a point; a thickness of 1 turns the background to
    /// `colour`.
    pub fn filter(&mut self, centre: Point, reach: f32, colour: Rgb, brush: impl Fn(Point) -> f32) {
        let loss = [0, 1, 2].map(|i| 1.0 - colour[i] / self.background[i]);
        self.for_each(centre, reach, |p, pixel| {
            let thickness = brush(p);
            if thickness > 0.0 {
                for (have, loss) in pixel.iter_mut().zip(loss) {
                    *have *= 1.0 - loss * thickness;
                }
            }
        });
    }

    /// Applies a Gaussian blur of standard deviation `sigma` px.
    pub fn blur(&mut self, sigma: f32) {
        let reach = (2.5 * sigma).ceil().max(1.0) as usize;
        let mut kernel: Vec<f32> =
            (0..=2 * reach).map(|i| (-0.5 * ((i as f32 - reach as f32) / sigma).powi(2)).exp()).collect();
        let sum: f32 = kernel.iter().sum();
        kernel.iter_mut().for_each(|k| *k /= sum);
        let row = self.width as usize * 3;
        // Along rows, with repeated edge pixels.
        let mut padded = vec![0.0; row + 6 * reach];
        for line in self.pixels.chunks_exact_mut(row) {
            padded[3 * reach..3 * reach + row].copy_from_slice(line);
            for i in 0..3 * reach {
                padded[i] = line[i % 3];
                padded[3 * reach + row + i] = line[row - 3 + i % 3];
            }
            line.fill(0.0);
            for (k, weight) in kernel.iter().enumerate() {
                for (out, v) in line.iter_mut().zip(&padded[3 * k..]) {
                    *out += weight * v;
                }
            }
        }
        // Along columns, one row at a time.
        let height = self.height as usize;
        let mut blurred = vec![0.0; self.pixels.len()];
        for (y, out) in blurred.chunks_exact_mut(row).enumerate() {
            for (k, weight) in kernel.iter().enumerate() {
                let from = (y + k).saturating_sub(reach).min(height - 1) * row;
                for (out, v) in out.iter_mut().zip(&self.pixels[from..from + row]) {
                    *out += weight * v;
                }
            }
        }
        self.pixels = blurred;
    }

    /// Applies light with a relative gradient of `slope` across the image and sensor noise of standard deviation
    /// `grain`, and converts to 8 bits: `[height, width, 3]`, rows from the top.
    pub fn expose(&self, slope: Point, grain: f32, noise: Noise) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.pixels.len());
        for (y, line) in self.pixels.chunks_exact(self.width as usize * 3).enumerate() {
            let down = y as f32 / self.height as f32 - 0.5;
            for (x, pixel) in line.chunks_exact(3).enumerate() {
                let across = x as f32 / self.width as f32 - 0.5;
                let light = 1.0 + slope[0] * across + slope[1] * down;
                let speck = grain * noise.white(x as u32, y as u32);
                // The cast truncates and saturates.
                bytes.extend(pixel.iter().map(|v| (v * light + speck + 0.5) as u8));
            }
        }
        bytes
    }
}
