//! `wbc train --all` and `--init`: one model on all images, and trainings that start from other weights.

use crate::common::{Run, Workdir, predictions, shared};
use wbc::nn::device::Device;
use wbc::run::{ModelId, Record, checkpoint};

const RESNET: &str = r#"
name = "tiny-resnet"
[split]
folds = 3
[preprocess]
size_px = 32
[train]
model = "resnet50"
epochs = 2
batch = 8
learning_rate = 0.01
dropout = 0.0
[train.optimiser]
kind = "sgd"
"#;

/// Two data sets of different cells: `a`, and `b` with another seed.
fn synthetic(name: &str) -> Workdir {
    let w = Workdir::new(name);
    w.tiny(3, 2, "", "");
    w.write("resnet.toml", RESNET);
    for (data, seed) in [("a", 1), ("b", 2)] {
        w.split(data, "8,8,8,8,8", seed);
    }
    w
}

fn train(w: &Workdir, arguments: &[&str]) -> Run {
    w.wbc(&[&["train", "--pipeline", "tiny.toml"], arguments].concat())
}

#[test]
fn a_run_starts_from_a_model_of_all_images() {
    let w = synthetic("init");
    let refused = train(&w, &["--dataset", "b", "--init", "a-wnet-tiny"]).exits(2).stderr;
    assert!(refused.contains("a-wnet-tiny"), "{refused}");
    let all = train(&w, &["--dataset", "a", "--all"]).ok();
    assert!(
        all.stdout.contains("trained: the model of all images") && !all.stdout.contains("balanced"),
        "{}",
        all.stdout
    );
    assert!(train(&w, &["--dataset", "a", "--all"]).ok().stdout.contains("up to date: the model of all images"));
    let whole = w.path("data/runs/a-wnet-tiny/all/checkpoint.safetensors");
    let meta = checkpoint::meta(&whole).unwrap().unwrap();
    assert!(meta.finished && meta.id == ModelId::All && meta.epochs[0].images == 40, "{meta:?}");
    // The run has no model of a fold yet.
    let refused = train(&w, &["--dataset", "b", "--init", "a-wnet-tiny:1"]).exits(2).stderr;
    assert!(refused.contains("--fold 1"), "{refused}");

    train(&w, &["--dataset", "b", "--init", "a-wnet-tiny"]).ok();
    let run = "b-wnet-tiny-from-a-wnet-tiny";
    let record = Record::read(&w.workspace(), run).unwrap();
    let init = record.init.unwrap();
    assert_eq!(
        (init.from.as_str(), init.model, init.dataset.as_deref()),
        ("a-wnet-tiny", Some(ModelId::All), Some("a"))
    );
    let table = w.wbc(&["report", "--table", "6", "--dataset", "b"]).ok().stdout;
    assert!(table.contains("a-wnet-tiny"), "{table}");
    // The same weights from a file give the same result; random ones another.
    train(&w, &["--dataset", "b", "--init", whole.to_str().unwrap(), "--run", "file"]).ok();
    train(&w, &["--dataset", "b", "--run", "fresh"]).ok();
    let of_run = |run: &str| {
        let path = w.path("data/runs").join(run).join("predictions.parquet");
        predictions(&path)
    };
    assert_eq!(of_run(run), of_run("file"));
    assert_ne!(of_run(run), of_run("fresh"));
    // A run of the same name with other weights is another experiment.
    let refused = train(&w, &["--dataset", "b", "--run", "fresh", "--init", "a-wnet-tiny"]).exits(2).stderr;
    assert!(refused.contains("other settings") || refused.contains("--restart"), "{refused}");
}

#[test]
fn weights_that_saw_a_test_image_are_refused() {
    let w = synthetic("leak");
    train(&w, &["--dataset", "a", "--all"]).ok();
    let refused = train(&w, &["--dataset", "a", "--run", "again", "--init", "a-wnet-tiny"]).exits(2).stderr;
    assert!(refused.contains("40 of them among the training images of a-wnet-tiny"), "{refused}");
    // One copied image suffices.
    let copied = walkdir::WalkDir::new(w.path("data/raw/a")).sort_by_file_name().into_iter().map(Result::unwrap);
    let copied = copied.filter(|e| e.file_type().is_file()).last().unwrap();
    let class = copied.path().parent().unwrap().file_name().unwrap();
    std::fs::copy(copied.path(), w.path("data/raw/b").join(class).join("copied.jpg")).unwrap();
    w.wbc(&["ingest", "--dataset", "b"]);
    w.wbc(&["split", "--stratified", "--dataset", "b", "--pipeline", "tiny.toml"]).ok();
    let refused = train(&w, &["--dataset", "b", "--init", "a-wnet-tiny"]).exits(2).stderr;
    assert!(refused.contains("1 of them among") && refused.contains("copied.jpg"), "{refused}");
}

/// A resumed fold of ResNet50, with its running means and momentum, ends with the same bytes.
#[test]
fn resnet50_is_trained_stopped_and_resumed_to_the_same_bytes() {
    let w = synthetic("resnet");
    let run = |name: &str, epochs: &str| {
        w.wbc(&[
            "train",
            "--pipeline",
            "resnet.toml",
            "--dataset",
            "a",
            "--fold",
            "1",
            "--run",
            name,
            "--epochs",
            epochs,
            "--threads",
            if name == "straight" { "1" } else { "2" },
        ])
    };
    let done = run("straight", "2").ok();
    assert!(done.stdout.contains("23544837 parameters"), "{}", done.stdout);
    let checkpoint = |name: &str| w.path("data/runs").join(name).join("fold-01/checkpoint.safetensors");
    // Killed as soon as there is a checkpoint.
    let mut child = w
        .command(&["train", "--pipeline", "resnet.toml", "--dataset", "a", "--fold", "1", "--run", "stopped"])
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if checkpoint("stopped").is_file() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    run("stopped", "2").ok();
    let bytes =
        |name: &str, file: &str| std::fs::read(w.path("data/runs").join(name).join("fold-01").join(file)).unwrap();
    for file in ["checkpoint.safetensors", "predictions.parquet"] {
        assert!(bytes("straight", file) == bytes("stopped", file), "{file} differs");
    }
    // Dropout and optimisers that a model does not have are refused by name.
    w.write("wrong.toml", RESNET.replace("dropout = 0.0", "dropout = 0.4"));
    let refused = w.wbc(&["train", "--pipeline", "wrong.toml", "--dataset", "a", "--run", "x"]).exits(2).stderr;
    assert!(refused.contains("train.dropout"), "{refused}");
    let tiny = std::fs::read_to_string(w.path("tiny.toml")).unwrap();
    w.write("wrong.toml", tiny + "[train.optimiser]\nkind = \"sgd\"\n");
    let refused = w.wbc(&["train", "--pipeline", "wrong.toml", "--dataset", "a", "--run", "x"]).exits(2).stderr;
    assert!(refused.contains("train.optimiser"), "{refused}");
}

#[test]
fn a_hundred_steps_of_resnet50_on_real_images_drive_the_loss_down() {
    let Some(pbc) = shared("pbc") else { return };
    let w = Workdir::new("real");
    for class in ["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"] {
        let mut images: Vec<_> = std::fs::read_dir(pbc.join(class)).unwrap().map(|e| e.unwrap().path()).collect();
        images.sort();
        for image in &images[..20] {
            let name = format!("data/raw/pbc/{class}/{}", image.file_name().unwrap().to_str().unwrap());
            w.write(name, std::fs::read(image).unwrap());
        }
    }
    // 100 images in batches of 10: 10 steps per epoch.
    let recipe = RESNET.replace("size_px = 32", "size_px = 64").replace("epochs = 2", "epochs = 10");
    w.write("resnet.toml", recipe.replace("batch = 8", "batch = 10\nzero_init_residual = true"));
    w.wbc(&["ingest"]);
    w.wbc(&["split", "--stratified"]).ok();
    w.wbc(&["train", "--pipeline", "resnet.toml", "--all", "--run", "r"]).ok();
    let meta = checkpoint::meta(&w.path("data/runs/r/all/checkpoint.safetensors")).unwrap().unwrap();
    let losses: Vec<f64> = meta.epochs.iter().map(|e| e.train_loss).collect();
    assert_eq!(meta.epochs.last().unwrap().steps, 100);
    assert!(losses[9] < 0.4 * losses[0] && losses[9] < 0.5, "{losses:?}");
}

/// A safetensors file as PyTorch writes it: other axes, no biases, another number of classes.
#[test]
fn resnet50_starts_from_pytorchs_weights() {
    use safetensors::tensor::{Dtype, TensorView};
    let w = synthetic("pytorch");
    let resnet50 = wbc::models::find("resnet50").unwrap();
    let spec = wbc::models::Spec { size_px: 32, seed: 9, ..resnet50.default_spec() };
    let model = resnet50.build(&spec, Device::Cpu).unwrap();
    let mut arrays: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for array in model.state(false) {
        let bytes = (array.bytes)();
        match (array.name.as_str(), array.shape.as_slice()) {
            (name, _) if name.ends_with(".bias") && (name.contains("conv") || name.contains("downsample.0")) => {}
            ("fc.weight", _) => arrays.push((array.name, vec![1000, 2048], vec![0; 1000 * 2048 * 4])),
            ("fc.bias", _) => arrays.push((array.name, vec![1000], vec![0; 4000])),
            (_, &[kh, kw, c_in, c_out]) => {
                let mut turned = vec![0u8; bytes.len()];
                for (at, value) in bytes.chunks_exact(4).enumerate() {
                    let (o, i, tap) = (at % c_out, at / c_out % c_in, at / c_out / c_in);
                    turned[((o * c_in + i) * kh * kw + tap) * 4..][..4].copy_from_slice(value);
                }
                arrays.push((array.name, vec![c_out, c_in, kh, kw], turned));
            }
            _ => arrays.push((array.name, array.shape.clone(), bytes)),
        }
    }
    let views = arrays.iter().map(|(n, s, b)| (n.clone(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    let path = w.path("timm.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let init = ["train", "--pipeline", "resnet.toml", "--dataset", "a", "--fold", "0", "--init", "timm.safetensors"];
    let log = w.wbc(&[&init[..], &["--learning-rate", "1e-30", "--epochs", "1", "--run", "timm"]].concat()).ok().stderr;
    for text in ["1000 classes, not 5", "no biases", "training images are not known"] {
        assert!(log.contains(text), "{text} not in {log}");
    }
    // With a learning rate near 0 the weights stay those of the file.
    let bytes = std::fs::read(w.path("data/runs/timm/fold-00/checkpoint.safetensors")).unwrap();
    let found = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for array in model.state(false) {
        if array.name.contains("layer2.0.conv2.weight") || array.name == "layer1.0.downsample.0.weight" {
            assert!(found.tensor(&array.name).unwrap().data() == (array.bytes)(), "{}", array.name);
        }
    }
    // A broken file is named.
    std::fs::write(w.path("broken.safetensors"), b"no tensors").unwrap();
    let broken = w.wbc(&["train", "--pipeline", "resnet.toml", "--dataset", "a", "--init", "broken.safetensors"]);
    assert!(broken.exits(2).stderr.contains("broken.safetensors"));
}
