//! The same picture (exact or near copy) under two labels: neither can be trusted, and no fold gets them.

use super::{Check, Findings, Seen, Settings};
use crate::class::Class;
use crate::rows::Severity;
use std::collections::BTreeMap;

pub struct LabelConflict;

impl Check for LabelConflict {
    fn name(&self) -> &'static str {
        "label_conflict"
    }
    fn doc(&self) -> &'static str {
        "the same picture under two labels; left out from here on"
    }
    fn find(&self, seen: &Seen, _: &Settings, findings: &mut Findings) {
        // Each row's first rival. Cells of one frame may well be of two classes: only different files conflict.
        let mut rival: BTreeMap<usize, usize> = BTreeMap::new();
        let mut compare = |a: usize, b: usize| {
            let (one, other) = (&seen.rows[a], &seen.rows[b]);
            if one.class.is_some() && other.class.is_some() && one.class != other.class && one.path != other.path {
                rival.entry(a).or_insert(b);
                rival.entry(b).or_insert(a);
            }
        };
        // Equal content: every row against the first row of each class.
        let mut first: BTreeMap<&str, BTreeMap<Option<Class>, usize>> = BTreeMap::new();
        for (i, row) in seen.rows.iter().enumerate() {
            let of_content = first.entry(&row.content_hash).or_default();
            of_content.entry(row.class).or_insert(i);
            of_content.values().for_each(|other| compare(*other, i));
        }
        seen.near_copies.iter().filter(|pair| pair.same_part()).for_each(|pair| compare(pair.a, pair.b));
        for (row, rival) in rival {
            let (row, rival) = (&seen.rows[row], &seen.rows[rival]);
            let name = |class: Option<Class>| class.map_or("", Class::name);
            let message = format!("is {} here and {} as {}", name(row.class), name(rival.class), rival.path);
            findings.image(row, Severity::Error, None, message).related = Some(rival.image_id.clone());
        }
    }
}
