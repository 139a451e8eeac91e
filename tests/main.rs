//! All integration tests, one binary: a module a subject.

mod check;
mod common;
mod compare;
mod house;
mod ingest;
mod init;
mod preprocess;
mod report;
mod split;
mod synth;
mod train;
