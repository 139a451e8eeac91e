//! Random forest (Breiman, Machine Learning 45:5-32, 2001) of smartcore: trees by the Gini index on bootstrap samples,
//! fully grown, with sqrt(features) candidates per split. The probabilities are the shares of the trees' votes.

use super::entry::{Choice, Classifier, Entry, Parameter, Probabilities, Samples, Weighting, failed};
use crate::error::Result;
use crate::seed;
use rayon::prelude::*;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

pub const ENTRY: Entry = Entry {
    name: "forest",
    title: "random forest",
    parameters: &[Parameter {
        name: "trees",
        default: &[200.0],
        expected: "an integer from 1 to 10000",
        valid: |n| n.fract() == 0.0 && (1.0..=10_000.0).contains(&n),
    }],
    class_weights: Weighting::None,
    fit,
};

type Tree = RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// Forests of one tree each, because the library's forest uses one core and does not return votes.
struct Forest {
    trees: Vec<Tree>,
    /// Number of classes.
    count: usize,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
    let failed = failed(ENTRY.title);
    let x: Vec<Vec<f64>> = samples.x.iter().map(|row| row.to_vec()).collect();
    let x = DenseMatrix::from_2d_vec(&x).map_err(&failed)?;
    let y: Vec<u32> = samples.classes.iter().map(|class| *class as u32).collect();
    let tree = |number: u64| {
        let seed = seed::key(samples.key, "tree", 0, 0, number);
        Tree::fit(&x, &y, RandomForestClassifierParameters::default().with_n_trees(1).with_seed(seed)).map_err(&failed)
    };
    let trees = (0..choice["trees"] as u64).into_par_iter().map(tree).collect::<Result<_>>()?;
    Ok(Box::new(Forest { trees, count: samples.count }))
}

impl Classifier for Forest {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let failed = failed(ENTRY.title);
        let row = DenseMatrix::new(1, x.len(), x.to_vec(), false).map_err(&failed)?;
        let mut votes = vec![0.0; self.count];
        for tree in &self.trees {
            votes[tree.predict(&row).map_err(&failed)?[0] as usize] += 1.0;
        }
        Ok(votes.iter().map(|n| n / self.trees.len() as f64).collect())
    }
}
