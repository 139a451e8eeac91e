//! What the folders above an image say: its class, subject, slide and given role.

use super::labels::{Vocabulary, beside_counts};
use super::tree::{ScannedFile, Tree};
use crate::class::{Class, Classes};
use std::collections::{BTreeMap, BTreeSet};

/// Names of folders that say nothing about the images in them.
const NEUTRAL: [&str; 24] = [
    "all",
    "bmp",
    "cells",
    "crop",
    "cropped",
    "crops",
    "data",
    "dataset",
    "frames",
    "image",
    "images",
    "img",
    "imgs",
    "jpeg",
    "jpegimages",
    "jpg",
    "original",
    "photos",
    "pictures",
    "png",
    "raw",
    "segmented",
    "tif",
    "tiff",
];

/// What the folders above an image say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// The name of its class folder.
    pub label: Option<String>,
    /// At which depth below the data set that folder is.
    label_depth: Option<usize>,
    /// Another class that a folder above it names.
    pub contradiction: Option<String>,
    /// The name of its subject's folder.
    pub subject: Option<String>,
    /// The name of its slide's folder.
    pub slide: Option<String>,
    /// train, test or validation.
    pub role: Option<&'static str>,
    /// Folders that say something else, at depth n below the data set.
    others: Vec<(usize, String)>,
    /// Number of folders, and at which depth one names a role.
    depth: usize,
    role_depth: Option<usize>,
}

/// The role that a word gives an image: "TRAIN", "test_set", "TestA", "val", ...
pub fn role(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    let start: String = word.chars().take_while(char::is_ascii_alphabetic).collect();
    match start.as_str() {
        "train" | "training" | "trainset" | "trainingset" => Some("train"),
        "test" | "testing" | "testset" | "testa" | "testb" | "holdout" => Some("test"),
        "val" | "valid" | "validation" | "valset" | "validationset" | "dev" => Some("validation"),
        _ => None,
    }
}

/// Whether a folder is named after one of `words`, followed by a number or another name: patient01, Patient_A.
fn is_one_of(name: &str, words: &[&str]) -> bool {
    let name = name.to_lowercase();
    words.iter().any(|word| {
        name.strip_prefix(word).is_some_and(|rest| {
            let separated = rest.starts_with(['_', '-', ' ', '.', '=']) && rest.len() > 1;
            separated || rest.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

/// Whether a folder is named after a person or animal.
pub fn is_subject(name: &str) -> bool {
    const WORDS: [&str; 9] =
        ["patient", "patient_id", "subject", "donor", "case", "person", "pat", "proband", "paciente"];
    is_one_of(name, &WORDS)
}

/// Whether a folder is named after a slide.
pub fn is_slide(name: &str) -> bool {
    is_one_of(name, &["slide", "smear", "ausstrich"])
}

fn is_neutral(name: &str) -> bool {
    NEUTRAL.contains(&name.to_lowercase().as_str())
}

/// Words in the names of folders with other versions of images, from which something was removed.
const VERSIONS: [&str; 14] = [
    "background",
    "bg",
    "crop",
    "cropped",
    "crops",
    "masked",
    "no",
    "nobg",
    "normalised",
    "normalized",
    "preprocessed",
    "processed",
    "removed",
    "segmented",
];

/// Whether a name may be that of a folder with one version of images: `Images`, `Segmented Images`, `bg_removed`.
fn is_of_version(name: &str) -> bool {
    let name = name.to_lowercase();
    let mut words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.all(|word| NEUTRAL.contains(&word) || VERSIONS.contains(&word))
}

/// Whether a folder's name says that something was removed from its images.
fn is_reduced(name: &str) -> bool {
    name.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|word| VERSIONS.contains(&word))
}

/// The places of files, in their order, or `None` where no folder can be told to be named after a class.
pub fn places(files: &[&ScannedFile], vocabulary: &Vocabulary) -> Option<Vec<Place>> {
    let known: BTreeMap<&str, (Option<Class>, Option<Class>)> = {
        let names: BTreeSet<&str> = files.iter().flat_map(|file| file.folders()).collect();
        names.into_iter().map(|name| (name, (vocabulary.known(name), vocabulary.known_beside(name)))).collect()
    };
    let classes = |beside: bool| {
        let of = known.values().filter_map(|(known, short)| if beside { *short } else { *known });
        of.collect::<BTreeSet<Class>>().len()
    };
    let beside = beside_counts(classes(false), classes(true));
    // The depth of the class folder, from 0, and of a folder that names another class.
    let named: Vec<Option<(usize, Option<usize>)>> = files
        .iter()
        .map(|file| {
            let folders: Vec<&str> = file.folders().collect();
            let innermost = |of: &dyn Fn(&str) -> Option<Class>| {
                let at = folders.iter().rposition(|name| of(name).is_some())?;
                let other =
                    folders.iter().position(|name| of(name).is_some_and(|class| Some(class) != of(folders[at])));
                Some((at, other))
            };
            let spelled_out = innermost(&|name| known[name].0);
            spelled_out.or_else(|| innermost(&|name| known[name].1.filter(|_| beside && !is_neutral(name))))
        })
        .collect();
    if named.iter().all(Option::is_none) {
        // Where the names of the files tell the classes, the folders do not.
        return by_level(files).filter(|_| !has_classes_in_names(files, vocabulary));
    }
    // Folders beside a class folder are class folders, too.
    let path = |file: &ScannedFile, depth: usize| file.folders().take(depth).collect::<Vec<_>>().join("/");
    let class_folders = || files.iter().zip(&named).filter_map(|(file, at)| Some((file, (*at)?.0)));
    let parents: BTreeSet<String> = class_folders().map(|(file, at)| path(file, at)).collect();
    let depths: BTreeSet<usize> = class_folders().map(|(_, at)| at).collect();
    let place = |(file, at): (&&ScannedFile, &Option<(usize, Option<usize>)>)| {
        let folders: Vec<&str> = file.folders().collect();
        let says_else = |n: &usize| !is_neutral(folders[*n]) && role(folders[*n]).is_none();
        let beside_one = || {
            let here = (0..folders.len()).find(|n| parents.contains(&path(file, *n)) && says_else(n));
            let at_depth = || depths.first().copied().filter(|n| depths.len() == 1 && *n < folders.len());
            here.or_else(at_depth).filter(says_else)
        };
        let (label, contradiction) = at.map_or_else(|| (beside_one(), None), |(at, other)| (Some(at), other));
        let of_person = label.is_some_and(|n| at.is_none() && (is_subject(folders[n]) || is_slide(folders[n])));
        with_label(&folders, label.filter(|_| !of_person), contradiction)
    };
    Some(files.iter().zip(&named).map(place).collect())
}

/// The place of an image in `folders`, of which that at `label` is its class.
fn with_label(folders: &[&str], label: Option<usize>, contradiction: Option<usize>) -> Place {
    let mut place = Place {
        label: label.map(|n| folders[n].into()),
        label_depth: label,
        contradiction: contradiction.map(|n| folders[n].into()),
        depth: folders.len(),
        ..Place::default()
    };
    for (n, name) in folders.iter().enumerate().filter(|(n, _)| Some(*n) != label && Some(*n) != contradiction) {
        match () {
            () if is_subject(name) => place.subject = Some(name.to_string()),
            () if is_slide(name) => place.slide = Some(name.to_string()),
            () if role(name).is_some() => (place.role, place.role_depth) = (role(name), Some(n)),
            () if is_neutral(name) => {}
            () => place.others.push((n, name.to_string())),
        }
    }
    place
}

/// Whether most file names contain the name of a class, of at least two.
fn has_classes_in_names(files: &[&ScannedFile], vocabulary: &Vocabulary) -> bool {
    let word = |file: &&ScannedFile| {
        let mut words = file.stem().split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        words.find_map(|word| vocabulary.known(word))
    };
    let classes: Vec<Class> = files.iter().filter_map(word).collect();
    2 * classes.len() > files.len() && classes.iter().collect::<BTreeSet<_>>().len() > 1
}

/// Where no folder has a known name: the only level of folders that differ, if there is one, is that of the classes.
fn by_level(files: &[&ScannedFile]) -> Option<Vec<Place>> {
    let says_something = |name: &str| !(is_neutral(name) || role(name).is_some() || is_subject(name) || is_slide(name));
    // Names that every file has above it say nothing.
    let first: BTreeSet<&str> = files.first()?.folders().collect();
    let common: BTreeSet<&str> = first
        .into_iter()
        .filter(|name| files.iter().all(|file| file.folders().any(|folder| folder == *name)))
        .collect();
    let mut names = BTreeSet::new();
    let mut places = Vec::new();
    for file in files {
        let folders: Vec<&str> = file.folders().collect();
        let levels: Vec<usize> =
            (0..folders.len()).filter(|n| says_something(folders[*n]) && !common.contains(folders[*n])).collect();
        if levels.len() > 1 {
            return None;
        }
        names.extend(levels.iter().map(|n| folders[*n]));
        places.push(with_label(&folders, levels.first().copied(), None));
    }
    (Classes::MIN..=Classes::MAX).contains(&names.len()).then_some(places)
}

/// Other versions of images: of equal name, in folders that differ only in names that say nothing of the images, such
/// as `Original/` and `Segmented/`.
pub struct Versions<'a> {
    /// The other versions.
    pub files: Vec<&'a ScannedFile>,
    /// The folders that they are in, and those of the versions that are kept.
    pub of: (String, String),
}

/// The other versions among files, if most images have several.
pub fn versions<'a>(files: &[&'a ScannedFile]) -> Option<Versions<'a>> {
    let mut images: BTreeMap<String, BTreeMap<(bool, String), &ScannedFile>> = BTreeMap::new();
    for file in files {
        let (neutral, others): (Vec<&str>, Vec<&str>) = file.folders().partition(|name| is_of_version(name));
        let is_last = neutral.iter().any(|name| is_reduced(name));
        let image = format!("{}/{}", others.join("/"), file.stem());
        images.entry(image).or_default().entry((is_last, neutral.join("/"))).or_insert(file);
    }
    let several = images.values().filter(|versions| versions.len() > 1).count();
    if several == 0 || 2 * several < images.len() {
        return None;
    }
    let (mut kept, mut left, mut other) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for versions in images.values().filter(|versions| versions.len() > 1) {
        for (n, ((_, folder), file)) in versions.iter().enumerate() {
            if n == 0 {
                kept.insert(folder.as_str());
            } else {
                left.insert(folder.as_str());
                other.push(*file);
            }
        }
    }
    let names = |folders: BTreeSet<&str>| folders.into_iter().collect::<Vec<_>>().join(", ");
    Some(Versions { files: other, of: (names(left), names(kept)) })
}

/// What the names of most files begin with, where that may be people or slides: P01 and P02 of `P01_0003.jpg`, ...
pub fn people_in_names<'a>(files: &[&'a ScannedFile]) -> Option<BTreeSet<&'a str>> {
    const WORDS: [&str; 10] = ["patient", "subject", "donor", "proband", "case", "slide", "smear", "pat", "pt", "p"];
    const SEPARATORS: [char; 4] = ['_', '-', ' ', '.'];
    let person = |stem: &'a str| {
        let lower = stem.to_ascii_lowercase();
        let after = WORDS.iter().find_map(|word| lower.strip_prefix(word))?;
        let number = after.trim_start_matches(SEPARATORS);
        let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_followed = rest.starts_with(SEPARATORS) && rest.len() > 1;
        (rest.len() < number.len() && is_followed).then(|| &stem[..stem.len() - rest.len()])
    };
    let named: Vec<&str> = files.iter().filter_map(|file| person(file.stem())).collect();
    let people: BTreeSet<&str> = named.iter().copied().collect();
    (10 * named.len() >= 9 * files.len() && people.len() > 1 && 2 * people.len() <= files.len()).then_some(people)
}

/// Whether most images have the name of another of the same class in another folder.
pub fn repeated_names(files: &[&ScannedFile], places: &[Place]) -> bool {
    let mut names: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for (file, place) in files.iter().zip(places) {
        if let Some(label) = &place.label {
            names.entry((label, file.stem())).or_default().insert(file.folder());
        }
    }
    let several = names.values().filter(|folders| folders.len() > 1).count();
    several > 0 && 10 * several >= 9 * names.len()
}

/// Names of folders that give images the same role, of each role with several: test, and TestA and TestB.
pub fn pooled_roles<'a>(files: &[&'a ScannedFile]) -> BTreeMap<&'static str, BTreeSet<&'a str>> {
    let mut roles: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in files.iter().filter_map(|file| file.folders().find(|name| role(name).is_some())) {
        role(name).into_iter().for_each(|role| _ = roles.entry(role).or_default().insert(name));
    }
    roles.retain(|_, names| names.iter().map(|name| name.to_lowercase()).collect::<BTreeSet<_>>().len() > 1);
    roles
}

/// The names of folders at one level that differ from image to image, or are above some images only, and say neither
/// class, subject, slide nor role; and a template of paths that would read them as subjects. They may be subjects, or
/// images that are no cells of the class.
pub fn unused_levels(places: &[Place]) -> Vec<(Vec<String>, String)> {
    let labelled: Vec<&Place> = places.iter().filter(|place| place.label.is_some()).collect();
    let mut levels: BTreeMap<(usize, bool), (BTreeSet<&str>, usize, String)> = BTreeMap::new();
    let template = |place: &Place, subject: usize| -> String {
        let folder = |n: usize| match n {
            n if n == subject => "{subject}/".to_string(),
            n if Some(n) == place.label_depth => "{class}/".into(),
            n if Some(n) == place.role_depth => "{role}/".into(),
            n => format!("{{folder{}}}/", n + 1),
        };
        (0..place.depth).map(folder).collect::<String>() + "{file}"
    };
    for place in &labelled {
        for (n, name) in &place.others {
            let is_below = place.label_depth.is_some_and(|depth| *n > depth);
            let level = || (BTreeSet::new(), 0, template(place, *n));
            let (names, images, _) = levels.entry((*n, is_below)).or_insert_with(level);
            names.insert(name);
            *images += 1;
        }
    }
    let differ = levels.into_values().filter(|(names, images, _)| names.len() > 1 || *images < labelled.len());
    differ.map(|(names, _, template)| (names.into_iter().map(String::from).collect(), template)).collect()
}

/// The folder in which the data set begins: archives often have one folder that contains everything. Empty, or with a
/// slash at its end.
pub fn top(tree: &Tree) -> String {
    let mut top = String::new();
    loop {
        let below = || tree.files.iter().filter_map(|file| file.path.strip_prefix(top.as_str()));
        let mut folders = below().map(|path| path.split_once('/').map(|(folder, _)| folder));
        match folders.next() {
            Some(Some(first)) if folders.all(|folder| folder == Some(first)) => top += &format!("{first}/"),
            _ => return top,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::labels::ClassSettings;

    fn of(paths: &[&str]) -> Option<Vec<Place>> {
        let files: Vec<ScannedFile> = paths.iter().map(|path| ScannedFile::unread(path)).collect();
        places(&files.iter().collect::<Vec<_>>(), &Vocabulary::new(&ClassSettings::default()).unwrap())
    }

    fn labels(paths: &[&str]) -> String {
        let places = of(paths).expect("a level of classes");
        places.iter().map(|p| p.label.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn class_folders_are_found_by_known_names_and_by_their_level() {
        assert_eq!(labels(&["Neutrophil/1", "Burst/1", "a.png"]), "Neutrophil Burst -");
        assert_eq!(labels(&["Train/Neutrophil/1", "TestA/Burst/1", "TestA/x.png"]), "Neutrophil Burst -");
        assert_eq!(labels(&["deep/er/Baso/3.bmp", "LY/4", "eosi/1", "platelet/5"]), "Baso LY eosi platelet");
        assert_eq!(labels(&["neutrophil/segmented/1", "lymphocyte/B/2"]), "neutrophil lymphocyte");
        assert_eq!(labels(&["B/1", "M/2"]), "B M");
        assert_eq!(labels(&["set/images/blast/1", "set/images/normal/2"]), "blast normal");
        assert_eq!(labels(&["patient1/blast/1", "patient2/normal/2"]), "blast normal");
        // Which level is the class?
        assert_eq!(of(&["A/x/1", "B/y/2"]), None);
        assert_eq!(of(&["patient1/1", "patient2/2"]), None);
    }

    #[test]
    fn subjects_slides_roles_and_contradictions() {
        let places = of(&["TRAIN/Patient 01/slide_3/neutrophil/1", "test/Patient 02/slide_4/ig/1"]).unwrap();
        assert_eq!(places[0].subject.as_deref(), Some("Patient 01"));
        assert_eq!(places[1].slide.as_deref(), Some("slide_4"));
        assert_eq!((places[0].role, places[1].role), (Some("train"), Some("test")));
        assert_eq!(places[1].label.as_deref(), Some("ig"));
        assert_eq!(of(&["neutrophil/lymphocyte/1"]).unwrap()[0].contradiction.as_deref(), Some("neutrophil"));
        let places = of(&["P1/neutrophil/1", "P2/neutrophil/1", "P2/monocyte/1"]).unwrap();
        let unused = |paths: &[&str]| unused_levels(&of(paths).unwrap());
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(unused_levels(&places), [(names(&["P1", "P2"]), "{subject}/{class}/{file}".into())]);
        assert_eq!(
            unused(&["train/P1/neutrophil/images/1", "test/P2/neutrophil/images/2"]),
            [(names(&["P1", "P2"]), "{role}/{subject}/{class}/{folder4}/{file}".into())]
        );
        assert_eq!(unused(&["deep/Baso/1", "deep/LY/1"]), []);
        assert_eq!(unused(&["Baso/1", "LY/odd/1"]), [(names(&["odd"]), "{class}/{subject}/{file}".into())]);
    }

    #[test]
    fn other_versions_of_the_images_are_told_by_their_folders() {
        let versions = |paths: &[&str]| {
            let files: Vec<ScannedFile> = paths.iter().map(|path| ScannedFile::unread(path)).collect();
            let found = versions(&files.iter().collect::<Vec<_>>());
            found.map(|v| (v.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), v.of.0, v.of.1))
        };
        let found = versions(&["Original/ig/1.jpg", "Segmented/ig/1.png", "Original/ig/2.jpg", "Segmented/ig/2.png"]);
        let left = vec!["Segmented/ig/1.png".to_string(), "Segmented/ig/2.png".into()];
        assert_eq!(found, Some((left, "Segmented".into(), "Original".into())));
        for (kept, left) in [("Images", "Segmented Images"), ("raw", "bg_removed"), ("all", "No background")] {
            let of = |folder: &str, name: &str| format!("{folder}/ig/{name}");
            let paths = [of(kept, "1.jpg"), of(left, "1.png"), of(kept, "2.jpg"), of(left, "2.png")];
            let found = versions(&paths.each_ref().map(String::as_str));
            assert_eq!(found, Some((vec![of(left, "1.png"), of(left, "2.png")], left.into(), kept.into())));
        }
        assert_eq!(versions(&["a/ig/1.jpg", "b/ig/1.jpg"]), None, "the folders say something");
        assert_eq!(versions(&["raw/ig/1.jpg", "crops/ig/2.jpg", "crops/ig/3.jpg"]), None, "other names");
    }

    #[test]
    fn folders_that_are_one_role_or_hold_the_same_names_are_known() {
        let files = ["Train/ig/1", "TestA/ig/1", "TestB/ig/1", "train/ig/2"].map(ScannedFile::unread);
        let files: Vec<&ScannedFile> = files.iter().collect();
        assert_eq!(pooled_roles(&files), BTreeMap::from([("test", BTreeSet::from(["TestA", "TestB"]))]));
        let below = ["train/train_images/ig/1", "test/test_images/ig/2"].map(ScannedFile::unread);
        assert!(pooled_roles(&below.iter().collect::<Vec<_>>()).is_empty());
        let repeated = |paths: &[&str]| {
            let files: Vec<ScannedFile> = paths.iter().map(|path| ScannedFile::unread(path)).collect();
            repeated_names(&files.iter().collect::<Vec<_>>(), &of(paths).unwrap())
        };
        assert!(repeated(&["A/neutrophil/1", "B/neutrophil/1", "A/monocyte/7", "B/monocyte/7"]));
        assert!(!repeated(&["A/neutrophil/1", "B/neutrophil/2", "A/monocyte/7", "B/monocyte/7"]));
    }

    #[test]
    fn people_are_seen_in_the_names_of_files() {
        let people = |names: &[&str]| {
            let files: Vec<ScannedFile> = names.iter().map(|name| ScannedFile::unread(name)).collect();
            people_in_names(&files.iter().collect::<Vec<_>>())
                .map(|people| people.into_iter().collect::<Vec<_>>().join(" "))
        };
        let expected = Some("P01 P2".to_string());
        assert_eq!(people(&["ig/P01_1.png", "ig/P01_2.png", "ig/P2_1.png", "mo/P2-7.png"]), expected);
        let expected = Some("Patient_03 patient_4".to_string());
        assert_eq!(people(&["Patient_03_a.png", "Patient_03_b.png", "patient_4_a.png", "patient_4_b.png"]), expected);
        assert_eq!(people(&["PMY_01.png", "PMY_02.png", "P_a.png", "p.png"]), None);
        assert_eq!(people(&["P1_1.png", "P2_1.png", "P3_1.png"]), None, "as many as images");
        assert_eq!(people(&["patient1.png", "patient1.png", "patient2.png", "patient2.png"]), None, "nothing follows");
    }

    #[test]
    fn words_for_roles() {
        for (word, expected) in [
            ("TRAIN", Some("train")),
            ("test_simple", Some("test")),
            ("TestA", Some("test")),
            ("val", Some("validation")),
            ("trainer", None),
            ("valley", None),
            ("3", None),
        ] {
            assert_eq!(role(word), expected, "{word}");
        }
    }
}
