//! What the page of a data set says, in numbers: also what `wbc inspect --json` prints.

use crate::class::Class;
use crate::dataset;
use crate::page::card::consequence;
use crate::rows::Severity;
use crate::text;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The page's contents, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The data set.
    pub dataset: String,
    /// The page.
    pub file: PathBuf,
    /// How the data set is arranged on disk.
    pub layout: String,
    /// Rows of the manifest.
    pub cells: u64,
    /// Image files.
    pub images: u64,
    /// One entry per class, in class order.
    pub classes: Vec<ClassSummary>,
    /// Cells without a class.
    pub unlabelled: u64,
    /// Cells with a label that is no class, by label, the largest first.
    pub other_labels: Vec<(String, u64)>,
    /// Image files of each size, "width x height".
    pub sizes_px: BTreeMap<String, u64>,
    /// Image files of each format.
    pub formats: BTreeMap<String, u64>,
    /// Groups of the cells with a class; each is assigned to one fold as a whole.
    pub groups: u64,
    /// Share of the backgrounds' variance that lies between classes, 0 to 1 (epsilon squared, which corrects for
    /// chance).
    pub background_between_classes: Option<f64>,
    /// The findings of ingest and check, the worst first.
    pub findings: Vec<CheckSummary>,
    /// Images of the manifest that could not be read for the page, and why.
    pub unreadable: Vec<Unreadable>,
    /// Test images of each fold and class; empty where there is no split.
    pub folds: Vec<Vec<u64>>,
    /// Images of the held-out test set by class; empty without one.
    pub held_out: Vec<u64>,
    /// Images that are trained on and never tested by class, of the data set's own split; empty without one.
    pub training: Vec<u64>,
    /// What is out of date or missing, and the command that mends it.
    pub warnings: Vec<String>,
}

/// A class of the data set.
#[derive(Clone, Debug, Serialize)]
pub struct ClassSummary {
    /// The class.
    pub class: Class,
    /// Its cells.
    pub cells: u64,
    /// Cells that no later stage uses.
    pub left_out: u64,
    /// Groups with a cell of the class.
    pub groups: u64,
    /// Cells of each subtype.
    pub subtypes: BTreeMap<String, u64>,
    /// Its colours; `None` where no image could be read.
    pub colour: Option<Colour>,
}

impl ClassSummary {
    /// Cells that later stages use.
    pub(super) fn usable(&self) -> u64 {
        self.cells - self.left_out
    }
}

/// Colours of a class: red, green, blue, 0 to 255.
#[derive(Clone, Debug, Serialize)]
pub struct Colour {
    /// Mean over all pixels of the cells as `wbc preprocess` cuts them by default.
    pub mean: [f64; 3],
    /// Standard deviation over the same pixels.
    pub deviation: [f64; 3],
    /// Mean over images of the plasma's colour.
    pub background: [f64; 3],
    /// Its standard deviation between images.
    pub background_deviation: [f64; 3],
}

/// The findings of one check and severity.
#[derive(Clone, Debug, Serialize)]
pub struct CheckSummary {
    /// The check.
    pub check: String,
    /// The findings' severity.
    pub severity: Severity,
    /// How many findings there are.
    pub count: u64,
    /// How many of them the page shows with an image.
    pub shown: u64,
}

/// An image that could not be read.
#[derive(Clone, Debug, Serialize)]
pub struct Unreadable {
    /// Its path below the data set's folder.
    pub path: String,
    /// Why.
    pub message: String,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} images, {} cells (layout {})\n ", self.dataset, self.images, self.cells, self.layout)?;
        write!(f, " {}", text::in_order(self.classes.iter().map(|class| (class.class.name(), class.cells))))?;
        if let Some(left_out) = dataset::left_out_text(&self.other_labels, self.cells, self.images) {
            write!(f, "\n  {left_out}")?;
        }
        for CheckSummary { check, severity, count, shown } in &self.findings {
            write!(f, "\n  {check}: {count} ({}; {shown} shown)", consequence(*severity))?;
        }
        if let Some(share) = self.background_between_classes {
            write!(f, "\n  background: {:.0} % of its variance lies between classes", 100.0 * share)?;
        }
        if !self.unreadable.is_empty() {
            write!(f, "\n  not readable: {} images", self.unreadable.len())?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        write!(f, "\npage: {}", self.file.display())
    }
}
