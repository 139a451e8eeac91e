//! From folders of white-blood-cell images to results that a haematology researcher can publish: ingest, check, split,
//! preprocess, train, predict, evaluate, report. It implements W-Net (Jung et al. 2019), ResNet50 and five classical
//! classifiers.
//!
//! Each stage is a function `run` that reads tables of the [`workspace`] and writes tables; a [`context::Context`]
//! carries the seed, the progress and the stop signal. Stages never call each other; the `wbc` program calls them in
//! turn.
//!
//! ```
//! use wbc::context::Context;
//! use wbc::run::{NetworkSettings, Recipe, Results};
//! use wbc::scores::Metric;
//! use wbc::workspace::Workspace;
//! use wbc::{check, evaluate, ingest, preprocess, split, synth, train};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let (ws, ctx) = (Workspace::new(folder.path()), Context::silent(0));
//!
//! // Forty synthetic cells in raw/cells/. Your own images go into raw/<data set>/<class>/.
//! let synthetic = synth::Settings { images: synth::Images::Total(40), ..Default::default() };
//! synth::run(&ws, "cells", &synthetic, &ctx)?;
//!
//! // Which images there are, which are unusable or copies, and which fold each is in.
//! ingest::run(&ws, "cells", &ingest::Settings::default(), &ctx)?;
//! check::run(&ws, "cells", &check::Settings::default(), &ctx)?;
//! split::run(&ws, "cells", &split::Settings { folds: 2, ..Default::default() }, &ctx)?;
//!
//! // Two epochs of W-Net on tensors of 32 x 32 pixels, tested on each fold in turn.
//! let tensors = preprocess::Settings { size_px: 32, ..Default::default() };
//! preprocess::run(&ws, "cells", &tensors, &ctx)?;
//! let recipe = Recipe::Network(NetworkSettings { epochs: 2, batch: 8, ..Default::default() });
//! train::run(&ws, "cells", &recipe, &train::Plan::new("first-run", tensors), &ctx)?;
//!
//! evaluate::run(&ws, "first-run")?;
//! let results = Results::load(&ws, "first-run")?;
//! let accuracy = results.mean(Metric::Accuracy, &[0, 1]).expect("both folds are finished");
//! println!("mean accuracy over {} folds: {:.1} %", results.record.folds, 100.0 * accuracy);
//! # assert!((0.0..=1.0).contains(&accuracy) && results.missing().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! More programs are in `examples/`.
//!
//! # How an image becomes a result
//!
//! ```text
//! file ─ ingest ─▶ manifest row ─ check ─▶ checks row (group, hash), issue rows
//!                      │
//!                    split ─▶ split row (fold, role)
//!                      │
//!                    preprocess ─▶ tensor row (u8 pixels, many per shard file)
//!                      │
//!        tensor rows + split rows ─ batch ─▶ x [N,H,W,3] f32, y [N] ─ model ─▶ logits [N,classes]
//!                      │
//!                    train ─▶ epoch rows, checkpoint, prediction rows
//!                      │
//!                   evaluate ─▶ metric and interval rows ─ report ─▶ tables and pages
//! ```
//!
//! A module uses those of its own layer and of lower layers, which are listed first.

#![warn(missing_docs)]

// 0: the base, which imports nothing of wbc
pub mod atomic;
pub mod class;
pub mod context;
pub mod error;
pub mod guard;
pub mod integrity;
pub mod memory;
pub mod part;
mod png;
pub mod progress;
pub mod rect;
pub mod scores;
pub mod seed;
pub mod spool;
pub mod statistics;
pub mod storage;
pub mod text;
// 1: tables
pub mod dataset;
pub mod rows;
pub mod schema;
pub mod shards;
pub mod table;
pub mod workspace;
// 2: data, without dfdx
pub mod batch;
pub mod cells;
pub mod check;
pub mod copies;
pub mod decode;
pub mod features;
pub mod fetch;
pub mod ingest;
pub mod join;
pub mod preprocess;
pub mod segment;
pub mod split;
pub mod synth;
// 3: learning, the only layer with dfdx
pub mod classical;
pub mod models;
pub mod nn;
pub mod run;
pub mod train;
// 4: results
pub mod compare;
pub mod evaluate;
pub mod explain;
pub mod export;
pub mod figure;
pub mod laboratories;
pub mod page;
pub mod predict;
pub mod report;
pub mod verify;
// 5: the program
pub mod bench;
pub mod cmd;
pub mod jobs;
pub mod pipeline;
