//! The data path on drawn cells (JPEG 360 x 361, BMP 720 x 576) in the page cache.

mod common;

use common::{context, drawn};
use divan::counter::ItemsCount;
use wbc::bench::Format;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

/// Walk, header, BLAKE3, Parquet manifest.
#[divan::bench(sample_count = 20)]
fn ingest_jpeg(bencher: divan::Bencher) {
    let drawn = drawn();
    bencher
        .counter(ItemsCount::new(drawn.files(Format::Jpeg)))
        .bench(|| drawn.ingest(Format::Jpeg, &context()).unwrap());
}

/// Ingest, then full decode, hashes, near copies, every check.
#[divan::bench(sample_count = 5)]
fn ingest_and_check_jpeg(bencher: divan::Bencher) {
    let drawn = drawn();
    bencher
        .counter(ItemsCount::new(drawn.files(Format::Jpeg)))
        .bench(|| drawn.check(Format::Jpeg, &context()).unwrap());
}

/// Read, verify, decode, cut 200 x 200, resize to 128 x 128, write shards.
#[divan::bench(sample_count = 10)]
fn preprocess_jpeg(bencher: divan::Bencher) {
    let drawn = drawn();
    let files = drawn.files(Format::Jpeg);
    bencher.counter(ItemsCount::new(files)).bench(|| drawn.preprocess(Format::Jpeg, &context()).unwrap());
}

#[divan::bench(sample_count = 10)]
fn preprocess_bmp(bencher: divan::Bencher) {
    let drawn = drawn();
    let files = drawn.files(Format::Bmp);
    bencher.counter(ItemsCount::new(files)).bench(|| drawn.preprocess(Format::Bmp, &context()).unwrap());
}
