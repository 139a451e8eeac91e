//! Sets of classes as data: `wbc5.toml` and `pbc8.toml` beside this file, or a file of the user.

use super::{Class, ClassInfo, Classes};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::Path;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The built-in sets: name and file.
const BUILT_IN: [(&str, &str); 2] = [("wbc5", include_str!("wbc5.toml")), ("pbc8", include_str!("pbc8.toml"))];

/// A set of classes: the classes in order, and how data sets spell them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSet {
    /// Name of the set, such as wbc5.
    pub name: String,
    /// What the set is and where its facts come from.
    #[serde(default)]
    pub doc: String,
    /// A built-in set whose classes come first.
    #[serde(default)]
    include: Option<String>,
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
    title: String,
    #[serde(default)]
    abbreviation: String,
    #[serde(default)]
    colour: Option<String>,
    #[serde(default)]
    usual_percent: Option<[f64; 2]>,
    #[serde(default)]
    white_cell: Option<bool>,
    /// Spellings besides the name.
    #[serde(default)]
    spellings: Vec<String>,
    /// Spellings that can mean something else, and count only beside other classes.
    #[serde(default)]
    beside: Vec<String>,
}

impl ClassSet {
    /// The built-in set of the paper's five classes.
    pub fn wbc5() -> ClassSet {
        ClassSet::built_in("wbc5").expect("wbc5 is built in")
    }

    /// The built-in set of PBC's eight classes.
    pub fn pbc8() -> ClassSet {
        ClassSet::built_in("pbc8").expect("pbc8 is built in")
    }

    /// The built-in set of this name.
    pub fn built_in(name: &str) -> Option<ClassSet> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(ClassSet::parse(text).expect("the built-in files are valid"))
    }

    /// Names of the built-in sets.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Reads a set from a file like `wbc5.toml`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Format`] with line and key where it is invalid.
    pub fn read(path: &Path) -> Result<ClassSet> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        ClassSet::parse(&text).map_err(|message| Error::format(path, "class set", "keys as in wbc5.toml", message))
    }

    /// A set of these classes. A name of pbc8, in any case, has its name and facts there, but not its spellings: what
    /// is a spelling of one class there can be a class of its own here.
    pub fn named(names: impl IntoIterator<Item = Class>) -> ClassSet {
        let known = ClassSet::pbc8();
        let entry = |name: Class| {
            let known = known.find_name(name.name()).and_then(|name| known.entries.iter().find(|e| e.name == name));
            match known {
                Some(entry) => Entry { spellings: Vec::new(), beside: Vec::new(), ..entry.clone() },
                None => Entry {
                    name,
                    title: String::new(),
                    abbreviation: String::new(),
                    colour: None,
                    usual_percent: None,
                    white_cell: None,
                    spellings: Vec::new(),
                    beside: Vec::new(),
                },
            }
        };
        let entries = names.into_iter().map(entry).collect();
        ClassSet { name: "list".into(), doc: String::new(), include: None, entries }
    }

    fn parse(text: &str) -> std::result::Result<ClassSet, String> {
        let mut set: ClassSet = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())?;
        if let Some(name) = set.include.take() {
            let Some(included) = ClassSet::built_in(&name) else {
                return Err(format!("include = {name:?}, which is not a built-in set"));
            };
            set.entries.splice(0..0, included.entries);
        }
        for entry in &set.entries {
            if fold(entry.name.name()).is_none() {
                return Err(format!("a class named {:?}: expected letters and digits", entry.name.name()));
            }
            let colour = entry.colour.as_deref().unwrap_or("#000000");
            if !(colour.len() == 7 && colour.starts_with('#') && colour[1..].chars().all(|c| c.is_ascii_hexdigit())) {
                return Err(format!("{}: expected a colour as #rrggbb, found {colour:?}", entry.name));
            }
        }
        Ok(set)
    }

    /// The classes of the set, in order.
    pub fn classes(&self) -> Classes {
        Classes::new(self.entries.iter().cloned().map(|entry| ClassInfo {
            name: entry.name,
            title: entry.title,
            abbreviation: entry.abbreviation,
            colour: entry.colour,
            usual_percent: entry.usual_percent,
            white_cell: entry.white_cell,
        }))
    }

    /// The class that a label stands for, if it is spelled so that nothing else can be meant.
    pub fn find(&self, label: &str) -> Option<Class> {
        self.matching(label, |entry| entry.spellings.iter().map(String::as_str).chain([entry.name.name()]).collect())
    }

    /// The class that a label stands for if other classes stand beside it: an abbreviation, or a word with other
    /// meanings.
    pub fn find_beside(&self, label: &str) -> Option<Class> {
        self.matching(label, |entry| entry.beside.iter().chain([&entry.abbreviation]).map(String::as_str).collect())
    }

    /// The class of which this is the name, in any case, singular or plural.
    pub fn find_name(&self, label: &str) -> Option<Class> {
        self.matching(label, |entry| vec![entry.name.name()])
    }

    /// The class whose spelling is a part of the label, such as lymphocyte for "atypical lymphocyte": a guess, for a
    /// question to the user.
    pub fn similar(&self, label: &str) -> Option<Class> {
        let word = fold(&label.replace('?', ""))?;
        let is_part = |entry: &&Entry| fold(entry.name.name()).is_some_and(|name| word.contains(&name));
        self.entries.iter().find(is_part).map(|entry| entry.name)
    }

    fn matching<'a>(&'a self, label: &str, spellings: impl Fn(&'a Entry) -> Vec<&'a str>) -> Option<Class> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.name.name() == label.trim()) {
            return spellings(entry).contains(&entry.name.name()).then_some(entry.name);
        }
        let word = fold(label)?;
        let singular = word.strip_suffix('s').filter(|singular| singular.chars().count() > 2);
        let is = |spelling: &str| {
            let known = fold(spelling).filter(|_| same_ends(spelling, label));
            known.is_some_and(|known| known == word || Some(known.as_str()) == singular)
        };
        self.entries.iter().find(|entry| spellings(entry).into_iter().any(is)).map(|entry| entry.name)
    }
}

/// A label as it is compared: letters and digits in lower case, without accents, spaces, `_ - . / ( )` and a leading
/// number. `None` if nothing is left or it has other characters: `neutrophil?` is a doubt, not a neutrophil.
pub fn fold(label: &str) -> Option<String> {
    let mut word = String::new();
    for c in label.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase) {
        match c {
            'ß' => word.push_str("ss"),
            'ø' => word.push('o'),
            'ł' => word.push('l'),
            c if c.is_alphanumeric() => word.push(c),
            c if c.is_whitespace() || "_-./()".contains(c) => {}
            _ => return None,
        }
    }
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
    (!word.is_empty()).then(|| word.to_string())
}

/// Whether a label is this spelling but for case, accents and separators, and for a number in front that only the label
/// has: `1_Blast` is `blast`, but `7q` is not `5q`, and `CD34-` is not `CD34`.
pub fn is_spelled(label: &str, spelling: &str) -> bool {
    fold(label).is_some() && fold(label) == fold(spelling) && same_ends(spelling, label)
}

/// Whether what [`fold`] drops from both ends of a label agrees with a spelling.
fn same_ends(spelling: &str, label: &str) -> bool {
    let number = |text: &str| text.trim().chars().take_while(char::is_ascii_digit).collect::<String>();
    let minus = |text: &str| text.trim().ends_with(['-', '−']);
    (number(spelling).is_empty() || number(spelling) == number(label)) && minus(spelling) == minus(label)
}

impl Classes {
    /// The paper's five classes: neutrophil, eosinophil, basophil, lymphocyte, monocyte.
    pub fn wbc5() -> Classes {
        static WBC5: LazyLock<Classes> = LazyLock::new(|| ClassSet::wbc5().classes());
        WBC5.clone()
    }

    /// Whether these are the paper's five classes in the paper's order.
    pub fn is_wbc5(&self) -> bool {
        self.iter().eq(Classes::wbc5().iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_public_data_sets_and_other_languages_are_known() {
        let set = ClassSet::wbc5();
        for (label, class) in [
            ("neutrophil", "neutrophil"),
            ("NEUTROPHILS", "neutrophil"),
            ("neut", "neutrophil"),
            ("Segmented Neutrophil", "neutrophil"),
            ("segmented_neutrophils", "neutrophil"),
            ("segmenté", "neutrophil"),
            ("segmente\u{301}", "neutrophil"),
            ("Stabkernig", "neutrophil"),
            ("Neutrófilo", "neutrophil"),
            ("Polynucléaire neutrophile", "neutrophil"),
            ("Baso", "basophil"),
            ("basófilos", "basophil"),
            ("eosi", "eosinophil"),
            ("Éosinophile", "eosinophil"),
            ("lymp", "lymphocyte"),
            ("Lymphozyten", "lymphocyte"),
            ("Large Lymph", "lymphocyte"),
            ("Small-Lymph", "lymphocyte"),
            ("1_Monocytes", "monocyte"),
            ("01. monocito", "monocyte"),
        ] {
            assert_eq!(set.find(label), Some(Class::new(class)), "{label}");
        }
        let unknown = ["", "mixt", "platelet", "ig", "s", "N", "M", "M1", "L2", "neutrophil?", "not neutrophil", "1"];
        for label in unknown.into_iter().chain(["band", "NE", "mono", "EOS", "neutrophil, eosinophil", "eosin"]) {
            assert_eq!(set.find(label), None, "{label}");
        }
        for (label, class) in
            [("band", "neutrophil"), ("NE", "neutrophil"), ("mono", "monocyte"), ("EOS", "eosinophil")]
        {
            assert_eq!(set.find_beside(label), Some(Class::new(class)), "{label}");
        }
        assert_eq!(set.find_beside("M1"), None);
        assert_eq!(set.similar("atypical lymphocyte?"), Some(Class::LYMPHOCYTE));
        let named = ClassSet::named(["Neutrophils", "band"].map(Class::new));
        assert_eq!(named.classes().to_string(), "neutrophil, band");
        assert_eq!(named.find("Band"), Some(Class::new("band")));
        assert_eq!(named.find("band neutrophil"), None);
        let named = ClassSet::named(["5q", "7q", "CD34", "blast"].map(Class::new));
        for (label, class) in [("7Q", Some("7q")), ("CD34-", None), ("2_Blasts", Some("blast")), ("9q", None)] {
            assert_eq!(named.find(label), class.map(Class::new), "{label}");
        }
    }

    #[test]
    fn pbc8_begins_with_wbc5_and_no_spelling_means_two_classes() {
        let set = ClassSet::pbc8();
        let names: Vec<_> = set.classes().iter().map(Class::name).collect();
        let expected = "neutrophil eosinophil basophil lymphocyte monocyte ig erythroblast platelet";
        assert_eq!(names.join(" "), expected);
        let mut known = std::collections::BTreeMap::new();
        for entry in &set.entries {
            let short = std::iter::once(&entry.abbreviation);
            let all = entry.spellings.iter().chain(&entry.beside).chain(short).map(String::as_str);
            for spelling in all.chain([entry.name.name()]) {
                let word = fold(spelling).unwrap();
                assert!(word.len() > 1, "{spelling}: single letters are no spelling");
                let other = known.insert(word, entry.name);
                assert!(other.is_none_or(|other| other == entry.name), "{spelling} means {other:?}, too");
            }
        }
    }

    #[test]
    fn a_file_of_the_user_may_include_a_built_in_set() {
        let set = ClassSet::parse("name = \"mine\"\ninclude = \"wbc5\"\n[[class]]\nname = \"blast\"\n").unwrap();
        assert_eq!(set.classes().len(), 6);
        assert_eq!(set.find("Blasts"), Some(Class::new("blast")));
        assert!(ClassSet::parse("name = \"mine\"\n[[class]]\nname = \"blast\"\ncolor = 1\n").is_err());
        assert!(ClassSet::parse("name = \"mine\"\n[[class]]\nname = \"blast\"\ncolour = \"red\"\n").is_err());
    }
}
