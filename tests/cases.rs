//! Inputs of users that earlier versions read wrongly: `../shared/cases`, where it is available.

use crate::common::{self, Workdir};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wbc::class::Class;
use wbc::decode;
use wbc::rows::{CutRule, IssueRow, Severity};

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
    assert_eq!(w.issues("mine").iter().filter(|issue| issue.0 != "cut").count(), 1);
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

/// A pipeline that trains in seconds, on folds of the data set `mine`.
const TINY: &str = "name = \"tiny\"\n[split]\nfolds = 2\n[preprocess]\nsize_px = 32\n[train]\nepochs = 1\nbatch = 16\n";

/// The rows of a table of cells in CSV, by image: the box, and the probabilities.
fn predicted(w: &Workdir, run: &str, images: &[&str]) -> Vec<(String, String)> {
    let mut args = vec!["predict", run];
    args.extend(images);
    args.extend(["--output", "cells.csv"]);
    w.wbc(&args).ok();
    let text = std::fs::read_to_string(w.path("cells.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let (path, rest) = line.split_once(',').unwrap();
        (path.to_string(), rest.to_string())
    });
    rows.collect()
}

#[test]
fn case_09_new_images_are_cut_as_the_training_images() {
    let Some((w, _, issues)) = ingested("09-predict-cuts-otherwise-than-training") else { return };
    assert!(errors(&issues, "").is_empty(), "{issues:?}");
    assert!(w.manifest("mine").iter().all(|row| row.cut == Some(CutRule::Centre) && row.cell_box().is_none()));
    w.write("tiny.toml", TINY);
    w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]).ok();
    w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "r"]).ok();
    let rows = predicted(&w, "r", &["data/raw/mine"]);
    assert_eq!(rows.len(), 20);
    // No box.
    assert!(rows.iter().all(|(_, rest)| rest.starts_with("0,,,,,")), "{rows:?}");
    #[cfg(unix)]
    case_10_files_are_found_as_ingest_finds_them(&w);
    case_20_lists_are_read_as_ingest_reads_them(&w);
}

/// With the run `r` of case 09.
#[cfg(unix)]
fn case_10_files_are_found_as_ingest_finds_them(w: &Workdir) {
    let Some(source) = shared("cases").map(|cases| cases.join("10-predict-drops-files-in-silence")) else { return };
    for name in ["new/a0.jpg", "new/a1.jpg", "new/c.jfif", "new/d", "new/e.webp", "slide2/b0.jpg", "slide2/b1.jpg"] {
        w.write(name, std::fs::read(source.join(name)).unwrap());
    }
    std::os::unix::fs::symlink("../slide2", w.path("new/slide2")).unwrap();
    assert_eq!(predicted(w, "r", &["new"]).len(), 7, "any extension or none, WebP, and linked folders");
    // An image that cannot be read is missing in the count: it is named.
    w.write("new/photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    let run = w.wbc(&["predict", "r", "new"]).exits(1);
    assert!(run.stderr.contains("photo.heic") && run.stderr.contains("HEIC"), "{}", run.stderr);
}

/// With the run `r` of case 09 and its images.
fn case_20_lists_are_read_as_ingest_reads_them(w: &Workdir) {
    let [first, second] = ["data/raw/mine/basophil/0.jpg", "data/raw/mine/monocyte/1.jpg"];
    for (list, text) in [
        ("bom.txt", format!("\u{feff}{first}\r\n{second}\r\n")),
        ("column.csv", format!("n;Path\n1; {first} \n2;\"{second}\"\n")),
        ("twice.txt", format!("{first}\n{second}\n{first}\n")),
    ] {
        w.write(list, text);
        let paths: Vec<String> = predicted(w, "r", &[list]).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [first, second], "{list}");
    }
    let twice = w.wbc(&["predict", "r", "data/raw/mine", first]).ok().stdout;
    assert!(twice.contains("named again and counted once: 1 image") && twice.contains("20 cells"), "{twice}");
    let refused = w.wbc(&["predict", "r", "bom.txt", "--output", "cells.xlsx"]).exits(2).stderr;
    assert!(refused.contains("cells.xlsx"), "{refused}");
}

#[test]
fn case_21_a_cell_beside_the_middle_is_cut_around() {
    let Some((w, status, issues)) = ingested("21-cell-beside-the-middle") else { return };
    assert_eq!(issues.iter().filter(|issue| issue.severity != Severity::Note).count() > 0, status == 1);
    let rows = w.manifest("mine");
    assert_eq!(rows.len(), 20);
    for row in &rows {
        assert_eq!((row.cut, row.box_source.as_deref()), (Some(CutRule::Box), Some("stain")), "{}", row.path);
        let cell = row.cell_box().unwrap();
        let centre = (cell.x + cell.width / 2, cell.y + cell.height / 2);
        let number: usize = row.path.rsplit('/').next().unwrap().trim_end_matches(".jpg").parse().unwrap();
        let (x, y) = [(45u32, 45u32), (275, 45), (45, 195), (275, 195)][number];
        assert!(centre.0.abs_diff(x) < 20 && centre.1.abs_diff(y) < 20, "{}: {cell:?}", row.path);
    }
    w.write("tiny.toml", TINY);
    w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]).ok();
    w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "r"]).ok();
    let cells = predicted(&w, "r", &["data/raw/mine"]);
    let boxes: Vec<String> =
        rows.iter().filter_map(|row| row.cell_box()).map(|b| format!("0,{},{},", b.x, b.y)).collect();
    assert_eq!(cells.len(), 20);
    assert!(cells.iter().zip(boxes).all(|((_, rest), cell)| rest.starts_with(&cell)), "{cells:?}");
}

#[test]
fn lisc_masks_leave_out_a_border_of_the_frames() {
    let Some(source) = shared("data/lisc-masks") else { return };
    let w = Workdir::new("lisc-masks");
    std::fs::create_dir_all(w.path("data/raw")).unwrap();
    std::os::unix::fs::symlink(source.canonicalize().unwrap(), w.path("data/raw/lisc")).unwrap();
    w.wbc(&["ingest", "--no-check"]).exits(1);
    let rows = w.manifest("lisc");
    let (masked, found): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.mask_path.is_some());
    assert_eq!((masked.len(), found.len()), (6, 6));
    for row in masked {
        let path = source.join(row.mask_path.as_ref().unwrap());
        let mask = decode::mask(&std::fs::read(&path).unwrap(), &path).unwrap();
        let on = |i: &usize| mask.pixels[3 * i] > 0;
        let pixels = || (0..(mask.width_px * mask.height_px) as usize).filter(on);
        let (x, y) = (|i: usize| i as u32 % mask.width_px + 4, |i: usize| i as u32 / mask.width_px + 4);
        let (left, right) = (pixels().map(x).min().unwrap(), pixels().map(x).max().unwrap());
        let (top, bottom) = (pixels().map(y).min().unwrap(), pixels().map(y).max().unwrap());
        let expected = wbc::rect::Rect { x: left, y: top, width: right + 1 - left, height: bottom + 1 - top };
        assert_eq!(row.cell_box(), Some(expected), "{}", row.path);
    }
    // The lymphocytes, by hand: (x, y) of their centres.
    let centres = [
        ("1", (190, 326)),
        ("15", (622, 321)),
        ("2", (592, 255)),
        ("46", (673, 265)),
        ("7", (239, 161)),
        ("9", (355, 256)),
    ];
    for (row, (name, (x, y))) in found.iter().zip(centres) {
        let cell = row.cell_box().unwrap();
        assert!(row.path.ends_with(&format!("lymp/{name}.bmp")));
        assert!(cell.x < x && cell.right() > x && cell.y < y && cell.bottom() > y, "{name}: {cell:?}");
    }
}

/// Real frames with the boxes of their white cells, as left, top, right and bottom edge, px: BCCD's by their
/// annotations, LISC's by the experts' masks.
fn frames_with_boxes() -> Option<[Vec<(decode::Rgb, Vec<[f64; 4]>)>; 2]> {
    let (source, lisc) = (shared("data/bccd-voc")?, shared("data/lisc-masks")?);
    let read = |path: &Path| decode::rgb(&std::fs::read(path).unwrap(), path).unwrap();
    let mut bccd = Vec::new();
    for entry in std::fs::read_dir(source.join("JPEGImages")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(source.join(format!("Annotations/{name}.xml"))).unwrap();
        let value = |object: &str, key: &str| -> f64 {
            object.split(&format!("<{key}>")).nth(1).unwrap().split('<').next().unwrap().parse().unwrap()
        };
        let white = text.split("<object>").skip(1).filter(|object| object.contains("<name>WBC</name>"));
        let white: Vec<[f64; 4]> =
            white.map(|object| ["xmin", "ymin", "xmax", "ymax"].map(|key| value(object, key))).collect();
        bccd.push((read(&path), white));
    }
    let w = Workdir::new("frames");
    for entry in walkdir::WalkDir::new(&lisc).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let below = entry.path().strip_prefix(&lisc).unwrap();
        w.write(Path::new("data/raw/lisc").join(below), std::fs::read(entry.path()).unwrap());
    }
    w.wbc(&["ingest", "--no-check"]);
    let of_mask = w.manifest("lisc").into_iter().filter(|row| row.box_source.as_deref() == Some("mask"));
    let lisc = of_mask.map(|row| {
        let rect = row.cell_box().unwrap();
        let edges = [rect.x, rect.y, rect.right(), rect.bottom()].map(f64::from);
        (read(&w.path("data/raw/lisc").join(&row.path)), vec![edges])
    });
    let lisc = lisc.collect();
    Some([bccd, lisc])
}

/// The image at `scale`, each channel multiplied by `gain` and raised by `lift`.
fn changed(image: &decode::Rgb, scale: f64, gain: [f32; 3], lift: f32) -> decode::Rgb {
    let size = [image.width_px, image.height_px].map(|side| (f64::from(side) * scale).round() as u32);
    let image = image::RgbImage::from_raw(image.width_px, image.height_px, image.pixels.clone()).unwrap();
    let mut image = image::imageops::resize(&image, size[0], size[1], image::imageops::FilterType::Triangle);
    for pixel in image.pixels_mut() {
        (0..3).for_each(|c| pixel.0[c] = (f32::from(pixel.0[c]) * gain[c] + lift).min(255.0) as u8);
    }
    decode::Rgb { width_px: size[0], height_px: size[1], pixels: image.into_raw() }
}

/// Cells that are annotated, those of them that are found, and others that are found.
fn found(frames: &[&(decode::Rgb, Vec<[f64; 4]>)], scale: f64, gain: [f32; 3], lift: f32) -> (usize, usize, usize) {
    let of_frame = |(image, boxes): &&(decode::Rgb, Vec<[f64; 4]>)| {
        let cells = wbc::segment::find_cells(&changed(image, scale, gain, lift));
        let is_hit = |found: &&wbc::segment::FoundCell| {
            let nucleus = found.nucleus;
            let x = (f64::from(nucleus.x) + f64::from(nucleus.width) / 2.0) / scale;
            let y = (f64::from(nucleus.y) + f64::from(nucleus.height) / 2.0) / scale;
            boxes.iter().any(|b| b[0] <= x && x <= b[2] && b[1] <= y && y <= b[3])
        };
        let hits = cells.iter().filter(is_hit).count().min(boxes.len());
        (boxes.len(), hits, cells.len() - hits)
    };
    let sum = |a: (usize, usize, usize), b: (usize, usize, usize)| (a.0 + b.0, a.1 + b.1, a.2 + b.2);
    frames.par_iter().map(of_frame).reduce(|| (0, 0, 0), sum)
}

/// Other magnifications, darker and paler images, and tints. 42 of BCCD's 43 cells and all of LISC's 6 are found in
/// each of them, and no other; of the palest (half the contrast) 37 of BCCD's.
#[test]
fn white_cells_of_frames_are_found_without_their_boxes_in_any_size_and_light() {
    let Some([bccd, lisc]) = frames_with_boxes() else { return };
    let same = [1.0; 3];
    // Every so many frames, and how many cells may be missed.
    for (scale, gain, lift, step, missed) in [
        (1.0, same, 0.0, 1, 1),
        (0.35, same, 0.0, 1, 2),
        (0.7, [0.6; 3], 0.0, 2, 2),
        (2.5, [1.0, 0.95, 0.7], 0.0, 8, 1),
        (1.0, [0.8, 0.9, 1.0], 0.0, 2, 2),
        (0.5, [1.0, 0.85, 0.95], 0.0, 2, 2),
        (1.0, [0.5; 3], 120.0, 2, 7),
    ] {
        let some: Vec<_> = bccd.iter().step_by(step).collect();
        let (boxes, hits, others) = found(&some, scale, gain, lift);
        let what = format!("x {scale}, {gain:?} + {lift}: {hits} of {boxes} found, {others} others");
        assert!(boxes >= 30 / step && hits + missed >= boxes && others <= usize::from(scale != 1.0), "BCCD {what}");
        let some: Vec<_> = lisc.iter().step_by(step.div_ceil(4)).collect();
        let (boxes, hits, others) = found(&some, scale, gain, lift);
        let what = format!("x {scale}, {gain:?} + {lift}: {hits} of {boxes} found, {others} others");
        assert!(boxes >= 3 && hits + 1 >= boxes && others <= 1, "LISC {what}");
    }
}

/// Wide fields, put together of all of BCCD's frames.
#[test]
fn white_cells_of_wide_fields_are_found() {
    let Some([bccd, _]) = frames_with_boxes() else { return };
    let mut number = 0;
    for (across, down) in [(2, 2), (4, 3), (4, 4), (8, 5)] {
        let (width, height) = bccd.iter().fold((u32::MAX, u32::MAX), |(width, height), (image, _)| {
            (width.min(image.width_px), height.min(image.height_px))
        });
        let mut field = image::RgbImage::new(across * width, down * height);
        let mut boxes = Vec::new();
        for place in 0..across * down {
            number = (number + 11) % bccd.len();
            let (frame, of_frame) = &bccd[number];
            let (left, top) = (place % across * width, place / across * height);
            let frame = image::RgbImage::from_raw(frame.width_px, frame.height_px, frame.pixels.clone()).unwrap();
            image::imageops::replace(&mut field, &frame, i64::from(left), i64::from(top));
            let [left, top] = [left, top].map(f64::from);
            boxes.extend(of_frame.iter().map(|b| [b[0] + left, b[1] + top, b[2] + left, b[3] + top]));
        }
        let field = decode::Rgb { width_px: across * width, height_px: down * height, pixels: field.into_raw() };
        let (all, hits, others) = found(&[&(field, boxes)], 1.0, [1.0; 3], 0.0);
        assert!(10 * hits >= 9 * all && others <= 1, "{across} x {down}: {hits} of {all} found, {others} others");
    }
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

#[test]
fn boxes_of_mirrored_frames_have_no_nucleus_inside() {
    let Some(source) = shared("data/bccd-voc") else { return };
    for mirrored in [false, true] {
        let w = Workdir::new("mirrored");
        common::copy(&source, &w.path("data/raw/bccd"));
        for entry in std::fs::read_dir(w.path("data/raw/bccd/JPEGImages")).unwrap().filter(|_| mirrored) {
            let path = entry.unwrap().path();
            image::imageops::flip_horizontal(&image::open(&path).unwrap().to_rgb8()).save(&path).unwrap();
        }
        let text = w.wbc(&["ingest", "--no-check"]).stdout;
        assert_eq!(text.contains("annotated boxes sampled have no stained nucleus inside"), mirrored, "{text}");
    }
}
