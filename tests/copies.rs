//! Copies are found however they were made, and images that only look alike are not taken for copies.

use crate::common::{Workdir, shared};
use rand::{Rng, RngExt};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use wbc::context::Context;
use wbc::copies::transform::Transform;
use wbc::copies::{self, Features, Groups, Pair};
use wbc::decode::{self, Grey, Rgb};
use wbc::rows::{CopyRow, IssueRow};
use wbc::schema::{COPIES, ISSUES};
use wbc::{seed, table};

/// Discs with soft edges: where, how large, and their grey level.
struct Disc {
    x: f32,
    y: f32,
    radius: f32,
    grey: f32,
}

/// An image of discs on a plain ground, 200 x 200 px.
fn discs(ground: f32, discs: &[Disc], rng: &mut impl Rng) -> Rgb {
    let mut pixels = Vec::new();
    for i in 0..200 * 200 {
        let (x, y) = ((i % 200) as f32, (i / 200) as f32);
        let mut v = ground;
        for disc in discs {
            let inside = 1.0 / (1.0 + (((x - disc.x).hypot(y - disc.y) - disc.radius) / 1.2).exp());
            v += (disc.grey - v) * inside;
        }
        let v = v + rng.random::<f32>() * 4.0 - 2.0;
        pixels.extend([v, 0.9 * v, v + 10.0].map(|v| v.round().clamp(0.0, 255.0) as u8));
    }
    Rgb { width_px: 200, height_px: 200, pixels }
}

/// A cell with a nucleus of one to four lobes and some granules, alone on a plain ground.
fn cell(number: u64) -> Rgb {
    let mut rng = seed::rng(number, "cell", 0, 0, 0);
    let mut between = |low: f32, high: f32| low + (high - low) * rng.random::<f32>();
    let (x, y, radius) = (between(85.0, 115.0), between(85.0, 115.0), between(45.0, 65.0));
    let mut parts = vec![Disc { x, y, radius, grey: 165.0 }];
    for _ in 0..between(1.0, 4.99) as u32 {
        let (dx, dy) = (between(-20.0, 20.0), between(-20.0, 20.0));
        parts.push(Disc { x: x + dx, y: y + dy, radius: between(14.0, 26.0), grey: 80.0 });
    }
    for _ in 0..between(5.0, 40.0) as u32 {
        let (angle, distance) = (between(0.0, std::f32::consts::TAU), between(0.0, 0.9) * radius);
        let (dx, dy) = (distance * angle.cos(), distance * angle.sin());
        parts.push(Disc { x: x + dx, y: y + dy, radius: between(1.5, 4.0), grey: between(100.0, 190.0) });
    }
    discs(225.0, &parts, &mut rng)
}

/// A cell among red cells.
fn field(number: u64) -> Rgb {
    let mut rng = seed::rng(number, "field", 0, 0, 0);
    let mut between = |low: f32, high: f32| low + (high - low) * rng.random::<f32>();
    let mut parts = Vec::new();
    for _ in 0..14 {
        let (x, y, radius) = (between(0.0, 200.0), between(0.0, 200.0), between(16.0, 22.0));
        parts.push(Disc { x, y, radius, grey: 175.0 });
        parts.push(Disc { x, y, radius: 0.4 * radius, grey: 200.0 });
    }
    let (x, y) = (between(85.0, 115.0), between(85.0, 115.0));
    parts.push(Disc { x, y, radius: 38.0, grey: 150.0 });
    for _ in 0..3 {
        let (dx, dy) = (between(-16.0, 16.0), between(-16.0, 16.0));
        parts.push(Disc { x: x + dx, y: y + dy, radius: between(10.0, 18.0), grey: 75.0 });
    }
    for _ in 0..25 {
        let (dx, dy) = (between(-30.0, 30.0), between(-30.0, 30.0));
        parts.push(Disc { x: x + dx, y: y + dy, radius: between(1.5, 3.5), grey: between(60.0, 180.0) });
    }
    discs(225.0, &parts, &mut rng)
}

fn find(images: &[Rgb]) -> Vec<Pair> {
    let features: Vec<Features> = images.par_iter().map(|image| Features::new(&Grey::from(image.clone()))).collect();
    let features: Vec<Option<&Features>> = features.iter().map(Some).collect();
    copies::find(&features, copies::CORRELATION, &Context::silent(0)).unwrap()
}

fn groups(images: usize, pairs: &[Pair]) -> Vec<usize> {
    let mut groups = Groups::new(images);
    pairs.iter().for_each(|pair| groups.join(pair.a, pair.b));
    (0..images).map(|i| groups.first(i)).collect()
}

#[test]
fn copies_of_every_kind_are_found_among_other_fields() {
    const CELLS: u64 = 20;
    let mut images: Vec<Rgb> = (0..CELLS).map(field).collect();
    let mut truth: Vec<usize> = (0..images.len()).collect();
    let mut rng = seed::rng(0, "copies", 0, 0, 0);
    for kind in Transform::ALL {
        for cell in [0, 7, 13] {
            images.push(kind.copy(&images[cell], &mut rng));
            truth.push(cell);
        }
    }
    for cell in [0, 7, 13] {
        images.push(Transform::several(&images[cell], &mut rng));
        truth.push(cell);
    }
    let pairs = find(&images);
    let wrong: Vec<&Pair> = pairs.iter().filter(|pair| truth[pair.a] != truth[pair.b]).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let found = groups(images.len(), &pairs);
    let missed: Vec<usize> = (0..images.len()).filter(|i| found[*i] != truth[*i]).collect();
    let kinds: Vec<_> = missed.iter().map(|i| Transform::ALL.get((i - CELLS as usize) / 3)).collect();
    assert!(missed.is_empty(), "{kinds:?}");
}

#[test]
fn different_cells_on_a_plain_ground_are_no_copies() {
    for n in [2, 20, 40] {
        let images: Vec<Rgb> = (0..n).map(|i| cell(1000 * n + i)).collect();
        assert_eq!(find(&images), [], "{n} cells");
    }
    // Nor are they with equal black corners.
    let mut images: Vec<Rgb> = (0..30).map(|i| cell(77_000 + i)).collect();
    for image in &mut images {
        for (i, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
            let (x, y) = (i % 200, i / 200);
            if x + y < 70 || x + y > 330 {
                pixel.fill(0);
            }
        }
    }
    assert_eq!(find(&images), []);
}

#[test]
fn many_copies_of_many_cells_stay_together() {
    use image::imageops::{FilterType, resize};
    let resized = |image: &Rgb, side: u32| {
        let source = image::RgbImage::from_raw(image.width_px, image.height_px, image.pixels.clone()).unwrap();
        Rgb { width_px: side, height_px: side, pixels: resize(&source, side, side, FilterType::Triangle).into_raw() }
    };
    let mut images = Vec::new();
    let mut rng = seed::rng(1, "copies", 0, 0, 0);
    for number in 0..50 {
        let original = cell(number);
        for copy in 0..4 {
            images.push(resized(&original, 80 + 30 * copy));
            images.push(if copy < 2 { original.clone() } else { Transform::Jpeg.copy(&original, &mut rng) });
        }
    }
    let pairs = find(&images);
    let found = groups(images.len(), &pairs);
    let torn: Vec<usize> = (0..images.len()).filter(|i| found[*i] != i / 8 * 8).collect();
    assert!(torn.is_empty(), "{torn:?}");
}

#[test]
fn pairs_say_how_one_image_lies_in_the_other() {
    let original = field(3);
    let source = image::RgbImage::from_raw(200, 200, original.pixels.clone()).unwrap();
    let copy =
        |image: image::RgbImage| Rgb { width_px: image.width(), height_px: image.height(), pixels: image.into_raw() };
    let placement = |changed: image::RgbImage| {
        let images = [original.clone(), copy(changed)];
        let size = |i: usize| (images[i].width_px, images[i].height_px);
        let pairs = find(&images);
        assert_eq!(pairs.len(), 1);
        let same = pairs[0].same_part(size(0), size(1));
        (pairs[0].placement(size(0), size(1)), same)
    };
    // Turned by 90 degrees clockwise, so that it has to be turned back.
    let (turned, same) = placement(image::imageops::rotate90(&source));
    assert!((turned.angle_deg + 90.0).abs() < 2.0 && !turned.mirrored && same, "{turned:?}");
    let (mirrored, same) = placement(image::imageops::flip_horizontal(&source));
    assert!(mirrored.angle_deg.abs() < 2.0 && mirrored.mirrored && same, "{mirrored:?}");
    let (small, same) = placement(image::imageops::resize(&source, 100, 100, image::imageops::FilterType::Triangle));
    assert!((small.scale - 2.0).abs() < 0.04 && small.shift_px.0.abs() < 2.0 && same, "{small:?}");
    let (part, same) = placement(image::imageops::crop_imm(&source, 60, 0, 140, 200).to_image());
    assert!((part.shift_px.0 - 30.0).abs() < 2.0 && part.shift_px.1.abs() < 2.0 && !same, "{part:?}");
    assert!((part.scale - 1.0).abs() < 0.02, "{part:?}");
}

/// Copies made by rotation, mirroring and shifting of ten originals, in the field's most used public data set.
#[test]
fn copies_of_published_augmented_images_are_found() {
    let Some(source) = shared("augmented") else { return };
    let mut reader = csv::Reader::from_path(source.join("originals.csv")).unwrap();
    let mut original_of = BTreeMap::new();
    for row in reader.records().map(Result::unwrap).filter(|row| &row[4] == "1") {
        original_of.insert(row[0].to_string(), row[1].to_string());
    }
    let (mut images, mut truth) = (Vec::new(), Vec::new());
    for (path, original) in original_of.iter().step_by(4) {
        let path = source.join(path);
        images.push(decode::rgb(&std::fs::read(&path).unwrap(), &path).unwrap());
        truth.push(original);
    }
    let pairs = find(&images);
    assert!(pairs.iter().all(|pair| truth[pair.a] == truth[pair.b]));
    let found: BTreeSet<(usize, &str)> = groups(images.len(), &pairs)
        .into_iter()
        .zip(&truth)
        .map(|(group, original)| (group, original.as_str()))
        .collect();
    let originals: BTreeSet<&&String> = truth.iter().collect();
    assert_eq!(found.len(), originals.len(), "one group per original");
}

/// Eight positions of each of twelve cells, half of them in the data set's own test folder.
#[test]
fn case_13_turned_and_mirrored_copies_share_a_group() {
    let Some(cases) = shared("../cases") else { return };
    let source = cases.join("13-turned-copies-and-test-folder/data");
    let w = Workdir::new("case-13");
    for entry in walkdir::WalkDir::new(&source).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let below = entry.path().strip_prefix(&source).unwrap();
        w.write(std::path::Path::new("data").join(below), std::fs::read(entry.path()).unwrap());
    }
    w.wbc(&["ingest"]).exits(1);
    let dataset = std::fs::read_dir(w.path("data/raw")).unwrap().next().unwrap().unwrap().file_name();
    let dataset = dataset.to_str().unwrap();
    let groups: BTreeSet<String> = w.checks(dataset).into_iter().map(|check| check.group_id).collect();
    assert_eq!(groups.len(), 12);
    let (rows, _) = table::read_rows::<CopyRow>(&w.workspace().copies(dataset), &COPIES).unwrap();
    assert!(rows.len() >= w.manifest(dataset).len() - 12);
    let (issues, _) = table::read_rows::<IssueRow>(&w.workspace().issues(dataset), &ISSUES).unwrap();
    assert!(!issues.iter().any(|issue| issue.check == "label_conflict"));
}

/// A data set of cells of every class, and beside it another with a turned copy of one of its images.
fn two_data_sets(name: &str) -> Workdir {
    let w = Workdir::new(name);
    w.tiny(2, 12, "", "");
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    w.wbc(&["synth", "--images", "20", "--name", "other", "--seed", "5"]).ok();
    let image = std::fs::read_dir(w.path("data/raw/d/neutrophil")).unwrap().next().unwrap().unwrap().path();
    let image = image::open(image).unwrap().rotate90().fliph();
    image.save(w.path("data/raw/other/neutrophil/turned.png")).unwrap();
    // Warnings on small classes exit with 1.
    w.wbc(&["ingest"]).exits(1);
    w
}

#[test]
fn copies_in_another_data_set_are_listed() {
    let w = two_data_sets("copies-against");
    w.wbc(&["check"]);
    let found = w.wbc(&["check", "--dataset", "other", "--against", "d"]).exits(1).stdout;
    assert!(found.contains("other: 1 of 21 images show the same as an image of d"), "{found}");
    assert!(found.contains("such as neutrophil/turned.png, which shows the same as d/neutrophil"), "{found}");
    let (rows, _) = table::read_rows::<CopyRow>(&w.workspace().copies_in("other", "d"), &COPIES).unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].image_id.starts_with("d/") && rows[0].copy_id == "other/neutrophil/turned.png", "{rows:?}");
    assert_eq!(rows[0].mirrored, 1);
    let own = w.wbc(&["check", "--dataset", "d", "--against", "d"]).exits(2).stderr;
    assert!(own.contains("another data set"), "{own}");
    let nobody = w.wbc(&["check", "--against", "nobody"]).exits(2).stderr;
    assert!(nobody.contains("d, other"), "{nobody}");
}

#[test]
fn copies_of_training_images_are_named_by_predict_validate_and_init() {
    let w = two_data_sets("copies-trained");
    w.wbc(&["check"]);
    w.wbc(&["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"]);
    w.wbc(&["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "r", "--epochs", "1"]).ok();
    let predicted = w.wbc(&["predict", "r", "data/raw/other", "--format", "csv"]).ok().stdout;
    assert!(predicted.contains("seen in training: 1 of 21 images show the same as a training image"), "{predicted}");
    let mut cells = csv::Reader::from_path(w.path("cells.csv")).unwrap();
    let column = cells.headers().unwrap().iter().position(|name| name == "training_image").unwrap();
    let seen: Vec<_> = cells.records().map(Result::unwrap).filter(|row| !row[column].is_empty()).collect();
    assert_eq!(seen.len(), 1);
    assert!(seen[0][0].ends_with("turned.png") && seen[0][column].starts_with("d/neutrophil"), "{seen:?}");
    // On its own images: all of them.
    let own = w.wbc(&["predict", "r", "data/raw/d"]).ok().stdout;
    assert!(own.contains("seen in training: 60 of 60"), "{own}");
    let validated = w.wbc(&["validate", "r", "--dataset", "other"]).exits(1).stdout;
    assert!(validated.contains("left out: 1 image that the models were trained on"), "{validated}");
    assert!(validated.contains("20 images"), "{validated}");
    w.wbc(&["split", "--stratified", "--dataset", "other", "--pipeline", "tiny.toml"]);
    let start = ["train", "--dataset", "other", "--pipeline", "tiny.toml", "--init", "r:0", "--epochs", "1"];
    let fold_0 = w.wbc(&start);
    let fold_1 = w.wbc(&["train", "--dataset", "other", "--pipeline", "tiny.toml", "--init", "r:1", "--epochs", "1"]);
    // The image is a training image of one of the two folds' models alone.
    let refused: Vec<_> = [fold_0, fold_1].into_iter().filter(|run| run.status == 2).collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].stderr.contains("turned"), "{}", refused[0].stderr);
    // A data set that has changed since: the program says that it does not know.
    std::fs::remove_file(w.workspace().copy_features("d")).unwrap();
    let unknown = w.wbc(&["predict", "r", "data/raw/other"]).ok().stdout;
    assert!(unknown.contains("d has not been checked, so images that show the same"), "{unknown}");
}
