//! `wbc check`: what it finds, what it groups, and that it deletes nothing.

use crate::common::{Workdir, image_bytes, shared};
use image::imageops;
use std::collections::BTreeMap;
use wbc::rows::IssueRow;
use wbc::schema::ISSUES;
use wbc::table;

fn encode(image: &image::RgbImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn findings(w: &Workdir, dataset: &str) -> Vec<IssueRow> {
    table::read_rows(&w.workspace().issues(dataset), &ISSUES).unwrap().0
}

fn group_of(w: &Workdir, dataset: &str) -> BTreeMap<String, String> {
    w.manifest(dataset).into_iter().zip(w.checks(dataset)).map(|(r, c)| (r.path, c.group_id)).collect()
}

#[test]
fn copies_resized_reencoded_and_shifted_share_a_group_and_others_do_not() {
    let w = Workdir::new("copies");
    w.wbc(&["synth", "--images", "30", "--name", "d"]).ok();
    let source = w.path("data/raw/d/eosinophil");
    let first = std::fs::read_dir(&source).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let original = image::open(&first).unwrap().into_rgb8();
    let (width, height) = original.dimensions();
    let half = imageops::resize(&original, width / 2, height / 2, imageops::FilterType::Triangle);
    // Cut 18 px further to the right and 12 further up; what comes into view is like the edge.
    let shifted = image::RgbImage::from_fn(width, height, |x, y| {
        *original.get_pixel((x + 18).min(width - 1), y.saturating_sub(12))
    });
    let dir = "data/raw/d/eosinophil";
    w.write(format!("{dir}/exact.jpg"), std::fs::read(&first).unwrap());
    w.write(format!("{dir}/half.jpg"), encode(&half, image::ImageFormat::Jpeg));
    w.write(format!("{dir}/lossless.png"), encode(&original, image::ImageFormat::Png));
    w.write(format!("{dir}/shifted.jpg"), encode(&shifted, image::ImageFormat::Jpeg));
    w.wbc(&["ingest"]).exits(1);
    let groups = group_of(&w, "d");
    let name = format!("eosinophil/{}", first.file_name().unwrap().to_str().unwrap());
    let group = &groups[&name];
    for copy in ["exact.jpg", "half.jpg", "lossless.png", "shifted.jpg"] {
        assert_eq!(&groups[&format!("eosinophil/{copy}")], group, "{copy}");
    }
    assert_eq!(groups.values().filter(|g| *g == group).count(), 5);
    let singles: std::collections::BTreeSet<_> = groups.values().collect();
    assert_eq!(singles.len(), 30, "cells that are not copies have groups of their own");
    let issues = findings(&w, "d");
    assert!(issues.iter().any(|i| i.check == "exact_copy" && i.path == "eosinophil/exact.jpg"));
    assert!(issues.iter().any(|i| i.check == "near_copy" && i.path == "eosinophil/half.jpg"));
    assert!(first.is_file() && w.path(dir).join("exact.jpg").is_file(), "nothing is deleted");
}

#[test]
fn the_same_image_under_two_labels_is_left_out_of_the_split() {
    let w = Workdir::new("conflict");
    w.wbc(&["synth", "--images", "10,10,10,10,10", "--name", "d"]).ok();
    let one = std::fs::read_dir(w.path("data/raw/d/basophil")).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    w.write("data/raw/d/monocyte/wrong.jpg", std::fs::read(&one).unwrap());
    w.wbc(&["ingest"]).exits(1);
    let name = format!("basophil/{}", one.file_name().unwrap().to_str().unwrap());
    let conflicts: Vec<String> =
        findings(&w, "d").into_iter().filter(|i| i.check == "label_conflict").map(|i| i.path).collect();
    assert_eq!(conflicts, [name, "monocyte/wrong.jpg".into()]);
    let run = w.wbc(&["split", "--stratified", "--folds", "5"]).exits(1);
    assert!(run.stdout.contains("left out: 2 images (label_conflict)"), "{}", run.stdout);
}

#[test]
fn damaged_dark_bright_and_odd_images_are_found() {
    let w = Workdir::new("bad");
    w.wbc(&["synth", "--images", "30", "--name", "d"]).ok();
    let jpeg = image_bytes("a.jpg", 5, 360, 361);
    w.write("data/raw/d/neutrophil/cut.jpg", &jpeg[..jpeg.len() / 2]);
    let flat = |v: u8| image::RgbImage::from_fn(360, 361, |x, y| image::Rgb([v + (x ^ y) as u8 % 16; 3]));
    w.write("data/raw/d/neutrophil/night.png", encode(&flat(5), image::ImageFormat::Png));
    w.write("data/raw/d/neutrophil/noon.png", encode(&flat(235), image::ImageFormat::Png));
    w.write("data/raw/d/neutrophil/small.png", image_bytes("a.png", 6, 100, 90));
    let sharp = std::fs::read_dir(w.path("data/raw/d/lymphocyte")).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let smeared = imageops::blur(&image::open(sharp).unwrap().into_rgb8(), 12.0);
    w.write("data/raw/d/lymphocyte/smeared.png", encode(&smeared, image::ImageFormat::Png));
    let run = w.wbc(&["ingest"]).exits(1);
    assert!(run.stdout.contains("undecodable"), "{}", run.stdout);
    let issues = findings(&w, "d");
    let found = |check: &str, path: &str| issues.iter().any(|i| i.check == check && i.path == path);
    assert!(found("undecodable", "neutrophil/cut.jpg"));
    assert!(found("too_dark", "neutrophil/night.png"));
    assert!(found("too_bright", "neutrophil/noon.png"));
    assert!(found("odd_size", "neutrophil/small.png"));
    assert!(found("blurred", "lymphocyte/smeared.png"));
    assert!(issues.iter().any(|i| i.check == "class_counts"), "few basophils");
    // Unreadable images are not each other's copies.
    assert!(!issues.iter().any(|i| i.check == "near_copy" && i.path.ends_with("cut.jpg")));
    // Everything else goes on without the damaged one, and the two in which no cell is found.
    w.wbc(&["split", "--stratified", "--folds", "2"]).exits(1);
    let run = w.wbc(&["preprocess"]).ok();
    assert!(run.stdout.contains("32 preprocessed images") && run.stdout.contains("3 left out"), "{}", run.stdout);
}

#[test]
fn a_second_check_finds_the_same_and_a_changed_file_is_told() {
    let w = Workdir::new("twice");
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    w.wbc(&["ingest", "--no-check"]).ok();
    w.wbc(&["check", "--threads", "1"]).exits(1);
    let tables = || {
        ["manifest.parquet", "checks.parquet", "issues.parquet"]
            .map(|f| std::fs::read(w.path("data/d").join(f)).unwrap())
    };
    let first = tables();
    let run = w.wbc(&["check"]).exits(1);
    assert!(run.stdout.contains("up to date"), "{}", run.stdout);
    w.wbc(&["ingest", "--no-check"]).ok();
    std::fs::remove_file(w.path("data/d/manifest.parquet")).unwrap();
    w.wbc(&["ingest", "--threads", "2"]).exits(1);
    assert!(tables() == first, "threads or order change the bytes");

    let one = std::fs::read_dir(w.path("data/raw/d/basophil")).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    std::fs::write(&one, image_bytes("a.jpg", 1, 360, 361)).unwrap();
    w.write("pipe.toml", "name = \"p\"\n[check]\nmin_class_images = 3\n");
    let run = w.wbc(&["check", "--pipeline", "pipe.toml"]).exits(2);
    assert!(run.stderr.contains("the image has changed since it was ingested"), "{}", run.stderr);
}

/// The copies that a byte-by-byte comparison of the published files finds.
#[cfg(unix)]
#[test]
fn every_exact_copy_of_a_real_data_set_is_found() {
    // JTSC has the same monocyte as 060.bmp (labelled neutrophil) and 090.bmp (monocyte).
    for (dataset, exact, near, conflicts) in [("jtsc", 1, 13, 2), ("lisc-cells", 0, 17, 0)] {
        let Some(source) = shared(dataset) else { continue };
        let w = Workdir::new("real-check");
        std::fs::create_dir_all(w.path("data/raw")).unwrap();
        std::os::unix::fs::symlink(source.canonicalize().unwrap(), w.path("data/raw").join(dataset)).unwrap();
        w.wbc(&["ingest"]).exits(1);
        let issues = findings(&w, dataset);
        assert_eq!(issues.iter().filter(|i| i.check == "exact_copy").count(), exact, "{dataset}");
        // Each was looked at: the same cell photographed or cut out twice.
        assert!(issues.iter().filter(|i| i.check == "near_copy").count() >= near, "{dataset}");
        assert_eq!(issues.iter().filter(|i| i.check == "label_conflict").count(), conflicts, "{dataset}");
    }
}
