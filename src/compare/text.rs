//! The conclusion of a comparison, and the notes below its tables.

use super::comparison::{Comparison, Side};
use crate::report::{notes, thousands};
use crate::run::Record;
use crate::scores::Metric;
use crate::statistics::{Interval, RESAMPLES};
use crate::workspace::Workspace;

/// Significance level, by convention.
const ALPHA: f64 = 0.05;

/// "0.027", or "< 0.0001".
pub(super) fn p_value(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.001 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

/// "p = 0.027", or "p < 0.0001".
fn p_equals(p: f64) -> String {
    let p = p_value(p);
    if p.starts_with('<') { format!("p {p}") } else { format!("p = {p}") }
}

fn excludes_0(interval: Interval) -> bool {
    interval.low > 0.0 || interval.high < 0.0
}

fn points(interval: Interval) -> String {
    format!("95 % interval {:+.2} to {:+.2} points", 100.0 * interval.low, 100.0 * interval.high)
}

/// A few sentences. `only_seed` says that the runs differ only in the seed.
pub(super) fn conclusion(c: &Comparison, only_seed: bool) -> String {
    let (first, second) = (c.outcomes.first_only, c.outcomes.second_only);
    if first + second == 0 {
        return format!(
            "Both runs are correct on the same {} of {} images: no difference.",
            thousands(c.outcomes.both),
            thousands(c.images)
        );
    }
    let (better, worse) = if first >= second { (&c.first.run, &c.second.run) } else { (&c.second.run, &c.first.run) };
    let images = |n: u64| format!("{} image{}", thousands(n), if n == 1 { "" } else { "s" });
    let counts = match first == second {
        true => format!("Each run alone is correct on {}.", images(first)),
        false => format!(
            "{better} alone is correct on {}, {worse} alone on {}.",
            images(first.max(second)),
            thousands(first.min(second))
        ),
    };
    let score = |metric: Metric| c.scores.iter().find(|s| s.metric == metric);
    let interval = |metric: Metric| score(metric).and_then(|score| score.interval);
    // Accuracy over folds, as McNemar's test is of accuracy over images.
    let t = c.over_folds.iter().find(|o| o.metric == Metric::Accuracy).and_then(|o| o.corrected_t);
    let over_images = format!("McNemar's mid-{}", p_equals(c.mcnemar.mid_p));
    let over_folds = t.map_or(String::new(), |t| format!("corrected resampled t, {}", p_equals(t.p)));
    let significant_over_folds = t.map(|t| t.p < ALPHA && (t.t > 0.0) == (first > second));
    let verdict = match (c.mcnemar.mid_p < ALPHA, significant_over_folds) {
        (true, Some(true)) => format!(
            "The difference in accuracy is significant over images ({over_images}) and over folds ({over_folds})."
        ),
        (true, Some(false)) => format!(
            "The difference in accuracy is significant over images ({over_images}) but not over folds ({over_folds}): \
             the trained models differ, but training on other images may reverse the result."
        ),
        (true, None) => format!(
            "The difference in accuracy is significant over images ({over_images}) and cannot be tested over folds: \
             the trained models differ, but training on other images may reverse the result."
        ),
        (false, Some(true)) => format!(
            "The difference in accuracy is significant over folds ({over_folds}) but not over images ({over_images}): \
             inconclusive."
        ),
        (false, _) => {
            let range = interval(Metric::Accuracy).map_or(String::new(), |i| format!(" ({})", points(i)));
            let tests = if t.is_some() { format!("{over_images}; {over_folds}") } else { over_images };
            match interval(Metric::Accuracy) {
                Some(i) if excludes_0(i) => format!(
                    "The methods disagree on the difference in accuracy: the interval{range} excludes 0, and the tests \
                     find no significant difference ({tests}): inconclusive."
                ),
                _ => format!("No significant difference in accuracy{range}: {tests}."),
            }
        }
    };
    let mut sentences = vec![counts, verdict];
    if let Some(i) = interval(Metric::Accuracy).filter(|i| c.mcnemar.mid_p < ALPHA && !excludes_0(*i)) {
        sentences.push(format!("The methods disagree: the interval of the difference ({}) includes 0.", points(i)));
    }
    if let Some(i) = interval(Metric::BalancedAccuracy).filter(|i| c.mcnemar.mid_p >= ALPHA && excludes_0(*i)) {
        sentences.push(format!(
            "The interval of the difference in balanced accuracy ({}) excludes 0: the runs may differ in classes with \
             few images.",
            points(i)
        ));
    }
    if let (Some(balanced), Some(accuracy)) = (score(Metric::BalancedAccuracy), score(Metric::Accuracy))
        && balanced.difference * accuracy.difference < 0.0
    {
        sentences.push(format!(
            "Balanced accuracy differs the other way ({:+.2} points): the result depends on the class.",
            100.0 * balanced.difference
        ));
    }
    if only_seed {
        sentences.push("The runs differ only in the seed: this is the effect of a seed, not a better model.".into());
    }
    sentences.join(" ")
}

/// What a reader must know before quoting the figures.
pub(super) fn summary(c: &Comparison, ws: &Workspace) -> Vec<String> {
    let mut notes = Vec::new();
    for run in [&c.first.run, &c.second.run] {
        let left_out = c.left_out.iter().filter(|left_out| left_out.missing_in == *run);
        let folds: Vec<String> = left_out.map(|left_out| left_out.fold.to_string()).collect();
        if !folds.is_empty() {
            notes.push(format!("INCOMPLETE: fold {} left out, not finished in {run}", folds.join(", ")));
        }
    }
    notes.extend(notes::synthetic(ws, &c.dataset));
    notes
}

/// Methods and limitations. `records` are those of the two runs.
pub(super) fn notes(c: &Comparison, records: [&Record; 2]) -> Vec<String> {
    let side = |s: &Side| {
        let input = s.size_px.map_or("measured features".into(), |size| format!("images of {size} px"));
        format!("{}: {}, recipe {}, seed {}, {input}", s.run, s.model, s.pipeline, s.seed)
    };
    let mut notes = vec![
        format!("{}; {}", side(&c.first), side(&c.second)),
        format!("Differences are {} minus {}, in points; scores are means over folds", c.first.run, c.second.run),
        format!(
            "95 % intervals of differences: percentile bootstrap, {} resamples of image pairs within fold and class \
             (Efron & Tibshirani 1993), not corrected for multiple comparisons; none where both runs are correct on \
             the same images",
            thousands(RESAMPLES as u64)
        ),
        "McNemar's test: two-sided, on the images that only one run predicts correctly; mid-p (Fagerland et al. 2013) \
         and exact binomial; the statistic is the number of these images for each run; the odds ratio has Wilson's \
         interval converted to odds (Fagerland et al. 2017, chapter 8)"
            .into(),
        "Corrected resampled t test (Nadeau & Bengio 2003): two-sided, variance times 1/k + 1/(folds - 1), as folds \
         share training images; d_z is the mean divided by the standard deviation of the folds' differences"
            .into(),
        "Wilcoxon signed-rank test: two-sided, exact, zeros dropped, tied ranks averaged; it treats folds as \
         independent, which they are not, so that p is too small; r is the rank-biserial correlation"
            .into(),
    ];
    let fewest = c.over_folds.iter().map(|o| o.wilcoxon.n).min().unwrap_or(0);
    if (1..=5).contains(&fewest) {
        let least = 2.0 / f64::from(1 << fewest);
        notes.push(format!("With {fewest} folds that differ, Wilcoxon's p is at least {least}"));
    }
    notes.extend([
        format!("The result is for {}, these folds and one seed per run", c.dataset),
        "When many pairs of runs are compared, some p values are small by chance: report the number of pairs".into(),
        "All tests and intervals treat images as independent, which cells of one patient or frame are not, also where \
         patients are known: p is too small and the true uncertainty is larger"
            .into(),
    ]);
    for (side, record) in [&c.first, &c.second].into_iter().zip(records) {
        notes.extend(notes::init(record).map(|note| format!("{}: {note}", side.run)));
    }
    notes
}
