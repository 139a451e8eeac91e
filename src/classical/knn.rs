//! k-nearest neighbours by Euclidean distance of standardised features. The probabilities are the shares of the
//! neighbours' votes.

use super::arrays::{Arrays, same_length};
use super::entry::{Choice, Classifier, Entry, Parameter, Probabilities, Samples, Weighting};
use crate::error::Result;

pub const ENTRY: Entry = Entry {
    name: "knn",
    title: "k-nearest neighbours",
    parameters: &[Parameter {
        name: "k",
        default: &[1.0, 3.0, 5.0, 9.0],
        expected: "an integer from 1 to 1000",
        valid: |k| k.fract() == 0.0 && (1.0..=1000.0).contains(&k),
    }],
    class_weights: Weighting::Priors,
    fit,
    restore,
};

/// The training cells. The search is exhaustive, because trees do not help in a hundred dimensions. smartcore's linear
/// search takes about thirty times as long.
struct Neighbours {
    k: usize,
    cells: Vec<(Vec<f64>, usize)>,
    /// Number of classes.
    count: usize,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
    let cells: Vec<_> = samples.x.iter().zip(samples.classes).map(|(x, class)| (x.to_vec(), *class)).collect();
    Ok(Box::new(Neighbours { k: (choice["k"] as usize).min(cells.len()), cells, count: samples.count }))
}

fn restore(arrays: &Arrays, count: usize) -> std::result::Result<Box<dyn Classifier>, String> {
    let (rows, classes) = (arrays.get_rows("cells")?, arrays.get_numbers("classes", count)?);
    same_length("classes", classes.len(), rows.len())?;
    let cells: Vec<_> = rows.into_iter().map(<[f64]>::to_vec).zip(classes).collect();
    match arrays.get_numbers("k", cells.len() + 1)?[..] {
        [k] if k > 0 => Ok(Box::new(Neighbours { k, cells, count })),
        _ => Err("no number of neighbours above 0 in the array k".into()),
    }
}

impl Classifier for Neighbours {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut by_distance: Vec<(f64, usize)> =
            self.cells.iter().enumerate().map(|(i, (cell, _))| (squared_distance(x, cell), i)).collect();
        // Ties go to the earlier training cell.
        let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        by_distance.select_nth_unstable_by(self.k - 1, order);
        let mut shares = vec![0.0; self.count];
        for (_, i) in &by_distance[..self.k] {
            shares[self.cells[*i].1] += 1.0 / self.k as f64;
        }
        Ok(shares)
    }

    fn arrays(&self) -> Arrays {
        Arrays::default()
            .numbers("k", [self.k])
            .rows("cells", self.cells.iter().map(|(x, _)| x.as_slice()))
            .numbers("classes", self.cells.iter().map(|(_, class)| *class))
    }
}

/// Uses eight partial sums, which compile to vector instructions and are always added in the same order.
fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for k in 0..8 {
            sums[k] += (a[k] - b[k]) * (a[k] - b[k]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::fitted;
    use super::*;

    #[test]
    fn probabilities_are_shares_of_the_nearest_cells() {
        const BA: usize = 2;
        const NE: usize = 0;
        let x: Vec<Vec<f64>> = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0].map(|v| vec![v, 0.0]).into();
        let classes = [NE, BA, NE, BA, BA, BA];
        let p = |k: f64, at: f64| fitted(&ENTRY, &[("k", k)], &x, &classes).probabilities(&[at, 0.0]).unwrap();
        assert!((p(3.0, 1.2)[NE] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((p(1.0, 1.2)[BA], p(1.0, 1.5)[BA]), (1.0, 1.0), "the nearest, or the first of two");
        assert!((p(100.0, 0.0)[NE] - 1.0 / 3.0).abs() < 1e-12, "k is limited to the number of cells");
    }

    #[test]
    fn distance_is_euclidean_for_any_number_of_features() {
        for width in [1, 7, 8, 19, 100] {
            let a: Vec<f64> = (0..width).map(f64::from).collect();
            let b = vec![1.0; width as usize];
            let wanted: f64 = (0..width).map(|k| (f64::from(k) - 1.0).powi(2)).sum();
            assert_eq!(squared_distance(&a, &b), wanted);
        }
    }
}
