//! McNemar's test of two classifiers on the same images (McNemar 1947; Dietterich 1998 for its use with classifiers).

use super::interval::{Interval, wilson};
use serde::Serialize;
use statrs::distribution::{Binomial, Discrete, DiscreteCDF};

/// McNemar's test of the discordant images, those that only one of two classifiers classified correctly. Under the null
/// hypothesis either classifier is equally likely to be the correct one: binomial with p = 1/2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct McNemar {
    /// Images that only one classifier classified correctly.
    pub discordant: u64,
    /// p of the exact conditional test, two-sided. It is conservative.
    pub exact_p: f64,
    /// Two-sided mid-p, which is closer to the nominal level (Fagerland, Lydersen & Laake 2013).
    pub mid_p: f64,
    /// Conditional odds ratio: images that only the first classified correctly / those that only the second did.
    /// `None` if there are none of the latter.
    pub odds_ratio: Option<f64>,
    /// Interval of the odds ratio: Wilson's interval of the first classifier's share, as odds (Fagerland, Lydersen &
    /// Laake 2017, chapter 8). `high` is infinite (`null` in JSON) where `odds_ratio` is `None`. `None` if no image is
    /// discordant.
    pub odds_ratio_interval: Option<Interval>,
}

/// Performs McNemar's test.
///
/// `first` and `second` count the images that only the first or only the second classifier classified correctly.
pub fn mcnemar(first: u64, second: u64) -> McNemar {
    let (discordant, fewer) = (first + second, first.min(second));
    let null = Binomial::new(0.5, discordant).expect("a probability of one half");
    let tail = null.cdf(fewer);
    let point = null.pmf(fewer);
    let exact_p = (2.0 * tail).min(1.0);
    let odds = |share: f64| share / (1.0 - share);
    McNemar {
        discordant,
        exact_p,
        mid_p: match first == second {
            true if discordant == 0 => 1.0,
            true => 1.0 - 0.5 * point,
            false => exact_p - point,
        },
        odds_ratio: (second > 0).then(|| first as f64 / second as f64),
        odds_ratio_interval: wilson(first, discordant).map(|i| Interval { low: odds(i.low), high: odds(i.high) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_and_odds_match_scipy_and_statsmodels() {
        // from scipy.stats import binom  # 1.17
        // from statsmodels.stats.contingency_tables import mcnemar  # 0.15
        // from statsmodels.stats.proportion import proportion_confint
        // for b, c in [(8, 2), ...]:
        //     exact = mcnemar([[100, b], [c, 10]], exact=True).pvalue
        //     f = binom.pmf(min(b, c), b + c, 0.5)
        //     low, high = proportion_confint(b, b + c, method="wilson")
        //     print(b, c, exact, 1 - f / 2 if b == c else exact - f, low / (1 - low), high / (1 - high))
        for (first, second, exact, mid, low, high) in [
            (8, 2, 0.109375, 0.0654296875, 0.9614091630602074, 16.6422378886751),
            (2, 8, 0.109375, 0.0654296875, 0.06008807269126292, 1.0401398680421943),
            (5, 5, 1.0, 0.876953125, 0.3099174078361649, 3.226666120441486),
            (80, 41, 0.0004985619576974186, 0.0003713894910971802, 1.3420464468058448, 2.836904485558218),
            (7, 0, 0.015625, 0.0078125, 1.8222244013890394, f64::INFINITY),
            (0, 1, 1.0, 0.5, 0.0, 3.841458820694127),
            (530, 470, 0.06202319509836343, 0.05785052237168691, 0.9960490567971906, 1.276660127542756),
        ] {
            let got = mcnemar(first, second);
            let near = |a: f64, b: f64| a == b || (a - b).abs() < 1e-9 * b.abs().max(1e-3);
            assert!(near(got.exact_p, exact) && near(got.mid_p, mid), "{first}, {second}: {got:?}");
            let interval = got.odds_ratio_interval.unwrap();
            assert!(near(interval.low, low) && near(interval.high, high), "{first}, {second}: {got:?}");
        }
        assert_eq!(mcnemar(8, 2).odds_ratio, Some(4.0));
        assert_eq!(mcnemar(7, 0).odds_ratio, None);
    }

    #[test]
    fn without_discordant_images_p_is_one() {
        let McNemar { exact_p, mid_p, odds_ratio, odds_ratio_interval, .. } = mcnemar(0, 0);
        assert_eq!((exact_p, mid_p, odds_ratio, odds_ratio_interval), (1.0, 1.0, None, None));
    }
}
