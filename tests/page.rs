//! The page of a run and its figures.

use crate::common::Workdir;
use std::path::Path;
use std::process::Command;

const TINY: &str = r#"
name = "tiny"
[split]
folds = 2
[preprocess]
size_px = 32
[train]
epochs = 4
batch = 16
"#;

fn trained() -> Workdir {
    let w = Workdir::new("page");
    w.write("tiny.toml", TINY);
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    w.wbc(&["run", "tiny.toml", "--dataset", "d"]);
    w
}

/// What Chromium makes of a page in a window of that width: (width of the content, width of the window, ground's colour).
fn in_chromium(w: &Workdir, page: &Path, width: u32, dark: bool) -> Option<(u32, u32, String)> {
    let script = "<script>document.title = [document.documentElement.scrollWidth, innerWidth, \
                  getComputedStyle(document.body).backgroundColor].join('|')</script></body>";
    let text = std::fs::read_to_string(page).unwrap().replace("</body>", script);
    let path = w.write("probe.html", text);
    let profile = w.path(format!("chromium-{width}-{dark}"));
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(format!("--window-size={width},900"));
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    let Ok(output) = command.arg(format!("file://{}", path.display())).output() else {
        eprintln!("skipped: no chromium");
        return None;
    };
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let title = dom.split("<title>").nth(1)?.split("</title>").next()?;
    let parts: Vec<&str> = title.split('|').collect();
    Some((parts[0].parse().ok()?, parts[1].parse().ok()?, parts[2].into()))
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
        "Recall a class",
        "Reliability",
        "Precision and recall",
        "What can and cannot be claimed",
        "drawn by wbc, not photographed",
        "Every setting",
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
    // Without the pictures all the rest is there, and why they are not.
    std::fs::remove_dir_all(w.path("data/d/tensors-32")).unwrap();
    let said = w.wbc(&["report", "--html", "--run", "d-wnet-tiny"]).ok().stdout;
    assert!(said.contains("page: reports/d-wnet-tiny.html"), "{said}");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("Recall of each class by fold") && !text.contains("base64"));
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
    assert!(w.wbc(&["plot", "nobody"]).exits(2).stderr.contains("There are: d-wnet-tiny"));
}
