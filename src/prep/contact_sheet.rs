//! A sheet of the pictures that a model will see, to look at before training: a row a class.

use crate::atomic;
use crate::class::Class;
use crate::error::{Error, Result};
use crate::rows::ManifestRow;
use crate::schema::{MANIFEST, TENSORS};
use crate::table;
use crate::workspace::Workspace;
use arrow::array::AsArray;
use std::collections::HashMap;
use std::path::Path;

/// Pictures a class.
const COLUMNS: usize = 10;
/// Between pictures, px.
const GAP: u32 = 4;

/// Writes a PNG of up to ten preprocessed pictures a class, evenly drawn from the data set, classes from the top in
/// their usual order. Returns how many pictures are on it.
///
/// # Errors
/// [`Error::Missing`] where nothing was preprocessed; [`Error::Io`].
pub fn write(ws: &Workspace, dataset: &str, size_px: u32, path: &Path) -> Result<usize> {
    let (rows, _) = table::read_rows::<ManifestRow>(&ws.manifest(dataset), &MANIFEST)?;
    let mut place: HashMap<String, (usize, usize)> = HashMap::new();
    for class in Class::ALL {
        let of_class: Vec<&ManifestRow> = rows.iter().filter(|r| r.class == Some(class)).collect();
        let shown = of_class.len().min(COLUMNS);
        for column in 0..shown {
            let row = of_class[column * of_class.len() / shown];
            place.insert(row.image_id.clone(), (class.index(), column));
        }
    }
    let step = size_px + GAP;
    let mut sheet = image::RgbImage::from_pixel(
        COLUMNS as u32 * step + GAP,
        Class::COUNT as u32 * step + GAP,
        image::Rgb([255; 3]),
    );
    let dir = ws.tensors(dataset, size_px);
    let mut shown = 0;
    for number in 0.. {
        let shard = dir.join(format!("part-{number:05}.parquet"));
        if number > 0 && !shard.is_file() {
            break;
        }
        table::read_batches(&shard, &TENSORS, |batch| {
            let (ids, pixels) = (batch.column(0).as_string::<i32>(), batch.column(3).as_binary::<i32>());
            for i in 0..batch.num_rows() {
                let Some((row, column)) = place.get(ids.value(i)) else { continue };
                let Some(picture) = image::RgbImage::from_raw(size_px, size_px, pixels.value(i).to_vec()) else {
                    continue;
                };
                let at = |n: usize| i64::from(GAP + n as u32 * step);
                image::imageops::replace(&mut sheet, &picture, at(*column), at(*row));
                shown += 1;
            }
            Ok(())
        })?;
    }
    atomic::write(path, |out| {
        let encoder = image::codecs::png::PngEncoder::new(out);
        sheet.write_with_encoder(encoder).map_err(|e| Error::Io {
            path: path.into(),
            action: "write",
            source: std::io::Error::other(e),
        })
    })?;
    Ok(shown)
}
