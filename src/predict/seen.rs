//! New images that show the same as a training image: what the models say of them says nothing of other images.

use super::images::ReadImage;
use crate::check;
use crate::context::Context;
use crate::copies::{self, Features};
use crate::error::Result;
use crate::rows::CellRow;
use crate::run::leak::{self, Image, Weights};
use crate::text;
use crate::workspace::Workspace;
use serde::Serialize;
use std::collections::BTreeMap;

/// The new images that show the same as a training image.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seen {
    /// The images, each with that training image.
    pub images: BTreeMap<String, String>,
    /// What is not known of the training images.
    pub note: Option<String>,
    /// Images that show the same as another of the new ones, each with that one.
    pub repeats: BTreeMap<String, String>,
}

impl Seen {
    /// Compares the new images with the training images of the models, and of those that they started from.
    ///
    /// # Errors
    /// As [`leak::trained`] and [`leak::Trained::seen`].
    pub(super) fn find(ws: &Workspace, weights: Weights, images: &[ReadImage], ctx: &Context) -> Result<Self> {
        let (known, mut notes) = leak::trained(ws, weights)?;
        let mut seen = Self::default();
        let new: Vec<Image> = images
            .iter()
            .map(|image| Image { content_hash: &image.content_hash, features: Some(&image.features) })
            .collect();
        for trained in &known {
            let (found, is_known) = trained.seen(ws, &new, ctx)?;
            for (i, training_image) in found {
                seen.images.entry(images[i].path.clone()).or_insert(training_image);
            }
            if !is_known {
                notes.push(format!(
                    "{} has not been checked, so images that show the same as a training image of {}, in another \
                     file, are not known",
                    trained.dataset, trained.from
                ));
            }
        }
        seen.note = notes.into_iter().reduce(|a, b| format!("{a}; {b}"));
        let features: Vec<Option<&Features>> = images.iter().map(|image| Some(&image.features)).collect();
        for pair in copies::find(&features, check::Settings::default().copy_correlation, ctx)? {
            let [first, second] = [pair.a, pair.b].map(|i| images[i].path.clone());
            seen.repeats.entry(second).or_insert(first);
        }
        Ok(seen)
    }

    /// Notes in each row of such an image which training image it shows.
    pub(super) fn mark(&self, rows: &mut [CellRow]) {
        rows.iter_mut().for_each(|row| row.training_image = self.images.get(&row.path).cloned());
    }

    /// What was found, in sentences without full stops, of this number of images.
    pub(super) fn notes(&self, images: u64) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some((image, cell)) = self.images.first_key_value() {
            notes.push(format!(
                "seen in training: {} of {} show the same as a training image, such as {image} ({cell}); what the \
                 models say of these says nothing of other images",
                text::thousands(self.images.len() as u64),
                text::of(images, "image")
            ));
        }
        if let Some((image, other)) = self.repeats.first_key_value() {
            let (n, all) = (self.repeats.len() as u64, text::of(images, "image"));
            let show = if n == 1 { "shows" } else { "show" };
            notes.push(format!(
                "{} of {all} {show} the same as another of them, such as {image} ({other}): each is counted",
                text::thousands(n)
            ));
        }
        notes.extend(self.note.clone());
        notes
    }
}
