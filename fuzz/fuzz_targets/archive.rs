#![no_main]

use libfuzzer_sys::fuzz_target;
use wbc::{fetch, harness};

fuzz_target!(init: harness::start(fetch::seeds), |bytes: &[u8]| fetch::check(bytes));
