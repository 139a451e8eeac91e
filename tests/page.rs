//! The page of a run and its figures.

use crate::common::{Workdir, in_chromium};

fn trained() -> Workdir {
    let w = Workdir::new("page");
    w.tiny(2, 4, "", "");
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    w.wbc(&["run", "tiny.toml", "--dataset", "d"]);
    w
}

#[test]
fn a_runs_page_has_all_of_it_and_needs_nothing_else() {
    let w = trained();
    let page = w.path("reports/d-wnet-tiny.html");
    let text = std::fs::read_to_string(&page).unwrap();
    for part in [
        "Table 3:",
        "Confusion matrix",
        "Learning curves",
        "Recall per class",
        "Reliability",
        "Precision and recall",
        "Notes and limitations",
        "synthetic cells drawn by wbc",
        "All settings",
        "For research use",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert_eq!(text.matches("<svg").count(), 5);
    assert!(text.matches("data:image/jpeg;base64,").count() > 30, "cells are shown");
    // Offline: nothing is fetched (SVG's namespace is a name, not an address).
    let rest = text.replace("http://www.w3.org/2000/svg", "");
    assert!(!rest.contains("http://") && !rest.contains("https://") && !rest.contains("<script"));
    for (width, dark) in [(1200, false), (1200, true), (500, false)] {
        let Some((content, window, ground)) = in_chromium(&w, &page, width, dark) else { break };
        assert!(content <= window, "{width} px: the page is {content} px wide");
        assert_eq!(ground, if dark { "rgb(20, 23, 26)" } else { "rgb(255, 255, 255)" });
    }
    // The same run again gives the same page.
    w.wbc(&["report", "--table", "3", "--html", "--dataset", "d", "--pipeline", "tiny.toml"]).ok();
    assert!(text == std::fs::read_to_string(&page).unwrap());
    // Beside each mistake stands where its fold's model looked; where that is not here any more, why not.
    let maps = |text: &str| text.matches("alt=\"Grad-CAM for").count();
    let mistakes = text.matches(", fold ").count();
    assert!(mistakes > 0 && maps(&text) == mistakes && text.contains("where, not why"), "{mistakes} mistakes");
    std::fs::remove_file(w.path("data/runs/d-wnet-tiny/fold-00/checkpoint.safetensors")).unwrap();
    w.wbc(&["report", "--html", "--run", "d-wnet-tiny"]).ok();
    let without = std::fs::read_to_string(&page).unwrap();
    let of_fold = without.matches(", fold 0<").count();
    assert!(of_fold > 0 && maps(&without) == mistakes - of_fold, "{of_fold} of {mistakes}");
    assert!(without.contains("No map of cells of fold 0: its model is not in the workspace."));
    // Without the pictures all the rest is there, and why they are not.
    std::fs::remove_dir_all(w.path("data/d/tensors-32")).unwrap();
    let said = w.wbc(&["report", "--html", "--run", "d-wnet-tiny"]).ok().stdout;
    assert!(said.contains("page: reports/d-wnet-tiny.html"), "{said}");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("Table 3:") && !text.contains("base64"));
}

#[test]
fn figures_are_files_too() {
    let w = trained();
    let said = w.wbc(&["plot", "d-wnet-tiny", "--reports", "figures"]).ok().stdout;
    for name in ["confusion", "recall", "learning", "reliability", "precision-recall"] {
        let path = w.path(format!("figures/d-wnet-tiny-{name}.svg"));
        assert!(said.contains(&format!("{name}.svg")), "{said}");
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("#010203"), "{name}");
    }
    let colours = |name: &str| {
        let bytes = std::fs::read(w.path(format!("pixels/d-wnet-tiny-{name}.png"))).unwrap();
        (image::load_from_memory(&bytes).unwrap().into_rgb8(), bytes)
    };
    w.wbc(&["plot", "d-wnet-tiny", "--format", "png", "--reports", "pixels"]).ok();
    for name in ["confusion", "recall", "learning", "reliability", "precision-recall"] {
        let (picture, bytes) = colours(name);
        assert_eq!(picture.dimensions(), (1120, 800), "{name}: twice the figure");
        assert!(picture.pixels().next() == Some(&image::Rgb([255; 3])), "{name}: white ground");
        let dark = picture.pixels().filter(|p| p.0.iter().all(|v| *v < 80)).count();
        assert!(dark > 1500, "{name}: {dark} pixels of ink");
        w.wbc(&["plot", "d-wnet-tiny", "--format", "png", "--reports", "pixels", "--threads", "1"]).ok();
        assert!(bytes == colours(name).1, "{name}: the same bytes");
    }
    // Where the classes' names stand at the left there is ink, line by line, and between them there is none.
    let (recall, _) = colours("recall");
    let ink = |y: u32| (0..200).any(|x| recall.get_pixel(x, y).0.iter().all(|v| *v < 128));
    let lines = (1..800).filter(|y| ink(*y) && !ink(*y - 1)).count();
    assert_eq!(lines, 5, "five names");
    let said = w.wbc(&["plot", "d-wnet-tiny", "--format", "gif"]).exits(2).stderr;
    assert!(said.contains("svg") && said.contains("png"), "{said}");
    assert!(w.wbc(&["plot", "nobody"]).exits(2).stderr.contains("Runs: d-wnet-tiny"));
}
