//! `wbc inspect`: the page of a data set.

use crate::common::{FIVE, Workdir, in_chromium, picture, shared};
use serde_json::Value;

fn inspected(w: &Workdir, dataset: &str, status: i32) -> (String, Value) {
    let said = w.wbc(&["inspect", "--dataset", dataset, "--json"]).exits(status).stdout;
    let page = std::fs::read_to_string(w.path(format!("reports/{dataset}-data.html"))).unwrap();
    (page, serde_json::from_str::<Value>(&said).unwrap()[0].clone())
}

fn findings(summary: &Value, check: &str) -> Vec<(String, u64, u64)> {
    let of = |v: &Value| {
        let number = |key: &str| v[key].as_u64().unwrap();
        (v["severity"].as_str().unwrap().to_string(), number("count"), number("pictured"))
    };
    summary["findings"].as_array().unwrap().iter().filter(|v| v["check"] == check).map(of).collect()
}

/// The part of a page below a heading, up to the next of its kind.
fn below<'a>(page: &'a str, id: &str) -> &'a str {
    let at = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
    let rest = &page[at..];
    &rest[..rest.find("<h3").into_iter().chain(rest.find("<h2")).min().unwrap_or(rest.len())]
}

fn first_of(w: &Workdir, class: &str) -> std::path::PathBuf {
    std::fs::read_dir(w.path("data/raw/d").join(class)).unwrap().map(|e| e.unwrap().path()).min().unwrap()
}

#[test]
fn every_finding_is_there_with_its_picture_and_copies_side_by_side() {
    let w = Workdir::new("inspect");
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    let one = std::fs::read(first_of(&w, "eosinophil")).unwrap();
    w.write("data/raw/d/eosinophil/copy.jpg", &one);
    w.write("data/raw/d/monocyte/conflict.jpg", std::fs::read(first_of(&w, "basophil")).unwrap());
    let jpeg = picture("a.jpg", 5, 360, 361);
    w.write("data/raw/d/neutrophil/cut.jpg", &jpeg[..jpeg.len() / 2]);
    w.write("data/raw/d/neutrophil/text.jpg", "no picture");
    w.write("data/raw/d/neutrophil/\"><b>&.png", picture("a.png", 300, 360, 361));
    // More notes than are shown with pictures: sizes a little off.
    for seed in 0..30 {
        w.write(format!("data/raw/d/lymphocyte/odd-{seed}.png"), picture("a.png", 10 + seed, 366, 361));
    }
    w.wbc(&["ingest"]).exits(1);
    w.wbc(&["split", "--stratified", "--folds", "3"]).exits(1);
    // A damaged file is something to look at.
    let (page, summary) = inspected(&w, "d", 1);
    assert_eq!(findings(&summary, "exact_copy"), [("warning".into(), 2, 2)]);
    assert_eq!(findings(&summary, "label_conflict"), [("error".into(), 2, 1)], "both sides, shown once");
    assert_eq!(findings(&summary, "undecodable"), [("error".into(), 1, 0)]);
    assert_eq!(findings(&summary, "not_an_image")[0], ("error".into(), 1, 0));
    assert_eq!(findings(&summary, "odd_size"), [("note".into(), 30, 24)]);
    let tensors = |part: &str| part.matches("data:image/jpeg;base64,").count();
    assert_eq!(tensors(below(&page, "exact_copy-warning")), 4, "two pairs");
    let conflict = below(&page, "label_conflict-error");
    assert_eq!(tensors(conflict), 2);
    assert!(conflict.contains("<b>Basophil</b>") && conflict.contains("<b>Monocyte</b>"), "{conflict}");
    assert!(below(&page, "undecodable-error").contains("<b>neutrophil&#x2f;cut.jpg</b>"));
    assert!(below(&page, "not_an_image-error").contains("<b>neutrophil&#x2f;text.jpg</b>"));
    let odd = below(&page, "odd_size-note");
    assert_eq!(tensors(odd), 24);
    assert!(odd.contains("30 found: the worst 24 are shown, 6 more are listed"), "{odd}");
    assert_eq!(odd.matches("<li>").count(), 6, "the others by name");
    // The worst severity first.
    let order: Vec<&str> =
        summary["findings"].as_array().unwrap().iter().map(|f| f["severity"].as_str().unwrap()).collect();
    assert!(order.is_sorted_by_key(|s| ["error", "warning", "note"].iter().position(|o| o == s)), "{order:?}");

    let rows = w.manifest("d");
    for (class, of) in FIVE.into_iter().zip(summary["classes"].as_array().unwrap()) {
        let cells = rows.iter().filter(|r| r.class == Some(class)).count();
        assert_eq!(of["cells"], cells, "{class}");
        let mean = of["colour"]["mean"][1].as_f64().unwrap();
        assert!((20.0..250.0).contains(&mean), "{class}: {mean}");
    }
    let dealt: u64 = summary["folds"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|f| f.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(dealt as usize, rows.len() - 3, "but for the conflict's two and the damaged one");
    assert_eq!(summary["unreadable"][0]["path"], "neutrophil/cut.jpg");
    for part in ["synthetic cells drawn by wbc", "Patients are unknown", "Test images of each fold", "366 x 361"] {
        assert!(page.contains(part), "{part}");
    }
    let aligned = page.matches("aligned with the second").count();
    assert_eq!(page.matches("<svg").count() - aligned, 3, "counts, backgrounds, their order");
    // Names are text, whatever is in them, and nothing is fetched.
    assert!(!page.contains("\"><b>&") && page.contains("&quot;&gt;&lt;b&gt;&amp;.png"));
    let rest = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!rest.contains("http://") && !rest.contains("https://") && !rest.contains("<script"));
    // Nor does it say where on this machine the images lie.
    assert!(!page.contains(w.path("").to_str().unwrap()));
    let file = w.path("reports/d-data.html");
    for (width, dark) in [(1200, false), (1200, true), (500, false)] {
        let Some((content, window, ground)) = in_chromium(&w, &file, width, dark) else { break };
        assert!(content <= window, "{width} px: the page is {content} px wide");
        assert_eq!(ground, if dark { "rgb(20, 23, 26)" } else { "rgb(255, 255, 255)" });
    }
    w.wbc(&["inspect", "--threads", "1"]).exits(1);
    assert!(page == std::fs::read_to_string(&file).unwrap(), "the same images, the same bytes");
}

#[test]
fn what_is_missing_or_out_of_date_is_said_with_the_command_for_it() {
    let w = Workdir::new("inspect-stale");
    let said = w.wbc(&["inspect"]).exits(2).stderr;
    assert!(said.contains("wbc ingest"), "{said}");
    w.wbc(&["synth", "--images", "12,12,12,12,12", "--name", "d"]).ok();
    let said = w.wbc(&["inspect", "--dataset", "d"]).exits(2).stderr;
    assert!(said.contains("Run: wbc ingest --dataset d"), "{said}");
    // After ingest alone.
    w.wbc(&["ingest", "--no-check"]).ok();
    let (page, summary) = inspected(&w, "d", 1);
    assert_eq!(summary["warnings"].as_array().unwrap().len(), 1, "{}", summary["warnings"]);
    assert!(summary["warnings"][0].as_str().unwrap().contains("Run: wbc check --dataset d"));
    assert!(
        page.contains("Run: wbc split --stratified --dataset d") && summary["folds"].as_array().unwrap().is_empty()
    );
    let examples = page.matches("data:image/jpeg;base64,").count();
    assert!(examples >= 40, "{examples} cells");
    // All in order.
    w.wbc(&["check"]).ok();
    w.wbc(&["split", "--stratified", "--folds", "2"]).ok();
    let (_, summary) = inspected(&w, "d", 0);
    assert!(summary["warnings"].as_array().unwrap().is_empty(), "{}", summary["warnings"]);
    // A file is gone, another has changed: said once for all and in its place; the rest is shown.
    std::fs::remove_file(first_of(&w, "monocyte")).unwrap();
    std::fs::write(first_of(&w, "basophil"), picture("a.jpg", 1, 360, 361)).unwrap();
    let (page, summary) = inspected(&w, "d", 1);
    assert!(
        summary["warnings"][0].as_str().unwrap().contains("Run: wbc ingest --dataset d"),
        "{}",
        summary["warnings"]
    );
    assert_eq!(summary["unreadable"].as_array().unwrap().len(), 2);
    assert!(
        page.contains("the image has changed since it was ingested") && page.contains("cannot be read: "),
        "in their places"
    );
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), examples - 2);
    // Other settings of check change the manifest: the folds are of another.
    w.wbc(&["ingest"]);
    let (page, summary) = inspected(&w, "d", 1);
    assert!(summary["warnings"][0].as_str().unwrap().contains("The folds are out of date"), "{}", summary["warnings"]);
    assert!(page.contains("The folds are out of date: "));
    // No folder at all.
    std::fs::remove_dir_all(w.path("data/raw")).unwrap();
    let (page, summary) = inspected(&w, "d", 1);
    assert!(page.contains("so no image is shown") && !page.contains("base64"));
    assert_eq!(summary["unreadable"].as_array().unwrap().len() as u64, summary["images"].as_u64().unwrap());
}

/// Real images tell what drawn ones cannot.
#[cfg(unix)]
#[test]
fn real_data_sets_are_shown_with_their_batches_and_boxes() {
    for (dataset, figures, near) in [("lisc-cells", 3, 13), ("jtsc", 4, 2), ("lisc", 4, 0)] {
        let Some(source) = shared(dataset) else { continue };
        let w = Workdir::new("inspect-real");
        std::fs::create_dir_all(w.path("data/raw")).unwrap();
        std::os::unix::fs::symlink(source.canonicalize().unwrap(), w.path("data/raw").join(dataset)).unwrap();
        w.wbc(&["ingest"]).exits(1);
        let (page, summary) = inspected(&w, dataset, 0);
        let aligned = page.matches("aligned with the second").count();
        assert_eq!(page.matches("<svg").count() - aligned, figures, "{dataset}");
        assert!(page.len() < 2_000_000, "{dataset}: {} bytes", page.len());
        let copies = findings(&summary, "near_copy").first().map_or(0, |(_, _, pictured)| *pictured);
        assert!(copies >= near, "{dataset}: {copies} near copies with pictures");
        let share = summary["background_between_classes"].as_f64();
        match dataset {
            // Its basophils lie on a darker ground than its neutrophils.
            "lisc-cells" => assert!(share.unwrap() > 0.3, "{share:?}"),
            "jtsc" => assert!(share.unwrap() < 0.2, "{share:?}"),
            _ => assert!(share.is_none() && page.contains("Boxes around the cells")),
        }
    }
}
