#![no_main]

use libfuzzer_sys::fuzz_target;
use wbc::{harness, images};

fuzz_target!(init: harness::start(|| images::seeds("gif")), |bytes: &[u8]| images::check("gif", bytes));
