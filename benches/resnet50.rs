//! ResNet50 on drawn cells of 224 x 224 px: a training step (forward, backward, SGD) and inference, in its paper's batches.
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

#[divan::bench(args = [32], sample_count = 5)]
fn train_step(bencher: divan::Bencher, batch: usize) {
    let examples = drawn().batch(batch, 224).unwrap();
    let mut resnet = Trainee::new("resnet50", Vector::detect()).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| resnet.step(&examples).unwrap());
}

#[divan::bench(args = [32], sample_count = 5)]
fn infer(bencher: divan::Bencher, batch: usize) {
    let examples = drawn().batch(batch, 224).unwrap();
    let resnet = Trainee::new("resnet50", Vector::detect()).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| resnet.predict(&examples).unwrap());
}
