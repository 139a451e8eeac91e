//! Boxes around cells from segmentation masks.

use super::tree::{ScannedFile, Tree};
use crate::cells::{self, Region};
use crate::decode;
use crate::rect::Rect;
use crate::rows::ManifestRow;

/// The regions of an image's mask, at least one, or what is wrong with the mask. The mask has the size of the image,
/// or leaves out `border_px` on each side; the regions are in pixels of the image.
pub fn mask_regions(
    tree: &Tree,
    image: &ScannedFile,
    mask: &ScannedFile,
    border_px: u32,
) -> Result<Vec<Region>, String> {
    let path = tree.full_path(&mask.path);
    let bytes = std::fs::read(&path).map_err(|e| format!("mask cannot be read: {e}"))?;
    let pixels = decode::mask(&bytes, &path).map_err(|e| e.to_string())?;
    let (width, height) = image.header.as_ref().map(|h| (h.width_px, h.height_px)).unwrap_or_default();
    let found = (pixels.width_px, pixels.height_px);
    let smaller = (width.saturating_sub(2 * border_px), height.saturating_sub(2 * border_px));
    let offset = match found {
        _ if found == (width, height) => 0,
        _ if found == smaller => border_px,
        _ => {
            let or = if border_px > 0 { format!(" or {} x {}", smaller.0, smaller.1) } else { String::new() };
            return Err(format!("expected a mask of {width} x {height}{or} px, found {} x {}", found.0, found.1));
        }
    };
    let mut regions = cells::from_mask(&pixels);
    for Region { rect, .. } in &mut regions {
        *rect = Rect { x: rect.x + offset, y: rect.y + offset, ..*rect };
    }
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
