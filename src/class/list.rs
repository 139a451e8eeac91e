//! The ordered list of the classes of a data set or run.

use super::Class;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is known of a class besides its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassInfo {
    /// The class.
    pub name: Class,
    /// The name in headings, such as IG; empty for the name with a capital letter.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Abbreviation in narrow tables, such as NE; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub abbreviation: String,
    /// Colour in figures, `#rrggbb`; none for the next of the default palette.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<String>,
    /// Usual share of the white cells in adults' blood, from and to, %; none if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_percent: Option<[f64; 2]>,
    /// Whether its cells are white blood cells, which differential counts are of; none if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub white_cell: Option<bool>,
}

impl ClassInfo {
    /// A class of which only the name is known.
    pub fn new(name: Class) -> Self {
        Self {
            name,
            title: String::new(),
            abbreviation: String::new(),
            colour: None,
            usual_percent: None,
            white_cell: None,
        }
    }

    /// The name in headings, such as "Neutrophil" or "IG".
    pub fn heading(&self) -> String {
        if !self.title.is_empty() {
            return self.title.clone();
        }
        // Capital letters in a name are meant: pDC, iNKT.
        if self.name.name().contains(char::is_uppercase) {
            return self.name.name().into();
        }
        let mut letters = self.name.name().chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }
}

/// The ordered list of the classes of a data set or run: the order of every table, probability and model output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<ClassInfo>", into = "Vec<ClassInfo>")]
pub struct Classes(Arc<[ClassInfo]>);

impl From<Vec<ClassInfo>> for Classes {
    fn from(classes: Vec<ClassInfo>) -> Self {
        Classes::new(classes)
    }
}

impl From<Classes> for Vec<ClassInfo> {
    fn from(classes: Classes) -> Self {
        classes.0.to_vec()
    }
}

impl Classes {
    /// Smallest number of classes that a network can tell apart.
    pub const MIN: usize = 2;
    /// Largest number of classes.
    pub const MAX: usize = 100;

    /// A list in this order; later duplicates of a class are dropped.
    pub fn new(classes: impl IntoIterator<Item = ClassInfo>) -> Classes {
        let mut list: Vec<ClassInfo> = Vec::new();
        for info in classes {
            if list.iter().all(|known| known.name != info.name) {
                list.push(info);
            }
        }
        Classes(list.into())
    }

    /// A list of classes of which only the names are known.
    pub fn named(names: impl IntoIterator<Item = Class>) -> Classes {
        Classes::new(names.into_iter().map(ClassInfo::new))
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The classes, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Class> + ExactSizeIterator + Clone + '_ {
        self.0.iter().map(|info| info.name)
    }

    /// Position of a class, 0 to `len() - 1`.
    pub fn index(&self, class: Class) -> Option<usize> {
        self.iter().position(|c| c == class)
    }

    /// The class at a position, which is below `len()`.
    pub fn at(&self, index: usize) -> Class {
        self.0[index].name
    }

    /// What is known of the classes, in order.
    pub fn infos(&self) -> &[ClassInfo] {
        &self.0
    }

    /// What is known of a class of the list.
    pub fn info(&self, class: Class) -> Option<&ClassInfo> {
        self.0.iter().find(|info| info.name == class)
    }

    /// The name of a class in headings, such as "Neutrophil" or "IG".
    pub fn title(&self, class: Class) -> String {
        self.info(class).map_or_else(|| ClassInfo::new(class).heading(), ClassInfo::heading)
    }

    /// The class with the largest probability, the first of equal ones. `p` has one value per class, in order.
    pub fn likeliest(&self, p: &[f32]) -> Class {
        self.at((1..p.len()).fold(0, |best, i| if p[i] > p[best] { i } else { best }))
    }
}

impl std::fmt::Display for Classes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.iter().map(Class::name).collect::<Vec<_>>().join(", "))
    }
}
