//! `timings.csv`: how long each epoch took. Times differ from run to run, so they are kept apart from the results.

use super::dir::RunDir;
use super::model_id::ModelId;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::table;
use std::io::Write;

const HEADER: &str = "fold,epoch,images,elapsed_s,images_per_s,device";

/// Appends a line.
///
/// # Errors
/// [`Error::Io`].
pub fn append(dir: &RunDir, id: ModelId, epoch: u32, images: usize, elapsed_s: f64, device: Device) -> Result<()> {
    let path = dir.timings(id);
    let new = !path.exists();
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path, "open"))?;
    let head = if new { format!("{HEADER}\n") } else { String::new() };
    let rate = images as f64 / elapsed_s;
    writeln!(file, "{head}{id},{epoch},{images},{elapsed_s:.3},{rate:.1},{device}").map_err(Error::io(&path, "write"))
}

/// The seconds of all epochs of the finished folds together; 0 for a run without times.
///
/// # Errors
/// [`Error::Io`] where a file is there and cannot be read.
pub fn seconds(dir: &RunDir, folds: u32) -> Result<f64> {
    let of_epochs = |id| Ok(epochs(dir, id)?.into_iter().map(|(_, seconds)| seconds).sum::<f64>());
    (0..folds).map(ModelId::Fold).map(of_epochs).sum()
}

/// The number and the seconds of each epoch of a model, in the order in which they were trained.
///
/// # Errors
/// [`Error::Io`] where the file is there and cannot be read.
pub fn epochs(dir: &RunDir, id: ModelId) -> Result<Vec<(u32, f64)>> {
    let path = dir.timings(id);
    if !table::exists(&path)? {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let column = |name: &str| HEADER.split(',').position(|column| column == name).expect("the header has the column");
    let (epoch, elapsed) = (column("epoch"), column("elapsed_s"));
    let row = |line: &str| {
        let values: Vec<&str> = line.split(',').collect();
        Some((values.get(epoch)?.parse().ok()?, values.get(elapsed)?.parse().ok()?))
    };
    Ok(text.lines().skip(1).filter_map(row).collect())
}
