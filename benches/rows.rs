//! How time grows with the number of images, without reading any: manifest, split, evaluate, Table 3, comparison.

use divan::counter::ItemsCount;
use rand::Rng;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, OnceLock};
use wbc::class::Classes;
use wbc::context::Context;
use wbc::report::{self, Request};
use wbc::rows::{ManifestRow, PredictionRow};
use wbc::schema::{CHECKS, MANIFEST, PREDICTIONS};
use wbc::table::{self, Provenance};
use wbc::workspace::Workspace;
use wbc::{compare, evaluate, run, seed, split};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    wbc::memory::keep();
    divan::main();
}

fn context() -> Context<'static> {
    Context::silent(0)
}

/// Numbers of images.
const COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn provenance(stage: &str) -> Provenance {
    let settings = serde_json::json!({"classes": Classes::wbc5()});
    Provenance { stage: stage.into(), settings, seed: None, inputs: BTreeMap::new() }
}

/// Classes have the same shares as in CUK; every fiftieth image is a copy of the one before.
fn manifest_rows(count: usize) -> Vec<ManifestRow> {
    let mut rng = seed::rng(0, "bench", 0, 0, count as u64);
    let shares = [2006, 1310, 377, 1676, 1193];
    let mut rows: Vec<ManifestRow> = Vec::with_capacity(count);
    for i in 0..count {
        let mut at = rng.next_u64() % shares.iter().sum::<u64>();
        let class = Classes::wbc5().iter().zip(shares).find(|(_, share)| {
            let chosen = at < *share;
            at = at.saturating_sub(*share);
            chosen
        });
        let image_id = format!("synthetic/{i:08}.jpg");
        let mut row = ManifestRow {
            content_hash: format!("{:064x}", u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())),
            path: format!("{i:08}.jpg"),
            image_id,
            dataset: "synthetic".into(),
            class: class.map(|(class, _)| class),
            layout: "class_folders".into(),
            format: "jpeg".into(),
            width_px: 360,
            height_px: 361,
            file_bytes: 17_000,
            ..Default::default()
        };
        if i % 50 == 49 {
            let before: &ManifestRow = &rows[i - 1];
            (row.content_hash, row.class) = (before.content_hash.clone(), before.class);
        }
        rows.push(row);
    }
    rows
}

fn predictions(rows: &[ManifestRow], run: u64) -> Vec<PredictionRow> {
    let mut rng = seed::rng(0, "bench", run, 0, rows.len() as u64);
    let mut prediction = |(i, row): (usize, &ManifestRow)| {
        let truth = row.class.expect("every row has a class");
        let mut p: [f32; 5] = std::array::from_fn(|_| rng.next_u32() as f32 / u32::MAX as f32);
        p[Classes::wbc5().index(truth).expect("one of the five")] += 2.0;
        let sum: f32 = p.iter().sum();
        PredictionRow::new(row.image_id.clone(), (i % 10) as u32, truth, p.map(|p| p / sum))
    };
    rows.iter().enumerate().map(&mut prediction).collect()
}

/// A workspace with a manifest, its split, and the predictions of two runs; written once for each count.
fn workspace(count: usize) -> Workspace {
    static WORKSPACES: OnceLock<Mutex<HashMap<usize, tempfile::TempDir>>> = OnceLock::new();
    let mut dirs = WORKSPACES.get_or_init(Mutex::default).lock().unwrap();
    let dir = dirs.entry(count).or_insert_with(|| {
        let dir = tempfile::tempdir().unwrap();
        let ws = Workspace::new(dir.path());
        let rows = manifest_rows(count);
        table::write_rows(&ws.manifest("synthetic"), &MANIFEST, &provenance("ingest"), &rows).unwrap();
        let mut checks = provenance("check");
        checks.inputs.insert("manifest".into(), table::file_hash(&ws.manifest("synthetic")).unwrap());
        table::write_rows(&ws.checks("synthetic"), &CHECKS, &checks, &wbc::dataset::unchecked(&rows)).unwrap();
        split::run(&ws, "synthetic", &split::Settings::default(), &context()).unwrap();
        let record = run::Record {
            version: run::Record::VERSION,
            dataset: "synthetic".into(),
            classes: Classes::wbc5(),
            model: "wnet".into(),
            pipeline: "quick".into(),
            seed: 0,
            folds: 10,
            preprocess: Some(Default::default()),
            images: None,
            features: None,
            recipe: run::Recipe::default(),
            inputs: BTreeMap::from([("splits".into(), "synthetic".into())]),
            init: None,
            own_split: None,
        };
        for (i, run) in ["run", "other"].into_iter().enumerate() {
            let path = ws.run(run).join("predictions.parquet");
            let predictions = predictions(&rows, 1 + i as u64);
            table::write_class_rows(&path, &PREDICTIONS, &record.classes, &provenance("train"), &predictions).unwrap();
            std::fs::write(ws.run(run).join("run.json"), serde_json::to_string(&record).unwrap()).unwrap();
        }
        evaluate::run(&ws, "run").unwrap();
        dir
    });
    Workspace::new(dir.path())
}

#[divan::bench(args = COUNTS, sample_count = 3, sample_size = 1)]
fn manifest_write_and_read(bencher: divan::Bencher, rows: usize) {
    let ws = workspace(rows);
    let (all, _) = table::read_rows::<ManifestRow>(&ws.manifest("synthetic"), &MANIFEST).unwrap();
    let path = ws.manifest("again");
    bencher.counter(ItemsCount::new(rows)).bench(|| {
        table::write_rows(&path, &MANIFEST, &provenance("ingest"), &all).unwrap();
        table::read_rows::<ManifestRow>(&path, &MANIFEST).unwrap().0.len()
    });
}

#[divan::bench(args = COUNTS, sample_count = 3, sample_size = 1)]
fn split_stratified(bencher: divan::Bencher, rows: usize) {
    let ws = workspace(rows);
    bencher
        .counter(ItemsCount::new(rows))
        .bench(|| split::run(&ws, "synthetic", &split::Settings::default(), &context()).unwrap());
}

#[divan::bench(args = COUNTS, sample_count = 3, sample_size = 1)]
fn evaluate_run(bencher: divan::Bencher, rows: usize) {
    let ws = workspace(rows);
    bencher.counter(ItemsCount::new(rows)).bench(|| evaluate::run(&ws, "run").unwrap());
}

#[divan::bench(args = COUNTS, sample_count = 3, sample_size = 1)]
fn report_table_3(bencher: divan::Bencher, rows: usize) {
    let ws = workspace(rows);
    let request = Request { dataset: None, run: Some("run".into()), pipeline: "quick".into(), ..Default::default() };
    let table = report::find(3).unwrap();
    bencher.counter(ItemsCount::new(rows)).bench(|| table.build(&ws, &request).unwrap());
}

#[divan::bench(args = COUNTS, sample_count = 3, sample_size = 1)]
fn compare_runs(bencher: divan::Bencher, rows: usize) {
    let ws = workspace(rows);
    bencher.counter(ItemsCount::new(rows)).bench(|| compare::run(&ws, "run", "other", &context()).unwrap());
}
