//! All integration tests in one binary, to link only once. One module per subject.

mod check;
mod classical;
mod common;
mod compare;
mod docs;
mod doctor;
mod examples;
mod explain;
mod export;
mod features;
mod fetch;
mod house;
mod ingest;
mod init;
mod inspect;
mod interop;
mod page;
mod predict;
mod preprocess;
mod report;
mod sources;
mod split;
mod synth;
mod train;
mod validate;
