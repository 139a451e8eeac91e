//! `wbc export`: other programs load its files and return the same probabilities.

use crate::common::{Workdir, predictions, python};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use wbc::batch::Tensors;
use wbc::preprocess::Settings;

const RECIPE: &str = r#"
name = "tiny"
[split]
folds = 2
[preprocess]
size_px = 32
[train]
model = "MODEL"
epochs = 2
batch = 16
learning_rate = 1e-3
dropout = 0.0
normalise = "NORMALISE"
[train.optimiser]
kind = "OPTIMISER"
"#;

fn recipe(model: &str) -> String {
    let (normalise, optimiser) = if model == "wnet" { ("image", "adam") } else { ("channel", "sgd") };
    RECIPE.replace("MODEL", model).replace("NORMALISE", normalise).replace("OPTIMISER", optimiser)
}

/// 100 cells of the five classes, real ones where they are available, and a run of each network.
fn trained(name: &str) -> Workdir {
    let w = Workdir::new(name);
    w.cells("d", 20);
    w.wbc(&["ingest"]);
    for model in ["wnet", "resnet50"] {
        w.write("tiny.toml", recipe(model));
        w.wbc(&["split", "--stratified", "--pipeline", "tiny.toml"]).ok();
        w.wbc(&["train", "--pipeline", "tiny.toml", "--run", model]).ok();
    }
    w
}

/// Writes the tensors of fold 0's test images to `tensors.bin`; returns the probabilities of `run`.
fn tested(w: &Workdir, run: &str) -> Vec<[f32; 5]> {
    let rows = predictions(&w.workspace().run(run).join("fold-00/predictions.parquet"));
    let tensors = Tensors::load(&w.workspace(), "d", &Settings { size_px: 32, ..Settings::default() }).unwrap();
    let bytes: Vec<u8> = rows.iter().flat_map(|r| tensors.pixels(tensors.row(&r.image_id).unwrap()).to_vec()).collect();
    w.write("tensors.bin", bytes);
    assert_eq!(rows.len(), 50);
    rows.iter().map(|r| r.probabilities[..].try_into().unwrap()).collect()
}

/// Runs `code` in `python` beside the exported files, and compares the `found` probabilities with `expected`.
fn assert_probabilities(w: &Workdir, python: &Path, folder: &str, code: &str, expected: &[[f32; 5]]) {
    let code = format!(
        "import sys; sys.path.insert(0, '{folder}')\nimport numpy as np\n\
         images = np.fromfile('tensors.bin', np.uint8).reshape(-1, 32, 32, 3)\n{code}\n\
         for p in found.ravel(): print(repr(float(p)))\n"
    );
    let output = Command::new(python).args(["-c", &code]).current_dir(w.path(".")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<f32> = String::from_utf8_lossy(&output.stdout).lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(found.len(), expected.len() * 5);
    let apart = found.iter().zip(expected.as_flattened()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(apart < 1e-4, "{folder}: {apart} apart");
}

#[test]
fn onnx_runtime_and_pytorch_return_the_same_probabilities() {
    let w = trained("export");
    let onnx = python("onnx", &["onnxruntime", "numpy", "PIL"], &["onnxruntime", "numpy", "pillow"]);
    // PyTorch is too large to install for a test: it is used where WBC_TEST_TORCH or python3 has it.
    let torch = std::env::var_os("WBC_TEST_TORCH").map(PathBuf::from).unwrap_or("python3".into());
    let import = "import torch, torchvision, safetensors, numpy, PIL";
    let has_torch = Command::new(&torch).args(["-c", import]).output().is_ok_and(|o| o.status.success());
    if !has_torch {
        eprintln!("skipped: no PyTorch in {} (WBC_TEST_TORCH)", torch.display());
    }
    for run in ["wnet", "resnet50"] {
        let expected = tested(&w, run);
        let output = w.wbc(&["export", run, "--to", "onnx", "--output", "onnx"]).ok().stdout;
        assert!(output.contains("fold-00.onnx") && output.contains("fold-01.onnx"), "{output}");
        w.wbc(&["export", &format!("{run}:0"), "--to", "safetensors", "--output", "pt"]).ok();
        let card = std::fs::read_to_string(w.path("onnx/README.md")).unwrap();
        for text in ["neutrophil, eosinophil, basophil", "For research use", "all folds but 1", "%"] {
            assert!(card.contains(text), "{text} not in {card}");
        }
        if let Some(python) = &onnx {
            let code = "import onnx_example as e\nsession, config = e.load('onnx/fold-00.onnx')\n\
                        found = e.probabilities(session, images)\nassert config['fold'] == 0";
            assert_probabilities(&w, python, "onnx", code, &expected);
        }
        if has_torch {
            let code = "import pytorch_example as e\nmodel, config = e.load('pt/fold-00.safetensors')\n\
                        found = e.probabilities(model, config, images)";
            assert_probabilities(&w, &torch, "pt", code, &expected);
        }
        // Files for PyTorch can be trained further: with a learning rate near 0 the weights stay the same.
        w.write("tiny.toml", recipe(run));
        let from = ["train", "--pipeline", "tiny.toml", "--init", "pt/fold-00.safetensors", "--fold", "0"];
        w.wbc(&[&from[..], &["--learning-rate", "1e-30", "--epochs", "1", "--run", "again"]].concat()).ok();
        let weights = |run: &str| {
            let bytes = std::fs::read(w.workspace().run(run).join("fold-00/checkpoint.safetensors")).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let weights = tensors.tensors().into_iter().filter(|(name, _)| name.ends_with(".weight"));
            weights.map(|(name, view)| (name, view.data().to_vec())).collect::<BTreeMap<_, _>>()
        };
        assert!(weights(run) == weights("again"), "{run}");
        std::fs::remove_dir_all(w.workspace().run("again")).unwrap();
    }
    for (models, message) in [("nobody", "nobody"), ("wnet:7", "0 to 1, a fold of wnet"), ("wnet:x", "RUN:FOLD")] {
        let refused = w.wbc(&["export", models, "--to", "onnx"]).exits(2).stderr;
        assert!(refused.contains(message), "{refused}");
    }
    assert!(!w.path("exports").exists(), "a refused export writes nothing");
}
