//! A comparison as tables.

use super::comparison::{Comparison, OverFolds, Score};
use super::text::p_value;
use crate::report::{Sheet, thousands};

impl Comparison {
    /// Three tables: scores, images by which run is correct, and tests with the conclusion and the notes.
    pub fn sheets(&self) -> Vec<Sheet> {
        let (first, second) = (self.first.run.as_str(), self.second.run.as_str());
        let scores = Sheet::plain(
            "scores",
            &format!(
                "{first} and {second} on {}: {} test images of {} folds",
                self.dataset,
                thousands(self.images),
                self.folds.len()
            ),
            ["Score (%)", first, second, "Difference", "95 % interval"].map(String::from),
            self.scores.iter().map(score),
        );

        let o = self.outcomes;
        let row = |name: &str, a: u64, b: u64| vec![format!("{first} {name}"), thousands(a), thousands(b)];
        let images = Sheet::plain(
            "images",
            "Images by which run is correct",
            ["Images".into(), format!("{second} correct"), format!("{second} wrong")],
            [row("correct", o.both, o.first_only), row("wrong", o.second_only, o.neither)],
        );
        let columns = ["Test", "Compares", "n", "Statistic", "p", "Effect size"].map(String::from);
        let mut tests = Sheet::plain("tests", "Tests of the difference", columns, self.tests());
        tests.left = &[0, 1, 5];
        let conclusion = format!("Conclusion: {}", self.conclusion);
        tests.summary = std::iter::once(conclusion).chain(self.summary.clone()).collect();
        tests.notes = self.notes.clone();
        vec![scores, images, tests]
    }

    fn tests(&self) -> Vec<Vec<String>> {
        let m = &self.mcnemar;
        let odds = match (m.odds_ratio, m.odds_ratio_interval) {
            (Some(ratio), Some(i)) => format!("odds ratio {ratio:.2} ({:.2} to {:.2})", i.low, i.high),
            (None, Some(i)) => format!("odds ratio infinite (at least {:.2})", i.low),
            _ => "-".into(),
        };
        let mcnemar = |name: &str, p: f64, effect: &str| {
            let counts = format!("{} : {}", thousands(self.outcomes.first_only), thousands(self.outcomes.second_only));
            [name, "images, accuracy", &thousands(m.discordant), &counts, &p_value(p), effect]
                .map(String::from)
                .to_vec()
        };
        let mut rows = vec![mcnemar("McNemar, mid-p", m.mid_p, &odds), mcnemar("McNemar, exact", m.exact_p, "")];
        rows.extend(self.over_folds.iter().flat_map(folds));
        rows
    }
}

fn score(score: &Score) -> Vec<String> {
    let name = match (score.metric, score.class) {
        (_, Some(class)) => format!("Recall, {class}"),
        (metric, None) => metric.title().into(),
    };
    let percent = |v: f64| format!("{:.2}", 100.0 * v);
    // Adding 0 turns "-0.00" into "+0.00".
    let points = |v: f64| format!("{:+.2}", (1e4 * v).round() / 100.0 + 0.0);
    let interval = score.interval.map_or("-".into(), |i| format!("{} to {}", points(i.low), points(i.high)));
    vec![name, percent(score.first), percent(score.second), points(score.difference), interval]
}

fn folds(folds: &OverFolds) -> [Vec<String>; 2] {
    let compares = format!("folds, {}", folds.metric);
    let [t, p, dz] = match folds.corrected_t {
        Some(t) => [format!("t {:.2}", t.t), p_value(t.p), format!("d_z {:.2}", t.cohens_dz)],
        None => ["-", "-", "-"].map(String::from),
    };
    let w = &folds.wilcoxon;
    let zeros = if w.zeros > 0 { format!(" ({} equal)", w.zeros) } else { String::new() };
    let or_none = |v: Option<String>| v.unwrap_or_else(|| "-".into());
    [
        vec!["Corrected resampled t".into(), compares.clone(), folds.differences.len().to_string(), t, p, dz],
        vec![
            "Wilcoxon signed-rank".into(),
            compares,
            format!("{}{zeros}", w.n),
            format!("W {}", w.w),
            or_none(w.p.map(p_value)),
            or_none(w.rank_biserial.map(|r| format!("r {r:.2}"))),
        ],
    ]
}
