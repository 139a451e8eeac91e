//! Generates data sets of synthetic cells in the layouts of CUK (360x361 JPEG, one cell per image) and LISC (720x576
//! BMP with the masks of two experts), for demonstrations, tests and benchmarks without microscope images.
//!
//! Results on synthetic cells say nothing about real cells. Therefore a file in each synthetic data set marks it as
//! such, and other data sets are never overwritten.

mod canvas;
mod cell;
mod kind;
mod scene;
mod settings;
mod shape;

pub use settings::{Images, Layout, Settings};

use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::seed;
use crate::workspace::Workspace;
use image::ExtendedColorType;
use image::codecs::bmp::BmpEncoder;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use scene::Scene;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The file in a data set's folder that marks it as synthetic and contains the settings.
pub(crate) const MARKER: &str = "SYNTHETIC.json";

/// The content of [`MARKER`].
#[derive(Serialize, Deserialize)]
struct Marker {
    notice: String,
    generator: String,
    seed: u64,
    settings: Settings,
}

/// Result of [`run`].
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub dataset: String,
    /// Layout of the data set.
    pub layout: Layout,
    /// Its folder.
    pub folder: PathBuf,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Total number of images.
    pub images: u64,
    /// Name of each class and its number of images.
    pub class_images: Vec<(&'static str, u32)>,
    /// Total number of cells.
    pub cells: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<String> = self.class_images.iter().map(|(class, n)| format!("{class} {n}")).collect();
        let (images, cells, layout) = (self.images, self.cells, self.layout.name().to_uppercase());
        let (dataset, seed) = (&self.dataset, self.seed);
        writeln!(f, "{dataset}: {images} images with {cells} synthetic cells in the layout of {layout}, seed {seed}")?;
        writeln!(f, "{}", counts.join(", "))?;
        write!(f, "in {}, marked as synthetic by {MARKER}", self.folder.display())
    }
}

/// Generates a data set in `raw/<dataset>/`, and replaces a synthetic data set of this name. The same settings and seed
/// give identical files.
///
/// # Errors
/// [`Error::Setting`] for invalid settings or an invalid name, [`Error::Data`] if the folder contains any file that was
/// not generated, [`Error::Io`], [`Error::Interrupted`].
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    validate_name(dataset)?;
    let folder = ws.raw_dataset(dataset);
    check_replaceable(&folder, dataset)?;
    let plan = settings.plan();
    let marker = Marker {
        notice: "These cells are synthetic. Results on them say nothing about real cells.".into(),
        generator: concat!("wbc ", env!("CARGO_PKG_VERSION")).into(),
        seed: ctx.seed,
        settings: settings.clone(),
    };
    let task = ctx.progress.task("generating images", Some(plan.len() as u64), "images");
    let cells = atomic::write_dir(&folder, |dir| {
        for parent in plan.iter().flat_map(|(_, files)| files).filter_map(|f| f.parent()).collect::<BTreeSet<_>>() {
            let parent = dir.join(parent);
            std::fs::create_dir_all(&parent).map_err(Error::io(&parent, "create the folder"))?;
        }
        let text = serde_json::to_string_pretty(&marker).expect("a marker is plain JSON") + "\n";
        atomic::write_bytes(&dir.join(MARKER), text.as_bytes())?;
        plan.par_iter()
            .enumerate()
            .map(|(n, (kind, files))| {
                ctx.check_stop()?;
                let mut rng = seed::rng(ctx.seed, "synth", settings.layout as u64, 0, n as u64);
                let scene = Scene::render(settings.layout, *kind, &mut rng);
                save(dir, files, &scene)?;
                task.advance(1);
                Ok(scene.cells() as u64)
            })
            .sum::<Result<u64>>()
    })?;
    Ok(Summary {
        dataset: dataset.into(),
        layout: settings.layout,
        folder,
        seed: ctx.seed,
        images: plan.len() as u64,
        class_images: settings.counts(),
        cells,
    })
}

/// Writes the image to the first of `files`, and masks to the others.
fn save(dir: &Path, files: &[PathBuf], scene: &Scene) -> Result<()> {
    let (width, height) = (scene.width, scene.height);
    let (rgb, grey) = (ExtendedColorType::Rgb8, ExtendedColorType::L8);
    for (i, file) in files.iter().enumerate() {
        let path = dir.join(file);
        let mut bytes = Vec::new();
        let encoded = match i {
            0 if file.extension().is_some_and(|e| e == "jpg") => {
                JpegEncoder::new_with_quality(&mut bytes, 90).encode(&scene.rgb, width, height, rgb)
            }
            0 => BmpEncoder::new(&mut bytes).encode(&scene.rgb, width, height, rgb),
            expert => BmpEncoder::new(&mut bytes).encode(&scene.mask(expert as u32), width, height, grey),
        };
        encoded.map_err(|e| Error::image(&path, format!("cannot encode: {e}")))?;
        std::fs::write(&path, bytes).map_err(Error::io(&path, "write"))?;
    }
    Ok(())
}

fn validate_name(dataset: &str) -> Result<()> {
    // Ingest creates a folder of this name beside the workspace's own folders.
    let invalid = dataset.is_empty()
        || dataset.starts_with('.')
        || dataset.contains(['/', '\\', '\0'])
        || ["raw", "runs"].contains(&dataset);
    if invalid {
        return Err(Error::setting("name", "a folder name without slashes other than raw or runs", dataset));
    }
    Ok(())
}

/// Checks that the folder does not exist, or contains only the files that its marker accounts for.
fn check_replaceable(folder: &Path, dataset: &str) -> Result<()> {
    let refuse = |found: String| {
        let expected = format!("no folder {}, or one with only synthetic images", folder.display());
        let hint = "The folder is unchanged. Choose another name with --name";
        Err(Error::data(dataset, expected, found).with_hint(hint))
    };
    match folder.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(folder, "read")(e)),
        Ok(meta) if !meta.is_dir() => return refuse("something that is not a folder".into()),
        Ok(_) => {}
    }
    let marker = std::fs::read(folder.join(MARKER)).ok().and_then(|text| serde_json::from_slice::<Marker>(&text).ok());
    let generated: BTreeSet<PathBuf> = match &marker {
        Some(m) if m.settings.validate().is_ok() => {
            m.settings.plan().into_iter().flat_map(|(_, files)| files).collect()
        }
        _ => BTreeSet::new(),
    };
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|e| Error::Io { path: folder.into(), action: "list", source: e.into() })?;
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if entry.file_type().is_dir() || generated.contains(path) || (marker.is_some() && path == Path::new(MARKER)) {
            continue;
        }
        let reason = if marker.is_some() { "which is not listed in" } else { "and no readable" };
        return refuse(format!("{}, {reason} {MARKER}", path.display()));
    }
    Ok(())
}
