//! `wbc preprocess`: what is stored, and when it is made again.

use crate::common::{Workdir, image_bytes, shared};
use arrow_array::cast::AsArray;
use wbc::schema::TENSORS;
use wbc::table;

fn tensors(w: &Workdir, dataset: &str, size: u32) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    table::read_batches(
        &w.workspace().tensors(dataset, &format!("tensors-{size}")).join("part-00000.parquet"),
        &TENSORS,
        |batch| {
            let (ids, pixels) = (batch.column(0).as_string::<i32>(), batch.column(3).as_binary::<i32>());
            all.extend((0..batch.num_rows()).map(|i| (ids.value(i).to_string(), pixels.value(i).to_vec())));
            Ok(())
        },
    )
    .unwrap();
    all
}

#[test]
fn tensors_are_the_central_square_the_right_way_round() {
    let w = Workdir::new("central");
    // 360 x 361 with a mark in the top left corner of what the paper keeps, and one outside of it.
    let image = image::RgbImage::from_fn(360, 361, |x, y| {
        if x < 79 || y < 79 || x >= 281 || y >= 281 {
            image::Rgb([255, 0, 0])
        } else if x < 130 && y < 110 {
            image::Rgb([0, 0, 255])
        } else {
            image::Rgb([40, 200, 40])
        }
    });
    std::fs::create_dir_all(w.path("data/raw/d/neutrophil")).unwrap();
    image.save(w.path("data/raw/d/neutrophil/1.png")).unwrap();
    // There is no cell in it.
    w.wbc(&["ingest", "--no-check", "--cut", "centre"]).exits(1);
    let run = w.wbc(&["preprocess", "--contact-sheet", "sheet.png"]).ok();
    assert!(run.stdout.contains("1 preprocessed image of 128 x 128 px, cut 1 by the central square"), "{}", run.stdout);
    let (id, pixels) = &tensors(&w, "d", 128)[0];
    assert_eq!((id.as_str(), pixels.len()), ("d/neutrophil/1.png", 128 * 128 * 3));
    let at = |x: usize, y: usize| &pixels[(y * 128 + x) * 3..][..3];
    assert_eq!(
        (at(2, 2), at(28, 15), at(36, 2), at(2, 24)),
        (&[0, 0, 255][..], &[0, 0, 255][..], &[40, 200, 40][..], &[40, 200, 40][..])
    );
    assert!(pixels.chunks(3).all(|p| p[0] < 60), "nothing from outside the square");
    assert_eq!(image::image_dimensions(w.path("sheet.png")).unwrap(), (1324, 160));
}

#[test]
fn tensors_are_kept_until_something_changes() {
    let w = Workdir::new("kept");
    w.wbc(&["synth", "--images", "20", "--name", "d"]).ok();
    w.wbc(&["ingest"]);
    w.wbc(&["preprocess", "--threads", "1"]).ok();
    let part = w.path("data/d/tensors-128/part-00000.parquet");
    let first = std::fs::read(&part).unwrap();
    assert!(w.wbc(&["preprocess"]).ok().stdout.contains("up to date"));
    let run = w.wbc(&["preprocess", "--cut", "whole"]).ok();
    assert!(run.stdout.contains("the whole image") && !run.stdout.contains("up to date"), "{}", run.stdout);
    let folders = || {
        let entries =
            std::fs::read_dir(w.path("data/d")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| name.starts_with("tensors-128")).collect::<Vec<_>>()
    };
    assert_eq!(folders().len(), 2, "other settings have a folder of their own");
    assert!(w.wbc(&["preprocess"]).ok().stdout.contains("up to date"), "and take nothing away");
    std::fs::remove_dir_all(w.path("data/d/tensors-128")).unwrap();
    w.wbc(&["preprocess", "--threads", "2"]).ok();
    assert!(std::fs::read(&part).unwrap() == first, "threads or history change the bytes");
    w.wbc(&["preprocess", "--size", "224"]).ok();
    assert_eq!(tensors(&w, "d", 224)[0].1.len(), 224 * 224 * 3);
    assert!(part.is_file(), "each size has its own folder");
    let run = w.wbc(&["preprocess", "--size", "4"]).exits(2);
    assert!(run.stderr.contains("preprocess.size_px") && run.stderr.contains("found 4"), "{}", run.stderr);
}

#[test]
fn an_image_that_cannot_be_decoded_stops_it_and_keeps_what_was_there() {
    let w = Workdir::new("damaged");
    w.wbc(&["synth", "--images", "10", "--name", "d"]).ok();
    w.wbc(&["ingest"]);
    w.wbc(&["preprocess"]).ok();
    let jpeg = image_bytes("a.jpg", 5, 360, 361);
    w.write("data/raw/d/neutrophil/cut.jpg", &jpeg[..jpeg.len() / 2]);
    w.wbc(&["ingest", "--no-check"]).ok();
    let run = w.wbc(&["preprocess"]).exits(2);
    assert!(run.stderr.contains("cut.jpg") && run.stderr.contains("wbc check"), "{}", run.stderr);
    assert_eq!(tensors(&w, "d", 128).len(), 10);
    w.wbc(&["check"]).exits(1);
    assert!(w.wbc(&["preprocess"]).ok().stdout.contains("1 left out"));
}

#[cfg(unix)]
#[test]
fn real_cells_are_cut_by_their_boxes() {
    // JTSC has one cell under two labels.
    for (dataset, cut) in [("jtsc", "298 by the cell's box"), ("lisc", "6 by the cell's box")] {
        let Some(source) = shared(dataset) else { continue };
        let w = Workdir::new("real-cut");
        std::fs::create_dir_all(w.path("data/raw")).unwrap();
        std::os::unix::fs::symlink(source.canonicalize().unwrap(), w.path("data/raw").join(dataset)).unwrap();
        w.wbc(&["ingest"]).exits(1);
        let run = w.wbc(&["preprocess"]).ok();
        assert!(run.stdout.contains(cut), "{}", run.stdout);
        // A nucleus is dark: the middle of an image that holds the cell is darker than its corners.
        let grey = |p: &[u8], xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
            let n = (xs.len() * ys.len()) as f64;
            ys.flat_map(|y| xs.clone().map(move |x| f64::from(p[(y * 128 + x) * 3 + 1]))).sum::<f64>() / n
        };
        let all = tensors(&w, dataset, 128);
        let central = all.iter().filter(|(_, p)| {
            let corners = [(0..16, 0..16), (112..128, 0..16), (0..16, 112..128), (112..128, 112..128)];
            let edge = corners.into_iter().map(|(x, y)| grey(p, x, y)).fold(0.0, f64::max);
            grey(p, 40..88, 40..88) < edge - 10.0
        });
        assert!(central.count() * 100 >= all.len() * 95, "{dataset}");
    }
}
