//! The result of explaining cells.

use super::occlusion::LEAST;
use crate::class::{Class, Classes};
use crate::figure::heat::Measured;
use crate::text;
use serde::Serialize;
use std::path::PathBuf;

/// An explained cell.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The image's path, or its `image_id` in the run's data set.
    pub path: String,
    /// Number of the cell in its image, from 0.
    pub cell: u32,
    /// Box of the cell in a frame, px: left, top, width, height.
    pub box_px: Option<[u32; 4]>,
    /// The fold that tested the cell.
    pub fold: Option<u32>,
    /// The labelled class.
    pub truth: Option<Class>,
    /// The predicted class.
    pub class: Class,
    /// Probability of the predicted class.
    pub probability: f32,
    /// The class that the maps explain.
    pub explained: Class,
    /// Probability of the explained class.
    pub explained_probability: f32,
    /// Measurements of the Grad-CAM map.
    pub grad_cam: Measured,
    /// Measurements of the occlusion map.
    pub occlusion: Measured,
    /// Share of the image that the segmented cell fills, 0 to 1: a uniform map has this share within the cell.
    pub cell_share: Option<f32>,
    /// The PNG.
    pub file: PathBuf,
}

/// A mean over the cells that have the value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// Number of these cells.
    pub cells: usize,
    /// The mean.
    pub value: f64,
}

impl Mean {
    fn of(values: impl Iterator<Item = Option<f32>>) -> Option<Self> {
        let values: Vec<f64> = values.flatten().map(f64::from).collect();
        let cells = values.len();
        (cells > 0).then(|| Self { cells, value: values.iter().sum::<f64>() / cells as f64 })
    }
}

/// Shares within the segmented cell, 0 to 1, as means over cells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Within {
    /// Of the Grad-CAM map.
    pub grad_cam: Option<Mean>,
    /// Of the occlusion map, over the cells where some square costs more than one percentage point.
    pub occlusion: Option<Mean>,
    /// Of the image: the share that a uniform map would have.
    pub image: Option<Mean>,
}

impl Within {
    pub(super) fn of(rows: &[Row]) -> Self {
        Self {
            grad_cam: Mean::of(rows.iter().map(|r| r.grad_cam.within_cell)),
            occlusion: Mean::of(rows.iter().map(|r| r.occlusion.within_cell)),
            image: Mean::of(rows.iter().map(|r| r.cell_share)),
        }
    }
}

/// What was explained.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub run: String,
    /// How many models there were; for new images their maps are averaged.
    pub models: usize,
    /// Side of the tensors, px.
    pub size_px: u32,
    /// Side of the covering square, px.
    pub patch_px: usize,
    /// Step from one square to the next, px.
    pub stride_px: usize,
    /// The classes of the run.
    #[serde(skip)]
    pub classes: Classes,
    /// The explained cells.
    pub cells: Vec<Row>,
    /// Means over the cells.
    pub within_cell: Within,
    /// Frames in which no cell was found.
    pub empty: Vec<PathBuf>,
    /// Why files could not be read.
    pub unreadable: Vec<String>,
    /// The folder with the PNG files.
    pub folder: PathBuf,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, Table, presets};
        let percent = |share: Option<f32>| share.map_or("-".into(), |s| format!("{:.1}", 100.0 * s));
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["File", "Label", "Predicted", "%", "Explained", "Grad-CAM", "Occlusion", "Cell"]);
        for row in &self.cells {
            table.add_row([
                row.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                row.truth.map_or("-".into(), |class| self.classes.title(class)),
                self.classes.title(row.class),
                percent(Some(row.probability)),
                self.classes.title(row.explained),
                percent(row.grad_cam.within_cell),
                percent(row.occlusion.within_cell),
                percent(row.cell_share),
            ]);
        }
        for column in [3, 5, 6, 7] {
            table.column_mut(column).expect("there are eight").set_cell_alignment(CellAlignment::Right);
        }
        if !self.cells.is_empty() {
            writeln!(f, "{table}")?;
            writeln!(f, "Grad-CAM, Occlusion: % of the map within the cell. Cell: % of the image that it fills.")?;
        }
        writeln!(
            f,
            "run {}, {} models: {} cells; tensors of {} px, covered by squares of {} px at steps of {} px",
            self.run,
            self.models,
            self.cells.len(),
            self.size_px,
            self.patch_px,
            self.stride_px
        )?;
        let Within { grad_cam, occlusion, image } = self.within_cell;
        for (what, mean) in [("Grad-CAM", grad_cam), ("occlusion", occlusion), ("the image", image)] {
            if let Some(Mean { cells, value }) = mean {
                writeln!(f, "within the cell: {:.1} % of {what} (mean over {cells} cells)", 100.0 * value)?;
            }
        }
        let unmoved = self.cells.iter().filter(|r| r.occlusion.largest <= LEAST).count();
        if unmoved > 0 {
            writeln!(
                f,
                "{}: less than one percentage point is lost wherever the cell is covered: try a larger --patch",
                text::of(unmoved as u64, "cell")
            )?;
        }
        if !self.empty.is_empty() {
            writeln!(f, "no cell found in {} images, such as {}", self.empty.len(), self.empty[0].display())?;
        }
        writeln!(f, "{}", self.folder.display())?;
        write!(f, "The maps show where, not why. Where they differ, occlusion is what the model does.")
    }
}
