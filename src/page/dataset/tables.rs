//! A data set's tables, and what is out of date or missing among them.

use crate::class::{Class, Classes};
use crate::context::Context;
use crate::dataset::{self, Dataset};
use crate::error::{Error, Input, Result};
use crate::join;
use crate::rows::{CheckRow, CopyRow, IssueRow, ManifestRow};
use crate::schema::COPIES;
use crate::split::{self, Splits};
use crate::table;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The tables of a data set.
pub(super) struct Tables {
    pub dataset: String,
    /// Its classes.
    pub classes: Classes,
    /// The manifest, sorted by `image_id`.
    pub rows: Vec<ManifestRow>,
    /// The table of checks, in the same order.
    pub checks: Vec<CheckRow>,
    /// The rows of each image file, which are adjacent.
    pub files: BTreeMap<String, Range<usize>>,
    /// Findings of ingest and check; `None` where the table does not exist.
    pub issues: Option<Vec<IssueRow>>,
    /// Pairs of copies, by both `image_id`s: the first and the other image.
    copies: HashMap<(String, String), CopyRow>,
    /// The folds, or a sentence that says why there are none.
    pub splits: std::result::Result<Splits, String>,
    /// Whether check has run.
    pub checked: bool,
    /// What is out of date or missing, and the command that mends it.
    pub warnings: Vec<String>,
}

impl Tables {
    /// Reads the tables. Tables that are missing or out of date become warnings, except for the manifest and the
    /// table of checks. `help` returns the sentence that is added to a warning: how to write an input again.
    ///
    /// # Errors
    /// [`Error::Missing`] without a manifest, [`Error::Format`], [`Error::Interrupted`].
    pub fn read(ws: &Workspace, dataset: &str, help: &dyn Fn(Input) -> String, ctx: &Context) -> Result<Self> {
        let Dataset { classes, cells: rows, checks, checked, .. } = Dataset::read(ws, dataset)?;
        let mut warnings = Vec::new();
        match join::has_changed(ws, dataset, ctx) {
            Ok(false) => {}
            Ok(true) => warnings.push(format!(
                "The files under raw/{dataset} have changed since they were ingested; this page describes the old \
                 ones.{}",
                help(Input::Manifest)
            )),
            Err(interrupted @ Error::Interrupted) => return Err(interrupted),
            Err(_) => warnings.push(format!("raw/{dataset} cannot be read, so no image is shown")),
        }
        if !checked {
            warnings.push(format!(
                "The images were not checked for near copies, label conflicts, blur and damage.{}",
                help(Input::Checks)
            ));
        }
        let issues = match dataset::issues(ws, dataset) {
            Ok(issues) => Some(issues),
            Err(Error::Missing { .. }) => None,
            Err(other) => return Err(other),
        };
        let splits = match split::read(ws, dataset) {
            Ok(splits) => Ok(splits),
            Err(Error::Missing { .. }) => {
                Err(format!("The images are not assigned to folds yet.{}", help(Input::Splits)))
            }
            Err(Error::Stale { reason, .. }) => {
                let message = format!("The folds are out of date: {reason}.{}", help(Input::Splits));
                warnings.push(message.clone());
                Err(message)
            }
            Err(other) => return Err(other),
        };
        let mut files: BTreeMap<String, Range<usize>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            files.entry(row.path.clone()).or_insert(i..i).end = i + 1;
        }
        let pairs = if checked && table::exists(&ws.copies(dataset))? {
            table::read_rows::<CopyRow>(&ws.copies(dataset), &COPIES)?.0
        } else {
            Vec::new()
        };
        let copies = pairs.into_iter().map(|pair| ((pair.image_id.clone(), pair.copy_id.clone()), pair)).collect();
        Ok(Self { dataset: dataset.into(), classes, rows, checks, files, issues, copies, splits, checked, warnings })
    }

    /// The images of a finding of copies, the other one first, and the map from pixels of the one to pixels of the
    /// other: `[xx, yx, xy, yy, x0, y0]`, as in SVG.
    pub fn alignment(&self, finding: &IssueRow) -> Option<(&ManifestRow, &ManifestRow, [f32; 6])> {
        let (original, copy) = (finding.related.clone()?, finding.image_id.clone()?);
        let (first, other) = (&self.rows[self.row(&original)?], &self.rows[self.row(&copy)?]);
        let pair = self.copies.get(&(original, copy))?;
        let flip = if pair.mirrored == 1 { -1.0 } else { 1.0 };
        let (sin, cos) = pair.angle_deg.to_radians().sin_cos();
        let [xx, yx, xy, yy] = [cos * flip, sin * flip, -sin, cos].map(|v| v * pair.scale);
        // The middle of the other image lies this far from the middle of the first.
        let (mx, my) = (other.width_px as f32 / 2.0, other.height_px as f32 / 2.0);
        let x0 = first.width_px as f32 / 2.0 + pair.shift_x_px - xx * mx - xy * my;
        let y0 = first.height_px as f32 / 2.0 + pair.shift_y_px - yx * mx - yy * my;
        Some((other, first, [xx, yx, xy, yy, x0, y0]))
    }

    /// The rows of a class that later stages use.
    pub fn usable(&self, class: Class) -> Vec<usize> {
        let usable = |i: &usize| self.rows[*i].class == Some(class) && self.checks[*i].left_out.is_none();
        (0..self.rows.len()).filter(usable).collect()
    }

    /// The row of an `image_id`.
    pub fn row(&self, image_id: &str) -> Option<usize> {
        self.rows.binary_search_by(|r| r.image_id.as_str().cmp(image_id)).ok()
    }

    /// The files that a finding is about: one, or both of a pair.
    pub fn paths(&self, finding: &IssueRow) -> Vec<String> {
        let related = finding.related.as_ref().map(|related| match self.row(related) {
            Some(row) => self.rows[row].path.clone(),
            None => related.clone(),
        });
        std::iter::once(finding.path.clone()).chain(related).filter(|path| !path.is_empty()).collect()
    }
}
