//! ResNet50 on synthetic images of 224 x 224 px: a training step (forward and backward pass, SGD) and inference, with
//! the paper's batch size. Uses all cores; set `RAYON_NUM_THREADS=2` for two threads.

mod common;

use common::synthetic_data;
use divan::counter::ItemsCount;
use wbc::bench::{Examples, TimedModel};
use wbc::nn::device::Device;
use wbc::nn::{Precision, Vector};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

fn resnet50(precision: Precision, batch: usize) -> (TimedModel, Examples) {
    let model = TimedModel::new("resnet50", Vector::detect(), precision, Device::Cpu).unwrap();
    (model, synthetic_data().batch(batch, 224).unwrap())
}

fn time_step(bencher: divan::Bencher, precision: Precision, batch: usize) {
    let (mut model, examples) = resnet50(precision, batch);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| model.step(&examples).unwrap());
}

fn time_prediction(bencher: divan::Bencher, precision: Precision, batch: usize) {
    let (model, examples) = resnet50(precision, batch);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| model.predict(&examples).unwrap());
}

#[divan::bench(args = [32], sample_count = 5)]
fn train_step(bencher: divan::Bencher, batch: usize) {
    time_step(bencher, Precision::F32, batch);
}

#[divan::bench(args = [32], sample_count = 5)]
fn train_step_bf16(bencher: divan::Bencher, batch: usize) {
    time_step(bencher, Precision::Bf16, batch);
}

#[divan::bench(args = [32], sample_count = 5)]
fn infer(bencher: divan::Bencher, batch: usize) {
    time_prediction(bencher, Precision::F32, batch);
}

#[divan::bench(args = [32], sample_count = 5)]
fn infer_bf16(bencher: divan::Bencher, batch: usize) {
    time_prediction(bencher, Precision::Bf16, batch);
}
