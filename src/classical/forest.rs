//! Random forest (Breiman, Machine Learning 45:5-32, 2001) of smartcore: trees by the Gini index on bootstrap samples,
//! fully grown, with sqrt(features) candidates per split. The probabilities are the shares of the trees' votes.

use super::arrays::{Arrays, same_length};
use super::entry::{Choice, Classifier, Entry, Parameter, Probabilities, Samples, Weighting, failed};
use crate::error::{Error, Result};
use crate::seed;
use rayon::prelude::*;
use serde::Deserialize;
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
    restore,
};

type Tree = RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// Forests of one tree each are fitted, because the library's forest uses one core and does not return votes.
struct Forest {
    /// The nodes of all trees, tree by tree; each tree starts with its root.
    nodes: Vec<Node>,
    /// The number of each tree's root.
    roots: Vec<usize>,
    /// Number of classes.
    count: usize,
}

/// A node of a tree.
#[derive(Clone, Copy)]
struct Node {
    /// The feature that decides.
    feature: usize,
    /// Cells with at most this value go to the first child.
    threshold: f64,
    /// Numbers of the children; none of a leaf.
    children: Option<[usize; 2]>,
    /// The class of a leaf.
    class: usize,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
    let failed = failed(ENTRY.title);
    let x: Vec<Vec<f64>> = samples.x.iter().map(|row| row.to_vec()).collect();
    let x = DenseMatrix::from_2d_vec(&x).map_err(&failed)?;
    let y: Vec<u32> = samples.classes.iter().map(|class| *class as u32).collect();
    let tree = |number: u64| {
        let seed = seed::key(samples.key, "tree", 0, 0, number);
        let parameters = RandomForestClassifierParameters::default().with_n_trees(1).with_seed(seed);
        nodes(&Tree::fit(&x, &y, parameters).map_err(&failed)?)
    };
    let trees: Vec<Vec<Node>> = (0..choice["trees"] as u64).into_par_iter().map(tree).collect::<Result<_>>()?;
    let mut forest = Forest { nodes: Vec::new(), roots: Vec::new(), count: samples.count };
    for tree in trees {
        let root = forest.nodes.len();
        forest.roots.push(root);
        let placed = |node: Node| Node { children: node.children.map(|c| c.map(|child| root + child)), ..node };
        forest.nodes.extend(tree.into_iter().map(placed));
    }
    Ok(Box::new(forest))
}

/// The nodes of a forest of one tree, which the library shows only where it writes it.
fn nodes(tree: &Tree) -> Result<Vec<Node>> {
    #[derive(Deserialize)]
    struct Written {
        trees: Vec<WrittenTree>,
        classes: Vec<usize>,
    }
    #[derive(Deserialize)]
    struct WrittenTree {
        nodes: Vec<WrittenNode>,
    }
    #[derive(Deserialize)]
    struct WrittenNode {
        output: usize,
        split_feature: usize,
        split_value: Option<f64>,
        true_child: Option<usize>,
        false_child: Option<usize>,
    }
    let failed = |e: serde_json::Error| Error::compute(ENTRY.title, e);
    let written = serde_json::to_value(tree).map_err(failed)?;
    let Written { trees, classes } = serde_json::from_value(written).map_err(failed)?;
    let node = |node: &WrittenNode| Node {
        feature: node.split_feature,
        threshold: node.split_value.unwrap_or(f64::NAN),
        children: node.true_child.zip(node.false_child).map(|(first, second)| [first, second]),
        class: classes[node.output],
    };
    Ok(trees.iter().flat_map(|tree| &tree.nodes).map(node).collect())
}

fn restore(arrays: &Arrays, count: usize) -> std::result::Result<Box<dyn Classifier>, String> {
    let thresholds = arrays.get("thresholds")?;
    let n = thresholds.len();
    let [features, firsts, seconds] = [("features", usize::MAX), ("first_children", n), ("second_children", n)]
        .map(|(name, limit)| arrays.get_numbers(name, limit));
    let (features, firsts, seconds) = (features?, firsts?, seconds?);
    let (classes, roots) = (arrays.get_numbers("classes", count)?, arrays.get_numbers("roots", n)?);
    for list in [&features, &firsts, &seconds, &classes] {
        same_length("values of nodes", list.len(), n)?;
    }
    let node = |i: usize| -> std::result::Result<Node, String> {
        // A leaf is its own child.
        let children = (firsts[i] != i).then_some([firsts[i], seconds[i]]);
        match children {
            Some([first, second]) if first <= i || second <= i => Err(format!("node {i} before its children")),
            _ => Ok(Node { feature: features[i], threshold: thresholds[i], children, class: classes[i] }),
        }
    };
    Ok(Box::new(Forest { nodes: (0..n).map(node).collect::<std::result::Result<_, _>>()?, roots, count }))
}

impl Classifier for Forest {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut votes = vec![0.0; self.count];
        for root in &self.roots {
            let mut node = &self.nodes[*root];
            while let Some([first, second]) = node.children {
                let value = x.get(node.feature).copied().unwrap_or(f64::NAN);
                node = &self.nodes[if value <= node.threshold { first } else { second }];
            }
            votes[node.class] += 1.0;
        }
        Ok(votes.iter().map(|n| n / self.roots.len() as f64).collect())
    }

    fn arrays(&self) -> Arrays {
        let numbers = |value: &dyn Fn(usize, &Node) -> usize| -> Vec<usize> {
            self.nodes.iter().enumerate().map(|(i, node)| value(i, node)).collect()
        };
        Arrays::default()
            .numbers("roots", self.roots.iter().copied())
            .numbers("features", numbers(&|_, node| node.feature))
            .list("thresholds", self.nodes.iter().map(|node| node.threshold).collect())
            .numbers("first_children", numbers(&|i, node| node.children.map_or(i, |[first, _]| first)))
            .numbers("second_children", numbers(&|i, node| node.children.map_or(i, |[_, second]| second)))
            .numbers("classes", numbers(&|_, node| node.class))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{clusters, fitted};
    use super::*;

    /// A forest is kept as nodes: it votes as the library's trees do.
    #[test]
    fn nodes_vote_as_the_librarys_trees() {
        let (x, classes) = clusters(40, 9.0);
        let samples = DenseMatrix::from_2d_vec(&x).unwrap();
        let y: Vec<u32> = classes.iter().map(|class| *class as u32).collect();
        let parameters = RandomForestClassifierParameters::default().with_n_trees(1).with_seed(3);
        let tree = Tree::fit(&samples, &y, parameters).unwrap();
        let forest = Forest { nodes: nodes(&tree).unwrap(), roots: vec![0], count: 5 };
        let predicted = tree.predict(&samples).unwrap();
        for (x, class) in x.iter().zip(predicted) {
            assert_eq!(forest.probabilities(x).unwrap()[class as usize], 1.0);
        }
        assert!(forest.nodes.len() > 5);
        let p = fitted(&ENTRY, &[("trees", 20.0)], &x, &classes).probabilities(&[6.0, 0.0]).unwrap();
        assert!(p[2] > 0.5, "{p:?}");
    }
}
