//! From the labels of a data set to classes: which classes there are, and which of them each label stands for.

use crate::class::set::{fold, is_spelled};
use crate::class::{Class, ClassInfo, ClassSet, Classes};
use crate::error::{Error, Result};
use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The section `[classes]` of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassSettings {
    /// Which classes; none for wbc5 where the data set has any of its classes, else for all labels.
    pub set: Option<Set>,
    /// The class of a label; an empty name leaves the images with the label out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub map: BTreeMap<String, String>,
}

/// Which classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Set {
    /// `wbc5`, `pbc8`, `all` (every label is a class), or a file like those in `src/class/`.
    Named(String),
    /// These classes, in this order.
    List(Vec<String>),
}

const ALL: &str = "all";

impl std::str::FromStr for Set {
    type Err = std::convert::Infallible;

    /// As a word on the command line: names with commas between them are a list.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let names: Vec<String> = text.split(',').map(|name| name.trim().to_string()).collect();
        Ok(if names.len() > 1 { Set::List(names) } else { Set::Named(text.trim().into()) })
    }
}

/// As on the command line.
impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Set::Named(name) => f.write_str(name),
            Set::List(names) => f.write_str(&names.join(",")),
        }
    }
}

impl ClassSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub fn validate(&self) -> Result<()> {
        Vocabulary::new(self).map(|_| ())
    }
}

/// Labels that say that a cell is a white cell, and not of which class.
const WHITE_CELL: [&str; 11] = [
    "wbc",
    "white blood cell",
    "white cell",
    "leukocyte",
    "leucocyte",
    "leukozyt",
    "leukozyten",
    "leucocito",
    "leucocitos",
    "globule blanc",
    "globules blancs",
];

/// Whether a label says that a cell is a white cell, and not of which class.
pub fn is_white_cell(label: &str) -> bool {
    let Some(word) = fold(label) else { return false };
    let is = |known: &&str| fold(known).is_some_and(|known| known == word || known + "s" == word);
    WHITE_CELL.iter().any(is)
}

/// The name of the class that a label is by itself: in one line, without control characters.
fn name(label: &str) -> String {
    let printable = label.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a label is a number, which means something else in every data set.
fn is_number(label: &str) -> bool {
    label.trim().parse::<f64>().is_ok_and(f64::is_finite)
}

/// The words that the settings know, before any label is read.
pub struct Vocabulary {
    /// The set of the settings; none for all labels.
    set: Option<ClassSet>,
    /// Whether the settings choose the set.
    chosen: bool,
    map: BTreeMap<String, Option<Class>>,
    /// Words that tell where classes are named, even if they are none of the set.
    all_known: ClassSet,
}

impl Vocabulary {
    /// Reads the set.
    ///
    /// # Errors
    /// [`Error::Setting`] for a set that is neither built in nor a file, has fewer than 2 or more than 100 classes, and
    /// for a map to a class that is not in it; [`Error::Io`] and [`Error::Format`] for the file.
    pub fn new(settings: &ClassSettings) -> Result<Vocabulary> {
        let set = match &settings.set {
            None => Some(ClassSet::wbc5()),
            Some(Set::Named(name)) if name == ALL => None,
            Some(Set::Named(name)) => match ClassSet::built_in(name) {
                Some(set) => Some(set),
                None if name.ends_with(".toml") => Some(ClassSet::read(Path::new(name))?),
                None => {
                    let built_in: Vec<&str> = ClassSet::built_in_names().collect();
                    let expected =
                        format!("{}, {ALL}, a list such as blast,normal, or a .toml file", built_in.join(", "));
                    return Err(Error::setting("classes.set", expected, name));
                }
            },
            Some(Set::List(names)) => {
                if let Some(name) = names.iter().find(|name| name.trim().is_empty()) {
                    return Err(Error::setting("classes.set", "names of classes", format!("{name:?}")));
                }
                Some(ClassSet::named(names.iter().map(|name| Class::new(name.trim()))))
            }
        };
        let classes = set.as_ref().map_or_else(|| Classes::new([]), ClassSet::classes);
        if set.is_some() && !(Classes::MIN..=Classes::MAX).contains(&classes.len()) {
            let expected = format!("{} to {} classes", Classes::MIN, Classes::MAX);
            return Err(Error::setting("classes.set", expected, classes.len()));
        }
        let mut map = BTreeMap::new();
        for (label, class) in &settings.map {
            let class = class.trim();
            let known = set.as_ref().and_then(|set| set.find_name(class));
            if let (Some(set), None, Some(_), false) = (&set, known, &settings.set, class.is_empty()) {
                let expected = format!("one of the classes of {}: {}", set.name, set.classes());
                return Err(Error::setting(format!("classes.map.{label}"), expected, class));
            }
            map.insert(label.clone(), (!class.is_empty()).then(|| known.unwrap_or_else(|| Class::new(class))));
        }
        Ok(Vocabulary { set, chosen: settings.set.is_some(), map, all_known: ClassSet::pbc8() })
    }

    /// What the map says of a label.
    fn mapped(&self, label: &str) -> Option<Option<Class>> {
        if let Some(class) = self.map.get(label.trim()) {
            return Some(*class);
        }
        self.map.iter().find(|(key, _)| is_spelled(label, key)).map(|(_, class)| *class)
    }

    /// A class that a word certainly stands for, be it one of the set or not: tells at which level of a tree folders
    /// are named after classes. The name of the class is of no meaning where the map leaves the label out.
    pub fn known(&self, word: &str) -> Option<Class> {
        if let Some(class) = self.mapped(word) {
            return Some(class.unwrap_or_else(|| Class::new(word.trim())));
        }
        self.set.as_ref().and_then(|set| set.find(word)).or_else(|| self.all_known.find(word))
    }

    /// As [`Vocabulary::known`] for words that count beside other classes only.
    pub fn known_beside(&self, word: &str) -> Option<Class> {
        self.set.as_ref().and_then(|set| set.find_beside(word)).or_else(|| self.all_known.find_beside(word))
    }

    /// Whether a label is one of the classes of the settings. Where every label is one, so is this.
    pub fn is_class(&self, label: &str) -> bool {
        match (self.mapped(label), &self.set) {
            (Some(class), _) => class.is_some(),
            (None, Some(set)) => set.find(label).or_else(|| set.find_beside(label)).is_some(),
            (None, None) => true,
        }
    }

    /// Whether two labels of one image are the same, or stand for the same class of the settings.
    pub fn is_same(&self, a: &str, b: &str) -> bool {
        let class = |label: &str| match self.mapped(label) {
            Some(class) => class,
            None => self.set.as_ref().and_then(|set| set.find(label).or_else(|| set.find_beside(label))),
        };
        a == b || (is_spelled(a, b) && is_spelled(b, a)) || class(a).is_some_and(|of_a| class(b) == Some(of_a))
    }

    /// The class that a finer label belongs to, such as neutrophil for band.
    pub fn class_of_subtype(&self, subtype: &str) -> Option<Class> {
        self.known(subtype).or_else(|| self.known_beside(subtype))
    }
}

/// Whether words of which each counts only beside other classes count: where another class is spelled out, or three
/// classes are named so.
pub fn beside_counts(spelled_out: usize, beside: usize) -> bool {
    spelled_out > 0 || beside >= 3
}

/// The classes of a data set, and the class of each label.
pub struct Mapping {
    /// The classes, in order.
    pub classes: Classes,
    /// Where a label stands for a class.
    of: BTreeMap<String, Class>,
    /// Labels whose images are left out because the settings say so.
    pub left_out_by_map: Vec<String>,
    /// Labels that are none of the classes, with the number of images and the class that they may belong to.
    pub unknown: Vec<(String, u64, Option<Class>)>,
    /// Labels that became the classes because none is in the default set.
    pub became_classes: bool,
    /// Keys of the map that are no label of the data set.
    pub unused_keys: Vec<String>,
}

impl Mapping {
    /// The classes of the labels with these numbers of images. `codes` has the class of labels by the layout's own
    /// rules, such as the numbers of JTSC.
    ///
    /// # Errors
    /// [`Error::Data`] where labels are numbers that nothing explains, or where all labels are the classes and those
    /// are fewer than 2 or more than 100; [`Error::Setting`] for a map to a class that is not in the set.
    pub fn new(
        dataset: &str,
        labels: &BTreeMap<String, u64>,
        codes: &BTreeMap<String, Class>,
        vocabulary: &Vocabulary,
    ) -> Result<Mapping> {
        let mut of: BTreeMap<String, Class> = BTreeMap::new();
        let mut left_out_by_map = Vec::new();
        let mut open = Vec::new();
        for label in labels.keys() {
            match vocabulary.mapped(label) {
                Some(Some(class)) => _ = of.insert(label.clone(), class),
                Some(None) => left_out_by_map.push(label.clone()),
                None => match codes.get(label) {
                    Some(class) => _ = of.insert(label.clone(), *class),
                    None => open.push(label.clone()),
                },
            }
        }
        let mut all = vocabulary.set.is_none();
        let mut became_classes = false;
        if let Some(set) = &vocabulary.set {
            let spelled_out = open.iter().filter_map(|label| Some((label.clone(), set.find(label)?)));
            of.extend(spelled_out.collect::<Vec<_>>());
            let rest = open.iter().filter(|label| !of.contains_key(*label));
            let beside: Vec<_> = rest.filter_map(|label| Some((label.clone(), set.find_beside(label)?))).collect();
            let different: std::collections::BTreeSet<Class> = beside.iter().map(|(_, class)| *class).collect();
            let in_set = |of: &BTreeMap<String, Class>| {
                of.values().filter(|class| set.classes().index(**class).is_some()).count()
            };
            if beside_counts(in_set(&of), different.len()) {
                of.extend(beside);
            }
            let unsure = open.iter().any(|label| !is_white_cell(label));
            if !vocabulary.chosen && in_set(&of) == 0 && (unsure || !of.is_empty()) {
                (all, became_classes) = (true, true);
            }
        }
        open.retain(|label| !of.contains_key(label));
        let by_default = became_classes;
        // Not where the map names all of them.
        became_classes &= open.iter().any(|label| !is_white_cell(label));
        let numbers: Vec<&str> = open.iter().map(String::as_str).filter(|label| is_number(label)).collect();
        if !numbers.is_empty() && (all || of.is_empty()) {
            let list = numbers.iter().map(|n| format!("\"{n}\" = \"...\"")).collect::<Vec<_>>().join(", ");
            let hint = format!("Say which class each is in the pipeline file: [classes] map = {{ {list} }}");
            let got = format!("the numbers {}, which mean other classes in other data sets", text::some(numbers));
            return Err(Error::data(dataset, "labels that name their class", got).with_hint(hint));
        }
        let classes = match &vocabulary.set {
            Some(set) if !all => {
                if let Some((label, class)) = of.iter().find(|(_, class)| set.classes().index(**class).is_none()) {
                    let expected = format!("a class of {} ({}), or another classes.set", set.name, set.classes());
                    return Err(Error::setting(format!("classes.map.{label}"), expected, class));
                }
                set.classes()
            }
            _ => {
                for label in std::mem::take(&mut open) {
                    if by_default && is_white_cell(&label) {
                        open.push(label);
                    } else {
                        let same = of.iter().find(|(known, _)| is_spelled(&label, known) && is_spelled(known, &label));
                        let named = || vocabulary.all_known.find_name(&label);
                        let class = same.map(|(_, class)| *class).or_else(named);
                        let class = class.unwrap_or_else(|| Class::new(&name(&label)));
                        of.insert(label, class);
                    }
                }
                let mut names: Vec<Class> = of.values().copied().collect();
                names.sort();
                let known = vocabulary.all_known.classes();
                let info = |name: Class| known.info(name).cloned().unwrap_or_else(|| ClassInfo::new(name));
                Classes::new(names.into_iter().map(info))
            }
        };
        let too_few = by_default && classes.len() < Classes::MIN;
        if too_few || classes.len() > Classes::MAX {
            let names: Vec<&str> = classes.iter().map(Class::name).collect();
            let expected = format!("{} to {} classes", Classes::MIN, Classes::MAX);
            let got = format!("{}: {}", text::of(names.len() as u64, "label"), text::some(names));
            let hint = "Which labels are which class: [classes] map; where the class is in the path: [ingest] path";
            return Err(Error::data(dataset, expected, got).with_hint(hint));
        }
        let similar = |label: &str| vocabulary.all_known.similar(label).filter(|class| classes.index(*class).is_some());
        let unknown = open.iter().map(|label| (label.clone(), labels[label], similar(label))).collect();
        let is_label =
            |key: &&String| labels.keys().any(|label| label.trim() == key.as_str() || is_spelled(label, key));
        let unused_keys = vocabulary.map.keys().filter(|key| !is_label(key)).cloned().collect();
        Ok(Mapping { classes, of, left_out_by_map, unknown, became_classes, unused_keys })
    }

    /// The class that a label stands for.
    pub fn class(&self, label: &str) -> Option<Class> {
        self.of.get(label).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(labels: &[&str], set: Option<&str>, map: &[(&str, &str)]) -> Result<Mapping> {
        let set = set.map(|set| set.parse().unwrap());
        let map = map.iter().map(|(label, class)| (label.to_string(), class.to_string())).collect();
        let vocabulary = Vocabulary::new(&ClassSettings { set, map })?;
        let labels = labels.iter().map(|label| (label.to_string(), 2)).collect();
        Mapping::new("d", &labels, &BTreeMap::new(), &vocabulary)
    }

    fn classes(mapping: &Mapping, labels: &[&str]) -> String {
        let name = |label: &&str| mapping.class(label).map_or("-", Class::name);
        labels.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_default_is_wbc5_where_one_of_its_classes_is_there() {
        let labels = ["Neutrophil", "band", "ig", "neutrophil?"];
        let m = mapping(&labels, None, &[]).unwrap();
        assert!(m.classes.is_wbc5() && !m.became_classes);
        assert_eq!(classes(&m, &labels), "neutrophil neutrophil - -");
        assert_eq!(m.unknown[1], ("neutrophil?".into(), 2, Some(Class::NEUTROPHIL)));
    }

    #[test]
    fn single_letters_and_short_words_alone_are_classes_of_their_own() {
        for labels in [&["B", "M"][..], &["E", "N", "S", "W"], &["L1", "L2", "M1", "M2"], &["NE", "NW"]] {
            let m = mapping(labels, None, &[]).unwrap();
            assert!(m.became_classes);
            assert_eq!(classes(&m, labels), labels.join(" "));
        }
        let m = mapping(&["NGS", "EOS", "BAS", "MOB"], None, &[]).unwrap();
        assert_eq!(classes(&m, &["NGS", "EOS", "BAS", "MOB"]), "neutrophil eosinophil basophil -");
        assert!(mapping(&["blast"], None, &[]).is_err());
    }

    #[test]
    fn numbers_need_a_map() {
        for set in [None, Some("all"), Some("wbc5")] {
            let error = mapping(&["0", "1"], set, &[]).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("the numbers 0, 1") && error.contains("map = {"), "{error}");
        }
        let m = mapping(&["0", "1"], None, &[("0", "normal"), ("1", "blast")]).unwrap();
        assert_eq!(classes(&m, &["0", "1"]), "normal blast");
        let m = mapping(&["0", "1", "2"], None, &[("0", "neutrophil"), ("1", "monocyte")]).unwrap();
        assert_eq!(classes(&m, &["0", "1", "2"]), "neutrophil monocyte -");
        assert!(m.classes.is_wbc5());
    }

    #[test]
    fn sets_and_maps_are_followed_or_refused() {
        let labels = ["band", "artefact", "LYMPHOCYTE", "Platelets"];
        let m = mapping(&labels, Some("pbc8"), &[("band", "neutrophil"), ("artefact", ""), ("bnad", "")]).unwrap();
        assert_eq!(classes(&m, &labels), "neutrophil - lymphocyte platelet");
        assert_eq!((m.classes.len(), m.left_out_by_map.len(), m.unknown.len()), (8, 1, 0));
        assert_eq!(m.unused_keys, ["bnad"]);
        let m = mapping(&["Blasts", "normal", "x"], Some("blast, normal"), &[]).unwrap();
        assert_eq!(classes(&m, &["Blasts", "normal", "x"]), "blast normal -");
        let m = mapping(&["NEUTROPHIL", "Large Lymph", "wbc"], Some("all"), &[]).unwrap();
        assert_eq!(classes(&m, &["NEUTROPHIL", "Large Lymph", "wbc"]), "neutrophil Large Lymph wbc");
        let labels = ["5q", "7q", "7Q", "CD34", "CD34-", "CD34+", "a/b \\ c: d", "two\nlines"];
        let m = mapping(&labels, Some("all"), &[("7q", "")]).unwrap();
        assert_eq!(classes(&m, &labels), "5q - - CD34 CD34- CD34+ a/b \\ c: d two lines");
        assert!(mapping(&["a"], Some("wbc6"), &[]).is_err());
        assert!(mapping(&["a", "neutrophil"], Some("wbc5"), &[("a", "blast")]).is_err());
        assert!(mapping(&["a", "neutrophil"], None, &[("a", "blast")]).is_err());
    }

    #[test]
    fn labels_that_only_say_white_cell_are_no_class() {
        let m = mapping(&["WBC"], None, &[]).unwrap();
        assert!(m.class("WBC").is_none() && m.classes.is_wbc5());
        let m = mapping(&["WBC"], Some("all"), &[]).unwrap();
        assert_eq!(classes(&m, &["WBC"]), "WBC");
    }
}
