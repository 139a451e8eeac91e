//! Where the models looked: Grad-CAM beside the cells of a page's gallery of mistakes.

use crate::batch::Tensors;
use crate::error::Result;
use crate::explain;
use crate::rows::PredictionRow;
use crate::run::{Recipe, Record};
use crate::workspace::Workspace;
use image::RgbImage;
use std::collections::{BTreeSet, HashMap};

/// What there is to show.
#[derive(Default)]
pub struct Maps {
    /// By `image_id`, of the pictures' size.
    pub of: HashMap<String, RgbImage>,
    /// What the colours mean, and why a cell has none; empty for what is no network.
    pub note: String,
}

impl Maps {
    /// Of the cells in `rows`, each for what it was called, by the model that never saw it.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where there is no room.
    pub fn new(
        ws: &Workspace,
        run: &str,
        record: &Record,
        tensors: Option<&Tensors>,
        rows: &[&PredictionRow],
    ) -> Result<Self> {
        let (Recipe::Network(_), Some(tensors)) = (&record.recipe, tensors) else { return Ok(Self::default()) };
        let of = explain::overlays(ws, run, tensors, rows)?;
        let without: BTreeSet<u32> = rows.iter().filter(|r| !of.contains_key(&r.image_id)).map(|r| r.fold).collect();
        let mut note = String::new();
        if !of.is_empty() {
            note += "Beside each cell: where the model found what it called the cell by (Grad-CAM, Selvaraju et al. \
                     2017), from violet, nothing, to yellow, the most in this picture. Such maps show where, not why, and \
                     no map makes a wrong answer right. ";
        }
        if !without.is_empty() {
            let folds: Vec<String> = without.iter().map(u32::to_string).collect();
            note += &format!("No map of cells of fold {}: its model is not in the workspace.", folds.join(", "));
        }
        Ok(Self { of, note })
    }
}
