//! What a split needs to know of the images, from the manifest and the table of checks; no pixels.

use crate::class::{Class, Classes};
use crate::dataset;
use crate::error::{Error, Result};
use crate::schema::{CHECKS, MANIFEST};
use crate::table::{self, text};
use crate::workspace::Workspace;
use arrow_array::Array;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The usable images of a data set, in the order of the manifest.
#[derive(Default)]
pub(super) struct Images {
    pub ids: Vec<String>,
    /// Position in the list of classes.
    pub classes: Vec<usize>,
    /// `group_id` of the table of checks: copies, and cells of one frame.
    pub copies: Vec<String>,
    pub subjects: Vec<Option<String>>,
    pub slides: Vec<Option<String>>,
    pub roles: Vec<Option<String>>,
    /// Rows that are not among them, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Rows with a label that is no class, by label.
    pub other_labels: BTreeMap<String, u64>,
}

/// What the manifest says of one image.
struct Facts {
    class: Option<usize>,
    subject: Option<String>,
    slide: Option<String>,
    role: Option<String>,
}

impl Images {
    /// Reads the columns batch by batch: a million whole rows would be a gigabyte.
    pub fn read(ws: &Workspace, dataset: &str, list: &Classes) -> Result<Self> {
        let (manifest, checks) = (ws.manifest(dataset), ws.checks(dataset));
        let (mut all, mut facts, mut other_labels) = (Vec::new(), Vec::new(), BTreeMap::new());
        table::read_batches(&manifest, &MANIFEST, |batch| {
            let (id, class) = (text(&batch, "image_id"), text(&batch, "class"));
            all.extend(id.iter().flatten().map(String::from));
            let label = text(&batch, "label");
            let other = |row: &usize| class.is_null(*row) && label.is_valid(*row);
            for row in (0..batch.num_rows()).filter(other) {
                *other_labels.entry(label.value(row).to_string()).or_insert(0) += 1;
            }
            let optional = ["subject_id", "slide_id", "given_role"].map(|name| text(&batch, name));
            for row in 0..batch.num_rows() {
                let name = class.is_valid(row).then(|| class.value(row));
                let known = name.map(|name| list.index(Class::new(name)).ok_or(name)).transpose().map_err(|name| {
                    Error::format(&manifest, format!("class of {}", id.value(row)), format!("one of: {list}"), name)
                })?;
                let [subject, slide, role] = optional.map(|c| c.is_valid(row).then(|| c.value(row).to_string()));
                facts.push(Facts { class: known, subject, slide, role });
            }
            Ok(())
        })?;
        let (mut images, mut checked) = (Images { other_labels, ..Images::default() }, Vec::new());
        let mut facts = facts.into_iter();
        table::read_batches(&checks, &CHECKS, |batch| {
            let (id, group, reason) = (text(&batch, "image_id"), text(&batch, "group_id"), text(&batch, "left_out"));
            for row in 0..batch.num_rows() {
                checked.push(id.value(row).to_string());
                match facts.next() {
                    Some(Facts { class: Some(class), subject, slide, role }) if reason.is_null(row) => {
                        images.ids.push(id.value(row).to_string());
                        images.classes.push(class);
                        images.copies.push(group.value(row).to_string());
                        images.subjects.push(subject);
                        images.slides.push(slide);
                        images.roles.push(role);
                    }
                    _ => {
                        let reason = if reason.is_null(row) { dataset::NO_CLASS } else { reason.value(row) };
                        *images.left_out.entry(reason.to_string()).or_insert(0) += 1;
                    }
                }
            }
            Ok(())
        })?;
        dataset::same_cells(&checks, all.iter(), checked.iter())?;
        Ok(images)
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Leaves out the images for which `keep` is false; `reason` is counted.
    pub fn retain(&mut self, reason: &str, keep: impl Fn(&Images, usize) -> bool) {
        let kept: Vec<bool> = (0..self.len()).map(|i| keep(self, i)).collect();
        let dropped = kept.iter().filter(|kept| !**kept).count() as u64;
        if dropped == 0 {
            return;
        }
        *self.left_out.entry(reason.into()).or_insert(0) += dropped;
        fn filter<T>(values: &mut Vec<T>, kept: &[bool]) {
            let mut kept = kept.iter();
            values.retain(|_| *kept.next().unwrap_or(&true));
        }
        filter(&mut self.ids, &kept);
        filter(&mut self.classes, &kept);
        filter(&mut self.copies, &kept);
        filter(&mut self.subjects, &kept);
        filter(&mut self.slides, &kept);
        filter(&mut self.roles, &kept);
    }

    /// Names of the subjects of some images, sorted.
    pub fn subjects_of(&self, images: impl IntoIterator<Item = usize>) -> BTreeSet<&str> {
        images.into_iter().filter_map(|i| self.subjects[i].as_deref()).collect()
    }

    /// Names of the slides of some images, sorted.
    pub fn slides_of(&self, images: impl IntoIterator<Item = usize>) -> BTreeSet<&str> {
        images.into_iter().filter_map(|i| self.slides[i].as_deref()).collect()
    }

    /// Whether a subject or slide of any image is known.
    pub fn has_people(&self) -> bool {
        self.subjects.iter().chain(&self.slides).any(Option::is_some)
    }

    /// The group that each image must stay together with, named after the smallest `group_id` in it: copies and cells
    /// of one frame, images of one subject, and images of one slide where the subject is not known. A slide belongs to
    /// one subject; where a slide's name is used for several, it is their own numbering.
    pub fn groups(&self) -> Vec<String> {
        self.groups_of(self.copies.iter().map(String::as_str).collect())
    }

    /// The same where copies need not stay together: cells of one frame still do.
    pub fn groups_without_copies(&self) -> Vec<String> {
        let frame = |id: &String| match id.rsplit_once('#') {
            Some((frame, cell)) if cell.bytes().all(|b| b.is_ascii_digit()) => frame.len(),
            _ => id.len(),
        };
        self.groups_of(self.ids.iter().map(|id| &id[..frame(id)]).collect())
    }

    fn groups_of(&self, copies: Vec<&str>) -> Vec<String> {
        let mut sets = DisjointSets::new(self.len());
        let mut first: HashMap<(u8, &str), usize> = HashMap::new();
        let without_subject: HashSet<&str> =
            (0..self.len()).filter(|i| self.subjects[*i].is_none()).filter_map(|i| self.slides[i].as_deref()).collect();
        for (i, copies) in copies.iter().enumerate() {
            let slide = self.slides[i].as_deref().filter(|slide| without_subject.contains(slide));
            let keys = [Some((0, *copies)), self.subjects[i].as_deref().map(|s| (1, s))];
            for key in keys.into_iter().chain([slide.map(|s| (2, s))]).flatten() {
                sets.join(i, *first.entry(key).or_insert(i));
            }
        }
        let mut name_of: HashMap<usize, &str> = HashMap::new();
        let roots: Vec<usize> = (0..self.len()).map(|i| sets.root(i)).collect();
        for (copies, root) in copies.into_iter().zip(&roots) {
            let name = name_of.entry(*root).or_insert(copies);
            *name = (*name).min(copies);
        }
        roots.iter().map(|root| name_of[root].to_string()).collect()
    }
}

/// Sets of numbers that are joined two at a time (union-find).
struct DisjointSets(Vec<usize>);

impl DisjointSets {
    fn new(n: usize) -> Self {
        Self((0..n).collect())
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}
