//! The modules of wbc that read files, compiled with the instrumentation of the fuzzer, and what each target tests.
//!
//! They are compiled here from their sources, not as the library `wbc`: so the build does without the slowest
//! dependencies, and only wbc's own code has the checks of a debug build.

#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../src/atomic.rs"]
pub mod atomic;
#[path = "../../src/cells.rs"]
pub mod cells;
#[path = "../../src/class/mod.rs"]
pub mod class;
#[path = "../../src/context.rs"]
pub mod context;
#[path = "../../src/dataset.rs"]
pub mod dataset;
#[path = "../../src/decode/mod.rs"]
pub mod decode;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/guard.rs"]
pub mod guard;
#[path = "../../src/ingest/mod.rs"]
pub mod ingest;
#[path = "../../src/integrity.rs"]
pub mod integrity;
#[path = "../../src/part.rs"]
pub mod part;
#[path = "../../src/progress.rs"]
pub mod progress;
#[path = "../../src/rect.rs"]
pub mod rect;
#[path = "../../src/rows.rs"]
pub mod rows;
#[path = "../../src/schema.rs"]
pub mod schema;
#[path = "../../src/scores.rs"]
pub mod scores;
#[path = "../../src/seed.rs"]
pub mod seed;
#[path = "../../src/segment/mod.rs"]
pub mod segment;
#[path = "../../src/shards.rs"]
pub mod shards;
#[path = "../../src/storage.rs"]
pub mod storage;
#[path = "../../src/table.rs"]
pub mod table;
#[path = "../../src/text.rs"]
pub mod text;
#[path = "../../src/workspace.rs"]
pub mod workspace;

// Only for what reads runs and pipelines.
#[cfg(feature = "runs")]
#[path = "../../src/batch.rs"]
pub mod batch;
#[cfg(feature = "runs")]
#[path = "../../src/check/mod.rs"]
pub mod check;
#[cfg(feature = "runs")]
#[path = "../../src/classical/mod.rs"]
pub mod classical;
#[cfg(feature = "runs")]
#[path = "../../src/copies/mod.rs"]
pub mod copies;
#[cfg(feature = "runs")]
#[path = "../../src/features/mod.rs"]
pub mod features;
#[cfg(feature = "runs")]
#[path = "../../src/jobs/mod.rs"]
pub mod jobs;
#[cfg(feature = "runs")]
#[path = "../../src/join.rs"]
pub mod join;
#[cfg(feature = "runs")]
#[path = "../../src/models/mod.rs"]
pub mod models;
#[cfg(feature = "runs")]
#[path = "../../src/nn/mod.rs"]
pub mod nn;
#[cfg(feature = "runs")]
#[path = "../../src/pipeline.rs"]
pub mod pipeline;
#[cfg(feature = "runs")]
#[path = "../../src/png.rs"]
mod png;
#[cfg(feature = "runs")]
#[path = "../../src/preprocess/mod.rs"]
pub mod preprocess;
#[cfg(feature = "runs")]
#[path = "../../src/run/mod.rs"]
pub mod run;
#[cfg(feature = "runs")]
#[path = "../../src/split/mod.rs"]
pub mod split;

// The targets.
pub mod fetch;
pub mod folders;
pub mod harness;
pub mod images;
pub mod libjpeg;
#[cfg(feature = "runs")]
pub mod runs;
pub mod tables;
