//! `wbc predict`: the cells of new images, classified by the networks of a run.

use crate::common::Workdir;
use wbc::class::Classes;
use wbc::rows::CellRow;
use wbc::schema::CELLS;
use wbc::table;

fn trained() -> Workdir {
    let w = Workdir::new("predict");
    w.tiny(2, 20, "", "learning_rate = 2e-3\n[train.augment]\nflips = true");
    w.split("d", "150", 0);
    w.train("d", "r");
    w.wbc(&["synth", "--images", "60", "--name", "new", "--seed", "5"]).ok();
    w.wbc(&["synth", "--layout", "lisc", "--images", "10", "--name", "frames", "--seed", "6"]).ok();
    w
}

/// The probabilities in a row of a CSV or JSON file.
#[derive(serde::Deserialize)]
struct Probabilities {
    p_neutrophil: f32,
    p_eosinophil: f32,
    p_basophil: f32,
    p_lymphocyte: f32,
    p_monocyte: f32,
}

/// A row of a CSV or JSON file, from its columns and its probabilities.
fn whole(row: CellRow, p: Probabilities) -> CellRow {
    let p = [p.p_neutrophil, p.p_eosinophil, p.p_basophil, p.p_lymphocyte, p.p_monocyte];
    CellRow { probabilities: p.into(), ..row }
}

fn cells(w: &Workdir, file: &str) -> Vec<CellRow> {
    table::read_class_rows(&w.path(file), &CELLS, &Classes::wbc5()).unwrap().0
}

#[test]
fn new_images_are_classified_counted_and_flagged() {
    let w = trained();
    let report = w.wbc(&["predict", "r", "data/raw/new"]).ok().stdout;
    assert!(report.contains("2 models") && report.contains("For research use"), "{report}");
    let rows = cells(&w, "cells.parquet");
    assert_eq!(rows.len(), 60);
    let correct = rows.iter().filter(|r| r.path.contains(&format!("/{}/", r.class))).count();
    assert!(correct >= 45, "{correct} of 60 new synthetic cells");
    for row in &rows {
        let p = &row.probabilities;
        assert!(
            (p.iter().sum::<f32>() - 1.0).abs() < 1e-5
                && p[Classes::wbc5().index(row.class).unwrap()] == row.confidence,
            "{row:?}"
        );
        assert!([0.0, 0.5, 1.0].contains(&row.agreement) && row.distance.is_some() && row.x_px.is_none(), "{row:?}");
        assert!(row.appearance.is_some(), "{row:?}");
        let flags = [("low confidence", row.confidence < 0.9), ("unlike training", row.is_unlike_training())];
        let flag = row.flag.clone().unwrap_or_default();
        assert!(flags.iter().all(|(name, holds)| flag.contains(name) == *holds), "{row:?}");
    }
    // The same rows in every format, from a folder or a list, on any number of threads.
    let images: Vec<&str> = rows.iter().map(|r| r.path.as_str()).collect();
    w.write("list.csv", "n,path\n".to_string() + &images.iter().map(|p| format!("1,{p}\n")).collect::<String>());
    w.write("list.txt", "# all\n".to_string() + &images.join("\n"));
    let again = ["predict", "r", "list.csv", "--format", "json", "--threads", "1"];
    w.wbc(&again).ok();
    let json = std::fs::read(w.path("cells.json")).unwrap();
    let own: Vec<CellRow> = serde_json::from_slice(&json).unwrap();
    let of_class: Vec<Probabilities> = serde_json::from_slice(&json).unwrap();
    assert_eq!(own.into_iter().zip(of_class).map(|(row, p)| whole(row, p)).collect::<Vec<_>>(), rows);
    w.wbc(&["predict", "r", "list.txt", "--output", "out/rows.csv"]).ok();
    let refused = w.wbc(&["predict", "r", "list.txt", "--output", "rows.csv", "--format", "json"]).exits(2).stderr;
    assert!(refused.contains("expected csv, the extension of rows.csv, found json"), "{refused}");
    let csv = || csv::Reader::from_path(w.path("out/rows.csv")).unwrap();
    let (own, of_class) = (csv().into_deserialize(), csv().into_deserialize());
    assert_eq!(own.zip(of_class).map(|(row, p)| whole(row.unwrap(), p.unwrap())).collect::<Vec<_>>(), rows);
    // One fold's model alone; without the tensors there is no distance, and the output says so.
    std::fs::remove_dir_all(w.path("data/d/tensors-32")).unwrap();
    let report = w.wbc(&["predict", "r:1", "data/raw/new"]).ok().stdout;
    assert!(report.contains("1 model:") && report.contains("like the training images is not known"), "{report}");
    assert!(cells(&w, "cells.parquet").iter().all(|r| r.agreement == 1.0 && r.distance.is_none()));
}

#[test]
fn frames_are_cut_into_their_cells() {
    let w = trained();
    // No cells are found in their masks.
    let summary = w.wbc(&["predict", "r", "data/raw/frames", "--shows", "frame", "--json"]).exits(1).stdout;
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let rows = cells(&w, "cells.parquet");
    assert_eq!(summary["cells"], rows.len() as u64);
    assert!(rows.len() >= 8, "{} cells in frames of ten and their masks", rows.len());
    for row in &rows {
        let inside = |at: Option<u32>, length: Option<u32>, of: u32| at.unwrap() + length.unwrap() <= of;
        assert!(inside(row.x_px, row.width_px, 720) && inside(row.y_px, row.height_px, 576), "{row:?}");
    }
    let sum = |key: &str| -> u64 {
        summary["differentials"].as_array().unwrap().iter().map(|d| d[key].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("cells"), rows.len() as u64);
    assert_eq!(sum("doubtful"), rows.iter().filter(|r| r.flag.is_some()).count() as u64);
}

#[test]
fn an_image_that_is_there_twice_is_said_to_be() {
    let w = trained();
    let folder = w.path("data/raw/new/monocyte");
    let image = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(&image, folder.join("again.jpg")).unwrap();
    let report = w.wbc(&["predict", "r", "data/raw/new"]).stdout;
    assert!(report.contains("1 of 61 images shows the same as another of them"), "{report}");
}

#[test]
fn unreadable_files_are_reported_and_the_others_predicted() {
    let w = trained();
    std::fs::create_dir(w.path("empty")).unwrap();
    let some = std::fs::read_dir(w.path("data/raw/new/neutrophil")).unwrap().next().unwrap().unwrap().path();
    w.write("mixed/whole.jpg", std::fs::read(&some).unwrap());
    w.write("mixed/torn.jpg", &std::fs::read(&some).unwrap()[..900]);
    let mixed = w.wbc(&["predict", "r", "mixed"]).exits(1);
    assert!(mixed.stderr.contains("torn.jpg") && mixed.stdout.contains("1 cell in 1 image;"), "{mixed:?}");
    // What shows no cell where one is expected is not counted in silence.
    let cell = image::open(&some).unwrap().to_rgb8();
    let (width, height) = cell.dimensions();
    let ground = *cell.get_pixel(0, 0);
    let png = |name: &str, image: image::RgbImage| {
        std::fs::create_dir_all(w.path(name).parent().unwrap()).unwrap();
        image.save(w.path(name)).unwrap();
    };
    let mut shifted = image::RgbImage::from_pixel(width, height, ground);
    image::imageops::overlay(&mut shifted, &cell, 3 * i64::from(width) / 8, 0);
    png("odd/beside.png", shifted);
    png("odd/centre.png", cell);
    let reds = |x: u32, y: u32| if x / 20 % 2 == y / 20 % 2 { [205, 140, 140] } else { [236, 226, 228] };
    png("odd/reds.png", image::RgbImage::from_fn(width, height, |x, y| image::Rgb(reds(x, y))));
    let on = |x: u32, y: u32| if x.abs_diff(width / 2) < 40 && y.abs_diff(height / 2) < 40 { 255 } else { 0 };
    png("odd/masks/centre.png", image::RgbImage::from_fn(width, height, |x, y| image::Rgb([on(x, y); 3])));
    let odd = w.wbc(&["predict", "r", "odd", "--output", "odd.parquet"]).exits(1).stdout;
    for words in [
        "left out: 1 mask (odd/masks/centre.png)",
        "no cell found in 1 image, not counted: odd/reds.png. Where each shows one cell: --shows cell",
        "across its edge: 1 of 3 images: odd/beside.png",
        "2 cells in 3 images;",
    ] {
        assert!(odd.contains(words), "{words}: {odd}");
    }
    let all = w.wbc(&["predict", "r", "odd", "--shows", "cell", "--output", "odd.parquet"]).exits(1).stdout;
    assert!(all.contains("3 cells in 3 images;") && !all.contains("no cell found"), "{all}");
    let before = std::fs::read(w.path("cells.parquet")).unwrap();
    w.write("bad.csv", "colour\nblue\n");
    for (path, message) in
        [("empty", "empty"), ("nowhere", "nowhere"), ("mixed/torn.jpg", "torn.jpg"), ("bad.csv", "columns colour")]
    {
        let refused = w.wbc(&["predict", "r", path]).exits(2).stderr;
        assert!(refused.contains(message), "{refused}");
    }
    let refused = w.wbc(&["predict", "s", "mixed"]).exits(2).stderr;
    assert!(refused.contains("Runs: r"), "{refused}");
    assert!(before == std::fs::read(w.path("cells.parquet")).unwrap(), "the earlier file stays");
}

#[test]
fn cells_without_a_nucleus_are_counted_and_in_doubt_where_the_cut_looks_for_one() {
    let w = Workdir::new("no-nucleus");
    w.tiny(2, 1, "cut = \"cell\"\nstain = \"nucleus\"\naround = \"white\"", "");
    w.wbc(&["synth", "--images", "40", "--name", "d"]).ok();
    // A red cell, which somebody labelled as a neutrophil.
    let red_cell = image::RgbImage::from_fn(360, 361, |x, y| {
        let within = (f64::from(x) - 180.0).hypot(f64::from(y) - 180.0) < 60.0;
        image::Rgb(if within { [205, 165, 160] } else { [254, 231, 204] })
    });
    red_cell.save(w.path("data/raw/d/neutrophil/red.png")).unwrap();
    // As the images are said to be cut to their centre, it is not left out.
    assert!(w.wbc(&["ingest", "--cut", "centre"]).status < 2);
    w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]).ok();
    for _ in 0..2 {
        let printed = w.wbc(&["preprocess", "--pipeline", "tiny.toml"]).ok().stdout;
        let counted = "cut 41 by the cell that segmentation finds; no nucleus found in 1 image: the middle is shown";
        assert!(printed.contains(counted), "{printed}");
    }
    w.train("d", "r");
    w.wbc(&["predict", "r", "data/raw/d/neutrophil", "--shows", "cell"]);
    for row in cells(&w, "cells.parquet") {
        let flagged = row.flag.as_deref().unwrap_or_default().contains("no nucleus");
        assert_eq!(flagged, row.path.ends_with("red.png"), "{row:?}");
    }
}

#[test]
fn the_size_of_cells_counts_and_their_scale_is_said() {
    let w = Workdir::new("cell-size");
    let cut = "cut = \"cell\"\nstain = \"nucleus\"\naround = \"white\"";
    w.tiny(2, 2, cut, "learning_rate = 2e-3\ncell_size = 0.5");
    w.split("d", "100", 0);
    w.train("d", "r");
    w.wbc(&["synth", "--images", "40", "--name", "new", "--seed", "5"]).ok();
    // The same images by a microscope of half the magnification.
    for class in Classes::wbc5().iter() {
        let (from, to) = (w.path(format!("data/raw/new/{class}")), w.path(format!("data/raw/half/{class}")));
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap().map(|file| file.unwrap().path()) {
            let image = image::open(&file).unwrap();
            let half = image.resize(image.width() / 2, image.height(), image::imageops::FilterType::Triangle);
            half.to_rgb8().save(to.join(file.with_extension("png").file_name().unwrap())).unwrap();
        }
    }
    let factors = |text: &str| -> Vec<f64> {
        let line = text.lines().find(|line| line.starts_with("cells appear ")).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains("times as large as those of d (estimated from "), "{line}");
        line[..line.find("times").unwrap()].split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    for (images, expected) in [("new", 1.0), ("half", 0.5)] {
        let printed = w.wbc(&["predict", "r", &format!("data/raw/{images}"), "--shows", "cell"]).stdout;
        let found = factors(&printed);
        assert!(!found.is_empty() && found.iter().all(|f| (f / expected - 1.0).abs() < 0.15), "{images}: {printed}");
        assert!(w.wbc(&["ingest", "--dataset", images]).status < 2);
        let printed = w.wbc(&["validate", "r", "--dataset", images]).stdout;
        let found = factors(&printed);
        assert!(matches!(found[..], [f] if (f / expected - 1.0).abs() < 0.1), "{images}: {printed}");
    }
    // The same network without sizes gives other probabilities to the test images.
    w.tiny(2, 2, cut, "learning_rate = 2e-3");
    w.train("d", "plain");
    let of = |run: &str| -> Vec<(String, Vec<f32>)> {
        let mut rows = wbc::run::predictions(&w.workspace(), run).unwrap();
        rows.sort_by(|a, b| a.image_id.cmp(&b.image_id));
        rows.into_iter().map(|row| (row.image_id, row.probabilities)).collect()
    };
    let (with, without) = (of("r"), of("plain"));
    assert!(with.iter().zip(&without).all(|(a, b)| a.0 == b.0));
    let moved = with.iter().zip(&without).filter(|(a, b)| a.1.iter().zip(&b.1).any(|(a, b)| (a - b).abs() > 1e-3));
    assert!(moved.count() > with.len() / 2);
    // A table says so.
    let noted =
        |run: &str| w.wbc(&["report", "--table", "3", "--run", run, "--notes"]).ok().stdout.contains("cell_size");
    assert!(noted("r") && !noted("plain"));
    assert!(!w.wbc(&["predict", "plain", "data/raw/new", "--shows", "cell"]).stdout.contains("cells appear"));
    // Where cells are not looked for, nothing is known of their size.
    w.tiny(2, 2, "", "cell_size = 0.5");
    let refused = w.wbc(&["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "no"]);
    assert!(
        refused.status != 0 && refused.stderr.contains("`train.cell_size`: expected 0 unless"),
        "{}",
        refused.stderr
    );
}
