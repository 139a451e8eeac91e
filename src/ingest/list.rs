//! Lists of images and their classes: every CSV, TSV or Parquet file in the folder of the data set, and those below it
//! that have the columns of a list. Columns are found by their usual names (see [`Role`]) or named in the settings.
//! Paths are relative to the list or to the data set, or absolute.

use super::checks;
use super::columns::{ListColumns, Role};
use super::facts;
use super::finder::{Finder, normalised};
use super::folders;
use super::labels::Vocabulary;
use super::layout::{Layout, Output};
use super::lists::{self, Need};
use super::pairs::Masks;
use super::settings::Settings;
use super::sheet::Sheet;
use super::tree::{ScannedFile, Tree};
use crate::context::Context;
use crate::error::Result;
use crate::guard;
use crate::rows::Severity;
use crate::text;
use std::path::PathBuf;

pub struct List;

impl Layout for List {
    fn name(&self) -> &'static str {
        "list"
    }

    fn looks_for(&self) -> &'static str {
        "a list (.csv, .tsv or .parquet) with the columns path,class[,subtype,patient,slide,split]"
    }

    fn recognises(&self, tree: &Tree, settings: &Settings, vocabulary: &Vocabulary) -> bool {
        let is_list = |file: &&ScannedFile| {
            let Ok(sheet) = tree.sheet(file) else { return true };
            let Ok(columns) = ListColumns::new(&sheet, settings) else { return true };
            if columns.at(Role::Path).is_some() && columns.adds() {
                return true;
            }
            // Other tables stand beside class folders, too. Here they stop ingest only if they seem to have classes.
            let (named, class) = (columns.is_named || is_named_as_list(file), columns.at(Role::Class).is_some());
            named || class || has_classes(&sheet, vocabulary) || !super::class_folders::has_places(tree, vocabulary)
        };
        let gives_roles = || {
            let masks = Masks::find(tree);
            let images: Vec<&ScannedFile> = tree.images().collect();
            let finder = Finder::new(tree, &images, &masks);
            let lists = lists::role_lists(tree, &finder, &[]);
            !lists.is_empty() && super::class_folders::has_places(tree, vocabulary)
        };
        lists::tables(tree, settings).iter().any(is_list) || gives_roles()
    }

    fn outside(&self, tree: &Tree, settings: &Settings) -> Vec<PathBuf> {
        let mut outside = Vec::new();
        for file in lists::candidates(tree) {
            let Ok(sheet) = tree.sheet(file) else { continue };
            let Ok(columns) = ListColumns::new(&sheet, settings) else { continue };
            let paths = sheet.rows.iter().filter_map(|row| row.value(columns.at(Role::Path)));
            outside.extend(paths.map(|path| PathBuf::from(normalised(&tree.root, path))).filter(|p| p.is_absolute()));
        }
        outside.retain(|path| guard::is_file(path).unwrap_or(true));
        outside.sort();
        outside.dedup();
        outside
    }

    fn read(
        &self,
        tree: &Tree,
        settings: &Settings,
        vocabulary: &Vocabulary,
        ctx: &Context,
        output: &mut Output,
    ) -> Result<()> {
        let masks = Masks::find(tree);
        let images: Vec<&ScannedFile> = tree.images().filter(|file| !masks.contains(&file.path)).collect();
        let need = if folders::places(&images, vocabulary).is_some() { Need::List } else { Need::Classes };
        let finder = Finder::new(tree, &images, &masks);
        let lists = lists::read(tree, settings, &finder, need, &[], output)?;
        let facts = facts::gather(&images, &lists, &finder, vocabulary, output);
        // A list that only adds patients does not say that other images are none.
        let only_adds = lists.iter().all(|list| list.columns.at(Role::Class).is_none());
        let (mut unlisted, mut without_label) = (Vec::new(), Vec::new());
        for (path, of_image) in &facts {
            let Some(file) = tree.get(path) else { continue };
            let label = match only_adds {
                true => of_image.place.label.as_deref().filter(|_| of_image.place.contradiction.is_none()),
                false => of_image.label.as_deref(),
            };
            if label.is_none() && of_image.is_listed() {
                output.used(file);
                without_label.push(*path);
            } else if of_image.is_listed() || (only_adds && label.is_some()) {
                if !of_image.is_listed() {
                    unlisted.push(*path);
                }
                let Some(row) = output.row(file, None, label.filter(|_| !of_image.is_unclear)) else { continue };
                of_image.fill(row);
            }
        }
        for path in without_label {
            let message = "in a list, and without a class; left out".to_string();
            output.issue(path, checks::NO_LABEL, Severity::Warning, message);
        }
        if !unlisted.is_empty() {
            let message = format!(
                "{} not in the list, which are used with the class of their folder: {}",
                text::of(unlisted.len() as u64, "image"),
                text::some(unlisted.iter().copied())
            );
            let issue = output.issue(&lists[0].name, checks::LIST_AND_FOLDER, Severity::Warning, message);
            issue.score = Some(unlisted.len() as f64);
        }
        let mut of_classes = lists.iter().filter(|list| list.columns.at(Role::Class).is_some());
        if !only_adds && of_classes.all(|list| list.is_jtsc) && !masks.of.is_empty() {
            super::jtsc::numbers(output);
        }
        masks.apply(tree, ctx, output)
    }
}

/// Whether the name of a table says that it lists the images.
fn is_named_as_list(file: &ScannedFile) -> bool {
    let name = file.stem().to_lowercase();
    ["list", "label", "class", "annotation"].iter().any(|word| name.contains(word)) || folders::role(&name).is_some()
}

/// Whether a column of a table holds names of classes.
fn has_classes(sheet: &Sheet, vocabulary: &Vocabulary) -> bool {
    (0..sheet.columns.len()).any(|column| {
        let values: Vec<&str> = sheet.rows.iter().filter_map(|row| row.value(Some(column))).collect();
        !values.is_empty() && values.iter().filter(|value| vocabulary.known(value).is_some()).count() * 2 > values.len()
    })
}
