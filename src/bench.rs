//! Times the parts of the system on drawn cells that it makes itself: what `wbc bench` shows and `benches/` repeats.
//! Medians over repeated passes; files are read from the page cache, as a second run would.

use crate::batch::{Normalisation, Normalise, Tensors, View};
use crate::check;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ingest;
use crate::models::{self, Batch, Model, Spec};
use crate::nn::device::Device;
use crate::nn::kernel::{Dropout, Vector};
use crate::nn::optim::{Optimiser, Sgd};
use crate::preprocess;
use crate::seed;
use crate::synth::{self, Images, Layout};
use crate::workspace::Workspace;
use std::path::Path;
use std::time::{Duration, Instant};

/// Drawn pictures by format: CUK's layout and size (JPEG, 360 x 361) or LISC's (BMP, 720 x 576).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
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

/// A workspace of drawn cells, ready to be timed; it goes with the folder that it lies in.
pub struct Drawn {
    ws: Workspace,
    seed: u64,
    bmp_files: u64,
    jpeg_files: u64,
}

impl Drawn {
    /// Draws `jpegs` pictures and `bmps` frames into `dir`, and ingests them.
    ///
    /// # Errors
    /// Whatever drawing, ingesting and writing say.
    pub fn new(dir: &Path, jpegs: u32, bmps: u32, ctx: &Context) -> Result<Self> {
        let ws = Workspace::new(dir);
        for (format, layout, images) in [(Format::Jpeg, Layout::Cuk, jpegs), (Format::Bmp, Layout::Lisc, bmps)] {
            let settings = synth::Settings { layout, images: Images::Total(images) };
            synth::run(&ws, format.dataset(), &settings, ctx)?;
        }
        let drawn = Self { ws, seed: ctx.seed, bmp_files: bmps.into(), jpeg_files: jpegs.into() };
        for format in [Format::Jpeg, Format::Bmp] {
            drawn.ingest(format, ctx)?;
        }
        Ok(drawn)
    }

    /// Image files of a format.
    pub fn files(&self, format: Format) -> u64 {
        match format {
            Format::Jpeg => self.jpeg_files,
            Format::Bmp => self.bmp_files,
        }
    }

    /// Folder to manifest: walk, headers, hashes, Parquet.
    pub fn ingest(&self, format: Format, ctx: &Context) -> Result<()> {
        let name = format.dataset();
        // Without its tables the stage has all of its work to do.
        for table in [self.ws.manifest(name), self.ws.ingest_issues(name)] {
            remove(std::fs::remove_file(&table), &table)?;
        }
        ingest::run(&self.ws, name, &ingest::Settings::default(), ctx).map(|_| ())
    }

    /// Full decode of every picture, and every check; has work to do after [`Drawn::ingest`].
    pub fn check(&self, format: Format, ctx: &Context) -> Result<()> {
        check::run(&self.ws, format.dataset(), &check::Settings::default(), ctx).map(|_| ())
    }

    /// Files to shards: read, verify, decode, cut 200 x 200 from the middle, resize to `size_px`, write.
    pub fn preprocess(&self, format: Format, size_px: u32, ctx: &Context) -> Result<()> {
        let settings = central(size_px);
        let dir = self.ws.tensors(format.dataset(), &settings.folder());
        remove(std::fs::remove_dir_all(&dir), &dir)?;
        preprocess::run(&self.ws, format.dataset(), &settings, ctx).map(|_| ())
    }

    /// `n` preprocessed pictures as a model takes them, with their labels and dropout keys.
    ///
    /// # Errors
    /// [`Error::Missing`] before [`Drawn::preprocess`] of JPEGs to this size.
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
            labels: (0..n).map(|i| i % Class::COUNT).collect(),
            keys: (0..n).map(|i| seed::key(self.seed, "bench", 0, 0, i as u64)).collect(),
        })
    }
}

/// The paper's cut of every picture.
fn central(size_px: u32) -> preprocess::Settings {
    preprocess::Settings { cut: preprocess::Cut::Centre, size_px, ..Default::default() }
}

fn remove(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

/// A batch of drawn cells.
pub struct Examples {
    /// `[n, size, size, 3]`, normalised.
    pub x: Vec<f32>,
    pub labels: Vec<usize>,
    pub keys: Vec<u64>,
}

/// A model with fresh weights and the steps it has taken.
pub struct Trainee {
    model: Box<dyn Model>,
    steps: u64,
}

impl Trainee {
    /// `name` of [`models::MODELS`], at its paper's size; W-Net with Adam and dropout 0.4, ResNet50 with SGD.
    pub fn new(name: &str, vector: Vector) -> Result<Self> {
        let entry = models::find(name)?;
        let (optimiser, p) = match name {
            "resnet50" => (Optimiser::Sgd(Sgd::default()), 0.0),
            _ => (Optimiser::default(), 0.4),
        };
        let (size_px, dropout) = (entry.size_px, Dropout { p });
        let spec = Spec { size_px, seed: 0, fold: 0, dropout, optimiser, zero_init_residual: false, vector };
        Ok(Self { model: entry.build(&spec, Device::Cpu)?, steps: 0 })
    }

    /// One step of training, forward, backward and update: how long it took.
    pub fn step(&mut self, examples: &Examples) -> Result<Duration> {
        let batch = Batch { x: examples.x.clone(), labels: &examples.labels, keys: &examples.keys };
        self.steps += 1;
        let start = Instant::now();
        self.model.train(batch, self.steps, 1e-4)?;
        Ok(start.elapsed())
    }

    /// Probabilities of the batch: how long they took.
    pub fn predict(&self, examples: &Examples) -> Result<Duration> {
        let start = Instant::now();
        self.model.predict(&examples.x, examples.labels.len())?;
        Ok(start.elapsed())
    }
}

/// The median of `pass`'s times: at least `least` passes, and more until `budget` is spent.
pub fn median(least: usize, budget: Duration, mut pass: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let start = Instant::now();
    // The first pass fills caches and grows buffers.
    pass()?;
    let mut times = Vec::new();
    while times.len() < least || start.elapsed() < budget {
        times.push(pass()?);
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
