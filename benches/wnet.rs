//! W-Net on drawn cells of 128 x 128 px: a training step (forward, backward, Adam, dropout 0.4) and inference.
//! All threads; `RAYON_NUM_THREADS=2` for two.

mod common;

use common::drawn;
use divan::counter::ItemsCount;
use wbc::bench::Trainee;
use wbc::nn::kernel::Vector;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

/// The recipes' batches: the paper's 5, quick's 32.
#[divan::bench(args = [5, 32], sample_count = 40)]
fn train_step(bencher: divan::Bencher, batch: usize) {
    let examples = drawn().batch(batch, 128).unwrap();
    let mut wnet = Trainee::new("wnet", Vector::detect()).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| wnet.step(&examples).unwrap());
}

/// The same in plain Rust: what the vector units bring.
#[divan::bench(args = [5], sample_count = 5)]
fn train_step_portable(bencher: divan::Bencher, batch: usize) {
    let examples = drawn().batch(batch, 128).unwrap();
    let mut wnet = Trainee::new("wnet", Vector::Portable).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| wnet.step(&examples).unwrap());
}

#[divan::bench(args = [64], sample_count = 40)]
fn infer(bencher: divan::Bencher, batch: usize) {
    let examples = drawn().batch(batch, 128).unwrap();
    let wnet = Trainee::new("wnet", Vector::detect()).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| wnet.predict(&examples).unwrap());
}
