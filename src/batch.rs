//! Tensor shards and a fold's rows → batches for a model: normalised, and for training augmented.
//! Normalisation is fitted on training rows alone.

use crate::error::{Error, Result};
use crate::schema::TENSORS;
use crate::seed::Pcg64;
use crate::table;
use crate::workspace::Workspace;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt32Type;
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// All pictures of a data set in memory: u8, `[size, size, 3]` each.
pub struct Pictures {
    pub size_px: usize,
    pixels: Vec<u8>,
    index: HashMap<String, usize>,
    /// BLAKE3 over the shards' hashes.
    pub hash: String,
}

impl Pictures {
    /// Reads `tensors-<size>/`.
    ///
    /// # Errors
    /// [`Error::Missing`] where nothing was preprocessed, [`Error::Stale`] where it was from another manifest, and
    /// [`Error::Format`] where a shard is not what the schema says.
    pub fn load(ws: &Workspace, dataset: &str, size_px: u32) -> Result<Self> {
        let dir = ws.tensors(dataset, size_px);
        let shards = shards(&dir)?;
        let manifest = table::file_hash(&ws.manifest(dataset))?;
        let size = size_px as usize;
        let mut pictures = Self { size_px: size, pixels: Vec::new(), index: HashMap::new(), hash: String::new() };
        // All at once: a vector that grows is there twice while it is moved.
        let rows = shards.iter().map(|path| table::count(path, &TENSORS)).sum::<Result<usize>>()?;
        pictures.pixels.reserve_exact(rows * size * size * 3);
        let mut hasher = blake3::Hasher::new();
        for path in &shards {
            hasher.update(table::file_hash(path)?.as_bytes());
            let mut add = |batch: RecordBatch| {
                let ids = batch.column(0).as_string::<i32>();
                let (widths, heights) =
                    (batch.column(1).as_primitive::<UInt32Type>(), batch.column(2).as_primitive::<UInt32Type>());
                let pixels = batch.column(3).as_binary::<i32>();
                for row in 0..batch.num_rows() {
                    let (w, h, bytes) = (widths.value(row), heights.value(row), pixels.value(row));
                    if (w, h, bytes.len()) != (size_px, size_px, size * size * 3) {
                        return Err(Error::Format {
                            path: path.clone(),
                            item: ids.value(row).into(),
                            expected: format!("{size_px} x {size_px} pixels of 3 bytes"),
                            got: format!("{w} x {h} and {} bytes", bytes.len()),
                        });
                    }
                    pictures.index.insert(ids.value(row).into(), pictures.index.len());
                    pictures.pixels.extend_from_slice(bytes);
                }
                Ok(())
            };
            let provenance = table::read_batches(path, &TENSORS, &mut add)?;
            if provenance.inputs.get("manifest") != Some(&manifest) {
                return Err(Error::Stale {
                    path: path.clone(),
                    reason: "the manifest has changed since".into(),
                    command: "wbc preprocess".into(),
                });
            }
        }
        pictures.hash = hasher.finalize().to_hex().to_string();
        Ok(pictures)
    }

    /// Pictures that are here already, `[n, size, size, 3]`; they have rows and no names.
    pub fn of(size_px: usize, pixels: Vec<u8>) -> Self {
        Self { size_px, pixels, index: HashMap::new(), hash: String::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pixels.len() / (self.size_px * self.size_px * 3)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The row of an image, where it was preprocessed.
    pub fn row(&self, image_id: &str) -> Option<usize> {
        self.index.get(image_id).copied()
    }

    /// A picture's bytes, `[size, size, 3]`.
    pub fn picture(&self, row: usize) -> &[u8] {
        let len = self.size_px * self.size_px * 3;
        &self.pixels[row * len..][..len]
    }

    /// Writes the pictures at `rows` into `x` (`[rows, size, size, 3]`), all cores; `view` gives each its view.
    pub fn fill(&self, rows: &[usize], view: impl Fn(usize) -> View + Sync, normalise: &Normalise, x: &mut [f32]) {
        let len = self.size_px * self.size_px * 3;
        x.par_chunks_mut(len).zip(rows).enumerate().for_each(|(i, (x, row))| {
            view(i).draw(self.picture(*row), self.size_px, normalise, x);
        });
    }
}

/// The shard files of a `tensors-<size>` folder, in order.
fn shards(dir: &std::path::Path) -> Result<Vec<PathBuf>> {
    let missing =
        || Error::Missing { path: dir.into(), what: "preprocessed pictures", hint: "Run: wbc preprocess".into() };
    let entries = std::fs::read_dir(dir).map_err(|_| missing())?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(dir, "list"))?.path();
        if path.extension().is_some_and(|e| e == "parquet") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(missing());
    }
    paths.sort();
    Ok(paths)
}

/// How grey levels become a model's input. The paper says "normalising" and no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Each channel minus its mean over the training pictures, by its standard deviation there.
    #[default]
    Channel,
    /// 0 to 1.
    Unit,
    /// Each picture minus its own mean, by its own deviation (all channels together).
    Image,
}

/// A fitted normalisation: `(v - mean) / deviation` a channel, v from 0 to 255; for [`Normalisation::Image`] the
/// numbers are taken from each picture instead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalise {
    pub kind: Normalisation,
    pub mean: [f32; 3],
    pub deviation: [f32; 3],
}

impl Normalise {
    /// Fits on the pictures at `rows`: training rows, never test rows. Sums are of whole numbers, so that the result
    /// does not depend on the order.
    pub fn fit(kind: Normalisation, pictures: &Pictures, rows: &[usize]) -> Self {
        if kind != Normalisation::Channel {
            return Self { kind, mean: [0.0; 3], deviation: [255.0; 3] };
        }
        let sums = rows
            .par_iter()
            .map(|row| moments(pictures.picture(*row)))
            .reduce(|| [[0; 2]; 3], |a, b| std::array::from_fn(|c| [a[c][0] + b[c][0], a[c][1] + b[c][1]]));
        let n = (rows.len() * pictures.size_px * pictures.size_px).max(1) as f64;
        let mean = sums.map(|[sum, _]| sum as f64 / n);
        let deviation = std::array::from_fn(|c| {
            let variance = sums[c][1] as f64 / n - mean[c] * mean[c];
            variance.max(1.0).sqrt() as f32
        });
        Self { kind, mean: mean.map(|m| m as f32), deviation }
    }

    /// The numbers for one picture.
    fn of(&self, picture: &[u8]) -> ([f32; 3], [f32; 3]) {
        if self.kind != Normalisation::Image {
            return (self.mean, self.deviation);
        }
        let sums = moments(picture);
        let n = picture.len().max(1) as f64;
        let (sum, squares) = sums.iter().fold((0, 0), |(s, q), [a, b]| (s + a, q + b));
        let mean = sum as f64 / n;
        let deviation = (squares as f64 / n - mean * mean).max(1.0).sqrt();
        ([mean as f32; 3], [deviation as f32; 3])
    }
}

/// Sum and sum of squares of each channel.
fn moments(picture: &[u8]) -> [[u64; 2]; 3] {
    let mut sums = [[0u64; 2]; 3];
    for pixel in picture.chunks_exact(3) {
        for c in 0..3 {
            let v = u64::from(pixel[c]);
            sums[c][0] += v;
            sums[c][1] += v * v;
        }
    }
    sums
}

/// What training does to pictures, so that the model meets each a little different in every epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Mirror left-right and up-down, each half of the time.
    pub flips: bool,
    /// Turn by 0, 90, 180 or 270 degrees.
    pub quarter_turns: bool,
    /// Shift by up to this many pixels each way; the edge is repeated.
    pub shift_px: u32,
    /// Multiply all channels by 1 - b to 1 + b.
    pub brightness: f32,
    /// Stretch around the picture's mean grey by 1 - c to 1 + c.
    pub contrast: f32,
    /// Stretch each pixel's colour around its grey by 1 - s to 1 + s.
    pub saturation: f32,
    /// Multiply each channel on its own by 1 - t to 1 + t: a change of stain.
    pub tint: f32,
}

impl Augment {
    /// # Errors
    /// [`Error::Setting`] for a share outside 0 to below 1.
    pub fn validate(&self) -> Result<()> {
        let shares = [
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
            ("tint", self.tint),
        ];
        for (name, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::Setting {
                    key: format!("train.augment.{name}"),
                    expected: "0 to below 1".into(),
                    got: share.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Draws a view.
    pub fn view(&self, rng: &mut Pcg64) -> View {
        // Always the same number of draws, so that one setting does not move the others' luck.
        let bits = rng.next_u32();
        let mut unit = || rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0;
        let shift = [unit(), unit()].map(|u| (u * (self.shift_px as f32 + 0.499)) as i32);
        let jitter = Jitter {
            brightness: 1.0 + unit() * self.brightness,
            contrast: 1.0 + unit() * self.contrast,
            saturation: 1.0 + unit() * self.saturation,
            tint: [unit(), unit(), unit()].map(|u| 1.0 + u * self.tint),
        };
        let colour = [self.brightness, self.contrast, self.saturation, self.tint].iter().any(|v| *v > 0.0);
        // A quarter turn is a swap of axes and a mirror; with both flips all eight views are equally likely.
        let (flips, turns) = (self.flips, self.quarter_turns);
        let swap = turns && bits & 1 != 0;
        let half_turn = turns && bits & 2 != 0;
        let mirror = [flips && bits & 4 != 0, flips && bits & 8 != 0];
        View {
            swap,
            mirror: [mirror[0] ^ half_turn ^ swap, mirror[1] ^ half_turn],
            shift,
            jitter: colour.then_some(jitter),
        }
    }
}

/// One way of looking at a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct View {
    /// Rows become columns.
    swap: bool,
    /// Mirrored along the source's rows, columns.
    mirror: [bool; 2],
    /// Pixels along the source's rows, columns.
    shift: [i32; 2],
    jitter: Option<Jitter>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Jitter {
    brightness: f32,
    contrast: f32,
    saturation: f32,
    tint: [f32; 3],
}

impl View {
    /// The eight views of turns and flips; the first is the picture as it is.
    pub fn turned(which: usize) -> View {
        View { swap: which & 4 != 0, mirror: [which & 1 != 0, which & 2 != 0], ..View::default() }
    }

    /// Draws the view of `picture` (`[size, size, 3]`, u8) into `x` (the same, f32), normalised.
    fn draw(&self, picture: &[u8], size: usize, normalise: &Normalise, x: &mut [f32]) {
        let (mean, deviation) = normalise.of(picture);
        // Colour is affine: out = matrix * pixel + offset, with the normalisation folded in.
        let (mut matrix, mut offset) = ([[0f32; 3]; 3], [0f32; 3]);
        const GREY: [f32; 3] = [0.299, 0.587, 0.114];
        let (jitter, grey) = match self.jitter {
            Some(jitter) => {
                let sums = moments(picture);
                let grey: f32 = (0..3).map(|c| GREY[c] * sums[c][0] as f32).sum();
                (jitter, grey / (size * size) as f32)
            }
            None => (Jitter { brightness: 1.0, contrast: 1.0, saturation: 1.0, tint: [1.0; 3] }, 0.0),
        };
        for c in 0..3 {
            let gain = jitter.brightness * jitter.tint[c] / deviation[c];
            for d in 0..3 {
                let own = if c == d { jitter.saturation } else { 0.0 };
                matrix[c][d] = gain * jitter.contrast * (own + (1.0 - jitter.saturation) * GREY[d]);
            }
            offset[c] = gain * (1.0 - jitter.contrast) * grey - mean[c] / deviation[c];
        }
        // Where each target row or column lies in the source.
        let along = |axis: usize| -> Vec<usize> {
            (0..size)
                .map(|i| {
                    let i = if self.mirror[axis] { size - 1 - i } else { i } as i32;
                    (i + self.shift[axis]).clamp(0, size as i32 - 1) as usize
                })
                .collect()
        };
        let (rows, columns) = (along(0), along(1));
        for (i, x) in x.chunks_exact_mut(size * 3).enumerate() {
            for (j, x) in x.chunks_exact_mut(3).enumerate() {
                let source = if self.swap { rows[j] * size + columns[i] } else { rows[i] * size + columns[j] };
                let pixel: [f32; 3] = std::array::from_fn(|c| f32::from(picture[source * 3 + c]));
                for c in 0..3 {
                    x[c] = matrix[c][0] * pixel[0] + matrix[c][1] * pixel[1] + matrix[c][2] * pixel[2] + offset[c];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    const RAW: Normalise = Normalise { kind: Normalisation::Unit, mean: [0.0; 3], deviation: [1.0; 3] };

    fn drawn(view: View, size: usize, picture: &[u8]) -> Vec<f32> {
        let mut x = vec![0.0; picture.len()];
        view.draw(picture, size, &RAW, &mut x);
        x
    }

    #[test]
    fn the_eight_views_are_all_different_and_the_first_is_the_picture() {
        let size = 4;
        let picture: Vec<u8> = (0..size * size * 3).map(|i| i as u8).collect();
        let views: Vec<Vec<f32>> = (0..8).map(|k| drawn(View::turned(k), size, &picture)).collect();
        assert!(views[0].iter().zip(&picture).all(|(x, p)| *x == f32::from(*p)));
        for a in 0..8 {
            for b in 0..a {
                assert_ne!(views[a], views[b], "{a} and {b}");
            }
            let mut values: Vec<u8> = views[a].iter().map(|v| *v as u8).collect();
            values.sort();
            assert_eq!(values, picture, "a view holds the same pixels");
        }
    }

    #[test]
    fn augmentation_meets_all_eight_turns_and_moves_colour_within_bounds() {
        let augment = Augment { flips: true, quarter_turns: true, brightness: 0.2, ..Default::default() };
        let mut seen = std::collections::BTreeSet::new();
        for item in 0..200 {
            let view = augment.view(&mut seed::rng(1, "augment", 0, 0, item));
            seen.insert((view.swap, view.mirror));
            let flat = drawn(view, 2, &[100; 12]);
            assert!(flat.iter().all(|v| (79.9..=120.1).contains(v)), "{flat:?}");
        }
        assert_eq!(seen.len(), 8);
        let still = Augment::default().view(&mut seed::rng(1, "augment", 0, 0, 0));
        assert_eq!(still, View::default());
    }

    #[test]
    fn normalisation_is_fitted_on_the_rows_it_is_given() {
        let mut pixels = vec![10u8; 12];
        pixels.extend([30; 12]);
        pixels.extend([200; 12]);
        let pictures = Pictures { size_px: 2, pixels, index: HashMap::new(), hash: String::new() };
        let fitted = Normalise::fit(Normalisation::Channel, &pictures, &[0, 1]);
        assert_eq!(fitted.mean, [20.0; 3]);
        assert_eq!(fitted.deviation, [10.0; 3]);
        let mut x = vec![0.0; 12];
        pictures.fill(&[2], |_| View::default(), &fitted, &mut x);
        assert!(x.iter().all(|v| (*v - 18.0).abs() < 1e-4));
    }
}
