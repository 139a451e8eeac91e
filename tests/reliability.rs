//! Damaged, hostile and unreadable files, and commands that are stopped: nothing panics, hangs or fills memory, nothing
//! is lost, and no result differs without a word.

use crate::common::{Workdir, copy, image_bytes};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Replaces the file at `path` by one that exists and that nobody can read: reading it fails with EIO, also for root.
#[cfg(target_os = "linux")]
fn make_unreadable(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::os::unix::fs::symlink("/proc/self/mem", path).unwrap();
}

/// Four images of a class, of which the second has this path.
fn four(w: &Workdir) -> PathBuf {
    for i in 0..4 {
        w.write(format!("data/raw/d/neutrophil/{i}.png"), image_bytes("a.png", i, 120, 100));
    }
    w.path("data/raw/d/neutrophil/1.png")
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_read_stops_ingest_and_check() {
    let w = Workdir::new("unreadable");
    let path = four(&w);
    let whole = std::fs::read(&path).unwrap();
    make_unreadable(&path);
    let run = w.wbc(&["ingest", "--no-check"]).exits(2);
    assert!(run.stderr.contains("1.png: cannot read: "), "{}", run.stderr);
    assert!(!w.workspace().manifest("d").exists());
    // Readable again, it is an image as the others.
    let restore = || {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &whole).unwrap();
    };
    restore();
    w.wbc(&["ingest", "--no-check"]).ok();
    assert_eq!(w.manifest("d").len(), 4);
    make_unreadable(&path);
    let run = w.wbc(&["check"]).exits(2);
    assert!(run.stderr.contains("1.png: cannot read: "), "{}", run.stderr);
    assert!(!w.workspace().checks("d").exists());
    restore();
    assert!(w.wbc(&["check"]).status < 2);
    assert!(w.checks("d").iter().all(|row| row.left_out.is_none()), "{:?}", w.checks("d"));
    make_unreadable(&path);
    for command in ["preprocess", "features"] {
        let run = w.wbc(&[command]).exits(2);
        assert!(run.stderr.contains("1.png: cannot read: "), "{command}: {}", run.stderr);
    }
    // A mask, which is read again for its regions.
    restore();
    let list = w.write("data/raw/e/list.csv", "path,class\n../d/neutrophil/0.png,neutrophil\n");
    w.wbc(&["ingest", "--dataset", "e", "--no-check"]).ok();
    make_unreadable(&list);
    let run = w.wbc(&["ingest", "--dataset", "e"]).exits(2);
    assert!(run.stderr.contains("list.csv: cannot read: "), "{}", run.stderr);
}

/// Runs `wbc` as a user without rights; `None`, with a message, where that is not possible.
#[cfg(unix)]
fn unprivileged(w: &Workdir, args: &[&str]) -> Option<(i32, String)> {
    use std::os::unix::process::CommandExt;
    let mut command = w.command(args);
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(w.path("")).unwrap()) == 0 {
        command.uid(65534).gid(65534);
    }
    match command.output() {
        Ok(output) => Some((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => {
            eprintln!("skipped: wbc cannot be run without rights ({error})");
            None
        }
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_listed_is_not_empty() {
    use std::os::unix::fs::PermissionsExt;
    let w = Workdir::new("unlisted");
    four(&w);
    w.write("data/raw/d/closed/5.png", image_bytes("a.png", 5, 120, 100));
    let mode = |path: &str, mode| {
        std::fs::set_permissions(w.path(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for open in ["", "data", "data/raw", "data/raw/d", "data/raw/d/neutrophil"] {
        mode(open, 0o777);
    }
    mode("data/raw/d/closed", 0o000);
    for args in [&["ingest"][..], &["predict", "r", "data/raw/d"]] {
        if let Some((status, stderr)) = unprivileged(&w, args) {
            assert!(status == 2 && stderr.contains("closed: cannot open: Permission denied"), "{args:?}: {stderr}");
        }
    }
    mode("data/raw/d/closed", 0o755);
}

#[test]
fn numbers_are_checked_before_anything_is_allocated() {
    let w = Workdir::new("numbers");
    w.write("folds.toml", "name = \"x\"\n[split]\nfolds = 4294967295\n");
    for (args, expected) in [
        (&["doctor", "--threads", "20000"][..], "expected 1 to 1024, found 20000"),
        (&["split", "--pipeline", "folds.toml"], "expected 2 to 1000"),
        (&["predict", "r", "/dev/zero"], "found a device, pipe or socket"),
    ] {
        let run = w.wbc(args).exits(2);
        assert!(run.stderr.contains(expected), "{args:?}: {}", run.stderr);
    }
    w.untrained_run("r", |_| {}, |_, _, _| Some(true));
    let path = w.path("data/runs/r/run.json");
    let record = std::fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"folds\":4", "\"folds\":4294967295", "expected 1 to 1000"),
        ("\"size_px\":128", "\"size_px\":0", "expected 8 to 1024"),
        ("\"size_px\":128", "\"size_px\":60000", "expected 8 to 1024"),
    ] {
        assert!(record.contains(from), "{record}");
        std::fs::write(&path, record.replace(from, to)).unwrap();
        let run = w.wbc(&["report", "--table", "3", "--run", "r"]).exits(2);
        assert!(run.stderr.contains(expected), "{to}: {}", run.stderr);
    }
}

#[test]
fn large_files_are_not_read_whole() {
    let w = Workdir::new("large");
    four(&w);
    let sparse = |path: &str, start: &[u8]| {
        let file = std::fs::OpenOptions::new().write(true).open(w.write(path, start)).unwrap();
        file.set_len(600_000_000).unwrap();
    };
    sparse("data/raw/d/neutrophil/a.bin", b"no image");
    sparse("data/raw/d/neutrophil/b.jpg", &[0xFF, 0xD8, 0xFF, 0xE0]);
    w.wbc(&["ingest", "--no-check"]).exits(1);
    let issues = wbc::dataset::issues(&w.workspace(), "d").unwrap();
    let message = |name: &str| issues.iter().find(|i| i.path.ends_with(name)).unwrap().message.clone();
    assert!(message("b.jpg").contains("expected at most 500 MB, found a file of 600 MB"), "{}", message("b.jpg"));
    assert!(message("a.bin").contains("a text file") || message("a.bin").contains("something else"), "{issues:?}");
}

#[test]
fn a_long_image_with_a_mask_is_preprocessed_in_little_memory() {
    let w = Workdir::new("long");
    let line = |colour: fn(u32) -> [u8; 3]| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let image = image::RgbImage::from_fn(65_500, 1, |x, _| image::Rgb(colour(x)));
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    w.write("data/raw/d/neutrophil/a.png", line(|x| [(x * 7) as u8, ((x * 31) >> 3) as u8, x as u8]));
    let mask = line(|x| if (30..65_470).contains(&x) { [255; 3] } else { [0; 3] });
    w.write("data/raw/d/neutrophil/a_mask.png", mask);
    w.wbc(&["ingest", "--no-check"]);
    let start = Instant::now();
    let run = w.wbc(&["preprocess"]).ok();
    assert!(run.stdout.contains("1 by the cell's box"), "{}", run.stdout);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// Random bytes of a file are changed, `n` times from the same seed; `each` reads the file.
fn mutate(path: &Path, n: u64, each: impl Fn()) {
    let whole = std::fs::read(path).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..n {
        let mut bytes = whole.clone();
        for _ in 0..1 + random(3) {
            // Most of what a reader believes is in the footer.
            let from = if random(2) == 0 { bytes.len() / 2 } else { 0 };
            let at = from + random(bytes.len() - from);
            bytes[at] = random(256) as u8;
        }
        bytes.truncate(bytes.len() - if random(8) == 0 { random(bytes.len()) } else { 0 });
        std::fs::write(path, bytes).unwrap();
        each();
    }
    std::fs::write(path, whole).unwrap();
}

#[test]
fn damaged_tables_never_panic() {
    let w = Workdir::new("tables");
    w.untrained_run("r", |_| {}, |_, _, _| Some(true));
    let path = w.path("data/runs/r/metrics.parquet");
    let start = Instant::now();
    mutate(&path, 3000, || drop(wbc::ingest::sheet::read(&path)));
    mutate(&path, 3000, || drop(wbc::run::Results::load(&w.workspace(), "r")));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// A run of two folds on 40 synthetic cells, trained on the data set `d`.
fn trained() -> Workdir {
    let w = Workdir::new("integrity");
    w.tiny(2, 2, "", "");
    w.split("d", "40", 1);
    w.train("d", "r");
    w
}

/// Flips bits of a file, each at another place, and puts it back.
fn flip(path: &Path, places: usize, each: impl Fn(usize)) {
    let whole = std::fs::read(path).unwrap();
    for place in 0..places {
        let at = whole.len() * (2 * place + 1) / (2 * places);
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (place % 8);
        std::fs::write(path, flipped).unwrap();
        each(at);
    }
    std::fs::write(path, whole).unwrap();
}

#[test]
fn a_flipped_bit_is_noticed_where_a_file_is_read_and_by_verify() {
    let w = trained();
    let whole = w.wbc(&["verify"]).ok();
    assert!(whole.stdout.contains("no differences") && !whole.stdout.contains("earlier"), "{}", whole.stdout);
    let images = w.path("images");
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("a.jpg"), image_bytes("a.jpg", 1, 200, 200)).unwrap();
    let fold = "data/runs/r/fold-00";
    for (file, read) in [
        ("data/d/manifest.parquet", &["split", "--stratified", "--dataset", "d"][..]),
        ("data/d/checks.parquet", &["split", "--stratified", "--dataset", "d"]),
        ("data/d/splits.parquet", &["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "s"]),
        ("data/runs/r/predictions.parquet", &["report", "--table", "3", "--run", "r"]),
        ("data/runs/r/metrics.parquet", &["report", "--table", "3", "--run", "r"]),
        ("data/runs/r/intervals.parquet", &["report", "--table", "3", "--run", "r"]),
        ("data/runs/r/run.json", &["report", "--table", "3", "--run", "r"]),
        (&format!("{fold}/checkpoint.safetensors"), &["predict", "r:0", "images"]),
    ] {
        flip(&w.path(file), 6, |at| {
            let run = w.wbc(read);
            assert_eq!(run.status, 2, "{file}, byte {at}: {run:?}");
            assert!(!run.stderr.contains("panicked"), "{file}, byte {at}: {}", run.stderr);
            let verified = w.wbc(&["verify"]).exits(1);
            assert!(verified.stdout.contains(file), "{file}, byte {at}: {}", verified.stdout);
            let _ = std::fs::remove_dir_all(w.path("data/runs/s"));
        });
        w.wbc(&["verify"]).ok();
    }
    // Tensors are computed again by the command that needs them.
    flip(&w.path("data/d/tensors-32/part-00000.parquet"), 3, |_| {
        assert!(w.wbc(&["verify"]).exits(1).stdout.contains("tensors-32/part-00000.parquet"));
        w.train("d", "r");
        w.wbc(&["verify"]).ok();
    });
    // What was made from it is named.
    flip(&w.path("data/d/splits.parquet"), 1, |_| {
        let verified = w.wbc(&["verify"]).exits(1).stdout;
        for file in ["runs/r/run.json", "fold-01/checkpoint.safetensors", "runs/r/metrics.parquet"] {
            assert!(verified.contains(&format!("made from it: data/{file}")) || verified.contains(file), "{verified}");
        }
        assert!(!verified.contains("made from it: data/d/checks.parquet"), "{verified}");
    });
    // An image that has changed since it was ingested.
    let image = w.path("data/raw/d").join(&w.manifest("d")[0].path);
    flip(&image, 1, |_| {
        w.wbc(&["verify"]).ok();
        let verified = w.wbc(&["verify", "--full"]).exits(1).stdout;
        assert!(verified.contains("the image has changed since it was ingested"), "{verified}");
    });
    assert!(w.wbc(&["verify", "--full"]).ok().stdout.contains("40 images: no differences"));
}

/// The files of a run that must be the same whenever it was interrupted: not the times.
fn results(w: &Workdir) -> Vec<Vec<u8>> {
    let files = ["predictions.parquet", "metrics.parquet", "intervals.parquet", "fold-00/checkpoint.safetensors"];
    files.iter().map(|file| std::fs::read(w.path("data/runs/r").join(file)).unwrap()).collect()
}

#[test]
fn damaged_results_of_a_fold_are_computed_again() {
    let w = trained();
    let before = results(&w);
    let fold = w.path("data/runs/r/fold-00");
    let checkpoint = fold.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 64;
    std::fs::write(&checkpoint, bytes).unwrap();
    let run = w.train("d", "r");
    assert!(run.stderr.contains("checkpoint.safetensors.damaged, and its model is trained again"), "{}", run.stderr);
    assert!(results(&w) == before && fold.join("checkpoint.safetensors.damaged").is_file());
    let doctor = w.wbc(&["doctor"]).exits(1);
    assert!(doctor.stdout.contains("1 file set aside because of damage"), "{}", doctor.stdout);
    // An empty file, as after a power cut, and at the same time another that is no checkpoint at all.
    std::fs::write(&checkpoint, b"").unwrap();
    std::fs::write(w.path("data/runs/r/fold-01/checkpoint.safetensors"), b"not a checkpoint").unwrap();
    w.train("d", "r");
    assert!(results(&w) == before);
    // Predictions alone are predicted again, without training.
    let predictions = fold.join("predictions.parquet");
    let mut bytes = std::fs::read(&predictions).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&predictions, bytes).unwrap();
    let run = w.train("d", "r");
    assert!(run.stderr.contains("predicting its test images again"), "{}", run.stderr);
    assert!(results(&w) == before);
}

#[test]
fn what_a_killed_command_left_is_listed_and_removed() {
    let w = Workdir::new("litter");
    w.wbc(&["synth", "--images", "20", "--name", "d"]).ok();
    let mut child = w.command(&["synth", "--images", "4000", "--name", "e"]).spawn().unwrap();
    let temporary = || {
        let entries = std::fs::read_dir(w.path("data/raw")).unwrap().map(|e| e.unwrap().file_name());
        entries.filter(|name| name.to_string_lossy().starts_with(".wbc-")).count()
    };
    let start = Instant::now();
    while temporary() == 0 && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(temporary(), 1);
    // In use: neither listed nor removed.
    let problems = |text: &str| text.contains("temporary file of stopped commands");
    assert!(!problems(&w.wbc(&["doctor"]).stdout));
    w.wbc(&["synth", "--images", "20", "--name", "d"]).ok();
    assert_eq!(temporary(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(problems(&w.wbc(&["doctor"]).exits(1).stdout));
    w.wbc(&["synth", "--images", "20", "--name", "d"]).ok();
    assert_eq!(temporary(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_nobody_reads_does_not_end_a_command() {
    let w = Workdir::new("log");
    w.tiny(2, 1, "", "");
    w.split("d", "30", 1);
    for log in ["/dev/full", "closed"] {
        let mut command = w.command(&["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", &log[1..4]]);
        command.stdout(std::process::Stdio::null());
        let status = if log == "closed" {
            let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
            drop(child.stderr.take());
            child.wait().unwrap()
        } else {
            command.stderr(std::fs::File::options().write(true).open(log).unwrap()).status().unwrap()
        };
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[cfg(unix)]
#[test]
fn escape_characters_in_names_are_not_obeyed() {
    let w = Workdir::new("escape");
    let path = four(&w);
    std::fs::rename(&path, path.with_file_name("\u{1b}[31mred.png")).unwrap();
    w.write("data/raw/d/neutrophil/\u{1b}[2Jclear.png", "no image");
    let run = w.wbc(&["ingest", "--no-check"]);
    assert!(run.stdout.contains("\\u{1b}[2Jclear.png"), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "{run:?}");
}

#[test]
fn two_preprocesses_at_once_write_the_same() {
    let w = Workdir::new("race");
    w.wbc(&["synth", "--images", "60", "--name", "d"]).ok();
    w.wbc(&["ingest", "--no-check"]).ok();
    let children: Vec<_> = (0..4).map(|_| w.command(&["preprocess"]).spawn().unwrap()).collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert!(w.wbc(&["preprocess"]).ok().stdout.contains("(up to date)"));
    let entries: Vec<_> = std::fs::read_dir(w.path("data/d")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!entries.iter().any(|name| name.to_string_lossy().starts_with('.')), "{entries:?}");
}

/// Every file of the workspace except the images, with its bytes; times differ from run to run.
fn workspace(w: &Workdir) -> BTreeMap<PathBuf, Vec<u8>> {
    let walk = walkdir::WalkDir::new(w.path("data")).into_iter().map(Result::unwrap);
    let files = walk.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let differs = |path: &PathBuf| path.ends_with("timings.csv");
    let is_raw = |path: &PathBuf| path.starts_with(w.path("data/raw"));
    files
        .filter(|path| !differs(path) && !is_raw(path))
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect()
}

/// Kills each command at random moments (`WBC_TEST_KILLS` of them, by default 6), and runs it again: the files are the
/// same as without, and none is left over.
#[test]
fn commands_that_are_killed_at_any_moment_end_with_the_same_files() {
    let kills: u32 = std::env::var("WBC_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let w = Workdir::new("kills");
    w.tiny(2, 2, "", "");
    w.wbc(&["synth", "--images", "60", "--name", "d", "--seed", "1"]).ok();
    let mut state = 1u64;
    for stage in [
        &["ingest", "--no-check", "--dataset", "d"][..],
        &["check", "--dataset", "d"],
        &["split", "--stratified", "--dataset", "d", "--pipeline", "tiny.toml"],
        &["preprocess", "--dataset", "d", "--pipeline", "tiny.toml"],
        &["features", "--dataset", "d"],
        &["train", "--dataset", "d", "--pipeline", "tiny.toml", "--run", "r"],
    ] {
        copy(&w.path("data"), &w.path("before"));
        let start = Instant::now();
        assert!(w.wbc(stage).status < 2, "{stage:?}");
        let (took, expected) = (start.elapsed(), workspace(&w));
        for _ in 0..kills {
            copy(&w.path("before"), &w.path("data"));
            let mut child = w.command(stage);
            let mut child =
                child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(took.mul_f64((state >> 40) as f64 / (1 << 24) as f64));
            let _ = child.kill();
            child.wait().unwrap();
            assert!(w.wbc(stage).status < 2, "{stage:?}");
            let (now, names) =
                (workspace(&w), |files: &BTreeMap<PathBuf, Vec<u8>>| Vec::from_iter(files.keys().cloned()));
            assert_eq!(names(&now), names(&expected), "{stage:?}");
            let changed: Vec<_> =
                now.iter().filter(|(path, bytes)| expected[*path] != **bytes).map(|(p, _)| p).collect();
            assert!(changed.is_empty(), "{stage:?}: {changed:?}");
        }
    }
}
