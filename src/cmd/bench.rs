//! `wbc bench`: how fast this machine is.

use super::{Globals, Outcome};
use crate::bench::{Format, SyntheticData, TimedModel, median, timed};
use crate::context::Context;
use crate::nn::{Precision, Vector};
use crate::pipeline::{BUILT_IN, Pipeline};
use crate::progress::Silent;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::time::Duration;

/// Measures training, inference and the data path on synthetic cells, in a temporary folder, and estimates how long the
/// built-in recipes would take. It takes a minute or two. Close other programs first: they slow it down.
#[derive(clap::Args)]
pub struct Args {
    /// Number of images to estimate the recipes for [default: those of the paper's CUK]
    #[arg(long, value_name = "N", default_value = "6562")]
    images: u64,
    /// Seconds per measurement
    #[arg(long, value_name = "S", default_value = "3")]
    seconds: u64,
    /// What the networks round numbers to in products: f32 (not at all), bf16, tf32 (on a GPU)
    #[arg(long, value_name = "PRECISION", env = "WBC_PRECISION", default_value = "f32")]
    precision: Precision,
}

/// The measurements. Scripts rely on the names.
#[derive(Serialize)]
struct Figures {
    wnet_step_b5_ms: f64,
    wnet_step_b32_ms: f64,
    wnet_infer_b64_images_per_s: f64,
    resnet50_step_b32_s: f64,
    resnet50_infer_b32_images_per_s: f64,
    jpeg_images_per_s: f64,
    bmp_images_per_s: f64,
    ingest_images_per_s: f64,
    check_images_per_s: f64,
    /// Where the networks ran: `cpu` or `cuda:N`.
    device: String,
    /// What the networks rounded numbers to in products.
    precision: Precision,
    threads: usize,
    vector: &'static str,
    /// Number of images that the recipes are estimated for.
    images: u64,
    recipes: Vec<Recipe>,
}

/// The estimated time of a recipe.
#[derive(Serialize)]
struct Recipe {
    name: String,
    model: String,
    epochs: u32,
    batch: usize,
    folds: u32,
    train_s: f64,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let progress = globals.progress();
    let silent = Silent;
    let quiet: &Context = &globals.context(globals.seed.unwrap_or(0), &silent);
    let log = |what: &str| crate::progress::Progress::log(&progress, what);
    let budget = Duration::from_secs(args.seconds);
    let dir = tempfile::tempdir()?;
    log("generating synthetic cells");
    let synthetic = SyntheticData::new(dir.path(), 1000, 60, quiet)?;
    let rate = |format: Format, time: Duration| synthetic.files(format) as f64 / time.as_secs_f64();

    log("ingest");
    let ingest = median(3, budget, || timed(|| synthetic.ingest(Format::Jpeg, quiet)))?;
    log("check");
    let check = median(3, budget, || {
        synthetic.ingest(Format::Jpeg, quiet)?;
        timed(|| synthetic.check(Format::Jpeg, quiet))
    })?;
    log("JPEG to tensors");
    let jpeg = median(3, budget, || timed(|| synthetic.preprocess(Format::Jpeg, 128, quiet)))?;
    log("BMP to tensors");
    let bmp = median(3, budget, || timed(|| synthetic.preprocess(Format::Bmp, 128, quiet)))?;

    let mut wnet = TimedModel::new("wnet", Vector::detect(), args.precision, globals.device)?;
    let mut step = |n: usize| -> anyhow::Result<Duration> {
        log(&format!("W-Net, batch {n}"));
        let examples = synthetic.batch(n, 128)?;
        Ok(median(5, budget, || {
            quiet.check_stop()?;
            wnet.step(&examples)
        })?)
    };
    let (b5, b32) = (step(5)?, step(32)?);
    log("W-Net, inference");
    let examples = synthetic.batch(64, 128)?;
    let infer = 64.0 / median(5, budget, || wnet.predict(&examples))?.as_secs_f64();
    drop(wnet);

    log("ResNet50, batch 32");
    synthetic.preprocess(Format::Jpeg, 224, quiet)?;
    let examples = synthetic.batch(32, 224)?;
    let mut resnet = TimedModel::new("resnet50", Vector::detect(), args.precision, globals.device)?;
    let resnet_step = median(3, budget, || {
        quiet.check_stop()?;
        resnet.step(&examples)
    })?;
    log("ResNet50, inference");
    let resnet_infer = 32.0 / median(3, budget, || resnet.predict(&examples))?.as_secs_f64();

    let timed = [("wnet", 5, b5, infer), ("wnet", 32, b32, infer), ("resnet50", 32, resnet_step, resnet_infer)];
    let figures = Figures {
        wnet_step_b5_ms: 1e3 * b5.as_secs_f64(),
        wnet_step_b32_ms: 1e3 * b32.as_secs_f64(),
        wnet_infer_b64_images_per_s: infer,
        resnet50_step_b32_s: resnet_step.as_secs_f64(),
        resnet50_infer_b32_images_per_s: resnet_infer,
        jpeg_images_per_s: rate(Format::Jpeg, jpeg),
        bmp_images_per_s: rate(Format::Bmp, bmp),
        ingest_images_per_s: rate(Format::Jpeg, ingest),
        check_images_per_s: rate(Format::Jpeg, check),
        device: globals.device.to_string(),
        precision: args.precision,
        threads: rayon::current_num_threads(),
        vector: Vector::detect().name(),
        images: args.images,
        recipes: recipes(args.images, args.precision, &timed)?,
    };
    globals.print(&figures, &figures)?;
    Ok(Outcome::Done)
}

/// Estimates the built-in recipes whose model, batch and precision were timed. `timed` has model, images per step, time
/// per step and images per second in prediction.
fn recipes(images: u64, precision: Precision, timed: &[(&str, usize, Duration, f64)]) -> anyhow::Result<Vec<Recipe>> {
    let mut recipes = Vec::new();
    for (name, _) in BUILT_IN {
        let Pipeline { split, train: crate::run::Recipe::Network(train), .. } = Pipeline::load(name)? else { continue };
        let measured = timed.iter().find(|(model, batch, ..)| *model == train.model && *batch == train.batch);
        let Some((.., step, infer_rate)) = measured else { continue };
        if train.precision != precision {
            continue;
        }
        let folds = f64::from(split.folds);
        let seen = images as f64 * (folds - 1.0) * f64::from(train.epochs);
        let predicted = images as f64 * train.test_views as f64;
        recipes.push(Recipe {
            name: name.into(),
            model: train.model,
            epochs: train.epochs,
            batch: train.batch,
            folds: split.folds,
            train_s: seen / train.batch as f64 * step.as_secs_f64() + predicted / infer_rate,
        });
    }
    Ok(recipes)
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["Measurement", "Value", "Unit"]);
        let rows = [
            ("W-Net, a training step of 5 images", self.wnet_step_b5_ms, "ms"),
            ("W-Net, a training step of 32 images", self.wnet_step_b32_ms, "ms"),
            ("W-Net, inference in batches of 64", self.wnet_infer_b64_images_per_s, "images/s"),
            ("ResNet50, a training step of 32 images", 1e3 * self.resnet50_step_b32_s, "ms"),
            ("ResNet50, inference in batches of 32", self.resnet50_infer_b32_images_per_s, "images/s"),
            ("JPEG 360 x 361 to tensors of 128 x 128", self.jpeg_images_per_s, "images/s"),
            ("BMP 720 x 576 to tensors of 128 x 128", self.bmp_images_per_s, "images/s"),
            ("ingest of JPEG files", self.ingest_images_per_s, "images/s"),
            ("check of JPEG files", self.check_images_per_s, "images/s"),
        ];
        for (what, value, unit) in rows {
            let value = if value < 10.0 {
                format!("{value:.2}")
            } else if value < 100.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.0}")
            };
            table.add_row([what, &value, unit]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        let networks = if self.device == "cpu" { String::new() } else { format!("networks on {}; ", self.device) };
        let (threads, vector) = (self.threads, self.vector);
        let precision = self.precision.name();
        write!(f, "{networks}{threads} threads, {vector} vectors, networks in {precision}; medians, ")?;
        write!(f, "on synthetic cells in the page cache")?;
        for r in &self.recipes {
            write!(
                f,
                "\n{}: {} on {} images, {} folds, {} epochs, batch {}: about {}",
                r.name,
                r.model,
                self.images,
                r.folds,
                r.epochs,
                r.batch,
                crate::progress::human(r.train_s)
            )?;
        }
        Ok(())
    }
}
