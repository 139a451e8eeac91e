//! How unlike its training cells a cell looks to a model: the distance to the k-th nearest training cell, in the
//! features that a network's last layer reads, or that a classifier uses (Sun et al. 2022,
//! "Out-of-Distribution Detection with Deep Nearest Neighbors").

use crate::batch::Tensors;
use crate::class::Class;
use crate::error::Result;
use crate::features::Features;
use crate::run::{FittedModel, ModelId, Record, TrainedModel};
use crate::seed;
use crate::split::Splits;
use rayon::prelude::*;
use std::collections::HashMap;

/// Training cells of each class to compare with.
const CELLS: usize = 200;
/// The distance is that to the cell of this rank, from 1, among the nearest.
const NEAREST: usize = 5;
/// Share of the run's own test cells that lie within a distance of 1.
const WITHIN: f64 = 0.99;

/// Features of training cells.
pub struct Reference {
    width: usize,
    /// `[cells, width]`; those of a network are scaled to length 1.
    features: Vec<f32>,
    /// The square of the length of each row.
    squares: Vec<f32>,
    /// Whether rows are scaled to length 1.
    scaled: bool,
    /// The unscaled distance that counts as 1.
    unit: f32,
}

/// The rows of a data set that a model is measured on.
struct Rows {
    /// At most [`CELLS`] training cells of each class.
    training: Vec<usize>,
    /// Test cells; none of the model of all images.
    test: Vec<usize>,
}

impl Rows {
    /// `row_of` finds the row of an image.
    fn draw(
        record: &Record,
        id: ModelId,
        splits: &Splits,
        class_of: &HashMap<String, Class>,
        row_of: impl Fn(&str) -> Option<usize>,
    ) -> Self {
        let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); record.classes.len()];
        for image in id.training_images(splits) {
            let class = class_of.get(image).and_then(|class| record.classes.index(*class));
            if let (Some(row), Some(class)) = (row_of(image), class) {
                by_class[class].push(row);
            }
        }
        let mut rng = seed::rng(record.seed, "reference", id.seed_key(record.folds), 0, 0);
        by_class.iter_mut().for_each(|rows| seed::draw(rows, CELLS, &mut rng));
        Self { training: by_class.concat(), test: id.test_images(splits).filter_map(row_of).collect() }
    }
}

impl Reference {
    /// Measures the training cells of a network. Its test cells set the unit of distance.
    ///
    /// # Errors
    /// [`crate::error::Error::Compute`] where the device is out of memory.
    pub fn of_network(
        trained: &TrainedModel,
        tensors: &Tensors,
        splits: &Splits,
        class_of: &HashMap<String, Class>,
    ) -> Result<Self> {
        let rows = Rows::draw(&trained.record, trained.id(), splits, class_of, |image| tensors.row(image));
        Self::new(&rows, true, |rows| features(trained, tensors, rows))
    }

    /// Measures the training cells of a classical classifier, in its standardised features.
    ///
    /// # Errors
    /// None.
    pub fn of_classifier(
        fitted: &FittedModel,
        features: &Features,
        splits: &Splits,
        class_of: &HashMap<String, Class>,
    ) -> Result<Self> {
        let row_of: HashMap<&str, usize> =
            features.image_ids.iter().enumerate().map(|(row, id)| (id.as_str(), row)).collect();
        let rows = Rows::draw(&fitted.record, fitted.id, splits, class_of, |image| row_of.get(image).copied());
        let standard = |row: &usize| fitted.scale.apply(&features.values[*row]).into_iter().map(|v| v as f32);
        Self::new(&rows, false, |rows| Ok(rows.iter().flat_map(standard).collect()))
    }

    fn new(rows: &Rows, scaled: bool, features: impl Fn(&[usize]) -> Result<Vec<f32>>) -> Result<Self> {
        let known = features(&rows.training)?;
        let width = (known.len() / rows.training.len().max(1)).max(1);
        let squares = known.chunks_exact(width).map(|x| x.iter().map(|v| v * v).sum()).collect();
        let mut reference = Self { width, features: known, squares, scaled, unit: 1.0 };
        // The model of all images has no test cells: its training cells take their place, each compared with the
        // others.
        let own = rows.test.is_empty();
        let unit_features = features(if own { &rows.training } else { &rows.test })?;
        let mut distances = reference.nearest(&unit_features, NEAREST + usize::from(own));
        distances.sort_by(f32::total_cmp);
        let at = ((distances.len() as f64 * WITHIN) as usize).min(distances.len().saturating_sub(1));
        reference.unit = distances.get(at).copied().unwrap_or(1.0).max(f32::MIN_POSITIVE);
        Ok(reference)
    }

    /// The distance of each row of `features` (`[n, width]`, as the model returns them).
    pub fn distances(&self, features: &[f32]) -> Vec<f32> {
        let mut features = features.to_vec();
        if self.scaled {
            to_length_one(&mut features, self.width);
        }
        self.nearest(&features, NEAREST).into_iter().map(|d| d / self.unit).collect()
    }

    /// Distance of each row to its `k`-th nearest training cell (the farthest where there are fewer).
    fn nearest(&self, features: &[f32], k: usize) -> Vec<f32> {
        let distance = |x: &[f32]| {
            let dot = |r: &[f32]| r.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
            let own: f32 = x.iter().map(|v| v * v).sum();
            let rows = self.features.chunks_exact(self.width).zip(&self.squares);
            let mut squares: Vec<f32> = rows.map(|(r, square)| own + square - 2.0 * dot(r)).collect();
            let at = k.min(squares.len()).saturating_sub(1);
            let (_, kth, _) = squares.select_nth_unstable_by(at, f32::total_cmp);
            kth.max(0.0).sqrt()
        };
        features.par_chunks_exact(self.width).map(distance).collect()
    }
}

/// The features that the model's last layer reads for the tensors at `rows`, each row scaled to length 1.
fn features(trained: &TrainedModel, tensors: &Tensors, rows: &[usize]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for chunk in rows.chunks(64) {
        let mut inferred = trained.infer_once(tensors, chunk)?;
        to_length_one(&mut inferred.features, inferred.width);
        all.extend(inferred.features);
    }
    Ok(all)
}

fn to_length_one(features: &mut [f32], width: usize) {
    features.par_chunks_exact_mut(width.max(1)).for_each(|x| {
        let length = x.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        x.iter_mut().for_each(|v| *v /= length);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_to_the_fifth_nearest_cell() {
        // Seven training cells around one direction, at angles of 0 to 0.6.
        let at = |angle: f32| [angle.cos(), angle.sin(), 0.0];
        let features: Vec<f32> = (0..7).flat_map(|i| at(i as f32 / 10.0)).collect();
        let reference = Reference { width: 3, features, squares: vec![1.0; 7], scaled: true, unit: 0.5 };
        let chord = |angle: f32| 2.0 * (angle / 2.0).sin() / 0.5;
        // Features of any length; the fifth nearest to the first cell is 0.4 away, that to the middle one 0.2.
        let features: Vec<f32> = [at(0.0).map(|v| 9.0 * v), at(0.3), [0.0, 0.0, -1.0]].concat();
        let distances = reference.distances(&features);
        let expected = [chord(0.4), chord(0.2), 2f32.sqrt() / 0.5];
        assert!(distances.iter().zip(expected).all(|(d, e)| (d - e).abs() < 1e-3), "{distances:?}, {expected:?}");
        // Features of a classical classifier keep their length.
        let (features, squares) = ((0..7).map(|i| i as f32).collect(), (0..7).map(|i| (i * i) as f32).collect());
        let reference = Reference { width: 1, features, squares, scaled: false, unit: 2.0 };
        assert_eq!(reference.distances(&[3.0, 10.0]), [1.0, 4.0]);
    }
}
