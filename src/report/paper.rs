//! The figures that Jung et al. 2019 (W-Net) printed. Classes are in the order of [`crate::class::Class`].

/// Table 1 as printed: study, data set, images, classes, methods, accuracy. The last two rows are the paper's own.
pub(super) const STUDIES: [[&str; 6]; 16] = [
    ["Wang et al. 2016", "Private", "", "5", "Morphology, spectral analysis, SVM", "90.00%"],
    ["Dorini et al. 2012", "CellAtlas", "100", "5", "Morphological Transform., KNN", "78.51%"],
    ["Hegde et al. 2018", "Private", "117", "5", "Arithmetical operations, ANN", "96.50%"],
    ["Ghosh et al. 2016", "Private", "150", "5", "Segmentation, morphology, TFC", "-"],
    ["Rawat et al. 2018", "Private (Mohamed 2019)", "160", "4", "Ensemble ANN", "95.00%"],
    ["Mathur et al. 2013", "Private", "237", "5", "NB", "92.72%"],
    ["Nazlibilek et al. 2014", "Kanbilim (Kanbilim 2019)", "240", "5", "Thresholding, ANN, PCA", "95.00%"],
    ["Putzu et al. 2014", "ALL-IDB", "260", "2", "SVM", "92.00%"],
    ["Abdeldaim et al. 2018", "ALL-IDB2", "260", "2", "Thresholding, KNN, SVM, NB, DT", "91.67%"],
    ["Ghosh et al. 2017", "ALL-IDB", "260", "2", "CNN", "97.22%"],
    ["Ramesh et al. 2012", "Private", "320", "5", "LDA", "93.90%"],
    ["Habibzadeh et al. 2018", "Personal (dhruvp 2019)", "352", "4", "CNN", "93.17%"],
    ["Liang et al. 2018", "BCCD (Shenggan 2019)", "364", "4", "RNN (LSTM), CNN", "90.79%"],
    ["Su et al. 2014", "(CellaVision 2019)", "450", "5", "Morphology, NN, SVM, MLP", "95.18%"],
    ["W-Net (the paper)", "Private", "6,562", "5", "CNN", "97.00%"],
    ["W-Net (the paper)", "LISC public data", "254", "5", "CNN, further training", "96.00%"],
];

/// Table 2: images per class of CUK.
pub(super) const CUK_IMAGES: [u64; 5] = [2006, 1310, 377, 1676, 1193];
/// Table 2: their percentages as printed (2,006 of 6,562 are 30.6 %).
pub(super) const CUK_SHARES: [u64; 5] = [30, 20, 6, 26, 18];

/// Folds of the paper's cross-validation.
pub(super) const FOLDS: usize = 10;

/// One of Tables 3 to 6, percent, as printed: one row per class, then "Aver. Accuracy" of each fold; one column per
/// fold, then "Aver. Accuracy" of each class.
pub(super) struct CrossValidation(pub [[u32; FOLDS + 1]; 6]);

/// Table 3: W-Net on CUK.
pub(super) const WNET_CUK: CrossValidation = CrossValidation([
    [100, 98, 96, 97, 100, 100, 100, 95, 100, 98, 98],
    [95, 99, 93, 99, 100, 98, 98, 98, 93, 100, 97],
    [92, 94, 100, 100, 97, 94, 94, 94, 94, 91, 95],
    [99, 100, 95, 95, 98, 97, 97, 98, 97, 95, 97],
    [96, 100, 98, 96, 97, 98, 91, 96, 99, 97, 97],
    [96, 98, 96, 97, 98, 97, 96, 96, 97, 96, 97],
]);

/// Table 4: ResNet50 on CUK.
pub(super) const RESNET50_CUK: CrossValidation = CrossValidation([
    [100, 0, 100, 99, 0, 0, 0, 100, 100, 0, 50],
    [0, 16, 90, 95, 1, 23, 98, 1, 95, 87, 51],
    [0, 26, 94, 100, 78, 5, 86, 10, 100, 56, 56],
    [49, 94, 5, 81, 67, 100, 0, 54, 33, 0, 48],
    [1, 50, 100, 100, 1, 24, 100, 1, 23, 100, 50],
    [30, 37, 78, 95, 29, 30, 57, 33, 70, 49, 51],
]);

/// Table 5: W-Net on LISC, from scratch.
pub(super) const WNET_LISC: CrossValidation = CrossValidation([
    [33, 83, 100, 100, 83, 83, 100, 80, 80, 100, 84],
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100],
    [50, 83, 100, 100, 100, 100, 100, 100, 80, 80, 89],
    [100, 100, 100, 100, 83, 100, 100, 80, 100, 100, 96],
    [60, 100, 20, 80, 100, 100, 100, 100, 100, 100, 86],
    [69, 93, 84, 96, 93, 97, 100, 92, 92, 96, 91],
]);

/// Table 6: W-Net trained on CUK, then on LISC.
pub(super) const WNET_CUK_LISC: CrossValidation = CrossValidation([
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100],
    [100, 100, 100, 100, 100, 100, 100, 75, 100, 100, 98],
    [100, 100, 100, 100, 100, 100, 100, 100, 80, 80, 96],
    [100, 100, 100, 100, 100, 83, 100, 100, 100, 100, 98],
    [80, 100, 20, 100, 80, 100, 100, 100, 100, 100, 88],
    [96, 100, 84, 100, 96, 97, 100, 95, 96, 96, 96],
]);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every printed mean is the rounded mean of the printed cells, by row and by column: a mistyped figure would fail.
    #[test]
    fn printed_means_are_those_of_the_printed_cells() {
        for (table, CrossValidation(rows)) in [(3, WNET_CUK), (4, RESNET50_CUK), (5, WNET_LISC), (6, WNET_CUK_LISC)] {
            let check = |cells: &[u32], printed: u32, name: &str| {
                let mean = f64::from(cells.iter().sum::<u32>()) / cells.len() as f64;
                assert!((mean - f64::from(printed)).abs() <= 0.5, "Table {table}, {name}: {mean} and {printed}");
            };
            for (class, row) in rows.iter().enumerate() {
                check(&row[..FOLDS], row[FOLDS], &format!("row {class}"));
            }
            for (fold, printed) in rows[5].iter().enumerate() {
                let cells = [0, 1, 2, 3, 4].map(|class| rows[class][fold]);
                check(&cells, *printed, &format!("column {fold}"));
            }
        }
    }

    #[test]
    fn table_1_ends_with_the_means_of_tables_3_and_6() {
        assert_eq!(CUK_IMAGES.iter().sum::<u64>(), 6562);
        let [.., cuk, lisc] = STUDIES;
        assert_eq!((cuk[2], cuk[5]), ("6,562", format!("{}.00%", WNET_CUK.0[5][FOLDS]).as_str()));
        assert_eq!((lisc[2], lisc[5]), ("254", format!("{}.00%", WNET_CUK_LISC.0[5][FOLDS]).as_str()));
        let printed = STUDIES.map(|s| s[5].trim_end_matches('%').parse().unwrap_or(90.0));
        let others = printed[..14].iter().copied();
        assert_eq!(others.clone().fold(f64::MAX, f64::min), 78.51);
        assert_eq!(others.fold(0.0, f64::max), 97.22);
    }
}
