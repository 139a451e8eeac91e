//! A template of the images' paths in the settings: `{subject}/{class}/{file}`, `Im{number}_{label}.tif`. Where no
//! layout is recognised, templates that would read the folder are proposed.

use super::checks;
use super::folders;
use super::labels::Vocabulary;
use super::layout::{Layout, Output};
use super::pairs::Masks;
use super::settings::Settings;
use super::tree::{ScannedFile, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::rows::Severity;
use crate::text;
use regex::{Captures, Regex};
use std::collections::BTreeMap;

pub struct Template;

impl Layout for Template {
    fn name(&self) -> &'static str {
        "path"
    }

    fn looks_for(&self) -> &'static str {
        "images whose paths match [ingest] path in the pipeline file"
    }

    /// Used where the settings have a template, never recognised.
    fn recognises(&self, _: &Tree, _: &Settings, _: &Vocabulary) -> bool {
        false
    }

    fn read(&self, tree: &Tree, settings: &Settings, _: &Vocabulary, ctx: &Context, output: &mut Output) -> Result<()> {
        let Some(template) = &settings.path else {
            return Err(Error::setting("ingest.path", "a template such as {subject}/{class}/{file}", "none"));
        };
        let pattern = Pattern::new("ingest.path", template)?;
        let top = folders::top(tree);
        let matched = |file: &ScannedFile| {
            let below = file.path.strip_prefix(top.as_str()).unwrap_or(&file.path);
            pattern.values(&file.path).or_else(|| pattern.values(below))
        };
        let mut masks = Masks::find(tree);
        if let Some(template) = &settings.mask {
            check_names("ingest.mask", template)?;
            let mut without = Vec::new();
            for image in tree.images().filter(|file| !file.few_greys) {
                let Some(values) = matched(image) else { continue };
                let path = fill(template, image, &values);
                let beside =
                    if image.folder().is_empty() { path.clone() } else { format!("{}/{path}", image.folder()) };
                let mask = [beside, format!("{top}{path}"), path].iter().find_map(|path| tree.get(path));
                match mask.filter(|mask| mask.path != image.path) {
                    Some(mask) => masks.set(image, mask),
                    None => without.push(image),
                }
            }
            without.retain(|image| !masks.contains(&image.path) && !masks.of.contains_key(&image.path));
            if !without.is_empty() {
                let message = format!(
                    "{} without a mask at {template}, such as {}",
                    text::of(without.len() as u64, "image"),
                    without[0].path
                );
                output.issue("", checks::MASKS, Severity::Warning, message).score = Some(without.len() as f64);
            }
        }
        let is_mask = |file: &&ScannedFile| masks.contains(&file.path);
        let mut others: BTreeMap<&str, Vec<&ScannedFile>> = BTreeMap::new();
        let mut odd_roles: BTreeMap<String, u64> = BTreeMap::new();
        for file in tree.images().filter(|file| !is_mask(file)) {
            let Some(values) = matched(file) else {
                output.used(file);
                others.entry(file.folder()).or_default().push(file);
                continue;
            };
            let value = |names: &[&str]| names.iter().find_map(|name| values.get(*name)).cloned();
            let row = output.row(file, None, value(&["class", "label"]).as_deref()).expect("an image has a header");
            (row.subject_id, row.slide_id) = (value(&["subject", "patient"]), value(&["slide"]));
            row.subtype = value(&["subtype"]);
            let word = value(&["role"]);
            row.given_role = word.as_deref().and_then(folders::role).map(String::from);
            if let (Some(word), None) = (word, &row.given_role) {
                *odd_roles.entry(word).or_default() += 1;
            }
        }
        for (folder, files) in others {
            let message = format!(
                "left out: {} whose path is not like {template}, such as {}",
                text::of(files.len() as u64, "image"),
                files[0].file_name()
            );
            output.issue(folder, checks::NO_LABEL, Severity::Warning, message).score = Some(files.len() as f64);
        }
        if !odd_roles.is_empty() {
            let words = text::counts(odd_roles.iter().map(|(word, n)| (word.as_str(), *n)));
            let message =
                format!("expected train, test or validation as given roles, found {words}; they are not used");
            output.issue("", checks::NOT_USED, Severity::Warning, message);
        }
        masks.apply(tree, ctx, output)
    }
}

/// Checks the templates of the settings.
///
/// # Errors
/// [`Error::Setting`] for a template that cannot be read or names no class.
pub fn validate(settings: &Settings) -> Result<()> {
    if let Some(template) = &settings.path {
        let pattern = Pattern::new("ingest.path", template)?;
        if !pattern.names.iter().any(|name| ["class", "label"].contains(&name.as_str())) {
            return Err(Error::setting("ingest.path", "a template with {class} or {label}", template));
        }
    }
    match (&settings.mask, &settings.path) {
        (Some(template), None) => Err(Error::setting("ingest.mask", "a template only beside ingest.path", template)),
        (Some(template), Some(_)) => check_names("ingest.mask", template),
        (None, _) => Ok(()),
    }
}

/// A template as a regular expression with one group per placeholder.
struct Pattern {
    regex: Regex,
    names: Vec<String>,
}

/// The parts of a template: fixed text, and names of placeholders.
fn parts(key: &str, template: &str) -> Result<Vec<std::result::Result<String, String>>> {
    let wrong =
        || Error::setting(key, "text and placeholders such as {class}, {subject}, {number} or {file}", template);
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(wrong)?;
        let valid = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if before.contains('}') || !valid {
            return Err(wrong());
        }
        parts.extend([Ok(before.to_string()), Err(name.to_string())]);
        rest = after;
    }
    if rest.contains('}') {
        return Err(wrong());
    }
    parts.push(Ok(rest.into()));
    Ok(parts)
}

fn check_names(key: &str, template: &str) -> Result<()> {
    parts(key, template).map(|_| ())
}

impl Pattern {
    fn new(key: &str, template: &str) -> Result<Pattern> {
        let (mut pattern, mut names) = (String::from("(?i)^"), Vec::new());
        for part in parts(key, template.trim_start_matches("./"))? {
            match part {
                Ok(fixed) => pattern += &regex::escape(&fixed),
                Err(name) => {
                    if names.contains(&name) {
                        return Err(Error::setting(key, "each placeholder once", template));
                    }
                    let anything = match name.as_str() {
                        "number" => "[0-9]+",
                        "file" => "[^/]+",
                        _ => "[^/]+?",
                    };
                    pattern += &format!("({anything})");
                    names.push(name);
                }
            }
        }
        pattern += "$";
        let regex = Regex::new(&pattern).map_err(|e| Error::setting(key, "a template of a path", e))?;
        Ok(Pattern { regex, names })
    }

    /// The values of the placeholders in a path that matches.
    fn values(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let captures: Captures = self.regex.captures(path)?;
        let values = self.names.iter().zip(captures.iter().skip(1));
        Some(values.filter_map(|(name, value)| Some((name.clone(), value?.as_str().to_string()))).collect())
    }
}

/// The path of a mask by its template.
fn fill(template: &str, image: &ScannedFile, values: &BTreeMap<String, String>) -> String {
    let mut path = template.replace("{stem}", image.stem()).replace("{file}", image.file_name());
    for (name, value) in values {
        path = path.replace(&format!("{{{name}}}"), value);
    }
    path
}

/// Templates that would read images which no layout recognises, each with the labels that it finds: sentences.
pub fn proposals(tree: &Tree) -> Vec<String> {
    let top = folders::top(tree);
    let images: Vec<&ScannedFile> = tree.images().filter(|file| !file.few_greys).collect();
    let Some(first) = images.first() else { return Vec::new() };
    let extension = first.file_name().rsplit_once('.').map_or("", |(_, extension)| extension);
    let depth = |file: &ScannedFile| file.path.strip_prefix(top.as_str()).unwrap_or(&file.path).matches('/').count();
    let folders = "{folder}/".repeat(depth(first));
    let in_folders: String = (1..=depth(first)).map(|n| format!("{{folder{n}}}/")).collect();
    let mut templates = Vec::new();
    match depth(first) {
        0 | 1 => {}
        2 => templates.extend(["{subject}/{class}/{file}".to_string(), "{class}/{subject}/{file}".into()]),
        n => {
            let above: String = (1..n - 1).map(|n| format!("{{folder{n}}}/")).collect();
            templates.extend([
                format!("{above}{{subject}}/{{class}}/{{file}}"),
                format!("{above}{{class}}/{{subject}}/{{file}}"),
            ]);
        }
    }
    let above = if depth(first) <= 1 { folders } else { in_folders };
    for name in ["Im{number}_{label}", "{class}_{number}", "{class}-{number}", "{class}{number}", "{number}_{class}"] {
        templates.push(format!("{above}{name}.{extension}"));
    }
    let mut proposals: Vec<(usize, String)> = Vec::new();
    for template in templates {
        let Ok(pattern) = Pattern::new("ingest.path", &template) else { continue };
        let mut labels: BTreeMap<String, u64> = BTreeMap::new();
        for file in &images {
            let below = file.path.strip_prefix(top.as_str()).unwrap_or(&file.path);
            if let Some(values) = pattern.values(below)
                && let Some(label) = values.get("class").or(values.get("label"))
            {
                *labels.entry(label.clone()).or_default() += 1;
            }
        }
        let read: u64 = labels.values().sum();
        // A label that nearly every image has of its own is a number or a name.
        if read as usize * 2 < images.len() || labels.len() < 2 || labels.len() > 100 || labels.len() as u64 * 2 > read
        {
            continue;
        }
        let counts = text::counts(labels.iter().map(|(label, n)| (label.as_str(), *n)));
        proposals.push((labels.len(), format!("path = \"{template}\" (would read {counts})")));
    }
    // Data sets have few classes.
    proposals.sort();
    proposals.into_iter().map(|(_, sentence)| sentence).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_paths() {
        let value = |template: &str, path: &str, name: &str| {
            Pattern::new("ingest.path", template).unwrap().values(path).and_then(|mut values| values.remove(name))
        };
        assert_eq!(value("{subject}/{class}/{file}", "P1/neutrophil/a.png", "subject").as_deref(), Some("P1"));
        assert_eq!(value("{subject}/{class}/{file}", "neutrophil/a.png", "class"), None);
        assert_eq!(value("{class}_{number}.bmp", "large_lymph_12.BMP", "class").as_deref(), Some("large_lymph"));
        assert_eq!(value("Im{number}_{label}.tif", "Im001_1.tif", "label").as_deref(), Some("1"));
        assert_eq!(value("{any}/{class}/{file}", "x/y/z.png", "any").as_deref(), Some("x"));
        for wrong in ["{class", "class}", "{}", "{a b}/{class}", "{class}/{class}"] {
            assert!(Pattern::new("ingest.path", wrong).is_err(), "{wrong}");
        }
        let settings = |path: &str| Settings { path: Some(path.into()), ..Settings::default() };
        assert!(validate(&settings("{subject}/{file}")).is_err());
        assert!(validate(&settings("{label}/{file}")).is_ok());
    }
}
