//! Times training, inference and the data path on synthetic cells, for `wbc bench` and `benches/`. Times are medians
//! over repeated passes; files are read from the page cache.

use crate::batch::{Normalisation, Normalise, Tensors, View};
use crate::check;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ingest;
use crate::models::{self, Batch, Model, Objective, Spec};
use crate::nn::device::Device;
use crate::nn::{Precision, Vector};
use crate::preprocess;
use crate::run::NetworkSettings;
use crate::seed;
use crate::synth::{self, Images, Layout};
use crate::verify;
use crate::workspace::Workspace;
use rand::RngExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Format of the synthetic images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG of 360 x 361 px in the layout of CUK.
    Jpeg,
    /// BMP of 720 x 576 px in the layout of LISC.
    Bmp,
}

impl Format {
    fn dataset(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Bmp => "bmp",
        }
    }
}

/// Two synthetic data sets in a workspace, one for each [`Format`].
pub struct SyntheticData {
    ws: Workspace,
    seed: u64,
    bmp_files: u64,
    jpeg_files: u64,
}

impl SyntheticData {
    /// Generates `jpegs` JPEG images and `bmps` BMP images in a workspace at `dir`, and ingests them.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be written, and the errors of [`synth::run`] and [`ingest::run`].
    pub fn new(dir: &Path, jpegs: u32, bmps: u32, ctx: &Context) -> Result<Self> {
        let ws = Workspace::new(dir);
        for (format, layout, images) in [(Format::Jpeg, Layout::Cuk, jpegs), (Format::Bmp, Layout::Lisc, bmps)] {
            let settings = synth::Settings { layout, images: Images::Total(images) };
            synth::run(&ws, format.dataset(), &settings, ctx)?;
        }
        let data = Self { ws, seed: ctx.seed, bmp_files: bmps.into(), jpeg_files: jpegs.into() };
        for format in [Format::Jpeg, Format::Bmp] {
            data.ingest(format, ctx)?;
        }
        Ok(data)
    }

    /// Number of image files in a format.
    pub fn files(&self, format: Format) -> u64 {
        match format {
            Format::Jpeg => self.jpeg_files,
            Format::Bmp => self.bmp_files,
        }
    }

    /// Ingests the images anew: finds the files, reads their headers, hashes them and writes the manifest.
    ///
    /// # Errors
    /// Those of [`ingest::run`].
    pub fn ingest(&self, format: Format, ctx: &Context) -> Result<()> {
        let name = format.dataset();
        // Without its tables, ingest is not up to date and does all of its work.
        for table in [self.ws.manifest(name), self.ws.ingest_issues(name)] {
            ignore_missing(std::fs::remove_file(&table), &table)?;
        }
        ingest::run(&self.ws, name, &ingest::Settings::default(), ctx).map(|_| ())
    }

    /// Decodes and checks every image. Does nothing unless [`SyntheticData::ingest`] was called since the last check.
    ///
    /// # Errors
    /// Those of [`check::run`].
    pub fn check(&self, format: Format, ctx: &Context) -> Result<()> {
        check::run(&self.ws, format.dataset(), &check::Settings::default(), ctx).map(|_| ())
    }

    /// Preprocesses the images anew: reads and decodes each file, cuts the central 200 x 200 px, resizes them to
    /// `size_px x size_px` and writes the shards.
    ///
    /// # Errors
    /// Those of [`preprocess::run`].
    pub fn preprocess(&self, format: Format, size_px: u32, ctx: &Context) -> Result<()> {
        let settings = central(size_px);
        let dir = self.ws.tensors(format.dataset(), &settings.folder());
        ignore_missing(std::fs::remove_dir_all(&dir), &dir)?;
        preprocess::run(&self.ws, format.dataset(), &settings, ctx).map(|_| ())
    }

    /// Compares every table with its checksum; returns their size in bytes.
    ///
    /// # Errors
    /// Those of [`verify::run`].
    pub fn verify(&self, ctx: &Context) -> Result<u64> {
        verify::run(&self.ws, false, ctx).map(|summary| summary.bytes)
    }

    /// `n` preprocessed JPEG images of `size_px x size_px` px as a batch of a model.
    ///
    /// # Errors
    /// [`Error::Missing`] where [`SyntheticData::preprocess`] was not called with this size.
    pub fn batch(&self, n: usize, size_px: u32) -> Result<Examples> {
        let settings = central(size_px);
        let tensors = Tensors::load(&self.ws, Format::Jpeg.dataset(), &settings)?;
        let count = tensors.len().max(1);
        let rows: Vec<usize> = (0..n).map(|i| i * 17 % count).collect();
        let normalise = Normalise::fit(Normalisation::Channel, &tensors, &rows);
        let mut x = vec![0.0; n * tensors.size_px * tensors.size_px * 3];
        tensors.fill(&rows, |i| View::turned(i % 8), &normalise, &mut x);
        Ok(Examples {
            x,
            labels: (0..n).map(|i| i % 5).collect(),
            keys: (0..n).map(|i| seed::key(self.seed, "bench", 0, 0, i as u64)).collect(),
        })
    }
}

/// Settings that cut images as the paper does.
fn central(size_px: u32) -> preprocess::Settings {
    preprocess::Settings { cut: preprocess::Cut::Centre, size_px, ..Default::default() }
}

/// The result of removing `path`, which need not exist.
fn ignore_missing(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// A batch of images with their classes.
pub struct Examples {
    x: Vec<f32>,
    labels: Vec<usize>,
    keys: Vec<u64>,
}

/// A model that is timed.
pub struct TimedModel {
    model: Box<dyn Model>,
    device: Device,
    steps: u64,
}

impl TimedModel {
    /// A model of [`models::MODELS`], with new weights and, but for these, its usual settings.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is no model of that name or no such device.
    pub fn new(name: &str, vector: Vector, precision: Precision, device: Device) -> Result<Self> {
        let entry = models::find(name)?;
        let spec = Spec { vector, precision, ..entry.default_spec() };
        Ok(Self { model: entry.build(&spec, device)?, device, steps: 0 })
    }

    /// The duration of one training step: forward pass, backward pass and update.
    ///
    /// # Errors
    /// As [`Model::train`].
    pub fn step(&mut self, examples: &Examples) -> Result<Duration> {
        // On a GPU, a step is not over when `train` returns: the next batch is made meanwhile, so that counts too.
        let early = Instant::now();
        let mut x = self.model.pixels(examples.x.len())?;
        x.copy_from_slice(&examples.x);
        let batch = Batch { x, labels: &examples.labels, keys: &examples.keys, objective: Objective::default() };
        self.steps += 1;
        let start = if self.device == Device::Cpu { Instant::now() } else { early };
        self.model.train(batch, self.steps, 1e-4)?;
        Ok(start.elapsed())
    }

    /// The duration of a prediction.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn predict(&self, examples: &Examples) -> Result<Duration> {
        let start = Instant::now();
        self.model.predict(&examples.x, examples.labels.len())?;
        Ok(start.elapsed())
    }
}

/// Seconds of a training step of a recipe's network on images of `size_px`, on this machine: the best of four, or of
/// what three seconds allow.
///
/// # Errors
/// [`Error::Setting`] where there is no such device, [`Error::Interrupted`].
pub fn step_seconds(
    settings: &NetworkSettings,
    size_px: usize,
    classes: usize,
    device: Device,
    ctx: &Context,
) -> Result<f64> {
    let mut timed = TimedModel { model: settings.build(size_px, classes, 0, 0, device)?, device, steps: 0 };
    let n = settings.batch;
    let mut rng = seed::rng(0, "bench", 0, 0, 0);
    let examples = Examples {
        x: (0..n * size_px * size_px * 3).map(|_| rng.random_range(-1.0..1.0)).collect(),
        labels: (0..n).map(|i| i % classes).collect(),
        keys: (0..n as u64).collect(),
    };
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    for _ in 0..4 {
        ctx.check_stop()?;
        best = best.min(timed.step(&examples)?);
        if begun.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
    Ok(best.as_secs_f64())
}

/// The median of the durations that `pass` returns, over at least `least` passes and at least `budget` of time. A first
/// pass, which fills caches and buffers, is not counted.
///
/// # Errors
/// The first error of `pass`.
pub fn median(least: usize, budget: Duration, mut pass: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let start = Instant::now();
    pass()?;
    let mut times = Vec::new();
    while times.len() < least || start.elapsed() < budget {
        times.push(pass()?);
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// The duration of `work`.
///
/// # Errors
/// The error of `work`.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
