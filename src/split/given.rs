//! A data set's own split into training and test images, and what it leaks.

use super::assign::members;
use super::images::Images;
use super::splits::Place;
use crate::error::{Error, Result};
use crate::rows::{IssueRow, Severity};
use crate::text::listed;
use std::collections::BTreeMap;

/// The roles that ingest writes.
pub(super) const TRAIN: &str = "train";
pub(super) const TEST: &str = "test";
pub(super) const VALIDATION: &str = "validation";
/// The reason for which an image without a role is left out.
pub(super) const NO_ROLE: &str = "no_given_role";

/// The places of the images, all of which have a role. Validation images join the training images, because nothing is
/// chosen on a validation set here.
///
/// # Errors
/// [`Error::Data`] without training or without test images.
pub(super) fn places(images: &Images, dataset: &str) -> Result<Vec<Place>> {
    let count = |role: &str| images.roles.iter().flatten().filter(|r| *r == role).count();
    let (train, validation, test) = (count(TRAIN), count(VALIDATION), count(TEST));
    if train + validation == 0 || test == 0 {
        let got = format!("{train} train, {validation} validation and {test} test images");
        let hint = "A column split, fold or role of a list, or folders TRAIN and TEST, give images their role; \
                    without --given, wbc split makes folds of its own";
        return Err(Error::data(dataset, "images with the given roles train and test", got).with_hint(hint));
    }
    let place = |role: &Option<String>| if role.as_deref() == Some(TEST) { Place::Fold(0) } else { Place::Train };
    Ok(images.roles.iter().map(place).collect())
}

/// One row for every test image with a copy (or another cell of its frame) among the training images, and for every
/// subject or slide with both training and test images.
pub(super) fn leaks(images: &Images, places: &[Place], dataset: &str) -> Vec<IssueRow> {
    let is_test = |i: usize| places[i] != Place::Train;
    let row = |image: Option<usize>, check: &str, related: Option<&str>, message: String| IssueRow {
        dataset: dataset.into(),
        path: image.map_or(String::new(), |i| file(&images.ids[i], dataset).into()),
        image_id: image.map(|i| images.ids[i].clone()),
        stage: "split".into(),
        check: check.into(),
        severity: Severity::Error,
        score: None,
        related: related.map(Into::into),
        message,
    };
    let mut rows = Vec::new();
    for group in members(&images.copies) {
        let (test, train): (Vec<usize>, Vec<usize>) = group.into_iter().partition(|i| is_test(*i));
        let Some(first) = train.first() else { continue };
        let related = images.ids[*first].as_str();
        for image in test {
            let message = format!(
                "test image {} is a copy of training images, or from the same frame: {}",
                file(&images.ids[image], dataset),
                listed(train.iter().map(|i| file(&images.ids[*i], dataset)))
            );
            rows.push(row(Some(image), "leak_copy", Some(related), message));
        }
    }
    let mut people: BTreeMap<(&str, &str, &str), [u64; 2]> = BTreeMap::new();
    for i in 0..images.len() {
        let person = match (&images.subjects[i], &images.slides[i]) {
            (Some(subject), _) => ("leak_subject", "subject", subject.as_str()),
            (None, Some(slide)) => ("leak_slide", "slide", slide.as_str()),
            (None, None) => continue,
        };
        people.entry(person).or_default()[usize::from(is_test(i))] += 1;
    }
    for ((check, what, name), [train, test]) in people {
        if train > 0 && test > 0 {
            let message = format!("{what} {name} has {train} training and {test} test images");
            rows.push(row(None, check, Some(name), message));
        }
    }
    rows
}

/// The part of an `image_id` after the data set's name.
pub(super) fn file<'a>(image_id: &'a str, dataset: &str) -> &'a str {
    image_id.strip_prefix(dataset).and_then(|rest| rest.strip_prefix('/')).unwrap_or(image_id)
}
