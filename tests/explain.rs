//! `wbc explain`: which parts of a cell the networks of a run use.

use crate::common::{FIVE, Workdir};
use serde_json::Value;
use wbc::class::Class;

fn trained() -> Workdir {
    let w = Workdir::new("explain");
    w.tiny(2, 6, "", "learning_rate = 2e-3");
    w.split("d", "150", 0);
    w.wbc(&["synth", "--layout", "lisc", "--images", "5", "--name", "frames", "--seed", "6"]).ok();
    w.train("d", "r");
    w
}

fn cells(summary: &Value) -> &[Value] {
    summary["cells"].as_array().unwrap()
}

fn file(w: &Workdir, row: &Value) -> Vec<u8> {
    std::fs::read(w.path(row["file"].as_str().unwrap())).unwrap()
}

/// Runs `wbc explain` and checks every cell's image and numbers.
fn explained(w: &Workdir, args: &[&str]) -> Value {
    let text = w.wbc(&[&["explain", "--json"], args].concat()).ok().stdout;
    let summary: Value = serde_json::from_str(&text).unwrap();
    for row in cells(&summary) {
        let sheet = image::load_from_memory(&file(w, row)).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (1248, 580));
        for map in [&row["grad_cam"], &row["occlusion"]] {
            let counts = !map["x_px"].is_null();
            assert!(map["x_px"].as_u64().is_none_or(|x| x < 32) && map["y_px"].is_null() != counts, "{row}");
            assert!(map["within_cell"].as_f64().is_none_or(|s| counts && (0.0..=1.0).contains(&s)), "{row}");
        }
    }
    summary
}

#[test]
fn new_cells_and_the_gallery_are_explained() {
    let w = trained();
    let first = |class: Class| {
        let dir = format!("data/raw/d/{class}");
        let names = std::fs::read_dir(w.path(&dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        format!("{dir}/{}", names.min().unwrap())
    };
    let first = FIVE.map(first);
    w.write("list.txt", first.join("\n"));
    let new = explained(&w, &["r", "list.txt"]);
    assert_eq!((&new["models"], cells(&new).len()), (&2.into(), 5));
    assert_eq!((&new["patch_px"], &new["stride_px"]), (&4.into(), &2.into()));
    // Class and probability are those of `wbc predict`.
    w.wbc(&["predict", "r", "list.txt", "--format", "json"]).ok();
    let predicted: Vec<Value> = serde_json::from_slice(&std::fs::read(w.path("cells.json")).unwrap()).unwrap();
    for (row, cell) in cells(&new).iter().zip(predicted) {
        assert_eq!((&row["path"], &row["class"]), (&cell["path"], &cell["class"]));
        assert_eq!(row["probability"], cell["confidence"]);
        assert!(
            row["cell_share"].as_f64().is_some_and(|s| (0.05..0.9).contains(&s)),
            "synthetic cells are segmented: {row}"
        );
    }
    assert_eq!(new["within_cell"]["image"]["cells"], 5);
    // The same bytes on one thread.
    let once = explained(&w, &["r", "list.txt", "--output", "again", "--threads", "1"]);
    for (a, b) in cells(&new).iter().zip(cells(&once)) {
        assert!(file(&w, a) == file(&w, b) && a["occlusion"] == b["occlusion"], "{a} and {b}");
    }
    // Another class has other maps.
    let other = explained(&w, &["r:1", &first[0], "--class", "Monocyte", "--patch", "16", "--stride", "16"]);
    assert_eq!((&cells(&other)[0]["explained"], &other["models"]), (&"monocyte".into(), &1.into()));

    let frames = explained(&w, &["r", "data/raw/frames/Main Dataset", "--shows", "frame", "--patch", "16"]);
    assert!(cells(&frames).len() >= 4 && cells(&frames).iter().all(|c| c["box_px"].is_array()), "{frames}");

    let gallery = explained(&w, &["r", "--gallery=all", "--patch", "16", "--output", "gallery"]);
    let is_mistake = |c: &&Value| c["file"].as_str().unwrap().contains("mistake-");
    assert!(cells(&gallery).iter().filter(is_mistake).all(|c| c["truth"] != c["class"]), "{gallery}");
    assert_eq!(cells(&gallery).len() - cells(&gallery).iter().filter(is_mistake).count(), 40);
    let output = w.wbc(&["explain", "r:0", "--gallery=examples", "--patch", "16"]).ok().stdout;
    assert!(output.contains("within the cell:") && output.contains("show where, not why"), "{output}");
}

#[test]
fn what_cannot_be_explained_is_refused_with_a_reason() {
    let w = trained();
    let some = std::fs::read_dir(w.path("data/raw/d/neutrophil")).unwrap().next().unwrap().unwrap().path();
    let image = some.to_str().unwrap();
    for (args, message) in [
        (vec!["s", image], "Runs: r"),
        (vec!["r:7", image], "expected 0 to 1, a fold of r"),
        (vec!["r:7", "--gallery"], "one of its folds, 0 to 1"),
        (vec!["r", image, "--class", "platelet"], "one of: neutrophil, eosinophil"),
        (vec!["r", image, "--patch", "33"], "setting `patch`: expected 1 to 32"),
        (vec!["r", image, "--patch", "8", "--stride", "9"], "setting `stride`: expected 1 to 8"),
        (vec!["r", "nowhere"], "nowhere"),
        (vec!["r"], "PATH"),
        (vec!["r", image, "--gallery"], "cannot be used with"),
    ] {
        let refused = w.wbc(&[&["explain"], &args[..]].concat()).exits(2).stderr;
        assert!(refused.contains(message), "{args:?}: {refused}");
    }
    assert!(!w.path("explanations").exists(), "a refused command writes nothing");
    w.wbc(&["train", "--dataset", "d", "--pipeline", "knn", "--run", "near", "--fold", "0"]).ok();
    // A classical classifier has features instead of maps.
    let refused = w.wbc(&["explain", "near", image, "--patch", "4"]).exits(2).stderr;
    assert!(refused.contains("setting `patch`") && refused.contains("occlusion maps"), "{refused}");
    w.wbc(&["explain", "near", image, "--output", "near"]).ok();
    assert!(w.path("near/contributions.csv").is_file());
    // A torn file is reported, and the other is explained.
    w.write("mixed/torn.jpg", &std::fs::read(&some).unwrap()[..900]);
    w.write("mixed/whole.jpg", std::fs::read(&some).unwrap());
    let mixed = w.wbc(&["explain", "r", "mixed"]).exits(1);
    assert!(mixed.stderr.contains("torn.jpg") && w.path("explanations/r/whole.png").is_file(), "{mixed:?}");
    // Without the run's tensors there is no gallery.
    std::fs::remove_dir_all(w.path("data/d/tensors-32")).unwrap();
    assert!(w.wbc(&["explain", "r", "--gallery"]).exits(2).stderr.contains("wbc preprocess"));
}
