//! Fitted classifiers as named arrays of numbers, in which they are kept in files.

use std::collections::BTreeMap;

/// Named arrays, each with its shape. Whole numbers are exact below 2^53.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrays(pub BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Arrays {
    /// Adds a list.
    pub fn list(mut self, name: &str, values: Vec<f64>) -> Self {
        self.0.insert(name.into(), (vec![values.len()], values));
        self
    }

    /// Adds a list of whole numbers.
    pub fn numbers(self, name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        self.list(name, values.into_iter().map(|v| v as f64).collect())
    }

    /// Adds rows of equal length.
    pub fn rows<'a>(mut self, name: &str, rows: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let (mut count, mut values) = (0, Vec::new());
        for row in rows {
            values.extend_from_slice(row);
            count += 1;
        }
        let width = values.len() / count.max(1);
        self.0.insert(name.into(), (vec![count, width], values));
        self
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of an array, row by row.
    ///
    /// # Errors
    /// The name of an array that is missing.
    pub fn get(&self, name: &str) -> Result<&[f64], String> {
        self.0.get(name).map(|(_, values)| values.as_slice()).ok_or_else(|| format!("no array {name}"))
    }

    /// A list of whole numbers below `limit`.
    ///
    /// # Errors
    /// What was found instead.
    pub fn get_numbers(&self, name: &str, limit: usize) -> Result<Vec<usize>, String> {
        let number = |v: &f64| match *v {
            v if v >= 0.0 && v.fract() == 0.0 && v < limit as f64 => Ok(v as usize),
            v => Err(format!("{v} in the array {name}, where whole numbers below {limit} are expected")),
        };
        self.get(name)?.iter().map(number).collect()
    }

    /// The rows of an array.
    ///
    /// # Errors
    /// What was found instead.
    pub fn get_rows(&self, name: &str) -> Result<Vec<&[f64]>, String> {
        match self.0.get(name) {
            Some((shape, values)) if matches!(shape[..], [_, width] if width > 0) => {
                Ok(values.chunks_exact(shape[1]).collect())
            }
            Some((shape, _)) => Err(format!("the array {name} of shape {shape:?}, where rows are expected")),
            None => Err(format!("no array {name}")),
        }
    }
}

/// # Errors
/// Both lengths, where they are not equal.
pub(super) fn same_length(what: &str, got: usize, expected: usize) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{got} {what} where {expected} are expected")) }
}
