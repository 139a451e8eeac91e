//! ResNet50 on synthetic images of 224 x 224 px: a training step (forward and backward pass, SGD) and inference, with
//! the paper's batch size. Uses all cores; set `RAYON_NUM_THREADS=2` for two threads.

mod common;

use common::synthetic_data;
use divan::counter::ItemsCount;
use wbc::bench::{Examples, TimedModel};
use wbc::nn::Vector;
use wbc::nn::device::Device;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

fn resnet50(batch: usize) -> (TimedModel, Examples) {
    (TimedModel::new("resnet50", Vector::detect(), Device::Cpu).unwrap(), synthetic_data().batch(batch, 224).unwrap())
}

#[divan::bench(args = [32], sample_count = 5)]
fn train_step(bencher: divan::Bencher, batch: usize) {
    let (mut model, examples) = resnet50(batch);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| model.step(&examples).unwrap());
}

#[divan::bench(args = [32], sample_count = 5)]
fn infer(bencher: divan::Bencher, batch: usize) {
    let (model, examples) = resnet50(batch);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| model.predict(&examples).unwrap());
}
