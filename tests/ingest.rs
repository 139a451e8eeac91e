//! `wbc ingest`: layouts, odd files, and what a second ingest does.

use crate::common::{FIVE, Workdir, image_bytes, shared};
use wbc::class::Class;

fn has(issues: &[(String, String)], check: &str, path: &str) -> bool {
    issues.iter().any(|(c, p)| c == check && p == path)
}

#[test]
fn class_folders_of_every_format_and_spelling() {
    let w = Workdir::new("folders");
    w.write("data/raw/lab/Neutrophils/SNE_1.jpg", image_bytes("a.jpg", 1, 90, 80));
    w.write("data/raw/lab/eosi/2.png", image_bytes("a.png", 2, 90, 80));
    w.write("data/raw/lab/deep/er/Baso/3.bmp", image_bytes("a.bmp", 3, 90, 80));
    w.write("data/raw/lab/LY/4.tiff", image_bytes("a.tiff", 4, 90, 80));
    w.write("data/raw/lab/platelet/5.png", image_bytes("a.png", 5, 90, 80));
    w.write("data/raw/lab/1_Monocytes/notes.txt", "not an image");
    w.write("data/raw/lab/1_Monocytes/fake.jpg", "not an image either");
    w.wbc(&["ingest"]).exits(1);
    let rows = w.manifest("lab");
    let found: Vec<_> = rows.iter().filter_map(|r| Some((r.path.as_str(), r.class?, r.format.as_str()))).collect();
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
    let left_out = rows.iter().find(|r| r.class.is_none()).unwrap();
    assert_eq!((left_out.path.as_str(), left_out.label.as_deref()), ("platelet/5.png", Some("platelet")));
    let issues = w.issues("lab");
    assert!(has(&issues, "unknown_class", "platelet"), "{issues:?}");
    assert!(has(&issues, "not_an_image", "1_Monocytes/notes.txt"), "{issues:?}");
    assert!(has(&issues, "not_an_image", "1_Monocytes/fake.jpg"), "{issues:?}");
}

#[test]
fn a_header_that_claims_60000_by_60000_pixels_is_not_believed() {
    let w = Workdir::new("huge");
    let mut bmp = image_bytes("a.bmp", 1, 8, 8);
    bmp[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000i32.to_le_bytes());
    w.write("data/raw/d/neutrophil/huge.bmp", bmp);
    w.write("data/raw/d/neutrophil/good.png", image_bytes("a.png", 2, 64, 64));
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
    w.write("data/raw/some/baso/1.png", image_bytes("a.png", 1, 64, 64));
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("not ingested: none"), "{}", run.stderr);
    assert_eq!(w.manifest("some").len(), 1);
}

#[cfg(unix)]
#[test]
fn link_loops_and_dead_links_are_issues() {
    use std::os::unix::fs::symlink;
    let w = Workdir::new("links");
    w.write("data/raw/d/neutrophil/1.png", image_bytes("a.png", 1, 64, 64));
    symlink("..", w.path("data/raw/d/neutrophil/up")).unwrap();
    symlink("nowhere", w.path("data/raw/d/neutrophil/dead.png")).unwrap();
    symlink("circle.png", w.path("data/raw/d/neutrophil/circle.png")).unwrap();
    w.wbc(&["ingest"]).exits(1);
    let issues = w.issues("d");
    assert!(has(&issues, "link_loop", "neutrophil/up"), "{issues:?}");
    assert!(has(&issues, "unreadable", "neutrophil/dead.png"), "{issues:?}");
    assert!(has(&issues, "unreadable", "neutrophil/circle.png"), "{issues:?}");
    assert_eq!(w.manifest("d").len(), 1);
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
        w.write(format!("data/raw/j/images/00{n}.bmp"), image_bytes("a.bmp", n, 60, 50));
    }
    let mask = image::GrayImage::from_fn(60, 50, |x, y| {
        image::Luma([if (10..30).contains(&x) && (20..45).contains(&y) { 128 } else { 0 }])
    });
    mask.save(w.path("data/raw/j/images/../mask.png")).unwrap();
    w.write("data/raw/j/masks/001.png", std::fs::read(w.path("data/raw/j/mask.png")).unwrap());
    std::fs::remove_file(w.path("data/raw/j/mask.png")).unwrap();
    w.write("data/raw/j/labels.csv", "image ID,class label\n1,1\n002,5\n3,artefact\n7,1\n");
    w.wbc(&["ingest", "--no-check"]).exits(1);
    let rows = w.manifest("j");
    let found: Vec<_> = rows.iter().map(|r| (r.path.as_str(), r.class, r.cell_box().map(<[u32; 4]>::from))).collect();
    assert_eq!(
        found,
        [
            ("images/001.bmp", Some(Class::NEUTROPHIL), Some([10, 20, 20, 25])),
            ("images/002.bmp", Some(Class::BASOPHIL), None),
            ("images/003.bmp", None, None),
        ]
    );
    let checks: Vec<String> = w.issues("j").into_iter().map(|i| i.0).collect();
    for check in ["unknown_class", "no_image", "no_mask"] {
        assert!(checks.iter().any(|c| c == check), "{check} not in {checks:?}");
    }
}

#[test]
fn a_list_names_images_in_the_folder_and_elsewhere() {
    let w = Workdir::new("list");
    w.write("data/raw/l/a b.png", image_bytes("a.png", 1, 64, 64));
    let outside = w.write("elsewhere/2.png", image_bytes("a.png", 2, 64, 64));
    let list = format!("path,class,subtype\na b.png,NEU,BNE\n{},mono,\ngone.png,baso,\n", outside.display());
    w.write("data/raw/l/list.csv", list);
    w.wbc(&["ingest"]).exits(1);
    let rows = w.manifest("l");
    let mut found: Vec<_> = rows.iter().map(|r| (r.class.unwrap(), r.subtype.as_deref())).collect();
    found.sort();
    assert_eq!(found, [(Class::NEUTROPHIL, Some("BNE")), (Class::MONOCYTE, None)]);
    assert!(w.issues("l").iter().any(|(check, _)| check == "no_image"));
}

/// Ingests `raw/d` and returns the exit status, what is printed, and class, label and path of every row.
fn read(w: &Workdir, args: &[&str]) -> (i32, String, Vec<(String, String, String)>) {
    let run = w.wbc(&[&["ingest", "--no-check", "--dataset", "d"], args].concat());
    assert!(run.status < 2, "{}", run.stderr);
    let of = |r: &wbc::rows::ManifestRow| {
        let class = r.class.map_or("-", Class::name).to_string();
        (class, r.label.clone().unwrap_or_default(), r.path.clone())
    };
    (run.status, run.stdout, w.manifest("d").iter().map(of).collect())
}

fn counts(rows: &[(String, String, String)]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    rows.iter().for_each(|(class, ..)| *counts.entry(class.as_str()).or_insert(0) += 1);
    counts.iter().map(|(class, n)| format!("{class} {n}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn labels_stay_and_classes_are_chosen() {
    let w = Workdir::new("classes");
    for (n, folder) in ["Neutrophils", "stabkernig", "ig", "ig", "Plättchen?", "lymphocyte?"].iter().enumerate() {
        w.write(format!("data/raw/d/{folder}/{n}.png"), image_bytes("a.png", n as u32, 64, 64));
    }
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, counts(&rows).as_str()), (1, "- 4 neutrophil 2"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "  left out: 4 of 6 images with 3 other labels: ig 2, Plättchen? 1, lymphocyte? 1");
    let (_, _, rows) = read(&w, &["--classes", "pbc8"]);
    assert_eq!(counts(&rows), "- 2 ig 2 neutrophil 2");
    assert!(rows.iter().any(|row| row.1 == "stabkernig" && row.0 == "neutrophil"));
    let (_, _, rows) = read(&w, &["--classes", "all"]);
    assert_eq!(counts(&rows), "Plättchen? 1 ig 2 lymphocyte? 1 neutrophil 1 stabkernig 1");
    let (_, _, rows) = read(&w, &["--classes", "ig, Neutrophil"]);
    assert_eq!(counts(&rows), "- 3 ig 2 neutrophil 1");
    let map = "name = \"p\"\n[classes]\nset = \"wbc5\"\n\
               map = { ig = \"\", \"lymphocyte?\" = \"lymphocyte\", \"Plättchen?\" = \"\" }\n";
    w.write("p.toml", map);
    let (status, _, rows) = read(&w, &["--pipeline", "p.toml"]);
    assert_eq!((status, counts(&rows).as_str()), (0, "- 3 lymphocyte 1 neutrophil 2"));
    let classes = |name| wbc::dataset::classes(&w.workspace(), name).unwrap();
    assert!(classes("d").is_wbc5());
    w.write(
        "mine.toml",
        "name = \"mine\"\n[[class]]\nname = \"ig\"\n[[class]]\nname = \"band\"\nspellings = [\"stabkernig\"]\n",
    );
    let (_, _, rows) = read(&w, &["--classes", "mine.toml"]);
    assert_eq!(counts(&rows), "- 3 band 1 ig 2");
    assert_eq!(classes("d").to_string(), "ig, band");
    let run = w.wbc(&["ingest", "--classes", "wbc6"]).exits(2);
    assert!(run.stderr.contains("wbc5, pbc8, all"), "{}", run.stderr);
}

#[test]
fn a_finer_label_of_another_class_is_an_error() {
    let w = Workdir::new("subtype");
    w.write("data/raw/d/neutrophil/SNE_1.png", image_bytes("a.png", 1, 64, 64));
    w.write("data/raw/d/neutrophil/LY_2.png", image_bytes("a.png", 2, 64, 64));
    let run = w.wbc(&["ingest"]).exits(1);
    assert!(has(&w.issues("d"), "subtype", "neutrophil/LY_2.png"), "{}", run.stdout);
    let left_out: Vec<_> = w.checks("d").into_iter().map(|check| check.left_out).collect();
    assert_eq!(left_out, [Some("subtype".into()), None]);
}

#[test]
fn subjects_slides_and_roles_from_lists_and_folders() {
    let w = Workdir::new("subjects");
    let mut list = String::from("Label;Donor;Slide ID;Image_ID;Split;note\r\n");
    for n in 0..4 {
        w.write(format!("data/raw/d/img/{n:03}.png"), image_bytes("a.png", n, 64, 64));
        list += &format!("mono;P{};S{n};{n};{};x\r\n", n % 2, ["TRAIN", "test", "val", "7"][n as usize]);
    }
    list = list.replacen("mono;", "neutrophil;", 1);
    w.write("data/raw/d/my images.tsv", list);
    let (status, text, _) = read(&w, &[]);
    assert_eq!(status, 1, "a role that is none");
    for words in ["columns that are not used: note", "from 2 subjects, 4 slides", "test 1, train 1, validation 1"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let rows = w.manifest("d");
    let of = |n: usize| {
        let row = &rows[n];
        [&row.subject_id, &row.slide_id, &row.given_role].map(|value| value.clone().unwrap_or_default()).join(" ")
    };
    assert_eq!([of(0), of(1), of(2), of(3)], ["P0 S0 train", "P1 S1 test", "P0 S2 validation", "P1 S3 "]);

    std::fs::remove_dir_all(w.path("data/raw/d")).unwrap();
    for (n, folder) in ["TRAIN/patient_1/neutrophil", "TEST/patient_2/ig"].iter().enumerate() {
        w.write(format!("data/raw/d/{folder}/{n}.png"), image_bytes("a.png", n as u32, 64, 64));
    }
    read(&w, &["--classes", "pbc8"]);
    let rows = w.manifest("d");
    assert_eq!(rows[0].subject_id.as_deref(), Some("patient_2"));
    assert_eq!((rows[0].given_role.as_deref(), rows[1].given_role.as_deref()), (Some("test"), Some("train")));

    // Folders that may be patients are named; a list can name the patients of class folders.
    std::fs::remove_dir_all(w.path("data/raw/d")).unwrap();
    for n in 0..4 {
        w.write(format!("data/raw/d/X{}/neutrophil/{n}.png", n % 2), image_bytes("a.png", n, 64, 64));
    }
    let (status, text, _) = read(&w, &[]);
    assert!(status == 1 && text.contains("folders whose names are not used, but whose images are: X0, X1"), "{text}");
    w.write("data/raw/d/patients.csv", "file,patient\n0.png,A\n1.png,B\n2.png,A\n3.png,B\n");
    let (_, text, rows) = read(&w, &[]);
    assert!(text.contains("from 2 subjects"), "{text}");
    assert_eq!(counts(&rows), "neutrophil 4");
}

#[test]
fn templates_read_any_tree() {
    let w = Workdir::new("template");
    for n in 0..8 {
        let (label, patient) = (n % 2, n / 4);
        w.write(format!("data/raw/d/Im{n:03}_{label}.png"), image_bytes("a.png", n, 64, 64));
        w.write(format!("data/raw/e/{patient}/k{label}/{n}.png"), image_bytes("a.png", n, 64, 64));
    }
    w.write("data/raw/d/notes.png", image_bytes("a.png", 99, 64, 64));
    let run = w.wbc(&["ingest", "--dataset", "d"]).exits(2);
    assert!(run.stderr.contains("Im{number}_{label}.png") && run.stderr.contains("0 4, 1 4"), "{}", run.stderr);
    let run = w.wbc(&["ingest", "--dataset", "e"]).exits(2);
    assert!(run.stderr.contains("{subject}/{class}/{file}"), "{}", run.stderr);
    let pipeline = "name = \"p\"\n[ingest]\npath = \"Im{number}_{label}.png\"\n";
    w.write("p.toml", pipeline);
    let run = w.wbc(&["ingest", "--dataset", "d", "--pipeline", "p.toml"]).exits(2);
    assert!(run.stderr.contains("the numbers 0, 1") && run.stderr.contains("[classes] map"), "{}", run.stderr);
    w.write("p.toml", format!("{pipeline}[classes]\nmap = {{ \"1\" = \"blast\", \"0\" = \"normal\" }}\n"));
    let (status, text, rows) = read(&w, &["--pipeline", "p.toml"]);
    assert_eq!((status, counts(&rows).as_str()), (1, "blast 4 normal 4"));
    assert!(text.contains("1 image whose path is not like Im{number}_{label}.png, such as notes.png"), "{text}");
    w.write("p.toml", "name = \"p\"\n[ingest]\npath = \"{subject}/{class}/{file}\"\n[classes]\nset = \"all\"\n");
    w.wbc(&["ingest", "--no-check", "--dataset", "e", "--pipeline", "p.toml"]).ok();
    let subjects: std::collections::BTreeSet<_> = w.manifest("e").into_iter().map(|r| r.subject_id.unwrap()).collect();
    assert_eq!(subjects.into_iter().collect::<Vec<_>>(), ["0", "1"]);
}

/// A mask of 64 x 64 px with a cell of 20 x 30 px at (10, 20).
fn mask() -> Vec<u8> {
    let mask = image::GrayImage::from_fn(64, 64, |x, y| {
        image::Luma([if (10..30).contains(&x) && (20..50).contains(&y) { 255 } else { 0 }])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    mask.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn masks_beside_images_are_masks() {
    for [image, mask_path] in [
        ["neutrophil/1.bmp", "neutrophil/1.png"],
        ["neutrophil/1.png", "neutrophil/1_mask.png"],
        ["neutrophil/1.png", "neutrophil/mask/1.png"],
        ["images/neutrophil/1.png", "masks/neutrophil/1.png"],
        ["neutrophil/img/01.png", "neutrophil/gt/1.png"],
    ] {
        let w = Workdir::new("pairs");
        w.write(format!("data/raw/d/{image}"), image_bytes(image, 1, 64, 64));
        w.write(format!("data/raw/d/{mask_path}"), mask());
        let (status, text, rows) = read(&w, &[]);
        assert_eq!((status, rows.len()), (0, 1), "{image}: {text}");
        let row = &w.manifest("d")[0];
        assert_eq!(row.mask_path.as_deref(), Some(mask_path), "{text}");
        assert_eq!(row.cell_box().map(<[u32; 4]>::from), Some([10, 20, 20, 30]));
        assert!(text.contains("around the cells: 1 of 1 image"), "{text}");
    }
    // A mask without an image, and one that no name tells.
    let w = Workdir::new("orphans");
    w.write("data/raw/d/neutrophil/1.png", image_bytes("a.png", 1, 64, 64));
    w.write("data/raw/d/neutrophil/x_mask.png", mask());
    w.write("data/raw/d/neutrophil/y.png", mask());
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, rows.len()), (1, 1));
    assert!(text.contains("neutrophil/y.png") && text.contains("neutrophil/x_mask.png"), "{text}");
}

#[test]
fn cellavision_is_read_like_jtsc() {
    let w = Workdir::new("cellavision");
    for n in 1..=5u32 {
        w.write(format!("data/raw/d/{n:03}.bmp"), image_bytes("a.bmp", n, 64, 64));
        w.write(format!("data/raw/d/{n:03}.png"), mask());
    }
    w.write("data/raw/d/Class Labels.csv", "image ID,class\r\n1,1\r\n2,2\r\n3,3\r\n4,4\r\n5,5\r\n");
    let (status, text, rows) = read(&w, &[]);
    assert_eq!(status, 0, "{text}");
    let classes: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(classes, ["neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil"]);
    assert!(text.contains("1 neutrophil"), "which number was read as which class: {text}");
    assert!(w.manifest("d").iter().all(|row| row.cell_box().is_some()));
    // Without masks the numbers may mean anything.
    for n in 1..=5u32 {
        std::fs::remove_file(w.path(format!("data/raw/d/{n:03}.png"))).unwrap();
    }
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("the numbers 1, 2, 3, 4, 5"), "{}", run.stderr);
}

#[test]
fn coco_and_yolo_boxes_are_rows() {
    let w = Workdir::new("boxes");
    for n in 1..=2u32 {
        w.write(format!("data/raw/d/train/{n}.png"), image_bytes("a.png", n, 100, 80));
        w.write(format!("data/raw/e/images/val/{n}.png"), image_bytes("a.png", n, 100, 80));
    }
    let coco = r#"{"images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 80},
        {"id": 2, "file_name": "2.png", "width": 50, "height": 40}],
        "categories": [{"id": 0, "name": "Neutrophil"}, {"id": 1, "name": "RBC"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [10, 20, 30, 40]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]},
        {"id": 3, "image_id": 1, "category_id": 0, "segmentation": [[50, 10, 70, 10, 60, 40]]},
        {"id": 4, "image_id": 2, "category_id": 0, "bbox": [1, 1, 2, 2]}]}"#;
    w.write("data/raw/d/train/_annotations.coco.json", coco);
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, counts(&rows).as_str()), (1, "neutrophil 2"), "{text}");
    assert!(text.contains("1 of 3 annotated objects") && text.contains("RBC 1"), "{text}");
    assert!(text.contains("boxes are for 50 x 40 px"), "{text}");
    let rows = w.manifest("d");
    let boxes: Vec<_> = rows.iter().map(|row| row.cell_box().map(<[u32; 4]>::from).unwrap()).collect();
    assert_eq!(boxes, [[10, 20, 30, 40], [50, 10, 20, 30]]);
    assert!(rows.iter().all(|row| row.box_source.as_deref() == Some("annotation")));
    assert_eq!(rows[0].given_role.as_deref(), Some("train"));

    w.write("data/raw/e/labels/val/1.txt", "1 0.25 0.5 0.3 0.5\n0 0.5 0.5 0.1 0.1\n");
    w.write("data/raw/e/labels/val/2.txt", "1 0.5 0.5 0.2 0.2\n");
    w.write("data/raw/e/data.yaml", "names: ['RBC', 'WBC']\n");
    let run = w.wbc(&["ingest", "--no-check", "--dataset", "e"]).exits(1);
    assert!(run.stdout.contains("WBC 2"), "{}", run.stdout);
    let rows = w.manifest("e");
    assert_eq!(rows[0].cell_box().map(<[u32; 4]>::from), Some([10, 20, 30, 40]));
    assert!(rows.iter().all(|r| r.class.is_none() && r.given_role.as_deref() == Some("validation")));
    w.wbc(&["ingest", "--no-check", "--dataset", "e", "--classes", "all"]);
    assert_eq!(w.manifest("e").iter().filter(|r| r.class == Some(Class::new("WBC"))).count(), 2);
    // Without names the numbers have to be explained.
    std::fs::remove_file(w.path("data/raw/e/data.yaml")).unwrap();
    let run = w.wbc(&["ingest", "--dataset", "e"]).exits(2);
    assert!(run.stderr.contains("the numbers 0, 1"), "{}", run.stderr);
}

#[test]
fn missing_values_numbers_and_rows_that_contradict_each_other() {
    let w = Workdir::new("values");
    for n in 0..6u32 {
        w.write(format!("data/raw/d/{n}.png"), image_bytes("a.png", n, 64, 64));
    }
    w.write("data/raw/d/train.csv", "path,class,patient\n0.png,neutrophil,1.0\n1.png,monocyte,NaN\n2.png,nan,2.0\n");
    w.write(
        "data/raw/d/test.csv",
        "path,class,patient\n3.png,neutrophil,2\n4.png,n/a,\n0.png,Neutrophil,1\n5.png,monocyte,2",
    );
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, counts(&rows).as_str()), (1, "monocyte 2 neutrophil 2"), "{text}");
    assert!(text.contains("from 2 subjects"), "{text}");
    // 0.png is listed for training and for testing.
    let issues = wbc::dataset::issues(&w.workspace(), "d").unwrap();
    let twice = issues.iter().find(|issue| issue.check == "listed_twice").unwrap();
    assert!(twice.message.contains("the given role train here and test in row 4 of test.csv"), "{}", twice.message);
    assert_eq!(issues.iter().filter(|issue| issue.check == "no_label").count(), 2);
}

#[test]
fn a_list_of_patients_leaves_no_image_of_the_folders_out() {
    let w = Workdir::new("patients");
    for n in 0..4u32 {
        w.write(format!("data/raw/d/neutrophil/{n}.png"), image_bytes("a.png", n, 64, 64));
    }
    w.write("data/raw/d/patients.csv", "filename,patient\n0.png,A\n1.png,B\n2.png,B, C\n");
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, counts(&rows).as_str()), (1, "neutrophil 4"), "{text}");
    let said = "2 images not in the list, which are used with the class of their folder: neutrophil/2.png";
    assert!(text.contains(said) && text.contains("error bad_row: 1 (patients.csv)"), "{text}");
    assert!(text.contains("from 2 subjects"), "{text}");
}

#[test]
fn tables_of_boxes_are_read_as_boxes() {
    let w = Workdir::new("table");
    for n in 1..=2u32 {
        w.write(format!("data/raw/d/{n}.png"), image_bytes("a.png", n, 100, 80));
    }
    let table = "image_names,cell_type,xmin,xmax,ymin,ymax\n1.png,RBC,1,9,2,9\n1.png,Neutrophil,10,40,20,60\n\
                 1.png,Monocyte,50,70,10,40\n2.png,Monocyte,x,70,10,40\n";
    w.write("data/raw/d/test.csv", table);
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, counts(&rows).as_str()), (1, "monocyte 1 neutrophil 1"), "{text}");
    assert!(text.contains("1 of 3 annotated objects") && text.contains("RBC 1"), "{text}");
    assert!(text.contains("row 5: expected a class and four numbers"), "{text}");
    let boxes: Vec<_> = w.manifest("d").iter().map(|row| row.cell_box().map(<[u32; 4]>::from).unwrap()).collect();
    assert_eq!(boxes, [[10, 20, 30, 40], [50, 10, 20, 30]]);
}

#[test]
fn boxes_of_images_that_are_turned_upright() {
    let w = Workdir::new("turned");
    // EXIF's orientation 6: stored with its left edge at the top.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = |seed: u32, width: u32, height: u32| {
        let jpeg = image_bytes("a.jpg", seed, width, height);
        let length = (exif.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, exif, &jpeg[2..]].concat()
    };
    let voc = |width: u32, height: u32, [left, top, right, bottom]: [u32; 4]| {
        format!(
            "<annotation><size><width>{width}</width><height>{height}</height></size>\
             <object><name>monocyte</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>\
             <ymax>{bottom}</ymax></bndbox></object></annotation>"
        )
    };
    // The same box: drawn on the image as it is stored, and on the upright one.
    for (name, annotation) in [("1", voc(100, 80, [10, 20, 40, 60])), ("2", voc(80, 100, [20, 10, 60, 40]))] {
        w.write(format!("data/raw/d/{name}.jpg"), turned(1, 100, 80));
        w.write(format!("data/raw/d/{name}.xml"), annotation);
    }
    // Nothing tells which of the two a square image is.
    w.write("data/raw/d/3.jpg", turned(2, 80, 80));
    w.write("data/raw/d/3.xml", voc(80, 80, [20, 10, 60, 40]));
    let (status, text, _) = read(&w, &[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("1 image is turned by a note in the file (EXIF)") && text.contains("3.jpg"), "{text}");
    let boxes: Vec<_> = w.manifest("d").iter().map(|row| row.cell_box().map(<[u32; 4]>::from).unwrap()).collect();
    assert_eq!(boxes, [[20, 10, 40, 30]; 3]);
}

#[test]
fn masks_of_another_size_and_of_several_cells_are_said() {
    let w = Workdir::new("bad-masks");
    let mask = |width: u32, height: u32, cells: &[u32]| {
        let mask = image::GrayImage::from_fn(width, height, |x, y| {
            let inside = cells.iter().any(|left| (*left..left + 20).contains(&x)) && (30..50).contains(&y);
            image::Luma([if inside { 255 } else { 0 }])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        mask.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    for (n, mask) in [mask(200, 80, &[90]), mask(100, 40, &[45]), mask(200, 80, &[10, 150])].iter().enumerate() {
        w.write(format!("data/raw/d/monocyte/{n}.bmp"), image_bytes("a.bmp", n as u32, 200, 80));
        w.write(format!("data/raw/d/monocyte/{n}.png"), mask);
    }
    let (status, text, _) = read(&w, &[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("not used: 1 of 3 masks, such as monocyte/1.png: expected a mask of 200 x 80 px"), "{text}");
    assert!(text.contains("left out: 1 of 3 images with several white cells and one label"), "{text}");
    assert!(text.contains("around the cells: 2 of 3 images"), "{text}");
    let left_out = has(&w.issues("d"), "several_cells", "monocyte/2.bmp");
    assert!(left_out, "{:?}", w.issues("d"));
}

#[test]
fn frames_of_bccd_by_voc_and_by_labels() {
    let Some(source) = shared("bccd-voc") else { return };
    let w = Workdir::new("voc");
    for folder in ["JPEGImages", "Annotations"] {
        for entry in std::fs::read_dir(source.join(folder)).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            w.write(format!("data/raw/d/{folder}/{name}"), std::fs::read(entry.path()).unwrap());
        }
    }
    // The numbers are those of tests/fixtures/bccd_voc.py.
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, counts(&rows).as_str()), (1, "- 43"), "{text}");
    assert!(text.contains("741 of 784 annotated objects") && text.contains("RBC 687, Platelets 54"), "{text}");
    w.write("data/raw/d/labels.csv", std::fs::read(source.join("labels.csv")).unwrap());
    let (_, text, rows) = read(&w, &[]);
    assert_eq!(counts(&rows), "- 8 basophil 1 eosinophil 6 lymphocyte 4 monocyte 1 neutrophil 23", "{text}");
    assert!(
        text.contains("8 white cells without a class: its frame has several labels 6, its frame has no label 2"),
        "{text}"
    );
}

#[test]
fn class_folders_without_a_data_set_are_named() {
    let w = Workdir::new("no-folder");
    w.write("data/raw/neutrophil/1.png", image_bytes("a.png", 1, 64, 64));
    w.write("data/raw/monocyte/2.png", image_bytes("a.png", 2, 64, 64));
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("monocyte, neutrophil") && run.stderr.contains("raw/mine/monocyte"), "{}", run.stderr);
}

#[test]
fn a_second_ingest_keeps_what_check_found_until_a_file_changes() {
    let w = Workdir::new("again");
    for n in 0..12 {
        w.write(format!("data/raw/d/neutrophil/{n}.png"), image_bytes("a.png", n, 64, 64));
    }
    w.wbc(&["ingest", "--threads", "1"]).exits(1);
    let files = || ["manifest.parquet", "issues.parquet"].map(|f| std::fs::read(w.path("data/d").join(f)).unwrap());
    let first = files();
    let run = w.wbc(&["ingest", "--threads", "2"]).exits(1);
    assert!(run.stdout.contains("up to date"), "{}", run.stdout);
    assert!(files() == first);
    w.write("data/raw/d/neutrophil/new.png", image_bytes("a.png", 99, 64, 64));
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
