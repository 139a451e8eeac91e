//! Boxes around cells from segmentation masks.

use super::tree::{ScannedFile, Tree};
use crate::cells::{self, Region};
use crate::decode::{self, Rgb};
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
    let bytes = tree.read_image(&mask.path)?;
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
    if !is_on_black(&pixels, mask) {
        return Err("expected cells on black ground, found all four corners brighter: no mask, or inverted".into());
    }
    let mut regions = cells::from_mask(&pixels);
    for Region { rect, .. } in &mut regions {
        *rect = Rect { x: rect.x + offset, y: rect.y + offset, ..*rect };
    }
    if regions.is_empty() { Err("expected a cell in the mask, found it black".into()) } else { Ok(regions) }
}

/// Whether the ground of a mask is black; also where the cell leaves hardly any of it.
fn is_on_black(pixels: &Rgb, mask: &ScannedFile) -> bool {
    /// Largest share of the ground in a mask whose four corners are all inside the cell.
    const HARDLY_ANY: f64 = 0.02;
    let on: Vec<bool> = pixels.pixels.chunks_exact(3).map(|p| p.iter().any(|v| *v >= cells::MASK_LEVEL)).collect();
    let width = pixels.width_px as usize;
    let corners = [0, width - 1, on.len() - width, on.len() - 1];
    let black = on.iter().filter(|on| !**on).count() as f64 / on.len() as f64;
    !corners.into_iter().all(|corner| on[corner]) || mask.few_colours && black < HARDLY_ANY
}

/// Sets the box around the cell of a row, and where it comes from: `mask` or `stain`.
pub fn set_box(row: &mut ManifestRow, cell: Rect, source: &str) {
    row.set_cell_box(Some(cell));
    row.box_source = Some(source.into());
}

/// Number of cells that the regions of a mask show. Regions near each other are one cell, because masks of nuclei have
/// a region for each lobe; small ones are fragments.
pub fn cells_of(regions: &[Region]) -> usize {
    /// Largest gap between the parts of a cell, as a share of the longer side of the larger one.
    const GAP: f64 = 0.5;
    /// Smallest cell, as a share of the area of the largest.
    const SMALLEST: f64 = 0.25;
    let mut cells: Vec<(Rect, u64)> = regions.iter().map(|region| (region.rect, region.area_px)).collect();
    let apart = |start: u32, end: u32, other: u32, stop: u32| other.max(start).saturating_sub(end.min(stop));
    let is_near = |a: Rect, b: Rect| {
        let across = apart(a.x, a.right(), b.x, b.right());
        let gap = across.max(apart(a.y, a.bottom(), b.y, b.bottom()));
        f64::from(gap) <= GAP * f64::from(a.longer_side().max(b.longer_side()))
    };
    let near = |cells: &[(Rect, u64)]| {
        let mut pairs = (0..cells.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        pairs.find(|(a, b)| is_near(cells[*a].0, cells[*b].0))
    };
    while let Some((a, b)) = near(&cells) {
        let (rect, area) = cells.swap_remove(b);
        cells[a] = (cells[a].0.union(rect), cells[a].1 + area);
    }
    let largest = cells.iter().map(|(_, area)| *area).max().unwrap_or(0) as f64;
    cells.iter().filter(|(_, area)| *area as f64 >= SMALLEST * largest).count()
}

/// The smallest rectangle around all of `regions` (at least one).
pub fn around(regions: &[Region]) -> Rect {
    regions[1..].iter().fold(regions[0].rect, |rect, region| rect.union(region.rect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lobes_are_one_cell_and_distant_regions_are_several() {
        let region = |x: u32, side: u32| Region {
            rect: Rect { x, y: 100, width: side, height: side },
            area_px: u64::from(side * side),
        };
        assert_eq!(cells_of(&[region(10, 60)]), 1);
        assert_eq!(cells_of(&[region(10, 30), region(45, 30), region(80, 25)]), 1, "lobes");
        assert_eq!(cells_of(&[region(10, 60), region(300, 10)]), 1, "a speck");
        assert_eq!(cells_of(&[region(10, 60), region(300, 50)]), 2);
    }
}
