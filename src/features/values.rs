//! Measured values by name.

/// Named values in the order in which they are added.
#[derive(Default)]
pub struct Values(Vec<(String, Option<f64>)>);

impl Values {
    /// Adds the value `<part>_<feature>`. Values that are not finite become `None`.
    pub fn put(&mut self, part: &str, feature: &str, value: Option<f64>) {
        self.0.push((format!("{part}_{feature}"), value.filter(|v| v.is_finite())));
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The values, in order.
    pub fn into_values(self) -> Vec<Option<f64>> {
        self.0.into_iter().map(|(_, value)| value).collect()
    }
}
