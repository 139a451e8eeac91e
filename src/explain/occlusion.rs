//! Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks"): a square of the image's
//! mean colour covers one place after another, and the map has the fall of the class's probability.

use crate::batch::Tensors;
use crate::class::Class;
use crate::error::{Error, Result};
use crate::figure::heat::Heat;
use crate::run::TrainedModel;

/// A smaller fall of the probability counts as none, or noise would fill the map.
pub const LEAST: f32 = 0.01;
/// Covered images that are classified at a time.
const BATCH: usize = 64;

/// The covering square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Side of the square, px of the tensor.
    pub side_px: usize,
    /// Step from one place to the next, px.
    pub stride_px: usize,
}

impl Patch {
    /// By default an eighth of the tensor's side, at steps of half of that.
    ///
    /// # Errors
    /// [`Error::Setting`] for a square larger than the tensor, or steps larger than the square.
    pub fn new(side_px: Option<u32>, stride_px: Option<u32>, size_px: usize) -> Result<Self> {
        let check = |key: &str, value: usize, most: usize, whose: &str| match (1..=most).contains(&value) {
            true => Ok(value),
            false => Err(Error::setting(key, format!("1 to {most} px, the side of the {whose}"), value)),
        };
        let side = check("patch", side_px.map_or((size_px / 8).max(2), |s| s as usize), size_px, "tensor")?;
        let stride = check("stride", stride_px.map_or((side / 2).max(1), |s| s as usize), side, "patch")?;
        Ok(Self { side_px: side, stride_px: stride })
    }

    /// Left (or top) edges along a side of `size` px; the last square ends at the edge of the tensor.
    fn places(self, size: usize) -> Vec<usize> {
        let last = size - self.side_px;
        let mut places: Vec<usize> = (0..last).step_by(self.stride_px).collect();
        places.push(last);
        places
    }
}

/// The fall of the models' mean probability of `class` where a pixel of the image (`[size, size, 3]`) is covered: the
/// mean over the squares that cover the pixel, and 0 where the probability rises. Only the unturned view is used.
///
/// # Errors
/// [`Error::Compute`] where the device is out of memory, [`Error::Setting`] where the models do not know `class`.
pub fn map(models: &[TrainedModel], pixels: &[u8], size: usize, class: Class, patch: Patch) -> Result<Heat> {
    let at = models.first().and_then(|model| model.classes().index(class));
    let at = at.ok_or_else(|| Error::setting("class", "a class of the run", class))?;
    let places = patch.places(size);
    let corners = places.iter().flat_map(|y| places.iter().map(move |x| (*x, *y)));
    // The uncovered image comes first.
    let covers: Vec<Option<(usize, usize)>> = std::iter::once(None).chain(corners.map(Some)).collect();
    let mean = mean_colour(pixels);
    let covered = |corner: &Option<(usize, usize)>| {
        let mut covered = pixels.to_vec();
        if let Some((x, y)) = *corner {
            for row in covered.chunks_exact_mut(size * 3).skip(y).take(patch.side_px) {
                row[x * 3..(x + patch.side_px) * 3].as_chunks_mut::<3>().0.fill(mean);
            }
        }
        covered
    };
    let mut probabilities = Vec::with_capacity(covers.len());
    for covers in covers.chunks(BATCH) {
        let tensors = Tensors::from_pixels(size, covers.iter().flat_map(covered).collect());
        let rows: Vec<usize> = (0..covers.len()).collect();
        let mut means = vec![0f32; covers.len()];
        for model in models {
            let by_model = model.infer_once(&tensors, &rows)?.probabilities;
            means.iter_mut().zip(by_model).for_each(|(mean, p)| *mean += p[at] / models.len() as f32);
        }
        probabilities.extend(means);
    }
    let (mut sums, mut counts) = (vec![0f32; size * size], vec![0u32; size * size]);
    for (corner, p) in covers.iter().zip(&probabilities) {
        let Some((x, y)) = *corner else { continue };
        for i in (y..y + patch.side_px).flat_map(|y| (x..x + patch.side_px).map(move |x| y * size + x)) {
            sums[i] += probabilities[0] - p;
            counts[i] += 1;
        }
    }
    let values = sums.iter().zip(counts).map(|(sum, n)| (sum / n as f32).max(0.0)).collect();
    Ok(Heat { side: size, values })
}

/// The mean of each channel, rounded to the nearest grey level.
fn mean_colour(pixels: &[u8]) -> [u8; 3] {
    let pixels = pixels.as_chunks::<3>().0;
    std::array::from_fn(|c| {
        let sum: usize = pixels.iter().map(|p| usize::from(p[c])).sum();
        ((sum + pixels.len() / 2) / pixels.len().max(1)) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_covered_and_no_square_crosses_the_edge() {
        for (side, stride, size) in [(16, 8, 128), (28, 14, 224), (5, 3, 32), (32, 1, 32), (7, 7, 32)] {
            let patch = Patch::new(Some(side), Some(stride), size).unwrap();
            let places = patch.places(size);
            let covered = |x: usize| places.iter().any(|at| (*at..at + patch.side_px).contains(&x));
            assert!((0..size).all(covered) && places.last() == Some(&(size - patch.side_px)), "{places:?}");
            assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
        }
        assert_eq!(Patch::new(None, None, 128).unwrap(), Patch { side_px: 16, stride_px: 8 });
        for (side, stride, key) in [(0, 1, "patch"), (33, 1, "patch"), (8, 0, "stride"), (8, 9, "stride")] {
            let refused = Patch::new(Some(side), Some(stride), 32).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }
}
