//! Ingest up to the manifest, without its tables. A module of `ingest`, so that it reaches what is private there.

use super::labels::Vocabulary;
use super::layout::Output;
use super::settings::Settings;
use super::tree::Tree;
use super::{LAYOUTS, annotations, cut, map_labels, people, template};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::rows::ManifestRow;

/// The rows of a manifest, as [`super::run`] reads them from the files of a tree; with `whole` also their classes and
/// boxes, which takes much longer.
///
/// # Errors
/// As [`super::run`].
pub fn rows(tree: &Tree, settings: &Settings, vocabulary: &Vocabulary, whole: bool) -> Result<Vec<ManifestRow>> {
    let ctx = Context::silent(0);
    template::validate(settings)?;
    let layout = match settings.named_layout()? {
        Some(layout) => Some(layout),
        None => LAYOUTS.into_iter().find(|layout| layout.recognises(tree, settings, vocabulary)),
    };
    let layout = layout.ok_or_else(|| Error::data("fuzz", "a layout", "none"))?;
    layout.outside(tree, settings);
    let mut output = Output::new("fuzz", layout.name());
    layout.read(tree, settings, vocabulary, &ctx, &mut output)?;
    annotations::report_unused(tree, settings, layout.name(), &mut output);
    people::check(&mut output);
    if whole {
        let mapping = map_labels("fuzz", vocabulary, &mut output)?;
        cut::apply(tree, settings, &mapping.classes, &ctx, &mut output)?;
    }
    output.finish(tree);
    tree.require_readable()?;
    Ok(output.rows)
}
