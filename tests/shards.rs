//! Ingest, check, preprocess and features in shards: the same tables, whichever processes did the work.

use crate::common::{Workdir, shared};
use std::path::Path;
use std::process::Stdio;

/// Names and bytes of the tables of a data set, without the shards.
fn tables(w: &Workdir, dataset: &str) -> Vec<(String, Vec<u8>)> {
    let root = w.path(format!("data/{dataset}"));
    let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    files.map(|entry| (name(entry.path()), std::fs::read(entry.path()).unwrap())).collect()
}

/// Calls a command for each shard, until all are done; returns how often.
fn shards(w: &Workdir, command: &[&str], count: u32) -> usize {
    for round in 1..=5 {
        let mut text = String::new();
        // The last first: their order does not matter.
        for number in (1..=count).rev() {
            text = w.wbc(&[command, &["--shard", &format!("{number}/{count}")]].concat()).ok().stdout;
        }
        if text.contains(&format!("--merge {count}")) {
            return round;
        }
    }
    panic!("the shards are never done");
}

fn merge(w: &Workdir, command: &[&str], count: u32) -> String {
    let run = w.wbc(&[command, &["--merge", &count.to_string()]].concat());
    assert!(run.status < 2, "{}", run.stderr);
    run.stdout
}

/// Does the work of a data set in one process and in shards, and compares the tables.
fn same_in_shards(w: &Workdir, dataset: &str) {
    let of_dataset = |command: &'static str| vec![command, "--dataset", dataset];
    assert!(w.wbc(&of_dataset("ingest")).status < 2);
    w.wbc(&of_dataset("preprocess")).ok();
    assert!(w.wbc(&of_dataset("features")).status < 2);
    let whole = tables(w, dataset);
    assert!(whole.len() >= 8, "{:?}", whole.iter().map(|(name, _)| name).collect::<Vec<_>>());
    std::fs::remove_dir_all(w.path(format!("data/{dataset}"))).unwrap();
    let ingest = of_dataset("ingest");
    shards(w, &ingest, 3);
    let merged = merge(w, &ingest, 3);
    assert!(merged.contains("done by none of 3 shards") && merged.contains("--shard I/3"), "{merged}");
    assert_eq!(shards(w, &ingest, 3), 1);
    let merged = merge(w, &ingest, 3);
    assert!(merged.contains("images checked"), "{merged}");
    for command in ["preprocess", "features"] {
        assert_eq!(shards(w, &of_dataset(command), 3), 1);
        merge(w, &of_dataset(command), 3);
    }
    for ((name, merged), (expected, bytes)) in tables(w, dataset).iter().zip(&whole) {
        assert!(name == expected && merged == bytes, "{dataset}: {name} differs from {expected}");
    }
    assert_eq!(tables(w, dataset).len(), whole.len(), "no shard is left behind");
    // What is up to date is not done again.
    assert!(w.wbc(&ingest).stdout.contains("(up to date)"));
}

#[test]
fn shards_give_what_one_process_gives() {
    let w = Workdir::new("shards");
    w.wbc(&["synth", "--images", "14,9,8,7,6", "--name", "folders"]).ok();
    w.wbc(&["synth", "--layout", "lisc", "--images", "5,4,4,4,4", "--name", "frames"]).ok();
    // What is no image, what is damaged, and a copy under another label.
    w.write("data/raw/folders/notes.txt", "no image");
    w.write("data/raw/folders/neutrophil/empty.png", "");
    let first = std::fs::read_dir(w.path("data/raw/folders/neutrophil")).unwrap().flatten().map(|entry| entry.path());
    let first = first.filter(|path| path.metadata().unwrap().len() > 0).min().unwrap();
    let image = std::fs::read(first).unwrap();
    w.write("data/raw/folders/neutrophil/cut.jpg", &image[..image.len() / 2]);
    w.write("data/raw/folders/monocyte/copy.jpg", &image);
    same_in_shards(&w, "folders");
    same_in_shards(&w, "frames");
}

#[test]
fn real_data_in_shards() {
    let w = Workdir::new("shards-real");
    for (dataset, folder) in [("jtsc", "jtsc"), ("lisc-masks", "masks"), ("bccd-voc", "frames")] {
        let Some(path) = shared(dataset) else { continue };
        std::fs::create_dir_all(w.path("data/raw")).unwrap();
        std::os::unix::fs::symlink(path.canonicalize().unwrap(), w.path(format!("data/raw/{folder}"))).unwrap();
        same_in_shards(&w, folder);
    }
}

#[test]
fn what_is_missing_changed_or_damaged_is_named_and_nothing_is_mixed() {
    let w = Workdir::new("shards-missing");
    w.wbc(&["synth", "--images", "6,5,5,5,5", "--name", "d"]).ok();
    for wrong in ["0/3", "4/3", "1", "a/b", "1/100000"] {
        assert!(w.wbc(&["ingest", "--shard", wrong]).exits(2).stderr.contains("such as 1/10"), "{wrong}");
    }
    let refused = w.wbc(&["ingest", "--merge", "3"]).exits(2).stderr;
    assert!(refused.contains("files: done by none of 3 shards") && refused.contains("--shard I/3"), "{refused}");
    let shard = |number: u32| w.wbc(&["ingest", "--shard", &format!("{number}/3")]).ok();
    let first = shard(1);
    assert!(first.stdout.contains("files: not done by 2 of 3 shards (2, 3)"), "{}", first.stdout);
    assert!(first.stderr.contains("shard 1/3: files of "), "{}", first.stderr);
    let json = w.wbc(&["ingest", "--shard", "1/3", "--json"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["shards"]["missing"], serde_json::json!([2, 3]), "{json}");
    let refused = w.wbc(&["ingest", "--merge", "3"]).exits(2).stderr;
    assert!(refused.contains("not done by 2 of 3 shards (2, 3)"), "{refused}");
    shard(2);
    shard(3);
    // A changed image: its shard has to be done again.
    let images = w.path("data/raw/d/neutrophil");
    let image = std::fs::read_dir(&images).unwrap().flatten().map(|entry| entry.path()).min().unwrap();
    let other = std::fs::read_dir(&images).unwrap().flatten().map(|entry| entry.path()).max().unwrap();
    std::fs::copy(other, &image).unwrap();
    let refused = w.wbc(&["ingest", "--merge", "3"]).exits(2).stderr;
    assert!(refused.contains("files: not done by 1 of 3 shards"), "{refused}");
    // So does a damaged table.
    (1..=3).for_each(|number| drop(shard(number)));
    let table = w.path("data/d/shards/ingest/files-2-of-3.parquet");
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    let refused = w.wbc(&["ingest", "--merge", "3"]).exits(2).stderr;
    assert!(refused.contains("files: not done by 1 of 3 shards (2)"), "{refused}");
    assert!(w.wbc(&["verify"]).exits(1).stdout.contains("files-2-of-3.parquet"));
    // A shard that is killed has done nothing, and the next one does it.
    let mut child =
        w.command(&["ingest", "--shard", "2/3"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    (0..2).for_each(|_| (1..=3).for_each(|number| drop(shard(number))));
    merge(&w, &["ingest"], 3);
    // An image that changes after ingest is an error of the shard that checks it.
    std::fs::copy(std::fs::read_dir(&images).unwrap().flatten().map(|e| e.path()).nth(2).unwrap(), &image).unwrap();
    let check: Vec<_> = (1..=3).map(|number| w.wbc(&["check", "--shard", &format!("{number}/3")])).collect();
    let failed: Vec<_> = check.iter().filter(|run| run.status == 2).collect();
    assert!(failed.len() == 1 && failed[0].stderr.contains("has changed since it was ingested"), "{check:?}");
}
