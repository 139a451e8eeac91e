//! The same image with two labels: two files of equal content, or a pair of copies with the same cell in the middle.
//! Neither label can be trusted, so no fold uses either image.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::class::Class;
use crate::rows::Severity;
use std::collections::BTreeMap;

pub struct LabelConflict;

impl Check for LabelConflict {
    fn name(&self) -> &'static str {
        "label_conflict"
    }
    fn doc(&self) -> &'static str {
        "the same image with two labels; not used"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        // For each row, the first row in conflict with it. Cells of one frame may be of different classes, so only rows
        // of different files can conflict.
        let mut conflicts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut compare = |a: usize, b: usize| {
            let (first, second) = (&images.rows[a], &images.rows[b]);
            let labelled = first.class.is_some() && second.class.is_some();
            if labelled && first.class != second.class && first.path != second.path {
                conflicts.entry(a).or_insert(b);
                conflicts.entry(b).or_insert(a);
            }
        };
        // Rows of equal content are compared with the first row of each class.
        let mut first: BTreeMap<&str, BTreeMap<Option<Class>, usize>> = BTreeMap::new();
        for (i, row) in images.rows.iter().enumerate() {
            let copies = first.entry(&row.content_hash).or_default();
            copies.entry(row.class).or_insert(i);
            copies.values().for_each(|copy| compare(*copy, i));
        }
        for pair in images.copies.iter().filter(|pair| !images.has_several(pair.a) && !images.has_several(pair.b)) {
            let size = |row: usize| (images.rows[row].width_px, images.rows[row].height_px);
            if pair.same_part(size(pair.a), size(pair.b)) {
                compare(pair.a, pair.b);
            }
        }
        for (row, conflicting) in conflicts {
            let (row, conflicting) = (&images.rows[row], &images.rows[conflicting]);
            let name = |class: Option<Class>| class.map_or("", Class::name);
            let message =
                format!("is {} here and {} as {}", name(row.class), name(conflicting.class), conflicting.path);
            findings.image(row, Severity::Error, None, message).related = Some(conflicting.image_id.clone());
        }
    }
}
