//! Several data sets: trained on together (`wbc train --datasets`), each tested by models of the others
//! (`wbc laboratories`), and a run that is adapted to another one (`wbc adapt`).

use crate::common::{FIVE, Workdir, predicted, predictions};
use std::collections::{BTreeMap, BTreeSet};
use wbc::run::Record;
use wbc::split;

/// Two data sets of synthetic cells: `b` has a copy of an image of `a`, and both have a subject of one name.
fn two(name: &str) -> Workdir {
    let w = Workdir::new(name);
    w.tiny(2, 2, "", "learning_rate = 2e-3");
    w.wbc(&["synth", "--images", "10,10,10,10,10", "--name", "a", "--seed", "1"]).ok();
    w.wbc(&["synth", "--images", "12,12,12,12,12", "--name", "b", "--seed", "2"]).ok();
    let original = first_image(&w, "a", "monocyte");
    std::fs::copy(original, w.path("data/raw/b/monocyte/again.jpg")).unwrap();
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]);
    w
}

fn first_image(w: &Workdir, dataset: &str, class: &str) -> std::path::PathBuf {
    let entries = std::fs::read_dir(w.path(format!("data/raw/{dataset}/{class}"))).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.remove(0)
}

#[test]
fn data_sets_are_trained_on_together_with_copies_in_one_fold() {
    let w = two("together");
    let train = ["train", "--pipeline", "tiny.toml", "--datasets"];
    let run = w.wbc(&[&train[..], &["b,a"]].concat()).ok();
    assert!(run.stderr.contains("1 pair of images of two data sets show the same"), "{}", run.stderr);
    assert!(run.stderr.contains("equally many images from each data set"), "{}", run.stderr);
    let (ws, name) = (w.workspace(), "a+b");
    // Every cell of both, under its own name.
    let cells = w.manifest(name);
    assert_eq!(cells.len(), w.manifest("a").len() + w.manifest("b").len());
    for cell in &cells {
        assert_eq!(cell.image_id, cell.path, "the path starts with the name of the member");
        assert!(w.path("data/raw").join(&cell.path).is_file(), "{}", cell.path);
    }
    // The copy and its original are in one fold, and every fold has every class of each.
    let splits = split::read(&ws, name).unwrap();
    let original = first_image(&w, "a", "monocyte").file_name().unwrap().to_str().unwrap().to_string();
    assert_eq!(splits.place("b/monocyte/again.jpg"), splits.place(&format!("a/monocyte/{original}")));
    assert!(splits.place("b/monocyte/again.jpg").is_some());
    for fold in [0, 1] {
        let found: BTreeSet<String> = splits.test(fold).map(|id| id.rsplit_once('/').unwrap().0.to_string()).collect();
        assert_eq!(found.len(), 10, "fold {fold} tests {found:?}");
    }
    // Each image has a prediction by a fold that was not trained on it, and the record says how images were drawn.
    let rows = predictions(&w.path("data/runs/a+b-wnet-tiny/predictions.parquet"));
    assert_eq!(rows.len(), splits.images().count());
    assert!(rows.iter().all(|row| splits.place(&row.image_id) == Some(split::Place::Fold(row.fold))));
    let record = Record::read(&ws, "a+b-wnet-tiny").unwrap();
    assert_eq!(serde_json::to_value(&record.recipe).unwrap()["sampling"], "laboratory");
    // The other order is the same data set and run: nothing is done again.
    let again = w.wbc(&[&train[..], &["a,b"]].concat()).ok();
    assert!(again.stdout.contains("up to date: fold 0, 1"), "{}", again.stdout);
    // The other commands know the joint data set by its name.
    w.wbc(&["report", "--table", "3", "--run", "a+b-wnet-tiny"]).ok();
    w.wbc(&["report", "--html", "--run", "a+b-wnet-tiny"]).ok();
    let refused = w.wbc(&["check", "--dataset", name]).exits(2);
    assert!(refused.stderr.contains("which is made of these"), "{}", refused.stderr);
    w.wbc(&["verify"]).ok();
    // Its images are those of its members: not counted twice, and not said to have changed.
    let counts = w.wbc(&["report", "--table", "2"]).ok();
    assert!(!counts.stdout.contains(name), "{}", counts.stdout);
    let shown = w.wbc(&["inspect", "--dataset", name]);
    assert!(shown.status < 2 && !shown.stdout.contains("changed"), "{}", shown.stdout);
    // No model is validated on a data set that it was trained on.
    let refused = w.wbc(&["validate", "a+b-wnet-tiny", "--dataset", "a"]).exits(2);
    assert!(refused.stderr.contains("that a+b-wnet-tiny was not trained on"), "{}", refused.stderr);

    // A member that changes is joined again; until then, its old images are not trained on.
    std::fs::copy(first_image(&w, "b", "neutrophil"), w.path("data/raw/a/neutrophil/new.jpg")).unwrap();
    w.wbc(&["ingest", "--dataset", "a"]);
    let stale = w.wbc(&["train", "--pipeline", "tiny.toml", "--dataset", name, "--run", "other"]).exits(2);
    assert!(stale.stderr.contains("a has changed since it was joined"), "{}", stale.stderr);
    assert!(stale.stderr.contains("Run: wbc train --datasets a,b"), "{}", stale.stderr);
    let other_data = w.wbc(&[&train[..], &["a,b"]].concat()).exits(2);
    assert!(other_data.stderr.contains("--restart"), "{}", other_data.stderr);
    let run = w.wbc(&[&train[..], &["a,b", "--restart"]].concat()).ok();
    assert!(run.stderr.contains("2 pairs of images"), "{}", run.stderr);
}

#[test]
fn what_cannot_be_joined_is_refused_and_what_is_left_out_is_named() {
    let w = Workdir::new("not-joined");
    w.tiny(2, 1, "", "");
    for (name, seed) in [("a", "1"), ("b", "2")] {
        w.wbc(&["synth", "--images", "40", "--name", name, "--seed", seed]).ok();
    }
    w.wbc(&["ingest", "--dataset", "a"]);
    w.wbc(&["ingest", "--dataset", "b", "--classes", "neutrophil,monocyte,basophil"]);
    let train = |datasets: &str| w.wbc(&["train", "--pipeline", "tiny.toml", "--fold", "0", "--datasets", datasets]);
    for (datasets, found) in [("a", "at least two"), ("a,a", "at least two"), ("a,c", "one of: a, b")] {
        let refused = train(datasets).exits(2);
        assert!(refused.stderr.contains(found), "{datasets}: {}", refused.stderr);
    }
    let run = train("a,b").ok();
    assert!(run.stderr.contains("left out: 8 images of eosinophil, a class that not every one"), "{}", run.stderr);
    let record = Record::read(&w.workspace(), "a+b-wnet-tiny").unwrap();
    assert_eq!(record.classes.len(), 3);
    // A folder of that name would be meant.
    std::fs::create_dir(w.path("data/raw/a+b")).unwrap();
    let refused = train("a,b").exits(2);
    assert!(refused.stderr.contains("no folder of this name"), "{}", refused.stderr);
    std::fs::remove_dir(w.path("data/raw/a+b")).unwrap();
    // Too few classes in common.
    w.wbc(&["ingest", "--dataset", "b", "--classes", "eosinophil,lymphocyte"]);
    w.wbc(&["ingest", "--dataset", "a", "--classes", "neutrophil,eosinophil"]);
    let refused = train("a,b").exits(2);
    assert!(refused.stderr.contains("at least two classes that all of the data sets have"), "{}", refused.stderr);
}

#[test]
fn every_laboratory_is_tested_by_models_that_never_saw_it() {
    let w = two("laboratories");
    w.wbc(&["synth", "--images", "15,11,3,8,8", "--name", "c", "--seed", "3"]).ok();
    w.wbc(&["ingest", "--dataset", "c"]);
    w.wbc(&["split", "--stratified", "--dataset", "c", "--pipeline", "tiny.toml"]).ok();
    let arguments = ["laboratories", "--datasets", "a,b,c", "--pipeline", "tiny.toml", "--json"];
    let run = w.wbc(&arguments).ok();
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let fields = report["fields"].as_array().unwrap();
    // Three alone on each of three, all others on each, all together on each.
    assert_eq!(fields.len(), 9 + 3 + 3);
    let field = |run: &str, tested: &str| {
        let is_it = |field: &&serde_json::Value| field["run"] == run && field["tested"] == tested;
        fields.iter().find(is_it).unwrap_or_else(|| panic!("{run} on {tested}"))
    };
    // The figures agree with the predictions, counted here.
    let check = |field: &serde_json::Value, path: &str, of: &str| {
        let rows: Vec<_> = predictions(&w.path(path)).into_iter().filter(|row| row.image_id.starts_with(of)).collect();
        let mut counts: BTreeMap<_, [u64; 2]> = BTreeMap::new();
        for row in &rows {
            let of_class = counts.entry(row.truth).or_default();
            of_class[0] += u64::from(predicted(row) == row.truth);
            of_class[1] += 1;
        }
        // Classes with fewer than five images do not count: c has three basophils.
        let many = counts.values().filter(|[_, all]| *all >= 5);
        let recalls: Vec<f64> = many.map(|[correct, all]| *correct as f64 / *all as f64).collect();
        assert_eq!(recalls.len(), if of == "c/" { 4 } else { 5 });
        let balanced = recalls.iter().sum::<f64>() / recalls.len() as f64;
        assert!((field["score"]["balanced_accuracy"].as_f64().unwrap() - balanced).abs() < 1e-9, "{path}");
        assert_eq!(field["score"]["images"].as_u64().unwrap(), rows.len() as u64, "{path}");
        assert_eq!(field["missing"], 0);
    };
    check(field("a-wnet-tiny", "a"), "data/runs/a-wnet-tiny/predictions.parquet", "a/");
    check(field("a-wnet-tiny", "b"), "data/runs/a-wnet-tiny/external/b-all/predictions.parquet", "b/");
    check(field("b+c-wnet-tiny", "a"), "data/runs/b+c-wnet-tiny/external/a-all/predictions.parquet", "a/");
    check(field("a+b+c-wnet-tiny", "c"), "data/runs/a+b+c-wnet-tiny/predictions.parquet", "c/");
    // The copy of an image of a is not tested by a model that was trained on a.
    assert_eq!(field("a-wnet-tiny", "b")["score"]["images"], w.manifest("b").len() as u64 - 1);
    let page = std::fs::read_to_string(w.path("reports/laboratories.html")).unwrap();
    assert!(page.contains("all others") && page.contains("all together"));
    assert!(page.contains("c has fewer than 5 images of basophil (3)"));
    // The same command again trains and validates nothing, and says the same.
    let before = std::fs::metadata(w.path("data/runs/a-wnet-tiny/external/b-all/about.json")).unwrap().modified();
    let again = w.wbc(&arguments).ok();
    assert!(!again.stderr.contains("trained:"), "{}", again.stderr);
    assert_eq!(again.stdout, run.stdout);
    let after = std::fs::metadata(w.path("data/runs/a-wnet-tiny/external/b-all/about.json")).unwrap().modified();
    assert_eq!(before.unwrap(), after.unwrap());
}

#[test]
fn a_run_is_adapted_with_a_few_labels() {
    let w = Workdir::new("adapt");
    w.tiny(2, 4, "", "learning_rate = 2e-3");
    w.split("a", "100", 1);
    w.wbc(&["train", "--dataset", "a", "--pipeline", "tiny.toml", "--run", "r", "--all"]).ok();
    w.wbc(&["synth", "--images", "80", "--name", "source", "--seed", "2"]).ok();
    // A folder without labels.
    let mut labels = BTreeMap::new();
    for class in FIVE {
        for entry in std::fs::read_dir(w.path(format!("data/raw/source/{class}"))).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("cell-{}", path.file_name().unwrap().to_str().unwrap());
            w.write(format!("data/raw/mine/{name}"), std::fs::read(&path).unwrap());
            labels.insert(name, class);
        }
    }
    std::fs::remove_dir_all(w.path("data/raw/source")).unwrap();
    let adapt = ["adapt", "r", "--dataset", "mine", "--label", "30"];
    let run = w.wbc(&adapt).ok();
    assert!(run.stdout.contains("30 of 80 cells chosen to be labelled"), "{}", run.stdout);
    let list = std::fs::read_to_string(w.path("reports/mine-to-label.csv")).unwrap();
    let names: Vec<&str> = list.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!((list.lines().next(), names.len()), (Some("path,label"), 30), "{list}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 30);
    assert!(std::fs::read_to_string(w.path("reports/mine-to-label.html")).unwrap().contains(names[0]));
    // Filled in, it is a data set; with all labels used, nothing is left to measure on.
    let filled: String = names.iter().map(|name| format!("{name},{}\n", labels[*name])).collect();
    w.write("data/raw/mine/labels.csv", format!("path,label\n{filled}"));
    w.wbc(&["ingest", "--dataset", "mine"]);
    let run = w.wbc(&adapt).ok();
    assert!(run.stdout.contains("Too few labelled cells (0) are left to measure on"), "{}", run.stdout);
    assert!(w.path("data/runs/r-mine-30").is_dir());

    // With more labels, the learning curve is measured on the cells that are not chosen, and on no other.
    let all: String = labels.iter().map(|(name, class)| format!("{name},{class}\n")).collect();
    w.write("data/raw/mine/labels.csv", format!("path,label\n{all}"));
    w.wbc(&["ingest", "--dataset", "mine"]);
    std::fs::remove_dir_all(w.path("data/runs/r-mine-30")).unwrap();
    let run = w.wbc(&[&adapt[..], &["--json"]].concat()).ok();
    let adapted: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let curve = adapted["curve"].as_array().unwrap();
    let labelled: Vec<u64> = curve.iter().map(|point| point["labelled"].as_u64().unwrap()).collect();
    assert_eq!(labelled, [0, 10, 25, 30]);
    assert!(curve.iter().all(|point| point["score"]["images"] == 50), "{curve:?}");
    let trained = |n: u64| -> BTreeSet<String> {
        let splits = split::read(&w.workspace(), &format!("a+mine-{n}")).unwrap();
        splits.images().map(|(id, _)| id.to_string()).filter(|id| id.starts_with("mine/")).collect()
    };
    assert_eq!((trained(10).len(), trained(25).len(), trained(30).len()), (10, 25, 30));
    assert!(trained(10).is_subset(&trained(25)) && trained(25).is_subset(&trained(30)), "each has those before");
    let path = "data/runs/r-mine-30/external/mine-all/predictions.parquet";
    let tested: BTreeSet<String> = predictions(&w.path(path)).into_iter().map(|row| row.image_id).collect();
    assert!(tested.is_disjoint(&trained(30)) && tested.len() == 50, "no cell is tested that was trained on");
    // The adapted run is a run like others.
    w.wbc(&["predict", "r-mine-30", "data/raw/mine"]);
    assert!(w.path("cells.parquet").is_file());

    // Where patients are known, cells of other patients are chosen than those that are measured on.
    let person = |name: &str| format!("P{}", name.bytes().map(u32::from).sum::<u32>() % 4);
    let of_people: String = labels.iter().map(|(name, class)| format!("{name},{class},{}\n", person(name))).collect();
    w.write("data/raw/mine/labels.csv", format!("path,label,subject_id\n{of_people}"));
    w.wbc(&["ingest", "--dataset", "mine"]);
    let refused = w.wbc(&["adapt", "r", "--dataset", "mine", "--label", "10"]).exits(2);
    assert!(refused.stderr.contains("--restart"), "{}", refused.stderr);
    let run = w.wbc(&["adapt", "r", "--dataset", "mine", "--label", "10", "--restart"]).ok();
    assert!(run.stdout.contains("of patients or slides of mine of whom no cell was chosen"), "{}", run.stdout);
    let people = |ids: BTreeSet<String>| -> BTreeSet<String> {
        ids.iter().map(|id| person(id.strip_prefix("mine/").unwrap())).collect()
    };
    let path = "data/runs/r-mine-10/external/mine-all/predictions.parquet";
    let tested: BTreeSet<String> = predictions(&w.path(path)).into_iter().map(|row| row.image_id).collect();
    assert!(people(tested).is_disjoint(&people(trained(10))), "no patient is on both sides");

    for (arguments, found) in [
        (vec!["adapt", "r", "--dataset", "a", "--label", "10"], "was not trained on"),
        (vec!["adapt", "r", "--label", "10"], "dataset"),
        (vec!["adapt", "r", "--dataset", "mine", "--label", "1"], "at least 2 cells"),
        (vec!["adapt", "r", "--dataset", "nowhere", "--label", "10"], "nowhere"),
        (vec!["adapt", "missing", "--dataset", "mine", "--label", "10"], "run not found"),
    ] {
        let refused = w.wbc(&arguments).exits(2);
        assert!(refused.stderr.contains(found), "{arguments:?}: {}", refused.stderr);
    }
}
