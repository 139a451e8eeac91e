//! A page a data set, to open before anyone trains: what there is of each class, whether colours differ between classes or
//! batches, examples, and everything that ingest and check found, with its pictures.

use super::plots;
use super::{card, evenly, figures, picture, sheet, word};
use crate::batch;
use crate::check::CHECKS;
use crate::class::Class;
use crate::context::Context;
use crate::decode::{self, Rgb};
use crate::error::{Error, Result};
use crate::ingest;
use crate::prep::{self, Cut, Square};
use crate::report::{Sheet, notes, thousands};
use crate::rows::{IssueRow, ManifestRow, Severity, unusable};
use crate::schema::{ISSUES, MANIFEST};
use crate::segment;
use crate::split::{self, Splits};
use crate::table;
use crate::workspace::Workspace;
use image::RgbImage;
use minijinja::{Value, context};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Cells shown of each class.
const EXAMPLES: usize = 12;
/// Findings of one check that are shown with their pictures, and notes; the others are listed.
const PICTURED: usize = 60;
const PICTURED_NOTES: usize = 12;
/// Findings of one check that are listed by name; the others are counted.
const LISTED: usize = 500;
/// Frames shown with their boxes, and images with a background unlike the others'.
const FRAMES: usize = 12;
const UNLIKE: usize = 12;
/// Longer side of a whole image on the page, px.
const WHOLE_PX: u32 = 160;
/// Side at which the background's colour is measured, px.
const GROUND_PX: u32 = 96;
/// Rows of a table of sizes, formats and the like; the rarer ones are taken together.
const KINDS: usize = 8;
const BOX: image::Rgb<u8> = image::Rgb([0, 200, 0]);

/// What the page says, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub dataset: String,
    /// The page.
    pub file: PathBuf,
    pub layout: String,
    /// Rows of the manifest, and different image files among them.
    pub cells: u64,
    pub images: u64,
    pub classes: Vec<OfClass>,
    /// Cells that are listed but have no class.
    pub unlabelled: u64,
    /// Image files a size and a format.
    pub sizes_px: BTreeMap<String, u64>,
    pub formats: BTreeMap<String, u64>,
    /// Groups that stay in one fold.
    pub groups: u64,
    /// Share of the backgrounds' variance that lies between classes, 0 to 1.
    pub background_between_classes: Option<f64>,
    /// What ingest and check found, the worst first.
    pub findings: Vec<OfCheck>,
    /// Images of the manifest that could not be read for the page, and why.
    pub unreadable: Vec<Unreadable>,
    /// Test images a fold and class; empty where there is no split.
    pub folds: Vec<[u64; Class::COUNT]>,
    /// What is out of date or was not done, and the command that does it.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct OfClass {
    pub class: Class,
    pub cells: u64,
    /// Of them, those that no later stage uses.
    pub left_out: u64,
    pub groups: u64,
    pub subtypes: BTreeMap<String, u64>,
    pub colour: Option<Colour>,
}

/// Grey levels, 0 to 255, red, green, blue.
#[derive(Clone, Debug, Serialize)]
pub struct Colour {
    /// Over all pixels of the cells' pictures as `wbc preprocess` cuts them by default.
    pub mean: [f64; 3],
    pub deviation: [f64; 3],
    /// Mean over images of the plasma's colour, and the deviation between images.
    pub background: [f64; 3],
    pub background_deviation: [f64; 3],
}

#[derive(Clone, Debug, Serialize)]
pub struct OfCheck {
    pub check: String,
    pub severity: Severity,
    pub count: u64,
    /// Findings that are shown with a picture.
    pub pictured: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Unreadable {
    pub path: String,
    pub message: String,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} images, {} cells (layout {})\n ", self.dataset, self.images, self.cells, self.layout)?;
        for of in &self.classes {
            write!(f, " {} {}", of.class, of.cells)?;
        }
        for of in &self.findings {
            write!(f, "\n  {}: {} ({}; {} with a picture)", of.check, of.count, word(of.severity), of.pictured)?;
        }
        if let Some(share) = self.background_between_classes {
            write!(f, "\n  background: {:.0} % of its variance lies between classes", 100.0 * share)?;
        }
        if !self.unreadable.is_empty() {
            write!(f, "\n  not readable: {} images", self.unreadable.len())?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        write!(f, "\npage: {}", self.file.display())
    }
}

/// Writes the page of `dataset` to `path`. Every image file is decoded once; what cannot be read is said in its place.
///
/// # Errors
/// [`Error::Missing`] where there is no manifest, [`Error::Format`] for the tables, [`Error::Io`] where the page cannot be
/// written, [`Error::Interrupted`].
pub fn write(ws: &Workspace, dataset: &str, path: &Path, ctx: &Context) -> Result<Summary> {
    let tables = Tables::read(ws, dataset, ctx)?;
    let rows = &tables.rows;
    let groups = tables.groups();
    let usable: Vec<Vec<usize>> = Class::ALL.map(|class| tables.usable(class)).into();
    let examples: Vec<Vec<usize>> = usable.iter().map(|of_class| evenly(of_class, EXAMPLES)).collect();
    let boxed: BTreeSet<&str> = rows.iter().filter(|r| r.box_source.is_some()).map(|r| r.path.as_str()).collect();
    let frames = evenly(&boxed.into_iter().collect::<Vec<_>>(), FRAMES);

    let mut wanted = Wanted { cells: examples.iter().flatten().copied().collect(), whole: BTreeSet::new() };
    wanted.whole.extend(frames.iter().map(|path| path.to_string()));
    for finding in groups.iter().flat_map(|group| group.pictured()) {
        wanted.whole.extend(tables.paths(finding));
    }
    let raw = ws.raw_dataset(dataset);
    let mut looks = Looks::at(&raw, rows, &wanted, ctx)?;
    let unlike = unlike(rows, &looks);
    let more = unlike.iter().map(|(row, _)| rows[*row].path.clone());
    looks.look_again(&raw, rows, more.chain(wanted.whole.iter().cloned()).collect());

    let colours = looks.by_class(rows);
    let backgrounds: Vec<(Class, [f32; 3])> = looks.backgrounds(rows).map(|(class, _, rgb)| (class, rgb)).collect();
    let shown: Vec<(Value, OfCheck)> = groups.iter().map(|group| group.show(&tables, &looks)).collect();
    let summary =
        tables.summary(path, &looks, &colours, &backgrounds, shown.iter().map(|(_, of)| of.clone()).collect());
    let values = context! {
        title => format!("The images of {dataset}"),
        subtitle => format!(
            "{} cells in {} images, layout {}: what there is and what was found, before any training",
            thousands(summary.cells), thousands(summary.images), summary.layout
        ),
        warnings => summary.warnings.clone(),
        items => items(&summary),
        counts => figures(tables.figures(&summary)),
        sheets => tables.sheets(&summary).iter().map(sheet).collect::<Vec<_>>(),
        verdict => verdict(&summary),
        colours => figures(plots::backgrounds(&backgrounds).into_iter().flat_map(|f| [f, plots::order(&backgrounds)])),
        colour => sheet(&colour_sheet(&summary)),
        unlike => unlike.iter().map(|(row, distance)| context! {
            tile => looks.tile(&tables, &rows[*row].path, Some(*row)),
            message => format!("{distance:.0} grey levels"),
        }).collect::<Vec<_>>(),
        examples => Class::ALL.into_iter().zip(&examples).map(|(class, chosen)| context! {
            name => class.title(),
            cells => chosen.iter().map(|row| looks.cell_tile(rows, *row)).collect::<Vec<_>>(),
            none => "None that can be used.",
        }).collect::<Vec<_>>(),
        frames => frames.iter().map(|path| looks.tile(&tables, path, None)).collect::<Vec<_>>(),
        boxes => tables.box_sources(),
        findings => shown.into_iter().map(|(value, _)| value).collect::<Vec<_>>(),
        nothing => match tables.issues {
            Some(_) => "Ingest and check found nothing.",
            None => "Nothing is known: the images were not checked.",
        },
        folds => tables.splits.as_ref().ok().map(|_| sheet(&folds_sheet(&summary))),
        no_folds => tables.splits.as_ref().err().cloned().unwrap_or_default(),
        unknown => notes::of_data(ws, dataset, tables.checked),
        card => std::iter::once(["Data set".to_string(), dataset.to_string()])
            .chain(card(ws, dataset, rows, tables.issues.as_deref()))
            .collect::<Vec<_>>(),
    };
    super::write("dataset.html", values, path)?;
    Ok(summary)
}

/// A data set's tables, and what is wrong with them.
struct Tables {
    dataset: String,
    rows: Vec<ManifestRow>,
    /// The rows of each image file: they stand together.
    files: BTreeMap<String, std::ops::Range<usize>>,
    /// `None` where nothing is there.
    issues: Option<Vec<IssueRow>>,
    unusable: BTreeSet<String>,
    /// The folds, or why there are none.
    splits: std::result::Result<Splits, String>,
    /// Whether `check` has seen these rows.
    checked: bool,
    warnings: Vec<String>,
}

impl Tables {
    fn read(ws: &Workspace, dataset: &str, ctx: &Context) -> Result<Self> {
        let manifest = ws.manifest(dataset);
        let (rows, made) = table::read_rows::<ManifestRow>(&manifest, &MANIFEST)?;
        let hash = table::file_hash(&manifest)?;
        let mut warnings = Vec::new();
        match ingest::has_changed(ws, dataset, ctx) {
            Ok(false) => {}
            Ok(true) => warnings.push(format!(
                "The files under raw/{dataset} have changed since they were ingested: this page shows the manifest's. \
                 Run: wbc ingest --dataset {dataset}"
            )),
            Err(interrupted @ Error::Interrupted { .. }) => return Err(interrupted),
            Err(_) => warnings.push(format!("raw/{dataset} cannot be read: no picture can be shown")),
        }
        let checked = made.inputs.contains_key("check");
        if !checked {
            warnings.push(format!(
                "The images were not checked: near copies, label conflicts, blurred and damaged images are not known. \
                 Run: wbc check --dataset {dataset}"
            ));
        }
        let issues = match table::read_rows::<IssueRow>(&ws.issues(dataset), &ISSUES) {
            Ok((issues, made)) => {
                if made.inputs.get("manifest") != Some(&hash) {
                    warnings.push(format!(
                        "The findings are older than the manifest, and may be of other images. Run: wbc check --dataset \
                         {dataset}"
                    ));
                }
                Some(issues)
            }
            Err(Error::Missing { .. }) => None,
            Err(other) => return Err(other),
        };
        let splits = match split::read(ws, dataset) {
            Ok(splits) => Ok(splits),
            Err(Error::Missing { .. }) => {
                Err(format!("The images were not dealt to folds yet. Run: wbc split --stratified --dataset {dataset}"))
            }
            Err(Error::Stale { reason, command, .. }) => {
                warnings.push(format!("The folds are out of date: {reason}. Run: {command}"));
                Err(format!("Out of date: {reason}. Run: {command}"))
            }
            Err(other) => return Err(other),
        };
        let mut files: BTreeMap<String, std::ops::Range<usize>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            files.entry(row.path.clone()).or_insert(i..i).end = i + 1;
        }
        let unusable = unusable(issues.as_deref().unwrap_or_default());
        Ok(Self { dataset: dataset.into(), rows, files, issues, unusable, splits, checked, warnings })
    }

    /// The rows of a class that later stages use.
    fn usable(&self, class: Class) -> Vec<usize> {
        let fits = |r: &ManifestRow| r.class == Some(class) && !self.unusable.contains(&r.image_id);
        (0..self.rows.len()).filter(|i| fits(&self.rows[*i])).collect()
    }

    /// The row of an image_id.
    fn row(&self, image_id: &str) -> Option<usize> {
        self.rows.binary_search_by(|r| r.image_id.as_str().cmp(image_id)).ok()
    }

    /// The files that a finding shows: its own and, of a pair, the other.
    fn paths(&self, finding: &IssueRow) -> Vec<String> {
        let other = finding.related.as_ref().map(|related| match self.row(related) {
            Some(row) => self.rows[row].path.clone(),
            None => related.clone(),
        });
        std::iter::once(finding.path.clone()).chain(other).filter(|path| !path.is_empty()).collect()
    }

    /// The findings by check, the worst first.
    fn groups(&self) -> Vec<Group<'_>> {
        let place = |check: &str| CHECKS.iter().position(|c| c.name() == check).map_or(0, |at| at + 1);
        let mut groups: BTreeMap<(Severity, usize, &str), Vec<&IssueRow>> = BTreeMap::new();
        for issue in self.issues.iter().flatten() {
            groups.entry((issue.severity, place(&issue.check), &issue.check)).or_default().push(issue);
        }
        groups.into_iter().map(|((severity, _, check), findings)| Group::new(check, severity, findings)).collect()
    }

    fn box_sources(&self) -> String {
        let sources: BTreeSet<&str> = self.rows.iter().filter_map(|r| r.box_source.as_deref()).collect();
        let say = |source: &str| match source {
            "mask" => "from the experts' masks".to_string(),
            "stain" => "found by wbc from the nuclei's stain".into(),
            other => other.into(),
        };
        sources.into_iter().map(say).collect::<Vec<_>>().join(", ")
    }

    fn figures(&self, summary: &Summary) -> Vec<plots::Figure> {
        let counts = std::array::from_fn(|i| {
            let of = &summary.classes[i];
            [of.cells - of.left_out, of.left_out]
        });
        let side = |row: &ManifestRow| row.cell_box().map(|(_, _, width, height)| f64::from(width.max(height)));
        let sides = Class::ALL.map(|c| self.rows.iter().filter(|r| r.class == Some(c)).filter_map(side).collect());
        let caption = "Longer side of the box that each cell is cut by, a dot a cell; the line is the class's median. A class \
                       that is cut larger or smaller than it is shows here.";
        let boxes = plots::strips("Size of the cells' boxes", "longer side, px", caption.into(), &sides);
        std::iter::once(plots::classes(&counts)).chain(boxes).collect()
    }

    fn sheets(&self, summary: &Summary) -> Vec<Sheet> {
        let row = |of: &OfClass| {
            let subtypes: Vec<String> = of.subtypes.iter().map(|(s, n)| format!("{s} {}", thousands(*n))).collect();
            let usable = of.cells - of.left_out;
            let numbers = [of.cells, of.left_out, usable, of.groups].map(thousands);
            std::iter::once(of.class.title().to_string()).chain(numbers).chain([subtypes.join(", ")]).collect()
        };
        let columns = ["Class", "Cells", "Left out", "Usable", "Groups", "Subtypes"].map(String::from);
        let mut classes = Sheet {
            table: None,
            label: "classes".into(),
            title: "Cells, those that are left out, and groups that stay in one fold".into(),
            run: None,
            columns: columns.into(),
            left: &[0, 5],
            rows: summary.classes.iter().map(row).collect(),
            notes: Vec::new(),
        };
        if summary.classes.iter().all(|of| of.subtypes.is_empty()) {
            classes.columns.pop();
            classes.rows.iter_mut().for_each(|row| drop(row.pop()));
        }
        let size = |r: &ManifestRow| Some(format!("{} x {}", r.width_px, r.height_px));
        let sheets = [
            self.by_class("Image sizes by class, cells", "Size, px", size),
            self.by_class("File formats by class, cells", "Format", |r| Some(r.format.clone())),
            self.by_class("Boxes by class, cells", "Box by", |r| r.box_source.clone()),
        ];
        std::iter::once(classes).chain(sheets.into_iter().flatten()).collect()
    }

    /// Cells by a property and class; nothing where all cells have the same.
    fn by_class(&self, title: &str, head: &str, of: impl Fn(&ManifestRow) -> Option<String>) -> Option<Sheet> {
        let mut counts: BTreeMap<String, [u64; Class::COUNT]> = BTreeMap::new();
        for row in &self.rows {
            if let (Some(kind), Some(class)) = (of(row), row.class) {
                counts.entry(kind).or_default()[class.index()] += 1;
            }
        }
        let mut kinds: Vec<(String, [u64; Class::COUNT])> = counts.into_iter().collect();
        if kinds.len() < 2 {
            return None;
        }
        kinds.sort_by_key(|(_, n)| std::cmp::Reverse(n.iter().sum::<u64>()));
        if kinds.len() > KINDS {
            let rare = kinds.split_off(KINDS - 1);
            let sum = |class: usize| rare.iter().map(|(_, n)| n[class]).sum();
            kinds.push((format!("{} others", rare.len()), std::array::from_fn(sum)));
        }
        Some(counts_sheet(title, head, kinds))
    }

    fn summary(
        &self,
        file: &Path,
        looks: &Looks,
        colours: &[Option<Colour>],
        backgrounds: &[(Class, [f32; 3])],
        findings: Vec<OfCheck>,
    ) -> Summary {
        let of_class = |class: Class| {
            let own = || self.rows.iter().filter(move |r| r.class == Some(class));
            let mut subtypes = BTreeMap::new();
            own().filter_map(|r| r.subtype.clone()).for_each(|s| *subtypes.entry(s).or_default() += 1);
            OfClass {
                class,
                cells: own().count() as u64,
                left_out: own().filter(|r| self.unusable.contains(&r.image_id)).count() as u64,
                groups: own().map(|r| &r.group_id).collect::<BTreeSet<_>>().len() as u64,
                subtypes,
                colour: colours[class.index()].clone(),
            }
        };
        let (mut sizes_px, mut formats) = (BTreeMap::new(), BTreeMap::new());
        for row in self.files.values().map(|rows| &self.rows[rows.start]) {
            *sizes_px.entry(format!("{} x {}", row.width_px, row.height_px)).or_default() += 1;
            *formats.entry(row.format.clone()).or_default() += 1;
        }
        let mut folds = Vec::new();
        if let Ok(splits) = &self.splits {
            folds.resize(splits.folds as usize, [0; Class::COUNT]);
            for (id, fold) in &splits.fold_of {
                if let Some(class) = self.row(id).and_then(|row| self.rows[row].class) {
                    folds[*fold as usize][class.index()] += 1;
                }
            }
        }
        let unreadable: Vec<Unreadable> = looks
            .failed
            .iter()
            .filter(|(path, _)| self.files.contains_key(*path))
            .map(|(path, message)| Unreadable { path: path.clone(), message: message.clone() })
            .collect();
        Summary {
            dataset: self.dataset.clone(),
            file: file.into(),
            layout: self.rows.first().map_or(String::new(), |r| r.layout.clone()),
            cells: self.rows.len() as u64,
            images: self.files.len() as u64,
            classes: Class::ALL.map(of_class).into(),
            unlabelled: self.rows.iter().filter(|r| r.class.is_none()).count() as u64,
            sizes_px,
            formats,
            groups: self.rows.iter().map(|r| &r.group_id).collect::<BTreeSet<_>>().len() as u64,
            background_between_classes: between_classes(backgrounds),
            findings,
            unreadable,
            folds,
            warnings: self.warnings.clone(),
        }
    }
}

/// The findings of one check and severity, the worst first.
struct Group<'a> {
    check: &'a str,
    severity: Severity,
    findings: Vec<&'a IssueRow>,
}

impl<'a> Group<'a> {
    fn new(check: &'a str, severity: Severity, mut findings: Vec<&'a IssueRow>) -> Self {
        let lower = CHECKS.iter().any(|c| c.name() == check && c.lower_is_worse());
        let badness = |i: &IssueRow| i.score.map_or(f64::NEG_INFINITY, |score| if lower { -score } else { score });
        findings.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
        Self { check, severity, findings }
    }

    /// What the check looks for, as a sentence without its full stop.
    fn doc(&self) -> String {
        let ours = CHECKS.iter().find(|c| c.name() == self.check).map(|c| c.doc());
        let ingests = || ingest::check::ALL.iter().find(|(name, _)| *name == self.check).map(|(_, doc)| *doc);
        let doc = ours.or_else(ingests).unwrap_or_default().trim().trim_end_matches('.');
        let mut letters = doc.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    }

    /// Findings that pictures are wanted of. A conflict is found from both its sides, and shown once.
    fn pictured(&self) -> impl Iterator<Item = &&'a IssueRow> {
        let most = if self.severity == Severity::Note { PICTURED_NOTES } else { PICTURED };
        let mut seen = BTreeSet::new();
        self.findings
            .iter()
            .filter(move |i| {
                let own = i.image_id.as_ref().unwrap_or(&i.path);
                let other = i.related.as_ref().unwrap_or(own);
                i.related.is_none() || seen.insert((own.min(other), own.max(other)))
            })
            .take(most)
    }

    fn show(&self, tables: &Tables, looks: &Looks) -> (Value, OfCheck) {
        let (mut pairs, mut singles, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        let mut told: BTreeSet<(&str, Option<&str>)> = BTreeSet::new();
        let mut pictured = 0;
        for finding in self.pictured() {
            let id = |id: &'a Option<String>| id.as_deref();
            told.insert((&finding.path, id(&finding.image_id)));
            let paths = tables.paths(finding);
            let any = paths.iter().any(|path| matches!(looks.whole.get(path), Some(Ok(_))));
            let line = |message: String| context! { name => finding.path.clone(), message => message };
            if !any {
                let why = paths.first().and_then(|path| looks.failed.get(path));
                let known = why.is_none_or(|why| why.contains(&finding.message) || finding.message.contains(why));
                listed.push(line(match why {
                    Some(why) if !known => format!("{} (no picture: {why})", finding.message),
                    _ => finding.message.clone(),
                }));
                continue;
            }
            pictured += 1;
            if finding.related.is_some() {
                told.extend(self.mirrored(finding));
            }
            let rows = [finding.image_id.as_deref(), finding.related.as_deref()];
            let tile = |(path, id): (&String, Option<&str>)| looks.tile(tables, path, id.and_then(|id| tables.row(id)));
            let tiles: Vec<Value> = paths.iter().zip(rows).map(tile).collect();
            let one = context! { tiles => tiles, message => finding.message.clone() };
            if paths.len() > 1 { pairs.push(one) } else { singles.push(one) }
        }
        let others = || self.findings.iter().filter(|i| !told.contains(&(i.path.as_str(), i.image_id.as_deref())));
        let rest: Vec<Value> =
            others().take(LISTED).map(|i| context! { name => i.path.clone(), message => i.message.clone() }).collect();
        let (count, left) = (self.findings.len(), others().count());
        let all = thousands(count as u64);
        let said = match (left, pictured) {
            (0, 0) => format!("{all} found."),
            (0, _) => format!("{all} found, all of them below."),
            _ => format!("{all} found: the worst {} below, {} more without a picture.", count - left, left),
        };
        let rest_said = match left > LISTED {
            true => format!("The first {LISTED} of the {} others, by name", thousands(left as u64)),
            false => format!("The {left} others, by name"),
        };
        let mut name = self.check.replace('_', " ");
        name[..1].make_ascii_uppercase();
        let severity = format!("{:?}", self.severity).to_lowercase();
        let value = context! {
            id => format!("{}-{severity}", self.check), name => name, severity => severity, word => word(self.severity),
            doc => self.doc(), said => said, pairs => pairs, singles => singles, listed => listed, rest => rest,
            rest_said => rest_said,
        };
        let (check, severity) = (self.check.to_string(), self.severity);
        (value, OfCheck { check, severity, count: count as u64, pictured })
    }

    /// The same pair as found from its other side.
    fn mirrored(&self, finding: &IssueRow) -> Option<(&'a str, Option<&'a str>)> {
        let other = self.findings.iter().find(|i| i.related == finding.image_id && i.image_id == finding.related)?;
        Some((&other.path, other.image_id.as_deref()))
    }
}

/// The pictures that the page shows.
struct Wanted {
    /// Rows, cut as preprocessing cuts them.
    cells: BTreeSet<usize>,
    /// Files.
    whole: BTreeSet<String>,
}

/// What is seen of a cell.
struct Measured {
    /// Sum and sum of squares of each channel over its picture.
    moments: [[u64; 2]; 3],
    /// The plasma's colour in its image.
    background: Option<[f32; 3]>,
}

/// What is seen of one image file: the measures and pictures of its rows, and itself.
type Seen = (Vec<(Measured, Option<Value>)>, Option<Value>);

/// What is kept of all images.
struct Looks {
    /// By row; `None` where its file cannot be read.
    measured: Vec<Option<Measured>>,
    cells: BTreeMap<usize, Value>,
    whole: BTreeMap<String, std::result::Result<Value, String>>,
    /// Files that cannot be read, and why.
    failed: BTreeMap<String, String>,
}

impl Looks {
    /// Decodes every file of the manifest once.
    fn at(raw: &Path, rows: &[ManifestRow], wanted: &Wanted, ctx: &Context) -> Result<Self> {
        let files: Vec<&[ManifestRow]> = rows.chunk_by(|a, b| a.path == b.path).collect();
        let starts = files.iter().scan(0, |next, file| {
            let start = *next;
            *next += file.len();
            Some(start)
        });
        let files: Vec<(usize, &[ManifestRow])> = starts.zip(files.iter().copied()).collect();
        ctx.progress.begin("looking at images", Some(files.len() as u64), "images");
        let seen: Result<Vec<std::result::Result<Seen, String>>> = files
            .par_iter()
            .map(|(start, file)| {
                ctx.check_stop()?;
                let seen =
                    see(raw, file, wanted.whole.contains(&file[0].path), |i| wanted.cells.contains(&(start + i)));
                ctx.progress.advance(1);
                Ok(seen)
            })
            .collect();
        ctx.progress.end();
        let mut looks =
            Self { measured: Vec::new(), cells: BTreeMap::new(), whole: BTreeMap::new(), failed: BTreeMap::new() };
        for ((start, file), seen) in files.into_iter().zip(seen?) {
            match seen {
                Ok((of_rows, whole)) => {
                    for (i, (measured, cell)) in of_rows.into_iter().enumerate() {
                        looks.measured.push(Some(measured));
                        looks.cells.extend(cell.map(|cell| (start + i, cell)));
                    }
                    looks.whole.extend(whole.map(|whole| (file[0].path.clone(), Ok(whole))));
                }
                Err(why) => {
                    looks.measured.extend(file.iter().map(|_| None));
                    looks.failed.insert(file[0].path.clone(), why);
                }
            }
        }
        Ok(looks)
    }

    /// Adds whole pictures of files that are not there yet: those that no row names, and those chosen by what was seen.
    fn look_again(&mut self, raw: &Path, rows: &[ManifestRow], paths: BTreeSet<String>) {
        for path in paths {
            if self.whole.contains_key(&path) || self.failed.contains_key(&path) {
                continue;
            }
            let own: Vec<&ManifestRow> = rows.iter().filter(|r| r.path == path).collect();
            let full = raw.join(&path);
            let decoded = match std::fs::read(&full) {
                Ok(bytes) if bytes.is_empty() => Err("found an empty file".to_string()),
                Ok(bytes) => decode::rgb(&bytes, &full).map_err(why),
                Err(e) => Err(format!("cannot be read: {e}")),
            };
            match decoded {
                Ok(image) => drop(self.whole.insert(path, Ok(whole(&image, &own)))),
                Err(why) => drop(self.failed.insert(path, why)),
            }
        }
    }

    /// A file's picture with its name, and the class of its row where one is meant.
    fn tile(&self, tables: &Tables, path: &str, row: Option<usize>) -> Value {
        let row = row.or_else(|| tables.files.get(path).map(|rows| rows.start));
        let class = row.and_then(|row| tables.rows[row].class).map_or("", Class::title);
        let picture = self.whole.get(path).and_then(|picture| picture.as_ref().ok()).cloned();
        let gone = self.failed.get(path).cloned().unwrap_or_else(|| "no picture".into());
        context! { picture => picture, gone => gone, class => class, name => path, alt => format!("{class} {path}") }
    }

    fn cell_tile(&self, rows: &[ManifestRow], row: usize) -> Value {
        let of = &rows[row];
        let name = of.image_id.rsplit('/').next().unwrap_or_default();
        let gone = self.failed.get(&of.path).cloned().unwrap_or_default();
        let alt = of.class.map_or("", Class::title);
        context! { picture => self.cells.get(&row).cloned(), gone => gone, class => "", name => name, alt => alt }
    }

    /// Class, row and background colour, once an image file and class.
    fn backgrounds<'a>(&'a self, rows: &'a [ManifestRow]) -> impl Iterator<Item = (Class, usize, [f32; 3])> + 'a {
        let mut last: Option<(&str, Class)> = None;
        self.measured.iter().enumerate().filter_map(move |(i, measured)| {
            let class = rows[i].class?;
            let background = measured.as_ref()?.background?;
            let this = Some((rows[i].path.as_str(), class));
            let new = last != this;
            last = this;
            new.then_some((class, i, background))
        })
    }

    fn by_class(&self, rows: &[ManifestRow]) -> Vec<Option<Colour>> {
        let of_class = |class: Class| {
            let pixels = f64::from(prep::Settings::default().size_px).powi(2);
            let (mut sums, mut n) = ([[0u64; 2]; 3], 0.0);
            let own = self.measured.iter().zip(rows).filter(|(_, row)| row.class == Some(class));
            for measured in own.filter_map(|(measured, _)| measured.as_ref()) {
                sums = std::array::from_fn(|c| [0, 1].map(|k| sums[c][k] + measured.moments[c][k]));
                n += pixels;
            }
            let grounds: Vec<[f64; 3]> =
                self.backgrounds(rows).filter(|(of, ..)| *of == class).map(|(.., rgb)| rgb.map(f64::from)).collect();
            let (background, background_deviation) = spread(&grounds)?;
            let mean = sums.map(|[sum, _]| sum as f64 / n);
            let deviation = std::array::from_fn(|c| (sums[c][1] as f64 / n - mean[c] * mean[c]).max(0.0).sqrt());
            Some(Colour { mean, deviation, background, background_deviation })
        };
        Class::ALL.into_iter().map(of_class).collect()
    }
}

/// Reads, verifies and decodes one file; `rows` are its own, `whole` and `cell` say which pictures are wanted.
fn see(
    raw: &Path,
    rows: &[ManifestRow],
    want_whole: bool,
    cell: impl Fn(usize) -> bool,
) -> std::result::Result<Seen, String> {
    let settings = prep::Settings::default();
    let first = &rows[0];
    // A square over all of the image is all of the image.
    let all = Square { x: 0, y: 0, side: i64::from(first.width_px.max(first.height_px)) };
    let (image, _) = prep::part(raw, first, all).map_err(why)?;
    let ground = prep::Settings { size_px: GROUND_PX, cut: Cut::Whole, ..settings.clone() };
    let cut = |row: &ManifestRow, settings: &prep::Settings| {
        let (square, _) = prep::square(row, settings).map_err(why)?;
        Ok::<_, String>(prep::picture(&image, square, settings))
    };
    let background = segment::plasma(&Rgb { width_px: GROUND_PX, height_px: GROUND_PX, pixels: cut(first, &ground)? });
    let mut of_rows = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let pixels = cut(row, &settings)?;
        let shown = cell(i).then(|| picture(&pixels, settings.size_px, settings.size_px));
        of_rows.push((Measured { moments: batch::moments(&pixels), background }, shown));
    }
    let own: Vec<&ManifestRow> = rows.iter().collect();
    Ok((of_rows, want_whole.then(|| whole(&image, &own))))
}

/// What is wrong, without the path.
fn why(error: Error) -> String {
    match error {
        Error::Image { message, .. } => message,
        Error::Io { source, .. } => format!("cannot be read: {source}"),
        Error::Stale { reason, .. } => reason,
        other => other.to_string(),
    }
}

/// A whole image made small, with the boxes of its cells.
fn whole(image: &Rgb, rows: &[&ManifestRow]) -> Value {
    let (width, height) = (image.width_px, image.height_px);
    let share = (f64::from(WHOLE_PX) / f64::from(width.max(height))).min(1.0);
    let scale = |px: u32| (f64::from(px) * share).round() as u32;
    let full = RgbImage::from_raw(width, height, image.pixels.clone()).expect("width * height * 3 bytes");
    let (small_width, small_height) = (scale(width).max(1), scale(height).max(1));
    let mut small = image::imageops::resize(&full, small_width, small_height, image::imageops::FilterType::Triangle);
    for (x, y, w, h) in rows.iter().filter_map(|row| row.cell_box()) {
        let (left, top) = (scale(x).min(small_width - 1), scale(y).min(small_height - 1));
        let (right, bottom) = (scale(x + w).min(small_width - 1), scale(y + h).min(small_height - 1));
        (left..=right).for_each(|x| [top, bottom].into_iter().for_each(|y| small.put_pixel(x, y, BOX)));
        (top..=bottom).for_each(|y| [left, right].into_iter().for_each(|x| small.put_pixel(x, y, BOX)));
    }
    picture(small.as_raw(), small_width, small_height)
}

/// Mean and standard deviation of each channel; `None` of nothing.
fn spread(colours: &[[f64; 3]]) -> Option<([f64; 3], [f64; 3])> {
    let n = (!colours.is_empty()).then_some(colours.len() as f64)?;
    let mean: [f64; 3] = std::array::from_fn(|c| colours.iter().map(|v| v[c]).sum::<f64>() / n);
    let variance = |c: usize| colours.iter().map(|v| (v[c] - mean[c]).powi(2)).sum::<f64>() / n;
    Some((mean, std::array::from_fn(|c| variance(c).sqrt())))
}

/// Share of the colours' variance that lies between the classes' means (eta squared, all channels together), 0 to 1; `None`
/// of fewer than two classes or of colours that are all the same.
fn between_classes(colours: &[(Class, [f32; 3])]) -> Option<f64> {
    let of = |class: Option<Class>| -> Vec<[f64; 3]> {
        let fits = colours.iter().filter(|(c, _)| class.is_none_or(|class| *c == class));
        fits.map(|(_, rgb)| rgb.map(f64::from)).collect()
    };
    let (_, total) = spread(&of(None))?;
    let within = Class::ALL.map(|class| of(Some(class)));
    if within.iter().filter(|c| !c.is_empty()).count() < 2 {
        return None;
    }
    let squares = |deviation: [f64; 3]| deviation.iter().map(|d| d * d).sum::<f64>();
    let inside: f64 =
        within.iter().filter_map(|c| spread(c).map(|(_, deviation)| c.len() as f64 * squares(deviation))).sum();
    let all = colours.len() as f64 * squares(total);
    (all > 0.0).then(|| (1.0 - inside / all).clamp(0.0, 1.0))
}

/// The rows whose background lies farthest from the median of all, and how far.
fn unlike(rows: &[ManifestRow], looks: &Looks) -> Vec<(usize, f64)> {
    let grounds: Vec<(usize, [f32; 3])> = looks.backgrounds(rows).map(|(_, row, rgb)| (row, rgb)).collect();
    if grounds.len() <= UNLIKE {
        return Vec::new();
    }
    let median: [f32; 3] = std::array::from_fn(|c| {
        let mut values: Vec<f32> = grounds.iter().map(|(_, rgb)| rgb[c]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    });
    let distance = |rgb: &[f32; 3]| (0..3).map(|c| f64::from(rgb[c] - median[c]).powi(2)).sum::<f64>().sqrt();
    let mut far: Vec<(usize, f64)> = grounds.iter().map(|(row, rgb)| (*row, distance(rgb))).collect();
    far.sort_by(|a, b| b.1.total_cmp(&a.1));
    far.truncate(UNLIKE);
    far
}

/// The figures at the top.
fn items(summary: &Summary) -> Vec<Value> {
    let item = |name: &str, value: String, note: String| context! { name => name, value => value, note => note };
    let present = summary.classes.iter().filter(|of| of.cells > 0).count();
    let counts = || summary.classes.iter().map(|of| of.cells).filter(|n| *n > 0);
    let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let of =
        |severity: Severity| summary.findings.iter().filter(|f| f.severity == severity).map(|f| f.count).sum::<u64>();
    let checks = |severity: Severity| {
        let names = summary.findings.iter().filter(|f| f.severity == severity).map(|f| f.check.replace('_', " "));
        let names: Vec<String> = names.collect();
        if names.is_empty() { "nothing".into() } else { names.join(", ") }
    };
    let unlabelled = match summary.unlabelled {
        0 => "all with a class".into(),
        n => format!("{} without a class, not used", thousands(n)),
    };
    vec![
        item("Cells", thousands(summary.cells), unlabelled),
        item(
            "Classes",
            format!("{present} of {}", Class::COUNT),
            format!("{} to {} cells", thousands(least), thousands(most)),
        ),
        item("Files or cells left out", thousands(of(Severity::Error)), checks(Severity::Error)),
        item("To look at", thousands(of(Severity::Warning)), checks(Severity::Warning)),
    ]
}

/// What the colours say, in words.
fn verdict(summary: &Summary) -> String {
    let said = "The background, where there is no cell, should not tell the class: a network would learn it instead of the cell.";
    match summary.background_between_classes {
        None => format!("{said} With fewer than two classes, or one colour throughout, there is nothing to compare."),
        Some(share) => {
            let judged = match share {
                s if s < 0.05 => "hardly any: the classes' backgrounds are alike",
                s if s < 0.2 => "some: look at the figures below",
                _ => {
                    "much: classes were photographed under different conditions, and results on these images may not hold \
                      for others"
                }
            };
            format!("{said} Here {:.0} % of the backgrounds' variance lies between classes: {judged}.", 100.0 * share)
        }
    }
}

fn colour_sheet(summary: &Summary) -> Sheet {
    let both = |mean: [f64; 3], deviation: [f64; 3]| {
        (0..3).map(|c| format!("{:.0} ± {:.0}", mean[c], deviation[c])).collect::<Vec<_>>()
    };
    let row = |of: &OfClass| {
        let cells = of.colour.as_ref().map_or(vec!["-".to_string(); 6], |colour| {
            [both(colour.mean, colour.deviation), both(colour.background, colour.background_deviation)].concat()
        });
        std::iter::once(of.class.title().to_string()).chain(cells).collect()
    };
    let channels = ["red", "green", "blue"];
    let heads = ["Picture", "Background"].into_iter().flat_map(|of| channels.map(|c| format!("{of}, {c}")));
    Sheet {
        table: None,
        label: "colour".into(),
        title: "Grey levels, 0 to 255: mean ± standard deviation over the pixels of the cells' pictures, and of the background \
                between images"
            .into(),
        run: None,
        columns: std::iter::once("Class".to_string()).chain(heads).collect(),
        left: &[0],
        rows: summary.classes.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn folds_sheet(summary: &Summary) -> Sheet {
    let folds = summary.folds.iter().enumerate().map(|(i, counts)| (format!("Fold {i}"), *counts));
    counts_sheet("Test images of each fold and class", "Fold", folds.collect())
}

/// Counts a class, with their sums.
fn counts_sheet(title: &str, head: &str, counts: Vec<(String, [u64; Class::COUNT])>) -> Sheet {
    let sum = |class: usize| counts.iter().map(|(_, n)| n[class]).sum();
    let all = ("All".to_string(), std::array::from_fn(sum));
    let row = |(name, counts): (String, [u64; Class::COUNT])| {
        let numbers = counts.into_iter().chain([counts.iter().sum()]).map(thousands);
        std::iter::once(name).chain(numbers).collect()
    };
    let titles = Class::ALL.map(|class| class.title().to_string());
    Sheet {
        table: None,
        label: head.to_lowercase(),
        title: title.into(),
        run: None,
        columns: std::iter::once(head.to_string()).chain(titles).chain(["All".into()]).collect(),
        left: &[0],
        rows: counts.into_iter().chain([all]).map(row).collect(),
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_between_classes_is_eta_squared() {
        let grey = |class: usize, v: f32| (Class::ALL[class], [v; 3]);
        // Means 10 and 20, each one off by 1: between 25, within 1.
        let colours = [grey(0, 9.0), grey(0, 11.0), grey(1, 19.0), grey(1, 21.0)];
        assert!((between_classes(&colours).unwrap() - 25.0 / 26.0).abs() < 1e-12);
        assert_eq!(between_classes(&colours[..2]), None, "one class");
        assert_eq!(between_classes(&[grey(0, 5.0), grey(1, 5.0)]), None, "one colour");
        assert_eq!(between_classes(&[]), None);
    }
}
