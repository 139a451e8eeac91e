//! Classical classifiers through `wbc train`, `wbc report` and `wbc run`.

use crate::common::{Workdir, predictions, python};
use crate::train::{results, same};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, Float64Array, RecordBatch};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use wbc::class::Classes;
use wbc::rows::{CellRow, EpochRow};
use wbc::schema::{CELLS, EPOCHS, FEATURES};
use wbc::table;

const MODELS: [&str; 5] = ["knn", "svm", "lda", "bayes", "forest"];

/// Writes a pipeline of three folds whose recipe has the lines `settings`, and returns its file name.
fn recipe(w: &Workdir, model: &str, settings: &str) -> String {
    let name = format!("{model}-3.toml");
    w.write(&name, format!("name = \"three\"\n[split]\nfolds = 3\n[train]\nmodel = \"{model}\"\n{settings}\n"));
    name
}

/// A workspace with an ingested and split data set `d` of synthetic cells.
fn dataset(name: &str, images: &str) -> Workdir {
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
fn every_classifier_learns_and_writes_a_complete_run() {
    let w = dataset("classical", "24,20,16,20,20");
    for model in MODELS {
        let pipeline = recipe(&w, model, "");
        let run = w.wbc(&["train", "--pipeline", &pipeline, "--json"]).ok();
        let summary: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let balanced = summary["evaluate"]["balanced_accuracy"].as_f64().unwrap();
        assert!(balanced > 0.8, "{model}: {balanced}; chance is 0.2");
        assert!(summary["train"]["parameters"].is_null());
        assert!(run.stderr.contains(&format!("{model}: 3 of 3 folds")), "{}", run.stderr);

        let dir = w.path(format!("data/runs/d-{model}-three"));
        let rows = predictions(&dir.join("predictions.parquet"));
        let ids: BTreeSet<&str> = rows.iter().map(|r| r.image_id.as_str()).collect();
        assert_eq!((rows.len(), ids.len()), (100, 100), "{model}");
        let splits = wbc::split::read(&w.workspace(), "d").unwrap();
        for row in &rows {
            assert_eq!(
                splits.place(&row.image_id),
                Some(wbc::split::Place::Fold(row.fold)),
                "predicted in the fold whose test image it is"
            );
            assert!((row.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{model}: {row:?}");
            assert!(row.probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{model}: {row:?}");
        }
        let (epochs, _) = table::read_rows::<EpochRow>(&dir.join("epochs.parquet"), &EPOCHS).unwrap();
        assert_eq!(epochs.len(), 0);
        // Settings of networks are not recorded.
        let record = json(&w, dir.join("run.json"));
        assert_eq!((record["model"].as_str(), record["recipe"]["model"].as_str()), (Some(model), Some(model)));
        for key in ["epochs", "batch", "learning_rate", "dropout", "test_views"] {
            assert!(record["recipe"].get(key).is_none(), "{model}: {record}");
        }
        assert!(record.get("size_px").is_none() && record["inputs"]["features"].is_string(), "{record}");
        let fit = json(&w, dir.join("fold-01/fit.json"));
        let tried = fit["tried"].as_array().unwrap();
        assert_eq!(tried.len(), [("knn", 4), ("svm", 6)].iter().find(|(m, _)| *m == model).map_or(0, |m| m.1));
        assert!(tried.is_empty() || tried.iter().any(|t| t["choice"] == fit["chosen"]), "{fit}");

        let again = w.wbc(&["train", "--pipeline", &pipeline]).ok();
        assert!(again.stdout.contains("up to date: fold 0, 1, 2"), "{}", again.stdout);
        // The run can be repeated with the pipeline file in its folder.
        let file = dir.join("pipeline.toml").display().to_string();
        let again = w.wbc(&["train", "--pipeline", &file]).ok();
        assert!(again.stdout.contains("up to date: fold 0, 1, 2"), "{}", again.stdout);
    }
    // The runs are in Table 1 and can be compared.
    let studies = w.wbc(&["report", "--table", "1"]).ok().stdout;
    for text in ["wbc: d-svm-three", "support vector machine, three, seed 0", "random forest", "naive Bayes"] {
        assert!(studies.contains(text), "{text} not in\n{studies}");
    }
    let compared = w.wbc(&["compare", "d-svm-three", "d-bayes-three", "--notes"]).ok().stdout;
    assert!(compared.contains("measured features"), "{compared}");
}

/// A fitted classifier is a model as a network is: it classifies new images and other data sets, and is exported.
#[test]
fn fitted_classifiers_classify_new_cells() {
    let w = dataset("classical-new", "24,20,16,20,20");
    w.wbc(&["synth", "--images", "50", "--name", "new", "--seed", "5"]).ok();
    assert!(w.wbc(&["ingest", "--dataset", "new"]).status < 2);
    w.wbc(&["features", "--dataset", "d"]).ok();
    let python = python("onnx-tables", &["onnxruntime", "numpy", "pyarrow"], &["onnxruntime", "numpy", "pyarrow"]);
    for model in MODELS {
        let weights = if matches!(model, "lda" | "knn") { "class_weight = \"balanced\"" } else { "" };
        let pipeline = recipe(&w, model, weights);
        let run = format!("d-{model}-three");
        w.wbc(&["train", "--dataset", "d", "--pipeline", &pipeline]).ok();
        // The model of a fold gives its own test images the classes that it gave them in training.
        w.wbc(&["predict", &format!("{run}:1"), "data/raw/d", "--output", "own.parquet"]);
        let own: Vec<CellRow> = table::read_class_rows(&w.path("own.parquet"), &CELLS, &Classes::wbc5()).unwrap().0;
        let tested = predictions(&w.path(format!("data/runs/{run}/fold-01/predictions.parquet")));
        assert!(tested.len() > 30);
        let manifest = w.manifest("d");
        for row in &tested {
            let path = &manifest.iter().find(|cell| cell.image_id == row.image_id).unwrap().path;
            let found = own.iter().find(|cell| cell.path.ends_with(path.as_str())).unwrap();
            assert_eq!(found.class, Classes::wbc5().likeliest(&row.probabilities), "{model}: {path}");
            assert!(found.distance.is_some() && found.appearance.is_none(), "{found:?}");
        }
        // All folds together on new images, and on another data set.
        let report = w.wbc(&["predict", &run, "data/raw/new"]);
        assert!(report.status < 2 && report.stdout.contains("3 models"), "{model}: {}", report.stderr);
        let new: Vec<CellRow> = table::read_class_rows(&w.path("cells.parquet"), &CELLS, &Classes::wbc5()).unwrap().0;
        let correct = new.iter().filter(|r| r.path.contains(&format!("/{}/", r.class))).count();
        assert!(new.len() == 50 && correct >= 40, "{model}: {correct} of {}", new.len());
        let unlike = new.iter().filter(|r| r.flag.as_ref().is_some_and(|flag| flag.contains("unfamiliar"))).count();
        assert_eq!(unlike, 0, "{model}: {}", report.stdout);
        let validated = w.wbc(&["validate", &run, "--dataset", "new"]).ok().stdout;
        assert!(validated.contains("3 models averaged, 50 images"), "{validated}");
        // Each cell's features, by what they add.
        let explained = w.wbc(&["explain", &run, "--gallery=examples", "--output", "why"]).ok().stdout;
        assert!(explained.contains("40 cells explained by 3 models"), "{explained}");
        let mut reader = csv::Reader::from_path(w.path("why/contributions.csv")).unwrap();
        let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
        // The neighbours of synthetic cells agree, whatever one feature is.
        let contributions = rows.iter().map(|r| r["contribution"].parse::<f64>().unwrap());
        assert!(model == "knn" || contributions.clone().filter(|c| *c != 0.0).count() > 100, "{model}");
        let of_first: Vec<f64> = contributions.take(10).collect();
        assert!(rows[..10].iter().all(|r| r["path"] == rows[0]["path"]) && rows[10]["path"] != rows[0]["path"]);
        assert!(of_first.is_sorted_by(|a, b| a.abs() >= b.abs()), "{model}: {of_first:?}");
        // The tables and the page of a network.
        let table = w.wbc(&["report", "--table", "3", "--run", &run]).ok().stdout;
        assert!(table.contains("Fold-2") && table.contains("for W-Net, not for"), "{table}");
        if model == "lda" {
            let new = w.wbc(&["explain", &run, "data/raw/new", "--class", "basophil", "--output", "why"]);
            assert!(new.status < 2 && new.stdout.contains("50 cells"), "{}", new.stdout);
            w.wbc(&["report", "--html", "--run", &run]).ok();
            let page = std::fs::read_to_string(w.path(format!("reports/{run}.html"))).unwrap();
            assert!(page.matches("data:image/jpeg").count() >= 25, "the page shows its cells");
        }
        // As ONNX: the same probabilities for the measured features.
        let refused = w.wbc(&["export", &run, "--to", "safetensors"]).exits(2).stderr;
        assert!(refused.contains("expected onnx for a classical classifier"), "{refused}");
        w.wbc(&["export", &run, "--to", "onnx", "--output", "onnx"]).ok();
        let Some(python) = &python else { continue };
        let code = "import sys; sys.path.insert(0, 'onnx')\nimport onnx_example as e\n\
                    session, config = e.load('onnx/fold-01.onnx')\n\
                    names, x = e.read('data/d/features.parquet', config)\n\
                    for name, row in zip(names, e.probabilities(session, x)):\n    print(name, *map(float, row))";
        let output = std::process::Command::new(python).args(["-c", code]).current_dir(w.path(".")).output().unwrap();
        assert!(output.status.success(), "{model}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        for row in &tested {
            let line = text.lines().find(|line| line.starts_with(&format!("{} ", row.image_id))).unwrap();
            let p: Vec<f32> = line.split(' ').skip(1).map(|p| p.parse().unwrap()).collect();
            let apart = p.iter().zip(&row.probabilities).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(p.len() == 5 && apart < 1e-3, "{model}: {line}, {:?}", row.probabilities);
        }
    }
    // The model of all images, and a damaged file.
    let pipeline = recipe(&w, "lda", "");
    w.wbc(&["train", "--dataset", "d", "--pipeline", &pipeline, "--all", "--run", "all"]).ok();
    let report = w.wbc(&["predict", "all", "data/raw/new"]);
    assert!(report.status < 2 && report.stdout.contains("1 model:"), "{}", report.stderr);
    let file = w.path("data/runs/all/all/classifier.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 9);
    std::fs::write(&file, bytes).unwrap();
    let refused = w.wbc(&["predict", "all", "data/raw/new"]).exits(2).stderr;
    assert!(refused.contains("classifier.safetensors"), "{refused}");
    // It is set aside and fitted again; so is one of which a bit has flipped.
    let again = || w.wbc(&["train", "--dataset", "d", "--pipeline", &pipeline, "--all", "--run", "all"]).ok().stderr;
    let said = again();
    assert!(said.contains("classifier.safetensors.damaged, and its model is trained again"), "{said}");
    let whole = std::fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = again();
    assert!(said.contains("classifier.safetensors.damaged") && std::fs::read(&file).unwrap() == whole, "{said}");
}

#[test]
fn results_do_not_depend_on_threads_partial_runs_or_interruptions() {
    let w = dataset("classical-bytes", "12,12,12,12,12");
    for model in MODELS {
        let pipeline = recipe(&w, model, "");
        let train = |run: &str, more: &[&str]| {
            let args = [&["train", "--pipeline", &pipeline, "--run", run], more].concat();
            w.wbc(&args).ok()
        };
        train("one", &["--threads", "1"]);
        train("two", &["--threads", "2"]);
        same(&results(&w, "one"), &results(&w, "two"), &format!("{model}: 1 and 2 threads"));
        let part = train("parts", &["--fold", "2"]);
        assert!(part.stdout.contains("still to train: fold 0, 1"), "{}", part.stdout);
        train("parts", &[]);
        same(&results(&w, "one"), &results(&w, "parts"), &format!("{model}: together and one by one"));
        for run in ["one", "two", "parts"] {
            std::fs::remove_dir_all(w.path("data/runs").join(run)).unwrap();
        }
    }
    // After Ctrl-C in the first fold, the same command resumes with the second.
    let pipeline = recipe(&w, "forest", "trees = [3000]");
    let args = ["train", "--pipeline", &pipeline, "--run", "interrupted"];
    let mut child = w.command(&args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = String::new();
    for text in BufReader::new(child.stderr.take().unwrap()).lines() {
        let text = text.unwrap();
        if text.starts_with("fold 0 of 3:") {
            std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        }
        log += &(text + "\n");
    }
    assert_eq!(child.wait().unwrap().code(), Some(2), "{log}");
    assert!(log.contains("Resume with") && !log.contains("fold 2 of 3:"), "{log}");
    let resumed = w.wbc(&args).ok();
    assert!(resumed.stdout.contains("up to date: fold 0"), "{}", resumed.stdout);
    w.wbc(&["train", "--pipeline", &pipeline, "--run", "uninterrupted"]).ok();
    same(&results(&w, "uninterrupted"), &results(&w, "interrupted"), "with and without an interruption");
}

/// Replaces the features of test cells by arbitrary numbers. What is fitted and chosen in that fold must not change.
#[test]
fn training_does_not_depend_on_the_test_cells() {
    let w = dataset("classical-leak", "12,12,12,12,12");
    let pipeline = recipe(&w, "svm", "");
    let train = |run: &str| w.wbc(&["train", "--pipeline", &pipeline, "--run", run, "--fold", "0"]).ok();
    train("before");
    let path = w.path("data/d/features.parquet");
    let tested: BTreeSet<String> = wbc::split::read(&w.workspace(), "d").unwrap().test(0).map(String::from).collect();
    let mut batches = Vec::new();
    let provenance = table::read_batches(&path, &FEATURES, |batch| {
        let ids = batch.column(0).as_string::<i32>();
        let replaced = |column: &ArrayRef| -> ArrayRef {
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
        let columns = std::iter::once(batch.column(0).clone()).chain(batch.columns()[1..].iter().map(replaced));
        batches.push(RecordBatch::try_new(FEATURES.arrow(), columns.collect()).unwrap());
        Ok(())
    })
    .unwrap();
    table::write_stream(&path, &FEATURES, &provenance, |put| batches.iter().try_for_each(put)).unwrap();
    train("after");
    let [before, after] = ["before", "after"].map(|run| json(&w, format!("data/runs/{run}/fold-00/fit.json")));
    assert_ne!(before["run"], after["run"], "different inputs make a different run");
    for key in ["chosen", "tried", "features", "images"] {
        assert_eq!(before[key], after[key], "{key}");
    }
}

#[test]
fn wbc_run_runs_the_full_pipeline_of_a_classifier() {
    let w = Workdir::new("classical-whole");
    w.wbc(&["synth", "--images", "12,12,12,12,12", "--name", "d"]).ok();
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
fn settings_that_do_not_apply_and_changed_inputs_are_errors() {
    let w = dataset("classical-errors", "10,10,10,10,10");
    let pipeline = recipe(&w, "svm", "c = [1]\ngamma = [1]");
    for (key, flags) in [("epochs", &["--epochs", "3"][..]), ("init", &["--init", "some-run"])] {
        let run = w.wbc(&[&["train", "--pipeline", &pipeline], flags].concat()).exits(2);
        assert!(run.stderr.contains(&format!("setting `{key}`")) && run.stderr.contains("found svm"), "{}", run.stderr);
        assert!(!w.path("data/d/features.parquet").exists(), "reported before features are measured");
    }
    for (settings, wanted) in [
        ("batch = 5", "unknown field `batch`"),
        ("c = [0]", "setting `train.c`: expected above 0, found 0"),
        ("c = []", "expected at least one value"),
    ] {
        let invalid = recipe(&w, "svm", settings);
        let run = w.wbc(&["train", "--pipeline", &invalid]).exits(2);
        assert!(run.stderr.contains(wanted), "{wanted} not in {}", run.stderr);
    }
    w.write("none.toml", "name = \"none\"\n[train]\nmodel = \"tree\"");
    let run = w.wbc(&["train", "--pipeline", "none.toml"]).exits(2);
    assert!(run.stderr.contains("wnet") && run.stderr.contains("knn, svm, lda, bayes, forest"), "{}", run.stderr);

    let pipeline = recipe(&w, "svm", "c = [1]\ngamma = [1]");
    w.wbc(&["train", "--pipeline", &pipeline]).ok();
    // With different settings of the features, the run has different inputs.
    let wide = format!("{}[features]\ncentre_px = 240\n", std::fs::read_to_string(w.path(&pipeline)).unwrap());
    w.write("wide.toml", wide);
    let run = w.wbc(&["train", "--pipeline", "wide.toml"]).exits(2);
    assert!(run.stderr.contains("other data") && run.stderr.contains("--restart"), "{}", run.stderr);
    // After images are added, the split is out of date.
    w.write("data/raw/d/neutrophil/new.png", crate::common::image_bytes("a.png", 1, 360, 361));
    w.wbc(&["ingest"]);
    let run = w.wbc(&["train", "--pipeline", &pipeline]).exits(2);
    assert!(run.stderr.contains("out of date") && run.stderr.contains("wbc split --stratified"), "{}", run.stderr);
}
