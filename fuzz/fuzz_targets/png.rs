#![no_main]

use libfuzzer_sys::fuzz_target;
use wbc::{harness, images};

fuzz_target!(init: harness::start(|| images::seeds("png")), |bytes: &[u8]| images::check("png", bytes));
