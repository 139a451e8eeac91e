//! The page of a data set, to read before training: how many cells of each class there are, whether colours differ
//! between classes or batches, examples, and everything that ingest and check found, with the images.

use crate::class::Class;
use crate::context::Context;
use crate::error::{Input, Result};
use crate::figure::{dataset_plots, gallery::evenly_spaced};
use crate::page::{card, parts};
use crate::report::{notes, thousands};
use crate::rows::Severity;
use crate::split::Place;
use crate::workspace::Workspace;
use findings::Group;
use images::{Images, Selection};
use minijinja::{Value, context};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tables::Tables;

mod backgrounds;
mod findings;
mod images;
mod sheets;
mod summary;
mod tables;

pub use summary::{CheckSummary, ClassSummary, Colour, Summary, Unreadable};

/// Cells shown of each class, and of all classes together, but at least a few of each.
const EXAMPLES: usize = 16;
const ALL_EXAMPLES: usize = 256;
const LEAST_EXAMPLES: usize = 3;
/// Images shown with the boxes of their cells.
const BOXED: usize = 8;

/// Writes the page of `dataset` to `path`. Every image file is decoded once; where one cannot be read, the page says
/// why. `help` returns a sentence, or nothing, that follows a warning: how to write an input that is missing or out of
/// date.
///
/// # Errors
/// [`crate::error::Error::Missing`] without a manifest, [`crate::error::Error::Format`] where a table does not match
/// its schema, [`crate::error::Error::Io`] where the page cannot be written, [`crate::error::Error::Interrupted`].
pub fn write(
    ws: &Workspace,
    dataset: &str,
    path: &Path,
    help: &dyn Fn(Input) -> String,
    ctx: &Context,
) -> Result<Summary> {
    let tables = Tables::read(ws, dataset, help, ctx)?;
    let rows = &tables.rows;
    let groups = Group::all(&tables);
    let classes = &tables.classes;
    let shown = EXAMPLES.min(ALL_EXAMPLES / classes.len().max(1)).max(LEAST_EXAMPLES);
    let examples: Vec<Vec<usize>> = classes.iter().map(|class| evenly_spaced(&tables.usable(class), shown)).collect();
    let boxed: BTreeSet<&str> = rows.iter().filter(|r| r.box_source.is_some()).map(|r| r.path.as_str()).collect();
    let boxed = evenly_spaced(&boxed.into_iter().collect::<Vec<_>>(), BOXED);

    let mut files: BTreeSet<String> = boxed.iter().map(|path| path.to_string()).collect();
    for finding in groups.iter().flat_map(|group| group.shown()) {
        files.extend(tables.paths(finding));
    }
    let selection = Selection { cells: examples.iter().flatten().copied().collect(), files };
    let raw = ws.raw_dataset(dataset);
    let mut images = Images::read(&raw, rows, &selection, ctx)?;
    let unusual = backgrounds::unusual(rows, &images);
    let more = unusual.iter().map(|(row, _)| rows[*row].path.clone());
    images.add_thumbnails(&raw, rows, more.chain(selection.files).collect());

    let colours: Vec<(Class, [f32; 3])> = images.backgrounds(rows).map(|(class, _, rgb)| (class, rgb)).collect();
    let (sections, findings): (Vec<Value>, Vec<CheckSummary>) =
        groups.iter().map(|group| group.section(&tables, &images)).unzip();
    let summary = summarise(&tables, &images, &colours, findings, path);
    let (without, with): (Vec<_>, Vec<_>) = classes.iter().zip(&examples).partition(|(_, c)| c.is_empty());
    let background_figures = dataset_plots::backgrounds(classes, &colours);
    let background_figures = background_figures.into_iter().flat_map(|f| [f, dataset_plots::order(classes, &colours)]);
    let values = context! {
        title => format!("The images of {dataset}"),
        subtitle => format!(
            "{} cells in {} images, layout {}: what to know before training",
            thousands(summary.cells), thousands(summary.images), summary.layout
        ),
        warnings => summary.warnings.clone(),
        items => items(&summary),
        class_figures => parts::figures(sheets::class_figures(&tables, &summary)),
        sheets => sheets::class_sheets(&tables, &summary).iter().map(parts::sheet).collect::<Vec<_>>(),
        verdict => verdict(&summary),
        background_figures => parts::figures(background_figures),
        colour => parts::sheet(&sheets::colour_sheet(&tables, &summary)),
        unusual => unusual.iter().map(|(row, distance)| context! {
            tile => images.tile(&tables, &rows[*row].path, Some(*row)),
            message => format!("{distance:.0} grey levels"),
        }).collect::<Vec<_>>(),
        examples => with.iter().map(|(class, rows)| context! {
            name => tables.classes.title(*class),
            cells => rows.iter().map(|row| images.cell_tile(&tables, *row)).collect::<Vec<_>>(),
        }).collect::<Vec<_>>(),
        no_examples => without.iter().map(|(class, _)| class.name()).collect::<Vec<_>>().join(", "),
        boxed => boxed.iter().map(|path| images.tile(&tables, path, None)).collect::<Vec<_>>(),
        box_sources => box_sources(&tables),
        findings => sections,
        no_findings => match tables.issues {
            Some(_) => "Ingest and check found nothing.",
            None => "Unknown: the images were not checked.",
        },
        folds => tables.splits.as_ref().ok().map(|_| parts::sheet(&sheets::folds_sheet(classes, &summary))),
        no_folds => tables.splits.as_ref().err().cloned().unwrap_or_default(),
        limitations => notes::of_dataset(ws, dataset, tables.checked),
        card => std::iter::once(["Data set".to_string(), dataset.to_string()])
            .chain(card::facts(ws, dataset, classes, rows, &tables.checks, tables.issues.as_deref()))
            .collect::<Vec<_>>(),
    };
    parts::write("dataset.html", values, path)?;
    Ok(summary)
}

/// The page's contents, in numbers. `colours` are the backgrounds.
fn summarise(
    tables: &Tables,
    images: &Images,
    colours: &[(Class, [f32; 3])],
    findings: Vec<CheckSummary>,
    file: &Path,
) -> Summary {
    let rows = &tables.rows;
    let classes = &tables.classes;
    let class = |(class, colour): (Class, Option<Colour>)| {
        let own = || rows.iter().filter(move |r| r.class == Some(class));
        let both = || rows.iter().zip(&tables.checks).filter(move |(r, _)| r.class == Some(class));
        let mut subtypes = BTreeMap::new();
        own().filter_map(|r| r.subtype.clone()).for_each(|s| *subtypes.entry(s).or_default() += 1);
        ClassSummary {
            class,
            cells: own().count() as u64,
            left_out: both().filter(|(_, check)| check.left_out.is_some()).count() as u64,
            groups: both().map(|(_, check)| &check.group_id).collect::<BTreeSet<_>>().len() as u64,
            subtypes,
            colour,
        }
    };
    let (mut sizes_px, mut formats) = (BTreeMap::new(), BTreeMap::new());
    for row in tables.files.values().map(|range| &rows[range.start]) {
        *sizes_px.entry(format!("{} x {}", row.width_px, row.height_px)).or_default() += 1;
        *formats.entry(row.format.clone()).or_default() += 1;
    }
    let (mut folds, mut held_out, mut training) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(splits) = &tables.splits {
        let none = vec![0; classes.len()];
        folds.resize(splits.folds as usize, none.clone());
        for (id, place) in splits.images() {
            let class = tables.row(id).and_then(|row| rows[row].class);
            let Some(class) = class.and_then(|class| classes.index(class)) else { continue };
            let outside = |counts: &mut Vec<u64>| {
                counts.resize(none.len(), 0);
                counts[class] += 1;
            };
            match place {
                Place::Fold(fold) => folds[fold as usize][class] += 1,
                Place::HeldOut => outside(&mut held_out),
                Place::Train => outside(&mut training),
            }
        }
    }
    let with_class = rows.iter().zip(&tables.checks).filter(|(row, _)| row.class.is_some());
    let failed = images.failed.iter().filter(|(path, _)| tables.files.contains_key(*path));
    Summary {
        dataset: tables.dataset.clone(),
        file: file.into(),
        layout: rows.first().map_or(String::new(), |r| r.layout.clone()),
        cells: rows.len() as u64,
        images: tables.files.len() as u64,
        classes: classes.iter().zip(images.colours(classes, rows)).map(class).collect(),
        unlabelled: rows.iter().filter(|r| r.class.is_none()).count() as u64,
        other_labels: crate::dataset::other_labels(rows),
        sizes_px,
        formats,
        groups: with_class.map(|(_, check)| &check.group_id).collect::<BTreeSet<_>>().len() as u64,
        background_between_classes: backgrounds::between_classes(classes, colours),
        findings,
        unreadable: failed.map(|(path, why)| Unreadable { path: path.clone(), message: why.clone() }).collect(),
        folds,
        held_out,
        training,
        warnings: tables.warnings.clone(),
    }
}

/// The key figures at the top.
fn items(summary: &Summary) -> Vec<Value> {
    let present = summary.classes.iter().filter(|class| class.cells > 0).count();
    let counts = || summary.classes.iter().map(|class| class.cells).filter(|n| *n > 0);
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let each = match present {
        0 | 1 => format!("{} cells", thousands(most)),
        _ => format!("{} to {} cells each", thousands(fewest), thousands(most)),
    };
    let checks = |severity: Severity| summary.findings.iter().filter(move |f| f.severity == severity);
    let count = |severity: Severity| thousands(checks(severity).map(|f| f.count).sum::<u64>());
    let names = |severity: Severity| {
        let names: Vec<String> = checks(severity).map(|f| f.check.replace('_', " ")).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    let unlabelled = match summary.unlabelled {
        0 => "all with a class".into(),
        n => format!("{} without a class, not used", thousands(n)),
    };
    vec![
        parts::item("Cells", thousands(summary.cells), unlabelled),
        parts::item("Classes", format!("{present} of {}", summary.classes.len()), each),
        parts::item("Files or cells not used", count(Severity::Error), names(Severity::Error)),
        parts::item("Findings to review", count(Severity::Warning), names(Severity::Warning)),
    ]
}

/// Whether the backgrounds' colours give the class away.
fn verdict(summary: &Summary) -> String {
    let rule = "The background should not reveal the class: a network would learn the background instead of the cell.";
    let Some(share) = summary.background_between_classes else {
        return format!("{rule} With fewer than two classes, or one colour throughout, there is nothing to compare.");
    };
    let judgement = match share {
        s if s < 0.05 => "the classes' backgrounds are alike",
        s if s < 0.2 => "they differ somewhat, see the figures below",
        _ => {
            "they differ a lot. The classes were photographed under different conditions, and results on these \
             images may not hold for others"
        }
    };
    format!("{rule} Here {:.0} % of the backgrounds' variance lies between classes: {judgement}.", 100.0 * share)
}

/// Where the boxes of the cells come from.
fn box_sources(tables: &Tables) -> String {
    let sources: BTreeSet<&str> = tables.rows.iter().filter_map(|r| r.box_source.as_deref()).collect();
    let describe = |source: &str| match source {
        "mask" => "from the experts' masks".to_string(),
        "stain" => "found by wbc from the stain of the nuclei".into(),
        other => other.into(),
    };
    sources.into_iter().map(describe).collect::<Vec<_>>().join(", ")
}
