//! Sets of classes as data: `wbc5.toml` and `pbc8.toml` beside this file, or a file of the user.

use super::{Class, ClassInfo, Classes};
use serde::Deserialize;

/// A set of classes in a file: the classes in order, and how data sets spell them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSet {
    /// Name of the set, such as wbc5.
    pub name: String,
    /// What the set is and where its facts come from.
    pub doc: String,
    /// The classes, in order.
    #[serde(rename = "class")]
    entries: Vec<Entry>,
}

/// A class in the file of a set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Class,
    #[serde(default)]
    abbreviation: String,
    #[serde(default)]
    colour: Option<String>,
    #[serde(default)]
    usual_percent: Option<[f64; 2]>,
    #[serde(default)]
    white_cell: Option<bool>,
    /// Spellings besides the name, in lower case, letters and digits only.
    #[serde(default)]
    spellings: Vec<String>,
}

impl ClassSet {
    /// The built-in set of the paper's five classes.
    pub fn wbc5() -> ClassSet {
        toml::from_str(include_str!("wbc5.toml")).expect("the built-in file is valid")
    }

    /// The classes of the set, in order.
    pub fn classes(&self) -> Classes {
        Classes::new(self.entries.iter().cloned().map(|entry| ClassInfo {
            name: entry.name,
            abbreviation: entry.abbreviation,
            colour: entry.colour,
            usual_percent: entry.usual_percent,
            white_cell: entry.white_cell,
        }))
    }

    /// The class that a label of a data set stands for, if its spelling is known.
    pub fn find(&self, label: &str) -> Option<Class> {
        let word: String = label.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
        let is = |entry: &&Entry| entry.name.name() == word || entry.spellings.contains(&word);
        self.entries.iter().find(is).map(|entry| entry.name)
    }
}
