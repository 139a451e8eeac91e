//! Pascal VOC (Everingham et al., IJCV 88:303-338, 2010): one XML file per image.

use super::object::{Annotated, Annotations, Object, folder};
use crate::ingest::sheet::decode_text;
use crate::ingest::tree::{ScannedFile, Tree};
use quick_xml::Reader;
use quick_xml::events::Event;

/// The annotation files of a data set.
pub fn files(tree: &Tree) -> impl Iterator<Item = &ScannedFile> {
    let is_xml = |file: &&ScannedFile| file.file_name().to_lowercase().ends_with(".xml");
    tree.files.iter().filter(is_xml).filter(|file| {
        let bytes = std::fs::read(tree.full_path(&file.path)).unwrap_or_default();
        let start = &bytes[..bytes.len().min(4096)];
        ["<annotation>", "<annotation "].iter().any(|tag| memchr::memmem::find(start, tag.as_bytes()).is_some())
    })
}

/// Reads them.
pub fn read(tree: &Tree) -> Annotations {
    let mut annotations = Annotations::default();
    for file in files(tree) {
        annotations.files.push(file.path.clone());
        let bytes = std::fs::read(tree.full_path(&file.path)).map_err(|e| format!("cannot be read: {e}"));
        match bytes.and_then(|bytes| parse(&decode_text(&bytes).0)) {
            Ok((name, size_px, objects)) => annotations.images.push(Annotated {
                // The name inside is often that of another file, as annotation programs copy it.
                image: std::iter::once(file.stem().to_string()).chain(name).collect(),
                folder: folder(file),
                size_px,
                source: file.path.clone(),
                objects,
            }),
            Err(message) => annotations.problems.push((file.path.clone(), message)),
        }
    }
    annotations
}

/// The name of the image, its size, and the objects.
fn parse(text: &str) -> Result<(Option<String>, Option<(f64, f64)>, Vec<Object>), String> {
    let mut reader = Reader::from_str(text);
    let (mut path, mut name, mut objects) = (Vec::<String>::new(), None, Vec::new());
    let (mut size, mut label, mut edges) = ((0.0, 0.0), String::new(), [f64::NAN; 4]);
    loop {
        match reader.read_event().map_err(|e| format!("no valid XML: {e}"))? {
            Event::Start(start) => {
                path.push(start.name().as_ref().to_string());
                if path.len() == 2 && path[1] == "object" {
                    (label, edges) = (String::new(), [f64::NAN; 4]);
                }
            }
            Event::End(_) => {
                if path.len() == 2 && path[1] == "object" {
                    if label.is_empty() || edges.iter().any(|edge| edge.is_nan()) {
                        return Err(format!("object {}: expected a name and a bndbox", objects.len() + 1));
                    }
                    objects.push(Object { label: label.clone(), edges });
                }
                path.pop();
            }
            Event::Text(text) => {
                let text = text.trim().to_string();
                let number = || text.parse::<f64>().map_err(|_| format!("expected a number, found `{text}`"));
                let names: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
                match names[..] {
                    ["filename"] if !text.is_empty() => name = Some(text),
                    ["size", "width"] => size.0 = number()?,
                    ["size", "height"] => size.1 = number()?,
                    ["object", "name"] => label += &text,
                    ["object", "bndbox", "xmin"] => edges[0] = number()?,
                    ["object", "bndbox", "ymin"] => edges[1] = number()?,
                    ["object", "bndbox", "xmax"] => edges[2] = number()?,
                    ["object", "bndbox", "ymax"] => edges[3] = number()?,
                    _ => {}
                }
            }
            // Such as &amp; in a label.
            Event::GeneralRef(reference) if path.len() > 2 && path[1] == "object" && path[2] == "name" => {
                label += quick_xml::escape::resolve_predefined_entity(&reference).unwrap_or("?");
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if !path.is_empty() {
        return Err(format!("expected the end of <{}>, found the end of the file", path[path.len() - 1]));
    }
    Ok((name, Some(size), objects))
}
