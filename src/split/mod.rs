//! Split: assigns the images of a data set to k folds, for cross-validation as in the paper, or takes the data set's
//! own split. Folds are stratified (each class is spread as evenly as the groups allow) and keep groups whole: copies,
//! cells of one frame, and images of one subject or slide are never in two folds. It reads tables, no pixels.

mod assign;
mod given;
mod hold_out;
mod images;
mod settings;
mod splits;
mod summary;

pub use assign::{assign, balance};
pub use hold_out::{Column, TestSet};
pub use settings::{MAX_FOLDS, Settings};
pub use splits::{Place, Splits, read};
pub use summary::Summary;

use crate::class::Classes;
use crate::context::Context;
use crate::dataset;
use crate::error::{Error, Input, Result};
use crate::schema::ISSUES;
use crate::table::{self, Provenance};
use crate::text::{self, listed};
use crate::workspace::Workspace;
use arrow_array::StringArray;
use images::Images;
use std::collections::{BTreeMap, BTreeSet};

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

/// Assigns the images of `dataset` to folds and writes `splits.parquet`: one row per image and fold, with its role.
///
/// Left out are rows without a class and rows with an issue of severity error.
///
/// # Errors
/// [`Error::Setting`] for bad settings, [`Error::Missing`] or [`Error::Format`] for the manifest, [`Error::Stale`]
/// where the issues belong to another manifest, [`Error::Data`] where nothing has a class, there are fewer groups
/// than folds, or the data set has no split of its own.
pub fn run(ws: &Workspace, dataset: &str, settings: &Settings, ctx: &Context) -> Result<Summary> {
    settings.validate()?;
    let provenance = provenance(ws, dataset, settings, ctx.seed)?;
    let classes = dataset::classes(ws, dataset)?;
    let mut images = Images::read(ws, dataset, &classes)?;
    if images.len() == 0 {
        let reasons: Vec<String> = images.left_out.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        let got =
            if reasons.is_empty() { "an empty manifest".into() } else { format!("none ({})", reasons.join(", ")) };
        let hint = "Put the images into folders named after the classes and run: wbc ingest";
        return Err(Error::data(dataset, "images with a class", got).with_hint(hint));
    }
    if settings.given && images.roles.iter().any(Option::is_some) {
        images.retain(given::NO_ROLE, |images, i| images.roles[i].is_some());
    }
    let groups = images.groups();
    let mut warnings = people(&images, &groups, settings.given);
    let (places, folds) = match settings.given {
        true => {
            warnings.extend(joined_validation(&images));
            (given::places(&images, dataset)?, 1)
        }
        false => {
            let apart = settings.ignore_copies.then(|| images.groups_without_copies());
            if let Some(apart) = &apart {
                warnings.extend(copies_apart(&groups, apart));
            }
            let places = folds(
                settings,
                &images,
                apart.as_ref().unwrap_or(&groups),
                &classes,
                dataset,
                ctx.seed,
                &mut warnings,
            )?;
            warnings.extend(pooled(&images, &places, dataset));
            (places, settings.folds)
        }
    };
    let leaks = if settings.given { given::leaks(&images, &places, dataset) } else { Vec::new() };
    let leaks_file = ws.split_issues(dataset);
    let leaks_file = if settings.given {
        table::write_rows(&leaks_file, &ISSUES, &provenance, &leaks)?;
        Some(leaks_file)
    } else {
        // What an earlier split of another kind left there.
        _ = std::fs::remove_file(leaks_file);
        None
    };

    let mut summary = Summary {
        dataset: dataset.into(),
        images: images.len() as u64,
        groups: groups.iter().collect::<BTreeSet<_>>().len() as u64,
        given: settings.given,
        kept_together: kept_together(&images, settings),
        test_images: Vec::new(),
        train_images: Vec::new(),
        held_out: Vec::new(),
        left_out: std::mem::take(&mut images.left_out),
        other_labels: std::mem::take(&mut images.other_labels),
        leaks,
        leaks_file,
        warnings,
        classes,
    };
    summary.count(&images.classes, &places, folds);
    let columns = [StringArray::from(images.ids), StringArray::from(groups)];
    let task = ctx.progress.task("split", Some(u64::from(folds)), "folds");
    splits::write(&ws.splits(dataset), &provenance, columns.each_ref(), &places, folds, ctx)?;
    drop(task);
    Ok(summary)
}

/// The places of the images in `settings.folds` folds, without those of the held-out test set.
fn folds(
    settings: &Settings,
    images: &Images,
    groups: &[String],
    classes: &Classes,
    dataset: &str,
    seed: u64,
    warnings: &mut Vec<String>,
) -> Result<Vec<Place>> {
    let mut places = vec![Place::HeldOut; images.len()];
    let mut kept: Vec<usize> = (0..images.len()).collect();
    if let Some(test) = settings.test_set()? {
        let (held_out, notes) = hold_out::hold_out(&test, images, groups, classes.len(), dataset, seed)?;
        kept.retain(|i| !held_out[*i]);
        warnings.extend(notes);
        for class in (0..classes.len()).filter(|class| images.classes.contains(class)) {
            if !(0..images.len()).any(|i| held_out[i] && images.classes[i] == class) {
                warnings.push(format!("the held-out test set has no image of class {}", classes.at(class)));
            }
        }
    }
    let class_of: Vec<usize> = kept.iter().map(|i| images.classes[*i]).collect();
    let group_of: Vec<String> = kept.iter().map(|i| groups[*i].clone()).collect();
    let members = assign::members(&group_of);
    let (n, wanted) = (members.len(), settings.folds as usize);
    let subjects = images.subjects_of(kept.iter().copied());
    let slides = images.slides_of(kept.iter().copied());
    if n < wanted {
        let got = match (n, kept.len()) {
            (1, 1) => "1 image".into(),
            (n, images) if n == images => format!("{images} images"),
            (n, count) => {
                let of = match (subjects.len(), slides.len()) {
                    (0, 0) => "copies or cells of one frame".into(),
                    (0, _) => format!("slides ({}) and copies", listed(slides)),
                    (_, _) => format!("subjects ({}) and copies", listed(subjects)),
                };
                let people = |group: &Vec<usize>| {
                    let own = || group.iter().map(|i| kept[*i]);
                    are_of_several(images, own()).then(|| name(images, own())).flatten()
                };
                let joined =
                    members.iter().filter_map(people).max_by_key(String::len).map_or(String::new(), |joined| {
                        format!("; {joined} are one group, as they share copies, a frame or a slide")
                    });
                format!("{count} images in {} of {of}{joined}", text::of(n as u64, "group"))
            }
        };
        let hint = match n {
            0 => "All images are held out: hold out less".into(),
            1 => "More images or subjects are needed".into(),
            n => format!("Ask for at most as many folds as that: wbc split --folds {n}"),
        };
        let expected = format!("at least {wanted} images or groups for {wanted} folds");
        return Err(Error::data(dataset, expected, got).with_hint(hint));
    }
    let fold_size = kept.len().div_ceil(wanted);
    for group in members.iter().filter(|group| group.len() > fold_size) {
        warnings.push(format!(
            "{} larger than a fold ({} of {} images; a fold has about {fold_size}): folds differ in size",
            match name(images, group.iter().map(|i| kept[*i])) {
                Some(name) => format!("{name} is"),
                None => format!("the group of copies of {} is", given::file(&group_of[group[0]], dataset)),
            },
            group.len(),
            kept.len()
        ));
    }
    for (index, class) in classes.iter().enumerate() {
        let with: Vec<&Vec<usize>> =
            members.iter().filter(|group| group.iter().any(|i| class_of[*i] == index)).collect();
        let images_of_class = class_of.iter().filter(|c| **c == index).count() as u64;
        let of_class = with.iter().flat_map(|group| group.iter()).filter(|i| class_of[**i] == index);
        let of = name(images, of_class.map(|i| kept[*i])).map_or(String::new(), |name| format!(" ({name})"));
        match with.len() {
            0 => warnings.push(format!("no image of class {class}: no fold trains on it or tests it")),
            1 => warnings.push(format!(
                "class {class} has {} in one group{of}: the fold that tests it does not train on it",
                text::of(images_of_class, "image")
            )),
            n if n < wanted => warnings.push(format!(
                "class {class} has {} in {n} groups{of} for {wanted} folds: {} of them will not test it",
                text::of(images_of_class, "image"),
                wanted - n
            )),
            _ => {}
        }
    }
    // In a joint data set, the classes of each of its data sets are spread over the folds.
    let from: Vec<&str> = kept.iter().map(|i| dataset::of_image(&images.ids[*i])).collect();
    let datasets: Vec<&str> = from.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let position = |name: &str| datasets.iter().position(|other| *other == name).expect("every name is listed");
    let stratum_of: Vec<usize> =
        class_of.iter().zip(from).map(|(class, from)| position(from) * classes.len() + class).collect();
    let mut fold_of = assign(&stratum_of, &group_of, settings.folds, seed);
    if images.has_people() {
        balance(&stratum_of, &group_of, settings.folds, &mut fold_of);
    }
    kept.iter().zip(fold_of).for_each(|(i, fold)| places[*i] = Place::Fold(fold));
    Ok(places)
}

/// The subjects of some images, or their slides where no subject is known: "subject P3", "slides 4, 5".
fn name(images: &Images, of: impl Iterator<Item = usize> + Clone) -> Option<String> {
    let (subjects, slides) = (images.subjects_of(of.clone()), images.slides_of(of));
    let (what, names) = if subjects.is_empty() { ("slide", slides) } else { ("subject", subjects) };
    let plural = if names.len() == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| format!("{what}{plural} {}", listed(names)))
}

/// Whether images are of several subjects, or several slides where no subject is known.
fn are_of_several(images: &Images, of: impl Iterator<Item = usize> + Clone) -> bool {
    let subjects = images.subjects_of(of.clone()).len();
    subjects > 1 || subjects == 0 && images.slides_of(of).len() > 1
}

/// What is kept together, in words.
fn kept_together(images: &Images, settings: &Settings) -> String {
    let given = settings.given;
    let copies: Vec<usize> = assign::members(&images.copies).iter().map(Vec::len).filter(|n| *n > 1).collect();
    let of_copies = match copies.len() {
        _ if settings.ignore_copies => "cells of one frame, but NOT copies".into(),
        0 => "copies and cells of one frame (there are none)".into(),
        n => format!(
            "copies that check found and cells of one frame ({} in {})",
            text::of(copies.iter().sum::<usize>() as u64, "image"),
            text::of(n as u64, "group")
        ),
    };
    let (subjects, slides) = (images.subjects_of(0..images.len()), images.slides_of(0..images.len()));
    let people = match (subjects.len() as u64, slides.len() as u64) {
        (0, 0) => "; patients are not known, so that cells of one patient may be in several folds".into(),
        (0, n) => format!("; by slide: {}; patients are not known", text::of(n, "slide")),
        (n, _) => format!("; by patient: {}", text::of(n, "subject")),
    };
    match given {
        true if subjects.is_empty() && slides.is_empty() => {
            "nothing is moved; copies are compared between training and test images; patients are not known".into()
        }
        true => format!("nothing is moved; compared between training and test images: copies{people}"),
        false => format!("kept together: {of_copies}{people}"),
    }
}

/// A warning where copies may be in different folds. `groups` keep them together, and `apart` do not.
fn copies_apart(groups: &[String], apart: &[String]) -> Option<String> {
    let mut parts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    groups.iter().zip(apart).for_each(|(group, part)| _ = parts.entry(group).or_default().insert(part));
    let torn = parts.iter().filter(|(_, parts)| parts.len() > 1).map(|(group, _)| *group).collect::<BTreeSet<_>>();
    let images = groups.iter().filter(|group| torn.contains(group.as_str())).count();
    (images > 0).then(|| {
        format!(
            "LEAK: copies are not kept together (ignore_copies): {} in {} of copies may be in different folds, so that \
             accuracies on these folds are too high",
            text::of(images as u64, "image"),
            text::of(torn.len() as u64, "group")
        )
    })
}

/// Warnings on subjects and slides: images without one where others have one, and copies that join subjects.
fn people(images: &Images, groups: &[String], given: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let without = (0..images.len()).filter(|i| images.subjects[*i].is_none() && images.slides[*i].is_none()).count();
    if images.has_people() && without > 0 {
        warnings.push(format!(
            "{} of {} have no subject or slide: each is its own group, and may be from a patient of another fold",
            without,
            text::of(images.len() as u64, "image")
        ));
    }
    // In a data set's own split nothing is kept together.
    for group in if given { Vec::new() } else { assign::members(groups) } {
        let subjects = images.subjects_of(group.iter().copied());
        if subjects.len() > 1 {
            warnings.push(format!(
                "subjects {} have copies, a frame or a slide in common: kept together as one group of {}",
                listed(subjects),
                text::of(group.len() as u64, "image")
            ));
        }
    }
    warnings
}

/// The sentence on validation images that join the training images of the data set's own split.
fn joined_validation(images: &Images) -> Option<String> {
    let n = images.roles.iter().flatten().filter(|role| *role == given::VALIDATION).count() as u64;
    (n > 0).then(|| {
        format!(
            "{} of the given role validation join the training images: nothing is chosen on them",
            text::of(n, "image")
        )
    })
}

/// The sentence on the data set's own test and validation images, where folds use them like all others.
fn pooled(images: &Images, places: &[Place], dataset: &str) -> Option<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let in_folds = images.roles.iter().zip(&images.ids).zip(places).filter(|(_, place)| **place != Place::HeldOut);
    for ((role, id), _) in in_folds {
        if let Some(role) = role.as_deref().filter(|role| *role != given::TRAIN) {
            *counts.entry(folder_of_role(id, role, dataset)).or_default() += 1;
        }
    }
    let counts: Vec<String> = counts.iter().map(|(role, n)| format!("{} of {role}", text::of(*n, "image"))).collect();
    (!counts.is_empty()).then(|| {
        format!(
            "the set's own split is not used: {} are assigned to the folds{}",
            counts.join(" and "),
            if given::places(images, dataset).is_ok() { " (wbc split --given uses it)" } else { "" }
        )
    })
}

/// A role as the data set spells it: the folder of the image that is called after it, or else the role's name.
fn folder_of_role(image_id: &str, role: &str, dataset: &str) -> String {
    let stem = &role[..role.len().min(3)];
    let mut folders: Vec<&str> = given::file(image_id, dataset).split('/').collect();
    folders.pop();
    let folder = folders.into_iter().find(|folder| folder.to_lowercase().starts_with(stem));
    folder.unwrap_or(role).into()
}
