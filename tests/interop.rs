//! Interoperability: every table in pandas, Polars, DuckDB and Hugging Face datasets, the scripts in `docs/`, learning
//! curves in TensorBoard, and JSON on stdout.

use crate::common::{FIVE, Workdir, predicted, predictions, python};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use wbc::class::Classes;
use wbc::rows::{EpochRow, IssueRow, ManifestRow, MetricRow};
use wbc::run::checkpoint;
use wbc::schema::{self, EPOCHS, ISSUES, Kind, MANIFEST, METRICS};
use wbc::scores::Metric;
use wbc::table;

/// A workspace with every table: a hundred cells, a run of a network with learning curves, a run of a classifier, and
/// predictions of the network.
fn full(name: &str) -> Workdir {
    let w = Workdir::new(name);
    w.tiny(3, 2, "", "");
    w.cells("d", 20);
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]).ok();
    w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "net", "--log", "tensorboard", "--log", "csv"]).ok();
    w.wbc(&["train", "--pipeline", "knn", "--run", "knn"]).ok();
    // Status 1 where the nucleus of a real cell is outside what is cut.
    let predicted = w.wbc(&["predict", "net", "data/raw/d", "--output", "data/new/cells.parquet"]);
    assert!(predicted.status < 2, "{predicted:?}");
    w
}

/// A Python with the packages that the scripts in `docs/` need.
fn with_tables() -> Option<PathBuf> {
    let packages = ["pandas", "polars", "duckdb", "datasets", "pyarrow"];
    python("tables", &packages, &packages)
}

/// Runs Python in the folder, without network and with its caches in the folder.
fn run(w: &Workdir, python: &Path, args: &[&str]) -> String {
    let mut command = Command::new(python);
    command.args(args).current_dir(w.path(".")).env("HF_HOME", w.path("cache")).env("HF_HUB_OFFLINE", "1");
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONIOENCODING", "utf-8").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every Parquet file of the workspace with its schema for the paper's classes, without the files of single folds.
fn tables(w: &Workdir) -> Vec<(String, schema::Schema)> {
    let walk = walkdir::WalkDir::new(w.path("data")).sort_by_file_name().into_iter().map(Result::unwrap);
    let paths = walk.map(|entry| entry.path().strip_prefix(w.path("")).unwrap().to_str().unwrap().to_string());
    let tables = paths.filter(|path| path.ends_with(".parquet") && !path.contains("fold-"));
    let name = |path: &str| match path {
        path if path.contains("/shards/") => "shard".into(),
        path if path.contains("tensors-") => "tensors".to_string(),
        path if path.ends_with("ingest_issues.parquet") => "issues".to_string(),
        path => Path::new(path).file_stem().unwrap().to_str().unwrap().into(),
    };
    let schema = |path: &str| schema::all().into_iter().find(|schema| schema.name == name(path)).unwrap();
    tables.map(|path| (path.clone(), schema(&path).with_classes(&Classes::wbc5()))).collect()
}

/// The sum of the integers or the bytes of each column, as text; `None` for other columns.
fn sums(path: &Path, schema: &schema::Schema) -> Vec<Option<String>> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{UInt32Type, UInt64Type};
    let mut sums = vec![0u128; schema.columns.len()];
    let add = |batch: arrow_array::RecordBatch| {
        for ((sum, column), array) in sums.iter_mut().zip(&schema.columns).zip(batch.columns()) {
            *sum += match column.kind {
                Kind::U32 => array.as_primitive::<UInt32Type>().iter().flatten().map(u128::from).sum::<u128>(),
                Kind::U64 => array.as_primitive::<UInt64Type>().iter().flatten().map(u128::from).sum(),
                Kind::Binary => {
                    let bytes = array.as_binary::<i32>().iter().flatten().flatten();
                    bytes.map(|byte| u128::from(*byte)).sum()
                }
                Kind::String | Kind::F32 | Kind::F64 | Kind::Bool => 0,
            };
        }
        Ok(())
    };
    table::read_batches(path, schema, add).unwrap();
    let has_sum = |kind| matches!(kind, Kind::U32 | Kind::U64 | Kind::Binary);
    sums.iter().zip(&schema.columns).map(|(sum, c)| has_sum(c.kind).then(|| sum.to_string())).collect()
}

#[test]
fn other_programs_read_every_table() {
    let w = full("tables");
    w.wbc(&["ingest", "--dataset", "d", "--shard", "1/2"]).ok();
    let tables = tables(&w);
    let names: BTreeSet<&str> = tables.iter().map(|(_, schema)| schema.name.as_str()).collect();
    assert_eq!(names, schema::all().iter().map(|schema| schema.name.as_str()).collect(), "every table");
    let Some(python) = with_tables() else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/open.py");
    let args: Vec<&str> = [script].into_iter().chain(tables.iter().map(|(path, _)| path.as_str())).collect();
    let output: serde_json::Value = serde_json::from_str(&run(&w, &python, &args)).unwrap();
    for (path, schema) in &tables {
        let (file, output) = (w.path(path), &output[path]);
        let kind = |kind: Kind| format!("{kind:?}").to_lowercase();
        let columns: Vec<[String; 2]> = schema.columns.iter().map(|c| [c.name.clone(), kind(c.kind)]).collect();
        let rows = table::count(&file, schema).unwrap();
        let expected = serde_json::json!({ "rows": rows, "columns": columns, "sums": sums(&file, schema) });
        for program in ["in_pandas", "in_polars", "in_duckdb", "in_datasets"] {
            assert_eq!(output[program], expected, "{path} {program}");
        }
        assert_eq!(output["schema"], schema.tag(), "{path}");
        let provenance = table::provenance(&file, schema).unwrap();
        assert_eq!(output["provenance"], serde_json::to_value(provenance).unwrap(), "{path}");
    }
}

/// What follows `before` in `text`, up to the next of `end`.
fn after<'a>(text: &'a str, before: &str, end: &[char]) -> &'a str {
    let at = text.find(before).unwrap_or_else(|| panic!("{before:?} is not in\n{text}")) + before.len();
    text[at..].split(end).next().unwrap()
}

fn number(text: &str, before: &str) -> f64 {
    after(text, before, &[' ', ',', '\n', '%']).parse().unwrap_or_else(|e| panic!("after {before:?}: {e} in\n{text}"))
}

#[test]
fn scripts_of_the_documents_agree_with_wbc() {
    let w = full("docs");
    let Some(python) = with_tables() else { return };
    let ws = w.workspace();
    let predictions = |run: &str| predictions(&ws.run(run).join("predictions.parquet"));
    let metrics = |run: &str| table::read_rows::<MetricRow>(&ws.run(run).join("metrics.parquet"), &METRICS).unwrap().0;
    let balanced = |run: &str| {
        let row = |row: &MetricRow| row.fold.is_none() && row.metric == Metric::BalancedAccuracy;
        metrics(run).into_iter().find(row).unwrap().value.unwrap()
    };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let scripts: BTreeSet<String> = std::fs::read_dir(&docs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".py"))
        .collect();
    let output = |script: &str, args: &[&str]| {
        assert!(scripts.contains(script), "{script} is not in docs/");
        run(&w, &python, &[&[docs.join(script).to_str().unwrap()], args].concat())
    };

    // With the name of a run, and by default the first run.
    let text = output("pandas_results.py", &["--run", "net"]);
    assert_eq!(number(&text, "net: ") as usize, predictions("net").len());
    assert!((number(&text, "balanced accuracy: ") - balanced("net")).abs() < 1e-9, "{text}");
    assert!((number(&text, "from the predictions, ") - balanced("net")).abs() < 1e-9, "{text}");
    let wrong = predictions("net").iter().filter(|row| predicted(row) != row.truth).count();
    assert!(text.contains(&format!("\n{wrong} mistakes")), "{text}");
    for class in FIVE {
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(class.name())).unwrap();
        let counts: Vec<f64> = row.split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
        let of_class = |m: &MetricRow| m.fold.is_none() && m.metric == Metric::Confusion && m.class == Some(class);
        let ours: Vec<f64> = metrics("net").iter().filter(|m| of_class(m)).map(|m| m.value.unwrap()).collect();
        assert_eq!(counts, ours, "{text}");
    }
    let text = output("pandas_results.py", &[]);
    assert!((number(&text, "balanced accuracy: ") - balanced("knn")).abs() < 1e-9, "{text}");

    let text = output("polars_manifest.py", &["--workspace", "data", "--dataset", "d"]);
    let manifest = table::read_rows::<ManifestRow>(&ws.manifest("d"), &MANIFEST).unwrap().0;
    let issues = table::read_rows::<IssueRow>(&ws.issues("d"), &ISSUES).unwrap().0;
    assert_eq!(number(&text, "d: ") as usize, manifest.len());
    assert!(
        text.contains(&format!("\n{} findings", issues.len())) && text.contains("groups in two folds: 0"),
        "{text}"
    );

    let text = output("duckdb_queries.py", &[]);
    let mut tried: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for run in ["knn", "net"] {
        let line = text.lines().find(|line| line.starts_with(&format!("{run}: "))).unwrap();
        let rows = predictions(run);
        assert!(line.contains(&format!("{run}: {} images in ", rows.len())), "{line}");
        assert!((number(line, "balanced accuracy ") - balanced(run)).abs() < 1e-9, "{line}");
        rows.into_iter()
            .for_each(|row| tried.entry(row.image_id.clone()).or_default().push(predicted(&row) == row.truth));
    }
    let hard = tried.values().filter(|correct| correct.len() > 1 && !correct.contains(&true)).count();
    assert!(hard > 0 && text.contains(&format!("wrong in every run: {hard} images")), "{hard} in {text}");

    let text = output("hf_datasets.py", &["--dataset", "d", "--fold", "1"]);
    let splits = wbc::split::read(&ws, "d").unwrap();
    let (train, test) = (splits.train(1).count(), splits.test(1).count());
    assert!(text.contains(&format!("d/tensors-32: {} tensors", train + test)), "{text}");
    assert!(
        text.contains(&format!("fold 1: {train} training images, {test} test images, groups in both: 0")),
        "{text}"
    );
    assert!(text.contains("(32, 32, 3), uint8") && text.contains("(32, 3, 32, 32)"), "{text}");
    // Mean and standard deviation of the training images, as in the checkpoint.
    let meta = checkpoint::meta(&ws.run("net").join("fold-01/checkpoint.safetensors")).unwrap().unwrap();
    for (name, ours) in [("mean [", meta.normalise.mean), ("deviation [", meta.normalise.deviation)] {
        let theirs = after(&text, name, &[']']).split_whitespace().map(|n| n.parse::<f32>().unwrap());
        assert!(theirs.zip(ours).all(|(a, b)| (a - b).abs() < 0.06), "{ours:?} in {text}");
    }

    let text = output("tables.py", &[]);
    for (path, schema) in tables(&w) {
        let rows = table::count(&w.path(&path), &schema).unwrap();
        let line = format!("{}: {rows} rows, {};", path.strip_prefix("data/").unwrap(), schema.tag());
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    let named = std::fs::read_to_string(docs.join("python.md")).unwrap();
    assert_eq!(scripts.len(), 5, "this test runs every script");
    assert!(scripts.iter().all(|script| named.contains(&format!("`{script}`"))), "docs/python.md names each");
}

/// TensorBoard's messages, as far as scalars need them.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Event {
        #[prost(int64, tag = "2")]
        pub step: i64,
        #[prost(string, tag = "3")]
        pub file_version: String,
        #[prost(message, optional, tag = "5")]
        pub summary: Option<Summary>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Summary {
        #[prost(message, repeated, tag = "1")]
        pub value: Vec<Value>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Value {
        #[prost(string, tag = "1")]
        pub tag: String,
        #[prost(float, tag = "2")]
        pub simple_value: f32,
    }
}

/// The scalars of an event file by tag and step. Checks framing and checksums.
fn scalars(path: &Path) -> BTreeMap<(String, i64), f32> {
    let mut bytes = &std::fs::read(path).unwrap()[..];
    let mut scalars = BTreeMap::new();
    let mut first = true;
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (data, crc) in [(&bytes[..8], &bytes[8..12]), (&bytes[12..][..length], &bytes[12 + length..][..4])] {
            // TensorFlow masks its checksums.
            let turned = u32::from_le_bytes(crc.try_into().unwrap()).wrapping_sub(0xa282_ead8);
            assert_eq!(turned.rotate_left(15), crc32c::crc32c(data));
        }
        let event = <proto::Event as prost::Message>::decode(&bytes[12..][..length]).unwrap();
        assert_eq!(event.file_version, if first { "brain.Event:2" } else { "" });
        for value in event.summary.into_iter().flat_map(|summary| summary.value) {
            assert!(scalars.insert((value.tag, event.step), value.simple_value).is_none(), "duplicate point");
        }
        (first, bytes) = (false, &bytes[16 + length..]);
    }
    scalars
}

/// The scalars that the event file of a fold must have, from the tables.
fn expected(epochs: &[EpochRow], metrics: &[MetricRow], fold: u32) -> BTreeMap<(String, i64), f32> {
    let mut expected = BTreeMap::new();
    let of_fold: Vec<&EpochRow> = epochs.iter().filter(|row| row.fold == fold).collect();
    for row in &of_fold {
        for (tag, value) in
            [("loss", row.train_loss), ("accuracy", row.train_accuracy), ("learning_rate", row.learning_rate)]
        {
            expected.insert((format!("train/{tag}"), i64::from(row.epoch)), value as f32);
        }
    }
    let tested = metrics.iter().find(|row| row.fold == Some(fold) && row.metric == Metric::BalancedAccuracy).unwrap();
    let last = of_fold.last().unwrap().epoch;
    expected.insert(("test/balanced_accuracy".into(), last.into()), tested.value.unwrap() as f32);
    expected
}

#[test]
fn learning_curves_are_written_for_tensorboard_and_as_csv() {
    let w = full("curves");
    let dir = w.workspace().run("net");
    let epochs = table::read_rows::<EpochRow>(&dir.join("epochs.parquet"), &EPOCHS).unwrap().0;
    let metrics = table::read_rows::<MetricRow>(&dir.join("metrics.parquet"), &METRICS).unwrap().0;
    let events = |fold: u32| dir.join(format!("tensorboard/fold-{fold:02}/events.out.tfevents.0.wbc"));
    for fold in 0..3 {
        assert_eq!(scalars(&events(fold)), expected(&epochs, &metrics, fold));
    }
    #[derive(serde::Deserialize)]
    struct Row {
        fold: u32,
        epoch: u32,
        train_loss: f64,
        train_accuracy: f64,
        learning_rate: f64,
        test_balanced_accuracy: Option<f64>,
    }
    let csv = dir.join("curves.csv");
    let rows: Vec<Row> = csv::Reader::from_path(&csv).unwrap().deserialize().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), epochs.len());
    for (row, epoch) in rows.iter().zip(&epochs) {
        assert_eq!((row.fold, row.epoch), (epoch.fold, epoch.epoch));
        let figures = (row.train_loss, row.train_accuracy, row.learning_rate);
        assert_eq!(figures, (epoch.train_loss, epoch.train_accuracy, epoch.learning_rate), "to the last bit");
        let matches = |m: &&MetricRow| m.fold == Some(epoch.fold) && m.metric == Metric::BalancedAccuracy;
        let tested = metrics.iter().find(matches).and_then(|m| m.value);
        assert_eq!(row.test_balanced_accuracy, tested.filter(|_| epoch.epoch == 2));
    }

    // A truncated file is completed in place, so that a program that has it open sees it grow; a file with other
    // content is replaced. Nothing is trained again.
    let (all, times) = (std::fs::read(&csv).unwrap(), std::fs::read(dir.join("fold-01/timings.csv")).unwrap());
    let event_bytes = std::fs::read(events(1)).unwrap();
    let again = ["train", "--pipeline", "tiny.toml", "--run", "net", "--log", "csv,tensorboard", "--json"];
    std::fs::write(&csv, &all[..all.len() / 2]).unwrap();
    std::fs::write(events(1), &event_bytes[..event_bytes.len() - 7]).unwrap();
    std::fs::write(events(2), "something else").unwrap();
    let open = std::fs::File::open(events(1)).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&w.wbc(&again).ok().stdout).unwrap();
    assert!(summary["train"]["trained"].as_array().unwrap().is_empty(), "{summary}");
    assert!(summary["train"]["curves"][0].as_str().unwrap().ends_with("curves.csv"), "{summary}");
    assert!(std::fs::read(&csv).unwrap() == all && std::fs::read(events(1)).unwrap() == event_bytes);
    assert_eq!(open.metadata().unwrap().len(), event_bytes.len() as u64, "the file that was open has grown");
    assert_eq!(scalars(&events(2)), expected(&epochs, &metrics, 2));
    assert!(std::fs::read(dir.join("fold-01/timings.csv")).unwrap() == times);

    // A model of all images has its own curves. A classifier has none, which is an error before any work.
    w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "net", "--all", "--log", "csv", "--log", "tensorboard"]).ok();
    let text = std::fs::read_to_string(dir.join("all/curves.csv")).unwrap();
    assert_eq!(text.lines().skip(1).map(|line| &line[..3]).collect::<Vec<_>>(), [",1,", ",2,"], "{text}");
    assert_eq!(scalars(&dir.join("tensorboard/all/events.out.tfevents.0.wbc")).len(), 6);
    for command in ["train --pipeline knn --log csv --run k", "run knn --log tensorboard"] {
        let refused = w.wbc(&command.split(' ').collect::<Vec<_>>()).exits(2).stderr;
        assert!(refused.starts_with("wbc: setting `log`: expected a network"), "{refused}");
    }
    assert!(!w.workspace().run("k").exists());
    let refused = w.wbc(&["train", "--log", "excel"]).exits(2).stderr;
    assert!(refused.contains("tensorboard") && refused.contains("csv"), "{refused}");

    // TensorBoard's own reader, if installed.
    let Some(python) = with_tables() else { return };
    if !Command::new(&python).args(["-c", "import tensorboard"]).output().unwrap().status.success() {
        eprintln!("skipped: no tensorboard in {}", python.display());
        return;
    }
    let code = "import json, sys\n\
                from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n\
                read = EventAccumulator(sys.argv[1]).Reload()\n\
                print(json.dumps([[t, e.step, e.value] for t in read.Tags()['scalars'] for e in read.Scalars(t)]))";
    let output = run(&w, &python, &["-c", code, events(1).parent().unwrap().to_str().unwrap()]);
    let output: Vec<(String, i64, f32)> = serde_json::from_str(&output).unwrap();
    let output: BTreeMap<_, _> = output.into_iter().map(|(tag, step, value)| ((tag, step), value)).collect();
    assert_eq!(output, expected(&epochs, &metrics, 1));
}

#[test]
fn every_command_prints_one_json_document() {
    let w = Workdir::new("json");
    w.tiny(3, 2, "", "");
    // Slow, not JSON, or tested in files of their own.
    let elsewhere = ["bench", "completions", "fetch", "doctor", "laboratories", "adapt", "link"];
    let mut seen = BTreeSet::from(elsewhere.map(String::from));
    let mut json = |line: &str, status: i32| -> serde_json::Value {
        let args: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        seen.insert(args[0].into());
        let run = w.wbc(&args).exits(status);
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("wbc {line}: {e} in\n{}", run.stdout))
    };
    json("synth --images 60 --name d", 0);
    std::fs::write(w.path("data/raw/d/neutrophil/torn.jpg"), b"\xff\xd8\xff\xe0").unwrap();
    assert!(json("ingest", 1).is_array());
    json("check", 1);
    json("split --stratified --pipeline tiny.toml", 0);
    json("preprocess --pipeline tiny.toml --contact-sheet sheet.png", 0);
    json("features --contact-sheet cells.png", 0);
    let sent = json("submit --engine local --pipeline tiny.toml --fold 1", 0);
    assert_eq!(sent["sent"], serde_json::json!([{"run": "d-wnet-tiny", "model": 1}]));
    assert_eq!(json("status d-wnet-tiny", 0)["runs"][0]["finished"], serde_json::json!([1]));
    assert_eq!(json("cancel d-wnet-tiny", 0)["cancelled"], serde_json::json!([]));
    json("train --pipeline tiny.toml --run net --log csv", 0);
    json("train --pipeline knn --run knn", 0);
    assert!(json("report", 0).is_array());
    assert!(json("report --table 3 --run net", 0).is_array());
    assert!(json("report --all --html --run net", 0)["page"].is_string());
    json("plot net", 0);
    json("compare net knn", 0);
    json("predict net data/raw/d/basophil", 0);
    json("export net --to onnx", 0);
    // Few basophils are a finding.
    json("run tiny.toml --dataset d", 1);
    json("demo --images 30", 0);
    assert!(json("inspect --dataset d", 0).is_array());
    json("synth --images 20 --name e --seed 9", 0);
    json("ingest --dataset e", 1); // small classes
    json("validate net --dataset e", 0);
    json("explain net data/raw/e/basophil", 0);
    json("man pages", 0);
    assert!(json("verify --full", 0)["findings"].is_array());
    assert!(json("datasets", 0).is_array());
    // An error leaves stdout empty.
    let failed = w.wbc(&["report", "--table", "3", "--run", "nobody", "--json"]).exits(2);
    assert_eq!(failed.stdout, "");
    assert_eq!(w.commands(), seen);
}
