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
    let path = dir.timings();
    let new = !path.exists();
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path, "open"))?;
    let head = if new { format!("{HEADER}\n") } else { String::new() };
    let rate = images as f64 / elapsed_s;
    writeln!(file, "{head}{id},{epoch},{images},{elapsed_s:.3},{rate:.1},{device}").map_err(Error::io(&path, "write"))
}

/// The seconds of all epochs together; 0 for a run without times.
///
/// # Errors
/// [`Error::Io`] where the file is there and cannot be read.
pub fn seconds(dir: &RunDir) -> Result<f64> {
    let path = dir.timings();
    if !table::exists(&path)? {
        return Ok(0.0);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let column = HEADER.split(',').position(|name| name == "elapsed_s").expect("the header has the column");
    let seconds = text.lines().skip(1).filter_map(|line| line.split(',').nth(column)?.parse::<f64>().ok());
    Ok(seconds.sum())
}
