//! How far a cell is from those that a model was trained on: the distance to the k-th nearest of them in what the model's
//! last layer reads (Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors").

use crate::batch::Tensors;
use crate::class::Class;
use crate::error::Result;
use crate::run::TrainedModel;
use crate::seed;
use crate::split::Splits;
use rand::Rng;
use rayon::prelude::*;
use std::collections::HashMap;

/// Training cells of each class that are compared with.
const CELLS: usize = 200;
/// Which of the nearest counts.
const NEAREST: usize = 5;
/// Share of unseen cells of the training's own data that lie within a distance of 1.
const WITHIN: f64 = 0.99;

/// Training cells as a model sees them.
pub struct Reference {
    width: usize,
    /// `[cells, width]`, of length 1 each.
    features: Vec<f32>,
    /// The distance that is called 1.
    unit: f32,
}

impl Reference {
    /// Of a fold's training cells; its test cells say what is far.
    pub fn new(
        trained: &TrainedModel,
        tensors: &Tensors,
        splits: &Splits,
        class_of: &HashMap<String, Class>,
    ) -> Result<Self> {
        let (record, id) = (&trained.record, trained.id());
        let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); Class::COUNT];
        for id in id.training_images(splits) {
            if let (Some(row), Some(class)) = (tensors.row(id), class_of.get(id)) {
                by_class[class.index()].push(row);
            }
        }
        let mut rng = seed::rng(record.seed, "reference", id.seed_key(record.folds), 0, 0);
        for rows in &mut by_class {
            // The first of a shuffle (Fisher and Yates).
            for i in 0..rows.len().min(CELLS) {
                let j = i + ((u128::from(rng.next_u64()) * (rows.len() - i) as u128) >> 64) as usize;
                rows.swap(i, j);
            }
            rows.truncate(CELLS);
        }
        let rows = by_class.concat();
        let features = features(trained, tensors, &rows)?;
        let width = features.len() / rows.len().max(1);
        let mut reference = Self { width, features, unit: 1.0 };
        let unseen: Vec<usize> = id.test_images(splits).filter_map(|id| tensors.row(id)).collect();
        // A model of all images has unseen cells no more: its own training cells stand in, each without itself.
        let own = unseen.is_empty();
        let asked = if own { rows } else { unseen };
        let asked = self::features(trained, tensors, &asked)?;
        let mut distances = reference.nearest(&asked, NEAREST + usize::from(own));
        distances.sort_by(f32::total_cmp);
        let at = ((distances.len() as f64 * WITHIN) as usize).min(distances.len().saturating_sub(1));
        reference.unit = distances.get(at).copied().unwrap_or(1.0).max(f32::MIN_POSITIVE);
        Ok(reference)
    }

    /// The distance of each of `features` (`[n, width]`, as the model gave them).
    pub fn distances(&self, features: &[f32]) -> Vec<f32> {
        let mut features = features.to_vec();
        to_length_one(&mut features, self.width);
        self.nearest(&features, NEAREST).into_iter().map(|d| d / self.unit).collect()
    }

    /// Distance of each to its `k`-th nearest (or the farthest there is).
    fn nearest(&self, features: &[f32], k: usize) -> Vec<f32> {
        let one = |x: &[f32]| {
            let dot = |r: &[f32]| r.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
            let mut squares: Vec<f32> = self.features.chunks_exact(self.width).map(|r| 2.0 - 2.0 * dot(r)).collect();
            let at = k.min(squares.len()).saturating_sub(1);
            let (_, kth, _) = squares.select_nth_unstable_by(at, f32::total_cmp);
            kth.max(0.0).sqrt()
        };
        features.par_chunks_exact(self.width).map(one).collect()
    }
}

/// What the model's last layer reads of the pictures at `rows`, each of length 1.
fn features(trained: &TrainedModel, tensors: &Tensors, rows: &[usize]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for chunk in rows.chunks(64) {
        let mut found = trained.infer_once(tensors, chunk)?;
        to_length_one(&mut found.features, found.width);
        all.extend(found.features);
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
    fn distance_is_that_to_the_fifth_nearest() {
        // Seven training cells around one direction, at angles of 0 to 0.6.
        let at = |angle: f32| [angle.cos(), angle.sin(), 0.0];
        let features: Vec<f32> = (0..7).flat_map(|i| at(i as f32 / 10.0)).collect();
        let reference = Reference { width: 3, features, unit: 0.5 };
        let chord = |angle: f32| 2.0 * (angle / 2.0).sin() / 0.5;
        // Of any length; the fifth nearest to the first is 0.4 away, to the middle one 0.2.
        let asked: Vec<f32> = [at(0.0).map(|v| 9.0 * v), at(0.3), [0.0, 0.0, -1.0]].concat();
        let found = reference.distances(&asked);
        let expected = [chord(0.4), chord(0.2), 2f32.sqrt() / 0.5];
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-3), "{found:?} and {expected:?}");
    }
}
