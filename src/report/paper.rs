//! What Jung et al. 2019 (W-Net) printed, to set beside our figures. Classes in the order of [`crate::class::Class`].

/// Table 2: images a class of CUK.
pub const CUK_IMAGES: [u64; 5] = [2006, 1310, 377, 1676, 1193];

/// Folds of the paper's cross-validation.
pub const FOLDS: usize = 10;

/// Table 3: W-Net on CUK, percent, a row a class, a column a fold.
pub const WNET_CUK: [[u32; FOLDS]; 5] = [
    [100, 98, 96, 97, 100, 100, 100, 95, 100, 98],
    [95, 99, 93, 99, 100, 98, 98, 98, 93, 100],
    [92, 94, 100, 100, 97, 94, 94, 94, 94, 91],
    [99, 100, 95, 95, 98, 97, 97, 98, 97, 95],
    [96, 100, 98, 96, 97, 98, 91, 96, 99, 97],
];
/// Table 3: last row, "Aver. Accuracy" a fold.
pub const WNET_CUK_FOLDS: [u32; FOLDS] = [96, 98, 96, 97, 98, 97, 96, 96, 97, 96];
/// Table 3: last column, "Aver. Accuracy" a class.
pub const WNET_CUK_CLASSES: [u32; 5] = [98, 97, 95, 97, 97];
/// Table 3: bottom right.
pub const WNET_CUK_ALL: u32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper rounds or cuts; no printed mean may be more than one from its row's or column's.
    #[test]
    fn the_papers_means_are_those_of_its_cells() {
        let near = |mean: f64, printed: u32| assert!((mean - f64::from(printed)).abs() <= 1.0, "{mean} and {printed}");
        for (row, printed) in WNET_CUK.iter().zip(WNET_CUK_CLASSES) {
            near(row.iter().sum::<u32>() as f64 / FOLDS as f64, printed);
        }
        for fold in 0..FOLDS {
            near(WNET_CUK.iter().map(|row| row[fold]).sum::<u32>() as f64 / 5.0, WNET_CUK_FOLDS[fold]);
        }
        near(WNET_CUK_CLASSES.iter().sum::<u32>() as f64 / 5.0, WNET_CUK_ALL);
        assert_eq!(CUK_IMAGES.iter().sum::<u64>(), 6562);
    }
}
