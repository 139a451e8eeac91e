//! `wbc`: folders of white-blood-cell microscope images → results a haematology researcher can publish.
//!
//! ```text
//! file ─ ingest ─▶ manifest row ─ check ─▶ issue rows
//!                      │
//!                    split ─▶ split row (fold, role)
//!                      │
//!                    preprocess  ─▶ tensor row (u8 pixels, one shard file per N images)
//!                      │
//!        tensor rows + split rows ─ batch ─▶ x [N,H,W,3] f32, y [N] ─ model ─▶ logits [N,5]
//!                      │
//!                    train ─▶ epoch rows, checkpoint      predict ─▶ prediction rows
//!                      │
//!                   evaluate ─▶ metric and interval rows ─ report ─▶ a table cell
//! ```
//!
//! Stages never call each other: they meet in Parquet tables. A module may use those above it, never those below.

// 0: no `wbc` imports
pub mod atomic;
pub mod class;
pub mod context;
pub mod error;
pub mod memory;
pub mod progress;
pub mod rect;
pub mod scores;
pub mod seed;
// 1: tables
pub mod dataset;
pub mod rows;
pub mod schema;
pub mod table;
pub mod workspace;
// 2: data; no dfdx here
pub mod batch;
pub mod cells;
pub mod check;
pub mod decode;
pub mod features;
pub mod fetch;
pub mod ingest;
pub mod preprocess;
pub mod segment;
pub mod split;
pub mod synth;
// 3: learning; the only place dfdx appears
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
pub mod page;
pub mod predict;
pub mod report;
pub mod statistics;
// 5: the program
pub mod bench;
pub mod cmd;
pub mod pipeline;
