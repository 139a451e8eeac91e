//! A temporary folder for each test, in which it runs the program.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use wbc::class::{Class, Classes};
use wbc::rows::{CheckRow, ManifestRow, PredictionRow};
use wbc::run::Record;
use wbc::schema::{CHECKS, MANIFEST, PREDICTIONS};
use wbc::table::{self, Provenance};
use wbc::workspace::Workspace;

/// A temporary folder, removed at the end.
pub struct Workdir {
    dir: tempfile::TempDir,
}

/// Output of the program.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    dir: PathBuf,
}

impl Workdir {
    pub fn new(name: &str) -> Self {
        Self { dir: tempfile::Builder::new().prefix(&format!("wbc-{name}-")).tempdir().unwrap() }
    }

    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// `wbc` in this folder, without `WBC_*` variables.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wbc"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WBC_")) {
            command.env_remove(name);
        }
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// Runs `wbc` in this folder.
    pub fn wbc(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        Run {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            dir: self.dir.path().into(),
        }
    }
}

impl Workdir {
    /// Writes a file and creates its folders.
    pub fn write(&self, relative: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A data set with `per_class` cells of every class: real ones of PBC if available, else synthetic ones.
    pub fn cells(&self, dataset: &str, per_class: usize) {
        let Some(pbc) = shared("pbc") else {
            let images = [per_class.to_string().as_str(); 5].join(",");
            self.wbc(&["synth", "--images", &images, "--name", dataset]).ok();
            return;
        };
        for class in FIVE {
            let entries = std::fs::read_dir(pbc.join(class.name())).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            // PBC has a hidden file that is not an image.
            names.retain(|name| !name.starts_with('.'));
            names.sort();
            for name in &names[..per_class] {
                let image = std::fs::read(pbc.join(class.name()).join(name)).unwrap();
                self.write(format!("data/raw/{dataset}/{class}/{name}"), image);
            }
        }
    }

    /// Writes `tiny.toml`: W-Net on tensors of 32 x 32 px, which trains in seconds. `preprocess` and `train` are
    /// further lines of those sections.
    pub fn tiny(&self, folds: u32, epochs: u32, preprocess: &str, train: &str) {
        let text = format!(
            "name = \"tiny\"\n[split]\nfolds = {folds}\n[preprocess]\nsize_px = 32\n{preprocess}\n\
             [train]\nepochs = {epochs}\nbatch = 16\n{train}\n"
        );
        self.write("tiny.toml", text);
    }

    /// A data set of synthetic cells, ingested, checked and split by `tiny.toml`. `images` as in `wbc synth --images`.
    pub fn split(&self, dataset: &str, images: &str, seed: u64) {
        self.wbc(&["synth", "--images", images, "--name", dataset, "--seed", &seed.to_string()]).ok();
        // Synthetic cells may be found to look alike, which exits with 1.
        let run = self.wbc(&["ingest", "--dataset", dataset]);
        assert!(run.status < 2, "{}", run.stderr);
        self.wbc(&["split", "--stratified", "--dataset", dataset, "--pipeline", "tiny.toml"]).ok();
    }

    /// Trains `tiny.toml` on every fold of a data set.
    pub fn train(&self, dataset: &str, run: &str) -> Run {
        self.wbc(&["train", "--dataset", dataset, "--pipeline", "tiny.toml", "--run", run]).ok()
    }

    /// The names of the commands that `wbc --help` lists.
    pub fn commands(&self) -> BTreeSet<String> {
        let help = self.wbc(&["--help"]).ok().stdout;
        let list = help.split("Data:\n").nth(1).unwrap().lines();
        let lines = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let names: BTreeSet<String> = lines.map(|line| line.split_whitespace().next().unwrap().into()).collect();
        assert!(names.len() > 15 && names.contains("doctor"), "{names:?}");
        names
    }

    /// The workspace that `wbc` uses here.
    pub fn workspace(&self) -> Workspace {
        Workspace::new(self.path("data"))
    }

    pub fn manifest(&self, dataset: &str) -> Vec<ManifestRow> {
        table::read_rows(&self.workspace().manifest(dataset), &MANIFEST).unwrap().0
    }

    pub fn checks(&self, dataset: &str) -> Vec<CheckRow> {
        table::read_rows(&self.workspace().checks(dataset), &CHECKS).unwrap().0
    }

    /// The findings as (check, path): those of ingest and, if it has run, of check.
    pub fn issues(&self, dataset: &str) -> Vec<(String, String)> {
        wbc::dataset::issues(&self.workspace(), dataset).unwrap().into_iter().map(|i| (i.check, i.path)).collect()
    }
}

impl Workdir {
    /// A run that was not trained: in each of 4 folds, 6 images of each of its classes, by default the paper's, of the
    /// data set `d`. `correct` returns
    /// for an image (fold, class, number) whether it is classified correctly, or `None` to leave it out; `change`
    /// changes the record of the run.
    pub fn untrained_run(
        &self,
        run: &str,
        change: impl FnOnce(&mut Record),
        correct: impl Fn(u32, Class, u32) -> Option<bool>,
    ) {
        let mut record: Record = serde_json::from_value(serde_json::json!({
            "dataset": "d", "classes": Classes::wbc5(), "model": "wnet", "pipeline": "quick", "seed": 0, "folds": 4,
            "version": Record::VERSION, "preprocess": {"size_px": 128}, "recipe": {}, "inputs": {"splits": "one"},
        }))
        .unwrap();
        change(&mut record);
        let mut rows = Vec::new();
        for fold in 0..record.folds {
            let cells = record.classes.iter().enumerate().flat_map(|(at, class)| (0..6).map(move |i| (at, class, i)));
            for (at, class, i) in cells {
                let Some(correct) = correct(fold, class, i) else { continue };
                let n = record.classes.len();
                let mut p = vec![0.4 / (n as f32 - 1.0); n];
                p[(at + usize::from(!correct)) % n] = 0.6;
                rows.push(PredictionRow::new(format!("{}/{class}/{fold}-{i}", record.dataset), fold, class, p));
            }
        }
        let ws = self.workspace();
        self.write(Path::new("data/runs").join(run).join("run.json"), serde_json::to_string(&record).unwrap());
        let path = ws.run(run).join("predictions.parquet");
        table::write_class_rows(&path, &PREDICTIONS, &record.classes, &Provenance::default(), &rows).unwrap();
        wbc::evaluate::run(&ws, run).unwrap();
    }
}

/// Makes the folder `to` a copy of the folder `from`.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    for entry in walkdir::WalkDir::new(from).into_iter().map(Result::unwrap) {
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        match entry.file_type().is_dir() {
            true => std::fs::create_dir_all(target).unwrap(),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The paper's five classes.
pub const FIVE: [Class; 5] =
    [Class::NEUTROPHIL, Class::EOSINOPHIL, Class::BASOPHIL, Class::LYMPHOCYTE, Class::MONOCYTE];

/// The cells of a table in JSON, in which numbers are numbers, as text.
pub fn cells_of(table: &serde_json::Value) -> Vec<Vec<String>> {
    let text = |cell: &serde_json::Value| match cell {
        serde_json::Value::Null => "-".to_string(),
        serde_json::Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    let rows = table["rows"].as_array().unwrap().iter();
    rows.map(|row| row.as_array().unwrap().iter().map(text).collect()).collect()
}

/// The class that a row of the paper's five classes predicts.
pub fn predicted(row: &PredictionRow) -> Class {
    Classes::wbc5().likeliest(&row.probabilities)
}

/// A table of predictions of the paper's five classes.
pub fn predictions(path: &Path) -> Vec<PredictionRow> {
    table::read_class_rows(path, &PREDICTIONS, &Classes::wbc5()).unwrap().0
}

/// The provenance of a manifest with the paper's five classes.
pub fn of_five_classes() -> Provenance {
    Provenance { settings: serde_json::json!({"classes": Classes::wbc5()}), ..Provenance::default() }
}

/// A Python that can import `modules`, in an environment that later test runs reuse. Prints a message if there is none.
pub fn python(name: &str, modules: &[&str], packages: &[&str]) -> Option<PathBuf> {
    // Tests with the same packages share an environment, which only one of them may create.
    static CREATING: Mutex<()> = Mutex::new(());
    let _creating = CREATING.lock().unwrap_or_else(|e| e.into_inner());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = folder.join("bin/python");
    let works = |python: &Path| {
        let import = format!("import {}", modules.join(", "));
        Command::new(python).args(["-c", &import]).output().is_ok_and(|o| o.status.success())
    };
    // The system's Python may have the modules.
    if works(Path::new("python3")) {
        return Some("python3".into());
    }
    if !works(&python) {
        let _ = std::fs::remove_dir_all(&folder);
        let _ = Command::new("python3").args(["-m", "venv"]).arg(&folder).output();
        let _ = Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages).output();
    }
    if works(&python) {
        return Some(python);
    }
    eprintln!("skipped: no Python with {}, and none could be created", modules.join(", "));
    None
}

/// A cell in the middle of an image that differs from those with another `seed`, in the format of the extension of
/// `name`.
pub fn image_bytes(name: &str, seed: u32, width: u32, height: u32) -> Vec<u8> {
    let phase = f64::from(seed) * 1.7;
    let wave = |x: f64, y: f64, k: f64| {
        (((x * k + phase) / 9.0).sin() * ((y * k - phase * k) / 7.0).cos() * 90.0 + 128.0) as u8
    };
    let radius = f64::from(width.min(height)) * 0.15;
    let image = image::RgbImage::from_fn(width, height, |x, y| {
        let (across, down) = (f64::from(x) - f64::from(width) / 2.0, f64::from(y) - f64::from(height) / 2.0);
        let (x, y) = (f64::from(x), f64::from(y));
        // A nucleus on grey ground that differs as the waves do.
        let waves = [wave(x, y, 1.0), wave(x, y, 1.3 + f64::from(seed % 7) / 5.0), wave(y, x, 0.7)];
        let grey = (waves.map(u32::from).iter().sum::<u32>() / 3) as u8;
        image::Rgb(match across.hypot(down) < radius {
            true => [90 + grey / 8, 40 + grey / 8, 130 + grey / 8],
            false => [100 + grey / 2; 3],
        })
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::from_path(name).unwrap()).unwrap();
    bytes.into_inner()
}

/// A page in Chromium, in a window of that width: (width of the content, width of the window, colour of the
/// background).
pub fn in_chromium(w: &Workdir, page: &Path, width: u32, dark: bool) -> Option<(u32, u32, String)> {
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

/// A real data set in `../shared/data`. Prints a message if there is none, and the test is skipped.
pub fn shared(dataset: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(dataset);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: no ../shared/data/{dataset}");
    None
}

impl Run {
    pub fn ok(self) -> Run {
        self.exits(0)
    }

    pub fn exits(self, status: i32) -> Run {
        let Run { stdout, stderr, dir, .. } = &self;
        let dir = dir.display();
        assert_eq!(self.status, status, "\nin {dir}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }
}
