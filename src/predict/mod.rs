//! Predict: the cells of new images, classified by the models of a run. Probabilities are the mean over the models,
//! calibrated on the run's own test images; cells on which the models should not be trusted are flagged.

use crate::atomic;
use crate::class::Classes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::rows::CellRow;
use crate::run::leak::Weights;
use crate::run::{ModelRef, Record};
use crate::schema::CELLS;
use crate::table;
use crate::text;
use crate::workspace::{JOINT, Workspace};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub mod appearance;
pub(crate) mod calibration;
pub mod choose;
pub mod differential;
mod distance;
mod ensemble;
pub mod external;
mod flags;
mod images;
mod seen;

use appearance::Unlike;
use differential::Differential;
pub use ensemble::FolderScale;
pub(crate) use ensemble::{Classified, Ensemble, Models};
pub use flags::{CONFIDENT, LOW_CONFIDENCE, NO_NUCLEUS, UNFAMILIAR, UNLIKE_TRAINING};
pub(crate) use images::{CellImage, Cutter, Prepare, Reader};
pub use images::{ImageKind, Images, find};
pub use seen::Seen;

/// What is to be said where distances from the training cells cannot be measured.
const NO_DISTANCES: &str = "Whether these images are like the training images is not known: the run's preprocessed \
                            images or features are not in the workspace, or have changed. The figures of the run hold \
                            for images of its own laboratory alone";
/// Images that are read, or cells that are classified, at a time.
pub(crate) const BATCH: usize = 64;

/// How the rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A Parquet table of the schema `cells`.
    #[default]
    Parquet,
    /// The same columns as CSV, with a header.
    Csv,
    /// An array of objects.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Parquet, Self::Csv, Self::Json];

    /// Extension of the file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Json => "json",
        }
    }
}

/// What was predicted.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// Number of classes that the run knows.
    pub classes: usize,
    /// How many data sets the run was trained on.
    pub laboratories: usize,
    /// How many models were averaged.
    pub models: usize,
    /// Images read.
    pub images: u64,
    /// Cells classified.
    pub cells: u64,
    /// Flagged cells, by flag.
    pub flagged: BTreeMap<String, u64>,
    /// The temperature of the calibration: above 1 where the models were too confident.
    pub temperature: f64,
    /// Whether distances from the training cells could be measured.
    pub distances: bool,
    /// Folders whose images do not look like the training images: all their cells are flagged.
    pub unlike: Vec<Unlike>,
    /// How large the cells of each folder appear, where their sizes count.
    pub scales: Vec<FolderScale>,
    /// Images in which no cell was found; they are not counted.
    pub empty: Vec<PathBuf>,
    /// Images whose nucleus is outside the part that is cut as in training, or across its edge.
    pub outside: Vec<PathBuf>,
    /// Images that were read as frames, because they are larger than the training images.
    pub frames: u64,
    /// Files in folders that are masks; they are left out.
    pub masks: Vec<PathBuf>,
    /// Why files could not be read.
    pub unreadable: Vec<String>,
    /// How often an image was named again; it is counted once.
    pub repeated: u64,
    /// Files in folders that are no images.
    pub others: Vec<PathBuf>,
    /// Images that show the same as a training image.
    pub seen: Seen,
    /// Differential counts, one per folder.
    pub differentials: Vec<Differential>,
    /// What must be known of the counts.
    pub notes: Vec<String>,
    /// The file with the rows.
    pub file: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.unreadable.is_empty() {
            let names = self.unreadable.iter().map(String::as_str);
            writeln!(f, "not read: {} ({})", text::of(self.unreadable.len() as u64, "file"), text::some(names))?;
        }
        let some = |paths: &[PathBuf]| {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            text::some(names.iter().map(String::as_str))
        };
        let images = |paths: &[PathBuf]| text::of(paths.len() as u64, "image");
        if !self.masks.is_empty() {
            let masks = text::of(self.masks.len() as u64, "mask");
            writeln!(f, "left out: {masks} ({})", some(&self.masks))?;
        }
        if !self.empty.is_empty() {
            writeln!(
                f,
                "no cell found in {}, not counted: {}. Where each shows one cell: --shows cell",
                images(&self.empty),
                some(&self.empty)
            )?;
        }
        if !self.outside.is_empty() {
            writeln!(
                f,
                "nucleus outside the part that is cut out, as in training, or across its edge: {} of {}: {}. The \
                 answers for these are not to be trusted. Where they are frames: --shows frame",
                text::thousands(self.outside.len() as u64),
                text::of(self.images, "image"),
                some(&self.outside)
            )?;
        }
        if self.frames > 0 {
            writeln!(
                f,
                "{} of {}, larger than the training images, were read as frames with any number of cells",
                text::thousands(self.frames),
                text::of(self.images, "image")
            )?;
        }
        if self.repeated > 0 {
            writeln!(f, "named again and counted once: {}", text::of(self.repeated, "image"))?;
        }
        if !self.others.is_empty() {
            writeln!(f, "no images: {} ({})", text::of(self.others.len() as u64, "file"), some(&self.others))?;
        }
        for unlike in &self.unlike {
            writeln!(f, "{unlike}. What the models do on such images is measured by wbc validate, on labelled cells")?;
        }
        for note in self.seen.notes(self.images) {
            writeln!(f, "{note}")?;
        }
        for differential in &self.differentials {
            writeln!(f, "{differential}\n")?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(
            f,
            "run {}, {}: {} in {}; temperature {:.2}",
            self.run,
            text::of(self.models as u64, "model"),
            text::of(self.cells, "cell"),
            text::of(self.images, "image"),
            self.temperature
        )?;
        if let Some(note) = FolderScale::note(&self.scales) {
            writeln!(f, "{note}")?;
        }
        for (flag, cells) in &self.flagged {
            writeln!(f, "flagged, {flag}: {cells}")?;
        }
        if !self.flagged.is_empty() {
            writeln!(
                f,
                "  {LOW_CONFIDENCE}: calibrated confidence below {:.0} %; {UNLIKE_TRAINING}: farther from the training \
                 cells\n  than 99 % of unseen cells of the training's own data set; {UNFAMILIAR}: in a folder with \
                 too many\n  such cells",
                100.0 * CONFIDENT
            )?;
        }
        if !self.distances {
            writeln!(f, "{NO_DISTANCES}")?;
        }
        writeln!(f, "{}", self.file.display())?;
        write!(
            f,
            "For research use, not for diagnosis: the models know {} classes and {}.",
            self.classes,
            match self.laboratories {
                1 => "one laboratory's images".into(),
                n => format!("the images of {n} data sets"),
            }
        )
    }
}

/// Classifies every cell of `images` with the models of a run (or with one of them), and writes the rows to `output`.
/// Files that cannot be read are left out and listed in the summary.
///
/// # Errors
/// [`Error::Missing`] where the run has no finished model, [`Error::Data`] where no image could be read.
pub fn run(
    ws: &Workspace,
    source: &ModelRef,
    images: &Images,
    kind: ImageKind,
    (output, format): (&Path, Format),
    device: Device,
    ctx: &Context,
) -> Result<Summary> {
    let record = Record::read(ws, &source.run)?;
    let prepare = Prepare::of(&record, &source.run)?;
    let cutter = Cutter::new(kind, &prepare, &record);
    let ensemble = Ensemble::open(ws, source, device, ctx)?;
    let mut looked = Vec::new();
    let mut reader = Reader::default();
    let task = ctx.progress.task("predict", Some(images.files.len() as u64), "images");
    for images in images.files.chunks(BATCH) {
        ctx.check_stop()?;
        for cells in reader.read(images, &cutter, ctx)?.chunks(BATCH) {
            looked.extend(ensemble.look(cells)?);
        }
        task.advance(images.len() as u64);
    }
    drop(task);
    reader.require_any()?;
    let (classified, scales) = ensemble.classify(looked, appearance::folder);
    let (mut rows, shifts): (Vec<CellRow>, Vec<Vec<f64>>) =
        classified.into_iter().map(|cell| (cell.row, cell.shifts)).unzip();
    let weights = Weights { key: "run", from: &source.run, record: &record, model: source.model };
    let read = reader.images.len() as u64;
    let seen = Seen::find(ws, weights, &reader.images, ctx)?;
    seen.mark(&mut rows);
    let unlike = ensemble.doubt(&mut rows, &shifts, |row| appearance::folder(&row.path));
    write(output, format, &source.run, &ensemble, &rows)?;
    let mut flagged: BTreeMap<String, u64> = BTreeMap::new();
    rows.iter().filter_map(|row| row.flag.clone()).for_each(|flag| *flagged.entry(flag).or_default() += 1);
    let differentials = differential::by_folder(ensemble.classes(), &rows, &ensemble.confusion);
    Ok(Summary {
        run: source.run.clone(),
        classes: ensemble.classes().len(),
        laboratories: record.dataset.split(JOINT).count(),
        models: ensemble.models.len(),
        images: read,
        cells: rows.len() as u64,
        flagged,
        temperature: ensemble.temperature,
        distances: ensemble.has_distances(),
        unlike,
        scales,
        empty: reader.empty,
        outside: reader.outside,
        frames: reader.frames,
        masks: images.masks.clone(),
        unreadable: images.problems.iter().cloned().chain(reader.unreadable).collect(),
        repeated: images.repeated,
        others: images.others.clone(),
        seen,
        notes: differential::notes(ensemble.classes(), &ensemble.confusion, &differentials),
        differentials,
        file: output.into(),
    })
}

/// A row in a JSON file: the columns of the table.
#[derive(Serialize)]
struct JsonRow<'a> {
    #[serde(flatten)]
    row: &'a CellRow,
    #[serde(flatten, serialize_with = "by_class")]
    probabilities: (&'a Classes, &'a CellRow),
}

/// `p_<class>` of each class.
fn by_class<S: Serializer>((classes, row): &(&Classes, &CellRow), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(classes.iter().map(|class| format!("p_{class}")).zip(&row.probabilities))
}

fn write(path: &Path, format: Format, run: &str, ensemble: &Ensemble, rows: &[CellRow]) -> Result<()> {
    let classes = ensemble.classes();
    match format {
        Format::Parquet => table::write_class_rows(path, &CELLS, classes, &ensemble.provenance(run), rows),
        Format::Csv => atomic::write(path, |out| {
            let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(out);
            let failed = |e: csv::Error| Error::Io { path: path.into(), action: "write", source: e.into() };
            writer.write_record(CELLS.with_classes(classes).columns.iter().map(|c| &c.name)).map_err(failed)?;
            rows.iter().try_for_each(|row| writer.serialize((row, &row.probabilities))).map_err(failed)?;
            writer.flush().map_err(Error::io(path, "write"))
        }),
        Format::Json => {
            let rows: Vec<JsonRow> = rows.iter().map(|row| JsonRow { row, probabilities: (classes, row) }).collect();
            atomic::write_bytes(path, (serde_json::to_string_pretty(&rows).expect("plain data") + "\n").as_bytes())
        }
    }
}
