//! `wbc compare`: two runs on the same test images.

use crate::common::{Workdir, predictions};
use wbc::class::{Class, Classes};
use wbc::run::Record;

fn compare(w: &Workdir, first: &str, second: &str) -> serde_json::Value {
    serde_json::from_str(&w.wbc(&["compare", first, second, "--json"]).ok().stdout).unwrap()
}

fn near(value: &serde_json::Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() < 1e-9, "{value} and {expected}");
}

/// Wrong on monocyte 0 of every fold.
fn better(_: u32, class: Class, i: u32) -> Option<bool> {
    Some(class != Class::MONOCYTE || i > 0)
}

/// Wrong on monocytes 1 and 2 of every fold, and neutrophils 0 to `fold`.
fn worse(fold: u32, class: Class, i: u32) -> Option<bool> {
    Some(match class {
        Class::MONOCYTE => !(1..=2).contains(&i),
        Class::NEUTROPHIL => i > fold,
        _ => true,
    })
}

#[test]
fn the_figures_equal_those_of_scipy_and_statsmodels() {
    let w = Workdir::new("compare");
    w.untrained_run("good", |_| (), better);
    w.untrained_run("bad", |r: &mut Record| r.seed = 7, worse);
    let c = compare(&w, "good", "bad");
    assert_eq!((c["dataset"].as_str(), c["images"].as_u64()), (Some("d"), Some(120)));
    // Alone correct: good 4 x 2 monocytes and 1 + 2 + 3 + 4 neutrophils, bad 4 monocytes.
    assert_eq!(c["outcomes"], serde_json::json!({"both": 98, "first_only": 18, "second_only": 4, "neither": 0}));
    // from statsmodels.stats.contingency_tables import mcnemar  # 0.15
    // from scipy.stats import binom; mcnemar([[98, 18], [4, 0]], exact=True).pvalue, and minus binom.pmf(4, 22, 0.5)
    near(&c["mcnemar"]["exact_p"], 0.004343509674072266);
    near(&c["mcnemar"]["mid_p"], 0.0025994777679443338);
    near(&c["mcnemar"]["odds_ratio"], 4.5);
    // d = accuracies' differences (good - bad), fold by fold: (2 + f + 1 - 1) / 30 = [2, 3, 4, 5] / 30
    // t = d.mean() / (d.std(ddof=1) * sqrt(1/4 + 1/3)); p = 2 * scipy.stats.t.sf(t, 3)
    let accuracy = &c["over_folds"][1];
    assert_eq!(accuracy["metric"], "accuracy");
    near(&accuracy["corrected_t"]["t"], 3.5496478698597698);
    near(&accuracy["corrected_t"]["p"], 0.038100267713287575);
    // scipy.stats.wilcoxon(d, zero_method="wilcox", method="exact").pvalue
    near(&accuracy["wilcoxon"]["p"], 0.125);
    let score = |metric: &str, class: Option<&str>| {
        let mut scores = c["scores"].as_array().unwrap().iter();
        scores.find(|s| s["metric"] == metric && s["class"].as_str() == class).unwrap().clone()
    };
    for (metric, class, difference) in [
        ("accuracy", None, 3.5 / 30.0),
        ("balanced_accuracy", None, 3.5 / 30.0),
        ("recall", Some("neutrophil"), 2.5 / 6.0),
        ("recall", Some("monocyte"), 1.0 / 6.0),
        ("recall", Some("basophil"), 0.0),
    ] {
        let score = score(metric, class);
        near(&score["difference"], difference);
        match class {
            Some("basophil") => assert!(score["interval"].is_null(), "both are correct on the same basophils: {score}"),
            _ => assert!(
                score["interval"]["low"].as_f64().unwrap() < difference
                    && difference < score["interval"]["high"].as_f64().unwrap(),
                "{score}"
            ),
        }
    }
    let conclusion = c["conclusion"].as_str().unwrap();
    assert!(conclusion.starts_with("good alone is correct on 18 images, bad alone on 4."), "{conclusion}");
    assert!(conclusion.contains("significant over images") && conclusion.contains("and over folds"), "{conclusion}");
    assert!(conclusion.contains("the effect of a seed, not a better model"), "{conclusion}");

    // Swapping the runs gives the same comparison.
    let back = compare(&w, "bad", "good");
    assert_eq!(back["mcnemar"]["mid_p"], c["mcnemar"]["mid_p"]);
    near(&back["over_folds"][1]["corrected_t"]["t"], -3.5496478698597698);
    assert!(back["conclusion"].as_str().unwrap().starts_with("good alone is correct on 18 images"));

    let text = w.wbc(&["compare", "good", "bad", "--threads", "1"]).ok().stdout;
    for part in ["18 : 4", "+11.67", "Conclusion: good alone", "good correct"] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
    assert!(!text.contains("Nadeau & Bengio 2003"), "{text}");
    let notes = w.wbc(&["compare", "good", "bad", "--notes"]).ok().stdout;
    assert!(notes.contains("Nadeau & Bengio 2003"), "{notes}");
    let again = w.wbc(&["compare", "good", "bad", "--threads", "2"]).ok().stdout;
    assert_eq!(text, again, "the same on any number of threads");
    for file in ["compare-good-vs-bad.md", "compare-good-vs-bad.tex", "compare-good-vs-bad-scores.csv"] {
        assert!(w.path("reports").join(file).is_file(), "{file}");
    }
    let tests = std::fs::read_to_string(w.path("reports/compare-good-vs-bad-tests.csv")).unwrap();
    assert_eq!(tests.lines().count(), 1 + 2 + 4, "{tests}");
}

#[test]
fn runs_on_different_images_are_refused_with_the_reason() {
    let w = Workdir::new("refused");
    w.untrained_run("one", |_| (), better);
    w.untrained_run("elsewhere", |r| r.dataset = "e".into(), better);
    w.untrained_run("halves", |r| r.folds = 2, better);
    w.untrained_run("resplit", |r| drop(r.inputs.insert("splits".into(), "two".into())), better);
    w.untrained_run("early", |_| (), |fold, class, i| better(fold, class, i).filter(|_| fold < 2));
    w.untrained_run("late", |_| (), |fold, class, i| better(fold, class, i).filter(|_| fold >= 2));
    w.untrained_run("fewer", |_| (), |fold, class, i| better(fold, class, i).filter(|_| i < 5));
    w.untrained_run("others", |_| (), |fold, class, i| better(fold, class, i).filter(|_| fold > 0 || i > 0));
    for (other, why) in [
        ("one", "the same run twice"),
        ("elsewhere", "one data set, found d and e"),
        ("halves", "the same number of folds, found 4 and 2"),
        ("resplit", "one split, found splits.parquet one and two"),
        ("fewer", "test images: expected 120"),
        ("none", "Runs: early"),
    ] {
        let run = w.wbc(&["compare", "one", other]).exits(2);
        assert!(run.stderr.contains(why), "{why} not in {}", run.stderr);
        assert!(!run.stderr.contains("panicked"));
    }
    let run = w.wbc(&["compare", "early", "late"]).exits(2);
    assert!(run.stderr.contains("a fold that both have finished, found fold 0, 1 of early and fold 2, 3 of late"));
    // Folds that only one run has are left out and listed.
    let c = compare(&w, "one", "early");
    assert_eq!((c["images"].as_u64(), c["folds"].as_array().unwrap().len()), (Some(60), 2));
    assert_eq!(c["left_out"][0], serde_json::json!({"fold": 2, "missing_in": "early"}));
    assert!(c["summary"].to_string().contains("INCOMPLETE: fold 2, 3 left out, not finished in early"));
    assert!(c["conclusion"].as_str().unwrap().starts_with("Both runs are correct on the same 58 of 60 images"));
}

#[test]
fn predictions_are_joined_by_image_id_not_by_position() {
    use wbc::schema::PREDICTIONS;
    use wbc::table::{Provenance, write_class_rows};
    let w = Workdir::new("joined");
    w.untrained_run("one", |_| (), better);
    w.untrained_run("two", |r| r.seed = 1, worse);
    let before = compare(&w, "one", "two");
    let path = w.workspace().run("two").join("predictions.parquet");
    let mut rows = predictions(&path);
    let write = |rows: &[_]| {
        write_class_rows(&path, &PREDICTIONS, &Classes::wbc5(), &Provenance::default(), rows).unwrap();
    };
    rows.reverse();
    write(&rows);
    assert_eq!(compare(&w, "one", "two"), before);
    rows[0].truth = Class::NEUTROPHIL;
    write(&rows);
    let run = w.wbc(&["compare", "one", "two"]).exits(2);
    assert!(run.stderr.contains("d/monocyte/3-5: expected a monocyte of fold 3"), "{}", run.stderr);
    assert!(run.stderr.contains("found a neutrophil of fold 3"), "{}", run.stderr);
}
