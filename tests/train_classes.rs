//! Data sets of fewer and of more than five classes: from training to metrics.

use crate::common::Workdir;
use wbc::class::{Class, Classes};
use wbc::rows::{MetricRow, PredictionRow};
use wbc::run::{ModelId, Record, RunDir, checkpoint};
use wbc::schema::{METRICS, PREDICTIONS};
use wbc::scores::Metric;
use wbc::table;

/// A data set `d` of these classes, split by `tiny.toml`: synthetic cells, `images` as in `wbc synth --images`. Cells
/// of other classes are left out.
fn data_set(name: &str, images: &str, classes: &str) -> Workdir {
    let w = Workdir::new(name);
    w.tiny(3, 3, "", "");
    w.wbc(&["synth", "--images", images, "--name", "d"]).ok();
    for command in [&["ingest", "--classes", classes][..], &["split", "--stratified", "--pipeline", "tiny.toml"]] {
        let run = w.wbc(command);
        assert!(run.status < 2, "{}", run.stderr);
    }
    w
}

/// Trains a recipe on every fold; returns what it prints, and the predictions and metrics.
fn train(w: &Workdir, pipeline: &str, run: &str, more: &[&str]) -> (String, Vec<PredictionRow>, Vec<MetricRow>) {
    let train = w.wbc(&[&["train", "--pipeline", pipeline, "--run", run], more].concat());
    assert!(train.status < 2, "{}", train.stderr);
    let (ws, record) = (w.workspace(), Record::read(&w.workspace(), run).unwrap());
    let dir = RunDir::new(&ws, run);
    let rows = table::read_class_rows(&dir.predictions(), &PREDICTIONS, &record.classes).unwrap().0;
    let metrics = table::read_rows(&dir.metrics(), &METRICS).unwrap().0;
    (train.stdout + &train.stderr, rows, metrics)
}

/// Checks that predictions and metrics of a run are of these classes, and agree.
fn agree(rows: &[PredictionRow], metrics: &[MetricRow], classes: &[&str], images: usize) {
    assert_eq!(rows.len(), images);
    let classes = Classes::named(classes.iter().map(|class| Class::new(class)));
    for row in rows {
        assert_eq!(row.probabilities.len(), classes.len());
        assert!((row.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
    }
    let over_folds = |metric: Metric| metrics.iter().filter(move |m| m.fold.is_none() && m.metric == metric);
    assert_eq!(over_folds(Metric::Confusion).count(), classes.len() * classes.len());
    assert_eq!(over_folds(Metric::Recall).count(), classes.len());
    for cell in over_folds(Metric::Confusion) {
        let of_cell = rows.iter().filter(|row| Some(row.truth) == cell.class);
        let predicted = of_cell.filter(|row| Some(classes.likeliest(&row.probabilities)) == cell.predicted);
        assert_eq!(Some(predicted.count() as f64), cell.value, "{cell:?}");
    }
}

#[test]
fn eight_classes() {
    let classes = ["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte", "ig", "erythroblast", "platelet"];
    let w = data_set("eight", "9,9,9,9,9,9,9,9", "pbc8");
    let (_, rows, metrics) = train(&w, "tiny.toml", "net", &[]);
    agree(&rows, &metrics, &classes, 72);
    let record = Record::read(&w.workspace(), "net").unwrap();
    assert_eq!(record.classes.iter().map(Class::name).collect::<Vec<_>>(), classes);
    let meta = checkpoint::meta(&RunDir::new(&w.workspace(), "net").checkpoint(ModelId::Fold(0))).unwrap().unwrap();
    assert_eq!(meta.classes, record.classes);
    let (_, rows, metrics) = train(&w, "lda", "lda", &[]);
    agree(&rows, &metrics, &classes, 72);
    let balanced = metrics.iter().find(|m| m.fold.is_none() && m.metric == Metric::BalancedAccuracy).unwrap();
    assert!(balanced.value > Some(0.5), "{balanced:?}; chance is 0.125");
    // The predictions of other classes are refused, with both lists of columns.
    let path = RunDir::new(&w.workspace(), "net").predictions();
    let error = table::read_class_rows::<PredictionRow>(&path, &PREDICTIONS, &Classes::wbc5()).unwrap_err().to_string();
    assert!(error.contains("columns") && error.contains("p_monocyte") && error.contains("p_platelet"), "{error}");
}

#[test]
fn two_classes_and_weights_for_eight() {
    let classes = ["neutrophil", "lymphocyte"];
    let w = data_set("two", "20,6,6,20,6", "neutrophil,lymphocyte");
    let (_, rows, metrics) = train(&w, "tiny.toml", "net", &[]);
    agree(&rows, &metrics, &classes, 40);
    let (_, rows, metrics) = train(&w, "knn", "knn", &[]);
    agree(&rows, &metrics, &classes, 40);
    // Other classes: the last layer starts from random weights.
    let other = data_set("two-others", "9,9,9,9,9", "neutrophil,basophil");
    train(&other, "tiny.toml", "others", &[]);
    let weights = other.path("data/runs/others/fold-00/checkpoint.safetensors");
    let (log, rows, metrics) = train(&w, "tiny.toml", "init", &["--init", weights.to_str().unwrap()]);
    assert!(log.contains("its last layer is for other classes (neutrophil, basophil)"), "{log}");
    agree(&rows, &metrics, &classes, 40);
}

#[test]
fn a_class_without_images_is_named_and_one_class_is_not_enough() {
    let w = data_set("absent", "10,10,0,0,0", "neutrophil,eosinophil,ig");
    for (pipeline, run) in [("tiny.toml", "net"), ("lda", "lda")] {
        let (output, rows, metrics) = train(&w, pipeline, run, &[]);
        assert!(output.contains("no image to train on: ig"), "{output}");
        assert!(rows.iter().all(|row| row.probabilities.len() == 3));
        let recall = metrics.iter().find(|m| m.metric == Metric::Recall && m.class == Some(Class::new("ig"))).unwrap();
        assert_eq!((recall.value, recall.images), (None, 0));
    }
    let w = data_set("single", "10,0,0,0,0", "neutrophil,eosinophil");
    for pipeline in ["tiny.toml", "lda"] {
        let refused = w.wbc(&["train", "--pipeline", pipeline]).exits(2).stderr;
        assert!(refused.contains("images of at least two classes") && refused.contains("all neutrophil"), "{refused}");
    }
}
