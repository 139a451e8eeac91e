//! What a check receives and returns: the images of a data set with their measurements, and findings.

use super::measurements::Measurements;
use super::settings::Settings;
use crate::class::Classes;
use crate::copies::Pair;
use crate::rows::{IssueRow, ManifestRow, Severity};

/// One thing that can be wrong with images.
pub trait Check: Sync {
    /// Name, as in `issues.parquet`.
    fn name(&self) -> &'static str;
    /// What is wrong, in a few words.
    fn doc(&self) -> &'static str;
    /// Whether a lower score is worse than a higher one.
    fn lower_is_worse(&self) -> bool {
        false
    }
    /// Adds what is wrong with the images to `findings`.
    fn find(&self, images: &Images, settings: &Settings, findings: &mut Findings);
}

/// The images of a data set and what was measured when they were decoded.
pub struct Images {
    /// The classes of the data set.
    pub classes: Classes,
    /// The manifest.
    pub rows: Vec<ManifestRow>,
    /// For each image file its first row.
    pub first_rows: Vec<usize>,
    /// For each row, the index of its file in `files`. Cells of one frame have the same.
    pub file_of_row: Vec<usize>,
    /// For each image file its measurements, or why it cannot be decoded.
    pub files: Vec<Result<Measurements, String>>,
    /// Pairs of copies, by the first row of each file.
    pub copies: Vec<Pair>,
}

impl Images {
    /// Whether the image file of a row has several rows: it is a frame with several cells.
    pub fn has_several(&self, row: usize) -> bool {
        let same = |other: Option<usize>| other.and_then(|o| self.file_of_row.get(o)) == Some(&self.file_of_row[row]);
        same(row.checked_sub(1)) || same(Some(row + 1))
    }

    /// The first row of each image file that can be decoded, with the measurements of the file.
    pub fn decoded(&self) -> impl Iterator<Item = (&ManifestRow, &Measurements)> {
        let files = self.first_rows.iter().zip(&self.files);
        files.filter_map(|(row, file)| Some((&self.rows[*row], file.as_ref().ok()?)))
    }
}

/// Collects the findings of the checks.
pub struct Findings {
    dataset: String,
    check: &'static str,
    /// The findings so far.
    pub issues: Vec<IssueRow>,
}

impl Findings {
    /// No findings yet.
    pub fn new(dataset: &str) -> Self {
        Self { dataset: dataset.into(), check: "", issues: Vec::new() }
    }

    /// Runs a check.
    pub fn add(&mut self, check: &dyn Check, images: &Images, settings: &Settings) {
        self.check = check.name();
        check.find(images, settings, self);
    }

    /// Adds a finding on one image, and returns it so that a related image can be set.
    pub fn image(
        &mut self,
        row: &ManifestRow,
        severity: Severity,
        score: Option<f64>,
        message: String,
    ) -> &mut IssueRow {
        self.push(&row.path, Some(row.image_id.clone()), severity, score, message)
    }

    /// Adds a finding on the data set as a whole.
    pub fn dataset(&mut self, severity: Severity, score: Option<f64>, message: String) {
        self.push("", None, severity, score, message);
    }

    fn push(
        &mut self,
        path: &str,
        image_id: Option<String>,
        severity: Severity,
        score: Option<f64>,
        message: String,
    ) -> &mut IssueRow {
        self.issues.push(IssueRow {
            dataset: self.dataset.clone(),
            path: path.into(),
            image_id,
            stage: "check".into(),
            check: self.check.into(),
            severity,
            score,
            related: None,
            message,
        });
        self.issues.last_mut().expect("just pushed")
    }
}
