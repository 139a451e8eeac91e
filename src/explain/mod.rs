//! Explain: which features of a cell a classical classifier uses ([`contributions`]), and which parts of its image the
//! networks of a run use. Two independent maps per cell: Grad-CAM, from the
//! gradients of the last convolutional layer, and occlusion, from the effect of covering a part of the image.
//!
//! The maps show where, not why. The share of a map within the segmented cell tells whether a model uses the cell or
//! its surroundings. Where the two maps differ, occlusion is what the model does: Grad-CAM averages over places, as
//! ResNet50 itself does, whereas W-Net's hidden layer has separate weights for each place.

use crate::batch::Tensors;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::figure::explanation;
use crate::nn::device::Device;
use crate::predict::{Cutter, Ensemble, Models, Prepare, Reader};
use crate::rows::PredictionRow;
use crate::run::{self, ModelId, ModelRef, Record};
use crate::workspace::Workspace;
use image::RgbImage;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

mod cells;
pub mod contributions;
mod explainer;
mod grad_cam;
mod occlusion;
mod request;
mod summary;

use cells::Cell;
use explainer::Explainer;
use occlusion::Patch;
pub use request::{Cells, Settings, Which};
pub use summary::{Mean, Row, Summary, Within};

/// Explains `cells` by the models of a run (or by one of them), and writes one PNG per cell into `folder`.
///
/// # Errors
/// [`Error::Missing`] where the run has no such finished model, [`Error::Setting`] where it is not a network or a
/// setting is out of range, [`Error::Data`] where no image could be read or the run's tensors have changed,
/// [`Error::Interrupted`].
pub fn run(
    ws: &Workspace,
    source: &ModelRef,
    cells: &Cells,
    settings: &Settings,
    folder: &Path,
    device: Device,
    ctx: &Context,
) -> Result<Summary> {
    let record = Record::read(ws, &source.run)?;
    let cut = record.network_preprocess(&source.run)?;
    let size_px = cut.size_px as usize;
    let patch = Patch::new(settings.patch_px, settings.stride_px, size_px)?;
    let class = settings.class.as_deref().map(|name| class(&record.classes, name)).transpose()?;
    let explainer = Explainer { class, patch, size_px, folder, ctx };
    let mut reader = Reader::default();
    let (models, rows) = match cells {
        Cells::New(images, kind) => {
            let ensemble = Ensemble::open_without_distances(ws, source, device)?;
            let Models::Networks(models) = &ensemble.models else {
                return Err(Error::setting("run", "a run of a network", &source.run));
            };
            let prepare = Prepare::of(&record, &source.run)?;
            let cutter = Cutter::new(*kind, &prepare, &record);
            reader.unreadable.clone_from(&images.problems);
            reader.unreadable.extend(images.masks.iter().map(|mask| format!("{}: a mask", mask.display())));
            let cells = cells::of_images(&ensemble, &images.files, &cutter, &mut reader, ctx)?;
            let task = ctx.progress.task("explain", Some(cells.len() as u64), "cells");
            let rows = explainer.explain(models, &cells.iter().collect::<Vec<_>>(), &task)?;
            (models.len(), rows)
        }
        Cells::Gallery(which) => {
            let cells = cells::of_gallery(ws, source, *which)?;
            let folds: BTreeSet<u32> = cells.iter().filter_map(|c| c.fold).collect();
            let mut rows = vec![None; cells.len()];
            let task = ctx.progress.task("explain", Some(cells.len() as u64), "cells");
            for fold in &folds {
                let model = run::open(ws, &source.run, ModelId::Fold(*fold), device)?;
                let (places, cells): (Vec<usize>, Vec<&Cell>) =
                    cells.iter().enumerate().filter(|(_, c)| c.fold == Some(*fold)).unzip();
                let explained = explainer.explain(&[model], &cells, &task)?;
                places.into_iter().zip(explained).for_each(|(place, row)| rows[place] = Some(row));
            }
            (folds.len(), rows.into_iter().flatten().collect())
        }
    };
    Ok(Summary {
        run: source.run.clone(),
        classes: record.classes.clone(),
        models,
        size_px: cut.size_px,
        patch_px: patch.side_px,
        stride_px: patch.stride_px,
        within_cell: Within::of(&rows),
        cells: rows,
        empty: reader.empty,
        unreadable: reader.unreadable,
        folder: folder.into(),
    })
}

/// The class of that name, in upper or lower case.
fn class(classes: &Classes, name: &str) -> Result<Class> {
    let class = classes.iter().find(|class| class.name().to_lowercase() == name.to_lowercase());
    class.ok_or_else(|| Error::setting("class", format!("one of: {classes}"), name))
}

/// Grad-CAM maps of test cells for their predicted classes, each by its fold's model, over the image in grey; by
/// `image_id`. Cells whose model or tensor is missing are left out.
///
/// # Errors
/// [`Error::Compute`] where the device is out of memory.
pub fn overlays(
    ws: &Workspace,
    run: &str,
    tensors: &Tensors,
    rows: &[&PredictionRow],
) -> Result<HashMap<String, RgbImage>> {
    let mut by_fold: BTreeMap<u32, Vec<(&PredictionRow, usize)>> = BTreeMap::new();
    for row in rows {
        by_fold.entry(row.fold).or_default().extend(tensors.row(&row.image_id).map(|at| (*row, at)));
    }
    let mut overlays = HashMap::new();
    for (fold, cells) in by_fold {
        let model = match run::open(ws, run, ModelId::Fold(fold), Device::Cpu) {
            Err(Error::Missing { .. }) => continue,
            model => model?,
        };
        let places: Vec<usize> = cells.iter().map(|c| c.1).collect();
        let classes: Vec<Class> = cells.iter().map(|c| model.classes().likeliest(&c.0.probabilities)).collect();
        for ((row, at), heat) in cells.iter().zip(grad_cam::maps(&[model], tensors, &places, &classes)?) {
            let side = tensors.size_px as u32;
            let image = RgbImage::from_raw(side, side, tensors.pixels(*at).to_vec()).expect("side * side pixels");
            overlays.insert(row.image_id.clone(), explanation::overlay(&image, &heat, heat.max()));
        }
    }
    Ok(overlays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::heat::Measured;
    use crate::models::{self, Spec};
    use crate::run::checkpoint::Meta;
    use crate::run::{NetworkSettings, TrainedModel};

    const SIZE: usize = 32;

    /// A W-Net that predicts basophil for images that are bright at those places (of 4 x 4, row by row) where `reads`
    /// is true.
    fn bright(reads: impl Fn(usize) -> bool) -> TrainedModel {
        let wnet = models::find("wnet").unwrap();
        let spec = Spec { size_px: SIZE, dropout: 0.0, ..wnet.default_spec() };
        let mut model = wnet.build(&spec, Device::Cpu).unwrap();
        let mut weights = |name: &str, shape: &[usize]| {
            let mut values = vec![0.0; shape.iter().product()];
            match *shape {
                // Only the centre of each 3 x 3 filter: from all colours, or from the first channel, to the first.
                [_, _, c_in, c_out] => {
                    let from = if c_in == 3 { 3 } else { 1 };
                    (0..from).for_each(|c| values[(4 * c_in + c) * c_out] = 1.0 / from as f32);
                }
                [inputs, outputs] if name == "fc1.weight" => {
                    (0..inputs / 64).filter(|i| reads(*i)).for_each(|i| values[i * 64 * outputs] = 0.7);
                }
                // Basophil is the third class.
                [_, _] => values[2] = 1.0,
                _ => {}
            }
            Ok(values)
        };
        model.load(false, &mut weights).unwrap();
        let record = serde_json::json!({"version": Record::VERSION, "dataset": "d", "classes": Classes::wbc5(),
            "model": "wnet", "pipeline": "quick",
            "seed": 0, "folds": 2, "recipe": {}, "inputs": {}});
        let normalise =
            serde_json::json!({"kind": "unit", "mean": [0.0, 0.0, 0.0], "deviation": [255.0, 255.0, 255.0]});
        let meta = serde_json::json!({"run": "", "model": "wnet", "classes": Classes::wbc5(),
            "size_px": SIZE, "id": 0, "epoch": 1, "finished": true, "normalise": normalise, "epochs": []});
        TrainedModel {
            record: serde_json::from_value(record).unwrap(),
            settings: NetworkSettings::default(),
            meta: serde_json::from_value::<Meta>(meta).unwrap(),
            model,
        }
    }

    fn image(grey: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..SIZE * SIZE).flat_map(|i| [grey(i % SIZE, i / SIZE); 3]).collect()
    }

    fn occluded(model: TrainedModel, image: &[u8]) -> Measured {
        let patch = Patch::new(Some(8), Some(2), SIZE).unwrap();
        occlusion::map(&[model], image, SIZE, Class::BASOPHIL, patch).unwrap().measured(None, occlusion::LEAST)
    }

    /// Bright in the upper right corner: in a mirrored or transposed map it would lie in another.
    #[test]
    fn both_maps_have_the_images_orientation() {
        let marked = image(|x, y| if x >= 28 && (1..8).contains(&y) { 255 } else { 30 });
        let tensors = Tensors::from_pixels(SIZE, marked.clone());
        let map = grad_cam::maps(&[bright(|_| true)], &tensors, &[0], &[Class::BASOPHIL]).unwrap().remove(0);
        assert_eq!(map.side, 8);
        let map = map.resized(SIZE).measured(None, 0.0);
        for measured in [map, occluded(bright(|_| true), &marked)] {
            assert!(measured.x_px.unwrap() >= 25 && measured.y_px.unwrap() < 8, "{measured:?}");
        }
        // A class without evidence has no map.
        let other = grad_cam::maps(&[bright(|_| true)], &tensors, &[0], &[Class::MONOCYTE]).unwrap().remove(0);
        assert_eq!(other.measured(None, 0.0).x_px, None);
    }

    /// Stripes everywhere, of which the model reads only one corner.
    #[test]
    fn occlusion_finds_the_place_that_the_model_reads() {
        let striped = image(|x, _| if x % 2 == 0 { 255 } else { 20 });
        for (place, left, top) in [(3, false, true), (12, true, false)] {
            let measured = occluded(bright(|i| i == place), &striped);
            let (x, y) = (measured.x_px.unwrap(), measured.y_px.unwrap());
            assert!((x < 8, x >= 24) == (left, !left) && (y < 8, y >= 24) == (top, !top), "{measured:?}");
        }
    }
}
