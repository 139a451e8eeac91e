//! Split: assigns the images of a data set to k folds, for cross-validation as in the paper. Folds are stratified (each
//! class is spread evenly) and keep groups whole: rows of one `group_id` (copies, near copies, cells of one frame) are
//! never in two folds. It reads tables, no pixels.

use crate::class::Class;
use crate::context::Context;
use crate::dataset;
use crate::error::{Error, Input, Result};
use crate::schema::{CHECKS, MANIFEST, SPLITS};
use crate::seed;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many folds; each is the test set of one model. The paper: 10.
    pub folds: u32,
    /// Classes even over the folds. The only kind there is.
    pub stratified: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { folds: 10, stratified: true }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] for fewer than two folds, or folds that are not stratified.
    pub fn validate(&self) -> Result<()> {
        if self.folds < 2 {
            return Err(Error::setting("split.folds", "at least 2 (one to test, the others to train)", self.folds));
        }
        if !self.stratified {
            return Err(Error::setting("split.stratified", "true: every split is stratified", false));
        }
        Ok(())
    }
}

/// The result of the stage.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub dataset: String,
    /// Number of images in the split.
    pub images: u64,
    /// Groups that the images form: copies and cells of one frame count once.
    pub groups: u64,
    /// Test images, `[fold][class]`, classes in the order of [`Class::ALL`].
    pub test_images: Vec<[u64; Class::COUNT]>,
    /// Rows that no fold has, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// What may make the folds less than they should be.
    pub warnings: Vec<String>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use comfy_table::{CellAlignment, Table, presets};
        let folds = self.test_images.len();
        writeln!(f, "{}: {} images in {} groups, {folds} folds, stratified", self.dataset, self.images, self.groups)?;
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(
            ["Test images".to_string()].into_iter().chain(Class::ALL.map(Class::title)).chain(["All".into()]),
        );
        let row = |name: String, counts: [u64; Class::COUNT]| {
            let all: u64 = counts.iter().sum();
            [name].into_iter().chain(counts.iter().chain([&all]).map(u64::to_string)).collect::<Vec<_>>()
        };
        for (fold, counts) in self.test_images.iter().enumerate() {
            table.add_row(row(format!("Fold {fold}"), *counts));
        }
        let sum = |class: usize| self.test_images.iter().map(|counts| counts[class]).sum();
        table.add_row(row("All".into(), std::array::from_fn(sum)));
        for column in 1..=Class::COUNT + 1 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{table}")?;
        for (reason, n) in &self.left_out {
            write!(f, "\nleft out: {n} {} ({reason})", if *n == 1 { "image" } else { "images" })?;
        }
        write!(f, "\ncopies and near copies are kept in one fold")?;
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// The provenance of the table that [`run`] would write now.
///
/// # Errors
/// [`Error::Missing`] where there is no manifest or check has not run, [`Error::Stale`] where the manifest has changed
/// since check ran.
pub fn provenance(ws: &Workspace, dataset: &str, settings: &Settings, seed: u64) -> Result<Provenance> {
    let inputs = dataset::inputs(ws, dataset)?;
    if !inputs.contains_key(Input::Checks.name()) {
        return Err(Error::missing(Input::Checks, ws.checks(dataset)));
    }
    Ok(Provenance {
        stage: "split".into(),
        settings: serde_json::to_value(settings).expect("settings are plain JSON"),
        seed: Some(seed),
        inputs,
    })
}

/// Deals the images of `dataset` and writes `splits.parquet`: a row an image and fold, with its role.
///
/// Left out are rows without a class and rows with an issue of severity error.
///
/// # Errors
/// [`Error::Setting`] for bad settings, [`Error::Missing`] or [`Error::Format`] for the manifest, [`Error::Stale`]
/// where the issues belong to another manifest, [`Error::Data`] where nothing has a class or there are fewer groups
/// than folds.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let provenance = provenance(ws, dataset, settings, ctx.seed)?;
    let mut warnings = Vec::new();
    let Images { ids, classes, groups, left_out } = images(ws, dataset)?;
    let no_data =
        |expected: String, got: String, hint: String| Err(Error::Data { dataset: dataset.into(), expected, got, hint });
    if ids.is_empty() {
        let reasons: Vec<String> = left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let got =
            if reasons.is_empty() { "an empty manifest".into() } else { format!("none ({})", reasons.join(", ")) };
        let hint = "Put the images into folders named after the five classes and run: wbc ingest";
        return no_data("images with a class".into(), got, hint.into());
    }
    let deal = deal(&classes, &groups, settings.folds, ctx.seed);
    let (folds, n) = (settings.folds as usize, deal.groups);
    if n < folds {
        let got = match (n, ids.len()) {
            (1, 1) => "1 image".into(),
            (n, images) if n == images => format!("{images} images"),
            (n, images) => format!("{images} images in {n} groups of copies or of one frame"),
        };
        let hint = match n {
            1 => "More images are needed".into(),
            n => format!("Ask for at most as many folds as that: wbc split --folds {n}"),
        };
        return no_data(format!("at least {folds} images for {folds} folds"), got, hint);
    }
    for class in Class::ALL {
        let images = classes.iter().filter(|c| **c == class).count();
        match deal.class_groups[class.index()] {
            0 => warnings.push(format!("no image of class {class}: no fold trains on it or tests it")),
            n if n < folds => warnings.push(format!(
                "class {class} has {images} images that make {n} groups for {folds} folds: \
                 {} folds will not test it",
                folds - n.min(folds)
            )),
            _ => {}
        }
    }

    let ids = StringArray::from(ids);
    let task = ctx.progress.task("split", Some(u64::from(settings.folds)), "folds");
    write(&ws.splits(dataset), &provenance, &ids, &deal.fold_of, settings.folds, ctx)?;
    drop(task);

    let mut test_images = vec![[0; Class::COUNT]; folds];
    for (class, fold) in classes.iter().zip(&deal.fold_of) {
        test_images[*fold as usize][class.index()] += 1;
    }
    Ok(Summary {
        dataset: dataset.into(),
        images: ids.len() as u64,
        groups: deal.groups as u64,
        test_images,
        left_out,
        warnings,
    })
}

/// What a split needs to know of the images; the first three have one entry an image, in manifest order.
struct Images {
    ids: Vec<String>,
    classes: Vec<Class>,
    groups: Vec<String>,
    left_out: BTreeMap<String, u64>,
}

/// Reads four columns of the manifest and the table of checks, batch by batch: a million whole rows would be a
/// gigabyte.
fn images(ws: &Workspace, dataset: &str) -> Result<Images> {
    let (manifest, checks) = (ws.manifest(dataset), ws.checks(dataset));
    let (mut all, mut class_of) = (Vec::new(), Vec::new());
    table::read_batches(&manifest, &MANIFEST, |batch| {
        let (id, class) = (text(&batch, "image_id"), text(&batch, "class"));
        all.extend(id.iter().flatten().map(String::from));
        for row in 0..batch.num_rows() {
            let name = class.is_valid(row).then(|| class.value(row));
            let known = name.map(|name| Class::from_name(name).ok_or(name)).transpose().map_err(|name| {
                let expected = format!("one of: {}", Class::ALL.map(Class::name).join(", "));
                Error::format(&manifest, format!("class of {}", id.value(row)), expected, name)
            })?;
            class_of.push(known);
        }
        Ok(())
    })?;
    let (mut checked, mut ids, mut classes, mut groups) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut left_out = BTreeMap::new();
    table::read_batches(&checks, &CHECKS, |batch| {
        let (id, group, reason) = (text(&batch, "image_id"), text(&batch, "group_id"), text(&batch, "left_out"));
        for row in 0..batch.num_rows() {
            let class = class_of.get(checked.len()).copied().flatten();
            checked.push(id.value(row).to_string());
            match class {
                Some(class) if reason.is_null(row) => {
                    ids.push(id.value(row).to_string());
                    classes.push(class);
                    groups.push(group.value(row).to_string());
                }
                _ => {
                    let reason = if reason.is_null(row) { dataset::NO_CLASS } else { reason.value(row) };
                    *left_out.entry(reason.to_string()).or_insert(0) += 1;
                }
            }
        }
        Ok(())
    })?;
    dataset::same_cells(&checks, all.iter(), checked.iter())?;
    Ok(Images { ids, classes, groups, left_out })
}

/// A text column of a table whose schema has been checked on opening.
fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    let column = batch.column_by_name(name).expect("the schema has the column");
    column.as_any().downcast_ref().expect("the schema says text")
}

/// Which fold tests which image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal {
    /// The fold that tests each image, in the order given.
    pub fold_of: Vec<u32>,
    /// How many groups there are.
    pub groups: usize,
    /// Groups that hold a class, by class.
    pub class_groups: [usize; Class::COUNT],
}

/// Assigns images, each given as class and group, to `folds` folds.
///
/// Groups are shuffled. The larger ones are assigned first, each to the fold with the fewest images of the group's
/// classes so far, and among those to the one with the fewest images. Single images follow class by class, so that
/// without larger groups the counts of each class, and the totals, differ by at most one between folds.
pub fn deal(classes: &[Class], groups: &[String], folds: u32, seed: u64) -> Deal {
    assert_eq!(classes.len(), groups.len(), "one class and one group an image");
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|&a, &b| groups[a].cmp(&groups[b]).then(a.cmp(&b)));
    let mut members: Vec<&[usize]> = order.chunk_by(|&a, &b| groups[a] == groups[b]).collect();
    members.shuffle(&mut seed::rng(seed, "split", 0, 0, 0));
    members.sort_by_key(|m| (std::cmp::Reverse(m.len()), classes[m[0]]));

    let mut fold_of = vec![0; groups.len()];
    let mut class_groups = [0; Class::COUNT];
    let mut load = vec![[0u64; Class::COUNT]; folds as usize];
    for group in &members {
        let mut counts = [0u64; Class::COUNT];
        for &i in *group {
            counts[classes[i].index()] += 1;
        }
        let fullness = |fold: &usize| {
            let of_its_classes: u64 = load[*fold].iter().zip(counts).map(|(have, add)| have * add).sum();
            (of_its_classes, load[*fold].iter().sum::<u64>())
        };
        let Some(fold) = (0..load.len()).min_by_key(fullness) else { break };
        for class in 0..Class::COUNT {
            load[fold][class] += counts[class];
            class_groups[class] += usize::from(counts[class] > 0);
        }
        for &i in *group {
            fold_of[i] = fold as u32;
        }
    }
    Deal { fold_of, groups: members.len(), class_groups }
}

/// Writes N x folds rows from one array of names, a slice at a time.
fn write(path: &Path, made: &Provenance, ids: &StringArray, fold_of: &[u32], folds: u32, ctx: &Context) -> Result<()> {
    const SLICE_ROWS: usize = 65_536;
    let schema = SPLITS.arrow();
    table::write_stream(path, &SPLITS, made, |put| {
        for fold in 0..folds {
            for start in (0..ids.len()).step_by(SLICE_ROWS) {
                ctx.check_stop()?;
                let n = SLICE_ROWS.min(ids.len() - start);
                let role: StringArray =
                    fold_of[start..start + n].iter().map(|f| Some(if *f == fold { "test" } else { "train" })).collect();
                let columns: Vec<ArrayRef> =
                    vec![Arc::new(ids.slice(start, n)), Arc::new(UInt32Array::from_value(fold, n)), Arc::new(role)];
                let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| Error::Format {
                    path: path.into(),
                    item: "rows".into(),
                    expected: format!("rows of schema {}", SPLITS.tag()),
                    got: e.to_string(),
                })?;
                put(&batch)?;
            }
            ctx.progress.advance(1);
        }
        Ok(())
    })
}

/// A data set's folds, for the stages that come after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splits {
    /// How many folds there are.
    pub folds: u32,
    /// The fold that tests each image, by `image_id`.
    pub fold_of: BTreeMap<String, u32>,
}

impl Splits {
    /// The images that `fold` tests, sorted.
    pub fn test(&self, fold: u32) -> impl Iterator<Item = &str> {
        self.fold_of.iter().filter(move |(_, f)| **f == fold).map(|(id, _)| id.as_str())
    }

    /// The images that `fold` trains on, sorted.
    pub fn train(&self, fold: u32) -> impl Iterator<Item = &str> {
        self.fold_of.iter().filter(move |(_, f)| **f != fold).map(|(id, _)| id.as_str())
    }
}

/// Reads `splits.parquet`.
///
/// # Errors
/// [`Error::Missing`] where there is none, [`Error::Stale`] where the manifest has changed since, [`Error::Format`]
/// where a role is unknown or an image is tested twice or never.
pub fn read(ws: &Workspace, dataset: &str) -> Result<Splits> {
    let path = ws.splits(dataset);
    let wrong = |item: String, expected: &str, got: String| Error::Format {
        path: path.clone(),
        item,
        expected: expected.into(),
        got,
    };
    let made = table::provenance(&path, &SPLITS)?;
    dataset::require_current(ws, dataset, &made, Input::Splits, &path)?;
    let (mut fold_of, mut folds, mut rows) = (BTreeMap::new(), 0, 0);
    table::read_batches(&path, &SPLITS, |batch| {
        let fold = batch.column_by_name("fold").expect("the schema has the column");
        let fold: &UInt32Array = fold.as_any().downcast_ref().expect("the schema says u32");
        let (id, role) = (text(&batch, "image_id"), text(&batch, "role"));
        rows += batch.num_rows() as u64;
        for row in 0..batch.num_rows() {
            let (id, fold) = (id.value(row), fold.value(row));
            folds = folds.max(fold.saturating_add(1));
            match role.value(row) {
                "train" => {}
                "test" => {
                    if let Some(other) = fold_of.insert(id.to_string(), fold) {
                        let got = format!("folds {other} and {fold}");
                        return Err(wrong(format!("image {id}"), "one fold that tests it", got));
                    }
                }
                other => return Err(wrong(format!("role of {id}"), "train or test", other.into())),
            }
        }
        Ok(())
    })?;
    let expected = fold_of.len() as u64 * u64::from(folds);
    if rows != expected {
        let got = format!("{rows} rows for {} tested images and {folds} folds", fold_of.len());
        return Err(wrong("rows".into(), "a row for every image and fold", got));
    }
    Ok(Splits { folds, fold_of })
}
