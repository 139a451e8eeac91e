//! Finds the image that a path, name or number in a list or annotation means.

use super::folders;
use super::pairs::Masks;
use super::tree::{ScannedFile, Tree, relative};
use crate::text;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Finds images by what lists and annotations call them.
pub struct Finder<'a> {
    root: PathBuf,
    /// Every file of the data set, also those that are no images.
    files: BTreeSet<&'a str>,
    images: Vec<Candidate<'a>>,
    /// Numbers in `images`, by name, by name without extension, and by number at its end.
    by_name: BTreeMap<String, Vec<usize>>,
    by_stem: BTreeMap<String, Vec<usize>>,
    by_number: BTreeMap<u64, Vec<usize>>,
    /// What stands before the number at the end of names.
    before_numbers: BTreeSet<String>,
    /// The folders of all images that say where they are.
    folders: BTreeSet<String>,
    /// Folder and extension of masks, and not of the images beside them.
    of_masks: BTreeSet<(&'a str, &'a str)>,
}

/// An image that may be meant.
struct Candidate<'a> {
    path: &'a str,
    /// What stands before the number at the end of its name.
    before_number: String,
    /// Its folders below that in which the data set begins, without those that do not say where it is.
    folders: Vec<String>,
    /// Whether one of its folders says that it holds images.
    in_folder_of_images: bool,
}

/// An image that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its path in the data set.
    pub path: &'a str,
    /// How it was found.
    pub by: FoundBy,
}

/// What of a listed path is that of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// All of it.
    Path,
    /// The name, and no folder contradicts it.
    Name,
    /// The name or number, whatever the folders or the letters before the number are.
    NameAlone,
}

/// Letters as they are compared: composed, in lower case.
fn letters(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// Whether a folder's name, in lower case, says more than that it holds images or annotations.
pub fn says_where(name: &str) -> bool {
    const KINDS: [&str; 34] = [
        "",
        "ann",
        "anno",
        "annos",
        "annotation",
        "annotations",
        "anns",
        "bboxes",
        "boxes",
        "bmp",
        "csv",
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
        "json",
        "label",
        "labels",
        "lists",
        "meta",
        "metadata",
        "obj_train_data",
        "photos",
        "pictures",
        "png",
        "txt",
        "xml",
        "xmls",
    ];
    !KINDS.contains(&name)
}

/// The folders of a path that say where its file is, in lower case.
fn places(folder: &str) -> Vec<String> {
    letters(folder)
        .split('/')
        .filter(|name| says_where(name) && *name != "." && *name != "..")
        .map(Into::into)
        .collect()
}

/// Whether one of the folders of a path says that it holds images or annotations.
fn has_kind(folder: &str) -> bool {
    letters(folder).split('/').any(|name| !name.is_empty() && !says_where(name))
}

/// Whether two folders are one: train and TRAIN_images are.
fn is_same(a: &str, b: &str) -> bool {
    a == b || (folders::role(a).is_some() && folders::role(a) == folders::role(b))
}

/// Whether the folders `long` end with `short`.
fn ends_with(long: &[String], short: &[String]) -> bool {
    short.len() <= long.len() && short.iter().rev().zip(long.iter().rev()).all(|(a, b)| is_same(a, b))
}

/// Whether all of `short` are among `long`, in this order.
fn is_within(short: &[String], long: &[String]) -> bool {
    let mut rest = long.iter();
    short.iter().all(|name| rest.any(|other| is_same(name, other)))
}

/// A stem without the number at its end, and that number.
fn split_number(stem: &str) -> Option<(&str, u64)> {
    let before = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((before, stem[before.len()..].parse().ok()?))
}

/// `path` as below `root`, without `.` and `..`: relative if it is below it, otherwise absolute.
pub fn normalised(root: &Path, path: &str) -> String {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let mut full = PathBuf::new();
    for part in root.join(path.replace('\\', "/")).components() {
        match part {
            Component::ParentDir => {
                full.pop();
            }
            Component::CurDir => {}
            part => full.push(part),
        }
    }
    relative(&root, &full)
}

/// Whether two listed paths name files in different folders: `P1/a.png` and `P2/a.png`, but not `a.png` and `P1/a.png`.
pub fn are_apart(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(|path| places(path.replace('\\', "/").rsplit_once('/').map_or("", |(folder, _)| folder)));
    !ends_with(&a, &b) && !ends_with(&b, &a)
}

/// A path's folder, name, stem and extension.
fn parts(path: &str) -> (&str, &str, &str, &str) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, extension) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((name, ""));
    (folder, name, stem, extension)
}

impl<'a> Finder<'a> {
    /// A finder among `images`; other files of the tree are found by their exact path only.
    pub fn new(tree: &'a Tree, images: &[&'a ScannedFile], masks: &'a Masks) -> Finder<'a> {
        let top = folders::top(tree);
        let images = images.iter().map(|file| file.path.as_str());
        let mut finder = Finder::among(&tree.root, images, &top);
        finder.files.extend(tree.files.iter().map(|file| file.path.as_str()));
        let kind = |path: &'a str| (parts(path).0, parts(path).3);
        finder.of_masks = masks.of.values().map(|mask| kind(mask)).collect();
        for image in masks.of.keys() {
            finder.of_masks.remove(&kind(image));
        }
        finder
    }

    /// A finder among images at these paths below `root`, which all begin with `top`.
    pub fn among(root: &Path, images: impl Iterator<Item = &'a str>, top: &str) -> Finder<'a> {
        let mut finder = Finder {
            root: root.into(),
            files: BTreeSet::new(),
            images: Vec::new(),
            by_name: BTreeMap::new(),
            by_stem: BTreeMap::new(),
            by_number: BTreeMap::new(),
            before_numbers: BTreeSet::new(),
            folders: BTreeSet::new(),
            of_masks: BTreeSet::new(),
        };
        for (n, path) in images.enumerate() {
            let (folder, name, stem, _) = parts(path);
            let stem = letters(stem);
            let folders = places(format!("{folder}/").strip_prefix(top).unwrap_or(folder));
            finder.files.insert(path);
            finder.by_name.entry(letters(name)).or_default().push(n);
            let mut before_number = String::new();
            if let Some((before, number)) = split_number(&stem) {
                before_number = before.into();
                finder.before_numbers.insert(before.into());
                finder.by_number.entry(number).or_default().push(n);
            }
            finder.by_stem.entry(stem).or_default().push(n);
            finder.folders.extend(folders.iter().cloned());
            let in_folder_of_images = has_kind(folder);
            finder.images.push(Candidate { path, before_number, folders, in_folder_of_images });
        }
        finder
    }

    /// The image at `path`, which starts at `folder` (that of the list, empty or with a slash at its end), at the data
    /// set's folder, or in a folder of another computer. Case, accents' composition and a missing extension do not
    /// matter. A file of the same name in a folder that contradicts the path is another file.
    ///
    /// # Errors
    /// A message where there is none, or several.
    pub fn find(&self, folder: &str, path: &str) -> Result<Found<'a>, String> {
        // A list lies beside the images of its folder, or in a folder of its own, which says nothing.
        let mut given = places(folder);
        given.retain(|name| self.folders.contains(name) || folders::role(name).is_some());
        self.find_in(given, folder, path, |_| false)
    }

    /// The image that a file in `folder` is about, by the name that it has for the image.
    ///
    /// # Errors
    /// As [`Finder::find`].
    pub fn find_beside(&self, folder: &str, name: &str) -> Result<Found<'a>, String> {
        // Beside `labels/a` lies `images/a`, and not `images/b`. Folders `x` and `y` may hold annotations and images.
        let own_folders = !has_kind(folder);
        self.find_in(places(folder), folder, name, |image| own_folders && !image.in_folder_of_images)
    }

    fn find_in(
        &self,
        mut given: Vec<String>,
        folder: &str,
        listed: &str,
        may_differ: impl Fn(&Candidate) -> bool,
    ) -> Result<Found<'a>, String> {
        let exact = [format!("{folder}{listed}"), listed.into()].map(|path| normalised(&self.root, &path));
        if let Some(path) = exact.iter().find_map(|path| self.files.get(path.as_str())) {
            return Ok(Found { path, by: FoundBy::Path });
        }
        let path = letters(&listed.replace('\\', "/"));
        let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name.is_empty() {
            return Err("no path".into());
        }
        given.extend(places(above));
        let is_elsewhere = path.starts_with(['/', '~']) || path.contains(':') || path.starts_with("../");
        let (candidates, is_sure) = self.named(name);
        let mut fitting: Vec<_> = candidates
            .iter()
            .filter_map(|image| Some((self.fit(&given, image, is_elsewhere || may_differ(image))?, *image)))
            .collect();
        let most = fitting.iter().map(|(fit, _)| *fit).max();
        fitting.retain(|(fit, _)| Some(*fit) == most);
        let is_mask = |path: &str| self.of_masks.contains(&(parts(path).0, parts(path).3));
        if fitting.iter().any(|(_, image)| !is_mask(image.path)) {
            fitting.retain(|(_, image)| !is_mask(image.path));
        }
        match fitting[..] {
            [] => {
                let others = text::some(candidates.iter().map(|image| image.path));
                let found = if others.is_empty() { "no file".into() } else { format!("only {others}") };
                Err(format!("expected an image at {listed}, found {found}"))
            }
            [((agrees, ..), image)] => {
                let by =
                    if is_sure && (agrees || image.folders.is_empty()) { FoundBy::Name } else { FoundBy::NameAlone };
                Ok(Found { path: image.path, by })
            }
            _ => {
                let paths = text::some(fitting.iter().map(|(_, image)| image.path));
                Err(format!("{listed} may be any of {paths}"))
            }
        }
    }

    /// The images of this name, with or without extension, or of this number, and whether that is sure. A number is
    /// that of a name without letters, where images have such names, and is sure where all have the same letters.
    fn named(&self, name: &str) -> (Vec<&Candidate<'a>>, bool) {
        if let Some(named) = self.by_name.get(name).or_else(|| self.by_stem.get(name)) {
            return (named.iter().map(|n| &self.images[*n]).collect(), true);
        }
        let numbered = name.parse().ok().and_then(|number: u64| self.by_number.get(&number));
        let only_digits = self.before_numbers.contains("");
        let is_meant = |image: &&Candidate| !only_digits || image.before_number.is_empty();
        let images = numbered.into_iter().flatten().map(|n| &self.images[*n]).filter(is_meant);
        (images.collect(), only_digits || self.before_numbers.len() == 1)
    }

    /// How well the folders of an image agree with those of a listed path: whether they do, and how many from below
    /// and from above. `None` where they contradict each other.
    fn fit(&self, given: &[String], image: &Candidate, may_differ: bool) -> Option<(bool, usize, usize)> {
        let own = &image.folders;
        let below = own.iter().rev().zip(given.iter().rev()).take_while(|(a, b)| is_same(a, b)).count();
        let above = own.iter().zip(given).take_while(|(a, b)| is_same(a, b)).count();
        let is_here = |name: &&String| own.iter().any(|other| is_same(name, other));
        let is_end = may_differ && !own.is_empty() && ends_with(given, own);
        if !is_end && given.iter().any(|name| self.folders.contains(name) && !is_here(&name)) {
            return None;
        }
        let agrees = is_end || is_within(given, own) || (!own.is_empty() && is_within(own, given));
        let roles = |names: &[String]| names.iter().find_map(|name| folders::role(name));
        let other_role = roles(given).zip(roles(own)).is_some_and(|(a, b)| a != b);
        // An image in no folder may have been moved there.
        let may_be = agrees || own.is_empty() || (may_differ && !other_role);
        may_be.then_some((agrees, below, above))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(images: &[&str], folder: &str, path: &str) -> String {
        let finder = Finder::among(Path::new("/set"), images.iter().copied(), "");
        finder.find(folder, path).map_or_else(|_| "-".into(), |found| format!("{} {:?}", found.path, found.by))
    }

    #[test]
    fn a_file_of_the_same_name_in_another_folder_is_another_file() {
        let images = ["P1/a.png", "P1/b.png", "P2/b.png", "P2/c.png"];
        assert_eq!(find(&images, "", "P1/a.png"), "P1/a.png Path");
        assert_eq!(find(&images, "", "p1/A.PNG"), "P1/a.png Name");
        assert_eq!(find(&images, "", "a.png"), "P1/a.png Name");
        assert_eq!(find(&images, "meta/", "a"), "P1/a.png Name");
        assert_eq!(find(&images, "", "x/P1/a.png"), "P1/a.png Name");
        for (folder, path) in [("", "P1/c.png"), ("P1/", "c.png"), ("", "P3/c.png"), ("", "b.png"), ("", "/x/P1/c.png")]
        {
            assert_eq!(find(&images, folder, path), "-", "{folder}{path}");
        }
        // Paths of another computer.
        for path in ["/home/x/P2/c.png", "C:\\x\\P2\\c.png", "../x/P2/c.png"] {
            assert_eq!(find(&images, "", path), "P2/c.png Name", "{path}");
        }
        assert_eq!(find(&images, "", "/home/x/c.png"), "P2/c.png NameAlone");
        assert_eq!(find(&["images/c.png"], "", "/home/P1/c.png"), "images/c.png Name");
        assert_eq!(find(&["c.png", "/other/c.png"], "", "/nowhere/c.png"), "-");
        assert_eq!(find(&["valid/c.png"], "train/", "c.png"), "-");
        assert_eq!(find(&["siteB/neutrophil/c.png"], "", "siteA/neutrophil/c.png"), "-");
    }

    #[test]
    fn annotations_lie_beside_their_images() {
        let beside = |images: &[&str], folder: &str| {
            let finder = Finder::among(Path::new("/set"), images.iter().copied(), "");
            finder.find_beside(folder, "a").map_or_else(|_| "-".into(), |found| format!("{:?}", found.by))
        };
        for (image, folder, expected) in [
            ("images/train/a.png", "labels/train/", "Name"),
            ("images/val/a.png", "labels/train/", "-"),
            ("images/siteB/a.png", "labels/siteA/", "-"),
            ("images/a.png", "labels/train/", "Name"),
            ("photos/a.png", "ann/", "Name"),
            ("cells/a.png", "marks/", "NameAlone"),
            ("train/a.png", "val/", "-"),
        ] {
            assert_eq!(beside(&[image], folder), expected, "{image} {folder}");
        }
    }

    #[test]
    fn numbers_are_those_of_names_of_one_kind() {
        assert_eq!(find(&["01.png", "2.png", "x/ctrl_5.png"], "", "1"), "01.png Name");
        assert_eq!(find(&["01.png", "2.png", "x/ctrl_5.png"], "", "5"), "-");
        assert_eq!(find(&["img_1.png", "img_5.png"], "", "5"), "img_5.png Name");
        assert_eq!(find(&["img_1.png", "ctrl_5.png"], "", "5"), "ctrl_5.png NameAlone");
    }

    #[test]
    fn paths_in_different_folders_are_apart() {
        assert!(are_apart("P1/a.png", "P2/a.png") && are_apart("/x/P1/a.png", "P2\\a.png"));
        assert!(!are_apart("a.png", "P2/a.png") && !are_apart("/x/P2/a.png", "P2/a.png"));
    }
}
