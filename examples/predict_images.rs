//! Classifies the cells of new images with a trained run and counts them:
//!
//!     cargo run --release --example predict_images -- data pbc-wnet-quick smear/
//!
//! The arguments are the workspace, the run, and images or folders of images. The cells are written to `cells.csv`.

use std::path::{Path, PathBuf};
use wbc::context::Context;
use wbc::error::Result;
use wbc::nn::device::Device;
use wbc::predict::{self, Format, ImageKind, Summary};
use wbc::workspace::Workspace;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [workspace, run, paths @ ..] = &arguments[..] else {
        eprintln!("usage: predict_images WORKSPACE RUN PATH...");
        std::process::exit(2);
    };
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    println!("{}", predict(&Workspace::new(workspace), run, &paths, Path::new("cells.csv"))?);
    Ok(())
}

/// Predicts with the mean of the models of all folds.
pub fn predict(ws: &Workspace, run: &str, paths: &[PathBuf], output: &Path) -> Result<Summary> {
    let ctx = Context::silent(0);
    let images = predict::find(paths, &ctx)?;
    predict::run(ws, &run.parse()?, &images, ImageKind::Auto, (output, Format::Csv), Device::Cpu, &ctx)
}
