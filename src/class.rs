//! The five classes of white blood cells, and the names that data sets use for them.

use serde::{Deserialize, Serialize};

/// A class of white blood cells. The order is that of the paper, and of every table and model output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Neutrophil (granulocyte).
    Neutrophil,
    /// Eosinophil (granulocyte).
    Eosinophil,
    /// Basophil (granulocyte).
    Basophil,
    /// Lymphocyte.
    Lymphocyte,
    /// Monocyte.
    Monocyte,
}

impl Class {
    /// Number of classes.
    pub const COUNT: usize = 5;
    /// All classes, in order.
    pub const ALL: [Class; Class::COUNT] =
        [Class::Neutrophil, Class::Eosinophil, Class::Basophil, Class::Lymphocyte, Class::Monocyte];

    /// The class with the largest of five probabilities; the first one if several are equal.
    pub fn likeliest(p: [f32; Class::COUNT]) -> Class {
        Class::ALL[(1..Class::COUNT).fold(0, |best, i| if p[i] > p[best] { i } else { best })]
    }

    /// The name in tables, such as "neutrophil".
    pub fn name(self) -> &'static str {
        ["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"][self.index()]
    }

    /// The name in headings, such as "Neutrophil".
    pub fn title(self) -> &'static str {
        ["Neutrophil", "Eosinophil", "Basophil", "Lymphocyte", "Monocyte"][self.index()]
    }

    /// Position in [`Class::ALL`], 0 to 4.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The class with exactly this [`name`](Class::name).
    pub fn from_name(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|c| c.name() == name)
    }

    /// The class that a folder name or label of a data set stands for, if any. Accepts any case, plurals, abbreviations
    /// (NE, NEU, neut, Baso, eosi, lymp, mono), subtypes and their codes (band, SNE), and leading numbers
    /// ("1_Neutrophils").
    pub fn parse(label: &str) -> Option<Class> {
        let word: String = label.to_lowercase().chars().filter(|c| c.is_ascii_alphabetic()).collect();
        let stem = word.strip_suffix('s').filter(|w| w.len() > 3).unwrap_or(&word);
        const SPELLINGS: [(Class, &[&str]); Class::COUNT] = [
            (
                Class::Neutrophil,
                &[
                    "neutrophil",
                    "neutrophile",
                    "neutrophilic",
                    "neutrophilicgranulocyte",
                    "neutrophilgranulocyte",
                    "neutro",
                    "neutr",
                    "neut",
                    "neu",
                    "ne",
                    "n",
                    "bne",
                    "sne",
                    "pmn",
                    "segmentedneutrophil",
                    "neutrophilsegmented",
                    "bandneutrophil",
                    "neutrophilband",
                    "segmented",
                    "band",
                    "bnt",
                    "ntr",
                    "nts",
                    "ngs",
                    "ngb",
                ],
            ),
            (
                Class::Eosinophil,
                &[
                    "eosinophil",
                    "eosinophile",
                    "eosinophilic",
                    "eosinophilicgranulocyte",
                    "eosinophilgranulocyte",
                    "eosino",
                    "eosin",
                    "eosi",
                    "eosn",
                    "eos",
                    "eo",
                    "e",
                ],
            ),
            (
                Class::Basophil,
                &[
                    "basophil",
                    "basophile",
                    "basophilic",
                    "basophilicgranulocyte",
                    "basophilgranulocyte",
                    "baso",
                    "bas",
                    "ba",
                    "b",
                ],
            ),
            (
                Class::Lymphocyte,
                &[
                    "lymphocyte",
                    "lymphocytic",
                    "lympho",
                    "lymph",
                    "lymp",
                    "lym",
                    "ly",
                    "l",
                    "lyt",
                    "typicallymphocyte",
                    "lymphocytetypical",
                ],
            ),
            (Class::Monocyte, &["monocyte", "monocytic", "mono", "mon", "mo", "m", "mnz"]),
        ];
        SPELLINGS.iter().find(|(_, names)| names.iter().any(|n| *n == stem || *n == word)).map(|(class, _)| *class)
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
    fn spellings_of_public_data_sets_are_known() {
        for (label, class) in [
            ("neutrophil", Class::Neutrophil),
            ("NEUTROPHILS", Class::Neutrophil),
            ("neut", Class::Neutrophil),
            ("Baso", Class::Basophil),
            ("eosi", Class::Eosinophil),
            ("EOS", Class::Eosinophil),
            ("lymp", Class::Lymphocyte),
            ("1_Monocytes", Class::Monocyte),
            ("mono", Class::Monocyte),
            ("BA", Class::Basophil),
            ("Segmented Neutrophil", Class::Neutrophil),
        ] {
            assert_eq!(Class::parse(label), Some(class), "{label}");
        }
        for label in ["", "mixt", "platelet", "erythroblast", "ig", "s", "artefact"] {
            assert_eq!(Class::parse(label), None, "{label}");
        }
    }

    #[test]
    fn names_and_indices_are_consistent() {
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
            assert_eq!(Class::ALL[class.index()], class);
        }
    }
}
