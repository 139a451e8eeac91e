//! The values that the templates' common parts (`parts.html`) take, and the rendering of a page.

use crate::atomic;
use crate::error::{Error, Result};
use crate::figure::svg::Figure;
use crate::report::Sheet;
use minijinja::{Environment, Value, context};
use std::path::Path;

const TEMPLATES: [(&str, &str); 6] = [
    ("base.html", include_str!("base.html")),
    ("parts.html", include_str!("parts.html")),
    ("run.html", include_str!("run.html")),
    ("dataset.html", include_str!("dataset.html")),
    ("laboratories.html", include_str!("laboratories.html")),
    ("to_label.html", include_str!("to_label.html")),
];

/// Renders the template of that name and writes the page to `path`.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn write(template: &str, values: Value, path: &Path) -> Result<()> {
    let mut environment = Environment::new();
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).expect("the templates are valid");
    }
    environment.add_global("version", env!("CARGO_PKG_VERSION"));
    let html = environment.get_template(template).expect("the template exists").render(values);
    let html = html.map_err(|e| Error::compute("page", e))?;
    atomic::write_bytes(path, html.as_bytes())
}

/// An image (RGB, row by row) as base64 of a JPEG: a tenth of a PNG's size, so that a page can be sent by email.
pub(super) fn image(pixels: &[u8], width_px: u32, height_px: u32) -> Value {
    const QUALITY: u8 = 85;
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    let kind = image::ExtendedColorType::Rgb8;
    image::ImageEncoder::write_image(encoder, pixels, width_px, height_px, kind).expect("the pixels fit the size");
    context! { jpeg => data_encoding::BASE64.encode(&bytes), width_px => width_px, height_px => height_px }
}

/// With a capital at the start.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A key figure: its name, its value, and a note below it.
pub(super) fn item(name: &str, value: String, note: impl Into<String>) -> Value {
    context! { name => name, value => value, note => note.into() }
}

/// A table.
pub(super) fn sheet(sheet: &Sheet) -> Value {
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

/// Figures with their titles and captions.
pub(super) fn figures(figures: impl IntoIterator<Item = Figure>) -> Vec<Value> {
    let value = |f: Figure| {
        let (wide, svg) = (f.is_wide(), f.on_page());
        context! { title => f.title, svg => svg, caption => f.caption, wide => wide }
    };
    figures.into_iter().map(value).collect()
}
