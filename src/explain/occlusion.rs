//! Occlusion (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks"): a square of the
//! picture's mean colour covers one place after the other, and the map says what the class's probability falls by.

use crate::batch::Tensors;
use crate::class::Class;
use crate::error::{Error, Result};
use crate::figure::heat::Heat;
use crate::run::TrainedModel;

/// A fall of the probability by less than a point is none: noise would fill the map.
pub const LEAST: f32 = 0.01;
/// Tensors that are asked about at once.
const BATCH: usize = 64;

/// What covers the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Side of the square, px of the model's picture.
    pub side_px: usize,
    /// From one place to the next, px.
    pub stride_px: usize,
}

impl Patch {
    /// By default an eighth of the picture's side, at steps of half of that.
    ///
    /// # Errors
    /// [`Error::Setting`] for a square larger than the picture, or steps larger than the square.
    pub fn new(side_px: Option<u32>, stride_px: Option<u32>, size_px: usize) -> Result<Self> {
        let check = |key: &str, value: usize, most: usize, of: &str| match (1..=most).contains(&value) {
            true => Ok(value),
            false => Err(Error::Setting {
                key: key.into(),
                expected: format!("1 to {most} px, the side of the {of}"),
                got: value.to_string(),
            }),
        };
        let side = check("patch", side_px.map_or((size_px / 8).max(2), |s| s as usize), size_px, "model's picture")?;
        let stride = check("stride", stride_px.map_or((side / 2).max(1), |s| s as usize), side, "patch")?;
        Ok(Self { side_px: side, stride_px: stride })
    }

    /// Left (or top) edges along a side of `size` px; the last square ends with the picture.
    fn places(self, size: usize) -> Vec<usize> {
        let last = size - self.side_px;
        let mut places: Vec<usize> = (0..last).step_by(self.stride_px).collect();
        places.push(last);
        places
    }
}

/// What the models' mean probability of `class` falls by where each pixel of `picture` is covered: the mean over the
/// squares that cover it. Where it rises the map is 0. No views are turned: a place is a place.
///
/// # Errors
/// [`Error::Compute`] where a device has no room.
pub fn heat(models: &[TrainedModel], picture: &[u8], size: usize, class: Class, patch: Patch) -> Result<Heat> {
    let places = patch.places(size);
    let corners = places.iter().flat_map(|y| places.iter().map(move |x| (*x, *y)));
    // The whole picture comes first.
    let asked: Vec<Option<(usize, usize)>> = std::iter::once(None).chain(corners.map(Some)).collect();
    let mean = mean_colour(picture);
    let cover = |corner: &Option<(usize, usize)>| {
        let mut covered = picture.to_vec();
        if let Some((x, y)) = *corner {
            for row in covered.chunks_exact_mut(size * 3).skip(y).take(patch.side_px) {
                row[x * 3..(x + patch.side_px) * 3].as_chunks_mut::<3>().0.fill(mean);
            }
        }
        covered
    };
    let mut probabilities = Vec::with_capacity(asked.len());
    for asked in asked.chunks(BATCH) {
        let tensors = Tensors::of(size, asked.iter().flat_map(cover).collect());
        let rows: Vec<usize> = (0..asked.len()).collect();
        let mut means = vec![0f32; asked.len()];
        for model in models {
            let found = model.infer_once(&tensors, &rows)?.probabilities;
            means.iter_mut().zip(found).for_each(|(mean, p)| *mean += p[class.index()] / models.len() as f32);
        }
        probabilities.extend(means);
    }
    let (mut sums, mut counts) = (vec![0f32; size * size], vec![0u32; size * size]);
    for (corner, p) in asked.iter().zip(&probabilities) {
        let Some((x, y)) = *corner else { continue };
        for i in (y..y + patch.side_px).flat_map(|y| (x..x + patch.side_px).map(move |x| y * size + x)) {
            sums[i] += probabilities[0] - p;
            counts[i] += 1;
        }
    }
    let values = sums.iter().zip(counts).map(|(sum, n)| (sum / n as f32).max(0.0)).collect();
    Ok(Heat { side: size, values })
}

/// Each channel's mean, to the nearest grey level.
fn mean_colour(picture: &[u8]) -> [u8; 3] {
    let pixels = picture.as_chunks::<3>().0;
    std::array::from_fn(|c| {
        let sum: usize = pixels.iter().map(|p| usize::from(p[c])).sum();
        ((sum + pixels.len() / 2) / pixels.len().max(1)) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_is_covered_and_squares_end_with_the_picture() {
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
