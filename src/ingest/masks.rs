//! Boxes around cells from segmentation masks.

use super::tree::{ScannedFile, Tree};
use crate::cells::{self, Region};
use crate::decode;
use crate::rect::Rect;
use crate::rows::ManifestRow;

/// The regions of an image's mask, at least one, or what is wrong with the mask.
pub fn mask_regions(tree: &Tree, image: &ScannedFile, mask: &ScannedFile) -> Result<Vec<Region>, String> {
    let path = tree.full_path(&mask.path);
    let bytes = std::fs::read(&path).map_err(|e| format!("mask cannot be read: {e}"))?;
    let pixels = decode::mask(&bytes, &path).map_err(|e| e.to_string())?;
    let expected = image.header.as_ref().map(|h| (h.width_px, h.height_px)).unwrap_or_default();
    let (width, height) = (pixels.width_px, pixels.height_px);
    if (width, height) != expected {
        return Err(format!("expected a mask of {} x {} px, found {width} x {height}", expected.0, expected.1));
    }
    let regions = cells::from_mask(&pixels);
    if regions.is_empty() { Err("expected a cell in the mask, found it black".into()) } else { Ok(regions) }
}

/// Sets the box around the cell of a row, and where it comes from: `mask` or `stain`.
pub fn set_box(row: &mut ManifestRow, cell: Rect, source: &str) {
    row.set_cell_box(Some(cell));
    row.box_source = Some(source.into());
}

/// The smallest rectangle around all of `regions` (at least one).
pub fn around(regions: &[Region]) -> Rect {
    regions[1..].iter().fold(regions[0].rect, |rect, region| rect.union(region.rect))
}
