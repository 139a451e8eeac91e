//! Rows of the tables as structs. A struct that does not match its schema in `schemas/` cannot be written.

use crate::class::Class;
use crate::rect::Rect;
use crate::scores::{Method, Metric};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A row of a table that has one probability per class, in columns `p_<class>` that depend on the classes.
pub trait ClassRow: Serialize + DeserializeOwned {
    /// One value per class, in the order of the run's classes.
    fn probabilities(&self) -> &[f32];

    /// [`ClassRow::probabilities`], to fill.
    fn probabilities_mut(&mut self) -> &mut Vec<f32>;
}

/// A row of `manifest.parquet`: see `schemas/manifest.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ManifestRow {
    /// Unique name of the cell: `<dataset>/<path>`, followed by `#<n>` (from 1) if a frame contains several cells.
    pub image_id: String,
    /// Name of the folder under raw/.
    pub dataset: String,
    /// Image file, relative to `raw/<dataset>/` (in a joint data set to `raw/`), with forward slashes; absolute if a
    /// list gives an absolute path.
    pub path: String,
    /// The data set's own label, as it is spelled there (a folder, a value of a list); null if there is none.
    pub label: Option<String>,
    /// The class that the label stands for; null if none of the data set's classes (such as LISC's mixt).
    pub class: Option<Class>,
    /// Finer label, if the data set has one (PBC: the file-name prefix, such as BNE).
    pub subtype: Option<String>,
    /// The person (or animal) the cell is from; null if the data set does not say.
    pub subject_id: Option<String>,
    /// The slide or smear the cell is from; null if the data set does not say.
    pub slide_id: Option<String>,
    /// Role that the data set gives the image: train, test or validation; null if it gives none.
    pub given_role: Option<String>,
    /// Layout of the data set's files, such as class_folders.
    pub layout: String,
    /// jpeg, png, bmp, tiff, webp or gif, as the file's first bytes say.
    pub format: String,
    /// Width of the image, px.
    pub width_px: u32,
    /// Height of the image, px.
    pub height_px: u32,
    /// Size of the file, bytes.
    pub file_bytes: u64,
    /// BLAKE3 of the file's bytes, 64 hex digits.
    pub content_hash: String,
    /// File of the segmentation mask, relative like path.
    pub mask_path: Option<String>,
    /// Left edge of the box around the cell, px.
    pub box_x_px: Option<u32>,
    /// Top edge of the box, px.
    pub box_y_px: Option<u32>,
    /// Width of the box, px.
    pub box_width_px: Option<u32>,
    /// Height of the box, px.
    pub box_height_px: Option<u32>,
    /// Where the box comes from: mask (an expert's mask), annotation (a box of the data set) or stain (found by wbc
    /// from the colour of the nucleus).
    pub box_source: Option<String>,
    /// The part of the image that preprocess cuts out by default: centre, whole or box; null for rows without a class.
    pub cut: Option<CutRule>,
}

/// The part of an image that is cut out for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutRule {
    /// The central square of 200 px (or as preprocess's settings say): one cell in the middle, with others around it.
    Centre,
    /// The whole image, which one cell fills.
    Whole,
    /// The box around the cell.
    Box,
}

impl CutRule {
    /// The name, as in tables and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Centre => "centre",
            Self::Whole => "whole",
            Self::Box => "box",
        }
    }
}

impl ManifestRow {
    /// The box around the cell, if there is one.
    pub fn cell_box(&self) -> Option<Rect> {
        Some(Rect { x: self.box_x_px?, y: self.box_y_px?, width: self.box_width_px?, height: self.box_height_px? })
    }

    /// Sets the four columns of the box.
    pub fn set_cell_box(&mut self, cell_box: Option<Rect>) {
        (self.box_x_px, self.box_y_px) = (cell_box.map(|b| b.x), cell_box.map(|b| b.y));
        (self.box_width_px, self.box_height_px) = (cell_box.map(|b| b.width), cell_box.map(|b| b.height));
    }
}

/// A row of `checks.parquet`: see `schemas/checks.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckRow {
    /// The cell in the manifest.
    pub image_id: String,
    /// Cells that must stay in one fold (exact copies, near copies, cells of one frame) have the same group_id: the
    /// smallest image_id among them.
    pub group_id: String,
    /// Why later stages do not use the cell: no_class, or the name of the check that reported an error; null if they
    /// use it.
    pub left_out: Option<String>,
    /// 5th percentile of the grey levels, 0 to 255; null if the image cannot be decoded.
    pub grey_p05: Option<u32>,
    /// 95th percentile of the grey levels, 0 to 255; null if the image cannot be decoded.
    pub grey_p95: Option<u32>,
    /// Standard deviation of the grey levels' Laplacian, divided by that of the grey levels; null if the image cannot
    /// be decoded.
    pub sharpness: Option<f64>,
}

/// A row of `copies.parquet`: see `schemas/copies.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyRow {
    /// The first cell in the manifest of the one image.
    pub image_id: String,
    /// The first cell in the manifest of the other image.
    pub copy_id: String,
    /// Angle by which the other image has to be turned clockwise to lie as the first does (after it was mirrored, if it
    /// is), above -180, at most 180, degrees.
    pub angle_deg: f32,
    /// 1 if the other image has to be mirrored left to right, otherwise 0.
    pub mirrored: u32,
    /// Factor by which the other image has to be enlarged.
    pub scale: f32,
    /// How far right of the first image's middle the other's middle lies, px of the first image.
    pub shift_x_px: f32,
    /// How far below the first image's middle the other's middle lies, px of the first image.
    pub shift_y_px: f32,
    /// Share of the smaller image that is also in the other, 0 to 1.
    pub overlap: f32,
    /// Correlation of the aligned images where they overlap, -1 to 1.
    pub correlation: f32,
    /// Number of keypoints that agree on how one image lies in the other; 0 if the images are equal.
    pub keypoints: u32,
}

/// How serious an issue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file or image cannot be used, or its label cannot be trusted.
    Error,
    /// To be inspected.
    Warning,
    /// For information: no finding, does not change the exit status.
    Note,
}

/// A row of `issues.parquet` and `ingest_issues.parquet`: see `schemas/issues.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueRow {
    /// Name of the folder under raw/.
    pub dataset: String,
    /// File or folder, relative to `raw/<dataset>/`; empty if the issue concerns the whole data set.
    pub path: String,
    /// The cell in the manifest, if the issue concerns one.
    pub image_id: Option<String>,
    /// The stage that found it: ingest or check.
    pub stage: String,
    /// Name of the check, such as not_an_image or exact_copy.
    pub check: String,
    /// error (the image is not used), warning (should be inspected) or note (for information).
    pub severity: Severity,
    /// The measured value that the check compared with its limit.
    pub score: Option<f64>,
    /// The other image_id or path, if the issue concerns a pair.
    pub related: Option<String>,
    /// What was expected and what was found.
    pub message: String,
}

/// A row of `epochs.parquet`: see `schemas/epochs.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Fold, from 0.
    pub fold: u32,
    /// Epoch, from 1.
    pub epoch: u32,
    /// Optimiser steps since the start of the fold.
    pub steps: u64,
    /// Training images of the epoch.
    pub images: u64,
    /// Learning rate of the last step of the epoch.
    pub learning_rate: f64,
    /// Mean softmax cross-entropy of the images in the epoch, nats, with augmentation and dropout.
    pub train_loss: f64,
    /// Share of the images classified correctly during the epoch, 0 to 1.
    pub train_accuracy: f64,
}

/// A row of `predictions.parquet`: see `schemas/predictions.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// The cell in the manifest.
    pub image_id: String,
    /// Fold of the model, which was not trained on this image.
    pub fold: u32,
    /// Class according to the data set.
    pub truth: Class,
    /// Probability of each class, 0 to 1, in the order of the run's classes: the columns `p_<class>`.
    #[serde(skip)]
    pub probabilities: Vec<f32>,
}

impl PredictionRow {
    /// A row; `probabilities` has one value per class, in the order of the run's classes.
    pub fn new(image_id: String, fold: u32, truth: Class, probabilities: impl Into<Vec<f32>>) -> Self {
        Self { image_id, fold, truth, probabilities: probabilities.into() }
    }
}

impl ClassRow for PredictionRow {
    fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    fn probabilities_mut(&mut self) -> &mut Vec<f32> {
        &mut self.probabilities
    }
}

/// A row of the predictions for new images: see `schemas/cells.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRow {
    /// The image file.
    pub path: String,
    /// Number of the cell in its image, from 0.
    pub cell: u32,
    /// Left edge of the box around the cell; null if the whole image is one cell, px.
    pub x_px: Option<u32>,
    /// Top edge of the box, px.
    pub y_px: Option<u32>,
    /// Width of the box, px.
    pub width_px: Option<u32>,
    /// Height of the box, px.
    pub height_px: Option<u32>,
    /// The class with the largest probability.
    pub class: Class,
    /// The largest probability. It is calibrated: of cells like the training cells, this share is classified correctly.
    pub confidence: f32,
    /// Share of the run's models that predict this class, 0 to 1.
    pub agreement: f32,
    /// Distance from the training cells. Of unseen cells from the same source, 99 of 100 are closer than 1. Null if the
    /// tensors of the run are not in the workspace.
    pub distance: Option<f32>,
    /// Distance of the image from the training images by colours, size of the nucleus, sharpness and noise. 99 of 100
    /// training images are closer than 1 to others. Null if the tensors of the run are not in the workspace.
    pub appearance: Option<f32>,
    /// Why the class should not be trusted: low confidence (below 0.9), unlike training (`distance` or `appearance`
    /// above 1), no nucleus (none was found, and the run measures cells or cuts them out by it), unfamiliar images (so
    /// many cells of the folder are unlike training that no cell of it can be trusted), separated by commas; null for
    /// cells without a flag.
    pub flag: Option<String>,
    /// The training image that shows the same piece of a slide; null if none is known.
    pub training_image: Option<String>,
    /// Calibrated probability of each class, 0 to 1, in the order of the run's classes: the columns `p_<class>`.
    #[serde(skip)]
    pub probabilities: Vec<f32>,
}

impl CellRow {
    /// Whether the cell is farther from the training cells than 99 of 100 cells from the same source.
    pub fn is_unlike_training(&self) -> bool {
        [self.distance, self.appearance].iter().flatten().any(|distance| *distance > 1.0)
    }
}

impl ClassRow for CellRow {
    fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    fn probabilities_mut(&mut self) -> &mut Vec<f32> {
        &mut self.probabilities
    }
}

/// A row of `metrics.parquet`: see `schemas/metrics.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRow {
    /// Fold, from 0; null for all folds (the mean of their values, of confusion the sum).
    pub fold: Option<u32>,
    /// recall, precision, f1, balanced_accuracy, accuracy or confusion.
    pub metric: Metric,
    /// Class (of confusion: the true class); null for metrics of all classes.
    pub class: Option<Class>,
    /// Predicted class, for confusion; null for other metrics.
    pub predicted: Option<Class>,
    /// The metric, 0 to 1, or for confusion a number of images; null if undefined (no image of the class).
    pub value: Option<f64>,
    /// Number of test images behind the value.
    pub images: u64,
}

/// A row of `intervals.parquet`: see `schemas/intervals.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    /// balanced_accuracy, accuracy or recall.
    pub metric: Metric,
    /// Class of a recall; null for other metrics.
    pub class: Option<Class>,
    /// wilson (Wilson score of a share of images), melded (the exact intervals of all recalls, melded into that of
    /// their mean), corrected_t (corrected t over folds), or, in place of the first two where subjects or slides are
    /// known, subject_bootstrap or slide_bootstrap, and where many images are copies copy_group_bootstrap (expanded
    /// percentile bootstrap of subjects, slides or groups of copies, each with all images, and never narrower than
    /// over images).
    pub method: Method,
    /// Nominal coverage, such as 0.95.
    pub level: f64,
    /// The estimate, 0 to 1: the mean over folds (corrected_t) or the value of all images pooled (all others).
    pub value: f64,
    /// Lower end, 0 to 1.
    pub low: f64,
    /// Upper end, 0 to 1.
    pub high: f64,
    /// Number of test images (wilson, melded), folds (corrected_t), subjects or slides behind the interval.
    pub units: u64,
}
