//! `wbc run`: the full pipeline on one data set, from images to tables. Stages that are up to date are skipped.

use super::terminal::say;
use super::train::{LogFormat, train_and_evaluate};
use super::{Globals, Outcome, report};
use crate::context::Context;
use crate::pipeline::Pipeline;
use crate::report::{Request, TABLES};
use crate::run::Recipe;
use crate::schema::SPLITS;
use crate::train::{Log, Plan};
use crate::{check, features, ingest, preprocess, split, table};
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc run quick                               # with the default settings
  wbc run mine.toml --dataset pbc --log csv   # with a pipeline file; writes curves.csv";

/// Runs ingest, check, split, preprocess (for a classical model: features), train and report on one data set, with the
/// settings of a pipeline file. Stages that are up to date are skipped, with a message. A data set that was ingested
/// before is read as it was then where neither the pipeline nor --classes says otherwise.
///
/// Problems in the data do not stop the run; the exit status is then 1.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// A pipeline file, or the name of a built-in pipeline [default: that of --pipeline]
    #[arg(value_name = "PIPELINE")]
    file: Option<String>,
    /// Classes: wbc5, pbc8, all, a list (blast,normal), or a .toml file; as of `wbc ingest`
    #[arg(long, value_name = "SET", env = "WBC_CLASSES")]
    classes: Option<ingest::Set>,
    /// Name of the run [default: as of `wbc train`]
    #[arg(long, value_name = "NAME", env = "WBC_RUN")]
    run: Option<String>,
    /// Delete an earlier run of the same name with other settings or data
    #[arg(long)]
    restart: bool,
    /// Also write learning curves with every checkpoint, in this format (repeatable)
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',', env = "WBC_LOG")]
    log: Vec<LogFormat>,
    /// Folder for the tables and pages
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

/// The result of one stage.
#[derive(Serialize)]
pub(super) struct Stage {
    stage: &'static str,
    up_to_date: bool,
    /// Whether it reports something that was left out or needs attention.
    has_findings: bool,
    elapsed_s: f64,
    summary: serde_json::Value,
}

/// The result of the full pipeline.
#[derive(Serialize)]
pub(super) struct Report {
    pub dataset: String,
    pub run: String,
    stages: Vec<Stage>,
    tables: Vec<report::Written>,
    /// The HTML page of the run.
    page: PathBuf,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tables: Vec<String> = self.tables.iter().map(ToString::to_string).collect();
        write!(f, "{}\n\npage: {}", tables.join("\n\n"), self.page.display())?;
        let with_findings: Vec<&str> = self.stages.iter().filter(|s| s.has_findings).map(|s| s.stage).collect();
        match with_findings.is_empty() {
            true => Ok(()),
            false => write!(f, "\nfindings of {}: see above", crate::text::listed(with_findings)),
        }
    }
}

impl Report {
    /// Whether a stage reports something that was left out or needs attention.
    fn has_findings(&self) -> bool {
        self.stages.iter().any(|stage| stage.has_findings)
    }
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let mut globals = globals.clone();
    globals.pipeline = args.file.map_or(globals.pipeline, |file| vec![file]);
    let mut pipeline = globals.pipeline()?;
    pipeline.classes.set = args.classes.or(pipeline.classes.set);
    let ws = globals.workspace();
    let dataset = ws.choose(globals.dataset.as_deref().or(pipeline.dataset.as_deref()), &ws.raw_datasets()?)?;
    let own = pipeline.ingest();
    if let Some(earlier) = ingest::settings_of(&ws, &dataset) {
        pipeline.set_ingest(own.clone().or(&earlier));
        let kept = pipeline.ingest().chosen().into_iter().filter(|(key, value)| own.chosen().get(key) != Some(value));
        let kept: Vec<String> = kept.map(|(key, value)| format!("{key} = {value}")).collect();
        if !kept.is_empty() {
            say(format_args!("ingest: as {dataset} was ingested before, with {}", kept.join(", ")));
        }
    }
    let report = full_pipeline(&globals, &pipeline, &dataset, args.run, args.log, args.restart, &args.reports)?;
    globals.print(&report, &report)?;
    Ok(if report.has_findings() { Outcome::Findings } else { Outcome::Done })
}

/// Runs every stage on one data set. Prints the summary of each on stderr.
pub(super) fn full_pipeline(
    globals: &Globals,
    pipeline: &Pipeline,
    dataset: &str,
    run: Option<String>,
    logs: Vec<LogFormat>,
    restart: bool,
    reports: &Path,
) -> anyhow::Result<Report> {
    pipeline.validate()?;
    let ws = &globals.workspace();
    let progress = globals.progress();
    let ctx: &Context = &globals.context(pipeline.seed, &progress);
    let run = run.map_or_else(|| globals.run_name(dataset, pipeline), Ok)?;
    let plan = Plan {
        pipeline: pipeline.name.clone(),
        device: globals.device,
        logs: logs.into_iter().map(Log::from).collect(),
        restart,
        pipeline_file: Some(pipeline.to_toml()?),
        ..Plan::new(&run, pipeline.preprocess.clone())
    };
    plan.suits(&pipeline.train)?;
    let mut stages = Stages(Vec::new());
    stages.run("ingest", || {
        let summary = ingest::run(ws, dataset, &pipeline.ingest(), ctx)?;
        Ok((summary.up_to_date, summary.findings > 0, summary))
    })?;
    stages.run("check", || {
        let summary = check::run(ws, dataset, &pipeline.check, ctx)?;
        Ok((summary.up_to_date, summary.findings > 0, summary))
    })?;
    let splits = ws.splits(dataset);
    let up_to_date = table::is_current(&splits, &SPLITS, &split::provenance(ws, dataset, &pipeline.split, ctx.seed)?);
    let earlier = table::provenance(&splits, &SPLITS).ok();
    let earlier = earlier.and_then(|made| serde_json::from_value::<split::Settings>(made.settings).ok());
    stages.run("split", || {
        // Reads no pixels and writes the same bytes again, so that it can tell its warnings every time.
        let mut summary = split::run(ws, dataset, &pipeline.split, ctx)?;
        if let Some(earlier) = earlier.filter(|earlier| *earlier != pipeline.split) {
            summary.warnings.insert(0, format!("the split had {earlier}; the pipeline has {}", pipeline.split));
        }
        Ok((up_to_date, summary.has_findings(), summary))
    })?;
    match &pipeline.train {
        Recipe::Network(_) => stages.run("preprocess", || {
            let summary = preprocess::run(ws, dataset, &pipeline.preprocess, ctx)?;
            Ok((summary.up_to_date, false, summary))
        })?,
        Recipe::Classical(_) => stages.run("features", || {
            let summary = features::run(ws, dataset, &pipeline.features, ctx)?;
            Ok((summary.up_to_date, false, summary))
        })?,
    }
    stages.run("train", || {
        let report = train_and_evaluate(ws, dataset, &pipeline.train, &plan, ctx)?;
        Ok((report.train.trained.is_empty(), false, report))
    })?;
    let request = Request {
        dataset: Some(dataset.into()),
        run: Some(run.clone()),
        pipeline: pipeline.name.clone(),
        own_table_only: true,
    };
    // The tables of this data set and this run. A model without a table of its own appears in Table 1.
    let (studies, others): (Vec<_>, Vec<_>) = TABLES.into_iter().partition(|table| table.number() == 1);
    let make = |tables| report::write_all(tables, globals, &request, reports);
    let mut tables: Vec<_> = make(others)?.into_iter().filter_map(report::Entry::into_written).collect();
    if tables.iter().all(|table| table.sheet.run.is_none()) {
        tables.extend(make(studies)?.into_iter().filter_map(report::Entry::into_written));
    }
    let sheets: Vec<_> = tables.iter().map(|table| table.sheet.clone()).collect();
    let page = report::write_page(globals, &run, &sheets, reports)?;
    Ok(Report { dataset: dataset.into(), run, stages: stages.0, tables, page })
}

struct Stages(Vec<Stage>);

impl Stages {
    /// Runs one stage, which returns whether it was up to date, whether it has findings, and its summary.
    fn run<S: Serialize + std::fmt::Display>(
        &mut self,
        stage: &'static str,
        work: impl FnOnce() -> crate::error::Result<(bool, bool, S)>,
    ) -> crate::error::Result<()> {
        let start = std::time::Instant::now();
        let (up_to_date, has_findings, summary) = work()?;
        let elapsed_s = start.elapsed().as_secs_f64();
        let summary_json = serde_json::to_value(&summary).expect("summaries are plain data");
        match (up_to_date, has_findings) {
            (true, false) => say(format_args!("{stage}: up to date, skipped")),
            (true, true) => say(format_args!("{stage}: up to date\n{summary}\n")),
            (false, _) => say(format_args!("{stage}: done in {elapsed_s:.1} s\n{summary}\n")),
        }
        self.0.push(Stage { stage, up_to_date, has_findings, elapsed_s, summary: summary_json });
        Ok(())
    }
}
