//! `wbc ingest`: layouts, odd files, and what a second ingest does.

use crate::common::{FIVE, Workdir, picture, shared};
use wbc::class::Class;

fn has(issues: &[(String, String)], check: &str, path: &str) -> bool {
    issues.iter().any(|(c, p)| c == check && p == path)
}

#[test]
fn class_folders_of_every_format_and_spelling() {
    let w = Workdir::new("folders");
    w.write("data/raw/lab/Neutrophils/SNE_1.jpg", picture("a.jpg", 1, 90, 80));
    w.write("data/raw/lab/eosi/2.png", picture("a.png", 2, 90, 80));
    w.write("data/raw/lab/deep/er/Baso/3.bmp", picture("a.bmp", 3, 90, 80));
    w.write("data/raw/lab/LY/4.tiff", picture("a.tiff", 4, 90, 80));
    w.write("data/raw/lab/platelet/5.png", picture("a.png", 5, 90, 80));
    w.write("data/raw/lab/1_Monocytes/notes.txt", "not a picture");
    w.write("data/raw/lab/1_Monocytes/fake.jpg", "not a picture either");
    w.wbc(&["ingest"]).exits(1);
    let rows = w.manifest("lab");
    let found: Vec<_> = rows.iter().map(|r| (r.path.as_str(), r.class.unwrap(), r.format.as_str())).collect();
    assert_eq!(
        found,
        [
            ("LY/4.tiff", Class::LYMPHOCYTE, "tiff"),
            ("Neutrophils/SNE_1.jpg", Class::NEUTROPHIL, "jpeg"),
            ("deep/er/Baso/3.bmp", Class::BASOPHIL, "bmp"),
            ("eosi/2.png", Class::EOSINOPHIL, "png"),
        ]
    );
    assert!(rows.iter().all(|r| (r.width_px, r.height_px) == (90, 80) && r.content_hash.len() == 64));
    assert_eq!(rows[1].subtype.as_deref(), Some("SNE"));
    let issues = w.issues("lab");
    assert!(has(&issues, "unknown_class", "platelet"), "{issues:?}");
    assert!(has(&issues, "not_an_image", "1_Monocytes/notes.txt"), "{issues:?}");
    assert!(has(&issues, "not_an_image", "1_Monocytes/fake.jpg"), "{issues:?}");
}

#[test]
fn a_header_that_claims_60000_by_60000_pixels_is_not_believed() {
    let w = Workdir::new("huge");
    let mut bmp = picture("a.bmp", 1, 8, 8);
    bmp[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000i32.to_le_bytes());
    w.write("data/raw/d/neutrophil/huge.bmp", bmp);
    w.write("data/raw/d/neutrophil/good.png", picture("a.png", 2, 64, 64));
    w.wbc(&["ingest"]).exits(1);
    assert_eq!(w.manifest("d").len(), 1);
    assert!(has(&w.issues("d"), "bad_header", "neutrophil/huge.bmp"));
}

#[test]
fn an_empty_workspace_and_an_empty_data_set_are_clear_errors() {
    let w = Workdir::new("empty");
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("data/raw") && run.stderr.contains("neutrophil/*.jpg"), "{}", run.stderr);
    std::fs::create_dir_all(w.path("data/raw/none")).unwrap();
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("an empty folder"), "{}", run.stderr);
    // One data set that cannot be read does not keep the other from it.
    w.write("data/raw/some/baso/1.png", picture("a.png", 1, 64, 64));
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("not ingested: none"), "{}", run.stderr);
    assert_eq!(w.manifest("some").len(), 1);
}

#[cfg(unix)]
#[test]
fn link_loops_and_unreadable_files_are_issues() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let w = Workdir::new("links");
    w.write("data/raw/d/neutrophil/1.png", picture("a.png", 1, 64, 64));
    symlink("..", w.path("data/raw/d/neutrophil/up")).unwrap();
    symlink("nowhere", w.path("data/raw/d/neutrophil/dead.png")).unwrap();
    let secret = w.write("data/raw/d/neutrophil/secret.png", picture("a.png", 2, 64, 64));
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    let readable = std::fs::read(&secret).is_ok(); // as root
    w.wbc(&["ingest"]).exits(1);
    let issues = w.issues("d");
    assert!(has(&issues, "link_loop", "neutrophil/up"), "{issues:?}");
    assert!(has(&issues, "unreadable", "neutrophil/dead.png"), "{issues:?}");
    assert_eq!(has(&issues, "unreadable", "neutrophil/secret.png"), !readable);
    assert_eq!(w.manifest("d").len(), 1 + usize::from(readable));
}

#[test]
fn lisc_frames_become_a_row_a_cell_with_the_experts_boxes() {
    let w = Workdir::new("lisc");
    w.wbc(&["synth", "--layout", "lisc", "--images", "3,3,3,3,3", "--name", "lisc"]).ok();
    let mixed = w.path("data/raw/lisc/Main Dataset/mixt");
    std::fs::create_dir_all(&mixed).unwrap();
    std::fs::copy(w.path("data/raw/lisc/Main Dataset/neut/1.bmp"), mixed.join("1.bmp")).unwrap();
    let run = w.wbc(&["ingest", "--no-check"]);
    assert_ne!(run.status, 2, "{}", run.stderr);
    let rows = w.manifest("lisc");
    let frames: std::collections::BTreeSet<_> = rows.iter().map(|r| &r.path).collect();
    assert_eq!(frames.len(), 16);
    assert!(rows.iter().filter(|r| r.class.is_none()).all(|r| r.path.contains("mixt")));
    for row in rows.iter().filter(|r| r.class.is_some()) {
        let cell_box = row.cell_box().expect("the expert's mask gives a box");
        assert_eq!(row.box_source.as_deref(), Some("mask"));
        assert!(cell_box.right() <= 720 && cell_box.bottom() <= 576 && cell_box.width > 20 && cell_box.height > 20);
    }
    // Cells of one frame share a group, and so does the mixed copy of a frame.
    let groups = wbc::dataset::unchecked(&rows);
    for row in &rows {
        let same = rows.iter().filter(|r| r.path == row.path);
        let groups_of_file = rows.iter().zip(&groups).filter(|(r, _)| r.path == row.path).map(|(_, g)| &g.group_id);
        assert_eq!(groups_of_file.collect::<std::collections::BTreeSet<_>>().len(), 1);
        assert_eq!(row.image_id.contains('#'), same.count() > 1);
    }
    let issues = w.issues("lisc");
    assert!(issues.iter().any(|(check, _)| check == "not_used"), "{issues:?}");

    std::fs::remove_dir_all(w.path("data/raw/lisc/Ground Truth Segmentation")).unwrap();
    w.wbc(&["ingest", "--no-check"]).exits(1);
    let rows = w.manifest("lisc");
    let boxed = rows.iter().filter(|r| r.box_source.as_deref() == Some("stain")).count();
    assert!(boxed >= 12, "{boxed} of {} cells found by their stain", rows.len());
}

#[test]
fn images_masks_and_labels() {
    let w = Workdir::new("jtsc");
    for n in 1..=3 {
        w.write(format!("data/raw/j/images/00{n}.bmp"), picture("a.bmp", n, 60, 50));
    }
    let mask = image::GrayImage::from_fn(60, 50, |x, y| {
        image::Luma([if (10..30).contains(&x) && (20..45).contains(&y) { 128 } else { 0 }])
    });
    mask.save(w.path("data/raw/j/images/../mask.png")).unwrap();
    w.write("data/raw/j/masks/001.png", std::fs::read(w.path("data/raw/j/mask.png")).unwrap());
    std::fs::remove_file(w.path("data/raw/j/mask.png")).unwrap();
    w.write("data/raw/j/labels.csv", "image ID,class label\n1,1\n002,5\n3,9\n7,1\n");
    w.wbc(&["ingest", "--no-check"]).exits(1);
    let rows = w.manifest("j");
    let found: Vec<_> = rows.iter().map(|r| (r.path.as_str(), r.class, r.cell_box().map(<[u32; 4]>::from))).collect();
    assert_eq!(
        found,
        [
            ("images/001.bmp", Some(Class::NEUTROPHIL), Some([10, 20, 20, 25])),
            ("images/002.bmp", Some(Class::BASOPHIL), None),
        ]
    );
    let checks: Vec<String> = w.issues("j").into_iter().map(|i| i.0).collect();
    for check in ["unknown_class", "no_image", "no_mask", "no_label"] {
        assert!(checks.iter().any(|c| c == check), "{check} not in {checks:?}");
    }
}

#[test]
fn a_list_names_images_in_the_folder_and_elsewhere() {
    let w = Workdir::new("list");
    w.write("data/raw/l/a b.png", picture("a.png", 1, 64, 64));
    let outside = w.write("elsewhere/2.png", picture("a.png", 2, 64, 64));
    let list = format!("path,class,subtype\na b.png,NEU,BNE\n{},mono,\ngone.png,baso,\n", outside.display());
    w.write("data/raw/l/list.csv", list);
    w.wbc(&["ingest"]).exits(1);
    let rows = w.manifest("l");
    let mut found: Vec<_> = rows.iter().map(|r| (r.class.unwrap(), r.subtype.as_deref())).collect();
    found.sort();
    assert_eq!(found, [(Class::NEUTROPHIL, Some("BNE")), (Class::MONOCYTE, None)]);
    assert!(w.issues("l").iter().any(|(check, _)| check == "no_image"));
}

#[test]
fn a_second_ingest_keeps_what_check_found_until_a_file_changes() {
    let w = Workdir::new("again");
    for n in 0..12 {
        w.write(format!("data/raw/d/neutrophil/{n}.png"), picture("a.png", n, 64, 64));
    }
    w.wbc(&["ingest", "--threads", "1"]).exits(1);
    let files = || ["manifest.parquet", "issues.parquet"].map(|f| std::fs::read(w.path("data/d").join(f)).unwrap());
    let first = files();
    let run = w.wbc(&["ingest", "--threads", "2"]).exits(1);
    assert!(run.stdout.contains("up to date"), "{}", run.stdout);
    assert!(files() == first);
    w.write("data/raw/d/neutrophil/new.png", picture("a.png", 99, 64, 64));
    w.wbc(&["ingest", "--no-check"]).ok();
    assert_eq!(w.manifest("d").len(), 13);
    std::fs::remove_file(w.path("data/raw/d/neutrophil/new.png")).unwrap();
    w.wbc(&["ingest", "--threads", "2"]).exits(1);
    assert!(files() == first, "the same images give the same tables");
}

#[test]
fn real_data_sets_have_the_counts_of_their_card() {
    for (dataset, counts) in [
        ("pbc", [2006, 1310, 377, 1100, 1193]),
        ("lisc-cells", [51, 38, 53, 56, 47]),
        ("jtsc", [176, 22, 1, 53, 48]),
        ("lisc", [0, 0, 6, 0, 0]),
    ] {
        let Some(source) = shared(dataset) else { continue };
        let w = Workdir::new("real");
        std::fs::create_dir_all(w.path("data/raw")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(source.canonicalize().unwrap(), w.path("data/raw").join(dataset)).unwrap();
        #[cfg(not(unix))]
        continue;
        let run = w.wbc(&["ingest", "--no-check"]);
        assert_ne!(run.status, 2, "{}", run.stderr);
        let rows = w.manifest(dataset);
        assert_eq!(FIVE.map(|c| rows.iter().filter(|r| r.class == Some(c)).count()), counts, "{dataset}");
        match dataset {
            "pbc" => {
                assert!(rows.iter().all(|r| r.subtype.is_some()));
                assert!(has(&w.issues("pbc"), "not_an_image", "neutrophil/.DS_169665.jpg"));
            }
            "jtsc" => assert!(rows.iter().all(|r| r.cell_box().is_some())),
            _ => {}
        }
    }
}
