//! The shares of classes among new cells, from how many of them a model assigned to each class, and from how often it
//! confuses the classes on cells whose class is known.
//!
//! Counting predictions is biased wherever the model makes mistakes: of 100 cells without a single basophil, a model
//! that takes 1 % of the neutrophils for basophils counts some. The shares that make the counts most likely are found
//! by expectation maximisation (Saerens, Latinne & Decaestecker 2002, here on counts: Hopkins & King 2010). Their
//! intervals account for the number of new cells and for the number of known ones.

use super::interval::{Interval, LEVEL};
use rand::Rng;
use rand_distr::{Distribution, Gamma};

/// Fewest known cells of each class for a correction.
pub const MIN_KNOWN: u64 = 5;
/// Draws for the intervals.
const DRAWS: usize = 1000;

/// The share of a class, estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prevalence {
    /// The share, 0 to 1.
    pub share: f64,
    /// Its interval, 0 to 1.
    pub interval: Interval,
}

/// The share of each class among those that are `counted`; 0 for the others. `confusion[i][j]` is how many known cells
/// of class `i` the model assigned to class `j`, and `predicted[j]` how many new cells. `None` where there are no new
/// cells of the classes that are counted, or fewer than [`MIN_KNOWN`] known ones of a class.
pub fn prevalence(
    confusion: &[Vec<u64>],
    predicted: &[u64],
    counted: &[bool],
    rng: &mut impl Rng,
) -> Option<Vec<Prevalence>> {
    let known = confusion.iter().all(|row| row.iter().sum::<u64>() >= MIN_KNOWN);
    let some = predicted.iter().zip(counted).any(|(n, counted)| *counted && *n > 0);
    if !known || !some || confusion.is_empty() {
        return None;
    }
    let shares = |counts: &[f64]| -> Vec<f64> {
        let sum: f64 = counts.iter().sum();
        counts.iter().map(|n| n / sum).collect()
    };
    let among_counted = |all: Vec<f64>| -> Vec<f64> {
        let kept: Vec<f64> =
            all.iter().zip(counted).map(|(share, counted)| if *counted { *share } else { 0.0 }).collect();
        let sum: f64 = kept.iter().sum();
        kept.into_iter().map(|share| if sum > 0.0 { share / sum } else { 0.0 }).collect()
    };
    let float = |counts: &[u64]| counts.iter().map(|n| *n as f64).collect::<Vec<f64>>();
    let rates: Vec<Vec<f64>> = confusion.iter().map(|row| shares(&float(row))).collect();
    let estimate = among_counted(likeliest(&rates, &shares(&float(predicted))));

    // Both are uncertain: draws from their posterior distributions.
    let classes = predicted.len();
    let mut draws: Vec<Vec<f64>> = vec![Vec::with_capacity(DRAWS); classes];
    for _ in 0..DRAWS {
        let rates: Vec<Vec<f64>> = confusion.iter().map(|row| dirichlet(row, 1.0 / classes as f64, rng)).collect();
        let drawn = among_counted(likeliest(&rates, &dirichlet(predicted, PRIOR, rng)));
        draws.iter_mut().zip(drawn).for_each(|(draws, share)| draws.push(share));
    }
    let interval = |(draws, share): (&mut Vec<f64>, f64)| {
        draws.sort_by(f64::total_cmp);
        let tail = ((1.0 - LEVEL) / 2.0 * DRAWS as f64) as usize;
        let (low, high) = (draws[tail], draws[DRAWS - 1 - tail]);
        Prevalence { share, interval: Interval { low: low.min(share), high: high.max(share) } }
    };
    Some(draws.iter_mut().zip(estimate).map(interval).collect())
}

/// What is added to the number of new cells of each class (Jeffreys's prior).
const PRIOR: f64 = 0.5;

/// Shares from counts, drawn from their posterior distribution; `prior` is added to each count.
fn dirichlet(counts: &[u64], prior: f64, rng: &mut impl Rng) -> Vec<f64> {
    let gamma = |n: &u64| Gamma::new(*n as f64 + prior, 1.0).expect("the shape is positive").sample(rng);
    let drawn: Vec<f64> = counts.iter().map(gamma).collect();
    let sum: f64 = drawn.iter().sum();
    drawn.into_iter().map(|v| v / sum).collect()
}

/// The shares of the classes that make these shares of predictions most likely. `rates[i][j]` is how often a cell of
/// class `i` is assigned to class `j`.
fn likeliest(rates: &[Vec<f64>], predicted: &[f64]) -> Vec<f64> {
    const STEPS: usize = 1000;
    const CHANGE: f64 = 1e-6;
    let classes = rates.len();
    let mut shares = vec![1.0 / classes as f64; classes];
    for _ in 0..STEPS {
        let mut next = vec![0f64; classes];
        for (j, observed) in predicted.iter().enumerate() {
            let expected: f64 = shares.iter().zip(rates).map(|(share, rates)| share * rates[j]).sum();
            if *observed > 0.0 && expected > 0.0 {
                next.iter_mut().zip(&shares).zip(rates).for_each(|((n, s), r)| *n += observed * s * r[j] / expected);
            }
        }
        let sum: f64 = next.iter().sum();
        if sum > 0.0 {
            next.iter_mut().for_each(|share| *share /= sum);
        }
        let change = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        shares = next;
        if change < CHANGE {
            break;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use rand::RngExt;

    #[test]
    fn known_confusions_are_taken_back() {
        // 1,000 cells, half of them neutrophils, of which a tenth is taken for another class.
        let confusion = vec![vec![900, 100], vec![0, 1000]];
        let found = prevalence(&confusion, &[450, 550], &[true; 2], &mut seed::rng(0, "test", 0, 0, 0)).unwrap();
        assert!((found[0].share - 0.5).abs() < 1e-4, "{found:?}");
        assert!(found[0].interval.low < 0.48 && found[0].interval.high > 0.52, "{found:?}");
        let rng = &mut seed::rng(0, "test", 0, 0, 0);
        assert_eq!(prevalence(&[vec![4, 0], vec![0, 9]], &[5, 5], &[true; 2], rng), None, "too few known cells");
        assert_eq!(prevalence(&confusion, &[0, 7], &[true, false], rng), None, "no cell that is counted");
        let one = prevalence(&confusion, &[450, 550], &[true, false], rng).unwrap();
        assert_eq!((one[0].share, one[1].share), (1.0, 0.0));
    }

    /// How often the interval holds the true share, over classes and repetitions.
    fn coverage(shares: &[f64], rates: &[Vec<f64>], known: u64, cells: u64) -> f64 {
        const REPEATS: u64 = 150;
        let (mut held, mut all) = (0, 0);
        for repeat in 0..REPEATS {
            let mut rng = seed::rng(1, "coverage", known, cells, repeat);
            let mut draw = |p: &[f64]| {
                let mut at = rng.random_range(0.0..1.0);
                p.iter()
                    .position(|p| {
                        at -= p;
                        at < 0.0
                    })
                    .unwrap_or(p.len() - 1)
            };
            let mut confusion = vec![vec![0; shares.len()]; shares.len()];
            for (row, rates) in confusion.iter_mut().zip(rates) {
                (0..known).for_each(|_| row[draw(rates)] += 1);
            }
            let mut predicted = vec![0; shares.len()];
            for _ in 0..cells {
                let class = draw(shares);
                predicted[draw(&rates[class])] += 1;
            }
            let found = prevalence(&confusion, &predicted, &vec![true; shares.len()], &mut rng).unwrap();
            let holds = |(p, share): (&Prevalence, &f64)| (p.interval.low..=p.interval.high).contains(share);
            held += found.iter().zip(shares).filter(|pair| holds(*pair)).count();
            all += shares.len();
        }
        held as f64 / all as f64
    }

    #[test]
    fn intervals_cover_the_true_shares() {
        let confused = |correct: f64, n: usize| -> Vec<Vec<f64>> {
            let other = (1.0 - correct) / (n - 1) as f64;
            (0..n).map(|i| (0..n).map(|j| if i == j { correct } else { other }).collect()).collect()
        };
        let even = [0.3, 0.25, 0.2, 0.15, 0.1];
        let blood = [0.62, 0.28, 0.06, 0.03, 0.01];
        let mut found = Vec::new();
        for (shares, correct, known, cells) in [
            (&even, 0.98, 300, 100),
            (&even, 0.9, 100, 200),
            (&even, 0.8, 50, 400),
            (&blood, 0.98, 300, 100),
            (&blood, 0.95, 200, 200),
            (&blood, 0.9, 60, 500),
        ] {
            found.push(coverage(shares, &confused(correct, 5), known, cells));
        }
        assert!(found.iter().all(|coverage| (0.93..=0.97).contains(coverage)), "{found:?}");
    }
}
