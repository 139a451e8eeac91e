//! Prints the recall of every class of a finished run, with confidence intervals where there are any, and lists the
//! images that it got wrong:
//!
//!     cargo run --release --example read_run -- data pbc-wnet-quick

use wbc::error::Result;
use wbc::run::{self, Results};
use wbc::scores::{Method, Metric};
use wbc::workspace::Workspace;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [workspace, run] = &arguments[..] else {
        eprintln!("usage: read_run WORKSPACE RUN");
        std::process::exit(2);
    };
    print!("{}", describe(&Workspace::new(workspace), run)?);
    Ok(())
}

/// The lines that the program prints.
pub fn describe(ws: &Workspace, run: &str) -> Result<String> {
    let results = Results::load(ws, run)?;
    let mut text = format!("{}: {} on {}\n", results.name, results.record.model, results.record.dataset);
    let classes = results.classes();
    for class in classes.iter() {
        let Some(recall) = results.value(None, Metric::Recall, Some(class)) else { continue };
        text += &format!("{class}: recall {:.1} %", 100.0 * recall);
        if let Some(interval) = results.interval(Metric::Recall, Some(class), Method::Wilson) {
            text += &format!(", 95 % interval {:.1} to {:.1} %", 100.0 * interval.low, 100.0 * interval.high);
        }
        text += "\n";
    }
    for row in run::predictions(ws, run)? {
        let predicted = classes.likeliest(&row.probabilities);
        if predicted != row.truth {
            text += &format!("{}: {} predicted as {predicted}\n", row.image_id, row.truth);
        }
    }
    Ok(text)
}
