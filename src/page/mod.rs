//! Pages: one self-contained HTML file each, a run's ([`run`]) and a data set's ([`dataset`]). They open offline, in
//! light and in dark, on a phone and on paper. `base.html` has the style of both, `parts.html` what both are made of.

use crate::atomic;
use crate::class::Class;
use crate::error::{Error, Result};
use crate::fetch;
use crate::report::{Sheet, notes, thousands};
use crate::rows::{IssueRow, ManifestRow, Severity};
use crate::workspace::Workspace;
use minijinja::{Environment, Value, context};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub mod dataset;
mod findings;
mod looks;
mod maps;
pub mod plots;
pub(crate) mod png;
pub mod run;

const TEMPLATES: [(&str, &str); 4] = [
    ("base.html", include_str!("base.html")),
    ("parts.html", include_str!("parts.html")),
    ("run.html", include_str!("run.html")),
    ("dataset.html", include_str!("dataset.html")),
];

/// Fills the template of that name and writes the page to `path`.
///
/// # Errors
/// [`Error::Io`].
fn write(template: &str, values: Value, path: &Path) -> Result<()> {
    let mut environment = Environment::new();
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).expect("a template of ours");
    }
    environment.add_global("version", env!("CARGO_PKG_VERSION"));
    let html = environment.get_template(template).expect("it was added").render(values);
    let html = html.map_err(|e| Error::Compute { what: "page".into(), message: e.to_string() })?;
    atomic::write_bytes(path, html.as_bytes())
}

/// A picture (RGB, rows from the top) as base64 of a JPEG: a tenth of a PNG's size, and small enough for a mail.
fn picture(pixels: &[u8], width_px: u32, height_px: u32) -> Value {
    const QUALITY: u8 = 85;
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    let kind = image::ExtendedColorType::Rgb8;
    image::ImageEncoder::write_image(encoder, pixels, width_px, height_px, kind).expect("memory takes everything");
    context! { jpeg => data_encoding::BASE64.encode(&bytes), width_px => width_px, height_px => height_px }
}

fn sheet(sheet: &Sheet) -> Value {
    let left = |i: usize| sheet.left.contains(&i);
    let columns = sheet.columns.iter().enumerate().map(|(i, name)| context! { name => name, left => left(i) });
    let row = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(i, text)| context! { text => text, left => left(i) });
        cells.collect::<Vec<_>>()
    };
    context! {
        heading => sheet.heading(),
        columns => columns.collect::<Vec<_>>(),
        rows => sheet.rows.iter().map(row).collect::<Vec<_>>(),
    }
}

fn figures(figures: impl IntoIterator<Item = plots::Figure>) -> Vec<Value> {
    let value = |f: plots::Figure| context! { title => f.title, svg => f.on_page(), caption => f.caption };
    figures.into_iter().map(value).collect()
}

/// Up to `most` of `items`, evenly drawn.
pub(crate) fn evenly<T: Copy>(items: &[T], most: usize) -> Vec<T> {
    let shown = items.len().min(most);
    (0..shown).map(|i| items[i * items.len() / shown]).collect()
}

/// Images by number of files and by what they are, as facts of a data set's card.
fn card(ws: &Workspace, dataset: &str, rows: &[ManifestRow], issues: Option<&[IssueRow]>) -> Vec<[String; 2]> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, text: String| facts.push([name.to_string(), text]);
    let count = |class| rows.iter().filter(|r| r.class == class).count() as u64;
    let mut classes: Vec<String> =
        Class::ALL.into_iter().map(|c| format!("{} {}", c.name(), thousands(count(Some(c))))).collect();
    if count(None) > 0 {
        classes.push(format!("of no class {}", thousands(count(None))));
    }
    fact("Cells", format!("{}: {}", thousands(rows.len() as u64), classes.join(", ")));
    let files: BTreeMap<&str, u64> = rows.iter().map(|r| (r.path.as_str(), r.file_bytes)).collect();
    let megabytes = files.values().sum::<u64>() as f64 / 1e6;
    fact("Image files", format!("{}, {megabytes:.1} MB", thousands(files.len() as u64)));
    let span = |of: fn(&ManifestRow) -> u32| {
        let (low, high) = (rows.iter().map(of).min().unwrap_or(0), rows.iter().map(of).max().unwrap_or(0));
        if low == high { low.to_string() } else { format!("{low} to {high}") }
    };
    fact("Images, px", format!("{} wide, {} high", span(|r| r.width_px), span(|r| r.height_px)));
    let mut by = |name: &str, of: fn(&ManifestRow) -> Option<&str>| {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        rows.iter().filter_map(of).for_each(|key| *counts.entry(key).or_default() += 1);
        let text: Vec<String> = counts.iter().map(|(k, n)| format!("{k} {}", thousands(*n))).collect();
        if !text.is_empty() {
            fact(name, text.join(", "));
        }
    };
    by("Layout", |r| Some(&r.layout));
    by("File format", |r| Some(&r.format));
    by("Boxes around cells, by", |r| r.box_source.as_deref());
    let groups: BTreeSet<&str> = rows.iter().map(|r| r.group_id.as_str()).collect();
    let groups =
        format!("{} (cells of one frame, exact and near copies are one group)", thousands(groups.len() as u64));
    fact("Groups that stay in one fold", groups);
    if notes::is_drawn(ws, dataset) {
        fact("Source", "drawn by wbc, not photographed".into());
    }
    if let Some(issues) = issues {
        let mut counts: BTreeMap<(Severity, &str), u64> = BTreeMap::new();
        issues.iter().for_each(|i| *counts.entry((i.severity, &i.check)).or_default() += 1);
        let text = counts.iter().map(|((s, check), n)| format!("{check} {} ({})", thousands(*n), word(*s)));
        let text: Vec<String> = text.collect();
        fact("Found by ingest and check", if text.is_empty() { "nothing".into() } else { text.join(", ") });
    }
    let origin = fetch::origin(ws, dataset);
    if let Some(origin) = &origin {
        fact("Fetched from", origin.source.clone());
        origin.citation.iter().for_each(|citation| fact("To be cited", citation.clone()));
    }
    let terms = origin.and_then(|o| o.terms).unwrap_or("that of the images' source, which wbc does not know".into());
    fact("Licence", terms);
    facts
}

/// What a finding of a severity means for the image.
fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "left out",
        Severity::Warning => "to look at",
        Severity::Note => "noted",
    }
}
