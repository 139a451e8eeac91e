//! COCO (Lin et al., ECCV 2014): one JSON file for many images. Objects have boxes, polygons, or masks as run lengths.

use super::object::{Annotated, Annotations, Object, folder};
use crate::ingest::lists::UsedList;
use crate::ingest::tree::{ScannedFile, Tree};
use crate::text;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: Value,
    file_name: String,
    /// Null in some exports.
    #[serde(default)]
    width: Option<f64>,
    #[serde(default)]
    height: Option<f64>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: Value,
    category_id: Value,
    /// Left, top, width, height; often null beside a segmentation.
    #[serde(default)]
    bbox: Value,
    #[serde(default)]
    segmentation: Value,
    /// Whether it is a region with many objects.
    #[serde(default)]
    iscrowd: Value,
}

#[derive(Deserialize)]
struct Category {
    id: Value,
    name: String,
}

/// The annotation files of a data set.
pub fn files(tree: &Tree) -> impl Iterator<Item = &ScannedFile> {
    let is_json = |file: &&ScannedFile| file.file_name().to_lowercase().ends_with(".json");
    tree.files.iter().filter(is_json).filter(|file| {
        let bytes = tree.read(file).unwrap_or_default();
        let has = |key: &[u8]| memchr::memmem::find(&bytes, key).is_some();
        has(b"\"annotations\"") && has(b"\"images\"")
    })
}

/// Reads them.
pub fn read(tree: &Tree) -> Annotations {
    let mut annotations = Annotations::default();
    for file in files(tree) {
        annotations.files.push(file.path.clone());
        let parsed =
            tree.read(file).and_then(|bytes| serde_json::from_slice::<File>(&bytes).map_err(|e| e.to_string()));
        match parsed {
            Ok(parsed) => of_file(file, parsed, &mut annotations),
            Err(message) => annotations.problems.push((file.path.clone(), format!("no valid COCO file: {message}"))),
        }
    }
    annotations
}

fn of_file(file: &ScannedFile, parsed: File, annotations: &mut Annotations) {
    let names: BTreeMap<String, String> =
        parsed.categories.into_iter().map(|category| (category.id.to_string(), category.name)).collect();
    let mut objects: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    let is_crowd = |annotation: &Annotation| annotation.iscrowd == true || annotation.iscrowd.as_f64() == Some(1.0);
    let (crowds, single): (Vec<_>, Vec<_>) =
        parsed.annotations.into_iter().enumerate().partition(|(_, annotation)| is_crowd(annotation));
    if !crowds.is_empty() {
        let message = format!(
            "left out: {} of a crowd (iscrowd), which is no single cell",
            text::of(crowds.len() as u64, "annotation")
        );
        annotations.problems.push((file.path.clone(), message));
    }
    for (n, annotation) in single {
        let id = annotation.category_id.to_string();
        match edges(&annotation) {
            Some(edges) => {
                let label = names.get(&id).cloned().unwrap_or(id);
                objects.entry(annotation.image_id.to_string()).or_default().push(Object { label, edges });
            }
            None => {
                let message = format!("annotation {}: expected a bbox or a segmentation that can be read", n + 1);
                annotations.problems.push((file.path.clone(), message));
            }
        }
    }
    annotations.lists.extend(UsedList::of_role(file, parsed.images.iter().map(|image| image.file_name.clone())));
    for image in parsed.images {
        annotations.images.push(Annotated {
            objects: objects.remove(&image.id.to_string()).unwrap_or_default(),
            image: vec![image.file_name],
            folder: folder(file),
            is_beside: false,
            size_px: Some((image.width.unwrap_or(0.0), image.height.unwrap_or(0.0))),
            source: file.path.clone(),
        });
    }
    for (id, objects) in objects {
        let message = format!("{} objects of the image {id}, which the file does not name", objects.len());
        annotations.problems.push((file.path.clone(), message));
    }
}

/// The edges of an object: of its box, or of its polygons or mask.
fn edges(annotation: &Annotation) -> Option<[f64; 4]> {
    let bbox = annotation.bbox.as_array().map_or(&[][..], Vec::as_slice);
    if let [Some(x), Some(y), Some(width), Some(height)] = bbox.iter().map(Value::as_f64).collect::<Vec<_>>()[..]
        && width > 0.0
        && height > 0.0
    {
        return Some([x, y, x + width, y + height]);
    }
    match &annotation.segmentation {
        Value::Array(polygons) => around_polygons(polygons),
        Value::Object(mask) => {
            let size: Vec<u64> = mask.get("size")?.as_array()?.iter().filter_map(Value::as_u64).collect();
            let counts = match mask.get("counts")? {
                Value::Array(counts) => counts.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()?,
                Value::String(text) => decompress(text)?,
                _ => return None,
            };
            around_runs(&counts, *size.first()?)
        }
        _ => None,
    }
}

/// The edges of polygons, each a list x, y, x, y, ...
fn around_polygons(polygons: &[Value]) -> Option<[f64; 4]> {
    let mut edges: Option<[f64; 4]> = None;
    for polygon in polygons {
        let points: Vec<f64> = polygon.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
        for point in points.as_chunks::<2>().0 {
            let [left, top, right, bottom] = edges.unwrap_or([point[0], point[1], point[0], point[1]]);
            edges = Some([left.min(point[0]), top.min(point[1]), right.max(point[0]), bottom.max(point[1])]);
        }
    }
    edges
}

/// The edges of a mask given as run lengths, alternately outside and inside, down the columns of an image of this
/// height.
fn around_runs(counts: &[u64], height: u64) -> Option<[f64; 4]> {
    let (mut at, mut edges): (u64, Option<[u64; 4]>) = (0, None);
    for (n, &count) in counts.iter().enumerate() {
        if n % 2 == 1 && count > 0 && height > 0 {
            let last = at.checked_add(count - 1)?;
            let (first_column, last_column) = (at / height, last / height);
            // A run over the end of a column covers the image from top to bottom.
            let (top, bottom) =
                if first_column == last_column { (at % height, last % height) } else { (0, height - 1) };
            let e = edges.unwrap_or([first_column, top, last_column, bottom]);
            edges = Some([e[0].min(first_column), e[1].min(top), e[2].max(last_column), e[3].max(bottom)]);
        }
        at = at.checked_add(count)?;
    }
    edges.map(|[left, top, right, bottom]| [left as f64, top as f64, (right + 1) as f64, (bottom + 1) as f64])
}

/// Run lengths from COCO's text: six bits per character from `0` on, the sixth says that more follow, the fifth of the
/// last is the sign; from the third run on, the difference to the run before the last.
fn decompress(text: &str) -> Option<Vec<u64>> {
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while bytes.len() > 0 {
        let (mut value, mut shift) = (0i64, 0);
        loop {
            let bits = i64::from(bytes.next()?.checked_sub(b'0')?);
            if shift > 50 {
                return None;
            }
            value |= (bits & 0x1f) << shift;
            shift += 5;
            if bits & 0x20 == 0 {
                if bits & 0x10 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
        }
        if counts.len() > 2 {
            value = value.checked_add(counts[counts.len() - 2])?;
        }
        counts.push(value);
    }
    counts.into_iter().map(|count| u64::try_from(count).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_down_the_columns() {
        // An image of 4 rows and 5 columns; the mask is rows 1 to 2 of columns 1 to 3.
        let counts = [5, 2, 2, 2, 2, 2, 5];
        assert_eq!(around_runs(&counts, 4), Some([1.0, 1.0, 4.0, 3.0]));
        // pycocotools.mask.encode of the same mask.
        assert_eq!(decompress("52203").map(|counts| counts.len()), Some(5));
        assert_eq!(around_runs(&[0, 20], 4), Some([0.0, 0.0, 5.0, 4.0]));
        assert_eq!(around_runs(&[20], 4), None);
        assert!(decompress("\u{1}").is_none());
    }
}
