//! The held-out test set: which groups no fold trains on or tests.

use super::assign::{counts, members};
use super::images::Images;
use crate::error::{Error, Result};
use crate::seed;
use crate::text::{self, listed};
use rand::seq::SliceRandom;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::str::FromStr;

/// Which images are held out: the setting `split.test`.
#[derive(Clone, Debug, PartialEq)]
pub enum TestSet {
    /// The images with one of these values in a column of the manifest, such as `subject=P7,P9`.
    Column(Column, BTreeSet<String>),
    /// About this share of every class, above 0 and below 1, such as `0.2`.
    Share(f64),
}

/// A column of the manifest that names test images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// `subject_id`.
    Subject,
    /// `slide_id`.
    Slide,
    /// `given_role`.
    Role,
}

impl FromStr for TestSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let expected = "a share such as 0.2, or subject=NAME,NAME, slide=NAME,NAME or role=test";
            Error::setting("split.test", expected, text)
        };
        match text.split_once('=') {
            None => {
                text.trim().parse().ok().filter(|share| *share > 0.0 && *share < 1.0).map(Self::Share).ok_or_else(wrong)
            }
            Some((column, values)) => {
                let column = match column.trim() {
                    "subject" | "subject_id" | "patient" => Column::Subject,
                    "slide" | "slide_id" => Column::Slide,
                    "role" | "given_role" => Column::Role,
                    _ => return Err(wrong()),
                };
                let values: BTreeSet<String> =
                    values.split(',').map(|v| v.trim().to_string()).filter(|v| !v.is_empty()).collect();
                if values.is_empty() { Err(wrong()) } else { Ok(Self::Column(column, values)) }
            }
        }
    }
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Slide => "slide",
            Self::Role => "role",
        }
    }

    fn values(self, images: &Images) -> &[Option<String>] {
        match self {
            Self::Subject => &images.subjects,
            Self::Slide => &images.slides,
            Self::Role => &images.roles,
        }
    }
}

/// Whether each image is held out, and sentences on what was held out besides the named images. Groups stay whole.
///
/// # Errors
/// [`Error::Data`] where a value does not occur, or no group is small enough for a share.
pub(super) fn hold_out(
    test: &TestSet,
    images: &Images,
    groups: &[String],
    class_count: usize,
    dataset: &str,
    seed: u64,
) -> Result<(Vec<bool>, Vec<String>)> {
    match test {
        TestSet::Column(column, values) => by_column(*column, values, images, groups, dataset),
        TestSet::Share(share) => {
            let held_out = by_share(*share, &images.classes, groups, class_count, seed);
            if !held_out.contains(&true) {
                let expected = format!("groups of at most {:.0} % of the images, to hold out", 200.0 * share);
                let largest = members(groups).iter().map(Vec::len).max().unwrap_or(0);
                let got = format!("larger ones only (the largest has {largest} of {} images)", images.len());
                return Err(Error::data(dataset, expected, got).with_hint("Name the subjects: --test subject=NAME"));
            }
            Ok((held_out, Vec::new()))
        }
    }
}

fn by_column(
    column: Column,
    values: &BTreeSet<String>,
    images: &Images,
    groups: &[String],
    dataset: &str,
) -> Result<(Vec<bool>, Vec<String>)> {
    let of_image = column.values(images);
    let known: BTreeSet<&str> = of_image.iter().flatten().map(String::as_str).collect();
    let missing: Vec<&str> = values.iter().map(String::as_str).filter(|value| !known.contains(value)).collect();
    if !missing.is_empty() {
        let expected = match known.len() {
            0 => format!("images with a {}", column.name()),
            _ => format!("a {} that has usable images: {}", column.name(), listed(known.iter().copied())),
        };
        let got = if known.is_empty() { "none".into() } else { listed(missing.iter().copied()) };
        return Err(Error::data(dataset, expected, got));
    }
    let named: Vec<bool> = of_image.iter().map(|v| v.as_ref().is_some_and(|v| values.contains(v))).collect();
    let touched: BTreeSet<&str> = named.iter().zip(groups).filter(|(n, _)| **n).map(|(_, g)| g.as_str()).collect();
    let held_out: Vec<bool> = groups.iter().map(|group| touched.contains(group.as_str())).collect();
    let joined: Vec<usize> = (0..images.len()).filter(|i| held_out[*i] && !named[*i]).collect();
    let mut notes = Vec::new();
    if !held_out.contains(&false) {
        let joined = text::thousands(joined.len() as u64);
        let got = format!(
            "all {}: {joined} are in one group with the named ones (copies, cells of one frame, subject or slide), and \
             groups stay whole",
            text::of(images.len() as u64, "image")
        );
        return Err(Error::data(dataset, "a test set that leaves images for the folds", got));
    }
    if !joined.is_empty() {
        let subjects = images.subjects_of(joined.iter().copied());
        let of = if subjects.is_empty() { String::new() } else { format!(" of subjects {}", listed(subjects)) };
        notes.push(format!(
            "{}{of} held out, too: in one group with the named images (copies, cells of one frame, subject or slide)",
            text::of(joined.len() as u64, "image")
        ));
    }
    Ok((held_out, notes))
}

/// Takes groups, the larger ones first, as long as the classes' shares come closer to `share`.
fn by_share(share: f64, classes: &[usize], groups: &[String], class_count: usize, seed: u64) -> Vec<bool> {
    let mut members = members(groups);
    members.shuffle(&mut seed::rng(seed, "hold_out", 0, 0, 0));
    members.sort_by_key(|images| Reverse(images.len()));
    let all = counts(&(0..classes.len()).collect::<Vec<_>>(), classes, class_count);
    let mut taken = vec![0; class_count];
    let mut held_out = vec![false; classes.len()];
    for images in members {
        let add = counts(&images, classes, class_count);
        let distance = |with: bool| -> f64 {
            let square = |c: usize| {
                let n = taken[c] + if with { add[c] } else { 0 };
                (n as f64 / all[c] as f64 - share).powi(2)
            };
            (0..class_count).filter(|c| all[*c] > 0).map(square).sum()
        };
        if distance(true) < distance(false) {
            taken.iter_mut().zip(&add).for_each(|(n, add)| *n += add);
            images.iter().for_each(|image| held_out[*image] = true);
        }
    }
    held_out
}
