//! A run: the models that one experiment trained, with their predictions and metrics, in one folder of the workspace.
//!
//! `train` writes runs; everything that only reads them uses this module.

mod cell_size;
pub mod checkpoint;
pub mod claim;
mod dir;
mod fitted;
pub mod leak;
mod model;
mod model_id;
mod recipe;
mod record;
mod results;
pub mod timings;

pub use cell_size::{CellSizes, Scale, SizedCell};
pub(crate) use dir::visible;
pub use dir::{ExternalDir, RunDir, names};
pub use fitted::FittedModel;
pub(crate) use model::infer;
pub use model::{TrainedModel, finished, is_finished, open};
pub use model_id::{ModelId, ModelRef};
pub use recipe::{LossKind, NetworkSettings, Recipe, Sampling, model_title};
pub use record::{Init, OwnSplit, Record, TrainedImages, list};
pub use results::{HeldOut, Results, epochs, over_images, predictions, rare_classes};
