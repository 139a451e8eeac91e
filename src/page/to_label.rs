//! The page of cells to label.

use super::parts;
use crate::error::Result;
use minijinja::{Value, context};
use std::path::Path;

/// A cell to label.
pub struct Cell<'a> {
    /// Its file, as in the list.
    pub path: String,
    /// What the model says, in words.
    pub answer: String,
    /// As the model sees it: `[size, size, 3]`.
    pub pixels: &'a [u8],
}

/// Writes the page: the cells in the order of the list, each of `size_px`.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn write(dataset: &str, model: &str, cells: &[Cell], size_px: u32, path: &Path) -> Result<()> {
    let cells = cells.iter().enumerate().map(|(i, cell)| {
        context! {
            number => i + 1,
            image => parts::image(cell.pixels, size_px, size_px),
            path => cell.path.clone(),
            answer => cell.answer.clone(),
        }
    });
    let values = context! {
        title => format!("{dataset}: cells to label"),
        subtitle => format!("In the order of the list. Below each cell: its file, and the prediction of {model}"),
        cells => cells.collect::<Vec<Value>>(),
    };
    parts::write("to_label.html", values, path)
}
