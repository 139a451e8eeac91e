//! Data sets that are laid out or drawn in ways that are easily read wrongly.

use crate::common::{Workdir, image_bytes, shared};
use image::{ImageFormat, Rgb, RgbImage, imageops};
use wbc::decode;
use wbc::rows::{CutRule, ManifestRow};

/// Ingests `raw/d`: the exit status, what is printed, and the rows.
fn read(w: &Workdir, args: &[&str]) -> (i32, String, Vec<ManifestRow>) {
    let run = w.wbc(&[&["ingest", "--no-check", "--dataset", "d"], args].concat());
    assert!(run.status < 2, "{}", run.stderr);
    (run.status, run.stdout, w.manifest("d"))
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A mask of 64 x 64 px, with a cell of 20 x 30 px at (10, 20) and a nucleus in it.
fn mask(ground: [u8; 3], cell: [u8; 3], nucleus: [u8; 3]) -> Vec<u8> {
    let colour = |x: u32, y: u32| match (x, y) {
        (15..25, 25..40) => nucleus,
        (10..30, 20..50) => cell,
        _ => ground,
    };
    png(&RgbImage::from_fn(64, 64, |x, y| Rgb(colour(x, y))))
}

#[test]
fn masks_of_any_colour_are_no_cells() {
    let boxes = |image: &str, mask_path: &str, bytes: Vec<u8>| {
        let w = Workdir::new("masks");
        w.write(format!("data/raw/d/{image}"), image_bytes(image, 1, 64, 64));
        w.write(format!("data/raw/d/{mask_path}"), bytes);
        let (status, text, rows) = read(&w, &[]);
        assert_eq!(rows.len(), 1, "{text}");
        (status, text, rows[0].cell_box().map(<[u32; 4]>::from))
    };
    let around = Some([10, 20, 20, 30]);
    let coloured = || mask([0; 3], [0, 200, 0], [0, 0, 200]);
    assert_eq!(boxes("monocyte/1.bmp", "monocyte/1.png", coloured()).2, around);
    // With the soft edges that some programs draw.
    let soft = imageops::blur(&image::load_from_memory(&mask([0; 3], [180; 3], [250; 3])).unwrap().to_rgb8(), 0.6);
    let (_, text, found) = boxes("monocyte/1.bmp", "monocyte/1.png", png(&soft));
    assert!(found.is_some_and(|[_, _, width, height]| width < 26 && height < 36), "{text}");
    // What is no mask of a cell is said, and its box is not used.
    let whole = RgbImage::from_fn(64, 64, |x, y| Rgb([(3 * x) as u8, 100, (200 - 2 * y) as u8]));
    for (mask_path, bytes, words) in [
        ("monocyte/1.png", mask([255; 3], [0; 3], [0; 3]), "no mask, or inverted"),
        ("monocyte/1_seg.png", png(&whole), "no mask, or inverted"),
        ("monocyte/1.png", png(&RgbImage::new(64, 64)), "found it black"),
    ] {
        let (status, text, found) = boxes("monocyte/1.bmp", mask_path, bytes);
        assert!(status == 1 && text.contains(words) && text.contains(mask_path), "{text}");
        assert_ne!(found, Some([0, 0, 64, 64]), "{text}");
    }
}

#[test]
fn a_template_of_masks_that_names_no_file_is_said() {
    let w = Workdir::new("mask-template");
    for n in 0..2 {
        w.write(format!("data/raw/d/ig_{n}.png"), image_bytes("a.png", n, 64, 64));
        w.write(format!("data/raw/d/shape_{n}.png"), mask([0; 3], [99; 3], [200; 3]));
    }
    let pipeline =
        |mask: &str| format!("name = \"p\"\n[ingest]\npath = \"{{class}}_{{number}}.png\"\nmask = \"{mask}\"\n");
    w.write("p.toml", pipeline("shape_{number}.png"));
    let (status, text, rows) = read(&w, &["--classes", "ig,shape", "--pipeline", "p.toml"]);
    assert_eq!((status, rows.len()), (0, 2), "{text}");
    assert!(rows.iter().all(|row| row.mask_path.is_some()), "{text}");
    w.write("p.toml", pipeline("outline_{number}.png"));
    let (status, text, _) = read(&w, &["--classes", "ig,shape", "--pipeline", "p.toml"]);
    assert!(
        status == 1 && text.contains("2 images without a mask at outline_{number}.png, such as ig_0.png"),
        "{text}"
    );
}

#[test]
fn other_versions_and_odd_folders_are_said() {
    let w = Workdir::new("versions");
    for n in 0..4 {
        for (k, version) in ["Original", "Segmented"].into_iter().enumerate() {
            let seed = 2 * n + k as u32;
            w.write(format!("data/raw/d/{version}/monocyte/{n}.png"), image_bytes("a.png", seed, 64, 64));
        }
    }
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, rows.len()), (1, 4), "{text}");
    assert!(text.contains("left out: 4 images in Segmented") && rows[0].path.starts_with("Original"), "{text}");

    let w = Workdir::new("odd-folder");
    for (n, folder) in ["neutrophil", "neutrophil/rejected", "monocyte"].into_iter().enumerate() {
        w.write(format!("data/raw/d/{folder}/{n}.png"), image_bytes("a.png", n as u32, 64, 64));
    }
    let (status, text, rows) = read(&w, &[]);
    assert_eq!((status, rows.len()), (1, 3), "{text}");
    assert!(text.contains("rejected") && text.contains("{class}/{subject}/{file}"), "{text}");
}

#[test]
fn folders_are_not_classes_where_the_file_names_tell_them() {
    let w = Workdir::new("names");
    for n in 0..12 {
        let class = ["neutrophil", "monocyte", "lymphocyte"][n as usize % 3];
        w.write(format!("data/raw/d/P{}/{class}_{n}.png", n % 4), image_bytes("a.png", n, 64, 64));
    }
    let run = w.wbc(&["ingest", "--dataset", "d"]).exits(2);
    assert!(run.stderr.contains("{class}_{number}.png") && run.stderr.contains("monocyte 4"), "{}", run.stderr);
}

#[test]
fn folders_of_roles_and_patients_are_no_data_sets() {
    let w = Workdir::new("parts");
    for (n, folder) in ["train", "test"].into_iter().enumerate() {
        w.write(format!("data/raw/{folder}/monocyte/1.png"), image_bytes("a.png", n as u32, 64, 64));
    }
    let run = w.wbc(&["ingest"]).exits(2);
    assert!(run.stderr.contains("given roles (test, train)") && run.stderr.contains("raw/mine"), "{}", run.stderr);
    w.wbc(&["ingest", "--dataset", "train", "--no-check"]).ok();
    let w = Workdir::new("numbered");
    for (n, folder) in ["P1", "P2"].into_iter().enumerate() {
        w.write(format!("data/raw/{folder}/monocyte/1.png"), image_bytes("a.png", n as u32, 64, 64));
    }
    let text = w.wbc(&["ingest", "--no-check"]).exits(1).stdout;
    assert!(text.starts_with("warning: read as 2 data sets. Where they are patients (P1, P2)"), "{text}");
}

#[test]
fn real_cells_in_close_views_are_found() {
    let Some(pbc) = shared("pbc") else { return };
    let w = Workdir::new("close");
    let mut images = 0;
    for class in ["basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"] {
        let mut files: Vec<_> = std::fs::read_dir(pbc.join(class)).unwrap().map(|e| e.unwrap().path()).collect();
        files.retain(|path| decode::has_image_extension(path));
        files.sort();
        for (n, file) in files.iter().step_by(files.len() / 12).enumerate() {
            let Ok(image) = decode::rgb(&std::fs::read(file).unwrap(), file) else { continue };
            let image = RgbImage::from_raw(image.width_px, image.height_px, image.pixels).unwrap();
            let (x, y) = ((image.width() - 170) / 2, (image.height() - 170) / 2);
            let close = imageops::crop_imm(&image, x, y, 170, 170).to_image();
            let side = [48, 64, 96][n % 3];
            let close = imageops::resize(&close, side, side, imageops::FilterType::Triangle);
            w.write(format!("data/raw/d/{class}/{n}.png"), png(&close));
            images += 1;
        }
    }
    let (_, text, rows) = read(&w, &[]);
    assert!(images >= 55 && rows.len() == images, "{text}");
    assert!(rows.iter().all(|row| row.cut.is_some()) && text.contains("that one cell fills: taken whole"), "{text}");
    let lost = w.issues("d").into_iter().filter(|(check, _)| check == "no_cell").collect::<Vec<_>>();
    assert!(lost.is_empty(), "{lost:?}");
    // A frame among them is cut around its cell.
    let some = |class: &str| std::fs::read(w.path(format!("data/raw/d/{class}/0.png"))).unwrap();
    let cell = image::load_from_memory(&some("monocyte")).unwrap().to_rgb8();
    let ground = *cell.get_pixel(0, 0);
    let mut frame = RgbImage::from_pixel(160, 160, ground);
    imageops::overlay(&mut frame, &cell, 6, 6);
    w.write("data/raw/d/monocyte/frame.png", png(&frame));
    let (status, text, rows) = read(&w, &[]);
    let frame = rows.iter().find(|row| row.path.ends_with("frame.png")).unwrap();
    assert_eq!((status, frame.cut), (1, Some(CutRule::Box)), "{text}");
    assert!(frame.cell_box().is_some_and(|b| b.x < 60 && b.y < 60), "{text}");
}
