//! k nearest neighbours by Euclidean distance of standardised features. Probabilities are the shares of the
//! neighbours' votes.

use super::{Choice, Entry, Fitted, Parameter, Probabilities, Samples};
use crate::class::Class;
use crate::error::Result;

pub const ENTRY: Entry = Entry {
    name: "knn",
    title: "k-nearest neighbours",
    parameters: &[Parameter {
        name: "k",
        default: &[1.0, 3.0, 5.0, 9.0],
        expected: "a whole number from 1 to 1000",
        valid: |k| k.fract() == 0.0 && (1.0..=1000.0).contains(&k),
    }],
    fit,
};

/// The training cells themselves. Every one is looked at: in a hundred dimensions no tree saves that, and smartcore's
/// linear search took some thirty times as long.
struct Neighbours {
    k: usize,
    cells: Vec<(Vec<f64>, Class)>,
}

fn fit(choice: &Choice, samples: &Samples) -> Result<Box<dyn Fitted>> {
    let cells: Vec<_> = samples.x.iter().zip(samples.classes).map(|(x, class)| (x.to_vec(), *class)).collect();
    Ok(Box::new(Neighbours { k: (choice["k"] as usize).min(cells.len()), cells }))
}

impl Fitted for Neighbours {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut by_distance: Vec<(f64, usize)> =
            self.cells.iter().enumerate().map(|(i, (cell, _))| (squared_distance(x, cell), i)).collect();
        // Of equally near ones the first.
        let order = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        by_distance.select_nth_unstable_by(self.k - 1, order);
        let mut shares = [0.0; Class::COUNT];
        for (_, i) in &by_distance[..self.k] {
            shares[self.cells[*i].1.index()] += 1.0 / self.k as f64;
        }
        Ok(shares)
    }
}

/// Eight sums side by side: the machine's vectors, and always the same order.
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
    use super::super::tests::fitted;
    use super::*;

    #[test]
    fn probabilities_are_shares_of_the_nearest() {
        use Class::{Basophil as BA, Neutrophil as NE};
        let x: Vec<Vec<f64>> = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0].map(|v| vec![v, 0.0]).into();
        let classes = [NE, BA, NE, BA, BA, BA];
        let p = |k: f64, at: f64| fitted("knn", &[("k", k)], &x, &classes).probabilities(&[at, 0.0]).unwrap();
        assert!((p(3.0, 1.2)[NE.index()] - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((p(1.0, 1.2)[BA.index()], p(1.0, 1.5)[BA.index()]), (1.0, 1.0), "the nearest, or the first of two");
        assert!((p(100.0, 0.0)[NE.index()] - 1.0 / 3.0).abs() < 1e-12, "no more neighbours than there are");
    }

    #[test]
    fn distance_is_euclids_for_any_number_of_features() {
        for width in [1, 7, 8, 19, 100] {
            let a: Vec<f64> = (0..width).map(f64::from).collect();
            let b = vec![1.0; width as usize];
            let wanted: f64 = (0..width).map(|k| (f64::from(k) - 1.0).powi(2)).sum();
            assert_eq!(squared_distance(&a, &b), wanted);
        }
    }
}
