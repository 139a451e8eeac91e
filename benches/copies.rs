//! How many copies are found, how many pairs are wrong, and how long it takes: on copies of real images made with known
//! transforms (drawn truth), and on more and more images.
//!
//!     cargo bench --bench copies -- [--images N] [--seed N] [--grow N] [FOLDER ...]
//!
//! Without folders it uses `../shared/data`, where that exists.

use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wbc::context::Context;
use wbc::copies::transform::Transform;
use wbc::copies::{self, Features, Groups};
use wbc::decode::{self, Grey, Rgb};
use wbc::seed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FOLDERS: [&str; 5] = ["pbc", "jtsc/images", "lisc/Main Dataset", "lisc-masks/Main Dataset", "bccd-voc"];

fn main() {
    let (mut images, mut seed, mut grow, mut folders) = (400, 0, 0, Vec::new());
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{arg} takes a number"));
        match arg.as_str() {
            "--images" => images = number(),
            "--seed" => seed = number() as u64,
            "--grow" => grow = number(),
            folder => folders.push(PathBuf::from(folder)),
        }
    }
    if folders.is_empty() {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
        folders = FOLDERS.iter().map(|folder| shared.join(folder)).filter(|folder| folder.is_dir()).collect();
    }
    let files = sample(&folders, images);
    if files.is_empty() {
        println!("no images: name folders with images");
        return;
    }
    drawn_truth(&files, seed);
    if grow > 0 {
        growth(&files, grow);
    }
}

/// As many images of each folder as there are, at most `n` in all, evenly spread.
fn sample(folders: &[PathBuf], n: usize) -> Vec<PathBuf> {
    let mut of_folder: Vec<Vec<PathBuf>> = folders.iter().map(|folder| list(folder)).collect();
    of_folder.sort_by_key(Vec::len);
    let (mut chosen, mut left) = (Vec::new(), of_folder.len());
    for files in of_folder {
        let take = files.len().min((n - chosen.len()) / left);
        chosen.extend((0..take).map(|i| files[i * files.len() / take].clone()));
        left -= 1;
    }
    chosen
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
    let files = files.filter(|e| e.file_type().is_file() && decode::has_image_extension(e.path()));
    files.filter(|e| !e.file_name().to_string_lossy().starts_with('.')).map(|e| e.into_path()).collect()
}

fn load(path: &Path) -> Rgb {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    decode::rgb(&bytes, path).unwrap_or_else(|e| panic!("{e}"))
}

/// Every image with one copy of each kind and four of several kinds at once, searched as one data set.
fn drawn_truth(files: &[PathBuf], seed: u64) {
    const SEVERAL: usize = 4;
    let kinds = Transform::ALL.len() + SEVERAL;
    let start = Instant::now();
    let features: Vec<Features> = files
        .par_iter()
        .enumerate()
        .flat_map_iter(|(i, file)| {
            let image = load(file);
            let copies: Vec<Features> = (0..=kinds)
                .map(|kind| {
                    let mut rng = seed::rng(seed, "copies", 0, kind as u64, i as u64);
                    Features::new(&Grey::from(match kind.checked_sub(1).map(|k| Transform::ALL.get(k)) {
                        None => image.clone(),
                        Some(Some(transform)) => transform.copy(&image, &mut rng),
                        Some(None) => Transform::several(&image, &mut rng),
                    }))
                })
                .collect();
            copies
        })
        .collect();
    println!("{} images and {} copies of each, made in {:.0?}", files.len(), kinds, start.elapsed());
    let start = Instant::now();
    let of: Vec<Option<&Features>> = features.iter().map(Some).collect();
    let pairs = copies::find(&of, copies::CORRELATION, &Context::silent(0)).expect("not interrupted");
    println!("{} pairs found in {:.1?}", pairs.len(), start.elapsed());

    let original = |i: usize| i / (kinds + 1);
    let wrong: Vec<_> = pairs.iter().filter(|pair| original(pair.a) != original(pair.b)).collect();
    println!("pairs of different images (to be inspected: images of a set can be copies): {}", wrong.len());
    for pair in wrong {
        let name = |i: usize| files[original(i)].display();
        println!("  {} {} correlation {:.3}", name(pair.a), name(pair.b), pair.correlation);
    }
    let mut groups = Groups::new(features.len());
    pairs.iter().for_each(|pair| groups.join(pair.a, pair.b));
    let mut all = Vec::new();
    for kind in 1..=kinds {
        let found = (0..files.len()).filter(|i| groups.joined(i * (kinds + 1), i * (kinds + 1) + kind)).count();
        let name = Transform::ALL.get(kind - 1).map_or("Several".into(), |kind| format!("{kind:?}"));
        println!("{name:12} {found} of {} found ({:.4})", files.len(), found as f64 / files.len() as f64);
        all.push(found);
    }
    let total: usize = all.iter().sum();
    println!("all          {:.4}", total as f64 / (files.len() * kinds) as f64);
}

/// Time and memory for 1/10, 1/3 and all of `n` images: crops of the files, which share less than a fifth.
fn growth(files: &[PathBuf], n: usize) {
    let start = Instant::now();
    let per_file = n.div_ceil(files.len());
    let features: Vec<Features> = files
        .par_iter()
        .enumerate()
        .flat_map_iter(|(i, file)| {
            let image = load(file);
            let parts: Vec<Features> = (0..per_file)
                .map(|part| {
                    let mut rng = seed::rng(1, "copies", 0, part as u64, i as u64);
                    Features::new(&Grey::from(Transform::several(&image, &mut rng)))
                })
                .collect();
            parts
        })
        .collect();
    println!("{} drawn images in {:.0?}", features.len(), start.elapsed());
    for images in [n / 10, n / 3, n] {
        let of: Vec<Option<&Features>> = features[..images].iter().map(Some).collect();
        let start = Instant::now();
        let pairs = copies::find(&of, copies::CORRELATION, &Context::silent(0)).expect("not interrupted");
        println!("{images} images: {} pairs in {:.1?}", pairs.len(), start.elapsed());
    }
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(peak) = memory.lines().find(|line| line.starts_with("VmHWM")) {
        println!("largest memory: {}", peak["VmHWM:".len()..].trim());
    }
}
