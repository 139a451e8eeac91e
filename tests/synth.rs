//! `wbc synth`: synthetic data sets.

use crate::common::{FIVE, Workdir};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wbc::decode;

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .map(Result::unwrap)
        .filter(|e| e.file_type().is_file())
        .map(|e| (e.path().strip_prefix(dir).unwrap().to_path_buf(), std::fs::read(e.path()).unwrap()))
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let w = Workdir::new("synth-seed");
    w.wbc(&["synth", "--images", "12", "--threads", "1", "--name", "a"]).ok();
    w.wbc(&["synth", "--images", "12", "--threads", "2", "--name", "b"]).ok();
    w.wbc(&["synth", "--images", "12", "--seed", "1", "--name", "c"]).ok();
    let [a, b, c] = ["a", "b", "c"].map(|name| files(&w.path("data/raw").join(name)));
    assert_eq!(a.len(), 13);
    assert!(a == b, "the number of threads changes the files");
    assert!(a.iter().all(|(path, bytes)| c[path] != *bytes), "the seed has no effect");
    for (path, bytes) in a.iter().filter(|(path, _)| path.extension().unwrap() == "jpg") {
        let head = decode::header(bytes, path).unwrap();
        assert_eq!((head.format.name(), head.width_px, head.height_px), ("jpeg", 360, 361));
    }
}

#[test]
fn masks_cover_the_cells_of_their_images() {
    let w = Workdir::new("synth-lisc");
    w.wbc(&["synth", "--layout", "lisc", "--images", "1,0,1,1,1"]).ok();
    let dir = w.path("data/raw/synthetic-lisc");
    assert_eq!(files(&dir).len(), 4 * 3 + 1);
    for class in ["neut", "Baso", "lymp", "mono"] {
        let read = |file: String| {
            let path = dir.join(file);
            let image = decode::rgb(&std::fs::read(&path).unwrap(), &path).unwrap();
            assert_eq!((image.width_px, image.height_px), (720, 576));
            image.pixels
        };
        let image = read(format!("Main Dataset/{class}/1.bmp"));
        let masks = [1, 2].map(|e| read(format!("Ground Truth Segmentation/{class}/areaforexpert{e}/1_expert.bmp")));
        assert!(masks[0] != masks[1], "the masks of both experts are identical");
        assert!(masks.iter().flatten().all(|v| *v == 0 || *v == 255));
        // Pixels that are dark in green belong to the nucleus, so most of them are in the mask.
        let dark: Vec<usize> = (0..720 * 576).filter(|i| image[3 * i + 1] < 105 && image[3 * i] < 170).collect();
        let inside = dark.iter().filter(|i| masks[0][3 * **i] == 255).count();
        assert!(dark.len() > 500 && inside * 10 > dark.len() * 6, "{class}: {inside} of {}", dark.len());
        let area = masks[0].iter().filter(|v| **v == 255).count() / 3;
        assert!((1_000..30_000).contains(&area), "{class}: {area}");
    }
}

#[test]
fn files_that_were_not_generated_are_never_overwritten() {
    let w = Workdir::new("synth-refuse");
    let own = w.path("data/raw/synthetic/neutrophil/own.jpg");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::write(&own, "mine").unwrap();
    let run = w.wbc(&["synth", "--images", "5"]).exits(2);
    assert!(run.stderr.contains("own.jpg") && run.stderr.contains("--name"), "{}", run.stderr);
    assert_eq!(files(&w.path("data/raw")).len(), 1);

    // A synthetic data set is replaced unless the user has added a file.
    w.wbc(&["synth", "--images", "6", "--name", "x"]).ok();
    w.wbc(&["synth", "--images", "5", "--name", "x"]).ok();
    assert_eq!(files(&w.path("data/raw/x")).len(), 6);
    std::fs::write(w.path("data/raw/x/neutrophil/own.jpg"), "mine").unwrap();
    w.wbc(&["synth", "--images", "5", "--name", "x"]).exits(2);
    assert_eq!(files(&w.path("data/raw/x")).len(), 7);

    for args in [["--images", "0"], ["--name", "../x"], ["--name", "runs"], ["--layout", "pbc"], ["--images", "1,2"]] {
        w.wbc(&[&["synth"], &args[..]].concat()).exits(2);
    }
}

#[test]
fn mean_colour_classifies_some_cells_but_not_all() {
    let w = Workdir::new("synth-hard");
    w.wbc(&["synth", "--images", "24,24,24,24,24"]).ok();
    let mut means: Vec<(usize, [f64; 3])> = Vec::new();
    for (number, class) in FIVE.into_iter().enumerate() {
        for (path, bytes) in files(&w.path("data/raw/synthetic").join(class.name())) {
            let pixels = decode::rgb(&bytes, &path).unwrap().pixels;
            let mean = |c: usize| {
                // The central square of the paper.
                let centre = (80..280).flat_map(|y| (80..280).map(move |x| (y * 360 + x) * 3 + c));
                centre.map(|i| f64::from(pixels[i])).sum::<f64>() / 40_000.0
            };
            means.push((number, [mean(0), mean(1), mean(2)]));
        }
    }
    let centroid = |class: usize| {
        let own: Vec<_> = means.iter().filter(|(c, _)| *c == class).collect();
        [0, 1, 2].map(|i| own.iter().map(|(_, m)| m[i]).sum::<f64>() / own.len() as f64)
    };
    let centroids: Vec<[f64; 3]> = (0..5).map(centroid).collect();
    let distance = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let nearest =
        |m: &[f64; 3]| (0..5).min_by(|&a, &b| distance(m, &centroids[a]).total_cmp(&distance(m, &centroids[b])));
    let correct = means.iter().filter(|(class, m)| nearest(m) == Some(*class)).count();
    println!("nearest mean colour: {correct} of {} correct", means.len());
    assert!((36..102).contains(&correct), "nearest mean colour: {correct} of {} correct", means.len());
}
