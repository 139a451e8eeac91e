//! The fault campaign: every stage is killed, or a call of it fails, at calls that change or read files. Each time the
//! same command must end with the files of an undisturbed one, and nothing may be said to be done that is not.
//!
//! `WBC_CAMPAIGN` is the number of calls that are tried for each stage and kind of fault, `all` for every one; by
//! default 1. `WBC_CAMPAIGN_SEED` chooses them, by default 1; `WBC_CAMPAIGN_STAGE` is the only stage. Without these,
//! each stage also has one fault that the time of day chooses; a failure names its seed.

use crate::common::{Workdir, copy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What happens at a call: name, classes of calls (see `campaign/faults.c`), action.
const FAULTS: [(&str, &str, &str); 8] = [
    ("killed", "wsrcmut", "-1"),
    ("disk full from then on", "wcm", "+28"),
    ("one error of the disk", "wsrcmut", "5"),
    ("read-only from then on", "wsrcmut", "+30"),
    ("a sync fails", "s", "5"),
    ("a rename fails", "r", "5"),
    ("a read fails", "R", "5"),
    ("no permission to open", "O", "13"),
];

/// Commands whose results the next ones use.
const STAGES: [(&str, &str); 11] = [
    ("ingest", "ingest --no-check --dataset d"),
    ("check", "check --dataset d"),
    ("split", "split --stratified --dataset d --pipeline tiny.toml"),
    ("preprocess", "preprocess --dataset d --pipeline tiny.toml"),
    ("features", "features --dataset d"),
    ("train a network", "train --dataset d --pipeline tiny.toml --run net"),
    ("train a classifier", "train --dataset d --pipeline lda --run lda"),
    ("report", "report --all --html --run net"),
    ("predict", "predict net data/raw/d/neutrophil --output cells.csv"),
    ("export", "export net --to onnx"),
    ("verify", "verify --full"),
];

/// The tracer, if it can be compiled and may trace.
fn tracer(w: &Workdir) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/campaign/faults.c");
    let program = w.path("faults");
    let compiled = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(source).output();
    let skip = |why: &str| {
        eprintln!("skipped: the fault campaign ({why})");
        None
    };
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) || !compiled.is_ok_and(|o| o.status.success()) {
        return skip("no C compiler for Linux on x86-64");
    }
    let count = w.path("count");
    let args = ["/", "w", "0", "0", count.to_str().unwrap(), "/bin/true"];
    match Command::new(&program).args(args).status() {
        Ok(status) if status.code() == Some(0) => Some(program),
        _ => skip("no program may be traced here"),
    }
}

/// Every file of the folder in which the stages work, with its bytes; times differ from run to run.
fn files(at: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let walk = walkdir::WalkDir::new(at).into_iter().map(Result::unwrap);
    let files = walk.filter(|entry| entry.file_type().is_file() && entry.file_name() != "timings.csv");
    let relative = |path: &Path| path.strip_prefix(at).unwrap().to_path_buf();
    files.map(|entry| (relative(entry.path()), std::fs::read(entry.path()).unwrap())).collect()
}

fn different(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
    let names: std::collections::BTreeSet<&PathBuf> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

struct Stage {
    name: &'static str,
    words: Vec<&'static str>,
    /// Exit status and files where nothing happens.
    status: i32,
    expected: BTreeMap<PathBuf, Vec<u8>>,
    /// How many calls of each selection of classes there are.
    calls: BTreeMap<&'static str, usize>,
}

struct Campaign {
    w: Workdir,
    tracer: PathBuf,
    state: u64,
    tries: usize,
    problems: Vec<String>,
}

impl Campaign {
    fn random(&mut self, below: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % below.max(1)
    }

    /// A command in the folder `work`, at whose `number`th call something happens; returns the exit status, stderr, how
    /// many calls there were and which one it was.
    fn traced(&self, words: &[&str], classes: &str, number: usize, action: &str) -> (i32, String, usize, String) {
        let (work, count) = (self.w.path("work"), self.w.path("count"));
        let mut command = Command::new(&self.tracer);
        command.arg(&work).args([classes, &number.to_string(), action]).arg(&count);
        command.arg(env!("CARGO_BIN_EXE_wbc")).args(words).current_dir(&work);
        let output = command.output().unwrap();
        let text = std::fs::read_to_string(count).unwrap();
        let mut lines = text.lines();
        let calls = lines.next().unwrap().parse().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), stderr, calls, lines.next().unwrap_or_default().to_string())
    }

    fn undisturbed(&self, words: &[&str]) -> (i32, String) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_wbc")).args(words).current_dir(self.w.path("work")).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// One stage, undisturbed.
    fn stage(&self, name: &'static str, words: Vec<&'static str>) -> Stage {
        let work = self.w.path("work");
        copy(&self.w.path("before"), &work);
        let (status, stderr) = self.undisturbed(&words);
        assert!(status < 2, "{name}: {stderr}");
        Stage { name, words, status, expected: files(&work), calls: BTreeMap::new() }
    }

    /// A stage with one kind of fault, at `cap` calls.
    fn disturb(&mut self, stage: &mut Stage, fault: (&str, &'static str, &str), cap: usize, seed: u64) {
        let (before, work) = (self.w.path("before"), self.w.path("work"));
        let (kind, classes, action) = fault;
        let (name, words) = (stage.name, &stage.words);
        let calls = *stage.calls.entry(classes).or_insert_with(|| {
            copy(&before, &work);
            self.traced(words, classes, 0, "0").2
        });
        let numbers: Vec<usize> = match calls <= cap {
            true => (1..=calls).collect(),
            false => (0..cap).map(|_| 1 + self.random(calls)).collect(),
        };
        for number in numbers {
            self.tries += 1;
            copy(&before, &work);
            let (ended, stderr, _, what) = self.traced(words, classes, number, action);
            let now = files(&work);
            let mut problems = Vec::new();
            if stderr.contains("panicked") || ![0, 1, 2, 137].contains(&ended) {
                problems.push(format!("exit status {ended}: {stderr}"));
            }
            if ended == 2 && stderr.trim().is_empty() {
                problems.push("no message".into());
            }
            let wrong = different(&now, &stage.expected);
            if ended < 2 && !wrong.is_empty() {
                problems.push(format!("done, with other files: {wrong:?}\n{stderr}"));
            }
            let (again, stderr) = self.undisturbed(words);
            let left = different(&files(&work), &stage.expected);
            if again != stage.status || !left.is_empty() {
                problems.push(format!("the same command again: exit status {again}, other files {left:?}\n{stderr}"));
            }
            let place = format!("seed {seed}: {name}, {kind} at call {number} of {calls} ({what})");
            self.problems.extend(problems.into_iter().map(|problem| format!("{place}: {problem}")));
        }
    }
}

#[test]
fn whatever_call_fails_the_same_command_ends_with_the_same_files() {
    let w = Workdir::new("campaign");
    let Some(tracer) = tracer(&w) else { return };
    let variable = |name: &str| std::env::var(name).ok();
    let cap = match variable("WBC_CAMPAIGN").as_deref() {
        None => 1,
        Some("all") => usize::MAX,
        Some(number) => number.parse().expect("WBC_CAMPAIGN is a number, or all"),
    };
    let seed = variable("WBC_CAMPAIGN_SEED").map(|seed| seed.parse().expect("WBC_CAMPAIGN_SEED is a number"));
    let only = variable("WBC_CAMPAIGN_STAGE");
    let fresh = (cap == 1 && seed.is_none() && only.is_none()).then(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs()
    });
    let seed = seed.unwrap_or(1);
    w.tiny(2, 2, "", "");
    w.wbc(&["synth", "--images", "60", "--name", "d", "--seed", "1"]).ok();
    std::fs::create_dir(w.path("before")).unwrap();
    for name in ["data", "tiny.toml"] {
        std::fs::rename(w.path(name), w.path("before").join(name)).unwrap();
    }
    let mut campaign = Campaign { w, tracer, state: seed, tries: 0, problems: Vec::new() };
    for (at, (name, line)) in STAGES.into_iter().enumerate() {
        let mut stage = campaign.stage(name, line.split(' ').collect());
        let after = campaign.w.path("after");
        copy(&campaign.w.path("work"), &after);
        if only.as_ref().is_none_or(|only| only == name) {
            for fault in FAULTS {
                campaign.disturb(&mut stage, fault, cap, seed);
            }
            if let Some(fresh) = fresh {
                let state = std::mem::replace(&mut campaign.state, fresh + at as u64);
                let fault = FAULTS[campaign.random(FAULTS.len())];
                campaign.disturb(&mut stage, fault, 1, fresh);
                campaign.state = state;
            }
        }
        copy(&after, &campaign.w.path("before"));
    }
    let tries = campaign.tries;
    println!("{tries} faults with seed {seed} and {fresh:?}, {} problems", campaign.problems.len());
    assert!(campaign.problems.is_empty(), "{}", campaign.problems.join("\n"));
}
