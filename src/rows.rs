//! Rows of the tables as Rust structs. The schema files rule: a struct that does not fit fails to write.

use crate::class::Class;
use crate::rect::Rect;
use crate::scores::{Method, Metric};
use serde::{Deserialize, Serialize};

/// A row of `manifest.parquet`: see `schemas/manifest.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ManifestRow {
    pub image_id: String,
    pub dataset: String,
    pub path: String,
    pub class: Option<Class>,
    pub subtype: Option<String>,
    pub layout: String,
    pub format: String,
    pub width_px: u32,
    pub height_px: u32,
    pub file_bytes: u64,
    pub content_hash: String,
    pub mask_path: Option<String>,
    pub box_x_px: Option<u32>,
    pub box_y_px: Option<u32>,
    pub box_width_px: Option<u32>,
    pub box_height_px: Option<u32>,
    pub box_source: Option<String>,
}

impl ManifestRow {
    /// The box around the cell, where there is one.
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
    pub image_id: String,
    pub group_id: String,
    pub left_out: Option<String>,
    pub perceptual_hash: Option<u64>,
    pub grey_p05: Option<u32>,
    pub grey_p95: Option<u32>,
    pub sharpness: Option<f64>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file or image cannot be used, or its label cannot be trusted.
    Error,
    /// Look at it.
    Warning,
    /// For information: no finding, does not change the exit status.
    Note,
}

/// A row of `issues.parquet` and `ingest_issues.parquet`: see `schemas/issues.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueRow {
    pub dataset: String,
    pub path: String,
    pub image_id: Option<String>,
    pub stage: String,
    pub check: String,
    pub severity: Severity,
    pub score: Option<f64>,
    pub related: Option<String>,
    pub message: String,
}

/// A row of `epochs.parquet`: see `schemas/epochs.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    pub fold: u32,
    pub epoch: u32,
    pub steps: u64,
    pub images: u64,
    pub learning_rate: f64,
    pub train_loss: f64,
    pub train_accuracy: f64,
}

/// A row of `predictions.parquet`: see `schemas/predictions.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    pub image_id: String,
    pub fold: u32,
    pub truth: Class,
    pub p_neutrophil: f32,
    pub p_eosinophil: f32,
    pub p_basophil: f32,
    pub p_lymphocyte: f32,
    pub p_monocyte: f32,
}

impl PredictionRow {
    /// From the five probabilities in class order.
    pub fn new(image_id: String, fold: u32, truth: Class, p: [f32; Class::COUNT]) -> Self {
        let [p_neutrophil, p_eosinophil, p_basophil, p_lymphocyte, p_monocyte] = p;
        Self { image_id, fold, truth, p_neutrophil, p_eosinophil, p_basophil, p_lymphocyte, p_monocyte }
    }

    /// The class of the largest probability, the first of equal ones.
    pub fn predicted(&self) -> Class {
        Class::likeliest(self.probabilities())
    }

    /// The five probabilities in class order.
    pub fn probabilities(&self) -> [f32; Class::COUNT] {
        [self.p_neutrophil, self.p_eosinophil, self.p_basophil, self.p_lymphocyte, self.p_monocyte]
    }
}

/// A row of what `wbc predict` writes: see `schemas/cells.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRow {
    pub path: String,
    pub cell: u32,
    pub x_px: Option<u32>,
    pub y_px: Option<u32>,
    pub width_px: Option<u32>,
    pub height_px: Option<u32>,
    pub class: Class,
    pub confidence: f32,
    pub agreement: f32,
    pub distance: Option<f32>,
    pub flag: Option<String>,
    pub p_neutrophil: f32,
    pub p_eosinophil: f32,
    pub p_basophil: f32,
    pub p_lymphocyte: f32,
    pub p_monocyte: f32,
}

impl CellRow {
    /// The five probabilities in class order.
    pub fn probabilities(&self) -> [f32; Class::COUNT] {
        [self.p_neutrophil, self.p_eosinophil, self.p_basophil, self.p_lymphocyte, self.p_monocyte]
    }
}

/// A row of `metrics.parquet`: see `schemas/metrics.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricRow {
    pub fold: Option<u32>,
    pub metric: Metric,
    pub class: Option<Class>,
    pub predicted: Option<Class>,
    pub value: Option<f64>,
    pub images: u64,
}

/// A row of `intervals.parquet`: see `schemas/intervals.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    pub metric: Metric,
    pub class: Option<Class>,
    pub method: Method,
    pub level: f64,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub units: u64,
}
