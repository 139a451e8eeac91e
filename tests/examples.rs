//! The programs in `examples/`, on synthetic cells.

use crate::common::Workdir;
use wbc::context::Context;
use wbc::run::NetworkSettings;
use wbc::{preprocess, synth};

#[allow(dead_code)]
#[path = "../examples/predict_images.rs"]
mod predict_images;
#[allow(dead_code)]
#[path = "../examples/read_run.rs"]
mod read_run;
#[allow(dead_code)]
#[path = "../examples/train_wnet.rs"]
mod train_wnet;

#[test]
fn the_examples_train_read_and_predict() {
    let w = Workdir::new("examples");
    let (ws, ctx) = (w.workspace(), Context::silent(0));
    let images = synth::Images::PerClass(vec![8; 5]);
    synth::run(&ws, "d", &synth::Settings { images, ..Default::default() }, &ctx).unwrap();

    let tensors = preprocess::Settings { size_px: 32, ..Default::default() };
    let network = NetworkSettings { epochs: 2, batch: 8, ..Default::default() };
    let results = train_wnet::train(&ws, "d", 2, tensors, network, &ctx).unwrap();
    assert!(results.missing().is_empty() && results.images() == [8; 5]);

    let text = read_run::describe(&ws, "d-example").unwrap();
    assert!(text.starts_with("d-example: wnet on d\nneutrophil: recall "), "{text}");
    assert_eq!(text.matches(": recall ").count(), 5, "{text}");

    let output = w.path("cells.csv");
    let summary = predict_images::predict(&ws, "d-example", &[w.path("data/raw/d/basophil")], &output).unwrap();
    assert_eq!((summary.images, summary.cells, summary.models), (8, 8, 2));
    assert_eq!(std::fs::read_to_string(output).unwrap().lines().count(), 1 + 8);
}
