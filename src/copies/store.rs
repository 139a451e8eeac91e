//! `copy_features.parquet`: what is kept of a data set's images, so that copies of them can be found later in other
//! data sets and among new images, without the images.

use super::Features;
use super::source::{KEYPOINT, Source, keypoint_from_bytes, keypoint_to_bytes};
use super::view::{Frame, View};
use crate::error::{Error, Input, Result};
use crate::schema::COPY_FEATURES;
use crate::table::{self, Provenance};
use crate::workspace::Workspace;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType, BinaryArray, PrimitiveArray, RecordBatch, StringArray};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// Writes the features of images, each with the `image_id` of its first cell. Images without features are left out.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, provenance: &Provenance, ids: &[&str], images: &dyn Source) -> Result<()> {
    let rows = COPY_FEATURES.storage.row_group_rows;
    table::write_stream(path, &COPY_FEATURES, provenance, |put| {
        let mut part = Vec::with_capacity(rows);
        for (i, id) in ids.iter().enumerate() {
            part.extend(images.get(i)?.map(|features| (*id, features)));
            if part.len() == rows {
                put(&batch(&part))?;
                part.clear();
            }
        }
        if part.is_empty() { Ok(()) } else { put(&batch(&part)) }
    })
}

fn batch(images: &[(&str, Cow<Features>)]) -> RecordBatch {
    fn numbers<T: ArrowPrimitiveType>(
        images: &[(&str, Cow<Features>)],
        value: impl Fn(&Features) -> T::Native,
    ) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::from_iter_values(images.iter().map(|(_, f)| value(f))))
    }
    let bytes = |value: &dyn Fn(&Features) -> Vec<u8>| -> ArrayRef {
        Arc::new(BinaryArray::from_iter_values(images.iter().map(|(_, f)| value(f))))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(images.iter().map(|(id, _)| id))),
        numbers::<UInt32Type>(images, |f| f.size.0),
        numbers::<UInt32Type>(images, |f| f.size.1),
        numbers::<UInt64Type>(images, |f| f.hash),
        numbers::<UInt64Type>(images, |f| f.whole),
        bytes(&|f| f.keypoints.iter().flat_map(keypoint_to_bytes).collect()),
        numbers::<UInt32Type>(images, |f| f.view.width as u32),
        numbers::<UInt32Type>(images, |f| f.view.height as u32),
        numbers::<Float32Type>(images, |f| f.view.frame.left),
        numbers::<Float32Type>(images, |f| f.view.frame.top),
        numbers::<Float32Type>(images, |f| f.view.frame.across),
        numbers::<Float32Type>(images, |f| f.view.frame.down),
        bytes(&|f| f.view.pixels.clone()),
        bytes(&|f| f.view.valid.iter().map(|valid| u8::from(*valid)).collect()),
    ];
    RecordBatch::try_new(COPY_FEATURES.arrow(), columns).expect("columns of one length, in the schema's order")
}

/// The features of the images of a data set, with the `image_id` of the first cell of each; none where check has not
/// run since the data set was ingested.
///
/// # Errors
/// As [`read`].
pub fn of_dataset(ws: &Workspace, dataset: &str) -> Result<Option<Vec<(String, Features)>>> {
    let path = ws.copy_features(dataset);
    let manifest = table::file_hash(&ws.manifest(dataset))?;
    match table::provenance(&path, &COPY_FEATURES) {
        Err(Error::Missing { .. } | Error::Stale { .. }) => Ok(None),
        Err(other) => Err(other),
        Ok(made) if made.input(Input::Manifest) != Some(&manifest) => Ok(None),
        Ok(_) => read(&path).map(|(images, _)| Some(images)),
    }
}

/// Reads the features of a data set's images, with the `image_id` of the first cell of each, and their provenance.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Stale`] for the table, [`Error::Format`] for one that is damaged.
pub fn read(path: &Path) -> Result<(Vec<(String, Features)>, Provenance)> {
    let mut images: Vec<(String, Features)> = Vec::new();
    let provenance = table::read_batches(path, &COPY_FEATURES, |batch| {
        for row in 0..batch.num_rows() {
            let (id, features) = features(&batch, row).ok_or_else(|| {
                let expected = "keypoints of 24 bytes, and a view of the size that the row says";
                Error::format(path, format!("row {}", images.len()), expected, "others")
            })?;
            images.push((id, features));
        }
        Ok(())
    })?;
    Ok((images, provenance))
}

/// The features in a row of a batch with the schema's columns; none where they are not of the length that they say.
fn features(batch: &RecordBatch, row: usize) -> Option<(String, Features)> {
    let column = |name: &str| batch.column_by_name(name).expect("the schema has the column");
    let u32s = |name: &str| column(name).as_primitive::<UInt32Type>().value(row);
    let u64s = |name: &str| column(name).as_primitive::<UInt64Type>().value(row);
    let f32s = |name: &str| column(name).as_primitive::<Float32Type>().value(row);
    let bytes = |name: &str| column(name).as_binary::<i32>().value(row);
    let (keypoints, rest) = bytes("keypoints").as_chunks::<KEYPOINT>();
    let (width, height) = (u32s("view_width_px") as usize, u32s("view_height_px") as usize);
    let (pixels, valid) = (bytes("view"), bytes("valid"));
    let complete = rest.is_empty()
        && width > 0
        && height > 0
        && pixels.len() == width * height
        && (valid.is_empty() || valid.len() == pixels.len());
    let frame = Frame {
        left: f32s("view_left_px"),
        top: f32s("view_top_px"),
        across: f32s("px_across"),
        down: f32s("px_down"),
    };
    complete.then(|| {
        let valid = valid.iter().map(|valid| *valid == 1).collect();
        let features = Features {
            keypoints: keypoints.iter().map(keypoint_from_bytes).collect(),
            whole: u64s("code"),
            view: View { width, height, pixels: pixels.to_vec(), valid, frame },
            hash: u64s("hash"),
            size: (u32s("width_px"), u32s("height_px")),
        };
        (column("image_id").as_string::<i32>().value(row).to_string(), features)
    })
}
