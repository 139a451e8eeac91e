//! Explains cells: both maps, their measurements, and the PNG.

use super::cells::Cell;
use super::grad_cam;
use super::occlusion::{self, LEAST, Patch};
use super::summary::Row;
use crate::batch::Tensors;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::error::Result;
use crate::figure::explanation::{Explanation, PANEL, Panel};
use crate::figure::heat::{Heat, Measured};
use crate::predict::BATCH;
use crate::progress::Task;
use crate::run::TrainedModel;
use image::RgbImage;
use std::path::Path;

/// What all cells are explained with.
pub struct Explainer<'a> {
    /// The class to explain; none: the predicted class of each cell.
    pub class: Option<Class>,
    pub patch: Patch,
    /// Side of the tensors, px.
    pub size_px: usize,
    pub folder: &'a Path,
    pub ctx: &'a Context<'a>,
}

impl Explainer<'_> {
    /// Explains each cell by the mean over `models` and writes its PNG.
    pub fn explain(&self, models: &[TrainedModel], cells: &[&Cell], task: &Task) -> Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(cells.len());
        for cells in cells.chunks(BATCH) {
            let classes: Vec<Class> = cells.iter().map(|c| self.class.unwrap_or(c.class)).collect();
            let pixels = cells.iter().flat_map(|c| c.pixels.iter().copied()).collect();
            let tensors = Tensors::from_pixels(self.size_px, pixels);
            let maps = grad_cam::maps(models, &tensors, &(0..cells.len()).collect::<Vec<_>>(), &classes)?;
            for ((cell, class), map) in cells.iter().zip(classes).zip(maps) {
                self.ctx.check_stop()?;
                let occlusion = occlusion::map(models, &cell.pixels, self.size_px, class, self.patch)?;
                rows.push(self.write(models[0].classes(), cell, class, &map, &occlusion)?);
                task.advance(1);
            }
        }
        Ok(rows)
    }

    fn write(&self, classes: &Classes, cell: &Cell, class: Class, grad_cam: &Heat, occlusion: &Heat) -> Result<Row> {
        let probability = |class: Class| classes.index(class).map_or(0.0, |at| cell.probabilities[at]);
        let mask = cell.segmented.as_ref().map(|s| s.mask(self.size_px));
        let share = mask.as_ref().map(|m| m.iter().filter(|inside| **inside).count() as f32 / m.len() as f32);
        let row = Row {
            path: cell.path.clone(),
            cell: cell.number,
            box_px: cell.rect.map(Into::into),
            fold: cell.fold,
            truth: cell.truth,
            class: cell.class,
            probability: probability(cell.class),
            explained: class,
            explained_probability: probability(class),
            grad_cam: grad_cam.resized(self.size_px).measured(mask.as_deref(), 0.0),
            occlusion: occlusion.measured(mask.as_deref(), LEAST),
            cell_share: share,
            file: self.folder.join(format!("{}.png", cell.name)),
        };
        self.explanation(&row, cell, grad_cam, occlusion).write(&row.file)?;
        Ok(row)
    }

    fn explanation<'a>(&self, row: &Row, cell: &Cell, grad_cam: &'a Heat, occlusion: &'a Heat) -> Explanation<'a> {
        let percent = |share: f32| format!("{:.1} %", 100.0 * share);
        let within = |measured: &Measured, empty: &str| match (measured.x_px, measured.within_cell) {
            (None, _) => empty.into(),
            (_, Some(share)) => format!("{} of it within the cell", percent(share)),
            (_, None) => "The cell could not be segmented".into(),
        };
        let points = |fall: f32| format!("{:.1} points", 100.0 * fall);
        let mut title = format!("Predicted {}, {}", row.class, percent(row.probability));
        if let Some(truth) = row.truth {
            title += &format!("; labelled {truth}");
        }
        if row.explained != row.class {
            title += &format!("; explained: {}, {}", row.explained, percent(row.explained_probability));
        }
        let number = row.box_px.map_or(String::new(), |_| format!(", cell {}", row.cell));
        let fold = row.fold.map_or(String::new(), |fold| format!(", by the model of fold {fold}"));
        let side = self.size_px as u32;
        let most = occlusion.max().max(LEAST);
        Explanation {
            title,
            subtitle: format!("{}{number}{fold}", row.path),
            image: RgbImage::from_raw(side, side, cell.pixels.clone()).expect("size * size pixels"),
            lines: [
                "The cell as the model sees it".into(),
                match row.cell_share {
                    Some(share) => format!("Outline: the cell, {} of the image", percent(share)),
                    None => String::new(),
                },
            ],
            panels: [
                Panel {
                    heat: grad_cam,
                    lines: [
                        format!("Grad-CAM: evidence for {}", row.explained),
                        within(&row.grad_cam, "No evidence for it"),
                    ],
                    max: grad_cam.max(),
                    max_label: "most".into(),
                },
                Panel {
                    heat: occlusion,
                    lines: [
                        format!("Occlusion: loss of probability of {}", row.explained),
                        within(&row.occlusion, "Less than one point everywhere"),
                    ],
                    max: most,
                    max_label: points(most),
                },
            ],
            cell: cell.segmented.as_ref().map(|s| s.mask(PANEL as usize)),
        }
    }
}
