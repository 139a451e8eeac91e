//! Whether images look like the training images: by colours, size of the nucleus, sharpness and noise, whatever class
//! the cells are of. Another stain, microscope or camera shows in these, and what was measured on the training data
//! holds for none of its images, however sure the models are.
//!
//! An image is as far away as the fifth nearest training image that is not of its own patient, slide or group of
//! copies. Properties are scaled by their spread over the training images and decorrelated before, so that also a
//! combination that never occurs is far. Images are compared as the models see them: cut out and preprocessed.

use super::flags::{UNFAMILIAR, add_flag};
use crate::batch::Tensors;
use crate::error::{Error, Result};
use crate::rows::CellRow;
use crate::seed;
use crate::statistics::wilson;
use crate::text;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::cholesky::CholeskyDecomposable;
use std::collections::BTreeMap;
use std::path::Path;

/// Number of properties.
const PROPERTIES: usize = 15;
/// What each property is of.
const NAMES: [&str; PROPERTIES] = [
    "background colour",
    "background colour",
    "background colour",
    "colour of the cell",
    "colour of the cell",
    "colour of the cell",
    "stain of the nucleus",
    "stain of the nucleus",
    "stain of the nucleus",
    "size of the nucleus",
    "sharpness",
    "sharpness",
    "sharpness",
    "noise",
    "noise",
];
/// Least spread of each property: smaller differences do not matter. In optical density, as a share of the image's
/// width, and in logarithms.
const LEAST_SPREAD: [f64; PROPERTIES] =
    [0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.15, 0.15, 0.15, 0.15, 0.15];
/// Training images to compare with, at most.
const IMAGES: usize = 1500;
/// With fewer training images nothing is known.
const LEAST_IMAGES: usize = 20;
/// The distance is that to the image of this rank, from 1, among the nearest.
const NEAREST: usize = 5;
/// Share of the training images that lie within a distance of 1 from others.
const WITHIN: f64 = 0.99;
/// Added to the variance of every property before these are decorrelated.
const RIDGE: f64 = 0.05;
/// A batch is unlike the training images where more than this share of its cells is: 1 % is expected by
/// each of two measures.
const UNLIKE_SHARE: f64 = 0.05;
/// Folders with fewer cells are judged together.
const SMALL: usize = 20;
/// A property is named where the batch's median is this many spreads away from that of the training images.
const NAMED: f64 = 2.0;
/// Properties to name at most.
const MOST_NAMED: usize = 5;

/// The measured properties of an image.
pub type Properties = [f64; PROPERTIES];

/// The appearance of the training images.
pub struct Appearance {
    /// Median of each property.
    centre: Properties,
    /// Spread of each property: half the range of the central 68 %.
    spread: Properties,
    /// Lower triangle by which scaled properties are decorrelated.
    triangle: Vec<Properties>,
    /// Training images, scaled and decorrelated.
    images: Vec<Properties>,
    /// The distance that counts as 1.
    unit: f64,
}

impl Appearance {
    /// Measures training images: at most 1,500 of the tensors at `rows`. `unit_of` names what an image shares with
    /// others from the same source: its patient, slide or group of copies. `None` for fewer than 20 images.
    ///
    /// # Errors
    /// [`Error::Compute`] where the properties cannot be decorrelated.
    pub fn new(tensors: &Tensors, mut rows: Vec<(usize, &str)>, key: u64) -> Result<Option<Self>> {
        let mut rng = seed::rng(key, "appearance", 0, 0, 0);
        seed::draw(&mut rows, IMAGES, &mut rng);
        if rows.len() < LEAST_IMAGES {
            return Ok(None);
        }
        let measured: Vec<Properties> =
            rows.par_iter().map(|(row, _)| measure(tensors.pixels(*row), tensors.size_px)).collect();
        let sorted = |k: usize| {
            let mut values: Vec<f64> = measured.iter().map(|x| x[k]).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
        let mut appearance = Self {
            centre: std::array::from_fn(|k| at(&sorted(k), 0.5)),
            spread: std::array::from_fn(|k| {
                let values = sorted(k);
                ((at(&values, 0.841) - at(&values, 0.159)) / 2.0).max(LEAST_SPREAD[k])
            }),
            triangle: Vec::new(),
            images: Vec::new(),
            unit: 1.0,
        };
        let scaled: Vec<Properties> = measured.iter().map(|x| appearance.scaled(x)).collect();
        appearance.triangle = triangle(&scaled)?;
        appearance.images = scaled.iter().map(|x| appearance.decorrelated(x)).collect();
        let units: Vec<&str> = rows.iter().map(|(_, unit)| *unit).collect();
        let distance = |i: usize| appearance.nearest(&appearance.images[i], |j| j != i && units[j] != units[i]);
        let mut distances: Vec<f64> = (0..rows.len()).into_par_iter().filter_map(distance).collect();
        distances.sort_by(f64::total_cmp);
        if distances.is_empty() {
            return Ok(None);
        }
        appearance.unit = at(&distances, WITHIN).max(f64::MIN_POSITIVE);
        Ok(Some(appearance))
    }

    /// The distance of an image from the training images; 99 of 100 of these are within 1 of others.
    pub fn distance(&self, properties: &Properties) -> f32 {
        let x = self.decorrelated(&self.scaled(properties));
        (self.nearest(&x, |_| true).unwrap_or(0.0) / self.unit) as f32
    }

    fn scaled(&self, x: &Properties) -> Properties {
        std::array::from_fn(|k| (x[k] - self.centre[k]) / self.spread[k])
    }

    /// Solves `triangle * y = x`.
    fn decorrelated(&self, x: &Properties) -> Properties {
        let mut y = [0.0; PROPERTIES];
        for (k, row) in self.triangle.iter().enumerate() {
            let known: f64 = (0..k).map(|j| row[j] * y[j]).sum();
            y[k] = (x[k] - known) / row[k];
        }
        y
    }

    /// Distance to the [`NEAREST`]-th of the images that count, or to the farthest where there are fewer.
    fn nearest(&self, x: &Properties, counts: impl Fn(usize) -> bool) -> Option<f64> {
        let square = |image: &Properties| image.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let images = self.images.iter().enumerate().filter(|(i, _)| counts(*i));
        let mut squares: Vec<f64> = images.map(|(_, image)| square(image)).collect();
        let at = NEAREST.min(squares.len()).checked_sub(1)?;
        Some(squares.select_nth_unstable_by(at, f64::total_cmp).1.sqrt())
    }

    /// The properties of an image in units of their spread over the training images, 0 for the usual ones.
    pub fn shifts(&self, properties: &Properties) -> Vec<f64> {
        self.scaled(properties).to_vec()
    }
}

/// The lower triangle of Cholesky's decomposition of the covariance of scaled properties.
fn triangle(scaled: &[Properties]) -> Result<Vec<Properties>> {
    let n = scaled.len() as f64;
    let mean: Properties = std::array::from_fn(|k| scaled.iter().map(|x| x[k]).sum::<f64>() / n);
    let covariance = |j: usize, k: usize| {
        let sum: f64 = scaled.iter().map(|x| (x[j] - mean[j]) * (x[k] - mean[k])).sum();
        sum / n + if j == k { RIDGE } else { 0.0 }
    };
    let rows: Vec<Vec<f64>> = (0..PROPERTIES).map(|j| (0..PROPERTIES).map(|k| covariance(j, k)).collect()).collect();
    let failed = |e: smartcore::error::Failed| Error::compute("the appearance of the training images", e);
    let lower = DenseMatrix::from_2d_vec(&rows).and_then(|matrix| matrix.cholesky()).map_err(failed)?.L();
    Ok((0..PROPERTIES).map(|j| std::array::from_fn(|k| *lower.get((j, k)))).collect())
}

/// The properties of an image of `[size, size, 3]`.
pub fn measure(pixels: &[u8], size: usize) -> Properties {
    let mut counts = [[0u32; 256]; 3];
    for pixel in pixels.chunks_exact(3) {
        counts.iter_mut().zip(pixel).for_each(|(counts, value)| counts[usize::from(*value)] += 1);
    }
    let density = |value: f64| -((value + 1.0) / 256.0).ln();
    // The quantile of the brightness, as a density.
    let quantile = |channel: usize, share: f64| {
        let (mut below, wanted) = (0.0, share * (size * size) as f64);
        for (value, count) in counts[channel].iter().enumerate() {
            if *count > 0 && below + f64::from(*count) >= wanted {
                return density(value as f64 - 0.5 + (wanted - below) / f64::from(*count));
            }
            below += f64::from(*count);
        }
        density(255.0)
    };
    let dark = dark_share(&counts[1], density);
    let grey: Vec<f32> = pixels.chunks_exact(3).map(|p| p.iter().map(|v| f32::from(*v)).sum::<f32>() / 3.0).collect();
    let colour: Vec<f32> = pixels.chunks_exact(3).map(|p| f32::from(p[0]) - f32::from(p[1])).collect();
    let (half, half_size) = halved(&grey, size);
    let (quarter, quarter_size) = halved(&half, half_size);
    let (edges, edges_2, edges_4) = (edges(&grey, size), edges(&half, half_size), edges(&quarter, quarter_size));
    let [sharp, sharp_2, sharp_4] = [&edges, &edges_2, &edges_4].map(|edges| {
        let sum: f64 = edges.iter().map(|v| f64::from(*v)).sum();
        log(sum / edges.len().max(1) as f64)
    });
    [
        quantile(0, 0.9),
        quantile(1, 0.9),
        quantile(2, 0.9),
        quantile(0, 0.5),
        quantile(1, 0.5),
        quantile(2, 0.5),
        quantile(0, 0.05),
        quantile(1, 0.05),
        quantile(2, 0.05),
        dark.sqrt(),
        sharp,
        sharp - sharp_2,
        sharp_2 - sharp_4,
        log(median(edges)),
        log(median(self::edges(&colour, size))),
    ]
}

fn log(value: f64) -> f64 {
    (value + 0.1).ln()
}

fn median(mut values: Vec<f32>) -> f64 {
    let middle = values.len() / 2;
    if values.is_empty() { 0.0 } else { f64::from(*values.select_nth_unstable_by(middle, f32::total_cmp).1) }
}

/// The share of the pixels that are darker than Otsu's threshold, which is mostly the nucleus.
fn dark_share(counts: &[u32; 256], density: impl Fn(f64) -> f64) -> f64 {
    let of = |value: usize| f64::from(counts[value]);
    let all: f64 = (0..256).map(of).sum();
    let sum: f64 = (0..256).map(|value| of(value) * density(value as f64)).sum();
    let (mut best, mut share) = (0.0, 0.0);
    let (mut dark, mut dark_sum) = (0.0, 0.0);
    for value in 0..255 {
        dark += of(value);
        dark_sum += of(value) * density(value as f64);
        let between = (dark_sum - sum * dark / all).powi(2) / (dark * (all - dark));
        if between > best {
            (best, share) = (between, dark / all);
        }
    }
    share
}

/// An image of half the size; a last odd row or column is left out.
fn halved(image: &[f32], size: usize) -> (Vec<f32>, usize) {
    let half = size / 2;
    let at = |x: usize, y: usize| image[y * size + x];
    let mean = |x: usize, y: usize| (at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1)) / 4.0;
    ((0..half * half).map(|i| mean(i % half * 2, i / half * 2)).collect(), half)
}

/// Absolute values of the discrete Laplacian at all pixels but those of the border.
fn edges(image: &[f32], size: usize) -> Vec<f32> {
    let at = |x: usize, y: usize| image[y * size + x];
    let laplacian = |x: usize, y: usize| 4.0 * at(x, y) - at(x - 1, y) - at(x + 1, y) - at(x, y - 1) - at(x, y + 1);
    let inner = 1..size.saturating_sub(1);
    inner.clone().flat_map(|y| inner.clone().map(move |x| laplacian(x, y).abs())).collect()
}

/// The names of the properties whose median over cells is far from 0, most different first, each once. `shifts` has the
/// properties of each cell in units of their spread over the training cells.
pub fn differing<'a>(shifts: &[&[f64]], name: impl Fn(usize) -> &'a str) -> Vec<String> {
    let median = |k: usize| {
        let mut values: Vec<f64> = shifts.iter().map(|x| x[k]).collect();
        let middle = values.len() / 2;
        *values.select_nth_unstable_by(middle, f64::total_cmp).1
    };
    let width = shifts.first().map_or(0, |x| x.len());
    let mut medians: Vec<(f64, &str)> = (0..width).map(|k| (median(k).abs(), name(k))).collect();
    medians.retain(|(shift, _)| *shift >= NAMED);
    medians.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut named: Vec<String> = Vec::new();
    for (_, name) in medians {
        if named.len() < MOST_NAMED && !named.iter().any(|other| other == name) {
            named.push(name.into());
        }
    }
    named
}

/// The name of a property: "background colour".
pub fn name(property: usize) -> &'static str {
    NAMES[property]
}

/// Cells that are judged together, and do not look like the training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unlike {
    /// The folder of the images, or how many folders.
    pub folder: String,
    /// All its cells.
    pub cells: u64,
    /// Those that are unlike the training cells, each by itself.
    pub unlike: u64,
    /// By what they differ most, most different first; empty where they differ only by the combination of properties.
    pub by: Vec<String>,
}

impl std::fmt::Display for Unlike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.by.as_slice() {
            [] => "in the combination of their properties".to_string(),
            by => format!("most in {}", by.join(", ")),
        };
        write!(
            f,
            "{}: not like the training images: {} of {} ({:.0} %, where 1 to 2 % are expected) differ, {by}. What \
             was measured on the training data does not hold for them: all are in doubt",
            self.folder,
            text::thousands(self.unlike),
            text::of(self.cells, "cell"),
            100.0 * self.unlike as f64 / self.cells as f64
        )
    }
}

/// Flags all cells of the folders whose images do not look like the training images, and names these folders. `folder`
/// names the folder of a row, and `differing` the properties by which the rows of these numbers differ.
pub fn doubt(
    rows: &mut [CellRow],
    folder: impl Fn(&CellRow) -> String,
    differing: impl Fn(&[usize]) -> Vec<String>,
) -> Vec<Unlike> {
    let mut folders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        folders.entry(folder(row)).or_default().push(i);
    }
    let (small, mut batches): (Vec<_>, Vec<_>) = folders.into_iter().partition(|(_, cells)| cells.len() < SMALL);
    match small.len() {
        0 => {}
        1 => batches.extend(small),
        n => {
            let name = format!("{} with fewer than {SMALL} cells each", text::of(n as u64, "folder"));
            batches.push((name, small.into_iter().flat_map(|(_, cells)| cells).collect()));
        }
    }
    let mut found = Vec::new();
    for (folder, cells) in batches {
        let unlike = cells.iter().filter(|i| rows[**i].is_unlike_training()).count() as u64;
        let n = cells.len() as u64;
        if wilson(unlike, n).is_none_or(|share| share.low <= UNLIKE_SHARE) {
            continue;
        }
        let by = differing(&cells);
        cells.iter().for_each(|i| add_flag(&mut rows[*i], UNFAMILIAR));
        found.push(Unlike { folder, cells: n, unlike, by });
    }
    found
}

/// The folder of an image's path.
pub fn folder(path: &str) -> String {
    let folder = Path::new(path).parent().map_or(String::new(), |parent| parent.display().to_string());
    if folder.is_empty() { ".".into() } else { folder }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use rand::Rng;

    const SIZE: usize = 64;

    /// Noise, plasma of one brightness, and a darker disc: an image of a laboratory, with some variation.
    fn image(number: u64, brightness: f64, radius: f64, noise: f64) -> Vec<u8> {
        let mut rng = seed::rng(number, "test", 0, 0, 0);
        let mut unit = || rng.next_u64() as f64 / u64::MAX as f64 - 0.5;
        let (light, radius) = (brightness * (1.0 + 0.04 * unit()), radius * (1.0 + 0.3 * unit()));
        let mut pixels = Vec::new();
        for at in 0..SIZE * SIZE {
            let (x, y) = ((at % SIZE) as f64 - 32.0, (at / SIZE) as f64 - 32.0);
            let ground = if x.hypot(y) < radius { [120.0, 80.0, 150.0] } else { [235.0, 220.0, 215.0] };
            pixels.extend(ground.map(|v| (v * light + noise * unit()).round().clamp(0.0, 255.0) as u8));
        }
        pixels
    }

    fn home() -> Appearance {
        let pixels = (0..300).flat_map(|i| image(i, 1.0, 14.0, 16.0)).collect();
        let units: Vec<String> = (0..300).map(|i| (i / 3).to_string()).collect();
        let rows = units.iter().enumerate().map(|(row, unit)| (row, unit.as_str())).collect();
        Appearance::new(&Tensors::from_pixels(SIZE, pixels), rows, 0).unwrap().unwrap()
    }

    fn row(path: String, appearance: f32) -> CellRow {
        CellRow {
            path,
            cell: 0,
            x_px: None,
            y_px: None,
            width_px: None,
            height_px: None,
            class: Class::NEUTROPHIL,
            confidence: 1.0,
            agreement: 1.0,
            distance: Some(0.5),
            appearance: Some(appearance),
            flag: None,
            training_image: None,
            probabilities: vec![0.0; 5],
        }
    }

    /// Flagged cells and the folders that are unlike, for 40 images.
    fn judged(
        home: &Appearance,
        images: impl Fn(u64) -> Vec<u8>,
        folder: impl Fn(u64) -> String,
    ) -> (usize, Vec<Unlike>) {
        let properties: Vec<Properties> = (1000..1040).map(|i| measure(&images(i), SIZE)).collect();
        let rows = (0..40).map(|i| format!("{}/{i}.png", folder(i))).zip(&properties);
        let mut rows: Vec<CellRow> = rows.map(|(path, properties)| row(path, home.distance(properties))).collect();
        let shifts: Vec<Vec<f64>> = properties.iter().map(|x| home.shifts(x)).collect();
        let by = |cells: &[usize]| differing(&cells.iter().map(|i| &shifts[*i][..]).collect::<Vec<_>>(), name);
        let unlike = doubt(&mut rows, |row| self::folder(&row.path), by);
        (rows.iter().filter(|row| row.flag.is_some()).count(), unlike)
    }

    #[test]
    fn images_of_the_same_laboratory_are_not_in_doubt_and_others_are() {
        let home = home();
        let one = |_| "new".to_string();
        assert_eq!(judged(&home, |i| image(i, 1.0, 14.0, 16.0), one), (0, vec![]));
        let cases: [(&str, fn(u64) -> Vec<u8>); 3] = [
            ("background colour", |i| image(i, 0.85, 14.0, 16.0)),
            ("size of the nucleus", |i| image(i, 1.0, 26.0, 16.0)),
            ("noise", |i| image(i, 1.0, 14.0, 3.0)),
        ];
        for (name, images) in cases {
            let (flagged, unlike) = judged(&home, images, one);
            assert_eq!((flagged, unlike.len()), (40, 1), "{name}: {unlike:?}");
            assert!(unlike[0].by.iter().any(|by| by == name), "{name}: {unlike:?}");
            assert!(unlike[0].unlike > 30 && unlike[0].to_string().contains(name), "{unlike:?}");
        }
    }

    #[test]
    fn a_folder_is_judged_by_itself_and_small_ones_together() {
        let home = home();
        let mixed = |i: u64| image(i, if i.is_multiple_of(2) { 1.0 } else { 0.8 }, 14.0, 16.0);
        let (flagged, unlike) = judged(&home, mixed, |i| (i % 2).to_string());
        assert_eq!((flagged, unlike.len(), unlike[0].folder.as_str()), (20, 1, "1"));
        let (flagged, unlike) = judged(&home, mixed, |i| i.to_string());
        assert_eq!((flagged, unlike[0].folder.as_str()), (40, "40 folders with fewer than 20 cells each"));
    }

    #[test]
    fn little_is_known_of_few_images() {
        let tensors = Tensors::from_pixels(SIZE, (0..19).flat_map(|i| image(i, 1.0, 14.0, 16.0)).collect());
        let rows = |unit: &'static str, n| (0..n).map(|row| (row, unit)).collect();
        assert!(Appearance::new(&tensors, rows("a", 19), 0).unwrap().is_none());
        // All of one patient: nothing to compare them with.
        let tensors = Tensors::from_pixels(SIZE, (0..30).flat_map(|i| image(i, 1.0, 14.0, 16.0)).collect());
        assert!(Appearance::new(&tensors, rows("a", 30), 0).unwrap().is_none());
    }

    #[test]
    fn properties_of_tiny_and_of_one_coloured_images_are_finite() {
        for size in [1, 2, 3, 7, 32] {
            for value in [0, 128, 255] {
                let properties = measure(&vec![value; size * size * 3], size);
                assert!(properties.iter().all(|x| x.is_finite()), "{size}, {value}: {properties:?}");
            }
        }
    }
}
