//! Classical classifiers through `wbc train`, `wbc report` and `wbc run`.

use crate::common::Workdir;
use crate::train::{results, same};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use wbc::rows::{EpochRow, PredictionRow};
use wbc::schema::{EPOCHS, FEATURES, PREDICTIONS};
use wbc::table;

const MODELS: [&str; 5] = ["knn", "svm", "lda", "bayes", "forest"];

/// A recipe of three folds.
fn recipe(w: &Workdir, model: &str, more: &str) -> String {
    let name = format!("{model}-3.toml");
    w.write(&name, format!("name = \"three\"\n[split]\nfolds = 3\n[train]\nmodel = \"{model}\"\n{more}\n"));
    name
}

fn drawn(name: &str, images: &str) -> Workdir {
    let w = Workdir::new(name);
    w.wbc(&["synth", "--images", images, "--name", "d"]).ok();
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified", "--folds", "3"]).ok();
    w
}

fn json(w: &Workdir, path: impl AsRef<std::path::Path>) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(w.path(path)).unwrap()).unwrap()
}

#[test]
fn every_classifier_learns_and_leaves_what_a_network_leaves() {
    let w = drawn("classical", "24,20,16,20,20");
    for model in MODELS {
        let pipeline = recipe(&w, model, "");
        let run = w.wbc(&["train", "--pipeline", &pipeline, "--json"]).ok();
        let said: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let balanced = said["evaluate"]["balanced_accuracy"].as_f64().unwrap();
        assert!(balanced > 0.8, "{model}: {balanced}; chance is 0.2");
        assert!(said["train"]["parameters"].is_null());
        assert!(run.stderr.contains(&format!("{model}: 3 of 3 folds")), "{}", run.stderr);

        let dir = w.path(format!("data/runs/d-{model}-three"));
        let (rows, _) = table::read_rows::<PredictionRow>(&dir.join("predictions.parquet"), &PREDICTIONS).unwrap();
        let ids: BTreeSet<&str> = rows.iter().map(|r| r.image_id.as_str()).collect();
        assert_eq!((rows.len(), ids.len()), (100, 100), "{model}");
        let splits = wbc::split::read(&w.workspace(), "d").unwrap();
        for row in &rows {
            assert_eq!(splits.fold_of[&row.image_id], row.fold, "predicted by the fold that tests it");
            assert!((row.probabilities().iter().sum::<f32>() - 1.0).abs() < 1e-5, "{model}: {row:?}");
            assert!(row.probabilities().iter().all(|p| (0.0..=1.0).contains(p)), "{model}: {row:?}");
        }
        let (epochs, _) = table::read_rows::<EpochRow>(&dir.join("epochs.parquet"), &EPOCHS).unwrap();
        assert_eq!(epochs.len(), 0);
        // What a network needs is not recorded as if it applied.
        let record = json(&w, dir.join("run.json"));
        assert_eq!((record["model"].as_str(), record["settings"]["model"].as_str()), (Some(model), Some(model)));
        for key in ["epochs", "batch", "learning_rate", "dropout", "test_views"] {
            assert!(record["settings"].get(key).is_none(), "{model}: {record}");
        }
        assert!(record.get("size_px").is_none() && record["inputs"]["features"].is_string(), "{record}");
        let fit = json(&w, dir.join("fold-01/fit.json"));
        let tried = fit["tried"].as_array().unwrap();
        assert_eq!(tried.len(), [("knn", 4), ("svm", 6)].iter().find(|(m, _)| *m == model).map_or(0, |m| m.1));
        assert!(tried.is_empty() || tried.iter().any(|t| t["choice"] == fit["chosen"]), "{fit}");

        let again = w.wbc(&["train", "--pipeline", &pipeline]).ok();
        assert!(again.stdout.contains("up to date: fold 0, 1, 2"), "{}", again.stdout);
        // The settings that a run leaves behind run it again.
        let file = dir.join("pipeline.toml").display().to_string();
        let again = w.wbc(&["train", "--pipeline", &file]).ok();
        assert!(again.stdout.contains("up to date: fold 0, 1, 2"), "{}", again.stdout);
    }
    // They stand in Table 1, and beside each other.
    let studies = w.wbc(&["report", "--table", "1"]).ok().stdout;
    for text in ["wbc: d-svm-three", "support vector machine, three, seed 0", "random forest", "naive Bayes"] {
        assert!(studies.contains(text), "{text} not in\n{studies}");
    }
    let compared = w.wbc(&["compare", "d-svm-three", "d-bayes-three"]).ok().stdout;
    assert!(compared.contains("measured features"), "{compared}");
}

#[test]
fn threads_parts_and_interruptions_change_no_byte() {
    let w = drawn("classical-bytes", "12,12,12,12,12");
    for model in MODELS {
        let pipeline = recipe(&w, model, "");
        let train = |run: &str, more: &[&str]| {
            let line = [&["train", "--pipeline", &pipeline, "--run", run], more].concat();
            w.wbc(&line).ok()
        };
        train("one", &["--threads", "1"]);
        train("two", &["--threads", "2"]);
        same(&results(&w, "one"), &results(&w, "two"), &format!("{model}: 1 and 2 threads"));
        let part = train("parts", &["--fold", "2"]);
        assert!(part.stdout.contains("still to train: fold 0, 1"), "{}", part.stdout);
        train("parts", &[]);
        same(&results(&w, "one"), &results(&w, "parts"), &format!("{model}: at once and in parts"));
        for run in ["one", "two", "parts"] {
            std::fs::remove_dir_all(w.path("data/runs").join(run)).unwrap();
        }
    }
    // Ctrl-C after the first fold; the same command goes on with the second.
    let pipeline = recipe(&w, "forest", "trees = [3000]");
    let line = ["train", "--pipeline", &pipeline, "--run", "broken"];
    let mut child = w.command(&line).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = String::new();
    for text in BufReader::new(child.stderr.take().unwrap()).lines() {
        let text = text.unwrap();
        if text.starts_with("fold 0 of 3:") {
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        }
        said += &(text + "\n");
    }
    assert_eq!(child.wait().unwrap().code(), Some(2), "{said}");
    assert!(said.contains("Go on with") && !said.contains("fold 2 of 3:"), "{said}");
    let on = w.wbc(&line).ok();
    assert!(on.stdout.contains("up to date: fold 0"), "{}", on.stdout);
    w.wbc(&["train", "--pipeline", &pipeline, "--run", "whole"]).ok();
    same(&results(&w, "whole"), &results(&w, "broken"), "interrupted and not");
}

/// Test cells' features are made nonsense: nothing that is fitted or chosen in that fold may change.
#[test]
fn what_is_fitted_and_chosen_does_not_see_the_test_cells() {
    let w = drawn("classical-leak", "12,12,12,12,12");
    let pipeline = recipe(&w, "svm", "");
    let train = |run: &str| w.wbc(&["train", "--pipeline", &pipeline, "--run", run, "--fold", "0"]).ok();
    train("before");
    let path = w.path("data/d/features.parquet");
    let tested: BTreeSet<String> = wbc::split::read(&w.workspace(), "d").unwrap().test(0).map(String::from).collect();
    let mut batches = Vec::new();
    let made = table::read_batches(&path, &FEATURES, |batch| {
        let ids = batch.column(0).as_string::<i32>();
        let spoilt = |column: &ArrayRef| -> ArrayRef {
            let values = column.as_primitive::<Float64Type>();
            let value = |i: usize| {
                if tested.contains(ids.value(i)) {
                    Some(1e6 + i as f64)
                } else {
                    values.is_valid(i).then(|| values.value(i))
                }
            };
            Arc::new((0..values.len()).map(value).collect::<Float64Array>())
        };
        let columns = std::iter::once(batch.column(0).clone()).chain(batch.columns()[1..].iter().map(spoilt));
        batches.push(RecordBatch::try_new(FEATURES.arrow(), columns.collect()).unwrap());
        Ok(())
    })
    .unwrap();
    table::write_stream(&path, &FEATURES, &made, |put| batches.iter().try_for_each(put)).unwrap();
    train("after");
    let [before, after] = ["before", "after"].map(|run| json(&w, format!("data/runs/{run}/fold-00/fit.json")));
    assert_ne!(before["run"], after["run"], "other inputs, another run");
    for key in ["chosen", "tried", "features", "images"] {
        assert_eq!(before[key], after[key], "{key}");
    }
}

#[test]
fn a_whole_pipeline_of_a_classifier_runs_in_one() {
    let w = Workdir::new("classical-whole");
    w.wbc(&["synth", "--images", "50", "--name", "d"]).ok();
    let first = w.wbc(&["run", "lda"]).ok();
    let tables = |text: &str| [1, 2, 3].map(|n| text.contains(&format!("Table {n}:")));
    assert_eq!(tables(&first.stdout), [true, true, false], "{}", first.stdout);
    assert!(first.stdout.contains("linear discriminant analysis, lda, seed 0"), "{}", first.stdout);
    assert!(first.stderr.contains("features: done") && first.stderr.contains("balanced accuracy"), "{}", first.stderr);
    assert!(!first.stderr.contains("preprocess") && !w.path("data/d/tensors-128").exists());
    let second = w.wbc(&["run", "lda"]).ok();
    for stage in ["ingest", "check", "split", "features", "train"] {
        assert!(second.stderr.contains(&format!("{stage}: up to date, skipped")), "{}", second.stderr);
    }
}

#[test]
fn what_does_not_apply_or_has_changed_is_an_error_that_says_so() {
    let w = drawn("classical-errors", "10,10,10,10,10");
    let pipeline = recipe(&w, "svm", "c = [1]\ngamma = [1]");
    for (key, flags) in [("epochs", &["--epochs", "3"][..]), ("all", &["--all"]), ("init", &["--init", "some-run"])] {
        let run = w.wbc(&[&["train", "--pipeline", &pipeline], flags].concat()).exits(2);
        assert!(run.stderr.contains(&format!("setting `{key}`")) && run.stderr.contains("found svm"), "{}", run.stderr);
        assert!(!w.path("data/d/features.parquet").exists(), "said before the work");
    }
    for (more, wanted) in [
        ("batch = 5", "unknown field `batch`"),
        ("c = [0]", "setting `train.c`: expected above 0, found 0"),
        ("c = []", "expected at least one value"),
    ] {
        let wrong = recipe(&w, "svm", more);
        let run = w.wbc(&["train", "--pipeline", &wrong]).exits(2);
        assert!(run.stderr.contains(wanted), "{wanted} not in {}", run.stderr);
    }
    w.write("none.toml", "name = \"none\"\n[train]\nmodel = \"tree\"");
    let run = w.wbc(&["train", "--pipeline", "none.toml"]).exits(2);
    assert!(run.stderr.contains("wnet") && run.stderr.contains("knn, svm, lda, bayes, forest"), "{}", run.stderr);

    let pipeline = recipe(&w, "svm", "c = [1]\ngamma = [1]");
    w.wbc(&["train", "--pipeline", &pipeline]).ok();
    // Other settings of the features are other features, and another run.
    let wide = format!("{}[features]\ncentre_px = 240\n", std::fs::read_to_string(w.path(&pipeline)).unwrap());
    w.write("wide.toml", wide);
    let run = w.wbc(&["train", "--pipeline", "wide.toml"]).exits(2);
    assert!(run.stderr.contains("other data") && run.stderr.contains("--restart"), "{}", run.stderr);
    // New images: the split is stale, and says how to make it again.
    w.write("data/raw/d/neutrophil/new.png", crate::common::picture("a.png", 1, 360, 361));
    w.wbc(&["ingest"]);
    let run = w.wbc(&["train", "--pipeline", &pipeline]).exits(2);
    assert!(run.stderr.contains("out of date") && run.stderr.contains("wbc split --stratified"), "{}", run.stderr);
}
