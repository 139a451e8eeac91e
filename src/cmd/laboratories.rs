//! `wbc laboratories`: trains on each of several data sets, and on all but one, and tests on each.

use super::terminal::say;
use super::train::{Chosen, joint, train_dataset};
use super::{Globals, Outcome};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::laboratories::{self, Field, Matrix, Trained};
use crate::page;
use crate::pipeline::Pipeline;
use crate::predict::external;
use crate::report::{self, Sheet};
use crate::run::{ModelId, ModelRef};
use crate::split;
use crate::train::Target;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  wbc laboratories --datasets jtsc,lisc-cells,pbc --pipeline robust
  wbc laboratories --datasets jtsc,pbc --fold 0     # one fold of each, for a first look";

/// Tests how models do in laboratories that they were not trained in. Each data set stands for a laboratory.
///
/// Trains, with the pipeline's recipe, a model on each data set alone, on all but each, and on all together, and tests
/// each on the images of every data set that it was not trained on; where a data set is among those trained on, by
/// folds. Each is a run of its own, so that the same command resumes after an interruption, and `wbc predict`,
/// `wbc report` and `wbc compare` can use them.
///
/// Writes reports/laboratories.html, with the matrix as a heat map, and the table as Markdown, CSV and LaTeX.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The data sets, at least two
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', required = true, conflicts_with = "dataset")]
    datasets: Vec<String>,
    /// Where a data set is among those trained on, train and test only this fold, from 0 (can be repeated)
    #[arg(long, value_name = "N")]
    fold: Vec<u32>,
    /// Folder for the page and the tables
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

/// The matrix and where it was written.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    matrix: Matrix,
    files: Vec<PathBuf>,
    page: PathBuf,
}

/// What all trainings have in common.
struct Work<'a> {
    globals: &'a Globals,
    ws: Workspace,
    ctx: Context<'a>,
    names: Vec<String>,
    folds: Target,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let pipeline = globals.pipeline()?;
    pipeline.validate()?;
    let names: BTreeSet<String> = args.datasets.iter().cloned().collect();
    if names.len() < 2 {
        return Err(Error::setting("datasets", "at least two different data sets", args.datasets.join(",")).into());
    }
    let progress = globals.progress();
    let folds = if args.fold.is_empty() { Target::EveryFold } else { Target::Folds(args.fold) };
    let ctx = globals.context(pipeline.seed, &progress);
    let work = Work { globals, ws: globals.workspace(), ctx, names: names.into_iter().collect(), folds };
    let present = work.ws.ingested_datasets()?;
    for name in &work.names {
        work.ws.choose(Some(name), &present)?;
        split::read(&work.ws, name)?;
    }
    let matrix =
        Matrix { pipeline: pipeline.name.clone(), laboratories: work.names.clone(), fields: work.fields(&pipeline)? };
    let sheet: Sheet = matrix.sheet();
    let files = report::write(&args.reports, "laboratories", std::slice::from_ref(&sheet))?;
    let path = args.reports.join("laboratories.html");
    page::laboratories::write(&matrix, &sheet, &path)?;
    let written: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let text = format!("{}\nwritten: {}\npage: {}", sheet.text(false), written.join(", "), path.display());
    globals.print(&Report { matrix, files, page: path }, text)?;
    Ok(Outcome::Done)
}

impl Work<'_> {
    fn fields(&self, pipeline: &Pipeline) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        for name in &self.names {
            let trained = || Trained::One(name.clone());
            let run = self.train(name, pipeline, self.folds.clone())?;
            fields.push(laboratories::of_folds(&self.ws, trained(), &run, name)?);
            let run = self.train(name, pipeline, Target::AllImages)?;
            for tested in self.names.iter().filter(|other| *other != name) {
                fields.push(self.validated(trained(), &run, tested)?);
            }
        }
        // With two laboratories, all but one are the other.
        for tested in self.names.iter().filter(|_| self.names.len() > 2) {
            let others: Vec<String> = self.names.iter().filter(|name| *name != tested).cloned().collect();
            let mut pipeline = pipeline.clone();
            let dataset = joint(&self.ws, &others, &mut pipeline, &self.ctx)?;
            let run = self.train(&dataset, &pipeline, Target::AllImages)?;
            fields.push(self.validated(Trained::Others, &run, tested)?);
        }
        let mut pipeline = pipeline.clone();
        let dataset = joint(&self.ws, &self.names, &mut pipeline, &self.ctx)?;
        let run = self.train(&dataset, &pipeline, self.folds.clone())?;
        for tested in &self.names {
            fields.push(laboratories::of_folds(&self.ws, Trained::Together, &run, tested)?);
        }
        Ok(fields)
    }

    /// Trains what is missing of a run, and returns its name.
    fn train(&self, dataset: &str, pipeline: &Pipeline, target: Target) -> Result<String> {
        let chosen = Chosen { target, ..Chosen::default() };
        let report = train_dataset(self.globals, dataset, pipeline.clone(), chosen, &self.ctx)?;
        if !report.train.trained.is_empty() {
            say(format_args!("{}", report.train));
        }
        Ok(report.train.run)
    }

    /// The field of a run's model of all images, validated where that has not been done.
    fn validated(&self, trained: Trained, run: &str, tested: &str) -> Result<Field> {
        let source = ModelRef { run: run.into(), model: Some(ModelId::All) };
        let validation = match external::read_current(&self.ws, &source, tested)? {
            Some(validation) => validation,
            None => {
                let summary = external::run(&self.ws, &source, tested, self.globals.device, &self.ctx)?;
                summary.coverage.notes(tested).iter().for_each(|note| say(format_args!("{run} on {tested}: {note}")));
                external::read(&self.ws, &source, tested)?
            }
        };
        laboratories::of_validation(&self.ws, trained, run, &validation)
    }
}
