//! Linear discriminant analysis: all classes are normally distributed with the same covariance. The probabilities are
//! the posteriors, with the class frequencies of the training cells as priors.
//!
//! The covariance is shrunk towards a multiple of the identity by Ledoit and Wolf's formula (J. Multivariate Analysis
//! 88:365-411, 2004). With a hundred features and a few hundred cells it could not be inverted otherwise.

use super::arrays::{Arrays, same_length};
use super::entry::{Choice, Classifier, Entry, Probabilities, Samples, Weighting, failed, softmax};
use crate::error::Result;
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::cholesky::CholeskyDecomposable;

pub const ENTRY: Entry = Entry {
    name: "lda",
    title: "linear discriminant analysis",
    parameters: &[],
    class_weights: Weighting::Priors,
    fit,
    restore,
};

/// The linear discriminants.
struct Discriminants {
    /// For each class that occurs: the class, a constant, and one weight per feature.
    of_class: Vec<(usize, f64, Vec<f64>)>,
    /// Number of classes.
    count: usize,
}

fn fit(_: &Choice, samples: &Samples) -> Result<Box<dyn Classifier>> {
    let failed = failed(ENTRY.title);
    let (n, width) = (samples.x.len() as f64, samples.x[0].len());
    let classes = samples.present();
    let rows = |class: usize| samples.x.iter().zip(samples.classes).filter(move |(_, c)| **c == class).map(|(x, _)| *x);
    let mean = |class: usize| -> Vec<f64> {
        let count = rows(class).count() as f64;
        (0..width).map(|k| rows(class).map(|x| x[k]).sum::<f64>() / count).collect()
    };
    let means: Vec<Vec<f64>> = classes.iter().map(|class| mean(*class)).collect();
    let centred: Vec<Vec<f64>> = classes
        .iter()
        .zip(&means)
        .flat_map(|(class, mean)| rows(*class).map(move |x| x.iter().zip(mean).map(|(v, m)| v - m).collect()))
        .collect();
    let covariance = shrunk(&centred, width);
    let right_hand_side: Vec<Vec<f64>> = (0..width).map(|k| means.iter().map(|mean| mean[k]).collect()).collect();
    let right_hand_side = DenseMatrix::from_2d_vec(&right_hand_side).map_err(&failed)?;
    let weights = DenseMatrix::from_2d_vec(&covariance)
        .and_then(|covariance| covariance.cholesky_solve_mut(right_hand_side))
        .map_err(&failed)?;
    let discriminant = |(at, class): (usize, &usize)| {
        let weights: Vec<f64> = (0..width).map(|k| *weights.get((k, at))).collect();
        let half: f64 = weights.iter().zip(&means[at]).map(|(w, m)| w * m).sum::<f64>() / 2.0;
        let prior = (rows(*class).count() as f64 / n).ln();
        (*class, prior - half, weights)
    };
    let of_class = classes.iter().enumerate().map(discriminant).collect();
    Ok(Box::new(Discriminants { of_class, count: samples.count }))
}

/// The shrunk covariance of centred rows: (1 - s) S + s m I, where m is the mean of S's diagonal and s is Ledoit and
/// Wolf's shrinkage.
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
    let mean_variance = (0..width).map(|k| covariance[k][k]).sum::<f64>() / width as f64;
    let squares: f64 = covariance.iter().flatten().map(|v| v * v).sum();
    // Squared distances of S from m I, and of the rows' contributions from S (divided by n).
    let distance = squares - width as f64 * mean_variance * mean_variance;
    let fourth: f64 = centred.iter().map(|row| row.iter().map(|v| v * v).sum::<f64>().powi(2)).sum::<f64>() / n;
    let noise = ((fourth - squares) / n).min(distance);
    let shrinkage = if distance > 0.0 { (noise / distance).clamp(0.0, 1.0) } else { 1.0 };
    for (i, row) in covariance.iter_mut().enumerate() {
        row.iter_mut().for_each(|v| *v *= 1.0 - shrinkage);
        // A small constant keeps the matrix invertible if all cells of each class are identical.
        row[i] += (shrinkage * mean_variance).max(1e-9);
    }
    covariance
}

fn restore(arrays: &Arrays, count: usize) -> std::result::Result<Box<dyn Classifier>, String> {
    let classes = arrays.get_numbers("classes", count)?;
    let (constants, weights) = (arrays.get("constants")?, arrays.get_rows("weights")?);
    same_length("constants", constants.len(), classes.len())?;
    same_length("weights", weights.len(), classes.len())?;
    let discriminant = |(i, class): (usize, usize)| (class, constants[i], weights[i].to_vec());
    Ok(Box::new(Discriminants { of_class: classes.into_iter().enumerate().map(discriminant).collect(), count }))
}

impl Classifier for Discriminants {
    fn probabilities(&self, x: &[f64]) -> Result<Probabilities> {
        let mut logarithms = vec![f64::NEG_INFINITY; self.count];
        for (class, constant, weights) in &self.of_class {
            logarithms[*class] = constant + x.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>();
        }
        Ok(softmax(&logarithms))
    }

    fn arrays(&self) -> Arrays {
        Arrays::default()
            .numbers("classes", self.of_class.iter().map(|(class, _, _)| *class))
            .list("constants", self.of_class.iter().map(|(_, constant, _)| *constant).collect())
            .rows("weights", self.of_class.iter().map(|(_, _, weights)| weights.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::fitted;
    use super::*;

    /// scikit-learn 1.9.1: `sklearn.covariance.ledoit_wolf(X, assume_centered=True)` of these rows.
    #[test]
    fn shrunk_covariance_matches_scikit_learn() {
        let rows = [[1.0, 2.0, 0.5], [-1.5, -1.0, 0.25], [0.5, -2.0, -1.0], [0.0, 1.0, 0.25]].map(Vec::from);
        for (got, wanted) in shrunk(&rows, 3).iter().flatten().zip(LEDOIT_WOLF.iter().flatten()) {
            assert!((got - wanted).abs() < 1e-9, "{got} and {wanted}");
        }
    }

    const LEDOIT_WOLF: [[f64; 3]; 3] = [
        [1.0337914638831966, 0.35278606191452, -0.052917909287177996],
        [0.35278606191452, 1.9510352248609486, 0.42334327429742397],
        [-0.052917909287177996, 0.42334327429742397, 0.7339233112558547],
    ];

    #[test]
    fn classes_are_equally_probable_halfway_between_them() {
        const BA: usize = 2;
        const NE: usize = 0;
        let x: Vec<Vec<f64>> = [(-1.0, 1.0), (1.0, -1.0), (0.5, 0.5), (-0.5, -0.5)]
            .iter()
            .flat_map(|(a, b)| [vec![*a, *b], vec![a + 4.0, *b]])
            .collect();
        let classes = [NE, BA, NE, BA, NE, BA, NE, BA];
        let p = fitted(&ENTRY, &[], &x, &classes).probabilities(&[2.0, 0.0]).unwrap();
        assert!((p[NE] - 0.5).abs() < 1e-9 && (p[BA] - 0.5).abs() < 1e-9, "{p:?}");
    }
}
