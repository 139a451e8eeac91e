#![no_main]

use libfuzzer_sys::fuzz_target;
use wbc::{harness, tables};

fuzz_target!(init: harness::start(tables::seeds), |bytes: &[u8]| tables::check(bytes));
