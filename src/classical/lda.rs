//! Linear discriminant analysis: every class normal, with one covariance for all. Probabilities are the posteriors,
//! with the classes' frequencies in training as priors.
//!
//! The covariance is shrunk towards a multiple of the identity by as much as Ledoit and Wolf's formula says (J.
//! Multivariate Analysis 88:365-411, 2004): with a hundred features and a few hundred cells it could not be inverted
//! otherwise.

use super::{Choice, Entry, Fitted, Probabilities, Samples, normalised, present, refused};
use crate::class::Class;
use crate::error::Result;
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::cholesky::CholeskyDecomposable;

pub const ENTRY: Entry = Entry { name: "lda", title: "linear discriminant analysis", parameters: &[], fit };

/// The classes that occur, each with its discriminant: a constant, and a weight a feature.
struct Discriminants(Vec<(Class, f64, Vec<f64>)>);

fn fit(_: &Choice, samples: &Samples) -> Result<Box<dyn Fitted>> {
    let refused = refused("linear discriminant analysis");
    let (n, width) = (samples.x.len() as f64, samples.x[0].len());
    let classes = present(samples.classes);
    let of = |class: Class| samples.x.iter().zip(samples.classes).filter(move |(_, c)| **c == class).map(|(x, _)| *x);
    let mean = |class: Class| -> Vec<f64> {
        let count = of(class).count() as f64;
        (0..width).map(|k| of(class).map(|x| x[k]).sum::<f64>() / count).collect()
    };
    let means: Vec<Vec<f64>> = classes.iter().map(|class| mean(*class)).collect();
    let centred: Vec<Vec<f64>> = classes
        .iter()
        .zip(&means)
        .flat_map(|(class, mean)| of(*class).map(move |x| x.iter().zip(mean).map(|(v, m)| v - m).collect()))
        .collect();
    let covariance = shrunk(&centred, width);
    let right: Vec<Vec<f64>> = (0..width).map(|k| means.iter().map(|mean| mean[k]).collect()).collect();
    let right = DenseMatrix::from_2d_vec(&right).map_err(&refused)?;
    let weights = DenseMatrix::from_2d_vec(&covariance)
        .and_then(|covariance| covariance.cholesky_solve_mut(right))
        .map_err(&refused)?;
    let discriminant = |(at, class): (usize, &Class)| {
        let weights: Vec<f64> = (0..width).map(|k| *weights.get((k, at))).collect();
        let half: f64 = weights.iter().zip(&means[at]).map(|(w, m)| w * m).sum::<f64>() / 2.0;
        let prior = (of(*class).count() as f64 / n).ln();
        (*class, prior - half, weights)
    };
    Ok(Box::new(Discriminants(classes.iter().enumerate().map(discriminant).collect())))
}

/// The covariance of centred rows, shrunk: (1 - s) S + s m I, m the mean of its diagonal, s by Ledoit and Wolf.
fn shrunk(centred: &[Vec<f64>], width: usize) -> Vec<Vec<f64>> {
    let n = centred.len() as f64;
    let mut covariance = vec![vec![0.0; width]; width];
    for row in centred {
        for (i, a) in row.iter().enumerate() {
            for (sum, b) in covariance[i].iter_mut().zip(row) {
                *sum += a * b;
            }
        }
    }
    covariance.iter_mut().flatten().for_each(|v| *v /= n);
    let middle = (0..width).map(|k| covariance[k][k]).sum::<f64>() / width as f64;
    let squares: f64 = covariance.iter().flatten().map(|v| v * v).sum();
    // How far the covariance is from m I, and how far the single rows' are from it, both squared and by n.
    let away = squares - width as f64 * middle * middle;
    let fourth: f64 = centred.iter().map(|row| row.iter().map(|v| v * v).sum::<f64>().powi(2)).sum::<f64>() / n;
    let noise = ((fourth - squares) / n).min(away);
    let share = if away > 0.0 { (noise / away).clamp(0.0, 1.0) } else { 1.0 };
    for (i, row) in covariance.iter_mut().enumerate() {
        row.iter_mut().for_each(|v| *v *= 1.0 - share);
        // All cells of a class alike: no more than a hint of width.
        row[i] += (share * middle).max(1e-9);
    }
    covariance
}

impl Fitted for Discriminants {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut logarithms = [f64::NEG_INFINITY; Class::COUNT];
        for (class, constant, weights) in &self.0 {
            logarithms[class.index()] = constant + x.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>();
        }
        Ok(normalised(logarithms))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fitted;
    use super::*;

    /// scikit-learn 1.9.1: `sklearn.covariance.ledoit_wolf(X, assume_centered=True)` of these rows.
    #[test]
    fn the_shrunk_covariance_is_scikit_learns() {
        let rows = [[1.0, 2.0, 0.5], [-1.5, -1.0, 0.25], [0.5, -2.0, -1.0], [0.0, 1.0, 0.25]].map(Vec::from);
        let got = shrunk(&rows, 3);
        let wanted = LEDOIT_WOLF;
        for (got, wanted) in got.iter().flatten().zip(wanted.iter().flatten()) {
            assert!((got - wanted).abs() < 1e-9, "{got} and {wanted}");
        }
    }

    const LEDOIT_WOLF: [[f64; 3]; 3] = [
        [1.0337914638831966, 0.35278606191452, -0.052917909287177996],
        [0.35278606191452, 1.9510352248609486, 0.42334327429742397],
        [-0.052917909287177996, 0.42334327429742397, 0.7339233112558547],
    ];

    #[test]
    fn halfway_between_even_classes_is_even() {
        use Class::{Basophil as BA, Neutrophil as NE};
        let x: Vec<Vec<f64>> = [(-1.0, 1.0), (1.0, -1.0), (0.5, 0.5), (-0.5, -0.5)]
            .iter()
            .flat_map(|(a, b)| [vec![*a, *b], vec![a + 4.0, *b]])
            .collect();
        let classes = [NE, BA, NE, BA, NE, BA, NE, BA];
        let p = fitted("lda", &[], &x, &classes).probabilities(&[2.0, 0.0]).unwrap();
        assert!((p[NE.index()] - 0.5).abs() < 1e-9 && (p[BA.index()] - 0.5).abs() < 1e-9, "{p:?}");
    }
}
