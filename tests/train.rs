//! `wbc train`, `wbc report` and `wbc run`: from a split data set to tables.

use crate::common::{FIVE, Workdir, predictions};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use wbc::rows::{EpochRow, MetricRow};
use wbc::schema::{EPOCHS, MANIFEST, METRICS};
use wbc::scores::Metric;
use wbc::table;

/// W-Net with augmentation.
fn tiny(w: &Workdir) {
    w.tiny(3, 3, "", "[train.augment]\nflips = true\nquarter_turns = true\nbrightness = 0.1");
}

fn synthetic(name: &str, images: &str) -> Workdir {
    let w = Workdir::new(name);
    tiny(&w);
    w.split("d", images, 0);
    w
}

/// All files of a run but its timings: they must not depend on threads or interruptions.
pub fn results(w: &Workdir, run: &str) -> Vec<(String, Vec<u8>)> {
    let dir = w.path("data/runs").join(run);
    let mut files: Vec<_> = walkdir::WalkDir::new(&dir)
        .sort_by_file_name()
        .into_iter()
        .map(Result::unwrap)
        .filter(|e| e.file_type().is_file() && e.file_name() != "timings.csv")
        .map(|e| (e.path().strip_prefix(&dir).unwrap().display().to_string(), std::fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

pub fn same(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)], what: &str) {
    let names = |r: &[(String, Vec<u8>)]| r.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b), "{what}");
    for ((name, a), (_, b)) in a.iter().zip(b) {
        assert!(a == b, "{what}: {name} differs");
    }
}

#[test]
fn every_image_is_tested_once_and_the_tables_agree() {
    let w = synthetic("once", "20,18,15,16,17");
    let run = w.wbc(&["train", "--pipeline", "tiny.toml"]).ok();
    assert!(run.stdout.contains("balanced accuracy") && run.stderr.contains("3 of 3 folds"), "{}", run.stderr);
    let dir = w.path("data/runs/d-wnet-tiny");
    let rows = predictions(&dir.join("predictions.parquet"));
    let ids: BTreeSet<&str> = rows.iter().map(|r| r.image_id.as_str()).collect();
    assert_eq!((rows.len(), ids.len()), (86, 86));
    let splits = wbc::split::read(&w.workspace(), "d").unwrap();
    for row in &rows {
        assert_eq!(
            splits.place(&row.image_id),
            Some(wbc::split::Place::Fold(row.fold)),
            "predicted by the fold that tests it"
        );
        assert!((row.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(row.image_id.starts_with(&format!("d/{}/", row.truth)));
    }
    let (epochs, _) = table::read_rows::<EpochRow>(&dir.join("epochs.parquet"), &EPOCHS).unwrap();
    assert_eq!(epochs.iter().map(|e| (e.fold, e.epoch)).collect::<Vec<_>>().len(), 9);
    let (metrics, _) = table::read_rows::<MetricRow>(&dir.join("metrics.parquet"), &METRICS).unwrap();
    let correct = rows.iter().filter(|r| {
        let p = &r.probabilities;
        (0..5).all(|c| p[c] <= p[FIVE.iter().position(|c| *c == r.truth).unwrap()])
    });
    let diagonal: f64 = metrics
        .iter()
        .filter(|m| m.metric == Metric::Confusion && m.fold.is_none() && m.class == m.predicted)
        .map(|m| m.value.unwrap())
        .sum();
    assert_eq!(correct.count() as f64, diagonal);

    let table3 = w.wbc(&["report", "--table", "3"]).ok().stdout;
    for text in
        ["Neutrophil", "Fold-2", "Aver. Accuracy", "paper", "Synthetic cells, not photographs", "86 test images"]
    {
        assert!(table3.contains(text), "{text} not in\n{table3}");
    }
    for extension in ["md", "csv", "tex"] {
        assert!(w.path(format!("reports/table-3-d-wnet-tiny.{extension}")).is_file());
    }
    let json: serde_json::Value =
        serde_json::from_str(&w.wbc(&["report", "--table", "3", "--json"]).ok().stdout).unwrap();
    let mean =
        metrics.iter().find(|m| m.fold.is_none() && m.metric == Metric::BalancedAccuracy).unwrap().value.unwrap();
    assert_eq!(json[0]["rows"][10][5].as_f64().unwrap(), (1000.0 * mean).round() / 10.0);
    let table2 = w.wbc(&["report", "--table", "2"]).ok().stdout;
    assert!(table2.contains("2,006") && table2.contains("86"), "{table2}");
    let list = w.wbc(&["report"]).ok().stdout;
    assert!(list.contains("--table 2") && list.contains("--table 3"), "{list}");
    assert!(w.wbc(&["report", "--table", "99"]).exits(2).stderr.contains("one of: 1, 2, 3, 4, 5, 6"));
}

#[test]
fn threads_and_interruptions_change_no_byte() {
    let w = synthetic("resume", "30,30,30,30,30");
    assert_repeatable(&w);
}

#[test]
fn threads_and_interruptions_change_no_byte_in_bf16() {
    let w = Workdir::new("resume-bf16");
    w.tiny(3, 3, "", "precision = \"bf16\"\n[train.augment]\nflips = true\nquarter_turns = true\nbrightness = 0.1");
    w.split("d", "30,30,30,30,30", 0);
    assert_repeatable(&w);
    tiny(&w);
    let other = w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "one", "--epochs", "10"]).exits(2).stderr;
    assert!(other.contains("settings"), "a run of another precision is another run: {other}");
}

/// Trains with one and two threads, and through interruptions.
fn assert_repeatable(w: &Workdir) {
    let train = |run: &str, threads: &str| {
        w.command(&[
            "train",
            "--pipeline",
            "tiny.toml",
            "--run",
            run,
            "--threads",
            threads,
            "--epochs",
            "10",
            "--fold",
            "1",
            "--log",
            "csv,tensorboard",
        ])
    };
    assert!(train("one", "1").output().unwrap().status.success());
    assert!(train("two", "2").output().unwrap().status.success());
    same(&results(w, "one"), &results(w, "two"), "1 and 2 threads");

    // Killed after the first epochs, then stopped with Ctrl-C, then trained to the end.
    for (signal, after) in [("-KILL", "epoch   2"), ("-INT", "epoch   4")] {
        let mut child = train("broken", "2").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut log = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            log += &(line.clone() + "\n");
            if line.contains(after) {
                std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert!(!status.success(), "it ended before it was stopped\n{log}");
        if signal == "-INT" {
            assert_eq!(status.code(), Some(2));
            assert!(log.contains("resuming after epoch 2") && log.contains("Resume with: "), "{log}");
        }
    }
    assert!(train("broken", "2").output().unwrap().status.success());
    same(&results(w, "one"), &results(w, "broken"), "interrupted and not");
}

#[test]
fn a_fold_at_a_time_gives_the_same_and_says_what_is_missing() {
    let w = synthetic("folds", "12,12,12,12,12");
    w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "all"]).ok();
    let run = w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "parts", "--fold", "2"]).ok();
    assert!(run.stdout.contains("still to train: fold 0, 1"), "{}", run.stdout);
    let partial = w.wbc(&["report", "--table", "3", "--run", "parts"]).ok().stdout;
    assert!(partial.contains("INCOMPLETE: fold 0, 1 not trained yet"), "{partial}");
    let log = w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "parts"]).ok().stderr;
    assert_eq!(log.matches("so far: test: balanced accuracy").count(), 1, "after fold 0, not after fold 1\n{log}");
    same(&results(&w, "all"), &results(&w, "parts"), "all at once and in parts");
    let again = w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "all"]).ok();
    assert!(again.stdout.contains("up to date: fold 0, 1, 2"), "{}", again.stdout);
    let run = w.wbc(&["train", "--pipeline", "tiny.toml", "--fold", "3"]).exits(2);
    assert!(run.stderr.contains("expected 0 to 2, found 3"), "{}", run.stderr);
    // Several runs and none named: the message lists them.
    let run = w.wbc(&["report", "--table", "3"]).exits(2);
    assert!(run.stderr.contains("all, parts"), "{}", run.stderr);
}

#[test]
fn finished_folds_are_reported_when_training_is_killed() {
    let w = synthetic("sofar", "12,12,12,12,12");
    let command = ["train", "--pipeline", "tiny.toml", "--run", "cut", "--epochs", "30"];
    let mut child = w.command(&command).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        if line.unwrap().contains("so far: ") {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    let partial = w.wbc(&["report", "--table", "3"]).ok().stdout;
    assert!(partial.contains("INCOMPLETE: fold 1, 2 not trained yet"), "{partial}");
}

#[test]
fn another_experiment_does_not_overwrite_a_run() {
    let w = synthetic("names", "10,10,10,10,10");
    let first = ["train", "--pipeline", "tiny.toml", "--fold", "0", "--epochs", "1"];
    w.wbc(&first).ok();
    let before = results(&w, "d-wnet-tiny");
    let run = w.wbc(&["train", "--pipeline", "tiny.toml", "--fold", "0", "--epochs", "2"]).exits(2);
    assert!(run.stderr.contains("--restart") && run.stderr.contains("other settings"), "{}", run.stderr);
    same(&before, &results(&w, "d-wnet-tiny"), "refused");
    w.wbc(&["train", "--pipeline", "tiny.toml", "--fold", "0", "--epochs", "1", "--seed", "7"]).ok();
    assert!(w.path("data/runs/d-wnet-tiny-s7").is_dir(), "another seed is another run");
    w.wbc(&["split", "--stratified", "--folds", "4"]).ok();
    let run = w.wbc(&first).exits(2);
    assert!(run.stderr.contains("other data"), "{}", run.stderr);
    let mut restart = first.to_vec();
    restart.push("--restart");
    w.wbc(&restart).ok();
    // New images: the split is stale, and the message has the command that makes it again.
    w.write("data/raw/d/neutrophil/new.png", crate::common::image_bytes("a.png", 1, 360, 361));
    w.wbc(&["ingest"]);
    let run = w.wbc(&first).exits(2);
    assert!(run.stderr.contains("out of date") && run.stderr.contains("wbc split --stratified"), "{}", run.stderr);
}

#[test]
fn an_image_size_that_the_model_cannot_take_is_refused_before_preprocessing() {
    let w = synthetic("size", "40");
    let text = |model: &str, size: u32| format!("name = \"odd\"\n[preprocess]\nsize_px = {size}\n[train]\n{model}\n");
    let resnet = "model = \"resnet50\"\ndropout = 0.0\n[train.optimiser]\nkind = \"sgd\"";
    for (model, size, expected) in [("model = \"wnet\"", 100, "a multiple of 8"), (resnet, 72, "a multiple of 32")] {
        w.write("odd.toml", text(model, size));
        let refused = w.wbc(&["train", "--pipeline", "odd.toml"]).exits(2).stderr;
        assert!(refused.contains("preprocess.size_px") && refused.contains(expected), "{refused}");
        assert!(refused.contains(&format!("found {size}")), "{refused}");
    }
    let cut = std::fs::read_dir(w.path("data/d")).unwrap().flatten();
    assert!(cut.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with("tensors")));
}

/// On a GPU, or on the simulated device of `tests/cuda`.
#[cfg(feature = "cuda")]
mod on_cuda {
    use super::*;

    #[test]
    fn folds_train_stop_resume_and_predict() {
        let w = synthetic("cuda", "12,10,10,10,10");
        let train = |run: &str, device: &str, more: &[&str]| {
            let fixed = ["train", "--pipeline", "tiny.toml", "--run", run, "--device", device];
            w.wbc(&[&fixed, more].concat())
        };
        let first = train("gpu", "cuda:0", &["--log", "csv"]);
        if first.stderr.contains("setting `device`") {
            assert_eq!(first.status, 2);
            eprintln!("skipped: {}", first.stderr);
            return;
        }
        first.ok();
        let refused = train("other", "cuda:99", &[]).exits(2).stderr;
        assert!(refused.contains("cuda:99") && refused.contains("cuda:0"), "{refused}");
        // All epochs are in the tables, although few checkpoints were written.
        let times = std::fs::read_to_string(w.path("data/runs/gpu/fold-02/timings.csv")).unwrap();
        assert_eq!(times.lines().filter(|line| line.ends_with(",cuda:0")).count(), 3, "{times}");
        let (epochs, _) = table::read_rows::<EpochRow>(&w.path("data/runs/gpu/epochs.parquet"), &EPOCHS).unwrap();
        assert_eq!(epochs.len(), 9);
        let curves = std::fs::read_to_string(w.path("data/runs/gpu/curves.csv")).unwrap();
        assert_eq!(curves.lines().count(), 10, "{curves}");
        // The same device gives the same bytes, and the CPU nearly the same probabilities.
        train("again", "cuda:0", &["--log", "csv"]).ok();
        let of = |run: &str| predictions(&w.path(format!("data/runs/{run}/predictions.parquet")));
        let [gpu, again] = ["gpu", "again"].map(of);
        assert!(gpu.iter().zip(&again).all(|(a, b)| a.probabilities == b.probabilities));
        train("cpu", "cpu", &[]).ok();
        for (a, b) in gpu.iter().zip(&of("cpu")) {
            assert_eq!(a.image_id, b.image_id);
            assert!(a.probabilities.iter().zip(&b.probabilities).all(|(a, b)| (a - b).abs() < 0.02), "{a:?} {b:?}");
        }
        let image = walkdir::WalkDir::new(w.path("data/raw/d")).into_iter().flatten().find(|e| e.file_type().is_file());
        let image = image.unwrap().into_path();
        w.wbc(&["predict", "gpu", image.to_str().unwrap(), "--device", "cuda:0"]);
        assert!(w.wbc(&["doctor", "--device", "cuda:99"]).stdout.contains("cannot use a GPU"));
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_missing_device_is_refused_and_creates_no_run() {
    let w = synthetic("device", "40");
    let train =
        |device: &str, pipeline: &str| w.wbc(&["train", "--pipeline", pipeline, "--device", device, "--fold", "0"]);
    let refused = train("cuda:0", "tiny.toml");
    assert_eq!(refused.status, 2);
    assert!(refused.stderr.contains("--features cuda") && refused.stderr.contains("cuda:0"), "{}", refused.stderr);
    assert!(train("gpu", "tiny.toml").stderr.contains("cuda:N"));
    assert!(train("cuda:0", "knn").stderr.contains("device"));
    assert!(!w.path("data/runs/d-wnet-tiny/run.json").exists() && !w.path("data/runs/d-knn-knn").exists());
    train("cpu", "tiny.toml").ok();
    let times = std::fs::read_to_string(w.path("data/runs/d-wnet-tiny/fold-00/timings.csv")).unwrap();
    assert!(times.lines().next().unwrap().ends_with(",device") && times.lines().nth(1).unwrap().ends_with(",cpu"));
}

#[test]
fn a_model_that_learns_beats_one_that_does_not() {
    let w = synthetic("learns", "60,60,60,60,60");
    let balanced = |run: &str, epochs: &str| -> f64 {
        let run = w
            .wbc(&["train", "--pipeline", "tiny.toml", "--run", run, "--fold", "0", "--epochs", epochs, "--json"])
            .ok();
        let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        json["evaluate"]["balanced_accuracy"].as_f64().unwrap()
    };
    let trained = balanced("long", "15");
    assert!(trained > 0.6, "{trained} after 15 epochs; chance is 0.2");
}

#[test]
fn the_full_pipeline_reads_images_as_they_were_ingested_and_tells_findings_every_time() {
    let w = Workdir::new("as-before");
    tiny(&w);
    w.wbc(&["synth", "--images", "50", "--name", "d"]).ok();
    w.wbc(&["ingest", "--classes", "neutrophil,eosinophil,basophil", "--no-check"]).exits(1);
    for _ in 0..2 {
        let run = w.wbc(&["run", "tiny.toml"]).exits(1);
        let kept = "as d was ingested before, with classes.set = [\"neutrophil\", \"eosinophil\", \"basophil\"]";
        assert!(run.stderr.contains(kept) && run.stderr.contains("with 2 other labels: lymphocyte"), "{}", run.stderr);
        assert!(run.stdout.contains("findings of ingest"), "{}", run.stdout);
    }
    let pipeline = std::fs::read_to_string(w.path("data/runs/d-wnet-tiny/pipeline.toml")).unwrap();
    assert!(pipeline.contains("basophil"), "{pipeline}");
    let held_out = w.wbc(&["split", "--test", "0.2", "--pipeline", "tiny.toml"]).exits(1);
    assert!(held_out.stdout.contains("Held out"), "{}", held_out.stdout);
    let run = w.wbc(&["run", "tiny.toml"]).exits(1);
    assert!(run.stderr.contains("the test set 0.2; the pipeline has"), "{}", run.stderr);
    let dropped = w.wbc(&["ingest", "--no-check"]).exits(1).stdout;
    assert!(dropped.contains("d was read with classes.set = ") && dropped.contains("give it again"), "{dropped}");
}

#[test]
fn the_full_pipeline_runs_and_skips_what_is_up_to_date() {
    let w = Workdir::new("whole");
    tiny(&w);
    w.wbc(&["synth", "--images", "12,12,12,12,12", "--name", "d"]).ok();
    let first = w.wbc(&["run", "tiny.toml"]).ok();
    assert!(first.stdout.contains("Table 3") && !first.stderr.contains("skipped"), "{}", first.stderr);
    let second = w.wbc(&["run", "tiny.toml"]).ok();
    for stage in ["ingest", "check", "split", "preprocess", "train"] {
        assert!(second.stderr.contains(&format!("{stage}: up to date, skipped")), "{}", second.stderr);
    }
    assert_eq!(first.stdout, second.stdout);
    let json: serde_json::Value = serde_json::from_str(&w.wbc(&["run", "tiny.toml", "--json"]).ok().stdout).unwrap();
    assert_eq!(json["stages"].as_array().unwrap().len(), 5);

    // The settings in the run's folder run it again.
    let third = w.wbc(&["run", "data/runs/d-wnet-tiny/pipeline.toml"]).ok();
    assert!(third.stderr.contains("train: up to date, skipped"), "{}", third.stderr);

    let tiny = std::fs::read_to_string(w.path("tiny.toml")).unwrap();
    w.write("wrong.toml", tiny.replace("epochs", "epoch"));
    let run = w.wbc(&["run", "wrong.toml"]).exits(2);
    assert!(run.stderr.contains("wrong.toml") && run.stderr.contains("unknown field `epoch`"), "{}", run.stderr);
    assert!(w.wbc(&["run", "none.toml"]).exits(2).stderr.contains("quick, paper"));
}

#[test]
fn the_four_commands_of_the_readme() {
    // The default pipeline trains for minutes: environment variables shorten it.
    let w = Workdir::new("lines");
    w.wbc(&["synth", "--images", "10,10,10,10,10", "--name", "mine"]).ok();
    for line in ["ingest", "split --stratified", "train", "report --table 3"] {
        let mut command = w.command(&line.split(' ').collect::<Vec<_>>());
        let output = command.env("WBC_EPOCHS", "1").env("WBC_SIZE", "64").output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "wbc {line}: {err}");
        if line.starts_with("report") {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("Fold-9") && text.contains("mine-wnet-quick"), "{text}");
        }
    }
}

#[test]
fn the_demo_prints_table_3_and_skips_finished_work() {
    let w = Workdir::new("demo");
    let first = w.wbc(&["demo", "--images", "30"]).ok();
    assert!(first.stdout.contains("Table 3: 10-fold cross-validation of W-Net on synthetic"), "{}", first.stdout);
    assert!(w.path("demo/reports/table-3-synthetic-wnet-demo.md").is_file() && !w.path("data").exists());
    let again = w.wbc(&["demo", "--images", "30"]).ok();
    assert!(again.stderr.contains("train: up to date, skipped"), "{}", again.stderr);
    assert_eq!(again.stdout, first.stdout);
}

#[cfg(unix)]
#[test]
fn a_workspace_that_cannot_be_written_is_a_clear_error() {
    use std::os::unix::fs::PermissionsExt;
    let w = Workdir::new("read-only");
    w.wbc(&["synth", "--images", "10", "--name", "d"]).ok();
    let data = w.path("data");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555)).unwrap();
    let writable = std::fs::write(data.join("probe"), "").is_ok(); // as root
    if writable {
        // Root may write everywhere: a file in place of the folder fails for any user.
        std::fs::remove_file(data.join("probe")).unwrap();
        w.write("data/d", "in the way");
    }
    let run = w.wbc(&["ingest"]).exits(2);
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(run.stderr.contains("data/d") && run.stderr.contains("cannot"), "{}", run.stderr);
}

#[test]
fn a_table_of_another_version_is_refused_with_advice() {
    let w = synthetic("version", "10,10,10,10,10");
    let path = w.workspace().manifest("d");
    let mut bytes = std::fs::read(&path).unwrap();
    let tag = MANIFEST.tag();
    let at = bytes.windows(tag.len()).position(|b| b == tag.as_bytes()).expect("the footer has the tag");
    bytes[at + tag.len() - 1] = b'9';
    std::fs::write(&path, bytes).unwrap();
    let run = w.wbc(&["split", "--stratified"]).exits(2);
    for text in ["manifest.parquet", tag.as_str(), "manifest/9", "wbc ingest"] {
        assert!(run.stderr.contains(text), "{text} not in {}", run.stderr);
    }
}

#[test]
fn a_runs_name_is_not_a_path() {
    let w = Workdir::new("names");
    w.wbc(&["synth", "--images", "30", "--name", "d"]).ok();
    w.wbc(&["ingest"]);
    // Some classes have fewer images than there are folds, which is said.
    w.wbc(&["split", "--stratified"]).exits(1);
    let train = ["train", "--pipeline", "lda", "--fold", "0"];
    let there = w.path("there").display().to_string();
    for name in ["../raw", "", "a/b", "a:0", ".hidden", "-x", there.as_str()] {
        let run = format!("--run={name}");
        for restart in [&[][..], &["--restart"]] {
            let refused = w.wbc(&[&train[..], &[&run], restart].concat()).exits(2).stderr;
            assert!(refused.contains("setting `run`: expected a folder name"), "{name}: {refused}");
        }
        let refused = w.wbc(&["report", "--html", &run]).exits(2).stderr;
        assert!(refused.contains("run"), "{refused}");
    }
    assert!(w.path("data/raw/d/neutrophil").is_dir() && !w.path("data/runs").exists() && !w.path("there").exists());
    // The run records the folds of the split, whatever the pipeline file says.
    w.write("three.toml", "name = \"three\"\n[split]\nfolds = 3\n[train]\nmodel = \"lda\"\n");
    let log = w.wbc(&["train", "--pipeline", "three.toml", "--run", "three"]).ok().stderr;
    assert!(log.contains("the split has 10 folds, the pipeline 3"), "{log}");
    let kept = std::fs::read_to_string(w.path("data/runs/three/pipeline.toml")).unwrap();
    assert!(kept.contains("folds = 10"), "{kept}");
    w.wbc(&["train", "--pipeline", "three.toml", "--run", "three"]).ok();
}
