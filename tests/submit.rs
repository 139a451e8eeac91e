//! `wbc submit`, `wbc status` and `wbc cancel`: jobs of this machine, and of a Slurm where there is one.

use crate::common::Workdir;
use crate::train::{results, same};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// 100 synthetic cells in `folds` folds, and W-Net in `tiny.toml`.
fn cells(name: &str, folds: u32, epochs: u32) -> Workdir {
    let w = Workdir::new(name);
    w.tiny(folds, epochs, "", "");
    w.split("d", "20,20,20,20,20", 0);
    w
}

/// The files of a run without the scripts and logs of its jobs, which plain training does not have.
fn trained(w: &Workdir, run: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = results(w, run);
    files.retain(|(name, _)| !name.starts_with("local/") && !name.starts_with("slurm/"));
    files
}

/// Trains the pipelines in another workspace without jobs, and compares the runs.
fn as_trained_plainly(w: &Workdir, runs: &[(&str, &str, &str)]) {
    for (run, pipeline, seed) in runs {
        let plain = format!("plain-{run}");
        w.wbc(&["train", "--pipeline", pipeline, "--seed", seed, "--run", &plain]).ok();
        same(&trained(w, run), &trained(w, &plain), run);
    }
}

/// Kills every process that has the path of the workspace in its arguments.
fn kill_all(w: &Workdir) {
    let _ = Command::new("pkill").args(["-9", "-f", &w.path("data").display().to_string()]).status();
}

fn status(w: &Workdir, run: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(&w.wbc(&["status", run, "--json"]).ok().stdout).unwrap()["runs"][0].take()
}

#[test]
fn jobs_of_this_machine_give_what_train_gives() {
    let w = cells("submit", 3, 2);
    let given = ["submit", "--engine", "local", "--pipeline", "tiny.toml", "--pipeline", "lda", "--seeds", "0,1"];
    let submit = |more: &[&str]| w.wbc(&[&given[..], more].concat());
    let dry = submit(&["--dry-run"]).ok().stdout;
    assert!(dry.contains("train") && dry.contains("--fold 2") && dry.contains("nothing was sent"), "{dry}");
    assert!(!w.path("data/runs").exists());
    let log = submit(&["--jobs", "2"]).ok();
    assert!(log.stdout.contains("d-lda-lda-s1: trained: 0, 1, 2"), "{}", log.stdout);
    as_trained_plainly(
        &w,
        &[
            ("d-wnet-tiny", "tiny.toml", "0"),
            ("d-wnet-tiny-s1", "tiny.toml", "1"),
            ("d-lda-lda", "lda", "0"),
            ("d-lda-lda-s1", "lda", "1"),
        ],
    );
    assert!(w.path("reports/d-wnet-tiny/d-wnet-tiny.html").is_file());
    assert!(submit(&[]).ok().stdout.ends_with("nothing to send\n"));
    assert_eq!(status(&w, "d-wnet-tiny")["finished"].as_array().unwrap().len(), 3);
    // A model that is gone is sent again, and no other.
    std::fs::remove_dir_all(w.path("data/runs/d-wnet-tiny/fold-01")).unwrap();
    let log = submit(&[]).ok().stdout;
    assert!(log.contains("d-wnet-tiny: trained: 1; finished: 0, 2\n"), "{log}");
    same(&trained(&w, "d-wnet-tiny"), &trained(&w, "plain-d-wnet-tiny"), "once more");
    let refused = w.command(&given).env("WBC_EPOCHS", "9").output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("WBC_EPOCHS"), "it would not reach the jobs");
    // Another experiment of the same name is refused before anything is sent.
    w.tiny(3, 4, "", "");
    let refused = submit(&[]).exits(2).stderr;
    assert!(refused.contains("d-wnet-tiny to hold the same experiment"), "{refused}");
    assert!(refused.contains("epochs 4 instead of 2"), "{refused}");
    let dry = submit(&["--restart", "--dry-run"]).ok().stdout;
    assert!(dry.contains("d-wnet-tiny: would be sent: 0, 1, 2\n"), "nothing would be kept of it: {dry}");
    w.tiny(3, 2, "", "");
    for (wrong, says) in [
        (&["--fold", "9"][..], "0 to 2"),
        (&["--jobs", "0"], "jobs"),
        (&["--pipeline", "tiny.toml"], "different runs"),
        (&["--", "--mem=1G"], "no options of sbatch"),
    ] {
        let refused = submit(wrong).exits(2).stderr;
        assert!(refused.contains(says), "{wrong:?}: {refused}");
    }
    let refused = w.wbc(&["train", "--pipeline", "tiny.toml", "--pipeline", "lda"]).exits(2).stderr;
    assert!(refused.contains("submit takes several"), "{refused}");
    assert!(w.wbc(&["submit", "--engine", "pbs"]).exits(2).stderr.contains("slurm, local"));
}

#[test]
fn a_job_that_fails_is_named_and_the_others_go_on() {
    let w = cells("failing", 3, 2);
    let submit = ["submit", "--engine", "local", "--pipeline", "tiny.toml"];
    // Where the second model's folder should be is a file.
    w.write("data/runs/d-wnet-tiny/fold-01", "");
    let failed = w.wbc(&submit).exits(2).stderr;
    assert!(failed.contains("fold 1 of d-wnet-tiny: failed") && failed.contains("fold-01.log"), "{failed}");
    let text = w.wbc(&["status"]).ok().stdout;
    assert!(text.contains("2 of 3 folds done") && text.contains("fold 1: ended unfinished"), "{text}");
    std::fs::remove_file(w.path("data/runs/d-wnet-tiny/fold-01")).unwrap();
    assert!(w.wbc(&submit).ok().stdout.contains("trained: 1; finished: 0, 2"));
    as_trained_plainly(&w, &[("d-wnet-tiny", "tiny.toml", "0")]);
    // A folder that cannot be listed is not an empty one.
    let logs = w.path("data/runs/d-wnet-tiny/local");
    std::fs::remove_dir_all(&logs).unwrap();
    std::os::unix::fs::symlink(&logs, &logs).unwrap();
    let text = w.wbc(&["status"]).stdout;
    assert!(text.contains("3 of 3 folds done") && text.contains("which models were sent to local is not"), "{text}");
}

/// `WBC_TEST_KILLS` times, by default 50.
#[test]
fn jobs_that_are_killed_at_any_moment_end_with_the_same_tables() {
    let kills: u64 = std::env::var("WBC_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let w = cells("killed", 3, 40);
    let data = w.path("data").display().to_string();
    let submit = ["submit", "--engine", "local", "--jobs", "2", "--pipeline", "tiny.toml", "--workspace", &data];
    let mut interrupted = 0;
    for kill in 0..kills {
        let mut child = w.command(&submit).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + kill * 37 % 400));
        kill_all(&w);
        interrupted += u64::from(child.wait().unwrap().code().is_none());
    }
    assert!(interrupted > kills / 2, "{interrupted} of {kills}");
    w.wbc(&submit).ok();
    as_trained_plainly(&w, &[("d-wnet-tiny", "tiny.toml", "0")]);
    let left: Vec<PathBuf> =
        walkdir::WalkDir::new(w.path("data/runs")).into_iter().flatten().map(|e| e.into_path()).collect();
    let is_litter = |path: &&PathBuf| path.to_string_lossy().contains(".part") || path.ends_with("claim.json");
    assert_eq!(left.iter().filter(is_litter).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

#[test]
fn several_processes_train_the_folds_of_one_run() {
    let w = cells("together", 5, 20);
    w.wbc(&["preprocess", "--pipeline", "tiny.toml"]).ok();
    let train = ["train", "--pipeline", "tiny.toml", "--threads", "1"];
    let start = |more: &[&str]| {
        let words = [&train[..], more].concat();
        w.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| start(&[])).collect();
    let mut trained_by = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // 1: the last folds are still being trained by another.
        assert!(output.status.code() < Some(2), "{text}{}", String::from_utf8_lossy(&output.stderr));
        trained_by.push(text.lines().find(|line| line.starts_with("trained: ")).map(String::from));
    }
    assert!(trained_by.iter().flatten().count() > 1, "{trained_by:?}");
    as_trained_plainly(&w, &[("d-wnet-tiny", "tiny.toml", "0")]);
    // A fold that another process trains is refused by name; with --restart too.
    let mut other = start(&["--run", "held", "--epochs", "2000", "--fold", "0"]);
    let begun = Instant::now();
    while !w.path("data/runs/held/fold-00/claim.json").exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let held = |more: &[&str]| w.wbc(&[&train[..], &["--run", "held"], more].concat());
    let refused = held(&["--epochs", "2000", "--fold", "0"]).exits(2).stderr;
    assert!(refused.contains("no other process training fold 0") && refused.contains("process "), "{refused}");
    let refused = held(&["--epochs", "3", "--restart"]).exits(2).stderr;
    assert!(refused.contains("no process training"), "{refused}");
    let unfinished = status(&w, "held")["unfinished"][0].take();
    assert_eq!((&unfinished["state"], &unfinished["epochs"]), (&"training".into(), &2000.into()), "{unfinished}");
    let text = w.wbc(&["cancel", "held"]).ok().stdout;
    assert!(text.contains(&format!("cancelled process {}", other.id())), "{text}");
    assert_eq!(other.wait().unwrap().code(), Some(2), "it stops as with Ctrl-C");
    assert!(w.wbc(&["cancel", "held"]).ok().stdout.contains("nothing is queued or running"));
    assert!(w.wbc(&["cancel", "none"]).exits(2).stderr.contains("none"));
    assert!(
        w.wbc(&["train", "--pipeline", "tiny.toml", "--run", "new", "--gather"]).exits(2).stderr.contains("No fold")
    );
}

/// Whether there is a Slurm to send jobs to.
fn slurm() -> bool {
    let works = Command::new("sinfo").arg("--noheader").output().is_ok_and(|o| o.status.success());
    if !works {
        eprintln!("skipped: no Slurm (tests/slurm/start.sh starts one)");
    }
    works
}

fn squeue(format: &str) -> Vec<String> {
    let output = Command::new("squeue").args(["--me", "--noheader", "--array", "--format", format]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().to_string()).collect()
}

/// Waits until the jobs of a workspace are over. Those that were sent back to the queue start two seconds later: Slurm
/// would wait two minutes, and refuses a job that it starts in the second in which it ended it.
fn until_over(w: &Workdir) {
    let begun = Instant::now();
    let mut requeued: HashMap<String, Instant> = HashMap::new();
    let place = format!("{} ", w.path("").display().to_string().trim_end_matches('/'));
    loop {
        let jobs: Vec<String> = squeue("%Z %i %r")
            .into_iter()
            .filter(|line| (line.clone() + "/").contains(&place) || line.contains(place.trim_end_matches('/')))
            .collect();
        if jobs.is_empty() {
            return;
        }
        let id = |job: &String| job.split_whitespace().nth(1).unwrap().to_string();
        let waiting: Vec<String> = jobs.iter().filter(|job| job.ends_with("BeginTime")).map(id).collect();
        requeued.retain(|job, _| waiting.contains(job));
        for job in waiting {
            if requeued.entry(job.clone()).or_insert_with(Instant::now).elapsed() > Duration::from_secs(2) {
                let _ = Command::new("scontrol").args(["update", &format!("job={job}"), "StartTime=now"]).output();
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "{jobs:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Three recipes of ten folds as one array; one job is killed, one sent back to the queue by preemption, one runs into
/// its time limit, one is cancelled; the tables are those of `wbc train`.
#[test]
fn jobs_of_slurm_give_what_train_gives() {
    if !slurm() {
        return;
    }
    let w = cells("slurm", 10, 60);
    w.write(
        "cluster.toml",
        "name = \"cluster\"\n[preprocess]\nsize_px = 32\n[train]\nepochs = 900\nbatch = 16\n\
         [slurm]\ncpus = 1\nmax_parallel = 8\n",
    );
    let given = ["submit", "--pipeline", "tiny.toml", "--pipeline", "lda", "--pipeline", "knn", "--threads", "1"];
    let log = w.wbc(&given).ok();
    assert!(log.stdout.contains("trains 30 models"), "{}", log.stdout);
    let again = w.wbc(&given).ok().stdout;
    assert!(again.ends_with("nothing to send\n"), "what is queued is not sent twice: {again}");
    let script = std::fs::read_to_string(w.path("data/runs/d-wnet-tiny/slurm/train.sh")).unwrap();
    assert!(script.contains("#SBATCH --array=0-29\n") && script.contains("#SBATCH --time="), "{script}");
    // One is killed by somebody, one is preempted, one is cancelled.
    let training = |fold: u32| {
        let begun = Instant::now();
        let claim = w.path(format!("data/runs/d-wnet-tiny/fold-{fold:02}/claim.json"));
        while begun.elapsed() < Duration::from_secs(120) {
            let holder =
                std::fs::read(&claim).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
            if let Some(holder) = holder {
                return (holder["process"].to_string(), holder["job"].as_str().unwrap().to_string());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("fold {fold} is not trained: {:?}", squeue("%i %T %r"));
    };
    let (process, job) = training(0);
    assert!(Command::new("kill").args(["-9", &process]).status().unwrap().success());
    let (_, preempted) = training(1);
    assert!(Command::new("scontrol").args(["requeue", &preempted]).status().unwrap().success());
    let (_, cancelled) = training(2);
    assert!(Command::new("scancel").arg(&cancelled).status().unwrap().success());
    until_over(&w);
    let text = w.wbc(&["status", "d-wnet-tiny"]).ok().stdout;
    assert!(text.contains("8 of 10 folds done") && text.contains(&format!("(job {job})")), "{text}");
    assert!(text.contains("fold 2: ended unfinished"), "{text}");
    let report = std::fs::read_to_string(w.path("reports/d-wnet-tiny/table-3.md"));
    let report =
        report.or_else(|_| std::fs::read_to_string(w.path("reports/d-wnet-tiny/table-3-d-wnet-tiny.md"))).unwrap();
    assert!(report.contains("INCOMPLETE"), "{report}");
    let log = w.wbc(&given).ok().stdout;
    assert!(log.contains("trains 2 models") && log.contains("d-wnet-tiny: sent: 0, 2; finished: 1, 3"), "{log}");
    until_over(&w);
    as_trained_plainly(&w, &[("d-wnet-tiny", "tiny.toml", "0"), ("d-lda-lda", "lda", "0"), ("d-knn-knn", "knn", "0")]);
    assert!(w.wbc(&given).ok().stdout.ends_with("nothing to send\n"));
    // A time limit of one minute: Slurm says so early, and the job goes on later.
    let limited = ["submit", "--pipeline", "cluster.toml", "--fold", "0", "--", "--time=1", "--signal=B:TERM@55"];
    let log = w.wbc(&limited).ok();
    assert!(log.stdout.contains("sent: 0\n") && !log.stderr.contains("time limit"), "{}{}", log.stdout, log.stderr);
    until_over(&w);
    let logs = std::fs::read_dir(w.path("data/runs/d-wnet-cluster/slurm")).unwrap().flatten();
    let logs: String = logs
        .filter(|entry| entry.file_name().to_string_lossy().ends_with("_0.log"))
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
        .collect();
    assert!(logs.contains("out of time: back to the queue") && logs.contains("resuming after epoch"), "{logs}");
    w.wbc(&["train", "--pipeline", "cluster.toml", "--fold", "0", "--run", "plain"]).ok();
    same(&trained(&w, "d-wnet-cluster"), &trained(&w, "plain"), "after the time limit");
}

/// Jobs share the images of a data set; its tables, and those of a run on it, are the same.
#[test]
fn jobs_of_slurm_share_images() {
    if !slurm() {
        return;
    }
    let tables = |w: &Workdir| {
        let names = ["manifest", "ingest_issues", "checks", "issues", "copies", "copy_features"];
        names.map(|name| std::fs::read(w.path(format!("data/d/{name}.parquet"))).unwrap())
    };
    let whole = cells("slurm-whole", 3, 2);
    let w = Workdir::new("slurm-shards");
    w.tiny(3, 2, "", "");
    w.wbc(&["synth", "--images", "20,20,20,20,20", "--name", "d", "--seed", "0"]).ok();
    let submit = ["submit", "--ingest", "--shards", "3", "--threads", "1"];
    let dry = w.wbc(&[&submit[..], &["--dry-run"]].concat()).ok().stdout;
    assert!(dry.contains("--array=1-3\n") && dry.contains("--shard \"$SLURM_ARRAY_TASK_ID/3\""), "{dry}");
    assert!(dry.contains("--merge \"3\"") && dry.contains("nothing was sent"), "{dry}");
    assert!(!w.path("data/d").exists());
    // What is queued is not sent twice, and can be cancelled.
    let held = w.wbc(&[&submit[..], &["--", "--hold"]].concat()).ok().stdout;
    assert!(held.contains("3 shards") && held.contains("merges them"), "{held}");
    let again = w.wbc(&submit).ok().stdout;
    assert!(again.contains("d: ingest, step 1 of 7") && again.contains("nothing was sent: these jobs"), "{again}");
    assert!(w.wbc(&["status"]).ok().stdout.contains("0 of 3 tasks done, 3 queued (JobHeldUser)"));
    assert!(w.wbc(&["cancel", "--ingest"]).ok().stdout.contains("d: cancelled job"));
    until_over(&w);
    // Shards that fail are named: there is a file where their folder should be.
    w.write("data/d/shards", "");
    w.wbc(&submit).ok();
    until_over(&w);
    let text = w.wbc(&["status"]).ok().stdout;
    assert!(
        text.contains("d: ingest, step 1 of 7") && text.contains("0 of 3 tasks done, 3 ended unfinished"),
        "{text}"
    );
    assert!(text.contains("data/d/shards") && text.contains("slurm/ingest-shards-"), "{text}");
    // A damaged record of the jobs does not hide the runs.
    let record = std::fs::read(w.path("data/d/slurm/ingest.json")).unwrap();
    w.write("data/d/slurm/ingest.json", "{");
    assert!(w.wbc(&["status"]).ok().stdout.contains("d: ingest: data/d/slurm/ingest.json"));
    w.write("data/d/slurm/ingest.json", record);
    std::fs::remove_file(w.path("data/d/shards")).unwrap();
    let log = w.wbc(&submit).ok().stdout;
    assert!(log.contains("3 shards") && log.contains("merges them") && log.contains("wbc check --dataset d"), "{log}");
    until_over(&w);
    assert_eq!(w.wbc(&["status"]).ok().stdout.trim(), "d: ingest, done");
    assert!(tables(&w) == tables(&whole), "the tables differ");
    w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]).ok();
    let shared = ["submit", "--pipeline", "tiny.toml", "--pipeline", "lda", "--shards", "2", "--threads", "1"];
    let log = w.wbc(&shared).ok().stdout;
    assert!(log.contains("2 shards") && log.contains("trains 6 models"), "{log}");
    until_over(&w);
    as_trained_plainly(&w, &[("d-wnet-tiny", "tiny.toml", "0"), ("d-lda-lda", "lda", "0")]);
    // Where the images cannot be prepared, every run says why, not only the first, which has the log.
    let image = std::fs::read_dir(w.path("data/raw/d/neutrophil")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&image, "no image").unwrap();
    let tiny = std::fs::read_to_string(w.path("tiny.toml")).unwrap().replace("size_px = 32", "size_px = 40");
    for name in ["a", "b"] {
        w.write(format!("{name}.toml"), tiny.replace("tiny", name));
    }
    w.wbc(&["submit", "--pipeline", "a.toml", "--pipeline", "b.toml", "--shards", "2", "--threads", "1"]).ok();
    until_over(&w);
    for run in ["d-wnet-a", "d-wnet-b"] {
        let text = w.wbc(&["status", run]).ok().stdout;
        assert!(text.contains("fold 0: ended unfinished") && text.contains("prepare-shards-"), "{text}");
        assert!(text.contains(image.file_name().unwrap().to_str().unwrap()), "{text}");
    }
    let refused = w.wbc(&[&submit[..], &["--engine", "local"]].concat()).exits(2).stderr;
    assert!(refused.contains("one machine needs no shards"), "{refused}");
}

#[test]
fn what_slurm_refuses_is_said_and_nothing_is_lost() {
    if !slurm() {
        return;
    }
    let w = cells("refused", 2, 2);
    let submit = ["submit", "--pipeline", "tiny.toml", "--threads", "1"];
    let refused = w.wbc(&[&submit[..], &["--", "--partition=nowhere"]].concat()).exits(2).stderr;
    assert!(refused.contains("sbatch") && refused.contains("partition"), "{refused}");
    for option in ["--array=0-3", "--dependency=afterok:1"] {
        let refused = w.wbc(&[&submit[..], &["--", option]].concat()).exits(2).stderr;
        assert!(refused.contains(option), "{refused}");
    }
    assert!(w.wbc(&["status"]).ok().stdout.contains("no runs"), "nothing was sent");
    // Two at the same moment send everything once.
    let held = [&submit[..], &["--", "--hold"]].concat();
    let start = || w.command(&held).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let texts = [start(), start()].map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    let count = |what: &str| texts.iter().filter(|text| text.contains(what)).count();
    assert_eq!((count("d-wnet-tiny: sent: 0, 1\n"), count("d-wnet-tiny: queued: 0, 1\n")), (1, 1), "{texts:?}");
    let text = w.wbc(&["status"]).ok().stdout;
    assert!(text.contains("fold 1: queued (job"), "{text}");
    let text = String::from_utf8(w.command(&["status"]).env("PATH", "").output().unwrap().stdout).unwrap();
    assert!(text.contains("fold 1: sent (job") && text.contains("queue of slurm is not known"), "{text}");
    // Jobs that wait read the settings that they were sent with: others are refused.
    w.tiny(2, 3, "", "");
    for more in [&[][..], &["--restart"]] {
        let refused = w.wbc(&[&submit[..], more].concat()).exits(2).stderr;
        assert!(refused.contains("cancel d-wnet-tiny first") && refused.contains("epochs 3 instead of 2"), "{refused}");
    }
    w.tiny(2, 2, "", "");
    let text = w.wbc(&["cancel", "d-wnet-tiny"]).ok().stdout;
    assert!(text.contains("cancelled"), "{text}");
    until_over(&w);
    assert!(w.wbc(&["status"]).ok().stdout.contains("no runs"), "what was cancelled did not fail");
    w.wbc(&submit).ok();
    until_over(&w);
    as_trained_plainly(&w, &[("d-wnet-tiny", "tiny.toml", "0")]);
}

#[cfg(unix)]
#[test]
fn how_jobs_ended_is_asked_of_slurms_account() {
    use std::os::unix::fs::PermissionsExt;
    let w = Workdir::new("account");
    w.write("data/runs/r/slurm/jobs.json", r#"{"models": {"0": "7_0", "1": "7_1"}, "prepare": null}"#);
    w.write("data/runs/r/slurm/7_0.log", "epoch 3\nKilled\n");
    for (name, text) in [("squeue", ""), ("sacct", "7_0|OUT_OF_MEMORY\n7_1|CANCELLED by 1000\n")] {
        let path = w.write(format!("bin/{name}"), format!("#!/bin/sh\nprintf '{text}'\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let status = |path: std::ffi::OsString| {
        String::from_utf8(w.command(&["status"]).env("PATH", path).output().unwrap().stdout).unwrap()
    };
    let path = std::env::var_os("PATH").unwrap();
    let with_account = std::env::join_paths([w.path("bin")].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let text = status(with_account);
    assert!(text.contains("fold 0: ended unfinished (job 7_0, OUT_OF_MEMORY): Killed"), "{text}");
    assert!(text.contains("fold 1: ended unfinished (job 7_1, CANCELLED), without a log"), "{text}");
    std::fs::remove_file(w.path("bin/sacct")).unwrap();
    let text = status(w.path("bin").into());
    assert!(text.contains("fold 0: ended unfinished (job 7_0): Killed"), "{text}");
}

#[test]
fn without_slurm_its_absence_is_said() {
    let w = cells("absent", 2, 1);
    let mut command = w.command(&["submit", "--pipeline", "tiny.toml"]);
    let output = command.env("PATH", "").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("Slurm is not installed") && message.contains("--engine local"), "{message}");
    assert!(!w.path("data/runs/d-wnet-tiny/slurm/jobs.json").exists());
}
