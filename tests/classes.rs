//! Data sets and runs of other classes than the paper's: tables, pages, comparison, validation, export.

use crate::common::{Workdir, cells_of, in_chromium, python};
use serde_json::Value;
use std::process::Command;
use wbc::class::{Class, ClassInfo, Classes};
use wbc::predict::external;
use wbc::rows::EpochRow;
use wbc::run::RunDir;
use wbc::schema::EPOCHS;
use wbc::scores::Metric;
use wbc::table::{self, Provenance};

/// A data set of these labels, ingested with each of them as a class: `images` synthetic cells of each.
fn labelled(w: &Workdir, dataset: &str, labels: &[&str], images: usize, seed: u64) {
    let synthetic = format!("{dataset}-synthetic");
    let per_class = (images * labels.len().div_ceil(5)).to_string();
    w.wbc(&[
        "synth",
        "--images",
        &[per_class.as_str(); 5].join(","),
        "--name",
        &synthetic,
        "--seed",
        &seed.to_string(),
    ])
    .ok();
    let mut list = String::from("path,class\n");
    for (i, label) in labels.iter().enumerate() {
        let folder = w.path(format!("data/raw/{synthetic}/{}", Classes::wbc5().at(i % 5)));
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in &files[i / 5 * images..(i / 5 + 1) * images] {
            let name = file.file_name().unwrap().to_str().unwrap();
            w.write(format!("data/raw/{dataset}/{label}/{name}"), std::fs::read(file).unwrap());
            list += &format!("{label}/{name},{label}\n");
        }
    }
    std::fs::remove_dir_all(w.path(format!("data/raw/{synthetic}"))).unwrap();
    w.write(format!("data/raw/{dataset}/list.csv"), list);
    let run = w.wbc(&["ingest", "--dataset", dataset, "--classes", "all"]);
    assert!(run.status < 2, "{}", run.stderr);
}

/// The paper's classes and three more.
fn eight() -> Classes {
    let more = ["ig", "erythroblast", "platelet"].map(|name| ClassInfo::new(Class::new(name)));
    Classes::new(Classes::wbc5().infos().iter().cloned().chain(more))
}

fn numbered(n: usize) -> Classes {
    Classes::named((1..=n).map(|i| Class::new(&format!("kind of cell {i:02}"))))
}

fn tables(w: &Workdir, args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&w.wbc(&[args, &["--json"]].concat()).ok().stdout).unwrap()
}

#[test]
fn tables_of_folds_have_the_runs_classes_and_the_papers_figures_only_beside_the_papers() {
    let w = Workdir::new("classes-tables");
    for (run, classes) in [
        ("two", Classes::named(["blast", "normal"].map(Class::new))),
        ("eight", eight()),
        ("other-order", Classes::new(Classes::wbc5().infos().iter().rev().cloned())),
        ("hundred", numbered(100)),
    ] {
        w.untrained_run(
            run,
            |record| record.classes = classes.clone(),
            |_, class, i| Some(class != classes.at(1) || i > 0),
        );
        let epochs = RunDir::new(&w.workspace(), run).epochs();
        table::write_rows::<EpochRow>(&epochs, &EPOCHS, &Provenance::default(), &[]).unwrap();
        let table = tables(&w, &["report", "--table", "3", "--run", run]).remove(0);
        let rows = cells_of(&table);
        assert_eq!(table["columns"], serde_json::json!(["Class", "Fold-0", "Fold-1", "Fold-2", "Fold-3", "Aver."]));
        assert_eq!(rows.len(), classes.len() + 1);
        assert_eq!(rows[1], [&classes.title(classes.at(1)), "83.3", "83.3", "83.3", "83.3", "83.3"]);
        assert_eq!(rows[classes.len()][0], "Aver. Accuracy");
        let first = table["summary"][0].as_str().unwrap();
        let expected = format!("not for these {} classes: {}", classes.len(), classes.at(0));
        assert!(first.starts_with("The paper's figures are not shown") && first.contains(&expected), "{first}");
        assert!(!table["notes"].to_string().contains("CUK"), "{table}");
        w.wbc(&["report", "--html", "--run", run]).ok();
        let page = std::fs::read_to_string(w.path(format!("reports/{run}.html"))).unwrap();
        assert!(
            classes.iter().all(|class| page.contains(&classes.title(class))) && page.contains("Precision and recall")
        );
        for width in [1200, 500] {
            let Some((content, window, _)) = in_chromium(&w, &w.path(format!("reports/{run}.html")), width, false)
            else {
                break;
            };
            assert!(content <= window, "{run}: at {width} px the page is {content} px wide");
        }
        w.wbc(&["plot", run, "--format", "png"]).ok();
    }
    w.untrained_run("five", |_| (), |_, _, _| Some(true));
    let five = tables(&w, &["report", "--table", "3", "--run", "five"]).remove(0);
    assert_eq!((cells_of(&five).len(), five["columns"][1].as_str()), (12, Some("Source")));
    // Table 1 counts the classes.
    let studies = cells_of(&tables(&w, &["report", "--table", "1"]).remove(0));
    let count = |run: &str| studies.iter().find(|row| row[0] == format!("wbc: {run}")).unwrap()[3].clone();
    assert_eq!([count("two"), count("eight"), count("five")], ["2", "8", "5"]);
    let other = w.wbc(&["compare", "five", "eight"]).exits(2).stderr;
    assert!(other.contains("two runs with the same classes") && other.contains("erythroblast"), "{other}");
    // The order of the classes does not matter.
    w.wbc(&["compare", "five", "other-order"]).ok();
}

#[test]
fn many_classes_become_the_rows_of_tables_of_images() {
    let w = Workdir::new("classes-many");
    w.tiny(2, 4, "", "");
    let labels: Vec<String> = (1..=20).map(|i| format!("kind {i:02}")).collect();
    labelled(&w, "many", &labels.iter().map(String::as_str).collect::<Vec<_>>(), 3, 0);
    w.wbc(&["split", "--stratified", "--folds", "3"]).ok();
    let counts = tables(&w, &["report", "--table", "2"]).remove(0);
    assert_eq!(counts["columns"], serde_json::json!(["Class", "many", "%"]));
    assert_eq!(cells_of(&counts)[19..], [["Kind 20", "3", "5"], ["All", "60", "100"]]);
    assert!(counts["summary"][0].as_str().unwrap().contains("not for these 20 classes"), "{counts}");
    let text = w.wbc(&["report", "--table", "2"]).ok().stdout;
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    w.wbc(&["inspect"]);
    let page = std::fs::read_to_string(w.path("reports/many-data.html")).unwrap();
    assert!(page.contains("20 of 20") && page.contains("<td class=\"left\">Kind 20</td>"));
    for width in [1200, 500] {
        let Some((content, window, _)) = in_chromium(&w, &w.path("reports/many-data.html"), width, false) else {
            break;
        };
        assert!(content <= window, "at {width} px the page is {content} px wide");
    }
    // Beside the paper's classes stand the paper's counts; classes that a data set does not have are not 0.
    w.split("five", "60", 1);
    let both = tables(&w, &["report", "--table", "2"]).remove(0);
    assert_eq!(both["columns"], serde_json::json!(["Class", "five", "%", "many", "%", "CUK (paper)", "%"]));
    assert_eq!(cells_of(&both)[0][3..], ["-", "-", "2006", "30"]);
}

#[test]
fn two_classes_from_images_to_predictions_validation_and_export() {
    let w = Workdir::new("classes-two");
    w.tiny(2, 4, "", "");
    labelled(&w, "d", &["blast", "normal"], 20, 0);
    w.wbc(&["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"]).ok();
    w.train("d", "r");
    let table = cells_of(&tables(&w, &["report", "--table", "3", "--run", "r"]).remove(0));
    assert_eq!(table.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["Blast", "Normal", "Aver. Accuracy"]);

    let said = w.wbc(&["predict", "r", "data/raw/d/blast", "--output", "cells.csv"]).ok().stdout;
    assert!(said.contains("the models know 2 classes") && !said.contains("usual in adults"), "{said}");
    let csv = std::fs::read_to_string(w.path("cells.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with("flag,training_image,p_blast,p_normal"), "{csv}");

    w.wbc(&["explain", "r:0", "data/raw/d/normal", "--class", "BLAST", "--patch", "16", "--output", "maps"]).ok();
    let unknown = w.wbc(&["explain", "r", "data/raw/d/normal", "--class", "monocyte"]).exits(2).stderr;
    assert!(unknown.contains("one of: blast, normal"), "{unknown}");

    // The other data set lacks a class and has one that the run does not know.
    labelled(&w, "other", &["normal", "artefact", "smudge"], 7, 3);
    let said = w.wbc(&["validate", "r", "--dataset", "other"]).exits(1).stdout;
    for part in [
        "run r on other: 2 models averaged, 7 images\n",
        "left out: 14 images of classes that the run does not know: artefact 7, smudge 7\n",
        "other has no usable image of blast: metrics are over the one other class; ",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let validation = external::list(&w.workspace(), "r").unwrap().remove(0);
    let correct = validation.predictions.iter().filter(|row| row.probabilities[1] > row.probabilities[0]).count();
    let share = correct as f64 / 7.0;
    assert_eq!(validation.value(Metric::BalancedAccuracy, None), Some(share));
    assert_eq!(validation.value(Metric::Recall, Some(Class::new("blast"))), None);
    assert_eq!(validation.about.coverage.predicted_lacking, 7 - correct as u64);
    w.wbc(&["report", "--html", "--run", "r"]).ok();
    let page = std::fs::read_to_string(w.path("reports/r.html")).unwrap();
    assert!(page.contains("Left out: 14 images of classes that the run does not know: artefact 7, smudge 7."));
    labelled(&w, "none", &["artefact", "smudge"], 5, 4);
    let none = w.wbc(&["validate", "r", "--dataset", "none"]).exits(2).stderr;
    assert!(none.contains("a class that r knows: blast, normal") && none.contains("artefact 5, smudge 5"), "{none}");

    w.wbc(&["export", "r", "--to", "onnx"]).ok();
    let card = std::fs::read_to_string(w.path("exports/r/README.md")).unwrap();
    assert!(
        card.contains("2 classes, in the order of the outputs: blast, normal.") && card.contains("`[n, 2]`"),
        "{card}"
    );
    let Some(python) = python("onnx", &["onnxruntime", "numpy", "PIL"], &["onnxruntime", "numpy", "pillow"]) else {
        return;
    };
    let image = std::fs::read_dir(w.path("data/raw/d/blast")).unwrap().next().unwrap().unwrap().path();
    let output = Command::new(python)
        .args(["exports/r/onnx_example.py", "exports/r/fold-00.onnx", "exports/r/fold-01.onnx", "--"])
        .arg(image)
        .current_dir(w.path("."))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(" blast ") || text.contains(" normal "), "{output:?}");
}
