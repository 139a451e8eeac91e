//! The page of several laboratories: the matrix of what was trained on and what was tested, as a heat map.

use super::parts;
use crate::error::Result;
use crate::laboratories::Matrix;
use crate::report::Sheet;
use minijinja::{Value, context};
use std::path::Path;

/// Writes the page. `sheet` is that of the matrix.
///
/// # Errors
/// [`crate::error::Error::Io`].
pub fn write(matrix: &Matrix, sheet: &Sheet, path: &Path) -> Result<()> {
    let rows = matrix.rows();
    let rows = rows.iter().map(|trained| {
        let cells = matrix.laboratories.iter().map(|tested| {
            let score = matrix.field(trained, tested).and_then(|field| field.score.as_ref());
            match score {
                Some(score) => context! {
                    value => format!("{:.1}", 100.0 * score.balanced_accuracy),
                    range => crate::report::notes::range(&score.interval),
                    images => score.images,
                    // Chance is far below a half, and what is useful far above.
                    share => (100.0 * ((score.balanced_accuracy - 0.5) / 0.5).clamp(0.0, 1.0)).round() as u32,
                },
                None => context! { value => "-", share => 0 },
            }
        });
        context! { name => trained.to_string(), cells => cells.collect::<Vec<Value>>() }
    });
    let values = context! {
        title => format!("Laboratories: {}", matrix.laboratories.join(", ")),
        subtitle => format!("Pipeline {}; balanced accuracy, %, with 95 % intervals", matrix.pipeline),
        laboratories => matrix.laboratories.clone(),
        rows => rows.collect::<Vec<Value>>(),
        summary => sheet.summary.clone(),
        notes => sheet.notes.clone(),
    };
    parts::write("laboratories.html", values, path)
}
