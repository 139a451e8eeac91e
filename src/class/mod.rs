//! Classes of cells, and sets of them: which classes there are, in which order, and how data sets spell them.
//!
//! A [`Class`] is a name. [`Classes`] is the ordered list of the classes of a data set or run: the order of every
//! table, probability and model output. A [`ClassSet`] (see [`set`]) adds the spellings that ingest recognises.

mod list;
pub mod set;
mod weight;

pub use list::{ClassInfo, Classes};
pub use set::ClassSet;
pub use weight::ClassWeight;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// A class of cells, by its name in lower case, such as "neutrophil". Names are interned, so that copying is cheap.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class(&'static str);

/// All names that were interned.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl Class {
    /// Neutrophil (granulocyte).
    pub const NEUTROPHIL: Class = Class("neutrophil");
    /// Eosinophil (granulocyte).
    pub const EOSINOPHIL: Class = Class("eosinophil");
    /// Basophil (granulocyte).
    pub const BASOPHIL: Class = Class("basophil");
    /// Lymphocyte.
    pub const LYMPHOCYTE: Class = Class("lymphocyte");
    /// Monocyte.
    pub const MONOCYTE: Class = Class("monocyte");

    /// The paper's classes, in order.
    const OF_PAPER: [Class; 5] =
        [Class::NEUTROPHIL, Class::EOSINOPHIL, Class::BASOPHIL, Class::LYMPHOCYTE, Class::MONOCYTE];

    /// The class of this name.
    pub fn new(name: &str) -> Class {
        if let Some(known) = Class::OF_PAPER.into_iter().find(|class| class.name() == name) {
            return known;
        }
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let interned = names.get(name).copied().unwrap_or_else(|| {
            let name: &'static str = Box::leak(name.into());
            names.insert(name);
            name
        });
        Class(interned)
    }

    /// The name in tables, such as "neutrophil".
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// The paper's classes in their order, then all others by name.
impl Ord for Class {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |class: &Class| Class::OF_PAPER.iter().position(|of_paper| of_paper == class);
        let key = |class: &Class| (place(class).unwrap_or(Class::OF_PAPER.len()), class.0);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Class {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Debug for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Class::new(&name))
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn the_papers_classes_come_first_in_their_order() {
        let mut classes = ["zebra", "monocyte", "blast", "neutrophil", "basophil"].map(Class::new);
        classes.sort();
        assert_eq!(classes.map(Class::name), ["neutrophil", "basophil", "monocyte", "blast", "zebra"]);
        assert_eq!(Class::new("monocyte"), Class::MONOCYTE);
        assert_eq!(Class::new("blast"), Class::new(&"BLAST".to_lowercase()));
    }
}
