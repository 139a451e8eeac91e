//! The bootstrap over clusters: images of one patient are alike, so that patients are resampled, each with all images
//! (Field & Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69:369-390).
//!
//! Percentiles of few units give intervals that are too narrow. They are moved outwards as a t interval is wider than
//! a normal one (the expanded percentile interval: Hesterberg 2015, "What teachers should know about the bootstrap",
//! Am. Stat. 69:371-386). With fewer than about ten patients no interval is reliable, and with fewer than
//! [`MIN_CLUSTERS`] there is none.

use super::bootstrap::{RESAMPLES, quantile};
use super::interval::{Interval, LEVEL};
use crate::seed;
use rand::Rng;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// With fewer clusters, there is no interval.
pub const MIN_CLUSTERS: usize = 5;

/// Intervals of the values of `statistic`, which always has as many.
///
/// `clusters` has the counts of each cluster, all of one length; `statistic` computes its values from their sum over
/// the clusters of a resample. A value that is not defined in a resample is left out of its interval; if it is not
/// defined in half of them, or with fewer than [`MIN_CLUSTERS`], the interval is `None`. The same seed gives the same
/// intervals on any number of threads.
pub fn cluster_bootstrap(
    clusters: &[Vec<u64>],
    seed: u64,
    statistic: impl Fn(&[u64]) -> Vec<Option<f64>> + Sync,
) -> Vec<Option<Interval>> {
    let n = clusters.len();
    let width = clusters.first().map_or(0, Vec::len);
    let sum = |chosen: &mut dyn Iterator<Item = usize>| {
        let mut sum = vec![0; width];
        chosen.for_each(|i| sum.iter_mut().zip(&clusters[i]).for_each(|(sum, count)| *sum += count));
        sum
    };
    let values = statistic(&sum(&mut (0..n))).len();
    let tail = Normal::standard();
    let tail = match StudentsT::new(0.0, 1.0, n.saturating_sub(1) as f64) {
        Ok(t) if n >= MIN_CLUSTERS => {
            tail.cdf((n as f64 / (n as f64 - 1.0)).sqrt() * t.inverse_cdf((1.0 - LEVEL) / 2.0))
        }
        _ => return vec![None; values],
    };
    let resamples: Vec<Vec<Option<f64>>> = (0..RESAMPLES as u64)
        .into_par_iter()
        .map(|item| {
            let mut rng = seed::rng(seed, "clusters", 0, 0, item);
            let mut chosen = (0..n).map(|_| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize);
            statistic(&sum(&mut chosen))
        })
        .collect();
    let interval = |m: usize| {
        let mut values: Vec<f64> = resamples.iter().filter_map(|r| r[m]).collect();
        values.sort_by(f64::total_cmp);
        let enough = 2 * values.len() >= RESAMPLES;
        let ends = || Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? });
        ends().filter(|_| enough)
    };
    (0..values).map(interval).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::bootstrap;

    /// Simulated patients with `images` images each. A patient's accuracy is 0.6 to 1, 0.8 on average.
    fn patients(n: usize, images: u64, rng: &mut seed::Pcg64) -> Vec<Vec<u64>> {
        let mut unit = || rng.next_u64() as f64 / u64::MAX as f64;
        let patient = |unit: &mut dyn FnMut() -> f64| {
            let accuracy = 0.6 + 0.4 * unit();
            let correct = (0..images).filter(|_| unit() < accuracy).count() as u64;
            vec![correct, images - correct]
        };
        (0..n).map(|_| patient(&mut unit)).collect()
    }

    fn accuracy(counts: &[u64]) -> Vec<Option<f64>> {
        vec![Some(counts[0] as f64 / (counts[0] + counts[1]) as f64)]
    }

    #[test]
    fn intervals_over_patients_cover_where_those_over_images_do_not() {
        const TRIALS: u64 = 200;
        for n in [8, 25] {
            let (mut by_patient, mut by_image) = (0, 0);
            for trial in 0..TRIALS {
                let sample = patients(n, 60, &mut seed::rng(trial, "test", n as u64, 0, 0));
                let covers = |interval: &Interval| interval.low <= 0.8 && 0.8 <= interval.high;
                by_patient += u64::from(cluster_bootstrap(&sample, trial, accuracy)[0].is_some_and(|i| covers(&i)));
                let all = sample.iter().fold([0; 2], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
                let over_images = bootstrap(&[all], trial, |strata: &[[u64; 2]]| accuracy(&strata[0]));
                by_image += u64::from(over_images[0].is_some_and(|i| covers(&i)));
            }
            let share = |n: u64| n as f64 / TRIALS as f64;
            // 95 % within three standard errors of 200 trials, and no wider than 99.5 %.
            assert!((0.90..0.995).contains(&share(by_patient)), "{n} patients: {}", share(by_patient));
            assert!(share(by_image) < 0.75, "{n} patients: {}", share(by_image));
        }
    }

    #[test]
    fn one_image_per_cluster_is_the_bootstrap_over_images() {
        let clusters: Vec<Vec<u64>> = (0..200).map(|i| if i < 150 { vec![1, 0] } else { vec![0, 1] }).collect();
        let by_cluster = cluster_bootstrap(&clusters, 3, accuracy)[0].unwrap();
        let by_image = bootstrap(&[[150u64, 50]], 3, |strata: &[[u64; 2]]| accuracy(&strata[0]))[0].unwrap();
        assert!((by_cluster.low - by_image.low).abs() < 0.01 && (by_cluster.high - by_image.high).abs() < 0.01);
    }

    #[test]
    fn what_is_rarely_defined_has_no_interval() {
        let clusters = [vec![5, 1, 3], vec![5, 1, 0], vec![4, 2, 0], vec![6, 0, 0], vec![3, 3, 0]];
        // The third count is 0 in the third of the resamples that lack its cluster.
        let statistic = |c: &[u64]| vec![Some(c[0] as f64), (c[2] > 6).then_some(1.0), (c[2] > 0).then_some(2.0)];
        let intervals = cluster_bootstrap(&clusters, 1, statistic);
        assert!(intervals[0].is_some() && intervals[1].is_none() && intervals[2].is_some(), "{intervals:?}");
        assert_eq!(cluster_bootstrap(&clusters[..4], 1, statistic), [None; 3]);
    }
}
