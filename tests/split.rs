//! `wbc split`.

use crate::common::{FIVE, Workdir, of_five_classes};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wbc::class::Class;
use wbc::dataset::unchecked;
use wbc::rows::{IntervalRow, ManifestRow, PredictionRow};
use wbc::schema::{CHECKS, INTERVALS, MANIFEST, PREDICTIONS};
use wbc::scores::Method;
use wbc::split::{self, Place, assign, balance};
use wbc::table::{self, Provenance};
use wbc::workspace::Workspace;

proptest! {
    #[test]
    fn no_group_is_in_two_folds(
        images in prop::collection::vec((0..5usize, 0..40u32), 1..300), folds in 2..12u32, seed: u64,
    ) {
        let classes: Vec<usize> = images.iter().map(|(c, _)| *c).collect();
        let groups: Vec<String> = images.iter().map(|(_, g)| g.to_string()).collect();
        let whole = |fold_of: &[u32]| {
            let mut fold_of_group = BTreeMap::new();
            groups.iter().zip(fold_of).all(|(group, fold)| {
                *fold < folds && *fold_of_group.entry(group).or_insert(*fold) == *fold
            })
        };
        let mut fold_of = assign(&classes, &groups, folds, seed);
        prop_assert!(fold_of.len() == images.len() && whole(&fold_of));
        prop_assert_eq!(assign(&classes, &groups, folds, seed), fold_of.clone());
        let filled = |fold_of: &[u32]| fold_of.iter().collect::<BTreeSet<_>>().len();
        let before = (unevenness(&classes, &fold_of, folds), filled(&fold_of));
        balance(&classes, &groups, folds, &mut fold_of);
        prop_assert!(whole(&fold_of) && filled(&fold_of) >= before.1);
        prop_assert!(unevenness(&classes, &fold_of, folds) <= before.0 + 1e-9);
    }

    #[test]
    fn single_images_are_spread_evenly(
        images in prop::collection::vec(0..5usize, 1..400), folds in 2..12u32, seed: u64,
    ) {
        let groups: Vec<String> = (0..images.len()).map(|i| format!("{i:04}")).collect();
        let fold_of = assign(&images, &groups, folds, seed);
        let spread = |of: &dyn Fn(usize) -> bool| {
            let counts = (0..folds).map(|f| (0..images.len()).filter(|&i| fold_of[i] == f && of(i)).count());
            let counts: Vec<usize> = counts.collect();
            counts.iter().max().unwrap() - counts.iter().min().unwrap()
        };
        for class in 0..5 {
            prop_assert!(spread(&|i| images[i] == class) <= 1);
        }
        prop_assert!(spread(&|_| true) <= 1);
    }
}

/// Sum over folds, and over classes and the total, of the squared share of the class.
fn unevenness(classes: &[usize], fold_of: &[u32], folds: u32) -> f64 {
    let share = |fold: u32, class: Option<usize>| {
        let all = classes.iter().filter(|c| class.is_none_or(|class| **c == class)).count();
        let own = classes.iter().zip(fold_of).filter(|(c, f)| **f == fold && class.is_none_or(|class| **c == class));
        own.count() as f64 / all.max(1) as f64
    };
    (0..folds).flat_map(|f| (0..5).map(Some).chain([None]).map(move |c| share(f, c).powi(2))).sum()
}

#[test]
fn patients_of_different_sizes_fill_folds_evenly() {
    // Twelve patients with 10 to 120 images and their own proportions of three classes.
    let (mut classes, mut groups) = (Vec::new(), Vec::new());
    for patient in 1..=12usize {
        for i in 0..10 * patient {
            classes.push(if i % 4 < patient % 4 { 0 } else { 1 + i % 2 });
            groups.push(format!("P{patient:02}"));
        }
    }
    let mut fold_of = assign(&classes, &groups, 4, 1);
    balance(&classes, &groups, 4, &mut fold_of);
    let sizes: Vec<usize> = (0..4).map(|f| fold_of.iter().filter(|fold| **fold == f).count()).collect();
    assert!(sizes.iter().all(|n| (165..=225).contains(n)), "{sizes:?} of 780");
}

fn row(n: usize, class: Option<Class>) -> ManifestRow {
    let image_id = format!("d/{n:04}.jpg");
    ManifestRow {
        image_id,
        dataset: "d".into(),
        path: format!("{n:04}.jpg"),
        class,
        layout: "cuk".into(),
        format: "jpeg".into(),
        width_px: 360,
        height_px: 361,
        file_bytes: 1,
        content_hash: format!("{n:064}"),
        ..Default::default()
    }
}

fn rows(n: usize) -> Vec<ManifestRow> {
    (0..n).map(|i| row(i, Some(FIVE[i % 5]))).collect()
}

/// A workspace with a manifest, and checks that leave out each of `bad`.
fn workspace(w: &Workdir, rows: &[ManifestRow], bad: &[&str]) -> Workspace {
    let ws = Workspace::new(w.path("data"));
    table::write_rows(&ws.manifest("d"), &MANIFEST, &of_five_classes(), rows).unwrap();
    let mut checks = unchecked(rows);
    for check in checks.iter_mut().filter(|c| bad.contains(&c.image_id.as_str())) {
        check.left_out = Some("label_conflict".into());
    }
    let inputs = [("manifest".to_string(), table::file_hash(&ws.manifest("d")).unwrap())].into();
    let made = Provenance { stage: "check".into(), inputs, ..Default::default() };
    table::write_rows(&ws.checks("d"), &CHECKS, &made, &checks).unwrap();
    ws
}

#[test]
fn every_usable_image_is_tested_once_and_the_rest_is_named() {
    let w = Workdir::new("split");
    let mut all = rows(60);
    all.push(row(60, None));
    let ws = workspace(&w, &all, &["d/0007.jpg"]);
    let run = w.wbc(&["split", "--stratified"]).exits(1);
    assert!(run.stdout.contains("left out: 1 image (label_conflict)"), "{}", run.stdout);
    assert!(run.stdout.contains("patients are not known"), "{}", run.stdout);
    assert!(run.stdout.contains("left out: 1 image (no_class)"), "{}", run.stdout);
    let splits = split::read(&ws, "d").unwrap();
    assert_eq!((splits.folds, splits.images().count()), (10, 59));
    assert!(splits.place("d/0007.jpg").is_none() && splits.place("d/0060.jpg").is_none());
    for fold in 0..10 {
        let (test, train): (BTreeSet<_>, BTreeSet<_>) = (splits.test(fold).collect(), splits.train(fold).collect());
        assert!(test.is_disjoint(&train) && test.len() + train.len() == 59);
    }
}

#[test]
fn the_seed_alone_decides() {
    let w = Workdir::new("split-seed");
    let ws = workspace(&w, &rows(200), &[]);
    let bytes = |args: &[&str]| {
        w.wbc(args).ok();
        std::fs::read(ws.splits("d")).unwrap()
    };
    let one = bytes(&["split", "--threads", "1", "--seed", "7"]);
    assert!(one == bytes(&["split", "--stratified", "--threads", "2", "--seed", "7"]));
    assert!(one != bytes(&["split", "--seed", "8"]));
}

#[test]
fn bad_input_is_an_error() {
    let w = Workdir::new("split-bad");
    let ws = workspace(&w, &rows(7), &[]);
    let run = w.wbc(&["split"]).exits(2);
    assert!(run.stderr.contains("7 images") && run.stderr.contains("--folds 7"), "{}", run.stderr);
    assert!(!ws.splits("d").exists());
    for folds in ["1", "1001", "4294967295"] {
        assert!(w.wbc(&["split", "--folds", folds]).exits(2).stderr.contains("expected 2 to 1000"), "{folds}");
    }
    let few = w.wbc(&["split", "--folds", "3"]).exits(1);
    assert!(few.stdout.contains("class basophil has 1 image in one group"), "{}", few.stdout);

    workspace(&w, &rows(8), &[]);
    let stale = split::read(&ws, "d").unwrap_err().to_string();
    assert!(stale.contains("out of date") && stale.contains("the manifest has changed"), "{stale}");

    workspace(&w, &[row(0, None)], &[]);
    assert!(w.wbc(&["split"]).exits(2).stderr.contains("images with a class"));
    let unchecked = Workdir::new("split-unchecked");
    let ws = workspace(&unchecked, &rows(7), &[]);
    std::fs::remove_file(ws.checks("d")).unwrap();
    assert!(unchecked.wbc(&["split"]).exits(2).stderr.contains("Run: wbc check --dataset d"));
    let empty = Workdir::new("split-empty");
    assert!(empty.wbc(&["split"]).exits(2).stderr.contains("wbc ingest"));
}

/// Rows of patients P0 to P`patients`-1, `each` images each, with all classes.
fn patients(patients: usize, each: usize) -> Vec<ManifestRow> {
    let subject = |n: usize| Some(format!("P{}", n / each));
    (0..patients * each).map(|n| ManifestRow { subject_id: subject(n), ..row(n, Some(FIVE[n % 5])) }).collect()
}

/// The places of a subject's images.
fn places(ws: &Workspace, rows: &[ManifestRow], subject: &str) -> Vec<Place> {
    let splits = split::read(ws, "d").unwrap();
    let mut places: Vec<Place> = Vec::new();
    for row in rows.iter().filter(|row| row.subject_id.as_deref() == Some(subject)) {
        let place = splits.place(&row.image_id).unwrap();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[test]
fn a_patient_is_in_one_fold_with_all_copies() {
    let w = Workdir::new("split-patients");
    let mut rows = patients(8, 20);
    // A copy of an image of P1 in P2 joins the two.
    rows[45].content_hash = rows[25].content_hash.clone();
    let ws = workspace(&w, &rows, &[]);
    let run = w.wbc(&["split", "--folds", "4"]).exits(1);
    assert!(run.stdout.starts_with("d: 160 images in 7 groups, 4 folds"), "{}", run.stdout);
    assert!(run.stdout.contains("by patient: 8 subjects"), "{}", run.stdout);
    assert!(run.stdout.contains("subjects P1, P2 have copies"), "{}", run.stdout);
    for patient in 0..8 {
        assert_eq!(places(&ws, &rows, &format!("P{patient}")).len(), 1, "P{patient}");
    }
    assert_eq!(places(&ws, &rows, "P1"), places(&ws, &rows, "P2"));

    let few = w.wbc(&["split", "--folds", "9"]).exits(2);
    assert!(few.stderr.contains("7 groups of subjects (P0, P1,") && few.stderr.contains("--folds 7"), "{}", few.stderr);
    let one = patients(1, 20);
    workspace(&w, &one, &[]);
    assert!(w.wbc(&["split", "--folds", "2"]).exits(2).stderr.contains("1 group of subjects (P0)"));
}

#[test]
fn what_patients_make_uneven_is_named() {
    let w = Workdir::new("split-uneven");
    let mut rows = patients(4, 10);
    for (n, row) in rows.iter_mut().enumerate() {
        // P3 has 25 images more than the others, and only P0 has basophils.
        row.class = Some([Class::NEUTROPHIL, if n < 10 { Class::BASOPHIL } else { Class::MONOCYTE }][n % 2]);
    }
    rows.extend((40..65).map(|n| ManifestRow { subject_id: Some("P3".into()), ..row(n, Some(Class::NEUTROPHIL)) }));
    rows.push(row(65, Some(Class::NEUTROPHIL)));
    workspace(&w, &rows, &[]);
    let out = w.wbc(&["split", "--folds", "3"]).exits(1).stdout;
    for wanted in [
        "subject P3 is larger than a fold (35 of 66 images",
        "class basophil has 5 images in one group (subject P0): the fold that tests it does not train on it",
        "1 of 66 images have no subject or slide",
    ] {
        assert!(out.contains(wanted), "{wanted}: {out}");
    }
}

#[test]
fn slides_stay_whole_where_no_patient_is_known() {
    let w = Workdir::new("split-slides");
    let slide = |n: usize| Some(format!("S{}", n / 10));
    let mut rows: Vec<ManifestRow> =
        (0..60).map(|n| ManifestRow { slide_id: slide(n), ..row(n, Some(FIVE[n % 5])) }).collect();
    let ws = workspace(&w, &rows, &[]);
    let run = w.wbc(&["split", "--folds", "3"]).ok();
    assert!(run.stdout.contains("60 images in 6 groups"), "{}", run.stdout);
    assert!(run.stdout.contains("by slide: 6 slides; patients are not known"), "{}", run.stdout);
    let splits = split::read(&ws, "d").unwrap();
    for slide in rows.chunks(10) {
        let places: BTreeSet<String> =
            slide.iter().map(|r| format!("{:?}", splits.place(&r.image_id).unwrap())).collect();
        assert_eq!(places.len(), 1, "{places:?}");
    }
    // The same numbers in use for every patient do not join the patients.
    for (n, row) in rows.iter_mut().enumerate() {
        (row.subject_id, row.slide_id) = (Some(format!("P{}", n / 20)), Some(format!("{}", n % 2)));
    }
    workspace(&w, &rows, &[]);
    assert!(w.wbc(&["split", "--folds", "3"]).ok().stdout.contains("60 images in 3 groups"));
}

#[test]
fn a_held_out_test_set_is_in_no_fold() {
    let w = Workdir::new("split-held-out");
    let rows = patients(8, 20);
    let ws = workspace(&w, &rows, &[]);
    let run = w.wbc(&["split", "--folds", "3", "--test", "subject=P7,P5"]).ok();
    assert!(run.stdout.contains("Held out"), "{}", run.stdout);
    let splits = split::read(&ws, "d").unwrap();
    assert_eq!((splits.held_out().count(), splits.images().count(), splits.train_any().count()), (40, 160, 120));
    assert_eq!(places(&ws, &rows, "P7"), [Place::HeldOut]);
    for fold in 0..3 {
        let used = splits.train(fold).chain(splits.test(fold)).count();
        assert_eq!(used, 120);
    }
    let wrong = w.wbc(&["split", "--test", "subject=P7,P12"]).exits(2);
    assert!(wrong.stderr.contains("P12") && wrong.stderr.contains("P0, P1, P2"), "{}", wrong.stderr);
    assert!(w.wbc(&["split", "--test", "ward=3"]).exits(2).stderr.contains("split.test"));
    assert!(w.wbc(&["split", "--test", "1.5"]).exits(2).stderr.contains("a share such as 0.2"));
    assert!(w.wbc(&["split", "--test", "role=test"]).exits(2).stderr.contains("images with a role"));

    // A share keeps patients whole; without patients it is exact in every class.
    w.wbc(&["split", "--folds", "3", "--test", "0.25"]).ok();
    let splits = split::read(&ws, "d").unwrap();
    assert_eq!(splits.held_out().count(), 40);
    assert!((0..8).all(|p| places(&ws, &rows, &format!("P{p}")).len() == 1));
    let rows: Vec<ManifestRow> = (0..100).map(|n| row(n, Some(FIVE[n % 5]))).collect();
    let ws = workspace(&w, &rows, &[]);
    w.wbc(&["split", "--folds", "4", "--test", "0.2"]).ok();
    let splits = split::read(&ws, "d").unwrap();
    let held_out: BTreeSet<&str> = splits.held_out().collect();
    for class in FIVE {
        let own = rows.iter().filter(|r| r.class == Some(class) && held_out.contains(r.image_id.as_str()));
        assert_eq!(own.count(), 4, "{class}");
    }
}

/// Rows with roles: three of four train, the rest test; of every tenth test image, validation.
fn with_roles(n: usize) -> Vec<ManifestRow> {
    let role = |n: usize| Some(["train", "train", "validation", "test"][n % 4].to_string());
    (0..n).map(|n| ManifestRow { given_role: role(n), ..row(n, Some(FIVE[n / 4 % 5])) }).collect()
}

#[test]
fn the_given_split_is_used_or_said_to_be_pooled() {
    let w = Workdir::new("split-given");
    let mut rows = with_roles(80);
    let ws = workspace(&w, &rows, &[]);
    let pooled = w.wbc(&["split", "--folds", "4"]).exits(1).stdout;
    assert!(
        pooled.contains("the set's own split is not used: 20 images of test and 20 images of validation are assigned"),
        "{pooled}"
    );
    let given = w.wbc(&["split", "--given"]).exits(1).stdout;
    assert!(given.contains("20 images of the given role validation join the training images"), "{given}");
    assert!(!given.contains("leak:"), "{given}");
    let splits = split::read(&ws, "d").unwrap();
    assert_eq!((splits.folds, splits.test(0).count(), splits.train(0).count()), (1, 20, 60));
    assert_eq!(splits.train_any().count(), 60, "a model of all images does not see the test images");
    assert!(
        rows.iter()
            .all(|r| (splits.place(&r.image_id) == Some(Place::Fold(0))) == (r.given_role == Some("test".into())))
    );

    // A copy on both sides, a patient on both sides, an image without a role: each is named, and nothing is moved.
    rows[3].content_hash = rows[0].content_hash.clone();
    for row in &mut rows[40..48] {
        row.subject_id = Some("P4".into());
    }
    rows[79].given_role = None;
    let ws = workspace(&w, &rows, &[]);
    let leaking = w.wbc(&["split", "--given"]).exits(1).stdout;
    for wanted in [
        "leak: test image 0003.jpg is a copy of training images, or from the same frame: 0000.jpg",
        "leak: subject P4 has 6 training and 2 test images",
        "left out: 1 image (no_given_role)",
    ] {
        assert!(leaking.contains(wanted), "{wanted}: {leaking}");
    }
    assert_eq!(split::read(&ws, "d").unwrap().place("d/0003.jpg"), Some(Place::Fold(0)));
    assert!(ws.split_issues("d").is_file());
    w.wbc(&["split", "--folds", "4", "--test", "role=test"]).exits(1);
    let splits = split::read(&ws, "d").unwrap();
    assert_eq!(splits.place("d/0000.jpg"), Some(Place::HeldOut), "copies of test images are held out, too");
    assert!(!ws.split_issues("d").is_file());

    workspace(&w, &self::rows(20), &[]);
    assert!(w.wbc(&["split", "--given"]).exits(2).stderr.contains("the given roles train and test"));
}

/// Writes a list of a data set's images with patients and roles, and ingests the data set again.
fn name_people(w: &Workdir, dataset: &str, change: impl Fn(usize, &mut ManifestRow)) {
    if !w.workspace().manifest(dataset).is_file() {
        w.wbc(&["ingest", "--dataset", dataset]);
    }
    let mut rows = w.manifest(dataset);
    rows.iter_mut().enumerate().for_each(|(n, row)| change(n, row));
    let mut list = String::from("path,class,patient,split\n");
    for row in rows {
        let (subject, role) = (row.subject_id.unwrap_or_default(), row.given_role.unwrap_or_default());
        list += &format!("{},{},{subject},{role}\n", row.path, row.class.unwrap());
    }
    w.write(format!("data/raw/{dataset}/list.csv"), list);
    let run = w.wbc(&["ingest", "--dataset", dataset]);
    assert!(run.status < 2, "{}", run.stderr);
}

#[test]
fn patients_and_a_held_out_test_set_from_split_to_report() {
    let w = Workdir::new("split-report");
    w.tiny(3, 2, "", "");
    w.wbc(&["synth", "--images", "30,30,30,30,30", "--name", "d"]).ok();
    name_people(&w, "d", |n, row| row.subject_id = Some(format!("P{}", n % 10)));
    w.wbc(&["split", "--pipeline", "tiny.toml", "--test", "subject=P3,P4"]).ok();
    let run = w.train("d", "a");
    assert!(run.stdout.contains("held-out test set: balanced accuracy"), "{}", run.stdout);
    assert!(run.stdout.contains("(30 images, mean probabilities of 3 models)"), "{}", run.stdout);

    // The mean of the models' probabilities, for the images of P3 and P4 and no others.
    let ws = w.workspace();
    let splits = split::read(&ws, "d").unwrap();
    let record = wbc::run::Record::read(&ws, "a").unwrap();
    let read = |path: &str| {
        let path = w.path("data/runs/a").join(path);
        table::read_class_rows::<PredictionRow>(&path, &PREDICTIONS, &record.classes).unwrap().0
    };
    let mean = read("held_out/predictions.parquet");
    let models: Vec<_> = (0..3).map(|fold| read(&format!("fold-0{fold}/held_out.parquet"))).collect();
    assert!(mean.iter().map(|row| row.image_id.as_str()).eq(splits.held_out()));
    for (i, row) in mean.iter().enumerate() {
        let p = models.iter().map(|rows| rows[i].probabilities[2]).sum::<f32>() / 3.0;
        assert!((row.probabilities[2] - p).abs() < 1e-6 && models.iter().all(|rows| rows[i].image_id == row.image_id));
    }
    let tested: BTreeSet<String> = read("predictions.parquet").into_iter().map(|row| row.image_id).collect();
    assert!(tested.len() == 120 && splits.held_out().all(|id| !tested.contains(id)));

    // Intervals resample patients; those over images are not there.
    let intervals = |folder: &str| {
        let path = w.path("data/runs/a").join(folder).join("intervals.parquet");
        let rows = table::read_rows::<IntervalRow>(&path, &INTERVALS).unwrap().0;
        rows.into_iter().map(|row| (row.method, row.units)).collect::<BTreeSet<_>>()
    };
    assert_eq!(
        intervals("").into_iter().filter(|(method, _)| *method != Method::CorrectedT).collect::<Vec<_>>(),
        [(Method::SubjectBootstrap, 8)]
    );
    assert_eq!(intervals("held_out"), [(Method::SubjectBootstrap, 2)].into());
    let report = w.wbc(&["report", "--table", "3", "--html", "--notes"]).ok().stdout.replace('\n', " ");
    for wanted in [
        "by patient (8 patients)",
        "Held-out test set, on which no fold was trained",
        "Field & Welsh 2007",
        "By patient: all",
    ] {
        assert!(report.contains(wanted), "{wanted}: {report}");
    }
    assert!(!report.contains("Wilson 1927") && !report.contains("Patients are unknown"), "{report}");
    let page = std::fs::read_to_string(w.path("reports/a.html")).unwrap();
    assert!(page.contains("Held-out test set and cross-validation"));

    // A subject in common with another data set: its weights are refused there.
    w.wbc(&["synth", "--images", "10,10,10,10,10", "--name", "e", "--seed", "5"]).ok();
    name_people(&w, "e", |n, row| row.subject_id = Some(format!("P{}", 6 + n % 10)));
    let refused = w.wbc(&["validate", "a", "--dataset", "e"]).exits(2).stderr;
    assert!(refused.contains("subjects in both a and e: P6 (15 training images, 5 here)"), "{refused}");
    name_people(&w, "e", |n, row| row.subject_id = Some(format!("Q{}", n % 10)));
    let validated = w.wbc(&["validate", "a", "--dataset", "e"]);
    assert!(validated.status < 2 && validated.stdout.contains("interval by patient"), "{}", validated.stderr);
}

#[test]
fn a_leaking_split_of_the_data_set_is_said_to_leak_in_the_report() {
    let w = Workdir::new("split-leak");
    w.tiny(3, 1, "", "");
    w.wbc(&["synth", "--images", "12,12,12,12,12", "--name", "d"]).ok();
    name_people(&w, "d", |n, row| {
        row.given_role = Some(if n % 3 == 0 { "test" } else { "train" }.into());
        row.subject_id = Some(format!("P{}", n % 3));
    });
    let clean = w.wbc(&["split", "--given"]).stdout;
    assert!(!clean.contains("leak: ") && clean.contains("in the data set's own split"), "{clean}");
    name_people(&w, "d", |n, row| {
        row.given_role = Some(if n % 3 == 0 { "test" } else { "train" }.into());
        row.subject_id = Some(format!("P{}", n % 4));
    });
    let leaks = w.wbc(&["split", "--given"]).exits(1).stdout;
    assert!(leaks.contains("leak: subject P1 has 10 training and 5 test images"), "{leaks}");
    w.train("d", "own");
    let report = w.wbc(&["report", "--table", "3", "--run", "own"]).ok().stdout.replace('\n', " ");
    assert!(report.contains("LEAK: in the data set's own split, which is used, 20 test images"), "{report}");
    let studies = w.wbc(&["report", "--table", "1", "--html"]).ok().stdout.replace('\n', " ");
    assert!(studies.contains("LEAK: test images have copies") && studies.contains("training images: own"), "{studies}");
    let page = std::fs::read_to_string(w.path("reports/own.html")).unwrap();
    assert!(page.contains("LEAK: some show") && !page.contains("was not trained on it"), "the page begins so");
}
