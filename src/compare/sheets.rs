//! A comparison as tables, for the screen and for `reports/`.

use super::words::p_value;
use super::{Comparison, OverFolds};
use crate::report::{Sheet, thousands};

impl Comparison {
    /// Scores; images by who was right; tests, with the conclusion and the notes below.
    pub fn sheets(&self) -> Vec<Sheet> {
        let (first, second) = (self.first.run.as_str(), self.second.run.as_str());
        let sheet =
            |label: &str, title: String, columns: Vec<&str>, left: &'static [usize], rows: Vec<Vec<String>>| Sheet {
                table: None,
                label: label.into(),
                title,
                run: None,
                columns: columns.into_iter().map(String::from).collect(),
                left,
                rows,
                notes: Vec::new(),
            };
        let scores = sheet(
            "scores",
            format!(
                "{first} and {second} on {}: {} test images of {} folds",
                self.dataset,
                thousands(self.images),
                self.folds.len()
            ),
            vec!["Score (%)", first, second, "Difference", "95 % interval"],
            &[0],
            self.scores.iter().map(score).collect(),
        );
        let (right, wrong) = (format!("{second} right"), format!("{second} wrong"));
        let o = self.outcomes;
        let row = |name: &str, a: u64, b: u64| vec![format!("{first} {name}"), thousands(a), thousands(b)];
        let images = sheet(
            "images",
            "Images by who classified them right".into(),
            vec!["Images", &right, &wrong],
            &[0],
            vec![row("right", o.both, o.first_only), row("wrong", o.second_only, o.neither)],
        );
        let mut tests = sheet(
            "tests",
            "Tests of the difference".into(),
            vec!["Test", "Of", "n", "Statistic", "p", "Effect size"],
            &[0, 1, 5],
            self.tests(),
        );
        tests.notes = [format!("In words: {}", self.conclusion)].into_iter().chain(self.notes.clone()).collect();
        vec![scores, images, tests]
    }

    fn tests(&self) -> Vec<Vec<String>> {
        let m = &self.mcnemar;
        let odds = match (m.odds_ratio, m.odds_ratio_interval) {
            (Some(ratio), Some(i)) => format!("odds ratio {ratio:.2} ({:.2} to {:.2})", i.low, i.high),
            (None, Some(i)) => format!("odds ratio without limit (from {:.2})", i.low),
            _ => "-".into(),
        };
        let mcnemar = |name: &str, p: f64, effect: &str| {
            let alone = format!("{} : {}", thousands(self.outcomes.first_only), thousands(self.outcomes.second_only));
            [name, "images, accuracy", &thousands(m.discordant), &alone, &p_value(p), effect].map(String::from).to_vec()
        };
        let mut rows = vec![mcnemar("McNemar, mid-p", m.mid_p, &odds), mcnemar("McNemar, exact", m.exact_p, "")];
        rows.extend(self.over_folds.iter().flat_map(folds));
        rows
    }
}

fn score(score: &super::Score) -> Vec<String> {
    let name = match (score.metric, score.class) {
        (_, Some(class)) => format!("Recall, {class}"),
        (metric, None) => metric.title().into(),
    };
    let percent = |v: f64| format!("{:.2}", 100.0 * v);
    // No "-0.00".
    let points = |v: f64| format!("{:+.2}", (1e4 * v).round() / 100.0 + 0.0);
    let interval = score.interval.map_or("-".into(), |i| format!("{} to {}", points(i.low), points(i.high)));
    vec![name, percent(score.first), percent(score.second), points(score.difference), interval]
}

fn folds(of: &OverFolds) -> [Vec<String>; 2] {
    let what = format!("folds, {}", of.metric);
    let [t, p, dz] = match of.corrected_t {
        Some(t) => [format!("t {:.2}", t.t), p_value(t.p), format!("d_z {:.2}", t.cohens_dz)],
        None => ["-", "-", "-"].map(String::from),
    };
    let w = &of.wilcoxon;
    let zeros = if w.zeros > 0 { format!(" ({} equal)", w.zeros) } else { String::new() };
    let or_none = |v: Option<String>| v.unwrap_or_else(|| "-".into());
    [
        vec!["Corrected resampled t".into(), what.clone(), of.differences.len().to_string(), t, p, dz],
        vec![
            "Wilcoxon signed-rank".into(),
            what,
            format!("{}{zeros}", w.n),
            format!("W {}", w.w),
            or_none(w.p.map(p_value)),
            or_none(w.rank_biserial.map(|r| format!("r {r:.2}"))),
        ],
    ]
}
