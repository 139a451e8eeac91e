//! `wbc validate`: the networks of a run, evaluated on another data set.

use crate::common::{FIVE, Workdir, predicted};
use wbc::class::Class;
use wbc::predict::external;
use wbc::rows::MetricRow;
use wbc::scores::Metric;

const PREPROCESS: &str = "cut = \"cell\"\nstain = \"nucleus\"\naround = \"white\"";
const TRAIN: &str = "learning_rate = 2e-3\n[train.augment]\nflips = true\nzoom = 0.1\nstain = 0.1\ncoarse = 0.5";

fn value(rows: &[MetricRow], fold: Option<u32>, metric: Metric, class: Option<Class>) -> f64 {
    rows.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class).unwrap().value.unwrap()
}

#[test]
fn a_run_is_validated_on_another_data_set_and_its_page_shows_it() {
    let w = Workdir::new("validate");
    w.tiny(2, 12, PREPROCESS, TRAIN);
    w.wbc(&["synth", "--images", "150", "--name", "d"]).ok();
    w.wbc(&["synth", "--images", "60", "--name", "other", "--seed", "5"]).ok();
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"]).ok();
    w.wbc(&["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "r"]).ok();
    let output = w.wbc(&["validate", "r", "--dataset", "other"]).ok().stdout;
    assert!(output.contains("run r on other: 2 models averaged, 60 images"), "{output}");
    let validation = external::list(&w.workspace(), "r").unwrap().remove(0);
    assert_eq!(
        (validation.about.dataset.as_str(), validation.cells.len(), validation.predictions.len()),
        ("other", 60, 60)
    );
    // The tables agree with the predictions, counted here.
    let share = |class: Option<Class>| {
        let of: Vec<_> = validation.predictions.iter().filter(|p| class.is_none_or(|c| p.truth == c)).collect();
        of.iter().filter(|p| predicted(p) == p.truth).count() as f64 / of.len() as f64
    };
    let recalls = FIVE.map(|c| share(Some(c)));
    for class in FIVE {
        assert_eq!(
            value(&validation.metrics, None, Metric::Recall, Some(class)),
            recalls[FIVE.iter().position(|c| *c == class).unwrap()]
        );
    }
    let balanced = recalls.iter().sum::<f64>() / 5.0;
    assert!((value(&validation.metrics, None, Metric::BalancedAccuracy, None) - balanced).abs() < 1e-12);
    assert!(output.contains(&format!("balanced accuracy {:.2} %", 100.0 * balanced)), "{output}");
    assert!(balanced > 0.5, "two synthetic data sets look alike: {balanced}");
    let interval = validation.intervals.iter().find(|r| r.metric == Metric::BalancedAccuracy).unwrap();
    assert!(interval.low <= balanced && balanced <= interval.high && interval.units == 60);
    // Each model alone, under its fold.
    for fold in [0, 1] {
        assert!((0.0..=1.0).contains(&value(&validation.metrics, Some(fold), Metric::BalancedAccuracy, None)));
    }
    // On one thread, the same bytes; one model alone gives other predictions.
    let path = w.path("data/runs/r/external/other/predictions.parquet");
    let before = std::fs::read(&path).unwrap();
    w.wbc(&["validate", "r", "--dataset", "other", "--threads", "1"]).ok();
    assert!(before == std::fs::read(&path).unwrap());
    // The page shows it.
    w.wbc(&["report", "--html", "--run", "r"]).ok();
    let page = std::fs::read_to_string(w.path("reports/r.html")).unwrap();
    assert!(page.contains("External validation") && page.contains("<h3>other</h3>"), "external validation on the page");
    assert!(page.contains(&format!("{:.1} %", 100.0 * balanced)));
    let alone = w.wbc(&["validate", "r:1", "--dataset", "other"]).ok().stdout;
    assert!(alone.contains("1 model averaged"), "{alone}");
    assert!(before == std::fs::read(&path).unwrap(), "the validation of all models stays");
    assert_eq!(external::list(&w.workspace(), "r").unwrap().len(), 2);
}

#[test]
fn training_images_are_left_out() {
    let w = Workdir::new("validate-refused");
    w.tiny(2, 12, PREPROCESS, TRAIN);
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    w.wbc(&["synth", "--images", "20", "--name", "other", "--seed", "5"]).ok();
    let seen = std::fs::read_dir(w.path("data/raw/d/neutrophil")).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(&seen, w.path("data/raw/other/neutrophil/again.jpg")).unwrap();
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"]).ok();
    let train = ["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "r", "--epochs", "1"];
    let none = w.wbc(&["validate", "r", "--dataset", "other"]).exits(2).stderr;
    assert!(none.contains("run"), "{none}");
    w.wbc(&train).ok();
    let left_out = w.wbc(&["validate", "r", "--dataset", "other"]).exits(1).stdout;
    assert!(left_out.contains("left out: 1 image that the models were trained on"), "{left_out}");
    assert!(left_out.contains("other/neutrophil/again") && left_out.contains("20 images"), "{left_out}");
    std::fs::remove_dir_all(w.path("data/runs/r/external")).unwrap();
    let own = w.wbc(&["validate", "r", "--dataset", "d"]).exits(2).stderr;
    assert!(own.contains("a data set other than the run's own"), "{own}");
    let unknown = w.wbc(&["validate", "r", "--dataset", "nobody"]).exits(2).stderr;
    assert!(unknown.contains("one of: d, other"), "{unknown}");
    assert!(!w.path("data/runs/r/external").exists(), "a refused validation writes nothing");
    // So are training images of the weights that the run started from.
    w.wbc(&["synth", "--images", "40", "--name", "third", "--seed", "9"]).ok();
    w.wbc(&["ingest", "--dataset", "third"]);
    w.wbc(&["split", "--stratified", "--dataset", "third", "--pipeline", "tiny.toml"]).ok();
    let further = ["train", "--dataset", "third", "--pipeline", "tiny.toml", "--init", "r:0", "--epochs", "1"];
    w.wbc(&[&further[..], &["--run", "s"]].concat()).ok();
    let left_out = w.wbc(&["validate", "s", "--dataset", "d"]).exits(1).stdout;
    assert!(left_out.contains("left out: 30 images that the models were trained on"), "{left_out}");
    // Where they are not known any more, a note says so.
    std::fs::remove_dir_all(w.path("data/runs/r")).unwrap();
    std::fs::remove_file(w.path("data/raw/other/neutrophil/again.jpg")).unwrap();
    w.wbc(&["ingest", "--dataset", "other"]);
    let output = w.wbc(&["validate", "s", "--dataset", "other"]).ok().stdout;
    assert!(output.contains("s started from r, whose training images are not known"), "{output}");
    let page = w.wbc(&["report", "--html", "--run", "s"]).ok();
    assert_eq!(page.stderr, "");
    assert!(std::fs::read_to_string(w.path("reports/s.html")).unwrap().contains("whose training images are not known"));
}

/// Images of one cell are cut as the run's training images were, whatever ingest decided for their own data set.
#[test]
fn images_are_cut_as_the_training_images_were() {
    let w = Workdir::new("validate-cut");
    w.tiny(2, 2, "", "");
    w.wbc(&["synth", "--images", "30", "--name", "d"]).ok();
    w.wbc(&["synth", "--images", "20", "--name", "other", "--seed", "5"]).ok();
    w.wbc(&["ingest", "--cut", "centre"]);
    w.wbc(&["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"]);
    w.wbc(&["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "r"]).ok();
    let predictions = || external::list(&w.workspace(), "r").unwrap().remove(0).predictions;
    let alike = w.wbc(&["validate", "r", "--dataset", "other"]).stdout;
    assert!(!alike.contains("cut as"), "{alike}");
    let before = predictions();
    w.wbc(&["ingest", "--dataset", "other", "--cut", "whole"]);
    let otherwise = w.wbc(&["validate", "r", "--dataset", "other"]).exits(1).stdout;
    assert!(otherwise.contains("20 images cut as the training images were (the central square)"), "{otherwise}");
    assert_eq!(predictions(), before);
    // With boxes, they cannot be.
    w.wbc(&["ingest", "--dataset", "other", "--cut", "cell"]);
    let boxed = w.wbc(&["validate", "r", "--dataset", "other"]).exits(1).stdout;
    assert!(boxed.contains("a box around the cell instead of the central square"), "{boxed}");
}
