//! Ingest, check and preprocess on synthetic images (JPEG 360 x 361 px, BMP 720 x 576 px) in the page cache.

mod common;

use common::synthetic_data;
use divan::counter::{BytesCount, ItemsCount};
use wbc::bench::Format;
use wbc::context::Context;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

/// Finds the files, reads their headers, hashes them with BLAKE3 and writes the manifest.
#[divan::bench(sample_count = 20)]
fn ingest_jpeg(bencher: divan::Bencher) {
    let (data, ctx) = (synthetic_data(), Context::silent(0));
    bencher.counter(ItemsCount::new(data.files(Format::Jpeg))).bench(|| data.ingest(Format::Jpeg, &ctx).unwrap());
}

/// Decodes the images, compares them with each other and makes every check.
#[divan::bench(sample_count = 5)]
fn check_jpeg(bencher: divan::Bencher) {
    let (data, ctx) = (synthetic_data(), Context::silent(0));
    bencher
        .counter(ItemsCount::new(data.files(Format::Jpeg)))
        .with_inputs(|| data.ingest(Format::Jpeg, &ctx).unwrap())
        .bench_local_values(|()| data.check(Format::Jpeg, &ctx).unwrap());
}

/// Reads, verifies and decodes the images, cuts 200 x 200 px, resizes them to 128 x 128 px and writes the shards.
#[divan::bench(args = [Format::Jpeg, Format::Bmp], sample_count = 10)]
fn preprocess(bencher: divan::Bencher, format: Format) {
    let (data, ctx) = (synthetic_data(), Context::silent(0));
    bencher.counter(ItemsCount::new(data.files(format))).bench(|| data.preprocess(format, 128, &ctx).unwrap());
}

/// Compares the tables, most of which are tensors of 128 x 128 px, with their checksums, as every command does with
/// those that it reads.
#[divan::bench(sample_count = 20)]
fn verify(bencher: divan::Bencher) {
    let (data, ctx) = (synthetic_data(), Context::silent(0));
    data.preprocess(Format::Jpeg, 128, &ctx).unwrap();
    let bytes = data.verify(&ctx).unwrap();
    bencher.counter(BytesCount::new(bytes)).bench(|| data.verify(&ctx).unwrap());
}
