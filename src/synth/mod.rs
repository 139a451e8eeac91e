//! Synth: data sets of drawn cells in the layouts of CUK (360x361 JPEG, one cell a picture) and LISC (720x576 BMP
//! frames with two experts' masks). They stand in where no microscope images are at hand: for a first try, for tests,
//! for timings. What a model reaches on them says nothing about real cells, so every such data set says what it is in
//! a file of its own, and nothing that was not drawn is ever written over.

mod canvas;
mod cell;
mod scene;
mod shape;

use crate::atomic;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::seed;
use crate::workspace::Workspace;
use image::ExtendedColorType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The file in a data set's folder that says that its pictures are drawn, and how.
pub const MARKER: &str = "SYNTHETIC.json";

/// Whose folders and files the drawn data set has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `<class>/<CODE>_<n>.jpg`, 360x361, one cell each.
    #[default]
    Cuk,
    /// `Main Dataset/<class>/<n>.bmp`, 720x576, one or two cells each, with masks.
    Lisc,
}

impl Layout {
    /// The name in settings and on the command line.
    pub fn name(self) -> &'static str {
        ["cuk", "lisc"][self as usize]
    }

    /// The data set's name where the user gives none.
    pub fn default_dataset(self) -> &'static str {
        ["drawn", "drawn-lisc"][self as usize]
    }

    /// Images a class in the paper: Table 2 for CUK, the text for LISC.
    fn paper_counts(self) -> [u32; Class::COUNT] {
        [[2006, 1310, 377, 1676, 1193], [56, 39, 55, 56, 48]][self as usize]
    }

    /// The class's folder.
    fn folder(self, class: Class) -> &'static str {
        match self {
            Layout::Cuk => class.name(),
            Layout::Lisc => ["neut", "eosi", "Baso", "lymp", "mono"][class.index()],
        }
    }
}

/// How many images to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Images {
    /// So many in all, with the paper's class shares, and one of each class at least.
    Total(u32),
    /// So many of each class, in the order of [`Class::ALL`].
    PerClass([u32; Class::COUNT]),
}

impl std::str::FromStr for Images {
    type Err = String;

    /// `600`, or `200,130,38,168,119`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = "expected a number, or five with commas (neutrophil,eosinophil,basophil,lymphocyte,monocyte)";
        let numbers: Vec<u32> = text
            .split(',')
            .map(|n| n.trim().parse().map_err(|e| format!("{expected}: {e}")))
            .collect::<std::result::Result<_, _>>()?;
        match (numbers.as_slice(), <[u32; Class::COUNT]>::try_from(numbers.as_slice())) {
            ([n], _) => Ok(Images::Total(*n)),
            (_, Ok(counts)) => Ok(Images::PerClass(counts)),
            (other, _) => Err(format!("{expected}, found {} numbers", other.len())),
        }
    }
}

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folders and files as in this data set.
    pub layout: Layout,
    /// Tensors (LISC: frames).
    pub images: Images,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: Layout::Cuk, images: Images::Total(600) }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] where the number of images is out of range.
    pub fn validate(&self) -> Result<()> {
        const MOST: u64 = 10_000_000;
        let (least, total) = match self.images {
            Images::Total(n) => (Class::COUNT as u64, u64::from(n)),
            Images::PerClass(counts) => (1, counts.into_iter().map(u64::from).sum()),
        };
        if !(least..=MOST).contains(&total) {
            return Err(Error::Setting {
                key: "images".into(),
                expected: format!("{least} to {MOST} in all"),
                got: total.to_string(),
            });
        }
        Ok(())
    }

    /// Images of each class. A total is shared out by largest remainder; what a small class lacks to one image comes
    /// from the largest.
    pub fn counts(&self) -> [u32; Class::COUNT] {
        let total = match self.images {
            Images::PerClass(counts) => return counts,
            Images::Total(n) => u64::from(n),
        };
        let shares = self.layout.paper_counts().map(u64::from);
        let sum: u64 = shares.iter().sum();
        let mut counts = shares.map(|s| total * s / sum);
        let mut by_remainder: Vec<usize> = (0..Class::COUNT).collect();
        by_remainder.sort_by_key(|&c| std::cmp::Reverse(total * shares[c] % sum));
        let missing = total - counts.iter().sum::<u64>();
        for &c in by_remainder.iter().take(missing as usize) {
            counts[c] += 1;
        }
        for c in 0..Class::COUNT {
            if let Some(largest) = (0..Class::COUNT).max_by_key(|&c| counts[c])
                && counts[c] == 0
                && counts[largest] > 1
            {
                counts[c] += 1;
                counts[largest] -= 1;
            }
        }
        counts.map(|n| n as u32)
    }

    /// Every picture's class and files (the picture, then its masks), relative to the data set's folder.
    fn plan(&self) -> Vec<(Class, Vec<PathBuf>)> {
        let files = |class: Class, n: u32| -> Vec<PathBuf> {
            let folder = self.layout.folder(class);
            match self.layout {
                Layout::Cuk => {
                    let code = ["NE", "EO", "BA", "LY", "MO"][class.index()];
                    vec![format!("{folder}/{code}_{n:06}.jpg").into()]
                }
                Layout::Lisc => {
                    let mask = |expert: u32| {
                        format!("Ground Truth Segmentation/{folder}/areaforexpert{expert}/{n}_expert.bmp").into()
                    };
                    vec![format!("Main Dataset/{folder}/{n}.bmp").into(), mask(1), mask(2)]
                }
            }
        };
        let counts = self.counts();
        Class::ALL
            .into_iter()
            .flat_map(|class| (1..=counts[class.index()]).map(move |n| (class, n)))
            .map(|(class, n)| (class, files(class, n)))
            .collect()
    }
}

/// What stands in [`MARKER`].
#[derive(Serialize, Deserialize)]
struct Marker {
    notice: String,
    drawn_by: String,
    seed: u64,
    settings: Settings,
}

/// What was drawn.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub dataset: String,
    pub layout: Layout,
    pub folder: PathBuf,
    pub seed: u64,
    /// Tensors in all, and of each class in the order of [`Class::ALL`].
    pub images: u64,
    pub class_images: [u32; Class::COUNT],
    /// White cells in them.
    pub cells: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<String> =
            Class::ALL.iter().zip(self.class_images).map(|(class, n)| format!("{class} {n}")).collect();
        let (images, cells, layout) = (self.images, self.cells, self.layout.name().to_uppercase());
        writeln!(
            f,
            "{}: {images} pictures of {cells} drawn cells in {layout}'s layout, seed {}",
            self.dataset, self.seed
        )?;
        writeln!(f, "{}", counts.join(", "))?;
        write!(f, "in {}; drawn, not photographed: {MARKER} there says so", self.folder.display())
    }
}

/// Draws a data set into `raw/<dataset>/`: into a new folder, or in place of one that was drawn before. The same
/// settings and seed give the same bytes.
///
/// # Errors
/// [`Error::Setting`] for bad settings or a name that is no plain folder name, [`Error::Data`] where there is anything
/// in the folder that this stage did not draw.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    validate_name(dataset)?;
    let folder = ws.raw_dataset(dataset);
    refuse_foreign(&folder, dataset)?;
    let plan = settings.plan();
    let marker = Marker {
        notice: "These cells are drawn, not photographed. Results on them say nothing about real cells.".into(),
        drawn_by: concat!("wbc ", env!("CARGO_PKG_VERSION")).into(),
        seed: ctx.seed,
        settings: settings.clone(),
    };
    ctx.progress.begin("draw", Some(plan.len() as u64), "images");
    let drawn = atomic::write_dir(&folder, |dir| {
        for parent in plan.iter().flat_map(|(_, files)| files).filter_map(|f| f.parent()).collect::<BTreeSet<_>>() {
            let parent = dir.join(parent);
            std::fs::create_dir_all(&parent).map_err(Error::io(&parent, "create the folder"))?;
        }
        let text = serde_json::to_string_pretty(&marker).expect("a marker is plain JSON") + "\n";
        atomic::write_bytes(&dir.join(MARKER), text.as_bytes())?;
        plan.par_iter()
            .enumerate()
            .map(|(n, (class, files))| {
                ctx.check_stop()?;
                let mut rng = seed::rng(ctx.seed, "synth", settings.layout as u64, 0, n as u64);
                let picture = scene::draw(settings.layout, *class, &mut rng);
                save(dir, files, &picture)?;
                ctx.progress.advance(1);
                Ok(picture.cells() as u64)
            })
            .sum::<Result<u64>>()
    });
    ctx.progress.end();
    Ok(Summary {
        dataset: dataset.into(),
        layout: settings.layout,
        folder,
        seed: ctx.seed,
        images: plan.len() as u64,
        class_images: settings.counts(),
        cells: drawn?,
    })
}

/// Writes a picture and, where `files` names them, its masks.
fn save(dir: &Path, files: &[PathBuf], picture: &scene::Picture) -> Result<()> {
    let (width, height) = (picture.width, picture.height);
    for (i, file) in files.iter().enumerate() {
        let path = dir.join(file);
        let mut bytes = Vec::new();
        let encoded = match i {
            0 if file.extension().is_some_and(|e| e == "jpg") => image::codecs::jpeg::JpegEncoder::new_with_quality(
                &mut bytes, 90,
            )
            .encode(&picture.rgb, width, height, ExtendedColorType::Rgb8),
            0 => image::codecs::bmp::BmpEncoder::new(&mut bytes).encode(
                &picture.rgb,
                width,
                height,
                ExtendedColorType::Rgb8,
            ),
            expert => image::codecs::bmp::BmpEncoder::new(&mut bytes).encode(
                &picture.mask(expert as u32),
                width,
                height,
                ExtendedColorType::L8,
            ),
        };
        encoded.map_err(|e| Error::Image { path: path.clone(), message: format!("cannot encode: {e}") })?;
        std::fs::write(&path, bytes).map_err(Error::io(&path, "write"))?;
    }
    Ok(())
}

fn validate_name(dataset: &str) -> Result<()> {
    // The workspace's own folders would clash with those that ingest makes for the data set.
    let bad = dataset.is_empty()
        || dataset.starts_with('.')
        || dataset.contains(['/', '\\', '\0'])
        || ["raw", "runs"].contains(&dataset);
    if bad {
        return Err(Error::Setting {
            key: "name".into(),
            expected: "a plain folder name, not raw or runs".into(),
            got: format!("{dataset:?}"),
        });
    }
    Ok(())
}

/// Refuses a folder with anything in it that its marker does not account for.
fn refuse_foreign(folder: &Path, dataset: &str) -> Result<()> {
    let refuse = |got: String| {
        Err(Error::Data {
            dataset: dataset.into(),
            expected: format!("no folder {}, or one that wbc synth drew", folder.display()),
            got,
            hint: "It stays as it is. Draw under another name: wbc synth --name NAME".into(),
        })
    };
    match folder.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(folder, "look at")(e)),
        Ok(meta) if !meta.is_dir() => return refuse("something else than a folder".into()),
        Ok(_) => {}
    }
    let marker = std::fs::read(folder.join(MARKER)).ok().and_then(|text| serde_json::from_slice::<Marker>(&text).ok());
    let ours: BTreeSet<PathBuf> = match &marker {
        Some(m) if m.settings.validate().is_ok() => {
            m.settings.plan().into_iter().flat_map(|(_, files)| files).collect()
        }
        _ => BTreeSet::new(),
    };
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(|e| Error::Io { path: folder.into(), action: "list", source: e.into() })?;
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        if entry.file_type().is_dir() || ours.contains(path) || (marker.is_some() && path == Path::new(MARKER)) {
            continue;
        }
        let why = if marker.is_some() { "which it did not draw" } else { "and no readable SYNTHETIC.json" };
        return refuse(format!("{}, {why}", path.display()));
    }
    Ok(())
}
