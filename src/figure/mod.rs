//! Figures: plots as SVG and heat maps over cells. [`crate::explain`] and [`crate::page`] both draw with
//! it.

pub(crate) mod dataset_plots;
pub(crate) mod explanation;
pub(crate) mod gallery;
pub mod heat;
mod palette;
pub(crate) mod run_plots;
pub(crate) mod svg;
