//! `wbc split` and the dealing behind it.

use crate::common::{Workdir, of_five_classes};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wbc::class::Class;
use wbc::dataset::unchecked;
use wbc::rows::ManifestRow;
use wbc::schema::{CHECKS, MANIFEST};
use wbc::split::{self, deal};
use wbc::table::{self, Provenance};
use wbc::workspace::Workspace;

proptest! {
    #[test]
    fn no_group_stands_in_two_folds(
        images in prop::collection::vec((0..5usize, 0..40u32), 1..300), folds in 2..12u32, seed: u64,
    ) {
        let classes: Vec<Class> = images.iter().map(|(c, _)| Class::ALL[*c]).collect();
        let groups: Vec<String> = images.iter().map(|(_, g)| g.to_string()).collect();
        let dealt = deal(&classes, &groups, folds, seed);
        prop_assert_eq!(dealt.fold_of.len(), images.len());
        let mut fold_of_group = BTreeMap::new();
        for (group, fold) in groups.iter().zip(&dealt.fold_of) {
            prop_assert!(*fold < folds);
            prop_assert_eq!(*fold_of_group.entry(group).or_insert(*fold), *fold);
        }
        prop_assert_eq!(fold_of_group.len(), dealt.groups);
        prop_assert_eq!(deal(&classes, &groups, folds, seed), dealt);
    }

    #[test]
    fn single_images_are_dealt_evenly(
        images in prop::collection::vec(0..5usize, 1..400), folds in 2..12u32, seed: u64,
    ) {
        let classes: Vec<Class> = images.iter().map(|c| Class::ALL[*c]).collect();
        let groups: Vec<String> = (0..images.len()).map(|i| format!("{i:04}")).collect();
        let dealt = deal(&classes, &groups, folds, seed);
        let spread = |of: &dyn Fn(usize) -> bool| {
            let counts = (0..folds).map(|f| (0..images.len()).filter(|&i| dealt.fold_of[i] == f && of(i)).count());
            let counts: Vec<usize> = counts.collect();
            counts.iter().max().unwrap() - counts.iter().min().unwrap()
        };
        for class in Class::ALL {
            prop_assert!(spread(&|i| classes[i] == class) <= 1);
        }
        prop_assert!(spread(&|_| true) <= 1);
    }
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
    (0..n).map(|i| row(i, Some(Class::ALL[i % 5]))).collect()
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
    let run = w.wbc(&["split", "--stratified"]).ok();
    assert!(run.stdout.contains("left out: 1 image (label_conflict)"), "{}", run.stdout);
    assert!(run.stdout.contains("left out: 1 image (no_class)"), "{}", run.stdout);
    let splits = split::read(&ws, "d").unwrap();
    assert_eq!((splits.folds, splits.fold_of.len()), (10, 59));
    assert!(!splits.fold_of.contains_key("d/0007.jpg") && !splits.fold_of.contains_key("d/0060.jpg"));
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
fn bad_input_is_told() {
    let w = Workdir::new("split-bad");
    let ws = workspace(&w, &rows(7), &[]);
    let run = w.wbc(&["split"]).exits(2);
    assert!(run.stderr.contains("7 images") && run.stderr.contains("--folds 7"), "{}", run.stderr);
    assert!(!ws.splits("d").exists());
    assert!(w.wbc(&["split", "--folds", "1"]).exits(2).stderr.contains("at least 2"));
    let few = w.wbc(&["split", "--folds", "3"]).ok();
    assert!(few.stdout.contains("class basophil has 1 images"), "{}", few.stdout);

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
