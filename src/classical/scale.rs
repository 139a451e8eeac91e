//! Fills missing values and standardises features, with medians, means and deviations of the training cells.

use super::arrays::{Arrays, same_length};

/// A standardisation fitted on the training cells of a fold.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// For each column that is used: its number, the median (for missing values), mean and standard deviation.
    columns: Vec<(usize, f64, f64, f64)>,
}

impl Scale {
    /// Fits on `rows`, one per cell with one value per feature. Constant columns and columns without values are
    /// dropped.
    pub fn fit(rows: &[&[Option<f64>]]) -> Self {
        let width = rows.first().map_or(0, |row| row.len());
        let column = |k: usize| {
            let mut values: Vec<f64> = rows.iter().filter_map(|row| row[k]).collect();
            values.sort_unstable_by(f64::total_cmp);
            let middle = values.len() / 2;
            let median = match values.len() % 2 {
                _ if values.is_empty() => return None,
                0 => (values[middle - 1] + values[middle]) / 2.0,
                _ => values[middle],
            };
            let filled = || rows.iter().map(|row| row[k].unwrap_or(median));
            let mean = filled().sum::<f64>() / rows.len() as f64;
            let deviation = (filled().map(|v| (v - mean).powi(2)).sum::<f64>() / rows.len() as f64).sqrt();
            (deviation > 1e-12 * mean.abs().max(1e-300)).then_some((k, median, mean, deviation))
        };
        Self { columns: (0..width).filter_map(column).collect() }
    }

    /// Standardises the features of a cell: [`Scale::width`] values.
    pub fn apply(&self, row: &[Option<f64>]) -> Vec<f64> {
        let standard =
            |(k, median, mean, deviation): &(usize, f64, f64, f64)| (row[*k].unwrap_or(*median) - mean) / deviation;
        self.columns.iter().map(standard).collect()
    }

    /// What was fitted, as numbers.
    pub fn arrays(&self) -> Arrays {
        let [medians, means, deviations] = self.statistics();
        Arrays::default()
            .numbers("scale.columns", self.columns())
            .list("scale.medians", medians)
            .list("scale.means", means)
            .list("scale.deviations", deviations)
    }

    /// The inverse of [`Scale::arrays`], for rows of `width` features.
    ///
    /// # Errors
    /// What is wrong with the arrays.
    pub fn restore(arrays: &Arrays, width: usize) -> Result<Self, String> {
        let columns = arrays.get_numbers("scale.columns", width)?;
        let [medians, means, deviations] =
            ["scale.medians", "scale.means", "scale.deviations"].map(|name| arrays.get(name));
        let (medians, means, deviations) = (medians?, means?, deviations?);
        for list in [medians, means, deviations] {
            same_length("values of columns", list.len(), columns.len())?;
        }
        let column = |(i, column)| (column, medians[i], means[i], deviations[i]);
        Ok(Self { columns: columns.into_iter().enumerate().map(column).collect() })
    }

    /// The median, mean and deviation of each column that is used.
    pub fn statistics(&self) -> [Vec<f64>; 3] {
        let list = |value: fn(&(usize, f64, f64, f64)) -> f64| self.columns.iter().map(value).collect();
        [list(|column| column.1), list(|column| column.2), list(|column| column.3)]
    }

    /// The columns that are used, in order.
    pub fn columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().map(|column| column.0)
    }

    /// Number of columns that are used.
    pub fn width(&self) -> usize {
        self.columns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Scale;

    #[test]
    fn missing_values_become_medians_and_constant_columns_are_dropped() {
        let rows: [&[Option<f64>]; 4] = [
            &[Some(1.0), Some(7.0), None, Some(0.0)],
            &[Some(3.0), Some(7.0), None, None],
            &[None, Some(7.0), None, Some(4.0)],
            &[Some(11.0), Some(7.0), None, Some(8.0)],
        ];
        let scale = Scale::fit(&rows);
        assert_eq!(scale.width(), 2);
        // Column 0: 1, 3, 3, 11 with mean 4.5 and variance (12.25 + 2.25 + 2.25 + 42.25) / 4.
        let deviation = 14.75f64.sqrt();
        assert_eq!(scale.apply(&[None, None, Some(5.0), Some(4.0)]), [(3.0 - 4.5) / deviation, 0.0]);
        assert_eq!(Scale::restore(&scale.arrays(), 4), Ok(scale.clone()));
        let error = Scale::restore(&scale.arrays(), 3).unwrap_err();
        assert!(error.contains("3 in the array scale.columns, where whole numbers below 3"), "{error}");
    }
}
