//! `wbc adapt`: makes a run fit another laboratory with as few labelled cells as possible.

use super::terminal::say;
use super::train::{Chosen, joint_part, train_dataset};
use super::{Globals, Outcome};
use crate::atomic;
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::{Error, Input, Result};
use crate::join::{self, Part};
use crate::laboratories::{LEAST, Score};
use crate::nn::device::Device;
use crate::page;
use crate::pipeline::Pipeline;
use crate::predict::choose::{self, Candidate};
use crate::predict::{self, external};
use crate::report::{self, Sheet, notes};
use crate::rows::ManifestRow;
use crate::run::{self, ModelId, ModelRef, Recipe, Record};
use crate::seed;
use crate::text;
use crate::train::{InitSource, Target};
use crate::workspace::Workspace;
use rand::seq::SliceRandom;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  wbc adapt pbc-wnet-robust --dataset mine --label 100    # not labelled: which cells
  wbc adapt pbc-wnet-robust:0 --dataset mine --label 50 --epochs 6";

/// Adapts a run to the images of another laboratory (--dataset), with a few labelled cells.
///
/// Where the images have no labels yet, chooses the cells that are most worth labelling: those that the run is in doubt
/// about, and that differ from each other. Writes a list to fill in and a page that shows the cells.
///
/// Where they have labels, trains the run's network for some more epochs, with these cells and the run's own images,
/// and reports what 10, 25, 50, 100, ... labelled cells bring, measured on cells that are not among them. Each is a run
/// of its own.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The run, or one of its models: RUN:0 is that of fold 0, RUN:all that of all images [default: that of all images,
    /// else of the first finished fold]
    #[arg(value_name = "RUN[:MODEL]")]
    run: ModelRef,
    /// Number of cells to label, or to use the labels of
    #[arg(long, value_name = "N")]
    label: usize,
    /// Passes over the images, half of which are of the new laboratory
    #[arg(long, value_name = "N", default_value_t = 3)]
    epochs: u32,
    /// Learning rate, as a share of the pipeline's
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    rate: f64,
    /// Delete earlier runs of the same names that have other settings or data, such as corrected labels
    #[arg(long)]
    restart: bool,
    /// Folder for the list, the page and the table
    #[arg(long, value_name = "DIR", default_value = "reports", env = "WBC_REPORTS")]
    #[arg(value_parser = super::globals::local_path())]
    reports: PathBuf,
}

/// Cells to label.
#[derive(Serialize)]
struct ToLabel {
    dataset: String,
    /// Cells that were looked at.
    cells: usize,
    chosen: usize,
    unreadable: Vec<String>,
    list: PathBuf,
    page: PathBuf,
}

impl std::fmt::Display for ToLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dataset, cells, chosen, list, page, .. } = self;
        if !self.unreadable.is_empty() {
            let names = self.unreadable.iter().map(String::as_str);
            writeln!(f, "not read: {} ({})", text::of(self.unreadable.len() as u64, "file"), text::some(names))?;
        }
        writeln!(f, "{dataset}: {chosen} of {} chosen to be labelled", text::of(*cells as u64, "cell"))?;
        writeln!(f, "list: {}\npage: {}", list.display(), page.display())?;
        write!(
            f,
            "Fill in the column label, put the list into the data set's folder as labels.csv, and run: wbc ingest \
             --dataset {dataset}"
        )
    }
}

/// A point of the learning curve.
#[derive(Serialize)]
struct Point {
    /// Cells with a label that were trained on.
    labelled: usize,
    run: String,
    /// The result on the cells that are not among those chosen; none with too few of them.
    score: Option<Score>,
}

/// What adapting brought.
#[derive(Serialize)]
struct Adapted {
    dataset: String,
    run: String,
    /// Cells with a label that are not among those chosen.
    rest: usize,
    curve: Vec<Point>,
    files: Vec<PathBuf>,
}

pub fn run(args: Args, globals: &Globals) -> anyhow::Result<Outcome> {
    let ws = globals.workspace();
    let progress = globals.progress();
    let record = Record::read(&ws, &args.run.run)?;
    record.network(&args.run.run)?;
    let ctx = globals.context(globals.seed.unwrap_or(record.seed), &progress);
    let Some(dataset) = &globals.dataset else {
        return Err(Error::setting("dataset", "the data set of the new laboratory", "none").into());
    };
    if args.label < 2 {
        return Err(Error::setting("label", "at least 2 cells", args.label).into());
    }
    let source = ModelRef { model: Some(model(&ws, &args.run)?), ..args.run.clone() };
    let home = home(&ws, &record);
    if home.contains(dataset) {
        let expected = format!("a data set that {} was not trained on", args.run.run);
        return Err(Error::setting("dataset", expected, dataset).into());
    }
    if !crate::table::exists(&ws.manifest(dataset))? {
        let to_label = to_label(&ws, &source, dataset, &args, globals.device, &ctx)?;
        globals.print(&to_label, &to_label)?;
        return Ok(if to_label.unreadable.is_empty() { Outcome::Done } else { Outcome::Findings });
    }
    let (adapted, sheet) = adapt(globals, &ws, &source, &home, dataset, &args, &ctx)?;
    let files: Vec<String> = adapted.files.iter().map(|file| file.display().to_string()).collect();
    let next = adapted.curve.last().map_or(String::new(), |point| {
        format!("\nTo classify other images of {dataset}: wbc predict {} IMAGES", point.run)
    });
    let text = format!("{}\nwritten: {}{next}", sheet.text(true), files.join(", "));
    globals.print(&adapted, text)?;
    Ok(Outcome::Done)
}

/// The model to start from.
fn model(ws: &Workspace, source: &ModelRef) -> Result<ModelId> {
    if let Some(model) = source.model {
        return Ok(model);
    }
    let finished = run::finished(ws, &source.run)?;
    Ok(if finished.contains(&ModelId::All) { ModelId::All } else { finished[0] })
}

/// The data sets that a run was trained on.
fn home(ws: &Workspace, record: &Record) -> Vec<String> {
    let members = join::members(ws, &record.dataset);
    if members.is_empty() { vec![record.dataset.clone()] } else { members }
}

/// Chooses the cells of a data set without labels that are most worth labelling.
fn to_label(
    ws: &Workspace,
    source: &ModelRef,
    dataset: &str,
    args: &Args,
    device: Device,
    ctx: &Context,
) -> Result<ToLabel> {
    let raw = ws.raw_dataset(dataset);
    if !raw.is_dir() {
        return Err(Error::missing(Input::Images, raw));
    }
    let images = predict::find(std::slice::from_ref(&raw), ctx)?;
    let (candidates, unreadable) = choose::in_files(ws, source, &images, device, ctx)?;
    let chosen: Vec<&Candidate> =
        choose::choose(&candidates, args.label, ctx.seed).into_iter().map(|i| &candidates[i]).collect();
    let (list, page) =
        (args.reports.join(format!("{dataset}-to-label.csv")), args.reports.join(format!("{dataset}-to-label.html")));
    write_list(&list, &raw, &chosen)?;
    let size_px = run::open(ws, &source.run, source.model.expect("a model is chosen"), device)?.meta.size_px;
    let cells: Vec<page::to_label::Cell> = chosen
        .iter()
        .map(|cell| page::to_label::Cell {
            path: relative(&raw, &cell.path),
            answer: format!("{} {:.0} %", cell.class, 100.0 * cell.confidence),
            pixels: &cell.pixels,
        })
        .collect();
    page::to_label::write(dataset, &source.to_string(), &cells, size_px as u32, &page)?;
    Ok(ToLabel { dataset: dataset.into(), cells: candidates.len(), chosen: chosen.len(), unreadable, list, page })
}

fn relative(raw: &Path, path: &Path) -> String {
    path.strip_prefix(raw)
        .unwrap_or(path)
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

/// Writes a list that `wbc ingest` reads once its labels are filled in.
fn write_list(path: &Path, raw: &Path, chosen: &[&Candidate]) -> Result<()> {
    atomic::write(path, |out| {
        let mut writer = csv::Writer::from_writer(out);
        let failed = |e: csv::Error| Error::Io { path: path.into(), action: "write", source: e.into() };
        let boxed = chosen.iter().any(|cell| cell.rect.is_some());
        let columns: &[&str] =
            if boxed { &["path", "label", "xmin", "ymin", "xmax", "ymax"] } else { &["path", "label"] };
        writer.write_record(columns).map_err(failed)?;
        for cell in chosen {
            let mut row = vec![relative(raw, &cell.path), String::new()];
            if boxed {
                let corners = cell.rect.map(|rect| [rect.x, rect.y, rect.right(), rect.bottom()]);
                row.extend(corners.map_or([""; 4].map(String::from), |corners| corners.map(|v| v.to_string())));
            }
            writer.write_record(&row).map_err(failed)?;
        }
        writer.flush().map_err(Error::io(path, "write"))
    })
}

/// Goes on training with some labelled cells of a data set, and measures what they bring on the others.
fn adapt(
    globals: &Globals,
    ws: &Workspace,
    source: &ModelRef,
    home: &[String],
    dataset: &str,
    args: &Args,
    ctx: &Context,
) -> Result<(Adapted, Sheet)> {
    /// With fewer cells that are not chosen, nothing is measured.
    const FEW: usize = 20;
    let record = Record::read(ws, &source.run)?;
    let Dataset { cells, checks, .. } = Dataset::read(ws, dataset)?;
    let usable = cells.into_iter().zip(checks).filter(|(_, check)| check.left_out.is_none());
    let known = |cell: &ManifestRow| cell.class.is_some_and(|class| record.classes.index(class).is_some());
    let rows: Vec<ManifestRow> = usable.map(|(cell, _)| cell).filter(known).collect();
    if rows.len() < 2 {
        let expected = format!("usable cells with a label that {} knows: {}", source.run, record.classes);
        return Err(Error::data(dataset, expected, rows.len()));
    }
    // Where no more cells are labelled than are asked for, all are for training.
    let (pool, kept) = if rows.len() > args.label { of_other_people(rows, ctx.seed) } else { (rows, Vec::new()) };
    let candidates = choose::of_rows(ws, source, dataset, &pool, globals.device, ctx)?;
    let order = choose::choose(&candidates, args.label, ctx.seed);
    if order.len() < args.label {
        let of = if kept.is_empty() { "" } else { ", without those of the patients that are kept to measure on" };
        say(format_args!("{dataset} has {} with a label{of}: all are used", text::of(order.len() as u64, "cell")));
    }
    drop(candidates);
    let chosen: Vec<&str> = order.iter().map(|i| pool[*i].image_id.as_str()).collect();
    let is_chosen: BTreeSet<&str> = chosen.iter().copied().collect();
    let left = if kept.is_empty() { &pool } else { &kept };
    let mut rest: BTreeSet<&str> =
        left.iter().map(|row| row.image_id.as_str()).filter(|id| !is_chosen.contains(id)).collect();
    let measured = rest.len() >= FEW;

    let mut pipeline = Pipeline::of_run(&record);
    pipeline.seed = ctx.seed;
    if let Recipe::Network(settings) = &mut pipeline.train {
        settings.epochs = args.epochs;
        settings.learning_rate *= args.rate;
    }
    pipeline.validate()?;
    let mut points = if measured { vec![(0, source.clone())] } else { Vec::new() };
    // Another seed chooses other cells, and is another run.
    let seed = globals.seed.map_or(String::new(), |seed| format!("-s{seed}"));
    let members: Vec<String> = home.iter().cloned().chain([dataset.to_string()]).collect();
    for n in sizes(chosen.len(), measured) {
        let cells = chosen[..n].iter().map(|id| id.to_string()).collect();
        let part = Part { dataset: dataset.into(), name: format!("{dataset}-{n}{seed}"), cells };
        let mut pipeline = pipeline.clone();
        let joint = joint_part(ws, &members, Some(&part), &mut pipeline, ctx)?;
        let run = format!("{}-{}", source.run, part.name);
        let what = Chosen {
            run: Some(run.clone()),
            target: Target::AllImages,
            init: Some(InitSource::Run(source.clone())),
            restart: args.restart,
            ..Chosen::default()
        };
        train_dataset(globals, &joint, pipeline, what, ctx)?;
        points.push((n, ModelRef { run, model: Some(ModelId::All) }));
    }
    let mut validations = Vec::new();
    for (_, source) in points.iter().filter(|_| measured) {
        let validation = match external::read_current(ws, source, dataset)? {
            Some(validation) => validation,
            None => {
                external::run(ws, source, dataset, globals.device, ctx)?;
                external::read(ws, source, dataset)?
            }
        };
        // Copies of a cell that one of them was trained on are tested by none.
        let tested: BTreeSet<&str> = validation.predictions.iter().map(|row| row.image_id.as_str()).collect();
        rest.retain(|id| tested.contains(id));
        validations.push(validation);
    }
    let point = |(i, (labelled, source)): (usize, (usize, ModelRef))| {
        let validation = validations.get(i);
        let score = validation.map(|v| Score::of_validation(ws, &source.run, v, |id| rest.contains(id)));
        let run = if labelled == 0 { source.to_string() } else { source.run };
        Ok(Point { labelled, run, score: score.transpose()?.flatten() })
    };
    let curve: Vec<Point> = points.into_iter().enumerate().map(point).collect::<Result<_>>()?;
    let sheet = sheet(dataset, source, &record, &curve, rest.len(), measured, !kept.is_empty());
    let files = report::write(&args.reports, &format!("{dataset}-adapted"), std::slice::from_ref(&sheet))?;
    Ok((Adapted { dataset: dataset.into(), run: source.to_string(), rest: rest.len(), curve, files }, sheet))
}

/// The cells to choose from, and those to measure on, of other patients (slides, where no patient is known): half of
/// them. Without patients, all are to choose from.
fn of_other_people(rows: Vec<ManifestRow>, seed: u64) -> (Vec<ManifestRow>, Vec<ManifestRow>) {
    let any_subject = rows.iter().any(|row| row.subject_id.is_some());
    let person = |row: &ManifestRow| if any_subject { row.subject_id.clone() } else { row.slide_id.clone() };
    let names: BTreeSet<String> = rows.iter().filter_map(person).collect();
    if names.len() < 2 {
        return (rows, Vec::new());
    }
    let mut names: Vec<String> = names.into_iter().collect();
    names.shuffle(&mut seed::rng(seed, "people", 0, 0, 0));
    let kept: BTreeSet<String> = names.into_iter().step_by(2).collect();
    // A cell of nobody in particular may be of anybody: it is not measured on.
    rows.into_iter().partition(|row| person(row).is_none_or(|name| !kept.contains(&name)))
}

/// The numbers of cells of the learning curve; the last one alone where nothing can be measured.
fn sizes(most: usize, measured: bool) -> Vec<usize> {
    let usual = [10, 25, 50, 100, 200, 400, 800];
    usual.into_iter().filter(|n| measured && *n < most).chain([most]).collect()
}

fn sheet(
    dataset: &str,
    source: &ModelRef,
    record: &Record,
    curve: &[Point],
    rest: usize,
    measured: bool,
    by_people: bool,
) -> Sheet {
    let percent = |v: f64| format!("{:.1}", 100.0 * v);
    let columns = ["Labelled cells", "Balanced accuracy, %", "95 % interval", "Accuracy, %"].map(String::from);
    let classes: Vec<_> = record.classes.iter().collect();
    let titles = classes.iter().map(|class| record.classes.title(*class));
    let rows = curve.iter().map(|point| {
        let mut row = vec![point.labelled.to_string()];
        let recalls: HashMap<_, _> =
            point.score.iter().flat_map(|score| &score.recalls).map(|r| (r.class, r.value)).collect();
        match &point.score {
            Some(score) => {
                row.extend([percent(score.balanced_accuracy), notes::range(&score.interval), percent(score.accuracy)]);
            }
            None => row.extend(["-"; 3].map(String::from)),
        }
        row.extend(classes.iter().map(|class| recalls.get(class).map_or("-".into(), |recall| percent(*recall))));
        row
    });
    let title = format!("{source} adapted to {dataset}");
    let mut sheet = match measured {
        true => Sheet::plain("adapted", &title, columns.into_iter().chain(titles), rows),
        false => {
            let rows = curve.iter().map(|point| vec![point.labelled.to_string(), point.run.clone()]);
            Sheet::plain("adapted", &title, ["Labelled cells", "Run"].map(String::from), rows)
        }
    };
    sheet.summary.push(match measured {
        true if by_people => {
            format!("Measured on {rest} labelled cells of patients or slides of {dataset} of whom no cell was chosen")
        }
        true => format!(
            "Measured on the {rest} labelled cells of {dataset} that are not among those chosen. These were chosen \
             because the run was in doubt about them, so that the others are easier than {dataset} as a whole. \
             Patients are not known: cells of one patient may be on both sides"
        ),
        false => format!(
            "Too few labelled cells ({rest}) are left to measure on. Cross-validated figures: wbc train --datasets"
        ),
    });
    let counts = curve.iter().find_map(|point| point.score.as_ref());
    let rare = counts.iter().flat_map(|score| &score.recalls).filter(|recall| recall.images < LEAST);
    let rare: Vec<String> = rare.map(|recall| format!("{} ({})", recall.class, recall.images)).collect();
    if !rare.is_empty() {
        sheet.summary.push(format!(
            "With fewer than {LEAST} images, not in the balanced accuracy: {}",
            text::listed(rare.iter().map(String::as_str))
        ));
    }
    sheet.summary.push("One choice of cells and one seed: others would differ, most of all with few cells".into());
    sheet
}
