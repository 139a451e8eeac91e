//! Trains W-Net on a data set and prints the accuracy of every fold:
//!
//!     cargo run --release --example train_wnet -- data pbc
//!
//! The first argument is the workspace, the second the data set: a folder of class folders in `data/raw/`.

use wbc::context::Context;
use wbc::error::Result;
use wbc::run::{NetworkSettings, Recipe, Results};
use wbc::scores::Metric;
use wbc::workspace::Workspace;
use wbc::{check, evaluate, ingest, preprocess, split, train};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [workspace, dataset] = &arguments[..] else {
        eprintln!("usage: train_wnet WORKSPACE DATASET");
        std::process::exit(2);
    };
    let tensors = preprocess::Settings { size_px: 128, ..Default::default() };
    let network = NetworkSettings { epochs: 12, batch: 64, ..Default::default() };
    let results = train(&Workspace::new(workspace), dataset, 10, tensors, network, &Context::silent(0))?;
    for fold in 0..results.record.folds {
        let accuracy = results.value(Some(fold), Metric::Accuracy, None).unwrap_or(f64::NAN);
        println!("fold {fold}: accuracy {:.1} %", 100.0 * accuracy);
    }
    Ok(())
}

/// Takes a data set through every stage, and trains one model per fold.
pub fn train(
    ws: &Workspace,
    dataset: &str,
    folds: u32,
    tensors: preprocess::Settings,
    network: NetworkSettings,
    ctx: &Context,
) -> Result<Results> {
    ingest::run(ws, dataset, &ingest::Settings::default(), ctx)?;
    check::run(ws, dataset, &check::Settings::default(), ctx)?;
    split::run(ws, dataset, &split::Settings { folds, ..Default::default() }, ctx)?;
    preprocess::run(ws, dataset, &tensors, ctx)?;
    let run = format!("{dataset}-example");
    train::run(ws, dataset, &Recipe::Network(network), &train::Plan::new(&run, tensors), ctx)?;
    evaluate::run(ws, &run)?;
    Results::load(ws, &run)
}
