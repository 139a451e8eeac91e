//! What the files of annotations have in common.

use crate::ingest::lists::UsedList;
use crate::ingest::tree::ScannedFile;

/// The annotations of one image, as their file has them.
pub struct Annotated {
    /// The image's path or name, or several to try one after the other.
    pub image: Vec<String>,
    /// The folder that the path starts from, empty or with a slash at its end.
    pub folder: String,
    /// Whether the file is about this image alone, so that its folder has to agree with that of the image.
    pub is_beside: bool,
    /// Width and height for which the boxes were drawn, px; `None` where they are shares of the image.
    pub size_px: Option<(f64, f64)>,
    /// The file with the annotations, relative to the data set.
    pub source: String,
    pub objects: Vec<Object>,
}

/// An annotated object.
pub struct Object {
    pub label: String,
    /// Left, top, right and bottom edge, px, or shares of the image.
    pub edges: [f64; 4],
}

/// Annotations of all images, and what is wrong with some: path and message.
#[derive(Default)]
pub struct Annotations {
    pub images: Vec<Annotated>,
    pub problems: Vec<(String, String)>,
    /// Files that hold annotations.
    pub files: Vec<String>,
    /// Those of them that say more about their images: columns of patients, or a name such as `instances_train.json`.
    pub lists: Vec<UsedList>,
}

/// The folder of a file, empty or with a slash at its end.
pub fn folder(file: &ScannedFile) -> String {
    if file.folder().is_empty() { String::new() } else { format!("{}/", file.folder()) }
}
