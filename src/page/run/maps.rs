//! Grad-CAM maps beside the cells of a page's mistakes.

use crate::batch::Tensors;
use crate::error::Result;
use crate::explain;
use crate::rows::PredictionRow;
use crate::run::{Recipe, Record};
use crate::workspace::Workspace;
use image::RgbImage;
use std::collections::{BTreeSet, HashMap};

/// The maps that can be shown.
#[derive(Default)]
pub(super) struct Maps {
    /// Map over the cell in grey, as large as the cell's image, by `image_id`.
    pub overlays: HashMap<String, RgbImage>,
    /// What the colours mean, and why a cell has no map; empty for a classifier.
    pub note: String,
}

impl Maps {
    /// Maps of the cells in `rows` for their predicted classes, by the model that did not train on the cell.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where memory does not suffice.
    pub fn compute(
        ws: &Workspace,
        run: &str,
        record: &Record,
        tensors: Option<&Tensors>,
        rows: &[&PredictionRow],
    ) -> Result<Self> {
        let (Recipe::Network(_), Some(tensors)) = (&record.recipe, tensors) else { return Ok(Self::default()) };
        let overlays = explain::overlays(ws, run, tensors, rows)?;
        let without = rows.iter().filter(|r| !overlays.contains_key(&r.image_id));
        let without: BTreeSet<u32> = without.map(|r| r.fold).collect();
        let mut note = String::new();
        if !overlays.is_empty() {
            note += "Beside each cell: the regions that speak for the predicted class (Grad-CAM, Selvaraju et al. \
                     2017), from violet (none) to yellow (the most in this image). A map shows where, not why, and \
                     does not make a prediction correct. ";
        }
        if !without.is_empty() {
            let folds: Vec<String> = without.iter().map(u32::to_string).collect();
            note += &format!("No map of cells of fold {}: its model is not in the workspace.", folds.join(", "));
        }
        Ok(Self { overlays, note })
    }
}
