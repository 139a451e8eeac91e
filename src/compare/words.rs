//! What a comparison comes to, in words that claim no more than the figures do.

use super::Comparison;
use crate::report::{notes, thousands};
use crate::scores::Metric;
use crate::statistics::RESAMPLES;

/// Below which a p value is called small; the field's habit, not a law.
const SMALL: f64 = 0.05;

/// "0.027", or "< 0.0001".
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.001 => format!("{p:.4}"),
        p => format!("{p:.3}"),
    }
}

/// "p = 0.027".
fn says(p: f64) -> String {
    let p = p_value(p);
    if p.starts_with('<') { format!("p {p}") } else { format!("p = {p}") }
}

/// A few sentences. `seed_alone`: the runs differ in nothing but the seed.
pub fn conclusion(c: &Comparison, seed_alone: bool) -> String {
    let (one, other) = (c.outcomes.first_only, c.outcomes.second_only);
    if one + other == 0 {
        return format!(
            "Both runs are right on the same {} of {} images: nothing tells them apart here.",
            thousands(c.outcomes.both),
            thousands(c.images)
        );
    }
    let (better, worse) = if one >= other { (&c.first.run, &c.second.run) } else { (&c.second.run, &c.first.run) };
    let images = |n: u64| format!("{} image{}", thousands(n), if n == 1 { "" } else { "s" });
    let counts = match one == other {
        true => format!("Each run alone is right on {}.", images(one)),
        false => {
            format!(
                "{better} alone is right on {}, {worse} alone on {}.",
                images(one.max(other)),
                thousands(one.min(other))
            )
        }
    };
    let score = |metric: Metric| c.scores.iter().find(|s| s.metric == metric);
    // Tests of accuracy, so that images and folds are asked the same.
    let t = c.over_folds.iter().find(|o| o.metric == Metric::Accuracy).and_then(|o| o.corrected_t);
    let folds =
        t.map_or("the folds cannot tell".into(), |t| format!("over folds: corrected resampled t, {}", says(t.p)));
    let chance = format!("McNemar's mid-{}", says(c.mcnemar.mid_p));
    // Whether the folds show it too, and the same way.
    let shown = t.map(|t| t.p < SMALL && (t.t > 0.0) == (one > other));
    let beyond_chance = format!("That is more than chance among the images would give ({chance})");
    let verdict = match (c.mcnemar.mid_p < SMALL, shown) {
        (true, Some(true)) => format!(
            "{beyond_chance}, and more than the folds' own spread ({folds}): {}.",
            match seed_alone {
                true => "the seed alone does this much".into(),
                false => format!("on data like these {better} is the more accurate"),
            }
        ),
        (true, Some(false)) => format!(
            "{beyond_chance}, but not more than the folds' own spread ({folds}): these models differ on these images; \
             trained on others, the two may come out otherwise."
        ),
        (true, None) => format!(
            "{beyond_chance}: these models differ on these images; how the two come out when trained on others, {folds}."
        ),
        (false, Some(true)) => {
            format!("The folds lean one way ({folds}), the images alone do not show it ({chance}): undecided.")
        }
        (false, _) => {
            let range = score(Metric::Accuracy).and_then(|s| s.interval).map_or(String::new(), |i| {
                let (low, high) = (100.0 * i.low, 100.0 * i.high);
                format!(": differences from {low:+.2} to {high:+.2} points of accuracy remain possible")
            });
            format!(
                "Chance would often give as much ({chance}; {folds}): no difference is shown, which does not make them \
                 equal{range}."
            )
        }
    };
    let mut sentences = vec![counts, verdict];
    if let (Some(balanced), Some(plain)) = (score(Metric::BalancedAccuracy), score(Metric::Accuracy))
        && balanced.difference * plain.difference < 0.0
    {
        sentences.push(format!(
            "Balanced accuracy points the other way ({:+.2} points): the classes do not agree.",
            100.0 * balanced.difference
        ));
    }
    sentences.push(match seed_alone {
        true => "The runs differ in nothing but the seed: this is what a seed does, not a better model.".into(),
        false => format!("It holds for {}, these folds and one seed a run.", c.dataset),
    });
    sentences.join(" ")
}

/// What must be known to read the figures.
pub fn notes(c: &Comparison) -> Vec<String> {
    let side = |s: &super::Side| {
        let tensors = s.size_px.map_or(", measured features".into(), |size| format!(", pictures of {size} px"));
        format!("{}: {}, recipe {}, seed {}{tensors}", s.run, s.model, s.pipeline, s.seed)
    };
    let mut notes = vec![
        format!("{}; {}", side(&c.first), side(&c.second)),
        format!("Differences: {} minus {}, in points; scores are means over folds", c.first.run, c.second.run),
    ];
    for run in [&c.first.run, &c.second.run] {
        let left = c.left_out.iter().filter(|left| left.missing_in == *run);
        let folds: Vec<String> = left.map(|left| left.fold.to_string()).collect();
        if !folds.is_empty() {
            notes.push(format!("INCOMPLETE: fold {} left out, not finished in {run}", folds.join(", ")));
        }
    }
    notes.extend([
        format!(
            "95 % intervals of differences: percentile bootstrap, {} resamples of image pairs within fold and class (Efron & \
             Tibshirani 1993); each by itself, not corrected for there being several; none where no image tells the two apart",
            thousands(RESAMPLES as u64)
        ),
        "McNemar's test: two-sided, on the images that one run alone classified right; mid-p (Fagerland et al. 2013) and exact \
         binomial; the statistic is how many each has; odds ratio with Wilson's interval as odds (Fagerland et al. 2017, chapter 8)"
            .into(),
        "Corrected resampled t (Nadeau & Bengio 2003): two-sided, variance times 1/k + 1/(folds - 1) for the training images \
         that folds share; d_z is the mean over the standard deviation of the folds' differences"
            .into(),
        "Wilcoxon signed-rank: two-sided, exact, zeros dropped, tied ranks averaged; it takes folds as independent, which \
         they are not, and so errs towards small p; r is the rank-biserial correlation"
            .into(),
    ]);
    let fewest = c.over_folds.iter().map(|o| o.wilcoxon.n).min().unwrap_or(0);
    if (1..=5).contains(&fewest) {
        let least = 2.0 / f64::from(1 << fewest);
        notes.push(format!("With {fewest} folds that differ, Wilcoxon's p cannot be below {least}"));
    }
    notes.extend([
        "Of many pairs that are compared, some come out small by chance: say how many were".into(),
        "All tests take images as independent; cells of one patient or frame are not, and differences look surer than they are"
            .into(),
        notes::PATIENTS.into(),
    ]);
    notes
}
