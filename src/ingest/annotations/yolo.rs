//! YOLO: one text file per image, with a line `class x y width height` per object as shares of the image, or
//! `class x1 y1 x2 y2 ...` for a polygon. The names of the classes are in `classes.txt`, `obj.names` or `data.yaml`.

use super::object::{Annotated, Annotations, Object, folder};
use crate::error::{Error, Result};
use crate::ingest::sheet::decode_text;
use crate::ingest::tree::{ScannedFile, Tree};
use saphyr::{LoadableYamlNode, Yaml};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Files with the names of the classes, one per line.
const NAMES: [&str; 4] = ["classes.txt", "obj.names", "classes.names", "labels.txt"];

/// The annotation files of a data set: text files with the name of an image.
pub fn files(tree: &Tree) -> impl Iterator<Item = &ScannedFile> {
    let stems: BTreeSet<&str> = tree.images().map(ScannedFile::stem).collect();
    let is_text = |file: &&ScannedFile| file.file_name().to_lowercase().ends_with(".txt");
    let names_image = move |file: &&ScannedFile| stems.contains(file.stem());
    tree.files.iter().filter(is_text).filter(names_image).filter(|file| {
        let first = text(tree, file).and_then(|text| {
            let first = text.lines().find(|line| !line.trim().is_empty()).map(str::to_string);
            first.ok_or_else(|| "empty".into())
        });
        first.is_ok_and(|line| object(&line).is_ok())
    })
}

fn text(tree: &Tree, file: &ScannedFile) -> std::result::Result<String, String> {
    Ok(decode_text(&tree.read(file)?).0)
}

/// Class number and edges of a line.
fn object(line: &str) -> std::result::Result<(usize, [f64; 4]), String> {
    let wrong = || format!("expected `class x y width height` as shares of the image, found `{}`", line.trim());
    let mut words = line.split_whitespace();
    let class = words.next().and_then(|word| word.parse().ok()).ok_or_else(wrong)?;
    let values: Vec<f64> = words.map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| wrong())?;
    if !values.iter().all(|value| (-0.01..=1.01).contains(value)) {
        return Err(wrong());
    }
    let edges = match values[..] {
        // A sixth value is the confidence of a detector.
        [x, y, width, height] | [x, y, width, height, _] => {
            [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
        }
        ref points if points.len() >= 6 && points.len().is_multiple_of(2) => {
            let along = |n: usize| points.iter().skip(n).step_by(2);
            let least = |n| along(n).copied().fold(f64::INFINITY, f64::min);
            let most = |n| along(n).copied().fold(f64::NEG_INFINITY, f64::max);
            [least(0), least(1), most(0), most(1)]
        }
        _ => return Err(wrong()),
    };
    Ok((class, edges))
}

/// Reads them.
///
/// # Errors
/// [`Error::Format`] for a `data.yaml` that cannot be read.
pub fn read(tree: &Tree) -> Result<Annotations> {
    let mut annotations = Annotations::default();
    let all_names = names(tree, &mut annotations)?;
    let annotated: BTreeSet<&str> = files(tree).map(|file| file.path.as_str()).collect();
    let images: BTreeSet<&str> = tree.images().map(ScannedFile::stem).collect();
    // An empty file says that the image has no object.
    let is_empty = |file: &&ScannedFile| {
        file.bytes == 0 && file.file_name().to_lowercase().ends_with(".txt") && images.contains(file.stem())
    };
    let is_annotation = |file: &&ScannedFile| annotated.contains(file.path.as_str()) || is_empty(file);
    let is_above_any =
        |names_file: &ScannedFile| tree.files.iter().filter(is_annotation).any(|f| is_above(names_file, f));
    let names_are_above = all_names.iter().any(|(names_file, _)| is_above_any(names_file));
    // The class numbers that are used, by the names that count for them.
    let mut used: BTreeMap<Names, BTreeSet<usize>> = BTreeMap::new();
    for file in tree.files.iter().filter(is_annotation) {
        annotations.files.push(file.path.clone());
        let mut objects = Vec::new();
        let names = match names_for(file, &all_names, names_are_above) {
            Ok(names) => names,
            Err(message) => {
                annotations.problems.push((file.path.clone(), message));
                continue;
            }
        };
        let text = match text(tree, file) {
            Ok(text) => text,
            Err(message) => {
                annotations.problems.push((file.path.clone(), message));
                continue;
            }
        };
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match object(line) {
                Ok((class, edges)) => {
                    used.entry(names.clone()).or_default().insert(class);
                    match names.get(&class) {
                        None if !names.is_empty() => {
                            let message = format!("line {}: class number {class} has no name: not used", n + 1);
                            annotations.problems.push((file.path.clone(), message));
                        }
                        name => {
                            let label = name.cloned().unwrap_or_else(|| class.to_string());
                            objects.push(Object { label, edges });
                        }
                    }
                }
                Err(message) => annotations.problems.push((file.path.clone(), format!("line {}: {message}", n + 1))),
            }
        }
        annotations.images.push(Annotated {
            image: vec![file.stem().into()],
            folder: folder(file),
            is_beside: true,
            size_px: None,
            source: file.path.clone(),
            objects,
        });
    }
    require_numbers_of(&all_names, &used, tree)?;
    Ok(annotations)
}

/// Checks that the class numbers do not count from 1 while the names count from 0, so that each would have the name of
/// the class before: that 0 is not used, and the number after the last name is.
fn require_numbers_of(
    names: &[(&ScannedFile, Names)],
    used: &BTreeMap<Names, BTreeSet<usize>>,
    tree: &Tree,
) -> Result<()> {
    for (file, names) in names {
        let used = used.get(names).map(|used| (used.first(), used.last()));
        let Some((Some(first), Some(last))) = used else { continue };
        let (Some(lowest), Some(highest)) = (names.keys().next(), names.keys().next_back()) else { continue };
        if first > lowest && *last == highest + 1 {
            let name = |n: &usize| format!("{n} {}", names[n]);
            let expected = format!("class numbers from {} to {}", name(lowest), name(highest));
            let is_list = NAMES.contains(&file.file_name().to_lowercase().as_str());
            let way = match is_list {
                true => "begin the file with an empty line".to_string(),
                false => format!("write the numbers into it (names: {{{first}: {}, ...}})", names[lowest]),
            };
            let found = format!("{first} to {last}, as of names that count from {first}: if they do, {way}");
            return Err(Error::format(tree.full_path(&file.path), "names", expected, found));
        }
    }
    Ok(())
}

/// The names of classes by their number.
type Names = BTreeMap<usize, String>;

/// The files with the names of the classes, and what they say.
fn names<'a>(tree: &'a Tree, annotations: &mut Annotations) -> Result<Vec<(&'a ScannedFile, Names)>> {
    let mut all = Vec::new();
    for file in &tree.files {
        let name = file.file_name().to_lowercase();
        let is_list = NAMES.contains(&name.as_str());
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if !(is_list || is_yaml) {
            continue;
        }
        annotations.files.push(file.path.clone());
        let path = tree.full_path(&file.path);
        let Ok(text) = text(tree, file) else { continue };
        let names = if is_list { of_lines(&text) } else { of_yaml(&path, &text)? };
        if !names.is_empty() {
            all.push((file, names));
        }
    }
    Ok(all)
}

/// The names by the number of their line, from 0. An empty line counts.
fn of_lines(text: &str) -> Names {
    text.lines().map(|line| line.trim().to_string()).enumerate().filter(|(_, name)| !name.is_empty()).collect()
}

/// Whether a file is in a folder above another file or beside it.
fn is_above(names_file: &ScannedFile, file: &ScannedFile) -> bool {
    names_file.folder().is_empty() || format!("{}/", file.folder()).starts_with(&format!("{}/", names_file.folder()))
}

/// The names that count for a file: those of the innermost folder above it. Where no file with names is above any
/// annotation (`are_above`), those that all agree on.
fn names_for(file: &ScannedFile, all: &[(&ScannedFile, Names)], are_above: bool) -> std::result::Result<Names, String> {
    let Some((first, _)) = all.first() else { return Ok(Names::new()) };
    let counting: Vec<_> = all.iter().filter(|(names_file, _)| !are_above || is_above(names_file, file)).collect();
    let depth = |names_file: &ScannedFile| if are_above { names_file.folders().count() } else { 0 };
    let deepest = counting.iter().map(|(names_file, _)| depth(names_file)).max();
    let nearest: Vec<_> = counting.into_iter().filter(|(names_file, _)| Some(depth(names_file)) == deepest).collect();
    match nearest[..] {
        [(_, names), ref others @ ..] if others.iter().all(|(_, other)| other == names) => Ok(names.clone()),
        [] => Err(format!("left out: its classes have no names, as {} is in another folder", first.path)),
        [(one, names), ref others @ ..] => {
            let other = others.iter().find(|(_, other)| other != names).map_or(*one, |(other, _)| *other);
            Err(format!("left out: {} and {} name different classes", one.path, other.path))
        }
    }
}

/// `names` of a `data.yaml`: a list, or names by number.
fn of_yaml(path: &Path, text: &str) -> Result<Names> {
    let wrong = |found: String| Error::format(path, "names", "a list of classes", found);
    let documents = Yaml::load_from_str(text).map_err(|e| wrong(e.to_string()))?;
    let Some(names) = documents.first().and_then(|document| document.as_mapping_get("names")) else {
        return Ok(BTreeMap::new());
    };
    let text = |value: &Yaml| match value.as_str() {
        Some(text) => text.to_string(),
        None => value.as_integer().map_or_else(String::new, |number| number.to_string()),
    };
    if let Some(list) = names.as_sequence() {
        return Ok(list.iter().map(text).enumerate().collect());
    }
    let Some(map) = names.as_mapping() else { return Err(wrong("something else".into())) };
    let number = |key: &Yaml| key.as_integer().and_then(|number| usize::try_from(number).ok());
    map.iter()
        .map(|(key, value)| Some((number(key)?, text(value))))
        .collect::<Option<_>>()
        .ok_or_else(|| wrong("keys that are no numbers".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_folder_above_count() {
        let files = ["a/classes.txt", "b/classes.txt", "a/labels/1.txt", "b/labels/1.txt", "c/1.txt"];
        let [a, b, in_a, in_b, in_c] = files.map(ScannedFile::unread);
        let of = |name: &str| Names::from([(0, name.to_string())]);
        let all = [(&a, of("monocyte")), (&b, of("basophil"))];
        assert_eq!(names_for(&in_a, &all, true), Ok(of("monocyte")));
        assert_eq!(names_for(&in_b, &all, true), Ok(of("basophil")));
        assert!(names_for(&in_c, &all, true).unwrap_err().contains("a/classes.txt is in another folder"));
        assert!(names_for(&in_c, &all, false).unwrap_err().contains("a/classes.txt and b/classes.txt"));
        assert_eq!(names_for(&in_c, &all[..1], false), Ok(of("monocyte")));
    }

    #[test]
    fn lines_and_names() {
        assert_eq!(object("1 0.5 0.5 0.2 0.4"), Ok((1, [0.4, 0.3, 0.6, 0.7])));
        assert_eq!(object("0 0.1 0.2 0.3 0.2 0.3 0.6"), Ok((0, [0.1, 0.2, 0.3, 0.6])));
        for line in ["", "1", "1 2 3 4 5", "cell 0.5 0.5 0.2 0.4", "0 0.1 0.2 0.3"] {
            assert!(object(line).is_err(), "{line}");
        }
        assert_eq!(of_lines("\nWBC\n \nRBC\n\n"), Names::from([(1, "WBC".into()), (3, "RBC".into())]));
        let expected = BTreeMap::from([(0, "WBC".to_string()), (1, "RBC".into())]);
        for text in ["names: ['WBC', 'RBC']\nnc: 2\n", "names:\n  0: WBC\n  1: RBC\n", "names:\n- WBC\n- RBC\n"] {
            assert_eq!(of_yaml(Path::new("data.yaml"), text).unwrap(), expected, "{text}");
        }
    }
}
