//! What a layout is, and what it reads from the folder of a data set.

use super::checks;
use super::labels::Vocabulary;
use super::settings::Settings;
use super::tree::{ScannedFile, Tree};
use crate::class::Class;
use crate::context::Context;
use crate::error::Result;
use crate::rows::{IssueRow, ManifestRow, Severity};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

/// A way in which data sets arrange their files.
pub trait Layout: Sync {
    /// Short name, for `--layout` and the manifest.
    fn name(&self) -> &'static str;
    /// Other names that `--layout` accepts.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }
    /// Which files the layout expects, to complete the sentence "expected ...".
    fn looks_for(&self) -> &'static str;
    /// Whether the folder has this layout.
    fn recognises(&self, tree: &Tree, settings: &Settings, vocabulary: &Vocabulary) -> bool;
    /// Absolute paths of files outside the folder that belong to the data set, such as those in a list.
    fn outside(&self, _tree: &Tree, _settings: &Settings) -> Vec<PathBuf> {
        Vec::new()
    }
    /// Adds a row for every cell and an issue for every problem to `output`.
    ///
    /// # Errors
    /// Only if nothing can be read at all, and [`crate::error::Error::Interrupted`].
    fn read(
        &self,
        tree: &Tree,
        settings: &Settings,
        vocabulary: &Vocabulary,
        ctx: &Context,
        output: &mut Output,
    ) -> Result<()>;
}

/// Rows and issues that a layout has read, and the files that they account for.
pub struct Output {
    dataset: String,
    layout: &'static str,
    /// Rows of the manifest.
    pub rows: Vec<ManifestRow>,
    /// Issues.
    pub issues: Vec<IssueRow>,
    /// The class of labels by the layout's own rules, such as the numbers of JTSC.
    pub codes: BTreeMap<String, Class>,
    /// Labels that are no class of their own in this layout, such as LISC's mixt.
    pub no_class: BTreeSet<String>,
    used: HashSet<String>,
}

impl Output {
    /// Empty output of a layout.
    pub(super) fn new(dataset: &str, layout: &'static str) -> Self {
        Self {
            dataset: dataset.into(),
            layout,
            rows: Vec::new(),
            issues: Vec::new(),
            codes: BTreeMap::new(),
            no_class: BTreeSet::new(),
            used: HashSet::new(),
        }
    }

    /// Adds a row for a cell in `file`; `number` (from 1) distinguishes several cells in one file. Which class the
    /// label stands for is found later. Returns `None` for a file that is not an image, which gets an issue later.
    pub fn row(&mut self, file: &ScannedFile, number: Option<usize>, label: Option<&str>) -> Option<&mut ManifestRow> {
        let header = file.header.as_ref().ok()?;
        self.used(file);
        let suffix = number.map_or(String::new(), |n| format!("#{n}"));
        self.rows.push(ManifestRow {
            image_id: format!("{}/{}{suffix}", self.dataset, file.path),
            dataset: self.dataset.clone(),
            path: file.path.clone(),
            label: label.map(String::from),
            layout: self.layout.into(),
            format: header.format.name().into(),
            width_px: header.width_px,
            height_px: header.height_px,
            file_bytes: file.bytes,
            content_hash: file.content_hash.clone(),
            ..Default::default()
        });
        self.rows.last_mut()
    }

    /// Marks a file as accounted for, so that it gets no [`checks::NO_LABEL`] or [`checks::NOT_AN_IMAGE`].
    pub fn used(&mut self, file: &ScannedFile) {
        self.used.insert(file.path.clone());
    }

    /// Adds an issue, and returns it so that a score or a related path can be set.
    pub fn issue(&mut self, path: &str, check: &str, severity: Severity, message: String) -> &mut IssueRow {
        self.issues.push(IssueRow {
            dataset: self.dataset.clone(),
            path: path.into(),
            image_id: None,
            stage: "ingest".into(),
            check: check.into(),
            severity,
            score: None,
            related: None,
            message,
        });
        self.issues.last_mut().expect("just pushed")
    }

    /// Adds issues for what could not be scanned and for every file that the layout did not account for, and sorts rows
    /// and issues as their schemas require.
    pub(super) fn finish(&mut self, tree: &Tree) {
        if tree.leftovers > 0 {
            let message = format!("files of operating systems and programs left out: {}", tree.leftovers);
            self.issue("", checks::LEFTOVERS, Severity::Note, message).score = Some(tree.leftovers as f64);
        }
        for problem in &tree.problems {
            self.issue(&problem.path, problem.check, problem.severity, problem.message.clone());
        }
        for file in tree.files.iter().filter(|f| !self.used.contains(&f.path)).collect::<Vec<_>>() {
            match &file.header {
                Ok(_) => {
                    let message = format!("the layout {} gives this image no class", self.layout);
                    self.issue(&file.path, checks::NO_LABEL, Severity::Warning, message);
                }
                Err(_) if is_spreadsheet(file) => {
                    let message = "a spreadsheet: not read. Save it as CSV if it lists the images".to_string();
                    self.issue(&file.path, checks::NOT_USED, Severity::Warning, message);
                }
                Err(_) if is_table(file) => {
                    let columns = tree.sheet(file).map_or_else(|e| vec![e.to_string()], |s| s.columns);
                    let message = format!(
                        "a table: not used. Its columns are {}; those that count can be named in [ingest.columns]",
                        columns.join(", ")
                    );
                    self.issue(&file.path, checks::NOT_USED, Severity::Warning, message);
                }
                Err((check, message)) => {
                    let severity = match (*check, file.has_image_extension(), file.folder()) {
                        (checks::NOT_AN_IMAGE, false, "") => Severity::Note,
                        (checks::NOT_AN_IMAGE, false, _) => Severity::Warning,
                        _ => Severity::Error,
                    };
                    self.issue(&file.path, check, severity, message.clone());
                }
            }
        }
        self.rows.sort_by(|a, b| a.image_id.cmp(&b.image_id));
        self.issues.sort_by(|a, b| (&a.path, &a.check, &a.image_id).cmp(&(&b.path, &b.check, &b.image_id)));
    }
}

/// Whether a file is a table.
fn is_table(file: &ScannedFile) -> bool {
    let name = file.file_name().to_lowercase();
    [".csv", ".tsv", ".parquet"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a file is a spreadsheet, which may be a list of the images.
fn is_spreadsheet(file: &ScannedFile) -> bool {
    let name = file.file_name().to_lowercase();
    [".xlsx", ".xls", ".ods", ".numbers"].iter().any(|ending| name.ends_with(ending))
}
