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
        let bytes = tree.read(file).unwrap_or_default();
        let start = decode_text(&bytes[..bytes.len().min(4096)]).0;
        ["<annotation>", "<annotation "].iter().any(|tag| start.contains(tag))
    })
}

/// Reads them.
pub fn read(tree: &Tree) -> Annotations {
    let mut annotations = Annotations::default();
    for file in files(tree) {
        annotations.files.push(file.path.clone());
        match tree.read(file).and_then(|bytes| parse(&decode_text(&bytes).0)) {
            Ok(parsed) => {
                let problems = parsed.problems.into_iter().map(|message| (file.path.clone(), message));
                annotations.problems.extend(problems);
                annotations.images.push(Annotated {
                    // The name inside is often that of another file, as annotation programs copy it.
                    image: std::iter::once(file.stem().to_string()).chain(parsed.image).collect(),
                    folder: folder(file),
                    is_beside: true,
                    size_px: Some(parsed.size_px),
                    source: file.path.clone(),
                    objects: parsed.objects,
                });
            }
            Err(message) => annotations.problems.push((file.path.clone(), message)),
        }
    }
    annotations
}

/// What a file says.
#[derive(Default)]
struct Parsed {
    /// The name of the image.
    image: Option<String>,
    size_px: (f64, f64),
    objects: Vec<Object>,
    /// Objects that cannot be read.
    problems: Vec<String>,
}

/// A number, also with a decimal comma.
fn number(text: &str) -> Option<f64> {
    text.replace(',', ".").parse().ok()
}

fn parse(text: &str) -> Result<Parsed, String> {
    let mut reader = Reader::from_str(text);
    let (mut path, mut parsed, mut found) = (Vec::<String>::new(), Parsed::default(), 0);
    let (mut label, mut edges) = (String::new(), [const { String::new() }; 4]);
    loop {
        let text = match reader.read_event().map_err(|e| format!("no valid XML: {e}"))? {
            Event::Start(start) => {
                path.push(start.name().as_ref().to_string());
                if path.len() == 2 && path[1] == "object" {
                    (label, edges) = Default::default();
                }
                continue;
            }
            Event::End(_) => {
                if path.len() == 2 && path[1] == "object" {
                    found += 1;
                    match edges.each_ref().map(|edge| number(edge)) {
                        [Some(left), Some(top), Some(right), Some(bottom)] if !label.is_empty() => {
                            let edges = [left, top, right, bottom];
                            parsed.objects.push(Object { label: label.clone(), edges });
                        }
                        _ => {
                            let message = "expected a name and a bndbox of four numbers";
                            let edges = edges.join(" ");
                            parsed
                                .problems
                                .push(format!("object {found}: {message}, found `{label} {edges}`; left out"));
                        }
                    }
                }
                path.pop();
                continue;
            }
            Event::Text(text) => text.trim().to_string(),
            Event::CData(text) => text.trim().to_string(),
            // Such as &amp; in a label.
            Event::GeneralRef(reference) => {
                quick_xml::escape::resolve_predefined_entity(&reference).unwrap_or("?").to_string()
            }
            Event::Eof => break,
            _ => continue,
        };
        let names: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
        let wrong = || format!("expected a number, found `{text}`");
        match names[..] {
            ["filename"] => *parsed.image.get_or_insert_default() += &text,
            ["size", "width"] if !text.is_empty() => parsed.size_px.0 = number(&text).ok_or_else(wrong)?,
            ["size", "height"] if !text.is_empty() => parsed.size_px.1 = number(&text).ok_or_else(wrong)?,
            ["object", "name"] => label += &text,
            ["object", "bndbox", "xmin"] => edges[0] += &text,
            ["object", "bndbox", "ymin"] => edges[1] += &text,
            ["object", "bndbox", "xmax"] => edges[2] += &text,
            ["object", "bndbox", "ymax"] => edges[3] += &text,
            _ => {}
        }
    }
    if !path.is_empty() {
        return Err(format!("expected the end of <{}>, found the end of the file", path[path.len() - 1]));
    }
    parsed.image = parsed.image.filter(|name| !name.is_empty());
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_leaves_the_others() {
        let object = |name: &str, xmin: &str| {
            format!(
                "<object><name>{name}</name><bndbox><xmin>{xmin}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>\
                 </bndbox></object>"
            )
        };
        let objects = [object("<![CDATA[a & b]]>", "1,5"), object("c", "?"), object("d &amp; e", "\n 3 ")].concat();
        let parsed = parse(&format!("<annotation><filename>x.png</filename>{objects}</annotation>")).unwrap();
        let labels: Vec<&str> = parsed.objects.iter().map(|object| object.label.as_str()).collect();
        assert_eq!((labels, parsed.objects[0].edges[0]), (vec!["a & b", "d&e"], 1.5));
        assert_eq!(parsed.problems.len(), 1, "{:?}", parsed.problems);
    }
}
