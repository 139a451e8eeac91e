//! Inputs of users that earlier versions read wrongly: `../shared/cases`, where it is available.

use crate::common::Workdir;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wbc::class::Class;
use wbc::decode;
use wbc::rows::{IssueRow, Severity};

fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(folder);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// A copy of a case's data.
fn copied(case: &str) -> Option<Workdir> {
    let source = shared("cases")?.join(case).join("data");
    let w = Workdir::new(&case[..2]);
    for entry in walkdir::WalkDir::new(&source).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let below = entry.path().strip_prefix(&source).unwrap();
        w.write(Path::new("data").join(below), std::fs::read(entry.path()).unwrap());
    }
    Some(w)
}

/// The same, ingested: the exit status and the findings.
fn ingested(case: &str) -> Option<(Workdir, i32, Vec<IssueRow>)> {
    let w = copied(case)?;
    let run = w.wbc(&["ingest"]);
    assert!(run.status < 2, "{}", run.stderr);
    let issues = wbc::dataset::issues(&w.workspace(), "mine").unwrap();
    Some((w, run.status, issues))
}

/// The messages of errors about a file.
fn errors<'a>(issues: &'a [IssueRow], file: &str) -> Vec<&'a str> {
    let about = |issue: &&IssueRow| issue.path.ends_with(file) && issue.severity == Severity::Error;
    issues.iter().filter(about).map(|issue| issue.message.as_str()).collect()
}

fn has_error(issues: &[IssueRow], file: &str, words: &str) {
    let messages = errors(issues, file);
    assert!(messages.iter().any(|message| message.contains(words)), "{file}: {messages:?}");
}

#[test]
fn case_02_patients_are_read() {
    let Some((w, _, _)) = ingested("02-patient-column-ignored") else { return };
    let rows = w.manifest("mine");
    let subjects: BTreeSet<_> = rows.iter().map(|row| row.subject_id.clone().unwrap()).collect();
    assert_eq!(subjects.into_iter().collect::<Vec<_>>(), ["P1", "P2", "P3", "P4"]);
    let run = w.wbc(&["ingest", "--no-check"]);
    assert!(run.stdout.contains("from 4 subjects"), "{}", run.stdout);
}

/// The folds that test each subject, as a query on the manifest and the split would show them.
#[test]
fn case_02_each_patient_is_in_one_fold() {
    let Some((w, ..)) = ingested("02-patient-column-ignored") else { return };
    let run = w.wbc(&["split", "--stratified", "--folds", "4"]);
    assert!(run.status < 2 && run.stdout.contains("by patient: 4 subjects"), "{}{}", run.stdout, run.stderr);
    let splits = wbc::split::read(&w.workspace(), "mine").unwrap();
    let mut folds_of: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for row in w.manifest("mine") {
        if let Some(wbc::split::Place::Fold(fold)) = splits.place(&row.image_id) {
            folds_of.entry(row.subject_id.unwrap()).or_default().insert(fold);
        }
    }
    assert!(folds_of.len() == 4 && folds_of.values().all(|folds| folds.len() == 1), "{folds_of:?}");
    let too_many = w.wbc(&["split", "--folds", "5"]).exits(2).stderr;
    assert!(too_many.contains("P1, P2, P3, P4") && too_many.contains("--folds 4"), "{too_many}");
}

#[test]
fn case_03_lists_of_any_columns_and_separators_are_used() {
    let Some(w) = copied("03-list-csv-ignored") else { return };
    let run = w.wbc(&["ingest", "--no-check"]).exits(1);
    assert!(run.stdout.contains("5 images of another class than their folders say"), "{}", run.stdout);
    let rows = w.manifest("other_names");
    let of = |path: &str| rows.iter().find(|row| row.path == path).unwrap().class.unwrap();
    assert_eq!((of("neutrophil/1.png"), of("eosinophil/1.png")), (Class::EOSINOPHIL, Class::BASOPHIL));
    assert!(rows.iter().all(|row| row.layout == "list"));
}

#[test]
fn case_04_numbers_are_asked_for() {
    let Some(w) = copied("04-numeric-labels-read-as-jtsc") else { return };
    let run = w.wbc(&["ingest", "--no-check"]).exits(2);
    assert!(run.stderr.contains("the numbers 1, 2, 3, 4, 5") && run.stderr.contains("[classes] map"), "{}", run.stderr);
    let names = ["basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"];
    let map: String = (1..).zip(names).map(|(n, name)| format!("{n} = \"{name}\"\n")).collect();
    w.write("p.toml", format!("name = \"p\"\n[classes.map]\n{map}"));
    w.wbc(&["ingest", "--no-check", "--pipeline", "p.toml"]).ok();
    for row in w.manifest("mine") {
        let class = row.class.unwrap().name();
        assert_eq!(row.path.trim_start_matches("images/")[..3], class[..3], "{}", row.path);
    }
}

#[test]
fn case_05_one_letter_folders_are_classes_of_their_own() {
    let Some(w) = copied("05-one-letter-folders") else { return };
    let run = w.wbc(&["ingest", "--no-check"]).exits(1);
    for (dataset, labels) in [("breakhis_like", "B M"), ("fab", "L1 L2 M1 M2"), ("sites", "E N S W")] {
        let classes: BTreeSet<_> = w.manifest(dataset).iter().map(|row| row.class.unwrap().name()).collect();
        assert_eq!(classes.into_iter().collect::<Vec<_>>().join(" "), labels);
    }
    assert!(run.stdout.contains("no label is one of the five classes of wbc5"), "{}", run.stdout);
}

#[test]
fn case_06_masks_are_no_cells() {
    let Some(w) = copied("06-masks-counted-as-cells") else { return };
    let run = w.wbc(&["ingest", "--no-check"]);
    for dataset in ["beside", "below"] {
        let rows = w.manifest(dataset);
        assert_eq!(rows.len(), 10, "{}", run.stdout);
        assert!(rows.iter().all(|row| row.mask_path.is_some() && row.box_source.as_deref() == Some("mask")));
    }
    assert!(run.stdout.contains("around the cells: 10 of 10 images"), "{}", run.stdout);
}

#[test]
fn case_13_given_roles_are_said() {
    let Some(w) = copied("13-turned-copies-and-test-folder") else { return };
    let run = w.wbc(&["ingest", "--no-check"]);
    assert!(run.stdout.contains("given roles: test 12, train 36"), "{}", run.stdout);
    let rows = w.manifest("bccd");
    assert!(rows.iter().all(|row| {
        let role = if row.path.contains("/TEST/") { "test" } else { "train" };
        row.given_role.as_deref() == Some(role)
    }));
}

#[test]
fn case_13_the_given_split_is_used_or_said_to_be_pooled() {
    let Some(w) = copied("13-turned-copies-and-test-folder") else { return };
    w.wbc(&["ingest"]);
    let pooled = w.wbc(&["split", "--stratified", "--folds", "3"]).exits(1).stdout;
    let said = "the set's own split is not used: 12 images of TEST are assigned to the folds";
    assert!(pooled.contains(said), "{pooled}");
    w.wbc(&["split", "--given"]);
    let splits = wbc::split::read(&w.workspace(), "bccd").unwrap();
    for row in w.manifest("bccd") {
        let test = splits.place(&row.image_id) == Some(wbc::split::Place::Fold(0));
        assert_eq!(test, row.path.contains("/TEST/"), "{}", row.path);
    }
}

#[test]
fn case_16_lists_that_a_person_can_read_are_read() {
    let Some(w) = copied("16-list-csv-no-hint") else { return };
    w.wbc(&["ingest", "--no-check"]).ok();
    for dataset in ["backslash", "case", "latin1", "nfd", "semicolon", "tab", "utf16"] {
        let rows = w.manifest(dataset);
        assert_eq!(rows.len(), 5, "{dataset}");
        for row in rows {
            let stem = row.path.rsplit(['/', '_']).next().unwrap();
            assert_eq!(stem[..3], row.class.unwrap().name()[..3], "{dataset}: {}", row.path);
        }
    }
}

#[test]
fn case_17_what_is_left_out_is_named() {
    let Some(w) = copied("17-left-out-folders-not-named") else { return };
    let run = w.wbc(&["ingest", "--no-check"]).exits(1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[1], "  left out: 3 of 21 images with 1 other label: Burst 3", "{}", run.stdout);
    assert!(lines.contains(&"  neutrophil 3, eosinophil 3, basophil 3, lymphocyte 6, monocyte 3"), "{}", run.stdout);
}

#[test]
fn case_19_leftovers_are_counted_once() {
    let Some(w) = copied("19-mac-leftovers") else { return };
    let run = w.wbc(&["ingest", "--no-check"]).ok();
    let text = "note: files of operating systems and programs left out: 27";
    assert!(run.stdout.contains(text), "{}", run.stdout);
    assert_eq!(w.issues("mine").len(), 1);
}

#[test]
fn case_08_images_turned_by_exif_fit_their_masks() {
    let Some((w, _, issues)) = ingested("08-exif-turned-image-and-mask") else { return };
    assert!(errors(&issues, "").is_empty(), "{issues:?}");
    let rows = w.manifest("mine");
    assert_eq!(rows.len(), 5);
    for row in rows {
        let path = w.path("data/raw/mine").join(&row.path);
        let image = decode::rgb(&std::fs::read(&path).unwrap(), &path).unwrap();
        let (x, y) = (120, 40);
        let pixel = &image.pixels[(y * image.width_px as usize + x) * 3..][..3];
        // The cell, which is darker than the ground, is in the middle of the mask.
        let cell = row.cell_box().unwrap();
        assert!((94..=146).contains(&cell.x) && cell.right() <= 148, "{cell:?}");
        let mean = |rect: wbc::rect::Rect| {
            let part = decode::crop(&std::fs::read(&path).unwrap(), &path, rect).unwrap();
            part.pixels.iter().map(|v| u64::from(*v)).sum::<u64>() / part.pixels.len() as u64
        };
        let ground = wbc::rect::Rect { x: 0, y: 0, width: 50, height: 50 };
        assert!(mean(cell) + 15 < mean(ground), "{}: {pixel:?}", row.path);
    }
}

#[test]
fn case_11_pages_are_counted_and_the_largest_is_read() {
    let Some((w, status, issues)) = ingested("11-tiff-pages-and-channels") else { return };
    assert_eq!(status, 1);
    has_error(&issues, "three_cells.tif", "3 pages");
    has_error(&issues, "imagej_composite.tif", "3 channels");
    let sizes: Vec<_> = w.manifest("mine").iter().map(|r| (r.path.clone(), r.width_px, r.height_px)).collect();
    let row = |name: &str| (format!("neutrophil/{name}"), 64, 64);
    assert_eq!(sizes, [row("plain.png"), row("thumbnail_first.tif")]);
}

#[test]
fn case_12_transparency_is_white() {
    let Some((w, _, issues)) = ingested("12-transparent-ground-becomes-black") else { return };
    assert!(errors(&issues, "").is_empty(), "{issues:?}");
    for row in w.manifest("mine") {
        let path = w.path("data/raw/mine").join(&row.path);
        let image = decode::rgb(&std::fs::read(&path).unwrap(), &path).unwrap();
        assert_eq!(image.pixels[..3], [255; 3], "{}", row.path);
    }
}

#[test]
fn case_14_values_of_unknown_range_are_not_used() {
    let Some((w, status, issues)) = ingested("14-float-and-12-bit-tiff") else { return };
    assert_eq!(status, 1);
    for row in w.manifest("mine") {
        let words = if row.path.contains("u12") { "as in 12-bit data" } else { "floating-point values reach from" };
        has_error(&issues, &row.path, words);
    }
    assert!(w.checks("mine").iter().all(|check| check.left_out.is_some()));
}

#[test]
fn case_15_files_are_named_for_what_they_are() {
    let Some((w, status, issues)) = ingested("15-found-something-else") else { return };
    assert_eq!(status, 1);
    has_error(&issues, "heic.jpg", "a HEIC photo");
    has_error(&issues, "html.jpg", "a web page: the download failed");
    has_error(&issues, "jp2.jpg", "a JPEG 2000 image");
    has_error(&issues, "lfs.jpg", "a Git LFS pointer: run git lfs pull");
    let read: Vec<_> = w.manifest("mine").iter().map(|r| r.path.rsplit('/').next().unwrap().to_string()).collect();
    assert_eq!(read, ["bigtiff.tif", "gif.jpg", "jpeg_in_tiles.tif", "ok.png", "webp.jpg"]);
}

#[test]
fn case_18_holes_in_jpegs_are_errors() {
    let Some((w, status, issues)) = ingested("18-hole-in-a-jpeg") else { return };
    assert_eq!(status, 1);
    for name in ["hole_0.jpg", "hole_1.jpg"] {
        has_error(&issues, name, "the JPEG is damaged");
    }
    for name in ["whole_0.jpg", "whole_1.jpg"] {
        assert!(errors(&issues, name).is_empty(), "{issues:?}");
    }
    let left_out = w.checks("mine").iter().filter(|check| check.left_out.is_some()).count();
    assert_eq!(left_out, 2);
}

#[test]
fn case_22_no_image_ends_the_program() {
    let Some((w, _, issues)) = ingested("22-odd-jpeg-sampling") else { return };
    assert_eq!(w.manifest("mine").len(), 3);
    assert!(errors(&issues, "plain.png").is_empty());
    // The channels in their headers are not those of their data: libjpeg reads them all the same.
    for name in ["1-1-20-1x7_2x4-progrst.jpg", "1-2-12-16x16_1x1_1x1_2x2-progrst.jpg"] {
        has_error(&issues, name, "the JPEG is damaged");
    }
}

#[test]
fn damaged_and_oversized_jpegs_are_rejected_quickly() {
    let Some(folder) = shared("reliability/repro") else { return };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let start = Instant::now();
        let decoded = decode::rgb(&bytes, &path);
        assert!(start.elapsed() < Duration::from_secs(2), "{}", path.display());
        // The only one of them that is valid.
        let valid = path.file_name().unwrap().to_str().unwrap().starts_with("panic-8x8");
        assert_eq!(decoded.is_ok(), valid, "{}", path.display());
    }
}
