//! All integration tests, one binary: a module a subject.

mod check;
mod classical;
mod common;
mod features;
mod house;
mod ingest;
mod preprocess;
mod split;
mod synth;
mod train;
