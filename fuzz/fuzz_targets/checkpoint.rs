#![no_main]

use libfuzzer_sys::fuzz_target;
use wbc::{harness, runs};

fuzz_target!(init: harness::start(runs::checkpoint_seeds), |bytes: &[u8]| runs::checkpoint(bytes));
