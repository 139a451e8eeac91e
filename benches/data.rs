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

/// Full decode, hashes, near copies, every check.
#[divan::bench(sample_count = 5)]
fn check_jpeg(bencher: divan::Bencher) {
    let drawn = drawn();
    bencher
        .counter(ItemsCount::new(drawn.files(Format::Jpeg)))
        .with_inputs(|| drawn.ingest(Format::Jpeg, &context()).unwrap())
        .bench_local_values(|()| drawn.check(Format::Jpeg, &context()).unwrap());
}

/// Read, verify, decode, cut 200 x 200, resize to 128 x 128, write shards.
#[divan::bench(args = [Format::Jpeg, Format::Bmp], sample_count = 10)]
fn preprocess(bencher: divan::Bencher, format: Format) {
    let drawn = drawn();
    let files = drawn.files(format);
    bencher.counter(ItemsCount::new(files)).bench(|| drawn.preprocess(format, 128, &context()).unwrap());
}
