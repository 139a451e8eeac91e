//! The size of a cell as evidence of its class, beside its pixels: where each cell is scaled to one size
//! ([`crate::preprocess::Cut::Cell`]), a network does not see that lymphocytes are small and monocytes large.
//!
//! How large cells appear depends on microscope and camera, so that only the size of a cell beside the others in the
//! same images says something. The factor between these images and the training images is not known; all factors are
//! considered, each as likely as it makes sizes and the network's answers fit each other. A folder of lymphocytes alone
//! is thus not taken for one of middle-sized cells. Of a single cell the factor remains unknown, and its size hardly
//! counts.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, OrderStatistics};
use std::collections::BTreeMap;

/// With fewer training cells whose size is known, a class has the sizes of all classes.
const FEW: usize = 5;
/// Least deviation of the logarithms of a class's diameters.
const LEAST: f64 = 0.03;
/// Share of the cells whose size says nothing, because they were segmented badly or are unusual.
const ODD: f64 = 0.05;
/// Range of the logarithms of their diameters.
const ODD_RANGE: f64 = 3.0;
/// Logarithms of the factors that are considered, and the steps between them.
const FARTHEST: f64 = 2.3;
const STEP: f64 = 0.02;
/// How exactly the factor of the training images is that of other images by the same microscope and camera, and how
/// far that of another laboratory is from it: deviations of its logarithm. Both are equally likely at first; similar
/// images count as much as both.
const SAME: f64 = 0.05;
const ANY: f64 = 1.0;
/// So many cells are enough to find the factor.
const ENOUGH: usize = 2000;

/// The sizes of the training cells of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellSizes {
    /// How large cells appear in each data set: the logarithm of the factor to the first of them.
    scales: BTreeMap<String, f64>,
    /// Cell and nucleus of each class, as they appear in the first data set.
    classes: Vec<[Spread; 2]>,
}

/// How the logarithms of diameters in px are spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Spread {
    median: f64,
    /// 1.4826 times the median absolute deviation: the standard deviation, if the distribution is normal.
    deviation: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let median = median(values.to_vec());
        let deviation = 1.4826 * self::median(values.iter().map(|v| (v - median).abs()).collect());
        Self { median, deviation: deviation.max(LEAST) }
    }

    /// The density of the logarithm of a diameter.
    fn density(self, value: f64) -> f64 {
        let z = (value - self.median) / self.deviation;
        let usual = (-0.5 * z * z).exp() / (self.deviation * std::f64::consts::TAU.sqrt());
        (1.0 - ODD) * usual + ODD / ODD_RANGE
    }
}

/// A training cell: its data set, the index of its class, and its diameter and that of its nucleus, px.
pub struct SizedCell<'a> {
    /// Name of the data set.
    pub dataset: &'a str,
    /// Index among the classes of the run.
    pub class: usize,
    /// Diameters of cell and nucleus, px, above 0.
    pub diameters_px: [f32; 2],
}

impl SizedCell<'_> {
    fn log(&self) -> [f64; 2] {
        self.diameters_px.map(|diameter| f64::from(diameter).ln())
    }
}

/// How large cells appear in each data set: the logarithms of the factors to the first of them. Data sets have other
/// shares of the classes, so that the medians of a class in one are compared with those of the same class in others: a
/// sum of two numbers, one for the data set and one for the class, is fitted to them by least squares.
fn scales_of(cells: &[SizedCell], classes: usize) -> BTreeMap<String, f64> {
    /// The fit takes one of the two numbers after the other.
    const ROUNDS: usize = 500;
    let mut groups: BTreeMap<(&str, usize, usize), Vec<f64>> = BTreeMap::new();
    for cell in cells {
        for (k, size) in cell.log().into_iter().enumerate() {
            groups.entry((cell.dataset, cell.class, k)).or_default().push(size);
        }
    }
    let mut scales: BTreeMap<String, f64> = cells.iter().map(|cell| (cell.dataset.to_string(), 0.0)).collect();
    if scales.len() < 2 {
        return scales;
    }
    let medians: Vec<(&str, usize, f64, f64)> = groups
        .into_iter()
        .map(|((dataset, class, k), sizes)| (dataset, 2 * class + k, sizes.len() as f64, median(sizes)))
        .collect();
    let mut sizes = vec![0.0; 2 * classes];
    for _ in 0..ROUNDS {
        for (class, size) in sizes.iter_mut().enumerate() {
            let own = medians.iter().filter(|(_, of, ..)| *of == class);
            *size = mean(own.map(|(dataset, _, weight, median)| (*weight, median - scales[*dataset])));
        }
        for (dataset, scale) in &mut scales {
            let own = medians.iter().filter(|(of, ..)| of == dataset);
            *scale = mean(own.map(|(_, class, weight, median)| (*weight, median - sizes[*class])));
        }
    }
    let first = scales.values().next().copied().unwrap_or_default();
    scales.values_mut().for_each(|scale| *scale -= first);
    scales
}

/// How large the cells of some images appear.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scale {
    /// The most likely factor to the training cells of `beside`.
    pub factor: f64,
    /// Name of the data set.
    pub beside: String,
    /// From how many cells it was estimated.
    pub cells: usize,
}

impl CellSizes {
    /// Learns the sizes of training cells; none where there are too few to compare.
    pub fn fit(cells: &[SizedCell], classes: usize) -> Option<Self> {
        if cells.len() < 2 * FEW {
            return None;
        }
        let scales = scales_of(cells, classes);
        let spread = |class: Option<usize>, k: usize| {
            let of_class = cells.iter().filter(|cell| class.is_none_or(|class| cell.class == class));
            let values: Vec<f64> = of_class.map(|cell| cell.log()[k] - scales[cell.dataset]).collect();
            (values.len() >= FEW).then(|| Spread::of(&values))
        };
        let all = [spread(None, 0)?, spread(None, 1)?];
        let of_class = |class| [0, 1].map(|k| spread(Some(class), k).unwrap_or(all[k]));
        let sizes = (0..classes).map(of_class).collect();
        Some(Self { scales, classes: sizes })
    }

    /// Multiplies the probabilities of cells by those of their sizes, to the power of `weight` (0 to 1), and returns
    /// how large the cells of each group appear, by its name. `diameters_px` are those of cell and nucleus, where they
    /// are known; cells without them stay as they are. Cells of one of `groups` are in images by one microscope and
    /// camera; those of all groups are if the groups are `alike`, unless their sizes say otherwise.
    pub fn weigh(
        &self,
        weight: f32,
        probabilities: &mut [Vec<f32>],
        diameters_px: &[Option<[f32; 2]>],
        groups: &[&str],
        alike: bool,
    ) -> BTreeMap<String, Scale> {
        let mut members: BTreeMap<&str, Vec<Size>> = BTreeMap::new();
        for (i, (group, diameters)) in groups.iter().zip(diameters_px).enumerate() {
            let size = diameters.map(|diameters| diameters.map(|diameter| f64::from(diameter).ln()));
            members.entry(group).or_default().extend(size.map(|size| (i, size)));
        }
        members.retain(|_, cells| !cells.is_empty());
        let near = (alike && members.len() > 1).then(|| {
            let all: Vec<Size> = members.values().flatten().copied().collect();
            self.likely(weight, probabilities, &all, None).best
        });
        let mut scales = BTreeMap::new();
        for (group, cells) in members {
            let Likely { best, scales: likely } = self.likely(weight, probabilities, &cells, near);
            let beside = self.scales.keys().next().cloned().unwrap_or_default();
            scales.insert(group.to_string(), Scale { factor: best.exp(), beside, cells: cells.len() });
            for (i, size) in cells {
                let mut means = vec![0.0; probabilities[i].len()];
                for (scale, likely) in &likely {
                    let of_classes = self.at(weight, &probabilities[i], size, *scale);
                    let share = likely / of_classes.iter().sum::<f64>();
                    means.iter_mut().zip(of_classes).for_each(|(mean, p)| *mean += share * p);
                }
                probabilities[i] = means.into_iter().map(|p| p as f32).collect();
            }
        }
        scales
    }

    /// The probabilities of a cell's classes at one scale, times a factor.
    fn at(&self, weight: f32, probabilities: &[f32], size: [f64; 2], scale: f64) -> Vec<f64> {
        let of_class = |(p, spreads): (&f32, &[Spread; 2])| {
            let density: f64 = (0..2).map(|k| spreads[k].density(size[k] - scale).ln()).sum();
            f64::from(*p) * (f64::from(weight) * density).exp()
        };
        probabilities.iter().zip(&self.classes).map(of_class).collect()
    }

    /// How large these cells may appear; `near` is the scale of similar images.
    fn likely(&self, weight: f32, probabilities: &[Vec<f32>], cells: &[Size], near: Option<f64>) -> Likely {
        let few: Vec<&Size> = cells.iter().step_by(cells.len().div_ceil(ENOUGH).max(1)).collect();
        let steps = (FARTHEST / STEP) as i32;
        let fit = |step: i32| {
            let scale = f64::from(step) * STEP;
            let fits =
                few.iter().map(|(i, size)| self.at(weight, &probabilities[*i], *size, scale).iter().sum::<f64>());
            (scale, self.prior(scale, near).ln() + fits.map(f64::ln).sum::<f64>())
        };
        let fits: Vec<(f64, f64)> = (-steps..=steps).into_par_iter().map(fit).collect();
        let most = fits.iter().copied().fold((0.0, f64::MIN), |most, fit| if fit.1 > most.1 { fit } else { most });
        let likely = fits.into_iter().map(|(scale, fit)| (scale, (fit - most.1).exp()));
        let likely: Vec<(f64, f64)> = likely.filter(|(_, likely)| *likely > 1e-6).collect();
        let sum: f64 = likely.iter().map(|(_, likely)| likely).sum();
        Likely { best: most.0, scales: likely.into_iter().map(|(scale, likely)| (scale, likely / sum)).collect() }
    }

    /// The density of the logarithm of the factor before any cell was seen, times a constant.
    fn prior(&self, scale: f64, near: Option<f64>) -> f64 {
        let normal = |middle: f64, deviation: f64| (-0.5 * ((scale - middle) / deviation).powi(2)).exp() / deviation;
        let all = self.scales.len() as f64;
        let middle = self.scales.values().sum::<f64>() / all;
        let same: f64 = self.scales.values().map(|known| normal(*known, SAME)).sum();
        same / all + normal(middle, ANY) + near.map_or(0.0, |near| 2.0 * normal(near, SAME))
    }
}

/// The number of a cell, and the logarithms of its diameter and its nucleus's.
type Size = (usize, [f64; 2]);

/// The most likely scale, as a logarithm, and the likely ones with their probabilities.
struct Likely {
    best: f64,
    scales: Vec<(f64, f64)>,
}

/// The mean of values with weights; 0 of none.
fn mean(values: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), (weight, value)| (sum + weight * value, n + weight));
    if n > 0.0 { sum / n } else { 0.0 }
}

/// The median; of an even number of values the mean of the two middle ones.
fn median(values: Vec<f64>) -> f64 {
    Data::new(values).median()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use rand::Rng;

    /// Diameters of cell and nucleus of three classes, px: lymphocytes, neutrophils, monocytes.
    const CLASSES: [[f32; 2]; 3] = [[90.0, 80.0], [124.0, 78.0], [141.0, 104.0]];

    /// Diameters of `n` cells of a class, which differ by a few per cent, at a scale.
    fn cells(class: usize, n: usize, scale: f32) -> Vec<[f32; 2]> {
        let mut rng = seed::rng(3, "cells", class as u64, n as u64, 0);
        let mut spread = || 1.0 + 0.14 * (rng.next_u32() as f32 / u32::MAX as f32 - 0.5);
        (0..n).map(|_| CLASSES[class].map(|diameter| diameter * scale * spread())).collect()
    }

    fn fitted(datasets: &[(&str, [usize; 3], f32)]) -> CellSizes {
        let mut sized = Vec::new();
        for (dataset, counts, scale) in datasets {
            for (class, n) in counts.iter().enumerate() {
                let of_class = cells(class, *n, *scale).into_iter();
                sized.extend(of_class.map(|diameters_px| SizedCell { dataset, class, diameters_px }));
            }
        }
        CellSizes::fit(&sized, 3).unwrap()
    }

    /// The shares of cells that are told right, where the network cannot tell lymphocytes from monocytes; and their
    /// scale.
    fn told(sizes: &CellSizes, counts: [usize; 3], scale: f32) -> ([f32; 3], f64) {
        let (mut truth, mut p, mut diameters) = (Vec::new(), Vec::new(), Vec::new());
        for (class, n) in counts.into_iter().enumerate() {
            for diameter in cells(class, n, scale) {
                truth.push(class);
                p.push(if class == 1 { vec![0.05, 0.9, 0.05] } else { vec![0.45, 0.05, 0.5] });
                diameters.push(Some(diameter));
            }
        }
        let n = p.len();
        let factor = sizes.weigh(0.3, &mut p, &diameters, &vec!["new"; n], true)["new"].factor;
        let right = |class: usize| {
            let of_class = truth.iter().zip(&p).filter(|(truth, _)| **truth == class);
            let right = of_class.filter(|(_, p)| (0..3).all(|other| p[other] <= p[class])).count();
            right as f32 / counts[class].max(1) as f32
        };
        assert!(p.iter().all(|p| (p.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        ([0, 1, 2].map(right), factor)
    }

    #[test]
    fn sizes_tell_lymphocytes_from_monocytes_at_any_magnification() {
        let sizes = fitted(&[("pbc", [60, 200, 60], 1.0)]);
        for scale in [0.3, 0.55, 1.0, 2.5] {
            let (right, factor) = told(&sizes, [30, 60, 10], scale);
            assert!(right.iter().all(|right| *right > 0.95), "{scale}: {right:?}");
            assert!((factor / f64::from(scale) - 1.0).abs() < 0.05, "{factor} for {scale}");
        }
    }

    /// Neither the usual cell nor the usual mixture is assumed.
    #[test]
    fn a_folder_of_lymphocytes_is_not_one_of_middle_sized_cells() {
        let sizes = fitted(&[("pbc", [60, 200, 60], 1.0)]);
        // By the same microscope and by another; the few neutrophils give the scale.
        for scale in [1.0, 0.6] {
            let (right, factor) = told(&sizes, [90, 10, 0], scale);
            assert!(right[0] > 0.95 && right[1] > 0.95, "{scale}: {right:?}");
            assert!((factor / f64::from(scale) - 1.0).abs() < 0.06, "{factor} for {scale}");
        }
    }

    #[test]
    fn each_folder_has_its_own_scale_near_that_of_the_others() {
        let sizes = fitted(&[("pbc", [60, 200, 60], 1.0)]);
        // Folders named by class, of another microscope.
        let mut p = [vec![vec![0.05, 0.9, 0.05]; 60], vec![vec![0.45, 0.05, 0.5]; 30]].concat();
        let groups: Vec<&str> = (0..90).map(|i| if i < 60 { "neutrophils" } else { "monocytes" }).collect();
        let at = |scale| [cells(1, 60, 0.55), cells(2, 30, scale)].concat().into_iter().map(Some).collect::<Vec<_>>();
        let mut separate = p.clone();
        let scales = sizes.weigh(0.3, &mut p, &at(0.55), &groups, true);
        assert!(scales.values().all(|scale| (scale.factor / 0.55 - 1.0).abs() < 0.06), "{scales:?}");
        assert!(p[60..].iter().all(|p| p[2] > 0.8), "{:?}", &p[60..]);
        // A folder of another magnification is not forced to that of the others.
        let scales = sizes.weigh(0.3, &mut separate, &at(1.1), &groups, true);
        assert!((scales["monocytes"].factor / 1.1 - 1.0).abs() < 0.06, "{scales:?}");
        assert!((scales["neutrophils"].factor / 0.55 - 1.0).abs() < 0.06, "{scales:?}");
    }

    #[test]
    fn scales_of_training_sets_are_found_whatever_their_classes() {
        let sizes = fitted(&[("a", [20, 200, 80], 1.0), ("b", [150, 40, 10], 0.5)]);
        assert!((sizes.scales["b"].exp() - 0.5).abs() < 0.02 && sizes.scales["a"] == 0.0, "{:?}", sizes.scales);
        for (class, spreads) in sizes.classes.iter().enumerate() {
            let expected = CLASSES[class].map(|diameter| f64::from(diameter).ln());
            let near = |k: usize| (spreads[k].median - expected[k]).abs() < 0.03;
            assert!(near(0) && near(1), "{spreads:?}, not {expected:?}");
        }
        assert_eq!(serde_json::from_str::<CellSizes>(&serde_json::to_string(&sizes).unwrap()).unwrap(), sizes);
    }

    #[test]
    fn without_a_size_or_a_scale_little_changes() {
        let sizes = fitted(&[("pbc", [60, 200, 60], 1.0)]);
        let before = vec![vec![0.45, 0.05, 0.5], vec![0.1, 0.8, 0.1]];
        let mut p = before.clone();
        assert!(sizes.weigh(0.3, &mut p, &[None, None], &["new"; 2], true).is_empty());
        assert_eq!(p, before);
        // One cell of another microscope: anything may be its scale.
        sizes.weigh(0.3, &mut p[..1], &[Some([40.0, 30.0])], &["new"], true);
        assert!(p[0].iter().zip(&before[0]).all(|(a, b)| (a - b).abs() < 0.15), "{p:?}");
        assert_eq!(p[1], before[1]);
        // No weight: nothing but rounding.
        let mut p = before.clone();
        sizes.weigh(0.0, &mut p, &[Some([90.0, 80.0]); 2], &["new"; 2], true);
        assert!(p.iter().flatten().zip(before.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-6), "{p:?}");
        assert_eq!(CellSizes::fit(&[], 3), None);
    }
}
