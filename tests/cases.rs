//! Inputs of users that earlier versions read wrongly: `../shared/cases`, where it is available.

use crate::common::Workdir;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
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

/// A copy of a case's data, ingested: the exit status and the findings.
fn ingested(case: &str) -> Option<(Workdir, i32, Vec<IssueRow>)> {
    let source = shared("cases")?.join(case).join("data");
    let w = Workdir::new(&case[..2]);
    for entry in walkdir::WalkDir::new(&source).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let below = entry.path().strip_prefix(&source).unwrap();
        w.write(Path::new("data").join(below), std::fs::read(entry.path()).unwrap());
    }
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
