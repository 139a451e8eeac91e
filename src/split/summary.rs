//! The result of the stage, for people and as JSON.

use super::splits::Place;
use crate::class::Classes;
use crate::dataset::NO_CLASS;
use crate::rows::IssueRow;
use crate::text::{self, thousands};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Most leaks that are printed; the table has all.
const PRINTED_LEAKS: usize = 20;

/// The result of the stage.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub dataset: String,
    /// The classes, in the order of the counts.
    pub classes: Classes,
    /// Number of images in the split.
    pub images: u64,
    /// Groups that stay together: copies, cells of one frame, images of one subject or slide count once.
    pub groups: u64,
    /// Whether it is the data set's own split: one fold, whose training images are never tested.
    pub given: bool,
    /// What is kept together, in words.
    pub kept_together: String,
    /// Test images, `[fold][class]`.
    pub test_images: Vec<Vec<u64>>,
    /// Images that are trained on and never tested, by class: of a data set's own split.
    pub train_images: Vec<u64>,
    /// Images of the held-out test set, by class; empty without one.
    pub held_out: Vec<u64>,
    /// Rows that are not in the split, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Rows with a label that is no class, by label: those without a class among `left_out`.
    pub other_labels: BTreeMap<String, u64>,
    /// Test images with copies among the training images, and subjects with both: of a data set's own split.
    pub leaks: Vec<IssueRow>,
    /// Where the leaks are written.
    pub leaks_file: Option<PathBuf>,
    /// What may make the folds less than they should be, or is read otherwise than one may think.
    pub warnings: Vec<String>,
}

impl Summary {
    /// Whether something was left out, leaks or needs attention.
    pub fn has_findings(&self) -> bool {
        !(self.left_out.is_empty() && self.leaks.is_empty() && self.warnings.is_empty())
    }

    /// Counts the images of each fold and class.
    pub(super) fn count(&mut self, classes: &[usize], places: &[Place], folds: u32) {
        let none = vec![0; self.classes.len()];
        self.test_images = vec![none.clone(); folds as usize];
        self.train_images = none.clone();
        let mut held_out = none;
        for (class, place) in classes.iter().zip(places) {
            match place {
                Place::Fold(fold) => self.test_images[*fold as usize][*class] += 1,
                Place::Train => self.train_images[*class] += 1,
                Place::HeldOut => held_out[*class] += 1,
            }
        }
        if held_out.iter().any(|n| *n > 0) {
            self.held_out = held_out;
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (images, groups) = (thousands(self.images), thousands(self.groups));
        write!(f, "{}: {images} images in {groups} groups, ", self.dataset)?;
        match self.given {
            true => writeln!(f, "in the data set's own split")?,
            false => writeln!(f, "{} folds, stratified", self.test_images.len())?,
        }
        writeln!(f, "{}", self.kept_together)?;
        for (reason, n) in &self.left_out {
            write!(f, "left out: {} ({reason}", text::of(*n, "image"))?;
            if reason == NO_CLASS && !self.other_labels.is_empty() {
                let labels = self.other_labels.iter().map(|(label, n)| (label.as_str(), *n));
                write!(f, ": {}", text::counts(labels))?;
            }
            writeln!(f, ")")?;
        }
        for leak in self.leaks.iter().take(PRINTED_LEAKS) {
            writeln!(f, "leak: {}", leak.message)?;
        }
        if let (false, Some(path)) = (self.leaks.is_empty(), &self.leaks_file) {
            let more = self.leaks.len().saturating_sub(PRINTED_LEAKS);
            let more = if more > 0 { format!("{more} more leaks; all of them in") } else { "leaks written to".into() };
            writeln!(f, "{more} {}", path.display())?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        write!(f, "{}", self.table())
    }
}

impl Summary {
    /// Images of each fold and class: one column per class, or one row where they would be too wide for a terminal.
    fn table(&self) -> Table {
        const WIDTH: usize = 100;
        let mut parts: Vec<(String, Vec<u64>)> = Vec::new();
        if self.given {
            parts.push(("Training".into(), self.train_images.clone()));
            parts.push(("Test".into(), self.test_images[0].clone()));
        } else {
            let folds = self.test_images.iter().enumerate();
            parts.extend(folds.map(|(fold, counts)| (format!("Test of fold {fold}"), counts.clone())));
            let sum = |class: usize| self.test_images.iter().map(|counts| counts[class]).sum();
            parts.push(("All folds".into(), (0..self.classes.len()).map(sum).collect()));
        }
        if !self.held_out.is_empty() {
            parts.push(("Held out".into(), self.held_out.clone()));
        }
        parts.iter_mut().for_each(|(_, counts)| counts.push(counts.iter().sum()));
        let classes: Vec<String> =
            self.classes.iter().map(|class| self.classes.title(class)).chain(["All".into()]).collect();
        let width: usize = classes.iter().map(|class| class.chars().count() + 3).sum();
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        if width <= WIDTH {
            table.set_header(["Images".to_string()].into_iter().chain(classes.iter().cloned()));
            for (name, counts) in &parts {
                table.add_row([name.clone()].into_iter().chain(counts.iter().map(|n| thousands(*n))));
            }
        } else {
            table.set_header(["Images".to_string()].into_iter().chain(parts.iter().map(|(name, _)| name.clone())));
            for (i, class) in classes.iter().enumerate() {
                let counts = parts.iter().map(|(_, counts)| thousands(counts[i]));
                table.add_row([class.clone()].into_iter().chain(counts));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}
