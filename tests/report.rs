//! `wbc report`: which run a table shows, its cells, and the notes below it.

use crate::common::{Workdir, cells_of};
use wbc::class::Class;
use wbc::rows::IntervalRow;
use wbc::run::{Init, ModelId, Record};
use wbc::schema::INTERVALS;
use wbc::scores::{Method, Metric};
use wbc::table;

fn json(w: &Workdir, args: &[&str]) -> serde_json::Value {
    let mut args = args.to_vec();
    args.push("--json");
    serde_json::from_str(&w.wbc(&args).ok().stdout).unwrap()
}

/// All correct but the first monocyte of every fold, and the second of fold 0.
fn most(fold: u32, class: Class, i: u32) -> Option<bool> {
    Some(class != Class::MONOCYTE || i > u32::from(fold == 0))
}

fn init(dataset: &str) -> Option<Init> {
    Some(Init { from: "earlier".into(), model: Some(ModelId::All), dataset: Some(dataset.into()), hash: "0".into() })
}

#[test]
fn every_table_of_folds_finds_its_run() {
    let w = Workdir::new("tables");
    w.untrained_run("d-wnet-quick", |_| (), most);
    w.untrained_run("d-resnet50-quick", |r: &mut Record| r.model = "resnet50".into(), most);
    w.untrained_run("lisc-wnet-quick", |r| r.dataset = "lisc".into(), most);
    w.untrained_run(
        "lisc-further",
        |r| {
            r.dataset = "lisc".into();
            r.init = init("d");
        },
        most,
    );
    for (table, run, title) in [
        ("4", "d-resnet50-quick", "on d, classification accuracy"),
        ("5", "lisc-wnet-quick", "W-Net on lisc from scratch, classification accuracy"),
        ("6", "lisc-further", "W-Net on lisc after training on d, classification accuracy"),
    ] {
        let text = w.wbc(&["report", "--table", table]).ok().stdout;
        assert!(text.contains(title) && text.contains(&format!("run {run}")), "{text}");
        assert!(w.path(format!("reports/table-{table}-{run}.tex")).is_file());
    }
    // Two data sets have a run for Table 3 and neither is the default: the user has to choose.
    let run = w.wbc(&["report", "--table", "3"]).exits(2);
    assert!(run.stderr.contains("--dataset with one of: d, lisc"), "{}", run.stderr);
    let table = &json(&w, &["report", "--table", "3", "--dataset", "d"])[0];
    assert_eq!(table["run"], "d-wnet-quick");
    let cells = cells_of(table);
    assert_eq!(cells[8], ["Monocyte", "wbc", "66.7", "83.3", "83.3", "83.3", "79.2"]);
    assert_eq!(cells[10], ["Aver. Accuracy", "wbc", "93.3", "96.7", "96.7", "96.7", "95.8"]);
    // The paper has ten folds and the run four, so only the paper's means are shown.
    assert_eq!(cells[9], ["", "paper", "-", "-", "-", "-", "97"]);
    let five = cells_of(&json(&w, &["report", "--table", "5", "--dataset", "d"])[0]);
    assert_eq!((&five[8], &five[9][6]), (&cells[8], &"86".to_string()), "the user may choose any data set");

    let run = w.wbc(&["report", "--table", "5", "--run", "lisc-further"]).exits(2);
    assert!(
        run.stderr.contains("W-Net from scratch, found lisc-further, a run of W-Net from earlier"),
        "{}",
        run.stderr
    );
    let run = w.wbc(&["report", "--table", "4", "--run", "d-wnet-quick"]).exits(2);
    assert!(run.stderr.contains("d-wnet-quick, a run of W-Net"), "{}", run.stderr);
    let run = w.wbc(&["report", "--table", "6", "--dataset", "d"]).exits(2);
    assert!(run.stderr.contains("wbc ingest") || run.stderr.contains("earlier weights"), "{}", run.stderr);
}

#[test]
fn all_tables_at_once_each_run_in_its_own() {
    let w = Workdir::new("all");
    // Empty workspace: Table 1 lists the studies, the other tables say what to run.
    let text = w.wbc(&["report", "--all"]).ok().stdout;
    assert!(text.contains("Abdeldaim et al. 2018") && text.contains("No finished run in this workspace yet"), "{text}");
    for table in 2..=6 {
        assert!(text.contains(&format!("No Table {table} (")), "{text}");
    }
    assert!(text.contains("Run: wbc ingest"), "{text}");

    w.untrained_run("d-wnet-quick", |_| (), most);
    // A manifest that cannot be read prevents Table 2 only.
    w.write("data/d/manifest.parquet", "");
    let entries = json(&w, &["report", "--all"]);
    let built: Vec<i64> = entries
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["rows"].is_array())
        .map(|e| e["table"].as_i64().unwrap())
        .collect();
    assert_eq!(built, [1, 3], "Table 5 would show the same run again");
    let five = entries.as_array().unwrap().iter().find(|e| e["table"] == 5).unwrap();
    assert!(five["missing"].as_str().unwrap().contains("Run: wbc train"), "{five}");
    let two = entries.as_array().unwrap().iter().find(|e| e["table"] == 2).unwrap();
    assert!(two["missing"].as_str().unwrap().contains("manifest.parquet"), "{two}");
    w.untrained_run("lisc-wnet-quick", |r| r.dataset = "lisc".into(), most);
    w.untrained_run("d-resnet50-quick", |r| r.model = "resnet50".into(), most);
    let entries = json(&w, &["report", "--all"]);
    let shown: Vec<(i64, &str)> =
        entries.as_array().unwrap().iter().filter_map(|e| Some((e["table"].as_i64()?, e["run"].as_str()?))).collect();
    assert_eq!(shown, [(3, "d-wnet-quick"), (4, "d-resnet50-quick"), (5, "lisc-wnet-quick")]);
    assert!(w.wbc(&["report", "--all", "--table", "3"]).exits(2).stderr.contains("cannot be used with"));
}

#[test]
fn table_1_has_the_studies_the_paper_and_every_run() {
    let w = Workdir::new("studies");
    w.untrained_run("d-wnet-quick", |_| (), most);
    w.untrained_run(
        "d-some-model",
        |r| r.model = "some-model".into(),
        |fold, class, i| most(fold, class, i).filter(|_| fold < 3),
    );
    w.untrained_run("e-further", |r| (r.dataset, r.init) = ("e".into(), init("d")), most);
    w.write("data/raw/e/SYNTHETIC.json", "{}");
    w.write("data/runs/begun/run.json", std::fs::read(w.path("data/runs/e-further/run.json")).unwrap());
    let table = &json(&w, &["report", "--table", "1"])[0];
    let cells = cells_of(table);
    assert_eq!(cells.len(), 16 + 3);
    assert_eq!(
        cells[1][..6],
        ["Dorini et al. 2012", "CellAtlas", "100", "5", "Morphological Transform., KNN", "78.51"]
    );
    assert_eq!(cells[14][5..7], ["97.0", "97.0"]);
    // 120 images, 5 wrong in folds of 30: 28/30, and three times 29/30.
    let ours = cells.iter().find(|row| row[0] == "wbc: d-wnet-quick").unwrap();
    assert_eq!(ours[1..7], ["d", "120", "5", "W-Net, quick, seed 0", "95.83", "95.83"]);
    let (low, high) = ours[8].split_once(" to ").unwrap();
    let (low, high): (f64, f64) = (low.parse().unwrap(), high.parse().unwrap());
    assert!(85.0 < low && low < 95.83 && 95.83 < high && high <= 100.0, "{ours:?}");
    let partly = cells.iter().find(|row| row[0] == "wbc: d-some-model").unwrap();
    assert_eq!((partly[2].as_str(), partly[4].as_str()), ("90", "some-model, quick, seed 0, 3 of 4 folds"));
    let synthetic = cells.iter().find(|row| row[0] == "wbc: e-further").unwrap();
    assert_eq!((synthetic[1].as_str(), synthetic[4].as_str()), ("e (synthetic)", "W-Net, quick, seed 0, after d"));
    let summary = table["summary"].to_string();
    for text in [
        "INCOMPLETE, means are over the other folds: d-some-model (fold 3)",
        "Left out: begun (no fold is finished)",
        "say nothing about blood",
        "not a ranking",
    ] {
        assert!(summary.contains(text), "{text} not in {summary}");
    }
    let one = cells_of(&json(&w, &["report", "--table", "1", "--run", "e-further"])[0]);
    assert_eq!(one.len(), 17);
    let csv = std::fs::read_to_string(w.path("reports/table-1.csv")).unwrap();
    assert!(csv.starts_with("Study,Data set,Size,C,Methods,Accuracy,Balanced,Pooled,95 % interval\n"), "{csv}");
}

#[test]
fn the_notes_give_intervals_and_limitations() {
    let w = Workdir::new("notes");
    w.untrained_run("d-wnet-quick", |_| (), most);
    let text = |path: &str| std::fs::read_to_string(w.path(path)).unwrap();
    w.wbc(&["report", "--table", "3"]).ok();
    let (path, made) = (w.workspace().run("d-wnet-quick").join("intervals.parquet"), "reports/table-3-d-wnet-quick.md");
    let (intervals, _) = table::read_rows::<IntervalRow>(&path, &INTERVALS).unwrap();
    let find =
        |metric: Metric, method: Method| intervals.iter().find(|r| r.metric == metric && r.method == method).unwrap();
    for (metric, method) in [
        (Metric::BalancedAccuracy, Method::Melded),
        (Metric::Accuracy, Method::Wilson),
        (Metric::Accuracy, Method::CorrectedT),
    ] {
        let row = find(metric, method);
        let interval = format!("{metric} {:.1} to {:.1} %", 100.0 * row.low, 100.0 * row.high);
        assert!(text(made).contains(&interval), "{interval}");
    }
    for note in [
        "Fay et al. 2015",
        "Nadeau & Bengio 2003",
        "monocyte 59.5 to 90.8", // proportion_confint(19, 24, method="wilson") of statsmodels
        "the recall: the share of the class's test images that are predicted correctly, which the paper calls accuracy",
        "As few as 6 test images of a class in a fold: one image changes its recall by 17 points",
        "lymphocytes 95 % (97 % in the table)",
        "CUK images and folds, which are not public",
        "0.4 of activations dropped",
        "Patients are unknown",
    ] {
        assert!(text(made).contains(note), "{note} not in\n{}", text(made));
    }
    // The terminal has a short summary, and all notes on request.
    let lines = |args: &[&str]| {
        let output = w.wbc(&[&["report", "--table", "3"], args].concat()).ok().stdout;
        let below = output.lines().skip_while(|line| !line.starts_with('└')).skip(1);
        below.take_while(|line| !line.starts_with("written: ")).map(String::from).collect::<Vec<_>>()
    };
    let summary = lines(&[]);
    assert!((3..=5).contains(&summary.len()) && summary[0].contains("run d-wnet-quick"), "{summary:?}");
    assert!(summary[1].contains("Balanced accuracy 95.83 % with all folds pooled"), "{summary:?}");
    let notes = lines(&["--notes"]);
    assert!(notes.len() > 15 && notes.starts_with(&summary), "{notes:?}");
    assert!(!text(made).contains("LEAK") && text("reports/table-3-d-wnet-quick.tex").contains("95.8"));

    w.untrained_run("d-further", |r| r.init = init("d"), |_, _, _| Some(true));
    w.wbc(&["report", "--table", "6"]).ok();
    let made = "reports/table-6-d-further.md";
    assert!(
        text(made).contains("LEAK: training started from earlier, which was trained on the same data set"),
        "{}",
        text(made)
    );
    assert!(
        text(made).contains("accuracy 100.00 % (96.9 to 100.0)") && text(made).contains("accuracy 96.9 to 100.0 %"),
        "{}",
        text(made)
    );

    // Intervals are required, and metrics of other predictions are out of date.
    let intervals = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let run = w.wbc(&["report", "--table", "3"]).exits(2);
    assert!(run.stderr.contains("table of intervals not found"), "{}", run.stderr);
    std::fs::write(&path, intervals).unwrap();
    std::fs::copy(
        w.path("data/runs/d-further/predictions.parquet"),
        w.path("data/runs/d-wnet-quick/predictions.parquet"),
    )
    .unwrap();
    let run = w.wbc(&["report", "--table", "3"]).exits(2);
    assert!(
        run.stderr.contains("metrics.parquet: out of date: the table of predictions has changed"),
        "{}",
        run.stderr
    );
    assert!(w.wbc(&["report", "--table", "1"]).ok().stdout.contains("d-wnet-quick (out of date"));
}

/// A run's record does not change because of a field that it does not use.
#[test]
fn a_record_without_earlier_weights_reads_and_writes_as_before() {
    let w = Workdir::new("record");
    w.untrained_run("r", |_| (), most);
    let text = std::fs::read_to_string(w.path("data/runs/r/run.json")).unwrap();
    assert!(!text.contains("\"init\""), "{text}");
    let record = Record::read(&w.workspace(), "r").unwrap();
    assert_eq!(record.init, None);
    let with = Record { init: init("d"), ..record };
    let back: Record = serde_json::from_str(&serde_json::to_string(&with).unwrap()).unwrap();
    assert_eq!(back, with);
}
