//! All integration tests, one binary: a module a subject.

mod common;
mod split;
mod synth;
