//! Files of tensors and a fold's rows → batches for a model: normalised, and for training augmented.
//! Normalisation is fitted on training rows alone.

use crate::dataset;
use crate::error::{Error, Input, Result};
use crate::join;
use crate::preprocess;
use crate::schema::TENSORS;
use crate::seed::Pcg64;
use crate::table;
use crate::workspace::Workspace;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// All tensors of a data set in memory: u8, `[size, size, 3]` each.
pub struct Tensors {
    /// Side, px.
    pub size_px: usize,
    pixels: Vec<u8>,
    /// Diameters of discs as large as the cell and its nucleus, px of the original image, where they are known.
    diameters_px: Vec<Option<[f32; 2]>>,
    index: HashMap<String, usize>,
    /// BLAKE3 over the files' hashes.
    pub hash: String,
}

impl Tensors {
    /// Reads the images that preprocessing wrote with `settings`.
    ///
    /// # Errors
    /// [`Error::Missing`] where nothing was preprocessed, [`Error::Stale`] where it was from another manifest, and
    /// [`Error::Format`] where a file is not what the schema says.
    pub fn load(ws: &Workspace, name: &str, settings: &preprocess::Settings) -> Result<Self> {
        Self::load_if(ws, name, settings, None)
    }

    /// As [`Tensors::load`], but only those of the cells `ids` are in memory; the hash is that of all.
    ///
    /// # Errors
    /// As [`Tensors::load`].
    pub fn load_some(
        ws: &Workspace,
        name: &str,
        settings: &preprocess::Settings,
        ids: &BTreeSet<&str>,
    ) -> Result<Self> {
        Self::load_if(ws, name, settings, Some(ids))
    }

    fn load_if(
        ws: &Workspace,
        name: &str,
        settings: &preprocess::Settings,
        wanted: Option<&BTreeSet<&str>>,
    ) -> Result<Self> {
        let size_px = settings.size_px;
        // A joint data set has the tensors of its members.
        let members = join::members(ws, name);
        if !members.is_empty() {
            join::require_current(ws, name)?;
        }
        let names = if members.is_empty() { vec![name.to_string()] } else { members };
        let mut files: Vec<(PathBuf, &str)> = Vec::new();
        for name in &names {
            let of_one = files_in(&ws.tensors(name, &settings.folder()))?;
            files.extend(of_one.into_iter().map(|path| (path, name.as_str())));
        }
        let size = size_px as usize;
        let mut tensors = Self::from_pixels(size, Vec::new());
        // All at once: a vector that grows is there twice while it is moved.
        let rows = match wanted {
            Some(ids) => ids.len(),
            None => files.iter().map(|(path, _)| table::count(path, &TENSORS)).sum::<Result<usize>>()?,
        };
        // Tensors are not compressed, so that a file cannot claim more of them than it holds.
        let stored: u64 =
            files.iter().filter_map(|(path, _)| std::fs::metadata(path).ok()).map(|about| about.len()).sum();
        tensors.pixels.reserve_exact(rows.saturating_mul(size * size * 3).min(stored as usize));
        let mut hasher = blake3::Hasher::new();
        for (path, name) in &files {
            hasher.update(table::file_hash(path)?.as_bytes());
            let mut add = |batch: RecordBatch| {
                let ids = batch.column(0).as_string::<i32>();
                let (widths, heights) =
                    (batch.column(1).as_primitive::<UInt32Type>(), batch.column(2).as_primitive::<UInt32Type>());
                let pixels = batch.column(3).as_binary::<i32>();
                let [cells, nuclei] = [5, 6].map(|i| batch.column(i).as_primitive::<Float32Type>());
                let diameters = cells.iter().zip(nuclei).map(|(cell, nucleus)| Some([cell?, nucleus?]));
                // Anything else is of no cell.
                let known =
                    |diameters: &[f32; 2]| diameters.iter().all(|diameter| *diameter > 0.0 && diameter.is_finite());
                for (row, diameters) in diameters.enumerate() {
                    if wanted.is_some_and(|wanted| !wanted.contains(ids.value(row))) {
                        continue;
                    }
                    let (w, h, bytes) = (widths.value(row), heights.value(row), pixels.value(row));
                    if (w, h, bytes.len()) != (size_px, size_px, size * size * 3) {
                        return Err(Error::Format {
                            path: path.clone(),
                            item: ids.value(row).into(),
                            expected: format!("{size_px} x {size_px} pixels of 3 bytes"),
                            got: format!("{w} x {h} and {} bytes", bytes.len()),
                        });
                    }
                    tensors.index.insert(ids.value(row).into(), tensors.index.len());
                    tensors.diameters_px.push(diameters.filter(known));
                    tensors.pixels.extend_from_slice(bytes);
                }
                Ok(())
            };
            let provenance = table::read_batches(path, &TENSORS, &mut add)?;
            dataset::require_current(ws, name, &provenance, Input::Tensors, path)?;
        }
        tensors.hash = hasher.finalize().to_hex().to_string();
        Ok(tensors)
    }

    /// Tensors that are here already, `[n, size, size, 3]`; they have rows and no names.
    pub fn from_pixels(size_px: usize, pixels: Vec<u8>) -> Self {
        Self { size_px, pixels, diameters_px: Vec::new(), index: HashMap::new(), hash: String::new() }
    }

    /// The same with names, each of `[size, size, 3]`.
    pub fn named(size_px: usize, images: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut tensors = Self::from_pixels(size_px, Vec::new());
        for (name, pixels) in images {
            tensors.index.insert(name, tensors.index.len());
            tensors.pixels.extend(pixels);
        }
        tensors
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

    /// Diameters of discs as large as an image's cell and its nucleus, px of the original image; none where they are
    /// not known.
    pub fn diameters_px(&self, row: usize) -> Option<[f32; 2]> {
        self.diameters_px.get(row).copied().flatten()
    }

    /// An image's bytes, `[size, size, 3]`.
    pub fn pixels(&self, row: usize) -> &[u8] {
        let len = self.size_px * self.size_px * 3;
        &self.pixels[row * len..][..len]
    }

    /// Writes the images at `rows` into `x` (`[rows, size, size, 3]`), all cores; `view` gives each its view.
    pub fn fill(&self, rows: &[usize], view: impl Fn(usize) -> View + Sync, normalise: &Normalise, x: &mut [f32]) {
        let len = self.size_px * self.size_px * 3;
        x.par_chunks_mut(len).zip(rows).enumerate().for_each(|(i, (x, row))| {
            view(i).render(self.pixels(*row), self.size_px, normalise, x);
        });
    }
}

/// The files of a `tensors-<size>` folder, in order.
fn files_in(dir: &std::path::Path) -> Result<Vec<PathBuf>> {
    let missing = || Error::missing(Input::Tensors, dir);
    let entries = std::fs::read_dir(dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => missing(),
        _ => Error::Io { path: dir.into(), action: "list", source },
    })?;
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
    /// Each channel minus its mean over the training images, by its standard deviation there.
    #[default]
    Channel,
    /// 0 to 1.
    Unit,
    /// Each image minus its own mean, by its own deviation (all channels together).
    Image,
}

/// A fitted normalisation: `(v - mean) / deviation` per channel, with v from 0 to 255. For [`Normalisation::Image`]
/// mean and deviation are computed from each image instead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalise {
    /// The method.
    pub kind: Normalisation,
    /// Mean of each channel, 0 to 255.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub deviation: [f32; 3],
}

impl Normalise {
    /// Fits on the images at `rows`: training rows, never test rows. Sums are of whole numbers, so that the result
    /// does not depend on the order.
    pub fn fit(kind: Normalisation, tensors: &Tensors, rows: &[usize]) -> Self {
        if kind != Normalisation::Channel {
            return Self { kind, mean: [0.0; 3], deviation: [255.0; 3] };
        }
        let sums = rows
            .par_iter()
            .map(|row| moments(tensors.pixels(*row)))
            .reduce(|| [[0; 2]; 3], |a, b| std::array::from_fn(|c| [a[c][0] + b[c][0], a[c][1] + b[c][1]]));
        let n = (rows.len() * tensors.size_px * tensors.size_px).max(1) as f64;
        let mean = sums.map(|[sum, _]| sum as f64 / n);
        let deviation = std::array::from_fn(|c| {
            let variance = sums[c][1] as f64 / n - mean[c] * mean[c];
            variance.max(1.0).sqrt() as f32
        });
        Self { kind, mean: mean.map(|m| m as f32), deviation }
    }

    /// The numbers for one image.
    fn mean_and_deviation(&self, pixels: &[u8]) -> ([f32; 3], [f32; 3]) {
        if self.kind != Normalisation::Image {
            return (self.mean, self.deviation);
        }
        let sums = moments(pixels);
        let n = pixels.len().max(1) as f64;
        let (sum, squares) = sums.iter().fold((0, 0), |(s, q), [a, b]| (s + a, q + b));
        let mean = sum as f64 / n;
        let deviation = (squares as f64 / n - mean * mean).max(1.0).sqrt();
        ([mean as f32; 3], [deviation as f32; 3])
    }
}

/// Sum and sum of squares of each channel.
pub(crate) fn moments(pixels: &[u8]) -> [[u64; 2]; 3] {
    let mut sums = [[0u64; 2]; 3];
    for pixel in pixels.chunks_exact(3) {
        for c in 0..3 {
            let v = u64::from(pixel[c]);
            sums[c][0] += v;
            sums[c][1] += v * v;
        }
    }
    sums
}

/// What training does to images, so that the model meets each a little different in every epoch.
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
    /// Stretch around the image's mean grey by 1 - c to 1 + c.
    pub contrast: f32,
    /// Stretch each pixel's colour around its grey by 1 - s to 1 + s.
    pub saturation: f32,
    /// Multiply each channel on its own by 1 - t to 1 + t: a change of stain.
    pub tint: f32,
    /// Enlarge around the middle by 1 - z to 1 + z.
    #[serde(skip_serializing_if = "is_zero")]
    pub zoom: f32,
    /// Another stain: optical densities to the power of 1 / (1 + 2 s) to 1 + 2 s, which moves pale parts against dark
    /// ones, then each channel's times 1 - s to 1 + s with half as much of the others mixed in.
    #[serde(skip_serializing_if = "is_zero")]
    pub stain: f32,
    /// Another counterstain: on everything that is not white, an optical density of up to this in a random colour.
    #[serde(skip_serializing_if = "is_zero")]
    pub counterstain: f32,
    /// Shrink by up to 1 + r times each way and enlarge again: an image of fewer pixels, or out of focus.
    #[serde(skip_serializing_if = "is_zero")]
    pub coarse: f32,
}

pub(crate) fn is_zero(value: &f32) -> bool {
    *value == 0.0
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
            ("zoom", self.zoom),
            ("stain", self.stain),
            ("counterstain", self.counterstain),
        ];
        for (name, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::setting(format!("train.augment.{name}"), "0 to below 1", share));
            }
        }
        if !(0.0..=15.0).contains(&self.coarse) {
            return Err(Error::setting("train.augment.coarse", "0 to 15", self.coarse));
        }
        Ok(())
    }

    /// Chooses a view at random.
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
        // Later draws come last, for the same reason.
        let zoom = 1.0 + unit() * self.zoom;
        let power = (1.0 + 2.0 * self.stain).powf(unit());
        let mut mixed = |c: usize, d: usize| match c == d {
            true => 1.0 + unit() * self.stain,
            false => unit() * self.stain / 2.0,
        };
        let mix = std::array::from_fn(|c| std::array::from_fn(|d| mixed(c, d)));
        let coarse = 1.0 + (unit() + 1.0) / 2.0 * self.coarse;
        let mut share = || (unit() + 1.0) / 2.0;
        let most = share() * self.counterstain;
        let stain = Stain { power, mix, counterstain: [share(), share(), share()].map(|share| share * most) };
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
            zoom: (self.zoom > 0.0).then_some(zoom),
            stain: (self.stain > 0.0 || self.counterstain > 0.0).then_some(stain),
            coarse: (self.coarse > 0.0).then_some(coarse),
            jitter: colour.then_some(jitter),
        }
    }
}

/// How an image is transformed before it reaches the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct View {
    /// Rows become columns.
    swap: bool,
    /// Mirrored along the source's rows, columns.
    mirror: [bool; 2],
    /// Pixels along the source's rows, columns.
    shift: [i32; 2],
    /// How much larger, around the middle.
    zoom: Option<f32>,
    stain: Option<Stain>,
    /// How many times smaller it was before.
    coarse: Option<f32>,
    jitter: Option<Jitter>,
}

/// What optical densities become: to the power, then mixed, then more where something is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stain {
    power: f32,
    mix: [[f32; 3]; 3],
    counterstain: [f32; 3],
}

/// A pixel has all of the counterstain if its darkest channel is as many grey levels below white as this, and less in
/// proportion if it is paler.
const PALEST: f32 = 40.0;

/// Steps of the table of light by density, and how many to a density of 1: it goes to 8, where nothing is left to see.
const DENSITIES: usize = 2048;
const PER_DENSITY: f32 = 256.0;

impl Stain {
    /// Grey levels (0 to 255) of a line of pixels after it; `planes` has those of red, then of green, then of blue.
    fn apply(&self, densities: &[f32; 256], planes: &mut [f32]) {
        let light = Self::light();
        let [red, green, blue] = thirds(planes);
        let darkest = red.iter().zip(green).zip(blue).map(|((r, g), b)| r.min(*g).min(*b));
        let present: Vec<f32> = darkest.map(|v| ((255.0 - v) / PALEST).min(1.0)).collect();
        planes.iter_mut().for_each(|v| *v = densities[(*v as i32 & 255) as usize]);
        let [red, green, blue] = thirds_mut(planes);
        for (((red, green), blue), present) in red.iter_mut().zip(green).zip(blue).zip(present) {
            let [r, g, b] = [*red, *green, *blue];
            let place = |c: usize| {
                let mix = self.mix[c];
                let density = mix[0] * r + mix[1] * g + mix[2] * b + present * self.counterstain[c];
                (density * PER_DENSITY).max(0.0).min((DENSITIES - 1) as f32)
            };
            [*red, *green, *blue] = [0, 1, 2].map(place);
        }
        planes.iter_mut().for_each(|v| *v = light[(*v as i32 as usize) & (DENSITIES - 1)]);
    }

    /// Optical density of each grey level, to the power.
    fn densities(&self) -> [f32; 256] {
        std::array::from_fn(|v| (-((v as f32 + 1.0) / 256.0).ln()).powf(self.power))
    }

    /// Grey level by density.
    fn light() -> &'static [f32; DENSITIES] {
        static LIGHT: std::sync::OnceLock<[f32; DENSITIES]> = std::sync::OnceLock::new();
        LIGHT.get_or_init(|| {
            std::array::from_fn(|i| (256.0 * (-(i as f32) / PER_DENSITY).exp() - 1.0).clamp(0.0, 255.0))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Jitter {
    brightness: f32,
    contrast: f32,
    saturation: f32,
    tint: [f32; 3],
}

impl View {
    /// The eight views of turns and flips; the first is the image as it is.
    pub fn turned(which: usize) -> View {
        View { swap: which & 4 != 0, mirror: [which & 1 != 0, which & 2 != 0], ..View::default() }
    }

    /// Renders the view of `pixels` (`[size, size, 3]`, u8) into `x` (the same, f32), normalised.
    fn render(&self, pixels: &[u8], size: usize, normalise: &Normalise, x: &mut [f32]) {
        let coarse = self.coarse.map(|times| {
            let small = (size as f32 / times).round().max(1.0) as u32;
            let shrunk = preprocess::resize(pixels, size as u32, small, preprocess::Filter::Bilinear);
            preprocess::resize(&shrunk, small, size as u32, preprocess::Filter::Bilinear)
        });
        let pixels = coarse.as_deref().unwrap_or(pixels);
        let (mean, deviation) = normalise.mean_and_deviation(pixels);
        // Colour is affine: out = matrix * pixel + offset, with the normalisation folded in.
        let (mut matrix, mut offset) = ([[0f32; 3]; 3], [0f32; 3]);
        const GREY: [f32; 3] = [0.299, 0.587, 0.114];
        let (jitter, grey) = match self.jitter {
            Some(jitter) => {
                let sums = moments(pixels);
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
        let stain = self.stain.map(|stain| (stain, stain.densities()));
        let mut lines = Lines::new(pixels, size, self.along(1, size), self.zoom.is_some());
        let mut line = vec![0.0; size * 3];
        for (i, (row, share)) in self.along(0, size).into_iter().enumerate() {
            lines.between(row, share, &mut line);
            if let Some((stain, densities)) = &stain {
                stain.apply(densities, &mut line);
            }
            let [red, green, blue] = thirds(&line);
            let put = |j: usize, x: &mut [f32]| {
                for c in 0..3 {
                    x[c] = matrix[c][0] * red[j] + matrix[c][1] * green[j] + matrix[c][2] * blue[j] + offset[c];
                }
            };
            match self.swap {
                true => (0..size).for_each(|j| put(j, &mut x[(j * size + i) * 3..][..3])),
                false => x[i * size * 3..][..size * 3].chunks_exact_mut(3).enumerate().for_each(|(j, x)| put(j, x)),
            }
        }
    }

    /// Where each target row (axis 0) or column lies in the source: the pixel, and the share of the one after it.
    fn along(&self, axis: usize, size: usize) -> Vec<(usize, f32)> {
        let last = size as i32 - 1;
        let place = |i: usize| {
            let i = if self.mirror[axis] { size - 1 - i } else { i } as i32;
            let Some(zoom) = self.zoom else { return ((i + self.shift[axis]).clamp(0, last) as usize, 0.0) };
            let middle = last as f32 / 2.0;
            let at = (middle + (i as f32 - middle) / zoom + self.shift[axis] as f32).clamp(0.0, last as f32);
            (at as usize, at.fract())
        };
        (0..size).map(place).collect()
    }
}

/// The planes of the three channels.
fn thirds(planes: &[f32]) -> [&[f32]; 3] {
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(red.len());
    [red, green, blue]
}

fn thirds_mut(planes: &mut [f32]) -> [&mut [f32]; 3] {
    let (red, rest) = planes.split_at_mut(planes.len() / 3);
    let (green, blue) = rest.split_at_mut(red.len());
    [red, green, blue]
}

/// The lines of an image, resampled: `[3, size]`, the channels apart, so that what is done to a line becomes vector
/// instructions. Each line of the source is resampled once.
struct Lines<'a> {
    pixels: &'a [u8],
    size: usize,
    /// Where each column lies in the source, and the share of the one after it.
    columns: Vec<(usize, f32)>,
    /// Whether values between pixels are wanted.
    between: bool,
    /// Two lines and their numbers.
    above: (usize, Vec<f32>),
    below: (usize, Vec<f32>),
}

impl<'a> Lines<'a> {
    fn new(pixels: &'a [u8], size: usize, columns: Vec<(usize, f32)>, between: bool) -> Self {
        let none = || (usize::MAX, vec![0.0; size * 3]);
        Self { pixels, size, columns, between, above: none(), below: none() }
    }

    /// `share` of the line after `row`, the rest of `row`.
    fn between(&mut self, row: usize, share: f32, line: &mut [f32]) {
        if self.above.0 != row {
            std::mem::swap(&mut self.above, &mut self.below);
        }
        if self.above.0 != row {
            resample(self.pixels, self.size, &self.columns, self.between, row, &mut self.above);
        }
        if !self.between {
            line.copy_from_slice(&self.above.1);
            return;
        }
        let next = (row + 1).min(self.size - 1);
        if self.below.0 != next {
            resample(self.pixels, self.size, &self.columns, self.between, next, &mut self.below);
        }
        for ((v, a), b) in line.iter_mut().zip(&self.above.1).zip(&self.below.1) {
            *v = a + share * (b - a);
        }
    }
}

/// A line of the source with its number.
fn resample(
    pixels: &[u8],
    size: usize,
    columns: &[(usize, f32)],
    between: bool,
    row: usize,
    line: &mut (usize, Vec<f32>),
) {
    line.0 = row;
    let source = pixels[row * size * 3..][..size * 3].as_chunks::<3>().0;
    let [red, green, blue] = thirds_mut(&mut line.1);
    for ((((column, share), red), green), blue) in columns.iter().zip(red).zip(green).zip(blue) {
        let pixel = source[*column].map(f32::from);
        [*red, *green, *blue] = match between {
            false => pixel,
            true => {
                let next = source[(column + 1).min(size - 1)].map(f32::from);
                std::array::from_fn(|c| pixel[c] + share * (next[c] - pixel[c]))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;

    const RAW: Normalise = Normalise { kind: Normalisation::Unit, mean: [0.0; 3], deviation: [1.0; 3] };

    fn rendered(view: View, size: usize, pixels: &[u8]) -> Vec<f32> {
        let mut x = vec![0.0; pixels.len()];
        view.render(pixels, size, &RAW, &mut x);
        x
    }

    #[test]
    fn the_eight_views_are_all_different_and_the_first_is_the_image() {
        let size = 4;
        let pixels: Vec<u8> = (0..size * size * 3).map(|i| i as u8).collect();
        let views: Vec<Vec<f32>> = (0..8).map(|k| rendered(View::turned(k), size, &pixels)).collect();
        assert!(views[0].iter().zip(&pixels).all(|(x, p)| *x == f32::from(*p)));
        for a in 0..8 {
            for b in 0..a {
                assert_ne!(views[a], views[b], "{a} and {b}");
            }
            let mut values: Vec<u8> = views[a].iter().map(|v| *v as u8).collect();
            values.sort();
            assert_eq!(values, pixels, "a view holds the same pixels");
        }
    }

    #[test]
    fn augmentation_meets_all_eight_turns_and_moves_colour_within_bounds() {
        let augment = Augment { flips: true, quarter_turns: true, brightness: 0.2, ..Default::default() };
        let mut seen = std::collections::BTreeSet::new();
        for item in 0..200 {
            let view = augment.view(&mut seed::rng(1, "augment", 0, 0, item));
            seen.insert((view.swap, view.mirror));
            let flat = rendered(view, 2, &[100; 12]);
            assert!(flat.iter().all(|v| (79.9..=120.1).contains(v)), "{flat:?}");
        }
        assert_eq!(seen.len(), 8);
        let still = Augment::default().view(&mut seed::rng(1, "augment", 0, 0, 0));
        assert_eq!(still, View::default());
    }

    #[test]
    fn zoom_enlarges_around_the_middle_and_stain_moves_what_holds_light_back() {
        let size = 9;
        // A ramp to the right, and white below it.
        let pixels: Vec<u8> =
            (0..size * size).flat_map(|i| [if i / size < 6 { 20 + 10 * (i % size) as u8 } else { 255 }; 3]).collect();
        let red = |x: &[f32], row: usize, column: usize| x[(row * size + column) * 3];
        let large = rendered(View { zoom: Some(2.0), ..View::default() }, size, &pixels);
        assert_eq!([0, 4, 8].map(|c| red(&large, 4, c)), [40.0, 60.0, 80.0], "half of the ramp");
        let small = rendered(View { zoom: Some(0.5), ..View::default() }, size, &pixels);
        assert_eq!([0, 4, 8].map(|c| red(&small, 4, c)), [20.0, 60.0, 100.0], "the edge is repeated");
        // Twice the density: the square of the share of light; what is white stays white.
        let mut mix = [[0.0; 3]; 3];
        (0..3).for_each(|c| mix[c][c] = 2.0);
        let stain = Some(Stain { power: 1.0, mix, counterstain: [0.0; 3] });
        let dark = rendered(View { stain, ..View::default() }, size, &pixels);
        assert!((red(&dark, 0, 4) - (61f32.powi(2) / 256.0 - 1.0)).abs() < 0.5, "{}", red(&dark, 0, 4));
        assert!((red(&dark, 8, 4) - 255.0).abs() < 1e-3);
        // A counterstain of 0.5 in red on what is there: e^-0.5 of the light; white stays white.
        let stain = Stain { power: 1.0, mix: mix.map(|row| row.map(|v| v / 2.0)), counterstain: [0.5, 0.0, 0.0] };
        let pink = rendered(View { stain: Some(stain), ..View::default() }, size, &pixels);
        assert!((red(&pink, 0, 4) - (61.0 * (-0.5f32).exp() - 1.0)).abs() < 0.5, "{}", red(&pink, 0, 4));
        assert!((pink[4 * 3 + 1] - 60.0).abs() < 0.5 && (red(&pink, 8, 4) - 255.0).abs() < 1e-3);
        let augment = Augment { zoom: 0.2, stain: 0.3, counterstain: 0.4, ..Default::default() };
        let views: Vec<View> = (0..200).map(|i| augment.view(&mut seed::rng(1, "augment", 0, 0, i))).collect();
        assert!(views.iter().all(|v| (0.8..=1.2).contains(&v.zoom.unwrap())));
        assert!(views.iter().all(|v| (0.62..=1.61).contains(&v.stain.unwrap().power)));
        assert!(
            views.iter().any(|v| v.stain.unwrap().mix[0][0] > 1.2)
                && views.iter().any(|v| v.stain.unwrap().mix[0][0] < 0.8)
        );
        assert!(views.iter().all(|v| v.stain.unwrap().mix[1][2].abs() <= 0.15));
        let counterstains = views.iter().flat_map(|v| v.stain.unwrap().counterstain);
        assert!(counterstains.clone().all(|density| (0.0..=0.4).contains(&density)));
        assert!(counterstains.clone().any(|density| density > 0.3) && counterstains.clone().any(|d| d < 0.05));
    }

    /// What rendering computes, one pixel at a time.
    fn expected(view: &View, pixels: &[u8], size: usize) -> Vec<f32> {
        let source = |row: usize, column: usize| -> [f32; 3] {
            std::array::from_fn(|c| f32::from(pixels[(row * size + column) * 3 + c]))
        };
        let mix = |a: [f32; 3], b: [f32; 3], share: f32| -> [f32; 3] {
            std::array::from_fn(|c| a[c] + share * (b[c] - a[c]))
        };
        let (rows, columns, last) = (view.along(0, size), view.along(1, size), size - 1);
        let pixel = |k: usize| {
            let (i, j) = if view.swap { (k % size, k / size) } else { (k / size, k % size) };
            let ((row, down), (column, right)) = (rows[i], columns[j]);
            if view.zoom.is_none() {
                return source(row, column);
            }
            let across = |row: usize| mix(source(row, column), source(row, (column + 1).min(last)), right);
            mix(across(row), across((row + 1).min(last)), down)
        };
        let stained = |pixel: [f32; 3]| match view.stain {
            None => pixel,
            Some(stain) => {
                let densities = stain.densities();
                let present = ((255.0 - pixel.into_iter().fold(255.0, f32::min)) / PALEST).min(1.0);
                let [r, g, b] = pixel.map(|v| densities[v as usize]);
                [0, 1, 2].map(|c| {
                    let mix = stain.mix[c];
                    let density = mix[0] * r + mix[1] * g + mix[2] * b + present * stain.counterstain[c];
                    Stain::light()[((density * PER_DENSITY).max(0.0) as usize).min(DENSITIES - 1)]
                })
            }
        };
        (0..size * size).flat_map(|k| stained(pixel(k))).collect()
    }

    #[test]
    fn lines_are_rendered_as_single_pixels_to_the_last_bit() {
        let size = 24;
        let mut rng = seed::rng(1, "pixels", 0, 0, 0);
        let pixels: Vec<u8> = (0..size * size * 3).map(|_| rng.next_u32() as u8).collect();
        for (zoom, stain, counterstain) in
            [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.0, 0.4, 0.0), (0.3, 0.4, 0.0), (0.3, 0.4, 0.5), (0.0, 0.0, 0.5)]
        {
            let shared = Augment { flips: true, quarter_turns: true, shift_px: 3, ..Augment::default() };
            let augment = Augment { zoom, stain, counterstain, ..shared };
            for item in 0..100 {
                let view = augment.view(&mut seed::rng(1, "augment", 0, 0, item));
                assert_eq!(rendered(view, size, &pixels), expected(&view, &pixels, size), "{view:?}");
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_listed_is_not_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tensors-8");
        assert!(matches!(files_in(&folder), Err(Error::Missing { .. })));
        std::fs::write(&folder, "").unwrap();
        assert!(matches!(files_in(&folder), Err(Error::Io { .. })), "there, but no folder");
    }

    #[test]
    fn normalisation_is_fitted_on_the_rows_it_is_given() {
        let mut pixels = vec![10u8; 12];
        pixels.extend([30; 12]);
        pixels.extend([200; 12]);
        let tensors = Tensors::from_pixels(2, pixels);
        let fitted = Normalise::fit(Normalisation::Channel, &tensors, &[0, 1]);
        assert_eq!(fitted.mean, [20.0; 3]);
        assert_eq!(fitted.deviation, [10.0; 3]);
        let mut x = vec![0.0; 12];
        tensors.fill(&[2], |_| View::default(), &fitted, &mut x);
        assert!(x.iter().all(|v| (*v - 18.0).abs() < 1e-4));
    }
}
