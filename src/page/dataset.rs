//! A page a data set, to open before anyone trains: what there is of each class, whether colours differ between
//! classes or batches, examples, and everything that ingest and check found, with its pictures.

use super::findings::Group;
use super::looks::{Looks, Wanted, spread};
use super::plots;
use super::{card, evenly, figures, sheet, word};
use crate::check::CHECKS;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ingest;
use crate::report::{Sheet, notes, thousands};
use crate::rows::{IssueRow, ManifestRow, Severity, unusable};
use crate::schema::{ISSUES, MANIFEST};
use crate::split::{self, Splits};
use crate::table;
use crate::workspace::Workspace;
use minijinja::{Value, context};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Cells shown of each class.
const EXAMPLES: usize = 16;
/// Frames shown with their boxes, and images with a background unlike the others'.
const FRAMES: usize = 8;
const UNLIKE: usize = 8;
/// Rows of a table of sizes, formats and the like; the rarer ones are taken together.
const KINDS: usize = 8;

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
    /// Share of the backgrounds' variance that lies between classes, 0 to 1 (epsilon squared, which makes up for
    /// chance).
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
/// [`Error::Missing`] where there is no manifest, [`Error::Format`] for the tables, [`Error::Io`] where the page
/// cannot be written, [`Error::Interrupted`].
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
    let of_classes = Class::ALL.into_iter().zip(&examples);
    let (without, shown_classes): (Vec<_>, Vec<_>) = of_classes.partition(|(_, chosen)| chosen.is_empty());
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
        examples => shown_classes.iter().map(|(class, chosen)| context! {
            name => class.title(),
            cells => chosen.iter().map(|row| looks.cell_tile(rows, *row)).collect::<Vec<_>>(),
        }).collect::<Vec<_>>(),
        no_examples => without.iter().map(|(class, _)| class.name()).collect::<Vec<_>>().join(", "),
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
pub(super) struct Tables {
    dataset: String,
    pub rows: Vec<ManifestRow>,
    /// The rows of each image file: they stand together.
    pub files: BTreeMap<String, std::ops::Range<usize>>,
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
            Err(interrupted @ Error::Interrupted) => return Err(interrupted),
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
                        "The findings are older than the manifest, and may be of other images. Run: wbc check \
                         --dataset {dataset}"
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
            Err(Error::Stale { reason, .. }) => {
                warnings.push(format!("The folds are out of date: {reason}"));
                Err(format!("Out of date: {reason}"))
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
    pub fn row(&self, image_id: &str) -> Option<usize> {
        self.rows.binary_search_by(|r| r.image_id.as_str().cmp(image_id)).ok()
    }

    /// The files that a finding shows: its own and, of a pair, the other.
    pub fn paths(&self, finding: &IssueRow) -> Vec<String> {
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
        let side = |row: &ManifestRow| row.cell_box().map(|rect| f64::from(rect.longer_side()));
        let sides = Class::ALL.map(|c| self.rows.iter().filter(|r| r.class == Some(c)).filter_map(side).collect());
        let caption = "Longer side of the box that each cell is cut by, a dot a cell; the line is the class's \
                       median. A class that is cut larger or smaller than it is shows here.";
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
            title: "Cells, and groups that stay in one fold".into(),
            run: None,
            columns: columns.into(),
            left: &[0, 5],
            rows: summary.classes.iter().map(row).collect(),
            notes: Vec::new(),
        };
        let sum = |of: fn(&OfClass) -> u64| summary.classes.iter().map(of).sum::<u64>();
        let all = [sum(|of| of.cells), sum(|of| of.left_out), sum(|of| of.cells - of.left_out), summary.groups];
        classes.rows.push(std::iter::once("All".into()).chain(all.map(thousands)).chain([String::new()]).collect());
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

/// Share of the colours' variance that lies between the classes' means, 0 to 1, all channels together: epsilon squared
/// (Kelley, PNAS 21:554-559, 1935), which is 0 where means differ no more than chance lets them. `None` of fewer than
/// two classes, or of colours that are all the same.
fn between_classes(colours: &[(Class, [f32; 3])]) -> Option<f64> {
    let of = |class: Option<Class>| -> Vec<[f64; 3]> {
        let fits = colours.iter().filter(|(c, _)| class.is_none_or(|class| *c == class));
        fits.map(|(_, rgb)| rgb.map(f64::from)).collect()
    };
    // Sum of squares around the mean.
    let squares = |colours: &[[f64; 3]]| {
        spread(colours).map_or(0.0, |(_, d)| colours.len() as f64 * d.iter().map(|d| d * d).sum::<f64>())
    };
    let classes = Class::ALL.map(|class| of(Some(class)));
    let present = classes.iter().filter(|c| !c.is_empty()).count();
    let all = squares(&of(None));
    if present < 2 || colours.len() <= present || all <= 0.0 {
        return None;
    }
    let within: f64 = classes.iter().map(|c| squares(c)).sum();
    let freedom = (colours.len() - 1) as f64 / (colours.len() - present) as f64;
    Some((1.0 - within / all * freedom).clamp(0.0, 1.0))
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
    let each = match present {
        0 | 1 => format!("{} cells", thousands(most)),
        _ => format!("{} to {} cells each", thousands(least), thousands(most)),
    };
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
        item("Classes", format!("{present} of {}", Class::COUNT), each),
        item("Files or cells left out", thousands(of(Severity::Error)), checks(Severity::Error)),
        item("To look at", thousands(of(Severity::Warning)), checks(Severity::Warning)),
    ]
}

/// What the colours say, in words.
fn verdict(summary: &Summary) -> String {
    let said = "The background, where there is no cell, should not tell the class: a network would learn it instead \
                of the cell.";
    match summary.background_between_classes {
        None => format!("{said} With fewer than two classes, or one colour throughout, there is nothing to compare."),
        Some(share) => {
            let judged = match share {
                s if s < 0.05 => "hardly any: the classes' backgrounds are alike",
                s if s < 0.2 => "some: look at the figures below",
                _ => {
                    "much: the classes were not photographed under the same conditions, and results on these images \
                      may not hold for others"
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
        title: "Colour of each class, grey levels".into(),
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
    fn the_share_between_classes_is_epsilon_squared() {
        let grey = |class: usize, v: f32| (Class::ALL[class], [v; 3]);
        // Means 10 and 20, each one off by 1: of 26, 1 is within; 3 degrees of freedom in all, 2 within.
        let colours = [grey(0, 9.0), grey(0, 11.0), grey(1, 19.0), grey(1, 21.0)];
        assert!((between_classes(&colours).unwrap() - (1.0 - 1.5 / 26.0)).abs() < 1e-12);
        let alike = [grey(0, 9.0), grey(0, 11.0), grey(1, 9.5), grey(1, 11.0)];
        assert_eq!(between_classes(&alike), Some(0.0), "no more than chance");
        assert_eq!(between_classes(&colours[..2]), None, "one class");
        assert_eq!(between_classes(&[grey(0, 5.0), grey(0, 5.0), grey(1, 5.0)]), None, "one colour");
        assert_eq!(between_classes(&[]), None);
    }
}
