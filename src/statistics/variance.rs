//! How much of the variance of measurements lies between groups.

/// The share of the variance of `groups` that lies between their means, 0 to 1, over all `N` measurements: epsilon
/// squared (Kelley, PNAS 21:554-559, 1935), which is 0 where means differ no more than by chance. `None` with fewer
/// than two groups, or where all values are equal.
pub fn epsilon_squared<const N: usize>(groups: &[Vec<[f64; N]>]) -> Option<f64> {
    let mean = |values: &[[f64; N]], k: usize| values.iter().map(|v| v[k]).sum::<f64>() / values.len() as f64;
    let squares = |values: &[[f64; N]]| -> f64 {
        (0..N)
            .map(|k| (mean(values, k), k))
            .map(|(mean, k)| values.iter().map(|v| (v[k] - mean).powi(2)).sum::<f64>())
            .sum()
    };
    let all = groups.concat();
    let present = groups.iter().filter(|group| !group.is_empty()).count();
    let total = squares(&all);
    if present < 2 || all.len() <= present || total <= 0.0 {
        return None;
    }
    let within: f64 = groups.iter().map(|group| squares(group)).sum();
    let degrees_of_freedom = (all.len() - 1) as f64 / (all.len() - present) as f64;
    Some((1.0 - within / total * degrees_of_freedom).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_between_groups_is_epsilon_squared() {
        let grey = |values: &[f64]| values.iter().map(|v| [*v; 3]).collect::<Vec<_>>();
        // Means 10 and 20, each value off by 1: mean squares 26 in total and 1 within; 3 and 2 degrees of freedom.
        let apart = epsilon_squared(&[grey(&[9.0, 11.0]), grey(&[19.0, 21.0])]).unwrap();
        assert!((apart - (1.0 - 1.5 / 26.0)).abs() < 1e-12);
        let alike = [grey(&[9.0, 11.0]), Vec::new(), grey(&[9.5, 11.0])];
        assert_eq!(epsilon_squared(&alike), Some(0.0), "no more than chance");
        assert_eq!(epsilon_squared(&[grey(&[9.0, 11.0])]), None, "one group");
        assert_eq!(epsilon_squared(&[grey(&[5.0, 5.0]), grey(&[5.0])]), None, "one value");
        assert_eq!(epsilon_squared::<1>(&[]), None);
    }
}
