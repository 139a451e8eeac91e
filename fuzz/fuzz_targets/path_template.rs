#![no_main]

use libfuzzer_sys::fuzz_target;
use wbc::{folders, harness};

fuzz_target!(init: harness::start(folders::template_seeds), |bytes: &[u8]| folders::template(bytes));
