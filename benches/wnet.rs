//! W-Net on synthetic images of 128 x 128 px: a training step (forward and backward pass, Adam, dropout 0.4) and
//! inference. Uses all cores; set `RAYON_NUM_THREADS=2` for two threads.

mod common;

use common::synthetic_data;
use divan::counter::ItemsCount;
use wbc::bench::TimedModel;
use wbc::nn::device::Device;
use wbc::nn::{Precision, Vector};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

fn time_step(bencher: divan::Bencher, vector: Vector, precision: Precision, batch: usize) {
    let examples = synthetic_data().batch(batch, 128).unwrap();
    let mut wnet = TimedModel::new("wnet", vector, precision, Device::Cpu).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| wnet.step(&examples).unwrap());
}

/// The batch sizes of the recipes `paper` and `quick`.
#[divan::bench(args = [5, 32], sample_count = 40)]
fn train_step(bencher: divan::Bencher, batch: usize) {
    time_step(bencher, Vector::detect(), Precision::F32, batch);
}

#[divan::bench(args = [5, 32], sample_count = 40)]
fn train_step_bf16(bencher: divan::Bencher, batch: usize) {
    time_step(bencher, Vector::detect(), Precision::Bf16, batch);
}

/// The same without vector instructions.
#[divan::bench(args = [5], sample_count = 5)]
fn train_step_portable(bencher: divan::Bencher, batch: usize) {
    time_step(bencher, Vector::Portable, Precision::F32, batch);
}

fn time_prediction(bencher: divan::Bencher, precision: Precision, batch: usize) {
    let examples = synthetic_data().batch(batch, 128).unwrap();
    let wnet = TimedModel::new("wnet", Vector::detect(), precision, Device::Cpu).unwrap();
    bencher.counter(ItemsCount::new(batch)).bench_local(|| wnet.predict(&examples).unwrap());
}

#[divan::bench(args = [64], sample_count = 40)]
fn infer(bencher: divan::Bencher, batch: usize) {
    time_prediction(bencher, Precision::F32, batch);
}

#[divan::bench(args = [64], sample_count = 40)]
fn infer_bf16(bencher: divan::Bencher, batch: usize) {
    time_prediction(bencher, Precision::Bf16, batch);
}
