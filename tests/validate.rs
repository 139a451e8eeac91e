//! `wbc validate`: a run's networks on another data set.

use crate::common::Workdir;
use wbc::class::Class;
use wbc::predict::external;
use wbc::rows::MetricRow;
use wbc::scores::Metric;

const TINY: &str = r#"
name = "tiny"
[split]
folds = 2
[preprocess]
size_px = 32
cut = "cell"
stain = "nucleus"
around = "white"
[train]
epochs = 12
batch = 16
learning_rate = 2e-3
[train.augment]
flips = true
zoom = 0.1
stain = 0.1
coarse = 0.5
"#;

fn value(rows: &[MetricRow], fold: Option<u32>, metric: Metric, class: Option<Class>) -> f64 {
    rows.iter().find(|r| r.fold == fold && r.metric == metric && r.class == class).unwrap().value.unwrap()
}

#[test]
fn another_data_set_is_asked_about_and_shown_on_the_runs_page() {
    let w = Workdir::new("validate");
    w.write("tiny.toml", TINY);
    w.wbc(&["synth", "--images", "150", "--name", "d"]).ok();
    w.wbc(&["synth", "--images", "60", "--name", "other", "--seed", "5"]).ok();
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"]).ok();
    w.wbc(&["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "r"]).ok();
    let said = w.wbc(&["validate", "r", "--dataset", "other"]).ok().stdout;
    assert!(said.contains("run r on other: 2 models together, 60 images"), "{said}");
    let found = external::of_run(&w.workspace(), "r").unwrap().remove(0);
    assert_eq!((found.about.dataset.as_str(), found.cells.len(), found.predictions.len()), ("other", 60, 60));
    // What the tables say is what the predictions give, counted here.
    let share = |class: Option<Class>| {
        let of: Vec<_> = found.predictions.iter().filter(|p| class.is_none_or(|c| p.truth == c)).collect();
        of.iter().filter(|p| p.predicted() == p.truth).count() as f64 / of.len() as f64
    };
    let recalls = Class::ALL.map(|c| share(Some(c)));
    for class in Class::ALL {
        assert_eq!(value(&found.metrics, None, Metric::Recall, Some(class)), recalls[class.index()]);
    }
    let balanced = recalls.iter().sum::<f64>() / 5.0;
    assert!((value(&found.metrics, None, Metric::BalancedAccuracy, None) - balanced).abs() < 1e-12);
    assert!(said.contains(&format!("balanced accuracy {:.2} %", 100.0 * balanced)), "{said}");
    assert!(balanced > 0.5, "drawn cells are like drawn cells: {balanced}");
    let interval = found.intervals.iter().find(|r| r.metric == Metric::BalancedAccuracy).unwrap();
    assert!(interval.low <= balanced && balanced <= interval.high && interval.units == 60);
    // Each model alone, under its fold.
    for fold in [0, 1] {
        assert!((0.0..=1.0).contains(&value(&found.metrics, Some(fold), Metric::BalancedAccuracy, None)));
    }
    // The same again, on one thread, to the byte; one model alone is another answer.
    let path = w.path("data/runs/r/external/other/predictions.parquet");
    let before = std::fs::read(&path).unwrap();
    w.wbc(&["validate", "r", "--dataset", "other", "--threads", "1"]).ok();
    assert!(before == std::fs::read(&path).unwrap());
    // The page says it, and says it is less.
    w.wbc(&["report", "--html", "--run", "r"]).ok();
    let page = std::fs::read_to_string(w.path("reports/r.html")).unwrap();
    assert!(page.contains("External validation") && page.contains("<h3>other</h3>"), "external validation on the page");
    assert!(page.contains(&format!("{:.1} %", 100.0 * balanced)));
    let alone = w.wbc(&["validate", "r:1", "--dataset", "other"]).ok().stdout;
    assert!(alone.contains("1 model together"), "{alone}");
    assert!(before == std::fs::read(&path).unwrap(), "and takes nothing away from that of all");
    assert_eq!(external::of_run(&w.workspace(), "r").unwrap().len(), 2);
}

#[test]
fn images_that_were_trained_on_validate_nothing() {
    let w = Workdir::new("validate-refused");
    w.write("tiny.toml", TINY);
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
    let refused = w.wbc(&["validate", "r", "--dataset", "other"]).exits(2).stderr;
    assert!(refused.contains("again.jpg") && refused.contains("trained on"), "{refused}");
    let own = w.wbc(&["validate", "r", "--dataset", "d"]).exits(2).stderr;
    assert!(own.contains("another data set"), "{own}");
    let unknown = w.wbc(&["validate", "r", "--dataset", "nobody"]).exits(2).stderr;
    assert!(unknown.contains("one of: d, other"), "{unknown}");
    assert!(!w.path("data/runs/r/external").exists(), "what is refused writes nothing");
    // What the weights started from counts, too.
    w.wbc(&["synth", "--images", "40", "--name", "third", "--seed", "9"]).ok();
    w.wbc(&["ingest", "--dataset", "third"]);
    w.wbc(&["split", "--stratified", "--dataset", "third", "--pipeline", "tiny.toml"]).ok();
    let further = ["train", "--dataset", "third", "--pipeline", "tiny.toml", "--init", "r:0", "--epochs", "1"];
    w.wbc(&[&further[..], &["--run", "s"]].concat()).ok();
    let refused = w.wbc(&["validate", "s", "--dataset", "d"]).exits(2).stderr;
    assert!(refused.contains("among the training images of r"), "{refused}");
    // Where it cannot be known any more, that is said.
    std::fs::remove_dir_all(w.path("data/runs/r")).unwrap();
    std::fs::remove_file(w.path("data/raw/other/neutrophil/again.jpg")).unwrap();
    w.wbc(&["ingest", "--dataset", "other"]);
    let said = w.wbc(&["validate", "s", "--dataset", "other"]).ok().stdout;
    assert!(said.contains("s started from r, of which nothing here says"), "{said}");
    let page = w.wbc(&["report", "--html", "--run", "s"]).ok();
    assert_eq!(page.stderr, "");
    assert!(std::fs::read_to_string(w.path("reports/s.html")).unwrap().contains("is yours to know"));
}
